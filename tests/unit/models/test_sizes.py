"""Counts of parameters and operations, and models of equal size."""

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tgn.models import ModelConfig, build
from tgn.models.sizes import flops_per_token, match, parameters

LAPTOP = ModelConfig(vocabulary=4096, width=128, depth=4, heads=4, context=256)
TGN = replace(LAPTOP, mixer="gated", inertial="mingru")
ARMS = [
    LAPTOP,
    TGN,
    replace(TGN, inertial="gru"),
    replace(TGN, inertial="mamba", wiring="sequential"),
    replace(LAPTOP, mixer="mingru", short_convolution=True),
    replace(LAPTOP, short_convolution=True),
    replace(TGN, short_convolution=True),
    replace(LAPTOP, mixer="mamba"),
    replace(LAPTOP, tied=False),
    replace(TGN, inertial="gru", recipe="as_published"),
    replace(LAPTOP, recipe="as_published"),
]


@pytest.mark.parametrize("config", ARMS, ids=str)
def test_parameters_are_those_of_the_model(config):
    assert parameters(config) == sum(p.numel() for p in build(config).parameters())


def test_parameters_of_our_blocks():
    d, embedding = 128, 4096 * 128
    assert parameters(LAPTOP) == embedding + 4 * (12 * d**2 + 4)
    assert parameters(TGN) == parameters(LAPTOP) + 4 * (3 * d**2 + d + d + 1)
    assert parameters(replace(LAPTOP, tied=False)) == parameters(LAPTOP) + embedding


@pytest.mark.parametrize("config", ARMS, ids=str)
def test_operations_are_those_that_torch_counts(config):
    """Where it counts: not in scans and short convolutions; and it takes the whole square of scores
    for causal attention."""
    tokens = torch.zeros(2, 64, dtype=torch.int64)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        build(config)(tokens)
    expected = flops_per_token(config, 64)
    d, inertial = config.width, config.inertial or config.mixer
    if config.attends:
        expected += 2 * config.depth * 2 * d * (64 - 65 / 2)
    if inertial == "mingru":
        expected -= 2 * config.depth * 2 * d
    expected -= 2 * config.depth * 4 * d * config.short_convolution
    if inertial == "mamba":
        expected -= 2 * config.depth * 2 * d * 3 * 16
    assert counter.get_total_flops() / tokens.numel() == pytest.approx(expected, rel=1e-9)


def test_a_closed_gate_spares_query_scores_values_and_output():
    d, context = 128, 256
    spared = flops_per_token(TGN, context) - flops_per_token(TGN, context, occupancy=0.09)
    assert spared == pytest.approx(2 * 4 * 0.91 * (2 * d * d + (context + 1) * d))
    assert flops_per_token(LAPTOP, context, occupancy=0.1) == flops_per_token(LAPTOP, context)


@pytest.mark.parametrize("config", [*ARMS[1:3], *ARMS[4:6]], ids=str)
def test_match_comes_within_two_percent(config):
    size = parameters(LAPTOP)
    matched = match(config, parameters=size)
    assert replace(matched, mlp_width=config.mlp_width) == config
    assert matched.mlp_width % 8 == 0
    assert abs(parameters(matched) / size - 1) <= 0.02
    cost = flops_per_token(LAPTOP, 256)
    matched = match(config, flops=cost, occupancy=0.09)
    assert abs(flops_per_token(matched, 256, 0.09) / cost - 1) <= 0.02


def test_match_says_when_no_width_fits():
    with pytest.raises(ValueError, match=r"no MLP width .* parameters: the nearest, 8, has"):
        match(TGN, parameters=1000)
    with pytest.raises(ValueError, match=r"no MLP width .* FLOPs per token"):
        match(replace(TGN, width=8, heads=2, vocabulary=16, depth=64), flops=4e4)
    with pytest.raises(ValueError, match="either parameters or flops"):
        match(TGN)
    with pytest.raises(ValueError, match="either parameters or flops"):
        match(TGN, parameters=1, flops=1)


@pytest.mark.parametrize(("context", "occupancy"), [(0, 1), (257, 1), (64, -0.1), (64, 1.1)])
def test_operations_refuse_what_cannot_be(context, occupancy):
    with pytest.raises(ValueError, match=r"(context|occupancy) must be in"):
        flops_per_token(TGN, context, occupancy)
