"""Names beside points of a picture, placed so that they cover neither points nor each other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

#: Where a name may stand, as steps to the right and up from its point; the first free place is taken.
_DIRECTIONS = ((1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1), (0, 1), (0, -1))
#: Length of a step, in points of print.
_DISTANCES = (8, 13, 18, 24, 31, 39, 48, 60, 75)
#: Room kept around the points of a cluster, in points of print.
_MARK_SIZE = 5
_FONT_SIZE = 8.5


def name_clusters(
    panel: Axes, clusters: dict[str, Sequence[tuple[float, float]]], colours: Sequence[str]
) -> list[Bbox]:
    """Write the name of every cluster of points beside its mean; farther off, with a line to it.

    Args:
        panel: its limits and the layout of its figure must be settled.
        clusters: (x, y) of the points of each name.
        colours: of the names.

    Returns:
        The boxes that the names fill, in pixels: free of each other and of the points, or, where there is no room,
        covering as little as can be.
    """
    pixels = panel.figure.dpi / 72
    taken = [_box_around(panel.transData.transform(points), _MARK_SIZE * pixels) for points in clusters.values()]
    for (name, points), colour in zip(clusters.items(), colours, strict=True):
        middle = np.mean(points, axis=0)
        centre, size = panel.transData.transform(middle), _text_size(panel, name)
        steps = (np.multiply(direction, distance * pixels) for distance, direction in product(_DISTANCES, _DIRECTIONS))
        # The first of the best: the nearest free place.
        box = min((_box_beside(centre, size, step) for step in steps), key=lambda box: _covered(box, taken, panel.bbox))
        _write(panel, name, colour, middle, (box.min - centre) / pixels, (box.max - centre) / pixels)
        taken.append(box)
    return taken[len(clusters) :]


def _write(panel: Axes, name: str, colour: str, point: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    """Write a name into the box from `low` to `high`, in points of print as seen from `point`."""
    side = 0.0 if low[0] > 0 else 1.0 if high[0] < 0 else 0.5
    distance = np.hypot(*np.maximum(0, np.maximum(low, -high)))
    line = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 4, "relpos": (side, 0.5)}
    panel.annotate(
        name,
        point,
        xytext=low,
        textcoords="offset points",
        va="bottom",
        multialignment={0.0: "left", 0.5: "center", 1.0: "right"}[side],
        fontsize=_FONT_SIZE,
        color=colour,
        # So that lines behind it do not strike it out.
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
        arrowprops=line if distance > _DISTANCES[0] + 1 else None,
    )


def _box_around(points: np.ndarray, padding: float) -> Bbox:
    return Bbox([points.min(axis=0) - padding, points.max(axis=0) + padding])


def _text_size(panel: Axes, name: str) -> tuple[float, float]:
    """Width and height of a name in pixels."""
    text = panel.text(0.5, 0.5, name, fontsize=_FONT_SIZE, transform=panel.transAxes)
    extent = text.get_window_extent()
    text.remove()
    return extent.width, extent.height


def _box_beside(centre: np.ndarray, size: tuple[float, float], step: np.ndarray) -> Bbox:
    """The box of a text that begins, ends or is centred `step` away from `centre`, all in pixels."""
    (x, y), (width, height) = centre + step, size
    left = x if step[0] > 0 else x - width if step[0] < 0 else x - width / 2
    return Bbox.from_bounds(left, y - height / 2, width, height)


def _covered(box: Bbox, taken: Sequence[Bbox], frame: Bbox) -> float:
    """Square pixels of `box` that lie on what is taken, or outside of `frame`."""
    return sum(_common_area(box, neighbour) for neighbour in taken) + box.width * box.height - _common_area(box, frame)


def _common_area(box: Bbox, neighbour: Bbox) -> float:
    common = Bbox.intersection(box, neighbour)
    return 0.0 if common is None else common.width * common.height
