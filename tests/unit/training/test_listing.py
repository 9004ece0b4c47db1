"""Trained models side by side, as their folders tell."""

import csv
import io as text_io
import json

import pandas as pd
import pytest
import torch

from tgn.cli import main
from tgn.models import ModelConfig, build, io
from tgn.training.listing import COLUMNS, list_runs, render, write

SIZES = {"vocabulary": 20, "width": 16, "depth": 2, "heads": 2, "context": 8}


def made(folder, losses, **settings):
    """A finished run: a model with its curve and its evaluation."""
    model = build(ModelConfig(**SIZES, **settings))
    about = {"arm": folder.name, "seed": 3, "penalty": 0.05}
    io.save(folder, model, model.config, metadata=about)
    curve = {"step": range(0, 10 * len(losses), 10), "validation_loss": losses}
    pd.DataFrame(curve).to_parquet(folder / "metrics.parquet")
    split = {"nats": 300.0, "tokens": 100}
    (folder / "evaluation.json").write_text(json.dumps({"validation": split, "test": split}))
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    made(tmp_path / "runs" / "vanilla", [3.0, 2.5, None, 2.0])
    made(
        tmp_path / "runs" / "ngt", [3.0, 1.5, 1.75, None],
        mixer="gravity", recipe="as_published", mass="value", cutoff="hard",
    )  # fmt: skip
    (tmp_path / "runs" / "other").mkdir()
    (tmp_path / "runs" / "other" / "config.json").write_text("{}")  # of something else
    return tmp_path / "runs"


def test_a_row_tells_what_its_folder_holds(folder):
    runs = list_runs([folder])
    assert list(runs.columns) == list(COLUMNS)
    assert runs["arm"].tolist() == ["ngt", "vanilla"]
    ngt, vanilla = (runs.iloc[k] for k in range(2))
    assert ngt["settings"] == "mass=value cutoff=hard recipe=as_published penalty=0.05"
    assert vanilla["settings"] == ""  # it has nothing to pay for
    assert (ngt["best_validation"], ngt["best_step"], ngt["final_validation"]) == (1.5, 10, 1.75)
    assert (vanilla["best_validation"], vanilla["best_step"], vanilla["steps"]) == (2.0, 30, 30)
    assert vanilla["test"] == vanilla["validation"] == 3.0
    assert vanilla["seed"] == 3
    assert vanilla["parameters"] == made(folder / "again", [1.0])
    assert ngt["path"] == str(folder / "ngt")


def test_a_model_alone_is_listed_without_its_numbers(tmp_path):
    model = build(ModelConfig(**SIZES))
    io.save(tmp_path, model, model.config, metadata={"arm": "alone", "best": True})
    row = list_runs([tmp_path]).iloc[0]
    assert row["arm"] == "alone (best)"
    assert pd.isna(row["best_validation"])
    assert pd.isna(row["steps"])


def test_the_command_prints_each_form(folder, capsys):
    assert main(["runs", str(folder / "vanilla"), str(folder / "ngt"), "--format", "csv"]) == 0
    rows = list(csv.DictReader(text_io.StringIO(capsys.readouterr().out)))
    assert [row["arm"] for row in rows] == ["vanilla", "ngt"]
    assert rows[1]["best_validation"] == "1.5"
    assert main(["runs", str(folder), "--format", "markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"| {' | '.join(COLUMNS)} |" in lines
    assert sum(line.startswith("| ngt |") for line in lines) == 1
    assert main(["runs", str(folder)]) == 0
    head, *rest = capsys.readouterr().out.splitlines()
    assert head.split() == list(COLUMNS)
    assert len(rest) == 2


def test_best_weights_inside_a_run_are_no_row_of_their_own(folder):
    model = build(ModelConfig(**SIZES))
    io.save(folder / "ngt" / "best", model, model.config, metadata={"arm": "ngt", "best": True})
    assert list_runs([folder])["arm"].tolist() == ["ngt", "vanilla"]
    assert list_runs([folder / "ngt" / "best"])["arm"].tolist() == ["ngt (best)"]


def test_a_folder_without_models_is_named(tmp_path, capsys):
    assert main(["runs", str(tmp_path)]) == 1
    assert f"no trained model in {tmp_path}" in capsys.readouterr().err


def test_both_files_are_written(folder, tmp_path):
    evaluated = sorted(folder.glob("*/evaluation.json"))
    write(evaluated=evaluated, table=tmp_path / "runs.csv", page=tmp_path / "runs.md")
    assert (tmp_path / "runs.csv").read_text() == render(list_runs([folder]), "csv")
    assert (tmp_path / "runs.md").read_text() == render(list_runs([folder]), "markdown")
