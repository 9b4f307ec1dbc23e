"""Every image and text tower that models here can be built on, at its smallest, and those that are refused."""

from __future__ import annotations

import torch
from transformers import (
    Aimv2VisionConfig,
    AlbertConfig,
    BeitConfig,
    BertConfig,
    BioGptConfig,
    BitConfig,
    CamembertConfig,
    ChineseCLIPVisionConfig,
    CLIPTextConfig,
    CLIPVisionConfig,
    ConvBertConfig,
    ConvNextConfig,
    ConvNextV2Config,
    CvtConfig,
    Data2VecVisionConfig,
    DebertaConfig,
    DebertaV2Config,
    DeiTConfig,
    Dinov2Config,
    Dinov2WithRegistersConfig,
    DINOv3ConvNextConfig,
    DINOv3ViTConfig,
    DistilBertConfig,
    DonutSwinConfig,
    DPTConfig,
    EfficientNetConfig,
    ElectraConfig,
    Florence2VisionConfig,
    FocalNetConfig,
    GLPNConfig,
    GPT2Config,
    HGNetV2Config,
    HieraConfig,
    IJepaConfig,
    LayoutLMConfig,
    LevitConfig,
    LlamaConfig,
    LongformerConfig,
    LukeConfig,
    MaskFormerSwinConfig,
    MLCDVisionConfig,
    MobileBertConfig,
    MobileNetV1Config,
    MobileNetV2Config,
    MobileViTConfig,
    MobileViTV2Config,
    ModernBertConfig,
    MPNetConfig,
    PerceiverConfig,
    PixioConfig,
    PixtralVisionConfig,
    PoolFormerConfig,
    PretrainedConfig,
    PvtConfig,
    PvtV2Config,
    Qwen2Config,
    RegNetConfig,
    ResNetConfig,
    RobertaConfig,
    RoFormerConfig,
    SamVisionConfig,
    SegformerConfig,
    Siglip2VisionConfig,
    SiglipVisionConfig,
    SwiftFormerConfig,
    Swin2SRConfig,
    SwinConfig,
    Swinv2Config,
    T5Config,
    TextNetConfig,
    VisualBertConfig,
    ViTConfig,
    VitDetConfig,
    ViTMAEConfig,
    ViTMSNConfig,
    XLMRobertaConfig,
    XLNetConfig,
    YolosConfig,
)

SIDE = 64
_BLOCKS = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
_PATCHES = {**_BLOCKS, "image_size": SIDE, "patch_size": 16}
_VIT = {**_PATCHES, "intermediate_size": 32}
_WIDTHS = [8, 16, 24, 32]
_THREE = {"hidden_sizes": _WIDTHS[:3], "depths": [1, 1, 1]}
_FOUR = {"hidden_sizes": _WIDTHS, "depths": [1, 1, 1, 1]}
_HEADS = {"num_attention_heads": [1, 2, 2, 2]}
_SWIN = {"image_size": SIDE, "patch_size": 2, "embed_dim": 8, "depths": [1, 1, 1]}
_WINDOWS = {**_SWIN, "num_heads": [1, 2, 2], "window_size": 4}

#: Towers of the same sort differ in what they are built of.
VISION = {
    "aimv2": Aimv2VisionConfig(**_VIT),
    "beit": BeitConfig(**_VIT),
    "bit": BitConfig(embedding_size=8, num_groups=4, **_THREE),
    "chinese_clip": ChineseCLIPVisionConfig(**_VIT),
    "clip": CLIPVisionConfig(**_VIT),
    "convnext": ConvNextConfig(num_stages=3, **_THREE),
    "convnextv2": ConvNextV2Config(num_stages=3, **_THREE),
    "data2vec": Data2VecVisionConfig(**_VIT),
    "davit": Florence2VisionConfig(
        embed_dim=_WIDTHS, num_heads=[1, 2, 2, 2], num_groups=[1, 2, 2, 2], depths=[1, 1, 2, 1], window_size=4
    ),
    "deit": DeiTConfig(**_VIT),
    "dinov2": Dinov2Config(**_PATCHES, mlp_ratio=2),
    "dinov3": DINOv3ViTConfig(**_VIT),
    "dinov3_convnext": DINOv3ConvNextConfig(**_FOUR),
    "donut_swin": DonutSwinConfig(**_WINDOWS),
    "dpt": DPTConfig(**_VIT),
    "focalnet": FocalNetConfig(**_SWIN, focal_levels=[1, 1, 1], focal_windows=[3, 3, 3]),
    "glpn": GLPNConfig(**_FOUR, **_HEADS),
    "mlcd": MLCDVisionConfig(**_VIT),
    "pixio": PixioConfig(**_PATCHES, mlp_ratio=2),
    "poolformer": PoolFormerConfig(**_FOUR),
    "pvt_v2": PvtV2Config(image_size=SIDE, **_FOUR, **_HEADS),
    "registers": Dinov2WithRegistersConfig(**_PATCHES, mlp_ratio=2),
    "regnet": RegNetConfig(embedding_size=8, groups_width=4, **_THREE),
    "resnet": ResNetConfig(embedding_size=8, **_THREE),
    "segformer": SegformerConfig(**_FOUR, **_HEADS),
    "siglip": SiglipVisionConfig(**_VIT),
    "swin": SwinConfig(**_WINDOWS),
    "swinv2": Swinv2Config(**_WINDOWS),
    "vit": ViTConfig(**_VIT),
    "vit_msn": ViTMSNConfig(**_VIT),
    "vitdet": VitDetConfig(**_PATCHES, mlp_ratio=2),
    "yolos": YolosConfig(**{**_VIT, "image_size": [SIDE, SIDE]}, num_detection_tokens=2),
}
#: For models that need a feature of the image, not for segmentation.
WITHOUT_MAPS = {
    "efficientnet": EfficientNetConfig(width_coefficient=0.2, depth_coefficient=0.2, hidden_dim=256, image_size=SIDE),
    "hiera": HieraConfig(
        **{"image_size": [SIDE, SIDE], "embed_dim": 8, "depths": [1, 1, 1], "num_heads": [1, 2, 2]},
        **{"query_stride": [2, 2], "num_query_pool": 2, "masked_unit_size": [8, 8]},
    ),
    "levit": LevitConfig(
        **{"image_size": SIDE, "hidden_sizes": [16, 24, 32], "num_attention_heads": [1, 2, 2]},
        **{"depths": [1, 1, 1], "key_dim": [8, 8, 8]},
    ),
    "maskformer_swin": MaskFormerSwinConfig(**_SWIN, num_heads=[1, 2, 2]),
    "pvt": PvtConfig(image_size=SIDE, **_FOUR, **_HEADS),
}
#: The other way round.
WITHOUT_FEATURE = {"ijepa": IJepaConfig(**_VIT), "textnet": TextNetConfig()}
REFUSED_VISION = {
    "cvt": CvtConfig(embed_dim=[8, 16, 24], num_heads=[1, 2, 2], depth=[1, 2, 3]),
    "hgnet_v2": HGNetV2Config(embedding_size=8, hidden_sizes=_WIDTHS),
    "mobilenet_v1": MobileNetV1Config(depth_multiplier=0.25),
    "mobilenet_v2": MobileNetV2Config(depth_multiplier=0.25),
    "mobilevit": MobileViTConfig(hidden_sizes=[12, 16, 20], neck_hidden_sizes=[8, 8, 8, 8, 8, 8, 40]),
    "mobilevitv2": MobileViTV2Config(width_multiplier=0.25),
    "perceiver": PerceiverConfig(num_latents=4, d_latents=16, num_self_attends_per_block=1),
    "pixtral": PixtralVisionConfig(**_VIT),
    "sam": SamVisionConfig(**_PATCHES, output_channels=8, global_attn_indexes=[0], window_size=2),
    "siglip2": Siglip2VisionConfig(**_BLOCKS, patch_size=16, num_patches=16, intermediate_size=32),
    "swiftformer": SwiftFormerConfig(depths=[1] * 4, embed_dims=_WIDTHS),
    "swin2sr": Swin2SRConfig(image_size=16, patch_size=1, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4),
    "vit_mae": ViTMAEConfig(**_VIT),
}

WORDS = 50
_ABSOLUTE = {"vocab_size": WORDS, "max_position_embeddings": 16}
_BERT = {**_BLOCKS, **_ABSOLUTE, "num_hidden_layers": 2, "intermediate_size": 32}
_ENDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
TEXT = {
    "albert": AlbertConfig(**_BERT, embedding_size=8),
    "bert": BertConfig(**_BERT),
    "biogpt": BioGptConfig(**_BERT),
    # Counts positions by its padding token, from that token's number on, as RoBERTa and XLM-RoBERTa.
    "camembert": CamembertConfig(**_BERT, pad_token_id=0),
    "clip": CLIPTextConfig(**_BERT),
    "convbert": ConvBertConfig(**_BERT),
    "deberta": DebertaConfig(**_BERT),
    "deberta_v2": DebertaV2Config(**_BERT),
    "distilbert": DistilBertConfig(dim=16, n_layers=2, n_heads=2, hidden_dim=32, **_ABSOLUTE),
    "electra": ElectraConfig(**_BERT),
    "gpt2": GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=WORDS, n_positions=16),
    "layoutlm": LayoutLMConfig(**_BERT),
    "llama": LlamaConfig(**_BERT),
    "longformer": LongformerConfig(**{**_BERT, "max_position_embeddings": 40}, attention_window=4, pad_token_id=0),
    "mobilebert": MobileBertConfig(**_BERT),
    "modernbert": ModernBertConfig(**_BERT, **_ENDS),
    "mpnet": MPNetConfig(**_BERT, pad_token_id=0),
    "qwen2": Qwen2Config(**_BERT, num_key_value_heads=2),
    "roberta": RobertaConfig(**_BERT, pad_token_id=0),
    # Takes no positions from outside.
    "roformer": RoFormerConfig(**_BERT),
    "xlm_roberta": XLMRobertaConfig(**_BERT, pad_token_id=0),
    "xlnet": XLNetConfig(vocab_size=WORDS, d_model=16, n_layer=2, n_head=2, d_inner=32),
}
REFUSED_TEXT = {
    "luke": LukeConfig(**_BERT, entity_vocab_size=5, entity_emb_size=8),
    "t5": T5Config(vocab_size=WORDS, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2),
    "visual_bert": VisualBertConfig(**_BERT, visual_embedding_dim=8),
}


def images(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))


def texts(config: PretrainedConfig, count: int = 2) -> dict[str, torch.Tensor]:
    """Tokens of `count` texts as the tower's tokenizer would give them, the last text shorter than the others."""
    mask = torch.ones(count, 6, dtype=torch.long)
    mask[-1, 4:] = 0
    ids = torch.randint(5, WORDS, (count, 6), generator=torch.Generator().manual_seed(4))
    tokens = {"input_ids": ids.masked_fill(mask == 0, 0), "attention_mask": mask}
    # The others make zeros of what is missing, XLNet leaves parameters out.
    return tokens | {"token_type_ids": torch.zeros_like(ids)} if config.model_type == "xlnet" else tokens
