"""The Trainer that adapts: it keeps the best weights itself."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import Sampler
from torch.utils.flop_counter import FlopCounterMode
from transformers import TrainerCallback
from transformers.trainer_utils import TrainOutput

from modeling_chexficient.precision_chexficient import is_quantised
from train.adapt.arguments import AdaptTrainingArguments, MethodArguments
from train.adapt.learning_rates import parameter_groups
from train.adapt.methods import hold_frozen, unwrapped
from train.adapt.tasks import Task
from train.runs.distributed import rank, world_size
from train.runs.nonfinite import NonFiniteError
from train.runs.trainer import RunTrainer

WEIGHTS_FILE, BEST_FILE = "weights.safetensors", "best.safetensors"


@dataclass
class Best:
    """The best evaluation on validation so far, and the weights then."""

    figure: float = -math.inf
    metrics: dict[str, float] = field(default_factory=dict)
    epoch: float = 0.0
    step: int = 0
    #: Step of the last evaluation, and how many since the best one were not better.
    judged_step: int = -1
    not_better: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)

    def state(self) -> dict:
        return {name: value for name, value in vars(self).items() if name != "weights"}


class NoInputGradients(TrainerCallback):
    """Takes back what transformers does for checkpointing of the reentrant kind, which is refused here: it asks for the
    gradient of embeddings, so that what is frozen below the first trained layer would be run backwards for nothing.
    """

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        if args.gradient_checkpointing:
            unwrapped(model).disable_input_require_grads()


class AdaptTrainer(RunTrainer):
    """Trains the trainable part of a task's model; see `train.adapt.tasks`. Its samples are films.

    The loss of an optimiser step is a mean over everything judged in all its batches, of all processes: a step in parts
    is that of one batch, however unevenly the labels lie (`Task.loss`). Films that are repeated at the end of an epoch,
    so that all processes have as many, count for nothing.

    Args:
        settings: what must be equal in a run that is resumed.
        started: when the run began, by `time.perf_counter`.

    Attributes:
        task: model, films, and how they come together.
        best: the best evaluation on validation; `restore_best` puts its weights back.
        flops_a_film: floating-point operations of a film's forward and backward pass, as torch counts them on the first
            batch (matrix products, convolutions and attention).
    """

    args: AdaptTrainingArguments
    # `Task.loss` divides by what is judged in the whole step.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        task: Task,
        model: nn.Module,
        args: AdaptTrainingArguments,
        method: MethodArguments,
        settings: dict,
        started: float,
    ):
        super().__init__(
            model,
            args,
            corpus="-".join(dataset.fingerprint for dataset in (task.train_dataset, task.validation_dataset)),
            settings=settings | {"augmentation": asdict(task.augmentation)},
            started=started,
            train_dataset=task.train_dataset,
            eval_dataset=task.validation_dataset,
            data_collator=task.collate,
        )
        self.add_callback(NoInputGradients())
        self.task, self.method = task, method
        self.best = Best()
        self.flops_a_film = 0.0
        if args.torch_compile or is_quantised(unwrapped(model)):
            # Neither compiled code nor products of integers can be counted.
            self.flops = None

    @property
    def tower(self) -> nn.Module:
        return unwrapped(self.model).get_submodule(self.task.parts.tower)

    def create_optimizer(self, model=None) -> torch.optim.Optimizer:
        """With learning rates of their own for heads and, where `layer_decay` asks for it, blocks."""
        if self.optimizer is None:
            decayed = self.get_decay_parameter_names(self.model)
            rates = (self.args.learning_rate, self.method.head_learning_rate, self.method.layer_decay)
            groups = parameter_groups(self.model, self.task.parts, *rates, self.args.weight_decay, decayed)
            optimiser_class, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            if self.args.momentum:
                options["momentum"] = self.args.momentum
            self.optimizer = optimiser_class(groups, **options)
        return self.optimizer

    def _get_train_sampler(self, train_dataset=None) -> Sampler | None:
        return super()._get_train_sampler(train_dataset) if self.task.sampler is None else self.task.sampler

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """The batches of a step, and how much is judged in those of all processes (see `Task.judged`)."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not batches:
            return batches, None
        self._forget_repeated(batches[-1])
        judged = sum(self.task.judged(batch, self._epoch) for batch in batches)
        return batches, self.accelerator.reduce(judged.to(device), reduction="sum")

    def _forget_repeated(self, batch: dict[str, Tensor]) -> None:
        """Of an epoch's last batch, in place: the first films of the epoch, with which accelerate fills it up."""
        progress = self.accelerator.gradient_state
        if world_size() > 1 and progress.end_of_dataloader and progress.remainder > 0:
            films = len(batch["rows"])
            self.task.forget(batch, rank() * films + torch.arange(films) >= progress.remainder)

    @property
    def _epoch(self) -> int:
        """Of the films' augmentation."""
        return int(self.state.epoch or 0)

    def training_step(self, model, inputs, num_items_in_batch=None) -> Tensor:
        """As Trainer's; of the first batch, the floating-point operations are counted."""
        films = len(inputs["rows"])
        self.samples_trained += films
        if self.flops is None:
            return super().training_step(model, inputs, num_items_in_batch)
        if self.flops_a_film:
            loss = super().training_step(model, inputs, num_items_in_batch)
        else:
            with FlopCounterMode(display=False) as counter:
                loss = super().training_step(model, inputs, num_items_in_batch)
            self.flops_a_film = counter.get_total_flops() / films
        self.flops["trained"] += self.flops_a_film * films
        return loss

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """A training batch's share of the loss of the step, its films augmented."""
        # Trainer has put the whole model into training mode.
        hold_frozen(self.tower)
        # Over processes, gradients are averaged.
        loss = self.task.loss(model, self.task.inputs(inputs, self._epoch), num_items_in_batch) * world_size()
        self.check_loss(loss)
        return loss

    @torch.no_grad()
    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Evaluate the weights on validation, keep them if they are the best so far, and end the run if it is time."""
        training = self.model.training
        self.model.eval()
        measured = []
        for inputs in self.get_eval_dataloader(eval_dataset):
            batch = self._prepare_inputs(inputs)
            with self.accelerator.autocast():
                output = self.model(**self.task.inputs(batch, epoch=None))
            measured.append(self.accelerator.gather_for_metrics(self.task.measure(output, batch)).cpu().numpy())
        self.model.train(training)
        figures = self.task.figures(np.concatenate(measured))
        self._note_evaluation(figures)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in figures.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _note_evaluation(self, figures: dict[str, float]) -> None:
        best = self.best
        figure = figures[self.task.metric]
        best.judged_step = self.state.global_step
        if figure > best.figure:
            best.figure, best.metrics, best.not_better = figure, figures, 0
            best.epoch, best.step = float(self.state.epoch or 0), self.state.global_step
            best.weights = {name: tensor.detach().cpu().clone() for name, tensor in trained_tensors(self.model).items()}
            return
        best.not_better += 1
        self.control.should_training_stop |= self._out_of_patience()

    def _out_of_patience(self) -> bool:
        patience = self.args.early_stopping_patience
        return patience is not None and self.best.not_better >= patience

    def nothing_left(self) -> bool:
        return super().nothing_left() or self._out_of_patience()

    def train(self, resume_from_checkpoint=None, **kwargs) -> TrainOutput:
        """As Trainer does; the weights at the start and at the end are evaluated, too, and the best ones put back."""
        if resume_from_checkpoint is None:
            # A head that starts well may be the best there is.
            self.evaluate()
        output = super().train(resume_from_checkpoint, **kwargs)
        if self.best.judged_step != self.state.global_step:
            self.evaluate()
        if not self.best.weights:
            raise NonFiniteError(
                f"no evaluation on validation gave a figure ({self.task.metric} is NaN): lower learning_rate"
            )
        load_tensors(self.model, self.best.weights)
        return output

    def _save(self, output_dir: str | None = None, state_dict=None) -> None:
        """What is trained, by its own names: Trainer's way renames tensors and does not find them again."""
        if self.args.should_save:
            folder = Path(output_dir)
            folder.mkdir(parents=True, exist_ok=True)
            tensors = {name: tensor.contiguous() for name, tensor in trained_tensors(self.model).items()}
            save_file(tensors, folder / WEIGHTS_FILE)

    def save_state(self, folder: Path) -> dict:
        """The best weights so far, and what is known of them."""
        if self.best.weights:
            save_file({name: tensor.contiguous() for name, tensor in self.best.weights.items()}, folder / BEST_FILE)
        return {"best": self.best.state(), "flops_a_film": self.flops_a_film}

    def load_state(self, folder: Path, state: dict) -> None:
        weights = load_file(folder / BEST_FILE) if (folder / BEST_FILE).is_file() else {}
        self.best = Best(**state["best"], weights=weights)
        self.flops_a_film = state["flops_a_film"]

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None) -> None:
        """Every trained tensor, or an error."""
        load_tensors(self.model, load_file(Path(resume_from_checkpoint) / WEIGHTS_FILE))


def trained_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters with gradient, and all buffers that are saved, as running statistics are; tied ones once."""
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    saved = model.state_dict()
    return parameters | {name: buffer for name, buffer in model.named_buffers() if name in saved}


@torch.no_grad()
def load_tensors(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put tensors of `trained_tensors` back, in place. Raises ValueError where the names are not the same."""
    present = trained_tensors(model)
    if present.keys() != tensors.keys():
        different = sorted(present.keys() ^ tensors.keys())
        raise ValueError(f"the checkpoint's tensors are not those of the model: {different[:5]} of {len(different)}")
    for name, tensor in present.items():
        tensor.copy_(tensors[name])
