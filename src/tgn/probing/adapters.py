"""Where the parts of a pretrained language model are, one description a family.

Probes ask for "the value weights of block 3" and never learn how a family names or fuses them.
All weights come as views into the model's own parameters, never copies, so that a probe may edit
what it measures.

A model is one stack of blocks, or two: an encoder, and a decoder that attends to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

Projection = Literal["q", "k", "v", "o"]
Matrix = Literal["intermediate", "gate", "output"]
Paths = Mapping[Matrix, str]


@dataclass(frozen=True)
class Family:
    """Names of the parts inside one architecture of `transformers`.

    Paths of ``blocks`` and ``final_norm`` start at the body (the model below the language-model
    head), the others at a block. ``mlp_output`` is the module whose output is added to the
    residual stream: a family without an MLP module of its own names its last layer. ``mlp`` has
    the layers that make the MLP's hidden channels, gate them if anything does, and map them back.
    ``stack`` is empty where there is one stack, else ``encoder`` or ``decoder``. ``adds_input``
    tells of attention and MLP modules that add the residual stream to their output themselves.
    """

    model_types: tuple[str, ...]
    blocks: str
    final_norm: str
    attention: str
    attention_norm: str
    mlp_norm: str
    mlp_output: str
    mlp: Callable[[Any], Paths]
    projections: Callable[[nn.Module, Heads], dict[str, torch.Tensor]]
    parallel: Callable[[Any], bool] = lambda config: False
    pre_norm: Callable[[Any], bool] = lambda config: True
    heads: Callable[[Any], Heads] = lambda config: _heads(config)
    adds_input: bool = False
    stack: str = ""
    cross_attention: str | None = None


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
    cross_attention: nn.Module | None


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

    def cross_projection(self, layer: int, which: Projection) -> torch.Tensor:
        """As `projection`, of a decoder's attention to its encoder.

        Raises
        ------
        ValueError
            If the block has none.
        """
        attention = self.blocks[layer].cross_attention
        if attention is None:
            raise ValueError(f"{self.model.config.model_type}: this stack has no cross-attention")
        return self.family.projections(attention, self.heads)[which]

    def mlp(self, layer: int) -> dict[Matrix, torch.Tensor]:
        """Weights of the MLP's layers, each a view of shape (output, input)."""
        block = self.blocks[layer].module
        paths = self.family.mlp(self.model.config)
        return {which: _weight(block, path) for which, path in paths.items()}


def _weight(parent: nn.Module, path: str) -> torch.Tensor:
    """A layer's weights as (output, input), whichever way round it stores them."""
    layer = parent.get_submodule(path)
    weight = layer.get_parameter("weight")
    return weight.T if isinstance(layer, Conv1D) else weight


def _separate(
    q: str = "q_proj", k: str = "k_proj", v: str = "v_proj", o: str = "out_proj", at: str = ""
) -> Callable[[nn.Module, Heads], dict[str, torch.Tensor]]:
    """q, k and v are linear layers of their own (LLaMA, OPT), in the module ``at`` of attention."""

    def projections(attention: nn.Module, heads: Heads) -> dict[str, torch.Tensor]:
        parent = attention.get_submodule(at)
        rows = {"q": (q, heads.query), "k": (k, heads.key_value), "v": (v, heads.key_value)}
        views = {
            which: _weight(parent, path).unflatten(0, (count, heads.width))
            for which, (path, count) in rows.items()
        }
        return {**views, "o": _weight(parent, o).unflatten(1, (heads.query, heads.width))}

    return projections


def _fused_by_column(attention: nn.Module, heads: Heads) -> dict[str, torch.Tensor]:
    """One (input, 3 x output) matrix, q then k then v (GPT-2's Conv1D)."""
    q, k, v = _weight(attention, "c_attn").unflatten(0, (3, heads.query, heads.width))
    o = _weight(attention, "c_proj").unflatten(1, (heads.query, heads.width))
    return {"q": q, "k": k, "v": v, "o": o}


def _fused_by_head(attention: nn.Module, heads: Heads) -> dict[str, torch.Tensor]:
    """One (heads x 3 x width, input) matrix, q, k, v side by side in each head.

    GPT-NeoX and BLOOM.
    """
    fused = _weight(attention, "query_key_value").unflatten(0, (heads.query, 3, heads.width))
    q, k, v = fused.unbind(1)
    o = _weight(attention, "dense").unflatten(1, (heads.query, heads.width))
    return {"q": q, "k": k, "v": v, "o": o}


def _fused_multi_query(attention: nn.Module, heads: Heads) -> dict[str, torch.Tensor]:
    """One matrix of all queries, then one key and one value that all heads share (Falcon-7B)."""
    fused = _weight(attention, "query_key_value").unflatten(0, (heads.query + 2, heads.width))
    q, k, v = fused.split((heads.query, 1, 1))
    o = _weight(attention, "dense").unflatten(1, (heads.query, heads.width))
    return {"q": q, "k": k, "v": v, "o": o}


def _mlp(intermediate: str, output: str, gate: str | None = None) -> Callable[[Any], Paths]:
    paths: dict[Matrix, str] = {"intermediate": intermediate, "output": output}
    if gate is not None:
        paths["gate"] = gate
    return lambda config: paths


def _t5_mlp(at: str) -> Callable[[Any], Paths]:
    """T5 in its first version has a plain MLP, from 1.1 on a gated one."""
    plain = _mlp(f"{at}.wi", f"{at}.wo")
    gated = _mlp(f"{at}.wi_1", f"{at}.wo", gate=f"{at}.wi_0")
    return lambda config: (gated if config.is_gated_act else plain)(config)


def _heads(config: Any) -> Heads:
    query = config.num_attention_heads
    return Heads(
        query=query,
        key_value=getattr(config, "num_key_value_heads", None) or query,
        width=getattr(config, "head_dim", None) or config.hidden_size // query,
    )


def _falcon_heads(config: Any) -> Heads:
    if config.new_decoder_architecture or not (config.multi_query and config.parallel_attn):
        raise ValueError(
            "falcon: of its layouts only the one of Falcon-7B is known (multi_query and"
            " parallel_attn, not new_decoder_architecture)"
        )
    query = config.num_attention_heads
    return Heads(query, 1, config.hidden_size // query)


def _bart_heads(side: str) -> Callable[[Any], Heads]:
    def heads(config: Any) -> Heads:
        count = getattr(config, f"{side}_attention_heads")
        return Heads(count, count, config.d_model // count)

    return heads


def _t5_heads(config: Any) -> Heads:
    return Heads(config.num_heads, config.num_heads, config.d_kv)


FAMILIES = (
    Family(
        model_types=("gpt2",),
        blocks="h",
        final_norm="ln_f",
        attention="attn",
        attention_norm="ln_1",
        mlp_norm="ln_2",
        mlp_output="mlp",
        mlp=_mlp("mlp.c_fc", "mlp.c_proj"),
        projections=_fused_by_column,
    ),
    Family(
        model_types=("gpt_neo",),
        blocks="h",
        final_norm="ln_f",
        attention="attn",
        attention_norm="ln_1",
        mlp_norm="ln_2",
        mlp_output="mlp",
        mlp=_mlp("mlp.c_fc", "mlp.c_proj"),
        projections=_separate(at="attention"),
    ),
    Family(
        model_types=("gptj",),
        blocks="h",
        final_norm="ln_f",
        attention="attn",
        attention_norm="ln_1",
        mlp_norm="ln_1",
        mlp_output="mlp",
        mlp=_mlp("mlp.fc_in", "mlp.fc_out"),
        projections=_separate(),
        parallel=lambda config: True,
    ),
    Family(
        model_types=("gpt_neox",),
        blocks="layers",
        final_norm="final_layer_norm",
        attention="attention",
        attention_norm="input_layernorm",
        mlp_norm="post_attention_layernorm",
        mlp_output="mlp",
        mlp=_mlp("mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
        projections=_fused_by_head,
        parallel=lambda config: config.use_parallel_residual,
    ),
    Family(
        model_types=("bloom",),
        adds_input=True,
        blocks="h",
        final_norm="ln_f",
        attention="self_attention",
        attention_norm="input_layernorm",
        mlp_norm="post_attention_layernorm",
        mlp_output="mlp",
        mlp=_mlp("mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
        projections=_fused_by_head,
    ),
    Family(
        model_types=("falcon",),
        blocks="h",
        final_norm="ln_f",
        attention="self_attention",
        attention_norm="input_layernorm",
        mlp_norm="input_layernorm",
        mlp_output="mlp",
        mlp=_mlp("mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
        projections=_fused_multi_query,
        parallel=lambda config: True,
        heads=_falcon_heads,
    ),
    Family(
        model_types=("llama", "mistral", "qwen2", "gemma"),
        blocks="layers",
        final_norm="norm",
        attention="self_attn",
        attention_norm="input_layernorm",
        mlp_norm="post_attention_layernorm",
        mlp_output="mlp",
        mlp=_mlp("mlp.up_proj", "mlp.down_proj", gate="mlp.gate_proj"),
        projections=_separate(o="o_proj"),
    ),
    Family(
        model_types=("opt",),
        blocks="decoder.layers",
        final_norm="decoder.final_layer_norm",
        attention="self_attn",
        attention_norm="self_attn_layer_norm",
        mlp_norm="final_layer_norm",
        mlp_output="fc2",
        mlp=_mlp("fc1", "fc2"),
        projections=_separate(),
        pre_norm=lambda config: config.do_layer_norm_before,
    ),
    Family(
        model_types=("bert", "roberta"),
        adds_input=True,
        blocks="encoder.layer",
        final_norm="",
        attention="attention",
        attention_norm="attention.output.LayerNorm",
        mlp_norm="output.LayerNorm",
        mlp_output="output.dense",
        mlp=_mlp("intermediate.dense", "output.dense"),
        projections=_separate("self.query", "self.key", "self.value", "output.dense"),
        pre_norm=lambda config: False,
    ),
    Family(
        model_types=("distilbert",),
        blocks="transformer.layer",
        final_norm="",
        attention="attention",
        attention_norm="sa_layer_norm",
        mlp_norm="output_layer_norm",
        mlp_output="ffn",
        mlp=_mlp("ffn.lin1", "ffn.lin2"),
        projections=_separate("q_lin", "k_lin", "v_lin", "out_lin"),
        pre_norm=lambda config: False,
    ),
    Family(
        model_types=("bart",),
        blocks="encoder.layers",
        final_norm="",
        attention="self_attn",
        attention_norm="self_attn_layer_norm",
        mlp_norm="final_layer_norm",
        mlp_output="fc2",
        mlp=_mlp("fc1", "fc2"),
        projections=_separate(),
        pre_norm=lambda config: False,
        heads=_bart_heads("encoder"),
        stack="encoder",
    ),
    Family(
        model_types=("bart",),
        blocks="decoder.layers",
        final_norm="",
        attention="self_attn",
        attention_norm="self_attn_layer_norm",
        mlp_norm="final_layer_norm",
        mlp_output="fc2",
        mlp=_mlp("fc1", "fc2"),
        projections=_separate(),
        pre_norm=lambda config: False,
        heads=_bart_heads("decoder"),
        stack="decoder",
        cross_attention="encoder_attn",
    ),
    Family(
        model_types=("t5",),
        blocks="encoder.block",
        final_norm="encoder.final_layer_norm",
        attention="layer.0.SelfAttention",
        attention_norm="layer.0.layer_norm",
        mlp_norm="layer.1.layer_norm",
        mlp_output="layer.1.DenseReluDense",
        mlp=_t5_mlp("layer.1.DenseReluDense"),
        projections=_separate("q", "k", "v", "o"),
        heads=_t5_heads,
        stack="encoder",
    ),
    Family(
        model_types=("t5",),
        blocks="decoder.block",
        final_norm="decoder.final_layer_norm",
        attention="layer.0.SelfAttention",
        attention_norm="layer.0.layer_norm",
        mlp_norm="layer.2.layer_norm",
        mlp_output="layer.2.DenseReluDense",
        mlp=_t5_mlp("layer.2.DenseReluDense"),
        projections=_separate("q", "k", "v", "o"),
        heads=_t5_heads,
        stack="decoder",
        cross_attention="layer.1.EncDecAttention",
    ),
)


def adapt(model: PreTrainedModel) -> Adapter:
    """Describe a model of `transformers` that is one stack of blocks.

    Raises
    ------
    ValueError
        If the family is unknown, naming those that are known, or has an encoder and a decoder.
    """
    found = adapt_stacks(model)
    if len(found) > 1:
        raise ValueError(
            f"{model.config.model_type} has an encoder and a decoder: use adapt_stacks"
        )
    return found[""]


def adapt_stacks(model: PreTrainedModel) -> dict[str, Adapter]:
    """Describe each stack of a model: one, named "", or ``encoder`` and ``decoder``.

    Raises
    ------
    ValueError
        If the family is unknown, naming those that are known.
    """
    kind = model.config.model_type
    families = [family for family in FAMILIES if kind in family.model_types]
    if not families:
        known = sorted({name for family in FAMILIES for name in family.model_types})
        raise ValueError(f"no adapter for model type {kind!r}; known: {', '.join(known)}")
    return {family.stack: _described(model, family) for family in families}


def _described(model: PreTrainedModel, family: Family) -> Adapter:
    heads = family.heads(model.config)  # first: it may refuse the model
    body = model.base_model
    blocks = tuple(
        Block(
            module=block,
            attention=block.get_submodule(family.attention),
            attention_norm=block.get_submodule(family.attention_norm),
            mlp_norm=block.get_submodule(family.mlp_norm),
            mlp_output=block.get_submodule(family.mlp_output),
            cross_attention=(
                block.get_submodule(family.cross_attention) if family.cross_attention else None
            ),
        )
        for block in body.get_submodule(family.blocks).children()
    )
    return Adapter(model, body, family, heads, blocks, _final_norm(body, family))


def _final_norm(body: nn.Module, family: Family) -> nn.Module:
    if not family.final_norm:  # post-norm: each block ends with a norm
        return nn.Identity()
    *parents, name = family.final_norm.split(".")
    owner = body.get_submodule(".".join(parents))
    return getattr(owner, name, None) or nn.Identity()  # OPT-350m has none
