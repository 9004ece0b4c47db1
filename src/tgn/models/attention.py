"""Causal self-attention with rotary positions and normed queries and keys, and its cache."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tgn.models.config import ModelConfig

Cache = dict[str, Tensor]

BASE = 10_000.0  # of the rotary wavelengths
TINY = 1e-6
SHORT = 512  # tokens


class Attention(nn.Module):
    """Multi-head causal attention: softmax(q k / sqrt(d_head)) v, then an output map.

    In each head, queries and keys are normed to unit mean square (QK-norm, Henry et al. 2020) and
    rotated by their position (Su et al. 2021); a learned gain per head stands for the temperature
    that their norms would set. Query, key and value maps are three matrices, not one: Muon then
    orthogonalises each, and a hard gate asks for queries of some tokens only.

    Parameters
    ----------
    config
        Of the model.
    inputs : int, optional
        Channels of the input, ``config.width`` when not given.
    """

    rotations: Tensor

    def __init__(self, config: ModelConfig, inputs: int | None = None) -> None:
        super().__init__()
        inputs = inputs or config.width
        self.heads, self.context = config.heads, config.context
        self.channels = config.width // config.heads
        self.query = nn.Linear(inputs, config.width, bias=False)
        self.key = nn.Linear(inputs, config.width, bias=False)
        self.value = nn.Linear(inputs, config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)
        self.gain = nn.Parameter(torch.ones(self.heads, 1))
        table = rotary_table(config.context, self.channels)
        if not config.rotary:
            table = table[:1].expand_as(table)  # all as at position 0, which is not turned
        self.register_buffer("rotations", table, persistent=False)

    def forward(
        self, x: Tensor, cache: Cache | None = None, hard: object = None
    ) -> tuple[Tensor, None]:
        """x, y: (B, T, d). With a cache, x holds the tokens after those in the cache."""
        keys, values, start = self.keys_values(x, cache)
        positions = slice(start, start + x.shape[1])
        y = attend(self.queries(x, positions), keys, values)
        return self.out(y.transpose(1, 2).flatten(2)), None

    def queries(self, x: Tensor, positions: slice | Tensor) -> Tensor:
        """(B, heads, n, d_head) for the inputs (B, n, d) at these positions."""
        queries = rotate_normed(self._heads(self.query(x)), self.rotations[positions])
        return (queries * self.gain.to(queries.dtype)).transpose(1, 2)

    def keys_values(self, x: Tensor, cache: Cache | None = None) -> tuple[Tensor, Tensor, int]:
        """Keys and values (B, heads, S, d_head) of cache and x together, and how many were cached.

        Raises
        ------
        ValueError
            If the sequence grows longer than the context.
        """
        start = 0 if cache is None else int(cache["length"])
        check_length(start + x.shape[1], self.context)
        positions = slice(start, start + x.shape[1])
        keys = rotate_normed(self._heads(self.key(x)), self.rotations[positions]).transpose(1, 2)
        values = self._heads(self.value(x)).transpose(1, 2)
        if cache is not None:
            keys, values = append(cache, keys, values)
        return keys, values, start

    def new_cache(
        self, batch: int, device: torch.device | None = None, dtype: torch.dtype = torch.float32
    ) -> Cache:
        """Room for the keys and values of one context."""
        return key_value_cache(batch, self.heads, self.context, self.channels, device, dtype)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, self.channels))


def rotary_table(context: int, channels: int) -> Tensor:
    """cos and sin of position * base^(-2 i / channels), shape (context, channels / 2, 2)."""
    rates = BASE ** -(torch.arange(0, channels, 2, dtype=torch.float64) / channels)
    angles = torch.arange(context, dtype=torch.float64)[:, None] * rates
    return torch.stack([angles.cos(), angles.sin()], dim=-1).float()


def rotate_normed(x: Tensor, table: Tensor) -> Tensor:
    """Norm x (B, n, heads, d_head) to unit mean square over d_head, and rotate it.

    Neighbouring channels are the pairs that turn, as products of complex numbers. Written as one
    function with its gradient because it is memory that this costs: composed of torch's own parts
    it takes three times as long. Computed in float32, or float64 if x is.

    Parameters
    ----------
    table : tensor, shape (n, d_head / 2, 2) or (B, n, d_head / 2, 2)
        Of :func:`rotary_table`, at the positions of x.
    """
    return _RotateNormed.apply(x, table)


class _RotateNormed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, table: Tensor) -> Tensor:
        dtype = torch.promote_types(x.dtype, torch.float32)
        exact, table = x.to(dtype), table.to(dtype).unsqueeze(-3)
        size = torch.linalg.vector_norm(exact, dim=-1, keepdim=True)
        factor = x.shape[-1] ** 0.5 / size.clamp_(min=TINY)
        y = _turned(exact, torch.view_as_complex(table)).mul_(factor).to(x.dtype)
        ctx.save_for_backward(y, factor, table)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        y, factor, table = ctx.saved_tensors
        dy = gradients[0].to(factor.dtype).contiguous()
        exact = y.to(factor.dtype)
        along = torch.linalg.vecdot(dy, exact).unsqueeze(-1) / y.shape[-1]
        dx = torch.addcmul(dy, exact, along, value=-1).mul_(factor)
        return _turned(dx, torch.view_as_complex(table).conj()).to(y.dtype), None


def _turned(x: Tensor, rotation: Tensor) -> Tensor:
    """x (..., d_head) as d_head / 2 complex numbers, times a rotation."""
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotation).flatten(-2)


def attend(queries: Tensor, keys: Tensor, values: Tensor, dropout: float = 0.0) -> Tensor:
    """Causal attention of the last n of S positions, each on itself and all before.

    queries (B, heads, n, d_head); keys, values (B, heads, S, d_head).
    """
    n, total = queries.shape[2], keys.shape[2]
    if n == total and not (total <= SHORT and _prefers_products(queries)):
        return F.scaled_dot_product_attention(
            queries, keys, values, is_causal=True, dropout_p=dropout
        )
    bias = None
    if n > 1:
        bias = causal_bias(torch.arange(total - n, total, device=keys.device), total, keys.dtype)
    return attend_biased(queries, keys, values, bias, dropout)


def causal_bias(positions: Tensor, total: int, dtype: torch.dtype) -> Tensor:
    """What is added to scores, (..., n, total): 0 on the keys up to each position, else -1e9 or
    less, of which exp is 0. By arithmetic, which is several times faster than a masked fill."""
    keys = torch.arange(total, device=positions.device, dtype=torch.float32)
    return (positions[..., None] - keys).mul_(1e9).clamp_(max=0).to(dtype)


def attend_biased(
    queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, dropout: float = 0.0
) -> Tensor:
    """softmax(q k / sqrt(d_head) + bias) v, the bias broadcast to (B, heads, n, S)."""
    if not _prefers_products(queries):
        return F.scaled_dot_product_attention(queries, keys, values, bias, dropout_p=dropout)
    if bias is not None:
        keys = keys.contiguous()  # rows are copied faster than the columns that @ would copy
    scores = (queries * queries.shape[-1] ** -0.5) @ keys.mT
    if bias is not None:
        scores += bias
    return F.dropout(scores.softmax(dim=-1), dropout) @ values


def _prefers_products(queries: Tensor) -> bool:
    """Whether attention by its definition is faster: on CPUs torch's matrix products are made for
    bfloat16, its fused attention is not, nor for a single query."""
    one = queries.shape[2] == 1
    return queries.device.type == "cpu" and (one or queries.dtype == torch.bfloat16)


def key_value_cache(
    batch: int,
    heads: int,
    context: int,
    channels: int,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Cache:
    """An empty cache with room for one context, so that a new token copies nothing old."""
    shape = (batch, heads, context, channels)
    return {
        "keys": torch.zeros(shape, device=device, dtype=dtype),
        "values": torch.zeros(shape, device=device, dtype=dtype),
        "length": torch.zeros((), dtype=torch.int64),  # on the CPU: it decides shapes
    }


def append(cache: Cache, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Write keys and values behind those in the cache; views of all, old and new."""
    start = int(cache["length"])
    end = start + keys.shape[2]
    cache["keys"][:, :, start:end] = keys
    cache["values"][:, :, start:end] = values
    cache["length"] += keys.shape[2]
    return cache["keys"][:, :, :end], cache["values"][:, :, :end]


def check_length(length: int, context: int) -> None:
    """Raise ValueError if a sequence is longer than the context."""
    if length > context:
        raise ValueError(f"a sequence of {length} tokens is longer than the context, {context}")
