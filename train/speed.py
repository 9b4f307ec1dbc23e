r"""How fast a curation step is, side by side with the published one, in one process on this machine.

    python -m train.speed --image_size 112 --super_batch_size 64 --score_image_size 56
    python -m train.speed --vision_model facebook/dinov2-base --text_model emilyalsentzer/Bio_ClinicalBERT \
        --super_batch_size 480 --text_length 256 --bf16

Times, on random films and texts: the published step (forward and backward on all, loss on the kept), ours (score
without gradient, train on the kept), ours in chunks, and ours scored on smaller images. The repetitions of all of them
take turns, so that a busy machine slows all alike; ratios are of the same turn. Writes JSON with `--out`. How fast
films are loaded tells `data_scripts.prepare.speed`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from statistics import median

import torch
from torch import Tensor

from data_scripts.command_line import check_at_least_one
from data_scripts.speed import Ratio
from modeling_chexficient import CheXficientModel
from modeling_chexficient.image_processing_chexficient import CLIP_MEAN, CLIP_STD
from train.objectives.batch import PairBatch, text_keys
from train.objectives.contrastive import ContrastiveObjective, contrastive_loss
from train.objectives.encoding import Chunk, Encoder
from train.objectives.gradient_cache import backward_in_chunks
from train.pretrain.arguments import ModelArguments
from train.pretrain.model import build_model
from train.pretrain.training_arguments import CuratedTrainingArguments
from train.runs.flops import PairFlops
from train.runs.memory import peak_memory
from train.runs.timings import time_command
from train.selection.curator import Curator
from train.selection.prototypes import update_prototypes
from train.selection.rule import Candidates
from train.selection.rules import DEFAULT_RULE, RULES
from train.selection.state import CurationState

#: Dense bf16 FLOP/s of the makers' data sheets, by a part of the device's name.
PEAK_FLOPS = {"H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "A10": 125e12}

#: The steps that can be timed; "small" needs `score_image_size`.
VARIANTS = ("published", "ours", "chunks", "small", "scoring")


@dataclass
class BenchmarkArguments:
    """Arguments of the benchmark, beside the model's."""

    super_batch_size: int = field(default=64, metadata={"help": "Pairs scored together."})
    keep_share: float = field(default=0.227, metadata={"help": "Share of them that is trained on."})
    selection: str = field(
        default=DEFAULT_RULE, metadata={"choices": [rule.name for rule in RULES.values() if rule.uses_prototypes]}
    )
    num_prototypes: int = field(default=6, metadata={"help": "Prototypes."})
    chunk_size: int = field(default=16, metadata={"help": "Pairs with activations, in the variant with chunks."})
    score_image_size: int | None = field(default=None, metadata={"help": "Adds scoring at this size, in pixels."})
    text_length: int = field(default=96, metadata={"help": "Tokens of the longest text; the others are shorter."})
    variants: list[str] = field(
        default_factory=lambda: list(VARIANTS), metadata={"help": "Which steps to time.", "choices": list(VARIANTS)}
    )
    repeats: int = field(default=5, metadata={"help": "Timed repetitions, after one that is not."})
    bf16: bool = field(default=False, metadata={"help": "Mixed precision."})
    compile: bool = field(default=False, metadata={"help": "torch.compile for the towers."})
    seed: int = field(default=0, metadata={"help": "Of films, texts and weights."})
    out: str | None = field(default=None, metadata={"help": "JSON file to write."})

    def __post_init__(self):
        check_at_least_one(self, "super_batch_size", "chunk_size", "repeats", "text_length")


class Vocabulary:
    """A vocabulary of which only the size counts: that of Bio_ClinicalBERT."""

    def __len__(self) -> int:
        return 28_996


class Bench:
    """A model, a super-batch on its device, and the ways to make a step of it."""

    def __init__(self, model: CheXficientModel, arguments: BenchmarkArguments, image_size: int):
        self.arguments = arguments
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.to(self.device).train()
        if arguments.compile:
            model.vision_model.compile()
            model.text_model.compile()
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
        words = model.config.text_config.vocab_size
        size = arguments.super_batch_size
        self.batch = random_batch(size, arguments.text_length, image_size, words, arguments.seed).to(self.device)
        self.objective = ContrastiveObjective(model.config)
        self.flops = PairFlops(model)
        self.selecting = 0.0

    def encoder(self, chunk_size: int) -> Encoder:
        autocast = nullcontext
        if self.arguments.bf16:
            autocast = lambda: torch.autocast(self.device.type, torch.bfloat16)  # noqa: E731
        return Encoder(CLIP_MEAN, CLIP_STD, chunk_size, 32, self.arguments.compile, autocast, self.flops)

    def published(self) -> float:
        """Forward and backward on all pairs, the loss on the kept; returns FLOP."""
        encoder, arguments = self.encoder(len(self.batch)), self.arguments
        self._begin()
        everything = Chunk(self.batch.rows, len(self.batch), self.batch.text_width, self.batch.rows)
        images, texts = encoder.embed(self.model, self.batch, everything, None, "trained")
        with self._selection_timed():
            pairs = Candidates(self.batch.rows, images.detach(), texts.detach(), self._prototypes(2 * images.shape[1]))
            rule, generator = RULES[arguments.selection], torch.Generator().manual_seed(0)
            kept = rule.choose(pairs, arguments.keep_share, generator, rule.constants()).kept
            update_prototypes(pairs.features[kept], pairs.prototypes)
        contrastive_loss(images[kept], texts[kept], self.model.logit_scale).backward()
        self._step()
        return sum(encoder.spent.values())

    def ours(self, chunk_size: int | None = None, score_image_size: int | None = None) -> float:
        """Score without gradient, train on the kept; returns FLOP."""
        encoder = self.encoder(chunk_size or len(self.batch))
        curator = self._curator(encoder, score_image_size)
        self._begin()
        with self._selection_timed(of=curator):
            batch, cached = curator.choose(self.model, self.batch, 0)
        backward_in_chunks(
            self.model,
            self.model,
            encoder,
            batch,
            self.objective,
            lambda loss: loss.backward(),
            nullcontext,
            cached,
        )
        self._step()
        return sum(encoder.spent.values())

    def score(self) -> float:
        """Scoring alone; returns FLOP."""
        encoder = self.encoder(len(self.batch))
        self._begin()
        encoder.features(self.model, self.batch)
        return sum(encoder.spent.values())

    def _curator(self, encoder: Encoder, score_image_size: int | None) -> Curator:
        arguments = self.arguments
        args = CuratedTrainingArguments(
            output_dir="unused",
            selection=arguments.selection,
            keep_share=arguments.keep_share,
            super_batch_size=arguments.super_batch_size,
            num_prototypes=arguments.num_prototypes,
            score_image_size=score_image_size,
        )
        state = CurationState(len(self.batch))
        curator = Curator(args, state, encoder, self.model, None, None)
        state.prototypes = self._prototypes(2 * self.model.config.projection_dim)
        state.usage = torch.zeros(arguments.num_prototypes, device=self.device)
        return curator

    def _prototypes(self, width: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.arguments.seed)
        prototypes = torch.randn(self.arguments.num_prototypes, width, generator=generator)
        return torch.nn.functional.normalize(prototypes, dim=-1).to(self.device)

    @contextmanager
    def _selection_timed(self, of: Curator | None = None) -> Iterator[None]:
        """Adds to `selecting` the time of selection, without that of scoring."""
        scoring = 0.0
        if of is not None:
            score = of.score

            def timed_score(*arguments):
                nonlocal scoring
                started = self._now()
                embeds = score(*arguments)
                scoring = self._now() - started
                return embeds

            of.score = timed_score
        started = self._now()
        yield
        self.selecting += self._now() - started - scoring

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def _begin(self) -> None:
        """A step calls this when it has made ready what a run makes ready once."""
        self._began = self._now()

    def _step(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()

    def time(self, step: Callable[[], float]) -> dict[str, float]:
        """Seconds of one step, FLOP, share of time in selection, and peak memory in GiB where it can be told apart."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        self.selecting = 0.0
        flops = step()
        seconds = self._now() - self._began
        return {
            "seconds": seconds,
            "flops": flops,
            "selecting": self.selecting / seconds,
            "memory": torch.cuda.max_memory_allocated() / 2**30 if self.device.type == "cuda" else 0.0,
        }


def random_batch(count: int, text_length: int, image_size: int, words: int, seed: int) -> PairBatch:
    """`count` grey films of noise, and texts of half to the full `text_length`: what they show does not matter for the
    time.
    """
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(max(1, text_length // 2), text_length + 1, (count,), generator=generator)
    lengths[0] = text_length
    shape = (count, 1, image_size, image_size)
    input_ids = torch.randint(1, words, (count, text_length), generator=generator)
    return PairBatch(
        rows=torch.arange(count),
        lengths=lengths,
        text_keys=text_keys(input_ids, lengths),
        valid=torch.ones(count, dtype=torch.bool),
        pixel_values=torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator),
        input_ids=input_ids,
        attention_mask=(torch.arange(text_length) < lengths.unsqueeze(1)).long(),
    )


def time_steps(bench: Bench) -> dict[str, dict]:
    """Every variant in turn, `repeats` times; medians, and the ratio to the published step of the same turn (to the
    first variant where the published one is not among them).
    """
    arguments = bench.arguments
    chunk, small = arguments.chunk_size, arguments.score_image_size
    variants = {
        "published": ("published", bench.published),
        "ours": ("ours", bench.ours),
        "chunks": (f"ours, chunks of {chunk}", lambda: bench.ours(chunk)),
        "small": (f"ours, scored at {small} px", lambda: bench.ours(score_image_size=small)),
        "scoring": ("scoring alone", bench.score),
    }
    steps = dict(variants[name] for name in arguments.variants if name != "small" or small is not None)
    turns = [{name: bench.time(step) for name, step in steps.items()} for _ in range(arguments.repeats + 1)][1:]
    reference = "published" if "published" in steps else next(iter(steps))
    results = {}
    kept = round(arguments.keep_share * arguments.super_batch_size)
    for name in steps:
        seconds = [turn[name]["seconds"] for turn in turns]
        ratios = [turn[name]["seconds"] / turn[reference]["seconds"] for turn in turns]
        flops = turns[0][name]["flops"]
        results[name] = {
            "seconds": median(seconds),
            "ratio": Ratio.of(ratios)._asdict(),
            "pairs_scored_per_second": arguments.super_batch_size / median(seconds),
            "pairs_trained_per_second": 0.0 if name == "scoring alone" else kept / median(seconds),
            "flops": flops,
            "flops_ratio": flops / turns[0][reference]["flops"],
            "share_of_peak": _share_of_peak(flops / median(seconds), bench.device),
            "selecting_share": median(turn[name]["selecting"] for turn in turns),
            "peak_memory_gib": max(turn[name]["memory"] for turn in turns) or None,
        }
    return results


def _share_of_peak(flops_per_second: float, device: torch.device) -> float | None:
    name = torch.cuda.get_device_name() if device.type == "cuda" else ""
    peak = next((peak for part, peak in PEAK_FLOPS.items() if all(word in name for word in part.split())), None)
    return None if peak is None else flops_per_second / peak


def format_table(report: dict) -> str:
    lines = [f"{report['device']}, {report['precision']}, {report['parameters'] / 1e6:.0f} M parameters", ""]
    lines += [
        "| step | seconds | ratio to published | FLOP ratio | pairs trained / scored a second | of peak | selecting |"
    ]
    lines += ["|---|---:|---:|---:|---:|---:|---:|"]
    for name, step in report["steps"].items():
        peak = "unknown" if step["share_of_peak"] is None else f"{step['share_of_peak']:.0%}"
        lines.append(
            f"| {name} | {step['seconds']:.3f} | {Ratio(**step['ratio'])} | {step['flops_ratio']:.2f} | "
            f"{step['pairs_trained_per_second']:.1f} / {step['pairs_scored_per_second']:.1f} | {peak} | "
            f"{step['selecting_share']:.2%} |"
        )
    lines.append(f"peak memory of the process: {report['peak_resident_gib']:.2f} GiB")
    return "\n".join(lines)


def run(model_arguments: ModelArguments, arguments: BenchmarkArguments) -> dict:
    model = build_model(model_arguments, Vocabulary(), arguments.seed)
    bench = Bench(model, arguments, model_arguments.image_size)
    steps = time_steps(bench)
    return {
        "device": torch.cuda.get_device_name() if bench.device.type == "cuda" else "CPU",
        "precision": "bf16" if arguments.bf16 else "fp32",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "arguments": vars(arguments) | {"image_size": model_arguments.image_size},
        "steps": steps,
        "peak_resident_gib": peak_memory(torch.device("cpu")) / 2**30,
    }


def main(arguments: list[str] | None = None) -> None:
    time_command((ModelArguments, BenchmarkArguments), run, format_table, arguments)


if __name__ == "__main__":
    main()
