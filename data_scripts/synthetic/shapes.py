"""Findings that change the shape of the body: they adjust its measures before anything is rendered."""

from __future__ import annotations

from random import Random

from .anatomy import SIDES, Anatomy
from .case import Present


def shape_cardiomegaly(a: Anatomy, present: Present, rng: Random) -> None:
    a.heart_ratio = 0.57 + 0.075 * present.severity + rng.uniform(-0.015, 0.02)


def shape_dextrocardia(a: Anatomy, present: Present, rng: Random) -> None:
    a.heart_side = -1.0
    a.dome["right"], a.dome["left"] = a.dome["left"], a.dome["right"]


def shape_scoliosis(a: Anatomy, present: Present, rng: Random) -> None:
    a.spine_curve = rng.choice((-1, 1)) * (0.032 + 0.018 * present.severity)
    a.spine_phase = rng.uniform(0.1, 0.4)


def shape_emphysema(a: Anatomy, present: Present, rng: Random) -> None:
    for side in SIDES:
        a.dome[side] += 0.05 + 0.02 * present.severity
    a.angle_depth = 0.045 - 0.01 * present.severity
    a.heart_ratio = 0.9 * a.heart_ratio
    a.lung_depth += 0.08 + 0.03 * present.severity
    a.apex_width += 0.08
    a.markings *= 0.55 - 0.1 * present.severity
    a.top -= 0.02


def shape_aorta(a: Anatomy, present: Present, rng: Random) -> None:
    a.knob = 0.058 + 0.017 * present.severity + rng.uniform(0, 0.008)


def shape_elevated_diaphragm(a: Anatomy, present: Present, rng: Random) -> None:
    a.dome[present.side] -= 0.11 + 0.04 * present.severity


def shape_atelectasis(a: Anatomy, present: Present, rng: Random) -> None:
    a.dome[present.side] -= 0.02 * present.severity


def shape_fibrosis(a: Anatomy, present: Present, rng: Random) -> None:
    for side in SIDES:
        a.dome[side] -= 0.025 + 0.01 * present.severity


def shape_hila(a: Anatomy, present: Present, rng: Random) -> None:
    a.hila = rng.uniform(1.7, 2.1)


def shape_fracture(a: Anatomy, present: Present, rng: Random) -> None:
    first = rng.randint(2, 4)
    a.fractures = [(present.side, first + k, rng.choice((0.5, 0.63, 0.75))) for k in range(rng.randint(2, 4))]


SHAPES = {
    "Cardiomegaly": shape_cardiomegaly,
    "Dextrocardia": shape_dextrocardia,
    "Scoliosis": shape_scoliosis,
    "Emphysema": shape_emphysema,
    "Aortic Enlargement": shape_aorta,
    "Elevated Diaphragm": shape_elevated_diaphragm,
    "Atelectasis": shape_atelectasis,
    "Fibrosis": shape_fibrosis,
    "Hilar Enlargement": shape_hila,
    "Rib Fracture": shape_fracture,
}
