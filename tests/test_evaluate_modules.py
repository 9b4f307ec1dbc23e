"""The modules of `evaluate`, each loaded by path and offline in a fresh process, against other implementations."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from tests.warm import run_python

pytest.importorskip("evaluate")
#: NaN is written as JSON's extension of it.
CODE = """
import json, sys
import evaluate
metric = evaluate.load(sys.argv[1])
calls = json.load(open(sys.argv[2]))
results = []
for call in calls:
    try:
        results.append(metric.compute(**call))
    except ValueError as error:
        results.append(str(error))
print("RESULTS" + json.dumps(results))
"""


def compute(module: str, *calls: dict) -> list:
    """What the module gives for each call, or the message of its ValueError; in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "calls.json"
        file.write_text(json.dumps(calls))
        done = run_python(["-c", CODE, f"eval/modules/{module}", str(file)])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.split("RESULTS")[1])


def test_multilabel_auroc():
    generator = np.random.default_rng(0)
    scores, targets = generator.integers(0, 9, (60, 3)).astype(float), generator.integers(0, 2, (60, 3)).astype(float)
    targets[:20, 1], targets[:5, 0], targets[:, 2] = -1, np.nan, 1
    weights = generator.integers(0, 3, 60).astype(float)
    call = {"predictions": scores.tolist(), "references": targets.tolist(), "labels": ["a", "b", "c"]}
    plain, weighted, wrong, uneven = compute(
        "multilabel_auroc",
        call,
        {**call, "sample_weight": weights.tolist()},
        {**call, "references": (targets + 1).tolist()},
        {**call, "sample_weight": [1.0]},
    )
    for result, weight in ((plain, np.ones(60)), (weighted, weights)):
        expected = {
            "a": roc_auc_score(targets[5:, 0], scores[5:, 0], sample_weight=weight[5:]),
            "b": roc_auc_score(targets[20:, 1], scores[20:, 1], sample_weight=weight[20:]),
        }
        assert {name: result["by_label"][name] for name in "ab"} == pytest.approx(expected)
        assert result["macro"] == pytest.approx(np.mean(list(expected.values())))
        assert (np.isnan(result["by_label"]["c"]), result["undefined"]) == (True, ["c"])
    assert plain["macro"] != weighted["macro"]
    assert wrong == "references hold [2.0]: allowed are 1, 0, and -1 or NaN for uncertain"
    assert uneven == "sample_weight must be 60 numbers of at least 0"


def test_dice():
    """By hand: 2 pixels of 3 and 3 found, 2 right; then the same with a wrong pixel not judged; then no structure."""
    found = [[1, 1, 0], [0, 1, 0]]
    call = {
        "predictions": [found, found, found, [[0, 0, 0], [0, 0, 0]]],
        "references": [
            [[255, 255, 0], [0, 0, 255]],
            [[255, 255, 0], [0, 127, 255]],
            [[0, 0, 0], [0, 0, 0]],
            [[0, 0, 0], [0, 0, 0]],
        ],
    }
    result, size, values = compute(
        "dice",
        call,
        {"predictions": [[[1]]], "references": [[[255, 0]]]},
        {"predictions": [[[1]]], "references": [[[1]]]},
    )
    assert result["dice_by_film"][:2] == pytest.approx([4 / 6, 4 / 5])
    assert np.isnan(result["dice_by_film"][2:]).all()
    assert (result["dice"], result["iou"]) == pytest.approx(((4 / 6 + 4 / 5) / 2, (2 / 4 + 2 / 3) / 2))
    assert (result["films"], result["films_without"], result["false_alarms"]) == (2, 2, 1)
    assert size == "film 0: the prediction is (1, 1), the reference (1, 2)"
    assert "values other than 0, 127 and 255" in values


def test_clinical_f1():
    references = ["There is cardiomegaly. No pleural effusion.", "Large pneumothorax.", "The lungs are clear."]
    generated = ["Cardiomegaly with a pleural effusion.", "Large pneumothorax.", "The lungs are clear."]
    (result,) = compute("clinical_f1", {"predictions": generated, "references": references})
    # Told: Cardiomegaly, Effusion; Pneumothorax; No Finding. Wanted: the same but for the effusion.
    assert result["micro"] == pytest.approx(2 * 3 / (2 * 3 + 1))
    assert result["macro"] == pytest.approx((1 + 0 + 1 + 1) / 4)
    told, wanted = [[1, 1], [0, 0], [0, 0]], [[1, 0], [0, 0], [0, 0]]
    assert result["five_micro"] == pytest.approx(f1_score(wanted, told, average="micro"))
    assert result["five_macro"] == pytest.approx(0.5)
    assert (result["by_finding"]["Pleural Effusion"], np.isnan(result["by_finding"]["Edema"])) == (0, True)


@pytest.mark.parametrize("module", ["multilabel_auroc", "dice", "clinical_f1"])
def test_nothing_to_evaluate_is_said_in_plain_words(module):
    (message,) = compute(module, {"predictions": [], "references": []})
    assert "there are no" in message
    assert "at least one" in message
