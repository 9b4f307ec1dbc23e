"""A second objective, with parameters and a column of its own: trained alike in any chunks, on any number of processes.

What it takes beside its own file is its name in `OBJECTIVES`.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from tests.toy_objective import WIDTH, ToyObjective
from tests.training import RECIPE, assert_same_weights, kept_rows, make_batch, make_trainer, run_recipe
from train.objectives import OBJECTIVES
from train.objectives.batch import PairBatch
from train.pretrain.__main__ import main
from train.pretrain.trainer import OBJECTIVE_FILE

#: A checkpoint within curation and one at the end; gradients are clipped, those of the objective with the others.
RUN = ["--objective", "toy", "--max_steps", "8", "--save_strategy", "steps", "--save_steps", "4"]
RUN += ["--max_grad_norm", "1", "--curation_report", "false"]


@pytest.fixture(autouse=True)
def _toy(monkeypatch):
    monkeypatch.setitem(OBJECTIVES, "toy", ToyObjective)


def pair_batch(count: int = 5, width: int = 6) -> PairBatch:
    numbers = torch.arange(count * width).view(count, width)
    return PairBatch(
        rows=torch.arange(count) + 100,
        lengths=torch.arange(count) + 1,
        text_keys=torch.arange(count) + 7,
        valid=torch.arange(count) < count - 1,
        pixel_values=torch.arange(count * 4, dtype=torch.uint8).view(count, 1, 2, 2),
        input_ids=numbers,
        attention_mask=numbers + 1,
        extra={"labels": torch.randn(count, 9), "weight": torch.randn(count)},
    )


def gradients(trainer, rows=range(30)) -> dict[str, torch.Tensor]:
    """Of the model and the objective; the loss gathers nothing outside of a process group."""
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train().zero_grad()
    trainer.objective.zero_grad()
    trainer._backward(trainer.model, make_batch(trainer, rows), None, 10**6)
    everything = {**dict(trainer.model.named_parameters()), **dict(trainer.objective.named_parameters())}
    return {name: None if one.grad is None else one.grad.clone() for name, one in everything.items()}


def test_the_kind_of_a_tensor_says_what_is_done_with_it_not_its_dimensions():
    batch = pair_batch()
    for width in (3, 11):
        changed = batch.with_text_width(width)
        assert changed.input_ids.shape == changed.attention_mask.shape == (5, width)
        assert changed.extra["labels"] is batch.extra["labels"]
        assert torch.equal(changed.input_ids[:, :3], batch.input_ids[:, :3])
    assert not batch.with_text_width(11).attention_mask[:, 6:].any()
    assert batch.with_channels(3).pixel_values.shape == (5, 3, 2, 2)
    assert set(batch.texts) == {"input_ids", "attention_mask"}, "this tokenizer has no token types"
    index = torch.tensor([3, 0, 4])
    chosen = batch.select(index)
    assert (len(chosen), chosen.rows.tolist(), chosen.valid.tolist()) == (3, [103, 100, 104], [True, True, False])
    for name in ("lengths", "pixel_values", "input_ids", "attention_mask"):
        assert torch.equal(getattr(chosen, name), getattr(batch, name)[index]), name
    for name, tensor in batch.extra.items():
        assert torch.equal(chosen.extra[name], tensor[index]), name


def test_what_is_known_of_the_pairs_stays_on_the_cpu():
    moved = replace(pair_batch(), token_type_ids=torch.zeros(5, 6)).to(torch.device("meta"))
    assert moved.device.type == moved.extra["weight"].device.type == moved.token_type_ids.device.type == "meta"
    assert {tensor.device.type for tensor in (moved.rows, moved.lengths, moved.valid)} == {"cpu"}


def test_loaders_pin_what_goes_to_the_device(monkeypatch):
    from torch.utils.data._utils.pin_memory import pin_memory

    batch = next(iter(DataLoader([pair_batch()], batch_size=None, num_workers=1)))
    assert isinstance(batch, PairBatch)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor.clone().mul_(0))
    pinned = pin_memory(batch)
    assert isinstance(pinned, PairBatch)
    for tensor in (pinned.pixel_values, pinned.input_ids, pinned.attention_mask, *pinned.extra.values()):
        assert not tensor.any()
    assert torch.equal(pinned.rows, batch.rows)


@pytest.fixture(scope="module")
def plain(tiny_corpus, tmp_path_factory) -> dict[str, torch.Tensor]:
    """Gradients of a batch of 30 in one chunk and one process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OBJECTIVES, "toy", ToyObjective)
        words = ["--objective", "toy", "--chunk_size", "30"]
        found = gradients(make_trainer(tiny_corpus, tmp_path_factory.mktemp("plain"), *words))
    for name in ("factor", "predictor.weight", "logit_scale", "visual_projection.weight"):
        assert found[name].abs().max() > 1e-3, name
    return found


def assert_same_gradients(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for name, gradient in expected.items():
        if gradient is not None:
            assert found[name] is not None, f"{name} has no gradient"
            torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-5, msg=name)


@pytest.mark.parametrize("chunk_size", [1, 7, 30])
def test_every_parameter_of_the_loss_has_its_gradient_in_any_chunks(tiny_corpus, tmp_path, plain, chunk_size):
    trainer = make_trainer(tiny_corpus, tmp_path, "--objective", "toy", "--chunk_size", str(chunk_size))
    found = gradients(trainer)
    assert_same_gradients(found, plain)
    assert found["never_used"] is None


@pytest.fixture(scope="module")
def one_process(tiny_corpus, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("one")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OBJECTIVES, "toy", ToyObjective)
        main([RECIPE, "--dataset_dir", str(tiny_corpus), "--output_dir", str(out), *RUN])
    return out


def test_optimiser_and_checkpoints_hold_the_parameters_of_the_objective(tiny_corpus, tmp_path, one_process):
    states = [load_file(one_process / f"checkpoint-{step}" / OBJECTIVE_FILE) for step in (4, 8)]
    assert set(states[0]) == {"factor", "predictor.weight", "predictor.bias", "never_used"}
    assert all(not torch.equal(*(state[name] for state in states)) for name in ("factor", "predictor.weight"))
    names = load_file(one_process / "model" / "model.safetensors")
    assert not [name for name in names if name in states[0] or name.startswith("objective")]
    optimizer = torch.load(one_process / "checkpoint-8" / "optimizer.pt", weights_only=True)
    assert len(optimizer["state"]) == len(names) + 3, "the model, and what the objective uses"

    shutil.copytree(one_process, tmp_path / "part")
    shutil.rmtree(tmp_path / "part" / "checkpoint-8")
    words = [RECIPE, "--dataset_dir", str(tiny_corpus), "--output_dir", str(tmp_path / "part"), *RUN]
    main([*words, "--resume_from_checkpoint", "last"])
    again = load_file(tmp_path / "part" / "checkpoint-8" / OBJECTIVE_FILE)
    assert all(torch.equal(again[name], states[1][name]) for name in again)
    assert_same_weights(tmp_path / "part", one_process, atol=0)
    with pytest.raises(SystemExit, match=r"would not be the same any more: objective .?toy"):
        main([*words, "--objective", "contrastive", "--resume_from_checkpoint", "last"])


def test_gradients_of_one_step_are_not_those_of_the_next(tiny_corpus, tmp_path):
    """Trainer forgets the gradients of the model alone."""
    trainer = make_trainer(tiny_corpus, tmp_path, "--objective", "toy", "--selection", "none")
    trainer.current_gradient_accumulation_steps = 1
    found = []
    for _ in range(2):
        trainer.model.zero_grad()
        trainer.training_step(trainer.model, make_batch(trainer, range(24)))
        found.append(trainer.objective.factor.grad.clone())
    torch.testing.assert_close(*found)


@pytest.fixture(scope="module")
def two_processes(tiny_corpus, tmp_path_factory) -> Path:
    """`tests/objective_program.py` in two processes."""
    words = [*RUN, "--per_device_train_batch_size", "12", "--chunk_size", "5"]
    program = Path(__file__).with_name("objective_program.py")
    return run_recipe(tiny_corpus, tmp_path_factory.mktemp("two"), *words, processes=2, program=[str(program)])


def test_labels_of_another_width_than_the_texts_are_exchanged_as_they_are(tiny_corpus, tmp_path, two_processes):
    trainer = make_trainer(tiny_corpus, tmp_path, "--objective", "toy")
    shares = [torch.load(two_processes / f"exchange-{number}.pt", weights_only=True) for number in range(2)]
    assert shares[0]["width_before"] > shares[1]["width_before"]
    assert sum(share["valid"].sum() for share in shares) == len(shares[0]["kept"]) == 13
    assert torch.cat([share["rows"][share["valid"]] for share in shares]).tolist() == shares[0]["kept"].tolist()
    for share in shares:
        expected = make_batch(trainer, share["rows"].tolist())
        assert share["extra"]["labels"].shape == (7, WIDTH)
        assert torch.equal(share["extra"]["labels"], expected.extra["labels"])
        assert torch.equal(share["extra"]["flags"], expected.extra["labels"][:, :7] > 0)
        assert torch.equal(share["lengths"], expected.lengths)
        assert torch.equal(share["pixel_values"], expected.pixel_values)
        wide = expected.with_text_width(shares[0]["width_before"])
        assert torch.equal(share["input_ids"], wide.input_ids)
        assert torch.equal(share["attention_mask"], wide.attention_mask)


@pytest.mark.parametrize("chunk_size", [1, 7, 15])
@pytest.mark.parametrize("number", [0, 1])
def test_two_processes_have_the_gradients_of_one(plain, two_processes, chunk_size, number):
    found = torch.load(two_processes / f"gradients-{chunk_size}-{number}.pt", weights_only=True)
    assert_same_gradients(found, plain)


def test_a_run_of_two_processes_is_that_of_one(one_process, two_processes):
    assert kept_rows(two_processes) == kept_rows(one_process)
    assert_same_weights(one_process, two_processes)
    one, two = (load_file(run / "checkpoint-8" / OBJECTIVE_FILE) for run in (one_process, two_processes))
    for name in one:
        torch.testing.assert_close(two[name], one[name], atol=1e-5, rtol=0, msg=name)
    assert json.loads((two_processes / "run.json").read_text())["settings"]["objective"] == "toy"
