"""R2Gen's MIMIC-CXR. Quirks: films below another download, a study without labels, ids that are numbers."""

import json
import shutil

import pytest

from data_scripts.loaders import mimic_r2gen
from tests.conftest import load_raw_tree
from tests.film_files import read_all, values_of


@pytest.fixture
def raw(tmp_path):
    return load_raw_tree("mimic_r2gen").build(tmp_path)


def test_fields(raw):
    records, skipped = read_all(mimic_r2gen, raw, mimic_dir="mimic-cxr-jpg")
    assert skipped == []
    first, second = records["aaaa1111-bbbb2222"], records["cccc3333-dddd4444"]
    assert (first.patient_id, first.study_id, first.split, first.view) == ("10000001", "50000001", "train", "PA")
    assert first.image_path == "mimic-cxr-jpg/files/p10/p10000001/s50000001/aaaa1111-bbbb2222.jpg"
    assert first.findings == "Invented findings 0."
    assert values_of(first) == {"Cardiomegaly": 1, "Edema": 0, "Enlarged Cardiomediastinum": -1}
    assert (second.split, second.view, second.labels) == ("validation", "LATERAL", [])


def test_own_images_folder(raw):
    shutil.move(raw / "mimic-cxr-jpg" / "files", raw / "images")
    records, skipped = read_all(mimic_r2gen, raw)
    assert skipped == []
    assert records["aaaa1111-bbbb2222"].image_path == "images/p10/p10000001/s50000001/aaaa1111-bbbb2222.jpg"
    assert records["aaaa1111-bbbb2222"].view == "UNKNOWN"


def test_bad_input(raw):
    path = raw / "annotation.json"
    content = json.loads(path.read_text())
    del content["val"][0]["subject_id"]
    path.write_text(json.dumps(content))
    skipped = read_all(mimic_r2gen, raw, mimic_dir="mimic-cxr-jpg")[1]
    assert "the item has no ['subject_id']" in skipped[0].reason
    assert {one.kind for one in read_all(mimic_r2gen, raw)[1]} == {"image file missing"}
