"""Weights sharded over two processes: training, choosing and going on are those of whole weights."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

from tests.test_resume import LAST, TEXT, assert_equal_runs
from tests.toy_objective import ToyObjective
from tests.training import assert_same_weights, kept_rows, make_trainer, run_recipe
from train.runs.sharding import layer_classes, prepare_sharding, refuse_launched, with_group_of_its_own

PROGRAM = [str(Path(__file__).parent / "sharded_program.py")]
#: Super-batches are 61 or 60 pairs, of which processes have 31 and 30: six chunks and five. Kept are 9 a process and
#: other batches have 12, so all are trained in chunks, two batches to a step; gradients are clipped, BERT has dropout.
RUN = ["--max_steps", "8", "--gradient_accumulation_steps", "2", "--per_device_train_batch_size", "12"]
RUN += ["--chunk_size", "6", "--max_grad_norm", "1", "--text_config", json.dumps(TEXT), "--curation_report", "false"]
RUN += ["--save_strategy", "steps", "--save_steps", "1", "--logging_steps", "1", "--patch_drop_share", "0.5"]


def shard(corpus: Path, out: Path, *more: str) -> Path:
    return run_recipe(corpus, out, *RUN, "--fsdp", *more, processes=2, program=PROGRAM)


@pytest.fixture(scope="module")
def sharded(tiny_corpus, tmp_path_factory) -> Path:
    return shard(tiny_corpus, tmp_path_factory.mktemp("sharded"))


def logged(run: Path, name: str) -> list[float]:
    return [entry[name] for entry in json.loads((run / "log.json").read_text()) if name in entry]


@pytest.mark.slow
def test_sharded_weights_choose_and_learn_what_whole_ones_do(tiny_corpus, sharded, tmp_path):
    whole = run_recipe(tiny_corpus, tmp_path, *RUN, processes=2)
    assert kept_rows(sharded) == kept_rows(whole)
    assert_same_weights(sharded, whole, atol=2e-6)
    assert min(logged(whole, "grad_norm")) > 1, "all are clipped"
    assert logged(sharded, "grad_norm") == pytest.approx(logged(whole, "grad_norm"), rel=1e-4)
    # The folder is that of any model: the same code beside it, the same configuration.
    one, other = (sorted(file.name for file in (run / "model").iterdir()) for run in (sharded, whole))
    assert one == other
    assert (sharded / "model" / "config.json").read_text() == (whole / "model" / "config.json").read_text()


@pytest.mark.slow
def test_sharded_weights_go_on_exactly(tiny_corpus, sharded, tmp_path):
    """From within the curation epoch."""
    part = tmp_path / "part"
    shutil.copytree(sharded, part)
    for step in range(3, 9):
        shutil.rmtree(part / f"checkpoint-{step}")
    shutil.rmtree(part / "model")
    shard(tiny_corpus, part, *LAST)
    assert_equal_runs(part, sharded)


def accelerator(kind: str = "FSDP", **plugin) -> SimpleNamespace:
    """As much of accelerate's as the checks look at."""
    made = FullyShardedDataParallelPlugin(**{"fsdp_version": 2} | plugin) if kind == "FSDP" else None
    return SimpleNamespace(
        distributed_type=DistributedType(kind), state=SimpleNamespace(fsdp_plugin=made), device=torch.device("cpu")
    )


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        ({"fsdp_version": 1}, "fsdp: version is not supported as it is: version 2 alone"),
        ({"reshard_after_forward": False}, "fsdp: reshard_after_forward .* set it to true"),
        ({"cpu_offload": True}, "fsdp: cpu_offload .* take more cards"),
        ({"cpu_ram_efficient_loading": True}, "fsdp: cpu_ram_efficient_loading .* set it to false"),
        ({"activation_checkpointing": True}, "fsdp: activation_checkpointing .* give gradient_checkpointing"),
        ({"ignored_modules": "text_model"}, "fsdp: ignored_modules .* leave it out"),
    ],
)
def test_other_ways_to_shard_are_refused_by_name(plugin, message, monkeypatch):
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "false")
    args, model = SimpleNamespace(fp16=False, bf16=False), torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match=message):
        prepare_sharding(args, accelerator(**plugin), model)


@pytest.mark.parametrize(
    ("kind", "asked", "takes", "message"),
    [
        ("DEEPSPEED", False, True, "deepspeed is not supported: launch with --multi_gpu, or --use_fsdp"),
        ("FSDP", True, False, "fsdp is not supported: one process a GPU"),
        ("MULTI_CPU", True, True, "fsdp does nothing here, .* this run is MULTI_CPU"),
        ("NO", True, True, "start a process for each GPU"),
    ],
)
def test_what_the_launcher_chose_is_refused_where_it_is_not_supported(kind, asked, takes, message, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", str(asked).lower())
    with pytest.raises(ValueError, match=message):
        refuse_launched(SimpleNamespace(fsdp=None), accelerator(kind), takes)


def test_what_does_not_go_with_sharded_weights(tiny_corpus, tmp_path, monkeypatch):
    trainer = make_trainer(tiny_corpus, tmp_path)
    trainer._check_sharding()
    for name, value in (("eval_strategy", "steps"), ("compile_towers", {})):
        with monkeypatch.context() as changed:
            changed.setattr(trainer.args, name, value)
            with pytest.raises(ValueError, match="does not go with fsdp"):
                trainer._check_sharding()
    trainer.objective = ToyObjective(trainer.model.config)
    with pytest.raises(ValueError, match="has parameters of its own"):
        trainer._check_sharding()
    with pytest.raises(ValueError, match="fp16: give bf16"):
        prepare_sharding(SimpleNamespace(fp16=True, bf16=False), accelerator(), trainer.model)


def test_scalars_stay_whole_and_layers_are_gathered_one_by_one(tiny_corpus, tmp_path):
    model = make_trainer(tiny_corpus, tmp_path).model
    made = accelerator(state_dict_type="SHARDED_STATE_DICT")
    whole = prepare_sharding(SimpleNamespace(fp16=False, bf16=True), made, model)
    assert [id(parameter) for parameter in whole] == [id(model.logit_scale)]
    plugin = made.state.fsdp_plugin
    assert "FULL" in str(plugin.state_dict_type)
    assert plugin.mixed_precision_policy.reduce_dtype is torch.float32
    assert {"BertLayer", "Dinov2Layer"} <= set(layer_classes(model))
    assert "BertEmbeddings" not in layer_classes(model), "accelerate shards the embedding of words by itself"
    optimiser = with_group_of_its_own(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5), whole)
    assert [len(group["params"]) for group in optimiser.param_groups] == [len(list(model.parameters())) - 1, 1]
    assert optimiser.param_groups[1]["momentum"] == 0.5
