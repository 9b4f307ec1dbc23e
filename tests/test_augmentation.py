"""Films move with their masks, by (seed, epoch, row) alone, and sides are never exchanged unasked."""

import pytest
import torch

from train.adapt.augmentation import Augmentation, augment, draw_changes, grain

STILL = dict.fromkeys(("rotation", "translation", "scaling", "crop", "brightness", "contrast", "gamma", "noise"), 0.0)
SIDE = 40


@pytest.fixture
def films() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Bright boxes that are their own mask."""
    pixels = torch.zeros(6, 1, SIDE, SIDE, dtype=torch.uint8)
    for number in range(6):
        pixels[number, 0, 10 : 20 + number, 12:18] = 255
    return pixels, pixels.clone(), torch.arange(100, 106)


def test_nothing_asked_for_changes_nothing(films):
    pixels, masks, rows = films
    settings = Augmentation(**STILL)
    assert not settings.changes_anything
    assert Augmentation().changes_anything
    assert not Augmentation(augment=False).changes_anything
    moved, moved_masks = augment(pixels, rows, settings, 0, 0, masks)
    assert torch.equal(moved, pixels)
    assert torch.equal(moved_masks, masks)


def test_a_film_changes_by_seed_epoch_and_row_alone(films):
    pixels, masks, rows = films
    settings = Augmentation()
    together, masks_together = augment(pixels, rows, settings, 3, 2, masks)
    order = [4, 0, 5]
    apart, masks_apart = augment(pixels[order], rows[order], settings, 3, 2, masks[order])
    assert torch.equal(together[order], apart)
    assert torch.equal(masks_together[order], masks_apart)
    for seed, epoch, shift in ((4, 2, 0), (3, 1, 0), (3, 2, 1)):
        assert not torch.equal(augment(pixels, rows + shift, settings, seed, epoch)[0], together)


def test_masks_move_with_their_films(films):
    pixels, masks, rows = films
    settings = Augmentation(**{**STILL, "rotation": 30, "translation": 0.1, "scaling": 0.2})
    moved, moved_masks = augment(pixels, rows, settings, 0, 0, masks)
    inside = (moved > 127).float()
    found = (moved_masks == 255).float()
    dice = 2 * (inside * found).sum((1, 2, 3)) / (inside.sum((1, 2, 3)) + found.sum((1, 2, 3)))
    assert (dice > 0.93).all()
    before = (masks == 255).float()
    assert (2 * (before * found).sum((1, 2, 3)) / (before + found).sum((1, 2, 3)) < 0.9).any()


def test_what_comes_in_from_outside_is_black_and_not_judged():
    white = torch.full((8, 1, SIDE, SIDE), 255, dtype=torch.uint8)
    settings = Augmentation(**{**STILL, "translation": 0.3})
    moved, masks = augment(white, torch.arange(8), settings, 0, 0, white)
    assert set(masks.unique().tolist()) == {127, 255}
    assert (moved[masks == 127] < 255).all()
    assert (moved[masks == 255] > 126).all()
    shifts = draw_changes(range(8), 0, 0)[:, 1:3].abs() * 0.3
    covered = (1 - shifts[:, 0]) * (1 - shifts[:, 1])
    assert torch.allclose((masks == 255).float().mean((1, 2, 3)), covered, atol=0.05)


def test_three_values_stay_three_values(films):
    _, _, rows = films
    masks = torch.tensor([0, 127, 255], dtype=torch.uint8)[torch.randint(3, (6, 2, SIDE, SIDE))]
    _, moved = augment(masks[:, :1], rows, Augmentation(rotation=45, scaling=0.5), 0, 0, masks)
    assert set(moved.unique().tolist()) == {0, 127, 255}


@pytest.mark.parametrize(
    ("name", "value"),
    [("brightness", 0.2), ("contrast", 0.5), ("gamma", 0.5), ("noise", 0.1), ("horizontal_flip", True), ("crop", 0.3)],
)
def test_every_change_does_something(name, value, films):
    pixels, _, rows = films
    grey = pixels // 3 + 60
    moved, _ = augment(grey, rows, Augmentation(**{**STILL, name: value}), 0, 0)
    assert not torch.equal(moved, grey)
    difference = (moved.float() - grey.float()).abs().amax((1, 2, 3))
    assert difference.max() <= 255 * 0.5


def test_mirrored_films_are_mirrored(films):
    pixels, masks, rows = films
    moved, moved_masks = augment(pixels, rows, Augmentation(**STILL, horizontal_flip=True), 0, 0, masks)
    mirrored = draw_changes(rows.tolist(), 0, 0)[:, 7] < 0
    assert 0 < mirrored.sum() < 6
    for film, mask, before, flipped in zip(moved, moved_masks, pixels, mirrored, strict=True):
        assert torch.equal(film, before.flip(-1) if flipped else before)
        assert torch.equal(mask, before.flip(-1) if flipped else before)


def test_crops_are_of_the_share_of_the_area_that_was_asked_for():
    """Of a film that is a map of itself, the edges of a crop tell what it shows."""
    side, rows = 255, torch.arange(100)
    across = torch.arange(side, dtype=torch.uint8).expand(100, 1, side, side)
    settings = Augmentation(**{**STILL, "crop": 0.92})
    # Not the outermost pixels, which are mixed with what lies outside of the film.
    edges = slice(2, side - 2, side - 5)
    down = augment(across.mT, rows, settings, 0, 0)[0][:, 0, edges, side // 2].float()
    left = augment(across, rows, settings, 0, 0)[0][:, 0, side // 2, edges].float()
    height, width = ((one[:, 1] - one[:, 0]) / (side - 5) for one in (down, left))
    area = height * width
    assert 0.07 < area.min() < 0.12
    assert 0.9 < area.max() <= 1.01
    assert 0.72 < (width / height).min() < 0.8
    assert 1.25 < (width / height).max() < 1.4
    # Anywhere within the film.
    assert down[:, 0].min() < 10
    assert down[:, 0].max() > side / 2


def test_masks_are_cropped_with_their_films(films):
    pixels, masks, rows = films
    moved, moved_masks = augment(pixels, rows, Augmentation(**{**STILL, "crop": 0.5}), 0, 0, masks)
    assert 127 not in moved_masks
    agree = ((moved > 127) == (moved_masks == 255)).float().mean((1, 2, 3))
    assert (agree > 0.97).all()
    assert not torch.equal(moved_masks, masks)


def test_sides_are_not_exchanged():
    flipping = Augmentation(horizontal_flip=True)
    flipping.check_names(["heart", "Edema", "upright film", "bright spot"])
    for name in ("left_lung", "Right lung", "effusion, left", "Dextrocardia", "situs_inversus"):
        with pytest.raises(ValueError, match="exchange the sides"):
            flipping.check_names(["heart", name])
        Augmentation().check_names([name])
    with pytest.raises(ValueError, match=r"rotation is 90, it must lie in \[0, 45\]"):
        Augmentation(rotation=90)


def test_grain_is_noise():
    one = grain(torch.arange(64), 0, 0, 64, torch.device("cpu"))
    assert one.mean().abs() < 0.01
    assert abs(one.std() - 1) < 0.01
    flat = one.flatten(1)
    # Neither rows nor neighbouring pixels, seeds or epochs go together.
    assert torch.corrcoef(flat).fill_diagonal_(0).abs().max() < 0.1
    assert (flat[:, 1:] * flat[:, :-1]).mean().abs() < 0.02
    for seed, epoch in ((1, 0), (0, 1)):
        other = grain(torch.arange(64), seed, epoch, 64, torch.device("cpu"))
        assert (one * other).mean().abs() < 0.02
