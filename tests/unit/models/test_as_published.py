"""Facts about the published models: their sizes, their gate, and how they begin."""

import pytest
import torch
from torch import nn

from tgn.models import ModelConfig, build
from tgn.models.sizes import parameters

SIZES = {  # width, depth, heads: parameters of the Transformer, GRUs, gates and all
    "small": (768, 12, 12, 124.48e6, 42.52e6, 0.59e6, 167.6e6),
    "medium": (1024, 24, 16, 354.87e6, 151.14e6, 1.58e6, 507.6e6),
}


def config_of(width=32, depth=2, heads=2, vocabulary=61, context=64, **others):
    values = {"mixer": "gated", "inertial": "gru"} | others
    return ModelConfig(vocabulary, width, depth, heads, context, recipe="as_published", **values)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_published_sizes(size):
    width, depth, heads, base, grus, gates, total = size
    shape = {
        "width": width, "depth": depth, "heads": heads, "vocabulary": 50304, "context": 1024,
    }  # fmt: skip
    tgn = parameters(config_of(**shape))
    transformer = parameters(config_of(**shape, mixer="attention", inertial=None))
    assert transformer == pytest.approx(base, rel=1e-3)
    assert tgn == pytest.approx(total, rel=1e-3)
    assert tgn - transformer == pytest.approx(grus + gates, rel=1e-3)


@pytest.mark.parametrize("d", [32, 48])
def test_parameters_of_each_part(d):
    def count(part):
        return sum(parameter.numel() for parameter in part.parameters())

    vocabulary, context = 61, 64
    transformer = build(config_of(width=d, mixer="attention", inertial=None))
    assert count(transformer.blocks[0]) == 12 * d**2 + 13 * d
    mixer = build(config_of(width=d)).blocks[0].mixer
    assert count(mixer.inertial) == 6 * d**2 + 6 * d
    assert count(mixer.gate) == 64 * d + 129
    assert count(transformer) == 2 * (12 * d**2 + 13 * d) + (vocabulary + context) * d + 2 * d


@torch.no_grad()
def test_the_published_start_drowns_tokens_in_positions():
    """Positions are N(0, 1), tokens uniform with the standard deviation 1 / sqrt(3 d)."""
    torch.manual_seed(0)
    for width, ratio in ((768, 48), (1024, 55.4)):
        model = build(config_of(width=width, depth=1, heads=2, vocabulary=500))
        tokens, positions = model.embedding.weight.std(), model.positions.weight.std()
        assert tokens == pytest.approx((3 * width) ** -0.5, rel=0.01)
        assert positions == pytest.approx(1, rel=0.02)
        assert positions / tokens == pytest.approx(ratio, rel=0.03)


@torch.no_grad()
def test_the_other_maps_have_the_librarys_initialisation():
    torch.manual_seed(0)
    model, d = build(config_of(width=256, depth=1)), 256
    block = model.blocks[0]
    for layer in (block.mixer.geometric.qkv, block.mixer.geometric.out, block.up):
        assert layer.weight.std() == pytest.approx((3 * d) ** -0.5, rel=0.02)
        assert layer.bias.abs().max() > 0
    assert block.mixer.inertial.cell.weight_hh_l0.std() == pytest.approx((3 * d) ** -0.5, rel=0.02)


@torch.no_grad()
def test_the_gate_has_one_hidden_layer_of_64_tanh_and_starts_near_one_half():
    torch.manual_seed(0)
    gate = build(config_of(width=256)).blocks[0].mixer.gate
    h = torch.rand(4, 50, 256) * 2 - 1
    expected = torch.sigmoid(gate.linear(torch.tanh(gate.hidden(h)))).squeeze(-1)
    torch.testing.assert_close(gate(h), expected)
    assert gate.hidden.out_features == 64
    assert gate.linear.bias.item() == 0
    assert abs(gate(h).mean() - 0.5) < 0.05
    model = build(config_of(width=256))
    assert abs(model(torch.randint(61, (2, 64))).gates.mean() - 0.5) < 0.05


@torch.no_grad()
def test_a_block_is_the_published_equations():
    """Section 2: x + (1 - g) h_rnn + g h_att, all of one LayerNorm, then x + MLP(LayerNorm)."""
    torch.manual_seed(0)
    block = build(config_of()).blocks[0].eval()
    x, d = torch.randn(2, 20, 32), 32
    z = nn.functional.layer_norm(x, (d,), block.mixer_norm.weight, block.mixer_norm.bias)
    state = block.mixer.inertial.cell(z)[0]
    q, k, v = block.mixer.geometric.qkv(z).view(2, 20, 3, 2, 16).permute(2, 0, 3, 1, 4)
    scores = (q @ k.transpose(-1, -2)) / 16**0.5
    scores = scores.masked_fill(torch.ones(20, 20, dtype=torch.bool).triu(1), -torch.inf)
    attention = (scores.softmax(-1) @ v).transpose(1, 2).reshape(2, 20, d)
    attention = block.mixer.geometric.out(attention)
    g = block.mixer.gate(state)[..., None]
    expected = x + (1 - g) * state + g * attention
    hidden = nn.functional.gelu(block.up(block.mlp_norm(expected)))
    expected = expected + block.down(hidden)
    torch.testing.assert_close(block(x)[0], expected, atol=1e-5, rtol=1e-5)


def test_positions_are_learned_and_the_head_is_the_embedding():
    model = build(config_of())
    names = {name for name, _ in model.named_parameters()}
    assert {"embedding.weight", "positions.weight"} <= names
    assert not any("head" in name for name in names)
    assert model.positions.weight.shape == (64, 32)
