"""Tables of ranks: of every run on equal terms, of real people at rest, and of what moves them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.signal import resample

from tgn.files import write_json, write_table
from tgn.fmri.bids import STATES
from tgn.fmri.connectivity import DEFINITIONS, rank_profile
from tgn.fmri.connectomes import load
from tgn.fmri.filters import band_passed
from tgn.fmri.surrogates import ranks_with_surrogates
from tgn.progress import bar

log = logging.getLogger(__name__)

Array = NDArray[np.float64]


class Run(NamedTuple):
    """Parcel signals of one subject in one state."""

    subject: str
    state: str
    arm: str
    atlas: str
    signals: Array
    """(volumes, parcels)"""
    parcels: NDArray
    """Labels, (parcels,)."""
    fd: float
    """Mean framewise displacement in mm, NaN where it was not measured."""

    @property
    def label(self) -> str:
        return f"{self.arm}/{self.atlas}/sub-{self.subject}/{self.state}"

    def generator(self, seed: int) -> np.random.Generator:
        """Random numbers of this run's own, whatever else is measured."""
        return np.random.default_rng([seed, crc32(self.label.encode())])


# --- jobs


def rank_table(
    *,
    signals: Sequence[str | Path],
    table: str | Path,
    report: str | Path,
    windows: Sequence[int],
    step: int,
    draws: int,
    seed: int,
) -> None:
    """Measure every run on the same number of volumes and, within an atlas, the same parcels.

    Parameters
    ----------
    signals
        Files ``{arm}/{atlas}/sub-{subject}.npz`` of all subjects and arms that are compared.
    table
        Written: subject, state, arm, atlas, definition, window, rank, cap, surrogate_same,
        surrogate_destroyed, fd, volumes, windows, parcels; one row a number.
    report
        Written: the common length and parcels, what was cut off and dropped for them, and which
        files have no run or lack states.
    windows, step, draws
        See :func:`tgn.fmri.surrogates.ranks_with_surrogates`.

    Raises
    ------
    ValueError
        If no file has a run, an atlas has fewer than two parcels in all of its runs, a window is
        longer than the shortest run, or a parcel is constant or not finite.
    """
    stored = {str(path): list(read_runs(path)) for path in signals}
    runs, account = on_equal_terms([run for own in stored.values() for run in own])
    account["without_runs"] = [path for path, own in stored.items() if not own]
    for note in account["without_runs"] + account["without_a_state"]:
        log.warning("left out or incomplete: %s", note)
    rows = []
    for run in bar(runs, desc="ranks", unit="run"):
        try:
            measured = ranks_with_surrogates(
                run.signals,
                windows=windows,
                step=step,
                draws=draws,
                rng=run.generator(seed),
                parcels=run.parcels,
            )
        except ValueError as error:
            raise ValueError(f"{run.label}: {error}") from error
        rows.append(_labelled(measured, run))
    write_table(table, pd.concat(rows, ignore_index=True))
    write_json(report, account)


def reference_table(
    *,
    connectomes: Sequence[str | Path],
    table: str | Path,
    tr: float,
    volumes: int,
    band: Sequence[float],
    windows: Sequence[int],
    step: int,
    draws: int,
    seed: int,
    like: str | Path | None = None,
) -> None:
    """Measure the real resting signals of the people whose connectomes drive the model.

    Parameters
    ----------
    connectomes
        Files of :func:`tgn.fmri.connectomes.prepare_person`.
    table
        Written: the columns of `rank_table`, with arm ``real``, state ``awake`` and no motion
        estimate, and site and source_tr.
    tr, volumes
        Seconds a volume and number of volumes that all are brought to, from the beginning of the
        run; people whose run is shorter are left out and logged.
    band
        Of the filter, in Hz.
    like
        Report of `rank_table`, whose common length then counts instead of `volumes`, so that both
        tables rest on equal lengths.

    Raises
    ------
    ValueError
        If nobody's run is long enough, or as `rank_table`.
    """
    if like is not None:
        volumes = json.loads(Path(like).read_text(encoding="utf-8"))["volumes"]
    rows = []
    for path in connectomes:
        person = load(path)
        signals = resampled(person.bold, tr=person.tr, new_tr=tr, band=band)
        if len(signals) < volumes:
            log.warning("%s has %d volumes, not %d: left out", path, len(signals), volumes)
            continue
        run = Run(
            person.person, "awake", "real", "aal2", signals[:volumes], person.labels, float("nan")
        )
        measured = ranks_with_surrogates(
            run.signals,
            windows=windows,
            step=step,
            draws=draws,
            rng=run.generator(seed),
            parcels=run.parcels,
        )
        rows.append(_labelled(measured, run).assign(site=person.dataset, source_tr=person.tr))
    if not rows:
        raise ValueError(f"nobody has {volumes} volumes of {tr} s")
    write_table(table, pd.concat(rows, ignore_index=True))


def bias_table(
    *,
    signals: Sequence[str | Path],
    clean: Sequence[str | Path],
    table: str | Path,
    lengths: Sequence[int],
    parcels: Sequence[int],
    motion: Sequence[float],
    definitions: Sequence[str],
    draws: int,
    seed: int,
) -> None:
    """Measure what moves the estimate, one factor at a time, on the same runs.

    Parameters
    ----------
    signals
        Files ``{arm}/{atlas}/sub-{subject}.npz`` of one arm and atlas.
    clean
        The same of the arm without noise and motion, where it is known; else empty.
    table
        Written: factor, level, unit, subject, state, definition, rank, truth, fd. The truth is
        the rank of the clean signals with the same volumes and parcels, NaN without them; fd is
        the run's own. Factors: ``length`` (the first volumes), ``parcels`` (random subsets, the
        same for all runs, averaged over `draws`), ``planted_motion`` (see `with_motion`; planted
        on the clean signals where there are any).
    lengths, parcels, motion
        Levels in volumes, parcels and mm; what exceeds the data is left out, and all volumes,
        all parcels and no motion are added.
    definitions
        Of rank, see :mod:`tgn.fmri.connectivity`.

    Raises
    ------
    ValueError
        If a definition is unknown, or as `rank_table`.
    """
    unknown = sorted(set(definitions) - set(DEFINITIONS))
    if unknown:
        raise ValueError(f"unknown definitions {unknown}; there are {list(DEFINITIONS)}")
    measured = [run for path in signals for run in read_runs(path)]
    known = [run for path in clean for run in read_runs(path)]
    runs, _ = on_equal_terms(measured + known, one_set=True)
    truths = {(run.subject, run.state): run.signals for run in runs[len(measured) :]}
    if known:
        runs = [run for run in runs[: len(measured)] if (run.subject, run.state) in truths]
    volumes, count = runs[0].signals.shape
    levels = {
        "length": sorted({n for n in lengths if n < volumes} | {volumes}),
        "parcels": sorted({n for n in parcels if n < count} | {count}),
        "planted_motion": sorted({0.0, *motion}),
    }
    order = np.random.default_rng([seed, 1]).permuted(np.tile(np.arange(count), (draws, 1)), axis=1)
    rows = []
    for run in bar(runs, desc="bias", unit="run"):
        truth = truths.get((run.subject, run.state))
        for row in _bias_rows(run.signals, truth, levels, order, run.generator(seed), definitions):
            rows.append(row | {"subject": run.subject, "state": run.state, "fd": run.fd})
    write_table(table, pd.DataFrame(rows))


# --- what they are made of


def read_runs(path: str | Path) -> Iterator[Run]:
    """Runs of a file ``{arm}/{atlas}/sub-{subject}.npz``; none of an excluded subject."""
    place = Path(path)
    with np.load(place, allow_pickle=False) as stored:
        for state in STATES:
            if state in stored:
                yield Run(
                    subject=place.stem.removeprefix("sub-"),
                    state=state,
                    arm=place.parent.parent.name,
                    atlas=place.parent.name,
                    signals=stored[state].astype(np.float64),
                    parcels=stored["parcels"],
                    fd=float(stored[f"{state}_fd"]) if f"{state}_fd" in stored else float("nan"),
                )


def on_equal_terms(runs: Sequence[Run], *, one_set: bool = False) -> tuple[list[Run], dict]:
    """Runs of one length, with the parcels that every run of their atlas has.

    Parameters
    ----------
    one_set
        Whether all runs are of one atlas, whatever their files are called.

    Returns
    -------
    runs
        In the order given; the first volumes of each.
    account
        ``volumes`` (the common length), ``shortest`` (the run that has no more), ``cut_off``
        (volumes by run), by atlas ``parcels`` (how many) and ``dropped`` (labels), and
        ``without_a_state`` (subjects that lack one).

    Raises
    ------
    ValueError
        If there is no run, or an atlas has fewer than two parcels in common.
    """
    if not runs:
        raise ValueError("no run in any file; the records of exclusion beside them say why")
    shortest = min(runs, key=lambda run: len(run.signals))
    volumes = len(shortest.signals)
    sets: dict[str, list[Run]] = {}
    for run in runs:
        sets.setdefault("" if one_set else run.atlas, []).append(run)
    common = {
        atlas: reduce(np.intersect1d, (run.parcels for run in own)) for atlas, own in sets.items()
    }
    poor = [atlas or runs[0].atlas for atlas, labels in common.items() if len(labels) < 2]
    if poor:
        raise ValueError(f"fewer than two parcels are in all runs of {poor}")
    equal = []
    for run in runs:
        labels = common["" if one_set else run.atlas]
        columns = np.flatnonzero(np.isin(run.parcels, labels))
        columns = columns[np.argsort(run.parcels[columns])]
        equal.append(run._replace(signals=run.signals[:volumes, columns], parcels=labels))
    seen: dict[str, set[str]] = {}
    for run in runs:
        seen.setdefault(f"{run.arm}/{run.atlas}/sub-{run.subject}", set()).add(run.state)
    account = {
        "volumes": volumes,
        "shortest": shortest.label,
        "cut_off": {
            run.label: len(run.signals) - volumes for run in runs if len(run.signals) > volumes
        },
        "parcels": {atlas: len(labels) for atlas, labels in common.items()},
        "dropped": {
            atlas: sorted({str(p) for run in own for p in run.parcels if p not in common[atlas]})
            for atlas, own in sets.items()
        },
        "without_a_state": [
            f"{name} lacks {', '.join(sorted(set(STATES) - states))}"
            for name, states in seen.items()
            if states != set(STATES)
        ],
    }
    return equal, account


def resampled(signals: NDArray, *, tr: float, new_tr: float, band: Sequence[float]) -> Array:
    """Band-passed signals (T, P) at another volume time; the band must lie below both Nyquists.

    Raises
    ------
    ValueError
        If it does not.
    """
    low, high = band
    nyquist = 0.5 / max(tr, new_tr)
    if not 0 < low < high < nyquist:
        raise ValueError(f"band {low} ... {high} Hz must lie between 0 and {nyquist} Hz (Nyquist)")
    filtered = band_passed(signals, tr, band)
    volumes = int(len(signals) * tr / new_tr)
    if volumes == len(signals):
        return filtered
    return resample(filtered, volumes, axis=0)


def with_motion(signals: Array, level: float, rng: np.random.Generator) -> Array:
    """Standardised signals with the loss of intensity that head movements bring, not cleaned.

    Framewise displacements are drawn from an exponential distribution of mean `level` mm, and each
    mm takes one standard deviation of the signal off every parcel alike: 1 % of intensity where the
    signal changes by 1 %.
    """
    z = (signals - signals.mean(axis=0)) / signals.std(axis=0)
    return z - level * rng.standard_exponential(len(z))[:, None]


def _bias_rows(
    signals: Array,
    truth: Array | None,
    levels: Mapping[str, Sequence[float]],
    order: NDArray[np.intp],
    rng: np.random.Generator,
    definitions: Sequence[str],
) -> Iterator[dict[str, Any]]:
    def ranks(x: Array | None, *columns: NDArray[np.intp]) -> dict[str, float]:
        """Mean over subsets of parcels, or of all parcels."""
        if x is None:
            return dict.fromkeys(definitions, float("nan"))
        profiles = [rank_profile(x[:, own]) for own in columns] or [rank_profile(x)]
        return {name: float(np.mean([p[name] for p in profiles])) for name in definitions}

    def cut(x: Array | None, length: int) -> Array | None:
        return None if x is None else x[:length]

    found: dict[tuple[str, float, str], tuple[dict[str, float], dict[str, float]]] = {}
    for length in levels["length"]:
        key = "length", float(length), "volumes"
        found[key] = ranks(signals[: int(length)]), ranks(cut(truth, int(length)))
    for count in levels["parcels"]:
        all_of_them = count == order.shape[1]
        subsets = () if all_of_them else tuple(order[:, : int(count)])
        found["parcels", float(count), "parcels"] = ranks(signals, *subsets), ranks(truth, *subsets)
    basis = signals if truth is None else truth
    for level in levels["planted_motion"]:
        moved = ranks(with_motion(basis, level, rng))
        found["planted_motion", float(level), "mm"] = moved, ranks(truth)
    for (factor, level, unit), (measured, true) in found.items():
        for name in definitions:
            yield {
                "factor": factor,
                "level": level,
                "unit": unit,
                "definition": name,
                "rank": measured[name],
                "truth": true[name],
            }


def _labelled(measured: pd.DataFrame, run: Run) -> pd.DataFrame:
    return measured.assign(
        subject=run.subject,
        state=run.state,
        arm=run.arm,
        atlas=run.atlas,
        fd=run.fd,
        parcels=len(run.parcels),
    )
