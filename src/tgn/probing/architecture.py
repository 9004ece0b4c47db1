"""What a language model is built like: its blocks, their norms, its heads.

Found in the model itself, so that families without an :mod:`adapter <tgn.probing.adapters>` have a
record too. Where norms stand is seen in one pass through the first block:

    pre       a norm makes what each sublayer reads; nothing normalises the stream
    post      the block's output is the output of a norm (OPT-350m, BERT)
    sandwich  norms make what sublayers read and, others, what is added to the stream (Gemma 2)
    branch    norms only on what is added to the stream (OLMo 2)

In a post-norm block the norm fixes the size of the output whatever the block computes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tgn.models import PublishedDecoder, PublishedGravity
from tgn.probing.adapters import Adapter, adapt

POST_NORM = (
    "post-norm blocks: a norm fixes the size of what a block puts out, so that the ratio of output "
    "to input tells nothing of the block"
)


class Norms(NamedTuple):
    """Where the norms of a block stand, and whether its sublayers read one and the same stream."""

    position: str
    parallel: bool


def residual_blocks(model: nn.Module) -> list[nn.Module]:
    """The blocks along the residual stream, of any decoder of `transformers` or of ours.

    Raises
    ------
    ValueError
        If the model has an encoder besides, or no list of as many modules as it has layers.
    """
    if not isinstance(model, PreTrainedModel):
        return list(model.get_submodule("blocks").children())
    config = _config(model)
    if config.is_encoder_decoder:
        raise ValueError(f"{config.model_type} has an encoder and a decoder, not one stream")
    layers = config.num_hidden_layers
    for module in model.base_model.modules():  # outer lists first: experts come after blocks
        if isinstance(module, nn.ModuleList) and len(module) == layers:
            return list(module)
    raise ValueError(f"{config.model_type}: found no list of {layers} blocks in the model")


def norms(model: nn.Module, tokens: Tensor) -> Norms:
    """Where the norms of the first block stand, seen in a pass over tokens (1, T)."""
    if not isinstance(model, PreTrainedModel):
        return Norms("pre", parallel=False)  # by construction, of all our stacks
    block = residual_blocks(model)[0]
    own = [m for m in block.children() if _is_norm(m)]
    own = own or [m for m in block.modules() if _is_norm(m)]
    sublayers = [m for m in block.children() if not (_is_norm(m) or isinstance(m, nn.Dropout))]
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}
    with _watched([block, *own, *sublayers], seen), torch.inference_mode():
        model.base_model(tokens, use_cache=False)
    entering, leaving = seen[block]
    used = [m for m in own if m in seen]
    if any(_same(seen[m][1], leaving) for m in used):
        return Norms("post", parallel=False)
    pairs = [
        (m, reader)
        for m in used
        for reader in sublayers
        if reader in seen and _same(seen[m][1], seen[reader][0])
    ]
    before = {m for m, _ in pairs}
    parallel = len(pairs) > 1 and all(_same(seen[m][0], entering) for m in before)
    if len(before) == len(used):
        return Norms("pre", parallel)
    return Norms("sandwich" if before else "branch", parallel)


def record(model: nn.Module) -> dict[str, Any]:
    """Sizes of a model, as plain data.

    Returns
    -------
    dict
        ``architecture``, ``layers``, ``width``, ``heads``, ``kv_heads``, ``head_dim`` (that of the
        weights, which need not be width / heads), ``mlp_width``, ``parameters``, ``positions``,
        ``rho`` (heads / head_dim), ``rho_kv`` (kv_heads / head_dim), ``rho_published``
        (heads / (width // heads)), ``dtype``. None for what a model does not have.

    Raises
    ------
    ValueError
        As :func:`residual_blocks`.
    """
    sizes = _sizes(model) if isinstance(model, PreTrainedModel) else _own_sizes(model)
    heads, width = sizes["heads"], sizes["head_dim"]
    published = heads and sizes["width"] // heads
    return sizes | {
        "architecture": type(model).__name__,
        "layers": len(residual_blocks(model)),
        "parameters": sum(p.numel() for p in model.parameters()),
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "rho": heads / width if heads and width else None,
        "rho_kv": sizes["kv_heads"] / width if sizes["kv_heads"] and width else None,
        "rho_published": heads / published if published else None,
    }


def adapter(model: nn.Module) -> Adapter | None:
    """The model's adapter, if its family has one."""
    if not isinstance(model, PreTrainedModel):
        return None
    try:
        return adapt(model)
    except (AttributeError, ValueError):  # of the family, or of this generation of it
        return None


def is_quantised(config: Any) -> bool:
    """Whether a configuration says that weights are stored as packed integers."""
    return getattr(config, "quantization_config", None) is not None


def _sizes(model: PreTrainedModel) -> dict[str, Any]:
    config: Any = _config(model)
    known = adapter(model)
    geometry: tuple[int | None, ...]
    mlp_width: int | None
    if known is not None:
        geometry = known.heads.query, known.heads.key_value, known.heads.width
        mlp_width = known.mlp(0)["intermediate"].shape[0]
    else:
        heads = getattr(config, "num_attention_heads", None)
        head_dim = getattr(config, "head_dim", None) or (heads and config.hidden_size // heads)
        geometry = heads, _shared_heads(config), head_dim
        names = ("intermediate_size", "ffn_hidden_size", "ffn_dim")
        mlp_width = next((n for name in names if (n := getattr(config, name, None))), None)
    return {
        **dict(zip(("heads", "kv_heads", "head_dim"), geometry, strict=True)),
        "width": config.hidden_size,
        "mlp_width": mlp_width,
        "positions": _positions(model),
    }


def _own_sizes(model: nn.Module) -> dict[str, Any]:
    config: Any = model.config
    attends = config.attends or config.mixer == "gravity"
    heads = config.heads if attends else None
    if isinstance(model, PublishedDecoder | PublishedGravity):
        positions = "learned"
    elif config.mixer == "gravity":
        positions = "coordinates"
    else:
        positions = "rotary" if config.attends and config.rotary else "none"
    return {
        "width": config.width,
        "heads": heads,
        "kv_heads": heads,
        "head_dim": heads and config.width // heads,
        "mlp_width": config.mlp_width,
        "positions": positions,
    }


def _shared_heads(config: Any) -> int | None:
    """Key-value heads; Falcon of the first generation has one and another name for it."""
    if getattr(config, "multi_query", False) and not getattr(
        config, "new_decoder_architecture", False
    ):
        return 1
    for name in ("num_key_value_heads", "num_kv_heads", "num_attention_heads"):
        if count := getattr(config, name, None):
            return int(count)
    return None


def _positions(model: PreTrainedModel) -> str:
    """How a model knows the order of its tokens: alibi, rotary, learned or none."""
    config = _config(model)
    if config.model_type in ("bloom", "mpt") or getattr(config, "alibi", False):
        return "alibi"
    if getattr(config, "rotary_dim", None) or any(
        "rotary" in type(module).__name__.lower() for module in model.modules()
    ):
        return "rotary"
    blocks = {id(m) for block in residual_blocks(model) for m in block.modules()}
    tables = [
        module
        for module in model.base_model.modules()
        if isinstance(module, nn.Embedding)
        and module is not model.get_input_embeddings()
        and id(module) not in blocks
    ]
    return "learned" if tables else "none"


def _config(model: PreTrainedModel) -> Any:
    return model.config.get_text_config()


def _is_norm(module: nn.Module) -> bool:
    return "norm" in type(module).__name__.lower()


def _same(a: Tensor, b: Tensor) -> bool:
    """One tensor, perhaps seen in another shape; equal values too, since modules may copy."""
    if a.numel() != b.numel():
        return False
    return a.data_ptr() == b.data_ptr() or torch.equal(a.flatten(), b.flatten())


@contextmanager
def _watched(
    modules: list[nn.Module], seen: dict[nn.Module, tuple[Tensor, Tensor]]
) -> Iterator[None]:
    """Keep the first tensor that goes into and comes out of each module."""

    def keep(
        module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any
    ) -> None:
        entering = args[0] if args else kwargs.get("hidden_states")
        leaving = output[0] if isinstance(output, tuple) else output
        if isinstance(entering, Tensor) and isinstance(leaving, Tensor):
            seen.setdefault(module, (entering, leaving))

    with ExitStack() as hooks:
        for module in modules:
            hooks.callback(module.register_forward_hook(keep, with_kwargs=True).remove)
        yield
