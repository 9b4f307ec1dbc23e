"""DICOM films in training data and on the page: the same pixels, and those of the standard's formulas (PS3.3)."""

import subprocess
import sys

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from model_cards.space.__main__ import DICOM_DISPLAY
from modeling_chexficient import image_processing_chexficient_dicom as dicom_display
from modeling_chexficient.image_processing_chexficient_dicom import BLANK, DisplayError, to_display
from modeling_chexficient.image_processing_chexficient_files import FilmFileError, read_dicom
from tests.dicom_files import ramp, write_dicom
from tests.page_files import load_page_films

HIGHEST = 4095
#: Every twelve-bit value once.
FILM = np.arange(HIGHEST + 1, dtype=np.uint16).reshape(64, 64)
PAD = 3000


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The module `films` of the page, as a Space holds it."""
    return load_page_films(tmp_path_factory.mktemp("space"))


def lut(entries, first: int = 0, bits: int = 16, data: bytes | None = None, vr: str = "US") -> Dataset:
    """An item of a VOI LUT sequence."""
    item = Dataset()
    item.add_new("LUTDescriptor", vr, [len(entries), first, bits])
    item.add_new("LUTData", "OW", np.asarray(entries, "<u2").tobytes() if data is None else data)
    return item


def linear(values, centre, width):
    """PS3.3 C.11.2.1.2.1: greys from 0 to 255."""
    return np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1) * 255


def exact(values, centre, width):
    """PS3.3 C.11.2.1.3.2."""
    return np.clip((values - centre) / width + 0.5, 0, 1) * 255


def sigmoid(values, centre, width):
    """PS3.3 C.11.2.1.3.1."""
    return 255 / (1 + np.exp(-4 * (values - centre) / width))


def stretched(values, low, high):
    """Without window or LUT: the lowest to the highest value of the film."""
    return (values - low) / (high - low) * 255


def padded(greys, where):
    """PS3.3 C.7.5.1.1.2: padding is not part of the film; here it is black."""
    return np.where(where, 0, greys)


X = FILM.astype(float)
ROOT = np.round(np.sqrt(np.arange(HIGHEST + 1) / HIGHEST) * 65535)
EIGHT_BIT_ROOT = np.round(np.sqrt(np.arange(HIGHEST + 1) / HIGHEST) * 255)
WINDOW = {"WindowCenter": 2000, "WindowWidth": 1500}
MONOCHROME1 = {"PhotometricInterpretation": "MONOCHROME1"}
#: By name: fields of the header, and the greys that the standard's formulas give for the values `X`.
CASES = {
    "no window": ({}, stretched(X, 0, HIGHEST)),
    "padding": ({"PixelPaddingValue": HIGHEST}, padded(stretched(X, 0, HIGHEST - 1), X == HIGHEST)),
    "padding with a range": (
        {"PixelPaddingValue": HIGHEST, "PixelPaddingRangeLimit": PAD},
        padded(stretched(X, 0, PAD - 1), X >= PAD),
    ),
    "padding and window": ({"PixelPaddingValue": 2000, **WINDOW}, padded(linear(X, 2000, 1500), X == 2000)),
    "padding of everything": ({"PixelPaddingValue": 0, "PixelPaddingRangeLimit": HIGHEST}, stretched(X, 0, HIGHEST)),
    "MONOCHROME1": (MONOCHROME1, 255 - stretched(X, 0, HIGHEST)),
    "MONOCHROME1 and padding": (
        {**MONOCHROME1, "PixelPaddingValue": HIGHEST},
        padded(255 - stretched(X, 0, HIGHEST - 1), X == HIGHEST),
    ),
    "presentation LUT INVERSE": ({"PresentationLUTShape": "INVERSE", **WINDOW}, 255 - linear(X, 2000, 1500)),
    "presentation LUT IDENTITY": ({"PresentationLUTShape": "IDENTITY", **WINDOW}, linear(X, 2000, 1500)),
    "MONOCHROME1 and INVERSE": (
        {**MONOCHROME1, "PresentationLUTShape": "INVERSE", **WINDOW},
        255 - linear(X, 2000, 1500),
    ),
    "LINEAR": ({**WINDOW, "VOILUTFunction": "LINEAR"}, linear(X, 2000, 1500)),
    "LINEAR_EXACT": ({**WINDOW, "VOILUTFunction": "LINEAR_EXACT"}, exact(X, 2000, 1500)),
    "SIGMOID": ({**WINDOW, "VOILUTFunction": "SIGMOID"}, sigmoid(X, 2000, 1500)),
    "no function named": ({**WINDOW, "VOILUTFunction": ""}, linear(X, 2000, 1500)),
    "several windows": ({"WindowCenter": [2000, 9], "WindowWidth": [1500, 90]}, linear(X, 2000, 1500)),
    "rescale": (
        {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 3000, "WindowWidth": 4000},
        linear(2 * X - 1000, 3000, 4000),
    ),
    "rescale without window": (
        {"RescaleSlope": -1, "RescaleIntercept": 10},
        stretched(-X, -HIGHEST, 0),
    ),
    "optical densities in an exact window": (
        {
            **{"RescaleSlope": "0.0002", "RescaleIntercept": 0, "VOILUTFunction": "LINEAR_EXACT"},
            **{"WindowCenter": "0.4", "WindowWidth": "0.5"},
        },
        exact(0.0002 * X, 0.4, 0.5),
    ),
    "VOI LUT": ({"VOILUTSequence": [lut(ROOT)]}, ROOT[FILM] / 257),
    "VOI LUT before window": ({"VOILUTSequence": [lut(ROOT), lut(ROOT[::-1])], **WINDOW}, ROOT[FILM] / 257),
    "VOI LUT from a later value": (
        {"VOILUTSequence": [lut(ROOT, 2000)]},
        ROOT[np.maximum(X - 2000, 0).astype(int)] / 257,
    ),
    "VOI LUT of fewer entries": (
        {"VOILUTSequence": [lut(range(0, 256), 1000, 8)]},
        np.clip(X - 1000, 0, 255),
    ),
    "VOI LUT of eight bits": ({"VOILUTSequence": [lut(EIGHT_BIT_ROOT, 0, 8)]}, EIGHT_BIT_ROOT[FILM]),
    "VOI LUT of eight bits, packed": (
        {"VOILUTSequence": [lut(EIGHT_BIT_ROOT, 0, 8, EIGHT_BIT_ROOT.astype(np.uint8).tobytes())]},
        EIGHT_BIT_ROOT[FILM],
    ),
    "VOI LUT below zero": (
        {"RescaleSlope": 1, "RescaleIntercept": -2048, "VOILUTSequence": [lut(ROOT, -2048, vr="SS")]},
        ROOT[FILM] / 257,
    ),
    "VOI LUT below zero, written as unsigned": (
        {"RescaleSlope": 1, "RescaleIntercept": -2048, "VOILUTSequence": [lut(ROOT, 2**16 - 2048)]},
        ROOT[FILM] / 257,
    ),
    "VOI LUT without data": ({"VOILUTSequence": [Dataset()], **WINDOW}, linear(X, 2000, 1500)),
    "window that shows nothing": ({"WindowCenter": 60_000, "WindowWidth": 10}, stretched(X, 0, HIGHEST)),
    "sigmoid that shows nothing": (
        {"WindowCenter": 60_000, "WindowWidth": 10, "VOILUTFunction": "SIGMOID"},
        stretched(X, 0, HIGHEST),
    ),
    "no bits stored": ({"BitsStored": None, "HighBit": None, **WINDOW}, linear(X, 2000, 1500)),
}


@pytest.mark.parametrize("name", CASES)
def test_page_and_training_show_what_the_standard_says(tmp_path, page, name):
    fields, expected = CASES[name]
    path = write_dicom(tmp_path / "a.dcm", FILM, **{"BitsStored": 12, "HighBit": 11, **fields})
    training = np.asarray(read_dicom(path))
    assert np.array_equal(np.asarray(page.read_film(path)), training)
    assert training.dtype == np.uint8
    # To the nearest grey; a little more, since the arithmetic is of 32 bits.
    assert np.abs(training - expected).max() < 0.5 + 1e-3


def test_signed_films_and_their_padding(tmp_path, page):
    signed = (FILM.astype(int) - 2048).astype(np.int16)
    fields = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 1, "WindowCenter": 0, "WindowWidth": 2000}
    expected = padded(linear(signed.astype(float), 0, 2000), signed == -48)
    for vr, padding in (("SS", -48), ("US", 2**16 - 48)):
        path = write_dicom(tmp_path / f"{vr}.dcm", signed, **fields)
        dataset = pydicom.dcmread(path)
        dataset.add_new("PixelPaddingValue", vr, padding)
        dataset.save_as(path)
        training = np.asarray(read_dicom(path))
        assert np.array_equal(np.asarray(page.read_film(path)), training)
        assert np.abs(training - expected).max() < 0.5 + 1e-3, vr


def test_without_preamble_the_encoding_is_found(tmp_path, page):
    with_preamble = np.asarray(read_dicom(write_dicom(tmp_path / "a.dcm", ramp(8))))
    path = write_dicom(tmp_path / "bare.dcm", ramp(8), preamble=False)
    assert np.array_equal(np.asarray(page.read_film(path)), with_preamble)


def test_real_films_look_the_same(real_cxr, page):
    for path in sorted((real_cxr / "dicom").glob("*.dcm")):
        assert np.array_equal(np.asarray(page.read_film(path)), np.asarray(read_dicom(path)))


def header(**fields) -> Dataset:
    dataset = Dataset()
    dataset.PhotometricInterpretation = "MONOCHROME2"
    for name, value in fields.items():
        setattr(dataset, name, value)
    return dataset


@pytest.mark.parametrize("kind", ["int8", "uint8", ">u2", "int16", "uint32", "int32", "float32", "float64"])
def test_values_of_every_type_are_stretched(kind):
    values = (np.arange(100) - (50 if np.dtype(kind).kind in "if" else 0)).reshape(10, 10).astype(kind)
    shown = to_display(header(), values)
    assert (shown.shape, shown.dtype) == ((10, 10), np.uint8)
    assert np.abs(shown - np.arange(100).reshape(10, 10) / 99 * 255).max() < 0.5 + 1e-3


@pytest.mark.parametrize(
    ("fields", "values", "kind", "message"),
    [
        ({}, np.full((4, 4), 7, np.uint16), BLANK, "one grey value"),
        ({"PixelPaddingValue": 0}, np.array([[0, 7], [7, 0]], np.uint8), BLANK, "one grey value"),
        ({"RescaleSlope": 0, "RescaleIntercept": 1}, FILM, BLANK, "one grey value"),
        ({}, np.array([[0, np.nan]], np.float32), "DICOM damaged", "finite"),
        ({"WindowCenter": 5, "WindowWidth": 9, "VOILUTFunction": "CUBIC"}, FILM, "DICOM damaged", "cannot be used"),
        ({"VOILUTSequence": [lut(range(9), data=b"12")]}, FILM, "DICOM damaged", "9 entries"),
    ],
)
def test_what_cannot_be_shown_is_one_error_with_its_kind(fields, values, kind, message):
    fields = {"BitsStored": 12, "PixelRepresentation": 0, **fields}
    with pytest.raises(DisplayError, match=message) as error:
        to_display(header(**fields), values)
    assert error.value.kind == kind


def test_errors_name_the_file_in_training_and_not_on_the_page(tmp_path, page):
    path = write_dicom(tmp_path / "Doe.dcm", FILM, VOILUTSequence=[lut(range(9), data=b"12")])
    with pytest.raises(FilmFileError, match=r"Doe\.dcm: a lookup table of 9 entries") as error:
        read_dicom(path)
    assert error.value.kind == "DICOM damaged"
    with pytest.raises(page.FilmError, match="no readable pixels") as refused:
        page.read_film(path)
    assert "Doe" not in str(refused.value)
    blank = write_dicom(tmp_path / "Doe.dcm", np.zeros((40, 40), np.uint16))
    with pytest.raises(page.FilmError, match="one grey value"):
        page.read_film(blank)


def test_the_display_imports_nothing_of_this_project(tmp_path):
    assert DICOM_DISPLAY.samefile(dicom_display.__file__)
    code = f"""
import runpy, sys
before = set(sys.modules)
runpy.run_path({str(DICOM_DISPLAY)!r})
import pydicom.pixels
print(sorted({{name.split(".")[0] for name in set(sys.modules) - before}} &
    {{"modeling_chexficient", "data_scripts", "eval", "train", "model_cards", "torch", "transformers", "datasets"}}))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr[-2000:]
