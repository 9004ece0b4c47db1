"""A pretrained network at other temperatures of its attention.

Attention weights are softmax(q.k / (T sqrt(d))) in every layer, T = 1 being how the network was
trained. Above it attention grows even (T to infinity: the mean over the past), below it each token
reads one other (T to zero: the nearest key). Everything is measured on the same passages at every
temperature.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch.autograd import forward_ad
from transformers import Cache

from tgn import sources
from tgn.files import write_table
from tgn.probing.adapters import Adapter, adapt
from tgn.probing.information import mutual_information_bound
from tgn.probing.intrinsic_dimension import measure_dimension
from tgn.probing.pretrained import encoder, load_model, load_tokenizer, random_model
from tgn.probing.rank_dynamics import measure_states
from tgn.probing.surgery import recorded
from tgn.progress import bar
from tgn.text.corpora import cut_passages

DEFINITIONS = ("centred", "centred_with_first", "published", "uncentred", "without_outliers")
RANKS = ("effective_rank", "effective_rank_sigma2", "participation_ratio", "stable_rank")
LAGS = (0, 1, 4)  # tokens between an input and the state that is asked about it
COMPONENTS = 48  # principal components in which that is asked


class Heat(NamedTuple):
    """What one temperature gave."""

    table: pd.DataFrame  # columns passage, layer, definition, quantity, value
    states: dict[int, NDArray]  # by layer, each (passages, tokens, channels)


def temperature_grid(decades: float, count: int) -> NDArray:
    """Temperatures evenly spaced in the logarithm, as far above 1 as below it, and 1 itself.

    Raises
    ------
    ValueError
        If the count is even, so that 1 would not be among them.

    Examples
    --------
    >>> temperature_grid(1, 3)
    array([ 0.1,  1. , 10. ])
    """
    if count % 2 == 0:
        raise ValueError(f"{count} temperatures around 1 do not include it: take an odd number")
    half = count // 2
    return 10.0 ** (np.arange(-half, half + 1) * decades / half)


@contextmanager
def heated(adapter: Adapter, temperature: float) -> Iterator[None]:
    """Run the model with the logits of every attention layer divided by a temperature.

    The library's attention modules hold their scale, 1/sqrt(d), in ``scaling``; it is divided, and
    restored at the end. Nothing else of the forward pass is touched.

    Raises
    ------
    ValueError
        If the temperature is not positive, or the family's attention has no such scale.
    """
    if not temperature > 0:
        raise ValueError(f"a temperature is positive, not {temperature}")
    modules: list[Any] = [block.attention for block in adapter.blocks]
    for module in modules:
        if not isinstance(getattr(module, "scaling", None), float):
            raise ValueError(f"{type(module).__name__} has no `scaling` by which to heat it")
    trained = [module.scaling for module in modules]
    try:
        for module, scaling in zip(modules, trained, strict=True):
            module.scaling = scaling / temperature
        yield
    finally:
        for module, scaling in zip(modules, trained, strict=True):
            module.scaling = scaling


def channel_information(weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Information that attention weights carry from the token that reads to the token it reads.

    A row-stochastic matrix is a channel; with every query as likely, its mutual information is
    H(mean row) - mean H(row), exactly. It is zero where all queries read alike. Even attention to
    the past alone has some, since later tokens have a longer past.

    Parameters
    ----------
    weights
        Shape (..., queries, keys).

    Returns
    -------
    information, row_entropy
        Shape (...), nats; the latter is the mean entropy of a row.

    Examples
    --------
    >>> channel_information(torch.eye(4))[0].exp().round(decimals=4)
    tensor(4.)
    """
    rows = torch.special.entr(weights).sum(-1).mean(-1)
    return torch.special.entr(weights.mean(-2)).sum(-1) - rows, rows


def two_point(states: NDArray, distances: NDArray) -> tuple[NDArray, NDArray]:
    """Correlation of the states of two tokens against the distance between them.

    Channels are standardised over all tokens of all passages, so that no channel dominates, and
    the products divided by the mean square in the passage. The sign is kept. What passages have in
    common with themselves at any distance, such as a topic, stays in.

    Parameters
    ----------
    states
        Shape (passages, tokens, channels).

    Returns
    -------
    correlation
        Shape (passages, distances).
    null
        Shape (passages,): the mean over all pairs of tokens, what distance-free states would give.
    """
    x = states.astype(np.float64)
    spread = x.std(axis=(0, 1))
    x = (x - x.mean(axis=(0, 1))) / np.where(spread > 0, spread, 1)
    products = x @ x.swapaxes(1, 2)
    power = np.trace(products, axis1=1, axis2=2) / x.shape[1]
    curve = np.stack(
        [np.diagonal(products, at, axis1=1, axis2=2).mean(axis=1) / power for at in distances],
        axis=1,
    )
    return curve, (products.mean(axis=(1, 2)) / power - 1 / x.shape[1]) / (1 - 1 / x.shape[1])


def measure_arm(
    *,
    model: str | Path,
    corpus: str | Path,
    table: str | Path,
    correlation: str | Path,
    dimension: str | Path,
    maps: str | Path,
    arm: Mapping[str, Any],
    part: int,
    decades: float,
    temperatures: int,
    length: int,
    passages: int,
    batch: int,
    nudged: int,
    layers: int,
    outlier_channels: int,
    neighbours: int,
    mapped: Sequence[float],
    seed: int,
) -> None:
    """Measure one arm at every temperature and write the results.

    Parameters
    ----------
    model
        Receipt of a model folder.
    corpus
        Table of documents, see :mod:`tgn.text.corpora`.
    table
        Written: ``value`` by temperature, layer, passage, definition of rank (else empty) and
        quantity: the ranks; ``loss`` (nats a token); ``growth``, the logarithm of the relative
        size of a small change of one token over that at the input, ``growth_absolute`` and
        ``spread``, the share of it in other tokens; ``channel_information``, ``row_entropy`` and
        ``token_information_*`` (nats; the latter of arms of one network); ``evenness``, the entropy
        of rows over that of even attention. Layer 0 is the input of the first block.
    correlation
        Written: ``value`` by temperature, passage and distance, and its ``null``, of the states
        after the last block; see `two_point`.
    dimension
        Written, in the part with T = 1, by layer: see
        :func:`tgn.probing.intrinsic_dimension.measure_dimension`.
        Of several draws the first is measured, on the passages of all arms, so that its cloud is
        as large as that of an arm of one network.
    maps
        Written, in the same part: weights of one head on the first passage, by temperature, query
        and key; the head is the one with the most information at T = 1.
    arm
        Keys ``tokens`` (natural or shuffled), ``weights`` (trained or random), ``draws`` (random
        networks, which share the passages), ``passages`` (null: all), ``every`` (1: every
        temperature; 2: every second one; a divisor of half their number, so that 1 is kept) and
        ``parts``, into which the temperatures are dealt.
    part
        The part to measure, from 0.
    decades, temperatures
        See :func:`temperature_grid`.
    nudged
        Passages, of each draw, in whose first half a small change is followed.
    layers
        Depths at which the states are measured, evenly spaced, ends included.
    mapped
        Temperatures of the maps.

    Raises
    ------
    ValueError
        If the corpus has too few documents of that length, or the temperatures leave out 1.
    """
    folder = sources.receipt_folder(model)
    texts = pd.read_parquet(corpus, columns=["text"])["text"].tolist()
    tokens, _ = cut_passages(
        texts,
        encoder(load_tokenizer(folder)),
        length=length,
        count=passages,
        rng=np.random.default_rng([seed, length]),
    )
    if arm["tokens"] == "shuffled":
        tokens = np.random.default_rng([seed, length, 1]).permuted(tokens, axis=1)
    every, tokens = tokens, tokens[: arm["passages"]]
    grid = temperature_grid(decades, temperatures)
    if 1 not in grid[:: arm["every"]]:
        raise ValueError(f"every {arm['every']} of {temperatures} temperatures leaves out T = 1")
    grid = grid[:: arm["every"]][part :: arm["parts"]]
    distances = np.arange(1, length // 2)
    options = {"batch": batch, "outlier_channels": outlier_channels, "seed": seed}
    tables, correlations, dimensions, drawn_maps = [], [], [], []
    for draw in range(arm["draws"]):
        own = np.arange(draw, len(tokens), arm["draws"])
        adapter = _network(folder, arm["weights"], seed + draw)
        depths = np.unique(np.linspace(0, len(adapter.blocks), layers).round().astype(int))
        for temperature in bar(grid, desc="temperatures", unit="T"):
            with heated(adapter, temperature):
                heat = measure(adapter, tokens[own], layers=depths, nudged=nudged, **options)
                if draw == 0 and temperature == 1:
                    whole = heat if arm["draws"] == 1 else measure(
                        adapter, every, layers=_quarters(depths), nudged=0, **options
                    )  # fmt: skip
                    dimensions = [
                        measure_dimension(
                            whole.states[layer][:, 1:],
                            neighbours=neighbours,
                            rng=np.random.default_rng([seed, layer]),
                        ).assign(layer=layer)
                        for layer in _quarters(depths)
                    ]
            rows = [heat.table]
            final = heat.states[depths[-1]][:, 1:]  # the first position is unlike all others
            if arm["draws"] == 1:
                rows.append(_token_information(heat, depths[-1], temperature, seed))
            tables.append(_located(pd.concat(rows, ignore_index=True), own, temperature, draw))
            values, null = two_point(final, distances)
            at, distance = np.indices(values.shape)
            curve = pd.DataFrame(
                {
                    "passage": at.ravel(),
                    "distance": distances[distance.ravel()],
                    "value": values.ravel(),
                    "null": null[at.ravel()],
                }
            )
            correlations.append(_located(curve, own, temperature, draw))
        if draw == 0 and 1 in grid:
            drawn_maps.append(attention_maps(adapter, tokens[:1], mapped))
        del adapter  # before the next network takes as much memory
    dimension_columns = ["sample", "passage", "value", "points", "width", "layer"]
    map_columns = ["temperature", "layer", "head", "query", "key", "weight"]
    write_table(table, pd.concat(tables, ignore_index=True))
    write_table(correlation, pd.concat(correlations, ignore_index=True))
    write_table(dimension, _joined(dimensions, dimension_columns))
    write_table(maps, _joined(drawn_maps, map_columns))


def _joined(parts: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def _network(folder: Path, weights: str, seed: int) -> Adapter:
    network = random_model(folder, seed=seed) if weights == "random" else load_model(folder)
    network.set_attn_implementation("eager")  # the only one that shows its weights
    return adapt(network.to(Accelerator().device))


def _quarters(depths: NDArray) -> list[int]:
    """Five of the measured layers, from the first to the last."""
    chosen = np.linspace(0, len(depths) - 1, 5).round().astype(int)
    return list(dict.fromkeys(depths[chosen].tolist()))


def _located(rows: pd.DataFrame, own: NDArray, temperature: float, draw: int) -> pd.DataFrame:
    return rows.assign(passage=own[rows["passage"].to_numpy()], temperature=temperature, draw=draw)


def measure(
    adapter: Adapter,
    tokens: NDArray,
    *,
    layers: Sequence[int] | NDArray,
    batch: int,
    nudged: int,
    outlier_channels: int,
    seed: int,
) -> Heat:
    """Everything that is measured at the temperature the network has now.

    Parameters
    ----------
    tokens
        Shape (passages, length).
    layers
        Depths at which states are measured; 0 is the input of the first block.
    nudged
        Passages in which a small change is followed: the first ones.
    """
    device = next(adapter.model.parameters()).device
    rng = np.random.default_rng([seed, 2])
    rows: list[pd.DataFrame] = []
    kept: dict[int, list[NDArray]] = {int(layer): [] for layer in layers}
    with torch.no_grad():  # and not inference mode, in which nothing is differentiated
        for start in range(0, len(tokens), batch):
            ids = torch.from_numpy(tokens[start : start + batch]).to(device)
            with recorded(adapter) as states, _informed(adapter) as information:
                output = adapter.model(ids, use_cache=True)
            parts = [
                _losses(output.logits, ids, len(adapter.blocks)),
                _channels(information, tokens.shape[1]),
            ]
            cache = output.past_key_values
            del output  # the logits are large
            for layer in kept:
                state = states[layer].float().cpu().numpy()
                parts.append(_ranks(state, layer, outlier_channels, rng))
                kept[layer].append(state)
            if start < nudged:
                count = min(nudged - start, len(ids))
                half = ids[:count, : ids.shape[1] // 2]  # derivatives cost more than states
                parts.append(_growth(adapter, half, cache, list(kept), seed=seed + start))
            joined = pd.concat(parts, ignore_index=True)
            rows.append(joined.assign(passage=joined["passage"] + start))
    whole = {layer: np.concatenate(parts) for layer, parts in kept.items()}
    return Heat(pd.concat(rows, ignore_index=True), whole)


def _long(values: NDArray, quantity: str, layers: Sequence[int]) -> pd.DataFrame:
    """Rows of one quantity from an array (passages, layers)."""
    passage, at = np.indices(values.shape)
    return pd.DataFrame(
        {
            "passage": passage.ravel(),
            "layer": np.asarray(layers)[at.ravel()],
            "definition": "",
            "quantity": quantity,
            "value": values.ravel().astype(float),
        }
    )


def _losses(logits: torch.Tensor, ids: torch.Tensor, layer: int) -> pd.DataFrame:
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
    )
    losses = losses.unflatten(0, (len(ids), -1))
    return _long(losses.mean(dim=1, keepdim=True).cpu().numpy(), "loss", [layer])


def _ranks(
    state: NDArray, layer: int, outlier_channels: int, rng: np.random.Generator
) -> pd.DataFrame:
    measured, _ = measure_states(
        state, definitions=DEFINITIONS, outlier_channels=outlier_channels, rng=rng
    )
    long = measured.melt(id_vars=["passage", "definition"], value_vars=RANKS, var_name="quantity")
    return long.assign(layer=layer)


@contextmanager
def _attended(adapter: Adapter) -> Iterator[list[torch.Tensor]]:
    """Collect the attention weights of every block, (batch, heads, queries, keys)."""
    weights: list[torch.Tensor] = []
    with ExitStack() as hooks:
        for block in adapter.blocks:
            handle = block.attention.register_forward_hook(
                lambda module, args, output: weights.append(output[1])
            )
            hooks.callback(handle.remove)
        yield weights


@contextmanager
def _informed(adapter: Adapter) -> Iterator[list[tuple[torch.Tensor, torch.Tensor]]]:
    """Collect `channel_information` of every block, mean over heads, not the weights themselves."""
    found: list[tuple[torch.Tensor, torch.Tensor]] = []

    def note(module: torch.nn.Module, args: tuple, output: Any) -> None:
        information, rows = channel_information(output[1].float())
        found.append((information.mean(1), rows.mean(1)))

    with ExitStack() as hooks:
        for block in adapter.blocks:
            hooks.callback(block.attention.register_forward_hook(note).remove)
        yield found


def _channels(found: Sequence[tuple[torch.Tensor, torch.Tensor]], length: int) -> pd.DataFrame:
    layers = list(range(1, len(found) + 1))
    information, rows = (torch.stack(part, 1).cpu().numpy() for part in zip(*found, strict=True))
    even = np.log(np.arange(1, length + 1)).mean()  # of even attention to the past and present
    return pd.concat(
        [
            _long(information, "channel_information", layers),
            _long(rows, "row_entropy", layers),
            _long(rows / even, "evenness", layers),
        ]
    )


def _growth(
    adapter: Adapter, ids: torch.Tensor, cache: Cache, layers: Sequence[int], *, seed: int
) -> pd.DataFrame:
    """How an infinitesimal change of the token in the middle grows with depth.

    The change is of random direction, the same at every temperature, and carried along by forward
    differentiation: a finite one would saturate where growth is fast and drown in rounding where
    it is slow. Relative sizes are of the states from that token on, which alone it can reach: those
    before it are taken from ``cache``, what the network remembers of these and maybe more tokens
    (which is cut to what is needed).
    """
    middle = ids.shape[1] // 2
    cache.batch_select_indices(torch.arange(len(ids)))
    cache.crop(middle - cache.get_seq_length())
    generator = torch.Generator().manual_seed(seed)

    def nudge(module: torch.nn.Module, args: tuple, output: torch.Tensor) -> torch.Tensor:
        change = torch.zeros_like(output)
        change[:, 0] = torch.randn(output[:, 0].shape, generator=generator).to(output)
        return forward_ad.make_dual(output, change)

    sizes, relative, spread = [], [], []
    handle = adapter.model.get_input_embeddings().register_forward_hook(nudge)
    try:
        with torch.no_grad(), forward_ad.dual_level(), recorded(adapter) as states:
            adapter.body(ids[:, middle:], past_key_values=cache)
            for layer in layers:
                state, change = (part.double() for part in _dual(states[layer]))
                square = change.square().sum(dim=(1, 2))
                sizes.append(square.log() / 2)
                relative.append(sizes[-1] - state.square().sum(dim=(1, 2)).log() / 2)
                spread.append(1 - change[:, 0].square().sum(dim=1) / square)
    finally:
        handle.remove()
    size, relation, share = (
        torch.stack(part, 1).cpu().numpy() for part in (sizes, relative, spread)
    )
    return pd.concat(
        [
            _long(relation - relation[:, :1], "growth", layers),
            _long(size - size[:, :1], "growth_absolute", layers),
            _long(share, "spread", layers),
        ]
    )


def _dual(state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """States and their derivative."""
    unpacked = forward_ad.unpack_dual(state)
    assert unpacked.tangent is not None
    return unpacked.primal, unpacked.tangent


def _token_information(heat: Heat, last: int, temperature: float, seed: int) -> pd.DataFrame:
    """What the last states say about inputs at several lags, and, once, what the inputs say."""
    asked = {last: heat.states[last]}
    if temperature == 1:
        asked[0] = heat.states[0]  # does not depend on the temperature
    rows = []
    inputs = heat.states[0][:, 1:]  # without the first position
    for layer, whole in asked.items():
        states = whole[:, 1:]
        for lag in LAGS:
            bound = mutual_information_bound(
                inputs[:, : inputs.shape[1] - lag], states[:, lag:], components=COMPONENTS
            )
            rows.append(_long(bound[:, None], f"token_information_lag{lag}", [layer]))
        flat = inputs.reshape(-1, inputs.shape[2])
        shuffled = np.random.default_rng([seed, 3]).permutation(flat).reshape(inputs.shape)
        bound = mutual_information_bound(shuffled, states, components=COMPONENTS)
        rows.append(_long(bound[:, None], "token_information_shuffled", [layer]))
    return pd.concat(rows, ignore_index=True)


def attention_maps(adapter: Adapter, tokens: NDArray, mapped: Sequence[float]) -> pd.DataFrame:
    """Weights of the head with the most information at T = 1, at several temperatures.

    Parameters
    ----------
    tokens
        Shape (1, length).
    """
    device = next(adapter.model.parameters()).device
    found = {}
    for temperature in (1.0, *mapped):
        with torch.inference_mode(), heated(adapter, temperature), _attended(adapter) as weights:
            adapter.body(torch.from_numpy(tokens).to(device), use_cache=False)
        found[temperature] = torch.stack(weights)[:, 0].float().cpu()  # layers, heads, q, k
    information, _ = channel_information(found[1.0])
    block, head = np.unravel_index(int(information.argmax()), information.shape)
    query, key = np.indices(found[1.0].shape[2:])
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "temperature": temperature,
                    "layer": block + 1,
                    "head": head,
                    "query": query.ravel(),
                    "key": key.ravel(),
                    "weight": found[temperature][block, head].numpy().ravel(),
                }
            )
            for temperature in mapped
        ],
        ignore_index=True,
    )
