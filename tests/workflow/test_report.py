"""The report: what it holds, and that a browser without a network shows it."""

import json
import re
import shutil
import subprocess

import pytest
from PIL import Image
from running import snakemake

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((found for found in map(shutil.which, BROWSERS) if found), None)


@pytest.fixture(scope="module")
def report(smoke_run):
    arguments = ["--report", "report.html", "all", "--config", "scale=smoke"]
    run = snakemake(smoke_run, *arguments)
    assert run.returncode == 0, run.stderr[-4000:]
    return smoke_run / "report.html"


@pytest.fixture(scope="module")
def shown(report):
    """What the report shows, by path: its entries, with their captions."""
    text = report.read_text(encoding="utf-8")
    return json.loads(re.search(r"var results = (\{.*?\});\n", text).group(1))


def test_every_figure_stands_in_it_with_the_verdicts_that_rest_on_it(shown, smoke_run):
    figures = {path: entry for path, entry in shown.items() if path.endswith(".pdf")}
    folder = smoke_run / "results/smoke"
    drawn = {
        str(path.relative_to(smoke_run))
        for path in (*folder.glob("*.pdf"), *folder.glob("manuscript/*.pdf"))
    }
    assert len([path for path in drawn if "manuscript" in path]) == 5
    assert drawn <= figures.keys()
    for path in drawn:
        caption = re.sub(r"<[^>]*>", "", figures[path]["caption"])
        verdicts = caption.count("not testable at this scale · ")
        assert verdicts or "No claim rests on this figure." in caption, path
        assert caption.count("Control: ") == verdicts <= caption.count("Published: ")
        if "manuscript" in path:
            assert verdicts == caption.count("Ours: ") > 0, path
    assert "Effective rank" in figures["results/smoke/fig8.pdf"]["caption"]


def test_nothing_of_the_templates_is_left_in_the_captions(shown):
    for path, entry in shown.items():
        assert not re.search(r"\{\{|\}\}|\.\. raw::|system-message", entry["caption"]), path


def rendered(report, then=""):
    """The page as a browser without a network has it, after some JavaScript; and its picture."""
    page, picture = report.with_name("shown.html"), report.with_name("shown.png")
    text = report.read_text(encoding="utf-8")
    head, end, tail = text.rpartition("</body>")
    page.write_text(f"{head}<script>setTimeout(() => {{{then}}}, 500)</script>{end}{tail}")
    command = [
        BROWSER,
        "--headless",
        "--no-sandbox",  # a browser that root starts, as in a container, has none
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--proxy-server=127.0.0.1:9",
        f"--user-data-dir={report.with_name('browser')}",
        "--window-size=1400,900",
        "--virtual-time-budget=15000",
    ]
    for wanted in (f"--screenshot={picture}", "--dump-dom"):
        run = subprocess.run([*command, wanted, page.as_uri()], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
    # scripts, too, hold every word of the report; only this part of the page is seen
    seen = re.search(r'<div id="app">(.*?)<script', run.stdout, re.DOTALL).group(1)
    return seen, re.sub(r"<[^>]*>", " ", seen), Image.open(picture)


@pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(BROWSERS)} is installed")
class TestInABrowser:
    def test_the_front_page_has_the_counts_the_categories_and_the_graph(self, report):
        page, text, picture = rendered(report)
        assert "Scale: smoke" in text
        assert re.search(r"figure 8\s+–\s+–\s+–\s+\d", text)
        assert text.index("Claims and verdicts") < text.index("Thermodynamic Gated Networks")
        assert re.search(r'<canvas [^>]*class="marks"', page)  # the graph of the workflow
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 20

    def test_a_figure_is_opened_with_its_verdicts(self, report):
        _, text, _ = rendered(report, 'app.showResultInfo("results/smoke/fig8.pdf")')
        assert "Effective rank of a language model" in text
        assert "not testable at this scale" in text
