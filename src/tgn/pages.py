"""One description of a page, written as Markdown and as HTML.

Text is light Markdown: ``code``, ``**bold**`` and ``*emphasis*``. The HTML needs neither scripts
nor a network.
"""

from __future__ import annotations

import html as entities
import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Heading:
    """The heading of what follows."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list of points."""

    points: Sequence[str]


@dataclass(frozen=True)
class Lines:
    """A paragraph whose lines are kept apart."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Table:
    """A table; a cell is a list of lines.

    In HTML, ``widths`` are those of its columns in percent, and ``fold`` is the label that it
    stands folded under.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Sequence[str]]]
    widths: Sequence[int] = ()
    fold: str = ""


Block = str | Heading | Bullets | Lines | Table  # a bare string is a paragraph

_STYLE = """<!doctype html>
<meta charset="utf-8">
<title>{title}</title>
<style>
body { font: 14px/1.45 sans-serif; margin: 2em; background: #fff; color: #111; }
table { border-collapse: collapse; margin: 0.5em 0 1.5em; }
table.full { table-layout: fixed; width: 100%; }
th, td { border: 1px solid #ccc; padding: 0.5em; vertical-align: top; text-align: left; }
td { overflow-wrap: break-word; }
code { font-size: 12px; }
summary { cursor: pointer; }
</style>"""


def markdown(title: str, blocks: Sequence[Block]) -> str:
    """The page as Markdown."""
    return "\n\n".join([f"# {title}", *map(_markdown, blocks)]) + "\n"


def html(title: str, blocks: Sequence[Block]) -> str:
    """The page as one HTML file."""
    name = entities.escape(title)
    return "\n".join([_STYLE.replace("{title}", name), f"<h1>{name}</h1>", fragment(blocks)])


def fragment(blocks: Sequence[Block]) -> str:
    """The blocks as HTML, to stand in another page."""
    return "\n".join(map(_html, blocks)) + "\n"


def _markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return f"## {block.text}"
    if isinstance(block, Bullets):
        return "\n".join(f"- {point}" for point in block.points)
    if isinstance(block, Lines):
        return "<br>".join(map(_escaped, block.lines))
    if isinstance(block, Table):
        cells = [["<br>".join(map(_escaped, cell)) for cell in row] for row in block.rows]
        lines = [block.head, ["---"] * len(block.head), *cells]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"{block.fold}\n\n{table}" if block.fold else table
    return block


def _html(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h2>{_marked_up(block.text)}</h2>"
    if isinstance(block, Bullets):
        points = "".join(f"<li>{_marked_up(point)}</li>" for point in block.points)
        return f"<ul>{points}</ul>"
    if isinstance(block, Lines):
        return f"<p>{_lines(block.lines)}</p>"
    if isinstance(block, Table):
        head = "".join(f"<th>{_marked_up(name)}</th>" for name in block.head)
        rows = "\n".join(
            "<tr>" + "".join(f"<td>{_lines(cell)}</td>" for cell in row) + "</tr>"
            for row in block.rows
        )
        columns = "".join(f'<col style="width: {width}%">' for width in block.widths)
        kind = ' class="full"' if block.widths else ""
        table = f"<table{kind}>{columns}<tr>{head}</tr>\n{rows}\n</table>"
        if not block.fold:
            return table
        return f"<details><summary>{_marked_up(block.fold)}</summary>\n{table}\n</details>"
    return f"<p>{_marked_up(block)}</p>"


def _lines(cell: Sequence[str]) -> str:
    return "<br>".join(map(_marked_up, cell))


def _escaped(text: str) -> str:
    plain = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;")
    return plain.replace("|", "\\|")


def _marked_up(text: str) -> str:
    """Light Markdown as HTML: code, bold and emphasis."""
    plain = entities.escape(" ".join(str(text).split()), quote=False)
    for mark, tag in (("`", "code"), ("\\*\\*", "b"), ("\\*", "i")):
        plain = re.sub(rf"{mark}(\S|\S.*?\S){mark}", rf"<{tag}>\1</{tag}>", plain)
    return re.sub(r"(?<=\w)_(?=\w)", "_<wbr>", plain)  # long names may break there
