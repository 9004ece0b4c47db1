"""Run one library function as a job: its threads, its log, its provenance record.

The workflow names a function and its arguments; the function knows nothing of workflows, and the
job leaves beside its results a log and a record of what made them.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tgn import provenance
from tgn.environment import REQUIRE_GPUS
from tgn.files import damage
from tgn.sources import FetchError

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "RAYON_NUM_THREADS",  # tokenizers
)
TABLES = (".parquet", ".csv")


def run(
    call: str,
    arguments: Mapping[str, Any],
    *,
    inputs: Sequence[str] = (),
    record: str | Path | None = None,
    log: str | Path | None = None,
    threads: int = 1,
    gpus: int = 0,
) -> None:
    """Import ``package.module:function`` and call it with keyword arguments.

    What it returns, names and plain data or nothing, is added to the record.

    Parameters
    ----------
    inputs
        Files the result depends on; their checksums go into the record.
    record
        Where to write the provenance record; none is written when None.
    log
        Where standard output and error go. An error leaves its traceback there and its message
        on the terminal.
    threads
        Of numerical libraries, unless SLURM allotted a number of CPUs, which then wins.
    gpus
        That must be there, unless the variable ``TGN_REQUIRE_GPUS`` is 0: a job made for GPUs would
        need weeks without.

    Raises
    ------
    SystemExit
        With status 1, if the function fails and there is a log; without one, its own error.
    """
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = str(allotted_cpus(threads))
    with _logged(log):
        require_gpus(gpus)
        function = _resolve(call)
        try:
            with provenance.recording(
                record, config={"call": call, **arguments}, inputs=inputs, seeds=_seeds(arguments)
            ) as entry:
                entry.update(function(**arguments) or {})
        except Exception as error:
            if damaged := [f"{path} ({why})" for path in inputs if (why := damage(path))]:
                raise ValueError(
                    f"{', '.join(damaged)} cannot be read: delete it and run again, which makes or "
                    "fetches it anew"
                ) from error
            if isinstance(error, KeyError):  # which says no more than the name
                tables = ", ".join(path for path in map(str, inputs) if path.endswith(TABLES))
                error.add_note(f"One of the job's tables may lack the column {error}: {tables}")
            raise


def allotted_cpus(threads: int) -> int:
    """CPUs this job may use: SLURM's allotment, else what the workflow gave, within the machine's.

    The number passed to a cluster job by the workflow is cut to the submitting machine's cores,
    so the allotment is asked first.
    """
    allotment = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE")
    asked = int(allotment) if allotment else threads
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else asked
    return max(1, min(asked, here))


def require_gpus(number: int, who: str = "this job") -> None:
    """Stop where there are fewer GPUs, unless the variable ``TGN_REQUIRE_GPUS`` is 0.

    Raises
    ------
    RuntimeError
        If there are.
    """
    if not number or os.environ.get(REQUIRE_GPUS) == "0":
        return
    from torch import cuda  # slow to import

    if cuda.device_count() < number:
        raise RuntimeError(
            f"{who} asks for {number} GPUs and torch finds {cuda.device_count()}: run it where "
            "there are more (--profile profiles/slurm), set the `gpus` of its section of the "
            "configuration, or let it compute on CPUs with --config require_gpus=False"
        )


def _resolve(call: str) -> Callable[..., Mapping[str, Any] | None]:
    module, _, name = call.partition(":")
    return getattr(importlib.import_module(module), name)


def _seeds(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in arguments.items() if "seed" in key}


@contextlib.contextmanager
def _logged(log: str | Path | None) -> Iterator[None]:
    """Send output to a file; progress bars still find the terminal as ``sys.__stderr__``."""
    if log is None:
        yield
        return
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w", encoding="utf-8", buffering=1) as stream:
        try:
            with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
                yield
        except Exception as error:
            traceback.print_exc(file=stream)
            print(f"{_said(error)}\n(traceback: {log})", file=sys.stderr)
            raise SystemExit(1) from None


def _said(error: Exception) -> str:
    """The message where it was written for a reader, else with the kind of error; and its notes."""
    said = str(error) if isinstance(error, FetchError) else f"{type(error).__name__}: {error}"
    return "\n".join([said, *getattr(error, "__notes__", [])])
