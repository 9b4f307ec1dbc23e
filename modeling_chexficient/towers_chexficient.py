"""What the dual encoder, the heads and the decoders share: how a tower is built, loaded, resized and pooled.

It imports none of them.
"""

import inspect
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn
from transformers import MODEL_MAPPING, AutoModel, PretrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.core_model_loading import revert_weight_conversion
from transformers.utils import ModelOutput

from .configuration_chexficient import CheXficientConfig
from .davit_chexficient import Florence2VisionConfig
from .peft_folders_chexficient import PeftFolders

_NO_WIDTH = "its configuration does not tell the width of its features"
#: By `model_type`, towers of transformers that no model here can be built on, and why.
UNUSABLE = {
    "cvt": _NO_WIDTH,
    "hgnet_v2": "in transformers it has stages alone, and no last output",
    "luke": "it reads entities beside the text",
    "mobilenet_v1": _NO_WIDTH,
    "mobilenet_v2": _NO_WIDTH,
    "mobilevit": _NO_WIDTH,
    "mobilevitv2": _NO_WIDTH,
    "pixtral": "it joins all images of a batch into one",
    "sam_vision_model": _NO_WIDTH,
    "siglip2_vision_model": "it takes patches with their places, not images",
    "swiftformer": _NO_WIDTH,
    "swin2sr": _NO_WIDTH,
    "visual_bert": "it reads images beside the text",
    "vit_mae": "it hides most patches at random: load its weights into a ViTConfig, by the argument vision_config",
    "vjepa2": "it takes films of many frames",
}
#: Those that have maps, but no feature of the whole image.
_WITHOUT_FEATURE = {
    **UNUSABLE,
    "ijepa": "it has neither a pooled output nor a CLS token",
    "textnet": "its pooled output is of four parts of the image",
}


# Parameters and modules of towers: no patch and no word is ever masked here, and no token asks Longformer for its
# global attention.
_NEVER_USED = {"mask_token", "mask_emb", "query_global", "key_global", "value_global"}


def refuse_tower(config: PretrainedConfig, reason: str | None) -> None:
    """Raise ValueError, with the reason, where there is one against a tower."""
    if reason is not None:
        raise ValueError(
            f"{type(config).__name__} cannot be the tower of this model: {reason}. Choose another, such as DINOv2, "
            "ViT, CLIP, Swin, ConvNeXt or ResNet"
        )


def pool_image(output: ModelOutput) -> torch.Tensor:
    """[B, H] image feature of a tower: its pooled output (for DINOv2 the layer-normed CLS), else the first token.

    Of a tower without a pooled output that ends in a map (SegFormer, PVTv2, PoolFormer), the mean of the map.
    """
    pooled = getattr(output, "pooler_output", None)
    if pooled is None:
        last = output["last_hidden_state"]
        pooled = last.mean((2, 3)) if last.ndim == 4 else last[:, 0]
    return pooled.flatten(1)


def feature_size(config: PretrainedConfig) -> int:
    """Width of a tower's feature: `hidden_size`, or the last of `hidden_sizes` (convolutional towers).

    Raises ValueError, which names the tower, where its configuration does not tell or no feature can be taken.
    """
    refuse_tower(config, _WITHOUT_FEATURE.get(config.model_type))
    if getattr(config, "is_encoder_decoder", False):
        refuse_tower(config, "it has an encoder and a decoder")
    if getattr(config, "hidden_size", None) is not None:
        return config.hidden_size
    if config.model_type == "efficientnet":
        return config.hidden_dim
    widths = stage_widths(config)
    if not widths:
        refuse_tower(config, _NO_WIDTH)
    return widths[-1]


def image_channels(config: PretrainedConfig) -> int:
    """Channels of the images that a tower of this configuration takes."""
    return getattr(config, "num_channels", 3)


def stage_widths(config: PretrainedConfig) -> list[int]:
    """Channels of the maps of a tower with stages, the deepest last; none where all blocks are of one width."""
    if isinstance(config, Florence2VisionConfig):
        return list(config.embed_dim)
    # FocalNet names `hidden_sizes` as well, which it makes no use of.
    if hasattr(config, "embed_dim") and hasattr(config, "depths"):
        # Swin doubles its width at the end of every stage but the last.
        last = len(config.depths) - 1
        return [config.embed_dim << min(stage + 1, last) for stage in range(last + 1)]
    return list(getattr(config, "hidden_sizes", None) or [])


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


def freeze_unused(tower: nn.Module, *unused: str) -> None:
    """Freeze what never gets a gradient, which distributed training refuses: `_NEVER_USED` and the modules `unused`.

    The tensors stay in the model, since pretrained weights hold them.
    """
    for name, parameter in tower.named_parameters():
        if not _NEVER_USED.isdisjoint(name.split(".")) or name.partition(".")[0] in unused:
            parameter.requires_grad_(False)


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
    embeddings: Any = getattr(vision_model, "embeddings", None)
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


class NamesOnDisk(nn.Module):
    """Takes tensors by the names they have in saved folders as well as by the model's own; before `PreTrainedModel`.

    `save_pretrained` writes some tensors under other names than the model has (the attention of DINOv2 and ViT), which
    `from_pretrained` knows. `transformers.Trainer` does not when it resumes or loads the best model: it calls
    `load_state_dict(tensors, False)`, which passes over what it does not know.
    """

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False):
        """As torch's. Raises ValueError for tensors that are stored in another form, not only under another name."""
        own = self.state_dict()
        if not state_dict.keys() <= own.keys():
            state_dict = _by_own_names(cast(PreTrainedModel, self), own, state_dict)
        return super().load_state_dict(state_dict, strict, assign)


def _by_own_names(model: PreTrainedModel, own: dict[str, Any], tensors: Mapping[str, Any]) -> dict[str, Any]:
    names = {id(tensor): name for name, tensor in own.items()}
    stored = revert_weight_conversion(model, dict(own))
    # What is only renamed is the same object after the conversion.
    own_names = {name: names.get(id(tensor)) for name, tensor in stored.items()}
    changed = sorted(name for name in tensors if name not in own and name in own_names and own_names[name] is None)
    if changed:
        raise ValueError(
            f"a saved folder holds {len(changed)} tensors of {type(model).__name__} in another form than the model, "
            f"first {changed[0]}: load the folder with {type(model).__name__}.from_pretrained"
        )
    return {name if name in own else own_names.get(name) or name: tensor for name, tensor in tensors.items()}


class CheXficientPreTrainedModel(NamesOnDisk, PeftFolders, PreTrainedModel):
    """Loading, saving and initialisation shared by CheXficient models and heads."""

    config: CheXficientConfig
    vision_model: PreTrainedModel
    config_class = CheXficientConfig
    base_model_prefix = "chexficient"
    main_input_name = "pixel_values"
    input_modalities = ["image", "text"]  # noqa: RUF012 (read by transformers)
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    # The loss is a mean over the batch: Trainer must not rescale it by the number of accumulated batches.
    accepts_loss_kwargs = False

    def __init__(self, config: CheXficientConfig, *args, **kwargs):
        config.check_choices()
        super().__init__(config, *args, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise what is not part of a tower; towers initialise themselves."""
        projections = (getattr(self, "visual_projection", None), getattr(self, "text_projection", None))
        if isinstance(module, nn.Linear) and any(module is projection for projection in projections):
            # Unit variance in, unit variance out, as CLIP initialises its projections.
            init.normal_(module.weight, std=module.in_features**-0.5)
            init.zeros_(module.bias)
            return
        super()._init_weights(module)
        scale = getattr(module, "logit_scale", None)
        if isinstance(scale, nn.Parameter):
            init.constant_(scale, self.config.logit_scale_init_value)

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        """As of every transformers model; what is never used stays frozen, which loading would undo."""
        loaded = super().from_pretrained(*args, **kwargs)
        (loaded[0] if isinstance(loaded, tuple) else loaded)._freeze_unused()
        return loaded

    def gradient_checkpointing_enable(self, *args, **kwargs) -> None:
        """As of every transformers model. Raises ValueError where no tower has layers that can be recomputed."""
        if not any(hasattr(module, "gradient_checkpointing") for module in self.modules()):
            raise ValueError(
                f"gradient checkpointing is not there for {type(self.vision_model).__name__}: in transformers this "
                "tower has no layers that can be computed again. Train without it, with smaller batches"
            )
        super().gradient_checkpointing_enable(*args, **kwargs)

    def _output_flags(self, attentions: bool | None, hidden_states: bool | None) -> dict[str, bool]:
        """What a tower is asked for besides its features: by the call, else by this configuration, else by its own."""
        given = {"output_attentions": attentions, "output_hidden_states": hidden_states}
        flags = {name: getattr(self.config, name) or None if value is None else value for name, value in given.items()}
        return {name: value for name, value in flags.items() if value is not None}

    def _freeze_unused(self) -> None:
        freeze_unused(self.vision_model, *self._unused_norms())
        text_model = getattr(self, "text_model", None)
        if text_model is not None:
            # Tokens are pooled here; some towers cannot be built without their own pooling.
            freeze_unused(text_model, "pooler")

    def _unused_norms(self) -> tuple[str, ...]:
        """Modules of the image tower that the model makes no use of."""
        return ()

    def _check_pixels(self, pixel_values: torch.Tensor) -> None:
        channels = image_channels(self.config.vision_config)
        if pixel_values.ndim != 4 or pixel_values.shape[1] != channels:
            raise ValueError(
                f"pixel_values must be [images, {channels}, height, width], not {tuple(pixel_values.shape)}"
            )
        if not pixel_values.is_floating_point():
            raise ValueError(f"pixel_values must be normalised floats, not {pixel_values.dtype}: see normalise_pixels")


__all__ = ["UNUSABLE", "CheXficientPreTrainedModel", "NamesOnDisk"]
