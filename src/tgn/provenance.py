"""Where results come from: a record beside every output, and keys made of what produced it.

A record says which configuration, code, inputs, packages, seeds and hardware made an output and
what it cost. Reruns and checkpoints are keyed by :func:`library_digest`, not by the git
revision, which changes with every comment anywhere.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tgn.files import digest, write_json

PACKAGES = (
    "tgn",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "numba",
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "gguf",
    "accelerate",
    "snakemake",
)
HASH_SEED_NOTE = (
    "fixes only the order of sets and the hashes of text; "
    "it does not control numpy, torch or the timing of threads"
)


@contextmanager
def recording(path: str | Path | None, **what: Any) -> Iterator[dict[str, Any]]:
    """Record a run: time what the block does and write :func:`record` of it to ``path``.

    ``what`` is passed to :func:`record` before the block starts, so that inputs are recorded as
    they were read and hashing them is not counted. The block may add keys to the dictionary it
    is given. Nothing is written if the block raises, or if ``path`` is None.

    Adds ``started`` (UTC), ``wall_seconds``, ``cpu_seconds`` (all threads, and child processes
    that have ended) and ``peak_rss_bytes`` (the most this process or one such child has held
    since it started).

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        As :func:`record`.

    Examples
    --------
    .. code-block:: python

        with recording("results/fig8/provenance.json", config=config, inputs=paths, seeds=[1]):
            write_statistics("results/fig8/statistics.json", compute())
    """
    if path is None:
        yield {}
        return
    entry = record(**what)
    entry["started"] = datetime.now(UTC).isoformat(timespec="seconds")
    wall, cpu = time.perf_counter(), _cpu_seconds()
    yield entry
    entry["wall_seconds"] = time.perf_counter() - wall
    entry["cpu_seconds"] = _cpu_seconds() - cpu
    entry["peak_rss_bytes"] = _peak_rss_bytes()
    write_json(path, _portable(entry))


def record(
    *,
    config: Any = None,
    inputs: Iterable[str | Path] = (),
    seeds: Any = None,
    packages: Iterable[str] = PACKAGES,
) -> dict[str, Any]:
    """What determines a run, as plain JSON data.

    Paths are given relative to the working directory, those in the user's home with ``~``. An
    input called ``receipt.json`` stands for the files it lists, with the checksums it lists. A
    package that is not installed is recorded as null. The GPU is named only if torch has been
    imported already; this module never imports it.

    Raises
    ------
    FileNotFoundError
        If an input does not exist.
    TypeError
        If the configuration or the seeds are not plain data.
    ValueError
        If they hold a number that is not finite, or a receipt lists no checksums.
    """
    entry = _portable(
        {
            "config": config,
            "seeds": seeds,
            "inputs": checksums(inputs),
            "revision": revision(),
            "packages": {name: _version(name) for name in packages},
            "python": platform.python_version(),
            "platform": platform.platform(),
            "cpu": {"model": _cpu_model(), "count": os.cpu_count()},
            "gpu": _gpu_names(),
            "python_hash_seed": {
                "value": os.environ.get("PYTHONHASHSEED", "random"),
                "note": HASH_SEED_NOTE,
            },
        }
    )
    json.dumps(entry, allow_nan=False)  # refuse now what could not be written after a long run
    return entry


def revision(folder: str | Path = ".") -> dict[str, Any]:
    """Git commit of the checkout that holds ``folder``, and whether anything in it was changed.

    ``dirty`` counts untracked files too, ignored ones not. Where there is no checkout or no git
    the commit is ``unknown``, ``dirty`` is null and ``reason`` says why.
    """
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changes = _git(folder, "status", "--porcelain")
    except FileNotFoundError:
        return {"commit": "unknown", "dirty": None, "reason": "git is not installed"}
    except subprocess.CalledProcessError as error:
        return {"commit": "unknown", "dirty": None, "reason": error.stderr.strip()}
    return {"commit": commit, "dirty": bool(changes)}


def footer(scale: str, folder: str | Path = ".") -> str:
    """The line at the foot of a figure: its scale and the revision that made it."""
    return f"{scale} · {short_revision(folder)}"


def short_revision(folder: str | Path = ".") -> str:
    """The revision in a few characters, with ``+`` if anything was changed since."""
    found = revision(folder)
    if found["commit"] == "unknown":
        return "revision unknown"
    return found["commit"][:9] + ("+" if found["dirty"] else "")


def library_digest(files: Iterable[str | Path]) -> str:
    """One key for the contents of library files, whatever their order and place on the disk.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    ValueError
        If there are no files, which would make one key for everything.
    """
    digests = sorted(digest(file) for file in files)
    if not digests:
        raise ValueError("a key needs at least one library file")
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def checksums(inputs: Iterable[str | Path]) -> dict[str, str]:
    """SHA-256 of every input by its path; those a ``receipt.json`` lists are taken from it.

    Raises
    ------
    FileNotFoundError
        If an input does not exist.
    ValueError
        If a receipt lists no checksums.
    """
    found: dict[str, str] = {}
    for path in map(Path, inputs):
        found |= _receipt(path) if path.name == "receipt.json" else {str(path): digest(path)}
    return _portable(found)


def _receipt(path: Path) -> dict[str, str]:
    listed = json.loads(path.read_text(encoding="utf-8"))
    try:
        return {str(path.parent / file["path"]): file["sha256"] for file in listed["files"]}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} lists no files with their sha256") from error


def _git(folder: str | Path, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:  # not Linux
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _gpu_names() -> list[str]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def _usage() -> list[resource.struct_rusage]:
    return [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]


def _cpu_seconds() -> float:
    return sum(usage.ru_utime + usage.ru_stime for usage in _usage())


def _peak_rss_bytes() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * max(usage.ru_maxrss for usage in _usage())


def _portable(content: Any) -> Any:
    """Plain JSON data in which no path tells where the working directory or the home lies."""
    if isinstance(content, Mapping):
        return {_portable(str(key)): _portable(value) for key, value in content.items()}
    if isinstance(content, list | tuple | set | frozenset):
        return [_portable(value) for value in content]
    if isinstance(content, Path):
        return _portable(str(content))
    if not isinstance(content, str):
        return content
    for place, short in ((os.getcwd(), "."), (os.path.expanduser("~"), "~")):
        if place != os.sep:
            content = re.sub(rf"(?<![\w.~/-]){re.escape(place)}(?![\w.-])", short, content)
    return re.sub(r"(?<![\w.~/-])\./(?=\S)", "", content)
