"""Records of where results come from, taken in a real git checkout in a temporary folder."""

import hashlib
import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tgn import provenance
from tgn.provenance import (
    checksums,
    footer,
    library_digest,
    record,
    recording,
    revision,
    short_revision,
)


def git(*arguments: str) -> str:
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    git("init", "-q")
    (folder / "code.py").write_text("x = 1\n")
    (folder / ".gitignore").write_text("results/\n")
    git("add", ".")
    git("commit", "-q", "-m", "start")
    return folder


# --- revision ------------------------------------------------------------------------------------


def test_a_clean_checkout_has_its_commit(checkout):
    commit = git("rev-parse", "HEAD")
    assert revision() == {"commit": commit, "dirty": False}
    assert short_revision() == commit[:9]
    assert footer("laptop") == f"laptop · {commit[:9]}"
    (checkout / "results").mkdir()
    (checkout / "results" / "fig8.pdf").write_text("ignored files are no change")
    assert revision()["dirty"] is False
    assert revision(checkout / "results")["commit"] == commit


@pytest.mark.parametrize("name", ["code.py", "new.py"])
def test_an_edited_or_a_new_file_makes_it_dirty(checkout, name):
    (checkout / name).write_text("x = 2\n")
    assert revision()["dirty"] is True
    assert footer("paper").endswith("+")


def test_without_a_checkout_or_without_git_the_revision_is_unknown_and_says_why(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    found = revision(tmp_path)
    assert (found["commit"], found["dirty"]) == ("unknown", None)
    assert "not a git repository" in found["reason"]
    assert footer("laptop", tmp_path) == "laptop · revision unknown"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert revision(tmp_path)["reason"] == "git is not installed"


# --- inputs and keys -----------------------------------------------------------------------------


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_inputs_are_known_by_their_checksums(checkout):
    assert checksums(["code.py", checkout / ".gitignore"]) == {
        "code.py": sha256("x = 1\n"),
        ".gitignore": sha256("results/\n"),
    }
    with pytest.raises(FileNotFoundError, match="absent"):
        checksums(["absent"])


def test_a_receipt_stands_for_the_files_it_lists(checkout):
    folder = checkout / "resources" / "model"
    folder.mkdir(parents=True)
    receipt = folder / "receipt.json"
    files = [{"path": "weights/a.bin", "bytes": 3, "sha256": "ab" * 32}]
    receipt.write_text(json.dumps({"name": "model", "files": files}))
    assert checksums([receipt]) == {"resources/model/weights/a.bin": "ab" * 32}
    receipt.write_text("{}")
    with pytest.raises(ValueError, match="lists no files"):
        checksums([receipt])


def test_a_library_key_follows_contents_and_nothing_else(tmp_path):
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "a.py").write_text("a")
        (tmp_path / place / "b.py").write_text("b")
    here, there = ([tmp_path / p / n for n in ("a.py", "b.py")] for p in ("here", "there"))
    key = library_digest(here)
    assert library_digest(reversed(there)) == key
    assert library_digest(here[:1]) != key
    (tmp_path / "here" / "a.py").write_text("a changed")
    assert library_digest(here) != key
    with pytest.raises(ValueError, match="at least one"):
        library_digest([])


# --- the record ----------------------------------------------------------------------------------


def test_a_record_says_what_determines_a_run(checkout, monkeypatch):
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    found = record(
        config={"layers": (1, 2), "out": checkout / "results"},
        inputs=["code.py"],
        seeds={"bootstrap": 8},
        packages=("numpy", "no-such-package"),
    )
    assert found["config"] == {"layers": [1, 2], "out": "results"}
    assert found["seeds"] == {"bootstrap": 8}
    assert found["inputs"] == {"code.py": sha256("x = 1\n")}
    assert found["revision"]["commit"] == git("rev-parse", "HEAD")
    assert found["packages"]["numpy"][0].isdigit()
    assert found["packages"]["no-such-package"] is None
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["cpu"]["count"] == os.cpu_count()
    assert found["cpu"]["model"]
    assert found["python_hash_seed"]["value"] == "0"
    assert "does not control numpy" in found["python_hash_seed"]["note"]
    monkeypatch.delenv("PYTHONHASHSEED")
    assert record()["python_hash_seed"]["value"] == "random"


def test_no_path_tells_where_the_home_or_the_checkout_lies(checkout, monkeypatch):
    home = checkout.parent / "home" / "alice"
    home.mkdir(parents=True)
    (home / "data.bin").write_text("d")
    monkeypatch.setenv("HOME", str(home))
    found = record(
        config={
            "here": str(checkout),
            "inside": [f"{checkout}/results/a.json", Path("code.py")],
            f"{checkout}/key": f"--from={home}/x --to {checkout}/y",
            "neighbour": f"{checkout}-2/x",
            "elsewhere": "/scratch/data",
            "count": 3,
        },
        inputs=[home / "data.bin", checkout / "code.py"],
    )
    assert set(found["inputs"]) == {"~/data.bin", "code.py"}
    assert found["config"] == {
        "here": ".",
        "inside": ["results/a.json", "code.py"],
        "key": "--from=~/x --to y",
        "neighbour": f"{checkout}-2/x",
        "elsewhere": "/scratch/data",
        "count": 3,
    }
    assert "alice" not in json.dumps(found)


def test_a_working_directory_or_home_at_the_root_changes_nothing(monkeypatch):
    monkeypatch.chdir("/")
    monkeypatch.setenv("HOME", "/")
    assert record(config="/scratch/data / more")["config"] == "/scratch/data / more"


def test_what_could_not_be_written_is_refused_before_the_run(tmp_path):
    for config, error in ((float("nan"), ValueError), (object(), TypeError)):
        with pytest.raises(error), recording(tmp_path / "record.json", config=config):
            pytest.fail("the block must not start")


def test_torch_is_asked_for_gpus_but_never_imported():
    code = "import sys, tgn.provenance as p; print(p.record()['gpu'], 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] False"


def test_gpus_are_named_when_torch_sees_them(monkeypatch):
    class Cuda:
        @staticmethod
        def is_available():
            return True

        @staticmethod
        def device_count():
            return 2

        @staticmethod
        def get_device_name(index):
            return f"A100 number {index}"

    monkeypatch.setitem(sys.modules, "torch", type("Torch", (), {"cuda": Cuda}))
    assert record()["gpu"] == ["A100 number 0", "A100 number 1"]


# --- timing --------------------------------------------------------------------------------------


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_a_recording_measures_wall_cpu_and_memory(checkout):
    with recording("results/fig8/provenance.json", config={"a": 1}, seeds=[1]) as entry:
        burn(0.2)
        time.sleep(0.2)
        held = bytearray(b"x") * 50_000_000
        entry["tokens"] = len(held)
    found = json.loads(Path("results/fig8/provenance.json").read_text())
    assert found["wall_seconds"] >= 0.4
    assert 0.2 <= found["cpu_seconds"] <= found["wall_seconds"] + 0.5
    assert found["peak_rss_bytes"] > 50_000_000
    assert found["tokens"] == 50_000_000
    assert found["config"] == {"a": 1}
    started = datetime.fromisoformat(found["started"])
    assert started.utcoffset() is not None
    assert abs((datetime.now(UTC) - started).total_seconds()) < 60


def test_the_work_of_child_processes_is_counted(tmp_path):
    code = "import time\nwhile time.process_time() < 0.4: pass"
    with recording(tmp_path / "record.json"):
        subprocess.run([sys.executable, "-c", code], check=True)
    assert json.loads((tmp_path / "record.json").read_text())["cpu_seconds"] >= 0.35


def test_inputs_are_recorded_as_they_were_read(checkout):
    with recording("record.json", inputs=["code.py"]):
        (checkout / "code.py").write_text("changed during the run\n")
    assert json.loads(Path("record.json").read_text())["inputs"] == {"code.py": sha256("x = 1\n")}


def test_a_failed_run_and_a_run_without_a_place_leave_no_record(checkout):
    with pytest.raises(RuntimeError), recording("record.json"):
        raise RuntimeError("died")
    with recording(None, inputs=["absent"]) as entry:
        entry["anything"] = 1
    assert not Path("record.json").exists()


def test_packages_named_by_default_include_this_one():
    assert record()["packages"]["tgn"]
    assert len(set(provenance.PACKAGES)) == len(provenance.PACKAGES)
