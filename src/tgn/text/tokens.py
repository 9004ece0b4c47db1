"""Texts as token ids, one file of ids a split, and the way back.

Three tokenizers, all of the `tokenizers` library and all lossless, whatever the text: byte-level
BPE, learned (:func:`train_bpe`) or taken from a source (:func:`pretrained_tokenizer`), among them
GPT-2's, which tiktoken calls ``gpt2``; and characters (:func:`character_tokenizer`).

A tokenised text is a folder:

==================  ================================================================================
train.npy           ids of the split's documents, each followed by the end token; uint16 if the
validation.npy      vocabulary allows, else uint32
test.npy
tokenizer.json      of the `tokenizers` library
documents.parquet   a row a document: split, document, tokens, words, lines, bytes
counts.json         the same summed over each split, with the number of documents; besides, the
                    ``vocabulary`` size and the id of the ``end`` token
==================  ================================================================================

What is counted, since perplexity a word and bits a byte divide by it: ``words`` are the
whitespace-separated pieces of the whole document, headings included; ``lines`` its newlines (the
word counts published for WikiText add one for each newline); ``bytes`` its length in UTF-8. End
tokens are counted in ``tokens`` only.

Source: Sennrich, Haddow and Birch 2016 (BPE); Radford et al. 2019 (over bytes).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tgn import sources
from tgn.files import replacing, write_json, write_table
from tgn.progress import bar
from tgn.text.splits import SPLITS, read_split

END = "<|endoftext|>"
SMALLEST = 257  # every byte and the end token
CHUNK = 2**20  # characters handed to the tokenizer at once, which bounds memory


def train_bpe(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Learn a byte-level BPE of exactly ``vocabulary`` tokens, the end token among them.

    Raises
    ------
    ValueError
        If the vocabulary is too small to hold every byte, or the texts are too small to fill it.
    """
    if vocabulary < SMALLEST:
        raise ValueError(
            f"a vocabulary of {vocabulary} was asked for; 256 bytes and the end token need "
            f"{SMALLEST}"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    if (size := tokenizer.get_vocab_size()) < vocabulary:
        raise ValueError(
            f"the texts yield only {size} of {vocabulary} tokens: lower `vocabulary` or take a "
            "larger corpus"
        )
    return _literal(tokenizer)


def character_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """A token for each character of the texts; any other character becomes the bytes of its UTF-8.

    >>> tokenizer = character_tokenizer(["to be"])
    >>> len(encode(tokenizer, "be to")), len(encode(tokenizer, "bé"))
    (5, 3)
    """
    known = sorted(set[str]().union(*texts))
    names = [END, *(f"<0x{byte:02X}>" for byte in range(256)), *known]
    vocabulary = {name: token for token, name in enumerate(names)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([END])
    return _literal(tokenizer)


def pretrained_tokenizer(receipt: str | Path) -> Tokenizer:
    """The tokenizer of a source: its ``tokenizer.json``, or GPT-2's two files.

    Those are ``encoder.json`` and ``vocab.bpe``, from which tiktoken makes its encoding ``gpt2``;
    the ids are the same.

    Raises
    ------
    ValueError
        If the source has neither, or they are no tokenizer.
    """
    listed = {Path(name).name: path for name, path in sources.read_receipt(receipt).items()}
    if "tokenizer.json" in listed:
        return load_tokenizer(listed["tokenizer.json"])
    if not {"encoder.json", "vocab.bpe"} <= listed.keys():
        raise ValueError(
            f"{receipt} lists no tokenizer (tokenizer.json, or encoder.json with vocab.bpe); it "
            f"lists {', '.join(sorted(listed))}"
        )
    try:
        ranks = models.BPE.from_file(str(listed["encoder.json"]), str(listed["vocab.bpe"]))
    except Exception as error:  # the library raises no narrower kind
        raise ValueError(f"the tokenizer of {receipt} cannot be read: {error}") from error
    tokenizer = Tokenizer(ranks)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END])
    return _literal(tokenizer)


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Read a ``tokenizer.json``.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If it is not a tokenizer, or has no end token.
    """
    content = Path(path).read_bytes()
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except ValueError as error:
        raise ValueError(f"{path} is not a tokenizer of the tokenizers library: {error}") from error
    if tokenizer.token_to_id(END) is None:
        raise ValueError(f"{path} has no token {END}")
    return _literal(tokenizer)


def end_token(tokenizer: Tokenizer) -> int:
    """Id of the end token."""
    return tokenizer.get_vocab()[END]


def _literal(tokenizer: Tokenizer) -> Tokenizer:
    """Let the end token, where it is written out in a text, be text: it ends no document."""
    tokenizer.encode_special_tokens = True
    return tokenizer


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a text, no token added."""
    return tokenizer.encode(text, add_special_tokens=False).ids


def encode_documents(tokenizer: Tokenizer, texts: Iterable[str]) -> NDArray[np.unsignedinteger]:
    """Token ids of all texts in one array, the end token after each.

    Examples
    --------
    >>> tokenizer = train_bpe(["a rose is a rose"], 260)
    >>> ids = encode_documents(tokenizer, ["a rose", "is"])
    >>> decode(tokenizer, ids)
    'a rose<|endoftext|>is<|endoftext|>'
    """
    pieces = [ids for _, ids in _encoded(tokenizer, texts)]
    return np.concatenate([np.empty(0, _id_type(tokenizer)), *pieces])


def stream(tokenizer: Tokenizer, ids: Iterable[int]) -> Iterator[str]:
    """The text of token ids in pieces, each as soon as its characters are whole.

    A character may be spread over several tokens. Of ids that encode a text, the pieces together
    are what :func:`decode` makes of all.
    """
    held: list[int] = []
    for token in ids:
        held.append(token)
        if not (piece := decode(tokenizer, held)).endswith("\N{REPLACEMENT CHARACTER}"):
            yield piece
            held.clear()
    if held:
        yield decode(tokenizer, held)


def decode(tokenizer: Tokenizer, ids: ArrayLike) -> str:
    """The text of token ids; end tokens are written out.

    Any text survives :func:`encode` and back unchanged. Ids that do not form UTF-8, as a piece cut
    out of the middle may, come back with the replacement character.
    """
    return tokenizer.decode(np.asarray(ids).tolist(), skip_special_tokens=False)


def _id_type(tokenizer: Tokenizer) -> type[np.unsignedinteger]:
    return np.uint16 if tokenizer.get_vocab_size() <= 2**16 else np.uint32


def _encoded(tokenizer: Tokenizer, texts: Iterable[str]) -> Iterator[tuple[str, NDArray]]:
    """Each text with its token ids and the end token, encoded a chunk of texts at a time."""
    end, id_type = end_token(tokenizer), _id_type(tokenizer)
    for chunk in _chunks(texts):
        encodings = tokenizer.encode_batch_fast(chunk, add_special_tokens=False)
        for text, encoding in zip(chunk, encodings, strict=True):
            yield text, np.array([*encoding.ids, end], dtype=id_type)


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for text in texts:
        chunk.append(text)
        size += len(text)
        if size >= CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def open_tokens(folder: str | Path, split: str, context: int = 1) -> NDArray[np.unsignedinteger]:
    """Token ids of one split, mapped read-only from the disk.

    Raises
    ------
    FileNotFoundError
        If the split was not made.
    ValueError
        If the split has fewer than ``context + 1`` tokens, so that no window fits.
    """
    path = Path(folder) / f"{split}.npy"
    tokens = np.load(path, mmap_mode="r", allow_pickle=False)
    if len(tokens) <= context:
        raise ValueError(
            f"{path} has {len(tokens)} tokens; a context of {context} needs {context + 1}: lower "
            "`context` or take a larger corpus"
        )
    return tokens


def prepare(
    *,
    corpus: str | Path,
    train: str | Path,
    validation: str | Path,
    test: str | Path,
    tokenizer: str | Path,
    documents: str | Path,
    counts: str | Path,
    vocabulary: int | None = None,
    files: Mapping[str, str] | str | None = None,
    pretrained: str | Path | None = None,
) -> None:
    """Tokenise a corpus and write the folder described above.

    Parameters
    ----------
    corpus, files
        As :func:`tgn.text.splits.read_split`: a document table; or a receipt, with the pattern of
        each split's files, or of a plain text's that is cut by position.
    train, validation, test, tokenizer, documents, counts
        Files to write, each whole or not at all.
    vocabulary
        Size of the BPE to train, on the train split alone.
    pretrained
        Instead: receipt of a source whose tokenizer is taken. Without either, characters are the
        tokens, those of the train split.

    Raises
    ------
    ValueError
        If a split is empty, a file is not what it should be, or both ``vocabulary`` and
        ``pretrained`` are given; and as :func:`train_bpe`.
    """
    if vocabulary is not None and pretrained is not None:
        raise ValueError("give either `vocabulary`, to train a BPE, or `pretrained`")
    if pretrained is not None:
        made = pretrained_tokenizer(pretrained)
    else:
        texts = bar(_texts(corpus, "train", files), desc="making tokens", unit="document")
        made = character_tokenizer(texts) if vocabulary is None else train_bpe(texts, vocabulary)
    tables = []
    for split, path in zip(SPLITS, (train, validation, test), strict=True):
        texts = bar(_texts(corpus, split, files), desc=f"tokenising {split}", unit="document")
        ids, table = _tokenised(made, texts)
        tables.append(table.assign(split=split))
        with replacing(path) as temporary:
            np.save(temporary, ids)
    table = pd.concat(tables, ignore_index=True)
    write_table(documents, table)
    with replacing(tokenizer) as temporary:
        made.save(str(temporary))
    sums = (
        table.drop(columns="document")
        .groupby("split")
        .agg("sum")
        .assign(documents=table.groupby("split").size())
    )
    write_json(
        counts,
        sums.to_dict("index") | {"vocabulary": made.get_vocab_size(), "end": end_token(made)},
    )


def _texts(corpus: str | Path, split: str, files: Mapping[str, str] | str | None) -> Iterator[str]:
    """As :func:`read_split`, but a split without documents is an error."""
    texts = read_split(corpus, split, files)
    try:
        yield next(texts)
    except StopIteration:
        raise ValueError(f"the {split} split of {corpus} is empty: take a larger corpus") from None
    yield from texts


def _tokenised(
    tokenizer: Tokenizer, texts: Iterable[str]
) -> tuple[NDArray[np.unsignedinteger], pd.DataFrame]:
    """Token ids of all texts, and what is counted in each."""
    pieces, rows = [], []
    for text, ids in _encoded(tokenizer, texts):
        pieces.append(ids)
        rows.append((len(ids), len(text.split()), text.count("\n"), len(text.encode())))
    table = pd.DataFrame(rows, columns=["tokens", "words", "lines", "bytes"])
    return np.concatenate(pieces), table.rename_axis("document").reset_index()
