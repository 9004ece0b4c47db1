"""Principal axes of coordinates, and the coordinates of trained models layer by layer."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgn.models import ModelConfig, build
from tgn.probing.coordinates import placed, principal, view

SMALL = {"vocabulary": 30, "width": 32, "depth": 3, "heads": 2, "context": 40, "mixer": "gravity"}
FORMS = [{}, {"recipe": "as_published"}]


def model(**changes):
    torch.manual_seed(0)
    made = build(ModelConfig.from_dict({**SMALL, **changes})).eval()
    with torch.no_grad():  # sublayers begin at zero
        for name, parameter in made.named_parameters():
            if "out.weight" in name or "drift.weight" in name:
                parameter.normal_(std=0.3)
    return made


@given(st.integers(0, 1000), st.integers(3, 30), st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_principal_axes_are_those_of_the_covariance(seed, tokens, coordinates):
    x = np.random.default_rng(seed).normal(size=(tokens, coordinates)) + 5
    points, explained = principal(x)
    variances = np.linalg.eigvalsh(np.cov(x.T, bias=True).reshape(coordinates, coordinates))[::-1]
    wanted = np.pad(variances, (0, 3))[:3]
    np.testing.assert_allclose(points.var(axis=0), wanted, atol=1e-10)
    np.testing.assert_allclose(explained, wanted / variances.sum(), atol=1e-10)
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=1e-10)
    if coordinates <= 3:  # then nothing is lost, and distances are kept
        apart = [np.linalg.norm(y[:, None] - y[None], axis=-1) for y in (x, points)]
        np.testing.assert_allclose(*apart, atol=1e-10)


def test_tokens_at_one_place_have_no_variance_to_share():
    points, explained = principal(np.ones((4, 5)))
    assert not points.any()
    assert not explained.any()


@pytest.mark.parametrize("changes", FORMS)
def test_a_layer_is_what_the_next_block_reads(changes):
    made = model(**changes)
    tokens = torch.randint(30, (2, 20))
    places, masses = placed(made, tokens)
    assert places.shape == (4, 2, 20, 4)
    assert masses.shape == (2, 20)
    same = tokens[:, :, None] == tokens[:, None]
    assert (masses[:, :, None] == masses[:, None])[same].all()
    with torch.no_grad():
        _, z = made.blocks[1](torch.zeros(2, 20, 32), places[1], masses)
    assert not torch.equal(places[1], places[2])
    assert z.shape == places[2].shape
    first = torch.randint(30, (1, 20))
    alike = torch.equal(placed(made, first)[0][0, 0], places[0, 0])
    assert alike == (changes == {"recipe": "as_published"})  # there they begin without content


def test_the_last_layer_is_shown_unless_another_is_asked_for():
    made, tokens = model(), list(range(20))
    assert view(made, tokens).layer == 3
    np.testing.assert_array_equal(view(made, tokens).points, view(made, tokens, 2).points)
    assert not np.allclose(view(made, tokens, 1).points, view(made, tokens, 2).points)
    found = view(made, tokens, 0)
    places = placed(made, torch.tensor([tokens]))[0][0, 0].double().numpy()
    np.testing.assert_allclose(found.points, principal(places)[0])


def test_what_cannot_be_shown_is_refused():
    made = model()
    with pytest.raises(ValueError, match="2 tokens given"):
        view(made, [1, 2])
    with pytest.raises(ValueError, match=r"layer must be in 0 \.\.\. 3, got 4"):
        view(made, [1, 2, 3], 4)
    with pytest.raises(ValueError, match="the mixer attention has no coordinates"):
        view(model(mixer="attention"), [1, 2, 3])
    with pytest.raises(ValueError, match="longer than the context"):
        view(made, [1] * 41)
