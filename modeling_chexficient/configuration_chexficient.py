"""Configuration of CheXficient models: a vision tower, a text tower and the space they share, or a head.

Source of the method and of the published sizes: CheXficient, arXiv 2602.22843.
"""

import copy
import math
from typing import TYPE_CHECKING, Any

from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig

TEXT_POOLINGS = ("eos", "cls", "mean")
IMAGE_POOLINGS = ("pooled", "normalized", "patches")
DECODERS = ("linear", "unet", "image_unet", "published_unet")
DEFAULT_LOGIT_SCALE = math.log(1 / 0.01)

# DINOv2 ViT-B/14 at 378 px (27 x 27 patches) and Bio_ClinicalBERT: the sizes of the published model.
PUBLISHED_VISION = {"model_type": "dinov2", "image_size": 378, "patch_size": 14}
PUBLISHED_TEXT = {"model_type": "bert", "vocab_size": 28996}


def tower_config(config: PretrainedConfig | dict | None, default: dict, name: str) -> PretrainedConfig:
    """Build the configuration of one tower from a configuration object, a dict with `model_type`, or a default.

    The caller's object is copied, never changed. Raises ValueError where a dict names no `model_type`, or one that
    the installed transformers does not know.
    """
    if isinstance(config, PretrainedConfig):
        config = copy.deepcopy(config)
    else:
        fields = dict(default if config is None else config)
        model_type = fields.pop("model_type", None)
        if model_type not in CONFIG_MAPPING:
            raise ValueError(f"{name} needs a `model_type` that transformers knows, not {model_type!r}")
        config = CONFIG_MAPPING[model_type](**fields)
    if hasattr(config, "use_mask_token"):
        # No patch is ever masked here, and a mask token that never gets a gradient breaks distributed training.
        config.use_mask_token = False
    return config


class CheXficientConfig(PretrainedConfig):
    """Configuration of `CheXficientModel` and of the heads, which put an image tower alone to a task.

    Args:
        vision_config: configuration (object or dict with `model_type`) of any vision model `AutoModel` can build.
            Default: DINOv2 ViT-B/14 at 378 px, the published tower.
        text_config: the same for the text model. Default: BERT-base with the 28,996 words of Bio_ClinicalBERT.
        projection_dim: size of the shared space, 512 in the published model.
        logit_scale_init_value: initial *logarithm* of the factor on the cosine similarities, ln(1 / 0.01).
        text_pooling: which last hidden state stands for a text: "eos" the last attended token (published),
            "cls" the first attended token, "mean" the mean of the attended tokens.
        image_pooling: what the classifier sees of an image: "pooled" the tower's pooled output (of DINOv2 the
            layer-normed CLS token), "normalized" the same at unit length, as the published linear probe, "patches" the
            mean of the last states of the patches, as masked autoencoders are adapted (arXiv 2401.12215).
        mask_decoder: of the segmentation head: "linear", "unet", "image_unet", which sees the image's pixels beside the
            tower's maps and is for lines and tubes, or "published_unet", the one of the released weights.
            Folders and calls of earlier versions name this field `decoder`, which is read as well.
        clip_logits: end "published_unet" with the activation of the released code, which keeps every logit above
            -0.17; only to reproduce its numbers.
        semantic_loss_ignore_index: value of mask pixels that nobody judged; 255.
        kwargs: arguments of every configuration, among them `num_labels` or `id2label` and `problem_type` of a head.

    Raises:
        ValueError: an unknown `text_pooling`, `image_pooling` or `mask_decoder`, `clip_logits` with another
            decoder, a tower without a known `model_type`, or `projection_dim` below 1.
    """

    model_type = "chexficient"
    sub_configs = {"vision_config": AutoConfig, "text_config": AutoConfig}  # noqa: RUF012 (read by transformers)
    # Without this, evaluation loops would gather every hidden state of both towers.
    keys_to_ignore_at_inference = [  # noqa: RUF012
        *("vision_model_output", "text_model_output", "hidden_states", "attentions", "background_logits")
    ]

    if TYPE_CHECKING:
        # After the parent's constructor there are always labels.
        id2label: dict[int, str]

        @property
        def num_labels(self) -> int: ...
        @num_labels.setter
        def num_labels(self, num_labels: int) -> None: ...

    def __init__(
        self,
        vision_config: PretrainedConfig | dict | None = None,
        text_config: PretrainedConfig | dict | None = None,
        projection_dim: int = 512,
        logit_scale_init_value: float = DEFAULT_LOGIT_SCALE,
        text_pooling: str = "eos",
        image_pooling: str = "pooled",
        mask_decoder: str = "unet",
        clip_logits: bool = False,
        semantic_loss_ignore_index: int = 255,
        **kwargs,
    ):
        # The towers come first: the parent constructor passes attention settings on to them.
        self.vision_config = tower_config(vision_config, PUBLISHED_VISION, "vision_config")
        self.text_config = tower_config(text_config, PUBLISHED_TEXT, "text_config")
        self.projection_dim = projection_dim
        self.logit_scale_init_value = logit_scale_init_value
        self.text_pooling = text_pooling
        self.image_pooling = image_pooling
        self.mask_decoder = kwargs.pop("decoder", mask_decoder)
        self.clip_logits = clip_logits
        self.semantic_loss_ignore_index = semantic_loss_ignore_index
        # A list, since `AutoModel` looks through it for the class that a folder holds.
        kwargs["architectures"] = kwargs.get("architectures") or []
        self.check_choices()
        super().__init__(**kwargs)

    def check_choices(self) -> None:
        """Raise ValueError, with what there is, where a field holds what this code does not know.

        Models ask again: `from_pretrained(..., mask_decoder=...)` and records of adapters set fields after the
        constructor, and an older copy of this file, beside the weights of a base, may meet what came later.
        """
        choices = {"text_pooling": TEXT_POOLINGS, "image_pooling": IMAGE_POOLINGS, "mask_decoder": DECODERS}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}: {__file__} knows no other"
                )
        if self.clip_logits and self.mask_decoder != "published_unet":
            raise ValueError(
                f"clip_logits belongs to mask_decoder published_unet: {self.mask_decoder} has no logits to clip"
            )
        if self.projection_dim < 1:
            raise ValueError(f"projection_dim must be at least 1, not {self.projection_dim}")

    @classmethod
    def from_dict(cls, config_dict: dict, **kwargs):
        """As of every configuration; `decoder`, the old name of `mask_decoder`, is read in both arguments.

        `decoder` was a poor name: in transformers it means the configuration of a decoder, and `Trainer` stopped at a
        word in its place when it resumed.
        """
        return super().from_dict(_with_new_names(config_dict), **_with_new_names(kwargs))

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **kwargs):  # type: ignore[override]
        """As of every configuration. Raises ValueError where a pipeline would take a head's logits for features."""
        found = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        config: Any = found[0] if isinstance(found, tuple) else found
        heads = [name for name in config.architectures or [] if "For" in name]
        if kwargs.get("_from_pipeline") == "image-feature-extraction" and heads:
            raise ValueError(
                f"{pretrained_model_name_or_path}: image-feature-extraction would give the logits of {heads[0]} as "
                "features: pass a folder of the whole model, or take model.vision_model(pixel_values).last_hidden_state"
            )
        return found

    @classmethod
    def from_vision_text_configs(
        cls, vision_config: PretrainedConfig, text_config: PretrainedConfig, **kwargs
    ) -> "CheXficientConfig":
        """Build a configuration from those of two towers; `kwargs` are the other arguments of the constructor."""
        return cls(vision_config=vision_config, text_config=text_config, **kwargs)


def _with_new_names(fields: dict) -> dict:
    return {"mask_decoder" if name == "decoder" else name: value for name, value in fields.items()}


__all__ = ["CheXficientConfig"]
