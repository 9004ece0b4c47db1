"""What the method can do, judged where the truth is known: the virtual cohort of figure 14.

The truth is the rank of the clean simulated signals, before they are painted on an atlas, moved,
drowned in noise and cleaned again; the same definition, over the same number of volumes.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from tgn.fmri.bids import STATES
from tgn.fmri.records import LOG, Choice, Record, mean, mean_difference, mean_interval, share
from tgn.fmri.states import repeated_measures_correlation, wide
from tgn.statistics import ends

TRUTH = "truth"  # arm of the clean simulated signals
AWAKE, _, DEEP, _ = STATES
# Factors that move the estimate, and which end of their levels is the undisturbed one.
UNDISTURBED = {"length": "most", "parcels": "most", "motion": "least", "planted_motion": "least"}


def method_statistics(
    ranks: pd.DataFrame, choice: Choice, *, rng: np.random.Generator, resamples: int
) -> list[Record]:
    """Does the pipeline recover the order of the true ranks, and how far off is it?

    For the arm that decides, and with its name appended for every other one; on the cohort's own
    (first) atlas, whatever that of the subjects shown.

    Raises
    ------
    ValueError
        If there are ranks but no truth among them.
    """
    if ranks.empty:
        return []
    choice = choice._replace(atlas=str(ranks["atlas"].iloc[0]))
    known = choice.of(ranks, arm=TRUTH)
    if known.empty:
        raise ValueError(f"the virtual cohort's ranks have no arm {TRUTH!r} under {choice}")
    true = wide(known, STATES)
    found = [
        mean_difference(
            "true_log_rank_awake_minus_deep", np.log(true[AWAKE] / true[DEEP]), unit=LOG, rng=rng
        )
    ]
    others = sorted(set(ranks["arm"]) - {TRUTH, choice.arm})
    for arm in (choice.arm, *others):
        measured = wide(choice.of(ranks, arm=arm), STATES)
        both = measured.index.intersection(true.index)
        suffix = "" if arm == choice.arm else f"_{arm}"
        found += agreement_statistics(
            measured.loc[both], true.loc[both], suffix, rng=rng, resamples=resamples
        )
    return found


def agreement_statistics(
    measured: pd.DataFrame,
    true: pd.DataFrame,
    suffix: str,
    *,
    rng: np.random.Generator,
    resamples: int,
) -> list[Record]:
    """Measured against true ranks of the same subjects and states."""
    common: dict[str, Any] = {"rng": rng, "resamples": resamples}
    found, truth = measured.to_numpy(), true.to_numpy()
    follows = repeated_measures_correlation(truth, found, **common)
    ratio = pd.DataFrame(np.log(found / truth), columns=measured.columns)
    return [
        share(
            f"order_recovered_share{suffix}",
            (measured[AWAKE] > measured[DEEP]) == (true[AWAKE] > true[DEEP]),
            note="awake against deep, the sign of the true difference",
        ),
        mean(
            f"pairs_in_order{suffix}", concordance(found, truth), unit="",
            note="share of the pairs of states in their true order; 0.5 by chance", **common,
        ),
        {
            "id": f"fig14.truth_correlation{suffix}",
            **ends(follows.interval or follows.value),
            "n": len(measured),
            "unit": "",
            "method": "repeated-measures correlation of measured with true rank, four states; BCa "
            "bootstrap over subjects",
            "note": f"p = {follows.p:.2g}",
        },
        mean_difference(f"log_rank_bias{suffix}", ratio.mean(axis=1), unit=LOG, rng=rng),
        mean_difference(
            f"contrast_bias{suffix}", ratio[AWAKE] - ratio[DEEP], unit=LOG, rng=rng,
            note="measured log ratio of awake to deep, less the true one",
        ),
    ]  # fmt: skip


def concordance(measured: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Share of the pairs of columns that stand in the same order in both, row by row.

    Examples
    --------
    >>> concordance(np.array([[1.0, 2.0, 3.0]]), np.array([[10.0, 30.0, 20.0]])).round(2)
    array([0.67])
    """
    pairs = list(combinations(range(measured.shape[1]), 2))
    alike = [
        np.sign(measured[:, a] - measured[:, b]) == np.sign(true[:, a] - true[:, b])
        for a, b in pairs
    ]
    return np.mean(alike, axis=0)


# --- what moves the estimate


def bias_rows(bias: pd.DataFrame, definition: str) -> pd.DataFrame:
    """Ranks under this definition by factor and level, of subjects with every level and state.

    Raises
    ------
    ValueError
        If there are none, or a factor is unknown.
    """
    rows = bias[bias["definition"] == definition]
    unknown = set(rows["factor"]) - set(UNDISTURBED)
    if rows.empty or unknown:
        raise ValueError(f"no rank of {definition} to see a bias in, or factors {sorted(unknown)}")
    return rows


def bias_means(rows: pd.DataFrame, *, rng: np.random.Generator, resamples: int) -> pd.DataFrame:
    """Mean rank and truth by factor, level and state, and the contrast of awake with deep.

    Returns
    -------
    table with columns factor, level, unit, state, quantity (``rank``, ``truth``; ``log_contrast``
    with state ``awake - deep``), value, low, high, n
    """
    found = []
    keys = ["factor", "level", "unit"]
    for labels, part in rows.groupby(keys) if len(rows) else ():
        of = {
            quantity: part.pivot(index="subject", columns="state", values=quantity)
            for quantity in ("rank", "truth")
        }
        series = {
            (state, quantity): table[state].dropna()
            for quantity, table in of.items()
            for state in table
        }
        if {AWAKE, DEEP} <= set(of["rank"]):
            ratio = np.log(of["rank"][AWAKE] / of["rank"][DEEP])
            series[(f"{AWAKE} - {DEEP}", "log_contrast")] = ratio.dropna()
        for (state, quantity), values in series.items():
            if values.empty:
                continue
            array = values.to_numpy(dtype=float)
            interval = mean_interval(array, rng=rng, resamples=resamples)
            value, low, high = interval or (float(array.mean()), np.nan, np.nan)
            found.append(
                dict(zip(keys, labels, strict=True))
                | {"state": state, "quantity": quantity}
                | {"value": value, "low": low, "high": high, "n": len(array)}
            )
    columns = [*keys, "state", "quantity", "value", "low", "high", "n"]
    return pd.DataFrame(found, columns=columns)


def bias_statistics(rows: pd.DataFrame, *, rng: np.random.Generator) -> list[Record]:
    """Log rank at the most disturbed level of each factor, less that at the undisturbed one.

    Once for the rank, as a mean over states, and once for its contrast of awake with deep, which
    is what a study reads off.
    """
    found = []
    for factor, part in rows.groupby("factor") if len(rows) else ():
        levels = sorted(part["level"].unique(), reverse=UNDISTURBED[str(factor)] == "most")
        unit = part["unit"].iloc[0]
        still, moved = (_log_ranks(part, level) for level in (levels[0], levels[-1]))
        shift = (moved - still).dropna()
        note = f"{levels[-1]:g} against {levels[0]:g} {unit}"
        common: dict[str, Any] = {"unit": LOG, "rng": rng, "note": note}
        found.append(mean_difference(f"bias_{factor}", shift.mean(axis=1), **common))
        if {AWAKE, DEEP} <= set(shift):
            contrast = shift[AWAKE] - shift[DEEP]
            found.append(mean_difference(f"bias_{factor}_contrast", contrast, **common))
    return found


def _log_ranks(part: pd.DataFrame, level: Any) -> pd.DataFrame:
    rows = part[part["level"] == level]
    return np.log(rows.pivot(index="subject", columns="state", values="rank"))
