"""The claims of arXiv 2509.12818 that have a sign, and whether they hold in a study: pure functions of its figures.

Arms are told apart by their names (`eval.records.runs.Run.paradigm`), benchmarks of lines and tubes by theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from eval.records.estimates import Estimate
from eval.studies.scaling.results import Claim, Curve, Pair

#: By key, as the paper has them.
CLAIMS = {
    "findings": "images with texts (CLIP type) scale better on findings than images alone (DINOv2 type)",
    "tubes": "images alone are stronger on lines and tubes",
    "labels": "reports and labels (UniCL) are better than reports alone",
    "start": "few films of one's own beat the reference (the start, or open weights)",
}
#: Of the largest size, what "few" is: the published smallest size is a hundredth of the largest.
FEW = 0.1
_TEXTS, _LABELS, _FILMS = "reports", "reports and labels", "films alone (self-distillation)"
_TUBES = ("tube", "ranzcr")


def judge_claims(curves: Sequence[Curve], pairs: Sequence[Pair]) -> list[Claim]:
    """Every claim on each benchmark and the arms that it is about; those about arms that are not there are left out."""
    metrics = {curve.benchmark: curve.metric for curve in curves}
    found = [claim for pair in pairs for claim in _of_pair(pair, metrics[pair.benchmark])]
    found += [claim for curve in curves for claim in _of_start(curve)]
    return sorted(found, key=lambda claim: list(CLAIMS).index(claim.claim))


def is_of_tubes(benchmark: str) -> bool:
    return any(word in benchmark for word in _TUBES)


def _of_pair(pair: Pair, metric: str) -> Iterator[Claim]:
    arms = (pair.first, pair.second)
    films = next((arm for arm in arms if arm.startswith(_FILMS)), None)
    texts = next((arm for arm in arms if arm.startswith(_TEXTS)), None)
    labels = next((arm for arm in arms if arm.startswith(_LABELS)), None)
    alone = next((arm for arm in arms if arm.startswith(_TEXTS) and not arm.startswith(_LABELS)), None)
    if films and texts:
        if is_of_tubes(pair.benchmark):
            yield from _error("tubes", pair, texts, films)
        elif "AUROC" in metric:
            slope = pair.slope if pair.first == texts else minus(pair.slope)
            yield _claim("findings", pair.benchmark, f"{texts} - {films}", "slope", slope)
    elif labels and alone:
        yield from _error("labels", pair, alone, labels)


def _error(claim: str, pair: Pair, worse: str, better: str) -> Iterator[Claim]:
    """That the error of `better` is the lower one at the largest common size."""
    if pair.error is not None:
        error = pair.error if pair.first == worse else minus(pair.error)
        yield _claim(claim, pair.benchmark, f"{worse} - {better}", f"error with {pair.films:,} films", error)


def _of_start(curve: Curve) -> Iterator[Claim]:
    """At the largest size that is few films."""
    few = [point for point in curve.points if point.films <= FEW * curve.points[-1].films * 1.05]
    if few and few[-1].below_reference is not None:
        figure = f"error of the reference minus that with {few[-1].films:,} films"
        yield _claim("start", curve.benchmark, curve.arm, figure, few[-1].below_reference)


def _claim(claim: str, benchmark: str, arms: str, figure: str, estimate: Estimate) -> Claim:
    return Claim(claim, benchmark, arms, figure, estimate, holds(estimate))


def holds(estimate: Estimate) -> bool | None:
    """Whether an interval lies above 0 (True), below it (False), or around it (None); None without an interval."""
    if estimate.low is None or estimate.high is None or estimate.low <= 0 <= estimate.high:
        return None
    return estimate.low > 0


def minus(estimate: Estimate) -> Estimate:
    """The estimate of the opposite difference."""
    value, low, high = (None if one is None else -one for one in (estimate.value, estimate.high, estimate.low))
    return Estimate(value, low, high)
