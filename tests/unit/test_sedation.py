"""Closing a gate does what it says, to every model, and leaves nothing behind."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tgn.models import ModelConfig, build, io
from tgn.models.gated import Gated
from tgn.probing import sedation
from tgn.probing.trained import recorded_states

SHAPE = {"vocabulary": 40, "width": 16, "depth": 2, "heads": 2, "context": 12}
ARMS = {
    "tgn": {"mixer": "gated", "inertial": "mingru"},
    "published": {"mixer": "gated", "inertial": "gru", "recipe": "as_published"},
    "transformer": {},
}
WINDOWS = torch.randint(40, (5, 13), generator=torch.Generator().manual_seed(1))


def made(arm):
    """A model of which every part matters: as built, output maps are zero."""
    torch.manual_seed(0)
    model = build(ModelConfig(**SHAPE, **ARMS[arm])).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def at(model, dose):
    gates = torch.full((SHAPE["depth"], len(WINDOWS), 12), float(dose))
    return sedation.read_windows(model, WINDOWS, gates, batch=2)


def attention_of(model):
    for block in model.blocks:
        yield block.mixer.geometric if isinstance(block.mixer, Gated) else block.mixer


@pytest.mark.parametrize("arm", ARMS)
def test_shut_means_that_attention_no_longer_matters(arm):
    model = made(arm)
    shut, opened = at(model, 0), at(model, 1)
    for attention in attention_of(model):
        for parameter in attention.parameters():
            parameter.data += 0.5
    pd.testing.assert_frame_equal(at(model, 0), shut)
    assert not np.allclose(at(model, 1)["nats"], opened["nats"])


@pytest.mark.parametrize("arm", [arm for arm in ARMS if arm != "transformer"])
def test_open_means_that_recurrence_no_longer_matters(arm):
    model = made(arm)
    opened = at(model, 1)
    for block in model.blocks:
        for parameter in block.mixer.inertial.parameters():
            parameter.data += 0.5
    pd.testing.assert_frame_equal(at(model, 1), opened)


@pytest.mark.parametrize("arm", ARMS)
def test_a_network_left_as_it_is_has_its_own_loss(arm):
    model = made(arm)
    gated = arm != "transformer"
    own = sedation.own_gates(model, WINDOWS, batch=2) if gated else torch.ones(2, 5, 12)
    read = sedation.read_windows(model, WINDOWS, own, batch=2)
    loss = model(WINDOWS[:, :-1], targets=WINDOWS[:, 1:]).nats.mean(dim=1).detach().numpy()
    np.testing.assert_allclose(read[read["layer"] == 2]["nats"], loss, rtol=1e-5)


@pytest.mark.parametrize("arm", ARMS)
def test_nothing_is_left_behind(arm):
    model = made(arm)
    before = model(WINDOWS[:, :-1]).logits
    with pytest.raises(RuntimeError), recorded_states(model):
        raise RuntimeError
    at(model, 0)
    assert torch.equal(model(WINDOWS[:, :-1]).logits, before)
    parts = [block for block in model.blocks] + [block.mixer for block in model.blocks]
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in parts)


@given(share=st.floats(0, 1), length=st.integers(1, 60), seed=st.integers(0, 99))
def test_dealt_gates_are_the_same_gates_at_other_tokens(share, length, seed):
    gates = sedation.open_share((2, 3, length), share)
    dealt = sedation.dealt(gates, torch.Generator().manual_seed(seed))
    assert dealt.shape == gates.shape
    torch.testing.assert_close(dealt.sort(-1).values, gates.sort(-1).values, rtol=0, atol=0)
    np.testing.assert_allclose(dealt.mean(-1), share, atol=1e-5)
    assert ((dealt > 0) & (dealt < 1)).sum(-1).max() <= 1


def test_layers_and_windows_are_dealt_apart():
    gates = torch.arange(50.0).expand(2, 3, 50)
    dealt = sedation.dealt(gates, torch.Generator().manual_seed(0)).flatten(0, 1)
    assert len({tuple(row.tolist()) for row in dealt}) == 6


def test_shuffled_weights_keep_their_sizes_and_the_embedding():
    model, other = made("tgn"), made("tgn")
    sedation.shuffle_weights(model, torch.Generator().manual_seed(0))
    assert torch.equal(model.embedding.weight, other.embedding.weight)
    for new, old in zip(model.blocks.parameters(), other.blocks.parameters(), strict=True):
        assert torch.equal(new.flatten().sort().values, old.flatten().sort().values)
        assert new.ndim < 2 or new.numel() < 3 or not torch.equal(new, old)


@pytest.mark.parametrize("arm", ARMS)
def test_the_table_has_every_mode_dose_window_and_layer_once(tmp_path, arm):
    model = made(arm)
    for number in range(2):
        io.save(tmp_path / f"{arm}-{number}", model, model.config)
    ids = np.random.default_rng(0).integers(0, 40, 100).astype(np.uint16)
    np.save(tmp_path / "test.npy", ids)
    (tmp_path / "counts.json").write_text(json.dumps({"end": 0}))
    sedation.measure(
        weights=[tmp_path / f"{arm}-{number}" / "model.safetensors" for number in range(2)],
        tokens=tmp_path / "counts.json", table=tmp_path / "t.parquet", doses=[1, 0.5, 0],
        windows=4, batch=3, seed=0,
    )  # fmt: skip
    table = pd.read_parquet(tmp_path / "t.parquet")
    keys = ["run", "mode", "dose", "window", "layer"]
    assert not table.duplicated(keys).any()
    modes = ["clamped", "own", "permuted", "random", "untrained"]
    assert sorted(table["mode"].unique()) == (
        modes if arm != "transformer" else ["scaled", "untrained"]
    )
    measured = {"clamped": 3, "scaled": 3, "untrained": 3, "random": 1, "own": 1, "permuted": 1}
    counts = table.groupby("mode").size() / (2 * 4 * 3)
    assert dict(counts) == {mode: measured[mode] for mode in table["mode"].unique()}
    one, other = (table[table["run"] == f"{arm}-{number}"] for number in range(2))
    pd.testing.assert_frame_equal(
        one.drop(columns="run").reset_index(drop=True),
        other.drop(columns="run").reset_index(drop=True),
    )
    dosed = table[table["mode"].isin(["clamped", "scaled", "random"])]
    np.testing.assert_allclose(dosed["gate"], dosed["dose"], atol=1e-6)
