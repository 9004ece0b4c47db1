"""The hook heats every attention layer and nothing else; measures mean what they say."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tgn.fixtures import make
from tgn.probing.adapters import adapt
from tgn.probing.surgery import recorded
from tgn.probing.temperature import (
    attention_maps,
    channel_information,
    heated,
    measure,
    measure_arm,
    temperature_grid,
    two_point,
)
from tgn.text.corpora import prepare

HEATABLE = ("gpt2", "llama", "gpt_neox", "opt", "mistral", "qwen2", "gemma")


@pytest.fixture(params=HEATABLE)
def heatable(request, tiny_model):
    """A network whose attention is far from even, so that temperature matters."""
    network = tiny_model(request.param)
    network.set_attn_implementation("eager")
    adapter = adapt(network)
    with torch.no_grad():
        for layer in range(len(adapter.blocks)):
            adapter.projection(layer, "q").mul_(20)
    return adapter


def logits(adapter, tokens):
    with torch.no_grad():
        return adapter.model(tokens).logits


def scale_queries(adapter, factor):
    """Multiply what makes the queries, weights and biases, in every layer."""
    heads = adapter.heads
    with torch.no_grad():
        for layer, block in enumerate(adapter.blocks):
            adapter.projection(layer, "q").mul_(factor)
            biases = dict(block.attention.named_parameters())
            if "q_proj.bias" in biases:
                biases["q_proj.bias"].mul_(factor)
            elif "c_attn.bias" in biases:
                biases["c_attn.bias"][: heads.query * heads.width].mul_(factor)
            elif "query_key_value.bias" in biases:
                fused = biases["query_key_value.bias"].view(heads.query, 3, heads.width)
                fused[:, 0].mul_(factor)


def test_at_one_the_logits_are_the_same_bits_and_heating_is_undone(heatable, tokens):
    before = logits(heatable, tokens)
    with heated(heatable, 1.0):
        assert torch.equal(logits(heatable, tokens), before)
    with heated(heatable, 3.0):
        assert not torch.equal(logits(heatable, tokens), before)
    assert torch.equal(logits(heatable, tokens), before)


def test_very_hot_attention_is_even(heatable, tokens):
    with heated(heatable, 1e12):
        hot = logits(heatable, tokens)
    assert not torch.allclose(logits(heatable, tokens), hot, atol=1e-3)
    scale_queries(heatable, 0)  # all scores zero: even attention for which nothing is heated
    torch.testing.assert_close(logits(heatable, tokens), hot)


def test_temperature_divides_the_scores(heatable, tokens):
    """The same as queries made smaller by hand, in every layer."""
    with heated(heatable, 4.0):
        hot = logits(heatable, tokens)
    scale_queries(heatable, 0.25)
    torch.testing.assert_close(logits(heatable, tokens), hot)


def test_what_cannot_be_heated_is_refused(tiny_model):
    adapter = adapt(tiny_model("gpt2"))
    with pytest.raises(ValueError, match="positive"), heated(adapter, 0):
        pass
    adapter.blocks[1].attention.scaling = None
    kept = adapter.blocks[0].attention.scaling
    with pytest.raises(ValueError, match="GPT2Attention has no `scaling`"), heated(adapter, 2):
        pass
    assert adapter.blocks[0].attention.scaling == kept


@pytest.mark.parametrize("count", [9, 21, 41])
def test_the_grid_has_one_and_is_even_in_the_logarithm(count):
    grid = temperature_grid(1.5, count)
    assert grid[count // 2] == 1.0
    np.testing.assert_allclose(np.diff(np.log10(grid)), 3 / (count - 1))


def test_a_grid_without_one_is_refused():
    with pytest.raises(ValueError, match="odd"):
        temperature_grid(1, 20)


@given(st.integers(2, 12), st.integers(2, 12), st.integers(0, 100))
def test_channel_information_is_that_of_the_joint_distribution(queries, keys, seed):
    """Against the definition, sum p(q, k) ln p(q, k) / (p(q) p(k))."""
    weights = np.random.default_rng(seed).dirichlet(np.full(keys, 0.3), size=queries)
    joint = weights / queries
    product = joint.sum(1, keepdims=True) * joint.sum(0)
    seen = joint > 0
    expected = (joint[seen] * np.log(joint[seen] / product[seen])).sum()
    information, rows = channel_information(torch.from_numpy(weights))
    assert information.item() == pytest.approx(expected, abs=1e-9)
    assert -1e-9 <= information.item() <= np.log(min(queries, keys)) + 1e-9
    assert 0 <= rows.item() <= np.log(keys) + 1e-9


def test_rows_that_read_alike_carry_nothing():
    information, rows = channel_information(torch.full((3, 7, 5), 0.2))
    torch.testing.assert_close(information, torch.zeros(3))
    torch.testing.assert_close(rows, torch.full((3,), float(np.log(5))))


def test_two_point_finds_a_planted_length_and_no_length_in_shuffled_states():
    """States of an autoregression of memory 0.8 a token, white in the null."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(30, 400, 20))
    states = np.zeros_like(noise)
    for at in range(1, 400):
        states[:, at] = 0.8 * states[:, at - 1] + 0.6 * noise[:, at]
    distances = np.arange(1, 9)
    curve, null = two_point(states[:, 50:], distances)
    np.testing.assert_allclose(curve.mean(0), 0.8**distances, atol=0.03)
    white, level = two_point(rng.permutation(states[:, 50:], axis=1), distances)
    np.testing.assert_allclose(level, null)  # the order of tokens does not enter
    np.testing.assert_allclose(white.mean(0), null.mean(), atol=0.01)


def test_the_null_is_the_mean_over_all_pairs():
    states = np.random.default_rng(1).normal(size=(3, 6, 4)) + 1
    curve, null = two_point(states, np.arange(1, 6))
    np.testing.assert_allclose(null, curve @ np.arange(5, 0, -1) / 15)


def test_a_common_offset_and_a_huge_channel_do_not_correlate():
    states = np.random.default_rng(2).normal(size=(20, 60, 10)) + 100
    states[..., 0] *= 1e4
    curve, _ = two_point(states, np.arange(1, 10))
    np.testing.assert_allclose(curve.mean(0), 0, atol=0.06)


OPTIONS = {"layers": [0, 2, 3], "batch": 2, "nudged": 2, "outlier_channels": 2, "seed": 0}


def ids(passages=4):
    return torch.randint(0, 64, (passages, 16), generator=torch.Generator().manual_seed(3)).numpy()


@pytest.fixture
def eager(tiny_model):
    network = tiny_model("llama")
    network.set_attn_implementation("eager")
    return adapt(network)


def test_loss_and_states_are_the_librarys(eager):
    tokens = ids()
    heat = measure(eager, tokens, **OPTIONS)
    with torch.no_grad():
        out = eager.model(torch.from_numpy(tokens), output_hidden_states=True)
    np.testing.assert_allclose(heat.states[2], out.hidden_states[2], rtol=1e-4, atol=1e-6)
    losses = heat.table.query("quantity == 'loss'").sort_values("passage")["value"]
    for passage, loss in enumerate(losses):
        expected = torch.nn.functional.cross_entropy(
            out.logits[passage, :-1], torch.from_numpy(tokens[passage, 1:])
        )
        assert loss == pytest.approx(expected.item(), rel=1e-5)


def test_growth_is_the_derivative(eager):
    """A change by forward differentiation along the same direction gives the same growth."""
    tokens = torch.from_numpy(ids(1))
    half = tokens[:, :8]
    heat = measure(eager, tokens.numpy(), **{**OPTIONS, "nudged": 1})
    embedding = eager.model.get_input_embeddings()(half).detach()
    generator = torch.Generator().manual_seed(OPTIONS["seed"])
    direction = torch.randn(1, embedding.shape[2], generator=generator)
    tangent = torch.zeros_like(embedding)
    tangent[:, 4] = direction

    def last(vectors):
        with recorded(eager) as states:
            eager.body(inputs_embeds=vectors, use_cache=False)
        return states[-1]

    step = 1e-3
    with torch.no_grad():
        change = (last(embedding + step * tangent) - last(embedding - step * tangent)) / (2 * step)
    expected = (change.norm() / tangent.norm()).log().item()
    grown = heat.table.query("quantity == 'growth_absolute' and layer == 3")["value"].item()
    assert grown == pytest.approx(expected, abs=0.02)
    spread = heat.table.query("quantity == 'spread' and layer == 3")["value"].item()
    elsewhere = 1 - (change[:, 4].square().sum() / change.square().sum()).item()
    assert spread == pytest.approx(elsewhere, abs=0.01)
    at_input = heat.table.query("layer == 0 and quantity in ['growth', 'spread']")["value"]
    np.testing.assert_allclose(at_input, 0, atol=1e-9)


def test_measures_do_not_depend_on_the_batch(eager):
    small = measure(eager, ids(), **OPTIONS)
    large = measure(eager, ids(), **{**OPTIONS, "batch": 4})
    keys = ["quantity", "definition", "layer", "passage"]
    small, large = (
        heat.table[heat.table["quantity"].isin(["loss", "effective_rank", "channel_information"])]
        .sort_values(keys)["value"].to_numpy()
        for heat in (small, large)
    )  # fmt: skip
    np.testing.assert_allclose(small, large, rtol=1e-4)


def test_maps_are_one_heads_weights(eager):
    table = attention_maps(eager, ids(1), [0.01, 1, 1e9])
    assert table.groupby(["layer", "head"]).ngroups == 1
    sums = table.groupby(["temperature", "query"])["weight"].sum()
    np.testing.assert_allclose(sums, 1, rtol=1e-5)
    hot = table.query("temperature == 1e9 and key <= query")
    np.testing.assert_allclose(hot["weight"], 1 / (hot["query"] + 1), rtol=1e-4)
    assert (table.query("key > query")["weight"] == 0).all()


@pytest.fixture(scope="module")
def fixtures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fixtures")
    for kind in ("gpt2", "wikitext"):
        make(kind=kind, receipt=folder / f"fixture-{kind}" / "receipt.json", seed=0)
    prepare(
        source=folder / "fixture-wikitext/receipt.json", table=folder / "corpus.parquet",
        reader="wikitext", files="*/train-*.parquet", documents=None,
    )  # fmt: skip
    return folder


def run(fixtures, folder, part=0, **changes):
    arm = {"tokens": "natural", "weights": "trained", "draws": 1, "passages": None}
    arm |= {"every": 1, "parts": 1}
    names = ("table", "correlation", "dimension", "maps")
    paths = {name: folder / f"{name}.parquet" for name in names}
    measure_arm(
        model=fixtures / "fixture-gpt2/receipt.json", corpus=fixtures / "corpus.parquet",
        arm={**arm, **changes}, part=part, decades=1, temperatures=9, length=32, passages=8,
        batch=4, nudged=2, layers=3, outlier_channels=2, neighbours=10, mapped=[0.2, 1, 5], seed=0,
        **paths,
    )  # fmt: skip
    return {name: pd.read_parquet(path) for name, path in paths.items()}


def test_an_arm_is_four_tidy_tables(fixtures, tmp_path):
    made = run(fixtures, tmp_path)
    table = made["table"]
    keys = ["temperature", "layer", "definition", "quantity", "passage"]
    assert not table.duplicated(keys).any()
    assert table["value"].notna().all()
    assert table["temperature"].nunique() == 9
    assert set(table.query("quantity == 'loss'")["passage"]) == set(range(8))
    assert len(made["correlation"]) == 9 * 8 * 15
    assert set(made["dimension"]["layer"]) == {0, 2, 4}
    points = made["dimension"].groupby(["layer", "sample"])["points"].sum().unstack()
    assert (points.nunique(axis=1) == 1).all()  # references have as many points
    assert len(made["maps"]) == 3 * 32 * 32


def test_draws_share_passages_and_every_keeps_one(fixtures, tmp_path):
    made = run(fixtures, tmp_path, weights="random", draws=2, passages=4, every=2)
    table = made["table"]
    assert sorted(table["temperature"].unique()) == pytest.approx([0.1, 10**-0.5, 1, 10**0.5, 10])
    assert (table["draw"] == table["passage"] % 2).all()
    assert set(table["passage"]) == set(range(4))
    cloud = made["dimension"]
    assert set(cloud["passage"]) == set(range(8))  # the first network read those of all arms
    assert set(cloud["layer"]) == {0, 2, 4}
    assert not table["quantity"].str.startswith("token_information").any()


def test_parts_are_the_whole(fixtures, tmp_path):
    whole = run(fixtures, tmp_path, every=2)
    parts = [run(fixtures, tmp_path, part=part, every=2, parts=2) for part in range(2)]
    keys = ["temperature", "layer", "definition", "quantity", "passage"]
    joined = pd.concat([part["table"] for part in parts]).set_index(keys).sort_index()
    pd.testing.assert_frame_equal(joined, whole["table"].set_index(keys).sort_index())
    for name in ("dimension", "maps"):
        assert sorted(len(part[name]) for part in parts) == [0, len(whole[name])]
