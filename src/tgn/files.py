"""Writing files so that a reader never meets half of one."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it onto ``path`` if the block succeeds.

    The parent folder is made. If the block raises, the temporary file is removed and an
    existing ``path`` is left as it was. The temporary name keeps the suffix, since many
    writers choose their format by it.

    Raises
    ------
    OSError
        If the folder cannot be made or the file cannot be renamed.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        prefix=f".{target.stem}.", suffix=target.suffix, dir=target.parent
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes private files; results are shared
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, content: Any) -> None:
    """Write ``content`` as JSON with stable key order.

    Raises
    ------
    ValueError
        If a number is NaN or infinite, which JSON has no literal for.
    """
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def write_table(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table as parquet, without its index."""
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False)


def digest(path: str | Path, algorithm: str = "sha256") -> str:
    """Hexadecimal checksum of a file, read in blocks."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, algorithm).hexdigest()
