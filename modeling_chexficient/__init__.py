"""CheXficient, a chest X-ray vision-language model (arXiv 2602.22843), native to transformers.

Importing this package makes the Auto classes and pipelines load CheXficient folders without remote code, and lets the
pipelines scale films of more than 8 bits (`pipelines_chexficient.py`); folders that
`save_pretrained` writes carry these same files, so that `trust_remote_code=True` loads them without this package.
"""

import transformers
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageTextToText,
    AutoModelForZeroShotImageClassification,
    AutoProcessor,
)

from . import modeling_chexficient_heads
from .adapter_set_chexficient import AdapterSet
from .adapters_chexficient import add_tower_adapter, load_adapter, save_adapter
from .base_identity_chexficient import BaseIdentity, identify_base
from .configuration_chexficient import CheXficientConfig
from .configuration_chexficient_report import CheXficientReportConfig
from .decoders_chexficient import feature_pyramid
from .heat_maps_chexficient import heat_maps, overlay_heat_map
from .image_processing_chexficient import (
    CheXficientImageProcessor,
    normalise_pixels,
    resize_and_crop,
    to_eight_bit,
)
from .image_processing_chexficient_files import open_image
from .input_check_chexficient import check_film
from .modeling_chexficient import CheXficientModel, CheXficientOutput
from .modeling_chexficient_heads import *  # noqa: F403 (a new head is named in its own file alone)
from .modeling_chexficient_heads import HEADS
from .modeling_chexficient_losses import contrastive_loss, similarity_logits
from .modeling_chexficient_report import CheXficientForReportGeneration, CheXficientReportModel
from .pipelines_chexficient import use_these_pipelines
from .processing_chexficient import CheXficientProcessor
from .prompts_chexficient import report_prompt
from .towers_chexficient import CheXficientPreTrainedModel

AutoConfig.register(CheXficientConfig.model_type, CheXficientConfig, exist_ok=True)
AutoConfig.register(CheXficientReportConfig.model_type, CheXficientReportConfig, exist_ok=True)
# `AutoModel` gives what a folder holds: the class its configuration names, the whole model by default.
AutoModel.register(CheXficientConfig, (CheXficientModel, *HEADS.values()), exist_ok=True)
AutoModelForZeroShotImageClassification.register(CheXficientConfig, CheXficientModel, exist_ok=True)
for auto_model, head in HEADS.items():
    getattr(transformers, auto_model).register(CheXficientConfig, head, exist_ok=True)
AutoModel.register(CheXficientReportConfig, CheXficientReportModel, exist_ok=True)
AutoModelForImageTextToText.register(CheXficientReportConfig, CheXficientForReportGeneration, exist_ok=True)
for config_class in (CheXficientConfig, CheXficientReportConfig):
    AutoImageProcessor.register(config_class, image_processor_classes={"pil": CheXficientImageProcessor}, exist_ok=True)
AutoProcessor.register(CheXficientConfig, CheXficientProcessor, exist_ok=True)
use_these_pipelines()

CheXficientConfig.register_for_auto_class()
CheXficientReportConfig.register_for_auto_class()
CheXficientModel.register_for_auto_class("AutoModel")
for auto_model, head in HEADS.items():
    head.register_for_auto_class(auto_model)
CheXficientForReportGeneration.register_for_auto_class("AutoModelForImageTextToText")
CheXficientImageProcessor.register_for_auto_class()
CheXficientProcessor.register_for_auto_class()

__all__ = [
    "AdapterSet",
    "BaseIdentity",
    "CheXficientConfig",
    "CheXficientForReportGeneration",
    "CheXficientImageProcessor",
    "CheXficientModel",
    "CheXficientOutput",
    "CheXficientPreTrainedModel",
    "CheXficientProcessor",
    "CheXficientReportConfig",
    "add_tower_adapter",
    "check_film",
    "contrastive_loss",
    "feature_pyramid",
    "heat_maps",
    "identify_base",
    "load_adapter",
    "normalise_pixels",
    "open_image",
    "overlay_heat_map",
    "report_prompt",
    "resize_and_crop",
    "save_adapter",
    "similarity_logits",
    "to_eight_bit",
]
__all__ += modeling_chexficient_heads.__all__
