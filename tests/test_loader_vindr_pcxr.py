"""VinDr-PCXR field by field. Quirks covered: `rad_ID`; misspelt columns and boxes, written correctly; 0.0 and 1.0; one
reader a film; a diagnosis without positives; ages in months and days.
"""

import pytest

from data_scripts.loaders import vindr_pcxr
from data_scripts.schema import Label, Record
from tests.conftest import load_raw_tree

TREE = load_raw_tree("vindr_pcxr")


@pytest.fixture
def records(tmp_path):
    outcome = list(vindr_pcxr.read_records(TREE.build(tmp_path), vindr_pcxr.Options(validation_share=0)))
    assert all(isinstance(one, Record) for one in outcome)
    return outcome


def test_fields(records):
    sick, normal, tested = records
    assert sick.record_id == f"vindr_pcxr/{TREE.SICK}"
    assert sick.image_path == f"train/{TREE.SICK}.dicom"
    assert (sick.split, sick.view, sick.sex, sick.age_years) == ("train", "UNKNOWN", "M", 1.5)
    assert normal.age_years == 0.01
    assert tested.split == "test"


def test_labels_are_spelt_correctly(records):
    sick, normal, tested = records
    present = [label for label in sick.labels if label.value == 1]
    assert present == [
        Label("Bronchopneumonia", 1, 1, 1),
        Label("Diaphragmatic hernia", 1, 1, 1),
        Label("CPAM (congenital pulmonary airway malformation)", 1, 1, 1),
    ]
    assert all(len(record.labels) == 15 for record in records)
    assert {label.value for record in records for label in record.labels if label.name == "Lung tumor"} == {0}
    assert [label.name for label in normal.labels if label.value] == ["No Finding"]
    assert [label.name for label in tested.labels if label.value] == ["Bronchitis"]


def test_text(records):
    sick, normal, _ = records
    assert sick.report.count(".") == 14
    assert "CPAM (congenital" in sick.report
    assert normal.report.count(".") == 1


def test_masks_are_named_after_the_boxed_findings(records):
    sick, normal, tested = records
    assert {name: mask.data for name, mask in sick.masks.items()} == {
        "Diffuse alveolar opacity": [[2, 3, 18, 27]],
        "Bronchiectasis": [[20, 3, 2, 27]],
    }
    assert normal.masks == {}
    assert sorted(tested.masks) == ["Bronchial thickening"]
