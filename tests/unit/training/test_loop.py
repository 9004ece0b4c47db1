"""The loop minimises what it says, records it, and goes on exactly where it was cut off."""

import os
import signal
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from google.protobuf import text_format
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from torch import nn

from tgn.models import ModelConfig, build
from tgn.training.batches import windows
from tgn.training.loop import fit, penalty_at

SIZES = {"vocabulary": 32, "width": 16, "depth": 2, "heads": 2, "context": 8}
TEXT = np.random.default_rng(0).integers(0, 32, 800).astype(np.uint16)
ADAMW = {"kind": "adamw", "learning_rate": 1e-2}
MUON = {"kind": "muon", "learning_rate": 1e-2}


def gated(seed=0, **settings):
    torch.manual_seed(seed)
    settings = {"mixer": "gated", "inertial": "mingru", **settings}
    return build(ModelConfig(**SIZES, **settings))


def batches(batch=4, seed=0):
    return windows(TEXT, context=8, batch=batch, seed=seed)


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


class Reading(NamedTuple):
    logits: torch.Tensor | None
    gates: torch.Tensor | None
    loss: torch.Tensor | None = None


class Bigram(nn.Module):
    """A table of logits, and a gate from a table: small enough to be followed by hand."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(32, 32)
        self.openness = nn.Embedding(32, 2)

    def forward(self, tokens, targets=None):
        logits = self.table(tokens)
        gates = self.openness(tokens).sigmoid().permute(2, 0, 1)
        if targets is None:
            return Reading(logits, gates)
        return Reading(None, gates, F.cross_entropy(logits.flatten(0, 1), targets.flatten()))


def some_targets(step):
    """Rows with 0, 1, ... targets: a mean of means would not be the mean."""
    inputs, targets = batches(batch=4)(step)
    for row in range(4):
        targets[row, 2 * row :] = -100
    return inputs, targets


def test_a_step_is_that_of_cross_entropy_plus_the_penalised_mean_gate():
    torch.manual_seed(0)
    ours, theirs = Bigram(), Bigram()
    theirs.load_state_dict(ours.state_dict())
    found = fit(
        ours, some_targets, steps=3, optimizer=ADAMW, penalty=0.3, clip=0.05, every=1
    ).metrics
    optimizer = torch.optim.AdamW(
        theirs.parameters(), lr=1e-2, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    for step in range(3):
        inputs, targets = some_targets(step)
        logits, gates, _ = theirs(inputs)
        entropy = F.cross_entropy(logits[targets != -100], targets[targets != -100])
        (entropy + 0.3 * gates.mean()).backward()
        norm = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.05)
        optimizer.step()
        optimizer.zero_grad()
        row = found.iloc[step]
        assert row["loss"] == pytest.approx(entropy.item(), rel=1e-6)
        assert row["gate"] == pytest.approx(gates.mean().item(), rel=1e-6)
        assert row["gate_1"] == pytest.approx(gates[1].mean().item(), rel=1e-6)
        assert row["gradient_norm"] == pytest.approx(norm.item(), rel=1e-5)
    torch.testing.assert_close(weights(ours), weights(theirs), rtol=0, atol=1e-6)


@pytest.mark.parametrize("parts", [2, 4])
def test_micro_batches_change_nothing(parts):
    whole, cut = Bigram(), Bigram()
    cut.load_state_dict(whole.state_dict())
    settings = {"steps": 4, "optimizer": ADAMW, "penalty": 0.3, "every": 1}
    one = fit(whole, some_targets, **settings).metrics
    many = fit(cut, some_targets, micro_batches=parts, **settings).metrics
    pd.testing.assert_frame_equal(one, many, rtol=1e-5)
    torch.testing.assert_close(weights(whole), weights(cut), rtol=0, atol=1e-5)


@pytest.mark.parametrize("parts", [2, 4])
def test_repulsion_weighs_the_same_however_the_batch_is_cut(parts):
    def made():
        torch.manual_seed(0)
        return build(ModelConfig(**SIZES, mixer="gravity"))

    whole, cut, free = made(), made(), made()
    settings = {"steps": 8, "optimizer": ADAMW, "penalty": 5.0, "every": 1}
    one = fit(whole, batches(), **settings).metrics
    many = fit(cut, batches(), micro_batches=parts, **settings).metrics
    unpaid = fit(free, batches(), **{**settings, "penalty": 0.0}).metrics
    assert one["repulsion"].iloc[-1] < unpaid["repulsion"].iloc[-1]
    pd.testing.assert_frame_equal(one, many, rtol=1e-4)
    torch.testing.assert_close(weights(whole), weights(cut), rtol=0, atol=1e-4)


def test_a_penalty_closes_gates_and_a_schedule_moves_it():
    free, pressed = gated(), gated()
    settings = {"steps": 30, "optimizer": MUON}
    loose = fit(free, batches(), **settings).metrics
    tight = fit(pressed, batches(), penalty=3.0, **settings).metrics
    assert tight["gate"].iloc[-1] < 0.5 * loose["gate"].iloc[-1]
    ramp = fit(gated(), batches(), penalty=[(0, 0.0), (0.5, 1.0), (1, 0.0)], every=1, **settings)
    assert ramp.metrics["penalty"].iloc[[0, 15, 24]].tolist() == pytest.approx([0, 1, 0.4])
    with pytest.raises(ValueError, match="ascend"):
        penalty_at([(0.5, 0.0), (0.2, 1.0)], 0.1)
    assert penalty_at([(0, 0.001), (1, 0.1)], 0.5) == pytest.approx(0.01)


def test_records_count_tokens_and_hold_no_time():
    seen = []

    def evaluate(model):
        seen.append(model.training)
        return pd.DataFrame({"window": [0, 1], "nats": 2.0 * len(seen), "targets": [1, 3]})

    found = fit(
        gated(), batches(), steps=10, optimizer=MUON, every=4, evaluate=evaluate, evaluate_every=5
    )
    metrics, trajectory, timings = found
    assert trajectory["step"].tolist() == [0, 0, 5, 5, 10, 10]
    assert trajectory["window"].tolist() == [0, 1] * 3
    assert metrics["step"].tolist() == timings["step"].tolist() == [0, 4, 5, 8, 10]
    assert metrics["tokens"].tolist() == [0, 128, 160, 256, 320]
    np.testing.assert_array_equal(metrics["validation_loss"], [1, np.nan, 2, np.nan, 3])
    assert not any(seen)
    assert metrics["loss"].notna().tolist() == [False, True, True, True, True]
    assert not any("seconds" in name for name in metrics)
    assert (np.diff(timings["cpu_seconds"]) > 0).all()


def test_a_run_can_end_at_an_evaluation_and_is_until_then_the_same_as_a_whole_one():
    def evaluate(model):
        with torch.no_grad():
            loss = model(batches()(1000)[0]).logits.sum().item()
        return pd.DataFrame({"nats": [loss], "targets": [1]})

    settings = {"steps": 12, "optimizer": ADAMW, "schedule": {"decay": 1.0}, "every": 2}
    settings |= {"evaluate": evaluate, "evaluate_every": 3}
    whole = fit(gated(), batches(), **settings).metrics
    asked = []

    def stop(table):
        asked.append(table["nats"].item())
        return len(asked) == 3  # at steps 0, 3 and 6

    ended = fit(gated(), batches(), stop=stop, **settings).metrics
    assert ended["step"].tolist() == [0, 2, 3, 4, 6]
    pd.testing.assert_frame_equal(ended, whole[whole["step"] <= 6])
    assert asked == ended["validation_loss"].dropna().tolist()


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_two_runs_give_the_same_bytes(precision):
    runs = []
    for _ in range(2):
        model = gated(dropout=0.2, gate_form="hard_concrete")
        metrics = fit(
            model, batches(), steps=6, optimizer=MUON, precision=precision, every=2
        ).metrics
        runs.append((weights(model), metrics))
    assert torch.equal(runs[0][0], runs[1][0])
    pd.testing.assert_frame_equal(runs[0][1], runs[1][1], check_exact=True)


def test_bf16_computes_in_bf16_and_keeps_single_precision_weights():
    model, seen = gated(), []
    model.blocks[0].mlp.up.register_forward_hook(lambda *args: seen.append(args[2].dtype))
    fit(model, batches(), steps=1, optimizer=MUON, precision="bf16")
    assert seen == [torch.bfloat16]
    assert weights(model).dtype == torch.float32


class Interrupted(Exception):
    pass


def cut_off(read, at):
    def interrupted(step):
        if step == at:
            raise Interrupted
        return read(step)

    return interrupted


@pytest.mark.parametrize("kind", ["muon", "adamw"])
@pytest.mark.parametrize("at", [6, 7, 15])
def test_a_run_cut_off_ends_as_one_that_was_not(tmp_path, kind, at):
    settings = {
        "steps": 16, "optimizer": {"kind": kind, "learning_rate": 1e-2}, "every": 3, "key": "k",
        "schedule": {"warmup": 0.2, "decay": 0.5, "shape": "cosine"}, "save_every": 6,
        "precision": "bf16", "seed": 5, "penalty": [(0, 0.0), (1, 0.1)],
        "evaluate": lambda model: pd.DataFrame(
            {"nats": [weights(model).norm().item()], "targets": 1, "gate": 0.5}
        ),
        "evaluate_every": 5,
    }  # fmt: skip
    shape = {"dropout": 0.2, "gate": "random"}
    straight, broken = gated(**shape), gated(**shape)
    whole = fit(straight, batches(), **settings)
    events = {"state_folder": tmp_path / "state", "tensorboard": tmp_path / "events"}
    with pytest.raises(Interrupted):
        fit(broken, cut_off(batches(), at), **events, **settings)
    resumed = gated(seed=9, **shape)
    asked = []

    def read(step):
        asked.append(step)
        return batches()(step)

    parts = fit(resumed, read, **events, **settings)
    assert asked[0] == at // 6 * 6
    assert torch.equal(weights(straight), weights(resumed))
    pd.testing.assert_frame_equal(whole.metrics, parts.metrics, check_exact=True)
    pd.testing.assert_frame_equal(whole.trajectory, parts.trajectory, check_exact=True)
    assert parts.timings["cpu_seconds"].is_monotonic_increasing
    shown = EventAccumulator(str(tmp_path / "events")).Reload()
    losses = [event.step for event in shown.Scalars("loss/train")]
    assert losses == whole.metrics["step"].iloc[1:].tolist()
    again = fit(gated(seed=3, **shape), cut_off(batches(), 0), **events, **settings)
    pd.testing.assert_frame_equal(whole.metrics, again.metrics, check_exact=True)


@pytest.mark.parametrize("at", [4, 6, 15])  # between records, at one, in the last step
def test_a_terminated_run_finishes_its_step_and_goes_on_from_there(tmp_path, capsys, at):
    settings = {
        "steps": 16, "optimizer": MUON, "every": 3, "schedule": {"warmup": 0.2, "decay": 0.5},
        "seed": 5,
    }  # fmt: skip
    state = {"state_folder": tmp_path, "key": "k"}
    straight, broken, resumed = gated(dropout=0.2), gated(dropout=0.2), gated(seed=9, dropout=0.2)
    whole = fit(straight, batches(), **settings)
    before = signal.getsignal(signal.SIGTERM)

    def terminated(step):
        if step == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return batches()(step)

    with pytest.raises(SystemExit) as left:
        fit(broken, terminated, **state, **settings)
    assert left.value.code == 143
    assert f"its state after step {at + 1} is kept" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before
    parts = fit(resumed, cut_off(batches(), at), **state, **settings)  # that step is not done again
    assert ("goes on" in capsys.readouterr().err) is (at + 1 < 16)
    assert torch.equal(weights(straight), weights(resumed))
    pd.testing.assert_frame_equal(whole.metrics, parts.metrics, check_exact=True)


def falling(model):
    """The loss on a batch that is kept."""
    inputs, targets = batches()(1000)
    with torch.no_grad():
        return pd.DataFrame({"nats": [model(inputs, targets=targets).loss.item()], "targets": [1]})


@pytest.mark.parametrize("kind", ["muon", "adamw"])
@pytest.mark.parametrize("shape", ["cosine", "linear"])
def test_a_run_goes_on_past_the_end_of_its_schedule(tmp_path, capsys, kind, shape):
    """The learning rate had come to 0; the new schedule warms up again, and the loss falls."""
    settings = {
        "optimizer": {"kind": kind, "learning_rate": 1e-2}, "every": 2, "key": "k",
        "schedule": {"warmup": 0.2, "decay": 0.8, "shape": shape}, "state_folder": tmp_path,
        "evaluate": falling, "evaluate_every": 10,
    }  # fmt: skip
    first = fit(gated(), batches(), steps=20, **settings).metrics
    assert "goes on" not in capsys.readouterr().err
    resumed = gated(seed=9)
    whole = fit(resumed, batches(), steps=60, **settings).metrics
    assert "goes on from step 20, of 20 that were planned, to 60" in capsys.readouterr().err
    pd.testing.assert_frame_equal(whole[whole["step"] <= 20], first)
    later = whole[whole["step"] > 20]
    assert later["step"].tolist() == list(range(22, 61, 2))
    rates = later["learning_rate"].to_numpy()
    assert (rates[:-1] > 0).all()
    assert rates.argmax() == 3  # step 28, at the end of the warm-up over 8 of 40 steps
    assert rates.max() == pytest.approx(1e-2)
    assert rates[-1] < 1e-3
    losses = whole["validation_loss"].dropna().to_numpy()
    assert losses[-1] < losses[2] - 0.05  # that of step 20
    assert not torch.equal(weights(resumed), weights(gated()))


def test_a_run_that_goes_on_can_be_cut_off_too(tmp_path):
    settings = {
        "optimizer": ADAMW, "schedule": {"warmup": 0.25, "decay": 0.75}, "every": 2, "key": "k",
        "save_every": 4,
    }  # fmt: skip
    folders = tmp_path / "straight", tmp_path / "broken"
    for folder in folders:
        fit(gated(), batches(), steps=8, state_folder=folder, **settings)
    straight, resumed = gated(), gated()
    whole = fit(straight, batches(), steps=20, state_folder=folders[0], **settings).metrics
    with pytest.raises(Interrupted):
        fit(gated(), cut_off(batches(), 14), steps=20, state_folder=folders[1], **settings)
    parts = fit(resumed, batches(), steps=20, state_folder=folders[1], **settings).metrics
    pd.testing.assert_frame_equal(whole, parts, check_exact=True)
    assert torch.equal(weights(straight), weights(resumed))


@pytest.mark.parametrize("steps", [3, 8])
def test_fewer_steps_than_are_done_are_refused(tmp_path, steps):
    settings = {"optimizer": ADAMW, "every": 2, "state_folder": tmp_path, "key": "k"}
    with pytest.raises(Interrupted):
        fit(gated(), cut_off(batches(), 9), steps=20, save_every=2, **settings)
    with pytest.raises(ValueError, match=f"steps: {steps} asked for, and the state .* has 8"):
        fit(gated(), batches(), steps=steps, **settings)


def test_the_best_weights_are_those_of_the_least_loss(tmp_path):
    """They stay when later evaluations are worse, also over a crash."""
    losses = {0: 5.0, 3: 2.0, 6: 1.0, 9: 4.0, 12: 3.0}
    found = {}

    def evaluate(model):
        step = 3 * len(found)
        found[step] = {name: part.clone() for name, part in model.state_dict().items()}
        return pd.DataFrame({"nats": [losses[step]], "targets": [1]})

    settings = {
        "steps": 12, "optimizer": ADAMW, "every": 3, "evaluate": evaluate, "evaluate_every": 3,
        "save_every": 3, "state_folder": tmp_path, "key": "k",
        "best": tmp_path / "best.safetensors",
    }  # fmt: skip
    with pytest.raises(Interrupted):
        fit(gated(), cut_off(batches(), 10), **settings)
    assert sorted(found) == [0, 3, 6, 9]
    fit(gated(seed=1), batches(), **settings)
    assert sorted(found) == list(losses)
    for name, part in load_file(tmp_path / "best.safetensors").items():
        assert torch.equal(part, found[6][name])


def test_a_penalty_may_count_in_some_steps_only():
    """Each step of the loop against the loss written out."""
    ours, theirs = Bigram(), Bigram()
    theirs.load_state_dict(ours.state_dict())
    fit(ours, batches(), steps=5, optimizer=ADAMW, penalty=0.5, penalty_every=3, clip=1e9)
    optimizer = torch.optim.AdamW(
        theirs.parameters(), lr=1e-2, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    for step in range(5):
        inputs, targets = batches()(step)
        loss = theirs(inputs, targets=targets).loss + 0.0 * theirs.openness.weight.sum()
        if step in (0, 3):
            loss = loss + 0.5 * theirs(inputs).gates.mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    torch.testing.assert_close(weights(ours), weights(theirs), rtol=0, atol=1e-6)


def test_numbers_of_the_model_are_recorded_and_its_points_projected(tmp_path):
    """At every evaluation, in files that TensorBoard reads, and once each when a run goes on."""
    labels = ["'a'", "'\\n'", "'b'", "''"]

    def project(model):
        assert not model.training
        return weights(model)[:12].reshape(4, 3), labels

    settings = {
        "steps": 9, "optimizer": ADAMW, "every": 3, "save_every": 3, "evaluate": falling,
        "evaluate_every": 3, "watch": lambda model: {"norm": weights(model).norm().item()},
        "project": project, "tensorboard": tmp_path / "events", "state_folder": tmp_path / "state",
        "key": "k",
    }  # fmt: skip
    fit(gated(seed=4), batches(), **{**settings, "steps": 12, "key": "another"})
    with pytest.raises(Interrupted):
        fit(gated(), cut_off(batches(), 7), **settings)
    last = gated(seed=9)
    metrics = fit(last, batches(), **settings).metrics
    assert metrics["norm"].notna().all()
    shown = EventAccumulator(str(tmp_path / "events")).Reload()
    scalars = {"loss/train", "loss/val", "lr", "grad_norm", "norm"}
    assert scalars <= set(shown.Tags()["scalars"])
    assert [event.step for event in shown.Scalars("loss/val")] == [0, 3, 6, 9]
    np.testing.assert_allclose(
        [event.value for event in shown.Scalars("norm")], metrics["norm"], rtol=1e-6
    )
    config = ProjectorConfig()
    text_format.Parse((tmp_path / "events/projector_config.pbtxt").read_text(), config)
    named = [part.tensor_name for part in config.embeddings]
    assert named == [f"coordinates:{step:05}" for step in (0, 3, 6, 9)]
    for part in config.embeddings:
        points = np.loadtxt(tmp_path / "events" / part.tensor_path)
        assert points.shape == (4, 3)
        assert (tmp_path / "events" / part.metadata_path).read_text().split("\n")[:-1] == labels
    np.testing.assert_allclose(points.ravel(), weights(last)[:12], rtol=1e-6)
    assert len(list((tmp_path / "events").glob("*/coordinates"))) == 4


def test_another_key_starts_anew(tmp_path):
    settings = {"steps": 4, "optimizer": MUON, "every": 2, "state_folder": tmp_path}
    fit(gated(), batches(), key="one", save_every=2, **settings)
    fresh, other = gated(), gated()
    fit(fresh, batches(seed=1), steps=4, optimizer=MUON, every=2)
    fit(other, batches(seed=1), key="two", **settings)
    assert torch.equal(weights(fresh), weights(other))


def test_what_is_not_finite_stops_the_run_and_is_not_saved(tmp_path):
    model = Bigram()

    def read(step):
        if step == 6:
            with torch.no_grad():
                model.table.weight.fill_(torch.nan)
        return batches()(step)

    with pytest.raises(FloatingPointError, match=r"step 7, trained on batch 6 .*loss is nan"):
        fit(
            model, read, steps=20, optimizer=ADAMW, every=4,
            state_folder=tmp_path, key="k", save_every=4,
        )  # fmt: skip
    healthy = Bigram()
    resumed = fit(
        healthy, batches(), steps=8, optimizer=ADAMW, every=4, state_folder=tmp_path, key="k"
    )
    assert resumed.metrics["step"].tolist() == [4, 8]
    assert torch.isfinite(weights(healthy)).all()


def test_a_gradient_that_is_not_finite_stops_the_run():
    model = Bigram()
    model.table.weight.register_hook(lambda slope: slope * torch.inf)
    with pytest.raises(FloatingPointError, match=r"step 1.*gradient norm (nan|inf)"):
        fit(model, batches(), steps=3, optimizer=ADAMW, every=1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"precision": "fp8"}, "precision: 'fp8'"),
        ({"steps": 0}, "at least 1"),
        ({"every": 4, "save_every": 6}, "multiple of every"),
        ({"micro_batches": 3}, "4 rows does not divide"),
    ],
)
def test_wrong_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        fit(Bigram(), batches(), **{"steps": 4, "optimizer": ADAMW, **wrong})


def test_a_batch_without_targets_is_refused():
    def read(step):
        inputs, targets = batches()(step)
        return inputs, targets.fill_(-100)

    with pytest.raises(ValueError, match="step 0: the batch has no target"):
        fit(Bigram(), read, steps=1, optimizer=ADAMW)
