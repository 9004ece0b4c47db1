"""What the tables say of one model layer by layer: components, spectra, sheaf, anisotropy.

Prompts are the units wherever a quantity was measured on each, layers where it is one of the
weights. A layer that is chosen for being extreme is chosen on one half of the prompts and read on
the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from tgn.constraints.associations import (
    Undecidable,
    correlation,
    correlation_interval,
    partial_correlation,
)
from tgn.constraints.tables import (
    FINAL,
    SINGLE,
    Chance,
    Found,
    Questions,
    by_block,
    layer_norms,
    share,
    turning_layer,
)
from tgn.probing.rank_statistics import cross_fitted

OVER_PROMPTS = "95 % bootstrap interval over prompts"
ANISOTROPY = {"": "anisotropy_without_first", "_with_first": "anisotropy_with_first"}


def questions(
    record: Mapping[str, Any],
    rows: pd.DataFrame,
    spectra: pd.DataFrame,
    sheaf: pd.DataFrame,
    turning: pd.DataFrame,
    *,
    chance: Chance,
) -> Questions:
    """The questions to the layers of one model; arguments as in
    :func:`tgn.constraints.within.questions`."""
    return {
        **_components(rows),
        **_spectral(rows, spectra),
        **_sheaf(sheaf, turning, record, chance),
        **_anisotropy(rows, chance),
    }


def _components(rows: pd.DataFrame) -> Questions:
    def medians(quantity: str) -> pd.Series:
        return by_block(rows, quantity).median()

    def over(quantity: str, above: bool, what: str) -> Found:
        gains = medians(quantity)
        hits = (gains > 1 if above else gains < 1).to_numpy(float)
        return share(hits, f"share of blocks whose {what} (median over prompts)", "blocks")

    def misleading() -> Found:
        component, block = medians("published_mlp"), medians(FINAL)
        both = pd.concat([component, block], axis=1, join="inner").to_numpy()
        return share(
            ((both[:, 0] > 1) != (both[:, 1] > 1)).astype(float),
            "share of blocks whose MLP's output over its normed input and whose own gain lie on "
            "different sides of 1 (medians over prompts)",
            "blocks",
        )

    return {
        "share_of_mlps_expanding": partial(
            over, "published_mlp", True, "MLP's output is larger than its input"
        ),
        "share_of_attentions_contracting": partial(
            over, "published_attention", False, "attention's output is smaller than its input"
        ),
        "share_of_mlps_misleading": misleading,
    }


def _spectral(rows: pd.DataFrame, spectra: pd.DataFrame) -> Questions:
    """Over the layers of one model: norms of value and output matrices against the block's gain."""

    def along(norm: Callable[[], pd.Series], what: str, at_depth: bool) -> Found:
        gain = np.log(by_block(rows, FINAL)).median()
        table = pd.concat([np.log(norm()), gain], axis=1, join="inner")
        x, y = table.to_numpy().T
        if at_depth:
            r = partial_correlation(x, y, table.index.to_numpy(float), rank=True)
        else:
            r = correlation(x, y, rank=True)
        held = ", depth held" if at_depth else ""
        return Found(
            correlation_interval(r, len(table), int(at_depth)),
            len(table),
            f"rank correlation over layers of {what} and the block's gain (median over prompts)"
            f"{held}; Fisher's 95 % interval, layers as units",
        )

    def ratio() -> pd.Series:
        return layer_norms(spectra, "spectral_v") / layer_norms(spectra, "spectral_o")

    product = partial(layer_norms, spectra, "spectral_ov", heads=True)
    made: dict[str, Callable[[], Found]] = {}
    for suffix, at_depth in (("", False), ("_at_depth", True)):
        made |= {
            f"spectral_ratio_over_layers{suffix}": partial(along, ratio, "|W_V| / |W_O|", at_depth),
            f"spectral_product_over_layers{suffix}": partial(
                along, product, "|W_O W_V| per head", at_depth
            ),
        }
    return made


def _sheaf(
    sheaf: pd.DataFrame, turning: pd.DataFrame, record: Mapping[str, Any], chance: Chance
) -> Questions:
    def curve(quantity: str) -> pd.DataFrame:
        return by_block(sheaf, quantity)

    def printed() -> Found:
        ratio = (curve("trace_zero").abs() / curve("trace")).mean(axis=1).to_numpy()
        return Found(
            chance.over_prompts(ratio),
            len(ratio),
            "size of the trace by the printed formula over that of the Laplacian; mean over blocks "
            f"and prompts, {OVER_PROMPTS}",
        )

    def contraction(after: bool | None) -> Found:
        table = curve("contraction")
        if after is None:
            values = cross_fitted(
                table.to_numpy(), lambda mean: int(mean.argmax()), lambda c, at: c[:, at]
            )
            where = "in the block where it is largest"
        else:
            at = turning_layer(turning)
            chosen = table.columns > at if after else table.columns < at
            if not chosen.any():
                raise Undecidable(f"no block {'after' if after else 'before'} L* = {at:g}")
            values = table.loc[:, chosen].mean(axis=1).to_numpy()
            where = f"in blocks {'after' if after else 'before'} the steepest trace"
        return Found(
            chance.over_prompts(values),
            len(values),
            f"norm of the restriction map over that of W_V, {where}; mean over prompts, "
            f"{OVER_PROMPTS}",
            note="equal to the mean square root of attention weights, which is at most 1",
        )

    def place() -> Found:
        own = turning[(turning["definition"] == "steepest_trace") & turning["status"].isin(SINGLE)]
        layers = own[own["prompt"].astype(str) != "mean"]["layer"].to_numpy(float)
        if not len(layers):
            turning_layer(turning)  # says why there is none
            raise Undecidable("the turning layer was not measured prompt by prompt")
        values = layers / float(record["layers"])
        return Found(
            chance.over_prompts(values, np.median),
            len(values),
            f"layer of the steepest trace over the number of layers; median over prompts, "
            f"{OVER_PROMPTS}",
        )

    return {
        "printed_trace_over_trace": printed,
        "contraction_highest": partial(contraction, None),
        "contraction_before_turning": partial(contraction, False),
        "contraction_after_turning": partial(contraction, True),
        "turning_share": place,
    }


def _anisotropy(rows: pd.DataFrame, chance: Chance) -> Questions:
    def step(quantity: str, words: str) -> Found:
        table = by_block(rows, quantity).to_numpy()
        if table.shape[1] < 2:
            raise Undecidable("one block has no step to the next")
        values = cross_fitted(
            np.diff(table, axis=1), lambda mean: int(mean.argmax()), lambda c, at: c[:, at]
        )
        return Found(
            chance.over_prompts(values),
            len(values),
            f"largest rise of anisotropy from one block's output to the next's, {words} the first "
            "token; step chosen on one half of the prompts and read on the other, mean over "
            f"prompts, {OVER_PROMPTS}",
        )

    return {
        f"anisotropy_step{suffix}": partial(step, quantity, "with" if suffix else "without")
        for suffix, quantity in ANISOTROPY.items()
    }
