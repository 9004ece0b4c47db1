"""Gains by hooks against forwards written by hand, one a family, and what is no gain told apart."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    GPT2Config,
    GPT2LMHeadModel,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from tgn import sources
from tgn.models import ModelConfig, build, io
from tgn.probing import as_published, residual_gain
from tgn.probing.architecture import adapter, residual_blocks
from tgn.probing.pretrained import load_model
from tgn.probing.prompts import digest, read_prompts
from tgn.probing.residual_gain import (
    anisotropy,
    forward,
    gain_rows,
    insides,
    measure,
    measure_gains,
)

TEXTS = {
    "one": "the cat sat on the mat",
    "two": "a dog ran to the house",
    "three": "the mat ran",
}
WORDS = ["<s>", "the", "a", "cat", "dog", "sat", "ran", "on", "to", "mat", "house"]
OURS = {
    "attention": {},
    "tgn": {"mixer": "gated", "inertial": "mingru"},
    "gravity": {"mixer": "gravity", "head_coordinates": 2},
    "published": {"mixer": "gated", "inertial": "gru", "recipe": "as_published"},
    "published_gravity": {"mixer": "gravity", "head_coordinates": 2, "recipe": "as_published"},
}


# --- forwards by hand -----------------------------------------------------------------------------


def layer_norm(x, norm):
    centred = x - x.mean(-1, keepdim=True)
    deviation = (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return centred / deviation * norm.weight + norm.bias


def rms_norm(x, norm, more=0.0):
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * (norm.weight + more)


def gemma_norm(x, norm):
    return rms_norm(x, norm, more=1.0)


def linear(x, layer):
    return x @ layer.weight.T + (0 if layer.bias is None else layer.bias)


def rotated(x, channels, interleaved=False):
    """x (heads, T, d): rotation of the first channels, in halves or in neighbouring pairs."""
    turned, rest = x[..., :channels], x[..., channels:]
    rates = 10_000.0 ** (-torch.arange(0, channels, 2) / channels)
    angles = torch.arange(x.shape[1])[:, None] * rates
    cos, sin = angles.cos(), angles.sin()
    if interleaved:
        a, b = turned[..., ::2], turned[..., 1::2]
        turned = torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)
    else:
        a, b = turned.chunk(2, -1)
        turned = torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
    return torch.cat([turned, rest], -1)


def attend(q, k, v, scale, bias=0.0):
    """q (H, T, d), k and v (H_kv, T, d) -> (T, H d)."""
    group = len(q) // len(k)
    k, v = (x.repeat_interleave(group, 0) for x in (k, v))
    scores = q @ k.mT * scale + bias
    future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    weights = scores.masked_fill(future, -math.inf).softmax(-1)
    return (weights @ v).transpose(0, 1).flatten(1)


def separate(x, attention, width):
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    return [linear(x, p).unflatten(-1, (-1, width)).transpose(0, 1) for p in projections]


def by_head(x, attention, width):
    heads = linear(x, attention.query_key_value).unflatten(-1, (-1, 3, width))
    return [part.transpose(0, 1) for part in heads.unbind(2)]


def tanh_gelu(x):
    return F.gelu(x, approximate="tanh")


def gpt2_block(x, b):
    both = layer_norm(x, b.ln_1) @ b.attn.c_attn.weight + b.attn.c_attn.bias
    q, k, v = (part.unflatten(-1, (3, 8)).transpose(0, 1) for part in both.chunk(3, -1))
    x = x + attend(q, k, v, 8**-0.5) @ b.attn.c_proj.weight + b.attn.c_proj.bias
    inner = tanh_gelu(layer_norm(x, b.ln_2) @ b.mlp.c_fc.weight + b.mlp.c_fc.bias)
    return x + inner @ b.mlp.c_proj.weight + b.mlp.c_proj.bias


def gpt_neo_block(x, b):
    attention = b.attn.attention
    q, k, v = separate(layer_norm(x, b.ln_1), attention, 8)
    x = x + linear(attend(q, k, v, 1.0), attention.out_proj)
    return x + linear(tanh_gelu(linear(layer_norm(x, b.ln_2), b.mlp.c_fc)), b.mlp.c_proj)


def gptj_block(x, b):
    y = layer_norm(x, b.ln_1)
    q, k, v = separate(y, b.attn, 8)
    q, k = rotated(q, 4, interleaved=True), rotated(k, 4, interleaved=True)
    mixed = linear(attend(q, k, v, 8**-0.5), b.attn.out_proj)
    return x + mixed + linear(tanh_gelu(linear(y, b.mlp.fc_in)), b.mlp.fc_out)


def gpt_neox_mixed(x, b):
    q, k, v = by_head(layer_norm(x, b.input_layernorm), b.attention, 8)
    return linear(attend(rotated(q, 2), rotated(k, 2), v, 8**-0.5), b.attention.dense)


def gpt_neox_mlp(x, b):
    y = layer_norm(x, b.post_attention_layernorm)
    return linear(F.gelu(linear(y, b.mlp.dense_h_to_4h)), b.mlp.dense_4h_to_h)


def gpt_neox_block(x, b):
    return x + gpt_neox_mixed(x, b) + gpt_neox_mlp(x, b)


def gpt_neox_sequential_block(x, b):
    x = x + gpt_neox_mixed(x, b)
    return x + gpt_neox_mlp(x, b)


def bloom_block(x, b):
    q, k, v = by_head(layer_norm(x, b.input_layernorm), b.self_attention, 12)
    slopes = torch.tensor([2.0**-4, 2.0**-8])[:, None, None]
    mixed = attend(q, k, v, 12**-0.5, slopes * torch.arange(len(x)))
    x = x + linear(mixed, b.self_attention.dense)
    y = layer_norm(x, b.post_attention_layernorm)
    return x + linear(tanh_gelu(linear(y, b.mlp.dense_h_to_4h)), b.mlp.dense_4h_to_h)


def falcon_block(x, b):
    y = layer_norm(x, b.input_layernorm)
    heads = linear(y, b.self_attention.query_key_value).unflatten(-1, (5, 8)).transpose(0, 1)
    q, k, v = heads[:3], heads[3:4], heads[4:]
    mixed = attend(rotated(q, 8), rotated(k, 8), v, 8**-0.5)
    inner = F.gelu(linear(y, b.mlp.dense_h_to_4h))
    return x + linear(mixed, b.self_attention.dense) + linear(inner, b.mlp.dense_4h_to_h)


def opt_mixed(x, b):
    q, k, v = separate(x, b.self_attn, 8)
    return linear(attend(q, k, v, 8**-0.5), b.self_attn.out_proj)


def opt_mlp(x, b):
    return linear(linear(x, b.fc1).relu(), b.fc2)


def opt_block(x, b):
    x = x + opt_mixed(layer_norm(x, b.self_attn_layer_norm), b)
    return x + opt_mlp(layer_norm(x, b.final_layer_norm), b)


def opt_post_block(x, b):
    x = layer_norm(x + opt_mixed(x, b), b.self_attn_layer_norm)
    return layer_norm(x + opt_mlp(x, b), b.final_layer_norm)


def llama_like(width, norm, activation):
    def block(x, b):
        q, k, v = separate(norm(x, b.input_layernorm), b.self_attn, width)
        q, k = rotated(q, width), rotated(k, width)
        x = x + linear(attend(q, k, v, width**-0.5), b.self_attn.o_proj)
        y = norm(x, b.post_attention_layernorm)
        inner = activation(linear(y, b.mlp.gate_proj)) * linear(y, b.mlp.up_proj)
        return x + linear(inner, b.mlp.down_proj)

    return block


def gemma2_block(x, b):
    q, k, v = separate(gemma_norm(x, b.input_layernorm), b.self_attn, 16)
    capped = 50.0  # of scores: tanh
    q, k = rotated(q, 16), rotated(k, 16)
    k, v = (z.repeat_interleave(len(q) // len(k), 0) for z in (k, v))
    scores = capped * ((q @ k.mT * 16**-0.5) / capped).tanh()
    future = torch.ones(len(x), len(x), dtype=torch.bool).triu(1)
    mixed = (scores.masked_fill(future, -math.inf).softmax(-1) @ v).transpose(0, 1).flatten(1)
    x = x + gemma_norm(linear(mixed, b.self_attn.o_proj), b.post_attention_layernorm)
    y = gemma_norm(x, b.pre_feedforward_layernorm)
    inner = linear(
        tanh_gelu(linear(y, b.mlp.gate_proj)) * linear(y, b.mlp.up_proj), b.mlp.down_proj
    )
    return x + gemma_norm(inner, b.post_feedforward_layernorm)


def positioned(tokens, body):
    return body.wte.weight[tokens] + body.wpe.weight[: len(tokens)]


def opt_start(tokens, body):
    x = body.decoder.embed_tokens.weight[tokens]
    project = body.decoder.project_in
    x = x if project is None else linear(x, project)
    return x + body.decoder.embed_positions.weight[2 : 2 + len(tokens)]


def looked_up(tokens, body):
    return body.get_input_embeddings().weight[tokens]


def scaled(tokens, body):
    return looked_up(tokens, body) * 24**0.5


def normed(tokens, body):
    return layer_norm(looked_up(tokens, body), body.word_embeddings_layernorm)


HAND = {
    "gpt2": (positioned, gpt2_block),
    "gpt_neo": (positioned, gpt_neo_block),
    "gptj": (looked_up, gptj_block),
    "gpt_neox": (looked_up, gpt_neox_block),
    "gpt_neox_sequential": (looked_up, gpt_neox_sequential_block),
    "bloom": (normed, bloom_block),
    "falcon": (looked_up, falcon_block),
    "opt": (opt_start, opt_block),
    "opt_post": (opt_start, opt_post_block),
    "llama": (looked_up, llama_like(4, rms_norm, F.silu)),
    "mistral": (looked_up, llama_like(4, rms_norm, F.silu)),
    "qwen2": (looked_up, llama_like(4, rms_norm, F.silu)),
    "gemma": (scaled, llama_like(16, gemma_norm, tanh_gelu)),
    "gemma2": (scaled, gemma2_block),
}
MORE = {
    "bloom": BloomConfig(vocab_size=64, hidden_size=24, n_layer=3, n_head=2),
    "opt_post": OPTConfig(
        vocab_size=64, hidden_size=24, num_hidden_layers=3, num_attention_heads=3, ffn_dim=48,
        max_position_embeddings=32, word_embed_proj_dim=12, do_layer_norm_before=False,
    ),
    "gemma2": Gemma2Config(
        vocab_size=64, hidden_size=24, num_hidden_layers=3, num_attention_heads=3,
        num_key_value_heads=1, head_dim=16, query_pre_attn_scalar=16, intermediate_size=48,
        max_position_embeddings=32,
    ),
}  # fmt: skip


@pytest.fixture
def family(tiny_model):
    """As tiny_model, with families that the other probes' tests do not have."""

    def make(name):
        if name not in MORE:
            return tiny_model(name)
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(MORE[name], dtype=torch.float32).eval()
        for parameter in model.parameters():
            spread = 0.3 if parameter.ndim == 1 else 0.2
            torch.nn.init.normal_(parameter, mean=parameter.mean().item(), std=spread)
        return model

    return make


def states_by_hand(name, model, sequence):
    start, block = HAND[name]
    with torch.no_grad():
        states = [start(torch.tensor(sequence), model.base_model)]
        for module in residual_blocks(model):
            states.append(block(states[-1], module))
    return states


def as_table(rows):
    return pd.DataFrame(rows, columns=["layer", "quantity", "value"]).set_index(
        ["quantity", "layer"]
    )["value"]


SEQUENCE = [5, 11, 2, 40, 33, 7, 7, 21]


@pytest.mark.parametrize("name", HAND)
def test_gains_are_those_of_a_forward_by_hand(name, family):
    model = family(name)
    hand = torch.stack(states_by_hand(name, model, SEQUENCE)).double()
    found = as_table(gain_rows(forward(model, SEQUENCE), SEQUENCE))
    sizes = hand.square().sum(-1).sqrt()
    ratios = sizes[1:] / sizes[:-1]
    for layer, ratio in enumerate(ratios, start=1):
        assert found["gain_first", layer] == pytest.approx(ratio[0].item(), rel=2e-4)
        assert found["gain_last", layer] == pytest.approx(ratio[-1].item(), rel=2e-4)
        assert found["gain_mean", layer] == pytest.approx(ratio[1:].mean().item(), rel=2e-4)
        median = np.median(ratio[1:].numpy())
        assert found["gain_median", layer] == pytest.approx(median, rel=2e-4)
    product = np.median(ratios.prod(0)[1:].numpy())
    assert found["amplification", -1] == pytest.approx(product, rel=1e-3)
    inner = np.median(ratios[1:].prod(0)[1:].numpy())
    assert found["amplification_after_first", -1] == pytest.approx(inner, rel=1e-3)
    embedded = model.get_input_embeddings().weight[SEQUENCE].detach().double()
    step = sizes[0] / embedded.square().sum(-1).sqrt()
    assert found["gain_median", 0] == pytest.approx(np.median(step[1:].numpy()), rel=2e-4)
    whole = np.median((step * ratios.prod(0))[1:].numpy())
    assert found["amplification_with_embedding", -1] == pytest.approx(whole, rel=1e-3)


@pytest.mark.parametrize("name", HAND)
def test_the_last_but_one_returned_state_is_the_output_of_the_penultimate_block(name, family):
    """What was published as the last block's gain is that of the block before."""
    model = family(name)
    hand = states_by_hand(name, model, SEQUENCE)
    seen = forward(model, SEQUENCE)
    assert len(seen.returned) == len(hand) == 4
    torch.testing.assert_close(seen.returned[-2], hand[-2], rtol=2e-3, atol=2e-3)
    assert not torch.allclose(seen.returned[-2], hand[-1], rtol=0.02, atol=0.02)
    found = as_table(gain_rows(seen, SEQUENCE))
    size = [state[-1].norm().item() for state in hand]
    assert found["published_a", 2] == pytest.approx(size[2] / size[1], rel=1e-3)
    assert ("published_a", 3) not in found
    assert found["published_b", 3] == pytest.approx(size[3] / size[2], rel=1e-3)
    assert list(found["published_b"].index) == [3]
    returned = seen.returned[-1][-1].norm().item()
    assert found["published_with_norm", 3] == pytest.approx(returned / size[2], rel=1e-3)


@pytest.mark.parametrize("name", HAND)
def test_sequence_and_component_gains_are_as_they_were_computed(name, family):
    model = family(name)
    hand = states_by_hand(name, model, SEQUENCE)
    known = adapter(model)
    found = as_table(gain_rows(forward(model, SEQUENCE, inner=insides(model)), SEQUENCE))
    whole = [state.square().sum().sqrt().item() for state in hand]
    for layer in (1, 2, 3):
        expected = whole[layer] / whole[layer - 1]
        assert found["published_c", layer] == pytest.approx(expected, rel=1e-3)
    if known is None:
        assert not {"published_mlp", "published_attention"} & set(found.index.levels[0])
        return
    if name.startswith("opt"):  # where the parts are at hand
        block, x = known.blocks[1].module, hand[1]
        pre = name == "opt"
        with torch.no_grad():
            inside = layer_norm(x, block.self_attn_layer_norm) if pre else x
            mixed = opt_mixed(inside, block)
            x = x + mixed if pre else layer_norm(x + mixed, block.self_attn_layer_norm)
            entering = layer_norm(x, block.final_layer_norm) if pre else x
            leaving = opt_mlp(entering, block)
        ratio = (mixed.norm(dim=-1) / inside.norm(dim=-1)).mean().item()
        assert found["published_attention", 2] == pytest.approx(ratio, rel=1e-3)
        ratio = (leaving.norm(dim=-1) / entering.norm(dim=-1)).mean().item()
        assert found["published_mlp", 2] == pytest.approx(ratio, rel=1e-3)
    assert len(found["published_mlp"]) == len(found["published_attention"]) == 3


@pytest.mark.parametrize("name", HAND)
def test_what_heads_write_is_compared_head_by_head(name, family):
    """Against the same layer run once for each head, the others' channels at zero."""
    model = family(name)
    known = adapter(model)
    found = as_table(gain_rows(forward(model, SEQUENCE, inner=insides(model)), SEQUENCE))
    if known is None:
        assert "head_cosine" not in found
        return
    heads = known.heads.query
    inputs, layer = [], insides(model).maps[1][0]
    hook = layer.register_forward_pre_hook(lambda _, args: inputs.append(args[0].detach()))
    forward(model, SEQUENCE)
    hook.remove()
    channels = inputs[0].reshape(len(SEQUENCE), heads, -1)
    with torch.no_grad():
        nothing = layer(torch.zeros_like(inputs[0]))
        written = [
            (layer(torch.where(torch.arange(heads)[:, None] == head, channels, 0.0)
                   .reshape(inputs[0].shape)) - nothing).reshape(len(SEQUENCE), -1)
            for head in range(heads)
        ]  # fmt: skip
    pairs = [
        F.cosine_similarity(written[i], written[j], dim=-1)[1:].mean().item()
        for i in range(heads)
        for j in range(i)
    ]
    assert found["head_cosine", 2] == pytest.approx(np.mean(pairs), abs=1e-4)
    assert len(found["head_cosine"]) == len(known.blocks)


def test_falcons_mlp_is_measured_before_the_attention_is_added_to_it_in_place(tiny_model):
    model = tiny_model("falcon")
    with torch.no_grad():
        for parameter in residual_blocks(model)[0].mlp.parameters():
            parameter.zero_()
    found = as_table(gain_rows(forward(model, SEQUENCE, inner=insides(model)), SEQUENCE))
    assert found["published_mlp", 1] == 0
    assert found["published_attention", 1] > 0


def test_a_block_that_adds_to_its_input_in_place_does_not_hide_its_gain(tiny_model):
    model = tiny_model("gpt2")
    residual_blocks(model)[1].forward = lambda x, *args, **kwargs: x.mul_(2)
    found = as_table(gain_rows(forward(model, SEQUENCE), SEQUENCE))
    assert found["gain_median", 2] == pytest.approx(2)


# --- the first token, precision, numbers that are none --------------------------------------------


def test_the_first_token_stands_apart_and_moves_no_other_gain(tiny_model):
    """A massive first state, as of an attention sink, is seen by G-c and by nothing of ours."""
    model = tiny_model("gpt2")
    seen = forward(model, SEQUENCE)
    quiet = as_table(gain_rows(seen, SEQUENCE))
    loud_states = [state.clone() for state in seen.states]
    for layer, state in enumerate(loud_states):
        state[0] *= 1000.0 ** (layer > 1)
    loud = as_table(gain_rows(seen._replace(states=loud_states), SEQUENCE))
    for quantity in ("gain_median", "gain_mean", "gain_last", "amplification"):
        pd.testing.assert_series_equal(loud[quantity], quiet[quantity])
    assert loud["gain_first", 2] == pytest.approx(1000 * quiet["gain_first", 2])
    assert loud["published_c", 2] > 10 * quiet["published_c", 2]
    assert loud["effective_rank_with_first", 2] < 1.5 < loud["effective_rank_without_first", 2]
    for name in ("effective_rank_without_first", "anisotropy_without_first"):
        pd.testing.assert_series_equal(loud[name], quiet[name])


def test_a_causal_models_first_token_knows_no_other(tiny_model):
    model = tiny_model("llama")
    alone = as_table(gain_rows(forward(model, SEQUENCE[:1]), SEQUENCE[:1]))
    within = as_table(gain_rows(forward(model, SEQUENCE), SEQUENCE))
    np.testing.assert_allclose(alone["gain_first"], within["gain_first"], rtol=1e-5)
    absent = {"gain_median", "gain_mean", "amplification", "loss", "anisotropy_with_first"}
    assert not absent & set(alone.index.get_level_values("quantity"))


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox"])
def test_bf16_models_have_fp32_norms(name, tiny_model):
    """Rounding to 8 bits moves a state by less than 1 % and its norm by less: gains stay near."""
    model = tiny_model(name)
    exact = as_table(gain_rows(forward(model, SEQUENCE), SEQUENCE))
    seen = forward(model.to(torch.bfloat16), SEQUENCE)
    rounded = as_table(gain_rows(seen, SEQUENCE))
    assert {state.dtype for state in seen.states} == {torch.bfloat16}
    for quantity in ("gain_median", "gain_mean", "gain_first"):
        np.testing.assert_allclose(rounded[quantity], exact[quantity], rtol=0.03)

    # Norms as bf16 holds them have 8 bits, and so published_b is a ratio of few numbers.
    coarse = [state[-1].norm().item() for state in seen.states]
    assert rounded["published_b", 3] == coarse[3] / coarse[2]
    ratios = {after / before for after in coarse for before in coarse}
    assert not set(rounded["gain_last"].drop(0)) & ratios
    np.testing.assert_allclose(rounded["gain_last", 3], rounded["published_b", 3], rtol=2**-6)


@given(
    st.integers(2, 6).flatmap(
        lambda t: st.lists(
            st.lists(st.floats(-10, 10), min_size=3, max_size=3), min_size=t, max_size=t
        )
    )
)
def test_anisotropy_is_the_mean_cosine_of_pairs(rows):
    x = np.asarray(rows)
    x[:, 0] += 11  # no zero rows
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    pairs = [unit[i] @ unit[j] for i in range(len(x)) for j in range(i)]
    assert anisotropy(torch.tensor(x)).item() == pytest.approx(np.mean(pairs), abs=1e-9)


def test_published_ratios_by_small_numbers():
    states = [torch.tensor([[3.0, 4.0], [size, 0.0]]) for size in (1.0, 2.0, 6.0)]
    assert as_published.gain_a(states).tolist() == [2.0, 3.0]
    assert as_published.gain_b(states) == 3.0
    expected = [math.sqrt(29 / 26), math.sqrt(61 / 29)]
    assert as_published.gain_c(states).tolist() == pytest.approx(expected)
    assert as_published.component_gain(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 6.0])) == 2.0


def test_entropy_and_loss_are_in_nats(tiny_model):
    model = tiny_model("gpt2")
    found = as_table(gain_rows(forward(model, SEQUENCE), SEQUENCE))
    with torch.no_grad():
        out = model(torch.tensor([SEQUENCE]), labels=torch.tensor([SEQUENCE]))
    p = out.logits[0, -1].double().softmax(-1).numpy()
    assert found["entropy", -1] == pytest.approx(-(p * np.log(p)).sum())
    assert found["loss", -1] == pytest.approx(out.loss.item(), rel=1e-5)
    assert found["tokens", -1] == len(SEQUENCE)


# --- whole models ---------------------------------------------------------------------------------


def word_tokenizer(**options):
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **options)


def write_prompts(path):
    rows = [
        {"id": name, "category": "factual", "band": "short", "text": text}
        for name, text in TEXTS.items()
    ]
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def save(folder, model):
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    word_tokenizer(bos_token="<s>").save_pretrained(folder)
    receipt = folder / sources.RECEIPT
    sources.write_receipt(
        receipt, name="tiny", kind="test", evidence="simulated", origin="somebody/tiny@abc123"
    )
    return receipt


def run(tmp_path, model, *, variants=("random_tokens", "with_start"), dtype="float32", name="out"):
    prompts = write_prompts(tmp_path / "prompts.csv")
    gains, architecture = tmp_path / name / "gains.parquet", tmp_path / name / "architecture.json"
    measure_gains(
        model=model,
        label="tiny",
        lab="nobody",
        family="toy",
        prompts=prompts,
        per_category=None,
        variants=variants,
        dtype=dtype,
        seed=3,
        gains=gains,
        architecture=architecture,
    )
    return SimpleNamespace(
        rows=pd.read_parquet(gains),
        record=json.loads(architecture.read_text()),
        files=(gains.read_bytes(), architecture.read_bytes()),
    )


def tiny_gpt2(layers=2, **options):
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=11, n_positions=16, n_embd=16, n_layer=layers, n_head=2, bos_token_id=0,
            eos_token_id=0, **options,
        )
    ).eval()  # fmt: skip


def test_a_model_leaves_gains_and_a_record(tmp_path):
    made = run(tmp_path, save(tmp_path / "m", tiny_gpt2()))
    assert list(made.rows.columns) == ["model", "prompt", "category", "layer", "quantity", "value"]
    assert set(made.rows["category"]) == {"factual", "random_tokens", "with_start"}
    assert set(made.rows["prompt"]) == set(TEXTS)
    assert not made.rows.duplicated(["prompt", "category", "layer", "quantity"]).any()
    plain = made.rows[made.rows["category"] == "factual"].set_index(["prompt", "quantity", "layer"])
    assert plain.loc[("one", "tokens", -1), "value"] == 6
    record = made.record
    assert set(record) == set(residual_gain.FIELDS)
    expected = {
        "model": "tiny", "lab": "nobody", "family": "toy", "layers": 2, "heads": 2, "kv_heads": 2,
        "head_dim": 8, "width": 16, "mlp_width": 64, "rho": 0.25, "norm_position": "pre",
        "parallel": False, "positions": "learned", "dtype": "float32", "quantised": False,
        "revision": "abc123", "origin": "somebody/tiny@abc123", "bos": False, "status": "ok",
        "reason": None, "nan_layers": [], "missing": {},
    }  # fmt: skip
    assert {key: record[key] for key in expected} == expected
    assert record["prompt_sha256"] == digest(read_prompts(tmp_path / "prompts.csv"))
    assert record["parameters"] == sum(p.numel() for p in tiny_gpt2().parameters())


def test_two_runs_write_the_same_bytes(tmp_path):
    receipt = save(tmp_path / "m", tiny_gpt2())
    assert run(tmp_path, receipt).files == run(tmp_path, receipt, name="again").files


def test_bf16_is_recorded_and_near(tmp_path):
    receipt = save(tmp_path / "m", tiny_gpt2())
    exact, rounded = (run(tmp_path, receipt, dtype=d, name=d) for d in ("float32", "bfloat16"))
    assert rounded.record["dtype"] == "bfloat16"
    keys = ["prompt", "category", "layer", "quantity"]
    both = exact.rows.merge(rounded.rows, on=keys, validate="one_to_one")
    chosen = both[both["quantity"].str.startswith("gain_")]
    assert len(both) == len(exact.rows)
    np.testing.assert_allclose(chosen["value_x"], chosen["value_y"], rtol=0.03)
    assert not np.array_equal(chosen["value_x"], chosen["value_y"])


def test_a_post_norm_model_is_not_applicable_but_published(tmp_path):
    torch.manual_seed(0)
    config = OPTConfig(
        vocab_size=11, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, ffn_dim=48,
        max_position_embeddings=16, word_embed_proj_dim=12, do_layer_norm_before=False,
    )  # fmt: skip
    made = run(tmp_path, save(tmp_path / "m", OPTForCausalLM(config)))
    assert made.record["status"] == "not_applicable"
    assert made.record["norm_position"] == "post"
    assert "post-norm" in made.record["reason"]
    quantities = set(made.rows["quantity"])
    assert not [name for name in quantities if name.startswith(("gain_", "amplification"))]
    assert {"published_a", "published_b", "published_c", "entropy"} <= quantities
    sizes = made.rows[made.rows["quantity"] == "published_b"]["value"]
    np.testing.assert_allclose(sizes, 1, atol=0.05)  # as the norm, of weight 1, makes it


def test_one_block_has_a_final_gain_and_no_published_one(tmp_path):
    made = run(tmp_path, save(tmp_path / "m", tiny_gpt2(layers=1)), variants=())
    quantities = set(made.rows["quantity"])
    assert "gain_median" in quantities
    assert not {"published_a", "published_b"} & quantities
    assert set(made.record["missing"]) == {"published_a", "published_b"}
    assert made.record["status"] == "ok"
    whole, inner = (
        made.rows[made.rows["quantity"] == name]["value"].to_numpy()
        for name in ("amplification", "amplification_after_first")
    )
    assert (inner == 1).all()
    assert (whole != 1).all()


def test_blocks_that_put_out_nan_are_recorded_and_their_numbers_null(tmp_path):
    model = tiny_gpt2(layers=3)
    with torch.no_grad():
        model.transformer.h[1].mlp.c_proj.bias[0] = torch.nan
    made = run(tmp_path, save(tmp_path / "m", model))
    assert made.record["nan_layers"] == [2, 3]
    assert made.record["status"] == "ok"
    assert made.record["norm_position"] == "pre"
    median = made.rows[made.rows["quantity"] == "gain_median"]
    assert median[median["layer"] <= 1]["value"].notna().all()
    assert median[median["layer"] >= 2]["value"].isna().all()


def test_a_quantised_model_is_a_failed_row(tmp_path):
    receipt = save(tmp_path / "m", tiny_gpt2())
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    sources.write_receipt(
        receipt, name="tiny", kind="test", evidence="simulated", origin="somebody/tiny@abc123"
    )
    made = run(tmp_path, receipt)
    assert made.rows.empty
    assert list(made.rows.columns) == ["model", "prompt", "category", "layer", "quantity", "value"]
    assert made.record["status"] == "failed"
    assert made.record["quantised"]
    assert "quantised" in made.record["reason"]
    assert made.record["revision"] == "abc123"


def test_what_does_not_load_or_is_no_decoder_is_a_failed_row(tmp_path):
    receipt = save(tmp_path / "broken", tiny_gpt2())
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"no weights")
    sources.write_receipt(receipt, name="tiny", kind="test", evidence="simulated")
    made = run(tmp_path, receipt)
    assert (made.record["status"], len(made.rows)) == ("failed", 0)
    assert made.record["revision"].startswith("sha256:")
    assert not made.record["quantised"]
    config = T5Config(
        vocab_size=11, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2,
        decoder_start_token_id=0,
    )  # fmt: skip
    made = run(tmp_path, save(tmp_path / "t5", T5ForConditionalGeneration(config)), name="t5")
    assert (made.record["status"], len(made.rows)) == ("failed", 0)
    short = tiny_gpt2()
    short.config.n_positions = 4
    short.transformer.wpe = torch.nn.Embedding(4, 16)
    made = run(tmp_path, save(tmp_path / "short", short), name="short")
    assert made.record["status"] == "failed"
    assert "6 tokens" in made.record["reason"]


def test_options_that_are_not_known_are_refused(tmp_path):
    receipt = save(tmp_path / "m", tiny_gpt2())
    with pytest.raises(ValueError, match="float16"):
        run(tmp_path, receipt, dtype="float16")
    with pytest.raises(ValueError, match="backwards"):
        run(tmp_path, receipt, variants=["backwards"])
    with pytest.raises(FileNotFoundError):
        run(tmp_path, tmp_path / "nowhere" / sources.RECEIPT)


@pytest.mark.parametrize("arm", OURS)
def test_our_own_stacks_are_measured_alike(tmp_path, arm):
    torch.manual_seed(0)
    shape = {"vocabulary": 11, "width": 16, "depth": 3, "heads": 2, "context": 16}
    model = build(ModelConfig(**shape, **OURS[arm])).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    tokenizer = Tokenizer(models.WordLevel({w: n for n, w in enumerate(WORDS)}, unk_token="<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    io.save(tmp_path / "run", model, model.config, tokenizer)
    made = run(tmp_path, tmp_path / "run" / "model.safetensors", variants=["shuffled_tokens"])
    assert made.record["status"] == "ok"
    assert made.record["layers"] == 3
    assert made.record["revision"] == io.describe(tmp_path / "run")["sha256"]
    assert (made.record["heads"], made.record["rho"]) == (2, 0.25)
    states, hooks = [], []
    for block in model.blocks:
        hooks.append(block.register_forward_hook(lambda m, a, out: states.append((a[0], out[0]))))
    ids = tokenizer.encode(TEXTS["one"]).ids
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
    rows = made.rows[(made.rows["prompt"] == "one") & (made.rows["category"] == "factual")]
    found = rows.set_index(["quantity", "layer"])["value"]
    for layer, (entering, leaving) in enumerate(states, start=1):
        ratio = leaving[0].norm(dim=-1) / entering[0].norm(dim=-1)
        assert found["gain_first", layer] == pytest.approx(ratio[0].item(), rel=1e-4)
        assert found["gain_median", layer] == pytest.approx(np.median(ratio[1:]), rel=1e-4)
    log_p = logits[-1].double().log_softmax(-1)
    assert found["entropy", -1] == pytest.approx(-(log_p.exp() * log_p).sum().item(), rel=1e-4)


def test_measuring_leaves_no_hook_behind(tmp_path):
    receipt = save(tmp_path / "m", tiny_gpt2())
    model = load_model(receipt.parent)
    asked = read_prompts(write_prompts(tmp_path / "prompts.csv"))
    ids = torch.tensor([[1, 2, 3]])

    def hooks():
        return [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]

    with torch.no_grad():
        before = model(ids, output_hidden_states=True).logits  # which sets hooks of the library's
        there = hooks()
        measure(model, word_tokenizer(), asked, variants=[], seed=0)
        assert torch.equal(model(ids).logits, before)
    assert hooks() == there


def test_our_own_mlps_and_heads_are_watched():
    torch.manual_seed(0)
    model = build(ModelConfig(vocabulary=64, width=16, depth=2, heads=2, context=16)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    found = as_table(gain_rows(forward(model, SEQUENCE, inner=insides(model)), SEQUENCE))
    seen = []
    hook = model.blocks[1].mlp.register_forward_hook(lambda _, args, y: seen.append((args[0], y)))
    with torch.no_grad():
        model(torch.tensor([SEQUENCE]))
    hook.remove()
    ((entering, leaving),) = seen
    ratio = (leaving.norm(dim=-1) / entering.norm(dim=-1)).mean().item()
    assert found["published_mlp", 2] == pytest.approx(ratio, rel=1e-4)
    assert len(found["head_cosine"]) == len(found["published_attention"]) == 2


def test_neutral_statements_are_controls_and_have_none(tmp_path):
    torch.manual_seed(0)
    model = build(ModelConfig(vocabulary=len(WORDS), width=16, depth=1, heads=2, context=16)).eval()
    inner = Tokenizer(models.WordLevel({w: n for n, w in enumerate(WORDS)}, unk_token="<s>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    rows = [("a", "factual", "short", TEXTS["one"]), ("b", "neutral", "short", TEXTS["two"])]
    asked = pd.DataFrame(rows, columns=["id", "category", "band", "text"])
    found, _ = measure(model, inner, asked, variants=["shuffled_tokens"], seed=1)
    pairs = set(found[["prompt", "category"]].itertuples(index=False, name=None))
    assert pairs == {("a", "factual"), ("b", "neutral"), ("a", "shuffled_tokens")}
