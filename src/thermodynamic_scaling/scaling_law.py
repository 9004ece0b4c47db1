"""How critical temperatures go with size: fits, their alternatives, and data collapse.

One point a model. The critical temperature of independent levels goes with their standard
deviation, so T_c / sigma and T_c / T_f are fitted beside it (T_f is the freezing temperature of
Gaussian levels, see :mod:`tgn.thermodynamics.critical`): what is flat there is the scale of the
weights and no law of its own. The fits are those of :mod:`tgn.thermodynamics.scaling_laws`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.optimize import curve_fit

from tgn.thermodynamics import scaling_laws

Array = NDArray[np.floating]
Seed = np.random.Generator | int | None
INTERVAL = 0.95
CHAINS = 4
NOTHING_BEYOND = "no scaling beyond the weight scale"


def fit_power_law(x: ArrayLike, y: ArrayLike, log_fit: bool = True) -> dict[str, Any]:
    """y = a x^b.

    Least squares on logarithms; with ``log_fit=False`` also on y itself. Those are two models of
    the error, multiplicative and additive, of equally many parameters: ``best`` is the likelier.

    Returns
    -------
    dict
        ``success``; ``log_linear``: ``a``, ``b``, ``r_squared``, ``p_value``, ``std_err`` of b,
        ``low``, ``high`` (95 %); ``direct``, if asked for: ``a``, ``b``, ``r_squared``,
        ``std_err``; ``best``: ``method``, ``a``, ``b``, ``r_squared``; ``equation``; ``n``;
        ``aicc`` of the power law, a constant and a logarithm, and ``preferred`` among them;
        ``extrapolates``, false below five points.

    Raises
    ------
    ValueError
        If there are fewer than three points, they do not fit or are not positive, or all x are one.
    """
    fit = scaling_laws.fit_power_law(x, y)
    u, v = np.asarray(x, float).ravel(), np.asarray(y, float).ravel()
    log_linear = {
        "a": fit.a,
        "b": fit.b,
        "r_squared": fit.r_squared,
        "p_value": fit.p_value,
        "std_err": fit.std_err,
        "low": fit.low,
        "high": fit.high,
    }
    found: dict[str, Any] = {"success": True, "log_linear": log_linear}
    method = "log_linear"
    if not log_fit:
        found["direct"] = _direct(u, v, fit)
        additive = np.mean((v - found["direct"]["a"] * u ** found["direct"]["b"]) ** 2)
        multiplicative = np.mean((np.log(v) - np.log(fit(u))) ** 2)
        # -2 ln likelihood / n but for a constant; the second is of ln y, hence the Jacobian
        smallest = np.finfo(float).tiny
        if np.log(additive + smallest) < np.log(multiplicative + smallest) + 2 * np.log(v).mean():
            method = "direct"
    best = {name: found[method][name] for name in ("a", "b", "r_squared")}
    return found | {
        "best": {"method": method, **best},
        "equation": f"y = {best['a']:.4g} x^{best['b']:.4g}",
        "n": fit.n,
        "aicc": dict(fit.aicc),
        "preferred": fit.best,
        "extrapolates": fit.n >= scaling_laws.LEAST_FOR_PREDICTION,
    }


def _direct(x: Array, y: Array, start: scaling_laws.PowerLawFit) -> dict[str, float]:
    centre = np.exp(np.log(x).mean())  # a at the centre of x hangs least on b
    (level, b), covariance = curve_fit(
        lambda x, level, b: level * (x / centre) ** b,
        x,
        y,
        p0=(start.a * centre**start.b, start.b),
        maxfev=10_000,
    )
    rest, total = y - level * (x / centre) ** b, ((y - y.mean()) ** 2).sum()
    return {
        "a": float(level / centre**b),
        "b": float(b),
        "r_squared": float(1 - rest @ rest / total) if total else 0.0,
        "std_err": float(np.sqrt(covariance[1, 1])),
    }


def bayesian_power_law_fit(
    x: ArrayLike, y: ArrayLike, samples: int = 1000, *, rng: Seed = None
) -> dict[str, Any]:
    """Posterior of y = a x^b with log-normal errors, by PyMC.

    Priors: ln a ~ N(0, 10), b ~ N(0, 5), the standard deviation of ln y half-normal of scale 1.

    Parameters
    ----------
    samples
        Of each of four chains, after as many of tuning.

    Returns
    -------
    dict
        ``success``, whether the chains agree (every r_hat below 1.01); ``bayesian``: for a and b
        ``_mean``, ``_std`` and ``_hdi`` (the narrowest interval that holds 95 %), ``r_squared`` of
        the posterior mean, ``r_hat`` and ``effective_samples``, the worst; ``best``: ``method``,
        ``a`` (exp of the mean of ln a), ``b``, ``r_squared``; ``equation``; ``trace``, as PyMC
        returns it.

    Raises
    ------
    ImportError
        If PyMC is not installed. No other fit takes its place.
    ValueError
        As :func:`fit_power_law`, and for fewer than 100 samples.
    """
    try:
        import arviz
        import pymc
    except ImportError as error:
        raise ImportError(
            "bayesian_power_law_fit needs PyMC: pip install pymc (fit_power_law does without)"
        ) from error
    scaling_laws.fit_power_law(x, y)
    if samples < 100:
        raise ValueError(f"samples must be at least 100, got {samples}")
    u, v = np.log(np.asarray(x, float).ravel()), np.log(np.asarray(y, float).ravel())
    centre = u.mean()
    with pymc.Model():
        slope = pymc.Normal("slope", 0, 5)
        # the line's height over the middle of the points hangs little on its slope; its prior is
        # what those of intercept and slope come to
        height = pymc.Normal("height", slope * centre, 10)
        pymc.Deterministic("intercept", height - slope * centre)
        sigma = pymc.HalfNormal("sigma", 1)
        pymc.Normal("log_y", height + slope * (u - centre), sigma, observed=v)
        trace = pymc.sample(
            draws=samples,
            tune=samples,
            chains=CHAINS,
            cores=1,
            random_seed=np.random.default_rng(rng),
            target_accept=0.9,
            progressbar=False,
        )
    names = ["intercept", "slope", "sigma"]
    health = arviz.summary(trace, var_names=names, kind="diagnostics", round_to="none")
    b = trace.posterior["slope"].to_numpy().ravel()
    log_a = trace.posterior["intercept"].to_numpy().ravel()
    a = np.exp(log_a)
    rest = v - log_a.mean() - b.mean() * u
    total = ((v - v.mean()) ** 2).sum()
    r_squared = float(1 - rest @ rest / total) if total else 0.0
    r_hat = float(health["r_hat"].max())
    best = {"a": float(np.exp(log_a.mean())), "b": float(b.mean()), "r_squared": r_squared}
    return {
        "success": r_hat < 1.01,
        "bayesian": {
            "a_mean": float(a.mean()),
            "a_std": float(a.std()),
            "a_hdi": _narrowest(a),
            "b_mean": float(b.mean()),
            "b_std": float(b.std()),
            "b_hdi": _narrowest(b),
            "r_squared": r_squared,
            "r_hat": r_hat,
            "effective_samples": float(health["ess_bulk"].min()),
        },
        "best": {"method": "bayesian", **best},
        "equation": f"y = {best['a']:.4g} x^{best['b']:.4g}",
        "trace": trace,
    }


def _narrowest(draws: Array) -> tuple[float, float]:
    """The shortest interval that holds 95 % of the draws."""
    values = np.sort(draws)
    inside = int(np.ceil(INTERVAL * len(values)))
    first = int(np.argmin(values[inside - 1 :] - values[: len(values) - inside + 1]))
    return float(values[first]), float(values[first + inside - 1])


def quantum_criticality_test(
    exponent: float,
    confidence_interval: tuple[float, float],
    *,
    quantum_range: tuple[float, float],
) -> dict[str, Any]:
    """Whether an exponent's interval overlaps a range that the caller names; no more than that.

    The published range, 0.3 to 0.7, had no source, and exponents within a range are no sign of
    quantum mechanics.

    Returns
    -------
    dict
        ``is_in_quantum_range`` (the exponent), ``overlaps_quantum_range`` (its interval),
        ``overlap_proportion`` (of the interval's length; of one without length 1 or 0),
        ``distance_to_quantum_range`` (0 inside), ``quantum_range``, ``exponent``,
        ``confidence_interval``, ``statement``.

    Raises
    ------
    ValueError
        If a number is not finite, an interval is turned round, or the exponent lies outside of its
        own.
    """
    low, high = _interval(confidence_interval, "confidence_interval")
    start, end = _interval(quantum_range, "quantum_range")
    if not low <= exponent <= high:
        raise ValueError(f"exponent {exponent} lies outside of its interval [{low}, {high}]")
    overlaps = low <= end and start <= high
    shared = max(0.0, min(high, end) - max(low, start))
    proportion = shared / (high - low) if high > low else float(overlaps)
    verb = "overlaps" if overlaps else "does not overlap"
    return {
        "is_in_quantum_range": bool(start <= exponent <= end),
        "overlaps_quantum_range": bool(overlaps),
        "overlap_proportion": float(proportion),
        "distance_to_quantum_range": float(max(start - exponent, exponent - end, 0.0)),
        "quantum_range": (start, end),
        "exponent": float(exponent),
        "confidence_interval": (low, high),
        "statement": (
            f"the interval [{low:.3g}, {high:.3g}] {verb} the range [{start:.3g}, {end:.3g}]"
        ),
    }


def _interval(ends: tuple[float, float], name: str) -> tuple[float, float]:
    if len(ends) != 2 or not np.isfinite(ends).all() or ends[0] > ends[1]:
        raise ValueError(f"{name} must be two finite numbers, the lower first, got {ends}")
    return float(ends[0]), float(ends[1])


def universal_scaling_function(
    data: Mapping[str, tuple[ArrayLike, ArrayLike]],
    critical_exponents: Mapping[str, float] | None = None,
    *,
    sizes: Mapping[str, float],
    critical_temperature: float | None = None,
    resamples: int = 50,
    permutations: int = 99,
    rng: Seed = None,
) -> dict[str, Any]:
    """Finite-size collapse: y L^(beta / nu) against (T - T_c) / T_c L^(1 / nu).

    Parameters
    ----------
    data
        By label: temperatures, rising, and values.
    critical_exponents
        ``nu`` and ``beta`` to rescale by; without them they are those of the best collapse, with
        intervals by the bootstrap over sizes. ``T_c`` may stand here too.
    sizes
        Linear size L by label, no two alike.
    critical_temperature
        T_c of the infinite system, unless it is among the exponents.

    Returns
    -------
    dict
        ``scaled_data``: label to ``x``, ``y``, ``size``; ``collapse_quality``, one less the mean
        squared distance between the rescaled curves over their variance, 1 at best, -inf if they
        hardly overlap; ``critical_exponents``: ``nu``, ``beta``, ``T_c``; and if they were sought:
        ``intervals`` of nu and beta (95 %), ``null_quality``, the mean quality with sizes permuted
        and exponents sought anew, and ``p_value``, its rank. Otherwise these are None.

    Raises
    ------
    ValueError
        If T_c or a size is missing or not positive, sizes are alike, only one of the exponents is
        given, there are fewer than two sizes (three, to seek exponents), or a curve does not fit.
    """
    given = dict(critical_exponents or {})
    t_c = given.pop("T_c", None) if critical_temperature is None else critical_temperature
    if t_c is None or not (np.isfinite(t_c) and t_c > 0):
        raise ValueError(f"critical_temperature must be given and positive, got {t_c}")
    missing = set(data) - set(sizes)
    if missing:
        raise ValueError(f"sizes lacks {', '.join(sorted(missing))}")
    curves = {float(sizes[label]): curve for label, curve in data.items()}
    if len(curves) < len(data):
        raise ValueError("sizes: two curves of one size; average them first")
    given.pop("T_c", None)
    if given and set(given) != {"nu", "beta"}:
        raise ValueError(f"critical_exponents must be nu and beta, got {', '.join(given)}")
    found: dict[str, Any] = {"intervals": None, "null_quality": None, "p_value": None}
    if not given:
        best = scaling_laws.collapse(
            curves,
            t_c,
            rng=np.random.default_rng(rng),
            resamples=resamples,
            permutations=permutations,
        )
        given = {"nu": best.nu, "beta": best.beta}
        found = {
            "intervals": {"nu": best.nu_interval, "beta": best.beta_interval},
            "null_quality": 1 - best.null_spread,
            "p_value": best.p,
        }
    scaled, spread = scaling_laws.rescaled(curves, t_c, given["nu"], given["beta"])
    return {
        "scaled_data": {
            label: {"x": x, "y": y, "size": size}
            for label, (size, (x, y)) in zip(data, scaled.items(), strict=True)
        },
        "collapse_quality": 1 - spread,
        "critical_exponents": {**given, "T_c": float(t_c)},
        **found,
    }


def multi_variable_scaling_law(
    x_vars: Mapping[str, ArrayLike],
    y: ArrayLike,
    model: Literal["power_law", "linear"] = "power_law",
) -> dict[str, Any]:
    """y = a x_1^b_1 x_2^b_2 ..., or y = a + b_1 x_1 + b_2 x_2 ...

    Returns
    -------
    dict
        ``success``, ``model_type``, ``intercept`` (a), ``exponents`` or ``coefficients`` and
        ``std_err`` by name, ``r_squared`` (of ln y for a power law), ``n``, ``formula``.

    Raises
    ------
    ValueError
        If the model is unknown, columns do not fit or are collinear, points are as few as
        coefficients, or a power law is asked of what is not positive.
    """
    if model not in ("power_law", "linear"):
        raise ValueError(f"model must be power_law or linear, got {model!r}")
    columns = {str(name): column for name, column in x_vars.items()}
    if not columns:
        raise ValueError("x_vars is empty")
    power = model == "power_law"
    fit = scaling_laws.least_squares(columns, y, logarithms=power)
    slopes: dict[str, float] = fit["slopes"]
    intercept = float(np.exp(fit["intercept"])) if power else fit["intercept"]
    terms = [f"{name}^{b:.4g}" if power else f"{b:.4g} {name}" for name, b in slopes.items()]
    return {
        "success": True,
        "model_type": model,
        "intercept": intercept,
        "exponents" if power else "coefficients": slopes,
        "std_err": fit["std_err"],
        "r_squared": fit["r_squared"],
        "n": fit["n"],
        "formula": f"y = {intercept:.4g} "
        + (" " if power else "+ ")
        + (" " if power else " + ").join(terms),
    }


def compute_scaling_laws(
    results_df: pd.DataFrame, *, resamples: int = 2000, rng: Seed = None
) -> dict[str, Any]:
    """Scaling of critical temperatures with model size, and what of it is the scale of the weights.

    Rows of one model are averaged (geometrically) first: layers are no independent points.

    Parameters
    ----------
    results_df
        Columns ``model_name``, ``model_size`` (trainable parameters without embeddings, say),
        ``critical_temperature``, ``sigma`` and ``freezing_temperature``, all three in one unit.
        Optional: ``critical_temperature_error`` (a standard error), ``specific_heat_peak``,
        ``model_architecture``, ``layer_depth`` (from 0 to 1), ``at_edge`` (booleans: the end of
        the temperatures was taken for the peak; such rows are left out).
    resamples
        Of models, for the bootstrap intervals.

    Returns
    -------
    dict
        ``critical_temperature``, ``critical_temperature_over_sigma``,
        ``critical_temperature_over_freezing`` and, if there, ``specific_heat_peak``: each as
        :func:`fit_power_law`, with ``bootstrap``, the interval of the exponent over models, and
        ``flat``, whether that or Student's interval holds zero or a constant is the better account.
        ``with_errors``, if errors are there: the exponent of the critical temperature weighted by
        them, ``b``, ``std_err``, ``reduced_chi_squared``. ``by_architecture``: the
        first fit for each architecture of three models or more. ``layer_depth``, if there: slope of
        T_c / T_f over depth within each model, ``slopes``, and over models ``mean``, ``low``,
        ``high``, ``n``. ``n_models``, and ``statement``, which says so if T_c / T_f is flat.

    Raises
    ------
    ValueError
        If a column is missing, a model has two sizes or architectures, fewer than three models
        are left, or a value is not positive.
    """
    needed = ["model_name", "model_size", "critical_temperature", "sigma", "freezing_temperature"]
    missing = [name for name in needed if name not in results_df]
    if missing:
        raise ValueError(f"results_df lacks {', '.join(missing)}")
    for name in ("model_size", "model_architecture"):
        if name in results_df and (results_df.groupby("model_name")[name].nunique() > 1).any():
            raise ValueError(f"results_df: a model has more than one {name}")
    if "at_edge" in results_df:
        results_df = results_df[~results_df["at_edge"].astype(bool)]
    rows = results_df.assign(
        critical_temperature_over_sigma=results_df["critical_temperature"] / results_df["sigma"],
        critical_temperature_over_freezing=results_df["critical_temperature"]
        / results_df["freezing_temperature"],
    )
    quantities = [
        "critical_temperature",
        "critical_temperature_over_sigma",
        "critical_temperature_over_freezing",
        *(["specific_heat_peak"] if "specific_heat_peak" in rows else []),
    ]
    for name in ["model_size", *quantities]:
        if not (np.isfinite(rows[name]).all() and (rows[name] > 0).all()):
            raise ValueError(f"results_df: {name} must be positive and finite")
    grouped = rows.groupby("model_name", sort=True)
    models = np.exp(np.log(rows[["model_size", *quantities]]).groupby(rows["model_name"]).mean())
    generator = np.random.default_rng(rng)
    found: dict[str, Any] = {
        name: _fit(models["model_size"], models[name], resamples, generator) for name in quantities
    }
    if "critical_temperature_error" in rows:
        found["with_errors"] = _weighted(models, rows)
    if "model_architecture" in rows:
        architectures = grouped["model_architecture"].first()
        found["by_architecture"] = {
            str(name): fit_power_law(part["model_size"], part["critical_temperature"])
            for name, part in models.groupby(architectures)
            if part["model_size"].nunique() >= scaling_laws.LEAST_POINTS
        }
    if "layer_depth" in rows:
        found["layer_depth"] = _over_depth(rows)
    return found | {"n_models": len(models), "statement": _statement(found, len(models))}


def _fit(
    size: pd.Series, value: pd.Series, resamples: int, rng: np.random.Generator
) -> dict[str, Any]:
    fit = fit_power_law(size, value)
    low, high = scaling_laws.bootstrap_exponent(size, value, rng=rng, resamples=resamples)
    line = fit["log_linear"]
    flat = min(low, line["low"]) <= 0 <= max(high, line["high"]) or fit["preferred"] == "constant"
    return fit | {"bootstrap": (low, high), "flat": bool(flat)}


def _weighted(models: pd.DataFrame, rows: pd.DataFrame) -> dict[str, float]:
    """The critical temperature's exponent with the errors of its mean; sizes are exact."""
    relative = rows["critical_temperature_error"] / rows["critical_temperature"]
    of_mean = relative.groupby(rows["model_name"]).agg(
        lambda errors: np.sqrt((errors**2).sum()) / len(errors)
    )
    size, mean = models["model_size"], models["critical_temperature"]
    fit = scaling_laws.fit_with_errors(size, mean, x_error=1e-12 * size, y_error=mean * of_mean)
    return {"b": fit.b, "std_err": fit.std_err, "reduced_chi_squared": fit.reduced_chi_squared}


def _over_depth(rows: pd.DataFrame) -> dict[str, Any]:
    """Slopes within models, which are the units: the mean over them with Student's interval."""
    slopes = {
        str(name): float(
            stats.linregress(part["layer_depth"], part["critical_temperature_over_freezing"]).slope
        )
        for name, part in rows.groupby("model_name")
        if part["layer_depth"].nunique() >= scaling_laws.LEAST_POINTS
    }
    values = np.array(list(slopes.values()))
    found = {"slopes": slopes, "n": len(values), "mean": None, "low": None, "high": None}
    if len(values) < 2:
        return found
    reach = stats.t.ppf(0.5 + INTERVAL / 2, len(values) - 1) * stats.sem(values)
    mean = float(values.mean())
    return found | {"mean": mean, "low": float(mean - reach), "high": float(mean + reach)}


def _statement(found: Mapping[str, Any], n: int) -> str:
    line = found["critical_temperature_over_freezing"]["log_linear"]
    exponent = (
        f"T_c / T_f goes with size to the {line['b']:.3g} [{line['low']:.3g}, {line['high']:.3g}]"
    )
    few = "" if n >= scaling_laws.LEAST_FOR_PREDICTION else "; too few models to extrapolate"
    if found["critical_temperature_over_freezing"]["flat"]:
        return f"{NOTHING_BEYOND}: {exponent}, n = {n}{few}"
    return f"{exponent}, n = {n}{few}"
