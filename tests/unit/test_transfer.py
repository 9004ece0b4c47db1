"""Gains of real blocks, against the Jacobian written out and against finite differences."""

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from tgn.probing.adapters import adapt
from tgn.probing.surgery import recorded
from tgn.probing.transfer import block_gains, block_map, block_response, products

TOKENS = np.array([3, 1, 4, 1, 5])
FAMILIES = ["gpt2", "llama", "gpt_neox", "opt"]


def jacobian(function, point):
    with sdpa_kernel(SDPBackend.MATH):
        full = torch.func.jacrev(function)(point)
    return full.reshape(point.numel(), point.numel()).detach().double().numpy()


def test_a_block_is_the_function_the_model_applies(model):
    adapter = adapt(model)
    ids = torch.from_numpy(TOKENS)[None]
    with torch.no_grad(), recorded(adapter) as states:
        adapter.body(ids, use_cache=False)
    for layer in range(len(adapter.blocks)):
        function, point = block_map(model, TOKENS, layer)
        torch.testing.assert_close(point, states[layer][0])
        with torch.no_grad():
            torch.testing.assert_close(function(point), states[layer + 1][0])


@pytest.mark.parametrize(("name", "increment"), [("gpt2", False), ("llama", True)])
def test_gains_are_the_singular_values_of_the_jacobian(tiny_model, name, increment):
    model = tiny_model(name)
    found = block_gains(
        model, TOKENS, 1, rng=np.random.default_rng(0), number=5, draws=30, increment=increment
    )
    full = jacobian(*block_map(model, TOKENS, 1, increment=increment))
    np.testing.assert_allclose(found.gains, np.linalg.svd(full)[1][:5], rtol=1e-3)
    isotropic = np.linalg.norm(full) / np.sqrt(len(full))
    assert found.isotropic_gain == pytest.approx(isotropic, rel=0.15)
    assert len(found.draws) == 30


def test_the_two_products_are_those_with_one_matrix_and_its_transpose(tiny_model):
    function, point = block_map(tiny_model("llama"), TOKENS, 0)
    apply, adjoint = products(function, point)
    full = jacobian(function, point)
    vector = np.random.default_rng(0).standard_normal(point.numel())
    np.testing.assert_allclose(apply(vector), full @ vector, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(adjoint(vector), full.T @ vector, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_derivatives_agree_with_small_differences_and_not_with_large_ones(tiny_model, name):
    rows = block_response(
        tiny_model(name).double(),
        TOKENS,
        1,
        rng=np.random.default_rng(0),
        sizes=(1e-4, 3.0),
        draws=2,
    )
    small, large = (rows[rows["size"] == size] for size in (1e-4, 3.0))
    assert len(small) == len(large) == 2
    assert small["relative_difference"].max() < 5e-3
    np.testing.assert_allclose(small["gain_finite"], small["gain"], rtol=5e-3)
    assert large["relative_difference"].min() > 0.05


def test_a_block_that_cannot_be_differentiated_is_refused(tiny_model):
    with pytest.raises(ValueError, match=r"torch\.func"):
        block_gains(tiny_model("bloom"), TOKENS, 0, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"torch\.func"):
        block_response(tiny_model("bloom"), TOKENS, 0, rng=np.random.default_rng(0))


def test_the_skip_connection_is_the_identity_in_the_jacobian(tiny_model):
    model = tiny_model("llama")
    whole = jacobian(*block_map(model, TOKENS, 0))
    added = jacobian(*block_map(model, TOKENS, 0, increment=True))
    np.testing.assert_allclose(whole - added, np.eye(len(whole)), atol=1e-4)


def test_no_token_feels_a_later_one(tiny_model):
    full = jacobian(*block_map(tiny_model("gpt2"), TOKENS, 0))
    later = full.reshape(5, 24, 5, 24).transpose(0, 2, 1, 3)[np.triu_indices(5, 1)]
    assert np.abs(later).max() == 0


def test_the_same_seed_gives_the_same_rows_and_the_model_is_left_alone(tiny_model):
    model = tiny_model("gpt2")
    first, second = (
        block_response(model, TOKENS, 0, rng=np.random.default_rng(3), draws=2) for _ in range(2)
    )
    assert first.equals(second)
    assert not adapt(model).blocks[0].module._forward_pre_hooks
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("arguments", "changed", "name"),
    [
        ((TOKENS, 3), {}, "layer"),
        ((TOKENS, -1), {}, "layer"),
        ((TOKENS[None], 0), {}, "tokens"),
        ((TOKENS.astype(float), 0), {}, "tokens"),
        ((TOKENS, 0), {"sizes": ()}, "sizes"),
        ((TOKENS, 0), {"sizes": (0.0,)}, "sizes"),
        ((TOKENS, 0), {"draws": 0}, "draws"),
    ],
)
def test_bad_arguments_are_named(tiny_model, arguments, changed, name):
    with pytest.raises(ValueError, match=name):
        block_response(tiny_model("gpt2"), *arguments, rng=np.random.default_rng(0), **changed)


def test_gains_in_bad_numbers_and_models_in_training_are_refused(tiny_model):
    model, rng = tiny_model("gpt2"), np.random.default_rng(0)
    with pytest.raises(ValueError, match="number"):
        block_gains(model, TOKENS, 0, rng=rng, number=5 * 24)
    with pytest.raises(ValueError, match="draws"):
        block_gains(model, TOKENS, 0, rng=rng, draws=0)
    with pytest.raises(ValueError, match="training"):
        block_map(model.train(), TOKENS, 0)
