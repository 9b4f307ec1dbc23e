"""Embeddings of films and texts in files, and nearest neighbours in them."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F

from data_scripts.films.images import open_image
from data_scripts.schema import DataError
from eval import embed, nearest, speed
from eval.embed import read_texts
from eval.films import parts
from eval.models.load import load_evaluation_model
from tests.adapter_files import save_base
from tests.film_files import write_film
from tests.warm import Program, free_port, run_python


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_base(tmp_path_factory.mktemp("embed") / "base")


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for number in range(7):
        write_film(folder / f"{number}.png", seed=number)
    (folder / "2.png").write_bytes(b"no film")
    return folder


def run(model: Path, out: Path, *words: str) -> pd.DataFrame:
    with pytest.raises(SystemExit) as ended:
        embed.main(["--model", str(model), "--out", str(out), "--batch_size", "2", "--part_size", "3", *words])
    assert ended.value.code == 0, ended.value.code
    return pd.read_parquet(out)


def test_films_are_embedded_as_the_model_embeds_them(base, films, tmp_path):
    out = tmp_path / "films.parquet"
    table = run(base, out, "--films", str(films))
    assert table["id"].tolist() == table["path"].tolist() == [f"{n}.png" for n in (0, 1, 3, 4, 5, 6)]
    model = load_evaluation_model(str(base))
    pixels = model.pixels([open_image(films / path) for path in table["path"]])
    np.testing.assert_allclose(np.stack(table["embedding"]), model.embed_images(pixels), atol=1e-6)
    job = parts.read_job(out)
    assert (job["content"], job["dimensions"], job["store"]) == (embed.FILMS, 8, "fp32")
    assert job["model_identity"] == model.identity
    half = run(base, tmp_path / "half.parquet", "--films", str(films), "--store", "fp16", "--features", "tower")
    assert pq.read_schema(tmp_path / "half.parquet").field("embedding").type.value_type == "halffloat"
    np.testing.assert_allclose(np.stack(half["embedding"]), model.tower_features(pixels), atol=1e-3)


def two_films(folder: Path) -> list[Path]:
    paths = [folder / "timed" / f"{number}.jpeg" for number in range(2)]
    for number, path in enumerate(paths):
        write_film(path, (90, 70), seed=number)
    return paths


def test_the_pipeline_that_embedding_is_timed_against_gives_the_same_features(base, tmp_path, monkeypatch):
    """`embedding_ratio` refuses a pair that does not."""
    model, paths = load_evaluation_model(str(base)), two_films(tmp_path)
    assert speed.embedding_ratio(tmp_path, model, paths, 1).median > 0
    model.image_processor.image_mean = [0.5, 0.5, 0.5]
    extract = speed.peer_pipeline(model)
    model.image_processor.image_mean = [0.1, 0.1, 0.1]
    monkeypatch.setattr(speed, "peer_pipeline", lambda _: extract)
    with pytest.raises(ValueError, match="features are others"):
        speed.embedding_ratio(paths[0].parent, model, paths, 1)


def test_the_pipeline_that_scoring_is_timed_against_gives_the_same_probabilities(base, tmp_path, monkeypatch):
    paths = two_films(tmp_path)
    assert speed.scoring_ratio(tmp_path, str(base), paths, 1).median > 0
    loaded = speed.pipeline
    monkeypatch.setattr(speed, "pipeline", lambda task, **how: Halved(loaded(task, **how)))
    with pytest.raises(ValueError, match="probabilities of Cardiomegaly are others"):
        speed.scoring_ratio(tmp_path, str(base), paths, 1)


class Halved:
    """A pipeline whose scores are half as high."""

    def __init__(self, classify):
        self.classify = classify

    def __call__(self, *args, **kwargs):
        films = self.classify(*args, **kwargs)
        return [[found | {"score": found["score"] / 2} for found in film] for film in films]


def test_another_model_does_not_go_on(base, films, tmp_path, monkeypatch):
    out = tmp_path / "films.parquet"
    monkeypatch.setattr(parts.PartedTable, "_merge", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run(base, out, "--films", str(films))
    monkeypatch.undo()
    other = save_base(tmp_path / "other", seed=1)
    with pytest.raises(SystemExit, match=r"parts of another run \(other model, model_identity\): delete that folder"):
        embed.main(
            ["--model", str(other), "--out", str(out), "--batch_size", "2", "--part_size", "3", "--films", str(films)]
        )
    run(base, out, "--films", str(films))
    run(base, tmp_path / "whole.parquet", "--films", str(films))
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_texts_are_embedded_by_line_or_by_id(base, tmp_path):
    (tmp_path / "texts.txt").write_text("no edema\nedema\n")
    lines = run(base, tmp_path / "lines.parquet", "--texts", str(tmp_path / "texts.txt"))
    assert lines["id"].tolist() == ["1", "2"]
    expected = load_evaluation_model(str(base)).embed_texts(["no edema", "edema"])
    np.testing.assert_allclose(np.stack(lines["embedding"]), expected, atol=1e-6)
    (tmp_path / "texts.csv").write_text("id,text\n01,edema\n02,no edema\n")
    named = run(base, tmp_path / "named.parquet", "--texts", str(tmp_path / "texts.csv"))
    assert named["id"].tolist() == ["01", "02"]
    np.testing.assert_allclose(np.stack(named["embedding"])[::-1], np.stack(lines["embedding"]), atol=1e-6)
    (tmp_path / "texts.csv").write_text("id,text\n1,edema\n1,no edema\n")
    with pytest.raises(SystemExit, match="rows 1 and 2 have the same id"):
        embed.main(["--model", str(base), "--out", str(tmp_path / "x.parquet"), "--texts", str(tmp_path / "texts.csv")])
    with pytest.raises(SystemExit, match="hog has no text tower"):
        embed.main(["--model", "hog", "--out", str(tmp_path / "x.parquet"), "--texts", str(tmp_path / "texts.txt")])


def test_a_line_of_a_text_file_ends_where_editors_end_it(tmp_path):
    """A report with a page break in it was two, and all after it had the ids of others."""
    texts = tmp_path / "texts.txt"
    texts.write_bytes("\ufeffno edema\x0cno effusion\u2028\x85heart normal\x0c\r\nödem\rclear\n".encode())
    assert read_texts(texts) == (["1", "2", "3"], ["no edema\x0cno effusion\u2028\x85heart normal", "ödem", "clear"])
    texts.write_bytes("Lungenödem\nfrei\n".encode("cp1252"))
    assert read_texts(texts) == (["1", "2"], ["Lungenödem", "frei"])
    for content in ("edema\n\nclear\n", "edema\n\x0c\nclear"):
        texts.write_text(content)
        with pytest.raises(DataError, match="line 2 is blank"):
            read_texts(texts)


@pytest.mark.parametrize("given", [{"reduced_decoding": True}, {"multi_frame": "first"}, {"modalities": ["CT"]}])
def test_rules_of_films_are_refused_with_texts(given):
    with pytest.raises(ValueError, match="say how films are read: leave them out with --texts"):
        embed.EmbedArguments(model="m", out="o.parquet", texts="t.txt", **given)


def ask(capsys, *words: str) -> list[list[str]]:
    capsys.readouterr()
    nearest.main(list(words))
    return [line.split("\t") for line in capsys.readouterr().out.splitlines()]


def test_neighbours_of_an_id_a_film_and_a_text(base, films, tmp_path, capsys):
    out = str(tmp_path / "films.parquet")
    table = run(base, Path(out), "--films", str(films))
    vectors = np.stack(table["embedding"])
    cosines = pd.Series(vectors @ vectors[3], index=table["id"]).sort_values(ascending=False)
    found = ask(capsys, out, "--id", "4.png", "--top", "3")
    assert [row[2] for row in found] == cosines.index[1:4].tolist()
    np.testing.assert_allclose([float(row[1]) for row in found], cosines.iloc[1:4], atol=1e-4)
    found = ask(capsys, out, "--film", str(films / "4.png"), "--top", "2")
    assert [row[2] for row in found] == ["4.png", cosines.index[1]]
    text = load_evaluation_model(str(base)).embed_texts(["no edema"])[0].numpy()
    assert ask(capsys, out, "--text", "no edema", "--top", "1")[0][2] == table["id"][int((vectors @ text).argmax())]
    for words, message in (
        (["--id", "nobody"], "no row of that --id"),
        (["--film", str(films / "2.png")], "cannot be used"),
        (["--id", "4.png", "--text", "edema"], "give one of --id, --film and --text"),
        (["--text", "edema", "--model", str(save_base(tmp_path / "other", seed=1))], "is another model"),
    ):
        with pytest.raises(SystemExit, match=message):
            nearest.main([out, *words])


def test_blocks_give_what_one_comparison_gives(base, films, tmp_path):
    file = tmp_path / "films.parquet"
    vectors = np.stack(run(base, file, "--films", str(films))["embedding"])
    query = F.normalize(torch.randn(8, generator=torch.Generator().manual_seed(1)), dim=0)
    order = np.argsort(-(vectors @ query.numpy()), kind="stable")
    for block in (1, 2, 100):
        found = nearest.nearest(file, query, 4, block)
        assert [one.id for one in found] == [f"{[0, 1, 3, 4, 5, 6][row]}.png" for row in order[:4]]
    with pytest.raises(ValueError, match="embeddings of 8 numbers"):
        nearest.nearest(file, query[:5], 4)


@pytest.mark.parametrize("command", ["eval.predict", pytest.param("eval.embed", marks=pytest.mark.slow)])
def test_two_killed_processes_go_on_to_the_file_of_one(command, base, tmp_path):
    """SIGKILL, as a machine that is taken away or a scheduler at its limit sends it."""
    for number in range(60):
        write_film(tmp_path / "films" / f"{number:02}.png", (200, 200), seed=number)
    (tmp_path / "films" / "07.png").write_bytes(b"no film")
    words = ["-m", command, "--model", str(base), "--films", str(tmp_path / "films"), "--batch_size", "2"]
    words += ["--part_size", "4", *(["--findings", "edema"] if command == "eval.predict" else [])]
    two, one = tmp_path / "two.parquet", tmp_path / "one.parquet"
    found = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    # The films cannot all be read before both are killed.
    slow = "import time; from data_scripts.films import images; prepare = images.prepare_film; "
    slow += "import eval.films.files as files; files.prepare_film = lambda *a: (time.sleep(0.2), prepare(*a))[1]; "
    slow += f"from {command} import main; main({[*words[2:], '--out', str(two)]})"
    killed = [
        Program(["-c", slow], environment={**found, "RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(2)
    ]
    parts_of_two = tmp_path / "two.parquet.parts"
    for _ in range(1000):
        if len(list(parts_of_two.glob("*.parquet"))) >= 3:
            break
        time.sleep(0.1)
    for program in killed:
        program.process.kill()
    assert [program.wait().returncode for program in killed] == [-9, -9]
    assert 3 <= len(list(parts_of_two.glob("*.parquet"))) < 15
    assert not two.exists()
    done = run_python([*words, "--out", str(two)], processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    assert run_python([*words, "--out", str(one)]).returncode == 0
    assert two.read_bytes() == one.read_bytes()
    skipped = [path.with_suffix(".skipped.jsonl").read_text() for path in (two, one)]
    assert skipped[0] == skipped[1]
    assert "07.png" in skipped[0]
    assert not parts_of_two.exists()
