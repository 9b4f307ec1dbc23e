"""Selection rules and prototype update against the published implementation, and the promises beyond it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from sklearn.metrics import pairwise_distances
from torch.nn import functional as F

from train.objectives.contrastive import contrastive_loss
from train.objectives.encoding import pair_features
from train.selection.baselines import select_random
from train.selection.outcome import Role
from train.selection.prototypes import kmeans_prototypes, update_prototypes
from train.selection.published import farthest_point_sampling, select_quantile, select_sigma, share_out

SELECTION_RULES = {"quantile": select_quantile, "sigma": select_sigma}
GOLDEN = Path(__file__).parent / "golden" / "curation.safetensors"


@pytest.fixture(scope="module")
def golden():
    with safe_open(GOLDEN, "pt") as file:
        metadata = {
            name: json.loads(value) for name, value in file.metadata().items() if name.endswith(("seed", "ratio"))
        }
    return {**load_file(GOLDEN), **metadata}


@pytest.fixture(scope="module")
def quantile(golden):
    features = pair_features(golden["cur_image"], golden["cur_text"])
    generator = torch.Generator().manual_seed(golden["cur_fps_seed"])
    return features, select_quantile(features, golden["cur_prototypes"], None, generator)


def clustered_features(count: int, seed: int = 0) -> torch.Tensor:
    """Unit vectors around six centres, which are the same for every seed."""
    centres = 2 * torch.randn(6, 48, generator=torch.Generator().manual_seed(99))
    generator = torch.Generator().manual_seed(seed)
    member = torch.randint(6, (count,), generator=generator)
    return F.normalize(torch.randn(count, 48, generator=generator) + centres[member], dim=-1)


def test_rule_quantile_equals_published(golden, quantile):
    _, selection = quantile
    assert torch.equal(selection.roles == Role.OUTLIER, golden["cur_outlier"])
    assert torch.equal(selection.roles == Role.MARGIN, golden["cur_support"])
    assert torch.equal(selection.roles == Role.CENTRAL, golden["cur_central"])


def test_rule_sigma_equals_published(golden):
    features = pair_features(golden["sigma_image"], golden["sigma_text"])
    generator = torch.Generator().manual_seed(golden["sigma_fps_seed"])
    selection = select_sigma(features, golden["sigma_prototypes"], None, generator, golden["sigma_ratio"])
    assert torch.equal(selection.kept, golden["sigma_keep"])
    roles = {Role.OUTLIER: "outlier", Role.CENTRAL: "central", Role.PERIPHERY: "periphery", Role.MARGIN: "tail"}
    for role, name in roles.items():
        assert torch.equal(selection.roles == role, golden[f"sigma_{name}"]), name


def test_prototype_update_equals_published(golden, quantile):
    features, selection = quantile
    prototypes, usage = update_prototypes(features[selection.kept], golden["cur_prototypes"])
    torch.testing.assert_close(prototypes, golden["cur_prototypes_after"], atol=1e-5, rtol=0)
    assert torch.equal(usage, golden["cur_usage"])


def test_loss_of_the_kept_equals_published(golden, quantile):
    kept = quantile[1].kept
    loss = contrastive_loss(golden["cur_image"][kept], golden["cur_text"][kept], torch.tensor(100.0).log())
    torch.testing.assert_close(loss, golden["cur_loss"], atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("rule", SELECTION_RULES)
@pytest.mark.parametrize("count", [64, 240, 480, 1000, 4096, 8192])
@pytest.mark.parametrize("share", [0.05, 0.1, 0.227, 0.5])
def test_kept_share_is_met_for_any_super_batch(rule, count, share):
    features = clustered_features(count)
    prototypes = kmeans_prototypes(features, {"quantile": 6, "sigma": 32}[rule])
    kept = SELECTION_RULES[rule](features, prototypes, share).kept
    assert kept.float().mean().item() == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize("rule", SELECTION_RULES)
def test_outliers_are_never_kept_and_margins_always(rule):
    features = clustered_features(480)
    prototypes = kmeans_prototypes(features, 6)
    # Four pairs that belong to no cluster; in 48 dimensions the others all lie about as far from their centre.
    features[:4] = F.normalize(torch.randn(4, 48, generator=torch.Generator().manual_seed(1)), dim=-1)
    selection = SELECTION_RULES[rule](features, prototypes, 0.3)
    assert (selection.roles == Role.OUTLIER).any()
    assert not selection.kept[selection.roles == Role.OUTLIER].any()
    published = SELECTION_RULES[rule](features, prototypes, None)
    assert selection.kept[published.roles == Role.MARGIN].all()


def test_sigma_keeps_lone_pairs_and_copies():
    # The published rule drops a cluster without spread whole, since mean + 3 x 0 is its mean.
    feature = F.normalize(torch.ones(1, 8), dim=-1)
    selection = select_sigma(feature.repeat(10, 1), feature, 0.5)
    assert (selection.roles == Role.OUTLIER).sum() == 0
    assert selection.kept.sum() == 5


def test_random_selection_meets_the_share_and_follows_the_seed():
    first = select_random(1000, 0.227, torch.Generator().manual_seed(1)).kept
    assert first.sum() == 227
    assert torch.equal(first, select_random(1000, 0.227, torch.Generator().manual_seed(1)).kept)
    assert not torch.equal(first, select_random(1000, 0.227, torch.Generator().manual_seed(2)).kept)


def test_farthest_point_sampling_takes_the_farthest():
    points = clustered_features(60)
    indices = farthest_point_sampling(points, 12, torch.Generator().manual_seed(0)).tolist()
    assert len(set(indices)) == 12
    distances = pairwise_distances(points.double().numpy())
    for number in range(1, 12):
        to_chosen = distances[:, indices[:number]].min(axis=1)
        assert to_chosen[indices[number]] == pytest.approx(to_chosen.max(), abs=1e-5)


def test_farthest_point_sampling_draws_nothing_where_all_or_none_are_wanted():
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert len(farthest_point_sampling(clustered_features(5), 9, generator)) == 5
    assert len(farthest_point_sampling(clustered_features(5), 0, generator)) == 0
    assert torch.equal(before, generator.get_state())


def test_share_out_meets_the_budget_within_capacities():
    assert share_out(10, [3, 100, 100], [1, 1, 1]) == [3, 4, 3]
    assert share_out(10, [2, 2], [1, 1]) == [2, 2]
    assert sum(share_out(7, [5, 5, 5], [90, 9, 1])) == 7


def test_kmeans_refuses_fewer_features_than_prototypes():
    with pytest.raises(ValueError, match="num_prototypes is 9"):
        kmeans_prototypes(clustered_features(5), 9)


def test_prototypes_do_not_collapse():
    """The published Gumbel assignment collapses to a mean cosine of 0.84 after 100 updates; ours must not."""
    prototypes = kmeans_prototypes(clustered_features(2000), 6)
    for step in range(100):
        prototypes, _ = update_prototypes(clustered_features(120, seed=step), prototypes)
    cosines = prototypes @ prototypes.T
    assert (cosines.sum() - 6) / 30 < 0.5


def test_a_prototype_that_receives_nothing_stays():
    prototypes = F.normalize(torch.eye(3, 8), dim=-1)
    features = F.normalize(torch.eye(1, 8), dim=-1)
    moved, usage = update_prototypes(features, prototypes)
    assert usage.sum() == 1
    torch.testing.assert_close(moved[usage == 0], prototypes[usage == 0])
