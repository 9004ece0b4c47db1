"""The ledger's pages: what a reader finds there, and the files that are written."""

import json
import re
from pathlib import Path

import pytest
import yaml

from tgn import pages
from tgn.claims import NOT_TESTABLE, Claim, evaluate
from tgn.coverage import Sentence, Work
from tgn.statistics import Statistic, write_statistics
from tgn.verdicts import VERDICTS, adjudicate, blocks_of, figure_blocks

CONFIG = Path(__file__).parents[2] / "config"


def stat(low, value, high, id="fig0.effect", evidence="real", **more) -> Statistic:
    return Statistic(id, value, low, high, 50, "nats", "mean", "toy", evidence, **more)


FIELDS = {
    "id": "tgn.toy",
    "system": "tgn",
    "source": "nowhere, figure 0",
    "sentence": "Rank | falls <1 %",
    "published": {"value": 24.86, "unit": "perplexity"},
    "about": "models",
    "decision": "interval_excludes",
    "parameters": {"side": "above"},
    "statistics": ["fig0.effect"],
    "least_scale": "laptop",
    "manuscript": [3],
}
EFFECT = stat(0.9, 1.0, 1.1, evidence="simulated", note="pairs")
CONTROL = stat(-0.1, 0.0, 0.1, id="fig0.control")


def records(*changes: dict, statistics=(EFFECT, CONTROL)):
    return evaluate([Claim(**FIELDS | change) for change in changes], statistics, "laptop")


def markdown(rows, works=()):
    return pages.markdown("Claims", blocks_of(rows, works, "laptop", "abc1234+"))


def test_the_page_shows_claim_numbers_control_verdict_and_evidence():
    rows = records(
        {"controls": {EFFECT.id: [CONTROL.id]}},
        {"id": "ngt.toy", "system": "ngt", "least_scale": "paper"},
    )
    page = markdown(rows)
    assert "Scale laptop, revision abc1234+" in page
    assert "2 claims: 1 reproduced, 1 not testable at this scale" in page
    assert page.index("## Thermodynamic Gated Networks") < page.index("## Newton Gravity")
    line = next(line for line in page.splitlines() if "Rank" in line)
    verdict, claim, published, ours, control = line.strip("| ").replace("\\|", "").split(" | ")
    assert verdict == "**reproduced**"
    assert "falls &lt;1 %" in claim
    assert "fig0.effect is 1 nats [0.9, 1.1] (n = 50), which is above 0" in claim
    assert published == "24.86 perplexity"
    assert "`fig0.effect` 1 nats [0.9, 1.1], n = 50; pairs" in ours
    assert "measured on toy (*simulated*), toy (*real*)" in ours
    assert control == "`fig0.control` 0 nats [-0.1, 0.1], n = 50, against `fig0.effect`"
    for word in VERDICTS:
        assert f"**{word}**:" in page


def test_verdicts_are_counted_by_figure_also_where_a_claim_rests_on_two():
    both = {"id": "tgn.two", "statistics": ["fig0.effect", "recall_tasks.share"]}
    low = stat(-1.1, -1.0, -0.9, id="recall_tasks.share")
    page = markdown(records({}, both, statistics=(EFFECT, low)))
    assert "| figure 0 | 1 | 1 | – | – |" in page
    assert "| recall tasks | – | 1 | – | – |" in page


def test_what_stands_beside_is_shown_and_decides_nothing():
    other = stat(-0.1, 0.0, 0.1, id="fig0.other", note="another definition")
    change = {"beside": [other.id], "note": "Decided on the first."}
    rows = records(change, statistics=(EFFECT, other))
    assert rows[0]["verdict"] == "reproduced"
    page = markdown(rows)
    assert "*Note:* Decided on the first." in page
    assert "deciding nothing:*<br>`fig0.other` 0 nats [-0.1, 0.1], n = 50; another defin" in page
    with pytest.raises(ValueError, match=r"needs statistic fig0\.other, which is missing"):
        records(change, statistics=(EFFECT,))


def test_coverage_shows_every_sentence_with_verdicts_or_with_the_reason():
    works = [
        Work(
            "a paper",
            "tgn",
            [
                Sentence("abstract", "It falls.", claims=["tgn.toy"], left="by how much"),
                Sentence("end", "It is good.", reason="undefined", why="good is not defined"),
            ],
        ),
        Work("another", "ngt", to_come="later"),
    ]
    page = markdown(records({}, {"id": "tgn.uncited"}), works)
    assert "| a paper | 2 | 1 | 1 undefined: " in page
    assert "| another | – | – | later | – |" in page
    assert (
        "| abstract | It falls. | `tgn.toy`: **reproduced**<br>*not tested:* by how much |" in page
    )
    assert "| end | It is good. | none, undefined: good is not defined |" in page
    assert "- `tgn.uncited`: reproduced" in page
    assert "- `tgn.toy`" not in page


def test_a_figures_caption_has_its_own_claims_only():
    rows = records(
        {"controls": {EFFECT.id: [CONTROL.id]}},
        {"id": "tgn.other", "sentence": "Elsewhere.", "statistics": ["fig1.effect"]},
        statistics=(EFFECT, CONTROL, stat(-3, -2, -1, id="fig1.effect")),
    )
    caption = pages.fragment(figure_blocks(rows, "results/fig0/verdicts.html"))
    text = re.sub(r"<[^>]*>", "", caption)
    assert "reproduced · Rank | falls &lt;1 %" in text
    assert "Published: 24.86 perplexity" in text
    assert "Ours: effect: 1 nats [0.9, 1.1] = ln 2.718 [2.46, 3.004] (simulated); mean" in text
    assert "Control: control: 0 nats [-0.1, 0.1]" in text
    assert "Elsewhere" not in text
    assert figure_blocks(rows, "fig2/verdicts.html") == ["No claim rests on this figure."]


def test_a_page_of_the_paper_has_the_claims_that_the_ledger_puts_there():
    rows = records({}, {"id": "tgn.other", "sentence": "Elsewhere.", "manuscript": [1]})
    (block,) = figure_blocks(rows, "results/manuscript/figure3/verdicts.html")
    assert "Rank | falls <1 %" in block.lines[0]
    assert figure_blocks(rows, "results/manuscript/figure2/verdicts.html") == [
        "No claim rests on this figure."
    ]


# --- the files -----------------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path):
    """A ledger and sentences of their own, with the project's schemas."""
    work = {
        "title": "toy",
        "system": "tgn",
        "numbers": [],
        "sentences": [{"section": "one", "says": "It falls.", "claims": ["tgn.toy"]}],
    }
    for name, rows in (("claims", [FIELDS]), ("sentences", [work])):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(rows))
        schema = f"{name}.schema.json"
        (tmp_path / schema).write_text((CONFIG / schema).read_text())
    write_statistics(tmp_path / "a.json", [EFFECT])
    write_statistics(tmp_path / "b.json", [CONTROL])
    return tmp_path


def adjudicated(ledger, folder, scale="laptop"):
    adjudicate(
        statistics=[ledger / "a.json", ledger / "b.json"],
        ledger=ledger / "claims.yaml",
        sentences=ledger / "sentences.yaml",
        verdicts=folder / "claims.json",
        table=folder / "claims.md",
        page=folder / "claims.html",
        counts=folder / "verdicts.html",
        figures=[folder / "fig0/verdicts.html", folder / "fig1/verdicts.html"],
        scale=scale,
    )
    return json.loads((folder / "claims.json").read_text())


def test_adjudicate_writes_its_files_and_the_same_bytes_again(ledger):
    one, two = ledger / "one", ledger / "two"
    assert [row["verdict"] for row in adjudicated(ledger, one)] == ["reproduced"]
    adjudicated(ledger, two)
    assert (one / "claims.json").read_bytes() == (two / "claims.json").read_bytes()
    assert "# Claims" in (one / "claims.md").read_text()
    assert "<h1>Claims</h1>" in (one / "claims.html").read_text()
    assert "<td>figure 0</td>" in (one / "verdicts.html").read_text()
    assert "reproduced" in (one / "fig0/verdicts.html").read_text()
    assert "No claim" in (one / "fig1/verdicts.html").read_text()


def test_a_smaller_scale_decides_nothing(ledger):
    (row,) = adjudicated(ledger, ledger / "smoke", scale="smoke")
    assert row["verdict"] == NOT_TESTABLE


def test_a_sentence_on_a_claim_that_is_not_there_stops_everything(ledger):
    path = ledger / "sentences.yaml"
    path.write_text(path.read_text().replace("tgn.toy", "tgn.lost"))
    with pytest.raises(ValueError, match=r"tgn\.lost"):
        adjudicated(ledger, ledger / "none")
    assert not (ledger / "none").exists()
