"""A frozen base in lower precision: what is held in what, that what is saved is what was trained, what is refused."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSemanticSegmentation,
    ViTModel,
)

from eval.models.load import load_evaluation_model
from eval.records.results import load_result
from modeling_chexficient import AdapterSet, CheXficientImageProcessor, load_adapter
from modeling_chexficient.adapter_files_chexficient import read_record
from modeling_chexficient.adapter_snippet_chexficient import loading_snippet
from modeling_chexficient.precision_chexficient import OF_ADAPTERS, check_precision
from tests.adaptation import SIDE, read_arguments, save_base, words
from tests.published_runs import save_tiny_language_model
from tests.test_adapt import discs, make_trainer  # noqa: F401 (a fixture)
from tests.test_adapt_methods import OTHERS
from train.adapt.__main__ import Arguments, main
from train.adapt.arguments import MethodArguments

BF16 = ["--base_precision", "bf16"]
AUTO = {"classification": AutoModelForImageClassification, "segmentation": AutoModelForSemanticSegmentation}


@pytest.fixture(scope="module")
def bases(tmp_path_factory) -> dict:
    root = tmp_path_factory.mktemp("bases")
    return {kind: save_base(root / kind, kind) for kind in ("dinov2", "resnet")}


def pixels() -> torch.Tensor:
    return torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def own_types(model: torch.nn.Module, of_adapter: bool) -> set[torch.dtype]:
    """Of the parameters and saved buffers of the tower that are an adapter's, or that are not."""
    return {
        tensor.dtype
        for name, tensor in model.state_dict().items()
        if "vision_" in name and tensor.is_floating_point() and any(part in name for part in OF_ADAPTERS) == of_adapter
    }


@pytest.mark.parametrize(
    ("task", "kind", "more"),
    [
        ("classification", "dinov2", ["--method", "lora", "--rank", "4", "--head_start", "random"]),
        ("classification", "dinov2", ["--use_dora", "true", "--rank", "4", "--head_start", "random"]),
        ("classification", "resnet", ["--method", "linear"]),
        ("segmentation", "dinov2", ["--method", "linear"]),
        ("segmentation", "resnet", ["--method", "lora", "--rank", "4"]),
    ],
)
@torch.no_grad()
def test_what_is_saved_is_what_was_trained(task, kind, more, bases, discs, tmp_path):  # noqa: F811
    command = words(task, bases[kind], discs, tmp_path / "run", *more, *BF16)
    with torch.enable_grad():
        trainer = make_trainer(*command)
        trainer.train()
        main(command)
    model = trainer.model.eval()
    assert own_types(model.get_base_model(), of_adapter=False) == {torch.bfloat16}
    assert {one.dtype for one in model.parameters() if one.requires_grad} == {torch.float32}
    expected = model(pixel_values=pixels()).logits
    assert expected.dtype == torch.float32
    adapter = tmp_path / "run" / "adapter"
    assert {one.dtype for one in load_file(adapter / "adapter_model.safetensors").values()} <= {
        torch.float32,
        torch.int64,
    }
    assert torch.equal(load_adapter(adapter)(pixel_values=pixels()).logits, expected)
    assert torch.equal(AUTO[task].from_pretrained(adapter).eval()(pixel_values=pixels()).logits, expected)
    in_fp32 = load_adapter(adapter, dtype=torch.float32)(pixel_values=pixels()).logits
    assert not torch.equal(in_fp32, expected)
    torch.testing.assert_close(in_fp32, expected, rtol=0.1, atol=0.2)


def test_eval_sees_what_was_trained_and_the_run_tells(bases, discs, tmp_path):  # noqa: F811
    main(words("classification", bases["dinov2"], discs, tmp_path / "run", *BF16))
    adapter = tmp_path / "run" / "adapter"
    model = load_evaluation_model(str(tmp_path / "run"))
    assert model.model.dtype == torch.bfloat16
    with torch.no_grad():
        assert torch.equal(model.predict_labels(pixels()), load_adapter(adapter)(pixel_values=pixels()).logits)
    assert load_result(tmp_path / "run" / "results" / "discs_findings.json").method == "lora"
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["settings"]["base_precision"] == read_record(adapter).base_precision == "bf16"
    # The lines of a card for peft alone would hold the base in fp32.
    assert "modeling_chexficient import load_adapter" in loading_snippet(adapter)


def test_a_set_tells_of_another_precision(bases, discs, tmp_path):  # noqa: F811
    main(words("classification", bases["dinov2"], discs, tmp_path / "run", *BF16))
    adapter = tmp_path / "run" / "adapter"
    with pytest.warns(UserWarning, match="trained on a base in bf16, this one is in fp32"):
        AdapterSet(bases["dinov2"]).add(adapter, "findings")
    adapters = AdapterSet(bases["dinov2"], dtype=torch.bfloat16)
    adapters.add(adapter, "findings")
    with torch.no_grad():
        expected = load_adapter(adapter)(pixel_values=pixels()).logits
        torch.testing.assert_close(adapters.activate("findings")(pixels()).logits.float(), expected, rtol=0.1, atol=0.1)


def test_a_record_of_fp32_is_that_of_earlier_versions(bases, discs, tmp_path):  # noqa: F811
    main(words("classification", bases["dinov2"], discs, tmp_path / "run"))
    assert "base_precision" not in json.loads((tmp_path / "run" / "adapter" / "chexficient_adapter.json").read_text())


@pytest.mark.parametrize("kind", ["dinov2", "resnet"])
def test_a_run_goes_on_exactly(kind, bases, discs, tmp_path):  # noqa: F811
    more = [*BF16, "--rank", "4", "--max_steps", "6", "--save_strategy", "steps", "--save_steps", "3"]
    main(words("classification", bases[kind], discs, tmp_path / "whole", *more))
    command = words("classification", bases[kind], discs, tmp_path / "part", *more)
    trainer = make_trainer(*command)
    end = trainer.callback_handler.on_step_end

    def stop(args, state, control, **kwargs):
        control = end(args, state, control, **kwargs)
        control.should_training_stop |= state.global_step == 3
        return control

    trainer.callback_handler.on_step_end = stop
    trainer.train()
    with pytest.raises(SystemExit, match="base_precision"):
        main([*command, "--base_precision", "fp32", "--resume_from_checkpoint", "last"])
    main([*command, "--resume_from_checkpoint", "last"])
    whole, part = (load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in ("whole", "part"))
    assert whole.keys() == part.keys()
    assert all(torch.equal(whole[name], part[name]) for name in whole)


def test_what_cannot_be_is_refused_by_name(bases, discs, tmp_path, monkeypatch):  # noqa: F811
    command = words("classification", bases["dinov2"], discs, tmp_path / "run")
    with pytest.raises(ValueError, match=r"base_precision bf16 is of a frozen base .* rounded away"):
        read_arguments(*command, "--method", "full", *BF16)
    for bits in ("8bit", "4bit"):
        with pytest.raises(SystemExit, match=rf"a base in {bits} \(QLoRA\) needs a CUDA GPU.* take bf16"):
            main([*command, "--base_precision", bits])
    with monkeypatch.context() as patched:
        patched.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(ValueError, match="needs the package bitsandbytes"):
            check_precision("4bit", torch.device("cuda"))
    check_precision("bf16", torch.device("cpu"))
    convolutions = words("classification", bases["resnet"], discs, tmp_path / "run", "--rank", "4", *BF16)
    with pytest.raises(SystemExit, match="use_dora on convolutions needs a base in fp32"):
        main([*convolutions, "--use_dora", "true"])
    with pytest.raises(ValueError, match="not in 'int3'"):
        check_precision("int3")


def test_an_adapter_of_a_quantised_base_is_refused_without_a_gpu(bases, discs, tmp_path):  # noqa: F811
    main(words("classification", bases["dinov2"], discs, tmp_path / "run"))
    adapter = tmp_path / "run" / "adapter"
    record = json.loads((adapter / "chexficient_adapter.json").read_text())
    (adapter / "chexficient_adapter.json").write_text(json.dumps(record | {"base_precision": "4bit"}))
    with pytest.raises(ValueError, match=r"needs a CUDA GPU.*dtype=torch.float32\) puts it on the unquantised base"):
        load_adapter(adapter)
    with pytest.raises(ValueError, match="needs a CUDA GPU"):
        AutoModelForImageClassification.from_pretrained(adapter)
    assert load_adapter(adapter, dtype=torch.float32)
    (adapter / "chexficient_adapter.json").write_text(json.dumps(record | {"base_precision": "2bit"}))
    with pytest.raises(ValueError, match="unknown base_precision '2bit'"):
        load_adapter(adapter)


@pytest.mark.parametrize("bits", ["4bit", "8bit"])
@pytest.mark.parametrize("tower", ["chexficient", "vit"])
@torch.no_grad()
def test_a_quantised_base(tower, bits, bases, discs, tmp_path, monkeypatch):  # noqa: F811
    """Where bitsandbytes is; its own kernels for the CPU stand in for a GPU."""
    pytest.importorskip("bitsandbytes")
    for place in ("modeling_chexficient.precision_chexficient", "train.adapt.__main__"):
        monkeypatch.setattr(f"{place}.check_precision", lambda precision, device=None: None)
    base = bases["dinov2"]
    if tower == "vit":
        base = tmp_path / "vit"
        ViTModel(OTHERS["vit"][1]).save_pretrained(base)
        CheXficientImageProcessor(SIDE).save_pretrained(base)
    more = ["--head_start", "random", "--base_precision", bits]
    command = words("classification", base, discs, tmp_path / "run", *more)
    with torch.enable_grad():
        trainer = make_trainer(*command)
        trainer.train()
        main(command)
    layers = trainer.model.get_base_model().vision_model.modules()
    assert {"Linear4bit", "Linear8bitLt"} & {type(layer).__name__ for layer in layers}
    assert type(trainer.model.get_base_model().classifier.modules_to_save["default"]) is torch.nn.Linear
    expected = trainer.model.eval()(pixel_values=pixels()).logits
    adapter = tmp_path / "run" / "adapter"
    assert torch.equal(load_adapter(adapter)(pixel_values=pixels()).logits, expected)
    assert load_evaluation_model(str(tmp_path / "run")).predict_labels(pixels()).isfinite().all()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["flops"] is None
    if tower == "chexficient":
        given = AutoModelForImageClassification.from_pretrained(adapter).eval()
        assert torch.equal(given(pixel_values=pixels()).logits, expected)
        # On the base as it is, without bitsandbytes.
        in_fp32 = load_adapter(adapter, dtype=torch.float32)(pixel_values=pixels()).logits
        torch.testing.assert_close(in_fp32, expected, rtol=0.5, atol=0.5)


@pytest.mark.parametrize("saved_in", [torch.bfloat16, torch.float16, torch.float32])
@torch.no_grad()
def test_a_language_model_is_held_as_it_was_saved(saved_in, bases, tmp_path, tmp_path_factory):
    from tests.test_adapt_reports import reported, write_corpus

    corpus = write_corpus(
        tmp_path / "discs",
        train=[reported(number) for number in range(16)],
        validation=[reported(number) for number in range(100, 104)],
        test=[reported(number, view="AP") for number in range(200, 204)],
    )
    language = tmp_path / "language"
    save_tiny_language_model(language)
    AutoModelForCausalLM.from_pretrained(language).to(saved_in).save_pretrained(language)
    more = ["--language_model", str(language), "--max_text_length", "24", "--adapt_tower", "true"]
    command = words("report_generation", bases["dinov2"], corpus, tmp_path / "run", *more)
    with torch.enable_grad():
        main(command)
    held = torch.float32 if saved_in == torch.float32 else torch.bfloat16
    base = load_file(tmp_path / "run" / "base" / "model.safetensors")
    assert {one.dtype for one in base.values()} == {held}
    adapter = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    assert {one.dtype for one in adapter.values()} == {torch.float32}
    model = load_adapter(tmp_path / "run" / "adapter").get_base_model()
    assert model.model.language_model.embed_tokens.weight.dtype == held
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["facts"]["base_precision"] == ("fp32" if saved_in == torch.float32 else "bf16")
    full = read_arguments(*command, "--method", "full", "--adapt_tower", "false")
    assert isinstance(full, Arguments)
    assert MethodArguments(method="full").base_precision is None
