"""TinyShakespeare by the rules of all language models; here a made-up play in its place."""

import json
import subprocess
import sys

import pandas as pd
import pytest
import yaml
from running import ROOT, copy_checkout, snakemake

from tgn.models import io
from tgn.text.tokens import decode, load_tokenizer, open_tokens

HERE = "results/smoke/shakespeare"
SMOKE = ("--config", "scale=smoke")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = copy_checkout(tmp_path_factory.mktemp("shakespeare"))
    run = snakemake(folder, "shakespeare", *SMOKE)
    assert run.returncode == 0, run.stderr[-4000:]
    return folder


def test_both_forms_of_gravity_and_a_transformer_are_trained_and_listed(trained):
    runs = pd.read_csv(trained / HERE / "runs.csv").set_index("arm")
    assert set(runs.index) == {"gravity", "vanilla", "published"}
    assert runs.loc["vanilla", "mixer"] == "attention"
    assert (runs["parameters"] / runs.loc["gravity", "parameters"] - 1).abs().max() <= 0.02
    assert (runs["best_validation"] <= runs["final_validation"]).all()
    assert runs["test"].notna().all()
    assert "| gravity |" in (trained / HERE / "runs.md").read_text()
    for name in ("gravity-0", "vanilla-0", "published-0"):
        last, best = (io.describe(trained / HERE / name / part) for part in ("", "best"))
        assert last["model"] == best["model"]
        record = json.loads((trained / HERE / name / "provenance.json").read_text())
        assert record["revision"]["commit"]


def test_the_text_is_cut_by_position_into_characters(trained):
    text = (trained / "resources/fixture-play/input.txt").read_text()
    folder = trained / HERE / "tokens"
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    train = decode(tokenizer, open_tokens(folder, "train")[:-1])
    assert train == text[: int(0.9 * len(text))]


def test_tensorboard_has_curves_and_coordinates(trained):
    for name in ("gravity-0", "published-0"):
        folder = trained / "results/smoke/tensorboard/shakespeare" / name
        assert list(folder.glob("events.out.tfevents.*"))
        assert (folder / "projector_config.pbtxt").is_file()


def test_one_can_talk_to_a_trained_model(trained):
    run = subprocess.run(
        [sys.executable, "-m", "tgn.cli", "chat", str(trained / HERE / "gravity-0/best"),
         "--tokens", "9"],
        input="ROLE 1:\n/exit\n", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert run.stdout.startswith("Newton Gravity Transformer, ")
    assert "prompt> ROLE 1:" in run.stdout


def test_more_steps_go_on_from_the_end(trained, tmp_path):
    longer = {"shakespeare": {"training": {"steps": 60}}}
    (tmp_path / "longer.yaml").write_text(yaml.safe_dump(longer))
    target = f"{HERE}/vanilla-0/model.safetensors"
    before = pd.read_parquet(trained / HERE / "vanilla-0/metrics.parquet")
    run = snakemake(trained, target, *SMOKE, "--configfile", str(tmp_path / "longer.yaml"))
    assert run.returncode == 0, run.stderr[-4000:]
    said = (trained / "logs/shakespeare/vanilla-0.log").read_text()
    assert "goes on from step 20, of 20 that were planned, to 60" in said
    after = pd.read_parquet(trained / HERE / "vanilla-0/metrics.parquet")
    pd.testing.assert_frame_equal(after[after["step"] <= 20], before)
    assert (after["learning_rate"].iloc[len(before) : -1] > 0).all()
    assert after["validation_loss"].iloc[-1] < before["validation_loss"].iloc[-1]


def test_the_real_text_is_named_where_it_cannot_be_had(tmp_path):
    folder = copy_checkout(tmp_path)
    run = snakemake(folder, "shakespeare", "--notemp")
    assert run.returncode != 0
    said = run.stdout + run.stderr
    entry = yaml.safe_load((ROOT / "config/sources.yaml").read_text())["tinyshakespeare"]
    assert "put there by hand" in said
    for key in ("url", "bytes", "sha256"):
        assert str(entry[key]) in said
    assert "resources/tinyshakespeare/input.txt" in said


@pytest.mark.parametrize(
    "text",
    [
        {"tokenizer": None, "vocabulary": 300},
        {"tokenizer": "tiktoken-gpt2", "vocabulary": None},
    ],
)
def test_other_tokenizers_can_be_chosen(tmp_path, checkout, text):
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"shakespeare": {"text": text}}))
    run = snakemake(
        checkout, "shakespeare", "--dry-run", *SMOKE, "--configfile", str(tmp_path / "own.yaml")
    )
    assert run.returncode == 0, run.stderr[-3000:]
    needed = "resources/tiktoken-gpt2/receipt.json" in run.stdout + run.stderr
    assert needed == (text["tokenizer"] is not None)


def leaves(config, path=()):
    """Every value with its path, in a form that can be compared."""
    for key, value in config.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), json.dumps(value)


def test_what_is_said_beats_what_the_scale_says_for_every_key(tmp_path):
    """Also a value that is the laptop's own: a preset cannot tell it from one not given."""
    folder = copy_checkout(tmp_path / "checkout")
    with open(folder / "Snakefile", "a") as handle:
        handle.write("\nimport json\njson.dump(config, open('config.json', 'w'))\n")

    def configured(*arguments):
        run = snakemake(folder, "--list", *arguments)
        assert run.returncode == 0, run.stderr[-3000:]
        found = json.loads((folder / "config.json").read_text())
        return {section: found[section] for section in ("shakespeare", "gravity")}

    laptop, smoke = configured(), configured(*SMOKE)
    assert laptop != smoke
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(laptop))
    found = configured(*SMOKE, "--configfile", str(tmp_path / "own.yaml"))
    assert dict(leaves(laptop)).items() <= dict(leaves(found)).items()
