"""CheXlocalize. Quirks: films of a study share labels, "Airspace Opacity", empty and absent segmentations, paths of two
kinds, a table of studies in place of films.
"""

import numpy as np
import pytest

from data_scripts.films.masks import decode_mask
from data_scripts.loaders import chexlocalize
from data_scripts.schema import DataError
from tests.conftest import load_raw_tree
from tests.film_files import read_all, values_of, write_table


@pytest.fixture
def raw(tmp_path):
    return load_raw_tree("chexlocalize").build(tmp_path)


def test_fields(raw):
    records, skipped = read_all(chexlocalize, raw)
    assert skipped == []
    assert [record.split for record in records.values()] == ["validation", "test", "test", "test"]
    first = records["patient64741_study1_view1_frontal"]
    assert (first.patient_id, first.study_id) == ("patient64741", "patient64741_study1")
    assert first.image_path == "CheXpert/test/patient64741/study1/view1_frontal.jpg"
    positives = {name for name, value in values_of(first).items() if value == 1}
    assert positives == {"Lung Opacity", "Edema"}
    assert len(first.labels) == 14
    lateral = records["patient64741_study1_view2_lateral"]
    assert (lateral.view, first.view) == ("LATERAL", "UNKNOWN"), "a frontal film of unknown direction"
    assert values_of(lateral) == values_of(first), "labels are of the study"
    assert lateral.masks == {}
    validation = records["patient64541_study1_view1_frontal"]
    assert (validation.view, validation.sex, validation.age_years) == ("AP", "F", 73)


def test_segmentations(raw):
    masks = read_all(chexlocalize, raw)[0]["patient64741_study1_view1_frontal"].masks
    assert set(masks) == {"Lung Opacity", "Edema", "Cardiomegaly"}
    pixels = np.asarray(decode_mask(masks["Edema"], raw))
    assert pixels.shape == (64, 80)
    assert np.argwhere(pixels).tolist() == [[0, 2], [1, 2], [2, 2]], "runs go down the columns"
    assert not np.asarray(decode_mask(masks["Cardiomegaly"], raw)).any()


def test_first_films_alone(raw):
    records, skipped = read_all(chexlocalize, raw, first_film_only=True)
    assert skipped == []
    assert [key for key in records if "64741" in key] == ["patient64741_study1_view1_frontal"]


def test_table_of_studies(raw):
    labels = load_raw_tree("chexlocalize").LABELS
    write_table(
        raw / "groundtruth.csv",
        f"Study,{labels}",
        "CheXpert-v1.0/test/patient64741/study1,0,0,0,0,0,1,0,0,0,0,0,0,0,0",
        "CheXpert-v1.0/test/patient64742/study1,1,0,0,0,0,0,0,0,0,0,0,0,0,0",
        "CheXpert-v1.0/test/patient64743/study1,1,0,0,0,0,0,0,0,0,0,0,0,0,0",
    )
    records, skipped = read_all(chexlocalize, raw, test_labels="groundtruth.csv")
    assert [values_of(record)["Edema"] for record in records.values()] == [0, 1, 1, 0]
    assert [(one.key, one.kind) for one in skipped] == [("groundtruth.csv row 3", "image file missing")]


def test_bad_input(raw):
    table = raw / "CheXpert" / "test_labels.csv"
    text = table.read_text()
    table.write_text(text.replace("view1_frontal.jpg,1,0", "view1_frontal.jpg,1,2"))
    assert "column 'Enlarged Cardiomediastinum'" in read_all(chexlocalize, raw)[1][0].reason
    table.write_text(text.replace("Edema", "Oedema"))
    with pytest.raises(DataError, match="'Edema' is missing; the closest is 'Oedema'"):
        read_all(chexlocalize, raw)
    table.write_text(text)
    (raw / "CheXpert/test/patient64741/study1/view1_frontal.jpg").unlink()
    kinds = [one.kind for one in read_all(chexlocalize, raw)[1]]
    assert kinds == ["image file missing", "mask without a film"]
    (raw / "CheXlocalize" / "gt_segmentations_test.json").write_text("{")
    with pytest.raises(DataError, match="not readable as JSON"):
        read_all(chexlocalize, raw)
