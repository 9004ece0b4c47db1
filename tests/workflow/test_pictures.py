"""docs/pictures/ follows a results folder."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from running import ROOT


def made(results, pictures):
    command = [sys.executable, ROOT / "docs/pictures/make.py", results, pictures]
    return subprocess.run(command, capture_output=True, text=True)


def drawn(path, width):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (50, width, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def test_pictures_are_small_and_those_of_figures_that_are_not_there_stay(tmp_path):
    results, pictures = tmp_path / "results", tmp_path / "pictures"
    drawn(results / "fig8.png", 2400)
    drawn(results / "manuscript/figure1.png", 300)
    drawn(pictures / "fig3.png", 10)
    run = made(results, pictures)
    assert run.returncode == 0, run.stderr
    names = {path.name for path in pictures.iterdir()}
    assert names == {"fig8.png", "manuscript_figure1.png", "fig3.png"}
    assert Image.open(pictures / "fig8.png").size == (1200, 25)
    assert Image.open(pictures / "manuscript_figure1.png").size == (300, 50)
    first = (pictures / "fig8.png").read_bytes()
    made(results, pictures)
    assert (pictures / "fig8.png").read_bytes() == first


def test_thin_lines_keep_their_colours(tmp_path):
    """A page of white with a few lines, as figures are."""
    colours = [(213, 94, 0), (0, 114, 178), (0, 158, 115), (230, 159, 0), (204, 121, 167)]
    page = np.full((400, 600, 3), 255, dtype=np.uint8)
    page[:200] -= np.random.default_rng(0).integers(0, 99, (200, 600, 1), dtype=np.uint8)
    for row, colour in enumerate(colours):
        page[300 + 10 * row] = colour
    (tmp_path / "results").mkdir()
    Image.fromarray(page).save(tmp_path / "results/fig1.png")
    made(tmp_path / "results", tmp_path / "pictures")
    small = np.asarray(Image.open(tmp_path / "pictures/fig1.png").convert("RGB"), dtype=int)
    assert np.abs(small - page).max() < 30


def test_without_figures_it_says_what_to_do(tmp_path):
    run = made(tmp_path, tmp_path / "pictures")
    assert run.returncode == 1
    assert "make them with `make`" in run.stderr


@pytest.mark.parametrize("picture", sorted((ROOT / "docs/pictures").glob("*.png")))
def test_no_picture_is_large(picture):
    assert picture.stat().st_size < 400_000
