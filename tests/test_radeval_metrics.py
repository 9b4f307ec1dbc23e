"""The bridge to RadEval: with a stand-in of its public interface, and with the package where it is installed."""

import json
import re
import socket
import sys
from dataclasses import replace

import numpy as np
import pytest
from datasets import Dataset, DatasetDict

from eval.arguments import EvaluationArguments
from eval.benchmarks import Benchmark
from eval.models.hog import HogEncoder
from eval.records.results import ReportResult
from eval.settings import EvaluationSettings
from eval.tasks.radeval_metrics import RADEVAL, RadEvalMetrics
from eval.tasks.report_generation import run
from eval.tasks.text_metrics import bleu_counts, rouge_l, weighted_coco_bleu

#: Names, arguments, keys of the figures and refusals are those of radeval 2.2.1; the figures are not.
STAND_IN = """
import warnings
from pathlib import Path


class RadEval:
    def __init__(self, metrics=None, openai_api_key=None, gemini_api_key=None, per_sample=False, detailed=False,
                 show_progress=True, cache_dir=None):
        warnings.filterwarnings("ignore")
        known = ["bertscore", "bleu", "radgraph", "rouge"]
        for name in metrics:
            if name not in known:
                raise ValueError(f"Unknown metric '{name}'. Available: {known}")
            if name == "bertscore":
                import urllib.request
                urllib.request.urlopen("http://huggingface.co/distilbert-base-uncased")
            if name == "radgraph":
                import RadEval
        self.metrics = metrics

    def __call__(self, refs, hyps):
        if not (isinstance(hyps, list) and isinstance(refs, list)):
            raise TypeError("hyps and refs must be of type list")
        (name,) = self.metrics
        if name == "radgraph":
            raise RuntimeError("no entity")
        share = len("".join(hyps)) / len("".join(refs))
        return {"bleu": {"bleu": share}, "rouge": {"rouge1": 0.5, "rouge2": 0.25, "rougeL": 0.125}}[name]
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder of packages with the stand-in of version 2.2.1, which a test may change."""
    folder = tmp_path / "site-packages"
    (folder / "radeval").mkdir(parents=True)
    (folder / "radeval" / "__init__.py").write_text(STAND_IN)
    (folder / "radeval-2.2.1.dist-info").mkdir()
    (folder / "radeval-2.2.1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: radeval\nVersion: 2.2.1\n"
    )
    monkeypatch.syspath_prepend(folder)
    names = ("radeval", "RadEval")
    before = {name: sys.modules.pop(name, None) for name in names}
    yield folder
    sys.modules.update({name: before[name] for name in names if before[name] is not None})
    for name in names:
        if before[name] is None:
            sys.modules.pop(name, None)


def test_its_figures_stand_under_its_names_with_its_version(package, tmp_path):
    reports = ["Mild edema.", "Clear lungs.", "Clear lungs and heart."]
    films = {"report": reports, "record_id": ["a", "b", "c"], "patient_id": ["1", "2", "3"]}
    predictions = tmp_path / "reports.jsonl"
    predictions.write_text("\n".join(json.dumps({"record_id": one, "report": "Clear."}) for one in films["record_id"]))
    settings = EvaluationSettings(resamples=5, predictions=predictions, radeval_metrics=("bleu", "rouge"))
    splits = DatasetDict(test=Dataset.from_dict(films))
    benchmark = Benchmark("reports", 1, "report_generation")
    result, plain = (
        run(benchmark, HogEncoder(), splits, one) for one in (settings, replace(settings, radeval_metrics=()))
    )
    figures = result.scores.by_convention[RADEVAL]
    values = {name: one.value for name, one in figures.items()}
    assert values == {"bleu": 3 * 6 / sum(map(len, reports)), "rouge1": 0.5, "rouge2": 0.25, "rougeL": 0.125}
    assert figures["bleu"].low is None
    assert result.provenance.packages == plain.provenance.packages | {"radeval": "2.2.1"}
    assert result.provenance.settings == plain.provenance.settings | {"radeval_metrics": ["bleu", "rouge"]}
    assert result.conventions["radeval"].startswith("RadEval 2.2.1 (package radeval): bleu, rouge")
    assert replace(result.scores, by_convention={}) == plain.scores
    result.save(tmp_path / "reports.json")
    assert ReportResult.load(tmp_path / "reports.json") == result


def test_what_it_cannot_compute_is_refused_with_the_cure(package):
    with pytest.raises(ValueError, match=r"Unknown metric 'meteor'. Available: \['bertscore', 'bleu'"):
        RadEvalMetrics(["bleu", "meteor"])
    asked = socket.getaddrinfo
    with pytest.raises(ValueError, match=r"huggingface\.co was not asked") as refused:
        RadEvalMetrics(["bertscore"])
    line = "python -c \"import sys, radeval; sys.modules['RadEval'] = radeval; radeval.RadEval(metrics=['bertscore'])\""
    assert line in str(refused.value)
    with pytest.raises(
        ValueError, match=r"radgraph cannot be computed without the network \(RuntimeError: no entity\)"
    ):
        RadEvalMetrics(["radgraph"])(["a"], ["b"])
    assert socket.getaddrinfo is asked


def test_without_the_package_or_with_an_old_one_a_run_is_refused_at_once(package, tmp_path, monkeypatch):
    words = {"model": [str(tmp_path)], "data": "d"}
    (package / "radeval-2.2.1.dist-info").rename(package / "radeval-0.1.8.dist-info")
    metadata = package / "radeval-0.1.8.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("2.2.1", "0.1.8"))
    with pytest.raises(ValueError, match=r"radeval 0\.1\.8 has another interface: pip install radeval --upgrade"):
        EvaluationArguments(**words, radeval_metrics=["bleu"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"--radeval_metrics: the package radeval is not installed: pip install radeval"
    ):
        EvaluationArguments(**words, radeval_metrics=["bleu"])
    assert EvaluationArguments(**words).settings(tmp_path).radeval_metrics == ()


def test_the_package_itself_gives_the_coco_bleu_of_bare_words():
    pytest.importorskip("radeval")
    references = ["the heart is large . no edema .", "no effusion", "clear lungs and a small heart"]
    generated = ["the heart is normal . no edema .", "small left effusion", "clear lungs and a large heart"]
    figures = RadEvalMetrics(["bleu", "rouge"])(generated, references)
    assert list(figures) == ["bleu", "rouge1", "rouge2", "rougeL"]
    words = [[re.sub(r" ?\.", "", text) for text in side] for side in (generated, references)]
    ours = weighted_coco_bleu(bleu_counts(*words), np.ones((1, 3)), 4)[0]
    theirs = RadEvalMetrics(["bleu"])(*words)["bleu"]
    assert theirs == pytest.approx(ours, abs=5e-5)
    assert figures["rougeL"] == pytest.approx(rouge_l(generated, references).mean(), abs=5e-5)
