"""Equal texts as positives: values by the sum over pairs, the plain loss where no text repeats, any processes."""

from pathlib import Path

import torch
import yaml
from torch.nn import functional as F

from tests.training import RECIPE, assert_same_weights, kept_rows, make_batch, make_trainer, run_recipe
from train.objectives.contrastive import contrastive_loss
from train.objectives.multi_positive import multi_positive_loss

SCALE = torch.tensor(2.0)
BATCH = yaml.safe_load(Path(RECIPE).read_text())["per_device_train_batch_size"]


def unit(rows: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(rows, 7, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_values_are_those_of_the_sum_over_pairs():
    images, texts, classes = unit(6, 0), unit(6, 1), [3, 3, 5, 3, 7, 5]
    logits = SCALE.exp() * images @ texts.T
    expected = 0.0
    for table in (logits, logits.T):
        for row in range(6):
            same = [other for other in range(6) if classes[other] == classes[row]]
            expected -= sum(table[row].log_softmax(0)[other] for other in same) / len(same) / 6 / 2
    loss = multi_positive_loss(images, texts, SCALE, torch.tensor(classes))
    torch.testing.assert_close(loss, torch.as_tensor(expected))


def test_without_repeated_texts_it_is_the_plain_loss_and_padding_does_not_count():
    images, texts, valid = unit(6, 0), unit(6, 1), torch.arange(6) < 4
    # The padding rows repeat a text.
    identities = torch.tensor([0, 1, 2, 3, 3, 3])
    loss = multi_positive_loss(images, texts, SCALE, identities, valid)
    torch.testing.assert_close(loss, contrastive_loss(images, texts, SCALE, valid))
    torch.testing.assert_close(loss, multi_positive_loss(images[:4], texts[:4], SCALE, identities[:4]))


def test_texts_are_equal_where_the_text_tower_sees_the_same(tmp_path, tiny_corpus):
    """So they are where what differs is cut off: what is pushed apart would be one embedding."""
    trainer = make_trainer(tiny_corpus, tmp_path / "run", "--objective", "multi_positive")
    pairs = [trainer.train_dataset[row] for row in range(3)]
    length = trainer.data_collator.max_text_length
    texts = ("no edema. " * length + "yes", " NO  edema. " * length, "no effusion.")
    batch = trainer.data_collator([pair | {"report": text} for pair, text in zip(pairs, texts, strict=True)])
    loss = trainer.objective(trainer.model, unit(3, 0), unit(3, 1), batch)
    expected = multi_positive_loss(unit(3, 0), unit(3, 1), trainer.model.logit_scale, torch.tensor([5, 5, 7]))
    torch.testing.assert_close(loss, expected)


def test_gradients_do_not_depend_on_chunks(tmp_path, tiny_corpus):
    found = []
    for chunk in (30, 7):
        words = ["--objective", "multi_positive", "--chunk_size", str(chunk)]
        trainer = make_trainer(tiny_corpus, tmp_path / str(chunk), *words)
        trainer.current_gradient_accumulation_steps = 1
        trainer.model.train().zero_grad()
        trainer._backward(trainer.model, make_batch(trainer, range(30)), None, 10**6)
        found.append({name: one.grad for name, one in trainer.model.named_parameters() if one.grad is not None})
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-4, atol=1e-5, msg=name)


def test_two_processes_learn_what_one_learns(tmp_path, tiny_corpus):
    words = ["--objective", "multi_positive", "--max_steps", "8", "--curation_report", "false"]
    one = run_recipe(tiny_corpus, tmp_path / "one", *words)
    half = ["--per_device_train_batch_size", str(BATCH // 2)]
    two = run_recipe(tiny_corpus, tmp_path / "two", *words, *half, processes=2)
    assert kept_rows(one) == kept_rows(two)
    assert_same_weights(one, two)
