"""An exported model is the checkpoint's, byte for byte, with its papers."""

import json

import pytest
import torch
import yaml

from tgn import provenance
from tgn.cli import main
from tgn.export import export
from tgn.generation import continue_text
from tgn.models import ModelConfig, build, io
from tgn.text.tokens import train_bpe

CONFIG = ModelConfig(
    vocabulary=260, width=16, depth=1, heads=2, context=8, mixer="gated", inertial="mingru"
)


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    folder = tmp_path / "checkpoint"
    tokenizer = train_bpe(["a rose is a rose"], 260)
    io.save(folder, build(CONFIG), CONFIG, tokenizer, {"arm": "tgn", "seed": 3})
    return folder


def test_the_model_is_whole(checkpoint, tmp_path):
    folder = export(checkpoint, tmp_path / "exports" / "tgn")
    assert sorted(file.name for file in folder.iterdir()) == [
        "README.md", "config.json", "model.safetensors", "provenance.json", "tokenizer.json",
    ]  # fmt: skip
    tokens = torch.arange(8)[None]
    assert torch.equal(io.load(folder)(tokens).logits, io.load(checkpoint)(tokens).logits)
    assert continue_text(folder, "a", tokens=5) == continue_text(checkpoint, "a", tokens=5)
    assert [entry.name for entry in (tmp_path / "exports").iterdir()] == ["tgn"]


def test_the_card_says_what_it_is(checkpoint, tmp_path):
    card = (export(checkpoint, tmp_path / "tgn") / "README.md").read_text()
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front)["license"] == "mit"
    count = sum(parameter.numel() for parameter in io.load(checkpoint).parameters())
    assert f"{count:,} parameters" in body
    for row in ('| mixer | `"gated"` |', "| context | `8` |", "| seed | `3` |"):
        assert row in body
    assert "No record of the training run" in body


def test_the_record_of_the_training_goes_along(checkpoint, tmp_path):
    text = tmp_path / "train.npy"
    text.write_bytes(b"tokens")
    with provenance.recording(checkpoint / "provenance.json", config={"steps": 7}, inputs=[text]):
        pass
    folder = export(checkpoint, tmp_path / "tgn")
    record = json.loads((folder / "provenance.json").read_text())
    assert record["training"] == json.loads((checkpoint / "provenance.json").read_text())
    assert record["training"]["config"] == {"steps": 7}
    weights = provenance.checksums([checkpoint / "model.safetensors"])
    assert weights.items() <= record["export"]["inputs"].items()
    card = (folder / "README.md").read_text()
    for path, checksum in record["training"]["inputs"].items():
        assert f"- `{path}`, sha256 `{checksum}`" in card


def test_a_model_without_tokenizer_is_exported_too(tmp_path):
    io.save(tmp_path / "checkpoint", build(CONFIG), CONFIG)
    folder = export(tmp_path / "checkpoint", tmp_path / "tgn")
    assert not (folder / "tokenizer.json").exists()
    assert io.load(folder).config == CONFIG


def test_nothing_is_overwritten(checkpoint, tmp_path):
    with pytest.raises(ValueError, match="is there already: name a new folder"):
        export(checkpoint, checkpoint)
    (tmp_path / "empty").mkdir()
    assert io.load(export(checkpoint, tmp_path / "empty")).config == CONFIG


def test_the_command_says_where_the_model_went(checkpoint, tmp_path, capsys):
    assert main(["export", str(checkpoint), str(tmp_path / "tgn")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'tgn'}\n"


def test_what_is_not_a_model_leaves_nothing_behind(tmp_path, capsys):
    assert main(["export", str(tmp_path / "none"), str(tmp_path / "tgn")]) == 1
    assert "is not a model" in capsys.readouterr().err
    assert not (tmp_path / "tgn").exists()
