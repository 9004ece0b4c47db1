"""Small copies of a results folder's figures, for the pages that show them.

python docs/pictures/make.py results docs/pictures
"""

import sys
from pathlib import Path

from PIL import Image

from tgn.files import replacing

WIDTH = 1200  # pixels
PALETTE = Image.Quantize.MAXCOVERAGE  # a quarter of the size; other ways lose thin coloured lines


def shrink(source: Path, target: Path) -> None:
    """Write a picture no wider than ``WIDTH``, in a palette."""
    with Image.open(source) as image:
        small = image.convert("RGB")
        small.thumbnail((WIDTH, WIDTH * 4), Image.Resampling.LANCZOS)
        with replacing(target) as temporary:
            small.quantize(method=PALETTE).save(temporary, optimize=True)


def main(results: Path, pictures: Path) -> None:
    """Shrink every figure of a results folder; pictures of figures that are not there stay.

    Raises
    ------
    SystemExit
        If the folder has no figures.
    """
    figures = sorted([*results.glob("*.png"), *results.glob("manuscript/*.png")])
    if not figures:
        raise SystemExit(f"no figures in {results}: make them with `make`")
    for figure in figures:
        picture = pictures / name_of(figure, results)
        shrink(figure, picture)
        print(f"{picture}  {picture.stat().st_size / 1e3:.0f} kB")


def name_of(figure: Path, results: Path) -> str:
    """``manuscript/figure1.png`` as manuscript_figure1.png; the others keep their names."""
    return "_".join(figure.relative_to(results).parts)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
