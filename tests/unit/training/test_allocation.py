"""What a training is said to need is what torch counts when it is run."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tgn import config
from tgn.models import ModelConfig, build, gravity, sizes
from tgn.training import allocation, optimizers
from tgn.training.run import matched

ROOT = Path(__file__).parents[3]
SMALL = ModelConfig(vocabulary=64, width=32, depth=3, heads=2, context=64)


TRAINING = {"steps": 10, "batch": 8, "optimizer": {"kind": "adamw"}, "precision": "no"}
RUN = {"model": vars(SMALL), "match": None, "training": TRAINING}


def planned(training, gpus=1, **model):
    run = {"model": {**vars(SMALL), **model}, "match": None, "training": training}
    return allocation._allocation("language_model", "a", gpus, run, 1, 64)


def test_operations_of_a_step_are_those_that_torch_counts():
    # without a causal mask torch counts attention to all keys, so the sequence is made short
    model = build(ModelConfig(**{**vars(SMALL), "context": 2}))
    tokens = torch.zeros(8, 2, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        logits = model(tokens).logits
        logits.sum().backward()
    found = planned(TRAINING, context=2)
    assert found.operations / 10 == pytest.approx(counter.get_total_flops(), rel=0.02)


def smoke_models():
    """Each model that the smoke scale trains, its context made short, by a run that has it."""
    smoke, found = config.load("smoke", ROOT), {}
    for section in (
        *(smoke[name] for name in ("language_model", "gravity", "recall", "recall_tasks")),
        smoke["constraints"]["family"],
    ):
        section["gpus"] = 1
    for rule, _, name, run in allocation._planned(smoke):
        model = matched({"vocabulary": 64, **run["model"]}, run.get("match"))
        found.setdefault(replace(model, context=24), f"{rule}:{name}")
    return {name: model for model, name in found.items()}


def attract(places, values, masses, gamma, epsilon, radius2, beta, window="soft"):
    """Attention by gravity with products that torch counts; on a CPU ours is our own kernel."""
    gamma, epsilon, radius2, beta = (x[:, None, None] for x in (gamma, epsilon, radius2, beta))
    norms, own = places.square().sum(-1), torch.eye(places.shape[2])
    d2 = norms[..., None] + norms[:, :, None] - 2 * places @ places.mT
    d2 = d2.clamp(min=0) * (1 - own)
    score = gamma * masses[:, None, None] / (d2 + epsilon) + beta * own
    seen = {"soft": (1 - d2 / radius2).clamp(min=0), "hard": 1.0 * (d2 <= radius2)}.get(window, 1)
    w = seen * score.masked_fill(own.cumsum(0) == 0, -torch.inf).softmax(-1)
    return w / w.sum(-1, keepdim=True) @ values


def uncounted(model, length):
    """Operations a token that torch does not count; less those that it counts of masked keys."""
    width, keys = model.width, (length + 1) / 2
    products = width * model.short_convolution * 4
    match model.inertial or model.mixer:
        case "mingru":
            products += 2 * width
        case "mamba":
            products += 2 * width * 3 * model.state_size
        case "gravity" if model.recipe == "as_published":
            products += keys * model.heads * model.head_coordinates - (length - keys) * width
        case "gravity":
            products -= (length - keys) * (model.heads * model.head_coordinates + width)
    products -= 2 * (length - keys) * width * model.attends
    biased_head = model.mixer == "gravity" and model.recipe == "as_published"
    return 2 * model.depth * products - 2 * model.vocabulary * biased_head


SMOKE_MODELS = smoke_models()


@pytest.mark.parametrize("name", SMOKE_MODELS)
def test_operations_of_every_model_of_the_smoke_scale_are_counted(name, monkeypatch):
    length, described = 24, SMOKE_MODELS[name]
    model = build(described).requires_grad_(False).eval()
    for key, parameter in model.named_parameters():
        if key.endswith("out.weight"):  # some begin with 0 and would hide what is mixed
            torch.nn.init.normal_(parameter)
    tokens = torch.arange(2 * length).reshape(2, length) % described.vocabulary
    ours = model(tokens).logits
    monkeypatch.setattr(gravity, "attract", attract)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        torch.testing.assert_close(model(tokens).logits, ours, rtol=1e-3, atol=1e-4)
    counted = counter.get_total_flops() / tokens.numel() + uncounted(described, length)
    assert counted == pytest.approx(sizes.flops_per_token(described, length), rel=1e-9)


def test_gravity_is_among_them_ours_and_published():
    recipes = {model.recipe for model in SMOKE_MODELS.values() if model.mixer == "gravity"}
    assert recipes == {"ours", "as_published"}


def test_recomputing_costs_one_forward_pass_more_and_keeps_less():
    usual = planned(TRAINING)
    again = planned({**TRAINING, "gradient_checkpointing": True})
    assert again.operations == pytest.approx(usual.operations * 4 / 3)
    assert again.activations < usual.activations


@pytest.mark.parametrize("kind", optimizers.KINDS)
def test_the_optimizer_keeps_as_many_numbers_as_are_planned(kind):
    model = build(SMALL)
    made = optimizers.make(model, kind, learning_rate=0.1)
    tokens = torch.randint(64, (2, 16))
    model(tokens, targets=tokens).loss.backward()
    for optimizer in made:
        optimizer.step()
    kept = [
        value
        for optimizer in made
        for state in optimizer.state.values()
        for value in state.values()
        if torch.is_tensor(value) and value.ndim
    ]
    found = planned({**TRAINING, "optimizer": {"kind": kind}})
    assert found.optimizer == sum(value.nbytes for value in kept)
    assert found.checkpoint == found.weights + found.optimizer


@pytest.mark.parametrize(
    "mixer",
    [
        {"mixer": "attention"},
        {"mixer": "mamba"},
        {"mixer": "gated", "inertial": "mingru"},
        {"mixer": "gravity", "recipe": "as_published"},  # keeps a number for every pair
    ],
)
def test_activations_of_a_deep_model_follow_from_two_small_ones(mixer):
    deep = ModelConfig(**{**vars(SMALL), **mixer, "depth": 5, "vocabulary": 16, "context": 160})
    counted = allocation._saved(deep, "no") / deep.context
    assert allocation.activation_bytes(deep) == pytest.approx(counted, rel=0.05)


def test_activations_are_divided_among_gpus_and_micro_batches():
    whole = planned(TRAINING).activations
    assert planned(TRAINING, gpus=2).activations == pytest.approx(whole / 2, abs=1)
    assert planned({**TRAINING, "micro_batches": 4}).activations == pytest.approx(whole / 4, abs=1)


def test_hours_are_operations_over_what_the_gpus_do():
    found = planned(TRAINING)
    assert found.hours(0.5) == pytest.approx(found.operations / (19.5e12 * 0.5) / 3600)
    assert planned({**TRAINING, "precision": "bf16"}).hours(0.5) == pytest.approx(
        found.hours(0.5) / 16
    )


def test_every_training_of_the_paper_scale_is_in_the_plan_once():
    paper = config.load("paper", ROOT)
    paper["recall"]["widths"] = [64]
    paper["gravity"]["model"] |= {"width": 128, "depth": 2, "heads": 2}
    for section in ("language_model", "convergence"):
        paper[section]["model"] |= {"width": 128, "depth": 2, "heads": 2, "mlp_width": 512}
    found = allocation.allocations(paper, vocabulary=512)
    assert sum(entry.runs for entry in found) == len(list(allocation._planned(paper)))
    assert {entry.rule for entry in found} == {
        *("language_model", "gravity_model", "constraints_model", "recall", "recall_task")
    }
    assert len({(entry.rule, entry.name) for entry in found}) == len(found)
    one = next(e for e in found if e.rule == "language_model" and e.name == "transformer")
    assert (one.gpus, one.runs, one.tokens) == (6, 3, 12000 * 96 * 1024)
    assert (
        len(allocation.table(found).splitlines()) == len(found) + len({e.rule for e in found}) + 3
    )


def test_jobs_that_only_measure_are_in_the_plan_by_model():
    paper = config.load("paper", ROOT)
    models = config.read_yaml(ROOT / "config/models.yaml")
    found = allocation.probes(paper, models)
    assert {e.rule for e in found} == {"rank_dynamics", "attention_temperature", "constraints_*"}
    assert len({(entry.rule, entry.name) for entry in found}) == len(found)
    rank = next(e for e in found if (e.rule, e.name) == ("rank_dynamics", "gpt2"))
    section = paper["rank_dynamics"]
    tokens = section["passages"] * sum(section["lengths"])
    assert (rank.runs, rank.tokens) == (len(section["arms"]), tokens)
    assert rank.operations == pytest.approx(2 * 124e6 * tokens)
    assert (rank.weights, rank.memory, rank.checkpoint) == (4 * 124_000_000, 4 * 124_000_000, 0)
    half = next(e for e in found if e.name == "pythia-12b")
    assert half.weights == 2 * half.parameters
    trained = allocation._allocation("language_model", "tgn", 6, RUN, 3, 64)
    (sedated,) = (e for e in allocation.probes(paper, models, [trained]) if e.rule == "sedation")
    assert (sedated.name, sedated.parameters) == ("tgn", trained.parameters)


def test_jobs_that_time_are_in_the_plan():
    paper = config.load("paper", ROOT)
    found = allocation.clocks(paper, vocabulary=512)
    assert {e.rule for e in found} == {"attention_times", "gravity_times"}
    attention = next(e for e in found if e.rule == "attention_times")
    section = paper["language_model"]
    # the longest context alone, all tokens asking
    width, longest = section["model"]["width"], max(section["time_contexts"])
    assert attention.operations > section["repeats"] * 2 * width * longest**2
    step = next(e for e in found if e.name == "vanilla")
    contexts, rounds = paper["gravity"]["time_contexts"], paper["gravity"]["repeats"] + 1
    assert step.tokens == len(contexts) * rounds * paper["gravity"]["time_tokens"]
    assert step.checkpoint == 0
    assert step.memory > 16 * step.parameters  # weights, gradients, two of AdamW's or one of Muon's
    assert allocation.clocks(config.load("laptop", ROOT)) == []


def test_what_no_gpu_holds_is_marked():
    fits = planned(TRAINING)
    table = allocation.table([fits, replace(fits, name="b", activations=81 * 10**9)])
    assert [line.endswith("TOO LARGE") for line in table.splitlines()[1:3]] == [False, True]
    assert "A100-80GB" in table


def test_models_have_about_the_parameters_that_their_labels_say():
    for name, model in config.read_yaml(ROOT / "config/models.yaml").items():
        if size := re.search(r"([\d.]+)(M|B)\b", model["label"]):
            said = float(size[1]) * (1 if size[2] == "M" else 1000)
            assert model["millions"] == pytest.approx(said, rel=0.3), name


def test_scales_without_gpus_need_nothing():
    laptop = config.load("laptop", ROOT)
    assert allocation.allocations(laptop, vocabulary=512) == []
    assert allocation.probes(laptop, config.read_yaml(ROOT / "config/models.yaml")) == []


def test_epochs_are_refused():
    with pytest.raises(ValueError, match="steps"):
        planned({"batch": 1, "epochs": 1})
