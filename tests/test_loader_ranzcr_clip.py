"""RANZCR CLiP. Quirks: several labels of a film, lines of different length as text, two lines of one label."""

import numpy as np
import pytest

from data_scripts.films.masks import decode_mask
from data_scripts.loaders import ranzcr_clip
from data_scripts.schema import DataError
from tests.conftest import load_raw_tree
from tests.film_files import read_all, values_of


@pytest.fixture
def raw(tmp_path):
    return load_raw_tree("ranzcr_clip").build(tmp_path)


def test_fields(raw):
    records, skipped = read_all(ranzcr_clip, raw)
    assert skipped == []
    first, second = records["1.2.826.1"], records["1.2.826.2"]
    assert {name for name, value in values_of(first).items() if value} == {"ETT - Normal", "CVC - Normal"}
    assert len(first.labels) == 11
    assert (first.patient_id, first.study_id, first.image_path) == ("ec89415d1", "1.2.826.1", "train/1.2.826.1.jpg")
    assert second.masks == {}, "lines are drawn for a part of the films"


def test_lines_become_tubes(raw):
    masks = read_all(ranzcr_clip, raw, tube_width=5)[0]["1.2.826.1"].masks
    assert set(masks) == {"CVC - Normal", "ETT - Normal"}
    pixels = np.asarray(decode_mask(masks["CVC - Normal"], raw)) > 0
    assert pixels.shape == (80, 100), "the frame is the film's own size"
    assert pixels[18:23, 40].all()
    assert not pixels[[17, 23], 40].any(), "five pixels thick"
    assert pixels[40, 60], "the second part of the bent line"
    assert pixels[70, 12], "the second line of the label"


def test_bad_input(raw):
    lines = raw / "train_annotations.csv"
    text = lines.read_text()
    lines.write_text(text.replace("[60, 50]]", "[60]]") + '9.9.9,CVC - Normal,"[[1, 2], [3, 4]]"\n')
    skipped = read_all(ranzcr_clip, raw)[1]
    assert "is not a list of points" in skipped[0].reason
    assert (skipped[1].key, skipped[1].kind) == ("9.9.9", "lines without a film")
    lines.write_text(text.replace("ETT - Normal", "ETT normal"))
    assert "unknown label 'ETT normal'" in read_all(ranzcr_clip, raw)[1][0].reason
    table = raw / "train.csv"
    table.write_text(table.read_text().replace("PatientID", "Patient"))
    with pytest.raises(DataError, match="'PatientID' is missing; the closest is 'Patient'"):
        read_all(ranzcr_clip, raw)
    with pytest.raises(ValueError, match="tube_width is 0"):
        ranzcr_clip.Options(tube_width=0)
