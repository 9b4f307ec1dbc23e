"""CASIA-CXR field by field. Quirks covered: byte order mark; accents; placeholder rows; columns without meaning or
name; films at any depth and with .JPG; ImageID with or without suffix; the folder is the label; French or English.
"""

import shutil

import pytest

from data_scripts.loaders import casia_cxr
from data_scripts.schema import DataError, Label, Record, Skipped
from tests.conftest import load_raw_tree

TREE = load_raw_tree("casia_cxr")
TRANSLATED = {"language": "en", "translations": "CASIA-CXR_Combined_Reports.csv"}


@pytest.fixture
def raw(tmp_path):
    return TREE.build(tmp_path)


def read(raw, **options):
    outcome = list(casia_cxr.read_records(raw, casia_cxr.Options(**options)))
    return [one for one in outcome if isinstance(one, Record)], [one for one in outcome if isinstance(one, Skipped)]


def test_fields(raw):
    first, second, third = read(raw)[0]
    assert first.record_id == "casia_cxr/Cardiomegaly/I1"
    assert first.image_path == "CASIA-CXR_Cardiomegaly/Images/I1.jpg"
    assert (first.patient_id, first.study_id, first.sex, first.age_years, first.view) == ("P1", "R1", "M", 58, "PA")
    assert (first.findings, first.impression) == ("Cœur élargi. Pas d'épanchement.", "Cardiomégalie.")
    assert (first.language, first.report_origin) == ("fr", "radiologist")
    assert first.labels == [Label("Cardiomegaly", 1)]
    assert second.image_path == "CASIA-CXR_Cardiomegaly/Images/2020/I2.JPG"
    assert (second.view, second.age_years, second.report) == ("AP", 61, "Cardiomégalie modérée.")
    assert third.labels == [Label("Pleural Effusion", 1)]
    assert (third.study_id, third.age_years) == ("E4", None), "no ReportID; 200 years are a typing error"
    assert third.split == first.split, "one patient in two folders"


def test_english(raw):
    records, skipped = read(raw, **TRANSLATED)
    assert [one.report for one in records] == ["Enlarged heart. No effusion. Cardiomegaly.", "Some cardiomegaly."]
    assert {(one.language, one.report_origin) for one in records} == {("en", "translation")}
    assert "report without a translation" in {one.kind for one in skipped}
    with pytest.raises(DataError, match="column 'Findings_Eng' is missing; the closest is 'Findings'"):
        read(raw, language="en")
    for path in raw.glob("*/*_Reports.csv"):
        text = path.read_text(encoding="utf-8-sig").replace("EndHere,#", "Findings_Eng,Impression_Eng")
        path.write_text(text.replace('",,,', '",Big heart.,Cardiomegaly.,'), encoding="utf-8-sig")
    assert [one.report for one in read(raw, language="en")[0]] == ["Big heart. Cardiomegaly."] * 3


def test_options():
    with pytest.raises(ValueError, match="language is 'de'"):
        casia_cxr.Options(language="de")
    with pytest.raises(ValueError, match="ask for them with --language en"):
        casia_cxr.Options(translations="x.csv")


def test_what_is_skipped(raw):
    _, skipped = read(raw)
    assert [(one.key, one.kind) for one in skipped] == [
        ("CASIA-CXR_Cardiomegaly_Reports.csv row 3", "image file missing"),
        ("CASIA-CXR_Cardiomegaly/Images/I9.jpg", "film without a row"),
        ("CASIA-CXR_Cardiomegaly/copy/I1.jpg", "film found twice"),
    ]


def test_missing_files_and_columns_are_named(raw):
    path = raw / "CASIA-CXR_PleuralEffusion" / "CASIA-CXR_PleuralEffusion_Reports.csv"
    path.write_text(path.read_text(encoding="utf-8-sig").replace("PositionView", "ViewPosition"))
    with pytest.raises(DataError, match="'PositionView' is missing; the closest is"):
        read(raw)
    path.unlink()
    with pytest.raises(DataError, match=r"CASIA-CXR_PleuralEffusion_Reports.csv: the table is missing"):
        read(raw)
    for folder in raw.glob("CASIA*/"):
        shutil.rmtree(folder)
    with pytest.raises(DataError, match="there is none of the folders CASIA-CXR_"):
        read(raw)
