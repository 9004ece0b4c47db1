"""What gravity models have learned: their numbers, their masses, and whom a token draws.

Every run is read beside its own control: the network that its training started from.

*Ranks.* Whether the near attract is read as Spearman's correlation of the attention weights of one
token, over all tokens before it, with their squared distances: -1 if weight falls with distance.
That of weights and masses is read likewise, and once more with the masses dealt to other tokens of
the vocabulary.

*Related words.* Two tokens are related if they are one word but for case and a space in front,
`The` and ` the`. A pair is closer than another if its mean coordinates are, those that the last
block reads; the partners of other pairs stand in for strangers, so that both are alike in
frequency.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from torch import Tensor, nn

from tgn.files import write_table
from tgn.models import as_published, attraction, build, io
from tgn.progress import bar
from tgn.text.tokens import load_tokenizer, open_tokens

BINS = np.linspace(0, 2, 21)  # of distances in units of the radius
CLASS = 8  # tokens next to each other in frequency that exchange masses
SEEN = 3  # times at least, for a mean of coordinates
BATCH = 4  # windows a forward pass
OWN, WITHIN, ALL = "own", "within", "all"  # masses as learned, dealt among equals, dealt among all


class Pull(NamedTuple):
    """What one block makes of its coordinates.

    Attributes
    ----------
    d2, weights : tensors, shape (B, H, T, T)
        Squared distances, and attention.
    radius2 : tensor, shape (H,)
        Squared radius; infinite where nothing is cut off.
    masses : tensor, shape (B, T)
    """

    d2: Tensor
    weights: Tensor
    radius2: Tensor
    masses: Tensor


def measure(
    *,
    weights: Sequence[str | Path],
    tokens: str | Path,
    numbers: str | Path,
    masses: str | Path,
    attention: str | Path,
    curves: str | Path,
    dealt: str | Path,
    related: str | Path,
    windows: int,
    queries: int,
    semantic_windows: int,
    validation_windows: int,
    shuffles: int,
    seed: int = 0,
) -> None:
    """Probe trained gravity models and write the tables.

    Parameters
    ----------
    weights
        ``model.safetensors`` of every run, in a folder of the run's name.
    tokens
        A file of the tokenised text's folder.
    numbers
        Parquet to write, as :func:`number_table`.
    masses
        Parquet to write: ``token``, its ``count`` in the train split, ``mass``.
    attention, curves
        Parquet to write, as :func:`attention_tables`, with ``trained``.
    dealt
        Parquet to write, as :func:`dealt_table`.
    related
        Parquet to write, as :func:`related_table`, with ``trained``.
    windows, queries
        Windows of the test split, and tokens of each that look back.
    semantic_windows
        Windows of the train split from which mean coordinates are taken.
    validation_windows, shuffles
        On which dealt masses are tried, and how often they are dealt.
    seed
        Of the dealing.

    Raises
    ------
    ValueError
        If a model has no gravity or no seed, or the text is too short.
    """
    folder = Path(tokens).parent
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    found: dict[str | Path, list[pd.DataFrame]] = defaultdict(list)
    for path in bar(weights, desc="gravity", unit="model"):
        run, rng = Path(path).parent, np.random.default_rng(seed)
        model = io.load(run)
        if model.config.mixer != "gravity":
            raise ValueError(f"{path} holds a model without gravity ({model.config.mixer})")
        context, vocabulary = model.config.context, model.config.vocabulary
        train, validation, test = (
            open_tokens(folder, split, context) for split in ("train", "validation", "test")
        )
        counts = np.bincount(np.asarray(train), minlength=vocabulary)
        words = [tokenizer.decode([token]) for token in range(vocabulary)]
        pairs = variants(words)
        read = windows_of(test, context, windows)[:, :-1]
        many = windows_of(train, context, semantic_windows)[:, :-1]
        tried = windows_of(validation, context, validation_windows)
        for trained, network in ((True, model), (False, _untrained(run, model))):
            label = {"run": run.name, "trained": trained}
            found[numbers].append(number_table(network).assign(**label))
            tables = attention_tables(network, read, queries, rng)
            found[attention].append(tables[0].assign(**label))
            found[curves].append(tables[1].assign(**label))
            means = mean_coordinates(network, many)
            found[related].append(related_table(means, pairs, rng).assign(**label))
        heavy = pd.DataFrame({"token": range(vocabulary), "count": counts, "mass": mass_of(model)})
        found[masses].append(heavy.assign(run=run.name))
        found[dealt].append(dealt_table(model, counts, tried, shuffles, rng).assign(run=run.name))
    for path, parts in found.items():
        write_table(path, pd.concat(parts, ignore_index=True))


# --- what a model has learned


def number_table(model: Any) -> pd.DataFrame:
    """A row for each layer and head: ``gamma``, ``softening``, ``radius`` and ``beta``."""
    rows = []
    for layer, block in enumerate(model.blocks):
        if isinstance(block, as_published.GravityBlock):
            gamma, beta = F.softplus(block.gamma), block.beta
            radius = F.softplus(block.radius).expand_as(gamma)
            softening = torch.full_like(gamma, 1e-3)  # its square is added
        else:
            gamma, epsilon, radius2, beta = block.mixer.numbers()
            softening, radius = epsilon.sqrt(), radius2.sqrt()
        columns = {"gamma": gamma, "softening": softening, "radius": radius, "beta": beta}
        rows.append(
            pd.DataFrame({name: x.detach().numpy() for name, x in columns.items()})
            .rename_axis("head")
            .reset_index()
            .assign(layer=layer)
        )
    return pd.concat(rows, ignore_index=True)


def mass_of(model: Any) -> NDArray[np.float64]:
    """The mass of every token of the vocabulary."""
    parameter = _masses(model).detach().flatten().double()
    published = isinstance(model, as_published.PublishedGravity)
    return (F.softplus(parameter) if published else parameter.exp()).numpy()


def dealt_table(
    model: Any,
    counts: NDArray[np.int64],
    windows: Tensor,
    shuffles: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Losses with the masses as learned, and dealt to other tokens.

    Parameters
    ----------
    model
        Put back as it was.
    counts
        Of each token in training.
    windows : tensor, shape (n, context + 1)
    shuffles
        How often masses are dealt.

    Returns
    -------
    table with a row for each ``masses`` (``own``; ``within``: dealt among tokens of nearly one
    frequency; ``all``: among all), ``draw`` and ``window``: ``nats``, ``targets``.
    """
    parameter = _masses(model)
    learned = parameter.detach().clone()
    parts = [_losses(model, windows).assign(masses=OWN, draw=0)]
    for draw in range(shuffles):
        for mode, size in ((WITHIN, CLASS), (ALL, len(counts))):
            order = torch.from_numpy(deal(counts, size, rng))
            with torch.no_grad():
                parameter.copy_(learned[order])
            parts.append(_losses(model, windows).assign(masses=mode, draw=draw))
    with torch.no_grad():
        parameter.copy_(learned)
    table = pd.concat(parts, ignore_index=True)
    return table[["masses", "draw", "window", "nats", "targets"]]


def deal(counts: ArrayLike, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """A permutation of tokens that exchanges those next to each other in frequency.

    Parameters
    ----------
    counts
        Of each token.
    size
        Of the groups within which tokens are exchanged.

    Examples
    --------
    >>> deal([5, 9, 1], 1, np.random.default_rng(0))
    array([0, 1, 2])
    """
    counts = np.asarray(counts)
    by_count = np.lexsort([rng.random(len(counts)), counts])  # those of one count in random order
    order = np.empty(len(counts), np.int64)
    for first in range(0, len(counts), size):
        group = by_count[first : first + size]
        order[group] = rng.permutation(group)
    return order


# --- whom a token draws


def attention_tables(
    model: Any, windows: Tensor, queries: int, rng: np.random.Generator
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Attention against distance and mass.

    Parameters
    ----------
    windows : tensor, shape (n, T)
    queries : int
        Tokens of each window that look back, evenly spread over its second half.
    rng
        Deals the masses of the control.

    Returns
    -------
    table
        A row for each window and layer, means over heads and queries: ``rank_distance``
        (Spearman's correlation of weights and squared distances, over the tokens before),
        ``rank_inside`` (over those within the radius), ``rank_mass``, ``rank_dealt`` (with dealt
        masses), ``farthest`` and ``nearest`` (shares of queries in which the earlier token with
        most weight is the farthest or the nearest), ``chance`` (of either), ``own`` (weight on
        itself), ``pairs_beyond`` and ``weight_beyond`` (shares of tokens and of weight beyond the
        radius). What is not defined, as a correlation with masses that are all equal, is missing.
    table
        A row for each window and bin of distance over radius, over all layers and heads:
        ``distance`` (its middle), ``pairs``, and ``weight``, the sum of the weights over those of
        uniform attention to earlier tokens, without heads in which a token draws itself alone.
        Empty if nothing is cut off.
    """
    places = np.linspace(windows.shape[1] // 2, windows.shape[1] - 1, queries).round().astype(int)
    strangers = torch.from_numpy(rng.permutation(model.config.vocabulary))
    rows, sums = [], np.zeros((2, len(windows), len(BINS) - 1))
    for first in range(0, len(windows), BATCH):
        ids = windows[first : first + BATCH]
        dealt = torch.from_numpy(mass_of(model))[strangers][ids].numpy()
        for layer, pull in enumerate(pulls(model, ids)):
            looks = pd.concat([_looks_back(pull, dealt, place) for place in places])
            with np.errstate(invalid="ignore"):
                by_place = looks.groupby(["window", "place"]).mean()  # over heads
                means = by_place.groupby("window").mean().reset_index()
            rows.append(means.assign(layer=layer, window=means["window"] + first))
            if bool(pull.radius2.isfinite().all()):
                for place in places:
                    sums[:, first : first + len(ids)] += _by_distance(pull, place)
    pairs, weight = sums
    window, bin = pairs.nonzero()
    held = {"window": window, "bin": bin, "pairs": pairs[window, bin].astype(int)}
    curves = pd.DataFrame({**held, "weight": weight[window, bin]})
    curves["distance"] = ((BINS[1:] + BINS[:-1]) / 2)[bin]
    return pd.concat(rows, ignore_index=True), curves


def _looks_back(pull: Pull, dealt: NDArray, place: int) -> pd.DataFrame:
    """What the token at one place of each window draws, a row for each window and head."""
    w, d2 = (x[:, :, place, :place].double().numpy() for x in (pull.weights, pull.d2))
    radius2 = pull.radius2.double().numpy()[:, None]
    heavy = np.broadcast_to(pull.masses[:, None, :place].double().numpy(), w.shape)
    strange = np.broadcast_to(dealt[:, None, :place], w.shape)
    beyond = d2 > radius2
    most = w.argmax(-1)
    columns = {
        "rank_distance": rank_correlation(w, d2),
        "rank_inside": rank_correlation(w, d2, ~beyond),
        "rank_mass": rank_correlation(w, heavy),
        "rank_dealt": rank_correlation(w, strange),
        "farthest": most == d2.argmax(-1),
        "nearest": most == d2.argmin(-1),
        "chance": np.full(w.shape[:2], 1 / place),
        "own": pull.weights[:, :, place, place].double().numpy(),
        "pairs_beyond": beyond.mean(-1),
        "weight_beyond": (w * beyond).sum(-1),
    }
    table = pd.DataFrame({name: x.astype(float).ravel() for name, x in columns.items()})
    return table.assign(window=np.repeat(np.arange(len(w)), w.shape[1]), place=place)


def _by_distance(pull: Pull, place: int) -> NDArray[np.float64]:
    """Pairs, and weights over those of uniform attention, by bins of distance: (2, B, bins)."""
    w, d2 = (x[:, :, place, :place].double().numpy() for x in (pull.weights, pull.d2))
    total = w.sum(-1, keepdims=True)  # what the token leaves to others
    relative = np.divide(w * place, total, out=np.full_like(w, np.nan), where=total > 0)
    bins = np.digitize(np.sqrt(d2 / pull.radius2.double().numpy()[:, None]), BINS) - 1
    shape = len(w), len(BINS) - 1
    held = (bins < shape[1]) & np.isfinite(relative)
    cells = (bins + shape[1] * np.arange(len(w))[:, None, None])[held]
    counted = (np.bincount(cells, x, shape[0] * shape[1]) for x in (None, relative[held]))
    return np.stack([x.reshape(shape) for x in counted])


def rank_correlation(x: ArrayLike, y: ArrayLike, where: ArrayLike | None = None) -> NDArray:
    """Spearman's correlation along the last axis, of the places that ``where`` holds.

    NaN where either side is constant.

    >>> rank_correlation([1.0, 5.0, 7.0], [9.0, 4.0, 3.0])
    array(-1.)
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    where = np.ones(x.shape, bool) if where is None else np.asarray(where)
    count = np.maximum(where.sum(-1, keepdims=True), 1)
    centred = []
    for values in (x, y):
        ranks = rankdata(np.where(where, values, np.inf), axis=-1)  # the others come last
        centred.append(np.where(where, ranks - (ranks * where).sum(-1, keepdims=True) / count, 0))
    one, other = centred
    size = np.sqrt((one**2).sum(-1) * (other**2).sum(-1))
    return np.divide((one * other).sum(-1), size, out=np.full(size.shape, np.nan), where=size > 0)


@torch.no_grad()
def pulls(model: Any, tokens: Tensor) -> list[Pull]:
    """What every block makes of its coordinates when the model reads tokens (B, T)."""
    with _recorded(model) as seen:
        model(tokens)
    return [_pull(block, z, m) for block, (z, m) in zip(model.blocks, seen, strict=True)]


def _pull(block: Any, z: Tensor, masses: Tensor) -> Pull:
    published = isinstance(block, as_published.GravityBlock)
    part = block if published else block.mixer
    places = part.place(z).unflatten(-1, (part.heads, part.axes)).transpose(1, 2).float()
    if published:
        weights = block.weights(places, masses, z.shape[1])
        radius2 = F.softplus(block.radius).square().expand(block.heads)
    else:
        drawn = masses if part.mass == "score" else torch.ones_like(masses)
        gamma, epsilon, radius2, beta = part.numbers()
        weights = attraction.weights(places, drawn, gamma, epsilon, radius2, beta, part.cutoff)
    if part.cutoff == "none":
        radius2 = torch.full_like(radius2, torch.inf)
    d2 = (places[:, :, :, None] - places[:, :, None]).square().sum(-1)
    return Pull(d2, weights, radius2, masses)


# --- where related words are


def variants(words: Sequence[str]) -> NDArray[np.int64]:
    """Pairs of tokens that are one word but for case and spaces around, (pairs, 2), as ids.

    >>> variants(["The", " cat", " the", "!", "the"]).tolist()
    [[0, 2], [0, 4], [2, 4]]
    """
    by_word: dict[str, list[int]] = defaultdict(list)
    for token, text in enumerate(words):
        word = text.strip().lower()
        if len(word) > 1 and word.isalpha():
            by_word[word].append(token)
    pairs = [pair for group in by_word.values() for pair in combinations(group, 2)]
    return np.array(pairs, np.int64).reshape(-1, 2)


@torch.no_grad()
def mean_coordinates(model: Any, windows: Tensor) -> NDArray[np.float64]:
    """Mean coordinates of each token where the last block reads them, (vocabulary, C).

    NaN for tokens that windows (n, T) hold fewer than three times.
    """
    vocabulary, width = model.config.vocabulary, model.config.coordinates
    sums, counts = torch.zeros(vocabulary, width, dtype=torch.float64), torch.zeros(vocabulary)
    for ids in windows.split(BATCH):
        with _recorded(model) as seen:
            model(ids)
        sums.index_add_(0, ids.flatten(), seen[-1][0].expand(*ids.shape, -1).flatten(0, 1).double())
        counts.index_add_(0, ids.flatten(), torch.ones(ids.numel()))
    counts[counts < SEEN] = torch.nan
    return (sums / counts[:, None]).numpy()


def related_table(
    coordinates: NDArray[np.float64], pairs: NDArray[np.int64], rng: np.random.Generator
) -> pd.DataFrame:
    """How far from others and near each other related tokens are.

    Parameters
    ----------
    coordinates
        Of each token; pairs without them are left out.
    pairs : array, shape (pairs, 2)
    rng
        Deals other partners, for the control.

    Returns
    -------
    table with a row for each pair: ``first``, ``second``; ``closer``, the share of other pairs
    whose second token is farther from the first than its own (0.5 by chance, ties count half);
    and ``dealt``, the same of a partner from another pair.
    """
    known = np.isfinite(coordinates[pairs]).all(axis=(1, 2))
    pairs = pairs[known]
    columns = ["first", "second", "closer", "dealt"]
    if len(pairs) < 3:
        return pd.DataFrame(columns=columns)
    one, other = coordinates[pairs[:, 0]], coordinates[pairs[:, 1]]
    d2 = np.square(one[:, None] - other).sum(-1)
    # pairs of the same word are no strangers
    kin = (pairs[:, None, :, None] == pairs[None, :, None, :]).any(axis=(2, 3))

    def closer(partner: NDArray[np.int64]) -> NDArray[np.float64]:
        own = np.take_along_axis(d2, partner[:, None], 1)
        strangers = ~kin & (np.arange(len(pairs)) != partner[:, None])
        wins = (d2 > own) + 0.5 * (d2 == own)
        return (wins * strangers).sum(1) / np.maximum(strangers.sum(1), 1)

    order = np.arange(len(pairs))
    shift = rng.integers(1, len(pairs), len(pairs))
    found = {"closer": closer(order), "dealt": closer((order + shift) % len(pairs))}
    table = pd.DataFrame({"first": pairs[:, 0], "second": pairs[:, 1], **found})
    return table[columns]


# --- helpers


def windows_of(tokens: ArrayLike, context: int, count: int) -> Tensor:
    """Windows of a split, without overlap and evenly spread: ids (n, context + 1)."""
    tokens = np.asarray(tokens)
    fitting = (len(tokens) - 1) // context
    starts = np.linspace(0, fitting - 1, min(count, fitting)).round().astype(int) * context
    return torch.from_numpy(tokens[starts[:, None] + np.arange(context + 1)].astype(np.int64))


def _masses(model: Any) -> nn.Parameter:
    published = isinstance(model, as_published.PublishedGravity)
    return model.masses.weight if published else model.log_masses


def _untrained(folder: Path, model: Any) -> Any:
    """The network that a run's training started from.

    Raises
    ------
    ValueError
        If the run's metadata do not tell its seed.
    """
    metadata = io.describe(folder)["metadata"]
    if "seed" not in metadata:
        raise ValueError(f"{folder}: no seed is recorded, so what training started from is unknown")
    with torch.random.fork_rng():
        torch.manual_seed(metadata["seed"])
        return build(model.config).eval()


@torch.no_grad()
def _losses(model: Any, windows: Tensor) -> pd.DataFrame:
    """``nats`` and ``targets`` of each window (n, context + 1)."""
    parts = []
    for ids in windows.split(BATCH):
        parts.append(model(ids[:, :-1], targets=ids[:, 1:]).nats.double().sum(1))
    nats = torch.cat(parts).numpy()
    return pd.DataFrame({"window": range(len(nats)), "nats": nats, "targets": windows.shape[1] - 1})


@contextmanager
def _recorded(model: Any) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """A list that fills with coordinates and masses as the blocks read them."""
    seen: list[tuple[Tensor, Tensor]] = []

    def before(block: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen.append((inputs[1].float(), inputs[2].float()))

    hooks = [block.register_forward_pre_hook(before) for block in model.blocks]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
