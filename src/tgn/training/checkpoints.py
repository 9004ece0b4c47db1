"""The state of an unfinished run, from which it goes on to the same bits.

A workflow wipes a job's outputs before every attempt, so the state lies in a side directory, under
a key made of everything that decides the run: ``<folder>/<key>/state.pt``. It is one file, replaced
by rename: whenever a process dies, a whole state is there, the last or the one before.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tgn.files import replacing
from tgn.provenance import library_digest


def resume_key(config: Any, files: Iterable[str | Path]) -> str:
    """A name for a run: the same configuration and the same contents of files give the same key.

    Files are the data and the library's; the git revision is not asked, which changes with every
    comment anywhere. The version of torch counts, since another may round otherwise.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    TypeError
        If the configuration is not plain data.
    ValueError
        If there are no files, or the configuration holds a number that is not finite.
    """
    plain = json.dumps(config, sort_keys=True, allow_nan=False)
    parts = "\n".join([plain, library_digest(files), torch.__version__])
    return hashlib.sha256(parts.encode()).hexdigest()[:32]


def save(folder: str | Path, key: str, state: dict[str, Any]) -> None:
    """Put a state in the place of the one before, which stays whole until then."""
    with replacing(_place(folder, key)) as temporary:
        torch.save({"key": key, **state}, temporary)


def load(folder: str | Path, key: str) -> dict[str, Any] | None:
    """The last state, with tensors on the CPU; None where there is none.

    Raises
    ------
    ValueError
        If the file is no state of this run.
    """
    place = _place(folder, key)
    try:
        with zipfile.ZipFile(place) as archive:  # torch's form; torch itself compares no checksums
            if (name := archive.testzip()) is not None:
                raise ValueError(f"its part {name} is damaged")
        state = torch.load(place, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except Exception as error:  # both raise several kinds for a damaged file
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{place} cannot be read ({why}): delete it to start anew") from error
    if not isinstance(state, dict) or state.get("key") != key:
        raise ValueError(f"{place} belongs to another run: delete it to start anew")
    return state


def remove(folder: str | Path, key: str) -> None:
    """Delete a finished run's state, if there is one, and the folder if nothing else is there."""
    shutil.rmtree(_place(folder, key).parent, ignore_errors=True)
    if Path(folder).is_dir() and not any(Path(folder).iterdir()):
        Path(folder).rmdir()


def best(folder: str | Path, key: str) -> Path:
    """Where a run keeps the weights of its best evaluation while it is unfinished."""
    return _place(folder, key).with_name("best.safetensors")


def random_state() -> dict[str, Any]:
    """State of this process's global random generators: Python's, numpy's and torch's."""
    kept: Any = np.random.get_state()  # noqa: NPY002 - others may draw from it
    generator, key, *counters = kept
    return {
        "python": random.getstate(),
        "numpy": (generator, key.tolist(), *counters),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Bring this process's random generators to where :func:`random_state` found them."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"])


def _place(folder: str | Path, key: str) -> Path:
    return Path(folder) / key / "state.pt"
