"""Several adapters on one base say what each says alone, with the weights of the tower in memory once."""

import copy
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForImageClassification, Dinov2Model

from modeling_chexficient import CheXficientForImageClassification
from modeling_chexficient.adapters_chexficient import (
    AdapterSet,
    add_tower_adapter,
    identify_base,
    load_adapter,
    save_adapter,
)
from tests.adapter_files import (
    ATTENTION,
    CONVOLUTIONS,
    HEAD,
    HIRA,
    TOWERS,
    make_adapter,
    make_report_model,
    pixels,
    save_base,
    shake,
)
from tests.tiny_models import save_tiny_model

NO_NORM = {"target_modules": ["q_proj", "fc1"]}
#: By name: task, labels, arguments of LoRA. Layers, final norm, rank scaling and labels differ between them.
ADAPTERS = {
    "findings": ("image-classification", ("effusion", "edema"), ATTENTION),
    "devices": ("image-classification", ("tube", "pacemaker", "line"), {**NO_NORM, "use_rslora": True}),
    "structures": ("semantic-segmentation", ("lungs", "heart"), {**ATTENTION, "use_dora": True}),
    "probe": ("image-classification", ("edema",), {}),
}


def save_adapters(base, folder, convolutional=False):
    saved = {}
    for number, (name, (task, labels, lora)) in enumerate(ADAPTERS.items(), start=1):
        if convolutional and lora:
            flags = {flag: value for flag, value in lora.items() if flag.startswith("use_")}
            lora = {**CONVOLUTIONS, **flags}
        saved[name] = make_adapter(base, folder / name, task, labels, seed=number, **lora)
    return saved


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_base(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def saved(base, tmp_path_factory):
    return save_adapters(base, tmp_path_factory.mktemp("adapters"))


@pytest.fixture
def adapters(base, saved):
    return loaded_set(AdapterSet(base), saved)


def loaded_set(adapters, saved):
    for name, one in saved.items():
        adapters.add(one.folder, name)
    return adapters


@torch.no_grad()
def check_equal_to_each_alone(adapters, saved):
    for name in [*saved, *reversed(saved)]:
        output = adapters.activate(name)(pixels())
        assert torch.equal(output.logits, saved[name].logits)
        assert torch.equal(output.logits, load_adapter(saved[name].folder)(pixel_values=pixels()).logits)


@pytest.mark.parametrize("kind", ["dinov2", "resnet"])
def test_switching(tmp_path, kind):
    """For transformers, and for convolutional towers with batch norm."""
    base = save_base(tmp_path / "model", kind)
    saved = save_adapters(base, tmp_path, convolutional=kind == "resnet")
    check_equal_to_each_alone(loaded_set(AdapterSet(base), saved), saved)


@torch.no_grad()
def test_without_an_active_adapter_the_base_is_bare(adapters, base):
    expected = AutoModel.from_pretrained(base)(pixel_values=pixels()).image_embeds
    assert torch.equal(adapters(pixels()).image_embeds, expected)
    active = adapters.activate("findings")(pixels()).logits
    assert not torch.equal(adapters.base(pixel_values=pixels()).image_embeds, expected)
    with adapters.disable() as bare:
        assert torch.equal(bare(pixel_values=pixels()).image_embeds, expected)
    assert adapters.active == "findings"
    assert torch.equal(adapters(pixels()).logits, active)
    with pytest.raises(RuntimeError, match="inside"), adapters.disable():
        raise RuntimeError("inside")
    assert adapters.active == "findings"
    assert torch.equal(adapters.activate(None)(pixels()).image_embeds, expected)


@torch.no_grad()
def test_each_adapter_changes_the_tower(saved, adapters):
    plain = adapters.tower(pixels()).last_hidden_state
    for name, one in saved.items():
        assert torch.equal(one.tower_output, plain) == (name == "probe")


def test_the_tower_is_held_once(base, saved):
    adapters = AdapterSet(base)
    own = {parameter.data_ptr() for parameter in adapters.tower.parameters()}
    loaded_set(adapters, saved)
    everything = {one.data_ptr(): one for head in adapters.heads.values() for one in head.parameters()}
    assert own < everything.keys()
    # All heads together hold the tower and, beyond it, their adapters (classifiers twice: PEFT keeps the new one's).
    added = sum(one.numel() for pointer, one in everything.items() if pointer not in own)
    bytes_saved = [one.folder / "adapter_model.safetensors" for one in saved.values()]
    assert added <= 2 * sum(file.stat().st_size for file in bytes_saved) / 4
    assert adapters.base.vision_model is adapters.tower
    assert all(head.get_base_model().vision_model is adapters.tower for head in adapters.heads.values())


def test_adding_keeps_the_active_adapter_and_the_others(base, saved):
    adapters = AdapterSet(base)
    adapters.add(saved["findings"].folder, "findings")
    adapters.activate("findings")
    adapters.add(saved["structures"].folder, "structures")
    assert adapters.active == "findings"
    with torch.no_grad():
        assert torch.equal(adapters(pixels()).logits, saved["findings"].logits)


@torch.no_grad()
def test_removing(adapters, saved):
    adapters.activate("structures").remove("findings")
    assert adapters.active == "structures"
    rest = {name: one for name, one in saved.items() if name != "findings"}
    check_equal_to_each_alone(adapters, rest)
    assert not any("findings" in name for name, _ in adapters.tower.named_parameters())
    adapters.activate("structures").remove("structures")
    assert adapters.active is None
    with pytest.raises(KeyError, match="no adapter 'findings': there are devices, probe"):
        adapters.activate("findings")
    # The name is free again.
    adapters.add(saved["findings"].folder, "findings")
    assert torch.equal(adapters.activate("findings")(pixels()).logits, saved["findings"].logits)


@torch.no_grad()
def test_merging_gives_a_plain_head(adapters, saved, tmp_path):
    adapters.activate("probe")
    for name, one in saved.items():
        merged = adapters.merge(name)
        task, labels, _ = ADAPTERS[name]
        assert type(merged) is HEAD[task][0]
        assert all(parameter.requires_grad for parameter in merged.parameters())
        merged.save_pretrained(tmp_path / name)
        again = HEAD[task][0].from_pretrained(tmp_path / name)
        assert list(again.config.id2label.values()) == list(labels)
        for model in (merged, again):
            torch.testing.assert_close(model(pixels()).logits, one.logits, rtol=0, atol=1e-5)
    assert adapters.active == "probe"
    check_equal_to_each_alone(adapters, saved)


@torch.no_grad()
def test_merging_a_convolutional_tower(tmp_path):
    base = save_base(tmp_path / "model", "resnet")
    saved = save_adapters(base, tmp_path, convolutional=True)
    adapters = loaded_set(AdapterSet(base), saved)
    for name, one in saved.items():
        torch.testing.assert_close(adapters.merge(name)(pixels()).logits, one.logits, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_set_of_hira(base, saved, tmp_path):
    """As one of LoRA; the two do not go together, since their layers would lie on each other."""
    layers = {"one": HIRA, "other": {**NO_NORM, "hira": True}}
    of_hira = {name: make_adapter(base, tmp_path / name, seed=ord(name[0]), **layers[name]) for name in layers}
    adapters = loaded_set(AdapterSet(base), of_hira)
    expected = AutoModel.from_pretrained(base)(pixel_values=pixels()).image_embeds
    assert torch.equal(adapters(pixels()).image_embeds, expected)
    with pytest.raises(ValueError, match="findings is LORA, of another kind than the adapters"):
        adapters.add(saved["findings"].folder, "findings")
    # A head alone is of no kind.
    adapters.add(saved["probe"].folder, "probe")
    check_equal_to_each_alone(adapters, of_hira | {"probe": saved["probe"]})
    for name, one in of_hira.items():
        torch.testing.assert_close(adapters.merge(name)(pixels()).logits, one.logits, rtol=0, atol=1e-5)
    adapters.remove("one")
    check_equal_to_each_alone(adapters, {"other": of_hira["other"]})
    with pytest.raises(ValueError, match="one is HIRA, of another kind"):
        loaded_set(AdapterSet(base), saved).add(of_hira["one"].folder, "one")


def test_a_set_on_a_loaded_model(base, saved):
    for model in (AutoModel.from_pretrained(base), AutoModelForImageClassification.from_pretrained(base)):
        check_equal_to_each_alone(loaded_set(AdapterSet(model), saved), saved)


@torch.no_grad()
def test_a_set_on_a_plain_tower(tmp_path):
    save_tiny_model("vit", tmp_path / "vit")
    head = CheXficientForImageClassification.from_vision_pretrained(str(tmp_path / "vit"), num_labels=2)
    peft_model = get_peft_model(head, LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["classifier"]))
    shake(peft_model, trainable_only=True)
    expected = peft_model.eval()(pixel_values=pixels()).logits
    save_adapter(peft_model, tmp_path / "adapter", identify_base(tmp_path / "vit"), "image-classification")
    assert torch.equal(load_adapter(tmp_path / "adapter")(pixel_values=pixels()).logits, expected)
    adapters = AdapterSet(tmp_path / "vit")
    adapters.add(tmp_path / "adapter", "findings")
    assert torch.equal(adapters.activate("findings")(pixels()).logits, expected)
    assert adapters.merge("findings").config.vision_config.model_type == "vit"


def test_refusals(adapters, saved, base, tmp_path):
    findings = saved["findings"].folder
    for name in ("findings", "not a name", "a.b"):
        with pytest.raises(ValueError, match="taken or no identifier"):
            adapters.add(findings, name)
    other = AdapterSet(save_base(tmp_path / "other", seed=9))
    with pytest.raises(ValueError, match="was trained on the vision tower of") as error:
        other.add(findings, "findings")
    assert str(base) in str(error.value)
    assert str(tmp_path / "other") in str(error.value)
    with pytest.raises(ValueError, match="bears an adapter already"):
        AdapterSet(load_adapter(findings))
    with pytest.raises(KeyError, match="no adapter 'lungs'"):
        adapters.merge("lungs")


@torch.no_grad()
def test_a_broken_adapter_leaves_the_set_as_it_was(base, saved, tmp_path):
    adapters = AdapterSet(base)
    adapters.add(saved["findings"].folder, "findings")
    adapters.activate("findings")
    broken = shutil.copytree(saved["structures"].folder, tmp_path / "broken")
    weights = load_file(broken / "adapter_model.safetensors")
    del weights[next(name for name in weights if "lora_B" in name)]
    save_file(weights, broken / "adapter_model.safetensors")
    with pytest.raises(ValueError, match=r"missing: .*lora_B"):
        adapters.add(broken, "structures")
    assert adapters.active == "findings"
    assert not any("structures" in name for name, _ in adapters.tower.named_parameters())
    assert torch.equal(adapters(pixels()).logits, saved["findings"].logits)
    adapters.add(saved["structures"].folder, "structures")
    assert torch.equal(adapters.activate("structures")(pixels()).logits, saved["structures"].logits)


@pytest.fixture(scope="module")
def report_model(base):
    return make_report_model(base)[0]


@torch.no_grad()
def test_the_towers_adapter_inside_a_report_model(report_model, saved):
    for name in ("findings", "devices", "structures"):
        model = copy.deepcopy(report_model)
        add_tower_adapter(model, saved[name].folder)
        assert torch.equal(model.model.vision_tower(pixels()).last_hidden_state, saved[name].tower_output)
        assert not any(parameter.requires_grad for parameter in model.model.vision_tower.parameters())
        with pytest.raises(ValueError, match="bears an adapter already"):
            add_tower_adapter(model, saved[name].folder)


def test_what_a_report_models_tower_cannot_take(report_model, saved, tmp_path):
    with pytest.raises(ValueError, match="trained a head alone"):
        add_tower_adapter(copy.deepcopy(report_model), saved["probe"].folder)
    other = make_adapter(save_base(tmp_path / "other", seed=9), tmp_path / "adapter", **ATTENTION)
    with pytest.raises(ValueError, match="not on that of CheXficientForReportGeneration"):
        add_tower_adapter(copy.deepcopy(report_model), other.folder)


@torch.no_grad()
def test_heads_beside_a_report_model(report_model, saved):
    """Findings, structures and reports from one tower."""
    bare = report_model.model.vision_tower(pixels()).last_hidden_state
    adapters = loaded_set(AdapterSet(copy.deepcopy(report_model)), saved)
    check_equal_to_each_alone(adapters, saved)
    tower = adapters.base.model.vision_tower
    assert torch.equal(
        adapters.activate("findings").base.model.vision_tower(pixels()).last_hidden_state,
        saved["findings"].tower_output,
    )
    with adapters.disable():
        assert torch.equal(tower(pixels()).last_hidden_state, bare)


@torch.no_grad()
def check_saved_base(model, folder, original):
    """What `save_pretrained` of a base with adapters wrote is the base, tensor for tensor."""
    model.save_pretrained(folder)
    own, again = (type(model).from_pretrained(place).state_dict() for place in (original, folder))
    assert own.keys() == again.keys()
    assert all(torch.equal(tensor, again[name]) for name, tensor in own.items())


def test_a_base_is_saved_without_its_adapters(adapters, base, tmp_path):
    check_saved_base(adapters.activate("structures").base, tmp_path / "active", base)
    with adapters.disable() as bare:
        check_saved_base(bare, tmp_path / "disabled", base)
    for name in list(adapters.heads):
        adapters.remove(name)
    check_saved_base(adapters.base, tmp_path / "removed", base)
    check_saved_base(copy.deepcopy(adapters.base), tmp_path / "copy", base)


def test_a_plain_tower_and_a_report_model_are_saved_without_adapters(base, saved, tmp_path):
    torch.manual_seed(0)
    Dinov2Model(TOWERS["dinov2"]).save_pretrained(tmp_path / "tower")
    model = CheXficientForImageClassification.from_vision_pretrained(str(tmp_path / "tower"), num_labels=2)
    model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["classifier"]))
    save_adapter(model, tmp_path / "adapter", identify_base(tmp_path / "tower"), "image-classification")
    adapters = AdapterSet(tmp_path / "tower")
    adapters.add(tmp_path / "adapter", "plain")
    check_saved_base(adapters.activate("plain").base, tmp_path / "again", tmp_path / "tower")
    report_model = make_report_model(base)[0]
    report_model.save_pretrained(tmp_path / "reports")
    add_tower_adapter(report_model, saved["findings"].folder)
    check_saved_base(report_model, tmp_path / "reports again", tmp_path / "reports")


def test_a_head_that_an_adapter_replaced_is_not_saved_as_a_base(adapters, base, tmp_path):
    with pytest.raises(ValueError, match="save it by save_adapter, or as a whole"):
        adapters.heads["findings"].get_base_model().save_pretrained(tmp_path / "head")
    model = CheXficientForImageClassification.from_pretrained(base, num_labels=2)
    model.save_pretrained(tmp_path / "before")
    peft_model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    check_saved_base(peft_model.get_base_model(), tmp_path / "after", tmp_path / "before")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@torch.no_grad()
def test_a_set_is_moved_and_cast_with_heads_and_decoders(adapters, saved, dtype):
    rounding = {"rtol": 0.1, "atol": 0.1} if dtype == torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-4}
    assert adapters.to(dtype) is adapters
    for name, adapter in saved.items():
        logits = adapters.activate(name)(pixels().to(dtype)).logits
        assert logits.dtype == dtype
        torch.testing.assert_close(logits.float(), adapter.logits, **rounding)
    # Where the base alone is moved, heads follow.
    adapters.base.to("meta")
    for name in saved:
        assert adapters.activate(name)(pixels().to("meta", dtype)).logits.device.type == "meta"
