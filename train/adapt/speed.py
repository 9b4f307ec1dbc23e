"""What one training step costs by each method, in memory and seconds, side by side on this machine.

    python -m train.adapt.speed                                        # ViT-B/16 at 224 px, 16 films
    python -m train.adapt.speed --vision_config '{"model_type": "dinov2", "hidden_size": 1024, ...}' --batch_size 8

Random weights and films: neither changes the cost. A step is that of a run (`AdaptTrainer.training_step`, the films
augmented, and AdamW's step). The repetitions of all variants take turns, so that a busy machine slows all alike; ratios
are to `full` (else to the first variant) of the same turn. Memory is the peak of a step that is not the first: weights,
the optimiser's state, and the most that the step had allocated at once, of the tensors alone on the CPU
(`torch.profiler`), by `torch.cuda.max_memory_allocated` on a GPU. Writes JSON with `--out`.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field
from statistics import median

import numpy as np
import torch
from datasets import Dataset, Features, Image
from PIL import Image as Films
from torch import Tensor
from transformers import set_seed

from data_scripts.command_line import check_at_least_one
from data_scripts.speed import Ratio
from modeling_chexficient import CheXficientConfig, CheXficientForImageClassification, CheXficientImageProcessor
from modeling_chexficient.configuration_chexficient import tower_config
from modeling_chexficient.tasks_chexficient import TASKS
from train.adapt.arguments import LEARNING_RATES, AdaptTrainingArguments, MethodArguments
from train.adapt.augmentation import Augmentation
from train.adapt.films import Splits
from train.adapt.findings import FindingsTask, LabelledFilms
from train.adapt.methods import Parts, apply_method, count_trainable
from train.adapt.trainer import AdaptTrainer
from train.runs.memory import peak_bytes
from train.runs.recipes import as_mapping
from train.runs.timings import seconds_on, time_command

_VIT_B_16 = '{"model_type": "vit"}'


@dataclass(frozen=True)
class Variant:
    """A way to train: the method, what its base is held in, and whether activations are computed again."""

    method: str
    base_precision: str | None = None
    checkpointing: bool = False


VARIANTS = {
    "full": Variant("full"),
    "lora": Variant("lora"),
    "linear": Variant("linear"),
    "lora_bf16": Variant("lora", "bf16"),
    "full_checkpointing": Variant("full", checkpointing=True),
    "lora_checkpointing": Variant("lora", checkpointing=True),
}


@dataclass
class StepArguments:
    """Arguments of the measurement."""

    vision_config: str = field(
        default=_VIT_B_16, metadata={"help": "Configuration of the tower, JSON; what it leaves out is transformers'."}
    )
    image_size: int = field(default=224, metadata={"help": "Side of the films in pixels."})
    batch_size: int = field(default=16, metadata={"help": "Films in a step."})
    num_labels: int = field(default=14, metadata={"help": "Findings of the head."})
    rank: int = field(default=MethodArguments.rank, metadata={"help": "Of LoRA."})
    dropout: float = field(default=MethodArguments.dropout, metadata={"help": "Of LoRA."})
    variants: list[str] = field(
        default_factory=lambda: ["full", "lora", "linear"],
        metadata={"help": "What is measured.", "choices": list(VARIANTS)},
    )
    repeats: int = field(default=3, metadata={"help": "Timed steps of each, after one that is not."})
    bf16: bool = field(default=False, metadata={"help": "Mixed precision in the passes."})
    seed: int = field(default=0, metadata={"help": "Of weights and films."})
    out: str | None = field(default=None, metadata={"help": "JSON file to write."})

    def __post_init__(self):
        check_at_least_one(self, "image_size", "batch_size", "num_labels", "repeats")


def random_task(arguments: StepArguments) -> FindingsTask:
    """Findings of noise: a batch of films with labels, and a tower with random weights."""
    set_seed(arguments.seed)
    vision = as_mapping("vision_config", arguments.vision_config) | {"image_size": arguments.image_size}
    tower = tower_config(vision, {}, "vision_config")
    labels = tuple(f"finding {number}" for number in range(arguments.num_labels))
    head = {"id2label": dict(enumerate(labels)), "problem_type": "multi_label_classification"}
    generator = np.random.default_rng(arguments.seed)
    shape = (arguments.batch_size, arguments.image_size, arguments.image_size)
    films = [Films.fromarray(film) for film in generator.integers(0, 256, shape, dtype=np.uint8)]
    dataset = Dataset.from_dict({"image": films}, features=Features({"image": Image()}))
    rows = np.arange(arguments.batch_size)
    targets = generator.integers(0, 2, (arguments.batch_size, arguments.num_labels)).astype(np.float32)
    learnt = LabelledFilms(dataset, rows, targets)
    return FindingsTask(
        name=TASKS["classification"].hub_name,
        model=CheXficientForImageClassification(CheXficientConfig(tower, **head)),
        parts=Parts("vision_model", ("classifier",), ("vision_model",)),
        processor=CheXficientImageProcessor(arguments.image_size),
        head=head,
        train_dataset=learnt,
        validation_dataset=learnt,
        splits=Splits(dataset, rows, dataset, rows),
        augmentation=Augmentation(),
        seed=arguments.seed,
        metric="auroc",
        labels=labels,
    )


class Stepper:
    """A trainer that takes one step at a time, on the same batch."""

    def __init__(self, task: FindingsTask, variant: Variant, arguments: StepArguments, folder: str):
        of_lora = {"rank": arguments.rank, "dropout": arguments.dropout} if variant.method == "lora" else {}
        method = MethodArguments(method=variant.method, base_precision=variant.base_precision, **of_lora)
        model = apply_method(task.model, task.parts, method, variant.base_precision or "fp32")
        self.trainable = count_trainable(model)
        args = AdaptTrainingArguments(
            folder,
            learning_rate=LEARNING_RATES[method.method],
            max_steps=1,
            bf16=arguments.bf16,
            use_cpu=not torch.cuda.is_available(),
            seed=arguments.seed,
        )
        self.trainer = AdaptTrainer(task, model, args, method, {}, time.perf_counter())
        self.device = args.device
        model.to(self.device)
        if variant.checkpointing:
            model.gradient_checkpointing_enable()
        self.optimizer = self.trainer.create_optimizer()
        batch = task.collate([task.train_dataset[row] for row in range(arguments.batch_size)])
        self.batch = {name: tensor.to(self.device) for name, tensor in batch.items()}
        self.judged = task.judged(self.batch, 0)
        # The first one counts operations and makes the optimiser's state.
        self.step()

    def step(self) -> None:
        """Forward, backward and the optimiser's step."""
        self.trainer.training_step(self.trainer.model, self.batch, self.judged)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def seconds(self) -> float:
        """Of one step, by `seconds_on`."""
        started = seconds_on(self.device)
        self.step()
        return seconds_on(self.device) - started

    def held_bytes(self) -> tuple[int, int]:
        """What lies in memory between two steps: the model, and the optimiser's state."""
        model = [*self.trainer.model.parameters(), *self.trainer.model.buffers()]
        state = [value for values in self.optimizer.state.values() for value in values.values()]
        return sum(map(_bytes, model)), sum(_bytes(value) for value in state if isinstance(value, Tensor))


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def measure(arguments: StepArguments) -> dict[str, dict]:
    """Of every variant: seconds (median) and ratios of the same turns, peak memory and its parts, what is trained."""
    with tempfile.TemporaryDirectory() as folder:
        steppers = {
            name: Stepper(random_task(arguments), VARIANTS[name], arguments, folder) for name in arguments.variants
        }
        memory = {name: (*one.held_bytes(), peak_bytes(one.step, one.device)) for name, one in steppers.items()}
        turns = [{name: one.seconds() for name, one in steppers.items()} for _ in range(arguments.repeats)]
    reference = "full" if "full" in steppers else arguments.variants[0]
    results = {}
    for name, stepper in steppers.items():
        ratios = [turn[name] / turn[reference] for turn in turns]
        model, state, step = memory[name]
        results[name] = {
            "seconds": median(turn[name] for turn in turns),
            "seconds_ratio": Ratio.of(ratios)._asdict(),
            "peak_bytes": sum(memory[name]),
            "peak_ratio": sum(memory[name]) / sum(memory[reference]),
            "model_bytes": model,
            "optimizer_bytes": state,
            "step_bytes": step,
            "above_model_ratio": (state + step) / sum(memory[reference][1:]),
            "trainable_share": stepper.trainable.share,
            "flops_a_film": stepper.trainer.flops_a_film,
        }
    return results


def format_table(report: dict) -> str:
    settings = report["arguments"]
    lines = [
        f"{report['device']}, {'bf16' if settings['bf16'] else 'fp32'}, {settings['batch_size']} films of "
        f"{settings['image_size']} px, {report['parameters'] / 1e6:.1f} M parameters",
        "",
        "| step | seconds | of full's | peak memory, GiB | of full's | above the model | model, optimiser, step |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, one in report["steps"].items():
        parts = ", ".join(f"{one[part] / 2**30:.2f}" for part in ("model_bytes", "optimizer_bytes", "step_bytes"))
        lines.append(
            f"| {name} | {one['seconds']:.2f} | {Ratio(**one['seconds_ratio'])} | {one['peak_bytes'] / 2**30:.2f} | "
            f"{one['peak_ratio']:.2f} | {one['above_model_ratio']:.2f} | {parts} |"
        )
    return "\n".join(lines)


def run(arguments: StepArguments) -> dict:
    steps = measure(arguments)
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "threads": torch.get_num_threads(),
        "parameters": sum(parameter.numel() for parameter in random_task(arguments).model.parameters()),
        "arguments": vars(arguments),
        "steps": steps,
    }


def main(arguments: list[str] | None = None) -> None:
    time_command((StepArguments,), run, format_table, arguments)


if __name__ == "__main__":
    main()
