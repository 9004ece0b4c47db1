"""A run that nothing disturbed, and a limit of time for every test."""

import contextlib
import hashlib
import random
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
import yaml
from running import ROOT, copy_checkout, snakemake

TARGETS = (
    "fig8.pdf",
    "recall_tasks/statistics.json",
    "fig21/tgn-0/hard_gates.parquet",
    "bridge/tgn.parquet",
    "language_model/transformer-0/model.safetensors",
    "language_model/tgn-ramp-fast-0/model.safetensors",
    "language_model/gravity-gravity-0/model.safetensors",
    "recall/attention-0/model.safetensors",
    "recall/mamba_16-0/model.safetensors",
    "recall/tgn-0/model.safetensors",
    "fig1/temperature/fixture-gpt2/intact.0.parquet",
    "fig1/temperature/fixture-gpt2/random_weights.0.parquet",
    "fig5/tgn.parquet",
    "fig5/tempering_bitcoded.parquet",
    "scaling/fixture-gpt2/matrices.parquet",
    "fmri/models/P1.json",
    "fmri/cohort/sub-01_files.json",
    "fig1/landscapes.parquet",
    "gravity/numbers.parquet",
    "constraints/fixture-gpt2/gains.parquet",
    "constraints/fixture-gpt2/spectra.parquet",
    "constraints/fixture-gpt2/sheaf.parquet",
)
LIMIT = 1800  # seconds of a test, with what it is the first to need


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """A test that waits for what does not come fails."""

    def stop(*_):
        pytest.fail(f"not done within {LIMIT} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT)
    try:
        return (yield)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def settings():
    """Arguments of a smoke run whose trainings last a while."""
    return ["--configfile", str(ROOT / "tests/faults/kill.yaml"), "--config", "scale=smoke"]


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, settings):
    """A checkout in which some of the smoke scale was made, as nothing outside it need know.

    Also the arguments it was made with, and the home and the place for temporary files it saw.
    """
    outside = tmp_path_factory.mktemp("outside")
    home, temporary = outside / "home", outside / "tmp"
    home.mkdir()
    temporary.mkdir()
    folder = copy_checkout(tmp_path_factory.mktemp("undisturbed"))
    arguments = [*(f"results/smoke/{name}" for name in TARGETS), *settings]
    run = snakemake(folder, *arguments, HOME=str(home), TMPDIR=str(temporary))
    assert run.returncode == 0, run.stderr[-4000:]
    return SimpleNamespace(folder=folder, arguments=arguments, home=home, temporary=temporary)


@pytest.fixture
def toy(tmp_path):
    """A file that a server sends slowly, and how to register it in a checkout as the source toy."""
    body, asked = random.Random(8).randbytes(1 << 20), []

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self):
            begun = int(self.headers.get("Range", "bytes=0-").strip("bytes=-"))
            asked.append(begun)
            self.send_response(206 if begun else 200)
            self.send_header("Content-Length", str(len(body) - begun))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # who asked was killed
                for place in range(begun, len(body), 1 << 14):
                    self.wfile.write(body[place : place + (1 << 14)])
                    time.sleep(0.05)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    entry = {
        "kind": "https",
        "evidence": "simulated",
        "licence": "MIT",
        "description": "noise",
        "url": f"http://127.0.0.1:{server.server_port}/noise.txt",
        "file": "noise.txt",
        "bytes": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
    }

    def register(folder):
        with open(folder / "config/sources.yaml", "a") as registry:
            registry.write("\n" + yaml.safe_dump({"toy": entry}))

    local = {"no_proxy": "127.0.0.1"}
    yield SimpleNamespace(body=body, asked=asked, register=register, environment=local)
    server.shutdown()
    server.server_close()
