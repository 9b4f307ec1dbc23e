"""Reports of hospitals: sub-headers, addenda, one-line texts, markup, signatures, blanks. All are invented."""

import time

import pytest

from data_scripts.reading.blanks import cell
from data_scripts.reading.markup import plain_text
from data_scripts.reading.plain_reports import parse_plain_report
from data_scripts.schema import DataError

BODY = ("HISTORY: Pneumonia.", "FINDINGS: Lungs are clear.", "No effusion", "or edema.", "IMPRESSION: Normal.")
RIGHT = ("Lungs are clear.\nNo effusion\nor edema.", "Normal.")
SHORT = ("Lungs are clear.", "Normal.")


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        ("FINDINGS: clear\nIMPRESSION: normal", ("clear", "normal")),
        ("Name: X\r\nFindings:\r\n  Two\r\n  lines.\r\n\r\nConclusion: ok", ("Two\nlines.", "ok")),
        ("HISTORY: cough\n\nIMPRESSION:\nnormal", ("", "normal")),
        ("The lungs are clear.", None),
        ("HISTORY: cough", ("", "")),
        ("HISTORY: cough\n\nThe lungs are clear.", ("The lungs are clear.", "")),
        ("INDICATION: Cough.\n\nThe heart is large.\n\nIMPRESSION: Large.", ("The heart is large.", "Large.")),
        ("HISTORY:\n\nCough.\n\nPossible pneumonia.\n\nIMPRESSION: Normal.", ("", "Normal.")),
        ("FINDINGS: nan\nIMPRESSION: Normal.", ("", "Normal.")),
    ],
)
def test_findings_and_impression(text, sections):
    assert parse_plain_report(plain_text(text)) == sections


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        (
            "Klinische Angaben: Husten, Pneumonie?\nBefund: Keine Infiltrate.\nBeurteilung: Keine Pneumonie.",
            ("Keine Infiltrate.", "Keine Pneumonie."),
        ),
        (
            "Fragestellung: Pneumonie? Befund: Herz normal groß. Beurteilung: Unauffällig.",
            ("Herz normal groß.", "Unauffällig."),
        ),
        ("Klinische Angaben: Husten.\n\nHerz normal.\n\nBeurteilung: Normal.", ("Herz normal.", "Normal.")),
        ("Befund: Tubus. Empfehlung: CT.\nNachtrag: Rundherd.", ("Tubus. Empfehlung: CT.", "Rundherd.")),
        (
            "RENSEIGNEMENTS CLINIQUES : pneumopathie ?\nRÉSULTATS : Pas d'épanchement.\nCONCLUSION : Normal.",
            ("Pas d'épanchement.", "Normal."),
        ),
        ("DATOS CLÍNICOS: tos.\nHALLAZGOS: Sin infiltrados.\nIMPRESIÓN: Normal.", ("Sin infiltrados.", "Normal.")),
        ("Datos clinicos: tos.\nDescripcion: Sin derrame.\nConclusion: Normal.", ("Sin derrame.", "Normal.")),
        (
            "Indicação clínica: tosse.\nAchados: Derrame à direita.\nConclusão: Derrame.",
            ("Derrame à direita.", "Derrame."),
        ),
        (
            "Quesito clinico: polmonite?\nReferto: Non versamento.\nConclusioni: Normale.",
            ("Non versamento.", "Normale."),
        ),
        (
            "Klinische gegevens: hoest.\nVerslag: Geen infiltraat.\nConclusie: Normaal.",
            ("Geen infiltraat.", "Normaal."),
        ),
    ],
)
def test_the_question_asked_is_no_finding_in_other_languages_either(text, sections):
    assert parse_plain_report(text) == sections


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        ("FINDINGS:\nLUNGS: Clear.\nPLEURA: Effusion.\n\nIMPRESSION: ok", ("LUNGS: Clear.\nPLEURA: Effusion.", "ok")),
        ("FINDINGS: Pneumothorax.\nLATERAL VIEW: Effusion.", ("Pneumothorax.\nLATERAL VIEW: Effusion.", "")),
        ("FINDINGS:\nTUBES/LINES: None.\nOTHER: Rib.", ("TUBES/LINES: None.\nOTHER: Rib.", "")),
        # No header FINDINGS at all, one behind a comparison, one with a comparison inside.
        ("HISTORY: x\nLungs: Clear.\nHeart: Large.\nIMPRESSION: y", ("Lungs: Clear.\nHeart: Large.", "y")),
        ("EXAM: PA. COMPARISON: None. LUNGS: Clear. IMPRESSION: y", ("LUNGS: Clear.", "y")),
        ("FINDINGS:\nCOMPARISON: 2019.\nLungs are clear.\nIMPRESSION: y", ("Lungs are clear.", "y")),
        ("FINDINGS: a\nIMPRESSION: b\nFINDINGS: c\nIMPRESSION: d", ("a\nc", "b\nd")),
        ("FINDINGS: a\nADDITIONAL FINDINGS: b\nPREVIOUS FINDINGS: c\nIMPRESSION: d", ("a\nb", "d")),
        ("FINDINGS: a\nIMPRESSION: b\nADDENDUM: c\nIMPRESSION: d", ("a", "b\nc\nd")),
        ("*** ADDENDUM #1 ***\nNodule.\n*** END OF ADDENDUM ***\nFINDINGS: a\nIMPRESSION: b", ("a", "Nodule.\nb")),
        ("Lungs are clear.\n\nADDENDUM: nodule.", ("Lungs are clear.", "nodule.")),
        ("FINDINGS: Nodule. Location: apex.\nIMPRESSION: b", ("Nodule. Location: apex.", "b")),
        ("FINDINGS: See below.\nIMPRESSION: b\nFINDINGS: c\nADDENDUM: As above.", ("c", "b")),
        ("FINDINGS: See below.\nIMPRESSION: b", ("See below.", "b")),
    ],
)
def test_no_text_is_lost_at_subheaders_and_repeats(text, sections):
    assert parse_plain_report(text) == sections


@pytest.mark.parametrize(
    "text",
    [
        "EXAM: PA. HISTORY: Pneumonia. FINDINGS: Lungs are clear. IMPRESSION: Normal.",
        "history: pneumonia. Findings: Lungs are clear. Impression: Normal.",
        "HISTORY Pneumonia. FINDINGS Lungs are clear. IMPRESSION Normal.",
        "HISTORY: PneumoniaFINDINGS:Lungs are clear.IMPRESSION:Normal.".replace("aF", "a\nF"),
        "HISTORY\nPneumonia.\nFINDINGS\nLungs are clear.\nIMPRESSION\nNormal.",
        "Clinical history\nPneumonia.\nFindings\n--------\nLungs are clear.\nImpression\nNormal.",
        "**HISTORY:** Pneumonia.\n**FINDINGS:** Lungs are clear.\n## Impression\nNormal.",
        "HISTORY - Pneumonia.\nFINDINGS - Lungs are clear.\nIMPRESSION：Normal.",
    ],
)
def test_history_is_no_finding_however_headers_are_written(text):
    assert parse_plain_report(text) == SHORT


def test_words_at_the_begin_of_a_line_are_not_always_headers():
    text = "FINDINGS ARE CONSISTENT WITH EDEMA. HEART LARGE."
    assert parse_plain_report(text) is None
    text = "FINDINGS: Prior CABG: wires.\nIn comparison: larger.\nIMPRESSION: b\nDr. Doe was called.\nVerified by CT."
    assert parse_plain_report(text) == (
        "Prior CABG: wires.\nIn comparison: larger.",
        "b\nDr. Doe was called.\nVerified by CT.",
    )


@pytest.mark.parametrize(
    "signature",
    [
        "Electronically signed by: Q. Invented, MD on 03/04/2021\nPatient: INVENTED, ANNA",
        "Dictated by Q Invented",
        "Reported by Dr. Quentin Invented, FRCR",
        "Q. Invented, M.D.\nRadiology",
        "Dr. Quentin Invented",
        "MRN: 00998877",
    ],
)
def test_sections_end_at_signatures(signature):
    assert parse_plain_report(f"FINDINGS: a\nIMPRESSION: b\n{signature}\n") == ("a", "b")
    assert parse_plain_report(f"FINDINGS: a\nIMPRESSION: b\n{signature}\nADDENDUM: c") == ("a", "b\nc")


def test_a_letterhead_is_no_finding():
    text = "House of Health\nPatient: INVENTED, BORIS   MRN: 0011\nAccession: ACC1\n\nChest PA. Clear lungs.\n"
    assert parse_plain_report(text) == ("Chest PA. Clear lungs.", "")


@pytest.mark.parametrize(
    "text",
    [
        "\\.br\\".join(BODY),
        "\\E\\.br\\E\\".join(BODY),
        "\\X0D0A\\".join(BODY),
        "~".join(BODY),
        "<br>".join(BODY),
        "&lt;BR/&gt;".join(BODY),
        "<html><head><style>p {}</style></head><p>" + "</p>\n<p>".join(BODY) + "</p></html>",
        "\\n".join(BODY),
        "\\r\\n".join(BODY),
        "\r".join(BODY),
        "_x000D_\n".join(BODY),
        "{\\rtf1\\ansi{\\fonttbl{\\f0 Arial;}}{\\info{\\author HISTORY: Anna}}\\f0\\fs20 "
        + "\\par\n".join(BODY)
        + "\\par}",
    ],
)
def test_markup_is_undone(text):
    assert parse_plain_report(plain_text(text)) == RIGHT


def test_characters_of_markup():
    assert plain_text("Effusion &lt; 1 cm, ~2 cm &amp; a < b > c") == "Effusion < 1 cm, ~2 cm & a < b > c"
    assert plain_text("a\\T\\b \\H\\c\\N\\ \\u00e9") == "a&b c é"
    rtf = "{\\rtf1\\ansi\\ansicpg1252\\uc1 \\'e9 \\u233?x \\{y\\}{\\v hidden}{\\*\\generator Z;}\\line z}"
    assert plain_text(rtf) == "é éx {y}\nz"
    assert plain_text("a\u200b\x00b\xa0c") == "ab c"


@pytest.mark.parametrize(
    "text", ["MSH|^~\\&|RIS", "<?xml version='1.0'?><ClinicalDocument/>", "{\\rtf1 {\\pict\\bin4 abcd}}"]
)
def test_whole_messages_and_binary_parts_are_refused(text):
    with pytest.raises(DataError, match=r"report|RTF"):
        plain_text(text)


def test_words_for_blank_cells():
    assert [cell(text) for text in (" nan", "None", "NULL ", "N/A", "<NA>", "NaT", "#N/A")] == [""] * 7
    assert [cell(text) for text in ("None.", "Nan Li", " 0 ", "normal")] == ["None.", "Nan Li", "0", "normal"]


def test_long_texts_take_no_time():
    begin = time.perf_counter()
    for text in ("findings: " * 5000, "A" * 100_000, "." * 100_000, "FINDINGS\n" * 5000, "Dr A " * 20_000):
        parse_plain_report(text)
    assert time.perf_counter() - begin < 20
