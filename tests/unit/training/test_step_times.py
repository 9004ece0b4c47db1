"""Timed training steps."""

import json

import pandas as pd
import pytest

from tgn.training import step_times

MODEL = {"width": 48, "depth": 1, "heads": 2, "context": 8}
TRAINING = {"optimizer": {"kind": "muon"}, "precision": "no"}


def settings(mixer, match=None):
    return {"model": {**MODEL, "mixer": mixer}, "match": match, "training": TRAINING}


@pytest.fixture
def tokens(tmp_path):
    path = tmp_path / "counts.json"
    path.write_text(json.dumps({"vocabulary": 40}))
    return path


def test_every_model_is_timed_at_every_context(tokens, tmp_path):
    models = {
        "vanilla": settings("attention", {"parameters": settings("gravity")["model"]}),
        "gravity": settings("gravity"),
    }
    step_times.measure(
        models=models, tokens=tokens, contexts=[4, 16], step_tokens=16, repeats=2,
        table=tmp_path / "times.parquet",
    )  # fmt: skip
    table = pd.read_parquet(tmp_path / "times.parquet")
    assert (table["seconds"] > 0).all()
    counted = table.groupby(["model", "context"]).size()
    assert counted.to_dict() == {
        (model, context): 2 for model in ("vanilla", "gravity") for context in (4, 16)
    }


def test_a_model_that_cannot_be_made_is_refused(tokens, tmp_path):
    with pytest.raises(ValueError, match="mixer"):
        step_times.measure(
            models={"odd": settings("levity")}, tokens=tokens, contexts=[4], step_tokens=4,
            repeats=1, table=tmp_path / "times.parquet",
        )  # fmt: skip
    assert not (tmp_path / "times.parquet").exists()
