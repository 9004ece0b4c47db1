"""Weights kept on the way of a run."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tgn.models import ModelConfig, build
from tgn.probing.training_dynamics import along, checkpoints_in
from tgn.training.batches import windows
from tgn.training.loop import fit
from tgn.training.snapshots import keeping

SIZES = {"vocabulary": 32, "width": 16, "depth": 1, "heads": 2, "context": 8}
TEXT = np.random.default_rng(0).integers(0, 32, 400).astype(np.uint16)
ADAMW = {"kind": "adamw", "learning_rate": 1e-2}


def made():
    torch.manual_seed(0)
    return build(ModelConfig(**SIZES))


def train(model, batches, steps, **arguments):
    return fit(model, batches, steps=steps, optimizer=ADAMW, every=1, cpu=True, **arguments)


def batches():
    return windows(TEXT, context=8, batch=2, seed=0)


def test_the_files_are_the_weights_after_so_many_steps_and_training_is_the_same(tmp_path):
    plain, watched, start = made(), made(), made().state_dict()
    expected = train(plain, batches(), 6)
    found = train(watched, keeping(batches(), watched, folder=tmp_path, every=2), 6)
    assert found.metrics.equals(expected.metrics)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, watched.state_dict()[name])
    kept = checkpoints_in(tmp_path)
    assert list(kept) == [0, 2, 4]
    first = load_file(kept[0])
    assert all(torch.equal(tensor, start[name]) for name, tensor in first.items())
    # the loop's rate is constant, so that a run of two steps is the first third of one of six
    short = made()
    train(short, batches(), 2)
    second = load_file(kept[2])
    assert all(torch.equal(tensor, second[name]) for name, tensor in short.state_dict().items())


def test_a_run_that_was_cut_off_goes_on_to_the_same_files(tmp_path):
    whole, cut = made(), made()
    train(whole, keeping(batches(), whole, folder=tmp_path / "whole", every=2), 6)

    def failing(step):
        if step == 3:
            raise KeyboardInterrupt
        return watched(step)

    watched = keeping(batches(), cut, folder=tmp_path / "cut", every=2)
    options = {"state_folder": tmp_path / "state", "key": "run", "save_every": 2}
    with pytest.raises(KeyboardInterrupt):
        train(cut, failing, 6, **options)
    again = made()
    train(again, keeping(batches(), again, folder=tmp_path / "cut", every=2), 6, **options)
    ours, theirs = checkpoints_in(tmp_path / "whole"), checkpoints_in(tmp_path / "cut")
    assert list(ours) == list(theirs) == [0, 2, 4]
    for step, path in ours.items():
        assert path.read_bytes() == theirs[step].read_bytes()


def test_what_is_kept_can_be_measured(tmp_path):
    model = made()
    train(model, keeping(batches(), model, folder=tmp_path, every=3), 6)
    rows = along({**checkpoints_in(tmp_path), 6: model.state_dict()})
    query = rows[rows["matrix"] == "layer_0/self_attention.query"]
    assert list(query["step"]) == [0, 3, 6]
    assert (np.diff(query["moved"]) > 0).all()


def test_a_step_of_zero_is_refused(tmp_path):
    with pytest.raises(ValueError, match="every"):
        keeping(batches(), made(), folder=tmp_path, every=0)
