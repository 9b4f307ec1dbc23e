"""How the films of an image tower are resized and normalised: read from its folder, and written beside it."""

from __future__ import annotations

import json
from pathlib import Path

from transformers import AutoImageProcessor, PretrainedConfig

from modeling_chexficient.image_processing_chexficient import CLIP_MEAN, CLIP_STD


def preprocessing(name: str, config: PretrainedConfig) -> tuple[list[float], list[float], int]:
    """Mean, standard deviation and side of the films that a tower was trained on; CLIP's where nothing says it."""
    own_size = getattr(config, "image_size", 224)
    try:
        processor = AutoImageProcessor.from_pretrained(name, backend="pil")
    except (OSError, ValueError):
        return list(CLIP_MEAN), list(CLIP_STD), own_size
    size = dict(getattr(processor, "crop_size", None) or processor.size)
    side = int(size.get("height") or size.get("shortest_edge") or own_size)
    return list(processor.image_mean), list(processor.image_std), side


def save_preprocessing(folder: Path, image_size: int, mean: list[float], std: list[float]) -> None:
    """Write what transformers alone needs to make pixels for a tower, as RAD-DINO's folder has it."""
    side = {"height": image_size, "width": image_size}
    values = {
        "image_processor_type": "BitImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": image_size},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": side,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": mean,
        "image_std": std,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(values, indent=2) + "\n")
