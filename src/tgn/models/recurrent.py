"""The inertial paths: a GRU and a minGRU, each a state that carries over time and an output map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tgn.models.config import ModelConfig
from tgn.models.scans import min_gru

Cache = dict[str, Tensor]

TAPS = 4  # tokens a short convolution sees
LONGEST_MEMORY = 256.0  # tokens, of a fresh minGRU


class Recurrent(nn.Module):
    """What the recurrent mixers share.

    A subclass computes ``recur(x, h0) -> h``, with x (B, T, d), h (B, T, inner), and h0 (B, inner)
    or None. Caches hold the last state.
    """

    out: nn.Module

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.inner = config.width
        self.out = nn.Linear(self.inner, config.width, bias=False)

    def forward(
        self, x: Tensor, cache: Cache | None = None, hard: object = None
    ) -> tuple[Tensor, None]:
        """x, y: (B, T, d). With a cache, x holds the tokens after those in the cache."""
        return self.out(self.state(x, cache)), None

    def state(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """The state after each token, (B, T, inner): what a gate reads."""
        h = self.recur(x, None if cache is None else cache["state"])
        if cache is not None:
            cache["state"].copy_(h[:, -1])
        return h

    def recur(self, x: Tensor, h0: Tensor | None) -> Tensor:
        raise NotImplementedError

    def new_cache(
        self, batch: int, device: torch.device | None = None, dtype: torch.dtype = torch.float32
    ) -> Cache:
        """A state of zeros, never in half precision."""
        wide = torch.promote_types(dtype, torch.float32)
        return {"state": torch.zeros(batch, self.inner, device=device, dtype=wide)}


class GRU(Recurrent):
    """torch's gated recurrent unit (Cho et al. 2014), the published inertial path."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.cell = nn.GRU(config.width, self.inner, batch_first=True)

    def recur(self, x: Tensor, h0: Tensor | None) -> Tensor:
        return self.cell(x, None if h0 is None else h0[None].to(x.dtype))[0]


class MinGRU(Recurrent):
    """h_t = (1 - z_t) h_{t-1} + z_t c_t, where z and c see x_t alone (Feng et al. 2024, "Were
    RNNs all we needed?"), so that all times are one linear scan.

    At the start the channels forget at rates z spread evenly in the logarithm, from one token to
    256 (after Tallec and Ollivier 2018).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.update = nn.Linear(config.width, self.inner)
        self.candidate = nn.Linear(config.width, self.inner, bias=False)
        memory = LONGEST_MEMORY ** torch.linspace(0, 1, self.inner + 1)[1:]
        with torch.no_grad():
            self.update.bias.copy_(-torch.log(memory - 1))

    def recur(self, x: Tensor, h0: Tensor | None) -> Tensor:
        return min_gru(self.update(x), self.candidate(x), h0)


class ShortConvolution(nn.Module):
    """A causal convolution over the last few tokens, each channel for itself.

    It begins as the identity. A sum of shifted copies, for T much larger than the taps.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        taps = torch.zeros(TAPS, width)
        taps[-1] = 1
        self.taps = nn.Parameter(taps)

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """x, y: (B, T, d)."""
        if cache is None:
            before = x.new_zeros(x.shape[0], TAPS - 1, x.shape[2])
        else:
            before = cache["inputs"].to(x.dtype)
        padded = torch.cat([before, x], dim=1)
        if cache is not None:
            cache["inputs"].copy_(padded[:, -(TAPS - 1) :])
        steps = x.shape[1]
        return sum(tap * padded[:, k : k + steps] for k, tap in enumerate(self.taps))

    def new_cache(
        self, batch: int, device: torch.device | None = None, dtype: torch.dtype = torch.float32
    ) -> Cache:
        """The inputs before the first token: zeros."""
        shape = (batch, TAPS - 1, self.taps.shape[1])
        return {"inputs": torch.zeros(shape, device=device, dtype=dtype)}
