"""Text sampled from a trained language model, one token at a time through its cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from tgn.models import Model, ModelConfig, io, published_checkpoints
from tgn.progress import bar
from tgn.text import published_tokenizers
from tgn.text.tokens import END, decode, encode, end_token, load_tokenizer, stream

KINDS = {
    "attention": "Transformer",
    "gated": "Thermodynamic Gated Network",
    "gravity": "Newton Gravity Transformer",
}


def continue_text(
    folder: str | Path,
    prompt: str = "",
    *,
    tokens: int = 200,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
) -> str:
    """Let the model in a folder continue a text, or begin one.

    Parameters
    ----------
    folder
        A checkpoint or an exported model.
    tokens
        The longest continuation; it ends earlier where the model ends the document.
    temperature, top_k, seed
        As :func:`generate`.

    Returns
    -------
    str
        The prompt and its continuation.

    Raises
    ------
    ValueError
        If the folder is not a model of ours, or has no tokenizer; and as :func:`generate`.
    """
    model, tokenizer = _load(folder)
    end = end_token(tokenizer)
    read = encode(tokenizer, prompt)
    sampled = generate(model, [end, *read], tokens, temperature=temperature, top_k=top_k, seed=seed)
    said = takewhile(lambda token: token != end, bar(sampled, total=tokens, desc="generating"))
    return decode(tokenizer, [*read, *said])


def _load(folder: str | Path) -> tuple[Model, Tokenizer]:
    model = io.load(folder)
    path = Path(folder) / io.TOKENIZER
    if not path.is_file():
        raise ValueError(f"{folder} has no {io.TOKENIZER}: this model was not trained on text")
    return model, load_tokenizer(path)


def open_model(
    checkpoint: str | Path, resources: str | Path = "resources"
) -> tuple[Model, Tokenizer, str]:
    """A model of any kind with its tokenizer, and what it is in words.

    Parameters
    ----------
    checkpoint
        A folder of ours; or a file of the published Newton Gravity Transformer, see
        :mod:`tgn.models.published_checkpoints`.
    resources
        Folder of downloads, which a published checkpoint's tokenizer may need.

    Raises
    ------
    FileNotFoundError
        If there is nothing, or the tokenizer's files were not fetched.
    ValueError
        If it is no model that is known.
    """
    if Path(checkpoint).is_file():
        published = published_checkpoints.load(checkpoint)
        tokenizer = published_tokenizers.restore(published.vocabulary, resources)
        model: Model = published.model
        if tokenizer.get_vocab_size() != model.config.vocabulary:
            raise ValueError(
                f"{checkpoint} has a tokenizer of {tokenizer.get_vocab_size()} tokens and a model "
                f"of {model.config.vocabulary}"
            )
        name = f"{published.kind}, as published"
    else:
        model, tokenizer = _load(checkpoint)
        name = _name(model.config)
    size = sum(parameter.numel() for parameter in model.parameters())
    return model, tokenizer, f"{name}, {size:,} parameters"


def _name(config: ModelConfig) -> str:
    name = KINDS.get(config.mixer, f"{config.mixer} language model")
    return f"{name}, as published" if config.recipe == "as_published" else name


def reply(
    model: Model,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    tokens: int = 400,
    temperature: float = 0.9,
    top_k: int | None = 40,
    seed: int = 0,
) -> Iterator[str]:
    """What a model makes of a prompt, piece by piece as it comes.

    An empty prompt stands for a line break, as published. Otherwise as :func:`generate`; it ends
    earlier where the model ends the document.
    """
    end = tokenizer.token_to_id(END)
    read = encode(tokenizer, prompt or "\n")
    said = generate(model, read, tokens, temperature=temperature, top_k=top_k, seed=seed)
    return stream(tokenizer, takewhile(lambda token: token != end, said))


def generate(
    model: Model,
    prompt: Sequence[int],
    count: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
) -> Iterator[int]:
    """Sample ``count`` tokens, each given the ones before it.

    A token is read once: the model's cache holds what came before. No model reads further than the
    context it was trained with: when that is full, its latter half is read anew.

    Parameters
    ----------
    prompt
        Token ids, at least one; of those that do not fit the context the last are read.
    temperature
        Divides the logits. At 0 the likeliest token is taken.
    top_k
        Draw from the likeliest ones only.

    Raises
    ------
    ValueError
        If the prompt is empty, a parameter is out of its range, or the logits are not finite.
    """
    if not prompt:
        raise ValueError("the prompt is empty: begin with the end token")
    if not 0 <= temperature < float("inf"):
        raise ValueError(f"temperature must be 0 or more and finite, got {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    return _generate(model, list(prompt), count, temperature, top_k, seed)


@torch.inference_mode()
def _generate(
    model: Model,
    tokens: list[int],
    count: int,
    temperature: float,
    top_k: int | None,
    seed: int,
) -> Iterator[int]:
    device = next(model.parameters()).device
    rng = torch.Generator(device).manual_seed(seed)
    context = model.config.context
    unread, cache, room = tokens[-context:], model.new_cache(1), context
    for _ in range(count):
        if len(unread) > room:
            unread, cache, room = tokens[-max(1, context // 2) :], model.new_cache(1), context
        logits = model(torch.tensor([unread], device=device), cache).logits
        room -= len(unread)
        unread = [choose(logits[0, -1].float(), temperature, top_k, rng)]
        tokens += unread
        yield from unread


def choose(logits: Tensor, temperature: float, top_k: int | None, rng: torch.Generator) -> int:
    """Draw a token from its logits, shape (vocabulary,)."""
    if not logits.isfinite().all():
        raise ValueError("the model's logits are not finite: its weights are damaged")
    if temperature == 0:
        return int(logits.argmax())
    likeliest, ids = logits.topk(min(top_k or len(logits), len(logits)))
    chances = (likeliest / temperature).softmax(dim=0)
    return int(ids[torch.multinomial(chances, 1, generator=rng)])
