"""The arguments of pretraining; one dataclass a concern, read from YAML recipes and the command line."""

from __future__ import annotations

from dataclasses import dataclass, field

from transformers import TrainingArguments

from train.objectives import OBJECTIVES
from train.selection.rules import OUTLIER_QUANTILE, SELECTION_RULES, SUPPORT_QUANTILE

#: Arguments of Trainer that would do nothing here, or harm.
_REFUSED = {
    "load_best_model_at_end": "Trainer 5.x leaves renamed tensors as they were; judge saved checkpoints with eval.run",
    "auto_find_batch_size": "the plan of a run is made for one batch size; lower per_device_train_batch_size",
    "dataloader_drop_last": "no batch is incomplete",
    "save_only_model": "a run goes on from its optimiser and random numbers too",
    "fsdp": "scoring goes past its wrapping; use one process a GPU (DDP) and gradient caching (chunk_size)",
    "deepspeed": "scoring goes past its wrapping; use one process a GPU (DDP) and gradient caching (chunk_size)",
    "save_on_each_node": "a checkpoint is one folder, on a file system that all hosts share",
    "include_num_input_tokens_seen": "a run counts pairs and FLOP, which are images and texts",
    "push_to_hub": "look at the model folder first, then upload it",
}


@dataclass
class CuratedTrainingArguments(TrainingArguments):
    """`TrainingArguments` with the published optimisation as default, and the arguments of curation.

    Defaults that differ from `TrainingArguments` (source: arXiv 2602.22843 and its code): `learning_rate` 5e-5 with
    a cosine to 5e-6, `weight_decay` 1e-4, no gradient clipping, `seed` 0, 20 epochs, 80 pairs per device,
    `remove_unused_columns` False, `ddp_find_unused_parameters` False, `save_strategy` "no".
    """

    learning_rate: float = 5e-5
    lr_scheduler_type: str = "cosine_with_min_lr"
    lr_scheduler_kwargs: dict | str | None = field(default_factory=lambda: {"min_lr": 5e-6})
    weight_decay: float = 1e-4
    max_grad_norm: float = 0.0
    seed: int = 0
    num_train_epochs: float = field(
        default=20, metadata={"help": "Curation epochs plus passes over the kept subset; ignored with max_steps."}
    )
    per_device_train_batch_size: int = field(
        default=80, metadata={"help": "Pairs per process and step outside of curation."}
    )
    remove_unused_columns: bool = False
    ddp_find_unused_parameters: bool | None = False
    save_strategy: str = "no"
    logging_steps: float = 10

    objective: str = field(
        default="contrastive",
        metadata={"help": "What is learnt from a batch (train.objectives).", "choices": OBJECTIVES.keys()},
    )
    selection: str = field(
        default="quantile",
        metadata={
            "help": "What chooses: quantile or sigma (in the curation epoch), random, semdedup (offline, after the "
            "warm-up), or none (train on all).",
            "choices": [*SELECTION_RULES, "random", "semdedup", "none"],
        },
    )
    keep_share: float | None = field(
        default=0.227,
        metadata={"help": "Share of the corpus to keep, in (0, 1]; null in YAML: the rule's published constants."},
    )
    super_batch_size: int = field(
        default=480, metadata={"help": "Pairs judged together in the curation epoch, over all processes."}
    )
    num_prototypes: int = field(default=6, metadata={"help": "Prototypes; published: 6 (quantile), 32 (sigma)."})
    curation_epochs: int = field(default=1, metadata={"help": "Passes over the whole corpus that select."})
    curation_warmup_share: float = field(
        default=0.01,
        metadata={"help": "Plain training before the first selection, as a share of the corpus (published: 0.01)."},
    )
    prototype_sample_size: int = field(
        default=4096, metadata={"help": "Random pairs of the corpus whose features start the prototypes by k-means."}
    )
    support_quantile: float = field(
        default=SUPPORT_QUANTILE, metadata={"help": "Rule quantile: pairs between this and the next are all kept."}
    )
    outlier_quantile: float = field(
        default=OUTLIER_QUANTILE, metadata={"help": "Rule quantile: pairs farther than this are dropped."}
    )
    semdedup_cluster_size: int = field(
        default=256, metadata={"help": "Selection semdedup: pairs a cluster on average, among which it compares."}
    )
    score_image_size: int | None = field(
        default=None, metadata={"help": "Side of the images when pairs are scored; default: the full size."}
    )
    low_resolution_size: int | None = field(
        default=None, metadata={"help": "Side of the images in the first part of the subset phase; default: full size."}
    )
    low_resolution_share: float = field(
        default=0.75, metadata={"help": "That part, as a share of the subset phase (with low_resolution_size)."}
    )
    chunk_size: int | None = field(
        default=None,
        metadata={
            "help": "Pairs whose activations a process holds at once; larger batches are trained in chunks, with the "
            "same result. Default: per_device_train_batch_size."
        },
    )
    text_multiple: int | None = field(
        default=None,
        metadata={"help": "Texts are padded to a multiple of this many tokens; default: 1, or 64 with torch_compile."},
    )
    on_nonfinite: str = field(
        default="stop",
        metadata={
            "help": "At a NaN or infinite loss or feature: stop, or skip the batch or pair and go on.",
            "choices": ["stop", "skip"],
        },
    )
    max_skipped_in_a_row: int = field(
        default=10, metadata={"help": "So many skipped batches in a row end the run (with on_nonfinite skip)."}
    )
    map_sample_size: int = field(
        default=4000, metadata={"help": "Random pairs whose features are kept for the map of the curation report."}
    )
    save_curated_dataset: str | None = field(
        default=None, metadata={"help": "Folder to write the kept pairs into, as a dataset that load_dataset opens."}
    )
    curation_report: bool = field(default=True, metadata={"help": "Write curation_report.html at the end."})
    report_galleries: bool = field(
        default=False,
        metadata={"help": "Show films and report beginnings in it also where the data are neither synthetic nor open."},
    )
    prototype_momentum: float = field(default=0.9, metadata={"help": "EMA momentum of the prototypes."})
    sinkhorn_temperature: float = field(default=0.5, metadata={"help": "Temperature of the Sinkhorn assignment."})
    sinkhorn_iterations: int = field(default=3, metadata={"help": "Iterations of the Sinkhorn assignment."})

    def __post_init__(self):
        # Trainer would compile the wrapped model, and scoring goes past the wrapping: the towers are compiled alone,
        # with these arguments of `torch.compile`.
        self.compile_towers = None
        if self.torch_compile or self.torch_compile_backend or self.torch_compile_mode:
            options = {"backend": self.torch_compile_backend, "mode": self.torch_compile_mode}
            self.compile_towers = {name: value for name, value in options.items() if value is not None}
        self.torch_compile, self.torch_compile_backend, self.torch_compile_mode = False, None, None
        # Batches with such a loss never come to Trainer.
        self.logging_nan_inf_filter = False
        super().__post_init__()
        self._check_curation()
        self._check_sizes()

    @property
    def padded_text_multiple(self) -> int:
        """Texts are padded to a multiple of this: few shapes, where every shape is compiled."""
        return self.text_multiple or (64 if self.compile_towers is not None else 1)

    def _check_quantiles(self) -> None:
        support, outlier = self.support_quantile, self.outlier_quantile
        if self.selection != "quantile" and (support, outlier) != (SUPPORT_QUANTILE, OUTLIER_QUANTILE):
            raise ValueError(f"support_quantile and outlier_quantile do nothing with selection {self.selection}")
        if not 0 < support <= outlier <= 1:
            raise ValueError(f"support_quantile {support} and outlier_quantile {outlier} must rise within (0, 1]")
        if self.selection == "quantile" and self.keep_share is not None and self.keep_share > outlier:
            raise ValueError(
                f"keep_share is {self.keep_share}, but rule quantile drops the farthest {1 - outlier:.0%} as outliers: "
                "ask for less, or for selection none"
            )

    def rule_constants(self) -> dict[str, float]:
        """The constants of the selection rule that are arguments."""
        if self.selection != "quantile":
            return {}
        return {"support_quantile": self.support_quantile, "outlier_quantile": self.outlier_quantile}

    def _check_curation(self) -> None:
        if self.keep_share is not None and not 0 < self.keep_share <= 1:
            raise ValueError(f"keep_share is {self.keep_share}, it must lie in (0, 1] (a share of the corpus)")
        if self.keep_share is None and self.selection in ("random", "semdedup"):
            raise ValueError(f"selection {self.selection!r} has no published constants: give keep_share")
        if self.keep_share is not None and self.selection != "none" and self.keep_share * self.super_batch_size < 2:
            raise ValueError(
                f"keep_share {self.keep_share} of super_batch_size {self.super_batch_size} keeps less than 2 pairs a "
                "step, too few for a contrastive loss: raise one of them"
            )
        self._check_quantiles()
        if self.n_gpu > 1:
            raise ValueError(
                f"one process sees {self.n_gpu} GPUs: start with `accelerate launch -m train.pretrain ...`, or show "
                "it one GPU with CUDA_VISIBLE_DEVICES"
            )
        for name, why in _REFUSED.items():
            if getattr(self, name) and getattr(self, name) != "no":
                raise ValueError(f"{name} is not supported: {why}")
        if self.curation_warmup_share < 0:
            raise ValueError(f"curation_warmup_share is {self.curation_warmup_share}, it must not be negative")
        if self.selection == "none" and self.save_curated_dataset:
            raise ValueError(
                "save_curated_dataset with selection none would write the whole corpus: choose a selection"
            )
        if self.score_image_size is not None and self.selection not in SELECTION_RULES:
            raise ValueError(f"score_image_size does nothing with selection {self.selection}: leave it out")
        if self.on_nonfinite == "skip" and (self.fp16 or self.gradient_accumulation_steps > 1):
            raise ValueError(
                "on_nonfinite skip goes with neither fp16 (which leaves out such steps by itself) nor "
                "gradient_accumulation_steps above 1: use bf16, or on_nonfinite stop"
            )

    def _check_sizes(self) -> None:
        counts = ("curation_epochs", "num_prototypes", "super_batch_size", "prototype_sample_size", "chunk_size")
        for name in (
            *counts,
            "per_device_train_batch_size",
            "text_multiple",
            "semdedup_cluster_size",
            "max_skipped_in_a_row",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, it must be at least 1")
        for name in ("score_image_size", "low_resolution_size"):
            if getattr(self, name) is not None and getattr(self, name) < 32:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be at least 32 pixels")
        if not 0 <= self.prototype_momentum < 1:
            raise ValueError(f"prototype_momentum is {self.prototype_momentum}, it must lie in [0, 1)")
        if self.sinkhorn_temperature <= 0:
            raise ValueError(f"sinkhorn_temperature is {self.sinkhorn_temperature}, it must be above 0")
        if not 0 <= self.low_resolution_share <= 1:
            raise ValueError(f"low_resolution_share is {self.low_resolution_share}, it must lie in [0, 1]")
        if self.map_sample_size < 0:
            raise ValueError(f"map_sample_size is {self.map_sample_size}, it must not be negative")
