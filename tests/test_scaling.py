"""Scaling studies: known power laws in run folders come out of the command, and what cannot be compared is refused."""

import dataclasses
import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image
from scipy.stats import norm

from data_scripts.prepared.id_files import write_ids
from eval.artifacts import save_artifact
from eval.records.estimates import Estimate
from eval.records.results import Direction, RetrievalResult, SegmentationResult, StructureResult, ZeroShotResult
from eval.records.runs import Flops, SelfSupervisedRun
from eval.scores import ZeroShotScores, scores_path
from eval.studies.scaling.__main__ import main
from eval.studies.scaling.claims import holds, judge_claims, minus
from eval.studies.scaling.curves import seed_deviations, shared_sizes
from eval.studies.scaling.power_laws import fit_power_laws, log_slopes
from eval.studies.scaling.results import Curve, Pair, Point
from eval.studies.scaling.runs import (
    Reference,
    ScalingRun,
    load_measured,
    load_reference,
    reference_of,
    resampled_errors,
)
from eval.tasks.zero_shot import judge
from tests.run_records import adapt_run, pretrain_run
from tests.test_compare import NAMES, PREVALENCE, write_run

SIZES = (300, 1000, 3000, 10_000, 30_000)
UNICL = {"objective": "unicl", "label_record_share": 0.3}


def scores_of(error: float, noise: int, films: int = 1200) -> ZeroShotScores:
    """Of 600 patients with two films each; the AUROC of every finding is 1 - `error` in expectation."""
    of_films, of_run = np.random.default_rng(0), np.random.default_rng(1 + noise)
    targets = (of_films.random((films, 3)) < 0.4).astype(float)
    shared, own = of_films.normal(size=(films, 3)), of_run.normal(size=(films, 3))
    scores = 0.9 * shared + np.sqrt(1 - 0.81) * own + targets * np.sqrt(2) * norm.ppf(1 - error)
    return ZeroShotScores(NAMES, scores.astype(np.float32), targets, np.repeat(np.arange(films // 2), 2))


def write_cell(
    folder: Path, error: float, films: int, seed: int, noise: int, flops: float = 3e15, subset=None, **settings
) -> Path:
    write_run(folder, scores_of(error, noise), seed=seed)
    costs, mixture = Flops(flops * (1 + 0.004 * seed)), {"parts": [], "seed": 0, "subset": subset}
    values = {"settings": settings, "mixture": mixture, "steps": round(flops / 3e12)}
    pretrain_run(seed=seed, corpus_pairs=films, flops=costs, **values).write(folder)
    return folder


def change_run(folder: Path, **values) -> None:
    path = folder / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def law(a: float, b: float, c: float, films: int) -> float:
    return a * films**-b + c


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """Two arms of known laws, one steeper, crossing near 2,700 films; and a start to beat."""
    root = tmp_path_factory.mktemp("scaling")
    ids = [f"film/{number}" for number in range(SIZES[-1])]
    for films in SIZES:
        write_ids(ids[:films], root / f"{films}.txt")
        for seed in range(2):
            subset = str(root / f"{films}.txt")
            folder = root / f"reports-{films}-{seed}"
            write_cell(folder, law(0.8, 0.18, 0.03, films), films, seed, films + seed, subset=subset)
            folder = root / f"unicl-{films}-{seed}"
            write_cell(folder, law(3.2, 0.38, 0.06, films), films, seed, films + 7 + seed, subset=subset, **UNICL)
    write_run(root / "start", scores_of(0.21, 99))
    return root


def film_run(seed: int, films: int, **changes) -> SelfSupervisedRun:
    values = {"seed": seed, "steps": 1000, "seconds": 5.0, "settings": {}, "films": films, "films_trained": 32_000}
    return SelfSupervisedRun(**values | {"plan": {}, "flops": Flops(5e15)} | changes)


def add_benchmark(folder: Path, name: str, error: float, noise: int) -> None:
    """The results of another benchmark in a run folder, made of scores of their own."""
    other = write_run(folder / "other", scores_of(error, noise)) / "results" / "zero_shot_findings.json"
    values = json.loads(other.read_text()) | {"benchmark": name}
    values["provenance"] |= {"dataset_fingerprint": name}
    (folder / "results" / f"{name}.json").write_text(json.dumps(values))
    scores_path(other).rename(scores_path(folder / "results" / f"{name}.json"))


@pytest.fixture(scope="module")
def paradigms(tmp_path_factory) -> Path:
    """Three arms on findings and tubes, each paradigm from a start of its own."""
    root = tmp_path_factory.mktemp("paradigms")
    laws = {
        "reports": ((0.8, 0.18, 0.03), (0.8, 0.12, 0.06)),
        "unicl": ((3.2, 0.38, 0.03), (0.8, 0.12, 0.055)),
        "films": ((0.4, 0.04, 0.0), (0.9, 0.20, 0.02)),
    }
    starts = {"clip": "a" * 64, "dino": "b" * 64}
    for arm, of_benchmark in laws.items():
        for number, films in enumerate(SIZES):
            for seed in range(2):
                noise, folder = 100 * number + 10 * len(arm) + seed, root / f"{arm}-{films}-{seed}"
                settings = UNICL if arm == "unicl" else {}
                write_cell(folder, law(*of_benchmark[0], films), films, seed, noise, **settings)
                if arm == "films":
                    film_run(seed, films, start="starts/dino", start_sha256=starts["dino"]).write(folder)
                else:
                    change_run(folder, start="starts/clip", start_sha256=starts["clip"])
                add_benchmark(folder, "tubes", law(*of_benchmark[1], films), noise + 5)
    for name, (error, of_tubes) in {"clip": (0.26, 0.40), "dino": (0.30, 0.10)}.items():
        write_run(root / name, scores_of(error, 99))
        add_benchmark(root / name, "tubes", of_tubes, 98)
        for path in (root / name / "results").glob("*.json"):
            values = json.loads(path.read_text())
            values["provenance"] |= {"model_sha256": starts[name]}
            path.write_text(json.dumps(values))
    return root


def cells(study: Path, *names: str) -> list[str]:
    return [str(path) for name in names for path in sorted(study.glob(f"{name}-*"))]


def run(words: list[str], out: Path, *more: str) -> dict:
    main([*words, "--out", str(out), "--resamples", "300", *more])
    return json.loads(Path(f"{out}.json").read_text())


@pytest.fixture(scope="module")
def found(study, tmp_path_factory) -> tuple[dict, Path]:
    out = tmp_path_factory.mktemp("found") / "scaling"
    reference = ["--reference", str(study / "start"), "--reference_name", "the start"]
    return run(cells(study, "reports", "unicl"), out, *reference), out


def inside(estimate: dict, value: float) -> bool:
    return estimate["low"] <= value <= estimate["high"]


def test_known_laws_lie_within_their_intervals(found):
    curves = {curve["arm"]: curve for curve in found[0]["curves"]}
    truth = {"reports": (0.8, 0.18, 0.03), "reports and labels (UniCL)": (3.2, 0.38, 0.06)}
    assert set(curves) == set(truth)
    for arm, (a, b, c) in truth.items():
        curve = curves[arm]
        assert curve["state"] == "falls"
        assert curve["metric"] == "macro AUROC"
        assert [point["films"] for point in curve["points"]] == list(SIZES)
        assert inside(curve["fit"]["exponent"], b)
        assert inside(curve["fit"]["floor"], c)
        for point in curve["points"]:
            assert len(point["by_seed"]) == 2
            assert point["error"]["value"] == pytest.approx(law(a, b, c, point["films"]), abs=0.03)
        held = curve["extrapolation"]
        assert (held["films"], held["fitted_on"]) == (30_000, list(SIZES[:-1]))
        assert inside(held["difference"], 0)
        assert held["difference"]["value"] == pytest.approx(held["predicted"]["value"] - held["found"]["value"])
        films = ((0.21 - c) / a) ** (-1 / b)
        beat = curve["films_to_beat"]
        assert beat["low"] < films < beat["high"]
        assert not beat["never"]
        doubled = law(a, b, c, 30_000) - law(a, b, c, 60_000)
        assert curve["fit"]["gain_of_doubling"]["value"] == pytest.approx(doubled, abs=0.006)
        assert curve["fit"]["low"][0] < curve["fit"]["error"][0] < curve["fit"]["high"][0]
    points = {point["films"]: point["below_reference"] for point in curves["reports"]["points"]}
    assert points[300]["high"] < 0 < points[30_000]["low"]


def test_exponents_are_compared_and_crossings_found(found):
    (pair,) = found[0]["pairs"]
    assert (pair["first"], pair["second"]) == ("reports", "reports and labels (UniCL)")
    assert pair["slope"]["high"] < 0, "UniCL is steeper"
    assert inside(pair["exponent"], 0.18 - 0.38)
    assert pair["films"] == 30_000
    assert pair["error"]["low"] > 0
    grid = np.geomspace(300, 30_000, 4000)
    truth = grid[np.abs(law(0.8, 0.18, 0.03, grid) - law(3.2, 0.38, 0.06, grid)).argmin()]
    assert pair["crossing"]["low"] < truth < pair["crossing"]["high"]


def test_what_is_written_says_so(found):
    _, out = found
    text = out.with_suffix(".md").read_text()
    paragraph = out.with_suffix(".txt").read_text()
    assert "## zero_shot_findings: error = 1 - macro AUROC" in text
    assert text.endswith(paragraph)
    which, figures, claims, conditions = paragraph.splitlines()
    assert which.startswith("- Continue reports and labels (UniCL): surely the best on zero_shot_findings")
    last = {curve["arm"]: curve["points"][-1]["error"] for curve in found[0]["curves"]}["reports"]
    told = f"{1 - last['value']:.3f} [{1 - last['high']:.3f}, {1 - last['low']:.3f}]"
    assert f"- zero_shot_findings, macro AUROC: reports {told} with 30,000 films, " in figures
    assert figures.count("with 300 (more films surely help)") == 2
    assert "reports and labels (UniCL) are better than reports alone: holds in 1 of 1" in claims
    assert "equal compute for all sizes" in conditions
    assert "nan" not in text.lower().replace("finance", "")
    assert image.imread(out.with_suffix(".png")).std() > 0.05


def test_every_arm_has_to_beat_the_start_of_its_own_paradigm(paradigms, tmp_path):
    arms = cells(paradigms, "reports", "unicl", "films")
    starts = ["--reference", str(paradigms / "clip"), str(paradigms / "dino"), "--reference_name", "its start"]
    result = run(arms, tmp_path / "out", *starts)
    curves = {(curve["benchmark"], curve["arm"]): curve for curve in result["curves"]}
    clip, dino = ("reports", "reports and labels (UniCL)"), "films alone (self-distillation)"
    for benchmark, (of_clip, of_dino) in {"zero_shot_findings": (0.26, 0.30), "tubes": (0.40, 0.10)}.items():
        for arm in clip:
            assert curves[benchmark, arm]["reference"]["value"] == pytest.approx(of_clip, abs=0.02)
        assert curves[benchmark, dino]["reference"]["value"] == pytest.approx(of_dino, abs=0.02)
        assert curves[benchmark, dino]["reference"] != curves[benchmark, clip[0]]["reference"]
    of_tubes = curves["tubes", dino]
    assert of_tubes["points"][0]["below_reference"]["high"] < 0 < of_tubes["films_to_beat"]["value"]
    assert "| films to beat its start |" in (tmp_path / "out.md").read_text()
    assert image.imread(tmp_path / "out.png").std() > 0.05
    # One reference is for all of them; of several, one must be where an arm started.
    result = run(arms, tmp_path / "out", "--reference", str(paradigms / "clip"))
    assert len({curve["reference"]["value"] for curve in result["curves"] if curve["benchmark"] == "tubes"}) == 1
    others = ["--reference", str(paradigms / "clip"), str(paradigms / "reports-300-0")]
    with pytest.raises(SystemExit, match=r"'films alone \(self-distillation\)' did not all start .* starts/dino"):
        run(arms, tmp_path / "out", *others)


def test_published_claims_are_said_as_found(paradigms, tmp_path):
    starts = ["--reference", str(paradigms / "clip"), str(paradigms / "dino"), "--reference_name", "its start"]
    result = run(cells(paradigms, "films", "reports", "unicl"), tmp_path / "out", *starts)
    found = {(claim["claim"], claim["benchmark"], claim["arms"]): claim for claim in result["claims"]}
    films, reports, unicl = "films alone (self-distillation)", "reports", "reports and labels (UniCL)"
    # By the laws that the errors were made of.
    for arm, exponent in ((reports, 0.18), (unicl, 0.38)):
        assert found["findings", "zero_shot_findings", f"{arm} - {films}"]["holds"] is True, exponent
        assert ("findings", "tubes", f"{arm} - {films}") not in found
        tubes = found["tubes", "tubes", f"{arm} - {films}"]
        assert tubes["holds"] is True
        assert tubes["figure"] == "error with 30,000 films"
    difference = law(0.8, 0.12, 0.06, 30_000) - law(0.9, 0.20, 0.02, 30_000)
    assert found["tubes", "tubes", f"{reports} - {films}"]["estimate"]["value"] == pytest.approx(difference, abs=0.02)
    assert found["labels", "zero_shot_findings", f"{reports} - {unicl}"]["holds"] is True
    # An error of 0.36 with 3,000 films and reports, and of 0.20 with films alone.
    assert found["start", "tubes", reports]["holds"] is True
    assert found["start", "tubes", films]["holds"] is False
    assert found["start", "tubes", films]["figure"] == "error of the reference minus that with 3,000 films"
    paragraph, text = (tmp_path / "out.txt").read_text(), (tmp_path / "out.md").read_text()
    assert len(paragraph.splitlines()) == 5, "for a card: not every pair and claim of six curves"
    assert "images alone are stronger on lines and tubes: holds in 2 of 2" in paragraph
    assert "the opposite in 1" in paragraph
    assert "## Published claims (arXiv 2509.12818): do they hold here?" in text
    assert text.count("| no: the opposite |") == sum(claim["holds"] is False for claim in result["claims"])


def test_a_claim_is_decided_by_its_interval_alone():
    assert [holds(Estimate(0.1, *bounds)) for bounds in ((0.05, 0.2), (-0.1, 0.2), (-0.2, -0.1), (None, None))] == [
        True, None, False, None,
    ]  # fmt: skip
    assert minus(Estimate(0.1, -0.2, 0.3)) == Estimate(-0.1, -0.3, 0.2)


def test_intervals_cover_about_as_often_as_they_say():
    """Power laws with seeds of known spread, three to a size."""
    sizes, truth = np.array(SIZES), 2 * np.array(SIZES) ** -0.35 + 0.05
    covered = {"exponent": 0, "slope": 0, "tripled": 0}
    for study in range(60):
        generator = np.random.default_rng(study)
        seeds = truth[:, None] + generator.normal(0, 0.004, (5, 3))
        errors = seeds.mean(axis=1) + seed_deviations(list(seeds), 200, generator)
        laws = fit_power_laws(sizes, errors)
        tripled = 2 * 90_000**-0.35 + 0.05
        for name, values, true in (
            ("exponent", laws.exponent, 0.35),
            ("slope", log_slopes(sizes, errors), log_slopes(sizes, truth)[0]),
            ("tripled", laws.errors(np.array([90_000]))[:, 0], tripled),
        ):
            low, high = np.quantile(values[1:], [0.025, 0.975])
            covered[name] += low <= true <= high
    assert all(count >= 50 for count in covered.values()), covered


def test_seeds_say_nothing_where_there_is_one_and_are_pooled_where_there_are_few():
    generator = np.random.default_rng(0)
    assert not seed_deviations([np.array([0.2]), np.array([0.1])], 50, generator).any()
    added = seed_deviations([np.array([0.2, 0.3]), np.array([0.1])], 4000, generator)
    assert not added[0].any()
    # One degree of freedom: Student's t is 6.5 times as wide as the normal distribution.
    width = 0.05 * np.sqrt(2) * 12.706 / 1.96
    assert added[1:, 1].std() == pytest.approx(width, rel=0.02)
    assert added[1:, 0].std() == pytest.approx(width / np.sqrt(2), rel=0.05)


def test_sizes_of_whole_patients_that_lie_close_are_one():
    assert shared_sizes([300, 303, 1000, 304, 1049, 3000]) == {
        **{300: 302, 303: 302, 304: 302, 1000: 1024, 1049: 1024, 3000: 3000}
    }


def test_flat_curves_are_said_to_be_flat(tmp_path):
    for films in SIZES[:3]:
        write_cell(tmp_path / f"flat-{films}-0", 0.2, films, 0, films)
        write_cell(tmp_path / f"rising-{films}-0", 0.1 + films / 20_000, films, 0, films, **UNICL)
    result = run(cells(tmp_path, "flat", "rising"), tmp_path / "out")
    flat, rising = result["curves"]
    assert (flat["state"], flat["fit"], flat["films_to_beat"], flat["extrapolation"]) == ("flat", None, None, None)
    assert rising["state"] == "rises"
    (pair,) = result["pairs"]
    assert pair["exponent"] is pair["crossing"] is None
    text, card = (tmp_path / "out.md").read_text(), (tmp_path / "out.txt").read_text()
    assert "does not surely change with the films, so nothing is fitted" in text
    assert "the error rises with the films" in text
    assert "(no sure change); " in card
    assert "(more films surely harm)." in card


def test_three_sizes_are_fitted_without_a_check_and_two_are_refused(tmp_path):
    for films in SIZES[:3]:
        write_cell(tmp_path / f"a-{films}-0", law(2, 0.35, 0.05, films), films, 0, films)
    result = run(cells(tmp_path, "a"), tmp_path / "out")
    assert result["curves"][0]["fit"] is not None
    assert result["curves"][0]["extrapolation"] is None
    assert "needs four sizes" in (tmp_path / "out.md").read_text()
    with pytest.raises(SystemExit, match=r"needs at least 3 sizes, not 2 \(300, 1,000\): train on more subsets"):
        run(cells(tmp_path, "a-300", "a-1000"), tmp_path / "out")


@pytest.fixture
def small(tmp_path) -> Path:
    for number, films in enumerate(SIZES[:3]):
        write_ids([f"film/{one}" for one in range(films)], tmp_path / f"{films}.txt")
        error, subset = law(2, 0.35, 0.05, films), str(tmp_path / f"{films}.txt")
        write_cell(tmp_path / f"a-{films}-0", error, films, 0, number, subset=subset)
    return tmp_path


def test_runs_that_differ_in_compute_are_refused_unless_asked(small):
    # Texts of unequal length make the cost of equal steps differ a little.
    change_run(small / "a-3000-0", flops={"trained": 3.2e15, "scored": 0.0, "total": 3.2e15})
    assert run(cells(small, "a"), small / "out")["curves"]
    dearer = {"trained": 9e15, "scored": 0.0, "total": 9e15}
    change_run(small / "a-3000-0", flops=dearer)
    with pytest.raises(SystemExit, match=r"differ in compute: 3e\+15 FLOP of .*a-\d+-0 .* and 9e\+15 of .*a-3000-0"):
        run(cells(small, "a"), small / "out")
    result = run(cells(small, "a"), small / "out", "--unequal_compute", "true")
    assert result["unequal_compute"]
    assert "equally many passes" in (small / "out.txt").read_text()
    for films in SIZES[:3]:
        change_run(small / f"a-{films}-0", flops=None, steps=films)
    with pytest.raises(SystemExit, match="differ in compute: 300 steps of"):
        run(cells(small, "a"), small / "out")
    for films in SIZES[:3]:
        change_run(small / f"a-{films}-0", steps=500)
    assert "operations were not counted" in run(cells(small, "a"), small / "out")["notes"][0]


def test_sizes_that_do_not_nest_are_refused(small):
    write_ids([f"other/{one}" for one in range(1000)], small / "1000.txt")
    with pytest.raises(SystemExit, match=r"1000\.txt lacks 300 ids of the smaller subset .*the sizes do not nest"):
        run(cells(small, "a"), small / "out")
    (small / "1000.txt").unlink()
    notes = run(cells(small, "a"), small / "out")["notes"]
    assert notes == ["reports: whether the sizes nest could not be checked, as their files of ids are not there."]


def test_other_settings_and_other_films_are_refused(small):
    write_cell(small / "a-10000-0", 0.1, 10_000, 0, 5, learning_rate=1e-3)
    with pytest.raises(SystemExit, match=r"more than films and seed: \['learning_rate'\]; .* say so with --by"):
        run(cells(small, "a"), small / "out")
    write_cell(small / "a-10000-0", 0.1, 10_000, 0, 5)
    change_run(small / "a-300-0", start="start", start_sha256="a" * 64)
    assert run(cells(small, "a"), small / "out")["curves"]
    change_run(small / "a-10000-0", start="start", start_sha256="b" * 64)
    with pytest.raises(SystemExit, match=r"a-300-0 and .*a-10000-0 .* did not go on from the same weights"):
        run(cells(small, "a"), small / "out")
    change_run(small / "a-10000-0", start=None, start_sha256=None)
    path = small / "a-10000-0" / "results" / "zero_shot_findings.json"
    values = json.loads(path.read_text())
    values["provenance"]["settings"] = {"decoder_epochs": 2, "resamples": 5}
    path.write_text(json.dumps(values))
    with pytest.raises(SystemExit, match=r"differ in settings of the evaluation: \{\} and \{'decoder_epochs': 2\}"):
        run(cells(small, "a"), small / "out")
    values["provenance"]["settings"] = {"resamples": 5}
    path.write_text(json.dumps(values))
    assert run(cells(small, "a"), small / "out")["curves"]
    values["provenance"]["dataset_fingerprint"] = "other"
    path.write_text(json.dumps(values))
    with pytest.raises(SystemExit, match="they differ in evaluated films: abc and other"):
        run(cells(small, "a"), small / "out")
    scores_path(path).rename(scores_path(path.with_name("another.json")))
    path.rename(path.with_name("another.json"))
    with pytest.raises(SystemExit, match=r"a-\d+-0 was not evaluated on another, as others were"):
        run(cells(small, "a"), small / "out")


def test_a_run_counts_once(small):
    """A folder that is named twice, or a copy of it, is no second seed."""
    write_cell(small / "b-300-0", 0.2, 300, 0, 7)
    with pytest.raises(SystemExit, match=r"a-300-0 and .*b-300-0 are both 'reports' of 300 films and seed 0"):
        run(cells(small, "a", "b"), small / "out")
    with pytest.raises(SystemExit, match="would count twice on zero_shot_findings: leave one out"):
        run(cells(small, "a", "a-300"), small / "out")


def test_what_films_alone_derive_from_their_number_must_be_equal(small):
    """By default the head and its teacher follow from the corpus, so that sizes would differ in these too."""
    for films in SIZES[:3]:
        plan = {"films": films, "steps": 1000, "freeze_backbone": films // 32, "prototypes": 1024}
        film_run(0, films, plan=plan).write(small / f"a-{films}-0")
    with pytest.raises(SystemExit, match=r"more than films and seed: \['freeze_backbone \(planned\)'\]"):
        run(cells(small, "a"), small / "out")
    # Of equally many passes, what is counted in steps follows from the films.
    assert run(cells(small, "a"), small / "out", "--unequal_compute", "true")["curves"]
    change_run(small / "a-3000-0", plan=plan | {"prototypes": 2048})
    with pytest.raises(SystemExit, match=r"more than films and seed: \['prototypes \(planned\)'\]"):
        run(cells(small, "a"), small / "out", "--unequal_compute", "true")


def test_arms_that_were_trained_on_other_films_are_told(small):
    for films in SIZES[:3]:
        write_cell(small / f"b-{films}-0", 0.2, films, 0, films, subset=str(small / f"{films}.txt"), **UNICL)
    assert run(cells(small, "a", "b"), small / "out")["notes"] == []
    for films in SIZES[:3]:
        write_ids([f"film/{one}" for one in range(films)], small / f"other-{films}.txt")
        change_run(
            small / f"b-{films}-0", mixture={"parts": [], "seed": 0, "subset": str(small / f"other-{films}.txt")}
        )
    (note,) = run(cells(small, "a", "b"), small / "out")["notes"]
    assert note.startswith("reports and reports and labels (UniCL) were not trained on the same films, such as ")


def test_a_reference_is_one_model_and_known_by_its_name_where_there_is_no_hash(study, tmp_path):
    """The start may be a model of the Hub."""
    members = [
        ScalingRun(tmp_path, "films alone", film_run(0, films, start="hub/dino"), films, (0,), {}) for films in SIZES
    ]
    clip, dino = Reference(tmp_path / "clip", {}, "a" * 64), Reference(tmp_path / "dino", {}, "hub/dino")
    assert reference_of(members, [clip, dino]) is dino
    members[0] = dataclasses.replace(members[0], record=film_run(0, SIZES[0]))
    with pytest.raises(ValueError, match="but from hub/dino, what they did not record: name the start"):
        reference_of(members, [clip, dino])
    write_run(tmp_path / "start", scores_of(0.26, 99))
    add_benchmark(tmp_path / "start", "tubes", 0.4, 98)
    assert load_reference(tmp_path / "start").weights == "0" * 64
    path = tmp_path / "start" / "results" / "tubes.json"
    values = json.loads(path.read_text())
    path.write_text(
        json.dumps(values | {"provenance": values["provenance"] | {"model_sha256": None, "model": "hub/x"}})
    )
    with pytest.raises(ValueError, match=r"results/tubes\.json and .* are of different models"):
        load_reference(tmp_path / "start")
    # The start was trained again.
    (tmp_path / "start" / "model").mkdir()
    (tmp_path / "start" / "model" / "model.safetensors").write_bytes(b"others")
    with pytest.raises(ValueError, match="was measured on other weights than those in"):
        load_reference(tmp_path / "start")


def test_claims_are_of_the_arms_that_they_name():
    """A masked autoencoder is no DINOv2, and one arm with labels no better than reports by being so than another."""
    one = Estimate(0.1, 0.05, 0.15)
    arms = {
        "reports": "reports",
        "labels": "reports and labels (UniCL)",
        "more": "reports and labels (UniCL) (rank: 4)",
    }
    arms |= {"dino": "films alone (self-distillation)", "mae": "films alone (masked autoencoding)", "other": "siglip"}
    named = {words: name for name, words in arms.items()}
    curves = [Curve("tubes", "macro AUROC", arm, [], "flat", None, one, None, None, None, None, None) for arm in named]
    curves = [dataclasses.replace(curve, points=[Point(300, [0.1], one, None)]) for curve in curves]
    pairs = [Pair("tubes", *two, one, None, 300, one, None) for two in combinations(named, 2)]
    found = [(claim.claim, *(named[arm] for arm in claim.arms.split(" - "))) for claim in judge_claims(curves, pairs)]
    assert set(found) == {
        ("tubes", "reports", "dino"), ("tubes", "labels", "dino"), ("tubes", "more", "dino"),
        ("labels", "reports", "labels"), ("labels", "reports", "more"),
    }  # fmt: skip
    assert len(found) == len(set(found))


def test_an_adaptation_counts_the_films_of_its_base(small):
    """Report generation, say, on top of each encoder."""
    for films in SIZES[:3]:
        base = small / f"a-{films}-0"
        folder = write_run(small / f"adapted-{films}", scores_of(law(2, 0.35, 0.05, films) / 2, films))
        result = folder / "results" / "zero_shot_findings.json"
        values = json.loads(result.read_text())
        result.rename(result.with_name("tubes.json")).write_text(json.dumps(values | {"benchmark": "tubes"}))
        scores_path(result).rename(scores_path(result.with_name("tubes.json")))
        adapt_run(base={"name": str(base / "model"), "revision": None, "weights_sha256": "1" * 64}).write(folder)
    result = run(cells(small, "a", "adapted"), small / "out")
    assert [curve["benchmark"] for curve in result["curves"]] == ["tubes", "zero_shot_findings"]
    assert all([point["films"] for point in curve["points"]] == list(SIZES[:3]) for curve in result["curves"])
    assert {curve["arm"] for curve in result["curves"]} == {"reports"}
    adapt_run(base={"name": str(small / "nowhere" / "model")}).write(small / "adapted-300")
    with pytest.raises(SystemExit, match="of which nothing tells the films"):
        run(cells(small, "a", "adapted"), small / "out")


def test_without_scores_of_films_intervals_are_over_seeds_and_without_seeds_there_are_none(tmp_path):
    for films in SIZES[:4]:
        for seed in range(2):
            folder = write_cell(tmp_path / f"a-{films}-{seed}", law(2, 0.35, 0.05, films), films, seed, films + seed)
            path = folder / "results" / "zero_shot_findings.json"
            result = ZeroShotResult.load(path)
            value = 1 - law(2, 0.35, 0.05, films) + 0.004 * (seed - 0.5)
            dataclasses.replace(result, scores_sha256=None, macro=Estimate(value, None, None)).save(path)
    result = run(cells(tmp_path, "a"), tmp_path / "out")
    (curve,) = result["curves"]
    assert "nothing is kept of single films" in result["notes"][-1]
    assert curve["fit"]["exponent"]["value"] == pytest.approx(0.35, abs=0.01)
    assert inside(curve["fit"]["exponent"], 0.35)
    result = run([str(tmp_path / f"a-{films}-0") for films in SIZES[:4]], tmp_path / "out")
    assert result["curves"][0]["fit"]["exponent"]["low"] is None
    assert "[no interval]" in (tmp_path / "out.md").read_text()


def test_macro_means_are_those_that_the_result_says(study):
    """The figure that is resampled is the headline of the result."""
    folder = study / "reports-300-0"
    labels, macros = judge(scores_of(law(0.8, 0.18, 0.03, 300), 300), PREVALENCE, 0.01, resamples=5, seed=0)
    assert len(labels) == 3
    result = ZeroShotResult.load(folder / "results" / "zero_shot_findings.json")
    assert result.headline[1].value == pytest.approx(macros["macro"].value)


def test_a_decoder_that_was_fitted_counts_film_by_film_and_a_task_without_films_by_its_figure(tmp_path):
    provenance = ZeroShotResult.load(
        write_run(tmp_path / "any", scores_of(0.2, 1)) / "results" / "zero_shot_findings.json"
    ).provenance
    dices = np.random.default_rng(0).uniform(0.2, 0.9, (60, 2))
    lines = np.where(np.arange(60)[:, None] % 3 == 0, np.nan, dices + 0.05)
    nothing, mean = Estimate(None, None, None), Estimate(float(dices.mean()), None, None)
    macro = {"linear": Estimate(0.1, None, None), "unet": mean}
    decoders = {name: {"trainable": 5, "films": 60} for name in macro}
    structures = [
        StructureResult("unet", name, mean, nothing, {}, 60, 0, 0, Estimate(float(np.nanmean(column)), None, None), 40)
        for name, column in zip(("tube", "line"), lines.T, strict=True)
    ]
    folder = tmp_path / "results"
    SegmentationResult(
        "tubes", 1, structures=structures, macro_dice=macro, decoders=decoders, provenance=provenance
    ).save(folder / "tubes.json")
    arrays = {"dice_unet": dices.astype(np.float32), "centre_line_dice_unet": lines.astype(np.float32)}
    arrays |= {"patients": np.repeat(np.arange(30), 2)}
    save_artifact(folder, "tubes", arrays, {"structures": ["tube", "line"]})
    direction = Direction({"5": Estimate(0.4, None, None)}, {}, nothing, 1.0, 9, 9)
    RetrievalResult(
        "retrieval", 1, image_to_text=direction, text_to_image=direction, n_images=9, n_texts=9, n_distinct_texts=9,
        provenance=provenance,
    ).save(folder / "retrieval.json")  # fmt: skip
    measured = load_measured(folder)
    errors, by_patient = resampled_errors([measured["tubes"]], 40, 0)
    assert by_patient
    assert errors.shape == (1, 41)
    assert errors[0, 0] == pytest.approx(1 - dices.mean())
    assert 0.005 < errors[0, 1:].std() < 0.05
    errors, by_patient = resampled_errors([measured["tubes_centre_lines"]], 40, 0)
    assert by_patient
    assert measured["tubes_centre_lines"].metric == "mean centre-line Dice, unet"
    assert errors[0, 0] == pytest.approx(1 - np.nanmean(lines))
    errors, by_patient = resampled_errors([measured["retrieval"]], 40, 0)
    assert (errors.tolist(), by_patient) == ([[pytest.approx(0.6)]], False)
