"""Weight matrices of pretrained language models, by layer and by type.

    weights, layer_info = extract_model_weights("gpt2")
    weights["layer_0"]["self_attention.query"]      one matrix
    weights["self_attention.query"]                 that of every layer: {"layer_0": ..., ...}

A matrix is (output, input) whichever way round the model stores it, and fused projections are taken
apart: see :mod:`tgn.probing.weights`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from numpy.typing import NDArray
from transformers import PreTrainedModel

from tgn.probing import pretrained
from tgn.probing.adapters import adapt_stacks
from tgn.probing.weights import matrices, skipped

Matrix = NDArray[np.float32]
DOWNLOADS = Path("resources") / "huggingface"


class Pinned(NamedTuple):
    """A model on the Hugging Face hub at one commit."""

    repo: str
    revision: str
    weights: str = "*.safetensors"


PINNED = {
    "gpt2": Pinned("openai-community/gpt2", "607a30d783dfa663caf39e06633721c8d4cfcd7e"),
    "gpt2-medium": Pinned(
        "openai-community/gpt2-medium", "6dcaa7a952f72f9298047fd5137cd6e4f05f41da"
    ),
    "gpt2-large": Pinned("openai-community/gpt2-large", "32b71b12589c2f8d625668d2335a01cac3249519"),
    # no safetensors there: read with torch.load(weights_only=True)
    "opt-125m": Pinned(
        "facebook/opt-125m", "27dcfa74d334bc871f3234de431e71c6eeba5dd6", "pytorch_model.bin"
    ),
    "opt-1.3b": Pinned(
        "facebook/opt-1.3b", "3f5c25d0bc631cb57ac65913f76e22c2dfb61d62", "pytorch_model.bin"
    ),
    "pythia-70m": Pinned("EleutherAI/pythia-70m", "a39f36b100fe8a5377810d56c3f4789b9c53ac42"),
    "pythia-410m": Pinned("EleutherAI/pythia-410m", "9879c9b5f8bea9051dcb0e68dff21493d67e9d4f"),
    "SmolLM2-135M": Pinned(
        "HuggingFaceTB/SmolLM2-135M", "93efa2f097d58c2a74874c7e644dbc9b0cee75a2"
    ),
}
"""The models of the published notebook."""


class Layer(dict[str, Matrix]):
    """Matrices of one layer by type."""

    def __missing__(self, key: str) -> Matrix:
        raise KeyError(f"{key!r}: this layer has {', '.join(self)}")


class ModelWeights(Mapping[str, Any]):
    """Matrices by layer, which also answers to the name of a type.

    Iterating gives the layers, and what stands outside of them, such as ``embeddings.word``.
    """

    def __init__(self, parts: Mapping[str, Any]) -> None:
        self._parts = dict(parts)

    def __getitem__(self, key: str) -> Any:
        if key in self._parts:
            return self._parts[key]
        layers = {
            name: part[key]
            for name, part in self._parts.items()
            if isinstance(part, Mapping) and key in part
        }
        if not layers:
            raise KeyError(f"{key!r}: there are {', '.join([*self._parts, *self.types])}")
        return layers

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def types(self) -> list[str]:
        """Names of the kinds of matrices that layers have."""
        named = (key for part in self._parts.values() if isinstance(part, Mapping) for key in part)
        return list(dict.fromkeys(named))


def extract_model_weights(
    model_name: str | Path | PreTrainedModel, *, cache_dir: str | Path | None = None
) -> tuple[ModelWeights, dict[str, Any]]:
    """Every weight matrix of a model, in single precision.

    Parameters
    ----------
    model_name
        A folder in the form of `transformers`, a name of :data:`PINNED` (downloaded once, at its
        commit), or a model in memory.
    cache_dir
        Where downloads go, ``resources/huggingface`` unless given.

    Returns
    -------
    weights : ModelWeights
        ``embeddings.word``, and ``layer_i`` to ``self_attention.{query, key, value, output}`` and
        ``ffn.{intermediate, gate, output}``. In a model of two stacks ``encoder_layer_i`` and
        ``decoder_layer_i``, the latter with ``cross_attention.*``.
    layer_info : dict
        ``model_type``, ``hidden_size``, ``num_layers``, ``parameters`` (without the embeddings of
        words) and ``skipped``, the parameters with two axes that have no name above.

    Raises
    ------
    ValueError
        If the name is neither a folder nor pinned, the family is unknown, or the weights are
        quantised.
    ConnectionError
        If the model is not here and cannot be downloaded; says how to put it here.
    """
    model = model_name if isinstance(model_name, PreTrainedModel) else _load(model_name, cache_dir)
    parts: dict[str, Any] = {}
    for name, matrix in matrices(model):
        layer, _, kind = name.rpartition("/")
        home = parts.setdefault(layer, Layer()) if layer else parts
        home[kind] = matrix.float().numpy(force=True)
    stacks = adapt_stacks(model)
    embeddings = model.get_input_embeddings().get_parameter("weight").numel()
    return ModelWeights(parts), {
        "model_type": model.config.model_type,
        "hidden_size": model.config.hidden_size,
        "num_layers": sum(len(adapter.blocks) for adapter in stacks.values()),
        "parameters": sum(p.numel() for p in model.parameters()) - embeddings,
        "skipped": skipped(model),
    }


def load_models(
    model_names: Sequence[str | Path], cache_dir: str | Path | None = None
) -> dict[str, dict[str, Any]]:
    """``{name: {"weights", "layer_info"}}`` of several models, as :func:`extract_model_weights`."""
    loaded = {}
    for name in model_names:
        weights, layer_info = extract_model_weights(name, cache_dir=cache_dir)
        loaded[str(name)] = {"weights": weights, "layer_info": layer_info}
    return loaded


def _load(name: str | Path, cache_dir: str | Path | None) -> PreTrainedModel:
    if Path(name).is_dir():
        return pretrained.load_body(name)
    if name not in PINNED:
        raise ValueError(
            f"model_name: {str(name)!r} is neither a folder nor one of {', '.join(PINNED)}; "
            "download the model and give its folder"
        )
    pinned = PINNED[str(name)]
    home = Path(cache_dir or DOWNLOADS)
    try:
        folder = snapshot_download(
            pinned.repo,
            revision=pinned.revision,
            cache_dir=home,
            allow_patterns=["config.json", pinned.weights],
        )
    except (OSError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise ConnectionError(
            f"{name} is not in {home} and cannot be downloaded ({type(error).__name__}). With "
            f"internet: hf download {pinned.repo} --revision {pinned.revision} "
            f"--include config.json '{pinned.weights}' --local-dir {name}; then give that folder"
        ) from None
    return pretrained.load_body(folder)
