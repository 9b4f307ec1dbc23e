"""Who is on film number `index`, what they have, and what was spoilt: a pure function of (options, index).

Films are laid out in blocks of `BLOCK` consecutive indices. A block holds whole patients, so a film's patient,
split and, for a near-duplicate, the earlier film it repeats are known from the block alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from random import Random

from .findings import (
    ABNORMAL_SHARE,
    BY_NAME,
    CHRONIC,
    CRITICAL_SHARE,
    DEVICES,
    LINES_AND_TUBES,
    NORMAL_BEDSIDE,
    ONE_SIDE,
    TABLE,
    WRONG_PLACEMENTS,
    Finding,
    expected_tube_share,
)
from .options import SyntheticOptions

BLOCK = 64
BROKEN_KINDS = ("blank", "saturated", "static", "half cut")
_FILMS_PER_PATIENT = (1, 1, 1, 1, 1, 1, 2, 2, 3, 4)


@dataclass(frozen=True)
class Present:
    """A finding or device on a film: side "right", "left", "bilateral" or "", severity 0 mild, 1 moderate, 2 large.

    `misplaced`: where a tube that lies wrong ends, one of its `WRONG_PLACEMENTS`; "" for all else.
    """

    name: str
    side: str = ""
    severity: int = 1
    zone: str = ""
    misplaced: str = ""


@dataclass(frozen=True)
class Case:
    """All that film and report are made from.

    `present` is what the film shows, `reported` what the report tells (another person's if it is a wrong report).
    The keys seed the rendering: patients look alike on all their films, near-duplicates share `study_key` with film
    `duplicate_of`, and `film_key` is each film's own. `broken` is "" or one of `BROKEN_KINDS`.
    """

    index: int
    patient_id: str
    study_id: str
    split: str
    sex: str
    age_years: int
    view: str
    present: tuple[Present, ...]
    reported: tuple[Present, ...]
    patient_key: str
    study_key: str
    film_key: str
    duplicate_of: int | None = None
    broken: str = ""

    @property
    def wrong_report(self) -> bool:
        return self.reported != self.present

    @property
    def flags(self) -> tuple[str, ...]:
        """The names of the film's known defects, as in `Record.flags`."""
        flags = {
            "wrong_report": self.wrong_report,
            "broken_image": bool(self.broken),
            "near_duplicate": self.duplicate_of is not None,
        }
        return tuple(name for name, holds in flags.items() if holds)


@dataclass
class _Slot:
    patient: int
    split: str
    study: int
    broken: str = ""
    duplicate_of: int | None = None


def make_case(index: int, options: SyntheticOptions) -> Case:
    """Case number `index` of the corpus; `IndexError` unless 0 <= index < options.num_records."""
    if not 0 <= index < options.num_records:
        raise IndexError(f"index {index} is outside the corpus of {options.num_records} films")
    block, place = divmod(index, BLOCK)
    slot = _layout(block, options)[place]
    patient = f"P{block:06d}{slot.patient:02d}"
    patient_key = f"{options.seed}/{patient}"
    study_key = f"{patient_key}/{slot.study}"
    film_key = f"{options.seed}/film {index}"
    view, present = _study(patient_key, study_key)
    present = _with_tubes(present, study_key, options)
    about = Random(f"{patient_key}/about")
    sex, age = about.choice("FM"), int(about.triangular(18, 92, 62))
    reported = present
    chance = Random(f"{film_key}/wrong report")
    # Broken films keep their own report: each defect is studied by itself.
    share = options.wrong_report_share / (1 - options.broken_image_share)
    if slot.split == "train" and not slot.broken and chance.random() < share:
        reported = _report_of_a_stranger(film_key, present, options)
    return Case(
        index,
        patient,
        f"{patient}-{slot.study}",
        slot.split,
        sex,
        age,
        view,
        present,
        reported,
        patient_key,
        study_key,
        film_key,
        None if slot.duplicate_of is None else block * BLOCK + slot.duplicate_of,
        slot.broken,
    )


@lru_cache(maxsize=64)
def _layout(block: int, options: SyntheticOptions) -> list[_Slot]:
    """The slots of a block in film order. A near-duplicate comes after its original."""
    rng = Random(f"{options.seed}/block {block}")
    slots: list[_Slot] = []
    patient = 0
    while len(slots) < BLOCK:
        split = _draw_split(rng, options)
        for study in range(rng.choice(_FILMS_PER_PATIENT)):
            slots += _films_of_study(rng, options, patient, split, study)
        patient += 1
    places = rng.sample(range(BLOCK), BLOCK)
    layout: dict[int, _Slot] = {}
    for _, films in groupby(slots[:BLOCK], key=lambda slot: (slot.patient, slot.study)):
        copies = list(films)
        mine = sorted(places.pop() for _ in copies)
        for slot, place in zip(copies, mine, strict=True):
            slot.duplicate_of = None if place == mine[0] else mine[0]
            layout[place] = slot
    return [layout[place] for place in range(BLOCK)]


def _draw_split(rng: Random, options: SyntheticOptions) -> str:
    # Only training patients have near-duplicates; with fewer of them the shares of films come out as asked.
    train = (1 - options.validation_share - options.test_share) * (1 - options.near_duplicate_share)
    weights = (train, options.validation_share, options.test_share)
    return rng.choices(("train", "validation", "test"), weights)[0]


def _films_of_study(rng: Random, options: SyntheticOptions, patient: int, split: str, study: int) -> list[_Slot]:
    """One film, or in the training split a broken one, or one with near-duplicates.

    Broken films are not duplicated (nothing would be alike); the chances make the shares of films come out as asked.
    """
    slot = _Slot(patient, split, study)
    if split != "train":
        return [slot]
    if rng.random() < options.broken_image_share / (1 - options.near_duplicate_share):
        slot.broken = rng.choice(BROKEN_KINDS)
        return [slot]
    films = [slot]
    while rng.random() < options.near_duplicate_share / (1 - options.broken_image_share) and len(films) < BLOCK:
        films.append(_Slot(patient, split, study))
    return films


def _study(patient_key: str, study_key: str) -> tuple[str, tuple[Present, ...]]:
    """The view and findings of a study.

    A patient with a chronic finding has the same findings on all films; other patients have new ones each time,
    sampled among those without chronic findings, which leaves the prevalences as they are in the table.
    """
    rng = Random(f"{patient_key}/findings")
    view, present = draw_findings(rng)
    if not any(p.name in CHRONIC for p in present):
        rng = Random(f"{study_key}/findings")
        view, present = draw_findings(rng)
        while any(p.name in CHRONIC for p in present):
            view, present = draw_findings(rng)
    return view, present


def draw_findings(rng: Random) -> tuple[str, tuple[Present, ...]]:
    """A view ("PA" or "AP") and the findings and devices of a random film."""
    names = []
    bedside = NORMAL_BEDSIDE
    if rng.random() < ABNORMAL_SHARE:
        main = rng.choices(TABLE, [row.weight for row in TABLE])[0]
        names = [main.name] + [name for name, share in main.companions.items() if rng.random() < share]
        bedside = main.bedside
    view = "AP" if rng.random() < bedside else "PA"
    critical = view == "AP" and rng.random() < CRITICAL_SHARE
    for device in DEVICES:
        if rng.random() < device.background or (critical and rng.random() < device.critical):
            names.append(device.name)
    present: list[Present] = []
    for name in dict.fromkeys(names):
        present.append(_draw_present(rng, name, present))
    return view, tuple(present)


def _draw_present(rng: Random, name: str, others: list[Present]) -> Present:
    row = BY_NAME[name]
    side = rng.choice(row.sides)
    # What belongs together is on the same side: a chest tube in the effusion, atelectasis above it.
    if row.sides != ("",) and name not in ("Central Venous Catheter", "Pacemaker"):
        one_sided = [another.side for another in others if another.side in ONE_SIDE]
        side = one_sided[0] if one_sided and side != "bilateral" else side
    if not isinstance(row, Finding):
        return Present(name, side)
    return Present(name, side, rng.choice((0, 0, 1, 1, 2)) if row.graded else 1, rng.choice(row.zones))


def _with_tubes(present: tuple[Present, ...], key: str, options: SyntheticOptions) -> tuple[Present, ...]:
    """The findings and devices with the tubes, and the wrong places of tubes, that the options ask for.

    They come of random streams of their own, so that nothing else of the film changes with the options.
    """
    names = {p.name for p in present}
    if options.tube_share is not None and names.isdisjoint(LINES_AND_TUBES):
        usual = expected_tube_share()
        rng = Random(f"{key}/tubes")
        if rng.random() < (options.tube_share - usual) / (1 - usual):
            present += _draw_tubes(rng)
    return tuple(_place(p, Random(f"{key}/placement/{p.name}"), options.misplaced_tube_share) for p in present)


def _draw_tubes(rng: Random) -> tuple[Present, ...]:
    """One or more tubes, as often together as on the films of the critically ill."""
    added: list[Present] = []
    while not added:
        for device in DEVICES:
            if device.name in WRONG_PLACEMENTS and rng.random() < device.critical:
                added.append(_draw_present(rng, device.name, added))
    return tuple(added)


def _place(present: Present, rng: Random, share: float) -> Present:
    """The same, or in this share of the tubes, the tube in a wrong place."""
    if present.name not in WRONG_PLACEMENTS or rng.random() >= share:
        return present
    return replace(present, misplaced=rng.choice(WRONG_PLACEMENTS[present.name]))


def _report_of_a_stranger(
    film_key: str, present: tuple[Present, ...], options: SyntheticOptions
) -> tuple[Present, ...]:
    """The findings of somebody outside the corpus who does not happen to have the same ones."""
    rng = Random(f"{film_key}/stranger")
    number = 0
    while True:
        number += 1
        reported = _with_tubes(draw_findings(rng)[1], f"{film_key}/stranger {number}", options)
        if {p.name for p in reported} != {p.name for p in present}:
            return reported
