"""Metrics against scikit-learn and hand-made cases; the zero-shot runner, its files and its refusals."""

import json
import shutil
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from eval.models.load import load_evaluation_model
from eval.prompts import find_prompts
from eval.records.estimates import percentile_interval
from eval.records.results import Estimate, ZeroShotResult, load_result
from eval.run import main as run_main
from eval.scores import ZeroShotScores, scores_path
from eval.settings import EvaluationSettings
from eval.statistics.metrics import auroc, label_aurocs, weighted_auroc
from eval.statistics.ranked_labels import RankedLabels
from eval.statistics.significance import resample_by_patient
from eval.tasks.calibration import calibration, reliability_bins, two_class_softmax
from eval.tasks.thresholds import choose_threshold, judge_threshold, threshold_rates
from eval.tasks.zero_shot import (
    _few_patients,
    judge,
    pair_embeddings,
    pair_scores,
    prompt_embeddings,
    score_split,
)
from tests.resampling import bootstrap_weights
from train.pretrain.__main__ import main as pretrain_main

RECIPE = str(Path(__file__).parent / "tiny.yaml")


@pytest.fixture(scope="module")
def run(tiny_corpus, tmp_path_factory) -> Path:
    """A finished run, judged."""
    out = tmp_path_factory.mktemp("run")
    pretrain_main([RECIPE, "--dataset_dir", str(tiny_corpus), "--output_dir", str(out)])
    run_main(["--model", str(out / "model"), "--data", str(tiny_corpus), "--resamples", "50"])
    return out


def test_auroc_equals_scikit_learn_with_ties_and_weights():
    generator = np.random.default_rng(0)
    scores = generator.integers(0, 12, 300).astype(float)
    targets = (generator.random(300) < 0.2).astype(float)
    weights = generator.integers(0, 4, (5, 300)).astype(float)
    expected = [roc_auc_score(targets, scores, sample_weight=row) for row in weights]
    np.testing.assert_allclose(weighted_auroc(scores, targets, weights), expected, atol=1e-12)
    assert auroc(scores, targets) == pytest.approx(roc_auc_score(targets, scores))


def test_auroc_by_hand():
    assert auroc(np.array([1.0, 2, 3, 4]), np.array([0.0, 1, 0, 1])) == 0.75
    assert auroc(np.array([5.0, 5, 5, 5]), np.array([0.0, 1, 0, 1])) == 0.5
    assert np.isnan(auroc(np.array([1.0, 2]), np.array([1.0, 1])))


def test_average_precision_equals_scikit_learn_with_ties_and_weights():
    generator = np.random.default_rng(0)
    scores = generator.integers(0, 12, 300).astype(float)
    targets = (generator.random(300) < 0.2).astype(float)
    weights = generator.integers(0, 4, (250, 300)).astype(float)
    expected = [average_precision_score(targets, scores, sample_weight=row) for row in weights]
    judged = np.stack([targets, np.ones(300), np.where(generator.random(300) < 0.3, np.nan, targets)], axis=1)
    precisions = RankedLabels(np.stack([scores] * 3, axis=1), judged).both(weights)[:, 1]
    np.testing.assert_allclose(precisions[:, 0], expected, atol=1e-12)
    # All films positive: 1 whatever the scores, so no figure.
    assert np.isnan(precisions[:, 1]).all()
    kept = np.isfinite(judged[:, 2])
    first = average_precision_score(targets[kept], scores[kept], sample_weight=weights[0, kept])
    assert precisions[0, 2] == pytest.approx(first, abs=1e-12)


def test_scores_that_are_no_numbers_are_refused_where_films_are_judged():
    scores, targets = np.array([[np.nan], [np.inf], [-np.inf], [np.inf]]), np.array([[np.nan], [1.0], [0], [0]])
    assert RankedLabels(scores, targets).aurocs(np.ones((1, 4)))[0, 0] == 0.75
    with pytest.raises(ValueError, match="scores of 1 films are NaN"):
        RankedLabels(scores, np.array([[1.0], [1], [0], [0]]))


def test_figures_do_not_depend_on_the_blocks_of_resamples_and_fit_into_memory():
    generator = np.random.default_rng(0)
    scores, targets = generator.normal(size=(1_000, 2)), (generator.random((1_000, 2)) < 0.2).astype(float)
    targets[:200, 1] = np.nan
    weights = bootstrap_weights(np.arange(1_000) // 2, 1_500, seed=0)
    single = np.concatenate([label_aurocs(scores, targets, row[None]) for row in weights[:5]])
    tracemalloc.start()
    np.testing.assert_allclose(label_aurocs(scores, targets, weights)[:5], single, atol=1e-13)
    RankedLabels(scores, targets).both(weights)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # No copy of all weights, beside those given.
    assert peak < weights.nbytes


def test_few_patients_of_one_class_are_noted():
    targets = np.zeros((60, 4))
    # Thirty films of three patients; of thirty patients; all patients but three; none.
    patients = np.array([f"p{number % 3}" if number < 30 else f"q{number}" for number in range(60)])
    targets[:30, 0], targets[30:, 1], targets[:57, 2] = 1, 1, 1
    targets[:30, 1] = np.nan
    targets[30:45, 1] = 0
    split = ZeroShotScores(["a", "b", "c", "d"], np.zeros((60, 4)), targets, patients)
    labels, _ = judge(split, {}, 0.01, resamples=2, seed=0)
    (note,) = _few_patients(split, labels)
    assert note.startswith("Fewer than 10 patients with or without it")
    assert note.endswith(": a, c.")


def test_calibration_by_hand_and_against_scikit_learn():
    """Bins of 1/15: 0.01 and 0.02 in the first, 0.5 in the eighth, 0.99 and 1.0 in the last."""
    probabilities, targets = np.array([0.01, 0.02, 0.5, 0.99, 1.0]), np.array([0.0, 1, 1, 1, 1])
    found = calibration(probabilities, targets)
    expected = (abs(0.03 - 1) + abs(0.5 - 1) + abs(1.99 - 2)) / 5
    assert found.ece == pytest.approx(expected)
    assert found.brier == pytest.approx(brier_score_loss(targets, probabilities))
    assert found.brier_of_prevalence == pytest.approx(brier_score_loss(targets, np.full(5, 0.8)))
    bins = reliability_bins(probabilities, targets)
    assert bins[:, 2].tolist() == [2, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2]
    np.testing.assert_allclose(bins[0], [0.015, 0.5, 2])
    generator = np.random.default_rng(0)
    sure = generator.random(20_000)
    assert calibration(sure, (generator.random(20_000) < sure).astype(float)).ece < 0.02
    # Logits beyond what an exponential holds.
    assert two_class_softmax(np.array([-1e4, 0.0, 1e4])).tolist() == [pytest.approx(0), 0.5, 1]


def test_threshold_chosen_on_one_split_and_judged_on_another():
    scores, targets = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), np.array([0.0, 0, 1, 0, 1, 1])
    # From 0.5 on two of three positives and no negative, from 0.3 on all three and one negative: both 0.667.
    assert choose_threshold(scores, targets, "youden") == 0.5
    assert choose_threshold(scores, targets, "sensitivity=0.95") == 0.3
    assert choose_threshold(scores, targets, "sensitivity=0.5") == 0.5
    assert choose_threshold(scores, np.ones(6), "youden") is None
    with pytest.raises(ValueError, match="threshold rule 'best' is unknown"):
        choose_threshold(scores, targets, "best")
    scores, targets = np.tile(scores, 2), np.tile(targets, 2)
    rates = resample_by_patient(partial(threshold_rates, 0.4, scores, targets), np.arange(12), 200, seed=0)
    judged = judge_threshold(0.4, "youden", "validation", scores, targets, rates)
    counts = judged.true_positives, judged.false_positives, judged.true_negatives, judged.false_negatives
    assert counts == (4, 2, 4, 2)
    assert judged.sensitivity.value == pytest.approx(2 / 3)
    assert judged.specificity.value == pytest.approx(2 / 3)
    assert 0 <= judged.sensitivity.low < 2 / 3 < judged.sensitivity.high <= 1


def test_bootstrap_draws_patients_not_films():
    patients = np.array(["a", "a", "a", "b", "c", "c"])
    weights = bootstrap_weights(patients, 200, seed=0)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 4] == weights[:, 5]).all()
    assert (weights[:, [0, 3, 4]].sum(axis=1) == 3).all()
    np.testing.assert_array_equal(weights, bootstrap_weights(patients, 200, seed=0))
    assert (weights != bootstrap_weights(patients, 200, seed=1)).any()


def test_interval_covers_the_truth_about_as_often_as_it_says():
    """Two normal distributions one unit apart: the true AUROC is Phi(1 / sqrt 2) = 0.7602."""
    covered = 0
    for seed in range(100):
        generator = np.random.default_rng(seed)
        targets = np.repeat([0.0, 1.0], [150, 50])
        scores = generator.normal(size=200) + targets
        weights = bootstrap_weights(np.arange(200), 300, seed)
        low, high = percentile_interval(weighted_auroc(scores, targets, weights))
        covered += low <= 0.7602 <= high
    assert 88 <= covered <= 100


def test_judge_leaves_out_what_cannot_be_judged():
    nan = np.nan
    targets = np.array([[1, 0, 1, nan], [0, 0, 1, nan], [1, 0, nan, 1], [0, 0, 0, 0.0]])
    scores = np.array([[2, 1, 3, 9], [1, 2, 1, 9], [3, 1, 9, 1], [0, 1, 2, 2.0]])
    split = ZeroShotScores(["easy", "absent", "half", "wrong"], scores, targets, np.array(["a", "b", "c", "d"]))
    labels, macros = judge(split, {"easy": 0.5, "half": 0.2, "wrong": 0.001}, 0.01, resamples=20, seed=0)
    by_name = {label.name: label for label in labels}
    assert by_name["easy"].auroc.value == 1
    assert by_name["absent"].auroc.value is None
    assert (by_name["half"].auroc.value, by_name["half"].films) == (0.5, 3)
    assert by_name["wrong"].auroc.value == 0
    assert by_name["wrong"].rare
    assert not by_name["half"].rare
    assert macros["macro"].value == pytest.approx((1 + 0.5 + 0) / 3)
    assert macros["macro_common"].value == pytest.approx(0.75)
    assert macros["macro_rare"].value == 0


@pytest.mark.parametrize(
    ("label", "family", "pair"),
    [
        ("Edema", "published", ("Edema", "no Edema")),
        ("No Finding", "published", ("No Finding", "there is Finding")),
        ("Edema", "report", ("There is Edema.", "There is no Edema.")),
        ("Edema", "clinical", ("Findings consistent with Edema.", "No evidence of Edema.")),
    ],
)
def test_prompts(label, family, pair):
    assert find_prompts(family).pair(label) == pair


def test_prompts_of_a_file(tmp_path):
    file = tmp_path / "prompts.yaml"
    file.write_text('positive: "{} is seen."\nnegative: "no sign of {}"\npairs: {Edema: [wet lungs, dry lungs]}\n')
    assert find_prompts(str(file)).pair("Edema") == ("wet lungs", "dry lungs")
    assert find_prompts(str(file)).pair("Mass") == ("Mass is seen.", "no sign of Mass")
    file.write_text('{"pairs": {"Edema": ["wet lungs", "dry lungs"]}}')
    with pytest.raises(ValueError, match="no pair for 'Mass' and no template"):
        find_prompts(str(file)).pair("Mass")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a, b]", "expected some of the keys"),
        ("posative: x", "expected some of the keys"),
        ("positive: '{}'", "give both templates"),
        ("{positive: finding, negative: 'no {}'}", "one {} for the finding"),
        ("pairs: {Edema: [wet lungs]}", "a list of two texts"),
        ("pairs: [wet lungs]", "a list of two texts"),
        ("a: [", "not readable as YAML"),
        ("{positive: '{x} {}', negative: 'no {}'}", "one {} for the finding"),
        ("pairs: {No: [a, b]}", "the finding False is no text"),
    ],
)
def test_files_of_prompts_that_cannot_be_used_are_refused(tmp_path, text, message):
    (tmp_path / "prompts.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        find_prompts(str(tmp_path / "prompts.yaml"))


def test_scores_are_the_published_softmax_in_another_form(run, tiny_corpus):
    import datasets

    model = load_evaluation_model(str(run / "model"))
    dataset = datasets.load_dataset(str(tiny_corpus), split="test").select(range(8))
    split = score_split(model, dataset, ("Cardiomegaly",), "published", EvaluationSettings())
    with torch.no_grad():
        batch = model.processor(images=dataset["image"], text=["Cardiomegaly", "no Cardiomegaly"])
        probability = model.model(**batch).logits_per_image.softmax(dim=1)[:, 0]
    np.testing.assert_allclose(two_class_softmax(split.scores[:, 0]), probability.numpy(), atol=1e-5)


def test_results_are_typed_and_complete(run):
    result = ZeroShotResult.load(run / "results" / "zero_shot_findings.json")
    assert isinstance(result.macro, Estimate)
    assert result.macro.low <= result.macro.value <= result.macro.high
    assert result.provenance.seen_sources == ["synthetic"]
    assert len(result.provenance.model_sha256) == 64
    assert {"torch", "transformers"} <= set(result.provenance.packages)
    assert result.provenance.films > 80
    defined = [label for label in result.labels if label.auroc.value is not None]
    assert {label.name for label in result.labels} - {label.name for label in defined} == set(result.undefined)
    assert result.macro.value == pytest.approx(np.mean([label.auroc.value for label in defined]))
    assert (run / "results" / "zero_shot_findings.png").stat().st_size > 10_000
    assert "NaN" not in (run / "results" / "zero_shot_findings.json").read_text()


def test_results_say_more_than_one_number(run):
    result = load_result(run / "results" / "zero_shot_findings.json")
    assert isinstance(result, ZeroShotResult)
    defined = [label for label in result.labels if label.auroc.value is not None]
    for label in defined:
        assert label.auprc.low <= label.auprc.value <= label.auprc.high
        assert 0 <= label.calibration.ece <= 1
        assert label.calibration.prevalence == pytest.approx(label.positives / label.films)
    assert result.macro_auprc.value == pytest.approx(np.mean([label.auprc.value for label in defined]))
    # Of the labels with both classes on validation.
    thresholds = [label.threshold for label in result.labels if label.threshold is not None]
    assert thresholds
    assert all(one.chosen_on.startswith("validation (") for one in thresholds)
    assert [one.name for one in result.other_prompts] == ["published", "clinical", "report", "contrast", "ensemble"]
    assert result.other_prompts[-1].families == ["published", "clinical", "report"]
    assert len({result.macro.value, *(one.macro.value for one in result.other_prompts)}) == 6
    assert result.prompt_pairs["No Finding"] == ["minus the highest score of the other findings"]
    assert result.prompt_pairs["Edema"] == ["Edema", "no Edema"]
    assert {one.attribute for one in result.subgroups} >= {"view", "sex", "age"}
    for attribute in ("view", "sex"):
        assert sum(one.films for one in result.subgroups if one.attribute == attribute) <= result.provenance.films
    for label in result.labels:
        (group,) = (group for group in result.frequencies if label.name in group.labels)
        assert group.lowest <= label.prevalence <= group.below


def test_scores_are_kept_beside_the_result_without_ids(run, tiny_corpus):
    import datasets

    path = run / "results" / "zero_shot_findings.json"
    result = ZeroShotResult.load(path)
    split = ZeroShotScores.load(scores_path(path), result.scores_sha256)
    weights = np.ones((1, len(split.patients)))
    aurocs = dict(zip(split.names, label_aurocs(split.scores, split.targets, weights)[0], strict=True))
    for label in result.labels:
        assert aurocs[label.name] == label.auroc.value or label.name in result.undefined
    ids = datasets.load_dataset(str(tiny_corpus), split="test")["patient_id"]
    numbers = {one: number for number, one in enumerate(dict.fromkeys(ids))}
    assert split.patients.tolist() == [numbers[one] for one in ids]
    assert not any(one.encode() in scores_path(path).read_bytes() for one in numbers)


def test_scores_survive_saving_and_belong_to_one_result(tmp_path):
    targets, path = np.array([[1, np.nan], [0, 1], [np.nan, 0.0]]), tmp_path / "scores.safetensors"
    split = ZeroShotScores(["b", "a"], np.eye(3, 2, dtype=np.float32), targets, np.array(["z", "a", "z"]))
    digest = split.save(path)
    loaded = ZeroShotScores.load(path, digest)
    assert loaded.names == ["b", "a"]
    np.testing.assert_array_equal(loaded.scores, split.scores)
    np.testing.assert_array_equal(loaded.targets, targets)
    assert loaded.patients.tolist() == [0, 1, 0]
    assert split.save(path) == digest
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(ValueError, match="does not belong to the result"):
        ZeroShotScores.load(path, digest)
    path.unlink()
    with pytest.raises(ValueError, match="is missing: evaluate the model again"):
        ZeroShotScores.load(path, digest)


def test_scores_that_are_not_finite_are_refused(run, tiny_corpus):
    import datasets

    model = load_evaluation_model(str(run / "model"))
    model.logit_scale = float("nan")
    dataset = datasets.load_dataset(str(tiny_corpus), split="test").select(range(3))
    with pytest.raises(ValueError, match="scores of 3 films are not finite, the first is row 0"):
        score_split(model, dataset, ("Cardiomegaly",), "published", EvaluationSettings())
    torch.nn.init.constant_(model.model.visual_projection.weight, torch.nan)
    with pytest.raises(ValueError, match="embeddings of 3 films are not finite, the first is row 0"):
        score_split(model, dataset, ("Cardiomegaly",), "published", EvaluationSettings())


def test_a_file_of_another_version_is_refused(run, tmp_path):
    values = json.loads((run / "results" / "zero_shot_findings.json").read_text())
    (tmp_path / "r.json").write_text(json.dumps({**values, "format_version": 99}))
    with pytest.raises(ValueError, match="format 99"):
        ZeroShotResult.load(tmp_path / "r.json")


def test_a_trial_is_marked(run, tiny_corpus, tmp_path, capsys):
    words = ["--model", str(run / "model"), "--data", str(tiny_corpus), "--resamples", "10", "--limit", "40"]
    run_main([*words, "--out", str(tmp_path)])
    assert "PARTIAL: the first 40 films only" in capsys.readouterr().out
    assert ZeroShotResult.load(tmp_path / "zero_shot_findings.json").provenance.limited


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--data": "/no/such"}, "is not a prepared dataset"),
        ({"--model": "/no/such"}, "/no/such"),
        ({"--limit": "-3"}, "limit is -3"),
        ({"--resamples": "0"}, "resamples is 0"),
        ({"--prompts": "poetic"}, "prompts 'poetic' are unknown"),
    ],
)
def test_what_cannot_be_judged_is_refused(run, tiny_corpus, tmp_path, changes, message):
    words = {"--model": str(run / "model"), "--data": str(tiny_corpus), "--out": str(tmp_path), **changes}
    with pytest.raises(SystemExit, match=message):
        run_main([word for pair in words.items() for word in pair])


def test_the_card_says_what_was_measured(run):
    from model_cards.render import main as card_main

    card_main([str(run)])
    card = (run / "model" / "README.md").read_text()
    result = ZeroShotResult.load(run / "results" / "zero_shot_findings.json")
    assert f"| all | {result.macro.value:.3f} |" in card
    assert f"\n# {run.name}\n" in card
    assert "not a medical device" in card
    assert "It has seen nothing but drawn films" in card
    assert "model-index" in card
    values = json.loads((run / "results" / "zero_shot_findings.json").read_text())
    other = run.with_name("other")
    shutil.copytree(run, other)
    values["provenance"]["model_sha256"] = "0" * 64
    (other / "results" / "zero_shot_findings.json").write_text(json.dumps(values))
    with pytest.raises(SystemExit, match="was measured on other weights"):
        card_main([str(other)])
    with pytest.raises(SystemExit, match="is not a finished run"):
        card_main([str(run / "model")])


def test_no_finding_is_told_by_the_other_findings_under_the_default_prompts():
    scores = np.array([[0.5, 1.0, -2.0, 9.0], [0.5, -3.0, -1.0, 9.0]])
    labels = ["No Finding", "Edema", "Mass", "Support Devices"]
    default, published = find_prompts("default"), find_prompts("published")
    assert default.without_others(scores, labels).tolist() == [[-1.0, 1.0, -2.0, 9.0], [1.0, -3.0, -1.0, 9.0]]
    assert published.without_others(scores, labels) is scores
    # Alone, there are no others to tell it by.
    assert default.without_others(scores[:, :1], labels[:1]).tolist() == [[0.5], [0.5]]
    assert default.describe("No Finding") == ["minus the highest score of the other findings"]
    assert default.describe("Edema") == ["Edema", "no Edema"]


@pytest.mark.parametrize("name", ["No Finding", "No finding", "no_finding", "Normal", "NORMAL"])
def test_that_nothing_is_found_is_told_by_the_others_whatever_it_is_called(name):
    default = find_prompts("default")
    scores = np.array([[0.5, 1.0, -2.0]])
    assert default.without_others(scores, [name, "Edema", "support_devices"]).tolist() == [[-1.0, 1.0, -2.0]]
    assert default.describe(name) == ["minus the highest score of the other findings"]
    assert default.pairs_behind(name, [name, "Edema"]) == ([("Edema", "no Edema")], True)
    assert find_prompts("report").pair(name)[0] == "The heart and lungs are normal."


def test_contrast_compares_a_finding_with_all_others_whatever_is_asked_for(run):
    family = find_prompts("contrast")
    compared = family.comparisons("Pleural effusion")
    assert {positive for positive, _ in compared} == {"Pleural effusion"}
    against = [negative for _, negative in compared]
    assert "Cardiomegaly" in against
    assert not {"Pleural Effusion", "No Finding"} & set(against), (
        "not with itself, nor with what says that none is there"
    )
    # A finding that is none of them is compared with one more.
    assert len(family.comparisons("Dextrocardia")) == len(family.comparisons("No Finding")) == len(compared) + 1
    assert family.describe("Edema") == ["Edema", f"the mean of {len(compared)} findings"]
    model = load_evaluation_model(str(run / "model"))
    films = model.embed_texts(["Edema.", "A mass in the left upper lobe.", "Normal chest radiograph."])
    asked = ["Edema", "Dextrocardia", "Mass"]
    scores = pair_scores(model, films, prompt_embeddings(model, family, asked))
    for name, own in zip(asked, scores.T, strict=True):
        differences = pair_scores(model, films, pair_embeddings(model, family.comparisons(name)))
        np.testing.assert_allclose(own, differences.mean(axis=1), atol=1e-5)
        alone = pair_scores(model, films, prompt_embeddings(model, family, [name]))
        np.testing.assert_allclose(alone[:, 0], own, atol=1e-6)


def test_prompts_are_words_and_not_names_of_columns():
    assert find_prompts("default").pair("pleural_effusion") == ("pleural effusion", "no pleural effusion")
    assert find_prompts("published").pair("Normal") == ("Normal", "no Normal")
