"""Attention that only open tokens ask for: closed ones cost neither a query nor a score.

Keys and values are still made for every token, since a later open one may look back at any.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tgn.models.attention import Cache, attend, attend_biased, causal_bias

STEP = 32  # open tokens of a row are computed in multiples of
SEGMENT = 128  # queries that share a run of keys, whose number is a multiple of
KEYS = 512


@dataclass(frozen=True)
class HardGate:
    """How to harden a gate g in [0, 1] when a model runs.

    Parameters
    ----------
    threshold : float
        Tokens with g above it are open. The others are closed: they use g = 0 and skip the
        geometric path. At threshold 0 the model is the soft one.
    open_value : str
        What open tokens use: ``soft``, their own g, or ``one``.

    Raises
    ------
    ValueError
        If the threshold is not in [0, 1] or the open value is unknown.
    """

    threshold: float = 0.5
    open_value: str = "soft"

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], got {self.threshold}")
        if self.open_value not in ("soft", "one"):
            raise ValueError(f"open_value must be soft or one, got {self.open_value!r}")


class Attending(Protocol):
    """What is asked of an attention layer."""

    @property
    def out(self) -> torch.nn.Module: ...

    def queries(self, x: Tensor, positions: Tensor) -> Tensor: ...

    def keys_values(self, x: Tensor, cache: Cache | None) -> tuple[Tensor, Tensor, int]: ...


def attend_open(
    attention: Attending, x: Tensor, is_open: Tensor, cache: Cache | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Causal attention of the open tokens on all tokens up to themselves.

    Parameters
    ----------
    x : tensor, shape (B, T, d)
    is_open : bool tensor, shape (B, T)
    cache
        Of `attention`; x then holds the tokens after those in it.

    Returns
    -------
    y : tensor, shape (N, d)
        The output for the N open tokens, row by row.
    row, column : int tensors, shape (N,)
        Where they are in x.
    """
    keys, values, start = attention.keys_values(x, cache)
    row, column = is_open.nonzero(as_tuple=True)
    if len(row) == 0:
        return x.new_zeros(0, values.shape[1] * values.shape[3]), row, column
    if x.shape[1] == 1:
        return _attend_last(attention, x[row], keys, values, row), row, column
    columns, slot = _packed(is_open, row, column)
    positions = columns + start
    rows = torch.arange(len(x), device=x.device)[:, None]
    y = _attend_segments(attention.queries(x[rows, columns], positions), keys, values, positions)
    return attention.out(y.transpose(1, 2).flatten(2))[row, slot], row, column


def _packed(is_open: Tensor, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    """The columns of open tokens side by side, (B, n), and the slot of each in its row.

    Rows are filled up to a multiple of `STEP` with column 0, whose results are dropped.
    """
    counts = is_open.sum(dim=1)
    slot = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    columns = column.new_zeros(len(is_open), -(-int(counts.max()) // STEP) * STEP)
    columns[row, slot] = column
    return columns, slot


def _attend_segments(queries: Tensor, keys: Tensor, values: Tensor, positions: Tensor) -> Tensor:
    """Each run of neighbouring queries (B, heads, n, d_head) sees the keys up to its last one.

    Sizes are rounded up, so that sums have one order of terms wherever later open tokens stand:
    no output depends on what follows it, to the last bit.
    """
    parts = []
    for part, places in zip(queries.split(SEGMENT, 2), positions.split(SEGMENT, 1), strict=True):
        end = min(keys.shape[2], -(-(int(places.max()) + 1) // KEYS) * KEYS)
        bias = causal_bias(places, end, part.dtype)[:, None]
        parts.append(attend_biased(part, keys[:, :, :end], values[:, :, :end], bias))
    return torch.cat(parts, dim=2)


def _attend_last(
    attention: Attending, x: Tensor, keys: Tensor, values: Tensor, row: Tensor
) -> Tensor:
    """Attention of one new token of some rows. Row by row, since to gather keys is to copy them."""
    position = torch.tensor([keys.shape[2] - 1], device=x.device)
    queries = attention.queries(x, position)
    y = [
        attend(queries[k, None], keys[b, None], values[b, None]) for k, b in enumerate(row.tolist())
    ]
    return attention.out(torch.cat(y).flatten(1))
