"""What a training is said to need is what torch counts when it is run."""

import re
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tgn import config
from tgn.models import ModelConfig, build
from tgn.training import allocation, optimizers

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
