"""What a training step costs, by model and context, at equal tokens."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from tgn.files import write_table
from tgn.models import build
from tgn.models.config import ModelConfig
from tgn.progress import bar
from tgn.training import optimizers
from tgn.training.run import matched

RATE = 1e-4  # of learning; the time does not depend on it


def measure(
    *,
    models: Mapping[str, Mapping[str, Any]],
    tokens: str | Path,
    contexts: Sequence[int],
    step_tokens: int,
    repeats: int,
    table: str | Path,
    seed: int = 0,
) -> None:
    """Time forward pass, backward pass and optimizer of untrained models, and write a table.

    Parameters
    ----------
    models
        By name ``model``, ``match`` (see :func:`tgn.training.run.matched`) and ``training``, of
        which the optimizer's kind and the precision matter.
    tokens
        A file of the tokenised text's folder, whose vocabulary the models have.
    contexts, step_tokens
        Tokens of a sequence, and of a step: as many sequences as fit, at least one.
    repeats
        How often each is measured after a first step that is not, in turns, so that a slow moment
        slows all alike.
    table
        Parquet to write: ``model``, ``context``, ``repeat``, ``seconds`` of a step: of the CPU, or
        on a GPU of its own time.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    counts = json.loads((Path(tokens).parent / "counts.json").read_text(encoding="utf-8"))
    vocabulary, rows = counts["vocabulary"], []
    for context in bar(contexts, desc="training steps", unit="context"):
        torch.manual_seed(seed)
        ids = torch.randint(vocabulary, (max(1, step_tokens // context), context + 1)).to(device)
        steps = {}
        for name, settings in models.items():
            config = matched({"vocabulary": vocabulary, **settings["model"]}, settings["match"])
            config = replace(config, context=context)
            steps[name] = _step(config, settings["training"], ids)
        for repeat in range(-1, repeats):
            for name, step in steps.items():
                seconds = _seconds(step, device.type)
                if repeat >= 0:
                    rows.append((name, context, repeat, seconds))
    write_table(table, pd.DataFrame(rows, columns=["model", "context", "repeat", "seconds"]))


def _step(
    config: ModelConfig, training: Mapping[str, Any], ids: torch.Tensor
) -> Callable[[], None]:
    """A training step on these tokens (B, T + 1)."""
    model = build(config).to(ids.device).train()
    made = optimizers.make(model, training["optimizer"]["kind"], learning_rate=RATE)
    half = training.get("precision") == "bf16"

    def step() -> None:
        with torch.autocast(ids.device.type, torch.bfloat16) if half else nullcontext():
            output = model(ids[:, :-1], targets=ids[:, 1:])
        loss = output.loss if output.repulsion is None else output.loss + output.repulsion.mean()
        loss.backward()
        for optimizer in made:
            optimizer.step()
            optimizer.zero_grad()

    return step


def _seconds(call: Callable[[], Any], device: str) -> float:
    start = _clock(device)
    call()
    return _clock(device) - start


def _clock(device: str) -> float:
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()
