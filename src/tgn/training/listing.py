"""Trained models side by side: what each is, how large, how well it did, and where it lies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from tgn.files import replacing
from tgn.models import io, sizes
from tgn.models.config import ModelConfig
from tgn.pages import Table, markdown

COLUMNS = (
    "arm", "mixer", "width", "depth", "heads", "settings", "parameters", "seed", "steps",
    "best_validation", "best_step", "final_validation", "validation", "test", "path",
)  # fmt: skip
_SHAPE = {"vocabulary", "width", "depth", "heads", "context", "mlp_width", "mixer"}


def list_runs(folders: Sequence[str | Path]) -> pd.DataFrame:
    """A row for each trained model in these folders and below them, in the order of their paths.

    A model inside another's folder, its best weights, is left out: the other's row tells of it.

    Returns
    -------
    DataFrame
        ``COLUMNS``: ``settings`` are those of the model that are not the usual ones; losses are in
        nats a token, ``best_validation`` (at ``best_step``) and ``final_validation`` of the
        evaluations during training, ``validation`` and ``test`` of the whole splits at the end.
        What a folder does not hold is missing.

    Raises
    ------
    ValueError
        If a folder has no model in it.
    """
    rows = []
    for folder in map(Path, folders):
        found = [path.parent for path in sorted(folder.rglob(io.CONFIG)) if _is_ours(path.parent)]
        found = [path for path in found if path == folder or path.parent not in found]
        if not found:
            raise ValueError(f"no trained model in {folder}: it has no {io.CONFIG} of ours")
        rows += [_row(path) for path in found]
    whole = {name: "Int64" for name in ("parameters", "seed", "steps", "best_step")}
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(whole)


def render(runs: pd.DataFrame, form: str) -> str:
    """The table as text: ``table``, ``csv`` or ``markdown``."""
    if form == "csv":
        return runs.to_csv(index=False)
    cells = [[_cell(value) for value in row] for row in runs.itertuples(index=False)]
    if form == "markdown":
        table = Table(COLUMNS, [[[cell] for cell in row] for row in cells])
        note = "Losses in nats a token."
        return markdown("Trained models", [table, note])
    return pd.DataFrame(cells, columns=list(COLUMNS)).to_string(index=False) + "\n"


def write(*, evaluated: Sequence[str | Path], table: str | Path, page: str | Path) -> None:
    """Write the table of models, beside whose files of evaluation they lie, as CSV and Markdown."""
    runs = list_runs([Path(path).parent for path in evaluated])
    for path, form in ((table, "csv"), (page, "markdown")):
        with replacing(path) as temporary:
            temporary.write_text(render(runs, form), encoding="utf-8")


def _is_ours(folder: Path) -> bool:
    try:
        io.describe(folder)
    except ValueError:
        return False
    return True


def _row(folder: Path) -> dict[str, Any]:
    content = io.describe(folder)
    config = ModelConfig.from_dict(content["model"])
    about = content.get("metadata", {})
    usual = {field.name: field.default for field in fields(ModelConfig)}
    usual["coordinates"] = max(1, config.width // 8)
    special = {
        name: value
        for name, value in config.to_dict().items()
        if name not in _SHAPE and value != usual[name]
    }
    priced = config.mixer in ("gated", "gravity")  # gates, or repulsion
    if (penalty := about.get("penalty")) and priced:
        special["penalty"] = penalty
    row: dict[str, Any] = {
        "arm": f"{about.get('arm', '')}{' (best)' if about.get('best') else ''}",
        "mixer": config.mixer,
        "width": config.width,
        "depth": config.depth,
        "heads": config.heads,
        "settings": " ".join(f"{name}={value}" for name, value in special.items()),
        "parameters": sizes.parameters(config),
        "seed": about.get("seed"),
        "path": str(folder),
    }
    if (curve := folder / "metrics.parquet").is_file():
        metrics = pd.read_parquet(curve)
        row["steps"] = int(metrics["step"].max())
        losses = metrics.dropna(subset="validation_loss").set_index("step")["validation_loss"]
        row |= {
            "best_validation": losses.min(),
            "best_step": int(losses.idxmin()),
            "final_validation": losses.iloc[-1],
        }
    if (whole := folder / "evaluation.json").is_file():
        evaluated = json.loads(whole.read_text(encoding="utf-8"))
        row |= {split: part["nats"] / part["tokens"] for split, part in evaluated.items()}
    return row


def _cell(value: Any) -> str:
    if pd.isna(value):
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)
