"""A reader never meets half a file, and a failure leaves what was there."""

import errno
import hashlib

import pandas as pd
import pytest

from tgn.files import (
    digest,
    noticing_full_disk,
    replacing,
    scratch,
    write_json,
    write_table,
)


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with replacing(path) as temporary:
        temporary.write_text("content")
        assert not path.exists()
        assert temporary.suffix == ".txt"
    assert path.read_text() == "content"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_makes_way(tmp_path):
    path = tmp_path / "a.txt"
    with replacing(path) as temporary:
        name = temporary
    name.write_text("half of it")
    with replacing(path) as temporary:
        assert temporary.read_text() == ""
    assert list(tmp_path.iterdir()) == [path]


def test_a_scratch_folder_is_empty_and_goes(tmp_path):
    place = tmp_path / "new" / ".made"
    for _ in range(2):
        with scratch(place) as folder:
            assert list(folder.iterdir()) == []
            (folder / "a").touch()
        assert not place.exists()
        place.mkdir()
        (place / "left").touch()


def test_a_full_disk_is_told_from_other_faults(tmp_path):
    words = f"disk is full; make space and run again.*{tmp_path.name}"
    with pytest.raises(OSError, match=words), noticing_full_disk(tmp_path):
        raise OSError(errno.ENOSPC, "any words")
    with pytest.raises(ValueError, match="another"), noticing_full_disk(tmp_path):
        raise ValueError("another")


def test_results_can_be_read_by_others(tmp_path):
    with replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("x")
    plain = tmp_path / "plain.txt"
    plain.write_text("x")
    assert (tmp_path / "a.txt").stat().st_mode == plain.stat().st_mode


def test_json_refuses_what_json_cannot_say(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"value": float("nan")})
    assert not path.exists()
    write_json(path, {"b": 1, "a": "é"})
    assert path.read_text(encoding="utf-8") == '{\n  "a": "é",\n  "b": 1\n}\n'


def test_digests_are_the_standard_ones(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert digest(path) == hashlib.sha256(b"abc").hexdigest()
    assert digest(path, "md5") == hashlib.md5(b"abc").hexdigest()


def test_a_table_is_written_without_its_index(tmp_path):
    table = pd.DataFrame({"x": [1, 2]}, index=[7, 9])
    write_table(tmp_path / "made/table.parquet", table)
    found = pd.read_parquet(tmp_path / "made/table.parquet")
    pd.testing.assert_frame_equal(found, table.reset_index(drop=True))
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["table.parquet"]
