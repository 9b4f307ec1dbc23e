"""A page for every corpus, from its loader alone."""

import pytest

from data_scripts.loaders import LOADERS, load_loader
from data_scripts.pages import main, related_corpora
from eval.benchmarks import BENCHMARKS


def test_every_corpus_has_a_page_that_says_what_its_loader_knows(tmp_path, capsys):
    main(["--out", str(tmp_path)])
    assert f"{len(LOADERS)} corpora" in capsys.readouterr().out
    index = (tmp_path / "README.md").read_text()
    for name in LOADERS:
        source, page = load_loader(name).SOURCE, (tmp_path / f"{name}.md").read_text()
        assert f"]({name}.md)" in index
        for text in (source.title, source.licence, source.url, f"python -m data_scripts.prepare {name}", "## Leaks"):
            assert text in page, (name, text)
        assert all(trap.removeprefix("Exposure: ")[1:] in page for trap in source.traps), name
    siim = (tmp_path / "siim_acr.md").read_text()
    assert "train 10,675, test 1,372" in siim
    assert "are also in `nih_chestxray14`" in siim
    assert "may share films with `chexmask`, `ranzcr_clip`, `rsna_pneumonia`" in siim
    assert "| `--split_seed` | `0` |" in siim
    with pytest.raises(SystemExit, match="unknown loader 'nih'"):
        main(["--out", str(tmp_path), "--loaders", "nih"])


def test_the_corpora_that_share_films_are_there_and_agree_with_the_benchmarks():
    for name in LOADERS:
        assert set(related_corpora(load_loader(name).SOURCE)) <= set(LOADERS) - {name}
    for benchmark in BENCHMARKS.values():
        known = {benchmark.dataset, *related_corpora(load_loader(benchmark.dataset).SOURCE)}
        assert set(benchmark.exposure) <= known, benchmark.name
