"""A job leaves a log, a record, and the error where both user and workflow see it."""

import json
import os
import pty
import subprocess
import sys

import pytest

from tgn import jobs


@pytest.fixture(autouse=True)
def restored_environment(monkeypatch):
    for variable in (*jobs._THREAD_VARIABLES, "SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        monkeypatch.delenv(variable, raising=False)
    yield
    for variable in jobs._THREAD_VARIABLES:
        os.environ.pop(variable, None)


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "steps.py").write_text(
        "def write(*, path, text, seed):\n"
        "    print('writing')\n"
        "    open(path, 'w').write(text)\n"
        "    return {'written': len(text)}\n"
        "def fail(*, reason):\n"
        "    raise ValueError(reason)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_job_calls_logs_and_records(module):
    (module / "input.txt").write_text("in")
    jobs.run(
        "steps:write",
        {"path": "out.txt", "text": "hello", "seed": 3},
        inputs=["input.txt"],
        record="out.provenance.json",
        log="logs/write.log",
        threads=1,
    )
    assert (module / "out.txt").read_text() == "hello"
    assert "writing" in (module / "logs/write.log").read_text()
    record = json.loads((module / "out.provenance.json").read_text())
    assert record["seeds"] == {"seed": 3}
    assert record["config"]["call"] == "steps:write"
    assert record["written"] == 5  # what the function says of its run
    assert set(record["inputs"]) == {"input.txt"}


def test_an_error_is_a_traceback_in_the_log_and_a_line_on_the_terminal(module):
    code = (
        "from tgn.jobs import run;"
        "run('steps:fail', {'reason': 'no such thing'}, record='r.json', log='logs/fail.log')"
    )
    path = os.pathsep.join([str(module), os.environ.get("PYTHONPATH", "")])
    job = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert job.returncode == 1
    assert job.stderr == "ValueError: no such thing\n(traceback: logs/fail.log)\n"
    assert "Traceback" in (module / "logs/fail.log").read_text()
    assert not (module / "r.json").exists()


def test_without_a_log_an_error_is_raised(module):
    with pytest.raises(ValueError, match="no such thing"):
        jobs.run("steps:fail", {"reason": "no such thing"})


def test_threads_reach_the_numerical_libraries(module):
    jobs.run("steps:write", {"path": "a", "text": "", "seed": 0}, threads=1)
    assert os.environ["OMP_NUM_THREADS"] == "1"


def test_a_job_for_more_gpus_than_there_are_stops_before_it_begins(module, capsys):
    with pytest.raises(SystemExit):
        jobs.run("steps:write", {"path": "b", "text": "", "seed": 0}, gpus=99, log="gpu.log")
    assert "asks for 99 GPUs" in (module / "gpu.log").read_text()
    assert "require_gpus=False" in capsys.readouterr().err
    assert not (module / "b").exists()


def test_where_no_gpu_is_required_such_a_job_computes_on_cpus(module, monkeypatch):
    monkeypatch.setenv(jobs.REQUIRE_GPUS, "0")
    jobs.run("steps:write", {"path": "b", "text": "", "seed": 0}, gpus=99)
    assert (module / "b").exists()


def test_slurm_allots_cpus_over_what_the_workflow_says(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(16))
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "5")
    assert jobs.allotted_cpus(2) == 5
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    assert jobs.allotted_cpus(2) == 8


def test_the_machine_is_the_limit(monkeypatch):
    assert jobs.allotted_cpus(10**6) == len(os.sched_getaffinity(0))
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", str(10**6))
    assert jobs.allotted_cpus(1) == len(os.sched_getaffinity(0))
    monkeypatch.delenv("SLURM_CPUS_PER_TASK")
    assert jobs.allotted_cpus(1) == 1


@pytest.mark.parametrize("seen", [True, False])
def test_a_bar_is_seen_on_the_terminal_although_a_job_writes_a_log(module, seen):
    (module / "slow.py").write_text(
        "from tgn.progress import bar\n"
        "def count():\n"
        "    for _ in bar(range(3), desc='counting'):\n"
        "        pass\n"
    )
    code = "from tgn.jobs import run; run('slow:count', {}, log='slow.log')"
    reader, terminal = pty.openpty()
    stderr = terminal if seen else subprocess.DEVNULL
    path = os.pathsep.join([str(module), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", code], stderr=stderr, env=environment, check=True)
    os.close(terminal)
    try:
        shown = os.read(reader, 4096) if seen else b""
    finally:
        os.close(reader)
    assert (b"counting" in shown) == seen
    assert "counting" not in (module / "slow.log").read_text()
