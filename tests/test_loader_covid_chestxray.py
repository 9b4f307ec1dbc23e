"""covid-chestxray. Quirks: see `tests/raw_trees/covid_chestxray.py`; and the real films, where they are."""

import numpy as np
import pytest

from data_scripts.films.masks import decode_masks
from data_scripts.loaders import covid_chestxray
from data_scripts.prepare import PrepareArguments, prepare
from data_scripts.schema import DataError
from tests.conftest import load_raw_tree
from tests.film_files import read_all, values_of, write_mask


@pytest.fixture
def raw(tmp_path):
    return load_raw_tree("covid_chestxray").build(tmp_path)


def test_fields(raw):
    records, skipped = read_all(covid_chestxray, raw, mask_dir="outlines")
    assert [(one.key, one.kind) for one in skipped] == [
        ("metadata.csv row 7", "not a radiograph"),
        ("metadata.csv row 8", "film listed twice"),
    ]
    first = records["a.jpg"]
    assert (first.patient_id, first.study_id, first.sex, first.age_years) == ("2", "2-0", "M", 65)
    assert (first.findings, first.report_origin, first.licence) == ("Invented case of two films.", "note", "CC BY")
    assert first.flags == records["b.png"].flags[1:] == ["repeated_note"]
    assert [record.view for record in records.values()] == ["PA", "LATERAL", "AP", "UNKNOWN", "AP", "PA"]
    assert records["d.jpg"].licence == "not stated"
    assert records["c.jpeg"].study_id == "3-c", "without a day every film counts as a study"
    assert records["e.jpg"].report == ""


def test_findings_rule_out_what_they_can(raw):
    values = {key: values_of(record) for key, record in read_all(covid_chestxray, raw)[0].items()}
    for key in ("a.jpg", "c.jpeg"):
        found = {name for name, value in values[key].items() if value == 1}
        assert found - {"ARDS"} == {"Pneumonia", "Viral Pneumonia", "COVID-19"}
        assert (values[key]["Bacterial Pneumonia"], values[key]["Streptococcus"], values[key]["SARS"]) == (0, 0, 0)
    assert values["c.jpeg"]["ARDS"] == 1
    assert "ARDS" not in values["a.jpg"], "nobody said that there is none"
    assert values["d.jpg"] == {}, "todo is no judgement"
    assert (values["e.jpg"]["Bacterial Pneumonia"], values["e.jpg"]["COVID-19"]) == (1, 0)
    assert [name for name, value in values["f.jpg"].items() if value] == ["No Finding"]


def test_unspecific_pneumonia_says_nothing_of_the_cause(raw):
    table = raw / "metadata.csv"
    table.write_text(table.read_text().replace('"Streptococcus"', '"Pneumonia"').replace('"todo"', '"ARDS"'))
    records = read_all(covid_chestxray, raw)[0]
    assert values_of(records["e.jpg"]) == {"Pneumonia": 1, "Tuberculosis": 0, "No Finding": 0}
    assert values_of(records["d.jpg"]) == {"ARDS": 1, "No Finding": 0}


def test_outlines(raw):
    records = read_all(covid_chestxray, raw, mask_dir="outlines")[0]
    pixels = np.asarray(decode_masks(records["a.jpg"].masks, raw, (64, 64))["lungs"])
    assert (pixels[20, 15], pixels[35, 15], pixels[0, 0]) == (255, 127, 0)
    assert "lungs" in records["c.jpeg"].masks, "named with _mask behind"
    assert (records["b.png"].masks, records["b.png"].flags[0]) == ({}, "blank_mask")
    assert not any(record.masks for record in read_all(covid_chestxray, raw)[0].values()), "only where asked for"


def test_bad_input(raw):
    write_mask(raw / "outlines" / "z.png", (1, 1, 9, 9))
    (raw / "images" / "x.jpg").write_bytes(b"")
    (raw / "images" / "f.jpg").unlink()
    table = raw / "metadata.csv"
    table.write_text(table.read_text().replace('"Streptococcus"', '"Strepto"'))
    skipped = {one.kind: one for one in read_all(covid_chestxray, raw, mask_dir="outlines")[1]}
    assert skipped["mask without a film"].key == "outlines/z.png"
    assert skipped["film without a row"].key == "images/x.jpg"
    assert "f.jpg is missing" in skipped["image file missing"].reason
    assert "unknown finding ['Strepto']" in skipped["unknown finding"].reason
    with pytest.raises(DataError, match="--mask_dir nowhere: there is no such folder"):
        read_all(covid_chestxray, raw, mask_dir="nowhere")
    with pytest.raises(DataError, match="leaves the raw folder"):
        read_all(covid_chestxray, raw, mask_dir="../elsewhere")


def test_real_films(real_cxr, tmp_path):
    arguments = PrepareArguments(
        out=str(tmp_path), raw=str(real_cxr / "covid_chestxray"), image_size=64, num_workers=1, skip_bad=True
    )
    summary = prepare("covid_chestxray", arguments, covid_chestxray.Options(mask_dir="lung_masks"))
    assert (summary["read"], summary["written"], summary["skipped"]) == (140, 138, 2)
    assert summary["skipped_reasons"] == {"film listed twice": 2}
    # 65 outlines, six of them blank, all of lateral films.
    assert summary["flags"] == {"repeated_note": 54, "blank_mask": 6}
    assert summary["positives"]["COVID-19"] == 65
    records, _ = read_all(covid_chestxray, real_cxr / "covid_chestxray", mask_dir="lung_masks")
    assert sum(bool(record.masks) for record in records.values()) == 59
    assert {record.view for record in records.values() if "blank_mask" in record.flags} == {"LATERAL"}


def test_folders_outside_of_the_raw_folder_are_not_read(raw):
    (raw.parent / "secret").mkdir()
    (raw.parent / "patients.xlsx").write_text("x")
    path = raw / "metadata.csv"
    header, first, *rows = path.read_text().splitlines()
    film = first.replace("images,a.jpg", "../secret,a.jpg")
    scan = first.replace("images,a.jpg", "../,b.jpg").replace("X-ray", "CT")
    path.write_text("\n".join([header, film, scan, first, *rows]) + "\n")
    records, skipped = read_all(covid_chestxray, raw)
    assert "a.jpg" in records
    assert (skipped[0].key, "leaves the raw folder" in skipped[0].reason) == ("metadata.csv row 1", True)
    assert (skipped[1].key, skipped[1].kind) == ("metadata.csv row 2", "not a radiograph")
    assert not any("xlsx" in one.key for one in skipped)


@pytest.mark.parametrize(
    ("phrase", "present"),
    [
        ("Mycoplasma Bacterial Pneumonia", {"Pneumonia", "Bacterial Pneumonia", "Mycoplasma"}),
        ("COVID-19 viral pneumonia", {"Pneumonia", "Viral Pneumonia", "COVID-19"}),
        ("Klebsiella Pneumonia", {"Pneumonia", "Bacterial Pneumonia", "Klebsiella"}),
        ("Fungal Pneumonia", {"Pneumonia", "Fungal Pneumonia"}),
        ("MRSA Bacterial Pneumonia", {"Pneumonia", "Bacterial Pneumonia", "Staphylococcus", "MRSA"}),
        ("Pneumonia/Bacterial/Mycoplasma Bacterial Pneumonia", {"Pneumonia", "Bacterial Pneumonia", "Mycoplasma"}),
    ],
)
def test_findings_written_as_phrases(raw, phrase, present):
    table = raw / "metadata.csv"
    table.write_text(table.read_text().replace('"Streptococcus"', f'"{phrase}"'))
    values = values_of(read_all(covid_chestxray, raw)[0]["e.jpg"])
    assert {name for name, value in values.items() if value == 1} == present


@pytest.mark.parametrize("phrase", ["Organizing Pneumonia", "COVID-19 Bacterial Pneumonia", "Rare Viral Pneumonia"])
def test_phrases_that_are_unknown_or_contradict_themselves_are_named(raw, phrase):
    table = raw / "metadata.csv"
    table.write_text(table.read_text().replace('"Streptococcus"', f'"{phrase}"'))
    records, skipped = read_all(covid_chestxray, raw)
    assert "e.jpg" not in records
    assert any(phrase in one.reason for one in skipped)
