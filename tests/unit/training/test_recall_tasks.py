"""From small trained models to tables and statistics; sums checked one by one."""

import copy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from tgn.statistics import read_statistics
from tgn.text import listops
from tgn.training import recall_tasks, synthetic
from tgn.training import recall_tasks_plan as plan
from tgn.training.recall_statistics import wilson

SECTION = {
    "tasks": {
        "associative": {
            "task": {"vocab_size": 10, "input_seq_len": 12},
            "train": [{}],
            "validation": [{}],
            "test": [{"max_distance": 5}, {"min_distance": 6}],
            "model": {"vocabulary": 10, "context": 12},
            "training": {},
            "penalty": 0.01,
        },
        "listops": {
            "task": {"input_seq_len": 24},
            "train": [{"max_depth": 2, "part": "train"}],
            "validation": [{"max_depth": 2, "part": "validation"}],
            "test": [
                {"max_depth": 1, "part": "test"},
                {"min_depth": 2, "max_depth": 2, "part": "test"},
            ],
            "model": {"vocabulary": 16, "context": 24},
            "training": {},
            "penalty": 0.01,
        },
    },
    "model": {"width": 16, "depth": 2, "heads": 1},
    "training": {
        "steps": 4, "batch": 240, "optimizer": {"kind": "adamw"}, "evaluate_every": 4,
        "validation_examples": 20, "test_examples": 30,
    },
    "rate_grid": [0.01],
    "seeds": 1,
    "equal": "tgn",
    "arms": {
        "attention": {"model": {"mixer": "attention"}},
        "tgn": {"model": {"mixer": "gated", "inertial": "mingru"}, "seeds": 2},
    },
}  # fmt: skip
RUNS = plan.runs(SECTION)


def trained(folder, name):
    run = copy.deepcopy({k: v for k, v in RUNS[name].items() if k != "task"}) | {"rate": 0.01}
    place = folder / name
    place.mkdir()
    outputs = {k: place / f"{k}.parquet" for k in ("metrics", "accuracy", "occupancy")}
    synthetic.train(
        **run, **outputs, checkpoint=place / "model.safetensors", state=place / "state",
        library=[Path(recall_tasks.__file__)],
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Everything that the rules make, of models trained for four steps."""
    folder = tmp_path_factory.mktemp("recall_tasks")
    for name in RUNS:
        trained(folder, name)
    gated = plan.gated(RUNS)
    recall_tasks.measure_gates(
        weights=[folder / name / "model.safetensors" for name in gated], runs=gated, examples=12,
        table=folder / "gates.parquet",
    )  # fmt: skip
    recall_tasks.summarise(
        accuracies=[str(folder / name / "accuracy.parquet") for name in RUNS],
        gates=str(folder / "gates.parquet"), accuracy=str(folder / "accuracy.parquet"),
        occupancy=str(folder / "occupancy.parquet"), shapes=str(folder / "shapes.parquet"),
        statistics=str(folder / "statistics.json"), runs=RUNS, published=200, evidence="real",
        seed=1,
    )  # fmt: skip
    return folder


def test_accuracies_are_those_of_the_runs(made):
    table = pd.read_parquet(made / "accuracy.parquet")
    assert not table.duplicated(["task", "arm", "stratum", "seed"]).any()
    for name, run in RUNS.items():
        own = pd.read_parquet(made / name / "accuracy.parquet")["accuracy"].to_numpy()
        rows = table[
            (table["task"] == run["task"])
            & (table["arm"] == run["arm"])
            & (table["seed"] == str(run["seed"]))
        ].set_index("stratum")
        strata = ["2 to 5", "6 to 11"] if run["task"] == "associative" else ["1", "2"]
        assert rows.loc[strata, "accuracy"].tolist() == own.tolist()
        assert rows.loc["all", "accuracy"] == pytest.approx(own.mean())
        assert rows.loc["all", "n"] == 60
    assert (table["low"] <= table["accuracy"]).all()
    assert (table["accuracy"] <= table["high"]).all()
    counts = table.loc[table["parameters"] > 0].groupby("task")["parameters"]
    assert (counts.max() / counts.min() <= 1.04).all()


def test_statistics_name_every_arm_and_what_it_is_held_against(made):
    found = {record.id: record for record in read_statistics(made / "statistics.json")}
    for task in plan.TASKS:
        for name in ("accuracy_tgn", "accuracy_attention", "tgn_minus_attention", "tgn_gate"):
            assert f"recall_tasks.{task}_{name}" in found
    gap = found["recall_tasks.listops_tgn_minus_flat"]
    ours, flat = (found[f"recall_tasks.listops_accuracy_{arm}"] for arm in ("tgn", "flat"))
    assert gap.value == pytest.approx(ours.value - flat.value)
    assert "one seed" in found["recall_tasks.listops_accuracy_attention"].note
    assert "one seed" not in found["recall_tasks.associative_accuracy_tgn"].note
    kept = found["recall_tasks.listops_published_kept"].value
    assert 0.2 < kept < 0.6
    assert found["recall_tasks.listops_published_bare_digits"].value == pytest.approx(
        0.3 / kept, abs=0.15
    )


def test_an_arm_that_learnt_nothing_is_called_so():
    rows = [("gru", 0.16, 0.12, 0.2, 9), ("tgn", 0.9, 0.8, 1.0, 9), ("chance", 0.1, 0.1, 0.1, 0),
            ("most_frequent", 0.14, 0.13, 0.15, 0)]  # fmt: skip
    answers = pd.DataFrame(rows, columns=["arm", "accuracy", "low", "high", "parameters"])
    answers = answers.assign(task="associative", stratum="all", seed="mean", n=100, seeds=2)
    found = {record["id"]: record for record in recall_tasks.accuracy_statistics(answers)}
    notes = {
        arm: found[f"recall_tasks.associative_accuracy_{arm}"]["note"] for arm in answers["arm"]
    }
    assert notes.pop("gru") == "not clearly above 0.14, which most_frequent has untrained"
    assert set(notes.values()) == {""}


def test_open_gates_are_counted_at_the_query_and_over_all_tokens(made):
    table = pd.read_parquet(made / "gates.parquet")
    own = table[(table["task"] == "listops") & (table["arm"] == "tgn")]
    found = {record.id: record for record in read_statistics(made / "statistics.json")}
    for name, role in (("open", "all"), ("open_query", "query")):
        record = found[f"recall_tasks.listops_tgn_{name}"]
        assert record.value == pytest.approx(own.loc[own["role"] == role, "open"].mean())
        assert 0 <= record.ci_low <= record.value <= record.ci_high <= 1


def test_gates_are_measured_of_every_layer_and_role(made):
    table = pd.read_parquet(made / "gates.parquet")
    groups = table.groupby(["task", "arm", "seed", "layer"])["role"].agg(set)
    assert len(groups) == 2 * 2 * 2
    assert groups["listops", "tgn", 0, 1] == {
        "query", "operator", "digit", "bracket", "all", "query - all",
    }  # fmt: skip
    assert table.loc[table["role"] != "query - all", "gate"].between(0, 1).all()
    assert (table["n"] == 24).all()


def test_shapes_are_distributions(made):
    table = pd.read_parquet(made / "shapes.parquet")
    assert table.groupby(["generator", "quantity"])["share"].sum().to_numpy() == pytest.approx(1)
    ours = table[(table["generator"] == "ours") & (table["quantity"] == "depth")]
    assert set(ours["value"]) == {1, 2}
    lengths = np.array([1, 3, 4, 15, 16, 63, 64, 64])
    made = recall_tasks.shape_table({"x": (np.zeros(8, int), lengths)})
    assert made.loc[made["quantity"] == "length", ["value", "share"]].to_numpy().tolist() == [
        [1, 0.25], [4, 0.25], [16, 0.25], [64, 0.25],
    ]  # fmt: skip


def test_gates_by_role_are_means_of_means():
    rng = np.random.default_rng(0)
    gates, roles = rng.random((2, 5, 7)), rng.integers(0, 3, (5, 7))
    roles[:, -1] = 0  # every sequence has a query
    roles[0, roles[0] == 1] = 2
    table = recall_tasks.gates_by_role(gates, roles, ("query", "pair", "padding"))
    table = table.set_index(["layer", "role"])
    for layer in range(2):
        means = {"query": [], "pair": [], "all": [], "query - all": []}
        for gate, role in zip(gates[layer], roles, strict=True):
            means["query"].append(gate[role == 0].mean())
            means["all"].append(gate[role != 2].mean())
            means["query - all"].append(means["query"][-1] - means["all"][-1])
            if (role == 1).any():
                means["pair"].append(gate[role == 1].mean())
        for role, values in means.items():
            row = table.loc[(layer, role)]
            assert row["n"] == len(values)
            assert row["gate"] == pytest.approx(np.mean(values))
            assert row["standard_error"] == pytest.approx(pd.Series(values).sem())
    opened = [(gate[role == 0] > 0.5).mean() for gate, role in zip(gates[1], roles, strict=True)]
    assert table.loc[(1, "query"), "open"] == pytest.approx(np.mean(opened))


def test_the_spread_of_seeds_is_pooled_over_arms_and_widens_only_what_was_trained():
    columns = ["arm", "seed", "accuracy", "parameters"]
    rows = [("a", "0", 0.4, 9), ("a", "1", 0.6, 9), ("b", "0", 0.7, 9), ("chance", "0", 0.1, 0)]
    found = pd.DataFrame(rows, columns=columns).assign(
        task="t", stratum="1", low_end=1, high_end=1, n=10**9
    )
    table = recall_tasks.accuracy_table(found)
    table = table[table["seed"] == "mean"].set_index("arm")
    once = student.ppf(0.975, 1) * np.std([0.4, 0.6], ddof=1)
    for arm, value, margin in (("a", 0.5, once / np.sqrt(2)), ("b", 0.7, once), ("chance", 0.1, 0)):
        ends = table.loc[arm, ["accuracy", "low", "high"]].astype(float).tolist()
        expected = [value, max(0, value - margin), min(1, value + margin)]
        assert ends == pytest.approx(expected, abs=1e-4)


def test_one_seed_holds_its_sequences_alone():
    rows = [("a", "0", 0.4, 9), ("a", "1", 0.6, 9)]
    found = pd.DataFrame(rows, columns=["arm", "seed", "accuracy", "parameters"]).assign(
        task="t", stratum="1", low_end=1, high_end=1, n=50
    )
    table = recall_tasks.accuracy_table(found).set_index("seed")
    assert tuple(table.loc["0", ["low", "high"]]) == wilson(0.4, 50)


def test_baselines_are_what_they_say():
    rng = np.random.default_rng(2)
    known, values = recall_tasks.draw(RUNS["listops-tgn-0"]["train_tasks"], rng, 20_000)
    table = recall_tasks.baselines(RUNS["listops-tgn-0"], np.random.default_rng(3))
    found = table.set_index(["arm", "stratum"])["accuracy"]
    assert found["flat", "1"] == 1  # brackets inside there are none
    assert found["flat", "2"] < 1
    assert (found["bare_digit"] == found["majority"]).all()  # nor bare digits
    assert (found["first_operator"] > found["majority"]).all()
    share = np.bincount(values).max() / len(values)
    assert found["majority", "all"] == pytest.approx(share, abs=0.03)
    assert (listops.parts(known) == 0).all()
    single = recall_tasks.baselines(RUNS["associative-tgn-0"], rng).set_index(["arm", "stratum"])
    assert single.loc[("chance", "all"), "accuracy"] == pytest.approx(1 / 9)
    assert single.loc[("most_frequent", "all"), "accuracy"] > 1 / 9
