"""The Trainer under every run on films alone: its batches, its probes, and what it logs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel
from transformers.trainer_utils import TrainOutput

from data_scripts.prepared.films import FilmDataset
from train.film_runs.films import FilmBatches, FilmCollator
from train.runs.arguments import RunArguments
from train.runs.distributed import rank, sum_over_processes, world_size
from train.runs.trainer import RunTrainer


@dataclass(frozen=True)
class FilmPlan:
    """What a run on films does, in numbers.

    Args:
        films: of the corpus.
        batch_size: films a batch, over all processes; `accumulate` batches are a step.
        steps: of the optimiser.
        film_size, image_size: sides of the films as they are read, and of what the tower sees, in pixels.
    """

    films: int
    batch_size: int
    accumulate: int
    steps: int
    learning_rate: float
    film_size: int
    image_size: int

    def words(self) -> str:
        """For the terminal."""
        return "planned: " + ", ".join(f"{name} {value}" for name, value in asdict(self).items())


@dataclass(frozen=True)
class Size:
    """How long a run is: films a batch (over all processes), batches a step, steps, and steps that make a pass."""

    batch_size: int
    accumulate: int
    steps: int
    pass_steps: int

    @classmethod
    def of(cls, args: RunArguments, films: int) -> Size:
        batch_size = args.per_device_train_batch_size * world_size()
        accumulate = args.gradient_accumulation_steps
        pass_steps = max(1, round(films / (batch_size * accumulate)))
        steps = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * pass_steps)
        return cls(batch_size, accumulate, steps, pass_steps)


class FilmTrainer(RunTrainer):
    """A run on films alone. Its samples are films.

    A subclass provides `tower`, and a `compute_loss` that counts `batches_done` and adds to `samples_trained`, `flops`
    and `terms`.

    Args:
        plan: of the run.
        settings: what must be equal in a run that is resumed, beside the plan.
        evaluate_tower: figures of a tower on validation; None: nothing is evaluated.

    Attributes:
        batches_done: by this process, and so by each.
        evaluated: figures by step.
        terms: sums, since the last entry of the log, of what it is to tell as means of a batch.
    """

    def __init__(
        self,
        model: nn.Module,
        args: RunArguments,
        films: FilmDataset,
        plan: FilmPlan,
        settings: dict,
        evaluate_tower: Callable[[PreTrainedModel], dict[str, float]] | None = None,
        started: float | None = None,
    ):
        args.max_steps, args.learning_rate = plan.steps, plan.learning_rate
        super().__init__(
            model,
            args,
            corpus=films.fingerprint,
            settings=settings | {"plan": asdict(plan)},
            started=started,
            train_dataset=films,
            data_collator=FilmCollator(plan.film_size),
            eval_dataset=films if evaluate_tower is not None else None,
        )
        self.plan, self.evaluate_tower = plan, evaluate_tower
        self.batches_done = 0
        self.evaluated: dict[int, dict[str, float]] = {}
        self.terms: dict[str, float | Tensor] = {}
        self._since_log = (0, time.perf_counter(), 0)

    def tower(self) -> PreTrainedModel:
        """The tower that is evaluated, and the result of the run."""
        raise NotImplementedError

    # Data.

    def get_train_dataloader(self) -> DataLoader:
        """Films in the batches of the whole run."""
        plan, batches = self.plan, self.plan.steps * self.plan.accumulate
        return self.loader_of(FilmBatches(plan.films, plan.batch_size, batches, self.data_seed, rank(), world_size()))

    def _get_num_items_in_batch(self, batch_samples, device) -> None:
        """None: the loss is a mean over the films of all processes, and Trainer has nothing to divide by."""

    # Evaluation.

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the terms of the loss, throughput and FLOP."""
        if "loss" in logs:
            batches, began, films = self._since_log
            spent, now = self.spent(), time.perf_counter()
            count = max(1, self.batches_done - batches)
            logs |= {
                name: sum_over_processes(torch.as_tensor(value)) / count / world_size()
                for name, value in self.terms.items()
            }
            logs["films_per_second"] = (spent.samples - films) / (now - began)
            if spent.flops is not None:
                logs["petaflops"] = spent.flops.total / 1e15
            self.terms, self._since_log = {}, (self.batches_done, now, spent.samples)
        super().log(logs, start_time)

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Probes on the tower."""
        if self.evaluate_tower is None:
            raise ValueError("nothing to evaluate: give eval_strategy")
        # Loaders draw random numbers, which stochastic depth is not to notice.
        with torch.random.fork_rng():
            figures = self.evaluate_tower(self.tower())
        self.evaluated[self.state.global_step] = figures
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in figures.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def train(self, resume_from_checkpoint=None, **kwargs) -> TrainOutput:
        """As Trainer does; the weights at the start and at the end are evaluated, too."""
        if self.evaluate_tower is not None and resume_from_checkpoint is None:
            self.evaluate()
        output = super().train(resume_from_checkpoint, **kwargs)
        if self.evaluate_tower is not None and self.state.global_step not in self.evaluated:
            self.evaluate()
        return output

    # Checkpoints.

    def save_state(self, folder: Path) -> dict:
        """What was evaluated."""
        return {"evaluated": [[step, figures] for step, figures in self.evaluated.items()]}

    def load_state(self, folder: Path, state: dict) -> None:
        self.evaluated = dict(state["evaluated"])
        self.batches_done = self.state.global_step * self.plan.accumulate
        self._since_log = (self.batches_done, time.perf_counter(), self.spent().samples)
