"""The README's snippets run as they stand, on small data in place of the demo's."""

import csv
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import datasets
import pytest

from train.pretrain import main as pretrain_main

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text()
RECIPE = str(Path(__file__).parent / "tiny.yaml")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture(scope="module")
def demo(tiny_corpus, tmp_path_factory) -> Path:
    """A folder like the one `make demo` leaves, smaller."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "runs" / "demo").mkdir(parents=True)
    (folder / "runs" / "demo" / "data").symlink_to(tiny_corpus)
    words = ["--dataset_dir", str(tiny_corpus), "--output_dir", str(folder / "runs" / "demo")]
    pretrain_main([RECIPE, *words, "--max_steps", "6", "--curation_warmup_share", "0"])
    return folder


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_python_snippets(demo, number):
    """In a process that cannot import our package: the folder alone must do."""
    blocker = "import sys; sys.modules['modeling_chexficient'] = None\n"
    environment = {**os.environ, "HF_MODULES_CACHE": str(demo / "modules"), "PYTHONPATH": ""}
    command = [sys.executable, "-c", blocker + blocks("python")[number]]
    finished = subprocess.run(command, cwd=demo, env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert "Pleural Effusion" in finished.stdout or "Cardiomegaly" in finished.stdout


def own_films(folder: Path, corpus: Path) -> None:
    """`films.csv` and images as somebody's export would give them."""
    films = datasets.load_dataset(str(corpus), split="train").select(range(160))
    folder.mkdir()
    with (folder / "films.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "report", "patient", "Cardiomegaly", "Edema"])
        for number, film in enumerate(films):
            film["image"].save(folder / f"{number}.png")
            values = {label["name"]: label["value"] for label in film["labels"]}
            row = [f"{number}.png", film["report"], film["patient_id"], values["Cardiomegaly"], values["Edema"]]
            table.writerow(row)
        table.writerow(["absent.png", "A report.", "x", "", ""])


def test_own_films(tiny_corpus, tmp_path):
    (block,) = [block for block in blocks("bash") if "my_films" in block]
    own_films(tmp_path / "my_films", tiny_corpus)
    (tmp_path / "train").symlink_to(REPOSITORY / "train")
    commands = [shlex.split(line) for line in block.replace("\\\n", " ").splitlines()]
    assert [command[0] for command in commands] == ["python", "accelerate", "python"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "2"}
    for command in commands:
        program = [sys.executable] if command[0] == "python" else [str(Path(sys.executable).with_name(command[0]))]
        words = [*program, *command[1:]]
        finished = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert finished.returncode == 0, finished.stderr[-3000:]
    assert "Cardiomegaly" in finished.stdout
    assert "absent.png" in (tmp_path / "runs" / "own" / "data" / "skipped.jsonl").read_text()


def test_named_paths_and_targets_exist():
    for path in re.findall(r"`((?:train|eval|data_scripts|model_cards)/[\w./]+)`", README):
        assert (REPOSITORY / path).exists(), path
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in set(re.findall(r"`?make ([a-z-]+)", README)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
