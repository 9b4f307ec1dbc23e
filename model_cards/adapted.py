"""The card of an adapter, or of a whole model that was trained for a task, from the files of a run of `train.adapt`."""

from __future__ import annotations

import json
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

from model_cards.corpora import TrainingSource, hub_licence, training_sources
from model_cards.filling import METHODS, TAGS, fill
from model_cards.results import check_weights, load_results, model_index_entries
from model_cards.runs import hub_id, read_run
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

#: By name of a task (`tasks_chexficient.TASKS`), how its model is asked.
USAGE = {"classification": _FINDINGS, "segmentation": _STRUCTURES, "report_generation": _REPORTS}
_LORA_SETTINGS = {"r": "LoRA rank", "lora_alpha": "LoRA alpha", "lora_dropout": "LoRA dropout"}


def render_adapted_card(
    run_dir: Path,
    weights_dir: Path,
    repo: str | None = None,
    results_dir: Path | None = None,
    private: bool = False,
    base_repo: str | None = None,
    base_revision: str | None = None,
) -> ModelCard:
    """The card of an adapter, or of a whole model that was trained for a task.

    Args:
        run_dir: of `train.adapt`, with `run.json` and `results/`.
        weights_dir: the adapter or model as it will be loaded (its record names the base as it will be called).
        repo: by which it will be loaded; default: the folder of the weights.
        results_dir: of the results, in place of `run_dir/results`.
        private: whether loading needs to be logged in.
        base_repo, base_revision: of the base on the Hub.

    Raises:
        ValueError: the run is not finished, has no results, or results of other weights.
    """
    run = read_run(run_dir)
    adapter = (weights_dir / "chexficient_adapter.json").is_file()
    results = load_results(results_dir or run_dir / "results")
    check_weights(results, weights_sha256(weights_dir), weights_dir)
    classes, problem_type = _outputs(run, weights_dir)
    sources = adaptation_sources(run)
    title, location = (repo or run_dir.resolve().name).split("/")[-1], repo or str(weights_dir)
    task = TASKS_ON_THE_HUB[run["task"]]
    data = ModelCardData(
        model_name=title,
        **hub_licence(sources),
        library_name="peft" if adapter else "transformers",
        pipeline_tag=task.pipeline,
        tags=[*TAGS, *(["lora"] if run["method"] == "lora" else [])],
        base_model=base_repo,
        eval_results=model_index_entries(results),
    )
    return fill(
        "adapted_model.md.jinja",
        data,
        title=title,
        what=task.title,
        task=task,
        adapter=adapter,
        run=run,
        results=list(results.values()),
        sources=sources,
        seen_sources=sorted({name for one in results.values() for name in one["provenance"]["pretraining_sources"]}),
        only_drawn=bool(sources) and all(source.access == "synthetic" for source in sources),
        # A folder of this machine is nobody else's name for it.
        base=base_repo or (run["base"]["name"] if repo is None else None),
        base_link=f"https://huggingface.co/{base_repo}" if base_repo else run["base"]["name"],
        revision=base_revision,
        classes=classes,
        problem_type=problem_type,
        validation={name: value for name, value in run["validation"].items() if name not in ("metric", "value")},
        adapter_settings=_lora_settings(weights_dir),
        snippet=loading_snippet(weights_dir, location).strip() if adapter else _whole_model_snippet(task, location),
        usage=USAGE[task.name],
        method=_method(run),
        location=location,
        private=private,
    )


def render_report_base_card(base_dir: Path, repo: str, private: bool = False) -> ModelCard:
    """The card of the model that a run of report generation put together for its adapter.

    It has no figures of its own: it writes nothing of use before it is adapted.

    Raises:
        ValueError: the run is not finished, was not judged, or its adapter belongs to another base.
    """
    run = read_run(base_dir.parent)
    results, sha256 = load_results(base_dir.parent / "results"), weights_sha256(base_dir)
    if run["base"]["weights_sha256"] != sha256:
        raise ValueError(f"{base_dir} is not the base of the adapter beside it: run train.adapt again")
    seen = sorted({name for one in results.values() for name in one["provenance"]["pretraining_sources"]})
    config, title = json.loads((base_dir / "config.json").read_text()), repo.split("/")[-1]
    sources = training_sources(seen, {}, None)
    task = TASKS["report_generation"]
    data = ModelCardData(**hub_licence(sources), library_name="transformers", pipeline_tag=task.pipeline, tags=TAGS)
    return fill(
        "report_base.md.jinja",
        data,
        title=title,
        run=run,
        made_of={
            "vision tower": config["vision_config"]["model_type"],
            "language model": hub_id(run["settings"].get("language_model")) or config["text_config"]["model_type"],
        },
        sha256=sha256,
        seen_sources=seen,
        sources=sources,
        snippet=_whole_model_snippet(task, repo),
        private=private,
    )


def _method(run: dict) -> str:
    """What was trained, in words."""
    if TASKS_ON_THE_HUB[run["task"]].head_on_tower:
        return METHODS[run["method"]]
    frozen = run["settings"].get("freeze_tower")
    tower = " and on the vision tower" if run["settings"].get("adapt_tower") else ""
    return {
        "lora": f"Low-rank adapters (LoRA) on the language model{tower}; the projector was trained as a whole",
        "linear": "The projector alone was trained",
        "full": "All weights but those of the vision tower were trained" if frozen else METHODS["full"],
    }[run["method"]]


def _outputs(run: dict, weights_dir: Path) -> tuple[list[str], str | None]:
    """Names of the outputs in their order, and the kind of problem; no names for reports."""
    record = weights_dir / "chexficient_adapter.json"
    if not TASKS_ON_THE_HUB[run["task"]].head_on_tower:
        return [], None
    head = (
        json.loads(record.read_text())["head"]
        if record.is_file()
        else json.loads((weights_dir / "config.json").read_text())
    )
    labels = {int(number): name for number, name in head["id2label"].items()}
    return [labels[number] for number in sorted(labels)], head.get("problem_type")


def adaptation_sources(run: dict) -> list[TrainingSource]:
    """The corpora that a head was trained on, all its films of one where there is just one."""
    names = list(run.get("sources") or [])
    counts = dict(run["sources"]) if isinstance(run.get("sources"), dict) else {}
    if len(names) == 1:
        counts = {names[0]: run["train_films"]}
    return training_sources(names, counts, None)


def _lora_settings(weights_dir: Path) -> dict:
    """What PEFT's configuration says of the adapter; empty for a head alone and for a whole model."""
    file = weights_dir / "adapter_config.json"
    config = json.loads(file.read_text()) if file.is_file() else {}
    targets = config.get("target_modules")
    if not targets or "dummy" in str(targets):
        return {}
    settings = {words: config[name] for name, words in _LORA_SETTINGS.items() if name in config}
    kinds = [words for name, words in (("use_rslora", "rsLoRA"), ("use_dora", "DoRA")) if config.get(name)]
    if kinds:
        settings["variant"] = ", ".join(kinds)
    settings["LoRA on"] = (
        targets if isinstance(targets, str) else ", ".join(sorted({one.split(".")[-1] for one in targets}))
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
