"""Checks of the configuration that its schema cannot make: names, and plans that hold together."""


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
    check_temperature(config)
    check_language_model(config)
    check_convergence(config)
    check_gravity(config)
    check_shakespeare(config)
    check_recall(config)
    check_recall_tasks(config)
    check_scaling(config)
    check_bridge(config)
    check_constraints(config)


def check_temperature(config):
    """That models and corpus are known, T = 1 and the ends are measured, and draws have passages."""
    section = config["temperature"]
    for key, known in (("models", MODELS), ("corpus", config["corpora"])):
        given = section[key] if key == "models" else [section[key]]
        if unknown := [name for name in given if name not in known]:
            raise ValueError(
                f"temperature.{key}: {unknown[0]!r} given; there are {', '.join(known)}"
            )
    if section["temperatures"] % 2 == 0:
        raise ValueError(
            f"temperature.temperatures: {section['temperatures']} given, of which none is 1; "
            "an odd number is needed"
        )
    half = section["temperatures"] // 2
    for name, arm in section["arms"].items():
        if half % arm["every"]:
            raise ValueError(
                f"temperature.arms.{name}.every: {arm['every']} given, which leaves out T = 1 or "
                f"the ends: it must divide {half}, half of the temperatures"
            )
        if 2 * arm["draws"] > (passages := arm["passages"] or section["passages"]):
            raise ValueError(
                f"temperature.arms.{name}.draws: {arm['draws']} given; each needs two of the "
                f"{passages} passages"
            )


def check_text(config, section):
    """That a section's text is one, and that its parts are registered."""
    text = config[section]["text"]
    if (text["corpus"] is None) == (text["source"] is None):
        raise ValueError(f"{section}.text: give either `corpus` or `source`")
    if text["corpus"] and text["corpus"] not in config["corpora"]:
        raise ValueError(
            f"{section}.text.corpus: {text['corpus']!r} given; corpora has "
            f"{', '.join(config['corpora'])}"
        )
    if (text["vocabulary"] is None) == (text["tokenizer"] is None):
        raise ValueError(
            f"{section}.text: give either `vocabulary`, of a BPE, or `tokenizer`"
        )
    for key in ("source", "tokenizer"):
        if text[key] not in (None, *SOURCES) and (key, text[key]) != (
            "tokenizer",
            "char",
        ):
            raise ValueError(
                f"{section}.text.{key}: {text[key]!r} given; config/sources.yaml has "
                f"{', '.join(SOURCES)}"
            )


def check_language_model(config):
    """What would otherwise be found out only after the trainings: wrong names, and gaps in the plan."""
    section = config["language_model"]
    text, arms = section["text"], section["arms"]
    check_text(config, "language_model")
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


def check_shakespeare(config):
    """That the text is one, and that arms are matched to arms."""
    check_text(config, "shakespeare")
    arms = config["shakespeare"]["arms"]
    for name, arm in arms.items():
        for other in arm.get("match", {}).values():
            if other not in arms:
                raise ValueError(
                    f"shakespeare.arms.{name}: is matched to {other}; arms has {', '.join(arms)}"
                )


def check_gravity(config):
    """Names, and that each learning rate is one that is chosen."""
    section = config["gravity"]
    arms = section["arms"]
    if section["text"]:
        check_text(config, "gravity")
    for name, arm in arms.items():
        for other in arm.get("match", {}).values():
            if other not in arms:
                raise ValueError(
                    f"gravity.arms.{name}: is matched to {other}; arms has {', '.join(arms)}"
                )
        own = [key for key, value in arms.items() if "rates_of" not in value]
        if arm.get("rates_of", own[0] if own else None) not in own:
            raise ValueError(
                f"gravity.arms.{name}.rates_of: {arm.get('rates_of')} given; learning rates are "
                f"chosen for {', '.join(own) or 'no arm'}"
            )
    if lacking := [
        name for name in ("vanilla", *section["probed"]) if name not in arms
    ]:
        raise ValueError(
            f"gravity.arms.{lacking[0]}: null given, but the figure needs it"
        )
    for name in section["probed"]:
        if arms.get(name, {"model": {}})["model"].get("mixer") != "gravity":
            raise ValueError(f"gravity.probed: {name} is no arm with mixer: gravity")
    if arms["gravity"].get("seeds", 1) < 2:
        raise ValueError("gravity.arms.gravity.seeds: at least 2, for their spread")


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


def check_scaling(config):
    """That the models are registered, our own are trained by some figure, and names are apart."""
    section = config["scaling"]
    if unknown := [name for name in section["models"] if name not in MODELS]:
        raise ValueError(
            f"scaling.models: {unknown[0]!r} given; config/models.yaml has {', '.join(MODELS)}"
        )
    language = language_plan.runs(config["language_model"])
    known = {
        "language_model": language
        | language_plan.convergence_runs(
            config["language_model"], config["convergence"]
        ),
        "recall": recall_plan.runs(config["recall"]),
    }
    for name, run in section["runs"].items():
        if run is None:
            continue
        folder, _, which = run.partition("/")
        if which not in known[folder]:
            raise ValueError(
                f"scaling.runs.{name}: {run!r} given; {folder} has {', '.join(known[folder])}"
            )
    lowest, highest = section["temperatures"]
    if highest < 2 * lowest:
        raise ValueError(
            f"scaling.temperatures: {lowest} to {highest} given; at least a factor of two is needed"
        )


def check_recall_tasks(config):
    """That the small tasks can be made, with splits apart, and that the models can read them."""
    recall_tasks_plan.check(config["recall_tasks"])


def check_bridge(config):
    """That the arms are trained, and that the first one has a gate to close."""
    arms = config["bridge"]["arms"]
    runs = seeded_runs(config, arms)
    trained = {run["arm"]: run["model"] for run in runs.values()}
    if unknown := [arm for arm in arms if arm not in trained]:
        raise ValueError(
            f"bridge.arms: {', '.join(unknown)} given, which neither language_model nor "
            "convergence has"
        )
    if trained[arms[0]].get("mixer") != "gated":
        raise ValueError(f"bridge.arms: the first, {arms[0]}, has no gate")


def check_constraints(config):
    """That the models are registered once, twins are measured, and the family can be made."""
    section = config["constraints"]
    for key in ("models", "bfloat16", "twins"):
        names = sum(section[key], []) if key == "twins" else section[key]
        known = MODELS if key == "models" else section["models"]
        if unknown := [name for name in names if name not in known]:
            place = "config/models.yaml" if key == "models" else "constraints.models"
            raise ValueError(
                f"constraints.{key}: {unknown[0]!r} given; {place} has {', '.join(known)}"
            )
    base = {**config["language_model"]["model"], **section["family"]["model"]}
    for measure, values in section["family"]["varied"].items():
        if base[measure] in values:
            raise ValueError(
                f"constraints.family.varied.{measure}: {base[measure]} is that of the base already"
            )
