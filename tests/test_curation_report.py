"""The report of what curation chose: right numbers, equal on page and in JSON, and nothing that identifies anybody."""

import dataclasses
import html
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, load_dataset

from data_scripts.access import may_be_shown
from data_scripts.prepared.labels import label_matrix
from eval.records.runs import PretrainRun
from train.pretrain.__main__ import main as pretrain
from train.selection.outcome import Role, Selection
from train.selection.report.__main__ import main
from train.selection.report.columns import read_columns
from train.selection.report.feature_map import map_features
from train.selection.report.galleries import choose_examples
from train.selection.report.intervals import (
    any_of,
    design_effect,
    duplicate_pairs,
    enrichment,
    rank_correlation,
    share_of,
    wilson_interval,
)
from train.selection.report.page import write_report
from train.selection.report.report_numbers import collect_numbers
from train.selection.report.summary import frequency, summarise
from train.selection.state import CurationState

RECIPE = str(Path(__file__).parent / "tiny.yaml")


def patients_of_one(number: int) -> np.ndarray:
    return np.arange(number)


def rows(number: int, *chosen: int) -> np.ndarray:
    mask = np.zeros(number, bool)
    mask[list(chosen)] = True
    return mask


@pytest.mark.parametrize(
    ("share", "number", "expected"),
    # Textbook values of Wilson's interval without continuity correction.
    [(0.5, 10, (0.2366, 0.7634)), (0.0, 10, (0.0, 0.2775)), (1.0, 10, (0.7225, 1.0)), (0.3, np.inf, (0.3, 0.3))],
)
def test_wilson_interval(share, number, expected):
    assert wilson_interval(share, number) == pytest.approx(expected, abs=1e-4)


def test_patients_kept_together_count_as_fewer():
    together, patients = rows(4, 0, 1), np.array([7, 7, 9, 9])
    assert design_effect(together, patients) == pytest.approx(2)
    assert design_effect(rows(4, 0, 2), patients) == 1, "kept evenly, they count in full, never as more"
    assert design_effect(rows(3, 0, 1, 2), np.array([0, 0, 1])) == pytest.approx(5 / 3)
    share = share_of(together, patients)
    assert (share.chosen, share.total, share.value) == (2, 4, 0.5)
    assert (share.low, share.high) == pytest.approx(wilson_interval(0.5, 2))
    assert share_of(rows(0), np.empty(0)).value is None


def test_enrichment_by_hand():
    """Ten judged pairs, four positive; four kept, two of them positive: 0.5 / 0.4. Two more pairs are not judged."""
    values = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0, -1, -1], np.int8)
    one = enrichment("x", rows(12, 0, 1, 4, 5, 10), values, patients_of_one(12))
    assert (one.judged, one.positives, one.kept_judged, one.kept_positives) == (10, 4, 4, 2)
    assert (one.prevalence, one.kept_prevalence, one.ratio) == pytest.approx((0.4, 0.5, 1.25))
    # Effective number: 4 positives x (10 - 1) / (10 - 4) = 6; the share kept of all judged is 0.4.
    assert (one.low, one.high) == pytest.approx([end / 0.4 for end in wilson_interval(0.5, 6)])


def test_enrichment_at_its_ends():
    values = np.array([1, 1, 0, 0, 0, 0, 0, 0], np.int8)
    none = enrichment("x", rows(8, 2, 3), values, patients_of_one(8))
    assert (none.ratio, none.low) == (0, 0)
    assert 0 < none.high < 4.01, "nothing can be kept more often than always"
    everywhere = enrichment("x", rows(8, 2, 3), np.ones(8, np.int8), patients_of_one(8))
    assert (everywhere.ratio, everywhere.low, everywhere.high) == (1, 1, 1)
    assert enrichment("x", rows(8, 2), np.zeros(8, np.int8), patients_of_one(8)).ratio is None
    assert enrichment("x", rows(8), values, patients_of_one(8)).ratio is None
    assert enrichment("x", rows(8, 1), np.full(8, -1, np.int8), patients_of_one(8)).prevalence is None


@pytest.mark.parametrize("films_per_patient", [1, 3])
def test_the_interval_of_an_enrichment_holds_in_19_of_20_random_choices(films_per_patient):
    """Patients chosen at random, whole: the true enrichment is 1. Without the design effect too few would cover it."""
    generator = np.random.default_rng(0)
    patients = np.repeat(np.arange(900 // films_per_patient), films_per_patient)
    values = np.repeat(generator.random(patients.max() + 1) < 0.1, films_per_patient).astype(np.int8)
    covered = []
    for _ in range(600):
        chosen = generator.permutation(patients.max() + 1)[: (patients.max() + 1) // 4]
        one = enrichment("x", np.isin(patients, chosen), values, patients)
        covered.append(one.low <= 1 <= one.high)
    assert 0.92 <= np.mean(covered) <= 0.985


def test_any_of_labels():
    first, second = np.array([1, 0, -1, -1], np.int8), np.array([0, 0, 0, -1], np.int8)
    assert any_of([first, second], 4).tolist() == [1, 0, 0, -1]
    assert any_of([], 2).tolist() == [-1, -1]


def test_rank_correlation():
    falling = rank_correlation([0.1, 0.2, 0.3, 0.4, 0.5], [5, 4, 3, 2, 1])
    assert (falling.number, falling.value, falling.low) == (5, pytest.approx(-1), None)
    # Ranks 1 2 3 4 5 and 2 1 4 3 5: 1 - 6 * 4 / (5 * 24) = 0.8; half width 1.96 sqrt(1.32 / 2) about atanh 0.8.
    mixed = rank_correlation([1, 2, 3, 4, 5], [20, 10, 40, 30, 50])
    assert mixed.value == pytest.approx(0.8)
    assert (mixed.low, mixed.high) == pytest.approx((-0.4571, 0.9908), abs=1e-3)
    assert rank_correlation([1, 2, 3], [1, 1, 1]).value is None


def test_near_duplicates_kept_with_their_original():
    #           study 0: original, copy, copy   study 1: original, copy   study 2: two originals, copy   unknown
    studies = np.array([0, 0, 0, 1, 1, 2, 2, 2, -1, 3])
    duplicate = rows(10, 1, 2, 4, 7, 8)
    found = duplicate_pairs(duplicate, studies, rows(10, 0, 1, 4, 5, 7))
    assert (found.both_kept.chosen, found.both_kept.total) == (1, 3)
    assert found.expected == pytest.approx(0.5**2 * 3)
    assert duplicate_pairs(rows(10, 7, 8), studies, rows(10, 0)) is None


def test_columns_are_those_of_the_corpus(tiny_corpus):
    dataset = load_dataset(str(tiny_corpus), split="train")
    columns = read_columns(dataset)
    names, values = label_matrix(dataset)
    assert set(columns.labels) == set(names)
    for name, expected in zip(names, values.T, strict=True):
        assert columns.labels[name].tolist() == np.nan_to_num(expected, nan=-1).tolist(), name
    for flag in ("near_duplicate", "wrong_report", "broken_image"):
        assert columns.flags[flag].tolist() == [flag in one for one in dataset["flags"]], flag
    length = columns.groups["Report length"]
    shorter = [len(report.split()) <= 20 for report in dataset["report"]]
    assert (length.codes <= length.names.index("11 to 20 words")).tolist() == shorter
    _, expected = np.unique(dataset["patient_id"], return_inverse=True)
    assert len(set(zip(columns.patients.tolist(), expected.tolist(), strict=True))) == expected.max() + 1
    views = columns.groups["View"]
    assert [views.names[code] for code in views.codes] == dataset["view"]


def test_columns_that_are_missing_or_not_known():
    table = {"report": ["one two", " ", "x " * 11], "source": ["a", "b", "b"], "patient_id": ["p", "p", None]}
    table |= {"age_years": [17.9, 80.0, None], "labels": [[], None, [{"name": "Mass", "value": None}]]}
    columns = read_columns(Dataset.from_dict(table))
    age = columns.groups["Age"]
    assert [age.names[code] for code in age.codes] == ["0 to 17 years", "80 years or more", "not known"]
    assert len(set(columns.patients)) == 3, "one name in two corpora is two patients"
    assert set(columns.studies) == {-1}
    assert columns.labels["Mass"].tolist() == [-1, -1, -1]
    assert "View" not in columns.groups
    assert columns.flags == {}


@pytest.fixture(scope="module")
def run_dir(tiny_corpus, tmp_path_factory) -> Path:
    """A finished run with the prototype rule, and the report that it wrote at its end."""
    out = tmp_path_factory.mktemp("report") / "run"
    pretrain([RECIPE, "--dataset_dir", str(tiny_corpus), "--output_dir", str(out)])
    return out


@pytest.fixture
def run_copy(run_dir, tmp_path) -> Path:
    """The files of that run that the report is made of, to be changed."""
    for name in ("run.json", "log.json", "curation_state.safetensors"):
        shutil.copy(run_dir / name, tmp_path / name)
    return tmp_path


@pytest.fixture(scope="module")
def dataset(tiny_corpus) -> Dataset:
    return load_dataset(str(tiny_corpus), split="train")


def with_column(dataset: Dataset, name: str, values: list) -> Dataset:
    return dataset.remove_columns([name]).add_column(name, values)


def change_run(run_dir: Path, **changes) -> None:
    run = json.loads((run_dir / "run.json").read_text())
    (run_dir / "run.json").write_text(json.dumps(run | changes))


def page_of(run_dir: Path) -> str:
    return (run_dir / "curation_report.html").read_text(encoding="utf-8")


def numbers_of(run_dir: Path) -> dict:
    return json.loads((run_dir / "curation_report.json").read_text())


def texts_of_cells(page: str, name: str) -> list[str]:
    """The cells of the row of a table that begins with `name`, without the little scale."""
    found = re.search(rf'<tr><th scope="row">{re.escape(html.escape(name))}</th>(.*?)</tr>', page, re.DOTALL)
    cells = re.findall(r"<td[^>]*>(.*?)</td>", found[1], re.DOTALL)
    return [cell.strip() for cell in cells if "<" not in cell and cell.strip()]


def test_a_run_ends_with_a_page_and_its_numbers(run_dir):
    numbers, page = numbers_of(run_dir), page_of(run_dir)
    assert numbers["format_version"] == 1
    run = json.loads((run_dir / "run.json").read_text())
    assert (numbers["kept"], numbers["judged"]) == (run["kept_pairs"], run["corpus_pairs"])
    assert sum(one["pairs"] for one in numbers["roles"] if one["kept"]) == numbers["kept"]
    assert sum(one["pairs"] for one in numbers["prototypes"]) == numbers["judged"]
    assert [one["step"] for one in numbers["course"]][-1] == run["steps"]
    assert len(numbers["findings"]) >= 20
    for one in numbers["findings"]:
        cells = [f"{one['positives']:,}", frequency(one["prevalence"]), f"{one['kept_positives']:,}"]
        cells += [frequency(one["kept_prevalence"]), "–" if one["ratio"] is None else f"{one['ratio']:.2f}"]
        cells += [] if one["low"] is None else [f"[{one['low']:.2f}, {one['high']:.2f}]"]
        assert texts_of_cells(page, one["name"]) == cells
    for group in numbers["groups"]:
        for name, one in zip(group["names"], group["shares"], strict=True):
            cells = [f"{one['total']:,}", f"{one['chosen']:,}", f"{100 * one['value']:.1f} %"]
            assert texts_of_cells(page, name)[:4] == [*cells, f"[{100 * one['low']:.1f}, {100 * one['high']:.1f}]"]
    names = {"wrong_report": "wrong reports", "broken_image": "broken images", "near_duplicate": "near-duplicates"}
    assert {one["name"] for one in numbers["defects"]} == set(names)
    for one in numbers["defects"]:
        cells = texts_of_cells(page, names[one["name"]])
        assert cells[:2] == [f"{one['dropped']['total']:,}", f"{100 * one['dropped']['value']:.1f} %"]
        assert cells[-2:] == [f"{one['redundant']:,}", f"{one['outlier']:,}"]


def test_the_page_stands_alone(run_dir):
    page = page_of(run_dir)
    pictures = re.findall(r"<img [^>]*>", page)
    assert len(pictures) >= 4 + 3 * 6, "four figures, and films of all roles"
    assert all(re.search(r'src="data:image/', one) and re.search(r'alt="[^"]{10,}"', one) for one in pictures)
    assert not re.search(r"<script|<link|url\(|@import|<iframe", page)
    assert "default-src 'none'" in page
    assert "http" not in re.sub(r'http-equiv|src="data:[^"]*"', "", page)


def test_the_same_run_gives_the_same_page(run_dir, run_copy, dataset):
    write_report(run_copy, dataset)
    assert page_of(run_copy) == page_of(run_dir)
    assert (run_copy / "curation_report.json").read_text() == (run_dir / "curation_report.json").read_text()


def test_nobody_is_named(run_dir, dataset):
    both = page_of(run_dir) + (run_dir / "curation_report.json").read_text()
    both = re.sub(r'src="data:[^"]*"', "", both)
    for name in ("record_id", "patient_id", "study_id"):
        assert not [one for one in dataset[name] if one in both], name
    assert not [one for one in dataset["report"] if " ".join(one.split()[:6]) in json.dumps(numbers_of(run_dir))]


def test_films_of_a_hospital_are_left_out_unless_asked_for(run_copy, dataset):
    own = with_column(dataset, "source", ["hospital"] * len(dataset))
    page = write_report(run_copy, own).read_text()
    assert "Films and reports are left out" in page
    assert "image/jpeg" not in page
    assert not [one for one in dataset["report"] if html.escape(" ".join(one.split()[:6])) in page]
    shown = write_report(run_copy, own, show_films=True).read_text()
    assert shown.count("data:image/jpeg") >= 18
    assert [one for one in dataset["report"] if html.escape(" ".join(one.split()[:6])) in shown]


def test_a_table_of_ones_own_is_not_public_whatever_it_calls_its_source(run_copy, dataset, tiny_corpus, tmp_path):
    assert may_be_shown(dataset, [str(tiny_corpus)])
    own = tmp_path / "own"
    own.mkdir()
    assert not may_be_shown(dataset, [str(own)]), "nothing says what prepared it"
    (own / "summary.json").write_text(json.dumps({"loader": "folder", "options": {"source_name": "synthetic"}}))
    assert not may_be_shown(dataset, [str(own)])
    assert not may_be_shown(dataset, [str(tiny_corpus), str(own)])
    assert not may_be_shown(dataset, [])
    assert not may_be_shown(dataset.remove_columns(["source"]), [str(tiny_corpus)])
    change_run(run_copy, mixture={"seed": 0, "parts": [{"folder": str(own)}]})
    assert "image/jpeg" not in write_report(run_copy, dataset).read_text()


def test_texts_of_the_data_are_not_html(run_copy, dataset):
    evil = with_column(dataset, "report", ["<script>alert(1)</script> & <img src=x>"] * len(dataset))
    evil = with_column(evil, "source", ["<b>me</b>"] * len(dataset))
    page = write_report(run_copy, evil, show_films=True).read_text()
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "<b>me" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &lt;img src=x&gt;" in page
    assert "&lt;b&gt;me&lt;/b&gt;" in page


def test_folders_in_the_settings_are_cut(run_copy, dataset):
    change_run(run_copy, settings={"vision_model": "/home/jane.doe/towers/dino", "selection": "quantile"})
    text = write_report(run_copy, dataset).read_text() + (run_copy / "curation_report.json").read_text()
    assert "jane.doe" not in text
    assert ".../dino" in text


def choose_by_hand(dataset: Dataset, run_dir: Path, selection: str, roles: list[int], **of_state) -> None:
    """Put another choice into a run folder."""
    state = CurationState(len(dataset))
    state.record(torch.arange(len(dataset)), Selection(torch.tensor(roles, dtype=torch.int8), torch.zeros(0)))
    for name, value in of_state.items():
        setattr(state, name, value)
    state.save(run_dir)
    log = [{"loss": 1.0, "kept_share": 0.5, "step": step} for step in (4, 12)]
    (run_dir / "log.json").write_text(json.dumps(log))
    change_run(run_dir, selection=selection, corpus_pairs=len(dataset))


def test_a_random_choice_of_ten_pairs(run_copy, dataset):
    """No features, no prototypes, hardly a number: the page says what is left out."""
    ten = dataset.select(range(10))
    choose_by_hand(ten, run_copy, "random", [2, 0] * 5)
    page = write_report(run_copy, ten).read_text()
    assert "A random choice looks at no features" in page
    assert "Map of the features" in page
    assert "principal components of" not in page
    numbers = numbers_of(run_copy)
    assert (numbers["kept"], numbers["judged"], numbers["prototypes"]) == (5, 10, [])
    assert [(one["words"], one["pairs"]) for one in numbers["roles"]] == [("kept", 5), ("dropped", 5)]


def test_an_offline_choice_has_a_map_without_prototypes(run_copy, dataset):
    features = torch.nn.functional.normalize(torch.randn(40, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    features[3] = 0
    part = dataset.select(range(60))
    choose_by_hand(part, run_copy, "semdedup", [2, 0, 0] * 20, map_rows=torch.arange(40), map_features=features.half())
    page = write_report(run_copy, part).read_text()
    assert "39 sampled pairs" in page, "a row of zeros was not judged"
    assert "has no prototypes" in page
    assert {one["words"] for one in numbers_of(run_copy)["roles"]} == {"kept", "dropped: redundant"}


@pytest.mark.parametrize("roles", [[0] * 10, [2] * 10], ids=["nothing", "everything"])
def test_nothing_or_everything_kept(run_copy, dataset, roles):
    ten = dataset.select(range(10))
    choose_by_hand(ten, run_copy, "random", roles)
    write_report(run_copy, ten)
    assert numbers_of(run_copy)["kept"] == sum(roles) / 2


def test_data_without_labels_flags_and_patients(run_copy, dataset):
    bare = dataset.select_columns(["record_id", "image", "report"])
    page = write_report(run_copy, bare).read_text()
    assert "nothing can be said of the tail" in page
    assert "The data do not tell which of their reports are wrong" in page
    assert [one["title"] for one in numbers_of(run_copy)["groups"]] == ["Report length"]


def test_pairs_that_were_not_judged_are_left_out(run_copy, dataset):
    choose_by_hand(dataset, run_copy, "random", [2, 0, 0, -1] * (len(dataset) // 4) + [-1] * (len(dataset) % 4))
    page = write_report(run_copy, dataset).read_text()
    numbers = numbers_of(run_copy)
    quarter = len(dataset) // 4
    assert (numbers["kept"], numbers["judged"]) == (quarter, 3 * quarter)
    assert f"{len(dataset) - 3 * quarter:,} pairs of the corpus were not judged" in page
    assert sum(share["total"] for share in numbers["groups"][0]["shares"]) == 3 * quarter


def test_what_matters_in_words(run_dir, dataset):
    """A finding and a defect made to be kept wholly, and a defect made to be dropped wholly, are told as such."""
    state, run = CurationState.load(run_dir), PretrainRun.load(run_dir)
    columns = read_columns(dataset)
    log = json.loads((run_dir / "log.json").read_text())
    flags = {name: np.arange(len(dataset)) % 8 == turn for turn, name in enumerate(("broken_image", "wrong_report"))}
    columns = dataclasses.replace(columns, flags=flags | {"near_duplicate": rows(len(dataset), 2)})
    state.roles[torch.from_numpy(columns.labels["Pleural Effusion"] == 1)] = int(Role.MARGIN)
    numbers = collect_numbers(run, log, state, columns)
    effusion = next(one for one in numbers.findings if one.name == "Pleural Effusion")
    assert effusion.low > 1
    assert effusion.ratio == pytest.approx(1 / numbers.kept_share)
    state.roles[torch.from_numpy(flags["broken_image"])] = int(Role.OUTLIER)
    state.roles[torch.from_numpy(flags["wrong_report"])] = int(Role.MARGIN)
    numbers = collect_numbers(run, log, state, columns)
    told = {one.topic: (one.tone, one.text) for one in summarise(numbers)}
    assert told["Broken images"][0] == "good"
    assert "100.0 % of 31 were dropped" in told["Broken images"][1]
    assert "more often than the average pair" in told["Broken images"][1]
    assert told["Wrong reports"][0] == "bad"
    assert "less often than the average pair" in told["Wrong reports"][1]
    assert told["Near-duplicates"][0] == "plain"
    assert "1 pair is too few to tell" in told["Near-duplicates"][1]
    few = dataclasses.replace(numbers.tail.rare, positives=2, ratio=4.4, low=1.5, high=4.4)
    told = summarise(dataclasses.replace(numbers, tail=dataclasses.replace(numbers.tail, rare=few)))
    assert any("2 pairs are too few to tell" in one.text for one in told), "two of two are no tail"
    many = dataclasses.replace(few, positives=40)
    told = summarise(dataclasses.replace(numbers, tail=dataclasses.replace(numbers.tail, rare=many)))
    assert any(one.tone == "good" and "the tail is favoured" in one.text for one in told)
    worse = dataclasses.replace(numbers.course[-1], usage_entropy=0.9, mean_cosine=0.9999)
    collapsed = summarise(dataclasses.replace(numbers, course=[*numbers.course, worse]))
    assert any(one.topic == "Prototypes" and "They have collapsed" in one.text for one in collapsed)


def test_examples_are_typical_of_their_role():
    state = CurationState(100)
    distances = torch.linspace(0, 1, 100)
    roles = torch.full((100,), int(Role.REDUNDANT), dtype=torch.int8)
    roles[20:60] = int(Role.MARGIN)
    state.record(torch.arange(100), Selection(roles, torch.zeros(100, dtype=torch.long), distances), torch.ones(100, 4))
    chosen = choose_examples(state, Role.MARGIN, 6, seed=1)
    assert len(set(chosen)) == 6
    assert all(29 <= row <= 50 for row in chosen), "the middle half of 20 to 59"
    assert chosen == sorted(chosen), "nearest first"
    assert chosen == choose_examples(state, Role.MARGIN, 6, seed=1)
    assert chosen != choose_examples(state, Role.MARGIN, 6, seed=2)
    assert choose_examples(state, Role.OUTLIER, 6, seed=1) == []


def test_the_map_keeps_what_lies_apart_apart():
    state = CurationState(6, map_rows=torch.arange(6))
    features = torch.tensor([[1.0, 0, 0], [0.99, 0.01, 0], [0, 1, 0], [0.01, 0.99, 0], [0, 0, 0], [1, 0, 0]])
    roles = torch.tensor([0, 1, 2, 4, -1, -1], dtype=torch.int8)
    state.record(torch.arange(6), Selection(roles, torch.zeros(6, dtype=torch.long)), features)
    state.prototypes = torch.eye(3)[:2]
    found = map_features(state)
    assert found.roles.tolist() == [0, 1, 2, 4], "zero rows and rows not judged are left out"
    assert abs(found.points[0, 0] - found.points[2, 0]) > 1.3 > 0.1 > abs(found.points[0, 0] - found.points[1, 0])
    np.testing.assert_allclose(found.prototypes[0], found.points[0], atol=1e-3)
    assert found.explained[0] > 0.99
    assert map_features(CurationState(6)) is None


def test_on_demand_from_the_command_line(run_copy, run_dir, tiny_corpus, capsys):
    main([str(run_copy)])
    assert capsys.readouterr().out.strip() == str(run_copy / "curation_report.html")
    assert page_of(run_copy) == page_of(run_dir)
    moved = run_copy / "moved"
    shutil.copytree(tiny_corpus, moved)
    change_run(run_copy, mixture={"seed": 0, "parts": [{"folder": "/no/longer/here"}]})
    main([str(run_copy), "--dataset_dir", str(moved)])
    assert "data:image/jpeg" in page_of(run_copy)


def test_refusals(run_copy, dataset, tmp_path, tiny_corpus):
    with pytest.raises(ValueError, match=rf"judged a corpus of {len(dataset)} pairs, the data have 7"):
        write_report(run_copy, dataset.select(range(7)))
    change_run(run_copy, corpus_fingerprint="0123456789abcdef")
    with pytest.raises(SystemExit, match=r"are not those of the run .*the run's is 0123456789abcdef.*--dataset_dir"):
        main([str(run_copy), "--dataset_dir", str(tiny_corpus)])
    (run_copy / "curation_state.safetensors").unlink()
    with pytest.raises(SystemExit, match=r"has no curation_state\.safetensors"):
        main([str(run_copy)])
    change_run(run_copy, selection="none")
    with pytest.raises(SystemExit, match=r"trained on all pairs \(selection none"):
        main([str(run_copy)])
    with pytest.raises(SystemExit, match="is not a finished run"):
        main([str(tmp_path / "nowhere")])


def test_a_run_that_judged_nothing_or_is_too_old_is_refused(run_copy, dataset):
    choose_by_hand(dataset, run_copy, "random", [-1] * len(dataset))
    with pytest.raises(ValueError, match="no pair was judged"):
        write_report(run_copy, dataset)
    run = json.loads((run_copy / "run.json").read_text())
    del run["corpus_fingerprint"]
    (run_copy / "run.json").write_text(json.dumps(run))
    with pytest.raises(ValueError, match="a run of an earlier version"):
        write_report(run_copy, dataset)
