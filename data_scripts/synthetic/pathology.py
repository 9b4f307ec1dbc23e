"""One small function per finding paints it on the film; here those of lungs and pleura, and the table of all.

A painter gets the half-finished `Plate`, the `Present` to render and a random generator of the study's own, so the
near-duplicates of a film show the finding in the same place.
"""

from __future__ import annotations

from random import Random

import numpy as np

from .anatomy import SIDES, SIGN, lung_outline
from .canvas import soft_step
from .case import Present
from .mediastinum import (
    mark_aorta,
    mark_diaphragm,
    mark_heart,
    mark_hila,
    mark_spine,
    paint_fracture,
    paint_hernia,
    paint_pneumomediastinum,
    paint_pneumoperitoneum,
)
from .plate import Plate

FLUID = 0.66


def _sides(present: Present) -> tuple[str, ...]:
    return SIDES if present.side in ("bilateral", "") else (present.side,)


def _place(plate: Plate, present: Present, rng: Random, reach: float = 0.5) -> tuple[float, float]:
    """A point in the present's side and zone of the lung; `reach` 0 is beside the spine, 1 at the chest wall."""
    a = plate.anatomy
    low, high = {"upper": (0.14, 0.34), "mid": (0.4, 0.62), "lower": (0.7, 0.88)}[present.zone]
    y = a.top + rng.uniform(low, high) * (a.dome[present.side] - a.top)
    inner = a.inner + 0.02
    if present.zone == "lower" and SIGN[present.side] == a.heart_side:
        inner = 1.0 * a.heart_ratio * a.half_width  # beside the heart
    u = inner + (float(a.wall(present.side, y)) - inner) * min(0.85, max(0.2, rng.gauss(reach, 0.12)))
    return 0.5 + SIGN[present.side] * u, y


# --- Findings of the pleura ---


def paint_effusion(plate: Plate, present: Present, rng: Random) -> None:
    """Fluid with a meniscus: it climbs along the chest wall and blunts the angle."""
    a = plate.anatomy
    for side in _sides(present):
        height = (0.12, 0.24, 0.42)[present.severity] * rng.uniform(0.85, 1.15)
        u = plate.u(side) * np.float32(1 / a.half_width)
        climb = np.clip(u, 0, 1.1) ** 2 * np.float32(0.3 * height + 0.04)
        level = np.float32(a.base(side) + 0.04 - height) - climb
        cover = plate.lungs[side] * soft_step(plate.canvas.y - level, 0.05)
        plate.opacify(cover * np.float32(0.95), FLUID)
        plate.mark(present.name, cover > 0.5)


def paint_pneumothorax(plate: Plate, present: Present, rng: Random) -> None:
    """Air between chest wall and lung: darker, without vessels, bordered by the white line of the pleura."""
    a, side = plate.anatomy, present.side
    keep = (0.85, 0.72, 0.5)[present.severity] + rng.uniform(-0.03, 0.03)
    root = np.array([0.5 + SIGN[side] * (a.inner + 0.01), a.dome[side] - 0.06])
    edge = root + (lung_outline(a, side) - root) * [keep - 0.02, keep]
    collapsed = plate.canvas.polygons(edge)
    cover = plate.lungs[side] * (1 - collapsed) * plate.markings
    plate.density -= cover * np.float32(0.11)
    plate.density += plate.lungs[side] * collapsed * np.float32(0.03 + 0.04 * present.severity)
    plate.markings *= 1 - cover
    line = plate.canvas.strokes([(edge[:18], 0.006, 1.0)]) * plate.lungs[side]
    plate.density += line * np.float32(0.16)
    plate.mark(present.name, cover > 0.5)


def paint_thickening(plate: Plate, present: Present, rng: Random) -> None:
    """A dense, uneven rind along the lower or upper chest wall."""
    a, side = plate.anatomy, present.side
    thick = 0.03 + 0.015 * present.severity
    low = rng.random() < 0.6
    depth = a.wall(side, plate.canvas.y[:, :1]).astype(np.float32) - plate.u(side)
    depth = depth + np.float32(0.006) * plate.canvas.texture(plate.noise, 14)
    height = (plate.canvas.y - np.float32(a.top)) * np.float32(1 / (a.base(side) - a.top))
    along = soft_step(height - np.float32(0.35), 0.3) if low else soft_step(np.float32(0.6) - height, 0.3)
    cover = plate.lungs[side] * soft_step(np.float32(thick) - depth, 0.012) * along
    if not low:
        cap = soft_step(np.float32(a.top + 1.3 * thick) - plate.canvas.y, 0.015)
        cover = np.maximum(cover, plate.lungs[side] * cap)
    plate.opacify(cover * np.float32(0.9), 0.68)
    plate.mark(present.name, cover > 0.4)


# --- Findings of the lung ---


def paint_consolidation(plate: Plate, present: Present, rng: Random) -> None:
    """A fluffy dense patch with dark branching bronchi."""
    x, y = _place(plate, present, rng)
    radius = (0.1, 0.13, 0.165)[present.severity] * rng.uniform(0.9, 1.1)
    canvas = plate.canvas
    window = canvas.around(x, y, 1.8 * radius)
    dx = (canvas.x[window] - np.float32(x)) / np.float32(radius)
    dy = (canvas.y[window] - np.float32(y)) / np.float32(0.85 * radius)
    fluff = canvas.texture(plate.noise, 11)[window]
    cover = soft_step(np.float32(1.0) - np.sqrt(dx * dx + dy * dy) + np.float32(0.25) * fluff, 0.7)
    cover *= plate.lungs[present.side][window]
    plate.density[window] += cover * np.float32(0.25 + 0.02 * present.severity)
    plate.markings[window] *= 1 - cover
    angles = [rng.uniform(0, 6.3) for _ in range(3)]
    bronchi = [[(x, y), (x + 0.6 * radius * np.cos(angle), y + 0.6 * radius * np.sin(angle))] for angle in angles]
    plate.density[window] -= np.float32(0.1) * canvas.strokes([(bronchi, 0.008, 1.0)])[window] * cover
    plate.mark(present.name, cover > 0.4, window)


def paint_atelectasis(plate: Plate, present: Present, rng: Random) -> None:
    """Plates of collapsed lung above the diaphragm; when large, a dense wedge towards the hilum."""
    a, side, sign = plate.anatomy, present.side, SIGN[present.side]
    y = a.dome[side] - (0.055 if present.zone == "lower" else 0.2) - rng.uniform(0, 0.03)
    bands = []
    for number in range(1 + present.severity):
        u = float(a.wall(side, y)) * rng.uniform(0.5, 0.65)
        half, tilt = rng.uniform(0.09, 0.12), rng.uniform(-0.025, 0.04)
        row = y - 0.05 * number
        ends = [(0.5 + sign * (u - half), row - tilt), (0.5 + sign * (u + half), row + tilt)]
        bands.append((ends, rng.uniform(0.02, 0.03), 1.0))
    cover = plate.canvas.strokes(bands) * plate.lungs[side]
    if present.severity == 2:
        tip = (0.5 + sign * (a.inner + 0.01), a.top + 0.36)
        far = (0.5 + sign * 0.6 * a.half_width, a.dome[side] + 0.04)
        wedge = plate.canvas.polygons(np.array([tip, far, (0.5, a.dome[side] + 0.05)]))
        cover = np.maximum(cover, wedge * plate.lungs[side])
    plate.density += cover * np.float32(0.26)
    plate.mark(present.name, cover > 0.4)


def paint_edema(plate: Plate, present: Present, rng: Random) -> None:
    """Haze spreading from both hila like wings, thick vessels, and short lines at the lower chest wall."""
    a, canvas = plate.anatomy, plate.canvas
    fluff = canvas.texture(plate.noise, 18)
    amount = 0.14 + 0.05 * present.severity
    cover = np.zeros_like(plate.density)
    for side in SIDES:
        dx = (plate.u(side) - np.float32(0.5 * a.half_width)) * np.float32(1 / (0.62 * a.half_width))
        dy = (canvas.y - np.float32(a.top + 0.36)) * np.float32(1 / 0.3)
        cover += (
            soft_step(np.float32(0.75) - np.sqrt(dx * dx + dy * dy) + np.float32(0.16) * fluff, 0.8) * plate.lungs[side]
        )
    plate.density += cover * np.float32(amount)
    plate.markings *= np.float32(1.5)
    lines = []
    for side in SIDES:
        for y in np.linspace(a.dome[side] - 0.14, a.dome[side] - 0.02, 6):
            u = float(a.wall(side, y))
            lines.append([(0.5 + SIGN[side] * (u - 0.045), y), (0.5 + SIGN[side] * u, y)])
    plate.density += canvas.strokes([(lines, 0.005, 1.0)]) * plate.both_lungs() * np.float32(0.12)
    plate.mark(present.name, cover > 0.4)


def paint_nodule(plate: Plate, present: Present, rng: Random) -> None:
    x, y = _place(plate, present, rng, reach=0.55)
    radius = (0.023, 0.029, 0.036)[present.severity]
    window, shape = plate.blob(x, y, radius, radius * rng.uniform(0.9, 1.1), 0.36, sharp=3, within="lungs")
    plate.mark(present.name, shape > 0.5, window)


def paint_mass(plate: Plate, present: Present, rng: Random) -> None:
    """A round dense lesion of some lobules with a sharp edge and a few spicules."""
    x, y = _place(plate, present, rng)
    radius = (0.06, 0.078, 0.1)[present.severity] * rng.uniform(0.93, 1.07)
    angle = np.linspace(0, 2 * np.pi, 30, endpoint=False)
    edge = radius * (1 + 0.1 * np.cos(3 * angle + rng.uniform(0, 6)) + 0.06 * np.cos(5 * angle + rng.uniform(0, 6)))
    outline = np.stack([x + edge * np.cos(angle), y + edge * np.sin(angle)], axis=1)
    cover = plate.canvas.polygons(outline) * plate.lungs[present.side]
    plate.opacify(cover * np.float32(0.95), 0.62)
    spicules = [[(x, y), (x + 1.4 * (px - x), y + 1.4 * (py - y))] for px, py in outline[::4]]
    plate.density += (
        plate.canvas.strokes([(spicules, 0.005, 1.0)]) * plate.lungs[present.side] * (1 - cover) * np.float32(0.09)
    )
    plate.mark(present.name, cover > 0.5)


def paint_cavity(plate: Plate, present: Present, rng: Random) -> None:
    """A thick ring around a dark hole, often with a fluid level."""
    x, y = _place(plate, present, rng)
    radius = rng.uniform(0.055, 0.08)
    window, shape = plate.blob(x, y, radius, radius * rng.uniform(0.9, 1.1), 0.26, sharp=4, within="lungs")
    inside, hole = plate.blob(x, y, 0.62 * radius, 0.62 * radius, -0.32, sharp=4, within="lungs")
    if rng.random() < 0.5:
        fluid = hole * soft_step(plate.canvas.y[inside] - np.float32(y + 0.2 * radius), 0.01)
        plate.density[inside] += np.float32(0.3) * fluid
    plate.markings[window] *= 1 - shape
    plate.mark(present.name, shape > 0.5, window)


def paint_emphysema(plate: Plate, present: Present, rng: Random) -> None:
    """Bullae; the large dark lungs come from `shape_emphysema`."""
    for side in SIDES:
        for _ in range(present.severity + 1):
            y = plate.anatomy.top + rng.uniform(0.07, 0.2)
            x = 0.5 + SIGN[side] * rng.uniform(0.45, 0.7) * float(plate.anatomy.wall(side, y))
            plate.blob(x, y, rng.uniform(0.03, 0.05), rng.uniform(0.03, 0.05), -0.06, sharp=3, within="lungs")
    plate.mark(present.name, plate.both_lungs() > 0.5)


def paint_fibrosis(plate: Plate, present: Present, rng: Random) -> None:
    """A coarse net, thickest at the bases and the chest wall."""
    a, canvas = plate.anatomy, plate.canvas
    net = 1 - np.abs(canvas.texture(plate.noise, 52)) * np.float32(1.5)
    height = (canvas.y - np.float32(a.top)) * np.float32(1 / (a.dome["right"] - a.top))
    where = soft_step(height - np.float32(0.62 - 0.13 * present.severity), 0.45) * plate.both_lungs()
    plate.density += where * (np.clip(net, -0.4, 1) * np.float32(0.15) + np.float32(0.06))
    plate.mark(present.name, where > 0.4)


def paint_miliary(plate: Plate, present: Present, rng: Random) -> None:
    """Grains of 2 to 3 pixels, evenly over both lungs."""
    dots = plate.noise.random((450, 2))
    dots = dots * (0.8, 0.75) + (0.1, 0.1)
    ends = np.stack([dots, np.add(dots, (0.008, 0.004))], axis=1)
    plate.density += plate.canvas.strokes([(ends, 0.011, 1.0)]) * plate.both_lungs() * np.float32(0.26)
    plate.mark(present.name, plate.both_lungs() > 0.5)


PAINTERS = {
    "Pleural Effusion": paint_effusion,
    "Cardiomegaly": mark_heart,
    "Dextrocardia": mark_heart,
    "Atelectasis": paint_atelectasis,
    "Consolidation": paint_consolidation,
    "Edema": paint_edema,
    "Nodule": paint_nodule,
    "Pneumothorax": paint_pneumothorax,
    "Emphysema": paint_emphysema,
    "Mass": paint_mass,
    "Fibrosis": paint_fibrosis,
    "Pleural Thickening": paint_thickening,
    "Aortic Enlargement": mark_aorta,
    "Elevated Diaphragm": mark_diaphragm,
    "Scoliosis": mark_spine,
    "Rib Fracture": paint_fracture,
    "Hiatal Hernia": paint_hernia,
    "Hilar Enlargement": mark_hila,
    "Cavity": paint_cavity,
    "Miliary Pattern": paint_miliary,
    "Pneumoperitoneum": paint_pneumoperitoneum,
    "Pneumomediastinum": paint_pneumomediastinum,
}
