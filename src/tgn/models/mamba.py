"""The mixer of Mamba: short convolution, selective scan, multiplicative gate.

Parameters are named, shaped and initialised as in mamba_ssm's `Mamba` and in the mixer of
transformers, so that state dicts move between the three.

Source: Gu and Dao 2023, "Mamba: linear-time sequence modeling with selective state spaces".
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tgn.models.scans import selective_scan


class Mamba(nn.Module):
    """Mamba-1 on sequences of shape (B, T, width).

    Parameters
    ----------
    width
        Of the residual stream.
    state_size
        States of each inner channel.
    expand
        Inner channels per channel of the stream.
    convolution
        Taps of the causal convolution.
    step_rank
        Rank of the projection to time steps, ``ceil(width / 16)`` when None.
    step_range
        Time steps at initialisation are log-uniform between these.
    step_floor
        Least time step at initialisation.

    Raises
    ------
    ValueError
        If a size is not positive.
    """

    def __init__(
        self,
        width: int,
        state_size: int = 16,
        expand: int = 2,
        convolution: int = 4,
        step_rank: int | None = None,
        step_range: tuple[float, float] = (1e-3, 1e-1),
        step_floor: float = 1e-4,
    ) -> None:
        super().__init__()
        step_rank = math.ceil(width / 16) if step_rank is None else step_rank
        sizes = {
            "width": width,
            "state_size": state_size,
            "expand": expand,
            "convolution": convolution,
            "step_rank": step_rank,
        }
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        self.inner = inner = expand * width
        self.parts = (step_rank, state_size, state_size)
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, convolution, groups=inner)
        self.x_proj = nn.Linear(inner, sum(self.parts), bias=False)
        self.dt_proj = nn.Linear(step_rank, inner)
        self.A_log = nn.Parameter(torch.arange(1.0, state_size + 1).log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, width, bias=False)
        self._initialise_steps(*step_range, step_floor)

    @torch.no_grad()
    def _initialise_steps(self, least: float, most: float, floor: float) -> None:
        """Steps that keep the variance of their inputs, around log-uniform ones (section 3.6)."""
        bound = self.parts[0] ** -0.5
        self.dt_proj.weight.uniform_(-bound, bound)
        logarithms = torch.empty_like(self.dt_proj.bias).uniform_(math.log(least), math.log(most))
        steps = logarithms.exp().clamp(min=floor)
        self.dt_proj.bias.copy_(steps + torch.log(-torch.expm1(-steps)))  # inverse of softplus

    def forward(
        self, x: Tensor, cache: dict[str, Tensor] | None = None, hard: Any = None
    ) -> tuple[Tensor, None]:
        """Mix over time.

        Parameters
        ----------
        x : tensor, shape (B, T, width)
            With a cache, the tokens that follow those it holds.
        cache
            From `new_cache`; brought up to date.
        hard
            Not used: there is no gate between paths here.

        Returns
        -------
        y : tensor, shape (B, T, width)
        gate
            None.

        Raises
        ------
        ImportError
            On a GPU without mamba_ssm.
        """
        return self.out(self.state(x, cache)), None

    def state(self, x: Tensor, cache: dict[str, Tensor] | None = None) -> Tensor:
        """What the output map reads, shape (B, T, inner); arguments as `forward`."""
        u, z = self.in_proj(x).chunk(2, dim=-1)
        u = self._convolved(u, cache)
        step, B, C = self.x_proj(u).split(self.parts, dim=-1)
        # The bias is large against the differences between steps, too large for half precision.
        step = F.linear(step, self.dt_proj.weight)
        step = F.softplus(_at_least_float32(step) + _at_least_float32(self.dt_proj.bias))
        A = -torch.exp(_at_least_float32(self.A_log))
        y, last = selective_scan(
            u, step, A, B, C, self.D, None if cache is None else cache["state"]
        )
        if cache is not None:
            cache["state"] = last
        return y.to(z.dtype) * F.silu(z)

    @property
    def out(self) -> nn.Linear:
        """The output map, by the name that all recurrent mixers give it."""
        return self.out_proj

    def _convolved(self, u: Tensor, cache: dict[str, Tensor] | None) -> Tensor:
        """Causal convolution over time and SiLU, shape (B, T, inner)."""
        reach = self.conv1d.kernel_size[0] - 1
        if cache is None:
            u = F.pad(u, (0, 0, reach, 0))
        else:
            u = torch.cat([cache["convolution"].to(u.dtype), u], dim=1)
            cache["convolution"] = u[:, u.shape[1] - reach :]
        return F.silu(self.conv1d(u.transpose(1, 2)).transpose(1, 2))

    def new_cache(
        self,
        batch: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> dict[str, Tensor]:
        """State before the first token: inputs of the convolution, and the scan's state.

        The latter is never in half precision.
        """
        reach = self.conv1d.kernel_size[0] - 1
        wide = torch.promote_types(dtype, torch.float32)
        return {
            "convolution": torch.zeros(batch, reach, self.inner, device=device, dtype=dtype),
            "state": torch.zeros(batch, *self.A_log.shape, device=device, dtype=wide),
        }


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
