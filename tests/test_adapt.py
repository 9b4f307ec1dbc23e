"""Whole runs of `train.adapt`: what they write, that they go on exactly, and what they refuse."""

import json
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from eval.models.load import load_evaluation_model
from eval.records.results import load_result
from modeling_chexficient import CheXficientModel
from modeling_chexficient.adapters_chexficient import load_adapter
from modeling_chexficient.base_identity_chexficient import identify_base
from tests.adaptation import film, read_arguments, save_base, words, write_corpus
from tests.tiny_models import save_tiny_model
from tests.training import run_recipe, run_without_room
from train.adapt.__main__ import Arguments, build_task, build_trainer, main
from train.adapt.arguments import METHODS
from train.adapt.findings import FindingsTask
from train.adapt.trainer import AdaptTrainer, trained_tensors
from train.runs.checkpoints import STAGING, newest_checkpoint
from train.runs.nonfinite import NonFiniteError

FEW = ["--labels", "Pleural Effusion", "Cardiomegaly", "No Finding"]
ORGANS = ["--structures", "left_lung", "right_lung", "heart", "tubes=Endotracheal Tube,Nasogastric Tube"]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_base(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def resnet(tmp_path_factory) -> Path:
    return save_base(tmp_path_factory.mktemp("base") / "resnet", "resnet")


@pytest.fixture(scope="module")
def discs(tmp_path_factory) -> Path:
    """48 films with masks and two labels, in three splits."""
    numbers = {"train": range(24), "validation": range(100, 112), "test": range(200, 212)}
    rows = {name: [film(number) for number in of_split] for name, of_split in numbers.items()}
    return write_corpus(tmp_path_factory.mktemp("corpus") / "discs", **rows)


def make_trainer(*command: str) -> AdaptTrainer:
    """A trainer as `adapt` makes it, before training."""
    arguments = read_arguments(*command)
    task = build_task(arguments, arguments.data.read())
    return build_trainer(arguments, task, identify_base(arguments.task.model))


def test_a_run_of_findings(base, tiny_corpus, tmp_path, capsys):
    before = (base / "model.safetensors").read_bytes()
    main(words("classification", base, tiny_corpus, tmp_path / "run", *FEW, "--label_share", "0.5"))
    run, out = json.loads((tmp_path / "run" / "run.json").read_text()), capsys.readouterr().out
    assert (base / "model.safetensors").read_bytes() == before
    assert (run["task"], run["method"], run["label_share"], run["seed"]) == ("image-classification", "lora", 0.5, 0)
    assert run["labels"] == FEW[1:]
    assert run["base"]["name"] == str(base)
    assert f"trainable: {run['trainable_parameters']:,} of {run['all_parameters']:,}" in out
    assert run["trainable_share"] == run["trainable_parameters"] / run["all_parameters"]
    assert run["flops"]["total"] == run["flops"]["trained"] > 0
    assert run["steps"] == 4
    assert run["sources"] == ["synthetic"]
    assert run["adapter_bytes"] == (tmp_path / "run" / "adapter" / "adapter_model.safetensors").stat().st_size
    assert run["validation"]["value"] == run["validation"]["auroc"]
    result = load_result(tmp_path / "run" / "results" / "synthetic_findings.json")
    assert (result.method, result.shares[0].label_share) == ("lora", 0.5)
    assert [one.name for one in result.shares[0].labels] == FEW[1:]
    assert result.adaptation.train_films == run["train_films"] < 0.7 * 240
    names = {path.name for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert not any(name.endswith((".bin", ".pt", ".pth", ".pkl")) for name in names)
    model = load_evaluation_model(str(tmp_path / "run"))
    assert model.label_names == FEW[1:]


@pytest.mark.parametrize("method", METHODS)
def test_what_is_saved_is_what_was_trained(method, resnet, discs, tmp_path):
    command = words("classification", resnet, discs, tmp_path / "run", "--method", method)
    trainer = make_trainer(*command)
    trainer.train()
    main(command)
    pixels = torch.randn(3, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    expected = trainer.model.eval()(pixel_values=pixels).logits
    adapted = load_evaluation_model(str(tmp_path / "run"))
    torch.testing.assert_close(adapted.predict_labels(pixels), expected, atol=1e-6, rtol=1e-6)
    assert (tmp_path / "run" / "adapter").is_dir() == (method != "full")
    assert (tmp_path / "run" / "model").is_dir() == (method == "full")
    if method != "full":
        untouched = load_adapter(tmp_path / "run" / "adapter").unload().vision_model.state_dict()
        original = CheXficientModel.from_pretrained(resnet).vision_model.state_dict()
        assert all(torch.equal(untouched[name], tensor) for name, tensor in original.items())


def test_momentum_is_that_of_sgd(resnet, discs, tmp_path):
    command = words("classification", resnet, discs, tmp_path, "--momentum", "0.9")
    with pytest.raises(ValueError, match="momentum belongs to optim sgd"):
        read_arguments(*command)
    optimiser = make_trainer(*command, "--optim", "sgd", "--weight_decay", "0").create_optimizer()
    assert isinstance(optimiser, torch.optim.SGD)
    assert {(group["momentum"], group["weight_decay"]) for group in optimiser.param_groups} == {(0.9, 0)}


def test_a_run_of_structures(base, tiny_corpus, tmp_path):
    main(words("segmentation", base, tiny_corpus, tmp_path / "run", *ORGANS))
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["labels"] == ["left_lung", "right_lung", "heart", "tubes"]
    assert set(run["validation"]) >= {"dice", "dice_tubes"}
    result = load_result(tmp_path / "run" / "results" / "synthetic_structures.json")
    assert {one.structure for one in result.structures} == set(run["labels"])


def test_a_trained_head_finds_the_disc_and_draws_it(resnet, discs, tmp_path):
    """Not only runs: it learns."""
    more = ["--method", "full", "--max_steps", "60", "--eval_steps", "20", "--learning_rate", "3e-3"]
    main(words("classification", resnet, discs, tmp_path / "findings", *more))
    result = load_result(tmp_path / "findings" / "results" / "discs_findings.json")
    assert result.shares[0].macro.value > 0.9
    main(words("segmentation", resnet, discs, tmp_path / "structures", *more))
    dices = {
        one.structure: one.dice.value
        for one in load_result(tmp_path / "structures" / "results" / "discs_structures.json").structures
    }
    assert dices["box"] > 0.9


def finished_weights(run: Path) -> dict[str, bytes]:
    file = next(iter([*run.glob("adapter/*.safetensors"), *run.glob("model/*.safetensors")]))
    return {name: tensor.numpy().tobytes() for name, tensor in load_file(file).items()}


@pytest.mark.parametrize(("method", "step"), [*product(("lora", "full"), (3, 4, 8)), ("hira", 3)])
def test_a_run_goes_on_exactly(method, step, resnet, discs, tmp_path):
    """After an odd step within an epoch, a judged one, and the last."""
    more = ["--method", method, "--max_steps", "8", "--save_strategy", "steps", "--save_steps", "100"]
    more += ["--per_device_train_batch_size", "5", "--gradient_accumulation_steps", "2"]
    main(words("classification", resnet, discs, tmp_path / "whole", *more))
    command = words("classification", resnet, discs, tmp_path / "part", *more)
    trainer = make_trainer(*command)
    end = trainer.callback_handler.on_step_end

    def stop(args, state, control, **kwargs):
        control = end(args, state, control, **kwargs)
        control.should_training_stop |= state.global_step == step
        control.should_save = state.global_step == step
        return control

    trainer.callback_handler.on_step_end = stop
    trainer.train()
    (tmp_path / "part" / "log.json").write_text("[]")
    assert newest_checkpoint(tmp_path / "part").name == f"checkpoint-{step}"
    main([*command, "--resume_from_checkpoint", "last"])
    assert finished_weights(tmp_path / "part") == finished_weights(tmp_path / "whole")
    runs = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("part", "whole")]
    for name in ("steps", "best_step", "best_epoch", "validation", "flops"):
        assert runs[0][name] == runs[1][name], name


def test_another_run_does_not_go_on_from_a_checkpoint(resnet, discs, tmp_path):
    more = ["--save_strategy", "steps", "--save_steps", "2"]
    command = words("classification", resnet, discs, tmp_path / "run", *more)
    main(command)
    with pytest.raises(SystemExit, match="holds checkpoints of an earlier run"):
        main(command)
    last = ["--resume_from_checkpoint", "last"]
    with pytest.raises(SystemExit, match=r"rank \(default\) -> 4"):
        main([*command, *last, "--rank", "4"])
    with pytest.raises(SystemExit, match=r"label_share \(default\) -> 0\.5"):
        main([*command, *last, "--label_share", "0.5"])


def test_settings_that_change_nothing_that_is_learnt_may_differ(resnet, discs, tmp_path):
    """And those that decide which weights are the best may not."""
    command = words("classification", resnet, discs, tmp_path / "run", "--save_strategy", "steps", "--save_steps", "2")
    main(command)
    moved = tmp_path / "moved"
    shutil.copytree(resnet, moved)
    last = ["--resume_from_checkpoint", "last"]
    main(
        [*command, *last, "--model", str(moved), "--resamples", "4", "--logging_steps", "2", "--save_total_limit", "5"]
    )
    for name, value, message in (("eval_steps", "1", "eval_steps 2 -> 1"), ("max_steps", "6", "max_steps 4 -> 6")):
        with pytest.raises(SystemExit, match=message):
            main([*command, *last, f"--{name}", value])


@pytest.mark.slow
def test_a_full_disk_leaves_the_checkpoint_before(resnet, discs, tmp_path):
    more = ["--method", "full", "--save_strategy", "steps", "--save_steps", "1"]
    command = words("classification", resnet, discs, tmp_path / "run", *more)
    error = run_without_room("train.adapt.__main__", command, step=2)
    assert "checkpoint-3 could not be saved" in error
    assert "make room, then go on with --resume_from_checkpoint last" in error
    assert not (tmp_path / "run" / STAGING).exists()
    assert newest_checkpoint(tmp_path / "run").name == "checkpoint-2"
    main([*command, "--resume_from_checkpoint", "last"])
    main(words("classification", resnet, discs, tmp_path / "whole", *more))
    assert finished_weights(tmp_path / "run") == finished_weights(tmp_path / "whole")
    assert not list(tmp_path.rglob("training_args.bin"))


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_weights_of_the_best_judgement_are_kept(method, resnet, discs, tmp_path):
    """Including running statistics; later ones are worse, and one is no number."""
    trainer = make_trainer(
        *words("segmentation", resnet, discs, tmp_path, "--method", method, "--max_steps", "5", "--eval_steps", "1")
    )
    planned, seen = iter([0.1, 0.3, 0.8, float("nan"), 0.8, 0.5]), []

    def figures(measured):
        seen.append({name: one.detach().clone() for name, one in trained_tensors(trainer.model).items()})
        return {"dice": next(planned)}

    trainer.task.figures = figures
    trainer.train()
    assert (trainer.best.figure, trainer.best.step) == (0.8, 2)
    last = trained_tensors(trainer.model)
    assert all(torch.equal(last[name], seen[2][name]) for name in last)
    assert not all(torch.equal(seen[5][name], seen[2][name]) for name in last)
    assert any("running" in name for name in last)


def test_training_that_makes_it_worse_is_undone(resnet, discs, tmp_path):
    trainer = make_trainer(*words("classification", resnet, discs, tmp_path))
    start = {name: one.detach().clone() for name, one in trained_tensors(trainer.model).items()}
    planned = iter([0.9, 0.8, 0.7])
    trainer.task.figures = lambda measured: {"auroc": next(planned)}
    trainer.train()
    assert trainer.best.step == 0
    assert all(torch.equal(one, start[name]) for name, one in trained_tensors(trainer.model).items())


def test_a_run_that_kept_its_start_says_so(resnet, discs, tmp_path, monkeypatch, capsys):
    for name, planned in {"worse": iter([0.9, 0.8, 0.7]), "better": iter([0.7, 0.8, 0.9])}.items():
        monkeypatch.setattr(FindingsTask, "figures", lambda self, measured, planned=planned: {"auroc": next(planned)})
        main(words("classification", resnet, discs, tmp_path / name))
        run, said = json.loads((tmp_path / name / "run.json").read_text()), "the weights are those of the start"
        assert any(said in note for note in run["notes"]) == (said in capsys.readouterr().out) == (name == "worse")
        assert run["settings"]["max_steps"] == 4


def test_a_label_that_no_test_film_lists_costs_no_other_figure(resnet, tmp_path):
    rows = [film(number, {"Disc": number % 2, "Rare": (number // 2) % 2}) for number in range(36)]
    tested = [film(number, {"Disc": number % 2}) for number in range(100, 112)]
    data = write_corpus(tmp_path / "data", train=rows[:24], validation=rows[24:], test=tested)
    main(words("classification", resnet, data, tmp_path / "run"))
    result = load_result(tmp_path / "run" / "results" / "data_findings.json")
    assert [one.name for one in result.shares[0].labels] == ["Disc"]
    notes = json.loads((tmp_path / "run" / "run.json").read_text())["notes"]
    assert any("so there is no test of them: ['Rare']" in note for note in notes)


def test_a_run_without_progress_stops(resnet, discs, tmp_path):
    more = ["--max_steps", "40", "--eval_steps", "2", "--early_stopping_patience", "3"]
    trainer = make_trainer(*words("classification", resnet, discs, tmp_path, *more))
    planned = iter([0.2, 0.3, 0.8, 0.7, 0.8, 0.1])
    trainer.task.figures = lambda measured: {"auroc": next(planned)}
    trainer.train()
    assert trainer.state.global_step == 10
    assert trainer.best.step == 4


def test_batches_in_parts_are_the_same_batch(resnet, tmp_path):
    """Neither gradient accumulation nor processes change what a step is, where labels are blank here and there, and
    processes have to repeat films at the end of an epoch.
    """
    # Of two films in four one label is unknown.
    values = [(-1, 1), (1, -1), (1, 0), (0, 1)]
    rows = [film(number, dict(zip(("Disc", "Nothing"), values[number % 4], strict=True))) for number in range(37)]
    discs = write_corpus(tmp_path / "data", train=rows[:21], validation=rows[21:29], test=rows[29:])
    still = ["--method", "linear", "--max_steps", "5", "--eval_steps", "5", "--lr_scheduler_type", "constant"]
    still += ["--head_start", "random", "--save_strategy", "steps", "--save_steps", "5"]
    # One step's updates show any factor on the gradient, which Adam would hide.
    still += ["--optim", "sgd", "--max_grad_norm", "0", "--warmup_steps", "0", "--learning_rate", "0.5"]
    kinds = {
        "whole": ["--per_device_train_batch_size", "8"],
        "accumulated": ["--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "2"],
    }
    weights = {}
    for name, more in kinds.items():
        trainer = make_trainer(*words("classification", resnet, discs, tmp_path / name, *still, *more))
        trainer.train()
        weights[name] = {key: one.detach().clone() for key, one in trained_tensors(trainer.model).items()}
    for key, one in weights["whole"].items():
        torch.testing.assert_close(weights["accumulated"][key], one, atol=1e-6, rtol=1e-5, msg=key)

    command = words("classification", resnet, discs, tmp_path / "two", *still, "--per_device_train_batch_size", "4")
    recipe, *more = command
    run_recipe(discs, tmp_path / "two", *more, processes=2, recipe=recipe, program=("-m", "train.adapt"))
    main(words("classification", resnet, discs, tmp_path / "one", *still, *kinds["whole"]))
    runs = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("one", "two")]
    assert [run["processes"] for run in runs] == [1, 2]
    assert runs[0]["validation"]["value"] == pytest.approx(runs[1]["validation"]["value"])
    # What is repeated costs as much as any film.
    assert runs[1]["flops"]["trained"] / 40 == runs[0]["flops"]["trained"] / 37
    one, two = (load_file(tmp_path / name / "checkpoint-5" / "weights.safetensors") for name in ("one", "two"))
    for key, tensor in one.items():
        torch.testing.assert_close(two[key], tensor, atol=1e-6, rtol=1e-5, msg=key)


def task_of(*command: str):
    arguments: Arguments = read_arguments(*command)
    return build_task(arguments, arguments.data.read())


def test_shares_of_the_labels_are_nested_by_patient(base, tiny_corpus, tmp_path):
    rows = []
    for share in ("0.1", "0.5", "1"):
        command = words("classification", base, tiny_corpus, tmp_path, *FEW, "--label_share", share)
        splits = task_of(*command).splits
        rows.append(set(splits.train_rows.tolist()))
        patients = np.asarray(splits.train["patient_id"])
        inside = set(patients[splits.train_rows])
        assert set(np.flatnonzero(np.isin(patients, sorted(inside)))) == rows[-1]
    assert rows[0] < rows[1] < rows[2]
    assert rows[2] == set(range(len(splits.train)))
    other = task_of(*words("classification", base, tiny_corpus, tmp_path, *FEW, "--label_share", "0.1", "--seed", "1"))
    assert set(other.splits.train_rows.tolist()) != rows[0]


def test_what_nobody_judged_is_in_no_loss(base, tmp_path):
    rows = [film(0, {"A": 1, "B": -1}), film(1, {"A": 0}), film(2, {"B": 1, "A": 1}), film(3, {"B": 0, "A": 0})]
    rows += [film(4, {}), film(5, {"A": -1})]
    data = write_corpus(tmp_path / "data", train=rows, validation=rows)
    task = task_of(*words("classification", base, data, tmp_path / "run"))
    # Films without any judgement are left out.
    assert len(task.train_dataset) == 4
    targets = torch.from_numpy(np.stack([task.train_dataset[number]["labels"] for number in range(4)]))
    assert torch.equal(targets.isnan(), torch.tensor([[0, 1], [0, 1], [0, 0], [0, 0]]).bool())
    assert torch.equal(targets.nan_to_num(9), torch.tensor([[1.0, 9], [0, 9], [1, 1], [0, 0]]))
    absent = task_of(*words("classification", base, data, tmp_path / "run", "--unlisted_is_absent", "true"))
    assert len(absent.train_dataset) == 6


@pytest.mark.parametrize(("kind", "expected"), [("pos_weight", [3.0, 1 / 3]), ("effective", [2.9997, 1 / 2.9997])])
def test_rare_findings_weigh_more(kind, expected, base, tmp_path):
    rows = [film(number, {"Rare": int(number % 4 == 0), "Common": int(number % 4 != 0)}) for number in range(12)]
    data = write_corpus(tmp_path / "data", train=rows, validation=rows)
    command = words("classification", base, data, tmp_path / "run", "--class_balance", kind)
    task = task_of(*command)
    torch.testing.assert_close(task.pos_weight, torch.tensor(expected), atol=1e-3, rtol=0)
    capped = task_of(*command, "--max_pos_weight", "2")
    assert capped.pos_weight.tolist() == [2.0, 0.5]
    batch = task.collate([task.train_dataset[number] for number in range(4)])
    plain = task.model(**{key: one for key, one in task.inputs(batch, None).items() if key != "pos_weight"}).loss
    assert task.model(**task.inputs(batch, None)).loss != plain


def test_masks_become_labels(base, tmp_path):
    half = np.zeros((56, 56), np.uint8)
    half[:, :28] = 255
    unsure = half.copy()
    unsure[:8] = 127
    rows = [
        film(0, {"tip": 0}, {"left": half, "right": 255 - half}),
        film(1, {}, {"left": unsure}),
        film(2, {}, {}),
    ]
    data = write_corpus(tmp_path / "data", train=[*rows, film(3, {}, {"tip": half})], validation=rows)
    command = words("segmentation", base, data, tmp_path / "run", "--structures", "left", "all=left,right", "tip")
    task = task_of(*command)
    # Nobody outlined anything in the third film.
    assert task.train_dataset.rows.tolist() == [0, 1, 3]
    batch = task.collate([task.train_dataset[number] for number in range(2)])
    labels = task.inputs(batch, None)["labels"]
    assert set(labels.unique().tolist()) == {0, 1, 255}
    first, second = labels
    assert torch.equal(first[0], torch.from_numpy(half) // 255)
    assert (first[1] == 1).all()
    # Said to be absent, and not outlined by anybody.
    assert (first[2] == 0).all()
    assert (second[2] == 255).all()
    assert (second[0, :8] == torch.where(torch.from_numpy(unsure[:8]) == 127, 255, 0)).all()
    empty = task_of(*command, "--no_mask_is_empty", "true")
    assert len(empty.train_dataset) == 4
    nothing = empty.inputs(empty.collate([empty.train_dataset[2]]), None)["labels"]
    assert (nothing == 0).all()


def test_measured_dice_is_that_of_the_runner(base, discs, tmp_path):
    from eval.tasks.dice import overlaps

    task = task_of(*words("segmentation", base, discs, tmp_path / "run", "--structures", "disc", "box"))
    batch = task.collate([task.train_dataset[number] for number in range(3)])
    batch["masks"][0, 0] = 127
    batch["masks"][1, 1, :9] = 127
    logits = torch.randn(3, 2, 56, 56, generator=torch.Generator().manual_seed(0))
    measured = task.measure(type("Output", (), {"logits": logits}), batch)
    np.testing.assert_array_equal(measured.numpy(), overlaps((logits > 0).numpy(), batch["masks"].numpy()))


def test_without_validation_patients_are_held_out(base, tmp_path, capsys):
    rows = [film(number) for number in range(40)]
    data = write_corpus(tmp_path / "data", train=rows)
    main(words("classification", base, data, tmp_path / "run"))
    out, run = capsys.readouterr().out, json.loads((tmp_path / "run" / "run.json").read_text())
    assert "8 training films of 20% of the patients, sampled by seed 0, were held out" in out
    assert "has no test split: there is no figure but that on validation" in out
    assert any("has no test split" in note for note in run["notes"])
    assert (run["train_films"], run["validation"]["films"]) == (32, 8)
    splits = task_of(*words("classification", base, data, tmp_path / "run")).splits
    assert not set(splits.train_rows) & set(splits.validation_rows)
    held_out, kept = (
        {rows[row]["patient_id"] for row in of_part} for of_part in (splits.validation_rows, splits.train_rows)
    )
    assert not held_out & kept


def refuse(match: str, *command: str) -> None:
    with pytest.raises(SystemExit, match=match):
        main(list(command))


def test_labels_that_cannot_be_learnt_are_refused(base, discs, tmp_path):
    run = tmp_path / "run"
    match = r"labels \['Dics'\] are judged in no training film. 'Dics': did you mean 'Disc'\? There are: \['Disc'"
    refuse(match, *words("classification", base, discs, run, "--labels", "Dics"))
    bare = write_corpus(tmp_path / "bare", train=[film(number, {}) for number in range(8)])
    refuse(r"labels '?\(any\)'? are judged in no training film", *words("classification", base, bare, run))
    sick = [film(number, {"Disc": 1}) for number in range(8)]
    sick = write_corpus(tmp_path / "sick", train=sick, validation=sick)
    refuse("none of what is learnt is both present and absent", *words("classification", base, sick, run))
    one = write_corpus(tmp_path / "one", train=[film(number, patient_id="only") for number in range(8)])
    refuse("all training films are of one patient", *words("classification", base, one, run))
    refuse(r"labels \['Disc'\] are named twice", *words("classification", base, discs, run, "--labels", "Disc", "Disc"))
    assert not run.exists()


def test_labels_that_the_head_lacks_are_refused(resnet, discs, tmp_path):
    """A head that is adapted on keeps its labels."""
    main(words("classification", resnet, discs, tmp_path / "first", "--method", "full", "--labels", "Disc"))
    head = tmp_path / "first" / "model"
    match = r"the head of .*model has no labels \['Nothing'\], only \['Disc'\]"
    refuse(match, *words("classification", head, discs, tmp_path / "run", "--labels", "Disc", "Nothing"))
    main(words("classification", head, discs, tmp_path / "second"))
    assert json.loads((tmp_path / "second" / "run.json").read_text())["labels"] == ["Disc"]


def test_a_finding_that_two_corpora_write_in_two_ways_is_one_output(base, tmp_path):
    parts = [
        write_corpus(
            tmp_path / name,
            train=[film(first + number, {name: number % 2}) for number in range(8)],
            validation=[film(first + number, {name: number % 2}) for number in range(8, 12)],
        )
        for first, name in ((0, "Round_Disc"), (100, "round disc"))
    ]
    command = words("classification", base, parts[0], tmp_path / "run", "--dataset_dir", *map(str, parts))
    for more, labels in (([], ("Round_Disc",)), (["--labels", "Round disc"], ("Round disc",))):
        task = task_of(*command, *more)
        assert task.labels == labels
        assert task.train_dataset.targets[:, 0].tolist() == 8 * [0, 1]
        assert task.validation_dataset.targets[:, 0].tolist() == 4 * [0, 1]


@pytest.mark.parametrize(
    ("task", "argument", "field", "own", "other"),
    [
        ("classification", "image_pooling", "image_pooling", "patches", "normalized"),
        ("segmentation", "decoder", "mask_decoder", "image_unet", "linear"),
    ],
)
def test_a_head_that_the_base_brings_keeps_its_form(task, argument, field, own, other, base, discs, tmp_path):
    """Its weights were put on another feature, or left for a new decoder of random weights, without a word."""
    more = ["--method", "full", "--max_steps", "1", "--eval_steps", "1"]
    main(words(task, base, discs, tmp_path / "first", *more, f"--{argument}", own))
    head = tmp_path / "first" / "model"
    command = words(task, head, discs, tmp_path / "run")
    model = task_of(*command).model
    assert getattr(model.config, field) == own
    trained, loaded = load_file(head / "model.safetensors"), model.state_dict()
    of_head = {name for name in loaded if not name.startswith("vision_model.")}
    assert of_head
    assert all(torch.equal(loaded[name], trained[name]) for name in of_head)
    refuse(f"the head of .* was trained with {argument} {own}, not {other}", *command, f"--{argument}", other)
    config = json.loads((head / "config.json").read_text())
    (head / "config.json").write_text(json.dumps(config | {"problem_type": "single_label_classification"}))
    refuse("was trained as single_label_classification, and here each of", *command)


def test_masks_that_cannot_be_learnt_are_refused(base, discs, tmp_path):
    run = tmp_path / "run"
    match = r"masks \['dics'\] are in no training film. 'dics': did you mean 'disc'\? There are: \['box', 'disc'\]"
    refuse(match, *words("segmentation", base, discs, run, "--structures", "round=dics", "box"))
    refuse("neither NAME nor NAME=MASK,MASK", *words("segmentation", base, discs, run, "--structures", "round="))
    bare = write_corpus(tmp_path / "bare", train=[film(number, masks={}) for number in range(8)])
    refuse(r"masks \(any\) are in no training film. There are: none", *words("segmentation", base, bare, run))
    grey = [film(number, masks={"disc": np.full((56, 56), 100, np.uint8)}) for number in range(8)]
    grey = write_corpus(tmp_path / "grey", train=grey)
    refuse(r"row \d: the mask 'disc' has values other than 0, 127, 255", *words("segmentation", base, grey, run))
    small = [film(number, masks={"disc": np.full((50, 56), 255, np.uint8)}) for number in range(8)]
    small = write_corpus(tmp_path / "small", train=small)
    refuse(r"row \d: the mask 'disc' is 56 x 50 pixels", *words("segmentation", base, small, tmp_path / "other"))


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_damaged_film_is_named_by_its_row(workers, base, tmp_path):
    from datasets import Dataset, Image

    rows = [film(number) for number in range(8)]
    data = write_corpus(tmp_path / "data", train=rows, validation=rows)
    file = data / "train-00000.parquet"
    stored = Dataset.from_parquet(str(file)).cast_column("image", Image(decode=False)).to_list()
    stored[5]["image"]["bytes"] = stored[5]["image"]["bytes"][:40]
    Dataset.from_list(stored).to_parquet(file)
    from tests.adaptation import FEATURES

    Dataset.from_list(stored, features=FEATURES).to_parquet(file)
    more = ["--per_device_train_batch_size", "8", "--dataloader_num_workers", workers]
    with pytest.raises(SystemExit, match=r"^error: the film of row 5 cannot be decoded") as error:
        main(words("classification", base, data, tmp_path / "run", *more))
    assert "discs/5" not in str(error.value)


def test_bases_that_are_none_are_refused(discs, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    refuse("neither a CheXficient model nor a vision tower", *words("classification", empty, discs, tmp_path / "run"))
    missing = tmp_path / "missing"
    refuse("neither a CheXficient model nor a vision tower", *words("classification", missing, discs, tmp_path / "run"))
    text = tmp_path / "text"
    save_tiny_model("dual", text)
    config = json.loads((text / "config.json").read_text())["text_config"]
    (text / "config.json").write_text(json.dumps(config))
    refuse("takes no images alone: name a vision tower", *words("classification", text, discs, tmp_path / "run"))


@pytest.mark.parametrize("kind", ["clip", "vit"])
def test_other_towers_are_bases_too(kind, discs, tmp_path):
    other = save_tiny_model(kind, tmp_path / kind)
    main(words("classification", other, discs, tmp_path / "run"))
    model = load_evaluation_model(str(tmp_path / "run"))
    assert model.predict_labels(torch.randn(2, 3, 56, 56)).shape == (2, 2)


def test_folders_of_others_are_left_alone(base, discs, tmp_path):
    inside = tmp_path / "pretrained"
    shutil.copytree(base, inside / "model")
    refuse("holds the base", *words("classification", inside / "model", discs, inside))
    refuse("holds model of something else than an adaptation", *words("classification", base, discs, inside))
    (inside / "run.json").write_text('{"selection": "quantile"}')
    refuse("of something else than an adaptation", *words("classification", base, discs, inside))
    assert (inside / "model" / "model.safetensors").is_file()


def test_an_earlier_adaptation_is_replaced(base, discs, tmp_path):
    run = tmp_path / "run"
    main(words("classification", base, discs, run, "--method", "full"))
    main(words("classification", base, discs, run, "--method", "linear"))
    assert not (run / "model").exists()
    assert json.loads((run / "run.json").read_text())["method"] == "linear"


@pytest.mark.parametrize(
    ("more", "match"),
    [
        (["--rank", "100"], r"rank 100 is larger than layer vision_model\."),
        (["--label_share", "0"], "label_share is 0.0, it must lie in"),
        (["--benchmark", "nonsense"], "--benchmark nonsense does not evaluate image-classification, these do"),
        (["--benchmark", "synthetic_segmentation"], "does not evaluate image-classification"),
        (["--structures", "heart"], "structures belongs to task segmentation"),
        (["--load_best_model_at_end", "true"], "load_best_model_at_end is not supported"),
        (["--eval_strategy", "no"], "eval_strategy no would leave nothing"),
        (["--language_model", "x"], "belong to task report_generation"),
        (["--max_text_length", "64"], r"\['max_text_length'\] belong to task report_generation"),
        (["--revision", "main", "--rnak", "4"], "rnak"),
        (["--max_pos_weight", "5"], "max_pos_weight limits the weights of class_balance"),
    ],
)
def test_arguments_that_cannot_be(more, match, base, discs, tmp_path):
    refuse(match, *words("classification", base, discs, tmp_path / "run", *more))


@pytest.mark.parametrize(("films", "told"), [(18, True), (20, False)])
def test_a_validation_too_small_to_choose_by_is_told(base, tmp_path, films, told):
    rows = [film(number, {"Disc": number % 2, "Never": 0}) for number in range(40 + films)]
    data = write_corpus(tmp_path / "data", train=rows[:40], validation=rows[40:])
    notes = task_of(*words("classification", base, data, tmp_path / "run")).notes
    expected = f"chosen on {films} films, where no label is both present and absent more than {films // 2} times"
    assert any(expected in note for note in notes) == told


def test_sides_are_not_mirrored(base, tmp_path):
    data = write_corpus(tmp_path / "data", train=[film(number, {"Left effusion": number % 2}) for number in range(8)])
    command = words("classification", base, data, tmp_path / "run", "--horizontal_flip", "true")
    refuse(r"horizontal_flip would exchange the sides of \['Left effusion'\]", *command)


def test_a_head_starts_from_a_probe_of_any_scale(resnet, tmp_path):
    """Features that are a hundred times smaller, off centre, and with labels of one value."""
    from train.adapt.head_start import start_head

    generator = np.random.default_rng(0)
    marks = {number: {"Disc": number % 2, "Never": 0, "Chance": int(generator.integers(2))} for number in range(80)}
    rows = [film(number, labels) for number, labels in marks.items()]
    data = write_corpus(tmp_path / "data", train=rows[:60], validation=rows[60:])
    task = task_of(*words("classification", resnet, data, tmp_path / "run"))
    tower = task.model.vision_model
    pooler = tower.pooler
    tower.pooler = torch.nn.Sequential(pooler, Shift())
    note = start_head(task, torch.device("cpu"), 16)
    assert "logistic regression on 60 films" in note
    batch = task.collate([task.train_dataset[number] for number in range(60)])
    with torch.no_grad():
        logits = task.model(**{"pixel_values": task.inputs(batch, None)["pixel_values"]}).logits
    assert ((logits[:, 0] > 0) == (batch["labels"][:, 0] > 0)).float().mean() > 0.9
    assert (logits[:, 1] < -3).all()
    assert logits[:, 1].std() < 1e-3


class Shift(torch.nn.Module):
    def forward(self, features):
        return features / 100 + 3


def test_mixed_precision(resnet, discs, tmp_path):
    """bf16 in the passes, fp32 in the weights; much the same is learnt."""
    weights = {}
    for name, more in {"fp32": [], "bf16": ["--bf16", "true"]}.items():
        trainer = make_trainer(*words("segmentation", resnet, discs, tmp_path / name, "--method", "full", *more))
        dtypes = set()
        hook = trainer.model.decode_head.head.register_forward_hook(
            lambda module, inputs, output, dtypes=dtypes: dtypes.add(output.dtype)
        )
        trainer.train()
        hook.remove()
        assert dtypes == {torch.bfloat16 if more else torch.float32}
        weights[name] = trained_tensors(trainer.model)
        assert all(one.dtype == torch.float32 for one in weights[name].values() if one.is_floating_point())
    assert trainer.best.figure > 0.2


def test_a_loss_that_is_no_number_ends_the_run(resnet, discs, tmp_path):
    trainer = make_trainer(*words("classification", resnet, discs, tmp_path))
    with torch.no_grad():
        trainer.model.get_base_model().classifier.modules_to_save["default"].bias.fill_(float("nan"))
    trainer.task.figures = lambda measured: {"auroc": 0.5}
    with pytest.raises(FloatingPointError, match="step 0: the loss is NaN or infinite"):
        trainer.train()


@pytest.mark.parametrize("clip", ["0", "1"])
def test_a_gradient_that_is_no_number_ends_the_run_before_it_is_applied(resnet, discs, tmp_path, clip):
    trainer = make_trainer(*words("classification", resnet, discs, tmp_path, "--max_grad_norm", clip))
    before = {name: tensor.detach().clone() for name, tensor in trained_tensors(trainer.model).items()}
    step = trainer.training_step

    def spoil(*args, **kwargs):
        loss = step(*args, **kwargs)
        next(parameter for parameter in trainer.model.parameters() if parameter.grad is not None).grad.fill_(torch.inf)
        return loss

    trainer.training_step = spoil
    with pytest.raises(NonFiniteError, match=r"step 0: a gradient is NaN or infinite.*lower learning_rate"):
        trainer.train()
    parameters = dict(trainer.model.named_parameters())
    assert all(torch.equal(parameters[name], tensor) for name, tensor in before.items() if name in parameters)


def test_infinite_gradients_in_fp16_are_left_to_the_scaler(resnet, discs, tmp_path):
    trainer = make_trainer(*words("classification", resnet, discs, tmp_path))
    parameter = next(one for one in trainer.model.parameters() if one.requires_grad)
    parameter.grad = torch.full_like(parameter, torch.inf)
    trainer.args.fp16 = True
    assert not torch.isfinite(trainer._get_grad_norm(trainer.model))
    assert not torch.isfinite(parameter.grad).any()
    trainer.args.fp16 = False
    with pytest.raises(NonFiniteError):
        trainer._get_grad_norm(trainer.model)
