"""Drawing in patient coordinates: x from image left (the patient's right) to right, y downwards, both about 0 to 1."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

#: Outlines are rendered this much finer and averaged, for smooth edges.
FINER = 2


@lru_cache(maxsize=8)
def _pixel_centres(size: int) -> tuple[np.ndarray, np.ndarray]:
    centres = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    return centres[None, :], centres[:, None]


def _to_float(image: Image.Image) -> np.ndarray:
    return np.multiply(np.asarray(image), np.float32(1 / 255), dtype=np.float32)


class Canvas:
    """Maps patient coordinates to the pixels of one film.

    The patient is turned by `angle` radians about the film's centre, scaled, and moved by (`dx`, `dy`) film widths.
    `x` and `y`, both [size, size], are the patient coordinates of the pixels.
    """

    def __init__(self, size: int, dx: float, dy: float, scale: float, angle: float):
        self.size = size
        cos, sin = np.cos(angle), np.sin(angle)
        forward = scale * np.array([[cos, -sin], [sin, cos]])
        self._forward = (forward * size * FINER).T
        self._offset = (np.array([dx, dy]) + 0.5 - forward @ [0.5, 0.5]) * size * FINER
        self._scale = scale
        columns, rows = _pixel_centres(size)
        back = np.float32(1 / scale)
        cos, sin = np.float32(cos) * back, np.float32(sin) * back
        columns, rows = columns - np.float32(dx), rows - np.float32(dy)
        self.x = (cos * columns + np.float32(0.5)) + sin * rows
        self.y = (cos * rows + np.float32(0.5)) - sin * columns

    def _pixels(self, points) -> np.ndarray:
        return np.asarray(points) @ self._forward + self._offset

    def _smooth(self, image: Image.Image) -> np.ndarray:
        return _to_float(image.reduce(FINER))

    def polygons(self, *outlines, blur: int = 0) -> np.ndarray:
        """Filled outlines ([n, 2] each): float32 [size, size], 1 inside and 0 outside; edges `blur` pixels soft."""
        image = Image.new("L", (self.size * FINER,) * 2)
        pen = ImageDraw.Draw(image)
        for outline in outlines:
            pen.polygon(self._pixels(outline).ravel().tolist(), fill=255)
        if blur:
            image = image.reduce(blur * FINER).resize((self.size, self.size), Image.Resampling.BILINEAR)
            return _to_float(image)
        return self._smooth(image)

    def strokes(self, lines) -> np.ndarray:
        """Lines (points, width, level in [0, 1]); where they cross, the last one counts: float32 [size, size].

        Points are [n, 2], or [k, n, 2] for k lines alike. A line thinner than a pixel is rendered one fine pixel wide,
        so that it can still be seen.
        """
        image = Image.new("L", (self.size * FINER,) * 2)
        pen = ImageDraw.Draw(image)
        for points, width, level in lines:
            thick = max(1, round(width * self._scale * self.size * FINER))
            pixels = self._pixels(points)
            for line in pixels.reshape(-1, pixels.shape[-2] * 2).tolist():
                pen.line(line, fill=round(255 * level), width=thick)
        return self._smooth(image)

    def texture(self, rng: np.random.Generator, cells: int) -> np.ndarray:
        """Smooth random hills, about `cells` along each side, of standard deviation near 1: float32 [size, size]."""
        cells = min(cells, self.size)
        coarse = Image.fromarray(rng.standard_normal((cells, cells), dtype=np.float32))
        return np.asarray(coarse.resize((self.size, self.size), Image.Resampling.BICUBIC))

    def around(self, x: float, y: float, radius: float) -> tuple[slice, slice]:
        """The slices (rows, columns) of a window that holds all pixels within `radius` of (x, y)."""
        column, row = (np.array([x, y]) @ self._forward + self._offset) / FINER
        reach = radius * self._scale * self.size + 2
        rows = slice(max(0, int(row - reach)), max(0, int(row + reach) + 1))
        return rows, slice(max(0, int(column - reach)), max(0, int(column + reach) + 1))


def soft_step(distance: np.ndarray, softness: float) -> np.ndarray:
    """0 where `distance` is well below 0, 1 where well above, a straight ramp of width `softness` between."""
    return np.clip(distance * np.float32(1 / softness) + np.float32(0.5), 0, 1)
