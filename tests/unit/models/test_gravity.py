"""The gravity stack: gradients, causality, caches, its start, its price of being near."""

import pytest
import torch

from tgn.models import ModelConfig, build
from tgn.models.gravity import repulsion

SMALL = {"vocabulary": 40, "width": 32, "depth": 2, "heads": 2, "context": 48, "mixer": "gravity"}


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


def test_bfloat16_autocast_leaves_coordinates_alone():
    """Rounded, they would move the near, which matter most."""
    made, seen = model().train(), []
    made.blocks[0].mixer.place.register_forward_hook(lambda *given: seen.append(given[1:]))
    exact = made(tokens()).repulsion
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = made(tokens()).repulsion
    torch.testing.assert_close(seen[1], seen[0], rtol=0, atol=0)
    assert found.dtype == torch.float32
    assert found[0] == exact[0]
    torch.testing.assert_close(found, exact, rtol=1e-2, atol=0)


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
