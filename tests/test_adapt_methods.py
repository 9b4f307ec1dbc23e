"""What each method trains, where LoRA goes in any tower, and that the base stays as it is."""

import copy

import pytest
import torch
from peft import PeftModel
from torch import nn
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Model,
    ResNetModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    ViTConfig,
    ViTModel,
)

from modeling_chexficient import CheXficientConfig
from modeling_chexficient.base_identity_chexficient import OF_ADAPTERS
from modeling_chexficient.modeling_chexficient_heads import (
    CheXficientForImageClassification,
    CheXficientForSemanticSegmentation,
)
from tests.adaptation import SIDE, TOWERS
from train.adapt.arguments import AUTO, METHODS, TUNERS, MethodArguments
from train.adapt.learning_rates import depth_of_parameters_in, parameter_groups
from train.adapt.methods import Parts, apply_method, count_trainable, hold_frozen, unwrapped

FINDINGS = Parts("vision_model", ("classifier",), ("vision_model",))
STRUCTURES = Parts("vision_model", ("decode_head",), ("vision_model",))
_SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_SMALL |= {"image_size": SIDE, "patch_size": 14}
OTHERS = {
    "vit": (ViTModel, ViTConfig(**_SMALL)),
    "clip": (CLIPVisionModel, CLIPVisionConfig(**_SMALL)),
    "siglip": (SiglipVisionModel, SiglipVisionConfig(**_SMALL)),
    "dinov2": (Dinov2Model, TOWERS["dinov2"]),
    "resnet": (ResNetModel, TOWERS["resnet"]),
}


def head(kind: str = "dinov2", segments: bool = False, labels: int = 3) -> nn.Module:
    torch.manual_seed(0)
    head_class = CheXficientForSemanticSegmentation if segments else CheXficientForImageClassification
    problem = "multi_label_classification"
    return head_class(CheXficientConfig(OTHERS[kind][1], num_labels=labels, problem_type=problem))


def train_a_little(model: nn.Module, segments: bool = False, steps: int = 3) -> None:
    """Steps as the trainer takes them: training mode, then what is frozen held."""
    optimiser = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=0.05)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        model.train()
        hold_frozen(unwrapped(model).get_submodule("vision_model"))
        pixels = torch.randn(4, 3, SIDE, SIDE, generator=generator)
        shape = (4, 3, SIDE, SIDE) if segments else (4, 3)
        labels = torch.randint(2, shape, generator=generator)
        model(pixel_values=pixels, labels=labels if segments else labels.float()).loss.backward()
        optimiser.step()
        optimiser.zero_grad()


def base_tensors(model: PeftModel) -> dict[str, torch.Tensor]:
    """The base's own tensors by the names they had before adapters."""
    tensors = {}
    for name, tensor in model.get_base_model().state_dict().items():
        if not any(part in name for part in OF_ADAPTERS):
            tensors[name.replace(".base_layer.", ".").replace(".original_module.", ".")] = tensor
    return tensors


def rank(method: str) -> dict:
    """A small one, for the methods that have any."""
    return {"rank": 2} if method in TUNERS else {}


@pytest.mark.parametrize("kind", sorted(OTHERS))
@pytest.mark.parametrize("method", ["lora", "hira", "linear"])
@pytest.mark.parametrize("segments", [False, True])
def test_the_base_stays_bit_by_bit(kind, method, segments):
    model = head(kind, segments)
    before = copy.deepcopy(model.state_dict())
    adapted = apply_method(model, STRUCTURES if segments else FINDINGS, MethodArguments(method=method, **rank(method)))
    untrained = copy.deepcopy(adapted.state_dict())
    train_a_little(adapted, segments)
    after = base_tensors(adapted)
    assert after.keys() == before.keys()
    # Running statistics of the tower, too.
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    moved = {name for name, tensor in adapted.state_dict().items() if not torch.equal(tensor, untrained[name])}
    assert any(".modules_to_save." in name for name in moved)
    for kind in TUNERS:
        assert any(f".{kind}_B." in name for name in moved) == (method == kind)


def test_full_trains_everything_and_freeze_tower_leaves_the_tower():
    model = head("resnet")
    before = copy.deepcopy(model.state_dict())
    train_a_little(apply_method(model, FINDINGS, MethodArguments(method="full")))
    assert all(not torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    model = head("resnet")
    train_a_little(apply_method(model, FINDINGS, MethodArguments(method="full", freeze_tower=True)))
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize(("kind", "norm"), [("dinov2", "layernorm"), ("vit", "layernorm"), ("clip", "post_layernorm")])
def test_lora_takes_q_and_v_and_the_final_norm(kind, norm):
    adapted = apply_method(head(kind), FINDINGS, MethodArguments(rank=4))
    layers = {name.split(".lora_A")[0] for name, _ in adapted.named_parameters() if ".lora_A." in name}
    assert len(layers) == 2 * OTHERS[kind][1].num_hidden_layers
    assert {name.rsplit(".", 1)[1] for name in layers} == {"q_proj", "v_proj"}
    kept = {name.split(".modules_to_save")[0] for name, _ in adapted.named_parameters() if "modules_to_save" in name}
    assert kept == {f"base_model.model.vision_model.{norm}", "base_model.model.classifier"}


def test_lora_takes_the_convolutions_behind_the_first():
    adapted = apply_method(head("resnet"), FINDINGS, MethodArguments(rank=4))
    layers = [name for name, module in adapted.named_modules() if hasattr(module, "base_layer")]
    convolutions = [name for name, module in head("resnet").named_modules() if isinstance(module, nn.Conv2d)]
    assert {name.removeprefix("base_model.model.") for name in layers} == set(convolutions[1:])


def test_the_count_is_that_of_a_hand():
    adapted = apply_method(head("dinov2"), FINDINGS, MethodArguments(rank=4))
    whole = sum(one.numel() for one in head("dinov2").parameters())
    # q and v of 3 blocks of width 32, final norm, head of 3 labels.
    lora = 2 * 3 * 2 * 4 * 32
    counted = count_trainable(adapted)
    assert counted == count_trainable(apply_method(head("dinov2"), FINDINGS, MethodArguments(method="hira", rank=4)))
    assert counted.trainable == lora + 2 * 32 + 33 * 3
    assert counted.all == whole + lora
    assert str(counted) == f"trainable: 1,699 of {whole + lora:,} parameters ({1699 / (whole + lora):.2%})"
    linear = count_trainable(apply_method(head("dinov2"), FINDINGS, MethodArguments(method="linear")))
    assert (linear.trainable, linear.all) == (33 * 3, whole)


@pytest.mark.parametrize("kind", ["dinov2", "resnet"])
@pytest.mark.parametrize("flag", ["use_rslora", "use_dora"])
def test_flags_of_peft(kind, flag):
    adapted = apply_method(head(kind), FINDINGS, MethodArguments(rank=4, **{flag: True}))
    assert getattr(adapted.peft_config["default"], flag)
    layer = next(module for module in adapted.modules() if hasattr(module, "lora_A") and len(module.lora_A))
    assert layer.scaling["default"] == (32 / 4**0.5 if flag == "use_rslora" else 32 / 4)
    train_a_little(adapted, steps=1)
    assert any("lora_magnitude" in name for name, _ in adapted.named_parameters()) == (flag == "use_dora")


@pytest.mark.parametrize("kind", sorted(OTHERS))
@torch.no_grad()
def test_hira_is_the_published_update(kind):
    """The weights of a layer times a matrix of low rank are added to them; merged, it is the model without adapters."""
    plain = head(kind).eval()
    adapted = apply_method(head(kind), FINDINGS, MethodArguments(method="hira", rank=2)).eval()
    pixels = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(adapted(pixel_values=pixels).logits, plain(pixel_values=pixels).logits)
    with torch.enable_grad():
        train_a_little(adapted, steps=2)
    learnt = adapted.eval()(pixel_values=pixels).logits
    layers = {name: one for name, one in adapted.named_modules() if hasattr(one, "hira_A")}
    updates = {
        name.removeprefix("base_model.model."): torch.einsum(
            "or,rc->oc", layer.hira_B["default"].flatten(1), layer.hira_A["default"].flatten(1)
        )
        for name, layer in layers.items()
    }
    merged = adapted.merge_and_unload()
    torch.testing.assert_close(merged(pixel_values=pixels).logits, learnt, rtol=1e-4, atol=1e-4)
    for name, update in updates.items():
        before, after = (model.get_submodule(name).weight for model in (plain, merged))
        torch.testing.assert_close(after, before * (1 + update.view_as(before)), rtol=1e-5, atol=1e-6)
        assert not torch.equal(after, before)


def test_target_modules_by_name_and_by_expression():
    for given in (["fc1"], [r"vision_model\..*\.fc1"]):
        adapted = apply_method(head("dinov2"), FINDINGS, MethodArguments(rank=4, target_modules=given))
        layers = [name for name, module in adapted.named_modules() if hasattr(module, "base_layer")]
        assert len(layers) == 3
        assert all(name.endswith("fc1") for name in layers)


def test_what_lora_cannot_do_is_refused():
    with pytest.raises(ValueError, match=r"rank 33 is larger than layer vision_model\..*q_proj allows.* 32 x 32"):
        apply_method(head("dinov2"), FINDINGS, MethodArguments(rank=33))
    with pytest.raises(ValueError, match=r"rank 9 is larger than layer vision_model\.encoder\.stages\.0\..* 8 x 72"):
        apply_method(head("resnet"), FINDINGS, MethodArguments(rank=9))
    with pytest.raises(ValueError, match=r"target_modules \['nowhere'\] fit no layer"):
        apply_method(head("dinov2"), FINDINGS, MethodArguments(target_modules=["nowhere"]))
    with pytest.raises(ValueError, match="not a layer with weights"):
        apply_method(head("dinov2"), FINDINGS, MethodArguments(target_modules=["mlp"]))
    with pytest.raises(ValueError, match="use_dora belong to method lora, this is full"):
        MethodArguments(method="full", use_dora=True)
    with pytest.raises(ValueError, match="alpha, use_rslora belong to method lora, this is hira"):
        MethodArguments(method="hira", use_rslora=True, alpha=16)
    with pytest.raises(ValueError, match="target_modules belong to method lora or hira, this is linear"):
        MethodArguments(method="linear", target_modules=["fc1"])
    grouped = head("resnet")
    grouped.vision_model.encoder.stages[0] = nn.Conv2d(8, 8, 3, groups=4)
    with pytest.raises(ValueError, match=r"stages\.0 is a grouped convolution: leave it out with --target_modules"):
        apply_method(grouped, FINDINGS, MethodArguments(method="hira", rank=2, target_modules=["stages.0"]))
    with pytest.raises(ValueError, match="layer_decay belong to method lora or hira or full, this is linear"):
        MethodArguments(method="linear", layer_decay=0.5)
    with pytest.raises(ValueError, match="freeze_tower belong to method full, this is lora"):
        MethodArguments(freeze_tower=True)


@pytest.mark.parametrize("method", ["linear", "full", AUTO])
@pytest.mark.parametrize("given", [{"rank": 32}, {"dropout": 0.0}])
def test_what_only_adapters_have_is_refused_of_other_methods(method, given):
    with pytest.raises(ValueError, match=f"{next(iter(given))} belong to method lora or hira, this is {method}"):
        MethodArguments(method=method, **given)


@pytest.mark.parametrize("kind", ["dinov2", "resnet"])
def test_learning_rates_fall_towards_the_pixels(kind):
    model = head(kind)
    depths = depth_of_parameters_in(model, FINDINGS)
    blocks = len(TOWERS[kind].hidden_sizes) if kind == "resnet" else TOWERS[kind].num_hidden_layers
    assert set(depths.values()) == set(range(blocks + 2))
    assert all((depth == 0) == ("embed" in name) for name, depth in depths.items())
    assert depths["classifier.weight"] == blocks + 1
    for name, depth in depths.items():
        if "layernorm" in name:
            assert depth == blocks + 1
    decayed = {name for name, one in model.named_parameters() if one.ndim > 1}
    groups = parameter_groups(model, FINDINGS, 0.1, None, 0.5, 0.3, decayed)
    rates = {id(one): (group["lr"], group["weight_decay"]) for group in groups for one in group["params"]}
    assert len(rates) == len(depths)
    for name, one in model.named_parameters():
        assert rates[id(one)] == (0.1 * 0.5 ** (blocks + 1 - depths[name]), 0.3 * (name in decayed))


@pytest.mark.parametrize("method", TUNERS)
def test_learning_rates_of_adapters_fall_towards_the_pixels(method):
    """As published for CXR-MAE: the layers of an adapter have the rate of the block that they are in."""
    model = apply_method(head("vit"), FINDINGS, MethodArguments(method=method, **rank(method), layer_decay=0.5))
    decayed = {name for name, one in model.named_parameters() if one.ndim > 1}
    groups = parameter_groups(model, FINDINGS, 0.1, None, 0.5, 0.3, decayed)
    found = {id(one): (group["lr"], group["weight_decay"]) for group in groups for one in group["params"]}
    trained = {name: one for name, one in model.named_parameters() if one.requires_grad}
    assert len(found) == len(trained)
    for name, one in trained.items():
        block = next((number for number in (0, 1) if f"layers.{number}." in name), 2)
        assert found[id(one)] == (0.1 * 0.5 ** (2 - block), 0.3 * (name in decayed)), name
    assert {rate for rate, _ in found.values()} == {0.1, 0.05, 0.025}


@pytest.mark.parametrize("method", METHODS)
def test_heads_have_a_rate_of_their_own(method):
    model = apply_method(head(), FINDINGS, MethodArguments(method=method, head_learning_rate=0.7))
    groups = parameter_groups(model, FINDINGS, 0.1, 0.7, 1.0, 0.0, [])
    rates = {id(one): group["lr"] for group in groups for one in group["params"]}
    trained = {name: one for name, one in model.named_parameters() if one.requires_grad}
    assert len(rates) == len(trained)
    assert all(rates[id(one)] == (0.7 if "classifier" in name else 0.1) for name, one in trained.items())
