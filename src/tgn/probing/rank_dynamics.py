"""Effective rank of the residual stream, layer by layer, with parts of the network removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from tgn import rank, sources
from tgn.files import write_table
from tgn.probing.adapters import Adapter, adapt
from tgn.probing.definitions import CORE, DEFINITIONS, FULL, NULL, PRIMARY, Definition
from tgn.probing.pretrained import encoder, load_model, load_tokenizer, random_model
from tgn.probing.surgery import ablated, random_causal_mixer, recorded
from tgn.progress import bar
from tgn.text.corpora import cut_passages

SPECTRA = (PRIMARY, NULL)  # definitions whose whole spectrum is kept
UNCENTRED = ("published", "uncentred")  # with and without the first position


def measure_arm(
    *,
    model: str | Path,
    corpus: str | Path,
    table: str | Path,
    spectra: str | Path,
    arm: Mapping[str, Any],
    lengths: Sequence[int],
    passages: int,
    batch: int,
    outlier_channels: int,
    seed: int,
) -> None:
    """Measure one arm on passages of each length and write the result.

    Parameters
    ----------
    model
        Receipt of a model folder.
    corpus
        Table of documents, see :mod:`tgn.text.corpora`.
    table
        Written: one row a passage, layer and definition, with every rank of the family, the
        relative distance to the best row-constant matrix (Dong et al. 2021), and the shares of
        the heaviest token and channel. Layer 0 is the input of the first block. The column
        ``draw`` says which random weights or mixer a passage met.
    spectra
        Written: singular values divided by their sum, mean over passages, of the primary
        definition and of its null; one row a length, layer, definition and index.
    arm
        Keys ``attention``, ``mlp``, ``skip`` (kept or removed), ``mixer`` (attention or random),
        ``tokens`` (natural or shuffled), ``weights`` (trained or random), ``draws`` (how many
        random networks or mixers share the passages), ``definitions`` (core or full, the latter
        with nulls).

    Raises
    ------
    ValueError
        If the corpus has too few documents of the longest length.
    """
    folder = sources.receipt_folder(model)
    texts = pd.read_parquet(corpus, columns=["text"])["text"].tolist()
    encode = encoder(load_tokenizer(folder))
    cut = {}
    for length in lengths:
        # The same passages in every arm, so that arms are compared passage by passage.
        tokens, documents = cut_passages(
            texts, encode, length=length, count=passages, rng=np.random.default_rng([seed, length])
        )
        if arm["tokens"] == "shuffled":
            tokens = np.random.default_rng([seed, length, 1]).permuted(tokens, axis=1)
        cut[length] = tokens, documents
    rows, shapes = [], []
    for draw in range(arm["draws"]):
        # Every draw gets its share of the passages: more draws cost no more forward passes.
        own = np.arange(draw, passages, arm["draws"])
        adapter = _network(folder, arm, seed + draw)
        for length, (tokens, documents) in cut.items():
            with changed(adapter, arm, length, seed + draw):
                measured, shape = measure(
                    adapter,
                    tokens[own],
                    definitions=FULL if arm["definitions"] == "full" else CORE,
                    batch=batch,
                    outlier_channels=outlier_channels,
                    seed=seed,
                )
            measured["passage"] = own[measured["passage"]]
            measured["document"] = documents[measured["passage"]]
            rows.append(measured.assign(length=length, draw=draw))
            shapes.append(shape.assign(length=length, passages=len(own)))
        del adapter  # before the next network takes as much memory
    write_table(table, pd.concat(rows, ignore_index=True))
    write_table(spectra, _pooled(pd.concat(shapes, ignore_index=True)))


def _network(folder: Path, arm: Mapping[str, Any], seed: int) -> Adapter:
    random = arm["weights"] == "random"
    network = random_model(folder, seed=seed) if random else load_model(folder)
    return adapt(network.to(Accelerator().device))


def _pooled(shapes: pd.DataFrame) -> pd.DataFrame:
    """Spectra averaged over draws, each with the weight of its passages."""
    keys = ["length", "layer", "definition", "index"]
    weighted = shapes.assign(share=shapes["share"] * shapes["passages"])
    total = weighted.groupby(keys, sort=False)[["share", "passages"]].sum()
    return (total["share"] / total["passages"]).rename("share").reset_index()


def changed(
    adapter: Adapter, arm: Mapping[str, Any], length: int, seed: int
) -> AbstractContextManager[None]:
    """The network with an arm's parts removed or replaced."""
    mixer = None
    if arm["mixer"] == "random":
        device = next(adapter.model.parameters()).device
        mixer = random_causal_mixer(len(adapter.blocks), length, seed=seed, device=device)
    return ablated(
        adapter, attention=arm["attention"], mlp=arm["mlp"], skip=arm["skip"], mixer=mixer
    )


def measure(
    adapter: Adapter,
    tokens: NDArray,
    *,
    definitions: Sequence[str],
    batch: int,
    outlier_channels: int,
    seed: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ranks and spectra of the residual stream of each passage.

    Parameters
    ----------
    tokens
        Shape (passages, length).

    Returns
    -------
    ranks, spectra
        As :func:`measure_arm` writes them, without the columns that name length, document and
        draw.
    """
    rows: list[pd.DataFrame] = []
    total: dict[tuple[int, str], NDArray] = {}
    rng = np.random.default_rng([seed, tokens.shape[1], 2])
    for start, states in _residual_streams(adapter, tokens, batch):
        previous: tuple[torch.Tensor, pd.DataFrame, dict[str, NDArray]] | None = None
        for layer, state in enumerate(states):
            if previous is not None and torch.equal(state, previous[0]):
                _, measured, normalised = previous  # deleted blocks hand the stream on unchanged
            else:
                measured, normalised = measure_states(
                    state.float().cpu().numpy(),
                    definitions=definitions,
                    outlier_channels=outlier_channels,
                    rng=rng,
                )
            previous = (state, measured, normalised)
            rows.append(measured.assign(layer=layer, passage=measured["passage"] + start))
            for definition, shares in normalised.items():
                key = (layer, definition)
                total[key] = total.get(key, 0.0) + shares.sum(axis=0)
    spectra = pd.concat(
        [
            pd.DataFrame(
                {"share": shares / len(tokens), "index": np.arange(1, len(shares) + 1)}
            ).assign(layer=layer, definition=definition)
            for (layer, definition), shares in total.items()
        ],
        ignore_index=True,
    )
    return pd.concat(rows, ignore_index=True), spectra


def _residual_streams(
    adapter: Adapter, tokens: NDArray, batch: int
) -> Iterator[tuple[int, list[torch.Tensor]]]:
    """Per batch of passages: the index of its first one, and the stream before each block and
    after the last, each (batch, tokens, channels)."""
    device = next(adapter.model.parameters()).device
    starts = range(0, len(tokens), batch)
    with torch.inference_mode(), recorded(adapter) as states:
        for start in bar(starts, desc=f"{tokens.shape[1]} tokens", unit="batch"):
            states.clear()
            ids = torch.from_numpy(tokens[start : start + batch]).to(device)
            adapter.body(ids, use_cache=False)
            yield start, states


def measure_states(
    states: NDArray,
    *,
    definitions: Sequence[str],
    outlier_channels: int,
    rng: np.random.Generator,
) -> tuple[pd.DataFrame, dict[str, NDArray]]:
    """Every rank under the given definitions, for a batch of state matrices.

    Parameters
    ----------
    states
        Shape (passages, tokens, channels).

    Returns
    -------
    ranks
        One row a passage and definition.
    spectra
        For the primary definition and its null, shape (passages, min(tokens - 1, channels)):
        singular values over their sum; zero for a zero matrix.
    """
    rows: list[pd.DataFrame] = []
    spectra: dict[str, NDArray] = {}
    for name in definitions:
        definition = DEFINITIONS[name]
        prepared = _prepare(states, definition, outlier_channels, rng)
        sigma = rank.singular_values(prepared, centre=definition.centre)
        if name in SPECTRA:
            total = sigma.sum(axis=1, keepdims=True)
            spectra[name] = np.divide(sigma, total, out=np.zeros_like(sigma), where=total > 0)
        measured = {
            "effective_rank": rank.renyi_rank(sigma, 1),
            "effective_rank_sigma2": rank.renyi_rank(sigma**2, 1),
            "participation_ratio": rank.renyi_rank(sigma**2, 2),
            "stable_rank": rank.renyi_rank(sigma**2, np.inf),
            "cap": rank.rank_cap(*prepared.shape[1:], centre=definition.centre),
        }
        if name in UNCENTRED:  # these do not depend on the centring
            measured["distance"] = rank.relative_residual(prepared)
            measured["token_share"], measured["channel_share"] = rank.outlier_share(prepared)
        passages = np.arange(len(states))
        rows.append(pd.DataFrame({"passage": passages, "definition": name, **measured}))
    return pd.concat(rows, ignore_index=True), spectra


def _prepare(
    states: NDArray, definition: Definition, outlier_channels: int, rng: np.random.Generator
) -> NDArray:
    if not definition.first:
        states = states[:, 1:]
    if not definition.channels:
        weight = (states**2).sum(axis=1)
        kept = np.argsort(weight, axis=1)[:, : states.shape[2] - outlier_channels]
        states = np.take_along_axis(states, kept[:, None, :], axis=2)
    if definition.shuffled:
        states = rank.shuffled_within_columns(states, rng)
    return states
