"""What tells who the patient is goes from report text where ids are hashed. All names are invented."""

import csv

import numpy as np
import pytest
from PIL import Image

from data_scripts.loaders import folder
from data_scripts.own_files.identities import Identity, identity_of, without_identity
from data_scripts.schema import DataError, Record, Skipped
from tests.dicom_files import ramp, write_dicom

SALT = "a-long-salt"
KNOWN = Identity(
    names=("INVENTED^ANNA", "Müller^Hans", "SMALL^ROSE"),
    ids=("00998877", "ACC1003", "19500102"),
    phrases=("House of Health",),
)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Mr. Invented has clear lungs.", "Mr. ___ has clear lungs."),
        ("Mrs. Inven-\nted, a non-\nsmoker", "Mrs. ___, a non-\nsmoker"),
        ("anna invented's film", "___'s film"),
        ("Mueller, muller and MÜLLER: clear", "___ and ___: clear"),
        ("ACC1003, acc-1003 and the prior ACC0999: clear", "___ and the prior ___: clear"),
        ("Ids 998877, 00-99-88-77 and 11223344.", "Ids ___ and ___."),
        ("MRN: 5, DOB 1/2/50, accession 77. Clear.", "___. Clear."),
        ("Of 01/02/2020, 2020-01-02, Jan 2, 2020 and 20200102.", "Of ___ and ___."),
        ("House of  Health, in 1950: clear", "___, in ___: clear"),
        ("Called to Dr. Q. Unknown and Jane Roe, RN, 555-123-4567.", "Called to Dr. ___ and ___."),
        ("Clear.\nElectronically signed by: Q. Unknown on Monday", "Clear.\n___"),
        ("A 93-year-old", "A 90-year-old"),
        # Names that are words of reports, numbers that are none of the patient's.
        ("Small effusion at Rose's base; Rose Small is well.", "Small effusion at Rose's base; ___ is well."),
        ("Nodule of 1.2 cm at T12, 3.5 x 2.1 cm, since 2019.", "Nodule of 1.2 cm at T12, 3.5 x 2.1 cm, since 2019."),
        ("THE LUNGS DO NOT SHOW EFFUSION. DR CHEST.", "THE LUNGS DO NOT SHOW EFFUSION. DR CHEST."),
        ("Electronically signed by: Q. Unknown", ""),
    ],
)
def test_what_is_known_and_what_looks_like_it_is_removed(text, left):
    assert without_identity(text, KNOWN) == left


@pytest.mark.parametrize("text", ["INVENTEDANNA: clear", "I N V E N T E D  A N N A: clear"])
def test_what_is_not_safely_removed_is_refused(text):
    with pytest.raises(DataError, match="not safely removed") as error:
        without_identity(text, KNOWN)
    assert "nvented" not in str(error.value).lower()


def test_columns_are_known_by_their_names_or_named():
    row = {"patient_name": "Anna Invented", "MRN": "12345", "file_name": "Clear", "referred": "", "note": "Foobar"}
    known = identity_of({}, row, ["note"], ["P-2000"])
    assert known.words == {"anna", "invented", "foobar"}
    assert without_identity("Foobar 12345 P2000 Clear", known) == "___ Clear"


def read(raw, **options) -> tuple[list[Record], list[Skipped]]:
    outcome = list(folder.read_records(raw, folder.Options(**options)))
    return tuple([one for one in outcome if isinstance(one, kind)] for kind in (Record, Skipped))


def test_the_header_tells_what_to_remove(tmp_path):
    header = {
        "PatientName": "Invented^Anna",
        "PatientBirthDate": "19500102",
        "ReferringPhysicianName": "Nobody^Q",
        "InstitutionName": "House of Health",
        "AccessionNumber": "ACC1003",
    }
    write_dicom(tmp_path / "films" / "1.dcm", ramp(12), **header)
    (tmp_path / "reports").mkdir()
    text = (
        "House of Health\nPatient: INVENTED, ANNA\n\nFINDINGS: Invented's lungs are clear, as in ACC0999.\n"
        "IMPRESSION: Normal, told Nobody. Born 1950.\nSigned by Q. Nobody\n"
    )
    (tmp_path / "reports" / "ACC1003.txt").write_text(text)
    options = {"reports": "reports", "image_root": "films"}
    (record,), _ = read(tmp_path, **options, hash_ids=SALT)
    assert record.report == "___'s lungs are clear, as in ___. Normal, told ___."
    (record,), _ = read(tmp_path, **options)
    assert "Invented" in record.report, "without hashed ids the text stays"
    (record,), _ = read(tmp_path, **options, hash_ids=SALT, parse_sections=False)
    assert not any(word in record.report for word in ("nvented", "INVENTED", "ACC", "1950", "House", "Nobody"))
    (tmp_path / "reports" / "ACC1003.txt").write_text("IMPRESSION: I n v e n t e d Anna is well.")
    records, (skipped,) = read(tmp_path, **options, hash_ids=SALT)
    assert (records, skipped.kind) == ([], "report may tell who the patient is")


def table(raw, header, *rows) -> None:
    for number in range(len(rows)):
        pixels = np.random.default_rng(number).integers(0, 256, (60, 70), dtype=np.uint8)
        Image.fromarray(pixels).save(raw / f"{number}.png")
    with (raw / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", *header), *((f"{n}.png", *row) for n, row in enumerate(rows))])


def test_the_table_tells_what_to_remove(tmp_path):
    row = ("INVENTED, ANNA", "Zulu", "MRN5577", "Zulu and Mr. Invented: MRN 5577 and MRN9900 are clear, 4711.", "4711")
    table(tmp_path, ("patient_name", "nurse", "pid", "text", "note"), row)
    options = {"table": "t.csv", "report_column": "text", "patient_column": "pid", "hash_ids": SALT}
    (record,), _ = read(tmp_path, **options)
    assert record.report == "Zulu and Mr. ___ and ___ are clear, 4711."
    (record,), _ = read(tmp_path, **options, identity_columns=["nurse"])
    assert record.report == "___ and Mr. ___ and ___ are clear, 4711."
    with pytest.raises(DataError, match="'norse' is missing"):
        read(tmp_path, **options, identity_columns=["norse"])


def test_words_for_blanks_in_a_table(tmp_path):
    rows = (("nan", "Normal.", "P1", "nan"), ("None", "N/A", "P2", "1"), ("Clear.", "NULL", "<NA>", "0"))
    table(tmp_path, ("text", "end", "pid", "Edema"), *rows)
    columns = {"findings_column": "text", "impression_column": "end", "label_columns": ["Edema"]}
    records, _ = read(tmp_path, table="t.csv", **columns)
    assert [record.report for record in records] == ["Normal.", "", "Clear."]
    assert [len(record.labels) for record in records] == [0, 1, 1]
    records, _ = read(tmp_path, table="t.csv", **columns, patient_column="pid")
    assert "<NA>" not in {record.patient_id for record in records}
    table(tmp_path, ("text", "found"), ("Clear.", "Edema|Nodule"), ("Clear.", "nan"))
    records, _ = read(tmp_path, table="t.csv", report_column="text", labels_column="found")
    assert [[label.name for label in record.labels] for record in records] == [["Edema", "Nodule"], []]
