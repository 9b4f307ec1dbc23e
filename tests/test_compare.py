"""Runs side by side: the paired bootstrap against scikit-learn, the tables and pictures, and what is refused."""

import dataclasses
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import pyplot as plt
from sklearn.metrics import roc_auc_score

from eval.records.results import Estimate, ProbeResult, ProbeShare, Provenance, ZeroShotResult, load_result
from eval.records.runs import Flops
from eval.run import main as run_main
from eval.scores import ZeroShotScores, scores_path
from eval.statistics.significance import mean_statistics, paired_differences, resample_statistics
from eval.studies.__main__ import main as compare_main
from eval.studies.arms import arm_name
from eval.studies.cells import choose_reference
from eval.studies.label_placement import name_clusters
from eval.studies.runs import finding_figures
from eval.studies.table import flops_unit
from eval.tasks.zero_shot import judge
from tests.resampling import bootstrap_weights
from tests.run_records import adapt_run, pretrain_run
from train.pretrain.__main__ import main as pretrain_main

RECIPE = str(Path(__file__).parent / "tiny.yaml")
FILMS = 240
NAMES = ["Cardiomegaly", "Edema", "Fracture"]
RARE = np.array([False, False, True])
PREVALENCE = {"Cardiomegaly": 0.3, "Edema": 0.1, "Fracture": 0.005}


def made_scores(skill: float, noise: int = 0) -> ZeroShotScores:
    """Scores that lie `skill` higher where the finding is present, of the same films whatever the arguments."""
    films = np.random.default_rng(0)
    targets = (films.random((FILMS, 3)) < [0.3, 0.1, 0.02]).astype(float)
    targets[0], targets[1], targets[2, 1] = 1, 0, np.nan
    difficulty = films.normal(size=targets.shape)
    patients = np.array([f"patient-{number}" for number in films.integers(0, 150, FILMS)])
    own = np.random.default_rng(1 + noise).normal(size=targets.shape)
    scores = difficulty + 0.3 * own + skill * np.nan_to_num(targets)
    return ZeroShotScores(NAMES, scores.astype(np.float32), targets, patients)


def write_run(
    folder: Path, scores: ZeroShotScores, seed: int = 0, selection: str = "none", flops: float | None = None, **settings
) -> Path:
    """A run folder as train.pretrain and eval.run leave it, without the model."""
    labels, macros = judge(scores, PREVALENCE, 0.01, resamples=20, seed=0)
    patients = len(set(scores.patients))
    provenance = Provenance(
        "model", "0" * 64, "data", "abc", "test", FILMS, patients, 0, 20, False, [], [], None, {}, seconds=1.0
    )
    result = ZeroShotResult(
        "zero_shot_findings", 1, "published", **macros, rare_below=0.01, prevalence_from="train", labels=labels,
        undefined=[], provenance=provenance,
    )  # fmt: skip
    path = folder / "results" / "zero_shot_findings.json"
    digest = scores.save(scores_path(path))
    dataclasses.replace(result, scores_sha256=digest).save(path)
    record = {
        "selection": selection, "keep_share_reached": 1.0 if selection == "none" else 0.25, "seed": seed,
        "pairs_scored": 0 if selection == "none" else 1000, "settings": {"image_size": 112, **settings},
        "flops": None if flops is None else Flops(0.75 * flops, 0.25 * flops),
    }  # fmt: skip
    pretrain_run(**record).write(folder)
    return folder


def write_probe(folder: Path, scores: ZeroShotScores) -> None:
    """The result of linear probes beside that of `write_run`."""
    unknown = Estimate(None, None, None)
    share = ProbeShare(1.0, [0], [FILMS], [150], [{}], unknown, [None], None, labels=[])
    path = folder / "results" / "synthetic_probe.json"
    provenance = load_result(folder / "results" / "zero_shot_findings.json").provenance
    result = ProbeResult(
        "synthetic_probe", 1, provenance=provenance, method="linear_probe", shares=[share], undefined=[],
        scores_sha256=scores.save(scores_path(path)), features="tower",
    )  # fmt: skip
    result.save(path)


def compare(folders: list[Path], out: Path, *words: str) -> dict:
    """What `eval.studies` writes as JSON, its cells by arm."""
    compare_main([*map(str, folders), "--out", str(out), "--resamples", "200", *words])
    comparison = json.loads(Path(f"{out}.json").read_text())
    return {**comparison, "arms": {cell["arm"]: cell for cell in comparison["cells"]}}


def differences(arm: dict) -> dict:
    """Of each group to the reference."""
    return {group: figure["difference"] for group, figure in arm["figures"].items()}


def resampled_macros(arms: dict[str, list[ZeroShotScores]], rare, resamples: int, seed: int) -> dict[str, dict]:
    """For each arm and group the mean over its runs [1 + resamples], the same draws for all."""
    flat = [(name, run) for name, runs in arms.items() for run in runs]
    drawn = resample_statistics([finding_figures(run, rare) for _, run in flat], flat[0][1].patients, resamples, seed)
    return {
        arm: mean_statistics([values for (name, _), values in zip(flat, drawn, strict=True) if name == arm])
        for arm in arms
    }


def test_resampled_macros_equal_scikit_learn_on_the_drawn_films():
    """Films drawn twice are there twice, and a finding that no drawn film has stays out of that mean."""
    runs = [made_scores(1.0, noise) for noise in (1, 2)]
    # A single run is not resampled itself.
    macros = resampled_macros({number: [run] for number, run in enumerate(runs)}, RARE, resamples=40, seed=5)
    counts = np.vstack([np.ones(FILMS), bootstrap_weights(runs[0].patients, 40, seed=5)]).astype(int)
    without_rare = 0
    for number, count in enumerate(counts):
        drawn = np.repeat(np.arange(FILMS), count)
        by_run = []
        for run in runs:
            aurocs = []
            for label in range(3):
                films = drawn[np.isfinite(run.targets[drawn, label])]
                both = len(set(run.targets[films, label])) == 2
                aurocs.append(roc_auc_score(run.targets[films, label], run.scores[films, label]) if both else np.nan)
            by_run.append(aurocs)
        by_run = np.array(by_run)
        without_rare += np.isnan(by_run[0, 2])
        for run, expected in enumerate(by_run):
            assert macros[run]["macro"][number] == pytest.approx(np.nanmean(expected), abs=1e-12)
            assert macros[run]["macro_common"][number] == pytest.approx(expected[:2].mean(), abs=1e-12)
            np.testing.assert_allclose(macros[run]["macro_rare"][number], expected[2], atol=1e-12)
    assert without_rare < 40


def test_pairing_takes_out_what_both_arms_share():
    """Equally hard films for both arms: the difference is surer than two intervals apart would make it."""
    arms = {"better": [made_scores(1.3, 1)], "reference": [made_scores(1.0, 2)]}
    paired = resampled_macros(arms, RARE, resamples=400, seed=0)
    apart = resampled_macros({"better": arms["better"]}, RARE, resamples=400, seed=1)["better"]
    sure = paired_differences(paired["better"], paired["reference"])["macro_common"]
    unsure = paired_differences(apart, paired["reference"])["macro_common"]
    assert sure.value == unsure.value
    assert sure.high - sure.low < 0.7 * (unsure.high - unsure.low)


def test_pretrainings_are_compared_by_probes_too(tmp_path, capsys):
    """What prompts cannot ask for, a probe may find: there the order of the arms is another one."""
    full, chosen = made_scores(1.0, 1), made_scores(0.5, 2)
    folders = [write_run(tmp_path / "full", full), write_run(tmp_path / "chosen", chosen, selection="leverage")]
    # Among the evaluated films 1 of 240 has a fracture.
    rare = np.concatenate([np.ones(1), np.zeros(FILMS - 1)])
    probes = [dataclasses.replace(scores, targets=scores.targets.copy()) for scores in (chosen, full)]
    for folder, scores in zip(folders, probes, strict=True):
        scores.targets[:, 2] = rare
        write_probe(folder, scores)
    arms = compare(folders, tmp_path / "c", "--benchmark", "zero_shot_findings", "synthetic_probe")["arms"]
    assert arms["leverage 25.0%"]["figures"]["macro"]["mean"] < arms["full data"]["figures"]["macro"]["mean"]
    by_probe = json.loads((tmp_path / "c_synthetic_probe.json").read_text())
    figures = {cell["arm"]: cell["figures"] for cell in by_probe["cells"]}
    found = figures["leverage 25.0%"]
    expected = [roc_auc_score(rare, full.scores[:, 2])]
    assert found["macro_rare"]["mean"] == pytest.approx(expected[0])
    assert found["macro"]["mean"] > figures["full data"]["macro"]["mean"]
    text = (tmp_path / "c_synthetic_probe.md").read_text()
    assert text.startswith("AUROC of linear probes on 240 held-out films")
    assert "Rare: below 1% of evaluated films." in text
    assert "Zero-shot AUROC on 240 held-out films" in capsys.readouterr().out


def test_paired_interval_covers_the_truth_about_as_often_as_it_says():
    """Two equally good arms whose scores share a half: their true difference is 0."""
    covered = 0
    for seed in range(100):
        generator = np.random.default_rng(seed)
        targets = np.repeat([0.0, 1.0], [150, 50])[:, None]
        shared, patients = generator.normal(size=(200, 1)) + targets, np.arange(200)
        runs = [ZeroShotScores(["a"], shared + generator.normal(size=(200, 1)), targets, patients) for _ in range(2)]
        macros = resampled_macros({"arm": runs[:1], "reference": runs[1:]}, np.array([False]), 300, seed)
        difference = paired_differences(macros["arm"], macros["reference"])["macro"]
        covered += difference.low <= 0 <= difference.high
    assert 88 <= covered <= 99


def test_differences_are_those_of_the_seeds_that_both_have(tmp_path):
    """Seed 2 of full data was lucky, which says nothing of an arm that was not run with it."""
    for seed, strength in {0: 1.0, 1: 1.0, 2: 3.0}.items():
        write_run(tmp_path / f"full-{seed}", made_scores(strength, seed), seed)
    write_run(tmp_path / "random-1", made_scores(1.0, 1), 1, "random")
    write_run(tmp_path / "quantile-7", made_scores(1.0, 7), 7, "quantile")
    arms = compare(sorted(tmp_path.glob("*-?")), tmp_path / "c")["arms"]
    assert arms["full data"]["seeds"] == [0, 1, 2]
    nothing = {"value": 0.0, "low": 0.0, "high": 0.0}
    assert differences(arms["random 25.0%"]) == dict.fromkeys(("macro", "macro_common", "macro_rare"), nothing)
    # No seed in common: there is no difference of arms alone.
    assert set(differences(arms["quantile 25.0%"]).values()) == {None}
    assert arms["quantile 25.0%"]["figures"]["macro"]["p_value"] is None


def test_identical_runs_differ_by_exactly_nothing(tmp_path):
    for selection in ("none", "random"):
        for seed in range(3):
            write_run(tmp_path / f"{selection}-{seed}", made_scores(1.0, seed), seed, selection)
    arms = compare(list(tmp_path.iterdir()), tmp_path / "c")["arms"]
    nothing = {"value": 0.0, "low": 0.0, "high": 0.0}
    assert differences(arms["random 25.0%"]) == dict.fromkeys(("macro", "macro_common", "macro_rare"), nothing)
    assert set(differences(arms["full data"]).values()) == {None}
    assert "+0.000 [+0.000, +0.000]" in (tmp_path / "c.md").read_text()


def test_a_better_arm_is_seen_as_better(tmp_path):
    folders = []
    for seed in (1, 0):
        folders.append(write_run(tmp_path / f"f{seed}", made_scores(0.8, seed), seed, flops=4e15))
        folders.append(write_run(tmp_path / f"q{seed}", made_scores(1.6, 9 + seed), seed, "quantile", flops=4e14))
    comparison = compare(folders, tmp_path / "c")
    better, full = comparison["arms"]["quantile 25.0%"], comparison["arms"]["full data"]
    assert comparison["reference"] == "full data"
    assert better["seeds"] == [0, 1]
    values = [ZeroShotResult.load(tmp_path / f"q{seed}/results/zero_shot_findings.json").macro.value for seed in (0, 1)]
    macro = better["figures"]["macro"]
    assert [estimate["value"] for estimate in macro["by_seed"]] == values
    assert macro["mean"] == pytest.approx(np.mean(values))
    assert (macro["lowest"], macro["highest"]) == (min(values), max(values))
    for group in ("macro", "macro_common"):
        difference = differences(better)[group]
        assert difference["value"] == pytest.approx(better["figures"][group]["mean"] - full["figures"][group]["mean"])
        assert 0 < difference["low"] < difference["value"] < difference["high"]
    assert better["relative_flops"] == pytest.approx(0.1)
    assert better["flops"] == {"trained": 3e14, "scored": 1e14, "total": 4e14}
    assert (tmp_path / "c.flops.png").stat().st_size > 10_000


def test_the_tables_say_what_the_json_says(tmp_path, capsys):
    folders = [
        write_run(tmp_path / "full", made_scores(1.2), flops=4e15),
        write_run(tmp_path / "random", made_scores(0.9, 1), selection="random", flops=1e15),
    ]
    arm = compare(folders, tmp_path / "c")["arms"]["random 25.0%"]
    table = (tmp_path / "c.md").read_text()
    assert table.strip() in capsys.readouterr().out
    assert "| full data | 0 | 100.0% | 4,000 | 0 | 4.00 | 100.0% |" in table
    assert "| random 25.0% | 0 | 25.0% | 4,000 | 1,000 | 1.00 | 25.0% |" in table
    cells = []
    for group in ("macro", "macro_common", "macro_rare"):
        auroc, difference = arm["figures"][group], differences(arm)[group]
        cells.append(f"{auroc['mean']:.3f} [{auroc['lowest']:.3f}, {auroc['highest']:.3f}]")
        cells.append(f"{difference['value']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}]")
    assert f"| random 25.0% | 25.0% | {' | '.join(cells)} |" in table
    assert "paired bootstrap over patients and seeds" in table


def test_means_are_resampled_over_seeds_too():
    # Patients make no difference here, so all spread is that of two seeds: 0, 1 or their mean.
    runs = [{"macro": np.full(2001, float(seed))} for seed in range(2)]
    values = mean_statistics(runs)["macro"]
    assert values[0] == 0.5
    shares = [(values[1:] == value).mean() for value in (0, 0.5, 1)]
    np.testing.assert_allclose(shares, [0.25, 0.5, 0.25], atol=0.04)
    # Of two arms of the same seeds the same are drawn.
    better = mean_statistics([{"macro": run["macro"] + 0.1} for run in runs])["macro"]
    np.testing.assert_allclose(better - values, 0.1)
    # One seed says nothing of others.
    assert set(mean_statistics(runs[1:])["macro"]) == {1.0}


def test_runs_with_a_budget_are_set_against_the_reference_of_that_budget(tmp_path):
    folders = []
    for budget, skill in ((1, 0.8), (4, 2.0)):
        for seed in range(2):
            given = {"seed": seed, "flops": budget * 1e15, "compute_passes": budget}
            folders.append(write_run(tmp_path / f"f{budget}-{seed}", made_scores(skill, seed), **given))
            scores = made_scores(skill, 9 + seed)
            folders.append(write_run(tmp_path / f"q{budget}-{seed}", scores, selection="quantile", **given))
    compare(folders, tmp_path / "c")
    cells = json.loads((tmp_path / "c.json").read_text())["cells"]
    assert [(cell["arm"], cell["level"]) for cell in cells] == [
        ("full data", 1), ("full data", 4), ("quantile 25.0%", 1), ("quantile 25.0%", 4)
    ]  # fmt: skip
    for full, other in zip(cells[:2], cells[2:], strict=True):
        means = [cell["figures"]["macro"]["mean"] for cell in (other, full)]
        assert other["figures"]["macro"]["difference"]["value"] == pytest.approx(means[0] - means[1])
        assert other["relative_flops"] == 1
    assert "| quantile 25.0%, cost of 4 passes | 0, 1 |" in (tmp_path / "c.md").read_text()
    assert (tmp_path / "c.flops.png").stat().st_size > 10_000


def test_runs_that_counted_no_flops_are_compared_without(tmp_path):
    folders = [
        write_run(tmp_path / "full", made_scores(1.2)),
        write_run(tmp_path / "random", made_scores(0.9, 1), selection="random", flops=1e15),
    ]
    arms = compare(folders, tmp_path / "c")["arms"]
    assert (arms["full data"]["flops"], arms["random 25.0%"]["relative_flops"]) == (None, None)
    table = (tmp_path / "c.md").read_text()
    assert "| full data | 0 | 100.0% | 4,000 | 0 | not counted | - |" in table
    assert (tmp_path / "c.flops.png").is_file()
    compare(folders[:1], tmp_path / "c")
    assert not (tmp_path / "c.flops.png").exists()
    assert (tmp_path / "c.png").is_file()


def test_the_picture_says_which_arms_it_leaves_out(tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr(plt.Figure, "suptitle", lambda self, text, **_: titles.append(text))
    folders = [
        write_run(tmp_path / "full", made_scores(1.2)),
        write_run(tmp_path / "random", made_scores(0.9, 1), selection="random", flops=1e15),
    ]
    compare(folders, tmp_path / "c")
    assert "FLOPs not counted, so not shown: full data" in titles[-1]
    assert "dotted" not in titles[-1]


def test_without_rare_findings_there_is_no_figure_for_them(tmp_path):
    scores = [made_scores(skill, noise) for skill, noise in ((1.2, 0), (0.9, 1))]
    common = [ZeroShotScores(NAMES[:2], one.scores[:, :2], one.targets[:, :2], one.patients) for one in scores]
    folders = [write_run(tmp_path / f"{seed}", one, seed, flops=1e12) for seed, one in enumerate(common)]
    assert compare(folders, tmp_path / "c")["arms"]["full data"]["figures"]["macro_rare"]["mean"] is None
    assert "| not defined | reference |" in (tmp_path / "c.md").read_text()


@pytest.mark.parametrize(
    ("done", "by", "name"),
    [
        ({"selection": "none", "keep_share_asked": 0.227, "settings": {}}, (), "full data"),
        ({"selection": "semdedup", "keep_share_asked": 0.1, "settings": {}}, (), "semdedup 10.0%"),
        ({"selection": "sigma", "keep_share_asked": None, "settings": {}}, (), "sigma (published constants)"),
        (
            {"selection": "quantile", "keep_share_asked": 0.227, "settings": {"score_image_size": 56}},
            (),
            "quantile 22.7% (scored at 56 px)",
        ),
        (
            {
                "selection": "none",
                "keep_share_asked": None,
                "settings": {"low_resolution_size": 56, "low_resolution_share": 0.5},
            },
            (),
            "full data (first trained at 56 px; low-resolution share 0.5)",
        ),
        (
            {"selection": "none", "keep_share_asked": None, "settings": {"patch_drop_share": 0.5}},
            (),
            "full data (first trained without 0.5 of the patches)",
        ),
        (
            {"selection": "random", "keep_share_asked": 0.5, "settings": {"score_image_size": 56, "weight_decay": 0.1}},
            ("weight_decay", "image_size"),
            "random 50.0% (scored at 56 px; weight_decay 0.1)",
        ),
        (
            {
                "selection": "leverage",
                "keep_share_asked": 0.6,
                "settings": {"curation_trains_on": "all", "discount_wrong_reports": True},
            },
            (),
            "leverage 60.0% (after a pass over all; wrong reports discounted)",
        ),
    ],
)
def test_arms_are_named_by_what_tells_them_apart(done, by, name):
    assert arm_name(pretrain_run(**done), by) == name


@pytest.mark.parametrize(
    ("settings", "by", "name"),
    [
        ({"score_image_size": 56}, (), "lora"),
        ({}, ("use_dora", "rank"), "lora"),
        ({"use_dora": True, "rank": 4}, ("use_dora", "rank"), "lora (use_dora True; rank 4)"),
        ({}, ("steps",), "lora (steps 10)"),
    ],
)
def test_methods_are_named_by_the_settings_that_differ_from_their_default(settings, by, name):
    assert arm_name(adapt_run(settings=settings), by) == name


def test_whole_films_are_the_reference_however_much_others_were_trained_on():
    whole, dropped, more = (
        pretrain_run(selection="none", settings=settings, pairs_trained=pairs)
        for settings, pairs in (({}, 100), ({"patch_drop_share": 0.5}, 300), ({"num_train_epochs": 3}, 200))
    )
    arms = {"whole": whole, "dropped": dropped, "more": more}
    groups = {(name, 1): [SimpleNamespace(record=record)] for name, record in arms.items()}
    assert choose_reference(groups, None, groups["dropped", 1][0]) == "more"
    del groups["more", 1]
    assert choose_reference(groups, None, groups["dropped", 1][0]) == "whole"


def test_variants_are_arms_of_their_own(tmp_path):
    folders = [
        write_run(tmp_path / "a", made_scores(1.2), selection="quantile"),
        write_run(tmp_path / "b", made_scores(1.1, 1), selection="quantile", score_image_size=56),
        write_run(tmp_path / "c", made_scores(1.0, 2), selection="quantile", seed=1, num_prototypes=9),
    ]
    plain, small = "quantile 25.0%", "quantile 25.0% (scored at 56 px)"
    with pytest.raises(SystemExit, match=r"in more than the seed: \['num_prototypes'\]; if that makes another arm"):
        compare(folders, tmp_path / "c")
    assert list(compare(folders, tmp_path / "c", "--by", "num_prototypes")["arms"])[1:] == [
        small,
        "quantile 25.0% (num_prototypes 9)",
    ]
    assert compare(folders[:2], tmp_path / "c")["reference"] == plain
    comparison = compare(folders[:2], tmp_path / "c", "--reference", small)
    assert (comparison["reference"], list(comparison["arms"])) == (small, [small, plain])
    with pytest.raises(SystemExit, match="'none' is none of"):
        compare(folders[:2], tmp_path / "c", "--reference", "none")


def test_runs_of_different_length_are_arms_if_asked(tmp_path):
    folders = []
    for steps, selection in ((50, "quantile"), (50, "none"), (500, "none")):
        folders.append(write_run(tmp_path / f"{selection}-{steps}", made_scores(1.0, steps), selection=selection))
        done = json.loads((folders[-1] / "run.json").read_text())
        done |= {"steps": steps, "schedule": {"subset_steps": steps}, "pairs_trained": 8 * steps}
        (folders[-1] / "run.json").write_text(json.dumps(done))
    with pytest.raises(SystemExit, match="runs with the same seed"):
        compare(folders, tmp_path / "c")
    comparison = compare(folders, tmp_path / "c", "--by", "steps")
    assert comparison["reference"] == "full data (steps 500)"
    assert set(comparison["arms"]) == {"full data (steps 500)", "full data (steps 50)", "quantile 25.0% (steps 50)"}


def other_films(folder: Path) -> None:
    change_result(folder, lambda values: values["provenance"].update(dataset_fingerprint="other"))


def fewer_films(folder: Path) -> None:
    change_result(folder, lambda values: values["provenance"].update(films=FILMS - 1))


def other_rare_findings(folder: Path) -> None:
    change_result(folder, lambda values: values["labels"][0].update(rare=True))


def no_scores(folder: Path) -> None:
    change_result(folder, lambda values: values.pop("scores_sha256"))


def change_result(folder: Path, change) -> None:
    path = folder / "results" / "zero_shot_findings.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def other_truth(folder: Path) -> None:
    scores = made_scores(1.0)
    scores.targets[5] = 1 - scores.targets[5]
    write_run(folder, scores, seed=1)


def other_patients(folder: Path) -> None:
    scores = made_scores(1.0)
    write_run(folder, dataclasses.replace(scores, patients=np.arange(FILMS)), seed=1)


def scores_of_another_result(folder: Path) -> None:
    made_scores(2.0).save(scores_path(folder / "results" / "zero_shot_findings.json"))


def weights_of_another_training(folder: Path) -> None:
    (folder / "model").mkdir()
    (folder / "model" / "model.safetensors").write_bytes(b"trained anew")


def no_result(folder: Path) -> None:
    shutil.rmtree(folder / "results")


def the_same_seed(folder: Path) -> None:
    write_run(folder, made_scores(1.0, 1), seed=0)


def another_corpus(folder: Path) -> None:
    done = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**done, "corpus_fingerprint": "other"}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_films, "differ in evaluated films: abc and other"),
        (fewer_films, "differ in number of evaluated films"),
        (other_rare_findings, "differ in which findings are rare"),
        (no_scores, "keeps no scores of single films: evaluate the run again"),
        (other_truth, "cannot be compared: their targets differ"),
        (other_patients, "their patients differ"),
        (scores_of_another_result, "does not belong to the result"),
        (weights_of_another_training, "was measured on other weights"),
        (no_result, "was not evaluated on zero_shot_findings: .*json is missing"),
        (the_same_seed, "runs with the same seed"),
        (another_corpus, r"in more than the seed: \['corpus_fingerprint'\]"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, change, message):
    folders = [write_run(tmp_path / str(seed), made_scores(1.0, seed), seed) for seed in (0, 1)]
    change(folders[1])
    with pytest.raises(SystemExit, match=message):
        compare(folders, tmp_path / "c")
    assert not (tmp_path / "c.md").exists()


@pytest.mark.parametrize(("words", "message"), [(["--resamples", "1"], "resamples is 1"), ([], "no run folder")])
def test_contradictory_words_are_refused(words, message):
    with pytest.raises(SystemExit, match=message):
        compare_main(words)


@pytest.mark.parametrize(
    ("values", "unit"),
    [([], "FLOPs"), ([3e9], "GFLOPs"), ([3e12, 1e9], "TFLOPs"), ([1e15], "PFLOPs"), ([2e19], "EFLOPs")],
)
def test_the_unit_fits_the_largest(values, unit):
    assert flops_unit(values)[0] == unit


@pytest.mark.parametrize("seed", range(5))
def test_names_cover_neither_each_other_nor_points(seed):
    """Six arms of three seeds, four of them at about the same cost."""
    generator = np.random.default_rng(seed)
    costs = [4.1, 1.60, 1.62, 1.64, 0.95, 1.15]
    clusters = {
        f"quantile 22.7%\n(scored at {number} px)": [(cost, 0.85 + 0.01 * generator.normal()) for _ in range(3)]
        for number, cost in enumerate(costs)
    }
    figure, panel = plt.subplots(figsize=(9, 3))
    panel.set_xscale("log")
    panel.set_xlim(0.5, 7.4)
    for points in clusters.values():
        panel.plot(*zip(*points, strict=True), "o", markersize=4)
    panel.margins(y=0.14)
    figure.draw_without_rendering()
    boxes = name_clusters(panel, clusters, ["C0"] * 6)
    texts = [text for text in panel.texts if text.get_text() in clusters]
    figure.canvas.draw()
    plt.close(figure)
    assert len(boxes) == len(texts) == 6
    dots = panel.transData.transform([point for points in clusters.values() for point in points])
    for number, (box, text) in enumerate(zip(boxes, texts, strict=True)):
        # The patch behind the text is where it was drawn, not where it was planned.
        drawn = text.get_bbox_patch().get_window_extent()
        assert not any(drawn.padded(-2).overlaps(other) for other in boxes[:number])
        assert not any(box.contains(*dot) or drawn.contains(*dot) for dot in dots)
        assert panel.bbox.padded(1).containsx(box.x0)
        assert panel.bbox.padded(1).containsx(box.x1)


def test_two_trained_runs_end_to_end(tiny_corpus, tmp_path, capsys):
    for selection in ("quantile", "none"):
        out = tmp_path / selection
        words = ["--dataset_dir", str(tiny_corpus), "--output_dir", str(out), "--selection", selection]
        pretrain_main([RECIPE, *words, "--max_steps", "6", "--curation_warmup_share", "0"])
        run_main(["--model", str(out / "model"), "--data", str(tiny_corpus), "--resamples", "20"])
    capsys.readouterr()
    folders = [str(tmp_path / "quantile"), str(tmp_path / "none")]
    compare_main([*folders, "--resamples", "50"])
    assert f"written: {tmp_path / 'comparison'}.md" in capsys.readouterr().out
    table = (tmp_path / "comparison.md").read_text()
    assert re.search(r"^\| full data \| 0 \| 100\.0% \|", table, flags=re.MULTILINE)
    assert re.search(r"^\| quantile 30\.0% \| 0 \| \d+\.\d% \|", table, flags=re.MULTILINE)
    assert len(re.findall(r"[+-]0\.\d{3} \[[+-]0\.\d{3}, [+-]0\.\d{3}\]", table)) == 3
    assert "not counted" not in table
    for picture in ("comparison.png", "comparison.flops.png"):
        assert (tmp_path / picture).stat().st_size > 10_000
    trained_anew = tmp_path / "none" / "model" / "model.safetensors"
    trained_anew.write_bytes(trained_anew.read_bytes()[:-1] + b"!")
    with pytest.raises(SystemExit, match="was measured on other weights"):
        compare_main([*folders, "--resamples", "50"])
