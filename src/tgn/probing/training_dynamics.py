"""The thermodynamics of weight matrices along a training run, checkpoint by checkpoint.

The first checkpoint is the control that matters: what an untrained matrix shows is no work of
learning. Checkpoints come from ``tgn.training.snapshots``, or are any folders of saved models.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors.torch import load_file

from tgn.models import io
from tgn.probing import pretrained, weights
from tgn.progress import bar
from tgn.thermodynamics.critical import STANDARD_GRID, freezing_temperature
from tgn.thermodynamics.perturbation import quantities

Checkpoint = str | Path | Mapping[str, Any]

PARTS = {
    "mlp.up": "ffn.intermediate",
    "mlp.out": "ffn.output",
    "up": "ffn.intermediate",
    "down": "ffn.output",
}
MAPS = {"out": "output", "cell.weight_ih_l0": "input", "cell.weight_hh_l0": "recurrent"}


def along(
    checkpoints: Mapping[int, Checkpoint],
    *,
    matrices: Sequence[str] | None = None,
    temperatures: ArrayLike | tuple[float, float] = STANDARD_GRID,
    at: float = 1.0,
) -> pd.DataFrame:
    """Every quantity of every matrix at every checkpoint.

    Parameters
    ----------
    checkpoints
        From the step to a model's folder, a file of weights (safetensors, or a state of an
        unfinished run), or a mapping from names to matrices. Steps rise.
    matrices
        Names of those to take; all unless given.
    temperatures, at
        As :func:`tgn.thermodynamics.perturbation.quantities`, in units of each matrix's own
        standard deviation at the time.

    Returns
    -------
    DataFrame
        A row for each step and matrix: ``step``, ``matrix``, ``n_levels``,
        ``freezing_temperature`` (of Gaussian levels as many, in units of sigma), the quantities,
        and ``moved``, the distance from the first checkpoint relative to the first one's norm
        (missing where that is zero, as of output maps that start at zero).

    Raises
    ------
    ValueError
        If there are no checkpoints, steps do not rise, a checkpoint cannot be read, lacks a matrix
        or has it in another shape than the first, or weights are not finite.
    """
    if not checkpoints:
        raise ValueError("checkpoints is empty")
    steps = list(checkpoints)
    if any(np.diff(steps) <= 0):
        raise ValueError(f"checkpoints: steps must rise, got {steps}")
    first: dict[str, NDArray] = {}
    rows = []
    for step, checkpoint in bar(checkpoints.items(), desc="checkpoints", unit="checkpoint"):
        found = _chosen(checkpoint, matrices, step)
        first = first or found
        if unlike := {
            name
            for name in {*first, *found}
            if name not in first or name not in found or first[name].shape != found[name].shape
        }:
            raise ValueError(
                f"checkpoints: step {step} differs from step {steps[0]} in the matrices "
                f"{', '.join(sorted(unlike))}"
            )
        for name, matrix in found.items():
            try:
                measured = quantities(matrix, temperatures=temperatures, at=at)
            except ValueError as error:
                raise ValueError(f"step {step}, {name}: {error}") from error
            size = np.linalg.norm(first[name])
            moved = np.linalg.norm(matrix - first[name]) / size if size else np.nan
            rows.append(
                {
                    "step": step,
                    "matrix": name,
                    "n_levels": matrix.size,
                    "freezing_temperature": freezing_temperature(1.0, matrix.size),
                    **measured,
                    "moved": float(moved),
                }
            )
    return pd.DataFrame(rows)


def checkpoints_in(folder: str | Path) -> dict[int, Path]:
    """What a folder holds of a run, by step: files and folders whose names end in a number.

    ``step-00000100.safetensors`` is one, and ``checkpoint-100``.

    Raises
    ------
    ValueError
        If there is none, or two of one step.
    """
    found: dict[int, Path] = {}
    for path in sorted(Path(folder).glob("*")):
        name = path.name.removesuffix(".safetensors")
        number = re.search(r"-(\d+)$", name)
        if number is None or not (path.is_dir() or path.suffix == ".safetensors"):
            continue
        step = int(number[1])
        if step in found:
            raise ValueError(
                f"{folder}: both {found[step].name} and {path.name} are of step {step}"
            )
        found[step] = path
    if not found:
        raise ValueError(
            f"{folder} holds no checkpoints: their names end in a dash and the step, as "
            "step-00000100.safetensors"
        )
    return dict(sorted(found.items()))


def matrices_of(checkpoint: Checkpoint) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Name and matrix (output, input) of each weight matrix of a checkpoint.

    Raises
    ------
    ValueError
        If it cannot be read, or holds no matrix.
    """
    if isinstance(checkpoint, Mapping):
        named: Mapping[str, Any] = _flat(checkpoint)
    elif Path(checkpoint).is_dir():
        named = _of_folder(Path(checkpoint))
    else:
        named = state_matrices(_of_file(Path(checkpoint)))
    if not named:
        raise ValueError(f"checkpoint {_label(checkpoint)} holds no matrix")
    for name, matrix in named.items():
        if isinstance(matrix, torch.Tensor):
            matrix = matrix.detach().double().numpy(force=True)
        yield name, np.asarray(matrix, np.float64)


def state_matrices(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weight matrices in a state of one of this project's own models, by name.

    Parameters
    ----------
    state
        As of ``model.state_dict()`` or ``dict(model.named_parameters())``.

    Returns
    -------
    dict
        Views (output, input) into the state's tensors, under the names of
        :mod:`tgn.probing.weights`: ``embeddings.word``, ``layer_0/self_attention.query``,
        ``layer_0/ffn.output``; of the recurrent path ``layer_0/inertial.update`` and others, of
        which torch's GRU has ``inertial.input`` and ``inertial.recurrent`` for its three gates
        together. Matrices of other models keep the names of their parameters. Vectors, taps of
        convolutions and Mamba's rates are left out.
    """
    found: dict[str, torch.Tensor] = {}
    for parameter, tensor in state.items():
        is_map = parameter.endswith((".weight", ".weight_ih_l0", ".weight_hh_l0"))
        if not is_map or tensor.ndim != 2 or min(tensor.shape) < 2:
            continue
        name = _canonical(parameter, state)
        if name.endswith(".qkv"):
            parts = zip(("query", "key", "value"), tensor.chunk(3), strict=True)
            found |= {name.replace("qkv", part): rows for part, rows in parts}
        else:
            found[name] = tensor
    return found


def _canonical(parameter: str, state: Mapping[str, Any]) -> str:
    path = parameter.removesuffix(".weight")
    if path == "embedding":
        return weights.EMBEDDINGS
    block = re.fullmatch(r"blocks\.(\d+)\.(.+)", path)
    if block is None:
        return path
    layer, part = block.groups()
    if part in PARTS:
        return f"layer_{layer}/{PARTS[part]}"
    mixer, _, which = part.partition(".")
    if mixer != "mixer":
        return f"layer_{layer}/{part}"
    path_name, _, rest = which.partition(".")
    if path_name in ("inertial", "geometric"):
        which, attends = rest, path_name == "geometric"
    elif path_name == "gate":
        return f"layer_{layer}/{which}"
    else:
        at = f"blocks.{layer}.mixer"
        attends = f"{at}.query.weight" in state or f"{at}.qkv.weight" in state
    return f"layer_{layer}/{'self_attention' if attends else 'inertial'}.{MAPS.get(which, which)}"


def _chosen(
    checkpoint: Checkpoint, names: Sequence[str] | None, step: int
) -> dict[str, NDArray[np.float64]]:
    found = dict(matrices_of(checkpoint))
    if names is None:
        return found
    if missing := [name for name in names if name not in found]:
        raise ValueError(
            f"matrices: step {step} has no {', '.join(missing)}; it has {', '.join(found)}"
        )
    return {name: found[name] for name in names}


def _flat(named: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings (layer to type to matrix) as one, and a state's matrices by name."""
    if any(isinstance(part, torch.Tensor) for part in named.values()):
        return dict(state_matrices(named))
    flat: dict[str, Any] = {}
    for name, part in named.items():
        if isinstance(part, Mapping):
            flat |= {f"{name}/{kind}": matrix for kind, matrix in part.items()}
        else:
            flat[name] = part
    return {name: part for name, part in flat.items() if np.ndim(part) == 2}


def _of_folder(folder: Path) -> dict[str, torch.Tensor]:
    try:
        io.describe(folder)
    except ValueError as error:
        if not (folder / io.CONFIG).is_file():
            raise ValueError(f"checkpoint {folder}: {error}") from None
        return dict(weights.matrices(pretrained.load_body(folder)))
    return state_matrices(_of_file(folder / io.WEIGHTS))


def _of_file(path: Path) -> dict[str, torch.Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)["model"]
    except FileNotFoundError:
        raise ValueError(f"checkpoint {path} does not exist") from None
    except Exception as error:  # torch raises several kinds for a damaged file
        raise ValueError(f"checkpoint {path} holds no weights that can be read: {error}") from error


def _label(checkpoint: Checkpoint) -> str:
    return "of a mapping" if isinstance(checkpoint, Mapping) else str(checkpoint)
