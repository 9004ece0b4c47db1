"""Prompts of the gain measurements: five categories of equal length, and controls for them.

``config/prompts.csv`` holds 20 texts of each category, our own wording, given away under CC0-1.0.
The five of the published sets are unfinished sentences, the sixth is a control:

    factual     a fact whose last words are missing
    syntactic   nested clauses
    cliche      sayings that everybody can finish
    novel       images that nobody has used
    nonsense    strings of words
    neutral     plain statements, whole but for the full stop: nothing to know, to feel or to finish

Categories are of equal length, so that neither gain nor entropy can follow a category through the
number of its tokens: the k-th prompts of all categories stand in one band, short, medium or long,
of 8, 14 and 21 tokens by SmolLM2's tokenizer. ``config/prompts_tokens.csv`` has the counts by it
and by two others. The first five of a category have all three bands.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

LICENCE = "CC0-1.0"
NEUTRAL = "neutral"  # the category that is a control
COLUMNS = ("id", "category", "band", "text")
BANDS = ("short", "medium", "long")
# Of each prompt; `plain` is the text as the tokenizer gives it.
VARIANTS = (
    "plain",
    "with_start",
    "without_start",
    "chat",
    "random_tokens",
    "shuffled_tokens",
    "first_token",
)


def read_prompts(path: str | Path, per_category: int | None = None) -> pd.DataFrame:
    """The prompts of a file, or the first few of each category.

    Parameters
    ----------
    path
        CSV with the columns ``id``, ``category``, ``band`` (short, medium, long) and ``text``.
    per_category
        How many of each category, in the order of the file; all when None.

    Raises
    ------
    ValueError
        If columns are missing, an id or a text is there twice or empty, a band is unknown, or a
        category has too few prompts.
    """
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if missing := [name for name in COLUMNS if name not in table]:
        raise ValueError(f"{path} has no column {', '.join(missing)}")
    for name in ("id", "text"):
        if not table[name].is_unique or (table[name].str.strip() == "").any():
            raise ValueError(f"{path}: every {name} must be there once and not be empty")
    if unknown := sorted(set(table["band"]) - set(BANDS)):
        raise ValueError(f"{path}: unknown band {', '.join(unknown)}; known are {', '.join(BANDS)}")
    if per_category is not None:
        counts = table["category"].value_counts()
        if (counts < per_category).any():
            raise ValueError(
                f"{path}: {counts.idxmin()} has {counts.min()} prompts, {per_category} wanted"
            )
        table = table.groupby("category", sort=False).head(per_category)
    return table[list(COLUMNS)].reset_index(drop=True)


def digest(prompts: pd.DataFrame) -> str:
    """SHA-256 of a set of prompts: of id, category, band and text, one prompt a line.

    Of the prompts themselves and not of a file, so that a subset has a digest of its own.
    """
    lines = prompts[list(COLUMNS)].itertuples(index=False, name=None)
    return hashlib.sha256("\n".join("\t".join(line) for line in lines).encode()).hexdigest()


def variants(
    prompts: pd.DataFrame, tokenizer: Any, *, seed: int, context: int | None = None
) -> tuple[dict[str, dict[str, list[int]]], dict[str, str]]:
    """Token ids of every prompt in every variant.

    ``plain``
        The text as the tokenizer gives it, with the start token that it adds, if it adds one.
    ``with_start``, ``without_start``
        The same with the other choice: only one of the two is there.
    ``chat``
        The text as a user's turn in the tokenizer's chat template, up to where the answer begins.
        The template's tokens, most of a short prompt's, count as all others do.
    ``random_tokens``, ``shuffled_tokens``
        As many tokens drawn evenly from the vocabulary, special ones left out; the prompt's own in
        random order. A start token stays in its place.
    ``first_token``
        The first token of the text, alone.

    Parameters
    ----------
    tokenizer
        Of `transformers`, or a plain one of `tokenizers`.
    seed
        A prompt's controls depend on the seed and its id alone, not on which others there are.
    context
        Most tokens that the model reads.

    Returns
    -------
    ids
        By variant and prompt.
    missing
        By variant that there is not: why.

    Raises
    ------
    ValueError
        If a prompt has no token, or as plain text too many for the context.
    """
    tokenizer = tokenizer if hasattr(tokenizer, "all_special_ids") else _Plain(tokenizer)
    head, start = start_tokens(tokenizer), _start_token(tokenizer)
    pool = np.setdiff1d(np.arange(len(tokenizer)), tokenizer.all_special_ids)
    missing = {"without_start": "plain has none"}
    if head:
        missing = {"with_start": "plain has one"}
    elif start is None:
        missing["with_start"] = "the tokenizer has no start or end token"
    if not tokenizer.chat_template:
        missing["chat"] = "the tokenizer has no chat template"
    found: dict[str, dict[str, list[int]]] = {}
    for name, text in prompts[["id", "text"]].itertuples(index=False, name=None):
        bare = _bare(tokenizer, text)
        if not bare:
            raise ValueError(f"prompt {name} has no tokens")
        rng = np.random.default_rng([seed, int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)])
        sequences: dict[str, list[int]] = {
            "plain": [*head, *bare],
            "with_start": [*([] if start is None else [start]), *bare],
            "without_start": bare,
            "random_tokens": [*head, *rng.choice(pool, size=len(bare)).tolist()],
            "shuffled_tokens": [*head, *rng.permutation(bare).tolist()],
            "first_token": bare[:1],
        }
        if "chat" not in missing:
            sequences["chat"] = chat(tokenizer, text)
        for variant, ids in sequences.items():
            found.setdefault(variant, {})[name] = ids
    for variant, longest in {v: max(map(len, ids.values())) for v, ids in found.items()}.items():
        if context is not None and longest > context:
            words = f"a prompt has {longest} tokens, and the model reads {context}"
            if variant == "plain":
                raise ValueError(words)
            missing.setdefault(variant, words)
    kept = [variant for variant in VARIANTS if variant not in missing]
    return {variant: found[variant] for variant in kept}, missing


def chat(tokenizer: Any, text: str) -> list[int]:
    """Ids of a user's turn in the chat template, and of the opening of the answer."""
    turns = [{"role": "user", "content": text}]
    ids = tokenizer.apply_chat_template(
        turns, add_generation_prompt=True, tokenize=True, return_dict=True
    )["input_ids"]
    return [int(i) for i in ids]


def start_tokens(tokenizer: Any) -> list[int]:
    """What a tokenizer puts before every text: its start token, or nothing."""
    if not hasattr(tokenizer, "all_special_ids"):
        return []
    whole, bare = list(tokenizer("a b")["input_ids"]), _bare(tokenizer, "a b")
    before = len(whole) - len(bare)
    return whole[:before] if whole[before:] == bare else []


class _Plain:
    """A tokenizer of `tokenizers`, called as one of `transformers` is; it has no special tokens."""

    all_special_ids: tuple[int, ...] = ()
    chat_template = bos_token_id = eos_token_id = None

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, text: str, add_special_tokens: bool = False) -> dict[str, list[int]]:
        return {"input_ids": self.tokenizer.encode(text, add_special_tokens=False).ids}

    def __len__(self) -> int:
        return self.tokenizer.get_vocab_size()


def _start_token(tokenizer: Any) -> int | None:
    """The token that texts begin with; families without one end them with what starts the next."""
    start = tokenizer.bos_token_id
    return tokenizer.eos_token_id if start is None else start


def _bare(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
