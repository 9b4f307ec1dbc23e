"""Configuration of a CheXficient model that writes reports: a vision tower, a projector and a causal language model."""

import copy
from typing import TYPE_CHECKING

from transformers import LlavaConfig, PretrainedConfig


class CheXficientReportConfig(LlavaConfig):
    """Configuration of `CheXficientForReportGeneration`.

    Args:
        vision_config: configuration (object or dict with `model_type`) of any vision model `AutoModel` can build.
        text_config: the same for any causal language model. Default: Llama.
        image_token_index: id of the token that stands for a patch in the prompt.
        projector_hidden_act, multimodal_projector_bias: of the two-layer projector of LLaVA 1.5 (arXiv 2310.03744).

    The other fields of `LlavaConfig` keep one value each, since the image tokens are always all patches of the last
    layer: `vision_feature_layer` -1 and `vision_feature_select_strategy` "full".

    Raises:
        ValueError: another value of these two.
    """

    model_type = "chexficient_report"

    # Any string, so that it is `__post_init__` that refuses the others, with its reason.
    vision_feature_select_strategy: str = "full"  # type: ignore[assignment]
    vision_feature_layer: int = -1
    if TYPE_CHECKING:
        # What the parent's `__post_init__` makes of dicts and None.
        vision_config: PretrainedConfig
        text_config: PretrainedConfig

    def __post_init__(self, **kwargs):
        # Copies, since the attention of configurations within this one follows this one's.
        self.vision_config, self.text_config = copy.deepcopy((self.vision_config, self.text_config))
        super().__post_init__(**kwargs)
        if (self.vision_feature_layer, self.vision_feature_select_strategy) != (-1, "full"):
            raise ValueError(
                "the image tokens are all patches of the last layer: vision_feature_layer is -1 and "
                f"vision_feature_select_strategy 'full', not {self.vision_feature_layer!r} and "
                f"{self.vision_feature_select_strategy!r}"
            )
        if getattr(self.vision_config, "hidden_size", None) is None:
            # A convolutional tower names the widths of all its stages; the projector asks for one.
            self.vision_config.hidden_size = self.vision_config.hidden_sizes[-1]
        if hasattr(self.vision_config, "vision_use_head"):
            # SigLIP's pooling would be computed for nothing, and have no gradient.
            self.vision_config.vision_use_head = False


__all__ = ["CheXficientReportConfig"]
