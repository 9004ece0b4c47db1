"""The page of the small recall tasks shows what its tables hold."""

import itertools

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from tgn.plots import recall_tasks
from tgn.statistics import Statistic, write_statistics

STRATA = {"associative": ["2 to 5", "6 to 11", "all"], "listops": ["1", "2", "all"]}
ROLES = {"associative": ["query", "key", "value", "noise"], "listops": ["query", "operator"]}


def answers():
    rows = []
    for task, strata in STRATA.items():
        for number, arm in enumerate([*recall_tasks.ARMS, "chance", "flat"]):
            for low, stratum in enumerate(strata):
                for seed, shift in (("0", -0.01), ("1", 0.01), ("mean", 0.0)):
                    value = 0.9 - 0.1 * number + 0.02 * low + shift
                    rows.append(
                        {
                            "task": task, "arm": arm, "stratum": stratum, "low_end": low,
                            "seed": seed, "accuracy": value, "low": value - 0.03,
                            "high": value + 0.03,
                        }
                    )  # fmt: skip
    return pd.DataFrame(rows)


def gates():
    rows = []
    for task, roles in ROLES.items():
        for arm, role, layer in itertools.product(("tgn", "tgn_gru"), roles, ("0", "1", "all")):
            gate = 0.9 if role == "query" else 0.1
            rows.append(
                {
                    "task": task, "arm": arm, "role": role, "layer": layer, "seed": "mean",
                    "gate": gate, "low": gate - 0.05, "high": gate + 0.05,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def shapes():
    rows = []
    for generator, quantity in itertools.product(recall_tasks.GENERATORS, ("depth", "length")):
        rows += [
            {"generator": generator, "quantity": quantity, "value": value, "share": 0.5}
            for value in (1, 4)
        ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The figure, still open, and the folder it is written to."""
    tmp_path = tmp_path_factory.mktemp("page")
    tables = {"accuracy": answers(), "occupancy": gates(), "shapes": shapes()}
    paths = {name: tmp_path / f"{name}.parquet" for name in tables}
    for name, table in tables.items():
        table.to_parquet(paths[name])
    statistics = tmp_path / "statistics.json"
    record = Statistic(
        id="recall_tasks.x", value=1, ci_low=1, ci_high=1, n=1, unit="", method="m",
        model="small", evidence="real",
    )  # fmt: skip
    write_statistics(statistics, [record])
    kept = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plt, "close", kept.append)
        recall_tasks.draw(
            **paths, statistics=statistics, pdf=tmp_path / "f.pdf", png=tmp_path / "f.png",
            scale="smoke",
        )  # fmt: skip
    yield kept[0], tmp_path
    plt.close("all")


def test_files_are_written(drawn):
    _, folder = drawn
    assert (folder / "f.pdf").read_bytes().startswith(b"%PDF")
    assert (folder / "f.png").read_bytes().startswith(b"\x89PNG")


def test_every_arm_has_its_place_and_its_seeds(drawn):
    figure, _ = drawn
    for axes in (figure.axes[0], figure.axes[4]):
        labels = [tick.get_text() for tick in axes.get_yticklabels()]
        assert labels == [look.label for look in recall_tasks.ARMS.values()]
        circles = [line for line in axes.lines if line.get_marker() == "o"]
        assert [len(line.get_xdata()) for line in circles] == [2] * len(labels)
        assert circles[0].get_xdata().mean() == pytest.approx(0.9 + 0.02 * 2)


def test_strata_are_in_order_with_baselines_beside(drawn):
    figure, _ = drawn
    for axes, task in ((figure.axes[1], "associative"), (figure.axes[5], "listops")):
        assert [tick.get_text() for tick in axes.get_xticklabels()] == STRATA[task][:-1]
        assert len(axes.lines) == len(recall_tasks.ARMS) + 2
        assert axes.lines[0].get_ydata().tolist() == pytest.approx([0.9, 0.92])
        named = {text.get_text() for text in axes.get_legend().get_texts()}
        assert {recall_tasks.BASELINES[name].label for name in ("chance", "flat")} <= named


def test_gates_stand_at_their_roles(drawn):
    figure, _ = drawn
    for axes, task in ((figure.axes[2], "associative"), (figure.axes[6], "listops")):
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ROLES[task]
        assert any("open above 1/2" in text.get_text() for text in axes.texts)
        assert [text.get_text() for text in axes.get_legend().get_texts()] == [
            "TGN",
            "TGN with a GRU",
        ]


def test_shares_of_every_generator_are_bars(drawn):
    figure, _ = drawn
    for axes in (figure.axes[3], figure.axes[7]):
        heights = [bar.get_height() for bar in axes.patches]
        assert heights == [0.5] * 2 * len(recall_tasks.GENERATORS)
