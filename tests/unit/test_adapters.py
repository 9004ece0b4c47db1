"""Adapters find the right weights: what they return is edited, and the model must feel it."""

import pytest
import torch
from transformers import (
    FalconConfig,
    FalconModel,
    MambaConfig,
    MambaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
)

from tgn.probing.adapters import adapt, adapt_stacks


def layer_of(model, weight):
    """The linear layer that a view of its weights was taken from."""
    storage = weight.untyped_storage().data_ptr()
    (layer,) = (
        module
        for module in model.modules()
        for parameter in module.parameters(recurse=False)
        if parameter.untyped_storage().data_ptr() == storage
    )
    return layer


def outputs_of(model, layers, tokens):
    """What these layers put out, in one pass; copies, since Falcon adds to its MLP's in place."""
    outputs = []
    hooks = [
        layer.register_forward_hook(lambda module, args, output: outputs.append(output.clone()))
        for layer in layers
    ]
    inputs = {"decoder_input_ids": tokens} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        model(tokens, **inputs)
    for hook in hooks:
        hook.remove()
    return outputs


def silent(outputs):
    """Whether every token is given the same: what the biases alone make."""
    rows = (x.flatten(0, -2) for x in outputs)
    return all(torch.allclose(x, x[:1].expand_as(x), atol=1e-6) for x in rows)


def attention_output(adapter, layer, tokens):
    (output,) = outputs_of(
        adapter.model, [layer_of(adapter.model, adapter.projection(layer, "o"))], tokens
    )
    return output


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
    config = MambaConfig(vocab_size=32, hidden_size=12, num_hidden_layers=1, state_size=2)
    with pytest.raises(ValueError, match=r"'mamba'.*gpt2"):
        adapt(MambaForCausalLM(config))


@pytest.mark.parametrize("layout", [{"new_decoder_architecture": True}, {"multi_query": False}])
def test_other_layouts_of_falcon_are_refused(layout):
    config = FalconConfig(
        vocab_size=32, hidden_size=12, num_hidden_layers=1, num_attention_heads=2, **layout
    )
    with pytest.raises(ValueError, match="only the one of Falcon-7B"):
        adapt(FalconModel(config))


def test_two_stacks_are_not_taken_for_one(tiny_model):
    with pytest.raises(ValueError, match="encoder and a decoder"):
        adapt(tiny_model("t5"))


@pytest.mark.parametrize("kind", ["self", "cross"])
def test_zero_values_silence_every_attention_of_every_family(any_model, tokens, kind):
    for adapter in adapt_stacks(any_model).values():
        if kind == "cross" and adapter.blocks[0].cross_attention is None:
            continue
        read = adapter.projection if kind == "self" else adapter.cross_projection
        depth = range(len(adapter.blocks))
        layers = [layer_of(any_model, read(layer, "o")) for layer in depth]
        assert not silent(outputs_of(any_model, layers, tokens))
        with torch.no_grad():
            for layer in depth:
                read(layer, "v").zero_()
        assert silent(outputs_of(any_model, layers, tokens))


def test_zero_output_maps_silence_every_mlp(any_model, tokens):
    for adapter in adapt_stacks(any_model).values():
        depth = range(len(adapter.blocks))
        layers = [layer_of(any_model, adapter.mlp(layer)["output"]) for layer in depth]
        assert not silent(outputs_of(any_model, layers, tokens))
        with torch.no_grad():
            for layer in depth:
                adapter.mlp(layer)["output"].zero_()
        assert silent(outputs_of(any_model, layers, tokens))


def test_hidden_channels_follow_the_intermediate_and_the_gate(any_model):
    for adapter in adapt_stacks(any_model).values():
        matrices = adapter.mlp(1)
        hidden, width = matrices["intermediate"].shape
        assert (hidden, width) == (4 * width if hidden == 96 else 48, 24)
        assert matrices["output"].shape == (width, hidden)
        if "gate" in matrices:
            assert matrices["gate"].shape == (hidden, width)
