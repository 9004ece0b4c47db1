"""The training runs behind figures 21, 22, gravity and constraints, from the configuration.

A run is named ``arm-seed``, with what sets it apart in between: ``tgn-0``, ``tgn-penalty-0.02-0``,
``tgn-ramp-slow-0``, ``mamba-rate-0.01-0``. What is trained alike has one name, so that no figure
trains what another has; where figure 22 has another model or training than figure 21, its runs are
called ``convergence-arm-seed``. Those of the figure of gravity are ``gravity-arm-seed``, those of
the controlled family of the figure of constraints ``constraints-design-seed``.

A run without a rate of its own takes its arm's best one from the table of the section that
``rates`` names: ``language_model`` (figure 21), ``convergence`` (figure 22) or ``gravity``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Section = Mapping[str, Any]

Planned = dict[str, dict[str, Any]]

FLAT = "flat"  # the control of the ramps: as long, the penalty left as it is
REFERENCE = "transformer"  # with which figure 22 compares
GRAVITY_TIMED = ("vanilla", "gravity", "published")  # arms whose training steps are timed
MEAN = "mean"  # what rows over all seeds have for a seed, in figure 22's tables


def runs(section: Section) -> Planned:
    """Every run of figure 21, by name, as arguments of :func:`tgn.training.run.train`.

    They are each arm with its seeds; the arm ``swept`` with each of the other ``penalties``; and,
    from the trained weights of its seed 0, a ramp of the penalty up and down at each of the
    ``ramps``, whose lengths are fractions of a run, and the longest without any ramp, as control.
    """
    swept, penalty = section["swept"], section["penalty"]
    planned = _seeded(section)
    for other in section["penalties"]:
        planned[f"{swept}-penalty-{other:g}-0"] = _run(section, swept, penalty=other)
    low, high = penalty / section["ramp_factor"], penalty * section["ramp_factor"]
    for name, fraction in section["ramps"].items():
        up_and_down = [[0, low], [0.5, high], [1, low]]
        planned[f"{swept}-ramp-{name}-0"] = _ramp(section, up_and_down, fraction)
    longest = max(section["ramps"].values())
    planned[f"{swept}-ramp-{FLAT}-0"] = _ramp(section, [[0, penalty], [1, penalty]], longest)
    return planned


def sweep(section: Section) -> Planned:
    """A run for each arm and learning rate, by name, with the seed after the figure's own.

    An arm may have a ``rate_grid`` of its own.
    """
    planned = {
        f"{arm}-rate-{rate:g}-0": _run(section, arm, seed=settings.get("seeds", 1), rate=rate)
        for arm, settings in section["arms"].items()
        for rate in settings.get("rate_grid", section["rate_grid"])
    }
    for run in planned.values():
        _shorten(run["training"], section["sweep_fraction"])
        # by the validation split a rate is chosen; figures read the other
        run["training"]["evaluation"] = {
            **(run["training"].get("evaluation") or {}),
            "splits": ["validation", "test"],
        }
    return planned


def convergence_runs(language: Section, convergence: Section) -> Planned:
    """Every run of figure 22's convergence, by name, as :func:`runs`.

    Parameters
    ----------
    language
        The section of figure 21, whose ``arms`` may be named by those of the other.
    convergence
        ``arms``, ``seeds`` of each, and ``model`` and ``training``: what differs from figure 21.
    """
    planned = _seeded(_joined(language, convergence))
    own = _own(language, convergence)
    for run in planned.values():
        run["rates"] = "convergence" if run["arm"] in own else "language_model"
    return _named(planned, convergence)


def convergence_sweep(language: Section, convergence: Section) -> Planned:
    """The sweep of the arms whose learning rate figure 21 does not choose, as :func:`sweep`."""
    own = _own(language, convergence)
    planned = sweep(_joined(language, convergence))
    return _named({k: run for k, run in planned.items() if run["arm"] in own}, convergence)


def gravity_runs(language: Section, gravity: Section) -> Planned:
    """Every run of the figure of gravity, by name, as :func:`runs`.

    Beside the arguments of a training they hold ``text``, the section whose tokens are read.

    Parameters
    ----------
    language
        The section of figure 21.
    gravity
        ``arms``, in which ``rates_of`` names an arm whose learning rate is taken; ``penalty``, on
        repulsion; and ``model`` and ``training``: what differs from figure 21.
    """
    return _of_gravity(_seeded(_with_gravity(language, gravity)), gravity)


def gravity_screening(language: Section, gravity: Section) -> Planned:
    """Every arm of that figure once, at the ``screening_seed``, as :func:`gravity_runs`."""
    section, seed = _with_gravity(language, gravity), gravity["screening_seed"]
    planned = {f"{arm}-{seed}": _run(section, arm, seed=seed) for arm in section["arms"]}
    return _of_gravity(planned, gravity)


def gravity_sweep(language: Section, gravity: Section) -> Planned:
    """The sweep of the arms that have a learning rate of their own, as :func:`sweep`."""
    planned = sweep(_with_gravity(language, gravity))
    own = {k: run for k, run in planned.items() if "rates_of" not in gravity["arms"][run["arm"]]}
    return _of_gravity(own, gravity)


def _with_gravity(language: Section, gravity: Section) -> Section:
    parts = {key: {**language[key], **gravity[key]} for key in ("model", "training")}
    return {**gravity, **parts}


def _of_gravity(planned: Planned, gravity: Section) -> Planned:
    """The runs under their names, each with its table of rates and its text."""
    text = "gravity" if gravity["text"] else "language_model"
    return {
        f"gravity-{name}": {
            **run,
            "rates": "gravity",
            "text": text,
            "rates_of": gravity["arms"][run["arm"]].get("rates_of", run["arm"]),
        }
        for name, run in planned.items()
    }


def constraints_runs(language: Section, constraints: Section) -> Planned:
    """Every run of the controlled family, by name, as :func:`runs`: plain attention stacks.

    A design is the base, or the base with another value of one measure: ``base``, ``depth_12``.
    All are trained alike, at one learning rate.

    Parameters
    ----------
    language
        The section of figure 21.
    constraints
        Its ``family``: ``model`` and ``training``, what differs from figure 21 in the base;
        ``varied``, values of a measure of the model; ``rate``; and ``seeds`` of every design.
    """
    family = constraints["family"]
    designs = {"base": {}} | {
        f"{measure}_{value}": {measure: value}
        for measure, values in family["varied"].items()
        for value in values
    }
    section = {
        "model": {**language["model"], **family["model"], "mixer": "attention"},
        "training": {**language["training"], **family["training"]},
        "penalty": 0.0,
        "arms": {
            name: {"model": design, "seeds": family["seeds"]} for name, design in designs.items()
        },
    }
    planned = _seeded(section)
    return {f"constraints-{name}": {**run, "rate": family["rate"]} for name, run in planned.items()}


def shakespeare_runs(section: Section) -> Planned:
    """Every run on TinyShakespeare, by name, as :func:`runs`: each arm with its seeds.

    Learning rates are not swept: ``rate`` is the arm's own, or else the section's.
    """
    arms = section["arms"]
    return {
        name: {**run, "rate": arms[run["arm"]].get("rate", section["rate"])}
        for name, run in _seeded(section).items()
    }


def shares(convergence: Section) -> bool:
    """Whether arms of both figures are trained alike, and so once."""
    return not (convergence["model"] or convergence["training"])


def _own(language: Section, convergence: Section) -> set[str]:
    """The arms whose learning rates figure 22 chooses for itself."""
    arms = set(convergence["arms"])
    return arms - set(language["arms"]) if shares(convergence) else arms


def _joined(language: Section, convergence: Section) -> Section:
    """Figure 21's section with the arms of figure 22, and what differs there."""
    return {
        **language,
        **{key: {**language[key], **convergence[key]} for key in ("model", "training")},
        **{key: convergence[key] for key in ("rate_grid", "sweep_fraction")},
        "arms": {
            arm: {**language["arms"].get(arm, {}), "seeds": convergence["seeds"], **settings}
            for arm, settings in convergence["arms"].items()
        },
    }


def _named(planned: Planned, convergence: Section) -> Planned:
    prefix = "" if shares(convergence) else "convergence-"
    return {prefix + name: run for name, run in planned.items()}


def _seeded(section: Section) -> Planned:
    """Each arm with its seeds."""
    return {
        f"{arm}-{seed}": _run(section, arm, seed=seed)
        for arm, settings in section["arms"].items()
        for seed in range(settings.get("seeds", 1))
    }


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
        "penalty": settings.get("penalty", section["penalty"]),
        "training": {**section["training"], **settings.get("training", {})},
        "seed": seed,
        "rate": None,
        "rates": "language_model",
        "start": None,
    } | changed


def _model(section: Section, arm: str) -> dict[str, Any]:
    return {**section["model"], **section["arms"][arm]["model"]}
