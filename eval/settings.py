"""How the benchmarks are run: everything that a user may choose and that the runners read."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


#: Settings that change how long a run takes or what is shown, never a figure.
_WITHOUT_EFFECT = ("cache", "out", "show_films", "num_workers")
#: Settings that only the named tasks read; all tasks read the others.
OF_TASKS: dict[str, tuple[str, ...]] = {
    "prompts": ("zero_shot", "grounding"),
    "map_method": ("grounding",),
    "threshold": ("zero_shot",),
    "label_shares": ("disease_prediction",),
    "num_seeds": ("disease_prediction",),
    "probe_features": ("disease_prediction",),
    "decoder_epochs": ("segmentation",),
    "predictions": ("report_generation",),
    "text_conventions": ("report_generation",),
    "radeval_metrics": ("report_generation",),
    "study_rule": ("zero_shot", "disease_prediction"),
}
#: `modeling_chexficient.heat_maps_chexficient.METHODS`, which takes seconds to import.
MAP_METHODS = ("layercam", "gradient", "similarity")
#: Rules by which films of one study are judged as one (`eval.study_level`).
NONE, MEAN_SCORE, MAX_SCORE, MEAN_EMBEDDING = "none", "mean_score", "max_score", "mean_embedding"
STUDY_RULES = (NONE, MEAN_SCORE, MAX_SCORE, MEAN_EMBEDDING)
#: Methods of `eval.models.encoders.EvaluationModel` that give a probe its features.
PROBE_FEATURES = {"tower": "tower_features", "embedding": "embed_images"}
#: Types of mixed precision, by their names in torch; None: no mixed precision.
PRECISIONS = {"fp32": None, "fp16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True)
class EvaluationSettings:
    """Settings of a run.

    Args:
        batch_size: films a forward pass.
        num_workers: processes that decode films; 0: none beside the one that computes.
        precision: "fp32", "fp16" or "bf16" of the image tower (the published evaluation: fp16); "auto" is fp16 on a
            GPU and fp32 without one. Embeddings and all figures are fp32 or better.
        resamples: bootstrap resamples of the intervals.
        seed: of the bootstrap, of label shares and of decoders.
        limit: only so many of the first films of every split, for a trial; None: all.
        cache: folder of embeddings that are computed once; None: none are kept.
        out: folder of results, for artifacts (`eval.artifacts`); None: none are kept.
        prompts: name of a prompt family or path of a file of one's own; None: the benchmark's.
        threshold: rule by which a threshold is chosen on validation: "youden" or "sensitivity=0.95".
        label_shares: shares of the training labels for probes, each 0 to 1, nested.
        num_seeds: samples of each label share below 1.
        probe_features: what probes see of a film, of unit length: "tower" (the tower's pooled feature, for a ViT the
            CLS token, as published) or "embedding" (what a dual encoder compares with texts).
        decoder_epochs: passes over the training films of a decoder (segmentation); None: the runner's.
        predictions: file of generated reports (JSON lines with record_id and report) to score in place of the model's.
        text_conventions: of BLEU and ROUGE-L, reported beside that of words: "r2gen_iu", "r2gen_mimic", or "r2gen",
            that of the benchmark's corpus (`eval.tasks.text_conventions`).
        radeval_metrics: of the package radeval, reported beside ours (`eval.tasks.radeval_metrics`).
        study_rule: how films of one study are judged as one, of `STUDY_RULES`; "none": each by itself.
        map_method: how heat maps are made, of `MAP_METHODS`; None: the first.
        show_films: keep films and texts in artifacts (`eval.suite` sets it where the data are open).
    """

    batch_size: int = 64
    num_workers: int = 0
    precision: str = "auto"
    resamples: int = 1000
    seed: int = 0
    limit: int | None = None
    cache: Path | None = None
    out: Path | None = None
    prompts: str | None = None
    threshold: str = "youden"
    label_shares: tuple[float, ...] = (0.01, 0.1, 1.0)
    num_seeds: int = 5
    probe_features: str = "tower"
    decoder_epochs: int | None = None
    predictions: Path | None = None
    text_conventions: tuple[str, ...] = ()
    radeval_metrics: tuple[str, ...] = ()
    study_rule: str = NONE
    map_method: str | None = None
    show_films: bool = False

    def __post_init__(self):
        for name, least in (("batch_size", 1), ("resamples", 2), ("limit", 1), ("num_seeds", 1), ("decoder_epochs", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}, it must be at least {least}")
        if self.precision not in ("auto", *PRECISIONS):
            raise ValueError(f"precision {self.precision!r} is unknown, there are {['auto', *PRECISIONS]}")
        if self.probe_features not in PROBE_FEATURES:
            raise ValueError(f"probe_features {self.probe_features!r} are unknown, there are {sorted(PROBE_FEATURES)}")
        if self.study_rule not in STUDY_RULES:
            raise ValueError(f"study_rule {self.study_rule!r} is unknown, there are {list(STUDY_RULES)}")
        if self.map_method not in (None, *MAP_METHODS):
            raise ValueError(f"map_method {self.map_method!r} is unknown, there are {list(MAP_METHODS)}")
        if self.predictions is not None and not self.predictions.is_file():
            raise ValueError(f"--predictions {self.predictions}: there is no such file")
        wrong = [share for share in self.label_shares if not 0 < share <= 1]
        if wrong or not self.label_shares:
            raise ValueError(f"label_shares are {list(self.label_shares)}: give shares above 0 and up to 1")

    def autocast_type(self, device: str) -> torch.dtype | None:
        """The type of mixed precision on a kind of device ("cuda", "cpu"); None: no mixed precision."""
        automatic = "fp16" if device == "cuda" else "fp32"
        name = PRECISIONS[automatic if self.precision == "auto" else self.precision]
        # Here, since the settings are read before a command knows whether it works: torch takes seconds.
        import torch

        return None if name is None else getattr(torch, name)

    def relevant(self, task: str) -> dict:
        """What a result of a task depends on, as plain values: equal settings give equal figures."""
        values = {name: value for name, value in dataclasses.asdict(self).items() if name not in _WITHOUT_EFFECT}
        # Results from before these could be chosen have the same figures.
        for name in ("text_conventions", "radeval_metrics"):
            if not values[name]:
                del values[name]
        if self.study_rule == NONE:
            del values["study_rule"]
        # Results of reports name it, from when a decoder wrote them.
        of_old = {"decoder_epochs": None} if task == "report_generation" else {}
        if self.predictions is not None:
            # Its content counts, wherever it lies.
            values["predictions"] = hashlib.sha256(self.predictions.read_bytes()).hexdigest()
        return of_old | {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if task in OF_TASKS.get(name, (task,))
        }
