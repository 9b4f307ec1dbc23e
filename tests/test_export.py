"""Exported graphs give what the model gives, for any batch and length, and their README runs without this package."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from PIL import ExifTags, Image
from transformers import ViTConfig, ViTModel

from modeling_chexficient import (
    CheXficientForImageClassification,
    CheXficientModel,
    CheXficientProcessor,
    exported_graphs,
)
from modeling_chexficient import export as command
from modeling_chexficient.adapters_chexficient import load_adapter
from modeling_chexficient.export import export, main
from modeling_chexficient.exported_graphs import CHECKED_FILMS, ONNX_PACKAGES, runner
from tests.adapter_files import ATTENTION, make_adapter, make_report_model, save_base
from tests.film_files import write_film

MISSING = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
FORMATS = [
    pytest.param("onnx", marks=pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")),
    "torch",
]
TEXTS = ["edema", "no edema", "no no edema edema no", "edema no no"]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_base(tmp_path_factory.mktemp("export") / "base")


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("films")
    for number in range(CHECKED_FILMS):
        write_film(folder / f"{number}.png", (60 - number, 40 + number), "RGB" if number % 2 else "L", seed=number)
    # The first lies on its side, and says so.
    sideways = Image.Exif()
    sideways[ExifTags.Base.Orientation] = 6
    Image.open(folder / "0.png").save(folder / "0.png", exif=sideways)
    return sorted(folder.iterdir())


def pixels_of(films: list[Path], folder: Path) -> torch.Tensor:
    processor = CheXficientProcessor.from_pretrained(folder)
    return processor(images=[Image.open(film) for film in films])["pixel_values"]


def printed_by_readme(folder: Path, film: Path, monkeypatch, capsys) -> list[float]:
    """The numbers that the README's lines print, which need neither this package nor transformers."""
    (folder / "film.png").write_bytes(film.read_bytes())
    (code,) = (folder / "README.md").read_text().split("```python\n")[1:]
    code = code.split("```")[0]
    assert "chexficient" not in code
    assert "transformers" not in code
    monkeypatch.chdir(folder)
    capsys.readouterr()
    exec(compile(code, "README.md", "exec"), {})
    return [float(part.split(",")[0].rstrip("}\n")) for part in capsys.readouterr().out.split(": ")[1:]]


@pytest.mark.parametrize("file_format", FORMATS)
@torch.no_grad()
def test_both_towers(base, films, tmp_path, file_format, monkeypatch, capsys):
    main([str(base), str(tmp_path / "out"), "--format", file_format])
    assert "pixel_values [batch, 3, 28, 28] -> image_embeds" in capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "export.json").read_text())
    run = {name: runner(tmp_path / "out" / graph["file"]) for name, graph in record["graphs"].items()}
    model, processor = CheXficientModel.from_pretrained(base).eval(), CheXficientProcessor.from_pretrained(base)
    pixels, words = pixels_of(films, base), processor(text=TEXTS)
    for count in (1, CHECKED_FILMS):
        expected = model.get_image_features(pixels[:count]).pooler_output
        torch.testing.assert_close(run["image"]({"pixel_values": pixels[:count]}), expected, rtol=0, atol=1e-4)
    for tokens in (words, processor(text=TEXTS[:1]), {name: value.flip(1) for name, value in words.items()}):
        given = {name: tokens[name] for name in ("input_ids", "attention_mask")}
        torch.testing.assert_close(
            run["text"](given), model.get_text_features(**given).pooler_output, rtol=0, atol=1e-4
        )
    if file_format == "torch":
        # Weights of the other tower do not travel.
        assert not any("text" in name for name in torch.export.load(tmp_path / "out" / "image.pt2").state_dict)
    found = torch.tensor(printed_by_readme(tmp_path / "out", films[0], monkeypatch, capsys))
    tokens = processor(text=["Pleural Effusion", "no Pleural Effusion"])
    expected = model(pixel_values=pixels[:1], **tokens).logits_per_image[0]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("task", ["image-classification", "semantic-segmentation"])
@torch.no_grad()
def test_an_adapter_is_merged(base, films, tmp_path, task, file_format, monkeypatch, capsys):
    adapter = make_adapter(base, tmp_path / "adapter", task, **ATTENTION)
    record = export(str(adapter.folder), tmp_path / "out", file_format)
    ((name, graph),) = record["graphs"].items()
    model = load_adapter(adapter.folder)
    pixels = pixels_of(films, base)
    found = runner(tmp_path / "out" / graph["file"])({"pixel_values": pixels})
    expected = model(pixel_values=pixels).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert record["labels"] == ["effusion", "edema"]
    assert not [path for path in tmp_path.iterdir() if path.name not in ("adapter", "out")]
    if name == "findings":
        scores = torch.tensor(printed_by_readme(tmp_path / "out", films[0], monkeypatch, capsys))
        torch.testing.assert_close(scores, expected[0].sigmoid(), rtol=1e-3, atol=1e-4)


def test_what_cannot_be_exported_is_named(base, tmp_path, monkeypatch):
    report, _ = make_report_model(base)
    report.save_pretrained(tmp_path / "report")
    ViTModel(ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28)).save_pretrained(
        tmp_path / "vit"
    )
    CheXficientForImageClassification.from_pretrained(base, num_labels=2).save_pretrained(tmp_path / "head")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "empty").mkdir()
    torch_format = ["--format", "torch"]
    for words, message in (
        ([str(tmp_path / "report")], "kind 'chexficient_report', which cannot be exported"),
        ([str(tmp_path / "vit")], "kind 'vit', which cannot be exported"),
        ([str(tmp_path / "head"), "--graphs", "text"], "has no graph text, it has findings"),
        ([str(tmp_path / "empty")], "no config.json: name the folder of the weights"),
        ([str(base), "--base", "other"], "is no adapter"),
    ):
        with pytest.raises(SystemExit, match=message):
            main([words[0], str(tmp_path / "out"), *torch_format, *words[1:]])
    with pytest.raises(SystemExit, match="is not an empty folder"):
        main([str(base), str(tmp_path / "full"), *torch_format])
    monkeypatch.setattr(exported_graphs, "ONNX_PACKAGES", ("onnx", "strange_package"))
    with pytest.raises(SystemExit, match=r"strange_package: pip install .*export.*or take --format torch"):
        main([str(base), str(tmp_path / "out")])
    # A graph that says something else than the model is not left behind.
    monkeypatch.setattr(command, "write_graph", lambda graph, *rest: _wrong(graph, *rest))
    with pytest.raises(SystemExit, match=r"image.pt2 \(Dinov2Model\) differs from the model by"):
        main([str(base), str(tmp_path / "out"), *torch_format])
    assert not (tmp_path / "out").exists()


def _wrong(graph, file_format, folder):
    with torch.no_grad():
        weight = graph.module.model.visual_projection.weight
        kept = weight.clone()
        weight.mul_(-1)
        file = exported_graphs.write_graph(graph, file_format, folder)
        weight.copy_(kept)
    return file
