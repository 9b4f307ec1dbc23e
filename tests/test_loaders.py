"""What the first loaders read from their raw trees, and refuse; the contract itself is in test_loader_contract.py."""

import json
from dataclasses import replace

import pytest

from data_scripts.loaders import folder, nih_chestxray14
from data_scripts.reading.views import normalise_sex, normalise_view
from data_scripts.schema import DataError, Record, Skipped, within
from tests.conftest import load_raw_tree
from tests.film_files import write_film


@pytest.fixture
def nih_raw(tmp_path):
    raw = load_raw_tree("nih_chestxray14").build(tmp_path)
    # Boxes are tested with the loader of the same name.
    (raw / "BBox_List_2017.csv").unlink()
    return raw


@pytest.fixture
def folder_raw(tmp_path):
    return load_raw_tree("folder").build(tmp_path)


FOLDER = folder.Options(**load_raw_tree("folder").OPTIONS, source_name="own")


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
    assert "the film of 00000003_000.png is missing" in skipped.reason


def test_nih_lists_films_without_a_row(nih_raw):
    write_film(nih_raw / "images_002" / "images" / "00000009_000.png")
    (nih_raw / "test_list.txt").write_text("00000002_000.png\n00000008_000.png")
    outcome = list(nih_chestxray14.read_records(nih_raw, nih_chestxray14.Options()))
    assert [one.key for one in outcome if isinstance(one, Skipped) and one.kind == "film without a row"] == [
        "images_002/images/00000009_000.png",
        "00000008_000.png",
    ]


def test_nih_lists_what_is_in_no_list_or_twice(nih_raw):
    write_film(nih_raw / "images_002" / "images" / "00000003_000.png")
    write_film(nih_raw / "images_099" / "images" / "00000002_000.png")
    outcome = list(nih_chestxray14.read_records(nih_raw, nih_chestxray14.Options()))
    assert [(one.key, one.kind) for one in outcome if isinstance(one, Skipped)] == [
        ("Data_Entry_2017_v2020.csv row 4", "film in no list"),
        ("images_099/images/00000002_000.png", "film found twice"),
    ]


def test_nih_names_films_that_are_absent(nih_raw):
    (nih_raw / "images_002" / "images" / "00000002_000.png").unlink()
    reasons = [
        one.reason
        for one in nih_chestxray14.read_records(nih_raw, nih_chestxray14.Options())
        if isinstance(one, Skipped)
    ]
    assert any("the film of 00000002_000.png is missing" in reason for reason in reasons)


def test_nih_refuses_what_is_not_the_corpus(nih_raw):
    table = nih_raw / "Data_Entry_2017_v2020.csv"
    table.write_text(table.read_text().replace("Hernia", "Hernai"))
    skipped = [
        one for one in nih_chestxray14.read_records(nih_raw, nih_chestxray14.Options()) if isinstance(one, Skipped)
    ]
    assert "00000002_000.png: unknown finding ['Hernai']" in skipped[0].reason
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
    *records, left_over = folder.read_records(folder_raw, options)
    assert (left_over.key, left_over.kind) == ("films/3.png", "film without a row")
    labels = [[(label.name, label.value) for label in one.labels] for one in records]
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


def test_sexes_have_one_spelling():
    given = ("F", " female", "Male", "m", "O", "", None, "unknown")
    assert [normalise_sex(text) for text in given] == ["F", "F", "M", "M", "O", None, None, None]
