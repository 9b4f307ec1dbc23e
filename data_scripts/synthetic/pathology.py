"""One small function per finding: how it changes the body (`SHAPES`) or is painted on the film (`PAINTERS`).

A painter gets the half-finished `Plate`, the `Present` to draw and a random generator of the study's own, so the
near-duplicates of a film show the finding in the same place.
"""

from __future__ import annotations

from random import Random

import numpy as np

from .anatomy import SIDES, SIGN, Anatomy, lung_outline, rib_lines
from .canvas import soft_step
from .case import Present
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


# --- Findings that change the shape of the body ---


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
    first = rng.randint(2, 5)
    a.fractures = [(present.side, first + k, rng.choice((0.5, 0.63, 0.75))) for k in range(rng.randint(1, 3))]


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
    thick = 0.022 + 0.013 * present.severity
    low = rng.random() < 0.6
    depth = a.wall(side, plate.canvas.y[:, :1]).astype(np.float32) - plate.u(side)
    depth = depth + np.float32(0.006) * plate.canvas.texture(plate.noise, 14)
    height = (plate.canvas.y - np.float32(a.top)) * np.float32(1 / (a.base(side) - a.top))
    along = soft_step(height - np.float32(0.35), 0.3) if low else soft_step(np.float32(0.6) - height, 0.3)
    cover = plate.lungs[side] * soft_step(np.float32(thick) - depth, 0.012) * along
    if not low:
        cap = soft_step(np.float32(a.top + 1.3 * thick) - plate.canvas.y, 0.015)
        cover = np.maximum(cover, plate.lungs[side] * cap)
    plate.opacify(cover * np.float32(0.85), 0.64)
    plate.mark(present.name, cover > 0.4)


# --- Findings of the lung ---


def paint_consolidation(plate: Plate, present: Present, rng: Random) -> None:
    """A fluffy dense patch with dark branching bronchi."""
    x, y = _place(plate, present, rng)
    radius = (0.085, 0.115, 0.15)[present.severity] * rng.uniform(0.9, 1.1)
    canvas = plate.canvas
    window = canvas.around(x, y, 1.8 * radius)
    dx = (canvas.x[window] - np.float32(x)) / np.float32(radius)
    dy = (canvas.y[window] - np.float32(y)) / np.float32(0.85 * radius)
    fluff = canvas.texture(plate.noise, 11)[window]
    cover = soft_step(np.float32(1.0) - np.sqrt(dx * dx + dy * dy) + np.float32(0.25) * fluff, 0.7)
    cover *= plate.lungs[present.side][window]
    plate.density[window] += cover * np.float32(0.2 + 0.03 * present.severity)
    plate.markings[window] *= 1 - cover
    for _ in range(3):
        angle = rng.uniform(0, 6.3)
        tip = (x + 0.6 * radius * np.cos(angle), y + 0.6 * radius * np.sin(angle))
        bronchus = canvas.strokes([(np.array([(x, y), tip]), 0.008, 1.0)])[window]
        plate.density[window] -= np.float32(0.1) * bronchus * cover
    plate.mark(present.name, cover > 0.4, window)


def paint_atelectasis(plate: Plate, present: Present, rng: Random) -> None:
    """Plates of collapsed lung above the diaphragm; when large, a dense wedge towards the hilum."""
    a, side, sign = plate.anatomy, present.side, SIGN[present.side]
    y = a.dome[side] - (0.055 if present.zone == "lower" else 0.2) - rng.uniform(0, 0.03)
    bands = []
    for number in range(1 + present.severity):
        u = float(a.wall(side, y)) * rng.uniform(0.55, 0.62)
        half, tilt = rng.uniform(0.085, 0.11), rng.uniform(-0.02, 0.035)
        row = y - 0.045 * number
        bands.append(
            (np.array([(0.5 + sign * (u - half), row - tilt), (0.5 + sign * (u + half), row + tilt)]), 0.018, 1)
        )
    cover = plate.canvas.strokes(bands) * plate.lungs[side]
    if present.severity == 2:
        tip = (0.5 + sign * (a.inner + 0.01), a.top + 0.36)
        far = (0.5 + sign * 0.6 * a.half_width, a.dome[side] + 0.04)
        wedge = plate.canvas.polygons(np.array([tip, far, (0.5, a.dome[side] + 0.05)]))
        cover = np.maximum(cover, wedge * plate.lungs[side])
    plate.density += cover * np.float32(0.19)
    plate.mark(present.name, cover > 0.4)


def paint_edema(plate: Plate, present: Present, rng: Random) -> None:
    """Haze spreading from both hila like wings, thick vessels, and short lines at the lower chest wall."""
    a, canvas = plate.anatomy, plate.canvas
    fluff = canvas.texture(plate.noise, 18)
    amount = 0.1 + 0.05 * present.severity
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
        for k in range(6):
            y = a.dome[side] - 0.02 - 0.024 * k
            u = float(a.wall(side, y))
            lines.append((np.array([(0.5 + SIGN[side] * (u - 0.045), y), (0.5 + SIGN[side] * u, y)]), 0.005, 1.0))
    plate.density += canvas.strokes(lines) * plate.both_lungs() * np.float32(0.12)
    plate.mark("Edema", cover > 0.4)


def paint_nodule(plate: Plate, present: Present, rng: Random) -> None:
    x, y = _place(plate, present, rng, reach=0.55)
    radius = (0.022, 0.027, 0.033)[present.severity]
    window, shape = plate.blob(x, y, radius, radius * rng.uniform(0.9, 1.1), 0.27, sharp=3, within="lungs")
    plate.mark(present.name, shape > 0.5, window)


def paint_mass(plate: Plate, present: Present, rng: Random) -> None:
    """A round dense lesion of some lobules with a sharp edge and a few spicules."""
    x, y = _place(plate, present, rng)
    radius = (0.055, 0.07, 0.09)[present.severity] * rng.uniform(0.93, 1.07)
    angle = np.linspace(0, 2 * np.pi, 30, endpoint=False)
    edge = radius * (1 + 0.1 * np.cos(3 * angle + rng.uniform(0, 6)) + 0.06 * np.cos(5 * angle + rng.uniform(0, 6)))
    outline = np.stack([x + edge * np.cos(angle), y + edge * np.sin(angle)], axis=1)
    cover = plate.canvas.polygons(outline) * plate.lungs[present.side]
    plate.opacify(cover * np.float32(0.9), 0.56)
    spicules = [(np.array([(x, y), (x + 1.4 * (px - x), y + 1.4 * (py - y))]), 0.005, 1.0) for px, py in outline[::4]]
    plate.density += plate.canvas.strokes(spicules) * plate.lungs[present.side] * (1 - cover) * np.float32(0.09)
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
    net = 1 - np.abs(canvas.texture(plate.noise, 34)) * np.float32(1.7)
    height = (canvas.y - np.float32(a.top)) * np.float32(1 / (a.dome["right"] - a.top))
    where = soft_step(height - np.float32(0.62 - 0.13 * present.severity), 0.45) * plate.both_lungs()
    plate.density += where * (np.clip(net, -0.4, 1) * np.float32(0.2) + np.float32(0.05))
    plate.mark(present.name, where > 0.4)


def paint_miliary(plate: Plate, present: Present, rng: Random) -> None:
    """Grains of 2 to 3 pixels, evenly over both lungs."""
    dots = plate.noise.random((450, 2))
    lines = [(np.array([(x, y), (x + 0.011, y)]), 0.011, 1.0) for x, y in dots * [0.8, 0.75] + [0.1, 0.1]]
    plate.density += plate.canvas.strokes(lines) * plate.both_lungs() * np.float32(0.2)
    plate.mark(present.name, plate.both_lungs() > 0.5)


# --- Findings of mediastinum and belly ---


def paint_hernia(plate: Plate, present: Present, rng: Random) -> None:
    """A round shadow behind the heart, above the diaphragm, with a level of air over fluid."""
    a = plate.anatomy
    radius = (0.06, 0.075, 0.095)[present.severity]
    x, y = 0.5 + a.heart_side * rng.uniform(0.0, 0.035), max(a.dome.values()) - 0.6 * radius
    window, shape = plate.blob(x, y, 1.15 * radius, radius, 0.12, sharp=6)
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
    plate.density -= cover * np.float32(0.2)
    plate.density += plate.canvas.strokes(white) * np.float32(0.1)
    plate.mark(present.name, cover > 0.4)


def paint_fracture(plate: Plate, present: Present, rng: Random) -> None:
    """Gap, step and callus; the rib itself is drawn broken (`shape_fracture`)."""
    for side, number, where in plate.anatomy.fractures:
        line = rib_lines(plate.anatomy, side)[number]
        at = int(where * (len(line) - 1))
        x, y = (line[at] + line[at + 1] + [0, 0.015]) / 2
        window, shape = plate.blob(x, y, 0.03, 0.03, 0.0)
        plate.mark(present.name, shape > 0.3, window)

        def draw(ends=line[[at, at + 1]] + [[0, 0], [0, 0.022]]):
            for end in ends:
                plate.blob(*end, 0.015, 0.015, 0.13, sharp=2)

        plate.overlays.append(draw)


def _mark_shape(plate: Plate, present: Present, rng: Random) -> None:
    """The mask of a finding that is all in the heart's shape."""
    plate.mark(present.name, plate.masks["heart"])


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
            window, shape = plate.blob(*spot, 0.035, 0.035, 0.14, sharp=3, within="lungs")
            plate.mark(present.name, shape > 0.3, window)


def mark_spine(plate: Plate, present: Present, rng: Random) -> None:
    y = np.linspace(0, 1, 30)
    spine = plate.canvas.strokes([(np.stack([plate.anatomy.midline(y), y], axis=1), 0.07, 1.0)])
    plate.mark(present.name, spine > 0.5)
    plate.density += np.float32(0.05) * spine


PAINTERS = {
    "Pleural Effusion": paint_effusion,
    "Cardiomegaly": _mark_shape,
    "Dextrocardia": _mark_shape,
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
    "Scoliosis": mark_spine,
    "Rib Fracture": paint_fracture,
    "Hiatal Hernia": paint_hernia,
    "Hilar Enlargement": mark_hila,
    "Cavity": paint_cavity,
    "Miliary Pattern": paint_miliary,
    "Pneumoperitoneum": paint_pneumoperitoneum,
    "Pneumomediastinum": paint_pneumomediastinum,
}
