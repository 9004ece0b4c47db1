"""Adapters find the right weights: what they return is edited, and the model must feel it."""

import pytest
import torch
from transformers import BertConfig, BertLMHeadModel, OPTConfig, OPTForCausalLM

from tgn.probing.adapters import adapt


def attention_output(adapter, layer, tokens):
    outputs = []
    attention = adapter.blocks[layer].attention
    hook = attention.register_forward_hook(lambda module, args, output: outputs.append(output[0]))
    with torch.no_grad():
        adapter.body(tokens)
    hook.remove()
    return outputs[0]


def test_zero_values_silence_attention_up_to_its_biases(model, tokens):
    adapter = adapt(model)
    with torch.no_grad():
        for name, parameter in adapter.blocks[1].attention.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
    assert attention_output(adapter, 1, tokens).abs().max() > 1e-3
    with torch.no_grad():
        adapter.projection(1, "v").zero_()
    assert attention_output(adapter, 1, tokens).abs().max() == 0


def test_zero_output_projection_silences_attention_up_to_its_bias(model, tokens):
    adapter = adapt(model)
    with torch.no_grad():
        adapter.projection(0, "o").zero_()
    output = attention_output(adapter, 0, tokens)
    torch.testing.assert_close(output, output[:1, :1].expand_as(output))


@pytest.mark.parametrize("which", ["q", "k"])
def test_queries_and_keys_move_the_pattern_but_not_a_lone_token(model, tokens, which):
    """With one token the softmax has one entry, so only values and outputs matter."""
    adapter = adapt(model)
    lone, several = (
        attention_output(adapter, 0, tokens[:, :1]),
        attention_output(adapter, 0, tokens),
    )
    with torch.no_grad():
        adapter.projection(0, which).mul_(40.0)
    torch.testing.assert_close(attention_output(adapter, 0, tokens[:, :1]), lone)
    assert (attention_output(adapter, 0, tokens) - several).abs().max() > 1e-4


def test_the_value_of_one_head_reaches_only_its_own_output_columns(model, tokens):
    adapter = adapt(model)
    heads = adapter.heads
    with torch.no_grad():
        for name, parameter in adapter.blocks[0].attention.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
        adapter.projection(0, "v")[1:].zero_()
        group = heads.query // heads.key_value
        adapter.projection(0, "o")[:, group:].zero_()
    assert attention_output(adapter, 0, tokens).abs().max() > 1e-4
    with torch.no_grad():
        adapter.projection(0, "o")[:, :group].zero_()
    assert attention_output(adapter, 0, tokens).abs().max() == 0


def test_shapes_follow_the_heads(model):
    adapter = adapt(model)
    heads, width = adapter.heads, model.config.hidden_size
    assert heads.query * heads.width == width
    assert len(adapter.blocks) == 3
    for which, count in (("q", heads.query), ("k", heads.key_value), ("v", heads.key_value)):
        assert adapter.projection(2, which).shape == (count, heads.width, width)
    assert adapter.projection(2, "o").shape == (width, heads.query, heads.width)


def test_llama_keeps_its_grouped_heads(tiny_model):
    heads = adapt(tiny_model("llama")).heads
    assert (heads.query, heads.key_value) == (6, 2)


def test_post_norm_opt_is_recognised():
    config = OPTConfig(
        vocab_size=64, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, ffn_dim=48,
        word_embed_proj_dim=12, do_layer_norm_before=False,
    )  # fmt: skip
    adapter = adapt(OPTForCausalLM(config))
    assert not adapter.pre_norm


def test_an_unknown_family_is_refused_by_name():
    config = BertConfig(
        vocab_size=32, hidden_size=12, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=12, is_decoder=True,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"'bert'.*gpt2"):
        adapt(BertLMHeadModel(config))
