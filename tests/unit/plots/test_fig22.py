"""Figure 22 shows what its tables hold."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from tgn.plots import fig21, fig22
from tgn.statistics import Statistic, write_statistics

ARMS = ("transformer", "mamba", "recurrence", "tgn", "tgn_mamba", "tgn_published")
RECALL = ("attention", "mamba4", "mamba", "mamba_64", "gru", "mingru", "tgn", "tgn_published")
GATED = ("tgn", "tgn_published")
UNIGRAM = {"loss": 6.9, "entropy": 6.7}
TASKS = [(64, 4), (64, 16), (128, 16), (256, 4), (256, 16), (256, 64), (512, 16)]


def losses():
    """An exponential fall for every arm, two seeds and their mean."""
    rows = []
    for number, arm in enumerate(ARMS):
        for step in range(0, 321, 40):
            value = 5.2 + 0.05 * number + 3 * np.exp(-step / (60 + 20 * number))
            for seed, shift in (("0", -0.02), ("1", 0.02), ("mean", 0.0)):
                rows.append(
                    {
                        "arm": arm, "seed": seed, "step": step, "tokens": 1024 * step,
                        "seconds": (1 + 0.2 * number) * step / 6, "validation": value + shift,
                        "low": value + shift - 0.03, "high": value + shift + 0.03,
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def answers():
    rows = []
    for number, arm in enumerate(RECALL):
        for length, pairs in TASKS:
            accuracy = 1 / (1 + (pairs * length / 4**8) * number)
            rows.append(
                {
                    "arm": arm, "seed": "mean", "state_bytes": 512 * 2**number,
                    "parameters": 90_000, "input_seq_len": length, "num_kv_pairs": pairs,
                    "accuracy": accuracy, "low": accuracy - 0.02, "high": accuracy + 0.02,
                    "n": 128, "trained": length <= 256, "chance": 2 / 1024,
                    "context_chance": 1 / pairs,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def gates():
    rows = []
    places = itertools.product(GATED, (0, 1), fig22.POSITIONS, TASKS)
    for arm, layer, position, (length, pairs) in places:
        gate = 0.05 * (1 + layer) * (10 if position == "query" else 0.01)
        rows.append(
            {
                "arm": arm, "seed": "mean", "layer": layer, "position": position,
                "input_seq_len": length, "num_kv_pairs": pairs, "gate": gate, "low": gate * 0.8,
                "high": gate * 1.2, "open": float(gate > 0.5),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def training():
    rows = [
        {"arm": arm, "seed": "mean", "step": step, "accuracy": step / 2000,
         "gate": 0.5 * np.exp(-step / 400) + 0.002 if arm.startswith("tgn") else np.nan}
        for arm in RECALL
        for step in range(0, 2001, 100)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def statistics(*numbers):
    return [
        Statistic(
            id=name, value=value, ci_low=value - 0.03, ci_high=value + 0.03, n=20, unit=unit,
            method="planted", model="planted", evidence="simulated",
        )
        for name, value, unit in numbers
    ]  # fmt: skip


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """The figure from planted tables, kept open."""
    tables = {
        "convergence": losses(), "recall": answers(), "occupancy": gates(),
        "recall_training": training(),
    }  # fmt: skip
    for name, table in tables.items():
        table.to_parquet(tmp_path / f"{name}.parquet")
    differences = [
        (f"fig22.{arm}_minus_transformer", 0.1 * k - 0.2, "nats per token")
        for k, arm in enumerate(ARMS)
        if arm != "transformer"
    ]
    guess = [(f"fig22.unigram_{k}", v, "nats per token") for k, v in UNIGRAM.items()]
    write_statistics(tmp_path / "statistics.json", statistics(*guess, *differences))
    write_statistics(tmp_path / "timings.json", statistics(("fig22.tgn_seconds", 50.0, "CPU s")))
    figures = []
    monkeypatch.setattr(plt, "close", figures.append)
    fig22.draw(
        **{name: tmp_path / f"{name}.parquet" for name in tables},
        statistics=tmp_path / "statistics.json", timings=tmp_path / "timings.json",
        pdf=tmp_path / "fig22.pdf", png=tmp_path / "fig22.png", scale="smoke",
    )  # fmt: skip
    monkeypatch.undo()
    yield figures[0], tmp_path
    plt.close(figures[0])


def test_the_page_is_written_and_calls_planted_numbers_simulated(drawn):
    figure, folder = drawn
    assert (folder / "fig22.pdf").read_bytes().startswith(b"%PDF")
    assert (folder / "fig22.png").stat().st_size > 10_000
    assert any("SIMULATED" in text.get_text() for text in figure.texts)
    for letter, axes in zip("abcdefgh", figure.axes, strict=True):
        assert axes.get_title(loc="left").startswith(rf"$\bf{{{letter}}}$")
        assert axes.get_xlabel() or letter == "h"
        assert axes.get_ylabel() or letter == "c"


def line(axes, label):
    (found,) = [one for one in axes.lines if one.get_label() == label]
    return found


def test_curves_are_the_means_over_seeds_against_tokens_and_against_time(drawn):
    figure, _ = drawn
    table = losses()
    rows = table[(table["arm"] == "tgn") & (table["seed"] == "mean")]
    for axes, along in zip(figure.axes, ("tokens", "seconds"), strict=False):
        one = line(axes, fig22.ARMS["tgn"].label)
        np.testing.assert_array_equal(one.get_xdata(), rows[along])
        np.testing.assert_array_equal(one.get_ydata(), rows["validation"])
    assert "CPU" in figure.axes[1].get_xlabel()


def test_what_token_frequencies_reach_is_drawn_and_named_as_what_it_is(drawn):
    figure, _ = drawn
    for axes in figure.axes[:2]:
        levels = {one.get_ydata()[0]: one for one in axes.lines if len(set(one.get_ydata())) == 1}
        assert set(levels) == set(UNIGRAM.values())
        assert levels[6.9].get_label() == "cross-entropy of frequencies: 6.90"
        assert levels[6.7].get_label() == "entropy of frequencies: 6.70"


def test_differences_have_room_at_the_sides(drawn):
    figure, _ = drawn
    axes = figure.axes[2]
    to_page = axes.transData.transform
    values = [0.1 * k - 0.2 for k, arm in enumerate(ARMS) if arm != "transformer"]
    left, right = axes.get_window_extent().intervalx
    for value in (min(values) - 0.03, max(values) + 0.03):
        assert left + 0.05 * (right - left) < to_page((value, 0))[0] < right - 0.05 * (right - left)


def test_gates_of_layers_are_told_apart_and_what_leaves_the_axis_is_marked(tmp_path):
    table = gates()
    table.loc[(table["arm"] == "tgn") & (table["layer"] == 1), "low"] = 1e-7
    figure, axes = plt.subplots()
    fig22.gate_panel(axes, table)
    faces = {one.get_markerfacecolor() for one in axes.lines if one.get_marker() == "o"}
    assert faces == {fig22.POSITIONS["query"][0], "white"}
    heads = [one for one in axes.lines if one.get_marker() == fig22.CARETDOWN]
    assert sum(len(one.get_xdata()) for one in heads) == len(fig22.POSITIONS)
    assert all((one.get_ydata() == fig22.FLOOR).all() for one in heads if len(one.get_ydata()))
    assert len(axes.get_legend().get_texts()) == len(fig22.POSITIONS)
    plt.close(figure)


def test_recall_is_shown_where_it_was_tested_at_most_lengths_and_pairs(drawn):
    figure, _ = drawn
    lengths, pairs, state = figure.axes[4:7]
    assert "16 pairs" in lengths.get_title(loc="left")
    assert line(lengths, "attention").get_xdata().tolist() == [64, 128, 256, 512]
    assert "256 tokens" in pairs.get_title(loc="left")
    assert line(pairs, "Mamba").get_xdata().tolist() == [4, 16, 64]
    assert "256 tokens, 64 pairs" in state.get_title(loc="left")
    table = answers()
    expected = table[(table["arm"] == "gru") & (table["input_seq_len"] == 256)]
    np.testing.assert_array_equal(line(pairs, "GRU").get_ydata(), expected["accuracy"])


def test_attention_is_seen_under_an_arm_that_does_as_well(drawn):
    figure, _ = drawn
    for axes in figure.axes[4:6]:
        under, over = line(axes, "attention"), line(axes, fig22.ARMS["tgn"].label)
        assert axes.lines.index(under) < axes.lines.index(over)
        assert under.get_zorder() <= over.get_zorder()
        assert under.get_linewidth() > 2 * over.get_linewidth()
        assert under.get_markersize() > 2 * over.get_markersize()


def test_arms_have_looks_of_their_own_and_those_of_figure_21():
    looks = [(look.color, look.linestyle) for arm, look in fig22.ARMS.items()]
    names = {"attention", "mingru"}  # alone in its panels what transformer, recurrence are there
    apart = [look[1:] for arm, look in fig22.ARMS.items() if arm not in names]
    assert len(set(apart)) == len(apart) == len(looks) - len(names)
    for arm in set(fig21.ARMS) & set(fig22.ARMS):
        assert fig22.ARMS[arm][1:] == fig21.ARMS[arm][1:]
    sizes = [fig22.look_of(f"mamba_{n}").color for n in (4, 8, 16, 64)]
    assert len(set(sizes)) == 4
    assert fig22.look_of("hyena").label == "hyena"


def test_without_means_every_seed_is_a_line_with_one_label(tmp_path):
    table = losses()
    _, axes = plt.subplots()
    guess = statistics(("fig22.unigram_loss", 6.9, "nats"), ("fig22.unigram_entropy", 6.7, "nats"))
    each = fig22.of_all_seeds(table[table["seed"] != "mean"])
    fig22.loss_panel(axes, each, *guess, along="tokens", label="tokens")
    _, labels = axes.get_legend_handles_labels()
    assert len(labels) == len(ARMS) + 2  # and of what token frequencies reach
    assert len(axes.lines) == 2 * len(ARMS) + 2
    plt.close(axes.figure)
