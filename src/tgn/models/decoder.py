"""The decoder: blocks of a token mixer and an MLP around one residual stream."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tgn.models.attention import TINY, Attention, check_length
from tgn.models.config import ModelConfig
from tgn.models.gated import Gated, make_gate
from tgn.models.hard_attention import HardGate
from tgn.models.head import cross_entropy
from tgn.models.mamba import Mamba
from tgn.models.recurrent import GRU, MinGRU, ShortConvolution


class Output(NamedTuple):
    """What a model returns.

    With targets, `loss` is the mean cross-entropy in nats over the targets that are not -100, and
    `nats` that of each token without gradient, (B, T), 0 where ignored; `logits` is None. Without
    targets, `logits` is (B, T, vocabulary). `gates` is (layers, B, T), None without gates;
    `repulsion` is (layers,) while a gravity model trains, else None.
    """

    logits: Tensor | None
    gates: Tensor | None
    loss: Tensor | None = None
    nats: Tensor | None = None
    repulsion: Tensor | None = None


def norm(x: Tensor) -> Tensor:
    """To unit mean square over channels. Without gains: the matrix that follows has them.

    Under autocast the result is rounded here, once for all matrices that read it.
    """
    device = x.device.type
    size = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    y = x * (x.shape[-1] ** 0.5 / size.clamp(min=TINY))  # F.rms_norm makes more passes
    return y.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else y


def make_mixer(config: ModelConfig) -> nn.Module:
    """The mixer that a config names."""
    if config.mixer == "gated":
        inertial = make_recurrent(config.inertial, config)
        sequential = config.wiring == "sequential"
        geometric = Attention(config, inertial.inner if sequential else None)
        return Gated(inertial, geometric, make_gate(config, inertial.inner), sequential)
    if config.mixer == "attention":
        return Attention(config)
    return make_recurrent(config.mixer, config)


def make_recurrent(name: str | None, config: ModelConfig) -> Any:
    """The recurrent mixer of this name."""
    if name == "mamba":
        return Mamba(config.width, config.state_size)
    return {"gru": GRU, "mingru": MinGRU}[str(name)](config)


class MLP(nn.Module):
    """d -> mlp_width -> d with squared ReLU (So et al. 2021)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.width, config.mlp_width, bias=False)
        self.out = nn.Linear(config.mlp_width, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.up(x).relu_().square())


class Block(nn.Module):
    """x + mixer(norm(x)), then x + MLP(norm(x)). A short convolution may stand before the mixer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.convolution = ShortConvolution(config.width) if config.short_convolution else None
        self.mixer: Any = make_mixer(config)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, cache: Any = None, hard: HardGate | None = None
    ) -> tuple[Tensor, Tensor | None]:
        z = norm(x)
        if self.convolution is not None:
            z = self.convolution(z, cache)
        y, gate = self.mixer(z, cache, hard)
        x = x + self.dropout(y)
        return x + self.dropout(self.mlp(norm(x))), gate

    def new_cache(self, batch: int, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
        """The mixer's cache, with the convolution's in it."""
        cache = self.mixer.new_cache(batch, device, dtype)
        if self.convolution is not None:
            cache |= self.convolution.new_cache(batch, device, dtype)
        return cache


class Decoder(nn.Module):
    """A language model of `depth` blocks.

    Embeddings are normed, so that the stream begins at unit mean square however small the
    embedding is, which as a tied head must be small. The output maps of all sublayers start at
    zero: at the start every block is the identity.

    Attributes
    ----------
    gradient_checkpointing : bool
        Compute blocks again in the backward pass instead of keeping their insides.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.head = None if config.tied else nn.Linear(config.width, config.vocabulary, bias=False)
        nn.init.normal_(self.embedding.weight, std=0.02)
        for name, parameter in self.named_parameters():
            if name.endswith(("out.weight", "out_proj.weight", "head.weight")):
                nn.init.zeros_(parameter)

    def forward(
        self,
        tokens: Tensor,
        cache: list[Any] | None = None,
        hard: HardGate | None = None,
        targets: Tensor | None = None,
    ) -> Output:
        """Read tokens (B, T), the ones after those in the cache if there is one.

        Raises
        ------
        ValueError
            If the sequence is longer than the context of a model that attends.
        """
        x = F.rms_norm(self.embedding(tokens), (self.config.width,))
        x, gates = run_blocks(
            self.blocks, x, cache, hard, self.training and self.gradient_checkpointing
        )
        weight = self.embedding.weight if self.head is None else self.head.weight
        return output(norm(x), weight, targets, gates)

    def new_cache(self, batch: int) -> list[Any]:
        """An empty cache for decoding, which `forward` fills."""
        return new_cache(self.blocks, batch)


def run_blocks(
    blocks: nn.ModuleList,
    x: Tensor,
    cache: list[Any] | None,
    hard: HardGate | None,
    checkpointing: bool,
) -> tuple[Tensor, Tensor | None]:
    """The stream after all blocks, and the gates (layers, B, T) if there are any."""
    gates = []
    for block, kept in zip(blocks, cache or [None] * len(blocks), strict=True):
        if checkpointing and cache is None:
            x, gate = checkpoint(block, x, None, hard, use_reentrant=False)
        else:
            x, gate = block(x, kept, hard)
        gates.append(gate)
    return x, None if gates[0] is None else torch.stack(gates)


def output(x: Tensor, weight: Tensor, targets: Tensor | None, gates: Tensor | None) -> Output:
    """Logits, or with targets the loss."""
    if targets is None:
        return Output(F.linear(x, weight), gates)
    loss, nats = cross_entropy(x, weight, targets)
    return Output(None, gates, loss, nats)


class Positioned(nn.Module):
    """A stack that knows the positions of its tokens: what its decoding shares.

    A subclass has ``config`` and ``blocks``, whose caches stand beside the number of tokens read.
    """

    config: ModelConfig
    blocks: nn.ModuleList

    def positions_of(self, tokens: Tensor, cache: dict[str, Any] | None) -> slice:
        """Positions of tokens (B, T) that come after those in the cache, which then counts them.

        Raises
        ------
        ValueError
            If the sequence is longer than the context.
        """
        start = 0 if cache is None else int(cache["length"])
        end = start + tokens.shape[1]
        check_length(end, self.config.context)
        if cache is not None:
            cache["length"] = end
        return slice(start, end)

    def new_cache(self, batch: int) -> dict[str, Any]:
        """An empty cache for decoding, which `forward` fills."""
        return {"length": 0, "blocks": new_cache(self.blocks, batch)}


def new_cache(blocks: nn.ModuleList, batch: int) -> list[Any]:
    """A cache for each block, in the precision of the weights, or of autocast where it is on."""
    weight = next(blocks.parameters())
    device, dtype = weight.device, weight.dtype
    if torch.is_autocast_enabled(device.type):
        dtype = torch.get_autocast_dtype(device.type)
    parts: list[Any] = list(blocks)
    return [part.new_cache(batch, device, dtype) for part in parts]
