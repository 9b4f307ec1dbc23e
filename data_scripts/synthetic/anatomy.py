"""The normal body: its measures, sampled per patient and film, and the outlines that follow from them.

Lengths are in patient coordinates (the film's side is about 1). "u" is the distance from the midline; `SIGN` turns
it into x: the patient's right is on the image's left.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import cos, sin
from random import Random

import numpy as np

SIGN = {"right": -1.0, "left": 1.0}
SIDES = ("right", "left")
RIBS = 9
#: How far the outer part of a broken rib has dropped.
FRACTURE_STEP = 0.028
_T = np.linspace(0, 1, 12)
_DOME = np.linspace(0, 1, 9)
_RIB = np.linspace(0, 1, 9)
_ANTERIOR = np.linspace(0, 1, 6)


@dataclass
class Anatomy:
    """The measures of one film. Findings change them before anything is rendered (see `pathology.SHAPES`)."""

    top: float
    dome: dict[str, float]
    angle_depth: float
    half_width: float
    apex_width: float
    inner: float
    heart_ratio: float
    heart_height: float
    heart_side: float
    knob: float
    body_width: float
    shoulder: float
    armpit: float
    rib_slope: float
    rib_bright: float
    arch: float
    breast: float
    gas: float
    spine_curve: float = 0.0
    spine_phase: float = 0.0
    lung_depth: float = 0.4
    markings: float = 1.0
    hila: float = 1.0
    fractures: list[tuple[str, int, float]] = field(default_factory=list)

    def base(self, side: str) -> float:
        """The height of the costophrenic angle."""
        return self.dome[side] + self.angle_depth

    def midline(self, y):
        """x of the spine at height `y`, curved in scoliosis."""
        return 0.5 + self.spine_curve * np.sin(5.5 * (np.asarray(y) - self.spine_phase))

    def wall(self, side: str, y):
        """u of the inner chest wall at height `y`."""
        t = np.clip((np.asarray(y) - self.top) / (self.base(side) - self.top), 0, 1)
        return self.half_width * (1 - (1 - self.apex_width) * (1 - t) ** 2.4)


def sample_anatomy(patient: Random, study: Random, sex: str, age: int, view: str) -> Anatomy:
    """Measures of a healthy person: `patient` samples the build, `study` the breath and what differs between films."""
    stout = patient.uniform(0, 1)
    breath = study.uniform(-0.035, 0.03) - (0.04 if view == "AP" else 0)
    dome = patient.uniform(0.68, 0.77) + breath - 0.03 * stout
    half_width = patient.uniform(0.285, 0.35) * (0.97 if sex == "F" else 1)
    return Anatomy(
        top=patient.uniform(0.09, 0.15) + (0.03 if view == "AP" else 0),
        dome={"right": dome, "left": dome + patient.uniform(0.005, 0.035)},
        angle_depth=patient.uniform(0.07, 0.12),
        half_width=half_width,
        apex_width=patient.uniform(0.38, 0.5),
        inner=patient.uniform(0.048, 0.062),
        heart_ratio=patient.uniform(0.40, 0.475) + (0.025 if view == "AP" else 0),
        heart_height=patient.uniform(0.125, 0.155),
        heart_side=1.0,
        knob=patient.uniform(0.026, 0.034) + 0.006 * (age > 60),
        body_width=half_width + patient.uniform(0.045, 0.075) + 0.08 * stout,
        shoulder=patient.uniform(0.12, 0.2),
        armpit=study.choice((0, 0.04, 0.1, 0.4)),
        rib_slope=patient.uniform(0.05, 0.12),
        rib_bright=patient.uniform(0.05, 0.1),
        arch=patient.uniform(0.02, 0.05),
        breast=patient.uniform(0.03, 0.13) if sex == "F" else patient.choice((0, 0, 0.03)),
        gas=study.choice((0, 0.025, 0.035, 0.05)),
        spine_curve=patient.uniform(-0.004, 0.004),
        spine_phase=patient.uniform(0, 1),
        lung_depth=patient.uniform(0.36, 0.44) - 0.08 * stout,
        markings=patient.uniform(0.7, 1.2),
    )


def lung_outline(a: Anatomy, side: str) -> np.ndarray:
    """The lung as if there were no heart, [n, 2], beginning at the apex and down the chest wall."""
    base, dome, top = a.base(side), a.dome[side], a.top
    y = top + _T * (base - top)
    wall_u = a.wall(side, y)
    # From the costophrenic angle over the dome to the spine.
    dome_u = wall_u[-1] + _DOME * (a.inner - wall_u[-1])
    dome_y = base - (base - dome) * np.minimum(1, np.sin(np.pi * np.minimum(0.5, _DOME * 0.85)) ** 0.7)
    dome_y += 0.02 * np.maximum(0, _DOME - 0.6)
    inner_y = dome + (top + 0.02 - dome) * _T
    inner_u = a.inner + (0.75 * wall_u[0] - a.inner) * _T**6
    u = np.concatenate([wall_u, dome_u, inner_u])
    return np.stack([0.5 + SIGN[side] * u, np.concatenate([y, dome_y, inner_y])], axis=1)


def heart_outline(a: Anatomy) -> np.ndarray:
    """The heart's shadow, [n, 2]: about two thirds of it on the side of the apex."""
    angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    half = a.heart_ratio * a.half_width
    tall = a.heart_height + 0.12 * max(0.0, a.heart_ratio - 0.5)
    x, y = np.cos(angle), np.sin(angle)
    # Narrow above (the great vessels), broad and hanging towards the apex below.
    u = 0.3 * half + half * x * (1 + 0.22 * y)
    low = max(a.dome.values()) + 0.015
    rows = low - tall + tall * y + 0.025 * x
    return np.stack([0.5 + a.heart_side * u, rows], axis=1)


def mediastinum_outline(a: Anatomy) -> np.ndarray:
    """The shadow of spine and great vessels between the lungs, [n, 2], with the aortic knob."""
    knob_y = a.top + 0.17
    right = [(0.055, a.top - 0.03), (0.05, a.top + 0.06), (0.06, a.top + 0.16), (0.075, a.top + 0.32), (0.085, 0.72)]
    knob = a.inner + a.knob
    left = [
        (0.11, 0.72),
        (0.085, a.top + 0.33),
        (0.06, a.top + 0.25),
        (knob - 0.012, knob_y + 0.042),
        (knob, knob_y + 0.015),
        (knob, knob_y - 0.012),
        (knob - 0.012, knob_y - 0.035),
        (0.055, a.top + 0.08),
        (0.05, a.top - 0.03),
    ]
    points = [(-u, y) for u, y in right] + left
    return np.array([(0.5 + a.heart_side * u, y) for u, y in points])


def rib_lines(a: Anatomy, side: str) -> np.ndarray:
    """The posterior parts of the ribs, the uppermost first, [RIBS, n, 2]: from the spine to the chest wall."""
    spacing = (a.dome["right"] + 0.07 - a.top) / RIBS
    start = (a.top + 0.005 + spacing * np.arange(RIBS))[:, None]
    y = start + (a.rib_slope * _RIB**2 - a.arch * np.sin(np.pi * np.minimum(1, 1.1 * _RIB)))
    u = 0.025 + (a.wall(side, y[:, -1:]) - 0.02) * _RIB
    lines = np.empty((*y.shape, 2))
    lines[..., 0] = a.midline(start) + SIGN[side] * u
    lines[..., 1] = y
    return lines


def anterior_rib_lines(side: str, posterior: np.ndarray) -> np.ndarray:
    """The anterior parts, [RIBS, n, 2], from the ends of the `posterior` ones down towards the breast bone."""
    end = posterior[:, -1:]
    lines = np.empty((RIBS, len(_ANTERIOR), 2))
    lines[..., 0] = end[..., 0] - SIGN[side] * 0.62 * np.abs(end[..., 0] - 0.5) * _ANTERIOR
    lines[..., 1] = end[..., 1] + 0.1 * _ANTERIOR**1.3
    return lines


def vessel_lines(a: Anatomy, rng: Random) -> list[tuple[list, float, float]]:
    """Lung vessels branching from the hila: for `Canvas.strokes`, first the thin outer ones, then the thick ones."""
    thick, thin = [], []
    for side in SIDES:
        sign = SIGN[side]
        for branch in range(8):
            x, y = 0.5 + sign * (a.inner + 0.015), a.top + 0.31 + rng.uniform(-0.035, 0.045)
            angle = -1.3 + 2.7 * branch / 7 + rng.uniform(-0.2, 0.2)
            length = rng.uniform(0.07, 0.13) + 0.03 * (branch > 3)
            middle = (x + sign * length * cos(angle), y + length * sin(angle))
            thick.append([(x, y), middle])
            for turn in (-0.4, 0.3):
                fork = angle + turn + rng.uniform(-0.2, 0.2)
                step = rng.uniform(0.08, 0.2)
                end = (middle[0] + sign * step * cos(fork), middle[1] + step * sin(fork) + 0.02)
                thin.append([middle, end])
    return [(thin, 0.007, 0.4), (thick, 0.013, 0.65)]
