"""The tokenizer states that published checkpoints keep."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from tgn import sources
from tgn.text.published_tokenizers import restore
from tgn.text.tokens import decode, encode, train_bpe

TEXT = "First Citizen:\nBefore we proceed any further, hear me speak.\n"
LETTERS = sorted(set(TEXT))
STOI = {letter: token for token, letter in enumerate(LETTERS)}
ITOS = dict(enumerate(LETTERS))


def published_bpe():
    """Trained as published: one special token, no alphabet, no decoder."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=60, special_tokens=["<unk>"], show_progress=False)
    tokenizer.train_from_iterator(TEXT.splitlines(), trainer=trainer)
    return tokenizer


@pytest.mark.parametrize("typed", [{"type": "char"}, {}])
@settings(deadline=None)
@given(text=st.text(alphabet=[*LETTERS, "é", "\t"]))
def test_characters_keep_their_numbers_and_unknown_ones_become_spaces(typed, text):
    tokenizer = restore({**typed, "stoi": STOI, "itos": ITOS})
    ids = encode(tokenizer, text)
    assert ids == [STOI.get(letter, STOI[" "]) for letter in text]
    assert decode(tokenizer, ids) == "".join(ITOS[token] for token in ids)


def test_state_that_went_through_json_is_the_same():
    state = json.loads(json.dumps({"type": "char", "stoi": STOI, "itos": ITOS}))
    assert encode(restore(state), TEXT) == [STOI[letter] for letter in TEXT]


def test_without_a_space_an_unknown_character_is_the_first():
    assert encode(restore({"stoi": {"b": 1, "a": 0}, "itos": {}}), "abz") == [0, 1, 0]


def test_the_published_bpe_keeps_its_ids_and_finds_the_way_back():
    made = published_bpe()
    tokenizer = restore({"type": "bpe", "tokenizer_json": made.to_str()})
    line = "Before we speak any further"
    assert encode(tokenizer, line) == made.encode(line).ids
    assert decode(tokenizer, encode(tokenizer, line)) == line
    assert decode(made, made.encode(line).ids) != line  # as published


def test_tiktoken_is_made_of_its_two_files(tmp_path):
    state = {"type": "tiktoken", "encoding_name": "gpt2"}
    with pytest.raises(FileNotFoundError, match="tgn fetch tiktoken-gpt2"):
        restore(state, tmp_path)
    folder = tmp_path / "tiktoken-gpt2"
    folder.mkdir()
    ranks = train_bpe([TEXT], 300)
    ranks.model.save(str(folder))
    (folder / "vocab.json").rename(folder / "encoder.json")
    (folder / "merges.txt").rename(folder / "vocab.bpe")
    sources.write_receipt(folder / "receipt.json", name="t", kind="wheel", evidence="real")
    assert encode(restore(state, tmp_path), TEXT) == encode(ranks, TEXT)


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"type": "words"},
        {"type": "tiktoken", "encoding_name": "cl100k_base"},
        {"stoi": {"a": 0, "b": 2}, "itos": {}},
        {"stoi": {"ab": 0}, "itos": {}},
    ],
)
def test_other_states_are_refused(state):
    with pytest.raises(ValueError, match=r"no tokenizer of type|no numbering of characters"):
        restore(state)
