"""A wrong configuration is refused with the key, what was given, and what is allowed."""

from pathlib import Path

import pytest
from snakemake.utils import update_config

from tgn.config import SCALES, check, completed, load, read_yaml, scale_overlay, without_null_arms

ROOT = Path(__file__).parents[2]

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["lr"],
    "properties": {
        "lr": {"type": "number", "exclusiveMinimum": 0},
        "steps": {"type": "integer", "default": 10},
        "kind": {"enum": ["a", "b"]},
        "arms": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "properties": {"skip": {"type": "boolean", "default": True}},
            },
        },
    },
}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"lr": "3e-4"}, ["lr", "'3e-4'", "number", "3.0e-4"]),
        ({"lr": "fast"}, ["lr", "'fast'", "number"]),
        ({"lr": 1.0, "stesp": 3}, ["stesp", "steps"]),
        ({"lr": 1.0, "steps": "x"}, ["steps: 'x' given, an integer is needed"]),
        ({"lr": -1.0}, ["lr", "-1.0", "0"]),
        ({"lr": 1.0, "kind": "c"}, ["kind", "'c'", "a, b"]),
        ({}, ["missing key lr"]),
        ({"lr": 1.0, "arms": {"x": {"skip": 1}}}, ["arms.x.skip", "1", "boolean"]),
    ],
)
def test_faults_are_explained(config, words):
    with pytest.raises(ValueError, match="configuration is wrong") as fault:
        check(config, SCHEMA)
    for word in words:
        assert word in str(fault.value)


def test_text_that_is_no_number_gets_no_hint_on_exponents():
    with pytest.raises(ValueError, match="lr") as fault:
        check({"lr": "fast"}, SCHEMA)
    assert "3.0e-4" not in str(fault.value)


def test_all_faults_are_told_at_once():
    with pytest.raises(ValueError, match="lr") as fault:
        check({"lr": "x", "kind": "c"}, SCHEMA)
    assert "kind" in str(fault.value)


def test_defaults_are_filled_in_at_every_depth_and_nothing_is_overwritten():
    given = {"lr": 1.0, "arms": {"x": {}, "y": {"skip": False}}}
    full = completed(given, SCHEMA)
    assert full == {"lr": 1.0, "steps": 10, "arms": {"x": {"skip": True}, "y": {"skip": False}}}
    assert given["arms"]["x"] == {}


def test_the_scale_names_its_overlay():
    assert scale_overlay({"default_scale": "laptop"}) == "config/scales/laptop.yaml"
    overlay = scale_overlay({"default_scale": "laptop", "scale": "smoke"})
    assert overlay == "config/scales/smoke.yaml"
    with pytest.raises(ValueError, match="'huge' given; allowed are laptop, paper, smoke"):
        scale_overlay({"default_scale": "laptop", "scale": "huge"})


@pytest.mark.parametrize("scale", SCALES)
def test_a_project_is_read_as_snakemake_reads_it(scale):
    config = load(scale, ROOT)
    expected = read_yaml(ROOT / "config.yaml") | {"scale": scale}
    update_config(expected, read_yaml(ROOT / f"config/scales/{scale}.yaml") or {})
    expected = completed(expected, read_yaml(ROOT / "config/schema.yaml"))
    assert config == without_null_arms(expected)
