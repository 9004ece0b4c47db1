"""The training runs behind the small recall tasks, from their section of the configuration.

A run is named ``task-arm-seed``; in the sweep of learning rates ``task-arm-rate-0.01-seed``. Of a
task, all arms have the parameters of one among them, which ``equal`` names, and read as many
tokens in as many steps; equal seeds read the same examples in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tgn.text import listops
from tgn.text.associative import SingleRecall

Section = Mapping[str, Any]
Planned = dict[str, dict[str, Any]]

TASKS = ("associative", "listops")
SPLITS = ("train", "validation", "test")


def runs(section: Section) -> Planned:
    """Every run, by name, as arguments of :func:`tgn.training.synthetic.train`, and its task."""
    return {
        f"{task}-{arm}-{seed}": _run(section, task, arm, seed)
        for task in TASKS
        for arm, settings in section["arms"].items()
        if task in settings.get("tasks", TASKS)
        for seed in range(settings.get("seeds", section["seeds"]))
    }


def sweep(section: Section) -> Planned:
    """A run for each task, arm and learning rate, by name, with the seed after all of the others.

    Their test sets are not read.
    """
    planned = runs(section)
    seed = max(run["seed"] for run in planned.values()) + 1
    pairs = dict.fromkeys((run["task"], run["arm"]) for run in planned.values())
    return {
        f"{task}-{arm}-rate-{rate:g}-{seed}": _run(section, task, arm, seed)
        | {"rate": rate, "test_tasks": []}
        for task, arm in pairs
        for rate in section["rate_grid"]
    }


def by_task(planned: Planned, task: str) -> Planned:
    """The runs of a task."""
    return {name: run for name, run in planned.items() if run["task"] == task}


def gated(planned: Planned) -> Planned:
    """The runs whose models have gates."""
    return {name: run for name, run in planned.items() if run["model"].get("mixer") == "gated"}


def tasks(section: Section, task: str, which: str) -> list[dict[str, Any]]:
    """The tasks of ``train``, ``validation`` or ``test``, as lines of configuration."""
    settings = section["tasks"][task]
    return [{"kind": task, **settings["task"], **changed} for changed in settings[which]]


def check(section: Section) -> None:
    """What would otherwise be found out only in the jobs.

    Raises
    ------
    ValueError
        If a task cannot be made, splits are not apart, models cannot read it, or a name is
        unknown; says where.
    """
    known, equal = section["arms"], section["equal"]
    if equal not in known:
        raise ValueError(f"recall_tasks.equal: {equal!r} given; arms has {', '.join(known)}")
    for task in TASKS:
        settings, where = section["tasks"][task], f"recall_tasks.tasks.{task}"
        # the intervals of gates need it, and those of accuracies are content with it
        if not any(run["seed"] for run in gated(by_task(runs(section), task)).values()):
            raise ValueError(
                f"recall_tasks.arms: on {task} one with gates needs 2 seeds, for their spread"
            )
        if task not in known[equal].get("tasks", TASKS):
            raise ValueError(f"recall_tasks.equal: {equal} is not trained on {task}")
        lengths = {which: [_length(section, task, which, line) for line in settings[which]]
                   for which in SPLITS}  # fmt: skip
        if len(set(lengths["test"])) > 1:
            raise ValueError(f"{where}.test: sequences of one length, got {lengths['test']}")
        longest = max(max(found) for found in lengths.values())
        if settings["model"]["context"] < longest:
            raise ValueError(
                f"{where}.model.context: {settings['model']['context']} given; the longest "
                f"sequence has {longest} tokens"
            )
        batch = {**section["training"], **settings["training"]}["batch"]
        if batch < max(lengths["train"]):
            raise ValueError(
                f"{where}: a batch of {batch} tokens given; the longest sequence in training has "
                f"{max(lengths['train'])}"
            )


def _length(section: Section, task: str, which: str, line: Mapping[str, Any]) -> int:
    """Tokens of a sequence of a line of configuration, which is checked."""
    settings, where = section["tasks"][task], f"recall_tasks.tasks.{task}.{which}"
    try:
        if task == "associative":
            made: Any = SingleRecall(**settings["task"], **line)
            tokens = made.vocab_size
        else:
            made, tokens = listops.ListOps(**settings["task"], **line), listops.VOCABULARY
            if made.part != which:
                raise ValueError(f"part must be {which}, so that no expression is in two splits")
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from None
    if settings["model"]["vocabulary"] < tokens:
        raise ValueError(
            f"recall_tasks.tasks.{task}.model.vocabulary: {settings['model']['vocabulary']} given; "
            f"the task has {tokens} tokens"
        )
    return int(made.input_seq_len)


def _run(section: Section, task: str, arm: str, seed: int) -> dict[str, Any]:
    own, settings = section["tasks"][task], section["arms"][arm]
    equal = section["equal"]
    return {
        "task": task,
        "arm": arm,
        "model": _model(section, task, arm),
        "match": None if arm == equal else {"parameters": _model(section, task, equal)},
        **{f"{which}_tasks": tasks(section, task, which) for which in ("train", "validation")},
        "test_tasks": tasks(section, task, "test"),
        "training": {**section["training"], **own["training"]},
        "penalty": settings.get("penalty", own["penalty"]),
        "seed": seed,
        "rate": None,
    }


def _model(section: Section, task: str, arm: str) -> dict[str, Any]:
    return {
        **section["model"],
        **section["tasks"][task]["model"],
        **section["arms"][arm]["model"],
    }
