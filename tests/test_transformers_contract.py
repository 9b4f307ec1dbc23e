"""What transformers' own test mixins ask of a model when it is saved, loaded, configured and resized.

Checks that do not apply to a model are skipped, with the reason, by `NOT_APPLICABLE` of `contract_models.py`.
"""

import copy
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from modeling_chexficient.towers_chexficient import code_reference
from tests.contract_models import HEADS, MODELS, build, cases, configuration, inputs, run

WEIGHTS = "model.safetensors"


def saved(name: str, folder):
    model = build(name)
    model.save_pretrained(folder)
    return model


def spoil(folder, change) -> None:
    """Let `change` alter the saved tensors."""
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def keys(report: dict) -> dict[str, set]:
    return {kind: set(report[kind]) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") if report[kind]}


def own_part(name: str) -> str:
    """A tensor that belongs to our class, not to a tower."""
    if name.startswith("dual"):
        return "visual_projection.weight"
    if name == "report":
        return "multi_modal_projector.linear_1.weight"
    return "decode_head.head" if name.startswith("segmentation") else "classifier.weight"


def stored_name(tensors, part: str) -> str:
    return next(one for one in sorted(tensors) if part in one or part.replace("decode_head.head", "up4") in one)


@cases("saving")
@pytest.mark.parametrize("shards", ["100GB", "10KB"])
def test_saved_and_loaded_models_are_equal(name, shards, tmp_path):
    model = build(name)
    model.save_pretrained(tmp_path, max_shard_size=shards)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (shards == "10KB")
    loaded, report = MODELS[name][0].from_pretrained(tmp_path, output_loading_info=True)
    assert keys(report) == {}
    assert not loaded.training
    assert torch.equal(run(name, loaded), run(name, model))
    for key, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor), key


@cases("dtype")
def test_models_load_in_half_precision(name, tmp_path):
    saved(name, tmp_path)
    half = MODELS[name][0].from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    kept = half._keep_in_fp32_modules_strict or set()
    for key, parameter in half.named_parameters():
        assert parameter.dtype == (torch.float32 if key in kept else torch.bfloat16), key
    output = run(name, half).float()
    assert output.isfinite().all()
    full = MODELS[name][0].from_pretrained(tmp_path)
    assert (output - run(name, full)).abs().mean() < 0.1 * run(name, full).abs().mean() + 0.05
    half.save_pretrained(tmp_path / "half")
    again = MODELS[name][0].from_pretrained(tmp_path / "half", dtype="auto")
    assert again.dtype == torch.bfloat16
    assert torch.equal(run(name, again).float(), output)


@cases("fp32_parts")
def test_the_temperature_stays_in_fp32(name, tmp_path):
    model = saved(name, tmp_path)
    half = MODELS[name][0].from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert torch.equal(half.logit_scale, model.logit_scale)
    assert half.logit_scale.dtype == run(name, half).dtype == torch.float32


@cases("missing")
def test_missing_tensors_are_reported_and_initialised(name, tmp_path):
    model = saved(name, tmp_path)
    gone = []
    spoil(tmp_path, lambda tensors: (gone.append(stored_name(tensors, own_part(name))), tensors.pop(gone[0])))
    loaded, report = MODELS[name][0].from_pretrained(tmp_path, output_loading_info=True)
    (missing,) = report["missing_keys"]
    assert missing.endswith(gone[0].removeprefix("model."))
    assert keys(report).keys() == {"missing_keys"}
    assert loaded.state_dict()[missing].isfinite().all()
    for key, tensor in model.state_dict().items():
        assert key == missing or torch.equal(loaded.state_dict()[key], tensor), key


@cases("unexpected")
def test_tensors_too_many_are_reported(name, tmp_path):
    model = saved(name, tmp_path)
    spoil(tmp_path, lambda tensors: tensors.update({"strange.weight": torch.zeros(2)}))
    loaded, report = MODELS[name][0].from_pretrained(tmp_path, output_loading_info=True)
    assert keys(report) == {"unexpected_keys": {"strange.weight"}}
    assert torch.equal(run(name, loaded), run(name, model))


@cases("mismatched")
def test_tensors_of_another_shape_are_refused_or_reported(name, tmp_path):
    model = saved(name, tmp_path)
    other = []
    spoil(tmp_path, lambda tensors: other.append(stored_name(tensors, own_part(name))))
    spoil(tmp_path, lambda tensors: tensors.update({other[0]: torch.zeros(7, *tensors[other[0]].shape[1:])}))
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        MODELS[name][0].from_pretrained(tmp_path)
    loaded, report = MODELS[name][0].from_pretrained(tmp_path, ignore_mismatched_sizes=True, output_loading_info=True)
    ((key, stored, own),) = report["mismatched_keys"]
    assert (stored[0], own) == (7, model.state_dict()[key].shape)
    assert run(name, loaded).isfinite().all()


@cases("labels")
def test_another_number_of_labels_is_reported(name, tmp_path):
    saved(name, tmp_path)
    head = MODELS[name][0]
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        head.from_pretrained(tmp_path, num_labels=5)
    loaded, report = head.from_pretrained(
        tmp_path, num_labels=5, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert len(loaded.config.id2label) == loaded.config.num_labels == 5
    assert {key for key, *_ in report["mismatched_keys"]} == {
        key for key, tensor in build(name).state_dict().items() if tensor.shape != loaded.state_dict()[key].shape
    }
    assert report["mismatched_keys"]
    assert run(name, loaded).shape[1] == 5


@cases("configuration")
def test_configurations_are_copied_pickled_and_saved(name, tmp_path):
    config = configuration(name, output_hidden_states=True)
    # Which saving writes down.
    config.auto_map = {"AutoConfig": code_reference(type(config))}
    fields = config.to_dict()
    assert copy.deepcopy(config).to_dict() == fields
    # Our own configuration, pickled for the processes of a loader.
    assert pickle.loads(pickle.dumps(config)).to_dict() == fields
    config.save_pretrained(tmp_path)
    loaded = type(config).from_pretrained(tmp_path)
    assert loaded.to_dict() | {"_name_or_path": fields.get("_name_or_path")} == fields
    assert type(config).from_dict(fields).to_dict() == fields
    assert loaded.output_hidden_states


@cases("from_config")
def test_a_configuration_rebuilds_its_model(name):
    model = build(name)
    again = MODELS[name][0]._from_config(model.config).eval()
    assert again.state_dict().keys() == model.state_dict().keys()
    again.load_state_dict(model.state_dict())
    assert torch.equal(run(name, again), run(name, model))
    assert again.config.to_dict() == model.config.to_dict()


@cases("new_weights")
def test_new_weights_are_finite_and_follow_the_seed(name):
    one, other = build(name).state_dict(), build(name).state_dict()
    for key, tensor in one.items():
        assert tensor.isfinite().all(), key
        assert torch.equal(other[key], tensor), key


@cases("copies")
def test_a_copy_of_a_model_is_as_good(name):
    model = build(name)
    assert torch.equal(run(name, copy.deepcopy(model)), run(name, model))


@cases("attention")
def test_implementations_of_attention_agree(name, tmp_path):
    saved(name, tmp_path)
    outputs = []
    for kind in ("eager", "sdpa"):
        # A ResNet has none to choose, so transformers refuses sdpa for the whole model, and takes it for one tower.
        chosen = {"text_config": kind} if name == "dual_resnet" else kind
        model = MODELS[name][0].from_pretrained(tmp_path, attn_implementation=chosen)
        assert name in HEADS or model.config.text_config._attn_implementation == kind
        assert name == "dual_resnet" or model.config.vision_config._attn_implementation == kind
        outputs.append(run(name, model))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-4, atol=1e-4)


@cases("input_embeddings")
def test_input_embeddings_are_found(name):
    assert isinstance(build(name).get_input_embeddings(), torch.nn.Module)


@cases("words")
def test_input_embeddings_may_be_replaced(name):
    model = build(name)
    other = copy.deepcopy(model.get_input_embeddings())
    model.set_input_embeddings(other)
    assert model.get_input_embeddings() is other


@cases("words")
def test_word_embeddings_may_be_resized(name):
    model = build(name)
    before = run(name, model)
    words = model.get_input_embeddings().num_embeddings
    model.resize_token_embeddings(words + 7, mean_resizing=False)
    assert model.get_input_embeddings().num_embeddings == words + 7
    assert model.config.get_text_config().vocab_size == words + 7
    after = run(name, model)
    torch.testing.assert_close(after[..., : before.shape[-1]], before)
    batch = inputs(name)
    batch["input_ids"][:, -1] = words + 6
    model(**batch)


@cases("tied")
def test_output_embeddings_stay_tied(name, tmp_path):
    model = saved(name, tmp_path)
    for one in (model, MODELS[name][0].from_pretrained(tmp_path)):
        assert one.get_output_embeddings().weight is one.get_input_embeddings().weight
