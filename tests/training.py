"""Shared by the tests of training: a trainer on the tiny corpus, and whole runs through the command line."""

import importlib
import resource
import signal
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from tests.warm import CONTEXT, run_python
from train.objectives.batch import PairBatch
from train.pretrain.arguments import ModelArguments
from train.pretrain.run import build_trainer
from train.pretrain.trainer import CuratedTrainer
from train.pretrain.training_arguments import CuratedTrainingArguments
from train.runs.recipes import DataArguments, parse_recipe
from train.runs.trainer import RunTrainer

RECIPE = str(Path(__file__).parent / "tiny.yaml")
REPOSITORY = Path(__file__).parents[1]


def make_trainer(corpus: Path, out: Path, *overrides: str) -> CuratedTrainer:
    types = (ModelArguments, DataArguments, CuratedTrainingArguments)
    words = [RECIPE, "--dataset_dir", str(corpus), "--output_dir", str(out), *overrides]
    return build_trainer(*parse_recipe(types, words))[0]


def make_batch(trainer: CuratedTrainer, rows) -> PairBatch:
    """The batch that the collator makes of `rows` of the corpus."""
    return trainer.data_collator(trainer.train_dataset.__getitems__(list(rows)))


def run_recipe(
    corpus: Path,
    out: Path,
    *overrides: str,
    processes: int = 1,
    recipe: str = RECIPE,
    program: Sequence[str] = ("-m", "train.pretrain"),
) -> Path:
    """A whole run in processes of its own, through the command line."""
    words = [*program, recipe, "--dataset_dir", str(corpus), "--output_dir", str(out), *overrides]
    finished = run_python(words, processes=processes)
    assert finished.returncode == 0, finished.stderr[-3000:]
    return out


def run_without_room(module: str, words: list[str], step: int) -> str:
    """A run in a process of its own, on a disk that is full from `step` on; the error that it ends with."""
    receiver, sender = CONTEXT.Pipe(duplex=False)
    arguments = (module, words, step, sender)
    process = CONTEXT.Process(target=_save_without_room, args=arguments)
    process.start()
    process.join()
    assert receiver.poll(), "the run met no error"
    return receiver.recv()


def _save_without_room(module: str, words: list[str], step: int, sender) -> None:
    """Files may grow to 40 kB: more than the lists of a run, less than its weights."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    class FillTheDisk(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == step:
                resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))

    original = RunTrainer.train

    def train(self, *args, **kwargs):
        self.add_callback(FillTheDisk)
        return original(self, *args, **kwargs)

    RunTrainer.train = train
    try:
        importlib.import_module(module).main(words)
    except SystemExit as error:
        sender.send(str(error))


def kept_rows(run: Path) -> list[int]:
    return pq.read_table(run / "curated_subset.parquet")["row"].to_pylist()


def assert_same_weights(one: Path, other: Path, atol: float = 1e-5) -> None:
    """Of two runs. The keys' bias is left out: softmax is blind to it, so its gradient is rounding noise, which Adam
    blows up to full steps.
    """
    first, second = (load_file(run / "model" / "model.safetensors") for run in (one, other))
    assert first.keys() == second.keys()
    for name in first:
        if not name.endswith(("key.bias", "k_proj.bias")):
            torch.testing.assert_close(first[name], second[name], atol=atol, rtol=0, msg=name)
