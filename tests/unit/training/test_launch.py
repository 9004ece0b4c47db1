"""One function in two processes: the mean over targets is the batch's, and failures are told."""

import numpy as np
import pandas as pd
import pytest

from tgn.training import launch

STEPS = '''
import os
import numpy as np
from accelerate import PartialState
from tgn.models import ModelConfig, build
from tgn.training.batches import windows
from tgn.training.loop import fit
import torch

def masked(step):
    """Of four rows one process takes the first and third: it has more targets, once all."""
    inputs, targets = windows(TEXT, context=8, batch=4, seed=0)(step)
    targets[1::2, 2 * step:] = -100
    return inputs, targets

TEXT = np.random.default_rng(0).integers(0, 32, 400)

class Interrupted(Exception):
    pass

def cut_off(step):
    if step == 3:
        raise Interrupted
    return masked(step)

def once(batches, **settings):
    torch.manual_seed(0)
    model = build(ModelConfig(
        vocabulary=32, width=16, depth=2, heads=2, context=8, mixer="gated", inertial="mingru",
        gate_form="hard_concrete" if settings else "soft"))
    return fit(model, batches, steps=4, optimizer={"kind": "muon", "learning_rate": 1e-2},
               penalty=0.1, micro_batches=2 // PartialState(cpu=True).num_processes, every=1,
               **settings).metrics

def train(*, folder):
    tables = {"straight": once(masked)}
    tables["whole"] = once(masked, seed=1)
    state = {"state_folder": folder + "/state", "save_every": 2, "seed": 1}
    try:
        once(cut_off, **state)
    except Interrupted:
        tables["resumed"] = once(masked, **state)
    if PartialState().is_main_process:
        with open(folder + "/threads", "w") as stream:
            stream.write(os.environ["MKL_NUM_THREADS"])
        for name, table in tables.items():
            table.to_parquet(f"{folder}/{name}.parquet")

def fail(*, reason):
    raise ValueError(reason)
'''


def module(folder, patched):
    """An importable module, for this process and those it starts."""
    (folder / "launched.py").write_text(STEPS)
    patched.setenv("PYTHONPATH", str(folder), prepend=":")
    patched.syspath_prepend(folder)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """What one process and what two processes found."""
    found = []
    with pytest.MonkeyPatch.context() as patched:
        for library in ("OMP", "MKL"):
            patched.setenv(f"{library}_NUM_THREADS", "2")
        for processes in (1, 2):
            folder = tmp_path_factory.mktemp(str(processes))
            module(folder, patched)
            launch.run("launched:train", {"folder": str(folder)}, processes=processes)
            names = ("straight", "whole", "resumed")
            found.append({name: pd.read_parquet(folder / f"{name}.parquet") for name in names})
            found[-1]["threads"] = (folder / "threads").read_text()
    return found


def test_two_processes_weigh_every_target_the_same(tables):
    one, two = (found["straight"] for found in tables)
    np.testing.assert_allclose(one["loss"], two["loss"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(one["gate"], two["gate"], rtol=0, atol=1e-5)
    # Muon steps in bfloat16, which lets the order of sums be seen
    np.testing.assert_allclose(one["gradient_norm"], two["gradient_norm"], rtol=1e-3)


def test_processes_share_the_threads_of_every_library(tables):
    assert [found["threads"] for found in tables] == ["2", "1"]


def test_each_process_goes_on_with_its_own_random_numbers(tables):
    one, two = tables
    pd.testing.assert_frame_equal(two["resumed"], two["whole"], check_exact=True)
    assert not np.allclose(one["whole"]["gate"], two["whole"]["gate"], atol=1e-4)


def test_a_process_that_fails_fails_the_run_and_is_heard(tmp_path, monkeypatch, capfd):
    module(tmp_path, monkeypatch)
    (temporary := tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RuntimeError, match="launched:fail failed in one of 2 processes"):
        launch.run("launched:fail", {"reason": "no such luck"}, processes=2)
    assert not list(temporary.iterdir())  # the launcher's notes
    assert not list(tmp_path.glob(".launch-*"))
    assert "no such luck" in capfd.readouterr().err
    with pytest.raises(ValueError, match="at least 1"):
        launch.run("launched:fail", {}, processes=0)
