"""What transformers' own test mixins ask of outputs, gradients and graphs; see test_transformers_contract.py."""

import inspect

import pytest
import torch

from tests import test_transformers_contract
from tests.contract_models import (
    CHECKS,
    MODELS,
    NOT_APPLICABLE,
    build,
    cases,
    inner_outputs,
    inputs,
    labelled,
    outcome,
    run,
)
from tests.test_transformers_interfaces import exported


@cases("determinism")
def test_outputs_are_the_same_each_time(name):
    model = build(name)
    first = run(name, model)
    assert torch.equal(run(name, model), first)
    # Back from training; without a step nothing has changed.
    assert torch.equal(run(name, model.train().eval()), first)


@cases("dropout")
def test_dropout_is_for_training(name):
    model = build(name)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    assert torch.equal(run(name, model), run(name, build(name)))
    model.train()
    assert not torch.equal(run(name, model), run(name, model))


def blocks(name: str) -> list[int]:
    """Hidden states of each inner output: those of the blocks (or stages) and of the embedding."""
    if name.startswith("dual"):
        return [4, 3]
    if name == "report":
        return [3]
    return [7 if name.startswith("segmentation") and name != "segmentation_resnet" else 4]


def expect_hidden_states(name, model, **flags):
    output = model(**inputs(name), **flags)
    assert [len(one.hidden_states) for one in inner_outputs(name, output)] == blocks(name)
    assert torch.equal(outcome(name, output), run(name, build(name)))
    refused = model(**inputs(name), output_hidden_states=False)
    assert all(one.hidden_states is None for one in inner_outputs(name, refused))


@cases("hidden_states")
def test_hidden_states_are_there_where_the_call_asks(name):
    model = build(name)
    assert all(one.hidden_states is None for one in inner_outputs(name, model(**inputs(name))))
    expect_hidden_states(name, model, output_hidden_states=True)


@cases("hidden_states_of_the_whole")
def test_hidden_states_are_there_where_the_configuration_asks(name):
    model = build(name)
    model.config.output_hidden_states = True
    expect_hidden_states(name, model)


@cases("hidden_states")
def test_hidden_states_are_there_where_the_configurations_of_the_towers_ask(name):
    model = build(name)
    model.config.vision_config.output_hidden_states = model.config.text_config.output_hidden_states = True
    expect_hidden_states(name, model)


def expect_attentions(name, model, **flags):
    output = model(**inputs(name), **flags)
    for one, states in zip(inner_outputs(name, output), blocks(name), strict=True):
        if name == "dual_resnet" and one is output.vision_model_output:
            assert one.get("attentions") is None
            continue
        assert len(one.attentions) == states - 1
        for attention in one.attentions:
            torch.testing.assert_close(attention.sum(-1), torch.ones_like(attention.sum(-1)))


@cases("attention")
def test_attentions_are_there_where_the_call_asks(name):
    model = build(name, attn_implementation="eager")
    assert all(one.get("attentions") is None for one in inner_outputs(name, model(**inputs(name))))
    expect_attentions(name, model, output_attentions=True)


@cases("attentions_of_the_whole")
def test_attentions_are_there_where_the_configuration_asks(name):
    model = build(name, attn_implementation="eager")
    model.config.output_attentions = True
    expect_attentions(name, model)


@cases("retained_gradients")
def test_hidden_states_and_attentions_take_part_in_the_output(name):
    model = build(name, **({} if name.endswith("resnet") else {"attn_implementation": "eager"}))
    output = model(**inputs(name), output_hidden_states=True, output_attentions=not name.endswith("resnet"))
    kept = []
    for one in inner_outputs(name, output):
        kept += [one.hidden_states[0], *(one.get("attentions") or ())[:1]]
    for tensor in kept:
        tensor.retain_grad()
    outcome(name, output).flatten()[0].backward()
    assert kept
    for tensor in kept:
        assert tensor.grad.isfinite().all()
        assert tensor.grad.abs().max() > 0


def expect_a_tuple(name, model, **flags):
    expected = build(name)(**labelled(name))
    assert expected.loss.ndim == 0
    given = model(**labelled(name), **flags)
    assert isinstance(given, tuple)
    both = [[one for one in values if isinstance(one, torch.Tensor)] for values in (given, expected.to_tuple())]
    for one, other in zip(*both, strict=True):
        assert torch.equal(one, other)


@cases("tuples")
@torch.no_grad()
def test_a_call_may_ask_for_a_tuple(name):
    expect_a_tuple(name, build(name), return_dict=False)


@cases("tuples_by_configuration")
@torch.no_grad()
def test_a_configuration_may_ask_for_tuples(name):
    model = build(name)
    model.config.return_dict = False
    expect_a_tuple(name, model)


@cases("signature")
def test_forward_begins_with_the_main_input(name):
    model_class = MODELS[name][0]
    names = list(inspect.signature(model_class.forward).parameters)
    assert names[1] == model_class.main_input_name
    assert {*labelled(name)} <= {*names}


def gradients(name: str, model) -> dict[str, torch.Tensor]:
    model.zero_grad()
    torch.manual_seed(1)
    model(**labelled(name)).loss.backward()
    return {key: one.grad.clone() for key, one in model.named_parameters() if one.grad is not None}


@cases("training")
def test_a_step_of_training_reaches_all_that_is_trainable(name):
    model = build(name).train()
    found = gradients(name, model)
    assert {key for key, one in model.named_parameters() if one.requires_grad} == found.keys()
    assert all(one.isfinite().all() for one in found.values())
    assert sum(bool(one.abs().max() > 0) for one in found.values()) > 0.9 * len(found)


@cases("checkpointing")
@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_changes_no_gradient(name, reentrant):
    model = build(name).train()
    assert model.supports_gradient_checkpointing
    plain = gradients(name, model)
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    assert model.is_gradient_checkpointing
    # Without it, reentrant checkpoints would have no input that asks for gradients.
    model.enable_input_require_grads()
    recomputed = gradients(name, model)
    assert recomputed.keys() == plain.keys()
    for key, gradient in plain.items():
        torch.testing.assert_close(recomputed[key], gradient, msg=key)
    model.gradient_checkpointing_disable()
    assert not model.is_gradient_checkpointing


@cases("refused_checkpointing")
def test_gradient_checkpointing_is_refused_in_words(name):
    model = build(name)
    assert not model.supports_gradient_checkpointing
    with pytest.raises(ValueError, match=r"ResNetModel: .* no layers that can be computed again. Train without it"):
        model.gradient_checkpointing_enable()


@cases("batching")
def test_a_row_alone_is_as_in_a_batch(name):
    model = build(name)
    batch = inputs(name, 3)
    with torch.no_grad():
        together = outcome(name, model(**batch))
        alone = [outcome(name, model(**{key: one[row : row + 1] for key, one in batch.items()})) for row in range(3)]
    for row, one in enumerate(alone):
        expected = together[row, row].reshape(1, 1) if name.startswith("dual") else together[row : row + 1]
        # A batch of another size may be summed in another order, which processors differ in.
        torch.testing.assert_close(one, expected, rtol=1e-4, atol=3e-5)


@cases("generation")
@torch.no_grad()
def test_generation_is_the_same_with_and_without_cache(name):
    model, batch = build(name), inputs(name)
    batch["attention_mask"][:] = 1
    length = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
    cached = model.generate(**batch, **length)
    assert cached.shape == (2, batch["input_ids"].shape[1] + 5)
    assert torch.equal(cached[:, :-5], batch["input_ids"])
    assert torch.equal(model.generate(**batch, **length, use_cache=False), cached)
    beams = model.generate(**batch, **length, num_beams=3, num_return_sequences=2)
    assert beams.shape == (4, cached.shape[1])
    told = model.generate(**batch, **length, return_dict_in_generate=True, output_scores=True)
    assert torch.equal(told.sequences, cached)
    assert len(told.scores) == 5


@pytest.mark.slow
@cases("export")
@torch.no_grad()
def test_an_exported_graph_takes_another_batch(name):
    model, many = build(name), inputs(name, 5)
    graph = exported(model, inputs(name, 2))
    torch.testing.assert_close(outcome(name, graph(**many)), outcome(name, model(**many)), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@cases("compilation")
def test_compiled_models_agree(name):
    """The graphs are run as they are traced: code of them would be made by a compiler of C++."""
    # All heads run the same code, which is compiled at most eight times.
    torch._dynamo.reset()
    model = build(name)
    # The first call of a model that gives hidden states installs hooks, which no graph can hold.
    expected = run(name, model)
    compiled = torch.compile(model, backend="eager", fullgraph=name != "report")
    torch.testing.assert_close(run(name, compiled), expected)


def test_every_reason_belongs_to_a_check():
    assert {name for _, name in NOT_APPLICABLE} <= {*MODELS}
    # Of both files: importing them has named their checks.
    assert test_transformers_contract.MODELS is MODELS
    assert {check for check, _ in NOT_APPLICABLE} <= CHECKS
    for check in CHECKS:
        assert any((check, name) not in NOT_APPLICABLE for name in MODELS), check
