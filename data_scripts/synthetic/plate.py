"""The half-finished film that findings and devices are painted on."""

from __future__ import annotations

import numpy as np

from .anatomy import SIGN, Anatomy
from .canvas import Canvas, soft_step


class Plate:
    """Density so far, with what is needed to paint on it; all arrays are float32 [size, size] but the masks.

    `density`: about 0 in air, 0.2 in lung, 0.6 in soft tissue. `lungs`: per side, 1 inside and 0 outside.
    `markings`: where lung vessels will show, 0 to 1. `callus`: points where broken ribs are to be thickened.
    `masks`: by name, bool [size, size]. `noise` is the study's own, so near-duplicates have the same textures.
    """

    def __init__(self, canvas: Canvas, anatomy: Anatomy, density, lungs, markings, noise: np.random.Generator):
        self.canvas = canvas
        self.anatomy = anatomy
        self.density = density
        self.lungs = lungs
        self.markings = markings
        self.noise = noise
        self.masks: dict[str, np.ndarray] = {}
        self.callus: list[np.ndarray] = []

    def u(self, side: str) -> np.ndarray:
        """Distance of each pixel from the midline towards `side`, negative on the other side."""
        return np.float32(SIGN[side]) * (self.canvas.x - np.float32(0.5))

    def both_lungs(self) -> np.ndarray:
        return self.lungs["right"] + self.lungs["left"]

    def blob(self, x, y, rx, ry, amount, sharp=1.5, within="", tail=1.0) -> tuple[tuple[slice, slice], np.ndarray]:
        """Add an ellipse of density `amount` about (x, y): flat inside, its edge the steeper the larger `sharp`.

        `within` "lungs" keeps it inside the lungs; `tail` is the share that is left in the upper half.
        Returns the window it lies in and its shape there, 0 to 1.
        """
        window = self.canvas.around(x, y, max(rx, ry) * (1 + 1 / sharp))
        dx = (self.canvas.x[window] - np.float32(x)) * np.float32(1 / rx)
        dy = (self.canvas.y[window] - np.float32(y)) * np.float32(1 / ry)
        shape = soft_step(1 - np.sqrt(dx * dx + dy * dy), 1 / sharp)
        if tail < 1:
            shape = shape * np.float32(tail) + shape * soft_step(dy, 1.2) * np.float32(1 - tail)
        if within == "lungs":
            shape = shape * (self.lungs["right"][window] + self.lungs["left"][window])
        self.density[window] += np.float32(amount) * shape
        return window, shape

    def opacify(self, cover: np.ndarray, target: float) -> None:
        """Draw the density towards `target` where `cover` (0 to 1) says so, and hide the vessels there."""
        self.density += cover * (np.float32(target) - self.density)
        self.markings *= 1 - cover

    def mark(self, name: str, region: np.ndarray, window: tuple[slice, slice] | None = None) -> None:
        """Add the pixels of bool `region` (of the window, or of the film) to the mask `name`."""
        mask = self.masks.setdefault(name, np.zeros((self.canvas.size,) * 2, dtype=bool))
        if window is None:
            mask |= region
        else:
            mask[window] |= region
