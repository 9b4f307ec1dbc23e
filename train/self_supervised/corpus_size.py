"""Values that fit a corpus by its size, where nobody gave others."""

from __future__ import annotations

from dataclasses import dataclass

#: Up to so many films, so many prototypes (what people report for DINOv2); above the last, the published 65,536.
_PROTOTYPES = ((20_000, 1_024), (50_000, 2_048), (100_000, 4_096), (200_000, 16_384), (500_000, 32_768))
_PUBLISHED_PROTOTYPES = 65_536
#: A corpus up to this size counts as small: the sources name values for small corpora and no border; ours is a choice.
SMALL_CORPUS = 100_000


@dataclass(frozen=True)
class SizedValues:
    """What depends on the size of the corpus; momentum and temperature of the teacher are from the start to the end."""

    prototypes: int
    momentum: tuple[float, float]
    temperature: tuple[float, float]


def values_for(films: int) -> SizedValues:
    """The values for a corpus of so many training films."""
    prototypes = next((count for limit, count in _PROTOTYPES if films <= limit), _PUBLISHED_PROTOTYPES)
    small = films <= SMALL_CORPUS
    return SizedValues(
        prototypes,
        momentum=(0.99, 0.996) if small else (0.992, 1.0),
        temperature=(0.02, 0.02) if small else (0.04, 0.07),
    )
