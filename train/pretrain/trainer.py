"""The Trainer that curates: it scores super-batches without gradient and trains on what is kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, TrainerCallback
from transformers.trainer_utils import TrainOutput

from data_scripts.prepared.films import PairDataset
from eval.benchmarks import RARE_BELOW
from eval.models.encoders import CheXficientEncoder
from eval.settings import EvaluationSettings
from eval.tasks.zero_shot import judge, score_split
from train.objectives import OBJECTIVES
from train.objectives.batch import PairBatch
from train.objectives.collator import PairCollator
from train.objectives.discounting import DiscountedObjective
from train.objectives.encoding import Encoder
from train.objectives.gradient_cache import backward_in_chunks
from train.objectives.modes import evaluation_mode, has_dropout, without_dropout
from train.pretrain.label_records import LabelledPairs
from train.pretrain.schedule import foreseen_share, plan, relative_costs
from train.pretrain.training_arguments import CuratedTrainingArguments
from train.pretrain.views import View
from train.runs.averaging import WeightAverage
from train.runs.distributed import average_gradients, gather_uneven, rank, sum_over_processes, world_size
from train.runs.flops import PairFlops
from train.runs.nonfinite import NonFiniteError
from train.runs.patch_dropping import PatchDropping, count_patches, draw_seen
from train.runs.sharding import prepare_sharding, sharding_is_asked_for, with_group_of_its_own
from train.runs.trainer import RunTrainer
from train.selection.balance import describe_balance
from train.selection.curator import Curator
from train.selection.rule import When
from train.selection.sampler import CurationBatchSampler
from train.selection.state import CurationState

#: In a checkpoint: the parameters of an objective that has any.
OBJECTIVE_FILE = "objective.safetensors"


class _ChooseOffline(TrainerCallback):
    """Selects from the whole corpus before the first epoch that needs the subset."""

    def __init__(self, trainer: CuratedTrainer):
        self.trainer = trainer

    def on_epoch_begin(self, args, state, control, **kwargs):
        trainer = self.trainer
        due = trainer.schedule.curation_epochs == 0 and trainer.batches_done >= trainer.schedule.curation_end
        if args.rule.when in (When.BEFORE, When.OFFLINE) and due and not trainer.curation.seen.any():
            trainer.curator.choose_offline(trainer.model)


class CuratedTrainer(RunTrainer):
    """Contrastive pretraining with prototype-driven online curation (arXiv 2602.22843).

    In the curation epoch every super-batch is scored without gradient; the selected pairs alone are trained on, with
    dropout off. Unselected pairs never enter the published loss, so the gradient is the same at about half the cost.
    With `curation_trains_on` "all" it is a plain pass over all pairs, without dropout, whose embeddings are the scores.
    A batch of any size is trained with the activations of `chunk_size` pairs (see `train.objectives.gradient_cache`).
    The kept subset does not depend on the number of processes (see `train.selection.curator`) for towers without batch
    normalisation, which normalises by the chunk of one process while training, and without dropout outside of curation,
    which every process draws for its own pairs (BERT's configurations have 0.1). A run with both says so as it begins.

    Attributes:
        schedule: the planned batches of each phase.
        curation: what was scored and kept.
        curator: chooses, and keeps `curation`.
        encoder: embeds, and counts FLOP.
        balance: what `balance_findings` changes, in words; None without it.
        average: of the weights over the steps (`ema_decay`); None: not kept.
        objective: the loss, with parameters of its own that are trained and kept in checkpoints.
        discounting: the objective, where pairs count less in it that seem wrong; None: all count alike.
        batches_done: of all phases; `gradient_accumulation_steps` of them are a step.
        skipped_batches: left out because their loss was not finite (`on_nonfinite` "skip").
    """

    args: CuratedTrainingArguments
    takes_sharding = True

    def __init__(
        self,
        model: PreTrainedModel,
        args: CuratedTrainingArguments,
        train_dataset: PairDataset,
        data_collator: PairCollator,
        prevalence: dict[str, float] | None = None,
        known: dict[str, Tensor] | None = None,
        settings: dict | None = None,
        **kwargs,
    ):
        dropping = PatchDropping(model.vision_model) if args.patch_drop_share else None
        flops = PairFlops(model, recomputes=args.gradient_checkpointing)
        costs = relative_costs(args, flops, model.vision_model, train_dataset, data_collator)
        self.schedule = plan(args, len(train_dataset), costs, foreseen_share(args, len(train_dataset), known or {}))
        self.balance = self._check_balance(args, known or {})
        args.max_steps = self.schedule.total_steps // self.schedule.accumulate
        super().__init__(
            model,
            args,
            corpus=train_dataset.training_fingerprint,
            settings=(settings or {}) | {"schedule": asdict(self.schedule)},
            train_dataset=train_dataset,
            data_collator=data_collator,
            **kwargs,
        )
        # Of the findings in training, which says what is rare when evaluating during training.
        self.prevalence = prevalence or {}
        # Before the towers are compiled: what is evaluated need not be.
        self.average = None if args.ema_decay is None else WeightAverage(model, args.ema_decay)
        if args.compile_towers is not None:
            # The towers alone and in place: scoring and training then share what was compiled.
            model.vision_model.compile(**args.compile_towers)
            model.text_model.compile(**args.compile_towers)
        processor = self.processing_class.image_processor
        self.encoder = Encoder(
            processor.image_mean,
            processor.image_std,
            args.chunk_size or args.per_device_train_batch_size,
            text_multiple=args.padded_text_multiple,
            fixed_shapes=args.compile_towers is not None,
            autocast=self.accelerator.autocast,
            flops=flops,
            dropping=dropping,
        )
        self.flops = self.encoder.spent
        self.objective = OBJECTIVES[args.objective](model.config).to(args.device)
        self.discounting = None
        if args.discount_wrong_reports:
            self.objective = self.discounting = DiscountedObjective(self.objective, self.schedule.num_rows)
        self._kept_whole = prepare_sharding(args, self.accelerator, model)
        self._shards = sharding_is_asked_for(args)
        if self._shards:
            self._check_sharding()
            # Checkpoints are of another form. The launcher may have decided it, of which the arguments say nothing.
            self.settings["fsdp"] = args.fsdp = True
        state = CurationState.for_corpus(len(train_dataset), args.map_sample_size, args.seed)
        self.curator = Curator(args, state, self.encoder, model, train_dataset, data_collator, known)
        self.batches_done = 0
        self.skipped_batches = 0
        self._skipped_in_a_row = 0
        self._seconds_waited = 0.0
        # When figures were logged last, and how many pairs were trained on or scored until then.
        self._since_log = (time.perf_counter(), 0)
        self.add_callback(_ChooseOffline(self))
        if self.average is not None:
            self.add_callback(self.average)

    def _check_balance(self, args: CuratedTrainingArguments, known: dict[str, Tensor]) -> str | None:
        """What balancing findings will change; None without it. Raises ValueError where that would be nothing."""
        if not args.balance_findings:
            return None
        if not self.schedule.warmup_steps and not self.schedule.subset_steps:
            raise ValueError(
                f"balance_findings {args.balance_findings} does nothing in a run that ends with curation, which sees "
                "every pair once: train for more epochs, or leave it out"
            )
        return describe_balance(known["concepts"], args.balance_findings)

    def _check_sharding(self) -> None:
        """Raise ValueError for what does not go with sharded weights."""
        if self.args.eval_strategy != "no":
            raise ValueError("eval_strategy does not go with fsdp: judge checkpoints with eval.run")
        if self.args.compile_towers is not None:
            raise ValueError("torch_compile does not go with fsdp: leave one of them out")
        if self.args.ema_decay is not None:
            raise ValueError("ema_decay does not go with fsdp, which has no whole weights to average: leave it out")
        if next(self.objective.parameters(), None) is not None:
            raise ValueError(
                f"objective {self.args.objective} has parameters of its own, which accelerate's fsdp cannot train "
                "beside the model: use DDP, without fsdp"
            )

    @property
    def curation(self) -> CurationState:
        return self.curator.state

    def train(self, resume_from_checkpoint=None, **kwargs) -> TrainOutput:
        """As `RunTrainer` does; says what is balanced, and where the result depends on the number of processes."""
        if self.balance is not None and rank() == 0:
            print(self.balance)
        if world_size() > 1 and rank() == 0 and has_dropout(self.model):
            print(
                f"The towers have dropout, and {world_size()} processes train: another number of them would keep other "
                "pairs and learn other weights. For the same ones set the dropout of the towers' configurations to 0."
            )
        return super().train(resume_from_checkpoint, **kwargs)

    def get_train_dataloader(self) -> DataLoader:
        """Super-batches while curating, batches of all or of the kept pairs else."""
        pairs = self.train_dataset
        draw = pairs.records.draw if isinstance(pairs, LabelledPairs) else None
        exponent = self.args.balance_findings
        concepts = self.curator.known["concepts"] if exponent else None
        return self.loader_of(
            CurationBatchSampler(
                self.schedule, self.curation, self.data_seed, rank(), world_size(), draw, concepts, exponent
            )
        )

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """Notes how long training waits for data."""
        started = time.perf_counter()
        batches = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._seconds_waited += time.perf_counter() - started
        return batches

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Zero-shot AUROC on a validation split (with `eval_strategy`); never on the films of a test."""
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        settings = EvaluationSettings(batch_size=self.args.per_device_eval_batch_size, precision="fp32")
        with evaluation_mode(self.model if self.average is None else self.average.model) as model:
            encoder = CheXficientEncoder(model, self.processing_class)
            split = score_split(encoder, dataset, (), "published", settings)
        _, macros = judge(split, self.prevalence, RARE_BELOW, resamples=0, seed=self.args.seed)
        metrics = {
            f"{metric_key_prefix}_{name}_auroc": macro.value
            for name, macro in macros.items()
            if macro.value is not None
        }
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def get_decay_parameter_names(self, model) -> list[str]:
        """Weight decay on matrices alone (published: none on 1-D parameters)."""
        return [name for name, parameter in model.named_parameters() if parameter.ndim > 1]

    def _with_objective(self, model) -> torch.nn.Module:
        """All that is trained: the model, and what the objective has of its own."""
        return torch.nn.ModuleList([model, self.objective])

    def create_optimizer(self, model=None) -> torch.optim.Optimizer:
        """Of the objective's parameters, too."""
        optimizer = super().create_optimizer(self._with_objective(self.model if model is None else model))
        return with_group_of_its_own(optimizer, self._kept_whole)

    def _get_num_items_in_batch(self, batch_samples: list[PairBatch], device) -> None:
        """None: the loss is a mean over the pairs of all processes, and Trainer has nothing to divide by."""

    def training_step(self, model, inputs: PairBatch, num_items_in_batch=None) -> Tensor:
        """Curate if it is time to, then accumulate the gradient of the loss over the batch, chunk by chunk."""
        model.train()
        self.objective.train()
        if self._shards:
            # Trainer would sum the gradients of accumulated batches whole, as no card need have room for.
            model.set_requires_gradient_sync(True)
        number, self.batches_done = self.batches_done, self.batches_done + 1
        if number % self.schedule.accumulate == 0:
            # Trainer does so for the model alone.
            self.objective.zero_grad()
        batch = inputs.to(self.args.device)
        curating, cached, embedded = self.schedule.is_curating(number), None, None
        if curating:
            if self.schedule.is_first_of_pass(number):
                # The last pass decides: the union of several would be more than the share asked for.
                self.curation.forget()
            try:
                if self.args.curation_trains_on == "all":
                    batch = self.curator.whole(batch)
                    embedded = partial(self.curator.choose_while_training, batch, number=number)
                else:
                    batch, cached = self.curator.choose(self.model, batch, number)
            except NonFiniteError as error:
                return self._skip(str(error))
        batch = self._with_seen_patches(batch, number)
        if self.discounting is not None:
            self.discounting.active = number >= self.args.discount_from * self.schedule.total_steps
        try:
            with without_dropout(self.model, active=curating):
                loss = self._backward(model, batch, cached, number, embedded)
        except NonFiniteError as error:
            return self._skip(f"{error}{self._culprits(batch)}")
        if self.accelerator.sync_gradients:
            average_gradients(self.objective)
            average_gradients(self._kept_whole)
        self._skipped_in_a_row = 0
        self.samples_trained += int(batch.valid.sum())
        return loss / self.current_gradient_accumulation_steps

    def _culprits(self, batch: PairBatch) -> str:
        """The records whose embeddings are not finite, of all processes, in words."""
        with evaluation_mode(self.model):
            embeds = torch.cat(self.encoder.embed_all(self.model, batch), dim=1)
        culprits = batch.rows.to(embeds.device)[~torch.isfinite(embeds).all(dim=1)]
        rows = gather_uneven(culprits).tolist()
        if not rows:
            return "; no single pair is to blame, all their embeddings are finite"
        return f"; the embeddings of {len(rows)} pairs are, the first: {self.train_dataset.record_ids(rows[:10])}"

    def _backward(
        self,
        model,
        batch: PairBatch,
        cached: tuple[Tensor, Tensor] | None,
        number: int,
        embedded: Callable[[Tensor, Tensor], None] | None = None,
    ) -> Tensor:
        accumulate = self.current_gradient_accumulation_steps

        def check(loss: Tensor) -> None:
            # All processes must stop or skip together, or those left would wait for ever.
            if sum_over_processes(~torch.isfinite(loss)) > 0:
                raise NonFiniteError(f"batch {number} (step {self.state.global_step}): the loss is NaN or infinite")

        return backward_in_chunks(
            model,
            self.model,
            self.encoder,
            batch,
            self.objective,
            lambda loss: self.accelerator.backward(loss / accumulate),
            nullcontext if self._shards else lambda: self.accelerator.no_sync(model),
            cached,
            self._view(number).image_size,
            check,
            self.args.chunks_in_memory,
            embedded,
        )

    def _view(self, number: int) -> View:
        """What is seen of the films of a batch: less than all in the subset phase alone."""
        return self.args.view_at(number - self.schedule.curation_end, self.schedule.subset_steps)

    def _with_seen_patches(self, batch: PairBatch, number: int) -> PairBatch:
        """The batch with the patches that are seen of its films, where some are dropped."""
        view = self._view(number)
        if not view.patch_drop_share:
            return batch
        patches = count_patches(self.model.vision_model, view.image_size or batch.pixel_values.shape[-1])
        seen = draw_seen(batch.rows, patches, view.patch_drop_share, self.args.seed, number)
        return replace(batch, seen_patches=seen.to(batch.device, non_blocking=True))

    def handle_nonfinite(self, what: str) -> None:
        """Pass a batch over, or raise NonFiniteError where that is not wanted or does not help."""
        self.skipped_batches += 1
        self._skipped_in_a_row += 1
        hopeless = self._skipped_in_a_row >= self.args.max_skipped_in_a_row
        if self.args.on_nonfinite == "stop" or hopeless:
            advice = (
                "pass such batches over with --on_nonfinite skip" if not hopeless else "the weights are past mending"
            )
            raise NonFiniteError(
                f"{what}. Nothing was saved over the last checkpoint: go on from it with --resume_from_checkpoint last "
                f"({advice}), or start a new run from its weights (--model CHECKPOINT) with a lower learning_rate, or "
                "with bf16 in place of fp16"
            )
        if rank() == 0:
            print(f"{what}: passed over")

    def _skip(self, what: str) -> Tensor:
        """The loss of a batch that is passed over."""
        self.handle_nonfinite(what)
        return torch.zeros((), device=self.args.device)

    def _clip_grad_norm(self, model):
        return super()._clip_grad_norm(self._with_objective(model))

    def _get_grad_norm(self, model, grad_norm=None):
        return super()._get_grad_norm(self._with_objective(model), grad_norm)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        raise NotImplementedError("the loss needs all chunks of a batch: see training_step")

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds temperature, throughput, FLOP, the share kept and the state of the prototypes."""
        if "loss" in logs:
            started, pairs = self._since_log
            spent = self.spent()
            now, total = time.perf_counter(), spent.samples + self.curator.pairs_scored
            logs["temperature"] = 1 / self.model.logit_scale.detach().float().exp().item()
            logs["pairs_per_second"] = (total - pairs) / (now - started)
            logs["data_wait_share"], self._seconds_waited = self._seconds_waited / (now - started), 0.0
            logs["petaflops"] = spent.flops.total / 1e15
            self._since_log = (now, total)
            wrong_share = None if self.discounting is None else self.discounting.share_since_log()
            if wrong_share is not None:
                logs["wrong_share"] = wrong_share
            if self.schedule.selects:
                logs["kept_share"] = self.curation.kept_share
            if self.curation.prototypes is not None:
                figures, problem = self.curation.describe_prototypes()
                logs |= figures
                if problem and self.schedule.is_curating(self.batches_done) and rank() == 0:
                    print(f"step {self.state.global_step}: {problem}")
        super().log(logs, start_time)

    def save_whole(self, folder: Path, weights: dict[str, Tensor] | None) -> None:
        """As `RunTrainer` does; of a run with an average of the weights, that."""
        with nullcontext() if self.average is None else self.average.in_place():
            super().save_whole(folder, weights)

    def save_state(self, folder: Path) -> dict:
        """What was scored, kept and judged, the average, and the objective's own parameters, where it has any."""
        self.curation.save(folder)
        if self.average is not None:
            self.average.save(folder)
        if self.objective.state_dict():
            save_file(self.objective.state_dict(), folder / OBJECTIVE_FILE)
        if self.discounting is not None:
            self.discounting.save(folder)
        return {"skipped_batches": self.skipped_batches, "pairs_scored": self.curator.pairs_scored}

    def load_state(self, folder: Path, state: dict) -> None:
        self.curator.state = CurationState.load(folder, self.args.device)
        if self.average is not None:
            self.average.load(folder)
        if self.objective.state_dict():
            self.objective.load_state_dict(load_file(folder / OBJECTIVE_FILE))
        if self.discounting is not None:
            self.discounting.load(folder)
        self.skipped_batches, self.curator.pairs_scored = state["skipped_batches"], state["pairs_scored"]
        self.batches_done = self.state.global_step * self.schedule.accumulate
        self._since_log = (time.perf_counter(), self.spent().samples + self.curator.pairs_scored)
