"""The figure of gravity shows what its tables hold."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from tgn.plots import gravity
from tgn.statistics import Statistic, write_statistics

RUNS = {f"gravity-{arm}-0": arm for arm in gravity.PROBED}


def losses():
    rows = [
        {
            "arm": arm, "seed": seed, "step": step, "tokens": 512 * step,
            "validation": value, "low": value - 0.05, "high": value + 0.05,
        }
        for number, arm in enumerate(gravity.ARMS)
        for seed in ("0", "mean")
        for step in range(0, 201, 25)
        for value in [6 + 0.1 * number + 3 * np.exp(-step / 50)]
    ]  # fmt: skip
    return pd.DataFrame(rows)


def numbers():
    rows = [
        {
            "run": run, "trained": trained, "layer": layer, "head": head,
            "gamma": 4.0 + trained * head, "radius": 4.0 + trained * layer,
        }
        for run in RUNS for trained in (False, True) for layer in range(3) for head in range(2)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def masses():
    counts = np.arange(100)
    table = pd.DataFrame({"token": counts, "count": counts, "mass": np.exp(0.01 * counts)})
    return pd.concat([table.assign(run=run) for run in RUNS])


def pulls():
    distance = np.arange(0.05, 2, 0.1)
    rows = [
        pd.DataFrame({"distance": distance, "weight": np.clip(2 - distance, 0, None)}).assign(
            arm=arm, trained=trained
        )
        for arm in gravity.PROBED
        for trained in (False, True)
    ]
    table = pd.concat(rows)
    return table.assign(low=table["weight"] * 0.9, high=table["weight"] * 1.1)


def speeds():
    rows = [
        (model, context, speed, 0.9 * speed, 1.1 * speed)
        for model, base in (("vanilla", 10.0), ("gravity", 9.0), ("published", 500.0))
        for context in (64, 128, 256)
        for speed in [base / (context if model == "published" else 1)]
    ]
    return pd.DataFrame(rows, columns=["model", "context", "speed", "low", "high"])


def records(evidence="real"):
    values = {"unigram_loss": 6.6}
    values |= {f"{one}_minus_{other}": 0.05 for one, other in gravity.PAIRS}
    for arm in gravity.PROBED:
        values |= {f"{arm}_rank_mass_frequency": 0.3, f"{arm}_rank_weight_distance_inside": -0.5,
                   f"{arm}_rank_weight_distance_inside_untrained": -1.0}  # fmt: skip
    return [statistic(name, value, evidence) for name, value in values.items()]


def statistic(name, value, evidence="real"):
    return Statistic(
        id=f"gravity.{name}", value=value, ci_low=value - 0.02, ci_high=value + 0.02, n=9,
        unit="", method="planted", model="a text", evidence=evidence,
    )  # fmt: skip


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Draws the page and gives its axes, by letter."""

    def make(**settings):
        tables = {"curves": losses(), "numbers": numbers(), "masses": masses(),
                  "pulls": pulls(), "speeds": speeds()}  # fmt: skip
        paths = {name: tmp_path / f"{name}.parquet" for name in tables}
        for name, table in tables.items():
            table.to_parquet(paths[name])
        paths |= {"statistics": tmp_path / "s.json", "timings": tmp_path / "t.json"}
        write_statistics(paths["statistics"], records(**settings))
        slower = [statistic(f"{arm}_log_step_time_over_vanilla", np.log(factor))
                  for arm, factor in (("gravity", 1.1), ("published", 5))]  # fmt: skip
        write_statistics(paths["timings"], slower)
        kept = []
        monkeypatch.setattr(plt, "close", kept.append)
        gravity.draw(**paths, arms=RUNS, clock="CPU", pdf=tmp_path / "g.pdf",
                     png=tmp_path / "g.png", scale="smoke")  # fmt: skip
        assert (tmp_path / "g.pdf").read_bytes().startswith(b"%PDF")
        (figure,) = kept
        return dict(zip("abcdefgh", figure.axes, strict=True)), figure

    yield make
    monkeypatch.undo()
    plt.close("all")


def keys(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_every_panel_shows_its_arms(page):
    axes, _ = page()
    for letter, panel in axes.items():
        assert panel.get_title(loc="left").startswith(rf"$\bf{{{letter}}}$")
        assert panel.get_xlabel()
    *shown, alone = keys(axes["a"])
    for key, arm in zip(shown, gravity.SHOWN, strict=True):
        assert key.startswith(gravity.ARMS[arm].label)
    assert alone == "token frequencies alone"
    assert len(axes["a"].lines) == len(gravity.ARMS) + 1
    assert len(axes["b"].get_yticks()) == len(gravity.PAIRS)
    for letter in "fg":
        assert len(keys(axes[letter])) == len(gravity.PROBED)


def test_numbers_in_keys_are_those_of_the_statistics(page):
    axes, _ = page()
    assert all(": +0.30 [+0.28, +0.32]" in key for key in keys(axes["e"]))
    assert all(": -0.50 [-0.52, -0.48]" in key for key in keys(axes["f"]))
    assert all(": -1.00" in key for key in keys(axes["g"]))
    assert any("(5 x the time)" in key for key in keys(axes["h"]))
    assert not any("Transformer" in key and "x the time" in key for key in keys(axes["h"]))


def test_every_head_has_a_mark(page):
    axes, _ = page()
    marks = [line for line in axes["c"].lines if line.get_marker() == "o"]
    assert [len(line.get_xdata()) for line in marks] == [6] * len(gravity.PROBED)
    assert set(marks[0].get_ydata()) == {4.0, 5.0, 6.0} | {5.0}


def test_what_was_simulated_says_so(page):
    for evidence, said in (("simulated", True), ("real", False)):
        _, figure = page(evidence=evidence)
        assert any("SIMULATED" in text.get_text() for text in figure.texts) == said
