"""Every weight matrix of a pretrained model, under one set of names.

    layer_3/self_attention.query    and key, value, output
    layer_3/cross_attention.query   in a decoder that has it
    layer_3/ffn.intermediate        and output; and gate, where one channel gates another
    embeddings.word

In a model of two stacks layers are called ``encoder_layer_3`` and ``decoder_layer_3``. A matrix is
(output, input), whichever way round the family stores it; a fused matrix is taken apart. With
grouped queries, key and value have fewer rows than query.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tgn.probing.adapters import Adapter, Projection, adapt_stacks

EMBEDDINGS = "embeddings.word"
PROJECTIONS: dict[Projection, str] = {"q": "query", "k": "key", "v": "value", "o": "output"}


def matrices(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Name and matrix of every weight matrix there is a name for, one at a time.

    Yields
    ------
    name : str
    matrix : tensor, shape (output, input)
        In the model's own precision: a view, but where a fused matrix has heads side by side.

    Raises
    ------
    ValueError
        If the family is unknown, or weights are quantised: packed integers are no weights.
    """
    refuse_quantised(model)
    with torch.no_grad():
        yield EMBEDDINGS, _embeddings(model).detach()
        for stack, adapter in adapt_stacks(model).items():
            prefix = f"{stack}_" if stack else ""
            for layer in range(len(adapter.blocks)):
                for kind, matrix in _of_layer(adapter, layer):
                    yield f"{prefix}layer_{layer}/{kind}", matrix.detach()


def skipped(model: PreTrainedModel) -> list[str]:
    """Parameters with two or more axes that :func:`matrices` has no name for, such as positions."""
    named = {matrix.untyped_storage().data_ptr() for matrix in _views(model)}
    return [
        name
        for name, parameter in model.named_parameters()
        if parameter.ndim >= 2 and parameter.untyped_storage().data_ptr() not in named
    ]


def refuse_quantised(model: PreTrainedModel) -> None:
    """Raise ValueError if a model's weights are stored as packed integers."""
    packed = [
        name
        for name, parameter in model.named_parameters()
        if not parameter.is_floating_point() or parameter.element_size() < 2
    ]
    if getattr(model.config, "quantization_config", None) is not None or packed:
        raise ValueError(
            f"{model.config.model_type}: the weights are quantised"
            + (f" ({packed[0]} is {model.get_parameter(packed[0]).dtype})" if packed else "")
            + "; load the model in floating point, a GGUF file with dequantisation"
        )


def _of_layer(adapter: Adapter, layer: int) -> Iterator[tuple[str, Tensor]]:
    for which, name in PROJECTIONS.items():
        yield f"self_attention.{name}", _flat(adapter.projection(layer, which), which)
    if adapter.blocks[layer].cross_attention is not None:
        for which, name in PROJECTIONS.items():
            yield f"cross_attention.{name}", _flat(adapter.cross_projection(layer, which), which)
    for part, matrix in adapter.mlp(layer).items():
        yield f"ffn.{part}", matrix


def _flat(weights: Tensor, which: Projection) -> Tensor:
    """Heads side by side again: rows of q, k and v, columns of o."""
    return weights.flatten(1) if which == "o" else weights.flatten(0, 1)


def _views(model: PreTrainedModel) -> Iterator[Tensor]:
    """Views into every parameter that holds a named matrix."""
    yield _embeddings(model)
    for adapter in adapt_stacks(model).values():
        for layer, block in enumerate(adapter.blocks):
            for which in PROJECTIONS:
                yield adapter.projection(layer, which)
                if block.cross_attention is not None:
                    yield adapter.cross_projection(layer, which)
            yield from adapter.mlp(layer).values()


def _embeddings(model: PreTrainedModel) -> Tensor:
    return model.get_input_embeddings().get_parameter("weight")
