"""Benchmark files of a run, summed by rule."""

import pytest

from tgn.times import Cost, costs, table

HEAD = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time"


def benchmark(path, *runs):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{s}\t0:00:01\t{rss}\t1\t1\t1\t0\t0\t50\t{cpu}" for s, rss, cpu in runs]
    path.write_text("\n".join([HEAD, *lines]) + "\n")


@pytest.fixture
def results(tmp_path):
    root = tmp_path / "benchmarks"
    benchmark(root / "train/model/a.tsv", (10.0, 300.0, 8.0))
    benchmark(root / "train/model/b.tsv", (20.0, 500.0, 15.0))
    benchmark(root / "measure.tsv", (100.0, 50.0, 90.0), (1.0, 60.0, 0.5))  # repeated
    benchmark(root / "short/x.tsv", (0.1, "NA", "-"))
    return tmp_path


def test_jobs_are_summed_by_rule_and_the_dearest_is_first(results):
    assert costs(results) == [
        Cost("measure", 1, 101.0, 90.5, 60.0),
        Cost("train", 2, 30.0, 23.0, 500.0),
        Cost("short", 1, 0.1, 0.0, 0.0),
    ]


def test_the_table_has_a_line_for_each_rule_and_their_sum(results):
    lines = table(costs(results)).splitlines()
    assert [line.split()[0] for line in lines[:-1]] == ["rule", "measure", "train", "short", "sum"]
    assert lines[4].split() == ["sum", "4", "131.1", "113.5", "500"]


def test_nothing_computed_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing has been computed"):
        costs(tmp_path)
