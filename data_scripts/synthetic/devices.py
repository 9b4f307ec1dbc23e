"""Lines and tubes. They are painted last, for metal and plastic lie over everything."""

from __future__ import annotations

from random import Random

import numpy as np

from .anatomy import SIGN, Anatomy
from .case import Present
from .plate import Plate


def _curve(*points: tuple[float, float]) -> np.ndarray:
    """A smooth line near the given points, [n, 2]; it begins at the first and ends at the last (Bezier)."""
    rest = np.repeat(np.array(points)[:, None], 14, axis=1)
    s = np.linspace(0, 1, 14)[:, None]
    while len(rest) > 1:
        rest = (1 - s) * rest[:-1] + s * rest[1:]
    return rest[0]


def _lay(plate: Plate, name: str, lines, amount: float) -> None:
    shape = plate.canvas.strokes(lines)
    plate.density += np.float32(amount) * shape
    plate.mark(name, shape > 0.25)


def draw_endotracheal_tube(plate: Plate, present: Present, rng: Random) -> None:
    """Down the windpipe to some way above its fork; misplaced, into the right main bronchus, or still in the neck."""
    a = plate.anatomy
    fork = (0.5, a.top + 0.22)
    tip = (0.502, a.top + rng.uniform(0.13, 0.18))
    way = [(0.5 + rng.uniform(-0.02, 0.02), -0.15), (0.5, a.top)]
    if present.misplaced == "too high":
        tip = (0.5, a.top + rng.uniform(0.02, 0.055))
        way.pop()
    elif present.misplaced == "right bronchus":
        depth = rng.uniform(0.05, 0.085)
        way += [fork, fork, fork]
        tip = (0.5 - depth, fork[1] + 1.1 * depth)
    _lay(plate, present.name, [(_curve(*way, tip), 0.013, 1.0)], 0.24)


def draw_nasogastric_tube(plate: Plate, present: Present, rng: Random) -> None:
    """Through the whole chest in the midline, then to the stomach; misplaced, it does not leave the chest."""
    a = plate.anatomy
    belly = a.dome["left"] + 0.13
    x = 0.5 + a.heart_side * rng.uniform(0.008, 0.02)
    if present.misplaced:
        line = _WRONG_FEEDING_TUBES[present.misplaced](a, x, rng)
    else:
        down = _curve((x, -0.15), (x + 0.01, 0.3), (x, a.dome["left"] - 0.03))
        turn = _curve((x, a.dome["left"] - 0.03), (x, belly), (x + a.heart_side * rng.uniform(0.1, 0.2), belly))
        line = np.concatenate([down, turn])
    _lay(plate, present.name, [(line, 0.008, 1.0)], 0.26)


def _in_esophagus(a: Anatomy, x: float, rng: Random) -> np.ndarray:
    """Ends in the midline, well above the diaphragm."""
    return _curve((x, -0.15), (x + 0.01, 0.3), (x, a.top + rng.uniform(0.24, 0.34)))


def _in_lung(a: Anatomy, x: float, rng: Random) -> np.ndarray:
    """By the windpipe and a main bronchus into a lower lobe, more often the right one."""
    side = rng.choice(("right", "right", "left"))
    if a.dome[side] < max(a.dome.values()) - 0.08:  # There is hardly a lower lobe over a raised diaphragm.
        side = "left" if side == "right" else "right"
    sign = SIGN[side]
    fork = (0.5, a.top + 0.22)
    end = (0.5 + sign * rng.uniform(0.45, 0.65) * a.half_width, a.dome[side] - rng.uniform(0.05, 0.12))
    return np.concatenate([_curve((x, -0.15), fork), _curve(fork, (0.5 + sign * 0.07, a.top + 0.3), end)])


def _coiled(a: Anatomy, x: float, rng: Random) -> np.ndarray:
    """Winds itself up in the esophagus, its end towards the throat."""
    low, radius, sign = a.top + rng.uniform(0.3, 0.38), rng.uniform(0.032, 0.042), rng.choice((-1, 1))
    angle = np.linspace(0, 2 * np.pi * rng.uniform(1.35, 1.5), 40)
    coil = np.stack([x + sign * radius * (1 - np.cos(angle)), low + radius * np.sin(angle)], axis=1)
    return np.concatenate([_curve((x, -0.15), (x, low)), coil, [coil[-1] - (0, 0.1)]])


_WRONG_FEEDING_TUBES = {"esophagus": _in_esophagus, "lung": _in_lung, "coiled": _coiled}


def draw_central_line(plate: Plate, present: Present, rng: Random) -> None:
    """From the neck or under the clavicle to the superior vena cava, right of the midline.

    Misplaced, it goes on into the heart, or from the clavicle up into the neck.
    """
    a, sign = plate.anatomy, SIGN[present.side]
    vein = (0.5 - a.heart_side * 0.045, a.top + rng.uniform(0.24, 0.33))
    bend = (0.5 - a.heart_side * 0.045, a.top + 0.06)
    if rng.random() < 0.5 and present.misplaced != "neck":
        way = [(0.5 + sign * 0.13, -0.12), (0.5 + sign * 0.09, a.top - 0.05), bend]
    else:
        way = [(0.5 + sign * 0.34, a.top + 0.12), (0.5 + sign * 0.16, a.top - 0.02), bend, bend]
    line = _curve(*way, vein)
    if present.misplaced == "neck":
        corner = (0.5 + sign * 0.085, a.top + 0.08)
        line = _curve(
            way[0], (0.5 + sign * 0.2, a.top + 0.03), corner, corner, (0.5 + sign * 0.09, rng.uniform(-0.1, 0.02))
        )
    elif present.misplaced:
        line = np.concatenate([line, _into_heart(a, present.misplaced, vein, rng)])
    _lay(plate, present.name, [(line, 0.009, 1.0)], 0.24)


def _into_heart(a: Anatomy, chamber: str, vein: tuple[float, float], rng: Random) -> np.ndarray:
    """The way from the superior vena cava to the floor of the right atrium, or over the midline to the ventricle."""
    low = max(max(a.dome.values()) - 0.08, a.top + 0.42)
    floor = (0.5 - a.heart_side * 0.055, low + rng.uniform(-0.02, 0.02))
    if chamber == "atrium":
        return _curve(vein, floor)
    apex = (0.5 + a.heart_side * rng.uniform(0.5, 0.75) * a.half_width * a.heart_ratio, low + 0.03)
    return _curve(vein, floor, floor, apex)


def draw_pacemaker(plate: Plate, present: Present, rng: Random) -> None:
    """A metal box on the upper chest with leads to the heart."""
    a, sign = plate.anatomy, SIGN[present.side]
    x, y = 0.5 + sign * (0.72 * a.half_width + rng.uniform(0, 0.04)), a.top + rng.uniform(0.13, 0.17)
    box = [(-0.045, -0.03), (0.03, -0.04), (0.05, -0.01), (0.045, 0.035), (-0.03, 0.04), (-0.05, 0.01)]
    body = plate.canvas.polygons(np.add(box, (x, y)))
    plate.density += np.float32(0.5) * body
    plate.mark(present.name, body > 0.5)
    vein = (0.5 - a.heart_side * 0.05, a.top + 0.16)
    low = max(a.dome.values()) - 0.03
    ends = [(0.5 + a.heart_side * 0.5 * a.half_width * a.heart_ratio, low), (0.5 - a.heart_side * 0.05, low - 0.13)]
    lines = [
        (_curve((x, y), (0.5 + sign * 0.2, a.top), vein, (0.5 - a.heart_side * 0.06, low - 0.02), end), 0.007, 1.0)
        for end in ends[: rng.randint(1, 2)]
    ]
    _lay(plate, present.name, lines, 0.24)


def draw_chest_tube(plate: Plate, present: Present, rng: Random) -> None:
    """Through the side of the chest up into the pleural space; its marker line has a gap, the side hole."""
    a, sign = plate.anatomy, SIGN[present.side]
    entry = (0.5 + sign * (a.body_width + 0.12), a.dome[present.side] + rng.uniform(-0.1, 0.0))
    bend = (0.5 + sign * 0.85 * a.half_width, entry[1] - 0.05)
    tip = (0.5 + sign * rng.uniform(0.3, 0.6) * a.half_width, a.top + rng.uniform(0.08, 0.25))
    line = _curve(entry, bend, bend, tip)
    _lay(plate, present.name, [(line, 0.02, 0.6), (line[:8], 0.008, 1.0), (line[9:], 0.008, 1.0)], 0.32)


DRAW = {
    "Endotracheal Tube": draw_endotracheal_tube,
    "Nasogastric Tube": draw_nasogastric_tube,
    "Central Venous Catheter": draw_central_line,
    "Pacemaker": draw_pacemaker,
    "Chest Tube": draw_chest_tube,
}
