"""Where a document goes depends on its title alone; WikiText keeps its splits and its text."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgn import sources
from tgn.text.splits import SPLITS, read_split, split_of

FILES = {split: f"{split}-*.parquet" for split in SPLITS}


def table(path, rows):
    pd.DataFrame(rows, columns=["title", "text"]).to_parquet(path)
    return path


def test_shares_are_eight_one_one():
    found = pd.Series([split_of(f"page {number}") for number in range(20_000)]).value_counts()
    for split, share in zip(SPLITS, (0.8, 0.1, 0.1), strict=True):
        error = np.sqrt(share * (1 - share) / 20_000)
        assert abs(found[split] / 20_000 - share) < 4 * error


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(min_size=1), unique=True, min_size=1, max_size=20), st.randoms())
def test_splits_are_a_partition_whatever_the_order(tmp_path_factory, titles, random):
    path = tmp_path_factory.mktemp("table") / "corpus.parquet"
    rows = [(title, f"text of {title}") for title in titles]
    found = {split: set(read_split(table(path, rows), split)) for split in SPLITS}
    assert sum(map(len, found.values())) == len(titles)
    assert set.union(*found.values()) == {text for _, text in rows}
    random.shuffle(rows)
    assert found == {split: set(read_split(table(path, rows), split)) for split in SPLITS}


def test_a_split_is_the_same_under_another_hash_seed():
    titles = [f"page {number}" for number in range(40)]
    code = f"from tgn.text.splits import split_of; print([split_of(t) for t in {titles}])"
    told = {
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": "src"},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert told == {f"{[split_of(title) for title in titles]}\n"}


def test_documents_without_text_are_left_out(tmp_path):
    path = table(tmp_path / "corpus.parquet", [("a", ""), ("b", "text")])
    assert [text for split in SPLITS for text in read_split(path, split)] == ["text"]


def test_wikitext_keeps_its_own_splits_and_every_line(tmp_path):
    for split in SPLITS:
        lines = [
            "", f" = {split} one = \n", "", " = = Part = = \n", "", f" In {split} . \n",
            " = 5 = \n", "", "", f" = {split} two = \n", "", " More . \n",
        ]  # fmt: skip
        pd.DataFrame({"text": lines}).to_parquet(tmp_path / f"{split}-0.parquet")
    receipt = tmp_path / "receipt.json"
    sources.write_receipt(receipt, name="wiki", kind="fixture", evidence="simulated")
    first, second = read_split(receipt, "test", FILES)
    assert first == (" \n = test one = \n \n = = Part = = \n \n In test . \n = 5 = \n \n \n")
    assert second == " = test two = \n \n More . \n"
    assert next(read_split(receipt, "train", FILES)).startswith(" \n = train one = \n")


def test_a_split_without_files_is_named(tmp_path):
    pd.DataFrame({"text": ["", " = One = \n", ""]}).to_parquet(tmp_path / "train-0.parquet")
    receipt = tmp_path / "receipt.json"
    sources.write_receipt(receipt, name="wiki", kind="fixture", evidence="simulated")
    with pytest.raises(ValueError, match=r"no file .* matches 'test-\*\.parquet'"):
        list(read_split(receipt, "test", FILES))
