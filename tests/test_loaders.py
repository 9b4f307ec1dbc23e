"""Every loader keeps the contract of the schema; each reads a raw tree with the quirks of its corpus."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_scripts.loaders import folder, nih_chestxray14, synthetic
from data_scripts.schema import SPLITS, DataError, Record, Skipped, Source, check_record, within
from data_scripts.views import normalise_view

NIH_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)


def film(path: Path, size=(90, 80), mode="L", seed=0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0]), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


@pytest.fixture
def nih_raw(tmp_path):
    raw = tmp_path / "nih"
    rows = [
        "00000001_000.png,Cardiomegaly|Pleural_Thickening,0,1,058Y,M,PA,2682,2749,0.143,0.143",
        "00000001_001.png,No Finding,1,1,58,M,AP,2682,2749,0.143,0.143",
        "00000002_000.png,Hernia,0,2,411,F,PA,2500,2048,0.168,0.168",
        "00000003_000.png,No Finding,0,3,33,F,PA,2500,2048,0.168,0.168",
    ]
    raw.mkdir()
    (raw / "Data_Entry_2017_v2020.csv").write_text("\n".join([NIH_HEADER, *rows]) + "\n")
    # The official lists have no newline at their end.
    (raw / "train_val_list.txt").write_text("00000001_000.png\n00000001_001.png")
    (raw / "test_list.txt").write_text("00000002_000.png")
    film(raw / "images_001" / "images" / "00000001_000.png")
    film(raw / "images_001" / "images" / "00000001_001.png", mode="RGBA")
    film(raw / "images_002" / "images" / "00000002_000.png")
    return raw


@pytest.fixture
def folder_raw(tmp_path):
    raw = tmp_path / "own"
    for number in range(4):
        film(raw / "films" / f"{number}.png", seed=number)
    rows = [
        "file,text,conclusion,patient,proj,split,age,Cardiomegaly,Edema",
        '0.png,"Enlarged heart,\nno effusion.",Cardiomegaly.,A,PA,train,60,1,0',
        "1.png,,Normal.,B,AP Supine,val,,0,",
        "2.png,Lungs clear.,,C,L,test,12.5,,-1",
        "3.png,Lungs clear.,,A,?,train,60,0.0,1.0",
    ]
    # Exports of Windows programs begin with a byte order mark.
    (raw / "films.csv").write_text("\n".join(rows) + "\n", encoding="utf-8-sig")
    return raw


FOLDER = folder.Options(
    table="films.csv",
    image_root="films",
    image_column="file",
    findings_column="text",
    impression_column="conclusion",
    label_columns=["Cardiomegaly", "Edema"],
    patient_column="patient",
    view_column="proj",
    split_column="split",
    age_column="age",
    source_name="own",
)


@pytest.fixture(params=["synthetic", "folder", "nih_chestxray14"])
def loader(request):
    """A loader module, a raw folder and options for it."""
    if request.param == "synthetic":
        return synthetic, Path(), synthetic.Options(num_records=60, film_size=64)
    if request.param == "folder":
        return folder, request.getfixturevalue("folder_raw"), FOLDER
    return nih_chestxray14, request.getfixturevalue("nih_raw"), nih_chestxray14.Options()


def records_of(loader) -> list[Record]:
    module, raw, options = loader
    return [one for one in module.read_records(raw, options) if isinstance(one, Record)]


def test_contract_source_is_documented(loader):
    source = loader[0].SOURCE
    assert isinstance(source, Source)
    assert all([source.name, source.title, source.version, source.url, source.licence, source.traps])
    assert source.access in ("open", "registration", "credentialed", "synthetic", "own")
    assert loader[0].__name__.endswith(source.name)


def test_contract_records_keep_the_schema(loader):
    records = records_of(loader)
    assert records
    for record in records:
        check_record(record)
    assert len({record.record_id for record in records}) == len(records)
    assert all(record.record_id.startswith(record.source + "/") for record in records)


def test_contract_every_record_has_an_image(loader):
    module, raw, options = loader
    for record in records_of(loader)[:10]:
        if hasattr(module, "read_image"):
            image, masks = module.read_image(raw, record, options)
            assert all(mask.size == image.size for mask in masks.values())
        else:
            Image.open(within(raw, record.image_path)).load()


def test_contract_patients_are_in_one_split(loader):
    splits = {}
    for record in records_of(loader):
        splits.setdefault(record.patient_id, set()).add(record.split)
    assert all(len(found) == 1 for found in splits.values())
    assert set().union(*splits.values()) <= set(SPLITS)


def test_contract_reading_twice_gives_the_same(loader):
    assert records_of(loader) == records_of(loader)


def test_nih_reads_labels_splits_and_quirks(nih_raw):
    outcome = list(nih_chestxray14.read_records(nih_raw, nih_chestxray14.Options(validation_share=0)))
    first, second, third, skipped = outcome
    assert {label.name for label in first.labels if label.value == 1} == {"Cardiomegaly", "Pleural Thickening"}
    assert len(first.labels) == 15
    assert "pleural thickening" in first.report.lower()
    assert (first.split, first.view, first.sex, first.age_years) == ("train", "PA", "M", 58)
    assert second.report in ("No abnormality is seen in the chest.", "The chest film is normal.")
    assert (third.split, third.age_years) == ("test", None), "an age of 411 is a typing error"
    assert third.image_path == "images_002/images/00000002_000.png"
    assert first.report_origin == "labels"
    assert isinstance(skipped, Skipped)
    assert "00000003_000.png is in neither" in skipped.reason


def test_nih_lists_films_without_a_row(nih_raw):
    film(nih_raw / "images_002" / "images" / "00000009_000.png")
    (nih_raw / "test_list.txt").write_text("00000002_000.png\n00000008_000.png")
    outcome = list(nih_chestxray14.read_records(nih_raw, nih_chestxray14.Options()))
    assert [one.key for one in outcome if isinstance(one, Skipped) and one.kind == "film without a row"] == [
        "00000008_000.png",
        "00000009_000.png",
    ]


def test_nih_names_films_that_are_absent(nih_raw):
    (nih_raw / "images_002" / "images" / "00000002_000.png").unlink()
    reasons = [
        one.reason
        for one in nih_chestxray14.read_records(nih_raw, nih_chestxray14.Options())
        if isinstance(one, Skipped)
    ]
    assert any("00000002_000.png is not among the films" in reason for reason in reasons)


def test_nih_refuses_what_is_not_the_corpus(nih_raw):
    table = nih_raw / "Data_Entry_2017_v2020.csv"
    table.write_text(table.read_text().replace("Hernia", "Hernai"))
    skipped = [
        one for one in nih_chestxray14.read_records(nih_raw, nih_chestxray14.Options()) if isinstance(one, Skipped)
    ]
    assert "row 3: unknown finding ['Hernai']" in skipped[0].reason
    table.write_text(table.read_text().replace("Finding Labels", "Finding_Labels"))
    with pytest.raises(DataError, match="'Finding Labels' is missing; the closest is 'Finding_Labels'"):
        list(nih_chestxray14.read_records(nih_raw, nih_chestxray14.Options()))
    (nih_raw / "test_list.txt").unlink()
    table.write_text(table.read_text().replace("Finding_Labels", "Finding Labels"))
    with pytest.raises(DataError, match=r"test_list.txt: the official list is missing"):
        list(nih_chestxray14.read_records(nih_raw, nih_chestxray14.Options()))
    table.unlink()
    with pytest.raises(DataError, match="the table is missing"):
        list(nih_chestxray14.read_records(nih_raw, nih_chestxray14.Options()))


def test_nih_reports_do_not_depend_on_the_order_of_rows(nih_raw):
    def reports():
        records = nih_chestxray14.read_records(nih_raw, nih_chestxray14.Options())
        return {one.record_id: one.report for one in records if isinstance(one, Record)}

    before = reports()
    table = nih_raw / "Data_Entry_2017_v2020.csv"
    header, *rows = table.read_text().splitlines()
    table.write_text("\n".join([header, *reversed(rows)]) + "\n")
    assert reports() == before


def test_folder_reads_fields(folder_raw):
    first, second, third, fourth = folder.read_records(folder_raw, FOLDER)
    assert first.record_id == "own/0.png"
    assert first.report == "Enlarged heart, no effusion. Cardiomegaly."
    assert [(label.name, label.value) for label in first.labels] == [("Cardiomegaly", 1), ("Edema", 0)]
    assert (second.view, second.split, second.age_years, second.report) == ("AP", "validation", None, "Normal.")
    assert [(label.name, label.value) for label in third.labels] == [("Edema", -1)]
    assert (third.view, third.split, fourth.view) == ("LATERAL", "test", "OTHER")


def test_folder_lists_findings_of_one_column(folder_raw):
    table = {"image": ["0.png", "1.png", "2.png"], "note": ["a", "b", "c"], "found": ["X, Y", "todo", "Y"]}
    lines = [json.dumps(dict(zip(table, values, strict=True))) for values in zip(*table.values(), strict=True)]
    (folder_raw / "films.jsonl").write_text("\n".join(lines))
    options = folder.Options(
        table="films.jsonl",
        image_root="films",
        report_column="note",
        labels_column="found",
        label_separator=",",
        unlabelled_values=["todo"],
    )
    labels = [[(label.name, label.value) for label in one.labels] for one in folder.read_records(folder_raw, options)]
    assert labels == [[("X", 1), ("Y", 1)], [], [("X", 0), ("Y", 1)]]


def test_folder_refuses_what_it_cannot_read(folder_raw):
    def read(**changes):
        return list(folder.read_records(folder_raw, replace(FOLDER, **changes)))

    with pytest.raises(DataError, match=r"nothing\.csv: the table is missing"):
        read(table="nothing.csv")
    with pytest.raises(DataError, match="'patients' is missing; the closest is 'patient'"):
        read(patient_column="patients")
    with pytest.raises(DataError, match="no text column is named"):
        read(findings_column=None, impression_column=None)
    table = folder_raw / "films.csv"
    table.write_text(table.read_text(encoding="utf-8-sig").replace("60,1,0", "60,2,0").replace(",test,", ",tset,"))
    reasons = [one.reason for one in read() if isinstance(one, Skipped)]
    assert "label 'Cardiomegaly' is '2'" in reasons[0]
    assert "split is 'tset'" in reasons[1]


def test_paths_must_stay_below_the_raw_folder(tmp_path):
    assert within(tmp_path, "a/b.png") == (tmp_path / "a" / "b.png").resolve()
    for path in ("../b.png", "/etc/passwd", "a/../../b.png"):
        with pytest.raises(DataError, match="leaves the raw folder"):
            within(tmp_path, path)


@pytest.mark.parametrize(
    ("spelling", "view"),
    [("PA", "PA"), ("AP Supine", "AP"), ("ll", "LATERAL"), ("", "UNKNOWN"), (None, "UNKNOWN"), ("swimmers", "OTHER")],
)
def test_views_have_one_spelling(spelling, view):
    assert normalise_view(spelling) == view
