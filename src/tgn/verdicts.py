"""The ledger written down: every claim with its verdict, as data and as pages to read.

A page holds the verdicts by system, how to read them, and the coverage of the published works.
For the report there are parts of it, as HTML that stands in another page: a table of counts, and
the verdicts of each figure.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tgn import pages
from tgn.claims import NOT_TESTABLE, SYSTEMS, evaluate, in_words, quantity, read_claims
from tgn.coverage import REASONS, Sentence, Work, check_cited, read_works, reasons
from tgn.files import replacing, write_json
from tgn.provenance import short_revision
from tgn.statistics import read_statistics

Record = Mapping[str, Any]

VERDICTS = ("reproduced", "not reproduced", "inconclusive", NOT_TESTABLE)
_COLUMNS = {"verdict": 11, "claim": 34, "published": 14, "ours": 23, "control": 18}  # percent
_LEGEND: list[pages.Block] = [
    pages.Heading("How to read this"),
    pages.Bullets(
        [
            "**reproduced**: the whole interval lies on the claimed side, and clearly beyond every "
            "control.",
            "**not reproduced**: the whole interval lies on the contrary side, or a control shows "
            "as much.",
            "**inconclusive**: the interval, or its distance from a control, leaves both open.",
            "**not testable at this scale**: the data or models that could decide it are not part "
            "of this run, or they are simulated and the claim is about brains. Our numbers are "
            "shown all the same.",
        ]
    ),
    "Numbers are given with their interval in brackets. *real* was measured on real data or a real "
    "model, *simulated* was not. Every verdict is computed from `statistics.json`; none is typed.",
]


def adjudicate(
    *,
    statistics: Sequence[str | Path],
    ledger: str | Path,
    sentences: str | Path,
    verdicts: str | Path,
    table: str | Path,
    page: str | Path,
    scale: str,
    models: Sequence[str] = (),
    counts: str | Path | None = None,
    figures: Sequence[str | Path] = (),
    undecided: Sequence[str | Path] = (),
) -> None:
    """Give every claim of a ledger its verdict, as JSON and as pages to read.

    Parameters
    ----------
    statistics
        Every figure's ``statistics.json``.
    ledger, sentences
        ``claims.yaml`` and ``sentences.yaml``, each with its schema beside it.
    verdicts, table, page
        Written: ``claims.json``, ``claims.md`` and ``claims.html``.
    counts, figures
        Written, if given, for the report: the table of counts, and the verdicts of each figure
        into a file of its folder, such as ``fig8/verdicts.html``; of the TGN paper's own figures
        into ``manuscript/figure1/verdicts.html`` and so on.
    undecided
        Lists of ``{id, reason}``: statistics that could not be had.
    scale, models
        As for :func:`tgn.claims.evaluate`.

    Raises
    ------
    FileNotFoundError, ValueError
        As :func:`tgn.claims.read_claims`, :func:`tgn.claims.evaluate`,
        :func:`tgn.statistics.read_statistics` and :func:`tgn.coverage.read_works`, or if a
        sentence names a claim that does not exist.
    """
    claims, works = read_claims(ledger), read_works(sentences)
    check_cited(works, [claim.id for claim in claims])
    measured = [record for path in statistics for record in read_statistics(path)]
    listed = [
        entry for path in undecided for entry in json.loads(Path(path).read_text(encoding="utf-8"))
    ]
    without = {entry["id"]: entry["reason"] for entry in listed}
    records = evaluate(claims, measured, scale, models, without)
    write_json(verdicts, records)
    blocks = blocks_of(records, works, scale, short_revision())
    texts = {table: pages.markdown("Claims", blocks), page: pages.html("Claims", blocks)}
    if counts is not None:
        texts[counts] = pages.fragment([_counted(records)])
    texts |= {path: pages.fragment(figure_blocks(records, path)) for path in figures}
    for path, text in texts.items():
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def blocks_of(
    records: Sequence[Record], works: Sequence[Work], scale: str, revision: str
) -> list[pages.Block]:
    """The page: counts, a table for each system, a legend, and the coverage of the works."""
    tally = Counter(record["verdict"] for record in records)
    found = ", ".join(f"{tally[verdict]} {verdict}" for verdict in VERDICTS if tally[verdict])
    blocks: list[pages.Block] = [
        f"Scale {scale}, revision {revision}. {len(records)} claims: {found}.",
        _counted(records),
    ]
    for system, name in SYSTEMS.items():
        if rows := [_cells(record) for record in records if record["system"] == system]:
            blocks.append(pages.Heading(name))
            blocks.append(pages.Table(list(_COLUMNS), rows, list(_COLUMNS.values())))
    return [*blocks, *_LEGEND, *_coverage(records, works)]


def figure_blocks(records: Sequence[Record], path: str | Path) -> list[pages.Block]:
    """The verdicts of the figure in whose folder ``path`` lies, in short: for its caption."""
    figure = Path(path).parent.name
    mine = [record for record in records if figure in (*_figures(record), *_pages(record))]
    if not mine:
        return ["No claim rests on this figure."]
    blocks: list[pages.Block] = []
    for record in mine:
        ours = [in_words(row) for row in record["ours"]]
        within = dict.fromkeys(name for row in record["ours"] for name in row["controls"])
        controls = dict.fromkeys([*within, *map(in_words, record["controls"])])
        lines = [
            f"**{record['verdict']}** · {record['sentence']}",
            f"*Published:* {_published(record)}",
            f"*Ours:* {'; '.join(ours) or 'not measured'}",
            f"*Control:* {'; '.join(controls) or 'none'}",
        ]
        blocks.append(pages.Lines(lines))
    return blocks


def _figures(record: Record) -> list[str]:
    """The figures whose statistics decide a claim, in order."""
    return list(dict.fromkeys(id.split(".")[0] for id in record["statistics"]))


def _pages(record: Record) -> list[str]:
    """The TGN paper's own figures on whose pages a claim stands, by the names of their folders."""
    return [f"figure{number}" for number in record["manuscript"]]


def _counted(records: Sequence[Record]) -> pages.Table:
    """How many claims of each figure got which verdict; one that rests on two counts for both."""
    tally = Counter((figure, r["verdict"]) for r in records for figure in _figures(r))
    rows: list[list[list[str]]] = []
    for figure in dict.fromkeys(figure for figure, _ in tally):
        rows.append(
            [[_named(figure)], *([str(tally[figure, verdict] or "–")] for verdict in VERDICTS)]
        )
    return pages.Table(["claims of", *VERDICTS], rows)


def _named(figure: str) -> str:
    """``fig8`` as figure 8, ``recall_tasks`` as recall tasks."""
    return re.sub(r"^fig(?=\d)", "figure ", figure).replace("_", " ")


def _cells(record: Record) -> list[list[str]]:
    """The five cells of a claim, each a list of lines in light Markdown."""
    note = [f"*Note:* {record['note']}"] if record["note"] else []
    claim = [
        record["sentence"],
        f"*Source:* {record['source']}",
        f"*Why:* {record['reason']}",
        *note,
        f"`{record['id']}`",
    ]
    ours = [_number(row) for row in record["ours"]]
    if record["beside"]:
        ours += ["*Beside, deciding nothing:*", *(_number(row) for row in record["beside"])]
    controls = [
        *_named_controls(record),
        *(_number(row, f", against `{row['control_of']}`") for row in record["controls"]),
    ]
    others = [f"{other['model']}: {other['verdict']}" for other in record["other_models"]]
    verdict = [f"**{record['verdict']}**", *others]
    ours.append(_measured_on(record))
    return [verdict, claim, [_published(record)], ours, controls or ["none"]]


def _published(record: Record) -> str:
    published = record["published"]
    if isinstance(published, Mapping):
        return f"{published['value']} {published['unit']}".rstrip()
    return published


def _named_controls(record: Record) -> list[str]:
    """The controls that the numbers are contrasts with already."""
    contrasts: dict[str, list[str]] = {}
    for row in record["ours"]:
        for name in row["controls"]:
            contrasts.setdefault(name, []).append(f"`{row['id']}`")
    return [f"{name}, within {', '.join(ids)}" for name, ids in contrasts.items()]


def _number(row: Record, relation: str = "") -> str:
    number = quantity(row["value"], row["ci_low"], row["ci_high"], row["unit"])
    note = f"; {row['note']}" if row["note"] else ""
    return f"`{row['id']}` {number}, n = {row['n']}{relation}{note}"


def _measured_on(record: Record) -> str:
    """Every model and kind of evidence behind the numbers of a claim."""
    rows = [*record["ours"], *record["controls"], *record["beside"]]
    found = dict.fromkeys(f"{row['model']} (*{row['evidence']}*)" for row in rows)
    return f"measured on {', '.join(found)}" if found else "not measured"


def _coverage(records: Sequence[Record], works: Sequence[Work]) -> list[pages.Block]:
    """How much of each work the claims test, and every sentence of it."""
    verdicts = {record["id"]: record["verdict"] for record in records}
    rows = [_work_cells(work) for work in works]
    blocks: list[pages.Block] = [
        pages.Heading("Coverage of the published works"),
        "Every sentence of a work is tested by claims above, or it is said why none can.",
        pages.Table(["work", "sentences", "tested", "not tested", "numbers"], rows),
    ]
    for work in works:
        if work.sentences:
            lines = [_sentence_cells(sentence, verdicts) for sentence in work.sentences]
            fold = f"{work.title}, sentence by sentence"
            blocks.append(
                pages.Table(["section", "it says", "tested by"], lines, [14, 43, 43], fold)
            )
    cited = set().union(*(work.cited for work in works))
    if others := [id for id in verdicts if id not in cited]:
        blocks += [
            "Claims that no sentence names; they rest on texts that were not read so, such as the "
            "extended manuscript or published code:",
            pages.Bullets([f"`{id}`: {verdicts[id]}" for id in others]),
        ]
    return blocks


def _work_cells(work: Work) -> list[list[str]]:
    if work.to_come:
        return [[work.title], ["–"], ["–"], [work.to_come], ["–"]]
    untested = reasons(work)
    why = [f"{untested[name]} {name}: {means}" for name, means in REASONS.items() if untested[name]]
    sentences, tested = str(len(work.sentences)), str(len(work.tested))
    return [[work.title], [sentences], [tested], why, [f"{len(work.numbers)}, all in sentences"]]


def _sentence_cells(sentence: Sentence, verdicts: Mapping[str, str]) -> list[list[str]]:
    tested = [f"`{id}`: **{verdicts[id]}**" for id in sentence.claims]
    if sentence.left:
        tested.append(f"*not tested:* {sentence.left}")
    if sentence.reason:
        tested.append(f"none, {sentence.reason}: {sentence.why}")
    return [[sentence.section], [sentence.says], tested]
