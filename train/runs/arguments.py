"""What the training arguments of every run share, and what each argument says of a run that is resumed.

An argument is of one of three kinds, which its field declares in `metadata`:

- by default it must be equal in a run that is resumed, and `run.json` records it where it differs from its default;
- `{"resume": "free"}`: it may differ, since it changes how a run is watched, saved or fed and not what it learns;
- `{"recorded": False}`: a path or a secret, which says nothing about what is learnt: neither recorded nor compared.

The fields of `transformers.TrainingArguments` cannot be annotated, so two tables below name those that are not of the
first kind. A field that a later version of transformers adds must be equal until a table names it. A subclass that
declares a field again may give it metadata, which then counts in place of the tables.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from transformers import TrainingArguments

#: Keys of a field's metadata that are ours; everything else in it is for the command line.
RESUME, RECORDED = "resume", "recorded"

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


@dataclass
class RunArguments(TrainingArguments):
    """`TrainingArguments` of a run; a base class.

    Defaults that differ from `TrainingArguments`: `seed` 0, `save_strategy` "no", `remove_unused_columns` False.

    Attributes:
        refused: arguments of Trainer that would do nothing in such a run, or harm, each with the reason and what to do
            in place of it. A subclass adds its own.
        module: the module that starts the run, for messages.
    """

    refused: ClassVar[dict[str, str]] = {
        "load_best_model_at_end": "Trainer 5.x leaves renamed tensors as they were; evaluate checkpoints with eval.run",
        "auto_find_batch_size": "a run is planned, and resumed, with one batch size; lower per_device_train_batch_size",
        "save_only_model": "a run goes on from its optimiser and random numbers too",
        "save_on_each_node": "a checkpoint is one folder, on a file system that all hosts share",
        "fsdp": "one process a GPU (DDP) is what is tried",
        "deepspeed": "one process a GPU (DDP) is what is tried",
        "push_to_hub": "look at the run first, then publish it with model_cards.publish",
    }
    module: ClassVar[str]

    seed: int = 0
    save_strategy: str = "no"
    remove_unused_columns: bool = False

    def __post_init__(self):
        for name, reason in self.refused.items():
            if getattr(self, name):
                raise ValueError(f"{name} is not supported: {reason}")
        # A NaN must be seen.
        self.logging_nan_inf_filter = False
        super().__post_init__()
        if self.n_gpu > 1:
            raise ValueError(
                f"one process sees {self.n_gpu} GPUs: start with `accelerate launch -m {self.module} ...`, or show it "
                "one GPU with CUDA_VISIBLE_DEVICES"
            )


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
        value, default = getattr(arguments, argument.name), argument.default
        if argument.default_factory is not dataclasses.MISSING:
            default = argument.default_factory()
        # False in place of a default of None changes nothing.
        if value != default and (value or default):
            plain = isinstance(value, (int, float, str, bool, dict, list))
            settings[argument.name] = value if plain else str(value)
    # Pretraining compiles its towers alone, and takes the argument away from Trainer.
    return settings | ({"torch_compile": True} if getattr(arguments, "compile_towers", None) is not None else {})
