"""The figures of constraints show what their tables hold, and say what there is not."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import quantile_test

from tgn.constraints.tables import COMPLEXITY
from tgn.plots import constraint_beside as beside
from tgn.plots import constraint_paper as paper
from tgn.plots import constraint_parts as parts
from tgn.plots import constraints
from tgn.plots.constraint_parts import Seen
from tgn.statistics import Statistic, write_statistics

PUBLISHED = "config/constraints_published.csv"
LAYERS = 5
PROMPTS = [f"{category}-{i}" for category in COMPLEXITY for i in range(2)]
GAIN = 1.3


def record(id, value, *, model="all", reach=0.1, evidence="real"):
    ends = (None, None) if reach is None else (value - reach, value + reach)
    return Statistic(
        id=f"constraints.{id}", value=value, ci_low=ends[0], ci_high=ends[1], n=8, unit="",
        method="planted", model=model, evidence=evidence,
    )  # fmt: skip


def row(model, family="llama", lab="huggingface", gain=GAIN, layers=LAYERS, width=64, heads=4):
    log = np.log(gain)
    return {
        "model": model, "family": family, "lab": lab, "layers": layers, "width": width,
        "heads": heads, "head_dim": width // heads, "rho": heads**2 / width,
        "parameters": 12 * layers * width**2, "log_gain": log, "log_gain_low": log - 0.05,
        "log_gain_high": log + 0.1, "log_spectral_ratio_of_means": np.log(0.5),
    }  # fmt: skip


def models(*more):
    return pd.DataFrame([row("shown"), *more])


def family():
    """Runs that differ in depth alone, in width alone, and in heads alone; two seeds each."""
    shapes = [(depth, 64, 4) for depth in (2, 4, 8)]
    shapes += [(4, width, 4) for width in (32, 128)] + [(4, 64, heads) for heads in (1, 16)]
    return [
        row(f"run-{layers}-{width}-{heads}-{seed}", "controlled", "own",
            gain=1 + 0.5 / layers + 0.01 * seed, layers=layers, width=width, heads=heads)
        for layers, width, heads in shapes
        for seed in (0, 1)
    ]  # fmt: skip


def gains(table):
    rows = []
    for model, layers in zip(table["model"], table["layers"], strict=True):
        for number, prompt in enumerate(PROMPTS):
            category = prompt.split("-")[0]
            for layer in range(1, int(layers) + 1):
                for quantity, value in {
                    "gain_median": GAIN + 0.1 * (layers - layer), "gain_first": 20.0,
                    "published_c": 5.0, "published_b": 1.1, "published_mlp": 3.0 + number,
                }.items():  # fmt: skip
                    rows.append((model, prompt, category, layer, quantity, value))
        rows.append((model, "factual-0", "chat", int(layers), "gain_median", 1.7))
    return pd.DataFrame(rows, columns=["model", "prompt", "category", "layer", "quantity", "value"])


def spectra():
    return pd.DataFrame(
        [
            {"model": "shown", "layer": layer, "head": head, "quantity": quantity, "value": 2.0}
            for layer in range(1, LAYERS + 1)
            for quantity, head in (("spectral_v", -1), ("spectral_o", -1), ("spectral_ov", 0))
        ]
    )


def sheaf(table):
    values = {"trace": 100.0, "trace_normalised": 10.0, "trace_proxy": 4.0, "contraction": 0.3}
    return pd.DataFrame(
        [
            (model, prompt, layer, quantity, value * layer)
            for model, layers in zip(table["model"], table["layers"], strict=True)
            for prompt in PROMPTS
            for layer in range(1, int(layers) + 1)
            for quantity, value in (values | {"trace_zero": -1e-6}).items()
        ],
        columns=["model", "prompt", "layer", "quantity", "value"],
    )


def turning(table, status="ok"):
    return pd.DataFrame(
        [
            (model, prompt, "steepest_trace", 4.0, status, "")
            for model in table["model"]
            for prompt in [*PROMPTS, "mean"]
        ],
        columns=["model", "prompt", "definition", "layer", "status", "reason"],
    )


def seen(table=None, **changes):
    table = models(*family()) if table is None else table
    made = Seen(
        models=table, gains=gains(table), spectra=spectra(), sheaf=sheaf(table),
        turning=turning(table),
        numbers=[
            record("log_depth_constant", 1.5), record("controlled_log_depth_constant", 0.5),
            record("log_gain_final", np.log(GAIN), model="shown"),
            record("log_gain_final_factual", np.log(1.9), model="shown"),
            record("log_gain_lab_huggingface", 0.2),
        ],
        reasons=[
            {"id": "constraints.twin_largest_change", "model": "all", "reason": "no pair at all"}
        ],
        published=pd.read_csv(PUBLISHED, dtype={"value": str}), labels={"shown": "Shown-1B"},
        shown="shown", twins=[],
    )  # fmt: skip
    return made._replace(**changes)


@pytest.fixture
def axes():
    _, made = plt.subplots()
    yield made
    plt.close()


def drawn(axes, label):
    """Coordinates of the line or the points that the legend calls so."""
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    handle = handles[label]
    line = handle.lines[0] if hasattr(handle, "lines") else handle
    return np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)


def told(axes):
    return axes.get_legend().get_title().get_text().replace("\n", " ")


EVERY = list(dict.fromkeys(panel for panels in constraints.FIGURES.values() for panel in panels))


@pytest.mark.parametrize("panel", EVERY, ids=lambda panel: panel.__name__)
def test_every_panel_is_named_measured_and_keyed(panel, axes):
    tables = panel(axes, seen())
    assert axes.get_title(loc="left")
    assert axes.get_xlabel() or len(axes.get_xticklabels()) > 1
    assert axes.get_ylabel() or len(axes.get_yticklabels()) > 1
    assert axes.get_legend() is not None
    table = pd.concat(tables)
    assert np.isfinite(table["value"]).all()
    assert "ours" in set(table["source"]) or panel is beside.twins


def test_the_law_and_the_published_points_are_drawn_as_they_are(axes):
    table = pd.concat(paper.kleiber(axes, seen()))
    depth, law = drawn(axes, "$10^{1/L}$, the law")
    np.testing.assert_allclose(law, 10 ** (1 / depth))
    published = table[table["source"] == "published"].set_index("model")
    raw = pd.read_csv(PUBLISHED)
    raw = raw[(raw["table"] == "sweep") & (raw["quantity"] == "gain_published_a")]
    np.testing.assert_allclose(published.loc[raw["model"], "value"], raw["value"].astype(float))
    (depth,), (gain,) = drawn(axes, "measured here")
    assert (depth, gain) == (LAYERS, pytest.approx(GAIN))


def test_a_block_beyond_the_axis_is_marked_at_its_edge(axes):
    data = seen()
    data.gains.loc[
        (data.gains["model"] == "shown") & (data.gains["layer"] == 1), "value"
    ] = 50.0  # fmt: skip
    paper.kleiber(axes, data)
    arrows = [
        line for line in axes.get_lines() if line.get_marker() == "^" and len(line.get_xdata())
    ]
    assert [line.get_xdata().tolist() for line in arrows] == [[LAYERS]]
    assert arrows[0].get_ydata()[0] < 50


def test_what_was_measured_wrongly_is_crossed(axes):
    table = pd.concat(paper.spectral(axes, seen()))
    wrong = table[table["note"].str.startswith("measured wrongly")]
    x, _ = drawn(axes, f"{parts.PUBLISHED_A.label}, measured wrongly")
    assert set(wrong["model"]) == {"pythia-160m", "pythia-410m", "bloom-560m"}
    np.testing.assert_allclose(sorted(x), sorted(wrong["against"]))


def test_a_published_ratio_without_a_gain_stands_on_the_axis(axes):
    table = pd.concat(paper.spectral(axes, seen()))
    x, _ = drawn(axes, "published, no gain")
    assert x.tolist() == [0.4]  # GPT-2
    assert "gpt2" not in set(table["model"])


def test_labs_are_rows_and_say_what_was_published(axes):
    paper.heritage(axes, seen())
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names[0].startswith("EleutherAI\npublished 80%")
    assert names[-1] == "Hugging Face"
    _, y = drawn(axes, "measured here")
    assert abs(y[0] + len(names) - 1) < 0.5


def test_published_last_blocks_stand_beside_the_blocks_before_them(axes):
    table = pd.concat(paper.heritage(axes, seen()))
    last = table[table["quantity"] == "gain_published_b"].set_index("model")
    assert {"gpt2-xl", "mistral-7b", "gemma-7b"} <= set(last.index)
    names = [text.get_text().split("\n")[0] for text in axes.get_yticklabels()]
    assert {"OpenAI", "Mistral AI", "Google"} <= set(names)
    assert last.loc["gemma-7b", "value"] == 2.314
    assert abs(last.loc["gemma-7b", "against"] + names.index("Google")) < 0.5
    assert set(table.loc[table["source"] == "ours", "quantity"]) == {"gain_final"}


@pytest.mark.parametrize(
    "panel", [paper.kleiber, paper.spectral, paper.pythia_scaling, beside.crowding]
)
def test_published_gains_are_called_those_of_the_block_they_are_of(panel, axes):
    table = pd.concat(panel(axes, seen()))
    published = table[table["source"] == "published"]
    assert set(published["quantity"]) == {"gain_published_a"}
    _, values = drawn(axes, parts.PUBLISHED_A.label)
    assert set(values) <= set(published["value"])


def test_turning_layers_stand_over_the_formula_counted_from_one(axes):
    table = pd.concat(paper.turning_layer(axes, seen())).set_index("model")
    assert table.loc["shown", "value"] == pytest.approx(4 / LAYERS)
    expected = (LAYERS * (0.11 + 0.012 * LAYERS + 4.9 / 4) + 1) / LAYERS
    assert table.loc["shown", "against"] == pytest.approx(expected)
    assert table.loc["gpt2", "value"] == pytest.approx((9 + 1) / 12)
    assert "mistral-7b" not in table.index  # no depth is known of it


def test_a_refused_turning_layer_is_not_drawn(axes):
    table = models()
    tables = paper.turning_layer(axes, seen(table, turning=turning(table, status="failed")))
    assert set(pd.concat(tables)["source"]) == {"published"}


def test_series_join_runs_that_differ_in_one_measure_alone(axes):
    paper.pythia_scaling(axes, seen())
    size, gain = drawn(axes, parts.SERIES["layers"].label)
    np.testing.assert_allclose(size, 12 * np.array([2, 4, 8]) * 64**2)
    seeds = np.array([[1 + 0.5 / depth + 0.01 * seed for seed in (0, 1)] for depth in (2, 4, 8)])
    np.testing.assert_allclose(gain, np.exp(np.log(seeds).mean(axis=1)))


def test_published_exponents_go_through_the_middle_of_their_points(axes):
    beside.last_mlp(axes, seen())
    x, y = drawn(axes, "exponent 0.265: published, [0.07, 0.46]")
    assert np.diff(np.log(y)) / np.diff(np.log(x)) == pytest.approx(0.265)


def test_categories_have_our_intervals_and_controls_stand_beyond(axes):
    table = pd.concat(paper.input_robustness(axes, seen()))
    own = table[(table["model"] == "shown") & (table["quantity"] == "gain_median")]
    own = own.set_index("note")
    assert own.loc["factual", "value"] == pytest.approx(1.9)
    assert own.loc["factual", "low"] == pytest.approx(1.9 * np.exp(-0.1))
    assert own.loc["cliche", "value"] == pytest.approx(GAIN)
    assert np.isnan(own.loc["cliche", "low"])
    assert own.loc["chat", "against"] == len(COMPLEXITY)
    assert [text.get_text() for text in axes.get_xticklabels()][-1] == "chat template"


def test_the_printed_trace_is_shown_by_its_size(axes):
    paper.sheaf_trace(axes, seen())
    _, size = drawn(axes, "its trace as printed, size")
    np.testing.assert_allclose(size, 1e-6 * np.arange(1, LAYERS + 1))


def test_without_twins_the_panel_says_so(axes):
    beside.twins(axes, seen())
    assert "no pair at this scale" in axes.get_title(loc="left")
    assert "no pair at all" in told(axes)


def test_twins_stand_where_they_were_measured(axes):
    table = models(row("base", gain=0.8), row("tuned", gain=1.2))
    made = pd.concat(beside.twins(axes, seen(table, twins=[("base", "tuned"), ("base", "lost")])))
    own = made[(made["source"] == "ours") & (made["quantity"] == "gain_tuned")]
    assert own[["model", "against", "value"]].to_numpy().tolist() == [
        ["tuned", pytest.approx(0.8), pytest.approx(1.2)]
    ]
    assert axes.get_title(loc="left") == "twin test"
    in_chat = made[made["quantity"] == "gain_tuned_chat"]
    assert in_chat[["model", "against"]].to_numpy().tolist() == [["tuned", pytest.approx(0.8)]]
    assert in_chat["value"].tolist() == [pytest.approx(1.7)]


def test_definitions_stand_side_by_side(axes):
    table = pd.concat(beside.definitions(axes, seen()))
    of_mistral = table[table["model"] == "mistral-7b"].set_index("quantity")["value"]
    assert of_mistral.to_dict() == {
        "gain_published_b": 1.105, "gain_published_c": 1.37, "gain_mlp": 0.58
    }  # fmt: skip
    ours = table[table["source"] == "ours"]
    assert ours["model"].tolist() == ["shown"]
    assert ours["value"].tolist() == [pytest.approx(GAIN)]
    assert axes.get_yticklabels()[0].get_text() == "Shown-1B"
    assert "Apertus-8B" in [text.get_text() for text in axes.get_yticklabels()]


def test_what_was_decided_is_told_with_its_interval(axes):
    data = seen(numbers=[record("gain_with_layers", -0.5)])
    paper.kleiber(axes, data)
    assert "ours, r with L: -0.50 [-0.60, -0.40]" in told(axes)


def test_a_reason_is_that_of_the_model_asked_for():
    reasons = [
        {"id": "constraints.share", "model": name, "reason": f"{name} lacks it"} for name in "ab"
    ]
    assert parts.said(seen(reasons=reasons), "share", "share", "b") == "share: b lacks it"
    assert parts.said(seen(reasons=[]), "share", "share") == "share: not measured"


@given(
    arrays(
        float, st.tuples(st.integers(2, 40), st.integers(1, 3)),
        elements=st.floats(-1e6, 1e6), unique=True,
    )
)  # fmt: skip
def test_median_bands_are_the_exact_intervals_of_a_median(values):
    found = parts.median_band(values)
    np.testing.assert_allclose(found.value, np.median(values, axis=0))
    for column, low, high in zip(values.T, found.low, found.high, strict=True):
        exact = quantile_test(column, q=0, p=0.5).confidence_interval(0.95)
        np.testing.assert_array_equal([low, high], exact)


def test_a_layer_that_is_not_finite_has_no_median():
    values = np.ones((9, 2))
    values[3, 1] = np.nan
    found = parts.median_band(values)
    assert found.value[0] == 1
    assert np.isnan([found.value[1], found.low[1], found.high[1]]).all()


@settings(max_examples=20, deadline=None)
@given(st.floats(1e-3, 1e4))
def test_the_stretched_axis_can_be_read_back(gain):
    figure, axes = plt.subplots()
    try:
        axes.plot([0, 1], [0.5, 20])
        parts.stretched(axes)
        transform = axes.yaxis.get_transform()
        assert transform.inverted().transform(transform.transform([gain])) == pytest.approx(gain)
    finally:
        plt.close(figure)


def test_round_numbers_stand_on_logarithmic_axes(axes):
    axes.plot([1e3, 1e6], [0.9, 1.2])
    parts.log_axes(axes, "xy")
    x, y = (
        [text.get_text() for text in axis.get_ticklabels()] for axis in (axes.xaxis, axes.yaxis)
    )
    assert x == ["1k", "10k", "100k", "1M"]
    assert {"0.9", "1", "1.1", "1.2"} <= set(y)


def call(tmp_path, figure, data, architecture=(), **changes):
    tables = {
        "gains": data.gains, "spectra": data.spectra, "sheaf": data.sheaf, "turning": data.turning,
    }  # fmt: skip
    for name, table in tables.items():
        table.to_parquet(tmp_path / f"{name}.parquet")
    data.models.to_parquet(tmp_path / "models.parquet")
    write_statistics(tmp_path / "statistics.json", data.numbers)
    (tmp_path / "undecided.json").write_text(json.dumps(data.reasons))
    (tmp_path / "architecture.json").write_text(json.dumps(list(architecture)))
    constraints.draw(
        figure=figure, **{name: [str(tmp_path / f"{name}.parquet")] for name in tables},
        architecture=[str(tmp_path / "architecture.json")],
        models_table=tmp_path / "models.parquet", statistics=tmp_path / "statistics.json",
        undecided=tmp_path / "undecided.json", published=PUBLISHED, labels=data.labels,
        scale="smoke",
        **({"shown": ["missing", "shown"], "twins": []} | changes),
        **{end: tmp_path / f"page.{end}" for end in ("pdf", "png")}, table=tmp_path / "page.csv",
    )  # fmt: skip
    return pd.read_csv(tmp_path / "page.csv")


def test_the_page_is_written_with_its_numbers_and_what_is_missing(tmp_path):
    failed = {"model": "gone-7b", "family": "gemma", "status": "failed", "reason": "it is gated"}
    table = call(tmp_path, "twin_test", seen(), [failed])
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "page.png").stat().st_size > 10_000
    missing = table[table["panel"] == "not measured"]
    assert missing[["model", "note"]].to_numpy().tolist() == [["gone-7b", "it is gated"]]
    assert set(table["panel"]) == {"twins", "not measured"}


def test_the_heading_says_whose_numbers_they_are():
    failed = constraints.not_measured([{"model": "gone", "family": "x", "status": "failed"}])
    figure, _ = constraints.compose((beside.twins,), seen(), failed)
    heading = figure.get_suptitle().replace("\n", " ")
    plt.close(figure)
    assert "Shown-1B and 14 runs of the controlled family; 1 listed but not measured" in heading


def test_the_combined_page_survives_with_almost_nothing():
    table = models().assign(log_gain=np.nan, log_gain_low=np.nan, log_gain_high=np.nan)
    data = seen(table, numbers=[], reasons=[])
    data = data._replace(gains=data.gains.iloc[:0], sheaf=data.sheaf.iloc[:0])
    panels = constraints.FIGURES["constraints"]
    figure, numbers = constraints.compose(panels, data, constraints.not_measured([]))
    figure.draw_without_rendering()
    letters = [axes.get_title(loc="left")[5] for axes in figure.axes]
    plt.close(figure)
    assert letters == list("abcdefghijkl")
    assert set(numbers["panel"]) <= {panel.__name__ for panel in panels}
    assert "published" in set(numbers["source"])


def test_an_unknown_figure_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no figure 'nonsense'; there are constraints, kleiber"):
        call(tmp_path, "nonsense", seen())
