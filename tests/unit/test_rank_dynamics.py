"""Ranks measured through hooks agree with other ways to get them, and arms do what they say."""

import numpy as np
import pandas as pd
import pytest
import torch

from tgn import rank, sources
from tgn.fixtures import make
from tgn.probing.adapters import adapt
from tgn.probing.definitions import CORE, DEFINITIONS, FULL
from tgn.probing.pretrained import load_model, load_tokenizer, random_model
from tgn.probing.rank_dynamics import measure, measure_arm, measure_states

ARM = {
    "attention": True, "mlp": True, "skip": True,
    "mixer": "attention", "tokens": "natural", "weights": "trained", "draws": 1,
    "definitions": "core",
}  # fmt: skip
OPTIONS = {"batch": 4, "outlier_channels": 2, "seed": 0}


@pytest.fixture(scope="module")
def fixtures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fixtures")
    for kind in ("gpt2", "wikitext"):
        make(kind=kind, receipt=folder / f"fixture-{kind}" / "receipt.json", seed=0)
    return folder


@pytest.fixture(scope="module")
def corpus(fixtures):
    from tgn.text.corpora import prepare

    table = fixtures / "corpus.parquet"
    prepare(
        source=fixtures / "fixture-wikitext/receipt.json", table=table, reader="wikitext",
        files="*/train-*.parquet", documents=None,
    )  # fmt: skip
    return table


def test_ranks_by_hooks_agree_with_the_states_the_library_returns(model, tokens):
    """The library's last state is after the final norm, so the comparison ends before it."""
    table, _ = measure(adapt(model), tokens.numpy(), definitions=CORE, **OPTIONS)
    with torch.no_grad():
        states = model(tokens, output_hidden_states=True).hidden_states
    for layer, state in enumerate(states[:-1]):
        for passage in range(len(tokens)):
            x = state[passage].double().numpy()
            sigma = np.linalg.svd(x, compute_uv=False)
            p = sigma / sigma.sum()
            row = table[
                (table["layer"] == layer)
                & (table["passage"] == passage)
                & (table["definition"] == "published")
            ]
            assert row["effective_rank"].item() == pytest.approx(np.exp(-(p * np.log(p)).sum()))
            distance = np.linalg.norm(x - x.mean(0)) / np.linalg.norm(x)
            assert row["distance"].item() == pytest.approx(distance)


def test_passages_do_not_depend_on_the_batch(tiny_model):
    adapter = adapt(tiny_model("gpt2"))
    ids = torch.randint(0, 64, (5, 16), generator=torch.Generator().manual_seed(2)).numpy()
    options = {"definitions": CORE, "outlier_channels": 2, "seed": 0}
    keys = ["passage", "layer", "definition"]
    first, _ = measure(adapter, ids, batch=2, **options)
    other, _ = measure(adapter, ids, batch=5, **options)
    pd.testing.assert_frame_equal(
        first.sort_values(keys, ignore_index=True), other.sort_values(keys, ignore_index=True)
    )


def test_definitions_see_what_they_should():
    """One huge first token and one huge channel: only the definitions that keep them notice."""
    rng = np.random.default_rng(0)
    states = rng.normal(size=(1, 40, 30))
    states[:, 0] *= 1000
    states[:, :, 3] *= 30
    table, spectra = measure_states(states, definitions=FULL, outlier_channels=1, rng=rng)
    ranks = table.set_index("definition")["effective_rank"]
    clean = rank.effective_rank(np.delete(states, 3, axis=2)[:, 1:], centre="columns").item()
    assert ranks["published"] < 3
    assert ranks["centred_with_first"] < 3
    assert ranks["without_outliers"] == pytest.approx(clean)
    assert ranks["centred"] < 0.8 * clean
    assert ranks["standardised"] > 0.9 * clean
    assert table.set_index("definition")["token_share"]["published"] > 0.99
    for shares in spectra.values():
        assert shares.sum() == pytest.approx(1)


def test_the_null_breaks_what_channels_share():
    rng = np.random.default_rng(0)
    states = rng.normal(size=(1, 40, 1)) @ rng.normal(size=(1, 1, 30))
    table, _ = measure_states(
        states, definitions=("centred", "shuffled_values"), outlier_channels=1, rng=rng
    )
    ranks = table.set_index("definition")["effective_rank"]
    assert ranks["centred"] == pytest.approx(1)
    assert ranks["shuffled_values"] > 15


def run(fixtures, corpus, folder, **changes):
    arm = {**ARM, **changes}
    measure_arm(
        model=fixtures / "fixture-gpt2/receipt.json", corpus=corpus,
        table=folder / "t.parquet", spectra=folder / "s.parquet",
        arm=arm, lengths=[16, 24], passages=6, **OPTIONS,
    )  # fmt: skip
    return pd.read_parquet(folder / "t.parquet"), pd.read_parquet(folder / "s.parquet")


def test_an_arm_is_a_tidy_table(fixtures, corpus, tmp_path):
    table, spectra = run(fixtures, corpus, tmp_path)
    assert len(table) == 2 * 6 * 5 * len(CORE)
    assert not table.duplicated(["length", "passage", "layer", "definition"]).any()
    assert (table["effective_rank"] <= table["cap"]).all()
    assert table.groupby(["length", "passage"])["document"].nunique().eq(1).all()
    sums = spectra.groupby(["length", "layer", "definition"])["share"].sum()
    np.testing.assert_allclose(sums, 1)


def test_draws_share_the_passages(fixtures, corpus, tmp_path):
    """Each passage meets one draw, which gives what it gives on its own."""
    random = {"weights": "random"}
    (tmp_path / "one").mkdir()
    once, alone = run(fixtures, corpus, tmp_path / "one", **random)
    several, spectra = run(fixtures, corpus, tmp_path, **random, draws=3)
    keys = ["length", "passage", "layer", "definition"]
    once, several = (part.sort_values(keys, ignore_index=True) for part in (once, several))
    assert (several["draw"] == several["passage"] % 3).all()
    pd.testing.assert_frame_equal(once[[*keys, "document"]], several[[*keys, "document"]])
    same = several["effective_rank"] == once["effective_rank"]
    assert same[several["draw"] == 0].all()
    assert not same[several["draw"] == 1].any()
    assert len(spectra) == len(alone)
    np.testing.assert_allclose(spectra.groupby(keys[:1] + keys[2:])["share"].sum(), 1)


def test_random_mixers_differ_between_draws(fixtures, corpus, tmp_path):
    table, _ = run(fixtures, corpus, tmp_path, mixer="random", draws=2)
    (tmp_path / "one").mkdir()
    once, _ = run(fixtures, corpus, tmp_path / "one", mixer="random")
    keys = ["length", "passage", "layer", "definition"]
    after = "layer == 3 and definition == 'centred'"
    ranks, alone = (
        part.query(after).set_index(keys)["effective_rank"].sort_index() for part in (table, once)
    )
    second = ranks.index.get_level_values("passage") % 2 == 1
    assert (ranks[~second] == alone[~second]).all()
    assert not (ranks[second] == alone[second]).any()


def test_shuffled_tokens_are_the_same_tokens(fixtures, corpus, tmp_path):
    """At the input a bag of tokens differs by positions alone, so shares stay near."""
    plain, _ = run(fixtures, corpus, tmp_path)
    shuffled, _ = run(fixtures, corpus, tmp_path, tokens="shuffled")
    assert (plain["document"] == shuffled["document"]).all()
    assert not np.allclose(plain["effective_rank"], shuffled["effective_rank"])


def test_random_weights_are_other_weights_and_follow_the_seed(fixtures):
    folder = fixtures / "fixture-gpt2"
    trained, one, same, other = (
        dict(network.named_parameters())["transformer.h.0.attn.c_attn.weight"]
        for network in (
            load_model(folder),
            random_model(folder, seed=1),
            random_model(folder, seed=1),
            random_model(folder, seed=2),
        )
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert not torch.equal(one, trained)


def test_fixtures_are_the_same_bytes_every_time(fixtures, tmp_path):
    make(kind="gpt2", receipt=tmp_path / "receipt.json", seed=0)
    first = sources.read_receipt(fixtures / "fixture-gpt2/receipt.json")
    again = sources.read_receipt(tmp_path / "receipt.json")
    for name in ("model.safetensors", "tokenizer.json"):
        assert first[name].read_bytes() == again[name].read_bytes()
    text = "Any text at all: naïve, 1998!\n"
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_unknown_fixtures_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no fixture 'bert'; there are gpt2, wikitext"):
        make(kind="bert", receipt=tmp_path / "receipt.json", seed=0)


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        load_model(tmp_path)


def test_every_definition_is_known_by_one_name():
    assert len(set(DEFINITIONS.values())) == len(DEFINITIONS)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_a_gpu_gives_the_cpu_ranks(model, tokens):
    cpu, _ = measure(adapt(model), tokens.numpy(), definitions=CORE, **OPTIONS)
    gpu, _ = measure(adapt(model.to("cuda")), tokens.numpy(), definitions=CORE, **OPTIONS)
    np.testing.assert_allclose(gpu["effective_rank"], cpu["effective_rank"], rtol=1e-3)
