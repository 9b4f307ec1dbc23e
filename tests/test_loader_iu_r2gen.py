"""R2Gen's IU X-ray. Quirks: two films of a report, a list with a blank name, the id with a number, labels by XML."""

import json

import pytest

from data_scripts.loaders import iu_r2gen
from data_scripts.schema import DataError
from tests.conftest import load_raw_tree
from tests.film_files import read_all, values_of


@pytest.fixture
def raw(tmp_path):
    return load_raw_tree("iu_r2gen").build(tmp_path)


def test_fields(raw):
    records, skipped = read_all(iu_r2gen, raw)
    assert skipped == []
    assert {key: (record.split, record.patient_id) for key, record in records.items()} == {
        "CXR1_1_IM-0001-0": ("train", "CXR1"),
        "CXR1_1_IM-0001-1": ("train", "CXR1"),
        "CXR2384_IM-0942-0": ("test", "CXR2384"),
        "CXR2384_IM-0942-1": ("test", "CXR2384"),
    }
    record = records["CXR2384_IM-0942-1"]
    assert record.image_path == "images/CXR2384_IM-0942/1.png"
    assert (record.findings, record.impression, record.labels) == ("Invented large heart. XXXX.", "", [])


def test_labels_of_open_i(raw):
    records, _ = read_all(iu_r2gen, raw, open_i=".")
    assert values_of(records["CXR2384_IM-0942-0"])["Cardiomegaly"] == 1
    assert values_of(records["CXR1_1_IM-0001-0"])["No Finding"] == 1
    (raw / "ecgen-radiology" / "2384.xml").write_text("<broken")
    reasons = [one.reason for one in read_all(iu_r2gen, raw, open_i=".")[1]]
    assert len(reasons) == 2
    assert "Open-I's report CXR2384 is missing or broken" in reasons[0]


def test_bad_input(raw):
    path = raw / "annotation.json"
    content = json.loads(path.read_text())
    (raw / "images" / "CXR2384_IM-0942" / "0.png").unlink()
    assert [one.key for one in read_all(iu_r2gen, raw)[1]] == ["annotation.json test item 1"]
    path.write_text(json.dumps({"test": [{**content["test"][0], "split": "dev"}]}))
    skipped = read_all(iu_r2gen, raw)[1]
    assert (skipped[0].key, skipped[0].kind) == ("annotation.json test item 1", "unknown split")
    path.write_text(json.dumps({"test": [{"id": "CXR2384_IM-0942"}, 7]}))
    skipped = read_all(iu_r2gen, raw)[1]
    assert "['image_path', 'report'] missing or blank" in skipped[0].reason
    assert skipped[1].kind == "no item"
    path.write_text("[]")
    with pytest.raises(DataError, match="expected an object of lists"):
        read_all(iu_r2gen, raw)
    path.unlink()
    with pytest.raises(DataError, match="annotation file is missing"):
        read_all(iu_r2gen, raw)
