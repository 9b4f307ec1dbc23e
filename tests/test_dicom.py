"""DICOM films: grey values as a viewer shows them, bad files named, nothing of the patient read."""

import sys
import zlib

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLSLossless, generate_uid

from data_scripts.films.dicom import TECHNICAL_FIELDS, read_header
from data_scripts.films.files import is_dicom
from data_scripts.films.images import open_image
from data_scripts.schema import DataError
from tests.dicom_files import ramp, write_dicom


def grey(path, frame=None) -> np.ndarray:
    image = open_image(path, frame)
    assert image.mode == "L"
    return np.asarray(image).astype(int)


def test_stored_values_become_the_full_range(tmp_path):
    for bits in (8, 10, 12, 16):
        pixels = ramp(bits)
        film = grey(write_dicom(tmp_path / "a.dcm", pixels, BitsStored=bits, HighBit=bits - 1))
        assert film.shape == (40, 64)
        assert np.abs(film[0] - np.linspace(0, 255, 64)).max() <= 1, bits


def test_monochrome1_is_inverted(tmp_path):
    film = grey(write_dicom(tmp_path / "a.dcm", ramp(12), BitsStored=12, PhotometricInterpretation="MONOCHROME1"))
    assert (film[0, 0], film[0, -1]) == (255, 0)


def test_a_window_cuts_both_ends_and_the_first_of_several_counts(tmp_path):
    fields = {"BitsStored": 12, "HighBit": 11, "WindowCenter": [2048, 100], "WindowWidth": [1024, 10]}
    film = grey(write_dicom(tmp_path / "a.dcm", ramp(12), **fields))[0]
    stored = ramp(12)[0].astype(int)
    assert (film[stored <= 1535] == 0).all()
    assert (film[stored >= 2561] == 255).all()
    middle = np.abs(stored - 2048).argmin()
    assert abs(film[middle] - 128) <= 10
    # A window that shows nothing, or is none, is not applied.
    for wrong in ({"WindowCenter": 60_000}, {"WindowWidth": 0}):
        film = grey(write_dicom(tmp_path / "b.dcm", ramp(12), **{**fields, "WindowCenter": 2048, **wrong}))[0]
        assert (film[0], film[-1]) == (0, 255)


def test_rescale_comes_before_the_window(tmp_path):
    rescale = {"RescaleSlope": 2, "RescaleIntercept": -1000}
    film = grey(write_dicom(tmp_path / "a.dcm", ramp(12), WindowCenter=3096, WindowWidth=4096, **rescale))[0]
    stored = ramp(12)[0].astype(int)
    shown = np.clip((2 * stored - 1000 - (3096 - 2048)) / 4096 * 255, 0, 255)
    assert np.abs(film - shown).max() <= 1


def test_lookup_tables(tmp_path):
    def table(values, first=0):
        lut = Dataset()
        lut.add_new("LUTDescriptor", "US", [len(values), first, 16])
        lut.add_new("LUTData", "OW", np.array(values, "<u2").tobytes())
        return lut

    inverse = table([255 - value for value in range(256)])
    film = grey(write_dicom(tmp_path / "a.dcm", ramp(8), VOILUTSequence=[inverse]))
    assert (film[0, 0], film[0, -1]) == (255, 0)
    modality = table([value * 16 for value in range(256)])
    modality.ModalityLUTType = "US"
    film = grey(
        write_dicom(tmp_path / "b.dcm", ramp(8), ModalityLUTSequence=[modality], WindowCenter=1024, WindowWidth=2048)
    )
    assert film[0, 33] == 255
    assert abs(film[0, 16] - 130) < 5


def test_padding_is_black_and_does_not_count(tmp_path):
    pixels = ramp(12) // 2 + 1000
    pixels[:10] = 4095
    film = grey(
        write_dicom(tmp_path / "a.dcm", pixels, PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=4095)
    )
    assert (film[:10] == 0).all()
    assert (film[20, 0], film[20, -1]) == (255, 0)


def test_colour_and_signed_films(tmp_path):
    signed = (ramp(8).astype(np.int16) - 128).view(np.uint16)
    film = grey(write_dicom(tmp_path / "a.dcm", signed, PixelRepresentation=1))
    assert (film[0, 0], film[0, -1]) == (0, 255)
    colour = np.stack([ramp(8), ramp(8) // 2, ramp(8) // 4], axis=2)
    path = write_dicom(
        tmp_path / "b.dcm",
        ramp(8),
        SamplesPerPixel=3,
        PlanarConfiguration=0,
        PhotometricInterpretation="RGB",
        PixelData=colour.tobytes(),
    )
    assert np.array_equal(np.asarray(open_image(path)), colour)


def test_frames_are_chosen_by_name(tmp_path):
    frames = np.stack([np.roll(ramp(8), shift, axis=1) for shift in (0, 10, 20, 30)])
    path = write_dicom(tmp_path / "a.dcm", frames)
    with pytest.raises(DataError, match=r"4 frames.*--multi_frame first or middle"):
        open_image(path)
    assert np.array_equal(grey(path, "first"), frames[0])
    assert np.array_equal(grey(path, "middle"), frames[2])


def test_files_without_suffix_or_preamble(tmp_path):
    expected = grey(write_dicom(tmp_path / "a.dcm", ramp(8)))
    assert np.array_equal(grey(write_dicom(tmp_path / "1.2.840.99", ramp(8))), expected)
    assert np.array_equal(grey(write_dicom(tmp_path / "bare.dcm", ramp(8), preamble=False)), expected)
    (tmp_path / "a.png").write_bytes(b"x" * 200)
    assert not is_dicom(tmp_path / "a.png")


def test_a_missing_high_bit_is_what_it_must_be(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", ramp(12), BitsStored=12, HighBit=None)
    assert grey(path)[0, -1] == 255


def bomb(path):
    write_dicom(path, ramp(8), syntax="1.2.840.10008.1.2.1.99")
    content = path.read_bytes()
    # The meta group stays: its length is the value of its first element.
    head = content[: 144 + int.from_bytes(content[140:144], "little")]
    compress = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    deflated = b"".join(compress.compress(bytes(1 << 24)) for _ in range(26)) + compress.flush()
    path.write_bytes(head + deflated)


BAD = {
    "without pixels": lambda path: write_dicom(path, None),
    "not a DICOM file": lambda path: path.write_text("I am a report. " * 30),
    r"lacks Rows": lambda path: write_dicom(path, ramp(8), Rows=None),
    "too small": lambda path: write_dicom(path, ramp(8, 8, 8)),
    "beyond the limit": lambda path: write_dicom(path, ramp(8), Rows=60_000, Columns=60_000),
    "damaged DICOM": lambda path: write_dicom(path, ramp(8), Rows=60),
    "one grey value": lambda path: write_dicom(path, np.zeros((40, 40), np.uint8)),
    "is empty": lambda path: path.write_bytes(b""),
    "decompression bomb": bomb,
}


@pytest.mark.parametrize("message", BAD)
def test_bad_files_are_named(tmp_path, message):
    path = tmp_path / "bad.dcm"
    BAD[message](path)
    with pytest.raises(DataError, match=rf"bad\.dcm.*{message}"):
        open_image(path)


def test_what_cannot_be_decompressed_names_the_extra(tmp_path):
    import pydicom

    if pydicom.pixels.get_decoder(JPEGLSLossless).is_available:
        pytest.skip("a decoder of JPEG-LS is installed")
    path = write_dicom(tmp_path / "a.dcm", ramp(8), syntax=JPEGLSLossless, PixelData=encapsulate([b"\xff\xd8\xff\xd9"]))
    with pytest.raises(DataError, match=r"a\.dcm.*JPEG-LS Lossless.*chexficient\[dicom-codecs\]"):
        open_image(path)
    unknown = generate_uid(entropy_srcs=["syntax"])
    path = write_dicom(tmp_path / "b.dcm", ramp(8), syntax=unknown, PixelData=encapsulate([b"\x00\x00"]))
    with pytest.raises(DataError, match=r"b\.dcm"):
        open_image(path)


def test_without_pydicom_the_extra_is_named(tmp_path, monkeypatch):
    path = write_dicom(tmp_path / "a.dcm", ramp(8))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(DataError, match=r"chexficient\[dicom\]"):
        open_image(path)


def test_headers_are_read_as_text(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", ramp(8), BodyPartExamined=None)
    header = read_header(path, TECHNICAL_FIELDS)
    assert header["ViewPosition"] == "PA"
    assert header["BodyPartExamined"] == ""
    assert not {"PatientName", "PatientID", "PatientBirthDate", "AccessionNumber"} & set(header)


def test_real_film_has_dark_lungs_and_a_bright_heart(real_cxr):
    film = grey(real_cxr / "dicom" / "RG1_J2KI.dcm")
    assert film.shape == (1955, 1841)
    height, width = film.shape
    spine = film[int(0.55 * height) : int(0.65 * height), int(0.45 * width) : int(0.52 * width)].mean()
    lung = film[int(0.2 * height) : int(0.3 * height), int(0.25 * width) : int(0.35 * width)].mean()
    below = film[int(0.8 * height) : int(0.9 * height), int(0.15 * width) : int(0.3 * width)].mean()
    assert lung < spine - 40
    assert lung < below - 40, "the abdomen is at the bottom"


def test_the_presentation_lut_inverts_once(tmp_path):
    plain = grey(write_dicom(tmp_path / "a.dcm", ramp(8)))
    for number, photometric in enumerate(("MONOCHROME1", "MONOCHROME2")):
        fields = {"PresentationLUTShape": "INVERSE", "PhotometricInterpretation": photometric}
        assert np.array_equal(grey(write_dicom(tmp_path / f"{number}.dcm", ramp(8), **fields)), 255 - plain), (
            photometric
        )


def test_header_values_of_another_kind_name_the_file(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", ramp(8), NumberOfFrames="1234")
    path.write_bytes(path.read_bytes().replace(b"IS\x04\x001234", b"IS\x04\x00many"))
    with pytest.raises(DataError, match=r"a\.dcm: header or grey values cannot be used"):
        open_image(path)


def test_files_that_cannot_be_opened_are_named(tmp_path):
    with pytest.raises(DataError, match="cannot be opened"):
        is_dicom(tmp_path / "absent")
