"""The published language models, defects kept: they show what their curves are.

What differs from :mod:`tgn.models.decoder`:

- positions are learned and added at the input, as large as N(0, 1), while the tied embedding has
  the initialisation of the output map, of standard deviation 1 / sqrt(3 d): positions drown the
  tokens by a factor of about 50, and the norm of every block passes that on. (The code defines
  another initialisation and never applies it.)
- the gate is a network with 64 hidden units, not the one linear layer of the paper;
- both paths read one LayerNorm; the GRU's state enters the mixture as it is, without an output
  map, and the MLP is GELU with biases;
- the GRU and the gate come on top of a whole Transformer block, so that TGN has 35 to 43 % more
  parameters than the Transformer beside it.

A gate can be forced or hardened here as in our own models: the published code has no hard gate
for its language models.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tgn.models.attention import Cache, append, attend, check_length, key_value_cache
from tgn.models.config import ModelConfig
from tgn.models.decoder import Output, new_cache, output, run_blocks
from tgn.models.gated import Gated
from tgn.models.hard_attention import HardGate
from tgn.models.recurrent import GRU

GATE_WIDTH = 64


class Attention(nn.Module):
    """Causal attention with one map for queries, keys and values, and biases."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.context = config.heads, config.context
        self.channels = config.width // config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.dropout = config.dropout

    def forward(
        self, x: Tensor, cache: Cache | None = None, hard: object = None
    ) -> tuple[Tensor, None]:
        """x, y: (B, T, d). With a cache, x holds the tokens after those in the cache."""
        queries, keys, values = (self._split(part) for part in self.qkv(x).chunk(3, dim=-1))
        if cache is not None:
            keys, values = append(cache, keys, values)
        y = attend(queries, keys, values, self.dropout if self.training else 0.0)
        y = self.out(y.transpose(1, 2).flatten(2))
        return F.dropout(y, self.dropout, self.training), None

    def queries(self, x: Tensor, positions: object = None) -> Tensor:
        """(B, heads, n, d_head) for the inputs (B, n, d)."""
        width = self.qkv.in_features
        return self._split(F.linear(x, self.qkv.weight[:width], self.qkv.bias[:width]))

    def keys_values(self, x: Tensor, cache: Cache | None = None) -> tuple[Tensor, Tensor, int]:
        """Keys and values of cache and x together, and how many were cached."""
        start = 0 if cache is None else int(cache["length"])
        width = self.qkv.in_features
        both = F.linear(x, self.qkv.weight[width:], self.qkv.bias[width:])
        keys, values = (self._split(part) for part in both.chunk(2, dim=-1))
        if cache is not None:
            keys, values = append(cache, keys, values)
        return keys, values, start

    def new_cache(
        self, batch: int, device: torch.device | None = None, dtype: torch.dtype = torch.float32
    ) -> Cache:
        """Room for the keys and values of one context."""
        return key_value_cache(batch, self.heads, self.context, self.channels, device, dtype)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class BareGRU(GRU):
    """A GRU whose state is its output."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.out = nn.Identity()


class Gate(nn.Module):
    """g = sigmoid(W2 tanh(W1 h + b1) + b2), b2 = 0 at the start."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, GATE_WIDTH)
        self.linear = nn.Linear(GATE_WIDTH, 1)
        nn.init.zeros_(self.linear.bias)

    def forward(self, h: Tensor) -> Tensor:
        return self.linear(self.hidden(h).tanh()).squeeze(-1).float().sigmoid()


class Block(nn.Module):
    """x + mixer(LayerNorm(x)), then x + MLP(LayerNorm(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.mixer_norm = nn.LayerNorm(config.width)
        self.mixer: Any = make_mixer(config)
        self.mlp_norm = nn.LayerNorm(config.width)
        self.up = nn.Linear(config.width, config.mlp_width)
        self.down = nn.Linear(config.mlp_width, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, cache: Any = None, hard: HardGate | None = None
    ) -> tuple[Tensor, Tensor | None]:
        y, gate = self.mixer(self.mixer_norm(x), cache, hard)
        x = x + y
        return x + self.dropout(self.down(F.gelu(self.up(self.mlp_norm(x))))), gate

    def new_cache(self, batch: int, device: torch.device, dtype: torch.dtype) -> Any:
        return self.mixer.new_cache(batch, device, dtype)


class PublishedDecoder(nn.Module):
    """The published stack; it is called as :class:`tgn.models.decoder.Decoder` is."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Embedding(config.context, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        bound = config.width**-0.5  # of an nn.Linear's weight, which the embedding is tied to
        nn.init.uniform_(self.embedding.weight, -bound, bound)

    def forward(
        self,
        tokens: Tensor,
        cache: dict[str, Any] | None = None,
        hard: HardGate | None = None,
        targets: Tensor | None = None,
    ) -> Output:
        """Read tokens (B, T), the ones after those in the cache if there is one.

        Raises
        ------
        ValueError
            If the sequence is longer than the context.
        """
        start = 0 if cache is None else int(cache["length"])
        end = start + tokens.shape[1]
        check_length(end, self.config.context)
        x = self.embedding(tokens) + self.positions.weight[start:end]
        blocks = None if cache is None else cache["blocks"]
        checkpointing = self.training and self.gradient_checkpointing
        x, gates = run_blocks(self.blocks, x, blocks, hard, checkpointing)
        if cache is not None:
            cache["length"] = end
        return output(self.norm(x), self.embedding.weight, targets, gates)

    def new_cache(self, batch: int) -> dict[str, Any]:
        """An empty cache for decoding, which `forward` fills."""
        return {"length": 0, "blocks": new_cache(self.blocks, batch)}


def make_mixer(config: ModelConfig) -> nn.Module:
    """The mixer that a config names."""
    if config.mixer == "gated":
        return Gated(BareGRU(config), Attention(config), Gate(config.width))
    return BareGRU(config) if config.mixer == "gru" else Attention(config)
