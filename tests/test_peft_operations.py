"""What peft does with several adapters on one model, on our towers and heads: it works or is refused.

An adapter of ours holds its head as a module to save. peft does not add such adapters up, and does not swap them in
place (of its own models neither); mixed batches it knows for linear heads without DoRA alone.
"""

import pytest
import torch
from peft.utils.hotswap import hotswap_adapter

from modeling_chexficient.adapters_chexficient import load_adapter
from tests.adapter_files import ATTENTION, CONVOLUTIONS, HEAD, make_adapter, pixels, save_base

FINDINGS, STRUCTURES = HEAD
LORA = {"dinov2": ATTENTION, "resnet": CONVOLUTIONS}
KINDS = [(tower, dora, task) for tower in LORA for dora in (False, True) for task in HEAD]


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: f"{kind[0]}-{'dora' if kind[1] else 'lora'}-{kind[2]}")
def two(request, tmp_path_factory):
    """Kind, two adapters on one base, and a model that holds both as `a` and `b`."""
    tower, dora, task = request.param
    root = tmp_path_factory.mktemp("peft")
    base = save_base(root / "base", tower)
    # A mixed batch must not have a norm of its own.
    layers = {"target_modules": LORA[tower]["target_modules"], "use_dora": dora}
    saved = {name: make_adapter(base, root / name, task, seed=ord(name), **layers) for name in "ab"}
    model = load_adapter(saved["a"].folder, adapter_name="a")
    model.load_adapter(str(saved["b"].folder), "b")
    return request.param, saved, model.eval()


@torch.no_grad()
def test_switch_and_disable(two):
    _, saved, model = two
    for name in "bab":
        model.set_adapter(name)
        torch.testing.assert_close(model(pixel_values=pixels()).logits, saved[name].logits)
    model.set_adapter("a")
    with model.disable_adapter():
        assert not torch.allclose(model(pixel_values=pixels()).logits, saved["a"].logits)


@torch.no_grad()
def test_mixed_batch(two):
    (_, dora, task), saved, model = two
    model.set_adapter("a")
    if dora or task == STRUCTURES:
        with pytest.raises((ValueError, TypeError), match=r"DoRA is enabled|Mixed batching is only supported"):
            model(pixel_values=pixels(), adapter_names=["a", "b"])
        return
    first, second = model(pixel_values=pixels(), adapter_names=["a", "b"]).logits
    torch.testing.assert_close(first, saved["a"].logits[0])
    torch.testing.assert_close(second, saved["b"].logits[1])


def test_weighted_sums_are_refused(two):
    _, _, model = two
    for how in ("linear", "cat", "svd"):
        with pytest.raises(ValueError, match="modules_to_save"):
            model.add_weighted_adapter(["a", "b"], [0.5, 0.5], "sum", combination_type=how)
    assert set(model.peft_config) == {"a", "b"}


@torch.no_grad()
def test_a_swap_in_place_is_refused_and_changes_nothing(two):
    _, saved, _ = two
    model = load_adapter(saved["a"].folder)
    with pytest.raises(KeyError):
        hotswap_adapter(model, str(saved["b"].folder), "default")
    torch.testing.assert_close(model(pixel_values=pixels()).logits, saved["a"].logits)


@torch.no_grad()
def test_delete_and_merge(two):
    _, saved, _ = two
    model = load_adapter(saved["a"].folder, adapter_name="a")
    model.load_adapter(str(saved["b"].folder), "b")
    model.delete_adapter("a")
    model.set_adapter("b")
    torch.testing.assert_close(model.eval()(pixel_values=pixels()).logits, saved["b"].logits)
    merged = model.merge_and_unload(adapter_names=["b"])
    torch.testing.assert_close(merged(pixel_values=pixels()).logits, saved["b"].logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": ("edema", "effusion")}, r"another head than the adapter that is there \(id2label, label2id\)"),
        ({"task": STRUCTURES}, "was trained on another task"),
        ({"base": 7}, "was trained on another base"),
    ],
)
def test_a_second_adapter_does_not_get_the_names_of_the_first(changed, message, tmp_path):
    """peft would put it on, and `config.id2label` would stay that of the first."""
    base = save_base(tmp_path / "base")
    first = make_adapter(base, tmp_path / "first", **ATTENTION)
    if seed := changed.pop("base", None):
        base = save_base(tmp_path / "other", seed=seed)
    second = make_adapter(base, tmp_path / "second", **changed, **ATTENTION)
    model = load_adapter(first.folder)
    with pytest.raises(ValueError, match=message):
        model.load_adapter(str(second.folder), "second")
    assert list(model.peft_config) == ["default"]
    same = make_adapter(tmp_path / "base", tmp_path / "same", seed=5, **ATTENTION)
    model.load_adapter(str(same.folder), "same")
    model.set_adapter("same")
    torch.testing.assert_close(model.eval()(pixel_values=pixels()).logits, same.logits)
