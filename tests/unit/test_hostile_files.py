"""Files that are damaged, foreign or made to do harm are refused in a sentence, and do nothing."""

import io
import json
import os
import pickle
import random
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from tgn import jobs, sources
from tgn.files import damage, read_yaml, write_json
from tgn.models import ModelConfig, build
from tgn.models import io as models
from tgn.training import checkpoints

CONFIG = ModelConfig(61, 16, 2, 2, 32)
FLIPS = 60  # of each kind of file


class Touch:
    """What a pickle would run when it is loaded."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return Path.touch, (Path(self.place),)


def damaged(whole, rng):
    """The bytes of a file with some cut off, changed, or replaced."""
    at = rng.randrange(len(whole))
    return rng.choice(
        [
            whole[:at],
            whole[:at] + bytes([whole[at] ^ (1 << rng.randrange(8))]) + whole[at + 1 :],
            whole[:at] + rng.randbytes(16) + whole[at + 16 :],
            rng.randbytes(at + 1),
            b"",
        ]
    )


# --- YAML -----------------------------------------------------------------------------------------


def laughs(levels, opening, closing, by=9):
    """Every level holds the one before several times; written out there would be by**levels."""
    lines = ["a0: &a0 [x, x]" if opening == "[" else "a0: &a0 {x: 1}"]
    for level in range(1, levels):
        parts = [f"*a{level - 1}" if opening == "[" else f"k{n}: *a{level - 1}" for n in range(by)]
        lines.append(f"a{level}: &a{level} {opening}{', '.join(parts)}{closing}")
    return "\n".join(lines)


MERGED = "a0: &a0 {x: 1}\n" + "\n".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (laughs(10, "[", "]"), "aliases written out"),
        (laughs(10, "{", "}"), "aliases written out"),
        (MERGED, "aliases written out"),
        ("a: &a [*a]", "within itself"),
        ("a: &a {b: *a}", "within itself"),
        ("[" * 100_000, "nested too deeply"),
        ("{a: " * 100_000, "nested too deeply"),
        ("- " * 100_000, "nested too deeply"),
        ("? " * 100_000, "nested too deeply"),
        ("x" * 3_000_000, "3000000 bytes"),
        ("arms: {a: 1, b: 2, a: 3}", "key a stands twice"),
        ("a: 1\nb: {c: 2}\na: 3", "key a stands twice in the mapping that begins in line 1"),
        ("a: " + "9" * 5000, "digits"),
        ("a: 2001-99-99", "month"),
        ("a: !!int ''", "IndexError|index"),
        ("a: !!timestamp x", "cannot be read"),
        ("a: [1", "line 1"),
        ("a: !!python/object/apply:os.system ['touch pwned']", "python/object"),
        ("a: *nothing", "undefined alias"),
        ("a\0b", "special characters"),
        ("ä: ü".encode("latin-1"), "not UTF-8 at byte 0"),
        ("a: 1".encode("utf-16"), "not UTF-8"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_yaml_that_is_made_to_do_harm_is_refused(tmp_path, monkeypatch, content, says):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "config.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=says) as refused:
        read_yaml(path)
    assert str(path) in str(refused.value)
    assert len(str(refused.value)) < 1000
    assert list(tmp_path.iterdir()) == [path]


def test_bombs_take_little_memory(tmp_path):
    (tmp_path / "a.yaml").write_text(laughs(30, "{", "}"))
    code = "import sys, tgn.files as f\ntry: f.read_yaml(sys.argv[1])\nexcept ValueError: print(1)"

    def limited():
        resource.setrlimit(resource.RLIMIT_AS, (400_000_000,) * 2)

    command = [sys.executable, "-c", code, str(tmp_path / "a.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limited, timeout=60)
    assert done.stdout == "1\n", done.stderr


def test_honest_aliases_merges_and_empty_files_are_read(tmp_path):
    text = "a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}\nd: [*a, *a]\n"
    (tmp_path / "a.yaml").write_text(text)
    assert read_yaml(tmp_path / "a.yaml") == yaml.safe_load(text)
    (tmp_path / "a.yaml").write_text("# nothing\n")
    assert read_yaml(tmp_path / "a.yaml") is None


# --- models and states ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    models.save(folder, build(CONFIG), CONFIG)
    return folder


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_damaged_model_is_refused_or_the_same(model, name, record_property):
    rng, path = random.Random(name), model / name
    whole, weights = path.read_bytes(), models.load(model).state_dict()
    refused, said = 0, set()
    for _ in range(FLIPS):
        path.write_bytes(damaged(whole, rng))
        try:
            found = models.load(model)
        except ValueError as error:
            refused += 1
            said.add(str(model) in str(error))
        else:  # blanks, or settings that are no weights' business
            assert name == "config.json"
            assert all(torch.equal(part, weights[key]) for key, part in found.state_dict().items())
    path.write_bytes(whole)
    assert refused > FLIPS / 2
    assert said == {True}
    record_property("tried", f"{FLIPS} damages, {refused} refused, the others the same model")


@pytest.mark.parametrize(
    "settings", [{"depth": 10**9}, {"width": 2 * 10**9}, {"vocabulary": 10**12}, {"mlp_width": 8}]
)
def test_a_description_of_another_size_is_refused_before_memory_is_taken(model, tmp_path, settings):
    content = json.loads((model / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes())
    write_json(tmp_path / "config.json", content | {"model": content["model"] | settings})
    with pytest.raises(ValueError, match=r"do not fit its config\.json.*copy the folder anew"):
        models.load(tmp_path)


def test_weights_of_another_model_are_refused(model, tmp_path):
    content = json.loads((model / "config.json").read_text())
    save_file({"lm_head.weight": torch.zeros(3)}, tmp_path / "model.safetensors")
    digest = models.digest(tmp_path / "model.safetensors")
    write_json(tmp_path / "config.json", content | {"sha256": digest})
    with pytest.raises(ValueError, match="do not fit"):
        models.load(tmp_path)


@pytest.mark.parametrize("where", ["model.safetensors", "state.pt"])
def test_a_pickle_in_the_place_of_weights_is_not_run(model, tmp_path, where):
    escaped = tmp_path / "escaped"
    for write in (
        lambda path: path.write_bytes(pickle.dumps(Touch(escaped))),
        lambda path: torch.save({"key": "k", "step": Touch(escaped)}, path),
        lambda path: torch.save(Touch(escaped), path, _use_new_zipfile_serialization=False),
    ):
        (tmp_path / "k").mkdir(exist_ok=True)
        write(tmp_path / "k" / where)
        (tmp_path / "k/config.json").write_bytes((model / "config.json").read_bytes())
        with pytest.raises(ValueError, match="cannot be read"):
            checkpoints.load(tmp_path, "k") if where == "state.pt" else models.load(tmp_path / "k")
        assert not escaped.exists()
    pickle.loads(pickle.dumps(Touch(escaped)))  # noqa: S301 - it would have
    assert escaped.exists()


def test_a_damaged_state_is_refused_or_the_same(tmp_path, record_property):
    rng = random.Random(5)
    state = {"step": 3, "model": {"w": torch.arange(500.0)}}
    checkpoints.save(tmp_path, "k", state)
    path = tmp_path / "k/state.pt"
    whole, refused, said = path.read_bytes(), 0, set()
    for _ in range(FLIPS):
        path.write_bytes(damaged(whole, rng))
        try:
            found = checkpoints.load(tmp_path, "k")
        except ValueError as error:
            refused += 1
            said.add("state.pt" in str(error) and "delete it to start anew" in str(error))
        else:  # in what fills the archive up
            assert torch.equal(found["model"]["w"], state["model"]["w"])
            assert found["step"] == 3
    assert refused > FLIPS / 2
    assert said == {True}
    record_property("tried", f"{FLIPS} damages, {refused} refused, the others the same state")


# --- tables ---------------------------------------------------------------------------------------


def write_parquet(path):
    pd.DataFrame({"x": np.arange(1000.0), "y": ["a"] * 1000}).to_parquet(path)


TABLES = {
    "t.parquet": write_parquet,
    "t.json": lambda path: write_json(path, {"a": [1] * 50}),
    "t.npy": lambda path: np.save(path, np.arange(100)),
    "t.npz": lambda path: np.savez(path, a=np.arange(1000)),
    "t.csv": lambda path: path.write_text("a,b\nä,2\n", encoding="utf-8"),
    "t.safetensors": lambda path: save_file({"a": torch.zeros(9)}, path),
}
CUT = {"t.csv": b"\xff\xfe\x00"}


def read_table(*, table, **_):
    """A job's function, which reads as they all do."""
    match Path(table).suffix:
        case ".parquet":
            pd.read_parquet(table)
        case ".json":
            json.loads(Path(table).read_text(encoding="utf-8"))
        case ".csv":
            pd.read_csv(table)
        case ".safetensors":
            load_file(table)
        case ".npy":
            np.load(table, allow_pickle=False)
        case _:
            np.load(table, allow_pickle=False)["a"]


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("how", ["whole", "cut", "empty", "pickle"])
def test_a_job_names_the_input_that_cannot_be_read(tmp_path, monkeypatch, capsys, name, how):
    path, other = tmp_path / name, tmp_path / "other.parquet"
    TABLES[name](path)
    write_parquet(other)
    if how == "cut":
        path.write_bytes(CUT.get(name) or path.read_bytes()[: path.stat().st_size // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "pickle":
        path.write_bytes(pickle.dumps(Touch(tmp_path / "escaped")))
    if how == "whole":
        assert damage(path) == ""
    monkeypatch.setitem(sys.modules, "hostile_job", sys.modules[__name__])
    run = {
        "inputs": [str(other), str(path)],
        "log": tmp_path / "log",
        "record": tmp_path / "r.json",
    }
    if how == "whole":
        jobs.run("hostile_job:read_table", {"table": str(path)}, **run)
        return
    with pytest.raises(SystemExit):
        jobs.run("hostile_job:read_table", {"table": str(path)}, **run)
    said = capsys.readouterr().err
    assert f"{path} (" in said
    assert "delete it and run again" in said
    assert str(other) not in said
    assert "Traceback" not in said
    assert "Traceback" in (tmp_path / "log").read_text()  # for whom it concerns
    assert not (tmp_path / "escaped").exists()
    assert not (tmp_path / "r.json").exists()


def test_a_failure_of_a_job_with_whole_inputs_is_its_own(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "hostile_job", sys.modules[__name__])
    write_parquet(path := tmp_path / "t.parquet")
    with pytest.raises(KeyError, match="absent"):
        jobs.run("hostile_job:ask_for_more", {"table": path}, inputs=[path])


def test_a_table_of_other_columns_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "hostile_job", sys.modules[__name__])
    write_parquet(path := tmp_path / "t.parquet")
    inputs = [str(path), str(tmp_path / "code.py")]
    with pytest.raises(SystemExit):
        jobs.run("hostile_job:ask_for_more", {"table": path}, inputs=inputs, log=tmp_path / "log")
    said = capsys.readouterr().err
    assert f"tables may lack the column 'absent': {path}\n" in said
    assert "code.py" not in said


def ask_for_more(*, table):
    pd.read_parquet(table)["absent"]


# --- archives -------------------------------------------------------------------------------------

BODY = bytes(range(256)) * 40


def wheel_with(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("toy/data.bin", BODY)
        for name, body in members.items():
            archive.writestr(name, body)
    return path


def test_members_outside_and_links_stay_in_the_archive(tmp_path):
    link = zipfile.ZipInfo("toy/link")
    link.external_attr = 0o120777 << 16
    wheel = wheel_with(tmp_path / "toy.whl", **{"../up": b"!", "/abs": b"!", "a/../../up": b"!"})
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    inside = tmp_path / "in/side"
    inside.mkdir(parents=True)
    sources._check_sizes(wheel, ["toy/data.bin"], len(BODY))
    for member in ("toy/data.bin", "../up", "/abs", "a/../../up", "toy/link"):
        sources._extract(wheel, member, inside / "staged")
        assert not (inside / "staged").is_symlink()  # a link comes as the text it holds
    assert (inside / "staged").read_bytes() == b"/etc/passwd"
    assert {path.name for path in tmp_path.rglob("*")} == {"toy.whl", "in", "side", "staged"}


def test_a_damaged_archive_is_refused_or_whole(tmp_path, record_property):
    rng, wheel = random.Random(7), wheel_with(tmp_path / "toy.whl")
    whole, refused, said = wheel.read_bytes(), 0, set()
    for _ in range(10 * FLIPS):
        wheel.write_bytes(damaged(whole, rng))
        try:
            sources._check_sizes(wheel, ["toy/data.bin"], len(BODY))
            sources._extract(wheel, "toy/data.bin", tmp_path / "staged")
        except sources.FetchError as error:
            refused += 1
            said.add("toy.whl" in str(error))
        else:
            assert (tmp_path / "staged").read_bytes() == BODY
    assert refused > 5 * FLIPS
    assert said == {True}
    record_property(
        "tried", f"{10 * FLIPS} damages, {refused} refused, from the others the same bytes"
    )


def test_an_archive_that_unpacks_to_more_than_it_says_gives_no_more(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("toy/data.bin", bytes(50_000_000))
    said = buffer.getvalue().replace(
        (50_000_000).to_bytes(4, "little"), (1000).to_bytes(4, "little")
    )
    (tmp_path / "toy.whl").write_bytes(said)
    sources._check_sizes(tmp_path / "toy.whl", ["toy/data.bin"], 1000)
    with pytest.raises(sources.FetchError, match="damaged"):
        sources._extract(tmp_path / "toy.whl", "toy/data.bin", tmp_path / "staged")
    assert os.path.getsize(tmp_path / "staged") <= 1000
