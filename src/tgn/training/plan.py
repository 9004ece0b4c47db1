"""The training runs behind the language-model figures, from their section of the configuration.

A run is named ``arm-seed``, with what sets it apart in between: ``tgn-0``, ``tgn-penalty-0.02-0``,
``tgn-ramp-slow-0``, ``mamba-rate-0.01-0``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Section = Mapping[str, Any]

FLAT = "flat"  # the control of the ramps: as long, the penalty left as it is


def runs(section: Section) -> dict[str, dict[str, Any]]:
    """Every run of the figures, by name, as arguments of :func:`tgn.training.run.train`.

    They are each arm with its seeds; the arm ``swept`` with each of the other ``penalties``; and,
    from the trained weights of its seed 0, a ramp of the penalty up and down at each of the
    ``ramps``, whose lengths are fractions of a run, and the longest without any ramp, as control.
    """
    swept, penalty = section["swept"], section["penalty"]
    planned = {
        f"{arm}-{seed}": _run(section, arm, seed=seed)
        for arm, settings in section["arms"].items()
        for seed in range(settings.get("seeds", 1))
    }
    for other in section["penalties"]:
        planned[f"{swept}-penalty-{other:g}-0"] = _run(section, swept, penalty=other)
    low, high = penalty / section["ramp_factor"], penalty * section["ramp_factor"]
    for name, fraction in section["ramps"].items():
        up_and_down = [[0, low], [0.5, high], [1, low]]
        planned[f"{swept}-ramp-{name}-0"] = _ramp(section, up_and_down, fraction)
    longest = max(section["ramps"].values())
    planned[f"{swept}-ramp-{FLAT}-0"] = _ramp(section, [[0, penalty], [1, penalty]], longest)
    return planned


def sweep(section: Section) -> dict[str, dict[str, Any]]:
    """A run for each arm and learning rate, by name, with the seed after the figures' own."""
    planned = {
        f"{arm}-rate-{rate:g}-0": _run(section, arm, seed=settings.get("seeds", 1), rate=rate)
        for arm, settings in section["arms"].items()
        for rate in section["rate_grid"]
    }
    for run in planned.values():
        _shorten(run["training"], section["sweep_fraction"])
    return planned


def _ramp(section: Section, penalty: list[list[float]], fraction: float) -> dict[str, Any]:
    ramp = _run(section, section["swept"], penalty=penalty)
    _shorten(ramp["training"], fraction)
    # an even number of intervals: one evaluation at the top, the others in pairs
    intervals = section["ramp_evaluations"]
    ramp["training"]["evaluate_every"] = max(1, round(ramp["training"]["steps"] / intervals))
    ramp["training"]["steps"] = intervals * ramp["training"]["evaluate_every"]
    # the penalty alone is to change, so the learning rate stays where it is
    ramp["training"]["schedule"] = {"warmup": 0.0, "decay": 0.0}
    return ramp | {"start": f"{section['swept']}-0"}


def _shorten(training: dict[str, Any], fraction: float) -> None:
    training["steps"] = max(1, round(fraction * training["steps"]))


def _run(section: Section, arm: str, seed: int = 0, **changed: Any) -> dict[str, Any]:
    """One run; ``match`` becomes the model that another's size is matched to, and by what."""
    settings = section["arms"][arm]
    match = settings.get("match")
    return {
        "arm": arm,
        "model": _model(section, arm),
        "match": {by: _model(section, other) for by, other in match.items()} if match else None,
        "penalty": section["penalty"],
        "training": {**section["training"], **settings.get("training", {})},
        "seed": seed,
        "rate": None,
        "start": None,
    } | changed


def _model(section: Section, arm: str) -> dict[str, Any]:
    return {**section["model"], **section["arms"][arm]["model"]}
