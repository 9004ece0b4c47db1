"""The tgn command: plain output, and errors that end as one line and status 1."""

from importlib.metadata import version
from pathlib import Path

import pytest

from tgn.cli import main

REGISTRY = """
toy: {kind: fixture, evidence: simulated, licence: MIT, description: a toy}
gone:
  kind: https
  evidence: real
  licence: CC0
  description: an address where nothing answers
  url: http://127.0.0.1:9/gone.txt
  file: gone.txt
  bytes: 3
  sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
"""


@pytest.fixture
def registry(tmp_path):
    path = tmp_path / "sources.yaml"
    path.write_text(REGISTRY)
    return str(path)


def test_sources_are_listed_one_a_line(registry, capsys):
    assert main(["sources", "--registry", registry]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "toy: simulated, made by this pipeline, licence MIT"
    assert lines[1].startswith("gone: real, 3 B, from http://127.0.0.1:9/gone.txt")


def test_an_unknown_source_is_answered_with_the_known_ones(registry, capsys):
    assert main(["fetch", "tony", "--registry", registry]) == 1
    assert "no source 'tony'" in (said := capsys.readouterr().err)
    assert "toy, gone" in said


def test_a_fixture_is_not_downloaded(registry, tmp_path, capsys):
    assert main(["fetch", "toy", "--registry", registry, "--folder", str(tmp_path / "r")]) == 1
    assert "the pipeline makes it" in capsys.readouterr().err


def test_a_part_of_a_source_can_be_asked_for(registry, tmp_path, capsys):
    (tmp_path / "r/gone").mkdir(parents=True)
    (tmp_path / "r/gone/gone.txt").write_text("abc")  # there already, so nothing is downloaded
    command = ["fetch", "gone", "--registry", registry, "--folder", str(tmp_path / "r"), "--only"]
    assert main([*command, "sub-01/*", "--only", "gone*"]) == 0
    assert main([*command, "sub-01/*"]) == 1
    assert "no file matches sub-01/*" in capsys.readouterr().err


def test_a_registry_that_is_not_there_is_named(tmp_path, capsys):
    assert main(["sources", "--registry", str(tmp_path / "none.yaml")]) == 1
    assert "none.yaml" in capsys.readouterr().err


def test_the_registry_is_found_from_a_folder_below(registry, monkeypatch, tmp_path, capsys):
    (tmp_path / "config").mkdir()
    Path(registry).rename(tmp_path / "config/sources.yaml")
    (tmp_path / "docs/deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "docs/deep")
    assert main(["sources"]) == 0
    assert capsys.readouterr().out.startswith("toy: simulated")
    assert main(["doctor"]) == 0  # of what no configuration decides
    assert "torch" in capsys.readouterr().out


def test_without_a_registry_it_says_where_it_looked(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["sources"]) == 1
    said = capsys.readouterr().err
    assert f"no config/sources.yaml in {tmp_path} or above" in said
    assert "--registry" in said


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["fetch", "--help"]])
def test_version_and_help(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0
    said = capsys.readouterr().out
    expected = {"--version": f"tgn {version('tgn')}", "--help": "sources", "fetch": "--registry"}
    assert expected[arguments[0]] in said


def test_a_missing_subcommand_is_a_usage_error():
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 2


def test_results_are_compared_and_their_costs_listed(tmp_path, capsys):
    (tmp_path / "claims.json").write_text("[]")
    assert main(["compare", str(tmp_path), str(tmp_path)]) == 0
    assert "0 claims" in capsys.readouterr().out
    assert main(["compare", str(tmp_path), str(tmp_path / "none")]) == 1
    assert "make it with `make`" in capsys.readouterr().err
    assert main(["times", str(tmp_path)]) == 1
    assert "nothing has been computed" in capsys.readouterr().err
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks/draw.tsv").write_text("s\tmax_rss\tcpu_time\n1.5\t100\t1.25\n")
    assert main(["times", str(tmp_path)]) == 0
    assert "draw" in capsys.readouterr().out
