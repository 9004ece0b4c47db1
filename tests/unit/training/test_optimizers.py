"""Who steps what, and how the learning rate runs."""

import math

import pytest
import torch
from torch import nn

from tgn.models import ModelConfig, build
from tgn.training import optimizers

SIZES = {"vocabulary": 32, "width": 16, "depth": 2, "heads": 2, "context": 8}


def model(**settings):
    return build(ModelConfig(**{**SIZES, **settings}))


def names(network, parameters):
    chosen = {id(p) for p in parameters}
    return {name for name, p in network.named_parameters() if id(p) in chosen}


@pytest.mark.parametrize("tied", [True, False])
def test_muon_takes_the_matrices_inside_blocks_and_no_others(tied):
    network = model(mixer="gated", inertial="mingru", tied=tied, short_convolution=True)
    taken = names(network, optimizers.hidden_matrices(network))
    assert len(taken) == SIZES["depth"] * (3 + 4 + 2)  # minGRU, attention, MLP
    assert all(name.startswith("blocks.") for name in taken)
    assert not any("gate.linear" in name or "taps" in name or "bias" in name for name in taken)


def test_a_vocabulary_as_wide_as_the_model_hides_no_matrix():
    network = model(vocabulary=16, tied=False)
    assert len(optimizers.hidden_matrices(network)) == SIZES["depth"] * (4 + 2)


def test_stacked_recurrent_matrices_go_to_muon():
    taken = names(network := model(mixer="gru"), optimizers.hidden_matrices(network))
    assert {"blocks.0.mixer.cell.weight_ih_l0", "blocks.0.mixer.cell.weight_hh_l0"} <= taken


class StateSpace(nn.Module):
    def __init__(self):
        super().__init__()
        self.rates = nn.Parameter(torch.ones(8, 4))
        self.convolution = nn.Conv1d(8, 8, 3, groups=8)
        self.norm = nn.LayerNorm(8)
        self.map = nn.Linear(8, 8)


def test_convolutions_and_matrices_that_are_no_map_stay_with_adamw():
    network = StateSpace()
    assert names(network, optimizers.hidden_matrices(network)) == {"map.weight"}


@pytest.mark.parametrize("kind", optimizers.KINDS)
def test_every_parameter_is_stepped_once_and_only_weights_decay(kind):
    network = StateSpace()
    made = optimizers.make(network, kind, learning_rate=1e-2, weight_decay=0.3)
    groups = [group for optimizer in made for group in optimizer.param_groups]
    stepped = [id(p) for group in groups for p in group["params"]]
    assert sorted(stepped) == sorted(id(p) for p in network.parameters())
    decayed = [p for group in groups if group["weight_decay"] == 0.3 for p in group["params"]]
    assert names(network, decayed) == {"convolution.weight", "map.weight"}
    assert {group["weight_decay"] for group in groups} == {0.3, 0.0}


def test_both_kinds_step_a_matrix_by_the_same_root_mean_square():
    torch.manual_seed(0)
    start = torch.randn(64, 32)
    for kind in optimizers.KINDS:
        layer = nn.Linear(32, 64, bias=False)
        layer.weight.data.copy_(start)
        (optimizer, *_) = optimizers.make(layer, kind, learning_rate=1e-2, weight_decay=0.0)
        for _ in range(20):
            layer.weight.grad = torch.randn_like(start)
            before = layer.weight.detach().clone()
            optimizer.step()
        step = (layer.weight.detach() - before).square().mean().sqrt().item()
        assert 0.1e-2 < step < 0.4e-2  # 0.2 of the learning rate: Liu et al. 2025


def test_the_rest_may_have_a_learning_rate_of_its_own():
    muon, adamw = optimizers.make(
        model(), "muon", learning_rate=1e-2, rest_learning_rate=1e-3, betas=[0.8, 0.95]
    )
    assert muon.param_groups[0]["lr"] == 1e-2
    assert all(group["lr"] == 1e-3 for group in adamw.param_groups)


def test_wrong_choices_are_refused():
    with pytest.raises(ValueError, match="muon, adamw"):
        optimizers.make(model(), "sgd", learning_rate=1.0)
    with pytest.raises(ValueError, match="no hidden matrix"):
        optimizers.make(nn.LayerNorm(4), "muon", learning_rate=1.0)


def rates(steps, **shape):
    (optimizer,) = optimizers.make(nn.Linear(2, 2), "adamw", learning_rate=1.0)
    scheduler = optimizers.schedule(optimizer, steps=steps, **shape)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_warm_up_constant_and_linear_decay():
    assert rates(10, warmup=0.4, decay=0.4, final=0.2) == pytest.approx(
        [0.25, 0.5, 0.75, 1, 1, 1, 0.8, 0.6, 0.4, 0.2]
    )


def test_cosine_decay_ends_at_the_final_fraction():
    found = rates(8, decay=1.0, final=0.1, shape="cosine")
    assert found == pytest.approx(
        [0.1 + 0.9 * (1 + math.cos(math.pi * (k + 1) / 8)) / 2 for k in range(8)]
    )


def test_constant_by_default():
    assert rates(5) == [1.0] * 5


@pytest.mark.parametrize(
    "wrong", [{"warmup": 0.7, "decay": 0.6}, {"decay": -0.1}, {"final": 2.0}, {"shape": "square"}]
)
def test_schedules_that_do_not_fit_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        rates(5, **wrong)
