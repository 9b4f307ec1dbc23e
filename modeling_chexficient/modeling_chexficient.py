"""CheXficient: a chest X-ray image tower and a report text tower trained into one contrastive space.

Source: CheXficient, arXiv 2602.22843. The published model has a DINOv2 ViT-B/14 and a Bio_ClinicalBERT; most pairs of
towers that `AutoModel` builds work here, the others are refused by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput, can_return_tuple

from .configuration_chexficient import CheXficientConfig
from .heat_maps_chexficient import heat_maps
from .modeling_chexficient_heads import HEADS
from .modeling_chexficient_losses import contrastive_loss, similarity_logits
from .texts_chexficient import TEXT_INPUTS, leading_padding, longest_text, move_output_back, move_tokens, pool_text
from .towers_chexficient import (
    CheXficientPreTrainedModel,
    code_reference,
    feature_size,
    interpolation_arguments,
    load_vision_model,
    pool_image,
    without_pooling_layer,
)


@dataclass
class CheXficientOutput(ModelOutput):
    """Output of `CheXficientModel`; what was not asked for, or has no input, is None.

    Attributes:
        loss: scalar, symmetric InfoNCE over the batch, with `return_loss=True`.
        logits_per_image: [images, texts] fp32, exp(logit_scale) times the cosine similarities.
        logits_per_text: [texts, images], its transpose.
        image_embeds: [images, projection_dim] fp32, unit length.
        text_embeds: [texts, projection_dim] fp32, unit length.
        vision_model_output: what the vision tower returned (`last_hidden_state` holds the patch features).
        text_model_output: what the text tower returned.
    """

    loss: torch.Tensor | None = None
    logits_per_image: torch.Tensor | None = None
    logits_per_text: torch.Tensor | None = None
    image_embeds: torch.Tensor | None = None
    text_embeds: torch.Tensor | None = None
    vision_model_output: ModelOutput | None = None
    text_model_output: ModelOutput | None = None

    def to_tuple(self) -> tuple:
        """All fields that are not None, the outputs of the towers as tuples as well."""
        return tuple(value.to_tuple() if isinstance(value, ModelOutput) else value for value in self.values())


class CheXficientModel(CheXficientPreTrainedModel):
    """The dual encoder: `vision_model`, `text_model`, one linear projection each, and a learnt temperature.

    Args:
        config: a `CheXficientConfig`.
        vision_model, text_model: ready towers that match the configuration; built with fresh weights by default.
    """

    # As of CLIP: by it Trainer counts tokens.
    main_input_name = "input_ids"
    # exp() of a half-precision temperature is off by up to 2 %.
    _keep_in_fp32_modules_strict = ["logit_scale"]  # noqa: RUF012

    def __init__(
        self,
        config: CheXficientConfig,
        vision_model: PreTrainedModel | None = None,
        text_model: PreTrainedModel | None = None,
    ):
        super().__init__(config)
        if vision_model is None:
            vision_model = AutoModel.from_config(config.vision_config)
        if text_model is None:
            text_model = AutoModel.from_config(config.text_config, **without_pooling_layer(config.text_config))
        self.vision_model = vision_model
        self.text_model = text_model
        # One object per tower configuration, which the layers of the tower hold as well, so that later changes
        # (attention, output flags) reach them.
        config.vision_config = vision_model.config
        config.text_config = text_model.config
        self.visual_projection = nn.Linear(feature_size(config.vision_config), config.projection_dim)
        self.text_projection = nn.Linear(feature_size(config.text_config), config.projection_dim)
        self.logit_scale = nn.Parameter(torch.tensor(config.logit_scale_init_value, dtype=torch.float32))
        self._interpolate = interpolation_arguments(vision_model)
        self.post_init()
        self._freeze_unused()

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the towers; the first parameter, the temperature, is fp32 in every model."""
        return self.vision_model.dtype

    def get_input_embeddings(self) -> nn.Module:
        """The word embeddings of the text tower."""
        return self.text_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the word embeddings of the text tower."""
        self.text_model.set_input_embeddings(value)

    @can_return_tuple
    def get_image_features(
        self,
        pixel_values: torch.Tensor,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> BaseModelOutputWithPooling:
        """The vision tower's output for images, with their embeddings in `pooler_output`, as transformers 5 has it.

        Args:
            pixel_values: [B, channels, H, W] normalised floats; other sizes than the configured one interpolate the
                position embedding, and what exceeds a multiple of the patch size is cropped by the tower.
            output_attentions, output_hidden_states: passed on to the tower.

        Returns:
            `pooler_output` [B, projection_dim] fp32, projected and of unit length; `last_hidden_state` and what else
            the tower gives. A tuple with `return_dict=False`.

        Raises:
            ValueError: other shapes, or integer pixels.
        """
        flags = self._output_flags(output_attentions, output_hidden_states)
        return _with_embeds(*self._embed_images(pixel_values, **flags))

    @can_return_tuple
    def get_text_features(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> BaseModelOutputWithPooling:
        """The text tower's output for texts, with their embeddings in `pooler_output`, as transformers 5 has it.

        Args:
            input_ids, attention_mask, token_type_ids, position_ids: [B, tokens], padded on either side.
            output_attentions, output_hidden_states: passed on to the tower.

        Returns:
            `pooler_output` [B, projection_dim] fp32, projected and of unit length; `last_hidden_state` [B, tokens, H]
            and what else the tower gives. A tuple with `return_dict=False`.

        Raises:
            ValueError: other shapes, or more tokens than the tower has positions.
        """
        flags = self._output_flags(output_attentions, output_hidden_states)
        return _with_embeds(*self._embed_texts(input_ids, attention_mask, token_type_ids, position_ids, **flags))

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        text_tokens: Mapping[str, torch.Tensor] | None = None,
        return_loss: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> CheXficientOutput:
        """Embed images, texts or both, and compare them.

        Args:
            input_ids: [texts, tokens] token ids.
            pixel_values: [images, channels, H, W] normalised floats.
            attention_mask, token_type_ids, position_ids: [texts, tokens].
            text_tokens: the output of a tokenizer, in place of the four text arguments (the call of the released
                model).
            return_loss: also return the contrastive loss; the k-th text then belongs to the k-th image.
            output_attentions, output_hidden_states: passed on to both towers.

        Raises:
            ValueError: neither images nor texts, both `text_tokens` and `input_ids`, shapes the towers cannot take,
                or a loss asked for unequal numbers of images and texts.
        """
        if text_tokens is not None:
            if input_ids is not None:
                raise ValueError("Pass either text_tokens or input_ids, not both")
            input_ids, attention_mask, token_type_ids, position_ids = (text_tokens.get(name) for name in TEXT_INPUTS)
        if pixel_values is None and input_ids is None:
            raise ValueError("Pass pixel_values, input_ids (or text_tokens), or both")

        flags = self._output_flags(output_attentions, output_hidden_states)
        image_embeds = vision_output = text_embeds = text_output = logits = loss = None
        if pixel_values is not None:
            image_embeds, vision_output = self._embed_images(pixel_values, **flags)
        if input_ids is not None:
            text_embeds, text_output = self._embed_texts(
                input_ids, attention_mask, token_type_ids, position_ids, **flags
            )
        if image_embeds is not None and text_embeds is not None:
            logits = similarity_logits(image_embeds, text_embeds, self.logit_scale)
            loss = contrastive_loss(logits) if return_loss else None
        elif return_loss:
            raise ValueError("return_loss=True needs both pixel_values and input_ids (or text_tokens)")
        return CheXficientOutput(
            loss=loss,
            logits_per_image=logits,
            logits_per_text=None if logits is None else logits.t(),
            image_embeds=image_embeds,
            text_embeds=text_embeds,
            vision_model_output=vision_output,
            text_model_output=text_output,
        )

    def heat_maps(self, processor, films, phrases, method: str | None = None) -> list[torch.Tensor]:
        """Where phrases are on each film, [phrases, H, W] on its own pixels; see `heat_maps_chexficient.heat_maps`."""
        return heat_maps(self, processor, films, phrases, method)

    @classmethod
    def from_vision_text_pretrained(
        cls,
        vision_name_or_path: str,
        text_name_or_path: str,
        *,
        vision_config: PretrainedConfig | None = None,
        text_config: PretrainedConfig | None = None,
        image_size: int | None = None,
        dtype: torch.dtype | str | None = None,
        attn_implementation: str | None = None,
        **config_kwargs,
    ) -> "CheXficientModel":
        """Start from two pretrained towers; projections and temperature are new and need training.

        Args:
            vision_name_or_path, text_name_or_path: folders or Hub names that `AutoModel` loads. Of a model with two
                towers of its own (CLIP, SigLIP) the matching one is taken.
            vision_config, text_config: load the weights into these configurations instead of the stored ones, for
                example a register checkpoint into a `Dinov2Config` without registers.
            image_size: side of the images that will be trained on, in pixels; the position embedding is interpolated
                to it once and for all (published: 37 x 37 patches of DINOv2 to 27 x 27), where the tower has one.
            dtype, attn_implementation: as in `from_pretrained`, for both towers.
            config_kwargs: other arguments of `CheXficientConfig`.
        """
        loading = {"dtype": dtype, "attn_implementation": attn_implementation}
        loading = {name: value for name, value in loading.items() if value is not None}
        if vision_config is None:
            vision_config = AutoConfig.from_pretrained(vision_name_or_path)
        if text_config is None:
            text_config = AutoConfig.from_pretrained(text_name_or_path)
        config = cls.config_class.from_vision_text_configs(
            getattr(vision_config, "vision_config", vision_config),
            getattr(text_config, "text_config", text_config),
            attn_implementation=attn_implementation,
            **config_kwargs,
        )
        vision_model = load_vision_model(vision_name_or_path, config.vision_config, image_size, **loading)
        text_arguments = without_pooling_layer(config.text_config)
        text_model = AutoModel.from_pretrained(
            text_name_or_path, config=config.text_config, **loading, **text_arguments
        )
        model = cls(config, vision_model=vision_model, text_model=text_model)
        model.visual_projection.to(vision_model.dtype)
        model.text_projection.to(text_model.dtype)
        return model.eval()

    def save_pretrained(self, save_directory, *args, **kwargs):
        """Save as every transformers model does, and name the classes that other tasks may load the folder with."""
        if self._auto_class is not None:
            entries = {"AutoModelForZeroShotImageClassification": type(self), **HEADS}
            auto_map = getattr(self.config, "auto_map", None) or {}
            self.config.auto_map = auto_map | {name: code_reference(head) for name, head in entries.items()}
        return super().save_pretrained(save_directory, *args, **kwargs)

    def _embed_images(self, pixel_values: torch.Tensor, **flags) -> tuple[torch.Tensor, ModelOutput]:
        self._check_pixels(pixel_values)
        # Towers other than DINOv2 do not cast their input to the type of their weights.
        output = self.vision_model(pixel_values=pixel_values.to(self.dtype), **self._interpolate, **flags)
        projected = self.visual_projection(pool_image(output))
        return F.normalize(projected.float(), dim=-1), output

    def _embed_texts(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        token_type_ids: torch.Tensor | None,
        position_ids: torch.Tensor | None,
        **flags,
    ) -> tuple[torch.Tensor, ModelOutput]:
        self._check_tokens(input_ids, attention_mask)
        given = (input_ids, attention_mask, token_type_ids, position_ids)
        tokens = {name: value for name, value in zip(TEXT_INPUTS, given, strict=True) if value is not None}
        shift = leading_padding(attention_mask) if position_ids is None else None
        if shift is not None:
            tokens = {name: move_tokens(value, shift) for name, value in tokens.items()}
        output = self.text_model(**tokens, **flags)
        pooled = pool_text(output.last_hidden_state, tokens.get("attention_mask"), self.config.text_pooling)
        if shift is not None:
            move_output_back(output, shift)
        return F.normalize(self.text_projection(pooled).float(), dim=-1), output

    def _check_tokens(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> None:
        if input_ids.ndim != 2 or 0 in input_ids.shape:
            raise ValueError(f"input_ids must be [texts, tokens] and not empty, not {tuple(input_ids.shape)}")
        if attention_mask is not None and attention_mask.shape != input_ids.shape:
            raise ValueError(
                f"attention_mask {tuple(attention_mask.shape)} must have the shape of input_ids "
                f"{tuple(input_ids.shape)}"
            )
        limit = longest_text(self.config.text_config)
        if limit is not None and input_ids.shape[1] > limit:
            raise ValueError(
                f"{input_ids.shape[1]} tokens, but the text tower has {limit} positions: truncate the text"
            )


def _with_embeds(embeds: torch.Tensor, output: ModelOutput) -> BaseModelOutputWithPooling:
    """A tower's output with the embeddings [B, D] in place of what the tower pooled."""
    return BaseModelOutputWithPooling(
        last_hidden_state=output["last_hidden_state"],
        pooler_output=embeds,
        hidden_states=output.get("hidden_states"),
        attentions=output.get("attentions"),
    )


__all__ = ["CheXficientModel", "CheXficientOutput"]
