"""Judge a model on prepared data.

    python -m eval.run --model runs/demo/model --data runs/demo/data

Writes `BENCHMARK.json`, `BENCHMARK.scores.safetensors` (the score of every film, so that runs can be compared in
pairs) and `BENCHMARK.png`, and prints a table.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from datasets import Dataset, DatasetDict
from transformers import AutoModel, AutoProcessor, HfArgumentParser

import modeling_chexficient  # noqa: F401 (registers the model with the Auto classes)
from data_scripts.prepared import load_prepared
from data_scripts.schema import DataError
from eval.benchmarks import BENCHMARKS, Benchmark
from eval.figures import plot_zero_shot
from eval.labels import fingerprint, prevalences
from eval.prompts import PROMPT_FAMILIES
from eval.results import Estimate, Provenance, ZeroShotResult, git_commit, package_versions, weights_sha256
from eval.scores import ZeroShotScores, scores_path
from eval.zero_shot import judge, score_split


@dataclass
class EvaluationArguments:
    """Arguments of `eval.run`."""

    model: str = field(metadata={"help": "Model folder or Hub id."})
    data: str = field(metadata={"help": "Prepared dataset folder."})
    out: str | None = field(default=None, metadata={"help": "Results folder; default: results/ beside the model."})
    benchmark: str = field(default="zero_shot_findings", metadata={"choices": sorted(BENCHMARKS)})
    prompts: str | None = field(
        default=None, metadata={"help": f"Prompt family: {', '.join(PROMPT_FAMILIES)}; default: the benchmark's."}
    )
    batch_size: int = field(default=64, metadata={"help": "Films a forward pass."})
    resamples: int = field(default=1000, metadata={"help": "Bootstrap resamples."})
    seed: int = field(default=0, metadata={"help": "Seed of the bootstrap."})
    limit: int | None = field(default=None, metadata={"help": "Only the first films, for a trial; marked as such."})
    trust_remote_code: bool = field(default=False, metadata={"help": "Run code that comes with the model."})

    def __post_init__(self):
        for name, least in (("batch_size", 1), ("resamples", 2), ("limit", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}, it must be at least {least}")
        if self.out is None and not Path(self.model).is_dir():
            raise ValueError(f"{self.model!r} is not a folder: say with --out where the results go")


def load_data(folder: str, split: str) -> tuple[DatasetDict, Dataset]:
    """All splits of a prepared folder, and the one asked for.

    Raises:
        DataError: the folder is no prepared dataset (see `load_prepared`), or lacks the split.
    """
    splits = load_prepared(folder, ("image", "labels", "patient_id"))
    if split not in splits:
        raise DataError(f"--data {folder!r} has no split {split!r}, it has {sorted(splits)}")
    return splits, splits[split]


def evaluate_zero_shot(
    model, processor, benchmark: Benchmark, arguments: EvaluationArguments
) -> tuple[ZeroShotResult, ZeroShotScores]:
    """Run one zero-shot benchmark: the result, and the scores that it was computed from.

    Raises:
        ValueError: the data cannot be judged (DataError, see `load_data` and `score_split`), or no label has both
            positive and negative films.
    """
    started = time.perf_counter()
    splits, dataset = load_data(arguments.data, benchmark.split)
    if arguments.limit is not None:
        dataset = dataset.select(range(min(arguments.limit, len(dataset))))
    prompts = arguments.prompts or benchmark.prompts
    split = score_split(model, processor, dataset, benchmark.labels, prompts, arguments.batch_size)
    frequency_split = "train" if "train" in splits else benchmark.split
    labels, macros = judge(
        split, prevalences(splits[frequency_split]), benchmark.rare_below, arguments.resamples, arguments.seed
    )
    if macros["macro"].value is None:
        raise ValueError(f"no label of split {benchmark.split!r} has both positive and negative films: no AUROC")
    trained_on = list(getattr(model.config, "pretraining_sources", None) or [])
    sources = set(dataset.unique("source")) if "source" in dataset.column_names else set()
    provenance = Provenance(
        model=arguments.model,
        model_sha256=weights_sha256(arguments.model),
        dataset=arguments.data,
        dataset_fingerprint=fingerprint(dataset),
        split=benchmark.split,
        films=len(dataset),
        patients=len(set(split.patients)),
        seed=arguments.seed,
        resamples=arguments.resamples,
        limited=arguments.limit is not None,
        pretraining_sources=trained_on,
        seen_sources=sorted(sources & set(trained_on)),
        git_commit=git_commit(),
        packages=package_versions(),
        seconds=time.perf_counter() - started,
    )
    result = ZeroShotResult(
        benchmark=benchmark.name,
        benchmark_version=benchmark.version,
        prompts=prompts,
        **macros,
        rare_below=benchmark.rare_below,
        prevalence_from=frequency_split,
        labels=labels,
        undefined=[label.name for label in labels if label.auroc.value is None],
        provenance=provenance,
    )
    return result, split


def save_zero_shot(result: ZeroShotResult, split: ZeroShotScores, folder: Path) -> Path:
    """Write the result, the scores it was computed from and the picture; returns the path of the result."""
    path = folder / f"{result.benchmark}.json"
    # The scores first: a result never names scores that are not there.
    digest = split.save(scores_path(path))
    dataclasses.replace(result, scores_sha256=digest).save(path)
    plot_zero_shot(result, path.with_suffix(".png"))
    return path


def format_estimate(estimate: Estimate) -> str:
    if estimate.value is None:
        return "not defined"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def format_table(result: ZeroShotResult) -> str:
    """The result as text: findings by frequency, common and rare apart, then the means."""
    lines = [f"{'finding':28} {'AUROC [95 % interval]':24} {'positive / films':>16} {'in training':>12}"]
    for rare, title in ((False, "common"), (True, f"rare (below {result.rare_below:.0%} of training films)")):
        group = sorted((one for one in result.labels if one.rare == rare), key=lambda one: -one.prevalence)
        if group:
            lines.append(f"-- {title}")
        for one in group:
            films = f"{one.positives} / {one.films}"
            lines.append(f"{one.name:28} {format_estimate(one.auroc):24} {films:>16} {one.prevalence:>12.2%}")
    lines.append("-- mean")
    for name, estimate in (("all", result.macro), ("common", result.macro_common), ("rare", result.macro_rare)):
        lines.append(f"{name:28} {format_estimate(estimate):24}")
    provenance = result.provenance
    if provenance.limited:
        lines.append(f"PARTIAL: the first {provenance.films} films only")
    if provenance.seen_sources:
        lines.append(
            f"note: the model was trained on other films of {', '.join(provenance.seen_sources)}; this is a held-out "
            "split, not an unseen source"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    try:
        (parsed,) = HfArgumentParser(EvaluationArguments).parse_args_into_dataclasses(arguments)
        benchmark = BENCHMARKS[parsed.benchmark]
        model = AutoModel.from_pretrained(parsed.model, trust_remote_code=parsed.trust_remote_code)
        processor = AutoProcessor.from_pretrained(parsed.model, trust_remote_code=parsed.trust_remote_code)
        model = model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
        result, split = evaluate_zero_shot(model, processor, benchmark, parsed)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    out = Path(parsed.out or Path(parsed.model).with_name("results"))
    path = save_zero_shot(result, split, out)
    print(format_table(result))
    print(f"results in {path}, picture in {path.with_suffix('.png')}")


if __name__ == "__main__":
    main()
