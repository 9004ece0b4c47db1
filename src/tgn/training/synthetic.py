"""Training on synthetic tasks: batches drawn as they are needed, accuracy on fresh examples.

A task is a line of configuration: a ``kind``, one of :data:`KINDS`, with the arguments of its
class. Training examples are streamed: none is seen twice, so there are no epochs and nothing to
memorise, and all arms of one seed see the same examples in the same order. Batches, validation and
test sets come from generators of their own, ``default_rng([seed, split, ...])``. The learning rate
is chosen on the validation sets; the test sets are read once, at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from tgn.files import replacing, write_table
from tgn.models import Model, build, io
from tgn.models.config import ModelConfig
from tgn.models.sizes import parameters
from tgn.text.associative import SingleRecall
from tgn.text.listops import ListOps
from tgn.text.recall import IGNORED, Examples, Recall
from tgn.text.recall import accuracy as answered
from tgn.training import checkpoints
from tgn.training.batches import Batches
from tgn.training.loop import Penalty, fit
from tgn.training.run import best_rate, matched

KINDS: dict[str, Any] = {"recall": Recall, "associative": SingleRecall, "listops": ListOps}
TRAIN, VALIDATION, TEST = range(3)
OPEN = 0.5  # a gate above it counts as open
LOGITS = 2**24  # at a time, which bounds memory
OCCUPANCY = ["layer", "position", "gate", "standard_error", "open", "n"]

TaskSettings = Mapping[str, Any]
Runs = Mapping[str, Mapping[str, Any]]


class Task(Protocol):
    """What draws examples, a dataclass whose fields are the task's settings.

    It may have ``context``, the number of tokens in front that hold what is asked for.
    """

    @property
    def input_seq_len(self) -> int: ...

    def draw(self, rng: np.random.Generator, num_examples: int, /) -> Examples:
        """Inputs and labels, int64, (n, T), with -100 where nothing is asked."""


def train(
    *,
    train_tasks: Sequence[TaskSettings],
    test_tasks: Sequence[TaskSettings],
    model: Mapping[str, Any],
    training: Mapping[str, Any],
    seed: int,
    checkpoint: str | Path,
    metrics: str | Path,
    accuracy: str | Path,
    occupancy: str | Path,
    state: str | Path,
    validation_tasks: Sequence[TaskSettings] | None = None,
    penalty: Penalty = 0.0,
    match: Mapping[str, Mapping[str, Any]] | None = None,
    rate: float | None = None,
    rates: str | Path | None = None,
    trajectory: str | Path | None = None,
    timings: str | Path | None = None,
    library: Sequence[str | Path] = (),
    tensorboard: str | Path | None = None,
    arm: str = "model",
) -> None:
    """Train a model on tasks, or go on where it was cut off, and test it.

    Every batch is of one task, drawn with the tasks' weights.

    Parameters
    ----------
    train_tasks, test_tasks
        Arguments of a task's class, with its ``kind``, and in training maybe a ``weight`` (1).
    model
        Arguments of :class:`tgn.models.config.ModelConfig`.
    training
        ``batch`` (tokens: as many sequences of a task as fit), ``validation_examples`` and
        ``test_examples`` (sequences of each task), maybe ``solved`` (the validation accuracy, mean
        over tasks, at which a run ends before its last step), and arguments of
        :func:`tgn.training.loop.fit`.
    checkpoint
        The ``model.safetensors`` to write; ``config.json`` goes beside it.
    metrics
        Parquet to write: :class:`tgn.training.loop.Fit`'s metrics, with ``validation_accuracy``,
        the mean over validation tasks.
    accuracy
        Parquet to write: the first table of :func:`test`, with ``arm`` and ``seed``.
    occupancy
        Parquet to write: the second table of :func:`test`, with ``arm`` and ``seed``.
    state
        Side directory for the state of an unfinished run.
    validation_tasks
        What is read at every evaluation; the training tasks when None.
    match
        Another model to equal in size, see :func:`tgn.training.run.matched`.
    rate, rates
        The learning rate, or a table of the best ones by arm, made by :func:`choose_rates`.
    trajectory
        Parquet to write: :func:`examine`'s tables of all evaluations, with ``step`` and ``task``
        (number), a row for each sequence.
    timings
        Parquet to write, see :class:`tgn.training.loop.Fit`.
    library
        Library files on which the weights depend: a state of other files is not gone on with.

    Raises
    ------
    ValueError
        If the configuration is wrong.
    FloatingPointError
        If the loss or the gradient is not finite.
    """
    settings = dict(training)
    batch, precision = settings.pop("batch"), settings.get("precision", "no")
    n_validation, n_test = settings.pop("validation_examples"), settings.pop("test_examples")
    solved = settings.pop("solved", None)
    if rate is not None or rates is not None:
        rate = best_rate(rates, arm) if rate is None else rate
        settings["optimizer"] = {**settings["optimizer"], "learning_rate": rate}
    trained = {**training, "optimizer": settings.get("optimizer", {})}
    config = matched(model, match)
    validated_tasks = train_tasks if validation_tasks is None else validation_tasks
    key = checkpoints.resume_key(
        {
            "model": config.to_dict(),
            "tasks": [dict(task) for task in [*train_tasks, *validated_tasks]],
            "training": trained,
            "penalty": penalty,
            "seed": seed,
        },
        library,
    )
    tasks = [make_task(task) for task in train_tasks]
    held_out = [
        (task, task.draw(np.random.default_rng([seed, VALIDATION, number]), n_validation))
        for number, task in enumerate(map(make_task, validated_tasks))
    ]

    def validate(network: Any) -> pd.DataFrame:
        return pd.concat(
            [
                examine(network, *examples, context=_context(task)).assign(task=number)
                for number, (task, examples) in enumerate(held_out)
            ]
        )

    def is_solved(validated: pd.DataFrame) -> bool:
        return solved is not None and float(validated["accuracy"].mean()) >= solved

    torch.manual_seed(seed)
    network = build(config)
    fitted = fit(
        network,
        stream(tasks, [task.get("weight", 1) for task in train_tasks], batch=batch, seed=seed),
        penalty=penalty,
        seed=seed,
        evaluate=validate,
        stop=is_solved,
        state_folder=state,
        key=key,
        tensorboard=tensorboard,
        description=arm,
        **settings,
    )
    with torch.autocast(_device(network).type, torch.bfloat16, enabled=precision == "bf16"):
        accuracies, occupancies = test(network.eval(), test_tasks, n_test, seed)
    io.save(
        Path(checkpoint).parent,
        network,
        config,
        metadata={"arm": arm, "seed": seed, "penalty": penalty, "training": trained},
    )
    validated = fitted.trajectory.groupby("step")["accuracy"].mean()
    tables = {
        metrics: fitted.metrics.assign(validation_accuracy=fitted.metrics["step"].map(validated)),
        accuracy: accuracies.assign(arm=arm, seed=seed),
        occupancy: occupancies.assign(arm=arm, seed=seed),
        trajectory: fitted.trajectory,
        timings: fitted.timings,
    }
    for path, table in tables.items():
        if path is not None:
            write_table(path, table)
    checkpoints.remove(state, key)


def test(
    model: Model, tasks: Sequence[TaskSettings], examples: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Accuracies and gates on fresh examples, as many of each task.

    Returns
    -------
    accuracies
        A row for each task: ``kind``, its parameters, ``parameters`` and ``state_bytes`` of the
        model, and :func:`accuracy_row`.
    occupancies
        :func:`occupancy_rows` of each task, with ``kind`` and its parameters; no rows for a model
        without gates.
    """
    accuracies, occupancies = [], []
    for number, settings in enumerate(tasks):
        task = make_task(settings)
        inputs, labels = task.draw(np.random.default_rng([seed, TEST, number]), examples)
        examined = examine(model, inputs, labels, context=_context(task))
        about = {"kind": settings["kind"], **asdict(task)}
        sizes = {
            "parameters": parameters(model.config),
            "state_bytes": state_bytes(model.config, inputs.shape[1]),
        }
        accuracies.append(about | sizes | accuracy_row(examined))
        occupancies += [about | row for row in occupancy_rows(examined)]
    gates = pd.DataFrame(occupancies, columns=None if occupancies else OCCUPANCY)
    return pd.DataFrame(accuracies), gates


def make_task(settings: TaskSettings) -> Any:
    """The task that a line of configuration names.

    Raises
    ------
    ValueError
        If the kind is unknown or its arguments are wrong.
    """
    arguments = {name: value for name, value in settings.items() if name not in ("kind", "weight")}
    kind = settings["kind"]
    if kind not in KINDS:
        raise ValueError(f"task: kind {kind!r} given; known are {', '.join(KINDS)}")
    try:
        return KINDS[kind](**arguments)
    except TypeError as error:
        raise ValueError(f"task {kind}: {error}") from None


def stream(tasks: Sequence[Task], weights: Sequence[float], *, batch: int, seed: int) -> Batches:
    """Batches of fresh examples, each of one task: a pure function of the seed and the step.

    Parameters
    ----------
    weights
        The shares of the batches that the tasks get, up to a factor.
    batch
        Tokens: as many sequences as fit.

    Returns
    -------
    A function of the step, from 0, that returns inputs and labels, int64, shape (sequences, T).

    Raises
    ------
    ValueError
        If a sequence does not fit into a batch.
    """
    if (longest := max(task.input_seq_len for task in tasks)) > batch:
        raise ValueError(f"a batch of {batch} tokens has no room for a sequence of {longest}")
    shares = np.asarray(weights, dtype=float) / np.sum(weights)

    def draw(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng([seed, TRAIN, step])
        task = tasks[rng.choice(len(tasks), p=shares)]
        inputs, labels = task.draw(rng, batch // task.input_seq_len)
        return torch.from_numpy(inputs), torch.from_numpy(labels)

    return draw


@torch.no_grad()
def examine(
    model: Model,
    inputs: NDArray[np.int64],
    labels: NDArray[np.int64],
    *,
    context: int = 0,
) -> pd.DataFrame:
    """What a model answers, and what its gates do, by sequence.

    Parameters
    ----------
    inputs, labels
        Shape (N, T); every sequence has a label.
    context
        Tokens in front that hold what is asked for.

    Returns
    -------
    table of N rows with columns ``nats`` (sum over labels), ``targets`` (labels), ``accuracy``
    (share of labels that are the likeliest token), ``among`` (share of likeliest tokens that are
    any label of the sequence); of models with gates also ``gate`` and, for each layer and class of
    position that the task has (query, context, other), ``gate_0_query`` (mean) and
    ``open_0_query`` (share above 1/2), ...
    """
    device = _device(model)
    rows = max(1, LOGITS // (inputs.shape[1] * model.config.vocabulary))
    parts = []
    for start in range(0, len(inputs), rows):
        tokens, asked_labels = inputs[start : start + rows], labels[start : start + rows]
        output = model(torch.from_numpy(tokens).to(device))
        asked = asked_labels != IGNORED
        logits = output.logits[torch.from_numpy(asked).to(device)].float()
        wanted = torch.from_numpy(asked_labels[asked])
        predictions = np.full_like(asked_labels, IGNORED)
        predictions[asked] = logits.argmax(dim=-1).cpu().numpy()
        nats = np.zeros(asked.shape)
        nats[asked] = F.cross_entropy(logits.cpu(), wanted, reduction="none").numpy()
        columns = {
            "nats": nats.sum(axis=1),
            "targets": asked.sum(axis=1),
            "accuracy": answered(predictions, asked_labels),
            "among": _among(predictions, asked_labels),
        }
        if output.gates is not None:
            gates = output.gates.float().cpu().numpy()
            columns |= {"gate": gates.mean(axis=(0, 2)), **_by_position(gates, asked, context)}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def _among(predictions: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of each sequence's answers that are one of its labels, rightly placed or not."""
    asked = labels != IGNORED
    most = max(predictions.max(), labels.max())
    apart = (1 + most) * np.arange(len(labels))[:, None]  # rows share no numbers
    found = np.isin(predictions + apart, (labels + apart)[asked])
    return (found & asked).sum(axis=1) / asked.sum(axis=1)


def _by_position(gates: NDArray, asked: NDArray, context: int) -> dict[str, NDArray]:
    """Means of gates (layers, N, T) and shares of open ones, by layer and class of position."""
    in_front = np.arange(asked.shape[1]) < context
    masks = {
        "query": asked,
        "context": in_front & ~asked,
        "other": ~in_front & ~asked,
    }
    found = {}
    for position, mask in masks.items():
        if not mask.any(axis=1).all():
            continue
        for layer, gate in enumerate(gates):
            for name, values in (("gate", gate), ("open", gate > OPEN)):
                found[f"{name}_{layer}_{position}"] = np.average(values, axis=1, weights=mask)
    return found


def accuracy_row(examined: pd.DataFrame) -> dict[str, float]:
    """A test set's numbers, of a table of :func:`examine`.

    Returns
    -------
    dict with ``accuracy`` and ``among``, means over sequences; ``standard_error`` of the accuracy,
    over sequences; ``nats`` for each label; ``n`` sequences
    """
    return {
        "accuracy": float(examined["accuracy"].mean()),
        "standard_error": float(examined["accuracy"].sem()),
        "among": float(examined["among"].mean()),
        "nats": float(examined["nats"].sum() / examined["targets"].sum()),
        "n": len(examined),
    }


def occupancy_rows(examined: pd.DataFrame) -> list[dict[str, Any]]:
    """What gates do on a test set, by layer and class of position; nothing without gates.

    Returns
    -------
    dicts with ``layer``, ``position``, ``gate`` (mean over sequences), ``standard_error`` of it,
    ``open`` (share of gates above 1/2) and ``n`` sequences
    """
    rows = []
    for column in examined.filter(regex="^gate_[0-9]+_"):
        _, layer, position = column.split("_")
        rows.append(
            {
                "layer": int(layer),
                "position": position,
                "gate": float(examined[column].mean()),
                "standard_error": float(examined[column].sem()),
                "open": float(examined[f"open_{layer}_{position}"].mean()),
                "n": len(examined),
            }
        )
    return rows


def state_bytes(config: ModelConfig, length: int) -> int:
    """Bytes that a model keeps of one sequence of this length, to go on from there.

    They are summed over the tensors of the cache that the model itself makes for it, in single
    precision: keys and values grow with the length, states do not.
    """
    with torch.autocast("cpu", enabled=False):
        return _bytes(build(replace(config, context=length)).new_cache(1))


def _bytes(cache: Any) -> int:
    if isinstance(cache, torch.Tensor):
        return cache.numel() * cache.element_size() if cache.ndim else 0  # 0 axes: a counter
    parts = cache.values() if isinstance(cache, dict) else cache if isinstance(cache, list) else ()
    return sum(map(_bytes, parts))


def choose_rates(*, metrics: Sequence[str | Path], runs: Runs, table: str | Path) -> None:
    """Write a table of learning rates by arm and seed: validation accuracies, and the best rates.

    The best rate has the highest accuracy, mean over seeds. A run that ended because the task was
    solved counts as just solved, its accuracy and loss being those of the moment: of rates at which
    all seeds solve it, the one that needs the fewest steps is the best. Of equal ones otherwise,
    the one with the lower loss.

    Parameters
    ----------
    metrics
        ``metrics.parquet`` of every run of the sweep, in a folder of the run's name.
    runs
        The sweep's runs by name, with ``arm``, ``rate``, ``seed`` and ``training``.
    table
        CSV to write: ``arm``, ``rate``, ``seed``, ``validation_accuracy``, ``validation_nats`` (for
        each label), ``steps`` and ``best``, the same for all seeds of a rate.
    """
    rows = []
    for path in metrics:
        run, last = runs[Path(path).parent.name], pd.read_parquet(path).iloc[-1]
        accuracy, nats = (round(last[f"validation_{name}"], 6) for name in ("accuracy", "loss"))
        solved = run["training"].get("solved")
        reached = accuracy if solved is None else min(accuracy, solved)
        steps = int(last["step"])
        rows.append((run["arm"], run["rate"], run["seed"], accuracy, nats, steps, reached))
    of_run = ["arm", "rate", "seed"]
    columns = [*of_run, "validation_accuracy", "validation_nats", "steps", "reached"]
    found = pd.DataFrame(rows, columns=columns).sort_values(of_run, ignore_index=True)
    means = found.groupby(["arm", "rate"], as_index=False).mean()
    means["reached"] = means["reached"].round(6)  # equal ones are equal, however they were added
    order = means.sort_values(
        ["reached", "steps", "validation_nats"], ascending=[False, True, True], kind="stable"
    )
    best = order.drop_duplicates("arm").set_index("arm")["rate"]
    found["best"] = found["rate"] == found["arm"].map(best)
    with replacing(table) as temporary:
        found.drop(columns="reached").to_csv(temporary, index=False)


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _context(task: Task) -> int:
    return getattr(task, "context", 0)
