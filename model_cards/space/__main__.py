"""A Hugging Face Space to try a model on films: findings by prompt, nearest reports, predicted masks.

    python -m model_cards.space DIR --model runs/demo/model --data runs/demo/data [--segmentation RUN] [--launch]

Writes a folder that runs offline (`python app.py`) and can be pushed as a Space of the SDK gradio. Adapters are merged
into a copy of their base, so that the page needs no peft. Reports and films are taken from open or synthetic data only.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from datasets import Dataset
from huggingface_hub import SpaceCard, SpaceCardData
from transformers import AutoImageProcessor, AutoModel, HfArgumentParser, PreTrainedModel

import modeling_chexficient
from data_scripts.command_line import command_name
from eval.records.runs import adaptation_behind, weights_folder
from model_cards.corpora import hub_licence, training_sources
from model_cards.space.reports import frequent_labels, load_public, write_reports
from model_cards.space_files.space_app.findings import parse_findings
from modeling_chexficient import (
    CheXficientModel,
    CheXficientProcessor,
    image_processing_chexficient_dicom,
    input_check_chexficient,
    operating_points_chexficient,
)
from modeling_chexficient.base_identity_chexficient import commit_of, weights_sha256
from modeling_chexficient.operating_points_chexficient import OperatingPoints, find_points
from modeling_chexficient.tasks_chexficient import TASKS

FILES = Path(__file__).parents[1] / "space_files"
#: How a DICOM film is shown, written once: the page reads uploads by the file that prepares training data.
DICOM_DISPLAY = Path(image_processing_chexficient_dicom.__file__)
#: The check of uploads, the one of the package, and its weights.
INPUT_CHECK = Path(input_check_chexficient.__file__)
#: How operating points are read, likewise.
OPERATING_POINTS = Path(operating_points_chexficient.__file__)
#: The release of gradio that the page was tried with.
GRADIO = "6.31.0"
#: CheXpert's findings, for a model shown without data.
FINDINGS = (
    *("No Finding", "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture"),
    *("Lung Lesion", "Lung Opacity", "Pleural Effusion", "Pleural Other", "Pneumonia", "Pneumothorax"),
    "Support Devices",
)
#: By option, the task that the page shows.
HEADS = {name: TASKS[name] for name in ("classification", "segmentation")}
NO_FINDING = "No Finding: no acute cardiopulmonary abnormality | abnormal chest radiograph"


@dataclass
class SpaceArguments:
    """What goes into the Space.

    Args:
        model: folder or Hub id of a CheXficient model; a folder is copied, a Hub model is named with its revision.
        data: prepared dataset (open or synthetic) for nearest reports, reference films and examples.
        classification, segmentation: an adapter, a head, or the run folder of `train.adapt`.
        name: what the page calls the model; default: its Hub id.
        findings: what the page looks for at first, "NAME" or "NAME: text with it | text without it"; default: the most
            frequent labels of `data`, else those of CheXpert.
        positive_prompt, negative_prompt: templates with {} for the name of a finding.
        reports, reference_films: how many are taken of `data`.
        title: heading of the page.
        launch: start the page once it is written (needs gradio).
    """

    model: str
    data: str | None = None
    classification: str | None = None
    segmentation: str | None = None
    name: str | None = None
    findings: list[str] | None = None
    positive_prompt: str = "{}"
    negative_prompt: str = "no {}"
    reports: int = 2000
    reference_films: int = 500
    title: str = "CheXficient: reading a chest film"
    launch: bool = False

    def __post_init__(self):
        if self.reports < 1 or self.reference_films < 1:
            raise ValueError("--reports and --reference_films must be at least 1")


def build_space(out: Path, arguments: SpaceArguments) -> Path:
    """Write the Space to `out` and return it; an earlier Space there is replaced.

    Raises:
        ValueError: `out` holds something else; the model has no text tower; an adapter or head is of another task or
            base; the data are neither open nor synthetic; a finding or a prompt is malformed.
        OSError: there is no such model.
    """
    if out.exists() and any(out.iterdir()) and not (out / "space_app").is_dir():
        raise ValueError(f"{out} holds other files: name a new folder")
    parse_findings("\n".join(arguments.findings or FINDINGS), arguments.positive_prompt, arguments.negative_prompt)
    data = None if arguments.data is None else load_public(arguments.data)
    model, processor = load_dual_encoder(arguments.model)
    heads = {task: load_head(path, task, arguments.model) for task in HEADS if (path := getattr(arguments, task))}
    _clear(out)
    copy_code(out)
    if Path(arguments.model).is_dir():
        model.save_pretrained(out / "model")
        processor.save_pretrained(out / "model")
    for task, (head, image_processor) in heads.items():
        head.save_pretrained(out / task)
        image_processor.save_pretrained(out / task)
    copy_points(out, "model", arguments.model, processor.image_processor)
    if "classification" in heads:
        head, image_processor = heads["classification"]
        outputs = [head.config.id2label[number] for number in range(head.config.num_labels)]
        copy_points(out, "classification", str(arguments.classification), image_processor, outputs)
    settings = _settings(arguments)
    if data is not None:
        settings |= write_reports(out, data, model, processor, arguments.reports, arguments.reference_films)
    (out / "space.json").write_text(json.dumps(settings, indent=1))
    _card(settings, arguments, _sources(arguments, model, data)).save(out / "README.md")
    return out


def copy_code(out: Path) -> None:
    """Write the code of the page, which imports nothing of this project, to the folder `out`."""
    shutil.copytree(FILES, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.jinja", "__pycache__"))
    shutil.copy(DICOM_DISPLAY, out / "space_app" / "dicom_display.py")
    for file in (INPUT_CHECK, input_check_chexficient.WEIGHTS, OPERATING_POINTS):
        shutil.copy(file, out / "space_app")


def copy_points(out: Path, part: str, source: str, image_processor, outputs: list[str] | None = None) -> None:
    """Write the operating points of `source` (model, adapter, run or Hub id), where it has some, to `out`.

    Args:
        image_processor, outputs: of the model, as `OperatingPoints.check_model` takes them.

    Raises:
        ValueError: they were chosen with another model, or cannot be read.
    """
    place = weights_folder(source)
    file = find_points(place)
    if file is not None:
        points = OperatingPoints.load(file)
        points.check_model(source, weights_sha256(place), image_processor, outputs)
        points.save(out / "points" / f"{part}.json")


def _clear(out: Path) -> None:
    """Remove what an earlier build wrote and this one may not."""
    for name in ("model", *HEADS, "points", "reports", "examples", "space_app"):
        shutil.rmtree(out / name, ignore_errors=True)


def load_dual_encoder(name: str) -> tuple[CheXficientModel, CheXficientProcessor]:
    """A CheXficient model in fp32 with its processor. Raises ValueError for other models, which read no prompts."""
    model = AutoModel.from_pretrained(name, dtype=torch.float32)
    if not isinstance(model, CheXficientModel):
        raise ValueError(f"--model {name}: a {model.config.model_type} has no CheXficient text tower to read prompts")
    return model.eval(), CheXficientProcessor.from_pretrained(name)


def load_head(path: str, task: str, base: str) -> tuple[PreTrainedModel, object]:
    """The head of an adapter, head or run folder, adapters merged, with its image processor.

    Raises:
        ValueError: there is none, it is of another task, or of another base than `base`.
    """
    class_name = HEADS[task].head
    folder = next((Path(path) / name for name in ("adapter", "model") if (Path(path) / name).is_dir()), Path(path))
    if (folder / "adapter_config.json").is_file():
        # It needs peft, which a Space without adapters does not.
        from modeling_chexficient.adapters_chexficient import load_adapter

        # Merged, the base is one with the adapter: in fp32, whatever it was in when the adapter was trained.
        adapted = load_adapter(folder, base=base, task=HEADS[task].hub_name, dtype=torch.float32)
        model = adapted.merge_and_unload()
    elif (folder / "config.json").is_file():
        # Loading anything else into this class would give it a new head, which knows nothing.
        architecture = (json.loads((folder / "config.json").read_text()).get("architectures") or ["nothing"])[0]
        if architecture != class_name:
            raise ValueError(f"--{task} {path}: holds a {architecture}, expected a {class_name} or its adapter")
        model = getattr(modeling_chexficient, class_name).from_pretrained(folder, dtype=torch.float32)
    else:
        raise ValueError(f"--{task} {path}: neither an adapter, a head nor a run of train.adapt")
    if model.config.problem_type == "regression":
        raise ValueError(f"--{task} {path}: a regression, whose numbers the page cannot show as labels")
    return model.eval(), AutoImageProcessor.from_pretrained(folder)


def _settings(arguments: SpaceArguments) -> dict:
    """What `space_app.models` reads. No path of this machine is in it."""
    local = Path(arguments.model).is_dir()
    labels = (arguments.data and frequent_labels(arguments.data)) or FINDINGS
    findings = arguments.findings or [NO_FINDING if label == "No Finding" else label for label in labels]
    return {
        "title": arguments.title,
        "name": arguments.name or ("a CheXficient model" if local else arguments.model),
        "model": None if local else arguments.model,
        "revision": commit_of(arguments.model),
        "findings": findings,
        "positive_prompt": arguments.positive_prompt,
        "negative_prompt": arguments.negative_prompt,
        "report_sources": [],
    }


def _sources(arguments: SpaceArguments, model: CheXficientModel, data: dict[str, Dataset] | None) -> list[str]:
    """Corpora behind the weights, reports and films of the Space; none where those of the model are not recorded."""
    names = list(getattr(model.config, "pretraining_sources", None) or [])
    if not names:
        return []
    for path in filter(None, (getattr(arguments, task) for task in HEADS)):
        run = adaptation_behind(weights_folder(path))
        names += ["own"] if run is None else run.sources
    return sorted({*names, *(name for split in (data or {}).values() for name in split.unique("source"))})


def _card(settings: dict, arguments: SpaceArguments, sources: list[str]) -> SpaceCard:
    hub_model = settings["model"]
    data = SpaceCardData(
        title=arguments.title,
        emoji="🩻",
        colorFrom="blue",
        colorTo="gray",
        sdk="gradio",
        sdk_version=GRADIO,
        python_version="3.11",
        app_file="app.py",
        **hub_licence(training_sources(sources, {}, None)),
        short_description="Chest film reading, for research only",
        tags=["chest-x-ray", "radiology", "chexficient"],
        models=None if hub_model is None else [hub_model],
    )
    return SpaceCard.from_template(
        data,
        template_str=(FILES / "README.md.jinja").read_text(),
        title=arguments.title,
        name=settings["name"],
        hub_model=hub_model,
        classification=arguments.classification,
        segmentation=arguments.segmentation,
        reports=settings["report_sources"],
        **{name: settings.get(name, 0) for name in ("texts", "films", "examples")},
    )


def main(arguments: list[str] | None = None) -> None:
    usage = "%(prog)s DIR --model MODEL [--ARGUMENT VALUE ...]"
    parser = HfArgumentParser(SpaceArguments, prog=command_name(), usage=usage)
    parser.add_argument("folder", type=Path, metavar="DIR", help="Where the Space is made.")
    try:
        parsed, named = parser.parse_args_into_dataclasses(arguments)
        if parsed.launch and importlib.util.find_spec("gradio") is None:
            raise ValueError(f'--launch needs gradio: pip install "gradio>={GRADIO},<7", or run without --launch')
        out = build_space(named.folder, parsed)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"Space in {out}; start it with: cd {out} && python app.py")
    if parsed.launch:
        # A process of its own, as in a Space: none of this checkout is imported there. It is ended with Ctrl-C.
        with contextlib.suppress(KeyboardInterrupt):
            sys.exit(subprocess.run([sys.executable, "app.py"], cwd=out).returncode)


if __name__ == "__main__":
    main()
