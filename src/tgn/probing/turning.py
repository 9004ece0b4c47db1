"""The turning layer L*: six published definitions, and what predicts it.

Layers are counted from 1, the published ones from 0. A definition that does not single out one
layer says so: what is not finite is refused, equals are named, a flat curve has no turning layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.floating]

COLUMNS = ("model", "prompt", "definition", "layer", "status", "reason")
MEAN = "mean"  # in place of a prompt: of the curve that is the mean over prompts
TIE = 1e-6  # of the curve's range: gradients and values closer than that are equal
FLAT = 1e-9  # of the curve's size: a smaller range is rounding


class Turning(NamedTuple):
    """A turning layer, counted from 1.

    Attributes
    ----------
    layer : float
        Of equals the first; NaN where there is none.
    status : str
        ``ok``; ``tie`` (layers apart) or ``plateau`` (neighbours) of equals; ``undetermined`` (a
        flat curve, or no change of sign); ``not_applicable`` (too few layers); ``failed`` (the
        curve is not finite).
    reason : str
        Empty if ok.
    """

    layer: float
    status: str
    reason: str


def steepest(curve: ArrayLike) -> Turning:
    """Where the absolute gradient is largest (central differences, one-sided at both ends).

    A step between two layers has the same gradient at both, and is reported as a plateau. Where
    there are no others, none is the steepest.
    """
    refused, values = _refused(curve), _floats(curve)
    if refused:
        return refused
    if len(values) < 3:
        return Turning(np.nan, "not_applicable", "two layers, which have one gradient")
    return _largest(np.abs(np.gradient(values)), values)


def highest(curve: ArrayLike) -> Turning:
    """Where the curve is largest."""
    return _refused(curve) or _largest(_floats(curve), _floats(curve))


def lowest(curve: ArrayLike) -> Turning:
    """Where the curve is smallest."""
    return _refused(curve) or _largest(-_floats(curve), _floats(curve))


def first_peak(curve: ArrayLike) -> Turning:
    """The highest layer between the first rise and the fall that follows it.

    That is where the gradient first changes from + to -.
    """
    refused = _refused(curve)
    if refused:
        return refused
    values = _floats(curve)
    gradient = np.gradient(values)
    sign = np.where(np.abs(gradient) <= TIE * np.ptp(values), 0, np.sign(gradient))
    moving = np.flatnonzero(sign)
    falls = np.flatnonzero((sign[moving[:-1]] > 0) & (sign[moving[1:]] < 0))
    if not len(falls):
        return Turning(np.nan, "undetermined", "the gradient never changes from + to -")
    start, end = moving[falls[0]], moving[falls[0] + 1]
    found = _largest(values[start : end + 1], values)
    return Turning(found.layer + start, found.status, found.reason and "equal values at the peak")


def half_depth(curve: ArrayLike) -> Turning:
    """L/2 whatever the curve, a depth that half of the blocks have led to."""
    return Turning(len(_floats(curve)) / 2, "ok", "")


# --- as published: counted from 0, whatever argmax returns ---------------------------------------


def published_steepest(curve: ArrayLike) -> int:
    """Index of the largest absolute gradient, counted from 0.

    Where the curve holds NaN, this is the layer before the first NaN, however steep the others:
    the gradient is NaN there, and argmax returns the first NaN. Of equals it returns the first
    without a word.
    """
    return int(np.argmax(np.abs(np.gradient(np.asarray(curve, np.float64)))))


def published_sign_change(curve: ArrayLike) -> int | None:
    """Index, from 0, of the first layer with a rising gradient before one with a falling one."""
    gradient = np.gradient(np.asarray(curve, np.float64))
    found = np.flatnonzero((gradient[:-1] > 0) & (gradient[1:] < 0))
    return int(found[0]) if len(found) else None


def _published(index: Callable[[ArrayLike], int | None]) -> Callable[[ArrayLike], Turning]:
    def turning(curve: ArrayLike) -> Turning:
        if len(_floats(curve)) < 2:
            return Turning(np.nan, "not_applicable", "a gradient needs two layers")
        found = index(curve)
        if found is None:
            return Turning(np.nan, "undetermined", "no change of sign")
        return Turning(found + 1, "ok", "")

    return turning


# Definition: the quantity it reads, and how.
DEFINITIONS: dict[str, tuple[str, Callable[[ArrayLike], Turning]]] = {
    "steepest_trace": ("trace", steepest),
    "sign_change": ("trace", first_peak),
    "half_depth": ("trace", half_depth),
    "steepest_locality": ("locality", steepest),
    "least_contraction": ("contraction", lowest),
    "largest_gap": ("gap", highest),
    # as run: whatever argmax returns, NaN and ties included, and the trace that is zero
    "steepest_trace_published": ("trace", _published(published_steepest)),
    "steepest_zero_published": ("trace_zero", _published(published_steepest)),
    "sign_change_published": ("trace_zero", _published(published_sign_change)),
}


def turning_layers(sheaf: pd.DataFrame) -> pd.DataFrame:
    """The turning layer by every definition, for each prompt and for the mean over prompts.

    Parameters
    ----------
    sheaf
        Columns model, prompt, layer, quantity, value, reason; a model without layers (one row of
        layer -1) fails with that row's reason.

    Returns
    -------
    DataFrame
        Columns model, prompt, definition, layer, status, reason. Published variants end in
        ``_published``. A mean of curves of which one is not finite is not finite.
    """
    rows = []
    for model, of_model in sheaf.groupby("model", sort=False):
        if (of_model["layer"] < 1).any():
            reason = of_model["reason"].iloc[0]
            rows += [(model, MEAN, name, np.nan, "failed", reason) for name in DEFINITIONS]
            continue
        for name, (quantity, definition) in DEFINITIONS.items():
            of_quantity = of_model[of_model["quantity"] == quantity]
            curves = of_quantity.pivot(index="prompt", columns="layer", values="value")
            curves = curves.loc[of_quantity["prompt"].unique()]
            curves.loc[MEAN] = curves.to_numpy().mean(axis=0)
            rows += [
                (model, prompt, name, *definition(curve))
                for prompt, curve in zip(curves.index, curves.to_numpy(), strict=True)
            ]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"layer": float})


def _floats(curve: ArrayLike) -> Array:
    return np.asarray(curve, np.float64)


def _refused(curve: ArrayLike) -> Turning | None:
    values = _floats(curve)
    if len(bad := np.flatnonzero(~np.isfinite(values))):
        return Turning(np.nan, "failed", f"not finite in layers {_listed(bad + 1)}")
    if len(values) < 2:
        return Turning(np.nan, "not_applicable", "one layer, where two are needed")
    if np.ptp(values) <= FLAT * np.abs(values).max():
        return Turning(np.nan, "undetermined", "the curve is flat")
    return None


def _largest(scores: Array, curve: Array) -> Turning:
    """The layer of the largest score; equal are those within a share of the curve's range."""
    equal = np.flatnonzero(scores >= scores.max() - TIE * np.ptp(curve)) + 1
    if len(equal) == 1:
        return Turning(float(equal[0]), "ok", "")
    status = "plateau" if np.all(np.diff(equal) == 1) else "tie"
    return Turning(float(equal[0]), status, f"equal in layers {_listed(equal)}")


def _listed(layers: NDArray[np.integer]) -> str:
    return ", ".join(map(str, layers))


# --- predictors -----------------------------------------------------------------------------------

# Printed formulas, in the published count from 0: of depth L, heads H and final gain G.
PRINTED: dict[str, Callable[[Array, Array, Array], Array]] = {
    "v1": lambda L, H, G: L / 2 * (1 + np.tanh(5 * (G - 1))),
    "v2": lambda L, H, G: L * np.where(G < 1, 0.55 + 0.008 * L, 0.60 + 0.010 * L),
    "v3": lambda L, H, G: L * (0.11 + 0.012 * L + 4.9 / H),
    "half": lambda L, H, G: L / 2,
    "seven_tenths": lambda L, H, G: 0.7 * L,
}

# What L*/L is linear in, for coefficients fitted anew. Those of v5 are not printed.
FEATURES: dict[str, Callable[[Array, Array, Array], list[Array]]] = {
    "constant": lambda L, H, G: [np.ones_like(L)],
    "v2": lambda L, H, G: [1.0 * (G < 1), L * (G < 1), 1.0 * (G >= 1), L * (G >= 1)],
    "v3": lambda L, H, G: [np.ones_like(L), L, 1 / H],
    "v5": lambda L, H, G: [np.ones_like(L), L, 1 / H, L / H, 1 - G],
}


def predict(observed: pd.DataFrame, *, first: int = 1, group: str = "model") -> pd.DataFrame:
    """Every predictor's L* for every model.

    Parameters
    ----------
    observed
        One row a model: columns model, layers, heads, gain (missing allowed), turning (its L*),
        and ``group`` if that is another.
    first
        What the first layer is called in ``turning``: 0 in the published work, 1 here. Formulas
        are of the published count and shifted by it.
    group
        The column whose values are left out together when coefficients are fitted anew (a model,
        or its family).

    Returns
    -------
    DataFrame
        Columns model, predictor, fit (``printed`` or ``left_out``: fitted on the other groups),
        observed, predicted (missing without a gain, or where the others do not determine the
        coefficients), inside (whether the network has such a layer).

    Raises
    ------
    ValueError
        If an observed L* is not finite: leave such models out, by name.
    """
    if not np.isfinite(observed["turning"].to_numpy(np.float64)).all():
        raise ValueError(
            "a turning layer is missing: score the models that have one, and list the others"
        )
    layers, heads, gain, turning = (
        observed[name].to_numpy(np.float64) for name in ("layers", "heads", "gain", "turning")
    )
    parts = []
    for name, formula in PRINTED.items():
        predicted = formula(layers, heads, gain)
        if name == "v2":
            predicted = np.where(np.isnan(gain), np.nan, predicted)
        parts.append((name, "printed", predicted))
    for name, features in FEATURES.items():
        design = np.stack(features(layers, heads, gain), axis=1)
        if name == "v2":
            design[np.isnan(gain)] = np.nan
        share = _left_out(design, (turning - first) / layers, observed[group].to_numpy())
        parts.append((name, "left_out", layers * share))
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "model": observed["model"].to_numpy(),
                    "predictor": name,
                    "fit": fit,
                    "layers": layers,
                    "observed": turning,
                    "predicted": predicted + first,
                    "inside": (predicted >= 0) & (predicted <= layers - 1),
                }
            )
            for name, fit, predicted in parts
        ],
        ignore_index=True,
    )


def _left_out(design: Array, target: Array, groups: NDArray) -> Array:
    """Prediction of each row by least squares on the rows of other groups; NaN if undetermined."""
    usable = np.isfinite(design).all(axis=1)
    predicted = np.full(len(target), np.nan)
    for group in pd.unique(groups):
        own, others = groups == group, usable & (groups != group)
        met = design[others].any(axis=0)  # v2 has coefficients for each sign of the gain
        if np.linalg.matrix_rank(design[others]) == met.sum():
            coefficients, *_ = np.linalg.lstsq(design[others], target[others])
            determined = own & (met | (design == 0)).all(axis=1)
            predicted[determined] = design[determined] @ coefficients
    return predicted


def score(predictions: pd.DataFrame) -> pd.DataFrame:
    """Errors of the predictors, over the models that they predict.

    Returns
    -------
    DataFrame
        Columns predictor, fit, models (how many; 0 where none is predicted), outside (how many of
        these predictions name a layer that the network does not have), mape (mean of
        |predicted - observed| / observed, the standard one; missing if a model's L* is 0),
        depth_error (mean of the same over the number of layers, which the published work calls
        MAPE). Both are shares, not per cent.
    """
    rows = []
    for (predictor, fit), made in predictions.groupby(["predictor", "fit"], sort=False):
        made = made[np.isfinite(made["predicted"])]
        error = (made["predicted"] - made["observed"]).abs()
        defined = bool((made["observed"] > 0).all())
        rows.append(
            {
                "predictor": predictor,
                "fit": fit,
                "models": len(made),
                "outside": int((~made["inside"]).sum()),
                "mape": (error / made["observed"]).mean() if defined else np.nan,
                "depth_error": (error / made["layers"]).mean(),
            }
        )
    return pd.DataFrame(rows)
