"""The workflow on a real SLURM: every figure at the smoke scale, and jobs that do not go well.

The cluster has two nodes on this host, one of them with GPUs that are counted and not there. What
jobs were given is read from the controller, not from the jobs.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
import yaml
from running import ROOT, copy_checkout

HERE = Path(__file__).parent
CLIENT = Path("/opt/tgn-slurm/bin")  # SLURM's own programs, off everyone's PATH
CANNOT = 3  # status of install.sh without apt, root or network
PROFILE = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())

# Rules whose jobs are submitted as one. All of a group ask for one partition, and no path may
# lead out of a group and back into it.
GROUPS = {
    "prepare": ["fixture", "corpus", "tokens"],
    "physics": [
        "free_energy", "random_attention", "landscapes", "spin_glass", "fig5_statistics", "fig5",
    ],
    "brains": [
        "connectome", "brain_model", "virtual_subject", "parcel_signals", "cohort_signals",
        "published_signals", "fmri_ranks", "fmri_reference", "fmri_bias", "fmri_distance",
        "in_silico", "ramps", "lead_lag", "fig14_statistics", "fig14",
    ],
    "figures": [
        "temperature_statistics", "fig1_statistics", "fig1", "fig8_statistics", "fig8",
        "hard_gates", "fig21_statistics", "fig21", "convergence", "fig22_statistics", "fig22",
        "recall_task_gates", "recall_task_statistics", "recall_tasks",
    ],
    "weights": ["weight_levels", "weight_spectra", "scaling_statistics", "scaling"],
    "attractions": [
        "gravity_probes", "gravity_statistics", "gravity", "gravity_coordinates", "gravity_summary",
    ],
    "relations": ["constraints_statistics", "constraints"],
    "verdicts": [
        "bridge_statistics", "bridge", "claims",
        *(f"manuscript_figure{number}" for number in range(1, 6)),
    ],
    # on GPUs
    "pretrained": ["rank_dynamics", "attention_temperature"],
    "languages": ["language_model", "sedation"],
    "recalls": ["recall", "recall_task"],
    "attracting": ["gravity_model", "gravity_times"],
    "constrained": [
        "constraints_model", "constraints_gains", "constraints_spectra", "constraints_sheaf",
    ],
}  # fmt: skip
ALONE = {"attention_times"}

MODEL = "results/smoke/language_model/tgn-0/model.safetensors"
STEPS = 150


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """Environment in which the programs of SLURM's client are found."""
    installed = run(HERE / "cluster/install.sh", CLIENT, limit=600)
    if installed.returncode == CANNOT:
        pytest.skip(f"no SLURM here: {installed.stderr.strip()}")
    assert installed.returncode == 0, installed.stderr[-4000:]
    folder = Path(tempfile.mkdtemp(prefix="tgn-slurm-", dir="/var/tmp"))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever stops us: daemons go too
    try:
        up = run(HERE / "cluster/up.sh", folder, CLIENT)
        assert up.returncode == 0, up.stdout + up.stderr
        yield {**os.environ, "PATH": f"{CLIENT}:{os.environ['PATH']}", "PYTHONPATH": ""}
        run(CLIENT / "scancel", "--user", "root")
        wait_for("an empty queue", lambda: not run(CLIENT / "squeue", "-h").stdout)
    finally:
        noted = (folder / "run/pids").read_text().split()
        down = run(HERE / "cluster/down.sh", folder)
        assert down.returncode == 0, down.stderr
        left = [pid for pid in noted[1::2] if Path("/proc", pid).is_dir()]
        assert not left, "daemons left running"
        shutil.rmtree(folder)
    checkouts = str(tmp_path_factory.getbasetemp())
    running = [p.cmdline() for p in psutil.process_iter(["cwd"]) if checkouts in str(p.info["cwd"])]
    assert not running, "processes left running"


def run(*command, limit=120, **options):
    """A command under a hard limit of time: one that SLURM keeps waiting is killed."""
    return subprocess.run(limited(limit, *command), capture_output=True, text=True, **options)


def limited(seconds, *command):
    return ["timeout", "-k", "5", str(seconds), *map(str, command)]


def snakemake(*arguments, overlays=()):
    settings = ["--profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "3"]
    settings += ["--latency-wait", "10", "--configfile", "tests/slurm/smoke.yaml", *overlays]
    return [sys.executable, "-m", "snakemake", *arguments, *settings, "--config", "scale=smoke"]


def grouped():
    """Jobs of a group ask together for no more than the one that asks for most."""
    rules = [f"{rule}={group}" for group, rules in GROUPS.items() for rule in rules]
    merged = [f"{group}=1000" for group in GROUPS]
    most = {"gpu": 1, "cpus_per_task": 24, "mem_mb": 96000}
    return [
        *["--groups", *rules, "--group-components", *merged],
        *["--set-resource-scopes", *(f"{name}=local" for name in most)],
        *["--resources", *(f"{name}={value}" for name, value in most.items())],
        *["--jobs", "3"],  # the nodes' CPUs are pretended
    ]


def jobs(environment, folder):
    """What the controller knows of a checkout's jobs, oldest first, as scontrol prints it."""
    shown = run(CLIENT / "scontrol", "-o", "show", "job", env=environment)
    lines = [line for line in shown.stdout.splitlines() if line.startswith("JobId=")]
    found = [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines]
    own = [job for job in found if job["WorkDir"] == str(folder)]
    return sorted(own, key=lambda job: int(job["JobId"]))


def wait_for(what, condition, seconds=300):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.1)
    return pytest.fail(f"not within {seconds} s: {what}")


def planned(folder, *arguments, **options):
    """What the jobs of a run ask for, by rule, as Snakemake plans them."""
    said = run(*snakemake(*arguments, "--dry-run", **options), cwd=folder).stdout
    found = {}
    for rule, listed in re.findall(r"^rule (\w+):\n(?:    .*\n)*?    resources: (.*)", said, re.M):
        asked = dict(pair.split("=", 1) for pair in listed.split(", "))
        found.setdefault(rule, []).append(asked)
    return found


def given(job):
    """Megabytes and minutes that a job was given."""
    number, unit = re.search(r"mem=([\d.]+)([MG])", job["TRES"]).groups()
    days, hours, minutes, _ = re.fullmatch(
        r"(?:(\d+)-)?(\d+):(\d+):(\d+)", job["TimeLimit"]
    ).groups(default=0)
    time_limit = (24 * int(days) + int(hours)) * 60 + int(minutes)
    return {"mem_mb": float(number) * (1024 if unit == "G" else 1), "runtime": time_limit}


def rules_of(job):
    """The comment is rule_NAME, with wildcards, or rule_GROUP_NAMES of the rules in order."""
    name = job["Comment"].removeprefix("rule_").split("_wildcards_")[0]
    for group, rules in GROUPS.items():
        if name.startswith(f"{group}_"):
            return rules
    return [name]


@pytest.fixture(scope="session")
def everything(cluster, tmp_path_factory):
    """A checkout in which all figures were made, what was planned for them, and the jobs."""
    folder = copy_checkout(tmp_path_factory.mktemp("everything"))
    plan = planned(folder, "all")
    done = run(*snakemake("all", *grouped()), limit=1500, cwd=folder, env=cluster)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return folder, plan, jobs(cluster, folder)


def test_every_figure_is_made_in_few_jobs(everything):
    folder, plan, submitted = everything
    results = folder / "results/smoke"
    figures = {path.stem for path in results.glob("*.pdf")}
    assert figures >= {rule for rule in plan if re.fullmatch(r"fig\d+|gravity|constraints", rule)}
    assert len(list(results.glob("manuscript/*.pdf"))) == 5
    assert (results / "claims.json").stat().st_size > 500
    assert len(submitted) == len(GROUPS) + len(ALONE) <= 25
    assert {job["JobState"] for job in submitted} == {"COMPLETED"}
    assert {rule for job in submitted for rule in rules_of(job)} >= plan.keys() - {"all"}


def test_jobs_get_what_the_profile_asks_for(everything):
    """A group gets what the greediest of its jobs asks for, and maybe more."""
    _, plan, submitted = everything
    partitions = []
    for job in submitted:
        asked = [asked for rule in rules_of(job) for asked in plan.get(rule, [])]
        most = {
            name: max(int(one[name]) for one in asked)
            for name in ("mem_mb", "runtime", "cpus_per_task")
        }
        assert {one["slurm_partition"] for one in asked} == {job["Partition"]}, job
        on_gpus = job["Partition"] == PROFILE["set-resources"]["rank_dynamics"]["slurm_partition"]
        assert job.get("TresPerJob") == ("gres:gpu:a100:1" if on_gpus else None), job
        assert {one.get("gpu") for one in asked} == {"1" if on_gpus else None}, job
        assert int(job["NumCPUs"]) >= most["cpus_per_task"], job
        for name, amount in given(job).items():
            assert amount >= most[name], job
            assert amount == most[name] or len(asked) > 1, job
        partitions.append(job["Partition"])
    assert partitions.count("a100") == 6
    assert partitions.count("cpu") == 8


@pytest.fixture(scope="session")
def prepared(cluster, tmp_path_factory):
    """A checkout with the text that a language model is trained on."""
    folder = copy_checkout(tmp_path_factory.mktemp("prepared"))
    target = "results/smoke/language_model/tokens/counts.json"
    command = [sys.executable, "-m", "snakemake", target, "--config", "scale=smoke"]
    done = run(*command, limit=300, cwd=folder)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


class Training:
    """A training on two GPUs, in a checkout of its own; its jobs are submitted by Snakemake."""

    def __init__(self, prepared, folder, environment, save_every):
        shutil.copytree(prepared, folder)
        training = {"steps": STEPS, "evaluate_every": STEPS, "save_every": save_every}
        overlay = {"language_model": {"gpus": 2, "training": training}}
        (folder / "long.yaml").write_text(yaml.safe_dump(overlay))
        self.folder, self.environment = folder, environment
        with (folder / "said").open("w") as said:
            self.process = subprocess.Popen(
                limited(600, *snakemake(MODEL, overlays=["long.yaml"])),
                cwd=folder, env=environment, stdout=said, stderr=said,
            )  # fmt: skip

    def jobs(self):
        return jobs(self.environment, self.folder)

    def wait_for_steps(self):
        """Until numbers were recorded twice."""
        sizes = set()

        def recorded():
            assert self.process.poll() is None, self.said()
            events = self.folder.glob("results/smoke/tensorboard/tgn-0/events*")
            sizes.update(path.stat().st_size for path in events)
            return len(sizes) > 3

        wait_for("steps of the training", recorded)

    def finish(self):
        """The weights, and the step from which the last attempt went on."""
        assert self.process.wait(660) == 0, self.said()
        log = (self.folder / "logs/language_model/tgn-0.log").read_text()
        went_on = re.findall(rf"goes on from step (\d+) of {STEPS}", log)
        return (self.folder / MODEL).read_bytes(), [int(step) for step in went_on]

    def said(self):
        return (self.folder / "said").read_text()[-4000:]


@pytest.fixture
def train(prepared, cluster, tmp_path):
    """Start a training; what is under way at the end of a test is stopped."""
    begun = []

    def start(save_every=100 * STEPS):
        begun.append(Training(prepared, tmp_path / "checkout", cluster, save_every))
        return begun[-1]

    yield start
    for training in begun:
        training.process.terminate()
        training.process.wait(60)


@pytest.fixture(scope="session")
def undisturbed(prepared, cluster, tmp_path_factory):
    """The same training, left alone; it runs beside the first that is disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed") / "checkout"
    training = Training(prepared, folder, cluster, save_every=100 * STEPS)
    yield training
    training.process.terminate()
    training.process.wait(60)


def test_a_killed_training_is_retried_from_its_last_state(undisturbed, train):
    training = train(save_every=20)
    wait_for("a state", lambda: [*training.folder.glob("results/smoke/states/*/*/state.pt")])
    workers = [
        process
        for process in psutil.process_iter(["cmdline", "cwd"])
        if "tgn.training.launch" in (process.info["cmdline"] or [])
        and process.info["cwd"] == str(training.folder)
        and "torch.distributed.run" not in process.info["cmdline"]
    ]
    assert len(workers) == 2
    workers[0].kill()
    weights, (step,) = training.finish()
    assert 0 < step < STEPS
    assert step % 20 == 0
    assert [job["JobState"] for job in training.jobs()] == ["FAILED", "COMPLETED"]
    assert weights == undisturbed.finish()[0]


def test_a_training_on_two_gpus_is_one_job(undisturbed):
    _, went_on = undisturbed.finish()
    (job,) = undisturbed.jobs()
    assert job["JobState"] == "COMPLETED"
    asked = PROFILE["set-resources"]["language_model"]
    assert job["TresPerJob"] == f"gres:gpu:{asked['gpu_model']}:2"
    assert (job["NumNodes"], job["NumTasks"]) == ("1", "1")
    assert int(job["NumCPUs"]) == asked["cpus_per_task"]
    assert given(job) == {"mem_mb": asked["mem_mb"], "runtime": 1440}
    assert went_on == []


def test_a_cancelled_training_is_retried_from_where_it_was(undisturbed, train, cluster):
    """There is no other state than the one that is saved when SIGTERM comes."""
    training = train()
    training.wait_for_steps()
    (job,) = training.jobs()
    assert run(CLIENT / "scancel", job["JobId"], env=cluster).returncode == 0
    weights, (step,) = training.finish()
    assert 0 < step < STEPS
    assert [job["JobState"] for job in training.jobs()] == ["CANCELLED", "COMPLETED"]
    assert weights == undisturbed.finish()[0]


def test_a_preempted_training_is_requeued_and_goes_on(undisturbed, train, cluster, tmp_path):
    """Another partition's job takes all GPUs; SLURM, not Snakemake, starts the job again."""
    training = train()
    training.wait_for_steps()
    urgent = ["-p", "urgent", "--gpus=4", "--output=/dev/null", "--wrap", "sleep 1"]
    assert run(CLIENT / "sbatch", *urgent, env=cluster, cwd=tmp_path).returncode == 0

    wait_for("the job to be requeued", lambda: int(training.jobs()[0]["Restarts"]))
    # SLURM may keep a requeued job back for a while, and refuses this if it does not
    begin = ["update", f"JobId={training.jobs()[0]['JobId']}", "StartTime=now"]
    run(CLIENT / "scontrol", *begin, env=cluster)
    weights, (step,) = training.finish()
    assert 0 < step < STEPS
    assert [(job["JobState"], job["Restarts"]) for job in training.jobs()] == [("COMPLETED", "1")]
    assert weights == undisturbed.finish()[0]
