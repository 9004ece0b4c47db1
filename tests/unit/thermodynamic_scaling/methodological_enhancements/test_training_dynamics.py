"""The façade of training dynamics: sequences and mappings of checkpoints."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from thermodynamic_scaling.methodological_enhancements.training_dynamics import (
    find_checkpoints,
    training_dynamics,
)


def weights(scale):
    rng = np.random.default_rng(0)
    return {"layer_0": {"self_attention.query": scale * rng.standard_normal((12, 18))}}


def test_a_sequence_is_counted_and_a_mapping_names_its_steps():
    counted = training_dynamics([weights(1), weights(2)])
    named = training_dynamics({10: weights(1), 40: weights(2)})
    assert list(counted["step"]) == [0, 1]
    assert list(named["step"]) == [10, 40]
    assert list(named["matrix"]) == ["layer_0/self_attention.query"] * 2
    np.testing.assert_allclose(named["sigma"].iloc[1], 2 * named["sigma"].iloc[0])
    np.testing.assert_allclose(named["moved"], [0, 1])


def test_temperatures_are_passed_on():
    rows = training_dynamics([weights(1)], temperatures=(2.0, 4.0), temperature=3.0)
    assert rows["at_edge"].all()
    other = training_dynamics([weights(1)], temperature=0.5)
    assert other["entropy"].iloc[0] < rows["entropy"].iloc[0]


def test_checkpoints_of_a_folder(tmp_path):
    for step in (0, 50):
        tensors = {"blocks.0.mlp.up.weight": torch.full((4, 3), float(step)) + torch.eye(4, 3)}
        save_file(tensors, tmp_path / f"step-{step:08d}.safetensors")
    rows = training_dynamics(find_checkpoints(tmp_path))
    assert list(rows["step"]) == [0, 50]
    assert set(rows["matrix"]) == {"layer_0/ffn.intermediate"}


def test_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="checkpoints"):
        training_dynamics([])
    with pytest.raises(ValueError, match="checkpoints"):
        find_checkpoints(tmp_path)
