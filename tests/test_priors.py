"""Comparisons with earlier films in reports: taken out, counted, and no finding lost with them."""

import json
from collections import Counter

import pytest
from datasets import load_dataset

from data_scripts.loaders import folder
from data_scripts.prepare import PrepareArguments, prepare
from data_scripts.prepare.__main__ import main
from data_scripts.prepare.priors import CHANGED, KEPT, LEFT_OUT, without_priors
from data_scripts.schema import DataError
from tests.film_files import write_film, write_table

#: What the rules would make of it is no finding any more.
LOST = "Opacities are unchanged and represent emphysema."


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("As compared to the previous radiograph, there is a small left pleural effusion.",
         "There is a small left pleural effusion."),
        ("Right effusion, unchanged since the prior study from ___.", "Right effusion."),
        ("Again seen is a right lower lobe opacity.", "There is a right lower lobe opacity."),
        ("1. Stable cardiomegaly. 2. No pneumothorax.", "1. Cardiomegaly. 2. No pneumothorax."),
        ("The right pleural effusion has increased.", "The right pleural effusion is seen."),
        ("There has been interval development of pulmonary edema.", "There is pulmonary edema."),
        ("Heart size is enlarged but unchanged.", "Heart size is enlarged."),
        ("There is an unchanged nodule.", "There is a nodule."),
        ("No significant interval change in the left effusion.", "Left effusion is seen."),
        ("The lungs are clear. The mediastinum is stable.", "The lungs are clear."),
        ("No new consolidation. The heart is normal.", "The heart is normal."),
        ("Comparison is made to prior exam of 3/4/2012.", ""),
        # Said of one film, or of one side against the other, or of the past of the patient.
        ("The right lung is smaller compared to the left.", "The right lung is smaller compared to the left."),
        ("Increased interstitial markings.", "Increased interstitial markings."),
        ("Sequelae of prior granulomatous disease.", "Sequelae of prior granulomatous disease."),
        ("Status post previous sternotomy.\n\nClear lungs.", "Status post previous sternotomy.\n\nClear lungs."),
    ],
)  # fmt: skip
def test_sentences(before, after):
    assert without_priors(before)[0] == after


def test_a_sentence_stays_where_a_finding_would_be_lost():
    assert without_priors(LOST) == (LOST, Counter({KEPT: 1}))
    half = "There is a large pleural effusion, which was also seen on prior exam of 3 years ago."
    assert without_priors(half) == (half, Counter({KEPT: 1}))


def test_training_reports_alone_are_changed_and_counted(tmp_path, capsys):
    rows = [
        ("a", f"Stable cardiomegaly. The mediastinum is stable. {LOST}", "train"),
        ("b", "Stable cardiomegaly.", "test"),
        ("c", "Unchanged.", "train"),
        ("d", "No effusion.", "train"),
    ]
    for name, _, _ in rows:
        write_film(tmp_path / "raw" / f"{name}.png", seed=ord(name))
    lines = [f'{name}.png,"{report}",{name},{split}' for name, report, split in rows]
    write_table(tmp_path / "raw" / "t.csv", "file,report,patient,split", *lines)
    options = {"table": "t.csv", "image_column": "file", "report_column": "report", "patient_column": "patient"}
    words = [word for name, value in {**options, "split_column": "split"}.items() for word in (f"--{name}", value)]
    main(["folder", "--raw", str(tmp_path / "raw"), "--out", str(tmp_path / "out"), "--drop_priors", *words])
    assert "1 training reports changed; of their sentences 1 changed, 2 left out, 1 kept" in capsys.readouterr().out
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["drop_priors"][CHANGED] == 1
    assert summary["drop_priors"][LEFT_OUT] == 2
    assert summary["skipped_reasons"] == {"report of earlier films alone": 1}
    reports = {split: rows["report"] for split, rows in load_dataset(str(tmp_path / "out")).items()}
    assert list(reports["train"]) == [f"Cardiomegaly. {LOST}", "No effusion."]
    assert list(reports["test"]) == ["Stable cardiomegaly."]
    arguments = PrepareArguments(raw=str(tmp_path / "raw"), out=str(tmp_path / "out"), num_workers=1)
    with pytest.raises(DataError, match="another"):
        prepare("folder", arguments, folder.Options(**options, split_column="split"))
