"""Probes of gravity models, on small ones of which all is known."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import spearmanr

from tgn.models import build, io
from tgn.models.config import ModelConfig
from tgn.probing import gravity
from tgn.text.tokens import train_bpe

SIZE = {
    "vocabulary": 300, "width": 16, "depth": 3, "heads": 2, "context": 24, "mixer": "gravity",
}  # fmt: skip
PUBLISHED = {"recipe": "as_published", "cutoff": "hard"}


def model(seed=0, **changed):
    torch.manual_seed(seed)
    return build(ModelConfig.from_dict({**SIZE, **changed})).eval()


def windows(count=4, length=24):
    return torch.randint(300, (count, length), generator=torch.Generator().manual_seed(1))


def rng():
    return np.random.default_rng(0)


numbers = st.integers(-5, 5).map(float)


@given(hnp.arrays(float, (3, 8), elements=numbers), hnp.arrays(float, (3, 8), elements=numbers))
def test_rank_correlation_is_that_of_scipy(x, y):
    found = gravity.rank_correlation(x, y)
    for k in range(3):
        if np.ptp(x[k]) == 0 or np.ptp(y[k]) == 0:
            assert np.isnan(found[k])
        else:
            assert found[k] == pytest.approx(spearmanr(x[k], y[k]).statistic)


@given(
    hnp.arrays(float, 9, elements=numbers),
    hnp.arrays(float, 9, elements=numbers),
    hnp.arrays(bool, 9),
)
def test_rank_correlation_of_a_part_is_that_of_the_part_alone(x, y, where):
    part = gravity.rank_correlation(x, y, where)
    alone = gravity.rank_correlation(x[where], y[where])
    np.testing.assert_allclose(part, alone)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(1, 12))
def test_masses_are_dealt_among_tokens_next_to_each_other_in_frequency(counts, size):
    counts = np.array(counts)
    order = gravity.deal(counts, size, rng())
    assert sorted(order) == list(range(len(counts)))
    ranks = np.sort(counts)
    for first in range(0, len(counts), size):
        low, high = ranks[first], ranks[min(first + size, len(counts)) - 1]
        inside = (counts > low) & (counts < high)
        assert ((counts[order][inside] >= low) & (counts[order][inside] <= high)).all()


def test_in_the_corrected_form_the_near_attract_and_in_the_published_one_the_far():
    near, _ = gravity.attention_tables(model(), windows(), 3, rng())
    assert near["rank_distance"].max() < -0.9
    assert (near["nearest"] == 1).all()
    far, _ = gravity.attention_tables(model(**{**PUBLISHED, "cutoff": "none", "mass": "value"}),
                                      windows(), 3, rng())  # fmt: skip
    # in later layers places are close to each other, and in float32 some weights are equal
    assert far["rank_distance"].min() > 0.8
    assert (far.loc[far["layer"] == 0, "farthest"] == 1).all()
    assert (far["own"] < 1e-6).all()


def test_weight_rises_with_mass_where_the_model_says_so():
    heavy = model()
    with torch.no_grad():  # all at one place, so that masses alone tell tokens apart
        heavy.log_masses.copy_(torch.randn(300, generator=torch.Generator().manual_seed(2)))
        for block in heavy.blocks:
            block.mixer.place.weight.zero_()
    table, _ = gravity.attention_tables(heavy, windows(), 3, rng())
    assert table["rank_mass"].min() > 0.999
    assert abs(table["rank_dealt"].mean()) < 0.3
    assert table["rank_distance"].isna().all()  # all distances are equal


def test_equal_masses_have_no_rank():
    table, _ = gravity.attention_tables(model(), windows(), 3, rng())
    assert table["rank_mass"].isna().all()


def test_a_soft_radius_leaves_no_weight_beyond_and_no_radius_has_no_beyond():
    small = model()
    with torch.no_grad():
        for block in small.blocks:
            block.mixer.log_radius.fill_(np.log(1.5))
    table, curves = gravity.attention_tables(small, windows(), 3, rng())
    assert table["pairs_beyond"].min() > 0.2
    assert (table["weight_beyond"] == 0).all()
    assert (curves.loc[curves["distance"] > 1, "weight"] == 0).all()
    table, curves = gravity.attention_tables(model(cutoff="none"), windows(), 3, rng())
    assert (table["pairs_beyond"] == 0).all()
    assert curves.empty


def test_relative_weights_are_one_on_average():
    """Over all earlier tokens they sum to their number, where any weight is left to them."""
    _, curves = gravity.attention_tables(model(), windows(), 3, rng())
    assert curves["weight"].sum() == pytest.approx(curves["pairs"].sum(), rel=0.02)


def test_what_a_block_makes_of_its_coordinates_is_what_it_does():
    ours = model()
    (pull, *_) = gravity.pulls(ours, windows())
    sums = pull.weights.sum(-1)
    torch.testing.assert_close(sums, torch.ones_like(sums))
    assert (pull.weights.triu(1) == 0).all()
    assert (pull.d2.diagonal(dim1=-2, dim2=-1) == 0).all()


def test_learned_numbers_are_read_by_head():
    table = gravity.number_table(model())
    assert len(table) == 6
    np.testing.assert_allclose(table[["gamma", "softening", "radius", "beta"]].mean(), [4, 1, 4, 0],
                               rtol=1e-6)  # fmt: skip
    published = gravity.number_table(model(**PUBLISHED))
    assert published["gamma"].to_numpy() == pytest.approx(np.log(2))
    assert published["radius"].to_numpy() == pytest.approx(4.018, abs=1e-3)


def test_dealing_equal_masses_costs_nothing_and_dealing_others_does():
    counts = np.arange(300)
    longer = torch.cat([windows(), windows()[:, :1]], dim=1)
    ours = model()
    table = gravity.dealt_table(ours, counts, longer, 2, rng())
    assert table.groupby("window")["nats"].agg(np.ptp).max() == 0
    with torch.no_grad():
        ours.log_masses.copy_(torch.randn(300))
        for block in ours.blocks:  # at the start the blocks give nothing out
            torch.nn.init.normal_(block.mixer.out.weight, std=0.3)
    before = ours.log_masses.detach().clone()
    table = gravity.dealt_table(ours, counts, longer, 2, rng())
    assert table.groupby("window")["nats"].agg(np.ptp).min() > 0
    torch.testing.assert_close(ours.log_masses.detach(), before)


def test_forms_of_a_word_that_lie_together_are_found_and_others_are_not():
    places = np.random.default_rng(1).normal(size=(40, 5))
    pairs = np.arange(40).reshape(20, 2)
    apart = gravity.related_table(places, pairs, rng())
    assert apart["closer"].mean() == pytest.approx(0.5, abs=0.15)
    places[1::2] = places[::2] + 0.01
    together = gravity.related_table(places, pairs, rng())
    assert (together["closer"] == 1).all()
    assert together["dealt"].mean() < 0.7


def test_pairs_without_coordinates_are_left_out():
    places = np.full((8, 2), np.nan)
    assert gravity.related_table(places, np.arange(8).reshape(4, 2), rng()).empty


def test_mean_coordinates_need_three_sights():
    ids = torch.tensor([[5, 5, 5, 7, 7, 9]])
    means = gravity.mean_coordinates(model(), ids)
    assert np.isfinite(means[5]).all()
    assert np.isnan(means[[7, 9]]).all()


def test_a_run_is_probed_beside_the_network_it_started_from(tmp_path):
    text = tmp_path / "tokens"
    text.mkdir()
    words = "the cat sat on The mat and the dog sat on the mat . " * 40
    tokenizer = train_bpe([words], 270)
    ids = np.array(tokenizer.encode(words).ids, dtype=np.uint16)
    for split in ("train", "validation", "test"):
        np.save(text / f"{split}.npy", ids)
    tokenizer.save(str(text / "tokenizer.json"))
    (text / "counts.json").write_text(json.dumps({"vocabulary": 270, "end": 0}))
    weights = []
    for name, changed in (("ours-0", {}), ("published-1", PUBLISHED)):
        seed = int(name[-1])
        trained = model(seed=seed, vocabulary=270, **changed)
        with torch.no_grad():
            for parameter in trained.parameters():
                parameter += 0.1
        folder = tmp_path / name
        io.save(folder, trained, trained.config, metadata={"seed": seed})
        weights.append(folder / "model.safetensors")
    names = ("numbers", "masses", "attention", "curves", "dealt", "related")
    paths = {name: tmp_path / f"{name}.parquet" for name in names}
    gravity.measure(
        weights=weights, tokens=text / "counts.json", windows=3, queries=2, semantic_windows=4,
        validation_windows=2, shuffles=1, **paths,
    )  # fmt: skip
    tables = {name: pd.read_parquet(path) for name, path in paths.items()}
    assert tables.pop("related").empty  # of so short a text
    for table in tables.values():
        assert set(table["run"]) == {"ours-0", "published-1"}
    start = tables["numbers"].query("run == 'ours-0' and not trained")
    assert start["gamma"].to_numpy() == pytest.approx(4)
    end = tables["numbers"].query("run == 'ours-0' and trained")
    assert end["gamma"].to_numpy() == pytest.approx(4 * np.exp(0.1))
    counted = tables["masses"].groupby("run")["count"].sum()
    assert (counted == len(ids)).all()


def test_the_start_of_training_is_made_from_the_seed_that_is_recorded(tmp_path):
    trained = model(seed=4)
    io.save(tmp_path / "known", trained, trained.config, metadata={"seed": 3})
    before = torch.get_rng_state()
    start = gravity._untrained(tmp_path / "known", trained).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(start, model(seed=3).state_dict(), rtol=0, atol=0)
    io.save(tmp_path / "unknown", trained, trained.config)
    with pytest.raises(ValueError, match="unknown: no seed is recorded"):
        gravity._untrained(tmp_path / "unknown", trained)


def test_models_without_gravity_are_refused(tmp_path):
    plain = build(ModelConfig.from_dict({**SIZE, "mixer": "attention"}))
    io.save(tmp_path / "vanilla-0", plain, plain.config)
    tokenizer = train_bpe(["some words"], 257)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    out = dict.fromkeys(("numbers", "masses", "attention", "curves", "dealt", "related"), tmp_path)
    with pytest.raises(ValueError, match=r"without gravity \(attention\)"):
        gravity.measure(
            weights=[tmp_path / "vanilla-0/model.safetensors"], tokens=tmp_path / "counts.json",
            windows=1, queries=1, semantic_windows=1, validation_windows=1, shuffles=1, **out,
        )  # fmt: skip
