"""Films and masks as scanners, phones, archives and annotation tools write them: read right, or refused by name."""

import io

import numpy as np
import pydicom
import pytest
import torch
from PIL import Image, ImageOps
from pydicom.uid import JPEG2000Lossless, RLELossless

from data_scripts.films.images import open_image
from data_scripts.films.masks import decode_mask
from data_scripts.loaders import folder
from data_scripts.reading.views import normalise_view, view_of_header
from data_scripts.schema import DataError, Mask, Record, Skipped
from modeling_chexficient import CheXficientImageProcessor, check_film, overlay_heat_map, to_eight_bit
from modeling_chexficient.film_loading_chexficient import load_film
from modeling_chexficient.image_processing_chexficient_files import FilmFileError, read_dicom
from tests.dicom_files import write_dicom

Y, X = np.mgrid[:96, :80]
#: 0..1, different in every direction.
FILM = (X + 1.7 * Y + 20 * np.sin(X / 9)) / 260
FILM = np.clip((FILM - FILM.min()) / (FILM.max() - FILM.min()), 0, 1)
EIGHT = (FILM * 255).round().astype(np.uint8)
TWELVE = (FILM * 4095).round().astype(np.uint16)
BITS = {"BitsStored": 12, "HighBit": 11}


def alike(image, expected=FILM) -> float:
    return float(np.corrcoef(np.asarray(image, float).ravel(), np.asarray(expected, float).ravel())[0, 1])


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("value", [1, 2, 3, 4, 5, 6, 7, 8])
def test_films_come_upright_as_datasets_decodes_them(tmp_path, suffix, value):
    path = tmp_path / f"a.{suffix}"
    tags = Image.Exif()
    tags[0x0112] = value
    Image.fromarray(EIGHT).save(path, exif=tags)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(path.read_bytes()))).convert("L")
    film = open_image(path).convert("L")
    assert film.size == expected.size == ((96, 80) if value > 4 else (80, 96))
    assert np.array_equal(film, expected)
    # As Pillow opened it, by whoever passes it on; once more changes nothing.
    opened = Image.open(io.BytesIO(path.read_bytes()))
    assert np.array_equal(to_eight_bit(opened).convert("L"), expected)
    assert np.array_equal(to_eight_bit(to_eight_bit(opened)).convert("L"), expected)
    assert check_film(Image.open(io.BytesIO(path.read_bytes()))) == check_film(expected)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate"])
@pytest.mark.parametrize("bits", [8, 12, 16, "float"])
def test_white_is_zero(tmp_path, compression, bits):
    kind = np.float32 if bits == "float" else np.uint8 if bits == 8 else np.uint16
    pixels = (FILM if bits == "float" else (FILM * (2**bits - 1)).round()).astype(kind)
    stored = pixels if bits == 8 else pixels.max() - pixels
    Image.fromarray(stored).save(tmp_path / "a.tif", tiffinfo={262: 0}, compression=compression)
    assert alike(open_image(tmp_path / "a.tif")) > 0.999
    assert alike(to_eight_bit(Image.open(tmp_path / "a.tif"))) > 0.999
    assert alike(load_film(Image.open(tmp_path / "a.tif"))) > 0.999


def test_a_film_that_somebody_opened_is_seen_as_its_file_is(tmp_path):
    """The processor, heat maps and overlays take the picture as its own file would be taken."""
    sideways = Image.Exif()
    sideways[0x0112] = 6
    Image.fromarray(EIGHT).save(tmp_path / "a.jpg", exif=sideways)
    processor = CheXficientImageProcessor(56)
    by_path, opened = (
        processor(film, return_tensors="np").pixel_values
        for film in (tmp_path / "a.jpg", Image.open(tmp_path / "a.jpg"))
    )
    assert np.array_equal(by_path, opened)
    upright = open_image(tmp_path / "a.jpg")
    (shown,) = processor.post_process_heat_maps(torch.rand(1, 1, 7, 7), [upright.size[::-1]])
    overlay = overlay_heat_map(Image.open(tmp_path / "a.jpg"), shown[0])
    assert overlay.size == upright.size == EIGHT.shape


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("syntax", [None, RLELossless])
def test_bits_beside_those_stored_do_not_show(tmp_path, signed, syntax):
    right = np.asarray(read_dicom(write_dicom(tmp_path / "plain.dcm", TWELVE, **BITS)))
    for name, high in (("low", 11), ("middle", 13), ("high", 15)):
        stored = TWELVE ^ (2048 if signed else 0)
        stored = (stored << (high - 11)).astype(np.uint16)
        if high < 15:
            stored[10:20, 10:40] |= 0x8000
        path = write_dicom(
            tmp_path / f"{name}.dcm", stored, PixelRepresentation=int(signed), BitsStored=12, HighBit=high
        )
        if syntax:
            dataset = pydicom.dcmread(path)
            dataset.compress(syntax)
            dataset.save_as(path)
        assert np.array_equal(read_dicom(path), right), name


def test_bits_beside_those_stored_in_jpeg_2000(tmp_path):
    stored = TWELVE.copy()
    stored[10:20, 10:40] |= 0x1000
    data = io.BytesIO()
    Image.fromarray(stored).save(data, "JPEG2000", irreversible=False, no_jp2=True)
    dataset = pydicom.dcmread(write_dicom(tmp_path / "a.dcm", TWELVE, **BITS))
    right = np.asarray(read_dicom(tmp_path / "a.dcm"))
    dataset.PixelData = pydicom.encaps.encapsulate([data.getvalue()])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.save_as(tmp_path / "a.dcm")
    assert np.array_equal(read_dicom(tmp_path / "a.dcm"), right)


def test_a_high_bit_that_is_a_slip_changes_nothing(tmp_path):
    right = np.asarray(read_dicom(write_dicom(tmp_path / "plain.dcm", TWELVE, **BITS)))
    assert np.array_equal(read_dicom(write_dicom(tmp_path / "a.dcm", TWELVE, BitsStored=12, HighBit=15)), right)


def test_windows_and_hot_pixels_do_not_hide_the_film(tmp_path):
    off = {"WindowCenter": 3174, "WindowWidth": 2426}
    bordered = (12000 + FILM * 40000).astype(np.uint16)
    bordered[:3] = bordered[-3:] = bordered[:, :3] = bordered[:, -3:] = 0
    faint = (FILM * 1000).astype(np.uint16)
    faint[4:7, 60:70] = 65535
    wide = {"WindowCenter": 32768, "WindowWidth": 65536}
    for stored, fields in (
        (bordered, off),
        (faint, wide),
        (faint, {}),
        ((65535 - faint), {"PhotometricInterpretation": "MONOCHROME1"}),
    ):
        film = np.asarray(read_dicom(write_dicom(tmp_path / "a.dcm", stored, **fields)))[10:-10, 10:-10]
        assert alike(film, FILM[10:-10, 10:-10]) > 0.99
        assert np.ptp(film) > 100


def test_metal_of_the_value_of_padding_stays_white(tmp_path):
    stored = np.minimum(TWELVE, 4000)
    stored[:, :9] = 4095
    stored[40:50, 40:50] = 4095
    film = np.asarray(read_dicom(write_dicom(tmp_path / "a.dcm", stored, PixelPaddingValue=4095, **BITS)))
    assert (film[:, :9] == 0).all()
    assert (film[40:50, 40:50] == 255).all()


def blank(kind: str, high: int) -> np.ndarray:
    pixels = np.full((200, 160), high if kind != "black" else 0, np.int64)
    if "border" in kind:
        pixels[:30] = pixels[:, :20] = 0
    if "letter" in kind:
        pixels[40:52, 40:60] = 0 if kind == "letter" else high // 2
    if "noise" in kind:
        pixels = pixels - np.random.default_rng(0).integers(0, 8, pixels.shape)
    return pixels


@pytest.mark.parametrize(
    "kind", ["white", "black", "letter", "border", "border letter", "noise", "border noise letter"]
)
@pytest.mark.parametrize("name", ["a.png", "deep.png", "a.jpg", "a.tif", "a.dcm"])
def test_blank_films_of_any_format(tmp_path, kind, name):
    deep = name in ("deep.png", "a.dcm")
    pixels = np.clip(blank(kind, 4000 if deep else 250), 0, None).astype(np.uint16 if deep else np.uint8)
    if name == "a.dcm":
        write_dicom(tmp_path / name, pixels, **BITS)
    else:
        Image.fromarray(pixels).save(tmp_path / name)
    with pytest.raises(DataError, match="grey value") as error:
        open_image(tmp_path / name)
    assert error.value.kind == "image blank"
    assert name in str(error.value)


def test_patient_orientation_and_oblong_pixels(tmp_path):
    right = np.asarray(read_dicom(write_dicom(tmp_path / "a.dcm", TWELVE, **BITS)))
    turned = {
        ("L", "F"): TWELVE,
        ("R", "F"): TWELVE[:, ::-1],
        ("L", "H"): TWELVE[::-1],
        ("R", "H"): TWELVE[::-1, ::-1],
        ("F", "L"): TWELVE.T,
        ("F", "R"): np.rot90(TWELVE),
        ("H", "L"): np.rot90(TWELVE, -1),
        ("A", "F"): TWELVE,
        ("P", "FL"): TWELVE,
        ("L", "P"): TWELVE,
    }
    for ends, stored in turned.items():
        path = write_dicom(tmp_path / "t.dcm", np.ascontiguousarray(stored), PatientOrientation=list(ends), **BITS)
        assert np.array_equal(read_dicom(path), right), ends
    for fields, stored in (
        ({"PixelAspectRatio": [2, 1]}, TWELVE[::2]),
        ({"ImagerPixelSpacing": [0.2, 0.4]}, TWELVE[:, ::2]),
        ({"PixelSpacing": [0.2, 0.4], "PatientOrientation": ["F", "L"]}, TWELVE[::2].T),
    ):
        film = read_dicom(write_dicom(tmp_path / "o.dcm", np.ascontiguousarray(stored), **fields, **BITS))
        assert film.size == (80, 96), fields
        assert alike(film) > 0.99
    with pytest.raises(FilmFileError, match=r"o\.dcm: pixels of 9 x 1"):
        read_dicom(write_dicom(tmp_path / "o.dcm", TWELVE, PixelAspectRatio=[9, 1], **BITS))


@pytest.mark.parametrize(
    ("header", "view"),
    [
        ({"ViewPosition": "CHEST PA"}, "PA"),
        ({"ViewPosition": "P.A."}, "PA"),
        ({"ViewPosition": "PA STEHEND"}, "PA"),
        ({"ViewPosition": "SWIMMERS", "SeriesDescription": "Chest PA"}, "OTHER"),
        ({"ViewCodeSequence": "R-10214 x"}, "PA"),
        ({"ViewCodeSequence": "399173006 left lateral"}, "LATERAL"),
        ({"ViewCodeSequence": "1-LOCAL antero-posterior"}, "AP"),
        ({"SeriesDescription": "Thorax PA"}, "PA"),
        ({"ProtocolName": "CHEST LAT"}, "LATERAL"),
        ({"SeriesDescription": "Chest PA and lateral"}, "UNKNOWN"),
        ({"SeriesDescription": "Lat. decub."}, "DECUBITUS"),
        ({}, "UNKNOWN"),
    ],
)
def test_views_of_headers(header, view):
    assert view_of_header(header) == view
    assert normalise_view("COSTAL") == "OTHER"


def test_raw_detector_data_and_burned_in_text_are_left_out_unless_asked_for(tmp_path):
    write_dicom(tmp_path / "good.dcm", TWELVE)
    write_dicom(tmp_path / "raw.dcm", TWELVE, PresentationIntentType="FOR PROCESSING")
    write_dicom(tmp_path / "rawclass.dcm", TWELVE, SOPClassUID="1.2.840.10008.5.1.4.1.1.1.1.1")
    write_dicom(tmp_path / "text.dcm", TWELVE, BurnedInAnnotation="YES")
    (tmp_path / "reports").mkdir()
    for name in ("good", "raw", "rawclass", "text"):
        (tmp_path / "reports" / f"{name}.txt").write_text("FINDINGS: Clear.")
    outcome = list(folder.read_records(tmp_path, folder.Options(reports="reports")))
    assert [one.image_path for one in outcome if isinstance(one, Record)] == ["good.dcm"]
    reasons = {one.key: one.reason for one in outcome if isinstance(one, Skipped)}
    assert "PresentationIntentType" in reasons["raw.dcm"]
    assert "SOPClassUID" in reasons["rawclass.dcm"]
    assert "BurnedInAnnotation" in reasons["text.dcm"]
    taken = folder.read_records(tmp_path, folder.Options(reports="reports", for_processing=True, burned_in=True))
    assert sum(isinstance(one, Record) for one in taken) == 4


LUNG = ((X - 30) / 20) ** 2 + ((Y - 50) / 30) ** 2 < 1
OTHER = ((X - 65) / 10) ** 2 + ((Y - 50) / 30) ** 2 < 1


def mask_files() -> dict[str, Image.Image]:
    white = Image.fromarray(np.where(LUNG, 255, 0).astype(np.uint8))
    jpeg = io.BytesIO()
    white.save(jpeg, "JPEG", quality=75)
    clear = np.dstack([np.full((*LUNG.shape, 3), 255), np.where(LUNG, 255, 0)]).astype(np.uint8)
    red = np.dstack([np.where(LUNG, 255, 0), 0 * X, 0 * X, np.full(LUNG.shape, 255)]).astype(np.uint8)
    return {
        "jpeg.png": Image.open(jpeg),
        "plain.jpg": white,
        "blurred.png": white.resize((40, 48), Image.Resampling.BILINEAR).resize((80, 96), Image.Resampling.BICUBIC),
        "clear.png": Image.fromarray(clear),
        "red.png": Image.fromarray(red),
        "deep.png": Image.fromarray(np.where(LUNG, 255, 0).astype(np.uint16)),
        "bits.png": white.convert("1"),
        "a.gif": white,
        "ones.bmp": Image.fromarray(LUNG.astype(np.uint8)),
    }


@pytest.mark.parametrize("name", mask_files())
def test_mask_files(tmp_path, name):
    mask_files()[name].save(tmp_path / name)
    found = np.asarray(decode_mask(Mask("file", name), tmp_path)) == 255
    assert 2 * (found & LUNG).sum() / (found.sum() + LUNG.sum()) > 0.97


def test_label_maps_need_named_values(tmp_path):
    for low, high in ((1, 2), (85, 170), (127, 255)):
        Image.fromarray(np.where(LUNG, low, np.where(OTHER, high, 0)).astype(np.uint8)).save(tmp_path / "m.png")
        with pytest.raises(DataError, match=rf"m\.png: a label map with the values \[{low}, {high}\].*--mask_values"):
            decode_mask(Mask("file", "m.png"), tmp_path)
        assert np.array_equal(np.asarray(decode_mask(Mask("file", "m.png", values=(low,)), tmp_path)) == 255, LUNG)
        both = np.asarray(decode_mask(Mask("file", "m.png", values=(low, high)), tmp_path)) == 255
        assert np.array_equal(both, LUNG | OTHER)
    colours = np.dstack([LUNG * 255, OTHER * 255, 0 * X]).astype(np.uint8)
    Image.fromarray(colours).save(tmp_path / "colours.png")
    with pytest.raises(DataError, match="several colours"):
        decode_mask(Mask("file", "colours.png"), tmp_path)
    frames = [Image.fromarray(np.where(area, 255, 0).astype(np.uint8)) for area in (LUNG, OTHER)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="2 pictures in one file"):
        decode_mask(Mask("file", "film.gif"), tmp_path)
    with pytest.raises(ValueError, match="is not like lung=1,2"):
        folder.Options(mask_columns=["lung"], mask_values=["lung"])


def test_gif_masks_are_no_films_of_an_unknown_kind(tmp_path):
    Image.fromarray(EIGHT).save(tmp_path / "f.png")
    Image.fromarray(np.where(LUNG, 255, 0).astype(np.uint8)).save(tmp_path / "f.gif")
    Image.fromarray(EIGHT).save(tmp_path / "other.gif")
    (tmp_path / "t.csv").write_text("image,report,lung\nf.png,Clear.,f.gif\n")
    options = folder.Options(table="t.csv", report_column="report", mask_columns=["lung"])
    outcome = list(folder.read_records(tmp_path, options))
    assert [one.key for one in outcome if isinstance(one, Skipped)] == ["other.gif"]
