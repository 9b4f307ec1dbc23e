"""VinDr-CXR field by field. Quirks covered: three readers (any positive counts, "No Finding" needs all); a consensus
without readers; `Other diseases` and `Other disease`; boxes united over readers, and blank ones; MONOCHROME1;
tables in `annotations/` or in the root; a reader twice, a damaged header, films and boxes without a row.
"""

import numpy as np
import pytest

from data_scripts.films.images import open_image
from data_scripts.films.masks import decode_masks
from data_scripts.loaders import vindr_cxr
from data_scripts.schema import DataError, Label, Record, Skipped
from tests.conftest import load_raw_tree
from tests.fake_files import clouds

TREE = load_raw_tree("vindr_cxr")


@pytest.fixture
def raw(tmp_path):
    return TREE.build(tmp_path)


def read(raw, **options):
    outcome = list(vindr_cxr.read_records(raw, vindr_cxr.Options(**options)))
    return [one for one in outcome if isinstance(one, Record)], [one for one in outcome if isinstance(one, Skipped)]


def labels(record) -> dict[str, Label]:
    return {label.name: label for label in record.labels}


def test_fields(raw):
    (sick, normal, tested), _ = read(raw, validation_share=0)
    assert sick.record_id == f"vindr_cxr/{TREE.SICK}"
    assert sick.image_path == f"train/{TREE.SICK}.dicom"
    assert sick.patient_id == sick.study_id == TREE.SICK
    assert (sick.split, sick.view, sick.sex, sick.age_years) == ("train", "PA", "F", 54)
    assert (normal.sex, normal.age_years) == (None, None)
    assert (tested.split, tested.sex, tested.age_years) == ("test", "O", None)
    assert {one.report_origin for one in (sick, normal, tested)} == {"labels"}


def test_validation_is_taken_from_the_training_part_alone(raw):
    assert [one.split for one in read(raw, validation_share=0.999)[0]] == ["validation", "validation", "test"]


def test_votes_are_merged_and_kept(raw):
    (sick, normal, tested), _ = read(raw)
    found = labels(sick)
    assert len(found) == len(labels(normal)) == len(labels(tested)) == 28
    assert found["Cardiomegaly"] == Label("Cardiomegaly", 1, 3, 2)
    assert found["Other diseases"] == Label("Other diseases", 1, 3, 1)
    assert found["Edema"] == Label("Edema", 0, 3, 0)
    assert found["No Finding"] == Label("No Finding", 0, 3, 1), "one reader found nothing, the others did"
    assert labels(normal)["No Finding"] == Label("No Finding", 1, 3, 3)
    assert labels(tested)["Other diseases"] == Label("Other diseases", 1)
    assert labels(tested)["ILD (interstitial lung disease)"] == Label("ILD (interstitial lung disease)", 1)


def test_seven_absent_findings_are_left_out_of_the_text(raw):
    (sick, normal, _), _ = read(raw)
    assert sick.report.count(".") == 27 - 7
    assert all(word in sick.report.lower() for word in ("cardiomegaly", "nodule/mass", "other diseases"))
    assert normal.report.count(".") == 1


def test_boxes_of_all_readers_are_united(raw):
    (sick, normal, tested), _ = read(raw)
    assert normal.masks == {}
    assert sick.masks["Cardiomegaly"].data == [[10, 20, 20, 10], [12.5, 20.4, 27.5, pytest.approx(9.6)]]
    assert sick.masks["Cardiomegaly"].size == (40, 48)
    masks = {name: np.asarray(mask) for name, mask in decode_masks(sick.masks, raw, (48, 40)).items()}
    assert np.argwhere(masks["Cardiomegaly"])[[0, -1]].tolist() == [[20, 10], [29, 39]]
    assert masks["Nodule/Mass"].sum() == 16 * 255
    assert sorted(tested.masks) == ["ILD (interstitial lung disease)"]


def test_monochrome1_is_shown_with_black_air(raw):
    (sick, normal, _), _ = read(raw)
    stored = {record: clouds(bits=12, seed=seed).ravel() for record, seed in (("sick", 1), ("normal", 2))}
    for name, record, sign in (("sick", sick, -1), ("normal", normal, 1)):
        shown = np.asarray(open_image(raw / record.image_path)).ravel()
        assert sign * np.corrcoef(stored[name], shown)[0, 1] > 0.99


def test_what_is_skipped(raw):
    _, skipped = read(raw)
    assert [(one.key, one.kind) for one in skipped] == [
        (f"image_labels_train.csv {TREE.TWICE}", "reader listed twice"),
        (f"image_labels_train.csv {TREE.BROKEN}", skipped[1].kind),
        (f"annotations_train.csv {TREE.STRAY}", "box without a row"),
        (f"test/{'0' * 32}.dicom", "film without a row"),
    ]
    assert "DICOM" in skipped[1].reason


def test_the_tables_may_be_in_the_raw_folder(raw):
    before = read(raw)
    for path in (raw / "annotations").iterdir():
        path.rename(raw / path.name)
    assert read(raw) == before


def test_bad_cells_and_columns_are_named(raw):
    table = raw / "annotations" / "annotations_train.csv"
    table.write_text(table.read_text().replace("12.5", "left"))
    votes = raw / "annotations" / "image_labels_train.csv"
    text = votes.read_text()
    votes.write_text(text.replace(f"{TREE.NORMAL},R9,0", f"{TREE.NORMAL},R9,2"))
    reasons = [one.reason for one in read(raw)[1]]
    assert any("annotations_train.csv row 2: the box is ['left'" in reason for reason in reasons)
    assert any("image_labels_train.csv row 5 column 'Aortic enlargement'" in reason for reason in reasons)
    votes.write_text(text.replace("Other diseases", "Other"))
    with pytest.raises(DataError, match="'Other diseases' is missing"):
        read(raw)


@pytest.fixture
def kaggle(raw):
    """VinBigData: readers with boxes, with none, and one who says both."""
    folder = raw / "annotations"
    for path in (folder if folder.is_dir() else raw).glob("*.csv"):
        path.unlink()
    rows = [
        f"{TREE.SICK},Cardiomegaly,3,R1,10,20,25,30",
        f"{TREE.SICK},ILD,5,R1,1,2,5,6",
        f"{TREE.SICK},Cardiomegaly,3,R2,12,20,25,30",
        f"{TREE.SICK},No finding,14,R2,,,,",
        f"{TREE.SICK},No finding,14,R3,,,,",
    ]
    (raw / "train.csv").write_text("image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max\n" + "\n".join(rows))
    return raw


def test_the_layout_of_kaggle(kaggle):
    records, skipped = read(kaggle)
    assert [one.record_id for one in records] == [f"vindr_cxr/{TREE.SICK}"]
    found = labels(records[0])
    assert len(found) == 15
    assert found["Cardiomegaly"] == Label("Cardiomegaly", 1, 3, 2)
    assert found["ILD (interstitial lung disease)"].positive_readers == 1
    assert found["No Finding"] == Label("No Finding", 0, 3, 1), "a reader with boxes found something"
    assert found["Pneumothorax"] == Label("Pneumothorax", 0, 3, 0)
    assert set(records[0].masks) == {"Cardiomegaly", "ILD (interstitial lung disease)"}
    without_labels = [one for one in skipped if one.kind == "test film without labels"]
    assert without_labels
    assert all(one.on_request for one in without_labels)


def test_a_class_that_kaggle_has_not_and_a_missing_reader_are_named(kaggle):
    table = kaggle / "train.csv"
    text = table.read_text()
    table.write_text(text.replace("ILD,5", "Measles,5"))
    with pytest.raises(DataError, match=r"train\.csv row 2: class 'Measles' is unknown"):
        read(kaggle)
    table.write_text(text.replace("rad_id", "reader"))
    with pytest.raises(DataError, match="'rad_id' is missing"):
        read(kaggle)
