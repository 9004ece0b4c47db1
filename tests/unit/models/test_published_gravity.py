"""The published Newton Gravity Transformer, pinned with what is wrong with it."""

import pytest
import torch

from tgn.models import ModelConfig, build, sizes

SMALL = {
    "vocabulary": 40, "width": 32, "depth": 2, "heads": 2, "context": 64, "mlp_width": 64,
    "mixer": "gravity", "recipe": "as_published", "coordinates": 8, "cutoff": "hard",
}  # fmt: skip


def model(**changes):
    torch.manual_seed(0)
    return build(ModelConfig.from_dict({**SMALL, **changes}))


def tokens(length=64, batch=4):
    return torch.randint(40, (batch, length), generator=torch.Generator().manual_seed(2))


def row(made, places=None, masses=None):
    """Weights of the last token in the first block, by distance."""
    block = made.blocks[0]
    torch.manual_seed(1)
    places = torch.randn(1, 2, 40, 16) * 0.58 if places is None else places
    masses = torch.ones(1, 40) if masses is None else masses
    with torch.no_grad():
        a = block.weights(places, masses, 1)[0, 0, 0]
    d2 = (places[0, 0, -1] - places[0, 0]).square().sum(-1)
    return a, d2


def test_it_has_as_many_parameters_as_published():
    published = {
        "vocabulary": 8192, "width": 512, "depth": 8, "heads": 8, "context": 512,
        "coordinates": 64, "mlp_width": 2048, "mixer": "gravity", "recipe": "as_published",
    }  # fmt: skip
    assert sizes.parameters(ModelConfig.from_dict(published)) == 25_591_432


def test_the_equations_on_small_tensors():
    made = model()
    block = made.blocks[1].eval()
    x, z, masses = torch.randn(1, 5, 32), torch.randn(1, 5, 8), torch.rand(1, 5) + 0.5
    with torch.no_grad():
        y, moved = block(x, z, masses)
        inner = block.mixer_norm(x)[0]
        heads = []
        for h in range(2):
            at = block.place(z)[0, :, 16 * h : 16 * h + 16]
            value = block.value(inner)[:, 16 * h : 16 * h + 16]
            drawn = torch.zeros(5, 16)
            for i in range(5):
                score = torch.full((5,), -torch.inf)
                for j in range(i + 1):
                    d2 = ((at[i] - at[j]) ** 2).sum()
                    if d2 <= torch.log1p(torch.tensor(4.0).exp()) ** 2:
                        pull = -torch.log(torch.tensor(2.0)) / (d2 + 1e-6)
                        score[j] = pull * masses[0, i] * masses[0, j]
                drawn[i] = score.softmax(0) @ value
            heads.append(drawn)
        attention = block.out(torch.cat(heads, dim=1))
        torch.testing.assert_close(moved[0], block.coordinate_norm(z[0] + block.drift(attention)))
        x = x[0] + attention
        mlp = block.down(torch.nn.functional.gelu(block.up(block.mlp_norm(x))))
        torch.testing.assert_close(y[0], x + mlp)


def test_the_farthest_wins_and_oneself_gets_nothing():
    a, d2 = row(model(cutoff="none"))
    assert a.argmax() == d2.argmax()
    assert a[-1] == 0
    assert torch.corrcoef(torch.stack([a[:-1], d2[:-1]]))[0, 1] > 0.5


def test_the_heavy_attract_less():
    masses = torch.ones(1, 40)
    before, _ = row(model(cutoff="none"), masses=masses)
    masses[0, 3] = 5
    after, _ = row(model(cutoff="none"), masses=masses)
    assert after[3] < before[3]


def test_the_soft_cutoff_sends_weight_outside():
    made = model(cutoff="soft")
    with torch.no_grad():
        made.blocks[0].radius.fill_(1.0)
    torch.manual_seed(1)
    a, d2 = row(made, places=torch.randn(1, 2, 40, 16) * 0.58)
    outside = d2 > torch.nn.functional.softplus(torch.tensor(1.0)) ** 2
    assert a[outside].sum() > outside.float().mean()


@pytest.mark.parametrize(("changes", "without"), [
    ({}, {"blocks.0.radius", "blocks.1.radius"}),
    ({"cutoff": "none"}, {"blocks.0.radius", "blocks.1.radius"}),
])  # fmt: skip
def test_what_has_no_gradient(changes, without):
    made = model(**changes).train()
    result = made(tokens(), targets=tokens().roll(-1, 1))
    result.loss.backward()
    missing = {name for name, p in made.named_parameters() if p.grad is None}
    last = {f"blocks.1.{name}" for name in (
        "drift.weight", "drift.bias", "coordinate_norm.weight", "coordinate_norm.bias",
    )}  # fmt: skip
    assert missing == without | last
    place = made.blocks[0].place
    assert place.bias.grad.abs().max() < 1e-4 * place.weight.grad.abs().max()


def test_the_bias_is_dead_where_masses_act_on_values():
    made = model(mass="value").train()
    made(tokens(), targets=tokens().roll(-1, 1)).loss.backward()
    assert made.blocks[0].beta.grad.abs().max() < 1e-6


def test_the_start_is_far_above_guessing():
    torch.manual_seed(0)
    made = model(vocabulary=1000, width=256, heads=4).eval()
    read = torch.randint(1000, (2, 64))
    with torch.no_grad():
        assert made(read, targets=torch.randint(1000, (2, 64))).loss > 10 * 6.9


def test_decoding_through_the_cache():
    made = model().eval()
    read, cache = tokens(20), made.new_cache(4)
    with torch.no_grad():
        whole = made(read).logits
        parts = [made(read[:, :11], cache).logits, made(read[:, 11:], cache).logits]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-4, atol=1e-4)
