"""Mask encodings: each decoded to the pixels it means, the wrong ones named."""

import numpy as np
import pytest
from PIL import Image

from data_scripts.films.images import prepare_mask
from data_scripts.films.masks import decode_mask, decode_masks, fit_mask
from data_scripts.schema import DataError, Label, Mask, Record, check_record


def pixels_of(mask: Mask, raw=None) -> np.ndarray:
    decoded = decode_mask(mask, raw)
    assert decoded.mode == "L"
    return np.asarray(decoded)


def inside(pixels: np.ndarray) -> set[tuple[int, int]]:
    """(row, column) of every pixel that is 255."""
    return {(int(row), int(column)) for row, column in np.argwhere(pixels == 255)}


def test_relative_runs_go_down_the_columns_from_the_end_of_the_last():
    pixels = pixels_of(Mask("rle_relative", ["0 3 1021 2"], size=(1024, 1024)))
    assert inside(pixels) == {(0, 0), (1, 0), (2, 0), (0, 1), (1, 1)}
    # A frame that is not square tells rows from columns.
    assert inside(pixels_of(Mask("rle_relative", ["5 1"], size=(3, 7)))) == {(2, 1)}
    both = pixels_of(Mask("rle_relative", ["0 1", " 20 1 "], size=(3, 7)))
    assert inside(both) == {(0, 0), (2, 6)}, "several strings are united"


def test_absolute_runs_go_along_the_rows_and_begin_at_one():
    assert inside(pixels_of(Mask("rle_absolute", ["1 2 8 1"], size=(3, 7)))) == {(0, 0), (0, 1), (1, 0)}
    assert inside(pixels_of(Mask("rle_absolute", ["21 1"], size=(3, 7)))) == {(2, 6)}


def coco_string(counts: list[int]) -> str:
    """As `rleToString` of the COCO API: five bits a character, differences to the count two before."""
    text = ""
    for position, count in enumerate(counts):
        number = count - counts[position - 2] if position > 2 else count
        more = True
        while more:
            bits = number & 0x1F
            number >>= 5
            more = number != -1 if bits & 0x10 else number != 0
            text += chr((bits | 0x20 if more else bits) + 48)
    return text


def test_coco_runs_compressed_and_not():
    mask = np.random.default_rng(0).random((37, 53)) < 0.1
    mask[:, 10:30] = True
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    counts = [0, *counts] if flat[0] else counts
    for given in (counts, coco_string(counts), coco_string(counts).encode()):
        pixels = pixels_of(Mask("rle_coco", [{"size": [37, 53], "counts": given}]))
        assert np.array_equal(pixels == 255, mask)
    with pytest.raises(DataError, match="runs cover 1962 pixels, the image has 37 x 53 = 1961"):
        decode_mask(Mask("rle_coco", [{"size": [37, 53], "counts": [1, 1961]}]), None)
    with pytest.raises(DataError, match="end within a number"):
        decode_mask(Mask("rle_coco", [{"size": [37, 53], "counts": "P"}]), None)
    with pytest.raises(DataError, match="is no character"):
        decode_mask(Mask("rle_coco", [{"size": [37, 53], "counts": "~~"}]), None)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("rle_relative", "20 2", "runs cover pixels 20 to 22, the image has 3 x 7 = 21"),
        ("rle_relative", "-1", "come in pairs"),
        ("rle_relative", "3 -1 1 1", "negative"),
        ("rle_absolute", "0 2", "runs cover pixels -1 to 1"),
        ("rle_absolute", "20 3", "runs cover pixels 19 to 22"),
        ("rle_absolute", "one two", "cannot be read"),
    ],
)
def test_runs_beyond_the_image_are_refused(kind, text, message):
    with pytest.raises(DataError, match=message):
        decode_mask(Mask(kind, [text], size=(3, 7)), None)


def test_shapes():
    assert inside(pixels_of(Mask("boxes", [[2, 1, 3, 2]], size=(6, 8)))) == {
        (row, column) for row in (1, 2) for column in (2, 3, 4)
    }
    assert inside(pixels_of(Mask("boxes", [[6, -1, 9, 2]], size=(6, 8)))) == {(0, 6), (0, 7)}, "clipped at the border"
    triangle = pixels_of(Mask("polygons", [[0, 0, 100, 0, 0, 100]], size=(120, 120)))
    assert abs((triangle == 255).sum() - 5050) < 120
    assert triangle[10, 10] == 255
    assert triangle[90, 90] == 0
    ellipse = pixels_of(Mask("ellipses", [[10, 20, 80, 40]], size=(100, 100)))
    assert abs((ellipse == 255).sum() - np.pi * 40 * 20) < 60
    rows, columns = np.nonzero(ellipse)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 59, 10, 89)


def test_lines_are_drawn_as_tubes():
    line = [10, 50, 60, 50, 60, 90]
    for width in (1, 5, 11):
        pixels = pixels_of(Mask("polylines", [line], size=(100, 100), width=width))
        assert abs((pixels[:, 30] == 255).sum() - width) <= 1
        assert abs((pixels[75] == 255).sum() - width) <= 1
        assert pixels[50, 60] == 255
        assert (pixels[:45, :50] == 0).all()
    dot = pixels_of(Mask("polylines", [[50, 50]], size=(100, 100), width=9))
    assert abs((dot == 255).sum() - np.pi * 4.5**2) < 20


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (Mask("boxes", [[8, 0, 2, 2]], size=(6, 8)), "outside of its frame of 8 x 6"),
        (Mask("boxes", [[1, 1, -2, 2]], size=(6, 8)), "negative width or height"),
        (Mask("boxes", [[1, 1, 2]], size=(6, 8)), "cannot be read"),
        (Mask("polygons", [[1, 1, 2, 2]], size=(6, 8)), "4 numbers do not make points"),
        (Mask("polygons", [[1, 1, float("nan"), 2, 3, 3]], size=(6, 8)), "not a pixel position"),
        (Mask("polygons", [], size=(6, 8)), "without any shape"),
        (Mask("boxes", [[1, 1, 2, 2]], size=(0, 8)), "frame of a mask is 0 x 8"),
        (Mask("rle_absolute", [], size=(6, 8)), "without any file, run or shape"),
        (Mask("rle_absolute", ["1 2"], size=(100_000, 100_000)), "frame of a mask is 100000 x 100000"),
    ],
)
def test_malformed_shapes_are_named(mask, message):
    with pytest.raises(DataError, match=message):
        decode_mask(mask, None)


def save(path, pixels, mode="L"):
    Image.fromarray(np.asarray(pixels, np.uint8)).convert(mode).save(path)


def test_files_of_ones_of_any_grey_and_with_not_judged(tmp_path):
    pixels = np.zeros((40, 50), np.uint8)
    pixels[5:20, 5:30] = 1
    pixels[20:30, 5:30] = 127
    for mode in ("L", "RGB", "P", "RGBA"):
        save(tmp_path / "one.png", pixels == 1, mode)
        assert np.array_equal(pixels_of(Mask("file", "one.png"), tmp_path) == 255, pixels == 1), mode
        save(tmp_path / "m.png", pixels, mode)
        with pytest.raises(DataError, match="label map with the values"):
            decode_mask(Mask("file", "m.png"), tmp_path)
        judged = pixels_of(Mask("file_ignore127", ["m.png"]), tmp_path)
        assert np.array_equal(judged, np.where(pixels == 1, 255, pixels)), mode
    Image.fromarray((pixels == 1).astype(np.uint16) * 256).save(tmp_path / "deep.png")
    assert (pixels_of(Mask("file", "deep.png"), tmp_path) == np.where(pixels == 1, 255, 0)).all()


def test_several_files_are_united_and_must_agree(tmp_path):
    left, right = np.zeros((2, 40, 50), np.uint8)
    left[:, :10], right[:, 40:] = 255, 255
    save(tmp_path / "left.png", left)
    save(tmp_path / "right.png", right)
    save(tmp_path / "small.png", np.zeros((32, 40)))
    assert (pixels_of(Mask("file", ["left.png", "right.png"]), tmp_path) == left + right).all()
    with pytest.raises(DataError, match=r"\(40, 50\) and \(32, 40\)"):
        decode_mask(Mask("file", ["left.png", "small.png"]), tmp_path)
    with pytest.raises(DataError, match="missing"):
        decode_mask(Mask("file", "absent.png"), tmp_path)
    with pytest.raises(DataError, match="leaves the raw folder"):
        decode_mask(Mask("file", "../secret.png"), tmp_path)
    masks = {"lungs": [Mask("file", "left.png"), Mask("boxes", [[20, 0, 10, 20]], size=(20, 25))]}
    united = np.asarray(decode_masks(masks, tmp_path, (50, 40))["lungs"])
    assert (united[:, :10] == 255).all()
    assert (united[:, 40:] == 255).all(), "the second frame is half the size of the image"
    assert (united[:, 10:40] == 0).all()


def test_a_mask_is_scaled_to_its_image_if_the_aspect_fits():
    mask = Image.new("L", (512, 616))
    mask.paste(255, (0, 0, 256, 616))
    fitted = np.asarray(fit_mask(mask, (2540, 3056)))
    assert fitted.shape == (3056, 2540)
    assert (fitted[:, :1270] == 255).all()
    assert not fitted[:, 1270:].any()
    with pytest.raises(DataError, match="frame of the mask is 512 x 616, the image is 3056 x 2540"):
        fit_mask(mask, (3056, 2540))
    with pytest.raises(DataError, match="mask 'lung': the frame of the mask is 8 x 6, the image is 60 x 60"):
        decode_masks({"lung": Mask("boxes", [[1, 1, 2, 2]], size=(6, 8))}, None, (60, 60))


def test_prepared_masks_keep_their_three_values():
    mask = Image.new("L", (64, 80))
    mask.paste(255, (10, 18, 40, 48))
    mask.paste(127, (40, 18, 50, 48))
    pixels = np.asarray(prepare_mask(mask, 32))
    assert pixels.shape == (32, 32)
    assert set(np.unique(pixels)) == {0, 127, 255}
    assert 200 <= (pixels == 255).sum() <= 250
    assert 60 <= (pixels == 127).sum() <= 90
    assert np.array_equal(np.asarray(prepare_mask(mask, None)), np.asarray(mask))


def test_the_schema_checks_masks():
    record = Record("a/1", "a", "p", "s", "train", findings="x", labels=[Label("Edema", 1)])
    for mask, message in (
        (Mask("rle", ["1 2"]), "kind 'rle', allowed"),
        (Mask("boxes", [[1, 1, 2, 2]]), r"needs the size \(height, width\)"),
        (Mask("rle_absolute", "1 2", size=(4, 4)), "takes a list, got str"),
        (Mask("polylines", [[1, 1]], size=(4, 4)), "need a width"),
    ):
        record.masks = {"lung": [mask]}
        with pytest.raises(DataError, match=f"'a/1': mask 'lung'.*{message}"):
            check_record(record)


def test_edges_of_jpeg_masks_are_where_they_were(tmp_path):
    pixels = np.zeros((64, 64), np.uint8)
    pixels[20:40, 20:40] = 255
    save(tmp_path / "m.jpg", pixels)
    assert np.count_nonzero(np.asarray(Image.open(tmp_path / "m.jpg")) % 255) > 0, "JPEG has made greys"
    assert np.array_equal(pixels_of(Mask("file", "m.jpg"), tmp_path), pixels)
