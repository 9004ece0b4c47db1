"""The training loop: one for every model and task, exact in going on after a crash.

The loop knows nothing of text. A batch is inputs and targets (B, T), in which -100 marks what is
not to be predicted. A model is called with inputs and ``targets=`` and returns ``loss``, the mean
cross-entropy over its targets, and ``gates`` (layers, B, T) or None; without targets, ``logits``.
What is minimised is

    cross-entropy, mean over targets + lambda(step) * mean of the gates over layers and tokens.

Every process reads the global batch, which costs little, and trains on its share of the rows. So
all know how many targets the batch has, and the mean weighs each target the same however they fall
on processes and micro-batches.
"""

from __future__ import annotations

import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import gather_object
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.tensorboard import SummaryWriter

from tgn.files import replacing
from tgn.progress import bar
from tgn.text.recall import IGNORED
from tgn.training import checkpoints, optimizers
from tgn.training.batches import Batches

PRECISIONS = ("no", "bf16")
# What TensorBoard calls the columns of `Fit.metrics`, where not as they are called.
TAGS = {
    "loss": "loss/train",
    "validation_loss": "loss/val",
    "learning_rate": "lr",
    "gradient_norm": "grad_norm",
}
PROJECTED = "coordinates"

Penalty = float | Sequence[tuple[float, float]]
Projection = Callable[[nn.Module], tuple[torch.Tensor, Sequence[str]]]


class Fit(NamedTuple):
    """What a training run leaves beside the weights.

    Attributes
    ----------
    metrics
        A row for every record, the same bytes in every run: ``step`` and ``tokens`` seen,
        ``loss`` (cross-entropy in nats, mean over the steps since the last record; missing at
        step 0), ``gate`` and ``gate_0``, ``gate_1``, ... (means over tokens, by layer; models with
        gates only), ``penalty``, ``learning_rate``, ``gradient_norm`` (before clipping), and of
        evaluations ``validation_loss`` and ``validation_gate``, ``validation_gate_0``, ..., with
        what ``watch`` found.
    trajectory
        The tables of all evaluations, with columns ``step``, ``tokens`` and ``penalty``.
    timings
        For the same steps ``seconds`` and ``cpu_seconds`` of training since its start, evaluation
        and saving left out, those before a crash counted.
    """

    metrics: pd.DataFrame
    trajectory: pd.DataFrame
    timings: pd.DataFrame


def fit(
    model: nn.Module,
    batches: Batches,
    *,
    steps: int,
    optimizer: Mapping[str, Any],
    schedule: Mapping[str, Any] | None = None,
    penalty: Penalty = 0.0,
    penalty_every: int = 1,
    clip: float = 1.0,
    micro_batches: int = 1,
    precision: str = "no",
    seed: int = 0,
    every: int = 10,
    evaluate: Callable[[nn.Module], pd.DataFrame] | None = None,
    evaluate_every: int | None = None,
    stop: Callable[[pd.DataFrame], bool] | None = None,
    watch: Callable[[nn.Module], Mapping[str, float]] | None = None,
    project: Projection | None = None,
    best: str | Path | None = None,
    state_folder: str | Path | None = None,
    key: str = "",
    save_every: int | None = None,
    tensorboard: str | Path | None = None,
    description: str = "training",
    cpu: bool = False,
) -> Fit:
    """Train a model in place; go on where a run of the same key was cut off.

    On the same CPU, with the same number of threads, the weights and the metrics are the same
    bytes in every run, cut off or not. Started in several processes (``tgn.training.launch``), it
    trains data-parallel. On SIGTERM, by which a cluster takes a machine back, it finishes the step
    and saves the state first.

    Parameters
    ----------
    model
        Moved to the device, and left there in training mode.
    batches
        From the step, from 0, to inputs and targets, int64, shape (B, T).
    optimizer, schedule
        Arguments of :func:`optimizers.make` and of :func:`optimizers.schedule`.
    penalty
        Lambda, or [(fraction of the run, lambda), ...], see :func:`penalty_at`: of gates, or of
        repulsion in gravity models. Nothing to other models.
    penalty_every
        Steps between those whose loss has the penalty in it.
    clip
        Greatest norm of the gradient.
    micro_batches
        Parts in which each process works through its rows, to need less memory.
    precision
        ``no`` for single, ``bf16`` for autocast to bfloat16.
    seed
        Of random layers, such as dropout; each process draws its own.
    every
        Steps between records.
    evaluate
        From the model, in evaluation mode and under the training's precision, to a table with a
        row for each unit of the evaluation (a window, an example): ``nats``, ``targets``, maybe
        ``gate`` and others. Every process calls it: at step 0, each ``evaluate_every`` steps and
        at the end.
    stop
        From an evaluation's table to whether the run ends there. Schedule and penalty stay those
        of a run of ``steps``.
    watch
        From the model to numbers of it, which are recorded with every evaluation.
    project
        From the model to points (n, channels) and their labels, without line breaks: with
        ``tensorboard``, each evaluation adds them to its Projector.
    best
        File to keep the weights of the evaluation with the least loss in, as safetensors; replaced
        by rename.
    state_folder, key, save_every
        Where the state is kept, under which name (:func:`checkpoints.resume_key`), and steps
        between saves, a multiple of ``every``. The state of the end is saved too and stays, until
        :func:`checkpoints.remove`. A state that was on the way to another number of steps goes on
        to this one, and says so: the schedule is planned anew, over the steps that are left.
    tensorboard
        Folder of an event file, which is written anew from the records when a run goes on.

    Raises
    ------
    SystemExit
        With status 143, after SIGTERM to any of its processes. A run that keeps no state dies of
        the signal.
    FloatingPointError
        If the loss or the gradient is not finite. It is noticed at the next record, so that a GPU
        need not be waited for in every step, and the first such step is named.
    ValueError
        If an argument is out of range, the batch does not divide among processes and
        micro-batches, a batch has no target, or the state has all the steps already.
    """
    _check(precision, steps, every, save_every, penalty_every)
    AcceleratorState._reset_state()  # an earlier run in this process may have had another precision
    accelerator = Accelerator(cpu=cpu or not torch.cuda.is_available(), mixed_precision=precision)
    entropy = np.random.SeedSequence((seed, accelerator.process_index))  # apart also from `seed`
    torch.manual_seed(int(entropy.generate_state(1, np.uint64)[0] >> 1))
    main = accelerator.is_main_process
    state = checkpoints.load(state_folder, key) if state_folder else None
    begin = _begin_of_plan(state, steps, description if main else None)
    shape = dict(schedule or {}, steps=steps - begin)
    training = _start(model.train(), accelerator, optimizer, shape)
    progress = _Progress(begin=begin, end=steps)
    measured: list[torch.Tensor] = []  # left on the device: no step waits for its numbers
    if state:
        progress, measured = _restore(training, state, progress)
    clock = _Clock(progress.seconds, progress.cpu_seconds)
    writer = _event_writer(tensorboard, progress.records) if tensorboard and main else None

    def evaluated() -> Mapping[str, float]:
        if evaluate is None:
            return {}
        model.eval()
        with clock.paused(), torch.no_grad(), accelerator.autocast():
            table = evaluate(model)
            found = _summary(table)
            if writer and project:
                _write_projection(writer, *project(model), progress.step)
            if best and main and found["validation_loss"] < _least_loss(progress.records):
                _write_weights(model, best)
        model.train()
        strength = penalty_at(penalty, progress.step / steps)
        place = {"step": progress.step, "tokens": progress.tokens, "penalty": strength}
        progress.trajectory += [{**place, **row} for row in table.to_dict("records")]
        progress.stopped = stop is not None and bool(stop(table))
        return found | dict(watch(model) if watch else {})

    def record(row: dict[str, float]) -> None:
        progress.seconds, progress.cpu_seconds = clock.read()
        progress.records.append(row)
        progress.timings.append(
            {"step": row["step"], "seconds": progress.seconds, "cpu_seconds": progress.cpu_seconds}
        )
        if writer:
            _write_event(writer, row)

    if not progress.records and (found := evaluated()):
        record({"step": 0, "tokens": 0, **found})
    shown: Any = range(progress.step, steps)
    if main:
        shown = bar(shown, desc=description, initial=progress.step, total=steps, unit="step")
    with _sigterm(accelerator) if state_folder else nullcontext(lambda: False) as terminated:
        for step in shown:
            if progress.stopped:
                break
            batch = batches(step)
            strength = penalty_at(penalty, step / steps)
            paid = strength if step % penalty_every == 0 else 0.0
            rate = training.optimizers[0].param_groups[0]["lr"]
            measured.append(_advance(training, batch, step, paid, clip, micro_batches))
            progress.step, progress.tokens = step + 1, progress.tokens + batch[0].numel()

            leaving, end = terminated(), progress.step == steps
            evaluating = end or _due(progress.step, evaluate_every)
            if evaluating or _due(progress.step, every):
                priced = getattr(model, "priced", "gate")
                means = _means(measured, progress.step, accelerator, priced)
                measured.clear()
                if main:
                    shown.set_postfix(loss=f"{means['loss']:.3f}", refresh=False)
                record(
                    {"step": progress.step, "tokens": progress.tokens}
                    | means
                    | {"penalty": strength, "learning_rate": rate}
                    | dict(evaluated() if evaluating else {})
                )
            saving = leaving or end or progress.stopped or _due(progress.step, save_every)
            if state_folder and saving:
                progress.seconds, progress.cpu_seconds = clock.read()
                with clock.paused():
                    _save(training, progress, measured, state_folder, key)
            if leaving:
                accelerator.wait_for_everyone()  # a process that ends ends the others
                if main:
                    kept = f"{description}: SIGTERM; its state after step {progress.step} is kept"
                    print(kept, file=sys.stderr)
                raise SystemExit(128 + signal.SIGTERM)
    if writer:
        writer.close()
    return Fit(
        pd.DataFrame(progress.records),
        pd.DataFrame(progress.trajectory),
        pd.DataFrame(progress.timings),
    )


def _summary(table: pd.DataFrame) -> dict[str, float]:
    """The loss over all targets of an evaluation, and the means of its gates."""
    loss = float(table["nats"].sum() / table["targets"].sum())
    gates = table.filter(like="gate").mean().dropna()
    return {"validation_loss": loss} | {f"validation_{name}": mean for name, mean in gates.items()}


def penalty_at(penalty: Penalty, done: float) -> float:
    """Lambda at a fraction of the run, between given ones straight, in logarithms if all are > 0.

    >>> penalty_at(0.002, 0.3), penalty_at([(0, 0.0), (0.5, 0.01), (1, 0.0)], 0.75)
    (0.002, 0.005)
    """
    if isinstance(penalty, int | float):
        return float(penalty)
    fractions, values = zip(*penalty, strict=True)
    if any(np.diff(fractions) < 0):
        raise ValueError(f"penalty: fractions of the run must ascend, got {list(fractions)}")
    if min(values) > 0:
        return float(np.exp(np.interp(done, fractions, np.log(values))))
    return float(np.interp(done, fractions, values))


class _Objective(nn.Module):
    """This process's share of the loss, as one module: what DDP and autocast wrap.

    The model itself stays as it is, without the wrappers' traces.
    """

    def __init__(self, model: nn.Module, processes: int) -> None:
        super().__init__()
        self.model = model
        self.processes = processes

    def forward(
        self,
        inputs: torch.Tensor,
        targets: torch.Tensor,
        own: int,
        count: int,
        rows: int,
        penalty: float,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss whose gradients, meant over processes and summed over parts, are the batch's.

        Also the shares of the batch's means: cross-entropy, and what is penalised by layer. Of the
        batch's `count` targets `own` are here; `rows` are the batch's.
        """
        if own:
            output = self.model(inputs, targets=targets)
            loss = output.loss * (own / count)
        else:  # a mean over nothing is not a number, and other processes wait for gradients
            output = self.model(inputs)
            loss = output.logits.sum() * 0.0
        shares = loss[None]
        priced = output.repulsion if output.gates is None else output.gates.float().mean(dim=(1, 2))
        if priced is not None:
            priced = priced * (len(inputs) / rows)
            loss = loss + penalty * priced.mean()
            shares = torch.cat([shares, priced])
        return loss * self.processes, shares.detach()


class _Training(NamedTuple):
    """What a step works on."""

    accelerator: Accelerator
    model: nn.Module
    objective: nn.Module
    optimizers: list[torch.optim.Optimizer]
    schedulers: list[LambdaLR]


@dataclass
class _Progress:
    """How far a run has come: what the state keeps beside tensors.

    The schedule goes from step ``begin`` to step ``end``.
    """

    begin: int = 0
    end: int = 0
    step: int = 0
    tokens: int = 0
    stopped: bool = False
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    records: list[dict[str, float]] = field(default_factory=list)
    trajectory: list[dict[str, float]] = field(default_factory=list)
    timings: list[dict[str, float]] = field(default_factory=list)


class _Clock:
    """Seconds and CPU seconds of training, which go on from those of an earlier process."""

    def __init__(self, seconds: float, cpu_seconds: float) -> None:
        self._offset = np.array([seconds, cpu_seconds]) - _now()

    def read(self) -> tuple[float, float]:
        seconds, cpu_seconds = (self._offset + _now()).tolist()
        return seconds, cpu_seconds

    @contextmanager
    def paused(self) -> Iterator[None]:
        start = _now()
        yield
        self._offset -= _now() - start


def _now() -> NDArray[np.float64]:
    return np.array([time.perf_counter(), time.process_time()])


def _start(
    model: nn.Module,
    accelerator: Accelerator,
    optimizer: Mapping[str, Any],
    schedule: Mapping[str, Any],
) -> _Training:
    objective = accelerator.prepare_model(_Objective(model, accelerator.num_processes))
    made = optimizers.make(model, **optimizer)
    schedulers = [optimizers.schedule(one, **schedule) for one in made]
    return _Training(accelerator, model, objective, made, schedulers)


def _advance(
    training: _Training,
    batch: tuple[torch.Tensor, torch.Tensor],
    step: int,
    penalty: float,
    clip: float,
    micro_batches: int,
) -> torch.Tensor:
    """One step; this process's shares: gradient norm, cross-entropy, what is penalised by layer."""
    accelerator, model, objective, *_ = training
    count = int((batch[1] != IGNORED).sum())
    if not count:
        raise ValueError(f"step {step}: the batch has no target to predict")
    rows = len(batch[0])
    own = slice(accelerator.process_index, None, accelerator.num_processes)
    if rows % (accelerator.num_processes * micro_batches):
        raise ValueError(
            f"a batch of {rows} rows does not divide among {accelerator.num_processes} processes "
            f"with {micro_batches} micro-batches each"
        )
    parts = list(zip(*(part[own].chunk(micro_batches) for part in batch), strict=True))
    shares = []
    for number, (inputs, targets) in enumerate(parts, 1):
        with nullcontext() if number == len(parts) else accelerator.no_sync(objective):
            loss, share = objective(
                inputs.to(accelerator.device, non_blocking=True),
                targets.to(accelerator.device, non_blocking=True),
                int((targets != IGNORED).sum()),
                count,
                rows,
                penalty,
            )
            accelerator.backward(loss)
        shares.append(share)
    norm = accelerator.clip_grad_norm_(model.parameters(), clip)
    for optimizer in training.optimizers:
        optimizer.step()
    for scheduler in training.schedulers:
        scheduler.step()
    objective.zero_grad(set_to_none=True)
    return torch.cat([norm[None] / accelerator.num_processes, torch.stack(shares).sum(dim=0)])


def _means(
    measured: Sequence[torch.Tensor], step: int, accelerator: Accelerator, priced: str
) -> dict[str, float]:
    """Means over the last steps, the last of which was ``step`` (from 1), by name."""
    rows = torch.stack(list(measured))
    finite = torch.isfinite(rows).all(dim=1)
    if not finite.all():
        first = int((~finite).nonzero()[0])
        norm, loss = rows[first, :2].tolist()
        raise FloatingPointError(
            f"step {step - len(rows) + first + 1}, trained on batch "
            f"{step - len(rows) + first} (from 0): the loss is {loss} and the gradient norm "
            f"{norm * accelerator.num_processes}; lower the learning rate or lengthen the warm-up"
        )
    norm, loss, *layers = accelerator.reduce(rows, "sum").mean(dim=0).tolist()
    named = {"loss": loss, "gradient_norm": norm}
    if layers:
        named[priced] = sum(layers) / len(layers)
        named |= {f"{priced}_{layer}": mean for layer, mean in enumerate(layers)}
    return named


@contextmanager
def _sigterm(accelerator: Accelerator) -> Iterator[Callable[[], bool]]:
    """Instead of death by SIGTERM: whether it came to any process, which all learn at one step."""
    if threading.current_thread() is not threading.main_thread():  # others may set no handler
        yield lambda: False
        return
    came: list[int] = []
    # Numbers on the CPU, so that no step waits for a GPU.
    group = torch.distributed.new_group(backend="gloo") if accelerator.num_processes > 1 else None

    def anywhere() -> bool:
        found = torch.tensor(len(came))
        if group is not None:
            torch.distributed.all_reduce(found, group=group)
        return bool(found)

    before = signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    try:
        yield anywhere
    finally:
        signal.signal(signal.SIGTERM, before)


def _save(
    training: _Training,
    progress: _Progress,
    measured: Sequence[torch.Tensor],
    folder: str | Path,
    key: str,
) -> None:
    """Write the state, from the main process; of each process its random generators and shares."""
    own = {"random": checkpoints.random_state(), "measured": [row.cpu() for row in measured]}
    states = gather_object([own])
    if training.accelerator.is_main_process:
        checkpoints.save(
            folder,
            key,
            {
                "model": training.model.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in training.optimizers],
                "schedulers": [scheduler.state_dict() for scheduler in training.schedulers],
                "processes": states,
                "progress": asdict(progress),
            },
        )


def _begin_of_plan(state: Mapping[str, Any] | None, steps: int, description: str | None) -> int:
    """The step that the schedule begins at: that of the state's, or the next one if it is anew."""
    if state is None:
        return 0
    begin, end, done = (state["progress"][name] for name in ("begin", "end", "step"))
    if end == steps:
        if description is not None and 0 < done < steps:
            print(f"{description}: goes on from step {done} of {steps}", file=sys.stderr)
        return begin
    if done >= steps:
        raise ValueError(
            f"steps: {steps} asked for, and the state that is there has {done} already; ask for "
            "more, or delete it to start anew"
        )
    if description is not None:
        print(
            f"{description}: goes on from step {done}, of {end} that were planned, to {steps}; the "
            f"schedule is planned anew over these {steps - done} steps",
            file=sys.stderr,
        )
    return done


def _restore(
    training: _Training, state: Mapping[str, Any], planned: _Progress
) -> tuple[_Progress, list[torch.Tensor]]:
    """Bring all to where the state was. A schedule that is planned anew begins at its beginning.

    Returns how far the run had come, and what was measured since its last record.
    """
    training.model.load_state_dict(state["model"])
    progress = _Progress(**state["progress"])
    for optimizer, kept in zip(training.optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(kept)
    for scheduler, kept in zip(training.schedulers, state["schedulers"], strict=True):
        if progress.end == planned.end:
            scheduler.load_state_dict(kept)
        else:  # the optimizer came with the rate, maybe 0, that the old schedule had come to
            groups = scheduler.optimizer.param_groups
            for group, rate in zip(groups, scheduler.get_last_lr(), strict=True):
                group["lr"] = rate
    own = state["processes"][training.accelerator.process_index]
    checkpoints.set_random_state(own["random"])
    measured = [row.to(training.accelerator.device) for row in own["measured"]]
    return replace(progress, begin=planned.begin, end=planned.end), measured


def _event_writer(folder: str | Path, records: Sequence[Mapping[str, float]]) -> SummaryWriter:
    """A writer into a folder whose events are written anew, so that none is there twice."""
    for old in Path(folder).glob("events.out.tfevents.*"):
        old.unlink()
    writer = SummaryWriter(folder)
    for row in records:
        _write_event(writer, row)
    steps = {int(row["step"]) for row in records}
    for old in sorted(Path(folder).glob(f"*/{PROJECTED}")):
        step, points = int(old.parent.name), np.loadtxt(old / "tensors.tsv", ndmin=2)
        labels = (old / "metadata.tsv").read_text(encoding="utf-8").split("\n")[:-1]
        shutil.rmtree(old.parent)
        if step in steps:
            _write_projection(writer, torch.from_numpy(points), labels, step)
    return writer


def _write_event(writer: SummaryWriter, row: Mapping[str, float]) -> None:
    for name, value in row.items():
        if name != "step":
            writer.add_scalar(TAGS.get(name, name), value, int(row["step"]))
    writer.flush()


def _write_projection(
    writer: SummaryWriter, points: torch.Tensor, labels: Sequence[str], step: int
) -> None:
    writer.add_embedding(points, list(labels), global_step=step, tag=PROJECTED)


def _write_weights(model: nn.Module, path: str | Path) -> None:
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    with replacing(path) as temporary:
        save_file(weights, temporary)


def _least_loss(records: Sequence[Mapping[str, float]]) -> float:
    """Of the evaluations so far."""
    return min((row.get("validation_loss", np.inf) for row in records), default=np.inf)


def _due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def _check(
    precision: str, steps: int, every: int, save_every: int | None, penalty_every: int
) -> None:
    if precision not in PRECISIONS:
        raise ValueError(f"precision: {precision!r} given; allowed are {', '.join(PRECISIONS)}")
    if min(steps, every, penalty_every) < 1:
        raise ValueError(
            "steps, every and penalty_every must be at least 1, got "
            f"{steps}, {every} and {penalty_every}"
        )
    if save_every is not None and (save_every < 1 or save_every % every):
        raise ValueError(f"save_every must be a multiple of every ({every}), got {save_every}")
