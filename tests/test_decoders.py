"""Feature maps of towers, decoders, and the way back from logits to the pixels of a film."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import AutoModel, Dinov2Config, DINOv3ViTConfig, ResNetConfig, SwinConfig, ViTConfig
from transformers.modeling_outputs import SemanticSegmenterOutput

from modeling_chexficient import CheXficientImageProcessor, feature_pyramid
from modeling_chexficient.decoders_chexficient import (
    LinearDecoder,
    PublishedUNetDecoder,
    UNetDecoder,
    pyramid_channels,
)
from modeling_chexficient.modeling_chexficient_heads import CheXficientSegmenterOutput
from modeling_chexficient.modeling_chexficient_losses import entropy_and_dice, judged_counts
from modeling_chexficient.modeling_chexficient_report import patch_tokens

VIT = Dinov2Config(
    hidden_size=16, num_hidden_layers=6, num_attention_heads=2, image_size=56, patch_size=14, mlp_ratio=2
)
RESNET = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 24], depths=[1, 1, 1])
SWIN = SwinConfig(image_size=56, patch_size=2, embed_dim=8, depths=[1, 1, 1], num_heads=[1, 2, 2])
SIZE = 48


@pytest.mark.parametrize("config", [VIT, RESNET, SWIN], ids=lambda config: config.model_type)
@pytest.mark.parametrize("depth", [2, 5])
@torch.no_grad()
def test_channels_are_known_before_the_maps(config, depth):
    maps = feature_pyramid(AutoModel.from_config(config), torch.randn(1, 3, 56, 56), depth)
    assert [one.shape[1] for one in maps] == pyramid_channels(config, depth)


@torch.no_grad()
def test_maps_are_the_normalised_states_of_the_last_blocks():
    torch.manual_seed(0)
    tower = AutoModel.from_config(VIT).eval()
    tower.layernorm.weight.uniform_(0.5, 2)
    pixels = torch.randn(2, 3, 42, 70)
    maps = feature_pyramid(tower, pixels)
    states = tower(pixels, output_hidden_states=True).hidden_states
    assert [tuple(one.shape) for one in maps] == [(2, 16, 3, 5)] * 5
    torch.testing.assert_close(maps[0][:, :, 2, 1], tower.layernorm(states[2])[:, 1 + 2 * 5 + 1])
    torch.testing.assert_close(maps[-1][:, :, 0, 4], tower(pixels).last_hidden_state[:, 1 + 4])


@torch.no_grad()
def test_maps_of_dinov3_are_normalised():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 6, "num_attention_heads": 2, "intermediate_size": 32}
    tower = AutoModel.from_config(DINOv3ViTConfig(**sizes, image_size=56, patch_size=14)).eval()
    pixels = torch.randn(2, 3, 42, 70)
    tokens = tower(pixels).last_hidden_state[:, 1 + tower.config.num_register_tokens :]
    torch.testing.assert_close(feature_pyramid(tower, pixels)[-1].flatten(2).transpose(1, 2), tokens)


@pytest.mark.parametrize("patch", [8, (8, 16)])
@torch.no_grad()
def test_image_tokens_of_reports_are_the_deepest_map(patch):
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    tower = AutoModel.from_config(ViTConfig(image_size=32, patch_size=patch, **sizes)).eval()
    pixels = torch.randn(2, 3, 32, 32)
    deepest = feature_pyramid(tower, pixels)[-1]
    torch.testing.assert_close(patch_tokens(tower, pixels), deepest.flatten(2).transpose(1, 2))


@pytest.mark.parametrize("kind", [LinearDecoder, UNetDecoder, PublishedUNetDecoder])
def test_decoders_give_masks_of_the_image(kind):
    pyramid = [torch.randn(2, 16, 4, 5) for _ in range(5)]
    decoder = kind([16] * 5, 3)
    assert decoder(pyramid, (56, 70)).shape == (2, 3, 56, 70)
    assert decoder(pyramid, 97).shape == (2, 3, 97, 97)


def test_running_statistics_follow_the_features():
    """With a momentum the last batches count most, without one all batches alike."""
    batches = [torch.randn(4, 8, 3, 3) + shift for shift in [0.0] * 5 + [10.0] * 45]
    means = {}
    for momentum in (None, 0.1):
        decoder = LinearDecoder([8], 1, momentum=momentum)
        for batch in batches:
            decoder([batch], 3)
        means[momentum] = decoder.head[0].running_mean.mean().item()
    assert means[None] == pytest.approx(9, abs=0.2)
    assert means[0.1] == pytest.approx(10, abs=0.25)


def test_the_published_decoder_needs_five_maps():
    with pytest.raises(ValueError, match="takes 5 maps of at least 8 channels"):
        PublishedUNetDecoder([16] * 4, 1)
    with pytest.raises(ValueError, match="takes 5 maps of at least 8 channels"):
        PublishedUNetDecoder([4] * 5, 1)


def test_only_judged_pixels_count():
    torch.manual_seed(0)
    logits = torch.randn(2, 2, 5, 5)
    inside, judged = torch.rand(2, 2, 5, 5) > 0.5, torch.rand(2, 2, 5, 5) > 0.3
    loss = entropy_and_dice(logits, inside, judged)
    # What is not judged may say anything.
    torch.testing.assert_close(entropy_and_dice(logits + 9 * ~judged, inside ^ ~judged, judged), loss)
    assert entropy_and_dice(logits, ~inside, judged) != loss
    assert entropy_and_dice(logits.bfloat16(), inside, judged).dtype == torch.float32


def test_shares_of_a_step_sum_up_to_its_loss():
    """Cross entropy is that of all pixels judged in the step, each Dice that of one batch in which somebody judged."""
    torch.manual_seed(0)
    logits = torch.randn(6, 2, 5, 5)
    inside, judged = torch.rand(6, 2, 5, 5) > 0.5, torch.rand(6, 2, 5, 5) > torch.linspace(0, 0.9, 6).view(6, 1, 1, 1)
    judged[4:, 1] = False
    parts = [slice(0, 4), slice(4, 6)]
    counts = sum(judged_counts(judged[part]) for part in parts)
    assert counts.tolist() == [judged.sum(), 3]
    shares = [entropy_and_dice(logits[part], inside[part], judged[part], counts) for part in parts]
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits[judged], inside[judged].float())
    dices = []
    for part, structure in ((parts[0], 0), (parts[0], 1), (parts[1], 0)):
        there = judged[part, structure]
        found, truth = logits[part, structure].sigmoid()[there], inside[part, structure][there].float()
        dices.append((2 * (found * truth).sum() + 1) / (found.sum() + truth.sum() + 1))
    torch.testing.assert_close(sum(shares), entropy + 1 - torch.stack(dices).mean())
    weighted = [entropy_and_dice(logits[part], inside[part], judged[part], counts, 0.25) for part in parts]
    torch.testing.assert_close(sum(weighted), entropy / 4 + 1 - torch.stack(dices).mean())
    alone = [entropy_and_dice(logits[part], inside[part], judged[part], counts, 0) for part in parts]
    torch.testing.assert_close(sum(alone), 1 - torch.stack(dices).mean())
    nothing = torch.zeros_like(judged)
    assert entropy_and_dice(logits, inside, nothing, counts) == entropy_and_dice(logits, inside, nothing) == 0


def mask_logits(mask: np.ndarray, size: int = SIZE) -> torch.Tensor:
    """[1, size, size] logits of a perfect segmentation of a mask [H, W] by a model that sees squares of `size`."""
    seen = CheXficientImageProcessor(size, do_normalize=False)(Image.fromarray(mask), return_tensors="pt")
    return (seen["pixel_values"][0, :1] - 0.5) * 20


@pytest.mark.parametrize(("height", "width"), [(48, 48), (96, 70), (61, 200), (30, 25)])
def test_masks_go_back_to_the_pixels_of_the_film(height, width):
    """A rectangle is found where it was drawn; the model never saw what lies outside the central square."""
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2, : width // 2 + 3] = 255
    output = CheXficientSegmenterOutput(logits=mask_logits(mask)[None], background_logits=torch.zeros(1))
    processor = CheXficientImageProcessor(SIZE)
    found = processor.post_process_masks(output, [(height, width)])[0]
    assert found.shape == (1, height, width)
    assert found.dtype == torch.bool
    short = min(height, width)
    top, left = (height - short) / 2, (width - short) / 2
    rows, columns = np.arange(height) + 0.5, np.arange(width) + 0.5
    seen = (abs(rows - top - short / 2) < short / 2)[:, None] & (abs(columns - left - short / 2) < short / 2)
    wrong = found[0].numpy() != ((mask > 0) & seen)
    # Up to one pixel along the edges: of the rectangle by rescaling, of the square where its side is rounded.
    edges = np.abs(np.gradient(mask.astype(float))).sum(0) + np.abs(np.gradient(seen.astype(float))).sum(0) > 0
    assert not (wrong & ~edges).any()
    assert wrong.mean() < 0.02
    classes = processor.post_process_semantic_segmentation(output, [(height, width)])[0]
    assert torch.equal(classes == 0, found[0])
    assert torch.equal(classes == -1, ~found[0])


def test_an_uncut_film_is_plain_resizing():
    logits = torch.randn(1, 2, SIZE, SIZE)
    output = CheXficientSegmenterOutput(logits=logits, background_logits=torch.zeros(1))
    expected = F.interpolate(logits, (90, 90), mode="bilinear", align_corners=False) > 0
    found = CheXficientImageProcessor(SIZE).post_process_masks(output, [(90, 90)])[0]
    assert (found == expected[0]).float().mean() > 0.999
    assert torch.equal(CheXficientImageProcessor(SIZE).post_process_masks(output)[0], logits[0] > 0)
    # Without resizing the model saw all of the film.
    uncut = CheXficientImageProcessor(SIZE, do_resize=False).post_process_masks(output, [(90, 40)])[0]
    expected = F.interpolate(logits, (90, 40), mode="bilinear", align_corners=False) > 0
    assert (uncut == expected[0]).float().mean() > 0.999


def test_class_maps_of_overlapping_and_of_exclusive_classes():
    logits = torch.tensor([[[[2.0, -1.0], [1.0, -3.0]], [[1.0, -2.0], [4.0, -1.0]]]])
    processor = CheXficientImageProcessor(SIZE)
    overlapping = CheXficientSegmenterOutput(logits=logits, background_logits=torch.zeros(1))
    assert processor.post_process_semantic_segmentation(overlapping)[0].tolist() == [[0, -1], [1, -1]]
    exclusive = SemanticSegmenterOutput(logits=logits)
    assert processor.post_process_semantic_segmentation(exclusive)[0].tolist() == [[0, 0], [1, 1]]
    assert processor.post_process_masks(overlapping)[0].tolist() == (logits[0] > 0).tolist()
    assert processor.post_process_masks(exclusive)[0].tolist() == (logits[0].softmax(0) > 0.5).tolist()
    assert processor.post_process_masks(overlapping, threshold=0.9)[0].sum() == 1


def test_each_threshold_of_the_segments_has_its_effect():
    large, small = torch.full((4, 4), -5.0), torch.full((4, 4), -5.0)
    large[:, :2], small[:1, :2], small[0, 3] = 3.0, 1.0, 1.0
    logits = torch.stack([large, small])[None]
    output = CheXficientSegmenterOutput(logits=logits, background_logits=torch.zeros(1))
    processor = CheXficientImageProcessor(SIZE)

    def segments(**limits) -> dict[int, tuple[int, float]]:
        found = processor.post_process_panoptic_segmentation(output, **limits)[0]
        areas = {one["id"]: (found["segmentation"] == one["id"]).sum().item() for one in found["segments_info"]}
        assert set(found["segmentation"].unique().tolist()) <= {-1, *areas}
        return {one["label_id"]: (areas[one["id"]], round(one["score"], 3)) for one in found["segments_info"]}

    # Of the three pixels of the small structure two are the large one's.
    assert segments(overlap_mask_area_threshold=0.3) == {0: (8, 0.953), 1: (1, 0.731)}
    assert segments(overlap_mask_area_threshold=0.5) == {0: (8, 0.953)}
    assert segments(overlap_mask_area_threshold=0.3, threshold=0.9) == {0: (8, 0.953)}
    assert segments(overlap_mask_area_threshold=0.3, mask_threshold=0.8) == {0: (8, 0.953)}
    assert segments(threshold=0.99) == {}


def test_sizes_and_thresholds_that_make_no_sense():
    output = CheXficientSegmenterOutput(logits=torch.zeros(2, 1, 4, 4), background_logits=torch.zeros(2))
    processor = CheXficientImageProcessor(SIZE)
    with pytest.raises(ValueError, match="1 target sizes for 2 films"):
        processor.post_process_masks(output, [(5, 5)])
    with pytest.raises(ValueError, match=r"a probability from 0 to 1, not 1\.5"):
        processor.post_process_masks(output, threshold=1.5)


def test_thresholds_of_zero_and_one_take_all_that_was_seen_and_nothing():
    output = CheXficientSegmenterOutput(logits=torch.full((1, 1, 4, 4), -3.0), background_logits=torch.zeros(1))
    processor = CheXficientImageProcessor(SIZE)
    seen = torch.tensor([[0, 1, 1, 0]] * 2).bool()
    assert torch.equal(processor.post_process_masks(output, [(2, 4)], threshold=0)[0][0], seen)
    assert not processor.post_process_masks(output, [(2, 4)], threshold=1)[0].any()
    found = processor.post_process_panoptic_segmentation(
        output, threshold=0, mask_threshold=0, overlap_mask_area_threshold=0, target_sizes=[(2, 4)]
    )
    assert torch.equal(found[0]["segmentation"], torch.where(seen, 0, -1))
    assert not processor.post_process_panoptic_segmentation(output, mask_threshold=1)[0]["segments_info"]


@pytest.mark.parametrize("sizes", [None, [(6, 9)]])
def test_class_maps_with_their_scores(sizes):
    logits = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    processor, output = CheXficientImageProcessor(SIZE), CheXficientSegmenterOutput(logits=logits)
    (found,) = processor.post_process_semantic_segmentation(output, sizes, return_segmentation_scores=True)
    (alone,) = processor.post_process_semantic_segmentation(output, sizes)
    assert torch.equal(found["segmentation"], alone)
    scores = found["segmentation_scores"]
    assert scores.shape == (3, *alone.shape)
    assert torch.equal(scores.isinf().all(0), alone == -1)
    assert torch.equal(scores.argmax(0)[alone >= 0], alone[alone >= 0])
