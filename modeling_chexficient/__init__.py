"""CheXficient, a chest X-ray vision-language model (arXiv 2602.22843), native to transformers.

Importing this package makes the Auto classes and pipelines load CheXficient folders without remote code; folders that
`save_pretrained` writes carry these same files, so that `trust_remote_code=True` loads them without this package.
"""

from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForZeroShotImageClassification,
    AutoProcessor,
)

from .configuration_chexficient import CheXficientConfig
from .image_processing_chexficient import (
    CheXficientImageProcessor,
    normalise_pixels,
    resize_and_crop,
    to_eight_bit,
)
from .modeling_chexficient import (
    CheXficientModel,
    CheXficientOutput,
    CheXficientPreTrainedModel,
    contrastive_loss,
    similarity_logits,
)
from .processing_chexficient import CheXficientProcessor

AutoConfig.register(CheXficientConfig.model_type, CheXficientConfig, exist_ok=True)
AutoModel.register(CheXficientConfig, CheXficientModel, exist_ok=True)
AutoModelForZeroShotImageClassification.register(CheXficientConfig, CheXficientModel, exist_ok=True)
AutoImageProcessor.register(
    CheXficientConfig, image_processor_classes={"pil": CheXficientImageProcessor}, exist_ok=True
)
AutoProcessor.register(CheXficientConfig, CheXficientProcessor, exist_ok=True)

CheXficientConfig.register_for_auto_class()
CheXficientModel.register_for_auto_class("AutoModel")
CheXficientImageProcessor.register_for_auto_class()
CheXficientProcessor.register_for_auto_class()

__all__ = [
    "CheXficientConfig",
    "CheXficientImageProcessor",
    "CheXficientModel",
    "CheXficientOutput",
    "CheXficientPreTrainedModel",
    "CheXficientProcessor",
    "contrastive_loss",
    "normalise_pixels",
    "resize_and_crop",
    "similarity_logits",
    "to_eight_bit",
]
