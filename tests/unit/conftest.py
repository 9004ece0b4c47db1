"""Tiny random models, one a family, shared by the tests of the probes."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    OPTConfig,
)

CONFIGS = {
    "gpt2": GPT2Config(vocab_size=64, n_positions=32, n_embd=24, n_layer=3, n_head=3),
    "gpt_neox": GPTNeoXConfig(
        vocab_size=64, hidden_size=24, num_hidden_layers=3, num_attention_heads=3,
        intermediate_size=48, max_position_embeddings=32, use_parallel_residual=True,
    ),
    "gpt_neox_sequential": GPTNeoXConfig(
        vocab_size=64, hidden_size=24, num_hidden_layers=3, num_attention_heads=3,
        intermediate_size=48, max_position_embeddings=32, use_parallel_residual=False,
    ),
    "llama": LlamaConfig(
        vocab_size=64, hidden_size=24, num_hidden_layers=3, num_attention_heads=6,
        num_key_value_heads=2, intermediate_size=48, max_position_embeddings=32,
    ),
    "opt": OPTConfig(
        vocab_size=64, hidden_size=24, num_hidden_layers=3, num_attention_heads=3, ffn_dim=48,
        max_position_embeddings=32, word_embed_proj_dim=24,
    ),
}  # fmt: skip


@pytest.fixture
def tiny_model():
    """Factory of models by name, with weights and biases large enough to hide no error."""

    def make(name):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(CONFIGS[name], dtype=torch.float32).eval()
        for parameter in model.parameters():
            spread = 0.3 if parameter.ndim == 1 else 0.2
            torch.nn.init.normal_(parameter, mean=parameter.mean().item(), std=spread)
        return model

    return make


@pytest.fixture(params=list(CONFIGS))
def model(request, tiny_model):
    return tiny_model(request.param)


@pytest.fixture
def tokens():
    return torch.randint(0, 64, (2, 16), generator=torch.Generator().manual_seed(1))
