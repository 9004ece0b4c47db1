"""Gravity, run by run: our runs beside the published table, as one page of Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import exp, log
from pathlib import Path
from typing import Any

import pandas as pd

from tgn import pages
from tgn.files import replacing
from tgn.models import io, sizes
from tgn.models.config import ModelConfig
from tgn.provenance import short_revision

HEAD = (
    "arm", "seed", "parameters", "tokens read", "validation loss (perplexity)",
    "best on the way (step)", "test nats per token", "bits per byte", "word perplexity",
    "steps/s (to the baseline's)", "published run", "its validation loss (perplexity)",
    "its best (step)", "its steps/s (to its Transformer's)",
)  # fmt: skip
NONE = "–"


def write(
    *,
    evaluated: Sequence[str | Path],
    published: str | Path,
    page: str | Path,
    baseline: str = "vanilla",
    scale: str = "laptop",
    text: str = "",
) -> None:
    """Write what training runs came to, beside what was published, as Markdown.

    Parameters
    ----------
    evaluated
        ``evaluation.json`` of every run. Beside each stand the other outputs of the rule that
        trains: the model with its ``config.json``, ``trajectory.parquet``, ``timings.parquet`` and
        ``provenance.json``.
    published
        CSV of published runs: ``run``, the ``arm`` of ours that answers to it, ``corpus``,
        ``vocabulary``, ``context``, ``parameters``, ``steps``, ``tokens``, ``seed``,
        ``validation_tokens``, ``validation_nats`` and ``best_nats`` (per token), ``best_step``,
        ``steps_per_second``.
    page
        Markdown to write.
    baseline
        The arm that the speed of the others is set against.
    scale, text
        What the runs are of, and the corpus they read, for the page to say.

    Raises
    ------
    FileNotFoundError, ValueError
        If a run's folder lacks a file, or holds no model of ours.
    """
    runs = pd.DataFrame([read_run(Path(path).parent) for path in evaluated])
    known = pd.read_csv(published)
    blocks: list[pages.Block] = [
        f"Scale {scale}, revision {short_revision()}. Our runs, trained on {text or 'one text'}, "
        "beside those published for the Newton Gravity Transformer.",
        pages.Table(HEAD, table(runs, known, baseline)),
        pages.Heading("What the columns are"),
        _columns(),
        pages.Heading("What cannot be compared"),
        _differences(runs, known, text),
    ]
    with replacing(page) as temporary:
        temporary.write_text(pages.markdown("Gravity, run by run", blocks), encoding="utf-8")


def read_run(folder: Path) -> dict[str, Any]:
    """One run in numbers, from the files of its folder."""
    described = io.describe(folder)
    model = ModelConfig.from_dict(described["model"])
    found = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    made = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    trajectory = pd.read_parquet(folder / "trajectory.parquet")
    on_the_way = trajectory.groupby("step")[["nats", "targets"]].sum()
    losses = on_the_way["nats"] / on_the_way["targets"]
    test, windows = found["test"], on_the_way.iloc[-1]
    validation = found.get("validation", {"nats": windows.nats, "tokens": int(windows.targets)})
    hardware = made["gpu"] or [f"{made['cpu']['model']}, {made['cpu']['count']} CPUs"]
    return {
        "arm": described["metadata"]["arm"],
        "seed": described["metadata"]["seed"],
        "parameters": sizes.parameters(model),
        "vocabulary": model.vocabulary,
        "context": model.context,
        "tokens": int(trajectory["tokens"].max()),
        "validation_nats": validation["nats"] / validation["tokens"],
        "validation_tokens": validation["tokens"],
        "best_nats": losses.min(),
        "best_step": int(losses.idxmin()),
        "test_nats": test["nats"] / test["tokens"],
        "bits_per_byte": test["bits_per_byte"],
        "word_perplexity": test["word_perplexity"],
        "steps_per_second": speed(pd.read_parquet(folder / "timings.parquet")),
        "hardware": ", ".join(str(device) for device in hardware),
    }


def speed(timings: pd.DataFrame) -> float:
    """Steps per second of wall time, without the first rows' steps, in which kernels compile.

    `timings` has ``step`` and ``seconds`` since the start; where it has one row there is no speed.
    """
    rows = timings.sort_values("step").iloc[1:] if len(timings) > 2 else timings
    steps, seconds = (
        float(rows[name].iloc[-1] - rows[name].iloc[0]) for name in ("step", "seconds")
    )
    return steps / seconds if seconds else float("nan")


def table(runs: pd.DataFrame, published: pd.DataFrame, baseline: str) -> list[list[list[str]]]:
    """The rows of the page: our runs in their order, then what was published and not run."""
    speeds = runs.loc[runs["arm"] == baseline, "steps_per_second"]
    by_arm = {row["arm"]: row for row in published.to_dict("records")}
    usual = by_arm[baseline]["steps_per_second"] if baseline in by_arm else float("nan")
    rows = []
    for run in runs.to_dict("records"):
        theirs = by_arm.get(run["arm"])
        rows.append([*_ours(run, speeds.mean()), *_theirs(theirs, usual)])
    for arm, theirs in by_arm.items():
        if arm not in set(runs["arm"]):
            rows.append([NONE] * 10 + _theirs(theirs, usual))
    return [[[cell] for cell in row] for row in rows]


def _ours(run: dict[str, Any], usual: float) -> list[str]:
    return [
        run["arm"],
        str(run["seed"]),
        f"{run['parameters']:,}",
        f"{run['tokens']:,}",
        _loss(run["validation_nats"]),
        f"{run['best_nats']:.4f} ({run['best_step']:,})",
        f"{run['test_nats']:.4f}",
        f"{run['bits_per_byte']:.4f}",
        f"{run['word_perplexity']:,.1f}",
        _speed(run["steps_per_second"], usual),
    ]


def _theirs(run: dict[str, Any] | None, usual: float) -> list[str]:
    if run is None:
        return [NONE] * 4
    return [
        run["run"],
        _loss(run["validation_nats"]),
        f"{run['best_nats']:.4f} ({run['best_step']:,})",
        _speed(run["steps_per_second"], usual),
    ]


def _loss(nats: float) -> str:
    return f"{nats:.4f} ({exp(nats):.2f})"


def _speed(steps: float, usual: float) -> str:
    if pd.isna(steps):
        return NONE
    return f"{steps:.3f}" if pd.isna(usual) else f"{steps:.3f} ({steps / usual:.2f})"


def _columns() -> pages.Bullets:
    return pages.Bullets([
        "Losses are nats per token of the run's own tokenizer, perplexities exp of them. Models of "
        "different tokenizers may be set side by side, on one text, by bits per byte and word "
        "perplexity alone.",
        "The validation loss is that after the last step, of as many tokens as are told below. The "
        "best on the way is the least of the evaluations during training, which read some windows "
        "of the split, and is flattered by having been chosen. Test losses are of the whole split, "
        "read once, at the end.",
        "Steps per second are of wall time while a run trained, whatever else the machine did; "
        "the figure's last panel and `benchmarks/gravity.py` measure cost as such.",
    ])  # fmt: skip


def _differences(runs: pd.DataFrame, published: pd.DataFrame, text: str) -> pages.Bullets:
    """Corpus, tokenizer, scale and protocol of both sides."""
    ours, theirs = (
        {name: _range(side[name]) for name in ("parameters", "tokens", "validation_tokens")}
        | {name: _all(side[name]) for name in ("vocabulary", "context", "seed")}
        | {"guess": f"{log(side['vocabulary'].max()):.2f}"}
        for side in (runs, published)
    )
    return pages.Bullets([
        f"*Corpus:* ours {text or 'as configured'}; published {_all(published['corpus'])}. Losses "
        "on different texts are different quantities.",
        f"*Tokenizer:* ours has {ours['vocabulary']} tokens, the published {theirs['vocabulary']}: "
        f"guessing costs {ours['guess']} and {theirs['guess']} nats per token. The published table "
        "has neither bits per byte nor word perplexity.",
        f"*Scale:* ours has {ours['parameters']} parameters, context {ours['context']} and "
        f"{ours['tokens']} tokens read; published {theirs['parameters']}, {theirs['context']} and "
        f"{theirs['tokens']}.",
        f"*Evaluation:* ours reads {ours['validation_tokens']} tokens of the validation split, the "
        f"same for all; published numbers rest on {theirs['validation_tokens']} drawn at random.",
        f"*Seeds:* ours {ours['seed']}; published {theirs['seed']}, and no intervals.",
        f"*Speed:* ours on {_all(runs['hardware'])}; the published table names no hardware. Only "
        "ratios within one side mean anything.",
    ])  # fmt: skip


def _all(values: pd.Series) -> str:
    return ", ".join(f"{v:,}" if isinstance(v, int) else str(v) for v in sorted(set(values)))


def _range(values: pd.Series) -> str:
    low, high = values.min(), values.max()
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
