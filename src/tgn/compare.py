"""Two results folders side by side, claim by claim: another revision, or another scale."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tgn import pages
from tgn.claims import quantity
from tgn.statistics import Interval, difference

ABSENT = "absent"


@dataclass(frozen=True)
class Number:
    """One deciding statistic on both sides; ``moved`` is None where that cannot be told."""

    id: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    moved: bool | None


@dataclass(frozen=True)
class Comparison:
    """One claim on both sides; a side without it has the verdict ``absent``."""

    id: str
    before: str
    after: str
    numbers: Sequence[Number]

    @property
    def changed(self) -> bool:
        """Whether the verdict is another one."""
        return self.before != self.after

    @property
    def moved(self) -> bool:
        """Whether a number differs by more than its intervals allow."""
        return any(number.moved for number in self.numbers)


def read_verdicts(folder: str | Path) -> list[dict[str, Any]]:
    """The records of a results folder's ``claims.json``.

    Raises
    ------
    FileNotFoundError
        If the folder has none.
    """
    path = Path(folder) / "claims.json"
    if not path.is_file():
        raise FileNotFoundError(f"no claims.json in {folder}: make it with `make`, or name another")
    return json.loads(path.read_text(encoding="utf-8"))


def compare(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> list[Comparison]:
    """Every claim of two lists of records (:func:`tgn.claims.evaluate`), in the order of ``after``.

    A number has moved if the interval of its difference (:func:`tgn.statistics.difference`, which
    takes the two as independent) leaves zero out.
    """
    old = {record["id"]: record for record in before}
    new = {record["id"]: record for record in after}
    return [_compared(id, old.get(id), new.get(id)) for id in dict.fromkeys([*new, *old])]


def page(before: str | Path, after: str | Path) -> str:
    """The comparison of two results folders as Markdown: what changed first, the rest counted."""
    rows = compare(read_verdicts(before), read_verdicts(after))
    changed = [row for row in rows if row.changed]
    moved = [row for row in rows if row.moved and not row.changed]
    rest = len(rows) - len(changed) - len(moved)
    blocks: list[pages.Block] = [
        f"{len(rows)} claims: {len(changed)} with another verdict, {len(moved)} with the same one "
        f"from a number that moved beyond its intervals, {rest} unchanged."
    ]
    for title, found in (("Another verdict", changed), ("The same verdict, moved", moved)):
        if found:
            head = ["claim", str(before), str(after), "numbers"]
            blocks += [pages.Heading(title), pages.Table(head, list(map(_cells, found)))]
    return pages.markdown(f"{before} and {after}", blocks)


def _compared(
    id: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
) -> Comparison:
    old, new = _numbers(before), _numbers(after)
    numbers = [
        Number(name, old.get(name), new.get(name), _moved(old.get(name), new.get(name)))
        for name in dict.fromkeys([*new, *old])
    ]
    return Comparison(id, _verdict(before), _verdict(after), numbers)


def _verdict(record: Mapping[str, Any] | None) -> str:
    return record["verdict"] if record else ABSENT


def _numbers(record: Mapping[str, Any] | None) -> dict[str, Mapping[str, Any]]:
    return {row["id"]: row for row in record["ours"]} if record else {}


def _moved(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> bool | None:
    if before is None or after is None:
        return None
    if before["value"] == after["value"]:
        return False
    first, second = _interval(before), _interval(after)
    if first is None or second is None:
        return None
    gap = difference(second, first)
    return not gap.low <= 0 <= gap.high


def _interval(row: Mapping[str, Any]) -> Interval | None:
    if row["ci_low"] is None:
        return None
    return Interval(row["value"], row["ci_low"], row["ci_high"])


def _cells(row: Comparison) -> list[list[str]]:
    return [[f"`{row.id}`"], [row.before], [row.after], list(map(_line, row.numbers))]


def _line(number: Number) -> str:
    sides = " → ".join(_shown(row) for row in (number.before, number.after))
    return f"`{number.id}` {sides}{' (moved)' if number.moved else ''}"


def _shown(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ABSENT
    return quantity(row["value"], row["ci_low"], row["ci_high"], row["unit"])
