"""The recurrent mixers against their definitions."""

import pytest
import torch
from torch import nn

from tgn.models import ModelConfig
from tgn.models.recurrent import GRU, MinGRU, ShortConvolution

CONFIG = ModelConfig(8, 16, 1, 2, 32, mixer="mingru")


@torch.no_grad()
def test_min_gru_follows_its_equation():
    torch.manual_seed(0)
    mixer, x = MinGRU(CONFIG), torch.randn(2, 30, 16)
    z, c = mixer.update(x).sigmoid(), mixer.candidate(x)
    c = torch.where(c >= 0, c + 0.5, c.sigmoid())
    h, states = torch.zeros(2, 16), []
    for t in range(30):
        h = (1 - z[:, t]) * h + z[:, t] * c[:, t]
        states.append(h)
    expected = torch.stack(states, dim=1)
    torch.testing.assert_close(mixer.state(x), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(mixer(x)[0], mixer.out(expected), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_fresh_min_gru_remembers_one_to_256_tokens():
    memory = 1 / MinGRU(CONFIG).update.bias.sigmoid()
    steps = memory.log().diff()
    assert memory[0] == pytest.approx(256 ** (1 / 16), rel=1e-4)
    assert memory[-1].item() == pytest.approx(256, rel=1e-4)
    torch.testing.assert_close(steps, steps.mean().expand_as(steps), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_gru_is_torchs():
    mixer, x = GRU(CONFIG), torch.randn(2, 30, 16)
    cell = nn.GRU(16, 16, batch_first=True)
    cell.load_state_dict(mixer.cell.state_dict())
    torch.testing.assert_close(mixer.state(x), cell(x)[0])


@torch.no_grad()
def test_short_convolution_is_a_depthwise_causal_convolution():
    layer, x = ShortConvolution(16), torch.randn(2, 30, 16)
    assert torch.equal(layer(x), x)
    nn.init.normal_(layer.taps)
    reference = nn.Conv1d(16, 16, 4, groups=16, padding=3, bias=False)
    reference.weight.copy_(layer.taps.T[:, None])
    expected = reference(x.mT)[..., :30].mT
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)
    cache = layer.new_cache(2)
    parts = [layer(part, cache) for part in x.split([1, 2, 20, 7], dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), expected, atol=1e-5, rtol=1e-5)
