"""The arguments of `eval.run`; apart from its work, which takes seconds to import."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from eval.benchmarks import BENCHMARKS, SUITES
from eval.prompts import PROMPT_FAMILIES, find_prompts
from eval.settings import MAP_METHODS, NONE, OF_TASKS, PRECISIONS, PROBE_FEATURES, STUDY_RULES, EvaluationSettings
from eval.tasks.radeval_metrics import INSTALL, check_radeval
from eval.tasks.text_conventions import CONVENTIONS
from eval.tasks.thresholds import parse_rule

_DEFAULT = "zero_shot_findings"


@dataclass
class EvaluationArguments:
    """Arguments of `eval.run`; those below `data` are `eval.settings.EvaluationSettings`."""

    model: list[str] = field(
        metadata={"help": "Model, adapter or run folders, or Hub ids; hog: a baseline without weights."}
    )
    data: str = field(metadata={"help": "Folder of prepared folders, or one prepared folder."})
    suite: str | None = field(default=None, metadata={"help": "Benchmarks together.", "choices": sorted(SUITES)})
    benchmark: list[str] = field(
        default_factory=list,
        metadata={"help": f"One benchmark or several; default: {_DEFAULT}.", "choices": sorted(BENCHMARKS)},
    )
    out: str | None = field(
        default=None, metadata={"help": "Results folder; default: results/ beside the model or in the run."}
    )
    cache: str | None = field(default=None, metadata={"help": "Folder of embeddings; default: OUT/.cache."})
    again: bool = field(default=False, metadata={"help": "Evaluate also what is finished."})
    prompts: str | None = field(
        default=None,
        metadata={
            "help": f"Prompt family ({', '.join(PROMPT_FAMILIES)}), or a YAML or JSON file; default: the benchmark's."
        },
    )
    threshold: str = field(default="youden", metadata={"help": "Rule of thresholds: youden, or sensitivity=0.95."})
    label_shares: list[float] = field(
        default_factory=lambda: [0.01, 0.1, 1.0], metadata={"help": "Shares of the training labels of probes."}
    )
    num_seeds: int = field(default=5, metadata={"help": "Draws of each label share below 1."})
    probe_features: str = field(
        default="tower",
        metadata={
            "help": "What probes see: the tower's pooled feature (published), or the embedding that texts are compared "
            "with.",
            "choices": sorted(PROBE_FEATURES),
        },
    )
    decoder_epochs: int | None = field(default=None, metadata={"help": "Passes over the films that decoders train on."})
    predictions: str | None = field(
        default=None, metadata={"help": "JSON lines (record_id, report) to score in place of the model's reports."}
    )
    text_conventions: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Conventions of BLEU and ROUGE-L reported beside ours; r2gen: that of the benchmark's corpus.",
            "choices": list(CONVENTIONS),
        },
    )
    radeval_metrics: list[str] = field(
        default_factory=list,
        metadata={"help": f"Metrics of the package radeval ({INSTALL}) reported beside ours, as bleu rouge radgraph."},
    )
    map_method: str | None = field(
        default=None,
        metadata={"help": "Of heat maps; default: layercam.", "choices": list(MAP_METHODS)},
    )
    study_rule: str = field(
        default=NONE,
        metadata={
            "help": "How films of one study are judged as one (zero-shot, probes, heads of findings).",
            "choices": list(STUDY_RULES),
        },
    )
    batch_size: int = field(default=64, metadata={"help": "Films a forward pass."})
    num_workers: int = field(default=0, metadata={"help": "Processes that decode films."})
    precision: str = field(
        default="auto", metadata={"help": "Of the image tower; auto: fp16 on a GPU.", "choices": ["auto", *PRECISIONS]}
    )
    resamples: int = field(default=1000, metadata={"help": "Bootstrap resamples."})
    seed: int = field(default=0, metadata={"help": "Seed of the bootstrap, of label shares and decoders."})
    limit: int | None = field(default=None, metadata={"help": "Only the first films, for a trial; marked as such."})
    show_films: bool = field(
        default=False, metadata={"help": "Keep films and texts for pictures although the data are not open."}
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "Run code that comes with the model."})
    revision: str | None = field(default=None, metadata={"help": "Commit or branch of models of the Hub."})
    base: str | None = field(
        default=None, metadata={"help": "Place of the base of those that are adapters, if it is not the one they name."}
    )

    def __post_init__(self):
        if self.suite is not None and self.benchmark:
            raise ValueError("give --suite or --benchmark, not both")
        if len(set(self.benchmark)) < len(self.benchmark):
            raise ValueError(f"--benchmark names one twice: {self.benchmark}")
        if len(set(self.model)) < len(self.model):
            raise ValueError(f"--model names a model twice: {self.model}")
        if self.out is None and len(self.model) > 1:
            raise ValueError("there are several models: say with --out where the results go")
        if self.out is None and not Path(self.model[0]).is_dir():
            raise ValueError(f"{self.model[0]!r} is not a folder: say with --out where the results go")
        # Refuse now what every benchmark would refuse.
        find_prompts(self.prompts or "published")
        parse_rule(self.threshold)
        if self.radeval_metrics:
            check_radeval()
        if len(set(self.radeval_metrics)) < len(self.radeval_metrics):
            raise ValueError(f"--radeval_metrics names one twice: {self.radeval_metrics}")
        self._refuse_what_does_nothing(self.settings(Path()))

    def _refuse_what_does_nothing(self, settings: EvaluationSettings) -> None:
        tasks = {BENCHMARKS[name].task for name in self.benchmarks}
        for setting, readers in OF_TASKS.items():
            given = getattr(settings, setting) != getattr(EvaluationSettings(), setting)
            if given and tasks.isdisjoint(readers):
                raise ValueError(
                    f"--{setting} is of benchmarks of {' and '.join(readers)}, which none of "
                    f"{', '.join(self.benchmarks)} is: leave it out"
                )

    @property
    def benchmarks(self) -> tuple[str, ...]:
        return SUITES[self.suite] if self.suite is not None else tuple(self.benchmark or (_DEFAULT,))

    @property
    def results_folder(self) -> Path:
        model = Path(self.model[0])
        return Path(self.out or (model / "results" if (model / "run.json").is_file() else model.with_name("results")))

    @property
    def folders(self) -> list[Path]:
        """The folder of each model's results."""
        out = self.results_folder
        return [out] if len(self.model) == 1 else [out / name for name in folder_names(self.model)]

    def settings(self, out: Path) -> EvaluationSettings:
        """The settings of a model whose results go to `out`. Raises ValueError for values out of range."""
        names = {setting.name for setting in dataclasses.fields(EvaluationSettings)} & {*vars(self)} - {"out", "cache"}
        values = {name: getattr(self, name) for name in names}
        values |= {name: tuple(getattr(self, name)) for name in ("label_shares", "text_conventions", "radeval_metrics")}
        values |= {"predictions": self.predictions and Path(self.predictions)}
        return EvaluationSettings(
            **values, out=out, cache=Path(self.cache) if self.cache else self.results_folder / ".cache"
        )


def folder_names(models: list[str]) -> list[str]:
    """A folder name for each model: the last parts of its path or id, as many as tell them apart."""
    parts = [Path(model).parts for model in models]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["-".join(part[-count:]).replace("/", "").strip("-") for part in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{number}-{Path(model).name}" for number, model in enumerate(models)]
