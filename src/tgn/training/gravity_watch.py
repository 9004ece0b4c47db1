"""What is followed in a gravity model while it trains: its strengths and radii, and coordinates."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tgn.models.gravity import Gravity


def numbers(model: nn.Module) -> dict[str, float]:
    """Mean and standard deviation of gamma over all heads, and the mean of the radius.

    Of either form of the model, ours and the published one.
    """
    found = [_learned(block) for block in _blocks(model)]
    gamma, radius = (torch.cat(part) for part in zip(*found, strict=True))
    return {
        "gamma_mean": gamma.mean().item(),
        "gamma_std": gamma.std(correction=0).item(),
        "radius_mean": radius.mean().item(),
    }


def _learned(block: Any) -> tuple[Tensor, Tensor]:
    """gamma by head, and the radius, by head or one."""
    if isinstance(mixer := getattr(block, "mixer", None), Gravity):
        gamma, _, radius2, _ = mixer.numbers()
        return gamma.detach(), radius2.detach().sqrt()
    return F.softplus(block.gamma.detach()), F.softplus(block.radius.detach())[None]


def coordinates(model: nn.Module, tokens: NDArray[Any]) -> Tensor:
    """Coordinates (T, C) of T tokens after the last block, float32 on the CPU."""
    kept: list[Tensor] = []
    hook = _blocks(model)[-1].register_forward_hook(lambda *call: kept.append(call[2][1]))
    device = next(model.parameters()).device
    try:
        model(torch.from_numpy(np.asarray(tokens, dtype=np.int64)).to(device)[None])
    finally:
        hook.remove()
    return kept[0][0].float().cpu()


def _blocks(model: Any) -> Any:
    return model.blocks
