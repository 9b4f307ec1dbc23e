"""The model card of a finished run, filled from its `run.json` and `results/*.json`.

    python -m model_cards.render runs/demo

Writes `model/README.md` in the run folder. No figure is typed by hand; nothing of reports or patients is read.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

TEMPLATE = Path(__file__).with_name("base_model.md.jinja")


def load_results(run_dir: Path) -> list[dict]:
    """The zero-shot results of a run; the card has no table for other tasks.

    Raises:
        ValueError: there are none: a card without figures says nothing.
    """
    results = [json.loads(file.read_text()) for file in sorted((run_dir / "results").glob("*.json"))]
    results = [result for result in results if result.get("task") == "zero_shot"]
    if not results:
        raise ValueError(f"{run_dir}/results holds no result: judge the model first with `python -m eval.run`")
    return results


def check_results(run_dir: Path, results: list[dict]) -> None:
    """Raise ValueError if a result was measured on other weights than those of the run."""
    digest = hashlib.sha256()
    for file in sorted((run_dir / "model").glob("*.safetensors")):
        digest.update(file.read_bytes())
    for result in results:
        if result["provenance"]["model_sha256"] != digest.hexdigest():
            raise ValueError(
                f"{run_dir}/results: {result['benchmark']} was measured on other weights than those in "
                f"{run_dir}/model: judge them again with `python -m eval.run`"
            )


def eval_results(results: list[dict]) -> list[EvalResult]:
    """The macro figures for the `model-index` of the card."""
    return [
        EvalResult(
            task_type="zero-shot-image-classification",
            dataset_type="chest-x-ray",
            dataset_name=f"{result['benchmark']} v{result['benchmark_version']} ({result['provenance']['split']})",
            metric_type="roc_auc",
            metric_name="macro AUROC",
            metric_value=round(result["macro"]["value"], 4),
        )
        for result in results
    ]


def render_card(run_dir: Path, name: str | None = None) -> ModelCard:
    """The card of a run folder; `name` is how it will be loaded (default: the folder itself)."""
    run_file = run_dir / "run.json"
    if not run_file.is_file():
        raise ValueError(f"{run_dir} is not a finished run: {run_file} is missing")
    run, results = json.loads(run_file.read_text()), load_results(run_dir)
    check_results(run_dir, results)
    config = json.loads((run_dir / "model" / "config.json").read_text())
    title = (name or run_dir.resolve().name).split("/")[-1]
    data = ModelCardData(
        model_name=title,
        license="apache-2.0",
        library_name="transformers",
        pipeline_tag="zero-shot-image-classification",
        tags=["chest-x-ray", "radiology", "contrastive", "chexficient"],
        eval_results=eval_results(results),
    )
    return ModelCard.from_template(
        data,
        template_str=TEMPLATE.read_text(),
        title=title,
        run=run,
        results=results,
        sources=config.get("pretraining_sources") or [],
        location=name or str(run_dir / "model"),
        number=lambda value: "not defined" if value is None else f"{value:.3f}",
    )


def main(arguments: list[str] | None = None) -> None:
    words = sys.argv[1:] if arguments is None else arguments
    if len(words) != 1:
        sys.exit("usage: python -m model_cards.render RUN_DIR")
    target = Path(words[0]) / "model" / "README.md"
    try:
        render_card(Path(words[0])).save(target)
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(f"model card in {target}")


if __name__ == "__main__":
    main()
