"""What a model loses when one of its matrices is changed, and that it gets it back."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from tgn.models import ModelConfig, build
from tgn.probing import weight_perturbation, weights
from tgn.probing.weight_perturbation import names_of, perturbed, respond, window_nats

OWN = {"vocabulary": 64, "width": 16, "depth": 2, "heads": 2, "context": 16}
MIXERS = {
    "attention": {},
    "tgn": {"mixer": "gated", "inertial": "gru"},
    "published": {"mixer": "gated", "inertial": "gru", "recipe": "as_published"},
}


def own_model(name):
    torch.manual_seed(0)
    model = build(ModelConfig(**OWN, **MIXERS[name])).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(first, second):
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.fixture
def windows():
    return np.random.default_rng(0).integers(0, 64, (5, 12))


def test_every_matrix_can_be_replaced_and_comes_back_to_the_bit(any_model):
    """Read through the names again, the matrix is the one given, whichever way it is stored."""
    before = state(any_model)
    rng = np.random.default_rng(0)
    for name, shape in [(name, tuple(m.shape)) for name, m in weights.matrices(any_model)]:
        given = rng.standard_normal(shape).astype(np.float32)
        others = {n: m.clone() for n, m in weights.matrices(any_model) if n != name}
        with perturbed(any_model, name, given):
            found = dict(weights.matrices(any_model))
            np.testing.assert_array_equal(found.pop(name).numpy(), given)
            assert same(others, found)
        assert same(before, any_model.state_dict())


@pytest.mark.parametrize("kind", MIXERS)
def test_our_own_models_too(kind):
    model = own_model(kind)
    before = state(model)
    names = names_of(model)
    assert "layer_1/self_attention.query" in names
    for name in names:
        matrix = weight_perturbation._place(model, name).detach().numpy().copy()
        with perturbed(model, name, matrix + 1):
            assert not same(before, model.state_dict())
            changed = weight_perturbation._place(model, name).detach().numpy()
            np.testing.assert_array_equal(changed, matrix + 1)
        assert same(before, model.state_dict())


def test_it_comes_back_after_an_error(tiny_model):
    model = tiny_model("gpt_neox")
    before = state(model)
    with (
        pytest.raises(KeyboardInterrupt),
        perturbed(model, "layer_0/self_attention.key", np.zeros((24, 24))),
    ):
        raise KeyboardInterrupt
    assert same(before, model.state_dict())


def test_half_precision_comes_back_too(tiny_model, windows):
    model = tiny_model("llama").to(torch.bfloat16)
    before = state(model)
    rows = respond(
        model,
        windows,
        {"noise": (0.1,)},
        rng=np.random.default_rng(0),
        names=["layer_0/ffn.gate"],
    )
    assert (rows["change"] != 0).all()
    assert same(before, model.state_dict())


@pytest.mark.parametrize("batch", [1, 2, 5, 9])
def test_the_loss_is_the_mean_cross_entropy_of_all_but_the_first_token(tiny_model, windows, batch):
    model = tiny_model("gpt2")
    with torch.no_grad():
        logits = model(torch.from_numpy(windows)).logits
    for window, row, found in zip(
        windows, logits, window_nats(model, windows, batch=batch), strict=True
    ):
        expected = cross_entropy(row[:-1], torch.from_numpy(window[1:]))
        assert found == pytest.approx(float(expected), rel=1e-5)


def test_removing_the_values_does_what_removing_the_attention_does(tiny_model, windows):
    """Noise aside, a value matrix of zeros is the attention's output bias alone."""
    model = tiny_model("llama")
    rows = respond(
        model,
        windows,
        {"pruning": (1.0,)},
        rng=np.random.default_rng(0),
        names=["layer_1/self_attention.value", "layer_1/self_attention.output"],
        control=False,
    )
    nats = rows[rows["metric"] == "nats"]
    assert nats["value"].nunique() == 1
    assert nats["change"].iloc[0] != 0
    np.testing.assert_allclose(nats["eps"], 1)


def test_rows_say_what_was_done_and_what_it_cost(tiny_model, windows):
    model = tiny_model("gpt2")
    changes = {"noise": (0.0, 0.3), "quantisation": (2,)}
    name = "layer_0/ffn.output"
    rows = respond(model, windows, changes, rng=np.random.default_rng(1), names=[name], draws=2)
    reference = window_nats(model, windows)
    nats, perplexity = (rows[rows["metric"] == metric] for metric in ("nats", "perplexity"))
    assert len(nats) == len(perplexity) == 2 * 2 + 1 + 2  # noise, quantisation and its controls
    np.testing.assert_allclose(nats["reference"], reference.mean())
    np.testing.assert_allclose(perplexity["value"], np.exp(nats["value"]))
    np.testing.assert_allclose(nats["change"], nats["value"] - nats["reference"])
    unchanged = nats[nats["eps"] == 0]
    assert len(unchanged) == 2
    assert (unchanged[["change", "low", "high"]] == 0).all(axis=None)
    assert ((rows["low"] <= rows["change"]) & (rows["change"] <= rows["high"])).all()
    quantised = rows[rows["kind"] == "quantisation"]
    assert quantised["eps"].nunique() == 1
    assert set(quantised["control"]) == {False, True}
    (matrix,) = [m.double().numpy() for n, m in weights.matrices(model) if n == name]
    steps = np.abs(matrix).max(axis=1, keepdims=True)
    expected = np.linalg.norm(np.rint(matrix / steps) * steps - matrix) / np.linalg.norm(matrix)
    assert quantised["eps"].iloc[0] == pytest.approx(expected)


def test_one_window_has_no_interval(tiny_model, windows):
    rows = respond(
        tiny_model("gpt2"),
        windows[:1],
        {"noise": (0.1,)},
        rng=np.random.default_rng(0),
        names=["embeddings.word"],
    )
    assert rows[["low", "high"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"names": ["layer_9/ffn.output"]}, "layer_9/ffn.output"),
        ({"names": ["nonsense"]}, "nonsense"),
        ({"windows": np.zeros((2, 1), int)}, "windows"),
        ({"windows": np.zeros((0, 5), int)}, "windows"),
        ({"windows": np.zeros((2, 5))}, "windows"),
        ({"batch": 0}, "batch"),
        ({"changes": {"heat": (1,)}}, "kind"),
        ({"draws": 0}, "draws"),
    ],
)
def test_bad_arguments_are_named(tiny_model, windows, changed, name):
    model = tiny_model("gpt2")
    arguments = {
        "windows": windows,
        "changes": {"noise": (0.1,)},
        "names": ["layer_0/ffn.output"],
        "rng": np.random.default_rng(0),
    }
    before = state(model)
    with pytest.raises(ValueError, match=name):
        respond(model, **{**arguments, **changed})
    assert same(before, model.state_dict())


def test_a_model_that_is_training_or_has_no_head_is_refused(tiny_model, windows):
    with pytest.raises(ValueError, match="training"):
        window_nats(tiny_model("gpt2").train(), windows)
    with pytest.raises(ValueError, match="head"):
        window_nats(tiny_model("gpt2").base_model, windows)


def test_a_matrix_of_another_shape_is_refused(tiny_model):
    with (
        pytest.raises(ValueError, match="shape"),
        perturbed(tiny_model("gpt2"), "layer_0/ffn.output", np.zeros((96, 24))),
    ):
        pass
