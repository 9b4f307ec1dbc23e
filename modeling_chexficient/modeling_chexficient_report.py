"""Report generation: a vision tower, a projector and a causal language model, composed as in LLaVA (arXiv 2310.03744).

Everything but the image tokens is transformers' own `LlavaForConditionalGeneration`. Its image tokens are hidden states
before the tower's last norm, with registers among them; here they are the patches alone, after that norm, of any tower.
"""

from typing import Any, cast

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlavaForConditionalGeneration,
    LlavaModel,
    LlavaProcessor,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector
from transformers.utils import ModelOutput, can_return_tuple

from .configuration_chexficient import tower_config
from .configuration_chexficient_report import CheXficientReportConfig
from .decoders_chexficient import patch_grid
from .image_processing_chexficient import CheXficientImageProcessor
from .prompts_chexficient import IMAGE_TOKEN, image_token_count, prepare_tokenizer, report_processor
from .texts_chexficient import longest_text
from .towers_chexficient import (
    NamesOnDisk,
    code_reference,
    image_channels,
    interpolation_arguments,
    resize_position_embeddings,
    without_pooling_layer,
)

#: The default of generation. Any of many normal findings may come next, but few abnormal ones, so the likeliest next
#: word leads past them: the same weights wrote synthetic reports of clinical F1 0.67 with one beam and 0.79 with four.
NUM_BEAMS = 4
#: Towers whose last norm is applied to the pooled output alone, and the norm's name.
_NORM_OF_POOLED = {"clip_vision_model": "post_layernorm", "convnext": "layernorm", "convnextv2": "layernorm"}


def patch_tokens(vision_tower: PreTrainedModel, pixel_values: torch.Tensor) -> torch.Tensor:
    """[B, patches, C]: the last hidden states of a tower, after its last norm, row by row, without CLS and registers.

    `pixel_values` [B, channels, H, W] are normalised floats. Of a convolutional tower the cells of the last map are the
    patches. Raises ValueError for other shapes and for integer pixels.
    """
    return _patches(vision_tower, _run_tower(vision_tower, pixel_values), pixel_values)


def _run_tower(vision_tower: PreTrainedModel, pixel_values: torch.Tensor, **options) -> ModelOutput:
    if pixel_values.ndim != 4 or not pixel_values.is_floating_point():
        raise ValueError(
            "pixel_values must be normalised floats [images, channels, height, width], not "
            f"{pixel_values.dtype} {tuple(pixel_values.shape)}"
        )
    options |= interpolation_arguments(vision_tower)
    return vision_tower(pixel_values=pixel_values.to(vision_tower.dtype), return_dict=True, **options)


def _patches(vision_tower: PreTrainedModel, output: ModelOutput, pixel_values: torch.Tensor) -> torch.Tensor:
    tokens = output["last_hidden_state"]
    if tokens.ndim == 4:
        tokens = tokens.flatten(2).transpose(1, 2)
    else:
        height, width = patch_grid(vision_tower, pixel_values)
        # CLS and registers, where a tower has them, stand before the patches.
        tokens = tokens[:, -height * width :]
    norm = _NORM_OF_POOLED.get(vision_tower.config.model_type)
    return tokens if norm is None else getattr(vision_tower, norm)(tokens)


class CheXficientReportModel(LlavaModel):
    """`LlavaModel` whose image tokens are `patch_tokens`, with attributes `vision_tower`, `multi_modal_projector` and
    `language_model`.

    Args:
        config: a `CheXficientReportConfig`.
        language_model: ready one that matches the configuration; built with fresh weights by default.
    """

    config_class = CheXficientReportConfig

    def __init__(self, config: CheXficientReportConfig, language_model: PreTrainedModel | None = None):
        # Past LlavaModel's own constructor, which would build everything a first time.
        super(LlavaModel, self).__init__(config)
        tower = config.vision_config
        self.vision_tower = AutoModel.from_config(tower, **without_pooling_layer(tower))
        embeddings: Any = getattr(self.vision_tower, "embeddings", None)
        if getattr(embeddings, "mask_token", None) is not None:
            # No patch is ever masked, and a parameter without a gradient breaks distributed training.
            embeddings.mask_token = None
        self.multi_modal_projector = LlavaMultiModalProjector(config)
        self.language_model = AutoModel.from_config(config.text_config) if language_model is None else language_model
        # One object per configuration, which the layers hold as well, so that later changes reach them.
        config.vision_config, config.text_config = self.vision_tower.config, self.language_model.config
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The word embeddings of the language model."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the word embeddings of the language model."""
        self.language_model.set_input_embeddings(value)

    @can_return_tuple
    def get_image_features(self, pixel_values: torch.Tensor, **kwargs) -> BaseModelOutputWithPooling:
        """Project the patches of images [B, channels, H, W]; other arguments of LLaVA may only have their one value.

        Returns:
            `last_hidden_state` [B, patches, C] of the tower, and `pooler_output`: for each image [patches, hidden size]
            of the language model, as `LlavaModel` expects it.

        Raises:
            ValueError: shapes or types that `patch_tokens` refuses, or the choice of another layer.
            TypeError: an option that does not exist.
        """
        fixed = {"vision_feature_layer": -1, "vision_feature_select_strategy": "full", "image_sizes": None}
        for name, value in fixed.items():
            if kwargs.get(name) not in (None, value):
                raise ValueError(f"{name} can only be {value!r}: the image tokens are all patches of the last layer")
        options = {name: value for name, value in kwargs.items() if name not in fixed and value is not None}
        if unknown := options.keys() - {"output_hidden_states", "output_attentions"}:
            raise TypeError(f"get_image_features has no option {', '.join(sorted(unknown))}")
        output = _run_tower(self.vision_tower, pixel_values, **options)
        tokens = _patches(self.vision_tower, output, pixel_values)
        return BaseModelOutputWithPooling(
            last_hidden_state=tokens,
            # A list, though the type of this output says a tensor.
            pooler_output=list(self.multi_modal_projector(tokens)),  # type: ignore[arg-type]
            hidden_states=getattr(output, "hidden_states", None),
            attentions=getattr(output, "attentions", None),
        )

    def forward(self, input_ids: torch.Tensor | None = None, **kwargs):
        """As `LlavaModel`. Raises ValueError for more tokens than the language model has positions."""
        limit = longest_text(cast(PretrainedConfig, self.config.text_config))
        if input_ids is not None and limit is not None and input_ids.shape[1] > limit:
            images = int((input_ids == self.config.image_token_id).sum(dim=1).max())
            raise ValueError(
                f"{input_ids.shape[1]} tokens of image, prompt and report ({images} of them of the image), but the "
                f"language model has {limit} positions: truncate the report, or use smaller images"
            )
        return super().forward(input_ids=input_ids, **kwargs)


class CheXficientForReportGeneration(NamesOnDisk, LlavaForConditionalGeneration):
    """Writes the report of a film: `generate(**processor(images=film, text=chat_prompt(processor)))`.

    Loss, merging of images and text, cache and search are those of `LlavaForConditionalGeneration`.

    Args:
        config: a `CheXficientReportConfig`.
        language_model: ready causal language model that matches the configuration, taken over with its output
            embeddings; built with fresh weights by default.
    """

    config_class = CheXficientReportConfig

    def __init__(self, config: CheXficientReportConfig, language_model: PreTrainedModel | None = None):
        super(LlavaForConditionalGeneration, self).__init__(config)
        # Which transformers would otherwise guess from the name of the class.
        self.loss_type = "ForCausalLM"
        self.model = CheXficientReportModel(config, None if language_model is None else _body(language_model))
        if language_model is None:
            self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        else:
            self.lm_head = language_model.get_output_embeddings()
        # LLaVA takes for granted that word embeddings are called as in Llama.
        words = self.model.get_input_embeddings()
        name = next(name for name, module in self.model.named_modules() if module is words)
        self._tied_weights_keys = {"lm_head.weight": f"model.{name}.weight"}
        self.post_init()

    def save_pretrained(self, save_directory, *args, **kwargs):
        """Save as every transformers model does; `AutoModel` of the folder gives the body, as of LLaVA's."""
        if self._auto_class is not None:
            auto_map = getattr(self.config, "auto_map", None) or {}
            self.config.auto_map = auto_map | {"AutoModel": code_reference(CheXficientReportModel)}
        return super().save_pretrained(save_directory, *args, **kwargs)

    def get_input_embeddings(self) -> nn.Module:
        """The word embeddings of the language model."""
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the word embeddings of the language model."""
        self.model.set_input_embeddings(value)

    @classmethod
    def from_vision_language(
        cls,
        vision: str,
        language_model: str | dict,
        tokenizer: str | PreTrainedTokenizerBase | None = None,
        *,
        image_size: int | None = None,
        revision: str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> tuple["CheXficientForReportGeneration", LlavaProcessor]:
        """Compose a model of a vision tower and a language model; the projector is new and needs training.

        Args:
            vision: folder or Hub name of a CheXficient model, or of any tower `AutoModel` loads.
            language_model: folder or Hub name of a causal language model, or the configuration (a dict with
                `model_type`) of a new one with fresh weights; vocabulary size and special tokens follow the tokenizer.
            tokenizer: object, folder or Hub name; default: the language model's. It gets the token of the image.
            image_size: side of the images in pixels; default: that of the vision model. The position embedding is
                interpolated to it.
            revision: commit, tag or branch of `vision` on the Hub.
            dtype: of all weights.

        Returns:
            The model in evaluation mode, and its processor.

        Raises:
            OSError: a folder or name does not exist, or the vision model lacks its image processor.
            ValueError: no tokenizer for a new language model, one without an end-of-text token, an image size that does
                not fit the tower, or a language model whose logits are more than its output embeddings.
        """
        if tokenizer is None and isinstance(language_model, dict):
            raise ValueError("a new language model has no tokenizer of its own: give one")
        if not isinstance(tokenizer, PreTrainedTokenizerBase):
            tokenizer = AutoTokenizer.from_pretrained(language_model if tokenizer is None else tokenizer)
        source = AutoConfig.from_pretrained(vision, revision=revision or "main")
        tower, image_processor = _load_tower(vision, source, revision or "main", image_size, dtype)
        prepare_tokenizer(tokenizer)
        language = _load_language_model(language_model, tokenizer, dtype)
        processor = report_processor(image_processor, tokenizer, _map_side(tower, image_processor))
        config = cls.config_class(
            vision_config=tower.config,
            text_config=_body(language).config,
            image_token_index=processor.image_token_id,
            image_seq_length=image_token_count(processor),
            tie_word_embeddings=language.config.tie_word_embeddings,
            dtype=dtype,
        )
        config.pretraining_sources = getattr(source, "pretraining_sources", None) or []
        # The type checker takes transformers' `to` for a function without `self`.
        model = cls(config, language).to(dtype).eval()  # type: ignore[arg-type]
        _copy_weights(tower, model.model.vision_tower)
        _check_language_model(model, language)
        model.generation_config = _generation_config(tokenizer)
        return model, processor


def _body(language_model: PreTrainedModel) -> PreTrainedModel:
    """The language model without its output embeddings."""
    return cast(PreTrainedModel, language_model.base_model)


def _load_tower(
    name: str, config: PretrainedConfig, revision: str, image_size: int | None, dtype: torch.dtype
) -> tuple[PreTrainedModel, CheXficientImageProcessor]:
    """A vision tower and a processor that prepares images as the tower's own does."""
    source = {"revision": revision, "dtype": dtype}
    if config.model_type == "chexficient":
        tower = AutoModel.from_pretrained(name, **source).vision_model
    else:
        tower = AutoModel.from_pretrained(name, config=getattr(config, "vision_config", config), **source)
    tower.config = tower_config(tower.config, {}, "vision_config")
    own = AutoImageProcessor.from_pretrained(name, revision=revision)
    size = image_size or _side(getattr(own, "crop_size", None)) or _side(own.size)
    if size is None:
        raise ValueError(f"{name} does not say of what size its images are: give image_size")
    if hasattr(getattr(tower, "embeddings", None), "position_embeddings"):
        # Towers with positions of another kind (CLIP, SigLIP) interpolate them at every image.
        resize_position_embeddings(tower, size)
    return tower, CheXficientImageProcessor(size, image_mean=own.image_mean, image_std=own.image_std)


def _side(size) -> int | None:
    """The side in pixels that an image processor's `size` or `crop_size` names; None where it is not a square."""
    values = {value for value in dict(size or {}).values() if isinstance(value, int)}
    return values.pop() if len(values) == 1 else None


def _load_language_model(source: str | dict, tokenizer: PreTrainedTokenizerBase, dtype: torch.dtype) -> PreTrainedModel:
    """A causal language model with an embedding for every token of the tokenizer."""
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    if isinstance(source, dict):
        config = tower_config({"vocab_size": len(tokenizer), **special, **source}, {}, "language_model")
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    else:
        model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype)
        for name, value in special.items():
            setattr(model.config, name, value)
    if model.get_input_embeddings().num_embeddings < len(tokenizer):
        # Every image token is replaced by a patch, so the value of its embedding does not matter.
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return model.eval()


@torch.no_grad()
def _map_side(tower: PreTrainedModel, image_processor: CheXficientImageProcessor) -> int:
    """Patches a side of the tower's map of one image."""
    size = image_processor.size["shortest_edge"]
    pixels = torch.zeros(1, image_channels(tower.config), size, size, dtype=tower.dtype)
    return round(patch_tokens(tower.eval(), pixels).shape[1] ** 0.5)


def _copy_weights(source: PreTrainedModel, target: PreTrainedModel) -> None:
    """Weights of a tower into one without its unused parts. Raises ValueError where one is missing."""
    missing = target.load_state_dict(source.state_dict(), strict=False).missing_keys
    if missing:
        raise ValueError(f"the vision tower lacks {len(missing)} weights, first {missing[0]}")


@torch.no_grad()
def _check_language_model(model: CheXficientForReportGeneration, language_model: PreTrainedModel) -> None:
    """Raise ValueError where the logits are not output embeddings times hidden states, the one way LLaVA knows."""
    tokens = torch.arange(min(8, language_model.config.vocab_size)).unsqueeze(0)
    ours, theirs = model(input_ids=tokens).logits, language_model(input_ids=tokens).logits
    if not torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4):
        raise ValueError(
            f"a language model of the kind {language_model.config.model_type} scales, clips or shifts its logits, "
            "which LLaVA does not: choose another, such as Llama or Qwen2"
        )


def _generation_config(tokenizer: PreTrainedTokenizerBase) -> GenerationConfig:
    """Beam search that ends where the tokenizer's texts end and never writes the token of the image."""
    return GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        suppress_tokens=[tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)],
        num_beams=NUM_BEAMS,
    )


__all__ = ["CheXficientForReportGeneration", "CheXficientReportModel"]
