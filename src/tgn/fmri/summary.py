"""From ranks of subjects and of models to the tables and the statistics behind figure 14.

Subjects, or in silico the people whose connectomes drive the model, are the independent units:
every interval runs over them. Paired contrasts carry the interval that their sign-flip test
implies, so that the interval and the p value never disagree.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tgn.files import write_table
from tgn.fmri import states as within
from tgn.fmri.bids import STATES
from tgn.fmri.lead_lag import RAMP_ARMS
from tgn.fmri.method_summary import (
    TRUTH,
    bias_means,
    bias_rows,
    bias_statistics,
    method_statistics,
)
from tgn.fmri.model_summary import (
    course_statistics,
    course_table,
    expansion_means,
    expansion_statistics,
    expansion_table,
    lag_statistics,
    lag_table,
)
from tgn.fmri.records import (
    DIRECTIONS,
    LOG,
    Choice,
    Record,
    mean,
    mean_difference,
    mean_interval,
    share,
)
from tgn.statistics import Evidence, Statistic, difference, ends, write_statistics

log = logging.getLogger(__name__)

AWAKE, LIGHT, DEEP, RECOVERY = STATES
PLANNED = ((AWAKE, DEEP), (RECOVERY, DEEP), (RECOVERY, AWAKE))
REAL = "real"  # arm of the people awake at rest
STRICT = 0.999  # the level of the published p < 0.001


def summarise(
    *,
    ranks: str | Path,
    reference: str | Path,
    in_silico: str | Sequence[str],
    lead_lag: str | Sequence[str],
    synchrony: str | Sequence[str],
    distance: str | Path,
    statistics: str | Path,
    states: str | Path,
    contrasts: str | Path,
    expansion: str | Path,
    lags: str | Path,
    courses: str | Path,
    distances: str | Path,
    biases: str | Path,
    data: str,
    evidence: Evidence,
    arm: str,
    atlas: str,
    definition: str,
    window: int,
    in_silico_window: int,
    depth: Mapping[str, float],
    resamples: int,
    seed: int,
    validation: str | Path | None = None,
    bias: str | Path | None = None,
) -> None:
    """Write the tables of figure 14's panels and its statistics.

    Parameters
    ----------
    ranks
        Ranks of subjects by state, arm, atlas, definition and window.
    reference
        Ranks of real people awake at rest, of :func:`tgn.fmri.ranks.reference_table`.
    in_silico, lead_lag, synchrony, distance
        Tables of :func:`tgn.fmri.whole_brain.in_silico`, of
        :func:`tgn.fmri.lead_lag.lead_lag_tables` (two), of
        :func:`tgn.fmri.distance.measure_distance`; of all but the last one or several.
    statistics
        Written: one record a number.
    states, contrasts, expansion, lags, courses, distances, biases
        Written: a table for each panel.
    data, evidence
        What the subjects are, and whether they are real.
    arm, atlas, definition, window
        The ranks that decide; the others are shown as sensitivity. Window 0 is the whole run.
    in_silico_window
        The same of the model's runs.
    depth
        Depth of sedation by state, such as Ramsay's level.
    validation, bias
        What the method is judged on: the virtual cohort's ranks with its arm ``truth`` of clean
        signals (the same file as ``ranks`` where the subjects are that cohort), and the table of
        :func:`tgn.fmri.ranks.bias_table`. None leaves the method unjudged.

    Raises
    ------
    ValueError
        If no subject has every state under this choice of ranks, or a table lacks what the figure
        compares.
    """
    rng = np.random.default_rng(seed)
    common: dict[str, Any] = {"rng": rng, "resamples": resamples}
    choice = Choice(arm, atlas, definition, window)
    measured = pd.read_parquet(ranks)
    rows = choice.of(measured)
    for units in sorted({len(within.wide(rows, STATES)), within.PUBLISHED_N}):
        if units >= within.LEAST_UNITS:
            print(within.power_table(units))
    people = real_rows(pd.read_parquet(reference), choice)
    runs = read_tables(in_silico)
    expanded = expansion_table(runs, definition, in_silico_window)
    led, curves = read_tables(lead_lag), read_tables(synchrony)
    by_distance = pd.read_parquet(distance)
    moved = pd.DataFrame() if bias is None else bias_rows(pd.read_parquet(bias), definition)
    checked = pd.DataFrame() if validation is None else pd.read_parquet(validation)
    tables = {
        states: state_table(rows, choice.of(measured, arm=TRUTH), people, **common),
        contrasts: contrast_table(measured, **common),
        expansion: expansion_means(expanded, **common),
        lags: lag_table(led, **common),
        courses: course_table(curves, **common),
        distances: distance_table(by_distance, rng=rng),
        biases: bias_means(moved, **common),
    }
    for path, table in tables.items():
        write_table(path, table)
    subjects = {"model": data, "evidence": evidence}
    cohort = {"model": "virtual cohort", "evidence": "simulated"}
    model = {"model": "whole-brain model", "evidence": "simulated"}
    of_model = led["arm"].isin(RAMP_ARMS)
    found: list[tuple[dict[str, Any], list[Record]]] = [
        (subjects, state_statistics(rows, depth, **common)),
        (subjects, sensitivity_statistics(measured, choice, rng=rng)),
        (subjects, distance_statistics(by_distance, rng=rng)),
        (subjects, lag_statistics(led[~of_model], **common)),
        (cohort, method_statistics(checked, choice, **common)),
        (cohort, bias_statistics(moved, rng=rng)),
        (model, expansion_statistics(expanded, rng=rng)),
        (model, lag_statistics(led[of_model], **common)),
        (model, course_statistics(curves, rng=rng)),
        ({"model": f"{len(people)} people", "evidence": "real"}, real_statistics(people, **common)),
    ]
    if evidence == "simulated":
        found.append((cohort, realism_statistics(rows, people, **common)))
    write_statistics(
        statistics,
        [Statistic(**fields, **about) for about, records in found for fields in records],
    )


def read_tables(paths: str | Sequence[str]) -> pd.DataFrame:
    """One table of one file or several."""
    each = [paths] if isinstance(paths, str) else paths
    return pd.concat(map(pd.read_parquet, each), ignore_index=True)


def real_rows(reference: pd.DataFrame, choice: Choice) -> pd.DataFrame:
    """The people's ranks under the definition and window that decide, whatever their atlas."""
    same = (reference["definition"] == choice.definition) & (reference["window"] == choice.window)
    return reference[same & (reference["arm"] == REAL)]


# --- tables of the panels


def state_table(
    rows: pd.DataFrame,
    truth: pd.DataFrame,
    people: pd.DataFrame,
    *,
    rng: np.random.Generator,
    resamples: int,
) -> pd.DataFrame:
    """Every subject's rank by state, the means, and what they stand beside.

    Returns
    -------
    table with columns kind, subject (None for a mean), state, value, low, high, n. Kinds:
    ``subject`` and ``person`` (each alone), and the means ``mean``, ``surrogate_same``,
    ``surrogate_destroyed``, ``truth``, ``people``, ``people_surrogate_destroyed``
    """
    parts = []
    for kind, table in (("subject", rows), ("person", people)):
        parts.append(table[["subject", "state"]].assign(kind=kind, value=table["rank"], n=1))
    means = [
        ("mean", rows, "rank"),
        ("surrogate_same", rows, "surrogate_same"),
        ("surrogate_destroyed", rows, "surrogate_destroyed"),
        ("truth", truth, "rank"),
        ("people", people, "rank"),
        ("people_surrogate_destroyed", people, "surrogate_destroyed"),
    ]
    for kind, table, column in means:
        for state, part in table.groupby("state"):
            values = part[column].to_numpy(dtype=float)
            interval = mean_interval(values, rng=rng, resamples=resamples)
            value, low, high = interval or (float(values.mean()), np.nan, np.nan)
            one = {"kind": kind, "state": state, "value": value, "low": low, "high": high}
            parts.append(pd.DataFrame([one | {"subject": None, "n": len(values)}]))
    return pd.concat(parts, ignore_index=True)


def contrast_table(
    measured: pd.DataFrame, *, rng: np.random.Generator, resamples: int
) -> pd.DataFrame:
    """The planned contrasts under every arm, atlas, definition and window.

    Returns
    -------
    table with columns arm, atlas, definition, window, first, second, n, value, low, high (95 %, of
    ``first - second``), p (sign flips), dz, dz_low, dz_high (BCa). Undefined numbers are NaN.
    """
    keys = ["arm", "atlas", "definition", "window"]
    found = []
    for labels, rows in measured.groupby(keys, sort=False):
        labelled = dict(zip(keys, labels, strict=True))
        present = [state for state in STATES if state in set(rows["state"])]
        table = within.wide(rows, present)
        if len(present) < len(STATES) or len(table) < 2:
            log.warning("%s has %s subjects with states %s", labelled, len(table), present)
            continue
        for first, second in PLANNED:
            gap = (table[first] - table[second]).to_numpy()
            test = within.sign_flip_test(gap, rng=rng)
            interval = within.sign_flip_interval(gap, rng=rng)
            _, low, high = interval or (0, np.nan, np.nan)
            dz = dz_low = dz_high = np.nan
            if np.ptp(gap) > 0:
                size = within.effect_size(gap, rng=rng, resamples=resamples)
                dz = within.standardised_difference(gap)
                _, dz_low, dz_high = size or (0, np.nan, np.nan)
            numbers = {"n": len(gap), "value": test.value, "low": low, "high": high, "p": test.p}
            sizes = {"dz": dz, "dz_low": dz_low, "dz_high": dz_high}
            found.append(labelled | {"first": first, "second": second} | numbers | sizes)
    return pd.DataFrame(found)


def distance_table(by_distance: pd.DataFrame, *, rng: np.random.Generator) -> pd.DataFrame:
    """Mean change of connectivity by bin, with its interval over subjects and the parcels' null.

    Returns
    -------
    table with columns kind, bin, low_mm, high_mm, distance_mm, edges, value, low, high, p, p_holm
    (over bins), null_low, null_high, n
    """
    shared = ["low_mm", "high_mm", "distance_mm", "edges", "null_low", "null_high"]
    found = []
    for (kind, place), part in by_distance.groupby(["kind", "bin"], sort=False):
        values = part["value"].to_numpy()
        interval = within.sign_flip_interval(values, rng=rng)
        _, low, high = interval or (0, np.nan, np.nan)
        test = within.sign_flip_test(values, rng=rng)
        numbers = {"value": test.value, "low": low, "high": high, "p": test.p, "n": len(values)}
        found.append({"kind": kind, "bin": place} | part[shared].iloc[0].to_dict() | numbers)
    table = pd.DataFrame(found)
    is_bin = table["kind"] == "bin"
    table.loc[is_bin, "p_holm"] = within.holm(table.loc[is_bin, "p"])
    return table


# --- statistics


def state_statistics(
    rows: pd.DataFrame,
    depth: Mapping[str, float],
    *,
    rng: np.random.Generator,
    resamples: int,
) -> list[Record]:
    """What differs between states, how surely, and what this many subjects would have missed.

    Raises
    ------
    ValueError
        If no subject has every state.
    """
    common: dict[str, Any] = {"rng": rng, "resamples": resamples}
    table = within.wide(rows, STATES)
    logs = np.log(table)
    destroyed = within.wide(rows, STATES, "surrogate_destroyed")
    beyond = np.log(table / destroyed)
    found = [mean(f"rank_{state}", table[state], unit=DIRECTIONS, **common) for state in STATES]
    found += planned_statistics(table, rng=rng)
    fall = (table[AWAKE] - table[DEEP]).to_numpy()
    found += [
        mean_difference(
            "rank_awake_minus_deep_999", fall, unit=DIRECTIONS, rng=rng, level=STRICT,
            note="excludes 0 exactly if p < 0.001",
        ),
        mean_difference(
            "log_rank_awake_minus_deep", logs[AWAKE] - logs[DEEP], unit=LOG, rng=rng
        ),
        mean_difference(
            "log_rank_recovery_minus_deep", logs[RECOVERY] - logs[DEEP], unit=LOG, rng=rng
        ),
        mean_difference(
            "log_rank_recovery_minus_awake", logs[RECOVERY] - logs[AWAKE], unit=LOG, rng=rng
        ),
        mean_difference(
            "log_surrogate_awake_minus_deep", np.log(destroyed[AWAKE] / destroyed[DEEP]),
            unit=LOG, rng=rng, note="spectra kept, cross-correlation destroyed",
        ),
        mean_difference(
            "log_rank_awake_minus_deep_beyond_spectra", beyond[AWAKE] - beyond[DEEP], unit=LOG,
            rng=rng, controls=["surrogates of the same spectra"],
        ),
        share("share_falling", fall > 0, note="rank lower in deep sedation than awake"),
        effect_size_record("dz_awake_deep", fall, **common),
    ]  # fmt: skip
    found += mixed_statistics(rows)
    found += trend_statistics(table, depth, **common)
    if len(table) < within.LEAST_UNITS:
        return found
    for tests, name in ((1, "detectable_dz"), (len(PLANNED), "detectable_dz_holm")):
        found.append(
            {
                "id": f"fig14.{name}",
                **ends(within.detectable(len(table), tests=tests)),
                "n": len(table),
                "unit": "",
                "method": f"paired t test, two-sided, alpha 0.05 / {tests}, 80 % power",
            }
        )
    return found


def planned_statistics(table: pd.DataFrame, *, rng: np.random.Generator) -> list[Record]:
    """Differences of the planned contrasts, and their p values alone and after Holm."""
    gaps = {pair: (table[pair[0]] - table[pair[1]]).to_numpy() for pair in PLANNED}
    tests = {pair: within.sign_flip_test(gap, rng=rng) for pair, gap in gaps.items()}
    corrected = within.holm([test.p for test in tests.values()])
    found = []
    for (pair, test), holm in zip(tests.items(), corrected, strict=True):
        name = f"{pair[0]}_minus_{pair[1]}"
        found.append(mean_difference(f"rank_{name}", gaps[pair], unit=DIRECTIONS, rng=rng))
        tried = f"{'all' if test.exhaustive else 'random'} {test.flips} patterns"
        for id, p, method in (
            (f"p_{pair[0]}_{pair[1]}", test.p, f"sign-flip test, two-sided, {tried}"),
            (
                f"p_{pair[0]}_{pair[1]}_holm",
                float(holm),
                f"sign-flip test, Holm over {len(PLANNED)} planned contrasts",
            ),
        ):
            found.append(
                {
                    "id": f"fig14.{id}",
                    **ends(p),
                    "n": len(table),
                    "unit": "",
                    "method": method,
                }
            )
    return found


def effect_size_record(
    id: str, differences: np.ndarray, *, rng: np.random.Generator, resamples: int
) -> Record:
    """Cohen's dz with its BCa interval."""
    interval = within.effect_size(differences, rng=rng, resamples=resamples)
    return {
        "id": f"fig14.{id}",
        **ends(interval or within.standardised_difference(differences)),
        "n": len(differences),
        "unit": "",
        "method": "mean over standard deviation of paired differences; BCa bootstrap over subjects",
    }


def mixed_statistics(rows: pd.DataFrame) -> list[Record]:
    """Contrasts at equal head motion, from a mixed model of all subjects and states."""
    fit = within.mixed_model(rows)
    found = []
    for name, pair, unit in (
        ("rank_awake_minus_deep_at_equal_motion", (AWAKE, DEEP), DIRECTIONS),
        ("rank_recovery_minus_awake_at_equal_motion", (RECOVERY, AWAKE), DIRECTIONS),
        ("rank_per_motion", ("fd", None), f"{DIRECTIONS} per mm"),
    ):
        if pair[0] not in fit.names:
            continue
        effect = fit.contrast(*pair)
        said = [fit.remark, "" if effect.p is None else f"p = {effect.p:.2g}", *fit.messages]
        found.append(
            {
                "id": f"fig14.{name}",
                "value": effect.value,
                "ci_low": effect.low,
                "ci_high": effect.high,
                "n": fit.subjects,
                "unit": unit,
                "method": "mixed model: states, mean framewise displacement, random intercept a "
                f"subject; Student's interval, {fit.freedom} degrees of freedom",
                "note": "; ".join(part for part in said if part),
            }
        )
    return found


def trend_statistics(
    table: pd.DataFrame,
    depth: Mapping[str, float],
    *,
    rng: np.random.Generator,
    resamples: int,
) -> list[Record]:
    """Page's ordered trend over the states that go deeper, and correlation with depth over all."""
    going_down = [AWAKE, LIGHT, DEEP]
    page = within.page_trend(table[going_down].to_numpy(), [2, 1, 0], rng=rng, resamples=resamples)
    depths = np.broadcast_to([depth[state] for state in STATES], table.shape)
    follows = within.repeated_measures_correlation(
        depths, table.to_numpy(), rng=rng, resamples=resamples
    )
    return [
        {
            "id": "fig14.rank_trend",
            **ends(page.interval or page.value),
            "n": len(table),
            "unit": "",
            "method": "Page's test of deep < light < awake: mean Spearman correlation with that "
            "order; percentile bootstrap over subjects",
            "note": f"L = {page.statistic:g}, exact one-sided p = {page.p:.2g}",
        },
        {
            "id": "fig14.rank_depth_correlation",
            **ends(follows.interval or follows.value),
            "n": len(table),
            "unit": "",
            "method": "repeated-measures correlation with depth of sedation, four states; BCa "
            "bootstrap over subjects",
            "note": f"p = {follows.p:.2g}, {follows.freedom} degrees of freedom",
        },
    ]


def sensitivity_statistics(
    measured: pd.DataFrame, choice: Choice, *, rng: np.random.Generator
) -> list[Record]:
    """The fall from awake to deep under the other arms, beside the one that decides."""
    found = []
    for arm in sorted(set(measured["arm"]) - {choice.arm, TRUTH, REAL}):
        table = within.wide(choice.of(measured, arm=arm), STATES)
        if len(table):
            gap = table[AWAKE] - table[DEEP]
            name = f"rank_awake_minus_deep_{arm}"
            found.append(mean_difference(name, gap, unit=DIRECTIONS, rng=rng))
    return found


def distance_statistics(by_distance: pd.DataFrame, *, rng: np.random.Generator) -> list[Record]:
    """Change of connectivity over long and short edges, their difference, and the slope."""
    of = {
        kind: part.set_index("subject")
        for kind, part in by_distance[by_distance["kind"] != "bin"].groupby("kind")
    }
    from_mm = of["long"]["low_mm"].iloc[0]
    common: dict[str, Any] = {"unit": "correlation", "rng": rng}
    null = of["slope"]["null_p"].iloc[0]
    return [
        mean_difference(
            "long_range_change", of["long"]["value"], note=f"edges from {from_mm:g} mm", **common
        ),
        mean_difference("short_range_change", of["short"]["value"], **common),
        mean_difference(
            "long_minus_short_change", of["long"]["value"] - of["short"]["value"], **common
        ),
        mean_difference(
            "change_per_100_mm", of["slope"]["value"], note=f"parcels permuted: p = {null:.2g}",
            **common,
        ),
    ]  # fmt: skip


def real_statistics(
    people: pd.DataFrame, *, rng: np.random.Generator, resamples: int
) -> list[Record]:
    """Rank of real people awake at rest, alone and against surrogates of the same spectra."""
    common: dict[str, Any] = {"rng": rng, "resamples": resamples, "units": "people"}
    beyond = np.log(people["rank"] / people["surrogate_destroyed"])
    return [
        mean("real_rank_awake", people["rank"], unit=DIRECTIONS, **common),
        mean(
            "real_log_rank_beyond_spectra", beyond, unit=LOG,
            controls=["surrogates of the same spectra"], **common,
        ),
    ]  # fmt: skip


def realism_statistics(
    rows: pd.DataFrame, people: pd.DataFrame, *, rng: np.random.Generator, resamples: int
) -> list[Record]:
    """How far the virtual subjects' rank awake lies from that of the people behind them."""
    awake = rows[rows["state"] == AWAKE]
    ours, theirs = (
        mean_interval(np.log(table["rank"].to_numpy()), rng=rng, resamples=resamples)
        for table in (awake, people)
    )
    if ours is None or theirs is None:
        return []
    parcels = [int(table["parcels"].iloc[0]) for table in (awake, people)]
    return [
        {
            "id": "fig14.log_rank_awake_minus_real",
            **ends(difference(ours, theirs)),
            "n": min(len(awake), len(people)),
            "unit": LOG,
            "method": "means over subjects less mean over real people (Zou and Donner 2008)",
            "note": f"{parcels[0]} parcels against {parcels[1]}",
        }
    ]
