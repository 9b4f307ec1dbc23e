"""What matters of a curated run, in a few plain sentences made from its numbers."""

from __future__ import annotations

from dataclasses import dataclass

from eval.studies.table import flops_unit
from train.selection.prototypes import have_collapsed
from train.selection.report.intervals import Enrichment, Share
from train.selection.report.report_numbers import CurationNumbers, Defect
from train.selection.rules import rule_named

DEFECTS = {"wrong_report": "wrong reports", "broken_image": "broken images", "near_duplicate": "near-duplicates"}
#: Of fewer pairs than this no verdict is given: the intervals hold less well there, and chance rules.
_FEW = 20


@dataclass(frozen=True)
class Statement:
    """One sentence under its topic; `tone` is "good", "bad" or "plain"."""

    topic: str
    text: str
    tone: str = "plain"


def percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def frequency(value: float | None) -> str:
    """A prevalence with the digits it needs: 12.3 %, 0.42 %, 0.031 %."""
    if value is None:
        return "–"
    return percent(value, 1 if value >= 0.01 or value == 0 else 2 if value >= 0.001 else 3)


def ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def interval(number: Share | Enrichment) -> str:
    """The 95 % interval of a share (in per cent) or of an enrichment."""
    if number.low is None:
        return ""
    if isinstance(number, Share):
        return f"[{100 * number.low:.1f}, {100 * number.high:.1f}]"
    return f"[{number.low:.2f}, {number.high:.2f}]"


def summarise(numbers: CurationNumbers) -> list[Statement]:
    """What was chosen, whether the tail is favoured and defects dropped, whether the prototypes hold, and the cost."""
    tail = [_describe_tail(numbers)] if numbers.findings else []
    defects = [_describe_defect(defect, 1 - numbers.kept_share) for defect in numbers.defects]
    return [_describe_choice(numbers), *tail, *defects, *_describe_health(numbers), _describe_cost(numbers)]


def _describe_choice(numbers: CurationNumbers) -> Statement:
    asked = numbers.run["keep_share_asked"]
    aim = "the rule's published constants, no share asked" if asked is None else f"asked: {percent(asked)}"
    rule = rule_named(numbers.run["selection"])
    text = (
        f"{numbers.kept:,} of {numbers.judged:,} pairs were kept, {percent(numbers.kept_share)} ({aim}), by rule "
        f"{rule.name} ({rule.words})."
    )
    left = numbers.run["corpus_pairs"] - numbers.judged
    if left:
        text += f" {left:,} pairs of the corpus were not judged and are left out of this page."
    missed = asked is not None and abs(numbers.kept_share - asked) > 0.01
    return Statement("Kept", text, "bad" if missed or left else "plain")


def _describe_tail(numbers: CurationNumbers) -> Statement:
    tail, rare = numbers.tail, numbers.tail.rare
    if rare.ratio is None:
        return Statement("Tail", f"No finding is rarer than {percent(tail.rare_below, 0)} in this corpus.")
    if rare.positives < _FEW:
        verdict, tone = f"{_too_few(rare.positives)} to tell", "plain"
    elif rare.low > 1:
        verdict, tone = "the tail is favoured", "good"
    elif rare.high < 1:
        verdict, tone = "the tail is thinned out", "bad"
    else:
        verdict, tone = "neither favoured nor thinned out, as far as these numbers tell", "plain"
    text = (
        f"Pairs with a finding rarer than {percent(tail.rare_below, 0)} are {ratio(rare.ratio)} times as frequent "
        f"among the kept as in the corpus {interval(rare)}: {verdict}."
    )
    if tail.common.ratio is not None:
        text += f" Pairs with a common finding: {ratio(tail.common.ratio)} times {interval(tail.common)}."
    return Statement("Tail", text, tone)


def _too_few(number: int) -> str:
    return f"{number} {'pair is' if number == 1 else 'pairs are'} too few"


def _describe_defect(defect: Defect, overall: float) -> Statement:
    share = defect.dropped
    if share.total < _FEW:
        verdict, tone = f"{_too_few(share.total)} to tell", "plain"
    elif share.low > overall:
        verdict, tone = "more often than the average pair", "good"
    elif share.high < overall:
        verdict, tone = "less often than the average pair", "bad"
    else:
        verdict, tone = "not clearly more or less often than the average pair", "plain"
    name = DEFECTS.get(defect.name, defect.name)
    return Statement(
        name.capitalize(),
        f"{percent(share.value)} of {share.total:,} were dropped {interval(share)}, against {percent(overall)} of all "
        f"pairs: {verdict}.",
        tone,
    )


def _describe_health(numbers: CurationNumbers) -> list[Statement]:
    moments = [moment for moment in numbers.course if moment.usage_entropy is not None]
    if not moments:
        return []
    entropy, cosine = moments[-1].usage_entropy, moments[-1].mean_cosine
    collapsed = have_collapsed(entropy, cosine, moments[0].mean_cosine)
    figures = f"usage entropy {entropy:.2f} (1: all used alike), mean cosine between two {cosine:.2f} (1: all the same)"
    if collapsed:
        advice = "raise curation_warmup_share or lower num_prototypes"
        return [Statement("Prototypes", f"They have collapsed: {figures}; {advice}.", "bad")]
    return [Statement("Prototypes", f"{len(numbers.prototypes)} prototypes hold: {figures}.", "good")]


def _describe_cost(numbers: CurationNumbers) -> Statement:
    run = numbers.run
    unit, size = flops_unit([run["flops"]["total"]])
    text = (
        f"{run['pairs_trained']:,} pairs were trained on and {run['pairs_scored']:,} scored, in {run['steps']:,} "
        f"steps: {run['flops']['total'] / size:.3g} {unit} counted"
    )
    if run["flops"]["scored"]:
        text += f", {percent(run['flops']['scored'] / run['flops']['total'], 0)} of them for scoring"
    processes = "1 process" if run["processes"] == 1 else f"{run['processes']} processes"
    return Statement("Cost", f"{text}; {run['seconds']:,.0f} s on {run['device']} ({processes}).")
