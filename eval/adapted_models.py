"""Models with a trained head: adapters, whole models with a head, and the run folders of `train.adapt` that hold them.

Each is the tower of an `eval.models.EvaluationModel` and, by its task, one method more: `predict_labels` (findings),
`predict_masks` (structures) or `generate` (reports). Runners use it in place of what they would fit themselves.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoImageProcessor, AutoProcessor, PreTrainedModel
from transformers.utils import cached_file

import modeling_chexficient
from eval.models import EvaluationModel
from eval.results import Adaptation
from modeling_chexficient.adapter_files_chexficient import ADAPTER_FILES, CONFIG_FILE, RECORD_FILE
from modeling_chexficient.adapter_files_chexficient import read_record as read_adapter
from modeling_chexficient.adapters_chexficient import load_adapter
from modeling_chexficient.base_identity_chexficient import local_folder, weights_sha256

#: What a run folder says of its training.
RUN_FILE = "run.json"


class AdaptedModel(EvaluationModel):
    """A tower with a trained head; its own name is that of the head's weights, its identity also that of the base."""

    pooler_is_trained = True
    adaptation = Adaptation("head")

    @property
    def tower(self) -> nn.Module:
        return self.model.vision_model

    @property
    def identity(self) -> str:
        return f"{super().identity} on {self.adaptation.base_sha256}"

    @property
    def class_names(self) -> list[str]:
        """Names of the head's outputs, in their order."""
        return [self.model.config.id2label[number] for number in range(self.model.config.num_labels)]

    @property
    def one_of_all(self) -> bool:
        """Whether exactly one class is right, so that classes compete; else each is a question of its own."""
        return self.model.config.problem_type == "single_label_classification"

    def _logits(self, pixels: Tensor) -> Tensor:
        return self.model(pixel_values=pixels.to(self.device, self.model.dtype)).logits.float()


class FindingsModel(AdaptedModel):
    """Judges findings: `CheXficientForImageClassification`, with or without an adapter.

    Attributes:
        label_names: of the columns of `predict_labels`.
    """

    @property
    def label_names(self) -> list[str]:
        return self.class_names

    @torch.no_grad()
    def predict_labels(self, pixels: Tensor) -> Tensor:
        """[B, L] fp32 that orders films by each label: logits, or log-probabilities where one class alone is right."""
        logits = self._logits(pixels)
        return logits.log_softmax(dim=1) if self.one_of_all else logits


class StructuresModel(AdaptedModel):
    """Outlines structures: `CheXficientForSemanticSegmentation`, with or without an adapter.

    Attributes:
        structure_names: of the channels of `predict_masks`.
    """

    @property
    def structure_names(self) -> list[str]:
        return self.class_names

    @torch.no_grad()
    def predict_masks(self, pixels: Tensor) -> Tensor:
        """[B, L, S, S] fp32, the head's logits at the size of `pixels`."""
        return self._logits(pixels)

    def decide(self, logits: Tensor, size: int) -> Tensor:
        """Logits [B, L, S, S] of `predict_masks` as [B, L, size, size], above 0 inside of a structure.

        Where one class alone is right, that is its lead over the best of the others.
        """
        logits = F.interpolate(logits, (size, size), mode="bilinear", align_corners=False)
        if not self.one_of_all:
            return logits
        best, second = logits.topk(2, dim=1).values.unbind(dim=1)
        winner = F.one_hot(logits.argmax(dim=1), logits.shape[1]).movedim(-1, 1).bool()
        return logits - torch.where(winner, second.unsqueeze(1), best.unsqueeze(1))


#: The kind of a model by the task of its adapter, and by the class of a whole model with a head.
_OF_TASK = {"image-classification": FindingsModel, "semantic-segmentation": StructuresModel}
_OF_CLASS = {
    "CheXficientForImageClassification": FindingsModel,
    "CheXficientForSemanticSegmentation": StructuresModel,
}


def weights_folder(name: str) -> str:
    """Where the weights are: `adapter` or `model` of a run folder; anything else is its own place.

    Raises:
        ValueError: the run folder holds neither, so it is not finished.
    """
    run = Path(name)
    if not (run / RUN_FILE).is_file() or (run / "config.json").is_file():
        return name
    found = [str(run / one) for one in ("adapter", "model") if (run / one).is_dir()]
    if not found:
        raise ValueError(f"{name} is a run folder without `adapter` or `model`: its training did not finish")
    return found[0]


def read_record(name: str) -> dict | None:
    """What `train.adapt` wrote of the run that a folder of weights belongs to; None for any other model.

    Raises:
        ValueError: the record cannot be read.
    """
    path = Path(name).parent / RUN_FILE
    if not Path(name).is_dir() or not path.is_file():
        return None
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): adapt the model again") from error
    return values if "method" in values else None


def make_adaptation(record: dict | None, told: dict) -> Adaptation:
    """How a head came about: what the run recorded, else what its adapter tells of its base (`told`)."""
    record = record or {}
    base = record.get("base") or told
    same = ("label_share", "seed", "train_films", "train_patients", "trainable_parameters", "all_parameters")
    return Adaptation(
        record.get("method", "head"),
        base=base.get("name"),
        base_revision=base.get("revision"),
        base_sha256=base.get("weights_sha256"),
        sources=sorted(record.get("sources") or ()),
        **{name: record.get(name) for name in (*same, "adapter_bytes", "seconds")},
    )


def training_folders(record: dict | None) -> list[str]:
    """Prepared folders that a run was trained on, which may have been moved since; they enter no result."""
    parts = ((record or {}).get("mixture") or {}).get("parts", ())
    return [part["folder"] for part in parts]


def load_adapted_model(
    name: str, trust_remote_code: bool = False, revision: str = "main", base: str | None = None
) -> EvaluationModel | None:
    """A model with a trained head in fp32, in evaluation mode, on the CPU; None where there is no such head.

    Args:
        name: folder of weights (of `weights_folder`) or Hub id.
        base: another place of the base of an adapter, which must hold the same weights; a whole model has none.

    Raises:
        OSError: there is no such model, or the base of an adapter is not where it was.
        ValueError: an adapter lacks what says its task and base, does not fit its base, or a head regresses.
    """
    source = {"trust_remote_code": trust_remote_code, "revision": revision}
    folder = _adapter_folder(name, revision)
    if folder is not None:
        return _load_adapter(name, folder, base)
    config = AutoConfig.from_pretrained(name, **source)
    head = next((one for one in config.architectures or () if one in _OF_CLASS), None)
    if head is None:
        return None
    model = getattr(modeling_chexficient, head).from_pretrained(name, dtype=torch.float32, revision=revision)
    revision = getattr(config, "_commit_hash", None)
    return _with_head(_OF_CLASS[head], model, name, name, revision, {})


def _adapter_folder(name: str, revision: str) -> Path | None:
    """The local folder of an adapter, fetched from the Hub where it is there; None for anything else."""
    if Path(name).is_dir():
        found = any((Path(name) / file).is_file() for file in (RECORD_FILE, CONFIG_FILE))
    else:
        # Any other trouble with the name is told better by what loads a whole model.
        quiet = ("_raise_exceptions_for_missing_entries", "_raise_exceptions_for_connection_errors")
        found = cached_file(name, RECORD_FILE, revision=revision, **dict.fromkeys(quiet, False)) is not None
    return local_folder(name, revision, ADAPTER_FILES) if found else None


def _load_adapter(name: str, folder: Path, base: str | None) -> EvaluationModel:
    told = read_adapter(folder)
    beside = folder.parent / "base"
    if base is None and told.task == "report-generation" and beside.is_dir():
        # Put together by the run itself, which may have been moved since.
        base = str(beside)
    model = load_adapter(folder, base=base).get_base_model()
    revision = None if Path(name).is_dir() else folder.name
    if told.task in _OF_TASK:
        return _with_head(_OF_TASK[told.task], model, name, str(folder), revision, asdict(told.base))
    # Imported here, since a generator is an EvaluationModel, too.
    from eval.tasks.report_generator import ReportGenerator

    processor = AutoProcessor.from_pretrained(folder)
    generator = ReportGenerator(model, processor, name=name, revision=revision, sha256=weights_sha256(str(folder)))
    return with_record(generator, read_record(str(folder)), asdict(told.base))


def with_record(model: EvaluationModel, record: dict | None, base: dict) -> EvaluationModel:
    """The model with what is known of its training; `base` is what its adapter tells of it."""
    model.adaptation, model.training_folders = make_adaptation(record, base), training_folders(record)
    return model


def _with_head(
    kind: type[AdaptedModel],
    model: PreTrainedModel,
    name: str,
    folder: str,
    revision: str | None,
    base: dict,
) -> AdaptedModel:
    if model.config.problem_type == "regression":
        raise ValueError(f"{name} estimates numbers (problem_type 'regression'): no benchmark here judges that")
    try:
        image_processor = AutoImageProcessor.from_pretrained(folder, revision=revision or "main")
    except OSError as error:
        raise ValueError(f"{name} lacks its image processor: {error}") from error
    adapted = kind(model.eval(), image_processor, name=name, revision=revision, sha256=weights_sha256(folder))
    return with_record(adapted, read_record(folder), base)
