"""A browser without a network, where one is installed."""

import shutil
import subprocess

import pytest
from PIL import Image

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((found for found in map(shutil.which, BROWSERS) if found), None)
needs_browser = pytest.mark.skipif(
    BROWSER is None, reason=f"none of {', '.join(BROWSERS)} is installed"
)


def rendered(page, script, *flags, after=500):
    """A page as the browser has it some milliseconds after it ran JavaScript; and its picture."""
    shown, picture = page.with_name("shown.html"), page.with_name("shown.png")
    head, end, tail = page.read_text(encoding="utf-8").rpartition("</body>")
    shown.write_text(f"{head}<script>setTimeout(() => {{{script}}}, {after})</script>{end}{tail}")
    command = [
        BROWSER,
        "--headless",
        "--no-sandbox",  # a browser that root starts, as in a container, has none
        "--disable-dev-shm-usage",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--proxy-server=127.0.0.1:9",
        f"--user-data-dir={page.with_name('browser')}",
        "--virtual-time-budget=15000",
        *flags,
    ]
    for wanted in (f"--screenshot={picture}", "--dump-dom"):
        run = subprocess.run([*command, wanted, shown.as_uri()], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
    return run.stdout, Image.open(picture)
