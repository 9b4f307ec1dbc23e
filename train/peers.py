r"""How fast a contrastive step of ours is beside the trainers that one would otherwise pick, in one process.

    OMP_NUM_THREADS=1 python -m train.peers --image_size 112 --batch_size 48 --chunk_size 8 --text_length 64 \
        --max_text_length 64 --chunks_in_memory 1 2 3 \
        --vision_config '{"model_type": "dinov2", "patch_size": 14, "hidden_size": 384, "num_hidden_layers": 12,
            "num_attention_heads": 6}' \
        --text_config '{"model_type": "bert", "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6,
            "intermediate_size": 1536, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}'

It needs `pip install open_clip_torch sentence-transformers`, whose torchvision must belong to the torch that is there;
a peer whose package is absent is left out, and said so. All have the same towers and weights, the same batch and texts,
and compute the gradient of one batch; what the optimiser does afterwards is equal for all and left out. Ours gets grey
uint8 films, as in training, and normalises them; the others get them normalised. Repetitions take turns, so that a busy
machine slows all alike, and ratios are of the same turn. Loss and gradients are compared first, with those of the plain
step over the whole batch; a peer that computes something else is named as such. Memory is the peak of what a step has
allocated, above the weights and their gradients. Writes JSON with `--out`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from statistics import median

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments, VisionTextDualEncoderModel

from data_scripts.command_line import check_at_least_one
from data_scripts.progress import progress
from data_scripts.speed import Ratio
from modeling_chexficient import CheXficientModel, normalise_pixels
from modeling_chexficient.image_processing_chexficient import CLIP_MEAN, CLIP_STD
from train.objectives.batch import PairBatch
from train.objectives.contrastive import ContrastiveObjective
from train.objectives.encoding import Encoder
from train.objectives.gradient_cache import backward_in_chunks
from train.objectives.modes import has_dropout
from train.pretrain.arguments import ModelArguments
from train.pretrain.model import build_model
from train.runs.memory import peak_bytes
from train.runs.timings import seconds_on, time_command
from train.speed import Vocabulary, random_batch

#: Relative differences up to this count as the same gradient.
SAME = 1e-4


@dataclass
class PeerArguments:
    """Arguments of the comparison, beside the model's."""

    batch_size: int = field(default=240, metadata={"help": "Pairs of the batch."})
    chunk_size: int = field(default=16, metadata={"help": "Pairs that a step with chunks embeds at once."})
    chunks_in_memory: list[int] = field(
        default_factory=lambda: [1, 2], metadata={"help": "Ours with so many chunks in memory, each a step of its own."}
    )
    text_length: int = field(
        default=64, metadata={"help": "Tokens of the longest text; the shortest has half of them."}
    )
    repeats: int = field(default=5, metadata={"help": "Timed repetitions, after one that is not."})
    seed: int = field(default=0, metadata={"help": "Of films, texts and weights."})
    out: str | None = field(default=None, metadata={"help": "JSON file to write."})

    def __post_init__(self):
        check_at_least_one(self, "batch_size", "chunk_size", "text_length", "repeats")
        if min(self.chunks_in_memory, default=0) < 1:
            raise ValueError(f"chunks_in_memory is {self.chunks_in_memory}, all must be at least 1")


@dataclass
class Bench:
    """A model in training, a batch, and the same batch as others take it."""

    model: CheXficientModel
    batch: PairBatch
    arguments: PeerArguments

    def __post_init__(self):
        self.images = normalise_pixels(self.batch.pixel_values, CLIP_MEAN, CLIP_STD)
        self.texts = self.batch.texts

    def ours(self, chunk_size: int, chunks_in_memory: int = 1) -> Callable[[], Tensor]:
        """Chunks of ours; of one chunk, the plain step."""
        encoder, objective = Encoder(CLIP_MEAN, CLIP_STD, chunk_size), ContrastiveObjective(self.model.config)
        return lambda: backward_in_chunks(
            self.model,
            self.model,
            encoder,
            self.batch,
            objective,
            Tensor.backward,
            nullcontext,
            chunks_in_memory=chunks_in_memory,
        )

    def sentence_transformers(self) -> Callable[[], Tensor]:
        """Its loss with gradient caching, in both directions as CLIP has them; its temperature does not learn."""
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.losses import CachedMultipleNegativesRankingLoss

        class Towers(nn.Module):
            """Embeds whichever of films and texts there is."""

            def __init__(self, model: CheXficientModel):
                super().__init__()
                self.model = model

            def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
                output = self.model(**features)
                embeds = output.image_embeds if "pixel_values" in features else output.text_embeds
                return {"sentence_embedding": embeds}

        loss = CachedMultipleNegativesRankingLoss(
            SentenceTransformer(modules=[Towers(self.model)], device=str(self.images.device)),
            scale=float(self.model.logit_scale.exp()),
            mini_batch_size=self.arguments.chunk_size,
            directions=("query_to_doc", "doc_to_query"),
            partition_mode="per_direction",
        ).train()

        def step() -> Tensor:
            value = loss([{"pixel_values": self.images}, dict(self.texts)], None)
            value.backward()
            return value.detach()

        return step

    def open_clip(self) -> Callable[[], Tensor]:
        """Its loss with `--accum-freq`, which embeds all, then each part again and differentiates the whole loss.

        The loop is that of `open_clip_train.train`, which no release keeps apart from its data and logs: all features
        without gradient; then for each part its features with gradient among those of the others.
        """
        from open_clip.loss import ClipLoss

        loss = ClipLoss()
        parts = torch.arange(len(self.batch)).split(self.arguments.chunk_size)

        def embed(part: Tensor) -> tuple[Tensor, Tensor]:
            output = self.model(self.texts["input_ids"][part], self.images[part], self.texts["attention_mask"][part])
            return output.image_embeds, output.text_embeds

        def step() -> Tensor:
            with torch.no_grad():
                features = list(zip(*map(embed, parts), strict=True))
            for number, part in enumerate(parts):
                both = [
                    torch.cat([*rows[:number], own, *rows[number + 1 :]])
                    for rows, own in zip(features, embed(part), strict=True)
                ]
                value = loss(*both, self.model.logit_scale.exp())
                value.backward()
            return value.detach()

        return step

    def dual_encoder(self, folder: str) -> Callable[[], Tensor]:
        """`Trainer` with transformers' dual encoder around the same towers: the whole batch at once, and other pooling
        and projections than ours.
        """
        # It needs the pooler that ours is without.
        text = type(self.model.text_model)(self.model.text_model.config)
        for name, module in self.model.text_model.named_children():
            setattr(text, name, module)
        model = VisionTextDualEncoderModel(vision_model=self.model.vision_model, text_model=text)
        arguments = TrainingArguments(folder, use_cpu=not torch.cuda.is_available(), report_to="none")
        trainer = Trainer(model.to(self.images.device), arguments)
        # Trainer sets it in `train`.
        trainer.current_gradient_accumulation_steps = 1
        inputs = {"pixel_values": self.images, **self.texts, "return_loss": True}
        return lambda: trainer.training_step(model.train(), dict(inputs))


def compare(bench: Bench, steps: dict[str, Callable[[], Tensor]]) -> dict[str, dict[str, float]]:
    """Of every step: its loss, and how far its gradients are from the first one's, relative to their norm."""
    expected, compared = None, {}
    for name, step in steps.items():
        bench.model.zero_grad()
        loss = float(step())
        found = {name: parameter.grad for name, parameter in bench.model.named_parameters()}
        scale = found.pop("logit_scale")
        flat = torch.cat(
            [torch.zeros(0) if value is None else value.detach().flatten().cpu() for value in found.values()]
        )
        scale = 0.0 if scale is None else float(scale)
        expected = (flat, scale) if expected is None else expected
        same = len(flat) == len(expected[0])
        compared[name] = {
            "loss": loss,
            "gradient_difference": float((flat - expected[0]).norm() / expected[0].norm()) if same else float("inf"),
            "temperature_gradient_ratio": scale / expected[1],
        }
    bench.model.zero_grad()
    return compared


def measure(bench: Bench, folder: str) -> tuple[dict[str, dict], dict[str, str]]:
    """Seconds, ratios, memory and gradients of every step, and why others are left out."""
    arguments = bench.arguments
    steps = {"plain, whole batch": bench.ours(arguments.batch_size)}
    for number in arguments.chunks_in_memory:
        steps[f"ours, {number} chunk{'s' * (number > 1)} in memory"] = bench.ours(arguments.chunk_size, number)
    absent = {}
    for name, package, build in (
        ("sentence-transformers, cached", "sentence-transformers", bench.sentence_transformers),
        ("OpenCLIP, accumulated", "open_clip_torch", bench.open_clip),
        ("Trainer, dual encoder, whole batch", "transformers", lambda: bench.dual_encoder(folder)),
    ):
        try:
            name = f"{name} ({version(package)})"
            steps[name] = build()
        except (PackageNotFoundError, ImportError, RuntimeError) as error:
            absent[name] = f"{type(error).__name__}: {error}"
    results = compare(bench, steps)
    for name, step in steps.items():
        # Gradients are there already, as between the chunks of a run.
        step()
        results[name]["peak_bytes"] = peak_bytes(step, bench.images.device)
    turns = []
    for _ in progress(range(arguments.repeats), desc="timing", unit=" turns"):
        turns.append({name: _seconds(step, bench) for name, step in steps.items()})
    ours = next(name for name in steps if name.startswith("ours"))
    for name in steps:
        ratios = [turn[name] / turn[ours] for turn in turns]
        results[name] |= {
            "seconds": median(turn[name] for turn in turns),
            "ratio": Ratio.of(ratios)._asdict(),
        }
    return results, absent


def _seconds(step: Callable[[], Tensor], bench: Bench) -> float:
    """Of one step, by `seconds_on`."""
    device = bench.images.device
    started = seconds_on(device)
    step()
    seconds = seconds_on(device) - started
    bench.model.zero_grad()
    return seconds


def format_table(report: dict) -> str:
    arguments = report["arguments"]
    lines = [
        f"{report['date']}, {report['device']}, torch {report['torch']}, {report['parameters'] / 1e6:.0f} M parameters",
        f"batch {arguments['batch_size']} in chunks of {arguments['chunk_size']}, {arguments['repeats']} repeats",
        "",
        "| step | seconds | ratio to ours | peak memory, GiB | loss | gradient | temperature's gradient |",
        "|---|---:|---:|---:|---:|---|---|",
    ]
    for name, step in report["steps"].items():
        difference, ratio = step["gradient_difference"], step["temperature_gradient_ratio"]
        same = "the same" if difference < SAME else "another"
        lines.append(
            f"| {name} | {step['seconds']:.2f} | {Ratio(**step['ratio'])} | {step['peak_bytes'] / 2**30:.2f} | "
            f"{step['loss']:.4f} | {same} ({difference:.0e}) | x {ratio:.3f} |"
        )
    lines += [f"left out: {name}: {why}" for name, why in report["absent"].items()]
    return "\n".join(lines)


def run(model_arguments: ModelArguments, arguments: PeerArguments) -> dict:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = build_model(model_arguments, Vocabulary(), arguments.seed).to(device).train()
    if has_dropout(model):
        raise ValueError(
            "the towers have dropout, so no two steps have one gradient: set it to 0 in their configurations"
        )
    words = model.config.text_config.vocab_size
    batch = random_batch(
        arguments.batch_size, arguments.text_length, model_arguments.image_size, words, arguments.seed
    ).to(device)
    with tempfile.TemporaryDirectory() as folder:
        steps, absent = measure(Bench(model, batch, arguments), folder)
    return {
        "date": str(date.today()),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "CPU",
        "torch": torch.__version__,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "arguments": vars(arguments) | {"image_size": model_arguments.image_size},
        "steps": steps,
        "absent": absent,
    }


def main(arguments: list[str] | None = None) -> None:
    time_command((ModelArguments, PeerArguments), run, format_table, arguments)


if __name__ == "__main__":
    main()
