"""Perplexity of a whole split, and what the gates did.

Protocol
--------
*Text.* The documents of the split stand one after the other, an end token after each; windows run
across documents. An end token stands before the first document, so that every token of the split
is predicted, exactly once.

*Windows.* A window is ``context`` input tokens. The first predicts all its targets; each further
one is shifted by ``stride`` and predicts only the ``stride`` targets not predicted before, each
with at least ``context - stride`` tokens to its left in the window. The last window ends with
the split and may overlap more. ``stride = context`` gives windows without overlap.

*Loss.* Task loss in nats, without penalty, dropout off. With ``nats`` summed over the split, and
words and bytes those of the documents themselves (:mod:`tgn.text.tokens` says how counted):

    token perplexity  exp(nats / tokens)
    word perplexity   exp(nats / words)
    bits per byte     nats / (ln 2 * bytes)

End tokens are part of ``nats`` and of ``tokens``, but are neither words nor bytes: a model pays for
telling where a document ends. Perplexities of different tokenizers, contexts or strides are
different quantities.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn
from torch.nn.functional import cross_entropy

from tgn.progress import bar
from tgn.text.tokens import open_tokens

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
THRESHOLDS = (0.1, 0.25, 0.5)


class Scores(NamedTuple):
    """What a model made of every token of a split."""

    nats: NDArray[np.float32]  # of each token, shape (T,)
    gates: NDArray[np.float32] | None  # where each token was predicted, shape (layers, T)


class Evaluation(NamedTuple):
    """A split in numbers, by document and by layer."""

    summary: dict[str, float]
    documents: pd.DataFrame  # document, nats, targets, gate; words and bytes
    blocks: pd.DataFrame  # block, nats, targets, gate, in blocks of four contexts
    gates: pd.DataFrame | None  # as :func:`gate_table`


def evaluate(
    model: nn.Module,
    folder: str | Path,
    split: str,
    *,
    context: int,
    stride: int,
    batch: int = 8,
    hard: Any = None,
) -> Evaluation:
    """Evaluate a model on a whole split of a tokenised text.

    Parameters
    ----------
    folder
        A folder made by :func:`tgn.text.tokens.prepare`.
    split
        ``validation`` or ``test``.
    context, stride, batch, hard
        As :func:`score`.

    Returns
    -------
    Evaluation
        ``summary``: ``nats``, ``tokens``, ``words``, ``bytes``, the three ratios of the protocol,
        ``context``, ``stride``, and, if the model has gates, their mean ``gate``.

    Raises
    ------
    ValueError
        As :func:`tgn.text.tokens.open_tokens` and :func:`score`.
    """
    counts = json.loads((Path(folder) / "counts.json").read_text(encoding="utf-8"))
    tokens, end = open_tokens(folder, split, context), counts["end"]
    scores = score(model, tokens, end=end, context=context, stride=stride, batch=batch, hard=hard)
    told = pd.read_parquet(Path(folder) / "documents.parquet", filters=[("split", "==", split)])
    documents = by_document(scores, tokens, end).merge(
        told[["document", "words", "bytes"]], on="document", validate="one_to_one"
    )
    sums = {key: int(counts[split][key]) for key in ("tokens", "words", "bytes")}
    summary = perplexities(float(documents["nats"].sum()), **sums)
    summary |= {**sums, "context": context, "stride": stride}
    blocks = by_block(scores, 4 * context)
    if scores.gates is None:
        return Evaluation(summary, documents, blocks, None)
    return Evaluation(
        summary | {"gate": float(scores.gates.mean(dtype=np.float64))},
        documents,
        blocks,
        gate_table(scores.gates),
    )


def perplexities(nats: float, *, tokens: int, words: int, bytes: int) -> dict[str, float]:
    """Total nats of a split and the three ratios of the protocol."""
    return {
        "nats": nats,
        "token_perplexity": math.exp(nats / tokens),
        "word_perplexity": math.exp(nats / words),
        "bits_per_byte": nats / (math.log(2) * bytes),
    }


def score(
    model: nn.Module,
    tokens: ArrayLike,
    *,
    end: int,
    context: int,
    stride: int,
    batch: int = 8,
    hard: Any = None,
) -> Scores:
    """Nats of every token of a split, and the gates where each was predicted.

    Parameters
    ----------
    model
        Called with token ids (batch, context), int64; returns ``logits`` (batch, context,
        vocabulary) and, if it has gates, ``gates`` (layers, batch, context).
    tokens
        The split, shape (T,).
    end
        Id of the end token, which stands before the first token.
    context, stride
        Tokens a window, and from one window to the next; see the protocol.
    batch
        Windows at once.
    hard
        Passed on to the model, unless None: how its gates are made hard.

    Raises
    ------
    ValueError
        If the split is shorter than a context, the stride is not between 1 and the context, or
        a loss is not finite.
    """
    tokens = np.asarray(tokens)
    if len(tokens) < context:
        raise ValueError(
            f"the text has {len(tokens)} tokens, fewer than one context of {context}: lower "
            "`context` or take a larger text"
        )
    if not 1 <= stride <= context:
        raise ValueError(f"stride {stride} given; it must be 1 to the context, {context}")
    inputs = np.concatenate([[end], tokens[:-1]])
    starts = np.append(np.arange(0, len(tokens) - context, stride), len(tokens) - context)
    # A window leaves to its predecessor the targets up to where that one ends.
    done = np.concatenate([[0], starts[:-1] + context])
    nats = np.full(len(tokens), np.nan, np.float32)
    gates = None
    with _evaluating(model):
        for rows, losses, opened in _passes(model, inputs, tokens, starts, context, batch, hard):
            places = starts[rows, None] + np.arange(context)
            fresh = places >= done[rows, None]
            nats[places[fresh]] = losses[fresh]
            if opened is not None:
                if gates is None:
                    gates = np.full((len(opened), len(tokens)), np.nan, np.float32)
                gates[:, places[fresh]] = opened[:, fresh]
    return Scores(nats, gates)


def per_window(
    model: nn.Module,
    tokens: ArrayLike,
    context: int,
    windows: int,
    hard: Any = None,
    batch: int = 8,
) -> pd.DataFrame:
    """Loss and gates on windows of a split, without overlap and evenly spread over it.

    The windows are the same for every model, so that models can be compared window by window. The
    first token of a window is only read; all of its ``context`` others are predicted.

    Parameters
    ----------
    tokens
        The split, shape (T,).
    windows
        How many; all that fit, if fewer do.

    Returns
    -------
    DataFrame
        A row a window: ``window``, ``nats`` (their sum), ``targets`` (how many), ``gate`` (mean
        over layers and tokens; NaN if the model has none) and ``gate_0``, ``gate_1``, ... (mean
        over tokens, for each layer).

    Raises
    ------
    ValueError
        If not even one window fits, or a loss is not finite.
    """
    tokens = np.asarray(tokens)
    starts = window_starts(len(tokens), context, windows)
    parts = []
    with _evaluating(model):
        for rows, nats, gates in _passes(
            model, tokens[:-1], tokens[1:], starts, context, batch, hard
        ):
            part = pd.DataFrame({"window": rows, "nats": nats.sum(axis=1, dtype=np.float64)})
            part["targets"], part["gate"] = context, np.nan
            if gates is not None:
                part["gate"] = gates.mean(axis=(0, 2))
                for layer, mean in enumerate(gates.mean(axis=2)):
                    part[f"gate_{layer}"] = mean
            parts.append(part)
    return pd.concat(parts, ignore_index=True)


def window_starts(tokens: int, context: int, windows: int) -> NDArray[np.int64]:
    """Where the windows of :func:`per_window` begin in a split of so many tokens."""
    fitting = (tokens - 1) // context
    if fitting < 1:
        raise ValueError(
            f"the text has {tokens} tokens; a window of {context} needs {context + 1}: lower "
            "`context` or take a larger text"
        )
    return np.linspace(0, fitting - 1, min(windows, fitting)).round().astype(np.int64) * context


def _passes(
    model: nn.Module,
    inputs: NDArray,
    targets: NDArray,
    starts: NDArray[np.int64],
    context: int,
    batch: int,
    hard: Any,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32] | None]]:
    """For each batch of windows: their numbers, nats (b, context), gates (layers, b, context)."""
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    options = {} if hard is None else {"hard": hard}
    for first in bar(range(0, len(starts), batch), desc="evaluating", unit="batch", leave=False):
        rows = np.arange(first, min(first + batch, len(starts)))
        places = starts[rows, None] + np.arange(context)
        given, wanted = (
            torch.from_numpy(ids[places].astype(np.int64)).to(device) for ids in (inputs, targets)
        )
        output = model(given, **options)
        logits = output.logits.flatten(0, 1).float()
        nats = cross_entropy(logits, wanted.flatten(), reduction="none").view(wanted.shape)
        if not nats.isfinite().all():
            raise ValueError(f"the loss is not finite in the windows from token {starts[first]} on")
        gates = getattr(output, "gates", None)
        yield rows, nats.cpu().numpy(), None if gates is None else gates.float().cpu().numpy()


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Dropout and gradients off, and afterwards as they were."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)


def by_document(scores: Scores, tokens: ArrayLike, end: int) -> pd.DataFrame:
    """Sums over each document, its end token included.

    Returns
    -------
    DataFrame
        A row a document: ``document``, ``nats``, ``targets`` and ``gate`` (mean over layers and
        tokens; NaN if the model has none).
    """
    ends = np.asarray(tokens) == end
    return _sums(scores, np.cumsum(ends) - ends).rename_axis("document").reset_index()


def by_block(scores: Scores, size: int) -> pd.DataFrame:
    """Sums over blocks of ``size`` tokens, the last one maybe shorter; as :func:`by_document`.

    Blocks, unlike documents, are of one length and many, for intervals when documents are few.
    """
    labels = np.arange(len(scores.nats)) // size
    return _sums(scores, labels).rename_axis("block").reset_index()


def _sums(scores: Scores, labels: NDArray[np.int64]) -> pd.DataFrame:
    table = pd.DataFrame({"nats": np.bincount(labels, scores.nats), "targets": np.bincount(labels)})
    table["gate"] = np.nan
    if scores.gates is not None:
        table["gate"] = np.bincount(labels, scores.gates.mean(axis=0)) / table["targets"]
    return table


def gate_table(
    gates: NDArray[np.float32],
    thresholds: Sequence[float] = THRESHOLDS,
    quantiles: Sequence[float] = QUANTILES,
) -> pd.DataFrame:
    """How far each layer's gate stood open.

    Parameters
    ----------
    gates : array, shape (layers, T)
    thresholds
        For the occupancy: the share of tokens whose gate is further open than that.

    Returns
    -------
    DataFrame
        A row a layer: ``layer``, ``mean``, ``quantile_0.05``, ..., ``occupancy_0.1``, ...
    """
    columns = {"layer": np.arange(len(gates)), "mean": gates.mean(axis=1, dtype=np.float64)}
    for share, values in zip(quantiles, np.quantile(gates, quantiles, axis=1), strict=True):
        columns[f"quantile_{share:g}"] = values
    for threshold in thresholds:
        columns[f"occupancy_{threshold:g}"] = (gates > threshold).mean(axis=1)
    return pd.DataFrame(columns)


def unigram_nats(train: ArrayLike, vocabulary: int) -> NDArray[np.float64]:
    """Nats of each token of the vocabulary, guessed by its frequency in the train split.

    Counts are raised by one, so that no token is impossible. A model whose mean loss is not below
    that of this guess, on the same text, has learned nothing from the order of tokens.
    """
    counts = _counts(train, vocabulary) + 1
    return np.log(counts.sum() / counts)


def unigram_entropy(tokens: ArrayLike) -> float:
    """Entropy of the frequencies of tokens, in nats."""
    tokens = np.asarray(tokens)
    counts = _counts(tokens, int(tokens.max()) + 1)
    shares = counts[counts > 0] / len(tokens)
    return float(-(shares @ np.log(shares)))


def _counts(tokens: ArrayLike, vocabulary: int) -> NDArray[np.int64]:
    """How often each token occurs; a part at a time, since bincount widens what it is given."""
    tokens = np.asarray(tokens)
    parts = (tokens[first : first + 2**20] for first in range(0, len(tokens), 2**20))
    return sum(
        (np.bincount(part, minlength=vocabulary) for part in parts), np.zeros(vocabulary, np.int64)
    )
