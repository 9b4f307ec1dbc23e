"""Radiographs that are no frontal chest films, drawn: a chest from the side, hands, limbs, abdomens, skulls.

Like the synthetic films they look alike and are none; nothing of a patient is in them. A drawing is made in the
coordinates of the image (x to the right, y downwards, both 0 to 1) and then moved, scaled and turned a little.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from PIL import Image

from data_scripts.synthetic.canvas import Canvas

SIZE = 112
Points = list[tuple[float, float]]


def draw(kind: str, rng: np.random.Generator) -> Image.Image:
    """A drawing of one of `KINDS`, mode "L", `SIZE` pixels a side."""
    angle = rng.normal(0, _TURNS[kind])
    canvas = Canvas(SIZE, *rng.uniform(-0.06, 0.06, 2), rng.uniform(0.75, 1.15), angle)
    density = KINDS[kind](canvas, rng)
    density += 0.02 * canvas.texture(rng, 10) * (density > 0.05)
    density += rng.uniform(0.004, 0.015) * rng.standard_normal((SIZE, SIZE))
    grey = np.clip(density, 0, None) / density.max()
    return Image.fromarray((255 * grey ** rng.uniform(0.6, 1.5)).astype(np.uint8))


def _ellipse(x: float, y: float, wide: float, high: float) -> np.ndarray:
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    return np.stack([x + wide * np.cos(turn), y + high * np.sin(turn)], axis=1)


def _rods(canvas: Canvas, *rods: tuple[Points, float]) -> np.ndarray:
    """Thick lines with round ends and joints, each of points and a width."""
    strokes = canvas.strokes([(np.array(points), width, 1.0) for points, width in rods])
    ends = [_ellipse(x, y, width / 2, width / 2) for points, width in rods for x, y in points]
    return np.maximum(strokes, canvas.polygons(*ends))


def _shaken(points: Points, rng: np.random.Generator, by: float) -> np.ndarray:
    return np.array(points) + rng.normal(0, by, (len(points), 2))


def _lateral(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """The spine at one side, the heart in front, one lung field between them above a dome; arms above."""
    front, back, dome = rng.uniform(0.12, 0.3), rng.uniform(0.7, 0.88), rng.uniform(0.58, 0.82)
    breast = rng.uniform(0, 0.07)
    body = [(0.36, -0.3), (0.62, -0.3), (back - 0.05, 0.1), (back, 0.3), (back + 0.01, 0.6), (back - 0.03, 0.85)]
    body += [(back - 0.02, 1.3), (front, 1.3), (front - 0.01, 0.8), (front - breast, 0.5), (front + 0.08, 0.25)]
    lung = [(0.42, 0.14), (0.55, 0.12), (back - 0.12, 0.2), (back - 0.06, 0.4), (back - 0.07, 0.6)]
    lung += [(back - 0.1, dome + 0.14), (0.62, dome + 0.02), (0.5, dome - 0.04), (0.38, dome - 0.02)]
    lung += [(front + 0.07, dome + 0.02), (front + 0.06, 0.5), (front + 0.13, 0.28)]
    density = rng.uniform(0.45, 0.65) * canvas.polygons(_shaken(body, rng, 0.02), blur=4)
    density -= rng.uniform(0.15, 0.4) * canvas.polygons(_shaken(lung, rng, 0.015), blur=4)
    heart = front + rng.uniform(0.13, 0.22)
    density += rng.uniform(0.05, 0.28) * canvas.polygons(_ellipse(heart, dome - 0.13, 0.14, 0.17), blur=7)
    spine = [(back - 0.12 + 0.03 * np.sin(np.pi * step / 9), 0.02 + 0.095 * step) for step in range(10)]
    bones = [_ellipse(x, y + 0.04, 0.045, 0.04) for x, y in spine]
    density += rng.uniform(0.03, 0.16) * canvas.polygons(*bones, blur=2)
    aorta = _rods(canvas, ([(heart, dome - 0.25), (heart, 0.3), (0.5, 0.25), (0.62, 0.36), (0.63, dome)], 0.07))
    arms = canvas.polygons(_ellipse(rng.uniform(0.35, 0.6), 0.06, 0.25, 0.14), blur=7)
    density += rng.uniform(0, 0.08) * aorta + rng.uniform(0, 0.3) * arms
    ribs = [([(back - 0.1, y), (0.5, y + 0.12), (front + 0.1, y + 0.16)], 0.014) for y in np.arange(0.15, 0.7, 0.075)]
    density += rng.uniform(0.02, 0.06) * _rods(canvas, *ribs)
    return density if rng.random() < 0.5 else density[:, ::-1]


def _hand(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    flesh: list[tuple[Points, float]] = [([(0.5, 0.7), (0.5, 1.2)], 0.22)]
    bones: list[tuple[Points, float]] = [([(0.45, 0.92), (0.44, 1.2)], 0.075), ([(0.57, 0.92), (0.58, 1.2)], 0.05)]
    knuckles = ((0.34, 0.76), (0.4, 0.63), (0.48, 0.61), (0.56, 0.61), (0.63, 0.66))
    for (x, y), degrees, length in zip(knuckles, (-62, -24, -4, 14, 32), (0.25, 0.38, 0.41, 0.38, 0.32), strict=True):
        turn = np.deg2rad(degrees) + rng.normal(0, 0.06)
        reach = length * rng.uniform(0.9, 1.1) * np.array([np.sin(turn), -np.cos(turn)])
        joints = [(x + share * reach[0], y + share * reach[1]) for share in (0, 0.42, 0.74, 1)]
        flesh.append(([(0.5, 0.72), *joints], 0.085))
        bones.append(([(0.5 + 0.5 * (x - 0.5), 0.8), (x, y)], 0.032))
        for (x, y), (next_x, next_y) in pairwise(joints):
            bones.append(([(x, y), (0.1 * x + 0.9 * next_x, 0.1 * y + 0.9 * next_y)], 0.03))
    wrist = [_ellipse(*rng.normal((0.5, 0.84), (0.05, 0.025)), 0.03, 0.028) for _ in range(8)]
    palm = canvas.polygons(_ellipse(0.5, 0.72, 0.17, 0.16), blur=2)
    bone = np.maximum(_rods(canvas, *bones), canvas.polygons(*wrist))
    return 0.35 * np.maximum(_rods(canvas, *flesh), palm) + rng.uniform(0.3, 0.6) * bone


def _limb(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """One or two long bones, with or without a joint."""
    joint, two, lean = rng.random() < 0.5, rng.random() < 0.6, rng.normal(0, 0.04)
    start = 0.55 if joint else -0.3
    bones: list[tuple[Points, float]] = [([(0.45 - lean, start), (0.45 + lean, 1.3)], 0.11)]
    bones += [([(0.6 - lean, start), (0.6 + lean, 1.3)], 0.05)] if two else []
    bones += [([(0.5 - lean, -0.3), (0.5, 0.42)], 0.12)] if joint else []
    bone = _rods(canvas, *bones)
    if joint:
        ends = [(0.45, 0.44, 0.1, 0.08), (0.57, 0.44, 0.09, 0.08), (0.46, 0.56, 0.11, 0.06), (0.56, 0.56, 0.09, 0.06)]
        bone = np.maximum(bone, canvas.polygons(*(_ellipse(*end) for end in ends)))
    flesh = _rods(canvas, ([(0.5 - lean, -0.3), (0.5 + lean, 1.3)], rng.uniform(0.25, 0.6)))
    density = 0.4 * flesh + rng.uniform(0.3, 0.5) * bone
    return density if rng.random() < 0.7 else density.T.copy()


def _abdomen(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Spine, pelvis and lowest ribs, gas, and no lungs."""
    half = rng.uniform(0.36, 0.52)
    outline = [(half, -0.3), (0.93 * half, 0.4), (1.02 * half, 0.8), (1.02 * half, 1.3)]
    body = [(0.5 + x, y) for x, y in outline] + [(0.5 - x, y) for x, y in outline[::-1]]
    density = 0.55 * canvas.polygons(np.array(body), blur=4)
    spine = [_ellipse(0.5, -0.02 + 0.105 * step, 0.06, 0.045) for step in range(8)]
    density += rng.uniform(0.12, 0.25) * canvas.polygons(*spine, blur=2)
    pelvis, ribs = [], []
    for side in (-1, 1):
        bone = [(0.08, 0.72), (0.3, 0.62), (0.38, 0.74), (0.27, 0.92), (0.3, 1.05), (0.1, 1.02)]
        pelvis.append(np.array([(0.5 + side * x, y) for x, y in bone]))
        for step in range(3):
            low, high = -0.03 + 0.06 * step, 0.12 + 0.07 * step
            ribs.append(([(0.5 + side * 0.07, low), (0.5 + side * (half - 0.06), high)], 0.018))
    density += rng.uniform(0.08, 0.2) * canvas.polygons(*pelvis, blur=2) + 0.08 * _rods(canvas, *ribs)
    for _ in range(rng.integers(3, 14)):
        place = rng.uniform((0.22, 0.12, 0.02, 0.02), (0.78, 0.85, 0.08, 0.07))
        density -= rng.uniform(0.05, 0.2) * canvas.polygons(_ellipse(*place), blur=3)
    return np.clip(density + 0.05 * canvas.polygons(_ellipse(0.32, 0.12, 0.2, 0.2), blur=7), 0, None)


def _skull(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    jaw = np.array([(0.3, 0.6), (0.7, 0.6), (0.62, 0.92), (0.38, 0.92)])
    head = np.maximum(canvas.polygons(_ellipse(0.5, 0.42, 0.32, 0.36), blur=2), canvas.polygons(jaw, blur=2))
    neck = _rods(canvas, ([(0.5, 0.8), (0.5, 1.3)], 0.3))
    hollows = [_ellipse(0.38, 0.52, 0.08, 0.07), _ellipse(0.62, 0.52, 0.08, 0.07)]
    hollows.append(np.array([(0.5, 0.56), (0.45, 0.7), (0.55, 0.7)]))
    teeth = _rods(canvas, ([(0.32, 0.62), (0.36, 0.82), (0.5, 0.9), (0.64, 0.82), (0.68, 0.62)], 0.05))
    density = 0.75 * np.maximum(head, 0.8 * neck) + rng.uniform(0.1, 0.25) * teeth
    density -= rng.uniform(0.2, 0.35) * canvas.polygons(_ellipse(0.5, 0.42, 0.29, 0.33), blur=2)
    return np.clip(density - 0.15 * canvas.polygons(*hollows, blur=2), 0, None)


KINDS: dict[str, Callable[[Canvas, np.random.Generator], np.ndarray]] = {
    "lateral": _lateral,
    "hand": _hand,
    "limb": _limb,
    "abdomen": _abdomen,
    "skull": _skull,
}
#: Standard deviation of the turn of each drawing in radians.
_TURNS = {"lateral": 0.07, "hand": 0.25, "limb": 0.12, "abdomen": 0.05, "skull": 0.15}
