"""The arguments of self-distillation; one dataclass a concern, read from YAML recipes and the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from transformers import SchedulerType

from data_scripts.command_line import check_at_least_one
from train.objectives.self_distillation import CENTRINGS, Weights
from train.runs.arguments import RunArguments
from train.runs.recipes import as_mapping

#: Of the default schedule. One object, by which a value that nobody gave is known.
_KEYWORDS = {"min_lr": 1e-6}


@dataclass
class TowerArguments:
    """Where the tower comes from, and its head. A head that lies beside pretrained weights (`dino_head.safetensors`, as
    RAD-DINO has it) is taken over.
    """

    # A tower may have been moved: the hash of its weights must be equal.
    vision_model: str | None = field(
        default=None, metadata={"help": "Name or folder of a pretrained vision tower.", "resume": "free"}
    )
    model: str | None = field(
        default=None,
        metadata={"help": "Name or folder of a CheXficient model whose vision tower goes on.", "resume": "free"},
    )
    vision_config: str | None = field(
        default=None, metadata={"help": "Configuration of a new vision tower: a mapping in YAML, JSON here."}
    )
    image_size: int | None = field(
        default=None,
        metadata={"help": "Side of global crops and of the tower's films, in pixels; default: the tower's, or 224."},
    )
    new_head: bool = field(default=False, metadata={"help": "A new head also where one lies beside the weights."})
    prototypes: int | None = field(
        default=None, metadata={"help": "Outputs of a new head; default: by the number of films, 1,024 to 65,536."}
    )
    head_hidden: int | None = field(
        default=None, metadata={"help": "Width of a new head's hidden layers; default: 2,048.", "unset": 2048}
    )
    head_bottleneck: int | None = field(
        default=None, metadata={"help": "Width of a new head's feature; default: 256.", "unset": 256}
    )

    def __post_init__(self):
        self.vision_config = as_mapping("vision_config", self.vision_config)
        given = [name for name in ("vision_model", "model", "vision_config") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                "give one of vision_model (a pretrained tower), model (a CheXficient model) and vision_config (a new "
                f"tower), not {' and '.join(given) or 'none'}"
            )
        check_at_least_one(self, "image_size", "prototypes", "head_hidden", "head_bottleneck")


@dataclass
class SelfSupervisedArguments(RunArguments):
    """`TrainingArguments`, and what self-distillation has beside them.

    Defaults that differ from `TrainingArguments` are DINOv2's, but for the learning rate, which is for going on from
    pretrained weights (a full one destroys them): `learning_rate` 5e-5 with a cosine to 1e-6 after a warm-up of 10 % of
    the steps, `weight_decay` 0.04, `max_grad_norm` 3 (of tower and head together), 100 passes; and those of
    `RunArguments`.
    """

    refused: ClassVar[dict[str, str]] = RunArguments.refused | {
        "dataloader_drop_last": "no batch is incomplete",
        "torch_compile": "crops of two sizes and masks of many are not tried with it",
        **dict.fromkeys(("fsdp", "fsdp_config"), "one process a GPU (DDP) is what is tried"),
        "eval_on_start": "the start is evaluated whenever eval_strategy is given",
    }
    module: ClassVar[str] = "train.self_supervised"

    learning_rate: float = 5e-5
    lr_scheduler_type: str = "cosine_with_min_lr"
    lr_scheduler_kwargs: dict | str | None = field(default_factory=lambda: _KEYWORDS)
    warmup_steps: float = 0.1
    weight_decay: float = 0.04
    max_grad_norm: float = 3.0
    num_train_epochs: float = field(default=100, metadata={"help": "Passes over the films; ignored with max_steps."})
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Films per process and step."})
    ddp_find_unused_parameters: bool | None = False
    logging_steps: float = 10

    base_learning_rate: float | None = field(
        default=None,
        metadata={"help": "In place of learning_rate: that of 1,024 films a step, times sqrt(films / 1,024) (4e-3)."},
    )
    weight_decay_end: float = field(default=0.4, metadata={"help": "Weight decay at the end, by a cosine."})
    layer_decay: float = field(
        default=0.9, metadata={"help": "Every block's learning rate is this times that of the block above it."}
    )
    freeze_backbone_steps: int | None = field(
        default=None,
        metadata={
            "help": "First steps that the tower stands still. Default: a pass where pretrained weights get a new head."
        },
    )
    freeze_last_layer_steps: int | None = field(
        default=None,
        metadata={"help": "First steps that the head's last layer stands still. Default: a pass where all is new."},
    )
    centering: str = field(
        default="centering", metadata={"help": "How targets are kept from collapsing.", "choices": list(CENTRINGS)}
    )
    teacher_momentum: list[float] | None = field(
        default=None, metadata={"help": "Of the teacher, from the start to the end; default: by the number of films."}
    )
    teacher_temperature: list[float] | None = field(
        default=None, metadata={"help": "Of its targets, from the start to the end; default: by the number of films."}
    )
    teacher_temperature_steps: float = field(
        default=0.3, metadata={"help": "When that end is reached; below 1: a share of the steps."}
    )
    student_temperature: float = field(default=0.1, metadata={"help": "Of what the student says."})
    dino_weight: float = field(default=1.0, metadata={"help": "Weight of DINO on the image feature."})
    ibot_weight: float = field(default=1.0, metadata={"help": "Weight of iBOT on masked patches; 0: no masks."})
    koleo_weight: float = field(default=0.1, metadata={"help": "Weight of KoLeo."})
    mask_probability: float = field(default=0.5, metadata={"help": "Share of the global crops that are masked."})
    mask_ratio: list[float] = field(
        default_factory=lambda: [0.1, 0.5], metadata={"help": "Share of their patches that is masked, from to."}
    )
    film_size: int | None = field(
        default=None, metadata={"help": "Side of the films that crops are cut from; default: of the first film."}
    )
    probe_films: int = field(
        default=2000,
        metadata={"help": "Films, at most, that probes learn from, and are evaluated on.", "resume": "free"},
    )

    def __post_init__(self):
        if self.lr_scheduler_kwargs is _KEYWORDS and "min_lr" not in SchedulerType(self.lr_scheduler_type).value:
            self.lr_scheduler_kwargs = {}
        super().__post_init__()
        self._check_ranges()
        for name in ("teacher_momentum", "teacher_temperature", "mask_ratio"):
            pair = getattr(self, name)
            if pair is not None and (len(pair) != 2 or not all(0 < value <= 1 for value in pair)):
                raise ValueError(f"{name} is {pair}, it must be two values above 0 and up to 1: the start and the end")
        if self.mask_ratio[0] > self.mask_ratio[1]:
            raise ValueError(f"mask_ratio is {self.mask_ratio}, the smaller share comes first")
        if self.dino_weight == 0 and self.ibot_weight == 0:
            raise ValueError("dino_weight and ibot_weight are both 0: there is nothing to learn")

    def _check_ranges(self) -> None:
        least = {"dino_weight": 0, "ibot_weight": 0, "koleo_weight": 0, "weight_decay_end": 0}
        least |= {"freeze_backbone_steps": 0, "freeze_last_layer_steps": 0, "film_size": 1, "probe_films": 2}
        for name, lowest in least.items():
            value = getattr(self, name)
            if value is not None and value < lowest:
                raise ValueError(f"{name} is {value}, it must be at least {lowest}")
        for name in ("base_learning_rate", "student_temperature", "teacher_temperature_steps"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} is {value}, it must be above 0")
        for name in ("layer_decay", "mask_probability"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must lie in (0, 1]")

    @property
    def weights(self) -> Weights:
        """Of the terms of the loss."""
        return Weights(self.dino_weight, self.ibot_weight, self.koleo_weight)
