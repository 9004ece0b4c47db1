"""TGN: a recurrent path for every token, and attention where a gate asks for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tgn.models.config import ModelConfig
from tgn.models.hard_attention import HardGate, attend_open

# Of the hard-concrete distribution: temperature and stretch (Louizos et al. 2018, section 4).
TEMPERATURE, LOW, HIGH = 2 / 3, -0.1, 1.1


class Gated(nn.Module):
    """y = (1 - g) inertial + g geometric, with one g in [0, 1] for each token.

    Parameters
    ----------
    inertial
        A recurrent mixer: its state is read by the gate.
    geometric
        An attention layer; in sequential wiring it reads the inertial state.
    gate
        From states (B, T, inner) to g (B, T).
    sequential : bool

    Attributes
    ----------
    forced_gate : None, float or tensor of shape (B, T)
        What replaces g, for controls.
    """

    def __init__(
        self, inertial: Any, geometric: Any, gate: nn.Module, sequential: bool = False
    ) -> None:
        super().__init__()
        self.inertial, self.geometric, self.gate = inertial, geometric, gate
        self.sequential = sequential
        self.forced_gate: float | Tensor | None = None

    def forward(
        self, x: Tensor, cache: dict[str, Any] | None = None, hard: HardGate | None = None
    ) -> tuple[Tensor, Tensor]:
        """x, y: (B, T, d); g: (B, T). With a cache, x holds the tokens after those in it."""
        inertial_cache, geometric_cache = (
            (None, None) if cache is None else (cache["inertial"], cache["geometric"])
        )
        h = self.inertial.state(x, inertial_cache)
        g = self._gate(h)
        y = self.inertial.out(h)
        source = h if self.sequential else x
        if hard is None:
            geometric, _ = self.geometric(source, geometric_cache)
            return mix(y, geometric, g), g
        is_open = g > hard.threshold
        geometric, row, column = attend_open(self.geometric, source, is_open, geometric_cache)
        if len(row) == 0:
            return y, g
        asked = g[row, column]
        weight = torch.ones_like(asked) if hard.open_value == "one" else asked
        return y.index_put((row, column), mix(y[row, column], geometric, weight)), g

    def new_cache(
        self, batch: int, device: torch.device | None = None, dtype: torch.dtype = torch.float32
    ) -> dict[str, Any]:
        """A cache for each path."""
        return {
            "inertial": self.inertial.new_cache(batch, device, dtype),
            "geometric": self.geometric.new_cache(batch, device, dtype),
        }

    def _gate(self, h: Tensor) -> Tensor:
        if self.forced_gate is None:
            return self.gate(h)
        forced = torch.as_tensor(self.forced_gate, dtype=torch.float32, device=h.device)
        return forced.expand(h.shape[:2])


def mix(inertial: Tensor, geometric: Tensor, g: Tensor) -> Tensor:
    """(1 - g) inertial + g geometric, exactly one of the two at g = 0 and g = 1."""
    dtype = inertial.dtype
    return torch.lerp(inertial, geometric.to(dtype), g[..., None].to(dtype))


def force_gate(model: nn.Module, gate: float | Tensor | None) -> None:
    """Replace the gate of every gated mixer of a model; None gives it back.

    Parameters
    ----------
    gate
        A constant, or a tensor of shape (B, T), the same for all layers, or (layers, B, T).

    Raises
    ------
    ValueError
        If the model has no gate, or not as many as the tensor has layers.
    """
    mixers = [part for part in model.modules() if isinstance(part, Gated)]
    if not mixers:
        raise ValueError("the model has no gate to force")
    gates: Sequence[float | Tensor | None] = [gate] * len(mixers)
    if isinstance(gate, Tensor) and gate.ndim == 3:
        if len(gate) != len(mixers):
            raise ValueError(f"gates of {len(gate)} layers for a model with {len(mixers)}")
        gates = list(gate)
    for mixer, forced in zip(mixers, gates, strict=True):
        mixer.forced_gate = forced


class LinearGate(nn.Module):
    """g = sigmoid(w h + b), computed in fp32; w starts at 0, so that g starts equal for all.

    The forms that are hard while training too:

    - ``straight_through``: 1 where sigmoid exceeds 1/2, else 0, with the sigmoid's gradient
      (Bengio et al. 2013);
    - ``hard_concrete``: a sigmoid stretched to (-0.1, 1.1) and cut to [0, 1], with noise while
      training, so that g is exactly 0 or 1 with positive probability (Louizos et al. 2018).
    """

    def __init__(self, inputs: int, bias: float = 0.0, form: str = "soft") -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, 1)
        self.form = form
        nn.init.zeros_(self.linear.weight)
        nn.init.constant_(self.linear.bias, bias)

    def forward(self, h: Tensor) -> Tensor:
        with torch.autocast(h.device.type, enabled=False):
            logit = self.linear(h.to(self.linear.weight.dtype)).squeeze(-1)
        if self.form == "hard_concrete":
            return hard_concrete(logit, noisy=self.training)
        g = logit.sigmoid()
        return straight_through(g) if self.form == "straight_through" else g


class UninformedGate(nn.Module):
    """A control: a gate that does not look at h. Constant, or open at random with probability p."""

    def __init__(self, bias: float, random: bool) -> None:
        super().__init__()
        self.level, self.random = 1 / (1 + math.exp(-bias)), random

    def forward(self, h: Tensor) -> Tensor:
        g = torch.full(h.shape[:2], self.level, device=h.device)
        return g.bernoulli() if self.random else g


def straight_through(g: Tensor) -> Tensor:
    """1 where g > 1/2, else 0; the gradient is that of g."""
    return (g > 0.5).to(g.dtype) + (g - g.detach())


def hard_concrete(logit: Tensor, noisy: bool) -> Tensor:
    """min(1, max(0, stretched s)), s = sigmoid((logit + logistic noise) / temperature).

    Without noise s = sigmoid(logit), as the authors' estimator at test time.
    """
    if noisy:
        u = torch.rand_like(logit).clamp_(1e-6, 1 - 1e-6)
        s = ((logit + u.logit()) / TEMPERATURE).sigmoid()
    else:
        s = logit.sigmoid()
    return (s * (HIGH - LOW) + LOW).clamp(0, 1)


def make_gate(config: ModelConfig, inputs: int) -> nn.Module:
    """The gate that a config names."""
    if config.gate == "linear":
        return LinearGate(inputs, config.gate_bias, config.gate_form)
    return UninformedGate(config.gate_bias, random=config.gate == "random")
