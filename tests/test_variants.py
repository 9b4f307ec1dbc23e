"""The rival selection, the cheaper variants, the subset as a dataset, and the benchmark."""

import json
import re
import subprocess
import sys

import datasets
import pyarrow.parquet as pq
import pytest
import torch
from datasets import load_dataset
from torch.nn import functional as F

from data_scripts.prepared.films import PairDataset
from tests.training import RECIPE, REPOSITORY, kept_rows, make_batch, make_trainer
from train.objectives.encoding import resize_pixels
from train.pretrain.__main__ import main
from train.selection.agreement import main as agreement
from train.selection.baselines import duplicate_similarity, select_semdedup
from train.selection.outcome import Role
from train.selection.prototypes import collapsed_cosine, mean_pairwise_cosine, usage_entropy
from train.selection.state import CurationState
from train.speed import main as benchmark


def run(corpus, out, *more: str) -> dict:
    main([RECIPE, "--dataset_dir", str(corpus), "--output_dir", str(out), *more])
    return json.loads((out / "run.json").read_text())


def test_duplicate_similarity_looks_at_earlier_rows_alone():
    features = F.normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [0.0, 1.0]]), dim=-1)
    expected = [-1.0, 0.0, float(features[2] @ features[0]), 1.0]
    for block_size in (1, 2, 3, 100):
        assert duplicate_similarity(features, block_size).tolist() == pytest.approx(expected)


def test_semdedup_drops_one_of_each_pair_of_copies_first():
    generator = torch.Generator().manual_seed(0)
    distinct = F.normalize(torch.randn(60, 32, generator=generator), dim=-1)
    copies = F.normalize(distinct[:40] + 0.01 * torch.randn(40, 32, generator=generator), dim=-1)
    selection = select_semdedup(torch.cat([distinct, copies]), keep_share=0.6, num_clusters=4, seed=0)
    kept = selection.kept
    assert kept.sum() == 60
    both, neither = (kept[:40] & kept[60:]).sum(), (~kept[:40] & ~kept[60:]).sum()
    assert (both, neither) == (0, 0)
    assert kept[40:60].all()
    assert set(selection.roles.tolist()) == {Role.REDUNDANT, Role.CENTRAL}
    again = select_semdedup(torch.cat([distinct, copies]), keep_share=0.6, num_clusters=4, seed=0)
    assert torch.equal(again.roles, selection.roles)


@pytest.mark.parametrize("warmup", ["0", "0.15"])
def test_semdedup_chooses_once_after_the_warm_up(tiny_corpus, tmp_path, warmup):
    words = ["--selection", "semdedup", "--semdedup_cluster_size", "40", "--curation_warmup_share", warmup]
    done = run(tiny_corpus, tmp_path, *words)
    assert done["steps"] == 12
    assert done["pairs_scored"] == done["corpus_pairs"]
    assert done["kept_pairs"] == round(0.3 * done["corpus_pairs"])
    assert done["flops"]["scored"] > 0
    state = CurationState.load(tmp_path)
    assert state.seen.all()
    assert state.clusters.max() >= 4


def test_the_flops_of_selections_compare(tiny_corpus, tmp_path):
    """At equal passes a subset costs its share, and scoring a third of a pass more, less with small images."""
    words = ["--max_steps", "-1", "--num_train_epochs", "4", "--curation_warmup_share", "0", "--keep_share", "0.25"]
    words += ["--super_batch_size", "48"]
    flops = {}
    for name, more in {
        "none": [],
        "random": [],
        "quantile": [],
        "small": ["--score_image_size", "42", "--low_resolution_size", "42"],
    }.items():
        selection = "quantile" if name == "small" else name
        flops[name] = run(tiny_corpus, tmp_path / name, "--selection", selection, *words, *more)["flops"]
    full = flops["none"]["total"]
    assert flops["random"]["scored"] == flops["none"]["scored"] == 0
    # A pass over 60 kept pairs leaves out the remainder by batches of 24.
    assert flops["random"]["total"] / full == pytest.approx(0.25 * 48 / 60, rel=0.1)
    assert flops["quantile"]["trained"] == pytest.approx(flops["random"]["trained"], rel=0.15)
    assert 0.05 < flops["quantile"]["scored"] / full < 0.15
    assert flops["small"]["scored"] < 0.95 * flops["quantile"]["scored"]
    assert flops["small"]["trained"] < 0.97 * flops["quantile"]["trained"]


def test_small_images_are_used_when_and_where_they_are_asked_for(tiny_corpus, tmp_path):
    words = ["--score_image_size", "42", "--low_resolution_size", "42", "--low_resolution_share", "0.5"]
    trainer = make_trainer(tiny_corpus, tmp_path, *words)
    embed, seen = trainer.encoder.embed, []

    def recording(model, batch, chunk, image_size, spent_on):
        seen.append((trainer.batches_done, spent_on, image_size))
        return embed(model, batch, chunk, image_size, spent_on)

    trainer.encoder.embed = recording
    trainer.train()
    assert {size for _, spent_on, size in seen if spent_on == "scored"} == {42}
    sizes = {number: size for number, spent_on, size in seen if spent_on == "trained"}
    # 2 batches of warm-up and 4 of curation at full size, then half of 6 small.
    assert [sizes[number] for number in range(1, 13)] == [None] * 6 + [42] * 3 + [None] * 3


def test_small_pixels_are_bytes_near_those_of_the_image_library():
    from PIL import Image

    generator = torch.Generator().manual_seed(0)
    smooth = F.interpolate(torch.rand(1, 1, 9, 9, generator=generator) * 255, (56, 56), mode="bicubic")
    pixels = smooth.clamp(0, 255).to(torch.uint8)
    small = resize_pixels(pixels, 28)
    assert small.dtype == torch.uint8
    expected = torch.tensor(list(Image.fromarray(pixels[0, 0].numpy()).resize((28, 28), Image.BICUBIC).getdata()))
    assert (small.flatten().int() - expected.int()).abs().max() <= 2
    assert resize_pixels(pixels, 56) is pixels


def test_the_subset_is_a_dataset_of_its_own(tiny_corpus, tmp_path):
    folder = tmp_path / "curated"
    done = run(tiny_corpus, tmp_path / "run", "--save_curated_dataset", str(folder))
    corpus = load_dataset(str(tiny_corpus), split="train")
    subset = load_dataset(str(folder), split="train")
    rows = kept_rows(tmp_path / "run")
    assert len(subset) == done["kept_pairs"] == len(rows)
    assert subset.column_names == corpus.column_names
    for place in (0, len(rows) - 1):
        one, other = subset[place], corpus[rows[place]]
        assert (one["record_id"], one["report"]) == (other["record_id"], other["report"])
        assert one["image"].tobytes() == other["image"].tobytes()
    streamed = next(iter(load_dataset(str(folder), split="train", streaming=True)))
    assert streamed["record_id"] == subset[0]["record_id"]
    card = (folder / "README.md").read_text()
    assert f"| synthetic | {len(rows)} |" in card
    assert corpus[rows[0]]["record_id"] not in card
    # Any other trainer: here our own, on all of it.
    assert run(folder, tmp_path / "again", "--selection", "none")["corpus_pairs"] == len(rows)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(SystemExit, match="holds something else"):
        run(tiny_corpus, tmp_path / "b", "--save_curated_dataset", str(tmp_path / "mine"))


def test_a_damaged_film_in_mid_run_is_named(tiny_corpus, tmp_path):
    folder = tmp_path / "data"
    file = next((tiny_corpus / "data").glob("train-*.parquet"))
    table = pq.read_table(file)
    rows = table.to_pylist()
    rows[30]["image"]["bytes"] = rows[30]["image"]["bytes"][:200]
    (folder / "data").mkdir(parents=True)
    pq.write_table(table.from_pylist(rows, schema=table.schema), folder / "data" / file.name)
    with pytest.raises(SystemExit, match=rf"record '{rows[30]['record_id']}' \(row 30\) cannot be decoded"):
        run(folder, tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_whole_model_goes_on(tiny_corpus, tmp_path):
    run(tiny_corpus, tmp_path / "base", "--selection", "none")
    recipe = tmp_path / "continue.yaml"
    recipe.write_text(f"model: {tmp_path / 'base' / 'model'}\nmax_text_length: 64\nuse_cpu: true\ndisable_tqdm: true\n")
    words = ["--dataset_dir", str(tiny_corpus), "--super_batch_size", "64", "--per_device_train_batch_size", "24"]
    main([str(recipe), *words, "--output_dir", str(tmp_path / "next"), "--max_steps", "8", "--learning_rate", "1e-9"])
    before, after = (load_weights(tmp_path / name) for name in ("base", "next"))
    for name in before:
        torch.testing.assert_close(after[name], before[name], atol=1e-4, rtol=0)
    config = json.loads((tmp_path / "next" / "model" / "config.json").read_text())
    assert config["pretraining_sources"] == ["synthetic"]


def load_weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model" / "model.safetensors")


def test_collapse_is_told_from_closeness():
    spread = F.normalize(torch.eye(4) + 3, dim=-1)
    assert mean_pairwise_cosine(spread) > 0.9
    assert mean_pairwise_cosine(spread) < collapsed_cosine(start=mean_pairwise_cosine(spread))
    assert mean_pairwise_cosine(torch.eye(3)) == 0
    assert collapsed_cosine(0.2) == pytest.approx(0.8)
    assert usage_entropy(torch.tensor([5.0, 5.0, 5.0])) == pytest.approx(1)
    assert usage_entropy(torch.tensor([9.0, 0.0, 0.0])) == pytest.approx(0, abs=1e-6)


def test_the_log_watches_the_prototypes(tiny_corpus, tmp_path, capsys):
    run(tiny_corpus, tmp_path)
    entries = [one for one in json.loads((tmp_path / "log.json").read_text()) if "prototype_mean_cosine" in one]
    assert len(entries) >= 4
    assert all(0 <= one["prototype_usage_entropy"] <= 1 for one in entries)
    assert all(0 <= one["data_wait_share"] <= 1 for one in entries)
    trainer = make_trainer(tiny_corpus, tmp_path / "b")
    trainer.curator.choose(trainer.model, make_batch(trainer, range(64)), number=2)
    trainer.batches_done = 3
    trainer.curation.prototypes = F.normalize(torch.ones(4, 32) + 1e-4 * torch.eye(4, 32), dim=-1)
    trainer.log({"loss": 1.0})
    assert "the prototypes have collapsed" in capsys.readouterr().out


def test_overlap_of_small_scoring(tiny_corpus, tmp_path, capsys):
    run(tiny_corpus, tmp_path)
    capsys.readouterr()
    agreement([str(tmp_path), "--sizes", "42", "56", "--super_batches", "3"])
    result = json.loads(capsys.readouterr().out)
    assert result["sizes"]["56"]["overlap"] == 1, "the full size chooses the same"
    assert result["chance"] < result["sizes"]["42"]["overlap"] <= 1
    assert result["sizes"]["42"]["flops"] < 1
    run(tiny_corpus, tmp_path / "random", "--selection", "random")
    with pytest.raises(SystemExit, match="scores nothing"):
        agreement([str(tmp_path / "random"), "--sizes", "42"])


def test_the_benchmark_compares_steps(tmp_path, capsys):
    out = tmp_path / "bench.json"
    tower = '{"model_type": "dinov2", "patch_size": 14, "hidden_size": 32, "num_hidden_layers": 2, '
    tower += '"num_attention_heads": 2, "mlp_ratio": 2}'
    text = '{"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, '
    text += '"intermediate_size": 64}'
    words = ["--vision_config", tower, "--text_config", text, "--image_size", "56", "--super_batch_size", "32"]
    words += ["--score_image_size", "42", "--repeats", "2", "--text_length", "24", "--out", str(out)]
    benchmark(words)
    report = json.loads(out.read_text())
    steps = report["steps"]
    assert list(steps) == ["published", "ours", "ours, chunks of 16", "ours, scored at 42 px", "scoring alone"]
    assert steps["published"]["ratio"]["median"] == 1
    # (1 + 3 p) / 3 of the published step, less what shorter texts save; BERT's embeddings make backward < 2 forward.
    assert 0.4 < steps["ours"]["flops_ratio"] < 0.68
    assert steps["ours, chunks of 16"]["flops_ratio"] == pytest.approx(steps["ours"]["flops_ratio"], rel=0.1)
    assert steps["ours, scored at 42 px"]["flops_ratio"] < steps["ours"]["flops_ratio"]
    assert all(0 <= one["selecting_share"] < 1 and one["share_of_peak"] is None for one in steps.values())
    assert "| published |" in capsys.readouterr().out


@pytest.mark.slow
def test_memory_depends_on_the_chunk_and_not_on_the_super_batch():
    """Peak memory of a whole process at super-batches of 48 and 480, in chunks of 8 (of 48 pairs 11 are kept)."""
    tower = {"model_type": "dinov2", "patch_size": 14, "hidden_size": 384, "num_hidden_layers": 6}
    text = {"model_type": "bert", "hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
    words = ["--vision_config", json.dumps(tower | {"num_attention_heads": 6}), "--text_config", json.dumps(text)]
    words += ["--image_size", "112", "--repeats", "1", "--text_length", "48", "--variants", "chunks"]
    words += ["--chunk_size", "8"]
    peaks = []
    for size in ("48", "480"):
        command = [sys.executable, "-m", "train.speed", *words, "--super_batch_size", size]
        finished = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
        peaks.append(float(re.search(r"peak memory of the process: ([0-9.]+) GiB", finished.stdout)[1]))
    # Ten times the pairs; films and texts of all of them are kept.
    assert peaks[1] < 1.2 * peaks[0]


def test_pairs_are_decoded_once_and_named(tiny_corpus):
    dataset = PairDataset(load_dataset(str(tiny_corpus), split="train"))
    assert not dataset.dataset.features["image"].decode
    assert dataset[3]["image"].size == (56, 56)
    assert isinstance(dataset.dataset.features["image"], datasets.Image)
    assert len(dataset.fingerprint) == 16
    other = PairDataset(load_dataset(str(tiny_corpus), split="train").select(range(200)))
    assert other.fingerprint != dataset.fingerprint
