"""The residual stream of the project's own trained models, for the probes of pretrained ones."""

from __future__ import annotations

from pathlib import Path

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
    states: list[Tensor] = []

    def before(block: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        states.append(inputs[0].float())

    def after(block: nn.Module, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        states.append(output[0].float())

    for block in model.blocks:
        block.register_forward_pre_hook(before)
    model.blocks[-1].register_forward_hook(after)
    model(tokens)
    return torch.stack(states)
