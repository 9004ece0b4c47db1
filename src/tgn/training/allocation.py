"""What the jobs of a configuration would cost on GPUs, before any of them is started.

Operations of a training are those of :func:`tgn.models.sizes.flops_per_token`, forward and twice
that backward, and forward once more where activations are recomputed. Memory is counted, not
guessed: parameters on the meta device, and the bytes that a block of the model keeps for its
backward pass.

Jobs that measure trained or pretrained models only run them forward: two operations for each
parameter and token (Kaplan et al. 2020, section 2.1).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.autograd.graph import saved_tensors_hooks

from tgn.models import build, sizes
from tgn.models.config import ModelConfig
from tgn.training import optimizers, plan, recall_plan, recall_tasks_plan
from tgn.training.run import matched

PEAK = {"bf16": 312e12, "no": 19.5e12}  # operations a second of an A100 (data sheet), dense
UTILISATION = 0.35  # of the peak, as stated where nothing else is
PROBED = (32, 64, 96)  # lengths of sequences whose activations are counted
GB = 1e9
GPT2_TOKENS = 50257
PROMPT_TOKENS = 16  # of a prompt of config/prompts.csv, mean
CATEGORIES, ALL_PROMPTS = 5, 20  # of prompts, and how many of each there are
MODES = 5  # in which a gate is closed at every dose
A100_GB = 80  # memory of the larger model of A100
EXAMPLES = ("recall", "recall_task")  # rules whose batch is given in tokens, not in windows


@dataclass(frozen=True)
class Allocation:
    """Runs that differ in their seed, rate or penalty alone, and what one of them needs.

    Operations are of one run; memory is of one GPU, in bytes; ``checkpoint`` is the state from
    which a killed run goes on, in bytes, weights included.
    """

    rule: str
    name: str
    runs: int
    gpus: int
    parameters: int
    tokens: int
    operations: float
    peak: float
    weights: int
    gradients: int = 0
    optimizer: int = 0
    activations: int = 0

    @property
    def memory(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations

    @property
    def checkpoint(self) -> int:
        return self.weights + self.optimizer if self.optimizer else 0

    def hours(self, utilisation: float = UTILISATION) -> float:
        """GPU-hours of all runs at a share of the peak."""
        return self.runs * self.operations / (self.peak * utilisation) / 3600


def allocations(
    config: Mapping[str, Any], vocabulary: int = GPT2_TOKENS, *, activations: bool = True
) -> list[Allocation]:
    """Every training of a complete configuration that asks for GPUs, and of the sweeps before it.

    Parameters
    ----------
    vocabulary
        Tokens of the language models' tokenizer, where the configuration leaves it to the text.
    activations
        Count them, which takes most of the time; else they are 0.

    Raises
    ------
    ValueError
        If a run is given in epochs, whose number of steps only its text knows.
    """
    alike: dict[tuple[str, str, str], list[tuple[int, Mapping[str, Any]]]] = {}
    for rule, gpus, name, run in _planned(config):
        sized = {key: run.get(key) for key in ("model", "match", "training", "text")}
        key = rule, kind(name), json.dumps(sized, sort_keys=True)
        alike.setdefault(key, []).append((gpus, run))
    found = []
    for (rule, name, _), ((gpus, run), *others) in alike.items():
        text = config[run.get("text") or "language_model"]["text"] or {}
        tokens = text.get("vocabulary") or vocabulary
        found.append(_allocation(rule, name, gpus, run, 1 + len(others), tokens, activations))
    return found


def kind(name: str) -> str:
    """The name of a run without its seed, and without the value that a sweep gives it.

    >>> kind("tgn-2"), kind("tgn-rate-0.001-3"), kind("constraints-depth_12-0")
    ('tgn', 'tgn-rate', 'constraints-depth_12')
    """
    return re.sub(r"(-(?:rate|penalty))?(?(1)-[-\d.e]+)-\d+$", r"\1", name)


def probes(
    config: Mapping[str, Any], models: Mapping[str, Any], trained: Sequence[Allocation] = ()
) -> list[Allocation]:
    """The jobs on GPUs that measure models and train none, all jobs of a model in one entry.

    Parameters
    ----------
    models
        Content of ``config/models.yaml``, with ``millions`` of parameters.
    trained
        Trainings, among them those whose models the bridge sedates.
    """
    rank, heat, constraints = (config[k] for k in ("rank_dynamics", "temperature", "constraints"))
    bridge, context = config["bridge"], config["language_model"]["model"]["context"]
    found = []

    def add(rule: str, name: str, jobs: int, size: float, tokens: float, number: int = 4) -> None:
        peak, each = PEAK["no" if number == 4 else "bf16"], tokens / jobs
        found.append(
            Allocation(
                rule,
                name,
                jobs,
                1,
                round(size),
                round(each),
                2 * size * each,
                peak,
                round(number * size),
            )
        )

    if rank["gpus"]:
        tokens = len(rank["arms"]) * rank["passages"] * sum(rank["lengths"])
        for name in rank["models"]:
            add("rank_dynamics", name, len(rank["arms"]), 1e6 * models[name]["millions"], tokens)
    if heat["gpus"]:
        arms = heat["arms"].values()
        # every passage at every temperature, and the nudged ones of each draw twice more
        passes = sum(
            (1 + (heat["temperatures"] - 1) // arm["every"])
            * ((arm["passages"] or heat["passages"]) + 2 * heat["nudged"] * arm["draws"])
            for arm in arms
        )
        for name in heat["models"]:
            size, jobs = 1e6 * models[name]["millions"], sum(arm["parts"] for arm in arms)
            add("attention_temperature", name, jobs, size, passes * heat["length"])
    if bridge["gpus"]:
        tokens = bridge["windows"] * context * len(bridge["doses"]) * MODES
        for arm in bridge["arms"]:
            read = [a for a in trained if a.name in (arm, f"convergence-{arm}")][:1]
            for one in read:
                add("sedation", arm, 1, one.parameters, tokens * one.runs)
    if constraints["gpus"]:
        prompts = CATEGORIES * (constraints["per_category"] or ALL_PROMPTS)
        # gains of prompts as they are and of their variants, and the sheaf; spectra read weights
        tokens = prompts * (2 + len(constraints["variants"])) * PROMPT_TOKENS
        for name in constraints["models"]:
            number = 2 if name in constraints["bfloat16"] else 4
            add("constraints_*", name, 3, 1e6 * models[name]["millions"], tokens, number)
    return found


def clocks(config: Mapping[str, Any], vocabulary: int = GPT2_TOKENS) -> list[Allocation]:
    """The jobs on GPUs that time what is not trained: attention, and training steps of gravity.

    Their operations are those that they time, each round once; the clock asks for more rounds of
    what is over too soon.
    """
    language, gravity = config["language_model"], config["gravity"]
    found = []
    if language["gpus"]:
        swept = plan.runs(language)[f"{language['swept']}-0"]["model"]
        width, longest = swept["width"], max(language["time_contexts"])
        size, rounds = 4 * width**2, language["repeats"] + 1
        shares = sum({*language["occupancies"], 1.0})
        tokens = rounds * (len(language["occupancies"]) + 1) * sum(language["time_contexts"])
        scores = [rounds * shares * 2 * width * t * (t + 1) for t in language["time_contexts"]]
        found.append(
            Allocation(
                "attention_times",
                language["swept"],
                1,
                1,
                size,
                tokens,
                2 * size * tokens + sum(scores),
                PEAK["no"],
                4 * size,
                activations=16 * width * longest,  # input, queries, keys and values
            )
        )
    if gravity["gpus"]:
        runs = plan.gravity_runs(language, gravity)
        text = gravity["text"] or language["text"]
        for arm in plan.GRAVITY_TIMED:
            run = runs[f"gravity-{arm}-0"]
            parts = [
                _timed(run, arm, gravity, context, text.get("vocabulary") or vocabulary)
                for context in gravity["time_contexts"]
            ]
            largest = max(parts, key=lambda part: part.memory)
            found.append(
                replace(
                    largest,
                    tokens=sum(part.tokens for part in parts),
                    operations=sum(part.operations for part in parts),
                    # no state is kept: what the optimizer keeps is counted with the gradients
                    gradients=largest.gradients + largest.optimizer,
                    optimizer=0,
                )
            )
    return found


def _timed(
    run: Mapping[str, Any], arm: str, gravity: Mapping[str, Any], context: int, vocabulary: int
) -> Allocation:
    """Training steps of an arm at a context, as :func:`tgn.training.step_times.measure` does."""
    config = matched({"vocabulary": vocabulary, **run["model"]}, run.get("match"))
    training = {
        "steps": gravity["repeats"] + 1,
        "batch": max(1, gravity["time_tokens"] // context),
        "optimizer": run["training"]["optimizer"],
        "precision": run["training"].get("precision", "no"),
    }
    model = {**config.to_dict(), "context": context}
    return _allocation(
        "gravity_times", arm, 1, {"model": model, "training": training}, 1, vocabulary
    )


def _planned(config: Mapping[str, Any]) -> Iterator[tuple[str, int, str, Mapping[str, Any]]]:
    """Rule, GPUs, name and settings of every run, and of sweeps where no table has the rates."""
    language, convergence = config["language_model"], config["convergence"]
    gravity, constraints = config["gravity"], config["constraints"]
    recall, tasks = config["recall"], config["recall_tasks"]
    texts = plan.runs(language) | plan.convergence_runs(language, convergence)
    texts |= _unless(language["rates"], plan.sweep(language))
    texts |= _unless(convergence["rates"], plan.convergence_sweep(language, convergence))
    small = recall_tasks_plan.runs(tasks)
    for task, settings in tasks["tasks"].items():
        swept = recall_tasks_plan.by_task(recall_tasks_plan.sweep(tasks), task)
        small |= _unless(settings["rates"], swept)
    falling = plan.gravity_runs(language, gravity)
    falling |= _unless(gravity["rates"], plan.gravity_sweep(language, gravity))
    recalled = recall_plan.runs(recall) | _unless(recall["rates"], recall_plan.sweep(recall))
    family = plan.constraints_runs(language, constraints)
    for rule, section, runs in (
        ("language_model", language, texts),
        ("gravity_model", gravity, falling),
        ("constraints_model", constraints["family"], family),
        ("recall", recall, recalled),
        ("recall_task", tasks, small),
    ):
        if section["gpus"]:
            yield from ((rule, section["gpus"], name, run) for name, run in runs.items())


def _unless(rates: str | None, sweep: plan.Planned) -> plan.Planned:
    return sweep if rates is None else {}


def _allocation(
    rule: str,
    name: str,
    gpus: int,
    run: Mapping[str, Any],
    runs: int,
    vocabulary: int,
    activations: bool = True,
) -> Allocation:
    training = run["training"]
    if "steps" not in training:
        raise ValueError(f"{rule}, {name}: `epochs` given; a plan needs `steps`")
    config = matched({"vocabulary": vocabulary, **run["model"]}, run.get("match"))
    tokens = training["batch"] * (1 if rule in EXAMPLES else config.context)
    precision = training.get("precision", "no")
    checkpointing = training.get("gradient_checkpointing", False)
    here = tokens // gpus // training.get("micro_batches", 1)
    forward = sizes.flops_per_token(config, config.context)
    states = _optimizer_states(config, training["optimizer"]["kind"])
    parameters = sizes.parameters(config)
    return Allocation(
        rule=rule,
        name=name,
        runs=runs,
        gpus=gpus,
        parameters=parameters,
        tokens=training["steps"] * tokens,
        operations=training["steps"] * tokens * forward * (4 if checkpointing else 3),
        peak=PEAK[precision],
        weights=4 * parameters,
        # beside their own buffers, the buckets in which processes exchange gradients
        gradients=4 * parameters * (2 if gpus > 1 else 1),
        optimizer=4 * states,
        activations=round(here * activation_bytes(config, precision, checkpointing))
        if activations
        else 0,
    )


@cache
def _optimizer_states(config: ModelConfig, kind: str) -> int:
    """Numbers an optimizer keeps: one for each weight under Muon, two under AdamW."""
    with torch.device("meta"):
        model = build(config)
    total = sum(p.numel() for p in model.parameters())
    muon = sum(p.numel() for p in optimizers.hidden_matrices(model)) if kind == "muon" else 0
    return 2 * total - muon


@cache
def activation_bytes(
    config: ModelConfig, precision: str = "no", checkpointing: bool = False
) -> float:
    """Bytes that each token of a batch keeps on the device until the backward pass.

    Models of one block and of two are run forward on the CPU, on sequences of a few lengths, and
    what they keep is counted; from there it grows with the depth, and with the context as a
    polynomial of second degree, as where distances of all pairs are kept. With checkpointing every
    block keeps its input alone, but for one at a time. The vocabulary does not matter: the head
    computes its gradients at once.
    """
    one, two = (
        np.polyfit(
            PROBED,
            [
                _saved(replace(config, depth=depth, vocabulary=16, context=tokens), precision)
                for tokens in PROBED
            ],
            deg=2,
        )
        for depth in (1, 2)
    )

    def each(counted: NDArray[np.float64]) -> float:  # without the constant
        return float(counted[0] * config.context + counted[1])

    block, kept = each(two - one), 4.0 * config.width
    outside = each(2 * one - two)
    if checkpointing:
        return outside + block + config.depth * kept
    return outside + config.depth * block


def _saved(config: ModelConfig, precision: str) -> int:
    """Bytes a model saves for its backward pass over one sequence, parameters left out."""
    with torch.device("meta"):
        model = build(config)
    model = model.to_empty(device="cpu")
    for tensor in (*model.parameters(), *model.buffers()):
        torch.nn.init.zeros_(tensor)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: list[torch.Tensor] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    tokens = torch.zeros(1, config.context, dtype=torch.long)
    with (
        saved_tensors_hooks(note, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"),
    ):
        model(tokens, targets=tokens)
    stored = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept}
    return sum(size for place, size in stored.items() if place not in own)


def table(found: Sequence[Allocation], utilisation: float = UTILISATION) -> str:
    """The allocations as text in columns, with the sum of each rule."""
    head = (
        f"{'rule':<21} {'name':<32} {'runs':>4} {'GPUs':>4} {'param. M':>9} {'tokens M':>9} "
        f"{'PFLOP':>10} {'weights':>8} {'grad.':>7} {'opt.':>7} {'activ.':>7} {'GB/GPU':>7} "
        f"{'state GB':>8} {'GPU-hours':>9}"
    )
    lines = [head]
    for rule in dict.fromkeys(a.rule for a in found):
        own = [a for a in found if a.rule == rule]
        lines += [
            f"{a.rule:<21} {a.name:<32} {a.runs:>4} {a.gpus:>4} {a.parameters / 1e6:>9.2f} "
            f"{a.tokens / 1e6:>9.1f} {a.operations / 1e15:>10.1f} {a.weights / GB:>8.2f} "
            f"{a.gradients / GB:>7.2f} {a.optimizer / GB:>7.2f} {a.activations / GB:>7.2f} "
            f"{a.memory / GB:>7.2f} {a.checkpoint / GB:>8.2f} {a.hours(utilisation):>9.2f}"
            f"{' TOO LARGE' * (a.memory > A100_GB * GB)}"
            for a in own
        ]
        lines.append(_sum(f"{rule}, sum", own, utilisation))
    lines.append(_sum("sum", found, utilisation))
    lines.append(
        f"An A100-80GB at {utilisation:.0%} of its peak: {PEAK['bf16'] / 1e12:g} TFLOP/s in bf16, "
        f"{PEAK['no'] / 1e12:g} in single precision. Evaluation, start-up and loading come on top. "
        "Models of a few million parameters reach far less of it: launching kernels takes the time "
        "there. Rules without a state train nothing; their jobs take minutes, most of it to load. "
        f"TOO LARGE marks what needs more than the {A100_GB} GB of one GPU."
    )
    return "\n".join(lines)


def _sum(name: str, found: Sequence[Allocation], utilisation: float) -> str:
    runs, hours = sum(a.runs for a in found), sum(a.hours(utilisation) for a in found)
    states = sum(a.runs * a.checkpoint for a in found) / GB
    return f"{name:<54} {runs:>4} {'':>84} {states:>8.2f} {hours:>9.2f}"
