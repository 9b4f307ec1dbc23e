"""The models and reports of a Space folder, and what they see in one film.

    space.json          what is shown: title, model, findings, prompts, sources of the reports
    model/              the dual encoder (unless `space.json` names one of the Hub)
    classification/     a trained head, optional
    segmentation/       a trained head, optional
    points/             operating points of the model and of the head for findings, optional
    reports/            index.safetensors and reports.json, optional
    examples/*.png      films to try, optional

The modelling code is that of the package `modeling_chexficient` where it is installed, else the files in the folders.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForSemanticSegmentation,
    AutoProcessor,
)

from .findings import Finding, nearest, rank_among, two_prompt_scores

try:
    # Importing the package makes the Auto classes know its models.
    from modeling_chexficient.operating_points_chexficient import DO_NOT_TRAVEL, OperatingPoints, logit_of
except ModuleNotFoundError:
    # `model_cards.space` writes this file beside.
    from .operating_points_chexficient import DO_NOT_TRAVEL, OperatingPoints, logit_of

#: Side in pixels of the film as it is shown.
SHOWN_SIDE = 560
#: Classes of a single-label head that are no structure.
_BACKGROUND = ("background", "none", "unlabeled")


@dataclass
class Reading:
    """One film as the session remembers it: `shown` uint8 [S, S, 3], `embedding` [D], `masks` bool [S, S] by number.

    `reasons` are sentences of the input check against it; `label_verdicts`: whether each label is above its operating
    point, None where it has none.
    """

    shown: np.ndarray
    embedding: Tensor
    masks: dict[int, np.ndarray] = field(default_factory=dict)
    label_outputs: list[float] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    label_verdicts: list[bool | None] = field(default_factory=list)


@dataclass
class ReportIndex:
    """Reports as `texts` and unit vectors `text_embeddings` [texts, D]; `film_embeddings` [films, D] to rank among."""

    texts: list[str]
    text_embeddings: Tensor
    film_embeddings: Tensor


class Head:
    """A trained head with its image processor; `names` of its labels or structures in the order of its outputs."""

    def __init__(self, model, image_processor):
        self.model, self.image_processor = model, image_processor
        self.names = [model.config.id2label[number] for number in range(model.config.num_labels)]
        self.single_label = model.config.problem_type == "single_label_classification"

    def logits(self, film: Image.Image) -> Tensor:
        """Of one film: [labels], or [structures, H, W]."""
        pixels = self.image_processor(film, return_tensors="pt")["pixel_values"]
        return self.model(pixel_values=pixels).logits[0].float()


class SpaceModels:
    """All that the page needs.

    Args:
        settings: of `space.json`.
        model, processor: the dual encoder.
        classification, segmentation: heads, or None.
        reports: the index, or None.
        examples: files of films to try.
        points: operating points by "model" and "classification", as far as there are some.
    """

    def __init__(
        self,
        settings: dict,
        model,
        processor,
        classification=None,
        segmentation=None,
        reports=None,
        examples=(),
        points: dict[str, OperatingPoints] | None = None,
    ):
        self.settings, self.model, self.processor = settings, model, processor
        self.classification, self.segmentation, self.reports = classification, segmentation, reports
        self.examples, self.points = list(examples), points or {}

    #: What a reader must know of operating points.
    about_points = DO_NOT_TRAVEL

    @property
    def structures(self) -> list[int]:
        """Numbers of the segmentation head's outputs that are structures."""
        if self.segmentation is None:
            return []
        head = self.segmentation
        return [n for n, name in enumerate(head.names) if not (head.single_label and name.lower() in _BACKGROUND)]

    @torch.no_grad()
    def read(self, film: Image.Image) -> Reading:
        """Everything that does not depend on prompts. Raises ValueError for an image that is no film."""
        processor = self.processor.image_processor
        # The square that the model sees, at a size for people; in [0, 1].
        square = processor(film, size=SHOWN_SIDE, do_normalize=False, return_tensors="pt")["pixel_values"][0]
        pixels = processor(film, return_tensors="pt")["pixel_values"]
        outputs, verdicts = ([], []) if self.classification is None else self._label_outputs(film)
        return Reading(
            shown=(square.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy(),
            embedding=self.model(pixel_values=pixels).image_embeds[0],
            masks={} if self.segmentation is None else self._masks(film),
            label_outputs=outputs,
            label_verdicts=verdicts,
        )

    @property
    def can_point(self) -> bool:
        """Whether the model can say where a phrase is: older code beside weights cannot."""
        return hasattr(self.model, "heat_maps")

    def point(self, reading: Reading, phrase: str) -> np.ndarray:
        """The film as it is shown under the heat map of a phrase, uint8 [S, S, 3].

        Raises:
            ValueError: the phrase is blank, or the image tower has no spatial features.
        """
        film = Image.fromarray(reading.shown)
        heat_map = self.model.heat_maps(self.processor, film, [phrase])[0][0]
        # Of the same code as the model, be that the package or the files beside the weights.
        package = type(self.model).__module__.rpartition(".")[0]
        overlay = importlib.import_module(f"{package}.heat_maps_chexficient").overlay_heat_map
        return np.asarray(overlay(film, heat_map))

    @torch.no_grad()
    def embed_prompts(self, findings: Sequence[Finding]) -> Tensor:
        """[findings, 2, D] of unit length: positive and negative prompts."""
        texts = [text for finding in findings for text in (finding.positive, finding.negative)]
        return self.model(**self.processor(text=texts)).text_embeds.unflatten(0, (-1, 2))

    def score(self, reading: Reading, findings: Sequence[Finding]) -> tuple[list[float], list[float] | None]:
        """Two-prompt scores, and their ranks among the reference films where there are some."""
        prompts = self.embed_prompts(findings)
        scores = two_prompt_scores(reading.embedding[None], prompts)[0]
        if self.reports is None:
            return scores.tolist(), None
        return scores.tolist(), rank_among(scores, two_prompt_scores(self.reports.film_embeddings, prompts)).tolist()

    def verdicts(self, findings: Sequence[Finding], scores: Sequence[float]) -> list[bool | None]:
        """Whether each score is above the operating point; None without one that was chosen with these prompts."""
        points = self.points["model"].points if "model" in self.points else {}
        scale, found = float(self.model.logit_scale.detach().exp()), []
        for finding, score in zip(findings, scores, strict=True):
            point = points.get(finding.name)
            fits = point is not None and not point.from_others
            fits = fits and point.prompts == [[finding.positive, finding.negative]]
            found.append(bool(point.is_above(scale * score)) if fits else None)
        return found

    def nearest_reports(self, reading: Reading, count: int) -> list[tuple[str, float]]:
        """(text, cosine), the nearest first; none without an index."""
        if self.reports is None:
            return []
        rows = nearest(reading.embedding, self.reports.text_embeddings, count)
        return [(self.reports.texts[row], cosine) for row, cosine in rows]

    def _masks(self, film: Image.Image) -> dict[int, np.ndarray]:
        """Masks at the size shown: overlapping ones where a logit is positive, else the class that is highest."""
        logits = F.interpolate(self.segmentation.logits(film)[None], size=(SHOWN_SIDE, SHOWN_SIDE), mode="bilinear")[0]
        highest = logits.argmax(0)
        single = self.segmentation.single_label
        return {n: ((highest == n) if single else (logits[n] > 0)).numpy() for n in self.structures}

    def _label_outputs(self, film: Image.Image) -> tuple[list[float], list[bool | None]]:
        """Outputs of the classifier within [0, 1], and whether each is above its operating point."""
        head, logits = self.classification, self.classification.logits(film)
        scores = logit_of(logits.log_softmax(0).numpy()) if head.single_label else logits.numpy()
        points = self.points["classification"].points if "classification" in self.points else {}
        verdicts = [
            bool(points[name].is_above(score)) if name in points else None
            for name, score in zip(head.names, scores, strict=True)
        ]
        return (logits.softmax(0) if head.single_label else logits.sigmoid()).tolist(), verdicts


def load_space(folder: Path) -> SpaceModels:
    """Load a folder that `python -m model_cards.space` wrote, in fp32 on the CPU.

    Raises:
        FileNotFoundError: the folder has no `space.json`.
    """
    file = folder / "space.json"
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing: build the Space with `python -m model_cards.space DIR --model M`")
    settings = json.loads(file.read_text())
    name = settings["model"] or str(folder / "model")
    source = {"trust_remote_code": True, "revision": settings["revision"] or "main"}
    return SpaceModels(
        settings,
        AutoModel.from_pretrained(name, dtype=torch.float32, **source).eval(),
        AutoProcessor.from_pretrained(name, **source),
        _load_head(folder / "classification", AutoModelForImageClassification),
        _load_head(folder / "segmentation", AutoModelForSemanticSegmentation),
        _load_reports(folder / "reports"),
        sorted((folder / "examples").glob("*.png")),
        {file.stem: OperatingPoints.load(file) for file in (folder / "points").glob("*.json")},
    )


def _load_head(folder: Path, auto_class) -> Head | None:
    if not folder.is_dir():
        return None
    model = auto_class.from_pretrained(folder, dtype=torch.float32, trust_remote_code=True).eval()
    return Head(model, AutoImageProcessor.from_pretrained(folder, trust_remote_code=True))


def _load_reports(folder: Path) -> ReportIndex | None:
    if not folder.is_dir():
        return None
    vectors = {
        name: F.normalize(tensor.float(), dim=-1) for name, tensor in load_file(folder / "index.safetensors").items()
    }
    return ReportIndex(json.loads((folder / "reports.json").read_text()), vectors["texts"], vectors["films"])
