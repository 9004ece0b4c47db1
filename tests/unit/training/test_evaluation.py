"""Every token is predicted once, from the context that the protocol promises, and counted right."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tgn.text.tokens import END, load_tokenizer, open_tokens, prepare
from tgn.training.evaluation import (
    by_block,
    by_document,
    evaluate,
    gate_table,
    per_window,
    score,
    unigram_nats,
)

VOCABULARY, LAYERS = 7, 3


class Bigram(nn.Module):
    """Known probabilities of the next token given this one; gates that tell what they have seen."""

    def __init__(self, gated=True):
        super().__init__()
        table = torch.rand(VOCABULARY, VOCABULARY, generator=torch.Generator().manual_seed(0)) + 0.1
        self.logs = nn.Parameter((table / table.sum(1, keepdim=True)).log())
        self.gated = gated

    def forward(self, tokens, hard=None):
        gates = None
        if self.gated:
            opened = torch.stack([(tokens + layer) / 10 for layer in range(LAYERS)])
            gates = opened if hard is None else (opened >= hard).float()
        return SimpleNamespace(logits=self.logs[tokens] + 5.0, gates=gates)


class Sum(nn.Module):
    """Depends on every token to the left in the window: what a model with memory would do."""

    def __init__(self):
        super().__init__()
        self.rows = nn.Embedding.from_pretrained(
            torch.randn(VOCABULARY, VOCABULARY, generator=torch.Generator().manual_seed(1))
        )
        self.dropout = nn.Dropout(0.5)

    def forward(self, tokens):
        return SimpleNamespace(logits=self.dropout(self.rows(tokens).cumsum(dim=1)))


def draw(length, seed=0):
    return np.random.default_rng(seed).integers(0, VOCABULARY, length).astype(np.uint16)


tokens_and_windows = st.integers(1, 9).flatmap(
    lambda context: st.tuples(
        st.just(context),
        st.integers(1, context),
        st.integers(context, 40),
        st.integers(1, 5),
    )
)


@given(tokens_and_windows)
def test_a_bigram_pays_the_same_whatever_the_windows(case):
    """What depends on one token only must not depend on context, stride, batch."""
    context, stride, length, batch = case
    tokens, model = draw(length), Bigram()
    scores = score(model, tokens, end=3, context=context, stride=stride, batch=batch)
    before = np.concatenate([[3], tokens[:-1]])
    expected = -model.logs.detach().numpy()[before, tokens]
    np.testing.assert_allclose(scores.nats, expected, rtol=1e-5)
    for layer in range(LAYERS):
        np.testing.assert_allclose(scores.gates[layer], (before + layer) / 10, rtol=1e-6)


@settings(max_examples=30)
@given(tokens_and_windows)
def test_windows_agree_with_one_token_at_a_time(case):
    context, stride, length, batch = case
    tokens, model = draw(length), Sum().eval()
    stream = torch.from_numpy(np.concatenate([[3], tokens[:-1]]).astype(np.int64))
    expected = []
    for place in range(length):
        # The first window whose end lies beyond this place is the one to predict it.
        number = max(0, math.ceil((place + 1 - context) / stride))
        start = min(number * stride, length - context)
        logits = model(stream[None, start : place + 1]).logits[0, -1]
        expected.append(-logits.log_softmax(0)[int(tokens[place])].item())
    scores = score(model, tokens, end=3, context=context, stride=stride, batch=batch)
    np.testing.assert_allclose(scores.nats, expected, rtol=1e-4, atol=1e-5)
    assert scores.gates is None


def test_dropout_is_off_and_then_as_before():
    model = Sum().train()
    first, second = (score(model, draw(30), end=3, context=8, stride=4).nats for _ in range(2))
    assert (first == second).all()
    assert model.training
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_a_hard_gate_is_passed_on():
    tokens = draw(50)
    scores = score(Bigram(), tokens, end=3, context=10, stride=5, hard=0.45)
    before = np.concatenate([[3], tokens[:-1]])
    assert scores.gates[0].tolist() == (before / 10 >= 0.45).astype(float).tolist()


def test_sums_by_document_and_by_block():
    tokens = np.array([1, 2, 0, 0, 5, 6, 4, 0, 1])  # 0 ends a document; the last one is cut
    scores = score(Bigram(), tokens, end=0, context=4, stride=2)
    documents = by_document(scores, tokens, end=0)
    assert documents["targets"].tolist() == [3, 1, 4, 1]
    pieces = np.split(scores.nats.astype(float), [3, 4, 8])
    np.testing.assert_allclose(documents["nats"], [piece.sum() for piece in pieces])
    opened = np.split(scores.gates.mean(axis=0), [3, 4, 8])
    np.testing.assert_allclose(documents["gate"], [piece.mean() for piece in opened], rtol=1e-6)
    blocks = by_block(scores, 4)
    assert blocks["targets"].tolist() == [4, 4, 1]
    np.testing.assert_allclose(blocks["nats"].sum(), scores.nats.sum(dtype=float))
    without = by_block(score(Bigram(gated=False), tokens, end=0, context=4, stride=2), 4)
    assert without["gate"].isna().all()


def test_windows_are_spread_and_the_same_for_every_model():
    tokens, model = draw(101), Bigram()
    table = per_window(model, tokens, 10, 4, batch=3)
    assert table["window"].tolist() == [0, 1, 2, 3]
    assert table["targets"].tolist() == [10] * 4
    for row, start in zip(table.itertuples(), (0, 30, 60, 90), strict=True):
        before, after = tokens[start : start + 10], tokens[start + 1 : start + 11]
        logs = model.logs.detach().numpy()[before, after]
        assert row.nats == pytest.approx(-logs.sum(), rel=1e-5)
        assert row.gate_2 == pytest.approx((before.mean() + 2) / 10, rel=1e-5)
        assert row.gate == pytest.approx((before.mean() + 1) / 10, rel=1e-5)
    plain = per_window(Bigram(gated=False), tokens, 10, 99)
    assert len(plain) == 10
    assert list(plain) == ["window", "nats", "targets", "gate"]
    assert plain["gate"].isna().all()


def test_gates_are_described_layer_by_layer():
    gates = np.array([[0.0, 0.1, 0.3, 0.6], [0.5, 0.5, 0.5, 0.5]])
    table = gate_table(gates, thresholds=(0.1, 0.5), quantiles=(0.5,))
    assert table.to_dict("list") == {
        "layer": [0, 1],
        "mean": [0.25, 0.5],
        "quantile_0.5": pytest.approx([0.2, 0.5]),
        "occupancy_0.1": [0.5, 1.0],
        "occupancy_0.5": [0.25, 0.0],
    }


def test_unigram_nats_are_the_cross_entropy_of_frequencies():
    train, other = np.array([0] * 5 + [1] * 2, np.uint16), np.array([0, 1, 1, 2], np.uint16)
    # Counts 5, 2, 0, raised by one: probabilities 0.6, 0.3, 0.1.
    expected = -(math.log(0.6) + 2 * math.log(0.3) + math.log(0.1)) / 4
    assert unigram_nats(train, 3)[other].mean() == pytest.approx(expected)


def test_unigram_nats_of_much_text_tend_to_its_entropy():
    weights = np.array([0.5, 0.25, 0.25])
    tokens = np.random.default_rng(0).choice(3, 3_000_000, p=weights).astype(np.uint16)
    assert unigram_nats(tokens, 3)[tokens].mean() == pytest.approx(1.5 * math.log(2), abs=3e-3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("tokens")
    rows = [(f"page {number}", f"Words of ü {number} . " * 5) for number in range(60)]
    pd.DataFrame(rows, columns=["title", "text"]).to_parquet(made / "corpus.parquet")
    names = {split: made / f"{split}.npy" for split in ("train", "validation", "test")}
    prepare(
        corpus=made / "corpus.parquet", vocabulary=260, **names, counts=made / "counts.json",
        tokenizer=made / "tokenizer.json", documents=made / "documents.parquet",
    )  # fmt: skip
    return made


class Uniform(nn.Module):
    """Knows nothing: every token costs ln 260."""

    def forward(self, tokens):
        return SimpleNamespace(logits=torch.zeros(*tokens.shape, 260))


def test_a_split_is_evaluated_in_all_units(folder):
    found = evaluate(Uniform(), folder, "test", context=16, stride=8)
    counts = json.loads((folder / "counts.json").read_text())["test"]
    nats = counts["tokens"] * math.log(260)
    assert found.summary == pytest.approx(
        {
            "nats": nats,
            "token_perplexity": 260,
            "word_perplexity": math.exp(nats / counts["words"]),
            "bits_per_byte": nats / math.log(2) / counts["bytes"],
            "context": 16,
            "stride": 8,
        }
        | {key: counts[key] for key in ("tokens", "words", "bytes")}
    )
    assert found.gates is None
    tokens, tokenizer = open_tokens(folder, "test"), load_tokenizer(folder / "tokenizer.json")
    ends = np.flatnonzero(tokens == tokenizer.token_to_id(END))
    assert found.documents["targets"].tolist() == np.diff(ends, prepend=-1).tolist()
    for column in ("words", "bytes"):
        assert found.documents[column].sum() == counts[column]


def test_the_mean_gate_of_a_split_is_that_of_its_layers(folder):
    class Half(Uniform):
        def forward(self, tokens):
            gates = torch.full((2, *tokens.shape), 0.5)
            return SimpleNamespace(logits=torch.zeros(*tokens.shape, 260), gates=gates)

    found = evaluate(Half(), folder, "validation", context=16, stride=16)
    assert found.summary["gate"] == pytest.approx(0.5)
    assert found.gates["mean"].tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("tokens", "options", "message"),
    [
        (draw(5), {"context": 6, "stride": 3}, "has 5 tokens, fewer than one context of 6"),
        (draw(9), {"context": 6, "stride": 7}, "stride 7 given; it must be 1 to the context, 6"),
        (draw(9), {"context": 6, "stride": 0}, "stride 0 given"),
    ],
)
def test_impossible_windows_are_refused(tokens, options, message):
    with pytest.raises(ValueError, match=message):
        score(Bigram(), tokens, end=0, **options)
    with pytest.raises(ValueError, match="has 10 tokens; a window of 10 needs 11"):
        per_window(Bigram(), draw(10), 10, 4)


def test_a_loss_that_is_not_finite_is_refused():
    model = Bigram()
    with torch.no_grad():
        model.logs[5] = math.nan
    with pytest.raises(ValueError, match="not finite in the windows from token 0 on"):
        score(model, np.full(20, 5), end=0, context=5, stride=5)
