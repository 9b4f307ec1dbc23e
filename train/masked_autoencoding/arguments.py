"""The arguments of masked autoencoding; read from YAML recipes and the command line as those of other runs are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from data_scripts.command_line import check_at_least_one
from train.runs.arguments import RunArguments
from train.runs.recipes import as_mapping


@dataclass
class AutoencoderArguments:
    """Where the encoder comes from, and the decoder that is trained with it.

    A masked autoencoder of transformers (`facebook/vit-mae-base`, or `autoencoder/` of an earlier run) brings its own
    decoder; a plain ViT (MRM and CXR-MAE by `modeling_chexficient.convert_vit`) gets a new one.
    """

    # A tower may have been moved: the hash of its weights must be equal.
    vision_model: str | None = field(
        default=None, metadata={"help": "Name or folder of a masked autoencoder or a plain ViT.", "resume": "free"}
    )
    vision_config: str | None = field(
        default=None,
        metadata={"help": "Fields of `ViTMAEConfig` for a new autoencoder: a mapping in YAML, JSON here."},
    )
    image_size: int | None = field(
        default=None, metadata={"help": "Side of the crops and of the tower's films, in pixels; default: the tower's."}
    )
    decoder_width: int | None = field(
        default=None, metadata={"help": "Width of a new decoder; default: 512 (published).", "unset": 512}
    )
    decoder_layers: int | None = field(
        default=None, metadata={"help": "Blocks of a new decoder; default: 8 (published).", "unset": 8}
    )

    def __post_init__(self):
        self.vision_config = as_mapping("vision_config", self.vision_config)
        if (self.vision_model is None) == (self.vision_config is None):
            given = "none" if self.vision_model is None else "both"
            raise ValueError(
                f"give one of vision_model (pretrained) and vision_config (a new autoencoder), not {given}"
            )
        check_at_least_one(self, "image_size", "decoder_width", "decoder_layers")


@dataclass
class AutoencodingArguments(RunArguments):
    """`TrainingArguments`, and what masked autoencoding has beside them.

    Defaults that differ from `TrainingArguments` are the published ones (arXiv 2111.06377, table 8): AdamW with betas
    0.9 and 0.95, weight decay 0.05 (none on biases and norms), a learning rate of 1.5e-4 x films of a step / 256 with a
    cosine after a warm-up of 5 % of the steps, no clipping of gradients; and those of `RunArguments`. Films are cropped
    to 50-100 % of their area, as for chest films (arXiv 2210.12843), and not mirrored, since hearts lie left.
    """

    refused: ClassVar[dict[str, str]] = RunArguments.refused | {
        "learning_rate": "it is base_learning_rate times the films of a step / 256: give base_learning_rate",
        "dataloader_drop_last": "no batch is incomplete",
        "eval_on_start": "the start is evaluated whenever eval_strategy is given",
        **dict.fromkeys(("fsdp", "fsdp_config"), "one process a GPU (DDP) is what is tried"),
    }
    module: ClassVar[str] = "train.masked_autoencoding"

    lr_scheduler_type: str = "cosine"
    warmup_steps: float = 0.05
    weight_decay: float = 0.05
    adam_beta2: float = 0.95
    max_grad_norm: float = 0.0
    num_train_epochs: float = field(default=800, metadata={"help": "Passes over the films; ignored with max_steps."})
    per_device_train_batch_size: int = field(default=64, metadata={"help": "Films per process and step."})
    logging_steps: float = 10

    base_learning_rate: float = field(default=1.5e-4, metadata={"help": "Learning rate of 256 films a step."})
    mask_ratio: float = field(default=0.75, metadata={"help": "Share of the patches that is hidden."})
    normalise_patches: bool = field(
        default=True, metadata={"help": "Predict the pixels of a patch less their mean, over their deviation."}
    )
    crop_scale: list[float] = field(
        default_factory=lambda: [0.5, 1.0], metadata={"help": "Share of the film that a crop shows, from to."}
    )
    flip_probability: float = field(default=0.0, metadata={"help": "Share of the crops that are mirrored."})
    film_size: int | None = field(
        default=None, metadata={"help": "Side of the films that crops are cut from; default: of the first film."}
    )
    probe_films: int = field(
        default=2000,
        metadata={"help": "Films, at most, that probes learn from, and are evaluated on.", "resume": "free"},
    )

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.mask_ratio < 1:
            raise ValueError(f"mask_ratio is {self.mask_ratio}, it must lie between 0 and 1")
        if self.base_learning_rate <= 0:
            raise ValueError(f"base_learning_rate is {self.base_learning_rate}, it must be above 0")
        for name, least in {"film_size": 1, "probe_films": 2}.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}, it must be at least {least}")
