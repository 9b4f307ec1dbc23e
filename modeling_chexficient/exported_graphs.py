"""The graphs that a model is exported as: each has named inputs, any batch size, and one output.

Whole models give `image` and `text`, heads `findings` or `structures`. A graph is made by `torch.export` and kept as it
is (`.pt2`) or translated to ONNX; what was written is run and compared with the model before it counts.
"""

import copy
import importlib
import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from .modeling_chexficient import CheXficientModel
from .modeling_chexficient_heads import CheXficientForImageClassification, CheXficientForSemanticSegmentation
from .processing_chexficient import CheXficientProcessor
from .towers_chexficient import CheXficientPreTrainedModel

#: By name of the format, how a file's name ends.
FORMATS = {"onnx": ".onnx", "torch": ".pt2"}
#: Packages for ONNX, in the extra `export`.
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
#: Parts of a whole model, and names of heads.
IMAGE, TEXT, FINDINGS, STRUCTURES = "image", "text", "findings", "structures"
#: How far an exported graph may be from the model, in parts of the largest value, where that is above 1.
TOLERANCE = 1e-4
CHECKED_FILMS = 10
#: Texts of as many lengths as films are checked.
_CHECKED_TEXTS = ["No acute abnormality." + " Small left pleural effusion." * number for number in range(CHECKED_FILMS)]


@dataclass(frozen=True)
class Graph:
    """One graph of a model.

    Attributes:
        name: of the file, without suffix.
        module: gives the output as one tensor.
        inputs: names of the inputs, and of the dimensions that may be of any size.
        output: name of the output.
        tower: class of the tower, for messages.
        checks: inputs of the module to compare with, the first of which the graph is traced with.
    """

    name: str
    module: nn.Module
    inputs: dict[str, dict[int, str]]
    output: str
    tower: str
    checks: list[dict[str, Tensor]]

    def of_inputs(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: given[name] for name in self.inputs}

    def input_shapes(self) -> dict[str, list[int | str]]:
        """Of every input its dimensions, by number where they are fixed and by name where they are not."""
        shapes = {name: tensor.shape for name, tensor in self.of_inputs(self.checks[0]).items()}
        return {
            name: [axes.get(place, int(side)) for place, side in enumerate(shapes[name])]
            for name, axes in self.inputs.items()
        }


class _ImageTower(nn.Module):
    """From pixels to embeddings [B, D] of unit length."""

    def __init__(self, model: CheXficientModel):
        super().__init__()
        self.model = _without(model, "text_model", "text_projection")

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.model.get_image_features(pixel_values).pooler_output


class _TextTower(nn.Module):
    """From tokens to embeddings [B, D] of unit length."""

    def __init__(self, model: CheXficientModel):
        super().__init__()
        self.model = _without(model, "vision_model", "visual_projection")

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        return self.model.get_text_features(input_ids, attention_mask, token_type_ids).pooler_output


class _Head(nn.Module):
    """From pixels to logits [B, L] or [B, L, H, W]."""

    def __init__(self, model: CheXficientPreTrainedModel):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.model(pixel_values).logits


def _without(model: CheXficientModel, *names: str) -> Any:
    """The model without some of its modules, which would travel in a graph that makes no use of them."""
    view = copy.copy(model)
    view._modules = {name: module for name, module in model._modules.items() if name not in names}
    return view


def graph_names(model: nn.Module) -> tuple[str, ...]:
    """The graphs that a model can be exported as. Raises ValueError, which names its class, where there are none."""
    if isinstance(model, CheXficientModel):
        return IMAGE, TEXT
    if isinstance(model, CheXficientForImageClassification):
        return (FINDINGS,)
    if isinstance(model, CheXficientForSemanticSegmentation):
        return (STRUCTURES,)
    raise ValueError(f"{type(model).__name__} cannot be exported: whole models and heads of findings or structures can")


def image_graph(model: CheXficientPreTrainedModel, name: str, size: int) -> Graph:
    """The graph `image`, `findings` or `structures` of a model, for films of `size` x `size` pixels."""
    films = random_films(size)
    module: nn.Module = _Head(model)
    output = "logits"
    if isinstance(model, CheXficientModel):
        module, output = _ImageTower(model), "image_embeds"
    checks = [{"pixel_values": films[:2]}, {"pixel_values": films[:1]}, {"pixel_values": films}]
    return Graph(name, module.eval(), {"pixel_values": {0: "batch"}}, output, type(model.vision_model).__name__, checks)


def text_graph(model: CheXficientModel, processor: CheXficientProcessor) -> Graph:
    """The graph `text` of a whole model, for texts of any number of tokens that the tower takes."""
    batches = [_CHECKED_TEXTS[1:3], _CHECKED_TEXTS[:1], _CHECKED_TEXTS]
    checks = [dict(processor(text=batch)) for batch in batches]
    axes = {0: "batch", 1: "tokens"}
    inputs = {"input_ids": axes, "attention_mask": axes}
    tower = type(model.text_model).__name__
    return Graph(TEXT, _TextTower(model).eval(), inputs, "text_embeds", tower, checks)


def random_films(size: int) -> Tensor:
    """Ten films of smooth noise as a processor gives them, [10, 3, size, size]: the same ones every time."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(CHECKED_FILMS, 1, 7, 7, generator=generator)
    smooth = nn.functional.interpolate(coarse, (size, size), mode="bicubic")
    return (smooth + 0.1 * torch.randn(smooth.shape, generator=generator)).expand(-1, 3, -1, -1).contiguous()


@torch.no_grad()
def trace(graph: Graph) -> ExportedProgram:
    """The graph as `torch.export` sees it. Raises ValueError, which names the tower, where it cannot."""
    shapes = {name: dict.fromkeys(axes, Dim.AUTO) for name, axes in graph.inputs.items()}
    with _refusals(graph, "torch.export"):
        return torch.export.export(graph.module, (), graph.of_inputs(graph.checks[0]), dynamic_shapes=shapes)


def write_graph(graph: Graph, file_format: str, folder: Path) -> Path:
    """Write a graph into a folder, in the format `onnx` or `torch`.

    Raises ValueError, which names the graph and its tower, where it cannot be exported.
    """
    program = trace(graph)
    file = folder / f"{graph.name}{FORMATS[file_format]}"
    if file_format == "torch":
        torch.export.save(program, file)
        return file
    with _refusals(graph, "torch.onnx"):
        translated = torch.onnx.export(
            program,
            (),
            kwargs=graph.of_inputs(graph.checks[0]),
            dynamic_shapes=graph.inputs,
            input_names=list(graph.inputs),
            output_names=[graph.output],
            dynamo=True,
            verbose=False,
        )
    assert translated is not None
    translated.save(file)
    return file


def largest_difference(graph: Graph, file: Path) -> float:
    """Run an exported file and give how far it is from the model, over batches of one, two and ten.

    Raises ValueError where that is more than `TOLERANCE`, or the file takes no other batch or length than it was
    traced with.
    """
    run, largest = runner(file), 0.0
    for given in graph.checks:
        with torch.no_grad():
            expected = graph.module(**given)
        try:
            with torch.no_grad():
                found = run(graph.of_inputs(given))
        except Exception as error:
            shapes = {name: tuple(tensor.shape) for name, tensor in graph.of_inputs(given).items()}
            raise ValueError(f"{file.name} ({graph.tower}) cannot be run on {shapes}: {_first_line(error)}") from error
        difference = float((found - expected).abs().max() / expected.abs().max().clamp(min=1))
        if not difference <= TOLERANCE:
            raise ValueError(
                f"{file.name} ({graph.tower}) differs from the model by {difference:.1e} on a batch of "
                f"{len(expected)}, more than {TOLERANCE:.0e}: it is not exported"
            )
        largest = max(largest, difference)
    return largest


def runner(file: Path) -> Callable[[Mapping[str, Tensor]], Tensor]:
    """A function that runs an exported file on the CPU."""
    if file.suffix == FORMATS["torch"]:
        program = torch.export.load(file).module()
        return lambda inputs: program(**inputs)
    session = importlib.import_module("onnxruntime").InferenceSession(file, providers=["CPUExecutionProvider"])
    return lambda inputs: torch.from_numpy(
        session.run(None, {name: value.numpy() for name, value in inputs.items()})[0]
    )


def check_packages(file_format: str) -> None:
    """Raise ValueError, which names them, where packages that the format needs are not installed."""
    missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if file_format == "onnx" and missing:
        raise ValueError(f'ONNX needs {", ".join(missing)}: pip install "chexficient[export]", or take --format torch')


@contextmanager
def _refusals(graph: Graph, exporter: str) -> Iterator[None]:
    """Errors of the exporters, which are of any kind, as ValueError; their warnings are about their own insides."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        raise ValueError(
            f"the graph {graph.name} ({graph.tower}) cannot be exported by {exporter}: {_first_line(error)}"
        ) from error
    finally:
        logger.setLevel(level)


def _first_line(error: BaseException) -> str:
    # What torch.onnx raises says which step failed; the error behind it says why.
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
