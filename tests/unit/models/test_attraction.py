"""Attention by gravity: against its definition, what attracts what, what lies beyond the radius."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.overrides import TorchFunctionMode

from tgn.models import attraction
from tgn.models.attraction import attract, flex, reach, weights
from tgn.models.config import CUTOFFS


def drawn(length, batch=2, heads=3, axes=5, channels=8, dtype=torch.float64, seed=0, spread=1.0):
    rng = torch.Generator().manual_seed(seed)
    places = spread * torch.randn(batch, heads, length, axes, generator=rng, dtype=dtype)
    values = torch.randn(batch, heads, length, channels, generator=rng, dtype=dtype)
    masses = torch.rand(batch, length, generator=rng, dtype=dtype) + 0.3
    numbers = torch.rand(4, heads, generator=rng, dtype=dtype) + torch.tensor(
        [[2.0], [0.5], [6.0], [-0.5]], dtype=dtype
    )
    return [x.requires_grad_() for x in (places, values, masses, *numbers.detach())]


def gradients(y, arguments):
    """Of a sum with given slopes; 0 for what was not used."""
    slope = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y)
    return torch.autograd.grad(y, arguments, slope, allow_unused=True, materialize_grads=True)


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


class Readings(TorchFunctionMode):
    """How often elements of each tensor were asked for."""

    def __init__(self):
        super().__init__()
        self.of = Counter()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.Tensor.__getitem__:
            self.of[id(args[0])] += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("window", CUTOFFS)
def test_flex_attention_may_differentiate_the_scores(window, monkeypatch):
    """It refuses scores that read a tensor twice; those that it is given have the gradients."""
    readings = Readings()

    def dense(queries, keys, values, score_mod, scale):
        where = torch.meshgrid(*(torch.arange(n) for n in (2, 3, 32, 32)), indexing="ij")
        with readings:
            score = score_mod(scale * queries @ keys.mT, *where)
        return score.softmax(-1) @ values

    monkeypatch.setattr(attraction, "flex_attention", dense)
    ours, theirs = drawn(32), drawn(32)
    y, expected = flex(*ours, window), attract(*theirs, window)
    assert set(readings.of) <= {id(x) for x in ours}
    assert set(readings.of.values()) == {1}
    torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-11)
    found, wanted = gradients(y, ours), gradients(expected, theirs)
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-10)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: compiled FlexAttention")
@pytest.mark.parametrize("window", CUTOFFS)
def test_on_a_gpu(window):
    """With 16 axes as by default and 16 channels: its kernels take no fewer."""
    exact = [x.detach().float() for x in drawn(64, axes=16, channels=16)]
    here, there = ([x.to(device).requires_grad_() for x in exact] for device in ("cpu", "cuda"))
    with torch.autocast("cuda", dtype=torch.bfloat16):
        y = attract(*there, window)
    expected = attract(*here, window)
    torch.testing.assert_close(y.cpu(), expected, rtol=1e-3, atol=1e-4)
    for found, wanted in zip(gradients(y, there), gradients(expected, here), strict=True):
        torch.testing.assert_close(found.cpu(), wanted, rtol=1e-3, atol=1e-3)


def test_autocast_rounds_nothing():
    arguments = [x.detach().float() for x in drawn(70)]
    y = attract(*arguments)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = attract(*arguments)
    assert torch.equal(again, y)


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


def test_without_softening_a_token_draws_itself_alone():
    """Which is why the published sign cannot be turned by itself."""
    places, _, masses, *_ = (x.detach() for x in drawn(64))
    numbers = [torch.full((3,), x, dtype=torch.float64) for x in (0.693, 1e-6, 16.0, 0.0)]
    own = torch.diagonal(weights(places, masses, *numbers, "none"), dim1=-2, dim2=-1)
    torch.testing.assert_close(own, torch.ones_like(own))


@pytest.mark.parametrize("window", CUTOFFS)
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_tokens_at_one_place_have_finite_gradients(window, spread):
    """All of them, or every two."""
    arguments = [x.detach().float() for x in drawn(70, spread=spread)]
    arguments[0][:, :, 1::2] = arguments[0][:, :, ::2]
    for x in arguments:
        x.requires_grad_()
    y = attract(*arguments, window)
    torch.testing.assert_close(y, by_definition(window, *arguments), rtol=1e-4, atol=1e-5)
    assert all(x.isfinite().all() for x in (y, *gradients(y, arguments)))


def test_distances_alone_matter():
    places, values, masses, *numbers = (x.detach() for x in drawn(20))
    turn = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
    y = attract(places, values, masses, *numbers)
    torch.testing.assert_close(attract(places @ turn + 3, values, masses, *numbers), y)


def walking(seed, length, pace, dtype=torch.float64):
    """Arguments whose places walk at random along the text: what is far in it is far in space."""
    places, *others = (x.detach() for x in drawn(length, seed=seed, dtype=dtype))
    rng = torch.Generator().manual_seed(seed)
    steps = torch.randn(places.shape, generator=rng, dtype=dtype)
    return [x.requires_grad_() for x in (0.1 * places + pace * steps.cumsum(2), *others)]


def tiles_within(places, radius2, size=attraction.ROWS):
    """Which tiles have a pair within the radius, by looking at every pair."""
    near = torch.cdist(places, places).square() < radius2[:, None, None]
    return torch.stack([
        torch.stack([part.any(2).any(1) for part in rows.split(size, 2)], -1)
        for rows in near.tril().split(size, 1)
    ], 1)  # fmt: skip


@given(
    st.integers(0, 10_000),
    st.sampled_from(["soft", "hard"]),
    st.sampled_from([65, 130, 260]),
    st.sampled_from([0.0, 0.3, 1.0]),
)
@settings(max_examples=15, deadline=None)
def test_skipping_what_lies_beyond_the_radius_changes_nothing(seed, window, length, pace):
    ours, theirs = (walking(seed, length, pace) for _ in range(2))
    slope = torch.randn(ours[1].shape, generator=torch.Generator().manual_seed(1)).double()
    found = attract(*ours, window)
    expected = by_definition(window, *theirs)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    found.backward(slope)
    expected.backward(slope)
    for x, y in zip(ours, theirs, strict=True):
        wanted = torch.zeros_like(y) if y.grad is None else y.grad
        torch.testing.assert_close(x.grad, wanted, rtol=1e-8, atol=1e-10)


@given(st.integers(0, 10_000), st.sampled_from([64, 100, 300]), st.floats(0.05, 2.0))
@settings(max_examples=30, deadline=None)
def test_no_tile_with_a_pair_within_the_radius_is_skipped(seed, length, pace):
    places, *_, radius2, _ = (x.detach() for x in walking(seed, length, pace))
    places, radius2 = places.flatten(0, 1), radius2.repeat(2)
    found, needed = reach(places, radius2), tiles_within(places, radius2)
    assert not (needed & ~found).any()
    assert torch.diagonal(found, dim1=1, dim2=2).all()
    assert not found.triu(1).any()


def test_tiles_are_skipped_item_by_item_in_whatever_order_they_are_near():
    """Two heads, one in which the last tile is back at the first."""
    z = torch.zeros(2, 256, 3, dtype=torch.float64)
    z[:, 64:192] = 10
    z[1, 192:] = 20
    z += 0.1 * torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
    found = reach(z, torch.tensor([4.0, 4.0]))
    assert found[0].tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [1, 0, 0, 1]]
    assert found[1].tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize("window", CUTOFFS)
def test_less_is_computed_where_less_is_in_reach(window, monkeypatch):
    """Counted in numbers that reach the kernel: on a line tiles draw two of up to eight."""
    sizes = []
    weigh = attraction.kernels.weigh

    def counted(first, last, kind, tile, *arguments):
        sizes.append(tile.size)
        weigh(first, last, kind, tile, *arguments)

    monkeypatch.setattr(attraction.kernels, "weigh", counted)
    arguments = [x.detach() for x in drawn(512, spread=0.1)]
    found = []
    for pace in (0.0, 1.0):
        arguments[0][..., 0] += pace * torch.arange(512)
        sizes.clear()
        attract(*arguments, window)
        found.append(sum(sizes))
    assert found[1] / found[0] == pytest.approx(1 if window == "none" else 15 / 36)


@pytest.mark.parametrize("window", CUTOFFS)
def test_places_that_are_no_numbers_are_not_hidden(window):
    arguments = [x.detach() for x in walking(0, 200, 2.0)]
    arguments[0][:, :, 10, 0] = torch.nan
    assert attract(*arguments, window)[:, :, 11:].isnan().all()


@pytest.mark.parametrize("window", ["soft", "hard"])
def test_a_heavy_token_beyond_the_radius_weighs_nothing(window):
    """Its score alone would swallow those of all others."""
    arguments = [x.detach().float() for x in drawn(40)]
    places, masses, radius2 = arguments[0], arguments[2], arguments[5]
    places *= 0.1
    places[:, :, 3] += 2 * radius2.max() ** 0.5
    light = attract(*arguments, window)
    masses[:, 3] = 1e5
    heavy = attract(*arguments, window)
    torch.testing.assert_close(heavy[:, :, 4:], light[:, :, 4:])


@pytest.mark.parametrize("pace", [0.0, 1.0])
def test_threads_change_nothing(pace):
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            arguments = walking(0, 200, pace)
            y = attract(*arguments)
            y.square().sum().backward()
            found.append([y, *(x.grad for x in arguments)])
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(*found)
