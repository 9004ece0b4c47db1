"""Planted curves and people come out as planted."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tgn.statistics import read_statistics
from tgn.training import sedation_statistics as bridge

DEPTH = {"awake": 2.0, "light": 3.0, "deep": 5.0, "recovery": 2.0}
ARMS = ("tgn", "tgn_mamba", "transformer")
RUNS = {
    f"{arm}-{seed}": {"arm": arm, "seed": seed, "training": {"steps": 1}}
    for arm in ARMS
    for seed in range(2)
}
WINDOWS = 12


def table(run, fall, noise=0.02):
    """Log rank 4 + fall x gate after the last block; shuffled weights do not move."""
    rng = np.random.default_rng(list(RUNS).index(run))
    arm = RUNS[run]["arm"]
    main = "scaled" if arm == "transformer" else "clamped"
    cases = [(mode, dose) for mode in (main, "untrained") for dose in (0.0, 0.5, 1.0)]
    if arm != "transformer":
        cases += [("random", 0.5), ("own", np.nan), ("permuted", np.nan)]
    rows = []
    for mode, dose in cases:
        gate = 0.25 if np.isnan(dose) else dose
        for window in range(WINDOWS):
            for layer in (0, 1, 2):
                moved = 0 if mode == "untrained" else fall * gate * layer / 2
                log_rank = 4 + moved + noise * rng.normal() * (layer == 2)
                rows.append(
                    {"run": run, "mode": mode, "dose": dose, "gate": gate, "window": window,
                     "layer": layer, "effective_rank": np.exp(log_rank),
                     "participation_ratio": np.exp(log_rank - 1), "nats": 5 + 0.3 * gate}
                )  # fmt: skip
    return pd.DataFrame(rows)


def people(fall, noise=0.02, count=8):
    rng = np.random.default_rng(1)
    gates = bridge.gate_of_depth(DEPTH)
    return pd.DataFrame(
        [
            {"subject": f"{n:02}", "state": state, "kind": "subject",
             "value": np.exp(3 + 0.1 * n + fall * gate + noise * rng.normal())}
            for n in range(count)
            for state, gate in gates.items()
        ]
        + [{"subject": None, "state": "awake", "kind": "mean", "value": 1e9}]
    )  # fmt: skip


def summarised(folder, network=0.2, brain=0.4, **changed):
    folder.mkdir(exist_ok=True)
    for arm in ARMS:
        runs = [table(run, network) for run in RUNS if RUNS[run]["arm"] == arm]
        pd.concat(runs, ignore_index=True).to_parquet(folder / f"{arm}.parquet")
    people(brain).to_parquet(folder / "states.parquet")
    names = ("curves", "matched", "null")
    bridge.summarise(
        **({
            "tables": [folder / f"{arm}.parquet" for arm in ARMS],
            "states": folder / "states.parquet",
            **{name: folder / f"{name}_out.parquet" for name in names},
            "statistics": folder / "statistics.json", "runs": RUNS, "arms": list(ARMS),
            "depth": DEPTH, "permutations": 200, "model": "planted", "evidence": "real",
            "states_model": "people", "states_evidence": "simulated", "resamples": 200, "seed": 0,
        } | changed)
    )  # fmt: skip
    found = {r.id.removeprefix("bridge."): r for r in read_statistics(folder / "statistics.json")}
    return found, {name: pd.read_parquet(folder / f"{name}_out.parquet") for name in names}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return summarised(tmp_path_factory.mktemp("bridge"))


def test_a_planted_fall_is_found_with_its_interval(planted):
    found, _ = planted
    for arm in ARMS:
        record = found[f"{arm}_log_rank_open_minus_shut"]
        assert record.ci_low < 0.2 < record.ci_high
        assert record.ci_high - record.ci_low < 0.1
        still = found[f"{arm}_log_rank_open_minus_shut_untrained"]
        assert still.ci_low < 0 < still.ci_high
    own = found["tgn_log_rank_own_minus_shut"]
    assert own.ci_low < 0.05 < own.ci_high
    assert found["tgn_loss_open_minus_own"].value == pytest.approx(0.3 * 0.75)
    assert found["tgn_own_gate"].value == pytest.approx(0.25)


def test_a_model_without_a_gate_has_no_gate_of_its_own(planted):
    found, _ = planted
    assert {name for name in found if name.startswith("transformer_")} == {
        "transformer_log_rank_open_minus_shut",
        "transformer_log_rank_open_minus_shut_untrained",
        "transformer_log_participation_open_minus_shut",
    }


def test_random_gates_are_read_against_shut_ones(planted):
    found, _ = planted
    for name, fall in {"random": 0.2 * 0.5, "permuted": 0.2 * 0.25}.items():
        record = found[f"tgn_log_rank_{name}_minus_shut"]
        assert record.ci_low < fall < record.ci_high
        assert record.ci_high - record.ci_low < 0.1


def test_seeds_that_disagree_widen_the_interval(tmp_path, planted):
    for run in RUNS:
        fall = 0.2 + (0.3 if RUNS[run]["seed"] else 0.0)
        RUNS[run]["fall"] = fall
    seen = pd.concat(
        [
            table(run, RUNS[run].pop("fall")).assign(arm=RUNS[run]["arm"], seed=RUNS[run]["seed"])
            for run in RUNS
        ]
    )
    records = bridge.network_statistics(
        seen, RUNS, ARMS, rng=np.random.default_rng(0), resamples=200, model="m", evidence="real"
    )
    wide = next(r for r in records if r.id == "bridge.tgn_log_rank_open_minus_shut")
    agreed = planted[0]["tgn_log_rank_open_minus_shut"]
    assert wide.ci_high - wide.ci_low > 5 * (agreed.ci_high - agreed.ci_low)


def test_ratios_are_paired_by_window(planted):
    curves = planted[1]["curves"]
    ratios = curves[curves["quantity"] == "log_ratio"]
    shut = ratios[ratios["dose"] == 0]
    np.testing.assert_array_equal(shut[["value", "low", "high"]], 0.0)
    top = ratios[(ratios["dose"] == 1) & ratios["mode"].isin(["clamped", "scaled"])]
    np.testing.assert_allclose(top["value"], 0.2, atol=0.03)
    assert (curves.groupby(["arm", "seed", "mode", "dose", "layer", "quantity"], dropna=False)
            .size() == 1).all()  # fmt: skip


def test_loss_is_that_above_the_network_as_trained(planted):
    curves = planted[1]["curves"]
    extra = curves[
        (curves["quantity"] == "extra_nats") & curves["mode"].isin(["clamped", "scaled"])
    ]
    trained = np.where(extra["arm"] == "transformer", 1.0, 0.25)
    np.testing.assert_allclose(extra["value"], 0.3 * (extra["dose"] - trained), atol=1e-9)


def test_curves_at_the_states_have_intervals_over_windows(planted):
    matched = planted[1]["matched"].set_index(["curve", "state"])
    assert set(matched.index.unique("curve")) == {"brain", *ARMS, "random", "untrained"}
    networks = matched.drop(index="brain", level="curve")
    assert (networks["n"] == WINDOWS).all()
    deep = networks.xs("deep", level="state")
    width = deep["high"] - deep["low"]
    assert ((width > 0) & (width < 0.06)).all()
    falls = pd.Series(-0.2, index=deep.index).where(deep.index != "untrained", 0.0)
    assert deep["low"].le(falls + 0.01).all()
    assert deep["high"].ge(falls - 0.01).all()


@pytest.mark.parametrize(("brain", "sign"), [(0.4, 1), (-0.4, -1)])
def test_people_who_fall_as_the_network_are_like_it_and_others_unlike(tmp_path, brain, sign):
    found, tables = summarised(tmp_path, brain=brain)
    likeness = found["similarity"]
    assert sign * likeness.value > 0.9
    for name in ("", "_tgn_mamba", "_transformer", "_random", "_untrained", "_depth"):
        chance = found[f"similarity{name}_permuted"]
        assert chance.ci_low < 0 < chance.ci_high
        null = tables["null"].query(
            "permuted and curve == @curve", local_dict={"curve": name[1:] or "tgn"}
        )
        assert (chance.ci_low, chance.ci_high) == pytest.approx(
            null["value"].quantile([0.025, 0.975])
        )
    assert (found["similarity_p"].value < 0.02) == (sign > 0)
    assert likeness.evidence == "simulated"
    assert found["tgn_log_rank_open_minus_shut"].evidence == "real"
    gap = found["fall_people_minus_network"]
    assert gap.value == pytest.approx(brain - 0.2, abs=0.05)
    # A straight line does as well, so that the network is not what explains it.
    line = found["similarity_minus_depth"]
    assert abs(line.value) < 0.02
    null = tables["null"]
    assert null.groupby("curve")["permuted"].agg(["size", "sum"]).eq([201, 200]).all(axis=None)
    matched = tables["matched"].set_index(["curve", "state"])["value"]
    assert matched["brain", "deep"] == pytest.approx(-brain, abs=0.05)
    assert matched["tgn", "deep"] == pytest.approx(-0.2, abs=0.05)
    assert matched["tgn", "awake"] == 0


def test_people_without_three_states_are_left_out():
    states = people(0.4)
    few = states[(states["subject"] != "03") | states["state"].isin(["awake", "deep"])]
    table = bridge.log_ranks(few, DEPTH)
    assert "03" not in table.index
    assert len(table) == 7
    with pytest.raises(ValueError, match="three states"):
        bridge.log_ranks(states[states["state"].isin(["awake", "deep"])], DEPTH)


@given(
    st.lists(st.lists(st.floats(-5, 5), min_size=4, max_size=4), min_size=1, max_size=5),
    st.lists(st.floats(-5, 5), min_size=4, max_size=4),
)
def test_correlations_are_pearsons(ranks, curve):
    ranks, curve = np.array(ranks), np.array(curve)
    found = bridge.correlations(ranks, curve)
    for row, value in zip(ranks, found, strict=True):
        if row.std() > 1e-3 and curve.std() > 1e-3:
            assert value == pytest.approx(np.corrcoef(row, curve)[0, 1], abs=1e-6)
    assert (np.abs(found) <= 1 + 1e-9).all()
