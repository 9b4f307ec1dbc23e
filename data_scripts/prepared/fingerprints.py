"""Fingerprints of prepared films: one that only equal pixels share, and one that look-alikes nearly share.

The second is the difference hash (is a pixel brighter than its left neighbour, on a small copy) at 16 x 16 = 256 bits.
Chest films look so much alike that the usual 64 bits do not tell patients apart: among 246 films of NIH ChestX-ray14
two patients differed by 1 bit of 64, but by no fewer than 19 of 256, while the same film as a JPEG of half the size
differed by at most 8, and with another brightness curve by 7. Cropping or another window changes more than that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

SIDE = 16
WORDS = SIDE * SIDE // 64
#: Bits of 256 by which two films may differ to count as look-alikes; the search below finds all pairs up to this.
MAX_DISTANCE = 8
_BANDS = MAX_DISTANCE + 1


def pixel_hash(film: Image.Image) -> bytes:
    """16 bytes that two films share if and only if (but for chance) mode, size and all pixels are equal."""
    return hashlib.blake2b(f"{film.mode} {film.size} ".encode() + film.tobytes(), digest_size=16).digest()


def difference_hashes(film: Image.Image) -> tuple[bytes, bytes]:
    """The difference hash of the film and that of its negative.

    Each is 32 bytes of the central square, in a fixed shuffled order of bits (see `look_alikes`). They are no
    complements: neighbours of one brightness, as in black borders, are not brighter either way.
    """
    side = min(film.size)
    left, top = (film.width - side) // 2, (film.height - side) // 2
    square = (left, top, left + side, top + side)
    small = film.convert("L").resize((SIDE + 1, SIDE), Image.Resampling.BILINEAR, box=square)
    pixels = np.asarray(small, np.int16)
    steps = np.diff(pixels, axis=1).ravel()[_ORDER]
    return np.packbits(steps > 0).tobytes(), np.packbits(steps < 0).tobytes()


#: Bits far apart in the picture come together, so that a black border does not make equal bands in all films.
_ORDER = np.random.default_rng(0).permutation(SIDE * SIDE)


def as_words(hashes: list[bytes]) -> np.ndarray:
    """[N, 4] uint64 of difference hashes."""
    return np.frombuffer(b"".join(hashes), np.uint64).reshape(-1, WORDS)


def look_alikes(words: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs that differ by at most `MAX_DISTANCE` bits: first rows, second rows (greater), distances [pairs].

    The 256 bits are cut into one band more than the distance: two films within it share a band exactly, so only films
    that do are compared.

    Args:
        words: [N, 4] uint64.
    """
    keys = np.concatenate(list(_pair_keys(words)) or [np.zeros(0, np.int64)])
    first, second = np.divmod(np.unique(keys), max(len(words), 1))
    return first, second, _distance(words, first, second)


def _pair_keys(words: np.ndarray) -> Iterator[np.ndarray]:
    """Per band, `first * N + second` of the pairs that are within the distance."""
    count = len(words)
    bits = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=1)
    for band in np.array_split(np.arange(bits.shape[1]), _BANDS):
        values = bits[:, band].astype(np.int64) @ (1 << np.arange(len(band)))
        order = np.argsort(values, kind="stable")
        ordered = values[order]
        positions = np.arange(count)
        # Neighbours one, two, three ... places apart, as long as any of them share the band.
        for apart in range(1, count):
            positions = positions[positions + apart < count]
            positions = positions[ordered[positions] == ordered[positions + apart]]
            if not positions.size:
                break
            pairs = np.sort(np.stack([order[positions], order[positions + apart]]), axis=0)
            near = _distance(words, *pairs) <= MAX_DISTANCE
            yield pairs[0, near] * count + pairs[1, near]


def _distance(words: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.bitwise_count(words[first] ^ words[second]).sum(axis=1, dtype=np.int64)
