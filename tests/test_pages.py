"""A page for every corpus, from its loader alone."""

import pytest

from data_scripts.loaders import LOADERS, load_loader, sharing_films
from data_scripts.pages import main, related_corpora
from data_scripts.prepared.overlap import known_overlaps
from eval.benchmarks import BENCHMARKS, OWN, Benchmark


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
    with pytest.raises(SystemExit, match=r"^error: .* not used .*--loader_names"):
        main(["--out", str(tmp_path), "--loader_names", "nih"])


def test_the_corpora_that_share_films_are_there_and_agree_with_the_benchmarks():
    for name in LOADERS:
        assert set(related_corpora(load_loader(name).SOURCE)) <= set(LOADERS) - {name}
        for other in sharing_films(name):
            assert len(known_overlaps({name, other})) == 1, f"{name} and {other} in one mixture"
    for benchmark in BENCHMARKS.values():
        if benchmark.dataset == OWN:
            # Films of two hospitals have one loader and nothing else in common.
            assert not benchmark.exposure
            continue
        known = {benchmark.dataset, *related_corpora(load_loader(benchmark.dataset).SOURCE)}
        assert known <= benchmark.exposure, benchmark.name


@pytest.mark.parametrize(
    ("benchmark", "trained_on"),
    [
        # RSNA, SIIM-ACR and RANZCR are films of NIH, whichever of its lists they stand in.
        ("nih_zero_shot", {"rsna_pneumonia", "siim_acr", "ranzcr_clip"}),
        ("rsna_probe", {"nih_chestxray14", "siim_acr", "ranzcr_clip"}),
        ("siim_segmentation", {"nih_chestxray14", "rsna_pneumonia"}),
        # CXR-LT has all films of MIMIC, split anew.
        ("mimic_retrieval", {"mimic_cxr_jpg", "mimic_r2gen", "cxr_lt_2024", "ms_cxr"}),
        ("cxr_lt_2024_unseen", {"mimic_cxr_jpg", "mimic_r2gen", "ms_cxr"}),
        ("ms_cxr_grounding", {"mimic_cxr_jpg", "mimic_r2gen", "cxr_lt_2024"}),
        ("iu_reports", {"open_i", "iu_r2gen"}),
        ("chexpert_zero_shot", {"chexpert_plus"}),
    ],
)
def test_a_corpus_that_was_cut_from_the_same_films_was_seen(benchmark, trained_on):
    assert trained_on <= BENCHMARKS[benchmark].exposure
    assert not BENCHMARKS[benchmark].exposure & {"padchest", "vindr_cxr", "brax", "folder"}


def test_films_of_hospitals_share_nothing_by_the_name_of_their_loader():
    assert Benchmark("own", 1, "zero_shot", "folder").exposure == frozenset()
    assert Benchmark("own", 1, "zero_shot", "our_films").exposure == {"our_films"}
