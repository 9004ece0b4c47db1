"""Configuration, paths and registries that every rules file uses."""

import re
import os
import shlex
import sys
from functools import cache
from pathlib import Path

import psutil
from snakemake.exceptions import WorkflowError

SOURCE_ROOT = Path(workflow.basedir) / "src"
sys.path.insert(0, str(SOURCE_ROOT))

from tgn import config as configuration
from tgn import environment
from tgn import sources
from tgn.fmri import plan as fmri_plan
from tgn.training import plan as language_plan
from tgn.training import recall_plan, recall_tasks_plan

# Jobs find the library without being told, on this machine, on a cluster node or under conda.
environment.put_first("PYTHONPATH", SOURCE_ROOT)
# What libraries keep for later, lists of fonts and compiled kernels, stays in this folder.
for variable in ("MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
    environment.put(variable, Path(".snakemake/caches", variable).resolve())
# Snakemake puts the name of its Python into shell commands as it is, with the blanks in it.
sys.executable = shlex.quote(sys.executable)

RESULTS = {"laptop": "results", "paper": "results/paper", "smoke": "results/smoke"}
# Each figure's rules file adds its own; `UNDECIDED` are the statistics that could not be had.
FIGURES, STATISTICS, UNDECIDED = [], [], []
SOURCES = sources.load_registry("config/sources.yaml")
MODELS = configuration.read_yaml("config/models.yaml")
REAL_RECORDINGS = "snakemake results/paper/fig14.pdf --config scale=paper"
OWN_DERIVATIVES = "snakemake results/fig14.pdf --config fmri_derivatives=PATH"


def readable(*paths):
    """The last of these files of configuration, once all are known to hold no trap.

    Snakemake's own reader takes the last of two equal keys, and as many aliases as there are.
    """
    try:
        if workflow.is_main_process:  # its jobs need not look again
            for path in paths:
                configuration.read_mapping(path)
    except (ValueError, FileNotFoundError) as error:
        raise WorkflowError(str(error)) from None
    return str(paths[-1])


def overlay(config):
    """The active scale's overlay; a command-line --config scale=... has been merged by now."""
    try:
        return readable(configuration.scale_overlay(config))
    except ValueError as error:
        raise WorkflowError(str(error)) from None


def checked(config):
    """The merged configuration, validated, with defaults filled in."""
    config.setdefault("scale", config.get("default_scale"))
    schema = configuration.read_yaml("config/schema.yaml")
    try:
        complete = configuration.completed(config, schema)
        configuration.check(complete, schema)
        complete = configuration.without_null_arms(complete)
        check_names(complete)
        # a shell leaves the ~ of fmri_derivatives=~/... alone
        own = complete["fmri_derivatives"]
        complete["fmri_derivatives"] = own and os.path.expanduser(own)
        fmri_plan.check(complete["fmri"], complete["fmri_derivatives"], SOURCES)
    except (ValueError, FileNotFoundError) as error:
        raise WorkflowError(str(error)) from None
    environment.put("PYTHONHASHSEED", complete["python_hash_seed"])
    environment.put(environment.REQUIRE_GPUS, int(complete["require_gpus"]))
    return complete


def limit_resources():
    """Keep jobs that run side by side on this machine to one GPU and to the memory free now.

    Rules say what they need as `mem_mb`; one that needs more than there is runs alone. A cluster
    keeps its own account, and would be asked for no more than the limit: so it has none, and
    profiles, which a cluster's run reads too, cannot hold it. --resources gpu=... mem_mb=... on the
    command line wins.
    """
    # Only on a cluster is there a number of nodes (`jobs` of its profile), dry-runs included.
    if not workflow.is_main_process or workflow.nodes is not None:
        return
    free = min(psutil.virtual_memory().available, environment.memory_limit())
    for name, limit in {"gpu": 1, "mem_mb": max(1, round(free / 1e6))}.items():
        if name not in workflow.global_resources:
            workflow.register_resource(name, limit)


def library(*modules):
    """Library files a rule's numbers depend on: editing one reruns the rule."""
    return [f"src/tgn/{module}" for module in modules]


def model_receipt(name):
    """What stands for a model on disk: the receipt beside its files."""
    model = MODELS[name]
    folder = f"converted-{name}" if model["form"] == "gguf" else model["source"]
    return f"resources/{folder}/receipt.json"


def verdict_files(statistics):
    """A file of verdicts for the captions of each figure, beside its statistics."""
    folders = sorted({os.path.dirname(path) for path in statistics})
    return [f"{folder}/verdicts.html" for folder in folders]


def evidence(*names):
    """Real, unless any of the sources is simulated."""
    kinds = {SOURCES[name]["evidence"] for name in names}
    return "simulated" if "simulated" in kinds else "real"


def glass_budget(glass, arm):
    """CPU seconds a sample and rungs of the ladder, by size: references have more of both."""
    if not arm.startswith("reference"):
        return glass["seconds"], glass["rungs"]
    longer = [glass["reference_factor"] * seconds for seconds in glass["seconds"]]
    return longer, [2 * rungs + 4 for rungs in glass["rungs"]]


def glass_samples(glass, arm):
    """Disorder samples a size."""
    return glass["arms"].get(arm, glass["samples"])


def glass_threads(arm):
    """Long runs take the samples block by block in threads; arms are timed on one."""
    return 16 if arm.startswith("reference") else 1


def glass_memory(glass, arm):
    """Megabytes: 5 bytes a spin of TGN's replicas, 100 a site for couplings, and the libraries."""
    spins = [
        side**3 * (100 + 5 * 4 * rungs)
        for side, rungs in zip(glass["sides"], glass["rungs"])
    ]
    return 500 + int(glass_samples(glass, arm) * max(spins) / 1e6)


def glass_minutes(glass, arm):
    """Twice the CPU time, for a long run a quarter (few blocks may share it), and half an hour."""
    seconds, _ = glass_budget(glass, arm)
    total = sum(seconds) * len(glass["disorders"]) * glass_samples(glass, arm)
    return 30 + int(2 * total / min(glass_threads(arm), 4) / 60)


def text_inputs(wildcards, section="language_model"):
    """What a section's text is made from: a corpus, or a source; maybe a tokenizer."""
    text = config[section]["text"]
    found = {
        "corpus": (
            f"<results>/corpora/{text['corpus']}.parquet"
            if text["corpus"]
            else f"resources/{text['source']}/receipt.json"
        )
    }
    if text["tokenizer"] not in (None, "char"):
        found["pretrained"] = f"resources/{text['tokenizer']}/receipt.json"
    return found


@cache  # Snakemake asks again for every job, and after every job
def language_runs():
    """Runs of the figures, and of the sweeps and the screening, of language models, by name."""
    language, convergence = config["language_model"], config["convergence"]
    gravity = config["gravity"]
    runs = language_plan.runs(language)
    runs |= language_plan.convergence_runs(language, convergence)
    runs |= language_plan.gravity_runs(language, gravity)
    runs |= language_plan.constraints_runs(language, config["constraints"])
    sweeps = language_plan.gravity_screening(language, gravity)
    sweeps |= language_plan.sweep(language)
    sweeps |= language_plan.convergence_sweep(language, convergence)
    return runs, sweeps | language_plan.gravity_sweep(language, gravity)


@cache
def recall_runs():
    """Runs of the figure, and of the sweep, on associative recall, by name."""
    return recall_plan.runs(config["recall"]), recall_plan.sweep(config["recall"])


def settings_of(name, kind, runs, sweeps):
    """The arguments of one of these runs."""
    try:
        return (runs | sweeps)[name]
    except KeyError:
        raise WorkflowError(
            f"no {kind} is called {name!r}; there are " + ", ".join(runs)
        ) from None


def run_settings(name):
    """A training run's arguments, of a figure or of the sweep."""
    return settings_of(name, "training run", *language_runs())


def seeded_runs(config, arms):
    """The runs of these arms with each seed, those of figure 22 if figure 21 lacks the arm."""
    language, convergence = config["language_model"], config["convergence"]
    own = language_plan.runs(language)
    others = {
        name: run
        for name, run in language_plan.convergence_runs(language, convergence).items()
        if run["arm"] not in language["arms"] or name == f"{run['arm']}-{run['seed']}"
    }
    return {
        name: run
        for name, run in (others | own).items()
        if run["arm"] in arms and name.endswith(f"{run['arm']}-{run['seed']}")
    }


def tokens_of(run):
    """The text that a training run reads."""
    return f"<results>/{run.get('text', 'language_model')}/tokens/counts.json"


def training_code(run):
    """What decides the weights of a run: a state of other code is not gone on with."""
    gravity = run["model"].get("mixer") == "gravity"
    return TRAINING_CODE + (GRAVITY_CODE if gravity else [])


def constraints_about(name):
    """What the tables of the constraints say of a pretrained model."""
    model, half = MODELS[name], name in config["constraints"]["bfloat16"]
    dtype = "bfloat16" if half else "float32"
    return {
        "label": name,
        "lab": model["lab"],
        "family": model["family"],
        "dtype": dtype,
    }


def constraints_memory(name):
    """Megabytes: stored in half precision, loaded as fp32 or bf16, and beside itself for a moment."""
    stored = SOURCES[MODELS[name]["source"]].get("bytes", 0)
    copies = 2 if name in config["constraints"]["bfloat16"] else 3
    return config["constraints"]["memory_mb"] + round(copies * stored / 1e6)


def start_of_run(wildcards):
    """What a run stands on: its text, learning rates, and weights to start from."""
    run = run_settings(wildcards.run)
    found = {"tokens": tokens_of(run)}
    if run["rate"] is None:
        section = run["rates"]
        found["rates"] = config[section]["rates"] or f"<results>/{section}/rates.csv"
    if run["start"]:
        found["start"] = f"<results>/language_model/{run['start']}/model.safetensors"
    return found


def part_of(source):
    """Which files of a source are needed, as patterns of their paths; None for all."""
    if SOURCES[source]["kind"] != "openneuro":
        return None
    people = config["fmri"]["datasets"]["recordings"]["subjects"]
    return ["dataset_description.json", "participants.tsv"] + [
        f"sub-{subject}/*" for subject in people
    ]


def require_fmriprep(rules):
    """Stop before the first download if fMRIPrep is to run and could not.

    A dry-run needs none of this, and neither does another figure.
    """
    if "fmriprep" in rules and (lacking := fmri_plan.lacking(config["fmri"])):
        raise WorkflowError(
            "\n  ".join(["Figure 14 runs fMRIPrep on this scale and lacks", *lacking])
            + f"\nOr read derivatives made elsewhere: {OWN_DERIVATIVES}"
        )


def gpus_asked(rules):
    """GPUs that each of these rules asks for, by name; on a cluster, which has a count, none."""
    if workflow.nodes is not None:
        return {}
    asked = {
        one.name: one.resources["gpu"].value for one in rules if "gpu" in one.resources
    }
    return {name: n for name, n in asked.items() if isinstance(n, int) and n}


def lack_of_gpus(asked):
    """What to say if rules ask for more GPUs than the run may use, to which Snakemake cuts them."""
    limit = workflow.global_resources.get("gpu")
    more = {
        name: n for name, n in asked.items() if limit is not None and n > limit.value
    }
    if not more:
        return ""
    return (
        ", ".join(f"{name} asks for {n} GPUs" for name, n in more.items())
        + f" and this run may use {limit.value}: where there are as many, say so with "
        f"--resources gpu={max(more.values())}; on a cluster use --profile profiles/slurm; or set "
        "the `gpus` of its section of the configuration"
    )


def require_gpus(rules):
    """Stop before the first job where a rule asks for more GPUs than the run may use, or finds."""
    from tgn import jobs  # most starts need none of it

    asked = gpus_asked(rules)
    if lack := lack_of_gpus(asked):
        raise WorkflowError(lack)
    try:
        for name, number in asked.items():
            jobs.require_gpus(number, name)
    except RuntimeError as error:
        raise WorkflowError(str(error)) from None


def pulled_image():
    """Where the container of fMRIPrep goes when it is fetched."""
    name = Path(config["fmri"]["fmriprep"]["container"]).name
    return f"resources/containers/{re.sub('[^A-Za-z0-9.-]', '-', name)}.sif"


def fmriprep_image():
    """The container as a file: fetched, or the user's own."""
    place = config["fmri"]["fmriprep"]["container"]
    return pulled_image() if "://" in place else place


def fmriprep_work(subject):
    """Folder for what fMRIPrep keeps while it works."""
    usual = Path(RESULTS[config["scale"]], "fmri", "unfinished")
    return str(Path(config["fmri"]["fmriprep"]["work"] or usual, f"sub-{subject}"))


def atlases_of(*datasets):
    """A pattern of the atlases that are laid over these data sets."""
    known = config["fmri"]["datasets"]
    names = [
        atlas
        for data in datasets
        for atlas in known.get(data, {"atlases": []})["atlases"]
    ]
    return "|".join(map(re.escape, names))


def fmri_dataset(atlas):
    """The data set that an atlas is laid over."""
    return config["fmri"]["datasets"][fmri_plan.dataset_of(config["fmri"], atlas)]


def fmri_root(atlas):
    """The folder of derivatives that an atlas is laid over."""
    dataset = fmri_plan.dataset_of(config["fmri"], atlas)
    if dataset == "fixture":
        return f"resources/{fmri_dataset(atlas)['source']}"
    if dataset == "cohort":
        return f"{RESULTS[config['scale']]}/fmri/cohort"
    return config["fmri_derivatives"] or f"{RESULTS[config['scale']]}/fmri/fmriprep"


def images_of(wildcards):
    """What one person's preprocessed images come from."""
    dataset = fmri_plan.dataset_of(config["fmri"], wildcards.atlas)
    if dataset == "fixture":
        return f"resources/{fmri_dataset(wildcards.atlas)['source']}/receipt.json"
    if dataset == "cohort":
        return f"<results>/fmri/cohort/sub-{wildcards.subject}_files.json"
    if config["fmri_derivatives"]:
        return sorted(
            str(path)
            for path in Path(config["fmri_derivatives"]).glob(
                f"sub-{wildcards.subject}/func/*"
            )
            if path.name.endswith(("_desc-preproc_bold.nii.gz", "_timeseries.tsv"))
        )
    return f"<results>/fmri/fmriprep/sub-{wildcards.subject}.provenance.json"


def untouched(atlas):
    """Root and space of the images that are taken as published: raw ones, where there are any."""
    dataset = fmri_dataset(atlas)
    if fmri_plan.dataset_of(config["fmri"], atlas) == "recordings":
        return f"resources/{dataset['source']}", None
    return fmri_root(atlas), dataset["space"]


def untouched_images_of(wildcards):
    """What they come from."""
    root, space = untouched(wildcards.atlas)
    return f"{root}/receipt.json" if space is None else images_of(wildcards)


def brain_of(wildcards):
    """Connectome and fitted model of a virtual subject's person."""
    person = fmri_plan.people(config["fmri"])[wildcards.subject]
    return {
        "connectome": f"<results>/fmri/connectomes/{person}.npz",
        "fitted": f"<results>/fmri/models/{person}.json",
    }


def signals_of(wildcards):
    """Signals of all people, arms and atlases of a data set."""
    section, dataset = config["fmri"], wildcards.dataset
    return [
        f"<results>/fmri/signals/{arm}/{atlas}/sub-{subject}.npz"
        for arm in fmri_plan.arms(section, dataset, config["fmri_derivatives"])
        for atlas in section["datasets"][dataset]["atlases"]
        for subject in fmri_plan.subjects(section, dataset)
    ]


def by_arm(paths):
    """Files of signals among a job's outputs, by the arm that their folder names."""
    return {Path(path).parts[-3]: path for path in paths if path.endswith(".npz")}


def judged_ranks(wildcards):
    """Ranks of the virtual cohort, on which the method is judged, if it is."""
    used = fmri_plan.datasets_in_use(config["fmri"], config["fmri_derivatives"])
    if "cohort" not in used:
        return {}
    return {
        "validation": "<results>/fig14/cohort/ranks.parquet",
        "bias": "<results>/fig14/bias.parquet",
    }


def recall_settings(name):
    """A run on associative recall: its arguments, of the figure or of the sweep."""
    return settings_of(name, "run on recall", *recall_runs())


def rates_of_recall(wildcards):
    """The learning rates that a run on recall takes its own from, if it has none."""
    if recall_settings(wildcards.run)["rate"] is not None:
        return {}
    return {"rates": config["recall"]["rates"] or "<results>/recall/rates.csv"}


def recall_task_settings(name):
    """A run on the small recall tasks: its arguments, of the figure or of the sweep."""
    section = config["recall_tasks"]
    runs, sweep = recall_tasks_plan.runs(section), recall_tasks_plan.sweep(section)
    return settings_of(name, "run on the recall tasks", runs, sweep)


def rates_of_recall_task(wildcards):
    """The learning rates that a run on a small task takes its own from, if it has none."""
    run = recall_task_settings(wildcards.run)
    if run["rate"] is not None:
        return {}
    rates = config["recall_tasks"]["tasks"][run["task"]]["rates"]
    return {"rates": rates or f"<results>/recall_tasks/{run['task']}_rates.csv"}
