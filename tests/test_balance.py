"""Rare findings seen more often: rates and passes by hand, the batches of the sampler, and whole runs alike."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from datasets import Dataset, load_dataset

from tests.training import RECIPE, assert_same_weights, run_recipe
from train.pretrain.__main__ import main
from train.selection.balance import MOST_VISITS, describe_balance, draw_pass, visit_rates
from train.selection.knowledge import CONCEPT_NAMES, know
from train.selection.outcome import Role
from train.selection.sampler import CurationBatchSampler, Schedule
from train.selection.state import CurationState

BATCH = yaml.safe_load(Path(RECIPE).read_text())["per_device_train_batch_size"]


def corpus_of(*counts: int) -> torch.Tensor:
    """[N, C] concepts, so many pairs of each in a row; every pair has one."""
    return torch.repeat_interleave(torch.eye(len(counts)), torch.tensor(counts), dim=0).bool()


def test_rates_follow_the_share_of_the_rarest_concept():
    concepts = corpus_of(640, 250, 100, 10)
    # Has a common and a rare concept: the rare one counts.
    concepts[-1, 0] = True
    rates = visit_rates(concepts, 0.5)
    assert rates.mean() == pytest.approx(1)
    weights = [(1000 / count) ** 0.5 for count in (641, 250, 100, 10)]
    mean = (640 * weights[0] + 250 * weights[1] + 100 * weights[2] + 10 * weights[3]) / 1000
    assert rates[[0, 700, 900, 990, 999]] == pytest.approx([w / mean for w in (*weights, weights[3])])
    assert visit_rates(concepts, 0.0) == pytest.approx(np.ones(1000))
    # With 1 every concept has a quarter of the pass, where no pair is at the cap.
    parts = visit_rates(corpus_of(400, 300, 200, 100), 1.0)
    assert [part.sum() for part in np.split(parts, [400, 700, 900])] == pytest.approx([250] * 4)


def test_no_pair_is_seen_more_often_than_the_cap_and_a_pass_stays_as_long():
    rates = visit_rates(corpus_of(9000, 900, 90, 10), 1.0)
    assert rates.max() == MOST_VISITS
    assert rates.mean() == pytest.approx(1)
    # What the capped ones leave goes to the others in their proportion: 10 and 90 pairs are at the cap.
    assert (rates[9900:] == MOST_VISITS).all()
    assert rates[9000:9900].sum() == pytest.approx(rates[:9000].sum())
    assert visit_rates(corpus_of(9000, 900, 90, 10), 1.0, most=1) == pytest.approx(np.ones(10_000))


def test_a_pair_without_a_concept_is_refused():
    with pytest.raises(ValueError, match="without any concept"):
        visit_rates(torch.tensor([[True], [False]]), 0.5)


def test_a_pass_holds_every_pair_as_often_as_its_rate():
    rates = visit_rates(corpus_of(700, 200, 90, 10), 0.7)
    seen = np.zeros(1000)
    for number in range(200):
        order = draw_pass(rates, np.random.default_rng(number))
        counts = np.bincount(order, minlength=1000)
        assert len(order) == 1000
        assert (counts >= np.floor(rates)).all()
        assert (counts <= np.ceil(rates)).all()
        seen += counts
    # A pass leaves others of the common ones out: all come in the end, as often as they should.
    assert seen.min() > 0
    assert seen / 200 == pytest.approx(rates, abs=0.15)
    assert (draw_pass(np.ones(50), np.random.default_rng(0))[:10] != np.arange(10)).any()
    assert sorted(draw_pass(np.ones(50), np.random.default_rng(0))) == list(range(50))


def test_the_copies_of_a_pair_are_spread_over_the_pass():
    rates = visit_rates(corpus_of(9500, 480, 20), 1.0)
    order = draw_pass(rates, np.random.default_rng(0))
    for rare in range(9980, 10_000):
        places = np.flatnonzero(order == rare)
        assert len(places) == 8
        assert np.diff(places) == pytest.approx(10_000 / 8, rel=0.2)


def balanced(rank=0, world=1, concepts=None, **changes) -> tuple[CurationBatchSampler, CurationState]:
    settings = {"num_rows": 600, "super_batch_size": 100, "batch_size": 30, "warmup_steps": 20, "curation_epochs": 1}
    schedule = Schedule(**{**settings, "subset_steps": 60, **changes})
    state = CurationState(600)
    concepts = corpus_of(500, 80, 20) if concepts is None else concepts
    return CurationBatchSampler(schedule, state, 0, rank, world, concepts=concepts, exponent=0.5), state


def test_passes_are_balanced_outside_of_curation_alone():
    one, state = balanced()
    batches = list(one)
    warmup, curation = np.concatenate(batches[:20]), np.concatenate(batches[20:])
    assert sorted(curation) == list(range(600))
    rates = visit_rates(corpus_of(500, 80, 20), 0.5)
    assert rates[580:].sum() == pytest.approx(75)
    assert (warmup >= 580).sum() == pytest.approx(75, abs=8), "rounded up or down by chance, pair by pair"
    assert max(np.bincount(batch).max() for batch in batches[:20]) == 1, "no pair meets itself in a batch"
    # Of what is kept, the shares among the kept count.
    state.roles[300:590] = Role.CENTRAL
    one.set_epoch(1)
    subset = np.concatenate(list(one)[:9])
    assert set(subset) <= set(range(300, 590))
    of_kept = visit_rates(corpus_of(200, 80, 10), 0.5)
    assert (subset >= 580).sum() == pytest.approx(of_kept[280:].sum() * 270 / 290, abs=6)


@pytest.mark.parametrize("epoch", [0, 1])
def test_processes_share_the_balanced_batches(epoch):
    whole, parts = [], []
    for rank, world in ((0, 1), (0, 2), (1, 2)):
        one, state = balanced(rank, world)
        state.roles[::2] = Role.CENTRAL
        one.set_epoch(epoch)
        (parts if world == 2 else whole).append(list(one))
    assert [left + right for left, right in zip(*parts, strict=True)] == whole[0]


def test_with_fewer_batches_than_copies_none_meets_itself():
    one, _ = balanced(concepts=corpus_of(598, 1, 1), batch_size=300, warmup_steps=4)
    for batch in list(one)[:4]:
        assert len(set(batch)) == len(batch)


def test_concepts_come_from_the_report_and_else_from_the_labels():
    pairs = [
        ("Pneumoperitoneum. No effusion.", []),
        # A label does not speak against a report.
        ("No acute disease.", [{"name": "Edema", "value": 1}]),
        ("Derrame pleural derecho.", [{"name": "Pleural Effusion", "value": 1}, {"name": "Edema", "value": 0}]),
        ("Sin alteraciones.", [{"name": "No Finding", "value": 1}]),
    ]
    texts = Dataset.from_dict({"report": [text for text, _ in pairs], "labels": [labels for _, labels in pairs]})
    concepts = know(("concepts",), texts)["concepts"]
    told = [{CONCEPT_NAMES[column] for column in row.nonzero().flatten()} for row in concepts]
    assert told == [{"Free Air"}, {"none"}, {"Pleural Effusion"}, {"none"}]


def test_what_is_balanced_is_said():
    concepts = torch.zeros(100, len(CONCEPT_NAMES), dtype=torch.bool)
    concepts[:96, -1], concepts[96:, CONCEPT_NAMES.index("Edema")] = True, True
    rates = visit_rates(concepts, 0.5)
    assert describe_balance(concepts, 0.5) == (
        f"balance_findings 0.5: a pass sees pairs without any finding (96 of 100 pairs) {rates[0]:.2g} times, those "
        f"with Edema (4 of 100 pairs) {rates[-1]:.2g} times"
    )
    concepts[96:] = concepts[0]
    with pytest.raises(ValueError, match=r"nothing: neither the reports .* nor the labels"):
        describe_balance(concepts, 0.5)


RUN = ["--selection", "gated_random", "--keep_share", "1.0", "--balance_findings", "0.5", "--max_steps", "8"]
RUN += ["--save_strategy", "steps", "--save_steps", "4", "--curation_report", "false"]


@pytest.fixture(scope="module")
def one_process(tiny_corpus, tmp_path_factory) -> Path:
    return run_recipe(tiny_corpus, tmp_path_factory.mktemp("one"), *RUN)


def test_a_run_is_recorded_with_what_it_balanced(one_process, tiny_corpus, tmp_path, capsys):
    record = json.loads((one_process / "run.json").read_text())
    assert record["settings"]["balance_findings"] == 0.5
    concepts = know(("concepts",), load_dataset(str(tiny_corpus), split="train"))["concepts"]
    assert record["notes"] == [f"{describe_balance(concepts, 0.5)}."]
    assert record["pairs_trained"] == 8 * BATCH
    plain = run_recipe(tiny_corpus, tmp_path / "plain", *RUN, "--balance_findings", "0")
    with pytest.raises(AssertionError):
        assert_same_weights(plain, one_process)
    assert json.loads((plain / "run.json").read_text())["notes"] == []


def test_two_processes_balance_as_one_does(one_process, tiny_corpus, tmp_path):
    half = ["--per_device_train_batch_size", str(BATCH // 2), "--chunk_size", "5"]
    assert_same_weights(one_process, run_recipe(tiny_corpus, tmp_path / "two", *RUN, *half, processes=2))


def test_an_interrupted_run_goes_on_to_the_same_weights(one_process, tiny_corpus, tmp_path):
    shutil.copytree(one_process, tmp_path / "part")
    shutil.rmtree(tmp_path / "part" / "checkpoint-8")
    words = [RECIPE, "--dataset_dir", str(tiny_corpus), "--output_dir", str(tmp_path / "part"), *RUN]
    main([*words, "--resume_from_checkpoint", "last"])
    assert_same_weights(tmp_path / "part", one_process, atol=0)
    with pytest.raises(SystemExit, match=r"would not be the same any more: balance_findings"):
        main([*words, "--balance_findings", "0.6", "--resume_from_checkpoint", "last"])


def test_balancing_nothing_is_refused(tiny_corpus, tmp_path):
    words = [RECIPE, "--dataset_dir", str(tiny_corpus), "--output_dir", str(tmp_path)]
    for given, message in (
        (["--balance_findings", "1.5"], r"balance_findings is 1.5, it must lie in \[0, 1\]"),
        (
            [
                *("--selection", "random", "--max_steps", "-1", "--num_train_epochs", "1"),
                *("--curation_warmup_share", "0", "--balance_findings", "1"),
            ],
            "does nothing in a run that ends with curation",
        ),
    ):
        with pytest.raises(SystemExit, match=message):
            main([*words, *given])
