"""Writing files so that a reader never meets half of one, and reading what others wrote."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    import pandas as pd

LEAST_SPACE = 1 << 20  # bytes; a disk with less is full
LARGEST_YAML = 2_000_000  # bytes
MOST_NODES = 200_000  # of a YAML file, aliases written out; the largest of ours has 3000


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it onto ``path`` if the block succeeds.

    The parent folder is made. If the block raises, the temporary file is removed and an
    existing ``path`` is left as it was. The temporary name keeps the suffix, since many
    writers choose their format by it, and is always the same: what a killed process left
    there makes way for the next one's.

    Raises
    ------
    OSError
        If the folder cannot be made, the file cannot be renamed, or the disk is full.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.stem}.part{target.suffix}")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_bytes(b"")
    try:
        with noticing_full_disk(target.parent):
            yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def noticing_full_disk(folder: str | Path) -> Iterator[None]:
    """Say it in one way if a block fails for want of space; every library has its own.

    Raises
    ------
    OSError
        If the block raises anything and the disk of ``folder`` is full.
    """
    try:
        yield
    except Exception as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        if not full and shutil.disk_usage(folder).free >= LEAST_SPACE:
            raise
        words = "the disk is full; make space and run again, what is finished is kept"
        raise OSError(errno.ENOSPC, words, str(folder)) from error


@contextmanager
def scratch(folder: str | Path) -> Iterator[Path]:
    """An empty folder that is gone afterwards, with what a killed process left in it."""
    place = Path(folder)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


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


def read_yaml(path: str | Path) -> Any:
    """Content of a YAML file, built from plain types only.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not UTF-8 or not YAML, is too large, nested too deeply or grows too large by its
        aliases, or if a key stands twice in one mapping, of which YAML would keep the last.
    """
    size = os.stat(path).st_size
    if size > LARGEST_YAML:
        raise ValueError(f"{path} has {size} bytes; at most {LARGEST_YAML} are read")
    try:
        loader = yaml.SafeLoader(Path(path).read_text(encoding="utf-8"))
        node = loader.get_single_node()
        if node is None:
            return None
        _count_nodes(node, {})
        return loader.construct_document(node)
    except UnicodeDecodeError as error:
        why = f"not UTF-8 at byte {error.start}: save it as UTF-8"
    except RecursionError:
        why = "nested too deeply"
    except Exception as error:  # the library raises several kinds for a value that is none
        why = str(error) or type(error).__name__
    raise ValueError(f"{path} cannot be read as YAML: {why}")


def _count_nodes(node: yaml.Node, counted: dict[yaml.Node, int]) -> int:
    """Nodes from this one down, as many as there would be if every alias were written out."""
    if node in counted:
        if not counted[node]:  # not done with
            raise ValueError(f"line {node.start_mark.line + 1}: an anchor stands within itself")
        return counted[node]
    counted[node] = 0
    below: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        keys = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        ((_, key), times), *_ = Counter(keys).most_common(1) or [(("", ""), 0)]
        if times > 1:
            line = node.start_mark.line + 1
            raise ValueError(f"key {key} stands twice in the mapping that begins in line {line}")
        below = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        below = node.value
    counted[node] = 1 + sum(_count_nodes(part, counted) for part in below)
    if counted[node] > MOST_NODES:
        raise ValueError(f"with aliases written out it has more than {MOST_NODES} parts")
    return counted[node]


def damage(path: str | Path) -> str:
    """What a file's reader says against it, by the kind that its name tells; nothing if it is read.

    >>> damage("of-a-kind-that-is-not-known.pdf")
    ''
    """
    path = Path(path)
    try:
        match path.suffix:
            case ".parquet":
                import pyarrow.parquet

                pyarrow.parquet.read_table(path)
            case ".json":
                json.loads(path.read_text(encoding="utf-8"))
            case ".csv":
                if not path.read_text(encoding="utf-8").strip():
                    return "it is empty"
            case ".npy":
                import numpy as np

                np.load(path, mmap_mode="r", allow_pickle=False)
            case ".npz":
                with zipfile.ZipFile(path) as archive:
                    if name := archive.testzip():
                        return f"its part {name} is damaged"
            case ".safetensors":
                from safetensors import safe_open

                with safe_open(path, "np"):
                    pass
    except Exception as error:  # every library has its own
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return ""
