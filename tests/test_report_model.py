"""The model that writes reports: its image tokens, composition, loading with and without the package, and refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from PIL import Image
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    BertConfig,
    Dinov2WithRegistersConfig,
    LlavaProcessor,
    SiglipVisionConfig,
    pipeline,
)

from modeling_chexficient import (
    CheXficientConfig,
    CheXficientForReportGeneration,
    CheXficientImageProcessor,
    CheXficientModel,
    CheXficientReportConfig,
    report_prompt,
)
from modeling_chexficient.modeling_chexficient_report import patch_tokens
from modeling_chexficient.prompts_chexficient import chat_prompt, image_token_count, prepare_tokenizer
from tests.tiny_models import SIDE, VISION_ONLY, save_tiny_model
from tests.warm import run_without_project
from train.adapt.report_tokenizer import learn_report_tokenizer

REPORT = "No effusion. Mild edema."
_SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 192}
LANGUAGE = {
    "llama": {**_SIZES, "intermediate_size": 32},
    "qwen2": {**_SIZES, "intermediate_size": 32, "num_key_value_heads": 2},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 192},
}
TOWERS = ("dinov2", "registers", "vit", "resnet", "clip", "siglip")


def tokenizer():
    prompts = ["USER: ", "\nASSISTANT:", report_prompt("-", "PA")]
    return learn_report_tokenizer([REPORT] * 5, prompts)


def new_language_model(kind: str = "llama") -> dict:
    return {"model_type": kind, **LANGUAGE[kind]}


def film(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (80, 60), dtype=np.uint8))


def batch(processor, *prompts: str):
    prompts = prompts or (
        chat_prompt(processor, report_prompt(view="PA")),
        chat_prompt(processor, report_prompt("Cough for two weeks.")),
    )
    films = [film(number) for number in range(len(prompts))]
    return processor(images=films, text=list(prompts), padding=True, return_tensors="pt")


def compose(vision, language="llama", **arguments):
    torch.manual_seed(0)
    return CheXficientForReportGeneration.from_vision_language(
        str(vision), new_language_model(language), tokenizer(), **arguments
    )


@pytest.fixture(scope="module")
def towers(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("towers")
    return {kind: save_tiny_model(kind, root / kind) for kind in TOWERS}


@pytest.fixture(scope="module")
def saved(towers, tmp_path_factory) -> Path:
    """A folder as `save_pretrained` of model and processor leaves it."""
    folder = tmp_path_factory.mktemp("saved") / "tiny-report"
    model, processor = compose(towers["registers"])
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    film().save(folder / "film.png")
    return folder


@torch.no_grad()
@pytest.mark.parametrize(("kind", "others"), [("dinov2", 1), ("registers", 5), ("vit", 1), ("siglip", 0)])
def test_image_tokens_are_the_normalised_patches_alone(towers, kind, others):
    model, processor = compose(towers[kind])
    pixels = batch(processor)["pixel_values"]
    source = AutoModel.from_pretrained(towers[kind]).eval()
    source = getattr(source, "vision_model", source)
    extra = {} if kind in ("dinov2", "registers") else {"interpolate_pos_encoding": True}
    whole = source(pixel_values=pixels, **extra).last_hidden_state
    assert whole.shape[1] == others + (SIDE // 14) ** 2
    features = model.get_image_features(pixels)
    torch.testing.assert_close(features.last_hidden_state, whole[:, others:])
    assert len(features.pooler_output) == 2
    torch.testing.assert_close(
        torch.stack(list(features.pooler_output)), model.model.multi_modal_projector(whole[:, others:])
    )


@torch.no_grad()
def test_of_a_convolutional_tower_the_last_map_is_read_row_by_row(towers):
    model, processor = compose(towers["resnet"])
    pixels = batch(processor)["pixel_values"]
    last = AutoModel.from_pretrained(towers["resnet"]).eval()(pixels).last_hidden_state
    assert last.shape[2:] == (7, 7)
    tokens = patch_tokens(model.model.vision_tower, pixels)
    assert torch.equal(tokens[:, 7 * 2 + 3], last[:, :, 2, 3])
    assert image_token_count(processor) == 49
    assert model.config.image_seq_length == 49


@torch.no_grad()
def test_the_norm_that_clip_keeps_for_its_pooled_output_is_applied_to_patches(towers):
    model, processor = compose(towers["clip"])
    pixels = batch(processor)["pixel_values"]
    tower = AutoModel.from_pretrained(towers["clip"]).eval().vision_model
    expected = tower.post_layernorm(tower(pixel_values=pixels).last_hidden_state[:, 1:])
    torch.testing.assert_close(patch_tokens(model.model.vision_tower, pixels), expected)


@pytest.mark.parametrize(
    ("kind", "language"), [*((kind, "llama") for kind in TOWERS), ("vit", "qwen2"), ("resnet", "gpt2")]
)
def test_any_tower_and_language_model_trains_generates_and_comes_back(towers, tmp_path, kind, language):
    model, processor = compose(towers[kind], language)
    inputs = batch(processor)
    model.train()(**inputs, labels=inputs["input_ids"]).loss.backward()
    # A parameter without a gradient would stop distributed training.
    assert [name for name, one in model.named_parameters() if one.grad is None] == []

    model.eval()
    lengths = {"max_new_tokens": 6, "min_new_tokens": 6}
    assert model.generation_config.num_beams == 4
    for beams in (1, 4):
        written = model.generate(**inputs, **lengths, num_beams=beams)
        assert torch.equal(written, model.generate(**inputs, **lengths, num_beams=beams, use_cache=False))
        assert written.shape[1] == inputs["input_ids"].shape[1] + 6
        assert processor.image_token_id not in written[:, -6:]

    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again, same = CheXficientForReportGeneration.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(again(**batch(same)).logits, model(**inputs).logits)
    assert again.generation_config.eos_token_id == processor.tokenizer.eos_token_id


def test_padding_does_not_change_a_report(towers):
    model, processor = compose(towers["dinov2"])
    prompts = (
        chat_prompt(processor, report_prompt(view="PA")),
        chat_prompt(processor, report_prompt("Cough, fever and chest pain for two weeks.")),
    )
    together = model.generate(**batch(processor, *prompts), max_new_tokens=8, min_new_tokens=8)[:, -8:]
    alone = model.generate(**batch(processor, prompts[0]), max_new_tokens=8, min_new_tokens=8)[:, -8:]
    assert torch.equal(together[:1], alone)


@torch.no_grad()
def test_the_towers_of_pretrained_models_are_taken_over(tmp_path):
    """Of a CheXficient folder the vision tower, its preprocessing and its sources; of a language model everything."""
    torch.manual_seed(0)
    vision = Dinov2WithRegistersConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    text = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, vocab_size=20)
    whole = CheXficientModel(CheXficientConfig(vision, text, projection_dim=8)).eval()
    whole.config.pretraining_sources = ["synthetic"]
    whole.save_pretrained(tmp_path / "chexficient")
    CheXficientImageProcessor(28, image_mean=[0.1] * 3, image_std=[0.2] * 3).save_pretrained(tmp_path / "chexficient")
    words = tokenizer()
    language = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **LANGUAGE["llama"], vocab_size=280))
    language.eval().save_pretrained(tmp_path / "language")
    words.save_pretrained(tmp_path / "language")

    model, processor = CheXficientForReportGeneration.from_vision_language(
        str(tmp_path / "chexficient"), str(tmp_path / "language"), image_size=56
    )
    assert (processor.image_processor.size, processor.image_processor.image_mean) == (
        {"shortest_edge": 56},
        [0.1] * 3,
    )
    assert image_token_count(processor) == 16
    assert model.config.pretraining_sources == ["synthetic"]
    for name, weight in whole.vision_model.encoder.state_dict().items():
        assert torch.equal(model.model.vision_tower.encoder.state_dict()[name], weight)
    ids = torch.tensor([words(REPORT)["input_ids"]])
    torch.testing.assert_close(model(input_ids=ids).logits[..., :280], language(input_ids=ids).logits[..., :280])
    assert model.lm_head.weight.shape[0] == len(processor.tokenizer)


def test_a_siglip_tower_of_a_chexficient_model_leaves_its_pooling_behind(tmp_path):
    vision = SiglipVisionConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=28, patch_size=14
    )
    text = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, vocab_size=20)
    CheXficientModel(CheXficientConfig(vision, text, projection_dim=8)).save_pretrained(tmp_path)
    CheXficientImageProcessor(28).save_pretrained(tmp_path)
    model, _ = compose(tmp_path)
    assert not any("head" in name for name, _ in model.model.vision_tower.named_parameters())


def test_lora_on_the_language_model_with_its_projector_comes_back(saved, tmp_path):
    model, processor = CheXficientForReportGeneration.from_pretrained(saved), AutoProcessor.from_pretrained(saved)
    config = LoraConfig(
        r=2,
        target_modules=r".*language_model.*\.(q_proj|v_proj)",
        modules_to_save=["multi_modal_projector"],
        init_lora_weights=False,
    )
    adapted = get_peft_model(model, config).eval()
    trained = {name.split(".")[3] for name, one in adapted.named_parameters() if one.requires_grad}
    assert trained == {"language_model", "multi_modal_projector"}
    with torch.no_grad():
        adapted.get_parameter(
            "base_model.model.model.multi_modal_projector.modules_to_save.default.linear_1.weight"
        ).mul_(2)
        expected = adapted(**batch(processor)).logits
        adapted.save_pretrained(tmp_path)
        base = CheXficientForReportGeneration.from_pretrained(saved).eval()
        plain = base(**batch(processor)).logits
        again = PeftModel.from_pretrained(base, tmp_path).eval()
        assert torch.equal(again(**batch(processor)).logits, expected)
    assert (expected - plain).abs().max() > 1e-3


def test_gradient_checkpointing_gives_the_same_gradients(towers):
    def gradients(checkpointing: bool) -> list[torch.Tensor]:
        model, processor = compose(towers["dinov2"])
        if checkpointing:
            model.gradient_checkpointing_enable()
        inputs = batch(processor)
        model.train()(**inputs, labels=inputs["input_ids"]).loss.backward()
        return [one.grad for one in model.parameters()]

    for plain, checkpointed in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(plain, checkpointed)


def test_half_precision_keeps_its_type(towers, tmp_path):
    model, processor = compose(towers["dinov2"], dtype=torch.bfloat16)
    assert {one.dtype for one in model.parameters()} == {torch.bfloat16}
    assert model(**batch(processor)).logits.dtype == torch.bfloat16
    model.save_pretrained(tmp_path)
    assert CheXficientForReportGeneration.from_pretrained(tmp_path).dtype == torch.bfloat16


def test_prompts_hold_what_is_known():
    instruction = "Write the findings and the impression of this chest X-ray."
    assert report_prompt() == report_prompt(" ", "") == report_prompt(None, "UNKNOWN") == instruction
    assert report_prompt(view="AP") == f"{instruction} View: AP."
    assert report_prompt(" Cough.\nFever. ", "PA") == f"{instruction} View: PA. Indication: Cough. Fever."


def test_the_chat_template_puts_the_image_before_the_text(saved):
    processor = AutoProcessor.from_pretrained(saved)
    assert isinstance(processor, LlavaProcessor)
    asked = f"USER: <image>\n{report_prompt(view='PA')}\nASSISTANT:"
    assert chat_prompt(processor, report_prompt(view="PA")) == asked
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "Any edema?"}, {"type": "image"}]},
        {"role": "assistant", "content": "No."},
        {"role": "user", "content": "Sure?"},
    ]
    assert processor.apply_chat_template(turns, add_generation_prompt=True) == (
        "USER: <image>\nAny edema?\nASSISTANT: No.\nUSER: Sure?\nASSISTANT:"
    )
    processor.chat_template = None
    with pytest.raises(ValueError, match="no chat template"):
        chat_prompt(processor)


def test_auto_classes_and_pipeline_load_the_folder(saved):
    model, processor = AutoModelForImageTextToText.from_pretrained(saved), AutoProcessor.from_pretrained(saved)
    assert isinstance(model, CheXficientForReportGeneration)
    assert isinstance(processor.image_processor, CheXficientImageProcessor)
    tokens = model.generate(**batch(processor, chat_prompt(processor)), max_new_tokens=6)
    write = pipeline("image-text-to-text", model=str(saved))
    assert isinstance(write.model, CheXficientForReportGeneration)
    content = [{"type": "image", "image": film()}, {"type": "text", "text": report_prompt()}]
    chat = write(text=[{"role": "user", "content": content}], max_new_tokens=6, return_full_text=False)
    prompt = write(images=film(), text=chat_prompt(processor), max_new_tokens=6, return_full_text=False)
    expected = processor.tokenizer.decode(tokens[0, -6:], skip_special_tokens=True)
    assert chat[0]["generated_text"].strip() == prompt[0]["generated_text"].strip() == expected.strip()


SCRIPT = """
import json, sys
import torch
from PIL import Image
import transformers as hf

folder, again = sys.argv[1:]
trust = {"trust_remote_code": True}
model = hf.AutoModelForImageTextToText.from_pretrained(folder, **trust)
processor = hf.AutoProcessor.from_pretrained(folder, **trust)
image = Image.open(folder + "/film.png")
content = [{"type": "image", "image": image}, {"type": "text", "text": "Write."}]
prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
inputs = processor(images=image, text=prompt, return_tensors="pt")
with torch.no_grad():
    logits = model(**inputs).logits[0, -1].tolist()
tokens = model.generate(**inputs, max_new_tokens=5)[0].tolist()
write = hf.pipeline("image-text-to-text", model=folder, **trust)
text = write(text=[{"role": "user", "content": content}], max_new_tokens=5, return_full_text=False)
model.save_pretrained(again)
processor.save_pretrained(again)
result = {"modules": [type(one).__module__ for one in (model, model.config, processor.image_processor)],
          "logits": logits, "tokens": tokens, "text": text[0]["generated_text"]}
print("RESULT" + json.dumps(result))
"""


def test_remote_code_equals_the_package(saved, tmp_path):
    done = run_without_project(SCRIPT, [saved, tmp_path / "again"], tmp_path)
    result = json.loads(done.stdout.split("RESULT")[1])
    assert all(module.startswith("transformers_modules.") for module in result["modules"])

    model, processor = AutoModelForImageTextToText.from_pretrained(saved), AutoProcessor.from_pretrained(saved)
    content = [{"type": "image"}, {"type": "text", "text": "Write."}]
    prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    inputs = batch(processor, prompt)
    with torch.no_grad():
        torch.testing.assert_close(torch.tensor(result["logits"]), model(**inputs).logits[0, -1])
    assert result["tokens"] == model.generate(**inputs, max_new_tokens=5)[0].tolist()
    written = processor.tokenizer.decode(result["tokens"][-5:], skip_special_tokens=True)
    assert result["text"].strip() == written.strip()
    # What remote code saves is again a complete folder.
    assert {one.name for one in (tmp_path / "again").iterdir()} == {one.name for one in saved.iterdir()} - {"film.png"}


def test_what_does_not_fit_is_refused(towers, tmp_path):
    make = CheXficientForReportGeneration.from_vision_language
    vision = str(towers["dinov2"])
    with pytest.raises(ValueError, match="has no tokenizer of its own"):
        make(vision, new_language_model())
    with pytest.raises(ValueError, match="image_size 60 is no multiple of the patch size 14"):
        compose(vision, image_size=60)
    with pytest.raises(ValueError, match="choose an image_size that is a multiple of 14"):
        compose(towers["resnet"], image_size=105)
    with pytest.raises(ValueError, match="needs a `model_type` that transformers knows, not None"):
        make(vision, {"hidden_size": 16}, tokenizer())
    granite = {"model_type": "granite", **LANGUAGE["llama"], "num_key_value_heads": 2, "logits_scaling": 4.0}
    with pytest.raises(ValueError, match="of the kind granite scales, clips or shifts its logits"):
        make(vision, granite, tokenizer())
    endless, ending = tokenizer(), tokenizer()
    endless.eos_token = None
    with pytest.raises(ValueError, match="no end-of-text token"):
        make(vision, new_language_model(), endless)
    ending.backend_tokenizer.post_processor = None
    ending.backend_tokenizer.post_processor = type(tokenizer().backend_tokenizer.post_processor)(
        single="$A </s>", special_tokens=[("</s>", ending.eos_token_id)]
    )
    with pytest.raises(ValueError, match="ends every text"):
        prepare_tokenizer(ending)
    with pytest.raises(ValueError, match="vision_feature_layer is -1"):
        CheXficientReportConfig(vision_config=VISION_ONLY["dinov2"], vision_feature_layer=-2)


def test_inputs_that_cannot_be_are_refused(towers):
    model, processor = compose(towers["dinov2"])
    inputs = batch(processor, chat_prompt(processor, report_prompt("long " * 200)))
    length = inputs["input_ids"].shape[1]
    with pytest.raises(ValueError, match=rf"{length} tokens .*\(16 of them of the image\).* 192 positions"):
        model(**inputs)
    with pytest.raises(ValueError, match="normalised floats"):
        model.get_image_features(torch.zeros(1, 3, 56, 56, dtype=torch.uint8))
    with pytest.raises(ValueError, match="vision_feature_layer can only be -1"):
        model.get_image_features(torch.zeros(1, 3, 56, 56), vision_feature_layer=-2)


@pytest.mark.slow
def test_full_size_model_takes_a_step_with_lora(tmp_path):
    """ViT-B/14 at 378 px, whose film takes 729 tokens, under a language model of 512 x 4."""
    torch.manual_seed(0)
    whole = CheXficientConfig(text_config=BertConfig(num_hidden_layers=1, vocab_size=30))
    CheXficientModel(whole).save_pretrained(tmp_path / "base")
    CheXficientImageProcessor().save_pretrained(tmp_path / "base")
    language = {
        **{"model_type": "llama", "hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8},
        **{"intermediate_size": 1024, "max_position_embeddings": 1024},
    }
    model, processor = CheXficientForReportGeneration.from_vision_language(
        str(tmp_path / "base"), language, tokenizer()
    )
    assert image_token_count(processor) == 729
    model.save_pretrained(tmp_path / "report")
    targets = r".*language_model.*\.(q_proj|v_proj)"
    lora = LoraConfig(r=8, target_modules=targets, modules_to_save=["multi_modal_projector"])
    adapted = get_peft_model(model, lora)
    optimiser = torch.optim.AdamW([one for one in adapted.parameters() if one.requires_grad], lr=1e-2)
    inputs = batch(processor, f"{chat_prompt(processor)} {REPORT}")
    losses = []
    for _ in range(2):
        loss = adapted(**inputs, labels=inputs["input_ids"]).loss
        losses.append(loss.item())
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    assert losses[1] < losses[0]
    adapted.eval().save_pretrained(tmp_path / "adapter")
    base = CheXficientForReportGeneration.from_pretrained(tmp_path / "report")
    again = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    with torch.no_grad():
        torch.testing.assert_close(again(**inputs).logits, adapted(**inputs).logits)
