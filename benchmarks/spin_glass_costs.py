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

from tgn.spin_glass.experiment import ARMS, measure_costs

SIDES = (4, 6, 8, 10, 12)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("config/spin_glass_costs.yaml"))
    parser.add_argument("--arms", nargs="+", default=list(ARMS), help="the others are kept")
    parser.add_argument("--updates", type=int, default=1_000_000, help="timed, of each sample")
    arguments = parser.parse_args()
    kept = yaml.safe_load(arguments.output.read_text()) if arguments.output.exists() else {}
    costs = kept | measure_costs(
        arguments.arms,
        sides=SIDES,
        rungs=lambda side: 4 + side,
        n_samples=lambda arm: 512 if arm in ("tempering_bitcoded", "reference") else 16,
        updates=arguments.updates,
    )
    head = (
        "# CPU nanoseconds an update, by arm, couplings and side; made by\n"
        "# python benchmarks/spin_glass_costs.py\n"
        f"# on {platform.machine()}, Python {platform.python_version()}, one thread\n"
    )
    arguments.output.write_text(head + yaml.safe_dump(costs, sort_keys=True), encoding="utf-8")


if __name__ == "__main__":
    main()
