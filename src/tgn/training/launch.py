"""Run one function in several processes, a GPU each (or a share of the CPUs), and wait for all.

The processes are fresh interpreters started by torch's own launcher, since a job may itself run
inside a script that cannot be imported again. The launcher, and not ``accelerate launch``, because
that reads settings from the user's home.

    python -m torch.distributed.run --nproc-per-node 2 -m tgn.training.launch '{"call": ...}'
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import torch

PATIENCE = 3600  # seconds for processes to end after SIGTERM; who sent it will have less


def run(call: str, arguments: Mapping[str, Any], processes: int = 1) -> None:
    """Call ``package.module:function`` with keyword arguments, in this process if one is enough.

    Threads are divided among the processes. SIGTERM is passed on to them, and waited for.

    Raises
    ------
    SystemExit
        With status 143, after SIGTERM and their end.
    RuntimeError
        If a process failed; the others are stopped, and what it said stands in the output.
    ValueError
        If there is no process to run.
    """
    if processes < 1:
        raise ValueError(f"processes must be at least 1, got {processes}")
    if processes == 1:
        _call(call, arguments)
        return
    threads = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    # Whatever library reads it: MKL's threads wait for each other in a spin.
    shares = {name for name in os.environ if name.endswith("_NUM_THREADS")} | {"OMP_NUM_THREADS"}
    environment = {**os.environ, **dict.fromkeys(shares, str(max(1, threads // processes)))}
    # The launcher's notes would stay in the system's folder for temporary files.
    with tempfile.TemporaryDirectory(prefix=".launch-", dir=Path.cwd()) as notes:
        status = _waited_for(_command(call, arguments, processes, notes), environment)
    if status:
        raise RuntimeError(f"{call} failed in one of {processes} processes; its error stands above")


def _command(call: str, arguments: Mapping[str, Any], processes: int, notes: str) -> list[str]:
    """What starts torch's launcher, which keeps its notes in a folder."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--log-dir", notes]
    command += ["--nproc-per-node", str(processes), "--shutdown-timeout", str(PATIENCE)]
    command += ["-m", "tgn.training.launch"]
    return [*command, json.dumps({"call": call, "arguments": dict(arguments)})]


def main(content: str) -> None:
    """What every process does: ``content`` is JSON of a ``call`` and its ``arguments``."""
    _call(**json.loads(content))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _call(call: str, arguments: Mapping[str, Any]) -> None:
    module, _, name = call.partition(":")
    getattr(importlib.import_module(module), name)(**arguments)


def _waited_for(command: list[str], environment: Mapping[str, str]) -> int:
    """Exit status of torch's launcher; a signal more would cut short its wait for the processes."""
    came: list[int] = []

    def pass_on(number: int, frame: Any) -> None:
        came.append(number)
        for process in psutil.Process(launcher.pid).children() or [launcher]:
            process.terminate()

    output = {"stdout": _file(sys.stdout), "stderr": _file(sys.stderr)}
    with subprocess.Popen(command, env=environment, **output) as launcher:
        before = signal.signal(signal.SIGTERM, pass_on)
        try:
            status = launcher.wait()
        finally:
            signal.signal(signal.SIGTERM, before)
    if came:
        raise SystemExit(128 + signal.SIGTERM)
    return status


def _file(stream: Any) -> Any:
    """The stream, if another process can write to it; a job's log is one."""
    try:
        stream.fileno()
    except (AttributeError, OSError):
        return None
    return stream


if __name__ == "__main__":
    main(sys.argv[1])
