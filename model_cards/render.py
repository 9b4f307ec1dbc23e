"""The model card of a finished run, filled from its `run.json` and result files.

    python -m model_cards.render runs/demo
    python -m model_cards.render runs/demo --results runs/demo/suite

Writes `README.md` into the model or adapter folder of the run. No figure is typed by hand; nothing of reports or
patients is read.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData
from safetensors import SafetensorError, safe_open

from data_scripts.command_line import command_name
from eval.records.runs import PretrainRun
from model_cards.adapted import render_adapted_card
from model_cards.corpora import counts_of_folders, hub_licence, population, read_curation, training_sources
from model_cards.filling import TAGS, fill
from model_cards.results import check_model, model_index_entries
from model_cards.runs import EXPECTED, FinishedRun, explain, hub_id, is_dataset, read_run

#: Arguments of curation, as they are called in a card.
_CURATION_SETTINGS = {
    "num_prototypes": "prototypes (centres of clusters)",
    "curation_epochs": "epochs that curate",
    "curation_warmup_share": "plain training before the first choice, as a share of the corpus",
    "score_image_size": "image size for scoring, in pixels",
    "low_resolution_size": "image size of the first part of training, in pixels",
    "patch_drop_share": "share of the patches that is left out in the first part of training",
}


def render_base_card(run: FinishedRun, repo: str | None = None, private: bool = False) -> ModelCard:
    """The card of a pretrained model.

    Args:
        run: of kind "base".
        repo: by which it will be loaded; default: the folder of the model.
        private: whether loading needs to be logged in.

    Raises:
        ValueError: its results are of another model, or its weights are damaged.
    """
    record, model_dir = run.record, run.weights_dir
    assert isinstance(record, PretrainRun)
    check_model(run.results, model_dir, run.outputs)
    config, curation = run.config, read_curation(run.folder)
    counts = counts_of_folders(record.training_folders, record.corpus_pairs)
    sources = training_sources(config.get("pretraining_sources") or [], counts, curation)
    title = (repo or run.folder.resolve().name).split("/")[-1]
    data = ModelCardData(
        model_name=title,
        **hub_licence(sources),
        language="en",
        library_name="transformers",
        pipeline_tag="zero-shot-image-classification",
        tags=[*TAGS, "contrastive"],
        base_model=pretrained_towers(record.settings),
        eval_results=model_index_entries(run.results),
    )
    return fill(
        "base_model.md.jinja",
        data,
        title=title,
        run=record,
        results=list(run.results.values()),
        points=run.points,
        sources=sources,
        only_drawn=bool(sources) and all(source.access == "synthetic" for source in sources),
        population=population(curation),
        curation=curation,
        curation_settings=_curation_settings(record.settings, curation),
        architecture=_architecture(model_dir, config),
        location=repo or str(model_dir),
        private=private,
    )


def _curation_settings(settings: dict, curation: dict | None) -> dict:
    """Arguments of curation that are recorded, in words; a run records those that differ from their defaults."""
    known = {"num_prototypes": len(curation["prototypes"])} if curation and curation.get("prototypes") else {}
    known |= settings
    return {words: known[name] for name, words in _CURATION_SETTINGS.items() if name in known}


def _architecture(model_dir: Path, config: dict) -> dict[str, str]:
    """Towers with their numbers of weights, embedding and image size, in words."""
    weights = Counter()
    for file in model_dir.glob("model*.safetensors"):
        try:
            with safe_open(file, "pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (no mapping)
                    weights[name.split(".")[0]] += math.prod(tensors.get_slice(name).get_shape())
        except SafetensorError as error:
            raise ValueError(f"{file} is cut off or broken ({error}): save the model again") from error
    image_processor = json.loads((model_dir / "processor_config.json").read_text())["image_processor"]
    return {
        "image tower": f"{config['vision_config']['model_type']}, {weights['vision_model']:,} weights",
        "text tower": f"{config['text_config']['model_type']}, {weights['text_model']:,} weights",
        "images": f"{image_processor['size']['shortest_edge']} px, grey or colour; other sizes are resized",
        "joint embedding": f"{config['projection_dim']} dimensions",
    }


def pretrained_towers(settings: dict) -> list[str] | None:
    """Ids on the Hub that the model was started from, None for new towers and folders."""
    ids = [hub_id(settings.get(name)) for name in ("model", "vision_model", "text_model")]
    return [name for name in ids if name] or None


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=command_name(), description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="Folder of the run.")
    parser.add_argument("--results", type=Path, help="Folder of its results (eval.run --out); default: results/ in it.")
    parsed = parser.parse_args(arguments)
    folder = parsed.run
    try:
        if is_dataset(folder):
            raise ValueError(
                f"{folder} is a dataset, whose card `data_scripts.prepare` has written: {folder}/README.md"
            )
        run = read_run(folder, parsed.results)
        if run.kind == "report_base":
            raise ValueError(f"{folder} gets its card when it is published: `python -m model_cards.publish {folder}`")
        target = run.weights_dir / "README.md"
        card = render_base_card(run) if run.kind == "base" else render_adapted_card(run)
    except EXPECTED as error:
        sys.exit(explain(error, folder))
    card.save(target)
    print(f"model card in {target}")


if __name__ == "__main__":
    main()
