"""The page of coordinates: what it draws, and that a browser without a network shows it."""

import json
import re

import numpy as np
import pytest
import torch
from browser import needs_browser, rendered

from tgn.models import ModelConfig, build, io
from tgn.plots.coordinates import draw, figure_of
from tgn.probing.coordinates import View
from tgn.text.tokens import encode, train_bpe

TEXT = "To be, or not to be:\nthat is the <b>question</b> & more. " * 8


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's folder, with masses that differ, and a tokenised text beside it."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    tokenizer = train_bpe([TEXT], 280)
    config = ModelConfig.from_dict(
        {"vocabulary": 280, "width": 32, "depth": 2, "heads": 2, "context": 50, "mixer": "gravity"}
    )
    model = build(config)
    torch.nn.init.normal_(model.log_masses)
    io.save(folder / "gravity-0", model, config, tokenizer)
    np.save(folder / "validation.npy", np.array(encode(tokenizer, TEXT), dtype=np.uint16))
    return folder


@pytest.fixture(scope="module")
def page(run):
    draw(weights=run / "gravity-0/model.safetensors", text=TEXT, page=run / "page.html", limit=30)
    return run / "page.html"


def test_mass_is_size_and_colour_and_the_token_stands_under_the_pointer():
    seen = View(np.eye(3), np.array([0.5, 0.3, 0.12]), np.array([1.0, 2.0, 3.0]), 1)
    drawn = figure_of(seen, ["<b>", "\n", "a"], "title")
    (points,) = drawn.data
    assert points.marker.size.tolist() == [4, 14, 24]
    assert points.marker.color.tolist() == [1, 2, 3]
    assert points.marker.colorscale[0][1] == "#440154"  # where Viridis begins
    assert list(points.text) == ["&lt;b&gt;", "⏎", "a"]
    assert "%{text}" in points.hovertemplate
    assert drawn.layout.scene.yaxis.title.text == "axis 2 (30% of variance)"


@pytest.mark.parametrize(("limit", "count"), [(30, 30), (1000, 50)])
def test_the_limit_counts_tokens_up_to_the_context(run, limit, count):
    path = run / "limited.html"
    for given in ({"text": TEXT}, {"tokens": run / "counts.json"}):
        draw(weights=run / "gravity-0/model.safetensors", page=path, limit=limit, **given)
        assert f"{count} tokens after 2 blocks" in path.read_text()


def test_what_is_wrong_is_named_and_nothing_is_written(run, tmp_path):
    weights = run / "gravity-0/model.safetensors"
    for given in ({}, {"text": "a", "tokens": run / "counts.json"}):
        with pytest.raises(ValueError, match="give either `tokens`"):
            draw(weights=weights, page=tmp_path / "page.html", **given)
    with pytest.raises(ValueError, match="2 tokens given"):
        draw(weights=weights, page=tmp_path / "page.html", text=TEXT, limit=2)
    assert not list(tmp_path.iterdir())


def test_the_page_is_whole_in_itself(page):
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", text)
    again = page.with_name("again.html")
    draw(weights=page.parent / "gravity-0/model.safetensors", text=TEXT, page=again, limit=30)
    assert again.read_text(encoding="utf-8") == text


LOOK = """
const plot = document.getElementById("coordinates"), drawn = plot._fullData[0];
const said = document.createElement("pre");
said.id = "seen";
said.textContent = JSON.stringify({
  points: drawn.x.length,
  sizes: new Set(Array.from(drawn.marker.size)).size,
  titles: ["xaxis", "yaxis", "zaxis"].map(name => plot._fullLayout.scene[name].title.text),
  canvases: plot.querySelectorAll("canvas").length,
  buttons: Array.from(plot.querySelectorAll(".modebar-btn"), b => b.dataset.title || b.ariaLabel),
  asked: performance.getEntriesByType("resource").map(entry => entry.name),
});
document.body.append(said);
"""


@needs_browser
def test_a_browser_without_a_network_shows_it(page):
    three_dimensions = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")  # on a CPU
    drawn, picture = rendered(page, LOOK, *three_dimensions, "--window-size=1000,800", after=1000)
    seen = json.loads(re.search(r'<pre id="seen">(.*?)</pre>', drawn).group(1))
    assert seen["points"] == 30
    assert seen["sizes"] > 5
    assert all(re.fullmatch(r"axis \d \(\d+% of variance\)", title) for title in seen["titles"])
    assert seen["canvases"]
    assert seen["asked"] == []
    assert any("Download" in name for name in seen["buttons"])
    assert not [name for name in seen["buttons"] if "Share" in name or "loud" in name]
    colours = picture.convert("RGB").getcolors(1 << 24)
    assert len(colours) > 200  # of an empty page there are few
