"""What pretraining is worth: runs from random weights, HOG features, and the differences to them."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModel

from eval.models.load import load_evaluation_model
from eval.records.results import load_result
from eval.records.runs import Run
from eval.scores import ZeroShotScores
from tests.adaptation import film, save_base, words, write_corpus
from tests.tiny_models import save_tiny_model
from train.baselines import compare, main, save_random_weights


@pytest.fixture(scope="module")
def discs(tmp_path_factory):
    """60 films with two labels, in three splits: large enough for an interval."""
    numbers = {"train": range(24), "validation": range(100, 112), "test": range(200, 224)}
    rows = {name: [film(number) for number in of_split] for name, of_split in numbers.items()}
    return write_corpus(tmp_path_factory.mktemp("corpus") / "discs", **rows)


def test_hog_sees_edges_and_no_texts():
    model = load_evaluation_model("hog")
    ramp = np.tile(np.arange(128, dtype=np.uint8), (128, 1))
    films = model.pixels([Image.fromarray(image) for image in (ramp, ramp.T, ramp)])
    features = model.tower_features(films)
    assert features.shape == (3, 7 * 7 * 2 * 2 * 9)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(3))
    # Each film has one direction of edges: of nine directions one is filled, another in the turned film.
    one, turned, again = features.reshape(3, -1, 9).mean(dim=1).argmax(dim=1)
    assert one == again != turned
    with pytest.raises(ValueError, match="no text tower"):
        model.embed_texts(["film"])
    with pytest.raises(ValueError, match="no maps"):
        model.pyramid(films)


@pytest.mark.parametrize("kind", ["dinov2", "resnet"])
def test_random_weights_have_the_shape_of_the_model_and_are_another(tmp_path, kind):
    model = save_tiny_model(kind, tmp_path / "model")
    folders = [save_random_weights(str(model), tmp_path / str(seed), seed) for seed in (1, 2)]
    weights = [load_file(folder / "model.safetensors") for folder in (model, *folders)]
    assert {name: tensor.shape for name, tensor in weights[0].items()} == {
        name: tensor.shape for name, tensor in weights[1].items()
    }
    matrices = [name for name, tensor in weights[0].items() if tensor.ndim > 1 and tensor.any()]
    assert len(matrices) > 2
    for first, second in ((0, 1), (1, 2)):
        assert not any(torch.equal(weights[first][name], weights[second][name]) for name in matrices)
    assert type(AutoModel.from_pretrained(folders[0])) is type(AutoModel.from_pretrained(model))


@pytest.mark.slow
def test_one_command_sets_an_adaptation_against_its_baselines(discs, tmp_path, capfd):
    base, out = save_base(tmp_path / "base"), tmp_path / "out"
    command = words("classification", base, discs, out, "--labels", "Disc", "--num_runs", "2", "--resamples", "50")
    main(command)
    table = (out / "baselines.md").read_text()
    assert table.strip() in capfd.readouterr().out
    found = json.loads((out / "baselines.json").read_text())
    assert [row["name"] for row in found["baselines"]] == ["pretrained", "random", "hog"]
    assert (found["films"], found["patients"], found["seeds"], found["labels"]) == (24, 12, [0, 1], ["Disc"])
    pretrained, random, hog = found["baselines"]
    for row in (random, hog):
        assert row["difference"]["value"] == pytest.approx(pretrained["macro"]["value"] - row["macro"]["value"])
        assert row["difference"]["low"] <= row["difference"]["value"] <= row["difference"]["high"]
    for row in found["baselines"]:
        assert row["macro"]["value"] == pytest.approx(np.mean(row["by_run"]))
    # A bright disc or none: edges tell.
    assert hog["macro"]["value"] > 0.7
    runs = {kind: Run.load(out / f"{kind}-1") for kind in ("pretrained", "random")}
    assert runs["pretrained"].base["name"] == str(base)
    assert runs["random"].base["name"].endswith("random_weights/1")
    settings = [run.settings | {"model": None} for run in runs.values()]
    assert settings[0] == settings[1]
    assert load_result(out / "hog-1" / "results" / "discs_findings.json").provenance.model == "hog"

    # Nothing that is finished is run again.
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/*/*.safetensors")}
    main(command)
    assert before == {path: path.stat().st_mtime_ns for path in out.glob("*/*/*.safetensors")}
    with pytest.raises(SystemExit, match=r"pretrained-0 was run with other arguments: rank None -> 2"):
        main([*command, "--rank", "2"])


def test_labels_are_compared_by_name(tmp_path, few_patients, monkeypatch):
    """Of a label that could not be fitted a baseline has no column, so its columns lie elsewhere."""
    targets = np.array([[1, 0], [0, 0], [1, 1], [0, 1]], dtype=float)
    patients = np.arange(4)
    good = targets[:, 1] + 0.1
    runs = {
        "pretrained": ZeroShotScores(["First", "Second"], np.stack([targets[:, 0], good], 1), targets, patients),
        "hog": ZeroShotScores(["Second"], -good[:, None], targets[:, 1:], patients),
    }
    monkeypatch.setattr("train.baselines._scores", lambda folder: runs[folder.name])
    pretrained, hog = compare({name: [tmp_path / name] for name in runs}, resamples=20, seed=0)
    assert (pretrained.macro.value, hog.macro.value, hog.difference.value) == (1, 0, 1)


def test_bad_input(discs, tmp_path, capsys):
    base = save_base(tmp_path / "base")
    for more, message in {
        ("--num_runs", "0"): "num_runs is 0, it must be at least 1",
        ("--task", "segmentation"): "baselines are for task classification",
        ("--rang", "4"): "rang",
    }.items():
        with pytest.raises(SystemExit, match=message):
            main(words("classification", base, discs, tmp_path / "out", *more))
