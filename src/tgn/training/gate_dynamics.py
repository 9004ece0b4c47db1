"""What a trained gate is worth: the loss under hard gates, and the time that closed tokens save."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tgn.files import write_table
from tgn.models import HardGate, force_gate, io
from tgn.models.attention import Attention
from tgn.models.hard_attention import attend_open
from tgn.progress import bar
from tgn.text.tokens import open_tokens
from tgn.training import evaluation

SOFT, HARD, ONE, SHUFFLED = "soft", "hard", "one", "shuffled"
PUBLISHED_THRESHOLD = 0.5


def measure_hard_gates(
    *,
    weights: str | Path,
    tokens: str | Path,
    table: str | Path,
    occupancies: Sequence[float],
    windows: int | None = None,
    batch: int = 8,
    seed: int = 0,
) -> None:
    """Evaluate a trained gated model with its gates made hard, and write a table.

    Thresholds are quantiles of the gates on the validation split, so that a wanted share of tokens
    is open there; losses are read on both splits.

    Parameters
    ----------
    weights
        The ``model.safetensors`` of a gated model.
    tokens
        A file of the tokenised text's folder.
    table
        Parquet to write. A row for each split, mode, threshold and block of four contexts:
        ``nats``, ``targets``, and of the whole split ``occupancy`` (share of open tokens) and
        ``scores`` (their share of the scores that full attention computes: an open token has as
        many as there are tokens up to it). Modes: ``soft``, ``hard`` (open tokens keep their g),
        ``one`` (g = 1, at the published threshold of one half), and the control ``shuffled``: as
        hard, with the gates of each layer dealt out to other tokens. The last two on the test
        split only.
    occupancies
        Shares of open tokens.
    windows
        Contexts read of each split, from its start; None: all.
    seed
        Of the shuffling.

    Raises
    ------
    ValueError
        If the model has no gate.
    """
    folder = Path(tokens).parent
    model = io.load(Path(weights).parent)
    if model.config.mixer != "gated":
        raise ValueError(f"{weights} holds a model without gates ({model.config.mixer})")
    context = model.config.context
    text = {split: open_tokens(folder, split, context) for split in ("validation", "test")}
    # Whole windows only, so that the place of a token in its window is its number modulo context.
    text = {split: ids[: len(ids) // context * context][: windows and windows * context]
            for split, ids in text.items()}  # fmt: skip
    end = json.loads((folder / "counts.json").read_text(encoding="utf-8"))["end"]

    def scored(network: nn.Module, split: str, hard: HardGate | None) -> evaluation.Scores:
        return evaluation.score(
            network, text[split], end=end, context=context, stride=context, batch=batch, hard=hard
        )

    soft = {split: scored(model, split, None) for split in text}
    thresholds = {
        share: float(np.quantile(_gates(soft["validation"]), 1 - share)) for share in occupancies
    }
    settings = [(HARD, share, threshold) for share, threshold in thresholds.items()]
    settings += [(SHUFFLED, share, threshold) for share, threshold in thresholds.items()]
    settings += [(ONE, np.nan, PUBLISHED_THRESHOLD)]
    rows = [
        _blocks(soft[split], context).assign(split=split, mode=SOFT, wanted=1.0, threshold=0.0)
        for split in text
    ]
    shuffled = _ShuffledGates(model, seed)
    for mode, share, threshold in bar(settings, desc="hard gates", unit="setting"):
        gate = HardGate(threshold, "one" if mode == ONE else "soft")
        for split in text if mode == HARD else ["test"]:  # only these are chosen among
            scores = scored(shuffled if mode == SHUFFLED else model, split, gate)
            rows.append(
                _blocks(scores, context, threshold).assign(
                    split=split, mode=mode, wanted=share, threshold=threshold
                )
            )
    write_table(table, pd.concat(rows, ignore_index=True))


class _ShuffledGates(nn.Module):
    """A gated model whose gates are those of other tokens of the batch, layer by layer."""

    def __init__(self, model: nn.Module, seed: int) -> None:
        super().__init__()
        self.model = model
        self.generator = torch.Generator().manual_seed(seed)

    def forward(self, inputs: Tensor, hard: HardGate | None = None) -> Any:
        gates = self.model(inputs).gates
        order = torch.rand(gates.shape, generator=self.generator).flatten(1).argsort(1)
        dealt = gates.flatten(1).gather(1, order.to(gates.device)).view_as(gates)
        with _forced(self.model, dealt):
            return self.model(inputs, hard=hard)


@contextmanager
def _forced(model: nn.Module, gates: Tensor) -> Iterator[None]:
    force_gate(model, gates)
    try:
        yield
    finally:
        force_gate(model, None)


def _gates(scores: evaluation.Scores) -> NDArray[np.float32]:
    if scores.gates is None:
        raise ValueError("the model returned no gates")
    return scores.gates


def _blocks(
    scores: evaluation.Scores, context: int, threshold: float | None = None
) -> pd.DataFrame:
    """Losses by block, with the shares of tokens and of scores that are open (all when soft)."""
    gates = _gates(scores)
    is_open = np.ones_like(gates, bool) if threshold is None else gates > threshold
    reach = np.arange(gates.shape[1]) % context + 1
    return evaluation.by_block(scores, 4 * context)[["block", "nats", "targets"]].assign(
        occupancy=is_open.mean(), scores=(is_open * reach).sum() / (reach.sum() * len(gates))
    )


def measure_attention_times(
    *,
    weights: str | Path,
    table: str | Path,
    contexts: Sequence[int],
    occupancies: Sequence[float],
    repeats: int,
    seed: int = 0,
) -> None:
    """Time an attention layer of a trained model's size, all tokens asking or some, and write it.

    Open tokens are drawn at random. The time does not depend on the weights, which are new, since
    the contexts are longer than the model's own.

    Parameters
    ----------
    weights
        The ``model.safetensors`` of a model that attends.
    table
        Parquet to write: ``context``, ``occupancy`` (1: plain causal attention), ``repeat``,
        ``seconds`` of CPU time (on a GPU, of its own time) for one sequence.
    repeats
        How often each is measured, in turns, so that a slow moment slows all alike.
    """
    config = io.load(Path(weights).parent).config
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for context in bar(contexts, desc="attention times", unit="context"):
        longer = replace(config, context=max(context, config.context))
        layer = Attention(longer).to(device).eval()
        x = torch.randn(1, context, config.width, generator=generator).to(device)
        calls: dict[float, Callable[[], Any]] = {1.0: partial(layer, x)}
        for share in sorted(set(occupancies) - {1.0}):
            is_open = (torch.rand(1, context, generator=generator) < share).to(device)
            calls[share] = partial(attend_open, layer, x, is_open)
        with torch.inference_mode():
            for call in calls.values():
                call()
            for repeat in range(repeats):
                for share, call in calls.items():
                    rows.append((context, share, repeat, _seconds(call, device)))
    columns = ["context", "occupancy", "repeat", "seconds"]
    write_table(table, pd.DataFrame(rows, columns=columns))


def _seconds(call: Callable[[], Any], device: str) -> float:
    """Of one call, from as many as take a tenth of a second."""
    count, spent = 0, 0.0
    while spent < 0.1:
        start = _clock(device)
        call()
        spent += _clock(device) - start
        count += 1
    return spent / count


def _clock(device: str) -> float:
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()
