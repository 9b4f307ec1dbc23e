"""Reports: a language model that sees the patches of a film learns to write what the radiologist wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from torch import Tensor, nn
from transformers import AutoConfig, LlavaProcessor, PreTrainedTokenizerBase, set_seed

from data_scripts.prepared.columns import read_column
from data_scripts.prepared.films import FilmDataset, film_pixels
from data_scripts.prepared.mixture import Mixture
from data_scripts.schema import VIEWS
from eval.benchmarks import Benchmark
from eval.tasks.report_generation import rows_with_report
from modeling_chexficient.configuration_chexficient_report import CheXficientReportConfig
from modeling_chexficient.modeling_chexficient_report import CheXficientForReportGeneration
from modeling_chexficient.precision_chexficient import loading_arguments
from modeling_chexficient.prompts_chexficient import report_prompt
from modeling_chexficient.tasks_chexficient import TASKS
from modeling_chexficient.texts_chexficient import longest_text
from train.adapt.arguments import MethodArguments, TaskArguments
from train.adapt.augmentation import Augmentation
from train.adapt.base import load_config
from train.adapt.films import choose_films, load_splits
from train.adapt.methods import Parts
from train.adapt.report_texts import IGNORED, ReportEncoder, pad_texts
from train.adapt.report_tokenizer import learn_report_tokenizer
from train.adapt.tasks import Task, rows_of
from train.runs.recipes import as_mapping

_COLUMNS = ("image", "report", "view", "patient_id")


@dataclass
class ReportArguments:
    """The language model of task report_generation; a base that writes reports already brings its own."""

    language_model: str | None = field(
        default=None, metadata={"help": "Reports: name or folder of a causal language model to start from."}
    )
    language_model_config: str | None = field(
        default=None,
        metadata={"help": "Reports: configuration of a new language model: a mapping in YAML, JSON here."},
    )
    tokenizer: str | None = field(
        default=None,
        metadata={
            "help": "Reports: name or folder of the tokenizer; default: the language model's, or for a new one a "
            "vocabulary learnt from the training reports."
        },
    )
    image_size: int | None = field(
        default=None, metadata={"help": "Reports: side of the images in pixels; default: the vision model's."}
    )
    max_text_length: int = field(
        default=256, metadata={"help": "Reports: longest report in tokens; longer ones are cut and counted."}
    )

    def __post_init__(self):
        self.language_model_config = as_mapping("language_model_config", self.language_model_config)
        if self.max_text_length < 2:
            raise ValueError(f"max_text_length is {self.max_text_length}, it must be at least 2 tokens")
        if self.language_model is not None and self.language_model_config is not None:
            raise ValueError("give language_model (a pretrained one) or language_model_config (a new one), not both")

    @property
    def given(self) -> list[str]:
        """What was said about the language model."""
        names = ("language_model", "language_model_config", "tokenizer", "image_size")
        return [name for name in names if getattr(self, name) is not None]

    @property
    def changed(self) -> list[str]:
        """What differs from the defaults, which other tasks than reports would not look at."""
        return [option.name for option in fields(self) if getattr(self, option.name) != option.default]

    def check(self, base_writes: bool, method: str) -> None:
        """Raise ValueError where there is no language model, one too many, or a new one that LoRA cannot teach."""
        if base_writes and self.given:
            raise ValueError(f"model writes reports and brings its own language model: leave out {self.given}")
        if not base_writes and self.language_model is None and self.language_model_config is None:
            raise ValueError("report_generation needs language_model (a pretrained one) or language_model_config")
        if self.language_model_config is not None and method != "full":
            raise ValueError(f"a new language model has all to learn: give method full, not {method}")


class ReportedFilms(FilmDataset):
    """Films with their reports, and view and indication where the data have them."""

    def __init__(self, dataset: Dataset, rows: np.ndarray):
        wanted = ("image", "report", "view", "indication")
        super().__init__(dataset, rows, [name for name in wanted if name in dataset.column_names])


@dataclass
class ReportsTask(Task):
    """Report generation; see `Task`.

    Args:
        max_text_length: longest report in tokens, its end included; longer ones are cut.
    """

    not_judged: ClassVar[float] = IGNORED

    max_text_length: int = 256

    def __post_init__(self):
        positions = longest_text(self.model.config.text_config)
        self.encoder = ReportEncoder(self.processor, self.max_text_length, positions)

    def collate(self, films: list[dict]) -> dict[str, Tensor]:
        """`rows`, `pixel_values`, and `input_ids`, `attention_mask` and `labels` [B, longest text], padded on the
        right; prompt, image and padding are -100 in the labels.
        """
        size = self.image_processor.size["shortest_edge"]
        texts = [self.encoder.encode(film) for film in films]
        return {
            "rows": rows_of(films),
            "pixel_values": film_pixels([film["image"] for film in films], size),
            **pad_texts(texts, self.processor.tokenizer.pad_token_id),
        }

    def inputs(self, batch: dict[str, Tensor], epoch: int | None) -> dict[str, Tensor]:
        pixels, _ = self.films(batch, epoch)
        return {"pixel_values": pixels, **{name: batch[name] for name in ("input_ids", "attention_mask", "labels")}}

    def judged(self, batch: dict[str, Tensor], epoch: int) -> Tensor:
        """Tokens to be predicted, [1]; the first token of a text is not."""
        return (batch["labels"][:, 1:] != IGNORED).sum().reshape(1)

    def loss(self, model: nn.Module, inputs: dict[str, Tensor], judged: Tensor) -> Tensor:
        """As the model computes it, with the tokens of the whole step to divide by."""
        return model(**inputs, num_items_in_batch=judged.clamp(min=1).squeeze(0)).loss

    def measure(self, output, batch: dict[str, Tensor]) -> Tensor:
        """Log-likelihood of each report, and its tokens: [B, 2]."""
        logits, labels = output.logits[:, :-1].float(), batch["labels"][:, 1:]
        likelihood = -F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none").sum(1)
        return torch.stack([likelihood, (labels != IGNORED).sum(1).float()], dim=1)

    def figures(self, measured: np.ndarray) -> dict[str, float]:
        """Mean log-likelihood of a token, in nats: 0 would be a certain prediction."""
        return {"log_likelihood": float(measured[:, 0].sum() / measured[:, 1].sum())}

    def benchmark(self, name: str, dataset: str, test: Dataset) -> Benchmark:
        return Benchmark(f"{name}_reports", 1, TASKS["report_generation"].runner, dataset, "clinical F1")


def build_reports(
    arguments: TaskArguments,
    reports: ReportArguments,
    method: MethodArguments,
    mixture: Mixture,
    augmentation: Augmentation,
    seed: int,
) -> ReportsTask:
    """The task of a run.

    With lora and linear, the base (tower and language model) is loaded as `base_precision` says; by default in bf16
    where the language model was saved in bf16 or fp16, and never in fp32 on the way. What is trained is fp32: the
    projector and LoRA. fp16 becomes bf16, since the small gradients of a backward pass are zero in fp16.

    Raises:
        ValueError: no such base or language model, both or neither given, a tokenizer that does not fit, (DataError) no
            film with a report, or more tokens than the language model has positions.
    """
    base_writes = _writes_reports(arguments)
    reports.check(base_writes, method.method)
    augmentation.check_names(["left and right in reports"])
    train, validation = load_splits(mixture, _COLUMNS)

    def usable(split: Dataset) -> np.ndarray:
        return np.asarray(rows_with_report(split), dtype=np.int64)

    splits = choose_films(train, validation, usable, lambda split, rows: len(rows) > 0, arguments.label_share, seed)
    texts = read_column(train, "report", splits.train_rows)
    set_seed(seed)
    precision = base_precision(arguments.model if base_writes else reports.language_model, method)
    model, processor = (
        load_writer(arguments.model, arguments.revision, precision)
        if base_writes
        else _compose(arguments, reports, texts, precision)
    )
    adapted = ["model.language_model", *(["model.vision_tower"] if method.adapt_tower else [])]
    task = ReportsTask(
        name=TASKS["report_generation"].hub_name,
        model=model,
        parts=Parts("model.vision_tower", ("model.multi_modal_projector",), tuple(adapted)),
        processor=processor,
        head={},
        train_dataset=ReportedFilms(train, splits.train_rows),
        validation_dataset=ReportedFilms(splits.validation, splits.validation_rows),
        splits=splits,
        augmentation=augmentation,
        seed=seed,
        metric="log_likelihood",
        notes=list(splits.notes),
        base_made_here=not base_writes,
        base_precision=precision,
        max_text_length=reports.max_text_length,
    )
    _count(task, texts, len(train) - len(usable(train)))
    return task


def _writes_reports(arguments: TaskArguments) -> bool:
    config = AutoConfig.from_pretrained(arguments.model, revision=arguments.revision or "main")
    if config.model_type == CheXficientReportConfig.model_type:
        return True
    # Refuses what is no vision model.
    load_config(arguments.model, arguments.revision)
    return False


def base_precision(language_model: str | None, method: MethodArguments) -> str:
    """What the base is held in: as said; else as the language model was saved, where the base is frozen."""
    if method.base_precision is not None or method.method == "full" or language_model is None:
        return method.base_precision or "fp32"
    config = AutoConfig.from_pretrained(language_model).get_text_config()
    return "bf16" if config.dtype in (torch.bfloat16, torch.float16) else "fp32"


def load_writer(
    name: str, revision: str | None, precision: str
) -> tuple[CheXficientForReportGeneration, LlavaProcessor]:
    """A model that writes reports, loaded for `precision`, and its processor."""
    source, loading = {"revision": revision or "main"}, loading_arguments(precision, head_on_tower=False)
    model = CheXficientForReportGeneration.from_pretrained(name, **source, **loading)
    return model, LlavaProcessor.from_pretrained(name, **source)


def _compose(
    arguments: TaskArguments, reports: ReportArguments, texts: Sequence[str], precision: str
) -> tuple[CheXficientForReportGeneration, LlavaProcessor]:
    """Tower and language model put together; what is to be quantised is in bf16 until it has been saved."""
    tokenizer: str | PreTrainedTokenizerBase | None = reports.tokenizer
    if tokenizer is None and reports.language_model_config is not None:
        prompts = ["USER: ", "\nASSISTANT:", *(report_prompt("-", view) for view in VIEWS)]
        tokenizer = learn_report_tokenizer(texts, prompts)
    return CheXficientForReportGeneration.from_vision_language(
        arguments.model,
        reports.language_model or reports.language_model_config,
        tokenizer,
        image_size=reports.image_size,
        revision=arguments.revision,
        dtype=torch.float32 if precision == "fp32" else torch.bfloat16,
    )


def _count(task: ReportsTask, reports: Sequence[str], without: int) -> None:
    """Say what is cut and what is left out."""
    cut, longest = task.encoder.count_long(reports), task.max_text_length
    task.facts |= {"reports_cut": cut, "max_text_length": longest, "films_without_report": without}
    task.facts["base_precision"] = task.base_precision
    if cut:
        task.notes.append(f"{cut:,} of {len(reports):,} training reports were cut to {longest} tokens.")
    if without:
        task.notes.append(f"{without:,} training films have no report and were left out.")
