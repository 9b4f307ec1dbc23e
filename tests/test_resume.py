"""A run that is killed and goes on ends bit by bit as one that was left alone."""

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.training import RECIPE, make_trainer, run_recipe, run_without_room
from tests.warm import CONTEXT
from train.pretrain.__main__ import main
from train.runs.checkpoints import MANIFEST_FILE, STAGING, check_same_run, newest_checkpoint, why_incomplete

#: With dropout, so that the random state matters; a checkpoint after every step, so that many kills hit one.
TEXT = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT |= {"intermediate_size": 64, "hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.2}
STEPS = ["--text_config", json.dumps(TEXT), "--save_strategy", "steps", "--save_steps", "1", "--save_total_limit", "3"]
STEPS += ["--max_steps", "16", "--chunk_size", "9", "--curation_report", "false", "--logging_steps", "4"]
LAST = ["--resume_from_checkpoint", "last"]


def words(corpus: Path, out: Path, *more: str) -> list[str]:
    return [RECIPE, "--dataset_dir", str(corpus), "--output_dir", str(out), *STEPS, *more]


def assert_equal_runs(one: Path, other: Path) -> None:
    """Weights, curation and counts, bit by bit."""
    for name in ("model/model.safetensors", "curation_state.safetensors"):
        first, second = load_file(one / name), load_file(other / name)
        assert first.keys() == second.keys()
        # As bytes: equal NaN count as equal.
        assert all(first[key].numpy().tobytes() == second[key].numpy().tobytes() for key in first), name
    runs = [json.loads((run / "run.json").read_text()) for run in (one, other)]
    for name in ("steps", "kept_pairs", "pairs_trained", "pairs_scored", "flops"):
        assert runs[0][name] == runs[1][name], name


@pytest.fixture(scope="module")
def undisturbed(tiny_corpus, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    main(words(tiny_corpus, out))
    return out


def test_a_run_cut_at_every_kind_of_moment_goes_on_exactly(tiny_corpus, undisturbed, tmp_path):
    """After 4 steps (curation), 6 (the switch) and 16 (nothing left to do) of 16."""
    for step in (4, 6, 16):
        out = tmp_path / str(step)
        trainer = make_trainer(tiny_corpus, out, *STEPS)
        end = trainer.callback_handler.on_step_end

        def stop(args, state, control, end=end, step=step, **kwargs):
            control = end(args, state, control, **kwargs)
            control.should_training_stop = state.global_step == step
            control.should_save = True
            return control

        trainer.callback_handler.on_step_end = stop
        trainer.train()
        assert newest_checkpoint(out).name == f"checkpoint-{step}"
        main(words(tiny_corpus, out, *LAST))
        assert_equal_runs(out, undisturbed)


def newest_step(out: Path) -> int:
    return max((int(path.name.split("-")[1]) for path in out.glob("checkpoint-*")), default=0)


def run_and_kill(corpus: Path, out: Path, chooser: random.Random) -> bool:
    """One run in a process of its own, killed some steps on; whether it came to its end instead.

    Counted in checkpoints, so that a busy machine does not decide where it is hit, and then a moment longer, so that
    anything may be under way: a step, a save, the move of a finished checkpoint.
    """
    process = CONTEXT.Process(target=main, args=(words(corpus, out, *LAST),))
    goal = newest_step(out) + chooser.randint(0, 4)
    process.start()
    while process.is_alive() and newest_step(out) < goal:
        time.sleep(0.002)
    time.sleep(chooser.uniform(0, 0.3))
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        return False
    process.join()
    assert process.exitcode == 0
    return True


@pytest.mark.slow
@pytest.mark.parametrize("kills", [4, 25])
def test_kills_at_random_moments_change_nothing(tiny_corpus, undisturbed, tmp_path, kills):
    chooser, killed, number, phases = random.Random(0), 0, 0, set()
    while killed < kills or newest_step(tmp_path / str(number)) > 0:
        out = tmp_path / str(number)
        if run_and_kill(tiny_corpus, out, chooser):
            assert_equal_runs(out, undisturbed)
            number += 1
            continue
        killed += 1
        phases.add("warm-up and curation" if newest_step(out) < 6 else "subset")
    assert number > 0
    assert len(phases) == 2


def test_two_processes_go_on_exactly(tiny_corpus, tmp_path):
    """From within the curation epoch, where a checkpoint was torn and another half written when they were killed."""
    arguments = [*STEPS, "--per_device_train_batch_size", "12", "--save_total_limit", "20"]
    whole = run_recipe(tiny_corpus, tmp_path / "whole", *arguments, processes=2)
    part = tmp_path / "part"
    shutil.copytree(whole, part)
    for step in range(6, 16):
        shutil.rmtree(part / f"checkpoint-{step}")
    (part / "checkpoint-16").rename(part / STAGING)
    (part / "checkpoint-5" / "rng_state_1.pth").write_bytes(b"torn")
    shutil.rmtree(part / "model")
    run_recipe(tiny_corpus, part, *arguments, *LAST, processes=2)
    assert_equal_runs(part, whole)


@pytest.mark.parametrize("step", [3, pytest.param(6, marks=pytest.mark.slow)])
def test_loader_processes_and_accumulated_batches_go_on_exactly(tiny_corpus, tmp_path, step):
    more = ["--dataloader_num_workers", "2", "--gradient_accumulation_steps", "2", "--max_steps", "8"]
    more += ["--save_total_limit", "20"]
    main(words(tiny_corpus, tmp_path / "whole", *more))
    shutil.copytree(tmp_path / "whole", tmp_path / "part")
    for later in range(step + 1, 9):
        shutil.rmtree(tmp_path / "part" / f"checkpoint-{later}")
    main(words(tiny_corpus, tmp_path / "part", *more, *LAST))
    assert_equal_runs(tmp_path / "part", tmp_path / "whole")


@pytest.mark.parametrize("warmup", [pytest.param("0", marks=pytest.mark.slow), "0.3"])
def test_an_offline_choice_goes_on_exactly(tiny_corpus, tmp_path, warmup):
    """From the last step before the choice, and from the first after it."""
    more = [
        "--selection",
        "semdedup",
        "--curation_warmup_share",
        warmup,
        "--max_steps",
        "8",
        "--save_total_limit",
        "20",
    ]
    main(words(tiny_corpus, tmp_path / "whole", *more))
    for step in (4, 5):
        part = tmp_path / f"from-{step}"
        shutil.copytree(tmp_path / "whole", part)
        for later in range(step + 1, 9):
            shutil.rmtree(part / f"checkpoint-{later}")
        main(words(tiny_corpus, part, *more, *LAST))
        assert_equal_runs(part, tmp_path / "whole")


def test_a_torn_checkpoint_is_recognised_and_the_one_before_is_used(tiny_corpus, undisturbed, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(undisturbed, out)
    (out / "checkpoint-16" / "optimizer.pt").write_bytes(b"half")
    (out / "checkpoint-15" / MANIFEST_FILE).unlink()
    with pytest.warns(UserWarning, match=r"checkpoint-1[65] is not whole"):
        assert newest_checkpoint(out).name == "checkpoint-14"
    assert "optimizer.pt has 4 bytes" in why_incomplete(out / "checkpoint-16")
    main(words(tiny_corpus, out, *LAST))
    assert_equal_runs(out, undisturbed)


def test_nothing_to_go_on_from_starts_from_the_beginning(tiny_corpus, undisturbed, tmp_path, capsys):
    main(words(tiny_corpus, tmp_path, *LAST))
    assert "holds no whole checkpoint: starting from the beginning" in capsys.readouterr().out
    assert_equal_runs(tmp_path, undisturbed)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--learning_rate", "1e-3"], r"the run would not be the same any more: learning_rate 0.0001 -> 0.001"),
        (["--super_batch_size", "32"], "super_batch_size 64 -> 32"),
        (["--seed", "4"], "seed"),
        (["--max_steps", "30"], r"any more: schedule subset_steps \d+ -> \d+\. Give"),
        (["--projection_dim", "8"], "projection_dim 16 -> 8"),
    ],
)
def test_another_run_is_not_continued(tiny_corpus, undisturbed, tmp_path, changes, message):
    out = tmp_path / "run"
    shutil.copytree(undisturbed, out)
    with pytest.raises(SystemExit, match=message):
        main(words(tiny_corpus, out, *LAST, *changes))
    assert (out / "run.json").is_file(), "a refusal leaves what is there"


def test_changed_data_and_another_process_count_are_refused(tiny_corpus, undisturbed, tmp_path):
    for name, value, message in (("corpus", "0" * 16, "training data changed"), ("processes", 4, "Start as many")):
        out = tmp_path / name
        shutil.copytree(undisturbed, out)
        file = out / "checkpoint-16" / "run_state.json"
        state = json.loads(file.read_text())
        file.write_text(json.dumps(state | {name: value}))
        manifest = json.loads((out / "checkpoint-16" / MANIFEST_FILE).read_text())
        manifest["run_state.json"] = file.stat().st_size
        (out / "checkpoint-16" / MANIFEST_FILE).write_text(json.dumps(manifest))
        with pytest.raises(SystemExit, match=message):
            main(words(tiny_corpus, out, *LAST))


def test_a_checkpoint_of_another_version_is_refused(tmp_path):
    present = {"corpus": "a", "processes": 1, "settings": {}, "samples_trained": 3}
    check_same_run(tmp_path, present | {"own": {}}, present)
    for lacking in ("own", "samples_trained"):
        state = {name: value for name, value in (present | {"own": {}}).items() if name != lacking}
        with pytest.raises(ValueError, match="written by another version of this code"):
            check_same_run(tmp_path, state, present)


def test_checkpoints_hold_no_pickle_of_arguments_and_every_tensor(tiny_corpus, undisturbed, tmp_path):
    assert not list(undisturbed.rglob("training_args.bin"))
    trainer, checkpoint = make_trainer(tiny_corpus, tmp_path / "run"), tmp_path / "checkpoint"
    shutil.copytree(undisturbed / "checkpoint-16", checkpoint)
    trainer._load_from_checkpoint(checkpoint)
    tensors = load_file(checkpoint / "model.safetensors")
    assert torch.equal(trainer.model.logit_scale, tensors.pop("logit_scale"))
    save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks tensors of the model: \['logit_scale'\]"):
        trainer._load_from_checkpoint(checkpoint)


def test_checkpoints_of_an_earlier_run_are_not_written_over(tiny_corpus, undisturbed, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(undisturbed, out)
    with pytest.raises(SystemExit, match="holds checkpoints of an earlier run: go on with --resume_from_checkpoint"):
        main(words(tiny_corpus, out))


def test_a_full_disk_leaves_the_checkpoint_before(tiny_corpus, undisturbed, tmp_path):
    error = run_without_room("train.pretrain.__main__", words(tiny_corpus, tmp_path), step=7)
    assert "checkpoint-8 could not be saved" in error
    assert "--resume_from_checkpoint last" in error
    assert not (tmp_path / STAGING).exists()
    assert newest_checkpoint(tmp_path).name == "checkpoint-7"
    main(words(tiny_corpus, tmp_path, *LAST))
    assert_equal_runs(tmp_path, undisturbed)
