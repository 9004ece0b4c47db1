"""Cross-entropy together with the output head, so that no table of all logits is kept.

Logits are N x vocabulary numbers, the largest tensor of a small language model. Here they live
for one run of tokens at a time, and their gradient is computed at once, while they are in cache
(after Wijmans et al. 2024, "Cut your losses", and Liger-Kernel's fused linear cross-entropy).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tgn.text.recall import IGNORED

LOGITS = {"cpu": 2**20}  # at a time; elsewhere:
MOST_LOGITS = 2**26


def cross_entropy(x: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of softmax(weight x), in nats.

    Parameters
    ----------
    x : tensor, shape (B, T, d)
    weight : tensor, shape (vocabulary, d)
    targets : int tensor, shape (B, T)
        -100 is ignored.

    Returns
    -------
    loss : scalar
        Mean over targets, with gradient; NaN if all are ignored.
    nats : tensor, shape (B, T)
        Of each token, without gradient; 0 where ignored.
    """
    counted = targets != IGNORED
    total, nats = _LinearCrossEntropy.apply(x[counted], weight, targets[counted])
    everywhere = nats.new_zeros(targets.shape).masked_scatter_(counted, nats)
    return total / counted.sum(), everywhere


class _LinearCrossEntropy(torch.autograd.Function):
    """Sum of nats over N tokens; gradients are made in the forward pass, of the sum, which keeps
    them far from underflow in half precision, and scaled in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        with torch.autocast(device, enabled=False):
            nats, dx, dweight = _nats_and_gradients(
                x.to(dtype), weight.to(dtype), targets, any(ctx.needs_input_grad)
            )
        if dx is not None:
            ctx.save_for_backward(dx, dweight)
        ctx.dtypes = x.dtype, weight.dtype
        ctx.mark_non_differentiable(nats)
        return nats.sum(), nats

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        dx, dweight = ctx.saved_tensors
        return (
            (dx * gradients[0]).to(ctx.dtypes[0]),
            (dweight * gradients[0]).to(ctx.dtypes[1]),
            None,
        )


def _nats_and_gradients(
    x: Tensor, weight: Tensor, targets: Tensor, differentiate: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    exact = torch.promote_types(x.dtype, torch.float32)
    nats = torch.empty(len(x), dtype=exact, device=x.device)
    dx = torch.empty_like(x) if differentiate else None
    dweight = torch.zeros_like(weight, dtype=exact) if differentiate else None
    rows = max(64, LOGITS.get(x.device.type, MOST_LOGITS) // len(weight))
    for start in range(0, len(x), rows):
        part = slice(start, start + rows)
        target = targets[part, None]
        logits = (x[part] @ weight.mT).to(exact)
        logits -= logits.amax(dim=1, keepdim=True)
        chosen = logits.gather(1, target)
        mass = logits.exp_().sum(dim=1, keepdim=True)
        nats[part] = (mass.log() - chosen).squeeze(1)
        if dx is not None and dweight is not None:
            slope = logits.div_(mass)  # softmax - 1 at the target
            slope.scatter_add_(1, target, slope.new_full(target.shape, -1))
            slope = slope.to(x.dtype)
            dx[part] = slope @ weight
            dweight += slope.mT @ x[part]
    return nats, dx, dweight
