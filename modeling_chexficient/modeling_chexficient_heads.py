"""Heads on the image tower of CheXficient: image classification and segmentation.

Both load the tower straight from a folder of the whole model, whose text side they leave aside, from a folder of their
own, or (`from_vision_pretrained`) from a vision model that `AutoModel` builds; the few without a feature of the image
or without feature maps are refused by name.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import ImageClassifierOutput, SemanticSegmenterOutput
from transformers.utils import ModelOutput, can_return_tuple

from .configuration_chexficient import CheXficientConfig
from .decoders_chexficient import (
    LAST_NORMS,
    ImageUNetDecoder,
    LinearDecoder,
    PublishedUNetDecoder,
    UNetDecoder,
    mean_of_patches,
    output_maps,
    pyramid_channels,
)
from .heat_maps_chexficient import heat_maps
from .modeling_chexficient_losses import (
    MULTI,
    SINGLE,
    findings_loss,
    infer_problem_type,
    one_class_loss,
    regression_loss,
    structures_loss,
)
from .towers_chexficient import (
    CheXficientPreTrainedModel,
    code_reference,
    feature_size,
    image_channels,
    interpolation_arguments,
    load_vision_model,
    pool_image,
    without_pooling_layer,
)

# Of the running statistics in front of a decoder: the features move while an adapter trains.
MOMENTUM = 0.1

DECODERS: dict[str, Callable[[list[int], CheXficientConfig], nn.Module]] = {
    "linear": lambda channels, config: LinearDecoder(channels, config.num_labels, momentum=MOMENTUM),
    "unet": lambda channels, config: UNetDecoder(channels, config.num_labels, momentum=MOMENTUM),
    "image_unet": lambda channels, config: ImageUNetDecoder(
        [image_channels(config.vision_config), *channels], config.num_labels, momentum=MOMENTUM
    ),
    "published_unet": lambda channels, config: PublishedUNetDecoder(channels, config.num_labels, config.clip_logits),
}


@dataclass
class CheXficientSegmenterOutput(SemanticSegmenterOutput):
    """Output of `CheXficientForSemanticSegmentation`.

    Attributes:
        loss: scalar, with `labels`.
        logits: [B, num_labels, H, W] at the size of the image.
        hidden_states, attentions: of the tower, where asked for.
        background_logits: [B] zeros where structures overlap: a pixel whose every logit is below belongs to none of
            them. None where the classes exclude each other.
    """

    background_logits: torch.Tensor | None = None


class CheXficientHead(CheXficientPreTrainedModel):
    """What the heads share: the image tower `vision_model` and how it is built, loaded and saved."""

    input_modalities = ["image"]  # noqa: RUF012 (read by transformers)
    # The text side of a whole model.
    _keys_to_ignore_on_load_unexpected = [  # noqa: RUF012
        r"^text_model\.",
        r"^text_projection\.",
        r"^visual_projection\.",
        r"^logit_scale$",
    ]

    @classmethod
    def from_vision_pretrained(
        cls,
        name_or_path: str,
        *,
        image_size: int | None = None,
        dtype: torch.dtype | str | None = None,
        attn_implementation: str | None = None,
        quantization_config: Any = None,
        device_map: Any = None,
        **config_kwargs,
    ) -> "CheXficientHead":
        """Put a new head on a pretrained vision model; of a model with two towers (CLIP, SigLIP) the vision part.

        Args:
            name_or_path: folder or Hub name that `AutoModel` loads.
            image_size: side of the images in pixels, to which a position embedding is interpolated once and for all.
            dtype, attn_implementation, quantization_config, device_map: as in `from_pretrained`.
            config_kwargs: arguments of `CheXficientConfig`, such as `num_labels`, `problem_type`, `mask_decoder`.

        Raises:
            ValueError: the name is of a CheXficient model, which `from_pretrained` loads.
        """
        given = {"dtype": dtype, "attn_implementation": attn_implementation}
        given |= {"quantization_config": quantization_config, "device_map": device_map}
        loading: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        vision_config = AutoConfig.from_pretrained(name_or_path)
        if vision_config.model_type == cls.config_class.model_type:
            raise ValueError(f"{name_or_path} is a CheXficient model: load it with {cls.__name__}.from_pretrained")
        config = cls.config_class(
            vision_config=getattr(vision_config, "vision_config", vision_config),
            attn_implementation=attn_implementation,
            **config_kwargs,
        )
        loading |= cls._without_pooling(config)
        vision_model = load_vision_model(name_or_path, config.vision_config, image_size, **loading)
        model = cls(config, vision_model=vision_model)
        for name, part in model.named_children():
            if name != "vision_model":
                part.to(vision_model.device, vision_model.dtype)
        for name in ("is_quantized", "quantization_method", "hf_quantizer"):
            # By these transformers and accelerate know that layers of a model are of few bits.
            if hasattr(vision_model, name):
                setattr(model, name, getattr(vision_model, name))
        return model.eval()

    def get_input_embeddings(self) -> nn.Module:
        """What makes patches of pixels: that of the tower."""
        return self.vision_model.get_input_embeddings()

    def save_pretrained(self, save_directory, *args, **kwargs):
        """Save as every transformers model does; `AutoModel` of the folder gives this head, too."""
        if self._auto_class is not None:
            # The classes that a folder of the whole model names are not in a folder of the head.
            self.config.auto_map = {"AutoModel": code_reference(type(self))}
        return super().save_pretrained(save_directory, *args, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise the convolutions of a decoder as torch does, everything else as transformers does."""
        super()._init_weights(module)
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            if module.bias is not None:
                bound = module.weight[0].numel() ** -0.5
                init.uniform_(module.bias, -bound, bound)

    @classmethod
    def _without_pooling(cls, config: CheXficientConfig) -> dict[str, bool]:
        """Arguments of the tower's constructor that leave out its pooling, where the head makes no use of it."""
        return {}

    def _build_tower(self, vision_model: PreTrainedModel | None) -> PreTrainedModel:
        if vision_model is None:
            vision_model = AutoModel.from_config(self.config.vision_config, **self._without_pooling(self.config))
        # One object, which the layers of the tower hold as well, so that later changes (attention) reach them.
        self.config.vision_config = vision_model.config
        self._interpolate = interpolation_arguments(vision_model)
        # Trainer and users ask before they enable it.
        self.supports_gradient_checkpointing = any(
            hasattr(module, "gradient_checkpointing") for module in vision_model.modules()
        )
        return vision_model

    def _run_tower(
        self, pixel_values: torch.Tensor, output_attentions: bool | None, output_hidden_states: bool | None
    ) -> ModelOutput:
        self._check_pixels(pixel_values)
        flags = self._output_flags(output_attentions, output_hidden_states)
        # Towers other than DINOv2 do not cast their input to the type of their weights.
        return self.vision_model(pixel_values=pixel_values.to(self.vision_model.dtype), **self._interpolate, **flags)


class CheXficientForImageClassification(CheXficientHead):
    """A linear classifier (or regressor) of the tower's image feature; see `CheXficientConfig.image_pooling`.

    Args:
        config: a `CheXficientConfig`. `num_labels` or `id2label` tell the labels; `problem_type` tells whether an image
            may bear several ("multi_label_classification"), bears one ("single_label_classification") or is given
            numbers ("regression"). Without it the first labels decide, as in every classifier of transformers.
        vision_model: a ready tower that matches the configuration; built with fresh weights by default.
    """

    def __init__(self, config: CheXficientConfig, vision_model: PreTrainedModel | None = None):
        super().__init__(config)
        self.vision_model = self._build_tower(vision_model)
        self.classifier = nn.Linear(feature_size(config.vision_config), config.num_labels)
        self.post_init()
        self._freeze_unused()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        pos_weight: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> ImageClassifierOutput:
        """Classify images.

        Args:
            pixel_values: [B, channels, H, W] normalised floats.
            labels: multi-label: [B, num_labels], from 0 to 1, NaN where nobody judged; single-label: integers [B], -100
                where nobody judged; regression: floats [B, num_labels] (or [B] for one label), NaN where unknown.
                Values that nobody judged do not enter the loss, which is a mean; without any value the loss is 0.
            pos_weight: [num_labels], how much more a present finding weighs than an absent one; multi-label only.
            output_attentions, output_hidden_states: also return those of the tower.

        Raises:
            ValueError: labels of another shape or with values that the head does not have, `pos_weight` for another
                problem, or pixels the tower cannot take.
        """
        output = self._run_tower(pixel_values, output_attentions, output_hidden_states)
        if self.config.image_pooling == "patches":
            features = mean_of_patches(output, self.vision_model, pixel_values)
        else:
            features = pool_image(output)
        if self.config.image_pooling == "normalized":
            features = F.normalize(features, dim=-1)
        logits = self.classifier(features)
        return ImageClassifierOutput(
            loss=None if labels is None else self._loss(logits, labels.to(logits.device), pos_weight),
            logits=logits,
            hidden_states=getattr(output, "hidden_states", None),
            attentions=getattr(output, "attentions", None),
        )

    def heat_maps(self, processor, films, findings, method: str | None = None) -> list[torch.Tensor]:
        """Where findings are on each film, [findings, H, W] on its own pixels; see `heat_maps_chexficient`."""
        return heat_maps(self, processor, films, findings, method)

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor, pos_weight: torch.Tensor | None) -> torch.Tensor:
        if self.config.problem_type is None:
            self.config.problem_type = infer_problem_type(self.config.num_labels, labels)
        problem, names = self.config.problem_type, self.config.id2label.values()
        if problem == MULTI:
            return findings_loss(logits, labels, names, pos_weight)
        if pos_weight is not None:
            raise ValueError(f"pos_weight is for problem_type {MULTI}, this head has {problem}")
        return one_class_loss(logits, labels) if problem == SINGLE else regression_loss(logits, labels, names)


class CheXficientForSemanticSegmentation(CheXficientHead):
    """A decoder of the tower's feature maps into one mask per label; see `CheXficientConfig.mask_decoder`.

    Args:
        config: a `CheXficientConfig`. `problem_type` is "multi_label_classification" (structures overlap; the default)
            or "single_label_classification" (every pixel belongs to one class).
        vision_model: a ready tower that matches the configuration; built with fresh weights by default.
    """

    def __init__(self, config: CheXficientConfig, vision_model: PreTrainedModel | None = None):
        super().__init__(config)
        if config.problem_type is None:
            config.problem_type = MULTI
        if config.problem_type not in (MULTI, SINGLE):
            raise ValueError(f"problem_type of a segmentation must be {MULTI} or {SINGLE}, not {config.problem_type!r}")
        self.vision_model = self._build_tower(vision_model)
        self.decode_head = DECODERS[config.mask_decoder](pyramid_channels(config.vision_config), config)
        self.post_init()
        self._freeze_unused()

    @classmethod
    def _without_pooling(cls, config: CheXficientConfig) -> dict[str, bool]:
        # Decoders see patches: a pooling layer would be left without gradient, which distributed training refuses.
        for name in ("vision_use_head", "use_head"):
            if hasattr(config.vision_config, name):
                setattr(config.vision_config, name, False)
        if getattr(config.vision_config, "use_mean_pooling", False):
            # The last norm of BEiT is all that its pooling layer holds.
            return {"add_pooling_layer": True}
        return without_pooling_layer(config.vision_config)

    def _unused_norms(self) -> tuple[str, ...]:
        # The last norm of a convolutional tower or a Swin is for pooled features; decoders standardise maps themselves.
        config = self.vision_model.config
        return LAST_NORMS if hasattr(config, "hidden_sizes") or hasattr(config, "depths") else ()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> CheXficientSegmenterOutput:
        """Segment images.

        Args:
            pixel_values: [B, channels, H, W] normalised floats.
            labels: multi-label: [B, num_labels, H, W] with 1 inside and 0 outside; single-label: integers [B, H, W],
                the number of the class. Both hold `config.semantic_loss_ignore_index` where nobody judged. The loss
                is binary cross entropy plus soft Dice, or cross entropy, over judged pixels.
            output_attentions, output_hidden_states: also return those of the tower.

        Raises:
            ValueError: labels of another shape or with other values (named), or pixels the tower cannot take.
        """
        output = self._run_tower(pixel_values, output_attentions, True)
        # The tower gives them in any case; whether the caller gets them is decided as where it is not asked to.
        flags = self._output_flags(None, output_hidden_states)
        wanted = flags.get("output_hidden_states", self.vision_model.config.output_hidden_states)
        maps = output_maps(self.vision_model, output, pixel_values)
        if self.config.mask_decoder == "image_unet":
            maps = [pixel_values.to(maps[0].dtype), *maps]
        logits = self.decode_head(maps, pixel_values.shape[-2:])
        overlapping = self.config.problem_type == MULTI
        return CheXficientSegmenterOutput(
            loss=None if labels is None else self._loss(logits, labels.to(logits.device)),
            logits=logits,
            hidden_states=output["hidden_states"] if wanted else None,
            attentions=getattr(output, "attentions", None),
            background_logits=logits.new_zeros(logits.shape[0]) if overlapping else None,
        )

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        ignored = self.config.semantic_loss_ignore_index
        if self.config.problem_type == SINGLE:
            return one_class_loss(logits, labels, ignored)
        return structures_loss(logits, labels, ignored, self.config.id2label.values())


# By the class of transformers that loads it (`AdapterTask.auto_model`), also from a folder of the whole model.
HEADS: dict[str, type[CheXficientHead]] = {
    "AutoModelForImageClassification": CheXficientForImageClassification,
    "AutoModelForSemanticSegmentation": CheXficientForSemanticSegmentation,
}

__all__ = ["CheXficientForImageClassification", "CheXficientForSemanticSegmentation", "CheXficientSegmenterOutput"]
