"""The training runs behind figure 22's associative recall, from its section of the configuration.

A run is named ``arm-seed``; in the sweep of learning rates ``arm-rate-0.01-seed``. All arms read
as many tokens in as many steps, and equal seeds the same examples in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from tgn.text.recall import Recall

Section = Mapping[str, Any]
Planned = dict[str, dict[str, Any]]


def runs(section: Section) -> Planned:
    """Every run of the figure, by name, as arguments of :func:`tgn.training.synthetic.train`.

    They are each arm at each of the ``widths`` with its seeds. An arm that is not as wide as
    ``model`` says is called ``arm_d128``; its MLP is as much wider.
    """
    return {
        f"{run['arm']}-{seed}": run | {"seed": seed}
        for settings, run in _arms(section)
        for seed in range(settings.get("seeds", section["seeds"]))
    }


def sweep(section: Section) -> Planned:
    """Runs for each arm and learning rate, by name, with the seeds after all of the figure's.

    They are ``sweep_seeds``, since whether recall is learnt in time can hang on the seed. Their
    test sets are not read. Validation sets are every ``sweep_evaluate_every`` steps, if not None:
    how soon a task is solved tells one rate from another.
    """
    first = max(run["seed"] for run in runs(section).values()) + 1
    planned = {}
    for _, run in _arms(section):
        steps = max(1, round(section["sweep_fraction"] * run["training"]["steps"]))
        training = {**run["training"], "steps": steps}
        if every := section["sweep_evaluate_every"]:
            training["evaluate_every"] = every
        shorter = {"training": training, "test_tasks": []}
        for rate, after in product(section["rate_grid"], range(section["sweep_seeds"])):
            planned[f"{run['arm']}-rate-{rate:g}-{first + after}"] = (
                run | shorter | {"seed": first + after, "rate": rate}
            )
    return planned


def tasks(section: Section, which: str) -> list[dict[str, Any]]:
    """The tasks of ``train`` or ``test``, lists of [length, pairs] and in training their weight.

    Raises
    ------
    ValueError
        If a task cannot be: too many pairs for the length, too small a vocabulary.
    """
    found = []
    for length, pairs, *weight in section[which]:
        task = {**section["task"], "input_seq_len": length, "num_kv_pairs": pairs}
        Recall(**task)
        found.append({"kind": "recall", **task, **dict(zip(["weight"], weight, strict=False))})
    return found


def _arms(section: Section) -> Iterator[tuple[Section, dict[str, Any]]]:
    """The settings of each arm at each width, and its run but for seed and rate."""
    train, test = tasks(section, "train"), tasks(section, "test")
    sizes = {
        "vocabulary": section["task"]["vocab_size"],
        "context": max(task["input_seq_len"] for task in [*train, *test]),
    }
    usual = section["model"]["width"]
    for width in section["widths"]:
        wide = {"width": width, "mlp_width": section["model"]["mlp_width"] * width // usual}
        for arm, settings in section["arms"].items():
            yield (
                settings,
                {
                    "arm": arm if width == usual else f"{arm}_d{width}",
                    "model": {**sizes, **section["model"], **wide, **settings["model"]},
                    "train_tasks": train,
                    "test_tasks": test,
                    "training": {**section["training"], **settings.get("training", {})},
                    "penalty": settings.get("penalty", section["penalty"]),
                    "rate": None,
                },
            )
