"""Tokens of one text at their places in a gravity model, to be turned about in a browser.

One HTML file that holds all it needs, plotly's code included, and asks no network for anything.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import plotly.graph_objects as go

from tgn.files import replacing
from tgn.models import io
from tgn.probing.coordinates import View, view
from tgn.provenance import footer
from tgn.text.tokens import decode, encode, load_tokenizer, open_tokens

SIZES = 4.0, 24.0  # of markers, in pixels
NAMES = {"\n": "⏎", "\t": "⇥", " ": "␣"}


def draw(
    *,
    weights: str | Path,
    page: str | Path,
    tokens: str | Path | None = None,
    text: str | None = None,
    split: str = "validation",
    tokenizer: str | Path | None = None,
    limit: int = 256,
    layer: int | None = None,
    scale: str = "laptop",
) -> None:
    """Draw where the tokens of a text stand, as one interactive page.

    Parameters
    ----------
    weights
        The ``model.safetensors`` of a training run whose mixer is ``gravity``.
    page
        HTML to write.
    tokens, split
        A file of the tokenised text's folder, whose split is read from its beginning.
    text
        Instead: the text itself.
    tokenizer
        ``tokenizer.json``; the one beside the weights when not given.
    limit
        Tokens, not characters, to be drawn; no more than the model's context are.
    layer
        As for :func:`tgn.probing.coordinates.view`.
    scale
        Named in the page's last line.

    Raises
    ------
    ValueError
        If both or none of `tokens` and `text` are given, fewer than three tokens are left to draw;
        and as :func:`tgn.probing.coordinates.view`.
    """
    if (tokens is None) == (text is None):
        raise ValueError("give either `tokens`, a file of a tokenised text's folder, or `text`")
    folder = Path(weights).parent
    model = io.load(folder)
    words = load_tokenizer(folder / io.TOKENIZER if tokenizer is None else tokenizer)
    limit = min(limit, model.config.context)
    if tokens is not None:
        ids = open_tokens(Path(tokens).parent, split)[:limit].tolist()
    else:
        ids = encode(words, str(text))[:limit]
    title = f"Tokens of {folder.name} at their coordinates"
    figure = figure_of(view(model, ids, layer), [decode(words, [i]) for i in ids], title)
    plot = figure.to_html(
        full_html=False, include_plotlyjs=True, div_id="coordinates", default_height="88vh",
        config={"displaylogo": False, "showSendToCloud": False},
    )  # fmt: skip
    lines = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title></head>',
        '<body style="font: 13px sans-serif; margin: 1em">',
        plot,
        f"<p>Drag to turn, scroll to come nearer, point at a token to read it. {footer(scale)}</p>",
        "</body></html>\n",
    ]
    with replacing(page) as temporary:
        temporary.write_text("\n".join(lines), encoding="utf-8")


def figure_of(seen: View, words: Sequence[str], title: str) -> go.Figure:
    """A point for each token: its mass as size and colour, its text under the pointer."""
    x, y, z = seen.points.T
    markers = go.scatter3d.Marker(
        size=sizes(seen.masses),
        color=seen.masses,
        colorscale="Viridis",
        colorbar={"title": "mass"},
        opacity=0.85,
        line={"width": 0},
    )
    points = go.Scatter3d(
        x=x, y=y, z=z, mode="markers", marker=markers,
        text=[html.escape(named(word)) for word in words],
        customdata=np.stack([np.arange(len(x)), seen.masses], axis=-1),
        hovertemplate="<b>%{text}</b><br>position %{customdata[0]}"
        "<br>mass %{customdata[1]:.3g}<extra></extra>",
    )  # fmt: skip
    axes = {
        f"{name}axis": {"title": {"text": f"axis {i + 1} ({seen.explained[i]:.0%} of variance)"}}
        for i, name in enumerate("xyz")
    }
    subtitle = f"{len(words)} tokens after {seen.layer} blocks, along the principal axes"
    return go.Figure(
        points,
        {
            "title": {"text": html.escape(title), "subtitle": {"text": subtitle}},
            "scene": {**axes, "aspectmode": "data", "camera": {"eye": dict.fromkeys("xyz", 1.5)}},
            "margin": {"l": 0, "r": 0, "b": 0},
        },
    )


def sizes(masses: np.ndarray) -> np.ndarray:
    """Marker sizes of masses, least to greatest; the middle one where all are equal.

    Examples
    --------
    >>> sizes(np.array([1.0, 3.0, 2.0])).tolist()
    [4.0, 24.0, 14.0]
    """
    least, greatest = SIZES
    span = np.ptp(masses)
    share = (masses - masses.min()) / span if span else np.full(len(masses), 0.5)
    return least + (greatest - least) * share


def named(word: str) -> str:
    """A token's text, with signs for the blanks that would not be seen."""
    return "".join(NAMES.get(letter, letter) for letter in word)
