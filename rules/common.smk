"""Configuration, paths and registries that every rules file uses."""

import re
import os
import sys
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

RESULTS = {"laptop": "results", "paper": "results/paper", "smoke": "results/smoke"}
FIGURES, STATISTICS = [], []  # each figure's rules file adds its own
SOURCES = sources.load_registry("config/sources.yaml")
MODELS = configuration.read_yaml("config/models.yaml")
REAL_RECORDINGS = "snakemake results/paper/fig14.pdf --config scale=paper"
OWN_DERIVATIVES = "snakemake results/fig14.pdf --config fmri_derivatives=PATH"


def overlay(config):
    """The active scale's overlay; a command-line --config scale=... has been merged by now."""
    try:
        return configuration.scale_overlay(config)
    except ValueError as error:
        raise WorkflowError(str(error)) from None


def checked(config):
    """The merged configuration, validated, with defaults filled in."""
    config.setdefault("scale", config["default_scale"])
    schema = configuration.read_yaml("config/schema.yaml")
    try:
        complete = configuration.completed(config, schema)
        configuration.check(complete, schema)
        check_names(complete)
        # a shell leaves the ~ of fmri_derivatives=~/... alone
        own = complete["fmri_derivatives"]
        complete["fmri_derivatives"] = own and os.path.expanduser(own)
        fmri_plan.check(complete["fmri"], complete["fmri_derivatives"], SOURCES)
    except (ValueError, FileNotFoundError) as error:
        raise WorkflowError(str(error)) from None
    environment.put("PYTHONHASHSEED", complete["python_hash_seed"])
    return complete


def check_names(config):
    """Every model and corpus that is named must be registered."""
    rank = config["rank_dynamics"]
    for model in rank["models"]:
        if model not in MODELS:
            raise ValueError(
                f"rank_dynamics.models: {model!r} given; config/models.yaml has {', '.join(MODELS)}"
            )
    for name, arm in rank["arms"].items():
        if arm["draws"] > rank["passages"]:
            raise ValueError(
                f"rank_dynamics.arms.{name}.draws: {arm['draws']} given; the draws share "
                f"rank_dynamics.passages, which is {rank['passages']}"
            )
    glass = config["spin_glass"]
    for key in ("rungs", "seconds"):
        if len(glass[key]) != len(glass["sides"]):
            raise ValueError(
                f"spin_glass.{key}: {len(glass[key])} values given; spin_glass.sides has "
                f"{len(glass['sides'])}, and each side needs one"
            )
    if (most := max(glass["arms"].values())) > glass["samples"]:
        raise ValueError(
            f"spin_glass.arms: {most} samples given; spin_glass.samples is {glass['samples']}"
        )
    corpus = rank["corpus"]
    if corpus not in config["corpora"]:
        raise ValueError(
            f"rank_dynamics.corpus: {corpus!r} given; corpora has {', '.join(config['corpora'])}"
        )
    check_language_model(config)
    check_convergence(config)
    check_recall(config)
    check_recall_tasks(config)


def check_language_model(config):
    """What would otherwise be found out only after the trainings: wrong names, and gaps in the plan."""
    section = config["language_model"]
    text, arms = section["text"], section["arms"]
    if (text["corpus"] is None) == (text["source"] is None):
        raise ValueError("language_model.text: give either `corpus` or `source`")
    if text["corpus"] and text["corpus"] not in config["corpora"]:
        raise ValueError(
            f"language_model.text.corpus: {text['corpus']!r} given; corpora has "
            f"{', '.join(config['corpora'])}"
        )
    for key in ("source", "tokenizer"):
        if text[key] and text[key] not in SOURCES:
            raise ValueError(
                f"language_model.text.{key}: {text[key]!r} given; config/sources.yaml has "
                f"{', '.join(SOURCES)}"
            )
    named = {section["swept"]} | {
        other for arm in arms.values() for other in arm.get("match", {}).values()
    }
    if unknown := sorted(named - set(arms)):
        raise ValueError(
            f"language_model: {', '.join(unknown)} named; arms has {', '.join(arms)}"
        )
    if arms[section["swept"]]["model"].get("mixer") != "gated":
        raise ValueError(
            f"language_model.swept: {section['swept']} has no gate; name an arm with mixer: gated"
        )
    if section["penalty"] in section["penalties"]:
        raise ValueError(
            f"language_model.penalties: {section['penalty']} is the penalty of every arm already"
        )
    if section["model"]["context"] not in section["time_contexts"]:
        raise ValueError(
            f"language_model.time_contexts: must have model.context, {section['model']['context']}"
        )
    if arms[section["swept"]].get("seeds", 1) < 2:
        raise ValueError(
            f"language_model.arms.{section['swept']}.seeds: at least 2, for their spread"
        )


def check_convergence(config):
    """Names, and that what is trained once is meant alike by both figures."""
    language, section = config["language_model"], config["convergence"]
    arms, known = section["arms"], language["arms"]
    shared = language_plan.shares(section)
    for name, arm in arms.items():
        if name not in known and "model" not in arm:
            raise ValueError(
                f"convergence.arms.{name}: give a `model`; language_model.arms has {', '.join(known)}"
            )
        if shared and name in known and set(arm) - {"seeds"}:
            raise ValueError(
                f"convergence.arms.{name}: an arm of language_model, whose runs are shared, may "
                "differ in `seeds` alone"
            )
        settings = {**known.get(name, {}), **arm}
        for other in settings.get("match", {}).values():
            if other not in arms:
                raise ValueError(
                    f"convergence.arms.{name}: is matched to {other}; arms has {', '.join(arms)}"
                )
    seeds = {name: arm.get("seeds", section["seeds"]) for name, arm in arms.items()}
    if max(seeds.values()) < 2:
        raise ValueError(
            "convergence.seeds: at least one arm needs 2, for their spread"
        )


def check_recall(config):
    """That the tasks can be made, and that the statistics will find what they are about."""
    section = config["recall"]
    for which in ("train", "test"):
        try:
            recall_plan.tasks(section, which)
        except ValueError as error:
            raise ValueError(f"recall.{which}: {error}") from None
    train, test = (
        {tuple(t[:2]) for t in section[which]} for which in ("train", "test")
    )
    if untested := sorted(train - test):
        raise ValueError(
            f"recall.test: {', '.join(map(str, untested))} trained and not tested"
        )
    if section["model"]["width"] not in section["widths"]:
        raise ValueError(
            f"recall.widths: must have model.width, {section['model']['width']}"
        )
    length, pairs = section["length"], section["pairs"]
    if (length, pairs) not in test:
        raise ValueError(
            f"recall.test: must have recall.length and recall.pairs, [{length}, {pairs}]"
        )
    lengths = {t for t, d in test if d == pairs}
    several_pairs = {d for t, d in test if t == length}
    if min(len(lengths), len(several_pairs)) < 2:
        raise ValueError(
            f"recall.test: needs two lengths at {pairs} pairs and two numbers of pairs at length "
            f"{length}"
        )
    if section["training"]["batch"] < max(t for t, d in train):
        raise ValueError(
            f"recall.training.batch: {section['training']['batch']} tokens given; the longest "
            f"sequence of recall.train has {max(t for t, d in train)}"
        )


def check_recall_tasks(config):
    """That the small tasks can be made, with splits apart, and that the models can read them."""
    recall_tasks_plan.check(config["recall_tasks"])


def limit_memory():
    """Keep jobs that run side by side on this machine within the memory that is free now.

    Rules say what they need as `mem_mb`; one that needs more than there is runs alone. A cluster
    keeps account of its own memory, and --resources mem_mb=... on the command line wins.
    """
    # Only on a cluster is there a number of nodes (`jobs` of its profile), dry-runs included.
    here = workflow.is_main_process and workflow.nodes is None
    if here and "mem_mb" not in workflow.global_resources:
        free = min(psutil.virtual_memory().available, environment.memory_limit())
        workflow.register_resource("mem_mb", max(1, round(free / 1e6)))


def library(*modules):
    """Library files a rule's numbers depend on: editing one reruns the rule."""
    return [f"src/tgn/{module}" for module in modules]


def model_receipt(name):
    """What stands for a model on disk: the receipt beside its files."""
    model = MODELS[name]
    folder = f"converted-{name}" if model["form"] == "gguf" else model["source"]
    return f"resources/{folder}/receipt.json"


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


def text_inputs(wildcards):
    """What the language models' text is made from: a corpus, or a source; maybe a tokenizer."""
    text = config["language_model"]["text"]
    found = {
        "corpus": (
            f"<results>/corpora/{text['corpus']}.parquet"
            if text["corpus"]
            else f"resources/{text['source']}/receipt.json"
        )
    }
    if text["tokenizer"]:
        found["pretrained"] = f"resources/{text['tokenizer']}/receipt.json"
    return found


def run_settings(name):
    """A training run's arguments, of a figure or of the sweep."""
    language, convergence = config["language_model"], config["convergence"]
    runs = language_plan.runs(language)
    runs |= language_plan.convergence_runs(language, convergence)
    sweeps = language_plan.sweep(language)
    sweeps |= language_plan.convergence_sweep(language, convergence)
    try:
        return (runs | sweeps)[name]
    except KeyError:
        raise WorkflowError(
            f"no training run is called {name!r}; there are " + ", ".join(runs)
        ) from None


def start_of_run(wildcards):
    """What a run stands on beside its text: learning rates, and weights to start from."""
    run = run_settings(wildcards.run)
    found = {}
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
    section = config["recall"]
    runs = recall_plan.runs(section)
    try:
        return (runs | recall_plan.sweep(section))[name]
    except KeyError:
        raise WorkflowError(
            f"no run on recall is called {name!r}; there are " + ", ".join(runs)
        ) from None


def rates_of_recall(wildcards):
    """The learning rates that a run on recall takes its own from, if it has none."""
    if recall_settings(wildcards.run)["rate"] is not None:
        return {}
    return {"rates": config["recall"]["rates"] or "<results>/recall/rates.csv"}


def recall_task_settings(name):
    """A run on the small recall tasks: its arguments, of the figure or of the sweep."""
    section = config["recall_tasks"]
    runs = recall_tasks_plan.runs(section)
    try:
        return (runs | recall_tasks_plan.sweep(section))[name]
    except KeyError:
        raise WorkflowError(
            f"no run on the recall tasks is called {name!r}; there are "
            + ", ".join(runs)
        ) from None


def rates_of_recall_task(wildcards):
    """The learning rates that a run on a small task takes its own from, if it has none."""
    run = recall_task_settings(wildcards.run)
    if run["rate"] is not None:
        return {}
    rates = config["recall_tasks"]["tasks"][run["task"]]["rates"]
    return {"rates": rates or f"<results>/recall_tasks/{run['task']}_rates.csv"}
