"""Reports from files, generators and neighbours; their scores and baselines; what is refused."""

import json
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from PIL import Image
from transformers import (
    BitImageProcessorPil,
    Dinov2Config,
    Dinov2Model,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    ResNetConfig,
    ResNetModel,
)

from data_scripts.schema import DataError
from eval.artifacts import load_artifact
from eval.benchmarks import Benchmark
from eval.models.encoders import EvaluationModel
from eval.models.report_generator import ReportGenerator, load_report_generator
from eval.records.results import ReportResult
from eval.settings import EvaluationSettings
from eval.tasks.optional_text_metrics import attempt, bertscore, chexbert, meteor, radgraph
from eval.tasks.report_generation import (
    MOST_FREQUENT,
    NEAREST,
    generate_reports,
    most_frequent,
    nearest_rows,
    read_predictions,
    rows_with_report,
    run,
)
from eval.tasks.report_scores import score_findings, score_reports

REPORTS = Benchmark("reports", 1, "report_generation")
TEXTS = ("Mild edema. No effusion.", "Clear lungs. Normal heart.", "Large pleural effusion on the left.")


def processor(size: int = 32) -> BitImageProcessorPil:
    return BitImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})


@pytest.fixture(scope="module")
def encoder() -> EvaluationModel:
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    return EvaluationModel(ResNetModel(config).eval(), processor())


def film(kind: int, number: int) -> Image.Image:
    """Films of a kind are alike, and those of different kinds are not."""
    pixels = np.random.default_rng(number).normal(0, 4, (32, 32)) + 20
    pixels[:, 10 * kind : 10 * kind + 8] += 180
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def split(kinds: list[int], start: int, texts=TEXTS) -> Dataset:
    return Dataset.from_dict(
        {
            "image": [film(kind, start + number) for number, kind in enumerate(kinds)],
            "report": [texts[kind] for kind in kinds],
            "record_id": [f"made/{start + number}" for number in range(len(kinds))],
            "patient_id": [f"patient {(start + number) // 2}" for number in range(len(kinds))],
            "view": ["PA" if number % 2 else "AP" for number in range(len(kinds))],
        }
    )


@pytest.fixture(scope="module")
def splits() -> DatasetDict:
    return DatasetDict(train=split([0, 1, 1, 2, 1, 0, 2], 100), test=split([0, 1, 2, 2, 0, 1] * 4, 200))


def test_an_encoder_alone_takes_the_report_of_the_nearest_film(encoder, splits, tmp_path):
    result = run(REPORTS, encoder, splits, EvaluationSettings(resamples=30, out=tmp_path, show_films=True))
    assert result.scores.bleu4.value == pytest.approx(1)
    assert result.scores.f1_micro.value == 1
    assert result.baselines[NEAREST] == result.scores
    assert result.decoder == {"reports": "of the nearest training film: the model generates no text"}
    # The most frequent report is right for a third of the films, and never finds edema or effusion.
    constant = result.baselines[MOST_FREQUENT]
    assert constant.distinct == pytest.approx(1 / 24)
    assert constant.rouge_l.value < 0.6
    assert constant.f1_five_micro.value == 0
    assert {(one.attribute, one.value, one.films) for one in result.subgroups} == {
        ("view", "AP", 12),
        ("view", "PA", 12),
    }
    assert all(one.estimate.value == 1 for one in result.subgroups)
    assert any("meteor was not computed" in note for note in result.notes)
    assert result.scores.meteor is None
    result.save(tmp_path / "reports.json")
    assert ReportResult.load(tmp_path / "reports.json") == result
    assert "effusion" not in (tmp_path / "reports.json").read_text().replace("Pleural Effusion", "")

    arrays, values = load_artifact(tmp_path, "reports")
    assert arrays["rouge_l"].shape == arrays["words"].shape == arrays["reference_words"].shape == (24,)
    assert arrays["films"].shape == (6, 224, 224)
    assert values["generated"] == values["references"] == values["baselines"][NEAREST]
    assert values["baselines"][MOST_FREQUENT] == [TEXTS[1]] * 6


def test_texts_stay_out_of_artifacts_unless_they_may_be_shown(encoder, splits, tmp_path):
    run(REPORTS, encoder, splits, EvaluationSettings(resamples=5, out=tmp_path))
    arrays, values = load_artifact(tmp_path, "reports")
    assert "films" not in arrays
    assert set(values) == {"places"}
    assert b"ffusion" not in (tmp_path / "artifacts" / "reports.safetensors").read_bytes()


def predictions_file(path, pairs: dict[str, str]):
    path.write_text("".join(json.dumps({"record_id": one, "report": text}) + "\n" for one, text in pairs.items()))
    return path


def test_a_file_of_predictions_is_scored_in_the_order_of_the_films(encoder, splits, tmp_path):
    ids, truth = splits["test"]["record_id"][:], splits["test"]["report"][:]
    shuffled = dict(sorted(zip(ids, truth, strict=True), key=lambda pair: pair[0][::-1]))
    path = predictions_file(tmp_path / "p.jsonl", {**shuffled, "made/of another split": "x"})
    result = run(REPORTS, encoder, splits, EvaluationSettings(resamples=5, predictions=path))
    assert result.scores.bleu1.value == 1
    assert result.decoder == {"reports": "file of predictions"}
    assert set(result.baselines) == {MOST_FREQUENT, NEAREST}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("{", "line 1: no JSON"),
        ('{"record_id": "a", "report": "x"}\n["b"]', "line 2: expected"),
        ('{"record_id": "a"}', "line 1: expected"),
        ('{"record_id": "a", "report": null}', "line 1: expected"),
        ('{"record_id": "a", "report": "x"}\n\n{"record_id": "a", "report": "y"}', "line 3: the film of this line was"),
        ('{"record_id": "a", "report": "x"}', "reports of 1 of 2 films are missing, first that of row 1"),
    ],
)
def test_malformed_predictions_are_refused(tmp_path, lines, message):
    path = tmp_path / "p.jsonl"
    path.write_text(lines)
    with pytest.raises(DataError, match=message):
        read_predictions(path, ["a", "b"])


def test_predictions_may_hold_any_character(tmp_path):
    report = "clear\u2028\x85no effusion"
    (tmp_path / "p.jsonl").write_text(f'\ufeff{{"record_id": "a", "report": "{report}"}}\n', encoding="utf-8")
    assert read_predictions(tmp_path / "p.jsonl", ["a"]) == [report]


def test_what_cannot_be_scored_is_refused(encoder, splits, tmp_path):
    settings = EvaluationSettings(resamples=5)
    with pytest.raises(ValueError, match=r"--predictions .*none.jsonl: there is no such file"):
        EvaluationSettings(predictions=tmp_path / "none.jsonl")
    alone = DatasetDict(test=splits["test"])
    with pytest.raises(ValueError, match="generates no text and there are no training reports"):
        run(REPORTS, encoder, alone, settings)
    silent = DatasetDict(test=split([0, 1], 0, texts=("", " . ")))
    with pytest.raises(ValueError, match="no film of split 'test' has a report"):
        run(REPORTS, encoder, silent, settings)
    with pytest.raises(DataError, match="column 'report' is missing"):
        rows_with_report(splits["test"].remove_columns("report"))


def test_without_training_reports_there_are_no_baselines_and_it_is_said(encoder, splits, tmp_path):
    test = split([0, 1, 2], 0, texts=("Mild edema.", "", "Clear."))
    path = predictions_file(tmp_path / "p.jsonl", {"made/0": "Mild edema.", "made/2": ""})
    result = run(REPORTS, encoder, DatasetDict(test=test), EvaluationSettings(resamples=5, predictions=path))
    assert result.baselines == {}
    assert result.notes[:2] == [
        "1 of 3 films have no report and were left out.",
        "There are no training reports, so there are no baselines.",
    ]
    assert result.scores.mean_words == 1
    assert result.provenance.films == 2


def test_anything_that_generates_is_asked_for_reports(encoder, splits):
    model = EvaluationModel(encoder.model, encoder.image_processor)
    seen = []

    def generate(images):
        seen.append(len(images))
        return [f"Report {len(seen)}." for _ in images]

    model.generate = generate
    reports = generate_reports(model, splits["test"], batch_size=10)
    assert seen == [10, 10, 4]
    assert reports == ["Report 1."] * 10 + ["Report 2."] * 10 + ["Report 3."] * 4
    result = run(REPORTS, model, splits, EvaluationSettings(resamples=5))
    assert result.decoder == {"reports": "generated by the model"}
    model.generate = lambda images: ["one for all"]
    with pytest.raises(ValueError, match="gave 1 reports for 10 films"):
        generate_reports(model, splits["test"], batch_size=10)


def test_a_generator_that_takes_prompts_is_told_view_and_indication(encoder, splits):
    asked = []

    class Listener(EvaluationModel):
        def generate(self, images, prompts=None):
            asked.extend(prompts)
            return ["Mild edema."] * len(images)

    model = Listener(encoder.model, encoder.image_processor)
    told = splits["test"].select(range(5)).add_column("indication", ["Cough.", "", None, "Cough.", "Fall"])
    told = told.map(lambda row, number: {"view": "UNKNOWN" if number == 4 else row["view"]}, with_indices=True)
    generate_reports(model, told, batch_size=2)
    instruction = "Write the findings and the impression of this chest X-ray."
    assert asked == [
        f"{instruction} View: AP. Indication: Cough.",
        f"{instruction} View: PA.",
        f"{instruction} View: AP.",
        f"{instruction} View: PA. Indication: Cough.",
        f"{instruction} Indication: Fall.",
    ]
    asked.clear()
    generate_reports(model, told.remove_columns(["view", "indication"]), batch_size=5)
    assert asked == [instruction] * 5


@pytest.fixture(scope="module")
def llava() -> tuple:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    torch.manual_seed(0)
    words = ["<pad>", "<unk>", "<s>", "</s>", "<image>", "describe", *TEXTS[0].lower().split()]
    raw = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    raw.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    vision = Dinov2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, patch_size=8, image_size=32)
    text = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    text.pad_token_id, text.bos_token_id, text.eos_token_id = 0, 2, 3
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_id=4, vision_feature_layer=-1)
    images = LlavaProcessor(processor(), tokenizer, patch_size=8, num_additional_image_tokens=1, image_token="<image>")
    images.vision_feature_select_strategy = "default"
    return LlavaForConditionalGeneration(config).eval(), images


def test_an_image_text_to_text_folder_writes_reports_and_embeds_films(llava, splits, tmp_path):
    model, images = llava
    model.save_pretrained(tmp_path)
    images.save_pretrained(tmp_path)
    generator = load_report_generator(str(tmp_path), prompt="<image> describe")
    generator.max_new_tokens = 5
    # Words alone, since weights of chance would end at once.
    generator.generator.generation_config.suppress_tokens = [0, 1, 2, 3, 4, 5]
    films = [film(0, 1), film(2, 2)]
    reports = generator.generate(films)
    assert len(reports) == 2
    assert all(len(text.split()) == 5 for text in reports)
    assert {word for text in reports for word in text.split()} <= set(TEXTS[0].lower().split())
    assert reports == [generator.generate([one])[0] for one in films]
    tower = EvaluationModel(Dinov2Model(model.config.vision_config).eval(), processor())
    tower.model.load_state_dict(model.base_model.vision_tower.state_dict())
    torch.testing.assert_close(
        generator.embed_images(generator.pixels(films)), tower.embed_images(tower.pixels(films)), atol=1e-5, rtol=1e-5
    )
    assert len(generator.weights_sha256) == 64
    few = DatasetDict({name: one.select(range(4)) for name, one in splits.items()})
    result = run(REPORTS, generator, few, EvaluationSettings(resamples=5))
    assert result.decoder == {"reports": "generated by the model"}
    with pytest.raises(ValueError, match="no chat template: give a prompt"):
        load_report_generator(str(tmp_path))


def test_a_chat_template_makes_the_prompt(llava):
    model, images = llava
    images.chat_template = (
        "{% for m in messages %}{% for c in m.content %}{{ c.text or '<image>' }} {% endfor %}{% endfor %}"
    )
    assert ReportGenerator(model, images).prompt == (
        "<image> Write the findings and the impression of this chest X-ray. "
    )


def test_most_frequent_report_counts_words_not_writing():
    assert most_frequent(["b", "A b.", "c", "a  B"]) == "A b."


def test_nearest_rows_equal_the_whole_matrix(monkeypatch):
    queries, candidates = (torch.nn.functional.normalize(torch.randn(n, 5), dim=1) for n in (37, 11))
    expected = (queries @ candidates.T).argmax(dim=1).tolist()
    monkeypatch.setattr("eval.tasks.report_generation._BLOCK", 30)
    assert nearest_rows(queries, candidates) == expected


def test_scores_by_hand(few_patients):
    generated = ["Mild edema. Mild edema.", "Clear lungs."]
    references = ["Mild edema.", "Left pleural effusion."]
    scores, _ = score_reports(generated, references, np.array(["a", "b"]), resamples=40, seed=0)
    # Two of six words are right; six against five words: no penalty.
    assert scores.bleu1.value == pytest.approx(2 / 6)
    assert scores.bleu4.value == 0
    assert scores.rouge_l.value == pytest.approx((2 * 2 / 6 + 0) / 2)
    # Edema is right, No Finding told wrongly, Pleural Effusion missed.
    assert scores.f1_micro.value == pytest.approx(2 / 4)
    assert scores.f1_macro.value == pytest.approx(1 / 3)
    assert scores.f1_five_micro.value == pytest.approx(2 / 3)
    assert scores.f1_five_macro.value == pytest.approx(1 / 2)
    assert scores.mean_words == 3
    assert scores.repeated == 0
    assert scores.optional["repeated_sentences"] == pytest.approx((1 / 2 + 0) / 2)
    # Resamples of two patients: both, or one of them twice.
    assert (scores.f1_micro.low, scores.f1_micro.high) == (0, 1)
    findings = {one.name: one for one in score_findings(generated, references)}
    assert (findings["Edema"].precision, findings["Edema"].recall, findings["Edema"].f1) == (1, 1, 1)
    effusion = findings["Pleural Effusion"]
    assert (effusion.references, effusion.generated, effusion.recall, effusion.f1) == (1, 0, 0, 0)
    assert effusion.precision is None
    assert findings["Fracture"].f1 is None


def test_another_convention_is_reported_beside_ours_and_changes_no_figure(encoder, splits, tmp_path):
    lines = [{"record_id": one, "report": "Normal."} for one in splits["test"]["record_id"]]
    path = tmp_path / "reports.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    settings = EvaluationSettings(resamples=20, predictions=path, text_conventions=("r2gen_iu",))
    result, plain = (run(REPORTS, encoder, splits, one) for one in (settings, replace(settings, text_conventions=())))
    assert list(plain.conventions) == ["words"]
    assert plain.scores.by_convention == {}
    assert list(result.conventions) == ["words", "r2gen_iu"]
    assert "fewer than 3 times" in result.conventions["r2gen_iu"]
    ours = replace(result.scores, by_convention={}, optional=plain.scores.optional)
    assert ours == plain.scores
    figures = result.scores.by_convention["r2gen_iu"]
    assert list(figures) == ["bleu1", "bleu2", "bleu3", "bleu4", "rouge_l"]
    # At least the full stop is shared.
    assert 0 < figures["bleu1"].low <= figures["bleu1"].value <= figures["bleu1"].high
    assert figures["rouge_l"].value > plain.scores.rouge_l.value
    assert result.baselines[NEAREST].by_convention["r2gen_iu"]["bleu4"].value == pytest.approx(1)
    result.save(tmp_path / "reports.json")
    assert ReportResult.load(tmp_path / "reports.json") == result
    with pytest.raises(ValueError, match="there are none"):
        run(REPORTS, encoder, DatasetDict(test=splits["test"]), settings)


def test_optional_metrics_say_why_they_are_missing():
    for metric, package in ((bertscore, "bert_score"), (radgraph, "radgraph"), (chexbert, "f1chexbert")):
        assert attempt(metric, ["a"], ["a"]) == (
            None,
            f"{metric.__name__} was not computed: No module named {package!r}",
        )


def test_optional_metrics_run_offline_where_their_package_is(monkeypatch):
    """Stand-ins with the packages' calling conventions."""
    import huggingface_hub.constants as hub

    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", False)
    offline = []

    def score(generated, references, model_type):
        offline.append(hub.HF_HUB_OFFLINE)
        return None, None, torch.tensor([0.5] * len(generated))

    def average(value):
        return {f"{mean} avg": {"f1-score": value} for mean in ("micro", "macro")}

    packages = {
        "bert_score": {"score": score},
        "radgraph": {"F1RadGraph": lambda reward_level: lambda hyps, refs: (0.25, [0.2, 0.3], None, None)},
        "f1chexbert": {"F1CheXbert": lambda: lambda hyps, refs: (0, 0, average(0.7), average(0.6))},
    }
    for name, contents in packages.items():
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(**contents))
    scores, _ = score_reports(["a", "b"], ["a", "c"], np.arange(2), resamples=5, seed=0)
    assert scores.optional == {
        "repeated_sentences": 0,
        "bertscore": 0.5,
        "radgraph": 0.25,
        **{"chexbert_14_micro": 0.7, "chexbert_14_macro": 0.7, "chexbert_5_micro": 0.6, "chexbert_5_macro": 0.6},
    }
    assert offline == [True]
    assert hub.HF_HUB_OFFLINE is False

    def broken(generated, references):
        raise OSError("\nnot in the cache\nmore")

    assert attempt(broken, [], []) == (None, "broken was not computed: OSError, not in the cache")
    assert hub.HF_HUB_OFFLINE is False


def test_meteor_has_an_interval_where_nltk_and_wordnet_are(monkeypatch, few_patients):
    def single(references, words):
        return float(len(set(references[0]) & set(words)))

    modules = {
        "nltk": {},
        "nltk.corpus": {"wordnet": SimpleNamespace(ensure_loaded=lambda: None)},
        "nltk.translate": {},
        "nltk.translate.meteor_score": {"meteor_score": single},
    }
    for name, contents in modules.items():
        module = ModuleType(name)
        module.__dict__.update(contents)
        monkeypatch.setitem(sys.modules, name, module)
    values, reason = attempt(meteor, ["The heart.", "x"], ["the HEART is big", "y"])
    assert values.tolist() == [2, 0]
    assert reason is None
    scores, notes = score_reports(["The heart.", "x"], ["the HEART is big", "y"], np.arange(2), resamples=20, seed=0)
    assert (scores.meteor.value, scores.meteor.low, scores.meteor.high) == (1, 0, 2)
    assert not any("meteor" in note for note in notes)
    assert replace(scores, meteor=None).bleu1.value == scores.bleu1.value
