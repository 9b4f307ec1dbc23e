"""Shared by all tests. Nothing may ask the network, and caches must not outlive the tests."""

import atexit
import importlib.util
import os
import shutil
import sys
import tempfile

# Read when the libraries are imported, so set before anything else.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
if "PYTEST_XDIST_WORKER" in os.environ:
    # The tests share the cores already.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="chexficient-tests-")
atexit.register(shutil.rmtree, os.environ["HF_HOME"], ignore_errors=True)

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from data_scripts.prepare import PrepareArguments, prepare
from data_scripts.synthetic import SyntheticOptions

REPOSITORY = Path(__file__).parents[1]
REAL_CXR = REPOSITORY.parent / "shared" / "real_cxr"

#: Fake raw downloads, a module `NAME.py` with `build(root) -> Path` for the loader of that name.
RAW_TREES = REPOSITORY / "tests" / "raw_trees"

#: A few hundred films at the smallest sensible size: enough to train and judge for real in seconds.
TINY_CORPUS = SyntheticOptions(num_records=400, film_size=56, seed=3, test_share=0.3, validation_share=0.1)


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory) -> Path:
    """A prepared synthetic dataset folder at 56 px."""
    out = tmp_path_factory.mktemp("corpus") / "data"
    prepare("synthetic", PrepareArguments(out=str(out), image_size=56, num_workers=1), replace(TINY_CORPUS))
    return out


@pytest.fixture
def few_patients(monkeypatch) -> None:
    """Intervals over two patients and more, so that a test can have those it can count by hand."""
    monkeypatch.setattr("eval.statistics.significance.LEAST_PATIENTS", 2)


@pytest.fixture
def real_cxr() -> Path:
    """The real films beside the project, where they are."""
    if not REAL_CXR.is_dir():
        pytest.skip(f"{REAL_CXR} is not here: real films are kept outside of the project")
    return REAL_CXR


def load_raw_tree(name: str) -> ModuleType:
    """The module `tests/raw_trees/NAME.py`: `build(root)` writes a fake raw tree below `root` and returns its folder.

    Loaded by path, since packages called "tests" are installed beside some libraries.
    """
    spec = importlib.util.spec_from_file_location(f"raw_tree_{name}", RAW_TREES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses of the module look it up there.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
