"""Measured numbers: how an interval is made, what a record holds, how a file of them is kept.

A figure's compute step writes ``statistics.json``, a list of records with one number each: its
value, its interval, what it was measured on and whether that was real. The ledger of claims
(:mod:`tgn.claims`) is decided from these files alone.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from tgn.files import write_json

Evidence = Literal["real", "simulated"]
BootstrapMethod = Literal["percentile", "basic", "BCa"]
Units = npt.ArrayLike | tuple[npt.ArrayLike, ...]

_ID = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*(\.[a-z0-9]+(_[a-z0-9]+)*)+")


class Interval(NamedTuple):
    """A number and the two ends of its interval."""

    value: float
    low: float
    high: float


class Band(NamedTuple):
    """A curve and the pointwise ends of its intervals, arrays of one shape."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def bootstrap_interval(
    values: Units,
    statistic: Callable[..., Any] = np.mean,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    resamples: int = 2000,
    method: BootstrapMethod = "percentile",
) -> Interval:
    """Bootstrap interval of one number over independent units.

    Parameters
    ----------
    values
        One array whose axis 0 runs over the independent units (passages, samples, subjects), or a
        tuple of such arrays that describe the same units and are resampled together.
    statistic
        Called with the resampled arrays, one argument each; returns one number.
    rng
        The only source of randomness: the same generator state gives the same interval.
    method
        ``percentile``, ``basic`` or ``BCa``, as in :func:`scipy.stats.bootstrap`. A percentile
        interval of a biased statistic (a minimum, say) can miss the value itself; ``BCa``
        corrects for the bias but needs a statistic that varies smoothly.

    Raises
    ------
    ValueError
        As :func:`bootstrap_band`, or if the statistic is not a single number.

    References
    ----------
    Efron and Tibshirani, *An Introduction to the Bootstrap* (1993), chapters 13 and 14.

    Examples
    --------
    >>> bootstrap_interval([1.0, 1.0, 1.0], rng=np.random.default_rng(0))
    Interval(value=1.0, low=1.0, high=1.0)
    """
    band = bootstrap_band(
        values, statistic, rng=rng, level=level, resamples=resamples, method=method
    )
    if band.value.shape:
        raise ValueError(f"the statistic has shape {band.value.shape}, not a single number")
    return Interval(*(float(end) for end in band))


def bootstrap_band(
    values: Units,
    statistic: Callable[..., Any] = lambda units: np.mean(units, axis=0),
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    resamples: int = 2000,
    method: BootstrapMethod = "percentile",
) -> Band:
    """Pointwise bootstrap intervals of a curve, or of any array, over independent units.

    The arguments are those of :func:`bootstrap_interval`, except that the statistic may return
    an array of any shape; by default it is the mean over units.

    Raises
    ------
    ValueError
        If there are fewer than two units, paired arrays differ in length, the statistic of the
        sample or of a resample is not finite, ``BCa`` is undefined because the resamples are
        all alike, or scipy refuses the level, the number of resamples or the method.
    """
    from scipy.stats import bootstrap  # most of a second, which readers of a file need not wait

    arrays = [np.asarray(a) for a in (values if isinstance(values, tuple) else (values,))]
    lengths = {len(a) if a.ndim else 0 for a in arrays}
    if len(lengths) != 1:
        raise ValueError(f"paired arrays need one length along axis 0, not {sorted(lengths)}")
    units = lengths.pop()
    if units < 2:
        raise ValueError(f"an interval needs at least two units, and there are {units}")

    def of_rows(rows: np.ndarray, axis: int = -1) -> np.ndarray:
        # scipy resamples row numbers, so that paired arrays of any shape move together
        draws = [statistic(*(a[r] for a in arrays)) for r in rows.reshape(-1, rows.shape[-1])]
        stacked = np.stack([np.asarray(draw, dtype=float) for draw in draws], axis=-1)
        if not np.isfinite(stacked).all():
            raise ValueError("the statistic of the sample or of a resample is not finite")
        return stacked.reshape(stacked.shape[:-1] + rows.shape[:-1])

    every_row = np.arange(units)
    low, high = bootstrap(
        (every_row,),
        of_rows,
        vectorized=True,
        confidence_level=level,
        n_resamples=resamples,
        method=method,
        rng=rng,
    ).confidence_interval
    if not np.isfinite([low, high]).all():
        raise ValueError(f"the {method} interval is undefined: the resamples are all alike")
    return Band(of_rows(every_row), np.asarray(low), np.asarray(high))


def student_interval(values: npt.ArrayLike) -> Interval:
    """Mean of a few independent numbers, shape (n,), and Student's 95 % interval.

    Raises
    ------
    ValueError
        As :func:`student_band`.
    """
    return Interval(*(float(end) for end in student_band(values)))


def student_band(values: npt.ArrayLike) -> Band:
    """Mean over axis 0 and Student's 95 % intervals, for units too few to be resampled.

    A percentile bootstrap of the mean of four units is half as wide as it ought to be.

    Raises
    ------
    ValueError
        If there are fewer than two.

    Examples
    --------
    >>> [float(end.round(3)) for end in student_band([1.0, 3.0])]
    [2.0, -10.706, 14.706]
    """
    from scipy.stats import t as student  # as above

    units = np.asarray(values, dtype=float)
    n = len(units)
    if n < 2:
        raise ValueError(f"an interval needs at least two draws, and there are {n}")
    mean = units.mean(axis=0)
    margin = student.ppf(0.975, n - 1) * units.std(axis=0, ddof=1) / math.sqrt(n)
    return Band(mean, mean - margin, mean + margin)


def share_interval(hits: npt.ArrayLike) -> Interval:
    """Share of hits, shape (n,) of zeros and ones, and Wilson's 95 % interval.

    Unlike a bootstrap it does not shrink to nothing where all are alike.

    References
    ----------
    Wilson, "Probable inference, the law of succession, and statistical inference", *Journal of the
    American Statistical Association* 22 (1927) 209.
    """
    from statsmodels.stats.proportion import proportion_confint  # as above

    found = np.asarray(hits, dtype=float)
    low, high = proportion_confint(found.sum(), len(found), method="wilson")
    value = float(found.mean())
    return Interval(value, min(float(low), value), max(float(high), value))  # but for rounding


def difference(first: Interval, second: Interval) -> Interval:
    """Interval of ``first - second`` for two independent estimates, from their own intervals.

    The distances from the values to the ends add up in squares. For estimates on the same units
    that go up and down together it is wider than the truth: a paired difference, resampled
    jointly, is then the sharper statistic.

    References
    ----------
    Zou and Donner, "Construction of confidence limits about effect measures", *Statistics in
    Medicine* 27 (2008) 1693.

    Examples
    --------
    >>> difference(Interval(10, 7, 13), Interval(6, 2, 10))
    Interval(value=4, low=-1.0, high=9.0)
    """
    gap = first.value - second.value
    return Interval(
        gap,
        gap - math.hypot(first.value - first.low, second.high - second.value),
        gap + math.hypot(first.high - first.value, second.value - second.low),
    )


def ends(number: Interval | float) -> dict[str, Any]:
    """A number, with its interval or without one, in the fields of :class:`Statistic`.

    >>> ends(Interval(2.0, 1.0, 4.0))
    {'value': 2.0, 'ci_low': 1.0, 'ci_high': 4.0}
    >>> ends(2.0)
    {'value': 2.0, 'ci_low': None, 'ci_high': None}
    """
    if isinstance(number, Interval):
        return {"value": number.value, "ci_low": number.low, "ci_high": number.high}
    return {"value": number, "ci_low": None, "ci_high": None}


def aicc(squares: float, n: int, parameters: int) -> float:
    """Akaike's criterion of a least-squares fit, corrected for small samples; less is better.

    Parameters
    ----------
    squares
        Sum of squared residuals of the n points.
    parameters
        Of the fit; the error's variance is counted besides.

    Returns
    -------
    float
        Infinite where the points are too few for the correction.

    Notes
    -----
    Hurvich and Tsai 1989.
    """
    k = parameters + 1
    correction = 2 * k * (k + 1) / (n - k - 1) if n > k + 1 else math.inf
    return n * math.log(max(squares, 1e-300) / n) + 2 * k + correction


@dataclass(frozen=True)
class Statistic:
    """One measured number.

    Parameters
    ----------
    id
        Stable and dotted, the figure first: ``fig14.rank_awake_minus_deep``.
    value, ci_low, ci_high
        The number and its interval; both ends are None where there is none.
    n
        How many independent units it rests on; ``method`` says what they are.
    unit
        Unit of the value, such as ``nats``; empty for a pure number.
    method
        How the value and its interval were made, in a few words.
    model
        What was measured, such as ``smollm2-135m`` or a data set.
    evidence
        ``real`` or ``simulated``.
    controls
        Names of the controls that the number is already a contrast with.
    note
        A remark for the reader. An interval that misses its own value, as a percentile
        interval of a biased statistic can, must be explained here.

    Raises
    ------
    ValueError
        If a field is of the wrong kind, a number is not finite, only one end of the interval is
        given, the ends are crossed, or the interval misses the value and no note says why.
    """

    id: str
    value: float
    ci_low: float | None
    ci_high: float | None
    n: int
    unit: str
    method: str
    model: str
    evidence: Evidence
    controls: Sequence[str] = ()
    note: str = ""

    def __post_init__(self) -> None:
        for field in ("id", "unit", "method", "model", "evidence", "note"):
            if not isinstance(getattr(self, field), str):
                raise self._refused(f"{field} is {getattr(self, field)!r}, not text")
        if not _ID.fullmatch(self.id):
            raise self._refused("an id looks like fig14.rank_awake_minus_deep")
        if not (self.method and self.model):
            raise self._refused("method and model must be named")
        if self.evidence not in get_args(Evidence):
            raise self._refused(f"evidence is {self.evidence!r}, not one of {get_args(Evidence)}")
        if isinstance(self.controls, str) or not all(isinstance(c, str) for c in self.controls):
            raise self._refused("controls is a list of names")
        if isinstance(self.n, bool) or not isinstance(self.n, Integral) or self.n < 1:
            raise self._refused(f"n is {self.n!r}, not a count of units")
        object.__setattr__(self, "controls", tuple(self.controls))
        object.__setattr__(self, "n", int(self.n))
        for field in ("value", "ci_low", "ci_high"):
            number = getattr(self, field)
            if number is None and field != "value":
                continue
            if (
                isinstance(number, bool)
                or not isinstance(number, Real)
                or not math.isfinite(number)
            ):
                raise self._refused(f"{field} is {number!r}, not a finite number")
            object.__setattr__(self, field, float(number))
        self._check_interval()

    def _check_interval(self) -> None:
        if self.ci_low is None and self.ci_high is None:
            return
        if self.ci_low is None or self.ci_high is None:
            raise self._refused("the interval has one end only")
        if self.ci_low > self.ci_high:
            raise self._refused(f"the interval {self.ci_low} to {self.ci_high} is crossed")
        if not self.ci_low <= self.value <= self.ci_high and not self.note:
            raise self._refused(
                f"the interval {self.ci_low} to {self.ci_high} misses the value {self.value}; "
                "say why in note, or use an interval that corrects for bias"
            )

    def _refused(self, why: str) -> ValueError:
        return ValueError(f"statistic {self.id!r}: {why}")

    @property
    def interval(self) -> Interval | None:
        """The value with its interval, or None where there is none."""
        if self.ci_low is None or self.ci_high is None:
            return None
        return Interval(self.value, self.ci_low, self.ci_high)


def write_statistics(path: str | Path, statistics: Iterable[Statistic]) -> None:
    """Write records sorted by id and model, so that the same numbers make the same bytes.

    Raises
    ------
    ValueError
        If two records share id and model.
    """
    ordered = sorted(statistics, key=lambda record: (record.id, record.model))
    _refuse_twins(ordered)
    write_json(path, [asdict(record) for record in ordered])


def read_statistics(path: str | Path) -> list[Statistic]:
    """Read and check a file of statistics.

    :class:`Statistic` refuses whatever ``config/statistics.schema.json`` refuses, the contract
    for programs other than this one.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If it is not a list of valid records, or two share id and model.
    """
    rows = json.loads(Path(path).read_text(encoding="utf-8"))
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path} is not a list of statistics")
    try:
        records = [Statistic(**row) for row in rows]
        _refuse_twins(records)
    except (TypeError, ValueError) as error:
        remedy = "if another revision made it, delete it and run again"
        raise ValueError(f"{path}: {error}; {remedy}") from error
    return records


def _refuse_twins(records: Sequence[Statistic]) -> None:
    counts = Counter((record.id, record.model) for record in records)
    twins = [f"{id} on {model}" for (id, model), count in counts.items() if count > 1]
    if twins:
        raise ValueError(f"recorded more than once: {', '.join(twins)}")
