"""Pairs that seem wrong: told on made-up embeddings whose truth is known, and left out of whole runs alike."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch.nn import functional as F

from tests.training import RECIPE, assert_same_weights, make_batch, make_trainer, run_recipe
from train.objectives import trimming
from train.objectives.agreement import (
    MOST_WRONG,
    better_than_mismatched,
    seem_right,
    wrong_share,
)
from train.objectives.contrastive import contrastive_loss
from train.objectives.multi_positive import multi_positive_loss
from train.objectives.trimming import LEFT_OUT_FILE, TRIMMING_FILE, judge
from train.pretrain.__main__ import main

BATCH = yaml.safe_load(Path(RECIPE).read_text())["per_device_train_batch_size"]
#: A checkpoint on the way and one at the end.
RUN = ["--selection", "none", "--trim_wrong_above", "0.5", "--trim_from", "0", "--max_steps", "8"]
RUN += ["--save_strategy", "steps", "--save_steps", "4", "--logging_steps", "4"]


def unit(rows: int, seed: int, width: int = 32) -> torch.Tensor:
    return F.normalize(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)), dim=1)


def pairs(count: int, wrong: int, noise: float = 0.8) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Embeddings of films and reports as a model has them that knows such films, and which reports are wrong."""
    images = unit(count, 0)
    texts = F.normalize(images + noise * unit(count, 1), dim=1)
    texts[:wrong] = texts[:wrong].roll(1, 0)
    return images, texts, torch.arange(count) < wrong


@pytest.mark.parametrize("wrong", [20, 200])
def test_wrong_reports_are_told_by_mismatched_pairs_whatever_their_number(wrong):
    images, texts, is_wrong = pairs(1000, wrong)
    better = better_than_mismatched(images, texts, 10.0)
    assert (better[is_wrong] < 0.6).float().mean() == pytest.approx(0.6, abs=0.15)
    assert (better[~is_wrong] < 0.6).float().mean() < 0.02
    # By hand, of one pair.
    logits, others = 10.0 * images @ texts.T, ~torch.eye(1000, dtype=torch.bool)

    def agreement(film: int, report: int) -> float:
        rows, columns = logits[film][others[film]], logits[:, report][others[report]]
        return float(logits[film, report] - (rows.logsumexp(0) + columns.logsumexp(0)) / 2)

    mismatched = [agreement(film, (film * 7 + 1) % 1000) for film in range(0, 1000, 2) if (film * 6 + 1) % 1000]
    expected = sum(value < agreement(3, 3) for value in mismatched) / len(mismatched)
    assert better[3] == pytest.approx(expected, abs=0.06)


def test_wrong_reports_are_told_also_where_the_right_ones_are_elsewhere():
    """As in a corpus: what a wrong report is of is in another batch. Of this model's right pairs none is in doubt."""
    images, texts, is_wrong = pairs(2000, 400, noise=0.5)
    some = torch.arange(0, 2000, 10)
    better = better_than_mismatched(images[some], texts[some])
    assert [float((better[is_wrong[some]] < level).float().mean()) for level in (0.25, 0.5, 0.75)] == pytest.approx(
        [0.25, 0.5, 0.75], abs=0.1
    )
    right, _ = seem_right(better, 0.5, MOST_WRONG)
    assert right[~is_wrong[some]].all()
    assert (~right[is_wrong[some]]).float().mean() > 0.8


def test_another_film_with_the_same_words_is_no_mismatched_pair():
    """Three in four reports are "Normal chest radiograph.", and the films that have it look alike."""
    images, texts = unit(200, 0), unit(200, 1)
    texts[:150] = texts[0]
    images[:150] = F.normalize(texts[0] + 0.2 * unit(150, 2), dim=1)
    images[150:] = F.normalize(texts[150:] + 0.2 * unit(50, 3), dim=1)
    agreement = better_than_mismatched(images, texts)
    assert agreement.min() > 0.9, "none is a mismatched pair"
    assert better_than_mismatched(images[:150], texts[:150]).tolist() == [0.0] * 150, "nothing to compare with"
    # With dropout the same words have other embeddings each time.
    texts[:150] = F.normalize(texts[:150] + 0.5 * unit(150, 4), dim=1)
    keys = torch.arange(200).clamp(min=149)
    assert wrong_share(better_than_mismatched(images, texts)) > 0.1
    assert wrong_share(better_than_mismatched(images, texts, text_keys=keys)) < 0.05


@pytest.mark.parametrize("wrong", [30, 200, 500])
def test_what_is_left_out_is_rather_wrong_than_right(wrong):
    """About as well as somebody would do who knew the truth: the fewest pairs judged wrongly."""
    images, texts, is_wrong = pairs(1000, wrong, noise=1.8)
    agreement = better_than_mismatched(images, texts)
    assert wrong_share(agreement) == pytest.approx(wrong / 1000, abs=0.06)
    mistakes = {}
    for wrong_above in (0.3, 0.5, 0.8):
        right, knows = seem_right(agreement, wrong_above, MOST_WRONG)
        assert knows
        mistakes[wrong_above] = int((~right & ~is_wrong).sum()), int((right & is_wrong).sum())
    best = min(int(((agreement < level) != is_wrong).sum()) for level in agreement)
    assert sum(mistakes[0.5]) <= best + 15
    # The surer it must be, the fewer right ones are lost and the more wrong ones stay.
    lost, stay = zip(*mistakes.values(), strict=True)
    assert list(lost) == sorted(lost, reverse=True)
    assert list(stay) == sorted(stay)
    assert lost[0] > lost[2]


def test_nothing_is_left_out_where_nothing_is_wrong():
    images, texts, _ = pairs(1000, 0)
    right, knows = seem_right(better_than_mismatched(images, texts), 0.5, MOST_WRONG)
    assert knows
    assert right.all()


def test_a_model_that_cannot_tell_reports_apart_leaves_none_out():
    agreement = better_than_mismatched(unit(100, 0), unit(100, 1))
    assert wrong_share(agreement) > MOST_WRONG
    right, knows = seem_right(agreement, 0.5, MOST_WRONG)
    assert (bool(right.all()), knows) == (True, False)
    # One pair alone cannot be judged.
    assert seem_right(better_than_mismatched(unit(1, 0), unit(1, 1)), 0.5, MOST_WRONG)[0].tolist() == [True]


def test_the_loss_is_that_of_the_pairs_that_seem_right(tiny_corpus, tmp_path):
    for name, loss in (("contrastive", None), ("multi_positive", multi_positive_loss)):
        trainer = make_trainer(tiny_corpus, tmp_path / name, *RUN, "--objective", name)
        batch = make_batch(trainer, range(40))
        images, texts, is_wrong = pairs(40, 10, noise=0.3)
        right, _ = seem_right(better_than_mismatched(images, texts), 0.5, MOST_WRONG)
        assert (~right[is_wrong]).sum() >= 5
        scale = trainer.model.logit_scale
        found = trainer.objective(trainer.model, images, texts, batch)
        if loss is None:
            expected = contrastive_loss(images[right], texts[right], scale)
        else:
            expected = loss(images[right], texts[right], scale, batch.text_keys[right])
        torch.testing.assert_close(found, expected)
        assert torch.equal(trainer.trimming.left_out[:40].bool(), ~right)
        assert trainer.trimming.judged.sum() == 40
        assert trainer.trimming.share_since_log() == pytest.approx(float((~right).float().mean()))
        assert trainer.trimming.share_since_log() == 0
        table = trainer.trimming.table(trainer.train_dataset.record_ids(range(len(trainer.train_dataset))))
        assert len(table) == (~right).sum()
        assert (table.share == 1).all()


def test_parts_of_a_large_batch_are_judged_apart_whatever_their_order(monkeypatch):
    images, texts, is_wrong = pairs(400, 80)
    rows = torch.randperm(400, generator=torch.Generator().manual_seed(0)) + 1000
    monkeypatch.setattr(trimming, "JUDGED_TOGETHER", 150)
    right = judge(images, texts, rows, rows, 0.5)
    part = rows.argsort()[1::3]
    assert torch.equal(right[part], seem_right(better_than_mismatched(images[part], texts[part]), 0.5, MOST_WRONG)[0])
    assert (~right[is_wrong]).float().mean() > 0.6
    assert right[~is_wrong].float().mean() > 0.95
    other = torch.randperm(400, generator=torch.Generator().manual_seed(1))
    assert torch.equal(judge(images[other], texts[other], rows[other], rows[other], 0.5), right[other])


def test_pairs_that_are_not_finite_are_left_to_the_loss():
    images, texts, _ = pairs(40, 10)
    images[3] = torch.nan
    assert judge(images, texts, torch.arange(40), torch.arange(40), 0.5).all()


@pytest.fixture(scope="module")
def one_process(tiny_corpus, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("one")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trimming, "MOST_WRONG", 0.99)
        main([RECIPE, "--dataset_dir", str(tiny_corpus), "--output_dir", str(out), *RUN])
    return out


def counts(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoint-8" / TRIMMING_FILE)


def test_a_run_says_what_it_left_out(one_process, tiny_corpus):
    told, table = counts(one_process), pd.read_csv(one_process / LEFT_OUT_FILE)
    assert told["judged"].sum() == 8 * BATCH
    assert 0 < told["left_out"].sum() < told["judged"].sum()
    assert len(table) == (told["left_out"] > 0).sum()
    assert table.left_out.sum() == told["left_out"].sum()
    assert table.share.is_monotonic_decreasing
    logged = [
        entry["left_out_share"] for entry in json.loads((one_process / "log.json").read_text()) if "loss" in entry
    ]
    assert sum(logged) / len(logged) == pytest.approx(float(told["left_out"].sum() / told["judged"].sum()))


def test_two_processes_leave_out_what_one_does(one_process, tiny_corpus, tmp_path):
    half = ["--per_device_train_batch_size", str(BATCH // 2), "--chunk_size", "5"]
    program = [str(Path(__file__).with_name("trimming_program.py"))]
    two = run_recipe(tiny_corpus, tmp_path / "two", *RUN, *half, processes=2, program=program)
    assert_same_weights(one_process, two)
    for name, values in counts(one_process).items():
        assert torch.equal(counts(two)[name], values), name
    assert (two / LEFT_OUT_FILE).read_text() == (one_process / LEFT_OUT_FILE).read_text()


def test_an_interrupted_run_goes_on_to_the_same_counts(one_process, tiny_corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(trimming, "MOST_WRONG", 0.99)
    shutil.copytree(one_process, tmp_path / "part")
    shutil.rmtree(tmp_path / "part" / "checkpoint-8")
    words = [RECIPE, "--dataset_dir", str(tiny_corpus), "--output_dir", str(tmp_path / "part"), *RUN]
    main([*words, "--resume_from_checkpoint", "last"])
    assert_same_weights(tmp_path / "part", one_process, atol=0)
    assert (tmp_path / "part" / LEFT_OUT_FILE).read_text() == (one_process / LEFT_OUT_FILE).read_text()
    with pytest.raises(SystemExit, match=r"would not be the same any more: trim_wrong_above"):
        main([*words, "--trim_wrong_above", "0.6", "--resume_from_checkpoint", "last"])


def test_a_run_begins_without(tiny_corpus, tmp_path, monkeypatch):
    """Of eight steps none of the first four is judged."""
    monkeypatch.setattr(trimming, "MOST_WRONG", 0.99)
    words = [RECIPE, "--dataset_dir", str(tiny_corpus), "--output_dir", str(tmp_path), *RUN, "--trim_from", "0.5"]
    main(words)
    assert counts(tmp_path)["judged"].sum() == 4 * BATCH
    assert load_file(tmp_path / "checkpoint-4" / TRIMMING_FILE)["judged"].sum() == 0


def test_a_share_that_cannot_be_is_refused(tiny_corpus, tmp_path):
    words = [RECIPE, "--dataset_dir", str(tiny_corpus), "--output_dir", str(tmp_path)]
    for share in ("0", "1.1"):
        with pytest.raises(SystemExit, match=rf"trim_wrong_above is {float(share)}, it must lie in \(0, 1\]"):
            main([*words, "--trim_wrong_above", share])
    for given, message in (
        (["--trim_wrong_above", "0.5", "--trim_from", "1"], r"trim_from is 1.0, it must lie in \[0, 1\)"),
        (["--trim_from", "0"], "trim_from 0.0 does nothing without trim_wrong_above"),
    ):
        with pytest.raises(SystemExit, match=message):
            main([*words, *given])
