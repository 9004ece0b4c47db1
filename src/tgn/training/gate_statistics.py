"""From training runs to the curves and statistics of figure 21.

Intervals hold text and seeds, as :mod:`tgn.training.comparison` says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tgn.files import write_table
from tgn.statistics import (
    Interval,
    Statistic,
    bootstrap_band,
    bootstrap_interval,
    ends,
    write_statistics,
)
from tgn.training.comparison import (
    Runs,
    by_arm,
    by_run,
    compare,
    seed_spread,
    targets_of,
    unigram_nats,
    widened,
)
from tgn.training.gate_dynamics import HARD, ONE, PUBLISHED_THRESHOLD, SHUFFLED, SOFT
from tgn.training.plan import FLAT

TOLERANCE = 0.01  # what a hard gate may cost: nats, so 1 % of the perplexity
TINY = 1e-12  # keeps the logarithm of a gate finite


def summarise(
    *,
    trajectories: Sequence[str],
    blocks: Sequence[str],
    hard: Sequence[str],
    times: str,
    tokens: str,
    curves: str,
    penalties: str,
    ramps: str,
    gates: str,
    timing: str,
    statistics: str,
    timings: str,
    runs: Runs,
    swept: str,
    context: int,
    model: str,
    evidence: Any,
    resamples: int,
    seed: int,
) -> None:
    """Write figure 21's tables, its statistics, and the statistics of what was timed.

    Parameters
    ----------
    trajectories, blocks
        ``trajectory.parquet`` and ``blocks.parquet`` of every run, in a folder of its name.
    hard
        Tables of :func:`tgn.training.gate_dynamics.measure_hard_gates`, the swept arm's first.
    times
        Table of :func:`tgn.training.gate_dynamics.measure_attention_times`.
    tokens
        A file of the tokenised text's folder.
    curves, penalties, ramps, gates, timing
        Parquet to write, for the panels.
    statistics, timings
        JSON to write; what depends on a clock goes to ``timings``.
    runs
        Plan of the runs, as :func:`tgn.training.plan.runs`.
    swept
        The arm whose penalty is varied: TGN.
    context
        Tokens of training windows.
    model, evidence
        What was measured, for the statistics.
    """
    rng = np.random.default_rng(seed)
    watched = by_run(trajectories, runs)
    tested = by_run(blocks, runs)
    hardened = pd.concat(
        [pd.read_parquet(path).assign(run=Path(path).parent.name) for path in hard],
        ignore_index=True,
    )
    measured = pd.read_parquet(times)
    tables = {
        curves: curve_table(watched, rng=rng, resamples=resamples),
        penalties: penalty_table(watched, tested, swept),
        ramps: ramp_table(watched, rng=rng, resamples=resamples),
        gates: hard_table(hardened, rng=rng, resamples=resamples),
        timing: time_table(measured),
    }
    for path, table in tables.items():
        write_table(path, table)
    about = {"model": model, "evidence": evidence}
    common: dict[str, Any] = {"rng": rng, "resamples": resamples}
    write_statistics(
        statistics,
        [
            Statistic(**fields, **about)
            for fields in (
                unigram_statistic(Path(tokens).parent),
                *loss_statistics(tested, swept, **common),
                *gate_statistics(watched, swept, **common),
                *ramp_statistics(watched, **common),
                *(
                    fields
                    for run, table in hardened.groupby("run")
                    for fields in hard_statistics(
                        table, _name(runs[str(run)]["arm"], swept), **common
                    )
                ),
            )
        ],
    )
    write_statistics(
        timings,
        [Statistic(**fields, **about) for fields in time_statistics(measured, context, **common)],
    )


# --- tables of the panels


def curve_table(watched: pd.DataFrame, *, rng: np.random.Generator, resamples: int) -> pd.DataFrame:
    """Validation loss and gate against tokens, by run, with intervals over windows.

    Returns
    -------
    table with columns run, arm, seed, kind, strength, step, tokens, quantity (loss or gate), value,
    low, high
    """
    rows = []
    for keys, run in watched.groupby(["run", "arm", "seed", "kind", "strength"], dropna=False):
        steps = run.drop_duplicates("step")[["step", "tokens"]]
        for quantity, values in (("loss", run["nats"] / run["targets"]), ("gate", run["gate"])):
            if values.isna().all():
                continue
            grid = run.assign(value=values).pivot(index="window", columns="step", values="value")
            band = bootstrap_band(grid.to_numpy(), rng=rng, resamples=resamples)
            rows.append(
                steps.assign(
                    **dict(zip(("run", "arm", "seed", "kind", "strength"), keys, strict=True)),
                    quantity=quantity,
                    value=band.value,
                    low=band.low,
                    high=band.high,
                )
            )
    return pd.concat(rows, ignore_index=True)


def penalty_table(watched: pd.DataFrame, tested: pd.DataFrame, swept: str) -> pd.DataFrame:
    """Final gate and test perplexity of the swept arm, by penalty and seed."""
    losses = tested[tested["arm"] == swept].groupby(["run", "seed", "strength"])
    table = losses[["nats", "targets"]].sum().reset_index()
    gates = _final(watched).groupby("run")["gate"].mean()
    return table.assign(
        perplexity=np.exp(table["nats"] / table["targets"]), gate=table["run"].map(gates)
    )


def ramp_table(watched: pd.DataFrame, *, rng: np.random.Generator, resamples: int) -> pd.DataFrame:
    """Gate against the penalty on the way up and down, by ramp, with intervals over windows."""
    ramps = watched[watched["kind"] == "ramp"]
    rows = []
    for name, run in ramps.groupby("run"):
        grid = run.pivot(index="window", columns="step", values="gate")
        band = bootstrap_band(grid.to_numpy(), rng=rng, resamples=resamples)
        steps = grid.columns.to_numpy()
        penalty = run.drop_duplicates("step").set_index("step")["penalty"].loc[steps].to_numpy()
        top = int(np.argmax(penalty))
        rows.append(
            pd.DataFrame(
                {
                    "run": name,
                    "step": steps,
                    "penalty": penalty,
                    "branch": np.where(np.arange(len(steps)) <= top, "up", "down"),
                    "gate": band.value,
                    "low": band.low,
                    "high": band.high,
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def hard_table(hardened: pd.DataFrame, *, rng: np.random.Generator, resamples: int) -> pd.DataFrame:
    """Loss under hard gates less that under soft ones, on the test split, by run and setting."""
    rows = []
    test = hardened[hardened["split"] == "test"]
    for run, table in test.groupby("run"):
        soft = table[table["mode"] == SOFT].set_index("block")
        for (mode, threshold), made in table[table["mode"] != SOFT].groupby(["mode", "threshold"]):
            cost = _cost(made, soft, rng=rng, resamples=resamples)
            rows.append(
                {
                    "run": run,
                    "mode": mode,
                    "threshold": threshold,
                    "wanted": made["wanted"].iloc[0],
                    "occupancy": made["occupancy"].iloc[0],
                    "scores": made["scores"].iloc[0],
                    "soft": soft["nats"].sum() / soft["targets"].sum(),
                    **cost._asdict(),
                }
            )
    return pd.DataFrame(rows)


def time_table(measured: pd.DataFrame) -> pd.DataFrame:
    """Median, least and greatest seconds by context and occupancy."""
    groups = measured.groupby(["context", "occupancy"])["seconds"]
    return groups.agg(value="median", low="min", high="max").reset_index()


# --- statistics


def loss_statistics(
    tested: pd.DataFrame, swept: str, *, rng: np.random.Generator, resamples: int
) -> list[dict[str, Any]]:
    """Test losses of arms, and differences of TGN to each of them."""
    arms = tested[tested["kind"] == "arm"]
    losses, targets = by_arm(arms, "block"), targets_of(arms, "block")
    levels, differences = compare(
        losses,
        targets,
        [(swept, arm) for arm in losses if arm != swept],
        rng=rng,
        resamples=resamples,
    )
    common = {
        "n": len(targets),
        "unit": "nats per token",
        "method": "mean over the test split; bootstrap over blocks of four contexts, and spread of "
        "seeds",
    }
    return [
        *(
            {"id": f"fig21.{_name(arm, swept)}_loss", **common, **ends(interval)}
            for arm, interval in levels.items()
        ),
        *(
            {
                "id": f"fig21.tgn_minus_{arm}",
                **common,
                **ends(interval),
                "controls": [arm],
                "note": f"seeds: {losses[swept].shape[1]} and {losses[arm].shape[1]}",
            }
            for (_, arm), interval in differences.items()
        ),
    ]


def unigram_statistic(folder: Path) -> dict[str, Any]:
    """Test loss of guessing tokens by their frequency: above it nothing was learnt."""
    nats = unigram_nats(folder, "test")
    return {
        "id": "fig21.unigram_loss",
        "value": float(nats.mean()),
        "ci_low": None,
        "ci_high": None,
        "n": len(nats),
        "unit": "nats per token",
        "method": "frequencies of the train split, counts raised by one, on the whole test split",
    }


def gate_statistics(
    watched: pd.DataFrame, swept: str, *, rng: np.random.Generator, resamples: int
) -> list[dict[str, Any]]:
    """Levels of the gates, and how they follow the penalty."""
    arms = watched[watched["kind"] == "arm"]
    named = arms.assign(arm=arms["arm"].map(lambda arm: _name(arm, swept)))
    return [
        *level_statistics(named, "fig21", rng=rng, resamples=resamples),
        _level_slope(watched, swept, rng=rng, resamples=resamples),
    ]


def level_statistics(
    watched: pd.DataFrame, figure: str, *, rng: np.random.Generator, resamples: int
) -> list[dict[str, Any]]:
    """Where the gates of arms end, how deep they fell and how far they opened again."""
    found = []
    for arm, table in watched[watched["gate"].notna()].groupby("arm"):
        # (windows, seeds, evaluations)
        grids = np.stack(
            [
                run.pivot(index="window", columns="step", values="gate").to_numpy()
                for _, run in table.groupby("seed")
            ],
            axis=1,
        )
        levels = _levels(grids)
        by_seed = [_levels(grids[:, [k]]) for k in range(grids.shape[1])]
        for quantity, units in levels.items():
            interval = bootstrap_interval(units, _log_mean, rng=rng, resamples=resamples)
            note = "one seed"
            if len(by_seed) > 1:
                own = np.array([_log_mean(*seed[quantity]) for seed in by_seed])
                interval = widened(interval, seed_spread([own]), [len(own)])
                note = f"by seed: {', '.join(f'{value:.2f}' for value in own)}"
            found.append(
                {
                    "id": f"{figure}.{arm}_{quantity}",
                    **ends(interval),
                    "n": len(units[0]),
                    "unit": "nats",
                    "method": "bootstrap over validation windows; the lowest evaluation is chosen "
                    "on half of the windows, once, and read on the others",
                    "note": note,
                }
            )
    return found


def _levels(gates: NDArray) -> dict[str, tuple[NDArray, ...]]:
    """The gates (windows, seeds) that `_log_mean` reads, by quantity, from (..., evaluations).

    The lowest evaluation is chosen on half of the windows and read on the others. Within a resample
    the halves would share windows, so that the choice comes first.
    """
    lowest = int(np.argmin(gates[::2].mean(axis=(0, 1))))
    others = gates[1::2]
    return {
        "log_lowest_gate": (others[..., lowest],),
        "log_gate_reopening": (others[..., -1], others[..., lowest]),
        "log_final_gate": (gates[..., -1],),
    }


def _log_mean(gates: NDArray, *less: NDArray) -> float:
    """Log of the mean gate, less that of others."""
    return math.log(gates.mean() + TINY) - sum(math.log(other.mean() + TINY) for other in less)


def _level_slope(
    watched: pd.DataFrame, swept: str, *, rng: np.random.Generator, resamples: int
) -> dict[str, Any]:
    """Slope of the log of the final gate against the log of the penalty, at positive penalties."""
    final = _final(watched)
    chosen = final[
        (final["arm"] == swept)
        & (final["seed"] == 0)
        & (final["kind"] != "ramp")
        & (final["strength"] > 0)
    ]
    grid = chosen.pivot(index="window", columns="strength", values="gate")
    x = np.log(grid.columns.to_numpy(dtype=float))

    def slope(gates: NDArray) -> float:
        return float(np.polyfit(x, np.log(gates.mean(axis=0) + TINY), 1)[0])

    interval = bootstrap_interval(grid.to_numpy(), slope, rng=rng, resamples=resamples)
    own = final[(final["arm"] == swept) & (final["kind"] == "arm")]
    by_seed = np.log(own.groupby("seed")["gate"].mean().to_numpy() + TINY)
    # the variance of a slope is that of a point over the sum of squares of x
    squares = float(((x - x.mean()) ** 2).sum())
    interval = widened(interval, seed_spread([by_seed]), [squares])
    return {
        "id": "fig21.gate_level_slope",
        **ends(interval),
        "n": len(grid),
        "unit": "",
        "method": f"least squares over {len(x)} penalties, one seed each; bootstrap over windows, "
        f"and the spread of {len(by_seed)} seeds at one penalty",
    }


def ramp_statistics(
    watched: pd.DataFrame, *, rng: np.random.Generator, resamples: int
) -> list[dict[str, Any]]:
    """Gaps between the gate on the way down and up at equal penalty, slow and fast.

    A gate that changes with training time alone leaves a gap too. It is measured on a run as long
    as the slow ramp whose penalty stays; what is left of the slow ramp's gap is hysteresis, or the
    lag of a gate that cannot follow, which is less the slower the ramp.
    """
    ramps = watched[watched["kind"] == "ramp"]
    is_flat = ramps["run"].str.contains(f"-{FLAT}-")
    length = ramps[~is_flat].groupby("run")["tokens"].max().sort_values()
    grids = {
        "fast": _branches(ramps[ramps["run"] == length.index[0]]),
        "slow": _branches(ramps[ramps["run"] == length.index[-1]]),
        "drift": _branches(ramps[is_flat]),
    }

    def gap(up: NDArray, down: NDArray) -> float:
        return float(np.mean(np.log(down.mean(axis=0) + TINY) - np.log(up.mean(axis=0) + TINY)))

    common = {
        "n": len(grids["slow"][0]),
        "unit": "nats",
        "method": "log gate, down less up, mean over penalties met on both ways; bootstrap over "
        "validation windows; one run each, whose own variation is not in the interval",
    }
    found = [
        {
            "id": f"fig21.ramp_gap_{name}",
            **ends(bootstrap_interval(grid, gap, rng=rng, resamples=resamples)),
            **common,
        }
        for name, grid in grids.items()
    ]
    beyond = bootstrap_interval(
        (*grids["slow"], *grids["drift"]),
        lambda up, down, early, late: gap(up, down) - gap(early, late),
        rng=rng,
        resamples=resamples,
    )
    return [*found, {"id": "fig21.ramp_gap_beyond_drift", **ends(beyond), **common}]


def _branches(run: pd.DataFrame) -> tuple[NDArray, NDArray]:
    """Gates (windows, penalties) on the way up and on the way down, at the same penalties."""
    grid = run.pivot(index="window", columns="step", values="gate").to_numpy()
    half = grid.shape[1] // 2
    if grid.shape[1] % 2 == 0 or half < 1:
        raise ValueError(
            f"a ramp has {grid.shape[1]} evaluations; it needs an odd number, one of them at the "
            "top, to meet each penalty twice"
        )
    return grid[:, :half], grid[:, :half:-1]


def hard_statistics(
    hardened: pd.DataFrame, name: str, *, rng: np.random.Generator, resamples: int
) -> list[dict[str, Any]]:
    """What hard gates save and cost, at the fewest open tokens that cost under 1 % of perplexity.

    The setting is chosen on the validation split and read on the test split.
    """
    chosen = cheapest(hardened[hardened["split"] == "validation"])
    test = hardened[hardened["split"] == "test"]
    soft = test[test["mode"] == SOFT].set_index("block")
    common = {
        "n": len(soft),
        "method": "chosen on the validation split, read on the test split; bootstrap over blocks",
    }
    found = []
    for quantity, mode, wanted in (
        ("hard_gate", HARD, chosen),
        ("shuffled_gate", SHUFFLED, chosen),
        ("threshold", ONE, None),
    ):
        rows = test[(test["mode"] == mode)]
        rows = (
            rows[rows["threshold"] == PUBLISHED_THRESHOLD]
            if wanted is None
            else rows[rows["wanted"] == wanted]
        )
        cost = _cost(rows, soft, rng=rng, resamples=resamples)
        found.append(
            {
                "id": f"fig21.{name}_{quantity}_cost",
                **ends(cost),
                "unit": "nats per token",
                **common,
            }
        )
        if mode == HARD:
            # the whole split's share is a count, without sampling error of its own
            saved = 1 - float(rows["scores"].iloc[0])
            found.append(
                {
                    "id": f"fig21.{name}_attention_scores_saved",
                    "value": saved,
                    "ci_low": saved,
                    "ci_high": saved,
                    "unit": "share",
                    **common,
                    "method": "counted on the test split at the setting chosen on validation",
                }
            )
    return found


def cheapest(validation: pd.DataFrame) -> float:
    """The least wanted share of open tokens whose loss is within 1 % of the soft model's.

    The greatest share that was tried, if none is.
    """
    means = validation.groupby(["mode", "wanted"])[["nats", "targets"]].sum()
    losses = means["nats"] / means["targets"]
    cost = losses[HARD] - float(losses[SOFT].iloc[0])
    kept = cost[cost <= TOLERANCE]
    return float(kept.index.min()) if len(kept) else float(cost.index.max())


def time_statistics(
    measured: pd.DataFrame, context: int, *, rng: np.random.Generator, resamples: int
) -> list[dict[str, Any]]:
    """Share of the time of full attention that a gate open for 9 % of tokens saves."""
    share = min((s for s in measured["occupancy"].unique() if s < 1), key=lambda s: abs(s - 0.09))
    found = []
    for name, length in (("training_context", context), ("longest_context", None)):
        length = measured["context"].max() if length is None else length
        rows = measured[measured["context"] == length]
        grid = rows.pivot(index="repeat", columns="occupancy", values="seconds")
        interval = bootstrap_interval(
            grid[[share, 1.0]].to_numpy(),
            lambda seconds: 1 - np.median(seconds[:, 0]) / np.median(seconds[:, 1]),
            rng=rng,
            resamples=resamples,
        )
        found.append(
            {
                "id": f"fig21.attention_time_saved_{name}",
                **ends(interval),
                "n": len(grid),
                "unit": "share",
                "method": f"medians at {length} tokens, {share:g} of them open, against causal "
                "attention; bootstrap over repeats",
            }
        )
    return found


def _cost(
    made: pd.DataFrame, soft: pd.DataFrame, *, rng: np.random.Generator, resamples: int
) -> Interval:
    """Nats per token more than with soft gates, block by block."""
    joined = soft[["nats", "targets"]].join(made.set_index("block")["nats"].rename("hard"))
    return bootstrap_interval(
        ((joined["hard"] - joined["nats"]).to_numpy(), joined["targets"].to_numpy()),
        lambda more, targets: more.sum() / targets.sum(),
        rng=rng,
        resamples=resamples,
    )


def _name(arm: str, swept: str) -> str:
    """What ids call an arm: the swept one is TGN."""
    return "tgn" if arm == swept else arm


def _final(watched: pd.DataFrame) -> pd.DataFrame:
    """The rows of each run's last evaluation."""
    return watched[watched["step"] == watched.groupby("run")["step"].transform("max")]
