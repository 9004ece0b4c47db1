"""The bridge: <results>/language_model/{run}/ and figure 14's states -> bridge.pdf"""

BRIDGE = config["bridge"]
BRIDGE_RUNS = seeded_runs(config, BRIDGE["arms"])
FIGURES.append("<results>/bridge.pdf")
STATISTICS.append("<results>/bridge/statistics.json")


rule sedation:
    """Close the gate of an arm's trained models step by step and measure the rank of their states."""
    input:
        weights=lambda wildcards: expand(
            "<results>/language_model/{run}/model.safetensors",
            run=[n for n, r in BRIDGE_RUNS.items() if r["arm"] == wildcards.arm],
        ),
        tokens="<results>/language_model/tokens/counts.json",
        code=library(
            "rank.py",
            "probing/definitions.py",
            "probing/sedation.py",
            "probing/trained.py",
        ),
    output:
        table="<results>/bridge/{arm}.parquet",
        record="<results>/bridge/{arm}.provenance.json",
    log:
        "logs/sedation/{arm}.log",
    benchmark:
        "<results>/benchmarks/sedation/{arm}.tsv"
    wildcard_constraints:
        arm="|".join(BRIDGE["arms"]),
    conda:
        "../envs/training.yaml"
    resources:
        mem_mb=BRIDGE["memory_mb"],
        runtime=480,
        gpu=BRIDGE["gpus"],
    params:
        call="tgn.probing.sedation:measure",
        doses=BRIDGE["doses"],
        windows=BRIDGE["windows"],
        batch=BRIDGE["batch"],
        seed=BRIDGE["seed"],
    script:
        "../workflow/scripts/call.py"


rule bridge_statistics:
    """Curves of rank against the gate, and how like they are to the states of figure 14."""
    input:
        tables=expand("<results>/bridge/{arm}.parquet", arm=BRIDGE["arms"]),
        states="<results>/fig14/states.parquet",
        code=library(
            "statistics.py",
            "training/comparison.py",
            "training/sedation_statistics.py",
        ),
    output:
        curves="<results>/bridge/curves.parquet",
        matched="<results>/bridge/matched.parquet",
        null="<results>/bridge/null.parquet",
        statistics="<results>/bridge/statistics.json",
        record="<results>/bridge/statistics.provenance.json",
    log:
        "logs/bridge_statistics.log",
    benchmark:
        "<results>/benchmarks/bridge_statistics.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=1000,
    params:
        call="tgn.training.sedation_statistics:summarise",
        runs=BRIDGE_RUNS,
        arms=BRIDGE["arms"],
        depth=FMRI["depth"],
        permutations=BRIDGE["permutations"],
        model=LANGUAGE_LABEL,
        evidence=evidence(TEXT_SOURCE),
        states_model=FMRI_CHOICE["data"],
        states_evidence=FMRI_CHOICE["evidence"],
        resamples=BRIDGE["resamples"],
        seed=BRIDGE["seed"],
    script:
        "../workflow/scripts/call.py"


rule bridge:
    """Draw the bridge."""
    input:
        curves="<results>/bridge/curves.parquet",
        matched="<results>/bridge/matched.parquet",
        statistics="<results>/bridge/statistics.json",
        code=library(
            "plots/bridge.py", "plots/fig22.py", "plots/look.py", "plots/style.py"
        ),
    output:
        pdf=report(
            "<results>/bridge.pdf",
            category="Thermodynamic Gated Networks",
            labels={"figure": "bridge", "scale": config["scale"]},
            caption="../docs/captions/bridge.rst",
        ),
        png="<results>/bridge.png",
    log:
        "logs/bridge.log",
    benchmark:
        "<results>/benchmarks/bridge.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=500,
    params:
        call="tgn.plots.bridge:draw",
        arms=BRIDGE["arms"],
        data=FMRI_CHOICE["data"],
        evidence=FMRI_CHOICE["evidence"],
        scale=config["scale"],
    script:
        "../workflow/scripts/call.py"
