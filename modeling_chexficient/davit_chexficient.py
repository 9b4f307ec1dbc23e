"""DaViT, the image tower of MedImageInsight (arXiv 2410.06542), from the Florence-2 code of transformers.

transformers has it as the backbone of a larger model alone: `AutoModel` does not know its configuration, and it names
its input otherwise than all other towers. Importing this file mends both.
"""

from itertools import accumulate

import torch
from transformers import AutoModel
from transformers.models.florence2.configuration_florence2 import Florence2VisionConfig
from transformers.models.florence2.modeling_florence2 import Florence2VisionBackbone
from transformers.utils import ModelOutput


class DaViTModel(Florence2VisionBackbone):
    """The tower of a configuration with the model type `florence_vision`; takes images of any size.

    Its `last_hidden_state` is the map [B, channels, height, width] of the last stage, without a last norm, and its
    `hidden_states` are the maps of all stages.
    """

    def forward(self, pixel_values: torch.Tensor, **kwargs) -> ModelOutput:
        """Images [B, 3, height, width] as normalised floats."""
        output = super().forward(pixel_values, **kwargs)
        if isinstance(output, ModelOutput) and output.get("hidden_states") is not None:
            # After the embedding, the map of every block.
            output["hidden_states"] = tuple(output["hidden_states"][end] for end in accumulate(self.config.depths))
        return output


AutoModel.register(Florence2VisionConfig, DaViTModel, exist_ok=True)

__all__ = ["DaViTModel", "Florence2VisionConfig"]
