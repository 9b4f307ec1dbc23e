"""Any comparable model behind one interface: CheXficient, dual encoders (CLIP, SigLIP, ...), vision encoders alone.

Models that were adapted to a task are in `eval.models.adapted`; `load_evaluation_model` takes both.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedModel

from eval.records.runs import Adaptation
from modeling_chexficient import (
    CheXficientImageProcessor,
    CheXficientModel,
    CheXficientProcessor,
    feature_pyramid,
    to_eight_bit,
)
from modeling_chexficient.heat_maps_chexficient import text_directions, text_maps
from modeling_chexficient.texts_chexficient import longest_text
from modeling_chexficient.towers_chexficient import interpolation_arguments


class EvaluationModel:
    """A vision encoder without a text tower (DINOv2, RAD-DINO, ViT, ResNet): the base of all other models here.

    Args:
        model: the transformers model.
        image_processor: makes its pixels.
        name, revision: folder or Hub id, and the commit of the latter.
        sha256: hash of the weights of a folder.

    Attributes:
        sees_text: whether it embeds texts too.
        image_size: side of its images in pixels.
        logit_scale: factor on its cosine similarities; None without a text tower.
        pretraining_sources: corpora (`source` of records) that it was trained on, as far as its configuration says.
        adaptation: how a head came about (`eval.records.results.Adaptation`); None for a model without one.
        training_folders: prepared folders that a head was trained on, as far as recorded.
    """

    sees_text = False
    logit_scale: float | None = None
    adaptation: Adaptation | None = None
    training_folders: Sequence[str] = ()
    #: Whether `pooler_output` is what the tower was trained by; the pooler of a plain ViT is often untrained.
    pooler_is_trained = False

    def __init__(
        self,
        model: PreTrainedModel,
        image_processor,
        name: str = "model",
        revision: str | None = None,
        sha256: str | None = None,
    ):
        self.model, self.image_processor = model, image_processor
        self.name, self.revision, self.weights_sha256 = name, revision, sha256
        self.pretraining_sources = list(getattr(model.config, "pretraining_sources", None) or [])
        # CLIP's pooler holds the last layer norm, SigLIP's the attention that pools: both were trained.
        self.pooler_is_trained |= self.tower.config.model_type.startswith(("clip", "siglip"))
        self._interpolate = interpolation_arguments(self.tower)
        self.image_size = self.pixels([Image.new("L", (64, 64))]).shape[-1]

    @property
    def tower(self) -> nn.Module:
        """The vision tower, which takes `pixel_values`."""
        return self.model

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def outputs(self) -> list[str] | None:
        """Names of the outputs of a trained head, in their order; None without one."""
        return None

    @property
    def identity(self) -> str:
        """What the embeddings of an image depend on: the hash of the weights, or id and revision of a Hub model."""
        return self.weights_sha256 or f"{self.name}@{self.revision}"

    def pixels(self, images: Sequence[Image.Image]) -> Tensor:
        """Images of any mode as [B, 3, S, S] normalised fp32, on the CPU."""
        if isinstance(self.image_processor, CheXficientImageProcessor):
            return self.image_processor(list(images), return_tensors="pt")["pixel_values"]
        rgb = [to_eight_bit(image).convert("RGB") for image in images]
        return self.image_processor(images=rgb, return_tensors="pt")["pixel_values"]

    @torch.no_grad()
    def embed_images(self, pixels: Tensor) -> Tensor:
        """[B, D] fp32 of unit length, on the model's device."""
        return F.normalize(self._image_features(pixels.to(self.device, self.model.dtype)).float(), dim=-1)

    @torch.no_grad()
    def tower_features(self, pixels: Tensor) -> Tensor:
        """[B, C] fp32 of unit length, before any projection: what the published linear probes are given.

        Of a transformer its layer-normalised CLS token, of a convolutional tower the mean over its last map.
        """
        return F.normalize(self._tower_features(pixels.to(self.device, self.model.dtype)).float(), dim=-1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """[n, D] fp32 of unit length, on the model's device. Raises ValueError without a text tower."""
        raise ValueError(f"{self.name} has no text tower: it cannot compare images with texts")

    @torch.no_grad()
    def pyramid(self, pixels: Tensor) -> list[Tensor]:
        """Maps [B, C, h, w] fp32 of the last five blocks (or all, if fewer), the deepest last.

        Those of a transformer are of one size and normalised by the tower's last layer norm, as DINOv2's own
        `get_intermediate_layers` does; those of a convolutional tower shrink and widen from stage to stage.

        Raises:
            ValueError: the tower gives no maps.
        """
        pixels = pixels.to(self.device, self.model.dtype)
        try:
            return [level.float() for level in feature_pyramid(self.tower, pixels)]
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from error

    def heat_maps(self, pixels: Tensor, phrases: Sequence[str | tuple[str, str]], method: str | None = None) -> Tensor:
        """[B, phrases, S, S] fp32 on `pixels`, high where the phrases are; arguments as of `heat_maps_chexficient`.

        Raises:
            ValueError: the model has no text tower, or its image tower no spatial features.
        """
        texts = text_directions(self.embed_texts, phrases, method)

        def embed(pixels: Tensor) -> Tensor:
            return F.normalize(self._image_features(pixels).float(), dim=-1)

        pixels = pixels.to(self.device, self.model.dtype)
        return text_maps(self.tower, pixels, embed, texts, method)

    def _image_features(self, pixels: Tensor) -> Tensor:
        return self._tower_features(pixels)

    def _tower_features(self, pixels: Tensor) -> Tensor:
        output = self.tower(pixel_values=pixels, **self._interpolate)
        tokens = output.last_hidden_state
        pooled = getattr(output, "pooler_output", None)
        if tokens.ndim == 3 and (pooled is None or not self.pooler_is_trained):
            return tokens[:, 0]
        return pooled.flatten(1)


class DualEncoder(EvaluationModel):
    """A model of two towers with `get_image_features` and `get_text_features`: CLIP, SigLIP, VisionTextDualEncoder."""

    sees_text = True
    pooler_is_trained = True

    def __init__(self, model: PreTrainedModel, image_processor, tokenizer, **names):
        super().__init__(model, image_processor, **names)
        self.tokenizer = tokenizer
        self.logit_scale = float(model.logit_scale.detach().float().exp())

    @property
    def tower(self) -> nn.Module:
        return self.model.vision_model

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        limit = longest_text(self.model.config.text_config) or 512
        # SigLIP was trained on texts padded to its full length, without a mask.
        padding = "max_length" if self.model.config.model_type.startswith("siglip") else True
        tokens = self.tokenizer(
            list(texts),
            padding=padding,
            truncation=True,
            max_length=min(limit, self.tokenizer.model_max_length),
            return_tensors="pt",
        )
        return F.normalize(_pooled(self.model.get_text_features(**tokens.to(self.device))).float(), dim=-1)

    def _image_features(self, pixels: Tensor) -> Tensor:
        return _pooled(self.model.get_image_features(pixel_values=pixels, **self._interpolate))


class CheXficientEncoder(DualEncoder):
    """CheXficient with its own processor."""

    def __init__(self, model: CheXficientModel, processor: CheXficientProcessor, **names):
        super().__init__(model, processor.image_processor, processor.tokenizer, **names)
        self.processor = processor

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        return self.model(**self.processor(text=list(texts)).to(self.device)).text_embeds

    def _image_features(self, pixels: Tensor) -> Tensor:
        return self.model(pixel_values=pixels).image_embeds


def _pooled(features) -> Tensor:
    """Features as transformers 5 returns them, within the output of the tower."""
    return features if isinstance(features, Tensor) else features.pooler_output
