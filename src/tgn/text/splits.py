"""Documents of a corpus, divided into train, validation and test.

A corpus that comes with splits keeps them. Any other is divided by document: a document goes where
the hash of its title says, so the division depends neither on the order of the documents, nor on
what else is in the corpus, nor on any random generator, and pages of one title stay together. A
plain text without documents is cut by position.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from tgn.text.corpora import matching, read_rows, wikitext_articles

SPLITS = ("train", "validation", "test")
TRAIN_SHARE, VALIDATION_SHARE = 0.8, 0.1  # what remains is the test split
# Of a plain text, in percent of its characters. TinyShakespeare is published as 90 and 10 without a
# test part: ours trains on the same and validates on the first half of the rest.
CUTS = {"train": (0, 90), "validation": (90, 95), "test": (95, 100)}


def split_of(title: str) -> str:
    """The split a title belongs to: ``train`` (80 %), ``validation`` or ``test`` (10 % each).

    >>> split_of("Anarchism"), split_of("Algorithm"), split_of("Agriculture")
    ('train', 'validation', 'test')
    """
    place = int.from_bytes(hashlib.sha256(title.encode()).digest()[:8], "big") / 2**64
    if place < TRAIN_SHARE:
        return "train"
    return "validation" if place < TRAIN_SHARE + VALIDATION_SHARE else "test"


def read_split(
    corpus: str | Path, split: str, files: Mapping[str, str] | str | None = None
) -> Iterator[str]:
    """Texts of one split, one document after the other; documents without text are left out.

    Parameters
    ----------
    corpus
        A document table (parquet with columns ``title`` and ``text``), divided by title; or the
        receipt of a source, in WikiText's format, which has splits, or of plain text.
    split
        One of ``SPLITS``.
    files
        With a receipt: the pattern of each split's files, relative to it. The text is WikiText's
        own, line for line, headings included. Or one pattern, of plain text in UTF-8: each file is
        cut by position into three pieces, see ``CUTS``.

    Raises
    ------
    ValueError
        If no file of the receipt matches, or a file is not what it should be.
    """
    if files is None:
        rows = read_rows(corpus, ["title", "text"])
        texts = (text for title, text in rows if split_of(title) == split)
    elif isinstance(files, str):
        texts = (_cut(path, split) for path in matching(corpus, files))
    else:
        articles = wikitext_articles(matching(corpus, files[split]))
        texts = ("".join(lines) for _, lines in articles)
    return (text for text in texts if text)


def _cut(path: Path, split: str) -> str:
    """One split's piece of a plain text, line ends as they are."""
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text in UTF-8: {error}") from error
    first, last = (len(text) * percent // 100 for percent in CUTS[split])
    return text[first:last]
