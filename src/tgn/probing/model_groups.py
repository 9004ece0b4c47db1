"""The measurements of the constraints on several models in one job.

Networks of this project are measured in a second, and a job that loads the libraries takes several
to begin, so small models share one. Every model is loaded alone, and one that fails leaves its
record and not an error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tgn.files import scratch, write_json, write_table
from tgn.probing import residual_gain, sheaf, value_output

About = Sequence[Mapping[str, str]]  # of every model, in the order of the files


def measure_gains(
    *,
    models: Sequence[str | Path],
    about: About,
    prompts: str | Path,
    per_category: int | None,
    variants: Sequence[str],
    seed: int,
    gains: str | Path,
    architecture: str | Path,
) -> None:
    """Measure the gains of several models; see :func:`tgn.probing.residual_gain.measure_gains`.

    Parameters
    ----------
    models
        Receipts of pretrained models, or weights files of models of this project.
    about
        ``label``, ``lab``, ``family`` and ``dtype`` of each.
    prompts, per_category, variants, seed
        Of all.
    gains
        Written: the table of all.
    architecture
        Written: a list of their records.

    Raises
    ------
    ValueError
        If ``about`` is not as long as ``models``.
    """

    def measure(model: str | Path, said: Mapping[str, str], places: Sequence[Path]) -> None:
        residual_gain.measure_gains(
            model=model,
            **said,
            prompts=prompts,
            per_category=per_category,
            variants=variants,
            seed=seed,
            gains=places[0],
            architecture=places[1],
        )

    tables, records = [], []
    names = "gains.parquet", "architecture.json"
    for table, record in _each(models, about, measure, gains, *names):
        tables.append(pd.read_parquet(table))
        records.append(json.loads(record.read_text(encoding="utf-8")))
    write_table(gains, pd.concat(tables, ignore_index=True))
    write_json(architecture, records)


def measure_spectra(*, models: Sequence[str | Path], about: About, table: str | Path) -> None:
    """Norms of the maps of several models; see :func:`tgn.probing.value_output.measure_spectra`.

    Parameters and errors as in :func:`measure_gains`.
    """

    def measure(model: str | Path, said: Mapping[str, str], places: Sequence[Path]) -> None:
        value_output.measure_spectra(
            model=model, label=said["label"], dtype=said["dtype"], table=places[0]
        )

    parts = _each(models, about, measure, table, "spectra.parquet")
    found = [pd.read_parquet(path) for (path,) in parts]
    write_table(table, pd.concat(found, ignore_index=True))


def measure_sheaf(
    *,
    models: Sequence[str | Path],
    about: About,
    prompts: str | Path,
    per_category: int | None,
    table: str | Path,
    turning: str | Path,
) -> None:
    """Sheaf and turning layers of several models; see :func:`tgn.probing.sheaf.measure_sheaf`.

    Parameters and errors as in :func:`measure_gains`.
    """

    def measure(model: str | Path, said: Mapping[str, str], places: Sequence[Path]) -> None:
        sheaf.measure_sheaf(
            model=model,
            label=said["label"],
            dtype=said["dtype"],
            prompts=prompts,
            per_category=per_category,
            table=places[0],
            turning=places[1],
        )

    found = [
        [pd.read_parquet(path) for path in pair]
        for pair in _each(models, about, measure, table, "sheaf.parquet", "turning.parquet")
    ]
    for path, tables in zip((table, turning), zip(*found, strict=True), strict=True):
        write_table(path, pd.concat(tables, ignore_index=True))


def record_unavailable(
    *, models: Mapping[str, Mapping[str, str]], architecture: str | Path
) -> None:
    """Write the records of models that cannot be had, so that they are counted and named.

    Parameters
    ----------
    models
        ``lab``, ``family`` and ``reason`` of each, by name.
    architecture
        Written: a list of records with ``status`` ``failed``, as of a model that does not load.
    """
    empty: dict[str, Any] = dict.fromkeys(residual_gain.FIELDS)
    records = [
        {**empty, **said, "model": name, "status": "failed"} for name, said in models.items()
    ]
    write_json(architecture, records)


def _each(
    models: Sequence[str | Path],
    about: About,
    measure: Callable[[str | Path, Mapping[str, str], Sequence[Path]], None],
    output: str | Path,
    *names: str,
) -> Iterator[list[Path]]:
    """Measure one model after the other; files beside the output, gone at the next one."""
    beside = Path(output).with_name(f".{Path(output).stem}.parts")
    for model, said in zip(models, about, strict=True):
        with scratch(beside) as folder:
            places = [Path(folder, name) for name in names]
            measure(model, said, places)
            yield places
