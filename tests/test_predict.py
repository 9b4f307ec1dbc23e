"""A folder or a table of films in, a table of findings out."""

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageOps
from transformers import CLIPImageProcessorPil

from data_scripts.films.images import open_image
from data_scripts.synthetic import SyntheticOptions, draw_film, make_case
from eval.films import files as film_files
from eval.films import parts
from eval.models.load import load_evaluation_model
from eval.predict import PredictArguments, main
from tests.adapter_files import make_adapter, save_base
from tests.dicom_files import write_dicom
from tests.film_files import write_film

EFFUSION, EDEMA = "probability_effusion", "probability_edema"


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_base(tmp_path_factory.mktemp("predict") / "base")


@pytest.fixture(scope="module")
def head(base) -> Path:
    return make_adapter(base, base.parent / "head").folder


@pytest.fixture
def films(tmp_path) -> Path:
    """Readable films of three formats below each other, and files that nobody can read."""
    folder = tmp_path / "films"
    write_film(folder / "a.png", (60, 50), seed=1)
    write_film(folder / "sub" / "b.jpg", (50, 60), seed=2)
    write_film(folder / "sub" / "c.jpeg", mode="RGB", seed=3)
    pixels = np.random.default_rng(4).integers(0, 4096, (60, 40)).astype(np.uint16)
    write_dicom(folder / "sub" / "deep" / "d.dcm", pixels, PhotometricInterpretation="MONOCHROME1", BitsStored=12)
    write_dicom(folder / "hand.dcm", pixels, BodyPartExamined="HAND")
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:700])
    (folder / "empty.png").touch()
    (folder / "no_film.bin").write_bytes(b"something")
    (folder / "notes.txt").write_text("no film either, and none that is missed")
    return folder


def run(model: Path, films: Path, out: Path, *more: str, code: int = 0) -> pd.DataFrame | None:
    words = ["--model", str(model), "--films", str(films), "--out", str(out), "--batch_size", "2"]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--part_size", "4", *more])
    assert ended.value.code == code
    return pd.read_parquet(out)


def skipped_in(out: Path) -> dict[str, str]:
    lines = out.with_suffix(".skipped.jsonl").read_text().splitlines()
    return {one["path"]: one["kind"] for one in map(json.loads, lines)}


def test_a_head_scores_every_film_that_can_be_read(head, films, tmp_path, capfd):
    out = tmp_path / "scores.parquet"
    table = run(head, films, out)
    assert table["path"].tolist() == ["a.png", "sub/b.jpg", "sub/c.jpeg", "sub/deep/d.dcm"] == table["id"].tolist()
    assert list(table.columns) == ["id", "path", EFFUSION, EDEMA]
    model = load_evaluation_model(str(head))
    pixels = model.pixels([open_image(films / path) for path in table["path"]])
    expected = model.predict_labels(pixels).sigmoid().numpy()
    np.testing.assert_allclose(table[[EFFUSION, EDEMA]].to_numpy(), expected, rtol=1e-5)
    assert len(set(table[EDEMA])) == 4
    skipped = skipped_in(out)
    assert skipped == {
        "broken.png": "image damaged",
        "empty.png": "image file empty",
        "hand.dcm": "other body part",
        "no_film.bin": "file of unknown kind",
    }
    said = "".join(capfd.readouterr())
    assert "4 films in" in said
    assert "4 left out (1 file of unknown kind, 1 image damaged, 1 image file empty, 1 other body part)" in said
    for name in ("Example", "Anna", "MRN-77", "broken.png"):
        assert name not in said, "file names and headers may tell patients"
    assert not list(tmp_path.glob("*.parts"))
    run(head, films, out, "--strict", code=1)


def test_a_table_names_films_and_ids(head, films, tmp_path):
    table = pd.DataFrame({"path": ["sub/b.jpg", "missing.png", "a.png"], "id": ["007", "x", "0"], "age": 3})
    table.to_csv(films / "films.csv", index=False)
    scores = run(head, films / "films.csv", tmp_path / "scores.parquet")
    assert (scores["id"].tolist(), scores["path"].tolist()) == (["007", "0"], ["sub/b.jpg", "a.png"])
    assert skipped_in(tmp_path / "scores.parquet") == {"missing.png": "image file missing"}
    of_folder = run(head, films, tmp_path / "folder.parquet").set_index("path")
    np.testing.assert_allclose(scores.set_index("path")[EDEMA], of_folder.loc[["sub/b.jpg", "a.png"], EDEMA], rtol=1e-5)
    table.drop(columns="id").to_parquet(films / "films.parquet")
    assert run(head, films / "films.parquet", tmp_path / "path.parquet")["id"].tolist() == ["sub/b.jpg", "a.png"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"path": ["a.png", "b.png"], "id": ["1", "1"]}, "rows 1 and 2 have the same id"),
        ({"path": ["a.png", "a.png"]}, "rows 1 and 2 have the same path"),
        ({"path": ["a.png", ""], "id": ["1", "2"]}, "row 2: column 'path' is blank"),
        ({"file": ["a.png"]}, "column 'path' is missing"),
        ({"path": []}, "there are no films"),
    ],
)
def test_tables_that_name_no_films_are_refused(rows, message, head, films):
    pd.DataFrame(rows).to_csv(films / "films.csv", index=False)
    with pytest.raises(SystemExit, match=message):
        main(["--model", str(head), "--films", str(films / "films.csv"), "--out", str(films / "scores.parquet")])
    assert not (films / "scores.parquet").exists()


def many_films(folder: Path) -> Path:
    for number in range(11):
        write_film(folder / f"{number:02}.png", (40, 40), seed=number)
    (folder / "03.png").write_bytes(b"no film")
    return folder


def test_a_killed_run_goes_on_to_the_same_file(head, tmp_path, monkeypatch):
    films, out = many_films(tmp_path / "films"), tmp_path / "scores.parquet"
    run(head, films, tmp_path / "whole.parquet")
    calls, write_part = [], parts.PartedTable._write_part

    def killed(self, start, made):
        write_part(self, start, made)
        calls.append(start)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(parts.PartedTable, "_write_part", killed)
    words = ["--model", str(head), "--films", str(films), "--out", str(out), "--batch_size", "2", "--part_size", "4"]
    with pytest.raises(KeyboardInterrupt):
        main(words)
    assert not out.exists()
    monkeypatch.undo()
    with pytest.raises(SystemExit, match="other batch_size, part_size"):
        main(words[:-4])
    seen, read = [], film_files.FilmPixels.__getitem__
    monkeypatch.setattr(film_files.FilmPixels, "__getitem__", lambda self, row: (seen.append(row), read(self, row))[1])
    run(head, films, out)
    assert (calls, seen) == ([0, 4], [8, 9, 10]), "what was there is not computed again"
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert skipped_in(out) == skipped_in(tmp_path / "whole.parquet") == {"03.png": "not an image"}
    run(head, films, out)
    assert len(seen) == 3, "a finished file is not made again"
    write_film(films / "new.png")
    with pytest.raises(SystemExit, match=r"is of another run|films_sha256, rows_asked"):
        main(words)


def test_prompts_score_what_is_asked_for(base, films, tmp_path):
    words = ["--model", str(base), "--films", str(films), "--out", str(tmp_path / "scores.parquet")]
    with pytest.raises(SystemExit, match="say with --findings"):
        main(words)
    table = run(base, films, tmp_path / "scores.parquet", "--findings", "edema", "No Finding")
    model = load_evaluation_model(str(base))
    embeddings = model.embed_images(model.pixels([open_image(films / path) for path in table["path"]]))
    positive, negative = model.embed_texts(["edema", "no edema"])
    expected = model.logit_scale * embeddings @ (positive - negative)
    np.testing.assert_allclose(table["logit_difference_edema"], expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(table["logit_difference_No Finding"], -expected, rtol=1e-3, atol=1e-5)
    job = parts.read_job(tmp_path / "scores.parquet")
    assert (job["content"], job["model_identity"]) == ("logit_difference", model.identity)
    assert job["prompts"]["edema"] == ["edema", "no edema"]


def test_what_cannot_score_is_refused(base, head, films, tmp_path):
    out = ["--films", str(films), "--out", str(tmp_path / "scores.parquet")]
    for words, message in (
        (["--model", "hog"], "neither a head for findings nor a text tower"),
        (["--model", str(head), "--findings", "gout"], r"no output for \['gout'\]"),
        (["--model", str(head), "--prompts", "report"], "has a head of its own"),
        (["--model", str(head), "--precision", "int3"], "precision 'int3' is unknown"),
    ):
        with pytest.raises(SystemExit, match=message):
            main([*words, *out])


def test_a_model_or_place_that_is_none_is_named_with_the_cure(base, head, films, tmp_path):
    (tmp_path / "nothing").mkdir()
    (tmp_path / "folder.parquet").mkdir()
    (tmp_path / "file").touch()
    without = {}
    for name, file in (("processor", "processor_config.json"), ("tokenizer", "tokenizer.json")):
        without[name] = shutil.copytree(base, tmp_path / name)
        (without[name] / file).unlink()
    for model, out, message in (
        (tmp_path / "absent", "s.parquet", "absent: there is no such model folder"),
        (tmp_path / "nothing", "s.parquet", r"nothing holds no model, for config\.json is missing: give a folder"),
        (without["processor"], "s.parquet", r"processor lacks its image processor .*: copy them from the model"),
        (without["tokenizer"], "s.parquet", r"tokenizer lacks .* or tokenizer: .*: copy them from the model"),
        (head, "folder.parquet", r"--out .*folder\.parquet is a folder: name a file in it"),
        (head, "file/s.parquet", r"--out .*s\.parquet cannot be written: .*Not a directory"),
    ):
        words = ["--model", str(model), "--films", str(films), "--out", str(tmp_path / out), "--findings", "edema"]
        with pytest.raises(SystemExit, match=message):
            main(words)


def test_a_full_disk_is_told_and_the_run_goes_on_from_its_parts(head, tmp_path, monkeypatch):
    films, out = many_films(tmp_path / "films"), tmp_path / "scores.parquet"
    run(head, films, tmp_path / "whole.parquet")
    write_table, free = parts.pq.write_table, [True, True]

    def full(table, path, **options):
        write_table(table, path, **options)
        if not free:
            path.write_bytes(path.read_bytes()[:50])
            raise OSError(errno.ENOSPC, "No space left on device")
        free.pop()

    monkeypatch.setattr(parts.pq, "write_table", full)
    words = ["--model", str(head), "--films", str(films), "--out", str(out), "--batch_size", "2", "--part_size", "4"]
    with pytest.raises(
        SystemExit, match=r"--out .*scores\.parquet cannot be written: .*No space .* Make room"
    ) as ended:
        main(words)
    assert str(out.with_name("scores.parquet.parts")) in ended.value.code
    monkeypatch.undo()
    run(head, films, out)
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    out.with_suffix(".skipped.jsonl").unlink()
    with pytest.raises(
        SystemExit, match=r"scores\.skipped\.jsonl, which belongs to .*, is gone: delete .*scores\.parquet"
    ):
        main(words)


def test_outputs_that_are_not_finite_are_listed(head, tmp_path, monkeypatch):
    films = many_films(tmp_path / "films")

    def broken(self, pixels):
        logits = torch.zeros(len(pixels), 2)
        logits[0, 0] = float("nan")
        return logits

    monkeypatch.setattr("eval.models.adapted.FindingsModel.predict_labels", broken)
    table = run(head, films, tmp_path / "scores.parquet")
    assert len(table) == 4
    kinds = list(skipped_in(tmp_path / "scores.parquet").values())
    assert sorted(kinds) == ["not an image", *["output not finite"] * 6]


def test_large_films_are_decoded_at_a_part_of_their_size_where_asked(base, head, tmp_path):
    films, out = tmp_path / "films", tmp_path / "scores.parquet"
    write_film(films / "a.jpg", (400, 300), seed=1)
    whole = run(head, films, out)
    reduced = run(head, films, tmp_path / "reduced.parquet", "--reduced_decoding")
    difference = (whole[EDEMA] - reduced[EDEMA]).abs().item()
    assert 0 < difference < 0.01
    words = {"model": str(head), "films": str(films), "reduced_decoding": True}
    sizes = ["--batch_size", "2", "--part_size", "4"]
    with pytest.raises(SystemExit, match=r"other films_sha256\)"):
        main(["--model", str(head), "--films", str(films), "--out", str(out), *sizes, "--reduced_decoding"])
    with pytest.raises(ValueError, match="--check_input looks at whole films"):
        PredictArguments(**words, out=str(out), check_input=True)
    model = load_evaluation_model(str(base))
    model.image_processor = CLIPImageProcessorPil()
    with pytest.raises(ValueError, match="has a CLIPImageProcessorPil, which cuts films in a way of its own"):
        film_files.FilmPixels(film_files.Films.of(films), PredictArguments(**words, out=str(out)).rules, model)


def test_a_folder_without_one_readable_film_gives_a_table_without_rows(head, tmp_path):
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "empty.png").touch()
    table = run(head, tmp_path / "films", tmp_path / "scores.parquet")
    assert (len(table), list(table.columns)) == (0, ["id", "path", EFFUSION, EDEMA])


def test_the_input_check_is_a_column_of_reasons(head, tmp_path, capfd):
    """A whole film, the same inverted and upside down, a blank one that is left out; the scores are as without it."""
    (tmp_path / "films").mkdir()
    film = Image.fromarray(draw_film(make_case(1, SyntheticOptions(seed=23, broken_image_share=0)), 112)[0])
    film.save(tmp_path / "films" / "a.png")
    ImageOps.invert(film).save(tmp_path / "films" / "b.png")
    film.rotate(180).save(tmp_path / "films" / "c.png")
    Image.new("L", (60, 60), 9).save(tmp_path / "films" / "d.png")
    table = run(head, tmp_path / "films", tmp_path / "checked.parquet", "--check_input")
    assert list(table.columns) == ["id", "path", "input_check", EFFUSION, EDEMA]
    assert table["input_check"].tolist() == ["", "inverted", "turned"]
    assert "nothing against 1 films; of 2 others: 1 inverted, 1 turned" in "".join(capfd.readouterr())
    plain = run(head, tmp_path / "films", tmp_path / "plain.parquet")
    pd.testing.assert_frame_equal(table.drop(columns="input_check"), plain)
    words = ["--model", str(head), "--films", str(tmp_path / "films"), "--out", str(tmp_path / "plain.parquet")]
    with pytest.raises(SystemExit, match="other input_check"):
        main([*words, "--batch_size", "2", "--part_size", "4", "--check_input"])
