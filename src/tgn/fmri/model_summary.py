"""Expansion of rank and lead-lag in the whole-brain model: tables and statistics of figure 14.

People, whose connectomes drive the model, are the units; the runs of one person are averaged. The
sedation and the drug are put in by hand, so that these numbers speak of the model and of no brain.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tgn.fmri.lead_lag import RAMP_ARMS
from tgn.fmri.records import LOG, Record, mean, mean_difference, mean_interval
from tgn.statistics import bootstrap_band

PRIMARY = "kuramoto"
CURVES = ("rank", "kuramoto", "mean_fc")
UNCHANGED = "none"  # the arm that stays as it is
CONTRASTS = {  # of arms, each against the one without the change it is named after
    "gain": ("gain", UNCHANGED),
    "noise": ("noise", UNCHANGED),
    "both": ("both", UNCHANGED),
    "gain_minus_noise": ("gain", "noise"),
    "both_minus_noise": ("both", "noise"),
}


def expansion_table(runs: pd.DataFrame, definition: str, window: int) -> pd.DataFrame:
    """Log ratio of the rank after to that before, by person and arm.

    Returns
    -------
    table with columns person, arm, simulated (the ratio in runs), beyond_spectra (the same, of the
    rank over that of surrogates with destroyed cross-correlation), exact (of the linearised model;
    over the arm that stays as it is)

    Raises
    ------
    ValueError
        If there is no run of this definition and window, or an arm or a phase is missing.
    """
    rows = runs[(runs["definition"] == definition) & (runs["window"] == window)]
    if rows.empty:
        raise ValueError(f"no run in silico of {definition} with a window of {window}")
    arms = {arm for pair in CONTRASTS.values() for arm in pair}
    if not arms <= set(rows["arm"]):
        raise ValueError(f"in silico the arms {sorted(arms - set(rows['arm']))} are missing")
    logs = rows.assign(
        simulated=np.log(rows["rank"]),
        beyond_spectra=np.log(rows["rank"] / rows["surrogate_destroyed"]),
        exact=np.log(rows["exact"]),
    )
    columns = ["simulated", "beyond_spectra", "exact"]
    keys = ["person", "seed", "arm"]
    by_phase = {phase: part.set_index(keys)[columns] for phase, part in logs.groupby("phase")}
    if set(by_phase) != {"before", "after"}:
        raise ValueError(f"in silico the phases are {sorted(by_phase)}, not before and after")
    gap = by_phase["after"] - by_phase["before"]
    if gap[["simulated", "beyond_spectra"]].isna().any(axis=None):
        raise ValueError("in silico some runs have one phase only")
    table = gap.groupby(["person", "arm"]).mean().reset_index()
    exact = by_phase["after"]["exact"].groupby(["person", "arm"]).mean()
    still = exact.xs(UNCHANGED, level="arm")
    relative = exact - still.reindex(exact.index.get_level_values("person")).to_numpy()
    return table.assign(exact=relative.to_numpy())


def expansion_means(
    table: pd.DataFrame, *, rng: np.random.Generator, resamples: int
) -> pd.DataFrame:
    """Every person's expansion by arm, and the means.

    Returns
    -------
    table with columns kind (``person`` or ``mean``), quantity (``simulated``, ``beyond_spectra``,
    ``exact``), person, arm, value, low, high, n
    """
    long = table.melt(["person", "arm"], var_name="quantity").assign(kind="person", n=1)
    parts = [long]
    for (arm, quantity), part in long.groupby(["arm", "quantity"]):
        values = part["value"].to_numpy()
        interval = mean_interval(values, rng=rng, resamples=resamples)
        value, low, high = interval or (float(values.mean()), np.nan, np.nan)
        one = {"kind": "mean", "arm": arm, "quantity": quantity, "person": None}
        parts.append(
            pd.DataFrame([one | {"value": value, "low": low, "high": high, "n": len(part)}])
        )
    return pd.concat(parts, ignore_index=True)


def expansion_statistics(table: pd.DataFrame, *, rng: np.random.Generator) -> list[Record]:
    """The drug's change of gain, the noise alone, both, and what the gain adds to the noise.

    Each is a difference between arms of the growth of log rank over the run, so that what an
    unchanged run drifts by is taken away.
    """
    arms = {arm: part.set_index("person") for arm, part in table.groupby("arm")}
    found = []
    for quantity, suffix in (
        ("simulated", ""),
        ("beyond_spectra", "_beyond_spectra"),
        ("exact", "_exact"),
    ):
        if table[quantity].isna().any():
            continue  # the linearised model does not know this definition
        for name, (arm, against) in CONTRASTS.items():
            gap = (arms[arm][quantity] - arms[against][quantity]).to_numpy()
            found.append(
                mean_difference(
                    f"expansion_{name}{suffix}", gap, unit=LOG, rng=rng, units="people",
                    controls=["run without a change" if against == UNCHANGED else "noise alone"],
                )
            )  # fmt: skip
    drift = arms[UNCHANGED]["simulated"].to_numpy()
    found.append(mean_difference("expansion_none", drift, unit=LOG, rng=rng, units="people"))
    return found


# --- lead and lag


def with_people(led: pd.DataFrame) -> pd.DataFrame:
    """The table with a column ``person``: the model's units are named ``{person}-{seed}``."""
    person = led["unit"].str.rsplit("-", n=1).str[0]
    return led.assign(person=person.where(led["arm"].isin(RAMP_ARMS), led["unit"]))


def course_table(curves: pd.DataFrame, *, rng: np.random.Generator, resamples: int) -> pd.DataFrame:
    """Mean course of rank and synchrony over the model's runs, by arm.

    Returns
    -------
    table with columns arm, quantity (``rank``, ``kuramoto``, ``mean_fc``), time_s, value, low, high
    (bootstrap over people), n
    """
    parts = []
    runs = with_people(curves[curves["arm"].isin(RAMP_ARMS)])
    for arm, rows in runs.groupby("arm"):
        for quantity in CURVES:
            grid = (
                rows.groupby(["person", "time_s"])[quantity].mean().unstack("time_s").dropna(axis=1)
            )
            band = _band(grid.to_numpy(), rng=rng, resamples=resamples)
            part = pd.DataFrame({"time_s": grid.columns, **band, "n": len(grid)})
            parts.append(part.assign(arm=arm, quantity=quantity))
    return pd.concat(parts, ignore_index=True)


def course_statistics(curves: pd.DataFrame, *, rng: np.random.Generator) -> list[Record]:
    """What the ramp does to rank and synchrony: last less first quarter, less that of the control.

    A collapse of the rank is a fall, a surge of synchrony a rise; a lead of the one over the other
    is only what was claimed if both are there.
    """
    runs = with_people(curves[curves["arm"].isin(RAMP_ARMS)]).assign(
        log_rank=lambda rows: np.log(rows["rank"])
    )
    ends = runs.groupby("unit")["time_s"].agg(["min", "max"]).reindex(runs["unit"])
    quarter = (ends["max"] - ends["min"]).to_numpy() / 4
    late = runs["time_s"] >= ends["max"].to_numpy() - quarter
    early = runs["time_s"] <= ends["min"].to_numpy() + quarter
    found = []
    for quantity, unit in (("log_rank", LOG), ("kuramoto", ""), ("mean_fc", "correlation")):
        first, last = (
            runs[chosen].groupby(["person", "arm"])[quantity].mean().unstack("arm")
            for chosen in (early, late)
        )
        change = last - first
        found.append(
            mean_difference(
                f"ramp_{quantity}_change", change[RAMP_ARMS[0]] - change[RAMP_ARMS[1]], unit=unit,
                rng=rng, units="people", controls=["the same noise without a ramp"],
                note="last less first quarter of the run",
            )
        )  # fmt: skip
    return found


def _band(units: NDArray, *, rng: np.random.Generator, resamples: int) -> dict[str, Any]:
    """Mean over units by column, with its bootstrap band where there are three units."""
    if len(units) < 3:
        return {"value": units.mean(axis=0), "low": np.nan, "high": np.nan}
    return bootstrap_band(units, rng=rng, resamples=resamples)._asdict()


def lag_table(led: pd.DataFrame, *, rng: np.random.Generator, resamples: int) -> pd.DataFrame:
    """Mean cross-correlation by arm, measure of synchrony and lag, and its null bands.

    Returns
    -------
    table with columns arm, measure, lag_s, value, low, high (bootstrap over people or subjects),
    surrogate_low, surrogate_high, permuted_low, permuted_high, n
    """
    keys = ["arm", "measure"]
    bands = ["surrogate_low", "surrogate_high", "permuted_low", "permuted_high"]
    parts = []
    for labels, rows in with_people(led).groupby(keys, sort=False):
        means = rows.groupby(["person", "lag_s"])[["correlation", *bands]].mean()
        grid = means["correlation"].unstack("lag_s")
        band = _band(grid.to_numpy(), rng=rng, resamples=resamples)
        part = means[bands].groupby("lag_s").mean().reset_index().assign(**band, n=len(grid))
        parts.append(part.assign(**dict(zip(keys, labels, strict=True))))
    return pd.concat(parts, ignore_index=True)


def lag_statistics(led: pd.DataFrame, *, rng: np.random.Generator, resamples: int) -> list[Record]:
    """Lead of rank over synchrony, in the sedation ramp, in its control, and the difference.

    ``lead`` is the lag of the extreme cross-correlation, which every run has; ``onset_lead`` the
    distance of the change points, of runs in which both curves change more than their null, and
    ``changed_share`` how many those are. Of subjects' runs, the lead as a mean over states.
    """
    if led.empty:
        return []
    each = with_people(led).drop_duplicates(["unit", "arm", "measure"])
    found = []
    for measure, rows in each.groupby("measure"):
        suffix = "" if measure == PRIMARY else f"_{measure}"

        def by_arm(column: str, rows: pd.DataFrame = rows) -> pd.DataFrame:
            return rows.pivot_table(index="person", columns="arm", values=column)

        lead = by_arm("best_lag_s")
        if not set(RAMP_ARMS) <= set(lead):
            found.append(
                mean_difference(
                    f"lead_in_runs{suffix}", lead.mean(axis=1), unit="s", rng=rng,
                    note="mean over states",
                )
            )  # fmt: skip
            continue
        common: dict[str, Any] = {"unit": "s", "rng": rng, "units": "people"}
        sedated, control = RAMP_ARMS
        found.append(
            mean_difference(
                f"lead_{sedated}_minus_{control}{suffix}", lead[sedated] - lead[control],
                controls=["the same noise without a ramp"], **common,
            )
        )  # fmt: skip
        onset = by_arm("onset_lag_s")
        share = by_arm("changed")
        for arm in RAMP_ARMS:
            found.append(mean_difference(f"lead_{arm}{suffix}", lead[arm], **common))
            if arm in onset:
                late = onset[arm].dropna()
                found.append(mean_difference(f"onset_lead_{arm}{suffix}", late, **common))
            found.append(
                mean(
                    f"changed_share_{arm}{suffix}", share[arm], unit="", units="people", rng=rng,
                    resamples=resamples,
                )
            )  # fmt: skip
    return found
