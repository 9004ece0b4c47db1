"""The published language models, defects kept: they show what their curves are.

Two stacks: of TGN, and of the Newton Gravity Transformer (:class:`PublishedGravity`).

What differs in the first from :mod:`tgn.models.decoder`:

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
from torch.utils.checkpoint import checkpoint

from tgn.models.attention import Cache, append, attend, key_value_cache
from tgn.models.config import ModelConfig
from tgn.models.decoder import Output, Positioned, output, run_blocks
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


class PublishedDecoder(Positioned):
    """The published stack; it is called as :class:`tgn.models.decoder.Decoder` is."""

    bias: nn.Parameter | None

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
        self.register_parameter("bias", None)  # of the head: the gravity project's Transformer's

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
        positions = self.positions_of(tokens, cache)
        x = self.embedding(tokens) + self.positions.weight[positions]
        blocks = None if cache is None else cache["blocks"]
        checkpointing = self.training and self.gradient_checkpointing
        x, gates = run_blocks(self.blocks, x, blocks, hard, checkpointing)
        x, weight = with_bias(self.norm(x), self.embedding.weight, self.bias)
        return output(x, weight, targets, gates)


def make_mixer(config: ModelConfig) -> nn.Module:
    """The mixer that a config names."""
    if config.mixer == "gated":
        return Gated(BareGRU(config), Attention(config), Gate(config.width))
    return BareGRU(config) if config.mixer == "gru" else Attention(config)


def with_bias(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Inputs and weight of a head with its bias as one more channel; cross-entropy knows none."""
    if bias is None:
        return x, weight
    ones = x.new_ones(*x.shape[:-1], 1)
    return torch.cat([x, ones], dim=-1), torch.cat([weight, bias[:, None]], dim=1)


class GravityBlock(nn.Module):
    """One block of the Newton Gravity Transformer, in which the far and the light attract.

    The score of token j for token i is ``m_i m_j (beta - gamma / (d2_ij + 1e-6))``, without m_i m_j
    if masses act on values: the nearer a token, the lower. It is masked where d2 > R^2 (``hard``)
    or, for ``soft``, multiplied by max(0, 1 - d2 / R^2), which moves it up, since it is negative.
    One R a layer; a hard one has no gradient. Coordinates go on as LayerNorm(z + W attention's
    output).

    Attributes
    ----------
    moved_by : str
        What W maps: what was ``drawn`` by attention; in older versions the ``hidden`` state before
        it, or the ``coordinates`` themselves. See :mod:`tgn.models.published_checkpoints`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, coordinates = config.width, config.coordinates
        self.heads, self.axes, self.context = config.heads, config.head_coordinates, config.context
        self.channels = width // config.heads
        self.mass, self.cutoff = config.mass, config.cutoff
        self.moved_by = "drawn"
        self.mixer_norm = nn.LayerNorm(width)
        self.place = nn.Linear(coordinates, config.heads * config.head_coordinates)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.drift = nn.Linear(width, coordinates)
        self.coordinate_norm = nn.LayerNorm(coordinates)
        self.gamma = nn.Parameter(torch.zeros(config.heads))
        self.beta = nn.Parameter(torch.zeros(config.heads))
        self.radius = nn.Parameter(torch.tensor(4.0))
        self.mlp_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, config.mlp_width)
        self.down = nn.Linear(config.mlp_width, width)
        self.dropout = config.dropout

    def forward(
        self, x: Tensor, z: Tensor, masses: Tensor, cache: Cache | None = None
    ) -> tuple[Tensor, Tensor]:
        """x (B, T, d), z (B, T, C) after the block; with a cache, the tokens after those in it."""
        y, length = self.mixer_norm(x), x.shape[1]
        places = self._split(self.place(z))
        values = self._split(self.value(y))
        heavy = masses[:, None, :, None].expand(-1, self.heads, -1, 1)
        kept = torch.cat([places, heavy], dim=-1)
        if cache is not None:
            kept, values = append(cache, kept, values)
        a = self.weights(kept[..., :-1], kept[:, 0, :, -1], length).to(values.dtype)
        if self.mass == "value":
            values = values * kept[..., -1:].to(values.dtype)
        drawn = F.dropout(a, self.dropout, self.training) @ values
        drawn = self.out(drawn.transpose(1, 2).flatten(2))
        mover = {"drawn": drawn, "hidden": y, "coordinates": z}[self.moved_by]
        z = self.coordinate_norm(z + self.drift(mover))
        x = x + drawn
        inner = F.dropout(F.gelu(self.up(self.mlp_norm(x))), self.dropout, self.training)
        return x + F.dropout(self.down(inner), self.dropout, self.training), z

    def weights(self, places: Tensor, masses: Tensor, last: int) -> Tensor:
        """(B, heads, n, T) of the last n tokens at places (B, heads, T, axes), masses (B, T)."""
        length = places.shape[2]
        here, tokens = length - last, torch.arange(length, device=places.device)
        places, masses = places.float(), masses.float()
        d2 = (places[:, :, here:, None] - places[:, :, None]).square().sum(-1)
        gamma, beta = (p[:, None, None] for p in (F.softplus(self.gamma), self.beta))
        score = beta - gamma / (d2 + 1e-6)
        if self.mass == "score":
            score = score * (masses[:, here:, None] * masses[:, None])[:, None]
        radius2, least = F.softplus(self.radius).square(), torch.finfo(score.dtype).min
        if self.cutoff == "hard":
            score = score.masked_fill(d2 > radius2, least)
        elif self.cutoff == "soft":
            score = score * F.relu(1 - d2 / radius2)
        return score.masked_fill(tokens > tokens[here:, None], least).softmax(dim=-1)

    def new_cache(
        self, batch: int, device: torch.device | None = None, dtype: torch.dtype = torch.float32
    ) -> Cache:
        """Room for the places, masses and values of one context."""
        shape = (batch, self.heads, self.context)
        return {
            "keys": torch.zeros(*shape, self.axes + 1, device=device, dtype=dtype),
            "values": torch.zeros(*shape, self.channels, device=device, dtype=dtype),
            "length": torch.zeros((), dtype=torch.int64),
        }

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class PublishedGravity(Positioned):
    """The published Newton Gravity Transformer; called as :class:`tgn.models.decoder.Decoder` is.

    The token embedding, N(0, 1), is also the output head: the loss starts far above that of
    guessing. Coordinates start as a learned table of positions. While it trains,
    `Output.repulsion` is that of the coordinates after the last block, which attention no longer
    reads.
    """

    priced = "repulsion"
    head: nn.Parameter | None

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.masses = nn.Embedding(config.vocabulary, 1)
        self.positions = nn.Embedding(config.context, config.coordinates)
        self.blocks = nn.ModuleList(GravityBlock(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.bias = nn.Parameter(torch.zeros(config.vocabulary))
        self.register_parameter("head", None)  # its weight, which older versions have untied

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
        positions = self.positions_of(tokens, cache)
        x = self.embedding(tokens)
        z = self.positions.weight[positions].expand(len(tokens), -1, -1)
        masses = F.softplus(self.masses(tokens)).squeeze(-1)
        blocks = [None] * len(self.blocks) if cache is None else cache["blocks"]
        for block, kept in zip(self.blocks, blocks, strict=True):
            if self.training and self.gradient_checkpointing and cache is None:
                x, z = checkpoint(block, x, z, masses, use_reentrant=False)
            else:
                x, z = block(x, z, masses, kept)
        weight = self.embedding.weight if self.head is None else self.head
        result = output(*with_bias(self.norm(x), weight, self.bias), targets, None)
        return result._replace(repulsion=repulsion(z, masses)[None]) if self.training else result


def repulsion(z: Tensor, masses: Tensor) -> Tensor:
    """Mean over pairs of m_i m_j / max(d2_ij, 1e-6), of up to 64 positions drawn at random.

    z (B, T, C), masses (B, T).
    """
    count = min(z.shape[1], 64)
    if count < 2:
        return z.new_zeros(())
    chosen = torch.randperm(z.shape[1], device=z.device)[:count]
    z, masses = z[:, chosen].float(), masses[:, chosen].float()
    d2 = (z[:, :, None] - z[:, None]).square().sum(-1)
    pairs = torch.ones(count, count, dtype=torch.bool, device=z.device).triu(1)
    return ((masses[:, :, None] * masses[:, None]) / d2.clamp(min=1e-6))[:, pairs].mean()
