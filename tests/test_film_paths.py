"""Paths of films in place of images: processor and pipelines read what data preparation reads, and name bad files."""

import sys

import numpy as np
import pytest
import torch
from datasets import load_dataset
from transformers import AutoModelForImageClassification, AutoProcessor, pipeline

from data_scripts.films import files
from data_scripts.loaders import folder
from data_scripts.prepare import PrepareArguments, prepare
from modeling_chexficient import CheXficientImageProcessor
from tests.adapter_files import SIDE, make_report_model, save_base
from tests.dicom_files import write_dicom
from tests.fake_files import clouds
from tests.film_files import write_film

TWELVE = clouds((70, 50), seed=1).astype(np.uint16) * 16
WINDOW = {"WindowCenter": 1200, "WindowWidth": 1500, "BitsStored": 12, "HighBit": 11}


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Films of three formats, one of them dark where it is stored bright."""
    films = tmp_path_factory.mktemp("paths") / "films"
    write_dicom(films / "z.dcm", TWELVE, PhotometricInterpretation="MONOCHROME1", **WINDOW)
    write_film(films / "b.png", (60, 50), seed=2)
    write_film(films / "a.jpg", (50, 60), seed=3)
    return films


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_base(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def prepared(raw, tmp_path_factory):
    """The same films as `data_scripts.prepare` writes them, narrow ones first: in the order of their files' names."""
    out = tmp_path_factory.mktemp("prepared") / "data"
    arguments = PrepareArguments(raw=str(raw), out=str(out), image_size=0, num_workers=1, allow_empty_reports=True)
    prepare("folder", arguments, folder.Options(split_column=None))
    rows = [row for split in load_dataset(str(out)).values() for row in split]
    return sorted((row["image"] for row in rows), key=lambda image: image.size)


def test_a_path_gives_the_pixels_of_prepared_films(raw, prepared, base):
    paths = sorted(raw.iterdir())
    processor = AutoProcessor.from_pretrained(base)
    expected = processor(images=prepared)["pixel_values"]
    assert len(expected) == 3
    assert torch.equal(processor(images=paths)["pixel_values"], expected)
    assert torch.equal(processor(images=str(paths[2]), text="edema")["pixel_values"], expected[2:])
    assert torch.equal(processor.image_processor(paths[2], return_tensors="pt")["pixel_values"], expected[2:])


def test_pipelines_take_paths(raw, prepared, base, tmp_path):
    paths = [str(path) for path in sorted(raw.iterdir())]
    classify = pipeline("zero-shot-image-classification", model=str(base))
    labels = {"candidate_labels": ["edema", "no edema"]}
    assert classify(paths, **labels) == classify(prepared, **labels)
    AutoModelForImageClassification.from_pretrained(base, num_labels=2).save_pretrained(tmp_path / "head")
    CheXficientImageProcessor(SIDE).save_pretrained(tmp_path / "head")
    findings = pipeline("image-classification", model=str(tmp_path / "head"))
    assert findings(paths[2]) == findings(prepared[2]) != findings(prepared[1])
    processor = make_report_model(base)[1]
    for given in (paths[2], prepared[2]):
        pixels = processor(images=given, text="<image> edema", return_tensors="pt")["pixel_values"]
        assert torch.equal(pixels, processor.image_processor(prepared[2], return_tensors="pt")["pixel_values"])


def test_bad_files_are_named(raw, base, tmp_path, monkeypatch):
    processor, classify = AutoProcessor.from_pretrained(base), pipeline("zero-shot-image-classification", str(base))
    write_dicom(tmp_path / "many.dcm", np.stack([TWELVE, TWELVE]), BitsStored=12, HighBit=11)
    (tmp_path / "notes.txt").write_text("no film\n" * 40)
    (tmp_path / "notes.dcm").write_text("no film\n" * 40)
    for name, message in (
        ("many.dcm", r"many\.dcm: 2 frames; choose one"),
        ("notes.txt", r"notes\.txt: not an image"),
        ("notes.dcm", r"notes\.dcm: (not a|damaged) DICOM file"),
    ):
        for read in (lambda path: processor(images=path), lambda path: classify(path, candidate_labels=["edema"])):
            with pytest.raises(ValueError, match=message):
                read(str(tmp_path / name))
    with pytest.raises(ValueError, match=r"Image 1 of the batch: .*absent\.dcm: the image file is missing"):
        processor(images=[raw / "b.png", "absent.dcm"])
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ValueError, match=r'z\.dcm: DICOM files need pydicom: pip install "chexficient\[dicom\]"'):
        processor(images=raw / "z.dcm")
    assert processor(images=raw / "b.png")["pixel_values"].shape == (1, 3, SIDE, SIDE)


def test_arguments_name_what_the_reading_knows():
    assert files.FRAMES == files.reading().FRAMES
    assert files.DICOM_SUFFIXES == files.reading().DICOM_SUFFIXES
