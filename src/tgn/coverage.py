"""The published works sentence by sentence: which claims test each, or why nothing can.

A work is read once, and every sentence of it stands in ``config/sentences.yaml`` in our own words.
It names the claims of the ledger that test it, or one of the reasons below. Works that were not
read so stand there without sentences, and say why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tgn.config import check, read_yaml

REASONS = {
    "background": "reports what was known before",
    "method": "says what was done, not what was found",
    "definition": "gives a name or an equation, and asserts nothing",
    "interpretation": "reads a finding in a way that no measurement could contradict",
    "undefined": "names no quantity, or no criterion, by which it could fail",
    "announcement": "announces what follows, or what is left to the future",
}


@dataclass(frozen=True)
class Sentence:
    """What one sentence says, in our words, with the claims that test it or why none does.

    ``numbers`` are those the sentence gives; ``left`` says what of it the claims do not test.
    """

    section: str
    says: str
    claims: Sequence[str] = ()
    reason: str = ""
    why: str = ""
    left: str = ""
    numbers: Sequence[str] = ()


@dataclass(frozen=True)
class Work:
    """A published work; ``numbers`` lists those in its text, ``to_come`` says why it is empty.

    Raises
    ------
    ValueError
        If a listed number stands in no sentence, or a sentence gives one that is not listed.
    """

    title: str
    system: str
    sentences: Sequence[Sentence] = ()
    numbers: Sequence[str] = ()
    to_come: str = ""

    def __post_init__(self) -> None:
        given = {number for sentence in self.sentences for number in sentence.numbers}
        if lost := sorted(set(self.numbers) - given):
            raise ValueError(f"{self.title}: no sentence gives {', '.join(lost)}")
        if strange := sorted(given - set(self.numbers)):
            raise ValueError(f"{self.title}: numbers does not list {', '.join(strange)}")

    @property
    def tested(self) -> list[Sentence]:
        """The sentences that claims test."""
        return [sentence for sentence in self.sentences if sentence.claims]

    @property
    def cited(self) -> set[str]:
        """Ids of the claims that its sentences name."""
        return {id for sentence in self.sentences for id in sentence.claims}


def read_works(path: str | Path, schema: str | Path | None = None) -> list[Work]:
    """Read the sentences and check them against their schema, by default the one beside them.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    ValueError
        If the sentences do not fit the schema, or :class:`Work` refuses one of the works.
    """
    rows = read_yaml(path)
    try:
        check(rows, read_yaml(schema or Path(path).with_name("sentences.schema.json")))
        return [_work(**row) for row in rows]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def check_cited(works: Iterable[Work], claims: Iterable[str]) -> None:
    """Check that every claim which a sentence names is in the ledger.

    Raises
    ------
    ValueError
        Naming the sentences and the claims that do not exist.
    """
    known = set(claims)
    lost = [
        f"{work.title}, {sentence.section}: {id}"
        for work in works
        for sentence in work.sentences
        for id in sentence.claims
        if id not in known
    ]
    if lost:
        raise ValueError("sentences name claims that the ledger has not:\n  " + "\n  ".join(lost))


def reasons(work: Work) -> Counter[str]:
    """How many sentences of a work are not tested, by reason."""
    return Counter(sentence.reason for sentence in work.sentences if not sentence.claims)


def _work(sentences: Sequence[Mapping[str, Any]] = (), **fields: Any) -> Work:
    return Work(sentences=[Sentence(**sentence) for sentence in sentences], **fields)
