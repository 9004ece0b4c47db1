"""Configuration, paths and registries that every rules file uses."""

import sys
from pathlib import Path

import psutil
from snakemake.exceptions import WorkflowError

SOURCE_ROOT = Path(workflow.basedir) / "src"
sys.path.insert(0, str(SOURCE_ROOT))

from tgn import config as configuration
from tgn import environment
from tgn import sources
from tgn.training import plan as language_plan

# Jobs find the library without being told, on this machine, on a cluster node or under conda.
environment.put_first("PYTHONPATH", SOURCE_ROOT)

RESULTS = {"laptop": "results", "paper": "results/paper", "smoke": "results/smoke"}
FIGURES, STATISTICS = [], []  # each figure's rules file adds its own
SOURCES = sources.load_registry("config/sources.yaml")
MODELS = configuration.read_yaml("config/models.yaml")


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
    except ValueError as error:
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
    section = config["language_model"]
    try:
        return (language_plan.runs(section) | language_plan.sweep(section))[name]
    except KeyError:
        raise WorkflowError(
            f"no training run is called {name!r}; there are "
            + ", ".join(language_plan.runs(section))
        ) from None


def start_of_run(wildcards):
    """What a run stands on beside its text: learning rates, and weights to start from."""
    run = run_settings(wildcards.run)
    found = {}
    if run["rate"] is None:
        rates = config["language_model"]["rates"]
        found["rates"] = rates or "<results>/language_model/rates.csv"
    if run["start"]:
        found["start"] = f"<results>/language_model/{run['start']}/model.safetensors"
    return found
