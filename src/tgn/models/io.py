"""Saving and loading models: a folder with model.safetensors, config.json and perhaps a tokenizer.

``config.json`` is written last and removed first, so that a folder that has one is whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import nn

from tgn.files import digest, replacing, write_json
from tgn.models import Model, build
from tgn.models.config import ModelConfig

FORMAT = "tgn language model"
CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
REMEDY = "copy the folder anew, or delete it and run what makes it again"


def save(
    folder: str | Path,
    model: nn.Module,
    config: ModelConfig,
    tokenizer: Tokenizer | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write a model; a reader meets the whole of it or none.

    Parameters
    ----------
    tokenizer
        Kept beside the weights.
    metadata
        What JSON can hold, for :func:`describe` to give back.
    """
    folder = Path(folder)
    (folder / CONFIG).unlink(missing_ok=True)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    with replacing(folder / WEIGHTS) as temporary:
        save_file(weights, temporary)
    if tokenizer is not None:
        with replacing(folder / TOKENIZER) as temporary:
            tokenizer.save(str(temporary))
    else:
        (folder / TOKENIZER).unlink(missing_ok=True)
    content = {
        "format": FORMAT,
        "model": config.to_dict(),
        "sha256": digest(folder / WEIGHTS),
        "metadata": dict(metadata or {}),
    }
    write_json(folder / CONFIG, content)


def load(folder: str | Path) -> Model:
    """The model in a folder, on the CPU and in evaluation mode; its config is ``model.config``.

    Raises
    ------
    ValueError
        If the folder does not hold a model that :func:`save` wrote, or its files do not fit.
    """
    folder = Path(folder)
    content = describe(folder)
    path = folder / WEIGHTS
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read as safetensors: {error}; {REMEDY}") from None
    if digest(path) != content["sha256"]:
        raise ValueError(
            f"{path} is not the file that {CONFIG} describes: its checksum differs; {REMEDY}"
        )
    misfit = f"the weights in {folder} do not fit its {CONFIG}"
    try:
        config = ModelConfig.from_dict(content["model"])
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG}: {error}; {REMEDY}") from None
    if config.depth > len(weights):
        raise ValueError(f"{misfit}: {config.depth} blocks, {len(weights)} weights; {REMEDY}")
    try:
        with torch.device("meta"):  # before a wrong size is given memory
            expected = {name: part.shape for name, part in build(config).state_dict().items()}
    except RuntimeError as error:  # more than can be counted
        raise ValueError(f"{misfit}: {error}; {REMEDY}") from None
    found = {name: part.shape for name, part in weights.items()}
    if wrong := sorted(name for name, _ in found.items() ^ expected.items()):
        names = ", ".join(dict.fromkeys(wrong))
        raise ValueError(f"{misfit}, as {names:.200}; {REMEDY}")
    model = build(config)
    model.load_state_dict(weights)
    return model.eval()


def describe(folder: str | Path) -> dict[str, Any]:
    """The content of a model folder's config: ``model``, ``metadata``, ``format``, ``sha256``.

    Raises
    ------
    ValueError
        If the folder does not hold a model that :func:`save` wrote.
    """
    path = Path(folder) / CONFIG
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        why = f"it has no {CONFIG}" if Path(folder).is_dir() else "there is no such folder"
        raise ValueError(f"{folder} is not a model of ours: {why}") from None
    except (ValueError, RecursionError):
        raise ValueError(
            f"{folder} is not a model of ours: {CONFIG} is not JSON; {REMEDY}"
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(
            f"{folder} is not a model of ours: {CONFIG} does not say format: {FORMAT!r}"
        )
    if missing := {"model", "sha256"} - set(content):
        raise ValueError(f"{path} lacks {', '.join(sorted(missing))}; {REMEDY}")
    if not isinstance(content["model"], dict):
        raise ValueError(f"{path}: model is no mapping of settings; {REMEDY}")
    return content


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer kept with a model.

    Raises
    ------
    ValueError
        If there is none, or it cannot be read.
    """
    path = Path(folder) / TOKENIZER
    if not path.exists():
        raise ValueError(f"{folder} holds no {TOKENIZER}: the model was saved without one")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library knows no other kind
        raise ValueError(f"{path} is no tokenizer: {error}; {REMEDY}") from None
