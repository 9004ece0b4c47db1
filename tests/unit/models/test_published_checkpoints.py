"""Published checkpoints compute what their equations say, written out here once more.

The fixtures have the published names and shapes and random weights.
"""

import argparse

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tgn.generation import generate
from tgn.models import published_checkpoints
from tgn.models.published_checkpoints import CURRENT, OLDER, OLDEST, VANILLA

V, D, C, H, K, M, CONTEXT, DEPTH = 11, 12, 5, 3, 16, 20, 9, 2
CONFIG = {
    "hidden_dim": D, "coord_dim": C, "num_layers": DEPTH, "num_heads": H, "mlp_dim": M,
    "max_seq_len": CONTEXT, "dropout": 0.1, "vocab_size": V,
}  # fmt: skip
LETTERS = " abcdefghij"
VOCAB = {
    "stoi": {letter: k for k, letter in enumerate(LETTERS)},
    "itos": dict(enumerate(LETTERS)),
}
TOKENS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6], [2, 7, 1, 8, 2, 8, 1, 8]])


def linear(weights, name, inputs, outputs):
    weights[f"{name}.weight"] = 0.5 * torch.randn(outputs, inputs)
    weights[f"{name}.bias"] = 0.5 * torch.randn(outputs)


def norms(weights, name, width):
    weights[f"{name}.weight"] = 1 + 0.3 * torch.randn(width)
    weights[f"{name}.bias"] = 0.3 * torch.randn(width)


def state(form):
    """Random weights under the names, and in the shapes, of one of the forms."""
    torch.manual_seed(1)
    weights = {"token_emb.weight": torch.randn(V, D)}
    if form == VANILLA:
        weights["pos_emb.weight"] = torch.randn(CONTEXT, D)
    else:
        weights["mass_emb.weight"] = torch.randn(V, 1)
        weights["coord_emb.weight"] = torch.randn(CONTEXT, C)
    for layer in range(DEPTH):
        at = f"layers.{layer}."
        for name in "qkv" if form == VANILLA else "v":
            linear(weights, f"{at}attn.{name}_proj", D, D)
        linear(weights, f"{at}attn.out_proj", D, D)
        if form != VANILLA:
            linear(weights, f"{at}attn.coord_proj_attn", C, H * K)
            linear(weights, f"{at}attn.coord_proj_next", C if form == OLDEST else D, C)
            weights[f"{at}attn.gamma"] = torch.randn(1, H, 1, 1)
            weights[f"{at}attn.radius_param"] = torch.tensor(6.0 + layer)
            norms(weights, f"{at}coord_norm", C)
        if form == CURRENT:
            weights[f"{at}attn.gravity_bias"] = torch.randn(1, H, 1, 1)
        linear(weights, f"{at}ffn.net.0", D, M)
        linear(weights, f"{at}ffn.net.3", M, D)
        norms(weights, f"{at}norm1", D)
        norms(weights, f"{at}norm2", D)
    norms(weights, "norm", D)
    weights["head.bias"] = torch.randn(V)
    tied = form in (CURRENT, VANILLA)
    weights["head.weight"] = weights["token_emb.weight"] if tied else torch.randn(V, D)
    return weights


def expected(weights, form, tokens, *, cutoff="hard", mass_in_value=False):
    """Logits of one sequence by the published equations, token by token in float64."""
    w = {name: part.double() for name, part in weights.items()}

    def apply(name, x):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def layer_norm(name, x):
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    length = len(tokens)
    h = w["token_emb.weight"][tokens]
    if form == VANILLA:
        h = h + w["pos_emb.weight"][:length]
    else:
        z = w["coord_emb.weight"][:length]
        m = torch.ones(length, dtype=torch.float64)
        if "mass_emb.weight" in w:
            m = (1 + w["mass_emb.weight"][tokens, 0].exp()).log()
    for layer in range(DEPTH):
        at = f"layers.{layer}."
        x = layer_norm(f"{at}norm1", h)
        values = apply(f"{at}attn.v_proj", x).view(length, H, D // H)
        drawn = torch.zeros(length, H, D // H, dtype=torch.float64)
        for head in range(H):
            for i in range(length):
                scores = torch.full((i + 1,), -torch.inf, dtype=torch.float64)
                for j in range(i + 1):
                    if form == VANILLA:
                        q = apply(f"{at}attn.q_proj", x[i]).view(H, -1)[head]
                        k = apply(f"{at}attn.k_proj", x[j]).view(H, -1)[head]
                        scores[j] = q @ k / (D // H) ** 0.5
                        continue
                    places = apply(f"{at}attn.coord_proj_attn", z[[i, j]]).view(2, H, K)[:, head]
                    d2 = (places[0] - places[1]).square().sum()
                    gamma = (1 + w[f"{at}attn.gamma"].flatten()[head].exp()).log()
                    radius = (1 + w[f"{at}attn.radius_param"].exp()).log()
                    score = -gamma / (d2 + 1e-6)
                    if form == CURRENT:
                        score = score + w[f"{at}attn.gravity_bias"].flatten()[head]
                    if not mass_in_value:
                        score = score * m[i] * m[j]
                    if cutoff == "soft":
                        score = score * max(0.0, 1 - d2 / radius**2)
                    if cutoff != "hard" or d2 <= radius**2:
                        scores[j] = score
                a = scores.softmax(0)
                if mass_in_value:
                    a = a * m[: i + 1]
                drawn[i, head] = a @ values[: i + 1, head]
        y = apply(f"{at}attn.out_proj", drawn.reshape(length, D))
        h = h + y
        inner = F.gelu(apply(f"{at}ffn.net.0", layer_norm(f"{at}norm2", h)))
        h = h + apply(f"{at}ffn.net.3", inner)
        if form != VANILLA:
            mover = {CURRENT: y, OLDER: x, OLDEST: z}[form]
            z = layer_norm(f"{at}coord_norm", z + apply(f"{at}attn.coord_proj_next", mover))
    return layer_norm("norm", h) @ w["head.weight"].T + w["head.bias"]


def write(path, weights, **changes):
    config = {**CONFIG, **changes.pop("config", {})}
    optimizer = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 3e-4}]}
    content = {
        "model_state": weights, "optimizer_state": optimizer, "iter": 100, "best_val": 1.5,
        "config": config, "vocab": VOCAB,
    }  # fmt: skip
    torch.save(content | changes, path)
    return path


def logits_of(model):
    with torch.no_grad():
        return model(TOKENS).logits.double()


@pytest.mark.parametrize("form", [CURRENT, OLDER, OLDEST, VANILLA])
def test_each_form_is_recognised_and_computes_its_equations(tmp_path, form):
    weights = state(form)
    model, kind, vocabulary = published_checkpoints.load(write(tmp_path / "a.pt", weights))
    assert kind == form
    assert vocabulary == VOCAB
    assert not model.training
    wanted = torch.stack([expected(weights, form, tokens) for tokens in TOKENS])
    torch.testing.assert_close(logits_of(model), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", [CURRENT, OLDER])
@pytest.mark.parametrize(
    ("flags", "meant"),
    [
        ({"mass_in_value": True, "use_rsqrt": True}, {"mass_in_value": True}),
        ({"use_soft_cutoff": True}, {"cutoff": "soft"}),
        ({"use_radius_cutoff": False, "use_soft_cutoff": True}, {"cutoff": "none"}),
    ],
)
def test_flags_of_the_config_are_obeyed(tmp_path, form, flags, meant):
    weights = state(form)
    model = published_checkpoints.load(write(tmp_path / "a.pt", weights, config=flags)).model
    wanted = torch.stack([expected(weights, form, tokens, **meant) for tokens in TOKENS])
    torch.testing.assert_close(logits_of(model), wanted, rtol=1e-4, atol=1e-4)


def test_without_masses_all_are_one(tmp_path):
    weights = state(OLDEST)
    del weights["mass_emb.weight"]
    model = published_checkpoints.load(write(tmp_path / "a.pt", weights)).model
    wanted = torch.stack([expected(weights, OLDEST, tokens) for tokens in TOKENS])
    torch.testing.assert_close(logits_of(model), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", [CURRENT, OLDER, OLDEST, VANILLA])
def test_each_form_decodes_through_its_cache(tmp_path, form):
    model = published_checkpoints.load(write(tmp_path / "a.pt", state(form))).model
    tokens = [3, 1, 4]
    for _ in range(5):
        with torch.no_grad():
            tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
    assert list(generate(model, [3, 1, 4], 5, temperature=0)) == tokens[3:]


def without(name):
    def change(content):
        del content["model_state"][name]

    return change


def renamed(content):
    content["model_state"]["layers.0.attn.warp"] = torch.zeros(2)


def wider(content):
    content["config"]["hidden_dim"] = 24


def deeper(content):
    content["config"]["num_layers"] = 3


def cut_short(content):
    content["model_state"]["layers.1.ffn.net.0.weight"] = torch.zeros(M, D - 1)


def text_for_a_tensor(content):
    content["model_state"]["norm.weight"] = "ones"


def no_config(content):
    del content["config"]


@pytest.mark.parametrize(
    ("form", "change", "reason"),
    [
        (CURRENT, without("norm.bias"), r"norm\.bias"),
        (CURRENT, without("layers.1.attn.gravity_bias"), r"blocks\.1\.beta"),
        (CURRENT, without("token_emb.weight"), r"has no 'token_emb\.weight'"),
        (CURRENT, renamed, r"layers\.0\.attn\.warp, which no form has"),
        (OLDER, wider, "config says hidden_dim 24, its weights 12"),
        (VANILLA, deeper, "config says num_layers 3, its weights 2"),
        (CURRENT, cut_short, "size mismatch"),
        (CURRENT, text_for_a_tensor, "other things than tensors"),
        (CURRENT, no_config, "is not a checkpoint"),
        (VANILLA, without("layers.0.attn.k_proj.bias"), r"k_proj\.bias"),
    ],
)
def test_anything_else_is_refused_with_the_reason(tmp_path, form, change, reason):
    content = torch.load(write(tmp_path / "a.pt", state(form)), weights_only=True)
    change(content)
    torch.save(content, tmp_path / "b.pt")
    with pytest.raises(ValueError, match=reason) as found:
        published_checkpoints.load(tmp_path / "b.pt")
    assert "b.pt" in str(found.value)


def test_what_a_pickle_could_run_is_refused(tmp_path):
    path = write(tmp_path / "a.pt", state(CURRENT), config={"args": argparse.Namespace(a=1)})
    with pytest.raises(ValueError, match="tensors and plain values, and nothing else is read"):
        published_checkpoints.load(path)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04"])
def test_what_is_no_file_of_torch_is_refused(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.pt is no checkpoint of tensors"):
        published_checkpoints.load(tmp_path / "a.pt")
    with pytest.raises(FileNotFoundError):
        published_checkpoints.load(tmp_path / "absent.pt")


def test_other_tensors_are_refused(tmp_path):
    torch.save({"weight": torch.from_numpy(np.zeros(3))}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="is not a checkpoint of the Newton Gravity Transformer"):
        published_checkpoints.load(tmp_path / "a.pt")
