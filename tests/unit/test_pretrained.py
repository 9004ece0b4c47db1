"""A GGUF file becomes a model folder that computes what the original computes."""

import json
from pathlib import Path
from pickle import UnpicklingError

import gguf
import numpy as np
import pytest
import torch

from tgn import sources
from tgn.probing.pretrained import convert_gguf, encoder, load_model, load_tokenizer


def interleaved(weight, heads):
    """Rows of q and k in GGUF's order, where the rotary pairs are neighbours."""
    halves = weight.reshape(heads, 2, -1, weight.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))


def write_gguf(path, model):
    """A llama as GGUF with plain fp32 tensors and a tokenizer of single characters and one pair."""
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("toy")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([*(chr(48 + index) for index in range(config.vocab_size - 1)), "ab"])
    writer.add_token_merges(["a b"])
    writer.add_token_types([1] * config.vocab_size)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    names = {
        "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
        "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    }  # fmt: skip
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    writer.add_tensor("token_embd.weight", state["model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", state["model.norm.weight"])
    writer.add_tensor("output.weight", state["lm_head.weight"])
    for layer in range(config.num_hidden_layers):
        for ours, theirs in names.items():
            tensor = state[f"model.layers.{layer}.{ours}.weight"]
            if theirs == "attn_q":
                tensor = interleaved(tensor, config.num_attention_heads)
            if theirs == "attn_k":
                tensor = interleaved(tensor, config.num_key_value_heads)
            writer.add_tensor(f"blk.{layer}.{theirs}.weight", tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def download(tiny_model, tmp_path):
    model = tiny_model("llama")
    folder = tmp_path / "toy"
    folder.mkdir()
    write_gguf(folder / "toy.gguf", model)
    receipt = folder / "receipt.json"
    sources.write_receipt(
        receipt, name="toy", kind="wheel", evidence="real", licence="MIT", origin="toy==1"
    )
    return model, receipt


def test_a_converted_model_computes_the_same(download, tmp_path, tokens):
    model, source = download
    receipt = tmp_path / "converted" / "receipt.json"
    convert_gguf(source=source, receipt=receipt)
    converted = load_model(sources.receipt_folder(receipt, verify=True))
    with torch.no_grad():
        torch.testing.assert_close(converted(tokens).logits, model(tokens).logits)
    assert {parameter.dtype for parameter in converted.parameters()} == {torch.float32}
    assert encoder(load_tokenizer(receipt.parent))("345ab") == [3, 4, 5, 63]


def test_a_converted_model_inherits_where_it_came_from(download, tmp_path):
    receipt = tmp_path / "converted" / "receipt.json"
    convert_gguf(source=download[1], receipt=receipt)
    content = json.loads(receipt.read_text())
    assert (content["origin"], content["evidence"], content["kind"]) == (
        "toy==1",
        "real",
        "converted",
    )
    assert {file["path"] for file in content["files"]} >= {"config.json", "model.safetensors"}
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_download_without_a_gguf_file_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    receipt = tmp_path / "receipt.json"
    sources.write_receipt(receipt, name="toy", kind="wheel", evidence="real")
    with pytest.raises(ValueError, match="lists 0 GGUF files"):
        convert_gguf(source=receipt, receipt=tmp_path / "out" / "receipt.json")


def test_weights_in_a_torch_file_are_loaded(tiny_model, tmp_path):
    model = tiny_model("opt")
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    loaded = load_model(tmp_path).state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded[name], tensor), name


class Planted:
    """What a pickle would run when it is read."""

    def __reduce__(self):
        return Path.touch, (Path("planted"),)


def test_code_in_a_torch_file_is_not_run(tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = tiny_model("gpt2")
    model.config.save_pretrained(tmp_path)
    torch.save({**model.state_dict(), "more": Planted()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UnpicklingError, match="weights_only"):
        load_model(tmp_path)
    assert not Path("planted").exists()
