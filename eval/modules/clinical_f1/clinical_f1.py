"""Agreement of two sets of reports on the findings they tell of: a module of `evaluate`."""

from __future__ import annotations

import datasets
import evaluate
import numpy as np

from eval.tasks.text_metrics import (
    FINDINGS,
    MAIN_FINDINGS,
    finding_f1,
    finding_matrix,
    macro_f1,
    micro_f1,
    weighted_agreement,
)

_DESCRIPTION = """
F1 of the 14 findings of CheXpert (arXiv 1901.07031) that the rules of data_scripts.extraction read in generated and in
reference reports. Present and possible findings count as present. Not comparable with figures of CheXbert.
"""
_INPUTS = """
Args:
    predictions: generated reports.
    references: one reference for each.

Returns, 0 to 1 and NaN where neither side tells of a finding:
    micro, macro: over the 14 findings; the macro mean is of those that either side tells of.
    five_micro, five_macro: over Cardiomegaly, Edema, Consolidation, Atelectasis and Pleural Effusion.
    by_finding: F1 by name.
"""


class ClinicalF1(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions, references) -> dict:
        if not len(predictions):
            raise ValueError("there are no reports: give at least one prediction and its reference")
        whole = np.ones((1, len(predictions)))
        told = [finding_matrix(texts) for texts in (predictions, references)]
        main = [FINDINGS.index(name) for name in MAIN_FINDINGS]
        counts = weighted_agreement(*told, whole)
        five = weighted_agreement(*(findings[:, main] for findings in told), whole)
        return {
            "micro": float(micro_f1(counts)[0]),
            "macro": float(macro_f1(counts)[0]),
            "five_micro": float(micro_f1(five)[0]),
            "five_macro": float(macro_f1(five)[0]),
            "by_finding": dict(zip(FINDINGS, finding_f1(counts)[0].tolist(), strict=True)),
        }
