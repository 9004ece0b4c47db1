"""What the tables say over models: depth, density, spectra, traces, turning layers.

Families are the units (models of one lab and family share data and recipe), an interval over them
takes six, and a model that others were tuned from stands for its twins. Models whose gain is not
applicable or was not measured are left out of what needs a gain, and the note says how many are in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from tgn.constraints import heritage
from tgn.constraints.associations import (
    Undecidable,
    clustered_interval,
    correlation,
    correlation_interval,
    family_means,
    held_out_errors,
    log_depth_constant,
    partial_correlation,
)
from tgn.constraints.classes import area_under_curve, critical_value
from tgn.constraints.heritage import mixed
from tgn.constraints.tables import MEANS_FIRST, RATIOS, Chance, Found, Questions
from tgn.probing import turning as turning_layers
from tgn.statistics import Interval

Array = NDArray[np.float64]

OVER_FAMILIES = "95 % bootstrap interval over families with all their models"
PUBLISHED_CUT = 0.175  # middle of the published critical range of head density, 0.15 to 0.20


def questions(models: pd.DataFrame, *, chance: Chance) -> Questions:
    """The questions over models.

    Parameters
    ----------
    models
        :func:`tgn.constraints.tables.model_table`, without tuned twins and without the
        controlled family.
    """
    table = models.assign(
        inverse_layers=1 / models["layers"].astype(float),
        law=10 ** (1 / models["layers"].astype(float)),
        log_width=np.log(models["width"].astype(float)),
        log_parameters=np.log(models["parameters"].astype(float)),
    )
    with_gain = table[np.isfinite(table["log_gain"])]
    return {
        **_depth(with_gain, chance),
        **heritage.questions(with_gain, chance=chance),
        **_crowding(with_gain, chance),
        **_predictors(with_gain, chance),
        **_turning(table, chance),
    }


def _over(
    table: pd.DataFrame,
    columns: Sequence[str],
    statistic: Callable[..., float],
    what: str,
    chance: Chance,
    unit: str = "",
) -> Found:
    """A statistic of columns of the table, its interval over families."""
    rows = table.dropna(subset=list(columns))
    found = clustered_interval(
        [rows[column] for column in columns],
        rows["kin"],
        statistic,
        rng=chance.rng,
        resamples=chance.resamples,
    )
    families = rows["kin"].nunique()
    return Found(found, families, f"{what}; {OVER_FAMILIES}", unit, f"{len(rows)} models")


def _along(
    table: pd.DataFrame, x: str, y: str, what: str, *given: str, rank: bool = False
) -> Found:
    """A (partial) correlation over models, families as the units of its interval."""
    names = [x, y, *given]
    if any(name not in table or table[name].notna().sum() < 2 for name in names):
        raise Undecidable(f"fewer than two models have {what}")
    rows = table.dropna(subset=names)
    columns = [rows[name].to_numpy(float) for name in names]
    r = partial_correlation(*columns, rank=rank) if given else correlation(*columns, rank=rank)
    families = rows["kin"].nunique()
    return Found(
        correlation_interval(r, families, len(given)),
        families,
        f"{'rank correlation' if rank else 'correlation'} over models of {what}"
        + (f", {' and '.join(given)} held" if given else "")
        + "; Fisher's 95 % interval, families as units",
        note=f"{len(rows)} models",
    )


# --- depth against density -----------------------------------------------------------------------


def _depth(table: pd.DataFrame, chance: Chance) -> Questions:
    over = partial(_over, table, chance=chance)
    gain = "the last block's ln gain"

    def slope() -> Found:
        design = {"intercept": np.ones(len(table)), "inverse_layers": table["inverse_layers"]}
        return mixed(table, design, "inverse_layers", f"slope of {gain} over 1/L")

    def closer(rival: str, words: str) -> Found:
        """Which of the two predicts families left out."""
        rows = table
        errors = {
            name: held_out_errors(rows["log_gain"], rows[[name]].to_numpy(float), rows["kin"])
            for name in ("inverse_layers", rival)
        }
        found = clustered_interval(
            (errors[rival] - errors["inverse_layers"], rows["log_gain"]),
            rows["kin"],
            lambda gap, y: float(gap.mean() / max(y.var(), 1e-12)),
            rng=chance.rng,
            resamples=chance.resamples,
        )
        return Found(
            found,
            rows["kin"].nunique(),
            f"squared error of families left out, predicted from {words}, minus the same from 1/L, "
            f"over the variance of {gain}; {OVER_FAMILIES}",
            note=f"{len(rows)} models",
        )

    made: dict[str, Callable[[], Found]] = {
        "log_depth_constant": lambda: over(
            ["log_gain", "layers"],
            log_depth_constant,
            f"ln c of G = c^(1/L), by least squares of {gain}",
            unit="nats",
        ),
        "gain_per_inverse_layers": slope,
        "depth_minus_density_prediction": partial(closer, "rho", "head density"),
        "depth_minus_width_prediction": partial(closer, "log_width", "ln width"),
    }
    along = partial(_along, table)
    pairs = {"layers": "L", "inverse_layers": "1/L", "law": "10^(1/L)", "rho": "head density"}
    for name, words in pairs.items():
        what = f"{words} and {gain}"
        made[f"gain_with_{name}"] = partial(along, name, "log_gain", what)
        made[f"gain_with_{name}_rank"] = partial(along, name, "log_gain", what, rank=True)
    for name, given in (("layers", "rho"), ("inverse_layers", "rho"), ("rho", "layers")):
        made[f"gain_with_{name}_given_{given}"] = partial(
            along, name, "log_gain", f"{pairs[name]} and {gain}", given
        )
    return made


# --- crowding, spectra, traces -------------------------------------------------------------------


def _crowding(table: pd.DataFrame, chance: Chance) -> Questions:
    signed = table[table["sign"].isin(["dampen", "expand"])]
    signed = signed.assign(dampens=(signed["sign"] == "dampen").astype(float))

    def both() -> None:
        if signed["dampens"].nunique() < 2:
            raise Undecidable("dampening and expanding models are both needed")

    def area() -> Found:
        both()
        return _over(
            signed,
            ["rho", "dampens"],
            area_under_curve,
            "chance that a dampening model has more head density than an expanding one",
            chance,
        )

    def critical() -> Found:
        both()
        return _over(
            signed,
            ["rho", "dampens"],
            critical_value,
            "head density at which a logistic curve in its logarithm gives dampening one half, at "
            "the end of the range if it does not within",
            chance,
        )

    def rule() -> Found:
        both()

        def accuracy(rho: Array, dampens: Array) -> float:
            says = rho >= PUBLISHED_CUT
            rates = [(says == yes)[(dampens > 0.5) == yes] for yes in (True, False)]
            return float(np.mean([rate.mean() if len(rate) else 0.5 for rate in rates]))

        return _over(
            signed,
            ["rho", "dampens"],
            accuracy,
            f"mean share of dampening and of expanding models that the rule 'dampens from a head "
            f"density of {PUBLISHED_CUT}' gets right",
            chance,
        )

    along = partial(_along, table, rank=True)
    gain = "and the last block's gain"
    alike = "the mean cosine between what two heads of a block write"
    return {
        "head_cosine_with_rho": partial(along, "rho", "head_cosine", f"head density and {alike}"),
        "gain_with_head_cosine": partial(along, "head_cosine", "log_gain", f"{alike} {gain}"),
        "gain_with_rho_given_layers_rank": partial(
            along, "rho", "log_gain", f"head density {gain}", "layers"
        ),
        "gain_with_rho_kv_rank": partial(
            along, "rho_kv", "log_gain", f"the density of key and value heads {gain}"
        ),
        "gain_with_rho_published_rank": partial(
            along, "rho_published", "log_gain", f"head density as published {gain}"
        ),
        "density_area_under_curve": area,
        "critical_density": critical,
        "density_rule_accuracy": rule,
    }


def _predictors(table: pd.DataFrame, chance: Chance) -> Questions:
    """Rank correlations of the last block's gain with what is said to predict it."""
    words = {
        **{
            f"log_{norm}{part}_{kind}": (
                ("mean |W_V| over mean |W_O|" if kind == MEANS_FIRST else "mean of |W_V| / |W_O|")
                + (" of heads" if part else "")
                + (", Frobenius norms" if norm == "frobenius" else "")
            )
            for norm, part, kind in RATIOS
        },
        "log_spectral_ov": "mean |W_O W_V| of a head",
        "log_unembedding": "norm of the unembedding",
        "log_trace": "trace of the sheaf Laplacian",
        "log_trace_normalised": "trace of the sheaf Laplacian over |W_V|_F^2",
    }

    rank = partial(_along, table, rank=True)

    def gap(column: str, what: str) -> Found:
        """Dampening less expanding families, in logarithms."""
        own = table[table["sign"].isin(["dampen", "expand"])].dropna(subset=[column])
        sides = [
            family_means(part[column], part["kin"])[0]
            for part in (own[own["sign"] == "dampen"], own[own["sign"] == "expand"])
            if len(part)
        ]
        if len(sides) < 2 or min(len(side) for side in sides) < 2:
            raise Undecidable("two dampening and two expanding families are needed")
        welch = stats.ttest_ind(*sides, equal_var=False)
        low, high = welch.confidence_interval()
        return Found(
            Interval(float(sides[0].mean() - sides[1].mean()), float(low), float(high)),
            sum(len(side) for side in sides),
            f"ln of {what}, dampening families minus expanding ones; Welch's 95 % interval",
            "nats",
        )

    def area(column: str, what: str) -> Found:
        own = table[table["sign"].isin(["dampen", "expand"])].dropna(subset=[column])
        if own["sign"].nunique() < 2:
            raise Undecidable("dampening and expanding models are both needed")
        own = own.assign(dampens=(own["sign"] == "dampen").astype(float))
        return _over(
            own,
            [column, "dampens"],
            area_under_curve,
            f"chance that a dampening model has a larger {what} than an expanding one",
            chance,
        )

    made: dict[str, Callable[[], Found]] = {}
    for column, what in words.items():
        name = column.removeprefix("log_")
        made[f"gain_with_{name}"] = partial(
            rank, column, "log_gain", f"{what} and the last block's gain"
        )
    ratio = words["log_spectral_ratio_of_means"]
    made |= {
        "log_ratio_dampening_minus_expanding": partial(gap, "log_spectral_ratio_of_means", ratio),
        "trace_area_under_curve": partial(area, "log_trace", words["log_trace"]),
        "trace_normalised_area_under_curve": partial(
            area, "log_trace_normalised", words["log_trace_normalised"]
        ),
        "distance_with_loss_over_models": partial(
            rank,
            "distance",
            "log_loss",
            "the distance of the last block's ln gain from 0 and the loss per token",
        ),
    }
    return made


# --- turning layers ------------------------------------------------------------------------------


def turning_questions(table: pd.DataFrame, chance: Chance, prefix: str = "") -> Questions:
    """Predictors of L*: printed formulas, and fitted on other families than the predicted one.

    Parameters
    ----------
    table
        Columns model, layers, heads, log_gain, turning and kin, whose values are left out together.
    """

    @cache
    def predictions() -> pd.DataFrame:
        own = table.dropna(subset=["turning"])
        if own["kin"].nunique() < 2:
            raise Undecidable(f"{len(own)} models have a turning layer, of fewer than two families")
        return turning_layers.predict(own.assign(gain=np.exp(own["log_gain"])), group="kin")

    def errors(predictor: str, fit: str) -> pd.Series:
        made = predictions()
        chosen = made[(made["predictor"] == predictor) & (made["fit"] == fit)].set_index("model")
        return ((chosen["predicted"] - chosen["observed"]).abs() / chosen["observed"]).dropna()

    def found(one: tuple[str, str], other: tuple[str, str] | None) -> Found:
        gap = errors(*one)
        if other:
            gap = (gap - errors(*other)).dropna()
        kin = table.set_index("model")["kin"].loc[gap.index]
        interval = clustered_interval(
            [gap], kin, lambda g: float(g.mean()), rng=chance.rng, resamples=chance.resamples
        )
        names = {"printed": "as printed", "left_out": "fitted to the others"}
        less = f" minus that of {other[0]} ({names[other[1]]})" if other else ""
        return Found(
            interval,
            kin.nunique(),
            f"absolute error over observed of the turning layer by {one[0]} ({names[one[1]]})"
            f"{less}, mean over models; 95 % bootstrap interval over what is left out together",
            note=f"{len(gap)} models",
        )

    v3, constant = ("v3", "printed"), ("seven_tenths", "printed")
    return {
        f"{prefix}turning_error_printed": partial(found, v3, None),
        f"{prefix}turning_error_left_out": partial(found, ("v3", "left_out"), None),
        f"{prefix}turning_error_printed_minus_constant": partial(found, v3, constant),
        f"{prefix}turning_error_left_out_minus_constant": partial(
            found, ("v3", "left_out"), ("constant", "left_out")
        ),
        f"{prefix}turning_error_half": partial(found, ("half", "printed"), None),
        f"{prefix}turning_error_a_priori": partial(found, ("v1", "printed"), None),
    }


def _turning(table: pd.DataFrame, chance: Chance) -> Questions:
    return turning_questions(table, chance)
