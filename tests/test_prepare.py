"""Preparation: bit-equal pixels, complete accounting, restart, and everything that can be wrong with a file."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import load_dataset
from PIL import Image

from data_scripts.features import FEATURES
from data_scripts.films.images import open_image
from data_scripts.loaders import folder, nih_chestxray14, synthetic
from data_scripts.prepare import PrepareArguments, prepare
from data_scripts.prepare.__main__ import differs_from_expected, main
from data_scripts.prepared.folder import load_prepared
from data_scripts.reading.tables import read_table
from data_scripts.schema import DataError
from modeling_chexficient import CheXficientImageProcessor
from modeling_chexficient.image_processing_chexficient_files import MAX_PIXELS
from tests.fake_files import write_png

OPTIONS = folder.Options(table="t.csv", report_column="report", patient_column="patient", source_name="own")


def write_raw(raw: Path, count: int = 12) -> Path:
    raw.mkdir(parents=True)
    generator = np.random.default_rng(0)
    lines = ["image,report,patient"]
    for number in range(count):
        size = (int(generator.integers(60, 140)), int(generator.integers(60, 140)))
        write_png(raw / f"{number}.png", size, seed=number)
        lines.append(f"{number}.png,Report {number}.,P{number}")
    (raw / "t.csv").write_text("\n".join(lines) + "\n")
    return raw


@pytest.fixture
def raw(tmp_path) -> Path:
    return write_raw(tmp_path / "raw")


def arguments(raw: Path, out: Path, **changes) -> PrepareArguments:
    return PrepareArguments(**{"raw": str(raw), "out": str(out), "image_size": 48, "num_workers": 1, **changes})


def rows_of(out: Path) -> dict[str, dict]:
    return {row["record_id"]: row for split in load_dataset(str(out)).values() for row in split}


def test_prepared_pixels_equal_processing_the_original(raw, tmp_path):
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (80, 90, 3), dtype=np.uint8)).save(raw / "0.png")
    Image.fromarray(np.random.default_rng(2).integers(0, 65536, (80, 90), dtype=np.uint16)).save(raw / "1.png")
    summary = prepare("folder", arguments(raw, tmp_path / "out"), OPTIONS)
    assert (summary["read"], summary["written"], summary["skipped"], summary["colour_images"]) == (12, 12, 0, 1)
    processor = CheXficientImageProcessor(48)
    for record_id, row in rows_of(tmp_path / "out").items():
        original = processor(Image.open(raw / record_id.split("/")[1]), return_tensors="pt")["pixel_values"]
        prepared = processor(row["image"], return_tensors="pt")["pixel_values"]
        assert torch.equal(original, prepared), record_id


def test_the_folder_is_a_dataset_with_the_schema(tiny_corpus):
    splits = load_dataset(str(tiny_corpus))
    assert set(splits) == {"train", "validation", "test"}
    assert splits["train"].features == FEATURES
    row = splits["train"][0]
    assert row["image"].size == (56, 56)
    assert row["image"].mode == "L"
    assert all(mask["image"].size == (56, 56) for mask in row["masks"])
    values = {int(value) for mask in row["masks"] for value in np.unique(np.asarray(mask["image"]))}
    assert values <= {0, 255}
    streamed = next(iter(load_dataset(str(tiny_corpus), split="train", streaming=True)))
    assert streamed["record_id"] == row["record_id"]
    summary = json.loads((tiny_corpus / "summary.json").read_text())
    assert summary["splits"] == {name: len(split) for name, split in splits.items()}


def test_parallel_equals_serial(raw, tmp_path):
    prepare("folder", arguments(raw, tmp_path / "one", rows_per_shard=2), OPTIONS)
    prepare("folder", arguments(raw, tmp_path / "two", rows_per_shard=2, num_workers=2), OPTIONS)
    files = sorted((tmp_path / "one" / "data").glob("*.parquet"))
    assert len(files) > 3
    for file in files:
        assert file.read_bytes() == (tmp_path / "two" / "data" / file.name).read_bytes()


def test_an_interrupted_preparation_goes_on(raw, tmp_path, monkeypatch):
    out = tmp_path / "out"
    prepare("folder", arguments(raw, tmp_path / "whole", rows_per_shard=2), OPTIONS)
    opened = []

    def interrupted(path, *how):
        opened.append(path)
        if len(opened) == 6:
            raise KeyboardInterrupt
        return open_image(path, *how)

    monkeypatch.setattr("data_scripts.prepare.rows.open_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare("folder", arguments(raw, out, rows_per_shard=2), OPTIONS)
    assert 0 < len(list((out / "data").glob("*.parquet"))) < 6
    before = len(opened)
    prepare("folder", arguments(raw, out, rows_per_shard=2), OPTIONS)
    assert len(opened) - before < 12, "complete shards are not read again"
    for file in (tmp_path / "whole" / "data").glob("*.parquet"):
        assert file.read_bytes() == (out / "data" / file.name).read_bytes()
    assert not list(out.rglob("*.tmp"))


def test_another_preparation_does_not_overwrite(raw, tmp_path):
    prepare("folder", arguments(raw, tmp_path / "out"), OPTIONS)
    prepare("folder", arguments(raw, tmp_path / "out"), OPTIONS)
    with pytest.raises(DataError, match="choose another --out"):
        prepare("folder", arguments(raw, tmp_path / "out", image_size=64), OPTIONS)


BROKEN = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "not an image": lambda path: path.write_text("I am a report."),
    "damaged": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "too small": lambda path: Image.new("L", (1, 1)).save(path),
    "beyond the limit": lambda path: Image.new("1", (12_000, MAX_PIXELS // 10_000)).save(path),
    "bomb": lambda path: Image.new("1", (20_000, 20_000)).save(path),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_image_is_named_or_skipped_and_listed(raw, tmp_path, kind):
    BROKEN[kind](raw / "3.png")
    with pytest.raises(DataError, match=rf"own/3\.png.*{kind}"):
        prepare("folder", arguments(raw, tmp_path / "out"), OPTIONS)
    summary = prepare("folder", arguments(raw, tmp_path / "out", skip_bad=True), OPTIONS)
    assert (summary["read"], summary["written"], summary["skipped"]) == (12, 11, 1)
    (listed,) = [json.loads(line) for line in (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()]
    assert listed["key"] == "own/3.png"
    assert kind in listed["reason"]
    assert "own/3.png" not in rows_of(tmp_path / "out")


def test_empty_reports_and_duplicate_ids_are_named_or_skipped(raw, tmp_path):
    with (raw / "t.csv").open("a") as table:
        table.write("2.png,Again.,P2\n4.png, ,P4\n")
    text = (raw / "t.csv").read_text().replace("Report 5.", " ")
    (raw / "t.csv").write_text(text)
    with pytest.raises(DataError, match=r"own/5\.png: the report is empty\n  own/2\.png: duplicate id"):
        prepare("folder", arguments(raw, tmp_path / "out"), OPTIONS)
    summary = prepare("folder", arguments(raw, tmp_path / "out", skip_bad=True), OPTIONS)
    assert summary["read"] == 14
    assert summary["skipped_reasons"] == {"duplicate id": 2, "empty report": 1}


def test_images_outside_of_the_raw_folder_are_refused(raw, tmp_path):
    shutil.copy(raw / "0.png", tmp_path / "secret.png")
    with (raw / "t.csv").open("a") as table:
        table.write("../secret.png,A report.,P\n")
    with pytest.raises(DataError, match="leaves the raw folder"):
        prepare("folder", arguments(raw, tmp_path / "out"), OPTIONS)


def test_an_id_twice_in_the_schema_and_label_out_of_range():
    from data_scripts.schema import Label, Record, check_record

    record = Record("a/1", "a", "p", "s", "train", findings="x", labels=[Label("Edema", 3)])
    with pytest.raises(DataError, match="'a/1': label 'Edema' is 3"):
        check_record(record)
    record.labels = [Label("Edema", 1), Label("Edema", 0)]
    with pytest.raises(DataError, match="'Edema' is given twice"):
        check_record(record)
    record.labels, record.view = [], "sideways"
    with pytest.raises(DataError, match="view is 'sideways'"):
        check_record(record)


def test_command_line_says_what_is_wrong(tmp_path, capsys):
    with pytest.raises(SystemExit, match="LOADER is one of"):
        main([])
    with pytest.raises(SystemExit, match="unknown loader 'nhi'"):
        main(["nhi", "--out", str(tmp_path / "x")])
    with pytest.raises(SystemExit, match="name their folder with --raw"):
        main(["folder", "--out", str(tmp_path / "x")])
    with pytest.raises(SystemExit, match="there is no such folder"):
        main(["folder", "--raw", str(tmp_path / "no"), "--out", str(tmp_path / "x")])
    with pytest.raises(SystemExit, match="image_size is 8"):
        main(["synthetic", "--out", str(tmp_path / "x"), "--image_size", "8"])
    main(["synthetic", "--out", str(tmp_path / "x"), "--num_records", "20", "--image_size", "56"])
    assert "read 20, written 20" in capsys.readouterr().out


def test_the_card_holds_counts_but_no_text_and_no_ids(raw, tmp_path):
    prepare("folder", arguments(raw, tmp_path / "out"), OPTIONS)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "must not be passed on" in card
    assert "Report 3" not in card
    assert "P3" not in card


@pytest.mark.parametrize("loader", ["nih_chestxray14", "folder"])
def test_real_films(real_cxr, tmp_path, loader):
    if loader == "folder":
        raw = real_cxr / "covid_chestxray"
        options = folder.Options(
            image_root="images", image_column="filename", report_column="clinical_notes", patient_column="patientid"
        )
    else:
        raw, options = real_cxr / "nih_chestxray14", nih_chestxray14.Options()
    summary = prepare(loader, arguments(raw, tmp_path / "out", skip_bad=True, num_workers=2, image_size=64), options)
    assert summary["read"] == {"folder": 140, "nih_chestxray14": 246}[loader]
    if loader == "folder":
        assert summary["skipped_reasons"] == {"duplicate id": 2}
    else:
        assert summary["positives"]["Pneumonia"] == 125
        assert summary["positives"]["No Finding"] == 121


def test_synthetic_records_do_not_depend_on_workers(tmp_path):
    options = synthetic.Options(num_records=30, film_size=64)
    for name, workers in (("one", 1), ("two", 2)):
        out = PrepareArguments(out=str(tmp_path / name), image_size=64, num_workers=workers, rows_per_shard=7)
        prepare("synthetic", out, options)
    for file in (tmp_path / "one" / "data").glob("*.parquet"):
        assert file.read_bytes() == (tmp_path / "two" / "data" / file.name).read_bytes()


def test_a_folder_prepared_anew_is_not_taken_from_the_cache(raw, tmp_path):
    for number, count in enumerate((5, 7)):
        own = write_raw(tmp_path / f"raw{number}", count)
        prepare("folder", arguments(own, tmp_path / str(number) / "out"), OPTIONS)
        assert len(rows_of(tmp_path / str(number) / "out")) == count


def test_a_shard_without_a_usable_record_does_not_spoil_the_dataset(raw, tmp_path):
    for number in (2, 3):
        (raw / f"{number}.png").write_bytes(b"")
    options = folder.Options(table="t.csv", report_column="report", validation_share=0, test_share=0)
    summary = prepare("folder", arguments(raw, tmp_path / "out", rows_per_shard=2, skip_bad=True), options)
    assert summary["skipped_reasons"] == {"image file empty": 2}
    assert len(rows_of(tmp_path / "out")) == 10
    for path in raw.glob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="none of the 12 records could be used"):
        prepare("folder", arguments(raw, tmp_path / "none", skip_bad=True), options)


def test_an_unfinished_preparation_is_not_loaded_and_a_lost_shard_is_made_again(raw, tmp_path):
    (raw / "11.png").write_bytes(b"")
    with pytest.raises(DataError):
        prepare("folder", arguments(raw, tmp_path / "out", rows_per_shard=2), OPTIONS)
    with pytest.raises(DataError, match="the preparation was not finished"):
        load_prepared(str(tmp_path / "out"), ("image",))
    prepare("folder", arguments(raw, tmp_path / "out", rows_per_shard=2, skip_bad=True), OPTIONS)
    first = sorted((tmp_path / "out" / "data").glob("*.parquet"))[0]
    content = first.read_bytes()
    first.unlink()
    prepare("folder", arguments(raw, tmp_path / "out", rows_per_shard=2, skip_bad=True), OPTIONS)
    assert first.read_bytes() == content
    assert len(load_prepared(str(tmp_path / "out"), ("image",))["train"]) > 5
    with pytest.raises(DataError, match=r"column\(s\) \['colour'\] are missing"):
        load_prepared(str(tmp_path / "out"), ("colour",))


def test_tables_with_surplus_fields_are_refused_and_lists_are_text(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2,3\n")
    with pytest.raises(DataError, match="more fields than the header"):
        read_table(tmp_path / "t.csv")
    pd.DataFrame({"a": [1.0, None], "b": [[1, 2], []]}).to_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet")["a"].tolist() == ["1", ""]
    (tmp_path / "latin.csv").write_bytes("a\ncœur normal é\n".encode("cp1252"))
    assert read_table(tmp_path / "latin.csv")["a"][0].endswith("é")


@pytest.mark.parametrize("age", ["-5", "inf", "999"])
def test_impossible_ages_are_named(raw, tmp_path, age):
    text = (raw / "t.csv").read_text().splitlines()
    (raw / "t.csv").write_text("\n".join([text[0] + ",age", *(f"{line},{age}" for line in text[1:])]))
    with pytest.raises(DataError, match="age is"):
        prepare("folder", arguments(raw, tmp_path / "out"), replace(OPTIONS, age_column="age"))


def test_labels_are_read_from_reports_on_request(raw, tmp_path):
    lines = ["image,report,patient,Mass", "0.png,No pleural effusion. Possible pneumonia.,P0,", "1.png,A mass.,P1,0"]
    (raw / "t.csv").write_text("\n".join(lines) + "\n")
    options = replace(OPTIONS, label_columns=["Mass"], image_root=".")
    for name in range(2, 12):
        (raw / f"{name}.png").unlink()
    prepare("folder", arguments(raw, tmp_path / "plain"), options)
    assert rows_of(tmp_path / "plain")["own/0.png"]["labels"] == []
    prepare("folder", arguments(raw, tmp_path / "out", extract_labels=True), options)
    rows = rows_of(tmp_path / "out")
    read = {label["name"]: label["value"] for label in rows["own/0.png"]["labels"]}
    assert (read["Pleural Effusion"], read["Pneumonia"]) == (0, -1)
    assert [(one["name"], one["value"]) for one in rows["own/1.png"]["labels"]] == [("Mass", 0)], "its own come first"
    assert "by rules" in (tmp_path / "out" / "README.md").read_text()
    assert "by rules" not in (tmp_path / "plain" / "README.md").read_text()


def test_links_below_the_raw_folder_are_followed(raw, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (raw / "0.png").rename(tmp_path / "elsewhere" / "film.png")
    (raw / "0.png").symlink_to(tmp_path / "elsewhere" / "film.png")
    assert prepare("folder", arguments(raw, tmp_path / "out"), OPTIONS)["written"] == 12


def test_a_skipped_film_is_tried_again_when_it_was_mended(raw, tmp_path):
    content = (raw / "3.png").read_bytes()
    (raw / "3.png").write_bytes(b"")
    out = tmp_path / "out"
    assert prepare("folder", arguments(raw, out, skip_bad=True), OPTIONS)["skipped"] == 1
    with pytest.raises(DataError, match=r"own/3\.png"):
        prepare("folder", arguments(raw, out), OPTIONS)
    (raw / "3.png").write_bytes(content)
    assert prepare("folder", arguments(raw, out, skip_bad=True), OPTIONS)["written"] == 12
    assert prepare("folder", arguments(raw, out), OPTIONS)["written"] == 12


def test_a_film_that_was_exported_anew_is_read_anew(raw, tmp_path):
    """Under the same name and with the same size, as uncompressed films have; the other shards stay."""
    films = np.random.default_rng(3).integers(0, 256, (12, 48, 48), dtype=np.uint8)
    for path, pixels in zip(sorted(raw.glob("*.png")), films, strict=True):
        Image.fromarray(pixels).save(path.with_suffix(".bmp"))
        path.unlink()
    (raw / "t.csv").write_text((raw / "t.csv").read_text().replace(".png", ".bmp"))
    out, options = tmp_path / "out", replace(OPTIONS, validation_share=0.0, test_share=0.0)
    prepare("folder", arguments(raw, out, rows_per_shard=2), options)
    made = {path.name: path.stat().st_mtime_ns for path in (out / "data").iterdir()}
    before = np.asarray(Image.open(raw / "3.bmp"))
    Image.fromarray(255 - before).save(raw / "3.bmp")
    prepare("folder", arguments(raw, out, rows_per_shard=2), options)
    assert np.array_equal(np.asarray(rows_of(out)["own/3.bmp"]["image"]), 255 - before)
    changed = [path.name for path in (out / "data").iterdir() if path.stat().st_mtime_ns != made[path.name]]
    assert changed == ["train-00001-of-00006.parquet"]


def test_a_mask_that_was_drawn_anew_is_read_anew(raw, tmp_path):
    mask = np.zeros(Image.open(raw / "0.png").size[::-1], np.uint8)
    (raw / "masks").mkdir()
    Image.fromarray(mask).save(raw / "masks" / "0.bmp")
    lines = (raw / "t.csv").read_text().splitlines()
    rows = [f"{line},{'masks/0.bmp' if number == 0 else ''}" for number, line in enumerate(lines[1:])]
    (raw / "t.csv").write_text("\n".join([f"{lines[0]},lung", *rows]) + "\n")
    out, options = tmp_path / "out", replace(OPTIONS, mask_columns=["lung"])
    prepare("folder", arguments(raw, out), options)
    assert np.asarray(rows_of(out)["own/0.png"]["masks"][0]["image"]).max() == 0
    mask[10:-10, 10:-10] = 255
    Image.fromarray(mask).save(raw / "masks" / "0.bmp")
    prepare("folder", arguments(raw, out), options)
    assert np.asarray(rows_of(out)["own/0.png"]["masks"][0]["image"]).max() == 255


def test_files_that_cannot_be_opened_are_named(raw, tmp_path, monkeypatch):
    def refuse(path, *how):
        if path.name == "3.png":
            raise PermissionError(13, "Permission denied", str(path))
        return open_image(path, *how)

    monkeypatch.setattr("data_scripts.prepare.rows.open_image", refuse)
    summary = prepare("folder", arguments(raw, tmp_path / "out", skip_bad=True), OPTIONS)
    assert summary["skipped_reasons"] == {"image cannot be converted (PermissionError)": 1}


@pytest.mark.parametrize(
    ("expected", "splits", "differs"),
    [
        ({"train": 10, "test": 5}, {"train": 9, "validation": 1, "test": 5}, False),
        ({"train": 10, "test": 5}, {"train": 11, "test": 4}, True),
        ({"test": 5}, {"test": 3, "validation": 2}, False),
        ({"train": 5}, {"train": 4}, True),
        ({}, {"train": 4}, False),
    ],
)
def test_numbers_are_compared_split_by_split(expected, splits, differs):
    assert differs_from_expected({"expected": expected, "splits": splits}) == differs
