"""What a language model is made of: one frozen record, so that one arm is one line of YAML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

RECURRENT = ("gru", "mingru", "mamba")
MIXERS = ("attention", *RECURRENT, "gated", "gravity")
GEOMETRIC = ("attention",)
WIRINGS = ("parallel", "sequential")
GATES = ("linear", "constant", "random")
GATE_FORMS = ("soft", "straight_through", "hard_concrete")
MASSES = ("score", "value", "none")
CUTOFFS = ("soft", "hard", "none")
RECIPES = ("ours", "as_published")


@dataclass(frozen=True)
class ModelConfig:
    """A decoder-only language model.

    Parameters
    ----------
    vocabulary, width, depth, heads : int
        Tokens, channels d, blocks and attention heads.
    context : int
        Longest sequence, in tokens.
    mlp_width : int
        Hidden channels of the MLP; 0 stands for 4 * width.
    mixer : str
        What mixes tokens: ``attention``, ``gru``, ``mingru``, ``mamba``, ``gated`` (TGN) or
        ``gravity`` (NGT).
    inertial, geometric : str, optional
        The two paths of a gated mixer; geometric is ``attention`` when not given.
    wiring : str
        What the geometric path reads: in ``parallel`` what the inertial path reads, in
        ``sequential`` the inertial state.
    gate : str
        ``linear`` (read from the inertial state), or a control without parameters: ``constant``
        at sigmoid(gate_bias), or ``random``, open with that probability, drawn anew each time.
    gate_form : str
        ``soft`` (sigmoid), ``straight_through`` or ``hard_concrete``.
    gate_bias : float
        Bias of the gate at the start; at 0, as published, g = 0.5.
    state_size : int
        States of each channel in a Mamba mixer.
    short_convolution : bool
        Whether the mixer of every block reads its input through a causal convolution over 4
        tokens, as Mamba, in itself, always does.
    rotary : bool
        Whether attention knows positions, by rotation. Without, it knows no order but that of the
        causal mask and of a short convolution.
    coordinates, head_coordinates : int
        Of a token in a gravity mixer, and how many of their combinations each head measures
        distances in; 0 coordinates stand for width / 8.
    mass : str
        Where masses act in a gravity mixer: in the ``score``, on the ``value``, or ``none``.
    cutoff : str
        Of gravity at a learned radius: ``soft``, ``hard`` (at a fixed one) or ``none``.
    tied : bool
        Whether the output head is the token embedding. With small models it is a large share of
        the parameters (half of them at vocabulary 4096, width 128, 4 layers), which blocks use
        better.
    dropout : float
        On the outputs of sublayers while training; the published models have 0.1.
    recipe : str
        ``ours``, or ``as_published`` with the published defects, see
        :mod:`tgn.models.as_published`.

    Raises
    ------
    ValueError
        If a value is out of range or does not go with another.
    """

    vocabulary: int
    width: int
    depth: int
    heads: int
    context: int
    mlp_width: int = 0
    mixer: str = "attention"
    inertial: str | None = None
    geometric: str | None = None
    wiring: str = "parallel"
    gate: str = "linear"
    gate_form: str = "soft"
    gate_bias: float = 0.0
    state_size: int = 16
    short_convolution: bool = False
    rotary: bool = True
    coordinates: int = 0
    head_coordinates: int = 16
    mass: str = "score"
    cutoff: str = "soft"
    tied: bool = True
    dropout: float = 0.0
    recipe: str = "ours"

    def __post_init__(self) -> None:
        if not self.mlp_width:
            object.__setattr__(self, "mlp_width", 4 * self.width)
        if not self.coordinates:
            object.__setattr__(self, "coordinates", max(1, self.width // 8))
        if self.mixer == "gated" and self.geometric is None:
            object.__setattr__(self, "geometric", "attention")
        for name in (
            "vocabulary", "width", "depth", "heads", "context", "mlp_width", "state_size",
            "coordinates", "head_coordinates",
        ):  # fmt: skip
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}")
        self._check_choice("mixer", MIXERS)
        self._check_choice("wiring", WIRINGS)
        self._check_choice("gate", GATES)
        self._check_choice("gate_form", GATE_FORMS)
        self._check_choice("mass", MASSES)
        self._check_choice("cutoff", CUTOFFS)
        self._check_choice("recipe", RECIPES)
        if self.mixer == "gated":
            self._check_choice("inertial", RECURRENT)
            self._check_choice("geometric", GEOMETRIC)
        else:
            for name in ("inertial", "geometric"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} is for mixer: gated, but the mixer is {self.mixer}")
        if self.attends and self.width % (2 * self.heads):
            raise ValueError(
                f"width {self.width} cannot be cut into {self.heads} heads of an even number of "
                "channels"
            )
        if self.mixer == "gravity" and self.width % self.heads:
            raise ValueError(f"width {self.width} cannot be cut into {self.heads} heads")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        if self.recipe == "as_published":
            self._check_published()

    @property
    def attends(self) -> bool:
        """Whether any part is attention."""
        return self.mixer == "attention" or self.geometric == "attention"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """The config with these values.

        Raises
        ------
        ValueError
            If a name is unknown, a required one is missing, or a value is refused.
        """
        names = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - names):
            raise ValueError(
                f"unknown model settings {', '.join(unknown)}; known are {', '.join(sorted(names))}"
            )
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"model settings: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """All values by name, plain enough for JSON."""
        return asdict(self)

    def _check_choice(self, name: str, allowed: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")

    def _check_published(self) -> None:
        known = ("attention", "gru", "gated", "gravity")
        if self.mixer not in known or self.inertial not in (None, "gru"):
            raise ValueError(
                f"recipe as_published knows the mixers {', '.join(known)}, gated with inertial: gru"
            )
        ours = (
            "wiring", "gate", "gate_form", "gate_bias", "short_convolution", "rotary", "tied",
        )  # fmt: skip
        defaults = {field.name: field.default for field in fields(self)}
        if changed := [name for name in ours if getattr(self, name) != defaults[name]]:
            raise ValueError(f"recipe as_published has no choice of {', '.join(changed)}")
