"""All figures of generated reports against their references, with intervals by patient."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eval.records.results import Estimate, FindingScores, TextScores
from eval.statistics.significance import by_patient_intervals
from eval.tasks.optional_text_metrics import OPTIONAL, attempt, meteor, meteor_1_5
from eval.tasks.radeval_metrics import RADEVAL, RadEvalMetrics
from eval.tasks.text_conventions import R2GenScores, R2GenTexts
from eval.tasks.text_metrics import (
    FINDINGS,
    MAIN_FINDINGS,
    bleu_counts,
    distinct_share,
    finding_f1,
    finding_matrix,
    macro_f1,
    micro_f1,
    precision_recall,
    repeated_ngrams,
    repeated_sentences,
    rouge_l,
    tokenise,
    weighted_agreement,
    weighted_bleu,
)


def score_reports(
    generated: Sequence[str],
    references: Sequence[str],
    patients: np.ndarray,
    resamples: int,
    seed: int,
    conventions: Sequence[R2GenTexts] = (),
    radeval: RadEvalMetrics | None = None,
) -> tuple[TextScores, list[str]]:
    """Scores of generated texts, one reference each, and why optional metrics are missing.

    Args:
        patients: [n], whose report each is; a resample samples patients.
        resamples, seed: of the bootstrap.
        conventions: by which BLEU and ROUGE-L are computed beside that of words.
        radeval: further figures of the package radeval.
    """
    bleu, rouge = bleu_counts(generated, references), rouge_l(generated, references)
    told, wanted = finding_matrix(generated), finding_matrix(references)
    main = [FINDINGS.index(name) for name in MAIN_FINDINGS]
    meteors, reason = attempt(meteor, generated, references)

    def figures(weights: np.ndarray) -> np.ndarray:
        all_findings = weighted_agreement(told, wanted, weights)
        five = weighted_agreement(told[:, main], wanted[:, main], weights)
        columns = [
            weighted_bleu(bleu, weights, 1),
            weighted_bleu(bleu, weights, 4),
            _means(rouge, weights),
            *(mean(counts) for counts in (all_findings, five) for mean in (micro_f1, macro_f1)),
        ]
        return np.column_stack(columns if meteors is None else [*columns, _means(meteors, weights)])

    estimates = by_patient_intervals(figures, patients, resamples, seed)
    optional, reasons = optional_scores(generated, references)
    by_convention = {}
    for texts in conventions:
        others = R2GenScores(texts, generated, references)
        intervals = by_patient_intervals(others, patients, resamples, seed)
        by_convention[texts.convention.name] = dict(zip(others.names, intervals, strict=True))
        value, why = attempt(meteor_1_5, texts.joined(generated), texts.joined(references, reference=True))
        if why is None:
            optional[f"meteor_1.5_{texts.convention.name}"] = value
        else:
            reasons.append(why)
    if radeval is not None:
        figures_of_radeval = radeval(generated, references)
        by_convention[RADEVAL] = {name: Estimate(value, None, None) for name, value in figures_of_radeval.items()}
    scores = TextScores(
        *estimates[:3],
        estimates[7] if meteors is not None else None,
        *estimates[3:7],
        mean_words=float(np.mean([len(tokenise(text)) for text in generated])),
        repeated=float(np.mean([repeated_ngrams(text) for text in generated])),
        distinct=distinct_share(generated),
        optional={"repeated_sentences": float(np.mean([repeated_sentences(text) for text in generated])), **optional},
        by_convention=by_convention,
    )
    return scores, ([reason] if reason else []) + reasons


def _means(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return weights @ values / weights.sum(axis=1)


def optional_scores(generated: Sequence[str], references: Sequence[str]) -> tuple[dict[str, float], list[str]]:
    """Figures by name of the optional metrics that run here, and why the others do not."""
    figures, reasons = {}, []
    for name, metric in OPTIONAL.items():
        values, reason = attempt(metric, generated, references)
        if reason:
            reasons.append(reason)
        elif isinstance(values, dict):
            figures |= {f"{name}_{key}": value for key, value in values.items()}
        else:
            figures[name] = float(np.mean(values))
    return figures, reasons


def score_findings(generated: Sequence[str], references: Sequence[str]) -> list[FindingScores]:
    """Precision, recall and F1 of each finding of the reports."""
    told, wanted = finding_matrix(generated), finding_matrix(references)
    whole = weighted_agreement(told, wanted, np.ones((1, len(told))))
    precision, recall = precision_recall(whole)
    f1 = finding_f1(whole)
    return [
        FindingScores(
            name,
            references=int(wanted[:, number].sum()),
            generated=int(told[:, number].sum()),
            precision=_or_none(precision[0, number]),
            recall=_or_none(recall[0, number]),
            f1=_or_none(f1[0, number]),
        )
        for number, name in enumerate(FINDINGS)
    ]


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
