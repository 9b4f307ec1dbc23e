"""Several films of one study judged as one, by named rules, against figures by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from eval.benchmarks import BENCHMARKS
from eval.films.parts import read_job
from eval.models.load import load_evaluation_model
from eval.predict import main as predict
from eval.scores import ZeroShotScores
from eval.settings import EvaluationSettings
from eval.splits import load_splits
from eval.study_level import Studies, mean_embeddings, pool_scores, pool_targets
from eval.tasks import disease_prediction, zero_shot
from tests.adapter_files import make_adapter, save_base
from tests.film_files import write_film

GROUPS = np.array([0, 1, 0, 2])
NAMES = ["Edema", "Mass"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_base(tmp_path_factory.mktemp("study") / "base")


def test_pooling_by_hand():
    scores = np.float32([[1, -2], [5, 5], [3, -1], [0, 7]])
    assert pool_scores(scores, GROUPS, "mean_score", NAMES).tolist() == [[2, -1.5], [5, 5], [0, 7]]
    assert pool_scores(scores, GROUPS, "max_score", NAMES).tolist() == [[3, -1], [5, 5], [0, 7]]
    targets = np.array([[0, np.nan], [1, 0], [1, 0], [np.nan, np.nan]])
    np.testing.assert_array_equal(pool_targets(targets, GROUPS, NAMES), [[1, 0], [1, 0], [np.nan, np.nan]])
    embeddings = torch.tensor([[1.0, 0], [0, 1], [0, 1], [0.6, 0.8]])
    half = 0.5**0.5
    torch.testing.assert_close(
        mean_embeddings(embeddings, GROUPS), torch.tensor([[half, half], [0.0, 1.0], [0.6, 0.8]])
    )


@pytest.mark.parametrize("name", ["No Finding", "Normal"])
def test_a_study_is_normal_where_all_its_films_are(name):
    """One film with a finding is enough: with the highest, a study had both Edema and No Finding."""
    edema_and_normal = np.array([[1, 0], [0, 1], [0, 1], [np.nan, np.nan], [0, 1], [np.nan, 1]])
    groups = np.array([0, 0, 1, 1, 2, 3])
    pooled = pool_targets(edema_and_normal, groups, ["Edema", name])
    np.testing.assert_array_equal(pooled, [[1, 0], [0, 1], [0, 1], [np.nan, 1]])
    np.testing.assert_array_equal(pool_targets(edema_and_normal[[3]], np.array([0]), ["Edema", name]), [[np.nan] * 2])
    scores = np.float32([[0.9, 0.1], [0.2, 0.8], [0.3, 0.6]])
    studies = np.array([0, 0, 1])
    assert (
        pool_scores(scores, studies, "max_score", ["Edema", name]).tolist() == scores[[[0, 0], [2, 2]], [0, 1]].tolist()
    )
    mean = pool_scores(scores, studies, "mean_score", ["Edema", name])
    np.testing.assert_allclose(mean, [[0.55, 0.45], [0.3, 0.6]], rtol=1e-6)


@pytest.fixture(scope="module")
def splits(tiny_corpus):
    """The synthetic films, two and two of one patient and study."""
    splits = load_splits(BENCHMARKS["zero_shot_findings"], [tiny_corpus], None)
    for name, split in splits.items():
        pairs = [f"{name}-{row // 2}" for row in range(len(split))]
        kept = split.remove_columns([column for column in ("patient_id", "study_id") if column in split.column_names])
        splits[name] = kept.add_column("patient_id", pairs).add_column("study_id", pairs)
    return splits


def run(task, name, model, splits, folder, rule):
    settings = EvaluationSettings(resamples=20, study_rule=rule, label_shares=(1.0,), out=folder, cache=folder)
    labels = ("Edema", "Cardiomegaly") if task is disease_prediction else ()
    result = task.run(replace(BENCHMARKS[name], labels=labels), model, splits, settings)
    return result, ZeroShotScores.load(folder / f"{name}.scores.safetensors", result.scores_sha256)


def check_says_it(result, rule, films):
    studies = (films + 1) // 2
    assert (result.study_rule, result.studies) == (rule, studies)
    assert f"{films:,} films were judged as {studies:,} studies by '{rule}'" in " ".join(result.notes)
    assert result.provenance.settings["study_rule"] == rule
    assert not [group for group in result.subgroups if group.attribute == "view"]


def test_zero_shot_judges_studies(base, splits, tmp_path):
    model, name = load_evaluation_model(str(base)), "zero_shot_findings"
    groups = np.arange(len(splits["test"])) // 2
    plain, of_films = run(zero_shot, name, model, splits, tmp_path, "none")
    assert (plain.study_rule, plain.studies, "study_rule" in plain.provenance.settings) == ("none", None, False)
    for rule in ("mean_score", "max_score", "mean_embedding"):
        result, of_studies = run(zero_shot, name, model, splits, tmp_path, rule)
        check_says_it(result, rule, len(groups))
        assert result.labels[0].films == len(np.unique(groups))
        assert result.labels[0].positives == np.nansum(pool_targets(of_films.targets, groups, of_films.names)[:, 0])
        if rule != "mean_embedding":
            expected = pool_scores(of_films.scores, groups, rule, of_films.names)
            # "No Finding" is told by the others once they are pooled.
            told = [label != "No Finding" for label in of_films.names]
            np.testing.assert_allclose(of_studies.scores[:, told], expected[:, told], rtol=1e-3, atol=1e-4)
        else:
            assert not np.allclose(
                of_studies.scores, pool_scores(of_films.scores, groups, "mean_score", of_films.names), atol=1e-3
            )


def test_probes_and_heads_judge_studies(base, splits, tmp_path):
    model, name, groups = load_evaluation_model(str(base)), "synthetic_probe", np.arange(len(splits["test"])) // 2
    _, of_films = run(disease_prediction, name, model, splits, tmp_path, "none")
    result, of_studies = run(disease_prediction, name, model, splits, tmp_path, "max_score")
    check_says_it(result, "max_score", len(groups))
    np.testing.assert_allclose(
        of_studies.scores, pool_scores(of_films.scores, groups, "max_score", of_films.names), rtol=1e-5
    )
    result, of_studies = run(disease_prediction, name, model, splits, tmp_path, "mean_embedding")
    assert len(of_studies.scores) == len(np.unique(groups))
    head = load_evaluation_model(str(make_adapter(base, tmp_path / "head", labels=("Edema", "Cardiomegaly")).folder))
    benchmark = replace(BENCHMARKS[name], labels=("Edema", "Cardiomegaly"))
    settings = EvaluationSettings(resamples=20, out=tmp_path, study_rule="mean_score")
    judged = disease_prediction.run(benchmark, head, splits, settings)
    check_says_it(judged, "mean_score", len(groups))
    with pytest.raises(ValueError, match="is for models without a head"):
        disease_prediction.run(benchmark, head, splits, replace(settings, study_rule="mean_embedding"))


def test_what_does_not_tell_studies_is_refused(splits):
    with pytest.raises(ValueError, match="needs the column 'study_id'"):
        Studies.of(splits["test"].remove_columns("study_id"), "max_score")
    with pytest.raises(ValueError, match="study_rule 'median' is unknown"):
        EvaluationSettings(study_rule="median")
    alone = Studies.of(splits["test"].select(range(0, 10, 2)), "mean_score")
    assert alone.notes() == ["Every study has one film: the study rule 'mean_score' changes nothing."]


def test_predict_writes_a_table_of_studies(base, tmp_path):
    for number in range(4):
        write_film(tmp_path / f"{number}.png", (40, 40), seed=number)
    (tmp_path / "3.png").write_bytes(b"no film")
    # One film is listed in two studies.
    paths = [*(f"{number}.png" for number in range(4)), "0.png"]
    table = pd.DataFrame({"path": paths, "study": ["07", "8", "07", "9", "5"], "id": list("abcde")})
    table.to_csv(tmp_path / "films.csv", index=False)
    out = tmp_path / "scores.parquet"
    words = ["--model", str(base), "--findings", "edema", "--out", str(out), "--study_rule", "mean_score", "--films"]
    with pytest.raises(SystemExit) as ended:
        predict([*words, str(tmp_path / "films.csv")])
    assert ended.value.code == 0
    scores = pd.read_parquet(out)["logit_difference_edema"]
    studies = pd.read_parquet(tmp_path / "scores.studies.parquet")
    # Also the one of which no film could be read.
    assert (studies["study"].tolist(), studies["films"].tolist()) == (["07", "8", "9", "5"], [2, 1, 0, 1])
    expected = [(scores[0] + scores[2]) / 2, scores[1], np.nan, scores[0]]
    np.testing.assert_allclose(studies["logit_difference_edema"], expected, rtol=1e-5)
    assert read_job(tmp_path / "scores.studies.parquet")["study_rule"] == "mean_score"
    # Two patients' studies of one name are two.
    table.assign(patient=["x", "x", "y", "y", "x"]).to_csv(tmp_path / "films.csv", index=False)
    with pytest.raises(SystemExit):
        predict([*words, str(tmp_path / "films.csv")])
    apart = pd.read_parquet(tmp_path / "scores.studies.parquet")
    assert apart["patient"].tolist() == ["x", "x", "y", "y", "x"]
    assert (apart["study"].tolist(), apart["films"].tolist()) == (["07", "8", "07", "9", "5"], [1, 1, 1, 0, 1])
    of_read = apart["logit_difference_edema"].dropna()
    assert of_read.index.tolist() == [0, 1, 2, 4]
    np.testing.assert_allclose(of_read, scores[[0, 1, 2, 3]], rtol=1e-5)
    out.unlink()
    with pytest.raises(SystemExit, match="does not tell studies: give a table with the columns path and study"):
        predict([*words, str(tmp_path)])
