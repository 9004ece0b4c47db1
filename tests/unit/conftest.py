"""Tiny random models, one a family, shared by the tests of the probes."""

from copy import deepcopy

import pytest
import torch
from hypothesis import settings
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BartConfig,
    BertConfig,
    BloomConfig,
    DistilBertConfig,
    FalconConfig,
    GemmaConfig,
    GPT2Config,
    GPTJConfig,
    GPTNeoConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Qwen2Config,
    RobertaConfig,
    T5Config,
)

settings.register_profile("tgn", deadline=None)  # a busy machine is no failure
settings.load_profile("tgn")

CONFIGS = {
    "gpt2": GPT2Config(vocab_size=64, n_positions=32, n_embd=24, n_layer=3, n_head=3),
    "gpt_neox": GPTNeoXConfig(
        vocab_size=64,
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=3,
        intermediate_size=48,
        max_position_embeddings=32,
        use_parallel_residual=True,
    ),
    "gpt_neox_sequential": GPTNeoXConfig(
        vocab_size=64,
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=3,
        intermediate_size=48,
        max_position_embeddings=32,
        use_parallel_residual=False,
    ),
    "llama": LlamaConfig(
        vocab_size=64,
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        intermediate_size=48,
        max_position_embeddings=32,
    ),
    "opt": OPTConfig(
        vocab_size=64,
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=3,
        ffn_dim=48,
        max_position_embeddings=32,
        word_embed_proj_dim=24,
    ),
    "gpt_neo": GPTNeoConfig(
        vocab_size=64,
        hidden_size=24,
        num_layers=3,
        num_heads=3,
        intermediate_size=48,
        max_position_embeddings=32,
        attention_types=[[["global", "local", "global"], 1]],
    ),
    "gptj": GPTJConfig(vocab_size=64, n_positions=32, n_embd=24, n_layer=3, n_head=3, rotary_dim=4),
    "mistral": MistralConfig(
        vocab_size=64,
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=3,
        intermediate_size=48,
        max_position_embeddings=32,
    ),
    "qwen2": Qwen2Config(
        vocab_size=64,
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        intermediate_size=48,
        max_position_embeddings=32,
    ),
    "falcon": FalconConfig(
        vocab_size=64,
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=3,
        multi_query=True,
        parallel_attn=True,
        new_decoder_architecture=False,
        bias=True,
    ),
    # heads wider than their share of the stream, as in Gemma 7B
    "gemma": GemmaConfig(
        vocab_size=64,
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=3,
        num_key_value_heads=1,
        head_dim=16,
        intermediate_size=48,
        max_position_embeddings=32,
    ),
}

# Read for their weights, but no ablations: post-norm, or sublayers that add the stream themselves.
OTHERS = {
    "bloom": BloomConfig(vocab_size=64, hidden_size=24, n_layer=3, n_head=3),
    "bert": BertConfig(
        vocab_size=64, hidden_size=24, num_hidden_layers=3, num_attention_heads=3,
        intermediate_size=48, max_position_embeddings=32,
    ),
    "roberta": RobertaConfig(
        vocab_size=64, hidden_size=24, num_hidden_layers=3, num_attention_heads=3,
        intermediate_size=48, max_position_embeddings=32,
    ),
    "distilbert": DistilBertConfig(
        vocab_size=64, dim=24, n_layers=3, n_heads=3, hidden_dim=48, max_position_embeddings=32,
    ),
    "bart": BartConfig(
        vocab_size=64, d_model=24, encoder_layers=3, decoder_layers=3, encoder_attention_heads=3,
        decoder_attention_heads=6, encoder_ffn_dim=48, decoder_ffn_dim=48,
        max_position_embeddings=32,
    ),
    "t5": T5Config(
        vocab_size=64, d_model=24, d_kv=10, d_ff=48, num_layers=3, num_heads=3,
        decoder_start_token_id=0,
    ),
    "t5_gated": T5Config(
        vocab_size=64, d_model=24, d_kv=10, d_ff=48, num_layers=3, num_heads=3,
        decoder_start_token_id=0, feed_forward_proj="gated-gelu",
    ),
}  # fmt: skip


@pytest.fixture
def tiny_model():
    """Factory of models by name, with weights and biases large enough to hide no error."""

    def make(name):
        torch.manual_seed(0)
        if name in CONFIGS:
            model = AutoModelForCausalLM.from_config(
                deepcopy(CONFIGS[name]), dtype=torch.float32
            ).eval()
        else:
            model = AutoModel.from_config(deepcopy(OTHERS[name]), dtype=torch.float32).eval()
        for parameter in model.parameters():
            spread = 0.3 if parameter.ndim == 1 else 0.2
            torch.nn.init.normal_(parameter, mean=parameter.mean().item(), std=spread)
        return model

    return make


@pytest.fixture(params=list(CONFIGS))
def model(request, tiny_model):
    return tiny_model(request.param)


@pytest.fixture(params=[*CONFIGS, *OTHERS])
def any_model(request, tiny_model):
    return tiny_model(request.param)


@pytest.fixture
def tokens():
    return torch.randint(0, 64, (2, 16), generator=torch.Generator().manual_seed(1))
