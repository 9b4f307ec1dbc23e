"""`python -m data_scripts.check`: each fault put into a sound folder is found, with its record and nothing else."""

import json
import shutil

import numpy as np
import pytest
from datasets import Dataset, load_dataset
from PIL import Image, ImageOps

from data_scripts.check.__main__ import check_folder, main
from data_scripts.features import FEATURES
from data_scripts.input_check.drawings import draw
from data_scripts.schema import DataError

LONG = (
    "The heart is not enlarged. There is a right pleural effusion of moderate size, and the left lung is clear but for "
    "a scar."
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Thirty rows of synthetic films at 112 px: whole ones, each of a patient of its own."""
    from data_scripts.loaders import synthetic
    from data_scripts.prepare import PrepareArguments, prepare

    out = tmp_path_factory.mktemp("sound") / "data"
    options = synthetic.Options(
        num_records=60, film_size=112, seed=5, broken_image_share=0, near_duplicate_share=0, wrong_report_share=0
    )
    prepare("synthetic", PrepareArguments(out=str(out), image_size=112, num_workers=1), options)
    rows = {row["patient_id"]: row for row in load_dataset(str(out), split="train")}
    return [row | {"report": f"Film {number} is clear."} for number, row in enumerate(list(rows.values())[:30])]


def found(tmp_path, rows: list[dict]) -> dict[str, set[str]]:
    """Record ids by kind of problem."""
    folder = tmp_path / "folder"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "data").mkdir(parents=True)
    for split in {row["split"] for row in rows}:
        of_split = [row for row in rows if row["split"] == split]
        Dataset.from_list(of_split, features=FEATURES).to_parquet(folder / "data" / f"{split}-00000.parquet")
    return {problem.kind: set(problem.records) for problem in check_folder(folder)}


def changed(rows: list[dict], changes: dict[int, dict]) -> list[dict]:
    return [row | changes.get(number, {}) for number, row in enumerate(rows)]


def half(film: Image.Image) -> Image.Image:
    cut = film.copy()
    cut.paste(200, (0, film.height // 3, film.width, film.height))
    return cut


def with_mask(row: dict, mask: Image.Image) -> dict:
    return {"masks": [{"name": "heart", "image": mask}]}


CASES = {
    "patients in several splits": lambda rows: {0: {"split": "test", "patient_id": rows[1]["patient_id"]}},
    "studies in several splits": lambda rows: {0: {"split": "test", "study_id": rows[1]["study_id"]}},
    "a study of several patients": lambda rows: {0: {"study_id": rows[1]["study_id"]}},
    "one patient id for many": lambda rows: {number: {"patient_id": "P9"} for number in range(20)},
    "one study id for most films": lambda rows: {
        number: {"patient_id": "P9", "study_id": "S9"} for number in range(20)
    },
    "ids that look like names or dates": lambda rows: {0: {"patient_id": "DOE^JANE"}, 1: {"study_id": "19450312"}},
    "reports equal across patients": lambda rows: {0: {"report": LONG}, 1: {"report": LONG.upper()}},
    "control characters in the report": lambda rows: {
        0: {"report": "The patient\x92s heart"},
        1: {"report": "\ufffdx"},
    },
    "markup in the report": lambda rows: {0: {"report": r"Clear.\.br\Normal."}, 1: {"report": "<b>Clear</b>"}},
    "report may tell who the patient is": lambda rows: {
        0: {"report": "Seen by Dr. Miller."},
        1: {"report": "MRN 123456"},
    },
    "equal films in several splits": lambda rows: {0: {"split": "test", "image": rows[1]["image"]}},
    "equal films of several patients": lambda rows: {0: {"image": rows[1]["image"]}},
    "blank film": lambda rows: {0: {"image": Image.new("L", (112, 112), 9)}},
    "film looks broken (flat or noise)": lambda rows: {0: {"image": half(rows[0]["image"])}},
    "film looks inverted": lambda rows: {0: {"image": ImageOps.invert(rows[0]["image"])}},
    "frontal film looks lateral": lambda rows: {0: {"image": draw("lateral", np.random.default_rng(1)), "view": "PA"}},
    "frontal film looks turned": lambda rows: {0: {"image": rows[0]["image"].rotate(90), "view": "AP"}},
    "frontal film does not look like one": lambda rows: {
        0: {"image": draw("abdomen", np.random.default_rng(1)), "view": "PA"}
    },
    "mask of another size than its film": lambda rows: {0: with_mask(rows[0], Image.new("L", (56, 56), 255))},
    "mask is empty": lambda rows: {0: with_mask(rows[0], Image.new("L", (112, 112)))},
    "mask covers the whole film": lambda rows: {0: with_mask(rows[0], Image.new("L", (112, 112), 255))},
    "labels contradict the report": lambda rows: {
        0: {"report": "No pneumothorax.", "labels": [{"name": "Pneumothorax", "value": 1}]}
    },
}


def test_a_sound_folder_has_no_problem(tmp_path, sound):
    assert found(tmp_path, [row | {"labels": []} for row in sound]) == {}


@pytest.mark.parametrize("kind", CASES)
def test_each_fault_is_found(tmp_path, sound, kind):
    changes = CASES[kind](sound)
    rows = changed([row | {"labels": []} for row in sound], changes)
    problems = found(tmp_path, rows)
    assert kind in problems
    assert {rows[number]["record_id"] for number in changes} <= problems[kind]
    # At most the other record of a pair besides.
    assert len(problems[kind]) <= len(changes) + 1


def test_command_exit_codes_and_file(tmp_path, sound, capsys):
    rows = changed([row | {"labels": []} for row in sound], {0: {"report": "<b>Clear</b>"}})
    found(tmp_path, rows)
    folder = str(tmp_path / "folder")
    assert _exit_code([folder, "--num_workers", "1"]) == 0
    printed = capsys.readouterr().out
    assert "markup in the report" in printed
    assert rows[0]["record_id"] not in printed
    found(tmp_path, changed(rows, {1: {"image": ImageOps.invert(rows[1]["image"])}}))
    assert _exit_code([folder, "--num_workers", "1", "--out", str(tmp_path / "check.json")]) == 1
    written = json.loads((tmp_path / "check.json").read_text())["problems"]
    assert [(problem["kind"], problem["records"]) for problem in written if problem["is_error"]] == [
        ("film looks inverted", [rows[1]["record_id"]])
    ]
    assert _exit_code([str(tmp_path / "nothing")]) == 2
    assert _exit_code([]) == 2


def test_damaged_files_are_found(tmp_path, tiny_corpus):
    copy = tmp_path / "data"
    shutil.copytree(tiny_corpus, copy)
    summary = json.loads((copy / "summary.json").read_text())
    name = next(iter(summary["sha256"]))
    summary["sha256"][name] = "0" * 64
    (copy / "summary.json").write_text(json.dumps(summary))
    kinds = {problem.kind: problem.records for problem in check_folder(copy)}
    assert kinds["files missing or other than prepared (by summary.json)"] == (name,)


def test_an_unfinished_folder_is_refused(tmp_path):
    (tmp_path / ".prepare").mkdir()
    with pytest.raises(DataError, match="not finished"):
        check_folder(tmp_path)


def _exit_code(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return end.value.code
