"""Published ways of measuring, kept beside ours so that both can be shown; each says what is wrong.

Source: D'Elia, "Thermodynamic Constraints in Transformer Architectures", 10.5281/zenodo.18165365.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tgn.probing.adapters import Adapter

# --- gains ----------------------------------------------------------------------------------------


def gain_a(hidden_states: Sequence[Tensor]) -> Tensor:
    """Norms of the last token in fp32, each over the one before ("NO_FINAL_LN", G-a).

    Off by one. Of L blocks the library returns L + 1 states, the last after the final norm; the
    output of the last block is not among them. Published as the final gain is element -2, the
    ratio of ``hidden_states[-2]`` to ``hidden_states[-3]``: the gain of block L - 1. Element -1,
    published as the gain "with LN", holds the last block and the final norm together.

    Parameters
    ----------
    hidden_states : L + 1 tensors, shape (T, width)
        As `transformers` returns them.

    Returns
    -------
    tensor, shape (L,)
    """
    sizes = torch.stack([_size(state[-1].float()) for state in hidden_states])
    return sizes[1:] / sizes[:-1]


def gain_b(states: Sequence[Tensor]) -> float:
    """Output of the last block over that of the one before, last token, in own precision (G-b).

    The right block, but one token, and norms that are rounded: in half precision the gain takes
    few values. The first token is among them only where it is the last.

    Parameters
    ----------
    states : tensors, shape (T, width)
        By hooks, in the model's precision.
    """
    before, after = (_size(state[-1]) for state in states[-2:])
    return after.item() / before.item()


def gain_c(states: Sequence[Tensor]) -> Tensor:
    """Frobenius norm of the whole sequence after each block over that before it (G-c).

    With the first token in it, whose norm is tens of times that of others in many models: they
    show the gain of that one token.

    Parameters
    ----------
    states : L + 1 tensors, shape (T, width)
        By hooks: the input of each block and the output of the last.

    Returns
    -------
    tensor, shape (L,)
    """
    sizes = torch.stack([_size(state.float()) for state in states])
    return sizes[1:] / sizes[:-1]


def component_gain(entering: Tensor, leaving: Tensor) -> float:
    """Mean over all tokens of |output| / |input| of an MLP or an attention (G-d).

    No gain of the stream: what goes in is normalised already, and what comes out is added to a
    stream of another size.

    Parameters
    ----------
    entering, leaving : tensor, shape (T,)
        Norms.
    """
    return (leaving / entering).double().mean().item()


def _size(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x)


# --- value maps and sheaf trace ------------------------------------------------------------------


def value_by_thirds(adapter: Adapter, layer: int) -> Tensor:
    """The last third of the rows of a fused projection, taken for W_V in every family.

    Right where q, k and v are stored one after the other or apart (GPT-2, OPT, LLaMA; shared maps
    are not repeated). GPT-NeoX and BLOOM store q, k and v side by side in each head: there two
    thirds of these rows are queries and keys. Falcon's one value head stands at the end, among
    rows of queries.

    Returns
    -------
    tensor, shape (rows, input width)
    """
    fused = getattr(adapter.blocks[layer].attention, "query_key_value", None)
    if fused is None:
        return adapter.projection(layer, "v").flatten(0, 1)
    return fused.weight.chunk(3)[-1]


def zero_trace(attention: NDArray, energies: NDArray) -> float:
    """sum_h abs(sum A_h - n) abs(W_V,h)_F^2, the formula as printed, in the precision of A.

    Rows of a softmax sum to 1, so this is rounding noise about zero, and the absolute value, which
    the published code takes, makes a positive number of it. The trace itself leaves out the
    diagonal: :func:`tgn.probing.sheaf.trace`.

    Parameters
    ----------
    attention
        Shape (heads, n, n).
    energies
        Squared Frobenius norms of the value maps, shape (heads,).
    """
    excess = attention.sum(axis=(1, 2)) - attention.shape[-1]
    return float(np.abs(excess) @ energies)
