"""Corpora: reading them into one document table, and cutting fixed-length passages from it.

A corpus is a pandas table with one row a document and the columns ``title`` and ``text``.
"""

from __future__ import annotations

import bz2
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatch
from itertools import chain, islice, tee
from pathlib import Path

import mwparserfromhell
import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet as parquet

from tgn import sources
from tgn.files import replacing
from tgn.progress import bar

# Elements whose content is not running text.
_DROPPED_TAGS = {"ref", "references", "table", "gallery", "math", "timeline", "imagemap", "code"}
# Files, categories and links to the same page in another language (two to twelve letters).
_DROPPED_LINKS = re.compile(r"^\s*:?\s*(file|image|category|media|[a-z]{2,3}(-[a-z-]+)?)\s*:", re.I)
_ARTICLE_HEADING = re.compile(r"^ = ([^=].*?) = \n?$")


def clean_markup(markup: str) -> str:
    """Running text of a page written in MediaWiki markup, paragraphs parted by one blank line.

    References, tables, templates, formulae, pictures and categories are dropped.

    >>> clean_markup("'''Rank''' is a [[number|count]].<ref>Roy 2007</ref> {{stub}} [[de:Rang]]")
    'Rank is a count.'
    """
    # Read as text, quote marks of bold and italics cannot break the elements around them.
    code = mwparserfromhell.parse(markup, skip_style_tags=True)
    # Emptied in place: removing a node searches the whole tree for it, and links nest in tags.
    for tag in code.ifilter_tags():
        if str(tag.tag).lower() in _DROPPED_TAGS:
            tag.contents = ""
    for link in code.ifilter_wikilinks():
        if _DROPPED_LINKS.match(str(link.title)):
            link.text = ""
    text = re.sub("'{2,}", "", code.strip_code(normalize=True, collapse=True))
    lines = [re.sub(r"[ \t]+", " ", line).strip() for line in text.splitlines()]
    return re.sub(r"\n{2,}", "\n\n", "\n".join(lines)).strip()


def read_wikipedia_dump(path: str | Path) -> pd.DataFrame:
    """Articles of a ``pages-articles`` XML dump (bzip2), cleaned; redirects are left out.

    Raises
    ------
    ValueError
        If the file holds no article, is cut short, or is not XML in UTF-8.
    """
    titles, texts = [], []
    try:
        with bz2.open(path) as stream:
            for _, page in bar(ElementTree.iterparse(stream), desc="pages", unit="node"):
                if not page.tag.endswith("}page"):
                    continue
                markup = page.findtext("{*}revision/{*}text")
                if markup and page.find("{*}redirect") is None and page.findtext("{*}ns") == "0":
                    titles.append(page.findtext("{*}title"))
                    texts.append(clean_markup(markup))
                page.clear()
    except (ElementTree.ParseError, EOFError) as error:
        raise ValueError(f"{path} is not a whole MediaWiki dump (XML in UTF-8): {error}") from error
    if not titles:
        raise ValueError(f"{path} holds no article: is it a MediaWiki pages-articles dump?")
    return pd.DataFrame({"title": titles, "text": texts})


def wikitext_articles(paths: Iterable[str | Path]) -> Iterator[tuple[str, list[str]]]:
    """Title and lines of each article of a WikiText file set, in reading order.

    The lines are those of the original text: headings stay, an empty row is the line `` \\n`` that
    it was, and all lines of all articles together are the whole text. An article begins with a
    heading of the first level (``= Title =``) that stands alone between empty lines.

    Parameters
    ----------
    paths
        Parquet files in reading order, one line of text a row in column ``text``.

    Raises
    ------
    ValueError
        If no article heading is met, or a file is not parquet or not UTF-8.
    """
    paths = list(paths)
    title, lines = None, []
    first, second, third = tee(_lines(paths), 3)
    next(third, None)
    around = zip(chain([" \n"], first), second, chain(third, [" \n"]), strict=False)
    for before, line, after in around:
        heading = _ARTICLE_HEADING.match(line)
        if heading and not before.strip() and not after.strip():
            if title is not None:
                yield title, lines
                lines = []
            title = heading.group(1)
        lines.append(line)
    if title is None:
        raise ValueError(f"no article heading (' = Title = ') in {[str(path) for path in paths]}")
    yield title, lines


def _lines(paths: list[str | Path]) -> Iterator[str]:
    return (line or " \n" for path in paths for (line,) in read_rows(path, ["text"]))


def read_rows(path: str | Path, columns: list[str]) -> Iterator[tuple[str, ...]]:
    """Rows of a parquet file of texts, read a batch at a time.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    ValueError
        If it is not parquet, lacks a column, or is not UTF-8.
    """
    try:
        for batch in parquet.ParquetFile(path).iter_batches(columns=columns):
            yield from zip(*(batch.column(name).to_pylist() for name in columns), strict=True)
    except (pyarrow.ArrowException, KeyError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is not a parquet file with {' and '.join(columns)} in UTF-8: {error}"
        ) from error


def read_wikitext(paths: Iterable[str | Path], documents: int | None = None) -> pd.DataFrame:
    """Running text of a WikiText file set: article headings, empty lines and margins are dropped.

    Parameters
    ----------
    paths
        Files in reading order.
    documents
        Stop after that many articles; all when None.

    Raises
    ------
    ValueError
        As :func:`wikitext_articles`.
    """
    titles, texts = [], []
    for title, lines in islice(wikitext_articles(paths), documents):
        stripped = [line.strip() for line in lines]
        titles.append(title)
        texts.append("\n".join(line for line in stripped if line and line != f"= {title} ="))
    return pd.DataFrame({"title": titles, "text": texts})


def cut_passages(
    texts: Sequence[str],
    encode: Callable[[str], Sequence[int]],
    *,
    length: int,
    count: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw passages of exactly ``length`` tokens, at most one from each document.

    Taking one passage a document makes passages independent units, over which a bootstrap is
    honest. Documents are visited in random order; within one, the passage is a random member
    of its non-overlapping cut. No passage is padded or repeated.

    Parameters
    ----------
    texts
        Documents.
    encode
        Text to token ids, without special tokens.

    Returns
    -------
    tokens
        Shape (count, length), int64.
    documents
        Shape (count,), the index of each passage's document.

    Raises
    ------
    ValueError
        If fewer than ``count`` documents are long enough.
    """
    tokens, documents = [], []
    for document in rng.permutation(len(texts)):
        ids = encode(texts[document])
        if len(ids) < length:
            continue
        start = length * int(rng.integers(len(ids) // length))
        tokens.append(np.asarray(ids[start : start + length], dtype=np.int64))
        documents.append(int(document))
        if len(tokens) == count:
            return np.stack(tokens), np.array(documents)
    raise ValueError(
        f"only {len(tokens)} of {len(texts)} documents have {length} tokens, "
        f"{count} passages were asked for: lower `passages` or `lengths`, or take a larger corpus"
    )


def matching(receipt: str | Path, pattern: str) -> list[Path]:
    """Files a receipt lists whose name, relative to it, fits a pattern; in sorted order.

    Raises
    ------
    ValueError
        If none does.
    """
    listed = sources.read_receipt(receipt)
    paths = [path for name, path in sorted(listed.items()) if fnmatch(name, pattern)]
    if not paths:
        raise ValueError(f"no file of {receipt} matches {pattern!r}; it lists {', '.join(listed)}")
    return paths


def prepare(
    *,
    source: str | Path,
    table: str | Path,
    reader: str,
    files: str,
    documents: int | None,
) -> None:
    """Read a downloaded text and write its document table as parquet.

    Parameters
    ----------
    source
        Receipt of the download.
    reader
        ``wikipedia`` (XML dump) or ``wikitext`` (parquet).
    files
        Pattern of the files to read, relative to the receipt; read in sorted order.
    documents
        How many articles to keep; all when None.

    Raises
    ------
    ValueError
        If no file of the receipt matches.
    """
    paths = matching(source, files)
    if reader == "wikitext":
        corpus = read_wikitext(paths, documents)
    else:
        corpus = pd.concat([read_wikipedia_dump(path) for path in paths])[:documents]
    with replacing(table) as temporary:
        corpus.to_parquet(temporary)
