"""The gated mixer: its limits, its forms, and hard gates against dense references."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgn.models import HardGate, ModelConfig, as_published, build, decoder, force_gate
from tgn.models.attention import Attention
from tgn.models.gated import hard_concrete, mix, straight_through
from tgn.models.hard_attention import STEP, attend_open

SMALL = {"vocabulary": 61, "width": 32, "depth": 2, "heads": 2, "context": 700}
ARMS = {
    "gru": {"inertial": "gru"},
    "mingru": {"inertial": "mingru"},
    "mamba": {"inertial": "mamba"},
    "sequential mingru": {"inertial": "mingru", "wiring": "sequential"},
    "sequential mamba": {"inertial": "mamba", "wiring": "sequential"},
    "straight-through": {"inertial": "mingru", "gate_form": "straight_through"},
    "hard-concrete": {"inertial": "mingru", "gate_form": "hard_concrete"},
    "published": {"inertial": "gru", "recipe": "as_published"},
}
every_arm = pytest.mark.parametrize("arm", ARMS.values(), ids=ARMS)


def config_of(arm):
    return ModelConfig(**SMALL, mixer="gated", **arm)


def randomised(module, seed=0):
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return module.eval()


def mixer_of(arm):
    config = config_of(arm)
    room = as_published if config.recipe == "as_published" else decoder
    return randomised(room.make_mixer(config))


def inputs(batch=2, length=64, seed=1):
    return torch.randn(batch, length, SMALL["width"], generator=torch.Generator().manual_seed(seed))


def source_of(mixer, x):
    return mixer.inertial.state(x) if mixer.sequential else x


@every_arm
@torch.no_grad()
def test_an_open_gate_gives_attention_and_a_closed_one_the_recurrence(arm):
    mixer, x = mixer_of(arm), inputs()
    force_gate(mixer, 1.0)
    attention = mixer.geometric(source_of(mixer, x))[0]
    torch.testing.assert_close(mixer(x)[0], attention, atol=1e-5, rtol=0)
    force_gate(mixer, 0.0)
    recurrent = mixer.inertial.out(mixer.inertial.state(x))
    torch.testing.assert_close(mixer(x)[0], recurrent, atol=1e-5, rtol=0)
    assert not torch.allclose(attention, recurrent, atol=0.1)


@torch.no_grad()
def test_whole_models_with_a_forced_gate_are_the_plain_ones_of_the_same_weights():
    tgn = randomised(build(config_of({"inertial": "mingru"})))
    tokens = torch.randint(61, (2, 50))
    for forced, mixer, path in ((1.0, "attention", "geometric"), (0.0, "mingru", "inertial")):
        plain = build(ModelConfig(**SMALL, mixer=mixer)).eval()
        weights = {name.replace(f".{path}.", "."): w for name, w in tgn.state_dict().items()}
        wanted = set(plain.state_dict())
        plain.load_state_dict({name: w for name, w in weights.items() if name in wanted})
        force_gate(tgn, forced)
        torch.testing.assert_close(tgn(tokens).logits, plain(tokens).logits, atol=1e-5, rtol=1e-5)


@every_arm
@torch.no_grad()
def test_a_hard_gate_at_threshold_0_is_the_soft_model(arm):
    model, tokens = randomised(build(config_of(arm))), torch.randint(61, (3, 70))
    soft, hard = model(tokens), model(tokens, hard=HardGate(0.0))
    torch.testing.assert_close(hard.logits, soft.logits, atol=1e-6, rtol=1e-5)
    assert torch.equal(hard.gates, soft.gates)


@every_arm
@pytest.mark.parametrize("open_value", ["soft", "one"])
@torch.no_grad()
def test_closed_tokens_use_zero_and_open_ones_their_gate_or_one(arm, open_value):
    mixer, x = mixer_of(arm), inputs(batch=3, length=90)
    linear = mixer.gate.linear
    with torch.no_grad():
        hook = linear.register_forward_hook(lambda *call: linear.bias.sub_(call[2].quantile(0.5)))
        mixer(x)
        hook.remove()
    _, g = mixer(x)
    threshold = 0.5
    y, gates = mixer(x, hard=HardGate(threshold, open_value))
    assert torch.equal(gates, g)
    is_open = g > threshold
    assert is_open.any()
    assert not is_open.all()
    used = torch.where(is_open, g if open_value == "soft" else 1.0, 0.0)
    inertial = mixer.inertial.out(mixer.inertial.state(x))
    dense = mix(inertial, mixer.geometric(source_of(mixer, x))[0], used)
    torch.testing.assert_close(y, dense, atol=1e-5, rtol=1e-4)


@settings(max_examples=30, deadline=None)
@given(
    batch=st.integers(1, 4),
    length=st.integers(1, 90),
    past=st.integers(0, 40),
    share=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    seed=st.integers(0, 10),
)
@torch.no_grad()
def test_attention_of_open_tokens_is_that_of_all_at_their_places(batch, length, past, share, seed):
    attention = randomised(Attention(config_of({"inertial": "gru"})))
    x = inputs(batch, past + length, seed)
    is_open = torch.rand(batch, length, generator=torch.Generator().manual_seed(seed)) < share
    expected = attention(x)[0][:, past:][is_open]
    cache = attention.new_cache(batch)
    if past:
        attention(x[:, :past], cache)
    y, row, column = attend_open(attention, x[:, past:], is_open, cache)
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-4)
    assert torch.equal(is_open.nonzero(), torch.stack([row, column], dim=1))


@torch.no_grad()
def test_long_runs_of_open_tokens_are_cut_into_segments():
    attention, x = randomised(Attention(config_of({"inertial": "gru"}))), inputs(2, 700)
    is_open = torch.ones(2, 700, dtype=torch.bool)
    is_open[1, 100:650] = False
    y, *_ = attend_open(attention, x, is_open)
    torch.testing.assert_close(y, attention(x)[0][is_open], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_closed_tokens_ask_no_query():
    mixer, x, asked = mixer_of(ARMS["mingru"]), inputs(2, 200), []
    mixer.geometric.query.register_forward_hook(lambda *call: asked.append(call[1][0].shape))
    gate = torch.zeros(2, 200)
    force_gate(mixer, gate)
    mixer(x, hard=HardGate(0.5))
    assert asked == []
    gate[0, [7, 30, 199]] = gate[1, [8, 9]] = 1
    mixer(x, hard=HardGate(0.5))
    assert asked == [(2, STEP, SMALL["width"])]


@torch.no_grad()
def test_keys_of_closed_tokens_are_cached_for_later_ones():
    mixer, x = mixer_of(ARMS["mingru"]), inputs(1, 30)
    gate = torch.zeros(1, 30)
    gate[0, -1] = 1
    force_gate(mixer, gate)
    whole, _ = mixer(x)
    cache = mixer.new_cache(1)
    for k in range(30):
        force_gate(mixer, gate[:, k : k + 1])
        step, _ = mixer(x[:, k : k + 1], cache, HardGate(0.5))
    torch.testing.assert_close(step[:, 0], whole[:, -1], atol=1e-5, rtol=1e-4)


def test_hard_gates_pass_gradients_of_open_tokens():
    mixer, x = mixer_of(ARMS["mingru"]), inputs().requires_grad_()
    y, _ = mixer(x, hard=HardGate(0.0))
    y.square().sum().backward()
    hard = x.grad.clone()
    x.grad = None
    mixer(x)[0].square().sum().backward()
    torch.testing.assert_close(hard, x.grad, atol=1e-4, rtol=1e-4)


def test_straight_through_is_binary_with_the_gradient_of_the_sigmoid():
    logit = torch.tensor([-3.0, -0.1, 0.1, 3.0], requires_grad=True)
    g = straight_through(logit.sigmoid())
    torch.testing.assert_close(g, torch.tensor([0.0, 0.0, 1.0, 1.0]), atol=1e-7, rtol=0)
    g.sum().backward()
    s = logit.detach().sigmoid()
    torch.testing.assert_close(logit.grad, s * (1 - s))


def test_hard_concrete_has_the_published_distribution():
    """P(g = 0) and P(g = 1) in closed form: Louizos et al. 2018, equations 10 to 12."""
    torch.manual_seed(0)
    log_alpha, n = 0.3, 200_000
    g = hard_concrete(torch.full((n,), log_alpha), noisy=True)
    ratio = torch.tensor(0.1 / 1.1).log() * 2 / 3
    closed = (ratio - log_alpha).sigmoid()
    full = (log_alpha + ratio).sigmoid()
    error = 4 * 0.5 / n**0.5
    assert abs((g == 0).float().mean() - closed) < error
    assert abs((g == 1).float().mean() - full) < error
    expected = torch.sigmoid(torch.tensor(log_alpha)) * 1.2 - 0.1
    torch.testing.assert_close(
        hard_concrete(torch.full((3,), log_alpha), noisy=False), expected.expand(3)
    )


def test_hard_concrete_is_noisy_only_while_training():
    mixer, x = mixer_of(ARMS["hard-concrete"]), inputs()
    assert torch.equal(mixer(x)[1], mixer(x)[1])
    mixer.train()
    assert not torch.equal(mixer(x)[1], mixer(x)[1])


@pytest.mark.parametrize("bias", [0.0, -2.0])
def test_the_gate_starts_at_its_bias(bias):
    model = build(config_of({"inertial": "mingru", "gate_bias": bias}))
    gates = model(torch.randint(61, (2, 20))).gates
    level = torch.tensor(bias).sigmoid()
    torch.testing.assert_close(gates, level.expand(gates.shape))


def test_uninformed_gates_have_the_asked_level():
    x = inputs(8, 600)
    constant = mixer_of({"inertial": "mingru", "gate": "constant", "gate_bias": -2.0})(x)[1]
    level = torch.tensor(-2.0).sigmoid()
    torch.testing.assert_close(constant, level.expand(8, 600))
    random = mixer_of({"inertial": "mingru", "gate": "random", "gate_bias": -2.0})(x)[1]
    assert set(random.unique().tolist()) == {0.0, 1.0}
    assert abs(random.mean() - level) < 5 * (level * (1 - level) / 4800).sqrt()


@torch.no_grad()
def test_gates_are_forced_by_a_number_a_table_or_a_table_a_layer():
    model, tokens = randomised(build(config_of(ARMS["mingru"]))), torch.randint(61, (2, 20))
    own = model(tokens)
    force_gate(model, own.gates)
    torch.testing.assert_close(model(tokens).logits, own.logits, atol=1e-6, rtol=1e-6)
    force_gate(model, own.gates[0])
    assert torch.equal(model(tokens).gates, own.gates[:1].expand(2, 2, 20))
    force_gate(model, 0.25)
    assert (model(tokens).gates == 0.25).all()
    force_gate(model, None)
    assert torch.equal(model(tokens).logits, own.logits)
    with pytest.raises(ValueError, match="gates of 3 layers for a model with 2"):
        force_gate(model, torch.zeros(3, 2, 20))
    with pytest.raises(ValueError, match="no gate to force"):
        force_gate(build(ModelConfig(**SMALL)), 0.5)


@pytest.mark.parametrize(
    ("values", "message"),
    [({"threshold": -0.1}, "threshold"), ({"open_value": "two"}, "open_value must be soft or one")],
)
def test_hard_gates_refuse_nonsense(values, message):
    with pytest.raises(ValueError, match=message):
        HardGate(**values)
