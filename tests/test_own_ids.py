"""Whose film it is: shared accession numbers, studies without patients, and ids that mean nobody."""

import pytest

from data_scripts.loaders import folder
from data_scripts.own_files.ids import means_nobody, one_spelling
from data_scripts.prepare import PrepareArguments, prepare
from data_scripts.prepare.__main__ import main
from data_scripts.schema import DataError
from tests.dicom_files import ramp, write_dicom
from tests.test_own_files import film, read

SHARES = {"validation_share": 0.2, "test_share": 0.3}


def dicom(path, patient, study, accession):
    write_dicom(path, ramp(8), PatientID=patient, StudyInstanceUID=study, AccessionNumber=accession)


@pytest.mark.parametrize("other", [("S-9", "1.2.2"), ("N-1", "1.2.2"), ("S-9", "1.2.1"), ("", "1.2.2")])
def test_an_accession_number_of_several_patients_or_studies_finds_no_report(tmp_path, other):
    raw = tmp_path / "raw"
    dicom(raw / "d" / "north" / "a.dcm", "N-1", "1.2.1", "1001")
    dicom(raw / "d" / "south" / "b.dcm", *other, "1001")
    (raw / "reports").mkdir()
    (raw / "reports" / "1001.txt").write_text("Pneumothorax.")
    (raw / "t.csv").write_text("acc,report\n1001,Pneumothorax.\n")
    records, skipped = read(raw, image_root="d", reports="reports")
    assert not records
    assert {one.kind for one in skipped} == {"accession number is not unique"}
    records, skipped = read(raw, image_root="d", table="t.csv", match_column="acc", report_column="report")
    assert not records
    assert skipped[0].kind == "accession number is not unique"
    # Reports that are named after the path are sure.
    for site, name in (("north", "a"), ("south", "b")):
        (raw / "reports" / site).mkdir()
        (raw / "reports" / site / f"{name}.txt").write_text(site)
    records, _ = read(raw, image_root="d", reports="reports")
    assert sorted(one.report for one in records) == ["north", "south"]


def test_a_name_that_is_another_films_accession_number(tmp_path):
    raw = tmp_path / "raw"
    dicom(raw / "d" / "a.dcm", "P1", "1.2.1", "1001")
    dicom(raw / "d" / "1001.dcm", "P2", "1.2.2", "1002")
    (raw / "reports").mkdir()
    (raw / "reports" / "1001.txt").write_text("Of P1.")
    records, skipped = read(raw, image_root="d", reports="reports")
    assert [(one.image_path, one.report) for one in records] == [("d/a.dcm", "Of P1.")]
    assert [one.kind for one in skipped] == ["name is another film's accession number"]
    (raw / "t.csv").write_text("acc,report\n1001,Of P1.\n")
    _, skipped = read(raw, image_root="d", table="t.csv", match_column="acc", report_column="report")
    assert skipped[0].kind == "name is another film's accession number"


def test_a_key_in_rows_that_differ_is_refused(tmp_path):
    raw = tmp_path / "raw"
    for name in "abc":
        film(raw / f"{name}.png")
    (raw / "t.csv").write_text("name,report,patient\na,Clear.,P1\na,Mass.,P2\nb,Clear.,P3\nc,x,P4\nc,x,P5\n")
    options = {"table": "t.csv", "match_column": "name", "report_column": "report", "patient_column": "patient"}
    records, skipped = read(raw, **options)
    assert [one.image_path for one in records] == ["b.png"]
    assert {one.kind for one in skipped} == {"key in several rows", "film without a row"}


def test_a_patient_whose_id_is_written_in_two_ways_is_in_one_split(tmp_path):
    """Exports of two systems, of which one pads with zeros or writes capitals."""
    raw = tmp_path / "raw"
    ids = [(f"{number:08d}", str(number)) for number in range(4700, 4720)]
    ids += [(f"PX{number}", f"px{number}") for number in range(20)]
    rows = [f"{number}-{place}.png,Clear.,{name}" for number, pair in enumerate(ids) for place, name in enumerate(pair)]
    for row in rows:
        film(raw / row.split(",")[0])
    (raw / "t.csv").write_text("\n".join(["image,report,patient", *rows]) + "\n")
    options = folder.Options(table="t.csv", report_column="report", patient_column="patient", **SHARES)
    records = list(folder.read_records(raw, options))
    assert len(records) == 80
    owners = {one.image_path: (one.patient_id, one.split) for one in records}
    assert all(owners[f"{number}-0.png"] == owners[f"{number}-1.png"] for number in range(40))
    assert len({patient for patient, _ in owners.values()}) == 40
    assert len({split for _, split in owners.values()}) == 3
    assert options.notes[0].startswith("80 patient ids are those of 40 patients")


def test_ids_of_different_patients_stay_apart():
    assert one_spelling({"0012": 3, "12": 1, "120": 1, "0": 1, "A1": 2, "A01": 1, "a2": 1}) == {
        "0012": "0012",
        "12": "0012",
    }


@pytest.fixture
def studies(tmp_path):
    """Twenty studies of two films each, in a table and as DICOM without patients."""
    raw = tmp_path / "raw"
    rows = ["image,report,study"]
    for number in range(20):
        for view in ("pa", "lat"):
            film(raw / "png" / f"{number}{view}.png", 2 * number + (view == "pa"))
            rows.append(f"png/{number}{view}.png,Report.,S{number}")
            dicom(raw / "d" / f"{number}{view}.dcm", "", f"1.2.{number}", f"A{number}")
        (raw / "d" / f"A{number}.txt").write_text("Report.")
    (raw / "t.csv").write_text("\n".join(rows) + "\n")
    return raw


def splits_of(records):
    found = {}
    for one in records:
        found.setdefault(one.study_id, set()).add(one.split)
    return list(found.values())


def test_studies_without_patients_stay_together(studies):
    table = {"table": "t.csv", "report_column": "report", "study_column": "study"}
    for options in (table, {"image_root": "d", "reports": "d"}):
        records, _ = read(studies, **options, **SHARES)
        splits = splits_of(records)
        assert len(records) == 40
        assert len(splits) == 20
        assert all(len(one) == 1 for one in splits)
        assert len(set.union(*splits)) == 3
        assert {one.patient_id for one in records} == {one.study_id for one in records}


@pytest.mark.parametrize("word", ["ANONYMOUS", "MRN-4711"])
def test_one_id_for_most_of_the_corpus_is_no_patient(studies, word):
    for number in range(20):
        for view in ("pa", "lat"):
            # Without the study's UID its accession number tells it.
            patient = f"P{number}" if number < 4 else word
            dicom(studies / "d" / f"{number}{view}.dcm", patient, "", f"A{number}")
    options = folder.Options(image_root="d", reports="d", **SHARES)
    records = list(folder.read_records(studies, options))
    assert all(len(one) == 1 for one in splits_of(records))
    assert len({one.patient_id for one in records}) == 20
    assert len(options.notes) == 1
    assert "32 of 40 films" in options.notes[0]
    assert ("MRN" in options.notes[0]) is False, "what may be somebody's id is not shown"
    kept, _ = read(studies, image_root="d", reports="d", keep_patient_ids=True, **SHARES)
    assert len({one.patient_id for one in kept}) == 5


def test_a_patient_known_from_one_film_is_that_of_the_study(studies, tmp_path):
    dicom(studies / "d" / "0pa.dcm", "P7", "1.2.0", "A0")
    dicom(studies / "d" / "1pa.dcm", "P7", "1.2.1", "A1")
    records, _ = read(studies, image_root="d", reports="d", **SHARES)
    found = {one.patient_id for one in records if one.image_path[2:4] in ("0p", "0l", "1p", "1l")}
    assert len(found) == 1


def test_a_patient_with_many_films_of_a_small_corpus_is_one(tmp_path):
    raw = tmp_path / "raw"
    for number in range(8):
        film(raw / f"{number}.png", number)
    (raw / "t.csv").write_text("image,report,patient\n" + "".join(f"{n}.png,x,P1\n" for n in range(8)))
    records, _ = read(raw, table="t.csv", report_column="report", patient_column="patient")
    assert {one.patient_id for one in records} == {"P1"}


def test_words_that_mean_nobody():
    for word in ("Anonymized", "anonymous^", "UNKNOWN", "0000", "N/A", "<none>", "XXX", "?", "De-identified"):
        assert means_nobody(word), word
    for word in ("P0", "100", "MRN-0", "Nunn", "A", "x1", "anna"):
        assert not means_nobody(word), word


def test_unknown_patients_are_told_of_beside_known_ones(studies, tmp_path, capsys):
    dicom(studies / "d" / "0pa.dcm", "P1", "1.2.0", "A0")
    words = ["--image_root", "d", "--reports", "d", "--image_size", "32", "--num_workers", "1"]
    main(["folder", "--raw", str(studies), "--out", str(tmp_path / "out"), *words])
    assert "warning: 38 of 40 films have no patient id" in capsys.readouterr().out
    main(["folder", "--raw", str(studies), "--out", str(tmp_path / "out"), *words, "--dry_run"])
    assert "warning: 38 of 40 films have no patient id" in capsys.readouterr().out


def test_labels_or_films_alone_are_prepared_on_request(tmp_path):
    raw = tmp_path / "raw"
    for number in range(3):
        film(raw / f"{number}.png", number)
    (raw / "t.csv").write_text("image,Edema,patient\n0.png,1,a\n1.png,0,b\n2.png,,c\n")

    def written(**options):
        arguments = PrepareArguments(str(tmp_path / f"out{len(options)}"), str(raw), image_size=32, num_workers=1)
        arguments.allow_empty_reports = arguments.skip_bad = True
        return prepare("folder", arguments, folder.Options(validation_share=0, test_share=0, **options))

    with pytest.raises(DataError, match="--allow_empty_reports"):
        read(raw, table="t.csv", label_columns=["Edema"])
    assert written(table="t.csv", label_columns=["Edema"])["skipped_reasons"] == {"empty report": 1}
    assert written(table="t.csv")["written"] == 3
    (raw / "t.csv").unlink()
    assert written()["written"] == 3


@pytest.mark.parametrize(
    ("cell", "advice"),
    [
        ("RA-1", "--match_column image"),
        ("RA-1.PNG", "--match_column image"),
        ("/data/share/images/RA-1.png", "--match_column image"),
        ("ra-1.png", "small and capital letters differ"),
    ],
)
def test_names_that_are_not_quite_those_of_files_get_a_hint(tmp_path, cell, advice):
    raw = tmp_path / "raw"
    film(raw / "images" / "RA-1.png")
    (raw / "t.csv").write_text(f"image,report\n{cell},Clear.\n")
    records, skipped = read(raw, table="t.csv", image_root="images", report_column="report")
    assert not records
    assert skipped[0].kind == "image file missing"
    assert advice in skipped[0].reason
    if "match" in advice:
        for root in ("images", "."):
            options = {"table": "t.csv", "image_root": root, "report_column": "report", "match_column": "image"}
            assert [one.image_path for one in read(raw, **options)[0]] == ["images/RA-1.png"]


def test_a_path_of_another_machine_is_no_film_of_another_folder(tmp_path):
    raw = tmp_path / "raw"
    film(raw / "P2" / "1.png")
    (raw / "t.csv").write_text("image,report\n/data/P1/1.png,Clear.\n")
    records, skipped = read(raw, table="t.csv", match_column="image", report_column="report")
    assert not records
    assert "row without a film" in {one.kind for one in skipped}
