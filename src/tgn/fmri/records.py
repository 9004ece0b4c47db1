"""Records of statistics as figure 14 makes them: means over subjects, shares of subjects."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from tgn.fmri.states import EXHAUSTIVE, sign_flip_interval, sign_flip_test
from tgn.statistics import Interval, bootstrap_interval, ends

Record = dict[str, Any]  # the fields of tgn.statistics.Statistic but for model and evidence

DIRECTIONS = "directions"
LOG = "nats"  # logarithms of ratios of ranks
FEW = "too few units for an interval"


class Choice(NamedTuple):
    """Which of the measured ranks decide; window 0 is the whole run."""

    arm: str
    atlas: str
    definition: str
    window: int

    def of(self, rows: pd.DataFrame, **changed: Any) -> pd.DataFrame:
        """Rows of this choice, or of one that differs from it."""
        wanted = self._replace(**changed)._asdict()
        same = [rows[name] == value for name, value in wanted.items()]
        return rows[np.logical_and.reduce(same)]


def mean_difference(
    id: str,
    differences: ArrayLike,
    *,
    unit: str,
    rng: np.random.Generator,
    level: float = 0.95,
    units: str = "subjects",
    note: str = "",
    **fields: Any,
) -> Record:
    """Mean of paired differences with the interval, and in the note the p, of their sign flips."""
    values = np.asarray(differences, dtype=float)
    test = sign_flip_test(values, rng=rng)
    interval = sign_flip_interval(values, level=level, rng=rng)
    tried = "all" if len(values) <= EXHAUSTIVE else "random"
    said = [note, f"p = {test.p:.2g}", "" if interval else FEW]
    return {
        "id": f"fig14.{id}",
        **ends(interval or test.value),
        "n": len(values),
        "unit": unit,
        "method": f"mean over {units}; {100 * level:g} % interval by inverting the sign-flip test "
        f"({tried} patterns)",
        "note": "; ".join(part for part in said if part),
        **fields,
    }


def mean(
    id: str,
    values: ArrayLike,
    *,
    unit: str,
    rng: np.random.Generator,
    resamples: int,
    units: str = "subjects",
    **fields: Any,
) -> Record:
    """Mean over units with its bootstrap interval."""
    array = np.asarray(values, dtype=float)
    interval = mean_interval(array, rng=rng, resamples=resamples)
    return {
        "id": f"fig14.{id}",
        **ends(interval or float(array.mean())),
        "n": len(array),
        "unit": unit,
        "method": f"mean over {units}; percentile bootstrap over them",
        **({} if interval else {"note": FEW}),
        **fields,
    }


def mean_interval(
    values: np.ndarray, *, rng: np.random.Generator, resamples: int
) -> Interval | None:
    """Percentile bootstrap interval of a mean, or None for fewer than three units."""
    if len(values) < 3:
        return None
    return bootstrap_interval(values, rng=rng, resamples=resamples)


def share(id: str, found: ArrayLike, **fields: Any) -> Record:
    """Share of units in which something was found, with its exact interval.

    References
    ----------
    Clopper and Pearson, *Biometrika* 26 (1934) 404.
    """
    from scipy.stats import binomtest

    hits = np.asarray(found, dtype=bool)
    exact = binomtest(int(hits.sum()), len(hits)).proportion_ci()
    return {
        "id": f"fig14.{id}",
        **ends(Interval(float(hits.mean()), float(exact.low), float(exact.high))),
        "n": len(hits),
        "unit": "",
        "method": "share of subjects; Clopper-Pearson interval",
        **fields,
    }
