"""The pixels of films: to 8 bits, to the square that a model sees, and to normalised floats."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
# Bit depths in which X-ray detectors store their values.
BIT_DEPTHS = (8, 10, 12, 14, 16)
# A longer strip holds no chest, and resizing its short side would need gigabytes.
MAX_ASPECT_RATIO = 100
CHANNEL_COUNTS = (1, 3, 4)
DEEP_MODES = ("I", "F")
# TIFF's Photometric Interpretation (its WhiteIsZero is 0).
_PHOTOMETRIC = 262
# Left in `Image.info` of a film that was scaled to 8 bits, for which white is white.
SCALED = "chexficient_scaled"
# Of a film that was clipped to 8 bits in place of scaled, most is white, and little is between black and white.
CLIPPED_WHITE_SHARE = 0.5
CLIPPED_GREY_SHARE = 0.05


def to_eight_bit(image: Image.Image | np.ndarray | torch.Tensor) -> Image.Image:
    """Turn one image of any common kind into 8 bits: mode "L" where all channels are equal, else mode "RGB".

    Args:
        image: a PIL image of any mode, taken as it is meant to be seen (`as_viewed`), or a numpy array or torch
            tensor, [H, W], [H, W, C] or [C, H, W] with 1, 3 or 4 channels. Transparency is dropped. Integers beyond 8
            bits are scaled, never clipped: the bit depth is the smallest of 8, 10, 12, 14 and 16 that holds the image's
            maximum, and the full range of that depth is mapped to 0..255. Floats within [0, 1] are multiplied by 255,
            floats within [0, 255] are rounded.

    Raises:
        ValueError: an empty image, an unclear channel axis, negative values, integers beyond 16 bits, NaN or infinite
            floats, or floats beyond 255.
        TypeError: not an image.
    """
    if isinstance(image, Image.Image):
        image = as_viewed(image)
    if isinstance(image, Image.Image) and not image.mode.startswith(DEEP_MODES):
        return _equal_channels_to_grey(_pil_to_grey_or_rgb(image))
    pixels = _channels_last(_as_array(image))
    eight_bit = _scale_to_eight_bit(pixels)
    if eight_bit.ndim == 2:
        return Image.fromarray(eight_bit)
    return _equal_channels_to_grey(Image.fromarray(eight_bit))


def as_viewed(image: Image.Image) -> Image.Image:
    """An opened picture as its file means it, the same image where it is so: upright by its EXIF orientation, and of
    TIFF with black air whatever its polarity. Pillow does neither (of TIFF it inverts 8 bits alone).
    """
    negative = image.mode not in ("1", "L") and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    return _inverted(image) if negative else image


def _inverted(image: Image.Image) -> Image.Image:
    pixels = np.asarray(image)
    if pixels.dtype.kind == "f":
        return Image.fromarray(pixels.max() + pixels.min() - pixels)
    highest = next((2**depth - 1 for depth in BIT_DEPTHS if pixels.max() < 2**depth), int(pixels.max()))
    return Image.fromarray((highest - pixels.astype(np.int64)).astype(pixels.dtype))


def mark_as_scaled(image: Image.Image) -> Image.Image:
    """A copy of an 8-bit image for which `check_not_clipped` finds nothing; the mark survives `convert`."""
    image = image.copy()
    image.info[SCALED] = True
    return image


def check_not_clipped(image, eight_bit: Image.Image) -> None:
    """Find a film of more than 8 bits that became white on its way here, as in the pipelines of transformers.

    `Image.convert("RGB")` makes every value above 255 white. What it leaves is grey, in mode "RGB", mostly white.

    Args:
        image: as it was given; only PIL images of mode "RGB" are looked at.
        eight_bit: what `to_eight_bit` made of it.

    Raises ValueError where more than half is white and nearly nothing between black and white.
    Warns UserWarning where more than half is white.
    """
    if not isinstance(image, Image.Image) or image.mode != "RGB" or eight_bit.mode != "L" or image.info.get(SCALED):
        return
    counts = eight_bit.histogram()
    white, grey = counts[255] / sum(counts), sum(counts[1:255]) / sum(counts)
    if white <= CLIPPED_WHITE_SHARE:
        return
    text = (
        f'{white:.0%} of the image is white, as of a film of more than 8 bits after convert("RGB"), which '
        "pipelines of transformers do: `import modeling_chexficient` before the pipeline is made, pass it "
        "to_eight_bit(image), or give the film itself to this processor"
    )
    if grey < CLIPPED_GREY_SHARE:
        raise ValueError(text)
    warnings.warn(text, stacklevel=2)


def resize_and_crop(image: Image.Image, size: int) -> Image.Image:
    """Scale the short side of an "L" or "RGB" image to `size` (bicubic, PIL) and cut the central size x size square.

    The rounding is that of torchvision's `Resize(int)` and `CenterCrop(int)`, whose formulas are reproduced here from
    its source, since torchvision itself is not a dependency: long side = int(size * long / short), offset =
    int(round((side - size) / 2)), halves to even. An image that already is size x size comes back unchanged.

    Raises ValueError where one side is more than 100 times the other.
    """
    scaled, (left, top) = _scaled_size_and_corner(image.size, size)
    if image.size != scaled:
        image = image.resize(scaled, Image.Resampling.BICUBIC)
    if image.size == (size, size):
        return image
    return image.crop((left, top, left + size, top + size))


def resize_reduced(
    image: Image.Image, whole: tuple[int, int], factor: int, size: int, on_first: bool = False
) -> Image.Image:
    """Scale a film that was decoded at a part of its size as `resize_and_crop` scales the whole; nothing is cut off.

    Args:
        image: "L" or "RGB", each side at least that of the whole divided by `factor`.
        whole: (width, height) of the film itself.
        on_first: the centre of a pixel is that of the first of the `factor` pixels that it stands for, not of them all.
    """
    scaled, _ = _scaled_size_and_corner(whole, size)
    # What is decoded is rounded up to whole pixels: the last of them cover less of the film than the others.
    start = (0.5 - 0.5 / factor) * on_first
    box = (start, start, start + whole[0] / factor, start + whole[1] / factor)
    return image.resize(scaled, Image.Resampling.BICUBIC, box=box)


def seen_square(width: int, height: int, size: int) -> tuple[float, float, float, float]:
    """(top, left, height, width) of what `resize_and_crop` keeps of an image, in pixels of that image."""
    scaled, (left, top) = _scaled_size_and_corner((width, height), size)
    across, down = width / scaled[0], height / scaled[1]
    return top * down, left * across, size * down, size * across


def normalise_pixels(
    pixels: torch.Tensor,
    mean: Sequence[float] = CLIP_MEAN,
    std: Sequence[float] = CLIP_STD,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Scale 8-bit pixels to [0, 1], expand grey to three channels and normalise: [B, 3, H, W] on the pixels' device.

    Computed in fp32 as torchvision's `ToTensor` and `Normalize` do, and cast to `dtype` at the end. The image processor
    calls this function, so grey uint8 images can travel to the device and be normalised there with equal results.

    Args:
        pixels: uint8, [B, H, W], [B, 1, H, W] or [B, 3, H, W].
        mean, std: three values each, on the scale [0, 1].

    Raises ValueError for other shapes and types.
    """
    if pixels.ndim == 3:
        pixels = pixels.unsqueeze(1)
    if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels.shape[1] not in (1, 3):
        raise ValueError(
            f"pixels must be uint8 [B, H, W], [B, 1, H, W] or [B, 3, H, W], not {pixels.dtype} {tuple(pixels.shape)}"
        )
    # Tensors on the device: CUDA multiplies by the reciprocal of a plain number, which is off by one rounding.
    full_scale = torch.tensor(255.0, device=pixels.device)
    means = torch.tensor(mean, dtype=torch.float32, device=pixels.device).view(3, 1, 1)
    deviations = torch.tensor(std, dtype=torch.float32, device=pixels.device).view(3, 1, 1)
    return ((pixels / full_scale) - means).div_(deviations).to(dtype)


def _scaled_size_and_corner(image_size: tuple[int, int], size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """(width, height) to which an image is scaled, and (left, top) of the square that is cut out of that."""
    width, height = image_size
    short, long = sorted(image_size)
    if long > MAX_ASPECT_RATIO * short:
        raise ValueError(f"An image of {width} x {height} pixels is no chest film: cut or pad it first")
    scaled_long = int(size * long / short)
    scaled = (size, scaled_long) if width <= height else (scaled_long, size)
    return scaled, (round((scaled[0] - size) / 2), round((scaled[1] - size) / 2))


def _pil_to_grey_or_rgb(image: Image.Image) -> Image.Image:
    if 0 in image.size:
        raise ValueError(f"Empty image of {image.width} x {image.height} pixels")
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _equal_channels_to_grey(image: Image.Image) -> Image.Image:
    """One channel gives the same result in a third of the time: PIL resizes every channel on its own."""
    if image.mode == "L":
        return image
    red, green, blue = image.split()
    first = red.tobytes()
    return red if first == green.tobytes() and first == blue.tobytes() else image


def _as_array(image: Image.Image | np.ndarray | torch.Tensor) -> np.ndarray:
    if isinstance(image, torch.Tensor):
        image = image.detach().cpu()
        image = image.float() if image.is_floating_point() else image
    elif not isinstance(image, (Image.Image, np.ndarray)):
        raise TypeError(f"Expected a PIL image, a numpy array or a torch tensor, not {type(image).__name__}")
    return np.asarray(image)


def _channels_last(pixels: np.ndarray) -> np.ndarray:
    """[H, W] or [H, W, 3] of an array with the channels first, last or absent, without transparency."""
    if pixels.size == 0:
        raise ValueError(f"Empty image of shape {pixels.shape}")
    if pixels.ndim == 2:
        return pixels
    if pixels.ndim != 3:
        raise ValueError(f"An image has the shape [H, W], [H, W, C] or [C, H, W], not {pixels.shape}")
    first, last = pixels.shape[0] in CHANNEL_COUNTS, pixels.shape[-1] in CHANNEL_COUNTS
    if first == last:
        raise ValueError(f"Which axis of {pixels.shape} holds the 1, 3 or 4 channels is unclear: pass a PIL image")
    if first:
        pixels = np.moveaxis(pixels, 0, -1)
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels[..., :3]


def _scale_to_eight_bit(pixels: np.ndarray) -> np.ndarray:
    kind = pixels.dtype.kind
    if kind == "b":
        scaled = pixels * np.uint8(255)
    elif kind in "iu":
        scaled = _integers_to_eight_bit(pixels)
    elif kind == "f":
        scaled = _floats_to_eight_bit(pixels)
    else:
        raise TypeError(f"Pixels must be booleans, integers or floats, not {pixels.dtype}")
    return np.ascontiguousarray(scaled)


def _integers_to_eight_bit(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    low, high = int(pixels.min()), int(pixels.max())
    depth = next((bits for bits in BIT_DEPTHS if high < 2**bits), None)
    if low < 0 or depth is None:
        raise ValueError(f"Integer pixels must lie within 0..65535, not {low}..{high}: apply the window first")
    top = 2**depth - 1
    # round(v * 255 / top) in integers, by table: exact, and quicker than arithmetic on every pixel.
    table = ((np.arange(top + 1) * 255 + top // 2) // top).astype(np.uint8)
    return table[pixels]


def _floats_to_eight_bit(pixels: np.ndarray) -> np.ndarray:
    if not np.isfinite(pixels).all():
        raise ValueError("The image holds NaN or infinite values: fill or mask them first")
    low, high = float(pixels.min()), float(pixels.max())
    if low < 0 or high > 255:
        raise ValueError(
            f"Float pixels must lie within [0, 1] or [0, 255], not {low:g}..{high:g}: rescale the image, or pass "
            "integers for a higher bit depth"
        )
    return np.rint(pixels * 255 if high <= 1 else pixels).astype(np.uint8)


__all__ = [
    "as_viewed",
    "check_not_clipped",
    "mark_as_scaled",
    "normalise_pixels",
    "resize_and_crop",
    "resize_reduced",
    "seen_square",
    "to_eight_bit",
]
