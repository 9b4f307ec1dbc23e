"""What commands that run a model over anybody's films have in common: arguments, processes, and what they say."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from accelerate import PartialState
from transformers import HfArgumentParser

from data_scripts.command_line import check_at_least_one, command_name
from data_scripts.progress import quiet_libraries
from eval.films.files import FilmRules
from eval.models.encoders import EvaluationModel
from eval.models.load import load_evaluation_model
from eval.provenance import processor_sha256
from eval.settings import EvaluationSettings
from modeling_chexficient.image_processing_chexficient_files import FRAMES
from modeling_chexficient.precision_chexficient import place


@dataclass
class FilmArguments:
    """Arguments of commands that run a model over films."""

    model: str = field(metadata={"help": "Model, adapter or run folder, or Hub id."})
    out: str = field(metadata={"help": "Where the results go; OUT.skipped.jsonl beside it lists what was left out."})
    films: str | None = field(
        default=None,
        metadata={
            "help": "Folder (and all below it), film, or table (CSV, Parquet ...) with the column path, optionally "
            "id, study and patient."
        },
    )
    strict: bool = field(default=False, metadata={"help": "End with exit code 1 where anything was skipped."})
    modalities: list[str] = field(
        default_factory=lambda: list(FilmRules.modalities), metadata={"help": "DICOM: accepted modalities."}
    )
    any_body_part: bool = field(default=False, metadata={"help": "DICOM: accept body parts other than the chest."})
    for_processing: bool = field(default=False, metadata={"help": "DICOM: also take raw detector data."})
    multi_frame: str | None = field(
        default=None, metadata={"help": "DICOM: which of several frames; default: skip.", "choices": list(FRAMES)}
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "Run code that comes with the model."})
    revision: str | None = field(default=None, metadata={"help": "Commit or branch of a model of the Hub."})
    base: str | None = field(default=None, metadata={"help": "Place of an adapter's base, if it was moved."})

    @property
    def rules(self) -> FilmRules:
        return FilmRules(tuple(self.modalities), self.any_body_part, self.for_processing, self.multi_frame)


@dataclass
class FilmTableArguments(FilmArguments):
    """Arguments of commands that write a row for each film."""

    out: str = field(metadata={"help": "Parquet file to write; OUT.skipped.jsonl beside it lists what was left out."})
    batch_size: int = field(default=64, metadata={"help": "Films or texts a forward pass."})
    part_size: int = field(default=256, metadata={"help": "Rows that are saved together: what a kill can cost."})
    num_workers: int = field(default=0, metadata={"help": "Processes that read films."})
    precision: str = field(default="auto", metadata={"help": "Of the image tower: auto, fp32, fp16 or bf16."})
    reduced_decoding: bool = field(
        default=False,
        metadata={"help": "Decode large JPEG and JPEG 2000 at a part of their size: quicker, greys differ a little."},
    )

    def __post_init__(self):
        _ = self.settings
        check_at_least_one(self, "part_size")
        if Path(self.out).suffix != ".parquet":
            raise ValueError(f"--out {self.out}: the file is Parquet, let its name end in .parquet")
        if Path(self.out).is_dir():
            raise ValueError(f"--out {self.out} is a folder: name a file in it")

    @property
    def rules(self) -> FilmRules:
        return replace(super().rules, reduced_decoding=self.reduced_decoding)

    @property
    def settings(self) -> EvaluationSettings:
        return EvaluationSettings(batch_size=self.batch_size, num_workers=self.num_workers, precision=self.precision)


def describe_model(model: EvaluationModel, settings) -> dict:
    """What tells whether another run has the same model, for the metadata of a file."""
    return {
        "model": model.name,
        "model_identity": model.identity,
        "image_processor_sha256": processor_sha256(model),
        "precision": str(settings.autocast_type(model.device.type) or torch.float32).removeprefix("torch."),
    }


def run_command(
    kind: type[FilmArguments],
    run: Callable[..., tuple[int, dict[str, int]]],
    arguments: list[str] | None = None,
) -> None:
    """Read the arguments, load the model, `run(model, arguments)`, and say what came of it and what was left out.

    Exits with 1 on what `run` refuses, and with `--strict` where anything was left out.
    """
    quiet_libraries()
    try:
        (parsed,) = HfArgumentParser(kind, prog=command_name()).parse_args_into_dataclasses(arguments)
        # Joins the processes of accelerate launch; without a GPU that has to be asked for.
        state = PartialState(cpu=not torch.cuda.is_available())
        model = load_evaluation_model(parsed.model, parsed.trust_remote_code, parsed.revision, parsed.base)
        place(model.model, state.device)
        count, skipped = run(model, parsed)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    if state.is_main_process:
        _report(Path(parsed.out), count, "films" if parsed.films else "texts", skipped)
    sys.exit(1 if parsed.strict and skipped else 0)


def _report(out: Path, count: int, what: str, skipped: dict[str, int]) -> None:
    """Say how many rows there are and what was left out: by its cause alone, since file names may tell patients."""
    print(f"{count:,} {what} in {out}")
    if skipped:
        causes = ", ".join(f"{number:,} {kind}" for kind, number in sorted(skipped.items()))
        print(f"{sum(skipped.values()):,} left out ({causes}): see {out.with_suffix('.skipped.jsonl')}")
