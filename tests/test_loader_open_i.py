"""Open-I field by field. Quirks covered: empty FINDINGS or IMPRESSION or both; reports of 0 and 3 films; the id
`CXR1_1_...`; `XXXX`; "No Indexing" and a heading with a trailing space; a film named twice, in no report, or missing;
broken XML; DICOM instead of PNG; views from the Kaggle table.
"""

import shutil

import pytest
from datasets import load_dataset

from data_scripts.loaders import open_i
from data_scripts.prepare import PrepareArguments, prepare
from data_scripts.prepared.folder import load_prepared
from data_scripts.schema import DataError, Record, Skipped
from tests.conftest import load_raw_tree
from tests.fake_files import clouds, write_dicom

TREE = load_raw_tree("open_i")


@pytest.fixture
def raw(tmp_path):
    return TREE.build(tmp_path)


def read(raw, **options):
    outcome = list(open_i.read_records(raw, open_i.Options(**options)))
    records = {one.record_id.removeprefix("open_i/"): one for one in outcome if isinstance(one, Record)}
    return records, [one for one in outcome if isinstance(one, Skipped)]


def present(record):
    return {label.name for label in record.labels if label.value == 1}


def test_fields(raw):
    records, _ = read(raw)
    assert list(records) == [
        *("CXR1_1_IM-0001-3001", "CXR2_IM-0652-1001", "CXR2_IM-0652-2001", "CXR3_IM-1384-1001"),
        *("CXR3_IM-1384-2001", "CXR3_IM-1384-0001-0001", "CXR4_IM-2050-1001", "CXR5_IM-2117-1003002"),
    ]
    first = records["CXR1_1_IM-0001-3001"]
    assert first.image_path == "NLMCXR_png/CXR1_1_IM-0001-3001.png"
    assert (first.patient_id, first.study_id, first.source) == ("CXR1", "CXR1", "open_i")
    assert first.findings == "The heart is enlarged. No effusion."
    assert first.impression == "Cardiomegaly since XXXX."
    assert (first.report_origin, first.language) == ("radiologist", "en")
    assert records["CXR2_IM-0652-1001"].report == "Normal chest x-XXXX."
    assert records["CXR3_IM-1384-1001"].findings == "Calcified granuloma.\nAorta is tortuous."
    assert records["CXR5_IM-2117-1003002"].report == ""


def test_marks_may_be_unified(raw):
    records, _ = read(raw, deid_marks="unify")
    assert records["CXR1_1_IM-0001-3001"].impression == "Cardiomegaly since ___."


def test_labels(raw):
    records, _ = read(raw)
    assert present(records["CXR1_1_IM-0001-3001"]) == {"Cardiomegaly"}
    assert present(records["CXR2_IM-0652-1001"]) == {"No Finding"}
    assert present(records["CXR3_IM-1384-1001"]) == {"Granulomatous Disease", "Calcification", "Tortuous Aorta"}
    assert len(records["CXR1_1_IM-0001-3001"].labels) == len(open_i.MESH_LABELS)
    assert records["CXR4_IM-2050-1001"].labels == [], "nobody indexed it"


@pytest.mark.parametrize(
    ("heading", "names"),
    [
        ("Cardiac Shadow/enlarged/mild", {"Cardiomegaly"}),
        ("Calcinosis/aorta", {"Calcification", "Atherosclerosis"}),
        ("Lung/hypoinflation/mild", {"Hypoinflation"}),
        ("Diaphragm/bilateral/flattened", {"Hyperinflation"}),
        ("Hydropneumothorax/right", {"Pneumothorax", "Pleural Effusion"}),
        ("Nodule/lung/apex/right", {"Nodule", "Lung Lesion"}),
        ("Spine/degenerative/mild", {"Degenerative Change"}),
        ("Technical Quality of Image Unsatisfactory", set()),
    ],
)
def test_headings(heading, names):
    labels = open_i.Report("CXR1", "", "", (heading,), ()).labels
    assert {label.name for label in labels if label.value == 1} == names


def test_views_and_splits(raw):
    records, _ = read(raw)
    assert records["CXR1_1_IM-0001-3001"].view == "LATERAL"
    assert records["CXR2_IM-0652-2001"].view == "LATERAL"
    assert {records[name].view for name in ("CXR2_IM-0652-1001", "CXR4_IM-2050-1001")} == {"UNKNOWN"}
    (raw / "indiana_projections.csv").unlink()
    assert {one.view for one in read(raw)[0].values()} == {"UNKNOWN"}
    assert {one.split for one in read(raw, validation_share=0, test_share=0.999)[0].values()} == {"test"}


def test_what_is_skipped(raw):
    _, skipped = read(raw)
    assert [(one.key, one.kind) for one in skipped] == [
        ("CXR10", "report without a film"),
        (TREE.MISSING, "image file missing"),
        ("20.xml", "broken XML"),
        ("21.xml", "broken XML"),
        ("CXR77_IM-0001-1001", "film without a report"),
    ]


def test_dicom_films_are_found(raw):
    write_dicom(raw / "NLMCXR_dcm" / "11" / "11_IM-0067-1001.dcm", clouds())
    write_dicom(raw / "NLMCXR_dcm" / "1" / "1_IM-0001-3001.dcm", clouds())
    records, _ = read(raw)
    assert records[TREE.MISSING].image_path == "NLMCXR_dcm/11/11_IM-0067-1001.dcm"
    assert records["CXR1_1_IM-0001-3001"].image_path.endswith(".png"), "the PNG goes first"
    (raw / "NLMCXR_png" / "CXR1_1_IM-0001-3001.png").unlink()
    assert read(raw)[0]["CXR1_1_IM-0001-3001"].image_path == "NLMCXR_dcm/1/1_IM-0001-3001.dcm"


def test_missing_reports_and_columns_are_named(raw, tmp_path):
    table = raw / "indiana_projections.csv"
    table.write_text(table.read_text().replace("projection", "projections"))
    with pytest.raises(DataError, match="'projection' is missing; the closest is 'projections'"):
        read(raw)
    with pytest.raises(DataError, match=r"the report files \(1.xml ...\) of NLMCXR_reports.tgz are missing"):
        read(tmp_path)


def test_real_reports_without_films_are_listed(real_cxr):
    """500 real reports, no films: every film that they name is skipped with its reason, none is lost."""
    outcome = list(open_i.read_records(real_cxr / "openi", open_i.Options()))
    reports = list(open_i.read_reports(real_cxr / "openi"))
    assert all(isinstance(one, Skipped) for one in outcome)
    without = sum(not report.image_ids for report in reports)
    assert len(outcome) == sum(len(report.image_ids) for report in reports) + without
    assert {one.kind for one in outcome} == {"image file missing", "report without a film"}


@pytest.mark.parametrize("encoding", ["foo-8", "utf-7"])
def test_encodings_that_cannot_be_read_are_named(tmp_path, encoding):
    raw = load_raw_tree("open_i").build(tmp_path)
    (raw / "ecgen-radiology" / "77.xml").write_text(f'<?xml version="1.0" encoding="{encoding}"?><a/>')
    (skipped,) = [one for one in open_i.read_reports(raw) if isinstance(one, Skipped) and one.key == "77.xml"]
    assert "77.xml: not a report" in skipped.reason


def test_texts_alone_are_prepared_and_not_taken_for_films(raw, tmp_path):
    shutil.rmtree(raw / "NLMCXR_png")
    for name in ("20.xml", "21.xml"):
        (raw / "ecgen-radiology" / name).unlink()
    arguments = PrepareArguments(str(tmp_path / "out"), str(raw), image_size=32, num_workers=1)
    summary = prepare("open_i", arguments, open_i.Options(texts_alone=True, validation_share=0))
    assert summary["modes"] == {"no film": summary["written"]}
    assert summary["skipped_reasons"] == {"empty report": 1}
    rows = load_dataset(str(tmp_path / "out"))["train"]
    assert "CXR10" in rows["study_id"], "a report without a film has its text"
    assert set(rows["image"]) == {None}
    assert load_prepared(str(tmp_path / "out"), ("report",))
    with pytest.raises(DataError, match="holds texts without films"):
        load_prepared(str(tmp_path / "out"), ("image",))


def test_the_official_download_needs_no_skip_bad(raw, tmp_path):
    """Reports without film or text are listed and stop nothing; a film that is missing does."""
    for name in ("20.xml", "21.xml"):
        (raw / "ecgen-radiology" / name).unlink()
    (raw / "NLMCXR_png" / "CXR77_IM-0001-1001.png").unlink(missing_ok=True)
    (raw / "CXR77_IM-0001-1001.png").unlink(missing_ok=True)
    arguments = PrepareArguments(str(tmp_path / "out"), str(raw), image_size=32, num_workers=1)
    with pytest.raises(DataError, match=TREE.MISSING):
        prepare("open_i", arguments, open_i.Options())
    films = sorted(raw.rglob("CXR*.png"))
    shutil.copy(films[0], films[0].with_name(f"{TREE.MISSING}.png"))
    summary = prepare("open_i", arguments, open_i.Options())
    assert summary["skipped_reasons"] == {"report without a film": 1, "empty report": 1}
