"""Figure 14 from small tables: what is drawn is what the tables hold, and simulated data say so."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from tgn.plots import fig14
from tgn.statistics import Statistic, write_statistics

COMMAND = "snakemake --config scale=paper -- results/paper/fig14.pdf"
CHOICE = {"arm": "default", "atlas": "aal2-atlas", "definition": "pearson", "window": 0}
BAND = {"value": 25.0, "low": 23.0, "high": 27.0, "n": 3}


def states():
    rows = [
        {"kind": "subject", "subject": f"{s:02}", "state": state, "value": 20.0 + s, "n": 1}
        for s in range(3)
        for state in fig14.STATES
    ]
    rows += [
        {"kind": kind, "state": state, **BAND}
        for kind in ("mean", "surrogate_same", "surrogate_destroyed", "truth")
        for state in fig14.STATES
    ]
    rows += [{"kind": "person", "subject": "P1", "state": "awake", "value": 30.0, "n": 1}]
    rows += [{"kind": "people", "state": "awake", **BAND}]
    return pd.DataFrame(rows)


def contrasts():
    changed = [{}, {"arm": "gsr"}, {"arm": "truth"}, {"definition": "stable_rank"}, {"window": 60}]
    other = {"first": "awake", "second": "deep", "value": 3.0, "low": 1.0, "high": 5.0, "n": 3}
    size = {"p": 0.02, "dz": 0.7, "dz_low": 0.2, "dz_high": 1.3}
    return pd.DataFrame([CHOICE | other | size | change for change in changed])


def expansion():
    rows = []
    for arm in fig14.EXPANSIONS:
        for quantity in fig14.QUANTITIES:
            about = {"arm": arm, "quantity": quantity}
            rows += [about | {"kind": "person", "person": p, "value": 0.1} for p in "ab"]
            mean = {"kind": "mean", "value": 0.1, "low": 0.0, "high": 0.2, "n": 2}
            rows += [about | mean]
    return pd.DataFrame(rows)


def lags(arms=("ramp", "control")):
    seconds = np.arange(-20.0, 21, 10)
    bands = {"surrogate_low": -0.3, "surrogate_high": 0.3, "permuted_low": -0.1}
    numbers = bands | {"permuted_high": 0.1, "value": -0.4, "low": -0.5, "high": -0.3, "n": 2}
    table = pd.DataFrame({"lag_s": seconds}).assign(**numbers)
    return pd.concat(
        [table.assign(arm=arm, measure=m) for arm in arms for m in ("kuramoto", "mean_fc")]
    )


def courses():
    table = pd.DataFrame({"time_s": [0.0, 50.0, 100.0]}).assign(**BAND)
    return pd.concat(
        [
            table.assign(arm=arm, quantity=quantity)
            for arm in ("ramp", "control")
            for quantity in ("rank", "kuramoto", "mean_fc")
        ]
    )


def distances():
    table = pd.DataFrame({"distance_mm": [30.0, 60.0, 90.0]})
    band = {"value": -0.02, "low": -0.04, "high": 0.0, "null_low": -0.01, "null_high": 0.01}
    return table.assign(kind="bin", **band)


def biases():
    return pd.DataFrame(
        [
            {"factor": factor, "level": level, "unit": "", "state": state, "quantity": quantity}
            | BAND
            for factor in ("length", "parcels", "planted_motion")
            for level in (1.0, 2.0)
            for state in ("awake", "deep")
            for quantity in ("rank", "truth")
        ]
    )


def tables():
    return states(), contrasts(), expansion(), lags(), courses(), distances(), biases()


def numbers():
    common = {"n": 3, "unit": "", "method": "m", "model": "x", "evidence": "simulated"}
    return {
        "p_awake_deep": Statistic(
            id="fig14.p_awake_deep", value=0.0123, ci_low=None, ci_high=None, **common
        ),
        "dz_awake_deep": Statistic(
            id="fig14.dz_awake_deep", value=0.71, ci_low=0.2, ci_high=1.3, **common
        ),
    }


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def drawn(*changed):
    return fig14.page(
        *(changed or tables()), numbers=numbers(), choice=tuple(CHOICE.values()), title="title"
    )


def texts(axes):
    return " ".join(text.get_text() for text in axes.texts)


def test_every_subject_has_a_line_through_the_states_of_the_visit():
    axes = fig14.state_panel(plt.figure().subplots(), states(), numbers())
    lines = [line for line in axes.lines if len(line.get_xdata()) == 4 and line.get_alpha()]
    assert [line.get_ydata()[0] for line in lines] == [20, 21, 22]
    ticks = [tick.get_text() for tick in axes.get_xticklabels()]
    assert ticks[:4] == ["awake", "light", "deep", "recovery"]
    assert ticks[4].startswith("1 real")
    assert "p = 0.012" in texts(axes)
    assert "dz = 0.71 [0.20, 1.30]" in texts(axes)


def test_real_subjects_have_no_truth_and_perhaps_no_reference():
    alone = states()[lambda rows: rows["kind"].isin(["subject", "mean"])]
    axes = fig14.state_panel(plt.figure().subplots(), alone, numbers())
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["mean, 95 %"]
    assert len(axes.get_xticklabels()) == 4


def test_effects_are_those_that_differ_in_one_choice_and_the_truth_is_no_measurement():
    axes = fig14.effect_panel(plt.figure().subplots(), contrasts(), tuple(CHOICE.values()))
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    assert names == [
        "the rank that decides",
        "global signal removed too",
        "stable rank",
        "windows of 60 volumes",
    ]


def test_courses_and_lags_are_those_of_the_model_with_a_line_an_arm():
    figure = plt.figure()
    fig14.lag_panel(figure.subfigures(1, 1), lags(), courses())
    rank, synchrony, lag = figure.get_axes()
    assert [len(axes.lines) for axes in (rank, synchrony)] == [2, 2]
    curves = [line.get_ydata() for line in lag.lines if len(line.get_xdata()) == 5]
    assert [set(values) for values in curves] == [{-0.1}, {0.1}, {-0.4}, {-0.4}]


def test_a_page_without_a_judged_method_says_so():
    empty = pd.DataFrame(columns=["factor", "level", "unit", "state", "quantity", "value"])
    figure = drawn(states(), contrasts(), expansion(), lags(), courses(), distances(), empty)
    titles = " ".join(axes.get_title(loc="left") for axes in figure.get_axes())
    assert "not measured" in titles


def test_panels_have_their_letters():
    titles = [axes.get_title(loc="left") for axes in drawn().get_axes()]
    letters = [title.split("{")[1][0] for title in titles if title.startswith(r"$\bf{")]
    assert letters == list("abcdef")


@pytest.mark.parametrize("evidence", ["simulated", "real"])
def test_the_page_says_what_it_shows_and_what_makes_it_real(tmp_path, monkeypatch, evidence):
    names = ("states", "contrasts", "expansion", "lags", "courses", "distances", "biases")
    for name, table in zip(names, tables(), strict=True):
        table.to_parquet(tmp_path / f"{name}.parquet")
    write_statistics(tmp_path / "statistics.json", numbers().values())
    seen = []
    save = fig14.save
    monkeypatch.setattr(
        fig14, "save", lambda figures, **k: (seen.extend(figures), save(figures, **k))
    )
    fig14.draw(
        **{name: tmp_path / f"{name}.parquet" for name in names},
        **CHOICE,
        statistics=tmp_path / "statistics.json",
        pdf=tmp_path / "fig14.pdf",
        png=tmp_path / "fig14.png",
        data="virtual cohort" if evidence == "simulated" else "ds003171",
        evidence=evidence,
        command=COMMAND if evidence == "simulated" else None,
        scale="laptop",
    )
    face = seen[0].get_suptitle() + texts(seen[0])
    for words in ("simulated", COMMAND, "SIMULATED DATA"):
        assert (words in face) == (evidence == "simulated")
    assert (tmp_path / "fig14.pdf").stat().st_size > 10_000
    assert (tmp_path / "fig14.png").stat().st_size > 10_000
