"""One trained arm: tokens and a line of configuration in, a checkpoint and its numbers out."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate import PartialState
from safetensors.torch import load_file
from torch import nn

from tgn.files import replacing, write_json, write_table
from tgn.models import build, io, sizes
from tgn.models.config import ModelConfig
from tgn.text.tokens import decode, load_tokenizer, open_tokens
from tgn.training import checkpoints, evaluation, gravity_watch, launch
from tgn.training.batches import windows, windows_per_epoch
from tgn.training.loop import Penalty, fit

SPLITS = ("validation", "test")
PROBED = 256  # tokens of the validation split whose coordinates TensorBoard's Projector shows

Runs = Mapping[str, Mapping[str, Any]]


def train(*, gpus: int = 1, **arguments: Any) -> None:
    """Train one arm on one GPU or the CPU, or data-parallel on several GPUs; see :func:`train_arm`.

    Raises
    ------
    RuntimeError
        If one of several processes failed.
    """
    launch.run("tgn.training.run:train_arm", arguments, processes=gpus)


def train_arm(
    *,
    tokens: str | Path,
    model: Mapping[str, Any],
    training: Mapping[str, Any],
    seed: int,
    checkpoint: str | Path,
    metrics: str | Path,
    evaluated: str | Path,
    state: str | Path,
    best: str | Path | None = None,
    penalty: Penalty = 0.0,
    match: Mapping[str, Mapping[str, Any]] | None = None,
    rate: float | None = None,
    rates: str | Path | None = None,
    rates_of: str | None = None,
    start: str | Path | None = None,
    library: Sequence[str | Path] = (),
    trajectory: str | Path | None = None,
    blocks: str | Path | None = None,
    documents: str | Path | None = None,
    timings: str | Path | None = None,
    tensorboard: str | Path | None = None,
    arm: str = "model",
) -> None:
    """Train an arm, or go on where it was cut off, and evaluate it on whole splits.

    Nothing is written before the end but the state and TensorBoard's events. The state is removed
    when all outputs are in their places, unless the run may be extended.

    Parameters
    ----------
    tokens
        A file of a folder made by :func:`tgn.text.tokens.prepare`, such as its ``counts.json``.
    model
        Arguments of :class:`tgn.models.config.ModelConfig`; the vocabulary may be left to the
        tokens'.
    training
        ``batch`` (windows), ``steps`` or ``epochs``, ``evaluation`` (``stride``, ``batch``, and
        ``splits``, both if not given; with None no whole split is read, and there are neither
        ``blocks``, which need the test split, nor ``documents``),
        ``validation_windows`` (read at every evaluation during training),
        ``gradient_checkpointing``, ``compile`` (by torch.compile), ``extend``, and arguments of
        :func:`tgn.training.loop.fit`.
        With ``extend`` the state of the end is kept, and a run that differs in ``steps`` or
        ``epochs`` alone goes on from it, with its schedule planned anew. Without, it is trained
        anew.
    checkpoint, best
        The ``model.safetensors`` to write: the weights of the end, and those of the evaluation
        during training with the least loss. ``config.json`` and ``tokenizer.json`` go beside each.
    metrics, trajectory, timings
        Parquet tables to write, see :class:`tgn.training.loop.Fit`.
    evaluated
        JSON to write: per split the perplexities and bits per byte of
        :mod:`tgn.training.evaluation`, with the gates by layer.
    blocks
        Parquet table to write: nats and gate by blocks of four contexts of the test split.
    documents
        Parquet table to write: nats and gate by split and document.
    state
        Side directory for the state of an unfinished run.
    match
        Another model to equal in size by the width of the MLP: ``{"parameters": model}`` or
        ``{"flops": model}``, at the model's own context.
    rate, rates
        The learning rate, or a table of the best ones by arm, made by :func:`choose_rates`.
    rates_of
        Another arm, whose best rate in the table is taken.
    start
        A checkpoint's file to take the weights from; the optimizer starts anew.
    library
        Library files on which the weights depend: a state of other files is not gone on with.
    arm
        Name for the progress bar.

    Raises
    ------
    ValueError
        If the configuration is wrong, the text is too short or the start is another model.
    FloatingPointError
        If the loss or the gradient is not finite.
    """
    folder, output = Path(tokens).parent, Path(checkpoint).parent
    vocabulary = json.loads((folder / "counts.json").read_text(encoding="utf-8"))["vocabulary"]
    config = matched({"vocabulary": vocabulary, **model}, match)
    text, validation = (
        open_tokens(folder, split, config.context) for split in ("train", "validation")
    )
    settings = dict(training)
    batch, precision = settings.pop("batch"), settings.get("precision", "no")
    protocol = settings.pop("evaluation", {})
    protocol = {"splits": ()} if protocol is None else {"splits": SPLITS, **protocol}
    splits = protocol.pop("splits")
    n_windows = settings.pop("validation_windows", 32)
    checkpointing = settings.pop("gradient_checkpointing", False)
    compiled = settings.pop("compile", False)
    extend = settings.pop("extend", False)
    settings["steps"] = _steps(settings, len(text), config.context, batch)
    if rate is not None or rates is not None:
        rate = best_rate(rates, rates_of or arm) if rate is None else rate
        settings["optimizer"] = {**settings["optimizer"], "learning_rate": rate}
    trained = {**training, "optimizer": settings.get("optimizer", {})}
    length = {"steps", "epochs", "extend"} if extend else {}
    key = checkpoints.resume_key(
        {
            "model": config.to_dict(),
            "training": {name: value for name, value in trained.items() if name not in length},
            "penalty": penalty,
            "seed": seed,
            "processes": int(os.environ.get("WORLD_SIZE", 1)),
        },
        [folder / "train.npy", folder / "validation.npy", *library, *([start] if start else [])],
    )

    torch.manual_seed(seed)
    network = build(config) if start is None else io.load(Path(start).parent)
    if network.config != config:
        raise ValueError(f"{start} holds another model than `model` describes")
    network.gradient_checkpointing = checkpointing
    if compiled:
        network.compile()  # in place: its weights keep their names
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    gravity = config.mixer == "gravity"
    probe = validation[: min(config.context, PROBED)]

    def validate(network: nn.Module) -> pd.DataFrame:
        return evaluation.per_window(network, validation, config.context, n_windows)

    def project(network: nn.Module) -> tuple[torch.Tensor, list[str]]:
        labels = [repr(decode(tokenizer, [token])) for token in probe]
        return gravity_watch.coordinates(network, probe), labels

    fitted = fit(
        network,
        windows(text, context=config.context, batch=batch, seed=seed),
        penalty=penalty,
        seed=seed,
        evaluate=validate,
        watch=gravity_watch.numbers if gravity else None,
        project=project if gravity else None,
        best=checkpoints.best(state, key) if best is not None else None,
        state_folder=state,
        key=key,
        tensorboard=tensorboard,
        description=arm,
        **settings,
    )
    if not PartialState().is_main_process:
        return
    found = {}
    with torch.autocast(
        next(network.parameters()).device.type, torch.bfloat16, enabled=precision == "bf16"
    ):
        for split in splits:
            whole = {"stride": config.context, **protocol}
            found[split] = evaluation.evaluate(
                network, folder, split, context=config.context, **whole
            )
    about = {"arm": arm, "seed": seed, "penalty": penalty, "training": trained}
    io.save(output, network, config, tokenizer, metadata=about)
    tables = {
        metrics: fitted.metrics,
        trajectory: fitted.trajectory,
        timings: fitted.timings,
    }
    if found:
        by_document = (e.documents.assign(split=split) for split, e in found.items())
        tables |= {blocks: found["test"].blocks, documents: pd.concat(by_document)}
    for path, table in tables.items():
        if path is not None:
            write_table(path, table)
    write_json(
        evaluated,
        {
            split: {
                **e.summary,
                "gates": None if e.gates is None else e.gates.to_dict("records"),
            }
            for split, e in found.items()
        },
    )
    if best is not None:
        network.load_state_dict(load_file(checkpoints.best(state, key)))
        io.save(Path(best).parent, network, config, tokenizer, metadata={**about, "best": True})
    if not extend:
        checkpoints.remove(state, key)


def matched(model: Mapping[str, Any], match: Mapping[str, Mapping[str, Any]] | None) -> ModelConfig:
    """The model described, with the MLP so wide that it equals another in parameters or FLOPs.

    Raises
    ------
    ValueError
        If the match is of another kind or cannot be made within 2 %.
    """
    config = ModelConfig.from_dict(model)
    if not match:
        return config
    ((by, other),) = match.items()
    wanted = ModelConfig.from_dict({"vocabulary": config.vocabulary, **other})
    if by == "parameters":
        return sizes.match(config, parameters=sizes.parameters(wanted))
    if by == "flops":
        return sizes.match(config, flops=sizes.flops_per_token(wanted, wanted.context))
    raise ValueError(f"match: {by!r} given; allowed are parameters and flops")


def choose_rates(*, evaluated: Sequence[str | Path], runs: Runs, table: str | Path) -> None:
    """Write a table of learning rates by arm: validation losses, and which is the least.

    Parameters
    ----------
    evaluated
        ``evaluation.json`` of every run of the sweep, in a folder of the run's name.
    runs
        Plan of the sweep, as :func:`tgn.training.plan.sweep`.
    table
        CSV to write: ``arm``, ``rate``, ``validation_nats`` (per token) and ``best``.
    """
    rows = []
    for path in evaluated:
        run = runs[Path(path).parent.name]
        found = json.loads(Path(path).read_text(encoding="utf-8"))["validation"]
        rows.append((run["arm"], run["rate"], round(found["nats"] / found["tokens"], 6)))
    losses = pd.DataFrame(rows, columns=["arm", "rate", "validation_nats"])
    losses = losses.sort_values(["arm", "rate"], ignore_index=True)
    losses["best"] = losses.index.isin(losses.groupby("arm")["validation_nats"].idxmin())
    with replacing(table) as temporary:
        losses.to_csv(temporary, index=False)


def best_rate(table: str | Path | None, arm: str) -> float:
    """An arm's best learning rate in a table of :func:`choose_rates`.

    Raises
    ------
    ValueError
        If the arm is not in the table.
    """
    if table is None:
        raise ValueError(f"{arm}: give either a learning rate or a table of them")
    rates = pd.read_csv(table)
    best = rates.loc[(rates["arm"] == arm) & rates["best"], "rate"].unique()  # one for all seeds
    if len(best) != 1:
        raise ValueError(
            f"{table} has no learning rate for {arm}: make the table anew, as config.yaml says "
            "where it names it"
        )
    return float(best[0])


def _steps(settings: dict[str, Any], tokens: int, context: int, batch: int) -> int:
    """Steps of the run, from ``steps`` or ``epochs``, which are taken out of the settings."""
    steps, epochs = settings.pop("steps", None), settings.pop("epochs", None)
    if (steps is None) == (epochs is None):
        raise ValueError("training: give either `steps` or `epochs`")
    if steps is not None:
        return int(steps)
    return max(1, round(epochs * windows_per_epoch(tokens, context) / batch))
