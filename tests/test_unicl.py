"""UniCL: the equality matrix of reports and label records, exact in any chunks and processes; and label records."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from datasets import Dataset, load_dataset
from torch.nn import functional as F

from data_scripts.schema import DataError
from tests.training import RECIPE, assert_same_weights, make_batch, make_trainer, run_recipe
from tests.warm import run_python
from train.objectives.contrastive import contrastive_loss
from train.objectives.unicl import unicl_loss
from train.pretrain.__main__ import main
from train.pretrain.label_records import LabelRecords, finding_sentence, read_label_records
from train.selection.sampler import CurationBatchSampler, Schedule

SCALE = torch.tensor(2.0)
CLASSES = torch.tensor([0, 2, 0, 2, 1, -1, 1, 2, 0, 3])
BATCH = yaml.safe_load(Path(RECIPE).read_text())["per_device_train_batch_size"]
UNICL = ["--objective", "unicl", "--label_record_share", "0.4", "--selection", "none"]


def unit(seed: int, rows: int = 10) -> torch.Tensor:
    return F.normalize(torch.randn(rows, 7, generator=torch.Generator().manual_seed(seed)), dim=1)


def equality_matrix_loss(images: torch.Tensor, texts: torch.Tensor, classes: list[int]) -> torch.Tensor:
    """As the facts have it, with the whole matrix of targets."""
    fresh = iter(range(1000, 2000))
    numbers = torch.tensor([next(fresh) if number == 0 else number for number in classes])
    targets = (numbers[:, None] == numbers[None]).float()
    targets /= targets.sum(dim=1, keepdim=True)
    logits = SCALE.exp() * images @ texts.T
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def test_values_are_those_of_the_equality_matrix():
    images, texts, kept = unit(0), unit(1), CLASSES >= 0
    expected = equality_matrix_loss(images[kept], texts[kept], CLASSES[kept].tolist())
    torch.testing.assert_close(unicl_loss(images, texts, SCALE, CLASSES), expected)
    # Padding rows count as little as rows that are left out.
    valid, of_all = kept & (torch.arange(10) < 8), CLASSES.abs()
    expected = equality_matrix_loss(images[valid], texts[valid], of_all[valid].tolist())
    torch.testing.assert_close(unicl_loss(images, texts, SCALE, of_all, valid), expected)


def test_reports_alone_are_the_plain_loss_and_nothing_at_all_is_no_loss():
    images, texts = unit(0), unit(1)
    plain = contrastive_loss(images, texts, SCALE)
    torch.testing.assert_close(unicl_loss(images, texts, SCALE, torch.zeros(10, dtype=torch.long)), plain)
    assert unicl_loss(images, texts, SCALE, -torch.ones(10, dtype=torch.long)) == 0


PROGRAM = """
import sys
import torch
from torch import distributed as dist
from tests.test_unicl import CLASSES, SCALE, unit
from train.objectives.unicl import unicl_loss
dist.init_process_group("gloo")
own = slice(5 * dist.get_rank(), 5 * dist.get_rank() + 5)
images, texts, scale = (tensor.clone().requires_grad_() for tensor in (unit(0)[own], unit(1)[own], SCALE))
loss = unicl_loss(images, texts, scale, CLASSES[own])
loss.backward()
found = [loss.detach(), images.grad / 2, texts.grad / 2, scale.grad]
torch.save(found, f"{sys.argv[1]}/{dist.get_rank()}.pt")
dist.barrier()
dist.destroy_process_group()
"""


def test_two_processes_have_the_loss_and_gradients_of_one_matrix(tmp_path):
    """Gradients are averaged over processes, so that those of a process's own rows count half there."""
    done = run_python(["-c", PROGRAM, str(tmp_path)], processes=2)
    assert done.returncode == 0, done.stderr[-2000:]
    parts = [torch.load(tmp_path / f"{number}.pt", weights_only=True) for number in (0, 1)]
    images, texts, scale = (tensor.clone().requires_grad_() for tensor in (unit(0), unit(1), SCALE))
    loss = unicl_loss(images, texts, scale, CLASSES)
    loss.backward()
    close = {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close((parts[0][0] + parts[1][0]) / 2, loss.detach(), **close)
    torch.testing.assert_close(torch.cat([part[1] for part in parts]), images.grad, **close)
    torch.testing.assert_close(torch.cat([part[2] for part in parts]), texts.grad, **close)
    torch.testing.assert_close((parts[0][3] + parts[1][3]) / 2, scale.grad, **close)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ({"Edema": 1, "Cardiomegaly": 1, "Mass": 0}, "Chest X-ray with Cardiomegaly and Edema."),
        ({"Edema": 1, "Cardiomegaly": 1, "Atelectasis": 1}, "Chest X-ray with Atelectasis, Cardiomegaly and Edema."),
        ({"Edema": 1, "Mass": -1}, "Chest X-ray with Edema."),
        ({"Edema": 1, "No Finding": 0}, "Chest X-ray with Edema."),
        ({"Edema": 0, "Mass": 0}, "Chest X-ray with no finding."),
        ({"No Finding": 1}, "Chest X-ray with no finding."),
        # Normal films of all corpora are one class, however they name it.
        ({"Normal": 1, "Edema": 0}, "Chest X-ray with no finding."),
        ({"no_finding": 1}, "Chest X-ray with no finding."),
        ({"No finding": 1, "Edema": 1}, "Chest X-ray with Edema."),
        ({"Normal": 0}, None),
        ({"pleural_effusion": 1}, "Chest X-ray with pleural effusion."),
        ({"Edema": 0, "Mass": -1}, None),
        ({"No Finding": 0}, None),
        ({}, None),
    ],
)
def test_a_combination_of_findings_is_a_sentence(labels, sentence):
    assert finding_sentence(labels) == sentence


def rows(*labels: dict[str, int], reports: list[str] | None = None, language: str = "en") -> Dataset:
    listed = [[{"name": name, "value": value} for name, value in one.items()] for one in labels]
    texts = reports or [f"report {number}" for number in range(len(labels))]
    return Dataset.from_dict({"labels": listed, "report": texts, "language": [language] * len(texts)})


def test_label_records_come_from_the_data_or_from_reports():
    data = rows({"Edema": 1}, {}, {"Edema": 0}, {"Edema": 1}, reports=["Edema.", "No effusion.", "x", "Cardiomegaly."])
    records = read_label_records(data, "data", 0.5, seed=0)
    assert records.sentences == ["Chest X-ray with Edema.", "Chest X-ray with no finding."]
    assert records.classes.tolist() == [1, 0, 2, 1]
    assert "3 of 4 films have structured labels, which make 2 classes" in records.note()
    found = read_label_records(data, "reports", 0.5, seed=0)
    assert [None if not number else found.sentences[number - 1] for number in found.classes] == [
        *("Chest X-ray with Edema.", "Chest X-ray with no finding.", None, "Chest X-ray with Cardiomegaly."),
    ]


def test_labels_without_classes_and_too_few_of_them_are_refused():
    with pytest.raises(DataError, match=r"none of the 2 training films has labels that make a class .* give"):
        read_label_records(rows({}, {"Edema": -1}), "data", 0.3, seed=0)
    with pytest.raises(DataError, match=r"none of the 2 .*label_source reports"):
        read_label_records(rows({}, {}, reports=["Edema.", "Edema."], language="es"), "reports", 0.3, seed=0)
    with pytest.raises(DataError, match=r"label_record_share is 0\.6, but 1 of the 2 .*: it can be at most 0\.500"):
        read_label_records(rows({"Edema": 1}, {}), "data", 0.6, seed=0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--objective", "unicl"], "unicl without label records is objective contrastive"),
        (["--label_record_share", "0.2"], "objective contrastive would take films of equal labels for negatives"),
        (["--objective", "unicl", "--label_record_share", "1.2"], r"it must lie in \[0, 1\]"),
        (["--label_source", "reports"], "does nothing without a label_record_share"),
    ],
)
def test_arguments_that_cannot_be_are_refused(tmp_path, words, message):
    with pytest.raises(SystemExit, match=message):
        main([RECIPE, "--dataset_dir", "none", "--output_dir", str(tmp_path), *words])


def test_the_share_is_that_asked_for_whatever_share_of_films_has_labels():
    classes = np.where(np.arange(1000) % 10 < 7, 1, 0)
    records = LabelRecords(["one"], classes, share=0.35, seed=3)
    batches = [np.random.default_rng(number).choice(1000, 100, replace=False) for number in range(100)]
    drawn = [records.draw(batch, 0, number) for number, batch in enumerate(batches)]
    assert np.mean([(one >= 1000).mean() for one in drawn]) == pytest.approx(0.35, abs=0.02)
    assert all((one % 1000 == batch).all() for one, batch in zip(drawn, batches, strict=True))
    assert all(classes[one[one >= 1000] - 1000].all() for one in drawn)
    again = records.draw(batches[0], 0, 0)
    assert again.tolist() == drawn[0].tolist() != records.draw(batches[0], 1, 0).tolist()
    # All films at a share of 1.
    assert (LabelRecords(["one"], np.ones(9, int), 1.0, 0).draw(np.arange(9), 0, 0) >= 9).all()


def test_the_draw_does_not_depend_on_the_processes_and_leaves_curation_alone():
    schedule = Schedule(60, super_batch_size=20, batch_size=12, warmup_steps=2, curation_epochs=1, subset_steps=10)
    records = LabelRecords(["one"], np.ones(60, int), share=0.5, seed=1)

    def batches(rank: int, processes: int) -> list[list[int]]:
        return list(CurationBatchSampler(schedule, None, 0, rank, processes, records.draw))

    whole = batches(0, 1)
    parts = [first + second for first, second in zip(batches(0, 2), batches(1, 2), strict=True)]
    assert parts == whole
    shares = [float(np.mean(np.array(batch) >= 60)) for batch in whole]
    assert min(shares[:2]) > 0
    assert not any(shares[2:])


def test_a_pair_is_shown_with_its_report_or_its_sentence(tiny_corpus, tmp_path):
    trainer = make_trainer(tiny_corpus, tmp_path, *UNICL)
    pairs, records = trainer.train_dataset, trainer.train_dataset.records
    films = load_dataset(str(tiny_corpus), split="train")
    assert len(pairs) == len(films)
    report, label = pairs.__getitems__([5, len(films) + 5])
    assert (report["row"], report["report"], report["text_class"]) == (5, films[5]["report"], 0)
    present = {one["name"]: one["value"] for one in films[5]["labels"]}
    assert (label["row"], label["report"]) == (5, finding_sentence(present))
    assert records.sentences[label["text_class"] - 1] == label["report"]
    assert label["record_id"] == report["record_id"]
    tokens = trainer.data_collator.tokenizer(label["report"])["input_ids"]
    assert "[UNK]" not in trainer.data_collator.tokenizer.convert_ids_to_tokens(tokens)
    shown = [row for batch in trainer.get_train_dataloader() for row in (batch.extra["text_class"] > 0).tolist()]
    assert np.mean(shown) == pytest.approx(0.4, abs=0.1)


def test_gradients_do_not_depend_on_chunks(tiny_corpus, tmp_path):
    found, count = [], None
    for chunk in (30, 7):
        trainer = make_trainer(tiny_corpus, tmp_path / str(chunk), *UNICL, "--chunk_size", str(chunk))
        trainer.current_gradient_accumulation_steps = 1
        trainer.model.train().zero_grad()
        films = len(trainer.train_dataset)
        batch = make_batch(trainer, [row + films * (row % 2) for row in range(30)])
        count = Counter(batch.extra["text_class"].tolist())
        trainer._backward(trainer.model, batch, None, 10**6)
        found.append({name: one.grad for name, one in trainer.model.named_parameters() if one.grad is not None})
    assert count[0] == 15
    assert max(count[number] for number in count if number) > 1, "no class repeats in the batch"
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-4, atol=1e-5, msg=name)


def test_two_processes_and_chunks_learn_what_one_learns(tiny_corpus, tmp_path):
    words = [*UNICL, "--max_steps", "5", "--logging_steps", "1"]
    one = run_recipe(tiny_corpus, tmp_path / "one", *words)
    half = ["--per_device_train_batch_size", str(BATCH // 2), "--chunk_size", "5"]
    two = run_recipe(tiny_corpus, tmp_path / "two", *words, *half, processes=2)
    assert_same_weights(one, two)
    run = json.loads((one / "run.json").read_text())
    assert run["settings"]["label_record_share"] == 0.4
    assert "40% of the pairs are shown with the sentence" in run["notes"][0]
    # It is another loss than that of reports alone.
    plain = run_recipe(tiny_corpus, tmp_path / "plain", "--selection", "none", "--max_steps", "5")
    with pytest.raises(AssertionError):
        assert_same_weights(one, plain)


def test_a_run_with_other_labels_is_another_run(tiny_corpus, tmp_path):
    """But they are the same pairs."""
    learnt, pairs = set(), set()
    for source in ("data", "reports"):
        trainer = make_trainer(tiny_corpus, tmp_path, *UNICL, "--label_source", source)
        learnt.add(trainer.train_dataset.training_fingerprint)
        pairs.add(trainer.train_dataset.fingerprint)
    assert (len(learnt), len(pairs)) == (2, 1)


def test_a_resumed_run_shows_the_same_label_records(tiny_corpus, tmp_path):
    words = [RECIPE, "--dataset_dir", str(tiny_corpus), "--output_dir", str(tmp_path / "one"), *UNICL]
    words += ["--max_steps", "5", "--save_strategy", "steps", "--save_steps", "1"]
    main(words)
    shutil.copytree(tmp_path / "one", tmp_path / "again")
    for step in (3, 4, 5):
        shutil.rmtree(tmp_path / "again" / f"checkpoint-{step}")
    words[4] = str(tmp_path / "again")
    main([*words, "--resume_from_checkpoint", "last"])
    assert_same_weights(tmp_path / "one", tmp_path / "again", atol=0)
    with pytest.raises(SystemExit, match=r"would not be the same any more: label_record_share 0\.4 -> 0\.5"):
        main([*words, "--label_record_share", "0.5", "--resume_from_checkpoint", str(tmp_path / "one/checkpoint-3")])


@pytest.mark.parametrize("objective", ["unicl", "multi_positive"])
def test_label_records_go_with_curation_and_with_equal_texts(tiny_corpus, tmp_path, objective):
    words = ["--objective", objective, "--label_record_share", "0.5", "--max_steps", "8", "--logging_steps", "1"]
    main([RECIPE, "--dataset_dir", str(tiny_corpus), "--output_dir", str(tmp_path), *words])
    run = json.loads((tmp_path / "run.json").read_text())
    assert (run["steps"], run["skipped_batches"]) == (8, 0)
    assert 0 < run["kept_pairs"] < run["corpus_pairs"] == len(load_dataset(str(tiny_corpus), split="train"))
    assert np.isfinite(run["final_loss"])
