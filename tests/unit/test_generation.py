"""Sampling through the cache gives what reading everything anew would give, for every arm."""

import numpy as np
import pytest
import torch

from tgn.cli import main
from tgn.generation import choose, continue_text, generate
from tgn.models import ModelConfig, build, io
from tgn.text.tokens import END, train_bpe

SIZES = {"vocabulary": 270, "width": 16, "depth": 2, "heads": 2, "context": 12}
ARMS = {
    "transformer": {"mixer": "attention"},
    "gru": {"mixer": "gru"},
    "mingru": {"mixer": "mingru"},
    "mamba": {"mixer": "mamba"},
    "tgn": {"mixer": "gated", "inertial": "mingru"},
    "tgn_sequential": {"mixer": "gated", "inertial": "mamba", "wiring": "sequential"},
    "tgn_published": {"mixer": "gated", "inertial": "gru", "recipe": "as_published"},
}
TOKENIZER = train_bpe(["a rose is a rose is a rose, and so on and so forth"], 270)


def make(arm):
    """A model whose weights are large enough to have opinions."""
    torch.manual_seed(0)
    model = build(ModelConfig.from_dict(SIZES | ARMS[arm])).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model


@pytest.fixture
def folder(tmp_path):
    model = make("tgn")
    io.save(tmp_path / "model", model, model.config, TOKENIZER, {"arm": "tgn"})
    return tmp_path / "model"


@pytest.mark.parametrize("arm", ARMS)
def test_the_cache_changes_nothing(arm):
    """Greedy continuation, against reading the whole window again at every token."""
    model, tokens = make(arm), [1, 5, 9]
    start = 0
    for _ in range(30):
        if len(tokens) - start > SIZES["context"]:
            start = len(tokens) - SIZES["context"] // 2
        with torch.no_grad():
            tokens.append(int(model(torch.tensor([tokens[start:]])).logits[0, -1].argmax()))
    assert list(generate(model, [1, 5, 9], 30, temperature=0)) == tokens[3:]
    assert len(set(tokens)) > 3


def test_a_long_prompt_is_read_from_its_end():
    model, prompt = make("transformer"), list(range(1, 31))
    first = next(generate(model, prompt, 1, temperature=0))
    assert first == next(generate(model, prompt[-12:], 1, temperature=0))


def test_samples_follow_the_seed():
    model = make("tgn")
    draws = [list(generate(model, [1], 20, seed=seed)) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert all(0 <= token < 270 for token in draws[0])


def test_tokens_are_drawn_with_their_probability():
    """Logits over temperature; of the likeliest tokens only."""
    logits, rng = torch.tensor([0.0, 3.0, 1.0, 2.0]), torch.Generator().manual_seed(0)
    drawn = np.bincount([choose(logits, 2.0, 3, rng) for _ in range(4000)], minlength=4) / 4000
    expected = np.exp([-np.inf, 1.5, 0.5, 1.0])
    expected /= expected.sum()
    np.testing.assert_allclose(drawn, expected, atol=4 * 0.5 / np.sqrt(4000))
    assert drawn[0] == 0
    assert choose(logits, 1.0, 1, rng) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": []}, "the prompt is empty"),
        ({"temperature": -1.0}, "temperature must be 0 or more"),
        ({"temperature": float("nan")}, "temperature must be 0 or more"),
        ({"top_k": 0}, "top_k must be at least 1"),
    ],
)
def test_what_cannot_be_sampled_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        generate(make("gru"), **({"prompt": [1], "count": 1} | options))


def test_damaged_weights_are_noticed():
    model = make("gru")
    torch.nn.init.constant_(model.embedding.weight, torch.nan)
    with pytest.raises(ValueError, match="logits are not finite"):
        next(generate(model, [1], 1))


def test_a_text_is_continued(folder):
    text = continue_text(folder, "a röse", tokens=15, seed=3)
    assert text.startswith("a röse")
    assert text == continue_text(folder, "a röse", tokens=15, seed=3)
    assert END not in text


def test_a_document_ends_at_the_end_token(tmp_path):
    """A model that is sure of the end token says nothing."""
    model = make("gru")
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)  # then all logits are equal, and the first token wins
    assert TOKENIZER.token_to_id(END) == 0
    io.save(tmp_path, model, model.config, TOKENIZER)
    assert continue_text(tmp_path, "so", temperature=0) == "so"


def test_the_command_prints_a_continuation(folder, capsys):
    command = ["generate", "--checkpoint", str(folder), "--prompt", "a rose", "--tokens", "9"]
    assert main([*command, "--temperature", "0.7", "--top-k", "5", "--seed", "4"]) == 0
    expected = continue_text(folder, "a rose", tokens=9, temperature=0.7, top_k=5, seed=4)
    assert capsys.readouterr().out == f"{expected}\n"


def test_what_is_not_a_model_is_said_to_be_none(tmp_path, capsys):
    assert main(["generate", "--checkpoint", str(tmp_path)]) == 1
    assert "is not a model" in (said := capsys.readouterr().err)
    assert said.count("\n") == 1


def test_a_model_without_tokenizer_is_said_to_have_none(tmp_path, capsys):
    model = make("gru")
    io.save(tmp_path, model, model.config)
    assert main(["generate", "--checkpoint", str(tmp_path)]) == 1
    assert "has no tokenizer.json: this model was not trained on text" in capsys.readouterr().err
