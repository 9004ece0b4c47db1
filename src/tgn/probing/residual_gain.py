"""Residual gain: by how much each block of a language model stretches the residual stream.

The gain of block l at a token is |block's output| / |block's input|, norms in fp32 whatever the
model computes in, recorded by hooks, so that the last block counts before the final norm. A
prompt's gain is the median over tokens after the first; the first one, on which much attention
rests, stands apart whether or not it is a start token, and so does the last, the only one that was
published. The final gain is that of the last block.

Layers are numbered from 1 to L, -1 is the whole network. Layer 0 is the way from the tokens'
embeddings to the input of the first block, where positions, scales and norms may be added; the
states of layer 0 are that input. What was published as the "embedding step", a factor of 10 to 76,
is not this but the first block.
"""

from __future__ import annotations

import gc
import json
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from tgn import rank, sources
from tgn.files import write_json, write_table
from tgn.models import decoder, io
from tgn.models.attention import Attention
from tgn.probing import as_published
from tgn.probing import prompts as prompt_sets
from tgn.probing.architecture import (
    POST_NORM,
    adapter,
    is_quantised,
    norms,
    record,
    residual_blocks,
)
from tgn.probing.pretrained import load_tokenizer
from tgn.probing.weights import refuse_quantised
from tgn.progress import bar

COLUMNS = ("model", "prompt", "category", "layer", "quantity", "value")
NETWORK = -1  # in place of a layer
# What a record always has; a model that failed has None where nothing could be found out.
FIELDS = (
    "model", "lab", "family", "architecture", "layers", "heads", "kv_heads", "head_dim", "width",
    "mlp_width", "parameters", "rho", "rho_kv", "rho_published", "norm_position", "parallel",
    "positions", "dtype", "quantised", "origin", "revision", "prompt_sha256", "bos", "status",
    "reason", "nan_layers", "missing",
)  # fmt: skip

Array = NDArray[np.float64]
Row = tuple[int, str, float]  # layer, quantity, value


class Inner(NamedTuple):
    """What is watched inside of the blocks.

    Attributes
    ----------
    parts : list
        (``mlp`` or ``attention``, the module that reads, the module that puts out) of every block.
    maps : list
        Of every block of several heads the layer that maps what they mix into the stream, and its
        weights, shape (width, heads, head width).
    """

    parts: list[tuple[str, nn.Module, nn.Module]]
    maps: list[tuple[nn.Module, Tensor]]


class Pass(NamedTuple):
    """What one pass over a prompt left, on the CPU.

    Attributes
    ----------
    embedded : tensor, shape (T, embedding width)
        The tokens' rows of the embedding.
    states : list of tensors, shape (T, width)
        Input of each block and output of the last, in the model's own precision.
    returned : list of tensors, shape (T, width)
        The states as the library gives them, the last one after the final norm.
    components : dict
        For ``mlp`` and ``attention``, (|input|, |output|) in every block, each (T,); empty where
        they are not known.
    heads : list of tensors, shape (T,)
        Of every block the :func:`anisotropy` of what its heads write into the stream: mean cosine
        between two heads; empty where their output map is not known or there is one head.
    logits : tensor, shape (T, vocabulary), fp32
    """

    embedded: Tensor
    states: list[Tensor]
    returned: list[Tensor]
    components: dict[str, list[tuple[Tensor, Tensor]]]
    heads: list[Tensor]
    logits: Tensor


def measure_gains(
    *,
    model: str | Path,
    label: str,
    lab: str,
    family: str,
    prompts: str | Path,
    per_category: int | None,
    variants: Sequence[str],
    dtype: str,
    seed: int,
    gains: str | Path,
    architecture: str | Path,
) -> None:
    """Measure the gains of one model on every prompt.

    Parameters
    ----------
    model
        Receipt of a pretrained model's folder, or the weights file of a model of this project,
        whose tokenizer stands beside it.
    label, lab, family
        What the tables say of the model.
    prompts, per_category
        See :func:`tgn.probing.prompts.read_prompts`.
    variants
        Of the prompts, besides ``plain``; see :func:`tgn.probing.prompts.variants`.
    dtype
        In which the model computes: ``float32`` or ``bfloat16``.
    seed
        Of the controls.
    gains
        Written: columns model, prompt, category, layer, quantity, value, see :func:`gain_rows`.
        Variants stand under their own name as category. A value that is not finite is null.
    architecture
        Written: one record, see :func:`tgn.probing.architecture.record`; with ``status`` ``ok``,
        ``not_applicable`` (post-norm blocks: ``reason``; only what was published is measured) or
        ``failed`` (the model does not load, is quantised or is no decoder: ``reason``; no gains),
        ``nan_layers`` (blocks that put out what is not finite on some prompt) and ``missing``
        (variants and quantities that there are not, with the reason).

    Raises
    ------
    FileNotFoundError, ValueError
        If the receipt, the prompts or the options are not as they must be.
    """
    if dtype not in ("float32", "bfloat16"):
        raise ValueError(f"dtype must be float32 or bfloat16, got {dtype!r}")
    if unknown := sorted(set(variants) - set(prompt_sets.VARIANTS)):
        raise ValueError(f"unknown variants {unknown}; known are {', '.join(prompt_sets.VARIANTS)}")
    asked = prompt_sets.read_prompts(prompts, per_category)
    about = dict.fromkeys(FIELDS) | _origin(Path(model))
    about |= {"model": label, "lab": lab, "family": family, "dtype": dtype, "status": "failed"}
    about |= {"prompt_sha256": prompt_sets.digest(asked), "quantised": False}
    rows = pd.DataFrame(columns=list(COLUMNS))
    try:
        network, tokenizer = load(Path(model), dtype)
    except Exception as error:  # whatever a library raises, the model has its row
        about |= _failure(error)
    else:
        try:
            found, seen = measure(network, tokenizer, asked, variants=variants, seed=seed)
        except (RuntimeError, ValueError) as error:
            about |= _failure(error)
        else:
            rows = found.assign(model=label)[list(COLUMNS)]
            about |= seen
        del network
    gc.collect()  # models hold cycles
    types = {"layer": "int64", "value": "float64"}
    write_table(gains, rows.astype(types | dict.fromkeys(set(COLUMNS) - set(types), "str")))
    write_json(architecture, about)


def _failure(error: Exception) -> dict[str, Any]:
    """Fields of a record; where it came from goes into the log."""
    traceback.print_exception(error)
    quantised = isinstance(error, QuantisedError)
    return {"reason": f"{type(error).__name__}: {error}", "quantised": quantised}


class QuantisedError(ValueError):
    """Weights are stored as packed integers, which are no weights."""


def load(path: Path, dtype: str) -> tuple[Any, Any]:
    """Model in evaluation mode, on the fastest device there is, and tokenizer.

    Parameters
    ----------
    path, dtype
        As ``model`` and ``dtype`` of :func:`measure_gains`.

    Raises
    ------
    QuantisedError
        If the weights are quantised.
    Exception
        Whatever the library raises on a model it cannot load.
    """
    device = Accelerator().device
    if path.name != sources.RECEIPT:
        own = io.load(path.parent).to(device=device, dtype=getattr(torch, dtype))
        return own, io.load_tokenizer(path.parent)
    folder = sources.receipt_folder(path)
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    if is_quantised(config):
        raise QuantisedError("the weights are quantised; take a floating-point version")
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=getattr(torch, dtype), local_files_only=True
    )
    try:
        refuse_quantised(model)
    except ValueError as error:
        raise QuantisedError(str(error)) from None
    return model.eval().to(device), load_tokenizer(folder)


def measure(
    model: Any,
    tokenizer: Any,
    asked: pd.DataFrame,
    *,
    variants: Sequence[str],
    seed: int,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Every quantity of every prompt and variant, and what there is to say of the model.

    Parameters
    ----------
    model, tokenizer
        Of `transformers` or of this project.
    asked
        As :func:`tgn.probing.prompts.read_prompts` gives it.

    Returns
    -------
    rows : DataFrame
        Columns prompt, category, layer, quantity, value.
    about : dict
        The fields of :func:`measure_gains`' record that come from the model.

    Raises
    ------
    ValueError
        If the model has an encoder, or a prompt is too long.
    """
    blocks = residual_blocks(model)
    categories = dict(zip(asked["id"], asked["category"], strict=True))
    ids, missing = prompt_sets.variants(asked, tokenizer, seed=seed, context=_context(model))
    missing = {name: why for name, why in missing.items() if name in variants}
    chosen = [name for name in ids if name == "plain" or name in variants]
    device = next(model.parameters()).device
    first = next(iter(ids["plain"].values()))
    placed = norms(model, torch.tensor([first], device=device))
    inner = insides(model)
    if not inner.parts:
        missing |= {f"published_{part}": "no adapter" for part in ("mlp", "attention")}
    if not inner.maps:
        missing["head_cosine"] = "no output map of several heads is known"
    if len(blocks) == 1:
        missing |= dict.fromkeys(("published_a", "published_b"), "one block has none before it")
    rows: list[tuple[Any, ...]] = []
    broken: set[int] = set()
    for variant in chosen:
        watched = inner if variant == "plain" else inner._replace(maps=[])
        for name, sequence in bar(ids[variant].items(), desc=variant, unit="prompt"):
            if variant != "plain" and categories[name] == prompt_sets.NEUTRAL:
                continue  # a control itself
            seen = forward(model, sequence, blocks=blocks, inner=watched)
            broken |= {n for n, x in enumerate(seen.states) if n and not x.isfinite().all()}
            category = categories[name] if variant == "plain" else variant
            measured = gain_rows(seen, sequence, applicable=placed.position != "post")
            rows += [(name, category, *row) for row in measured]
    table = pd.DataFrame(rows, columns=["prompt", "category", "layer", "quantity", "value"])
    post = placed.position == "post"
    about = record(model) | {
        "norm_position": placed.position,
        "parallel": placed.parallel,
        "bos": bool(prompt_sets.start_tokens(tokenizer)),
        "status": "not_applicable" if post else "ok",
        "reason": POST_NORM if post else None,
        "nan_layers": sorted(broken),
        "missing": missing,
    }
    return table.replace([np.inf, -np.inf], np.nan), about


def forward(
    model: Any,
    sequence: Sequence[int],
    *,
    blocks: Sequence[nn.Module] | None = None,
    inner: Inner | None = None,
) -> Pass:
    """One pass over a prompt, watched.

    Parameters
    ----------
    model
        Of `transformers` or of this project.
    sequence
        Token ids.
    blocks, inner
        The model's :func:`~tgn.probing.architecture.residual_blocks`, if they are at hand, and what
        is watched inside of them, if anything is.
    """
    library = isinstance(model, PreTrainedModel)
    blocks = residual_blocks(model) if blocks is None else blocks
    inner = inner or Inner([], [])
    ids = torch.tensor([list(sequence)], device=next(model.parameters()).device)
    options = {"output_hidden_states": True, "use_cache": False} if library else {}
    with (
        torch.inference_mode(),
        _stream(blocks) as states,
        _components(inner.parts) as parts,
        _heads(inner.maps) as heads,
    ):
        result = model(ids, **options)
        if library:
            returned = [_kept(state) for state in result.hidden_states]
            table = model.get_input_embeddings().weight
        else:
            normed = getattr(model, "norm", decoder.norm)(states[-1].to(ids.device))
            returned = [*states[:-1], normed.cpu()]
            table = model.get_parameter("embedding.weight")
        return Pass(
            embedded=table[ids[0]].cpu(),
            states=states,
            returned=returned,
            components=parts,
            heads=heads,
            logits=result.logits[0].float().cpu(),
        )


def gain_rows(seen: Pass, sequence: Sequence[int], *, applicable: bool = True) -> list[Row]:
    """Every quantity of one prompt, as (layer, quantity, value).

    ``gain_median``, ``gain_mean``, ``gain_first``, ``gain_last``
        Over tokens after the first; at the first; at the last. In every block, and in layer 0 from
        the embedding to the input of the first block.
    ``amplification``, ``amplification_with_embedding``, ``amplification_after_first``
        Product of the gains of all blocks, as the median over tokens after the first of the token's
        own product; times the step from the embedding; without the first block, as published.
    ``published_*``
        See :mod:`tgn.probing.as_published`. ``published_a`` stands at the block that it is the gain
        of: its last layer is L - 1. ``published_with_norm`` stands at L and is the gain of no
        block.
    ``head_cosine``
        Between what two heads of a block write into the stream, mean over pairs and over tokens
        after the first; of plain prompts.
    ``entropy``, ``loss``, ``tokens``
        Of the next token's distribution, in nats; nats per token after the first; how many.
    ``anisotropy_*``, ``effective_rank_*``
        Of the states after each block and before the first, ``with_first`` and ``without_first``
        token; see :func:`anisotropy` and :func:`tgn.rank.effective_rank` (not centred).

    A prompt of one token has no median, mean, amplification and loss.

    Parameters
    ----------
    applicable
        Whether gains mean anything; if not, the published ones alone are given.
    """
    streams = torch.stack(seen.states).float()
    sizes = torch.linalg.vector_norm(streams, dim=-1)  # (L + 1, T)
    rows = _published(seen) + _of_network(seen.logits, sequence) + _of_states(streams)
    if not applicable:
        return rows
    start = torch.linalg.vector_norm(seen.embedded.float(), dim=-1)
    gains = sizes / torch.cat([start[None], sizes[:-1]])
    rows += _by_layer("gain_first", gains[:, 0]) + _by_layer("gain_last", gains[:, -1])
    if len(sequence) > 1:
        later = gains[:, 1:].double()
        rows += _by_layer("gain_median", later.quantile(0.5, dim=1))
        rows += _by_layer("gain_mean", later.mean(1))
        cosines = [cosine[1:].mean() for cosine in seen.heads]
        rows += _by_layer("head_cosine", torch.tensor(cosines), first=1)
        for name, begin in (
            ("amplification", sizes[0]),
            ("amplification_with_embedding", start),
            ("amplification_after_first", sizes[1]),
        ):
            products = (sizes[-1] / begin)[1:].double()
            rows.append((NETWORK, name, products.quantile(0.5).item()))
    return rows


def anisotropy(states: Tensor) -> Tensor:
    """Mean cosine between the states of two different tokens; 0 for directions drawn at random.

    Parameters
    ----------
    states : tensor, shape (..., T, D), T > 1

    Returns
    -------
    tensor, shape (...)
        NaN where a state is zero or not finite.
    """
    x = states.double()
    directions = x / torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    count = x.shape[-2]
    return (directions.sum(-2).square().sum(-1) - count) / (count * (count - 1))


def _published(seen: Pass) -> list[Row]:
    layers = len(seen.states) - 1
    rows = _by_layer("published_c", as_published.gain_c(seen.states), first=1)
    if len(seen.returned) == layers + 1:
        *inner, last = as_published.gain_a(seen.returned).tolist()
        rows += [(n, "published_a", value) for n, value in enumerate(inner, start=1)]
        rows.append((layers, "published_with_norm", last))
    if layers > 1:
        rows.append((layers, "published_b", as_published.gain_b(seen.states)))
    for part, sizes in seen.components.items():
        for layer, (entering, leaving) in enumerate(sizes, start=1):
            gain = as_published.component_gain(entering, leaving)
            rows.append((layer, f"published_{part}", gain))
    return rows


def _of_network(logits: Tensor, sequence: Sequence[int]) -> list[Row]:
    entropy = torch.special.entr(logits[-1].double().softmax(-1)).sum().item()
    rows: list[Row] = [
        (NETWORK, "tokens", float(len(sequence))),
        (NETWORK, "entropy", entropy),
    ]
    if len(sequence) > 1:
        loss = F.cross_entropy(logits[:-1], torch.tensor(sequence[1:])).item()
        rows.append((NETWORK, "loss", loss))
    return rows


def _of_states(streams: Tensor) -> list[Row]:
    rows: list[Row] = []
    for name, states in (("with_first", streams), ("without_first", streams[:, 1:])):
        if states.shape[1] > 1:
            rows += _by_layer(f"anisotropy_{name}", anisotropy(states))
        if states.shape[1] > 0:
            whole = states.isfinite().flatten(1).all(1)
            ranks = torch.full((len(states),), torch.nan, dtype=torch.float64)
            if whole.any():
                found = rank.effective_rank(states[whole].numpy())
                ranks[whole] = torch.as_tensor(found, dtype=torch.float64)
            rows += _by_layer(f"effective_rank_{name}", ranks)
    return rows


def _by_layer(quantity: str, values: Tensor, first: int = 0) -> list[Row]:
    return [(layer, quantity, value) for layer, value in enumerate(values.tolist(), start=first)]


def insides(model: nn.Module) -> Inner:
    """What can be watched inside of a model's blocks; nothing of a family without an adapter."""
    known = adapter(model)
    if known is not None:
        reads = known.family.mlp(known.model.config)["intermediate"]
        mlps = [("mlp", b.module.get_submodule(reads), b.mlp_output) for b in known.blocks]
        attentions = [("attention", b.attention, b.attention) for b in known.blocks]
        weights = [known.projection(n, "o").detach() for n in range(len(known.blocks))]
        maps = [(_owner(b.attention, w), w) for b, w in zip(known.blocks, weights, strict=True)]
    elif isinstance(model, decoder.Decoder):
        blocks: list[Any] = list(model.blocks)
        mixers = [b.mixer for b in blocks if isinstance(b.mixer, Attention)]
        mlps = [("mlp", b.mlp, b.mlp) for b in blocks]
        attentions = [("attention", mixer, mixer) for mixer in mixers]
        maps = [(a.out, a.out.weight.unflatten(1, (a.heads, a.channels))) for a in mixers]
    else:
        return Inner([], [])
    return Inner([*mlps, *attentions], [pair for pair in maps if pair[1].shape[1] > 1])


def _owner(parent: nn.Module, weight: Tensor) -> nn.Module:
    """The layer in which a weight, or what it is a view of, is a parameter."""
    (found,) = (
        module
        for module in parent.modules()
        for parameter in module.parameters(recurse=False)
        if parameter.untyped_storage().data_ptr() == weight.untyped_storage().data_ptr()
    )
    return found


@contextmanager
def _stream(blocks: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Collect the input of each block, and the output of the last one."""
    states: list[Tensor] = []

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        states.append(_kept(args[0] if args else kwargs["hidden_states"]))

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        states.append(_kept(output[0] if isinstance(output, tuple) else output))

    with ExitStack() as hooks:
        for block in blocks:
            hook = block.register_forward_pre_hook(before, with_kwargs=True)
            hooks.callback(hook.remove)
        hooks.callback(blocks[-1].register_forward_hook(after).remove)
        yield states


@contextmanager
def _components(
    parts: Sequence[tuple[str, nn.Module, nn.Module]],
) -> Iterator[dict[str, list[tuple[Tensor, Tensor]]]]:
    """Collect norms of what goes into and comes out of every MLP and attention."""
    found: dict[str, list[tuple[Tensor, Tensor]]] = {}
    entering: dict[str, Tensor] = {}

    def watch(part: str, first: nn.Module, last: nn.Module) -> None:
        def before(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
            entering[part] = _sizes(args[0] if args else kwargs["hidden_states"])

        def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            leaving = _sizes(output[0] if isinstance(output, tuple) else output)
            found.setdefault(part, []).append((entering[part], leaving))

        hooks.callback(first.register_forward_pre_hook(before, with_kwargs=True).remove)
        hooks.callback(last.register_forward_hook(after).remove)

    with ExitStack() as hooks:
        for part in parts:
            watch(*part)
        yield found


@contextmanager
def _heads(maps: Sequence[tuple[nn.Module, Tensor]]) -> Iterator[list[Tensor]]:
    """Collect how alike the heads of each block write, (T,)."""
    found: list[Tensor] = []

    def watch(layer: nn.Module, weight: Tensor) -> None:
        def before(module: nn.Module, args: tuple[Any, ...]) -> None:
            mixed = args[0].detach().flatten(0, -2).unflatten(-1, weight.shape[1:])
            written = torch.einsum("thc,whc->thw", mixed.float(), weight.float())
            found.append(anisotropy(written).cpu())

        hooks.callback(layer.register_forward_pre_hook(before).remove)

    with ExitStack() as hooks:
        for layer, weight in maps:
            watch(layer, weight)
        yield found


def _kept(states: Tensor) -> Tensor:
    """(T, width) of a batch of one; a copy, since a block may add to its input in place."""
    return states.detach()[0].to("cpu", copy=True)


def _sizes(states: Tensor) -> Tensor:
    return torch.linalg.vector_norm(states.detach().float().flatten(0, -2), dim=-1).cpu()


def _context(model: Any) -> int | None:
    """Most tokens that a model reads, where something limits it."""
    if not isinstance(model, PreTrainedModel):
        return int(model.config.context)
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def _origin(path: Path) -> dict[str, str]:
    """Where a model comes from, and which one it is: a revision or version, else a checksum.

    Raises
    ------
    FileNotFoundError, ValueError
        As :func:`tgn.sources.read_receipt` and :func:`tgn.models.io.describe`.
    """
    if path.name != sources.RECEIPT:
        return {"origin": "trained by this project", "revision": io.describe(path.parent)["sha256"]}
    sources.read_receipt(path)  # which checks it
    content = json.loads(path.read_text(encoding="utf-8"))
    origin = content["origin"]
    if pinned := re.search(r"(?:@|==)([^@=\s]+)$", origin):
        return {"origin": origin, "revision": pinned.group(1)}
    weights = [f for f in content["files"] if Path(f["path"]).suffix in (".safetensors", ".bin")]
    chosen = (weights or content["files"])[0]
    return {"origin": origin, "revision": f"sha256:{chosen['sha256']}"}
