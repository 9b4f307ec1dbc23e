"""Adapting to reports: tokens and targets, the vocabulary that is learnt, whole runs, and what is refused."""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from data_scripts.schema import DataError
from eval.models.load import load_evaluation_model
from eval.models.report_generator import load_report_generator
from modeling_chexficient import CheXficientForReportGeneration, report_prompt
from modeling_chexficient.prompts_chexficient import chat_prompt, image_token_count
from tests.adaptation import film, read_arguments, save_base, words, write_corpus
from train.adapt.__main__ import build_task, main
from train.adapt.augmentation import Augmentation
from train.adapt.report_texts import IGNORED, ReportEncoder
from train.adapt.report_tokenizer import learn_report_tokenizer

TEXTS = ("No effusion. Normal heart.", "Large disc on the left. No effusion.")
SMALL = {
    **{"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2},
    "max_position_embeddings": 128,
}
SCALED = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
NEW = ["--language_model_config", json.dumps({"model_type": "llama", **SMALL})]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_base(tmp_path_factory.mktemp("base") / "model", "resnet")


def reported(number: int, text: str | None = None, **columns) -> dict:
    """A film whose report says whether it shows a disc."""
    return film(number, report=TEXTS[number % 2] if text is None else text, **columns)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Films with reports, of which one has none and one a long one."""
    train = [reported(number) for number in range(62)] + [reported(62, " "), reported(63, "No effusion. " * 20)]
    judged = [reported(number) for number in range(100, 112)]
    test = [reported(number, view="AP") for number in range(200, 212)]
    return write_corpus(tmp_path_factory.mktemp("corpus") / "discs", train=train, validation=judged, test=test)


def demo_words(base: Path, corpus: Path, out: Path, *more: str) -> list[str]:
    short = ["--label_share", "1", "--max_text_length", "24"]
    return words("report_generation_demo", base, corpus, out, *NEW, *short, *more)


@pytest.fixture(scope="module")
def task(base, corpus, tmp_path_factory):
    arguments = read_arguments(*demo_words(base, corpus, tmp_path_factory.mktemp("run")))
    return build_task(arguments, arguments.data.read())


@pytest.fixture(scope="module")
def language(tmp_path_factory) -> Path:
    """A pretrained language model."""
    folder = tmp_path_factory.mktemp("language") / "tiny-qwen2"
    tokenizer = learn_report_tokenizer(TEXTS * 5, [report_prompt("-", "PA"), "USER:", "\nASSISTANT:"])
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    torch.manual_seed(0)
    config = AutoConfig.for_model("qwen2", **SMALL, **ids, num_key_value_heads=2, vocab_size=len(tokenizer))
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_only_the_report_is_to_be_learnt(task):
    films = [task.train_dataset[position] for position in (0, 1)]
    batch, tokenizer = task.collate(films), task.processor.tokenizer
    assert batch["pixel_values"].dtype == torch.uint8
    assert set(batch) == {"rows", "pixel_values", "input_ids", "attention_mask", "labels"}
    for row, (ids, mask, labels) in enumerate(
        zip(batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True)
    ):
        written = labels[labels != IGNORED]
        assert tokenizer.decode(written, skip_special_tokens=True).strip() == TEXTS[row]
        assert written[-1] == tokenizer.eos_token_id
        # Prompt, image and padding are given, and what is learnt stands where it is read.
        given = ids[(labels == IGNORED) & (mask == 1)]
        assert (given == task.processor.image_token_id).sum() == image_token_count(task.processor)
        asked = tokenizer.decode(given, skip_special_tokens=True)
        assert asked == chat_prompt(task.processor, report_prompt(view="PA")).replace("<image>", "")
        assert torch.equal(ids[labels != IGNORED], written)
        assert (labels[mask == 0] == IGNORED).all()
    assert batch["attention_mask"][0].sum() < batch["attention_mask"][1].sum()


def test_what_is_learnt_begins_where_generation_begins(task):
    """The tokens before the report are those that the processor makes of the prompt."""
    one = task.train_dataset[0]
    prompt = chat_prompt(task.processor, report_prompt(view="PA"))
    made = task.processor(images=one["image"], text=prompt, return_tensors="pt")["input_ids"][0]
    labels, ids = (task.collate([one])[name][0] for name in ("labels", "input_ids"))
    assert torch.equal(ids[labels == IGNORED], made)


def test_reports_that_are_cut_or_missing_are_counted(task):
    assert task.facts == {
        "reports_cut": 1, "max_text_length": 24, "films_without_report": 1, "base_precision": "fp32",
    }  # fmt: skip
    assert task.notes == [
        "1 of 63 training reports were cut to 24 tokens.",
        "1 training films have no report and were left out.",
    ]
    assert 62 not in task.train_dataset.rows
    cut = task.collate([task.train_dataset[len(task.train_dataset) - 1]])["labels"]
    assert (cut != IGNORED).sum() == 24
    assert task.processor.tokenizer.eos_token_id not in cut


def test_the_indication_of_a_film_is_in_its_prompt(task):
    known = {"row": 0, "report": TEXTS[0], "view": "AP", "indication": "Chest pain"}
    prompt, _ = task.encoder.encode(known)
    assert "View: AP. Indication: Chest pain." in task.processor.tokenizer.decode(prompt)


def test_the_figure_is_the_likelihood_of_a_token(task):
    batch = task.collate([task.train_dataset[0], task.train_dataset[1]])
    with torch.no_grad():
        output = task.model(**task.inputs(batch, epoch=None))
        measured = task.measure(output, batch).numpy()
    assert measured.shape == (2, 2)
    assert task.figures(measured)["log_likelihood"] == pytest.approx(-output.loss.item(), rel=1e-4)
    # A film alone, without padding, is as likely as in a batch.
    with torch.no_grad():
        single = task.collate([task.train_dataset[0]])
        alone = task.measure(task.model(**task.inputs(single, epoch=None)), single)
    assert alone[0].tolist() == pytest.approx(measured[0].tolist(), rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"report": " "}, "row 7 has an empty report: leave it out"),
        ({"report": "An <image> of the chest."}, "row 7: a text holds '<image>'"),
        ({"indication": "<image>"}, "row 7: a text holds '<image>'"),
        (
            {"indication": "x " * 60},
            r"row 7: \d+ tokens of image and prompt and \d+ of the report are more than the 128",
        ),
    ],
)
def test_texts_that_cannot_be_learnt_are_refused_by_row(task, changes, message):
    with pytest.raises(DataError, match=message):
        task.encoder.encode({"row": 7, "report": TEXTS[0], "view": "PA", **changes})


def test_a_tokenizer_that_joins_prompt_and_report_is_refused(task):
    def joins(text: str) -> dict:
        return {"input_ids": [len(text)]}

    processor = SimpleNamespace(
        tokenizer=joins,
        image_token="<image>",
        image_processor=task.image_processor,
        patch_size=task.processor.patch_size,
        chat_template="given",
        apply_chat_template=lambda *_, **__: "<image> write:",
    )
    with pytest.raises(DataError, match="row 3: the tokenizer joins the end of the prompt with the report"):
        ReportEncoder(processor, 24, None).encode({"row": 3, "report": "Clear."})


def test_a_learnt_tokenizer_gives_every_text_back(tmp_path):
    tokenizer = learn_report_tokenizer([*TEXTS * 5, "Mr Smith."], ["Write."])
    vocabulary = tokenizer.get_vocab()
    assert "Ġeffusion" in vocabulary
    # A name that one report holds does not go into what is published.
    assert not any("Smith" in word for word in vocabulary)
    assert "Write" in vocabulary
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    odd = "FINDINGS:\n  1.5 cm disc -- “Größe” of Smith's\theart;\r\n\n(No effusion?)  "
    for text in (*TEXTS, odd, "x" * 500):
        for one in (tokenizer, again):
            assert one.decode(one(text)["input_ids"], skip_special_tokens=True) == text
    other = learn_report_tokenizer([*reversed(TEXTS * 5), "Mr Smith."], ["Write."])
    assert other.get_vocab() == vocabulary


def test_a_run_with_a_new_language_model_learns_to_tell_films_apart(base, corpus, tmp_path):
    out = tmp_path / "run"
    longer = ["--max_steps", "60", "--eval_steps", "30", "--learning_rate", "1e-2", "--freeze_tower", "false"]
    main(demo_words(base, corpus, out, *longer))
    run = json.loads((out / "run.json").read_text())
    assert (run["task"], run["method"], run["facts"]["reports_cut"]) == ("report-generation", "full", 1)
    assert -0.5 < run["validation"]["log_likelihood"] < 0
    generator = load_evaluation_model(str(out / "model"))
    films = [film(number)["image"] for number in range(300, 312)]
    written = generator.generate(films, [report_prompt(view="PA")] * 12)
    right = sum(text == TEXTS[number % 2] for number, text in enumerate(written))
    assert right >= 10
    result = json.loads((out / "results" / "discs_reports.json").read_text())
    assert result["decoder"] == {"reports": "generated by the model"}
    assert TEXTS[1] not in (out / "run.json").read_text() + json.dumps(result)


def test_a_run_with_lora_leaves_base_and_language_model_as_they_are(base, corpus, language, tmp_path):
    out = tmp_path / "run"
    held = {one: (one / "model.safetensors").read_bytes() for one in (base, language)}
    command = words("report_generation", base, corpus, out, "--language_model", str(language), "--rank", "2")
    main([*command, "--max_text_length", "24"])
    assert all((one / "model.safetensors").read_bytes() == weights for one, weights in held.items())
    whole = CheXficientForReportGeneration.from_pretrained(out / "base")
    original = AutoModelForCausalLM.from_pretrained(language)
    for name, weight in original.model.layers.state_dict().items():
        assert torch.equal(whole.model.language_model.layers.state_dict()[name], weight)
    adapted = load_evaluation_model(str(out / "adapter"))
    plain = load_report_generator(str(out / "base"))
    one = film(1)["image"]
    assert len(adapted.generate([one])) == 1
    pixels = plain.pixels([one])
    with torch.no_grad():
        before, after = (model.generator.get_image_features(pixels).pooler_output[0] for model in (plain, adapted))
    # The projector is part of the adapter, the tower is not.
    assert (before - after).abs().max() > 1e-4
    torch.testing.assert_close(plain.embed_images(pixels), adapted.embed_images(pixels))

    # What was put together can be adapted further, as a base of its own.
    more = words("report_generation", out / "base", corpus, tmp_path / "more", "--rank", "2", "--max_text_length", "24")
    main(more)
    assert (tmp_path / "more" / "adapter" / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "more" / "base").exists()


def test_generators_ask_about_each_film(task, tmp_path):
    task.model.save_pretrained(tmp_path)
    task.processor.save_pretrained(tmp_path)
    generator = load_report_generator(str(tmp_path))
    generator.max_new_tokens = 4
    films = [film(0)["image"], film(1)["image"]]
    asked = []
    whole = generator.generator.generate

    def generate(**inputs):
        asked.extend(generator.processor.tokenizer.batch_decode(inputs["input_ids"], skip_special_tokens=True))
        return whole(**inputs)

    generator.generator.generate = generate
    prompts = [report_prompt("Cough", "PA"), report_prompt(view="AP")]
    assert len(generator.generate(films, prompts)) == 2
    assert ["Indication: Cough." in asked[0], "View: AP." in asked[1], "Indication" in asked[1]] == [True, True, False]
    long = "pain " * 40
    with pytest.raises(ValueError, match="leaves none of the 128 positions of the language model"):
        generator.generate(films, [report_prompt(long)] * 2)
    generator.generator.config.text_config.rope_parameters = SCALED
    assert len(generator.generate(films, [report_prompt(long)] * 2)) == 2


def test_scaled_rotary_positions_take_longer_reports(task, monkeypatch):
    assert task.encoder.positions == 128
    monkeypatch.setattr(task.model.config.text_config, "rope_parameters", SCALED)
    assert replace(task).encoder.positions == 512


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "report_generation needs language_model"),
        ([*NEW], "a new language model has all to learn: give method full, not lora"),
        ([*NEW, "--language_model", "x"], "not both"),
        (["--language_model", "x", "--max_text_length", "1"], "max_text_length is 1"),
        (["--language_model", "x", "--horizontal_flip", "true"], "horizontal_flip would exchange the sides"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(base, corpus, tmp_path, more, message):
    with pytest.raises(SystemExit, match=message):
        main(words("report_generation", base, corpus, tmp_path, *more))


def test_data_without_reports_are_refused(base, tmp_path):
    silent = write_corpus(tmp_path / "data", train=[reported(number, "") for number in range(4)])
    with pytest.raises(SystemExit, match="none of the 4 training films can be used"):
        main(demo_words(base, silent, tmp_path / "run"))


def test_accumulated_batches_weigh_every_film_alike(task):
    """The figure of several batches is that of all their tokens, not the mean of means."""
    films = [task.train_dataset[position] for position in (0, 1, 2)]
    with torch.no_grad():
        parts = []
        for group in (films[:1], films[1:]):
            batch = task.collate(group)
            parts.append(task.measure(task.model(**task.inputs(batch, None)), batch).numpy())
        batch = task.collate(films)
        whole = task.measure(task.model(**task.inputs(batch, None)), batch).numpy()
    split, together = (task.figures(one)["log_likelihood"] for one in (np.concatenate(parts), whole))
    assert math.isclose(split, together, rel_tol=1e-4)


def test_a_step_in_parts_has_the_gradient_of_all_its_tokens(task):
    """Also where one process has repeated films alone, of which no token counts."""
    films = [task.train_dataset[position] for position in (0, 1, 2)]
    together, *parts = (task.collate(group) for group in (films, films[:1], films[1:], films[:2]))
    task.forget(parts[2], torch.tensor([True, True]))
    judged = task.judged(together, 0)
    assert sum(task.judged(batch, 0) for batch in parts) == judged == sum(film_tokens(task, film) for film in films)

    def gradient(batches) -> dict[str, torch.Tensor]:
        task.model.zero_grad()
        for batch in batches:
            task.loss(task.model, task.inputs(batch, 0), judged).backward()
        return {name: weight.grad.clone() for name, weight in task.model.named_parameters() if weight.grad is not None}

    plain = task.model(**task.inputs(together, 0)).loss
    torch.testing.assert_close(task.loss(task.model, task.inputs(together, 0), judged), plain)
    one, several = gradient([together]), gradient(parts)
    assert one.keys() == several.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(several[name], tensor, atol=1e-6, rtol=1e-4, msg=name)


def film_tokens(task, film: dict) -> int:
    """Tokens of a film's report, its end included."""
    return int((task.collate([film])["labels"] != -100).sum())


def test_augmentation_changes_training_films_alone(task):
    batch = task.collate([task.train_dataset[0]])
    assert not task.augmentation.changes_anything
    task = replace(task, augmentation=Augmentation())
    moved, same = task.inputs(batch, epoch=0)["pixel_values"], task.inputs(batch, epoch=None)["pixel_values"]
    assert moved.shape == same.shape
    assert not torch.equal(moved, same)
