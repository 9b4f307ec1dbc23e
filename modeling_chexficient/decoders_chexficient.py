"""Feature maps of an image tower, and the decoders that turn them into masks.

A pyramid is a list of maps [B, C, h, w] from the shallowest block to the deepest, all of one size (ViT) or smaller
the deeper (convolutional towers). A decoder gives logits [B, structures, H, W]; nothing else limits or normalises them.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from .towers_chexficient import UNUSABLE, interpolation_arguments, refuse_tower, stage_widths

# Maps of a pyramid: the published U-Net takes the last five blocks.
PYRAMID_DEPTH = 5
_GROUPS = 8
# Names of a tower's last norm: DINOv2 and ViT, CLIP and SigLIP, DINOv3, ConvNeXt of DINOv3, and AIMv2.
LAST_NORMS = ("layernorm", "post_layernorm", "norm", "layer_norm", "rms_norm")
_OTHER_STATES = "its hidden states are not the maps of its stages"
#: By `model_type`, towers without feature maps, and why.
_WITHOUT_MAPS = {
    **UNUSABLE,
    **dict.fromkeys(("efficientnet", "hiera", "levit", "maskformer-swin", "pvt"), _OTHER_STATES),
}


def feature_pyramid(
    vision_model: PreTrainedModel, pixel_values: torch.Tensor, depth: int = PYRAMID_DEPTH
) -> list[torch.Tensor]:
    """Maps [B, C, h, w] of the last `depth` blocks of a tower (all, if it has fewer), the deepest last.

    Those of a transformer are of one size and normalised by the tower's last layer norm, as DINOv2's own
    `get_intermediate_layers` does; those of a convolutional tower shrink and widen from stage to stage.

    Raises:
        ValueError: the tower gives no hidden states, or others than its configuration tells.
    """
    output = vision_model(pixel_values=pixel_values, output_hidden_states=True, **interpolation_arguments(vision_model))
    return output_maps(vision_model, output, pixel_values, depth)


def output_maps(
    vision_model: PreTrainedModel, output: ModelOutput, pixel_values: torch.Tensor, depth: int = PYRAMID_DEPTH
) -> list[torch.Tensor]:
    """The maps of `feature_pyramid` from an output of the tower that holds its hidden states."""
    states = getattr(output, "reshaped_hidden_states", None) or getattr(output, "hidden_states", None)
    if not states:
        raise ValueError(f"{type(vision_model).__name__} gives no hidden states, so there are no feature maps")
    channels = pyramid_channels(vision_model.config, depth)
    # Most towers give the embedding, before any block, as well.
    states = states[-len(channels) :]
    maps = [state if state.ndim == 4 else _tokens_as_map(vision_model, state, pixel_values) for state in states]
    if [level.shape[1] for level in maps] != channels:
        raise ValueError(
            f"the maps of {type(vision_model).__name__} have {[level.shape[1] for level in maps]} channels, but its "
            f"configuration tells {channels}: choose another tower"
        )
    return maps


def pyramid_channels(config: PretrainedConfig, depth: int = PYRAMID_DEPTH) -> list[int]:
    """Channels of the maps that `feature_pyramid` gives for a tower of this configuration.

    Raises ValueError, which names the tower, where it has no such maps.
    """
    refuse_tower(config, _WITHOUT_MAPS.get(config.model_type))
    stages = stage_widths(config)
    if stages:
        return stages[-depth:]
    if not hasattr(config, "hidden_size"):
        refuse_tower(config, _OTHER_STATES)
    return [config.hidden_size] * min(depth, config.num_hidden_layers)


class LinearDecoder(nn.Module):
    """A linear classifier of every position of the deepest map, enlarged bilinearly (as in arXiv 2304.07193).

    Args:
        channels: of the maps of the pyramid.
        structures: number of masks.
        momentum: of the running statistics that standardise the features; None averages over all batches alike, which
            suits frozen features.
    """

    def __init__(self, channels: Sequence[int], structures: int, momentum: float | None = None):
        super().__init__()
        self.head = nn.Sequential(_standardised(channels[-1], momentum), nn.Conv2d(channels[-1], structures, 1))

    def forward(self, pyramid: list[torch.Tensor], size: int | Sequence[int]) -> torch.Tensor:
        """Logits [B, structures, H, W]; `size` is (H, W), or the side of a square."""
        return _resize(self.head(pyramid[-1]), _pair(size))


class UNetDecoder(nn.Module):
    """From the deepest map upwards: enlarge, add the next shallower map, two convolutions (after arXiv 1505.04597).

    Every step doubles the side, or takes that of the shallower map where it is larger, up to `size`, and halves the
    width. The last layer is linear, so logits are not limited from below.

    Args:
        channels, structures, momentum: as of `LinearDecoder`.
        width, narrowest: channels at the deepest map, and how many are left at least at the shallowest.
    """

    def __init__(
        self,
        channels: Sequence[int],
        structures: int,
        width: int = 128,
        momentum: float | None = None,
        narrowest: int = 16,
    ):
        super().__init__()
        widths = [max(width >> depth, narrowest) for depth in range(len(channels))]
        deep_first = list(reversed(channels))
        self.inputs = nn.ModuleList(
            nn.Sequential(_standardised(given, momentum), nn.Conv2d(given, taken, 1))
            for given, taken in zip(deep_first, widths, strict=True)
        )
        self.steps = nn.ModuleList(
            nn.Sequential(*_convolution(before + after, after), *_convolution(after, after))
            for before, after in pairwise(widths)
        )
        self.head = nn.Conv2d(widths[-1], structures, 1)

    def forward(self, pyramid: list[torch.Tensor], size: int | Sequence[int]) -> torch.Tensor:
        """Logits [B, structures, H, W]; `size` is (H, W), or the side of a square."""
        size = _pair(size)
        maps = [enter(level) for enter, level in zip(self.inputs, reversed(pyramid), strict=True)]
        x = maps[0]
        for step, skip in zip(self.steps, maps[1:], strict=True):
            sides = zip(x.shape[-2:], skip.shape[-2:], size, strict=True)
            step_size = tuple(min(max(2 * side, skip_side), limit) for side, skip_side, limit in sides)
            x = step(torch.cat([_resize(x, step_size), _resize(skip, step_size)], dim=1))
        return _resize(self.head(x), size)


class ImageUNetDecoder(UNetDecoder):
    """A `UNetDecoder` with two more skips, of the image itself at full and half its size (as UNETR, arXiv 2103.10504).

    Its finest map is the grid of pixels. It is for lines and tubes, which are narrower than a position of the tower's
    maps: what a decoder draws there and enlarges is wider than they are.

    Args:
        channels: of the image, then of the maps of the pyramid.
        structures, width, momentum: as of `UNetDecoder`.
    """

    def __init__(self, channels: Sequence[int], structures: int, width: int = 128, momentum: float | None = None):
        image, *maps = channels
        super().__init__([_GROUPS, _GROUPS, *maps], structures, width, momentum, narrowest=_GROUPS)
        self.full_size = nn.Sequential(*_convolution(image, _GROUPS), *_convolution(_GROUPS, _GROUPS))
        self.half_size = nn.Sequential(nn.MaxPool2d(2), *_convolution(_GROUPS, _GROUPS))

    def forward(self, pyramid: list[torch.Tensor], size: int | Sequence[int]) -> torch.Tensor:
        """Logits [B, structures, H, W]; the first map of the pyramid is the image [B, channels, H, W], normalised."""
        image = self.full_size(pyramid[0])
        return super().forward([image, self.half_size(image), *pyramid[1:]], size)


class PublishedUNetDecoder(nn.Module):
    """The decoder of the released segmentation weights (arXiv 2602.22843), on the last five blocks of a ViT.

    Four steps, each of which doubles the side and adds the next shallower map; then a bilinear, antialiased resize to
    the image. Released as it is, every step ends with GELU, the last one too, so that no logit lies below -0.17 and no
    probability below 0.46.

    Args:
        channels: of the five maps; their widths are halved by each of the first three steps.
        structures: number of masks.
        clip_logits: keep the last GELU, to reproduce the released numbers.

    Raises:
        ValueError: not five maps, or fewer than 8 channels.
    """

    def __init__(self, channels: Sequence[int], structures: int, clip_logits: bool = False):
        super().__init__()
        if len(channels) != PYRAMID_DEPTH or channels[-1] < 8:
            raise ValueError(
                f"Decoder published_unet takes {PYRAMID_DEPTH} maps of at least 8 channels, this tower gives "
                f"{list(channels)}: choose decoder unet"
            )
        deepest = channels[-1]
        widths = [deepest, deepest // 2, deepest // 4, deepest // 8, structures]
        skips = list(reversed(channels))[1:]
        steps = [_PublishedStep(*sizes) for sizes in zip(widths, skips, widths[1:], strict=False)]
        if not clip_logits:
            steps[-1].conv[-1] = nn.Identity()
        self.up1, self.up2, self.up3, self.up4 = steps

    def forward(self, pyramid: list[torch.Tensor], size: int | Sequence[int]) -> torch.Tensor:
        """Logits [B, structures, H, W]; `size` is (H, W), or the side of a square."""
        x, *skips = reversed(pyramid)
        for step, skip in zip((self.up1, self.up2, self.up3, self.up4), skips, strict=True):
            x = step(x, skip)
        # In fp32: on the CPU torch cannot do it in half precision.
        return F.interpolate(x.float(), _pair(size), mode="bilinear", antialias=True).to(x.dtype)


class _PublishedStep(nn.Module):
    """Transposed convolution of `x`, convolution of the skip map at its own size, both joined and convolved."""

    def __init__(self, given: int, skip: int, taken: int):
        super().__init__()
        self.upconv = nn.ConvTranspose2d(given, taken, 2, stride=2)
        self.skip_conv = _published_convolution(skip, taken)
        self.conv = _published_convolution(2 * taken, taken)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        x = self.upconv(x)
        skip = F.interpolate(self.skip_conv(skip), x.shape[-2:], mode="bilinear", align_corners=True)
        return self.conv(torch.cat([x, skip], dim=1))


def mean_of_patches(output: ModelOutput, vision_model: PreTrainedModel, pixel_values: torch.Tensor) -> torch.Tensor:
    """[B, C] mean of a tower's last states over the patches, or over its last map [B, C, h, w]."""
    last = output["last_hidden_state"]
    if last.ndim == 4:
        return last.mean((2, 3))
    height, width = patch_grid(vision_model, pixel_values)
    # Of a tower that merges patches (Swin), these are all its tokens.
    return last[:, -height * width :].mean(1)


def _tokens_as_map(vision_model: PreTrainedModel, tokens: torch.Tensor, pixel_values: torch.Tensor) -> torch.Tensor:
    """[B, C, h, w] of the patches among [B, tokens, C], normalised by the last layer norm of the tower."""
    norm = _last_norm(vision_model)
    height, width = patch_grid(vision_model, pixel_values)
    # Before the patches stand the CLS token and registers, where the tower has them.
    patches = (tokens if norm is None else norm(tokens))[:, tokens.shape[1] - height * width :]
    return patches.transpose(1, 2).unflatten(2, (height, width))


def _last_norm(vision_model: PreTrainedModel) -> nn.Module | None:
    """The last norm of a ViT; None where it has none (ViTDet)."""
    # BEiT has nothing in its place where it pools the mean of the patches: then the norm is in the pooling layer.
    layers = (vision_model, getattr(vision_model, "pooler", None))
    found = (getattr(layer, name, None) for layer in layers for name in LAST_NORMS)
    return next((norm for norm in found if norm is not None and not isinstance(norm, nn.Identity)), None)


def patch_grid(vision_model: PreTrainedModel, pixel_values: torch.Tensor) -> tuple[int, int]:
    """Rows and columns of the patches that a ViT makes of `pixel_values` [B, channels, H, W]."""
    patch = vision_model.config.patch_size
    height, width = (patch, patch) if isinstance(patch, int) else patch
    return pixel_values.shape[-2] // height, pixel_values.shape[-1] // width


def _standardised(channels: int, momentum: float | None) -> nn.BatchNorm2d:
    """Features of towers come in any scale. Without parameters, and a fixed linear map once trained."""
    return nn.BatchNorm2d(channels, affine=False, momentum=momentum)


def _convolution(given: int, taken: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(given, taken, 3, padding=1, bias=False), nn.GroupNorm(_GROUPS, taken), nn.ReLU()


def _published_convolution(given: int, taken: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(given, taken, 3, padding=1), nn.BatchNorm2d(taken), nn.GELU())


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def _resize(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return x if tuple(x.shape[-2:]) == size else F.interpolate(x, size, mode="bilinear", align_corners=False)


__all__ = [
    "ImageUNetDecoder",
    "LinearDecoder",
    "PublishedUNetDecoder",
    "UNetDecoder",
    "feature_pyramid",
    "mean_of_patches",
    "output_maps",
    "pyramid_channels",
]
