"""Models by folder, by pinned name, and what is said of those that are not here."""

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, MambaConfig, MambaModel, T5Config, T5Model

from thermodynamic_scaling.model_loading import PINNED, extract_model_weights, load_models


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "gpt2"
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=50, n_positions=16, n_embd=24, n_layer=3, n_head=3)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def test_layers_and_types(gpt2):
    weights, layer_info = extract_model_weights(gpt2)
    assert list(weights) == ["embeddings.word", "layer_0", "layer_1", "layer_2"]
    assert weights["layer_1"]["self_attention.query"].shape == (24, 24)
    assert weights["layer_1"]["ffn.intermediate"].shape == (96, 24)
    assert weights["layer_0"]["ffn.output"].dtype == np.float32
    queries = weights["self_attention.query"]
    assert list(queries) == ["layer_0", "layer_1", "layer_2"]
    assert queries["layer_2"] is weights["layer_2"]["self_attention.query"]
    assert layer_info["model_type"] == "gpt2"
    assert (layer_info["num_layers"], layer_info["hidden_size"]) == (3, 24)
    assert (
        layer_info["parameters"]
        == sum(p.numel() for p in GPT2LMHeadModel.from_pretrained(gpt2).parameters()) - 50 * 24
    )
    assert layer_info["skipped"] == ["wpe.weight"]


def test_an_unknown_type_lists_those_there_are(gpt2):
    weights, _ = extract_model_weights(gpt2)
    with pytest.raises(KeyError, match=r"self_attention\.query"):
        weights["attention.query"]
    with pytest.raises(KeyError, match=r"'query'.*self_attention\.query"):
        weights["layer_0"]["query"]


def test_two_stacks():
    config = T5Config(vocab_size=50, d_model=16, d_kv=4, d_ff=32, num_layers=2, num_heads=4)
    weights, layer_info = extract_model_weights(T5Model(config))
    assert layer_info["num_layers"] == 4
    assert list(weights["cross_attention.key"]) == ["decoder_layer_0", "decoder_layer_1"]


def test_several(gpt2):
    loaded = load_models([gpt2])
    assert set(loaded[str(gpt2)]) == {"weights", "layer_info"}


def test_a_torch_file_is_read_without_running_code(gpt2, tmp_path):
    model = GPT2LMHeadModel.from_pretrained(gpt2)
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    ours, _ = extract_model_weights(tmp_path)
    theirs, _ = extract_model_weights(gpt2)
    np.testing.assert_array_equal(ours["layer_0"]["ffn.output"], theirs["layer_0"]["ffn.output"])

    class Dangerous:
        def __reduce__(self):
            return print, ("run",)

    torch.save({"wte.weight": Dangerous()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(Exception, match=r"(?i)weights.only|unpickl"):
        extract_model_weights(tmp_path)


def test_what_is_not_here_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match=r"hf download openai-community/gpt2 --revision 607a"):
        extract_model_weights("gpt2", cache_dir=tmp_path)


def test_names_that_are_not_pinned_and_families_without_adapter_are_refused():
    with pytest.raises(ValueError, match=r"neither a folder nor one of gpt2, .*SmolLM2-135M"):
        extract_model_weights("gpt-5")
    config = MambaConfig(vocab_size=32, hidden_size=12, num_hidden_layers=1, state_size=2)
    with pytest.raises(ValueError, match=r"'mamba'.*known: bart, bert"):
        extract_model_weights(MambaModel(config))


def test_revisions_are_commits():
    assert all(len(bytes.fromhex(pinned.revision)) == 20 for pinned in PINNED.values())
    assert len(PINNED) == 8
