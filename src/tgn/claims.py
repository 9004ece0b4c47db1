"""The ledger of published claims, and the six decisions that turn statistics into verdicts.

A claim names the statistics that decide it and one of the decisions below; its verdict is
computed from their intervals and never typed. Every decision is a pure function of statistics
and parameters, and all share one logic: an interval wholly on the claimed side reproduces, one
wholly on the contrary side does not, and anything else is inconclusive. Of several statistics
all must reproduce, and one contrary statistic is enough to refute.
"""

from __future__ import annotations

import inspect
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from tgn.config import check, read_yaml
from tgn.statistics import Interval, Statistic, difference

Verdict = Literal["reproduced", "not reproduced", "inconclusive"]
NOT_TESTABLE = "not testable at this scale"
SCALES = ("smoke", "laptop", "paper")  # smallest first
SYSTEMS = {
    "tgn": "Thermodynamic Gated Networks",
    "thermodynamic-scaling": "Thermodynamic scaling",
    "ngt": "Newton Gravity Transformer",
    "constraints": "Thermodynamic constraints in transformer architectures (Paper 3)",
}

Side = Literal["above", "below", "either"]
Slope = Literal["rising", "falling", "flat"]
Each = float | Sequence[float]
Controls = Mapping[str, Sequence[Statistic]]


@dataclass(frozen=True)
class Decision:
    """A verdict, why in one sentence, and the control that decided it, if there was one."""

    verdict: Verdict
    reason: str
    control: str | None = None


# The six decisions. A numeric or named parameter is one value for all statistics, or a list with
# one value for each. `controls` holds, by statistic id, what must not show the same effect.


def interval_excludes(
    statistics: Sequence[Statistic],
    controls: Controls | None = None,
    *,
    side: Side | Sequence[Side],
    bound: Each = 0.0,
    smallest_effect: Each = 0.0,
) -> Decision:
    """Each statistic lies above a bound, below it, or on either side of it.

    Reproduced if the interval lies wholly beyond ``bound`` on the claimed side. Not reproduced
    if it rules out an effect of at least ``smallest_effect``: for ``above`` it ends at or below
    ``bound + smallest_effect``, for ``below`` it begins at or above ``bound - smallest_effect``,
    for ``either`` it lies between the two. An effect that is there but negligible, so that both
    hold, is not reproduced.

    Raises
    ------
    ValueError
        If there is no statistic, a list of parameters has the wrong length, the side is unknown,
        or the smallest effect is negative.
    """
    bounds, sides, effects = _each(statistics, bound=bound, side=side, effect=smallest_effect)
    rules = [_beyond(*parameters) for parameters in zip(bounds, sides, effects, strict=True)]
    return _decide(statistics, rules, controls)


def equivalence(statistics: Sequence[Statistic], *, target: Each, margin: Each) -> Decision:
    """Each statistic equals a target to within a margin.

    Reproduced if the interval lies within ``target ± margin``, not reproduced if it lies wholly
    outside. With a 95 % interval this is stricter than two one-sided tests at 5 %, which use
    90 % (Schuirmann, *Journal of Pharmacokinetics and Biopharmaceutics* 15 (1987) 657).

    Raises
    ------
    ValueError
        If there is no statistic, a list of parameters has the wrong length, or the margin is
        not positive.
    """
    targets, margins = _each(statistics, target=target, margin=margin)
    rules = [_within(*parameters) for parameters in zip(targets, margins, strict=True)]
    return _decide(statistics, rules)


def ordering(
    statistics: Sequence[Statistic],
    *,
    direction: Literal["increasing", "decreasing"],
    paired: bool = False,
) -> Decision:
    """The statistics, in the order given, increase or decrease.

    Neighbours are compared through the interval of their difference
    (:func:`tgn.statistics.difference`). With ``paired`` the statistics are themselves those
    differences, each later one minus the one before, made on the same units. Reproduced if every
    difference lies wholly on the claimed side of zero, not reproduced if one of them lies wholly
    on the other.

    Raises
    ------
    ValueError
        If there are fewer than two statistics (one, if paired), or the direction is unknown.
    """
    if direction not in ("increasing", "decreasing"):
        raise ValueError(f"direction is {direction!r}, not 'increasing' or 'decreasing'")
    rule = _beyond(0.0, "above" if direction == "increasing" else "below", 0.0)
    if paired:
        return _decide(statistics, [rule] * len(statistics))
    if len(statistics) < 2:
        raise ValueError("an order needs at least two statistics")
    return _combined([_step(rule, *pair) for pair in pairwise(statistics)])


def trend(
    statistics: Sequence[Statistic],
    controls: Controls | None = None,
    *,
    direction: Slope | Sequence[Slope],
    negligible: Each = 0.0,
) -> Decision:
    """Each statistic is a slope, and its interval shows it rising, falling or flat.

    ``negligible`` is the size below which a slope does not count. A rising trend is reproduced
    if the interval lies above zero and not reproduced if it ends at or below ``negligible``;
    a falling one mirrors it; a flat one is :func:`equivalence` to zero within ``negligible``.

    Raises
    ------
    ValueError
        If there is no statistic, a list of parameters has the wrong length, the direction is
        unknown, ``negligible`` is negative (or zero, for flat), or a flat trend has controls.
    """
    directions, sizes = _each(statistics, direction=direction, negligible=negligible)
    rules = [_slope(*parameters) for parameters in zip(directions, sizes, strict=True)]
    return _decide(statistics, rules, controls)


def model_comparison(
    statistics: Sequence[Statistic],
    controls: Controls | None = None,
    *,
    measure: Literal["aic_difference", "log_evidence_ratio"] = "aic_difference",
    least_ratio: Each = 20.0,
    claimed: Literal["positive", "negative"] = "positive",
) -> Decision:
    """Each statistic compares the claimed model with a rival, positive for the claimed one.

    Where the claim is the rival of another one, the same statistic serves it with ``claimed``
    negative. An ``aic_difference`` D (rival minus claimed) is an evidence ratio of exp(D / 2); a
    ``log_evidence_ratio`` is its natural logarithm. Reproduced if the ratio is at least
    ``least_ratio``, not reproduced if the rival is ahead by as much. A statistic with an interval
    must have all of it there; one without is taken as it stands, since the ratio itself weighs
    the evidence.

    Raises
    ------
    ValueError
        If there is no statistic, a list of parameters has the wrong length, the measure or the
        claimed sign is unknown, or the least ratio is not above 1.

    References
    ----------
    Burnham and Anderson, *Model Selection and Multimodel Inference* (2002), section 2.10.
    """
    per_log = {"aic_difference": 2.0, "log_evidence_ratio": 1.0}
    if measure not in per_log:
        raise ValueError(f"measure is {measure!r}, not one of {list(per_log)}")
    if claimed not in ("positive", "negative"):
        raise ValueError(f"claimed is {claimed!r}, not 'positive' or 'negative'")
    (ratios,) = _each(statistics, least_ratio=least_ratio)
    towards = _mirrored if claimed == "negative" else _as_it_is
    rules = [_favoured(ratio, per_log[measure], towards) for ratio in ratios]
    return _decide(statistics, rules, controls)


def presence(
    statistics: Sequence[Statistic],
    controls: Controls | None = None,
    *,
    least_share: Each,
) -> Decision:
    """Each statistic is a share of cases in which something was found, at least so large.

    Reproduced if the interval begins at ``least_share`` or above, not reproduced if it ends
    below.

    Raises
    ------
    ValueError
        If there is no statistic, a list of parameters has the wrong length, or a share lies
        outside 0 to 1.
    """
    (shares,) = _each(statistics, least_share=least_share)
    for share in [*shares, *(statistic.value for statistic in statistics)]:
        if not 0 <= share <= 1:
            raise ValueError(f"a share lies between 0 and 1, and {share:.4g} does not")
    return _decide(statistics, [_at_least(share) for share in shares], controls)


DECISIONS: dict[str, Callable[..., Decision]] = {
    decision.__name__: decision
    for decision in (interval_excludes, equivalence, ordering, trend, model_comparison, presence)
}


# What the decisions are made of: a rule for one interval, the test against its controls, the sum.


@dataclass(frozen=True)
class _Rule:
    """When one interval shows the claim or refutes it, and how to say so.

    ``strength`` turns the interval so that more of the claimed effect is a larger number; a rule
    without it knows no more or less, and takes no controls.
    """

    shown: Callable[[Interval], bool]
    refuted: Callable[[Interval], bool]
    claimed: str
    contrary: str
    strength: Callable[[Interval], Interval] | None = None
    needs_interval: bool = True

    def of(self, statistic: Statistic) -> Decision:
        names = ", ".join(statistic.controls) or None
        interval = statistic.interval
        if interval is None and not self.needs_interval:
            interval = Interval(statistic.value, statistic.value, statistic.value)
        return self.judge(_described(statistic), interval, names)

    def judge(self, what: str, interval: Interval | None, control: str | None = None) -> Decision:
        if interval is None:
            return Decision("inconclusive", f"{what}, which has no interval", control)
        if self.refuted(interval):
            return Decision("not reproduced", f"{what}, which is {self.contrary}", control)
        if self.shown(interval):
            return Decision("reproduced", f"{what}, which is {self.claimed}", control)
        return Decision(
            "inconclusive", f"{what}, which leaves open whether it is {self.claimed}", control
        )


def _mirrored(x: Interval) -> Interval:
    return Interval(-x.value, -x.high, -x.low)


def _as_it_is(x: Interval) -> Interval:
    return x


def _beyond(bound: float, side: str, effect: float) -> _Rule:
    if effect < 0:
        raise ValueError(f"the smallest effect is a size, and {effect:.4g} is negative")
    by = f" by more than {effect:.4g}" if effect else ""
    if side == "above":
        return _Rule(
            shown=lambda x: x.low > bound,
            refuted=lambda x: x.high <= bound + effect,
            claimed=f"above {bound:.4g}",
            contrary=f"not above {bound:.4g}{by}",
            strength=lambda x: x,
        )
    if side == "below":
        return _Rule(
            shown=lambda x: x.high < bound,
            refuted=lambda x: x.low >= bound - effect,
            claimed=f"below {bound:.4g}",
            contrary=f"not below {bound:.4g}{by}",
            strength=_mirrored,
        )
    if side == "either":
        return _Rule(
            shown=lambda x: x.low > bound or x.high < bound,
            refuted=lambda x: bound - effect <= x.low and x.high <= bound + effect,
            claimed=f"different from {bound:.4g}",
            contrary=f"not different from {bound:.4g}{by}",
            strength=lambda x: _distance(x, bound),
        )
    raise ValueError(f"side is {side!r}, not 'above', 'below' or 'either'")


def _distance(x: Interval, bound: float) -> Interval:
    shifted = Interval(*(end - bound for end in x))
    return shifted if shifted.value >= 0 else _mirrored(shifted)


def _within(target: float, margin: float) -> _Rule:
    if margin <= 0:
        raise ValueError(f"the margin must be positive, and is {margin:.4g}")
    return _Rule(
        shown=lambda x: target - margin <= x.low and x.high <= target + margin,
        refuted=lambda x: x.low > target + margin or x.high < target - margin,
        claimed=f"within {margin:.4g} of {target:.4g}",
        contrary=f"not within {margin:.4g} of {target:.4g}",
    )


def _slope(direction: str, negligible: float) -> _Rule:
    sides = {"rising": "above", "falling": "below"}
    if direction == "flat":
        return _within(0.0, negligible)
    if direction not in sides:
        raise ValueError(f"direction is {direction!r}, not 'rising', 'falling' or 'flat'")
    return _beyond(0.0, sides[direction], negligible)


def _favoured(ratio: float, per_log: float, towards: Callable[[Interval], Interval]) -> _Rule:
    if ratio <= 1:
        raise ValueError(f"the least evidence ratio must be above 1, and is {ratio:.4g}")
    enough = per_log * math.log(ratio)
    return _Rule(
        shown=lambda x: towards(x).low >= enough,
        refuted=lambda x: towards(x).high <= -enough,
        claimed=f"at least {ratio:.4g} to 1 for the claimed model",
        contrary=f"at least {ratio:.4g} to 1 against the claimed model",
        strength=towards,
        needs_interval=False,
    )


def _at_least(share: float) -> _Rule:
    return _Rule(
        shown=lambda x: x.low >= share,
        refuted=lambda x: x.high < share,
        claimed=f"at least {share:.4g}",
        contrary=f"less than {share:.4g}",
        strength=lambda x: x,
    )


def _step(rule: _Rule, before: Statistic, after: Statistic) -> Decision:
    names = f"{after.id} minus {before.id}"
    if before.interval is None or after.interval is None:
        return rule.judge(f"{names} is {after.value - before.value:.4g}", None)
    gap = difference(after.interval, before.interval)
    return rule.judge(f"{names} is {quantity(*gap, after.unit)}", gap)


def _decide(
    statistics: Sequence[Statistic], rules: Sequence[_Rule], controls: Controls | None = None
) -> Decision:
    if not statistics:
        raise ValueError("a decision needs at least one statistic")
    controls = controls or {}
    return _combined(
        [
            _against(rule, statistic, controls.get(statistic.id, ()))
            for rule, statistic in zip(rules, statistics, strict=True)
        ]
    )


def _against(rule: _Rule, statistic: Statistic, controls: Sequence[Statistic]) -> Decision:
    """Judge one statistic, and what it shows against each of its controls."""
    decision = rule.of(statistic)
    if not controls:
        return decision
    if rule.strength is None:
        raise ValueError(f"being {rule.claimed} has no strength to compare with a control")
    if decision.verdict != "reproduced":
        return decision
    held = _combined([_stronger(rule, statistic, control) for control in controls])
    return Decision(held.verdict, decision.reason + held.reason, held.control)


def _stronger(rule: _Rule, statistic: Statistic, control: Statistic) -> Decision:
    """Whether the effect exceeds that of a control, by the interval of their difference.

    A difference between what is significant and what is not need not be significant itself
    (Gelman and Stern, *The American Statistician* 60 (2006) 328), so that the difference decides
    and not the verdict on the control alone.
    """
    assert rule.strength is not None
    what = _described(control)
    if statistic.interval is None or control.interval is None:
        return Decision(
            "inconclusive",
            f", but without intervals it cannot be held against its control: {what}",
            control.id,
        )
    gap = difference(rule.strength(statistic.interval), rule.strength(control.interval))
    if gap.low > 0:
        return Decision("reproduced", f", clearly more than in its control: {what}", control.id)
    if gap.high <= 0 or (gap.value <= 0 and rule.of(control).verdict == "reproduced"):
        return Decision("not reproduced", f", but its control shows as much: {what}", control.id)
    return Decision(
        "inconclusive", f", but not clearly more than in its control: {what}", control.id
    )


def _combined(decisions: Sequence[Decision]) -> Decision:
    """All must reproduce; one refutation refutes; else the undecided ones decide."""
    found = {decision.verdict for decision in decisions}
    order: tuple[Verdict, ...] = ("not reproduced", "inconclusive", "reproduced")
    verdict = next(v for v in order if v in found)
    deciding = [decision for decision in decisions if decision.verdict == verdict]
    named = dict.fromkeys(d.control for d in deciding if d.control is not None)
    return Decision(verdict, "; ".join(d.reason for d in deciding), ", ".join(named) or None)


def _described(statistic: Statistic) -> str:
    against = f", against {', '.join(statistic.controls)}" if statistic.controls else ""
    number = quantity(statistic.value, statistic.ci_low, statistic.ci_high, statistic.unit)
    return f"{statistic.id} is {number} (n = {statistic.n}{against})"


def quantity(value: float, low: float | None, high: float | None, unit: str) -> str:
    """A number with its unit and interval, as verdicts write it.

    >>> quantity(0.25, 0.125, 0.5, "nats")
    '0.25 nats [0.125, 0.5]'
    """
    number = f"{value:.4g} {unit}".rstrip()
    return number if low is None else f"{number} [{low:.4g}, {high:.4g}]"


def named(row: Mapping[str, Any]) -> str:
    """A statistic of a claim's record for readers: its name and its number.

    Of a logarithm the number it is the logarithm of stands beside it.

    >>> named({"id": "fig8.log_rank", "value": 0.0, "ci_low": None, "ci_high": None,
    ...        "unit": "nats", "evidence": "real"})
    'log rank: 0 nats = ln 1'
    """
    name = row["id"].partition(".")[2].replace(".", " ").replace("_", " ")
    value, low, high, unit = (row[key] for key in ("value", "ci_low", "ci_high", "unit"))
    said = quantity(value, low, high, unit)
    if unit == "nats" or "log temperature" in name:
        low, high = (None if end is None else math.exp(end) for end in (low, high))
        said += f" = ln {quantity(math.exp(value), low, high, '')}"
    simulated = " (simulated)" if row["evidence"] == "simulated" else ""
    return f"{name}: {said}{simulated}"


def in_words(row: Mapping[str, Any]) -> str:
    """A statistic of a claim's record for readers: its name, its number, and what it is."""
    return f"{named(row)}; {row['method'].partition(';')[0]}"


def _each(statistics: Sequence[Statistic], **parameters: Any) -> list[list[Any]]:
    """Every parameter as a list with one entry for each statistic."""
    count = len(statistics)
    for name, value in parameters.items():
        if isinstance(value, list | tuple) and len(value) != count:
            raise ValueError(f"{name} lists {len(value)} values for {count} statistics")
    return [
        list(value) if isinstance(value, list | tuple) else [value] * count
        for value in parameters.values()
    ]


# The ledger: claims as data, and their verdicts.


@dataclass(frozen=True)
class Claim:
    """One published claim and how it is decided; ``docs/claims.md`` explains every field.

    ``controls`` lists, by the statistic they belong to, those that must not show its effect as
    well. ``models`` says on which models the claim is decided, the first that was measured.
    ``beside`` names statistics that are shown and decide nothing. ``manuscript`` lists the TGN
    paper's own figures on whose pages the claim stands. ``unmeasured`` says why no run makes the
    statistics that would decide it.

    Raises
    ------
    ValueError
        If the decision does not exist or takes no such parameters or controls, the system or
        the scale is unknown, no statistic is named, or a control belongs to one that does not
        decide the claim.
    """

    id: str
    system: str
    source: str
    sentence: str
    published: str | Mapping[str, Any]
    about: str
    decision: str
    statistics: Sequence[str]
    least_scale: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    controls: Mapping[str, Sequence[str]] = field(default_factory=dict)
    models: Sequence[str] = ()
    beside: Sequence[str] = ()
    note: str = ""
    manuscript: Sequence[int] = ()
    unmeasured: str = ""

    def __post_init__(self) -> None:
        if self.decision not in DECISIONS:
            raise ValueError(
                f"claim {self.id}: no decision {self.decision!r}; there are {list(DECISIONS)}"
            )
        if self.system not in SYSTEMS:
            raise ValueError(
                f"claim {self.id}: no system {self.system!r}; there are {list(SYSTEMS)}"
            )
        if not self.statistics:
            raise ValueError(f"claim {self.id}: no statistic decides it")
        if self.least_scale not in SCALES:
            raise ValueError(f"claim {self.id}: no scale {self.least_scale!r}; there are {SCALES}")
        takes = inspect.signature(DECISIONS[self.decision])
        given = {"controls": self.controls} if self.controls else {}
        try:
            takes.bind(self.statistics, **given, **self.parameters)
        except TypeError as error:
            raise ValueError(f"claim {self.id}: {self.decision}: {error}") from error
        strangers = sorted(set(self.controls) - set(self.statistics))
        if strangers:
            raise ValueError(f"claim {self.id}: controls of {strangers}, which do not decide it")

    @property
    def needed(self) -> list[str]:
        """Ids of every statistic the claim rests on, deciding ones first."""
        controls = (id for ids in self.controls.values() for id in ids)
        return list(dict.fromkeys([*self.statistics, *controls]))

    @property
    def shown(self) -> list[str]:
        """Ids of every statistic of its record: those needed, then those that decide nothing."""
        return list(dict.fromkeys([*self.needed, *self.beside]))


def read_claims(path: str | Path, schema: str | Path | None = None) -> list[Claim]:
    """Read the ledger and check it against its schema, by default the one beside it.

    Raises
    ------
    FileNotFoundError
        If the ledger or its schema does not exist.
    ValueError
        If the ledger does not fit the schema, a claim is refused by :class:`Claim`, or two
        share an id.
    """
    rows = read_yaml(path)
    try:
        check(rows, read_yaml(schema or Path(path).with_name("claims.schema.json")))
        claims = [Claim(**row) for row in rows]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    counts = Counter(claim.id for claim in claims)
    twins = [id for id, count in counts.items() if count > 1]
    if twins:
        raise ValueError(f"{path}: claims listed more than once: {', '.join(twins)}")
    return claims


def evaluate(
    claims: Iterable[Claim],
    statistics: Iterable[Statistic],
    scale: str,
    models: Sequence[str] = (),
    undecided: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Decide every claim at a scale; one record for each, ready for ``claims.json``.

    A claim earns no verdict below its least scale, nor if it is about brains and any statistic
    it rests on was simulated; our numbers are reported all the same. Nor does it if it says that it
    is unmeasured, or where a statistic
    is among the ``undecided``, which are ids and the reasons why there is no number, such as a
    model that could not be had. It is decided on the first
    model measured of those it names, or of ``models`` if it names none, and the verdicts on the
    other measured models are listed beside it. Statistics of one model each need no naming.

    Raises
    ------
    ValueError
        If the scale is unknown, two statistics share id and model, a claim needs a statistic
        that is missing or was not measured on its models, several models were measured and none
        is named, or a decision refuses its parameters.
    """
    _scale_rank(scale)
    table: dict[str, dict[str, Statistic]] = {}
    for statistic in statistics:
        row = table.setdefault(statistic.id, {})
        if statistic.model in row:
            raise ValueError(f"two statistics {statistic.id} on {statistic.model}")
        row[statistic.model] = statistic
    without = {id: why for id, why in (undecided or {}).items() if id not in table}
    return [_record(claim, table, scale, models, without) for claim in claims]


def _record(
    claim: Claim,
    table: Mapping[str, Mapping[str, Statistic]],
    scale: str,
    models: Sequence[str],
    without: Mapping[str, str],
) -> dict[str, Any]:
    ours: dict[str, Statistic]
    others: dict[str, dict[str, Statistic]] = {}
    too_small = _too_small(claim, scale)
    shown = [id for id in claim.shown if id not in without or too_small]
    lacking = [] if too_small else [id for id in claim.needed if id in without]
    if claim.unmeasured or lacking:
        ours = {id: next(iter(table[id].values())) for id in shown if id in table}
        reason = claim.unmeasured or f"There is no {lacking[0]}: {without[lacking[0]]}."
        verdict = {"verdict": NOT_TESTABLE, "reason": reason, "control": None}
    else:
        ours, others = _chosen(claim, shown, table, scale, models)
        verdict = _verdict(claim, ours, scale)
    return asdict(claim) | {
        "scale": scale,
        **verdict,
        "ours": [asdict(ours[id]) for id in claim.statistics if id in ours],
        "controls": [
            asdict(ours[id]) | {"control_of": of}
            for of, ids in claim.controls.items()
            for id in ids
            if id in ours
        ],
        "beside": [asdict(ours[id]) for id in claim.beside if id in ours],
        "other_models": [
            {"model": model, **_verdict(claim, measured, scale)}
            for model, measured in others.items()
        ],
    }


def _chosen(
    claim: Claim,
    shown: Sequence[str],
    table: Mapping[str, Mapping[str, Statistic]],
    scale: str,
    models: Sequence[str],
) -> tuple[dict[str, Statistic], dict[str, dict[str, Statistic]]]:
    """The statistics that decide the claim, and those of every other model measured in full."""
    missing = [id for id in shown if id not in table]
    if missing and _too_small(claim, scale):  # no verdict follows: what there is may be shown
        return {id: next(iter(table[id].values())) for id in shown if id in table}, {}
    if missing:
        raise ValueError(f"claim {claim.id} needs statistic {missing[0]}, which is missing")
    complete = {
        model: {id: table[id][model] for id in shown}
        for model in table[shown[0]]
        if all(model in table[id] for id in shown)
    }
    named = claim.models or models
    if _too_small(claim, scale):  # no verdict follows, so that any model will do
        named = [*named, *models, *complete]
    primary = next((model for model in named if model in complete), None)
    if primary is not None:
        return complete.pop(primary), complete
    if not claim.models and all(len(table[id]) == 1 for id in shown):
        return {id: next(iter(table[id].values())) for id in shown}, {}
    measured = "; ".join(f"{id} on {', '.join(table[id])}" for id in shown)
    raise ValueError(
        f"claim {claim.id} is decided on one of {list(named)}, but there are only {measured}"
    )


def _verdict(claim: Claim, measured: Mapping[str, Statistic], scale: str) -> dict[str, Any]:
    if _too_small(claim, scale):
        reason = f"It takes {claim.least_scale} scale to decide, and this is {scale} scale."
        return {"verdict": NOT_TESTABLE, "reason": reason, "control": None}
    simulated = [id for id in claim.needed if measured[id].evidence == "simulated"]
    if claim.about == "brains" and simulated:
        reason = f"Simulated data earn no verdict about brains: {', '.join(simulated)}."
        return {"verdict": NOT_TESTABLE, "reason": reason, "control": None}
    controls = {of: [measured[id] for id in ids] for of, ids in claim.controls.items()}
    try:
        decision = DECISIONS[claim.decision](
            [measured[id] for id in claim.statistics],
            **({"controls": controls} if controls else {}),
            **claim.parameters,
        )
    except ValueError as error:
        raise ValueError(f"claim {claim.id}: {error}") from error
    return {
        "verdict": decision.verdict,
        "reason": f"{decision.reason}.",
        "control": decision.control,
    }


def _scale_rank(scale: str) -> int:
    if scale not in SCALES:
        raise ValueError(f"scale is {scale!r}, not one of {SCALES}")
    return SCALES.index(scale)


def _too_small(claim: Claim, scale: str) -> bool:
    return _scale_rank(scale) < _scale_rank(claim.least_scale)
