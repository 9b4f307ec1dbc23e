"""Studies: what a file means, which cells are run, kept, resumed or refused, and one real cell from end to end."""

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
import yaml

from tests.warm import CONTEXT
from train.adapt.__main__ import ARGUMENTS as ADAPT_ARGUMENTS
from train.masked_autoencoding.__main__ import ARGUMENTS as AUTOENCODING_ARGUMENTS
from train.pretrain.arguments import ModelArguments
from train.pretrain.training_arguments import CuratedTrainingArguments
from train.runs.recipes import DataArguments, parse_recipe
from train.self_supervised.__main__ import ARGUMENTS as DISTIL_ARGUMENTS
from train.studies import processes
from train.studies.processes import run_module
from train.studies.reading import read_study
from train.studies.running import as_command, commands_left, locked_log, training_command
from train.study import main, threads

REPOSITORY = Path(__file__).parents[1]
STUDIES = sorted((REPOSITORY / "train" / "studies").glob("*.yaml"))
#: What studies ask for that are not of one place and corpus.
OPTIONS = {
    "hospital": {
        "raw": "films", "mapping": "films.yaml", "reports_model": "starts/clip", "films_model": "starts/dino",
        "bf16": False,
    }
}  # fmt: skip
#: Stands for a trainer: it says what it got, and can save a checkpoint, wait, fail, or end without a record.
TRAINER = """
import argparse, json, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from eval.records.runs import PretrainRun
words = argparse.ArgumentParser()
words.add_argument("--output_dir", type=Path)
words.add_argument("--seed", type=int, default=0)
words.add_argument("--rate", type=float, default=1.0)
words.add_argument("--do", default="train")
words.add_argument("--resume_from_checkpoint")
given = words.parse_args([word for word in sys.argv[1:] if not word.endswith(".yaml")])
given.output_dir.mkdir(parents=True, exist_ok=True)
with (given.output_dir / "calls").open("a") as calls:
    calls.write(f"{given.rate} {given.resume_from_checkpoint}\\n")
if given.do == "fail":
    print("first words")
    sys.exit("the film is upside down")
stop = Path("stop")
if given.do in ("save", "wait") and stop.is_file():
    if given.do == "save":
        (given.output_dir / "checkpoint-5").mkdir()
    (given.output_dir / "half").touch()
    time.sleep(float(stop.read_text()))
if given.do != "nothing":
    PretrainRun(
        selection="none", keep_share_asked=None, keep_share_reached=1.0, corpus_pairs=1, kept_pairs=1, schedule={},
        pairs_trained=1, pairs_scored=0, seed=given.seed, steps=1, seconds=1.0, settings={"rate": given.rate},
    ).write(given.output_dir)
"""
#: Stands for eval.run and eval.studies.
OTHERS = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
if sys.argv[1] == "--model":
    results = Path(sys.argv[2]) / "results"
    results.mkdir(exist_ok=True)
    with (results / "film.json").open("a") as file:
        file.write(" ".join(sys.argv[3:]) + "\\n")
else:
    Path("compared").write_text(" ".join(sys.argv[1:]))
"""


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """An empty folder to work in, with stand-ins for the commands."""
    (tmp_path / "stub_trainer.py").write_text(TRAINER)
    (tmp_path / "stub_others.py").write_text(OTHERS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{REPOSITORY}")
    return tmp_path


def write_study(place: Path, grid: dict | None = None, **changes) -> str:
    """Two arms and two seeds of the stand-in, judged and compared; `grid` and `changes` come over that."""
    cells = {
        "command": "stub_trainer",
        "arms": {"slow": {"rate": 0.5}, "fast": {"rate": 2.0}},
        "seeds": [0, 1],
        "evaluate": {"command": "stub_others", "results": ["film"]},
        "compare": {"command": "stub_others", "arguments": {"out": "c"}},
    }
    study = {"output_dir": "out", "grids": {"grid": cells | (grid or {})}} | changes
    (place / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    return "study.yaml"


def calls(cell: str, place: Path = Path()) -> list[str]:
    """How the trainer of a cell was called: rate and checkpoint."""
    file = place / "out/grid" / cell / "calls"
    return file.read_text().splitlines() if file.is_file() else []


def written(place: Path) -> dict[str, int]:
    """When each record and result was written."""
    return {str(file): file.stat().st_mtime_ns for file in sorted(place.glob("out/**/*.json"))}


def test_missing_cells_are_run_and_finished_ones_are_kept(place, capsys):
    study = write_study(place)
    main([study, "--jobs", "2"])
    cells = ["slow-0", "slow-1", "fast-0", "fast-1"]
    assert [calls(cell) for cell in cells] == [["0.5 None"]] * 2 + [["2.0 None"]] * 2
    assert Path("compared").read_text() == " ".join([*(f"out/grid/{cell}" for cell in cells), "--out c"])
    printed = capsys.readouterr().out
    assert "4 cells: 0 are there, 4 to run, 2 at a time" in printed
    assert "[4/4] out/grid/" in printed
    before = written(place)
    assert len(before) == 12
    main([study])
    assert written(place) == before
    assert "4 cells: 4 are there, 0 to run" in capsys.readouterr().out
    # A result that is gone is judged anew, and nothing is trained.
    Path("out/grid/slow-1/results/film.json").unlink()
    main([study])
    assert len(calls("slow-1")) == 1
    assert Path("out/grid/slow-1/results/film.json").is_file()
    (place / "out/grid/fast-0/run.json").unlink()
    main([study])
    assert (len(calls("fast-0")), len(calls("fast-1"))) == (2, 1)
    # Results of the weights before were made anew, too.
    assert len(Path("out/grid/fast-0/results/film.json").read_text().splitlines()) == 2


def test_other_evaluation_judges_again_and_trains_nothing(place):
    main([write_study(place)])
    main([write_study(place, {"evaluate": {"command": "stub_others", "results": ["film"], "arguments": {"limit": 3}}})])
    assert Path("out/grid/slow-0/results/film.json").read_text().splitlines() == ["", "--limit 3"]
    assert len(calls("slow-0")) == 1


def _run_study(place: Path) -> None:
    """In a process of its own: a session with its own server of commands, which preloads nothing for the stand-ins."""
    os.setsid()
    # A shell starts what runs in the background with interruptions ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(place)
    sys.path.insert(0, str(place))
    forkserver._forkserver.__init__()
    processes._PRELOADED = ()
    sys.argv = ["train.study", "study.yaml"]
    runpy.run_module("train.study", run_name="__main__")


def start_and_wait(place: Path, cell: str) -> ForkServerProcess:
    """A study in processes of their own, until the trainer of a cell is in the middle."""
    study = CONTEXT.Process(target=_run_study, args=(place,))
    study.start()
    deadline = time.monotonic() + 600
    while not (place / "out/grid" / cell / "half").is_file():
        assert study.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return study


@pytest.mark.parametrize(("do", "resumed"), [("save", "last"), ("wait", "None")])
def test_a_killed_study_goes_on(place, do, resumed):
    """Everything is killed in the second cell: it is resumed where it saved checkpoints, else begun anew."""
    write_study(place, {"arms": {"first": {}, "second": {"do": do}}, "seeds": []})
    (place / "stop").write_text("60")
    study = start_and_wait(place, "second")
    os.killpg(study.pid, signal.SIGKILL)
    study.join()
    (place / "stop").unlink()
    first = Path("out/grid/first/run.json").stat().st_mtime_ns
    if do == "save":
        other = write_study(place, {"arms": {"first": {}, "second": {"do": do, "rate": 9.0}}, "seeds": []})
        with pytest.raises(SystemExit, match=r"out/grid/second was begun with other arguments: rate None -> 9.0"):
            main([other])
        write_study(place, {"arms": {"first": {}, "second": {"do": do}}, "seeds": []})
    assert not Path("out/grid/second/run.json").exists()
    main(["study.yaml"])
    assert Path("out/grid/first/run.json").stat().st_mtime_ns == first
    assert calls("second") == ["1.0 None", f"1.0 {resumed}"]
    assert Path("compared").is_file()


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda signal_: signal_.name)
def test_what_a_study_runs_ends_with_it(place, signal_):
    """The signal is for the study alone; its trainer would go on for ten minutes."""
    write_study(place, {"arms": {"second": {"do": "wait"}}, "seeds": []})
    (place / "stop").write_text("600")
    study = start_and_wait(place, "second")
    os.kill(study.pid, signal_)
    study.join(60)
    assert study.exitcode == -signal_
    began = time.monotonic()
    # The log is locked as long as the trainer lives.
    with locked_log(place / "out/grid/second/study.log"):
        assert time.monotonic() - began < 60
    (place / "stop").unlink()
    main(["study.yaml"])
    assert len(calls("second")) == 2
    assert Path("compared").is_file()


def test_a_cell_that_another_study_runs_is_waited_for(place, capsys):
    """Two must not write into the same folder."""
    write_study(place, {"arms": {"second": {"do": "wait"}}, "seeds": []})
    (place / "stop").write_text("3")
    study = start_and_wait(place, "second")
    main(["study.yaml"])
    assert "study.log is being written by another process: waiting for it" in capsys.readouterr().out
    assert len(calls("second")) == 1
    study.join()
    assert study.exitcode == 0
    assert Path("compared").is_file()


def test_changed_arguments_are_refused_and_nothing_is_run(place):
    (place / "recipe.yaml").write_text("batch: 8\n")
    grid = {"command": "stub_trainer recipe.yaml"}
    main([write_study(place, grid), "--only", "slow"])
    other = {**grid, "arms": {"slow": {"rate": 3e-1}, "fast": {"rate": 2.0}}}
    with pytest.raises(
        SystemExit, match=r"nothing was run:\n  out/grid/slow-0 was run with other arguments: rate 0.5 ->"
    ):
        main([write_study(place, other)])
    assert (calls("fast-0"), len(calls("slow-0"))) == ([], 1)
    (place / "recipe.yaml").write_text("batch: 4\n")
    with pytest.raises(SystemExit, match=r"slow-1 was run with other arguments: batch 8 -> 4. Give the former"):
        main([write_study(place, grid)])
    # Run by hand, without the study's own record.
    Path("out/grid/slow-0/study.json").unlink()
    Path("out/grid/slow-1/study.json").unlink()
    main([write_study(place, grid), "--dry_run"])
    with pytest.raises(SystemExit, match=r"slow-0 was run with other arguments: rate 0.5 -> 0.3"):
        main([write_study(place, other)])


def test_a_failed_cell_is_told_and_the_others_run(place, capsys):
    study = write_study(place, {"arms": {"bad": {"do": "fail"}, "empty": {"do": "nothing"}, "good": {}}, "seeds": [0]})
    with pytest.raises(SystemExit, match=r"error: 2 failed: out/grid/bad-0, out/grid/empty-0"):
        main([study])
    printed = capsys.readouterr().out
    assert "out/grid/bad-0: FAILED" in printed
    assert "exit 1, last lines of out/grid/bad-0/study.log:\n    first words\n    the film is upside down" in printed
    assert "ended well, but out/grid/empty-0/run.json is not there" in printed
    assert Path("out/grid/good-0/results/film.json").is_file()
    assert "grid is not compared yet: 2 of its cells are not there" in printed
    assert not Path("compared").exists()
    # Once mended, they are run as the file now says.
    main([write_study(place, {"arms": {"bad": {"rate": 2.0}, "empty": {}, "good": {}}, "seeds": [0]})])
    assert calls("bad-0") == ["1.0 None", "2.0 None"]
    assert len(calls("good-0")) == 1
    assert Path("compared").is_file()


def test_a_dry_run_lists_commands_and_runs_nothing(place, capsys):
    study = write_study(place, {"axes": {"size": {"small": {"side": 56}}}, "seeds": [1]})
    main([study, "--dry_run", "--only", "fast"])
    assert capsys.readouterr().out.splitlines() == [
        "python -m stub_trainer --rate 2.0 --side 56 --seed 1 --output_dir out/grid/fast-small-1",
        "python -m stub_others --model out/grid/fast-small-1",
        "python -m stub_others out/grid/fast-small-1 --out c",
    ]
    assert not Path("out").exists()


def test_a_reader_that_has_seen_enough_ends_a_dry_run_in_silence(place):
    """As `| head` does."""
    write_study(place, {"seeds": list(range(300))})
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "train.study", "study.yaml", "--dry_run"], stdout=closed, stderr=subprocess.PIPE
        )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_part_of_a_study_has_all_arms_of_its_seeds_and_is_compared(place, capsys):
    study = write_study(place, {"axes": {"size": {"small": {"rate": 1.0}, "large": {"rate": 2.0}}}, "seeds": [1, 2]})
    main([study, "--dry_run", "--only", "size=small"])
    trainings = [line for line in capsys.readouterr().out.splitlines() if "trainer" in line]
    folders = [line.rsplit("/", 1)[1] for line in trainings]
    assert folders == ["slow-small-1", "fast-small-1", "slow-small-2", "fast-small-2"]
    main([study, "--only", "seed=1,size=small"])
    assert "comparing grid, 2 cells" in capsys.readouterr().out
    assert Path("compared").is_file()
    Path("compared").unlink()
    main([study, "--only", "seed=1,seed=2"])
    # The whole grid is there now.
    assert "comparing grid, 8 cells" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="'size=smal' is unknown, did you mean 'size=small'"):
        main([study, "--only", "size=smal"])


def test_an_arm_of_one_grid_can_be_named(place, capsys):
    grid = {"command": "stub_trainer", "arms": {"slow": {"rate": 0.5}, "fast": {"rate": 2.0}}, "seeds": [0, 1]}
    study = write_study(place, grids={"low": grid, "high": grid})
    main([study, "--dry_run", "--only", "high,fast"])
    folders = [line.split("--output_dir ")[1].split()[0] for line in capsys.readouterr().out.splitlines()]
    assert folders == ["out/high/fast-0", "out/high/fast-1"]


def test_numbers_may_be_written_otherwise(place, capsys):
    study = write_study(place, {"axes": {"rate": [0.002, 1.0]}, "arms": {}, "seeds": []})
    for name, folder in {"rate=2e-3": "0.002", "rate=1": "1.0"}.items():
        main([study, "--dry_run", "--only", name])
        trainings = [line for line in capsys.readouterr().out.splitlines() if "trainer" in line]
        assert [line.rsplit("/", 1)[1] for line in trainings] == [folder]
    with pytest.raises(SystemExit, match="'rate=2e-4' is unknown"):
        main([study, "--only", "rate=2e-4"])


def test_a_part_of_a_study_makes_what_it_needs(place, capsys):
    """Corpora of other grids are not prepared; a step of a step is, and one that nothing names."""
    steps = {
        "films": {"arguments": {"output_dir": "out/films/data"}, "makes": "out/films/data/run.json"},
        "base": {"arguments": {"output_dir": "out/base", "data": ["out/films/data"]}, "makes": "out/base/run.json"},
        "low_data": {"arguments": {"output_dir": "out/low/data"}, "makes": "out/low/data/run.json"},
        "high_data": {"arguments": {"output_dir": "out/high/data"}, "makes": "out/high/data/run.json"},
        "judged_by": {"arguments": {"output_dir": "out/test"}, "makes": "out/test/run.json"},
        "of_all": {"arguments": {"output_dir": "of_all"}, "makes": "of_all/run.json"},
    }
    judged = {"command": "stub_others", "arguments": {"data": "out/test"}, "results": []}
    grids = {
        name: {"command": "stub_trainer", "arguments": {"data": f"out/{name}/data", "model": "out/base/model"}}
        for name in ("low", "high")
    }
    grids["low"]["evaluate"] = judged
    prepare = {name: {"command": "stub_trainer", **step} for name, step in steps.items()}
    study = write_study(place, grids=grids, prepare=prepare)

    def made(*only: str) -> list[str]:
        main([study, "--dry_run", *only])
        lines = capsys.readouterr().out.splitlines()
        places = [line.split("--output_dir ")[1].split()[0] for line in lines if "--output_dir" in line]
        return [name for name, step in steps.items() if step["arguments"]["output_dir"] in places]

    assert made("--only", "low") == ["films", "base", "low_data", "judged_by", "of_all"]
    assert made("--only", "high") == ["films", "base", "high_data", "of_all"]
    assert made() == list(steps)


def test_a_name_of_a_grid_and_an_arm_is_the_grids(place, capsys):
    grid = {"command": "stub_trainer", "arms": {"slow": {"rate": 0.5}, "fast": {"rate": 2.0}}}
    study = write_study(place, grids={"fast": grid, "other": grid})
    main([study, "--dry_run", "--only", "fast"])
    folders = [line.split("--output_dir ")[1].split()[0] for line in capsys.readouterr().out.splitlines()]
    assert folders == ["out/fast/slow", "out/fast/fast"]


def test_steps_are_made_once_and_refused_if_changed(place, capsys):
    step = {
        "command": "stub_trainer",
        "arguments": {"output_dir": "out/base", "rate": 3.0},
        "makes": "out/base/run.json",
    }
    study = write_study(place, prepare={"base": step})
    main([study, "--only", "slow"])
    main([study])
    assert (place / "out/base/calls").read_text() == "3.0 None\n"
    with pytest.raises(SystemExit, match=r"out/base/run.json was made with other arguments: rate 3.0 -> 4.0"):
        main([write_study(place, prepare={"base": {**step, "arguments": {"output_dir": "out/base", "rate": 4.0}}})])
    bad = {"command": "stub_trainer", "arguments": {"output_dir": "out/bad", "do": "fail"}, "makes": "out/bad/run.json"}
    with pytest.raises(SystemExit, match="upside down"):
        main([write_study(place, output_dir="new", prepare={"bad": bad})])
    assert not Path("new/grid").exists()
    with pytest.raises(SystemExit, match=r"demo/run.json is missing: make demo"):
        main([write_study(place, needs={"demo/run.json": "make demo"})])


def test_conditions_name_cells(place):
    arms, axes = {"lora": {"rank": 8}, "full": {"rate": 3.0}}, {"share": [0.1, 1.0]}
    where = [{"cells": {"arm": "lora", "share": [0.1]}, "arguments": {"rank": 4}}]
    study = read_study(Path(write_study(place, {"arms": arms, "axes": axes, "where": where, "seeds": []})))
    assert {cell.folder.name: cell.arguments for cell in study.cells()} == {
        "lora-0.1": {"rank": 4, "share": 0.1},
        "lora-1.0": {"rank": 8, "share": 1.0},
        "full-0.1": {"rate": 3.0, "share": 0.1},
        "full-1.0": {"rate": 3.0, "share": 1.0},
    }


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"seds": [1]}, r"grids.grid: key 'seds' is unknown, did you mean 'seeds'\?"),
        (
            {"evaluate": {"result": ["film"], "results": []}},
            "evaluate: key 'result' is unknown, did you mean 'results'",
        ),
        ({"compare": {"argument": {}}}, "compare: key 'argument' is unknown, did you mean 'arguments'"),
        ({"evaluate": {}}, "evaluate: results missing"),
        ({"seeds": 3}, "seeds is 3, expected a list"),
        ({"arms": {"slow": 3}}, r"grid.arm.slow: expected a mapping of arguments, found 3"),
        ({"arguments": {"output_dir": "x"}}, "output_dir is chosen by the study"),
        ({"arms": {"slow": {"rate": None}}}, "rate is null"),
        ({"axes": {"model": ["a/b"]}}, "'a/b' makes no name of a folder"),
        ({"axes": {"share": []}}, "axes.share: an axis"),
        ({"where": [{"cells": {"army": "slow"}, "arguments": {}}]}, "axis 'army' is unknown, did you mean 'arm'"),
        ({"where": [{"cells": {"arm": "slwo"}, "arguments": {}}]}, "arm 'slwo' is unknown, did you mean 'slow'"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(place, grid, message):
    with pytest.raises(SystemExit, match=message):
        main([write_study(place, grid)])


def test_what_is_wrong_in_the_words_is_named(place):
    with pytest.raises(SystemExit, match="'fst' is unknown, did you mean 'fast'"):
        main([write_study(place), "--only", "slow,fst"])
    with pytest.raises(SystemExit, match="jobs is 0"):
        main(["study.yaml", "--jobs", "0"])
    with pytest.raises(SystemExit, match="name one study"):
        main(["--dry_run"])
    same = {"command": "stub_trainer", "folder": "grid"}
    with pytest.raises(SystemExit, match="several cells have the same folder"):
        main([write_study(place, {"arms": {}, "seeds": []}, grids={"a": same, "b": same})])


def test_a_grid_may_be_named_by_a_number(place, capsys):
    study = write_study(place, grids={50: {"command": "train.pretrain", "arms": {"full": {}}}})
    main([study, "--dry_run"])
    assert "out/50/full" in capsys.readouterr().out


def test_a_comparison_may_span_grids(place, capsys):
    """Cells of two trainers stand in one table, and it waits for those of both."""
    first = {"arms": {"slow": {"rate": 0.5}}, "seeds": [0], "compare": None}
    first |= {"command": "stub_trainer", "evaluate": {"command": "stub_others", "results": ["film"]}}
    compare = {"command": "stub_others", "arguments": {"out": "c"}, "beside": ["first"]}
    second = first | {"arms": {"fast": {"rate": 2.0}}, "seeds": [0, 1], "compare": compare}
    study = write_study(place, grids={"first": first, "second": second})
    main([study, "--only", "second"])
    assert Path("compared").read_text() == "out/second/fast-0 out/second/fast-1 --out c"
    Path("compared").unlink()
    main([study])
    assert Path("compared").read_text() == "out/first/slow-0 out/second/fast-0 out/second/fast-1 --out c"
    assert "comparing second, 3 cells" in capsys.readouterr().out
    # A part of it is compared with all that is there; what would be compared is told alike.
    main([study, "--only", "second", "--dry_run"])
    assert "out/first/slow-0 out/second/fast-0 out/second/fast-1 --out c" in capsys.readouterr().out
    with pytest.raises(
        SystemExit, match=r"grids\.second\.compare\.beside: grid 'frist' is unknown, did you mean 'first'"
    ):
        main(
            [
                write_study(
                    place, grids={"first": first, "second": second | {"compare": compare | {"beside": ["frist"]}}}
                )
            ]
        )


def test_jobs_share_the_cores(place, monkeypatch):
    study = read_study(Path(write_study(place, environment={"HF_HUB_OFFLINE": 1})))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    assert threads(study, 1) == {"HF_HUB_OFFLINE": "1"}
    assert threads(study, 3) == {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2"}
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert threads(study, 3) == {"HF_HUB_OFFLINE": "1"}


@pytest.mark.parametrize("file", STUDIES, ids=[file.stem for file in STUDIES])
def test_studies_of_the_project_parse_by_their_recipes(file, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    parsers = {
        "train.pretrain": (ModelArguments, DataArguments, CuratedTrainingArguments),
        "train.adapt": ADAPT_ARGUMENTS,
        "train.self_supervised": DISTIL_ARGUMENTS,
        "train.masked_autoencoding": AUTOENCODING_ARGUMENTS,
    }
    study = read_study(file, OPTIONS.get(file.stem))
    cells = study.cells()
    steps = [as_command(step.command, step.arguments) for step in study.prepare.values()]
    # Seeds differ in nothing that could be wrong.
    parsed = {(cell.grid, *(item for item in cell.place.items() if item[0] != "seed")): cell for cell in cells}
    for _, module, *words in [*map(training_command, parsed.values()), *steps]:
        if module.startswith("train."):
            parse_recipe(parsers[module], words)
    folders = {str(cell.folder) for cell in cells}
    expected = {
        "selection": (1016, {"runs/selection/low/full-0.5-0", "runs/selection/high/leverage_most-4-4"}),
        "selection_demo": (15, {"runs/selection_demo/two_passes/full-0"}),
        "selection_noise": (216, {"runs/selection_noise/wrong_3/full-1-0", "runs/selection_noise/wrong_50/random-8-2"}),
        "selection_small": (64, {"runs/study/low/full-1-0", "runs/study/high/leverage_all-2-1"}),
        "adaptation": (
            31,
            {"runs/adapted/findings/full-0.01-2", "runs/adapted/structures/lora", "runs/adapted/reports"},
        ),
        "lora": (204, {"runs/lora/search/lora-mae-high-100", "runs/lora/grid/full-reports-fourteen-0.01-2"}),
        "lora_few_films": (108, {"runs/few/search/full-films-0.005-100", "runs/few/few/lora-reports-0.2-4"}),
        "scaling": (45, {"runs/scaling/clip/unicl-30000-2", "runs/scaling/films/films_alone-300-0"}),
        "hospital": (30, {"runs/hospital/clip/reports-1-0", "runs/hospital/films/films_alone-5-2"}),
        "views": (18, {"runs/views/budgets/whole-0.5-0", "runs/views/budgets/half_of_the_patches-1-2"}),
        "scaling_small": (24, {"runs/scaling_small/clip/unicl-6000-1", "runs/scaling_small/films/films_alone-200-0"}),
    }[file.stem]
    assert len(folders) == expected[0]
    assert expected[1] <= folders


def test_studies_that_share_a_step_make_it_alike():
    """What one study has made, another takes as it is."""
    made = {}
    for file in STUDIES:
        for step in read_study(file, OPTIONS.get(file.stem)).prepare.values():
            assert made.setdefault(step.makes, step.arguments) == step.arguments, f"{file}: {step.makes}"


def test_a_real_cell_end_to_end(tiny_corpus, tmp_path, monkeypatch):
    """One trained, judged and compared cell, by the real commands."""
    monkeypatch.chdir(REPOSITORY)
    grid = {
        "command": "train.pretrain tests/tiny.yaml",
        "arguments": {"dataset_dir": str(tiny_corpus), "max_steps": 4, "curation_report": False},
        "arms": {"all": {"selection": "none"}},
        "seeds": [1],
        "evaluate": {"arguments": {"data": str(tiny_corpus), "resamples": 10}, "results": ["zero_shot_findings"]},
        "compare": {"arguments": {"out": str(tmp_path / "compared"), "resamples": 10}},
    }
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump({"output_dir": str(tmp_path), "grids": {"cells": grid}}))
    main([str(file)])
    assert json.loads((tmp_path / "cells/all-1/run.json").read_text())["seed"] == 1
    assert "| full data | 1 |" in (tmp_path / "compared.md").read_text()
    # What the trainer itself wrote down is what the study asked for.
    (tmp_path / "cells/all-1/study.json").unlink()
    (cell,) = read_study(file).cells()
    assert commands_left(cell) == []


def test_exit_codes_of_many_processes_at_a_time(tmp_path, monkeypatch):
    """Threads that start and wait at once must not take each other's exit codes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quick.py").write_text("import sys\nsys.exit(int(sys.argv[1]))\n")

    def code(number: int) -> int:
        with (tmp_path / f"{number}.log").open("w") as log:
            return run_module(["-m", "quick", str(number % 3)], log.fileno(), {})

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(code, range(200))) == [number % 3 for number in range(200)]
