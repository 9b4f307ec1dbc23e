"""Heat maps: models whose map is known, the way back to the film, towers that have none."""

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from transformers import Dinov2Config

from eval.heat_map import main
from eval.settings import MAP_METHODS
from modeling_chexficient import (
    CheXficientConfig,
    CheXficientForImageClassification,
    CheXficientForSemanticSegmentation,
    CheXficientModel,
    heat_maps,
    overlay_heat_map,
)
from modeling_chexficient.cell_places_chexficient import CellPlaces, noted_places
from modeling_chexficient.heat_maps_chexficient import METHODS, NORMAL, finding_maps, text_directions
from modeling_chexficient.layer_cam_chexficient import layer_cam, layer_cam_maps
from modeling_chexficient.spatial_features_chexficient import gradient_maps, patch_embeddings, tower_blocks
from tests.adapter_files import shake
from tests.bright_models import (
    SIDE,
    bright_head,
    bright_model,
    bright_processor,
    film_with_square,
    save_bright,
)
from tests.tiny_towers import TEXT, VISION, WITHOUT_MAPS, images


def highest(heat_map) -> tuple[int, int]:
    """(row, column) of the highest pixel."""
    return np.unravel_index(np.nanargmax(np.asarray(heat_map)), heat_map.shape)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("size", "corner"), [((128, 96), (84, 24)), ((90, 150), (10, 100)), ((64, 64), (4, 40))])
def test_the_map_points_at_the_bright_square_of_a_film_of_any_size(method, size, corner):
    film = film_with_square(size, corner)
    model = bright_model() if method == "similarity" else bright_head()
    processor = bright_processor()
    (found,) = heat_maps(model, processor, film, ["bright"], method)
    assert found.shape == (1, size[1], size[0])
    row, column = highest(found[0])
    assert corner[1] <= row < corner[1] + 12
    assert corner[0] <= column < corner[0] + 12
    # Two films at once, the other one of another size; and as a method of the model.
    both = model.heat_maps(processor if method == "similarity" else processor.image_processor,
                           [film_with_square((64, 64), (40, 8)), film], ["bright"], method)  # fmt: skip
    assert both[0].shape == (1, 64, 64)
    torch.testing.assert_close(both[1], found, equal_nan=True)


def test_films_may_be_paths(tmp_path):
    model, processor, film = bright_model(), bright_processor(), film_with_square((80, 60), (8, 8))
    film.save(tmp_path / "film.png")
    (expected,) = heat_maps(model, processor, film, ["bright"])
    for films in (tmp_path / "film.png", str(tmp_path / "film.png"), [tmp_path / "film.png"]):
        (found,) = heat_maps(model, processor, films, ["bright"])
        torch.testing.assert_close(found, expected, equal_nan=True)


@pytest.mark.parametrize("method", METHODS)
def test_callers_may_be_without_gradients(method):
    given = bright_model(), bright_processor(), film_with_square((64, 64), (8, 8)), ["bright"], method
    (whole,) = heat_maps(*given)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            (found,) = heat_maps(*given)
        torch.testing.assert_close(found, whole, equal_nan=True)


def test_what_the_model_does_not_see_has_no_value():
    (found,) = heat_maps(bright_model(), bright_processor(), film_with_square((160, 80), (60, 40)), ["bright"])
    seen = found[0].isfinite()
    assert seen[:, 40:120].all()
    assert not seen[:, :40].any()
    assert not seen[:, 120:].any()


def test_a_pair_of_phrases_is_a_difference():
    model, processor, film = bright_model(), bright_processor(), film_with_square((64, 64), (8, 8))
    (found,) = heat_maps(model, processor, film, ["bright", ("bright", "no bright")], "similarity")
    # All texts of this model are alike.
    assert found[1].abs().max() < 1e-6 < found[0].max()


def test_the_map_of_a_linear_head_is_its_class_activation_map():
    torch.manual_seed(0)
    config = CheXficientConfig(VISION["resnet"], TEXT["bert"], num_labels=3, problem_type="multi_label_classification")
    head = CheXficientForImageClassification(config)
    shake(head)
    head.eval()
    # As of a frozen base.
    head.requires_grad_(False)
    maps = gradient_maps(head.vision_model, images(), lambda pixels: head(pixels).logits)
    with torch.no_grad():
        features = head.vision_model(images()).last_hidden_state
        expected = torch.einsum("bchw,lc->blhw", features, head.classifier.weight) / features[0, 0].numel()
        torch.testing.assert_close(maps, expected)
        torch.testing.assert_close(maps.sum((2, 3)) + head.classifier.bias, head(images()).logits)


def test_each_patch_of_a_transformer_is_embedded_alone():
    """With a single block nothing of another patch reaches it; the text is compared with its own value."""
    torch.manual_seed(0)
    one_block = Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, mlp_ratio=2, image_size=64, patch_size=16
    )
    model = CheXficientModel(CheXficientConfig(one_block, TEXT["bert"], projection_dim=8))
    shake(model)
    model.eval()

    def embed(pixels: torch.Tensor) -> torch.Tensor:
        return model(pixel_values=pixels).image_embeds

    pixels = images(1)
    before = patch_embeddings(model.vision_model, pixels, embed)
    assert before.shape == (1, 4, 4, 8)
    torch.testing.assert_close(before.norm(dim=-1), torch.ones(1, 4, 4))
    pixels[:, :, 16:32, 48:64] += 1
    after = patch_embeddings(model.vision_model, pixels, embed)
    changed = (before - after).abs().amax(-1)[0] > 1e-5
    assert changed.nonzero().tolist() == [[1, 3]]
    # The tower is left as it was.
    assert embed(images(2)).shape == (2, 8)


@pytest.mark.parametrize("name", ["segformer", "pvt_v2"])
def test_what_attention_shrinks_does_not_place_the_cells_of_later_maps(name):
    """The last map of 2 x 2 cells lies over pixels 0 and 32; keys of as many cells lie in the middles of tiles."""
    tower, pixels = shaken(name).vision_model, images()
    with torch.no_grad(), noted_places(tower, pixels) as places:
        cells = tower(pixels).last_hidden_state.shape[-1]
    rows = places.lay(torch.arange(float(cells))[None, None, :, None].expand(2, 1, -1, cells))[0, 0, :, 0]
    step = 64 // cells
    torch.testing.assert_close(rows, (torch.arange(64.0) / step).clamp(max=cells - 1))


def test_the_stages_of_a_tower_are_not_its_patch_embeddings():
    """DaViT has those in a list of the same length before."""
    tower = shaken("davit").vision_model
    assert tower_blocks(tower) is tower.blocks


@pytest.mark.parametrize(("kernel", "padding", "first"), [(3, 1, 0), (2, 0, 0.5), (5, 2, 0)])
def test_cells_lie_where_the_convolutions_put_them(kernel, padding, first):
    """Three steps of stride 2; a map that grows with the place is laid on the places it was made of."""
    steps = nn.Sequential(*(nn.Conv2d(1, 1, kernel, stride=2, padding=padding) for _ in range(3)))
    pixels = torch.zeros(2, 1, 56, 40)
    with noted_places(steps, pixels) as places:
        height, width = steps(pixels).shape[-2:]
    rows, columns = (first * 7 + 8 * torch.arange(float(cells)) for cells in (height, width))
    maps = torch.stack([rows[:, None].expand(height, width), columns[None].expand(height, width)])
    found = places.lay(maps.expand(2, -1, -1, -1))
    assert found.shape == (2, 2, 56, 40)
    torch.testing.assert_close(found[1, 0, :, 3], torch.arange(56.0).clamp(rows[0], rows[-1]))
    torch.testing.assert_close(found[1, 1, 3], torch.arange(40.0).clamp(columns[0], columns[-1]))


def test_cells_of_unknown_maps_are_tiles():
    maps = torch.rand(1, 3, 4, 5)
    expected = F.interpolate(maps, (32, 30), mode="bilinear", align_corners=False)
    torch.testing.assert_close(CellPlaces((32, 30)).lay(maps), expected)


def test_layer_cam_by_hand():
    features = torch.tensor([[1.0, 2.0], [3.0, 1.0], [0.0, -4.0]]).reshape(1, 3, 1, 2)
    gradients = torch.tensor([[1.0, -5.0], [2.0, 1.0], [-1.0, 1.0]]).reshape(1, 3, 1, 2)
    assert layer_cam(features, gradients).flatten().tolist() == [1, 7, 0]


def test_the_fused_map_of_a_small_square_is_smooth_and_highest_at_it():
    """Of a last map of 4 x 4 alone the point would be at 32 or 64."""
    head = bright_head()
    pixels = torch.zeros(1, 3, 112, 112)
    pixels[..., 44:50, 60:66] = 1
    (fused,), (last,) = (finding_maps(head, pixels, ["bright"], method)[0] for method in ("layercam", "gradient"))
    assert fused.shape == (112, 112)
    row, column = highest(fused)
    assert abs(row - 46.5) <= 3
    assert abs(column - 62.5) <= 3
    assert fused.min() >= 0
    assert 0.2 < fused.max() < 1
    assert fused.diff(dim=0).abs().max() < last.diff(dim=0).abs().max() / last.max()


def test_a_phrase_is_compared_with_a_normal_film_or_with_the_text_of_its_pair():
    asked = []

    def embed(texts: list[str]) -> torch.Tensor:
        asked.append(texts)
        return torch.eye(len(texts))

    phrases = ["edema", ("mass", "no mass")]
    expected = torch.tensor([[1.0, -1, 0, 0], [0, 0, 1, -1]])
    torch.testing.assert_close(text_directions(embed, phrases, None), expected)
    torch.testing.assert_close(text_directions(embed, phrases, "gradient"), torch.tensor([[1.0, 0, 0], [0, 1, -1]]))
    assert asked == [["edema", NORMAL, "mass", "no mass"], ["edema", "mass", "no mass"]]


def shaken(name: str) -> CheXficientModel:
    torch.manual_seed(0)
    config = CheXficientConfig({**VISION, **WITHOUT_MAPS}[name], TEXT["bert"], projection_dim=8)
    model = CheXficientModel(config)
    shake(model)
    return model.eval()


# Most of the last four have no other map.
@pytest.mark.parametrize("name", ["resnet", "dinov2", "registers", "siglip", "swin", "convnext",
                                  "segformer", "davit", "dinov3_convnext", "pvt_v2"])  # fmt: skip
def test_towers_of_all_sorts_have_maps_by_layer_cam(name):
    model = shaken(name)
    fused = layer_cam_maps(model.vision_model, images(), lambda pixels: model(pixel_values=pixels).image_embeds[:, :3])
    assert fused.shape == (2, 3, 64, 64)
    assert fused.amax((2, 3)).min() > 0.1
    assert not torch.allclose(fused[0, 0], fused[0, 1])
    assert not torch.allclose(fused[0], fused[1])


@pytest.mark.parametrize("name", ["dinov2", "registers", "clip", "siglip", "swin", "convnext"])
def test_towers_of_all_sorts_have_maps(name):
    model = shaken(name)
    side = 8 if name == "swin" else 4
    embeddings = patch_embeddings(model.vision_model, images(), lambda pixels: model(pixel_values=pixels).image_embeds)
    assert embeddings.shape == (2, side, side, 8)
    maps = gradient_maps(model.vision_model, images(), lambda pixels: model(pixel_values=pixels).image_embeds[:, :3])
    assert maps.shape == (2, 3, side, side)
    # In front of a layer norm it would be 0 but for rounding.
    assert maps.std() > 1e-4
    assert not torch.allclose(maps[0], maps[1])


@pytest.mark.parametrize(
    ("name", "message"), [("efficientnet", "no list of blocks"), ("dinov3", "cannot embed a single patch"),
                          ("beit", "joins them"), ("segformer", "no encoder")],
)  # fmt: skip
def test_towers_without_spatial_features_are_refused(name, message):
    model = CheXficientModel(CheXficientConfig({**VISION, **WITHOUT_MAPS}[name], TEXT["bert"], projection_dim=8)).eval()
    with pytest.raises(ValueError, match=message):
        patch_embeddings(model.vision_model, images(), lambda pixels: model(pixel_values=pixels).image_embeds)


def test_bad_input_is_refused():
    film, processor = film_with_square((64, 64), (8, 8)), bright_processor()
    for model, phrases, options, message in (
        (bright_head(), ["edema"], {}, r"no finding \['edema'\], it has \['bright', 'dull'\]"),
        (bright_head(), ["bright"], {"method": "similarity"}, "has no texts"),
        (bright_head(), [("bright", "dull")], {}, "no finding"),
        (bright_model(), ["bright"], {"method": "attention"}, "method 'attention' of a heat map is unknown"),
        (bright_model(), [], {}, "No phrase"),
        (bright_model(), "bright", {}, r"pass \['bright'\]"),
        (bright_model(), [("bright", "no", "no")], {}, "a pair of texts"),
        (bright_model(), [("bright",)], {}, "a pair of texts"),
        (CheXficientForSemanticSegmentation(bright_head().config), ["bright"], {}, "nothing to point at"),
    ):
        with pytest.raises(ValueError, match=message):
            heat_maps(model, processor, film, phrases, **options)


def test_an_overlay_is_warm_where_the_map_is_high_and_the_film_elsewhere():
    film = film_with_square((40, 30), (20, 5))
    heat_map = np.zeros((30, 40), np.float32)
    heat_map[5:10, 20:30] = 1
    heat_map[:, 35:] = np.nan
    picture = np.asarray(overlay_heat_map(film, heat_map)).astype(int)
    grey = np.asarray(film.convert("RGB"))
    high = heat_map == 1
    assert (picture[~high] == grey[~high]).all()
    assert (picture[high][:, 0] > picture[high][:, 2] + 50).all()
    with pytest.raises(ValueError, match=r"the heat map is \(40, 30\), the film \(30, 40\)"):
        overlay_heat_map(film, heat_map.T)
    assert overlay_heat_map(film, np.full((30, 40), np.nan)).tobytes() == film.convert("RGB").tobytes()


def run(code: int, *words) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    assert ended.value.code == code


def test_the_command_writes_arrays_and_overlays(tmp_path, capsys):
    films = tmp_path / "films"
    (films / "below").mkdir(parents=True)
    film_with_square((96, 80), (60, 10)).save(films / "a.png")
    # Of more than 8 bits.
    deep = np.asarray(film_with_square((80, 96), (20, 60))).astype(np.uint16) * 16
    Image.fromarray(deep).save(films / "below" / "b.png")
    (films / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n but no picture")
    model, out = save_bright(tmp_path / "model"), tmp_path / "maps"
    asked = "--phrases", "bright", "no bright", "--map_method", "similarity"
    run(0, "--model", model, "--films", films, *asked, "--out", out)
    table = pd.read_csv(out / "films.csv", dtype=str)
    assert table.values.tolist() == [["00001", "a.png", "a.png"], ["00002", "below/b.png", "below/b.png"]]
    for number, corner, size in (("00001", (60, 10), (96, 80)), ("00002", (20, 60), (80, 96))):
        stored = np.load(out / f"{number}.npz")
        assert stored["phrases"].tolist() == ["bright", "no bright"]
        assert stored["maps"].shape == (2, size[1], size[0])
        row, column = highest(stored["maps"][0])
        assert corner[1] <= row < corner[1] + 12
        assert corner[0] <= column < corner[0] + 12
        assert Image.open(out / f"{number}.2.png").size == size
    assert "broken.png" in out.with_suffix(".skipped.jsonl").read_text()
    said = capsys.readouterr().out
    assert "2 films in" in said
    assert "1 left out" in said
    run(1, "--model", model, "--films", films, "--phrases", "bright", "--out", tmp_path / "others", "--strict")
    # Overlays of the second phrase would have stayed beside those of one phrase alone.
    with pytest.raises(SystemExit, match="maps holds maps of an earlier run: delete it, or choose another --out"):
        main(["--model", str(model), "--films", str(films), "--phrases", "bright", "--out", str(out)])


def test_the_command_on_a_single_film_with_a_head(tmp_path):
    film = tmp_path / "film.png"
    film_with_square((SIDE, SIDE), (8, 40)).save(film)
    head = save_bright(tmp_path / "head", head=True)
    run(0, "--model", head, "--films", film, "--out", tmp_path / "maps")
    stored = np.load(tmp_path / "maps" / "00001.npz")
    assert stored["phrases"].tolist() == ["bright", "dull"]
    assert (stored["maps"][1] == 0).all()
    for words, message in (
        (["--films", film, "--phrases", "edema"], r"no finding \['edema'\]"),
        (["--films", film, "--map_method", "similarity"], "has no texts"),
        ([], "name with --films"),
        (["--films", tmp_path / "none.png"], "there is no such folder, film or table"),
    ):
        with pytest.raises(SystemExit, match=message):
            main([str(word) for word in ["--model", head, "--out", tmp_path / "x", *words]])
    with pytest.raises(SystemExit, match="say with --phrases"):
        main(["--model", str(save_bright(tmp_path / "model")), "--films", str(film), "--out", str(tmp_path / "x")])


def test_settings_name_the_methods_there_are():
    assert MAP_METHODS == METHODS
