"""Where the tokens of a text stand in a gravity model, along the principal axes of their places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tgn.models import Model

AXES = 3


class View(NamedTuple):
    """Tokens in three dimensions.

    Attributes
    ----------
    points : array, shape (T, 3)
        Along the principal axes, from the mean on; an axis' sign makes its largest entry positive.
    explained : array, shape (3,)
        Share of the variance along each.
    masses : array, shape (T,)
    layer : int
        Blocks that the tokens have gone through.
    """

    points: NDArray[np.floating]
    explained: NDArray[np.floating]
    masses: NDArray[np.floating]
    layer: int


def view(model: Model, tokens: Sequence[int], layer: int | None = None) -> View:
    """Coordinates of a text's tokens after some of a gravity model's blocks.

    Parameters
    ----------
    model
        Ours or as published; the mixer is ``gravity``.
    tokens
        Ids, at least three, no more than the context.
    layer
        How many blocks have moved the coordinates: 0 for what enters the first, all when not
        given. (The last block of ours moves nothing.)

    Raises
    ------
    ValueError
        If the model has no coordinates, there are fewer than three tokens or more than the context,
        or the layer does not exist.
    """
    if model.config.mixer != "gravity":
        raise ValueError(
            f"a model with the mixer {model.config.mixer} has no coordinates: choose one trained "
            "with mixer: gravity"
        )
    if len(tokens) < AXES:
        raise ValueError(f"{len(tokens)} tokens given: a view in {AXES} dimensions needs {AXES}")
    depth = len(model.blocks)
    layer = depth if layer is None else layer
    if not 0 <= layer <= depth:
        raise ValueError(f"layer must be in 0 ... {depth}, got {layer}")
    places, masses = placed(model, torch.tensor([list(tokens)]))
    points, explained = principal(places[layer, 0].double().numpy())
    return View(points, explained, masses[0].double().numpy(), layer)


@torch.no_grad()
def placed(model: Model, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates (blocks + 1, B, T, C) before every block and after the last, masses (B, T)."""
    found: list[Tensor] = []
    masses: list[Tensor] = []

    def before(block: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found.append(inputs[1].float().expand(len(tokens), -1, -1))
        masses.append(inputs[2].float())

    def after(block: nn.Module, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        found.append(output[1].float())

    hooks = [block.register_forward_pre_hook(before) for block in model.blocks]
    hooks.append(model.blocks[-1].register_forward_hook(after))
    try:
        model(tokens.to(next(model.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(found).cpu(), masses[0].cpu()


def principal(x: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Rows (T, C) along their three principal axes, and the share of the variance along each.

    Where there are fewer axes than three, or no variance, zeros stand for what is not there.

    Examples
    --------
    >>> points, explained = principal(np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]]))
    >>> points[:, 0].tolist(), explained.tolist()
    ([1.0, -1.0, 0.0], [1.0, 0.0, 0.0])
    """
    x = x - x.mean(axis=0)
    _, sizes, axes = np.linalg.svd(x, full_matrices=False)
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    points = x @ (axes * np.where(largest < 0, -1.0, 1.0)).T
    variances = sizes**2
    explained = variances / (variances.sum() or 1.0)
    lacking = max(0, AXES - len(sizes))
    return np.pad(points, ((0, 0), (0, lacking)))[:, :AXES], np.pad(explained, (0, lacking))[:AXES]
