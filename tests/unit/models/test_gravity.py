"""Gravity attention: against its definition, what attracts what, gradients, causality, caches."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgn.models import ModelConfig, build
from tgn.models.config import CUTOFFS
from tgn.models.gravity import attract, flex, repulsion, weights

SMALL = {"vocabulary": 40, "width": 32, "depth": 2, "heads": 2, "context": 48, "mixer": "gravity"}


def drawn(length, batch=2, heads=3, axes=5, channels=8, dtype=torch.float64, seed=0, spread=1.0):
    rng = torch.Generator().manual_seed(seed)
    places = spread * torch.randn(batch, heads, length, axes, generator=rng, dtype=dtype)
    values = torch.randn(batch, heads, length, channels, generator=rng, dtype=dtype)
    masses = torch.rand(batch, length, generator=rng, dtype=dtype) + 0.3
    numbers = torch.rand(4, heads, generator=rng, dtype=dtype) + torch.tensor(
        [[2.0], [0.5], [6.0], [-0.5]], dtype=dtype
    )
    return [x.requires_grad_() for x in (places, values, masses, *numbers.detach())]


def by_definition(window, places, values, masses, *numbers):
    return weights(places, masses, *numbers, window) @ values


@pytest.mark.parametrize("window", CUTOFFS)
@pytest.mark.parametrize("length", [2, 16, 70])
def test_the_kernel_is_the_definition_and_so_are_its_gradients(window, length):
    ours, theirs = drawn(length), drawn(length)
    y, expected = attract(*ours, window), by_definition(window, *theirs)
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-12)
    slope = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
    y.backward(slope)
    expected.backward(slope)
    for ours_, theirs_ in zip(ours, theirs, strict=True):
        wanted = torch.zeros_like(theirs_) if theirs_.grad is None else theirs_.grad
        torch.testing.assert_close(ours_.grad, wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("window", CUTOFFS)
def test_single_precision_far_from_the_origin(window):
    exact = drawn(100)
    moved = [x.detach().float() for x in exact]
    moved[0] = moved[0] + 10
    y = attract(*moved, window)
    assert y.dtype == torch.float32
    if window == "hard":  # rounding may carry a pair over the edge
        assert (y - by_definition(window, *exact)).abs().median() < 1e-5
    else:
        torch.testing.assert_close(y.double(), by_definition(window, *exact), rtol=0, atol=1e-4)


@pytest.mark.parametrize("window", CUTOFFS)
def test_flex_attention_computes_the_same(window):
    arguments = [x.detach().float() for x in drawn(32)]
    found = flex(*arguments, window)
    torch.testing.assert_close(found, by_definition(window, *arguments), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: compiled FlexAttention")
@pytest.mark.parametrize("window", CUTOFFS)
def test_on_a_gpu(window):
    here, there = ([x.detach().float() for x in drawn(64)] for _ in range(2))
    there = [x.cuda().requires_grad_() for x in there]
    y = attract(*there, window)
    torch.testing.assert_close(y.cpu(), attract(*here, window), rtol=1e-3, atol=1e-4)
    y.sum().backward()
    assert all(torch.isfinite(x.grad).all() for x in there[:3])


@given(st.integers(0, 10_000), st.sampled_from(CUTOFFS))
@settings(max_examples=30, deadline=None)
def test_the_nearest_and_the_heaviest_attract_most(seed, window):
    places, _, masses, *numbers = (x.detach() for x in drawn(12, batch=1, heads=1, seed=seed))
    even = torch.ones_like(masses)
    a = weights(places, even, *numbers, window)[0, 0, -1, :-1]
    d2 = (places[0, 0, -1] - places[0, 0, :-1]).square().sum(-1)
    order = d2.argsort()
    assert (a[order].diff() <= 1e-12).all()
    if window == "soft":
        assert (a[d2 >= numbers[2]] == 0).all()
    heavier = masses.clone()
    heavier[0, order[0]] *= 2
    before, after = (
        weights(places, m, *numbers, window)[0, 0, -1, order[0]] for m in (masses, heavier)
    )
    assert after > before or before == 0


def test_a_token_draws_itself_but_not_alone():
    places, _, masses, *_ = (x.detach() for x in drawn(64))
    start = [torch.full((3,), x, dtype=torch.float64) for x in (4.0, 1.0, 16.0, 0.0)]
    own = torch.diagonal(weights(places, masses, *start), dim1=-2, dim2=-1)[..., 1:]
    assert ((own > 0) & (own < 1)).all()
    assert own.mean() < 0.9


def test_distances_alone_matter():
    places, values, masses, *numbers = (x.detach() for x in drawn(20))
    turn = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
    y = attract(places, values, masses, *numbers)
    torch.testing.assert_close(attract(places @ turn + 3, values, masses, *numbers), y)


def model(**changes):
    torch.manual_seed(0)
    made = build(ModelConfig.from_dict({**SMALL, **changes}))
    with torch.no_grad():  # sublayers begin at zero
        for name, parameter in made.named_parameters():
            if name.endswith("out.weight"):
                parameter.normal_(std=0.2)
    return made


def tokens(length=40, batch=2):
    return torch.randint(40, (batch, length), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("changes", [
    {}, {"mass": "value"}, {"mass": "none"}, {"cutoff": "hard"}, {"cutoff": "none"},
    {"short_convolution": True},
])  # fmt: skip
def test_every_parameter_that_is_trained_has_a_gradient(changes):
    made = model(**changes).train()
    result = made(tokens(), targets=tokens().roll(-1, 1))
    (result.loss + 0.05 * result.repulsion.mean()).backward()
    still = {
        name
        for name, parameter in made.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.any())
    }
    assert still == ({"log_masses"} if changes.get("mass") == "none" else set())
    fixed = {name for name, parameter in made.named_parameters() if not parameter.requires_grad}
    assert all(name.endswith("log_radius") for name in fixed)
    assert bool(fixed) == (changes.get("cutoff") in ("hard", "none"))


def test_what_comes_later_changes_nothing_before():
    made = model().eval()
    first, second = tokens(), tokens()
    second[:, 25:] = (second[:, 25:] + 1) % 40
    with torch.no_grad():
        a, b = made(first).logits, made(second).logits
    assert torch.equal(a[:, :25], b[:, :25])
    assert not torch.equal(a[:, 25:], b[:, 25:])


@pytest.mark.parametrize("changes", [{}, {"mass": "value"}, {"short_convolution": True}])
def test_decoding_through_the_cache(changes):
    made = model(**changes).eval()
    read, cache = tokens(), made.new_cache(2)
    with torch.no_grad():
        whole = made(read).logits
        parts = [made(read[:, :7], cache).logits, made(read[:, 7:8], cache).logits]
        parts += [made(read[:, 8:], cache).logits]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-4, atol=1e-5)


def test_the_start_knows_nothing():
    torch.manual_seed(0)
    loss = build(ModelConfig.from_dict(SMALL)).eval()(tokens(), targets=tokens().roll(-1, 1)).loss
    assert abs(loss.item() / torch.tensor(40.0).log().item() - 1) < 0.05


def test_repulsion_is_bounded_and_asks_for_distance():
    z = torch.randn(2, 100, 6, requires_grad=True)
    near, far = repulsion(0.1 * z), repulsion(10 * z)
    assert far < near <= 1
    assert repulsion(torch.zeros(1, 5, 3)) == 1
    repulsion(z).backward()
    assert z.grad.any()


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="cutoff must be one of soft, hard, none"):
        ModelConfig.from_dict({**SMALL, "cutoff": "sharp"})
    with pytest.raises(ValueError, match="head_coordinates must be a positive integer"):
        ModelConfig.from_dict({**SMALL, "head_coordinates": 0})
