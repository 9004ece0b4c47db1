"""The façade of transfer functions."""

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from thermodynamic_scaling.methodological_enhancements import transfer_function


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=50, n_positions=16, n_embd=16, n_layer=2, n_head=2, bos_token_id=0,
        eos_token_id=0,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


def test_a_diagonal_layer():
    found = transfer_function.linear_transfer(np.diag([1.0, 3.0]))
    np.testing.assert_allclose(found["gains"], [3, 1])
    assert found["isotropic_gain"] == pytest.approx(np.sqrt(5))
    assert found["shape"] == (2, 2)
    np.testing.assert_allclose(np.abs(found["inputs"]), [[0, 1], [1, 0]], atol=1e-12)
    gains = transfer_function.transfer_response(np.diag([1.0, 3.0]), [[2.0, 0.0], [1.0, 1.0]])
    np.testing.assert_allclose(gains, [1, np.sqrt(5)])


def test_a_block_at_its_start_hands_the_stream_on(model):
    """GPT-2's initial weights are small, so that a block is nearly its skip connection."""
    whole, added = (
        transfer_function.block_transfer(
            model, [1, 2, 3], 1, n_gains=3, draws=3, sizes=(1e-2,), increment=increment, rng=0
        )
        for increment in (False, True)
    )
    assert whole["gains"].shape == (3,)
    assert whole["isotropic_gain"] == pytest.approx(1, abs=0.1)
    assert added["isotropic_gain"] < 0.3
    response = whole["response"]
    assert list(response["direction"]) == [0, 1, 2]
    assert response["relative_difference"].max() < 1e-2
    assert (response["gain"] <= whole["gains"][0] * 1.001).all()


def test_bad_arguments_are_named(model):
    with pytest.raises(ValueError, match="matrix"):
        transfer_function.linear_transfer([])
    with pytest.raises(ValueError, match="perturbations"):
        transfer_function.transfer_response(np.eye(2), [0.0, 0.0])
    with pytest.raises(ValueError, match="layer"):
        transfer_function.block_transfer(model, [1, 2], 2)
    with pytest.raises(ValueError, match="number"):
        transfer_function.block_transfer(model, [1, 2], 0, n_gains=0)
