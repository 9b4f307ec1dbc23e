"""The heads: where their weights come from, what they compute, their losses, and the labels they refuse."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from transformers import (
    AutoConfig,
    BertConfig,
    BitConfig,
    CLIPVisionConfig,
    ConvNextConfig,
    Dinov2Config,
    Dinov2WithRegistersConfig,
    DINOv3ViTConfig,
    ResNetConfig,
    SiglipVisionConfig,
    SwinConfig,
    ViTConfig,
)
from transformers.loss.loss_utils import ForSequenceClassificationLoss

from modeling_chexficient import (
    CheXficientConfig,
    CheXficientForImageClassification,
    CheXficientForSemanticSegmentation,
    CheXficientModel,
)
from tests.tiny_models import save_tiny_model

SIDE = 56
SIZES = {"hidden_size": 16, "num_hidden_layers": 6, "num_attention_heads": 2}
PATCHES = {"image_size": SIDE, "patch_size": 14}
TOWERS = {
    "dinov2": Dinov2Config(**SIZES, **PATCHES, mlp_ratio=2),
    "vit": ViTConfig(**SIZES, **PATCHES, intermediate_size=32),
    "clip": CLIPVisionConfig(**SIZES, **PATCHES, intermediate_size=32),
    "siglip": SiglipVisionConfig(**SIZES, **PATCHES, intermediate_size=32),
    "resnet": ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]),
    "registers": Dinov2WithRegistersConfig(**SIZES, **PATCHES, mlp_ratio=2),
    "dinov3": DINOv3ViTConfig(**SIZES, **PATCHES, intermediate_size=32),
    "convnext": ConvNextConfig(num_stages=2, hidden_sizes=[8, 16], depths=[1, 1]),
    "bit": BitConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_groups=4),
    "swin": SwinConfig(image_size=SIDE, patch_size=2, embed_dim=8, depths=[1, 1, 1], num_heads=[1, 2, 2]),
}
TEXT = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
MULTI, SINGLE, REGRESSION = "multi_label_classification", "single_label_classification", "regression"
BOTH = (CheXficientForImageClassification, CheXficientForSemanticSegmentation)


def config(tower: str = "dinov2", **arguments) -> CheXficientConfig:
    return CheXficientConfig(TOWERS[tower], TEXT, projection_dim=8, **{"num_labels": 3, **arguments})


def build(head, tower: str = "dinov2", **arguments):
    torch.manual_seed(0)
    return head(config(tower, **arguments)).eval()


def pixels(images: int = 2, side: int = SIDE) -> torch.Tensor:
    return torch.randn(images, 3, side, side, generator=torch.Generator().manual_seed(1))


def some_labels(head) -> torch.Tensor:
    shape = (2, 3) if head is CheXficientForImageClassification else (2, 3, SIDE, SIDE)
    return torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(2)).float()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("whole") / "model"
    CheXficientModel(config()).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("head", BOTH)
def test_the_tower_comes_from_the_whole_model(head, whole):
    model, report = head.from_pretrained(whole, num_labels=4, output_loading_info=True)
    assert model.config.num_labels == 4
    assert {key.split(".")[0] for key in report["missing_keys"]} <= {"classifier", "decode_head"}
    assert not report["unexpected_keys"]
    assert not report["mismatched_keys"]
    tower = CheXficientModel.from_pretrained(whole).vision_model.state_dict()
    assert all(torch.equal(tensor, tower[name]) for name, tensor in model.vision_model.state_dict().items())
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())


@torch.no_grad()
@pytest.mark.parametrize("tower", ["dinov2", "resnet"])
@pytest.mark.parametrize(
    ("head", "arguments"),
    [
        (BOTH[0], {"image_pooling": "normalized", "problem_type": SINGLE}),
        (BOTH[1], {"mask_decoder": "linear", "problem_type": SINGLE}),
        (BOTH[1], {"mask_decoder": "unet", "semantic_loss_ignore_index": 7}),
        (BOTH[1], {"mask_decoder": "image_unet"}),
        (BOTH[1], {"mask_decoder": "published_unet", "clip_logits": True}),
    ],
)
def test_saved_and_loaded_heads_are_equal(tower, head, arguments, tmp_path):
    if (tower, arguments.get("mask_decoder")) == ("resnet", "published_unet"):
        with pytest.raises(ValueError, match=r"published_unet takes 5 maps .* gives \[8, 16\]: choose decoder unet"):
            build(head, tower, **arguments)
        return
    model = build(head, tower, **arguments).train()
    model(pixels())  # moves the running statistics
    model.eval().save_pretrained(tmp_path)
    again = head.from_pretrained(tmp_path)
    assert not again.training
    assert torch.equal(again(pixels()).logits, model(pixels()).logits)
    assert {name: getattr(again.config, name) for name in arguments} == arguments


@pytest.mark.parametrize("head", BOTH)
def test_another_number_of_labels_needs_to_be_wanted(head, tmp_path):
    build(head).save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        head.from_pretrained(tmp_path, num_labels=5)
    model = head.from_pretrained(tmp_path, num_labels=5, ignore_mismatched_sizes=True)
    assert model(pixels()).logits.shape[1] == 5


@torch.no_grad()
@pytest.mark.parametrize("kind", ["dinov2", "clip", "siglip", "vit"])
@pytest.mark.parametrize("head", BOTH)
def test_any_vision_model_can_carry_a_head(head, kind, tmp_path):
    save_tiny_model(kind, tmp_path / kind)
    model = head.from_vision_pretrained(str(tmp_path / kind), num_labels=2, image_size=28, problem_type=MULTI)
    assert model.config.vision_config.image_size == 28
    assert model(pixels(side=28)).logits.shape[:2] == (2, 2)
    model.save_pretrained(tmp_path / "head")
    again = head.from_pretrained(tmp_path / "head")
    assert torch.equal(again(pixels(side=28)).logits, model(pixels(side=28)).logits)
    stored = AutoConfig.from_pretrained(tmp_path / kind)
    assert getattr(stored, "vision_config", stored).hidden_size == model.config.vision_config.hidden_size
    with pytest.raises(ValueError, match=f"is a CheXficient model: load it with {head.__name__}.from_pretrained"):
        head.from_vision_pretrained(str(tmp_path / "head"))


@pytest.mark.parametrize(("tower", "head"), list(product(TOWERS, BOTH)))
def test_every_parameter_learns_with_and_without_checkpointing(tower, head):
    """Distributed training refuses parameters without a gradient."""
    decoders = ["unet"] if head is BOTH[0] else ["linear", "unet", "image_unet"]
    for decoder in decoders:
        model = build(head, tower, problem_type=MULTI, mask_decoder=decoder).train()
        gradients = []
        for checkpointing in (False, True):
            if checkpointing and model.supports_gradient_checkpointing:
                model.gradient_checkpointing_enable()
            torch.manual_seed(3)
            model.zero_grad()
            model(pixels(), labels=some_labels(head)).loss.backward()
            gradients.append({name: one.grad for name, one in model.named_parameters()})
        learns = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert learns == {name for name, gradient in gradients[0].items() if gradient is not None}
        frozen = {name.removeprefix("vision_model.") for name in gradients[0].keys() - learns}
        # What no mask or pooled feature is made of.
        expected = {"embeddings.mask_token"} if tower in ("registers", "dinov3") else set()
        if head is BOTH[1] and tower in ("swin", "convnext", "bit"):
            norm = "norm" if tower == "bit" else "layernorm"
            expected = {f"{norm}.weight", f"{norm}.bias"}
        assert frozen == expected
        for name, gradient in gradients[0].items():
            if gradient is not None:
                torch.testing.assert_close(gradients[1][name], gradient)


@pytest.mark.parametrize("head", BOTH)
def test_what_is_never_used_stays_frozen_when_loaded(head, tmp_path):
    model = build(head, "dinov3", mask_decoder="linear")
    model.save_pretrained(tmp_path)
    for loaded in (head.from_pretrained(tmp_path), head.from_pretrained(tmp_path, output_loading_info=True)[0]):
        frozen = [name for name, parameter in loaded.named_parameters() if not parameter.requires_grad]
        assert frozen == ["vision_model.embeddings.mask_token"]


@pytest.mark.parametrize("head", BOTH)
@pytest.mark.parametrize("tower", ["resnet", "convnext"])
def test_convolutional_towers_say_that_they_have_no_checkpointing(head, tower):
    model = build(head, tower)
    assert not model.supports_gradient_checkpointing
    with pytest.raises(ValueError, match="no layers that can be computed again"):
        model.gradient_checkpointing_enable()
    assert build(head).supports_gradient_checkpointing


@torch.no_grad()
@pytest.mark.parametrize("head", BOTH)
def test_attention_and_outputs_of_the_tower(head, whole):
    models = {kind: head.from_pretrained(whole, attn_implementation=kind, num_labels=3) for kind in ("sdpa", "eager")}
    models["eager"].load_state_dict(models["sdpa"].state_dict())
    logits = {kind: model(pixels()).logits for kind, model in models.items()}
    torch.testing.assert_close(logits["sdpa"], logits["eager"])
    output = models["eager"](pixels(), output_hidden_states=True, output_attentions=True)
    assert len(output.hidden_states) == 7
    assert len(output.attentions) == 6
    assert models["eager"](pixels()).hidden_states is None
    assert models["eager"](pixels(), return_dict=False)[0].shape == output.logits.shape


@pytest.mark.parametrize("head", BOTH)
def test_half_precision(head, whole):
    model = head.from_pretrained(whole, dtype=torch.bfloat16, num_labels=3, problem_type=MULTI).train()
    output = model(pixels(), labels=some_labels(head))
    assert output.logits.dtype == torch.bfloat16
    assert output.loss.dtype == torch.float32
    output.loss.backward()
    assert all(one.grad.isfinite().all() for one in model.parameters())


@torch.no_grad()
def test_classifier_of_the_pooled_or_the_normalised_feature():
    model = build(BOTH[0])
    feature = model.vision_model(pixels()).last_hidden_state[:, 0]
    torch.testing.assert_close(model(pixels()).logits, model.classifier(feature))
    model.config.image_pooling = "normalized"
    torch.testing.assert_close(model(pixels()).logits, model.classifier(F.normalize(feature, dim=1)))
    model.config.image_pooling = "patches"
    patches = model.vision_model(pixels()).last_hidden_state[:, 1:]
    torch.testing.assert_close(model(pixels()).logits, model.classifier(patches.mean(1)))


@torch.no_grad()
@pytest.mark.parametrize(
    ("problem_type", "labels"),
    [
        (MULTI, torch.tensor([[1.0, 0, 1], [0, 0, 1]])),
        (SINGLE, torch.tensor([2, 0])),
        (REGRESSION, torch.tensor([[0.5, 3, -2], [1, 1, 4]])),
        (None, torch.tensor([[1.0, 0, 1], [0, 0, 1]])),
        (None, torch.tensor([2, 0])),
    ],
)
def test_losses_are_those_of_transformers(problem_type, labels):
    model = build(BOTH[0], problem_type=problem_type)
    output = model(pixels(), labels=labels)
    theirs = config(problem_type=problem_type)
    torch.testing.assert_close(output.loss, ForSequenceClassificationLoss(labels, output.logits, theirs))
    assert model.config.problem_type == theirs.problem_type


def test_what_nobody_judged_is_no_part_of_the_loss():
    nan = float("nan")
    model = build(BOTH[0], problem_type=MULTI)
    output = model(pixels(), labels=torch.tensor([[1.0, nan, 0], [nan, nan, 1]]))
    z = output.logits
    expected = -(F.logsigmoid(z[0, 0]) + F.logsigmoid(-z[0, 2]) + F.logsigmoid(z[1, 2])) / 3
    torch.testing.assert_close(output.loss, expected)
    weighted = model(
        pixels(), labels=torch.tensor([[1.0, nan, 0], [nan, nan, 1]]), pos_weight=torch.tensor([4.0, 1, 2])
    )
    expected = -(4 * F.logsigmoid(z[0, 0]) + F.logsigmoid(-z[0, 2]) + 2 * F.logsigmoid(z[1, 2])) / 3
    torch.testing.assert_close(weighted.loss, expected)
    empty = model(pixels(), labels=torch.full((2, 3), nan)).loss
    empty.backward()
    assert empty.item() == 0
    assert all(one.grad is None or one.grad.isfinite().all() for one in model.parameters())

    model = build(BOTH[0], problem_type=SINGLE)
    output = model(pixels(), labels=torch.tensor([1, -100]))
    torch.testing.assert_close(output.loss, -output.logits.log_softmax(1)[0, 1])
    assert model(pixels(), labels=torch.tensor([-100, -100])).loss.item() == 0

    model = build(BOTH[0], num_labels=1)
    output = model(pixels(), labels=torch.tensor([nan, 3.0]))
    torch.testing.assert_close(output.loss, (output.logits[1, 0] - 3) ** 2)


@pytest.mark.parametrize(
    ("problem_type", "labels", "message"),
    [
        (MULTI, torch.zeros(2, 4), r"\[images, labels\] \(2, 3\), not \(2, 4\): this head has the labels a, b, c"),
        (MULTI, torch.tensor([[0.0, 2, 0]] * 2), "between 0 and 1, or be NaN"),
        (MULTI, torch.tensor([[0.0, -1, 0]] * 2), "between 0 and 1, or be NaN"),
        (SINGLE, torch.tensor([0, 3]), "labels hold 3, but this head knows 0 to 2, and -100 for not judged"),
        (SINGLE, torch.tensor([0.0, 1.0]), r"labels must be integers \(2,\)"),
        (SINGLE, torch.zeros(2, 3, dtype=torch.long), r"labels must be integers \(2,\)"),
        (REGRESSION, torch.zeros(2), r"\(2, 3\), not \(2, 1\)"),
    ],
)
def test_labels_that_the_head_does_not_have(problem_type, labels, message):
    model = build(BOTH[0], problem_type=problem_type, id2label={0: "a", 1: "b", 2: "c"})
    with pytest.raises(ValueError, match=message):
        model(pixels(), labels=labels)


def test_weights_of_positives_must_fit():
    with pytest.raises(ValueError, match=r"pos_weight must be \[3\]"):
        build(BOTH[0], problem_type=MULTI)(pixels(), labels=torch.zeros(2, 3), pos_weight=torch.ones(2))
    with pytest.raises(ValueError, match="pos_weight is for problem_type multi_label"):
        build(BOTH[0], problem_type=SINGLE)(pixels(), labels=torch.tensor([0, 1]), pos_weight=torch.ones(3))


@pytest.mark.parametrize("head", BOTH)
def test_pixels_that_the_tower_cannot_take(head):
    model = build(head)
    with pytest.raises(ValueError, match=r"pixel_values must be \[images, 3, height, width\], not \(2, 1, 56, 56\)"):
        model(pixels()[:, :1])
    with pytest.raises(ValueError, match=r"normalised floats, not torch\.uint8"):
        model(torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8))


def test_masks_of_overlapping_structures():
    model = build(BOTH[1])
    assert model.config.problem_type == MULTI
    labels = some_labels(BOTH[1]).to(torch.uint8)
    labels[0, 1] = 255
    output = model(pixels(), labels=labels)
    assert output.logits.shape == (2, 3, SIDE, SIDE)
    assert torch.equal(output.background_logits, torch.zeros(2))
    # A structure that nobody judged in a film gets no gradient from there.
    gradient = torch.autograd.grad(output.loss, output.logits)[0]
    assert (gradient[0, 1] == 0).all()
    assert (gradient[1, 1] != 0).all()
    assert (gradient[0, 0] != 0).all()
    assert model(pixels(), labels=torch.full_like(labels, 255)).loss.item() == 0


def test_masks_of_classes_that_exclude_each_other():
    model = build(BOTH[1], problem_type=SINGLE, semantic_loss_ignore_index=9)
    labels = torch.randint(0, 3, (2, SIDE, SIDE), generator=torch.Generator().manual_seed(0))
    labels[0, :20] = 9
    output = model(pixels(), labels=labels)
    assert output.background_logits is None
    expected = F.cross_entropy(output.logits, labels, ignore_index=9)
    torch.testing.assert_close(output.loss, expected)
    assert model(pixels(), labels=torch.full_like(labels, 9)).loss.item() == 0


@pytest.mark.parametrize(
    ("problem_type", "labels", "message"),
    [
        (
            MULTI,
            torch.zeros(2, 4, SIDE, SIDE),
            r"\(2, 3, 56, 56\), not \(2, 4, 56, 56\): this head has the labels a, b",
        ),
        (MULTI, torch.zeros(2, 3, 28, 28), r"\(2, 3, 56, 56\), not \(2, 3, 28, 28\)"),
        (MULTI, torch.full((2, 3, SIDE, SIDE), 127), "labels hold 127, but this head knows 0 to 1, and 255"),
        (MULTI, torch.full((2, 3, SIDE, SIDE), 0.5), "labels hold 0.5, but"),
        (SINGLE, torch.full((2, SIDE, SIDE), 3), "labels hold 3, but this head knows 0 to 2, and 255"),
        (SINGLE, torch.zeros(2, 3, SIDE, SIDE).long(), r"labels must be integers \(2, 56, 56\)"),
    ],
)
def test_masks_that_the_head_does_not_have(problem_type, labels, message):
    model = build(BOTH[1], problem_type=problem_type, id2label={0: "a", 1: "b", 2: "c"})
    with pytest.raises(ValueError, match=message):
        model(pixels(), labels=labels)


@pytest.mark.parametrize("decoder", ["linear", "unet", "image_unet", "published_unet"])
def test_segmentation_learns(decoder):
    """The bright half of noise, told apart from the dark one."""
    torch.manual_seed(0)
    model = build(BOTH[1], num_labels=1, mask_decoder=decoder).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    side = torch.rand(40, 1, 1, 1).round()
    columns = torch.arange(SIDE) < SIDE // 2
    labels = (columns == (side == 1)).expand(40, 1, SIDE, SIDE).float()
    images = torch.randn(40, 3, SIDE, SIDE) * 0.3 + labels
    for step in range(30):
        batch = slice(step % 5 * 8, step % 5 * 8 + 8)
        loss = model(images[batch], labels=labels[batch]).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        found = model.eval()(images).logits > 0
    assert (found == labels.bool()).float().mean() > 0.9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mask_decoder": "fpn"}, "mask_decoder must be one of linear, unet, image_unet, published_unet, not 'fpn'"),
        ({"image_pooling": "mean"}, "image_pooling must be one of pooled, normalized, patches"),
        ({"clip_logits": True}, "clip_logits belongs to mask_decoder published_unet"),
    ],
)
def test_configurations_that_do_not_exist(arguments, message):
    with pytest.raises(ValueError, match=message):
        config(**arguments)
    # As `from_pretrained` sets them.
    changed = config()
    for name, value in arguments.items():
        setattr(changed, name, value)
    for head in BOTH:
        with pytest.raises(ValueError, match=message):
            head(changed)


def test_a_segmentation_is_no_regression():
    with pytest.raises(ValueError, match="problem_type of a segmentation must be"):
        build(BOTH[1], problem_type=REGRESSION)
