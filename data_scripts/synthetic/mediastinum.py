"""Findings of mediastinum, belly and bones; painters as in `pathology`."""

from __future__ import annotations

from random import Random

import numpy as np

from .anatomy import FRACTURE_STEP, SIDES, SIGN, rib_lines
from .canvas import soft_step
from .case import Present
from .plate import Plate


def paint_hernia(plate: Plate, present: Present, rng: Random) -> None:
    """A round shadow behind the heart, above the diaphragm, with a level of air over fluid."""
    a = plate.anatomy
    radius = (0.06, 0.075, 0.095)[present.severity]
    x, y = 0.5 + a.heart_side * rng.uniform(0.0, 0.035), max(a.dome.values()) - 0.6 * radius
    window, shape = plate.blob(x, y, 1.15 * radius, radius, 0.07, sharp=6)
    inside, hole = plate.blob(x, y, 0.95 * radius, 0.8 * radius, 0.0, sharp=5)
    air = hole * soft_step(np.float32(y) - plate.canvas.y[inside], 0.012)
    plate.density[inside] -= np.float32(0.3) * air
    plate.mark(present.name, shape > 0.5, window)


def paint_pneumoperitoneum(plate: Plate, present: Present, rng: Random) -> None:
    """Dark crescents of air between diaphragm and liver, under one or both domes."""
    a = plate.anatomy
    thick = 0.02 + 0.012 * present.severity
    for side in SIDES if rng.random() < 0.6 else ("right",):
        s = np.linspace(-1, 1, 12)
        x = 0.5 + SIGN[side] * (0.55 + 0.36 * s) * a.half_width
        roof = a.dome[side] + 0.016 + 0.035 * s**2
        floor = roof + thick * (1 - s**2) + 0.004
        crescent = np.concatenate([np.stack([x, roof], 1), np.stack([x, floor], 1)[::-1]])
        cover = plate.canvas.polygons(crescent)
        plate.density -= cover * np.float32(0.42)
        plate.mark(present.name, cover > 0.5)


def paint_pneumomediastinum(plate: Plate, present: Present, rng: Random) -> None:
    """Dark stripes of air along heart and great vessels, the pleura a white line beside them, up into the neck."""
    a = plate.anatomy
    dark, white = [], []
    for side in SIDES:
        y = np.linspace(a.top - 0.12, a.dome[side] - 0.05, 14)
        heart = a.heart_ratio * a.half_width * (1.2 if SIGN[side] == a.heart_side else 0.75)
        u = a.inner + 0.01 + np.maximum(0, heart - a.inner) * np.clip((y - a.top - 0.25) / 0.22, 0, 1) ** 0.8
        u = u - 0.02 * np.clip((a.top - y) / 0.1, 0, 1)
        dark.append((np.stack([0.5 + SIGN[side] * (u + 0.004), y], 1), 0.016, 1.0))
        white.append((np.stack([0.5 + SIGN[side] * (u + 0.017), y], 1), 0.006, 1.0))
    cover = plate.canvas.strokes(dark)
    plate.density -= cover * np.float32(0.17)
    plate.density += plate.canvas.strokes(white) * np.float32(0.12)
    plate.mark(present.name, cover > 0.4)


def paint_fracture(plate: Plate, present: Present, rng: Random) -> None:
    """Gap, step and callus; the rib itself is rendered broken (`shape_fracture`)."""
    for side, number, where in plate.anatomy.fractures:
        line = rib_lines(plate.anatomy, side)[number]
        at = int(where * (len(line) - 1))
        x, y = (line[at] + line[at + 1]) / 2
        window, shape = plate.blob(x, y, 0.03, 0.03, 0.0)
        plate.mark(present.name, shape > 0.3, window)
        plate.callus += [line[at], np.add(line[at + 1], (0, FRACTURE_STEP))]


def mark_heart(plate: Plate, present: Present, rng: Random) -> None:
    """The mask of a finding that is all in the heart's shape."""
    plate.mark(present.name, plate.masks["heart"])


def mark_diaphragm(plate: Plate, present: Present, rng: Random) -> None:
    """The mask of a raised dome: what lies just below it and would be lung."""
    a, u = plate.anatomy, plate.u(present.side)
    depth = plate.canvas.y - np.float32(a.dome[present.side])
    below = (depth > 0) & (depth < 0.08) & (u > a.inner) & (u < a.half_width)
    plate.mark(present.name, below & (plate.lungs[present.side] < 0.5))


def mark_aorta(plate: Plate, present: Present, rng: Random) -> None:
    a = plate.anatomy
    x = 0.5 + a.heart_side * (a.inner + 0.4 * a.knob)
    window, shape = plate.blob(x, a.top + 0.17, 0.8 * a.knob, 0.06, 0.03)
    plate.mark(present.name, shape > 0.4, window)


def mark_hila(plate: Plate, present: Present, rng: Random) -> None:
    a = plate.anatomy
    for side in SIDES:
        x = 0.5 + SIGN[side] * (a.inner + 0.02)
        for _ in range(3):
            shift = rng.uniform(0, 0.03), rng.uniform(-0.06, 0.06)
            spot = x + SIGN[side] * shift[0], a.top + 0.31 + shift[1]
            window, shape = plate.blob(*spot, 0.035, 0.035, 0.1, sharp=3, within="lungs")
            plate.mark(present.name, shape > 0.3, window)


def mark_spine(plate: Plate, present: Present, rng: Random) -> None:
    y = np.linspace(0, 1, 30)
    spine = plate.canvas.strokes([(np.stack([plate.anatomy.midline(y), y], axis=1), 0.07, 1.0)])
    plate.mark(present.name, spine > 0.5)
    plate.density += np.float32(0.05) * spine
