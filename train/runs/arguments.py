"""What the training arguments of every run share, and what each argument says of a run that is resumed.

An argument is of one of three kinds, which its field declares in `metadata`:

- by default it must be equal in a run that is resumed, and `run.json` records it where it differs from its default;
- `{"resume": "free"}`: it may differ, since it changes how a run is watched, saved or fed and not what it learns;
- `{"recorded": False}`: a path or a secret, which says nothing about what is learnt: neither recorded nor compared.

`{"unset": VALUE}` tells the value that a field with default None gets where nothing is said: it counts as the default.

The fields of `transformers.TrainingArguments` cannot be annotated, so two tables below name those that are not of the
first kind. A field that a later version of transformers adds must be equal until a table names it. A subclass that
declares a field again may give it metadata, which then counts in place of the tables.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import ClassVar

import torch
from transformers import TrainingArguments, get_scheduler

from train.runs.field_metadata import RECORDED, RESUME, UNSET

#: Fields of `TrainingArguments` that may differ in a run that is resumed.
FREE_FIELDS = frozenset(
    {
        # How it is logged ...
        *("logging_strategy", "logging_steps", "logging_first_step"),
        *("log_on_each_node", "log_level", "log_level_replica"),
        *("report_to", "project", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"),
        *("include_num_input_tokens_seen", "include_for_metrics", "skip_memory_metrics"),
        # ... evaluated, where this chooses no weights ...
        *("do_eval", "eval_strategy", "eval_steps", "eval_delay", "eval_on_start", "eval_accumulation_steps"),
        *("eval_do_concat_batches", "eval_use_gather_object", "per_device_eval_batch_size"),
        # ... saved ...
        *("save_strategy", "save_steps", "save_total_limit", "save_only_model", "save_on_each_node"),
        *("push_to_hub", "hub_model_id", "hub_strategy", "hub_private_repo", "hub_always_push", "hub_revision"),
        # ... and fed.
        *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers"),
        *("dataloader_prefetch_factor", "dataloader_multiprocessing_context", "dataloader_in_order", "ddp_timeout"),
    }
)
#: Fields of `TrainingArguments` that are neither recorded nor compared: paths, secrets, and what Trainer fills in.
NOT_RECORDED_FIELDS = frozenset(
    {
        *("output_dir", "run_name", "hub_token", "resume_from_checkpoint", "disable_tqdm"),
        *("logging_nan_inf_filter", "accelerator_config", "activation_checkpointing"),
    }
)

_EVALUATION = "evaluation here is our own and does not read it"
_SAMPLING = "what is trained on is drawn at random, by the seed"
_HUB = "look at the run first, then publish it with model_cards.publish"
#: Fields of `TrainingArguments` that would do nothing in a run of ours, or harm: why, and what to do in place of it.
REFUSED_FIELDS = {
    "load_best_model_at_end": "Trainer 5.x leaves renamed tensors as they were; evaluate checkpoints with eval.run",
    "auto_find_batch_size": "a run is planned, and resumed, with one batch size; lower per_device_train_batch_size",
    "save_only_model": "a run goes on from its optimiser and random numbers too",
    "save_on_each_node": "a checkpoint is one folder, on a file system that all hosts share",
    **dict.fromkeys(
        ("deepspeed", "parallelism_config"),
        "one process a GPU (DDP) is what is tried and, of train.pretrain, sharded weights (fsdp)",
    ),
    **dict.fromkeys(
        ("push_to_hub", "hub_model_id", "hub_strategy", "hub_private_repo", "hub_always_push", "hub_revision"), _HUB
    ),
    **dict.fromkeys(
        ("prediction_loss_only", "eval_do_concat_batches", "eval_use_gather_object", "eval_accumulation_steps"),
        _EVALUATION,
    ),
    **dict.fromkeys(("include_for_metrics", "batch_eval_metrics", "bf16_full_eval", "fp16_full_eval"), _EVALUATION),
    **dict.fromkeys(("label_names", "remove_unused_columns"), "each task knows the columns that it needs"),
    **dict.fromkeys(("train_sampling_strategy", "length_column_name"), _SAMPLING),
    **dict.fromkeys(
        ("metric_for_best_model", "greater_is_better"), "no checkpoint is chosen by it; compare them with eval.run"
    ),
    "dataloader_in_order": "batches out of order would make a run that cannot be repeated",
    "accelerator_config": "batches are shared out among processes in one way alone",
    "average_tokens_across_devices": "every loss is a mean over the pairs, labels or tokens of all processes",
    "label_smoothing_factor": "no loss here has classes to smooth over",
    "ignore_data_skip": "a resumed run goes on exactly, with the data that it has not seen",
    "restore_callback_states_from_checkpoint": "a resumed run takes over all there is by itself",
    "enable_jit_checkpoint": "write checkpoints with save_strategy steps; a run may be stopped at any moment",
    "include_num_input_tokens_seen": "pixels are no tokens; run.json counts pairs or films, and FLOP",
    "neftune_noise_alpha": "noise on the embeddings of words is not tried",
    "use_cache": "training keeps no keys and values",
    **dict.fromkeys(("use_liger_kernel", "liger_kernel_config"), "it has no kernels for these models"),
    "optim_target_modules": "optimisers of projected gradients are not tried",
    **dict.fromkeys(("do_train", "do_predict"), "this command trains; judge with eval.run"),
}
#: Optimisers that read nothing of `optim_args`.
_PLAIN_OPTIMISERS = ("adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "adagrad", "rmsprop")
#: Schedules that Trainer steps by a metric of its own evaluation.
_SCHEDULES_BY_METRIC = ("reduce_lr_on_plateau", "greedy")


@dataclass
class RunArguments(TrainingArguments):
    """`TrainingArguments` of a run; a base class.

    Defaults that differ from `TrainingArguments`: `seed` 0, `save_strategy` "no", `remove_unused_columns` False.

    Attributes:
        refused: arguments of Trainer that would do nothing in such a run, or harm, each with the reason and what to do
            in place of it; given, any other value than the default is a ValueError. A subclass adds its own.
        module: the module that starts the run, for messages.
    """

    refused: ClassVar[dict[str, str]] = REFUSED_FIELDS
    module: ClassVar[str]

    seed: int = 0
    save_strategy: str = "no"
    remove_unused_columns: bool = False

    def __post_init__(self):
        defaults = {argument.name: default_of(argument) for argument in dataclasses.fields(self)}
        for name, reason in self.refused.items():
            if _said(getattr(self, name)) != _said(defaults[name]):
                raise ValueError(f"{name} is not supported: {reason}")
        self._check_dependent()
        self._take_over_launched()
        # A NaN must be seen.
        self.logging_nan_inf_filter = False
        super().__post_init__()
        self._check_schedule()
        if self.n_gpu > 1:
            raise ValueError(
                f"one process sees {self.n_gpu} GPUs: start with `accelerate launch -m {self.module} ...`, or show it "
                "one GPU with CUDA_VISIBLE_DEVICES"
            )

    def _check_dependent(self) -> None:
        """Raise ValueError for arguments that do nothing beside the others."""
        if self.optim_args and self.optim in _PLAIN_OPTIMISERS:
            raise ValueError(f"optim_args: optim {self.optim!s} reads none of them, leave them out")
        checkpointing = ("gradient_checkpointing", "activation_checkpointing")
        for name in checkpointing:
            if getattr(self, f"{name}_kwargs") and not any(getattr(self, switch) for switch in checkpointing):
                raise ValueError(f"{name}_kwargs does nothing without gradient_checkpointing: give that as well")
        if self.save_strategy == "best":
            raise ValueError("save_strategy best is not supported: give steps or epoch, and choose with eval.run")
        if self.do_eval and self.eval_strategy == "no":
            raise ValueError("do_eval does nothing without eval_strategy: give that (steps or epoch)")

    def _take_over_launched(self) -> None:
        """Make arguments of what `accelerate launch`, or its saved configuration, decides beside them: Trainer follows
        it without a word, so a run would be in another precision than its record and its checkpoints say.

        Raises ValueError for what no argument stands for.
        """
        precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
        if precision not in ("no", "bf16", "fp16"):
            raise ValueError(f"accelerate was launched with --mixed_precision {precision}: take no, bf16 or fp16")
        # Where an argument says one, Trainer follows that.
        if precision != "no" and not (self.bf16 or self.fp16):
            setattr(self, precision, True)
        compiler = os.environ.get("ACCELERATE_DYNAMO_BACKEND", "no").lower()
        if compiler != "no":
            raise ValueError(
                f"accelerate was launched with --dynamo_backend {compiler}: launch with no, and give --torch_compile"
            )

    def _check_schedule(self) -> None:
        """Raise ValueError for a schedule that has no such keywords, or that a run here cannot follow."""
        kind, keywords = str(self.lr_scheduler_type.value), self.lr_scheduler_kwargs or {}
        if kind in _SCHEDULES_BY_METRIC:
            raise ValueError(f"lr_scheduler_type {kind} is not supported: choose one that follows the steps")
        optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=self.learning_rate or 1.0)
        try:
            get_scheduler(kind, optimiser, num_warmup_steps=1, num_training_steps=2, scheduler_specific_kwargs=keywords)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"lr_scheduler_kwargs {keywords} do not fit lr_scheduler_type {kind} ({error}): give its own as "
                'JSON, or none ("{}")'
            ) from error


def _said(value):
    """The value of an argument; None for every way to say nothing."""
    return value if value and value != "no" else None


def default_of(argument: dataclasses.Field):
    """What an argument is where nothing is said."""
    if argument.default_factory is not dataclasses.MISSING:
        return argument.default_factory()
    return argument.metadata.get(UNSET, argument.default)


def is_recorded(argument: dataclasses.Field) -> bool:
    """Whether `run.json` says the value of an argument, where it is not the default."""
    return argument.metadata.get(RECORDED, argument.name not in NOT_RECORDED_FIELDS)


def must_be_equal(argument: dataclasses.Field) -> bool:
    """Whether an argument must be equal in a run that is resumed."""
    by_table = "free" if argument.name in FREE_FIELDS else "equal"
    return is_recorded(argument) and argument.metadata.get(RESUME, by_table) == "equal"


def changed_settings(*arguments) -> dict:
    """The arguments that differ from their defaults, without paths and secrets: with the commit, the whole setting."""
    settings = {}
    for of_one_class in arguments:
        settings |= _changed(of_one_class, is_recorded)
    return settings


def settings_of_the_result(*arguments) -> dict:
    """The arguments that differ from their defaults and must be equal in a run that is resumed."""
    settings = {}
    for of_one_class in arguments:
        settings |= _changed(of_one_class, must_be_equal)
    return settings


def _changed(arguments, counts) -> dict:
    settings = {}
    for argument in filter(counts, dataclasses.fields(arguments)):
        value, default = getattr(arguments, argument.name), default_of(argument)
        # False in place of a default of None changes nothing.
        if value != default and (value or default):
            plain = isinstance(value, (int, float, str, bool, dict, list))
            settings[argument.name] = value if plain else str(value)
    # Pretraining compiles its towers alone, and takes the argument away from Trainer.
    return settings | ({"torch_compile": True} if getattr(arguments, "compile_towers", None) is not None else {})
