"""Masked autoencoders of transformers, and the plain ViT that is their encoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import AutoConfig, PretrainedConfig, ViTConfig, ViTMAEConfig, ViTMAEForPreTraining, ViTModel
from transformers.models.vit_mae.modeling_vit_mae import build_2d_sinusoidal_position_embedding

from modeling_chexficient.image_processing_chexficient import CLIP_MEAN, CLIP_STD
from modeling_chexficient.towers_chexficient import resize_position_embeddings
from train.film_runs.preprocessing import preprocessing
from train.masked_autoencoding.arguments import AutoencoderArguments

#: Fields that an autoencoder's encoder and a ViT have in common.
_SHARED = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act", "qkv_bias"),
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range", "layer_norm_eps"),
    *("image_size", "patch_size", "num_channels"),
)
_DECODER_POSITIONS = "decoder.decoder_pos_embed"
_HEAD_WIDTH = 32


@dataclass(frozen=True)
class Autoencoder:
    """An autoencoder in fp32, and what was beside it.

    Args:
        mean, std: of the pixels it knows, three values each on the scale [0, 1].
        sources: corpora that its encoder was trained on, as far as its configuration says.
    """

    model: ViTMAEForPreTraining
    mean: list[float]
    std: list[float]
    sources: list[str]


def load_autoencoder(arguments: AutoencoderArguments, mask_ratio: float, normalise_patches: bool) -> Autoencoder:
    """The autoencoder that the arguments name.

    Raises:
        ValueError: there is no such model, it is no ViT, or its patches do not divide the image.
    """
    training = {"mask_ratio": mask_ratio, "norm_pix_loss": normalise_patches}
    if arguments.vision_config is not None:
        config = _new_config(arguments, training)
        model = ViTMAEForPreTraining(config)
        initialise_encoder(model)
        initialise_decoder(model)
        return Autoencoder(model, list(CLIP_MEAN), list(CLIP_STD), [])
    name = arguments.vision_model
    assert name is not None
    try:
        config = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ValueError(f"--vision_model {name}: there is no model that transformers can load ({error})") from error
    if not isinstance(config, ViTConfig | ViTMAEConfig):
        raise ValueError(
            f"--vision_model {name} is a {config.model_type}: a masked autoencoder's encoder is a plain ViT. Name one "
            "(model_type vit or vit_mae), or continue others by train.self_supervised"
        )
    has_decoder = isinstance(config, ViTMAEConfig)
    given = [field for field in ("decoder_width", "decoder_layers") if getattr(arguments, field) is not None]
    if given and has_decoder:
        raise ValueError(f"{', '.join(given)}: {name} has a decoder of its own sizes; leave them out")
    decoder: dict[str, torch.Tensor] = {}
    if has_decoder:
        loaded = ViTMAEForPreTraining.from_pretrained(name, dtype=torch.float32)
        encoder = encoder_of(loaded)
        decoder = {key: value for key, value in loaded.state_dict().items() if key.startswith("decoder.")}
    else:
        encoder = ViTModel.from_pretrained(name, dtype=torch.float32, add_pooling_layer=False)
    mean, std, side = preprocessing(name, config)
    try:
        resize_position_embeddings(encoder, arguments.image_size or side)
    except ValueError as error:
        raise ValueError(f"image_size: {error}") from error
    sizes = _sizes_of_decoder(config) if has_decoder else _new_decoder(arguments)
    model = ViTMAEForPreTraining(ViTMAEConfig(**_shared(encoder.config), **sizes, **training))
    initialise_decoder(model)
    # Of the size of films that it was trained on, which may be another now.
    decoder.pop(_DECODER_POSITIONS, None)
    tensors = decoder | {f"vit.{key}": value for key, value in encoder.state_dict().items()}
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    wanted = {_DECODER_POSITIONS} if has_decoder else {key for key in missing if key.startswith("decoder.")}
    if unexpected or set(missing) - wanted:
        raise ValueError(f"--vision_model {name} is no plain ViT: {sorted(set(missing) - wanted | set(unexpected))}")
    return Autoencoder(model, mean, std, list(getattr(config, "pretraining_sources", None) or []))


@torch.no_grad()
def initialise_encoder(model: ViTMAEForPreTraining) -> None:
    """Give a new encoder the published start: fixed sines and cosines as positions, and random tokens.

    transformers (5.18 to 5.23) means to, and leaves positions and CLS token at 0, so that no patch knows its place.
    """
    embeddings = model.vit.embeddings
    embeddings.position_embeddings.copy_(_positions(embeddings.position_embeddings))
    embeddings.cls_token.normal_(std=model.config.initializer_range)
    projection = embeddings.patch_embeddings.projection.weight
    torch.nn.init.xavier_uniform_(projection.view(len(projection), -1))


@torch.no_grad()
def initialise_decoder(model: ViTMAEForPreTraining) -> None:
    """The same for a decoder, whose positions and mask token transformers sets to 0."""
    decoder = model.decoder
    decoder.decoder_pos_embed.copy_(_positions(decoder.decoder_pos_embed))
    decoder.mask_token.normal_(std=model.config.initializer_range)


def _positions(table: torch.Tensor) -> torch.Tensor:
    """Sines and cosines for a table [1, 1 + side x side, width]; of the width first, as in published weights."""
    side = round((table.shape[1] - 1) ** 0.5)
    positions = build_2d_sinusoidal_position_embedding(side, side, table.shape[-1], cls_token=True)
    down, across = positions.chunk(2, dim=-1)
    return torch.cat([across, down], dim=-1).unsqueeze(0)


@torch.no_grad()
def encoder_of(autoencoder: ViTMAEForPreTraining) -> ViTModel:
    """The encoder as a ViT that hides nothing, with copies of the weights; its feature is the CLS token."""
    encoder = ViTModel(ViTConfig(**_shared(autoencoder.config)), add_pooling_layer=False)
    encoder.load_state_dict(autoencoder.vit.state_dict())
    return encoder.to(autoencoder.device).eval()


def _new_config(arguments: AutoencoderArguments, training: dict) -> ViTMAEConfig:
    values = dict(arguments.vision_config or {})
    kind = values.pop("model_type", "vit_mae")
    if kind != "vit_mae":
        raise ValueError(f"vision_config has model_type {kind}: a masked autoencoder is a vit_mae; leave it out")
    clashing = sorted({*training, "image_size"} & values.keys())
    if clashing:
        raise ValueError(f"vision_config: {clashing} have arguments of their own (mask_ratio, normalise_patches, ...)")
    known = set(ViTMAEConfig().to_dict())
    unknown = sorted(values.keys() - known)
    if unknown:
        raise ValueError(f"vision_config: ViTMAEConfig has no {unknown}")
    config = ViTMAEConfig(**{**_new_decoder(arguments), **values}, image_size=arguments.image_size or 224, **training)
    if "intermediate_size" not in values:
        config.intermediate_size = 4 * config.hidden_size
    side, patch = config.image_size, config.patch_size
    if side % patch:
        raise ValueError(f"image_size {side} is no multiple of the patch size {patch}")
    if config.num_channels != 3:
        raise ValueError(f"vision_config: num_channels is {config.num_channels}; grey films are given as 3")
    return config


def _new_decoder(arguments: AutoencoderArguments) -> dict:
    """Fields of a decoder of published shape: heads of 32 channels, four times as wide within."""
    width = arguments.decoder_width or 512
    if width % _HEAD_WIDTH:
        raise ValueError(f"decoder_width is {width}, it must be a multiple of {_HEAD_WIDTH} (a head of attention)")
    return {
        "decoder_hidden_size": width,
        "decoder_num_hidden_layers": arguments.decoder_layers or 8,
        "decoder_num_attention_heads": width // _HEAD_WIDTH,
        "decoder_intermediate_size": 4 * width,
    }


def _sizes_of_decoder(config: PretrainedConfig) -> dict:
    return {name: value for name, value in config.to_dict().items() if name.startswith("decoder_")}


def _shared(config: PretrainedConfig) -> dict:
    return {name: getattr(config, name) for name in _SHARED}
