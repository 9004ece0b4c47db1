"""Several models in one job: the tables are those of each by itself, and no model is dropped."""

import json

import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from tgn.models import ModelConfig, build, io
from tgn.probing import model_groups, residual_gain, sheaf, value_output

WORDS = ["<s>", "the", "a", "cat", "dog", "sat", "ran", "on", "mat"]
TEXTS = {"one": "the cat sat on the mat", "two": "a dog ran on the mat"}
CHOICE = {"per_category": None}


@pytest.fixture
def prompts(tmp_path):
    rows = [(name, "factual", "short", text) for name, text in TEXTS.items()]
    path = tmp_path / "prompts.csv"
    pd.DataFrame(rows, columns=["id", "category", "band", "text"]).to_csv(path, index=False)
    return path


@pytest.fixture
def group(tmp_path):
    """Two stacks of one and two blocks, and one whose weights are lost."""
    tokenizer = Tokenizer(models.WordLevel({w: n for n, w in enumerate(WORDS)}, unk_token="<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    files = []
    for depth in (1, 2, 3):
        torch.manual_seed(depth)
        shape = {"vocabulary": len(WORDS), "width": 8, "heads": 2, "context": 16}
        network = build(ModelConfig(**shape, depth=depth))
        io.save(tmp_path / f"depth_{depth}", network, network.config, tokenizer)
        files.append(tmp_path / f"depth_{depth}" / "model.safetensors")
    files[2].write_bytes(b"lost")
    about = [
        {"label": path.parent.name, "lab": "own", "family": "controlled", "dtype": "float32"}
        for path in files
    ]
    return {"models": files, "about": about}


def test_parts_lie_beside_the_output_and_are_gone_in_the_end(tmp_path):
    written = []

    def measure(model, said, places):
        places[0].write_text(model)
        written.append(places[0])

    parts = model_groups._each(["one", "two"], [{}, {}], measure, tmp_path / "t.parquet", "part")
    assert [part.read_text() for (part,) in parts] == ["one", "two"]
    assert all(part.parent.parent == tmp_path for part in written)
    assert not list(tmp_path.iterdir())


def test_gains_are_those_of_each_by_itself_and_a_failure_is_recorded(tmp_path, prompts, group):
    choice = {**CHOICE, "prompts": prompts, "variants": ["shuffled_tokens"], "seed": 1}
    paths = {"gains": tmp_path / "g.parquet", "architecture": tmp_path / "a.json"}
    model_groups.measure_gains(**group, **choice, **paths)
    table, records = pd.read_parquet(paths["gains"]), json.loads(paths["architecture"].read_text())
    assert [(r["model"], r["layers"], r["status"]) for r in records] == [
        ("depth_1", 1, "ok"),
        ("depth_2", 2, "ok"),
        ("depth_3", None, "failed"),
    ]
    assert records[2]["reason"]
    own = {"gains": tmp_path / "own.parquet", "architecture": tmp_path / "own.json"}
    residual_gain.measure_gains(model=group["models"][1], **group["about"][1], **choice, **own)
    alone = table[table["model"] == "depth_2"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, pd.read_parquet(own["gains"]))
    assert records[1] == json.loads(own["architecture"].read_text())


def test_spectra_are_those_of_each_by_itself(tmp_path, group):
    model_groups.measure_spectra(**group, table=tmp_path / "all.parquet")
    table = pd.read_parquet(tmp_path / "all.parquet")
    assert table.groupby("model")["layer"].max().to_dict() == {
        "depth_1": 1,
        "depth_2": 2,
        "depth_3": -1,
    }
    label = {"label": "depth_2", "dtype": "float32", "table": tmp_path / "own.parquet"}
    value_output.measure_spectra(model=group["models"][1], **label)
    alone = table[table["model"] == "depth_2"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, pd.read_parquet(label["table"]))


def test_sheaves_are_those_of_each_by_itself(tmp_path, prompts, group):
    paths = {"table": tmp_path / "s.parquet", "turning": tmp_path / "t.parquet"}
    model_groups.measure_sheaf(**group, **CHOICE, prompts=prompts, **paths)
    own = {"table": tmp_path / "own_s.parquet", "turning": tmp_path / "own_t.parquet"}
    sheaf.measure_sheaf(
        model=group["models"][1], label="depth_2", dtype="float32", **CHOICE, prompts=prompts, **own
    )
    for name, path in paths.items():
        table = pd.read_parquet(path)
        assert set(table["model"]) == {"depth_1", "depth_2", "depth_3"}
        alone = table[table["model"] == "depth_2"].reset_index(drop=True)
        pd.testing.assert_frame_equal(alone, pd.read_parquet(own[name]), check_dtype=False)


def test_every_model_needs_to_be_described(tmp_path, group):
    with pytest.raises(ValueError, match="zip"):
        model_groups.measure_spectra(
            models=group["models"], about=group["about"][:1], table=tmp_path / "t.parquet"
        )
    assert not (tmp_path / "t.parquet").exists()


def test_what_cannot_be_had_is_recorded_as_what_fails(tmp_path):
    said = {"far": {"lab": "x", "family": "y", "reason": "gated"}}
    model_groups.record_unavailable(models=said, architecture=tmp_path / "a.json")
    (record,) = json.loads((tmp_path / "a.json").read_text())
    assert set(record) == set(residual_gain.FIELDS)
    assert {key: value for key, value in record.items() if value is not None} == {
        "model": "far",
        "status": "failed",
        **said["far"],
    }
