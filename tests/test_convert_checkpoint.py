"""Conversion of released weights: parity with the published implementation, sizes, sources, and refusals.

`golden/released_tiny.pth` has the layout of the released file and random weights of a small model;
`golden/released_tiny_expected.safetensors` holds what the published code computes with them.
"""

import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor, AutoModel, AutoProcessor, BertTokenizer

from modeling_chexficient import CheXficientConfig, CheXficientModel, CheXficientProcessor
from modeling_chexficient.convert_checkpoint import convert, main
from modeling_chexficient.released_files import load_released
from modeling_chexficient.released_weights import check_tensors, expected_shapes, infer_config

GOLDEN = Path(__file__).parent / "golden"
RELEASED = GOLDEN / "released_tiny.pth"
HEADS = {"vision_heads": 3, "text_heads": 3}
MODEL_INPUTS = ("pixel_values", "input_ids", "attention_mask", "token_type_ids")


@pytest.fixture(scope="module")
def released() -> dict[str, torch.Tensor]:
    return load_released(RELEASED).tensors


@pytest.fixture(scope="module")
def expected() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / "released_tiny_expected.safetensors")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "pneumonia", "no"]
    BertTokenizer(vocab={word: n for n, word in enumerate(words)}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def converted(tmp_path_factory, tokenizer) -> Path:
    return convert(RELEASED, tmp_path_factory.mktemp("converted") / "model", str(tokenizer), **HEADS).folder


@torch.no_grad()
def run(model, expected):
    return model.eval()(**{name: expected[name] for name in MODEL_INPUTS})


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_converted_model_equals_the_published_implementation(converted, expected, attention):
    output = run(AutoModel.from_pretrained(converted, attn_implementation=attention), expected)
    torch.testing.assert_close(output.image_embeds, expected["image_embeds"], rtol=0, atol=1e-5)
    torch.testing.assert_close(output.text_embeds, expected["text_embeds"], rtol=0, atol=1e-5)
    # Logits are cosines times 40: the same agreement of the cosines.
    torch.testing.assert_close(output.logits_per_image, expected["logits"], rtol=1e-5, atol=4e-5)


def test_converted_folder_is_complete(converted, released):
    assert {path.name for path in converted.iterdir()} >= {
        "config.json",
        "model.safetensors",
        "processor_config.json",
        "tokenizer_config.json",
        "configuration_chexficient.py",
        "modeling_chexficient.py",
        "image_processing_chexficient.py",
        "processing_chexficient.py",
        "prototypes.safetensors",
        "curated_subset.json",
    }
    assert not (converted / "convert_checkpoint.py").exists()
    assert torch.equal(load_file(converted / "prototypes.safetensors")["prototypes"], released["prototypes"])
    assert json.loads((converted / "curated_subset.json").read_text()) == [3, 5, 8, 13, 21]
    processor = AutoProcessor.from_pretrained(converted)
    assert isinstance(processor, CheXficientProcessor)
    assert processor.image_processor.size == {"shortest_edge": 56}
    assert processor.tokenizer.model_max_length == 64
    assert AutoImageProcessor.from_pretrained(converted).size == {"shortest_edge": 56}


def test_sizes_are_read_from_the_tensors(converted):
    config = AutoModel.from_pretrained(converted).config
    vision, text = config.vision_config, config.text_config
    assert (vision.hidden_size, vision.num_hidden_layers, vision.num_attention_heads) == (48, 5, 3)
    assert (vision.image_size, vision.patch_size, vision.mlp_ratio) == (56, 14, 4)
    assert (text.hidden_size, text.num_hidden_layers, text.intermediate_size) == (48, 3, 96)
    assert (text.vocab_size, text.max_position_embeddings, text.type_vocab_size) == (300, 64, 2)
    assert (config.projection_dim, config.text_pooling) == (32, "eos")


def test_published_sizes_give_the_published_configuration():
    """The default heads and the names of the full model, without its weights."""
    shapes = expected_shapes(CheXficientConfig())
    tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    config = infer_config(tensors)
    assert expected_shapes(config) == shapes
    assert config.vision_config.image_size == 378
    with torch.device("meta"):
        model = CheXficientModel(config)
    assert sum(math.prod(shape) for shape in shapes.values()) == model.num_parameters()


def test_every_source_gives_the_same_model(released, converted, expected, tmp_path):
    tensors = {name: tensor.contiguous() for name, tensor in released.items()}
    sources = {"bare": tmp_path / "bare.pth", "file": tmp_path / "weights.safetensors"}
    torch.save(tensors, sources["bare"])
    save_file(tensors, sources["file"])
    for name in ("folder", "pickled", "sharded"):
        sources[name] = tmp_path / name
        sources[name].mkdir()
    save_file(tensors, sources["folder"] / "model.safetensors")
    torch.save({"model": tensors}, sources["pickled"] / "pytorch_model.pth")
    names = sorted(tensors)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for shard, members in shards.items():
        save_file({name: tensors[name] for name in members}, sources["sharded"] / shard)
    weight_map = {name: shard for shard, members in shards.items() for name in members}
    (sources["sharded"] / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

    state = AutoModel.from_pretrained(converted).state_dict()
    for name, source in sources.items():
        folder = convert(source, tmp_path / f"{name}_out", **HEADS).folder
        loaded = AutoModel.from_pretrained(folder).state_dict()
        assert set(loaded) == set(state)
        assert all(torch.equal(loaded[key], state[key]) for key in state), name
        assert not (folder / "curated_subset.json").exists()
        assert AutoImageProcessor.from_pretrained(folder).size == {"shortest_edge": 56}
    (sources["sharded"] / "b.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"b\.safetensors"):
        load_released(sources["sharded"])


def test_numbers_of_the_training_state_do_not_hinder_loading(released, tmp_path):
    state = {"model": released, "subset": {9, 2}, "best_acc": np.float64(0.8), "optimizer": {"state": {}}, "scaler": {}}
    torch.save(state, tmp_path / "full.pth")
    assert load_released(tmp_path / "full.pth").subset == [2, 9]


def test_half_precision_and_no_layer_scale(released, tmp_path):
    plain = {name: tensor.half() for name, tensor in released.items() if not name.endswith(".gamma")}
    save_file({name: tensor.contiguous() for name, tensor in plain.items()}, tmp_path / "half.safetensors")
    model = AutoModel.from_pretrained(convert(tmp_path / "half.safetensors", tmp_path / "out", **HEADS).folder)
    assert model.dtype == torch.float32
    for name, tensor in model.state_dict().items():
        if "layer_scale" in name:
            assert torch.equal(tensor, torch.ones(48))
    expected = released["image_encoder.model.blocks.1.attn.qkv.weight"].half().float()[48:96]
    assert any(torch.equal(tensor, expected) for name, tensor in model.state_dict().items() if "layer.1." in name)


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("write", [pickle.dump, torch.save])
def test_arbitrary_pickles_are_not_run(write, tmp_path):
    source, trace = tmp_path / "evil.pth", tmp_path / "trace"
    with source.open("wb") as file:
        write({"model": Payload(trace)}, file)
    with pytest.raises(ValueError, match=r"evil\.pth is not a checkpoint of plain tensors"):
        convert(source, tmp_path / "out", **HEADS)
    assert not trace.exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["empty.pth", "text.pth", "text.safetensors"])
def test_files_that_hold_no_tensors_are_named(name, tmp_path):
    (tmp_path / name).write_bytes(b"" if name.startswith("empty") else b"not a checkpoint at all")
    with pytest.raises(ValueError, match=name):
        load_released(tmp_path / name)


def test_missing_sources_and_other_contents_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        load_released(tmp_path)
    torch.save({"epoch": 3}, tmp_path / "numbers.pth")
    with pytest.raises(ValueError, match=r"numbers\.pth holds neither"):
        load_released(tmp_path / "numbers.pth")
    with pytest.raises(ValueError, match=r"missing tensors.*image_encoder\.model\.pos_embed"):
        infer_config({"some.weight": torch.zeros(1)})


def test_every_wrong_tensor_is_named_in_one_error(released):
    tensors = dict(released)
    config = infer_config(tensors, **HEADS)
    check_tensors(tensors, config)
    for name in ("logit_scale", "image_encoder.model.blocks.4.ls2.gamma", "text_projection.projection.bias"):
        del tensors[name]
    tensors["extra.weight"] = torch.zeros(1)
    tensors["image_encoder.model.register_tokens"] = torch.zeros(1, 4, 48)
    tensors["image_encoder.model.norm.weight"] = torch.zeros(47)
    tensors["text_encoder.model.embeddings.LayerNorm.bias"] = torch.full((48,), math.nan)
    with pytest.raises(ValueError, match="do not fit") as raised:
        check_tensors(tensors, config)
    missing, unexpected, misshapen, infinite = str(raised.value).splitlines()[1:]
    assert missing == ("missing: image_encoder.model.blocks.4.ls2.gamma, logit_scale, text_projection.projection.bias")
    assert unexpected == "unexpected: extra.weight, image_encoder.model.register_tokens"
    assert misshapen == "misshapen: image_encoder.model.norm.weight (47,) instead of (48,)"
    assert infinite == "not finite: text_encoder.model.embeddings.LayerNorm.bias"


def test_heads_must_divide_the_hidden_size(released):
    with pytest.raises(ValueError, match=r"5 vision heads do not divide the hidden size 48.*--vision-heads"):
        infer_config(released, vision_heads=5, text_heads=3)
    with pytest.raises(ValueError, match="0 text heads"):
        infer_config(released, vision_heads=3, text_heads=0)


def test_tokenizer_must_fit_the_embedding(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{n}" for n in range(400))]
    BertTokenizer(vocab={word: n for n, word in enumerate(words)}).save_pretrained(tmp_path / "tokenizer")
    with pytest.raises(ValueError, match="405 tokens, the word embedding 300 rows"):
        convert(RELEASED, tmp_path / "out", str(tmp_path / "tokenizer"), **HEADS)
    assert not (tmp_path / "out").exists()


def test_existing_folders_are_not_written_over(tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not an empty folder"):
        convert(RELEASED, tmp_path, **HEADS)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_command_line(tmp_path, tokenizer, capsys):
    heads = ["--vision-heads", "3", "--text-heads", "3"]
    main([str(RELEASED), str(tmp_path / "bare"), *heads])
    assert "NO processor: only the image processor" in capsys.readouterr().out
    main([str(RELEASED), str(tmp_path / "full"), "--tokenizer", str(tokenizer), *heads])
    printed = capsys.readouterr().out
    assert "processor: image processor and tokenizer" in printed
    assert "curated_subset.json: 5 ids" in printed
    assert "56 px, patch 14" in printed
    with pytest.raises(SystemExit, match="error: 7 vision heads"):
        main([str(RELEASED), str(tmp_path / "bad"), "--vision-heads", "7"])
