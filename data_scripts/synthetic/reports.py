"""A short report of a case: a findings section, and an impression of its main points."""

from __future__ import annotations

from random import Random

from .case import Case, Present
from .findings import DEVICE_NAMES, FINDINGS, expected_prevalence
from .phrases import MISPLACED, PHRASES

_LUNG = (
    "Atelectasis", "Consolidation", "Edema", "Nodule", "Emphysema", "Mass", "Fibrosis", "Cavity", "Miliary Pattern",
)  # fmt: skip
#: Remarks that all is well, and what must not be there for them to hold.
ALL_WELL = (
    (("Lungs are clear.", "The lungs are clear.", "Clear lungs."), (*_LUNG, "Pneumothorax", "Pleural Effusion")),
    (("The heart size is normal.", "Normal heart size.", "Heart size is normal."), ("Cardiomegaly", "Dextrocardia")),
    (
        ("Mediastinal contours are normal.", "The mediastinum is unremarkable."),
        (
            "Cardiomegaly",
            "Dextrocardia",
            "Aortic Enlargement",
            "Hiatal Hernia",
            "Hilar Enlargement",
            "Pneumomediastinum",
        ),
    ),
    (("The bones are intact.", "No bony abnormality."), ("Rib Fracture", "Scoliosis")),
    (
        ("No pleural abnormality.", "The pleural spaces are clear."),
        ("Pleural Effusion", "Pneumothorax", "Pleural Thickening"),
    ),
    (("No lines or tubes.",), tuple(DEVICE_NAMES)),
)
NORMAL_IMPRESSIONS = (
    "No acute cardiopulmonary abnormality.",
    "No finding.",
    "Normal chest.",
    "Normal chest radiograph.",
    "No acute disease.",
    "No acute cardiopulmonary process.",
    "No acute findings.",
)
_PAIRS = (
    ("Pleural Effusion", "Pneumothorax"),
    ("Consolidation", "Pneumothorax"),
    ("Consolidation", "Pleural Effusion"),
    ("Consolidation", "Edema"),
    ("Nodule", "Mass"),
    ("Cardiomegaly", "Edema"),
)
#: Common findings are denied more often than rare ones, but those too at times.
_DENIAL_WEIGHTS = {name: expected_prevalence(name) + 0.015 for name in FINDINGS}
_MAX_WORDS = 68


def write_report(case: Case) -> tuple[str, str]:
    """The findings and the impression section, at most 70 words together, of what the case reports.

    That is what the film shows, but for a wrong report. Everything denied is absent from it. Findings present are
    all named in the findings section; the impression names up to three, and misplaced tubes.
    """
    rng, wrong = Random(f"{case.film_key}/report"), Random(f"{case.film_key}/report/placement")
    present = case.reported
    positive = [_tell(rng, p, "findings", wrong) for p in present]
    impression = _impression(rng, present, wrong)
    room = _MAX_WORDS - sum(len(text.split()) for text in [*positive, impression])
    names = {p.name for p in present}
    others: list[str] = []
    for sentence in _negatives(rng, names):
        room -= len(sentence.split())
        if room >= 0:
            others.append(sentence)
    sentences = positive + others
    # Some readers begin with what is abnormal, others go through the chest in their own order.
    if rng.random() < 0.5:
        rng.shuffle(sentences)
    return " ".join(sentences), impression


def _negatives(rng: Random, names: set[str]) -> list[str]:
    """Remarks that all is well and denials, in random order, of which the first count most."""
    sentences = []
    wanted = rng.choice((2, 2, 3, 4)) if names else rng.choice((3, 4, 4, 5))
    for texts, excluded in rng.sample(ALL_WELL, len(ALL_WELL)):
        if names.isdisjoint(excluded) and len(sentences) < wanted - 1 and rng.random() < 0.5:
            sentences.append(rng.choice(texts))
    if rng.random() < 0.35:
        first, second = rng.choice(_PAIRS)
        if names.isdisjoint((first, second)):
            sentences.append(f"No {first.lower()} or {second.lower()}.")
    said = " ".join(sentences).lower()
    free = [name for name in FINDINGS if name not in names and name.lower() not in said]
    weights = [_DENIAL_WEIGHTS[name] for name in free]
    for name in dict.fromkeys(rng.choices(free, weights, k=wanted)):
        sentences.append(rng.choice(PHRASES[name].absent))
    rng.shuffle(sentences)
    return sentences


def _impression(rng: Random, present: tuple[Present, ...], wrong: Random) -> str:
    findings = [p for p in present if p.name not in DEVICE_NAMES]
    devices = [p for p in present if p.name in DEVICE_NAMES]
    told = findings[:3]
    if devices and len(told) < 2 and rng.random() < 0.6:
        told.append(rng.choice(devices))
    texts = [_tell(rng, p, "impression", wrong) for p in told]
    normal = rng.choice(NORMAL_IMPRESSIONS) if not findings else ""
    misplaced = [p for p in devices if p.misplaced]
    # The ward has to hear of a misplaced tube, and not that all is normal.
    texts += [_tell(wrong, p, "impression", wrong) for p in misplaced if p not in told]
    return " ".join([*texts, normal] if normal and not misplaced else texts)


def _tell(rng: Random, present: Present, section: str, wrong: Random) -> str:
    """One sentence of the `section` about a finding that is there.

    That a tube lies wrong is told in words drawn from `wrong`, which leaves `rng` to the rest of the report.
    """
    both = present.side == "bilateral"
    zone = "base" if present.name == "Atelectasis" and present.zone == "lower" else present.zone
    if present.name == "Atelectasis":
        zone = {"lower": "base", "mid": "mid zone"}[present.zone]
    template = rng.choice(getattr(PHRASES[present.name], section))
    if present.misplaced:
        template = wrong.choice(getattr(MISPLACED[present.misplaced], section))
    text = template.format(
        a="" if both else "a ",
        s="s" if both else "",
        is_="are" if both else "is",
        side=present.side,
        zone=zone,
        grade=PHRASES[present.name].grades[present.severity],
    )
    return text[0].upper() + text[1:]
