"""Model settings: what is refused, and the way to a dictionary and back."""

import json

import pytest

from tgn.models import ModelConfig

SMALL = {"vocabulary": 61, "width": 32, "depth": 2, "heads": 2, "context": 64}


def test_defaults():
    config = ModelConfig(**SMALL, mixer="gated", inertial="mingru")
    assert (config.mlp_width, config.geometric, config.wiring) == (128, "attention", "parallel")
    assert ModelConfig(**SMALL, mlp_width=None) == ModelConfig(**SMALL)


def test_a_config_survives_json():
    config = ModelConfig(**SMALL, mixer="gated", inertial="mamba", gate_bias=-1.5, mlp_width=72)
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 0}, "width must be a positive integer, got 0"),
        ({"depth": 2.0}, "depth must be a positive integer, got 2.0"),
        ({"mixer": "convolution"}, "mixer must be one of attention, .*got 'convolution'"),
        ({"mixer": "gated"}, "inertial must be one of gru, mingru, mamba; got None"),
        ({"mixer": "gated", "inertial": "attention"}, "inertial must be one of"),
        ({"inertial": "gru"}, "inertial is for mixer: gated, but the mixer is attention"),
        ({"mixer": "gated", "inertial": "gru", "wiring": "crossed"}, "wiring must be one of"),
        ({"gate_form": "firm"}, "gate_form must be one of"),
        ({"width": 1536, "heads": 20}, "width 1536 cannot be cut into 20 heads"),
        ({"width": 30}, "an even number of channels"),
        ({"dropout": 1.0}, "dropout must be in"),
        ({"recipe": "as_published", "mixer": "mamba"}, "as_published knows the mixers"),
        (
            {"recipe": "as_published", "mixer": "gated", "inertial": "mingru"},
            "as_published knows the mixers",
        ),
        ({"recipe": "as_published", "tied": False}, "as_published has no choice of tied"),
    ],
)
def test_nonsense_is_refused_by_name(values, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**SMALL | values)


def test_a_recurrent_model_has_no_heads_to_fit():
    assert not ModelConfig(**SMALL | {"heads": 5}, mixer="mingru").attends


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (SMALL | {"layers": 3}, "unknown model settings layers; known are .*depth"),
        ({"vocabulary": 61}, "model settings: .*missing"),
    ],
)
def test_dictionaries_with_other_keys_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig.from_dict(values)
