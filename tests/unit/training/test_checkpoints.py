"""A state is there whole or not at all, under a key of what decides the run."""

import random

import numpy as np
import pytest
import torch

from tgn.training import checkpoints


@pytest.fixture
def files(tmp_path):
    (tmp_path / "text.npy").write_bytes(b"tokens")
    (tmp_path / "loop.py").write_text("code")
    return [tmp_path / "text.npy", tmp_path / "loop.py"]


def test_a_key_follows_configuration_and_contents(files, tmp_path):
    key = checkpoints.resume_key({"a": 1, "b": [2.0]}, files)
    assert key == checkpoints.resume_key({"b": [2.0], "a": 1}, files[::-1])
    assert key != checkpoints.resume_key({"a": 1, "b": [2.5]}, files)
    files[1].write_text("other code")
    assert key != checkpoints.resume_key({"a": 1, "b": [2.0]}, files)
    with pytest.raises(TypeError):
        checkpoints.resume_key({"a": object()}, files)
    with pytest.raises(ValueError, match="library file"):
        checkpoints.resume_key({}, [])


def test_a_state_comes_back_as_it_was(tmp_path):
    weights = torch.randn(3, 2, dtype=torch.bfloat16)
    assert checkpoints.load(tmp_path, "k") is None
    checkpoints.save(tmp_path, "k", {"step": 3, "model": {"w": weights}})
    state = checkpoints.load(tmp_path, "k")
    assert state["step"] == 3
    assert torch.equal(state["model"]["w"], weights)
    assert checkpoints.load(tmp_path, "other") is None


def test_a_save_that_fails_leaves_the_state_before(tmp_path):
    checkpoints.save(tmp_path, "k", {"step": 1})
    with pytest.raises(Exception, match="pickle"):
        checkpoints.save(tmp_path, "k", {"step": 2, "no": lambda: None})
    assert checkpoints.load(tmp_path, "k")["step"] == 1
    assert len(list((tmp_path / "k").iterdir())) == 1


def test_a_damaged_or_foreign_state_is_refused(tmp_path):
    checkpoints.save(tmp_path, "k", {"step": 1, "w": torch.zeros(100)})
    place = tmp_path / "k" / "state.pt"
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved" / "state.pt").write_bytes(place.read_bytes())
    with pytest.raises(ValueError, match="another run"):
        checkpoints.load(tmp_path, "moved")
    place.write_bytes(place.read_bytes()[:200])
    with pytest.raises(ValueError, match="delete it"):
        checkpoints.load(tmp_path, "k")


def test_a_finished_run_leaves_nothing_of_its_own(tmp_path):
    folder = tmp_path / "state"
    checkpoints.save(folder, "k", {})
    checkpoints.save(folder, "other", {})
    checkpoints.remove(folder, "k")
    assert [path.name for path in folder.iterdir()] == ["other"]
    checkpoints.remove(folder, "other")
    checkpoints.remove(folder, "other")
    assert not folder.exists()


def test_all_generators_go_on_from_a_saved_state(tmp_path):
    def draw():
        return random.random(), np.random.random(), torch.rand(1).item()  # noqa: NPY002

    draw()
    checkpoints.save(tmp_path, "k", {"random": checkpoints.random_state()})
    first = draw()
    assert draw() != first
    checkpoints.set_random_state(checkpoints.load(tmp_path, "k")["random"])
    assert draw() == first
