"""Export a model to ONNX, or to a program of `torch.export`, for where neither transformers nor this package runs.

    python -m modeling_chexficient.export MODEL OUT
    python -m modeling_chexficient.export runs/findings/adapter OUT --format torch

MODEL is a folder or Hub id: a whole model (graphs `image` and `text`), a head or an adapter (`findings` or
`structures`); an adapter is merged into its base. Every graph takes any batch size, texts also any length. What was
written is run on ten random films, or ten texts, and compared with the model. OUT also holds `export.json` (inputs,
outputs, preprocessing, names of findings), the tokenizer, and a README with the lines that run it. ONNX needs the extra
`export`. Adapters and models that write reports, and towers that `torch.export` cannot read, are refused by name.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerBase

from .adapter_files_chexficient import ADAPTER_FILES, CONFIG_FILE, RECORD_FILE, read_record
from .adapters_chexficient import load_adapter
from .base_identity_chexficient import local_folder, weights_sha256
from .configuration_chexficient import CheXficientConfig
from .exported_graphs import (
    FINDINGS,
    FORMATS,
    ONNX_PACKAGES,
    TEXT,
    TOLERANCE,
    Graph,
    check_packages,
    graph_names,
    image_graph,
    largest_difference,
    random_films,
    text_graph,
    write_graph,
)
from .exported_readme import write_readme
from .image_processing_chexficient import CheXficientImageProcessor
from .modeling_chexficient import CheXficientModel
from .modeling_chexficient_losses import MULTI, SINGLE
from .processing_chexficient import MAX_TOKENS, CheXficientProcessor
from .tasks_chexficient import TASKS_ON_THE_HUB
from .towers_chexficient import CheXficientPreTrainedModel

RECORD, TOKENIZER = "export.json", "tokenizer.json"
#: What makes numbers between 0 and 1 of a head's logits, by its problem type.
ACTIVATIONS = {MULTI: "sigmoid", SINGLE: "softmax"}


@dataclass(frozen=True)
class Loaded:
    """A model in fp32, in evaluation mode, and the folder it came from.

    `adapter_base`: of an adapter, which is merged into its base, the precision that the base had in training.
    """

    model: CheXficientPreTrainedModel
    folder: Path
    adapter_base: str | None = None


def load_for_export(name: str, base: str | None = None, revision: str | None = None) -> Loaded:
    """Load a whole model, a head, or an adapter merged into its base.

    Raises:
        OSError: there is no such model, or an adapter's base is not where it was.
        ValueError: a model of another kind, which is named.
    """
    folder = local_folder(name, revision)
    if any((folder / file).is_file() for file in (RECORD_FILE, CONFIG_FILE)):
        folder = local_folder(name, revision, ADAPTER_FILES)
        return Loaded(_merged(folder, base), folder, read_record(folder).base_precision)
    if base is not None:
        raise ValueError(f"{name} is no adapter: --base is for those alone")
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"{name} holds no config.json: name the folder of the weights, such as RUN/model or RUN/adapter"
        )
    config = AutoConfig.from_pretrained(folder)
    if not isinstance(config, CheXficientConfig):
        raise ValueError(
            f"{name} is of the kind {config.model_type!r}, which cannot be exported: whole CheXficient models, heads "
            "for findings or structures, and adapters for these can"
        )
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    return Loaded(model, folder)


def _merged(folder: Path, base: str | None) -> CheXficientPreTrainedModel:
    """An adapter merged into its base in fp32; ValueError where that changes what it says."""
    task = read_record(folder).task
    if not TASKS_ON_THE_HUB[task].head_on_tower:
        raise ValueError(
            f"{folder} is an adapter for {task}, which cannot be exported: those for findings and structures can"
        )
    peft_model = load_adapter(folder, base=base, dtype=torch.float32)
    size = CheXficientImageProcessor.from_pretrained(folder).size["shortest_edge"]
    films = random_films(size)[:2]
    with torch.no_grad():
        before = peft_model(pixel_values=films).logits
        merged = cast(Any, peft_model).merge_and_unload().eval()
        difference = float((merged(films).logits - before).abs().max() / before.abs().max().clamp(min=1))
    if not difference <= TOLERANCE:
        raise ValueError(f"{folder}: merged into its base, the adapter differs by {difference:.1e}: it is not exported")
    return merged


def export(
    name: str,
    destination: Path | str,
    file_format: str = "onnx",
    graphs: Sequence[str] | None = None,
    base: str | None = None,
    revision: str | None = None,
) -> dict[str, Any]:
    """Export a model into a new folder; gives what `export.json` there holds.

    Args:
        name: folder or Hub id of the model or adapter.
        file_format: "onnx" or "torch".
        graphs: some of `graph_names`; default: all.
        base: another place of an adapter's base.
        revision: commit, branch or tag of a Hub id.

    Raises:
        FileExistsError: the destination holds files.
        OSError, ValueError: the model is not there or cannot be exported, packages are missing, or what was written
            differs from the model. Nothing is left at the destination.
    """
    destination = Path(destination)
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise FileExistsError(f"{destination} exists and is not an empty folder: name a new one")
    check_packages(file_format)
    loaded = load_for_export(name, base, revision)
    wanted = list(graphs or graph_names(loaded.model))
    unknown = sorted(set(wanted) - set(graph_names(loaded.model)))
    if unknown:
        raise ValueError(
            f"{name} ({type(loaded.model).__name__}) has no graph {', '.join(unknown)}, it has "
            f"{', '.join(graph_names(loaded.model))}"
        )
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=f".{destination.name}.") as unfinished:
        folder = Path(unfinished) / "export"
        folder.mkdir()
        record = _write(loaded, name, file_format, wanted, folder)
        if destination.exists():
            destination.rmdir()
        shutil.move(folder, destination)
    return record


def _write(loaded: Loaded, name: str, file_format: str, wanted: Sequence[str], folder: Path) -> dict[str, Any]:
    image_processor = CheXficientImageProcessor.from_pretrained(loaded.folder)
    packages = ["torch", "transformers", *(ONNX_PACKAGES if file_format == "onnx" else ())]
    record: dict[str, Any] = {
        "model": name,
        "model_class": type(loaded.model).__name__,
        "weights_sha256": weights_sha256(loaded.folder),
        # Merged in fp32, whatever the base was held in when the adapter was trained.
        "merged_adapter_was_trained_on": loaded.adapter_base,
        "format": file_format,
        "graphs": {},
        **_preprocessing(image_processor),
        "versions": {package: version(package) for package in packages},
    }
    model = loaded.model
    for graph_name in wanted:
        if graph_name == TEXT:
            processor = _text_processor(loaded, name)
            graph = text_graph(cast(CheXficientModel, model), processor)
            record["text"] = _write_tokenizer(processor.tokenizer, name, folder)
        else:
            graph = image_graph(model, graph_name, record["preprocessing"]["size"])
        record["graphs"][graph_name] = _describe(graph, write_graph(graph, file_format, folder))
    if isinstance(model, CheXficientModel):
        record["logit_scale"] = float(model.logit_scale.detach().exp())
    else:
        problem = model.config.problem_type or MULTI
        record["labels"] = [model.config.id2label[number] for number in range(model.config.num_labels)]
        record["activation"] = ACTIVATIONS.get(problem, "none")
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n")
    write_readme(record, folder)
    return record


def _preprocessing(processor: CheXficientImageProcessor) -> dict[str, Any]:
    """What the image processor does; without normalisation the mean is 0 and the deviation 1."""
    if not processor.do_resize:
        raise ValueError("the image processor does not resize, so the graph has no size: set do_resize")
    normal = processor.do_normalize
    return {
        "preprocessing": {
            "size": processor.size["shortest_edge"],
            "resample": "bicubic",
            "image_mean": processor.image_mean if normal else [0.0] * 3,
            "image_std": processor.image_std if normal else [1.0] * 3,
        }
    }


def _text_processor(loaded: Loaded, name: str) -> CheXficientProcessor:
    try:
        return CheXficientProcessor.from_pretrained(loaded.folder)
    except (OSError, ValueError) as error:
        raise ValueError(f"{name} holds no tokenizer, which the graph text needs: take --graphs image") from error


def _write_tokenizer(tokenizer: PreTrainedTokenizerBase, name: str, folder: Path) -> dict[str, Any]:
    """Write `tokenizer.json`, which the package tokenizers reads, and give what else a user of it needs."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ValueError(
            f"{name} has a tokenizer without {TOKENIZER} ({type(tokenizer).__name__}): take --graphs image"
        )
    (folder / TOKENIZER).write_text(backend.to_str())
    return {
        "max_tokens": min(MAX_TOKENS, tokenizer.model_max_length),
        "pad_id": tokenizer.pad_token_id,
        "pad_token": tokenizer.pad_token,
        "padding_side": tokenizer.padding_side,
    }


def _describe(graph: Graph, file: Path) -> dict[str, Any]:
    return {
        "file": file.name,
        "inputs": graph.input_shapes(),
        "output": graph.output,
        "largest_difference": largest_difference(graph, file),
    }


def summary(record: dict[str, Any], destination: Path) -> str:
    """What was written, in words."""
    adapter_base = record["merged_adapter_was_trained_on"]
    lines = [f"Wrote {destination}: {record['model_class']}"]
    if adapter_base is not None:
        lines[0] += ", adapter merged into its base in fp32"
        lines[0] += "" if adapter_base == "fp32" else f" (trained on it in {adapter_base}: outputs may differ a little)"
    for name, graph in record["graphs"].items():
        inputs = ", ".join(f"{key} {shape}".replace("'", "") for key, shape in graph["inputs"].items())
        lines.append(f"  {name}: {graph['file']}, {inputs} -> {graph['output']}")
        lines.append(f"    differs from the model by {graph['largest_difference']:.1e} at most")
    if "labels" in record:
        lines.append(f"  {'findings' if FINDINGS in record['graphs'] else 'structures'}: {', '.join(record['labels'])}")
    return "\n".join([*lines, "  README.md says how to run it"])


def main(arguments: list[str] | None = None) -> None:
    """Command line of the export."""
    parser = argparse.ArgumentParser(prog="python -m modeling_chexficient.export", description=__doc__.splitlines()[0])
    parser.add_argument("name", metavar="MODEL", help="folder or Hub id of a model, a head or an adapter")
    parser.add_argument("destination", metavar="OUT", help="new folder", type=Path)
    parser.add_argument(
        "--format", choices=sorted(FORMATS), default="onnx", dest="file_format", help="default: %(default)s"
    )
    parser.add_argument("--graphs", nargs="+", help="of a whole model: image, text; default: all")
    parser.add_argument("--base", help="another place of an adapter's base, if it was moved")
    parser.add_argument("--revision", help="commit, branch or tag of a Hub id")
    options = vars(parser.parse_args(arguments))
    try:
        record = export(**options)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    print(summary(record, options["destination"]))


if __name__ == "__main__":
    main()
