"""The folder of a run: which settings must be equal on resuming, and which checkpoint it goes on from."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import torch

from train.pretrain.arguments import CuratedTrainingArguments
from train.runs.checkpoints import find_checkpoint, newest_checkpoint, why_incomplete
from train.runs.distributed import from_first, rank, sum_over_processes

#: Where things lie and who may see them says nothing about a run; `max_steps` is in the schedule.
_NOT_SETTINGS = (
    *("output_dir", "dataset_dir", "mixture", "hub_token", "run_name", "logging_dir", "max_steps", "disable_tqdm"),
    *("resume_from_checkpoint", "save_curated_dataset", "logging_nan_inf_filter", "accelerator_config"),
    *("activation_checkpointing", "max_skipped_in_a_row"),
)


#: What changes how a run is watched, saved or fed, and not what it learns.
_WATCHING = re.compile(
    r"^(logging_|log_|save_|eval_|do_eval|report_|dataloader_(?!drop)|map_sample|curation_report|per_device_eval|"
    r"ddp_timeout|disable_tqdm|skip_memory|include_|push_|hub_|run_name|project|trackio|on_nonfinite|chunk_size)"
)


def changed_settings(arguments) -> dict:
    """The arguments that differ from their defaults, without paths and secrets: with the commit, the whole setting."""
    settings = {}
    for one in dataclasses.fields(arguments):
        value = getattr(arguments, one.name)
        default = one.default if one.default_factory is dataclasses.MISSING else one.default_factory()
        # What is switched off by False where the default is None was not changed.
        if value != default and (value or default) and one.name not in _NOT_SETTINGS:
            settings[one.name] = value if isinstance(value, (int, float, str, bool, dict, list)) else str(value)
    return settings | ({"torch_compile": True} if getattr(arguments, "compile_towers", None) is not None else {})


def settings_of_the_result(*arguments) -> dict:
    """The arguments that decide what is learnt: they must be equal in a run that is resumed."""
    settings = {name: value for one in arguments for name, value in changed_settings(one).items()}
    return {name: value for name, value in settings.items() if not _WATCHING.match(name)}


def checkpoint_to_resume(args: CuratedTrainingArguments) -> Path | None:
    """The checkpoint to go on from, if that is wanted and there is one; the first process decides for all.

    Raises:
        ValueError: the one named is not whole, another process does not see it whole, or there are checkpoints and no
            word about them.
    """
    output_dir, problem, checkpoint = Path(args.output_dir), None, None
    if rank() == 0:
        try:
            if args.resume_from_checkpoint:
                checkpoint = find_checkpoint(output_dir, args.resume_from_checkpoint)
                if checkpoint is None:
                    print(f"{output_dir} holds no whole checkpoint: starting from the beginning")
            elif newest_checkpoint(output_dir) is not None:
                problem = (
                    f"{output_dir} holds checkpoints of an earlier run: go on with --resume_from_checkpoint last, "
                    "choose another --output_dir, or delete them"
                )
        except ValueError as error:
            problem = str(error)
    checkpoint, problem = from_first((checkpoint, problem))
    if problem is None and checkpoint is not None:
        reason = why_incomplete(checkpoint)
        if sum_over_processes(torch.tensor(int(reason is not None))) > 0:
            problem = (
                f"{checkpoint}: not all processes see it whole ({reason or 'this one does'}); put it where all can"
            )
    if problem is not None:
        raise ValueError(problem)
    return checkpoint
