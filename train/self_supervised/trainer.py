"""The Trainer that distils a tower into itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel, TrainerCallback

from data_scripts.prepared.films import FilmDataset
from train.film_runs.crops import Crops
from train.film_runs.films import batch_generator
from train.film_runs.trainer import FilmTrainer
from train.objectives.self_distillation import loss_terms, patch_weights
from train.runs.distributed import rank, world_size
from train.self_supervised.arguments import SelfSupervisedArguments
from train.self_supervised.cost import CropFlops
from train.self_supervised.masks import draw_masks, own_images
from train.self_supervised.network import Network, Teacher
from train.self_supervised.plan import Plan
from train.self_supervised.schedules import cosine, hold_still, linear, parameter_groups, set_weight_decay

STUDENT_FILE, TEACHER_FILE = "student.safetensors", "teacher.safetensors"


class Masks(NamedTuple):
    """Of a batch's global crops: `hidden` [2 B, patches] bool, the places of what is hidden in it (flat), and the
    `patch_weights` of these; all None without iBOT.
    """

    hidden: Tensor | None = None
    picked: Tensor | None = None
    weights: Tensor | None = None


class _Course(TrainerCallback):
    """Weight decay before a step, and the teacher after it."""

    def __init__(self, trainer: SelfDistillationTrainer):
        self.trainer = trainer

    def on_step_begin(self, args, state, control, **kwargs):
        decay = cosine(args.weight_decay, args.weight_decay_end, state.global_step, self.trainer.plan.steps)
        set_weight_decay(self.trainer.optimizer, decay)

    def on_step_end(self, args, state, control, **kwargs):
        plan = self.trainer.plan
        momentum = cosine(*plan.momentum, state.global_step - 1, plan.steps)
        self.trainer.teacher.follow(self.trainer.network, momentum)


class SelfDistillationTrainer(FilmTrainer):
    """DINO, iBOT and KoLeo on films (see `train.objectives.self_distillation`).

    Crops and masks depend on seed and batch alone, centring is of all films of a batch: the weights do not depend on
    the number of processes, for towers without stochastic depth and dropout. Accumulated batches are centred each by
    itself, and KoLeo looks for neighbours in each.

    Args:
        network: the student.
        crops: makes the crops of a batch.
        plan: of the run.
        settings: what must be equal in a run that is resumed.
        evaluate_tower: figures of a tower on validation; None: nothing is evaluated.

    Attributes:
        teacher: its weights are the result of the run.
    """

    args: SelfSupervisedArguments
    plan: Plan

    def __init__(
        self,
        network: Network,
        args: SelfSupervisedArguments,
        films: FilmDataset,
        crops: Crops,
        plan: Plan,
        settings: dict,
        evaluate_tower: Callable[[torch.nn.Module], dict[str, float]] | None = None,
        started: float | None = None,
    ):
        # Before Trainer moves and wraps the student.
        self.teacher = Teacher(network, args.centering).to(args.device)
        super().__init__(network, args, films, plan, settings, evaluate_tower, started)
        self.network, self.crops = network, crops
        self._cost = CropFlops(network, recomputes=args.gradient_checkpointing)
        self.add_callback(_Course(self))

    def tower(self) -> PreTrainedModel:
        return self.teacher.network.backbone

    # A step.

    def create_optimizer(self, model=None) -> torch.optim.Optimizer:
        """With rates by layer, and no weight decay on biases, norms and layer scales."""
        if self.optimizer is None:
            args = self.args
            groups = parameter_groups(
                self.network.backbone, self.network.head, args.learning_rate, args.layer_decay, args.weight_decay
            )
            optimiser_class, options = self.get_optimizer_cls_and_kwargs(args, self.network)
            self.optimizer = optimiser_class(groups, **options)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer=None):
        """Trainer's, by which parts stand still at first."""
        if self.lr_scheduler is None:
            scheduler = super().create_scheduler(num_training_steps, optimizer)
            self.lr_scheduler = hold_still(scheduler, optimizer or self.optimizer, self.plan.standstill)
        return self.lr_scheduler

    def draw_masks(self, generator: np.random.Generator, films: int) -> Masks:
        """For so many films of this process."""
        args, plan, device = self.args, self.plan, self.args.device
        if not args.ibot_weight or plan.patches_a_side is None:
            return Masks()
        images = 2 * films * world_size()
        hidden = draw_masks(generator, images, plan.patches_a_side, args.mask_probability, args.mask_ratio)
        hidden = own_images(hidden, rank(), world_size())
        # Found on the CPU: looking for them on the device would have to wait for it.
        picked, weights = hidden.flatten().nonzero()[:, 0], patch_weights(hidden)
        return Masks(hidden.to(device), picked.to(device), weights.to(device))

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The loss of a batch of this process; the teacher's centres take it in."""
        args, plan, films = self.args, self.plan, inputs["films"]
        generator = batch_generator(args.seed, self.batches_done)
        self.batches_done += 1
        global_crops, local_crops = self.crops(films, generator, rank(), world_size())
        masks = self.draw_masks(generator, len(films))
        temperature = linear(*plan.temperature, self.state.global_step, plan.temperature_steps)
        targets = self.teacher.targets(global_crops, masks.hidden, masks.picked, temperature)
        student = model(global_crops, local_crops, masks.hidden, masks.picked)
        terms = loss_terms(student, targets, args.weights, masks.weights, args.student_temperature)
        self.check_loss(terms["total"])
        self._note(len(films), 0 if masks.picked is None else len(masks.picked), terms, targets.cls)
        return terms["total"]

    def _note(self, films: int, masked: int, terms: dict[str, Tensor], targets: Tensor) -> None:
        self.samples_trained += films
        if self.flops is not None:
            sizes = (self.plan.image_size, self.plan.local_size)
            self.flops["trained"] += self._cost.step(films, sizes, self.crops.args.local_crops, masked)
        mean = targets.mean((0, 1))
        # 1: all prototypes are used alike; 0: one is used for all.
        usage = -(mean * mean.clamp(min=1e-12).log()).sum() / torch.tensor(float(len(mean))).log()
        for name, value in {**terms, "prototype_usage_entropy": usage}.items():
            if name != "total":
                told = name if name.startswith("prototype") else f"loss_{name}"
                self.terms[told] = self.terms.get(told, 0.0) + value.detach()

    # Checkpoints.

    def _save(self, output_dir: str | None = None, state_dict=None) -> None:
        if self.args.should_save:
            folder = Path(output_dir or self.args.output_dir)
            folder.mkdir(parents=True, exist_ok=True)
            save_file(_on_cpu(self.network), folder / STUDENT_FILE)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None) -> None:
        self.network.load_state_dict(load_file(Path(resume_from_checkpoint) / STUDENT_FILE))

    def save_state(self, folder: Path) -> dict:
        """The teacher with its centres, and what was evaluated."""
        save_file(_on_cpu(self.teacher), folder / TEACHER_FILE)
        return super().save_state(folder)

    def load_state(self, folder: Path, state: dict) -> None:
        self.teacher.load_state_dict(load_file(folder / TEACHER_FILE))
        super().load_state(folder, state)


def _on_cpu(module: torch.nn.Module) -> dict[str, Tensor]:
    """All tensors, each with memory of its own."""
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in module.state_dict().items()}
