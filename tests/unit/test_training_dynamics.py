"""Matrices of checkpoints by name, and their quantities along a run."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tgn.models import ModelConfig, build, io
from tgn.probing import weights
from tgn.probing.training_dynamics import along, checkpoints_in, matrices_of, state_matrices
from tgn.thermodynamics.perturbation import quantities
from tgn.training import checkpoints

SIZES = {"vocabulary": 32, "width": 16, "depth": 2, "heads": 2, "context": 8}
ATTENTION = {f"self_attention.{part}" for part in ("query", "key", "value", "output")}
MLP = {"ffn.intermediate", "ffn.output"}
GRU = {"inertial.input", "inertial.recurrent"}
LAYERS = {
    "attention": ({}, ATTENTION | MLP),
    "gru": ({"mixer": "gru"}, GRU | MLP | {"inertial.output"}),
    "mingru": (
        {"mixer": "mingru", "short_convolution": True},
        {"inertial.update", "inertial.candidate", "inertial.output"} | MLP,
    ),
    "tgn": (
        {"mixer": "gated", "inertial": "gru"},
        ATTENTION | MLP | GRU | {"inertial.output"},
    ),
    "published": (
        {"mixer": "gated", "inertial": "gru", "recipe": "as_published"},
        ATTENTION | MLP | GRU | {"gate.hidden"},
    ),
}


def made(kind="attention", seed=0):
    torch.manual_seed(seed)
    return build(ModelConfig(**SIZES, **LAYERS[kind][0]))


@pytest.mark.parametrize("kind", LAYERS)
def test_names_of_our_own_models_are_those_of_others(kind):
    found = set(state_matrices(made(kind).state_dict()))
    layers = {f"layer_{layer}/{name}" for layer in range(2) for name in LAYERS[kind][1]}
    extra = {"positions"} if kind == "published" else set()
    assert found == layers | {"embeddings.word"} | extra


def test_fused_projections_come_apart():
    model = made("published")
    found = state_matrices(model.state_dict())
    parts = [found[f"layer_0/self_attention.{part}"] for part in ("query", "key", "value")]
    fused = model.blocks[0].mixer.geometric.qkv.weight
    torch.testing.assert_close(torch.cat(parts), fused.detach())


def test_all_kinds_of_checkpoints_hold_the_same_matrices(tmp_path):
    model = made("tgn")
    io.save(tmp_path / "folder", model, model.config)
    save_file(model.state_dict(), tmp_path / "file.safetensors")
    checkpoints.save(tmp_path, "key", {"model": model.state_dict()})
    expected = {name: m.double().numpy() for name, m in state_matrices(model.state_dict()).items()}
    for checkpoint in (
        tmp_path / "folder",
        str(tmp_path / "file.safetensors"),
        tmp_path / "key" / "state.pt",
        model.state_dict(),
        expected,
    ):
        found = dict(matrices_of(checkpoint))
        assert found.keys() == expected.keys()
        for name, matrix in found.items():
            assert matrix.dtype == np.float64
            np.testing.assert_array_equal(matrix, expected[name])


def test_a_folder_of_transformers_has_the_names_of_the_adapters(tiny_model, tmp_path):
    model = tiny_model("gpt2")
    model.save_pretrained(tmp_path)
    found = dict(matrices_of(tmp_path))
    expected = dict(weights.matrices(model))
    assert found.keys() == expected.keys()
    for name, matrix in found.items():
        np.testing.assert_array_equal(matrix, expected[name].numpy())


def test_nested_weights_by_layer_are_flattened():
    matrix = np.eye(3)
    nested = {"embeddings.word": matrix, "layer_0": {"self_attention.query": matrix + 1}}
    assert set(dict(matrices_of(nested))) == {"embeddings.word", "layer_0/self_attention.query"}


def test_rows_are_the_quantities_of_each_matrix_and_how_far_it_moved():
    rng = np.random.default_rng(0)
    first, step = rng.standard_normal((20, 30)), rng.standard_normal((20, 30))
    rows = along({0: {"w": first}, 10: {"w": first + 0.5 * step}, 30: {"w": 3 * first}})
    assert list(rows["step"]) == [0, 10, 30]
    expected = quantities(first + 0.5 * step)
    for metric, value in expected.items():
        assert rows.loc[1, metric] == pytest.approx(value, nan_ok=True)
    moved = 0.5 * np.linalg.norm(step) / np.linalg.norm(first)
    np.testing.assert_allclose(rows["moved"], [0, moved, 2])
    assert rows.loc[2, "sigma"] == pytest.approx(3 * rows.loc[0, "sigma"])
    for metric in ("critical_temperature", "entropy", "stable_rank", "mp_distance"):
        assert rows.loc[2, metric] == pytest.approx(rows.loc[0, metric])  # in units of sigma
    assert rows["freezing_temperature"].iloc[0] == pytest.approx(1 / np.sqrt(2 * np.log(600)))


def test_a_fresh_model_with_output_maps_of_zero_is_measured_as_far_as_it_can_be():
    rows = along({0: made().state_dict()}).set_index("matrix")
    assert np.isnan(rows.loc["layer_0/ffn.output", "critical_temperature"])
    assert np.isnan(rows.loc["layer_0/ffn.output", "moved"])
    assert np.isfinite(rows.loc["layer_0/ffn.intermediate", "entropy"])


def test_only_the_matrices_asked_for():
    name = "layer_0/self_attention.key"
    rows = along({0: made().state_dict(), 1: made(seed=1).state_dict()}, matrices=[name])
    assert list(rows["matrix"]) == [name, name]


def test_checkpoints_are_found_in_the_order_of_their_steps(tmp_path):
    for name in ("step-00000100.safetensors", "step-00000020.safetensors"):
        save_file({"x.weight": torch.ones(2, 2)}, tmp_path / name)
    (tmp_path / "checkpoint-50").mkdir()
    (tmp_path / "notes-7.txt").touch()
    found = checkpoints_in(tmp_path)
    assert list(found) == [20, 50, 100]
    assert found[50] == tmp_path / "checkpoint-50"
    (tmp_path / "model-100").mkdir()
    with pytest.raises(ValueError, match="step 100"):
        checkpoints_in(tmp_path)
    with pytest.raises(ValueError, match="no checkpoints"):
        checkpoints_in(tmp_path / "checkpoint-50")


def test_what_cannot_be_read_is_named(tmp_path):
    (tmp_path / "damaged.safetensors").write_bytes(b"no weights")
    (tmp_path / "damaged.pt").write_bytes(b"no weights")
    for checkpoint, name in [
        (tmp_path / "missing.safetensors", "missing"),
        (tmp_path / "damaged.safetensors", "damaged"),
        (tmp_path / "damaged.pt", "damaged"),
        (tmp_path, "is not a model"),
        ({}, "no matrix"),
        ({"bias": np.ones(3)}, "no matrix"),
    ]:
        with pytest.raises(ValueError, match=name):
            dict(matrices_of(checkpoint))


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (({},), "checkpoints"),
        (({1: {"w": np.eye(3)}, 0: {"w": np.eye(3)}},), "rise"),
        (({0: {"w": np.eye(3)}, 1: {"w": np.eye(4)}},), "w"),
        (({0: {"w": np.eye(3)}, 1: {"v": np.eye(3)}},), "step 1"),
        (({0: {"w": np.full((3, 3), np.nan)}},), "step 0, w"),
    ],
)
def test_checkpoints_that_do_not_belong_together_are_refused(arguments, name):
    with pytest.raises(ValueError, match=name):
        along(*arguments)


def test_an_unknown_matrix_is_named():
    with pytest.raises(ValueError, match="layer_7"):
        along({0: made().state_dict()}, matrices=["layer_7/ffn.output"])


class Harm:
    """What a pickle would run when it is read."""

    def __reduce__(self):
        return (print, ("run while read",))


def test_no_code_in_a_file_is_run(tmp_path, capsys):
    torch.save({"model": Harm()}, tmp_path / "state.pt")
    with pytest.raises(ValueError, match=r"state\.pt"):
        dict(matrices_of(tmp_path / "state.pt"))
    assert capsys.readouterr().out == ""
