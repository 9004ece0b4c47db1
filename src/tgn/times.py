"""What a run cost: Snakemake's benchmark files, summed over the jobs of each rule."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = "benchmarks"


@dataclass(frozen=True)
class Cost:
    """Jobs of a rule: seconds on the clock and of CPU, summed; the peak of memory, in MB."""

    rule: str
    jobs: int
    wall: float
    cpu: float
    peak: float


def costs(results: str | Path) -> list[Cost]:
    """The costs of every rule that has benchmark files, the dearest in CPU first.

    A file belongs to the rule of its folder in ``benchmarks``, or of its name if it lies in none.
    Each job counts with the last time it ran. What Snakemake could not measure, because a job was
    too short, counts as nothing.

    Raises
    ------
    FileNotFoundError
        If the results folder has no benchmark files.
    """
    root = Path(results) / FOLDER
    found: dict[str, list[Cost]] = {}
    for path in sorted(root.rglob("*.tsv")):
        rule = path.relative_to(root).parts[0].removesuffix(".tsv")
        found.setdefault(rule, []).append(_cost(rule, path))
    if not found:
        raise FileNotFoundError(f"no benchmark files in {root}: nothing has been computed there")
    return sorted((_sum(rule, jobs) for rule, jobs in found.items()), key=lambda c: -c.cpu)


def table(found: Sequence[Cost]) -> str:
    """The costs as text in columns, with their sum."""
    total = _sum("sum", found)
    width = max(len(cost.rule) for cost in [*found, total])
    lines = [f"{'rule':<{width}} {'jobs':>5} {'wall s':>9} {'CPU s':>9} {'peak MB':>8}"]
    lines += [
        f"{cost.rule:<{width}} {cost.jobs:>5} {cost.wall:>9.1f} {cost.cpu:>9.1f} {cost.peak:>8.0f}"
        for cost in [*found, total]
    ]
    return "\n".join([*lines, "Jobs run side by side: the wall times' sum is not the run's."])


def _cost(rule: str, path: Path) -> Cost:
    with open(path, encoding="utf-8", newline="") as handle:
        runs = list(csv.DictReader(handle, delimiter="\t"))
    wall, cpu, peak = (
        [_number(run[name]) for run in runs] for name in ("s", "cpu_time", "max_rss")
    )
    return Cost(rule, 1, sum(wall), sum(cpu), max(peak, default=0.0))


def _sum(rule: str, costs: Sequence[Cost]) -> Cost:
    return Cost(
        rule,
        jobs=sum(cost.jobs for cost in costs),
        wall=sum(cost.wall for cost in costs),
        cpu=sum(cost.cpu for cost in costs),
        peak=max(cost.peak for cost in costs),
    )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:  # NA, or a dash
        return 0.0
