"""The Space: building its folder, what it makes of a film, and the page itself (with gradio)."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from datasets import load_dataset
from huggingface_hub import SpaceCard
from peft import LoraConfig, get_peft_model
from PIL import Image, ImageOps
from transformers import pipeline

from eval.calibrate import main as calibrate
from model_cards.space.__main__ import SpaceArguments, build_space, main
from model_cards.space_files.space_app import findings as app_findings
from model_cards.space_files.space_app import pictures
from model_cards.space_files.space_app.models import load_space
from modeling_chexficient import (
    CheXficientConfig,
    CheXficientForSemanticSegmentation,
    CheXficientImageProcessor,
    CheXficientModel,
    CheXficientProcessor,
    check_film,
)
from modeling_chexficient.adapters_chexficient import identify_base, save_adapter
from tests.adapter_files import in_the_cache, make_adapter
from tests.dicom_files import ramp, write_dicom
from tests.page_files import load_page_films
from tests.run_records import adapt_run
from tests.tiny_models import SIDE, TEXT, VISION, save_tiny_model, tiny_tokenizer

STRUCTURES = {0: "left_lung", 1: "heart"}
FINDINGS = ["edema", "cardiomegaly: cardiomegaly | no effusion"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A tiny dual encoder with random weights, as a folder."""
    tower = {**VISION, "model_type": "dinov2"}
    del tower["intermediate_size"]
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "base"
    config = CheXficientConfig(tower, {"model_type": "bert", **TEXT}, projection_dim=8)
    CheXficientModel(config).save_pretrained(folder)
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = TEXT["max_position_embeddings"]
    CheXficientProcessor(CheXficientImageProcessor(SIDE), tokenizer).save_pretrained(folder)
    return folder


def segmenter(model: Path) -> CheXficientForSemanticSegmentation:
    torch.manual_seed(1)
    labels = {"id2label": STRUCTURES, "label2id": {name: n for n, name in STRUCTURES.items()}}
    return CheXficientForSemanticSegmentation.from_pretrained(model, mask_decoder="linear", **labels).eval()


@pytest.fixture(scope="module")
def head(model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("heads") / "segmentation"
    segmenter(model).save_pretrained(folder)
    CheXficientImageProcessor(SIDE).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def space(model, head, tiny_corpus, tmp_path_factory) -> Path:
    options = {"data": str(tiny_corpus), "segmentation": str(head), "findings": FINDINGS}
    arguments = SpaceArguments(str(model), **options, reports=20, reference_films=10)
    return build_space(tmp_path_factory.mktemp("spaces") / "space", arguments)


def film(seed: int = 0, side: int = 90) -> Image.Image:
    rows, columns = np.mgrid[:side, : side + 10]
    values = 128 + 100 * np.sin(rows / (9 + seed)) * np.cos(columns / 11)
    return Image.fromarray(values.astype(np.uint8))


# Findings, ranks, reports


def test_findings_are_lines_with_templates_or_their_own_pair():
    text = "Edema\n\n Mass : a mass | clear lungs \nEDEMA\n"
    edema, mass = app_findings.parse_findings(text, "There is {}.", "No {}.")
    assert (edema.positive, edema.negative) == ("There is Edema.", "No Edema.")
    assert (mass.name, mass.positive, mass.negative) == ("Mass", "a mass", "clear lungs")
    # Braces of a finding are letters, not a template.
    assert app_findings.parse_findings("{0}")[0].positive == "{0}"


@pytest.mark.parametrize(
    ("text", "template", "message"),
    [
        (" \n", "{}", "no finding"),
        ("Edema\nMass: only one", "{}", "Line 2"),
        ("Mass: a mass | ", "{}", "Line 1"),
        ("\n".join(map(str, range(61))), "{}", "61 findings"),
        ("x" * 301, "{}", "301 letters"),
        ("Edema", "there is", "template"),
    ],
)
def test_malformed_findings_are_refused(text, template, message):
    with pytest.raises(ValueError, match=message):
        app_findings.parse_findings(text, template)


def test_scores_order_films_as_the_published_softmax():
    generator = torch.Generator().manual_seed(0)
    films = F.normalize(torch.randn(50, 8, generator=generator), dim=-1)
    prompts = F.normalize(torch.randn(3, 2, 8, generator=generator), dim=-1)
    scores = app_findings.two_prompt_scores(films, prompts)
    published = torch.einsum("fd,lpd->flp", 7 * films, prompts).softmax(-1)[..., 0]
    torch.testing.assert_close((7 * scores).sigmoid(), published)


def test_rank_is_the_share_of_reference_films_below():
    reference = torch.tensor([[0.1, 0.5], [0.2, 0.5], [0.3, 0.5], [0.4, 0.5]])
    ranks = app_findings.rank_among(torch.tensor([0.25, 0.5]), reference)
    assert ranks.tolist() == [0.5, 0.5]
    assert app_findings.rank_among(torch.tensor([1.0, 0.0]), reference).tolist() == [1.0, 0.0]


def test_nearest_reports_come_in_order_and_never_more_than_there_are():
    texts = torch.eye(3)
    found = app_findings.nearest(torch.tensor([0.6, 0.0, 0.8]), texts, 5)
    assert [row for row, _ in found] == [2, 0, 1]
    assert [round(cosine, 3) for _, cosine in found] == [0.8, 0.6, 0.0]


# Pictures


def test_masks_tint_and_outline_only_where_they_are():
    shown = np.full((9, 9, 3), 100, np.uint8)
    mask = np.zeros((9, 9), bool)
    mask[2:7, 2:7] = True
    picture = pictures.overlay(shown, {1: mask})
    assert (picture[~mask] == 100).all()
    assert (picture[2, 2:7] == pictures.colour(1)).all()
    inside = picture[4, 4].astype(int)
    assert (np.sign(inside - 100) == np.sign(np.array(pictures.colour(1)) - 100)).all()
    assert tuple(inside) != pictures.colour(1)
    assert np.array_equal(pictures.overlay(shown, {}), shown)


def test_the_border_of_the_film_is_an_outline_too():
    assert pictures.outline(np.ones((4, 4), bool)).sum() == 12


def test_texts_of_users_and_reports_cannot_become_html():
    evil = "<script>alert(1)</script>"
    finding = app_findings.Finding(evil, evil, '" onload="x')
    pages = [
        pictures.findings_html([finding], [0.1], [0.5]),
        pictures.labels_html([evil], [0.5]),
        pictures.reports_html([(evil, 0.5)]),
        pictures.legend_html([evil], {0: np.ones((2, 2), bool)}),
        pictures.legend_html([evil], {0: np.zeros((2, 2), bool)}),
    ]
    for page in pages:
        assert "<script" not in page
        assert "&lt;script&gt;" in page
    assert '" onload' not in pages[0]


# Uploads


@pytest.fixture(scope="module")
def page_films(tmp_path_factory):
    """The page's module `films`, from a written folder."""
    return load_page_films(tmp_path_factory.mktemp("code"))


def _truncated(path: Path) -> None:
    film().save(path)
    path.write_bytes(path.read_bytes()[:400])


def _claims_to_be_huge(path: Path) -> None:
    film().save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = (12_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path.write_bytes(data)


def _too_many_bytes(path: Path) -> None:
    film().save(path)
    os.truncate(path, 64 * 2**20 + 1)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.png", lambda path: path.write_bytes(b""), "empty"),
        ("a.png", lambda path: path.write_text("not an image"), "no PNG, JPEG or DICOM"),
        ("a.png", lambda path: film().save(path, format="GIF"), "no PNG, JPEG or DICOM"),
        ("a.png", _truncated, "damaged"),
        ("a.png", _claims_to_be_huge, "at most 100,000,000"),
        ("a.png", _too_many_bytes, "limit is 64 MB"),
        ("a.png", lambda path: Image.new("L", (20, 50), 3).save(path), "too small"),
        ("a.png", lambda path: Image.new("L", (50, 50), 3).save(path), "one grey value"),
        ("a.dcm", lambda path: path.write_bytes(b"no DICOM" * 40), "no readable pixels"),
        ("a.dcm", lambda path: write_dicom(path, None), "no readable pixels"),
        ("a.dcm", lambda path: write_dicom(path, np.stack([ramp(8)] * 3)), "several frames"),
        ("a.png", lambda path: None, "did not arrive"),
    ],
)
def test_bad_uploads_get_a_plain_sentence(tmp_path, page_films, name, write, message):
    path = tmp_path / f"Doe_Anna_{name}"
    write(path)
    with pytest.raises(page_films.FilmError, match=message) as error:
        page_films.read_film(path)
    # The name of a file may be that of a patient.
    assert "Doe" not in str(error.value)


def test_the_page_has_the_input_check_of_the_package(tmp_path, page_films, tiny_corpus):
    whole = load_dataset(str(tiny_corpus), split="test")[0]["image"]
    assert page_films.reasons_against(whole) == []
    deep = Image.fromarray(np.asarray(ImageOps.invert(whole)).astype(np.uint16) * 257)
    (reason,) = page_films.reasons_against(deep)
    assert "black and white are exchanged" in reason
    assert check_film(deep) == check_film(ImageOps.invert(whole))


def test_deep_films_keep_their_greys(tmp_path, page_films, space):
    deep = Image.fromarray(np.asarray(film()).astype(np.uint16) * 257)
    deep.save(tmp_path / "deep.png")
    film().save(tmp_path / "flat.png")
    models = load_space(space)
    readings = [models.read(page_films.read_film(tmp_path / name)) for name in ("deep.png", "flat.png")]
    assert np.abs(readings[0].shown.astype(int) - readings[1].shown).max() <= 1
    torch.testing.assert_close(readings[0].embedding, readings[1].embedding, atol=1e-3, rtol=0)


# The folder


@pytest.mark.parametrize(
    ("pretraining", "adapted", "licence"),
    [("synthetic", ["synthetic"], "apache-2.0"), ("brax", ["synthetic"], "other"), ("synthetic", ["st_mary"], "other")],
)
def test_the_licence_is_that_of_all_it_was_trained_on(model, head, tmp_path, pretraining, adapted, licence):
    base = shutil.copytree(model, tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"pretraining_sources": [pretraining]}))
    run = shutil.copytree(head, tmp_path / "run" / "model").parent
    adapt_run(sources=adapted).write(run)
    out = build_space(tmp_path / "space", SpaceArguments(str(base), segmentation=str(run)))
    assert SpaceCard.load(out / "README.md").data.license == licence


def test_a_model_of_the_hub_is_named_with_its_commit(model, tmp_path):
    in_the_cache(model, "ward/shown", "1" * 40)
    out = build_space(tmp_path / "space", SpaceArguments("ward/shown"))
    settings = json.loads((out / "space.json").read_text())
    assert (settings["model"], settings["revision"]) == ("ward/shown", "1" * 40)


def test_the_folder_is_a_space_and_holds_no_ids(space, tiny_corpus):
    card = SpaceCard.load(space / "README.md")
    assert (card.data.sdk, card.data.app_file) == ("gradio", "app.py")
    # What the model was trained on is not recorded.
    assert (card.data.license, card.data.license_name) == ("other", "terms-of-the-training-data")
    assert "--repo-type space --private" in card.text
    assert "not a medical device" in card.text
    assert "Synthetic chest X-rays (CC0-1.0)" in card.text
    assert {file.name for file in space.iterdir()} == {
        *("app.py", "requirements.txt", "README.md", "space.json", "space_app"),
        *("model", "segmentation", "reports", "examples"),
    }
    assert {file.suffix for file in space.rglob("*") if file.is_file()} <= {
        *(".py", ".txt", ".md", ".json", ".safetensors", ".png"),
    }
    written = "".join(file.read_text() for file in space.rglob("*.json"))
    assert "synthetic/0" not in written
    assert str(tiny_corpus) not in written
    assert len(json.loads((space / "reports" / "reports.json").read_text())) == 20


def test_what_the_page_shows_equals_the_models_themselves(space, model, head):
    models = load_space(space)
    reading = models.read(film())
    pixels = CheXficientImageProcessor(SIDE)(film(), return_tensors="pt")["pixel_values"]
    base = CheXficientModel.from_pretrained(model).eval()
    processor = CheXficientProcessor.from_pretrained(model)
    with torch.no_grad():
        torch.testing.assert_close(reading.embedding, base(pixel_values=pixels).image_embeds[0])
        edema = base(**processor(text=["edema", "no edema"])).text_embeds
        logits = segmenter(model)(pixel_values=pixels).logits
    scores, ranks = models.score(reading, app_findings.parse_findings("\n".join(FINDINGS)))
    assert scores[0] == pytest.approx((reading.embedding @ (edema[0] - edema[1])).item(), abs=1e-6)
    assert all(0 <= rank <= 1 for rank in ranks)
    reports = models.nearest_reports(reading, 3)
    assert [cosine for _, cosine in reports] == sorted((cosine for _, cosine in reports), reverse=True)
    expected = F.interpolate(logits, size=reading.shown.shape[:2], mode="bilinear")[0] > 0
    assert {n: mask.tolist() for n, mask in reading.masks.items()} == {n: expected[n].tolist() for n in STRUCTURES}


def test_the_page_says_above_or_below_where_points_are(model, tiny_corpus, tmp_path):
    copied = Path(shutil.copytree(model, tmp_path / "model"))
    classifier = make_adapter(copied, tmp_path / "head", labels=("Cardiomegaly", "Edema")).folder
    for folder, more in ((copied, ["--findings", "Cardiomegaly", "No Finding"]), (classifier, [])):
        data = ["--data", str(tiny_corpus), "--split", "train", "--least_films", "10", "--resamples", "100"]
        calibrate(["--model", str(folder), *data, *more])
    space = build_space(tmp_path / "space", SpaceArguments(str(copied), classification=str(classifier)))
    models = load_space(space)
    reading = models.read(film())
    findings = app_findings.parse_findings("Cardiomegaly\nCardiomegaly 2: Cardiomegaly | no heart\nNo Finding")
    scores, ranks = models.score(reading, findings)
    point = models.points["model"].points["Cardiomegaly"]
    above = point.is_above(scores[0] * models.model.logit_scale.exp().item())
    verdicts = models.verdicts(findings, scores)
    assert verdicts == [above, None, None], "other prompts have no point"
    page = pictures.findings_html(findings, scores, ranks, verdicts)
    assert f"<td>{'above' if above else 'below'}</td>" in page
    assert "operating point" not in pictures.findings_html(findings, scores, ranks, [None] * 3)
    run = pipeline("image-classification", model=str(classifier), threshold="validated")
    told = {one["label"]: one["above_threshold"] for one in run(film())}
    assert dict(zip(models.classification.names, reading.label_verdicts, strict=True)) == told
    assert None in told.values()


def test_an_adapter_is_merged_into_its_base(model, tmp_path):
    adapted = get_peft_model(
        segmenter(model), LoraConfig(target_modules=["q_proj", "v_proj"], modules_to_save=["decode_head"])
    )
    torch.manual_seed(2)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    processor = CheXficientImageProcessor(SIDE)
    # As in a run folder of train.adapt.
    save_adapter(adapted, tmp_path / "run" / "adapter", identify_base(model), "semantic-segmentation", processor)
    out = build_space(tmp_path / "space", SpaceArguments(str(model), segmentation=str(tmp_path / "run")))
    with torch.no_grad():
        expected = adapted.eval()(pixel_values=processor(film(), return_tensors="pt")["pixel_values"]).logits[0]
        torch.testing.assert_close(load_space(out).segmentation.logits(film()), expected, atol=1e-5, rtol=1e-4)
        assert (
            segmenter(model)(pixel_values=processor(film(), return_tensors="pt")["pixel_values"]).logits[0] - expected
        ).abs().max() > 1e-3
    assert not list(out.rglob("adapter_*"))

    other = shutil.copytree(model, tmp_path / "other")
    CheXficientModel(CheXficientConfig.from_pretrained(model)).save_pretrained(other)
    with pytest.raises(ValueError, match="trained on"):
        build_space(tmp_path / "again", SpaceArguments(str(other), segmentation=str(tmp_path / "run")))
    with pytest.raises(ValueError, match="semantic-segmentation, not for image-classification"):
        build_space(tmp_path / "again", SpaceArguments(str(model), classification=str(tmp_path / "run")))


def test_reports_of_other_than_open_data_are_refused(model, tiny_corpus, tmp_path):
    data = shutil.copytree(tiny_corpus, tmp_path / "data")
    summary = json.loads((data / "summary.json").read_text())
    (data / "summary.json").write_text(json.dumps({**summary, "loader": "mimic_cxr_jpg"}))
    with pytest.raises(ValueError, match="not known to be open or synthetic"):
        build_space(tmp_path / "space", SpaceArguments(str(model), data=str(data)))
    assert not (tmp_path / "space").exists()


def test_what_cannot_be_shown_is_refused_before_anything_is_written(model, head, tmp_path):
    vision_only = save_tiny_model("dinov2", tmp_path / "dinov2")
    cases = [
        ({"model": str(vision_only)}, "no CheXficient text tower"),
        ({"model": str(model), "segmentation": str(model)}, "holds a CheXficientModel, expected a CheXficientForSem"),
        ({"model": str(model), "classification": str(head)}, "expected a CheXficientForImageClassification"),
        ({"model": str(model), "segmentation": str(tmp_path / "nowhere")}, "neither an adapter, a head nor a run"),
        ({"model": str(model), "findings": ["Mass: a mass"]}, "Line 1"),
        ({"model": str(model), "positive_prompt": "present"}, "template"),
    ]
    for options, message in cases:
        with pytest.raises(ValueError, match=message):
            build_space(tmp_path / "space", SpaceArguments(**options))
        assert not (tmp_path / "space").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    with pytest.raises(SystemExit, match="holds other files"):
        main([str(tmp_path / "mine"), "--model", str(model)])
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep me"


def test_an_earlier_space_is_replaced_whole(model, head, tmp_path):
    build_space(tmp_path / "space", SpaceArguments(str(model), segmentation=str(head)))
    main([str(tmp_path / "space"), "--model", str(model), "--title", "Without masks"])
    assert load_space(tmp_path / "space").segmentation is None
    assert SpaceCard.load(tmp_path / "space" / "README.md").data.title == "Without masks"


ALONE = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("modeling_chexficient", "data_scripts", "eval", "train", "model_cards", "datasets"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocker())
sys.path.insert(0, ".")
from pathlib import Path
from space_app.films import read_film, reasons_against
from space_app.findings import parse_findings
from space_app.models import load_space

models = load_space(Path("."))
reading = models.read(read_film(Path(sys.argv[1])))
read_film(Path(sys.argv[2]))
print("REASONS", reasons_against(read_film(Path(sys.argv[1]))))
print("RESULT", models.score(reading, parse_findings("edema"))[0], sorted(reading.masks), type(models.model).__module__)
"""


def test_the_folder_works_without_this_project(space, tmp_path):
    film().save(tmp_path / "film.png")
    write_dicom(tmp_path / "film.dcm", ramp(12), WindowCenter=2048, WindowWidth=4096)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHON"))}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    command = [sys.executable, "-I", "-c", ALONE, str(tmp_path / "film.png"), str(tmp_path / "film.dcm")]
    done = subprocess.run(command, cwd=space, env=environment, capture_output=True, text=True, timeout=600)
    assert "RESULT" in done.stdout, done.stderr[-3000:]
    assert "not one whole upright frontal chest film" in done.stdout
    models = load_space(space)
    score = models.score(models.read(film()), app_findings.parse_findings("edema"))[0][0]
    assert f"[{score:.4f}"[:6] in done.stdout
    assert "[0, 1] transformers_modules." in done.stdout


# The page


def test_a_phrase_is_shown_on_the_film(space):
    models = load_space(space)
    reading = models.read(film())
    picture = models.point(reading, "edema")
    assert picture.shape == reading.shown.shape
    changed = (picture != reading.shown).any(axis=-1)
    # What lies below the median stays as it is.
    assert 0.3 < changed.mean() < 0.6
    assert models.can_point


@pytest.fixture(scope="module")
def served(space, tmp_path_factory):
    """The page of the Space as its own process: address, folder of its temporary files, its output so far."""
    pytest.importorskip("gradio", reason='gradio is not installed: pip install "chexficient[space]"')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("served")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"GRADIO_TEMP_DIR": str(folder / "uploads"), "GRADIO_SERVER_PORT": str(port)}
    environment |= {"HF_HOME": str(folder / "hf"), "no_proxy": "127.0.0.1,localhost"}
    log = folder / "log.txt"
    with log.open("w") as output:
        server = subprocess.Popen([sys.executable, "app.py"], cwd=space, env=environment, stdout=output, stderr=output)
        try:
            for _ in range(240):
                assert server.poll() is None, log.read_text()[-3000:]
                if "Running on" in log.read_text():
                    break
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}", folder / "uploads", log
        finally:
            server.terminate()
            server.wait(20)


@pytest.fixture
def client(served):
    from gradio_client import Client

    return Client(served[0], verbose=False)


ASKED = {"structures": ["left lung", "heart"], "wanted": "edema\neffusion", "positive": "{}", "negative": "no {}"}


def read_over_http(client, path: Path):
    from gradio_client import handle_file

    values = list(ASKED.values())
    return client.predict(handle_file(path), *values, api_name="/read_film")


def test_a_film_is_read_over_http_and_not_kept(served, client, space, tmp_path):
    film().save(tmp_path / "Doe_Anna.png")
    shown, scores, _, reports, phrase, *_ = read_over_http(client, tmp_path / "Doe_Anna.png")
    assert phrase == "", "a phrase asked of the film before stays"
    models = load_space(space)
    expected, _ = models.score(models.read(film()), app_findings.parse_findings(ASKED["wanted"]))
    for value in expected:
        assert f"{value:+.3f}" in scores
    seen = [name for n, name in enumerate(ASKED["structures"]) if models.read(film()).masks[n].any()]
    assert seen
    assert shown.count('class="swatch"') == len(seen)
    assert "not one whole upright frontal chest film" in shown
    assert reports.count("<li>") == 3
    again = client.predict("edema\nfinding", "{}", "no {}", api_name="/score_findings")
    assert "finding" in again
    assert "effusion" not in again
    fewer = client.predict([seen[0]], api_name="/show_structures")
    assert fewer.count('class="swatch"') == 1
    assert "not one whole upright frontal chest film" in fewer, "the reasons stay beside the film"
    assert 'class="swatch"' not in client.predict([], api_name="/show_structures")
    warm = client.predict([], " edema ", api_name="/show_where")
    assert "what speaks most for “edema”" in warm
    assert "not one whole upright frontal chest film" in warm
    assert 'class="swatch"' in client.predict([seen[0]], " ", api_name="/show_where")
    _, uploads, log = served
    assert not [file for file in uploads.rglob("*") if file.is_file()]
    assert "Doe" not in log.read_text()
    assert "edema" not in log.read_text()


def test_an_example_is_read_over_http(client):
    shown, *_, phrase = client.predict("film 1", *ASKED.values(), api_name="/read_example")
    assert phrase == ""
    assert "data:image/png;base64," in shown
    assert 'role="alert"' not in shown


def test_bad_uploads_over_http_get_their_sentence_and_are_deleted(served, client, tmp_path):
    (tmp_path / "Doe_Anna.png").write_text("not an image")
    film().save(tmp_path / "film.png")
    read_over_http(client, tmp_path / "film.png")
    shown, scores, _, _, phrase, *_ = read_over_http(client, tmp_path / "Doe_Anna.png")
    assert phrase == ""
    assert "This is no PNG, JPEG or DICOM file" in shown
    # Nothing of the film before stays.
    assert not scores
    assert "There is no film" in client.predict("edema", "{}", "no {}", api_name="/score_findings")
    _too_many_bytes(tmp_path / "big.png")
    with pytest.raises(Exception, match=r"413|exceed"):
        read_over_http(client, tmp_path / "big.png")
    read_over_http(client, tmp_path / "film.png")
    assert "Line 2" in client.predict("edema\nmass: one", "{}", "no {}", api_name="/score_findings")
    _, uploads, log = served
    assert not [file for file in uploads.rglob("*") if file.is_file()]
    assert "Traceback" not in log.read_text()
    assert "Doe" not in log.read_text()


def test_the_page_asks_nothing_of_other_hosts(served):
    from urllib.request import urlopen

    page = urlopen(served[0], timeout=120).read().decode()
    assert "not a medical device" in page
    for host in ("fonts.googleapis", "fonts.gstatic", "cdnjs", "jsdelivr", "unpkg"):
        assert host not in page
