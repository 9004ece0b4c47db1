"""Sampling through the cache gives what reading everything anew would give, for every arm."""

import subprocess
import sys
from io import StringIO

import numpy as np
import pytest
import torch

from tgn.cli import main
from tgn.generation import choose, continue_text, generate, reply
from tgn.models import ModelConfig, build, io
from tgn.text.tokens import END, encode, train_bpe

SIZES = {"vocabulary": 270, "width": 16, "depth": 2, "heads": 2, "context": 12}
ARMS = {
    "transformer": {"mixer": "attention"},
    "gru": {"mixer": "gru"},
    "mingru": {"mixer": "mingru"},
    "mamba": {"mixer": "mamba"},
    "tgn": {"mixer": "gated", "inertial": "mingru"},
    "tgn_sequential": {"mixer": "gated", "inertial": "mamba", "wiring": "sequential"},
    "tgn_published": {"mixer": "gated", "inertial": "gru", "recipe": "as_published"},
    "gravity": {"mixer": "gravity"},
    "gravity_published": {"mixer": "gravity", "recipe": "as_published", "mass": "value"},
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


@pytest.fixture
def talk(monkeypatch, capsys):
    """Says something to the chat and returns status, output and errors."""

    def said(checkpoint, words, *options):
        monkeypatch.setattr(sys, "stdin", StringIO(words))
        return main(["chat", str(checkpoint), *options]), *capsys.readouterr()

    return said


def test_a_chat_says_whom_one_talks_to_and_answers(tmp_path):
    """The command itself, through pipes. Top-k may be larger than the vocabulary."""
    model = make("gravity")
    io.save(tmp_path, model, model.config, TOKENIZER)
    options = ("--tokens", "20", "--top-k", "500", "--temperature", "0.7", "--seed", "4")
    run = subprocess.run(
        [sys.executable, "-m", "tgn.cli", "chat", str(tmp_path), *options],
        input="a röse\n\n/quit\nand more\n", capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (0, "")
    settings = {"tokens": 20, "top_k": 500, "temperature": 0.7}
    said = [
        prompt + "".join(reply(model, TOKENIZER, prompt, seed=seed, **settings))
        for prompt, seed in (("a röse", 4), ("", 5))
    ]
    size = sum(parameter.numel() for parameter in model.parameters())
    head = f"Newton Gravity Transformer, {size:,} parameters. /quit or /exit ends.\n"
    assert run.stdout == f"{head}prompt> {said[0]}\nprompt> {said[1]}\nprompt> "


@pytest.mark.parametrize(
    ("arm", "kind"),
    [
        ("gravity_published", "Newton Gravity Transformer, as published, "),
        ("transformer", "Transformer, "),
        ("tgn", "Thermodynamic Gated Network, "),
        ("mamba", "mamba language model, "),
    ],
)
def test_every_kind_of_model_is_told_and_answers(tmp_path, talk, arm, kind):
    model = make(arm)
    io.save(tmp_path, model, model.config, TOKENIZER)
    code, out, err = talk(tmp_path, "a rose\n", "--tokens", "9", "--seed", "2")
    assert (code, err) == (0, "")
    said = "".join(reply(model, TOKENIZER, "a rose", tokens=9, seed=2))
    assert out.startswith(kind)
    assert out.endswith(f"prompt> a rose{said}\nprompt> ")


@pytest.mark.parametrize("end", ["/exit\n", "  /quit \n", ""])
def test_a_chat_ends_when_asked_to_or_when_nothing_comes(folder, talk, end):
    code, out, err = talk(folder, end)
    assert (code, err) == (0, "")
    assert out.count("prompt> ") == 1


def vanilla_state(vocabulary, width, context):
    """Random weights of one layer, named and shaped as published."""
    rng = torch.Generator().manual_seed(2)
    shapes = {
        "token_emb.weight": (vocabulary, width), "pos_emb.weight": (context, width),
        "norm.weight": (width,), "norm.bias": (width,), "head.bias": (vocabulary,),
    }  # fmt: skip
    for name in ("attn.q_proj", "attn.k_proj", "attn.v_proj", "attn.out_proj"):
        shapes |= {f"layers.0.{name}.weight": (width, width), f"layers.0.{name}.bias": (width,)}
    for name, (inputs, outputs) in {"net.0": (width, 20), "net.3": (20, width)}.items():
        shapes |= {f"layers.0.ffn.{name}.weight": (outputs, inputs)}
        shapes |= {f"layers.0.ffn.{name}.bias": (outputs,)}
    for name in ("norm1", "norm2"):
        shapes |= {f"layers.0.{name}.weight": (width,), f"layers.0.{name}.bias": (width,)}
    state = {name: torch.randn(shape, generator=rng) for name, shape in shapes.items()}
    return {**state, "head.weight": state["token_emb.weight"]}


def test_a_published_checkpoint_can_be_talked_to(tmp_path, talk):
    """With its own letters; the form is told by the file."""
    letters = " abcdefghij"
    vocabulary = {"stoi": {letter: k for k, letter in enumerate(letters)}, "itos": {}}
    torch.save(
        {
            "model_state": vanilla_state(11, 12, 9),
            "config": {"num_heads": 3, "vocab_size": 11},
            "vocab": vocabulary,
        },
        tmp_path / "vanilla.pt_best.pt",
    )
    code, out, err = talk(tmp_path / "vanilla.pt_best.pt", "bad\n", "--tokens", "7", "--seed", "1")
    assert (code, err) == (0, "")
    head, answer, _ = out.split("prompt> ")
    assert head.startswith("Transformer beside the Newton Gravity Transformer, as published, ")
    assert answer.startswith("bad")
    assert len(answer.rstrip("\n")) == 3 + 7
    assert set(answer.rstrip("\n")) <= set(letters)


def test_what_cannot_be_talked_to_is_said_in_a_line(tmp_path, talk):
    (tmp_path / "a.pt").write_bytes(b"nothing")
    for place, words in (("a.pt", "is no checkpoint"), ("absent", "is not a model of ours")):
        code, out, err = talk(tmp_path / place, "hello\n")
        assert (code, out) == (1, "")
        assert words in err
        assert err.count("\n") == 1


def test_an_answer_comes_as_it_is_made(monkeypatch):
    """A piece is there before the next token is asked for, and no token is read twice."""
    model, read = make("gravity"), []
    forward = model.forward

    def watched(tokens, *arguments):
        read.append(tokens.shape[1])
        return forward(tokens, *arguments)

    monkeypatch.setattr(model, "forward", watched)
    pieces = reply(model, TOKENIZER, "a ", tokens=5, seed=1)
    next(pieces)
    assert len(read) < 5
    "".join(pieces)
    assert read == [len(encode(TOKENIZER, "a ")), *[1] * (len(read) - 1)]


def test_what_is_not_a_model_is_said_to_be_none(tmp_path, capsys):
    assert main(["generate", "--checkpoint", str(tmp_path)]) == 1
    assert "is not a model" in (said := capsys.readouterr().err)
    assert said.count("\n") == 1


def test_a_model_without_tokenizer_is_said_to_have_none(tmp_path, capsys):
    model = make("gru")
    io.save(tmp_path, model, model.config)
    assert main(["generate", "--checkpoint", str(tmp_path)]) == 1
    assert "has no tokenizer.json: this model was not trained on text" in capsys.readouterr().err
