"""How many batches each phase of a run has: by passes, by steps, or by what the whole run may cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedModel

from data_scripts.prepared.columns import read_column
from data_scripts.prepared.films import PairDataset
from train.objectives.collator import PairCollator
from train.pretrain.training_arguments import CuratedTrainingArguments
from train.pretrain.views import View
from train.runs.distributed import world_size
from train.runs.flops import Cost, PairFlops
from train.runs.patch_dropping import count_patches, count_seen
from train.selection.curator import choose_before
from train.selection.knowledge import REFERENCE
from train.selection.rule import When
from train.selection.sampler import Schedule, round_up

#: Reports whose lengths stand for those of the corpus.
_SAMPLED_TEXTS = 512


@dataclass(frozen=True)
class RelativeCosts:
    """FLOP of a pair, where training on it at full size (forward and backward) is 1.

    Args:
        scored: scoring it, at the size of scoring.
        subset: training on it in the subset phase, as it is seen there; the mean over that phase.
    """

    scored: float = 1 / 3
    subset: float = 1.0


def relative_costs(
    args: CuratedTrainingArguments,
    flops: PairFlops,
    tower: PreTrainedModel,
    dataset: PairDataset,
    collator: PairCollator,
) -> RelativeCosts | None:
    """What a pair of the corpus costs, its report of mean length; None where no budget asks for it."""
    if args.compute_passes is None:
        return None
    rows = range(0, len(dataset), max(1, len(dataset) // _SAMPLED_TEXTS))
    reports = read_column(dataset.dataset, "report", list(rows))
    tokens = collator.tokenizer(reports, truncation=True, max_length=collator.max_text_length)["input_ids"]
    length = max(1, round(sum(map(len, tokens)) / len(tokens)))

    def pair(view: View) -> Cost:
        size, share, seen = view.image_size or collator.image_size, view.patch_drop_share, None
        if share:
            seen = count_seen(count_patches(tower, size), share)
        return flops.pairs(1, size, length, seen=seen)

    whole, scored = pair(View()), pair(View(args.score_image_size))
    trained, subset, begin = whole.forward + whole.backward, 0.0, 0.0
    for end, view in args.views:
        cost = pair(view)
        subset += (end - begin) * (cost.forward + cost.backward)
        begin = end
    return RelativeCosts(scored.forward / trained, subset / trained)


def foreseen_share(args: CuratedTrainingArguments, num_rows: int, known: Mapping[str, Tensor]) -> float | None:
    """The share of the corpus that a rule will keep which chooses before training; None for other rules.

    Raises:
        ValueError: it keeps less than two pairs.
    """
    if args.rule.when is not When.BEFORE:
        return None
    kept = int(choose_before(args, num_rows, known).kept.sum())
    if kept < 2:
        raise ValueError(
            f"selection {args.selection} keeps {kept} of {num_rows} pairs: raise keep_share or choose another selection"
        )
    return kept / num_rows


def plan(
    args: CuratedTrainingArguments,
    num_rows: int,
    costs: RelativeCosts | None = None,
    kept_share: float | None = None,
) -> Schedule:
    """The batches of a run over `num_rows` pairs.

    The subset phase takes what curation leaves: of `max_steps`, of what `compute_passes` passes over all pairs would
    cost, or of `num_train_epochs`, of which `curation_epochs` are curation and the others passes over the share that
    will be kept. The total is known before training starts, so that one learning-rate schedule covers it without a
    jump.

    Args:
        costs: of a pair, for `compute_passes`.
        kept_share: what will be kept, where it is known; None: what is asked for.

    Raises:
        ValueError: the super-batch is larger than the corpus, or the run ends before curation does.
    """
    batch_size = args.per_device_train_batch_size * world_size()
    accumulate = args.gradient_accumulation_steps
    selects, online = args.rule.selects, args.rule.when is When.ONLINE
    if online and args.super_batch_size > num_rows:
        raise ValueError(f"super_batch_size is {args.super_batch_size} but the corpus has {num_rows} pairs: lower it")
    warms_up = selects and args.rule.when is not When.BEFORE
    warmup_steps = math.ceil(args.curation_warmup_share * num_rows / batch_size) if warms_up else 0
    phases = {
        "num_rows": num_rows,
        "super_batch_size": args.super_batch_size,
        "batch_size": batch_size,
        "warmup_steps": round_up(warmup_steps, accumulate),
        "curation_epochs": args.curation_epochs if online else 0,
        "selects": selects,
        "accumulate": accumulate,
    }
    schedule = Schedule(**phases, subset_steps=0)
    if online and args.rule.uses_prototypes and args.num_prototypes > num_rows // schedule.steps_per_pass:
        raise ValueError(
            f"num_prototypes is {args.num_prototypes}, but {num_rows} pairs make super-batches of "
            f"{num_rows // schedule.steps_per_pass}, by the first of which they start: lower it or raise "
            "super_batch_size"
        )
    if args.max_steps > 0:
        given, subset_steps = f"max_steps {args.max_steps}", args.max_steps * accumulate - schedule.total_steps
    elif args.compute_passes is not None:
        given, subset_steps = f"compute_passes {args.compute_passes}", _affordable(args, schedule, costs)
    else:
        given = f"num_train_epochs {args.num_train_epochs}"
        share = _kept_share(args) if kept_share is None else kept_share
        steps_per_pass = max(1, round(share * num_rows) // batch_size)
        subset_steps = round_up(round((args.num_train_epochs - phases["curation_epochs"]) * steps_per_pass), accumulate)
    if subset_steps < 0:
        raise ValueError(
            f"warm-up and curation take {schedule.total_steps // accumulate} steps for {num_rows} pairs, more than "
            f"{given} allows: raise that, super_batch_size, or take a cheaper selection"
        )
    return Schedule(**phases, subset_steps=subset_steps)


def _kept_share(args: CuratedTrainingArguments) -> float:
    # The published constants keep about what their default super-batch does.
    return (args.keep_share or CuratedTrainingArguments.keep_share) if args.rule.selects else 1.0


def _embedded_twice(args: CuratedTrainingArguments) -> float:
    """Share of a super-batch that gradient caching embeds twice where all of it is trained on."""
    own = math.ceil(args.super_batch_size / world_size())
    chunks = math.ceil(own / (args.chunk_size or args.per_device_train_batch_size))
    return 0.0 if chunks == 1 else (chunks - min(args.chunks_in_memory, chunks - 1)) / chunks


def _affordable(args: CuratedTrainingArguments, schedule: Schedule, costs: RelativeCosts) -> int:
    """Batches of the subset phase, a multiple of `accumulate`, that the budget leaves after warm-up and scoring."""
    rule, count = args.rule, schedule.num_rows
    free = args.curation_trains_on == "all"
    if free:
        # Nothing is scored, but what does not fit one chunk goes through the towers twice.
        scored = count * schedule.curation_epochs * _embedded_twice(args)
    else:
        scored = count * max(schedule.curation_epochs, rule.when is When.OFFLINE) if rule.scores else 0
    if REFERENCE in rule.needs:
        # As if the reference cost what the learner does.
        scored += count
    curated = schedule.curation_epochs * count * (1.0 if free else _kept_share(args))
    trained = schedule.warmup_steps * schedule.batch_size + curated
    left = args.compute_passes * count - trained - scored * costs.scored
    # What is left after rounding in floating point counts as left.
    steps = math.floor(left / (costs.subset * schedule.batch_size) + 1e-9)
    return steps // schedule.accumulate * schedule.accumulate
