"""Rare structures: how often films with them are seen, and lines as narrow as a pixel."""

import numpy as np
import pytest
import torch
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader

from data_scripts.prepared.foreground import ForegroundSampler
from modeling_chexficient.base_identity_chexficient import identify_base
from modeling_chexficient.decoders_chexficient import ImageUNetDecoder
from modeling_chexficient.modeling_chexficient_losses import entropy_and_dice
from tests.adaptation import film, read_arguments, save_base, words, write_corpus
from train.adapt.__main__ import build_task, build_trainer, main
from train.runs.folder import checkpoint_to_resume


def some_films(films: int = 60) -> np.ndarray:
    """All show the first structure, one in ten the second, three the third, none the fourth."""
    number = np.arange(films)
    return np.stack([number >= 0, number % 10 == 0, number < 3, number < 0], axis=1)


def test_a_third_of_every_batch_shows_a_rare_structure():
    shows = some_films()
    sampler = ForegroundSampler(shows, 1 / 3, seed=0)
    assert set(sampler.rare) == {1, 2}
    seen = np.zeros(4)
    for epoch in range(20):
        sampler.set_epoch(epoch)
        order = np.array(list(sampler))
        assert len(order) == len(sampler) == 60
        assert (shows[order][:, 1:3].any(1).reshape(-1, 6).sum(1) >= 2).all()
        # The films at the other places are all different.
        assert len(np.unique(order)) >= 40
        seen += shows[order].mean(0) / 20
    # Each of the two at a sixth of the places, and among the others as often as it is there.
    assert seen[1] == pytest.approx(1 / 6 + 2 / 3 * 0.1 + 1 / 6 / 3, abs=0.03)
    assert (round(seen[0], 9), seen[3]) == (1, 0)


def test_the_order_is_of_seed_and_epoch_alone():
    def order(seed: int, epoch: int) -> list[int]:
        sampler = ForegroundSampler(some_films(), 0.33, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)


def test_processes_share_the_batches_out():
    sampler = ForegroundSampler(some_films(), 0.33, seed=0)
    loader = DataLoader(range(60), batch_size=5, sampler=sampler)
    parts = [prepare_data_loader(loader, num_processes=2, process_index=rank, put_on_device=False) for rank in (0, 1)]
    for epoch in (0, 3):
        for part in parts:
            part.set_epoch(epoch)
        shared = [batch for pair in zip(*parts, strict=True) for batch in pair]
        sampler.set_epoch(epoch)
        assert torch.cat(shared).tolist() == list(sampler)


@pytest.fixture
def rare(tmp_path):
    """Films of which one in eight has a disc; every film has a mask of that name, mostly an empty one."""
    discs = [film(number, {"Disc": int(number % 8 == 0)}) for number in range(48)]
    for number, row in enumerate(discs):
        if number % 8:
            row["masks"] = film(number, masks={"disc": np.zeros((56, 56), np.uint8)})["masks"]
    return write_corpus(tmp_path / "rare", train=discs[:32], validation=discs[32:], test=discs[32:])


def test_a_run_goes_on_with_the_same_films(rare, tmp_path):
    base = save_base(tmp_path / "base", "resnet")
    more = ["--structures", "disc", "--oversample_foreground", "0.33", "--max_steps", "6", "--method", "linear"]
    more += [
        "--per_device_train_batch_size",
        "8",
        "--save_strategy",
        "steps",
        "--save_steps",
        "3",
        "--entropy_weight",
        "0",
    ]

    def rows_seen(*last: str) -> list[list[int]]:
        arguments = read_arguments(*words("segmentation", base, rare, tmp_path / "run", *more, *last))
        task = build_task(arguments, arguments.data.read())
        checkpoint = checkpoint_to_resume(arguments.training)
        trainer = build_trainer(arguments, task, identify_base(base), resumes=checkpoint is not None)
        if checkpoint is not None:
            trainer.resume(checkpoint)
        seen = []
        judged = task.judged
        task.judged = lambda batch, epoch: seen.append(batch["rows"].tolist()) or judged(batch, epoch)
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        assert "Cross entropy counted 0 times beside soft Dice." in task.notes
        assert any("shows one of: disc (12.5% of the films)" in note for note in task.notes)
        return seen

    whole = rows_seen()
    assert [sum(row % 8 == 0 for row in batch) >= 2 for batch in whole] == [True] * 6
    assert rows_seen("--resume_from_checkpoint", str(tmp_path / "run" / "checkpoint-3")) == whole[3:]


def test_what_does_nothing_or_cannot_be_is_refused(rare, tmp_path):
    def refuse(match: str, value: str, task: str = "segmentation") -> None:
        words_of_one = words(task, base, rare, tmp_path / "run", "--oversample_foreground", value)
        with pytest.raises(SystemExit, match=match):
            main(words_of_one)

    base = save_base(tmp_path / "base", "resnet")
    refuse("no structure is rarer than that among the training films", "0.1")
    refuse(r"must lie in \[0, 1\)", "1")
    refuse("oversample_foreground belongs to task segmentation", "0.3", "classification")


@pytest.mark.parametrize("side", [32, 37])
def test_a_line_of_one_pixel_is_drawn_by_what_sees_pixels(side):
    """The finest map of the tower is coarse and holds nothing: only the image tells where the line is."""
    torch.manual_seed(0)
    film = torch.zeros(8, 1, side, side)
    for number, column in enumerate(torch.randperm(side - 2)[:8] + 1):
        film[number, 0, 4:, column] = 1
    maps = [torch.randn(8, 8, 8, 8) * 0.01, torch.randn(8, 8, 4, 4) * 0.01]
    decoder = ImageUNetDecoder([1, 8, 8], 1, width=16)
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=1e-2)
    for _ in range(40):
        logits = decoder([film, *maps], side)
        optimiser.zero_grad()
        entropy_and_dice(logits, film > 0, torch.ones_like(film) > 0).backward()
        optimiser.step()
    assert logits.shape == film.shape
    assert ((logits > 0) == (film > 0)).float().mean() > 0.995
