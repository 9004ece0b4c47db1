"""The controlled family: networks of this project that differ in one measure and nothing else.

Every network is a training run of its own on the same data, with a seed; runs are the units. A
measure's effect is read within groups of runs that agree in all others, each group with a mean of
its own, so that neither data nor recipe nor lab can make it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from scipy import stats

from tgn.constraints.across import turning_questions
from tgn.constraints.associations import (
    Undecidable,
    correlation,
    correlation_interval,
    held_out_errors,
    indicator,
    log_depth_constant,
)
from tgn.constraints.pairs import worst_questions
from tgn.constraints.tables import Chance, Found, Questions, main_prompts
from tgn.statistics import Interval, bootstrap_interval

LEAST_VALUES = 3  # of a measure in a group, for it to have varied
LEAST_FREEDOM = 3
# A measure, and what a group of runs agrees in while it varies.
HELD = {
    "layers": ("width", "heads", "head_dim"),
    "width": ("layers", "heads"),
    "rho": ("layers", "width"),
}
RUNS = "Student's 95 % interval over runs"


def questions(models: pd.DataFrame, gains: pd.DataFrame, *, chance: Chance) -> Questions:
    """The questions to the controlled family.

    Parameters
    ----------
    models
        Its rows of :func:`tgn.constraints.tables.model_table`, one a run.
    """
    usable = models[np.isfinite(models["log_gain"])]
    names = set(usable["model"])
    rows = main_prompts(gains)
    by_model = {str(name): own for name, own in rows.groupby("model") if name in names}
    places = models.assign(kin=[design_name(row) for _, row in models.iterrows()])
    return {
        **_depth(usable, chance),
        **_slopes(usable),
        **_spectral(usable),
        **worst_questions(by_model, chance, "controlled_"),
        **turning_questions(places, chance, "controlled_"),
    }


def design_name(row: pd.Series) -> str:
    """What the seeds of one design share: they are left out together."""
    return f"{row['layers']} x {row['width']}, {row['heads']} heads of {row['head_dim']}"


def groups(models: pd.DataFrame, measure: str) -> pd.DataFrame:
    """The runs of groups in which a measure takes at least three values, with a column ``group``.

    Raises
    ------
    Undecidable
        If there is no such group.
    """
    held = list(HELD[measure])
    kept = [
        part.assign(
            group=", ".join(f"{name} {value}" for name, value in zip(held, key, strict=True))
        )
        for key, part in models.groupby(held, sort=True)
        if part[measure].nunique() >= LEAST_VALUES
    ]
    if not kept:
        raise Undecidable(
            f"{measure} takes no {LEAST_VALUES} values at equal {', '.join(held)} in "
            f"{len(models)} runs"
        )
    return pd.concat(kept)


def within_slope(x: Sequence[float], y: Sequence[float], group: Sequence[str]) -> Interval:
    """Slope of y over x with a mean for each group, Student's interval.

    Raises
    ------
    Undecidable
        If fewer than three degrees of freedom are left.
    """
    means = indicator(group)
    a, b = (np.asarray(v, float) for v in (x, y))
    a, b = (v - means @ (means.T @ v / means.sum(axis=0)) for v in (a, b))
    freedom = len(a) - means.shape[1] - 1
    if freedom < LEAST_FREEDOM:
        raise Undecidable(f"{len(a)} runs leave {freedom} degrees of freedom")
    slope = float(a @ b / (a @ a))
    error = float(np.sqrt(((b - slope * a) ** 2).sum() / freedom / (a @ a)))
    reach = float(stats.t.ppf(0.975, freedom)) * error
    return Interval(slope, slope - reach, slope + reach)


def _slopes(models: pd.DataFrame) -> Questions:
    """Effects of depth, width and head density on the last block's gain."""

    def slope(measure: str, of: str, y: str, what: str, unit: str = "nats") -> Found:
        runs = groups(models, measure).dropna(subset=[y])
        values = runs[measure].astype(float)
        x = {"inverse": 1 / values, "log": np.log(values)}[of]
        words = {"inverse": f"1/{measure}", "log": f"ln {measure}"}[of]
        return Found(
            within_slope(x, runs[y], runs["group"]),
            len(runs),
            f"slope of {what} over {words} at equal {', '.join(HELD[measure])}; {RUNS}",
            unit,
            f"{runs['group'].nunique()} groups, {runs[measure].nunique()} values",
        )

    gain = ("log_gain", "the last block's ln gain")
    product = ("log_amplification", "ln of the product of all blocks' gains")
    alike = ("head_cosine", "the mean cosine between what two heads of a block write", "")
    return {
        "controlled_gain_per_inverse_layers": partial(slope, "layers", "inverse", *gain),
        "controlled_gain_per_log_layers": partial(slope, "layers", "log", *gain),
        "controlled_amplification_per_log_layers": partial(slope, "layers", "log", *product),
        "controlled_gain_per_log_width": partial(slope, "width", "log", *gain),
        "controlled_gain_per_log_density": partial(slope, "rho", "log", *gain),
        "controlled_head_cosine_per_log_density": partial(slope, "rho", "log", *alike),
    }


def _depth(models: pd.DataFrame, chance: Chance) -> Questions:
    def constant() -> Found:
        runs = groups(models, "layers")
        y, layers = (runs[name].to_numpy(float) for name in ("log_gain", "layers"))
        found = log_depth_constant(y, layers)
        freedom = len(y) - 1
        rest = y - found / layers
        error = float(np.sqrt(rest @ rest / freedom / (1 / layers**2).sum()))
        reach = float(stats.t.ppf(0.975, freedom)) * error
        return Found(
            Interval(found, found - reach, found + reach),
            len(y),
            f"ln c of G = c^(1/L), by least squares of the last block's ln gain, at equal "
            f"{', '.join(HELD['layers'])}; {RUNS}",
            "nats",
        )

    def closer() -> Found:
        """1/L against head density over all runs, each design left out with its seeds."""
        designs = [design_name(row) for _, row in models.iterrows()]
        if len(set(designs)) < 6:
            raise Undecidable(f"{len(set(designs))} designs are too few to leave one out")
        y = models["log_gain"].to_numpy(float)
        errors = [
            held_out_errors(y, x[:, None], designs)
            for x in (models["rho"].to_numpy(float), 1 / models["layers"].to_numpy(float))
        ]
        gap = pd.Series((errors[0] - errors[1]) / max(y.var(), 1e-12)).groupby(designs).mean()
        found = bootstrap_interval(gap.to_numpy(), rng=chance.rng, resamples=chance.resamples)
        return Found(
            found,
            len(gap),
            "squared error of designs left out, predicted from head density, minus the same from "
            "1/L, over the variance of the last block's ln gain; 95 % bootstrap interval over "
            "designs",
            note=f"{len(models)} runs",
        )

    def seeds() -> Found:
        designs = [design_name(row) for _, row in models.iterrows()]
        grouped = models["log_gain"].groupby(designs)
        freedom = int((grouped.size() - 1).sum())
        if freedom < LEAST_FREEDOM:
            raise Undecidable("too few designs were trained with several seeds")
        squares = float(((models["log_gain"] - grouped.transform("mean")) ** 2).sum())
        ends = [np.sqrt(squares / stats.chi2.ppf(q, freedom)) for q in (0.975, 0.025)]
        spread = float(np.sqrt(squares / freedom))
        return Found(
            Interval(spread, float(ends[0]), float(ends[1])),
            len(models),
            "standard deviation of the last block's ln gain over seeds of one design, pooled; 95 % "
            "interval by chi squared",
            "nats",
        )

    return {
        "controlled_log_depth_constant": constant,
        "controlled_depth_minus_density_prediction": closer,
        "controlled_gain_seed_spread": seeds,
    }


def _spectral(models: pd.DataFrame) -> Questions:
    def along(column: str, what: str) -> Found:
        runs = models.dropna(subset=[column])
        r = correlation(*(runs[name].to_numpy(float) for name in (column, "log_gain")), rank=True)
        designs = len({design_name(row) for _, row in runs.iterrows()})
        return Found(
            correlation_interval(r, designs),
            designs,
            f"rank correlation over runs of {what} and the last block's gain; Fisher's 95 % "
            "interval, designs as units",
            note=f"{len(runs)} runs",
        )

    return {
        "controlled_gain_with_spectral_ratio": partial(
            along, "log_spectral_ratio_of_means", "mean |W_V| over mean |W_O|"
        ),
        "controlled_gain_with_spectral_ov": partial(
            along, "log_spectral_ov", "mean |W_O W_V| of a head"
        ),
        "controlled_gain_with_unembedding": partial(
            along, "log_unembedding", "norm of the unembedding"
        ),
        "controlled_gain_with_head_cosine": partial(
            along, "head_cosine", "mean cosine between what two heads of a block write"
        ),
        "controlled_gain_with_trace_normalised": partial(
            along, "log_trace_normalised", "trace of the sheaf Laplacian over |W_V|_F^2"
        ),
    }
