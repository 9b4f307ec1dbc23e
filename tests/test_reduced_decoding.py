"""Large films decoded at a part of their size: nearly the whole film's greys, in its place; else the film in full."""

import json
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from datasets import load_dataset
from PIL import ExifTags, Image

from data_scripts.films.images import open_image, prepare_film
from data_scripts.loaders import folder
from data_scripts.prepare import PrepareArguments, prepare, speed
from data_scripts.prepare.speed import write_film
from modeling_chexficient.image_processing_chexficient_reduced import reduction

SIDE = 48
#: JPEG 2000 of the last size can be halved once only by Pillow: a quarter of 389 would be rounded down.
SIZES = [(501, 420), (403, 530), (389, 400)]


def prepared(image: Image.Image) -> np.ndarray:
    return np.asarray(prepare_film(image, SIDE), int)


def test_a_film_is_never_decoded_at_less_than_twice_the_side():
    for width in range(20, 1300, 7):
        factor = reduction(width, 1300, SIDE)
        assert factor == 1 or width / factor >= 2 * SIDE
        assert factor == 8 or width / (2 * factor) < 2 * SIDE
    assert reduction(1300, 800, SIDE) == 8


@pytest.mark.parametrize("kind", ["JPEG", "JPEG 2000"])
@pytest.mark.parametrize("size", SIZES)
def test_greys_stay_in_their_place(kind, size, tmp_path):
    path = tmp_path / write_film(tmp_path, 0, kind, *size)
    whole, reduced = open_image(path), open_image(path, None, SIDE)
    assert min(reduced.size) == SIDE, "it was reduced"
    difference = np.abs(prepared(whole) - prepared(reduced))
    # A pixel of the whole further would be five greys in the mean.
    assert difference.mean() < 1.5
    assert difference.max() <= 6


def test_a_jpeg_that_lies_on_its_side_is_turned(tmp_path):
    path = tmp_path / write_film(tmp_path, 0, "JPEG", 500, 420)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.open(path).save(path, quality=95, exif=exif)
    whole, reduced = open_image(path), open_image(path, None, SIDE)
    assert whole.size == (500, 420)
    assert reduced.height == SIDE
    assert np.abs(prepared(whole) - prepared(reduced)).mean() < 1.5


@pytest.mark.parametrize(
    "header",
    [
        {"PixelPaddingValue": 0},
        {"WindowCenter": None},
        {"PixelSpacing": [0.1, 0.2]},
        {"PatientOrientation": ["R", "F"]},
    ],
    ids=lambda header: next(iter(header)),
)
def test_a_dicom_film_whose_greys_or_place_could_change_is_decoded_in_full(header, tmp_path):
    path = tmp_path / write_film(tmp_path, 0, "JPEG 2000", 500, 420)
    dataset = pydicom.dcmread(path)
    for name, value in header.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    if "PixelPaddingValue" in dataset:
        dataset["PixelPaddingValue"].VR = "US"
    dataset.save_as(path)
    assert np.array_equal(np.asarray(open_image(path)), np.asarray(open_image(path, None, SIDE)))


def test_what_cannot_be_reduced_is_named_as_ever(tmp_path):
    path = tmp_path / write_film(tmp_path, 0, "JPEG 2000", 500, 420)
    path.write_bytes(path.read_bytes()[:-20_000])
    for reduce_to in (None, SIDE):
        with pytest.raises(ValueError, match=r"0\.dcm"):
            open_image(path, None, reduce_to)


def test_prepare_reduces_films_without_masks_and_says_so(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    names = [write_film(raw, number, "JPEG", 500, 420) for number in range(2)]
    Image.fromarray(np.full((500, 420), 255, np.uint8)).save(raw / "mask.png")
    (raw / "t.csv").write_text(f"image,report,patient,lung\n{names[0]},A.,P0,mask.png\n{names[1]},B.,P1,\n")
    options = folder.Options(table="t.csv", report_column="report", patient_column="patient", mask_columns=["lung"])
    arguments = PrepareArguments(out=str(tmp_path / "full"), raw=str(raw), image_size=SIDE, num_workers=1)
    reduced = replace(arguments, out=str(tmp_path / "reduced"), reduced_decoding=True)
    rows = {}
    for one in (arguments, reduced):
        prepare("folder", one, options)
        data = load_dataset(one.out)
        rows[one.out] = {row["report"]: np.asarray(row["image"], int) for split in data.values() for row in split}
    first, second = rows.values()
    assert np.array_equal(first["A."], second["A."])
    assert 0 < np.abs(first["B."] - second["B."]).mean() < 1.5
    assert json.loads((tmp_path / "reduced" / "summary.json").read_text())["reduced_decoding"] is True
    assert "decoded at a part" in (tmp_path / "reduced" / "README.md").read_text()
    assert "decoded at a part" not in (tmp_path / "full" / "README.md").read_text()
    with pytest.raises(ValueError, match="image_size 0"):
        replace(reduced, image_size=0)


def test_the_bench_tells_how_far_greys_are_off(tmp_path, capsys):
    write_film(tmp_path, 0, "JPEG", 1600, 1520)
    write_film(tmp_path, 1, "JPEG", 500, 420)
    speed.main(["--films_of", str(tmp_path)])
    assert capsys.readouterr().out.startswith("1 films at 378 px: greys are off by 0.")
