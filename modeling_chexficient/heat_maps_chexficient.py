"""Where on a film is it: heat maps of phrases for dual encoders, of findings for classification heads.

Three methods:

- `layercam` (the default): LayerCAM (doi:10.1109/TIP.2021.3089943) of all stages or blocks, fused and smoothed. A
  phrase is asked for against `NORMAL`: the gradient is that of the difference of the two cosines.
- `gradient`: HiResCAM (arXiv 2011.08891) of the last spatial features, the sum over channels of feature times gradient
  of the output, without averaging gradients over the film as Grad-CAM does (arXiv 1610.02391). Of a head on the mean of
  the last map both are the class activation map: its sum plus bias is the logit. The features are the last map of a
  tower with stages, the normalised input of the last block of a transformer.
- `similarity` (dual encoders): every patch is embedded as if it were the whole image, and compared with the phrase by
  the cosine. In the last block of a transformer each token attends to itself alone, so that its own value stands in
  place of the pooled image (MaskCLIP, arXiv 2112.01071). Of a tower with stages every cell of the last map is pooled
  and projected alone (as in BioViL, arXiv 2204.09817).

A heat map tells what a model's output rests on, not where a finding is: `eval` judges whether the two agree.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedModel

from .cell_places_chexficient import noted_places
from .image_processing_chexficient_files import open_image
from .image_processing_chexficient_pixels import to_eight_bit
from .layer_cam_chexficient import layer_cam_maps
from .spatial_features_chexficient import gradient_maps, patch_embeddings

#: The first is the default.
METHODS = ("layercam", "gradient", "similarity")
#: What a phrase is compared with by `layercam`, where no other text is given.
NORMAL = "No acute cardiopulmonary abnormality."


def similarity_maps(patches: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """Cosines [B, P, h, w] of patch embeddings [B, h, w, D] with text embeddings [P, D], both of unit length."""
    return torch.einsum("bhwd,pd->bphw", patches, texts)


# Gradients are needed, in whatever mode the caller works.
@torch.inference_mode(False)
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
        phrases: texts; or, for a dual encoder, pairs of texts (with, without it), whose difference is asked for.
        method: of `METHODS`, for a head not similarity; None: layercam.

    Returns:
        for each film fp32 [phrases, H, W] on the CPU, NaN where the model does not see the film. The values are 0 to 1
        by layercam, shares of the output by gradient, and cosines (of a pair their difference) by similarity: only
        their order within one map means something.

    Raises:
        ValueError: no phrase, or a text in place of a list of them; a finding that the head does not have, a pair or
            similarity asked of a head, an unknown method, a tower without spatial features, or films that the
            processor refuses.
    """
    if isinstance(phrases, str):
        # Its letters would be looked for.
        raise ValueError(f"phrases are a list, not one text: pass [{phrases!r}]")
    phrases, films = list(phrases), _list_of_films(films)
    if not phrases:
        raise ValueError("No phrase or finding to look for was passed")
    # Read once: their sizes are needed beside their pixels.
    films = [open_image(film) if isinstance(film, (str, Path)) else film for film in films]
    image_processor = getattr(processor, "image_processor", processor)
    pixels = image_processor(films, return_tensors="pt")["pixel_values"].to(model.device)
    if hasattr(model, "text_model"):
        maps = _phrase_maps(model, processor, pixels, phrases, method)
    elif hasattr(model, "classifier"):
        maps = finding_maps(model, pixels, phrases, method)
    else:
        raise ValueError(f"{type(model).__name__} tells neither phrases nor findings: there is nothing to point at")
    return image_processor.post_process_heat_maps(maps.cpu(), [_size(film) for film in films])


def finding_maps(model, pixel_values: torch.Tensor, findings: Sequence, method: str | None = None) -> torch.Tensor:
    """Heat maps [B, findings, H, W] fp32 of a `CheXficientForImageClassification`; errors as of `heat_maps`."""
    names = list(model.config.id2label.values())
    unknown = [finding for finding in findings if finding not in names]
    if unknown:
        raise ValueError(f"the head has no finding {unknown}, it has {names}")
    if _known(method) == "similarity":
        raise ValueError("a head has no texts to compare patches with: method 'similarity' is not there for it")
    places = [names.index(finding) for finding in findings]
    return _output_maps(
        model.vision_model, pixel_values, lambda given: model(pixel_values=given).logits[:, places], method
    )


def text_maps(
    tower: PreTrainedModel,
    pixel_values: torch.Tensor,
    embed: Callable[[torch.Tensor], torch.Tensor],
    texts: torch.Tensor,
    method: str | None = None,
) -> torch.Tensor:
    """Heat maps [B, P, H, W] of texts [P, D] (`text_directions`), fp32 on the pixels.

    Other arguments are as of `patch_embeddings`. Raises ValueError for an unknown method, and as it does.
    """
    if _known(method) == "similarity":
        with noted_places(tower, pixel_values) as places:
            maps = similarity_maps(patch_embeddings(tower, pixel_values, embed).float(), texts)
        return places.lay(maps)
    return _output_maps(tower, pixel_values, lambda given: embed(given) @ texts.T, method)


def text_directions(
    embed_texts: Callable[[list[str]], torch.Tensor], phrases: Sequence[str | tuple[str, str]], method: str | None
) -> torch.Tensor:
    """[P, D]: embeddings of phrases, or their differences from those of what they are compared with.

    Args:
        embed_texts: from n texts to [n, D] of unit length.
        phrases: texts, or pairs of texts (with, without it).
        method: layercam compares a single text with `NORMAL`.
    """
    alone = (NORMAL,) if _known(method) == "layercam" else ()
    if not all(isinstance(phrase, str) or len(phrase) == 2 for phrase in phrases):
        raise ValueError("a phrase is a text, or a pair of texts: one with what is looked for, one without it")
    texts = [(phrase, *alone) if isinstance(phrase, str) else tuple(phrase) for phrase in phrases]
    embedded = embed_texts([text for one in texts for text in one]).split([len(one) for one in texts])
    return torch.stack([prompts[0] - prompts[1:].sum(dim=0) for prompts in embedded])


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
    weight = (opacity * strength)[..., None]
    return Image.fromarray(((1 - weight) * grey + weight * colour).round().astype(np.uint8))


def _phrase_maps(model, processor, pixels: torch.Tensor, phrases: list, method: str | None) -> torch.Tensor:
    @torch.no_grad()
    def embed_texts(texts: list[str]) -> torch.Tensor:
        return model(**processor(text=texts).to(model.device)).text_embeds

    texts = text_directions(embed_texts, phrases, method)
    return text_maps(model.vision_model, pixels, lambda given: model(pixel_values=given).image_embeds, texts, method)


def _output_maps(
    tower: PreTrainedModel,
    pixel_values: torch.Tensor,
    scores: Callable[[torch.Tensor], torch.Tensor],
    method: str | None,
) -> torch.Tensor:
    if _known(method) == "layercam":
        return layer_cam_maps(tower, pixel_values, scores)
    with noted_places(tower, pixel_values) as places:
        return places.lay(gradient_maps(tower, pixel_values, scores))


def _known(method: str | None) -> str:
    if method not in (None, *METHODS):
        raise ValueError(f"method {method!r} of a heat map is unknown, there are {METHODS}")
    return method or METHODS[0]


def _list_of_films(films) -> list:
    if isinstance(films, (np.ndarray, torch.Tensor)) and films.ndim == 4:
        return list(films)
    # A column of `datasets` is a sequence, but no list.
    return list(films) if isinstance(films, Sequence) and not isinstance(films, str) else [films]


def _size(film) -> tuple[int, int]:
    width, height = to_eight_bit(film).size
    return height, width


__all__ = [
    "METHODS",
    "NORMAL",
    "finding_maps",
    "heat_maps",
    "overlay_heat_map",
    "similarity_maps",
    "text_directions",
    "text_maps",
]
