"""Pairs that seem wrong: told on made-up embeddings whose truth is known, and discounted in whole runs alike."""

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
from train.objectives import discounting
from train.objectives.agreement import (
    MOST_WRONG,
    better_than_mismatched,
    seem_right,
    wrong_probability,
    wrong_share,
)
from train.objectives.contrastive import contrastive_loss
from train.objectives.discounting import DISCOUNTING_FILE, SUSPECTED_FILE, judge
from train.objectives.multi_positive import multi_positive_loss
from train.pretrain.__main__ import main

BATCH = yaml.safe_load(Path(RECIPE).read_text())["per_device_train_batch_size"]
#: A checkpoint on the way and one at the end.
RUN = ["--selection", "none", "--discount_wrong_reports", "true", "--discount_from", "0", "--max_steps", "8"]
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
def test_the_probability_is_as_often_right_as_it_says(wrong):
    images, texts, is_wrong = pairs(1000, wrong, noise=1.8)
    agreement = better_than_mismatched(images, texts)
    assert wrong_share(agreement) == pytest.approx(wrong / 1000, abs=0.06)
    probability, knows = wrong_probability(agreement, MOST_WRONG)
    assert knows
    assert 0 <= probability.min() <= probability.max() <= 1
    # The better a pair agrees, the less likely it is wrong.
    assert (probability[agreement.argsort()].diff() <= 0).all()
    for low, high in ((0.0, 0.2), (0.2, 0.7), (0.7, 1.0)):
        those = (probability >= low) & (probability <= high)
        # Of few pairs the share says little.
        assert those.sum() < 50 or float(is_wrong[those].float().mean()) == pytest.approx(
            float(probability[those].mean()), abs=0.15
        )
    # About as well as somebody would do who knew the truth: the fewest pairs judged wrongly.
    best = min(int(((agreement < level) != is_wrong).sum()) for level in agreement)
    right, _ = seem_right(agreement, 0.5, MOST_WRONG)
    assert int((right == is_wrong).sum()) <= best + 15
    # The surer it must be, the fewer right ones are lost.
    lost = [int((~seem_right(agreement, above, MOST_WRONG)[0] & ~is_wrong).sum()) for above in (0.3, 0.5, 0.8)]
    assert lost == sorted(lost, reverse=True)
    assert lost[0] > lost[2]


def test_pairs_of_one_agreement_are_judged_alike():
    agreement = torch.tensor([0.1, 0.1, 0.4, 0.4, 0.7, 1.0, 1.0, 1.0, 1.0, 1.0])
    probability, _ = wrong_probability(agreement, 0.9)
    # Four pairs below a half: 0.8 are wrong. The density of the first two is 2/10 over 0.3, of the next 2/10 over 0.3,
    # then 1/10 over 0.3, which is pooled with them: 5/10 over 0.9.
    assert probability.tolist() == pytest.approx([1.0] * 5 + [0.0] * 5, abs=1e-6)


def test_nothing_is_discounted_where_nothing_is_wrong():
    images, texts, _ = pairs(1000, 0)
    probability, knows = wrong_probability(better_than_mismatched(images, texts), MOST_WRONG)
    assert knows
    assert probability.max() < 0.05


def test_a_model_that_cannot_tell_reports_apart_discounts_none():
    agreement = better_than_mismatched(unit(100, 0), unit(100, 1))
    assert wrong_share(agreement) > MOST_WRONG
    right, knows = seem_right(agreement, 0.5, MOST_WRONG)
    assert (bool(right.all()), knows) == (True, False)
    # One pair alone cannot be judged.
    assert seem_right(better_than_mismatched(unit(1, 0), unit(1, 1)), 0.5, MOST_WRONG)[0].tolist() == [True]


def test_a_pair_counts_by_its_probability_and_is_a_negative_of_all(tiny_corpus, tmp_path):
    for name in ("contrastive", "multi_positive"):
        trainer = make_trainer(tiny_corpus, tmp_path / name, *RUN, "--objective", name)
        batch = make_batch(trainer, range(40))
        images, texts, is_wrong = pairs(40, 10, noise=0.3)
        wrong, _ = wrong_probability(better_than_mismatched(images, texts, text_keys=batch.text_keys), MOST_WRONG)
        assert wrong[is_wrong].mean() > 0.5 > wrong[~is_wrong].mean()
        found = trainer.objective(trainer.model, images, texts, batch)
        logits = trainer.model.logit_scale.exp() * images @ texts.T
        assert len(batch.text_keys.unique()) == 40, "so both objectives are one"
        each = -(logits.log_softmax(dim=1).diagonal() + logits.log_softmax(dim=0).diagonal()) / 2
        torch.testing.assert_close(found, (each * (1 - wrong)).sum() / (1 - wrong).sum())
        discounting = trainer.discounting
        torch.testing.assert_close(discounting.wrong[:40], wrong)
        assert discounting.judged.sum() == 40
        assert discounting.share_since_log() == pytest.approx(float(wrong.mean()))
        assert discounting.share_since_log() is None
        table = discounting.table(trainer.train_dataset.record_ids(range(len(trainer.train_dataset))))
        assert len(table) == (wrong.numpy().round(3) > 0.5).sum()
        assert table.wrong_probability.is_monotonic_decreasing


def test_equal_texts_are_positives_by_the_weight_of_their_pairs():
    images, texts = unit(4, 0), unit(4, 1)
    texts[1] = texts[0]
    identities, weights = torch.tensor([5, 5, 6, 7]), torch.tensor([1.0, 0.25, 1.0, 0.0])
    scale = torch.tensor(2.0)
    found = multi_positive_loss(images, texts, scale, identities, weights=weights)
    logits = scale.exp() * images @ texts.T
    targets = torch.tensor([[0.8, 0.2, 0, 0], [0.8, 0.2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    each = -(targets * (logits.log_softmax(dim=1) + logits.T.log_softmax(dim=1))).sum(dim=1) / 2
    torch.testing.assert_close(found, (each * weights).sum() / weights.sum())
    # Equal weights are none.
    for loss in (contrastive_loss, lambda *given, **words: multi_positive_loss(*given, identities, **words)):
        torch.testing.assert_close(
            loss(images, texts, scale, weights=torch.full((4,), 0.3)), loss(images, texts, scale)
        )
        assert loss(images, texts, scale, weights=torch.zeros(4)) == 0


def test_parts_of_a_large_batch_are_judged_apart_whatever_their_order(monkeypatch):
    images, texts, is_wrong = pairs(400, 80)
    rows = torch.randperm(400, generator=torch.Generator().manual_seed(0)) + 1000
    monkeypatch.setattr(discounting, "JUDGED_TOGETHER", 150)
    wrong = judge(images, texts, rows, rows)
    part = rows.argsort()[1::3]
    expected, _ = wrong_probability(better_than_mismatched(images[part], texts[part]), MOST_WRONG)
    assert torch.equal(wrong[part], expected)
    assert wrong[is_wrong].mean() > 0.6
    assert wrong[~is_wrong].mean() < 0.05
    other = torch.randperm(400, generator=torch.Generator().manual_seed(1))
    assert torch.equal(judge(images[other], texts[other], rows[other], rows[other]), wrong[other])


def test_pairs_that_are_not_finite_are_left_to_the_loss():
    images, texts, _ = pairs(40, 10)
    images[3] = torch.nan
    assert judge(images, texts, torch.arange(40), torch.arange(40)).isnan().all()


def test_what_a_model_cannot_tell_is_not_judged(tiny_corpus, tmp_path, capsys):
    """A model that has learnt nothing learns as if nothing were discounted, and the run says so."""
    words = [RECIPE, "--dataset_dir", str(tiny_corpus), *RUN, "--output_dir"]
    main([*words, str(tmp_path / "discounted")])
    assert "discount_wrong_reports changed nothing" in capsys.readouterr().out
    assert counts(tmp_path / "discounted")["judged"].sum() == 0
    assert not any("wrong_share" in entry for entry in json.loads((tmp_path / "discounted" / "log.json").read_text()))
    main([*words, str(tmp_path / "plain"), "--discount_wrong_reports", "false", "--discount_from", "0.3"])
    assert_same_weights(tmp_path / "discounted", tmp_path / "plain")


@pytest.fixture(scope="module")
def one_process(tiny_corpus, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("one")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(discounting, "MOST_WRONG", 1.0)
        main([RECIPE, "--dataset_dir", str(tiny_corpus), "--output_dir", str(out), *RUN])
    return out


def counts(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoint-8" / DISCOUNTING_FILE)


def test_a_run_says_what_it_suspects(one_process, tiny_corpus):
    told, table = counts(one_process), pd.read_csv(one_process / SUSPECTED_FILE)
    assert told["judged"].sum() == 8 * BATCH
    assert 0 < told["wrong"].sum() < told["judged"].sum()
    assert len(table) == (told["wrong"] / told["judged"].clamp(min=1) > 0.5005).sum()
    assert table.wrong_probability.is_monotonic_decreasing
    logged = [entry["wrong_share"] for entry in json.loads((one_process / "log.json").read_text()) if "loss" in entry]
    assert sum(logged) / len(logged) == pytest.approx(float(told["wrong"].sum() / told["judged"].sum()))


def test_two_processes_discount_as_one_does(one_process, tiny_corpus, tmp_path):
    half = ["--per_device_train_batch_size", str(BATCH // 2), "--chunk_size", "5"]
    program = [str(Path(__file__).with_name("discounting_program.py"))]
    two = run_recipe(tiny_corpus, tmp_path / "two", *RUN, *half, processes=2, program=program)
    assert_same_weights(one_process, two)
    assert torch.equal(counts(two)["judged"], counts(one_process)["judged"])
    torch.testing.assert_close(counts(two)["wrong"], counts(one_process)["wrong"], atol=1e-3, rtol=0)


def test_an_interrupted_run_goes_on_to_the_same_counts(one_process, tiny_corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(discounting, "MOST_WRONG", 1.0)
    shutil.copytree(one_process, tmp_path / "part")
    shutil.rmtree(tmp_path / "part" / "checkpoint-8")
    words = [RECIPE, "--dataset_dir", str(tiny_corpus), "--output_dir", str(tmp_path / "part"), *RUN]
    main([*words, "--resume_from_checkpoint", "last"])
    assert_same_weights(tmp_path / "part", one_process, atol=0)
    assert (tmp_path / "part" / SUSPECTED_FILE).read_text() == (one_process / SUSPECTED_FILE).read_text()
    with pytest.raises(SystemExit, match=r"would not be the same any more: discount_from"):
        main([*words, "--discount_from", "0.6", "--resume_from_checkpoint", "last"])


def test_a_run_begins_without(tiny_corpus, tmp_path, monkeypatch):
    """Of eight steps none of the first four is judged."""
    monkeypatch.setattr(discounting, "MOST_WRONG", 1.0)
    words = [RECIPE, "--dataset_dir", str(tiny_corpus), "--output_dir", str(tmp_path), *RUN, "--discount_from", "0.5"]
    main(words)
    assert counts(tmp_path)["judged"].sum() == 4 * BATCH
    assert load_file(tmp_path / "checkpoint-4" / DISCOUNTING_FILE)["judged"].sum() == 0


def test_a_share_that_cannot_be_is_refused(tiny_corpus, tmp_path):
    words = [RECIPE, "--dataset_dir", str(tiny_corpus), "--output_dir", str(tmp_path)]
    for given, message in (
        (["--discount_wrong_reports", "--discount_from", "1"], r"discount_from is 1.0, it must lie in \[0, 1\)"),
        (["--discount_from", "0"], "discount_from 0.0 does nothing without discount_wrong_reports"),
    ):
        with pytest.raises(SystemExit, match=message):
            main([*words, *given])
