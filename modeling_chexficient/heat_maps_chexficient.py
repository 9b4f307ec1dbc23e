"""Where on a film is it: heat maps of phrases for dual encoders, of findings for classification heads.

Two methods, both of the tower's last spatial features:

- `similarity` (dual encoders): every patch is embedded as if it were the whole image, and compared with the phrase by
  the cosine. In the last block of a transformer each token attends to itself alone, so that its own value stands in
  place of the pooled image (MaskCLIP, arXiv 2112.01071). Of a tower with stages every cell of the last
  map is pooled and projected alone (as in BioViL, arXiv 2204.09817).
- `gradient` (heads, and dual encoders when asked for): HiResCAM (arXiv 2011.08891), the sum over channels
  of feature times gradient of the output, without averaging gradients over the film as Grad-CAM does (arXiv
  1610.02391). Of a head on the mean of the last map both are the class activation map: its sum plus bias is the logit.
  The features are the last map of a tower with stages, the normalised input of the last block of a transformer.

A heat map tells what a model's output rests on, not where a finding is: `eval` judges whether the two agree.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers import PreTrainedModel

from .decoders_chexficient import patch_grid
from .image_processing_chexficient_pixels import to_eight_bit
from .towers_chexficient import stage_widths

METHODS = ("similarity", "gradient")


def similarity_maps(patches: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """Cosines [B, P, h, w] of patch embeddings [B, h, w, D] with text embeddings [P, D], both of unit length."""
    return torch.einsum("bhwd,pd->bphw", patches, texts)


def hires_cam(features: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """HiResCAM [B, h, w] of features [B, h, w, C] and the output's gradients by them: positive where they speak for it.

    The ReLU that is often put on top is left out: what speaks against the output stays visible as negative.
    """
    return (features * gradients).sum(dim=-1)


@torch.no_grad()
def patch_embeddings(
    tower: PreTrainedModel, pixel_values: torch.Tensor, embed: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """[B, h, w, D]: what `embed` makes of every patch alone, as it makes [B, D] of whole images.

    Args:
        tower: the image tower that `embed` runs.
        pixel_values: [B, channels, H, W] normalised floats.
        embed: from pixels to embeddings, such as those of `CheXficientModel`.

    Raises:
        ValueError: the tower has no spatial features that can be taken apart.
    """
    shapes = []

    def take_apart(features: torch.Tensor) -> torch.Tensor:
        shapes.append(features.shape)
        if features.ndim == 4:
            return features.movedim(1, 3).flatten(0, 2)[..., None, None]
        return features.flatten(0, 1).unsqueeze(1)

    with _take_apart_in(tower, take_apart):
        try:
            embedded = embed(pixel_values)
        except (RuntimeError, IndexError) as error:
            # Some blocks need the places of all tokens (DINOv3), or merge neighbours.
            raise ValueError(f"{type(tower).__name__} cannot embed a single patch: {error}") from error
    (shape,) = shapes
    cells = math.prod(shape[2:]) if len(shape) == 4 else shape[1]
    if len(embedded) != shape[0] * cells or not embedded.isfinite().all():
        raise ValueError(f"{type(tower).__name__} cannot embed a single patch: it joins them before they are pooled")
    embedded = embedded.unflatten(0, (shape[0], cells))
    height, width = shape[2:] if len(shape) == 4 else _grid(tower, cells, pixel_values)
    return embedded[:, cells - height * width :].unflatten(1, (height, width))


def gradient_maps(
    tower: PreTrainedModel, pixel_values: torch.Tensor, scores: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """HiResCAM [B, P, h, w] fp32 of each of P outputs.

    Args:
        tower: the image tower that `scores` runs, in evaluation mode.
        pixel_values: [B, channels, H, W] normalised floats.
        scores: from pixels to outputs [B, P], those of an image depending on that image alone.

    Raises:
        ValueError: the tower has no spatial features, or the outputs do not depend on them.
    """
    found = []

    def watch(features: torch.Tensor) -> torch.Tensor:
        found.append(features.detach().requires_grad_())
        return found[-1]

    with torch.enable_grad(), _watch_in(tower, watch):
        outputs = scores(pixel_values)
        if not (found and outputs.requires_grad):
            raise ValueError(f"the outputs do not depend on the features of {type(tower).__name__}")
        # Of two that were watched the later is what the outputs depend on.
        features = found[-1]
        sums = outputs.float().sum(dim=0)
        gradients = [torch.autograd.grad(one, features, retain_graph=True)[0] for one in sums]
    maps = [hires_cam(*(_as_grid(tower, one, pixel_values) for one in (features.detach(), grad))) for grad in gradients]
    return torch.stack(maps, dim=1).float()


def heat_maps(
    model,
    processor,
    films,
    phrases: Sequence[str | tuple[str, str]],
    method: str | None = None,
) -> list[torch.Tensor]:
    """Where the phrases or findings are on each film, on the film's own pixels.

    Args:
        model: a `CheXficientModel`, which is asked for phrases, or a `CheXficientForImageClassification`, which is
            asked for its own findings.
        processor: the model's own, or its image processor where the model is a head.
        films: one film or a list, as the image processor takes them, of any sizes.
        phrases: texts; or, for a dual encoder, pairs of texts (with, without it), whose maps are subtracted.
        method: of `METHODS`; by default similarity for a dual encoder and gradient for a head.

    Returns:
        for each film fp32 [phrases, H, W] on the CPU, NaN where the model does not see the film. The values are
        cosines (of a pair their difference) by similarity, shares of the output by gradient: only their order within
        one map means something.

    Raises:
        ValueError: no phrase, a finding that the head does not have, a pair or similarity asked of a head, an unknown
            method, a tower without spatial features, or films that the processor refuses.
    """
    phrases, films = list(phrases), _list_of_films(films)
    if not phrases:
        raise ValueError("No phrase or finding to look for was passed")
    image_processor = getattr(processor, "image_processor", processor)
    pixels = image_processor(films, return_tensors="pt")["pixel_values"].to(model.device)
    if hasattr(model, "text_model"):
        maps = _phrase_maps(model, processor, pixels, phrases, method or "similarity")
    elif hasattr(model, "classifier"):
        maps = finding_maps(model, pixels, phrases, method or "gradient")
    else:
        raise ValueError(f"{type(model).__name__} tells neither phrases nor findings: there is nothing to point at")
    return image_processor.post_process_heat_maps(maps.cpu(), [_size(film) for film in films])


def finding_maps(model, pixel_values: torch.Tensor, findings: Sequence, method: str = "gradient") -> torch.Tensor:
    """Heat maps [B, findings, h, w] of a `CheXficientForImageClassification`; errors as of `heat_maps`."""
    if method != "gradient":
        raise ValueError(f"a head has no texts to compare patches with: method {method!r} is not there, only gradient")
    names = list(model.config.id2label.values())
    unknown = [one for one in findings if one not in names]
    if unknown:
        raise ValueError(f"the head has no finding {unknown}, it has {names}")
    places = [names.index(one) for one in findings]
    return gradient_maps(model.vision_model, pixel_values, lambda pixels: model(pixel_values=pixels).logits[:, places])


def text_maps(
    tower: PreTrainedModel,
    pixel_values: torch.Tensor,
    embed: Callable[[torch.Tensor], torch.Tensor],
    texts: torch.Tensor,
    method: str = "similarity",
) -> torch.Tensor:
    """Heat maps [B, P, h, w] fp32 of texts [P, D] of unit length; other arguments as of `patch_embeddings`."""
    if method not in METHODS:
        raise ValueError(f"method {method!r} of a heat map is unknown, there are {METHODS}")
    if method == "gradient":
        return gradient_maps(tower, pixel_values, lambda pixels: embed(pixels) @ texts.T)
    return similarity_maps(patch_embeddings(tower, pixel_values, embed).float(), texts)


def overlay_heat_map(film, heat_map: torch.Tensor | np.ndarray, opacity: float = 0.5) -> Image.Image:
    """The film as an RGB image, warm where the map is high, as it is where the map is low or NaN.

    Args:
        film: what `to_eight_bit` takes.
        heat_map: [H, W] of the film's size. It is scaled from its median to its highest value: half the film is bare.
        opacity: of the highest value, 0 to 1.

    Raises ValueError where the map is not of the film's size.
    """
    grey = np.asarray(to_eight_bit(film).convert("RGB"), dtype=np.float32)
    values = np.asarray(heat_map, dtype=np.float32)
    if values.shape != grey.shape[:2]:
        raise ValueError(f"the heat map is {values.shape}, the film {grey.shape[:2]} (height, width)")
    low, high = (np.nanmedian(values), np.nanmax(values)) if np.isfinite(values).any() else (0.0, 0.0)
    strength = np.nan_to_num((values - low) / (high - low) if high > low else np.zeros_like(values)).clip(0, 1)
    # From dark red over orange to yellow.
    colour = np.stack([np.minimum(1, 0.5 + strength), strength**1.5, 0.2 * strength**4], axis=-1) * 255
    weight = (opacity * np.sqrt(strength))[..., None]
    return Image.fromarray(((1 - weight) * grey + weight * colour).round().astype(np.uint8))


def _phrase_maps(model, processor, pixels: torch.Tensor, phrases: list, method: str) -> torch.Tensor:
    pairs = [(phrase,) if isinstance(phrase, str) else tuple(phrase) for phrase in phrases]
    texts = [text for pair in pairs for text in pair]
    with torch.no_grad():
        embedded = model(**processor(text=texts).to(model.device)).text_embeds
    maps = text_maps(model.vision_model, pixels, lambda given: model(pixel_values=given).image_embeds, embedded, method)
    parts = maps.split([len(pair) for pair in pairs], dim=1)
    return torch.stack([part[:, 0] - part[:, 1:].sum(dim=1) for part in parts], dim=1)


@contextmanager
def _hooked(*handles) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _take_apart_in(tower: PreTrainedModel, change: Callable[[torch.Tensor], torch.Tensor]) -> AbstractContextManager:
    """While it lasts, the tower goes on with `change` of what is pooled: the output of its encoder, a map [B, C, h, w]
    or merged patches [B, N, C], where it has stages; else the input [B, N, C] of its last block.
    """
    if stage_widths(tower.config):
        return _hooked(_encoder(tower).register_forward_hook(lambda _, __, output: _with_last_state(output, change)))
    hook = partial(_with_first_input, change)
    return _hooked(_last_block(tower).register_forward_pre_hook(hook, with_kwargs=True))


def _watch_in(tower: PreTrainedModel, change: Callable[[torch.Tensor], torch.Tensor]) -> AbstractContextManager:
    """While it lasts, the tower goes on with `change` of its last spatial features.

    Those of a transformer are taken behind a layer norm: in front of it, feature times gradient adds up to 0, since
    the norm does not see the length of a feature.
    """
    if stage_widths(tower.config):
        parts = [_encoder(tower), getattr(tower, "layernorm", None)]
    else:
        parts = [next((part for part in _last_block(tower).modules() if "Norm" in type(part).__name__), None)]
    return _hooked(
        *(part.register_forward_hook(lambda _, __, output: _with_last_state(output, change)) for part in parts if part)
    )


def _encoder(tower: PreTrainedModel) -> nn.Module:
    encoder = getattr(tower, "encoder", None)
    if encoder is None:
        raise ValueError(f"{type(tower).__name__} has no encoder whose output is a map: choose another tower")
    return encoder


def _with_last_state(output, change: Callable[[torch.Tensor], torch.Tensor]):
    """The output of a module, its last hidden state changed where it is spatial."""
    if isinstance(output, torch.Tensor):
        return change(output) if output.ndim > 2 else output
    if isinstance(output, tuple):
        return (change(output[0]), *output[1:])
    output["last_hidden_state"] = change(output["last_hidden_state"])
    return output


def _with_first_input(
    change: Callable[[torch.Tensor], torch.Tensor], _: nn.Module, given: tuple, named: dict
) -> tuple[tuple, dict]:
    if given:
        return (change(given[0]), *given[1:]), named
    return given, {**named, "hidden_states": change(named["hidden_states"])}


def _last_block(tower: PreTrainedModel) -> nn.Module:
    count = getattr(tower.config, "num_hidden_layers", None)
    for module in tower.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module[-1]
    raise ValueError(f"{type(tower).__name__} has no list of blocks: it gives no spatial features")


def _grid(tower: PreTrainedModel, tokens: int, pixel_values: torch.Tensor) -> tuple[int, int]:
    """Rows and columns of the last of so many tokens that are patches."""
    if not stage_widths(tower.config):
        return patch_grid(tower, pixel_values)
    side = math.isqrt(tokens)
    if side * side != tokens or pixel_values.shape[-1] != pixel_values.shape[-2]:
        raise ValueError(
            f"{type(tower).__name__} merges patches: heat maps need square images, not {pixel_values.shape}"
        )
    return side, side


def _as_grid(tower: PreTrainedModel, features: torch.Tensor, pixel_values: torch.Tensor) -> torch.Tensor:
    """[B, h, w, C] of a map [B, C, h, w], or of the patches among tokens [B, N, C]."""
    if features.ndim == 4:
        if not stage_widths(tower.config):
            raise ValueError(f"{type(tower).__name__} has blocks of an unknown layout: choose another tower")
        return features.movedim(1, 3)
    height, width = _grid(tower, features.shape[1], pixel_values)
    return features[:, features.shape[1] - height * width :].unflatten(1, (height, width))


def _list_of_films(films) -> list:
    if isinstance(films, (np.ndarray, torch.Tensor)) and films.ndim == 4:
        return list(films)
    return list(films) if isinstance(films, (list, tuple)) else [films]


def _size(film) -> tuple[int, int]:
    width, height = to_eight_bit(film).size
    return height, width


__all__ = [
    "METHODS",
    "finding_maps",
    "gradient_maps",
    "heat_maps",
    "hires_cam",
    "overlay_heat_map",
    "patch_embeddings",
    "similarity_maps",
    "text_maps",
]
