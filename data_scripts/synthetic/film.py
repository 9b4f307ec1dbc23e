"""From a case to its film: body, findings, bones, lines and tubes, then exposure and noise."""

from __future__ import annotations

from random import Random

import numpy as np

from .anatomy import (
    FRACTURE_STEP,
    SIDES,
    SIGN,
    Anatomy,
    anterior_rib_lines,
    heart_outline,
    lung_outline,
    mediastinum_outline,
    rib_lines,
    sample_anatomy,
    vessel_lines,
)
from .canvas import Canvas, soft_step
from .case import Case
from .devices import DRAW
from .pathology import PAINTERS
from .plate import Plate
from .shapes import SHAPES

SOFT_TISSUE = 0.6


def draw_film(case: Case, size: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The film (uint8 [size, size], bright is dense) and its masks (bool [size, size]).

    Masks are "left_lung", "right_lung", "heart" and, by label, every finding and device of the case that has a
    place. A broken image has no masks: there is nothing on it to point at.
    """
    noise = np.random.default_rng(list(case.film_key.encode()))
    if case.broken and case.broken != "half cut":
        return _useless_film(case.broken, size, noise), {}
    study, patient, film = Random(f"{case.study_key}/film"), Random(f"{case.patient_key}/build"), Random(case.film_key)
    anatomy = sample_anatomy(patient, study, case.sex, case.age_years, case.view)
    for present in case.present:
        if present.name in SHAPES:
            SHAPES[present.name](anatomy, present, Random(f"{case.study_key}/shape/{present.name}"))
    canvas = Canvas(
        size,
        study.uniform(-0.035, 0.035) + film.uniform(-0.008, 0.008),
        study.uniform(-0.02, 0.035) + film.uniform(-0.008, 0.008),
        study.uniform(0.9, 1.05),
        study.gauss(0, 0.025) + film.uniform(-0.008, 0.008),
    )
    plate = _body(canvas, anatomy, np.random.default_rng(list(case.study_key.encode())))
    for present in case.present:
        if present.name in PAINTERS:
            PAINTERS[present.name](plate, present, Random(f"{case.study_key}/paint/{present.name}"))
    vessels = canvas.strokes(vessel_lines(anatomy, patient))
    plate.density += vessels * plate.markings * np.float32(0.13 * anatomy.markings)
    # Bones stand out less over dense tissue, as on film.
    plate.density += _bones(canvas, anatomy) * (np.float32(1.3) - plate.density)
    for x, y in plate.callus:
        plate.blob(x, y, 0.03, 0.015, 0.15, sharp=2)
    for present in case.present:
        if present.name in DRAW:
            DRAW[present.name](plate, present, Random(f"{case.study_key}/device/{present.name}"))
    if case.view == "AP":
        _wires(plate, study)
    image = _expose(plate, study, film, noise)
    if case.broken:
        image[:, size // 3 :] = image.max()
        return image, {}
    return image, plate.masks


def _body(canvas: Canvas, a: Anatomy, rng: np.random.Generator) -> Plate:
    """Soft tissue, lungs, heart and great vessels, without findings."""
    u = np.abs(canvas.x - np.float32(0.5))
    body = canvas.polygons(_silhouette(a), blur=4)
    thickness = np.float32(SOFT_TISSUE) - np.float32(0.35) * u * u
    thickness += np.float32(0.17) * soft_step(canvas.y - np.float32(max(a.dome.values())), 0.3)
    thickness += np.float32(0.02) * canvas.texture(rng, 6)
    lungs = {side: canvas.polygons(lung_outline(a, side)) for side in SIDES}
    heart = canvas.polygons(heart_outline(a))
    vessels = canvas.polygons(mediastinum_outline(a))
    # The lung seen through the heart's edge is thin: the heart takes most of its darkness away.
    middle = np.maximum(heart, vessels)
    air = np.maximum(lungs["right"], lungs["left"]) * (1 - np.float32(0.93) * middle)
    # Lungs are darker in the middle heights, and the chest wall is thicker at the top.
    height = (canvas.y - np.float32(a.top)) * np.float32(1 / (a.dome["right"] - a.top))
    depth = np.float32(a.lung_depth) * (1 - np.float32(0.5) * (height - np.float32(0.45)) ** 2)
    depth -= np.float32(0.018 * a.markings) * canvas.texture(rng, 22)
    density = thickness * body - depth * air
    density += np.float32(0.05) * heart + np.float32(0.03) * vessels
    for side in SIDES:
        lungs[side] = lungs[side] * (1 - middle)
    plate = Plate(canvas, a, density, lungs, air.copy(), rng)
    for side in SIDES:
        plate.masks[f"{side}_lung"] = lungs[side] > 0.5
    plate.masks["heart"] = heart > 0.5
    _soft_details(plate)
    return plate


def _silhouette(a: Anatomy) -> np.ndarray:
    """The outline of neck, shoulders and trunk, [n, 2]."""
    neck, wall, shoulder = 0.1, a.body_width, a.top + a.shoulder
    armpit = a.top + 0.26 + a.armpit
    half = [
        (neck + 0.05, -0.3), (neck, a.top - 0.1), (neck + 0.08, a.top - 0.06), (0.42, a.top + 0.02), (0.62, shoulder),
        (0.75, shoulder + 0.4), (0.62, shoulder + 0.42), (wall + 0.05, armpit), (wall, armpit + 0.12), (wall, 0.85),
        (wall + 0.02, 1.3),
    ]  # fmt: skip
    points = np.array(half)
    left, right = np.add(points, (0.5, 0)), np.add(points * (-1, 1), (0.5, 0))
    return np.concatenate([left, right[::-1]])


def _soft_details(plate: Plate) -> None:
    """Windpipe, hila, breasts and the gas in the stomach."""
    a, canvas = plate.anatomy, plate.canvas
    trachea = [(np.array([(0.5, a.top - 0.2), (0.5, a.top + 0.22)]), 0.032, 1.0)]
    for sign in (-1, 1):
        trachea.append((np.array([(0.5, a.top + 0.22), (0.5 + 0.055 * sign, a.top + 0.28)]), 0.018, 0.7))
    plate.density -= np.float32(0.1) * canvas.strokes(trachea)
    for side in SIDES:
        x = 0.5 + SIGN[side] * (a.inner + 0.02)
        plate.blob(x, a.top + 0.3, 0.04 * a.hila, 0.06 * a.hila, 0.1, within="lungs")
        if a.breast:
            x = 0.5 + SIGN[side] * 0.62 * a.half_width
            plate.blob(x, a.dome["right"] - 0.04, 0.62 * a.half_width, 0.16, a.breast, sharp=4, tail=0.3)
    if a.gas:
        x = 0.5 + a.heart_side * 0.5 * a.half_width
        y = a.dome["left" if a.heart_side > 0 else "right"] + 0.03 + a.gas
        plate.blob(x, y, 1.7 * a.gas, a.gas, -0.15, sharp=2)


def _bones(canvas: Canvas, a: Anatomy) -> np.ndarray:
    """Ribs, clavicles, shoulder blades and spine: what they add to the density."""
    lines = []
    for side in SIDES:
        posterior = rib_lines(a, side)
        lines.append((anterior_rib_lines(side, posterior)[2:], 0.024, 0.35))
        lines += _posterior_ribs(a, side, posterior)
        sign = SIGN[side]
        clavicle = [(0.035, a.top + 0.065), (0.15, a.top + 0.055), (0.26, a.top + 0.01), (0.38, a.top + 0.005)]
        lines.append((np.array([(0.5 + sign * u, y) for u, y in clavicle]), 0.026, 1.0))
        blade = [(0.4, a.top + 0.06), (a.half_width + 0.02, a.top + 0.22), (a.half_width + 0.035, a.top + 0.36)]
        lines.append((np.array([(0.5 + sign * u, y) for u, y in blade]), 0.03, 0.5))
    y = np.linspace(-0.1, 1.1, 30)
    disc = np.arange(0.02, 1.05, 0.058)
    ends = np.stack([a.midline(disc)[:, None] + (-0.035, 0.035), np.repeat(disc[:, None], 2, axis=1)], axis=2)
    spine = [(np.stack([a.midline(y), y], axis=1), 0.07, 0.6), (ends, 0.012, 0.4)]
    bones = canvas.strokes(lines) * np.float32(a.rib_bright)
    return bones + canvas.strokes(spine) * np.float32(0.06)


def _posterior_ribs(a: Anatomy, side: str, ribs: np.ndarray) -> list[tuple[np.ndarray, float, float]]:
    """Lines for `Canvas.strokes`: whole ribs, and the two displaced parts of each fractured one."""
    breaks = {number: where for broken_side, number, where in a.fractures if broken_side == side}
    if not breaks:
        return [(ribs, 0.024, 0.8)]
    parts = []
    for number, line in enumerate(ribs):
        at = int(breaks.get(number, 1.0) * (len(line) - 1)) + 1
        parts.append((line[:at], 0.024, 0.8))
        if at < len(line):
            parts.append((np.add(line[at:], (0, FRACTURE_STEP)), 0.024, 0.8))
    return parts


def _wires(plate: Plate, rng: Random) -> None:
    """Leads of the monitor, as on most bedside films; they are no finding."""
    lines = []
    for _ in range(rng.randint(0, 3)):
        x, y = rng.uniform(0.15, 0.85), rng.uniform(0.25, 0.7)
        end = (rng.choice((-0.1, 1.1)), rng.uniform(0.3, 1.1))
        bend = (rng.uniform(0.2, 0.8), rng.uniform(0.4, 0.9))
        s = np.linspace(0, 1, 10)[:, None]
        lines.append(((1 - s) ** 2 * (x, y) + 2 * s * (1 - s) * bend + s**2 * end, 0.004, 0.7))
        lines.append((np.array([(x - 0.008, y), (x + 0.008, y)]), 0.016, 1.0))
    if lines:
        plate.density += np.float32(0.16) * plate.canvas.strokes(lines)


def _expose(plate: Plate, study: Random, film: Random, noise: np.random.Generator) -> np.ndarray:
    """Density to grey values: exposure, contrast, quantum noise, marker and collimation: uint8 [size, size]."""
    size = plate.canvas.size
    black = study.uniform(0.0, 0.12) + film.uniform(-0.012, 0.012)
    white = study.uniform(0.78, 0.95) + film.uniform(-0.012, 0.012)
    grey = np.clip((plate.density - np.float32(black)) * np.float32(1 / (white - black)), 0, 1)
    # A cubic instead of a power: as good a tone curve and much cheaper.
    bend = np.float32(study.uniform(-0.25, 0.45))
    grey += bend * grey * (1 - grey)
    grey += np.float32(study.uniform(0.006, 0.025)) * noise.standard_normal((size, size), dtype=np.float32)
    image = (np.clip(grey, 0, 1) * np.float32(255)).astype(np.uint8)
    if study.random() < 0.7:
        _side_marker(image, study)
    edges = [int(max(0, study.uniform(-0.08, 0.04)) * size) for _ in range(4)]
    image[: edges[0]] = image[size - edges[1] :] = 0
    image[:, : edges[2]] = image[:, size - edges[3] :] = 0
    return image


def _side_marker(image: np.ndarray, rng: Random) -> None:
    """A lead letter near an upper corner of the film: L on the image's right, or R on its left."""
    size = len(image)
    letter = rng.choice("LR")
    dots = {"L": ("100", "100", "100", "100", "111"), "R": ("110", "101", "110", "101", "101")}[letter]
    step = max(1, size // 75)
    top, left = int(rng.uniform(0.05, 0.12) * size), int(rng.uniform(0.06, 0.1) * size)
    left = size - left - 3 * step if letter == "L" else left
    for row, line in enumerate(dots):
        for column, dot in enumerate(line):
            if dot == "1":
                y, x = top + row * step, left + column * step
                image[y : y + step, x : x + step] = 240


def _useless_film(kind: str, size: int, noise: np.random.Generator) -> np.ndarray:
    """A film that opens but shows nothing: "blank" is black, "saturated" white, "static" noise."""
    if kind == "static":
        return noise.integers(0, 256, (size, size), dtype=np.uint8)
    level = 6 if kind == "blank" else 245
    return (level + noise.integers(0, 8, (size, size))).astype(np.uint8)
