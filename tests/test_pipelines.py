"""Films of more than 8 bits in the pipelines of transformers: scaled where the package is imported, else refused."""

import base64

import numpy as np
import pytest
import torch
import transformers
from PIL import Image, ImageOps
from transformers import AutoModel, AutoModelForImageClassification, AutoModelForSemanticSegmentation, pipeline
from transformers.utils.chat_template_utils import Chat

from data_scripts.synthetic import SyntheticOptions, draw_film, make_case
from modeling_chexficient import CheXficientImageProcessor, to_eight_bit
from tests.adapter_files import SIDE, make_report_model, save_base

LABELS = {0: "effusion", 1: "edema"}
TASKS = {
    "zero-shot-image-classification": {"candidate_labels": ["edema", "no edema"], "hypothesis_template": "{}"},
    "image-classification": {},
    "image-segmentation": {"threshold": 0.5, "mask_threshold": 0, "overlap_mask_area_threshold": 0},
    "image-feature-extraction": {},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict:
    """A folder for each task."""
    root = tmp_path_factory.mktemp("pipelines")
    whole = save_base(root / "whole")
    for name, auto in (("findings", AutoModelForImageClassification), ("parts", AutoModelForSemanticSegmentation)):
        torch.manual_seed(0)
        model = auto.from_pretrained(whole, id2label=LABELS, problem_type="multi_label_classification")
        model.save_pretrained(root / name)
        CheXficientImageProcessor(SIDE).save_pretrained(root / name)
    heads = {"image-classification": root / "findings", "image-segmentation": root / "parts"}
    return {task: str(heads.get(task, whole)) for task in TASKS}


def deep_film(bits: int = 12, border: int = 0) -> Image.Image:
    """A film of `bits` bits in mode "I;16", whose lowest value is far above 255, with a black border."""
    rows, columns = np.mgrid[:50, :40]
    picture = 0.5 + 0.35 * np.sin(rows / 7) * np.cos(columns / 5)
    picture[:border] = 0
    return Image.fromarray((picture * (2**bits - 1)).astype(np.uint16))


def plain(found):
    """Output of a pipeline with masks as bytes."""
    if found and isinstance(found[0], dict) and "mask" in found[0]:
        return [{**entry, "mask": entry["mask"].tobytes()} for entry in found]
    return found


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("bits", [10, 12, 16])
def test_a_deep_film_is_scaled_however_it_is_given(task, bits, folders, tmp_path):
    run, image = pipeline(task, model=folders[task]), deep_film(bits)
    image.save(tmp_path / "film.png")
    image.save(tmp_path / "film.tiff")
    encoded = base64.b64encode((tmp_path / "film.png").read_bytes()).decode()
    expected = plain(run(to_eight_bit(image), **TASKS[task]))
    for given in (
        image,
        image.convert("I"),
        str(tmp_path / "film.png"),
        str(tmp_path / "film.tiff"),
        encoded,
        f"data:image/png;base64,{encoded}",
    ):
        assert plain(run(given, **TASKS[task])) == expected
    assert plain(run(ImageOps.mirror(to_eight_bit(image)), **TASKS[task])) != expected


def test_lists_of_films_and_white_ones(folders):
    run = pipeline("image-classification", model=folders["image-classification"])
    first, second = deep_film(12), deep_film(16, border=9)
    assert run([first, second]) == [run(to_eight_bit(first)), run(to_eight_bit(second))]
    assert run(Image.new("L", (40, 50), 255)) != run(first)
    with pytest.raises(ValueError, match="no file, URL or base64 string"):
        run("no_such_film.png")


@pytest.mark.parametrize("task", TASKS)
def test_the_pipeline_of_transformers_itself_is_refused_a_deep_film(task, folders, tmp_path):
    name = "".join(word.capitalize() for word in task.split("-")) + "Pipeline"
    run = pipeline(task, model=folders[task], pipeline_class=getattr(transformers, name))
    deep_film().save(tmp_path / "film.png")
    for given in (deep_film(), deep_film(border=15), str(tmp_path / "film.png")):
        with pytest.raises(ValueError, match="is white, as of a film of more than 8 bits"):
            run(given, **TASKS[task])
    run(to_eight_bit(deep_film()), **TASKS[task])


def test_mostly_white_films_are_warned_of_and_others_are_not(recwarn):
    processor = CheXficientImageProcessor(SIDE)
    film = to_eight_bit(deep_film())
    half = Image.new("L", (40, 120), 255)
    half.paste(film, (0, 0))
    processor(half)
    processor(film.convert("RGB"))
    assert not recwarn.list
    with pytest.warns(UserWarning, match="58% of the image is white"):
        processor(half.convert("RGB"))


def test_report_pipelines_scale_films_in_chats_and_beside_prompts(tmp_path):
    model, processor = make_report_model(save_base(tmp_path / "model"))
    film = deep_film()
    film.save(tmp_path / "film.png")
    write = pipeline("image-text-to-text", model=model, processor=processor)
    pixels = processor.image_processor(film, return_tensors="pt")["pixel_values"]

    def chat(**image) -> list[dict]:
        return [{"role": "user", "content": [{"type": "image", **image}, {"type": "text", "text": "no edema"}]}]

    prompt = processor.apply_chat_template(chat(), add_generation_prompt=True)
    inputs: list = [{"images": film, "text": prompt}, {"images": [str(tmp_path / "film.png")], "text": prompt}]
    inputs += [Chat(chat(image=film)), Chat(chat(path=str(tmp_path / "film.png")))]
    for given in inputs:
        with pytest.warns(UserWarning, match="not one whole upright frontal chest film"):
            write.preprocess(given, check_input=True)
        torch.testing.assert_close(write.preprocess(given)["pixel_values"], pixels)


@pytest.mark.parametrize("task", TASKS)
def test_the_input_check_warns_or_refuses(task, folders, recwarn):
    """Off by default; asked for in a call or in the constructor, and silent on a whole film."""
    film = Image.fromarray(draw_film(make_case(1, SyntheticOptions(seed=23, broken_image_share=0)), 112)[0])
    negative = ImageOps.invert(film)
    run = pipeline(task, model=folders[task])
    expected = plain(run(negative, **TASKS[task]))
    run([film], check_input=True, **TASKS[task])
    assert not recwarn.list
    with pytest.warns(UserWarning, match="not one whole upright frontal chest film .* black and white are exchanged"):
        assert plain(run(negative, check_input=True, **TASKS[task])) == expected
    checking = pipeline(task, model=folders[task], check_input="refuse")
    with pytest.raises(ValueError, match="black and white are exchanged"):
        checking(negative, **TASKS[task])
    with pytest.raises(ValueError, match="check_input is 'yes'"):
        run(film, check_input="yes", **TASKS[task])


def test_words_that_no_report_has_are_told(folders, recwarn):
    run, film = pipeline("zero-shot-image-classification", model=folders["zero-shot-image-classification"]), deep_film()
    run(film, candidate_labels=["edema"], hypothesis_template="{}")
    assert not [one for one in recwarn if "photo" in str(one.message)]
    with pytest.warns(UserWarning, match=r'"This is a photo of LABEL\.".* pass hypothesis_template="\{\}"'):
        run(film, candidate_labels=["edema"])


def test_features_of_a_head_are_refused(folders):
    for task in ("image-classification", "image-segmentation"):
        with pytest.raises(ValueError, match=r"logits of CheXficientFor\w+ as features"):
            pipeline("image-feature-extraction", model=folders[task])


def test_saved_pipelines_ask_for_no_remote_code(folders, tmp_path):
    task = "image-classification"
    run = pipeline(task, model=folders[task])
    run.save_pretrained(tmp_path)
    assert pipeline(task, model=str(tmp_path))(deep_film()) == run(deep_film())
    assert not hasattr(AutoModel.from_pretrained(tmp_path).config, "custom_pipelines")
