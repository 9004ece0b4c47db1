"""Where the parts of a pretrained language model are, one description a family.

Probes ask for "the value weights of block 3" and never learn how a family names or fuses them.
All projections come as views into the model's own parameters, never copies, so that a probe may
edit what it measures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from transformers import PreTrainedModel

Projection = Literal["q", "k", "v", "o"]


@dataclass(frozen=True)
class Family:
    """Names of the parts inside one architecture of `transformers`.

    Paths of ``blocks`` and ``final_norm`` start at the body (the model below the language-model
    head), the others at a block. ``mlp_output`` is the module whose output is added to the
    residual stream: a family without an MLP module of its own names its last layer.
    """

    model_types: tuple[str, ...]
    blocks: str
    final_norm: str
    attention: str
    attention_norm: str
    mlp_norm: str
    mlp_output: str
    projections: Callable[[nn.Module, Heads], dict[str, torch.Tensor]]
    parallel: Callable[[Any], bool] = lambda config: False
    pre_norm: Callable[[Any], bool] = lambda config: True


@dataclass(frozen=True)
class Heads:
    """Attention geometry: query heads, key-value heads, width of a head."""

    query: int
    key_value: int
    width: int


@dataclass(frozen=True)
class Block:
    """One decoder block and its parts."""

    module: nn.Module
    attention: nn.Module
    attention_norm: nn.Module
    mlp_norm: nn.Module
    mlp_output: nn.Module


@dataclass(frozen=True)
class Adapter:
    """A model seen through its family's description."""

    model: PreTrainedModel
    body: nn.Module
    family: Family
    heads: Heads
    blocks: tuple[Block, ...]
    final_norm: nn.Module

    @property
    def parallel(self) -> bool:
        """Whether attention and MLP read the same input (GPT-NeoX, GPT-J)."""
        return self.family.parallel(self.model.config)

    @property
    def pre_norm(self) -> bool:
        """Whether norms stand before the sublayers (not so in OPT-350m)."""
        return self.family.pre_norm(self.model.config)

    def projection(self, layer: int, which: Projection) -> torch.Tensor:
        """Weights of one attention projection, a view into the parameters.

        Returns
        -------
        torch.Tensor
            For ``q``, ``k``, ``v``: shape (heads, head width, input width), where ``k`` and ``v``
            have the number of key-value heads. For ``o``: (output width, heads, head width).
        """
        return self.family.projections(self.blocks[layer].attention, self.heads)[which]


def _weight(attention: nn.Module, layer: str) -> torch.Tensor:
    return attention.get_parameter(f"{layer}.weight")


def _separate(output: str) -> Callable[[nn.Module, Heads], dict[str, torch.Tensor]]:
    """q, k and v are linear layers of their own (LLaMA, OPT)."""

    def projections(attention: nn.Module, heads: Heads) -> dict[str, torch.Tensor]:
        counts = {"q": heads.query, "k": heads.key_value, "v": heads.key_value}
        views = {
            which: _weight(attention, f"{which}_proj").unflatten(0, (count, heads.width))
            for which, count in counts.items()
        }
        return {**views, "o": _weight(attention, output).unflatten(1, (heads.query, heads.width))}

    return projections


def _fused_by_column(attention: nn.Module, heads: Heads) -> dict[str, torch.Tensor]:
    """One (input, 3 x output) matrix, q then k then v (GPT-2's Conv1D)."""
    q, k, v = _weight(attention, "c_attn").T.unflatten(0, (3, heads.query, heads.width))
    o = _weight(attention, "c_proj").T.unflatten(1, (heads.query, heads.width))
    return {"q": q, "k": k, "v": v, "o": o}


def _fused_by_head(attention: nn.Module, heads: Heads) -> dict[str, torch.Tensor]:
    """One (heads x 3 x width, input) matrix, q, k, v side by side in each head (GPT-NeoX)."""
    fused = _weight(attention, "query_key_value").unflatten(0, (heads.query, 3, heads.width))
    q, k, v = fused.unbind(1)
    o = _weight(attention, "dense").unflatten(1, (heads.query, heads.width))
    return {"q": q, "k": k, "v": v, "o": o}


FAMILIES = (
    Family(
        model_types=("gpt2",),
        blocks="h",
        final_norm="ln_f",
        attention="attn",
        attention_norm="ln_1",
        mlp_norm="ln_2",
        mlp_output="mlp",
        projections=_fused_by_column,
    ),
    Family(
        model_types=("gpt_neox",),
        blocks="layers",
        final_norm="final_layer_norm",
        attention="attention",
        attention_norm="input_layernorm",
        mlp_norm="post_attention_layernorm",
        mlp_output="mlp",
        projections=_fused_by_head,
        parallel=lambda config: config.use_parallel_residual,
    ),
    Family(
        model_types=("llama", "mistral", "qwen2"),
        blocks="layers",
        final_norm="norm",
        attention="self_attn",
        attention_norm="input_layernorm",
        mlp_norm="post_attention_layernorm",
        mlp_output="mlp",
        projections=_separate("o_proj"),
    ),
    Family(
        model_types=("opt",),
        blocks="decoder.layers",
        final_norm="decoder.final_layer_norm",
        attention="self_attn",
        attention_norm="self_attn_layer_norm",
        mlp_norm="final_layer_norm",
        mlp_output="fc2",
        projections=_separate("out_proj"),
        pre_norm=lambda config: config.do_layer_norm_before,
    ),
)


def adapt(model: PreTrainedModel) -> Adapter:
    """Describe a causal language model of `transformers`.

    Raises
    ------
    ValueError
        If the family is unknown, naming those that are known.
    """
    known = {name: family for family in FAMILIES for name in family.model_types}
    kind = model.config.model_type
    if kind not in known:
        raise ValueError(f"no adapter for model type {kind!r}; known: {', '.join(sorted(known))}")
    family, body, config = known[kind], model.base_model, model.config
    query = config.num_attention_heads
    heads = Heads(
        query=query,
        key_value=getattr(config, "num_key_value_heads", None) or query,
        width=getattr(config, "head_dim", None) or config.hidden_size // query,
    )
    blocks = tuple(
        Block(
            module=block,
            attention=block.get_submodule(family.attention),
            attention_norm=block.get_submodule(family.attention_norm),
            mlp_norm=block.get_submodule(family.mlp_norm),
            mlp_output=block.get_submodule(family.mlp_output),
        )
        for block in body.get_submodule(family.blocks).children()
    )
    return Adapter(model, body, family, heads, blocks, _final_norm(body, family))


def _final_norm(body: nn.Module, family: Family) -> nn.Module:
    *parents, name = family.final_norm.split(".")
    owner = body.get_submodule(".".join(parents))
    return getattr(owner, name, None) or nn.Identity()  # OPT-350m has none
