"""The finding extractor: what sentences say, how sentences add up, and how well it agrees with real MeSH headings."""

import re
from pathlib import Path

import pytest

from data_scripts.extraction import (
    ABNORMALITY_NAMES,
    FINDING_NAMES,
    extract_findings,
    phrases,
    present_abnormalities,
    report_labels,
    report_text,
    split_sentences,
)
from data_scripts.extraction.__main__ import main
from data_scripts.extraction.measure import Agreement, count_sections, measure, read_half
from data_scripts.loaders.open_i import MESH_LABELS, Report, read_reports
from data_scripts.reading.labels import CHEXPERT_LABELS
from data_scripts.schema import LABEL_VALUES, Skipped
from tests.conftest import load_raw_tree

SHORT = {
    **{"PE": "Pleural Effusion", "PTX": "Pneumothorax", "LO": "Lung Opacity", "SD": "Support Devices"},
    **{"EC": "Enlarged Cardiomediastinum", "CM": "Cardiomegaly", "AT": "Atelectasis", "PN": "Pneumonia"},
    **{"CO": "Consolidation", "FX": "Fracture", "ED": "Edema"},
}


def found(text: str) -> dict[str, int]:
    short = {name: abbreviation for abbreviation, name in SHORT.items()}
    return {short.get(name, name): value for name, value in extract_findings(text).items() if name != "No Finding"}


DENIED = """
CO=0 PE=0 PTX=0 | No focal consolidation, effusion or pneumothorax.
PTX=0 PN=0 PE=0 | Negative for pneumothorax, pneumonia, or effusion.
PE=0 PTX=0 | Neither effusion nor pneumothorax is present.
PE=0 PTX=0 | No effusion/pneumothorax.
PE=0 PTX=0 CO=0 | No pleural effusion or pneumothorax is seen, and no focal consolidation.
CO=0 | The lungs are free of consolidation.
CO=0 | No new consolidation.
PTX=0 | No definite pneumothorax.
Nodule=0 Lung Lesion=0 | No suspicious pulmonary nodules.
CM=0 | The heart is not enlarged.
SD=0 | No PICC line.
ED=0 | No signs of heart failure.
FX=0 | No acute fracture is identified.
PTX=0 | There is no evidence of a pneumothorax.
"""
DENIED_AFTERWARDS = """
PTX=0 | The pneumothorax has resolved.
PTX=0 | Pneumothorax is no longer seen.
PTX=0 | Pneumothorax is unlikely.
PTX=0 | Pneumothorax: none.
CO=0 | The previously seen consolidation has cleared.
CO=0 | There has been interval clearing of the left basilar consolidation.
ED=0 | Interval resolution of the pulmonary edema.
SD=0 | The endotracheal tube has been removed.
SD=0 | There has been removal of the right-sided PICC line.
PE=1 PTX=0 | Effusion is small and pneumothorax is not seen.
PN=0 | The patient has had a pneumonia that is no longer present.
"""
CHANGES_ARE_NO_DENIALS = """
PE=1 | No change in the right pleural effusion.
PE=1 | No significant interval change in bilateral effusions.
PE=1 | The effusion is not significantly changed.
PTX=1 | Without change in the left apical pneumothorax.
PE=1 | Effusions have decreased.
ED=1 | Pulmonary edema is improved but not resolved.
ED=1 | Edema has not completely resolved.
CM=1 | No evidence of change in cardiomegaly.
SD=1 PTX=1 | Interval placement of a chest tube with decrease in pneumothorax.
"""
SCOPES_END = """
PE=0 CO=0 | No effusion, consolidation or acute change.
PTX=0 PE=1 | No pneumothorax with small effusion.
CO=0 PE=0 PTX=0 CM=1 | There is no consolidation, pleural effusion, or pneumothorax, but mild cardiomegaly persists.
PTX=0 PE=1 | No pneumothorax. Stable small left pleural effusion.
PTX=0 PE=1 | No pneumothorax is seen and there is a small effusion.
PTX=0 CM=1 | There is no pneumothorax, and the heart is enlarged.
PE=1 PTX=0 | There is effusion, however no pneumothorax.
PE=1 PTX=0 | Large left pleural effusion without pneumothorax.
PN=0 CM=1 | No evidence of acute pneumonia, unchanged cardiomegaly.
AT=1 PN=0 PE=0 | Atelectasis, but no pneumonia or effusion.
PE=0 CM=1 | No pleural effusion.Heart is enlarged.
"""
DOUBTED = """
PN=-1 | Pneumonia cannot be excluded.
PN=-1 | Cannot exclude pneumonia.
PE=-1 | Small effusion not excluded.
LO=1 PN=-1 | Opacity concerning for pneumonia.
LO=1 PN=-1 | Opacities are less likely pneumonia.
LO=1 AT=1 | Bibasilar opacities, likely atelectasis.
AT=-1 PN=-1 | Atelectasis versus pneumonia at the left base.
AT=-1 PN=-1 | Atelectasis or early pneumonia.
ED=-1 | These findings may be secondary to pulmonary edema.
CM=1 PE=0 PN=-1 | Mild cardiomegaly, no effusion, possible pneumonia.
"""
NAMES = """
CM=1 | The cardiac silhouette is mildly to moderately enlarged.
CM=0 | Heart size is normal.
CM=0 EC=0 | The cardiomediastinal silhouette is unremarkable.
CM=0 | Heart size is normal with enlarged aorta.
CM=1 FX=0 | The heart is enlarged, and the bones are normal.
LO=0 CO=0 | The lungs are clear.
SD=1 PTX=0 | Right IJ central line terminates in the SVC. No pneumothorax.
SD=1 | ET tube and NG tube unchanged.
SD=1 | Dobbhoff tube in the stomach.
AT=1 | Unchanged right lower lobe collapse.
Hypoinflation=1 | Lung volumes are low.
Blunted Costophrenic Angle=1 | Blunting of the left costophrenic angle.
Tortuous Aorta=1 | The aorta is tortuous.
Pulmonary Congestion=1 ED=0 | Mild pulmonary vascular congestion without overt edema.
Pericardial Effusion=1 | Pericardial effusion.
 | Subcutaneous emphysema is present.
"""
NOT_JUDGED = """
 | Evaluate for pneumonia.
 | Rule out pneumonia.
 | History of tuberculosis.
 | If clinical concern for rib fracture persists, dedicated views would help.
 | The patient has been extubated.
 | Heart size is not normal.
"""


@pytest.mark.parametrize(
    "case",
    [
        line
        for table in (DENIED, DENIED_AFTERWARDS, CHANGES_ARE_NO_DENIALS, SCOPES_END, DOUBTED, NAMES, NOT_JUDGED)
        for line in table.strip("\n").splitlines()
    ],
)
def test_sentences(case):
    expected, text = case.split(" | ")
    values = {name.strip(): int(value) for name, value in re.findall(r"([A-Z][A-Za-z ]*)=(-?\d)", expected)}
    assert found(text) == values


def test_the_strongest_statement_of_a_report_counts():
    assert found("No effusion. Possible effusion.")["PE"] == -1
    assert found("Possible effusion. Small effusion. No effusion.")["PE"] == 1


def test_no_finding_allows_devices_alone():
    assert extract_findings("Lungs are clear. PICC line.")["No Finding"] == 1
    assert extract_findings("Possible pneumonia.")["No Finding"] == 0
    assert extract_findings("Scoliosis.")["No Finding"] == 0
    assert extract_findings(" \n") == {}


def test_no_finding_needs_a_statement():
    for text in (
        "See prior.",
        "Rule out pneumonia.",
        "Derrame pleural derecho.",
        "PICC in place.",
        "Not a normal film.",
    ):
        assert "No Finding" not in extract_findings(text), text
    for text in ("Normal chest.", "No acute disease.", "Unremarkable.", "The chest is clear.", "Nothing acute."):
        assert extract_findings(text) == {"No Finding": 1}, text
    # Findings and impression are two sentences, with or without a full stop.
    assert extract_findings(report_text("No effusion", "Edema"))["Edema"] == 1


def test_short_denials():
    for text in ("Resolved pneumothorax.", "Pneumothorax: No.", "Pneumothorax: absent", "Pneumothorax: none"):
        assert found(text)["PTX"] == 0, text
    assert found("Pneumothorax: no change.")["PTX"] == 1
    assert found("Resolved pneumothorax, persistent effusion.")["PE"] == 1


def test_labels_keep_the_vocabulary_and_its_order():
    labels = report_labels("No effusion. Cardiomegaly. Possible pneumonia.")
    assert [(one.name, one.value) for one in labels] == [
        ("No Finding", 0),
        ("Cardiomegaly", 1),
        ("Pneumonia", -1),
        ("Pleural Effusion", 0),
    ]
    assert all(one.value in LABEL_VALUES for one in labels)
    assert set(CHEXPERT_LABELS) <= set(FINDING_NAMES)
    assert set(MESH_LABELS) <= set(FINDING_NAMES), "every label of Open-I can be measured"


def test_exceptions_and_normal_statements_name_known_findings():
    named = {*phrases.EXCEPTIONS, *(name for names in phrases.NORMAL.values() for name in names)}
    assert named <= set(phrases.FINDINGS)


def test_every_phrase_is_found_by_its_own_words():
    """The words of a phrase, written out, are a mention of its finding (or of none, where an exception takes it)."""
    for finding, table in phrases.FINDINGS.items():
        for phrase in table:
            words = [word.split("|")[0] for word in phrase.split(" ") if word != "~"]
            text = " ".join(word.rstrip("?").replace("*", "") for word in words)
            assert extract_findings(text).get(finding) == 1, (finding, text)


def test_sentences_end_where_they_should():
    text = "1. A 1.5 cm nodule;no mass.Heart normal.<BR>\n\nSecond: w/o effusion"
    assert split_sentences(text) == ["a 1.5 cm nodule", "no mass", "heart normal", "second: without effusion"]


def test_agreement_counts():
    def report(text, *headings):
        return Report("CXR1", text, "", headings, ())

    reports = [
        report("Cardiomegaly.", "Cardiomegaly/mild"),
        report("Cardiomegaly.", "normal"),
        report("Normal.", "Cardiomegaly"),
        report("Possible cardiomegaly.", "Cardiomegaly/borderline"),
        # Nobody indexed it: it does not count.
        report("Cardiomegaly.", "No Indexing"),
    ]
    assert measure(reports)["Cardiomegaly"] == Agreement(both=2, told_only=1, indexed_only=1)
    strict = measure(reports, uncertain_is_present=False)["Cardiomegaly"]
    assert strict == Agreement(both=1, told_only=1, indexed_only=2)
    assert (strict.precision, round(strict.recall, 3), strict.f1) == (0.5, 0.333, 0.4)


def test_command(tmp_path, capsys):
    main(["measure", "--xml", str(load_raw_tree("open_i").build(tmp_path))])
    output = capsys.readouterr().out
    assert "a minute on one core" in output
    assert "| Cardiomegaly |" in output
    main(["show", "No effusion."])
    assert "'Pleural Effusion': 0" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="the report files"):
        main(["measure", "--xml", str(tmp_path / "nothing")])


def test_real_reports_agree_with_their_headings(real_cxr):
    """On the half of the real reports that the rules were not written from."""
    agreements = measure(read_half(real_cxr / "openi", "odd"))
    both = sum(one.both for one in agreements.values())
    assert both / sum(one.both + one.told_only for one in agreements.values()) > 0.9
    assert both / sum(one.both + one.indexed_only for one in agreements.values()) > 0.9
    for name in ("No Finding", "Cardiomegaly", "Atelectasis", "Pleural Effusion", "Lung Opacity"):
        assert agreements[name].f1 > 0.85, name


def test_real_reports_are_read_completely(real_cxr):
    reports = list(read_reports(real_cxr / "openi"))
    assert not any(isinstance(one, Skipped) for one in reports)
    counts = count_sections(reports)
    assert counts == {"reports": 500, "findings": 423, "impression": 495, "both": 422, "neither": 4, "indexed": 482}
    texts = [report_text(report.findings, report.impression) for report in reports]
    assert sum(bool(extract_findings(text)) for text in texts) > 0.95 * sum(bool(text) for text in texts)


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ("Free air under the diaphragm. No focal consolidation, pleural effusion or pneumothorax.", {"No Finding": 0}),
        ("No cardiomegaly with bilateral small effusions.", {"Cardiomegaly": 0, "Pleural Effusion": 1}),
        ("No consolidation with new left basilar atelectasis.", {"Consolidation": 0, "Atelectasis": 1}),
        ("Normal heart size with large left effusion.", {"Cardiomegaly": 0, "Pleural Effusion": 1}),
        (
            "Opacity suggestive of pneumonia, without effusion, edema or pneumothorax.",
            {"Pneumonia": -1, "Pleural Effusion": 0, "Edema": 0, "Pneumothorax": 0},
        ),
        ("Heart size is upper limits of normal or mildly enlarged.", {"Cardiomegaly": -1}),
        ("Heart size upper limits of normal.", {}),
        ("Please correlate clinically for pneumonia.", {"Pneumonia": None}),
        ("Pneumonia is in the differential.", {"Pneumonia": -1}),
        ("Left base opacity, with pneumonia in the differential.", {"Pneumonia": -1}),
        ("A fixation screw is fractured.", {"Fracture": None}),
        ("The heart is large.", {"Cardiomegaly": 1}),
        ("Borderline heart size.", {"Cardiomegaly": -1}),
        ("Heart size is borderline.", {"Cardiomegaly": -1}),
        ("Borderline cardiomegaly.", {"Cardiomegaly": -1}),
        ("Nodular opacity in the left base.", {"Lung Opacity": 1}),
        ("Pneumomediastinum. Lungs clear.", {"No Finding": 0}),
        ("Dextrocardia. No effusion.", {"No Finding": 0}),
        ("Cavity in the right apex. No effusion.", {"No Finding": 0}),
        ("No free air under the diaphragm. Lungs clear.", {"No Finding": 1}),
        ("No evidence of pneumothorax or pleural\neffusion.", {"Pneumothorax": 0, "Pleural Effusion": 0}),
        ("There is no evidence of\nPneumothorax.", {"Pneumothorax": 0}),
        (
            "NO FOCAL CONSOLIDATION\nLEFT PLEURAL EFFUSION\nTHE HEART IS NORMAL IN SIZE AND CONFIGURATION",
            {"Pleural Effusion": 1, "Consolidation": 0},
        ),
        ("Pneumothorax - none. Effusion - small on the left.", {"Pneumothorax": 0, "Pleural Effusion": 1}),
        ("Possible left effusion, no pneumothorax.", {"Pleural Effusion": -1, "Pneumothorax": 0}),
        ("No rib fracture -- mild cardiomegaly.", {"Fracture": 0, "Cardiomegaly": 1}),
        ("a) No effusion\nb) Cardiomegaly", {"Pleural Effusion": 0, "Cardiomegaly": 1}),
        ("Effusion is not seen on the current study.", {"Pleural Effusion": 0}),
        ("The effusion seen on the prior study is no longer seen.", {"Pleural Effusion": 0}),
        ("No effusion. Consolidation not visible on the earlier radiograph has developed.", {"Consolidation": 1}),
        ("Impression: No acute disease. Aortic aneurysm.", {"No Finding": 0}),
        ("Heart normal. Bones intact. Left-sided rib deformity.", {"No Finding": 0}),
    ],
)
def test_as_a_careful_reader(report, expected):
    """None: not judged at all. Line ends, bullets and dashes; times that are no denials; borders of a scope."""
    found = extract_findings(report)
    assert {name: found.get(name) for name in expected} == expected


SENTENCES = [
    line.split(" | ", 2)
    for line in (Path(__file__).parent / "extraction_sentences.txt").read_text().splitlines()
    if not line.startswith("#")
]


@pytest.mark.parametrize("kind", sorted({kind for kind, _, _ in SENTENCES}))
def test_sentences_of_our_own(kind):
    names = SHORT | {"NF": "No Finding"}
    wrong = []
    for _, told, text in (sentence for sentence in SENTENCES if sentence[0] == kind):
        findings = extract_findings(text.replace("\\n", "\n"))
        for name, _, value in (word.partition("=") for word in told.split()):
            if findings.get(names.get(name, name)) != (None if value == "-" else int(value)):
                wrong.append((text, name, value))
    assert wrong == []


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ("Free air under the right hemidiaphragm. No effusion.", {"Free Air"}),
        ("No free air. Possible cavity in the left apex.", set()),
        ("Cavity in the right apex, small effusion.", {"Cavity or Cyst", "Pleural Effusion"}),
        ("Dextrocardia and pneumomediastinum.", {"Situs Anomaly", "Pneumomediastinum"}),
        ("Status post lobectomy, with bronchiectasis.", {"Surgery", "Airway Disease"}),
        ("Chronic bronchitis or sarcoidosis?", {"Airway Disease", "Sarcoidosis or Dust Disease"}),
        ("Normal chest radiograph.", set()),
    ],
)
def test_abnormalities_without_a_name_among_the_findings_are_told_apart(report, expected):
    assert present_abnormalities(report) == expected
    assert expected <= set(ABNORMALITY_NAMES)


def test_every_abnormality_has_one_name():
    assert len(set(ABNORMALITY_NAMES)) == len(ABNORMALITY_NAMES)
