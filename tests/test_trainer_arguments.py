"""Every field of `TrainingArguments`, tried once: it changes what is learnt, or changes nothing that is learnt (it is
about watching, saving, feeding or hardware), or is refused by name. None is taken and does nothing.
"""

import dataclasses

import pytest
import torch
from transformers import TrainingArguments

from modeling_chexficient.base_identity_chexficient import identify_base
from tests.adaptation import film, read_arguments, save_base, words, write_corpus
from tests.training import RECIPE, make_trainer
from train.adapt.__main__ import build_task, build_trainer
from train.adapt.arguments import AdaptTrainingArguments
from train.pretrain.training_arguments import CuratedTrainingArguments
from train.runs.recipes import parse_recipe

#: What changes the weights, with a value that is not our default.
LEARNS = {
    "learning_rate": "3e-3",
    "lr_scheduler_type": "linear",
    "lr_scheduler_kwargs": '{"min_lr": 1e-4}',
    "warmup_steps": "3",
    "optim": "sgd",
    "weight_decay": "0.5",
    "adam_beta1": "0.5",
    "adam_beta2": "0.9",
    "adam_epsilon": "0.1",
    "max_grad_norm": "0.001",
    "gradient_accumulation_steps": "2",
    "per_device_train_batch_size": "20",
    "max_steps": "8",
    "num_train_epochs": "3",
    "seed": "5",
    "data_seed": "5",
    "dataloader_drop_last": "true",
    "bf16": "true",
}
#: What leaves the weights as they are.
HARMLESS = {
    "activation_checkpointing": "true",
    "ddp_timeout": "100",
    "debug": "underflow_overflow",
    "dataloader_num_workers": "1",
    "dataloader_persistent_workers": "true",
    "dataloader_prefetch_factor": "1",
    "dataloader_multiprocessing_context": "spawn",
    "disable_tqdm": "false",
    "do_eval": "true",
    "eval_delay": "1",
    "eval_on_start": "true",
    "eval_steps": "3",
    "eval_strategy": "epoch",
    "full_determinism": "true",
    "gradient_checkpointing": "true",
    "log_level": "error",
    "log_level_replica": "error",
    "log_on_each_node": "false",
    "logging_first_step": "true",
    "logging_nan_inf_filter": "false",
    "logging_steps": "3",
    "logging_strategy": "epoch",
    "per_device_eval_batch_size": "3",
    "project": "p",
    "report_to": "none",
    "run_name": "r",
    "save_steps": "2",
    "save_strategy": "epoch",
    "save_total_limit": "1",
    "skip_memory_metrics": "false",
    "torch_empty_cache_steps": "1",
    "trackio_bucket_id": "b",
    "trackio_space_id": "s",
    "trackio_static_space_id": "s",
}
#: What needs more than a run on one CPU, or is tried elsewhere, with the reason.
ELSEWHERE = {
    "output_dir": "every test",
    "resume_from_checkpoint": "test_resume.py, test_adapt.py",
    "torch_compile": "test_gradient_cache.py",
    "torch_compile_backend": "test_gradient_cache.py",
    "torch_compile_mode": "handed to torch.compile with the backend",
    "fp16": "needs a GPU; test_adapt.py plays one",
    "tf32": "needs a GPU",
    "use_cpu": "every test",
    "dataloader_pin_memory": "needs a GPU",
    "hub_token": "read by the Hub's client alone",
    "local_rank": "set by the launcher",
    **dict.fromkeys(
        ("ddp_backend", "ddp_broadcast_buffers", "ddp_bucket_cap_mb", "ddp_find_unused_parameters", "ddp_static_graph"),
        "read by DDP, with several processes",
    ),
    "activation_checkpointing_kwargs": "goes with gradient_checkpointing, refused without",
    "gradient_checkpointing_kwargs": "goes with gradient_checkpointing, refused without",
    "optim_args": "refused with optimisers that read none",
    **dict.fromkeys(("fsdp", "fsdp_config"), "test_sharding.py; refused by adaptation"),
}
#: What goes with the value tried.
WITH = {
    "lr_scheduler_kwargs of adapt": [
        *("--lr_scheduler_type", "cosine_with_min_lr"),
        *("--lr_scheduler_kwargs", '{"min_lr": 5e-5}'),
    ],
    "lr_scheduler_kwargs": ["--lr_scheduler_type", "cosine_with_min_lr"],
    "do_eval": ["--eval_strategy", "epoch"],
    "num_train_epochs": ["--max_steps", "-1"],
    "eval_steps": ["--eval_strategy", "steps"],
    "eval_delay": ["--eval_strategy", "epoch"],
    "eval_on_start": ["--eval_strategy", "epoch"],
    "save_steps": ["--save_strategy", "steps"],
    "save_total_limit": ["--save_strategy", "epoch"],
    "dataloader_persistent_workers": ["--dataloader_num_workers", "1"],
    "dataloader_prefetch_factor": ["--dataloader_num_workers", "1"],
    "dataloader_multiprocessing_context": ["--dataloader_num_workers", "1"],
}
FIELDS = {argument.name: argument for argument in dataclasses.fields(TrainingArguments)}
CLASSES = {"pretrain": CuratedTrainingArguments, "adapt": AdaptTrainingArguments}
#: In adaptation evaluation chooses the weights, and the steps are those of the trainer alone.
STEPS = {"pretrain": ["--max_steps", "7"], "adapt": ["--max_steps", "4"]}


def weights_of(kind: str, folder, corpora, *more: str) -> dict[str, torch.Tensor]:
    """After a run with one seed, and with arguments added."""
    more = (*STEPS[kind], *more)
    torch.manual_seed(0)
    if kind == "pretrain":
        trainer = make_trainer(corpora[kind], folder, *more)
    else:
        base, data = corpora[kind]
        command = words("classification", base, data, folder, *more, "--head_start", "random", "--method", "full")
        arguments = read_arguments(*command)
        task = build_task(arguments, arguments.data.read())
        trainer = build_trainer(arguments, task, identify_base(base))
        # The last weights, not the best.
        trainer.best.weights = {}
        trainer._note_evaluation = lambda figures: trainer.best.weights.update(
            {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
        )
    trainer.train()
    return {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}


@pytest.fixture(scope="module")
def corpora(tiny_corpus, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("arguments")
    rows = {name: [film(start + number) for number in range(24)] for name, start in (("train", 0), ("validation", 100))}
    return {"pretrain": tiny_corpus, "adapt": (save_base(folder / "base"), write_corpus(folder / "data", **rows))}


@pytest.fixture(scope="module")
def plain(corpora, tmp_path_factory) -> dict:
    return {kind: weights_of(kind, tmp_path_factory.mktemp(kind), corpora) for kind in CLASSES}


@pytest.mark.parametrize("kind", CLASSES)
def test_every_field_is_tried_or_refused(kind):
    refused = set(CLASSES[kind].refused)
    tried = LEARNS.keys() | HARMLESS.keys() | ELSEWHERE.keys()
    assert tried | refused >= FIELDS.keys(), f"a new transformers has {sorted(FIELDS.keys() - tried - refused)}"
    assert refused <= FIELDS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("name", LEARNS)
def test_what_changes_the_weights(kind, name, corpora, plain, tmp_path):
    if name in CLASSES[kind].refused:
        pytest.skip("refused, see below")
    more = WITH.get(f"{name} of {kind}", WITH.get(name, []))
    without = weights_of(kind, tmp_path / "without", corpora, *more) if more else plain[kind]
    with_it = weights_of(kind, tmp_path / "with", corpora, *more, f"--{name}", LEARNS[name])
    assert any(not torch.equal(with_it[key], weight) for key, weight in without.items())


@pytest.mark.slow
@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("name", HARMLESS)
def test_what_leaves_the_weights_alone(kind, name, corpora, plain, tmp_path):
    if name in CLASSES[kind].refused:
        pytest.skip("refused, see below")
    with_it = weights_of(kind, tmp_path, corpora, f"--{name}", HARMLESS[name], *WITH.get(name, []))
    for key, weight in plain[kind].items():
        torch.testing.assert_close(with_it[key], weight, atol=1e-6, rtol=0, msg=key)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in CLASSES for name in CLASSES[kind].refused])
def test_what_is_refused_is_named(kind, name, tmp_path):
    default = FIELDS[name].default
    given = (not default) if isinstance(default, bool) and name != "remove_unused_columns" else "something else"
    with pytest.raises(ValueError, match=f"{name} is not supported: "):
        CLASSES[kind](str(tmp_path), use_cpu=True, **{name: given})


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"optim_args": "a=1"}, "optim_args: optim adamw_torch_fused reads none"),
        ({"gradient_checkpointing_kwargs": {"use_reentrant": False}}, "does nothing without gradient_checkpointing"),
        ({"save_strategy": "best"}, "save_strategy best is not supported"),
        ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "lr_scheduler_type reduce_lr_on_plateau is not supported"),
        ({"lr_scheduler_kwargs": {"nonsense": 1}}, "lr_scheduler_kwargs {'nonsense': 1} do not fit"),
        (
            {"lr_scheduler_type": "linear", "lr_scheduler_kwargs": {"min_lr": 5e-6}},
            "do not fit lr_scheduler_type linear",
        ),
        ({"lr_scheduler_type": "warmup_stable_decay"}, "do not fit lr_scheduler_type warmup_stable_decay"),
    ],
)
def test_what_does_nothing_beside_the_others_is_refused(kind, more, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        CLASSES[kind](str(tmp_path), use_cpu=True, **{"eval_strategy": "steps"} | more)


@pytest.mark.parametrize(
    ("schedule", "keywords"),
    [
        *((name, {}) for name in ("linear", "cosine", "polynomial", "constant", "inverse_sqrt")),
        *((name, {"min_lr": 5e-6}) for name in ("cosine_with_min_lr", "cosine_warmup_with_min_lr")),
    ],
)
def test_default_keywords_go_with_schedules_that_have_them(schedule, keywords, tmp_path):
    words = [RECIPE, "--dataset_dir", "x", "--output_dir", str(tmp_path), "--lr_scheduler_type", schedule]
    (args,) = parse_recipe((CuratedTrainingArguments,), _without_models(words))
    assert args.lr_scheduler_kwargs == keywords


def _without_models(words: list[str]) -> list[str]:
    return ["--use_cpu", "true", *words[3:]]
