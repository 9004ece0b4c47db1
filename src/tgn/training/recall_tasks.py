"""The small recall tasks: what the gates do where, tables and statistics.

An accuracy's interval is Wilson's over test sequences, to which Student's over seeds is added in
squares. The spread of seeds is that of the arms trained more than once, on the same test set.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from tgn.files import write_table
from tgn.models import io
from tgn.statistics import Interval, Statistic, difference, ends, write_statistics
from tgn.text import associative, listops
from tgn.text.as_published import published_listops
from tgn.text.recall import IGNORED
from tgn.training import synthetic
from tgn.training.comparison import seed_spread, widened
from tgn.training.recall_statistics import wilson

MEAN, ALL = "mean", "all"  # what rows over seeds, and over all test sets or tokens, have
OPEN = ["open", "open_low", "open_high"]
CONTRAST = "query - all"
GATES = 3  # the split of the generator, after synthetic's three
AT_ONCE = 2**18  # tokens
KNOWN = 10_000  # training expressions that the baselines know
ROLES = {
    "associative": (associative.ROLES, associative.roles),
    "listops": (listops.ROLES, listops.roles),
}
# The range of a test set: distance from the pair to the query, and depth of the brackets.
RANGES = {"associative": ("min_distance", "max_distance"), "listops": ("min_depth", "max_depth")}

Runs = Mapping[str, Mapping[str, Any]]
Tasks = Sequence[Mapping[str, Any]]
Record = dict[str, Any]


def measure_gates(
    *, weights: Sequence[str | Path], runs: Runs, examples: int, table: str | Path
) -> None:
    """Write what the gates of trained models do, by layer and role of the token.

    Parameters
    ----------
    weights
        ``model.safetensors`` of every run with gates, in a folder of its name.
    runs
        Plan of the runs, as :func:`tgn.training.recall_tasks_plan.runs`.
    examples
        How many sequences to draw of each of a run's test sets, apart from those it is tested on.
    table
        Parquet to write, see :func:`gates_by_role`, with ``task``, ``arm`` and ``seed``.
    """
    found = []
    for path in map(Path, weights):
        run = runs[path.parent.name]
        names, role_of = ROLES[run["task"]]
        inputs = np.concatenate(
            [
                synthetic.make_task(settings).draw(
                    np.random.default_rng([run["seed"], GATES, number]), examples
                )[0]
                for number, settings in enumerate(run["test_tasks"])
            ]
        )
        model = io.load(path.parent).eval()
        with torch.no_grad():
            gates = np.concatenate(
                [model(torch.from_numpy(part)).gates.numpy() for part in _parts(inputs)], axis=1
            )
        about = {name: run[name] for name in ("task", "arm", "seed")}
        found.append(gates_by_role(gates, role_of(inputs), names).assign(**about))
    write_table(table, pd.concat(found))


def _parts(inputs: NDArray) -> list[NDArray]:
    """Sequences of so many tokens at a time that memory is bounded."""
    return np.array_split(inputs, -(-inputs.size // AT_ONCE))


def gates_by_role(gates: NDArray, roles: NDArray, names: Sequence[str]) -> pd.DataFrame:
    """Means of gates by layer and role of the token, over the sequences that have the role.

    Parameters
    ----------
    gates
        Shape (layers, N, T).
    roles
        Numbers among ``names``, shape (N, T).

    Returns
    -------
    table with columns layer, role (also ``all``: every token but padding; and ``query - all``:
    the difference within each sequence), gate, standard_error (of the mean over sequences), open
    (share of gates above 1/2), n (sequences)
    """
    masks = {name: roles == number for number, name in enumerate(names) if name != "padding"}
    masks[ALL] = np.logical_or.reduce(list(masks.values()))
    rows = []
    for layer, gate in enumerate(gates):
        means, opened = ({role: _by_sequence(values, mask) for role, mask in masks.items()}
                         for values in (gate, gate > synthetic.OPEN))  # fmt: skip
        for found in (means, opened):
            found[CONTRAST] = found["query"] - found[ALL]
        rows += [
            {
                "layer": layer,
                "role": role,
                "gate": float(values.mean()),
                "standard_error": float(values.std(ddof=1) / math.sqrt(len(values))),
                "open": float(opened[role].mean()),
                "n": len(values),
            }
            for role, values in means.items()
        ]
    return pd.DataFrame(rows)


def _by_sequence(values: NDArray, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean over the masked tokens of each sequence that has any."""
    has = mask.any(axis=1)
    return (values * mask).sum(axis=1)[has] / mask.sum(axis=1)[has]


def summarise(
    *,
    accuracies: Sequence[str],
    gates: str,
    accuracy: str,
    occupancy: str,
    shapes: str,
    statistics: str,
    runs: Runs,
    published: int,
    evidence: Any,
    seed: int,
) -> None:
    """Write the tables of the recall tasks and the statistics that decide their claims.

    Parameters
    ----------
    accuracies
        ``accuracy.parquet`` of every run, in a folder of its name.
    gates
        Table of :func:`measure_gates`.
    accuracy, occupancy, shapes
        Parquet to write: :func:`accuracy_table`, :func:`occupancy_table`, :func:`shape_table`.
    statistics
        JSON to write.
    runs
        Plan of the runs, as :func:`tgn.training.recall_tasks_plan.runs`.
    published
        How many expressions to draw as published.
    evidence
        For the statistics.
    """
    rng = np.random.default_rng(seed)
    found = pd.concat(
        [
            pd.read_parquet(path).assign(task=runs[Path(path).parent.name]["task"])
            for path in accuracies
        ],
        ignore_index=True,
    )
    one_of = {run["task"]: run for run in runs.values()}
    found = pd.concat([test_sets(found), *(baselines(run, rng) for run in one_of.values())])
    answers = accuracy_table(found)
    occupied = occupancy_table(pd.read_parquet(gates))
    examples, _ = draw(one_of["listops"]["train_tasks"], rng, published)
    drawn = published_listops(rng, published)
    forms = shape_table(
        {
            "ours": (listops.depths(examples), listops.lengths(examples)),
            "published, kept": (drawn.depths[drawn.accepted], drawn.lengths[drawn.accepted]),
            "published, drawn": (drawn.depths, drawn.lengths),
        }
    )
    for path, table in ((accuracy, answers), (occupancy, occupied), (shapes, forms)):
        write_table(path, table)
    records = [
        *accuracy_statistics(answers),
        *gate_statistics(occupied),
        *shape_statistics(drawn.accepted, drawn.depths),
    ]
    write_statistics(
        statistics,
        [Statistic(**fields, model=_about(one_of), evidence=evidence) for fields in records],
    )


def _about(one_of: Runs) -> str:
    lengths = {
        task: max(settings["input_seq_len"] for settings in run["test_tasks"])
        for task, run in one_of.items()
    }
    return "; ".join(f"{task}, {length} tokens" for task, length in lengths.items())


def draw(tasks: Tasks, rng: np.random.Generator, count: int) -> tuple[NDArray, NDArray]:
    """Inputs (N, T) of tasks of one length, in equal numbers, and the label of each, (N,)."""
    parts = [synthetic.make_task(task).draw(rng, -(-count // len(tasks))) for task in tasks]
    inputs, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
    return inputs, labels[labels != IGNORED]


# --- tables


def test_sets(found: pd.DataFrame) -> pd.DataFrame:
    """Accuracies of runs with the range of each test set, and the mean over a run's test sets.

    Parameters
    ----------
    found
        ``accuracy.parquet`` of all runs, with ``task``.

    Returns
    -------
    table with columns task, arm, seed, low_end and high_end (of the range, see :data:`RANGES`),
    stratum (text, or ``all``), accuracy, n, parameters
    """
    rows = []
    for (task, arm, seed), run in found.groupby(["task", "arm", "seed"]):
        both = {"task": task, "arm": arm, "seed": str(seed)}
        low, high = RANGES[str(task)]
        for _, row in run.iterrows():
            rows.append(
                both
                | _stratum(int(row[low]), int(row[high]))
                | {"accuracy": float(row["accuracy"]), "n": int(row["n"])}
                | {"parameters": int(row["parameters"])}
            )
        rows.append(
            both
            | _stratum(int(run[low].min()), int(run[high].max()))
            | {"stratum": ALL, "accuracy": float(run["accuracy"].mean())}
            | {"n": int(run["n"].sum()), "parameters": int(run["parameters"].iloc[0])}
        )
    return pd.DataFrame(rows)


def _stratum(low: int, high: int) -> dict[str, Any]:
    name = f"{low}" if low == high else f"{low} to {high}"
    return {"low_end": low, "high_end": high, "stratum": name}


def baselines(run: Mapping[str, Any], rng: np.random.Generator) -> pd.DataFrame:
    """What can be had without recall or without nesting, on fresh test sets, as :func:`test_sets`.

    Of associative recall: chance, and the most frequent token. Of ListOps: the majority class, a
    bare digit's own value, the majority by first operator, and the first operator over all digits.
    """
    task, tests = run["task"], run["test_tasks"]
    guesses: dict[str, list[float]] = {}
    counts = []
    known: tuple[NDArray, NDArray] | None = None
    if task == "listops":
        known = draw(run["train_tasks"], rng, KNOWN)
    for settings in tests:
        inputs, answers = draw([settings], rng, KNOWN)
        if known is None:
            chance = synthetic.make_task(settings).chance
            scores = {"most_frequent": (associative.most_frequent(inputs) == answers).mean()}
            scores["chance"] = chance
        else:
            expressions, values = known
            predicted = {
                "majority": listops.majority(values, inputs),
                "bare_digit": listops.bare_digit(values, inputs),
                "first_operator": listops.first_operator(expressions, values, inputs),
                "flat": listops.flat(inputs),
            }
            scores = {name: (said == answers).mean() for name, said in predicted.items()}
        counts.append(len(inputs))
        for name, score in scores.items():
            guesses.setdefault(name, []).append(float(score))
    low, high = RANGES[task]
    parts = [
        pd.DataFrame(
            {
                "arm": name,
                "seed": "0",
                "accuracy": scores,
                "n": counts,
                "parameters": 0,
                low: [_end(settings, low) for settings in tests],
                high: [_end(settings, high) for settings in tests],
                "task": task,
            }
        )
        for name, scores in guesses.items()
    ]
    return test_sets(pd.concat(parts))


def _end(settings: Mapping[str, Any], name: str) -> int:
    return int(getattr(synthetic.make_task(settings), name))


def accuracy_table(found: pd.DataFrame) -> pd.DataFrame:
    """Accuracies with intervals, by task, arm, stratum and seed, and over the seeds (``mean``).

    Returns
    -------
    table with the columns of :func:`test_sets`, low and high (of the interval) and seeds
    """
    rows = []
    keys = ["task", "stratum"]
    for _, rivals in found.groupby(keys, sort=False):
        trained = rivals[rivals["parameters"] > 0]
        spread = seed_spread([arm.to_numpy() for _, arm in trained.groupby("arm")["accuracy"]])
        for arm, table in rivals.groupby("arm", sort=False):
            first = table.iloc[0][[*keys, "low_end", "high_end", "parameters"]].to_dict()
            for seed, part in [*table.groupby("seed"), (MEAN, table)]:
                value, n = float(part["accuracy"].mean()), int(part["n"].sum())
                interval = Interval(value, *wilson(value, n))
                if seed == MEAN and first["parameters"]:
                    interval = _within(widened(interval, spread, [len(part)]))
                rows.append(
                    first
                    | {"arm": arm, "seed": seed, "accuracy": value, "low": interval.low}
                    | {"high": interval.high, "n": n, "seeds": len(part)}
                )
    return pd.DataFrame(rows)


def _within(interval: Interval, least: float = 0.0) -> Interval:
    return Interval(interval.value, max(least, interval.low), min(1.0, interval.high))


def occupancy_table(found: pd.DataFrame) -> pd.DataFrame:
    """Gates with intervals, by task, arm, role, layer (text; ``all``: mean) and seed (``mean``).

    Parameters
    ----------
    found
        Table of :func:`measure_gates`.

    Returns
    -------
    table with columns task, arm, role, layer, seed, gate, low, high, open (share of gates above
    1/2), open_low, open_high, n, seeds; no interval of a difference of shares
    """
    keys = ["task", "arm", "role", "seed"]
    over_layers = found.groupby(keys, as_index=False).agg(
        gate=("gate", "mean"), open=("open", "mean"), n=("n", "first"),
        # layers of one sequence go up and down together at worst
        standard_error=("standard_error", "mean"),
    )  # fmt: skip
    every = pd.concat(
        [found.assign(layer=found["layer"].astype(str)), over_layers.assign(layer=ALL)]
    )
    rows = []
    keys = ["task", "role", "layer"]
    for names, rivals in every.groupby(keys):
        least = -1.0 if names[1] == CONTRAST else 0.0
        spread, open_spread = (
            seed_spread([arm.to_numpy() for _, arm in rivals.groupby("arm")[value]])
            for value in ("gate", "open")
        )
        for arm, table in rivals.groupby("arm"):
            for seed, part in [*table.groupby("seed"), (MEAN, table)]:
                value, opened = float(part["gate"].mean()), float(part["open"].mean())
                n = int(part["n"].sum())
                margin = 1.96 * math.sqrt((part["standard_error"] ** 2).sum()) / len(part)
                interval = Interval(value, value - margin, value + margin)
                if seed == MEAN:
                    interval = widened(interval, spread, [len(part)])
                interval = _within(interval, least)
                share = Interval(opened, math.nan, math.nan)
                if names[1] != CONTRAST:
                    share = Interval(opened, *wilson(opened, n))
                    if seed == MEAN:
                        share = _within(widened(share, open_spread, [len(part)]))
                rows.append(
                    dict(zip(keys, names, strict=True))
                    | {"arm": arm, "seed": str(seed), "gate": value, "low": interval.low}
                    | {"high": interval.high, **dict(zip(OPEN, share, strict=True))}
                    | {"n": n, "seeds": len(part)}
                )
    return pd.DataFrame(rows)


def shape_table(shapes: Mapping[str, tuple[NDArray, NDArray]]) -> pd.DataFrame:
    """Shares of expressions by depth, and by length in powers of four.

    Parameters
    ----------
    shapes
        Depths and lengths by generator.

    Returns
    -------
    table with columns generator, quantity (``depth`` or ``length``), value (of lengths the power
    of four at or below) and share
    """
    rows = []
    for generator, (depths, lengths) in shapes.items():
        powers = 4 ** (np.floor(np.log2(lengths)).astype(int) // 2)
        for quantity, values in (("depth", depths), ("length", powers)):
            for value, count in zip(*np.unique(values, return_counts=True), strict=True):
                rows.append(
                    {
                        "generator": generator,
                        "quantity": quantity,
                        "value": int(value),
                        "share": count / len(values),
                    }
                )
    return pd.DataFrame(rows)


# --- statistics


def accuracy_statistics(answers: pd.DataFrame) -> list[Record]:
    """Accuracies over all test sets and on each, and differences of the gated arms to others."""
    means = answers[answers["seed"] == MEAN]
    guesses = means[means["parameters"] == 0].sort_values("accuracy")
    best = guesses.drop_duplicates(["task", "stratum"], keep="last").set_index(["task", "stratum"])
    found = []
    for _, row in means.iterrows():
        place = "" if row["stratum"] == ALL else f"_{row['stratum'].replace(' ', '_')}"
        found.append(
            {
                "id": f"recall_tasks.{row['task']}_accuracy_{row['arm']}{place}",
                **ends(_interval(row)),
                "n": row["n"],
                "unit": "share of sequences",
                "method": "test sequences, Wilson's interval; over seeds Student's, in squares",
                "note": _about_run(row, best.loc[(row["task"], row["stratum"])])
                if row["parameters"]
                else "",
            }
        )
    whole = means[means["stratum"] == ALL].set_index(["task", "arm"])
    for task, arm in whole.index:
        if not arm.startswith("tgn"):
            continue
        for other in whole.loc[task].index:
            if other.startswith("tgn"):
                continue
            ours, theirs = whole.loc[(task, arm)], whole.loc[(task, other)]
            found.append(
                {
                    "id": f"recall_tasks.{task}_{arm}_minus_{other}",
                    **ends(difference(_interval(ours), _interval(theirs))),
                    "n": ours["n"],
                    "unit": "share of sequences",
                    "method": "difference of accuracies, intervals in squares",
                    "controls": [other],
                    "note": _seeds(theirs["seeds"]) if theirs["parameters"] else "",
                }
            )
    return found


def _interval(row: pd.Series) -> Interval:
    return Interval(float(row["accuracy"]), float(row["low"]), float(row["high"]))


def _about_run(row: pd.Series, guess: pd.Series) -> str:
    """Of how many seeds an accuracy is, and whether it could be had without any training."""
    above = row["low"] > guess["accuracy"]
    untrained = f"not clearly above {guess['accuracy']:.4g}, which {guess['arm']} has untrained"
    return "; ".join(filter(None, [_seeds(row["seeds"]), "" if above else untrained]))


def _seeds(count: int) -> str:
    return "" if count > 1 else "one seed; the spread of seeds is that of other arms"


def gate_statistics(occupied: pd.DataFrame) -> list[Record]:
    """Mean gates and shares of open ones, of all tokens and of the query, layers together."""
    means = occupied[(occupied["seed"] == MEAN) & (occupied["layer"] == ALL)]
    found = []
    for (task, arm), table in means.groupby(["task", "arm"]):
        rows = table.set_index("role")
        gate = {role: Interval(*rows.loc[role, ["gate", "low", "high"]]) for role in rows.index}
        common = {"n": int(rows.loc[ALL, "n"]), "unit": "", "note": _seeds(rows.loc[ALL, "seeds"])}
        found += [
            {
                "id": f"recall_tasks.{task}_{arm}_gate",
                **ends(gate[ALL]),
                "method": "mean over layers and all tokens but padding; over sequences and seeds",
                **common,
            },
            {
                "id": f"recall_tasks.{task}_{arm}_gate_query_minus_all",
                **ends(gate[CONTRAST]),
                "method": "query less the mean over all tokens of its sequence, layers together",
                **common,
            },
        ]
        for name, role in (("open", ALL), ("open_query", "query")):
            found.append(
                {
                    "id": f"recall_tasks.{task}_{arm}_{name}",
                    **ends(Interval(*rows.loc[role, OPEN])),
                    **common,
                    "unit": "share of tokens",
                    "method": "gates above 1/2, mean over layers; Wilson's interval over "
                    "sequences, over seeds Student's, in squares",
                }
            )
    return found


def shape_statistics(accepted: NDArray[np.bool_], depths: NDArray[np.int64]) -> Iterable[Record]:
    """Of the published ListOps: how many expressions fit, and how many of those are bare digits."""
    for name, hits in (("kept", accepted), ("bare_digits", depths[accepted] == 0)):
        value = float(hits.mean())
        yield {
            "id": f"recall_tasks.listops_published_{name}",
            **ends(Interval(value, *wilson(value, len(hits)))),
            "n": len(hits),
            "unit": "share of expressions",
            "method": "expressions drawn as published, Wilson's interval",
        }
