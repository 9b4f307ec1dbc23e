"""Montgomery. Quirks: lungs apart, a missing outline, readings with sex and age, a missing reading, Thumbs.db."""

import numpy as np
import pytest

from data_scripts.films.masks import decode_masks
from data_scripts.loaders import montgomery
from data_scripts.schema import DataError
from tests.conftest import load_raw_tree
from tests.film_files import read_all, values_of, write_film


@pytest.fixture
def raw(tmp_path):
    return load_raw_tree("montgomery").build(tmp_path)


def test_fields(raw):
    records, skipped = read_all(montgomery, raw)
    assert skipped == []
    first, second, third = records.values()
    assert [values_of(record)["Tuberculosis"] for record in records.values()] == [0, 1, 1]
    assert (first.sex, first.age_years, first.findings, first.report_origin) == ("F", 27, "normal", "note")
    assert (second.sex, second.age_years, second.findings) == ("M", 64, "invented\nsecond line")
    assert (third.sex, third.age_years, third.findings) == (None, None, "")
    assert {record.split for record in records.values()} == {"test"}


def test_lungs_are_the_union_of_both(raw):
    first, _, third = read_all(montgomery, raw)[0].values()
    masks = {name: np.asarray(mask) > 0 for name, mask in decode_masks(first.masks, raw, (64, 64)).items()}
    assert masks["left lung"][20, 50]
    assert not masks["right lung"][20, 50]
    assert (masks["lungs"] == (masks["left lung"] | masks["right lung"])).all()
    assert set(third.masks) == {"left lung"}, "one outline is missing, so there are no lungs together"


def test_other_root_and_bad_names(raw, tmp_path):
    (raw / "NLM-MontgomeryCXRSet").mkdir()
    (raw / "MontgomerySet").rename(raw / "NLM-MontgomeryCXRSet" / "MontgomerySet")
    write_film(raw / "NLM-MontgomeryCXRSet/MontgomerySet/CXR_png/MCUCXR_0001_2.png")
    records, skipped = read_all(montgomery, raw)
    assert len(records) == 3
    assert "MCUCXR_0001_2: the name is not" in skipped[0].reason
    with pytest.raises(DataError, match="CXR_png is in none of"):
        read_all(montgomery, tmp_path / "nothing")
