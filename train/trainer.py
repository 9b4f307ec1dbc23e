"""The Trainer that curates: it judges super-batches without gradient and trains on what is kept."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader, SequentialSampler, Subset
from transformers import PreTrainedModel, Trainer

from eval.benchmarks import RARE_BELOW
from eval.zero_shot import judge, score_split
from modeling_chexficient import normalise_pixels
from train.arguments import CuratedTrainingArguments
from train.curation import (
    SELECTION_RULES,
    Selection,
    kmeans_prototypes,
    pair_features,
    select_random,
    update_prototypes,
)
from train.curation_state import CurationState
from train.distributed import even_share, gather_uneven, local_slice, rank, share_buffers, world_size
from train.objectives import contrastive_loss
from train.pairs import PairCollator, PairDataset
from train.sampler import CurationBatchSampler, Schedule


def plan(args: CuratedTrainingArguments, num_rows: int) -> Schedule:
    """The steps of a run over `num_rows` pairs.

    With `max_steps` the subset phase takes what curation leaves of them, otherwise `num_train_epochs` minus
    `curation_epochs` passes over the share that will be kept. The total is known before training starts, so that
    one learning-rate schedule covers it without a jump.

    Raises:
        ValueError: the super-batch is larger than the corpus, or `max_steps` ends before curation does.
    """
    batch_size = args.per_device_train_batch_size * world_size()
    curates = args.selection != "none"
    if curates and args.super_batch_size > num_rows:
        raise ValueError(f"super_batch_size is {args.super_batch_size} but the corpus has {num_rows} pairs: lower it")
    warmup_steps = math.ceil(args.curation_warmup_share * num_rows / batch_size) if curates else 0
    epochs = args.curation_epochs if curates else 0
    schedule = Schedule(num_rows, args.super_batch_size, batch_size, warmup_steps, epochs, subset_steps=0)
    if args.max_steps > 0:
        subset_steps = args.max_steps - schedule.total_steps
    else:
        # The published constants keep about what their default super-batch does.
        share = (args.keep_share or CuratedTrainingArguments.keep_share) if curates else 1.0
        steps_per_pass = max(1, round(share * num_rows) // batch_size)
        subset_steps = round((args.num_train_epochs - epochs) * steps_per_pass)
    if subset_steps < 0:
        raise ValueError(
            f"warm-up and curation take {schedule.total_steps} steps for {num_rows} pairs, more than max_steps "
            f"{args.max_steps} or num_train_epochs {args.num_train_epochs} allow: raise those or super_batch_size"
        )
    return Schedule(num_rows, args.super_batch_size, batch_size, warmup_steps, epochs, subset_steps)


@contextmanager
def evaluation_mode(model: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """Without gradient and dropout, and back to the mode the model was in."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield model
    finally:
        model.train(training)


class _EpochDataLoader(DataLoader):
    """Trainer tells its loader the epoch; a plain `DataLoader` would not pass it on."""

    def set_epoch(self, epoch: int) -> None:
        self.batch_sampler.set_epoch(epoch)


class CuratedTrainer(Trainer):
    """Contrastive pretraining with prototype-driven online curation (arXiv 2602.22843).

    In the curation epoch every super-batch is scored without gradient; the selected pairs alone are trained on.
    Unselected pairs never enter the published loss, so this gives the same gradient at about half the cost.
    All processes select from the gathered features alike, so the kept subset does not depend on their number.
    Both hold for towers without dropout and batch normalisation: the first is off while scoring, and the second
    normalises by the batch of one process while training.

    Attributes:
        schedule: the planned steps of each phase.
        curation: prototypes, judged and kept rows.
    """

    args: CuratedTrainingArguments

    def __init__(
        self,
        model: PreTrainedModel,
        args: CuratedTrainingArguments,
        train_dataset: PairDataset,
        data_collator: PairCollator,
        prevalence: dict[str, float] | None = None,
        **kwargs,
    ):
        self.schedule = plan(args, len(train_dataset))
        args.max_steps = self.schedule.total_steps
        super().__init__(model, args, train_dataset=train_dataset, data_collator=data_collator, **kwargs)
        # Our loss is a mean over all processes; Trainer must not rescale it.
        self.model_accepts_loss_kwargs = False
        self.curation = CurationState(len(train_dataset))
        # Of the findings in training, which says what is rare when judging during training.
        self.prevalence = prevalence or {}
        self.pairs_trained = 0
        self.pairs_scored = 0
        self._since_log = (time.perf_counter(), 0)

    def get_train_dataloader(self) -> DataLoader:
        """Not prepared by accelerate: the sampler shares the batches out among the processes itself."""
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        sampler = CurationBatchSampler(self.schedule, self.curation, seed, rank(), world_size())
        return _EpochDataLoader(
            self.train_dataset,
            batch_sampler=sampler,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory and torch.cuda.is_available(),
            prefetch_factor=self.args.dataloader_prefetch_factor,
            persistent_workers=self.args.dataloader_persistent_workers,
        )

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Zero-shot AUROC on a validation split (with `eval_strategy`); never on the films of a test."""
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        with evaluation_mode(self.accelerator.unwrap_model(self.model)) as model:
            split = score_split(
                model, self.processing_class, dataset, (), "published", self.args.per_device_eval_batch_size
            )
        _, macros = judge(split, self.prevalence, RARE_BELOW, resamples=0, seed=self.args.seed)
        metrics = {
            f"{metric_key_prefix}_{name}_auroc": one.value for name, one in macros.items() if one.value is not None
        }
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def get_decay_parameter_names(self, model) -> list[str]:
        """Weight decay on matrices alone (published: none on 1-D parameters)."""
        return [name for name, parameter in model.named_parameters() if parameter.ndim > 1]

    def training_step(self, model, inputs, num_items_in_batch=None) -> Tensor:
        inputs = self._prepare_inputs(inputs)
        if self.schedule.is_curating(self.state.global_step):
            inputs = self.curate(inputs)
        self.pairs_trained += inputs["pairs"] if "pairs" in inputs else len(inputs["rows"]) * world_size()
        return super().training_step(model, inputs, num_items_in_batch)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = self._embed(model, inputs)
        logit_scale = self.accelerator.unwrap_model(model).logit_scale
        loss = contrastive_loss(outputs.image_embeds, outputs.text_embeds, logit_scale, inputs.get("valid"))
        return (loss, outputs) if return_outputs else loss

    def curate(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Choose from a super-batch (this process's part of it) and return this process's part of the kept pairs.

        The kept pairs are spread evenly over the processes by exchanging them (grey uint8 pixels and tokens), so
        that none idles; `valid` marks the rows that only fill up.
        """
        if self.schedule.is_first_of_pass(self.state.global_step):
            # The last pass decides: the union of several would be more than the share asked for.
            self.curation.forget()
        rows = gather_uneven(inputs["rows"]).cpu()
        generator = torch.Generator().manual_seed(self.args.seed * 1_000_003 + self.state.global_step)
        if self.args.selection == "random":
            selection = select_random(len(rows), self.args.keep_share, generator)
        else:
            selection = self._select(inputs, rows, generator)
        kept = selection.kept.cpu()
        self.curation.record(rows, kept)
        return self._exchange(inputs, kept[local_slice(len(kept))])

    def _select(self, inputs: dict[str, Tensor], rows: Tensor, generator: torch.Generator) -> Selection:
        """Score the super-batch, select by the rule, and move the prototypes towards what was kept."""
        state = self.curation
        if state.prototypes is None:
            state.prototypes = self._initial_prototypes()
            state.usage = torch.zeros(len(state.prototypes), device=self.args.device)
        features = gather_uneven(self.score(inputs))
        self.pairs_scored += len(rows)
        if not torch.isfinite(features).all():
            bad = rows[~torch.isfinite(features).all(dim=1).cpu()]
            raise FloatingPointError(
                f"step {self.state.global_step}: {len(bad)} pairs have NaN or infinite features, the first in rows "
                f"{bad[:10].tolist()}: lower learning_rate, or use bf16 instead of fp16"
            )
        rule = SELECTION_RULES[self.args.selection]
        selection = rule(features, state.prototypes, self.args.keep_share, generator, **self.args.rule_constants())
        state.prototypes, usage = update_prototypes(
            features[selection.kept],
            state.prototypes,
            self.args.prototype_momentum,
            self.args.sinkhorn_temperature,
            self.args.sinkhorn_iterations,
        )
        state.usage += usage
        return selection

    def score(self, inputs: dict[str, Tensor]) -> Tensor:
        """Features [B, 2 D] of this process's pairs, without gradient and without dropout.

        They are computed in pieces of the training batch, so that a super-batch of any size fits.
        """
        size = self.args.per_device_train_batch_size
        features = []
        with evaluation_mode(self.accelerator.unwrap_model(self.model_wrapped)) as model, self.accelerator.autocast():
            share_buffers(model)
            for start in range(0, len(inputs["rows"]), size):
                outputs = self._embed(model, {name: tensor[start : start + size] for name, tensor in inputs.items()})
                features.append(pair_features(outputs.image_embeds, outputs.text_embeds))
        return torch.cat(features)

    def _initial_prototypes(self) -> Tensor:
        """K-means on the features of a random sample of the whole corpus, alike on all processes."""
        generator = torch.Generator().manual_seed(self.args.seed)
        sample = torch.randperm(len(self.train_dataset), generator=generator)[: self.args.prototype_sample_size]
        local = Subset(self.train_dataset, sample[local_slice(len(sample))].tolist())
        loader = DataLoader(
            local,
            batch_size=max(1, self.args.super_batch_size // world_size()),
            sampler=SequentialSampler(local),
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
        )
        features = gather_uneven(torch.cat([self.score(self._prepare_inputs(batch)) for batch in loader]))
        self.pairs_scored += len(features)
        prototypes = kmeans_prototypes(features, self.args.num_prototypes)
        if world_size() > 1:
            dist.broadcast(prototypes, src=0)
        return prototypes

    def _exchange(self, inputs: dict[str, Tensor], kept: Tensor) -> dict[str, Tensor]:
        """All processes' kept pairs, and of them this process's even share."""
        pixels = inputs["pixel_values"]
        channels = torch.tensor(pixels.shape[1], device=pixels.device)
        if world_size() > 1:
            # One process may hold a colour image where another holds grey films only.
            dist.all_reduce(channels, op=dist.ReduceOp.MAX)
        inputs = {**inputs, "pixel_values": pixels.expand(-1, int(channels), -1, -1)}
        gathered = {name: gather_uneven(tensor[kept.to(tensor.device)]) for name, tensor in inputs.items()}
        share, valid = even_share(gathered)
        return {**share, "valid": valid, "pairs": len(gathered["rows"])}

    def _embed(self, model, inputs: dict[str, Tensor]):
        """The model's output for a batch of the collator; pixels are normalised here, on the device."""
        processor = self.processing_class.image_processor
        names = ("input_ids", "attention_mask", "token_type_ids")
        return model(
            pixel_values=normalise_pixels(inputs["pixel_values"], processor.image_mean, processor.image_std),
            **{name: inputs[name] for name in names if name in inputs},
        )

    def floating_point_ops(self, inputs) -> int:
        # Trainer's estimate counts pixels as tokens; no figure is better than a wrong one.
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds temperature, pairs per second (trained and scored) and the share of the judged pairs that was kept."""
        started, pairs = self._since_log
        now, total = time.perf_counter(), self.pairs_trained + self.pairs_scored
        if "loss" in logs:
            logs["temperature"] = 1 / self.model.logit_scale.detach().float().exp().item()
            logs["pairs_per_second"] = (total - pairs) / (now - started)
            if self.args.selection != "none":
                logs["kept_share"] = self.curation.kept_share
            self._since_log = (now, total)
        super().log(logs, start_time)
