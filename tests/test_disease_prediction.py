"""Probes against a plain scikit-learn loop and by hand: draws, masks, choice of the penalty, what cannot be fitted."""

import re
import warnings

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from data_scripts.prepared.patient_sample import draw_patients
from eval.benchmarks import Benchmark
from eval.records.results import load_result
from eval.scores import ZeroShotScores, scores_path
from eval.settings import EvaluationSettings
from eval.tasks.disease_prediction import run
from eval.tasks.probes import C_GRID, LabelledFeatures, fit_probe, probe_share
from tests.pixel_model import SIDE, PixelModel, draw_image

SIZE = 12
#: Of a label and the features: the first has signal, the second none.
NAMES = ["signal", "chance"]


def draw_split(films: int, seed: int, films_a_patient: int = 2, shift: float = 0.0) -> LabelledFeatures:
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(films, SIZE)).astype(np.float32)
    signal = (features[:, 0] - features[:, 1] + generator.normal(size=films) > 1).astype(float)
    chance = generator.integers(0, 2, films).astype(float)
    patients = np.array([f"{seed}-{film // films_a_patient}" for film in range(films)])
    return LabelledFeatures(5 * features + shift, np.stack([signal, chance], axis=1), patients)


@pytest.fixture(scope="module")
def splits() -> dict[str, LabelledFeatures]:
    return {"train": draw_split(600, 0), "validation": draw_split(300, 1), "test": draw_split(400, 2)}


def test_draws_are_nested_and_of_whole_patients():
    patients = np.array([f"p{film // 3}" for film in range(300)])
    smaller, larger, all_rows = (draw_patients(patients, share, seed=1) for share in (0.01, 0.1, 1.0))
    assert (len(smaller), len(larger)) == (3, 30)
    assert set(smaller) < set(larger)
    np.testing.assert_array_equal(all_rows, np.arange(300))
    for rows in (smaller, larger):
        assert np.isin(patients, patients[rows]).sum() == len(rows)
    assert set(larger) != set(draw_patients(patients, 0.1, seed=2))
    assert len(draw_patients(patients, 1e-9, seed=0)) == 3
    # 0.07 x 100 is 7.000000000000001 in binary.
    assert len(draw_patients(patients, 0.07, seed=0)) == 21


def test_probes_are_those_of_a_plain_loop(splits):
    train, validation, test = splits.values()
    mean, scale = train.features.mean(axis=0), train.features.std(axis=0)
    fit = fit_probe(NAMES, train, validation, test.features)
    for number, name in enumerate(NAMES):
        best = None
        for strength in C_GRID:
            model = LogisticRegression(C=strength, max_iter=5000, tol=1e-8)
            model.fit(((train.features - mean) / scale).astype(float), train.targets[:, number])
            scores = model.decision_function((validation.features - mean) / scale)
            value = roc_auc_score(validation.targets[:, number], scores)
            # Neighbouring strengths can be as good as equal: compare what was reached.
            if best is None or value > best[0]:
                best = value, model.decision_function((test.features - mean) / scale)
        expected = roc_auc_score(test.targets[:, number], best[1])
        assert roc_auc_score(test.targets[:, number], fit.scores[:, number]) == pytest.approx(expected, abs=0.01), name
    assert fit.regularisation.keys() == set(NAMES)
    assert fit.not_converged == []
    assert (fit.films, fit.patients) == (600, 300)


def test_the_penalty_is_the_best_on_validation(splits):
    """Labels of noise on many features: with few films the strongest penalty is not best for a strong signal."""
    train, validation, test = splits.values()
    drawn = train.rows(np.arange(40))
    fit = fit_probe(
        ["signal"], LabelledFeatures(drawn.features, drawn.targets[:, :1], drawn.patients), validation, test.features
    )
    reached = {}
    for strength in C_GRID:
        mean, scale = drawn.features.mean(axis=0), drawn.features.std(axis=0)
        model = LogisticRegression(C=strength, max_iter=5000).fit((drawn.features - mean) / scale, drawn.targets[:, 0])
        reached[strength] = roc_auc_score(
            validation.targets[:, 0], model.decision_function((validation.features - mean) / scale)
        )
    assert max(reached.values()) - min(reached.values()) > 0.005
    assert reached[fit.regularisation["signal"]] == pytest.approx(max(reached.values()), abs=1e-3)


def test_standardisation_knows_the_training_films_only(splits):
    train, validation, test = splits.values()
    whole = fit_probe(NAMES, train, validation, test.features).scores
    alone = fit_probe(NAMES, train, validation, test.features[7:8]).scores
    np.testing.assert_allclose(alone[0], whole[7], rtol=1e-4)
    # Any unit and origin of the features gives the same probes.
    moved = [LabelledFeatures(3 * one.features + 40, one.targets, one.patients) for one in splits.values()]
    again = fit_probe(NAMES, *moved[:2], moved[2].features)
    np.testing.assert_allclose(again.scores[:, 0], whole[:, 0], atol=2e-2)


def test_films_without_a_judgement_are_not_learnt_from(splits):
    """Wrong labels that are masked change nothing; unmasked they do."""
    train, validation, test = splits.values()
    targets = train.targets.copy()
    masked = np.arange(300)
    targets[masked, 0] = np.nan
    fit = fit_probe(NAMES, LabelledFeatures(train.features, targets, train.patients), validation, test.features)
    assert fit.positives[0] == train.targets[300:, 0].sum()
    targets[masked, 0] = 1 - train.targets[masked, 0]
    wrong = fit_probe(NAMES, LabelledFeatures(train.features, targets, train.patients), validation, test.features)
    value, wrong_value = (roc_auc_score(test.targets[:, 0], one.scores[:, 0]) for one in (fit, wrong))
    assert value > 0.85
    assert wrong_value < value - 0.1


def test_what_cannot_be_fitted_is_said():
    train, validation, test = draw_split(200, 0), draw_split(100, 1), draw_split(100, 2)
    train.targets[:, 1] = 0
    fit = fit_probe(NAMES, train, validation, test.features)
    assert np.isnan(fit.scores[:, 1]).all()
    assert fit.regularisation.keys() == {"signal"}
    splits = {"train": train, "validation": validation, "test": test}
    share, _ = probe_share(NAMES, splits, 1.0, [0], 20, 0)
    chance = share.labels[1]
    assert (chance.auroc.value, chance.auroc_by_seed, chance.training_positives) == (None, [None], [0])
    assert share.macro.value == share.labels[0].auroc.value


def test_a_label_of_one_value_on_validation_takes_the_penalty_of_the_others():
    train, validation, test = draw_split(200, 0), draw_split(100, 1), draw_split(100, 2)
    validation.targets[:, 1] = 1
    fit = fit_probe(NAMES, train, validation, test.features)
    assert fit.chosen_together == ["chance"]
    assert fit.regularisation["chance"] == fit.regularisation["signal"]
    validation.targets[:] = 1
    none = fit_probe(NAMES, train, validation, test.features)
    assert none.regularisation == {}
    assert np.isnan(none.scores).all()


def test_a_share_is_the_mean_of_its_draws_with_an_interval_by_patient(splits):
    share, fits = probe_share(NAMES, splits, 0.1, [3, 4, 5], 200, 0)
    test = splits["test"]
    values = [[roc_auc_score(test.targets[:, k], fit.scores[:, k]) for k in range(2)] for fit in fits]
    signal, chance = share.labels
    assert signal.auroc_by_seed == pytest.approx([row[0] for row in values])
    assert signal.auroc.value == pytest.approx(np.mean([row[0] for row in values]))
    assert share.macro.value == pytest.approx(np.mean(values))
    assert share.macro_by_seed == pytest.approx(np.mean(values, axis=1))
    assert share.spread == pytest.approx(np.std(np.mean(values, axis=1), ddof=1))
    assert share.macro.low < share.macro.value < share.macro.high
    assert 0.8 < signal.auroc.value < 0.97
    assert abs(chance.auroc.value - 0.5) < 0.08
    assert (share.training_patients, share.training_films) == ([30] * 3, [60] * 3)
    assert (signal.films, signal.positives) == (400, int(test.targets[:, 0].sum()))


def test_a_label_missing_in_one_draw_stays_out_of_the_macro_mean(splits):
    """Ten positives in one patient: some draws have none of them."""
    rare = LabelledFeatures(splits["train"].features, splits["train"].targets.copy(), splits["train"].patients.copy())
    rare.targets[:, 1] = 0
    rare.patients[:10] = "one"
    rare.targets[:10, 1] = 1
    seeds = list(range(6))
    share, fits = probe_share(NAMES, {**splits, "train": rare}, 0.5, seeds, 20, 0)
    missing = [fit.regularisation.keys() == {"signal"} for fit in fits]
    assert 0 < sum(missing) < len(seeds)
    assert [value is None for value in share.labels[1].auroc_by_seed] == missing
    assert share.macro.value == pytest.approx(share.labels[0].auroc.value)


def test_no_warning_is_left_to_the_user(splits):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probe_share(NAMES, splits, 0.02, [0, 1], 20, 0)


BENCHMARK = Benchmark("probe", 1, "disease_prediction", labels=("Edema", "Nodule"))
SETTINGS = EvaluationSettings(resamples=50, label_shares=(1.0, 0.1), num_seeds=3)


def make_films(split: str, patients: int, seed: int) -> Dataset:
    """Two films a patient; the first pixel tells Edema, nothing tells Nodule; a fifth of the films is uncertain."""
    generator, rows = np.random.default_rng(seed), []
    for number in range(2 * patients):
        edema, nodule = generator.integers(0, 2, 2)
        values = generator.uniform(60, 120, SIDE**2)
        values[0] += 50 * edema
        labels = [
            {"name": "Edema", "value": -1 if number % 5 == 0 else int(edema)},
            {"name": "Nodule", "value": int(nodule)},
        ]
        rows.append(
            {
                "image": draw_image(values),
                "labels": labels,
                "patient_id": f"{split}-{number // 2}",
                "record_id": f"{split}/{number}",
                "view": "PA" if number % 2 else "AP",
            }
        )
    return Dataset.from_list(rows)


@pytest.fixture(scope="module")
def films() -> DatasetDict:
    sizes = {"train": 120, "validation": 40, "test": 60}
    return DatasetDict({name: make_films(name, size, seed) for seed, (name, size) in enumerate(sizes.items())})


def test_a_run_gives_every_share_and_keeps_the_scores(films, tmp_path):
    settings = EvaluationSettings(resamples=50, label_shares=(1.0, 0.1), num_seeds=3, out=tmp_path)
    result = run(BENCHMARK, PixelModel(sees_text=False), films, settings)
    few, every = result.shares
    assert (few.label_share, few.seeds, few.training_patients) == (0.1, [0, 1, 2], [12, 12, 12])
    assert (every.label_share, every.seeds, every.training_films, every.spread) == (1.0, [0], [240], None)
    edema, nodule = every.labels
    assert edema.auroc.value > 0.95 > few.labels[0].auroc.value
    assert abs(nodule.auroc.value - 0.5) < 0.15
    assert (edema.films, nodule.films) == (96, 120)
    assert every.regularisation[0].keys() == {"Edema", "Nodule"}
    assert result.method == "linear_probe"
    assert result.headline == ("macro AUROC, 100% of labels", every.macro)
    assert [(group.value, group.films, group.labels) for group in result.subgroups] == [("AP", 60, 2), ("PA", 60, 2)]
    result.save(tmp_path / "probe.json")
    assert load_result(tmp_path / "probe.json") == result
    scores = ZeroShotScores.load(scores_path(tmp_path / "probe.json"), result.scores_sha256)
    judged = np.isfinite(scores.targets[:, 0])
    assert roc_auc_score(scores.targets[judged, 0], scores.scores[judged, 0]) == pytest.approx(edema.auroc.value)


def test_the_same_run_gives_the_same_figures(films):
    first, again = (run(BENCHMARK, PixelModel(), films, SETTINGS) for _ in range(2))
    assert first.shares == again.shares


def test_without_validation_some_training_patients_choose(films):
    held_out = (
        "Penalties were chosen on 48 films of 24 patients sampled by the seed and held out of training, since no "
        "validation split has a label with both classes."
    )
    ill = films["validation"].filter(lambda row: row["labels"][0]["value"] == row["labels"][1]["value"] == 1)
    without = DatasetDict(train=films["train"], test=films["test"])
    for splits in (without, DatasetDict({**films, "validation": ill})):
        result = run(BENCHMARK, PixelModel(), splits, SETTINGS)
        assert result.notes[0] == held_out
        assert result.shares[-1].training_patients == [96]
    # Nor may the films that are judged choose.
    judged = Benchmark("probe", 1, "disease_prediction", split="validation", labels=("Edema",))
    result = run(judged, PixelModel(), films, SETTINGS)
    assert result.notes[0] == held_out
    assert result.provenance.films == 80
    result = run(BENCHMARK, PixelModel(), films, SETTINGS)
    assert result.notes == ["Penalties were chosen on 80 films of 40 patients of the validation split."]


def test_patients_on_both_sides_are_shown(films):
    both = DatasetDict({**films, "train": make_films("test", 30, 5)})
    result = run(BENCHMARK, PixelModel(), both, SETTINGS)
    assert result.notes[0] == "30 of 60 evaluated patients have films in split 'train' too."


def test_a_label_that_training_lacks_is_undefined(films):
    """Without labels asked for, all of the test are; one that training does not know cannot be learnt."""
    everything = Benchmark("probe", 1, "disease_prediction")
    train = films["train"].map(lambda row: {"labels": [one for one in row["labels"] if one["name"] == "Edema"]})
    result = run(everything, PixelModel(), DatasetDict({**films, "train": train}), SETTINGS)
    assert result.undefined == ["Nodule"]
    assert any("labels not fitted" in note and "Nodule in 1." in note for note in result.notes)
    with pytest.raises(ValueError, match=re.escape("labels ['Nodule'] are judged in no training film")):
        run(BENCHMARK, PixelModel(), DatasetDict({**films, "train": train}), SETTINGS)


def test_what_cannot_be_probed_is_refused(films):
    with pytest.raises(ValueError, match="needs a split 'train' apart from it, there are"):
        run(BENCHMARK, PixelModel(), DatasetDict(test=films["test"]), SETTINGS)
    with pytest.raises(ValueError, match="needs a split 'train' apart from it"):
        run(Benchmark("probe", 1, "disease_prediction", split="train"), PixelModel(), films, SETTINGS)
    with pytest.raises(ValueError, match=re.escape("labels ['Mass'] are not in the data")):
        run(Benchmark("probe", 1, "disease_prediction", labels=("Mass",)), PixelModel(), films, SETTINGS)
    sure = films["train"].filter(lambda row: row["labels"][0]["value"] == row["labels"][1]["value"] == 1)
    with pytest.raises(ValueError, match="no penalty can be chosen"):
        run(BENCHMARK, PixelModel(), DatasetDict(train=sure, test=films["test"]), SETTINGS)
    ill = films["test"].filter(lambda row: row["labels"][0]["value"] == row["labels"][1]["value"] == 1)
    with pytest.raises(ValueError, match="there is no AUROC"):
        run(BENCHMARK, PixelModel(), DatasetDict({**films, "test": ill}), SETTINGS)
