"""Methods over bases, problems and shares: wins by hand, every cell in the table, the files, what is refused."""

import json

import pytest

from eval.studies.methods import base_name, main
from tests.run_records import BASE, pretrain_run
from tests.test_adaptations import make_run

OTHER = {**BASE, "name": "runs/mae/model", "weights_sha256": "3" * 64}
#: How far the scores of a method are from noise, by base and share.
SKILLS = {
    ("base", 0.1): {"full": 1.0, "lora": 3.0},
    ("base", 1.0): {"full": 3.0, "lora": 1.0},
    ("mae", 0.1): {"full": 0.3, "lora": 3.0},
    ("mae", 1.0): {"full": 1.0, "lora": 3.0},
}


def made_grid(root, seeds=(0, 1)) -> list[str]:
    folders = []
    for (base, share), skills in SKILLS.items():
        for method, skill in skills.items():
            for seed in seeds:
                record = {"base": BASE if base == "base" else OTHER, "peak_memory": 2_000_000}
                folders.append(make_run(root / base, method, share, seed, skill, **record)[0])
    return list(map(str, folders))


def test_wins_and_cells(tmp_path, capsys):
    folders = made_grid(tmp_path)
    main([*folders, "--out", str(tmp_path / "out" / "methods"), "--resamples", "100"])
    study = json.loads((tmp_path / "out" / "methods.json").read_text())
    (wins,) = study["wins"]
    assert {name: wins[name] for name in ("method", "cells", "better", "worse")} == {
        "method": "lora", "cells": 4, "better": 3, "worse": 1,
    }  # fmt: skip
    # With such gaps all four differences are beyond chance.
    assert (wins["surely_better"], wins["surely_worse"]) == (3, 1)
    by_share = {share: rows[0]["better"] for share, rows in study["wins_by_share"].items()}
    assert by_share == {"10 %": 2, "100 %": 1}
    assert [(problem["base"], problem["name"]) for problem in study["problems"]] == [
        ("base", "Edema, Nodule"), ("mae", "Edema, Nodule"),
    ]  # fmt: skip
    differences = {
        (problem["base"], cell["level"]): cell["figures"]["macro"]["difference"]["value"]
        for problem in study["problems"]
        for cell in problem["comparison"]["cells"]
        if cell["arm"] == "lora"
    }
    assert {key: value > 0 for key, value in differences.items()} == {
        key: skills["lora"] > skills["full"] for key, skills in SKILLS.items()
    }
    assert wins["mean_difference"] == pytest.approx(sum(differences.values()) / 4)
    text = (tmp_path / "out" / "methods.md").read_text()
    assert text.count("\n| base |") == 1 + 2
    assert text.count("\n| mae |") == 2
    assert "| lora | 10 % | 1.00% | 2.00 MB | 10 | 2 MB |" in text
    assert (tmp_path / "out" / "methods.png").stat().st_size > 10_000
    assert "written:" in capsys.readouterr().out


def test_a_cell_that_is_missing_is_a_dash_and_counts_nowhere(tmp_path):
    folders = [name for name in made_grid(tmp_path, seeds=(0,)) if "mae/full-1.0" not in name]
    main([*folders, "--out", str(tmp_path / "methods"), "--resamples", "20"])
    study = json.loads((tmp_path / "methods.json").read_text())
    assert study["wins"][0]["cells"] == 3
    lines = (tmp_path / "methods.md").read_text().splitlines()
    (row,) = [line for line in lines if "| mae |" in line and "100 %" in line]
    assert row.split(" | ")[4] == "-"
    assert row.rstrip(" |").endswith("-")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--reference", "dora"], "'dora' is none of"),
        (["--resamples", "1"], "at least 2"),
    ],
)
def test_contradictory_words_are_refused(tmp_path, words, message):
    folders = made_grid(tmp_path, seeds=(0,))
    with pytest.raises(SystemExit, match=message):
        main([*folders, *words])


def test_other_runs_are_refused(tmp_path):
    with pytest.raises(SystemExit, match="no run folder"):
        main([])
    pretrain_run().write(tmp_path)
    with pytest.raises(SystemExit, match="zero_shot_findings"):
        main([str(tmp_path)])


def test_bases_are_named_by_their_run():
    assert base_name({"name": "runs/encoders/mae/model"}) == "mae"
    assert base_name({"name": "facebook/vit-mae-base"}) == "vit-mae-base"
