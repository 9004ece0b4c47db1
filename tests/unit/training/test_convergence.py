"""Figure 22's convergence on planted curves: each statistic must find what was planted."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from tgn.training import convergence

STEPS = np.arange(9)
TOKENS = 1000 * STEPS
WINDOWS, TARGETS = 12, 50


def rng():
    return np.random.default_rng(0)


def exponential(rate, floor=4.0, start=8.0):
    return floor + (start - floor) * np.exp(-rate * STEPS)


def run(arm, seed, curve, seconds=1.0, gate=np.nan):
    """A run whose windows differ in hardness alone."""
    hardness = np.random.default_rng(5).normal(0, 0.2, WINDOWS)
    hardness -= hardness.mean()
    return pd.concat(
        pd.DataFrame(
            {
                "window": np.arange(WINDOWS),
                "nats": TARGETS * (loss + hardness),
                "targets": TARGETS,
                "gate": gate,
            }
        ).assign(step=step, tokens=1000 * step, seconds=seconds * step)
        for step, loss in zip(STEPS, curve, strict=True)
    ).assign(arm=arm, seed=seed, run=f"{arm}-{seed}")


def found(function, *runs, **arguments):
    rows = function(pd.concat(runs), **arguments, rng=rng(), resamples=100)
    return {row["id"].removeprefix("fig22."): row for row in rows}


def seeds(arm, curve, **settings):
    return [run(arm, seed, curve + 0.001 * seed, **settings) for seed in (0, 1)]


def test_an_arm_that_learns_twice_as_fast_takes_half_the_tokens():
    straight = 8.0 - 0.25 * STEPS  # on straight lines reading off is exact
    fast = np.maximum(8.0 - 0.5 * STEPS, 6.0)
    rows = found(
        convergence.reach_statistics, *seeds("tgn", fast), *seeds("transformer", straight),
        scale="tokens",
    )  # fmt: skip
    row = rows["tgn_log_tokens_to_loss_minus_transformer"]
    assert row["value"] == pytest.approx(math.log(0.5), abs=0.01)
    assert row["ci_low"] <= row["value"] <= row["ci_high"] < -0.6


def test_the_slower_one_is_compared_where_it_ends():
    """An arm that never reaches the Transformer's loss still has a ratio, and it is the inverse."""
    slow, quick = 8.0 - 0.25 * STEPS, 8.0 - 0.5 * STEPS
    for own, other, sign in ((slow, quick, 1), (quick, slow, -1)):
        rows = found(
            convergence.reach_statistics, *seeds("mamba", own), *seeds("transformer", other),
            scale="tokens",
        )  # fmt: skip
        value = rows["mamba_log_tokens_to_loss_minus_transformer"]["value"]
        assert value == pytest.approx(sign * math.log(2), abs=0.01)


def test_a_curve_that_goes_up_again_counts_from_where_it_was_lowest():
    dipping = np.array([8.0, 7, 6, 5, 5.5, 5.5, 5.5, 5.5, 5.2])
    level = np.array([8.0, 7, 6, 5, 5, 5, 5, 5, 5])
    rows = found(
        convergence.reach_statistics, *seeds("tgn", dipping), *seeds("transformer", level),
        scale="tokens",
    )  # fmt: skip
    assert rows["tgn_log_tokens_to_loss_minus_transformer"]["value"] == pytest.approx(0, abs=0.01)


def test_one_that_learned_nothing_does_not_divide_by_zero():
    rows = found(
        convergence.reach_statistics, *seeds("tgn", np.full(9, 8.0)),
        *seeds("transformer", exponential(0.5)), scale="tokens",
    )  # fmt: skip
    assert math.isfinite(rows["tgn_log_tokens_to_loss_minus_transformer"]["value"])


def test_equal_curves_take_seconds_as_their_steps_do():
    curve = exponential(0.5)
    rows = found(
        convergence.reach_statistics, *seeds("mamba", curve, seconds=3.0),
        *seeds("transformer", curve), scale="seconds",
    )  # fmt: skip
    row = rows["mamba_log_seconds_to_loss_minus_transformer"]
    assert row["value"] == pytest.approx(math.log(3))


def test_the_area_is_the_mean_loss_of_the_run():
    straight = 8.0 - 0.25 * STEPS
    rows = found(
        convergence.area_statistics, *seeds("tgn", straight - 0.5), *seeds("transformer", straight)
    )
    assert rows["transformer_area"]["value"] == pytest.approx(7.0005)
    row = rows["area_tgn_minus_transformer"]
    assert row["value"] == pytest.approx(-0.5)
    assert row["ci_high"] < -0.48


def test_the_curve_of_all_seeds_is_their_mean_between_the_least_and_the_greatest():
    curve = exponential(0.4)
    table = convergence.curve_table(
        pd.concat([run("tgn", 0, curve, 1.0), run("tgn", 1, curve + 0.2, 3.0)]),
        rng=rng(), resamples=100,
    )  # fmt: skip
    mean = table[table["seed"] == convergence.MEAN]
    np.testing.assert_allclose(mean["validation"], curve + 0.1)
    np.testing.assert_allclose(mean["low"], curve)
    np.testing.assert_allclose(mean["high"], curve + 0.2)
    np.testing.assert_allclose(mean["seconds"], 2.0 * STEPS)
    one = table[table["seed"] == "0"]
    assert ((one["low"] < one["validation"]) & (one["validation"] < one["high"])).all()
    np.testing.assert_array_equal(one["tokens"], TOKENS)


def blocks(arm, seed, loss):
    return pd.DataFrame(
        {"block": np.arange(20), "nats": 100 * loss * np.linspace(0.9, 1.1, 20), "targets": 100}
    ).assign(arm=arm, seed=seed)


@pytest.mark.parametrize(("loss", "learned"), [(6.0, True), (7.2, False)])
def test_a_model_above_token_frequencies_has_learned_nothing(loss, learned):
    unigram = np.repeat(7.0 * np.linspace(0.9, 1.1, 20), 100)  # as hard where the models' is
    tested = pd.concat(blocks(arm, seed, loss) for arm in ("tgn", "transformer") for seed in (0, 1))
    rows = convergence.loss_statistics(tested, unigram, rng=rng(), resamples=100)
    row = {row["id"]: row for row in rows}["fig22.tgn_minus_unigram"]
    assert row["value"] == pytest.approx(loss - 7.0)
    assert (row["ci_high"] < 0) == learned
    assert (row["ci_low"] > 0) != learned


@pytest.fixture
def folder(tmp_path):
    """A text of three tokens, 0 of them an end, half and a quarter and a quarter frequent."""
    train = np.tile(np.array([0, 1, 0, 2], np.uint16), 5000)
    for split in ("train", "validation", "test"):
        np.save(tmp_path / f"{split}.npy", train)
    (tmp_path / "counts.json").write_text(json.dumps({"vocabulary": 3, "end": 0}))
    return tmp_path


def test_token_frequencies_and_their_entropy(folder):
    rows = {row["id"]: row for row in convergence.unigram_statistics(folder, 16, 8)}
    entropy = 1.5 * math.log(2)
    assert rows["fig22.unigram_entropy"]["value"] == pytest.approx(entropy, rel=1e-12)
    # on windows of whole periods it is nearly the same; the raised counts differ a little
    assert rows["fig22.unigram_loss"]["value"] == pytest.approx(entropy, rel=1e-3)
    assert rows["fig22.unigram_loss"]["n"] == 8


def test_everything_is_written_and_read_from_runs_on_disk(folder, tmp_path):
    runs, paths = {}, {"trajectory": [], "blocks": [], "timings": []}
    for arm in ("tgn", "transformer", "mamba"):
        for seed in (0, 1):
            name = f"{arm}-{seed}"
            runs[name] = {
                "arm": arm, "seed": seed, "penalty": 0.1, "model": {"context": 16},
                "training": {"validation_windows": 8},
            }  # fmt: skip
            gate = 0.2 if arm == "tgn" else np.nan
            tables = {
                "trajectory": run(arm, seed, exponential(0.4) + 0.01 * seed, gate=gate).drop(
                    columns=["arm", "seed", "run", "seconds"]
                ),
                "blocks": blocks(arm, seed, 5.0).iloc[:, :3].assign(targets=1000),
                "timings": pd.DataFrame(
                    {"step": STEPS, "seconds": 9.0 * STEPS, "cpu_seconds": 2.0 * STEPS}
                ),
            }
            (tmp_path / name).mkdir()
            for kind, table in tables.items():
                paths[kind].append(str(tmp_path / name / f"{kind}.parquet"))
                table.to_parquet(paths[kind][-1])
    outputs = {"curves": "c.parquet", "statistics": "s.json", "timings": "t.json"}
    for gpus, seconds in ((0, 2.0 * 8), (6, 9.0 * 8 * 6)):
        convergence.summarise(
            trajectories=paths["trajectory"], blocks=paths["blocks"], seconds=paths["timings"],
            tokens=str(folder / "counts.json"), runs=runs, gpus=gpus, model="planted",
            evidence="simulated", resamples=100, seed=1,
            **{key: tmp_path / name for key, name in outputs.items()},
        )  # fmt: skip
        table = pd.read_parquet(tmp_path / "c.parquet")
        assert table.groupby("arm")["seconds"].max().tolist() == [seconds] * 3
        assert set(table["seed"]) == {"0", "1", convergence.MEAN}
    told = {name: json.loads((tmp_path / name).read_text()) for name in ("s.json", "t.json")}
    ids = {name: {row["id"] for row in rows} for name, rows in told.items()}
    assert {"fig22.tgn_minus_transformer", "fig22.mamba_minus_unigram"} <= ids["s.json"]
    assert "fig22.tgn_log_lowest_gate" in ids["s.json"]
    assert "fig22.mamba_log_lowest_gate" not in ids["s.json"]
    # what a clock measured stands apart
    assert all("seconds" in name for name in ids["t.json"])
    assert not any("seconds" in name for name in ids["s.json"])
