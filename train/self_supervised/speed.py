r"""What a step of self-distillation costs beside the sum of what it must compute, timed apart in one process.

    OMP_NUM_THREADS=1 python -m train.self_supervised.speed
    python -m train.self_supervised.speed --vision_model microsoft/rad-dino --image_size 224 --batch_size 64 --bf16

A step is one of a run (`SelfDistillationTrainer.train`): films read, crops, student and teacher, losses, backward,
clipping, optimiser, running mean. What it must compute is the arithmetic of the published implementation: student
forward and backward on the global and on the local crops, teacher forward on the global ones, tower and head each.
After every step its parts are timed alone, on crops of the same films, so that a busy machine slows all alike; ratios
are of the same turn. Films are synthetic and new weights random: neither changes the cost. Seconds are the processor's
on a CPU (of all threads: with several, those that wait count too), the clock's on a GPU. Writes JSON with `--out`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import NamedTuple

import torch
from datasets import Dataset, Features, Image
from PIL import Image as Films
from torch import Tensor
from transformers import PrinterCallback, TrainerCallback, set_seed

from data_scripts.command_line import check_at_least_one
from data_scripts.prepared.films import FilmDataset
from data_scripts.speed import Ratio
from data_scripts.synthetic import SyntheticOptions, draw_film, make_case
from modeling_chexficient.towers_chexficient import feature_size
from train.film_runs.crops import CropArguments, Crops
from train.film_runs.films import batch_generator
from train.objectives.self_distillation import CENTRINGS, Outputs, koleo_loss, loss_terms
from train.runs.timings import seconds_on, time_command
from train.self_supervised.arguments import SelfSupervisedArguments, TowerArguments
from train.self_supervised.network import Network
from train.self_supervised.plan import build_head, make_plan
from train.self_supervised.towers import check_masks, features, give_mask_token, load_tower
from train.self_supervised.trainer import Masks, SelfDistillationTrainer

#: A ViT-S/14 of five blocks.
_VIT = (
    '{"model_type": "dinov2", "patch_size": 14, "hidden_size": 384, "num_hidden_layers": 5, "num_attention_heads": 6}'
)
STEP, REST, KOLEO = "whole step", "all else", "KoLeo (in the losses)"
TOWERS = ("student's tower, global crops", "student's tower, local crops", "teacher's tower")
HEADS = ("student's head", "teacher's head")
#: What the ratios of a step are to.
SUMS = {"towers and heads": (*TOWERS, *HEADS), "towers alone": TOWERS}


@dataclass
class TimedTowerArguments(TowerArguments):
    """The tower and head that are timed; by default a new ViT-S/14 of five blocks at 112 px."""

    def __post_init__(self):
        if self.vision_model is self.model is self.vision_config is None:
            self.vision_config, self.image_size = _VIT, self.image_size or 112
        super().__post_init__()


@dataclass
class StepArguments:
    """Arguments of the measurement."""

    batch_size: int = field(default=16, metadata={"help": "Films in a step."})
    film_size: int | None = field(
        default=None, metadata={"help": "Side of the films that crops are cut from, in pixels; default: image_size."}
    )
    centering: str = field(default="centering", metadata={"help": "Of the teacher.", "choices": list(CENTRINGS)})
    repeats: int = field(default=5, metadata={"help": "Timed steps, after one that is not."})
    bf16: bool = field(default=False, metadata={"help": "Mixed precision."})
    seed: int = field(default=0, metadata={"help": "Of films, crops and weights."})
    out: str | None = field(default=None, metadata={"help": "JSON file to write."})

    def __post_init__(self):
        check_at_least_one(self, "batch_size", "repeats")


def synthetic_films(count: int, size: int, seed: int) -> FilmDataset:
    """`count` films as a prepared folder holds them."""
    options = SyntheticOptions(num_records=count, seed=seed)
    films = [Films.fromarray(draw_film(make_case(number, options), size)[0]) for number in range(count)]
    dataset = Dataset.from_dict({"image": films}, features=Features({"image": Image()}))
    return FilmDataset(dataset, range(count), ("image",))


def build_trainer(
    chosen: TimedTowerArguments, cropping: CropArguments, arguments: StepArguments, folder: str
) -> SelfDistillationTrainer:
    """The trainer of a run whose every batch is the whole corpus."""
    set_seed(arguments.seed)
    args = SelfSupervisedArguments(
        folder,
        max_steps=arguments.repeats + 1,
        per_device_train_batch_size=arguments.batch_size,
        centering=arguments.centering,
        bf16=arguments.bf16,
        seed=arguments.seed,
        use_cpu=not torch.cuda.is_available(),
        disable_tqdm=True,
        report_to="none",
    )
    tower = load_tower(chosen.vision_model, chosen.vision_config, chosen.model, chosen.image_size)
    give_mask_token(tower.model)
    check_masks(tower.model)
    films = synthetic_films(arguments.batch_size, arguments.film_size or tower.image_size, arguments.seed)
    head, pretrained = build_head(chosen, tower, feature_size(tower.model.config), len(films))
    plan = make_plan(args, cropping, tower, head, pretrained, len(films), arguments.film_size or tower.image_size)
    crops = Crops(cropping, plan.image_size, plan.local_size, tower.mean, tower.std)
    trainer = SelfDistillationTrainer(Network(tower.model, head), args, films, crops, plan, {})
    trainer.remove_callback(PrinterCallback)
    return trainer


class Stopwatch(TrainerCallback):
    """Times every step of a run but the first, and after it its parts.

    Attributes:
        turns: seconds by part, of each step.
    """

    def __init__(self, trainer: SelfDistillationTrainer):
        self.trainer, self.device = trainer, trainer.args.device
        self.turns: list[dict[str, float]] = []
        self._began: float | None = None
        self._turn: dict[str, float] = {}

    def on_step_end(self, args, state, control, **kwargs):
        ended = seconds_on(self.device)
        self._turn = {}
        self._time_parts(state.global_step)
        # The first step counts operations and makes the optimiser's state; its parts fill caches.
        if self._began is not None:
            self.turns.append({STEP: ended - self._began} | self._turn)
        self._began = seconds_on(self.device)

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        began = seconds_on(self.device)
        yield
        self._turn[part] = seconds_on(self.device) - began

    def _time_parts(self, number: int) -> None:
        trainer, films = self.trainer, self.trainer.train_dataset
        with self._timed("films read"):
            films = trainer.data_collator([films[row] for row in range(len(films))])["films"]
        films, generator = films.to(self.device), batch_generator(trainer.args.seed, number)
        with self._timed("crops"):
            global_crops, local_crops = trainer.crops(films, generator)
        with self._timed("masks"):
            masks = trainer.draw_masks(generator, len(films))
        student_rows, teacher_rows = self._time_towers(global_crops, local_crops, masks)
        self._time_heads(student_rows, teacher_rows, masks)
        # Of the gradients that the towers and the head have now.
        with self._timed("clipping"):
            trainer._clip_grad_norm(trainer.network)
        with self._timed("optimiser"):
            trainer.optimizer.step()
        trainer.network.zero_grad()
        with self._timed("running mean of the weights"):
            trainer.teacher.follow(trainer.network, 0.99)

    def _time_towers(self, global_crops: Tensor, local_crops: Tensor | None, masks: Masks) -> tuple[Rows, Rows]:
        """Returns the features that the heads of student and teacher take."""
        student, teacher = self.trainer.network.backbone, self.trainer.teacher.network.backbone
        precision = self.trainer.compute_loss_context_manager
        with self._timed(TOWERS[0]):
            with precision():
                of_student = features(student, global_crops, masks.hidden)
            _backward(*of_student)
        of_local = None
        if local_crops is not None:
            with self._timed(TOWERS[1]):
                with precision():
                    of_local, _ = features(student, local_crops)
                _backward(of_local)
            of_local = of_local.detach()
        with self._timed(TOWERS[2]), precision(), torch.no_grad():
            of_teacher = features(teacher, global_crops)
        patches = masks.hidden.shape[1]
        (cls, masked), (teacher_cls, teacher_masked) = (
            (cls.detach(), tokens.detach()[:, -patches:].flatten(0, 1)[masks.picked])
            for cls, tokens in (of_student, of_teacher)
        )
        return Rows(cls, of_local, masked), Rows(teacher_cls, None, teacher_masked)

    def _time_heads(self, of_student: Rows, of_teacher: Rows, masks: Masks) -> None:
        """And the centring and the losses that follow."""
        trainer, precision = self.trainer, self.trainer.compute_loss_context_manager
        with self._timed(HEADS[1]), precision(), torch.no_grad():
            outputs = of_teacher.outputs(trainer.teacher.network.head(of_teacher.joined()))
        with self._timed("centring"):
            targets = trainer.teacher.centred(outputs, self.trainer.plan.temperature[0])
        rows = of_student.joined().requires_grad_()
        with self._timed(HEADS[0]):
            with precision():
                logits = trainer.network.head(rows)
            _backward(logits)
        student = of_student.outputs(logits.detach().requires_grad_())
        student.cls.requires_grad_()
        weights, temperature = trainer.args.weights, trainer.args.student_temperature
        with self._timed("losses"):
            loss_terms(student, targets, weights, masks.weights, temperature)["total"].backward()
        with self._timed(KOLEO):
            sum(koleo_loss(view) for view in student.cls.chunk(2)).backward()


class Rows(NamedTuple):
    """What a head takes: features of global crops, of local ones if there are any, and of masked patches."""

    cls: Tensor
    local: Tensor | None
    masked: Tensor

    def joined(self) -> Tensor:
        return torch.cat([rows for rows in self if rows is not None])

    def outputs(self, logits: Tensor) -> Outputs:
        """Of the network whose head made these `logits`."""
        parts = iter(logits.split([len(rows) for rows in self if rows is not None]))
        return Outputs(self.cls, next(parts), None if self.local is None else next(parts), next(parts))


def _backward(*outputs: Tensor) -> None:
    """With a gradient that a layer norm does not cancel, as it would that of a sum."""
    torch.autograd.backward(outputs, [output.detach().roll(1, -1) for output in outputs])


def measure(trainer: SelfDistillationTrainer) -> dict:
    """Seconds of the step and its parts (medians), shares of the step, and ratios of the step to sums of parts."""
    stopwatch = Stopwatch(trainer)
    trainer.add_callback(stopwatch)
    trainer.train()
    turns = stopwatch.turns
    for turn in turns:
        turn[REST] = turn[STEP] - sum(value for name, value in turn.items() if name not in (STEP, KOLEO))
    seconds = {name: median(turn[name] for turn in turns) for name in turns[0]}
    ratios = {}
    for name, parts in SUMS.items():
        values = [turn[STEP] / sum(turn.get(part, 0.0) for part in parts) for turn in turns]
        ratios[name] = Ratio.of(values)._asdict()
    return {
        "ratios": ratios,
        "films_per_second": len(trainer.train_dataset) / seconds[STEP],
        "seconds": seconds,
        "shares": {name: median(turn[name] / turn[STEP] for turn in turns) for name in seconds},
    }


def format_table(report: dict) -> str:
    plan, settings = report["plan"], report["arguments"]
    lines = [
        f"{report['device']}, {'bf16' if settings['bf16'] else 'fp32'}, {plan['batch_size']} films of "
        f"{plan['film_size']} px, 2 crops of {plan['image_size']} px and {report['local_crops']} of "
        f"{plan['local_size']} px, {report['parameters'] / 1e6:.1f} M parameters",
        "",
        "| part | seconds | of the step |",
        "|---|---:|---:|",
    ]
    lines += [f"| {name} | {value:.4f} | {report['shares'][name]:.1%} |" for name, value in report["seconds"].items()]
    lines += ["", f"films a second: {report['films_per_second']:.1f}"]
    for name, ratio in report["ratios"].items():
        lines.append(
            f"whole step / sum of {name}: {ratio['median']:.3f} [{ratio['lowest']:.3f}, {ratio['highest']:.3f}]"
        )
    return "\n".join(lines)


def run(tower: TimedTowerArguments, crops: CropArguments, arguments: StepArguments) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(tower, crops, arguments, folder)
        measured = measure(trainer)
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "threads": torch.get_num_threads(),
        "parameters": sum(parameter.numel() for parameter in trainer.network.parameters()),
        "arguments": vars(arguments) | vars(tower),
        "local_crops": crops.local_crops,
        "plan": asdict(trainer.plan),
        **measured,
    }


def main(arguments: list[str] | None = None) -> None:
    time_command((TimedTowerArguments, CropArguments, StepArguments), run, format_table, arguments)


if __name__ == "__main__":
    main()
