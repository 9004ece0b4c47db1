"""docs/gravity.md names flags, settings, tests and files that exist."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from tgn.models import ModelConfig

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/gravity.md").read_text(encoding="utf-8")
# The published trainer's, as its own help lists them.
FLAGS = [
    "dataset", "data-path", "checkpoint-path", "resume", "batch-size", "block-size", "max-steps",
    "eval-interval", "eval-iters", "vis-interval", "learning-rate", "grad-clip", "hidden-dim",
    "coord-dim", "num-layers", "num-heads", "mlp-dim", "dropout", "no-radius-cutoff",
    "no-repulsion", "use-rsqrt", "mass-in-value", "use-soft-cutoff", "lambda-repulsion",
    "repulsion-interval", "use-amp", "warmup-steps", "use-cosine-schedule", "tokenizer",
    "bpe-vocab-size", "tokenizer-path", "run-name", "seed", "gradient-accumulation-steps",
]  # fmt: skip


@pytest.mark.parametrize("flag", FLAGS)
def test_every_published_flag_has_a_row(flag):
    assert re.search(rf"^\| `--{flag}[ `]", PAGE, re.MULTILINE)


def test_the_settings_that_it_names_are_known():
    model = {name for name in re.findall(r"`model\.(?!safetensors)(\w+)", PAGE)}
    assert model
    assert model <= {field.name for field in fields(ModelConfig)}
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    trained = {name for name in re.findall(r"`training\.(\w+)", PAGE)}
    known = config["language_model"]["training"] | config["shakespeare"]["training"]
    assert trained
    assert trained <= known.keys()
    arms = re.findall(r"`(no_radius|hard_radius|no_repulsion|mass_in_value|combination)`", PAGE)
    assert len(set(arms)) == 5
    assert set(arms) <= config["gravity"]["arms"].keys()


def test_the_files_that_it_names_are_there():
    named = set(re.findall(r"`((?:tests|config|benchmarks)/[\w/.]+\.\w+)`", PAGE))
    assert named
    assert not [path for path in named if not (ROOT / path).exists()]
    for script, rows in re.findall(r"^python (\S+) --only (\w+)", PAGE):
        assert rows in (ROOT / script).read_text(encoding="utf-8")
