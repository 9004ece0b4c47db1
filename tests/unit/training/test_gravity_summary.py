"""The summary of gravity's runs: numbers as their files have them, beside the published ones."""

import json
import shutil
from math import exp
from pathlib import Path

import pandas as pd
import pytest
import torch

from tgn.files import write_json, write_table
from tgn.models import ModelConfig, build, io
from tgn.training.gravity_summary import HEAD, read_run, speed, write

PUBLISHED = Path(__file__).parents[3] / "config/gravity_published.csv"
SIZE = {"vocabulary": 50, "width": 16, "depth": 1, "heads": 2, "context": 8}


def make_run(folder, arm, seed=0, nats=3.0, pace=2.0, **model):
    """A run's folder with planted numbers: `nats` per token, `pace` steps per second."""
    config = ModelConfig.from_dict({**SIZE, **model})
    torch.manual_seed(seed)
    io.save(folder, build(config), config, metadata={"arm": arm, "seed": seed})
    split = {"tokens": 100, "bits_per_byte": nats / 2, "word_perplexity": 2 * exp(nats)}
    write_json(
        folder / "evaluation.json",
        {
            "validation": split | {"nats": 100 * nats},
            "test": split | {"nats": 100 * (nats + 0.5)},
        },
    )
    steps = pd.DataFrame(
        [(step, 64 * step, window, 8 * loss, 8)
         for step, loss in ((0, 4.0), (10, nats - 0.25), (20, nats)) for window in (0, 1)],
        columns=["step", "tokens", "window", "nats", "targets"],
    )  # fmt: skip
    write_table(folder / "trajectory.parquet", steps)
    seconds = [0.0, 100.0, 100 + 5 / pace, 100 + 15 / pace]
    write_table(
        folder / "timings.parquet", pd.DataFrame({"step": [0, 5, 10, 20], "seconds": seconds})
    )
    write_json(folder / "provenance.json", {"gpu": [], "cpu": {"model": "a CPU", "count": 2}})
    return folder / "evaluation.json"


@pytest.fixture
def runs(tmp_path):
    return [
        make_run(tmp_path / "vanilla-0", "vanilla", nats=3.5, pace=4.0),
        make_run(tmp_path / "gravity-0", "gravity", mixer="gravity"),
        make_run(
            tmp_path / "published-42", "published", 42, mixer="gravity", recipe="as_published"
        ),
    ]


def rows_of(page):
    """Rows of the page's one table, by column."""
    lines = [line for line in page.read_text().splitlines() if line.startswith("|")]
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    assert head == list(HEAD)
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_a_run_is_read_from_its_own_files(runs):
    found = read_run(runs[1].parent)
    parameters = sum(p.numel() for p in io.load(runs[1].parent).parameters())
    assert found["parameters"] == parameters
    assert (found["arm"], found["seed"], found["tokens"]) == ("gravity", 0, 1280)
    assert found["validation_nats"] == pytest.approx(3.0)
    assert found["test_nats"] == pytest.approx(3.5)
    assert (found["best_nats"], found["best_step"]) == (pytest.approx(2.75), 10)
    assert found["steps_per_second"] == pytest.approx(2.0)


def test_without_the_whole_validation_split_its_loss_is_that_of_the_last_windows(tmp_path):
    path = make_run(tmp_path / "gravity-0", "gravity", nats=3.0, mixer="gravity")
    evaluated = json.loads(path.read_text())
    write_json(path, {"test": evaluated["test"]})
    found = read_run(path.parent)
    assert found["validation_nats"] == pytest.approx(3.0)
    assert found["validation_tokens"] == 16


def test_ours_stand_beside_the_published_run_they_answer_to(runs, tmp_path):
    write(evaluated=runs, published=PUBLISHED, page=tmp_path / "summary.md", text="a text")
    vanilla, gravity, published, *rest = rows_of(tmp_path / "summary.md")
    table = pd.read_csv(PUBLISHED).set_index("arm")
    assert gravity["arm"] == "gravity"
    assert gravity["validation loss (perplexity)"] == f"3.0000 ({exp(3):.2f})"
    assert gravity["best on the way (step)"] == "2.7500 (10)"
    assert gravity["test nats per token"] == "3.5000"
    assert gravity["bits per byte"] == "1.5000"
    assert gravity["steps/s (to the baseline's)"] == "2.000 (0.50)"
    assert gravity["published run"] == "–"
    assert vanilla["its validation loss (perplexity)"] == (
        f"{table.validation_nats['vanilla']:.4f} ({exp(table.validation_nats['vanilla']):.2f})"
    )
    assert published["seed"] == "42"
    assert published["published run"] == table.run["published"]
    ratio = table.steps_per_second["published"] / table.steps_per_second["vanilla"]
    assert published["its steps/s (to its Transformer's)"].endswith(f"({ratio:.2f})")
    shown = {row["published run"] for row in (vanilla, published, *rest)}
    assert shown == set(table.run)
    assert all(row["arm"] == "–" for row in rest)


def test_what_cannot_be_compared_is_said_with_both_sides_numbers(runs, tmp_path):
    write(evaluated=runs, published=PUBLISHED, page=tmp_path / "summary.md", text="a text")
    text = tmp_path.joinpath("summary.md").read_text()
    for words in ("ours a text; published WikiText-103", "ours has 50 tokens, the published 8,192",
                  "ours 0, 42; published 42", "a CPU, 2 CPUs", "163,840"):  # fmt: skip
        assert words in text


def test_without_the_baseline_no_ratio_is_given(runs, tmp_path):
    write(evaluated=runs[1:], published=PUBLISHED, page=tmp_path / "summary.md")
    assert rows_of(tmp_path / "summary.md")[0]["steps/s (to the baseline's)"] == "2.000"


def test_a_folder_that_lacks_a_record_is_named(runs, tmp_path):
    runs[0].with_name("timings.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"timings\.parquet"):
        write(evaluated=runs, published=PUBLISHED, page=tmp_path / "summary.md")
    shutil.rmtree(runs[0].parent)
    with pytest.raises(ValueError, match="not a model of ours"):
        write(evaluated=runs, published=PUBLISHED, page=tmp_path / "summary.md")
    assert not (tmp_path / "summary.md").exists()


def test_speed_leaves_out_the_steps_in_which_kernels_compile():
    timings = pd.DataFrame({"step": [0, 5, 10, 15], "seconds": [0.0, 60.0, 61.0, 62.0]})
    assert speed(timings) == pytest.approx(5)
    assert speed(timings.iloc[:2]) == pytest.approx(5 / 60)
    assert pd.isna(speed(timings.iloc[:1]))


def test_published_perplexities_are_those_of_the_table():
    """As published, to the digits given there."""
    found = pd.read_csv(PUBLISHED).set_index("arm")["validation_nats"].map(exp)
    for arm, perplexity in {"vanilla": 95.14, "published_mass_in_value": 106.01,
                            "published": 120.48}.items():  # fmt: skip
        assert found[arm] == pytest.approx(perplexity, abs=0.02)
