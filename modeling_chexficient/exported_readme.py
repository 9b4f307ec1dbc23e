"""The README of an exported model: what is in the folder and the lines that run it, without this package."""

from pathlib import Path
from typing import Any

_TEXT = """# {model_class}, exported

Exported from `{model}` (weights {sha}) as {kind}. For research; not a medical device. `export.json` holds inputs,
outputs, preprocessing and names; every graph takes any batch size. On ten inputs each, outputs differed from the
model's by {difference:.1e} at most.

| file | inputs | output |
|---|---|---|
{rows}

{about}

```bash
pip install {packages}
```

```python
{code}
```

`read_film` does what the model's image processor does with a film of 8 bits and black air. Films of more bits would
become white in `convert("RGB")`: it refuses them. DICOM files have to be shown first, as a viewer does.
"""
_ABOUT = {
    "image": "Embeddings are of unit length. `logit_scale` times their cosine orders films by a text; it is no "
    "probability.",
    "findings": "`logits` has a column for each finding, in the order of `labels`.",
    "structures": "`logits` has a map for each structure, in the order of `labels`, over the square that `read_film` "
    "cuts out of the film.",
}
_FILM = '''

def read_film(path):
    """[1, 3, size, size] fp32: short side resized, centre cut out, normalised."""
    given = export["preprocessing"]
    size, film = given["size"], ImageOps.exif_transpose(Image.open(path))
    if film.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
        raise ValueError(f"{path} has more than 8 bits ({film.mode}): scale it to 8 first")
    film = film.convert("L").convert("RGB") if film.mode == "1" else film.convert("RGB")
    width, height = (int(size * side / min(film.size)) for side in film.size)
    film = film.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - size) / 2), round((height - size) / 2)
    pixels = np.asarray(film.crop((left, top, left + size, top + size)), np.float32) / 255
    pixels = (pixels - np.float32(given["image_mean"])) / np.float32(given["image_std"])
    return pixels.transpose(2, 0, 1)[None]

'''
_RUN = {
    "onnx": '''
def run(graph, **inputs):
    """The output of a graph for arrays."""
    session = onnxruntime.InferenceSession(export["graphs"][graph]["file"], providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]

''',
    "torch": '''
def run(graph, **inputs):
    """The output of a graph for arrays."""
    program = torch.export.load(export["graphs"][graph]["file"]).module()
    with torch.no_grad():
        return program(**{name: torch.from_numpy(value) for name, value in inputs.items()}).numpy()

''',
}
_TOKENS = '''
def read_texts(texts):
    """Tokens of texts, padded to the longest."""
    given = export["text"]
    tokenizer = Tokenizer.from_file("tokenizer.json")
    tokenizer.enable_truncation(given["max_tokens"])
    tokenizer.enable_padding(direction=given["padding_side"], pad_id=given["pad_id"], pad_token=given["pad_token"])
    encoded = tokenizer.encode_batch(texts)
    ids, mask = ([text.ids for text in encoded], [text.attention_mask for text in encoded])
    return {"input_ids": np.int64(ids), "attention_mask": np.int64(mask)}

'''
_LAST = {
    "image": """
print(run("image", pixel_values=read_film("film.png")).shape)""",
    "text": """
print(run("text", **read_texts(["Pleural Effusion"])).shape)""",
    "image text": """
texts = ["Pleural Effusion", "no Pleural Effusion"]
images, words = run("image", pixel_values=read_film("film.png")), run("text", **read_texts(texts))
logits = export["logit_scale"] * images @ words.T
print(dict(zip(texts, logits[0].tolist())))""",
    "findings": """
logits = run("findings", pixel_values=read_film("film.png"))
scores = {activation}
print(dict(zip(export["labels"], scores[0].tolist())))""",
    "structures": """
logits = run("structures", pixel_values=read_film("film.png"))
scores = {activation}
print(dict(zip(export["labels"], (scores[0] > 0.5).mean((1, 2)).tolist())))  # share of the square""",
}
_ACTIVATIONS = {
    "sigmoid": "1 / (1 + np.exp(-logits))",
    "softmax": "np.exp(logits - logits.max(1, keepdims=True))\nscores /= scores.sum(1, keepdims=True)",
    "none": "logits",
}


def write_readme(record: dict[str, Any], folder: Path) -> None:
    """Write README.md beside `export.json`, whose content is `record`."""
    graphs = record["graphs"]
    rows = [f"| `{graph['file']}` | {_inputs(graph['inputs'])} | `{graph['output']}` |" for graph in graphs.values()]
    of_torch = f"programs of torch.export (torch {record['versions']['torch']})"
    runtime = "onnxruntime" if record["format"] == "onnx" else "torch"
    texts = ["tokenizers"] if "text" in graphs else []
    (folder / "README.md").write_text(
        _TEXT.format(
            model_class=record["model_class"],
            model=record["model"],
            sha=str(record["weights_sha256"])[:12],
            kind="ONNX" if record["format"] == "onnx" else of_torch,
            difference=max(graph["largest_difference"] for graph in graphs.values()),
            rows="\n".join(rows),
            about=_ABOUT[next(iter(name for name in (*graphs, "image") if name in _ABOUT))],
            packages=" ".join([runtime, "numpy", "pillow", *texts]),
            code=snippet(record),
        )
    )


def snippet(record: dict[str, Any]) -> str:
    """Python that runs the exported graphs on `film.png`, in the folder of the export."""
    graphs = record["graphs"]
    runtime = "onnxruntime" if record["format"] == "onnx" else "torch"
    imports = ["import json\n\nimport numpy as np", f"import {runtime}", "from PIL import Image, ImageOps"]
    imports += ["from tokenizers import Tokenizer"] if "text" in graphs else []
    code = "\n".join([*imports, '\nexport = json.load(open("export.json"))\n'])
    code += "" if list(graphs) == ["text"] else _FILM
    code += _TOKENS if "text" in graphs else ""
    last = _LAST[" ".join(sorted(graphs))].format(activation=_ACTIVATIONS[record.get("activation", "none")])
    return code + _RUN[record["format"]] + last


def _inputs(shapes: dict[str, list[int | str]]) -> str:
    return ", ".join(f"`{name}` [{', '.join(map(str, shape))}]" for name, shape in shapes.items())
