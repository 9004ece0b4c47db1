"""What every mixer must do, in the decoder and in the published stack."""

import pytest
import torch

from tgn.models import HardGate, ModelConfig, build

SMALL = {"vocabulary": 61, "width": 32, "depth": 2, "heads": 2, "context": 96, "mlp_width": 48}
GATED = {"mixer": "gated", "inertial": "mingru"}
ARMS = {
    "attention": {"mixer": "attention"},
    "gru": {"mixer": "gru"},
    "mingru": {"mixer": "mingru"},
    "mingru, short convolution": {"mixer": "mingru", "short_convolution": True},
    "attention, short convolution": {
        "mixer": "attention",
        "short_convolution": True,
        "rotary": False,
    },
    "TGN, short convolution": GATED | {"short_convolution": True, "rotary": False},
    "sequential TGN of mamba, short convolution": {
        "mixer": "gated",
        "inertial": "mamba",
        "wiring": "sequential",
        "short_convolution": True,
    },
    "mamba": {"mixer": "mamba"},
    "TGN of gru": {"mixer": "gated", "inertial": "gru"},
    "TGN of mingru": GATED,
    "TGN of mamba": {"mixer": "gated", "inertial": "mamba"},
    "sequential TGN of gru": {"mixer": "gated", "inertial": "gru", "wiring": "sequential"},
    "sequential TGN of mamba": {"mixer": "gated", "inertial": "mamba", "wiring": "sequential"},
    "straight-through TGN": GATED | {"gate_form": "straight_through"},
    "hard-concrete TGN": GATED | {"gate_form": "hard_concrete"},
    "constant gate": GATED | {"gate": "constant"},
    "untied": {"mixer": "attention", "tied": False},
    "published transformer": {"mixer": "attention", "recipe": "as_published"},
    "published GRU": {"mixer": "gru", "recipe": "as_published"},
    "published TGN": {"mixer": "gated", "inertial": "gru", "recipe": "as_published"},
}
every_arm = pytest.mark.parametrize("arm", ARMS.values(), ids=ARMS)
gravity = {
    "gravity": {"mixer": "gravity"},
    "gravity, masses on values": {"mixer": "gravity", "mass": "value"},
    "published gravity": {"mixer": "gravity", "recipe": "as_published", "cutoff": "hard"},
}  # whose other duties have tests of their own
rounded = pytest.mark.parametrize("arm", (ARMS | gravity).values(), ids=ARMS | gravity)
ours = {name: arm for name, arm in ARMS.items() if "recipe" not in arm}
every_arm_of_ours = pytest.mark.parametrize("arm", ours.values(), ids=ours)
# Soft, and hard where there is a gate.
ways = [
    pytest.param(arm, hard, id=f"{name}, {hard}")
    for name, arm in ARMS.items()
    for hard in (None, HardGate(0.5), HardGate(0.5, "one"))
    if hard is None or arm["mixer"] == "gated"
]
every_way = pytest.mark.parametrize(("arm", "hard"), ways)


def model_of(arm, seed=0):
    """A model none of whose parameters is zero, gates about half open, in evaluation mode."""
    torch.manual_seed(seed)
    model = build(ModelConfig(**SMALL | arm)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        hooks = [
            part.linear.register_forward_hook(centre)
            for name, part in model.named_modules()
            if name.endswith("gate") and hasattr(part, "linear")
        ]
        model(some_tokens())
    for hook in hooks:
        hook.remove()
    return model


def centre(layer, inputs, logit):
    """Move a gate's bias to between the middle two tokens."""
    middle = logit.quantile(0.5)
    layer.bias -= middle
    return logit - middle


def some_tokens(batch=2, length=80, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(SMALL["vocabulary"], (batch, length), generator=generator)


@every_arm
def test_shapes(arm):
    tokens = some_tokens(3, 17)
    output = model_of(arm)(tokens)
    assert output.logits.shape == (3, 17, SMALL["vocabulary"])
    assert output.loss is None
    if arm["mixer"] == "gated":
        assert output.gates.shape == (SMALL["depth"], 3, 17)
        assert ((output.gates >= 0) & (output.gates <= 1)).all()
    else:
        assert output.gates is None


@every_way
@torch.no_grad()
def test_nothing_before_a_changed_token_moves(arm, hard):
    model, tokens = model_of(arm), some_tokens()
    before = model(tokens, hard=hard)
    if hard is not None and arm.get("gate") != "constant":
        assert 0.1 < (before.gates > hard.threshold).float().mean() < 0.9
    for place in (1, 33, 64, 79):
        changed = tokens.clone()
        changed[:, place] = (changed[:, place] + 1) % SMALL["vocabulary"]
        after = model(changed, hard=hard)
        assert torch.equal(before.logits[:, :place], after.logits[:, :place])
        assert not torch.equal(before.logits[:, place], after.logits[:, place])
        if before.gates is not None:
            assert torch.equal(before.gates[..., :place], after.gates[..., :place])


@every_way
@torch.no_grad()
def test_decoding_step_by_step_equals_the_whole_forward_pass(arm, hard):
    model, tokens = model_of(arm), some_tokens()
    whole = model(tokens, hard=hard)
    cache = model.new_cache(len(tokens))
    pieces = [40, 7, *[1] * 33]  # a prompt, a few at once, then one by one
    steps = [model(part, cache=cache, hard=hard) for part in tokens.split(pieces, dim=1)]
    logits = torch.cat([step.logits for step in steps], dim=1)
    torch.testing.assert_close(logits, whole.logits, atol=1e-4, rtol=1e-4)
    if whole.gates is not None:
        gates = torch.cat([step.gates for step in steps], dim=2)
        torch.testing.assert_close(gates, whole.gates, atol=1e-5, rtol=1e-4)


@every_arm
def test_gradient_reaches_every_parameter(arm):
    model, tokens = model_of(arm).train(), some_tokens()
    output = model(tokens[:, :-1], targets=tokens[:, 1:])
    loss = output.loss if output.gates is None else output.loss + output.gates.mean()
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().amax() > 0, name


@every_arm_of_ours
def test_a_fresh_model_knows_nothing(arm):
    torch.manual_seed(0)
    model, tokens = build(ModelConfig(**SMALL | arm)), some_tokens()
    loss = model(tokens[:, :-1], targets=tokens[:, 1:]).loss
    uniform = torch.tensor(SMALL["vocabulary"]).log()
    assert abs(loss - uniform) < 0.05
    # Every block is the identity, so that what comes out is what each token alone is.
    single = model(tokens[:, 5:6]).logits
    torch.testing.assert_close(model(tokens).logits[:, 5:6], single, atol=1e-5, rtol=1e-5)


@rounded
def test_bfloat16_autocast_changes_little(arm):
    model, tokens = model_of(arm), some_tokens()
    exact = model(tokens[:, :-1], targets=tokens[:, 1:]).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(tokens[:, :-1], targets=tokens[:, 1:])
    assert output.loss.dtype == torch.float32
    assert output.gates is None or output.gates.dtype == torch.float32
    assert abs(output.loss - exact) / exact < 0.02


@pytest.mark.parametrize("arm", [ARMS["TGN of mingru"], ARMS["published TGN"]], ids=str)
def test_gradient_checkpointing_changes_nothing(arm):
    tokens, gradients = some_tokens(), []
    for checkpointing in (False, True):
        model = model_of(arm).train()
        model.gradient_checkpointing = checkpointing
        model(tokens[:, :-1], targets=tokens[:, 1:]).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@every_arm
def test_dropout_acts_only_while_training(arm):
    model, tokens = model_of(arm | {"dropout": 0.5}), some_tokens()
    assert torch.equal(model(tokens).logits, model(tokens).logits)
    model.train()
    torch.manual_seed(0)
    assert not torch.equal(model(tokens).logits, model(tokens).logits)


@every_arm
def test_a_sequence_longer_than_the_context_is_refused_where_there_is_attention(arm):
    model, tokens = model_of(arm), some_tokens(1, SMALL["context"] + 1)
    if not model.config.attends and model.config.recipe == "ours":
        assert model(tokens).logits.isfinite().all()
        return
    with pytest.raises(ValueError, match="97 tokens is longer than the context, 96"):
        model(tokens)
    cache = model.new_cache(1)
    model(tokens[:, :96], cache=cache)
    with pytest.raises(ValueError, match="longer than the context"):
        model(tokens[:, 96:], cache=cache)


@rounded
@torch.no_grad()
def test_decoding_in_bfloat16(arm):
    model, tokens = model_of(arm), some_tokens()
    exact = model(tokens).logits
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cache = model.new_cache(len(tokens))
        steps = [model(part, cache=cache).logits for part in tokens.split([70, *[1] * 10], dim=1)]
    error = (torch.cat(steps, dim=1) - exact).square().mean() / exact.square().mean()
    assert error < 0.02
