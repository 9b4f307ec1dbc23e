"""Somebody's own films: nested DICOM, report files, tables that match by accession, mappings, hashed ids."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from datasets import load_dataset
from PIL import Image

from data_scripts.loaders import folder
from data_scripts.prepare import PrepareArguments, prepare
from data_scripts.prepare.__main__ import main
from data_scripts.schema import DataError, Label, Record, Skipped
from tests.dicom_files import ramp, write_dicom
from tests.film_files import write_film

SALT = "a-long-salt"
SECRETS = ("MRN-77", "Example", "Anna", "1.2.3.77", "ACC-1", "19700101", "House of Health", "1.2.840.555.1")


def film(path: Path, seed: int = 0) -> None:
    write_film(path, (70, 60), seed=seed)


@pytest.fixture
def hospital(tmp_path) -> Path:
    """Two films of one patient, one of another, a lateral, a hand, a CT slice; reports by accession or file name."""
    raw = tmp_path / "hospital"
    person = {
        "PatientBirthDate": "19700101",
        "InstitutionName": "House of Health",
        "PatientAge": "093Y",
        "PatientSex": "F",
    }
    one = {**person, "AccessionNumber": "ACC-1"}
    write_dicom(raw / "a" / "1.2.840.555.1", ramp(12), **one)
    write_dicom(raw / "a" / "b" / "lat.dcm", ramp(12)[:, ::-1].copy(), ViewPosition="LL", **one)
    other = {"PatientID": "MRN-88", "StudyInstanceUID": "1.2.3.88", "ViewPosition": "AP", "PatientAge": "006M"}
    write_dicom(raw / "c" / "x.dicom", ramp(8).T.copy(), AccessionNumber="ACC-2", **other)
    write_dicom(raw / "c" / "hand.dcm", ramp(8), BodyPartExamined="HAND", **person)
    write_dicom(raw / "c" / "ct.dcm", ramp(8), Modality="CT", **person)
    film(raw / "plain.png")
    (raw / "DICOMDIR").write_bytes(b"directory")
    (raw / "reports").mkdir()
    (raw / "reports" / "ACC-1.txt").write_text("Clear lungs.", encoding="utf-8-sig")
    (raw / "reports" / "x.txt").write_bytes("Œdème? No: café-au-lait opacity.".encode("cp1252", "replace"))
    (raw / "reports" / "plain.txt").write_text("Normal film.")
    (raw / "reports" / "nobody.txt").write_text("A report of no film.")
    return raw


def read(raw: Path, **options) -> tuple[list[Record], list[Skipped]]:
    outcome = list(folder.read_records(raw, folder.Options(**options)))
    return tuple([one for one in outcome if isinstance(one, kind)] for kind in (Record, Skipped))


def test_nested_dicom_with_report_files(hospital):
    records, skipped = read(hospital, reports="reports")
    found = {record.image_path: record for record in records}
    assert set(found) == {"a/1.2.840.555.1", "a/b/lat.dcm", "c/x.dicom", "plain.png"}
    first, lateral, other = found["a/1.2.840.555.1"], found["a/b/lat.dcm"], found["c/x.dicom"]
    assert (first.report, lateral.report) == ("Clear lungs.", "Clear lungs."), "one accession number, two films"
    assert "caf" in other.report
    assert "opacity" in other.report
    assert (first.view, lateral.view, other.view, found["plain.png"].view) == ("PA", "LATERAL", "AP", "UNKNOWN")
    assert first.patient_id == lateral.patient_id != other.patient_id
    assert first.study_id == lateral.study_id != other.study_id
    assert (first.age_years, first.sex) == (None, None), "not asked for"
    assert {(one.key, one.kind) for one in skipped} == {
        ("c/hand.dcm", "other body part"),
        ("c/ct.dcm", "other modality"),
        ("reports/nobody.txt", "report without a film"),
    }


def test_options_accept_what_the_rules_reject(hospital):
    records, _ = read(hospital, reports="reports", any_body_part=True, modalities=["DX", "CT"], dicom_age_sex=True)
    found = {record.image_path: record for record in records}
    assert {"c/hand.dcm", "c/ct.dcm"} <= set(found)
    assert (found["a/1.2.840.555.1"].age_years, found["a/1.2.840.555.1"].sex) == (90, "F"), "above 89 is 90"
    assert found["c/x.dicom"].age_years == 0.5


def test_views_left_out_on_request_stop_nothing(hospital, tmp_path):
    options = folder.Options(reports="reports", views=["PA", "AP"], any_body_part=True, modalities=["DX", "CT"])
    (hospital / "reports" / "nobody.txt").unlink()
    arguments = PrepareArguments(out=str(tmp_path / "out"), raw=str(hospital), image_size=32, num_workers=1)
    with pytest.raises(DataError, match="the report is empty"):
        prepare("folder", arguments, options)
    for name in ("hand", "ct"):
        (hospital / "reports" / f"{name}.txt").write_text("A report.")
    summary = prepare("folder", arguments, options)
    assert summary["skipped_reasons"] == {"other view": 2}
    assert summary["read"] == 6


def test_no_identifying_tag_is_copied(hospital, tmp_path):
    def everything(out: Path) -> str:
        """All rows and all other files of the dataset, as text."""
        rows = [str({**row, "image": None}) for split in load_dataset(str(out)).values() for row in split]
        files = [path.read_bytes().decode("latin-1") for path in out.rglob("*") if path.is_file()]
        fingerprints = [str(path) for path in out.rglob("*.fingerprints.parquet")]
        assert fingerprints
        return "\n".join(rows + files)

    (hospital / "a" / "1.2.840.555.1").rename(hospital / "a" / "film-one")
    for name, options in (("numbers", {}), ("hashed", {"hash_ids": SALT})):
        out = tmp_path / name
        arguments = PrepareArguments(str(out), str(hospital), image_size=32, num_workers=1, skip_bad=True)
        prepare("folder", arguments, folder.Options(reports="reports", **options))
        text = everything(out)
        for secret in (*SECRETS, SALT):
            assert secret not in text, (name, secret)


def test_hashed_ids_replace_all_ids_and_depend_on_the_salt(hospital):
    records, _ = read(hospital, reports="reports", hash_ids=SALT)
    again, _ = read(hospital, reports="reports", hash_ids=SALT)
    others, _ = read(hospital, reports="reports", hash_ids=SALT + "!")
    assert records == again
    for record, other in zip(records, others, strict=True):
        key = record.record_id.removeprefix("folder/")
        for value in (key, record.patient_id, record.study_id):
            assert len(value) == 16
            int(value, 16)
        assert record.patient_id != other.patient_id
        assert record.record_id != other.record_id
    assert len({record.patient_id for record in records}) == 3
    with pytest.raises(ValueError, match="can be guessed"):
        folder.Options(hash_ids="short")


def test_a_table_is_matched_by_accession_or_file_name(hospital):
    rows = ["acc;x", "ACC-1,Clear.,1", "x,Opacity.,0", "ACC-9,Nothing.,1", "plain,Normal.,2"]
    (hospital / "export.csv").write_text("\n".join(["number,text,Edema", *rows[1:]]))
    records, skipped = read(
        hospital, table="export.csv", match_column="number", report_column="text", label_columns=["Edema"]
    )
    assert [(one.image_path, one.report) for one in records] == [
        ("a/1.2.840.555.1", "Clear."),
        ("a/b/lat.dcm", "Clear."),
        ("c/x.dicom", "Opacity."),
    ]
    assert {(one.key, one.kind) for one in skipped} == {
        ("export.csv row 3", "row without a film"),
        ("export.csv row 4", "unknown label value"),
        ("c/hand.dcm", "film without a row"),
        ("c/ct.dcm", "film without a row"),
    }


def test_patients_from_folder_names_and_windows_paths(tmp_path):
    raw = tmp_path / "raw"
    for number, name in enumerate(("P1/a.png", "P1/b.png", "P2/c.png")):
        film(raw / name, number)
    (raw / "films.csv").write_text("image,report\nP1\\a.png,A.\nP1/b.png,B.\nP2\\c.png,C.\n")
    records, skipped = read(raw, table="films.csv", report_column="report", patient_pattern=r"^(P\d+)/")
    assert [record.patient_id for record in records] == ["P1", "P1", "P2"]
    assert not skipped
    _, skipped = read(raw, table="films.csv", report_column="report", patient_pattern="(Q)")
    assert {one.kind for one in skipped} == {"patient not found"}
    with pytest.raises(ValueError, match="has no group"):
        folder.Options(patient_pattern="P1")


def test_masks_are_columns(tmp_path):
    raw = tmp_path / "raw"
    for name in ("a.png", "b.png"):
        film(raw / "films" / name)
    (raw / "masks").mkdir()
    Image.new("1", (70, 60), 1).save(raw / "masks" / "a.png")
    (raw / "t.csv").write_text("image,lung\na.png,masks/a.png\nb.png,\n")
    arguments = PrepareArguments(str(tmp_path / "out"), str(raw), image_size=32, num_workers=1, skip_bad=True)
    arguments.allow_empty_reports = True
    options = folder.Options(
        table="t.csv",
        image_root="films",
        findings_column="lung",
        mask_columns=["lung"],
        validation_share=0,
        test_share=0,
    )
    summary = prepare("folder", arguments, options)
    assert summary["masks"] == {"lung": 1}
    assert summary["skipped_reasons"] == {"empty report": 1}
    (row,) = load_dataset(str(tmp_path / "out"), split="train")
    assert np.asarray(row["masks"][0]["image"]).min() == 255


def test_a_mapping_file_takes_the_place_of_arguments(tmp_path):
    raw, path = tmp_path / "raw", tmp_path / "own.yaml"
    film(raw / "a.png")
    (raw / "films.csv").write_text("path,report\na.png,Clear.\n")
    path.write_text(
        "table: films.csv\nimage_column: file\nreport_column: report\nvalidation_share: 0.5\ntest_share: 0\n"
    )
    words = ["folder", "--raw", str(raw), "--mapping", str(path), "--image_size", "32", "--num_workers", "1"]
    # One argument is given against the mapping, one at its default.
    main([*words, "--out", str(tmp_path / "out"), "--image_column", "path", "--validation_share", "0.1"])
    options = json.loads((tmp_path / "out" / "summary.json").read_text())["options"]
    assert (options["table"], options["image_column"], options["test_share"]) == ("films.csv", "path", 0)
    assert options["validation_share"] == 0.1, "the command line comes first, the default too"
    for text, message in (
        ("image_colum: file", "no argument 'image_colum', the closest is 'image_column'"),
        ("label_columns: Edema", "label_columns is 'Edema', expected is list"),
        ("patient_column: 3", "patient_column is 3, expected is text"),
        ("just words", "lines of the form"),
        ("a: [", "not YAML"),
    ):
        path.write_text(text)
        with pytest.raises(SystemExit, match=message):
            main([*words, "--out", str(tmp_path / "out")])
    path.unlink()
    with pytest.raises(SystemExit, match="no such file"):
        main([*words, "--out", str(tmp_path / "out")])


def test_folders_that_are_not_there(tmp_path, hospital):
    with pytest.raises(DataError, match="nothing tells the reports"):
        read(hospital)
    with pytest.raises(DataError, match="no such folder of reports"):
        read(hospital, reports="texts")
    with pytest.raises(DataError, match="no such folder of images"):
        read(hospital, reports="reports", image_root="films")


def test_files_of_one_name_are_told_apart_by_their_folder_or_refused(tmp_path):
    raw = tmp_path / "raw"
    for number, patient in enumerate(("P1", "P2")):
        film(raw / "films" / patient / "1.png", number)
        (raw / "texts" / patient).mkdir(parents=True)
        (raw / "texts" / patient / "1.txt").write_text(f"Report of {patient}.")
    records, skipped = read(raw, image_root="films", reports="texts")
    assert [(one.image_path, one.report) for one in records] == [
        ("films/P1/1.png", "Report of P1."),
        ("films/P2/1.png", "Report of P2."),
    ]
    assert not skipped
    # Without the folder, either could be meant.
    (raw / "films" / "P1").rename(raw / "films" / "P3")
    _, skipped = read(raw, image_root="films", reports="texts")
    assert [(one.key, one.kind) for one in skipped] == [
        ("films/P3/1.png", "name is not unique"),
        ("texts/P1/1.txt", "report without a film"),
    ]
    # Nor is the only report of its name that of any patient.
    (raw / "films" / "P2" / "1.png").unlink()
    shutil.rmtree(raw / "texts" / "P2")
    assert {one.kind for one in read(raw, image_root="films", reports="texts")[1]} == {
        "report in another folder",
        "report without a film",
    }
    film(raw / "films" / "P2" / "1.png")
    (raw / "t.csv").write_text("name,text\n1,Which?\nP2/1,This.\nP4/1,Of a film that is not there.\n")
    records, skipped = read(raw, table="t.csv", image_root="films", match_column="name", report_column="text")
    assert [(one.image_path, one.report) for one in records] == [("films/P2/1.png", "This.")]
    assert {one.kind for one in skipped} == {"name is not unique", "film without a row", "row without a film"}


def test_files_of_unknown_kind_are_listed(hospital):
    (hospital / "film.img").write_bytes(b"raw pixels" * 100)
    _, skipped = read(hospital, reports="reports")
    assert ("film.img", "file of unknown kind") in {(one.key, one.kind) for one in skipped}


def test_real_dicom_is_accepted_or_rejected_by_rule(real_cxr, tmp_path):
    (tmp_path / "raw").mkdir()
    for name in ("RG1_J2KI", "RG3_J2KI"):
        shutil.copy(real_cxr / "dicom" / f"{name}.dcm", tmp_path / "raw")
        (tmp_path / "raw" / f"{name}.txt").write_text("A report.")
    raw = tmp_path / "raw"
    records, skipped = read(raw, reports=".")
    assert [(one.image_path, one.view) for one in records] == [("RG1_J2KI.dcm", "PA")]
    assert [(one.key, one.kind) for one in skipped] == [("RG3_J2KI.dcm", "other body part")]
    records, skipped = read(raw, reports=".", any_body_part=True)
    assert len(records) == 2


def test_a_dry_run_shows_and_writes_nothing(hospital, tmp_path, capsys):
    out = tmp_path / "out"
    main(["folder", "--raw", str(hospital), "--out", str(out), "--reports", "reports", "--dry_run"])
    text = capsys.readouterr().out
    assert "usable: 4" in text
    assert "would be skipped: 3" in text
    assert "1: other modality" in text
    assert "findings 2 words" in text
    for secret in ("Clear lungs", "MRN-77", "ACC-1", "1.2.840.555.1", "patient0"):
        assert secret not in text, secret
    assert not out.exists()


def test_the_salt_is_not_in_the_summary(hospital, tmp_path):
    out = tmp_path / "out"
    words = ["--reports", "reports", "--hash_ids", SALT, "--skip_bad", "--image_size", "32", "--num_workers", "1"]
    main(["folder", "--raw", str(hospital), "--out", str(out), *words])
    summary = json.loads((out / "summary.json").read_text())
    assert summary["options"]["hash_ids"] == "(given, not stored)"


def test_reports_in_one_folder_are_found_by_name_if_one_film_has_it(tmp_path):
    raw = tmp_path / "raw"
    film(raw / "films" / "P1" / "a.png")
    (raw / "texts").mkdir()
    (raw / "texts" / "a.TXT").write_text("Clear.")
    assert [one.report for one in read(raw, image_root="films", reports="texts")[0]] == ["Clear."]
    film(raw / "films" / "P2" / "a.png")
    records, skipped = read(raw, image_root="films", reports="texts")
    assert not records
    assert [one.kind for one in skipped] == ["name is not unique", "name is not unique", "report without a film"]


def test_columns_without_a_table_are_refused(tmp_path):
    """A table that was not named, and is not called metadata.csv: its labels were lost, and patients crossed splits."""
    raw = tmp_path / "raw"
    film(raw / "a.png")
    (raw / "texts").mkdir()
    (raw / "texts" / "a.txt").write_text("Clear.")
    (raw / "films.csv").write_text("image,patient,Edema\na.png,P1,1\n")
    named = {"reports": "texts", "patient_column": "patient", "label_columns": ["Edema"]}
    with pytest.raises(DataError, match="label_columns and patient_column name what is in a table, and there is none"):
        read(raw, **named)
    (record,), _ = read(raw, table="films.csv", **named)
    assert (record.patient_id, record.labels) == ("P1", [Label("Edema", 1)])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"label_separator": ";"}, "label_separator does nothing without labels_column: give that, too"),
        ({"label_columns": ["Edema"], "unlabelled_values": ["todo"]}, "does nothing without labels_column"),
        ({"identity_columns": ["nurse"]}, "identity_columns does nothing without hash_ids"),
        ({"image_column": "file", "match_column": "accession"}, "image_column does nothing beside match_column"),
        ({"patient_column": "p", "patient_pattern": "(P)"}, "patient_pattern does nothing beside patient_column"),
        ({"split_column": "split", "test_share": 0.3}, "test_share does nothing beside split_column: leave one of"),
        ({"label_columns": ["Chest Tube", "Mass", "chest_tube"]}, "label_columns name one finding twice, capitals"),
    ],
)
def test_arguments_that_do_nothing_or_mean_one_finding_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        folder.Options(**given)


def own_table(raw: Path, *rows: str) -> dict:
    """A table of films a.png, b.png ... and options for it."""
    for number, row in enumerate(rows):
        film(raw / row.split(",")[0], number)
    (raw / "t.csv").write_text("\n".join(["image,report,patient,split,age", *rows]) + "\n")
    return {"table": "t.csv", "report_column": "report", "patient_column": "patient", "age_column": "age"}


def test_patients_in_several_splits_stop_the_preparation(tmp_path, capsys):
    options = own_table(tmp_path / "raw", "a.png,x,P1,train,50", "b.png,y,P1,test,50", "c.png,z,P2,train,50")
    arguments = PrepareArguments(str(tmp_path / "out"), str(tmp_path / "raw"), image_size=32, num_workers=1)
    with pytest.raises(DataError, match="1 patients have films in several splits"):
        prepare("folder", arguments, folder.Options(**options, split_column="split"))
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    words += ["--split_column", "split", "--allow_crossing_patients", "--image_size", "32", "--num_workers", "1"]
    main(["folder", "--raw", arguments.raw, "--out", arguments.out, *words])
    assert "warning: 1 patients have films in several splits" in capsys.readouterr().out
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["patients"], summary["patients_across_splits"], summary["sexes"]) == (2, 1, {"unknown": 3})
    assert "1 patients have films in several splits" in (tmp_path / "out" / "README.md").read_text()


def test_blank_patients_are_named_and_unknown_ones_warned_of(tmp_path, capsys):
    options = own_table(tmp_path / "raw", "a.png,x,P1,train,50", "b.png,y,,train,50")
    records, skipped = read(tmp_path / "raw", **options)
    assert [one.patient_id for one in records] == ["P1"]
    assert [(one.key, one.kind) for one in skipped] == [("t.csv row 2", "id is blank")]
    words = ["--table", "t.csv", "--report_column", "report", "--image_size", "32", "--num_workers", "1"]
    main(["folder", "--raw", str(tmp_path / "raw"), "--out", str(tmp_path / "out"), *words])
    assert "every film is of a patient of its own" in capsys.readouterr().out


def write_patients(raw: Path, count: int) -> Path:
    for number in range(count):
        fields = {"PatientID": f"MRN-{number}", "StudyInstanceUID": f"1.2.{number}", "AccessionNumber": f"ACC-{number}"}
        write_dicom(raw / f"ACC-{number}.dcm", ramp(8 if number else 12), **fields)
        (raw / f"ACC-{number}.txt").write_text("Clear.")
    return raw


def test_a_new_film_moves_no_patient_to_another_split(tmp_path):
    raw = write_patients(tmp_path / "raw", 12)
    shares = {"reports": ".", "validation_share": 0.3, "test_share": 0.3}
    before = {one.image_path: one.split for one in read(raw, **shares)[0]}
    assert len(set(before.values())) == 3
    write_dicom(raw / "A-first.dcm", ramp(8), PatientID="NEW")
    (raw / "A-first.txt").write_text("New.")
    after = {one.image_path: one.split for one in read(raw, **shares)[0]}
    assert {path: after[path] for path in before} == before
    hashed = {one.image_path: one.split for one in read(raw, **shares, hash_ids=SALT)[0]}
    assert hashed == after


def test_numbers_differ_between_folders_but_not_with_where_they_lie(tmp_path):
    def ids(raw):
        return {value for one in read(raw, reports=".")[0] for value in (one.record_id, one.patient_id, one.study_id)}

    one = write_patients(tmp_path / "one", 3)
    other = write_patients(tmp_path / "other", 2)
    write_dicom(other / "ACC-0.dcm", ramp(8), PatientID="X")
    assert len(ids(one)) == 9
    assert not ids(one) & ids(other)
    assert not any("ACC" in text or "MRN" in text for text in ids(one)), "names of DICOM files are no ids"
    shutil.copytree(one, tmp_path / "moved")
    assert ids(tmp_path / "moved") == ids(one)
    assert {one.record_id for one in read(other, reports=".", keep_names=True)[0]} == {
        "folder/ACC-0.dcm",
        "folder/ACC-1.dcm",
    }


def test_ages_of_a_table_are_capped_where_ids_are_hashed(tmp_path):
    options = own_table(tmp_path / "raw", "a.png,x,P1,train,97", "b.png,y,P2,train,0.5")
    ages = [
        [one.age_years for one in read(tmp_path / "raw", **options, **more)[0]] for more in ({}, {"hash_ids": SALT})
    ]
    assert ages == [[97, 0.5], [90, 0.5]]


def test_with_hashed_ids_no_file_names_raw_files_and_the_work_can_go_on(hospital, tmp_path):
    (hospital / "reports" / "plain.txt").unlink()
    (hospital / "plain.png").rename(hospital / "Mueller.png")
    (hospital / "reports" / "Mueller.txt").write_text("Normal.")
    (hospital / "broken-Schmidt.png").write_bytes(b"no image")
    (hospital / "reports" / "broken-Schmidt.txt").write_text("Normal.")
    out = tmp_path / "out"
    arguments = PrepareArguments(str(out), str(hospital), image_size=32, num_workers=1, skip_bad=True)
    options = folder.Options(reports="reports", hash_ids=SALT)
    summary = prepare("folder", arguments, options)
    assert summary["skipped"] == 4
    for path in out.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not any(name in content for name in (b"Mueller", b"Schmidt", b"lat.dcm", b"hand.dcm", b"nobody")), path
    first = {path.name: path.read_bytes() for path in (out / "data").iterdir()}
    assert prepare("folder", arguments, options) == summary
    assert {path.name: path.read_bytes() for path in (out / "data").iterdir()} == first
    film(hospital / "broken-Schmidt.png")
    assert prepare("folder", arguments, options)["skipped"] == 3, "a mended film is read"
    assert not list((out / ".prepare").glob("*.jsonl"))


def test_reports_are_cut_into_sections(hospital):
    text = "NAME: Mueller\nINDICATION: cough\nFINDINGS: Clear\nlungs.\nImpression: Normal."
    (hospital / "reports" / "plain.txt").write_text(text)
    (record,) = [one for one in read(hospital, reports="reports")[0] if one.image_path == "plain.png"]
    assert (record.findings, record.impression) == ("Clear\nlungs.", "Normal.")
    (record,) = [
        one for one in read(hospital, reports="reports", parse_sections=False)[0] if one.image_path == "plain.png"
    ]
    assert record.findings == text


def test_texts_of_other_encodings(hospital):
    (hospital / "reports" / "plain.txt").write_text("Œdème.", encoding="utf-16")
    (hospital / "reports" / "x.txt").write_bytes("No BOM.".encode("utf-16-le"))
    records, skipped = read(hospital, reports="reports")
    assert "Œdème." in {one.report for one in records}
    assert ("c/x.dicom", "report not readable") in {(one.key, one.kind) for one in skipped}


def test_odd_files_and_names_are_listed(hospital):
    (hospital / "dangling.png").symlink_to("/nonexistent")
    (hospital / "t.csv").write_text("image,text,mask\n" + "b" * 300 + ".png,x,\nplain.png,y,m\\a.png\n")
    _, skipped = read(hospital, reports="reports")
    assert ("dangling.png", "image file missing") in {(one.key, one.kind) for one in skipped}
    records, _ = read(hospital, table="t.csv", report_column="text", mask_columns=["mask"])
    assert records[1].masks["mask"].data == "m/a.png"
    with pytest.raises(ValueError, match="is no regular expression"):
        folder.Options(patient_pattern="(")


def test_a_dry_run_counts_missing_files(tmp_path, capsys):
    own_table(tmp_path / "raw", "a.png,x,P1,train,50", "b.png,y,P2,train,50")
    (tmp_path / "raw" / "b.png").unlink()
    words = ["--table", "t.csv", "--report_column", "report", "--dry_run"]
    main(["folder", "--raw", str(tmp_path / "raw"), "--out", str(tmp_path / "out"), *words])
    assert "usable: 1" in (text := capsys.readouterr().out)
    assert "1: image file missing" in text
