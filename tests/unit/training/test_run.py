"""A whole run, from tokens to a checkpoint: killed, started in two processes, or left alone."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tgn.models import io
from tgn.text import tokens
from tgn.training import evaluation, gravity_watch
from tgn.training.run import train

MODEL = {
    "width": 16, "depth": 2, "heads": 2, "context": 16, "mixer": "gated", "inertial": "mingru",
    "dropout": 0.1, "mlp_width": 32,
}  # fmt: skip
TRAINING = {
    "batch": 8, "steps": 120, "every": 5, "save_every": 10, "evaluate_every": 40,
    "validation_windows": 4, "precision": "bf16",
    "optimizer": {"kind": "muon", "learning_rate": 1e-2, "betas": [0.9, 0.95]},
    "schedule": {"warmup": 0.1, "decay": 0.3},
}  # fmt: skip


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A tokenised text of a few made-up words."""
    folder = tmp_path_factory.mktemp("tokens")
    rng = np.random.default_rng(0)
    words = np.array(["tide", "rose", "and", "fell", "while", "gates", "opened", "wide"])
    corpus = pd.DataFrame(
        {
            "title": [f"page {k}" for k in range(60)],
            "text": [" ".join(rng.choice(words, 40)) for _ in range(60)],
        }
    )
    corpus.to_parquet(folder / "corpus.parquet")
    outputs = {name: folder / f"{name}.npy" for name in ("train", "validation", "test")}
    tokens.prepare(
        corpus=folder / "corpus.parquet",
        tokenizer=folder / "tokenizer.json",
        documents=folder / "documents.parquet",
        counts=folder / "counts.json",
        vocabulary=270,
        **outputs,
    )
    return folder / "counts.json"


def arguments(text, folder, **changes):
    return {
        "tokens": str(text),
        "model": MODEL,
        "training": TRAINING,
        "seed": 3,
        "penalty": 0.01,
        "checkpoint": str(folder / "checkpoint" / "model.safetensors"),
        "metrics": str(folder / "metrics.parquet"),
        "evaluated": str(folder / "evaluation.json"),
        "documents": str(folder / "documents.parquet"),
        "trajectory": str(folder / "trajectory.parquet"),
        "blocks": str(folder / "blocks.parquet"),
        "timings": str(folder / "timings.parquet"),
        "state": str(folder / "state"),
        **changes,
    }


REPRODUCIBLE = (
    "checkpoint/model.safetensors", "checkpoint/config.json", "checkpoint/tokenizer.json",
    "metrics.parquet", "trajectory.parquet", "blocks.parquet", "evaluation.json",
    "documents.parquet",
)  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(text, tmp_path_factory):
    """The same run in this process, on one thread as the others."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train(**arguments(text, folder))
    finally:
        torch.set_num_threads(threads)
    return folder


def test_a_run_writes_a_checkpoint_and_its_numbers(text, uninterrupted):
    model = io.load(uninterrupted / "checkpoint")
    assert model.config.vocabulary == json.loads(text.read_text())["vocabulary"]
    evaluation = json.loads((uninterrupted / "evaluation.json").read_text())
    for split in ("validation", "test"):
        assert 1 < evaluation[split]["token_perplexity"] < 60
        assert len(evaluation[split]["gates"]) == MODEL["depth"]
    metrics = pd.read_parquet(uninterrupted / "metrics.parquet")
    assert metrics["step"].tolist() == list(range(0, 121, 5))
    assert metrics["validation_loss"].dropna().is_monotonic_decreasing
    assert metrics["loss"].iloc[-1] < metrics["loss"].iloc[1] - 1
    assert set(pd.read_parquet(uninterrupted / "documents.parquet")["split"]) == {
        "validation",
        "test",
    }
    assert not (uninterrupted / "state").exists()


def test_a_run_killed_at_random_steps_ends_in_the_same_bytes(text, uninterrupted, tmp_path):
    code = "import json, sys; from tgn.training.run import train; train(**json.loads(sys.argv[1]))"
    command = [sys.executable, "-c", code, json.dumps(arguments(text, tmp_path))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    saved = tmp_path / "state"

    def states():
        return [place.stat().st_mtime_ns for place in saved.glob("*/state.pt")]

    for _ in range(2):
        before = states()
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
            while states() == before:
                assert process.poll() is None, "it ended before it could be killed"
                time.sleep(0.001)
            time.sleep(random.uniform(0, 0.1))  # a few steps, or in the middle of a save
            os.kill(process.pid, signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        assert not (tmp_path / "metrics.parquet").exists()
    subprocess.run(command, env=environment, check=True)
    for name in REPRODUCIBLE:
        assert (tmp_path / name).read_bytes() == (uninterrupted / name).read_bytes(), name
    assert pd.read_parquet(tmp_path / "timings.parquet")["cpu_seconds"].is_monotonic_increasing
    assert not saved.exists()


@pytest.mark.parametrize("gpus", [1, 2])
def test_a_terminated_run_saves_its_state_first(text, uninterrupted, tmp_path, gpus):
    """The signal comes to the process that was started; of two that train it is neither."""
    code = "import json, sys; from tgn.training.run import train; train(**json.loads(sys.argv[1]))"
    given = {**arguments(text, tmp_path), "gpus": gpus}
    command = [sys.executable, "-c", code, json.dumps(given)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    said = tmp_path / "said"
    with (
        said.open("w") as stream,
        subprocess.Popen(command, env=environment, stderr=stream) as process,
    ):
        while not (states := list(tmp_path.glob("state/*/state.pt"))):
            assert process.poll() is None, said.read_text()
            time.sleep(0.001)
        process.terminate()
    assert process.returncode == 128 + signal.SIGTERM, said.read_text()
    state = torch.load(states[0], weights_only=True)
    step = state["progress"]["step"]
    assert 10 <= step < TRAINING["steps"]
    assert len(state["processes"]) == gpus
    assert f"SIGTERM; its state after step {step} is kept" in said.read_text()
    if gpus > 1:
        return  # how they go on: test_launch.py
    again = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert f"goes on from step {step} of" in again.stderr
    for name in REPRODUCIBLE:
        assert (tmp_path / name).read_bytes() == (uninterrupted / name).read_bytes(), name


def test_two_processes_train_as_one(text, tmp_path):
    short = {**TRAINING, "steps": 6, "every": 1, "save_every": 3, "precision": "no"}
    found = []
    for gpus in (1, 2):
        folder = tmp_path / str(gpus)
        train(gpus=gpus, **arguments(text, folder, training=short, model={**MODEL, "dropout": 0.0}))
        found.append(pd.read_parquet(folder / "metrics.parquet"))
    for name in ("loss", "gate", "validation_loss"):
        np.testing.assert_allclose(found[0][name], found[1][name], rtol=0, atol=1e-5)
    assert io.load(tmp_path / "2" / "checkpoint").config.width == MODEL["width"]


def test_a_run_starts_from_weights_of_the_same_shape(text, uninterrupted, tmp_path):
    start = uninterrupted / "checkpoint" / "model.safetensors"
    short = {**TRAINING, "steps": 5, "every": 5, "save_every": None}
    train(**arguments(text, tmp_path, training=short, start=str(start)))
    before, after = (
        pd.read_parquet(folder / "metrics.parquet")["validation_loss"]
        for folder in (uninterrupted, tmp_path)
    )
    assert after.iloc[0] == pytest.approx(before.iloc[-1])
    with pytest.raises(ValueError, match="another model"):
        train(**arguments(text, tmp_path, start=str(start), model={**MODEL, "width": 32}))


GRAVITY = {
    "width": 16, "depth": 2, "heads": 2, "context": 16, "mixer": "gravity", "mlp_width": 32,
}  # fmt: skip
ADAMW = {"kind": "adamw", "learning_rate": 3e-3}


def test_a_longer_run_goes_on_from_a_finished_one_if_that_is_asked_for(text, tmp_path, capsys):
    """It trains: its learning rate is not the 0 that the first schedule ended at."""
    training = {
        **TRAINING, "steps": 20, "evaluate_every": 20, "precision": "no", "optimizer": ADAMW,
        "schedule": {"warmup": 0.2, "decay": 0.8, "shape": "cosine"}, "extend": True,
    }  # fmt: skip
    found = []
    for steps in (20, 60):
        given = arguments(text, tmp_path, training={**training, "steps": steps}, penalty=0.0)
        train(**given)
        found.append(pd.read_parquet(tmp_path / "metrics.parquet"))
    first, whole = found
    assert "goes on from step 20, of 20 that were planned, to 60" in capsys.readouterr().err
    pd.testing.assert_frame_equal(whole[whole["step"] <= 20], first)
    later = whole[whole["step"] > 20]
    assert (later["learning_rate"].iloc[:-1] > 1e-5).all()
    assert later["learning_rate"].max() == pytest.approx(3e-3, rel=0.05)
    assert whole["validation_loss"].iloc[-1] < first["validation_loss"].iloc[-1] - 0.1
    assert io.describe(tmp_path / "checkpoint")["metadata"]["training"]["steps"] == 60
    assert list((tmp_path / "state").glob("*/state.pt"))
    anew = {**training, "steps": 10, "extend": False}
    train(**arguments(text, tmp_path, training=anew, penalty=0.0))
    assert pd.read_parquet(tmp_path / "metrics.parquet")["step"].max() == 10


@pytest.mark.parametrize("recipe", ["ours", "as_published"])
def test_a_gravity_run_is_followed_in_tensorboard_and_its_best_weights_stay(text, tmp_path, recipe):
    training = {
        "batch": 4, "steps": 40, "every": 10, "evaluate_every": 10, "validation_windows": 4,
        "optimizer": {"kind": "adamw", "learning_rate": 0.1},
    }  # fmt: skip
    best = tmp_path / "best" / "model.safetensors"
    train(
        **arguments(
            text, tmp_path, training=training, model={**GRAVITY, "recipe": recipe}, best=str(best),
            tensorboard=str(tmp_path / "events"),
        )
    )  # fmt: skip
    metrics = pd.read_parquet(tmp_path / "metrics.parquet")
    for name in ("gamma_mean", "gamma_std", "radius_mean", "validation_loss"):
        assert metrics[name].notna().all(), name
    assert metrics["gamma_std"].iloc[0] == 0  # all heads begin alike
    shown = EventAccumulator(str(tmp_path / "events")).Reload()
    scalars = {"loss/train", "loss/val", "lr", "grad_norm", "repulsion", "gamma_mean"}
    assert scalars | {"gamma_std", "radius_mean"} <= set(shown.Tags()["scalars"])

    tokenizer = tokens.load_tokenizer(text.parent / "tokenizer.json")
    probe = tokens.open_tokens(text.parent, "validation")[: GRAVITY["context"]]
    labels = [repr(tokens.decode(tokenizer, [token])) for token in probe]
    projected = tmp_path / "events/00040/coordinates"
    assert (projected / "metadata.tsv").read_text().split("\n")[:-1] == labels
    points = np.loadtxt(projected / "tensors.tsv")
    model = io.load(tmp_path / "checkpoint")
    with torch.no_grad():
        expected = gravity_watch.coordinates(model, probe)
    np.testing.assert_allclose(points, expected, atol=1e-4)

    kept = io.load(best.parent)
    text_of = tokens.open_tokens(text.parent, "validation")
    with torch.no_grad():
        table = evaluation.per_window(kept, text_of, GRAVITY["context"], 4)
    loss = table["nats"].sum() / table["targets"].sum()
    assert loss == pytest.approx(metrics["validation_loss"].min(), abs=1e-5)
    assert io.describe(best.parent)["metadata"]["best"] is True
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("recipe", ["ours", "as_published"])
def test_gravity_learns_in_bfloat16_what_it_learns_in_float32(text, tmp_path, recipe):
    losses = []
    for precision in ("no", "bf16"):
        training = {**TRAINING, "steps": 40, "precision": precision}
        folder, model = tmp_path / precision, {**GRAVITY, "recipe": recipe}
        train(**arguments(text, folder, training=training, model=model))
        losses.append(pd.read_parquet(folder / "metrics.parquet")["validation_loss"].dropna())
    exact, rounded = (loss.to_numpy() for loss in losses)
    assert exact[-1] < exact[0] - 0.5
    np.testing.assert_allclose(rounded, exact, rtol=0.05)


def test_whole_splits_are_not_read_unless_they_are_wanted(text, tmp_path):
    """The evaluations during training stay, which are all that a short run may need."""
    train(**arguments(text, tmp_path, training={**TRAINING, "steps": 4, "evaluation": None}))
    assert json.loads((tmp_path / "evaluation.json").read_text()) == {}
    assert pd.read_parquet(tmp_path / "trajectory.parquet")["step"].max() == 4
    assert (tmp_path / "checkpoint" / "model.safetensors").exists()
    assert not (tmp_path / "blocks.parquet").exists()
    assert not (tmp_path / "documents.parquet").exists()


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_model_learns_the_same(text, tmp_path):
    model = {"width": 16, "depth": 1, "heads": 2, "context": 16, "mixer": "attention"}
    short = {**TRAINING, "steps": 3, "precision": "no", "evaluation": None}
    weights = {}
    for compiled in (False, True):
        training = {**short, "compile": compiled}
        train(**arguments(text, tmp_path / str(compiled), model=model, training=training))
        weights[compiled] = load_file(tmp_path / str(compiled) / "checkpoint/model.safetensors")
    assert weights[True].keys() == weights[False].keys()
    for name, values in weights[True].items():
        torch.testing.assert_close(values, weights[False][name], rtol=1e-3, atol=1e-5)


def test_only_the_splits_that_are_wanted_are_read(text, tmp_path):
    short = {**TRAINING, "steps": 4}
    train(**arguments(text, tmp_path, training=short))
    both = json.loads((tmp_path / "evaluation.json").read_text())
    protocol = {**TRAINING.get("evaluation", {}), "splits": ["test"]}
    train(**arguments(text, tmp_path, training={**short, "evaluation": protocol}))
    only = json.loads((tmp_path / "evaluation.json").read_text())
    assert set(both) == {"validation", "test"}
    assert only == {"test": both["test"]}


def test_epochs_are_steps_counted_in_windows(text, tmp_path):
    settings = {key: value for key, value in TRAINING.items() if key != "steps"}
    train(**arguments(text, tmp_path, training={**settings, "epochs": 2}))
    metrics = pd.read_parquet(tmp_path / "metrics.parquet")
    length = len(tokens.open_tokens(text.parent, "train"))
    assert metrics["tokens"].iloc[-1] == pytest.approx(2 * length, abs=2 * 16 + 8 * 16)


@pytest.mark.parametrize("settings", [{"steps": 3, "epochs": 1}, {}])
def test_a_run_wants_steps_or_epochs(text, tmp_path, settings):
    training = {key: value for key, value in TRAINING.items() if key != "steps"} | settings
    with pytest.raises(ValueError, match=r"steps.*or.*epochs"):
        train(**arguments(text, tmp_path, training=training))
