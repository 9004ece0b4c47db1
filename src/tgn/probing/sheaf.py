"""Attention as a sheaf over the tokens: its Laplacian, and what is read off it layer by layer.

Every token carries a vector, every pair of tokens i < j an edge with a space of head width between
them. Restriction maps lead from the tokens to the edge. Two conventions, for one head with weights
A (rows sum to 1) and value map W:

    directed    sqrt(A_ij) W at i and sqrt(A_ji) W at j
    symmetric   sqrt(S_ij) W at both ends, where S = (A + A') / 2

The coboundary takes the difference of both ends, (delta x)_ij = F_j x_j - F_i x_i, and the
Laplacian is delta' delta: symmetric, without negative eigenvalues. In both conventions its trace is

    sum_i sum_{j != i} A_ij |W|_F^2 = (n - tr A) |W|_F^2,

which adds over heads (their edges are distinct). A_ij + A_ji at both ends would double it. With
causal weights one of A_ij and A_ji is zero, so the directed Laplacian joins no two tokens: it is
diag(1 - A_ii) times W' W, and has no gap to speak of. The symmetric one is L_S times W' W, with L_S
the graph Laplacian of S; its gap and the reach of its edges tell something.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel

from tgn import sources
from tgn.files import write_table
from tgn.models import io
from tgn.models.attention import Attention, causal_bias
from tgn.probing import as_published
from tgn.probing.adapters import adapt
from tgn.probing.pretrained import load_tokenizer
from tgn.probing.prompts import NEUTRAL, read_prompts, variants
from tgn.probing.turning import turning_layers
from tgn.probing.value_output import (
    NOT_FINITE,
    UNMEASURABLE,
    layer_maps,
    load,
    loading,
    own_attention,
    spectral_norm,
)
from tgn.progress import bar

Array = NDArray[np.floating]

COLUMNS = ("model", "prompt", "layer", "quantity", "value", "reason")
QUANTITIES = (
    "trace", "trace_per_token", "trace_normalised", "trace_zero", "locality", "contraction", "gap",
)  # fmt: skip


def trace(attention: Array, energies: Array) -> float:
    """Trace of the sheaf Laplacian, sum over heads of (n - tr A_h) |W_V,h|_F^2.

    Parameters
    ----------
    attention
        Row-stochastic, shape (heads, n, n).
    energies
        |W_V,h|_F^2, shape (heads,).
    """
    return float((attention.shape[-1] - np.trace(attention, axis1=1, axis2=2)) @ energies)


def coboundary(
    attention: Array, value: Array, convention: Literal["directed", "symmetric"] = "directed"
) -> Array:
    """The matrix delta of one head, shape (n (n - 1) / 2 * head width, n * input width).

    For small cases: the formulas of this module are what it leads to.

    Parameters
    ----------
    attention
        Shape (n, n).
    value
        Shape (head width, input width).
    """
    n = len(attention)
    ends = attention if convention == "directed" else (attention + attention.T) / 2
    first, second = np.triu_indices(n, k=1)
    incidence = np.zeros((len(first), n))
    edges = np.arange(len(first))
    incidence[edges, first] = -np.sqrt(ends[first, second])
    incidence[edges, second] = np.sqrt(ends[second, first])
    return np.kron(incidence, value)


def graph_laplacian(attention: Array) -> Array:
    """D - S of S = (A + A') / 2, shape (..., n, n); the diagonal of A drops out."""
    symmetric = (attention + attention.swapaxes(-1, -2)) / 2
    return symmetric.sum(axis=-1)[..., None] * np.eye(attention.shape[-1]) - symmetric


def gap(attention: Array) -> float:
    """Second smallest eigenvalue of the graph Laplacian of S, mean over heads; 0 if disconnected.

    The value map scales it by its own singular values, the same for all prompts.

    Raises
    ------
    ValueError
        If there is one token only.
    """
    _need_two(attention)
    return float(np.linalg.eigvalsh(graph_laplacian(attention))[:, 1].mean())


def locality(attention: Array) -> float:
    """How near attention reads: 1 only itself, 0 as far on the mean as even attention to the past.

    One minus the mean distance sum_ij S_ij |i - j| over that of even causal attention, of all heads
    together. Negative where it reads farther: -1 if every token reads the first one alone.

    Raises
    ------
    ValueError
        If there is one token only.
    """
    _need_two(attention)
    heads, n, _ = attention.shape
    at = np.arange(n)
    reach = (attention * np.abs(at[:, None] - at)).sum()
    return float(1 - reach / (heads * at.sum() / 2))


def contraction(attention: Array) -> float:
    """Mean of |sqrt(A_ij) W_V|_2 / |W_V|_2 over heads and pairs j <= i: the mean of sqrt(A_ij).

    Below 1 whatever the weights, and falling with the number of tokens: an identity, no finding.
    """
    return float(np.sqrt(attention[:, *np.tril_indices(attention.shape[-1])]).mean())


def _need_two(attention: Array) -> None:
    if attention.shape[-1] < 2:
        raise ValueError("one token has nothing to read but itself: two are needed")


def attention_maps(model: Any, tokens: NDArray) -> Array:
    """Attention weights of every layer for one prompt, shape (layers, heads, n, n), float64.

    A pretrained model must have been loaded with the library's plain ("eager") attention, the one
    that shows its weights. Of this project's models, weights are computed anew from the layer's
    input.

    Parameters
    ----------
    tokens
        Shape (n,).

    Raises
    ------
    ValueError
        If the model is of an unknown family or does not attend, shows no weights, or shows
        weights on later tokens (some families leave out the mask if attention is not eager).
    """
    ids = torch.from_numpy(tokens)[None].to(next(model.parameters()).device)
    with torch.inference_mode():
        if isinstance(model, PreTrainedModel):
            body = adapt(model).body
            shown = body(ids, use_cache=False, output_attentions=True).attentions
        else:
            shown = _own_maps(model, ids)
    name = getattr(model.config, "model_type", type(model).__name__)
    if not shown or any(weights is None for weights in shown):
        raise ValueError(f"{name} shows no attention weights: load it with eager attention")
    maps = torch.cat(tuple(shown)).cpu().double().numpy()
    if (np.triu(maps, k=1) > 0).any():
        raise ValueError(
            f"{name} shows attention to later tokens: it is not causal, or not loaded with eager"
            " attention"
        )
    return maps


def _own_maps(model: nn.Module, ids: torch.Tensor) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []

    def weigh(attention: Attention, args: tuple) -> None:
        positions = torch.arange(args[0].shape[1], device=args[0].device)
        keys, _, _ = attention.keys_values(args[0], None)
        scores = attention.queries(args[0], positions) @ keys.mT * attention.channels**-0.5
        scores = scores + causal_bias(positions, len(positions), scores.dtype)
        found.append(scores.softmax(dim=-1))

    with ExitStack() as hooks:
        for attention in own_attention(model):
            hooks.callback(attention.register_forward_pre_hook(weigh).remove)
        model(ids)
    return found


def measure_prompt(maps: Array, energies: Array, spectral: Array) -> pd.DataFrame:
    """Every quantity of every layer for one prompt.

    Parameters
    ----------
    maps
        Shape (layers, heads, n, n).
    energies
        |W_V,h|_F^2, shape (layers, heads); NaN where weights are not finite.
    spectral
        Spectral norm of the whole of W_V, shape (layers,).

    Returns
    -------
    DataFrame
        Columns layer (from 1), quantity, value, reason. A value that cannot be had is missing, and
        the reason says why.
    """
    rows = []
    for layer, (attention, energy, largest) in enumerate(
        zip(maps, energies, spectral, strict=True), start=1
    ):
        reason = _why_not(attention, energy)
        values = dict.fromkeys(QUANTITIES, np.nan) if reason else _quantities(attention, energy)
        rows += [
            (layer, quantity, value, "" if np.isfinite(value) else reason or "a single token")
            for quantity, value in {**values, "trace_proxy": largest**2}.items()
        ]
    return pd.DataFrame(rows, columns=["layer", "quantity", "value", "reason"])


def _why_not(attention: Array, energy: Array) -> str:
    if not np.isfinite(attention).all():
        return "attention weights are not finite"
    return "" if np.isfinite(energy).all() else NOT_FINITE


def _quantities(attention: Array, energy: Array) -> dict[str, float]:
    n = attention.shape[-1]
    total = trace(attention, energy)
    return {
        "trace": total,
        "trace_per_token": total / n,
        "trace_normalised": total / energy.sum(),
        "trace_zero": as_published.zero_trace(attention.astype(np.float32), energy),
        "locality": locality(attention) if n > 1 else np.nan,
        "contraction": contraction(attention),
        "gap": gap(attention) if n > 1 else np.nan,
    }


def measure(model: Any, prompts: Mapping[str, Sequence[int]]) -> pd.DataFrame:
    """Every quantity for every prompt, one prompt at a time.

    Parameters
    ----------
    model
        See :func:`attention_maps`.
    prompts
        Token ids by name.

    Returns
    -------
    DataFrame
        As :func:`measure_prompt`, with a column ``prompt``.

    Raises
    ------
    ValueError
        As :func:`attention_maps` and :func:`tgn.probing.value_output.layer_maps`.
    """
    energies, spectral = weight_norms(model)
    parts = [
        measure_prompt(attention_maps(model, np.asarray(ids)), energies, spectral).assign(
            prompt=name
        )
        for name, ids in bar(prompts.items(), desc="prompts", unit="prompt")
    ]
    return pd.concat(parts, ignore_index=True)


def weight_norms(model: Any) -> tuple[Array, Array]:
    """|W_V,h|_F^2 of each head, (layers, heads), and |W_V| of each layer; NaN if not finite."""
    energies, spectral = [], []
    for maps in layer_maps(model):
        value = maps.value.cpu().double().numpy()
        finite = np.isfinite(value).all()
        energies.append((value**2).sum(axis=(1, 2)) if finite else np.full(len(value), np.nan))
        spectral.append(spectral_norm(np.concatenate(value)) if finite else np.nan)
    return np.stack(energies), np.array(spectral)


def measure_sheaf(
    *,
    model: str | Path,
    label: str,
    dtype: str,
    prompts: str | Path,
    per_category: int | None,
    table: str | Path,
    turning: str | Path,
) -> None:
    """Sheaf quantities and turning layers of one model.

    Parameters
    ----------
    model
        Receipt of a pretrained model's folder, or the weights file of a model of this project,
        whose tokenizer stands beside it.
    label
        What the column ``model`` says.
    dtype
        In which the model computes, see :func:`tgn.probing.value_output.load`; what is made of its
        attention is in double precision.
    prompts, per_category
        See :func:`tgn.probing.prompts.read_prompts`; each is read as its tokenizer gives it.
        Controls are left out.
    table
        Written: columns model, prompt, layer (from 1), quantity, value, reason; see
        :func:`measure_prompt`. A model that does not load, or shows no attention, leaves one row,
        of layer -1, with the reason.
    turning
        Written: see :func:`tgn.probing.turning.turning_layers`.

    Raises
    ------
    FileNotFoundError, ValueError
        If the receipt or the prompts are not as they must be.
    """
    asked = read_prompts(prompts, per_category)
    asked = asked[asked["category"] != NEUTRAL]
    try:
        ids, _ = variants(asked, _tokenizer(Path(model)), seed=0)
        found = measure(load(model, dtype), ids["plain"])
    except UNMEASURABLE as error:
        found = pd.DataFrame([{"prompt": "", "layer": -1, "quantity": "", "reason": str(error)}])
    found = found.assign(model=label).reindex(columns=COLUMNS).astype({"value": float})
    write_table(table, found)
    write_table(turning, turning_layers(found))


def _tokenizer(path: Path) -> Any:
    if path.name == sources.RECEIPT:
        with loading():
            return load_tokenizer(path.parent)
    return io.load_tokenizer(path.parent)
