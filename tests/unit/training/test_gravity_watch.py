"""What is followed is what the model computes with."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tgn.models import ModelConfig, build
from tgn.training import gravity_watch

SIZES = {"vocabulary": 40, "width": 16, "depth": 3, "heads": 2, "context": 12, "mixer": "gravity"}
TOKENS = np.random.default_rng(0).integers(0, 40, 9).astype(np.uint16)


def made(recipe):
    torch.manual_seed(0)
    model = build(ModelConfig(**SIZES, recipe=recipe)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def test_numbers_of_the_published_form():
    model = made("as_published")
    gamma = torch.cat([F.softplus(block.gamma) for block in model.blocks]).detach().numpy()
    radius = np.array([F.softplus(block.radius).item() for block in model.blocks])
    found = gravity_watch.numbers(model)
    assert found["gamma_mean"] == pytest.approx(gamma.mean(), rel=1e-5)
    assert found["gamma_std"] == pytest.approx(gamma.std(), rel=1e-5)
    assert found["radius_mean"] == pytest.approx(radius.mean(), rel=1e-5)


def test_numbers_of_ours():
    model = made("ours")
    gamma = torch.stack([b.mixer.log_strength.exp() for b in model.blocks]).detach().numpy()
    radius = torch.stack([b.mixer.log_radius.exp() for b in model.blocks]).detach().numpy()
    found = gravity_watch.numbers(model)
    assert found["gamma_mean"] == pytest.approx(gamma.mean(), rel=1e-5)
    assert found["gamma_std"] == pytest.approx(gamma.std(), rel=1e-5)
    assert found["radius_mean"] == pytest.approx(radius.mean(), rel=1e-5)


@pytest.mark.parametrize("recipe", ["ours", "as_published"])
def test_coordinates_are_those_after_the_last_block(recipe):
    """Moving on by hand, block by block; the hook is gone afterwards."""
    model = made(recipe)
    tokens = torch.from_numpy(TOKENS.astype(np.int64))[None]
    with torch.no_grad():
        found = gravity_watch.coordinates(model, TOKENS)
        if recipe == "ours":
            x = F.rms_norm(model.embedding(tokens), (16,))
            z = model.positions[:9] + model.content(x)
            z = z / z.square().mean(-1, keepdim=True).sqrt()
            masses = model.log_masses[tokens].exp()
        else:
            x, z = model.embedding(tokens), model.positions.weight[None, :9]
            masses = F.softplus(model.masses(tokens)).squeeze(-1)
        for block in model.blocks:
            x, z = block(x, z, masses)
    torch.testing.assert_close(found, z[0], rtol=0, atol=1e-5)
    assert not model.blocks[-1]._forward_hooks
