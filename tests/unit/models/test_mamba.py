"""The Mamba mixer against transformers', and its own contract."""

import inspect
import math

import pytest
import torch
import torch.nn.functional as F
from transformers.models.mamba import modeling_mamba
from transformers.models.mamba.modeling_mamba import MambaConfig, MambaMixer

from tgn.models.mamba import Mamba

WIDTH = 24


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def _torch_only(monkeypatch):
    """Transformers chooses CUDA kernels when they are installed, wherever the tensors are."""
    for name in ("mamba_inner_fn", "mamba_selective_scan", "causal_conv1d_fn"):
        monkeypatch.setattr(modeling_mamba, name, inspect.unwrap(getattr(modeling_mamba, name)))


def randomised(mixer):
    """Weights away from their special beginnings."""
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return mixer


@pytest.mark.usefixtures("_torch_only")
@pytest.mark.parametrize(
    "options",
    [{}, {"state_size": 5, "expand": 3, "convolution": 2, "step_rank": 7}],
    ids=["default", "other sizes"],
)
def test_it_is_the_mixer_of_transformers(options):
    mixer = randomised(Mamba(WIDTH, **options))
    config = MambaConfig(
        hidden_size=WIDTH,
        state_size=options.get("state_size", 16),
        expand=options.get("expand", 2),
        conv_kernel=options.get("convolution", 4),
        time_step_rank=options.get("step_rank", "auto"),
        num_hidden_layers=1,
    )
    peer = MambaMixer(config, 0)
    peer.load_state_dict(mixer.state_dict())
    x = torch.randn(2, 37, WIDTH)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    ours, theirs = mixer(inputs[0])[0], peer(inputs[1])
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    direction = torch.randn_like(ours)
    ours.backward(direction)
    theirs.backward(direction)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-4, atol=1e-5)
    expected = {name: parameter.grad for name, parameter in peer.named_parameters()}
    for name, parameter in mixer.named_parameters():
        scale = expected[name].abs().max()
        torch.testing.assert_close(
            parameter.grad / scale, expected[name] / scale, rtol=0, atol=1e-5
        )


def test_parameters_have_the_names_and_shapes_of_mamba_ssm():
    shapes = {name: (*x.shape,) for name, x in Mamba(32).state_dict().items()}
    assert shapes == {
        "A_log": (64, 16),
        "D": (64,),
        "in_proj.weight": (128, 32),
        "conv1d.weight": (64, 1, 4),
        "conv1d.bias": (64,),
        "x_proj.weight": (2 + 32, 64),
        "dt_proj.weight": (64, 2),
        "dt_proj.bias": (64,),
        "out_proj.weight": (32, 64),
    }


def test_initial_rates_and_steps():
    mixer = Mamba(512)
    torch.testing.assert_close(mixer.A_log.exp(), torch.arange(1.0, 17).expand(1024, 16))
    assert (mixer.D == 1).all()
    steps = F.softplus(mixer.dt_proj.bias)
    assert 1e-3 * 0.999 <= steps.min() < 1.2e-3
    assert 0.08 < steps.max() <= 0.1 * 1.001
    assert steps.log().median().item() == pytest.approx(math.log(1e-2), abs=0.3)
    assert mixer.dt_proj.weight.abs().max() <= 32**-0.5


@pytest.mark.parametrize("pieces", [[1] * 12, [5, 1, 6], [12]])
@torch.no_grad()
def test_decoding_is_the_full_forward(pieces):
    mixer = randomised(Mamba(WIDTH)).double()
    x = torch.randn(3, 12, WIDTH, dtype=torch.float64)
    cache = mixer.new_cache(3, "cpu", torch.float64)
    outputs = [mixer(piece, cache)[0] for piece in x.split(pieces, dim=1)]
    torch.testing.assert_close(torch.cat(outputs, dim=1), mixer(x)[0])


def test_one_tap_needs_no_past():
    mixer = randomised(Mamba(WIDTH, convolution=1)).double()
    x = torch.randn(1, 6, WIDTH, dtype=torch.float64)
    cache = mixer.new_cache(1, dtype=torch.float64)
    outputs = [mixer(token, cache)[0] for token in x.split(1, dim=1)]
    torch.testing.assert_close(torch.cat(outputs, dim=1), mixer(x)[0])


@torch.no_grad()
def test_the_future_does_not_reach_back():
    mixer = randomised(Mamba(WIDTH))
    x = torch.randn(2, 20, WIDTH)
    before = mixer(x)[0]
    x[:, 13] += 1
    after = mixer(x)[0]
    torch.testing.assert_close(after[:, :13], before[:, :13], rtol=0, atol=0)
    assert (after[:, 13:] != before[:, 13:]).any(dim=-1).all()


def test_it_has_no_gate_and_its_state_is_what_the_output_map_reads():
    mixer = Mamba(WIDTH)
    x = torch.randn(2, 5, WIDTH)
    y, gate = mixer(x)
    assert gate is None
    state = mixer.state(x)
    assert state.shape == (2, 5, mixer.inner)
    torch.testing.assert_close(mixer.out(state), y)


def test_half_precision():
    mixer = randomised(Mamba(WIDTH))
    x = torch.randn(2, 30, WIDTH)
    exact = mixer(x)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = mixer(x)[0]
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), exact, rtol=0.1, atol=0.05 * exact.abs().max().item())
    whole = mixer.bfloat16()
    cache = whole.new_cache(2, "cpu", torch.bfloat16)
    assert cache["state"].dtype == torch.float32
    assert whole(x.bfloat16(), cache)[0].dtype == torch.bfloat16
    assert cache["state"].dtype == torch.float32


@pytest.mark.parametrize("name", ["width", "state_size", "expand", "convolution", "step_rank"])
def test_sizes_must_be_positive(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        Mamba(**{"width": 8, name: 0})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@torch.no_grad()
def test_a_gpu_gives_the_cpu_mixer():
    pytest.importorskip("mamba_ssm", reason="mamba_ssm is not installed")
    mixer = randomised(Mamba(64))
    x = torch.randn(2, 50, 64)
    expected = mixer(x)[0]
    mixer.cuda()
    torch.testing.assert_close(mixer(x.cuda())[0].cpu(), expected, rtol=1e-3, atol=1e-3)
    cache = mixer.new_cache(2, "cuda", torch.float32)
    outputs = [mixer(token.cuda(), cache)[0].cpu() for token in x.split(1, dim=1)]
    torch.testing.assert_close(torch.cat(outputs, dim=1), expected, rtol=1e-3, atol=1e-3)
