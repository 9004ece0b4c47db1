"""Language models: one decoder stack, in which the mixer of tokens is a named part."""

from tgn.models.as_published import PublishedDecoder, PublishedGravity
from tgn.models.config import ModelConfig
from tgn.models.decoder import Decoder, Output
from tgn.models.gated import force_gate
from tgn.models.gravity import GravityDecoder
from tgn.models.hard_attention import HardGate

__all__ = [
    "Decoder",
    "GravityDecoder",
    "HardGate",
    "Model",
    "ModelConfig",
    "Output",
    "PublishedDecoder",
    "PublishedGravity",
    "build",
    "force_gate",
]


Model = Decoder | PublishedDecoder | GravityDecoder | PublishedGravity


def build(config: ModelConfig) -> Model:
    """The model that a config describes, freshly initialised from torch's global generator."""
    gravity = config.mixer == "gravity"
    if config.recipe == "as_published":
        return PublishedGravity(config) if gravity else PublishedDecoder(config)
    return GravityDecoder(config) if gravity else Decoder(config)
