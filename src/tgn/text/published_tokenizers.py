"""Tokenizers as the checkpoints of the published Newton Gravity Transformer keep them.

One of characters replaces those it does not know, as published. The published BPE has no token for
bytes that its text lacks, which vanish, and no way back from its letters, which it is given here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from tgn.sources import RECEIPT
from tgn.text.tokens import pretrained_tokenizer

GPT2 = "tiktoken-gpt2"  # the source of the encoding's files


def restore(state: Mapping[str, Any], resources: str | Path = "resources") -> Tokenizer:
    """The tokenizer of a checkpoint's ``vocab``.

    Parameters
    ----------
    state
        ``{type: char, stoi, itos}``, or the same without a type; ``{type: bpe, tokenizer_json}``;
        or ``{type: tiktoken, encoding_name: gpt2}``.
    resources
        Folder of downloaded sources, in which tiktoken's files are looked for.

    Raises
    ------
    FileNotFoundError
        If tiktoken's files were not fetched.
    ValueError
        If the state is none of these.
    """
    kind = state.get("type", "char" if "stoi" in state else None)
    if kind == "char":
        return _characters(state["stoi"])
    if kind == "bpe":
        tokenizer = Tokenizer.from_str(state["tokenizer_json"])
        tokenizer.decoder = decoders.ByteLevel()
        return tokenizer
    if kind == "tiktoken" and state.get("encoding_name", "gpt2") == "gpt2":
        receipt = Path(resources) / GPT2 / RECEIPT
        if not receipt.is_file():
            raise FileNotFoundError(
                f"{receipt.parent} is not there, and the checkpoint's tokenizer, tiktoken's gpt2, "
                f"is made of it: tgn fetch {GPT2}"
            )
        return pretrained_tokenizer(receipt)
    raise ValueError(f"no tokenizer of type {kind!r} ({', '.join(map(str, state))}) is known")


def _characters(ids: Mapping[str, int]) -> Tokenizer:
    """Characters; one that is not known is read as a space, or as the first one."""
    if sorted(ids.values()) != list(range(len(ids))) or any(len(name) != 1 for name in ids):
        raise ValueError("stoi is no numbering of characters from 0")
    instead = " " if " " in ids else min(ids, key=ids.__getitem__)
    tokenizer = Tokenizer(models.WordLevel(dict(ids), unk_token=instead))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer
