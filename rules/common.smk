"""Configuration, paths and registries that every rules file uses."""

import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

SOURCE_ROOT = Path(workflow.basedir) / "src"
sys.path.insert(0, str(SOURCE_ROOT))

from tgn import config as configuration
from tgn import environment
from tgn import sources

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
    for model in config["rank_dynamics"]["models"]:
        if model not in MODELS:
            raise ValueError(
                f"rank_dynamics.models: {model!r} given; config/models.yaml has {', '.join(MODELS)}"
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
    corpus = config["rank_dynamics"]["corpus"]
    if corpus not in config["corpora"]:
        raise ValueError(
            f"rank_dynamics.corpus: {corpus!r} given; corpora has {', '.join(config['corpora'])}"
        )


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
    """CPU seconds a sample and rungs of the ladder, by size: the reference has more of both."""
    if arm != "reference":
        return glass["seconds"], glass["rungs"]
    longer = [glass["reference_factor"] * seconds for seconds in glass["seconds"]]
    return longer, [rungs + 4 for rungs in glass["rungs"]]
