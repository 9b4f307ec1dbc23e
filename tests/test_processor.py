"""Preprocessing: equality with an independent reading of the published pipeline, every kind of image, bad inputs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, BertTokenizer

from modeling_chexficient import (
    CheXficientConfig,
    CheXficientImageProcessor,
    CheXficientProcessor,
    normalise_pixels,
    resize_and_crop,
    to_eight_bit,
)

# Real films beside the checkout, where there are any.
FILMS = Path(__file__).parents[2] / "shared" / "real_cxr" / "covid_chestxray" / "images"
SIZE = 56
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)


def published(image: Image.Image, size: int) -> np.ndarray:
    """Published preprocessing of an 8-bit PIL image, written from torchvision's documentation: [3, size, size]."""
    image = image.convert("RGB")
    width, height = image.size
    if width < height:
        image = image.resize((size, int(size * height / width)), Image.BICUBIC)
    else:
        image = image.resize((int(size * width / height), size), Image.BICUBIC)
    width, height = image.size
    top, left = round((height - size) / 2.0), round((width - size) / 2.0)
    pixels = np.asarray(image)[top : top + size, left : left + size].astype(np.float32) / np.float32(255)
    return ((pixels - MEAN) / STD).transpose(2, 0, 1)


def film(height: int = 90, width: int = 71, low: int = 0, high: int = 255) -> np.ndarray:
    """A smooth grey picture with some noise, uint8 [height, width], that spans low..high."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:height, :width]
    picture = np.sin(rows / 9) * np.cos(columns / 7) + generator.normal(0, 0.2, (height, width))
    picture = (picture - picture.min()) / (picture.max() - picture.min())
    return np.rint(low + picture * (high - low)).astype(np.uint8)


def colour(height: int = 90, width: int = 71) -> np.ndarray:
    return np.stack([film(height, width), film(height, width)[::-1], film(height, width)[:, ::-1]], -1)


@pytest.fixture(scope="module")
def processor() -> CheXficientImageProcessor:
    return CheXficientImageProcessor(SIZE)


def pixels_of(processor, image) -> np.ndarray:
    return processor(image, return_tensors="np").pixel_values[0]


@pytest.mark.parametrize("shape", [(90, 71), (71, 90), (57, 300), (200, 56), (56, 56), (40, 33), (101, 57), (1, 3)])
def test_pixels_equal_the_published_preprocessing(processor, shape):
    for picture in (Image.fromarray(film(*shape)), Image.fromarray(colour(*shape))):
        assert np.array_equal(pixels_of(processor, picture), published(picture, SIZE))


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "RGBA", "P", "LA", "PA", "CMYK", "YCbCr", "HSV", "RGBX"])
@pytest.mark.parametrize("source", [film, colour])
def test_eight_bit_modes_equal_the_published_preprocessing(processor, mode, source):
    picture = Image.fromarray(source())
    picture = picture.convert("P").convert(mode) if mode == "PA" else picture.convert(mode)
    assert picture.mode == mode
    assert np.array_equal(pixels_of(processor, picture), published(picture, SIZE))


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L", "I", "F"])
def test_deep_modes_equal_the_eight_bit_image(processor, mode):
    eight = film()
    values = eight.astype(np.uint16) * 257
    if mode == "F":
        deep = Image.fromarray(eight.astype(np.float32))
    elif mode == "I":
        deep = Image.fromarray(values.astype(np.int32))
    elif mode == "I;16B":
        deep = Image.frombytes(mode, eight.shape[::-1], values.astype(">u2").tobytes())
    else:
        deep = Image.frombytes(mode, eight.shape[::-1], values.astype("<u2").tobytes())
    assert deep.mode == mode
    assert np.array_equal(pixels_of(processor, deep), published(Image.fromarray(eight), SIZE))


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_integers_are_scaled_by_the_depth_that_holds_their_maximum(bits):
    top = 2**bits - 1
    values = np.linspace(0, top, 300).astype(np.uint16).reshape(20, 15)
    expected = np.floor(values * (255 / top) + 0.5)
    actual = np.asarray(to_eight_bit(values))
    assert actual.max() == 255
    assert np.abs(actual - expected).max() == 0
    # A dim film of the same depth stays dim: its own maximum only chooses the depth.
    dim = np.asarray(to_eight_bit(values // 2 + top // 4))
    assert 180 < dim.max() < 200


def test_saved_sixteen_bit_png_is_not_clipped(processor, tmp_path):
    Image.fromarray(film().astype(np.uint16) * 257).save(tmp_path / "film.png")
    loaded = Image.open(tmp_path / "film.png")
    assert loaded.mode.startswith("I")
    assert np.array_equal(pixels_of(processor, loaded), published(Image.fromarray(film()), SIZE))


@pytest.mark.parametrize(
    "convert",
    [
        lambda grey: grey,
        lambda grey: grey.astype(np.uint16) * 257,
        lambda grey: grey.astype(np.int64),
        lambda grey: grey / 255,
        lambda grey: (grey / 255).astype(np.float32),
        lambda grey: grey.astype(np.float64),
        lambda grey: grey[..., None],
        lambda grey: grey[None],
        lambda grey: np.stack([grey] * 3, -1),
        lambda grey: np.stack([grey] * 3),
        lambda grey: np.stack([grey] * 3 + [np.full_like(grey, 9)], -1),
        lambda grey: np.asfortranarray(grey),
        lambda grey: torch.from_numpy(grey),
        lambda grey: torch.from_numpy(grey)[None].float() / 255,
        lambda grey: torch.from_numpy(grey.astype(np.uint16) * 257),
        lambda grey: torch.from_numpy(grey).to(torch.bfloat16)[None].expand(3, -1, -1),
    ],
)
def test_arrays_and_tensors_equal_the_pil_image(processor, convert):
    assert np.array_equal(pixels_of(processor, convert(film())), published(Image.fromarray(film()), SIZE))


def test_colour_arrays_keep_their_colours(processor):
    expected = published(Image.fromarray(colour()), SIZE)
    for array in (colour(), colour().transpose(2, 0, 1), colour().astype(np.uint16) * 257, colour() / 255):
        assert np.array_equal(pixels_of(processor, array), expected)
    assert np.array_equal(pixels_of(processor, film() > 100), pixels_of(processor, (film() > 100) * np.uint8(255)))


def test_equal_channels_become_grey():
    grey = Image.fromarray(film())
    for mode in ("RGB", "RGBA", "LA", "P", "CMYK"):
        assert to_eight_bit(grey.convert(mode)).mode == "L"
        assert np.array_equal(np.asarray(to_eight_bit(grey.convert(mode))), film())
    almost = np.stack([film()] * 3, -1)
    almost[-1, -1, 2] ^= 1
    assert to_eight_bit(Image.fromarray(almost)).mode == "RGB"


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((9, 9), np.nan), "NaN or infinite"),
        (np.full((9, 9), np.inf), "NaN or infinite"),
        (np.linspace(-1, 1, 81).reshape(9, 9), r"not -1\.\.1: rescale"),
        (np.linspace(0, 4095, 81).reshape(9, 9), r"not 0\.\.4095: rescale the image, or pass integers"),
        (np.array([[-1000, 50]], dtype=np.int16), r"0\.\.65535, not -1000\.\.50"),
        (np.array([[0, 70000]]), r"not 0\.\.70000"),
        (np.zeros((0, 9), dtype=np.uint8), r"Empty image of shape \(0, 9\)"),
        (Image.new("L", (0, 9)), "Empty image of 0 x 9"),
        (Image.new("F", (0, 9)), "Empty image"),
        (np.zeros((7, 9, 5), dtype=np.uint8), r"Which axis of \(7, 9, 5\)"),
        (np.zeros((3, 9, 3), dtype=np.uint8), r"Which axis of \(3, 9, 3\)"),
        (np.zeros(9, dtype=np.uint8), r"not \(9,\)"),
        (np.zeros((1, 900), dtype=np.uint8), "900 x 1 pixels is no chest film"),
    ],
)
def test_bad_images_are_refused_with_their_position(processor, image, message):
    with pytest.raises(ValueError, match=message) as raised:
        processor([film(), image])
    assert str(raised.value).startswith("Image 1 of the batch")


@pytest.mark.parametrize("image", [None, b"", np.array([["a"]])])
def test_what_is_no_image_is_a_type_error(processor, image):
    with pytest.raises(TypeError, match="Image 0 of the batch"):
        processor(image)


def test_no_image_and_bad_sizes_are_refused(processor):
    with pytest.raises(ValueError, match="No image"):
        processor([])
    with pytest.raises(ValueError, match=r"Without do_resize.*one size"):
        processor([film(60, 60), film(60, 61)], do_resize=False)
    for size in (0, -3, 3.5, {"height": 9, "width": 9}):
        with pytest.raises(ValueError, match="shortest_edge"):
            CheXficientImageProcessor(size)


def test_prepared_images_are_processed_to_the_same_pixels(processor, tmp_path):
    for picture in (Image.fromarray(film()), Image.fromarray(colour()), Image.fromarray(film(33, 40))):
        prepared = resize_and_crop(to_eight_bit(picture), SIZE)
        assert prepared.size == (SIZE, SIZE)
        prepared.save(tmp_path / "prepared.png")
        again = Image.open(tmp_path / "prepared.png")
        assert again.mode == prepared.mode
        assert np.array_equal(pixels_of(processor, again), pixels_of(processor, picture))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_normalise_pixels_equals_the_processor(processor, dtype):
    pictures = [Image.fromarray(film(h, w)) for h, w in ((90, 71), (60, 99))]
    expected = processor(pictures, return_tensors="pt").pixel_values.to(dtype)
    stored = torch.stack([torch.from_numpy(np.array(resize_and_crop(picture, SIZE))) for picture in pictures])
    for pixels in (stored, stored[:, None], stored[:, None].expand(-1, 3, -1, -1)):
        normalised = normalise_pixels(pixels, dtype=dtype)
        assert normalised.dtype == dtype
        assert torch.equal(normalised, expected)
    assert stored.dtype == torch.uint8


@pytest.mark.parametrize("pixels", [torch.zeros(2, 4, 9, 9, dtype=torch.uint8), torch.zeros(2, 9, 9), torch.zeros(9)])
def test_normalise_pixels_refuses_other_types_and_shapes(pixels):
    with pytest.raises(ValueError, match="pixels must be uint8"):
        normalise_pixels(pixels)


def test_batches_mix_grey_and_colour_and_arrays(processor):
    grey, rgb = Image.fromarray(film()), Image.fromarray(colour())
    batch = processor([grey, rgb], return_tensors="pt").pixel_values
    assert batch.shape == (2, 3, SIZE, SIZE)
    assert np.array_equal(batch[0].numpy(), published(grey, SIZE))
    assert np.array_equal(batch[1].numpy(), published(rgb, SIZE))
    stacked = np.stack([colour(), colour()])
    assert processor(stacked, return_tensors="np").pixel_values.shape == (2, 3, SIZE, SIZE)
    as_list = processor([grey, rgb]).pixel_values
    assert isinstance(as_list, list)
    assert np.array_equal(as_list[1], batch[1].numpy())


def test_options_of_a_call(processor):
    raw = processor(film(), do_normalize=False, size=28, return_tensors="pt").pixel_values
    assert raw.shape == (1, 3, 28, 28)
    assert 0 <= raw.min() < raw.max() <= 1
    kept = processor(film(40, 50), do_resize=False, return_tensors="pt").pixel_values
    assert kept.shape == (1, 3, 40, 50)
    assert CheXficientImageProcessor().size == {"shortest_edge": 378}


@pytest.mark.skipif(not FILMS.is_dir(), reason=f"the real films are not at {FILMS}")
def test_real_films_equal_the_published_preprocessing():
    processor = CheXficientImageProcessor()
    seen = {}
    for path in sorted(FILMS.iterdir()):
        with Image.open(path) as image:
            mode = image.mode
            if seen.get(mode, 0) >= 2 or mode.startswith(("I", "F")):
                continue
            seen[mode] = seen.get(mode, 0) + 1
            assert np.array_equal(pixels_of(processor, image), published(image, 378)), path
    assert {"L", "RGB"} <= set(seen)


@pytest.fixture(scope="module")
def tokenizer() -> BertTokenizer:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "no", "pleural", "effusion", "pneumonia"]
    return BertTokenizer(vocab={word: n for n, word in enumerate(words)})


@pytest.fixture(scope="module")
def both(processor, tokenizer) -> CheXficientProcessor:
    return CheXficientProcessor(processor, tokenizer)


def test_processor_gives_what_the_model_takes(both):
    batch = both(images=[film(), film()], text=["pneumonia", "no pleural effusion"])
    assert set(batch) == {"pixel_values", "input_ids", "attention_mask", "token_type_ids"}
    assert batch["pixel_values"].shape == (2, 3, SIZE, SIZE)
    assert batch["input_ids"].tolist() == [[2, 8, 3, 0, 0], [2, 5, 6, 7, 3]]
    assert batch["attention_mask"].sum(1).tolist() == [3, 5]
    assert set(both(images=film())) == {"pixel_values"}
    assert both(text="pneumonia")["input_ids"].shape == (1, 3)


def test_processor_truncates_to_the_published_length_or_the_tokenizers(processor, tokenizer):
    long = "effusion " * 400
    both = CheXficientProcessor(processor, tokenizer)
    assert both(text=long)["input_ids"].shape == (1, 256)
    assert both(text=long, max_length=9)["input_ids"].shape == (1, 9)
    assert both(text=[long, "no"], padding="max_length", max_length=12)["input_ids"].shape == (2, 12)
    short = BertTokenizer(vocab=tokenizer.get_vocab(), model_max_length=32)
    assert CheXficientProcessor(processor, short)(text=long)["input_ids"].shape == (1, 32)


@pytest.mark.parametrize(
    ("text", "message"),
    [([], "empty"), ("", "position 0"), (["no", " \n"], "position 1"), (["no", None, ""], "position 1, 2")],
)
def test_blank_texts_are_refused(both, text, message):
    with pytest.raises(ValueError, match=message):
        both(text=text)


def test_processor_without_input_is_refused(both):
    with pytest.raises(ValueError, match="images, text, or both"):
        both()


def test_processors_save_and_load(both, tmp_path):
    both.save_pretrained(tmp_path)
    loaded = CheXficientProcessor.from_pretrained(tmp_path)
    assert loaded.image_processor.size == {"shortest_edge": SIZE}
    for name, value in both(images=film(), text="no pneumonia").items():
        assert torch.equal(loaded(images=film(), text="no pneumonia")[name], value)


@pytest.mark.parametrize(
    "options", [{"do_normalize": False}, {"size": 28}, {"do_resize": False}, {"image_mean": [0.5, 0.5, 0.5]}]
)
@pytest.mark.parametrize("text", [None, "pneumonia"])
def test_image_options_reach_the_image_processor(both, options, text):
    alone = both.image_processor(film(), return_tensors="pt", **options)["pixel_values"]
    for given in (options, {"images_kwargs": options}):
        assert torch.equal(both(images=film(), text=text, **given)["pixel_values"], alone)


def test_text_options_reach_the_tokenizer_alone_or_in_a_group(both):
    fixed = {"padding": "max_length", "max_length": 8}
    for given in (fixed, {"text_kwargs": fixed}):
        assert both(text="pneumonia", **given)["input_ids"].shape == (1, 8)
    arrays = both(images=film(), text="pneumonia", common_kwargs={"return_tensors": "np"})
    assert all(isinstance(value, np.ndarray) for value in arrays.values())
    assert isinstance(both(images=film(), return_tensors=None)["pixel_values"], list)


def test_options_set_in_the_tokenizer_are_kept_and_a_call_overrides_them(processor, tokenizer):
    own = BertTokenizer(vocab=tokenizer.get_vocab(), padding="max_length", max_length=17)
    both = CheXficientProcessor(processor, own)
    assert both(text="pneumonia")["input_ids"].shape == (1, 17)
    assert both(text="pneumonia", max_length=9)["input_ids"].shape == (1, 9)


@pytest.mark.parametrize(
    "options",
    [
        {"no_such_argument": 1},
        {"do_rescale": False},
        {"crop_size": 28},
        {"images_kwargs": {"do_rescale": False}},
        {"images_kwargs": {"padding": True}},
        {"text_kwargs": {"no_such_argument": 1}},
        {"videos_kwargs": {"fps": 1}},
    ],
)
@pytest.mark.parametrize("text", [None, "pneumonia"])
def test_options_without_effect_are_refused(both, options, text):
    with pytest.raises(TypeError, match="CheXficientProcessor takes no"):
        both(images=film(), text=text, **options)


def test_an_option_given_twice_is_refused(both):
    with pytest.raises(ValueError, match="two times"):
        both(images=film(), size=28, images_kwargs={"size": 56})


def test_auto_processor_of_a_head_is_its_image_processor(both, tmp_path):
    config = CheXficientConfig({"model_type": "dinov2"}, {"model_type": "bert"})
    for name, kept in (("head", both.image_processor), ("whole", both)):
        config.save_pretrained(tmp_path / name)
        kept.save_pretrained(tmp_path / name)
        assert type(AutoProcessor.from_pretrained(tmp_path / name)) is type(kept)
