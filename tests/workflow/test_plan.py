"""What is promised before anything runs: plans, the banner, and refusals that help."""

import re
import tomllib

import pytest
import yaml
from running import ROOT, copy_checkout, snakemake

SCRIPTS = sorted((ROOT / "workflow/scripts").glob("*.py"))


def planned(run):
    """Jobs a dry-run counts, by rule."""
    assert run.returncode == 0, run.stderr[-3000:] + run.stdout[-3000:]
    table = (run.stdout + run.stderr).split("Job stats:")[1].split("total")[0]
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table, re.M)}


def test_a_bare_dry_run_plans_everything_and_touches_nothing(checkout):
    before = {path for path in checkout.rglob("*") if ".snakemake" not in path.parts}
    jobs = planned(snakemake(checkout, "--dry-run"))
    assert jobs["fig8"] == jobs["claims"] == 1
    assert jobs["fetch"] == 4
    arms = len(yaml.safe_load((ROOT / "config.yaml").read_text())["spin_glass"]["arms"])
    assert jobs["spin_glass"] == arms  # the committed reference is not computed again
    after = {path for path in checkout.rglob("*") if ".snakemake" not in path.parts}
    assert {path for path in after - before if "__pycache__" not in path.parts} == set()


@pytest.mark.parametrize("target", ["results/fig8.pdf", "fig8"])
def test_one_figure_by_path_or_name_plans_only_itself(checkout, target):
    jobs = planned(snakemake(checkout, "-n", target))
    assert jobs["fig8"] == 1
    assert "claims" not in jobs


def test_the_paper_scale_plans_gpt2_on_wikitext(checkout):
    run = snakemake(checkout, "--config", "scale=paper", "--dry-run", "results/paper/fig8.pdf")
    arms = len(yaml.safe_load((ROOT / "config.yaml").read_text())["rank_dynamics"]["arms"])
    assert planned(run)["rank_dynamics"] == 2 * arms
    for part in ("resources/gpt2/receipt.json", "resources/wikitext-103-raw/receipt.json"):
        assert part in run.stdout + run.stderr


def test_the_paper_scale_trains_every_arm_and_seed_on_gpus_and_draws_on_cpus(checkout):
    run = snakemake(checkout, "--config", "scale=paper", "--dry-run", "results/paper/fig21.pdf")
    jobs = planned(run)
    assert jobs["fetch"] == 2  # WikiText-103 and GPT-2's tokenizer
    assert jobs["tokens"] == jobs["language_model_rates"] == jobs["fig21"] == 1
    said = run.stdout + run.stderr
    assert "resources/wikitext-103-raw/receipt.json" in said
    arms = yaml.safe_load((ROOT / "config.yaml").read_text())["language_model"]["arms"]
    for name in (f"{arm}-{seed}" for arm in arms for seed in range(3)):
        assert f"results/paper/language_model/{name}/model.safetensors" in said
    gpus = {}
    for block in re.split(r"\n(?:local)?rule ", run.stdout)[1:]:
        found = re.search(r"gpu=(\d+)", block)
        gpus.setdefault(block.split(":")[0], set()).add(int(found[1]) if found else 0)
    assert gpus["language_model"] == {1}  # of the six asked for, what one machine is let have
    for rule in ("tokens", "hard_gates", "fig21_statistics", "fig21"):
        assert gpus[rule] == {0}
    lack = "TOO FEW GPUS: language_model asks for 6 GPUs and this run may use 1: "
    assert lack in run.stderr
    assert "--resources gpu=6" in run.stderr.split(lack)[1]


def test_every_start_says_what_it_stands_on(checkout):
    laptop = snakemake(checkout, "-n").stderr
    assert "Scale: laptop (results in results/)" in laptop
    assert re.search(r"smollm2-135m: real, [\d.]+ MB, from the wheel", laptop)
    assert "snakemake all --config scale=paper --resources gpu=6" in laptop
    smoke = snakemake(checkout, "-n", "--config", "scale=smoke").stderr
    assert "fixture-gpt2: simulated" in smoke
    paper = snakemake(checkout, "-n", "--config", "scale=paper").stderr
    assert "results in results/paper/" in paper
    assert "--config scale=paper" not in paper


@pytest.mark.parametrize(
    ("scale", "target", "hint"),
    [
        ("smoke", "results/fig8.pdf", "results/smoke/fig8.pdf"),
        ("laptop", "results/paper/fig8.pdf", "--config scale=paper"),
        ("paper", "results/smoke/claims.json", "results/paper/claims.json"),
        ("smoke", "./results/fig8.pdf", "results/smoke/fig8.pdf"),
    ],
)
def test_a_target_of_another_scale_is_answered_with_the_right_one(checkout, scale, target, hint):
    run = snakemake(checkout, "-n", target, "--config", f"scale={scale}")
    assert run.returncode != 0
    said = run.stdout + run.stderr  # a dry-run logs to standard output
    assert "MissingRuleException" not in said
    assert hint in said


@pytest.mark.parametrize(
    ("overlay", "words"),
    [
        (
            "rank_dynamics: {passages: 3e1}",
            ["rank_dynamics.passages", "'3e1'", "integer", "3.0e-4"],
        ),
        ("rank_dynamics: {pasages: 64}", ["rank_dynamics", "pasages", "passages"]),
        ("rank_dynamics: {lengths: 128}", ["rank_dynamics.lengths", "128", "array"]),
        ("rank_dynamics: {models: [gtp2]}", ["rank_dynamics.models", "gtp2", "gpt2"]),
        (
            "rank_dynamics: {arms: {random_mixer: {draws: 99}}}",
            ["arms.random_mixer.draws", "99", "passages", "48"],
        ),
        ("rank_dynamics: {corpus: wiki}", ["rank_dynamics.corpus", "wiki", "wikipedia-sample"]),
        ("rank_dynamics: {arms: {intact: {mixer: fft}}}", ["arms.intact.mixer", "fft", "random"]),
        ("sede: 3", ["sede", "unknown key"]),
        ("scale: papre", ["scale", "papre", "laptop, paper, smoke"]),
    ],
)
def test_a_wrong_configuration_stops_with_path_given_and_allowed(
    checkout, tmp_path, overlay, words
):
    path = tmp_path / "overlay.yaml"
    path.write_text(overlay)
    run = snakemake(checkout, "--dry-run", "--configfile", str(path))
    assert run.returncode != 0
    said = run.stdout + run.stderr
    assert "Job stats" not in said
    for word in words:
        assert word in said, said


def test_the_default_profile_holds_nothing_a_cluster_profile_sets():
    profile = yaml.safe_load((ROOT / "profiles/default/config.yaml").read_text())
    assert set(profile) <= {"cores", "printshellcmds", "show-failed-logs", "max-jobs-per-timespan"}


def test_the_slurm_profile_names_the_kernels_that_are_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    profile = (ROOT / "profiles/slurm/config.yaml").read_text()
    for pin in (*project["optional-dependencies"]["gpu"], "torch==2.13.0"):
        assert pin in profile
    assert "torch==2.13.0" in project["dependencies"]


def test_slurm_requests_survive_the_default_profile(checkout):
    """profiles/default is laid over every other profile, key by key."""
    run = snakemake(checkout, "--profile", "profiles/slurm", "--dry-run", "all", "shakespeare")
    assert "Scale: paper" in run.stderr
    text = run.stdout + run.stderr
    jobs = dict(re.findall(r"rule (\w+):\n(?:    .*\n)*?    resources: (.*)", text))
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    gpu = profile["set-resources"]["rank_dynamics"]
    for key, value in {**gpu, "gpu": 1, "slurm_account": "default"}.items():
        assert f"{key}={value}" in jobs["rank_dynamics"], jobs["rank_dynamics"]
    for key in ("slurm_partition", "cpus_per_task"):
        assert f"{key}={profile['default-resources'][key]}" in jobs["fig8_statistics"]
    paper = yaml.safe_load((ROOT / "config/scales/paper.yaml").read_text())
    assert f"gpu={paper['language_model']['gpus']}" in jobs["language_model"]
    asking = {name for name, asked in jobs.items() if re.search(r"\bgpu=[1-9]", asked)}
    assert {"language_model", "recall"} <= asking
    elsewhere = [name for name in asking if "slurm_partition=a100" not in jobs[name]]
    assert not elsewhere, "rules that ask for GPUs where there are none"


def test_six_gpus_on_one_machine_are_said_after_the_target(checkout):
    given = ["--config", "scale=paper", "--resources", "gpu=6"]
    run = snakemake(checkout, "-n", "results/paper/fig21.pdf", *given)
    assert planned(run)["language_model"] > 1
    assert "language_model:" in run.stdout
    assert "gpu=6" in run.stdout
    assert "TOO FEW GPUS" not in run.stderr
    # otherwise Snakemake takes the target for a resource
    assert snakemake(checkout, "-n", *given, "results/paper/fig21.pdf").returncode != 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "language_model asks for 6 GPUs and this run may use 1: "),
        # as many on paper
        (["--resources", "gpu=99"], "language_model asks for 6 GPUs and torch finds "),
    ],
)
def test_too_few_gpus_for_a_rule_stop_the_run_before_its_first_job(tmp_path, given, message):
    folder = copy_checkout(tmp_path)
    config = {"language_model": {"gpus": 6}}
    (folder / "gpus.yaml").write_text(yaml.safe_dump(config))
    target = "results/smoke/language_model/tgn-0/model.safetensors"
    command = [target, *given, "--config", "scale=smoke", "--configfile", "gpus.yaml"]
    run = snakemake(folder, *command, CUDA_VISIBLE_DEVICES="")
    assert run.returncode == 1
    assert message in run.stderr.split("Job stats")[1]
    assert not re.search(r"^(local)?rule ", run.stderr, re.M)
    assert not (folder / "results").exists()


def memory(run):
    """Requested memory of each planned rule."""
    text = run.stdout + run.stderr
    jobs = re.findall(r"rule (\w+):\n(?:    .*\n)*?    resources: (.*)", text)
    found = {name: re.search(r"mem_mb=(\d+)", resources) for name, resources in jobs}
    return {name: match and int(match[1]) for name, match in found.items()}


def test_every_job_of_figure_8_says_its_memory(checkout):
    asked = memory(snakemake(checkout, "-n", "fig8"))
    assert {"fetch", "convert", "corpus", "rank_dynamics", "fig8_statistics", "fig8"} == set(asked)
    assert None not in asked.values()


def test_free_memory_limits_this_machine_and_no_cluster(tmp_path):
    """In a container of 1.5 GB a job of 2 GB is cut to what there is, and so runs alone."""
    folder = copy_checkout(tmp_path)
    (folder / "memory.max").write_text("1500000000")
    module = folder / "src/tgn/environment.py"
    text = module.read_text()
    assert text.count('"/sys/fs/cgroup/memory.max"') == 1
    module.write_text(text.replace('"/sys/fs/cgroup/memory.max"', '"memory.max"'))
    assert memory(snakemake(folder, "-n", "fig8"))["rank_dynamics"] == 1500
    chosen = memory(snakemake(folder, "-n", "fig8", "--resources", "mem_mb=1200"))
    assert chosen["rank_dynamics"] == 1200
    paper = yaml.safe_load((ROOT / "config/scales/paper.yaml").read_text())["rank_dynamics"]
    cluster = memory(snakemake(folder, "--profile", "profiles/slurm", "-n", "fig8"))
    assert cluster["rank_dynamics"] == paper["memory_mb"] > 1500


def test_slurm_profile_keeps_the_scale_a_user_asks_for(checkout):
    base = ["--profile", "profiles/slurm", "--dry-run", "all"]
    assert "Scale: smoke" in snakemake(checkout, *base, "--config", "scale=smoke").stderr
    assert "Scale: paper" in snakemake(checkout, *base, "--config", "python_hash_seed=1").stderr


@pytest.mark.parametrize(
    "arguments",
    [["--lint"], ["--list"], ["--summary"], ["--rulegraph", "mermaid-js"], ["--dag"]],
    ids=lambda arguments: arguments[0],
)
def test_the_other_commands_work(checkout, arguments):
    run = snakemake(checkout, *arguments)
    assert run.returncode == 0, run.stderr
    assert "Scale:" not in run.stdout  # the banner must not land in a graph


def edges(graph):
    """Pairs of rules in a Mermaid graph; the order and numbers of its lines mean nothing."""
    names = dict(re.findall(r"^\s*(id\d+)\[(\w+)\]$", graph, re.M))
    pairs = re.findall(r"^\s*(id\d+) --> (id\d+)$", graph, re.M)
    return {(names[first], names[second]) for first, second in pairs}


def test_the_architecture_shows_the_rule_graph_as_it_is(checkout):
    shown = (ROOT / "docs/architecture.md").read_text().split("```mermaid")[1].split("```")[0]
    graph = edges(snakemake(checkout, "--rulegraph", "mermaid-js", "all").stdout)
    assert ("fig8_statistics", "claims") in graph
    assert edges(shown) == graph


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_adapters(script):
    text = script.read_text()
    assert len([line for line in text.splitlines() if line.strip()]) <= 20
    assert "__future__" not in text  # a preamble goes in front, and Python refuses it there
    assert "snakemake.config" not in text  # read there, a changed value would not rerun the job


def test_the_library_knows_nothing_of_snakemake():
    for path in (ROOT / "src").rglob("*.py"):
        assert not re.search(r"^\s*(from|import) snakemake", path.read_text(), re.M), path
