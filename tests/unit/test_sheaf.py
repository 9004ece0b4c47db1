"""The sheaf of attention: formulas against explicit Laplacians, maps against the model's output."""

from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoModelForCausalLM, OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast

from tgn import sources
from tgn.models import ModelConfig, build, io
from tgn.probing import as_published, sheaf
from tgn.probing.adapters import adapt
from tgn.probing.value_output import layer_maps, own_attention

PROMPTS = "id,category,band,text\np,novel,short,a b c d e f\nq,novel,short,b a d c a\n"
WORDS = {word: number for number, word in enumerate(["a", "b", "c", "d", "e", "f", "[UNK]"])}


def stochastic(rng, *shape, causal=True):
    weights = rng.exponential(size=shape)
    weights = np.tril(weights) if causal else weights
    return weights / weights.sum(axis=-1, keepdims=True)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 6), st.booleans(), st.sampled_from(["directed", "symmetric"]),
    st.integers(0, 2**16),
)  # fmt: skip
def test_the_trace_is_that_of_the_explicit_laplacian(heads, n, causal, convention, seed):
    rng = np.random.default_rng(seed)
    attention = stochastic(rng, heads, n, n, causal=causal)
    value = rng.standard_normal((heads, 3, 4))
    # the edges of different heads are different edges
    delta = np.concatenate(
        [sheaf.coboundary(a, v, convention) for a, v in zip(attention, value, strict=True)]
    )
    laplacian = delta.T @ delta
    energies = (value**2).sum(axis=(1, 2))
    np.testing.assert_allclose(np.trace(laplacian), sheaf.trace(attention, energies), atol=1e-9)
    assert np.linalg.eigvalsh(laplacian).min() > -1e-9


def test_causal_weights_join_no_tokens_in_the_directed_laplacian():
    rng = np.random.default_rng(0)
    attention, value = stochastic(rng, 5, 5), rng.standard_normal((2, 3))
    delta = sheaf.coboundary(attention, value)
    expected = np.kron(np.diag(1 - np.diag(attention)), value.T @ value)
    np.testing.assert_allclose(delta.T @ delta, expected, atol=1e-12)


def test_the_symmetric_laplacian_is_that_of_a_graph_times_the_value_map():
    rng = np.random.default_rng(1)
    attention, value = stochastic(rng, 6, 6), rng.standard_normal((2, 3))
    delta = sheaf.coboundary(attention, value, "symmetric")
    expected = np.kron(sheaf.graph_laplacian(attention), value.T @ value)
    np.testing.assert_allclose(delta.T @ delta, expected, atol=1e-12)
    smallest, second = np.linalg.eigvalsh(sheaf.graph_laplacian(attention))[:2]
    assert abs(smallest) < 1e-12 < second
    assert sheaf.gap(attention[None]) == pytest.approx(second)


def test_the_published_trace_is_zero_and_ours_is_not():
    rng = np.random.default_rng(2)
    attention, energies = stochastic(rng, 4, 17, 17), np.array([1.0, 2.0, 3.0, 4.0])
    assert as_published.zero_trace(attention, energies) < 1e-12
    assert as_published.zero_trace(attention.astype(np.float32), energies) < 1e-3
    assert sheaf.trace(attention, energies) > 50


def test_traces_of_known_maps():
    n, energies = 5, np.array([2.0])
    own = np.eye(n)[None]
    first = np.zeros((1, n, n))
    first[..., 0] = 1
    even = np.tril(np.ones((n, n)))[None]
    even /= even.sum(axis=-1, keepdims=True)
    assert sheaf.trace(own, energies) == 0
    assert sheaf.trace(first, energies) == 2.0 * (n - 1)
    assert [sheaf.locality(maps) for maps in (own, even, first)] == pytest.approx([1, 0, -1])
    assert sheaf.gap(own) == 0  # no token reads another
    # a star of weight 1/2 has the eigenvalues 0, 1/2, ..., 1/2, n/2
    assert sheaf.gap(first) == pytest.approx(0.5)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(0, 2**16))
def test_restriction_maps_contract_by_the_mean_root_of_the_weights(n, seed):
    rng = np.random.default_rng(seed)
    attention, value = stochastic(rng, n, n), rng.standard_normal((2, 3))
    ratios = [
        np.linalg.norm(np.sqrt(attention[i, j]) * value, 2) / np.linalg.norm(value, 2)
        for i in range(n)
        for j in range(i + 1)
    ]
    assert sheaf.contraction(attention[None]) == pytest.approx(np.mean(ratios))
    assert sheaf.contraction(attention[None]) <= 1


def with_eager(tiny_model, name):
    """A tiny model as it is loaded to show its attention."""
    model = tiny_model(name)
    again = AutoModelForCausalLM.from_config(
        deepcopy(model.config), dtype=torch.float32, attn_implementation="eager"
    )
    missing, _ = again.base_model.load_state_dict(model.base_model.state_dict(), strict=False)
    assert not missing
    return again.eval()


@pytest.mark.parametrize(
    "name", ["gpt2", "gpt_neox", "bloom", "falcon", "llama", "gemma", "mistral", "opt", "gptj"]
)
def test_weights_times_values_are_what_the_output_map_is_given(tiny_model, tokens, name):
    """The maps and the value maps, repeated by group, are those that the model runs with."""
    model = with_eager(tiny_model, name)
    adapter = adapt(model)
    for block in adapter.blocks:
        for parameter_name, parameter in block.attention.named_parameters():
            if parameter_name.endswith("bias"):
                torch.nn.init.zeros_(parameter)
    read, given = [], []
    hooks = []
    for layer, block in enumerate(adapter.blocks):
        storage = adapter.projection(layer, "o").untyped_storage().data_ptr()
        (output,) = (
            module
            for module in block.attention.modules()
            for parameter in module.parameters(recurse=False)
            if parameter.untyped_storage().data_ptr() == storage
        )
        hooks.append(block.attention_norm.register_forward_hook(lambda _, a, out: read.append(out)))
        hooks.append(output.register_forward_pre_hook(lambda _, args: given.append(args[0])))
    ids = tokens[0].numpy()
    maps = torch.from_numpy(sheaf.attention_maps(model, ids))
    for hook in hooks:
        hook.remove()
    for layer, found in enumerate(layer_maps(model)):
        values = torch.einsum("hdi,ni->hnd", found.value.double(), read[layer][0].double())
        context = (maps[layer] @ values).transpose(0, 1).flatten(1)
        torch.testing.assert_close(context, given[layer][0].double(), atol=1e-4, rtol=1e-4)


def test_maps_of_families_that_leave_out_the_mask_are_refused(tiny_model, tokens):
    with pytest.raises(ValueError, match=r"falcon.*later tokens.*eager"):
        sheaf.attention_maps(tiny_model("falcon"), tokens[0].numpy())


def test_maps_that_are_not_shown_are_refused(tiny_model, tokens):
    model = tiny_model("llama")
    model.set_attn_implementation("sdpa")
    with pytest.raises(ValueError, match="eager"):
        sheaf.attention_maps(model, tokens[0].numpy())


OWN = {"vocabulary": 40, "width": 16, "depth": 3, "heads": 2, "context": 12}


def own_model(**arm):
    torch.manual_seed(0)
    model = build(ModelConfig(**OWN, **arm)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize(
    "arm",
    [
        {},
        *(
            {"mixer": "gated", "inertial": "mingru", "wiring": w}
            for w in ("parallel", "sequential")
        ),
    ],
)
def test_maps_of_this_projects_models_give_their_outputs(arm):
    model = own_model(**arm)
    passed = []
    for attention in own_attention(model):
        attention.register_forward_hook(lambda m, args, out: passed.append((args[0], out[0])))
    maps = torch.from_numpy(sheaf.attention_maps(model, np.arange(9)))
    assert len(passed) == 3
    for (x, y), found, weights in zip(passed, layer_maps(model), maps, strict=True):
        values = torch.einsum("hdi,ni->hnd", found.value, x[0])
        expected = torch.einsum("ohd,hnd->no", found.output, weights.float() @ values)
        torch.testing.assert_close(expected, y[0].float(), atol=1e-5, rtol=1e-4)


def test_post_norm_models_with_projected_embeddings_are_measured():
    """OPT-350M's kind: norms after the sublayers, embeddings narrower than the stream."""
    config = OPTConfig(
        vocab_size=64, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, ffn_dim=48,
        word_embed_proj_dim=12, do_layer_norm_before=False, attn_implementation="eager",
    )  # fmt: skip
    found = sheaf.measure(OPTForCausalLM(config).eval(), {"p": [5, 6, 7]})
    assert found["value"].notna().all()
    assert set(found["layer"]) == {1, 2}


def test_a_layer_that_is_not_finite_is_recorded(tiny_model):
    model = with_eager(tiny_model, "llama")
    with torch.no_grad():
        adapt(model).projection(1, "k")[:] = torch.nan
    found = sheaf.measure(model, {"p": [1, 2, 3, 4]})
    lost = found[found["value"].isna()]
    assert set(lost["layer"]) == {2, 3}  # what follows it reads what it wrote
    assert set(lost["reason"]) == {"attention weights are not finite"}
    assert found[found["layer"] == 1]["value"].notna().all()
    assert found[found["quantity"] == "trace_proxy"]["value"].notna().all()


def test_a_single_token_has_a_trace_of_zero_and_no_reach(tiny_model):
    found = sheaf.measure(with_eager(tiny_model, "gpt2"), {"p": [3]})
    values = found[found["layer"] == 1].set_index("quantity")
    assert values.loc["trace", "value"] == 0
    assert values.loc["contraction", "value"] == 1
    for quantity in ("gap", "locality"):
        assert np.isnan(values.loc[quantity, "value"])
        assert values.loc[quantity, "reason"] == "a single token"


def words(fast):
    tokenizer = Tokenizer(WordLevel(WORDS, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer) if fast else tokenizer


def tables(folder, model):
    prompts = folder / "prompts.csv"
    prompts.write_text(PROMPTS)
    paths = {name: folder / f"{name}.parquet" for name in ("table", "turning")}
    sheaf.measure_sheaf(
        model=model, label="m", dtype="float32", prompts=prompts, per_category=None, **paths
    )
    return (pd.read_parquet(path) for path in paths.values())


@pytest.mark.parametrize("name", ["llama", "falcon"])
def test_tables_of_a_pretrained_model(tmp_path, tiny_model, name):
    model = with_eager(tiny_model, name)
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    words(fast=True).save_pretrained(folder)
    receipt = folder / "receipt.json"
    sources.write_receipt(
        receipt, name="tiny", evidence="simulated", licence="none", origin="here", kind="made"
    )
    table, turning = tables(tmp_path, receipt)
    assert list(table.columns) == list(sheaf.COLUMNS)
    assert len(table) == 2 * 3 * 8
    assert table["value"].notna().all()
    assert set(turning["prompt"]) == {"p", "q", "mean"}
    maps = sheaf.attention_maps(model, np.arange(6))  # a to f
    value = list(layer_maps(model))[1].value.double().numpy()
    expected = sheaf.trace(maps[1], (value**2).sum(axis=(1, 2)))
    found = table.set_index(["prompt", "layer", "quantity"])["value"]
    assert found["p", 2, "trace"] == pytest.approx(expected, rel=1e-6)
    assert found["p", 2, "trace_per_token"] == pytest.approx(expected / 6, rel=1e-6)
    assert found["p", 2, "trace_normalised"] == pytest.approx(expected / (value**2).sum(), rel=1e-6)
    assert found["p", 2, "trace_proxy"] == pytest.approx(
        np.linalg.norm(np.concatenate(value), 2) ** 2
    )


def test_tables_of_a_model_of_this_project(tmp_path):
    model = own_model()
    io.save(tmp_path, model, model.config, words(fast=False))
    table, turning = tables(tmp_path, tmp_path / io.WEIGHTS)
    assert set(table["layer"]) == {1, 2, 3}
    assert table["value"].notna().all()
    assert (turning[turning["definition"] == "half_depth"]["layer"] == 1.5).all()


def test_a_model_that_does_not_attend_is_listed_with_the_reason(tmp_path):
    model = own_model(mixer="gru")
    io.save(tmp_path, model, model.config, words(fast=False))
    table, turning = tables(tmp_path, tmp_path / io.WEIGHTS)
    (row,) = table.to_dict("records")
    assert row["layer"] == -1
    assert "GRU, not by attention" in row["reason"]
    assert set(turning["status"]) == {"failed"}
