"""Pipelines of transformers that read DICOM files, and scale films of more than 8 bits in place of clipping them.

The pipelines of transformers turn every image into 8-bit RGB by `convert("RGB")`, for which any value above 255 is
white. Importing this package puts these classes, which do what theirs do, in their place; models with another image
processor than ours see no difference. Where the package is not imported, the image processor refuses clipped films.

With `check_input=True`, in the constructor or in a call, they warn of images that are no whole upright frontal chest
film, with the reasons (`input_check_chexficient`); with `check_input="refuse"` they raise ValueError.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from transformers import (
    AutoImageProcessor,
    ImageClassificationPipeline,
    ImageFeatureExtractionPipeline,
    ImageSegmentationPipeline,
    ImageTextToTextPipeline,
    ZeroShotImageClassificationPipeline,
)

from .base_identity_chexficient import weights_sha256
from .configuration_chexficient import CheXficientConfig
from .film_loading_chexficient import load_film, load_films, load_films_of_message
from .image_processing_chexficient import CheXficientImageProcessor
from .modeling_chexficient_heads import HEADS
from .modeling_chexficient_losses import MULTI, SINGLE
from .operating_points_chexficient import (
    DIFFERENCE,
    LOGIT,
    POINTS_FILE,
    OperatingPoint,
    OperatingPoints,
    find_points,
    logit_of,
    preprocessing_of,
    sigmoid,
)

_NO_PHOTO = (
    'labels are asked for as "This is a photo of LABEL.", the words of transformers, which no report has and which no '
    'figure of the model is of: pass hypothesis_template="{}" for the labels as they are'
)
#: As `threshold`: the operating points beside the weights.
VALIDATED = "validated"


class _ScalesFilms:
    """A pipeline whose image processor is ours gets films in 8 bits, scaled."""

    image_processor: Any
    processor: Any

    # Hidden from the type checker, for which each pipeline has its own arguments.
    if not TYPE_CHECKING:

        def __init__(self, *args, **kwargs):
            own = _processor_of_adapter(kwargs.get("model"), kwargs.get("image_processor"))
            super().__init__(*args, **(kwargs if own is None else kwargs | {"image_processor": own}))

        def _sanitize_parameters(self, check_input=None, **kwargs):
            before, forward, after = super()._sanitize_parameters(**kwargs)
            return before if check_input is None else {**before, "check_input": check_input}, forward, after

        def preprocess(self, inputs, *args, check_input=False, **kwargs):
            processor = self.image_processor or getattr(self.processor, "image_processor", None)
            # By name: remote code has a class of its own.
            if type(processor).__name__ == CheXficientImageProcessor.__name__:
                inputs = self._scaled(inputs, kwargs.get("timeout"), check_input)
            elif check_input:
                raise ValueError("check_input is for models with CheXficient's image processor")
            return super().preprocess(inputs, *args, **kwargs)

    def _scaled(self, inputs, *options):
        return load_film(inputs, *options)


def _processor_of_adapter(model, given):
    """The image processor that an adapter was trained with; None where there is none, or the user has named another.

    transformers takes that of the base, which may be another one: that of a tower of the Hub, or saved anew since.
    """
    place = getattr(model, "loaded_from", None)
    if place is None or given is None:
        return None
    of_base = AutoImageProcessor.from_pretrained(model.name_or_path)
    if preprocessing_of(given) != preprocessing_of(of_base):
        return None
    try:
        return AutoImageProcessor.from_pretrained(place, revision=model.loaded_revision)
    except OSError:
        return None


class _KnowsPoints:
    """A pipeline of findings that takes `threshold`: "validated" for the operating points beside the weights, or the
    path of a file of them that `python -m eval.calibrate` has written.
    """

    model: Any
    image_processor: Any
    #: What the scores of this pipeline are.
    score_kind: str

    def _points(self, threshold: str | Path) -> OperatingPoints:
        """The points that `threshold` names, read once.

        Raises ValueError where there are none, or where they are of another model or another kind of score.
        """
        known: dict[str | Path, OperatingPoints] = self.__dict__.setdefault("_points_read", {})
        if threshold not in known:
            known[threshold] = self._read_points(threshold)
        return known[threshold]

    def _read_points(self, threshold: str | Path) -> OperatingPoints:
        # An adapter's own folder; `name_or_path` would be that of its base.
        place = getattr(self.model, "loaded_from", None) or self.model.name_or_path
        # Of a Hub repository, the commit that the weights are of; of other models than ours it is not known.
        revision = getattr(self.model, "loaded_revision", None)
        file = Path(str(threshold))
        if threshold == VALIDATED:
            found = find_points(place, revision) if place else None
            if found is None:
                raise ValueError(
                    f"{place or 'the model'} has no {POINTS_FILE}: choose operating points on films of your own with "
                    "`python -m eval.calibrate`"
                )
            file = found
        elif not file.is_file():
            raise ValueError(
                f"threshold={threshold!r} is neither {VALIDATED!r} nor the path of a file of operating points"
            )
        points = OperatingPoints.load(file)
        if points.score != self.score_kind:
            raise ValueError(f"{file} has points for a {points.score}, this pipeline gives a {self.score_kind}")
        names = self.model.config.id2label
        outputs = [names[number] for number in range(len(names))] if self.score_kind == LOGIT else None
        known = revision is not None or Path(place).is_dir()
        sha256 = weights_sha256(place, revision) if place and known else None
        points.check_model(place, sha256, self.image_processor, outputs)
        return points


def _prompts_of(names: Sequence[str], points: OperatingPoints) -> list[str]:
    return [prompt for name in names for pair in points.point(name).prompts for prompt in pair]


def _entry(label: str, score: float, point: OperatingPoint) -> dict[str, Any]:
    """What a pipeline says of a finding with an operating point."""
    return {
        "label": label,
        "score": float(sigmoid(score)),
        "probability": point.probability(score),
        "above_threshold": bool(point.is_above(score)),
    }


class CheXficientZeroShotImageClassificationPipeline(_KnowsPoints, _ScalesFilms, ZeroShotImageClassificationPipeline):
    """`pipeline("zero-shot-image-classification")`, for films of any depth.

    With `threshold="validated"` the candidate labels are findings with an operating point (default: all of them), each
    asked for by the prompts that its point was chosen with. Each comes with `above_threshold` and `probability`, which
    is calibrated or None; `score`, the sigmoid of a difference of logits, orders films and is none.
    """

    score_kind = DIFFERENCE

    if not TYPE_CHECKING:

        def __call__(self, image=None, candidate_labels=None, **kwargs):
            threshold = kwargs.get("threshold")
            points = self._postprocess_params.get("points") if threshold is None else self._points(threshold)
            if candidate_labels is None and points is not None:
                candidate_labels = list(points.points)
            return super().__call__(image, candidate_labels, **kwargs)

        def _sanitize_parameters(self, threshold=None, **kwargs):
            preprocess, forward, postprocess = super()._sanitize_parameters(**kwargs)
            if threshold is not None:
                if "hypothesis_template" in kwargs:
                    raise ValueError(
                        "hypothesis_template does not go with threshold: operating points bring the prompts that they "
                        "were chosen with"
                    )
                preprocess["points"] = postprocess["points"] = self._points(threshold)
            return preprocess, forward, postprocess

        def preprocess(self, image, candidate_labels=None, points=None, **kwargs):
            if points is None:
                if "hypothesis_template" not in kwargs and self.model.config.model_type == CheXficientConfig.model_type:
                    warnings.warn(_NO_PHOTO, stacklevel=2)
                return super().preprocess(image, candidate_labels=candidate_labels, **kwargs)
            # Once each: findings may be compared with the same texts.
            prompts = list(dict.fromkeys(_prompts_of(candidate_labels, points)))
            kwargs["hypothesis_template"] = "{}"
            inputs = super().preprocess(image, candidate_labels=prompts, **kwargs)
            inputs["candidate_labels"] = candidate_labels
            return inputs

        def postprocess(self, model_outputs, points=None):
            if points is None:
                return super().postprocess(model_outputs)
            names, logits = model_outputs["candidate_labels"], model_outputs["logits"][0].tolist()
            by_prompt = dict(zip(dict.fromkeys(_prompts_of(names, points)), logits, strict=True))
            found = []
            for name in names:
                point = points.point(name)
                differences = [by_prompt[positive] - by_prompt[negative] for positive, negative in point.prompts]
                found.append(_entry(name, point.score(differences), point))
            return sorted(found, key=lambda entry: -entry["score"])


class CheXficientImageClassificationPipeline(_KnowsPoints, _ScalesFilms, ImageClassificationPipeline):
    """`pipeline("image-classification")`, for films of any depth.

    Of a head whose findings are questions of their own it gives all where `top_k` does not say how many: transformers'
    own gives the five with the highest scores, which are no rivals.

    With `threshold="validated"` each finding comes with `above_threshold` and `probability`, which is calibrated or
    None; those of a finding without an operating point are None both, and `no_point` says why it has none.
    """

    score_kind = LOGIT

    if not TYPE_CHECKING:

        def _sanitize_parameters(self, threshold=None, **kwargs):
            preprocess, forward, postprocess = super()._sanitize_parameters(**kwargs)
            if threshold is not None:
                postprocess["points"] = self._points(threshold)
            return preprocess, forward, postprocess

        def postprocess(self, model_outputs, points=None, **kwargs):
            if points is not None or self.model.config.problem_type == MULTI:
                kwargs = {"top_k": self.model.config.num_labels} | kwargs
            found = super().postprocess(model_outputs, **kwargs)
            if points is None:
                return found
            logits = model_outputs["logits"][0].float()
            if self.model.config.problem_type == SINGLE:
                logits = torch.from_numpy(logit_of(logits.log_softmax(dim=0).numpy()))
            names = self.model.config.id2label
            scores = {names[number]: logit for number, logit in enumerate(logits.tolist())}
            return [entry | _verdict(scores[entry["label"]], entry["label"], points) for entry in found]


def _verdict(score: float, label: str, points: OperatingPoints) -> dict[str, Any]:
    if label in points.points:
        entry = _entry(label, score, points.points[label])
        return {name: entry[name] for name in ("probability", "above_threshold")}
    why = points.refused.get(label, "it was not among the findings that points were chosen for")
    return {"probability": None, "above_threshold": None, "no_point": why}


class CheXficientImageSegmentationPipeline(_ScalesFilms, ImageSegmentationPipeline):
    """`pipeline("image-segmentation")`, for films of any depth."""


class CheXficientImageFeatureExtractionPipeline(_ScalesFilms, ImageFeatureExtractionPipeline):
    """`pipeline("image-feature-extraction")`, for films of any depth; refuses heads, whose output is no feature."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        name = type(self.model).__name__
        if name in {head.__name__ for head in HEADS.values()}:
            raise ValueError(
                f"image-feature-extraction would give the logits of {name} as features: pass a folder of the whole "
                "model, or take model.vision_model(pixel_values).last_hidden_state"
            )


class CheXficientImageTextToTextPipeline(_ScalesFilms, ImageTextToTextPipeline):
    """`pipeline("image-text-to-text")`, for films of any depth."""

    def _scaled(self, inputs, *options):
        if isinstance(inputs, dict) and inputs.get("images") is not None:
            return {**inputs, "images": load_films(inputs["images"], *options)}
        if hasattr(inputs, "messages"):
            return type(inputs)([load_films_of_message(message, *options) for message in inputs.messages])
        return inputs


PIPELINES = {
    "zero-shot-image-classification": CheXficientZeroShotImageClassificationPipeline,
    "image-classification": CheXficientImageClassificationPipeline,
    "image-segmentation": CheXficientImageSegmentationPipeline,
    "image-feature-extraction": CheXficientImageFeatureExtractionPipeline,
    "image-text-to-text": CheXficientImageTextToTextPipeline,
}


def use_these_pipelines() -> None:
    """Let `transformers.pipeline` make them.

    Not by `register_pipeline`: saving a pipeline would then write the class into the configuration, and transformers
    would demand `trust_remote_code=True` from then on, also where this package is imported.
    """
    tasks: dict[str, Any] = transformers.pipelines.SUPPORTED_TASKS
    for task, pipeline_class in PIPELINES.items():
        tasks[task]["impl"] = pipeline_class


__all__ = ["PIPELINES", "use_these_pipelines"]
