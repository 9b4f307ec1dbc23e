"""Runs of adaptation side by side: cells by hand, paired differences, refusals that name both runs, and the files."""

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from eval.artifacts import save_artifact
from eval.records.provenance import Provenance
from eval.records.results import Estimate, ProbeResult, ProbeShare, SegmentationResult
from eval.records.runs import Adaptation
from eval.scores import ZeroShotScores, numbered, save_scores
from eval.statistics.metrics import auroc, label_aurocs
from eval.studies.__main__ import main
from eval.studies.arms import group_runs, load_runs
from modeling_chexficient.base_identity_chexficient import weights_sha256
from tests.resampling import bootstrap_weights
from tests.run_records import BASE, adapt_run

NAMES, FILMS = ["Edema", "Nodule"], 120
PATIENTS = np.array([f"p{film // 2}" for film in range(FILMS)])
TARGETS = np.random.default_rng(0).integers(0, 2, (FILMS, 2)).astype(float)
TARGETS[::9, 1] = np.nan
NOTHING = Estimate(0.5, 0.4, 0.6)


def provenance(sha256: str, films: str = "fingerprint") -> Provenance:
    return Provenance(
        "model", sha256, "data", films, "test", FILMS, FILMS // 2, 0, 10, False, [], [], None, {}, 1.0
    )  # fmt: skip


def make_run(root, method: str, share: float, seed: int, skill: float = 1.0, films: str = "fingerprint", **changes):
    """A run whose scores are the truth and noise; `changes` are of its record."""
    folder = root / f"{method}-{share}-{seed}"
    (folder / "adapter").mkdir(parents=True)
    save_file({"weight": np.array([seed, share, skill], np.float32)}, folder / "adapter" / "adapter_model.safetensors")
    record = {
        "method": method, "label_share": share, "seed": seed, "train_films": int(1000 * share),
        "trainable_parameters": 30, "all_parameters": 3000, "adapter_bytes": 2_000_000, "seconds": 10.0 + seed,
        "settings": {"rank": 8, "seed": seed, "output_dir": str(folder)},
    }  # fmt: skip
    adapt_run(**record | changes).write(folder)
    noise = np.random.default_rng((seed, len(method), int(100 * share))).normal(size=TARGETS.shape)
    scores = (skill * np.nan_to_num(TARGETS) + noise).astype(np.float32)
    sha256 = save_scores(ZeroShotScores(NAMES, scores, TARGETS, PATIENTS), folder / "results", "findings")
    share_result = ProbeShare(share, [seed], [], [], [], NOTHING, [0.5], None, [])
    ProbeResult(
        "findings", 1, provenance=provenance(weights_sha256(str(folder / "adapter")), films), method=method,
        shares=[share_result], scores_sha256=sha256, features=None, adaptation=Adaptation(method),
    ).save(folder / "results" / "findings.json")  # fmt: skip
    return folder, scores


def macro(scores: np.ndarray) -> float:
    judged = np.isfinite(TARGETS)
    return np.mean([auroc(scores[judged[:, n], n], TARGETS[judged[:, n], n]) for n in (0, 1)])


def compare(folders, out, *words: str) -> dict:
    main([*map(str, folders), "--out", str(out / "adaptations"), "--resamples", "60", *words])
    return json.loads((out / "adaptations.json").read_text())


def figure(cell: dict) -> dict:
    return cell["figures"]["macro"]


def test_cells_are_means_over_seeds_and_differences_are_paired(tmp_path, capsys):
    runs = {(m, s, n): make_run(tmp_path / "runs", m, s, n, skill) for m, skill in (("lora", 1.5), ("linear", 0.5))
            for s in (0.1, 1.0) for n in (0, 1)}  # fmt: skip
    del runs["linear", 0.1, 1]
    folders = [folder for folder, _ in runs.values()]
    found = compare(folders, tmp_path / "out")
    cells = {(cell["arm"], cell["level"]): cell for cell in found["cells"]}
    assert list(cells) == [("lora", 0.1), ("lora", 1.0), ("linear", 0.1), ("linear", 1.0)]
    for (method, share), cell in cells.items():
        values = [macro(scores) for (m, s, _), (_, scores) in runs.items() if (m, s) == (method, share)]
        assert [estimate["value"] for estimate in figure(cell)["by_seed"]] == pytest.approx(values)
        assert figure(cell)["mean"] == pytest.approx(np.mean(values))
        assert figure(cell)["interval"]["low"] < figure(cell)["mean"] < figure(cell)["interval"]["high"]
        assert cell["trainable_share"] == pytest.approx(0.01)
    assert cells["linear", 0.1]["seeds"] == [0]
    assert cells["lora", 1.0]["seconds"] == 10.5
    assert figure(cells["lora", 0.1])["difference"] is None
    # By hand: the same draws of patients for every run.
    weights = np.vstack([np.ones((1, FILMS)), bootstrap_weights(PATIENTS_NUMBERED, 60, 0)])
    draws = {key: label_aurocs(scores, TARGETS, weights).mean(axis=1) for key, (_, scores) in runs.items()}
    of_seeds = [draws["linear", 1.0, n] - draws["lora", 1.0, n] for n in (0, 1)]
    # And of seeds, the same for both methods.
    drawn = np.random.default_rng(0).integers(2, size=(60, 2))
    paired = [np.mean(of_seeds, axis=0)[0]]
    paired += [np.mean([of_seeds[n][number] for n in seeds]) for number, seeds in enumerate(drawn, 1)]
    difference = figure(cells["linear", 1.0])["difference"]
    assert difference["value"] == pytest.approx(paired[0])
    assert (difference["low"], difference["high"]) == pytest.approx(tuple(np.quantile(paired[1:], [0.025, 0.975])))
    assert difference["high"] < 0
    assert figure(cells["linear", 1.0])["p_value"] == pytest.approx(2 / 61)
    assert (found["films"], found["patients"], found["reference"]) == (FILMS, FILMS // 2, "lora")
    text = (tmp_path / "out" / "adaptations.md").read_text()
    assert text.strip() in capsys.readouterr().out
    assert "| lora | 100% | 1,000 | 0, 1 |" in text
    assert "| reference | - | 1.00% | 2.00 MB |" in text
    assert (tmp_path / "out" / "adaptations.png").stat().st_size > 10_000


PATIENTS_NUMBERED = numbered(PATIENTS)


def test_runs_of_other_questions_are_refused_with_both_named(tmp_path):
    one, _ = make_run(tmp_path / "a", "lora", 1.0, 0)

    def refused(folder, message: str) -> None:
        with pytest.raises(ValueError, match=message) as caught:
            group_runs(load_runs([one, folder], None))
        assert str(one) in str(caught.value)
        assert str(folder) in str(caught.value)

    refused(make_run(tmp_path / "b", "full", 1.0, 0, films="others")[0], "differ in evaluated films: fingerprint and")
    refused(make_run(tmp_path / "c", "lora", 1.0, 0, skill=2)[0], "runs with the same seed")
    refused(
        make_run(tmp_path / "f", "full", 1.0, 0, train_films=900)[0],
        "they differ in train_films, of one share and seed",
    )
    other_base = BASE | {"weights_sha256": "3" * 64}
    refused(make_run(tmp_path / "d", "full", 1.0, 0, base=other_base)[0], "differ in weights of the base")
    later, _ = make_run(tmp_path / "e", "full", 1.0, 0)
    path = later / "results" / "findings.json"
    replace(ProbeResult.load(path), benchmark_version=2).save(path)
    refused(later, "differ in benchmark version: 1 and 2")


def test_runs_that_kept_their_start_are_told(tmp_path):
    folders = [make_run(tmp_path, "lora", 1.0, seed, best_step=step)[0] for seed, step in enumerate((0, 40))]
    folders.append(make_run(tmp_path, "full", 1.0, 0, best_step=10)[0])
    cells = compare(folders, tmp_path / "out")["cells"]
    assert [(cell["arm"], cell["kept_start"]) for cell in cells] == [("lora", 1), ("full", 0)]
    text = (tmp_path / "out" / "adaptations.md").read_text()
    assert text.strip().endswith("than the start, which was kept: lora at 100% (1 of 2 runs).")


def test_settings_that_differ_make_another_kind_or_are_refused(tmp_path):
    folders = [make_run(tmp_path, "lora", 1.0, 0)[0]]
    folders.append(make_run(tmp_path, "lora", 1.0, 1, settings={"rank": 4})[0])
    with pytest.raises(SystemExit, match=r"lora-1.0-0 and .*lora-1.0-1 differ in more than the seed: \['rank'\]"):
        compare(folders, tmp_path / "out")
    with pytest.raises(SystemExit, match=r"--reference 'lora' is none of \['lora \(rank 4\)', 'lora \(rank 8\)'\]"):
        compare(folders, tmp_path / "out", "--by", "rank")
    found = compare(folders, tmp_path / "out", "--by", "rank", "--reference", "lora (rank 8)")
    assert [cell["arm"] for cell in found["cells"]] == ["lora (rank 8)", "lora (rank 4)"]


def test_folders_that_are_no_judged_runs_are_refused(tmp_path):
    folder, _ = make_run(tmp_path, "lora", 1.0, 0)
    with pytest.raises(SystemExit, match="no run folder"):
        main(["--out", str(tmp_path)])
    with pytest.raises(ValueError, match="is not a finished run"):
        load_runs([tmp_path], None)
    with pytest.raises(ValueError, match="was not evaluated on nih_probe"):
        load_runs([folder], "nih_probe")
    (folder / "results" / "other.json").write_text("{}")
    with pytest.raises(ValueError, match=r"was evaluated on \['findings', 'other'\]: name one"):
        load_runs([folder], None)
    save_file({"weight": np.zeros(3, np.float32)}, folder / "adapter" / "adapter_model.safetensors")
    with pytest.raises(ValueError, match="was measured on other weights than those in"):
        load_runs([folder], "findings")


def make_segmentation(root, method: str, shift: float):
    """A run whose Dice of single films are drawn, with a structure that some films lack."""
    folder, _ = make_run(root, method, 1.0, 0)
    dices = (np.random.default_rng(1).uniform(0.3, 0.7, (FILMS, 2)) + shift).astype(np.float32)
    dices[::4, 1] = np.nan
    mean = float(np.nanmean(dices, axis=0).mean())
    sha256 = weights_sha256(str(folder / "adapter"))
    SegmentationResult(
        "structures", 1, provenance=provenance(sha256), structures=[], macro_dice={method: Estimate(mean, 0, 1)},
        decoders={}, adaptation=Adaptation(method),
    ).save(folder / "results" / "structures.json")  # fmt: skip
    arrays = {f"dice_{method}": dices, "patients": PATIENTS_NUMBERED}
    save_artifact(folder / "results", "structures", arrays, {"structures": ["heart", "tubes"]})
    return folder, mean


def test_dice_of_single_films_is_compared_likewise(tmp_path):
    lora, of_lora = make_segmentation(tmp_path, "lora", 0.1)
    full, of_full = make_segmentation(tmp_path, "full", 0.2)
    found = compare([lora, full], tmp_path / "out", "--benchmark", "structures")
    assert (found["metric"], found["names"]) == ("mean Dice", ["heart", "tubes"])
    first, second = found["cells"]
    assert (figure(first)["mean"], figure(second)["mean"]) == pytest.approx((of_lora, of_full), abs=1e-6)
    # The same films shifted by a constant: so is every draw of them.
    assert list(figure(second)["difference"].values()) == pytest.approx([0.1] * 3, abs=1e-6)
    save_artifact(full / "results", "structures", {"dice_full": np.ones((FILMS, 2)), "patients": PATIENTS_NUMBERED},
                  {"structures": ["heart", "tubes"]})  # fmt: skip
    with pytest.raises(ValueError, match="do not belong to it"):
        load_runs([full], "structures")
