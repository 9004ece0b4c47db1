"""From the long tables of the constraints to their statistics, and to reasons where there is none.

What models at hand can decide becomes a record; what they cannot is listed with the reason, and no
number is made. See :mod:`tgn.constraints.tables` for the tables.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from tgn.constraints import across as over_all
from tgn.constraints import controlled as family
from tgn.constraints import pairs, within
from tgn.constraints.tables import Chance, Questions, answered, model_table, parts_of
from tgn.files import write_json, write_table
from tgn.statistics import Evidence, Statistic, write_statistics

# Of each model: which weights, in which precision, on which prompts.
MEASURED = ("revision", "dtype", "prompt_sha256")


def summarise(
    *,
    gains: Sequence[str],
    architecture: Sequence[str],
    spectra: Sequence[str],
    sheaf: Sequence[str],
    turning: Sequence[str],
    models_table: str | Path,
    statistics: str | Path,
    undecided: str | Path,
    evidence: Mapping[str, Evidence],
    across: str,
    controlled: str,
    twins: Sequence[Sequence[str]],
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Write the table of models, the statistics, and what could not be decided.

    Parameters
    ----------
    gains, spectra, sheaf, turning
        Tables (parquet) of :mod:`tgn.constraints.tables`, any number of each.
    architecture
        Files (json) of one record or of a list of records.
    models_table
        Written: :func:`tgn.constraints.tables.model_table`.
    statistics
        Written: one record a statistic and model, those over models named ``across``, those of the
        controlled family named ``controlled``.
    undecided
        Written: a list of id, model and reason.
    evidence
        ``real`` or ``simulated`` for each model; those it does not name are real.
    controlled
        The ``family`` of this project's own runs, and what their statistics are called.
    twins
        Pairs of names: a base model, and the model tuned from it.

    Returns
    -------
    dict
        For the record of the run, ``models``: what was measured of each, :data:`MEASURED`.
    """
    records = [record for path in architecture for record in _records(path)]
    tables = [
        pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True)
        for paths in (gains, spectra, sheaf, turning)
    ]
    models, groups = ask(
        records,
        *tables,
        evidence=evidence,
        across=across,
        controlled=controlled,
        twins=[(base, tuned) for base, tuned in twins],
        resamples=resamples,
        seed=seed,
    )
    found: list[Statistic] = []
    reasons: list[dict[str, str]] = []
    for group in groups:
        decided, rest = answered(group.questions, model=group.model, evidence=group.evidence)
        found += decided
        reasons += rest
    write_table(models_table, models)
    write_statistics(statistics, found)
    write_json(undecided, sorted(reasons, key=lambda row: (row["id"], row["model"])))
    return {
        "models": {
            record["model"]: {name: record.get(name) for name in MEASURED} for record in records
        }
    }


def _records(path: str) -> list[dict[str, Any]]:
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    return content if isinstance(content, list) else [content]


class Asked(NamedTuple):
    """Questions that share what was measured; asked when :func:`answered` calls them."""

    model: str
    evidence: Evidence
    questions: Questions


def ask(
    architecture: Sequence[Mapping[str, Any]],
    gains: pd.DataFrame,
    spectra: pd.DataFrame,
    sheaf: pd.DataFrame,
    turning: pd.DataFrame,
    *,
    evidence: Mapping[str, Evidence],
    across: str,
    controlled: str,
    twins: Sequence[tuple[str, str]],
    resamples: int,
    seed: int,
) -> tuple[pd.DataFrame, list[Asked]]:
    """The table of models, and every question to them: to each, over all, to the controlled family.

    Every group of questions has random numbers of its own, so that one model more or less changes
    no other's intervals.

    Raises
    ------
    ValueError
        If there are no records in ``architecture``, or two have one model.
    """
    names = [record["model"] for record in architecture]
    if not names:
        raise ValueError("architecture: no model is recorded")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"architecture: recorded more than once: {', '.join(twice)}")

    def chance(*key: int) -> Chance:
        return Chance(np.random.default_rng([seed, *key]), resamples)

    models = model_table(architecture, gains, spectra, sheaf, turning, chance=chance(0))
    by_model = [parts_of(table) for table in (gains, spectra, sheaf, turning)]
    groups = []
    for record in architecture:
        name = record["model"]
        if record["family"] == controlled:
            continue  # its runs are the units of one set of statistics
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
        made = within.questions(record, *(parts(name) for parts in by_model), chance=chance(1, key))
        groups.append(Asked(name, evidence.get(name, "real"), made))
    own = (models["family"] == controlled).to_numpy(bool)
    published = models[~own]
    tuned = {after for before, after in twins if before in names}
    base = published[~published["model"].isin(tuned)]
    over_models = over_all.questions(base, chance=chance(2))
    over_prompts = pairs.questions(published, gains, sheaf, twins, chance=chance(3))
    kind = _together(evidence, published["model"])
    groups.append(Asked(across, kind, {**over_models, **over_prompts}))
    if own.any():
        made = family.questions(models[own], gains, chance=chance(4))
        groups.append(Asked(controlled, _together(evidence, models.loc[own, "model"]), made))
    return models, groups


def _together(evidence: Mapping[str, Evidence], models: Sequence[str]) -> Evidence:
    kinds = {evidence.get(name, "real") for name in models}
    return "simulated" if "simulated" in kinds else "real"
