"""What a language model loses when one of its weight matrices is changed.

One matrix at a time is replaced in the model itself and put back to the bit. The loss is that of
given windows of tokens, the same for every change, so that a change is judged by differences window
by window. A change of equal size in a random direction stands beside each one, see
:mod:`tgn.thermodynamics.perturbation`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from tgn.probing import weights
from tgn.probing.adapters import Projection, adapt_stacks
from tgn.probing.training_dynamics import state_matrices
from tgn.progress import bar
from tgn.statistics import Interval, bootstrap_interval
from tgn.thermodynamics.perturbation import Changes, variants

SHORT: dict[str, Projection] = {name: short for short, name in weights.PROJECTIONS.items()}


def respond(
    model: nn.Module,
    windows: ArrayLike,
    changes: Changes,
    *,
    rng: np.random.Generator,
    names: Sequence[str] | None = None,
    draws: int = 1,
    control: bool = True,
    batch: int = 4,
) -> pd.DataFrame:
    """Loss and perplexity of a model after every change of every matrix, one at a time.

    Parameters
    ----------
    model
        In evaluation mode: a causal model of `transformers` or one of ours. It is the same before
        and after, to the bit.
    windows : int array, shape (n, length)
        Token ids. The first of a window is only read.
    changes, draws, control
        As :func:`tgn.thermodynamics.perturbation.respond`.
    rng
        Of the random changes, the controls and the bootstrap.
    names
        Of the matrices, see :func:`names_of`; all of them unless given.
    batch
        Windows at once.

    Returns
    -------
    DataFrame
        The columns of :func:`tgn.thermodynamics.perturbation.respond`, with the metrics ``nats``
        (cross-entropy a token) and ``perplexity``, and ``low`` and ``high``, the 95 % interval of
        the change over windows (missing if there is but one).

    Raises
    ------
    ValueError
        If the model is in training mode, has no such matrix, the windows are no two tokens long, a
        change is refused, or a loss is not finite.
    """
    reference = window_nats(model, windows, batch=batch)
    rows: list[dict[str, Any]] = []
    names = names_of(model) if names is None else list(names)
    places = {name: _place(model, name) for name in names}  # refuse before the first hour
    for name in bar(names, desc="matrices", unit="matrix"):
        matrix = places[name].detach().double().numpy(force=True)
        matrix = matrix.reshape(_two_axes(name, matrix.shape))
        for place, changed in variants(matrix, changes, rng=rng, draws=draws, control=control):
            with perturbed(model, name, changed):
                nats = window_nats(model, windows, batch=batch)
            for metric, of in (("nats", np.mean), ("perplexity", _perplexity)):
                value, before = float(of(nats)), float(of(reference))
                change = _difference(nats, reference, of, rng)
                rows.append(
                    {"matrix": name, **place}
                    | {"metric": metric, "value": value, "reference": before}
                    | {"change": change.value, "low": change.low, "high": change.high}
                )
    return pd.DataFrame(rows)


@contextmanager
def perturbed(model: nn.Module, name: str, matrix: ArrayLike) -> Iterator[None]:
    """Let a model have another matrix inside the block, and its own again after it, to the bit.

    A matrix that the model uses twice, as tied embeddings, is changed in both places.

    Parameters
    ----------
    name
        One of :func:`names_of`.
    matrix : array, shape (output, input)
        Rounded to the model's precision.

    Raises
    ------
    ValueError
        If there is no such matrix, or the one given has another shape.
    """
    place = _place(model, name)
    given = np.asarray(matrix)
    if given.shape != _two_axes(name, tuple(place.shape)):
        raise ValueError(
            f"matrix has shape {given.shape}; {name} is {_two_axes(name, tuple(place.shape))}"
        )
    kept = place.detach().clone()
    try:
        with torch.no_grad():
            place.copy_(torch.from_numpy(np.ascontiguousarray(given)).reshape(place.shape))
        yield
    finally:
        with torch.no_grad():
            place.copy_(kept)


@torch.no_grad()
def window_nats(model: nn.Module, windows: ArrayLike, *, batch: int = 4) -> NDArray[np.float64]:
    """Cross-entropy of each window, in nats a token.

    Parameters
    ----------
    model
        Called with ids (batch, length - 1); returns ``logits``.
    windows : int array, shape (n, length)

    Returns
    -------
    array, shape (n,)

    Raises
    ------
    ValueError
        If the model is in training mode, the windows are not whole numbers of shape (n, length)
        with n > 0 and length > 1, the batch is not positive, or a loss is not finite.
    """
    if model.training:
        raise ValueError("model is in training mode, where losses are random: call model.eval()")
    tokens = np.asarray(windows)
    if tokens.ndim != 2 or tokens.shape[0] < 1 or tokens.shape[1] < 2:
        raise ValueError(f"windows must be (n, length) with length > 1, got {tokens.shape}")
    if tokens.dtype.kind not in "iu":
        raise ValueError(f"windows must be token ids, got {tokens.dtype}")
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    device = next(model.parameters()).device
    nats = []
    for first in range(0, len(tokens), batch):
        ids = torch.from_numpy(tokens[first : first + batch].astype(np.int64)).to(device)
        output = model(ids[:, :-1])
        if getattr(output, "logits", None) is None:
            raise ValueError("model has no head: load it as a causal language model")
        logits = output.logits.float().transpose(1, 2)
        losses = cross_entropy(logits, ids[:, 1:], reduction="none")
        nats.append(losses.double().mean(dim=1).numpy(force=True))
    found = np.concatenate(nats)
    if not np.isfinite(found).all():
        raise ValueError(f"the loss of window {int(np.argmin(np.isfinite(found)))} is not finite")
    return found


def names_of(model: nn.Module) -> list[str]:
    """Names of a model's matrices.

    Those of :func:`tgn.probing.weights.matrices`, and of our own models those of
    :func:`tgn.probing.training_dynamics.state_matrices`.
    """
    if isinstance(model, PreTrainedModel):
        return [name for name, _ in weights.matrices(model)]
    return list(state_matrices(dict(model.named_parameters())))


def _place(model: nn.Module, name: str) -> Tensor:
    """The view into a model's parameters where a matrix is; heads may have an axis of their own."""
    if not isinstance(model, PreTrainedModel):
        found = state_matrices(dict(model.named_parameters()))
        if name not in found:
            raise ValueError(f"names: no matrix {name!r}; there are {', '.join(found)}")
        return found[name]
    weights.refuse_quantised(model)
    if name == weights.EMBEDDINGS:
        return model.get_input_embeddings().get_parameter("weight")
    parts = re.fullmatch(r"(?:(\w+)_)?layer_(\d+)/(\w+)\.(\w+)", name)
    if parts is None or name not in names_of(model):
        raise ValueError(f"names: no matrix {name!r}; there are {', '.join(names_of(model))}")
    stack, layer, part, which = parts.groups()
    adapter = adapt_stacks(model)[stack or ""]
    if part == "ffn":
        return {str(key): view for key, view in adapter.mlp(int(layer)).items()}[which]
    of = adapter.cross_projection if part == "cross_attention" else adapter.projection
    return of(int(layer), SHORT[which])


def _two_axes(name: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """(output, input) of a view of three axes: heads are in the output, of an output map in the
    input."""
    if len(shape) == 2:
        return shape[0], shape[1]
    first, heads, last = shape
    return (first, heads * last) if name.endswith("attention.output") else (first * heads, last)


def _perplexity(nats: NDArray) -> Any:
    return np.exp(np.mean(nats))


def _difference(nats: NDArray, reference: NDArray, of: Any, rng: np.random.Generator) -> Interval:
    if len(nats) < 2:
        change = float(of(nats) - of(reference))
        return Interval(change, np.nan, np.nan)
    return bootstrap_interval((nats, reference), lambda a, b: of(a) - of(b), rng=rng, resamples=500)
