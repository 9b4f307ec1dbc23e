"""What our command publishes loads again from a Hub, in a process of its own with an empty cache and without our
packages, and gives the same outputs; then offline.

Needs a program that stands in for the Hub (`--root DIR --port N --mode lfs --token TOKEN=USER`), which the environment
variable CHEXFICIENT_TEST_HUB names.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor

from modeling_chexficient import (
    CheXficientForImageClassification,
    CheXficientImageProcessor,
    CheXficientModel,
    CheXficientProcessor,
    load_adapter,
    report_prompt,
)
from modeling_chexficient.prompts_chexficient import chat_prompt
from tests.conftest import REPOSITORY
from tests.published_runs import adapt, pretrain

HUB = Path(os.environ.get("CHEXFICIENT_TEST_HUB", REPOSITORY.parent / "shared" / "tools" / "minihub.py"))
pytestmark = pytest.mark.skipif(not HUB.is_file(), reason=f"{HUB} is not here: name a test Hub by CHEXFICIENT_TEST_HUB")

TOKEN, OTHER_TOKEN = "hf_" + "a" * 30, "hf_" + "b" * 30
NOWHERE = "http://127.0.0.1:9"
FILM = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 70), dtype=np.uint8))
TEXTS = ["edema", "no edema"]
BASES = {"findings": "ward/base", "structures": "ward/base", "reports": "ward/report_base"}

#: Several commands in one process, since each would import everything anew: prints what each said and how it ended.
PUBLISH = """
import contextlib, io, json, sys
from model_cards.publish import main

said = []
for words in json.loads(sys.argv[1]):
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output):
            main(words)
        said.append([True, output.getvalue()])
    except SystemExit as end:
        said.append([False, output.getvalue() + str(end)])
print("RESULT" + json.dumps(said))
"""
#: Loads what was published and prints figures that depend on its weights; our packages cannot be imported.
LOAD = """
import json, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("modeling_chexficient", "model_cards", "data_scripts", "train", "eval"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocker())
import datasets
import numpy as np
import torch
import transformers as hf
from PIL import Image

film = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 70), dtype=np.uint8))
film.save("film.png")

def load(what, name):
    if what == "dataset":
        splits = datasets.load_dataset(name)
        return {split: [one[0]["record_id"], one[0]["image"].size[0], len(one)] for split, one in splits.items()}
    # As the card says.
    card = open(hf.utils.cached_file(name, "README.md")).read()
    blocks = [one.split("```")[0] for one in card.split("```python\\n")[1:]]
    assert len(blocks) == 2, blocks
    own = {}
    for block in blocks:
        exec(block, own)
    assert type(own["model"]).__module__.startswith(("transformers_modules.", "peft.")), type(own["model"])
    with torch.no_grad():
        if what == "reports":
            inputs = own["processor"](images=film, text=own["prompt"], return_tensors="pt")
            return own["model"](**inputs).logits[0, -1].tolist()
        if what == "base":
            inputs = own["processor"](images=film, text=["edema", "no edema"])
            return own["model"](**inputs).logits_per_image.flatten().tolist()
        pixels = own["processor"](film, return_tensors="pt")["pixel_values"]
        return own["model"](pixel_values=pixels).logits.flatten()[:500].tolist()

print("RESULT" + json.dumps([load(what, name) for what, name in json.loads(sys.argv[1])]))
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """The address of a Hub of two users, "ward" and "stranger"."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    words = ["--root", str(tmp_path_factory.mktemp("hub")), "--port", str(port), "--mode", "lfs"]
    words += ["--token", f"{TOKEN}=ward", "--token", f"{OTHER_TOKEN}=stranger"]
    server = subprocess.Popen([sys.executable, str(HUB), *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/_health")
        yield address
    finally:
        server.terminate()
        server.wait()


def wait_for(address: str) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(1200):
        try:
            opener.open(address, timeout=1)
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"{HUB} did not start")


def run_script(script: str, asked, hub: str, home: Path, token: str | None = TOKEN, **more: str):
    """What a script prints in a process of its own whose cache is below `home`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHON"))}
    environment |= {"HF_ENDPOINT": hub, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    environment |= ({"HF_TOKEN": token} if token else {}) | {"OMP_NUM_THREADS": "1"} | more
    home.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", script, json.dumps(asked)]
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=600)
    assert "RESULT" in done.stdout, (done.stdout + done.stderr)[-3000:]
    assert TOKEN not in done.stdout + done.stderr
    return json.loads(done.stdout.split("RESULT")[1])


def publish(hub: str, home: Path, *commands: list, token: str | None = TOKEN, **more: str) -> list[list]:
    """For every command, whether it went well and what it said."""
    commands = [[str(word) for word in words] for words in commands]
    return run_script(PUBLISH, commands, hub, home, token, PYTHONPATH=str(REPOSITORY), **more)


@pytest.fixture(scope="module")
def runs(tiny_corpus, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    base = pretrain(tiny_corpus, folder / "base")
    reports = adapt(tiny_corpus, base, folder / "reports", "reports", "lora")
    # In the order of publishing: bases come first.
    return {
        "base": base,
        "findings": adapt(tiny_corpus, base, folder / "findings", "findings", "lora"),
        "structures": adapt(tiny_corpus, base, folder / "structures", "structures", "linear"),
        "whole": adapt(tiny_corpus, base, folder / "whole", "findings", "full"),
        "report_base": reports / "base",
        "reports": reports,
        "films": tiny_corpus,
    }


@pytest.fixture(scope="module")
def pushed(hub, runs, tmp_path_factory) -> dict[str, str]:
    """All of them on the Hub, by Xet."""
    repos = {name: f"ward/{name}" for name in runs}
    commands = [[run, "--repo", repos[name], "--uncommitted"] for name, run in runs.items()]
    for words, name in zip(commands, runs, strict=True):
        words += ["--base_repo", BASES[name]] if name in BASES else []
        words += ["--public"] if name == "films" else []
    for (well, said), name in zip(publish(hub, tmp_path_factory.mktemp("home"), *commands), runs, strict=True):
        assert well, said
        assert f"published: {hub}/{'datasets/' if name == 'films' else ''}ward/{name}/commit/" in said
    return repos


@torch.no_grad()
def outputs_here(runs: dict[str, Path], name: str):
    """What `LOAD` prints, from the folders here and by our package."""
    if name == "films":
        splits = datasets.load_dataset(str(runs[name]))
        return {split: [one[0]["record_id"], one[0]["image"].size[0], len(one)] for split, one in splits.items()}
    if name == "base":
        model = CheXficientModel.from_pretrained(runs[name] / "model").eval()
        processor = CheXficientProcessor.from_pretrained(runs[name] / "model")
        return model(**processor(images=FILM, text=TEXTS)).logits_per_image.flatten().tolist()
    if name == "reports":
        model = load_adapter(runs[name] / "adapter", base=runs["report_base"])
        processor = AutoProcessor.from_pretrained(runs[name] / "adapter")
        prompt = chat_prompt(processor, report_prompt("Cough.", "PA"))
        return model(**processor(images=FILM, text=prompt, return_tensors="pt")).logits[0, -1].tolist()
    folder = runs[name] / ("model" if name == "whole" else "adapter")
    if name == "whole":
        model = CheXficientForImageClassification.from_pretrained(folder).eval()
    else:
        model = load_adapter(folder, base=runs["base"] / "model")
    pixels = CheXficientImageProcessor.from_pretrained(folder)(FILM, return_tensors="pt")["pixel_values"]
    return model(pixel_values=pixels).logits.flatten()[:500].tolist()


def test_all_load_with_a_cold_cache_without_our_packages_and_then_offline(hub, runs, pushed, tmp_path):
    kinds = {"base": "base", "films": "dataset", "reports": "reports"}
    # The base of reports is loaded with its adapter.
    asked = [[kinds.get(name, "head"), repo] for name, repo in pushed.items() if name != "report_base"]
    cold = run_script(LOAD, asked, hub, tmp_path / "home")
    for (_, repo), value in zip(asked, cold, strict=True):
        name = repo.removeprefix("ward/")
        expected = outputs_here(runs, name)
        assert value == (expected if name == "films" else pytest.approx(expected, abs=1e-5)), name
    assert run_script(LOAD, asked, NOWHERE, tmp_path / "home", HF_HUB_OFFLINE="1") == cold


def test_our_package_checks_the_base_by_its_commit(hub, runs, pushed, tmp_path):
    script = """
import json, sys
from modeling_chexficient import load_adapter
model = load_adapter(json.loads(sys.argv[1])).get_base_model()
print("RESULT" + json.dumps(model.name_or_path))
"""
    found = run_script(script, pushed["findings"], hub, tmp_path / "home", PYTHONPATH=str(REPOSITORY))
    assert found == "ward/base"


@pytest.mark.slow
def test_plain_lfs_gives_the_same(hub, runs, tmp_path):
    plain = {"HF_HUB_DISABLE_XET": "1"}
    commands = [[runs["base"], "--repo", "ward/base-lfs", "--uncommitted"], [runs["films"], "--repo", "ward/films-lfs"]]
    for well, said in publish(hub, tmp_path / "publisher", *commands, **plain):
        assert well, said
    base, films = run_script(LOAD, [["base", "ward/base-lfs"], ["dataset", "ward/films-lfs"]], hub, tmp_path, **plain)
    assert base == pytest.approx(outputs_here(runs, "base"), abs=1e-5)
    assert films == outputs_here(runs, "films")


def test_what_the_hub_holds_already_and_who_may_write(hub, runs, pushed, tmp_path, tiny_corpus):
    base = [runs["base"], "--uncommitted", "--repo"]
    shutil.copytree(runs["base"], tmp_path / "with_more")
    (tmp_path / "with_more" / "model" / "generation_config.json").write_text("{}\n")
    other = [runs["findings"], "--uncommitted", "--repo", "ward/lost", "--base_repo"]
    expected = {
        "is there already: choose another --repo, or replace its content with --update": [*base, "ward/base"],
        "ward/base is there and private, and you publish --public": [*base, "ward/base", "--update", "--public"],
        "ward/findings is there and holds an adapter": [*base, "ward/findings", "--update"],
        "holds other weights": [*other, "ward/whole"],
        "publish the base first": [*other, "ward/no-such-base"],
        "--repo name: give ORG/NAME, such as ward/name": [*base, "name"],
        "--repo ward/a--b": [*base, "ward/a--b"],
        "the token is not accepted": [*base, "ward/new", "--token", "hf_" + "c" * 30],
        "the token is of stranger, who may write to stranger": [*base, "ward/new", "--token", OTHER_TOKEN],
        "published: ": [tmp_path / "with_more", "--uncommitted", "--repo", "ward/twice"],
        f"published: {hub}": [*base, "ward/twice", "--update"],
    }
    for (well, said), words in zip(publish(hub, tmp_path / "home", *expected.values()), expected, strict=True):
        assert words in said
        assert well == words.startswith("published")
        assert "hf_ccc" not in said
    # Nobody else sees what is private; what only the earlier version had is gone.
    script = """
import json, sys
import huggingface_hub as hub
own, strange = hub.HfApi(), hub.HfApi(token=json.loads(sys.argv[1]))
seen = [hub.repo_exists(one, token=strange.token) for one in ("ward/base", "ward/new", "ward/lost")]
films = strange.repo_info("ward/films", repo_type="dataset")
print("RESULT" + json.dumps([own.list_repo_files("ward/twice"), seen, hub.repo_exists("ward/new"), films.private]))
"""
    files, seen, made, private = run_script(script, OTHER_TOKEN, hub, tmp_path / "look")
    assert "model.safetensors" in files
    assert "generation_config.json" not in files
    assert (seen, made, private) == ([False] * 3, False, False)
