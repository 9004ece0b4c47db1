"""Sedation in silico: the rank of a trained model's states while its gate is closed.

The gate of every token and layer is clamped to a dose between 1 (attention alone) and 0 (recurrence
alone). Since a trained gate may never have been so far open, the loss is read beside the rank at
every dose. Beside the clamped gate stand, as *modes*:

- ``random``: open for a random share of tokens and shut for the others, with the same mean;
- ``own``: the gate as trained; ``permuted``: the same gates dealt to other tokens of the window;
- ``scaled``, of a model without a gate: the output of its attention times the dose;
- ``untrained``: clamped (or scaled) in the same model with the entries of each matrix of its blocks
  shuffled. It reads the same embedding and has weights of the same size. A network as it is
  initialised would not do: here every block then is the identity, whose rank no gate changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tgn import rank
from tgn.files import write_table
from tgn.models import force_gate, io
from tgn.probing.definitions import DEFINITIONS, PRIMARY
from tgn.probing.trained import recorded_states
from tgn.progress import bar
from tgn.text.tokens import open_tokens

CLAMPED, RANDOM, OWN, PERMUTED = "clamped", "random", "own", "permuted"
SCALED, UNTRAINED = "scaled", "untrained"


def measure(
    *,
    weights: Sequence[str | Path],
    tokens: str | Path,
    table: str | Path,
    doses: Sequence[float],
    windows: int,
    batch: int,
    seed: int,
) -> None:
    """Measure rank and loss of trained models under every mode and dose, and write a table.

    Parameters
    ----------
    weights
        The ``model.safetensors`` of an arm's seeds.
    tokens
        A file of the tokenised text's folder, whose test split is read.
    table
        Parquet to write, a row for each run (the folder of its weights), mode, dose, window and
        layer (0: what enters the first block): ``effective_rank`` and ``participation_ratio`` of
        the states, centred and without the first position, as figure 8 defines them. Of the whole
        window, so alike for all layers: ``nats`` a token and ``gate``, the mean over tokens and
        layers (of a model without a gate, the dose).
    doses
        Levels of the clamped gate, with 0 and 1.
    windows, batch
        Windows of one context, spread evenly over the split, and how many are read at once.
    seed
        Of the random gates and the shuffled weights; the same for every run.

    Raises
    ------
    ValueError
        If the split is shorter than a window.
    """
    parts = []
    for path in bar(weights, desc="sedation", unit="run"):
        folder = Path(path).parent
        model = io.load(folder).to("cuda" if torch.cuda.is_available() else "cpu")
        read = windows_of(Path(tokens).parent, model.config.context, windows)
        rows = sedated(model, read, doses=doses, batch=batch, seed=seed)
        parts.append(rows.assign(run=folder.name))
    write_table(table, pd.concat(parts, ignore_index=True))


def windows_of(folder: str | Path, context: int, windows: int) -> Tensor:
    """Windows of the test split, without overlap: ids (windows, context + 1), the last a target."""
    ids = open_tokens(folder, "test", context)
    fitting = (len(ids) - 1) // context
    starts = np.linspace(0, fitting - 1, min(windows, fitting)).round().astype(int) * context
    return torch.from_numpy(np.stack([ids[s : s + context + 1] for s in starts]).astype(np.int64))


def sedated(
    model: Any, windows: Tensor, *, doses: Sequence[float], batch: int, seed: int
) -> pd.DataFrame:
    """The table of :func:`measure` for one model, whose weights are left shuffled.

    Parameters
    ----------
    windows : tensor, shape (W, context + 1)
    """
    gated = model.config.mixer == "gated"
    main = CLAMPED if gated else SCALED
    shape = (model.config.depth, len(windows), windows.shape[1] - 1)
    generator = torch.Generator().manual_seed(seed)
    rows = []

    def record(mode: str, dose: float, gates: Tensor) -> None:
        read = read_windows(model, windows, gates, batch)
        rows.append(read.assign(mode=mode, dose=dose, gate=read["window"].map(dict(enumerate(
            gates.mean(dim=(0, 2)).tolist()
        )))))  # fmt: skip

    if gated:
        own = own_gates(model, windows, batch)
        record(OWN, np.nan, own)
        record(PERMUTED, np.nan, dealt(own, generator))
    for dose in doses:
        record(main, dose, torch.full(shape, float(dose)))
        if gated and 0 < dose < 1:  # at the ends it is the clamped gate
            record(RANDOM, dose, dealt(open_share(shape, dose), generator))
    shuffle_weights(model, generator)
    for dose in doses:
        record(UNTRAINED, dose, torch.full(shape, float(dose)))
    return pd.concat(rows, ignore_index=True)


@torch.inference_mode()
def own_gates(model: Any, windows: Tensor, batch: int) -> Tensor:
    """The gates as trained, (layers, W, context), on the CPU."""
    device = next(model.parameters()).device
    parts = [model(part[:, :-1].to(device)).gates.cpu() for part in windows.split(batch)]
    return torch.cat(parts, dim=1)


def open_share(shape: tuple[int, int, int], share: float) -> Tensor:
    """Gates (layers, W, T) that are 1 for the first tokens and 0 after, with this mean.

    One token is open in part, so that the mean is exact.
    """
    gates = (share * shape[-1] - torch.arange(shape[-1])).clamp(0, 1)
    return gates.expand(shape)


def dealt(gates: Tensor, generator: torch.Generator) -> Tensor:
    """The same gates at other tokens, permuted within each layer and window."""
    return gates.gather(-1, torch.rand(gates.shape, generator=generator).argsort(-1))


def shuffle_weights(model: Any, generator: torch.Generator) -> None:
    """Permute the entries of every matrix of the blocks, in place."""
    for parameter in model.blocks.parameters():
        if parameter.ndim > 1:
            flat = parameter.data.flatten()
            order = torch.randperm(len(flat), generator=generator)
            parameter.data = flat[order.to(flat.device)].view_as(parameter)


@torch.inference_mode()
def read_windows(model: Any, windows: Tensor, gates: Tensor, batch: int) -> pd.DataFrame:
    """Ranks by window and layer, and nats a token, under given gates (layers, W, context).

    In a model without a gate they scale the output of attention instead.
    """
    device = next(model.parameters()).device
    ranks, nats = [], []
    for first in range(0, len(windows), batch):
        part = windows[first : first + batch].to(device)
        opened = gates[:, first : first + batch].to(device)
        with opened_by(model, opened), recorded_states(model) as states:
            nats.append(model(part[:, :-1], targets=part[:, 1:]).nats.mean(dim=1).cpu().numpy())
        ranks.append(profile(torch.stack(states).cpu().numpy()))
    table = pd.concat(ranks, ignore_index=True)
    layers = len(states)
    table["window"] = np.repeat(np.arange(len(windows)), layers)
    return table.assign(nats=np.repeat(np.concatenate(nats), layers))


def profile(states: NDArray) -> pd.DataFrame:
    """Ranks of states (layers, W, T, width), a row for each window and layer."""
    definition = DEFINITIONS[PRIMARY]
    ranks = rank.rank_profile(states[:, :, 1 - definition.first :], centre=definition.centre)
    layers, count = states.shape[:2]
    return pd.DataFrame(
        {
            "layer": np.tile(np.arange(layers), count),
            "effective_rank": ranks["effective_rank_sigma"].T.ravel(),
            "participation_ratio": ranks["participation_ratio"].T.ravel(),
        }
    )


@contextmanager
def opened_by(model: Any, gates: Tensor) -> Iterator[None]:
    """Force gates (layers, B, T), or scale attention by them where there is no gate."""
    if model.config.mixer == "gated":
        force_gate(model, gates)
        try:
            yield
        finally:
            force_gate(model, None)
        return
    hooks = [
        block.mixer.register_forward_hook(_scaling(scale))
        for block, scale in zip(model.blocks, gates, strict=True)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _scaling(scale: Tensor) -> Any:
    def scaled(mixer: nn.Module, inputs: Any, output: tuple[Tensor, Any]) -> tuple[Tensor, Any]:
        return output[0] * scale[..., None].to(output[0].dtype), output[1]

    return scaled
