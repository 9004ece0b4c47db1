"""Probes read the models that training leaves and `tgn export` gives away."""

import pytest
import torch

from tgn import rank
from tgn.models import ModelConfig, build, io
from tgn.models.decoder import norm
from tgn.probing.trained import residual_states

SHAPE = {"vocabulary": 40, "width": 16, "depth": 3, "heads": 2, "context": 12}
ARMS = {
    "transformer": {},
    "tgn": {"mixer": "gated", "inertial": "mingru"},
    "published": {"mixer": "gated", "inertial": "gru", "recipe": "as_published"},
}


@pytest.mark.parametrize("arm", ARMS)
def test_states_lead_to_the_models_own_logits(tmp_path, arm):
    torch.manual_seed(0)
    model = build(ModelConfig(**SHAPE, **ARMS[arm])).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    io.save(tmp_path, model, model.config)
    tokens = torch.randint(40, (2, 12))
    states = residual_states(tmp_path, tokens)
    assert states.shape == (4, 2, 12, 16)
    assert not torch.allclose(states[0], states[-1])
    if arm != "published":  # whose final norm has weights of its own
        logits = norm(states[-1]) @ model.embedding.weight.T
        torch.testing.assert_close(logits, model(tokens).logits)
    assert rank.rank_profile(states[-1][0].numpy(), centre="columns")


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not a model"):
        residual_states(tmp_path, torch.zeros(1, 4, dtype=torch.int64))
