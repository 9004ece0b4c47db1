"""Language models: one decoder stack, in which the mixer of tokens is a named part."""

from tgn.models.as_published import PublishedDecoder
from tgn.models.config import ModelConfig
from tgn.models.decoder import Decoder, Output
from tgn.models.gated import force_gate
from tgn.models.hard_attention import HardGate

__all__ = [
    "Decoder",
    "HardGate",
    "ModelConfig",
    "Output",
    "PublishedDecoder",
    "build",
    "force_gate",
]


def build(config: ModelConfig) -> Decoder | PublishedDecoder:
    """The model that a config describes, freshly initialised from torch's global generator."""
    return PublishedDecoder(config) if config.recipe == "as_published" else Decoder(config)
