"""Whole-brain models of people: fitting them, their true ranks, and runs in other states.

Two models share one use, :class:`tgn.fmri.hopf.Hopf` and :class:`tgn.fmri.mean_field.MeanField`:
``simulate`` gives signals at the repetition time of a scanner, ``connectivity`` the exact
correlation matrix of the linearised model, hence the rank that an estimate should find.

A state is a set of factors on the parameters that were fitted to the awake person. Sedation is a
lower coupling (Lopez-Gonzalez et al. 2021, propofol) and a more negative bifurcation parameter, a
more stable fixed point (Jobst et al. 2017, deep sleep; Sanz Perl et al. 2021, propofol). 5-HT2A
agonism is a gain of the mean field's excitatory populations (Deco et al. 2018, Herzog et al. 2020);
no receptor map comes with the connectomes, so it is the same everywhere. Delays are left out: at
the frequencies of BOLD those of 5 to 20 ms do not count.

Sources: Deco et al. 2018, Curr. Biol. 28, 3065; Herzog et al. 2020, Sci. Rep. 10, 17725; Jobst et
al. 2017, Sci. Rep. 7, 4634; Lopez-Gonzalez et al. 2021, Commun. Biol. 4, 1037; Sanz Perl et al.
2021, PLoS Comput. Biol. 17, e1009139.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, stats

from tgn import rank
from tgn.files import replacing, write_json, write_table
from tgn.fmri.connectivity import pearson, thresholded_rank
from tgn.fmri.connectomes import Connectome, load
from tgn.fmri.dynamics import Array, Model, Ramp, Run, changed, constants
from tgn.fmri.filters import Band, band_passed
from tgn.fmri.hopf import Hopf, peak_frequencies
from tgn.fmri.mean_field import MeanField, coupling_limit, feedback_inhibition
from tgn.fmri.surrogates import ranks_with_surrogates


def stationarity(signals: NDArray, blocks: int = 10) -> float:
    """Probability that a stationary process drifts as much as these signals, (T, R), do.

    Mean level, total variance and mean correlation of consecutive blocks are tested for a trend
    (Pearson), and the least of the three probabilities is multiplied by three. Blocks must be long
    against the correlation time of the signals.
    """
    parts = np.array_split(np.asarray(signals, dtype=np.float64), blocks)
    summaries = [
        (
            part.mean(),
            np.log(part.var(axis=0).sum()),
            pearson(part)[np.triu_indices(part.shape[1], 1)].mean(),
        )
        for part in parts
    ]
    trends = [
        stats.pearsonr(np.arange(blocks), series).pvalue for series in np.transpose(summaries)
    ]
    return float(min(1, 3 * min(trends)))


class Match(NamedTuple):
    """How a model at one coupling resembles data."""

    coupling: float
    distance: float
    """Root mean square difference of the correlations of all pairs."""
    correlation: float
    """Of the correlations of all pairs."""


def compare(own: Array, data: Array) -> tuple[float, float]:
    """Root mean square difference, and correlation, of the upper triangles of two matrices."""
    pairs = np.triu_indices(len(own), 1)
    difference = np.sqrt(np.mean((own[pairs] - data[pairs]) ** 2))
    return float(difference), float(np.corrcoef(own[pairs], data[pairs])[0, 1])


def fit(
    build: Callable[[float], Model], data: Array, grid: Sequence[float], *, band: Band | None
) -> list[Match]:
    """Couplings tried, the nearest first: those of a grid, and of a search around its best.

    The nearest has the least root mean square distance between the exact linearised correlation
    matrix and that of the data. A rank depends on the level of correlations, to which a
    correlation with the data would be blind.

    Parameters
    ----------
    build : coupling to model
    data : correlation matrix, (R, R)
    grid : ascending positive couplings
    band : Hz; all frequencies if None
    """

    tried: list[Match] = []

    def distance(logarithm: float) -> float:
        coupling = float(np.exp(logarithm))
        tried.append(Match(coupling, *compare(build(coupling).connectivity(band), data)))
        return tried[-1].distance

    logarithms = np.log(grid)
    best = int(np.argmin([distance(logarithm) for logarithm in logarithms]))
    bounds = logarithms[max(best - 1, 0)], logarithms[min(best + 1, len(grid) - 1)]
    if bounds[0] < bounds[1]:
        options = {"xatol": 0.02, "maxiter": 10}
        optimize.minimize_scalar(distance, bounds=bounds, method="bounded", options=options)
    return sorted(tried, key=lambda match: match.distance)


def true_ranks(
    model: Model, states: Mapping[str, Mapping[str, float]], band: Band | None
) -> dict[str, dict[str, float]]:
    """Ranks of the exact linearised correlation matrix, by state and definition.

    Parameters
    ----------
    model : in its fitted state
    states : name to factors on the parameters, see :func:`changed`
    band : Hz, of the signals; all frequencies if None
    """
    return {
        state: matrix_ranks(changed(model, factors).connectivity(band))
        for state, factors in states.items()
    }


def matrix_ranks(matrix: Array) -> dict[str, float]:
    """Ranks of a correlation matrix, by those definitions that need no signals."""
    eigenvalues = np.linalg.eigvalsh(matrix).clip(0)
    return {
        "pearson": float(rank.renyi_rank(eigenvalues, 1)),
        "pearson_sigma": float(rank.renyi_rank(np.sqrt(eigenvalues), 1)),
        "participation_ratio": float(rank.renyi_rank(eigenvalues, 2)),
        "stable_rank": float(rank.renyi_rank(eigenvalues, np.inf)),
        "thresholded": float(thresholded_rank(matrix)),
    }


# --- jobs, one person each


def fit_person(
    *,
    connectome: str | Path,
    output: str | Path,
    models: Mapping[str, Mapping[str, Any]],
    states: Mapping[str, Mapping[str, float]],
    band: Band,
    seed: int,
    runs: int = 2,
) -> None:
    """Fit models to one person's resting BOLD and write them as JSON.

    Parameters
    ----------
    connectome
        File of :func:`tgn.fmri.connectomes.prepare_person`.
    output
        Written: for each model its parameters, ``correlation_linearised`` and
        ``correlation_simulated`` with the person's correlations (of runs as long as the
        recording, mean over runs), ``agreement`` of the linearised matrix with that of all runs
        together, the couplings tried, and ``true_ranks`` by state and definition of the exact
        linearised matrix in the band; and ``real_ranks`` of the person's own matrix.
    models
        ``hopf`` and ``mean_field``, each with ``grid``, ascending couplings, and constants
        (``bifurcation``, ``noise``; ``gain``, ``noise``). Of the mean field's grid, what is above
        :func:`coupling_limit` is replaced by that limit.
    states
        Factors on the parameters; a model that lacks one of them gets no true ranks.
    band
        Hz.
    runs
        Simulations.

    Raises
    ------
    ValueError
        If a model is unknown or a number is out of its range.
    """
    person = load(connectome)
    data = pearson(band_passed(person.bold, person.tr, band))
    content: dict[str, Any] = {
        "person": person.person,
        "dataset": person.dataset,
        "band": list(band),
        "real_ranks": matrix_ranks(data),
        "models": {},
    }
    for name, settings in models.items():
        fixed = {key: value for key, value in settings.items() if key != "grid"}
        grid = sorted(settings["grid"])
        if name == "mean_field":
            limit = coupling_limit(person.sc)
            grid = sorted({min(coupling, limit) for coupling in grid})
        build, extra = _builder(name, person, fixed)
        tried = fit(build, data, grid, band=band)
        model = build(tried[0].coupling)
        simulated = [
            model.simulate(
                volumes=len(person.bold), tr=person.tr, seed=_seeds(seed, person.person, number)
            )
            for number in range(runs)
        ]
        found = [pearson(band_passed(run.signals, person.tr, band)) for run in simulated]
        known = all(set(factors) <= set(model.parameters) for factors in states.values())
        content["models"][name] = {
            "parameters": dict(zip(model.parameters, constants(model), strict=True)),
            **extra(model),
            "correlation_linearised": tried[0].correlation,
            "correlation_simulated": float(np.mean([compare(fc, data)[1] for fc in found])),
            "agreement": compare(np.mean(found, axis=0), model.connectivity(band))[1],
            "distance": tried[0].distance,
            "tried": [m._asdict() for m in sorted(tried)],
            "regime": _regime(simulated),
            "true_ranks": true_ranks(model, states, band) if known else {},
        }
    write_json(output, content)


def _builder(
    name: str, person: Connectome, fixed: Mapping[str, float]
) -> tuple[Callable[[float], Model], Callable[[Any], dict[str, Any]]]:
    """Coupling to model, and what of the model a file must keep besides its parameters."""
    if name == "hopf":
        frequencies = peak_frequencies(person.bold, person.tr)
        return (
            lambda coupling: Hopf(person.sc, frequencies, coupling, **fixed),
            lambda model: {"frequencies": model.frequencies.tolist()},
        )
    if name == "mean_field":
        return (
            lambda coupling: MeanField(
                person.sc, feedback_inhibition(person.sc, coupling), coupling, **fixed
            ),
            lambda model: {"inhibition": model.inhibition.tolist()},
        )
    raise ValueError(f"unknown model {name!r}; known are hopf and mean_field")


def _regime(runs: Sequence[Run]) -> dict[str, float]:
    """Bounds within which the runs stayed, and whether they drifted."""
    regime = {
        "activity_mean": float(np.mean([run.activity for run in runs])),
        "activity_max": float(np.max([run.activity for run in runs])),
        "stationarity_p": min(1.0, len(runs) * min(stationarity(run.signals) for run in runs)),
    }
    rates = [run.rates for run in runs if run.rates is not None]
    if rates:
        regime |= {"rate_mean": float(np.mean(rates)), "rate_max": float(np.max(rates))}
    return regime


def _seeds(seed: int, person: str, *rest: int) -> list[int]:
    """Everyone has noise of their own, else people would not be independent."""
    return [seed, zlib.crc32(person.encode()), *rest]


def load_model(fitted: str | Path, connectome: str | Path, *, model: str) -> Any:
    """A model that :func:`fit_person` fitted, on the connectome it was fitted on.

    Raises
    ------
    ValueError
        If the file has no such model, or is of another person.
    """
    person = load(connectome)
    content = json.loads(Path(fitted).read_text(encoding="utf-8"))
    if content["person"] != person.person:
        raise ValueError(f"{fitted} is of {content['person']}, {connectome} of {person.person}")
    if model not in content["models"]:
        raise ValueError(f"{fitted} has no {model!r}, but {', '.join(content['models'])}")
    stored = content["models"][model]
    if model == "hopf":
        return Hopf(person.sc, np.array(stored["frequencies"]), **stored["parameters"])
    return MeanField(person.sc, np.array(stored["inhibition"]), **stored["parameters"])


def in_silico(
    *,
    connectome: str | Path,
    fitted: str | Path,
    output: str | Path,
    arms: Mapping[str, Mapping[str, float]],
    volumes: int,
    tr: float,
    seeds: int,
    settle: float,
    band: Band,
    windows: Sequence[int],
    step: int,
    draws: int,
    seed: int,
    model: str = "mean_field",
) -> None:
    """Ranks of one person's model before and after changes, such as of gain or noise.

    Runs of one seed meet the same noise in all arms: one noise before, another after. Each is
    settled in its own state, so that no transient is measured.

    Parameters
    ----------
    connectome, fitted
        Files of one person.
    output
        Written (parquet): person, model, seed, arm, phase (``before``, ``after``), the columns of
        :func:`tgn.fmri.surrogates.ranks_with_surrogates` of the band-passed signals, and
        ``exact``, the rank of the exact linearised correlation matrix; NaN for definitions that
        need signals.
    arms
        Name to factors on the parameters.
    volumes, tr, settle
        Of a run; seconds.
    seeds
        Number of seeds.
    band
        Hz.
    windows, step, draws
        See there.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """
    awake = load_model(fitted, connectome, model=model)
    person = load(connectome).person
    rng = np.random.default_rng(_seeds(seed, person))
    tables = []

    def measure(state: Model, number: int, phase: str) -> pd.DataFrame:
        run = state.simulate(
            volumes=volumes,
            tr=tr,
            seed=_seeds(seed, person, number, int(phase == "after")),
            settle=settle,
        )
        table = ranks_with_surrogates(
            band_passed(run.signals, tr, band), windows=windows, step=step, draws=draws, rng=rng
        )
        return table.assign(person=person, model=model, seed=number, phase=phase)

    states = {arm: changed(awake, factors) for arm, factors in arms.items()}
    exact = {arm: matrix_ranks(state.connectivity(band)) for arm, state in states.items()}
    resting = matrix_ranks(awake.connectivity(band))
    for number in range(seeds):
        before = measure(awake, number, "before")
        for arm, state in states.items():
            after = measure(state, number, "after")
            for table, ranks in ((before, resting), (after, exact[arm])):
                tables.append(table.assign(arm=arm, exact=table["definition"].map(ranks)))
    write_table(output, pd.concat(tables, ignore_index=True))


def ramps(
    *,
    connectome: str | Path,
    fitted: str | Path,
    output: str | Path,
    changes: Mapping[str, float | Ramp],
    volumes: int,
    tr: float,
    seeds: int,
    settle: float,
    seed: int,
    model: str = "hopf",
) -> None:
    """Signals of one person's model while parameters change, and with the same noise while not.

    Parameters
    ----------
    connectome, fitted
        Files of one person.
    output
        Written (npz): ``ramp`` and ``control``, float32 (seeds, T, R); ``tr``, ``person``.
    changes
        Parameter to factor, or to knots of seconds from the first volume and factor.
    volumes, tr, settle
        Of a run; seconds.
    seeds
        Number of runs.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """
    awake = load_model(fitted, connectome, model=model)
    sedated = changed(awake, changes)
    person = load(connectome).person

    def simulate(state: Model) -> NDArray[np.float32]:
        runs = (
            state.simulate(volumes=volumes, tr=tr, seed=_seeds(seed, person, number), settle=settle)
            for number in range(seeds)
        )
        return np.stack([run.signals for run in runs])

    with replacing(output) as temporary:
        np.savez_compressed(
            temporary,
            person=person,
            tr=tr,
            ramp=simulate(sedated),
            control=simulate(awake),
        )
