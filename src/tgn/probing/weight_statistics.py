"""From measured weight matrices to the statistics of the scaling figure.

Within a model layers are the units: the matrices of one layer are averaged first, and intervals are
bootstraps over layers; those of shares of Gaussian levels are over draws. Across models every model
is one point, the mean over its matrices of the logarithm; intervals are bootstraps over models.
Temperatures are compared as logarithms. A peak at the edge of the temperatures is no peak, and is
left out where its temperature is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tgn.files import write_table
from tgn.statistics import (
    Evidence,
    Interval,
    Statistic,
    bootstrap_interval,
    ends,
    student_interval,
    write_statistics,
)
from tgn.thermodynamics.scaling_laws import bootstrap_exponent, fit_power_law

Array = NDArray[np.float64]

KEYS = ["model", "weights", "layer", "kind"]
COMPARED_AT = 0.5  # T / sigma at which entropies are compared: above freezing, below the peaks
LEVEL = 0.05


def summarise(
    *,
    matrices: Sequence[str],
    peaks: Sequence[str],
    curves: Sequence[str],
    nulls: Sequence[str],
    spectra: Sequence[str],
    flows: Sequence[str],
    bands: str | Path,
    models_table: str | Path,
    statistics: str | Path,
    evidence: Mapping[str, Evidence],
    across: str,
    resamples: int,
    seed: int,
) -> None:
    """Write the bands, the models' table and the statistics of the scaling figure.

    Parameters
    ----------
    matrices, peaks, curves, nulls, spectra, flows
        Tables of :mod:`tgn.probing.weight_thermodynamics`, any number of each.
    bands
        Written: see :func:`band_table`.
    models_table
        Written: see :func:`model_table`.
    statistics
        Written: one record a statistic and model for the models in ``evidence``, and one a
        statistic across all models.
    evidence
        ``real`` or ``simulated``, for each of the models that stand for themselves.
    across
        What all the models together are called.
    """
    rows, tops, lines, null, shapes, steps = (
        pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True)
        for paths in (matrices, peaks, curves, nulls, spectra, flows)
    )
    tops, null = (_once(table) for table in (tops, null))  # each group draws its own nulls
    models = model_table(rows, tops)
    write_table(bands, band_table(rows, lines, null))
    write_table(models_table, models)
    rng = np.random.default_rng([seed, 1])
    records = []
    for model, kind in evidence.items():
        records += model_statistics(
            rows[rows["model"] == model],
            lines[lines["model"] == model],
            shapes[shapes["model"] == model],
            steps[steps["model"] == model],
            tops[tops["model"].isin([model, ""])],
            null,
            model=model,
            evidence=kind,
            resamples=resamples,
            rng=rng,
        )
    together: Evidence = "simulated" if "simulated" in evidence.values() else "real"
    records += size_statistics(
        models, model=across, evidence=together, resamples=resamples, rng=rng
    )
    write_statistics(statistics, records)


def _once(table: pd.DataFrame) -> pd.DataFrame:
    """Without the second draw of a null, where two groups of models have matrices of one size."""
    keys = ["model", "layer", "kind", "weights", "levels", "n_levels", "t"]
    return table.drop_duplicates([key for key in keys if key in table], ignore_index=True)


def band_table(rows: pd.DataFrame, lines: pd.DataFrame, null: pd.DataFrame) -> pd.DataFrame:
    """Curves of each model: median and central 95 % over its matrices, beside the null's mean.

    Entropies are over ln N, and so between 0 and 1.

    Returns
    -------
    pandas.DataFrame
        Columns model, weights, quantity, t, value, low, high, null, null_low, null_high (mean over
        the matrices of the null of their size; NaN for quantities it has not).
    """
    joined = lines.merge(rows[[*KEYS, "n_levels"]], on=KEYS)
    joined = joined.merge(null, on=["n_levels", "t"], suffixes=("", "_null"), how="left")
    states = np.log(joined["n_levels"])
    for name in ("entropy", "renyi_2", "entropy_null", "entropy_low", "entropy_high"):
        joined[name] /= states
    for name in ("_null", "_low", "_high"):
        joined[f"fisher{name}"] = joined[f"specific_heat{name}"] / joined["t"] ** 2
    parts = []
    for labels, group in joined.groupby(["model", "weights"], sort=False):
        by_t = group.groupby("t")
        for quantity in ("specific_heat", "entropy", "renyi_2", "fisher"):
            columns = {
                "value": by_t[quantity].median(),
                "low": by_t[quantity].quantile(0.025),
                "high": by_t[quantity].quantile(0.975),
            }
            for name in ("null", "low", "high"):
                column = f"{quantity}_{name}"
                label = "null" if name == "null" else f"null_{name}"
                columns[label] = by_t[column].mean() if column in group else np.nan
            part = pd.DataFrame(columns).reset_index()
            parts.append(part.assign(model=labels[0], weights=labels[1], quantity=quantity))
    return pd.concat(parts, ignore_index=True)


def model_table(rows: pd.DataFrame, tops: pd.DataFrame) -> pd.DataFrame:
    """One row a model, trained or not: geometric means over its matrices, in weight units.

    Returns
    -------
    pandas.DataFrame
        Columns model, weights, parameters (without embeddings), matrices, at_edge (share of
        matrices whose peak is at the edge, left out of the temperatures), sigma, n_levels,
        freezing_temperature, critical_temperature, critical_low and critical_high (its 95 %
        interval, Student's over layers; NaN of a single one), gaussian_temperature (the null's, of
        the same sigma and numbers) and ratio (critical over freezing temperature).
    """
    of_null = _null_log_temperature(tops)
    made = []
    for labels, group in rows.groupby(["model", "weights"], sort=False):
        inside = group[~group["at_edge"]]
        if inside.empty:
            continue
        scale = np.log(inside["sigma"])
        found = np.log(inside["critical_temperature"])
        frozen = np.log(inside["freezing_temperature"])
        critical = (scale + found).mean()
        layers = by_layer(scale + found, inside["layer"])
        interval = student_interval(layers) if len(layers) > 1 else Interval(0, np.nan, np.nan)
        margin = interval.high - interval.value
        made.append(
            {
                "model": labels[0],
                "weights": labels[1],
                "parameters": group["parameters"].iloc[0],
                "matrices": len(group),
                "at_edge": group["at_edge"].mean(),
                "sigma": np.exp(scale.mean()),
                "n_levels": np.exp(np.log(inside["n_levels"]).mean()),
                "freezing_temperature": np.exp((scale + frozen).mean()),
                "critical_temperature": np.exp(critical),
                "critical_low": np.exp(critical - margin),
                "critical_high": np.exp(critical + margin),
                "gaussian_temperature": np.exp((scale + inside["n_levels"].map(of_null)).mean()),
                "ratio": np.exp((found - frozen).mean()),
            }
        )
    return pd.DataFrame(made)


def _null_log_temperature(tops: pd.DataFrame) -> pd.Series:
    """Mean of ln T_c / sigma of Gaussian levels, by their number."""
    null = tops[tops["levels"] == "gaussian_null"].dropna(subset="temperature")
    return np.log(null["temperature"]).groupby(null["n_levels"]).mean()


def by_layer(values: pd.Series, layers: pd.Series) -> Array:
    """Mean over the matrices of each layer, NaN left out: the units of a model's statistics."""
    return values.groupby(layers).mean().dropna().to_numpy()


def model_statistics(
    rows: pd.DataFrame,
    lines: pd.DataFrame,
    shapes: pd.DataFrame,
    steps: pd.DataFrame,
    tops: pd.DataFrame,
    null: pd.DataFrame,
    *,
    model: str,
    evidence: Evidence,
    resamples: int,
    rng: np.random.Generator,
) -> list[Statistic]:
    """The statistics of one model, each a mean over its layers or over draws of its null."""
    over_layers = _peaks(rows, tops) | _power_laws(rows) | _against_twins(rows, tops)
    over_layers |= _information(lines, rows, null) | _spectra(shapes) | _flow(steps)
    records = []
    for over, units in (("layers", over_layers), ("draws", _null_shares(rows, tops))):
        for name, (values, unit, method) in units.items():
            if len(values) < 2:
                continue  # too few layers, or not measured on this model
            interval = bootstrap_interval(values, rng=rng, resamples=resamples)
            records.append(
                Statistic(
                    id=f"scaling.{name}",
                    **ends(interval),
                    n=len(values),
                    unit=unit,
                    method=f"{method}; mean and 95 % bootstrap interval over {over}",
                    model=model,
                    evidence=evidence,
                )
            )
    return records


Units = dict[str, tuple[Array, str, str]]  # values of the units, unit, method


def _peaks(rows: pd.DataFrame, tops: pd.DataFrame) -> Units:
    """Whether there is a peak, where, and how far from that of Gaussian levels."""
    of_null = _null_log_temperature(tops)
    made: Units = {}
    for suffix, weights in (("", "trained"), ("_untrained", "untrained")):
        own = rows[rows["weights"] == weights]
        inside = own[~own["at_edge"]]
        excess = np.log(inside["critical_temperature"]) - inside["n_levels"].map(of_null)
        words = f" of {weights} matrices"
        made |= {
            f"share_with_peak{suffix}": (
                by_layer(1.0 - own["at_edge"], own["layer"]),
                "",
                f"share{words} whose specific heat has a peak inside of the temperatures",
            ),
            f"log_peak_over_gaussian{suffix}": (
                by_layer(excess, inside["layer"]),
                "nats",
                f"log temperature of the peak{words} minus that of Gaussian levels of the same "
                "number and sigma",
            ),
            f"share_beyond_gaussian{suffix}": (
                by_layer((inside["p"] < LEVEL).astype(float), inside["layer"]),
                "",
                f"share{words} whose peak's temperature differs from Gaussian levels' (two-sided "
                f"rank p < {LEVEL})",
            ),
        }
    trained = rows[(rows["weights"] == "trained") & ~rows["at_edge"]]
    relative = np.log(trained["critical_temperature"] / trained["isolated_temperature"])
    made |= {
        "outlying_entries": (
            by_layer(trained["outliers"] / trained["n_levels"], trained["layer"]),
            "",
            "share of entries below where Gaussian ones end",
        ),
        "log_peak_over_isolated": (
            by_layer(relative, trained["layer"]),
            "nats",
            "log temperature of the peak minus what the lowest entry alone lets expect",
        ),
        "log_quarters_range": (
            by_layer(np.log(trained["high"] / trained["low"]), trained["layer"]),
            "nats",
            "log of the highest over the lowest peak temperature of quarters of a matrix's rows",
        ),
    }
    return made


FAVOURED = "share of sides of peaks on which a power law has a lower AICc than a parabola"


def _power_laws(rows: pd.DataFrame) -> Units:
    """How often a power law about the peak is a better account than a hump."""
    trained = rows[rows["weights"] == "trained"]
    return {"share_power_law": (_favoured(trained), "", f"{FAVOURED}, trained matrices")}


def _favoured(table: pd.DataFrame) -> Array:
    """By layer, or by draw of the null."""
    sides = table[["power_law_below", "power_law_above"]]
    return by_layer((sides > 0).where(sides.notna()).mean(axis=1), table["layer"])


def _null_shares(rows: pd.DataFrame, tops: pd.DataFrame) -> Units:
    """How often draws of Gaussian levels have a peak, and a power law about it."""
    null = tops[(tops["levels"] == "gaussian_null") & tops["n_levels"].isin(rows["n_levels"])]
    return {
        "share_with_peak_gaussian": (
            by_layer(1.0 - null["at_edge"], null["layer"]),
            "",
            "share of draws of Gaussian levels, of the matrices' sizes, whose specific heat has a "
            "peak inside of the temperatures",
        ),
        "share_power_law_gaussian": (
            _favoured(null),
            "",
            f"{FAVOURED}, Gaussian levels of the matrices' sizes",
        ),
    }


def _against_twins(rows: pd.DataFrame, tops: pd.DataFrame) -> Units:
    """The peak beside those of other levels of the same matrix, matrix by matrix."""
    trained = tops[(tops["weights"] == "trained") & (tops["model"] != "")]
    wide = np.log(trained.pivot(index=["layer", "kind"], columns="levels", values="temperature"))
    wide = wide.reindex(
        columns=["weights", "flipped", "without_lowest", "without_outliers", "student", "gaussian",
                 "gaussian_quantised"]
    )  # fmt: skip
    layers = pd.Series(wide.index.get_level_values("layer"), index=wide.index)
    pairs = {
        "log_peak_without_lowest": (
            wide["without_lowest"] - wide["weights"],
            "log temperature of the peak without the lowest of a matrix's entries minus with it",
        ),
        "log_peak_without_outliers": (
            wide["without_outliers"] - wide["weights"],
            "log temperature of the peak without the entries below where Gaussian ones end minus "
            "with them",
        ),
        "log_peak_flipped": (
            (wide["flipped"] - wide["weights"]).abs(),
            "size of the change of the peak's log temperature when the weights change sign",
        ),
        "log_peak_over_student": (
            wide["weights"] - wide["student"],
            "log temperature of the peak minus that of Student's t with the matrix's kurtosis",
        ),
        "log_peak_quantised": (
            wide["gaussian_quantised"] - wide["gaussian"],
            "log temperature of the peak of Gaussian levels stored in 4 bits minus not so stored",
        ),
    }
    return {
        name: (by_layer(values, layers), "nats", method) for name, (values, method) in pairs.items()
    }


def _information(lines: pd.DataFrame, rows: pd.DataFrame, null: pd.DataFrame) -> Units:
    """Entropy and Fisher information at one temperature, less that of Gaussian levels."""
    grid = np.sort(lines["t"].unique())
    at = grid[np.abs(np.log(grid / COMPARED_AT)).argmin()]
    here = lines[(lines["t"] == at) & (lines["weights"] == "trained")]
    here = here.merge(rows[[*KEYS, "n_levels"]], on=KEYS)
    here = here.merge(null[null["t"] == at], on="n_levels", suffixes=("", "_null"))
    where = f"at T = {at:.3g} sigma, minus that of Gaussian levels of the same number"
    return {
        "entropy_minus_gaussian": (
            by_layer(here["entropy"] - here["entropy_null"], here["layer"]),
            "nats",
            f"entropy {where}",
        ),
        "log_fisher_over_gaussian": (
            by_layer(np.log(here["specific_heat"] / here["specific_heat_null"]), here["layer"]),
            "nats",
            f"log Fisher information about the temperature {where}",
        ),
    }


def _spectra(shapes: pd.DataFrame) -> Units:
    """Distance from Marchenko and Pastur's law, and what lies beyond it."""
    made: Units = {}
    cases = {
        "": ("trained", "weights", "trained matrices"),
        "_shuffled": ("trained", "shuffled", "trained matrices with their entries shuffled"),
        "_untrained": ("untrained", "weights", "untrained matrices"),
    }
    for suffix, (weights, entries, words) in cases.items():
        own = shapes[(shapes["weights"] == weights) & (shapes["entries"] == entries)]
        made |= {
            f"mp_distance{suffix}": (
                by_layer(own["mp_distance"], own["layer"]),
                "",
                f"Kolmogorov-Smirnov distance of eigenvalues from Marchenko and Pastur's law, "
                f"{words}",
            ),
            f"outlier_share{suffix}": (
                by_layer(own["outlier_share"], own["layer"]),
                "",
                f"share of the trace in eigenvalues beyond 99 % of noise's largest, {words}",
            ),
        }
    return made


def _flow(steps: pd.DataFrame) -> Units:
    """Block averages against permuted rows and columns, at the first step."""
    first = steps[steps["step"] == 1]
    return {
        "log_block_std_over_permuted": (
            by_layer(np.log(first["ratio"] / first["permuted"]), first["layer"]),
            "nats",
            "log standard deviation of means of 2 x 2 entries minus that with rows and columns "
            "permuted",
        ),
        "share_blocks_correlated": (
            by_layer((first["p"] < LEVEL).astype(float), first["layer"]),
            "",
            f"share of matrices whose 2 x 2 means spread more than permuted ones' (p < {LEVEL})",
        ),
    }


# Exponent of what, against the parameters, and of which weights.
EXPONENTS: Mapping[str, tuple[Callable[[pd.DataFrame], pd.Series], str, str]] = {
    "exponent": (lambda m: m["critical_temperature"], "the peak's temperature", "trained"),
    "exponent_over_sigma": (
        lambda m: m["critical_temperature"] / m["sigma"],
        "the peak's temperature over sigma",
        "trained",
    ),
    "exponent_over_freezing": (
        lambda m: m["ratio"],
        "the peak's over the freezing temperature",
        "trained",
    ),
    "exponent_sigma": (lambda m: m["sigma"], "sigma of the weights", "trained"),
    "exponent_gaussian": (
        lambda m: m["gaussian_temperature"],
        "the peak's temperature of Gaussian levels with the models' sigma",
        "trained",
    ),
    "exponent_untrained": (
        lambda m: m["critical_temperature"],
        "the peak's temperature",
        "untrained",
    ),
}


def size_statistics(
    models: pd.DataFrame,
    *,
    model: str,
    evidence: Evidence,
    resamples: int,
    rng: np.random.Generator,
) -> list[Statistic]:
    """Exponents against size over models, whether a power law is called for, and their spread."""
    trained = models[models["weights"] == "trained"]
    if trained["parameters"].nunique() < 3:
        raise ValueError(
            f"models: an exponent takes three sizes, got {sorted(trained['parameters'].unique())}"
        )

    def record(name: str, found: Interval, n: int, method: str, note: str = "") -> Statistic:
        outside = not found.low <= found.value <= found.high
        return Statistic(
            id=f"scaling.{name}",
            **ends(found),
            n=n,
            unit="",
            method=f"{method}; 95 % bootstrap interval over models",
            model=model,
            evidence=evidence,
            note="the resamples are skewed, few models decide the value" if outside else note,
        )

    records = []
    for name, (quantity, words, weights) in EXPONENTS.items():
        own = models[models["weights"] == weights]
        if own["parameters"].nunique() < 3:
            continue
        law = fit_power_law(own["parameters"], quantity(own))
        low, high = bootstrap_exponent(
            own["parameters"], quantity(own), rng=rng, resamples=resamples
        )
        best = f"least AICc: {law.best}"
        method = f"exponent of {words} over the parameters outside of embeddings, {weights} models"
        records.append(record(name, Interval(law.b, low, high), law.n, method, best))
        if name in ("exponent", "exponent_untrained"):
            sizes = sorted((abs(low), abs(high)))
            sizes[0] *= low * high > 0  # an interval about zero begins there
            size = Interval(abs(law.b), *sizes)
            renamed = name.replace("exponent", "exponent_size")
            records.append(record(renamed, size, law.n, f"size of the {method}", best))
    ratios = np.log(trained["ratio"].to_numpy())
    records.append(
        record(
            "spread_of_log_ratio",
            bootstrap_interval(ratios, np.std, rng=rng, resamples=resamples, method="percentile"),
            len(ratios),
            "standard deviation over models of the log of the peak's over the freezing temperature",
        )
    )
    return records
