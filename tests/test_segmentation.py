"""Dice and IoU by hand, what is judged and what not, decoders that learn, and the segmentation runner."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from PIL import Image
from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model, ResNetConfig, ResNetModel

from data_scripts.features import FEATURES
from data_scripts.prepared.masks import central_square, judged_rows, mask_names, read_masks
from data_scripts.schema import DataError
from eval.artifacts import load_artifact
from eval.benchmarks import Benchmark
from eval.models.encoders import EvaluationModel
from eval.records.results import SegmentationResult
from eval.settings import EvaluationSettings
from eval.tasks.decoders import LARGE_STRUCTURES, THIN_STRUCTURES, segmentation_loss, train_decoders
from eval.tasks.dice import dice, iou, judge, overlaps
from eval.tasks.segmentation import draw_training_films, run
from eval.tasks.segmentation_data import FilmFeatures, seen_share, show_whole
from eval.tasks.segmentation_examples import choose_examples, segment
from modeling_chexficient.decoders_chexficient import LinearDecoder, UNetDecoder

nan = float("nan")
DISCS = Benchmark("discs", 1, "segmentation", structures={"disc": ("disc",), "box": ("box",)})


def processor(size: int, crop: int | None = None) -> BitImageProcessorPil:
    crop = crop or size
    return BitImageProcessorPil(
        size={"shortest_edge": size}, crop_size={"height": crop, "width": crop}, do_center_crop=True
    )


@pytest.fixture(scope="module")
def vit() -> EvaluationModel:
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=6, num_attention_heads=2, mlp_ratio=2, patch_size=4, image_size=32
    )
    return EvaluationModel(Dinov2Model(config).eval(), processor(32))


@pytest.fixture(scope="module")
def resnet() -> EvaluationModel:
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], layer_type="basic")
    return EvaluationModel(ResNetModel(config).eval(), processor(64))


def row(number: int, size: tuple[int, int] = (32, 32), masks: dict | None = None, labels: dict | None = None) -> dict:
    """A film with a bright disc and a bright box at random places, and their masks."""
    generator, (width, height) = np.random.default_rng(number), size
    y, x = np.mgrid[:height, :width]
    centre = generator.uniform(8, 24, 2)
    disc = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < 30
    corner = generator.integers(2, 18, 2)
    box = (y >= corner[0]) & (y < corner[0] + 9) & (x >= corner[1]) & (x < corner[1] + 9)
    film = (generator.normal(60, 6, (height, width)) + 120 * disc + 60 * box).clip(0, 255).astype(np.uint8)
    drawn = {"disc": disc, "box": box}
    masks = {name: np.uint8(255) * mask for name, mask in drawn.items()} if masks is None else masks
    return {
        "record_id": f"discs/{number}",
        "image": Image.fromarray(film),
        "masks": [{"name": name, "image": Image.fromarray(mask)} for name, mask in masks.items()],
        "labels": [
            {"name": name, "value": value, "readers": None, "positive_readers": None}
            for name, value in (labels or {}).items()
        ],
        "patient_id": f"patient {number // 2}",
        **dict.fromkeys(("findings", "impression", "report", "report_origin", "language", "study_id", "licence"), ""),
        **{
            "flags": [],
            "view": "PA",
            "split": "train",
            "source": "synthetic",
            "sex": None,
            "age_years": None,
            "quality": None,
        },
    }


def films(rows: list[dict]) -> Dataset:
    return Dataset.from_list(rows, features=FEATURES)


def test_dice_and_iou_by_hand():
    found = np.array([[1, 1, 0], [0, 1, 0]], dtype=bool)
    mask = np.array([[255, 0, 0], [0, 255, 255]], dtype=np.uint8)
    counts = overlaps(found, mask)
    assert counts.tolist() == [2, 3, 3]
    assert dice(counts) == pytest.approx(2 * 2 / 6)
    assert iou(counts) == pytest.approx(2 / 4)


def test_pixels_that_nobody_judged_count_on_neither_side():
    found = np.array([[1, 1, 1, 0]], dtype=bool)
    mask = np.array([[255, 127, 127, 127]], dtype=np.uint8)
    assert overlaps(found, mask).tolist() == [1, 1, 1]
    several = overlaps(np.stack([found, found]), np.stack([mask, np.full_like(mask, 127)]))
    assert several[0].tolist() == [1, 1, 1]
    assert np.isnan(several[1]).all()


def test_two_empty_masks_have_no_dice():
    empty = overlaps(np.zeros((2, 2), bool), np.zeros((2, 2), np.uint8))
    assert np.isnan(dice(empty))
    assert np.isnan(iou(empty))
    assert dice(overlaps(np.ones((2, 2), bool), np.zeros((2, 2), np.uint8))) == 0


def test_dice_equals_f1_and_iou_equals_jaccard_of_scikit_learn():
    from sklearn.metrics import f1_score, jaccard_score

    generator = np.random.default_rng(0)
    for _ in range(20):
        found, inside = generator.random((2, 9, 9)) < 0.3
        counts = overlaps(found, np.uint8(255) * inside)
        assert dice(counts) == pytest.approx(f1_score(inside.ravel(), found.ravel()))
        assert iou(counts) == pytest.approx(jaccard_score(inside.ravel(), found.ravel()))


def test_films_without_the_structure_are_counted_apart(few_patients):
    """Dice 1 and 0.5 where it is; one false alarm, one rightly empty, one not judged."""
    counts = np.array([[4, 4, 4], [1, 2, 2], [0, 7, 0], [0, 0, 0], [nan, nan, nan]])[:, None]
    (one,), macro = judge("unet", ["disc"], counts, np.arange(5), resamples=50, seed=0)
    assert one.dice.value == pytest.approx(0.75)
    assert one.iou.value == pytest.approx((1 + 1 / 3) / 2)
    assert (one.films, one.films_without, one.false_alarms) == (2, 2, 1)
    assert one.dice_quantiles == {"0": 0.5, "0.25": 0.625, "0.5": 0.75, "0.75": 0.875, "1": 1.0}
    assert one.dice.low == 0.5
    assert one.dice.high == 1
    assert macro == one.dice


def test_a_structure_that_no_film_has_is_undefined_and_out_of_the_mean():
    counts = np.array([[[4, 4, 4], [0, 1, 0]], [[1, 2, 2], [0, 0, 0]]], dtype=float)
    (_, absent), macro = judge("unet", ["disc", "box"], counts, np.arange(2), resamples=20, seed=0)
    assert absent.dice.value is None
    assert absent.dice_quantiles == {}
    assert (absent.films, absent.films_without, absent.false_alarms) == (0, 2, 1)
    assert macro.value == pytest.approx(0.75)


def test_a_mask_of_another_size_than_its_film_is_refused_with_its_row():
    wrong = row(0, masks={"disc": np.zeros((32, 30), np.uint8)})
    with pytest.raises(DataError, match=r"row 7: the mask 'disc' is 30 x 32 pixels, its image 32 x 32"):
        read_masks(wrong, 7, DISCS.structures, no_mask_is_empty=False)
    grey = row(0, masks={"disc": np.full((32, 32), 200, np.uint8)})
    with pytest.raises(DataError, match="row 7: the mask 'disc' has values other than"):
        read_masks(grey, 7, DISCS.structures, no_mask_is_empty=False)


def test_what_a_missing_mask_means():
    structures = {"disc": ("disc",), "either": ("disc", "box")}
    box = np.zeros((32, 32), np.uint8)
    box[:4], box[4:8] = 255, 127
    disc, either = read_masks(row(0, masks={"box": box}), 0, structures, no_mask_is_empty=False)
    assert (disc == 127).all()
    assert (either == box).all()
    absent = row(0, masks={"box": box}, labels={"disc": 0})
    assert (read_masks(absent, 0, structures, no_mask_is_empty=False)[0] == 0).all()
    doubtful = row(0, masks={}, labels={"disc": -1})
    assert (read_masks(doubtful, 0, structures, no_mask_is_empty=False)[0] == 127).all()
    assert (read_masks(doubtful, 0, structures, no_mask_is_empty=True)[0] == 0).all()


def test_what_is_there_by_its_label_and_has_no_mask_was_not_outlined():
    """It counted as absent: decoders learnt that the film does not show it, and finding it was a false alarm."""
    structures = {"disc": ("disc",), "either": ("disc", "box")}
    box = np.zeros((32, 32), np.uint8)
    box[:4] = 255
    shown = row(0, masks={"box": box}, labels={"disc": 1})
    for no_mask_is_empty in (True, False):
        disc, either = read_masks(shown, 0, structures, no_mask_is_empty)
        assert (disc == 127).all()
        assert (either == np.where(box == 255, 255, 127)).all()
    bare, absent = row(1, masks={}, labels={"disc": 1}), row(2, masks={}, labels={"disc": 0})
    dataset = films([shown, bare, absent])
    assert judged_rows(dataset, {"disc": ("disc",)}, no_mask_is_empty=True) == [2]
    assert judged_rows(dataset, structures, no_mask_is_empty=True) == [0, 2]


def test_structures_may_overlap_and_unions_are_made():
    disc, box = np.zeros((2, 32, 32), np.uint8)
    disc[:, :20], box[:, 10:] = 255, 255
    structures = {"disc": ("disc",), "box": ("box",), "both": ("disc", "box")}
    masks = read_masks(row(0, masks={"disc": disc, "box": box}), 0, structures, no_mask_is_empty=False)
    assert [int((mask == 255).sum()) for mask in masks] == [20 * 32, 22 * 32, 32 * 32]


def test_judged_rows_need_no_pixels():
    blank = np.zeros((32, 32), np.uint8)
    rows = [row(0), row(1, masks={}), row(2, masks={"heart": blank}), row(3, masks={}, labels={"box": 0})]
    dataset = films(rows).select([0, 1, 2, 3, 0])
    assert mask_names(dataset) == [{"disc", "box"}, set(), {"heart"}, set(), {"disc", "box"}]
    assert judged_rows(dataset, DISCS.structures, no_mask_is_empty=False) == [0, 3, 4]
    assert judged_rows(dataset, DISCS.structures, no_mask_is_empty=True) == [0, 1, 2, 3, 4]
    with pytest.raises(DataError, match="column 'masks' is missing"):
        judged_rows(dataset.remove_columns("masks"), DISCS.structures, no_mask_is_empty=True)


@pytest.mark.parametrize(("size", "crop", "share"), [(32, 32, 1.0), (64, 56, 0.875), (256, 224, 0.875)])
def test_what_a_processor_cuts_off_is_measured_and_undone(vit, size, crop, share):
    model = EvaluationModel(vit.model, processor(size, crop))
    assert seen_share(model) == pytest.approx(share, abs=0.01)
    # A bright frame at the border of a film must still be seen.
    film = np.zeros((64, 64), np.uint8)
    film[:6], film[-6:], film[:, :6], film[:, -6:] = (255,) * 4
    pixels = model.pixels([show_whole(Image.fromarray(film), seen_share(model))])[0, 0]
    bright = (pixels > pixels.mean()).float()
    edge = crop // 16
    assert bright[edge].mean() > 0.9
    assert bright[-edge - 1].mean() > 0.9
    assert bright[crop // 4 : -crop // 4, crop // 4 : -crop // 4].mean() == 0


def test_a_processor_that_cannot_be_understood_is_refused(vit):
    class Inverted(EvaluationModel):
        def pixels(self, images):
            return super().pixels([image.rotate(180) for image in images])

    with pytest.raises(ValueError, match="does more than resize films"):
        seen_share(Inverted(vit.model, vit.image_processor))


def test_central_square():
    image = Image.fromarray(np.arange(30, dtype=np.uint8)[None].repeat(10, axis=0))
    assert np.asarray(central_square(image))[0].tolist() == list(range(10, 20))
    assert central_square(image.transpose(Image.Transpose.ROTATE_90)).size == (10, 10)


@pytest.mark.parametrize("tower", ["vit", "resnet"])
@pytest.mark.parametrize("decoder", ["linear", "unet"])
def test_decoders_take_any_pyramid_and_size(tower, decoder, request):
    model = request.getfixturevalue(tower)
    pyramid = model.pyramid(model.pixels([Image.new("L", (50, 50))] * 2))
    built = LARGE_STRUCTURES.decoders[decoder]([one.shape[1] for one in pyramid], 3)
    for size in (40, 97):
        assert built(pyramid, size).shape == (2, 3, size, size)


def test_unet_logits_reach_far_below_zero():
    """A last layer of normalisation and GELU would keep them above -0.17."""
    torch.manual_seed(0)
    decoder = UNetDecoder([8, 8], 1)
    pyramid = [torch.randn(2, 8, 4, 4), torch.randn(2, 8, 4, 4)]
    optimiser = torch.optim.Adam(decoder.parameters(), lr=0.01)
    for _ in range(60):
        loss = segmentation_loss(decoder(pyramid, 8), torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert decoder.eval()(pyramid, 8).max() < -2


def test_loss_sees_judged_pixels_only():
    torch.manual_seed(0)
    masks = torch.tensor([[[[255, 0], [127, 127]], [[127, 127], [127, 127]]]], dtype=torch.uint8)
    logits = torch.randn(1, 2, 2, 2, requires_grad=True)
    loss = segmentation_loss(logits, masks)
    loss.backward()
    assert (logits.grad[0, 0, 0] != 0).all()
    assert (logits.grad[0, 0, 1] == 0).all()
    assert (logits.grad[0, 1] == 0).all()
    # By hand: cross entropy of the two judged pixels, and 1 - (2 p + 1) / (p + q + 1 + 1).
    p, q = logits[0, 0, 0].sigmoid().tolist()
    expected = -(np.log(p) + np.log(1 - q)) / 2 + 1 - (2 * p + 1) / (p + q + 2)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert segmentation_loss(logits, torch.full_like(masks, 127)).item() == 0


def features(model, rows: list[dict], **arguments) -> FilmFeatures:
    return FilmFeatures(model, films(rows), range(len(rows)), DISCS, size=32, share=1.0, **arguments)


def test_features_do_not_depend_on_the_memory_there_is(vit):
    rows = [row(number) for number in range(6)]
    one = features(vit, rows).batch([0])
    size = sum(map_.numel() * 2 for map_ in one[0]) + one[1].numel()
    sets = [features(vit, rows, budget=budget) for budget in (0, 3 * size, 1 << 30)]
    for positions in ([0, 3, 1], [4, 3, 0, 5, 1]):
        batches = [each.batch(positions) for each in sets]
        for pyramid, masks in batches[1:]:
            assert torch.equal(masks, batches[0][1])
            # Batches of other sizes differ by rounding alone.
            for mine, other in zip(pyramid, batches[0][0], strict=True):
                torch.testing.assert_close(mine, other, atol=4e-3, rtol=2e-3)
    assert [len(each.kept) for each in sets] == [0, 3, 5]


def test_the_best_epoch_is_kept(vit):
    train = features(vit, [row(number) for number in range(4)], budget=1 << 30)
    seen, figures = [], iter([0.2, 0.9, nan, 0.4])

    def validate(decoder):
        seen.append(decoder.head[1].weight.detach().clone())
        return next(figures)

    decoder = LinearDecoder([32], 2)
    assert train_decoders({"linear": decoder}, replace(LARGE_STRUCTURES, batch_size=2), train, validate, 4, seed=0) == {
        "linear": (2, 0.9)
    }
    assert torch.equal(decoder.head[1].weight, seen[1])
    assert not torch.equal(seen[1], seen[3])


def test_segmented_in_the_films_own_resolution(vit):
    each = features(vit, [row(0, size=(40, 36)), row(1, size=(70, 80))])
    decoder = LinearDecoder([32], 2).eval()
    for (found, masks), side in zip(segment(decoder, each, [0, 1]), (36, 70), strict=True):
        assert found.shape == (2, side, side)
        assert [mask.shape for mask in masks] == [(side, side)] * 2


@pytest.fixture(scope="module")
def splits() -> DatasetDict:
    numbers = {"train": range(100, 148), "validation": range(200, 212), "test": range(300, 316)}
    return DatasetDict({name: films([row(number) for number in rows]) for name, rows in numbers.items()})


def test_decoders_learn_and_the_unet_draws_sharper(resnet, splits, tmp_path, few_patients):
    """Random features of a ResNet are enough to tell a bright disc from a grey box."""
    settings = EvaluationSettings(resamples=30, decoder_epochs=30, out=tmp_path, show_films=True)
    result = run(DISCS, resnet, splits, settings)
    assert result.macro_dice["unet"].value > 0.7
    # The deepest map of 2 x 2 positions is all that the linear decoder has.
    assert result.macro_dice["unet"].value > result.macro_dice["linear"].value + 0.3
    assert result.headline == ("mean Dice, unet", result.macro_dice["unet"])
    assert [(one.decoder, one.structure) for one in result.structures] == [
        *(("linear", name) for name in ("disc", "box")),
        *(("unet", name) for name in ("disc", "box")),
    ]
    assert all(one.dice.low <= one.dice.value <= one.dice.high for one in result.structures)
    assert {one["films"] for one in result.decoders.values()} == {48}
    assert {one["validation_films"] for one in result.decoders.values()} == {12}
    result.save(tmp_path / "discs.json")
    assert SegmentationResult.load(tmp_path / "discs.json") == result

    arrays, values = load_artifact(tmp_path, "discs")
    assert values == {
        "structures": ["disc", "box"],
        "decoder": "unet",
        "places": ["best", "best", "median", "median", "worst", "worst"],
    }
    assert arrays["dice_unet"].shape == (16, 2)
    assert np.nanmean(arrays["dice_unet"], axis=0).mean() == pytest.approx(result.macro_dice["unet"].value, abs=1e-6)
    dices = arrays["dice_unet"][arrays["rows"]].mean(axis=1)
    assert (np.diff(dices) <= 0).all()
    assert dices[0] == arrays["dice_unet"].mean(axis=1).max()
    assert dices[-1] == arrays["dice_unet"].mean(axis=1).min()
    assert arrays["found"].shape == arrays["masks"].shape == (6, 2, 224, 224)
    best = dice(overlaps(arrays["found"][0] > 0, arrays["masks"][0]))
    np.testing.assert_allclose(best, arrays["dice_unet"][arrays["rows"][0]], atol=0.03)

    again = run(DISCS, resnet, splits, settings)
    assert again.structures == result.structures


def tube_row(number: int) -> dict:
    """A film of noise; every fourth shows a bright upright line of two pixels."""
    generator = np.random.default_rng(number)
    line = np.zeros((64, 64), dtype=bool)
    if number % 4 == 0:
        column = generator.integers(8, 54)
        line[10:54, column : column + 2] = True
    film = (generator.normal(90, 8, (64, 64)) + 60 * line).clip(0, 255).astype(np.uint8)
    masks = {"line": np.uint8(255) * line} if line.any() else {}
    return {**row(number, masks=masks), "image": Image.fromarray(film)}


def test_thin_structures_are_learnt_with_the_film_and_soft_dice(resnet, tmp_path, few_patients):
    """What the default training leaves out: the maps of the tower are too coarse, cross entropy puts the line out."""
    numbers = {"train": range(96), "validation": range(200, 216), "test": range(300, 324)}
    lines = DatasetDict({name: films([tube_row(one) for one in rows]) for name, rows in numbers.items()})
    benchmark = Benchmark(
        "lines", 1, "segmentation", structures={"line": ("line",)}, no_mask_is_empty=True, thin=True
    )  # fmt: skip
    settings = EvaluationSettings(resamples=10, decoder_epochs=20, out=tmp_path)
    result = run(benchmark, resnet, lines, settings)
    assert list(result.macro_dice) == ["image_unet"]
    assert result.macro_dice["image_unet"].value > 0.8
    (structure,) = result.structures
    assert structure.centre_line_dice.value > 0.8
    assert (structure.films, structure.films_without) == (6, 18)
    by_default = run(replace(benchmark, thin=False), resnet, lines, settings)
    assert by_default.macro_dice["unet"].value < result.macro_dice["image_unet"].value - 0.3


def test_batches_of_thin_structures_hold_more_of_those_that_show_them(vit):
    """One in eight shows a box; a third of the places are theirs."""
    rows = [row(number, masks={"disc": np.full((32, 32), 255, np.uint8)}) for number in range(7)]
    rows.append(row(7, masks={"box": np.full((32, 32), 255, np.uint8)}))
    seen, boxes = [], replace(DISCS, no_mask_is_empty=True)
    train = FilmFeatures(vit, films(rows), range(len(rows)), boxes, size=32, share=1.0, budget=1 << 30)
    assert train.shows().tolist() == [[True, False]] * 7 + [[False, True]]
    batch = train.batch
    train.batch = lambda positions: (seen.extend(positions), batch(positions))[1]
    for how, expected in ((LARGE_STRUCTURES, 3), (THIN_STRUCTURES, 3 * 2)):
        seen.clear()
        train_decoders({"linear": LinearDecoder([32], 2)}, replace(how, batch_size=4), train, lambda _: 0.0, 3, 0)
        assert len(seen) == 3 * 8
        assert seen.count(7) >= expected


def test_films_stay_out_of_artifacts_unless_they_may_be_shown(resnet, splits, tmp_path):
    few = DatasetDict({name: split.select(range(6)) for name, split in splits.items()})
    run(DISCS, resnet, few, EvaluationSettings(resamples=5, decoder_epochs=1, out=tmp_path))
    arrays, _ = load_artifact(tmp_path, "discs")
    assert {"rows", "found", "dice_linear", "dice_unet", "patients"} == set(arrays)
    assert arrays["patients"].tolist() == [0, 0, 1, 1, 2, 2]


def test_without_validation_patients_of_the_training_split_choose(splits):
    train, validation, notes = draw_training_films(DISCS, DatasetDict({"train": splits["train"]}), seed=0)
    assert (len(train), len(validation)) == (38, 10)
    assert not set(train["patient_id"]) & set(validation["patient_id"])
    assert notes == ["No validation split with masks: 5 of 24 training patients chose the epoch."]
    # The split that is judged has no say.
    judged = replace(DISCS, split="validation")
    _, chooser, _ = draw_training_films(judged, splits, seed=0)
    assert not set(chooser["record_id"]) & set(splits["validation"]["record_id"])


def test_what_cannot_be_segmented_is_refused(vit, splits):
    settings = EvaluationSettings(resamples=5, decoder_epochs=1)
    bare = films([row(number, masks={}) for number in range(3)])
    hearts = replace(DISCS, structures={"heart": ("heart",)})
    with pytest.raises(ValueError, match=r"no film of split 'test' \(16 films\) has masks of \['heart'\]; masks there"):
        run(hearts, vit, splits, settings)
    with pytest.raises(ValueError, match=r"no film of split 'train' \(3 films\) has masks"):
        run(DISCS, vit, DatasetDict({**splits, "train": bare}), settings)
    with pytest.raises(ValueError, match="there is no split 'train', only"):
        run(DISCS, vit, DatasetDict({"test": splits["test"]}), settings)
    discs = films([row(n, masks={"disc": np.zeros((32, 32), np.uint8)}) for n in range(4)])
    with pytest.raises(ValueError, match="no training film has a mask of 'box'"):
        run(DISCS, vit, DatasetDict({**splits, "train": discs}), settings)
    small = films([row(0), row(1, masks={"disc": np.zeros((31, 32), np.uint8)})])
    with pytest.raises(DataError, match="row 1: the mask 'disc' is 32 x 31 pixels"):
        run(DISCS, vit, DatasetDict({**splits, "test": small}), settings)


def test_examples_are_different_films():
    assert choose_examples(np.array([0.1, 0.9, nan, 0.5, 0.7, 0.3, 0.2]), 2) == {
        "best": [1, 4],
        "median": [3, 5],
        "worst": [6, 0],
    }
    assert choose_examples(np.array([0.5, nan]), 2) == {"best": [0], "median": [], "worst": []}
    assert choose_examples(np.array([nan]), 2) == {"best": [], "median": [], "worst": []}
