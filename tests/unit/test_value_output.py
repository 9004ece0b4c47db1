"""Value and output maps: those the model uses, and their norms."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgn import sources
from tgn.models import ModelConfig, build, io
from tgn.probing import as_published, value_output
from tgn.probing.adapters import adapt
from tgn.probing.value_output import Maps, layer_maps, measure_spectra, norms, spectral_norm

SHAPE = {"vocabulary": 40, "width": 16, "depth": 2, "heads": 2, "context": 12}


def contexts(adapter, tokens):
    """What the output map of every layer is given: the values that attention has mixed."""
    found = []
    hooks = []
    for layer in range(len(adapter.blocks)):
        weight = adapter.projection(layer, "o").untyped_storage().data_ptr()
        (module,) = (
            module
            for module in adapter.blocks[layer].attention.modules()
            for parameter in module.parameters(recurse=False)
            if parameter.untyped_storage().data_ptr() == weight
        )
        hooks.append(module.register_forward_pre_hook(lambda _, args: found.append(args[0])))
    with torch.no_grad():
        adapter.model(tokens)
    for hook in hooks:
        hook.remove()
    return torch.stack(found)


def silence_biases(adapter):
    with torch.no_grad():
        for block in adapter.blocks:
            for name, parameter in block.attention.named_parameters():
                if name.endswith("bias"):
                    parameter.zero_()


@pytest.fixture(params=["gpt2", "gpt_neox", "bloom", "falcon", "llama", "gemma", "opt", "gpt_neo"])
def decoder(request, tiny_model):
    return tiny_model(request.param)


def test_zero_values_leave_a_context_of_exactly_zero(decoder, tokens):
    adapter = adapt(decoder)
    silence_biases(adapter)
    assert contexts(adapter, tokens).abs().amax(dim=(1, 2, 3)).min() > 1e-3
    with torch.no_grad():
        for layer in range(len(adapter.blocks)):
            adapter.projection(layer, "v").zero_()
    assert contexts(adapter, tokens).abs().max() == 0


@pytest.mark.parametrize("name", ["gpt_neox", "bloom", "falcon"])
def test_the_published_values_of_a_fused_matrix_are_others(tiny_model, tokens, name):
    adapter = adapt(tiny_model(name))
    silence_biases(adapter)
    with torch.no_grad():
        for layer in range(len(adapter.blocks)):
            as_published.value_by_thirds(adapter, layer).zero_()
    left = contexts(adapter, tokens).abs().max()
    if name == "falcon":  # whose one value head is among the last third of the rows
        assert left == 0
        assert len(as_published.value_by_thirds(adapter, 0)) > adapter.heads.width
    else:
        assert left > 0.1


@pytest.mark.parametrize("name", ["gpt2", "opt", "llama"])
def test_the_published_values_are_right_where_nothing_is_interleaved(tiny_model, name):
    adapter = adapt(tiny_model(name))
    ours = adapter.projection(1, "v").flatten(0, 1)
    torch.testing.assert_close(as_published.value_by_thirds(adapter, 1), ours)


def test_maps_are_repeated_for_every_query_head(decoder):
    adapter = adapt(decoder)
    heads = adapter.heads
    found = list(layer_maps(decoder))
    assert len(found) == 3
    for layer, maps in enumerate(found):
        assert maps.value.shape == (heads.query, heads.width, 24)
        assert maps.output.shape == (24, heads.query, heads.width)
        for head in range(heads.query):
            shared = head * heads.key_value // heads.query
            torch.testing.assert_close(maps.value[head], adapter.projection(layer, "v")[shared])


def by_hand(maps):
    """Every norm by the full matrices and all their singular values."""
    v, o = maps.value.double().numpy(), maps.output.double().numpy()
    sides = {head: (v[head], o[:, head]) for head in range(len(v))}
    sides[-1] = np.concatenate(v), np.concatenate(o.swapaxes(0, 1), axis=1)
    rows = {}
    for head, (value, output) in sides.items():
        for name, matrix in (("v", value), ("o", output), ("ov", output @ value)):
            sigma = np.linalg.svd(matrix, compute_uv=False)
            rows[head, f"spectral_{name}"] = sigma[0]
            rows[head, f"frobenius_{name}"] = np.sqrt((sigma**2).sum())
    return rows


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(2, 9), st.integers(0, 2**16))
def test_norms_are_those_of_the_full_products(heads, width, stream, seed):
    generator = torch.Generator().manual_seed(seed)
    value = torch.randn(heads, width, stream, generator=generator)
    output = torch.randn(stream + 1, heads, width, generator=generator)
    maps = Maps(value, output, value.flatten(0, 1))
    found = norms(maps).set_index(["head", "quantity"])["value"]
    for key, expected in by_hand(maps).items():
        assert found[key] == pytest.approx(expected, rel=1e-9)


def test_the_product_alone_does_not_change_when_values_and_outputs_are_rescaled(tiny_model):
    maps = next(layer_maps(tiny_model("llama")))
    scaled = Maps(maps.value * 4, maps.output / 4, maps.published)
    before, after = (norms(x).set_index(["head", "quantity"])["value"] for x in (maps, scaled))
    ratio = (after / before).groupby("quantity").agg(["min", "max"])
    for norm in ("spectral", "frobenius"):
        np.testing.assert_allclose(ratio.loc[f"{norm}_ov"], 1, rtol=1e-9)
        np.testing.assert_allclose(ratio.loc[f"{norm}_v"], 4, rtol=1e-9)
        np.testing.assert_allclose(ratio.loc[f"{norm}_o"], 1 / 4, rtol=1e-9)


@pytest.mark.parametrize("shape", [(80, 70), (70, 200), (3, 90)])
def test_the_largest_singular_value_of_large_matrices(shape):
    matrix = np.random.default_rng(0).standard_normal(shape)
    assert spectral_norm(matrix) == pytest.approx(np.linalg.svd(matrix)[1][0], rel=1e-10)
    assert spectral_norm(0 * matrix) == 0


def test_weights_that_are_not_finite_are_refused_and_recorded(tiny_model):
    model = tiny_model("llama")
    with torch.no_grad():
        adapt(model).projection(1, "v")[0, 0, 0] = torch.nan
    first, second, _ = (norms(maps) for maps in layer_maps(model))
    assert first["value"].notna().all()
    assert (first["reason"] == "").all()
    assert second["value"].isna().all()
    assert (second["reason"] == value_output.NOT_FINITE).all()


@pytest.fixture
def saved(tmp_path, tiny_model):
    """Receipt of a tiny LLaMA in a folder."""
    tiny_model("llama").save_pretrained(tmp_path / "model")
    receipt = tmp_path / "model" / "receipt.json"
    sources.write_receipt(
        receipt, name="tiny", evidence="simulated", licence="none", origin="here", kind="made"
    )
    return receipt


def test_a_table_of_every_layer_and_head(saved, tmp_path):
    measure_spectra(model=saved, label="tiny", dtype="float32", table=tmp_path / "spectra.parquet")
    found = pd.read_parquet(tmp_path / "spectra.parquet")
    assert list(found.columns) == list(value_output.COLUMNS)
    assert set(found["layer"]) == {-1, 1, 2, 3}
    assert set(found["head"]) == {-1, *range(6)}
    assert set(found["model"]) == {"tiny"}
    assert found["value"].notna().all()
    full = found[(found["head"] == -1) & (found["layer"] == 1)].set_index("quantity")["value"]
    # three query heads share a value map, which the published norm counts once
    assert full["frobenius_v"] == pytest.approx(3**0.5 * full["frobenius_v_published"])


def test_a_model_that_does_not_load_leaves_a_row(saved, tmp_path):
    config = saved.parent / "config.json"
    config.write_text(config.read_text().replace('"llama"', '"other"'))
    measure_spectra(model=saved, label="tiny", dtype="float32", table=tmp_path / "spectra.parquet")
    (row,) = pd.read_parquet(tmp_path / "spectra.parquet").to_dict("records")
    assert row["model"] == "tiny"
    assert row["layer"] == -1
    assert np.isnan(row["value"])
    assert row["reason"].startswith("does not load")


def test_a_receipt_that_is_not_there_is_an_error_and_no_row(tmp_path):
    with pytest.raises(FileNotFoundError):
        measure_spectra(
            model=tmp_path / "receipt.json",
            label="x",
            dtype="float32",
            table=tmp_path / "t.parquet",
        )
    assert not (tmp_path / "t.parquet").exists()


def test_quantised_weights_are_refused(tiny_model):
    model = tiny_model("llama")
    packed = torch.zeros(4, 4, dtype=torch.int8)
    model.model.layers[0].mlp.up_proj.weight = torch.nn.Parameter(packed, requires_grad=False)
    with pytest.raises(ValueError, match="quantised"):
        next(layer_maps(model))


@pytest.mark.parametrize("arm", [{}, {"mixer": "gated", "inertial": "mingru"}])
def test_models_of_this_project(tmp_path, arm):
    torch.manual_seed(0)
    model = build(ModelConfig(**SHAPE, **arm)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    io.save(tmp_path, model, model.config)
    measure_spectra(
        model=tmp_path / io.WEIGHTS,
        label="ours",
        dtype="float32",
        table=tmp_path / "spectra.parquet",
    )
    found = pd.read_parquet(tmp_path / "spectra.parquet").set_index(["layer", "head", "quantity"])
    attention = value_output.own_attention(model)[1]
    product = (attention.out.weight @ attention.value.weight).detach().double()
    assert found.loc[(2, -1, "frobenius_ov"), "value"] == pytest.approx(product.norm().item())
    of_head = attention.out.weight[:, 8:] @ attention.value.weight[8:]
    expected = torch.linalg.matrix_norm(of_head.detach().double(), 2).item()
    assert found.loc[(2, 1, "spectral_ov"), "value"] == pytest.approx(expected)


def test_a_layer_that_does_not_attend_is_named():
    model = build(ModelConfig(**SHAPE, mixer="gru"))
    with pytest.raises(ValueError, match="block 0 mixes by GRU"):
        next(layer_maps(model))


def test_the_unembedding_of_a_pretrained_model_and_of_ours(tiny_model):
    torch.manual_seed(0)
    own = build(ModelConfig(**SHAPE))
    untied = build(ModelConfig(**SHAPE, tied=False))
    torch.nn.init.normal_(untied.head.weight)
    pretrained = tiny_model("llama")
    for model, weight in (
        (own, own.embedding.weight),
        (untied, untied.head.weight),
        (pretrained, pretrained.lm_head.weight),
    ):
        found = value_output.unembedding_norms(model).set_index("quantity")["value"]
        sigma = torch.linalg.svdvals(weight.detach().double())
        assert found["spectral_unembedding"] == pytest.approx(sigma[0].item(), rel=1e-5)
        expected = sigma.square().sum().sqrt().item()
        assert found["frobenius_unembedding"] == pytest.approx(expected, rel=1e-5)


def test_half_precision_is_loaded_and_its_norms_are_close(saved, tmp_path):
    tables = []
    for dtype in ("float32", "bfloat16"):
        path = tmp_path / f"{dtype}.parquet"
        measure_spectra(model=saved, label="tiny", dtype=dtype, table=path)
        tables.append(pd.read_parquet(path)["value"])
    assert next(value_output.load(saved, "bfloat16").parameters()).dtype == torch.bfloat16
    assert not tables[0].equals(tables[1])
    np.testing.assert_allclose(tables[1], tables[0], rtol=2**-7)
