"""The scaling figure shows what its tables hold."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from tgn.plots import scaling
from tgn.statistics import Statistic, write_statistics

GRID = np.geomspace(0.05, 6.4, 15)
KINDS = ("self_attention.query", "ffn.intermediate")
MODELS = {"shown": 1e6, "small": 1e4, "middle": 1e5}


def bands():
    rows = []
    for weights in ("trained", "untrained"):
        for quantity in ("specific_heat", "entropy", "renyi_2", "fisher"):
            value = GRID / (1 + GRID) * (1.0 if weights == "trained" else 0.5)
            rows.append(
                pd.DataFrame(
                    {"t": GRID, "value": value, "low": 0.9 * value, "high": 1.1 * value,
                     "null": 0.4, "null_low": 0.3, "null_high": 0.5}
                ).assign(model="shown", weights=weights, quantity=quantity)
            )  # fmt: skip
    return pd.concat(rows, ignore_index=True)


def curves():
    return pd.concat(
        [
            pd.DataFrame({"t": GRID, "specific_heat": layer + np.exp(-((GRID - 1) ** 2))}).assign(
                model="shown", weights="trained", layer=layer, kind=kind
            )
            for layer in range(3)
            for kind in KINDS
        ],
        ignore_index=True,
    )


def models():
    return pd.DataFrame(
        [
            {"model": name, "weights": weights, "parameters": size,
             "critical_temperature": 0.05 * factor, "gaussian_temperature": 0.04,
             "freezing_temperature": 0.03, "critical_low": 0.04 * factor * known,
             "critical_high": 0.07 * factor * known}
            for (name, size), known in zip(MODELS.items(), (1, 1, np.nan), strict=True)
            for weights, factor in (("trained", 2.0), ("untrained", 1.0))
        ]
    )  # fmt: skip


def matrices():
    return pd.DataFrame(
        [
            {"model": name, "weights": "trained", "layer": layer, "kind": kind, "at_edge": False,
             "critical_temperature": 0.5 + layer / 10, "isolated_temperature": 0.5 + layer / 10,
             "kurtosis": 1.0 if layer else -1.0,
             "freezing_temperature": 0.2}
            for name in MODELS
            for layer in range(3)
            for kind in KINDS
        ]
    )  # fmt: skip


def densities():
    edges = np.geomspace(1e-3, 1e3, 31)
    return pd.concat(
        [
            pd.DataFrame({"low": edges[:-1], "high": edges[1:], "density": 1 / edges[1:]}).assign(
                kind=kind, weights="trained", entries=entries, rows=sides[0], columns=sides[1]
            )
            for kind, sides in zip(KINDS, ((64, 64), (128, 64)), strict=True)
            for entries in ("weights", "shuffled")
        ],
        ignore_index=True,
    )


def flows():
    return pd.DataFrame(
        [
            {"layer": layer, "kind": kind, "step": step, "ratio": 1 + 0.01 * layer * step,
             "permuted": 1.0, "low": 0.95, "high": 1.05}
            for layer in range(2)
            for kind in KINDS
            for step in range(3)
        ]
    )  # fmt: skip


def statistics(evidence="simulated"):
    names = [name for name, _ in (*scaling.EXPONENTS, *scaling.EFFECTS)]
    return [
        Statistic(
            id=f"scaling.{name}", value=0.1 * number, ci_low=0.1 * number - 0.05,
            ci_high=0.1 * number + 0.05, n=3, unit="", method="planted",
            model="all" if name.startswith("exponent") else "shown", evidence=evidence,
        )
        for number, name in enumerate(names)
    ]  # fmt: skip


@pytest.fixture
def figure():
    made = scaling.page(
        bands(), curves(), models(), matrices(), densities(), flows(), statistics(),
        shown="shown", label="a model",
    )  # fmt: skip
    yield made
    plt.close(made)


def panels(figure):
    return {axes.get_title(loc="left")[5]: axes for axes in figure.axes}


def drawn(axes, label):
    (line,) = [line for line in axes.get_lines() if line.get_label() == label]
    return line.get_xdata(), line.get_ydata()


def test_every_panel_has_its_letter_title_and_units(figure):
    assert "".join(sorted(panels(figure))) == "abcdefghi"
    for axes in figure.axes:
        assert axes.get_xlabel()
    assert "6 matrices of a model" in figure.get_suptitle()
    assert "3 models" in figure.get_suptitle()


def test_the_middle_layer_is_drawn_matrix_by_matrix(figure):
    _, heat = drawn(panels(figure)["a"], "trained, the matrices of layer 2")
    np.testing.assert_allclose(heat, 1 + np.exp(-((GRID - 1) ** 2)))


def test_every_model_is_one_point_over_its_size(figure):
    axes = panels(figure)["c"]
    sizes, freezing = drawn(axes, f"{scaling.FREEZING.label}, σ as trained")
    np.testing.assert_allclose(sizes, list(MODELS.values()))
    np.testing.assert_allclose(freezing, 0.03)
    assert {"peak, trained", "peak, untrained"} <= {
        text.get_text() for text in axes.get_legend().get_texts()
    }


def test_a_peak_without_an_interval_has_no_bar(figure):
    (bars, _) = panels(figure)["c"].containers
    (lines,) = bars.lines[2]
    reach = [line[:, 1] for line in lines.get_segments() if len(line)]
    np.testing.assert_allclose(reach, [[0.08, 0.14], [0.08, 0.14]])


def test_matrices_with_nearly_uniform_entries_are_marked(figure):
    axes = panels(figure)["e"]
    flat, others, own = (
        len(drawn(axes, name)[0]) for name in ("nearly uniform entries", "other models", "a model")
    )
    assert flat == len(MODELS) * len(KINDS)  # those of the first layer
    assert (others, own) == (2 * (len(MODELS) - 1) * len(KINDS), 2 * len(KINDS))


def test_exponents_and_effects_stand_beside_zero(figure):
    for letter, rows in (("d", scaling.EXPONENTS), ("f", scaling.EFFECTS)):
        names = [text.get_text() for text in panels(figure)[letter].get_yticklabels()]
        assert names == [look.label for _, look in rows]


def test_models_with_other_kinds_of_matrices_have_spectra_too():
    _, axes = plt.subplots()
    scaling.spectrum_panel(axes, densities().replace({"kind": {KINDS[0]: "mixer.query"}}))
    assert "ffn.intermediate" in {line.get_label() for line in axes.get_lines()}
    plt.close()


def test_the_page_is_written_and_says_that_its_data_are_simulated(tmp_path):
    tables = {
        "bands": bands(), "models_table": models(), "curves": curves(), "densities": densities(),
        "flows": flows(), "matrices": matrices(),
    }  # fmt: skip
    paths = {name: tmp_path / f"{name}.parquet" for name in tables}
    for name, table in tables.items():
        table.to_parquet(paths[name])
    write_statistics(tmp_path / "statistics.json", statistics())
    scaling.draw(
        **(paths | {"matrices": [str(paths["matrices"])]}), statistics=tmp_path / "statistics.json",
        pdf=tmp_path / "scaling.pdf", png=tmp_path / "scaling.png", shown="shown",
        labels={"shown": "a model"}, scale="smoke",
    )  # fmt: skip
    assert (tmp_path / "scaling.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "scaling.png").stat().st_size > 10_000
