"""Run one function in several processes, a GPU each (or a share of the CPUs), and wait for all.

The processes are fresh interpreters started by torch's own launcher, since a job may itself run
inside a script that cannot be imported again. The launcher, and not ``accelerate launch``, because
that reads settings from the user's home.

    python -m torch.distributed.run --nproc-per-node 2 -m tgn.training.launch arguments.json
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def run(call: str, arguments: Mapping[str, Any], processes: int = 1) -> None:
    """Call ``package.module:function`` with keyword arguments, in this process if one is enough.

    Threads are divided among the processes.

    Raises
    ------
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
    environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, threads // processes))}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "arguments.json"
        file.write_text(json.dumps({"call": call, "arguments": dict(arguments)}), encoding="utf-8")
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(processes), "-m", "tgn.training.launch", str(file)]
        done = subprocess.run(
            command, env=environment, stdout=_file(sys.stdout), stderr=_file(sys.stderr)
        )
    if done.returncode:
        raise RuntimeError(f"{call} failed in one of {processes} processes; its error stands above")


def main(file: str) -> None:
    """What every process does."""
    content = json.loads(Path(file).read_text(encoding="utf-8"))
    _call(content["call"], content["arguments"])
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _call(call: str, arguments: Mapping[str, Any]) -> None:
    module, _, name = call.partition(":")
    getattr(importlib.import_module(module), name)(**arguments)


def _file(stream: Any) -> Any:
    """The stream, if another process can write to it; a job's log is one."""
    try:
        stream.fileno()
    except (AttributeError, OSError):
        return None
    return stream


if __name__ == "__main__":
    main(sys.argv[1])
