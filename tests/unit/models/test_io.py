"""Saving and loading: the same model comes back, and nothing else is taken for one."""

import json

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from tgn.models import ModelConfig, build, io

CONFIG = ModelConfig(61, 32, 2, 2, 64, mixer="gated", inertial="mingru")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build(CONFIG).eval()


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        ModelConfig(61, 32, 2, 2, 64, tied=False),
        ModelConfig(61, 32, 2, 2, 64, mixer="mamba"),
        ModelConfig(61, 32, 2, 2, 64, mixer="gated", inertial="gru", recipe="as_published"),
    ],
    ids=str,
)
def test_a_loaded_model_is_the_saved_one(config, tmp_path):
    model = build(config).eval()
    io.save(tmp_path / "model", model, config, metadata={"step": 7})
    loaded = io.load(tmp_path / "model")
    assert loaded.config == config
    assert not loaded.training
    weights = model.state_dict()
    assert set(loaded.state_dict()) == set(weights)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in loaded.state_dict().items())
    tokens = torch.randint(61, (2, 30))
    assert torch.equal(loaded(tokens).logits, model(tokens).logits)
    assert io.describe(tmp_path / "model")["metadata"] == {"step": 7}


def test_a_tokenizer_is_kept_beside_the_weights(model, tmp_path):
    tokenizer = Tokenizer(WordLevel({"heat": 0, "<unk>": 1}, unk_token="<unk>"))
    io.save(tmp_path, model, CONFIG, tokenizer)
    assert io.load_tokenizer(tmp_path).to_str() == tokenizer.to_str()
    io.save(tmp_path, model, CONFIG)
    with pytest.raises(ValueError, match=r"holds no tokenizer\.json"):
        io.load_tokenizer(tmp_path)


def test_what_is_not_a_model_is_called_so(model, tmp_path):
    def fails(message):
        with pytest.raises(ValueError, match=message):
            io.load(tmp_path)

    with pytest.raises(
        ValueError, match=r"nowhere is not a model of ours: there is no such folder"
    ):
        io.load(tmp_path / "nowhere")
    fails("is not a model of ours: it has no config.json")
    config = tmp_path / "config.json"
    config.write_text("{")
    fails("is not a model of ours: config.json is not JSON")
    config.write_bytes(b"\xff\xfe\x00")
    fails("is not a model of ours: config.json is not JSON")
    config.write_text('{"model_type": "gpt2", "n_embd": 768}')
    fails("is not a model of ours: config.json does not say format")
    config.write_text("[1]")
    fails("is not a model of ours")
    config.write_text(json.dumps({"format": io.FORMAT}))
    fails("lacks model, sha256")


def test_damaged_models_are_refused(model, tmp_path):
    def fails(message):
        with pytest.raises(ValueError, match=message):
            io.load(tmp_path)

    io.save(tmp_path, model, CONFIG)
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    whole, content = weights.read_bytes(), json.loads(config.read_text())
    weights.write_bytes(whole[:100])
    fails("cannot be read as safetensors")
    weights.write_bytes(whole[:-4] + b"\0\0\0\1")
    fails("its checksum differs")
    weights.unlink()
    fails("cannot be read as safetensors")
    weights.write_bytes(whole)
    config.write_text(json.dumps(content | {"model": content["model"] | {"depth": 3}}))
    fails("the weights .* do not fit")
    config.write_text(json.dumps(content | {"model": content["model"] | {"layers": 3}}))
    fails("unknown model settings layers")


def test_an_interrupted_save_leaves_no_model(model, tmp_path, monkeypatch):
    io.save(tmp_path, model, CONFIG)

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(io, "save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        io.save(tmp_path, build(CONFIG), CONFIG)
    with pytest.raises(ValueError, match="is not a model of ours"):
        io.load(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors"}
