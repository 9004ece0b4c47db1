"""Parameters and floating-point operations of a model, and models made equal in either."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch
from torch import nn

from tgn.models import build
from tgn.models.config import ModelConfig
from tgn.models.recurrent import TAPS

EXPANSION = 2  # of the channels in a Mamba mixer
STEP = 8  # of the widths of MLPs
TOLERANCE = 0.02


@cache
def parameters(config: ModelConfig) -> int:
    """Number of parameters; a tied head counts once. Nothing is allocated."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build(config).parameters())


def flops_per_token(config: ModelConfig, context: int, occupancy: float = 1.0) -> float:
    """Floating-point operations of one forward pass, for each token.

    Two for each multiplication with a weight, and those of attention and of the scans. Not
    counted: norms, activations, rotations, the embedding's look-up.

    Parameters
    ----------
    context : int
        Length T of the sequence; a token attends to (T + 1) / 2 keys on average.
    occupancy : float
        Share of tokens whose gate is open. Closed tokens spare the query, the scores, the mean
        of the values and the output map of attention, but not their key and value.

    Raises
    ------
    ValueError
        If the occupancy is not in [0, 1], or the sequence is longer than the model's context.
    """
    if not 0 <= occupancy <= 1:
        raise ValueError(f"occupancy must be in [0, 1], got {occupancy}")
    if not 1 <= context <= config.context:
        raise ValueError(f"context must be in 1 ... {config.context}, got {context}")
    with torch.device("meta"):
        block: Any = build(config).blocks[0]
    keys = (context + 1) / 2  # on average
    multiplications: float = _weights(block) + _scan(config)
    multiplications += TAPS * config.width * config.short_convolution
    if config.attends:
        attention = block.mixer.geometric if config.mixer == "gated" else block.mixer
        for_queries = _weights(attention.out) + 2 * keys * config.width
        if config.recipe == "as_published":
            for_queries += _weights(attention.qkv) // 3
        else:
            for_queries += _weights(attention.query)
        spared = 1 - occupancy if config.mixer == "gated" else 0.0
        multiplications += 2 * keys * config.width - spared * for_queries
    if config.mixer == "gravity":  # distances and values
        multiplications += keys * (config.heads * config.head_coordinates + config.width)
    return 2.0 * (config.depth * multiplications + config.vocabulary * config.width)


_PARAMETERS = parameters  # the argument of `match` has the same name


def match(
    config: ModelConfig,
    *,
    parameters: int | None = None,
    flops: float | None = None,
    context: int | None = None,
    occupancy: float = 1.0,
) -> ModelConfig:
    """The config with the MLP so wide that the model comes within 2 % of a size.

    Parameters
    ----------
    parameters, flops
        The size: one of the two. FLOPs are those of :func:`flops_per_token`.
    context, occupancy
        For FLOPs; the config's own context when not given.

    Raises
    ------
    ValueError
        If not exactly one size is given, or no width of at least 8, a multiple of 8, comes near
        enough.
    """
    size: Callable[[ModelConfig], float] = _PARAMETERS
    if parameters is not None and flops is None:
        name, target = "parameters", float(parameters)
    elif flops is not None and parameters is None:
        name, target = "FLOPs per token", flops
        size = partial(flops_per_token, context=context or config.context, occupancy=occupancy)
    else:
        raise ValueError("match needs either parameters or flops")
    # Both sizes are affine in the width.
    least = size(replace(config, mlp_width=STEP))
    slope = size(replace(config, mlp_width=2 * STEP)) - least
    steps = max(1, 1 + round((target - least) / slope))
    matched = replace(config, mlp_width=STEP * steps)
    reached = size(matched)
    if abs(reached / target - 1) > TOLERANCE:
        raise ValueError(
            f"no MLP width brings this model to {target:.4g} {name}: the nearest, "
            f"{matched.mlp_width}, has {reached:.4g}; change width or depth"
        )
    return matched


def _weights(part: nn.Module) -> int:
    """Weights of linear and recurrent layers: what each token is multiplied with once."""
    return sum(
        parameter.numel()
        for layer in part.modules()
        if isinstance(layer, nn.Linear | nn.GRU)
        for parameter in layer.parameters(recurse=False)
        if parameter.ndim == 2
    )


def _scan(config: ModelConfig) -> int:
    """Multiplications a token in the scan of a recurrent mixer, and in Mamba's convolution."""
    name = config.inertial if config.mixer == "gated" else config.mixer
    if name == "mamba":
        inner = EXPANSION * config.width
        return inner * (3 * config.state_size + TAPS)
    return 2 * config.width * (name == "mingru")
