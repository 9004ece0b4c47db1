"""Synthetic tasks: what is drawn, what is counted, and a run that is cut off."""

import numpy as np
import pandas as pd
import pytest
import torch

from tgn.models import ModelConfig, io
from tgn.models.decoder import Output
from tgn.models.sizes import parameters
from tgn.text.recall import IGNORED, Recall
from tgn.training import checkpoints, synthetic

SMALL = {"vocabulary": 24, "width": 16, "depth": 2, "heads": 1, "context": 16, "mlp_width": 16}
TASKS = [
    {"kind": "recall", "input_seq_len": 8, "num_kv_pairs": 2, "vocab_size": 24},
    {"kind": "recall", "input_seq_len": 16, "num_kv_pairs": 4, "vocab_size": 24, "weight": 3},
]
TRAINING = {
    "steps": 20, "batch": 64, "every": 5, "evaluate_every": 10, "save_every": 5,
    "validation_examples": 6, "test_examples": 10,
    "optimizer": {"kind": "adamw", "weight_decay": 0.1}, "schedule": {"warmup": 0.1},
}  # fmt: skip
TABLES = ("metrics", "accuracy", "occupancy", "trajectory")


def arguments(folder, **changes):
    return {
        "train_tasks": TASKS,
        "test_tasks": TASKS,
        "model": SMALL | {"mixer": "gated", "inertial": "mingru", "short_convolution": True},
        "training": TRAINING,
        "seed": 3,
        "penalty": 0.01,
        "rate": 1e-2,
        "checkpoint": folder / "model.safetensors",
        "timings": folder / "timings.parquet",
        "state": folder / "state",
        "library": [synthetic.__file__],
        **{name: folder / f"{name}.parquet" for name in TABLES},
        **changes,
    }


def made():
    return [synthetic.make_task(task) for task in TASKS]


def test_batches_are_a_function_of_seed_and_step_and_never_the_same_again():
    first, again, other = (
        synthetic.stream(made(), [1, 1], batch=64, seed=seed) for seed in (0, 0, 1)
    )
    for step in (7, 3, 7):
        assert all(torch.equal(a, b) for a, b in zip(first(step), again(step), strict=True))
    inputs = [draw(step)[0].numpy().tobytes() for draw in (first, other) for step in range(20)]
    assert len(set(inputs)) == len(inputs)


def test_batches_hold_equal_tokens_and_tasks_their_shares():
    draw = synthetic.stream(made(), [1, 3], batch=70, seed=0)
    shapes = [tuple(draw(step)[0].shape) for step in range(400)]
    assert set(shapes) == {(8, 8), (4, 16)}
    assert shapes.count((4, 16)) / 400 == pytest.approx(0.75, abs=4 * (0.75 * 0.25 / 400) ** 0.5)
    with pytest.raises(ValueError, match="batch of 15 tokens has no room for a sequence of 16"):
        synthetic.stream(made(), [1, 1], batch=15, seed=0)


class Oracle(torch.nn.Module):
    """Answers from a list, with gates that tell where they stand."""

    def __init__(self, answers, vocabulary, gated=True):
        super().__init__()
        self.answers, self.gated = answers, gated
        self.config = ModelConfig(**SMALL | {"vocabulary": vocabulary})
        self.sure = torch.nn.Parameter(torch.tensor(30.0))

    def forward(self, tokens):
        answers = self.answers[: len(tokens)]
        self.answers = self.answers[len(tokens) :]
        hot = torch.nn.functional.one_hot(torch.from_numpy(answers), self.config.vocabulary)
        place = torch.arange(tokens.shape[1]) / tokens.shape[1]
        gates = torch.stack([place, 1 - place])[:, None].expand(2, *tokens.shape)
        return Output(self.sure * hot, gates if self.gated else None)


def test_examining_counts_answers_and_gates_by_position(monkeypatch):
    task = Recall(16, 2, vocab_size=24)
    inputs, labels = task.draw(np.random.default_rng(0), 9)
    asked = labels != IGNORED
    answers = np.where(asked, labels, 0)
    first, second = (asked.argmax(axis=1), 15 - asked[:, ::-1].argmax(axis=1))
    rows = np.arange(9)
    answers[0, first[0]] = labels[0, second[0]]  # the other value of the context
    answers[1, first[1]] = 1 + labels[1].max() % 23  # wrong, and maybe another row's label
    answers[1, first[1]] = next(x for x in range(1, 24) if x not in labels[1])
    monkeypatch.setattr(synthetic, "LOGITS", 4 * 16 * 24)  # in parts of four sequences
    found = synthetic.examine(Oracle(answers, 24), inputs, labels, context=task.context)
    np.testing.assert_array_equal(found["accuracy"], [0.5, 0.5, *[1.0] * 7])
    np.testing.assert_array_equal(found["among"], [1.0, 0.5, *[1.0] * 7])
    assert (found["targets"] == 2).all()
    np.testing.assert_allclose(found["nats"], [30, 30, *[0] * 7], atol=1e-5)
    np.testing.assert_allclose(found["gate_0_query"], (first + second) / 2 / 16)
    np.testing.assert_allclose(found["gate_1_context"], 1 - np.arange(4).mean() / 16)
    others = [[t for t in range(4, 16) if not asked[row, t]] for row in rows]
    np.testing.assert_allclose(found["gate_0_other"], np.mean(others, axis=1) / 16, rtol=1e-6)
    np.testing.assert_allclose(found["open_0_other"], (np.array(others) > 8).mean(axis=1))
    plain = synthetic.examine(Oracle(answers, 24, gated=False), inputs, labels)
    assert not plain.filter(like="gate").shape[1]
    assert synthetic.occupancy_rows(plain) == []


def test_a_state_is_what_the_cache_holds():
    def config(**mixer):
        return ModelConfig(**SMALL | mixer)

    for length in (8, 16):
        keys_and_values = 2 * 2 * 16 * length * 4  # layers, both, channels, tokens, bytes
        assert synthetic.state_bytes(config(), length) == keys_and_values
        states = 2 * 32 * (5 + 3) * 4  # layers, channels, states and last inputs, bytes
        mamba = config(mixer="mamba", state_size=5)
        assert synthetic.state_bytes(mamba, length) == states
        gated = config(mixer="gated", inertial="gru", short_convolution=True)
        assert synthetic.state_bytes(gated, length) == keys_and_values + 2 * 16 * (1 + 3) * 4
        published = config(mixer="gated", inertial="gru", recipe="as_published")
        assert synthetic.state_bytes(published, length) == keys_and_values + 2 * 16 * 4


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    synthetic.train(**arguments(folder))
    return folder


def test_a_run_leaves_a_model_and_tables(whole):
    assert io.load(whole).config.mixer == "gated"
    metrics = pd.read_parquet(whole / "metrics.parquet")
    assert metrics["tokens"].iloc[-1] == 20 * 64
    assert metrics["validation_accuracy"].notna().sum() == 3
    accuracy = pd.read_parquet(whole / "accuracy.parquet")
    assert accuracy["input_seq_len"].tolist() == [8, 16]
    assert (accuracy["n"] == 10).all()
    assert accuracy["state_bytes"].is_monotonic_increasing
    occupancy = pd.read_parquet(whole / "occupancy.parquet")
    assert len(occupancy) == 2 * 2 * 3
    trajectory = pd.read_parquet(whole / "trajectory.parquet")
    assert len(trajectory) == 3 * 2 * 6
    assert not (whole / "state").exists()


def test_a_run_that_was_cut_off_ends_in_the_same_bytes(whole, tmp_path, monkeypatch):
    save, saved = checkpoints.save, []

    def save_and_die(*state):
        save(*state)
        saved.append(state)
        if len(saved) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            synthetic.train(**arguments(tmp_path))
    assert not (tmp_path / "metrics.parquet").exists()
    synthetic.train(**arguments(tmp_path))
    names = ["model.safetensors", "config.json", *(f"{name}.parquet" for name in TABLES)]
    for name in names:
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_run_ends_at_the_evaluation_at_which_the_task_is_solved(whole, tmp_path, monkeypatch):
    """And stays ended, if it is killed before it has written what it found."""
    solved = pd.read_parquet(whole / "metrics.parquet").set_index("step")["validation_accuracy"]
    training = TRAINING | {"solved": solved[10]}
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "remove", lambda *_: None)
        synthetic.train(**arguments(tmp_path, training=training))
    steps = pd.read_parquet(tmp_path / "metrics.parquet")["step"].tolist()
    assert steps == ([0] if solved[0] >= solved[10] else [0, 5, 10])
    names = ["model.safetensors", "metrics.parquet", "accuracy.parquet"]
    before = [(tmp_path / name).read_bytes() for name in names]
    synthetic.train(**arguments(tmp_path, training=training))
    assert [(tmp_path / name).read_bytes() for name in names] == before
    never = arguments(tmp_path / "never", training=TRAINING | {"solved": 1.1})
    synthetic.train(**never)
    found, full = (pd.read_parquet(f / "metrics.parquet") for f in (tmp_path / "never", whole))
    pd.testing.assert_frame_equal(found, full)


def test_a_model_can_be_as_large_as_another(tmp_path):
    other = SMALL | {"mixer": "mamba"}
    synthetic.train(**arguments(tmp_path, test_tasks=TASKS[:1], match={"parameters": other}))
    found = pd.read_parquet(tmp_path / "accuracy.parquet")["parameters"].iloc[0]
    assert found == pytest.approx(parameters(ModelConfig.from_dict(other)), rel=0.02)


def test_a_model_without_gates_has_an_empty_table_of_them(tmp_path):
    synthetic.train(**arguments(tmp_path, model=SMALL, test_tasks=TASKS[:1]))
    table = pd.read_parquet(tmp_path / "occupancy.parquet")
    assert len(table) == 0
    assert {"layer", "position", "gate"} <= set(table)


def test_attention_learns_recall_by_a_short_convolution_alone(tmp_path):
    """Without positions and without the convolution it cannot know what follows what."""
    task = {"kind": "recall", "input_seq_len": 16, "num_kv_pairs": 4, "vocab_size": 24}
    training = {**TRAINING, "steps": 400, "batch": 512, "evaluate_every": 400, "test_examples": 200}
    found = {}
    for convolution in (True, False):
        folder = tmp_path / str(convolution)
        model = SMALL | {"width": 32, "rotary": False, "short_convolution": convolution}
        synthetic.train(
            **arguments(
                folder, model=model, training=training, train_tasks=[task], test_tasks=[task]
            )
        )
        found[convolution] = pd.read_parquet(folder / "accuracy.parquet")["accuracy"].iloc[0]
    assert found[True] > 0.95
    assert found[False] < 0.5


def test_the_best_rate_solves_first_or_has_the_highest_accuracy_and_then_the_lowest_loss(tmp_path):
    found = {  # accuracy, loss, steps
        "a-1-7": (0.5, 1.0, 90), "a-2-7": (0.9, 2.0, 90), "a-3-7": (0.9, 1.5, 90),
        "b-1-7": (0.1, 3.0, 90),
        "c-1-7": (0.97, 0.1, 70), "c-2-7": (0.96, 0.2, 50), "c-3-7": (0.94, 0.1, 90),
        # at rate 1 one seed does best of all, and the other fails
        "d-1-7": (0.9, 0.1, 90), "d-1-8": (0.1, 4.0, 90),
        "d-2-7": (0.8, 1.0, 90), "d-2-8": (0.7, 1.0, 90),
        # one seed solves it early at rate 1, all seeds do at rate 2
        "e-1-7": (0.99, 0.1, 40), "e-1-8": (0.9, 0.3, 90),
        "e-2-7": (0.95, 0.2, 70), "e-2-8": (0.95, 0.2, 80),
    }  # fmt: skip
    runs, paths = {}, []
    for name, (accuracy, loss, steps) in found.items():
        arm, rate, seed = name.split("-")
        runs[name] = {"arm": arm, "rate": float(rate), "seed": int(seed)}
        runs[name]["training"] = {"solved": 0.95}
        paths.append(tmp_path / name / "metrics.parquet")
        paths[-1].parent.mkdir()
        rows = {"validation_accuracy": [0.0, accuracy], "validation_loss": [5.0, loss]}
        pd.DataFrame(rows | {"step": [0, steps]}).to_parquet(paths[-1])

    def best():
        synthetic.choose_rates(metrics=paths, runs=runs, table=tmp_path / "rates.csv")
        return [synthetic.best_rate(tmp_path / "rates.csv", arm) for arm in "abcde"]

    assert best() == [3, 1, 2, 2, 2]
    for run in runs.values():
        run["training"] = {"solved": None}
    assert best() == [3, 1, 1, 2, 2]
    table = pd.read_csv(tmp_path / "rates.csv")
    assert table.loc[table["best"], ["arm", "rate", "seed"]].values.tolist() == [
        ["a", 3, 7], ["b", 1, 7], ["c", 1, 7], ["d", 2, 7], ["d", 2, 8], ["e", 2, 7], ["e", 2, 8],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"kind": "sorting"}, "sorting.*known are recall"),
        ({"kind": "recall", "pairs": 3}, "task recall.*pairs"),
        ({"kind": "recall", "input_seq_len": 7}, "must be even"),
    ],
)
def test_a_wrong_task_is_named(task, words):
    with pytest.raises(ValueError, match=words):
        synthetic.make_task(task)
