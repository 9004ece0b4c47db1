"""What a model is built like is read off the model: every family against what is known of it."""

import pytest
import torch
from transformers import (
    ApertusConfig,
    AutoModelForCausalLM,
    BertConfig,
    CohereConfig,
    FalconConfig,
    Gemma2Config,
    MambaConfig,
    MixtralConfig,
    Olmo2Config,
    OPTConfig,
    PhiConfig,
    Qwen3Config,
    T5Config,
    T5ForConditionalGeneration,
)

from tgn.models import ModelConfig, build
from tgn.probing.adapters import adapt
from tgn.probing.architecture import adapter, is_quantised, norms, record, residual_blocks

SIZES = {
    "vocab_size": 64, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3,
    "intermediate_size": 48, "max_position_embeddings": 32, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
WIDE = {"num_key_value_heads": 1, "head_dim": 16}
FALCON = {
    "vocab_size": 64, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 6,
}  # fmt: skip
# config; norm position, parallel; positions, heads, kv_heads, head_dim, mlp_width
OTHERS = {
    "opt_post": (
        OPTConfig(
            vocab_size=64, hidden_size=24, num_hidden_layers=3, num_attention_heads=3, ffn_dim=48,
            max_position_embeddings=32, word_embed_proj_dim=12, do_layer_norm_before=False,
        ),
        ("post", False), ("learned", 3, 3, 8, 48),
    ),
    "bert": (BertConfig(**SIZES, is_decoder=True), ("post", False), ("learned", 3, 3, 8, 48)),
    "gemma2": (Gemma2Config(**SIZES, **WIDE), ("sandwich", False), ("rotary", 3, 1, 16, 48)),
    "olmo2": (Olmo2Config(**SIZES), ("branch", False), ("rotary", 3, 3, 8, 48)),
    "qwen3": (Qwen3Config(**SIZES, **WIDE), ("pre", False), ("rotary", 3, 1, 16, 48)),
    "phi": (PhiConfig(**SIZES), ("pre", True), ("rotary", 3, 3, 8, 48)),
    "cohere": (CohereConfig(**SIZES), ("pre", True), ("rotary", 3, 3, 8, 48)),
    "apertus": (ApertusConfig(**SIZES), ("pre", False), ("rotary", 3, 3, 8, 48)),
    "mixtral": (
        MixtralConfig(**SIZES, num_key_value_heads=1, num_local_experts=3),
        ("pre", False), ("rotary", 3, 1, 8, 48),
    ),
    "falcon_40b": (
        FalconConfig(**FALCON, num_kv_heads=2, new_decoder_architecture=True),
        ("pre", True), ("rotary", 6, 2, 4, 96),
    ),
    "falcon_rw": (
        FalconConfig(**FALCON, multi_query=False, parallel_attn=False, alibi=True),
        ("pre", False), ("alibi", 6, 6, 4, 96),
    ),
    "mamba": (
        MambaConfig(vocab_size=64, hidden_size=24, num_hidden_layers=3, state_size=2),
        ("pre", False), ("none", None, None, None, 48),
    ),
}  # fmt: skip


@pytest.fixture
def ids():
    return torch.randint(3, 64, (1, 9), generator=torch.Generator().manual_seed(1))


def test_what_is_found_agrees_with_what_the_families_descriptions_say(model, ids):
    known = adapt(model)
    found = norms(model, ids)
    assert (found.position == "post") == (not known.pre_norm)
    assert found.position == "pre"
    assert found.parallel == known.parallel
    blocks = [block.module for block in known.blocks]
    assert all(a is b for a, b in zip(residual_blocks(model), blocks, strict=True))


@pytest.mark.parametrize("name", OTHERS)
def test_families_are_told_apart(name, ids):
    config, placed, sizes = OTHERS[name]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    assert norms(model, ids) == placed
    found = record(model)
    keys = ("positions", "heads", "kv_heads", "head_dim", "mlp_width")
    assert tuple(found[key] for key in keys) == sizes
    assert (found["layers"], found["width"]) == (3, 24)
    assert found["parameters"] == model.num_parameters()


def test_positions_of_known_families(tiny_model):
    expected = {
        "gpt2": "learned", "gpt_neo": "learned", "opt": "learned", "gptj": "rotary",
        "gpt_neox": "rotary", "llama": "rotary", "falcon": "rotary",
    }  # fmt: skip
    assert {name: record(tiny_model(name))["positions"] for name in expected} == expected


def test_density_takes_the_true_width_of_a_head(tiny_model):
    """Gemma's heads are wider than their share, which the published density did not see."""
    found = record(tiny_model("gemma"))
    assert (found["rho"], found["rho_kv"], found["rho_published"]) == (3 / 16, 1 / 16, 3 / 8)
    found = record(tiny_model("llama"))
    assert (found["rho"], found["rho_kv"], found["rho_published"]) == (6 / 4, 2 / 4, 6 / 4)


def test_norms_are_found_though_weights_are_not_finite(tiny_model, ids):
    for name in ("gpt2", "gpt_neox", "gptj"):
        model = tiny_model(name)
        expected = norms(model, ids)
        with torch.no_grad():
            for parameter in adapt(model).blocks[0].attention.parameters():
                parameter.fill_(torch.nan)
        assert norms(model, ids) == expected


def test_precision_and_packing_are_read_off(tiny_model):
    model = tiny_model("gpt2")
    assert record(model)["dtype"] == "float32"
    assert record(model.to(torch.bfloat16))["dtype"] == "bfloat16"
    assert not is_quantised(model.config)
    model.config.quantization_config = {"load_in_4bit": True}
    assert is_quantised(model.config)


@pytest.mark.parametrize(
    ("arm", "positions", "heads"),
    [
        ({}, "rotary", 2),
        ({"rotary": False}, "none", 2),
        ({"mixer": "mingru"}, "none", None),
        ({"mixer": "gated", "inertial": "mingru"}, "rotary", 2),
        ({"mixer": "gravity"}, "coordinates", 2),
        ({"mixer": "attention", "recipe": "as_published"}, "learned", 2),
    ],
)
def test_our_own_stacks_have_a_record(arm, positions, heads, ids):
    shape = {"vocabulary": 64, "width": 16, "depth": 3, "heads": 2, "context": 16}
    model = build(ModelConfig(**shape, **arm))
    found = record(model)
    assert (found["positions"], found["heads"], found["layers"]) == (positions, heads, 3)
    assert found["rho"] == (heads and 0.25)
    assert norms(model, ids) == ("pre", False)
    assert adapter(model) is None


def test_an_encoder_is_refused():
    config = T5Config(
        vocab_size=64, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2,
        decoder_start_token_id=0,
    )  # fmt: skip
    with pytest.raises(ValueError, match="encoder and a decoder"):
        residual_blocks(T5ForConditionalGeneration(config))
