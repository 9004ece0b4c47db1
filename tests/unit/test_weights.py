"""Weight matrices by name: all of them, the right way round, and nothing lost in silence."""

import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM

from tgn.probing import weights
from tgn.probing.adapters import adapt, adapt_stacks

# What has no name, by family: positions, and heads of their own.
UNNAMED = {
    "gpt2": {"transformer.wpe.weight"},
    "gpt_neo": {"transformer.wpe.weight"},
    "gptj": {"lm_head.weight"},
    "gpt_neox": {"lm_head.weight"},
    "opt": {"model.decoder.embed_positions.weight"},
    "llama": {"lm_head.weight"},
    "mistral": {"lm_head.weight"},
    "qwen2": {"lm_head.weight"},
    "bert": {
        "embeddings.position_embeddings.weight",
        "embeddings.token_type_embeddings.weight",
        "pooler.dense.weight",
    },
    "roberta": {
        "embeddings.position_embeddings.weight",
        "embeddings.token_type_embeddings.weight",
        "pooler.dense.weight",
    },
    "distilbert": {"embeddings.position_embeddings.weight"},
    "bart": {"encoder.embed_positions.weight", "decoder.embed_positions.weight"},
    "t5": {
        f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        for stack in ("encoder", "decoder")
    },
}


def test_every_matrix_is_named_or_listed_as_skipped(any_model):
    kind = any_model.config.model_type
    assert set(weights.skipped(any_model)) == UNNAMED.get(kind, set())


def test_names_and_shapes(any_model):
    found = dict(weights.matrices(any_model))
    assert found["embeddings.word"].shape == (64, 24)
    for stack, adapter in adapt_stacks(any_model).items():
        prefix, heads = f"{stack}_" if stack else "", adapter.heads
        for layer in range(3):
            at = f"{prefix}layer_{layer}"
            assert found[f"{at}/self_attention.query"].shape == (heads.query * heads.width, 24)
            for name in ("key", "value"):
                shape = found[f"{at}/self_attention.{name}"].shape
                assert shape == (heads.key_value * heads.width, 24)
            assert found[f"{at}/self_attention.output"].shape == (24, heads.query * heads.width)
            hidden = found[f"{at}/ffn.intermediate"].shape[0]
            assert found[f"{at}/ffn.output"].shape == (24, hidden)
            assert (f"{at}/cross_attention.value" in found) == (stack == "decoder")
    assert all(matrix.ndim == 2 for matrix in found.values())


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "bloom"])
def test_fused_projections_come_apart_as_the_model_takes_them(tiny_model, name):
    """The named q, k and v, applied by hand, give what the fused layer gives."""
    model = tiny_model(name)
    adapter = adapt(model)
    heads = adapter.heads
    attention = adapter.blocks[0].attention
    fused = attention.c_attn if name == "gpt2" else attention.query_key_value
    x = torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        out = fused(x) - fused(torch.zeros_like(x))
    if name == "gpt2":
        q, k, v = (part.unflatten(-1, (heads.query, -1)) for part in out.chunk(3, dim=-1))
    else:
        q, k, v = out.unflatten(-1, (heads.query, 3, heads.width)).unbind(-2)
    found = dict(weights.matrices(model))
    for kind, expected in (("query", q), ("key", k), ("value", v)):
        ours = x @ found[f"layer_0/self_attention.{kind}"].T
        torch.testing.assert_close(ours, expected.flatten(-2), atol=1e-5, rtol=1e-5)


def test_unsupported_families_and_packed_weights_are_refused(tiny_model):
    model = tiny_model("llama")
    packed = torch.zeros(4, 4, dtype=torch.int8)
    model.model.layers[0].mlp.up_proj.weight = torch.nn.Parameter(packed, requires_grad=False)
    with pytest.raises(ValueError, match=r"quantised.*up_proj.weight is torch.int8"):
        dict(weights.matrices(model))


def test_half_precision_is_no_quantisation():
    config = BloomConfig(vocab_size=16, hidden_size=8, n_layer=1, n_head=2)
    found = dict(weights.matrices(BloomForCausalLM(config).to(torch.bfloat16)))
    assert found["layer_0/ffn.output"].dtype == torch.bfloat16
