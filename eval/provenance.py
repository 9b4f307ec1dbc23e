"""What is needed to know what a figure means, and to get it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from accelerate import PartialState
from datasets import Dataset

from data_scripts.prepared.labels import fingerprint
from eval.benchmarks import Benchmark
from eval.records.provenance import Provenance, git_commit, package_versions
from eval.settings import EvaluationSettings
from modeling_chexficient import base_identity_chexficient

if TYPE_CHECKING:
    from eval.models.encoders import EvaluationModel


def describe(benchmark: Benchmark, model: EvaluationModel, films: Dataset, settings: EvaluationSettings) -> Provenance:
    """The provenance of a result on `films`; the folder of the data and the duration are filled in by `eval.run`."""
    trained_on = set(model.pretraining_sources)
    sources = set(films.unique("source")) if "source" in films.column_names else set()
    return Provenance(
        model=model.name,
        model_sha256=model.weights_sha256,
        dataset=benchmark.dataset,
        dataset_fingerprint=films_fingerprint(benchmark, films),
        split=benchmark.split,
        films=len(films),
        patients=len(films.unique("patient_id")),
        seed=settings.seed,
        resamples=settings.resamples,
        limited=settings.limit is not None,
        pretraining_sources=sorted(trained_on),
        seen_sources=sorted((sources | set(benchmark.exposure)) & trained_on),
        git_commit=git_commit(),
        packages=package_versions(),
        seconds=0.0,
        revision=model.revision,
        settings=settings.relevant(benchmark.task),
        processes=PartialState().num_processes,
        processor_sha256=processor_sha256(model),
        outputs=model.outputs,
    )


def films_fingerprint(benchmark: Benchmark, films: Dataset) -> str:
    """Hash of what the task evaluates against: labels, and the texts where it is about texts."""
    texts = ("findings", "impression") if benchmark.task in ("retrieval", "report_generation") else ()
    return fingerprint(films, ("record_id", "labels", *texts))


def processor_sha256(model: EvaluationModel) -> str | None:
    """Hash of how a model's image processor makes pixels; None without a processor."""
    processor = getattr(model, "image_processor", None)
    return None if processor is None else base_identity_chexficient.processor_sha256(processor)
