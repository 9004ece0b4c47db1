"""Figure 1 shows what its tables hold."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tgn.mechanism import free_energy, landscapes, random_attention, summary
from tgn.plots import fig1
from tgn.statistics import Statistic, read_statistics, write_statistics

MODEL, LAYERS = "planted", (0, 1, 2)
TEMPERATURES = np.geomspace(0.1, 10, 9)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Small tables of the mechanism, as its jobs write them."""
    folder = tmp_path_factory.mktemp("fig1")
    free_energy.measure(
        landscape=folder / "landscape.parquet", checks=folder / "checks.parquet", problems=4,
        tokens=8, dimension=16, spreads=[0, 0.01, 0.1], temperatures=[0.1, 0.5, 5], seed=0,
    )  # fmt: skip
    random_attention.measure(
        table=folder / "attention.parquet", alphas=[0.1, 31.6, 12],
        cases=[[32, 8, 2], [16, 8, 2], [24, 8, 2], [16, 4, 2]], seed=0,
    )  # fmt: skip
    landscapes.measure(
        table=folder / "gaps.parquet", sizes={"hypercube": [3, 4, 5], "ring": [3, 4, 5]},
        samples=4, temperature=0.7, share=0.09, mixed=100, seed=0,
    )  # fmt: skip
    write_statistics(folder / "temperature.json", [])
    summary.summarise(
        checks=folder / "checks.parquet", attention=folder / "attention.parquet",
        gaps=folder / "gaps.parquet", temperature=folder / "temperature.json",
        curves=folder / "curves.parquet", maxima=folder / "maxima.parquet",
        relaxation=folder / "relaxation.parquet", statistics=folder / "own.json",
        resamples=100, seed=0,
    )  # fmt: skip
    return folder


def banded(rows):
    table = pd.DataFrame(rows)
    return table.assign(ci_low=table["value"] - 0.1, ci_high=table["value"] + 0.1, n=8, model=MODEL)


def planted(folder):
    """What a pretrained model gives, each quantity by a formula."""
    ranks = [("centred", "effective_rank"), ("centred", "participation_ratio")]
    ranks += [
        ("without_outliers", "effective_rank"),
        ("centred_with_first", "effective_rank_sigma2"),
    ]
    rows = []
    for arm in fig1.ARMS:
        for temperature in TEMPERATURES:
            x = np.log(temperature)
            values = {names: 40 + 10 * np.tanh(x) for names in ranks}
            values |= {("", "perplexity"): 20 * np.exp(x**2), ("", "growth"): 0.5 * x}
            values |= {("", "channel_information"): 1 / (1 + x**2)}
            values |= {("", "token_information_lag0"): 2 - x, ("", "token_information_shuffled"): 0}
            rows += [
                {"arm": arm, "definition": definition, "quantity": quantity, "layer": layer,
                 "temperature": temperature, "value": value + 0.1 * layer}
                for (definition, quantity), value in values.items()
                for layer in LAYERS
            ]  # fmt: skip
    rows += [
        {"arm": "intact", "definition": "", "quantity": "correlation_length", "layer": -1,
         "temperature": temperature, "value": 5}
        for temperature in (0.1, 1.0)
    ]  # fmt: skip
    banded(rows).to_parquet(folder / "ranks.parquet")
    criteria = {"logistic": 0, "line": 2 * np.log(1e10), "hump": 2 * np.log(20), "constant": -2}
    pd.DataFrame(
        [
            {"model": MODEL, "arm": "intact", "definition": "centred", "quantity": "effective_rank",
             "shape": shape, "aicc": criterion, "centre": 0.2, "width": 0.5, "offset": 3.4,
             "amplitude": 0.5, "r2": 1.0}
            for shape, criterion in criteria.items()
        ]
    ).to_parquet(folder / "fits.parquet")  # fmt: skip
    banded(
        [
            {"arm": arm, "temperature": temperature, "distance": distance, "null": 0.1,
             "value": 0.1 + np.exp(-distance)}
            for arm in fig1.ARMS
            for temperature in (0.1, 1.0, 10.0)
            for distance in (1, 2, 4, 8)
        ]
    ).to_parquet(folder / "correlation.parquet")  # fmt: skip
    banded(
        [
            {"arm": arm, "layer": layer, "sample": sample, "value": 10 + layer, "width": 64}
            for arm in fig1.ARMS
            for layer in LAYERS
            for sample in ("states", "gaussian", "shuffled", "white")
        ]
    ).to_parquet(folder / "dimension.parquet")
    pd.DataFrame(
        [
            {"model": MODEL, "temperature": temperature, "layer": 1, "head": 2, "query": query,
             "key": key, "weight": (key <= query) / (query + 1)}
            for temperature in (0.1, 1.0, 10.0)
            for query in range(4)
            for key in range(4)
        ]
    ).to_parquet(folder / "maps.parquet")  # fmt: skip


def paths(folder):
    names = ("landscape", "checks", "curves", "maxima", "relaxation", "fits", "correlation")
    files = {name: folder / f"{name}.parquet" for name in (*names, "dimension", "maps")}
    return {**files, "temperature": folder / "ranks.parquet"}


@pytest.fixture
def one_page(measured):
    planted(measured)
    tables = {name: pd.read_parquet(path) for name, path in paths(measured).items()}
    records = {record.id: record for record in read_statistics(measured / "own.json")}
    figure = fig1.page(tables, records, "Planted")
    yield figure, tables
    plt.close(figure)


def panel(figure, title):
    (found,) = [axes for axes in figure.axes if axes.get_title(loc="left").endswith(title)]
    return found


def line(axes, label):
    (found,) = [line for line in axes.lines if line.get_label() == label]
    return found


def test_all_panels_are_there_with_letters_and_named_axes(one_page):
    figure, _ = one_page
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    for letter in [*filter(None, fig1.PANELS), "e3"]:
        assert sum(title.startswith(rf"$\bf{{{letter}}}$") for title in titles) == 1
    for axes in figure.axes:
        if axes.get_title(loc="left").startswith(r"$\bf{"):
            assert axes.get_xlabel()
            assert axes.get_ylabel() or axes.get_yticklabels()  # cases are their own names


def test_curves_are_those_of_the_tables(one_page):
    figure, tables = one_page
    curves = tables["curves"]
    own = curves[(curves["size"] == 32) & (curves["definition"] == "stable_rank")]
    drawn = line(panel(figure, "N = 32, d = 8"), "stable rank")
    assert np.allclose(drawn.get_ydata(), own.sort_values("alpha")["value"])
    walks = tables["relaxation"]
    rows = walks[(walks["landscape"] == "ring") & (walks["arm"] == "local")]
    rows = rows[rows["cost"] == "steps"].sort_values("size")
    walk = panel(figure, "on a ring")
    assert any(np.array_equal(drawn.get_ydata(), rows["value"]) for drawn in walk.lines)
    for law in ("power", "exponential"):
        assert any(np.array_equal(drawn.get_ydata(), rows[law]) for drawn in walk.lines)
    times = walks[(walks["landscape"] == "hypercube") & (walks["arm"] == "local")]
    times = times[times["cost"] == "mixing"].sort_values("size")
    drawn = line(panel(figure, "small landscapes"), "local moves")
    assert np.allclose(drawn.get_ydata(), 10 ** times["value"])
    growth = line(panel(figure, "small perturbation"), "intact")
    assert np.allclose(growth.get_ydata(), 0.5 * np.log(TEMPERATURES) + 0.2)  # after the last block


def test_the_s_curve_is_drawn_from_its_parameters(one_page):
    figure, _ = one_page
    drawn = line(panel(figure, "after the last block"), "logistic fit to centred")
    at_centre = np.interp(np.exp(0.2), drawn.get_xdata(), drawn.get_ydata())
    assert at_centre == pytest.approx(np.exp(3.4 + 0.25), rel=1e-3)


def test_the_s_curve_is_held_against_its_rivals(one_page):
    figure, _ = one_page
    (words,) = [text.get_text() for text in panel(figure, "after the last block").texts]
    assert words.endswith("over hump, line, constant:\ncentred: 20 : 1, 1e10 : 1, 0.37 : 1")


def test_rank_by_depth_is_drawn_from_cold_to_hot(one_page):
    figure, _ = one_page
    drawn = panel(figure, "rank by depth").lines
    assert [line.get_label() for line in drawn] == [
        f"temperature {at}" for at in ("0.1", "0.32", "1", "3.2", "10")
    ]
    assert np.allclose(
        drawn[-1].get_ydata(), 40 + 10 * np.tanh(np.log(10)) + 0.1 * np.array(LAYERS)
    )


def test_where_nothing_decays_the_correlation_length_has_a_gap(one_page):
    figure, _ = one_page
    drawn = line(panel(figure, "Correlation length"), "intact")
    assert list(drawn.get_xdata()) == [0.1, 1.0, 10.0]
    assert np.array_equal(drawn.get_ydata(), [5, 5, np.nan], equal_nan=True)


def test_the_argument_is_drawn_problem_by_problem(one_page):
    figure, tables = one_page
    apart = tables["checks"].query("quantity == 'optimum_difference'")["value"]
    steps = panel(figure, "constrained optimiser").lines[0]
    assert list(steps.get_xdata()) == sorted(apart)
    gates = panel(figure, "rule against enumeration")
    by_rule = line(gates, "by the rule")
    assert np.allclose(by_rule.get_xdata(), by_rule.get_ydata())
    for name in ("always open", "always shut"):
        assert (line(gates, name).get_ydata() >= by_rule.get_xdata() - 1e-9).all()
    assert (line(gates, "best mixture, as networks do").get_ydata() <= by_rule.get_ydata()).all()


def test_dimension_is_held_against_white_noise_and_an_untrained_network(one_page):
    figure, _ = one_page
    axes = panel(figure, "Intrinsic dimension of the states")
    for label in ("null: white noise in all channels", "untrained"):
        assert len(line(axes, label).get_ydata()) == len(LAYERS)


@pytest.mark.parametrize(
    ("name", "value", "low", "high", "words"),
    [
        ("power_minus_exponential_local", 2 * np.log(50), 3, 9, "exponential 50 : 1"),
        ("power_minus_exponential_local", -2 * np.log(50), -9, -3, "power law 50 : 1"),
        ("exponential_minus_power_uniform", 2 * np.log(50), 3, 9, "power law 50 : 1"),
        ("exponential_minus_power_uniform", 1e-9, -3, 9, "undecided (power law 1 : 1)"),
    ],
)
def test_evidence_for_a_law_says_which_and_whether(name, value, low, high, words):
    record = Statistic(
        id=f"fig1.aic_{name}_ring", value=value, ci_low=low, ci_high=high, n=4, unit="",
        method="planted", model=MODEL, evidence="simulated",
    )  # fmt: skip
    assert fig1.favoured(record) == words


@given(st.floats(-3, 6), st.floats(0.48, 4))  # 0.1 to 0.3, without its ends, has one tick
def test_a_logarithmic_ordinate_has_at_least_two_labels(start, decades):
    low, high = 10**start, 10 ** (start + decades)
    powers = [10.0**power for power in range(-4, 12) if low <= 10.0**power <= high]
    ticks = [digit * 10.0**power for power in range(-4, 12) for digit in range(2, 10)]
    minor = [tick for tick in ticks if low <= tick <= high and fig1.minor_label(tick, low, high)]
    assert len(powers) + len(minor) >= 2


def test_an_end_of_the_range_is_an_open_symbol(one_page):
    figure, tables = one_page
    maxima = tables["maxima"]
    at_edge = (maxima["at_edge"] > 0).sum()
    axes = panel(figure, "Where the rank is highest")
    drawn = [line for line in axes.lines if line.get_marker() in "oD" and len(line.get_xdata())]
    assert sum(line.get_markerfacecolor() == "white" for line in drawn) == at_edge > 0
    assert len(drawn) == len(maxima)


@pytest.mark.parametrize(("evidence", "marked"), [("real", False), ("simulated", True)])
def test_only_a_simulated_model_marks_the_page(measured, tmp_path, monkeypatch, evidence, marked):
    planted(measured)
    record = {
        "value": 0.0, "ci_low": -1.0, "ci_high": 1.0, "n": 2, "unit": "", "method": "planted",
    }  # fmt: skip
    write_statistics(
        tmp_path / "statistics.json",
        [
            Statistic(id="fig1.a", model=MODEL, evidence=evidence, **record),
            Statistic(id="fig1.b", model="random matrices", evidence="simulated", **record),
            *read_statistics(measured / "own.json"),
        ],
    )
    seen = []
    monkeypatch.setattr(fig1, "save", lambda pages, **options: seen.append((pages, options)))
    fig1.draw(
        **paths(measured), statistics=tmp_path / "statistics.json", pdf=tmp_path / "a.pdf",
        png=tmp_path / "a.png", labels={MODEL: "Planted"}, scale="smoke",
    )  # fmt: skip
    ((pages, options),) = seen
    plt.close(pages[0])
    assert len(pages) == 1
    assert options["simulated"] is marked


def test_three_temperatures_around_the_usual_one():
    assert fig1.three([5.0, 0.2, 1.1, 0.5]) == [0.2, 1.1, 5.0]
