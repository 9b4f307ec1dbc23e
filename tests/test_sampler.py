"""What is seen, when and by whom."""

import tracemalloc
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from train.adapt.__main__ import ARGUMENTS as ADAPTING
from train.masked_autoencoding.__main__ import ARGUMENTS as AUTOENCODING
from train.pretrain.arguments import ModelArguments
from train.pretrain.schedule import RelativeCosts, foreseen_share, plan
from train.pretrain.training_arguments import CuratedTrainingArguments
from train.pretrain.views import View
from train.runs.recipes import DataArguments, parse_recipe
from train.selection.outcome import Role, Selection
from train.selection.sampler import CurationBatchSampler, Schedule
from train.selection.state import CurationState
from train.self_supervised.__main__ import ARGUMENTS as DISTILLING


def sampler(rank=0, world=1, seed=0, **changes):
    settings = {"num_rows": 103, "super_batch_size": 20, "batch_size": 10, "warmup_steps": 3, "curation_epochs": 1}
    schedule = Schedule(**{**settings, "subset_steps": 30, **changes})
    state = CurationState(schedule.num_rows)
    return CurationBatchSampler(schedule, state, seed, rank, world), state


def test_a_curation_pass_sees_every_row_once():
    one, _ = sampler()
    batches = list(one)
    assert len(batches) == len(one) == 3 + 6
    rows = np.concatenate(batches[3:])
    assert sorted(rows) == list(range(103))
    assert {len(batch) for batch in batches[3:]} <= {17, 18}, "no short last super-batch"


def test_several_curation_passes_use_the_ids_of_the_corpus():
    one, _ = sampler(curation_epochs=2)
    batches = list(one)[3:]
    for half in (batches[:6], batches[6:]):
        assert sorted(np.concatenate(half)) == list(range(103))
    assert batches[:6] != batches[6:], "the passes are shuffled apart"


def test_after_curation_only_kept_rows_are_seen():
    one, state = sampler()
    kept = np.array([3, 8, 9, 20, 21, 50, 51, 77, 90, 91, 92, 100])
    state.roles[kept] = Role.CENTRAL
    epochs = []
    for epoch in (1, 2):
        one.set_epoch(epoch)
        epochs.append(list(one))
        assert len(epochs[-1]) == len(one), "Trainer epochs must have one length"
    seen = np.concatenate(epochs[0] + epochs[1])
    assert set(seen) == set(kept)
    assert epochs[0] != epochs[1]
    assert all(len(set(batch)) == 10 for batch in epochs[0]), "no pair twice in a batch: it would be its own negative"


def test_a_subset_smaller_than_the_batch_gives_smaller_batches():
    one, state = sampler()
    state.roles[:4] = Role.CENTRAL
    one.set_epoch(1)
    assert all(sorted(batch) == [0, 1, 2, 3] for batch in one)


def test_processes_get_equal_parts_of_a_subset_smaller_than_the_batch():
    parts = []
    for rank in (0, 1):
        one, state = sampler(rank, world=2)
        state.roles[:5] = Role.CENTRAL
        one.set_epoch(1)
        parts.append(next(iter(one)))
    assert [len(part) for part in parts] == [2, 2]
    one, state = sampler(0, world=2)
    state.roles[0] = Role.CENTRAL
    one.set_epoch(1)
    with pytest.raises(ValueError, match="1 pairs are too few for 2 processes"):
        next(iter(one))


@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_same_global_batches(epoch, world):
    single, state = sampler(batch_size=12)
    state.roles[::2] = Role.CENTRAL
    single.set_epoch(epoch)
    parts = []
    for rank in range(world):
        part, part_state = sampler(rank, world, batch_size=12)
        part_state.roles[::2] = Role.CENTRAL
        part.set_epoch(epoch)
        parts.append(list(part))
    joined = [list(chain(*batches)) for batches in zip(*parts, strict=True)]
    assert joined == list(single)


def test_the_order_follows_the_seed():
    assert list(sampler(seed=1)[0]) == list(sampler(seed=1)[0])
    assert list(sampler(seed=1)[0]) != list(sampler(seed=2)[0])


def test_without_curation_one_phase_over_all_rows():
    one, _ = sampler(warmup_steps=0, curation_epochs=0, subset_steps=20, selects=False)
    batches = list(one)
    assert len(batches) == 20
    assert sorted(np.concatenate(batches[:10])) != sorted(np.concatenate(batches[10:]))
    assert len(set(np.concatenate(batches[:10]))) == 100, "a pass leaves out the remainder of 103 / 10"


def arguments(tmp_path, **changes):
    settings = {"output_dir": str(tmp_path), "use_cpu": True, "per_device_train_batch_size": 10, "super_batch_size": 20}
    return CuratedTrainingArguments(**{**settings, **changes})


def test_plan_counts_epochs_over_the_kept_share(tmp_path):
    schedule = plan(arguments(tmp_path, num_train_epochs=5, keep_share=0.2, curation_warmup_share=0.1), 1000)
    assert (schedule.warmup_steps, schedule.steps_per_pass, schedule.subset_steps) == (10, 50, 4 * 20)
    schedule = plan(arguments(tmp_path, num_train_epochs=5, selection="none"), 1000)
    assert (schedule.curation_end, schedule.total_steps) == (0, 500)


def test_plan_takes_what_curation_leaves_of_max_steps(tmp_path):
    schedule = plan(arguments(tmp_path, max_steps=100, curation_warmup_share=0), 1000)
    assert schedule.total_steps == 100
    assert schedule.subset_steps == 50


@pytest.mark.parametrize(
    ("selection", "spent"),
    [
        ("none", 0),
        ("random", 200),
        # Kept pairs of the curation pass; all are scored.
        ("quantile", 200 + 0.3 * 1000),
        ("semdedup", 0.3 * 1000),
        # Chosen before training, by what is known of the films: nothing is spent on that.
        ("gated_random", 0),
    ],
)
def test_plan_spends_what_passes_over_all_pairs_would_cost(tmp_path, selection, spent):
    given = {"selection": selection, "keep_share": 0.2, "curation_warmup_share": 0}
    schedule = plan(arguments(tmp_path, compute_passes=1.5, **given), 1000, RelativeCosts(scored=0.3))
    left = 1500 - spent
    assert left - 10 < schedule.subset_steps * 10 <= left


def test_plan_counts_passes_over_what_a_gate_lets_pass(tmp_path):
    """It is known before training, so nothing is trained on before it, and the super-batch does not matter."""
    given = {"selection": "gated_random", "curation_warmup_share": 0.1, "super_batch_size": 2000, "num_train_epochs": 4}
    args = arguments(tmp_path, keep_share=1.0, **given)
    known = {"sound": torch.arange(1000) >= 200}
    share = foreseen_share(args, 1000, known)
    assert share == 0.8
    schedule = plan(args, 1000, kept_share=share)
    assert (schedule.warmup_steps, schedule.curation_epochs, schedule.subset_steps) == (0, 0, 4 * 80)
    assert foreseen_share(arguments(tmp_path, keep_share=0.002, **given), 1000, known) == 0.002
    with pytest.raises(ValueError, match="selection gated_random keeps 1 of 1000 pairs: raise keep_share"):
        foreseen_share(args, 1000, {"sound": torch.arange(1000) == 3})
    assert foreseen_share(arguments(tmp_path), 1000, {}) is None


@pytest.mark.parametrize("selection", ["quantile", "random"])
def test_plan_pays_a_pass_and_no_scoring_where_curation_trains_on_all(tmp_path, selection):
    given = {"selection": selection, "curation_warmup_share": 0, "curation_trains_on": "all"}
    schedule = plan(arguments(tmp_path, compute_passes=1.5, chunk_size=20, **given), 1000, RelativeCosts(scored=0.3))
    assert schedule.subset_steps == 50
    # In chunks of 10 the first of two is embedded twice.
    schedule = plan(arguments(tmp_path, compute_passes=1.5, **given), 1000, RelativeCosts(scored=0.3))
    assert schedule.subset_steps == 35


def test_plan_counts_the_subset_phase_by_what_is_seen_in_it(tmp_path):
    schedule = plan(arguments(tmp_path, compute_passes=1, selection="none"), 1000, RelativeCosts(1 / 3, 0.625))
    assert schedule.subset_steps == 160


def test_parts_of_the_subset_phase(tmp_path):
    assert arguments(tmp_path).views == [(1.0, View())]
    small, dropping = {"low_resolution_size": 56}, {"patch_drop_share": 0.5}
    assert arguments(tmp_path, **small).views == [(0.75, View(56)), (1.0, View())]
    assert arguments(tmp_path, **dropping).views == [(0.9, View(None, 0.5)), (1.0, View())]
    both = [(0.75, View(56, 0.5)), (0.9, View(None, 0.5)), (1.0, View())]
    assert arguments(tmp_path, **small, **dropping).views == both
    assert arguments(tmp_path, **small, low_resolution_share=1).views == [(1.0, View(56))]


def test_impossible_plans_are_refused(tmp_path):
    with pytest.raises(ValueError, match="super_batch_size is 20 but the corpus has 15"):
        plan(arguments(tmp_path), 15)
    with pytest.raises(ValueError, match="num_prototypes is 20, but 33 pairs make super-batches of 16"):
        plan(arguments(tmp_path, num_prototypes=20), 33)
    with pytest.raises(ValueError, match="max_steps 30"):
        plan(arguments(tmp_path, max_steps=30), 1000)
    with pytest.raises(ValueError, match=r"compute_passes 0\.3 allows"):
        plan(arguments(tmp_path, compute_passes=0.3, keep_share=0.227), 1000, RelativeCosts())
    with pytest.raises(ValueError, match="goes without max_steps"):
        arguments(tmp_path, compute_passes=1, max_steps=30)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keep_share": 0.0}, r"keep_share is 0.0"),
        ({"keep_share": 1.5}, r"keep_share is 1.5"),
        ({"keep_share": 0.05}, "keeps less than 2 pairs"),
        ({"keep_share": None, "selection": "random"}, "no published constants"),
        ({"keep_share": None, "selection": "semdedup"}, "no published constants"),
        ({"on_nonfinite": "skip", "gradient_accumulation_steps": 2}, "on_nonfinite skip"),
        ({"selection": "none", "save_curated_dataset": "x"}, "save_curated_dataset"),
        ({"selection": "random", "score_image_size": 56}, "score_image_size does nothing"),
        ({"score_image_size": 8}, "at least 32 pixels"),
        (
            {"curation_trains_on": "all", "score_image_size": 56},
            "score_image_size does nothing with curation_trains_on",
        ),
        ({"curation_trains_on": "all", "selection": "semdedup"}, "curation_trains_on all does nothing with selection"),
        ({"curation_trains_on": "all", "selection": "none"}, "curation_trains_on all does nothing with selection"),
        ({"num_prototypes": 21}, "num_prototypes is 21, more than the 20 pairs of a super-batch"),
        ({"freeze_blocks": -1}, "freeze_blocks is -1"),
        ({"chunks_in_memory": 0}, "chunks_in_memory is 0"),
        ({"freeze_blocks": 1, "gradient_checkpointing": True}, "freeze_blocks does not go with gradient_checkpointing"),
        ({"low_resolution_share": 2}, "low_resolution_share is 2, it must lie"),
        ({"low_resolution_share": 0.5}, "low_resolution_share is 0.5, which says nothing without low_resolution_size"),
        ({"low_resolution_size": 56, "low_resolution_share": 0}, "low_resolution_share is 0: raise it"),
        ({"patch_drop_steps_share": 0.5}, "says nothing without patch_drop_share"),
        ({"patch_drop_share": 0.5, "patch_drop_steps_share": 0}, "patch_drop_steps_share is 0: raise it"),
        ({"patch_drop_share": 1}, r"patch_drop_share is 1, it must lie in \[0, 1\)"),
        ({"patch_drop_share": -0.1}, "patch_drop_share is -0.1"),
        ({"patch_drop_share": 0.5, "patch_drop_steps_share": 1.1}, "patch_drop_steps_share is 1.1"),
        ({"chunk_size": 0}, "chunk_size is 0"),
        ({"load_best_model_at_end": True, "save_strategy": "no", "eval_strategy": "no"}, "load_best_model_at_end"),
        ({"num_prototypes": 0}, "num_prototypes is 0"),
        ({"curation_warmup_share": -1}, "curation_warmup_share"),
    ],
)
def test_arguments_that_cannot_work_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path, **changes)


def test_recipes_parse_and_the_published_one_is_published():
    recipes = Path(__file__).parents[1] / "train" / "recipes"
    types = (ModelArguments, DataArguments, CuratedTrainingArguments)
    adapting = {"classification", "segmentation", "segmentation_tubes", "report_generation", "report_generation_demo"}
    adapting |= {"lora_mrm", "lora_cxr_mae"}
    given = ["--dataset_dir", "x", "--model", "x", "--output_dir", "x", "--use_cpu"]
    for recipe in recipes.glob("*.yaml"):
        if recipe.stem in adapting:
            parse_recipe(ADAPTING, [str(recipe), *given])
            continue
        films_alone = {"self_supervised": DISTILLING, "masked_autoencoding": AUTOENCODING}
        kind = next((kind for name, kind in films_alone.items() if recipe.stem.startswith(name)), None)
        if kind is not None:
            parse_recipe(kind, [str(recipe), "--dataset_dir", "x", "--output_dir", "x", "--use_cpu"])
            continue
        model, _, args = parse_recipe(types, [str(recipe), "--dataset_dir", "x", "--fp16", "false", "--use_cpu"])
        if recipe.stem == "chexficient":
            assert (model.image_size, model.projection_dim, model.max_text_length) == (378, 512, 256)
            assert (args.learning_rate, args.lr_scheduler_kwargs, args.weight_decay) == (5e-5, {"min_lr": 5e-6}, 1e-4)
            assert (args.num_train_epochs, args.keep_share, args.super_batch_size) == (20, 0.227, 480)
            assert (args.num_prototypes, args.seed, args.max_grad_norm, args.warmup_steps) == (6, 0, 0, 0)


def test_the_published_recipes_of_lora():
    """arXiv 2401.12215, the cells of 1 % of NIH."""
    given = ["--dataset_dir", "x", "--model", "x", "--output_dir", "x", "--use_cpu"]
    recipes = Path(__file__).parents[1] / "train" / "recipes"
    _, _, mrm, changes, of_mrm, _ = parse_recipe(ADAPTING, [str(recipes / "lora_mrm.yaml"), *given])
    _, _, mae, _, of_mae, _ = parse_recipe(ADAPTING, [str(recipes / "lora_cxr_mae.yaml"), *given])
    for method in (mrm, mae):
        assert (method.method, method.rank, method.alpha, method.dropout) == ("lora", 4, 32, 0.1)
    assert (of_mrm.optim, of_mrm.momentum, of_mrm.weight_decay, of_mrm.learning_rate) == ("sgd", 0.9, 0, 0.05)
    assert (changes.crop, changes.horizontal_flip, changes.rotation, changes.noise) == (0.92, True, 0, 0)
    assert (mae.layer_decay, of_mae.weight_decay, of_mae.learning_rate) == (0.65, 0.05, 3e-3 * 64 / 256)
    for args in (of_mrm, of_mae):
        assert args.warmup_steps * args.num_train_epochs == 5
        assert (args.per_device_train_batch_size, args.max_grad_norm) == (64, 0)


def test_numbers_in_recipes_are_numbers(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("lr_scheduler_kwargs: {min_lr: 5e-6}\nlearning_rate: 1e-3\noutput_dir: x\nuse_cpu: true\n")
    (args,) = parse_recipe((CuratedTrainingArguments,), [str(recipe)])
    assert args.lr_scheduler_kwargs == {"min_lr": 5e-6}
    assert args.learning_rate == 1e-3


def test_state_is_saved_and_restored_exactly(tmp_path):
    state = CurationState.for_corpus(50, map_sample_size=20, seed=0)
    state.prototypes, state.usage = torch.randn(4, 6), torch.arange(4.0)
    rows = torch.tensor([1, 4, 9])
    roles = torch.tensor([Role.MARGIN, Role.OUTLIER, Role.CENTRAL], dtype=torch.int8)
    features = torch.nn.functional.normalize(torch.randn(3, 6), dim=-1)
    state.record(rows, Selection(roles, torch.tensor([0, 3, 2]), torch.tensor([0.5, 0.9, 0.1])), features)
    state.save(tmp_path)
    restored = CurationState.load(tmp_path)
    assert restored.kept_rows.tolist() == [1, 9]
    assert restored.seen.nonzero().squeeze(1).tolist() == [1, 4, 9]
    assert restored.kept_share == pytest.approx(2 / 3)
    for name in ("roles", "clusters", "distances", "prototypes", "usage", "map_rows", "map_features"):
        torch.testing.assert_close(getattr(restored, name), getattr(state, name), rtol=0, atol=0, equal_nan=True)
    sampled = [row for row in rows.tolist() if row in state.map_rows]
    for row in sampled:
        kept_feature = restored.map_features[state.map_rows.tolist().index(row)]
        torch.testing.assert_close(kept_feature, features[rows.tolist().index(row)].half())
    assert len(state.map_rows) == 20
    state.forget()
    assert not state.seen.any()
    assert state.prototypes is not None


# The larger number repeats the smaller one: what a pair takes does not depend on how many there are.
@pytest.mark.parametrize("num_rows", [1_000_000, pytest.param(10_000_000, marks=pytest.mark.slow)])
def test_bookkeeping_takes_at_most_16_bytes_a_pair(num_rows):
    """The state, one pass of the sampler over all rows, and everything recorded."""
    schedule = Schedule(num_rows, 8192, 4096, warmup_steps=0, curation_epochs=1, subset_steps=0)
    state = CurationState.for_corpus(num_rows, map_sample_size=1000, seed=0)
    held = sum(getattr(state, name).nbytes for name in ("roles", "clusters", "distances"))
    one = CurationBatchSampler(schedule, state, seed=0, rank=0, world_size=1)
    tracemalloc.start()
    for batch in one.global_batches(0):
        roles = torch.from_numpy((batch % 4 == 0).astype(np.int8)) * int(Role.CENTRAL)
        state.record(torch.from_numpy(batch), Selection(roles, torch.zeros(len(batch), dtype=torch.int64)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert int(state.kept.sum()) == num_rows // 4
    # numpy's allocations are traced, torch's are held by the state.
    assert (held + peak) / num_rows < 16
