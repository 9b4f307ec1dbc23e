"""Chunked gradients are the plain ones: any chunk size, precision, dropout, and any number of processes."""

import json

import pytest
import torch

from tests.training import assert_same_weights, kept_rows, make_batch, make_trainer, run_recipe
from train.objectives.encoding import Chunk, order_of

DROPOUT = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
DROPOUT |= {"intermediate_size": 64, "hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.2}


def gradients(trainer, chunk_size: int, cached=None, rows=range(30)) -> dict[str, torch.Tensor]:
    trainer.current_gradient_accumulation_steps = 1
    trainer.encoder.chunk_size = chunk_size
    trainer.model.train().zero_grad()
    batch = make_batch(trainer, rows)
    torch.manual_seed(5)
    trainer._backward(trainer.model, batch, cached, 10**6)
    return {name: parameter.grad.clone() for name, parameter in trainer.model.named_parameters()}


@pytest.mark.parametrize(("chunk_size", "in_memory"), [(1, 1), (7, 1), (7, 3), (7, 9), (30, 1)])
def test_cached_gradients_are_the_plain_ones(tiny_corpus, tmp_path, chunk_size, in_memory):
    trainer = make_trainer(tiny_corpus, tmp_path, "--chunks_in_memory", str(in_memory))
    plain = gradients(trainer, 30)
    chunked = gradients(trainer, chunk_size)
    for name in plain:
        torch.testing.assert_close(chunked[name], plain[name], atol=1e-5, rtol=1e-5, msg=name)
    assert max(gradient.abs().max() for gradient in plain.values()) > 0.01
    assert plain["logit_scale"] != 0


def test_scored_embeddings_save_the_first_pass(tiny_corpus, tmp_path):
    trainer = make_trainer(tiny_corpus, tmp_path)
    plain = gradients(trainer, 30)
    batch = make_batch(trainer, range(30))
    spent = dict(trainer.encoder.spent)
    trainer.encoder.chunk_size = 7
    cached = trainer.curator.score(trainer.model, batch)
    scored = trainer.encoder.spent["scored"] - spent["scored"]
    chunked = gradients(trainer, 7, cached)
    for name in plain:
        torch.testing.assert_close(chunked[name], plain[name], atol=1e-5, rtol=1e-5, msg=name)
    trained = trainer.encoder.spent["trained"] - spent["trained"]
    assert 2 < trained / scored < 3.1, "forward and backward, and no first pass"
    gradients(trainer, 7)
    again = trainer.encoder.spent["trained"] - spent["trained"] - trained
    assert trained < again < trained + scored, "with the first pass of all but the last chunk"


def test_chunks_in_memory_are_embedded_once(tiny_corpus, tmp_path):
    trainer = make_trainer(tiny_corpus, tmp_path)
    embed, embedded = trainer.encoder.embed, []

    def recording(*arguments):
        embedded.append((arguments[2].count, torch.is_grad_enabled()))
        return embed(*arguments)

    trainer.encoder.embed = recording
    for in_memory, first in ((1, 4), (2, 3), (5, 1), (9, 1)):
        trainer.args.chunks_in_memory = in_memory
        embedded.clear()
        gradients(trainer, 7)
        assert embedded == [(6, False)] * first + [(6, True)] * 5


def test_equal_texts_are_encoded_once(tiny_corpus, tmp_path):
    """To the same gradient; not where dropout would make different embeddings of them."""
    trainer = make_trainer(tiny_corpus, tmp_path)
    rows = [0, 1, 2, 0, 1, 0, 3, 4, 5, 0]
    widths = []
    handle = trainer.model.text_model.register_forward_pre_hook(
        lambda module, args, kwargs: widths.append(len((*args, *kwargs.values())[0])), with_kwargs=True
    )
    shared = gradients(trainer, 10, rows=rows)
    assert widths == [len(set(trainer.train_dataset.dataset[:6]["report"]))]
    assert widths[0] <= 6
    handle.remove()
    batch = make_batch(trainer, rows)
    everything = Chunk(torch.arange(10), 10, batch.text_width, torch.arange(10))
    trainer.encoder.chunks = lambda batch, share_texts: [everything]
    plain = gradients(trainer, 10, rows=rows)
    for name in plain:
        torch.testing.assert_close(shared[name], plain[name], atol=1e-5, rtol=1e-5, msg=name)
    assert batch.text_keys[0] == batch.text_keys[3]
    dropping = make_trainer(tiny_corpus, tmp_path / "dropout", "--text_config", json.dumps(DROPOUT))
    dropping.model.text_model.register_forward_pre_hook(
        lambda module, args, kwargs: widths.append(len((*args, *kwargs.values())[0])), with_kwargs=True
    )
    gradients(dropping, 10, rows=rows)
    assert widths[1:] == [10]


def test_dropout_draws_the_same_in_both_passes(tiny_corpus, tmp_path):
    """With one chunk a step draws once; with chunks, the second forward must repeat what the first one drew."""
    trainer = make_trainer(tiny_corpus, tmp_path, "--text_config", json.dumps(DROPOUT))
    batch = make_batch(trainer, range(30))
    embed = trainer.encoder.embed
    first, second = [], []

    def recording(*arguments):
        images, texts = embed(*arguments)
        (second if torch.is_grad_enabled() else first).append(texts.detach().clone())
        return images, texts

    trainer.encoder.embed = recording
    gradients(trainer, 7)
    # The last chunk is embedded once, with gradient, before the others are embedded again.
    assert (len(first), len(second)) == (4, 5)
    assert all(torch.equal(one, two) for one, two in zip(first, second[1:], strict=True))
    trainer.encoder.embed = embed
    with torch.no_grad():
        again = trainer.encoder.embed_all(trainer.model.train(), batch)[1]
    once = torch.cat([*first, second[0]])
    assert not torch.allclose(once.sort(dim=0).values, again.sort(dim=0).values), "dropout is at work"


@pytest.mark.parametrize(
    "setting", ["bf16", "gradient_checkpointing", pytest.param("torch_compile", marks=pytest.mark.slow)]
)
def test_chunks_go_with_other_ways_to_save(tiny_corpus, tmp_path, setting):
    words = ["--chunk_size", "7", f"--{setting}", "true"]
    if setting == "torch_compile":
        pytest.importorskip("torch._inductor")
        words += ["--torch_compile_backend", "aot_eager"]
    trainer = make_trainer(tiny_corpus, tmp_path, *words)
    trainer.train()
    assert trainer.state.global_step == 12
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    plain = make_trainer(tiny_corpus, tmp_path / "plain")
    plain.train()
    expected = [entry["loss"] for entry in plain.state.log_history if "loss" in entry]
    assert losses == pytest.approx(expected, abs=0.1 if setting == "bf16" else 1e-4)


def test_fixed_shapes_are_few_and_hold_little_padding(tiny_corpus, tmp_path):
    trainer = make_trainer(tiny_corpus, tmp_path)
    trainer.encoder.fixed_shapes, trainer.encoder.chunk_size = True, 80
    batch, sizes = make_batch(trainer, range(200)), set()
    for count in range(81, 201):
        chunks = trainer.encoder.chunks(batch.select(torch.arange(count)))
        assert len({len(chunk.index) for chunk in chunks}) == 1
        assert torch.equal(order_of(chunks).sort().values, torch.arange(count))
        sizes.add(len(chunks[0].index))
        padding = sum(len(chunk.index) - chunk.count for chunk in chunks)
        assert padding <= count / 20
    assert len(sizes) <= 21


def test_fixed_shapes_fill_the_last_chunk_and_change_nothing(tiny_corpus, tmp_path):
    trainer = make_trainer(tiny_corpus, tmp_path)
    plain = gradients(trainer, 30)
    trainer.encoder.fixed_shapes = True
    shapes = set()
    handle = trainer.model.vision_model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.add(tuple((*args, *kwargs.values())[0].shape)), with_kwargs=True
    )
    chunked = gradients(trainer, 7)
    handle.remove()
    assert shapes == {(6, 3, 56, 56)}
    for name in plain:
        torch.testing.assert_close(chunked[name], plain[name], atol=1e-5, rtol=1e-5, msg=name)


def test_accumulated_batches_average_their_gradients(tiny_corpus, tmp_path):
    """Two batches a step: the mean of the two gradients, and phases in whole steps."""
    trainer = make_trainer(tiny_corpus, tmp_path, "--gradient_accumulation_steps", "2", "--max_steps", "8")
    schedule = trainer.schedule
    assert (schedule.warmup_steps % 2, schedule.steps_per_pass % 2, schedule.total_steps) == (0, 0, 16)
    one, two = (gradients(trainer, 30, rows=rows) for rows in (range(30), range(30, 60)))
    trainer.model.zero_grad()
    for rows in (range(30), range(30, 60)):
        batch = make_batch(trainer, rows)
        trainer.current_gradient_accumulation_steps = 2
        trainer._backward(trainer.model, batch, None, 10**6)
    for name, parameter in trainer.model.named_parameters():
        torch.testing.assert_close(parameter.grad, (one[name] + two[name]) / 2, atol=1e-6, rtol=1e-5, msg=name)
    trainer.train()
    assert (trainer.state.global_step, trainer.batches_done) == (8, 16)
    assert trainer.curation.seen.all()


def test_the_flops_of_a_run_add_up(tiny_corpus, tmp_path):
    """Against torch's counter around the towers themselves."""
    from torch.utils.flop_counter import FlopCounterMode

    trainer = make_trainer(tiny_corpus, tmp_path, "--text_multiple", "8")
    trainer.model.set_attn_implementation("eager")
    batch = make_batch(trainer, range(20))
    trainer.encoder.chunk_size = 6
    # The first time the twin is counted, and torch's counter would see that too.
    trainer.curator.score(trainer.model, batch)
    trainer.encoder.spent["scored"] = 0
    with FlopCounterMode(display=False) as counter:
        trainer.curator.score(trainer.model, batch)
    # The logits of each chunk are not counted by ours: 6 x 6 x 16 MAC.
    assert trainer.encoder.spent["scored"] == pytest.approx(counter.get_total_flops(), rel=2e-3)


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("chunk_size", ["5", pytest.param("24", marks=pytest.mark.slow)])
def test_any_number_of_processes_and_chunks_is_one_process(tiny_corpus, tmp_path, processes, chunk_size):
    """Kept rows equal and parameters within 1e-5 after 5 steps; 0.05 of 64 leaves 3 pairs for 2 or 4 processes."""
    words = ["--max_steps", "5", "--keep_share", "0.05", "--curation_warmup_share", "0"]
    one = run_recipe(tiny_corpus, tmp_path / "one", *words, "--per_device_train_batch_size", "24")
    size = str(24 // processes)
    many = run_recipe(
        tiny_corpus,
        tmp_path / "many",
        *[*words, "--per_device_train_batch_size", size, "--chunk_size", chunk_size],
        processes=processes,
    )
    assert kept_rows(many) == kept_rows(one)
    assert_same_weights(one, many)
    counts = [json.loads((run / "run.json").read_text()) for run in (one, many)]
    assert counts[0]["pairs_trained"] == counts[1]["pairs_trained"]
    assert counts[0]["pairs_scored"] == counts[1]["pairs_scored"]
