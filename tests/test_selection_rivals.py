"""Our own rule and what it is compared with: values counted by hand or by brute force, and whole runs."""

import itertools
import json
import shutil

import pytest
import torch
from datasets import Dataset, concatenate_datasets, load_dataset
from torch.nn import functional as F

from modeling_chexficient.input_check_chexficient import FilmQuality
from tests.training import assert_same_weights, kept_rows, run_recipe
from train.objectives.agreement import relative_agreement
from train.objectives.contrastive import contrastive_loss
from train.objectives.encoding import pair_features
from train.pretrain.training_arguments import CuratedTrainingArguments
from train.selection.baselines import FLAWLESS, GATED_RANDOM
from train.selection.cabs import select_cabs
from train.selection.hierarchical import HIERARCHICAL_KMEANS, build_tree, share_down
from train.selection.knowledge import know
from train.selection.learnability import LEARNABILITY, learnability
from train.selection.leverage import LEVERAGE, LeverageConstants, greedy_leverage, select_leverage
from train.selection.negcliploss import NEGCLIPLOSS
from train.selection.outcome import Role
from train.selection.rule import Candidates
from train.selection.state import CurationState


def unit(rows: int, seed: int, width: int = 8) -> torch.Tensor:
    return F.normalize(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)), dim=1)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_cabs_takes_what_is_wanted_most():
    # Concepts: a common one (5 pairs), a rare one (1 pair), none (2 pairs). Of 8 pairs 3 are kept: each concept is
    # wanted 3 * 8 / 8 / 3 = 1 time.
    concepts = torch.zeros(8, 3, dtype=torch.bool)
    concepts[:5, 0], concepts[5, 1], concepts[6:, 2] = True, True, True
    roles = select_cabs(concepts, 3 / 8, generator()).roles
    assert roles[5] == Role.CENTRAL
    assert (roles[:5] == Role.CENTRAL).sum() == 1
    assert (roles[6:] == Role.CENTRAL).sum() == 1
    # Two concepts are wanted more than one of them.
    concepts[0, 1] = True
    assert select_cabs(concepts, 1 / 8, generator()).roles[0] == Role.CENTRAL
    # Nothing is wanted any more: the budget is met all the same.
    assert select_cabs(concepts, 1.0, generator()).kept.all()


def test_relative_agreement_is_minus_the_loss_of_each_pair():
    images, texts, scale = unit(9, 0), unit(9, 1), torch.tensor(5.0)
    values = relative_agreement(images, texts, float(scale))
    torch.testing.assert_close(values.mean(), -contrastive_loss(images, texts, scale.log()))
    logits = scale * images @ texts.T
    expected = logits[2, 2] - (logits[2].exp().sum().log() + logits[:, 2].exp().sum().log()) / 2
    torch.testing.assert_close(values[2], expected)
    kept = NEGCLIPLOSS.choose(Candidates(torch.arange(9), images, texts), 1 / 3, generator(), NEGCLIPLOSS.constants())
    agreement = relative_agreement(images, texts, NEGCLIPLOSS.constants().agreement_scale)
    assert set(kept.kept.nonzero().flatten().tolist()) == set(agreement.topk(3).indices.tolist())


def test_greedy_leverage_adds_most_to_the_determinant_each_time():
    rows, start, ridge = torch.randn(12, 4, generator=generator()), torch.tensor([3, 7]), 0.1
    candidates = torch.tensor([0, 1, 2, 4, 5, 6, 8, 9, 10, 11])
    found = greedy_leverage(rows, start, candidates, 5, ridge).tolist()
    kept = start.tolist()
    for _ in range(5):

        def volume(other: int, kept=kept) -> float:
            x = rows[[*kept, other]].double()
            return float(torch.logdet(ridge * torch.eye(4, dtype=torch.double) + x.T @ x))

        kept.append(max((one for one in candidates.tolist() if one not in kept), key=volume))
    assert found == kept[2:]
    assert greedy_leverage(rows, start, candidates, 10, ridge).tolist() == candidates.tolist()


def test_the_rule_drops_noise_keeps_margins_and_meets_the_share():
    images, texts = unit(200, 0), unit(200, 1)
    texts = F.normalize(images + 0.3 * texts, dim=1)
    wrong = torch.arange(10)
    texts[wrong] = -images[wrong]
    sound = torch.arange(200) < 180
    features = pair_features(images, texts)
    selection = select_leverage(images, texts, features, sound, 0.25, LeverageConstants())
    assert selection.kept.sum() == 50
    assert (selection.roles[~sound] == Role.OUTLIER).all()
    # Wrong reports are worse than mismatched ones here, the others far better.
    assert set((selection.roles == Role.OUTLIER).nonzero().flatten().tolist()) == {*range(10), *range(180, 200)}
    # A tenth of what is left; each cluster rounds.
    assert 14 <= (selection.roles == Role.MARGIN).sum() <= 20
    for cluster in range(6):
        own = (selection.clusters == cluster) & (selection.roles != Role.OUTLIER)
        margin = own & (selection.roles == Role.MARGIN)
        if margin.any():
            assert selection.distances[margin].min() >= selection.distances[own & ~margin].max()
    # Margins alone are more than is asked for.
    few = select_leverage(images, texts, features, sound, 0.04, LeverageConstants())
    assert (few.kept.sum(), (few.roles == Role.MARGIN).sum()) == (8, 8)
    # Nothing sound, nothing kept.
    assert select_leverage(images, texts, features, sound & False, 0.25, LeverageConstants()).kept.sum() == 0


def test_a_model_that_cannot_tell_reports_apart_drops_none_as_wrong():
    images, texts, sound = unit(400, 0), unit(400, 1), torch.arange(400) < 390
    selection = select_leverage(images, texts, pair_features(images, texts), sound, 0.5, LeverageConstants())
    assert (selection.roles == Role.OUTLIER).sum() == 10
    assert selection.kept.sum() == 200
    assert "more than 75% of the reports seem to be of other films" in selection.note
    # Broken films, however many, say nothing of that.
    known, broken = F.normalize(images + 0.3 * texts, dim=1), torch.arange(400) < 320
    known[broken] = unit(320, 2)
    told = select_leverage(images, known, pair_features(images, known), ~broken, 1.0, LeverageConstants())
    assert told.note is None
    assert (told.roles == Role.OUTLIER).sum() == pytest.approx(320, abs=8)
    # One that is believed all the same drops by chance.
    believed = LeverageConstants(leverage_most_wrong=0.999)
    strict = select_leverage(images, texts, pair_features(images, texts), sound, 0.5, believed)
    assert (strict.roles == Role.OUTLIER).sum() > 20
    assert strict.note is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("leverage_wrong_above", 1.1), ("leverage_wrong_above", 0.0), ("leverage_most_wrong", 1.0),
        ("leverage_margin", -0.1), ("leverage_clusters", 0), ("leverage_ridge", 0.0),
        ("agreement_scale", 0.0),
    ],
)  # fmt: skip
def test_constants_that_cannot_be_are_refused(name, value):
    with pytest.raises(ValueError, match=r"leverage|agreement_scale"):
        LeverageConstants(**{name: value}).check(0.25)


def test_the_budget_goes_down_the_tree_in_equal_parts():
    # Six lowest clusters of 10, 1, 5, 5, 2, 1 pairs below three; those below two: {0, 1} and {2}.
    tree = [
        torch.repeat_interleave(torch.arange(6), torch.tensor([10, 1, 5, 5, 2, 1])),
        torch.tensor([0, 0, 1, 1, 2, 2]),
        torch.tensor([0, 0, 1]),
    ]
    # Of 12, six each are for {0, 1} and {2}, which holds three: nine for {0, 1}, and so 5 and 4, or 4 and 5.
    shares = share_down(tree, 12)
    assert shares[4:].tolist() == [2, 1]
    assert sorted([int(shares[:2].sum()), int(shares[2:4].sum())]) == [4, 5]
    assert shares[1] == 1
    assert abs(int(shares[2] - shares[3])) <= 1


def test_hierarchical_kmeans_keeps_of_small_groups_more_than_their_share():
    crowd = F.normalize(unit(1, 0) + 0.05 * unit(900, 1), dim=1)
    few = F.normalize(unit(1, 5) + 0.05 * unit(60, 6), dim=1)
    embeds = torch.cat([crowd, few])
    pairs = Candidates(torch.arange(960), embeds, embeds)
    constants = HIERARCHICAL_KMEANS.constants(hierarchy_cluster_size=20, hierarchy_levels=2)
    selection = HIERARCHICAL_KMEANS.choose(pairs, 0.2, generator(), constants)
    assert selection.kept.sum() == 192
    assert selection.kept[900:].float().mean() > 2 * selection.kept[:900].float().mean()
    assert [int(level.max()) + 1 for level in build_tree(pairs.features, 20, 2, 0)] == [48, 2]


@pytest.mark.parametrize(("rule", "gate"), [(GATED_RANDOM, "sound"), (FLAWLESS, "no_defect")])
def test_random_choices_never_take_what_fails_their_gate(rule, gate):
    passed = torch.arange(40) < 30
    pairs = Candidates(torch.arange(40), known={gate: passed})
    selection = rule.choose(pairs, 0.5, generator(), rule.constants())
    assert selection.kept.sum() == 20
    assert (selection.roles[~passed] == Role.OUTLIER).all()
    assert rule.choose(pairs, 0.9, generator(), rule.constants()).kept.sum() == 30


def test_what_is_known_comes_from_the_prepared_columns(tiny_corpus):
    split = load_dataset(str(tiny_corpus), split="train")
    known = know(("sound", "concepts"), split)
    broken = [FilmQuality(**quality).looks_broken() for quality in split["quality"]]
    assert known["sound"].tolist() == [not one for one in broken]
    assert known["concepts"].shape[0] == len(split)
    assert known["concepts"].any(dim=1).all()
    flags = Dataset.from_dict({"flags": [[], ["near_duplicate"], ["wrong_report", "near_duplicate"], ["broken_image"]]})
    assert know(("no_defect",), flags)["no_defect"].tolist() == [True, True, False, False]
    texts = Dataset.from_dict({"report": ["Small pneumothorax.", "No pneumothorax."], "labels": [[], []]})
    concepts = know(("concepts",), texts)["concepts"]
    assert concepts[:, -1].tolist() == [False, True]
    assert concepts[0].sum() == 1
    with pytest.raises(ValueError, match="no column 'quality', from which sound is told: prepare the data again"):
        know(("sound",), texts)
    one = Dataset.from_dict({"quality": [{"flat_share": 0.1, "neighbour_correlation": 0.9}]})
    with pytest.raises(ValueError, match="2 pairs have no 'quality', from which sound is told: prepare the data again"):
        know(("sound",), concatenate_datasets([one, texts]))
    # The pairs of a part are known as those of the whole.
    pairs = Candidates(torch.arange(2), unit(2, 0), unit(2, 1), known={"concepts": concepts})
    assert torch.equal(pairs.subset(torch.tensor([False, True])).known["concepts"], concepts[1:])


def test_learnability_is_what_the_learner_loses_and_the_reference_does_not():
    images, fit = unit(30, 0), unit(30, 2)
    # The reference fits all but the first ten, which are wrong reports; of the others the learner fits ten.
    texts = torch.cat([-images[:20], images[20:]])
    reference = torch.cat([fit, torch.cat([-fit[:10], fit[10:]])], dim=1)
    values = learnability(images, texts, reference, 10.0)
    assert values[10:20].min() > max(values[:10].max(), values[20:].max())
    pairs = Candidates(torch.arange(30), images, texts, known={"reference": reference.half()})
    kept = LEARNABILITY.choose(pairs, 1 / 3, generator(), LEARNABILITY.constants(agreement_scale=10.0)).kept
    assert kept.nonzero().flatten().tolist() == list(range(10, 20))


@pytest.mark.slow
def test_a_run_by_learnability(tiny_corpus, tmp_path):
    reference = run_recipe(tiny_corpus, tmp_path / "reference", "--selection", "none") / "model"
    words = ["--selection", "learnability", "--reference_model", str(reference), "--curation_report", "false"]
    one = run_recipe(tiny_corpus, tmp_path / "one", *words)
    two = run_recipe(tiny_corpus, tmp_path / "two", *words, "--per_device_train_batch_size", "12", processes=2)
    assert kept_rows(one) == kept_rows(two)
    assert_same_weights(one, two)
    runs = [json.loads((run / "run.json").read_text()) for run in (one, two, reference.parent)]
    assert runs[0]["flops"]["scored"] > 0 == runs[2]["flops"]["scored"]
    # By the learner and by the reference; what would not fill a super-batch is not scored by the learner.
    assert runs[0]["pairs_scored"] == runs[1]["pairs_scored"] > 1.5 * runs[0]["corpus_pairs"]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_by_learnability_goes_on_exactly(tiny_corpus, tmp_path, processes):
    """From within the curation epoch: the reference is embedded again, and counted once."""
    reference = run_recipe(tiny_corpus, tmp_path / "reference", "--selection", "none") / "model"
    words = ["--selection", "learnability", "--reference_model", str(reference), "--curation_report", "false"]
    words += ["--save_strategy", "steps", "--save_steps", "1", "--save_total_limit", "20", "--max_steps", "6"]
    words += ["--per_device_train_batch_size", str(24 // processes)]
    whole = run_recipe(tiny_corpus, tmp_path / "whole", *words, processes=processes)
    part = tmp_path / "part"
    shutil.copytree(whole, part)
    for later in range(3, 7):
        shutil.rmtree(part / f"checkpoint-{later}")
    if processes == 1:
        other = run_recipe(tiny_corpus, tmp_path / "other", "--selection", "none", "--seed", "8") / "model"
        another = [str(other) if word == str(reference) else word for word in words]
        with pytest.raises(AssertionError, match="reference"):
            run_recipe(tiny_corpus, part, *another, "--resume_from_checkpoint", "last")
        reference = reference.rename(tmp_path / "moved")
        words[words.index("--reference_model") + 1] = str(reference)
    run_recipe(tiny_corpus, part, *words, "--resume_from_checkpoint", "last", processes=processes)
    assert kept_rows(part) == kept_rows(whole)
    assert_same_weights(part, whole, atol=0)
    runs = [json.loads((run / "run.json").read_text()) for run in (whole, part)]
    assert [run["flops"] for run in runs] == [runs[0]["flops"]] * 2
    assert runs[0]["pairs_scored"] == runs[1]["pairs_scored"]


def test_a_reference_is_asked_for_where_it_is_needed_and_refused_elsewhere(tmp_path):
    given = {"output_dir": str(tmp_path), "use_cpu": True}
    with pytest.raises(ValueError, match="learnability and reference_model None: give reference_model"):
        CuratedTrainingArguments(**given, selection="learnability")
    with pytest.raises(ValueError, match="leave reference_model out"):
        CuratedTrainingArguments(**given, selection="leverage", reference_model="folder")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["leverage", "cabs", "negcliploss", "gated_random", "hierarchical_kmeans"])
def test_any_number_of_processes_and_a_resumed_run_choose_the_same(name, tiny_corpus, tmp_path):
    words = ["--selection", name, "--curation_report", "false"]
    saving = ["--save_strategy", "steps", "--save_steps", "3"]
    one = run_recipe(tiny_corpus, tmp_path / "one", *words, *saving)
    half = ["--per_device_train_batch_size", "12"]
    two = run_recipe(tiny_corpus, tmp_path / "two", *words, *half, processes=2)
    assert kept_rows(one) == kept_rows(two)
    assert_same_weights(one, two)
    for later in itertools.islice(sorted(one.glob("checkpoint-*"), key=lambda folder: len(folder.name)), 1, None):
        for file in sorted(later.rglob("*"), reverse=True):
            file.unlink() if file.is_file() else file.rmdir()
        later.rmdir()
    expected = kept_rows(one)
    again = run_recipe(tiny_corpus, one, *words, *saving, "--resume_from_checkpoint", "last")
    assert kept_rows(again) == expected
    assert_same_weights(again, two)


def test_a_run_by_leverage_tells_what_it_kept(tiny_corpus, tmp_path):
    run = run_recipe(tiny_corpus, tmp_path, "--selection", "leverage")
    state = CurationState.load(run)
    assert state.prototypes is None
    split = load_dataset(str(tiny_corpus), split="train")
    sound = know(("sound",), split)["sound"]
    assert not (state.kept & ~sound).any()
    assert state.kept_share == pytest.approx(0.3, abs=0.01)
    assert LEVERAGE.words in (run / "curation_report.html").read_text()
