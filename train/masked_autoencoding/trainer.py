"""The Trainer of a masked autoencoder on films."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, ViTMAEForPreTraining

from data_scripts.prepared.films import FilmDataset
from train.film_runs.crops import CropArguments, Crops
from train.film_runs.films import batch_generator
from train.film_runs.trainer import FilmPlan, FilmTrainer, Size
from train.masked_autoencoding.arguments import AutoencodingArguments
from train.masked_autoencoding.autoencoder import encoder_of
from train.runs.distributed import rank, world_size
from train.runs.flops import count


@dataclass(frozen=True)
class AutoencodingPlan(FilmPlan):
    """What a run does, in numbers.

    Args:
        patches, hidden_patches: of a crop.
    """

    patches: int
    hidden_patches: int


def make_plan(args: AutoencodingArguments, model: ViTMAEForPreTraining, films: int, film_size: int) -> AutoencodingPlan:
    """The plan of a run on `films` films of `film_size` pixels.

    Raises:
        ValueError: so many patches are hidden that none is left to see, or none is hidden.
    """
    size = Size.of(args, films)
    patches = (model.config.image_size // model.config.patch_size) ** 2
    # As transformers rounds.
    hidden = patches - int(patches * (1 - args.mask_ratio))
    if not 0 < hidden < patches:
        raise ValueError(f"mask_ratio {args.mask_ratio} hides {hidden} of {patches} patches: some must be left to see")
    return AutoencodingPlan(
        films=films,
        batch_size=size.batch_size,
        accumulate=size.accumulate,
        steps=size.steps,
        learning_rate=args.base_learning_rate * size.batch_size * size.accumulate / 256,
        film_size=args.film_size or film_size,
        image_size=model.config.image_size,
        patches=patches,
        hidden_patches=hidden,
    )


def crop_arguments(args: AutoencodingArguments) -> CropArguments:
    """Crops of a masked autoencoder: cut and resized, and nothing else."""
    return CropArguments(
        local_crops=0, global_scale=args.crop_scale, jitter=0.0, blur=False, flip_probability=args.flip_probability
    )


class AutoencodingTrainer(FilmTrainer):
    """Hides patches of films and learns to predict their pixels (arXiv 2111.06377). Its samples are films.

    Crops and hidden patches depend on seed and batch alone: the weights do not depend on the number of processes.

    Args:
        crops: makes the crops of a batch.
    """

    args: AutoencodingArguments
    plan: AutoencodingPlan

    def __init__(
        self,
        model: ViTMAEForPreTraining,
        args: AutoencodingArguments,
        films: FilmDataset,
        crops: Crops,
        plan: AutoencodingPlan,
        settings: dict,
        evaluate_tower: Callable[[PreTrainedModel], dict[str, float]] | None = None,
        started: float | None = None,
    ):
        super().__init__(model, args, films, plan, settings, evaluate_tower, started)
        self.autoencoder, self.crops = model, crops
        self._flops_of_a_film = _flops_of_a_film(model, args.gradient_checkpointing)

    def tower(self) -> PreTrainedModel:
        return encoder_of(self.autoencoder)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None) -> Tensor:
        """The mean over films of this process and over their hidden patches; these are as many in every film."""
        films, generator = inputs["films"], batch_generator(self.args.seed, self.batches_done)
        self.batches_done += 1
        pixels = self.crops.one(films, generator, rank(), world_size())
        # The patches with the lowest noise are seen.
        noise = generator.random((world_size(), len(films), self.plan.patches), dtype="float32")[rank()]
        loss = model(pixel_values=pixels, noise=torch.from_numpy(noise).to(pixels.device)).loss
        self.check_loss(loss)
        self.samples_trained += len(films)
        if self.flops is not None:
            self.flops["trained"] += len(films) * self._flops_of_a_film
        return loss


def _flops_of_a_film(model: ViTMAEForPreTraining, recomputes: bool) -> float:
    """Forward and backward; attention is counted in its plain form."""
    config = copy.deepcopy(model.config)
    with torch.device("meta"):
        twin = ViTMAEForPreTraining._from_config(config, attn_implementation="eager")
        pixels = torch.empty(1, 3, config.image_size, config.image_size)
        noise = torch.empty(1, (config.image_size // config.patch_size) ** 2)
    cost = count(lambda: twin(pixel_values=pixels, noise=noise).loss, recomputes)
    return cost.forward + cost.backward
