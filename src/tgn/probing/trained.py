"""The residual stream of the project's own trained models, for the probes of pretrained ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tgn.models import io


@torch.no_grad()
def residual_states(folder: str | Path, tokens: Tensor) -> Tensor:
    """States before every block and after the last one, before the final norm, in float32.

    What :func:`tgn.rank.rank_profile` and the definitions of figure 8 take, layer by layer.

    Parameters
    ----------
    folder
        A training run's folder, or one made by ``tgn export``.
    tokens : tensor, shape (B, T)
        Ids of the model's own tokenizer.

    Returns
    -------
    tensor, shape (blocks + 1, B, T, width)

    Raises
    ------
    ValueError
        If the folder does not hold a model of this project, or the tokens exceed its context.
    """
    model = io.load(folder)
    with recorded_states(model) as states:
        model(tokens)
    return torch.stack(states)


@contextmanager
def recorded_states(model: Any) -> Iterator[list[Tensor]]:
    """A list that fills with the states of :func:`residual_states` while the model runs once.

    Parameters
    ----------
    model
        A model of this project, as :func:`tgn.models.io.load` gives it.
    """
    states: list[Tensor] = []

    def before(block: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        states.append(inputs[0].float())

    def after(block: nn.Module, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        states.append(output[0].float())

    hooks = [block.register_forward_pre_hook(before) for block in model.blocks]
    hooks.append(model.blocks[-1].register_forward_hook(after))
    try:
        yield states
    finally:
        for hook in hooks:
            hook.remove()
