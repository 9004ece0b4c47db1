"""Value and output maps of attention, head by head, and their norms.

A head writes W_O W_V x into the stream for every token x that it reads. Scaling W_V up and W_O down
by the same factor changes no output, so the norms of either, and their ratio, say something about a
model only beside those of the product.

With grouped queries a value map serves several heads: it is repeated, once for each query head, so
that all models are measured alike. Gains of the norm before attention are not folded in.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from scipy.sparse.linalg import svds
from torch import Tensor, nn
from transformers import PreTrainedModel

from tgn import sources
from tgn.files import write_table
from tgn.models import io
from tgn.models.attention import Attention
from tgn.models.gated import Gated
from tgn.probing import as_published
from tgn.probing.adapters import adapt
from tgn.probing.pretrained import load_model
from tgn.probing.weights import refuse_quantised

COLUMNS = ("model", "layer", "head", "quantity", "value", "reason")
FULL = -1  # in place of a head's number
NETWORK = -1  # in place of a layer's: the unembedding is of none
NOT_FINITE = "weights are not finite"
UNMEASURABLE = (AttributeError, RuntimeError, ValueError)  # of a family that is built otherwise
DENSE = 64  # sides up to which all singular values are computed to have the largest


class Maps(NamedTuple):
    """What the heads of one layer read and write, views or expanded views into the weights.

    Attributes
    ----------
    value : tensor, shape (heads, head width, input width)
        One for each query head.
    output : tensor, shape (output width, heads, head width)
    published : tensor, shape (rows, input width)
        What was published as W_V, see :func:`tgn.probing.as_published.value_by_thirds`.
    """

    value: Tensor
    output: Tensor
    published: Tensor


@contextmanager
def loading() -> Iterator[None]:
    """Turn whatever a library raises on a model that it cannot load into one ValueError."""
    try:
        yield
    except Exception as error:  # libraries raise all kinds, and the model must have its row
        traceback.print_exception(error)  # for the log
        raise ValueError(f"does not load: {type(error).__name__}: {error}") from error


def load(path: str | Path, dtype: str = "float32") -> Any:
    """A causal language model that shows its attention weights, on the fastest device there is.

    Parameters
    ----------
    path
        Receipt of a pretrained model's folder, or the weights file of a model of this project.
    dtype
        In which it is kept and computes: ``float32`` or ``bfloat16``.

    Raises
    ------
    FileNotFoundError
        If there is no such receipt, or files that it lists are not there.
    ValueError
        If there is no such model, or it does not load.
    """
    path, kept = Path(path), getattr(torch, dtype)
    if path.name != sources.RECEIPT:
        return io.load(path.parent).to(device=Accelerator().device, dtype=kept)
    folder = sources.receipt_folder(path)
    with loading():
        model: Any = load_model(folder, attention="eager", dtype=kept)
        return model.to(Accelerator().device)


def layer_maps(model: Any) -> Iterator[Maps]:
    """Value and output maps of every layer, first to last.

    Raises
    ------
    ValueError
        If a pretrained model's family is unknown, has two stacks or is quantised, or a layer of
        a model of this project does not attend.
    """
    if not isinstance(model, PreTrainedModel):
        for attention in own_attention(model):
            heads = (attention.heads, attention.channels)
            value, output = attention.value.weight.detach(), attention.out.weight.detach()
            yield Maps(value.unflatten(0, heads), output.unflatten(1, heads), value)
        return
    refuse_quantised(model)
    adapter = adapt(model)
    repeats = adapter.heads.query // adapter.heads.key_value
    for layer in range(len(adapter.blocks)):
        yield Maps(
            adapter.projection(layer, "v").detach().repeat_interleave(repeats, dim=0),
            adapter.projection(layer, "o").detach(),
            as_published.value_by_thirds(adapter, layer).detach(),
        )


def own_attention(model: nn.Module) -> list[Attention]:
    """The attention modules of a model of this project, one a block.

    Raises
    ------
    ValueError
        If a block has none.
    """
    found = []
    for number, block in enumerate(getattr(model, "blocks", [])):
        mixer = getattr(block, "mixer", None)
        mixer = mixer.geometric if isinstance(mixer, Gated) else mixer
        if not isinstance(mixer, Attention):
            raise ValueError(f"block {number} mixes by {type(mixer).__name__}, not by attention")
        found.append(mixer)
    if not found:
        raise ValueError(f"{type(model).__name__} has no blocks with attention")
    return found


def spectral_norm(matrix: NDArray) -> float:
    """The largest singular value, by Lanczos iterations where there are many.

    Examples
    --------
    >>> spectral_norm(np.diag([3.0, -4.0]))
    4.0
    """
    if min(matrix.shape) <= DENSE:
        return float(np.linalg.norm(matrix, 2))
    if not matrix.any():  # from which no Krylov space can be made
        return 0.0
    start = np.random.default_rng(0).standard_normal(min(matrix.shape)).astype(matrix.dtype)
    (largest,) = svds(matrix, k=1, v0=start, return_singular_vectors=False)
    return float(largest)


def norms(maps: Maps) -> pd.DataFrame:
    """Spectral and Frobenius norms of W_V, W_O and W_O W_V of each head and of all together.

    The full product is the map of heads that all read alike: the sum of theirs. That of a head has
    the singular values of a product of two small triangles, by QR of both factors.

    Returns
    -------
    DataFrame
        Columns head (-1: the full matrix), quantity, value, reason; where weights are not finite
        all values of the layer are missing and the reason says so.
    """
    finite = all(part.isfinite().all() for part in maps)
    value, output, published = (
        (part if finite else torch.zeros_like(part)).cpu().double() for part in maps
    )
    of_value = torch.linalg.qr(value.mT, mode="r").R
    of_output = torch.linalg.qr(output.movedim(1, 0), mode="r").R
    v, o = value.flatten(0, 1).numpy(), output.flatten(1).numpy()
    rows = []
    for name, triangles in {"v": of_value, "o": of_output, "ov": of_output @ of_value.mT}.items():
        spectral = torch.linalg.matrix_norm(triangles, 2).tolist()
        frobenius = torch.linalg.matrix_norm(triangles).tolist()
        rows += [(head, f"spectral_{name}", norm) for head, norm in enumerate(spectral)]
        rows += [(head, f"frobenius_{name}", norm) for head, norm in enumerate(frobenius)]
    for name, matrix in {"v": v, "o": o, "ov": o @ v, "v_published": published.numpy()}.items():
        rows.append((FULL, f"spectral_{name}", spectral_norm(matrix)))
        rows.append((FULL, f"frobenius_{name}", float(np.linalg.norm(matrix))))
    table = pd.DataFrame(rows, columns=["head", "quantity", "value"])
    return table.assign(reason="") if finite else table.assign(value=np.nan, reason=NOT_FINITE)


def unembedding_norms(model: Any) -> pd.DataFrame:
    """Spectral and Frobenius norm of the map from the stream to the logits, as :func:`norms`.

    Gains of the norm before it are not folded in. Of a tied model it is the embedding.
    """
    if isinstance(model, PreTrainedModel):
        weight = model.get_output_embeddings().weight
    else:
        head = getattr(model, "head", None)
        weight = model.embedding.weight if head is None else head.weight
    matrix = weight.detach().float().cpu().numpy()
    finite = np.isfinite(matrix).all()
    sizes = (spectral_norm(matrix), float(np.linalg.norm(matrix))) if finite else (np.nan, np.nan)
    rows = {"head": FULL, "quantity": ["spectral_unembedding", "frobenius_unembedding"]}
    return pd.DataFrame(rows).assign(value=sizes, reason="" if finite else NOT_FINITE)


def measure_spectra(*, model: str | Path, label: str, dtype: str, table: str | Path) -> None:
    """Norms of the value and output maps of every layer of one model, and of its unembedding.

    Parameters
    ----------
    model, dtype
        See :func:`load`; norms are computed in double precision, of the unembedding in single.
    label
        What the column ``model`` says.
    table
        Written: columns model, layer (from 1; -1 is the whole network), head, quantity, value,
        reason; see :func:`norms` and :func:`unembedding_norms`. A model that does not load, or has
        no such maps, leaves one row, of layer -1, with the reason.
    """
    try:
        network = load(model, dtype)
        parts = [
            norms(maps).assign(layer=layer)
            for layer, maps in enumerate(layer_maps(network), start=1)
        ]
        parts.append(unembedding_norms(network).assign(layer=NETWORK))
        found = pd.concat(parts, ignore_index=True)
    except UNMEASURABLE as error:
        failed = {"layer": NETWORK, "head": FULL, "quantity": "", "reason": str(error)}
        found = pd.DataFrame([failed])
    found = found.assign(model=label).reindex(columns=COLUMNS)
    write_table(table, found.astype({"value": float}))
