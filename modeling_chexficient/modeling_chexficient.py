"""CheXficient: a chest X-ray image tower and a report text tower trained into one contrastive space.

Source: CheXficient, arXiv 2602.22843. The published model has a DINOv2 ViT-B/14 and a Bio_ClinicalBERT; any pair of
towers that `AutoModel` builds works here.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from transformers import MODEL_MAPPING, AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput, can_return_tuple

from .configuration_chexficient import CheXficientConfig

TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")


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


def similarity_logits(image_embeds: torch.Tensor, text_embeds: torch.Tensor, logit_scale: torch.Tensor) -> torch.Tensor:
    """exp(logit_scale) x image . text^T, [images, texts], in fp32.

    `image_embeds` [images, D] and `text_embeds` [texts, D] have unit length; `logit_scale` is the logarithm.
    """
    # Autocast would round cosines to 8 bits before the scale (100) makes the error one of tenths of a logit.
    with torch.autocast(image_embeds.device.type, enabled=False):
        return logit_scale.float().exp() * image_embeds.float() @ text_embeds.float().t()


def contrastive_loss(logits_per_image: torch.Tensor) -> torch.Tensor:
    """Symmetric InfoNCE: the mean of image-to-text and text-to-image cross entropy, pairs on the diagonal.

    Raises ValueError where `logits_per_image` is not square [pairs, pairs].
    """
    if logits_per_image.ndim != 2 or logits_per_image.shape[0] != logits_per_image.shape[1]:
        raise ValueError(
            "The contrastive loss needs one text per image, but logits_per_image has shape "
            f"{tuple(logits_per_image.shape)} [images, texts]"
        )
    pairs = torch.arange(len(logits_per_image), device=logits_per_image.device)
    return (F.cross_entropy(logits_per_image, pairs) + F.cross_entropy(logits_per_image.t(), pairs)) / 2


def pool_text(hidden: torch.Tensor, attention_mask: torch.Tensor | None, pooling: str) -> torch.Tensor:
    """Reduce token states [B, L, H] to [B, H]; `pooling` as in `CheXficientConfig.text_pooling`.

    `attention_mask` [B, L] may pad on either side; None means that every token is attended to.
    """
    if attention_mask is None:
        attention_mask = hidden.new_ones(hidden.shape[:2])
    attended = attention_mask.to(torch.bool)
    if pooling == "mean":
        weights = attended.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
    positions = torch.arange(hidden.shape[1], device=hidden.device).expand(hidden.shape[:2])
    if pooling == "eos":
        index = positions.masked_fill(~attended, -1).argmax(1)
    else:
        index = positions.masked_fill(~attended, hidden.shape[1]).argmin(1)
    return hidden[torch.arange(len(hidden), device=hidden.device), index]


def pool_image(output: ModelOutput) -> torch.Tensor:
    """[B, H] image feature of a tower: its pooled output (for DINOv2 the layer-normed CLS), else the first token."""
    pooled = getattr(output, "pooler_output", None)
    if pooled is None:
        pooled = output.last_hidden_state[:, 0]
    return pooled.flatten(1)


def feature_size(config: PretrainedConfig) -> int:
    """Width of a tower's feature: `hidden_size`, or the last of `hidden_sizes` (convolutional towers)."""
    size = getattr(config, "hidden_size", None)
    return size if size is not None else config.hidden_sizes[-1]


def without_pooling_layer(config: PretrainedConfig) -> dict[str, bool]:
    """Arguments that build the tower of `config` without its pooling layer, for where it would never be used."""
    model_class = MODEL_MAPPING.get(type(config), None)
    if not inspect.isclass(model_class) or "add_pooling_layer" not in inspect.signature(model_class).parameters:
        return {}
    return {"add_pooling_layer": False}


def code_reference(model_class: type) -> str:
    """`file.Class`, as a configuration's `auto_map` names the code beside the weights."""
    return f"{model_class.__module__.split('.')[-1]}.{model_class.__name__}"


def interpolation_arguments(vision_model: nn.Module) -> dict[str, bool]:
    """Arguments that let a tower take images of any size: DINOv2 does by itself, most others when told to."""
    names = inspect.signature(vision_model.forward).parameters
    return {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in names else {}


def load_vision_model(
    name_or_path: str, config: PretrainedConfig, image_size: int | None = None, **loading
) -> PreTrainedModel:
    """Load a pretrained image tower into `config`, its position embedding interpolated to `image_size` if given."""
    vision_model = AutoModel.from_pretrained(name_or_path, config=config, **loading)
    if image_size is not None:
        resize_position_embeddings(vision_model, image_size)
    return vision_model


@torch.no_grad()
def resize_position_embeddings(vision_model: PreTrainedModel, image_size: int) -> None:
    """Interpolate the position embedding of a ViT to images of `image_size` px, by the tower's own method, in place.

    Towers without one (convolutional ones) take any size and are left alone. Raises ValueError where the size is no
    multiple of the patch size.
    """
    embeddings = getattr(vision_model, "embeddings", None)
    if not hasattr(embeddings, "interpolate_pos_encoding"):
        return
    patch_size = vision_model.config.patch_size
    if image_size % patch_size:
        raise ValueError(f"image_size {image_size} is no multiple of the patch size {patch_size}")
    if image_size == vision_model.config.image_size:
        return
    # CLIP and SigLIP hold a table in place of a parameter; SigLIP has no CLS token.
    table = getattr(embeddings, "position_embedding", None)
    old = embeddings.position_embeddings if table is None else table.weight.unsqueeze(0)
    first = old.shape[1] - (vision_model.config.image_size // patch_size) ** 2
    tokens = old.new_zeros(1, first + (image_size // patch_size) ** 2, old.shape[-1])
    new = embeddings.interpolate_pos_encoding(tokens, image_size, image_size)
    if table is None:
        embeddings.position_embeddings = nn.Parameter(new)
    else:
        embeddings.position_embedding = nn.Embedding.from_pretrained(new[0], freeze=False)
        embeddings.position_ids = torch.arange(new.shape[1], device=new.device).unsqueeze(0)
        embeddings.num_positions, embeddings.image_size = new.shape[1], image_size
    vision_model.config.image_size = image_size


class CheXficientPreTrainedModel(PreTrainedModel):
    """Loading, saving and initialisation shared by CheXficient models and heads."""

    config_class = CheXficientConfig
    base_model_prefix = "chexficient"
    main_input_name = "pixel_values"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    # exp() of a half-precision temperature is off by up to 2 %.
    _keep_in_fp32_modules_strict = ["logit_scale"]  # noqa: RUF012 (read by transformers)
    # The loss is a mean over the batch: Trainer must not rescale it by the number of accumulated batches.
    accepts_loss_kwargs = False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise what is not part of a tower; towers initialise themselves."""
        projections = (getattr(self, "visual_projection", None), getattr(self, "text_projection", None))
        if any(module is projection for projection in projections):
            # Unit variance in, unit variance out, as CLIP initialises its projections.
            init.normal_(module.weight, std=module.in_features**-0.5)
            init.zeros_(module.bias)
            return
        super()._init_weights(module)
        if isinstance(getattr(module, "logit_scale", None), nn.Parameter):
            init.constant_(module.logit_scale, self.config.logit_scale_init_value)

    def _check_pixels(self, pixel_values: torch.Tensor) -> None:
        channels = getattr(self.config.vision_config, "num_channels", 3)
        if pixel_values.ndim != 4 or pixel_values.shape[1] != channels:
            raise ValueError(
                f"pixel_values must be [images, {channels}, height, width], not {tuple(pixel_values.shape)}"
            )
        if not pixel_values.is_floating_point():
            raise ValueError(f"pixel_values must be normalised floats, not {pixel_values.dtype}: see normalise_pixels")


class CheXficientModel(CheXficientPreTrainedModel):
    """The dual encoder: `vision_model`, `text_model`, one linear projection each, and a learnt temperature.

    Args:
        config: a `CheXficientConfig`.
        vision_model, text_model: ready towers that match the configuration; built with fresh weights by default.
    """

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

    def get_image_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Embed images: projected and L2-normalised, [B, projection_dim] fp32.

        `pixel_values` [B, channels, H, W] are normalised floats; other sizes than the configured one interpolate the
        position embedding, and what exceeds a multiple of the patch size is cropped by the tower. Raises ValueError
        for other shapes and for integer pixels.
        """
        return self._embed_images(pixel_values)[0]

    def get_text_features(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Embed texts: projected and L2-normalised, [B, projection_dim] fp32.

        `input_ids`, `attention_mask` and `token_type_ids` are [B, tokens], padded on either side. Raises ValueError
        for other shapes and for more tokens than the tower has positions.
        """
        return self._embed_texts(input_ids, attention_mask, token_type_ids, position_ids)[0]

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

        flags = {"output_attentions": output_attentions, "output_hidden_states": output_hidden_states}
        flags = {name: value for name, value in flags.items() if value is not None}
        image_embeds = vision_output = text_embeds = text_output = logits = None
        if pixel_values is not None:
            image_embeds, vision_output = self._embed_images(pixel_values, **flags)
        if input_ids is not None:
            text_embeds, text_output = self._embed_texts(
                input_ids, attention_mask, token_type_ids, position_ids, **flags
            )
        if image_embeds is not None and text_embeds is not None:
            logits = similarity_logits(image_embeds, text_embeds, self.logit_scale)
        elif return_loss:
            raise ValueError("return_loss=True needs both pixel_values and input_ids (or text_tokens)")
        return CheXficientOutput(
            loss=contrastive_loss(logits) if return_loss else None,
            logits_per_image=logits,
            logits_per_text=None if logits is None else logits.t(),
            image_embeds=image_embeds,
            text_embeds=text_embeds,
            vision_model_output=vision_output,
            text_model_output=text_output,
        )

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
            # Imported here, since the heads import this file; transformers copies what it finds imported.
            from .modeling_chexficient_heads import HEADS

            entries = {"AutoModelForZeroShotImageClassification": type(self), **HEADS}
            auto_map = getattr(self.config, "auto_map", None) or {}
            self.config.auto_map = auto_map | {name: code_reference(one) for name, one in entries.items()}
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
        optional = {"token_type_ids": token_type_ids, "position_ids": position_ids}
        optional = {name: value for name, value in optional.items() if value is not None}
        output = self.text_model(input_ids=input_ids, attention_mask=attention_mask, **optional, **flags)
        pooled = pool_text(output.last_hidden_state, attention_mask, self.config.text_pooling)
        return F.normalize(self.text_projection(pooled).float(), dim=-1), output

    def _check_tokens(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> None:
        if input_ids.ndim != 2 or 0 in input_ids.shape:
            raise ValueError(f"input_ids must be [texts, tokens] and not empty, not {tuple(input_ids.shape)}")
        if attention_mask is not None and attention_mask.shape != input_ids.shape:
            raise ValueError(
                f"attention_mask {tuple(attention_mask.shape)} must have the shape of input_ids "
                f"{tuple(input_ids.shape)}"
            )
        limit = getattr(self.config.text_config, "max_position_embeddings", None)
        if limit is not None and input_ids.shape[1] > limit:
            raise ValueError(
                f"{input_ids.shape[1]} tokens, but the text tower has {limit} positions: truncate the text"
            )


__all__ = ["CheXficientModel", "CheXficientOutput", "CheXficientPreTrainedModel"]
