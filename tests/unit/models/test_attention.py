"""Rotations, norms and masks of attention against their definitions."""

import pytest
import torch
import torch.nn.functional as F

from tgn.models import ModelConfig
from tgn.models.attention import (
    Attention,
    attend,
    attend_biased,
    causal_bias,
    rotary_table,
    rotate_normed,
)


def normal(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def reference(x, context):
    """Norm, then rotate pairs of channels (2 i, 2 i + 1) by position * 10000^(-2 i / d)."""
    d = x.shape[-1]
    x = x / x.square().mean(-1, keepdim=True).sqrt()
    rate = 10_000.0 ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)
    angle = (torch.arange(context)[:, None] * rate)[:, None].to(x.dtype)
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = even * angle.cos() - odd * angle.sin(), even * angle.sin() + odd * angle.cos()
    return torch.stack(turned, dim=-1).flatten(-2)


def test_rotation_and_norm_follow_their_definition():
    x, table = normal(2, 50, 3, 8, dtype=torch.float64), rotary_table(50, 8)
    torch.testing.assert_close(rotate_normed(x, table), reference(x, 50), atol=1e-6, rtol=1e-6)


def test_gradient_of_rotation_and_norm():
    x = normal(2, 5, 3, 4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: rotate_normed(x, rotary_table(5, 4).double()), x)
    transposed = normal(2, 3, 4, 5, dtype=torch.float64).requires_grad_()
    table = rotary_table(5, 4).double()
    assert torch.autograd.gradcheck(
        lambda x: rotate_normed(x.permute(0, 3, 1, 2).contiguous(), table).mT, transposed
    )


def test_scores_depend_on_distance_alone():
    q, k = normal(1, 1, 1, 16).expand(1, 60, 1, 16), normal(1, 1, 1, 16, seed=1)
    table = rotary_table(60, 16)
    q, k = rotate_normed(q, table)[0, :, 0], rotate_normed(k.expand_as(q), table)[0, :, 0]
    scores = q @ k.T
    for distance in (0, 3, 20):
        diagonal = scores.diagonal(-distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-4, rtol=0)
    assert scores[:, 0].std() > 0.1


def test_a_query_of_zeros_is_finite():
    x = torch.zeros(1, 3, 1, 4, requires_grad=True)
    y = rotate_normed(x, rotary_table(3, 4))
    y.sum().backward()
    assert not y.any()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("n", [1, 7, 40])
def test_attention_is_the_masked_softmax(dtype, n):
    """All 40 queries or the last few; by torch's fused kernel, or by products in bfloat16."""
    q, k, v = (normal(2, 3, 40, 8, dtype=torch.float64, seed=s).to(dtype) for s in range(3))
    scores = q.double() @ k.double().mT / 8**0.5
    scores.masked_fill_(torch.ones(40, 40, dtype=torch.bool).triu(1), -torch.inf)
    expected = (scores.softmax(-1) @ v.double())[:, :, -n:]
    y = attend(q[:, :, -n:], k, v)
    assert y.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 0.03
    torch.testing.assert_close(y.double(), expected, atol=tolerance, rtol=tolerance)


def test_gradients_of_both_ways_agree():
    gradients = []
    for dtype in (torch.float32, torch.bfloat16):
        q, k, v = (normal(2, 3, 40, 8, seed=s).to(dtype).requires_grad_() for s in range(3))
        bias = causal_bias(torch.arange(40), 40, dtype)
        attend_biased(q, k, v, bias).float().square().sum().backward()
        gradients.append([x.grad.float() for x in (q, k, v)])
    for exact, rounded in zip(*gradients, strict=True):
        torch.testing.assert_close(rounded, exact, atol=0.05, rtol=0.05)


def test_gain_is_a_temperature_for_each_head():
    attention = Attention(ModelConfig(8, 16, 1, 2, 32)).eval()
    x = normal(1, 20, 16)
    with torch.no_grad():
        attention.gain.copy_(torch.tensor([[0.0], [1.0]]))
        q, (k, v, _) = attention.queries(x, slice(0, 20)), attention.keys_values(x)
        y = attend(q, k, v)
    # A head without gain weights all keys alike.
    mean = v[:, 0].cumsum(dim=1) / torch.arange(1, 21)[:, None]
    torch.testing.assert_close(y[:, 0], mean, atol=1e-5, rtol=1e-5)
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(y, expected)


@torch.no_grad()
def test_without_rotation_attention_knows_no_order():
    """The last token's output does not move when those before it change places."""
    x = normal(1, 20, 16)
    shuffled = torch.cat([x[:, torch.randperm(19)], x[:, 19:]], dim=1)
    for rotary in (True, False):
        attention = Attention(ModelConfig(8, 16, 1, 2, 32, rotary=rotary)).eval()
        before, after = attention(x)[0][:, -1], attention(shuffled)[0][:, -1]
        assert torch.allclose(before, after, atol=1e-5) != rotary
