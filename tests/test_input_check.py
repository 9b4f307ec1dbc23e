"""The input check: what it says of whole films, of what is made of them, and of real films; how it is fitted."""

import json
from collections import Counter

import numpy as np
import pytest
from datasets import load_dataset
from PIL import Image

from data_scripts.films.images import open_image
from data_scripts.input_check.drawings import KINDS, draw
from data_scripts.input_check.examples import SPOILERS, photograph, photographs, varied
from data_scripts.input_check.fit import FitArguments, make_examples
from data_scripts.input_check.fit import main as fit_main
from data_scripts.input_check.judge import main as judge_main
from data_scripts.loaders import load_loader
from data_scripts.schema import Record
from data_scripts.synthetic import SyntheticOptions, draw_film, make_case
from modeling_chexficient import input_check_chexficient, to_eight_bit
from modeling_chexficient.input_check_chexficient import CLASSES, check_film, film_features, film_probabilities


@pytest.fixture(scope="module")
def films() -> list[Image.Image]:
    """Forty synthetic films of another seed than the check was fitted to."""
    options = SyntheticOptions(num_records=40, seed=23, broken_image_share=0)
    return [Image.fromarray(draw_film(make_case(number, options), 112)[0]) for number in range(40)]


def kinds(images) -> Counter:
    return Counter(reason.kind for image in images for reason in check_film(image))


def test_whole_frontal_films_have_no_reason(films):
    assert kinds(films) == {}
    assert kinds([film.convert("RGB").resize((300, 260)) for film in films]) == {}


@pytest.mark.parametrize(("kind", "least"), [("inverted", 40), ("turned", 38), ("doubled", 39), ("cropped", 30)])
def test_what_is_made_of_films_is_found_and_named(films, kind, least):
    rng = np.random.default_rng(3)
    of_two = kind == "doubled"
    made = [SPOILERS[kind]([film, *films[:of_two]], rng) for film in films]
    assert kinds(made)[kind] >= least


def test_other_images_are_found():
    rng = np.random.default_rng(4)
    drawn = {kind: [draw(kind, rng) for _ in range(10)] for kind in KINDS}
    for kind, drawings in drawn.items():
        assert all(check_film(drawing) for drawing in drawings), kind
    assert kinds(drawn["lateral"])["lateral"] >= 8
    pictures = photographs()[1::2]
    assert all(check_film(photograph(pictures, rng)) for _ in range(30))


def test_reasons_are_sentences_without_names(films):
    (reason,) = check_film(SPOILERS["inverted"](films, np.random.default_rng(0)))
    assert reason.kind == "inverted"
    assert "black and white are exchanged" in reason.text
    for blank in (Image.new("L", (64, 80), 7), Image.new("RGB", (1, 1)), Image.new("L", (300, 5), 255)):
        assert [reason.kind for reason in check_film(blank)] == ["broken"]


def test_the_features_do_not_depend_on_brightness_and_size(films):
    features = film_features(films[0])
    darker = films[0].point(lambda grey: 10 + grey // 2)
    np.testing.assert_allclose(film_features(darker), features, atol=0.05)
    np.testing.assert_allclose(film_features(films[0].resize((448, 448), Image.Resampling.NEAREST)), features, atol=0.1)
    assert sum(film_probabilities(films[0]).values()) == pytest.approx(1)


def test_the_weights_are_those_of_the_command(films, tmp_path, monkeypatch):
    """A small fit tells films from what they were made into, and the shipped file says how it was made."""
    out = tmp_path / "weights.json"
    fit_main(["--out", str(out), "--films", "60", "--examples", "40"])
    monkeypatch.setattr(input_check_chexficient, "WEIGHTS", out)
    input_check_chexficient._weights.cache_clear()
    try:
        assert len(kinds(films)) < 4
        assert kinds([SPOILERS["inverted"]([film], np.random.default_rng(0)) for film in films])["inverted"] == 40
    finally:
        monkeypatch.undo()
        input_check_chexficient._weights.cache_clear()
    shipped, small = (json.loads(path.read_text()) for path in (input_check_chexficient.WEIGHTS, out))
    assert FitArguments(out="", **{k: v for k, v in shipped["made_by"].items() if k != "command"}) == FitArguments("")
    assert list(shipped["weights"]) == list(small["weights"]) == list(CLASSES)
    with pytest.raises(ValueError, match="films is 0"):
        FitArguments("", films=0)


def test_examples_are_the_same_again():
    arguments = FitArguments("", films=5, examples=2)
    (features, classes), (again, _) = make_examples(arguments), make_examples(arguments)
    np.testing.assert_array_equal(features, again)
    assert Counter(classes.tolist()) == {name: 4 if name == "frontal" else 2 for name in CLASSES}
    assert varied(Image.new("L", (40, 50), 90), np.random.default_rng(0)).mode == "L"


def test_the_judging_command_counts(tiny_corpus, tmp_path, capsys):
    (tmp_path / "few" / "data").mkdir(parents=True)
    load_dataset(str(tiny_corpus), split="test[:30]").to_parquet(tmp_path / "few" / "data" / "test-00000.parquet")
    judge_main([str(tmp_path / "few"), "--out", str(tmp_path / "judged.json")])
    (judged,) = json.loads((tmp_path / "judged.json").read_text()).values()
    by_kind = {one["kind"]: one for one in judged}
    frontal = by_kind["frontal"]
    assert frontal["found"] <= 1
    assert frontal["low"] <= frontal["found"] / 30 < frontal["high"] < 0.2
    assert by_kind["inverted"]["named"]["inverted"] >= 29
    assert "| frontal | 30 |" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="is not a prepared dataset"):
        judge_main([str(tmp_path / "nothing")])


def test_real_films(real_cxr):
    """Every fifth of 246 films of NIH and 138 of covid_chestxray, none of which the check was fitted to."""
    frontal, lateral = [], []
    for name in ("nih_chestxray14", "covid_chestxray"):
        loader = load_loader(name)
        records = [one for one in loader.read_records(real_cxr / name, loader.Options()) if isinstance(one, Record)]
        for record in records[::5]:
            film = to_eight_bit(open_image(real_cxr / name / record.image_path))
            if record.view in ("PA", "AP"):
                frontal.append([reason.kind for reason in check_film(film)])
            elif record.view == "LATERAL":
                lateral.append(check_film(film))
    assert len(frontal) > 60
    assert sum(map(bool, frontal)) <= 1
    assert not any("broken" in reasons for reasons in frontal)
    assert lateral
    assert all(lateral)
