"""Remake config/spin_glass_costs.yaml: CPU nanoseconds an update of every arm of figure 5.

    python benchmarks/spin_glass_costs.py [--output config/spin_glass_costs.yaml]

Budgets in CPU seconds become update counts through this table. It is committed, so that results
do not depend on the machine that runs them; remake it when an arm's code changes.
"""

from __future__ import annotations

import argparse
import platform
from pathlib import Path

import yaml

from tgn.config import read_yaml
from tgn.files import replacing
from tgn.spin_glass.experiment import ARMS, measure_costs

FULL_BLOCKS = ("tempering_bitcoded", "reference", "reference_again")  # timed on 512 samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("config/spin_glass_costs.yaml"))
    parser.add_argument("--arms", nargs="+", default=list(ARMS), help="the others are kept")
    arguments = parser.parse_args()
    glass = read_yaml("config.yaml")["spin_glass"]
    rungs = dict(zip(glass["sides"], glass["rungs"], strict=True))
    kept = yaml.safe_load(arguments.output.read_text()) if arguments.output.exists() else {}
    costs = kept | measure_costs(
        arguments.arms,
        sides=glass["sides"],
        rungs=rungs.__getitem__,
        n_samples=lambda arm: 512 if arm in FULL_BLOCKS else 16,
    )
    head = (
        "# CPU nanoseconds an update, by arm, couplings and side; made by\n"
        "# python benchmarks/spin_glass_costs.py\n"
        f"# on {platform.machine()}, Python {platform.python_version()}, one thread\n"
    )
    with replacing(arguments.output) as temporary:
        temporary.write_text(head + yaml.safe_dump(costs, sort_keys=True), encoding="utf-8")


if __name__ == "__main__":
    main()
