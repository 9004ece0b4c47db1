"""Figure 1 shows what its tables hold."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from tgn.mechanism import free_energy, landscapes, random_attention, summary
from tgn.plots import fig1
from tgn.statistics import Statistic, write_statistics

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
        samples=4, temperature=0.7, share=0.09, seed=0,
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
    banded(rows).to_parquet(folder / "ranks.parquet")
    pd.DataFrame(
        [
            {"model": MODEL, "arm": "intact", "definition": "centred", "quantity": "effective_rank",
             "shape": "logistic", "aicc": 0.0, "centre": 0.2, "width": 0.5, "offset": 3.4,
             "amplitude": 0.5, "r2": 1.0}
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
            for sample in ("states", "gaussian", "shuffled")
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
    figure = fig1.page(tables, "Planted")
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
    for letter in ["a1", "a2", "b1", "b2", "c1", "c2", "c3", "d1", "d2", "e1", "e2", "e3", "e4"]:
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
    drawn = line(panel(figure, "on a ring"), "local moves")
    assert np.allclose(drawn.get_ydata(), rows["value"])
    growth = line(panel(figure, "small perturbation"), "intact")
    assert np.allclose(growth.get_ydata(), 0.5 * np.log(TEMPERATURES) + 0.2)  # after the last block


def test_the_s_curve_is_drawn_from_its_parameters(one_page):
    figure, _ = one_page
    drawn = line(panel(figure, "after the last block"), "logistic fit to centred")
    at_centre = np.interp(np.exp(0.2), drawn.get_xdata(), drawn.get_ydata())
    assert at_centre == pytest.approx(np.exp(3.4 + 0.25), rel=1e-3)


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
