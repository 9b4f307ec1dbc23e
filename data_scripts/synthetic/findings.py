"""What can be seen on a film: how often, on which side, how severe, and together with what.

Each abnormal film has one main finding, sampled by `weight`, and perhaps companions of it; the devices come
with companions too, with bedside (AP) films of the critically ill, or by themselves. So the prevalence of every
label follows from this table in closed form (`expected_prevalence`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

ABNORMAL_SHARE = 0.5
#: Share of AP films among those without a finding, and of critical care among AP films.
NORMAL_BEDSIDE = 0.12
CRITICAL_SHARE = 0.4


@dataclass(frozen=True)
class Finding:
    """One row of the table.

    `weight`: relative frequency as the main finding. `sides`: words to sample from ("" where it has no side).
    `zones`: heights in the lung to sample from. `graded`: has mild, moderate and large forms. `bedside`: share of
    AP films where it is the main finding. `chronic`: once there, it is on all films of the patient.
    """

    name: str
    weight: float
    sides: tuple[str, ...] = ("",)
    zones: tuple[str, ...] = ("",)
    graded: bool = True
    bedside: float = 0.25
    chronic: bool = False
    companions: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Device:
    """A line or tube; `critical`: its share among films of the critically ill, `background`: among all films."""

    name: str
    critical: float = 0.0
    background: float = 0.0
    sides: tuple[str, ...] = ("",)
    chronic: bool = False


ONE_SIDE = ("right", "left")
ANY_SIDE = ("right", "left", "right", "left", "bilateral")
ANY_ZONE = ("upper", "mid", "lower")

TABLE = (
    Finding(
        "Pleural Effusion",
        7.0,
        ANY_SIDE,
        bedside=0.45,
        companions={"Atelectasis": 0.3, "Cardiomegaly": 0.15, "Consolidation": 0.08, "Chest Tube": 0.08},
    ),
    Finding("Cardiomegaly", 9.0, bedside=0.35, companions={"Edema": 0.2, "Pleural Effusion": 0.2, "Pacemaker": 0.15}),
    Finding("Atelectasis", 7.0, ONE_SIDE, ("lower", "lower", "mid"), bedside=0.4, companions={"Pleural Effusion": 0.1}),
    Finding("Consolidation", 8.0, ONE_SIDE, ANY_ZONE, bedside=0.35, companions={"Pleural Effusion": 0.15}),
    Finding("Edema", 4.5, ("bilateral",), bedside=0.7, companions={"Cardiomegaly": 0.5, "Pleural Effusion": 0.35}),
    Finding("Nodule", 4.5, ONE_SIDE, ANY_ZONE, bedside=0.08, companions={"Emphysema": 0.08}),
    Finding("Pneumothorax", 4.5, ONE_SIDE, bedside=0.5, companions={"Chest Tube": 0.35, "Rib Fracture": 0.12}),
    Finding("Emphysema", 3.6, bedside=0.12, chronic=True, companions={"Nodule": 0.06}),
    Finding(
        "Mass", 3.2, ONE_SIDE, ANY_ZONE, bedside=0.1, companions={"Pleural Effusion": 0.12, "Hilar Enlargement": 0.06}
    ),
    Finding("Fibrosis", 2.8, ("bilateral",), bedside=0.12, chronic=True),
    Finding("Pleural Thickening", 2.5, ONE_SIDE, bedside=0.1, chronic=True),
    Finding("Aortic Enlargement", 2.4, bedside=0.15, chronic=True, companions={"Cardiomegaly": 0.15}),
    Finding("Scoliosis", 2.2, bedside=0.1, chronic=True),
    Finding("Rib Fracture", 1.8, ONE_SIDE, graded=False, bedside=0.3, companions={"Pneumothorax": 0.1}),
    Finding("Elevated Diaphragm", 1.8, ONE_SIDE, bedside=0.2, companions={"Atelectasis": 0.15}),
    Finding("Hiatal Hernia", 0.9, graded=True, bedside=0.15, chronic=True),
    Finding("Hilar Enlargement", 0.8, ("bilateral",), graded=False, bedside=0.1),
    Finding(
        "Cavity",
        0.8,
        ONE_SIDE,
        ("upper", "upper", "mid"),
        graded=False,
        bedside=0.15,
        companions={"Consolidation": 0.15},
    ),
    Finding("Miliary Pattern", 0.7, ("bilateral",), graded=False, bedside=0.2),
    Finding("Pneumoperitoneum", 0.7, graded=True, bedside=0.4),
    Finding("Pneumomediastinum", 0.55, graded=False, bedside=0.4, companions={"Pneumothorax": 0.1}),
    Finding("Dextrocardia", 0.45, graded=False, bedside=0.1, chronic=True),
)

DEVICES = (
    Device("Central Venous Catheter", critical=0.6, background=0.012, sides=("right", "right", "left")),
    Device("Nasogastric Tube", critical=0.5),
    Device("Endotracheal Tube", critical=0.5),
    Device("Pacemaker", background=0.012, sides=("left", "left", "left", "right"), chronic=True),
    Device("Chest Tube", sides=ONE_SIDE),
)

#: The tubes that can lie wrong (`SyntheticOptions.misplaced_tube_share`), and where such a one ends.
WRONG_PLACEMENTS = {
    "Endotracheal Tube": ("right bronchus", "too high"),
    "Nasogastric Tube": ("esophagus", "lung", "coiled"),
    "Central Venous Catheter": ("atrium", "ventricle", "neck"),
}
#: Of a film with one of these it is said that it shows a line or tube.
LINES_AND_TUBES = frozenset((*WRONG_PLACEMENTS, "Chest Tube"))

BY_NAME = {row.name: row for row in TABLE + DEVICES}
TOTAL_WEIGHT = sum(row.weight for row in TABLE)
CHRONIC = frozenset(row.name for row in TABLE + DEVICES if row.chronic)
DEVICE_NAMES = frozenset(row.name for row in DEVICES)


def expected_prevalence(name: str) -> float:
    """The share in [0, 1] of all films that show finding or device `name`; `KeyError` if it is not in the table."""
    row = BY_NAME[name]
    if isinstance(row, Finding):
        own = row.weight
        return ABNORMAL_SHARE * (own + sum(r.weight * r.companions.get(name, 0.0) for r in TABLE)) / TOTAL_WEIGHT
    absent = (1 - ABNORMAL_SHARE) * (1 - _device_chance(row, NORMAL_BEDSIDE))
    for main in TABLE:
        chance = (1 - main.companions.get(name, 0.0)) * (1 - _device_chance(row, main.bedside))
        absent += ABNORMAL_SHARE * main.weight / TOTAL_WEIGHT * chance
    return 1 - absent


def expected_tube_share() -> float:
    """The share in [0, 1] of all films with at least one of `LINES_AND_TUBES`, where no more are asked for."""
    none_critical = none_else = 1.0
    for device in DEVICES:
        if device.name in LINES_AND_TUBES:
            none_else *= 1 - device.background
            none_critical *= (1 - device.background) * (1 - device.critical)

    def without(bedside: float) -> float:
        critical = bedside * CRITICAL_SHARE
        return critical * none_critical + (1 - critical) * none_else

    absent = (1 - ABNORMAL_SHARE) * without(NORMAL_BEDSIDE)
    for main in TABLE:
        companion = 1 - main.companions.get("Chest Tube", 0.0)
        absent += ABNORMAL_SHARE * main.weight / TOTAL_WEIGHT * companion * without(main.bedside)
    return 1 - absent


def _device_chance(device: Device, bedside: float) -> float:
    return 1 - (1 - device.background) * (1 - bedside * CRITICAL_SHARE * device.critical)


#: Every label but "No Finding", the most frequent first.
FINDINGS = tuple(sorted(BY_NAME, key=expected_prevalence, reverse=True))
