"""The snippets of the README and of those of the rooms run as they stand, on small data in place of the demo's."""

import csv
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import datasets
import pytest

from tests.warm import run_python
from train.pretrain.__main__ import main as pretrain_main

REPOSITORY = Path(__file__).parents[1]
ROOMS = ("modeling_chexficient", "data_scripts", "train", "eval", "model_cards")
PAGES = [(REPOSITORY / room / "README.md").read_text() for room in (".", *ROOMS)]
RECIPE = str(Path(__file__).parent / "tiny.yaml")


def blocks(language: str) -> list[str]:
    return [block for page in PAGES for block in re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)]


@pytest.fixture(scope="module")
def demo(tiny_corpus, tmp_path_factory) -> Path:
    """A folder like the one `make demo` leaves, smaller."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "runs" / "demo").mkdir(parents=True)
    (folder / "runs" / "demo" / "data").symlink_to(tiny_corpus)
    words = ["--dataset_dir", str(tiny_corpus), "--output_dir", str(folder / "runs" / "demo")]
    pretrain_main([RECIPE, *words, "--max_steps", "6", "--curation_warmup_share", "0"])
    return folder


@pytest.fixture(scope="module")
def adapted(demo) -> Path:
    """The same folder with the adapters of the README's commands, trained for two steps."""
    (demo / "train").symlink_to(REPOSITORY / "train")
    for name in ("runs/findings --labels", "runs/structures --structures"):
        (block,) = [block for block in blocks("bash") if name in block]
        # `test_own_films` shows that the launcher works.
        block = block.replace("accelerate launch", "python")
        run_block(block.replace("--max_steps 100", "--max_steps 2 --resamples 20 --label_share 1"), demo)
    return demo


def run_block(block: str, folder: Path) -> str:
    """Run the lines of a block in `folder`; what the last one printed."""
    environment = {"PYTHONPATH": str(REPOSITORY), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "2"}
    for line in block.replace("\\\n", " ").splitlines():
        name, *words = shlex.split(line)
        if name == "python":
            finished = run_python(words, folder, environment)
        else:
            program = str(Path(sys.executable).with_name(name))
            everything = {**os.environ, **environment}
            finished = subprocess.run([program, *words], cwd=folder, env=everything, capture_output=True, text=True)
        assert finished.returncode == 0, finished.stderr[-3000:]
    return finished.stdout


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_python_snippets(request, demo, number):
    """In a process that cannot import our package unless the snippet does: the folder alone must do."""
    snippet, blocker = blocks("python")[number], "import sys; sys.modules['modeling_chexficient'] = None\n"
    ours = "from modeling_chexficient import" in snippet
    if "runs/findings" in snippet:
        request.getfixturevalue("adapted")
    words = ["-c", snippet if ours else blocker + snippet]
    finished = run_python(words, demo, {"HF_MODULES_CACHE": str(demo / "modules")})
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert re.search("Pleural Effusion|Cardiomegaly|tensor", finished.stdout)


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
    assert "Cardiomegaly" in run_block(block, tmp_path)
    assert "absent.png" in (tmp_path / "runs" / "own" / "data" / "skipped.jsonl").read_text()


def test_named_paths_and_targets_exist():
    for path in re.findall(r"`((?:train|eval|data_scripts|model_cards)/[\w./]+)`", "".join(PAGES)):
        assert (REPOSITORY / path).exists(), path
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in set(re.findall(r"`?make ([a-z-]+)", "".join(PAGES))):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_links_between_the_pages_work():
    for room, page in zip((".", *ROOMS), PAGES, strict=True):
        for target in re.findall(r"\]\((?!http)([^)#]+)", page):
            assert (REPOSITORY / room / target).exists(), (room, target)


def test_the_readme_is_short():
    assert 100 <= len(PAGES[0].splitlines()) <= 150
