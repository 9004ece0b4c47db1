"""Optimizers: Muon on the matrices inside the network with AdamW on the rest, or AdamW alone."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

KINDS = ("muon", "adamw")
DECAYS = ("linear", "cosine")

_MAPS = (nn.Linear, nn.RNNBase)
_DECAYED = (*_MAPS, nn.Embedding, nn.Conv1d)


def make(
    model: nn.Module,
    kind: str = "muon",
    *,
    learning_rate: float,
    rest_learning_rate: float | None = None,
    weight_decay: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.95),
    momentum: float = 0.95,
) -> list[torch.optim.Optimizer]:
    """The optimizers of a model, the one of its hidden matrices first.

    Muon (Jordan et al. 2024) steps along the nearest semi-orthogonal matrix to the momentum, and
    so is meant for matrices that map features to features: see :func:`hidden_matrices`. Its step
    is scaled to the root mean square of AdamW's (Liu et al. 2025, arXiv:2502.16982), so that both
    read one learning rate and one weight decay. An ``nn.GRU`` keeps the maps of its three gates
    stacked in one matrix, which is stepped as one map, from features to all gates.

    Weight decay falls on the weights of maps, embeddings and convolutions under either kind,
    never on norms, biases or the parameters of a state space.

    Parameters
    ----------
    kind
        ``muon``, or ``adamw`` for AdamW on everything.
    rest_learning_rate
        Of what Muon does not take; the same as ``learning_rate`` when None.
    betas, momentum
        Of AdamW and of Muon.

    Raises
    ------
    ValueError
        If the kind is unknown, or Muon finds no matrix in the model.
    """
    if kind not in KINDS:
        raise ValueError(f"optimizer: {kind!r} given; allowed are {', '.join(KINDS)}")
    matrices = hidden_matrices(model) if kind == "muon" else []
    if kind == "muon" and not matrices:
        raise ValueError("optimizer: muon given, but the model has no hidden matrix; use adamw")
    taken = {id(matrix) for matrix in matrices}
    decayed = {id(p) for p in _weights(model, _DECAYED)}
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in taken]
    groups = [
        {"params": [p for p in rest if id(p) in decayed], "weight_decay": weight_decay},
        {"params": [p for p in rest if id(p) not in decayed], "weight_decay": 0.0},
    ]
    made: list[torch.optim.Optimizer] = []
    if matrices:
        made.append(
            torch.optim.Muon(
                matrices,
                lr=learning_rate,
                weight_decay=weight_decay,
                momentum=momentum,
                adjust_lr_fn="match_rms_adamw",
            )
        )
        learning_rate = learning_rate if rest_learning_rate is None else rest_learning_rate
    if groups := [group for group in groups if group["params"]]:
        made.append(torch.optim.AdamW(groups, lr=learning_rate, betas=betas, fused=True))
    return made


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """Weights of linear and recurrent layers that map features to features.

    Not among them: embeddings and what is tied to them, the map onto the vocabulary (a layer
    called ``head``), maps onto one number (a gate: orthogonalising a row only normalises it),
    convolutions, and matrices that are no linear map, such as the decay rates of a state space.
    """
    tied = {id(weight) for weight in _weights(model, (nn.Embedding,))}
    head = {id(p) for name, p in model.named_parameters() if "head" in name.split(".")}
    return [
        weight
        for weight in _weights(model, _MAPS)
        if min(weight.shape) > 1 and id(weight) not in tied | head
    ]


def schedule(
    optimizer: torch.optim.Optimizer,
    *,
    steps: int,
    warmup: float = 0.0,
    decay: float = 0.0,
    final: float = 0.0,
    shape: str = "linear",
) -> LambdaLR:
    """Linear warm-up, then constant, then a decay to a fraction of the learning rate.

    Parameters
    ----------
    steps
        Of the whole run.
    warmup, decay
        Fractions of the run.
    final
        The fraction of the learning rate that the last step comes down to.
    shape
        Of the decay: ``linear`` or ``cosine``.

    Raises
    ------
    ValueError
        If the fractions do not fit into a run or the shape is unknown.
    """
    if shape not in DECAYS:
        raise ValueError(f"decay shape: {shape!r} given; allowed are {', '.join(DECAYS)}")
    if min(warmup, decay) < 0 or warmup + decay > 1:
        raise ValueError(
            f"warmup {warmup} and decay {decay} must be fractions of a run, together at most 1"
        )
    if not 0 <= final <= 1:
        raise ValueError(f"final must be between 0 and 1, got {final}")
    factor = partial(
        _factor, steps=steps, warmup=warmup * steps, decay=decay * steps, final=final, shape=shape
    )
    return LambdaLR(optimizer, factor)


def _factor(
    step: int, *, steps: int, warmup: float, decay: float, final: float, shape: str
) -> float:
    """Share of the learning rate at a step, counted from 0; the first step is not lost to 0."""
    done = step + 1
    if done < warmup:
        return done / warmup
    left = min(1.0, max(0.0, steps - done) / decay) if decay else 1.0
    if shape == "cosine":
        left = (1 - math.cos(math.pi * left)) / 2
    return final + (1 - final) * left


def _weights(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> list[nn.Parameter]:
    """Trained parameters of two and more dimensions in layers of these kinds, each once."""
    found = {
        id(parameter): parameter
        for part in model.modules()
        if isinstance(part, kinds)
        for parameter in part.parameters(recurse=False)
        if parameter.ndim >= 2 and parameter.requires_grad
    }
    return list(found.values())
