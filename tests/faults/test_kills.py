"""Jobs and runs are killed at random moments; in the end all is as if nothing had happened."""

import contextlib
import csv
import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import psutil
import pytest
from running import copy_checkout, snakemake, start

SEED = 8  # of the moments
LEAST = 20
RULES = 8  # over which they spread
RESULTS = Path("results/smoke")
STATES = {"language_model": "", "recall": "recall-", "recall_tasks": "recall-task-"}
CLOCKS = {"started", "retrieved", "wall_seconds", "cpu_seconds", "peak_rss_bytes"}


def moment(*what):
    """A number from 0 to 1, the same in every run."""
    return random.Random(f"{SEED} {what}").random()


def descendants(pid):
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def kill(pid):
    """Kill a job's process with its descendants, if it is there."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for one in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        return True
    return False


def kill_all(run):
    """Kill Snakemake and, in one moment, all that it started: jobs stay in its process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(run.pid, signal.SIGKILL)
    run.wait()


def jobs_at_work(run, folder):
    """Process ids of jobs, by the log that each writes: ``recall/tgn-0``."""
    logs, found = folder / "logs", {}
    for process in descendants(run.pid):
        try:
            opened = [Path(file.path) for file in process.open_files()]
        except psutil.Error:  # it has ended
            continue
        for path in opened:
            if path.suffix == ".log" and path.is_relative_to(logs):
                found.setdefault(str(path.relative_to(logs).with_suffix("")), process.pid)
    return found


def seconds(folder, job):
    """How long a job took."""
    try:
        with open(folder / RESULTS / f"benchmarks/{job}.tsv") as handle:
            return float(next(csv.DictReader(handle, delimiter="\t"))["s"])
    except FileNotFoundError:
        return 2.0


def has_state(folder, job):
    rule, _, name = job.partition("/")
    states = folder / RESULTS / "states" / f"{STATES.get(rule, '?')}{name}"
    return any(states.glob("*/state.pt"))


def disturb(folder, arguments, lengths):
    """Run to the end, killing each job once, and trainings again when they have a state.

    Every eighth kill is one of Snakemake itself, with all that it has at work, and another run
    goes on from there. Returns how often each job was killed, how often with a state to go on
    from, and how often Snakemake was.
    """
    killed, with_state, due, runs = Counter(), Counter(), {}, 0
    run = begin(folder, arguments)
    while run.poll() is None:
        time.sleep(0.05)
        at_work = jobs_at_work(run, folder)
        for job, pid in at_work.items():
            stateful = has_state(folder, job)
            if killed[job] >= 1 + stateful:
                continue
            longest = 1.0 if killed[job] else seconds(lengths, job)
            due.setdefault(pid, time.monotonic() + longest * moment(job, killed[job]))
            if time.monotonic() < due[pid]:
                continue
            with_all = killed.total() % 8 == 7
            hit = list(at_work) if with_all else [job]
            if with_all:
                kill_all(run)
            elif not kill(pid):
                continue
            killed.update(hit)
            with_state.update(job for job in hit if has_state(folder, job))
            if with_all:
                runs += 1
                unlocked = snakemake(folder, *arguments, "--unlock")
                assert unlocked.returncode == 0, unlocked.stderr[-2000:]
                run = begin(folder, arguments)
                break
    assert run.returncode == 0, (folder / "run.txt").read_text()[-4000:]
    return killed, with_state, runs


def begin(folder, arguments):
    with open(folder / "run.txt", "w") as output:
        return start(folder, *arguments, "--rerun-incomplete", "--retries", "2", output=output)


@pytest.fixture(scope="module")
def disturbed(undisturbed, tmp_path_factory):
    """The same checkout after many kills, and how many."""
    folder = copy_checkout(tmp_path_factory.mktemp("disturbed"))
    return folder, *disturb(folder, undisturbed.arguments, undisturbed.folder)


def files(folder):
    """Results and downloads by name, without what tells of time alone."""
    found = {
        path.relative_to(folder): path
        for part in (RESULTS, Path("resources"))
        for path in sorted((folder / part).rglob("*"))
        if path.is_file()
    }
    times = {"benchmarks", "tensorboard"}
    return {name: path for name, path in found.items() if not times & set(name.parts)}


def content(path):
    """What must be equal to the last bit: everything but clocks, and the dates in a PDF."""
    if path.name == "timings.parquet":
        return pd.read_parquet(path)["step"].tolist()
    if path.suffix == ".pdf":
        return path.read_bytes()[:4]
    if path.name.endswith(("provenance.json", "receipt.json")):
        record = json.loads(path.read_text())
        return {key: value for key, value in record.items() if key not in CLOCKS}
    return path.read_bytes()


def test_results_are_those_of_an_undisturbed_run(undisturbed, disturbed, record_property):
    folder, killed, with_state, runs = disturbed
    expected, found = files(undisturbed.folder), files(folder)
    other = [str(name) for name in expected if content(expected[name]) != content(found[name])]
    assert not other
    assert killed.total() >= LEAST
    assert with_state.total() > 0
    assert runs > 0
    by_rule = Counter()
    for job, number in killed.items():
        by_rule[job.partition("/")[0]] += number
    assert len(by_rule) >= RULES
    spread = ", ".join(f"{rule} {number}" for rule, number in by_rule.most_common())
    record_property(
        "tried",
        f"{killed.total()} kills of jobs (seed {SEED}), {with_state.total()} of them trainings "
        f"with a state to go on from; Snakemake itself killed {runs} times; {len(expected)} files "
        f"compared\n  {spread}",
    )


def test_killed_jobs_leave_nothing_behind(undisturbed, disturbed):
    folder, *_ = disturbed
    assert set(files(folder)) == set(files(undisturbed.folder))


def test_a_killed_download_goes_on(tmp_path, toy, record_property):
    folder = copy_checkout(tmp_path / "checkout")
    toy.register(folder)
    arguments = ("resources/toy/receipt.json", "--config", "scale=smoke")
    place, sizes = folder / "resources/toy", []
    half = place / ".incoming/noise.txt"
    for number in range(3):
        run = start(folder, *arguments, **toy.environment)
        goal = len(toy.body) * (number + moment("download", number)) / 4
        while not half.exists() or half.stat().st_size < goal:
            assert run.poll() is None
            time.sleep(0.01)
        assert kill(jobs_at_work(run, folder)["fetch/toy"])
        assert run.wait() != 0
        assert [path.name for path in place.iterdir()] == [".incoming"]
        sizes.append(half.stat().st_size)
    run = snakemake(folder, *arguments, **toy.environment)
    assert run.returncode == 0, run.stderr[-2000:]
    assert (place / "noise.txt").read_bytes() == toy.body
    assert sorted(path.name for path in place.iterdir()) == ["noise.txt", "receipt.json"]
    assert toy.asked == [0, *sizes]
    record_property("tried", f"{len(sizes)} kills, at {sizes} of {len(toy.body)} bytes")
