"""Loads any model that can be evaluated: a model, an adapter, a head, or the run folder that holds one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoProcessor, AutoTokenizer, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
from transformers.utils import cached_file

import modeling_chexficient
from eval.models.adapted import KINDS, AdaptedModel
from eval.models.encoders import CheXficientEncoder, DualEncoder, EvaluationModel
from eval.models.hog import HOG, HogEncoder
from eval.models.report_generator import ReportGenerator, load_report_generator
from eval.records.runs import Adaptation, AdaptRun, adaptation_behind, weights_folder
from modeling_chexficient import (
    CheXficientModel,
    CheXficientProcessor,
)
from modeling_chexficient.adapter_files_chexficient import ADAPTER_FILES, CONFIG_FILE, RECORD_FILE
from modeling_chexficient.adapter_files_chexficient import read_record as read_adapter
from modeling_chexficient.adapters_chexficient import load_adapter
from modeling_chexficient.base_identity_chexficient import commit_of, local_folder, weights_sha256
from modeling_chexficient.tasks_chexficient import TASKS

#: The kind of a model by the task of its adapter, and by the class of a whole model with a head.
_OF_TASK = {TASKS[name].hub_name: kind for name, kind in KINDS.items()}
_OF_CLASS = {TASKS[name].head: kind for name, kind in KINDS.items()}


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
    head = next((name for name in config.architectures or () if name in _OF_CLASS), None)
    if head is None:
        return None
    model = getattr(modeling_chexficient, head).from_pretrained(name, dtype=torch.float32, revision=revision)
    revision = commit_of(name, revision)
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
    if base is None and told.task not in _OF_TASK and beside.is_dir():
        # Put together by the run itself, which may have been moved since.
        base = str(beside)
    model = load_adapter(folder, base=base).get_base_model()
    revision = None if Path(name).is_dir() else folder.name
    if told.task in _OF_TASK:
        return _with_head(_OF_TASK[told.task], model, name, str(folder), revision, asdict(told.base))
    processor = AutoProcessor.from_pretrained(folder)
    generator = ReportGenerator(model, processor, name=name, revision=revision, sha256=weights_sha256(str(folder)))
    return with_run(generator, adaptation_behind(str(folder)), asdict(told.base))


def with_run(model: EvaluationModel, run: AdaptRun | None, base: dict) -> EvaluationModel:
    """The model with what is known of its training; `base` is what its adapter tells of it."""
    model.adaptation = Adaptation.of(run, base)
    model.training_folders = [] if run is None else run.training_folders
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
        raise ValueError(f"{name} estimates numbers (problem_type 'regression'): no benchmark here evaluates that")
    try:
        image_processor = AutoImageProcessor.from_pretrained(folder, revision=revision or "main")
    except OSError as error:
        raise ValueError(f"{name} lacks its image processor: {error}") from error
    adapted = kind(model.eval(), image_processor, name=name, revision=revision, sha256=weights_sha256(folder, revision))
    return with_run(adapted, adaptation_behind(folder), base)


def _check_folder(name: str) -> None:
    """ValueError where the name is that of a folder which is not there, or which holds no model."""
    folder = Path(name)
    if not folder.exists() and (folder.is_absolute() or name.startswith(".") or name.count("/") > 1):
        raise ValueError(f"{name}: there is no such model folder")
    if folder.is_dir() and not any((folder / file).is_file() for file in ("config.json", RECORD_FILE, CONFIG_FILE)):
        raise ValueError(
            f"{name} holds no model, for config.json is missing: give a folder that save_pretrained or a run of "
            "`train` wrote"
        )


def _own_processor(name: str, revision: str) -> CheXficientProcessor:
    try:
        processor = CheXficientProcessor.from_pretrained(name, revision=revision)
        if len(processor.tokenizer) <= len(processor.tokenizer.all_special_tokens):
            # Without its file transformers makes one of special tokens alone, to which all texts are the same.
            raise ValueError("the tokenizer knows no word")
        return processor
    # A missing tokenizer is a ValueError of many lines, a missing image processor an OSError.
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0].split(". If you were")[0].rstrip(" :")
        raise ValueError(
            f"{name} lacks its image processor or tokenizer: {first}. They are processor_config.json, tokenizer.json "
            "and tokenizer_config.json: copy them from the model that its weights come from"
        ) from error


def load_evaluation_model(
    name: str, trust_remote_code: bool = False, revision: str | None = None, base: str | None = None
) -> EvaluationModel:
    """Load a model folder or Hub id in fp32, in evaluation mode, on the CPU.

    Args:
        name: a model, an adapter (`chexficient_adapter.json`), a model with a trained head, the run folder of
            `train.adapt` that holds one, or "hog", the baseline without weights.
        base: another place of the base of an adapter, where it is not any more at the one that the adapter names; a
            whole model has none.

    Raises:
        OSError: there is no such model.
        ValueError: it is no image model that transformers can load, or brings no image processor or tokenizer; an
            adapter does not fit its base.
    """
    if name == HOG:
        return HogEncoder()
    name = weights_folder(name)
    _check_folder(name)
    model = _load(name, trust_remote_code, revision, base)
    _align(model.model)
    return model


@torch.no_grad()
def _align(model: torch.nn.Module) -> None:
    """Weights as torch would lay them out itself, at multiples of 64 bytes.

    Those that are read from a file lie where the file and chance put them, which differs between processes, and
    products with a single film (of the BLAS on a CPU) then differ in the last bit.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device.type == "cpu" and tensor.data_ptr() % 64:
            tensor.data = tensor.data.clone(memory_format=torch.preserve_format)


def _load(name: str, trust_remote_code: bool, revision: str | None, base: str | None) -> EvaluationModel:
    source = {"trust_remote_code": trust_remote_code, "revision": revision or "main"}
    adapted = load_adapted_model(name, **source, base=base)
    if adapted is not None:
        return adapted
    config = AutoConfig.from_pretrained(name, **source)
    if config.model_type == "chexficient_clip":
        raise ValueError(
            f"{name} is a checkpoint as released: convert it with `python -m modeling_chexficient.convert_checkpoint`"
        )
    if type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        generator, run = load_report_generator(name, **source), adaptation_behind(name)
        return generator if run is None else with_run(generator, run, {})
    model = AutoModel.from_pretrained(name, dtype=torch.float32, **source).eval()
    revision = commit_of(name, source["revision"]) or revision
    names = {"name": name, "revision": revision, "sha256": weights_sha256(name, revision)}
    if isinstance(model, CheXficientModel):
        return CheXficientEncoder(model, _own_processor(name, source["revision"]), **names)
    if model.main_input_name != "pixel_values" and not hasattr(model, "get_image_features"):
        raise ValueError(f"{name} is a {config.model_type}: it takes {model.main_input_name}, not images")
    try:
        image_processor = AutoImageProcessor.from_pretrained(name, **source)
        if not hasattr(model, "get_image_features"):
            return EvaluationModel(model, image_processor, **names)
        return DualEncoder(model, image_processor, AutoTokenizer.from_pretrained(name, **source), **names)
    except OSError as error:
        raise ValueError(f"{name} lacks its image processor or tokenizer: {error}") from error
