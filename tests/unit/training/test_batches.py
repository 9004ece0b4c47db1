"""Which windows are read is a pure function of seed and step; an epoch reads each once."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgn.training.batches import windows, windows_per_epoch


def rows(read, steps):
    return torch.cat([read(step)[0] for step in steps])


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(2, 300),
    context=st.integers(1, 40),
    batch=st.integers(1, 7),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 3),
)
def test_every_epoch_reads_each_window_of_one_cut_once(length, context, batch, seed, epoch):
    if length <= context:
        return
    text = np.arange(length, dtype=np.uint16)
    count = windows_per_epoch(length, context)
    read = windows(text, context=context, batch=batch, seed=seed)
    first, end = epoch * count // batch, -(-(epoch + 1) * count // batch)
    skipped = epoch * count - first * batch
    starts = rows(read, range(first, end))[skipped : skipped + count, 0].numpy()
    assert (np.diff(np.sort(starts)) == context).all()  # no window twice, none left out
    assert 0 <= starts.min() < context
    assert starts.max() + context < length


def test_targets_are_the_inputs_one_token_on():
    text = np.random.default_rng(0).integers(0, 50, 100).astype(np.uint16)
    inputs, targets = windows(text, context=8, batch=3, seed=1)(2)
    assert inputs.shape == targets.shape == (3, 8)
    assert inputs.dtype == targets.dtype == torch.int64
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    joined = torch.cat([inputs, targets[:, -1:]], dim=1).numpy()
    pieces = np.lib.stride_tricks.sliding_window_view(text, 9)
    assert all((pieces == row).all(axis=1).any() for row in joined)


def test_epochs_differ_in_order_and_offset():
    text = np.arange(2000, dtype=np.uint16)
    count = windows_per_epoch(2000, 16)
    read = windows(text, context=16, batch=1, seed=0)
    first, second = (rows(read, range(k * count, (k + 1) * count))[:, 0] for k in (0, 1))
    assert not torch.equal(first, second)
    offsets = {int(rows(read, range(k * count, k * count + 1))[0, 0]) % 16 for k in range(20)}
    assert len(offsets) > 8


def test_a_step_does_not_depend_on_the_steps_before():
    text = np.arange(500, dtype=np.uint16)
    forwards = windows(text, context=10, batch=4, seed=3)
    backwards = windows(text, context=10, batch=4, seed=3)
    ahead = [forwards(step)[0] for step in range(40)]
    back = [backwards(step)[0] for step in reversed(range(40))][::-1]
    assert all(map(torch.equal, ahead, back))
    other = windows(text, context=10, batch=4, seed=4)
    assert not torch.equal(torch.stack(ahead), torch.stack([other(k)[0] for k in range(40)]))


def test_a_memory_map_is_read_as_an_array(tmp_path):
    text = np.arange(300, dtype=np.uint16)
    np.save(tmp_path / "text.npy", text)
    mapped = np.load(tmp_path / "text.npy", mmap_mode="r")
    from_disk, from_memory = (windows(t, context=7, batch=2, seed=0)(5)[1] for t in (mapped, text))
    assert torch.equal(from_disk, from_memory)


def test_a_text_of_one_window_is_enough_and_a_shorter_one_is_not():
    inputs, targets = windows(np.arange(9), context=8, batch=2, seed=0)(1)
    assert inputs.tolist() == 2 * [list(range(8))]
    assert targets.tolist() == 2 * [list(range(1, 9))]
    with pytest.raises(ValueError, match=r"8 tokens.*needs 9"):
        windows(np.arange(8), context=8, batch=2, seed=0)
    with pytest.raises(ValueError, match="batch"):
        windows(np.arange(9), context=8, batch=0, seed=0)
    with pytest.raises(ValueError, match="context"):
        windows(np.arange(9), context=0, batch=1, seed=0)
