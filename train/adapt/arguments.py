"""The arguments of adaptation; recipes and the command line are read as those of pretraining are."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import ClassVar

from transformers.training_args import OptimizerNames

from data_scripts.command_line import check_at_least_one
from modeling_chexficient.configuration_chexficient import DECODERS, IMAGE_POOLINGS
from modeling_chexficient.precision_chexficient import PRECISIONS, QUANTISED
from modeling_chexficient.tasks_chexficient import TASKS
from train.runs.arguments import RunArguments

#: Methods that put layers beside those of the model.
TUNERS = ("lora", "hira")
#: Where none is given: adapters and heads begin at zero or at random and bear more than weights that were pretrained.
LEARNING_RATES = {"lora": 1e-3, "hira": 1e-3, "linear": 1e-3, "full": 3e-4}
#: Left to `train.adapt.choice`.
AUTO = "auto"
METHODS = (*TUNERS, "linear", "full")
#: Arguments that one task alone reads.
_OF_TASK = {
    **dict.fromkeys(
        ("labels", "unlisted_is_absent", "class_balance", "max_pos_weight", "image_pooling", "head_start"),
        "classification",
    ),
    **dict.fromkeys(
        ("structures", "no_mask_is_empty", "decoder", "entropy_weight", "oversample_foreground"), "segmentation"
    ),
}
CLASS_BALANCES = ("none", "pos_weight", "effective")
#: Arguments that some methods alone read.
_OF_METHODS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("rank", "dropout", "target_modules", "adapt_tower"), TUNERS),
    **dict.fromkeys(("alpha", "use_rslora", "use_dora"), ("lora",)),
    "layer_decay": (*TUNERS, "full"),
    "freeze_tower": ("full",),
}


@dataclass
class TaskArguments:
    """What is learnt, from which base, and with how many of the labels."""

    task: str = field(default="classification", metadata={"help": "What is learnt.", "choices": list(TASKS)})
    # A base may have been moved: the hash of its weights must be equal.
    model: str | None = field(
        default=None,
        metadata={"help": "Name or folder of the base: a CheXficient model, or any vision tower.", "resume": "free"},
    )
    revision: str | None = field(default=None, metadata={"help": "Commit, tag or branch of a base on the Hub."})
    labels: list[str] = field(
        default_factory=list, metadata={"help": "Findings to learn, in the head's order; default: all of the data."}
    )
    structures: list[str] = field(
        default_factory=list,
        metadata={
            "help": 'Structures to outline: the name of a mask, or NAME=MASK,MASK for a union, as "tubes=ETT,NGT"; '
            "default: every mask of the data."
        },
    )
    unlisted_is_absent: bool = field(
        default=False, metadata={"help": "A finding that a film does not list is absent, not unjudged."}
    )
    no_mask_is_empty: bool = field(
        default=False, metadata={"help": "A film without a mask does not show the structure; else nobody outlined it."}
    )
    label_share: float = field(
        default=1.0,
        metadata={"help": "Share of the training patients, sampled by the seed; smaller shares are nested."},
    )
    class_balance: str = field(
        default="none",
        metadata={
            "help": "Weight of positive films in the loss: none (published), pos_weight (negatives a positive), or "
            "effective (of effective numbers, arXiv 1901.05555).",
            "choices": list(CLASS_BALANCES),
        },
    )
    max_pos_weight: float = field(default=20.0, metadata={"help": "That weight is at most this."})
    image_pooling: str = field(
        default="pooled",
        metadata={
            "help": "Feature of findings: the tower's pooled one, its L2-normalised one, or the mean of the patches; "
            "default: pooled, or that of the head which the base brings.",
            "choices": list(IMAGE_POOLINGS),
        },
    )
    head_start: str = field(
        default="probe",
        metadata={
            "help": "Where a new head of findings starts: logistic regression on the base's features, or random.",
            "choices": ["probe", "random"],
        },
    )
    decoder: str = field(
        default="unet",
        metadata={
            "help": "Decoder of structures; image_unet sees the film's pixels beside the tower's maps and is for lines "
            "and tubes. Default: unet, or that which the base brings.",
            "choices": list(DECODERS),
        },
    )
    entropy_weight: float = field(
        default=1.0,
        metadata={
            "help": "Structures: weight of cross entropy beside soft Dice; 0, Dice alone, suits thin structures in a "
            "run of their own, which cross entropy puts out first."
        },
    )
    oversample_foreground: float = field(
        default=0.0,
        metadata={
            "help": "Structures: share of the films of every batch that are drawn to show a structure which fewer "
            "films show by themselves (nnU-Net: 0.33); 0: every film once an epoch."
        },
    )

    def __post_init__(self):
        if self.model is None:
            raise ValueError("model is missing: name the base, a folder or a Hub id")
        if not 0 < self.label_share <= 1:
            raise ValueError(f"label_share is {self.label_share}, it must lie in (0, 1] (a share of the patients)")
        if not 0 <= self.entropy_weight < math.inf:
            raise ValueError(f"entropy_weight is {self.entropy_weight}, it must be 0 or more")
        if not 0 <= self.oversample_foreground < 1:
            raise ValueError(
                f"oversample_foreground is {self.oversample_foreground}, it must lie in [0, 1) (a share of the batch)"
            )
        check_at_least_one(self, "max_pos_weight")
        if self.class_balance == "none" and self.max_pos_weight != TaskArguments.max_pos_weight:
            raise ValueError("max_pos_weight limits the weights of class_balance: give pos_weight or effective as well")
        for name in ("labels", "structures"):
            values = getattr(self, name)
            repeated = sorted({value for value in values if values.count(value) > 1})
            if repeated:
                raise ValueError(f"{name} {repeated} are named twice")
        for name, task in _OF_TASK.items():
            given = getattr(self, name) not in ([], TaskArguments.__dataclass_fields__[name].default)
            if given and self.task != task:
                raise ValueError(f"{name} belongs to task {task}, this is {self.task}: leave it out")


@dataclass
class MethodArguments:
    """What of the model is trained. LoRA as published for chest films: q and v, alpha 32, dropout 0.1, final norm and
    head trained as well (arXiv 2401.12215). HiRA (https://openreview.net/forum?id=TwJrTz9cRS) in the same places: as
    many weights at the same rank, but the weights of the layer times the matrix of that rank are added to them, which
    is of any rank; there is nothing to scale it by.
    """

    method: str = field(
        default="lora",
        metadata={
            "help": "lora, hira, linear (the head alone), full (everything), or auto: of findings, what studies favour "
            "for this tower and so many films, with the reason.",
            "choices": [*METHODS, AUTO],
        },
    )
    rank: int = field(
        default=8, metadata={"help": "LoRA, HiRA: rank (published: 4, 8 and 32 for 1, 10 and 100 %% of labels)."}
    )
    alpha: float = field(default=32, metadata={"help": "LoRA: the update is scaled by alpha / rank."})
    dropout: float = field(default=0.1, metadata={"help": "LoRA, HiRA: dropout of its input."})
    target_modules: list[str] = field(
        default_factory=list,
        metadata={
            "help": "LoRA, HiRA: ends of the names of the layers, or one regular expression. Default: q and v of the "
            "attention; in a convolutional tower, the convolutions behind the first one."
        },
    )
    use_rslora: bool = field(default=False, metadata={"help": "LoRA: scale by alpha / sqrt(rank) (rsLoRA)."})
    use_dora: bool = field(default=False, metadata={"help": "LoRA: learn lengths apart from directions (DoRA)."})
    head_learning_rate: float | None = field(
        default=None, metadata={"help": "Learning rate of the new head (or projector); default: learning_rate."}
    )
    layer_decay: float = field(
        default=1.0,
        metadata={
            "help": "All but linear: every block's learning rate is this times that of the block above it (0.65 or so)."
        },
    )
    base_precision: str | None = field(
        default=None,
        metadata={
            "help": "All but full: what the frozen base is held in; adapter and head are fp32. 8bit and 4bit "
            "(QLoRA) on a GPU with bitsandbytes alone. Default: fp32; of reports, as the language model was saved.",
            "choices": list(PRECISIONS),
        },
    )
    freeze_tower: bool = field(default=False, metadata={"help": "Full: leave the vision tower as it is."})
    adapt_tower: bool = field(default=False, metadata={"help": "LoRA, HiRA of reports: in the vision tower, too."})

    def __post_init__(self):
        self._refuse_what_does_nothing()
        if self.method == "full" and self.base_precision not in (None, "fp32"):
            raise ValueError(
                f"base_precision {self.base_precision} is of a frozen base (lora, hira, linear): full trains the "
                "base's own weights, and in lower precision most steps would be rounded away. Leave it out; with "
                "--bf16 true the passes are cheaper, and the weights stay fp32"
            )
        if self.method == "hira" and self.base_precision in QUANTISED:
            raise ValueError(f"base_precision {self.base_precision}: peft has no HiRA on quantised layers: take lora")
        if self.head_learning_rate is not None and self.head_learning_rate <= 0:
            raise ValueError(f"head_learning_rate is {self.head_learning_rate}, it must be above 0")
        check_at_least_one(self, "rank")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, it must lie in [0, 1)")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay is {self.layer_decay}, it must lie in (0, 1]")

    def _refuse_what_does_nothing(self) -> None:
        given = [
            argument.name for argument in fields(self) if getattr(self, argument.name) not in ([], argument.default)
        ]
        for methods in dict.fromkeys(_OF_METHODS.values()):
            foreign = [name for name in given if _OF_METHODS.get(name) == methods and self.method not in methods]
            if foreign:
                raise ValueError(
                    f"{', '.join(foreign)} belong to method {' or '.join(methods)}, this is {self.method}: leave them "
                    "out"
                )


@dataclass
class AdaptTrainingArguments(RunArguments):
    """`TrainingArguments`, and how a run stops and is evaluated.

    Defaults that differ from `TrainingArguments`: `learning_rate` by the method, a cosine after a warm-up of 5 % of the
    steps, `weight_decay` 0.05, batches of 64, 20 evaluations on validation in a run; and those of `RunArguments`.
    """

    refused: ClassVar[dict[str, str]] = RunArguments.refused | {
        "load_best_model_at_end": "the best weights are always put back, and not by way of Trainer's checkpoints",
        "metric_for_best_model": "findings are chosen by mean AUROC, structures by mean Dice, reports by their loss",
        "dataloader_drop_last": "Trainer would leave films out of evaluation, too",
        "label_smoothing_factor": "the losses here are of one probability a label",
        **dict.fromkeys(("fsdp", "fsdp_config"), "one process a GPU (DDP) is what is tried"),
    }
    module: ClassVar[str] = "train.adapt"

    learning_rate: float | None = field(
        default=None,
        metadata={"help": "Default: by the method, 1e-3 of adapters and of a head alone, 3e-4 of everything."},
    )
    lr_scheduler_type: str = "cosine"
    warmup_steps: float = 0.05
    weight_decay: float = 0.05
    num_train_epochs: float = 20
    per_device_train_batch_size: int = 64
    per_device_eval_batch_size: int = 64
    logging_steps: float = 0.05
    # When the weights are evaluated decides which are the best.
    eval_strategy: str = field(
        default="steps", metadata={"help": "When weights are evaluated: steps or epoch.", "resume": "equal"}
    )
    eval_steps: float | None = field(
        default=0.05, metadata={"help": "Steps between two evaluations; below 1: a share.", "resume": "equal"}
    )
    eval_delay: float = field(
        default=0, metadata={"help": "Steps or epochs before the first evaluation.", "resume": "equal"}
    )

    momentum: float = field(default=0.0, metadata={"help": "Of optim sgd (0.9 or so)."})
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after so many evaluations on validation without a better one."}
    )
    benchmark: str | None = field(
        default=None,
        metadata={
            "help": "Benchmark of `eval` that evaluates the result; default: the data's own test split.",
            "resume": "free",
        },
    )
    benchmark_data: str | None = field(
        default=None,
        metadata={
            "help": "Folder of prepared folders for the benchmark; default: the one trained on.",
            "resume": "free",
        },
    )
    resamples: int = field(
        default=1000, metadata={"help": "Bootstrap resamples of the intervals on the test split.", "resume": "free"}
    )

    def __post_init__(self):
        super().__post_init__()
        if self.eval_strategy == "no":
            raise ValueError("eval_strategy no would leave nothing to choose the best weights by: give steps or epoch")
        check_at_least_one(self, "early_stopping_patience")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum is {self.momentum}, it must lie in [0, 1)")
        if self.momentum and self.optim != OptimizerNames.SGD:
            raise ValueError(f"momentum belongs to optim sgd, this is {self.optim!s}: leave it out")
        if self.resamples < 2:
            raise ValueError(f"resamples is {self.resamples}, it must be at least 2")
