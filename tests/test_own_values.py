"""What hospitals write into their tables: it is read, or it is named, and never becomes nothing without a word."""

import json

import pandas as pd
import pytest
from PIL import Image

from data_scripts.check.__main__ import check_folder
from data_scripts.check.tables import check_texts
from data_scripts.own_files.options import Options
from data_scripts.own_files.table import labels_of, vocabulary_of
from data_scripts.prepare.__main__ import main
from data_scripts.prepared.folder import load_prepared
from data_scripts.reading.ages import parse_age
from data_scripts.reading.report_words import looks_foreign, says_nothing
from data_scripts.reading.tables import read_table, rows_of
from data_scripts.reading.views import normalise_sex, normalise_view, require_sex
from data_scripts.schema import DataError

NOTHING = (
    *(".", "---", "Report pending", "see dictation", "PENDING", "Dictated.", "no report available", "See above."),
    *("The report is not yet available", "Please see full report in PACS.", "not reported", "Test", "No formal report"),
    *("Awaiting report", "Please see the radiology report.", "See dictation.\nSee dictation.", "XXXX", "n.a.", "TBD"),
    *(
        "See impression.",
        "Please see findings section above.",
        "FINDINGS: Pending. IMPRESSION: Pending.",
        "Impression:",
        "siehe Befund",
        "Compte rendu en attente",
    ),
)
SAID = (
    "Normal.",
    "No change",
    "Clear.",
    "Stable",
    "no acute disease",
    "Dictated: clear lungs.",
    "Effusion pending tap",
    *(
        "See above. No change.",
        "Findings as above without change",
        "Findings: normal",
        "N",
        "Kein Befund",
        "No report of pain.",
        "无",
    ),
)
FOREIGN = (
    "Herz normal groß. Keine Infiltrate, kein Erguss, kein Pneumothorax. Zur Voraufnahme keine Änderung.",
    "Le cœur est de taille normale. Pas d'épanchement pleural ni de pneumothorax. Pas de foyer.",
    "Silueta cardíaca de tamaño normal. No se observan consolidaciones ni derrame pleural.",
    "Cuore di dimensioni normali. Non versamento pleurico, non addensamenti parenchimali in atto.",
    "Hart niet vergroot. Geen pleuravocht of pneumothorax. Longen zijn vrij en er is geen consolidatie.",
    "心影大小正常。两肺纹理清晰，未见实变影。",
)


@pytest.mark.parametrize("text", NOTHING)
def test_words_in_place_of_a_report_say_nothing(text):
    assert says_nothing(text)


@pytest.mark.parametrize("text", SAID)
def test_short_reports_say_something(text):
    assert not says_nothing(text)


def test_reports_in_other_languages_are_told():
    assert [text for text in FOREIGN if not looks_foreign(text)] == []
    english = (
        "The lungs are clear.",
        "Erguss links.",
        "Cardiomegaly. Edema.",
        "Small left effusion, otherwise no change",
        "No pneumothorax, pleural effusion or focal consolidation or edema.",
        "Cardiomegaly, mild pulmonary edema, small bilateral effusions, bibasilar atelectasis.",
    )
    assert [text for text in english if looks_foreign(text)] == []


def test_sexes_are_read_or_named():
    given = ("f", "Female ", "W", "männlich", "HOMME", "mujer", "D", "unknown", "n/a", "")
    assert [require_sex(text) for text in given] == ["F", "F", "F", "M", "M", "F", "O", None, None, None]
    for text in ("1", "2", "femail"):
        with pytest.raises(DataError, match=r"sex is .* write F, M, O"):
            require_sex(text)
        # A corpus or a DICOM header is not the user's to mend.
        assert normalise_sex(text) is None


@pytest.mark.parametrize(
    ("text", "years"),
    [
        *(
            ("45 years", 45),
            ("58,5", 58.5),
            ("6 months", 0.5),
            ("6mo", 0.5),
            ("018D", 0.05),
            ("44 y", 44),
            ("7 yrs old", 7),
        ),
        *(
            ("85 or more", 85),
            (">89", 89),
            ("90+", 90),
            ("45 yo", 45),
            ("sixty", None),
            ("200", None),
            ("4 5", None),
            ("45 yards", None),
            ("3 d 4", None),
        ),
    ],
)
def test_ages(text, years):
    assert parse_age(text) == years


def test_views_of_other_spellings():
    found = [normalise_view(text) for text in ("P-A", "a.-p.", "seitlich", "de profil", "latéral", "Thorax p.a.")]
    assert found == ["PA", "AP", "LATERAL", "LATERAL", "LATERAL", "PA"]


def prepare(folder, columns: dict, *words: str) -> dict:
    """One's own films with a table of these columns."""
    count = len(next(iter(columns.values())))
    for number in range(count):
        Image.linear_gradient("L").rotate(number).resize((64, 64)).save(folder / f"{number}.png")
    table = {
        "file": [f"{number}.png" for number in range(count)],
        "patient": [f"p{number}" for number in range(count)],
        **columns,
    }
    pd.DataFrame(table).to_csv(folder / "table.csv", index=False)
    given = ["--raw", str(folder), "--table", "table.csv", "--image_column", "file", "--patient_column", "patient"]
    given += ["--out", str(folder / "out"), "--image_size", "0", "--num_workers", "1", "--report_column", "report"]
    main(["folder", *given, *words])
    return json.loads((folder / "out" / "summary.json").read_text())


def test_labels_and_splits_in_words(tmp_path):
    words = ["Yes", "TRUE", "1.00", "nein", "0,0", "Absent", "uncertain", ""]
    splits = ["training", "Training", "train", "train", "testing", "test", "valid", "val"]
    columns = {"report": ["The lungs are clear."] * 8, "Edema": words, "part": splits}
    given = ("--label_columns", "Edema", "--split_column", "part", "--skip_bad")
    summary = prepare(tmp_path, columns, *given)
    assert summary["splits"] == {"train": 4, "validation": 2, "test": 2}
    rows = load_prepared(str(tmp_path / "out"), ("labels", "record_id"))
    found = {row["record_id"]: row["labels"] for split in rows.values() for row in split}
    values = [label["value"] for _, labels in sorted(found.items()) for label in labels]
    assert values == [1, 1, 1, 0, 0, 0, -1]


def test_a_report_that_says_nothing_is_left_out_and_counted(tmp_path, capsys):
    reports = ["See dictation.", ".", "The lungs are clear.", "Normal."]
    with pytest.raises(SystemExit, match=r"row 1: there is no report, but the words 'See dictation\.'"):
        prepare(tmp_path, {"report": reports})
    summary = prepare(tmp_path, {"report": reports}, "--skip_bad")
    assert summary["skipped_reasons"]["empty report"] == 2
    assert "do not look English" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("columns", "findings", "impression"),
    [
        ({"findings": ["See dictation."], "impression": ["Small effusion."]}, "", "Small effusion."),
        ({"findings": ["The lungs are clear."], "impression": ["As above."]}, "The lungs are clear.", ""),
        ({"report": ["FINDINGS: See impression.\nIMPRESSION: Small effusion."]}, "", "Small effusion."),
        ({"findings": ["See dictation. Small effusion."]}, "See dictation. Small effusion.", ""),
    ],
)
def test_a_section_that_says_nothing_leaves_the_other_one(tmp_path, columns, findings, impression):
    words = [word for name in columns if name != "report" for word in (f"--{name}_column", name)]
    prepare(tmp_path, {"report": [""], **columns}, *words)
    splits = load_prepared(str(tmp_path / "out"), ("findings", "impression", "report"))
    (row,) = (row for split in splits.values() for row in split)
    expected = {"findings": findings, "impression": impression, "report": f"{findings} {impression}".strip()}
    assert {name: row[name] for name in expected} == expected


def test_reports_in_another_language_are_noted(tmp_path, capsys):
    prepare(tmp_path, {"report": [*FOREIGN, "The lungs are clear."]}, "--skip_bad")
    assert f"warning: {len(FOREIGN)} of 7 reports do not look English" in capsys.readouterr().out
    kinds = {problem.kind: problem for problem in check_folder(tmp_path / "out")}
    assert len(kinds["reports that do not look English"].records) == len(FOREIGN)
    prepare(tmp_path, {"report": [*FOREIGN]}, "--skip_bad", "--language", "de", "--out", str(tmp_path / "de"))
    assert "do not look English" not in capsys.readouterr().out


def test_the_check_finds_reports_that_say_nothing(tmp_path):
    prepare(tmp_path, {"report": ["Clear.", "Clear."]}, "--skip_bad")
    rows = pd.DataFrame({"report": ["see dictation", "Clear.", ""], "record_id": ["a", "b", "c"], "language": "en"})
    (problem,) = check_texts(rows.assign(patient_id=["1", "2", "3"]))
    assert (problem.kind, problem.records, problem.is_error) == ("reports that say nothing", ("a",), True)


@pytest.mark.parametrize(
    "cells",
    [
        ["Edema|Mass", "Mass", "todo", "[]"],
        ["['Edema', 'Mass']", "['Mass']", "todo", "[]"],
        ['["Edema", "Mass", null]', '["Mass"]', "todo", "[]"],
        [["Edema", "Mass"], ["Mass"], None, []],
    ],
)
def test_findings_listed_in_one_cell(tmp_path, cells):
    table = pd.DataFrame({"found": cells})
    table.to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    table, options = read_table(tmp_path / "t.jsonl"), Options(labels_column="found", unlabelled_values=["todo"])
    vocabulary = vocabulary_of(table, options)
    found = [{label.name: label.value for label in labels_of(row, vocabulary, options)} for _, row in rows_of(table)]
    assert found == [{"Edema": 1, "Mass": 1}, {"Edema": 0, "Mass": 1}, {}, {"Edema": 0, "Mass": 0}]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["Edema; Mass", "Edema"], r"seems to be several findings: give --label_separator ';', or '\|' if"),
        (["['Edema' 'Mass']", "['Mass']"], r"\"\['Edema' 'Mass'\]\" has brackets, but is no list"),
        (["{Edema,Mass}", "{Mass}"], "has brackets, but is no list"),
        (["1", "0", ""], r"lists no findings but \['0', '1'\].*--label_columns"),
        (["Edema|Mass", "edema"], r"lists 'edema' and 'Edema'|lists 'Edema' and 'edema'"),
    ],
)
def test_findings_that_would_be_taken_for_others(cells, message):
    with pytest.raises(DataError, match=message):
        vocabulary_of(pd.DataFrame({"found": cells}), Options(labels_column="found"))
    # A name with a slash alone is one finding, and so is what is said to be one.
    assert vocabulary_of(pd.DataFrame({"found": ["Mass/Nodule", "Edema"]}), Options(labels_column="found"))


def test_a_separator_that_was_given_is_taken_and_a_doubt_noted():
    options = Options(labels_column="found", label_separator="|")
    assert vocabulary_of(pd.DataFrame({"found": ["Mass, left|Edema", "Mass"]}), options) == [
        "Edema",
        "Mass",
        "Mass, left",
    ]
    (note,) = options.notes
    assert "'Mass, left' seems to be several findings, but --label_separator is '|'" in note


def test_what_was_doubted_of_the_table_is_said_at_the_end(tmp_path, capsys):
    columns = {"report": ["Clear."] * 2, "found": ["Mass, left", "Mass"]}
    prepare(tmp_path, columns, "--labels_column", "found", "--label_separator", "|")
    said = capsys.readouterr().out
    assert said.count("'Mass, left' seems to be several findings, but --label_separator is '|'") == 1
