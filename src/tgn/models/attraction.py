"""Attention by gravity as a function: tiled for a CPU, by FlexAttention on a GPU, by definition.

On a CPU the work is cut into tiles, 64 tokens by as many keys as they may draw: where a window has
an edge, tiles of keys that lie beyond it are left out. Bounding boxes tell, before any distance is
computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.attention.flex_attention import flex_attention

from tgn.kernels import gravity as kernels

ROWS = 64  # of a tile
LANES = 16
TOGETHER = (8, 4, 2, 1)  # items whose tiles may be worked on at once
CALLS = 5  # what the calls for a tile cost, in tiles of keys of one item


def attract(
    places: Tensor,
    values: Tensor,
    masses: Tensor,
    gamma: Tensor,
    epsilon: Tensor,
    radius2: Tensor,
    beta: Tensor,
    window: str = "soft",
) -> Tensor:
    """Causal gravity attention of T tokens, each on itself and all before.

    The weight of token j for token i is proportional to ``w(d2) exp(gamma m_j / (d2 + epsilon))``,
    with d2 the squared distance of their places; to its own exponent beta is added.

    Parameters
    ----------
    places : tensor, shape (B, H, T, k)
    values : tensor, shape (B, H, T, d)
    masses : tensor, shape (B, T)
        Positive.
    gamma, epsilon, radius2, beta : tensor, shape (H,)
        Strength, squared softening length, squared radius, and bias to oneself.
    window : str
        w: ``none``, ``soft`` (1 - d2 / radius2 inside, 0 outside) or ``hard`` (1 inside).

    Returns
    -------
    tensor, shape (B, H, T, d)
        In the precision of `values`; computed in float32 or float64. On a CPU nothing of the size
        T x T is kept.
    """
    batch, heads, length, _ = places.shape
    dtype = torch.promote_types(places.dtype, torch.float32)
    with exact(places):
        places, wide = places.to(dtype), values.to(dtype)
        places = places - places[:, :, :1]  # distances of far-off places would lose digits
        if places.device.type != "cpu":
            gamma, epsilon, radius2, beta = (x.to(dtype) for x in (gamma, epsilon, radius2, beta))
            y = flex(places, wide, masses.to(dtype), gamma, epsilon, radius2, beta, window)
            return y.to(values.dtype)
        short = -length % LANES
        # Ordered by head: items that are worked on at once are then likely to reach equally far.
        items = [x.transpose(0, 1).flatten(0, 1) for x in (places, wide)]
        items.append(masses.to(dtype).repeat(heads, 1)[..., None])
        if short:
            items = [F.pad(x, (0, 0, 0, short)) for x in items]
        z, v, heavy = (x.contiguous() for x in items)
        numbers = (x.to(dtype).repeat_interleave(batch) for x in (gamma, epsilon, radius2, beta))
        y = _Attract.apply(z, v, heavy.squeeze(-1), *numbers, window)
        return y.unflatten(0, (heads, batch)).transpose(0, 1)[:, :, :length].to(values.dtype)


def exact(x: Tensor) -> torch.autocast:
    """A context without autocast: bfloat16 has too few digits for places and their distances."""
    return torch.autocast(x.device.type, enabled=False)


def weights(
    places: Tensor,
    masses: Tensor,
    gamma: Tensor,
    epsilon: Tensor,
    radius2: Tensor,
    beta: Tensor,
    window: str = "soft",
    last: int | None = None,
) -> Tensor:
    """The weights of :func:`attract` by their definition, (B, H, n, T), of the last n tokens.

    For a few tokens that are decoded, for looking at, and for tests.
    """
    length = places.shape[2]
    n = length if last is None else last
    here, tokens = length - n, torch.arange(length, device=places.device)
    own = tokens == tokens[here:, None]
    gamma, epsilon, radius2, beta = (x[:, None, None] for x in (gamma, epsilon, radius2, beta))
    d2 = (places[:, :, here:, None] - places[:, :, None]).square().sum(-1)
    score = gamma * masses[:, None, None] / (d2 + epsilon) + beta * own
    score = score.masked_fill(tokens > tokens[here:, None], -torch.inf)
    w = _window(d2, radius2, window) * score.softmax(dim=-1)
    return w / w.sum(-1, keepdim=True)


def _window(d2: Tensor, radius2: Tensor, window: str) -> Tensor:
    if window == "soft":
        return (1 - d2 / radius2).clamp(min=0)
    return (d2 <= radius2).to(d2.dtype) if window == "hard" else torch.ones_like(d2)


def flex(
    places: Tensor,
    values: Tensor,
    masses: Tensor,
    gamma: Tensor,
    epsilon: Tensor,
    radius2: Tensor,
    beta: Tensor,
    window: str = "soft",
) -> Tensor:
    """:func:`attract` by torch's FlexAttention, in which d2 is one product of augmented places.

    [-2 z_i, |z_i|^2, 1] . [z_j, 1, |z_j|^2] = |z_i - z_j|^2. On a GPU it is compiled.
    """
    norms, ones = places.square().sum(-1, keepdim=True), torch.ones_like(places[..., :1])
    queries = torch.cat([-2 * places, norms, ones], dim=-1)
    keys = torch.cat([places, ones, norms], dim=-1)

    def score(d2: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        # Each tensor is read once: torch does not differentiate two readings of one.
        strength, mass, softening, own = gamma[h], masses[b, j], epsilon[h], beta[h]
        d2 = torch.where(i == j, 0.0, d2.clamp(min=0))
        pull = strength * mass / (d2 + softening) + torch.where(i == j, own, 0.0)
        seen = _window(d2, radius2[h], window)
        return torch.where((j <= i) & (seen > 0), pull + seen.clamp(min=1e-30).log(), -torch.inf)

    run = torch.compile(flex_attention) if places.is_cuda else flex_attention
    return run(queries, keys, values, score_mod=score, scale=1.0)


def reach(places: Tensor, radius2: Tensor) -> Tensor:
    """Which tiles of keys may hold a token within the radius of one in a tile of rows.

    Told by the boxes around the tiles' places. A tile that is said to be out of reach has no
    squared distance below the squared radius, not even as rounding leaves it.

    Parameters
    ----------
    places : tensor, shape (items, T, k)
    radius2 : tensor, shape (items,)

    Returns
    -------
    tensor, shape (items, n, n)
        Of truth values, for n tiles of 64 tokens; rows come first, and keys after them are out.
    """
    parts = places.split(ROWS, dim=1)
    low = torch.stack([part.amin(1) for part in parts], dim=1)
    high = torch.stack([part.amax(1) for part in parts], dim=1)
    gap = (low[:, :, None] - high[:, None]).clamp(min=0)
    d2 = (gap + gap.transpose(1, 2)).square().sum(-1)  # along an axis, one of the two is 0
    largest = places.square().sum(-1).amax(1)
    rounding = 32 * places.shape[-1] * torch.finfo(places.dtype).eps * largest
    beyond = d2 >= (radius2 + rounding)[:, None, None]  # not so where anything is NaN
    return (~beyond).tril()


class _Tile(NamedTuple):
    """Rows of some items, and the keys that they may draw."""

    items: slice
    rows: slice
    runs: list[tuple[slice, slice]]  # neighbouring keys, and the columns where they stand
    starts: NDArray[np.int64]  # the key in every sixteenth column

    @property
    def shape(self) -> tuple[int, int, int]:
        items, rows = (part.stop - part.start for part in (self.items, self.rows))
        return items, rows, LANES * len(self.starts)


def _tiles(near: NDArray[np.bool_], length: int) -> list[_Tile]:
    """What there is to do, from what is in reach: of few items at once where they differ."""
    items, count, _ = near.shape

    def cost(together: int) -> int:
        drawn = np.logical_or.reduceat(near, range(0, items, together))
        return together * drawn.sum() + CALLS * count * len(drawn)

    together = min(TOGETHER, key=cost)
    tiles = []
    for first in range(0, items, together):
        part = slice(first, min(items, first + together))
        for row, drawn in enumerate(np.logical_or.reduce(near[part])):
            edges = np.flatnonzero(np.diff(drawn, prepend=False, append=False)) * ROWS
            bounds = edges.clip(max=length).reshape(-1, 2).tolist()
            runs, column = [], 0
            for start, stop in bounds:
                runs.append((slice(start, stop), slice(column, column + stop - start)))
                column += stop - start
            starts = np.concatenate([np.arange(a, b, LANES) for a, b in bounds])
            rows = slice(row * ROWS, min(length, (row + 1) * ROWS))
            tiles.append(_Tile(part, rows, runs, starts))
    return tiles


@contextmanager
def _runner() -> Iterator[Callable[..., None]]:
    """What runs a kernel on the items of some arrays, in threads if torch may have several."""
    threads = min(torch.get_num_threads(), max(TOGETHER))
    if threads == 1:
        yield lambda kernel, *arguments: kernel(0, len(arguments[1]), *arguments)
        return
    with ThreadPoolExecutor(threads) as pool:

        def run(kernel: Callable[..., None], window: int, tile: NDArray, *arrays: NDArray) -> None:
            bounds = [len(tile) * k // threads for k in range(threads + 1)]
            calls = [pool.submit(kernel, *pair, window, tile, *arrays) for pair in pairwise(bounds)]
            for call in calls:
                call.result()

        yield run


class _Attract(torch.autograd.Function):
    """`attract` of items (sequences' heads), whose length is a multiple of 16."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        *tensors, window = arguments
        z, v, masses, *numbers = (x.detach() for x in tensors)
        near = reach(z, numbers[2] if window != "none" else numbers[2] + torch.inf)
        tiles = _tiles(near.numpy(), z.shape[1])
        norms, out, log_sum = z.square().sum(-1), torch.zeros_like(v), torch.empty_like(masses)
        room = z.new_empty(max(prod(tile.shape) for tile in tiles))
        kind, arrays = kernels.WINDOWS.index(window), _arrays(norms, masses, *numbers, log_sum)
        with _runner() as run:
            for tile in tiles:
                here, a = z[tile.items, tile.rows], room[: prod(tile.shape)].view(tile.shape)
                for keys, columns in tile.runs:
                    torch.bmm(here, z[tile.items, keys].mT, out=a[..., columns])
                run(kernels.weigh, kind, a.numpy(), tile.starts, *(x[tile.items] for x in arrays))
                drawn = out[tile.items, tile.rows]
                for keys, columns in tile.runs:
                    drawn += a[..., columns] @ v[tile.items, keys]
        ctx.save_for_backward(z, v, masses, *numbers, norms, out, log_sum)
        ctx.kind, ctx.tiles = kind, tiles
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        z, v, masses, *numbers, norms, out, log_sum = ctx.saved_tensors
        dout = gradients[0].contiguous()
        along = torch.linalg.vecdot(dout, out)
        dz, dv, into, d_masses = (torch.zeros_like(x) for x in (z, v, masses, masses))
        d_numbers = [torch.zeros_like(x) for x in numbers]
        rooms = z.new_empty(2, max(prod(tile.shape) for tile in ctx.tiles))
        arrays = _arrays(norms, masses, *numbers, log_sum, along, into, d_masses, *d_numbers)
        with _runner() as run:
            for tile in ctx.tiles:
                here, above = z[tile.items, tile.rows], dout[tile.items, tile.rows]
                a, slopes = (room[: prod(tile.shape)].view(tile.shape) for room in rooms)
                for keys, columns in tile.runs:
                    torch.bmm(here, z[tile.items, keys].mT, out=a[..., columns])
                    torch.bmm(above, v[tile.items, keys].mT, out=slopes[..., columns])
                parts = (x[tile.items] for x in arrays)
                run(kernels.differentiate, ctx.kind, a.numpy(), slopes.numpy(), tile.starts, *parts)
                d_here = dz[tile.items, tile.rows]
                for keys, columns in tile.runs:
                    dv[tile.items, keys].baddbmm_(a[..., columns].mT, above)
                    d_here.sub_(slopes[..., columns] @ z[tile.items, keys], alpha=2)
                    dz[tile.items, keys].sub_(slopes[..., columns].mT @ here, alpha=2)
        dz += 2 * into[..., None] * z
        return dz, dv, d_masses, *d_numbers, None


def _arrays(*tensors: Tensor) -> list[NDArray]:
    return [x.numpy() for x in tensors]
