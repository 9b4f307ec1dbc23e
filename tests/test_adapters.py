"""Adapters come back as they were saved, on their own base and on no other."""

import json
import shutil
from dataclasses import asdict

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from eval.models.load import load_evaluation_model
from modeling_chexficient import CheXficientForImageClassification, base_identity_chexficient
from modeling_chexficient.adapters_chexficient import identify_base, load_adapter, save_adapter, weights_sha256
from modeling_chexficient.base_identity_chexficient import tower_sha256, vision_tower
from tests.adapter_files import ATTENTION, CONVOLUTIONS, HIRA, make_adapter, make_report_model, pixels, save_base

WEIGHTS, CONFIG, RECORD = "adapter_model.safetensors", "adapter_config.json", "chexficient_adapter.json"
TASKS = ("image-classification", "semantic-segmentation")
METHODS = {
    "lora": ("dinov2", ATTENTION),
    "rslora": ("dinov2", {**ATTENTION, "use_rslora": True}),
    "dora": ("dinov2", {**ATTENTION, "use_dora": True}),
    "hira": ("dinov2", HIRA),
    "linear": ("dinov2", {}),
    "vit": ("vit", ATTENTION),
    "convolutions": ("resnet", CONVOLUTIONS),
    "convolutions by hira": ("resnet", {**CONVOLUTIONS, "hira": True}),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_base(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory):
    return make_adapter(base, tmp_path_factory.mktemp("adapter") / "adapter", **ATTENTION)


@pytest.fixture
def broken(adapter, tmp_path):
    """A copy of the adapter, to be broken."""
    return shutil.copytree(adapter.folder, tmp_path / "broken")


def edit_json(file, **fields):
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


@torch.no_grad()
def logits(model):
    return model(pixel_values=pixels()).logits


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("method", METHODS)
def test_round_trip(tmp_path, method, task):
    kind, lora = METHODS[method]
    base = save_base(tmp_path / "model", kind)
    before = weights_sha256(base)
    saved = make_adapter(base, tmp_path / "adapter", task, **lora)
    loaded = load_adapter(tmp_path / "adapter", task=task)
    assert torch.equal(logits(loaded), saved.logits)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    head = loaded.get_base_model().config
    assert head.id2label == {0: "effusion", 1: "edema"}
    assert head.label2id == {"effusion": 0, "edema": 1}
    assert weights_sha256(base) == before
    # The hash of a tower does not see adapters on it, nor the type of its weights.
    bare = CheXficientForImageClassification.from_pretrained(base).vision_model
    assert tower_sha256(vision_tower(loaded)) == tower_sha256(bare) == tower_sha256(bare.to(torch.bfloat16))


def test_a_folder_holds_peft_files_the_record_and_the_processor(adapter, base):
    names = {file.name for file in adapter.folder.iterdir()}
    assert {WEIGHTS, CONFIG, RECORD} < names
    # PEFT's own card would name the folder of the base.
    assert "README.md" not in names
    config = json.loads((adapter.folder / CONFIG).read_text())
    assert config["base_model_name_or_path"] == str(base)
    assert config["auto_mapping"]["parent_library"] == "modeling_chexficient"
    record = json.loads((adapter.folder / RECORD).read_text())
    assert record["base"] == asdict(identify_base(base))
    assert record["head"]["id2label"] == {"0": "effusion", "1": "edema"}
    assert record["task"] == "image-classification"


def test_the_active_adapter_is_saved_without_a_subfolder(adapter, base, tmp_path):
    model = load_adapter(adapter.folder, adapter_name="findings")
    save_adapter(model, tmp_path / "again", identify_base(base), "image-classification")
    again = load_file(tmp_path / "again" / WEIGHTS)
    before = load_file(adapter.folder / WEIGHTS)
    assert again.keys() == before.keys()
    assert all(torch.equal(again[name], before[name]) for name in before)


def test_the_same_weights_at_another_place_will_do(adapter, base, tmp_path):
    copied = shutil.copytree(base, tmp_path / "copied")
    assert torch.equal(logits(load_adapter(adapter.folder, base=copied)), adapter.logits)


def test_another_base_is_refused_with_both_named(adapter, base, tmp_path):
    other = save_base(tmp_path / "other", seed=7)
    with pytest.raises(ValueError, match="the weights differ") as error:
        load_adapter(adapter.folder, base=other)
    for place in (base, other):
        assert str(identify_base(place)) in str(error.value)
    assert "a folder without a revision" in str(error.value)


def test_revisions_are_named(broken, base, tmp_path):
    identity = asdict(identify_base(base)) | {"name": "clinic/base", "revision": "abc123", "weights_sha256": "0" * 64}
    edit_json(broken / RECORD, base=identity)
    with pytest.raises(ValueError, match=r"clinic/base \(revision abc123, weights 000000000000\)"):
        load_adapter(broken, base=base)


def test_other_code_is_warned_of(adapter, base, tmp_path):
    changed = shutil.copytree(base, tmp_path / "changed")
    code = changed / "modeling_chexficient.py"
    code.write_text(code.read_text() + "# changed\n")
    with pytest.warns(UserWarning, match="modelling code") as warned:
        model = load_adapter(adapter.folder, base=changed)
    assert torch.equal(logits(model), adapter.logits)
    assert all(identify_base(place).code_sha256[:12] in str(warned[0].message) for place in (base, changed))


def test_another_task_is_refused(adapter):
    with pytest.raises(ValueError, match="is an adapter for image-classification, not for semantic-segmentation"):
        load_adapter(adapter.folder, task="semantic-segmentation")


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, RECORD])
def test_a_missing_file_is_named(broken, name):
    (broken / name).unlink()
    with pytest.raises(ValueError, match=f"lacks {name}"):
        load_adapter(broken)


def test_a_pickle_is_never_loaded(broken):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("the pickle was loaded",))

    (broken / WEIGHTS).unlink()
    torch.save(Trap(), broken / "adapter_model.bin")
    with pytest.raises(ValueError, match=r"adapter_model\.bin is a pickle"):
        load_adapter(broken)


def test_a_truncated_file_is_refused(broken):
    data = (broken / WEIGHTS).read_bytes()
    for length in (len(data) - 5, 4, 0):
        (broken / WEIGHTS).write_bytes(data[:length])
        with pytest.raises(ValueError, match="cut off or broken"):
            load_adapter(broken)


@pytest.mark.parametrize(
    ("file", "fields", "words"),
    [
        (RECORD, {"format_version": 99}, "format 99"),
        (RECORD, {"task": "poetry"}, "unknown task 'poetry'"),
        (RECORD, {"base": {"name": "x"}}, "cannot be read"),
        (CONFIG, {"peft_type": "IA3", "feedforward_modules": []}, "only LoRA and HiRA adapters.*not .*IA3"),
        (CONFIG, {"peft_type": "NONSENSE"}, "cannot be read"),
        (CONFIG, {"init_lora_weights": "pissa"}, "changes the weights of the base"),
        (CONFIG, {"r": 4}, r"of another shape: .*lora_A"),
        (CONFIG, {"modules_to_save": ["classifier"]}, r"unexpected: .*layernorm"),
        (CONFIG, {"use_dora": True}, r"missing: .*lora_magnitude_vector"),
    ],
)
def test_files_that_do_not_fit_are_refused(broken, file, fields, words):
    edit_json(broken / file, **fields)
    with pytest.raises(ValueError, match=words):
        load_adapter(broken)


def test_unreadable_json_is_refused(broken):
    (broken / RECORD).write_text("{")
    with pytest.raises(ValueError, match=r"chexficient_adapter\.json cannot be read"):
        load_adapter(broken)


def test_the_hub_is_not_asked_for_the_folder_of_a_base(broken, base, monkeypatch):
    edit_json(broken / RECORD, base=asdict(identify_base(base)) | {"name": "runs/base"})
    monkeypatch.setattr(base_identity_chexficient, "snapshot_download", lambda *_, **__: pytest.fail("asked the Hub"))
    with pytest.raises(OSError, match=r"folder runs/base, which is not here: .*base=FOLDER"):
        load_adapter(broken)
    load_adapter(broken, base=base)


def test_what_is_not_there_is_said(adapter, tmp_path):
    with pytest.raises(OSError, match="neither a folder nor a Hub repository"):
        load_adapter(tmp_path / "nowhere")
    with pytest.raises(OSError, match="neither a folder nor a Hub repository"):
        load_adapter(adapter.folder, base="clinic/nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"lacks config\.json or model\.safetensors"):
        load_adapter(adapter.folder, base=tmp_path / "empty")


@pytest.mark.parametrize("layers", [ATTENTION, HIRA], ids=["lora", "hira"])
@pytest.mark.parametrize(("kind", "old", "new"), [
    ("dinov2", ".attention.attention.query", ".attention.q_proj"),
    ("vit", "encoder.layer.0.attention.attention.query", "layers.0.attention.q_proj"),
])  # fmt: skip
def test_old_names_of_layers_are_understood(tmp_path, kind, old, new, layers):
    """As transformers 5.9 and earlier would have saved the adapter."""
    base = save_base(tmp_path / "model", kind)
    saved = make_adapter(base, tmp_path / "adapter", **layers)

    def old_name(key):
        key = key.replace("attention.q_proj", "attention.attention.query")
        key = key.replace("attention.v_proj", "attention.attention.value")
        return key.replace("vision_model.layers.", "vision_model.encoder.layer.")

    weights = load_file(saved.folder / WEIGHTS)
    assert any(new in key for key in weights)
    renamed = {old_name(key): tensor for key, tensor in weights.items()}
    assert any(old in key for key in renamed)
    save_file(renamed, saved.folder / WEIGHTS)
    edit_json(saved.folder / CONFIG, target_modules=["query", "value"])
    assert torch.equal(logits(load_adapter(saved.folder)), saved.logits)


def test_new_names_of_layers_are_understood_by_an_old_model():
    """A model whose layers have the names of transformers 5.17."""
    from modeling_chexficient.adapter_files_chexficient import match_names

    attention = torch.nn.ModuleDict({name: torch.nn.Linear(4, 4) for name in ("query", "value")})
    block = torch.nn.ModuleDict({"attention": torch.nn.ModuleDict({"attention": attention})})
    model = torch.nn.ModuleDict({"encoder": torch.nn.ModuleDict({"layer": torch.nn.ModuleList([block])})})
    part = "lora_A.weight"
    for prefix in ("encoder.layer.0", "layers.0"):
        config = LoraConfig(target_modules=r".*\.(q_proj|v_proj)")
        key = f"base_model.model.{prefix}.attention.q_proj.{part}"
        names = match_names(model, config, {key: torch.zeros(1), "base_model.model.classifier.weight": torch.zeros(1)})
        assert set(names) == {
            f"base_model.model.encoder.layer.0.attention.attention.query.{part}",
            "base_model.model.classifier.weight",
        }
        assert config.target_modules == {"encoder.layer.0.attention.attention.query"}


def test_layers_that_the_base_does_not_have_are_named(broken):
    weights = load_file(broken / WEIGHTS)
    save_file({key.replace("layer.1.", "layer.9."): tensor for key, tensor in weights.items()}, broken / WEIGHTS)
    with pytest.raises(ValueError, match=r"layers that the base does not have: .*layer\.9\.attention"):
        load_adapter(broken)


def test_what_cannot_be_saved_is_refused(base, tmp_path):
    model = CheXficientForImageClassification.from_pretrained(base, num_labels=2)
    pissa = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights="pissa"))
    with pytest.raises(ValueError, match="changes the weights of the base"):
        save_adapter(pissa, tmp_path / "pissa", identify_base(base), "image-classification")
    plain = get_peft_model(
        CheXficientForImageClassification.from_pretrained(base, num_labels=2),
        LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["classifier"]),
    )
    with pytest.raises(ValueError, match=r"task is one of .*, not 'poetry'"):
        save_adapter(plain, tmp_path / "poetry", identify_base(base), "poetry")
    assert not list(tmp_path.iterdir())


def train_a_little(model):
    """A loop of one's own: everything in training mode, every layer that asks for a gradient changed."""
    model.train()
    optimiser = torch.optim.SGD([parameter for parameter in model.parameters() if parameter.requires_grad], 0.1)
    labels = torch.tensor([[0.0, 1.0]] * 2)
    for _ in range(2):
        model(pixel_values=3 * pixels() + 1, labels=labels).loss.backward()
        optimiser.step()
    return model.eval()


@pytest.mark.parametrize("trained", ["batch norm", "norm by hand", "nothing else", "norm named"])
@torch.no_grad()
def test_what_was_trained_beside_an_adapter_is_not_lost_silently(trained, tmp_path):
    convolutional = trained == "batch norm"
    folder = save_base(tmp_path / "model", "resnet" if convolutional else "dinov2")
    model = CheXficientForImageClassification.from_pretrained(
        folder, num_labels=2, problem_type="multi_label_classification"
    )
    lora = CONVOLUTIONS if convolutional else {"target_modules": ATTENTION["target_modules"]}
    norm = ["vision_model.layernorm"] if trained == "norm named" else []
    model = get_peft_model(model, LoraConfig(r=2, modules_to_save=["classifier", *norm], **lora))
    if trained == "norm by hand":
        model.get_base_model().vision_model.layernorm.requires_grad_(True)
    with torch.enable_grad():
        train_a_little(model)
    arguments = tmp_path / "adapter", identify_base(folder), "image-classification"
    if trained in ("batch norm", "norm by hand"):
        named = "running_mean" if convolutional else r"layernorm\.bias, layernorm\.weight"
        with pytest.raises(ValueError, match=f"differs from its base .* does not hold: .*{named}"):
            save_adapter(model, *arguments)
        assert not (tmp_path / "adapter").exists()
        return
    save_adapter(model, *arguments)
    loaded = load_adapter(tmp_path / "adapter")
    torch.testing.assert_close(loaded(pixel_values=pixels()).logits, model(pixel_values=pixels()).logits)


def test_a_report_model_trained_beside_its_adapter_is_refused(base, tmp_path):
    model, processor = make_report_model(base)
    model.save_pretrained(tmp_path / "reports")
    processor.save_pretrained(tmp_path / "reports")
    identity = identify_base(tmp_path / "reports")
    model = get_peft_model(model, LoraConfig(r=2, target_modules=r".*language_model.*\.q_proj"))
    save_adapter(model, tmp_path / "adapter", identity, "report-generation")
    assert load_adapter(tmp_path / "adapter")
    projector = next(parameter for name, parameter in model.named_parameters() if "multi_modal_projector" in name)
    projector.requires_grad_(True)
    with pytest.raises(ValueError, match=r"does not hold: .*multi_modal_projector"):
        save_adapter(model, tmp_path / "again", identity, "report-generation")
    projector.requires_grad_(False)
    with torch.no_grad():
        vision_tower(model).embeddings.cls_token.add_(1)
    with pytest.raises(ValueError, match=r"does not hold: embeddings\.cls_token"):
        save_adapter(model, tmp_path / "again", identity, "report-generation")


def test_an_adapter_whose_tower_was_changed_before_it_was_saved_is_refused(broken, base):
    record = json.loads((broken / RECORD).read_text())
    (broken / RECORD).write_text(json.dumps({**record, "tower_sha256": "0" * 64}))
    with pytest.raises(ValueError, match=r"was trained on the vision tower of .*000000"):
        load_adapter(broken)


def test_an_adapter_in_the_folder_of_its_base_has_a_hash_of_its_own(base, tmp_path):
    """Figures and embeddings of one adapter were those of the next that was saved there."""
    folder, found = shutil.copytree(base, tmp_path / "both"), []
    for seed in (1, 2):
        adapter = make_adapter(base, tmp_path / str(seed), seed=seed, **ATTENTION).folder
        for name in (WEIGHTS, CONFIG, RECORD):
            shutil.copy(adapter / name, folder)
        found.append(load_evaluation_model(str(folder)).identity)
        assert weights_sha256(folder) == weights_sha256(adapter)
    assert found[0] != found[1]
    assert identify_base(folder).weights_sha256 == identify_base(base).weights_sha256
