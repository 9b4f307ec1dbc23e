"""Kermany. Quirks: names of all versions, an RGB film, Kaggle's `val` and second copy, `__MACOSX` and hidden files."""

import pytest

from data_scripts.loaders import kermany
from data_scripts.schema import DataError
from tests.conftest import load_raw_tree
from tests.film_files import read_all, values_of, write_film


@pytest.fixture
def raw(tmp_path):
    return load_raw_tree("kermany").build(tmp_path)


def test_fields(raw):
    records, skipped = read_all(kermany, raw)
    assert skipped == []
    assert len(records) == 8, "the second copy is not read"
    normal = records["train/NORMAL/IM-0115-0001"]
    assert values_of(normal) == {"Pneumonia": 0, "Bacterial Pneumonia": 0, "Viral Pneumonia": 0}
    bacteria = records["train/PNEUMONIA/BACTERIA-1008087-0001"]
    assert values_of(bacteria) == {"Pneumonia": 1, "Bacterial Pneumonia": 1, "Viral Pneumonia": 0}
    virus = records["val/PNEUMONIA/person1946_virus_4874"]
    assert values_of(virus) == {"Pneumonia": 1, "Bacterial Pneumonia": 0, "Viral Pneumonia": 1}
    assert (virus.split, virus.patient_id) == ("validation", "train-person1946")


def test_patients(raw):
    records = read_all(kermany, raw)[0]
    patients = {key.split("/")[-1]: record.patient_id for key, record in records.items()}
    assert patients["person1_bacteria_1"] == patients["person1_bacteria_2"] == "train-person1"
    assert patients["person1_virus_6"] == "test-person1", "numbered anew in the test folder"
    assert patients["NORMAL2-IM-0035-0001"] == "train-NORMAL2-IM-0035"
    assert patients["BACTERIA-1008087-0001"] == "train-BACTERIA-1008087"


def test_bad_input(raw, tmp_path):
    write_film(raw / "chest_xray" / "test" / "NORMAL" / "holiday.jpeg")
    write_film(raw / "chest_xray" / "test" / "OTHER" / "IM-0002-0001.jpeg")
    reasons = [one.reason for one in read_all(kermany, raw)[1]]
    assert any("'holiday' is of no known form" in reason for reason in reasons)
    assert any("the folder is 'OTHER'" in reason for reason in reasons)
    with pytest.raises(DataError, match="neither chest_xray/test nor test is there"):
        read_all(kermany, tmp_path / "nothing")
