"""What each argument of a run says of resuming: equal, free, or not recorded at all."""

import dataclasses

import pytest
from transformers import TrainingArguments

from tests.training import RECIPE
from train.adapt.__main__ import ARGUMENTS as ADAPTING
from train.adapt.arguments import AdaptTrainingArguments
from train.adapt.reports import ReportArguments
from train.masked_autoencoding.arguments import AutoencoderArguments
from train.pretrain.arguments import ModelArguments
from train.pretrain.run import ARGUMENTS as PRETRAINING
from train.pretrain.training_arguments import CuratedTrainingArguments
from train.runs.arguments import (
    FREE_FIELDS,
    NOT_RECORDED_FIELDS,
    RECORDED,
    RESUME,
    changed_settings,
    is_recorded,
    must_be_equal,
    settings_of_the_result,
)
from train.runs.recipes import parse_recipe

TRAINERS_OWN = {field.name for field in dataclasses.fields(TrainingArguments)}


def named(classes, kind) -> set[str]:
    fields = [field for one_class in classes for field in dataclasses.fields(one_class)]
    return {field.name for field in fields if kind(field)}


def is_free(field) -> bool:
    return is_recorded(field) and not must_be_equal(field)


def is_left_out(field) -> bool:
    return not is_recorded(field)


def test_every_argument_is_equal_free_or_not_recorded():
    """The whole lists: a new argument must be equal until somebody says otherwise, here and at its field."""
    own_free = {"chunk_size", "chunks_in_memory", "on_nonfinite", "max_skipped_in_a_row"}
    own_free |= {"map_sample_size", "curation_report", "report_galleries", "reference_model"}
    assert named(PRETRAINING, is_free) == FREE_FIELDS | own_free
    own_paths = {"dataset_dir", "mixture", "subset", "save_curated_dataset", "max_steps"}
    assert named(PRETRAINING, is_left_out) == NOT_RECORDED_FIELDS | own_paths
    judged = {"eval_strategy", "eval_steps", "eval_delay"}
    assert named(ADAPTING, is_free) == FREE_FIELDS - judged | {"model", "benchmark", "benchmark_data", "resamples"}
    assert named(ADAPTING, is_left_out) == NOT_RECORDED_FIELDS | {"dataset_dir", "mixture", "subset"}
    decisive = {"learning_rate", "seed", "optim", "bf16", "per_device_train_batch_size", "image_size"}
    assert decisive < named(PRETRAINING, must_be_equal)
    assert decisive | judged | {"max_steps", "rank", "label_share"} < named(ADAPTING, must_be_equal)


def test_the_metadata_says_nothing_else():
    for field in (field for one_class in (*PRETRAINING, *ADAPTING) for field in dataclasses.fields(one_class)):
        assert field.metadata.get(RESUME, "equal") in ("equal", "free"), field.name
        assert field.metadata.get(RECORDED, False) is False, field.name


def test_a_field_of_a_later_transformers_must_be_equal():
    @dataclasses.dataclass
    class Later(TrainingArguments):
        a_new_way_to_learn: float = 0.0

    (field,) = (field for field in dataclasses.fields(Later) if field.name == "a_new_way_to_learn")
    assert must_be_equal(field)
    assert TRAINERS_OWN >= FREE_FIELDS | NOT_RECORDED_FIELDS, "the tables name fields that there are"
    assert not FREE_FIELDS & NOT_RECORDED_FIELDS


def test_settings_are_what_differs_from_the_defaults(tmp_path):
    words = [RECIPE, "--dataset_dir", "data", "--output_dir", str(tmp_path), "--hub_token", "secret"]
    more = ["--chunk_size", "4", "--save_steps", "7", "--save_curated_dataset", "elsewhere", "--torch_compile"]
    model, _, training = parse_recipe(PRETRAINING, [*words, *more])
    recorded, compared = changed_settings(model, training), settings_of_the_result(model, training)
    assert (recorded["chunk_size"], recorded["save_steps"], recorded["projection_dim"]) == (4, 7, 16)
    assert recorded["torch_compile"] is compared["torch_compile"] is True
    assert not {"secret", "elsewhere", "data", str(tmp_path)} & {str(value) for value in recorded.values()}
    assert compared["projection_dim"] == 16, "once taken for `project`, where a run is logged to"
    assert recorded.keys() - compared.keys() >= {"chunk_size", "save_steps", "logging_steps"}


@pytest.mark.parametrize("arguments", [CuratedTrainingArguments, AdaptTrainingArguments])
def test_what_no_run_takes_is_refused_with_the_reason(arguments, tmp_path):
    out = str(tmp_path)
    for name in ("auto_find_batch_size", "save_only_model", "save_on_each_node", "push_to_hub"):
        with pytest.raises(ValueError, match=f"{name} is not supported: {arguments.refused[name]}"):
            arguments(out, use_cpu=True, **{name: True})
    made = arguments(out, use_cpu=True, logging_nan_inf_filter=True)
    assert (made.seed, made.save_strategy, made.remove_unused_columns) == (0, "no", False)
    assert not made.logging_nan_inf_filter


@pytest.mark.parametrize("classes", [PRETRAINING, ADAPTING])
@pytest.mark.parametrize("word", ["--help", "--help_all"])
def test_the_help_can_be_printed(classes, word, capsys):
    """A bare % in a help text breaks argparse."""
    with pytest.raises(SystemExit) as end:
        parse_recipe(classes, [word])
    assert end.value.code == 0
    assert "--learning_rate" in capsys.readouterr().out


@pytest.mark.parametrize(("given", "message"), [("{'a': 1}", "which is no JSON"), ("3", "it must be a mapping")])
@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (ModelArguments, "text_config"),
        (ReportArguments, "language_model_config"),
        (AutoencoderArguments, "vision_config"),
    ],
)
def test_configurations_that_are_no_mappings_are_named(arguments, name, given, message):
    with pytest.raises(ValueError, match=f"{name} is {given!r}, {message}"):
        arguments(**{name: given})


def test_the_command_line_takes_back_the_configuration_of_a_recipe(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("vision_config: {model_type: resnet}\ntext_model: texts\n")
    (arguments,) = parse_recipe((ModelArguments,), [str(recipe), "--vision_config", "null", "--vision_model", "films"])
    assert arguments.vision_config is None


@pytest.mark.parametrize("arguments", [CuratedTrainingArguments, AdaptTrainingArguments])
@pytest.mark.parametrize("launched", ["bf16", "fp16"])
def test_the_precision_of_the_launcher_is_an_argument_of_the_run(arguments, launched, tmp_path, monkeypatch):
    """Trainer follows `accelerate launch --mixed_precision`; the record and the resumption follow the arguments."""
    plain = settings_of_the_result(arguments(str(tmp_path), use_cpu=True))
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched)
    made = arguments(str(tmp_path), use_cpu=True)
    assert (made.mixed_precision, getattr(made, launched)) == (launched, True)
    assert changed_settings(made)[launched] is True
    assert settings_of_the_result(made) == plain | {launched: True}, "a run in fp32 must not go on in it"
    other = arguments(str(tmp_path), use_cpu=True, bf16=True)
    assert (other.mixed_precision, other.fp16) == ("bf16", False), "what an argument says counts"


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("ACCELERATE_MIXED_PRECISION", "fp8", "--mixed_precision fp8: take no, bf16 or fp16"),
        (
            "ACCELERATE_DYNAMO_BACKEND",
            "INDUCTOR",
            "--dynamo_backend inductor: launch with no, and give --torch_compile",
        ),
    ],
)
def test_what_the_launcher_alone_decides_is_refused(variable, value, message, tmp_path, monkeypatch):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=message):
        AdaptTrainingArguments(str(tmp_path), use_cpu=True)
