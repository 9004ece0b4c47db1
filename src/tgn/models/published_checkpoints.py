"""Checkpoints of the published Newton Gravity Transformer, read into :mod:`as_published`'s models.

There are four forms, each told apart by names and shapes alone:

- *current*: heads have a bias on their scores, coordinates move by a map of what attention drew;
- *version 0.1*: without that bias, coordinates move by a map of attention's input, and the output
  head is not tied to the embedding;
- *older still*: coordinates move by a map of themselves, C -> C;
- the Transformer beside them.

A form without masses has masses of one. Files are read as tensors and plain values alone
(``weights_only``); what a pickle could run is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tgn.models.as_published import PublishedDecoder, PublishedGravity
from tgn.models.config import ModelConfig

Weights = Mapping[str, Tensor]

CURRENT = "Newton Gravity Transformer"
OLDER = f"{CURRENT}, version 0.1"
OLDEST = f"{CURRENT}, before version 0.1"
VANILLA = f"Transformer beside the {CURRENT}"

# Their names for parts, and ours. A layer's stand behind "layers.N." and "blocks.N.".
_PARTS = {"token_emb.": "embedding.", "norm.": "norm.", "head.bias": "bias"}
_GRAVITY = {"mass_emb.": "masses.", "coord_emb.": "positions."}
_VANILLA = {"pos_emb.": "positions."}
_LAYER = {
    "norm1.": "mixer_norm.",
    "norm2.": "mlp_norm.",
    "ffn.net.0.": "up.",
    "ffn.net.3.": "down.",
}
_GRAVITY_LAYER = {
    "attn.v_proj.": "value.",
    "attn.out_proj.": "out.",
    "attn.coord_proj_attn.": "place.",
    "attn.coord_proj_next.": "drift.",
    "attn.gamma": "gamma",
    "attn.gravity_bias": "beta",
    "attn.radius_param": "radius",
    "coord_norm.": "coordinate_norm.",
}
_VANILLA_LAYER = {"attn.out_proj.": "mixer.out."}
_QKV = re.compile(r"layers\.(\d+)\.attn\.([qkv])_proj\.(weight|bias)")


class Published(NamedTuple):
    """A published checkpoint.

    Attributes
    ----------
    model
        In evaluation mode, on the CPU.
    kind : str
        ``CURRENT``, ``OLDER``, ``OLDEST`` or ``VANILLA``.
    vocabulary : mapping
        The state of its tokenizer, for :func:`tgn.text.published_tokenizers.restore`.
    """

    model: PublishedGravity | PublishedDecoder
    kind: str
    vocabulary: Mapping[str, Any]


def load(path: str | Path) -> Published:
    """Read a checkpoint of any of the four forms.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    ValueError
        If the file is not one, or its parts do not fit together: with the reason.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except (UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{path} is no checkpoint of tensors and plain values, and nothing else is read: {why}"
        ) from None
    wanted = {"model_state", "config", "vocab"}
    if not isinstance(content, dict) or not wanted <= content.keys():
        raise ValueError(
            f"{path} is not a checkpoint of the {CURRENT}, which has {', '.join(sorted(wanted))}"
        )
    weights, config = content["model_state"], content["config"]
    try:
        if not all(isinstance(part, Tensor) for part in weights.values()):
            raise ValueError("model_state holds other things than tensors")
        read = _gravity if "coord_emb.weight" in weights else _vanilla
        model, kind = read(weights, config)
    except (KeyError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path} is no form of the {CURRENT} that is known: {why}") from None
    return Published(model.eval(), kind, content["vocab"])


def _gravity(weights: Weights, config: Mapping[str, Any]) -> tuple[PublishedGravity, str]:
    vocabulary, width = weights["token_emb.weight"].shape
    context, coordinates = weights["coord_emb.weight"].shape
    heads = weights["layers.0.attn.gamma"].shape[1]
    places = weights["layers.0.attn.coord_proj_attn.weight"].shape[0]
    if config.get("use_radius_cutoff", True):
        cutoff = "soft" if config.get("use_soft_cutoff", False) else "hard"
    else:
        cutoff = "none"
    settings = _settings(weights, config, vocabulary, width, context, heads) | {
        "mixer": "gravity",
        "coordinates": coordinates,
        "head_coordinates": places // heads,
        "mass": "value" if config.get("mass_in_value", False) else "score",
        "cutoff": cutoff,
    }
    _agree(config, coord_dim=coordinates)
    model = PublishedGravity(ModelConfig.from_dict(settings))
    own_drift = weights["layers.0.attn.coord_proj_next.weight"].shape[1] != width
    biased = "layers.0.attn.gravity_bias" in weights
    blocks: Any = model.blocks
    for block in blocks:
        if own_drift:
            block.moved_by, block.drift = "coordinates", nn.Linear(coordinates, coordinates)
        elif not biased:  # the bias and the other map came with the same version
            block.moved_by = "hidden"
    found = _renamed(weights, _PARTS | _GRAVITY, _LAYER | _GRAVITY_LAYER)
    for name in found:
        if name.endswith(("gamma", "beta")):
            found[name] = found[name].flatten()
    if not biased:
        found |= {f"blocks.{k}.beta": torch.zeros(heads) for k in range(len(model.blocks))}
    one = math.log(math.e - 1)  # of which softplus is 1
    found.setdefault("masses.weight", torch.full((vocabulary, 1), one))
    if not torch.equal(weights["head.weight"], weights["token_emb.weight"]):
        model.head = nn.Parameter(torch.empty(vocabulary, width))
        found["head"] = weights["head.weight"]
    model.load_state_dict(found)
    return model, OLDEST if own_drift else CURRENT if biased else OLDER


def _vanilla(weights: Weights, config: Mapping[str, Any]) -> tuple[PublishedDecoder, str]:
    vocabulary, width = weights["token_emb.weight"].shape
    context = weights["pos_emb.weight"].shape[0]
    heads = config["num_heads"]  # no shape tells
    if not torch.equal(weights["head.weight"], weights["token_emb.weight"]):
        raise ValueError("its output head is not tied to the embedding")
    settings = _settings(weights, config, vocabulary, width, context, heads)
    model = PublishedDecoder(ModelConfig.from_dict(settings))
    model.bias = nn.Parameter(torch.empty(vocabulary))
    rest = {name: part for name, part in weights.items() if not _QKV.fullmatch(name)}
    found = _renamed(rest, _PARTS | _VANILLA, _LAYER | _VANILLA_LAYER)
    for layer in range(len(model.blocks)):
        for kind in ("weight", "bias"):
            parts = [weights[f"layers.{layer}.attn.{name}_proj.{kind}"] for name in "qkv"]
            found[f"blocks.{layer}.mixer.qkv.{kind}"] = torch.cat(parts)
    model.load_state_dict(found)
    return model, VANILLA


def _settings(
    weights: Weights,
    config: Mapping[str, Any],
    vocabulary: int,
    width: int,
    context: int,
    heads: int,
) -> dict[str, Any]:
    """What both models are described by, read off shapes; the checkpoint's config must agree."""
    depth = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("layers."))
    mlp_width = weights["layers.0.ffn.net.0.weight"].shape[0]
    _agree(config, vocab_size=vocabulary, hidden_dim=width, max_seq_len=context, num_heads=heads)
    _agree(config, num_layers=depth, mlp_dim=mlp_width)
    return {
        "vocabulary": vocabulary,
        "width": width,
        "depth": depth,
        "heads": heads,
        "context": context,
        "mlp_width": mlp_width,
        "dropout": config.get("dropout", 0.0),
        "recipe": "as_published",
    }


def _agree(config: Mapping[str, Any], **found: int) -> None:
    for name, value in found.items():
        if config.get(name, value) != value:
            raise ValueError(f"its config says {name} {config[name]}, its weights {value}")


def _renamed(
    weights: Weights, parts: Mapping[str, str], layer_parts: Mapping[str, str]
) -> dict[str, Tensor]:
    """The weights under our names, but for the head's, which may be tied.

    Raises
    ------
    ValueError
        If one has a name that is not known.
    """
    found, strange = {}, []
    for name, part in weights.items():
        if name == "head.weight":
            continue
        place, known, rest = "", parts, name
        if match := re.match(r"layers\.(\d+)\.", name):
            place, known, rest = f"blocks.{match[1]}.", layer_parts, name[match.end() :]
        start = next((start for start in known if rest.startswith(start)), None)
        if start is None:
            strange.append(name)
        else:
            found[place + known[start] + rest.removeprefix(start)] = part
    if strange:
        raise ValueError(f"it has {', '.join(strange)}, which no form has")
    return found
