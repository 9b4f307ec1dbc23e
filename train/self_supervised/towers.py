"""The image tower that is distilled: where it comes from, and what iBOT needs of it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from types import MethodType

import torch
from torch import Tensor, nn
from transformers import MODEL_MAPPING, AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.utils import cached_file

from modeling_chexficient import CheXficientConfig, CheXficientModel
from modeling_chexficient.image_processing_chexficient import CLIP_MEAN, CLIP_STD
from modeling_chexficient.towers_chexficient import (
    interpolation_arguments,
    pool_image,
    resize_position_embeddings,
    without_pooling_layer,
)
from train.film_runs.preprocessing import preprocessing
from train.self_supervised.head import HEAD_FILE

#: DINOv2's own code interpolates positions to the number of patches and this (see `interpolate_as_published`).
_OFFSET = 0.1
#: By `model_type`, the axes of the mask token before that of its features.
_MASK_TOKENS = {"dinov2": (1,), "vit": (1, 1)}


@dataclass
class Tower:
    """A tower in fp32, and what was beside it.

    Args:
        mean, std: of the pixels it knows, three values each on the scale [0, 1].
        image_size: side of the films it was made for, in pixels.
        head_file: of the head it was distilled with; None where there is none.
        is_new: nothing of it was pretrained.
        sources: corpora that it was trained on, as far as its configuration says.
    """

    model: PreTrainedModel
    mean: list[float]
    std: list[float]
    image_size: int
    head_file: Path | None
    is_new: bool
    sources: list[str]


def load_tower(
    vision_model: str | None, vision_config: dict | None, model: str | None, image_size: int | None
) -> Tower:
    """The tower that one of three arguments names.

    Raises:
        ValueError: there is no such model, it takes no images, or its patches do not divide `image_size`.
    """
    if vision_config is not None:
        return _new_tower(vision_config, image_size or 224)
    name = vision_model or model
    assert name is not None
    argument = "--vision_model" if vision_model else "--model"
    try:
        config = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ValueError(f"{argument} {name}: there is no model that transformers can load ({error})") from error
    whole = isinstance(config, CheXficientConfig)
    if whole != (model is not None):
        raise ValueError(
            f"{argument} {name} is a {config.model_type}: --model is for whole CheXficient models, of which the vision "
            "tower is taken, --vision_model for towers alone"
        )
    if whole:
        loaded = CheXficientModel.from_pretrained(name, dtype=torch.float32)
        tower, sources = loaded.vision_model, getattr(config, "pretraining_sources", None)
        tower.requires_grad_(True)
    else:
        tower, sources = _load_alone(name, config), getattr(config, "pretraining_sources", None)
    mean, std, own_size = preprocessing(name, tower.config)
    if image_size is not None and image_size != own_size:
        _resize(tower, image_size)
    return Tower(tower, mean, std, image_size or own_size, _head_beside(name), False, list(sources or []))


def _new_tower(values: dict, image_size: int) -> Tower:
    if "model_type" not in values:
        raise ValueError(f"vision_config needs a model_type, got {values}")
    config = AutoConfig.for_model(**values)
    if hasattr(config, "image_size") and "image_size" not in values:
        config.image_size = image_size
    _check_sees_images("--vision_config", config)
    tower = AutoModel.from_config(config, **without_pooling_layer(config))
    size = config.image_size if hasattr(config, "image_size") else image_size
    return Tower(tower, list(CLIP_MEAN), list(CLIP_STD), size, None, True, [])


def _load_alone(name: str, config: PretrainedConfig) -> PreTrainedModel:
    _check_sees_images(f"--vision_model {name}", config)
    # A plain ViT drops the mask token beside its weights unless told; where there is none, it is new.
    masks = {"use_mask_token": True} if config.model_type == "vit" else {}
    return AutoModel.from_pretrained(name, dtype=torch.float32, **without_pooling_layer(config), **masks)


def _check_sees_images(argument: str, config: PretrainedConfig) -> None:
    model_class = MODEL_MAPPING.get(type(config), None)
    if getattr(model_class, "main_input_name", None) != "pixel_values" or hasattr(config, "text_config"):
        raise ValueError(f"{argument} is a {config.model_type}, which is no image tower alone: name a vision tower")


def _resize(tower: PreTrainedModel, image_size: int) -> None:
    try:
        resize_position_embeddings(tower, image_size)
    except ValueError as error:
        raise ValueError(f"image_size: {error}") from error


def _head_beside(name: str) -> Path | None:
    quiet = ("_raise_exceptions_for_missing_entries", "_raise_exceptions_for_connection_errors")
    file = cached_file(name, HEAD_FILE, **dict.fromkeys(quiet, False))
    return None if file is None else Path(file)


def patch_size(config: PretrainedConfig) -> int | None:
    """Side of a patch in pixels; None for towers without."""
    size = getattr(config, "patch_size", None)
    return size if isinstance(size, int) else None


def give_mask_token(tower: PreTrainedModel) -> None:
    """Give a DINOv2 or ViT without a mask token one of zeros, in place, so that patches can be masked; leave others.

    The image tower of a CheXficient model has none, nor has the encoder of a masked autoencoder. That of a plain ViT is
    saved with it, but `AutoModel` loads it only where it is told to, as `load_tower` does.
    """
    embeddings, config = getattr(tower, "embeddings", None), tower.config
    if getattr(embeddings, "mask_token", None) is not None or config.model_type not in _MASK_TOKENS:
        return
    assert isinstance(embeddings, nn.Module)
    embeddings.mask_token = nn.Parameter(torch.zeros(*_MASK_TOKENS[config.model_type], config.hidden_size))
    if hasattr(config, "use_mask_token"):
        config.use_mask_token = True


def check_masks(tower: PreTrainedModel) -> None:
    """Raise ValueError, with the cause, for a tower whose patches cannot be masked."""
    kind = type(tower).__name__
    if "bool_masked_pos" not in inspect.signature(tower.forward).parameters:
        cause = f"{kind} takes no masks (bool_masked_pos)"
    elif getattr(getattr(tower, "embeddings", None), "mask_token", None) is None:
        cause = f"this {kind} has no mask token (use_mask_token is off)"
    elif patch_size(tower.config) is None:
        cause = f"{kind} has no square patches of one size"
    else:
        return
    raise ValueError(
        f"iBOT cannot train this tower: {cause}. Choose a ViT with a mask token, such as DINOv2 or RAD-DINO, or train "
        "with DINO alone (--ibot_weight 0)"
    )


def features(tower: PreTrainedModel, pixels: Tensor, masks: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Of each film the image feature [n, D] (for a ViT its CLS) and the tower's last tokens [n, tokens, D] (or map).

    Args:
        pixels: [n, 3, H, W], normalised.
        masks: [n, patches] bool, patches to hide; None: none, and for towers that know no masks.
    """
    hidden = {} if masks is None else {"bool_masked_pos": masks}
    output = tower(pixel_values=pixels, **hidden, **interpolation_arguments(tower))
    return pool_image(output), output.last_hidden_state


def interpolate_as_published(tower: PreTrainedModel) -> None:
    """Let a DINOv2 interpolate its positions as the published code does, in place, on this object alone.

    For n patches of N positions a side the published factor is (n + 0.1) / N, that of transformers n / N: features of
    small crops differ by 1e-3. Films of the tower's own size are the same either way, and nothing is saved of it.
    """
    embeddings = getattr(tower, "embeddings", None)
    if tower.config.model_type.startswith("dinov2") and isinstance(embeddings, nn.Module):
        embeddings.interpolate_pos_encoding = MethodType(_published_positions, embeddings)  # type: ignore[assignment]


def _published_positions(embeddings, tokens: Tensor, height: int, width: int) -> Tensor:
    """The positions [1, 1 + patches, D] of crops of `height` x `width` pixels; replaces a method of transformers."""
    own = embeddings.position_embeddings
    side = round((own.shape[1] - 1) ** 0.5)
    patch_height, patch_width = embeddings.patch_embeddings.patch_size
    rows, columns = height // patch_height, width // patch_width
    if rows == columns == side:
        return own
    grid = own[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    factors = ((rows + _OFFSET) / side, (columns + _OFFSET) / side)
    resized = nn.functional.interpolate(grid.float(), scale_factor=factors, mode="bicubic").to(own.dtype)
    return torch.cat([own[:, :1], resized.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)
