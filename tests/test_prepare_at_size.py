"""Preparation of large corpora: several hosts, killed processes, trials, files by size, duplicates, overlaps."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from PIL import Image, ImageOps

from data_scripts.films.images import encode_film
from data_scripts.loaders import LOADERS, folder, synthetic
from data_scripts.prepare import PrepareArguments, prepare
from data_scripts.prepare.__main__ import main
from data_scripts.prepare.shards import ROW_GROUP_SIZE
from data_scripts.prepared.duplicates import read_fingerprints
from data_scripts.prepared.fingerprints import MAX_DISTANCE, as_words, difference_hashes, look_alikes, pixel_hash
from data_scripts.prepared.folder import load_prepared
from data_scripts.prepared.overlap import KNOWN_OVERLAPS, find_overlaps, known_overlaps
from data_scripts.prepared.overlap import main as overlap_main
from data_scripts.schema import DataError

OPTIONS = folder.Options(table="t.csv", report_column="report", patient_column="patient", source_name="own")


def smooth_film(seed: int, size: tuple[int, int] = (120, 100)) -> Image.Image:
    """A picture with structure, of which a copy in another size looks alike."""
    noise = np.random.default_rng(seed).integers(0, 256, (12, 12), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def raw(tmp_path) -> Path:
    """30 films; 3 and 4 are equal, of two patients; 6 is a JPEG of 5."""
    raw = tmp_path / "raw"
    raw.mkdir()
    lines = ["image,report,patient"]
    for number in range(30):
        name = f"{number}.jpg" if number == 6 else f"{number}.png"
        film = smooth_film({4: 3, 6: 5}.get(number, number))
        film.save(raw / name, **({"quality": 75} if number == 6 else {}))
        lines.append(f"{name},Report {number}.,P{5 if number == 6 else number}")
    (raw / "t.csv").write_text("\n".join(lines) + "\n")
    return raw


def arguments(raw: Path, out: Path, **changes) -> PrepareArguments:
    return PrepareArguments(**{"raw": str(raw), "out": str(out), "image_size": 48, "num_workers": 1, **changes})


def same_data(first: Path, second: Path) -> bool:
    files = sorted(path.name for path in (first / "data").glob("*"))
    assert files
    assert all(name.endswith(".parquet") for name in files)
    return files == sorted(path.name for path in (second / "data").glob("*")) and all(
        (first / "data" / name).read_bytes() == (second / "data" / name).read_bytes() for name in files
    )


def test_hosts_share_the_work_in_one_folder(raw, tmp_path):
    prepare("folder", arguments(raw, tmp_path / "whole", rows_per_shard=4), OPTIONS)
    out = tmp_path / "out"
    for index in range(3):
        part = arguments(raw, out, rows_per_shard=4, num_shards=3, shard_index=index)
        summary = prepare("folder", part, OPTIONS)
        if index < 2:
            assert summary["complete_shards"] < summary["shards"]
            with pytest.raises(DataError, match="was not finished"):
                load_prepared(str(out), ("image",))
    assert summary["written"] == 30
    assert same_data(tmp_path / "whole", out)
    assert (out / "summary.json").read_text() == (tmp_path / "whole" / "summary.json").read_text()


def test_parts_of_several_folders_are_brought_together(raw, tmp_path):
    prepare("folder", arguments(raw, tmp_path / "whole", rows_per_shard=4), OPTIONS)
    out = tmp_path / "together"
    for index in range(2):
        part = tmp_path / f"host{index}"
        prepare("folder", arguments(raw, part, rows_per_shard=4, num_shards=2, shard_index=index), OPTIONS)
        shutil.copytree(part, out, dirs_exist_ok=True)
    made = {path: path.stat().st_mtime_ns for path in (out / "data").glob("*")}
    summary = prepare("folder", arguments(raw, out, rows_per_shard=4), OPTIONS)
    assert summary["written"] == 30
    assert same_data(tmp_path / "whole", out)
    assert made == {path: path.stat().st_mtime_ns for path in (out / "data").glob("*")}, "nothing is made again"


def test_a_killed_preparation_goes_on_and_leaves_no_process(tmp_path):
    words = ["synthetic", "--num_records", "140", "--film_size", "200", "--image_size", "128", "--rows_per_shard", "20"]
    command = [sys.executable, "-m", "data_scripts.prepare", *words, "--num_workers", "2", "--out"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    out = tmp_path / "killed"
    process = subprocess.Popen([*command, str(out)], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    while len(list((out / ".prepare").glob("*.done.json"))) < 2 and time.monotonic() < deadline:
        assert process.poll() is None, "ended before it could be killed"
        time.sleep(0.02)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "summary.json").exists()
    done = [path.name.split(".")[0] for path in (out / ".prepare").glob("*.done.json")]
    complete = {path: path.stat().st_mtime_ns for name in done for path in (out / "data").glob(f"{name}-of-*")}
    assert complete
    deadline = time.monotonic() + 600
    while any(Path(f"/proc/{child}/cmdline").exists() and _runs(child) for child in children):
        assert time.monotonic() < deadline, "workers outlive the process that started them"
        time.sleep(0.1)
    options = synthetic.Options(num_records=140, film_size=200)
    settings = {"image_size": 128, "rows_per_shard": 20, "num_workers": 1}
    prepare("synthetic", PrepareArguments(out=str(out), **settings), options)
    assert complete == {path: path.stat().st_mtime_ns for path in complete}
    prepare("synthetic", PrepareArguments(out=str(tmp_path / "whole"), **settings), options)
    assert same_data(tmp_path / "whole", out)


def _runs(process: str) -> bool:
    """Whether it is more than a zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_trial_is_marked(raw, tmp_path, capsys):
    summary = prepare("folder", arguments(raw, tmp_path / "out", limit=7), OPTIONS)
    assert (summary["read"], summary["written"], summary["limit"]) == (7, 7, 7)
    assert "A trial" in (tmp_path / "out" / "README.md").read_text()
    with pytest.raises(DataError, match="choose another --out"):
        prepare("folder", arguments(raw, tmp_path / "out"), OPTIONS)


def test_files_are_cut_by_size_and_row_groups_by_rows(tmp_path):
    options = synthetic.Options(num_records=400, film_size=64, validation_share=0, test_share=0)
    settings = {"image_size": 64, "num_workers": 2}
    prepare("synthetic", PrepareArguments(out=str(tmp_path / "one"), **settings), options)
    (file,) = (tmp_path / "one" / "data").glob("*.parquet")
    groups = pq.ParquetFile(file).metadata
    sizes = [groups.row_group(number).num_rows for number in range(groups.num_row_groups)]
    assert sum(sizes) == 400
    assert max(sizes) <= ROW_GROUP_SIZE + 8
    prepare("synthetic", PrepareArguments(out=str(tmp_path / "two"), shard_megabytes=1, **settings), options)
    assert 2 <= len(list((tmp_path / "two" / "data").glob("*.parquet"))) <= 6


def test_checksums_are_those_of_the_files(raw, tmp_path):
    summary = prepare("folder", arguments(raw, tmp_path / "out", rows_per_shard=5), OPTIONS)
    files = {path.name: path for path in (tmp_path / "out" / "data").glob("*.parquet")}
    assert summary["sha256"].keys() == files.keys()
    for name, path in files.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == summary["sha256"][name]
    # A file that was cut off is made again.
    name, path = next(iter(files.items()))
    path.write_bytes(path.read_bytes()[:-10])
    assert prepare("folder", arguments(raw, tmp_path / "out", rows_per_shard=5), OPTIONS)["sha256"] == summary["sha256"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == summary["sha256"][name]


@pytest.mark.parametrize("compression", ["fast", "small"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_films_are_stored_without_loss(compression, mode):
    import io

    pixels = np.random.default_rng(0).integers(0, 256, (41, 67) + (() if mode == "L" else (3,)), dtype=np.uint8)
    image = Image.open(io.BytesIO(encode_film(Image.fromarray(pixels), compression)))
    image.verify()
    image = Image.open(io.BytesIO(encode_film(Image.fromarray(pixels), compression)))
    assert (image.format, image.mode) == ("PNG", mode)
    assert np.array_equal(np.asarray(image), pixels)


def test_duplicates_are_reported_with_splits_and_patients(raw, tmp_path, capsys):
    words = ["--table", "t.csv", "--report_column", "report", "--patient_column", "patient", "--near_duplicates"]
    out = tmp_path / "out"
    main(["folder", "--raw", str(raw), "--out", str(out), "--image_size", "48", "--num_workers", "1", *words])
    found = json.loads((out / "duplicates.json").read_text())
    (exact,), (near,) = found["exact"], found["near"]
    assert sorted(exact["records"]) == ["folder/3.png", "folder/4.png"]
    assert exact["patients_differ"]
    assert sorted(near["records"]) == ["folder/5.png", "folder/6.jpg"]
    assert not near["patients_differ"]
    assert 0 <= near["bits"] <= MAX_DISTANCE
    splits = {row["record_id"]: name for name, split in load_dataset(str(out)).items() for row in split}
    assert exact["splits"] == [splits[record] for record in exact["records"]]
    printed = capsys.readouterr().out
    assert "exact: 2 films in 1 groups" in printed
    assert "folder/3.png" not in printed


def test_overlap_of_two_folders(raw, tmp_path, capsys):
    other = tmp_path / "other_raw"
    other.mkdir()
    shutil.copy(raw / "9.png", other / "x.png")
    smooth_film(11, (240, 200)).save(other / "y.jpg", quality=80)
    smooth_film(99).save(other / "z.png")
    (other / "t.csv").write_text("image,report,patient\nx.png,A.,1\ny.jpg,B.,2\nz.png,C.,3\n")
    first, second = tmp_path / "first", tmp_path / "second"
    prepare("folder", arguments(raw, first), OPTIONS)
    prepare("folder", arguments(other, second), folder.Options(table="t.csv", report_column="report"))
    pairs = find_overlaps([first, second])
    found = {(a, b): bits for a, b, bits in zip(pairs.record_id_a, pairs.record_id_b, pairs.bits, strict=True)}
    assert found.keys() == {("own/9.png", "folder/x.png"), ("own/11.png", "folder/y.jpg")}
    assert found["own/9.png", "folder/x.png"] == -1
    assert found["own/11.png", "folder/y.jpg"] >= 0
    # A folder that was passed on without its working files gives the same.
    shutil.rmtree(second / ".prepare")
    assert find_overlaps([first, second]).equals(pairs)
    overlap_main([str(first), str(second), "--out", str(tmp_path / "pairs.json")])
    printed = capsys.readouterr().out
    assert "equal: 1 pairs" in printed
    assert "look-alike: 1 pairs" in printed
    assert "9.png" not in printed
    assert len(json.loads((tmp_path / "pairs.json").read_text())) == 2
    with pytest.raises(SystemExit, match="two or more different"):
        overlap_main([str(first), str(first)])
    with pytest.raises(SystemExit, match="no such folder"):
        overlap_main([str(first), str(tmp_path / "nothing")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match=r"empty.* doesn't contain any data files"):
        overlap_main(["--exact_only", "true", str(first), str(tmp_path / "empty")])


def test_overlap_finds_negatives(tmp_path):
    """With black borders, whose neighbours are brighter neither way; scaled, compressed; and within one folder."""
    plain, negative = tmp_path / "plain_raw", tmp_path / "negative_raw"
    for folder_of_films in (plain, negative):
        folder_of_films.mkdir()
        (folder_of_films / "t.csv").write_text("image,report\n0.png,A.\n1.png,B.\n2.png,C.\n")
    for number in range(3):
        film = ImageOps.expand(smooth_film(number, (200, 200)), 40)
        film.save(plain / f"{number}.png")
        other = ImageOps.invert(film if number else film.resize((150, 150)))
        other.save(negative / f"{number}.png") if number < 2 else smooth_film(7).save(negative / "2.png")
    options = folder.Options(table="t.csv", report_column="report")
    for raw_folder, name in ((plain, "a"), (negative, "b")):
        prepare("folder", arguments(raw_folder, tmp_path / name), options)
    pairs = find_overlaps([tmp_path / "a", tmp_path / "b"])
    assert list(zip(pairs.record_id_a, pairs.record_id_b, pairs.inverted, strict=True)) == [
        ("folder/0.png", "folder/0.png", True),
        ("folder/1.png", "folder/1.png", True),
    ]
    # Fingerprints of an earlier version lack the negatives: they are made anew from the films.
    for file in (tmp_path / "b" / ".prepare").glob("*.fingerprints.parquet"):
        pq.write_table(pq.read_table(file).drop(["inverted"]), file)
    again = find_overlaps([tmp_path / "a", tmp_path / "b"])
    assert sorted(again.record_id_b) == ["folder/0.png", "folder/1.png"]
    shutil.copy(negative / "1.png", plain / "2.png")
    summary = prepare("folder", arguments(plain, tmp_path / "c", near_duplicates=True), options)
    assert summary["duplicates"]["near"]["groups"] == 1


def test_known_overlaps_are_named():
    (warning,) = known_overlaps({"nih_chestxray14", "rsna_pneumonia", "padchest"})
    assert warning.startswith("nih_chestxray14 and rsna_pneumonia")
    assert not known_overlaps({"nih_chestxray14"})
    assert {name for pair in KNOWN_OVERLAPS for name in pair} <= set(LOADERS)


def test_look_alikes_are_all_pairs_within_the_distance():
    generator = np.random.default_rng(0)
    bits = generator.integers(0, 2, (60, 256), dtype=np.uint8)
    for row in range(0, 40, 2):
        bits[row + 1] = bits[row]
        bits[row + 1, generator.choice(256, row // 2, replace=False)] ^= 1
    words = as_words([np.packbits(row).tobytes() for row in bits])
    distances = (bits[:, None] != bits[None]).sum(axis=2)
    expected = {(a, b) for a, b in np.argwhere(distances <= MAX_DISTANCE) if a < b}
    first, second, distance = look_alikes(words)
    assert set(zip(first, second, strict=True)) == expected
    assert len(expected) == MAX_DISTANCE + 1
    assert (distance == distances[first, second]).all()
    assert all(len(part) == 0 for part in look_alikes(as_words([])))


def test_fingerprints_tell_pixels_and_looks_apart():
    film = smooth_film(0)
    changed = film.copy()
    changed.putpixel((3, 3), 255 - film.getpixel((3, 3)))
    assert pixel_hash(film) == pixel_hash(film.copy())
    assert len({pixel_hash(one) for one in (film, changed, film.convert("RGB"), film.transpose(2))}) == 4
    first, second, distance = look_alikes(
        as_words([difference_hashes(one)[0] for one in (film, film.resize((240, 200)), smooth_film(1))])
    )
    assert (first.tolist(), second.tolist()) == ([0], [1])
    assert distance[0] <= MAX_DISTANCE


def test_real_films_have_no_look_alikes(real_cxr, tmp_path):
    from data_scripts.loaders import nih_chestxray14

    settings = {"image_size": 64, "num_workers": 2, "near_duplicates": True}
    raw = real_cxr / "nih_chestxray14"
    prepare("nih_chestxray14", arguments(raw, tmp_path / "out", **settings), nih_chestxray14.Options())
    counts = json.loads((tmp_path / "out" / "duplicates.json").read_text())["counts"]
    assert counts["exact"]["groups"] == counts["near"]["groups"] == 0
    assert len(read_fingerprints(tmp_path / "out")) == 246


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shard_index": 2, "num_shards": 2}, "must be 0 to 1"),
        ({"limit": -1}, "limit is -1"),
        ({"compression": "zip"}, "compression is 'zip'"),
        ({"shard_megabytes": 0}, "shard_megabytes is 0"),
    ],
)
def test_arguments_out_of_range(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        PrepareArguments(out=str(tmp_path), **changes)
