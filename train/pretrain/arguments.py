"""The arguments of pretraining that are ours; one dataclass a concern, read from YAML recipes and the command line."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from train.objectives import OBJECTIVES
from train.objectives.discounting import SUSPECTED_FILE
from train.pretrain.views import ViewArguments
from train.runs.field_metadata import UNSET
from train.runs.recipes import as_mapping
from train.selection.arguments import SelectionArguments

if TYPE_CHECKING:
    from transformers import PretrainedConfig

#: Where structured labels come from.
LABEL_SOURCES = ("data", "reports")
_VISION, _TEXT = ("vision_model", "vision_config"), ("text_model", "text_config")
#: Of the default schedule. One object, by which a value that nobody gave is known.
_KEYWORDS = {"min_lr": 5e-6}


@dataclass
class PretrainingArguments(ViewArguments, SelectionArguments):
    """What pretraining adds to `TrainingArguments`, or sets otherwise, and the arguments of selection.

    `train.pretrain.training_arguments` puts both together, which takes seconds to import: `--help` shows these alone.

    Defaults that differ from `TrainingArguments` (source: arXiv 2602.22843 and its code): `learning_rate` 5e-5 with
    a cosine to 5e-6, `weight_decay` 1e-4, no gradient clipping, 20 epochs, 80 pairs per device,
    `ddp_find_unused_parameters` False. The default of `lr_scheduler_kwargs` is for schedules that have a `min_lr`; of
    all others it is empty.
    """

    learning_rate: float = 5e-5
    lr_scheduler_type: str = "cosine_with_min_lr"
    lr_scheduler_kwargs: dict | str | None = field(default_factory=lambda: _KEYWORDS)
    weight_decay: float = 1e-4
    max_grad_norm: float = 0.0
    num_train_epochs: float = field(
        default=20, metadata={"help": "Curation epochs plus passes over the kept subset; ignored with max_steps."}
    )
    # Not compared itself: the schedule says the same and must be equal.
    max_steps: int = field(
        default=-1, metadata={"help": "Steps of all phases, in place of num_train_epochs.", "recorded": False}
    )
    compute_passes: float | None = field(
        default=None,
        metadata={
            "help": "The whole run may cost as many FLOP as so many plain passes over all pairs at full size, scoring "
            "included; in place of num_train_epochs. Runs of one value cost the same whatever they select.",
        },
    )
    per_device_train_batch_size: int = field(
        default=80, metadata={"help": "Pairs per process and step outside of curation."}
    )
    ddp_find_unused_parameters: bool | None = False
    logging_steps: float = 10

    objective: str = field(
        default="contrastive",
        metadata={"help": "What is learnt from a batch (train.objectives).", "choices": OBJECTIVES.keys()},
    )
    discount_wrong_reports: bool = field(
        default=False,
        metadata={
            "help": "Let every pair count by the probability that film and report belong together, told by the "
            "embeddings of the step and so at no cost (train.objectives.discounting). The pairs that are rather wrong "
            f"than right stand in {SUSPECTED_FILE}."
        },
    )
    discount_from: float = field(
        default=0.3,
        metadata={
            "help": "With discount_wrong_reports: the share of the run after which pairs are discounted; 0 for a model "
            "that knows such films. To one that has learnt little much that is right looks wrong."
        },
    )
    label_record_share: float = field(
        default=0.0,
        metadata={
            "help": "Share of the pairs that are shown with a sentence of their structured labels in place of their "
            "report; with objective unicl (films of equal findings are positives) or multi_positive (so are equal "
            "texts, reports among them)."
        },
    )
    label_source: str = field(
        default="data",
        metadata={
            "help": "Where these labels come from: the data's own, or the extractor's from English reports.",
            "choices": LABEL_SOURCES,
        },
    )
    freeze_blocks: int = field(
        default=0,
        metadata={
            "help": "So many of the image tower's first blocks, and what stands before them, do not learn: the "
            "backward pass ends there."
        },
    )
    ema_decay: float | None = field(
        default=None,
        metadata={
            "help": "Average the weights over the steps, such as 0.999 (exponential moving average): the average is "
            "what is saved as the model and evaluated. Default: the last weights."
        },
    )
    chunk_size: int | None = field(
        default=None,
        metadata={
            "help": "Pairs whose activations a process holds at once; larger batches are trained in chunks, with the "
            "same result. Default: per_device_train_batch_size.",
            "resume": "free",
        },
    )
    chunks_in_memory: int = field(
        default=1,
        metadata={
            "help": "So many chunks may have their activations in memory at once: of a batch of several chunks, so "
            "many go through the towers once instead of twice. The first of them costs no memory.",
            "resume": "free",
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
            "resume": "free",
        },
    )
    max_skipped_in_a_row: int = field(
        default=10,
        metadata={"help": "So many skipped batches in a row end the run (with on_nonfinite skip).", "resume": "free"},
    )

    def __post_init__(self):
        # Here, as it comes with `TrainingArguments`, which whoever makes one of these has imported.
        from transformers import SchedulerType

        if self.lr_scheduler_kwargs is _KEYWORDS and "min_lr" not in SchedulerType(self.lr_scheduler_type).value:
            self.lr_scheduler_kwargs = {}
        # Trainer would compile the wrapped model, and scoring goes past the wrapping: the towers are compiled alone,
        # with these arguments of `torch.compile`.
        self.compile_towers = None
        if self.torch_compile or self.torch_compile_backend or self.torch_compile_mode:
            options = {"backend": self.torch_compile_backend, "mode": self.torch_compile_mode}
            self.compile_towers = {name: value for name, value in options.items() if value is not None}
        self.torch_compile, self.torch_compile_backend, self.torch_compile_mode = False, None, None
        super().__post_init__()
        self.check_selection()
        self.check_views()
        self._check_training()
        self._check_label_records()
        self._check_sizes()

    @property
    def padded_text_multiple(self) -> int:
        """Texts are padded to a multiple of this: few shapes, where every shape is compiled."""
        return self.text_multiple or (64 if self.compile_towers is not None else 1)

    def _check_training(self) -> None:
        if self.on_nonfinite == "skip" and (self.fp16 or self.gradient_accumulation_steps > 1):
            raise ValueError(
                "on_nonfinite skip goes with neither fp16 (which leaves out such steps by itself) nor "
                "gradient_accumulation_steps above 1: use bf16, or on_nonfinite stop"
            )

        if self.compute_passes is not None and (self.compute_passes <= 0 or self.max_steps > 0):
            raise ValueError(
                f"compute_passes is {self.compute_passes}, it must be above 0, and goes without max_steps: give one"
            )

        if self.freeze_blocks < 0:
            raise ValueError(f"freeze_blocks is {self.freeze_blocks}, it must not be negative")
        if self.freeze_blocks and self.gradient_checkpointing:
            raise ValueError(
                "freeze_blocks does not go with gradient_checkpointing, for which transformers has the backward pass "
                "run to the first block: leave one of them out"
            )

        if not 0 <= self.discount_from < 1:
            raise ValueError(f"discount_from is {self.discount_from}, it must lie in [0, 1), a share of the run")
        if not self.discount_wrong_reports and self.discount_from != PretrainingArguments.discount_from:
            raise ValueError(
                f"discount_from {self.discount_from} does nothing without discount_wrong_reports: give that, too"
            )

        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay}, it must lie between 0 and 1, such as 0.999")

    def _check_label_records(self) -> None:
        share, objective = self.label_record_share, self.objective
        if not 0 <= share <= 1:
            raise ValueError(f"label_record_share is {share}, it must lie in [0, 1]")
        if share and not OBJECTIVES[objective].takes_label_records:
            raise ValueError(
                f"label_record_share is {share}, and objective {objective} would take films of equal labels for "
                "negatives of each other: give objective unicl or multi_positive"
            )
        if not share and objective == "unicl":
            raise ValueError(
                "objective unicl without label records is objective contrastive: give that, or a label_record_share"
            )
        if not share and self.label_source != LABEL_SOURCES[0]:
            raise ValueError(f"label_source {self.label_source} does nothing without a label_record_share: give one")

    def _check_sizes(self) -> None:
        for name in (
            "chunk_size",
            "chunks_in_memory",
            "per_device_train_batch_size",
            "text_multiple",
            "max_skipped_in_a_row",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, it must be at least 1")


@dataclass
class ModelArguments:
    """Where the model comes from: a whole one to go on from (continual pretraining), or two towers, each of them
    pretrained (a name or folder) or new (a configuration).

    A whole model brings its tokenizer, and what its joint space is: another `projection_dim`, `text_pooling` or
    `logit_scale_init_value` is refused (`check_space`). It brings its image size, too, but may be trained on another.
    """

    model: str | None = field(default=None, metadata={"help": "Name or folder of a whole model to go on from."})
    vision_model: str | None = field(default=None, metadata={"help": "Name or folder of a pretrained vision tower."})
    text_model: str | None = field(default=None, metadata={"help": "Name or folder of a pretrained text tower."})
    vision_config: str | None = field(
        default=None, metadata={"help": "Configuration of a new vision tower: a mapping in YAML, JSON here."}
    )
    text_config: str | None = field(
        default=None, metadata={"help": "Configuration of a new text tower: a mapping in YAML, JSON here."}
    )
    tokenizer: str | None = field(
        default=None,
        metadata={
            "help": "Name or folder of the tokenizer; default: the model's or text tower's. With a new text tower and "
            "none given, a vocabulary is learnt from the training reports."
        },
    )
    image_size: int | None = field(
        default=None,
        metadata={
            "help": "Side of the square image the model sees, in pixels; default: the whole model's, or 378. Position "
            "embeddings of pretrained towers are interpolated to it.",
            "unset": 378,
        },
    )
    projection_dim: int | None = field(
        default=None, metadata={"help": "Size of the joint embedding space; default: 512.", "unset": 512}
    )
    text_pooling: str | None = field(
        default=None,
        metadata={
            "help": "Which text state stands for the report; default: eos (published).",
            "choices": ["eos", "cls", "mean"],
            "unset": "eos",
        },
    )
    logit_scale_init_value: float | None = field(
        default=None,
        metadata={
            "help": "Initial logarithm of the inverse temperature; default: ln 100 (published).",
            "unset": math.log(100),
        },
    )
    max_text_length: int = field(default=256, metadata={"help": "Longest report, in tokens."})

    def __post_init__(self):
        for name in ("vision_config", "text_config"):
            setattr(self, name, as_mapping(name, getattr(self, name)))
        ways = [["model"], *([vision, text] for vision in _VISION for text in _TEXT)]
        given = [name for name in ("model", *_VISION, *_TEXT) if getattr(self, name) is not None]
        if given not in ways:
            raise ValueError(
                "give model (a whole one), or two towers: vision_model (pretrained) or vision_config (new), and "
                f"text_model or text_config, not {' with '.join(given) or 'neither'}"
            )
        if self.model is not None:
            if self.tokenizer is not None:
                raise ValueError("model brings its own tokenizer: leave tokenizer out")
            return
        for argument in fields(self):
            if UNSET in argument.metadata and getattr(self, argument.name) is None:
                setattr(self, argument.name, argument.metadata[UNSET])

    @property
    def space(self) -> dict[str, int | float | str | None]:
        """Fields of `CheXficientConfig`: what the joint space is; None where a whole model says it."""
        return {name: getattr(self, name) for name in ("projection_dim", "text_pooling", "logit_scale_init_value")}

    def check_space(self, config: PretrainedConfig) -> None:
        """Raise ValueError where something else was given than the whole model's `config` says."""
        for name, value in self.space.items():
            if value is not None and value != getattr(config, name):
                raise ValueError(
                    f"{name} is {value}, but {self.model} was trained with {getattr(config, name)}: leave {name} out, "
                    "or start from towers"
                )
