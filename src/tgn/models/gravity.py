"""Gravity attention: tokens have places and masses, and the near and the heavy attract.

After the Newton Gravity Transformer. Its published form, in which tokens repel, stands in
:mod:`tgn.models.as_published`. What differs here, each for a reason told in docs/gravity.md: the
sign; a softening length, without which a token would draw itself alone; a window on the weights in
place of one on the scores; distances by products, centred on the first token.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tgn.models.attention import Cache, append
from tgn.models.attraction import attract, exact, weights
from tgn.models.config import ModelConfig
from tgn.models.decoder import MLP, Output, Positioned, norm, output
from tgn.models.hard_attention import HardGate
from tgn.models.recurrent import ShortConvolution

# At the start. Weaker, attention is uniform; at 6 a token draws little but itself.
STRENGTH, SOFTENING, RADIUS, MASS = 4.0, 1.0, 4.0, 1.0
WAVELENGTH = 10_000.0  # the longest of the starting places, in tokens
PROBED = 64  # tokens among which repulsion is measured


class Gravity(nn.Module):
    """Attention by gravity: no queries and keys, but places, and masses that come with the tokens.

    Strength, softening length, radius and the bias to oneself are learned for each head.

    Parameters
    ----------
    config
        Of the model: ``heads``, ``coordinates``, ``head_coordinates``, ``mass``, ``cutoff``.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.context = config.heads, config.context
        self.mass, self.cutoff = config.mass, config.cutoff
        self.channels, self.axes = config.width // config.heads, config.head_coordinates
        self.place = nn.Linear(config.coordinates, config.heads * self.axes, bias=False)
        self.value = nn.Linear(config.width, config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)
        self.log_strength = nn.Parameter(torch.full((config.heads,), STRENGTH).log())
        self.log_softening = nn.Parameter(torch.full((config.heads,), SOFTENING).log())
        self.beta = nn.Parameter(torch.zeros(config.heads))
        learned = config.cutoff == "soft"  # a hard one gives it no gradient
        radius = torch.full((config.heads,), RADIUS).log()
        self.log_radius = nn.Parameter(radius, requires_grad=learned)

    def forward(self, x: Tensor, z: Tensor, masses: Tensor, cache: Cache | None = None) -> Tensor:
        """y (B, T, d) of inputs x (B, T, d) at coordinates z (B, T, C), with masses (B, T).

        With a cache, the arguments hold the tokens after those in the cache.
        """
        with exact(z):
            places = self.place(z).unflatten(-1, (self.heads, self.axes)).transpose(1, 2)
        values = self.value(x).unflatten(-1, (self.heads, self.channels)).transpose(1, 2)
        if self.mass == "value":
            values = values * masses[:, None, :, None].to(values.dtype)
        drawn = masses if self.mass == "score" else torch.ones_like(masses)
        if cache is None:
            y = attract(places, values, drawn, *self.numbers(), self.cutoff)
        else:
            heavy = drawn[:, None, :, None].expand(-1, self.heads, -1, 1)
            kept, values = append(cache, torch.cat([places.float(), heavy], dim=-1), values)
            places, drawn = kept[..., :-1], kept[:, 0, :, -1]
            a = weights(places, drawn, *self.numbers(), self.cutoff, last=x.shape[1])
            y = a.to(values.dtype) @ values
        return self.out(y.transpose(1, 2).flatten(2))

    def numbers(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """gamma, epsilon, squared radius and beta, each (heads,)."""
        squared = (2 * x for x in (self.log_softening, self.log_radius))
        epsilon, radius2 = (x.exp() for x in squared)
        return self.log_strength.exp(), epsilon, radius2, self.beta

    def new_cache(
        self, batch: int, device: torch.device | None = None, dtype: torch.dtype = torch.float32
    ) -> Cache:
        """Room for the places, masses and values of one context."""
        shape = (batch, self.heads, self.context)
        return {
            "keys": torch.zeros(*shape, self.axes + 1, device=device),
            "values": torch.zeros(*shape, self.channels, device=device, dtype=dtype),
            "length": torch.zeros((), dtype=torch.int64),
        }


class GravityBlock(nn.Module):
    """x + gravity(norm(x)), then x + MLP(norm(x)); and coordinates that what was drawn moves on.

    Those of the last block are not moved: nothing would read them.
    """

    def __init__(self, config: ModelConfig, last: bool) -> None:
        super().__init__()
        self.convolution = ShortConvolution(config.width) if config.short_convolution else None
        self.mixer = Gravity(config)
        self.drift = None if last else nn.Linear(config.width, config.coordinates, bias=False)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, z: Tensor, masses: Tensor, cache: Cache | None = None
    ) -> tuple[Tensor, Tensor]:
        y = norm(x)
        if self.convolution is not None:
            y = self.convolution(y, cache)
        y = self.mixer(y, z, masses, cache)
        x = x + self.dropout(y)
        if self.drift is not None:
            with exact(z):
                z = norm(z + self.drift(y.to(z.dtype)))
        return x + self.dropout(self.mlp(norm(x))), z

    def new_cache(self, batch: int, device: torch.device, dtype: torch.dtype) -> Cache:
        """The mixer's cache, with the convolution's in it."""
        cache = self.mixer.new_cache(batch, device, dtype)
        if self.convolution is not None:
            cache |= self.convolution.new_cache(batch, device, dtype)
        return cache


class GravityDecoder(Positioned):
    """A language model of tokens that attract; it is called as `tgn.models.decoder.Decoder` is.

    While it trains, `Output.repulsion` holds what :func:`repulsion` is of each block's coordinates.

    Coordinates begin as those of the position, sines and cosines at first, so that what is near in
    the text is near in space, plus a map of the token. The mass of a token is one number of the
    vocabulary, the same everywhere.
    """

    priced = "repulsion"  # what a penalty in training is on

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.log_masses = nn.Parameter(torch.full((config.vocabulary,), MASS).log())
        self.positions = nn.Parameter(waves(config.context, config.coordinates))
        self.content = nn.Linear(config.width, config.coordinates, bias=False)
        self.blocks = nn.ModuleList(
            GravityBlock(config, last=layer == config.depth - 1) for layer in range(config.depth)
        )
        self.head = None if config.tied else nn.Linear(config.width, config.vocabulary, bias=False)
        nn.init.normal_(self.embedding.weight, std=0.02)
        for name, parameter in self.named_parameters():
            if name.endswith(("out.weight", "head.weight")):
                nn.init.zeros_(parameter)

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
        x = F.rms_norm(self.embedding(tokens), (self.config.width,))
        with exact(x):
            z = norm(self.positions[positions] + self.content(x))
        masses = self.log_masses[tokens].exp()
        blocks = [None] * len(self.blocks) if cache is None else cache["blocks"]
        found = []
        for block, kept in zip(self.blocks, blocks, strict=True):
            if self.training:
                found.append(repulsion(z))
            if self.training and self.gradient_checkpointing and cache is None:
                x, z = checkpoint(block, x, z, masses, use_reentrant=False)
            else:
                x, z = block(x, z, masses, kept)
        weight = self.embedding.weight if self.head is None else self.head.weight
        result = output(norm(x), weight, targets, None)
        return result._replace(repulsion=torch.stack(found)) if found else result


def waves(context: int, coordinates: int) -> Tensor:
    """Sines and cosines of the position, (context, coordinates), of unit mean square."""
    pairs = -(-coordinates // 2)
    rates = WAVELENGTH ** -(torch.arange(pairs, dtype=torch.float64) / pairs)
    angles = torch.arange(context, dtype=torch.float64)[:, None] * rates
    both = torch.stack([angles.cos(), angles.sin()], dim=-1).flatten(1)
    return (2**0.5 * both[:, :coordinates]).float()


def repulsion(z: Tensor) -> Tensor:
    """Mean of 1 / (d2 + 1) over pairs of 64 tokens, evenly taken: the price of being near.

    Bounded, so that tokens at one place pay no more than 1; the published one,
    m_i m_j / d2, grows to a million times the masses and pushes them down.

    Parameters
    ----------
    z : tensor, shape (B, T, C)
    """
    length = z.shape[1]
    if length < 2:
        return z.new_zeros(())
    count = min(length, PROBED)
    z = z[:, torch.arange(count, device=z.device) * length // count].float()
    z = z - z[:, :1]
    norms = z.square().sum(-1)
    with exact(z):
        d2 = (norms[:, None] + norms[..., None] - 2 * z @ z.mT).clamp(min=0)
    pairs = torch.ones(count, count, dtype=torch.bool, device=z.device).triu(1)
    return (1 / (d2[:, pairs] + 1)).mean()
