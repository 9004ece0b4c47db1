"""The paper's figures and the bridge show what tables and claims hold, and type nothing."""

import itertools
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from tgn.claims import read_claims
from tgn.plots import bridge, fig22, manuscript
from tgn.statistics import Statistic, write_statistics

ARMS = ["tgn", "transformer"]
STATES = {"awake": 1.0, "light": 0.6, "deep": 0.0, "recovery": 1.0}


def statistic(id, value, **changed):
    fields = {"n": 8, "unit": "", "method": "planted", "model": "planted", "evidence": "real"}
    return Statistic(
        id=id, value=value, ci_low=value - 0.1, ci_high=value + 0.1, **(fields | changed)
    )


def claim(pages, verdict="reproduced", value=1.25, **changed):
    number = {"id": "fig9.some_number", "value": value, "ci_low": 1.0, "ci_high": 1.5,
              "unit": "bits", "evidence": "real", "method": "a mean; over units"}  # fmt: skip
    return {"manuscript": pages, "verdict": verdict, "sentence": "A claim that is made.",
            "published": {"value": 3.0, "unit": "nats"}, "ours": [number],
            "controls": [number | {"id": "fig9.other", "evidence": "simulated"}],
            } | changed  # fmt: skip


@pytest.fixture
def claims(tmp_path):
    def write(*records):
        path = tmp_path / "claims.json"
        path.write_text(json.dumps(records))
        return path

    return write


def texts(figure):
    found = [text.get_text() for axes in figure.axes for text in axes.texts]
    return " ".join(found)


@pytest.fixture
def kept(monkeypatch):
    figures = []
    monkeypatch.setattr(plt, "close", figures.append)
    return figures


def answers():
    rows = itertools.product(("attention", "mamba_16"), (32, 64), (4, 8))
    return pd.DataFrame(
        [
            {"arm": arm, "seed": "mean", "input_seq_len": length, "num_kv_pairs": pairs,
             "accuracy": 0.5, "low": 0.4, "high": 0.6, "trained": True, "chance": 0.1,
             "context_chance": 0.2, "state_bytes": 1024}
            for arm, length, pairs in rows
        ]
    )  # fmt: skip


def test_claims_are_those_that_the_ledger_puts_on_the_page(claims):
    path = claims(*(claim(pages) for pages in ([2], [], [2, 3], [5])))
    for number, count in {2: 2, 3: 1, 5: 1}.items():
        found = manuscript.claims_of(path, number)
        assert len(found) == count
        assert all(number in record["manuscript"] for record in found)
    with pytest.raises(ValueError, match="figure 4 of the TGN paper"):
        manuscript.claims_of(path, 4)


def test_every_claim_of_the_paper_is_on_one_of_its_pages():
    ledger = read_claims(Path(__file__).parents[3] / "config/claims.yaml")
    of_paper = [claim for claim in ledger if "TGN paper" in claim.source]
    assert len(of_paper) > 50
    assert [claim.id for claim in of_paper if not claim.manuscript] == []
    assert {number for claim in of_paper for number in claim.manuscript} == set(range(1, 6))


@pytest.mark.parametrize(("verdict", "value"), [("reproduced", 1.25), ("inconclusive", 1.375)])
def test_the_page_says_what_the_claims_say(tmp_path, claims, kept, verdict, value):
    answers().to_parquet(tmp_path / "recall.parquet")
    manuscript.recall(
        recall=tmp_path / "recall.parquet",
        claims=claims(claim([4], verdict, value), claim([2])),
        pdf=tmp_path / "figure4.pdf", png=tmp_path / "figure4.png", scale="smoke",
    )  # fmt: skip
    (figure,) = kept
    said = texts(figure)
    assert said.count("A claim that is made.") == 1
    for part in (
        verdict,
        f"some number: {value} bits [1, 1.5]; a mean",
        "3 nats",
        "control: other: ",
    ):
        assert part in said
    assert "(simulated)" in said
    assert (tmp_path / "figure4.pdf").read_bytes().startswith(b"%PDF")


def test_the_page_grows_with_its_claims():
    one = manuscript.rows_of([claim([4])])
    long = manuscript.rows_of([claim([4], sentence="many words " * 200)])
    assert manuscript.height_of(one) < manuscript.height_of(one * 3) < manuscript.height_of(one * 9)
    assert len(long[0]["claim"]) > 20
    assert manuscript.height_of(long) > manuscript.height_of(one)


def test_a_claim_without_numbers_says_so():
    (row,) = manuscript.rows_of([claim([4], ours=[], controls=[], published="in words")])
    assert row["ours"] == ["not measured"]
    assert row["published"] == ["in words"]


def planted(folder):
    """The bridge's tables, the rank rising with the gate by a tenth."""
    rows = []
    for arm, seed, dose in itertools.product(ARMS, (0, 1), (0.0, 0.5, 1.0)):
        gated = arm == "tgn"
        modes = ["clamped", "untrained", "random"] if gated else ["scaled", "untrained"]
        for mode, layer in itertools.product(modes, (0, 1)):
            values = {"effective_rank": 20 + dose}
            if layer == 1:
                values |= {"log_ratio": 0.1 * dose, "extra_nats": dose, "gate": dose}
            rows += [
                {"arm": arm, "seed": seed, "mode": mode, "dose": dose, "layer": layer,
                 "quantity": quantity, "value": value, "low": value - 0.25, "high": value + 0.25,
                 "n": 8}
                for quantity, value in values.items()
            ]  # fmt: skip
    pd.DataFrame(rows).to_parquet(folder / "curves.parquet")
    matched = [
        {"curve": name, "state": state, "gate": gate, "value": 0.1 * (gate - 1),
         "low": 0.1 * (gate - 1) - 0.05, "high": 0.1 * (gate - 1) + 0.05, "n": 8}
        for name in ("brain", *ARMS, "random", "untrained")
        for state, gate in STATES.items()
    ]  # fmt: skip
    pd.DataFrame(matched).to_parquet(folder / "matched.parquet")
    names = ["similarity", *(f"similarity_{name}" for name in ("transformer", *bridge.CONTROLS))]
    write_statistics(
        folder / "statistics.json",
        [
            *(statistic(f"bridge.{name}", 0.8, evidence="simulated") for name in names),
            *(
                statistic(f"bridge.{name}_permuted", 0.1 * place, evidence="simulated")
                for place, name in enumerate(names)
            ),
            statistic("bridge.tgn_own_gate", 0.3),
            statistic("bridge.tgn_log_rank_open_minus_shut", 0.1),
        ],
    )
    return {
        **{name: folder / f"{name}.parquet" for name in ("curves", "matched")},
        "statistics": folder / "statistics.json",
    }


def test_the_bridge_draws_ratios_of_rank_and_marks_what_is_simulated(tmp_path, kept):
    bridge.draw(
        **planted(tmp_path), pdf=tmp_path / "bridge.pdf", png=tmp_path / "bridge.png", arms=ARMS,
        data="virtual cohort", evidence="simulated", scale="smoke",
    )  # fmt: skip
    (figure,) = kept
    closing, _, layers, cost, states, likeness = figure.axes
    lines = {line.get_label(): line for line in closing.lines}
    for label in (fig22.ARMS["tgn"].label, "Transformer (attention scaled)"):
        np.testing.assert_allclose(lines[label].get_ydata(), np.exp([0, 0.05, 0.1]))
    (star,) = (line for line in cost.lines if list(line.get_xdata()) == [0.3])
    assert star.get_marker() == "*"
    assert len(layers.collections) == 2 * 4  # a band a seed and dose, and as trained
    for band in cost.collections:
        np.testing.assert_allclose(np.ptp(band.get_paths()[0].vertices[:, 1]), 1.5)
    nulls = [band.get_paths()[0].vertices[:, 0] for band in likeness.collections[::2]]
    assert [name.get_text() for name in likeness.get_yticklabels()][-1] == "a straight line"
    for place, ends in enumerate(nulls):  # one for each curve, not that of the first
        np.testing.assert_allclose((ends.min(), ends.max()), (0.1 * place - 0.1, 0.1 * place + 0.1))
    assert len(nulls) == len(likeness.get_yticks())
    marked = [any(t.get_text() == "SIMULATED" for t in axes.texts) for axes in figure.axes]
    assert marked == [False] * 4 + [True] * 2
    assert [tick.get_text().split("\n")[0] for tick in states.get_xticklabels()] == list(STATES)
