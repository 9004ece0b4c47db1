"""Texts survive tokenisation unchanged, and every count is that of the text itself."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from transformers.convert_slow_tokenizer import bytes_to_unicode

from tgn import sources
from tgn.fixtures import make
from tgn.text.splits import SPLITS, read_split
from tgn.text.tokens import (
    END,
    character_tokenizer,
    decode,
    encode,
    encode_documents,
    load_tokenizer,
    open_tokens,
    prepare,
    pretrained_tokenizer,
    stream,
    train_bpe,
)

TEXTS = ["The quick brown fox jumps over the lazy dog.", "Über naïve cafés – 北京!", "x = x + 1\n"]
BPE = train_bpe(TEXTS, 300)
CHARACTERS = character_tokenizer(TEXTS)
END_ID = BPE.token_to_id(END)


def outputs(folder):
    names = {split: f"{split}.npy" for split in SPLITS}
    names |= {"tokenizer": "tokenizer.json", "documents": "documents.parquet"}
    return {key: folder / name for key, name in names.items()} | {"counts": folder / "counts.json"}


def corpus(path, documents, text="Some words about number {} , and more .\n"):
    rows = {f"page {number}": text.format(number) for number in range(documents)}
    pd.DataFrame(rows.items(), columns=["title", "text"]).to_parquet(path)
    return path


def gpt2_files(folder):
    """A source as tiktoken's encoding gpt2 is published: two files of a BPE, and their receipt."""
    train_bpe(TEXTS, 300).model.save(str(folder))
    (folder / "vocab.json").rename(folder / "encoder.json")
    (folder / "merges.txt").rename(folder / "vocab.bpe")
    sources.write_receipt(folder / "receipt.json", name="ranks", kind="wheel", evidence="real")
    return folder / "receipt.json"


def back_from_json(tokenizer, folder):
    tokenizer.save(str(folder / "tokenizer.json"))
    return load_tokenizer(folder / "tokenizer.json")


@pytest.fixture(scope="module", params=["bpe", "characters", "gpt2"])
def tokenizer(request, tmp_path_factory):
    """Each kind of tokenizer, after its state went through JSON."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "gpt2":
        return back_from_json(pretrained_tokenizer(gpt2_files(folder)), folder)
    return back_from_json(BPE if request.param == "bpe" else CHARACTERS, folder)


hard_text = st.sampled_from(
    ["\r\n", "e\N{COMBINING ACUTE ACCENT}", "👩‍👩‍👧", "\0", "<0x41>", "  \n\t "]
)
any_text = st.lists(st.text() | st.just(END) | st.sampled_from(TEXTS) | hard_text, max_size=5).map(
    "".join
)


@settings(deadline=None)
@given(any_text)
def test_any_text_survives(tokenizer, text):
    ids = encode(tokenizer, text)
    assert decode(tokenizer, ids) == text
    assert tokenizer.token_to_id(END) not in ids


@settings(deadline=None)
@given(any_text)
def test_a_text_streams_whole_characters(tokenizer, text):
    pieces = list(stream(tokenizer, encode(tokenizer, text)))
    assert "".join(pieces) == text
    if "\N{REPLACEMENT CHARACTER}" not in text:
        assert all("\N{REPLACEMENT CHARACTER}" not in piece for piece in pieces)


@settings(deadline=None)
@given(st.lists(st.integers(0, 299), max_size=40))
def test_ids_that_are_no_text_stream_as_they_decode(ids):
    assert "".join(stream(BPE, ids)) == decode(BPE, ids)


def test_a_text_streams_as_it_comes():
    """A character of four bytes waits for its last one, and nothing waits longer."""
    asked = []

    def ids():
        for token in encode(CHARACTERS, "a😀b"):
            asked.append(token)
            yield token

    assert [(piece, len(asked)) for piece in stream(CHARACTERS, ids())] == [
        ("a", 1), ("😀", 5), ("b", 6)
    ]  # fmt: skip


@settings(deadline=None)
@given(st.lists(any_text, max_size=6))
def test_documents_survive_and_only_the_end_token_parts_them(tokenizer, texts):
    ids, end = encode_documents(tokenizer, texts), tokenizer.token_to_id(END)
    assert ids.dtype == np.uint16
    ends = np.flatnonzero(ids == end)
    assert [decode(tokenizer, piece[:-1]) for piece in np.split(ids, ends + 1)[:-1]] == texts
    assert (ids[-1] == end) if texts else (len(ids) == 0)


def test_a_known_character_is_one_token_and_any_other_its_bytes():
    known = set("".join(TEXTS))
    assert CHARACTERS.get_vocab_size() == 257 + len(known)
    for text in [*known, "ß", "😀"]:
        assert len(encode(CHARACTERS, text)) == (1 if text in known else len(text.encode()))


@pytest.fixture(scope="module")
def ranked(tmp_path_factory):
    """A BPE from GPT-2's two files, and tiktoken's own code given the same ranks."""
    tiktoken = pytest.importorskip("tiktoken", reason="tiktoken, of the dev extra, is missing")
    ours = pretrained_tokenizer(gpt2_files(tmp_path_factory.mktemp("ranks")))
    spelled = {letter: byte for byte, letter in bytes_to_unicode().items()}
    ranks = {
        bytes(spelled[letter] for letter in token): rank
        for token, rank in ours.get_vocab().items()
        if token != END
    }
    pattern = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
    return ours, tiktoken.Encoding(
        "ours", pat_str=pattern, mergeable_ranks=ranks, special_tokens={END: ours.token_to_id(END)}
    )


@settings(deadline=None)
@given(text=any_text)
def test_ids_are_those_of_tiktoken(ranked, text):
    ours, theirs = ranked
    assert encode(ours, text) == theirs.encode_ordinary(text)


def test_a_source_without_a_tokenizer_is_named(tmp_path):
    (tmp_path / "vocab.bpe").write_text("#version: 0.2\n")
    receipt = tmp_path / "receipt.json"
    sources.write_receipt(receipt, name="half", kind="wheel", evidence="real")
    with pytest.raises(ValueError, match=r"lists no tokenizer .*it lists vocab\.bpe"):
        pretrained_tokenizer(receipt)
    (tmp_path / "encoder.json").write_text("[]")
    sources.write_receipt(receipt, name="half", kind="wheel", evidence="real")
    with pytest.raises(ValueError, match=r"the tokenizer of .* cannot be read"):
        pretrained_tokenizer(receipt)


def test_many_long_documents_are_encoded_like_each_alone():
    texts = [f"{number} " + "Long text. " * 10_000 for number in range(20)]  # several chunks
    pieces = [[*encode(BPE, text), END_ID] for text in texts]
    assert (encode_documents(BPE, texts) == np.concatenate(pieces)).all()


def test_wide_vocabularies_get_wide_ids():
    from tokenizers import Tokenizer, models

    vocabulary = {END: 0, "[?]": 1} | {f"w{number}": number for number in range(2, 70_000)}
    wide = Tokenizer(models.WordLevel(vocabulary, unk_token="[?]"))
    ids = encode_documents(wide, ["w69999"])
    assert ids.dtype == np.uint32
    assert ids.tolist() == [69_999, 0]


def test_training_is_a_function_of_the_texts():
    again = train_bpe(TEXTS, 300)
    assert again.to_str() == BPE.to_str()
    assert again.get_vocab_size() == 300


@pytest.mark.parametrize(
    ("texts", "vocabulary", "message"),
    [
        (TEXTS, 256, "a vocabulary of 256 .* need 257"),
        (["a b a b"], 4096, "yield only 25[0-9] of 4096 tokens"),
        ([], 300, "yield only 257 of 300 tokens"),
    ],
)
def test_impossible_vocabularies_are_refused(texts, vocabulary, message):
    with pytest.raises(ValueError, match=message):
        train_bpe(texts, vocabulary)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b"[1, 2]"])
def test_what_is_not_a_tokenizer_is_refused(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"tokenizer\.json is not a tokenizer"):
        load_tokenizer(path)


def test_a_tokenizer_without_an_end_is_refused(tmp_path):
    from tokenizers import Tokenizer, models

    path = tmp_path / "tokenizer.json"
    Tokenizer(models.BPE()).save(str(path))
    with pytest.raises(ValueError, match=r"has no token <\|endoftext\|>"):
        load_tokenizer(path)


def test_a_document_table_is_tokenised_whole(tmp_path):
    table = corpus(tmp_path / "corpus.parquet", 60)
    prepare(corpus=table, vocabulary=280, **outputs(tmp_path / "made"))
    counts = json.loads((tmp_path / "made/counts.json").read_text())
    tokenizer = load_tokenizer(tmp_path / "made/tokenizer.json")
    documents = pd.read_parquet(tmp_path / "made/documents.parquet")
    assert counts["vocabulary"] == 280 == tokenizer.get_vocab_size()
    for split in SPLITS:
        texts = list(read_split(table, split))
        tokens = open_tokens(tmp_path / "made", split)
        assert decode(tokenizer, tokens) == "".join(text + END for text in texts)
        assert counts[split] == {
            "documents": len(texts),
            "tokens": len(tokens),
            "words": sum(len(text.split()) for text in texts),
            "lines": "".join(texts).count("\n"),
            "bytes": len("".join(texts).encode()),
        }
        rows = documents[documents["split"] == split]
        assert rows["document"].tolist() == list(range(len(texts)))
        ends = np.flatnonzero(tokens == counts["end"])
        assert rows["tokens"].tolist() == np.diff(ends, prepend=-1).tolist()


def test_the_tokenizer_has_seen_the_train_split_only(tmp_path):
    table = corpus(tmp_path / "corpus.parquet", 60)
    prepare(corpus=table, vocabulary=280, **outputs(tmp_path / "made"))
    alone = train_bpe(read_split(table, "train"), 280)
    assert load_tokenizer(tmp_path / "made/tokenizer.json").to_str() == alone.to_str()


def test_the_paper_path_runs_on_fixtures(tmp_path):
    """WikiText's own splits, and a tokenizer taken from a model."""
    receipts = {kind: tmp_path / kind / "receipt.json" for kind in ("gpt2", "wikitext")}
    for kind, receipt in receipts.items():
        make(kind=kind, receipt=receipt, seed=0)
    files = {split: f"*/{split}-*.parquet" for split in SPLITS}
    prepare(
        corpus=receipts["wikitext"], pretrained=receipts["gpt2"], files=files,
        **outputs(tmp_path / "made"),
    )  # fmt: skip
    counts = json.loads((tmp_path / "made/counts.json").read_text())
    assert [counts[split]["documents"] for split in SPLITS] == [24, 4, 4]
    assert counts["vocabulary"] == 512
    listed = sources.read_receipt(receipts["wikitext"])
    for split in SPLITS:
        (path,) = [path for name, path in listed.items() if split in name]
        lines = [line or " \n" for line in pd.read_parquet(path)["text"]]
        tokens = open_tokens(tmp_path / "made", split)
        tokenizer = load_tokenizer(tmp_path / "made/tokenizer.json")
        assert decode(tokenizer, tokens[tokens != counts["end"]]) == "".join(lines)
        assert counts[split]["words"] == len("".join(lines).split())


def test_an_empty_split_is_named(tmp_path):
    table = corpus(tmp_path / "corpus.parquet", 1, "word " * 300)  # "page 0" is for training
    with pytest.raises(ValueError, match=r"the validation split of .* is empty: take a larger"):
        prepare(corpus=table, vocabulary=258, **outputs(tmp_path / "made"))


def test_an_empty_table_is_named(tmp_path):
    table = corpus(tmp_path / "corpus.parquet", 0)
    with pytest.raises(ValueError, match=r"the train split of .*corpus.parquet is empty"):
        prepare(corpus=table, vocabulary=258, **outputs(tmp_path / "made"))


def write_nothing(path):
    path.touch()


def write_latin(path):
    """A column declared as text whose bytes are Latin-1."""
    offsets = pa.array([0, 4], pa.int32()).buffers()[1]
    text = pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer("café".encode("l1"))])
    parquet.write_table(pa.table({"title": ["a"], "text": text}), path)


def write_other_columns(path):
    pd.DataFrame({"title": ["a"], "body": ["text"]}).to_parquet(path)


@pytest.mark.parametrize("write", [write_nothing, write_latin, write_other_columns])
def test_a_file_that_is_not_a_corpus_is_named(tmp_path, write):
    path = tmp_path / "corpus.parquet"
    write(path)
    with pytest.raises(ValueError, match=r"corpus.parquet is not a parquet file .* in UTF-8"):
        prepare(corpus=path, vocabulary=258, **outputs(tmp_path / "made"))
    assert not (tmp_path / "made").exists()


def plain(folder, text):
    """A source of one plain text, and its receipt."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "input.txt").write_bytes(text.encode())
    sources.write_receipt(folder / "receipt.json", name="plain", kind="https", evidence="real")
    return folder / "receipt.json"


def test_a_plain_text_is_cut_by_position_into_characters(tmp_path):
    text = "".join(f"LINE {number}:\r\nTo be\n\n" for number in range(100))
    receipt = plain(tmp_path / "source", text)
    prepare(corpus=receipt, files="*.txt", **outputs(tmp_path / "made"))
    counts = json.loads((tmp_path / "made/counts.json").read_text())
    tokenizer = load_tokenizer(tmp_path / "made/tokenizer.json")
    pieces = {s: decode(tokenizer, open_tokens(tmp_path / "made", s)[:-1]) for s in SPLITS}
    assert "".join(pieces.values()) == text
    assert pieces["train"] == text[: int(0.9 * len(text))]  # as published
    assert counts["vocabulary"] == 257 + len(set(pieces["train"]))
    assert [counts[split]["tokens"] for split in SPLITS] == [len(p) + 1 for p in pieces.values()]


def test_the_last_characters_may_be_unseen_in_training(tmp_path):
    receipt = plain(tmp_path / "source", "a" * 95 + "é" * 5)
    prepare(corpus=receipt, files="*.txt", **outputs(tmp_path / "made"))
    tokenizer = load_tokenizer(tmp_path / "made/tokenizer.json")
    assert decode(tokenizer, open_tokens(tmp_path / "made", "test")[:-1]) == "é" * 5


def test_a_plain_text_that_is_not_utf8_is_named(tmp_path):
    receipt = plain(tmp_path, "x")
    (tmp_path / "input.txt").write_bytes("café".encode("latin-1"))
    sources.write_receipt(receipt, name="plain", kind="https", evidence="real")
    with pytest.raises(ValueError, match=r"input\.txt is not a text in UTF-8"):
        list(read_split(receipt, "train", "*.txt"))


def test_one_tokenizer_must_be_chosen(tmp_path):
    choice = {"vocabulary": 300, "pretrained": "receipt.json"}
    with pytest.raises(ValueError, match="give either `vocabulary`"):
        prepare(corpus=corpus(tmp_path / "c.parquet", 9), **choice, **outputs(tmp_path / "made"))


def test_a_text_shorter_than_a_context_is_named(tmp_path):
    np.save(tmp_path / "test.npy", np.zeros(8, np.uint16))
    assert len(open_tokens(tmp_path, "test", 7)) == 8
    with pytest.raises(ValueError, match=r"test.npy has 8 tokens; a context of 8 needs 9"):
        open_tokens(tmp_path, "test", 8)
