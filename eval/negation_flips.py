"""Which metrics notice that a sentence says the opposite: twenty sentences, each flipped and each reworded.

    python -m eval.negation_flips > negation_flips.md

A flip (a negation put in or taken out) changes what is true of the patient, a rewording does not. A metric notices a
flip if its figure falls more by it than by the rewording of the same sentence: else the wrong report is ranked above
the right one. All three are compared with the written sentence.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import numpy as np

from data_scripts.command_line import command_name
from eval.tasks.optional_text_metrics import attempt, meteor
from eval.tasks.text_conventions import R2GEN, R2GenScores, R2GenTexts
from eval.tasks.text_metrics import (
    bleu_counts,
    finding_matrix,
    micro_f1,
    rouge_l,
    weighted_agreement,
    weighted_bleu,
)

#: As written, with the opposite meaning, and with the same meaning in other words.
SENTENCES = (
    ("No pleural effusion.", "Pleural effusion.", "There is no effusion in the pleural space."),
    ("There is no pneumothorax.", "There is a pneumothorax.", "A pneumothorax is not seen."),
    ("No focal consolidation is seen.", "Focal consolidation is seen.", "The lungs are without consolidation."),
    ("There is mild pulmonary edema.", "There is no pulmonary edema.", "Mild edema of the lungs is present."),
    ("The heart is enlarged.", "The heart is not enlarged.", "There is cardiomegaly."),
    ("There is no acute fracture.", "There is an acute fracture.", "No broken bone or fracture is identified."),
    ("Left lower lobe atelectasis is present.", "No left lower lobe atelectasis is present.",
     "There is atelectasis at the left base."),
    ("No evidence of pneumonia.", "Evidence of pneumonia.", "Findings do not suggest pneumonia."),
    ("Small right pleural effusion.", "No right pleural effusion.", "There is a little pleural effusion on the right."),
    ("There is no evidence of pulmonary edema.", "There is evidence of pulmonary edema.",
     "The lungs show no edema."),
    ("No large pneumothorax or effusion.", "Large pneumothorax and effusion.",
     "Neither a pneumothorax nor an effusion is seen."),
    ("There is consolidation in the right upper lobe.", "There is no consolidation in the right upper lobe.",
     "The right upper lobe is consolidated."),
    ("Cardiomegaly is present.", "Cardiomegaly is not present.", "The cardiac silhouette is enlarged."),
    ("An endotracheal tube is in place.", "No endotracheal tube is in place.", "The patient has an endotracheal tube."),
    ("There is a nodule in the left lung.", "There is no nodule in the left lung.", "A left lung nodule is noted."),
    ("No rib fracture is identified.", "A rib fracture is identified.", "The ribs show no fracture."),
    ("There is a large left pneumothorax.", "There is no left pneumothorax.", "Large pneumothorax on the left side."),
    ("Bibasilar atelectasis is noted.", "Bibasilar atelectasis is not noted.",
     "There is atelectasis at both lung bases."),
    ("No lung opacity is seen.", "A lung opacity is seen.", "The lungs are free of opacity."),
    ("There is pneumonia in the left lower lobe.", "There is no pneumonia in the left lower lobe.",
     "Left lower lobe pneumonia is present."),
)  # fmt: skip
_ONE = np.ones((1, 1))


def _bleu(order: int) -> Callable[[str, str], float]:
    return lambda text, written: float(weighted_bleu(bleu_counts([text], [written]), _ONE, order)[0])


def _r2gen(figure: str) -> Callable[[str, str], float]:
    """Of the cleaning and counting of `r2gen_iu`, with every word known."""
    convention = R2GEN["r2gen_iu"]
    words = frozenset(word for row in SENTENCES for text in row for word in convention.clean(text))
    column = R2GenScores.names.index(figure)

    def score(text: str, written: str) -> float:
        return float(R2GenScores(R2GenTexts(convention, words), [text], [written])(_ONE)[0, column])

    return score


def clinical_f1(text: str, written: str) -> float:
    """Clinical F1 (micro); 1 where neither text tells of a finding, for then they agree."""
    f1 = float(micro_f1(weighted_agreement(finding_matrix([text]), finding_matrix([written]), _ONE))[0])
    return 1.0 if np.isnan(f1) else f1


METRICS: dict[str, Callable[[str, str], float]] = {
    "BLEU-1, words": _bleu(1),
    "BLEU-4, words": _bleu(4),
    "ROUGE-L (beta 1), words": lambda text, written: float(rouge_l([text], [written])[0]),
    "BLEU-1, r2gen_iu": _r2gen("bleu1"),
    "BLEU-4, r2gen_iu": _r2gen("bleu4"),
    "ROUGE-L (beta 1.2), r2gen_iu": _r2gen("rouge_l"),
    "clinical F1": clinical_f1,
}


def drops(metric: Callable[[str, str], float], sentences: Sequence[tuple[str, str, str]] = SENTENCES) -> np.ndarray:
    """How far the figure falls [sentences, 2] from that of the written sentence: by the flip, by the rewording."""
    return np.array(
        [[metric(written, written) - metric(text, written) for text in others] for written, *others in sentences]
    )


def noticed(fallen: np.ndarray) -> np.ndarray:
    """Which flips [sentences] cost more than the rewording, of `drops`."""
    return fallen[:, 0] > fallen[:, 1] + 1e-12


def page() -> str:
    """The table of metrics and that of sentences, as Markdown."""
    metrics = dict(METRICS)
    _, missing = attempt(meteor, ["no edema"], ["no edema"])
    if missing is None:
        metrics["METEOR (nltk, 2005), words"] = lambda text, written: float(meteor([text], [written])[0])
    fallen = {name: drops(metric) for name, metric in metrics.items()}
    lines = [
        "# Which metric notices a negation",
        "",
        "A flip is noticed if the figure falls more by it than by a rewording of the same meaning. BLEU-4 of a "
        "sentence of fewer than four words is 0, of itself, too. The findings are said in plain words, "
        "which the rules behind the clinical F1 know: on reports they also miss some.",
        "",
        f"| metric | noticed, of {len(SENTENCES)} | mean drop by the flip | by the rewording |",
        "|---|---:|---:|---:|",
    ]
    for name, values in fallen.items():
        flip, reworded = values.mean(axis=0)
        lines.append(f"| {name} | {noticed(values).sum()} | {flip:.3f} | {reworded:.3f} |")
    lines += ["", *([f"{missing}.", ""] if missing else [])]
    lines += ["Drop by the flip, in bold where it is noticed:", ""]
    lines += [f"| written | flipped | {' | '.join(fallen)} |", "|---|---|" + "---:|" * len(fallen)]
    for row, (written, flipped, _) in enumerate(SENTENCES):
        cells = [f"**{drop[row, 0]:.2f}**" if noticed(drop)[row] else f"{drop[row, 0]:.2f}" for drop in fallen.values()]
        lines.append(f"| {written} | {flipped} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    argparse.ArgumentParser(prog=command_name(), description=__doc__.splitlines()[0]).parse_args()
    print(page())
