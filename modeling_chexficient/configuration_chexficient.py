"""Configuration of a CheXficient model: a vision tower, a text tower and the contrastive space they share.

Source of the method and of the published sizes: CheXficient, arXiv 2602.22843.
"""

import copy
import math

from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig

TEXT_POOLINGS = ("eos", "cls", "mean")
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
    """Configuration of `CheXficientModel`.

    Args:
        vision_config: configuration (object or dict with `model_type`) of any vision model `AutoModel` can build.
            Default: DINOv2 ViT-B/14 at 378 px, the published tower.
        text_config: the same for the text model. Default: BERT-base with the 28,996 words of Bio_ClinicalBERT.
        projection_dim: size of the shared space, 512 in the published model.
        logit_scale_init_value: initial *logarithm* of the factor on the cosine similarities, ln(1 / 0.01).
        text_pooling: which last hidden state stands for a text: "eos" the last attended token (published),
            "cls" the first attended token, "mean" the mean of the attended tokens.

    Raises:
        ValueError: unknown `text_pooling`, a tower without a known `model_type`, or `projection_dim` below 1.
    """

    model_type = "chexficient"
    sub_configs = {"vision_config": AutoConfig, "text_config": AutoConfig}  # noqa: RUF012 (read by transformers)
    # Without this, evaluation loops would gather every hidden state of both towers.
    keys_to_ignore_at_inference = ["vision_model_output", "text_model_output"]  # noqa: RUF012

    def __init__(
        self,
        vision_config: PretrainedConfig | dict | None = None,
        text_config: PretrainedConfig | dict | None = None,
        projection_dim: int = 512,
        logit_scale_init_value: float = DEFAULT_LOGIT_SCALE,
        text_pooling: str = "eos",
        **kwargs,
    ):
        if text_pooling not in TEXT_POOLINGS:
            raise ValueError(f"text_pooling must be one of {', '.join(TEXT_POOLINGS)}, not {text_pooling!r}")
        if projection_dim < 1:
            raise ValueError(f"projection_dim must be at least 1, not {projection_dim}")
        # The towers come first: the parent constructor passes attention settings on to them.
        self.vision_config = tower_config(vision_config, PUBLISHED_VISION, "vision_config")
        self.text_config = tower_config(text_config, PUBLISHED_TEXT, "text_config")
        self.projection_dim = projection_dim
        self.logit_scale_init_value = logit_scale_init_value
        self.text_pooling = text_pooling
        super().__init__(**kwargs)

    @classmethod
    def from_vision_text_configs(
        cls, vision_config: PretrainedConfig, text_config: PretrainedConfig, **kwargs
    ) -> "CheXficientConfig":
        """Build a configuration from those of two towers; `kwargs` are the other arguments of the constructor."""
        return cls(vision_config=vision_config, text_config=text_config, **kwargs)


__all__ = ["CheXficientConfig"]
