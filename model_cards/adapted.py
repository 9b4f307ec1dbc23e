"""The card of an adapter, or of a whole model that was trained for a task, from the files of a run of `train.adapt`."""

from __future__ import annotations

import json
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

from eval.records.runs import AdaptRun
from model_cards.corpora import TrainingSource, hub_licence, training_sources
from model_cards.filling import METHODS, TAGS, fill
from model_cards.results import check_model, model_index_entries
from model_cards.runs import FinishedRun, hub_id
from modeling_chexficient.adapter_snippet_chexficient import loading_snippet
from modeling_chexficient.base_identity_chexficient import weights_sha256
from modeling_chexficient.tasks_chexficient import TASKS, TASKS_ON_THE_HUB, AdapterTask

_FINDINGS = """\
import torch
from PIL import Image

film = Image.open("film.png")
with torch.no_grad():
    logits = model(**processor(images=film, return_tensors="pt")).logits[0]
print({model.config.id2label[number]: logit for number, logit in enumerate(logits.tolist())})"""
_STRUCTURES = """\
import torch
from PIL import Image

film = Image.open("film.png")
with torch.no_grad():
    outputs = model(**processor(images=film, return_tensors="pt"))
masks = processor.post_process_masks(outputs, target_sizes=[film.size[::-1]])[0]
print({model.config.id2label[number]: int(mask.sum()) for number, mask in enumerate(masks)})  # pixels inside"""
_REPORTS = """\
from PIL import Image

film = Image.open("film.png")
question = "Write the findings and the impression of this chest X-ray. View: PA. Indication: Cough."
turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}
prompt = processor.apply_chat_template([turn], add_generation_prompt=True)
inputs = processor(images=film, text=prompt, return_tensors="pt")
tokens = model.generate(**inputs, max_new_tokens=200)
print(processor.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))"""

#: Code that uses the model of a task, by name of the task (`tasks_chexficient.TASKS`).
USAGE = {"classification": _FINDINGS, "segmentation": _STRUCTURES, "report_generation": _REPORTS}
_TUNERS = {"lora": "LoRA", "hira": "HiRA"}
_TUNER_SETTINGS = {"r": "rank", "lora_alpha": "alpha", "lora_dropout": "dropout", "hira_dropout": "dropout"}


def render_adapted_card(
    run: FinishedRun,
    repo: str | None = None,
    private: bool = False,
    base_repo: str | None = None,
    base_revision: str | None = None,
    weights_dir: Path | None = None,
) -> ModelCard:
    """The card of an adapter, or of a whole model that was trained for a task.

    Args:
        run: of kind "adapter" or "head".
        repo: by which it will be loaded; default: the folder of the weights.
        private: whether loading needs to be logged in.
        base_repo, base_revision: of the base on the Hub.
        weights_dir: the weights as they will be loaded (their record names the base as it will be called); default:
            those of the run.

    Raises:
        ValueError: its results or its record are of another model.
    """
    record = run.record
    weights_dir = weights_dir or run.weights_dir
    assert isinstance(record, AdaptRun)
    adapter = (weights_dir / "chexficient_adapter.json").is_file()
    check_model(run.results, run.weights_dir, run.outputs)
    if run.outputs is not None and record.labels != run.outputs:
        raise ValueError(
            f"{run.weights_dir} has the outputs {run.outputs}, the run trained {record.labels}: figures of its record "
            "are not theirs, train it anew"
        )
    sources = adaptation_sources(record)
    title = (repo or run.folder.resolve().name).split("/")[-1]
    location = repo or str(weights_dir)
    task = TASKS_ON_THE_HUB[record.task]
    data = ModelCardData(
        model_name=title,
        **hub_licence(sources),
        library_name="peft" if adapter else "transformers",
        pipeline_tag=task.pipeline,
        tags=[*TAGS, *([record.method] if record.method in _TUNERS else [])],
        base_model=base_repo,
        eval_results=model_index_entries(run.results),
    )
    return fill(
        "adapted_model.md.jinja",
        data,
        title=title,
        what=task.title,
        task=task,
        adapter=adapter,
        run=record,
        results=list(run.results.values()),
        points=run.points,
        sources=sources,
        seen_sources=run.seen_sources,
        only_drawn=bool(sources) and all(source.access == "synthetic" for source in sources),
        # A folder of this machine means nothing to others.
        base=base_repo or (record.base["name"] if repo is None else None),
        base_link=f"https://huggingface.co/{base_repo}" if base_repo else record.base["name"],
        revision=base_revision,
        classes=run.outputs or [],
        problem_type=None if run.head is None else run.head.get("problem_type"),
        validation={name: value for name, value in record.validation.items() if name not in ("metric", "value")},
        adapter_settings=_adapter_settings(weights_dir),
        snippet=loading_snippet(weights_dir, location).strip() if adapter else _whole_model_snippet(task, location),
        usage=USAGE[task.name],
        method=_method(record),
        location=location,
        private=private,
    )


def render_report_base_card(run: FinishedRun, repo: str, private: bool = False) -> ModelCard:
    """The card of the model that a run of report generation put together for its adapter.

    It has no figures of its own: it writes nothing of use before it is adapted.

    Args:
        run: of kind "report_base".
        repo, private: as for `render_adapted_card`.

    Raises:
        ValueError: the adapter of the run belongs to another base.
    """
    record, sha256 = run.record, weights_sha256(run.weights_dir)
    assert isinstance(record, AdaptRun)
    if record.base["weights_sha256"] != sha256:
        raise ValueError(f"{run.folder} is not the base of the adapter beside it: run train.adapt again")
    seen, config, title = run.seen_sources, run.config, repo.split("/")[-1]
    sources = training_sources(seen, {}, None)
    task = TASKS["report_generation"]
    data = ModelCardData(**hub_licence(sources), library_name="transformers", pipeline_tag=task.pipeline, tags=TAGS)
    return fill(
        "report_base.md.jinja",
        data,
        title=title,
        run=record,
        made_of={
            "vision tower": config["vision_config"]["model_type"],
            "language model": hub_id(record.settings.get("language_model")) or config["text_config"]["model_type"],
        },
        sha256=sha256,
        seen_sources=seen,
        sources=sources,
        snippet=_whole_model_snippet(task, repo),
        private=private,
    )


def _method(run: AdaptRun) -> str:
    """What was trained, in words."""
    if TASKS_ON_THE_HUB[run.task].head_on_tower:
        return METHODS[run.method]
    frozen = run.settings.get("freeze_tower")
    tower = " and on the vision tower" if run.settings.get("adapt_tower") else ""
    places = f"on the language model{tower}; the projector was trained as a whole"
    return {
        "lora": f"Low-rank adapters (LoRA) {places}",
        "hira": f"Hadamard high-rank adapters (HiRA) {places}",
        "linear": "The projector alone was trained",
        "full": "All weights but those of the vision tower were trained" if frozen else METHODS["full"],
    }[run.method]


def adaptation_sources(run: AdaptRun) -> list[TrainingSource]:
    """The corpora that a head was trained on; where there is just one, all films are of it."""
    counts = {run.sources[0]: run.train_films} if len(run.sources) == 1 else {}
    return training_sources(run.sources, counts, None)


def _adapter_settings(weights_dir: Path) -> dict:
    """What PEFT's configuration says of the adapter; empty for a head alone and for a whole model."""
    file = weights_dir / "adapter_config.json"
    config = json.loads(file.read_text()) if file.is_file() else {}
    targets = config.get("target_modules")
    if not targets or "dummy" in str(targets):
        return {}
    kind = _TUNERS[config["peft_type"].lower()]
    settings = {f"{kind} {words}": config[name] for name, words in _TUNER_SETTINGS.items() if name in config}
    kinds = [words for name, words in (("use_rslora", "rsLoRA"), ("use_dora", "DoRA")) if config.get(name)]
    if kinds:
        settings["variant"] = ", ".join(kinds)
    settings[f"{kind} on"] = (
        targets if isinstance(targets, str) else ", ".join(sorted({target.split(".")[-1] for target in targets}))
    )
    if config.get("modules_to_save"):
        settings["trained as a whole"] = ", ".join(sorted(config["modules_to_save"]))
    return settings


def _whole_model_snippet(task: AdapterTask, location: str) -> str:
    model_class, processor_class = task.auto_model, task.auto_processor
    return "\n".join(
        [
            f"from transformers import {model_class}, {processor_class}",
            "",
            f'model = {model_class}.from_pretrained("{location}", trust_remote_code=True).eval()',
            f'processor = {processor_class}.from_pretrained("{location}", trust_remote_code=True)',
        ]
    )
