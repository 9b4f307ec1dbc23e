"""Every kind of model behind the one interface, against the models themselves; embeddings and their cache."""

import datasets
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from eval.features import image_embeddings
from eval.models.encoders import CheXficientEncoder, DualEncoder, EvaluationModel
from eval.models.load import load_evaluation_model
from eval.settings import EvaluationSettings
from modeling_chexficient import CheXficientConfig, CheXficientImageProcessor, CheXficientModel, CheXficientProcessor
from modeling_chexficient.base_identity_chexficient import weights_sha256
from tests.adapter_files import in_the_cache
from tests.tiny_models import DUAL, SIDE, TEXT, VISION, VISION_ONLY, save_tiny_model, tiny_tokenizer

FILMS = [Image.fromarray(np.random.default_rng(n).integers(0, 256, (70, 60), np.uint8)) for n in range(3)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folders of tiny models, each built once."""
    root, built = tmp_path_factory.mktemp("models"), {}

    def get(kind: str) -> str:
        if kind not in built:
            built[kind] = str(save_tiny_model(kind, root / kind))
        return built[kind]

    return get


@pytest.fixture(scope="module")
def chexficient(folder) -> CheXficientEncoder:
    tower = {**VISION, "model_type": "dinov2"}
    del tower["intermediate_size"]
    torch.manual_seed(0)
    config = CheXficientConfig(tower, {"model_type": "bert", **TEXT}, projection_dim=8)
    processor = CheXficientProcessor(CheXficientImageProcessor(SIDE), tiny_tokenizer())
    return CheXficientEncoder(CheXficientModel(config).eval(), processor)


@pytest.mark.parametrize("kind", [*DUAL, *VISION_ONLY])
def test_every_kind_gives_unit_embeddings_and_maps(folder, kind):
    model = load_evaluation_model(folder(kind))
    pixels = model.pixels(FILMS)
    assert pixels.shape == (3, 3, model.image_size, model.image_size)
    assert model.image_size == SIDE
    embeddings = model.embed_images(pixels)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))
    assert (embeddings[0] - embeddings[1]).abs().max() > 1e-4
    maps = model.pyramid(pixels)
    if kind == "resnet":
        assert [tuple(one.shape) for one in maps] == [(3, 8, 14, 14), (3, 16, 7, 7)]
    else:
        assert [tuple(one.shape) for one in maps] == [(3, 16, 4, 4)] * 5
    assert len(model.weights_sha256) == 64
    assert model.sees_text == (kind in DUAL)


@pytest.mark.parametrize("kind", ["clip", "resnet"])
def test_a_model_of_the_hub_is_known_by_its_commit_and_weights(folder, kind, tmp_path):
    """Results and embeddings of a branch that has moved on must not be taken for its own."""
    name, found = f"ward/{kind}", []
    for commit, place in {"1" * 40: folder(kind), "2" * 40: save_tiny_model(kind, tmp_path / "later", seed=1)}.items():
        in_the_cache(place, name, commit)
        found.append(load_evaluation_model(name))
        assert found[-1].revision == commit
        assert found[-1].weights_sha256 == found[-1].identity == weights_sha256(place)
    assert found[0].identity != found[1].identity
    pinned = load_evaluation_model(name, revision="1" * 40)
    assert (pinned.revision, pinned.identity) == ("1" * 40, found[0].identity)


@pytest.mark.parametrize("kind", ["dinov2", "registers"])
def test_patch_features_are_the_tokens_in_their_place(folder, kind):
    """A patch's features are at its row and column, and no CLS or register token is among them."""
    model = load_evaluation_model(folder(kind))
    pixels = model.pixels(FILMS)
    with torch.no_grad():
        tokens = model.model(pixel_values=pixels).last_hidden_state
    patches = model.pyramid(pixels)[-1]
    torch.testing.assert_close(patches[:, :, 1, 2], tokens[:, -16 + 1 * 4 + 2])
    torch.testing.assert_close(patches[:, :, 3, 3], tokens[:, -1])
    torch.testing.assert_close(model.embed_images(pixels), F.normalize(tokens[:, 0], dim=-1))


@pytest.mark.parametrize("kind", list(DUAL))
def test_dual_encoders_order_as_their_own_logits(folder, kind):
    model = load_evaluation_model(folder(kind))
    assert isinstance(model, DualEncoder)
    texts = ["edema", "no edema", "there is no finding of cardiomegaly"]
    padding = "max_length" if kind == "siglip" else True
    tokens = model.tokenizer(texts, padding=padding, max_length=24, return_tensors="pt")
    pixels = model.pixels(FILMS)
    with torch.no_grad():
        logits = model.model(pixel_values=pixels, **tokens).logits_per_image
    if kind == "siglip":
        logits = logits - model.model.logit_bias
    ours = model.logit_scale * model.embed_images(pixels) @ model.embed_texts(texts).T
    torch.testing.assert_close(ours, logits.detach(), atol=1e-4, rtol=1e-4)
    assert (logits[:, 0] - logits[:, 2]).abs().max() > 1e-4


def test_chexficient_is_the_model_itself(chexficient):
    texts = ["edema", "no edema"]
    batch = chexficient.processor(images=FILMS, text=texts)
    with torch.no_grad():
        logits = chexficient.model(**batch).logits_per_image
    ours = chexficient.logit_scale * chexficient.embed_images(batch["pixel_values"]) @ chexficient.embed_texts(texts).T
    torch.testing.assert_close(ours, logits)
    assert [one.shape[1:] for one in chexficient.pyramid(batch["pixel_values"])] == [(16, 4, 4)] * 5


def test_models_that_cannot_be_judged_are_refused(folder, tmp_path):
    from transformers import BertConfig, BertModel

    with pytest.raises(ValueError, match="has no text tower"):
        load_evaluation_model(folder("dinov2")).embed_texts(["edema"])
    text = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    BertModel(text).save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match="it takes input_ids, not images"):
        load_evaluation_model(str(tmp_path / "bert"))
    save_tiny_model("vit", tmp_path / "vit")
    (tmp_path / "vit" / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match="lacks its image processor"):
        load_evaluation_model(str(tmp_path / "vit"))


class Counted(EvaluationModel):
    """Counts the images it embeds."""

    embedded = 0

    def embed_images(self, pixels):
        self.embedded += len(pixels)
        return super().embed_images(pixels)


@pytest.fixture
def films() -> datasets.Dataset:
    return datasets.Dataset.from_dict({"image": FILMS}, features=datasets.Features({"image": datasets.Image()}))


def test_embeddings_are_computed_once(folder, films, tmp_path):
    model = load_evaluation_model(folder("vit"))
    model = Counted(model.model, model.image_processor, model.name, sha256=model.weights_sha256)
    settings = EvaluationSettings(batch_size=2, cache=tmp_path)
    first = image_embeddings(model, films, settings)
    assert model.embedded == 3
    torch.testing.assert_close(first, model.embed_images(model.pixels(FILMS)))
    model.embedded = 0
    torch.testing.assert_close(image_embeddings(model, films, settings), first, rtol=0, atol=0)
    assert model.embedded == 0
    # Other films, weights or precision are other embeddings.
    other = image_embeddings(model, films.select([2, 1, 0]), settings)
    assert model.embedded == 3
    torch.testing.assert_close(other, first.flip(0))
    image_embeddings(model, films, EvaluationSettings(batch_size=2, cache=tmp_path, precision="bf16"))
    assert model.embedded == 6
    model.weights_sha256 = "another"
    image_embeddings(model, films, settings)
    assert model.embedded == 9
    assert len(list(tmp_path.glob("*.safetensors"))) == 4


def test_an_empty_split_is_refused(folder, films):
    with pytest.raises(ValueError, match="the split is empty"):
        image_embeddings(load_evaluation_model(folder("vit")), films.select([]), EvaluationSettings())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"precision": "fp8"}, "precision 'fp8' is unknown"),
        ({"label_shares": (0.1, 2.0)}, "label_shares are"),
        ({"label_shares": ()}, "label_shares are"),
    ],
)
def test_settings_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        EvaluationSettings(**values)


def test_settings_without_effect_on_a_task_are_not_relevant():
    settings = EvaluationSettings(show_films=True, label_shares=(1.0,))
    assert "show_films" not in settings.relevant("zero_shot")
    assert "label_shares" not in settings.relevant("zero_shot")
    assert settings.relevant("disease_prediction")["label_shares"] == [1.0]
    assert settings.relevant("zero_shot") == EvaluationSettings().relevant("zero_shot")
