"""Corpora: reading them into one document table, and cutting fixed-length passages from it.

A corpus is a pandas table with one row a document and the columns ``title`` and ``text``.
"""

from __future__ import annotations

import bz2
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path

import mwparserfromhell
import numpy as np
import pandas as pd
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
        If the file holds no article.
    """
    titles, texts = [], []
    with bz2.open(path) as stream:
        for _, page in bar(ElementTree.iterparse(stream), desc="pages", unit="node"):
            if not page.tag.endswith("}page"):
                continue
            markup = page.findtext("{*}revision/{*}text")
            if markup and page.find("{*}redirect") is None and page.findtext("{*}ns") == "0":
                titles.append(page.findtext("{*}title"))
                texts.append(clean_markup(markup))
            page.clear()
    if not titles:
        raise ValueError(f"{path} holds no article: is it a MediaWiki pages-articles dump?")
    return pd.DataFrame({"title": titles, "text": texts})


def read_wikitext(paths: Iterable[str | Path], documents: int | None = None) -> pd.DataFrame:
    """Articles of a WikiText file set: parquet, one line of text a row in column ``text``.

    Parameters
    ----------
    paths
        Files in reading order.
    documents
        Stop after that many articles; all when None.

    Raises
    ------
    ValueError
        If no article heading (``= Title =``) is met.
    """
    titles: list[str] = []
    lines: list[list[str]] = []
    for path in paths:
        for batch in parquet.ParquetFile(path).iter_batches(columns=["text"]):
            for line in batch.column("text").to_pylist():
                heading = _ARTICLE_HEADING.match(line)
                if heading:
                    if len(titles) == documents:
                        return _as_corpus(titles, lines)
                    titles.append(heading.group(1))
                    lines.append([])
                elif lines and line.strip():
                    lines[-1].append(line.strip())
    if not titles:
        raise ValueError(f"no article heading (' = Title = ') in {[str(path) for path in paths]}")
    return _as_corpus(titles, lines)


def _as_corpus(titles: list[str], lines: list[list[str]]) -> pd.DataFrame:
    return pd.DataFrame({"title": titles, "text": ["\n".join(part) for part in lines]})


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
    listed = sources.read_receipt(source)
    paths = [path for name, path in sorted(listed.items()) if fnmatch(name, files)]
    if not paths:
        raise ValueError(f"no file of {source} matches {files!r}; it lists {', '.join(listed)}")
    if reader == "wikitext":
        corpus = read_wikitext(paths, documents)
    else:
        corpus = pd.concat([read_wikipedia_dump(path) for path in paths])[:documents]
    with replacing(table) as temporary:
        corpus.to_parquet(temporary)
