"""Constraints: models -> <results>/constraints/{group}/ -> statistics.json -> constraints.pdf

A group is a pretrained model, or `family`: our own networks, which differ in one measure at a time, are
trained as the rule language_model says, and share a job. Each figure and each notebook of the paper has
a page of its own, and all figures stand together in constraints.pdf.
"""

CONSTRAINTS = config["constraints"]
CONSTRAINTS_RUNS = language_plan.constraints_runs(LANGUAGE, CONSTRAINTS)
CONSTRAINTS_GROUPS = {
    **{
        name: {
            "models": [model_receipt(name)],
            "about": [constraints_about(name)],
            "variants": CONSTRAINTS["variants"],
            "memory_mb": constraints_memory(name),
        }
        for name in CONSTRAINTS["models"]
    },
    "family": {
        "models": [
            f"<results>/language_model/{run}/model.safetensors"
            for run in CONSTRAINTS_RUNS
        ],
        "about": [
            {"label": run, "lab": "own", "family": "controlled", "dtype": "float32"}
            for run in CONSTRAINTS_RUNS
        ],
        "variants": CONSTRAINTS["family"]["variants"],
        "memory_mb": CONSTRAINTS["memory_mb"],
    },
}
CONSTRAINTS_FIGURES = [
    "kleiber",
    "heritage",
    "spectral",
    "layer_dynamics",
    "turning_layer",
    "pythia_scaling",
    "input_robustness",
    "sheaf_trace",
]
CONSTRAINTS_NOTEBOOKS = [
    "scaling_law",
    "benchmark",
    "restriction_maps",
    "twin_test",
    "crowding",
]
CONSTRAINTS_TABLES = {
    **{
        name: expand(
            f"<results>/constraints/{{group}}/{name}.parquet", group=CONSTRAINTS_GROUPS
        )
        for name in ["gains", "spectra", "sheaf", "turning"]
    },
    "architecture": expand(
        "<results>/constraints/{group}/architecture.json", group=CONSTRAINTS_GROUPS
    )
    + ["<results>/constraints/unavailable.json"] * bool(CONSTRAINTS["unavailable"]),
}
CONSTRAINTS_CODE = library(
    "statistics.py",
    "probing/prompts.py",
    "probing/turning.py",
    *(
        f"constraints/{name}.py"
        for name in [
            "across",
            "associations",
            "classes",
            "controlled",
            "heritage",
            "layers",
            "pairs",
            "summary",
            "tables",
            "within",
        ]
    ),
)
FIGURES.append("<results>/constraints.pdf")
STATISTICS.append("<results>/constraints/statistics.json")
UNDECIDED.append("<results>/constraints/undecided.json")


wildcard_constraints:
    measured="|".join(map(re.escape, CONSTRAINTS_GROUPS)),
    figure="|".join(CONSTRAINTS_FIGURES),
    notebook="|".join(CONSTRAINTS_NOTEBOOKS),


use rule language_model as constraints_model with:
    output:
        checkpoint="<results>/language_model/{run}/model.safetensors",
        metrics="<results>/language_model/{run}/metrics.parquet",
        trajectory="<results>/language_model/{run}/trajectory.parquet",
        evaluated="<results>/language_model/{run}/evaluation.json",
        timings="<results>/language_model/{run}/timings.parquet",
        record="<results>/language_model/{run}/provenance.json",
    wildcard_constraints:
        run="constraints-[a-z0-9_.-]+",
    resources:
        mem_mb=CONSTRAINTS["family"]["memory_mb"],
        runtime=480,
        gpu=CONSTRAINTS["family"]["gpus"],


rule constraints_gains:
    """Measure the residual gain of every block, and the published variants, on every prompt."""
    input:
        models=lambda wildcards: CONSTRAINTS_GROUPS[wildcards.measured]["models"],
        prompts=CONSTRAINTS["prompts"],
        code=library(
            *(
                f"probing/{name}.py"
                for name in [
                    "adapters",
                    "architecture",
                    "as_published",
                    "model_groups",
                    "pretrained",
                    "prompts",
                    "residual_gain",
                    "weights",
                ]
            ),
            "models/attention.py",
            "models/decoder.py",
            "rank.py",
        ),
    output:
        gains="<results>/constraints/{measured}/gains.parquet",
        architecture="<results>/constraints/{measured}/architecture.json",
        record="<results>/constraints/{measured}/gains.provenance.json",
    log:
        "logs/constraints_gains/{measured}.log",
    benchmark:
        "<results>/benchmarks/constraints_gains/{measured}.tsv"
    conda:
        "../envs/training.yaml"
    resources:
        mem_mb=lambda wildcards: CONSTRAINTS_GROUPS[wildcards.measured]["memory_mb"],
        runtime=240,
        gpu=CONSTRAINTS["gpus"],
    params:
        call="tgn.probing.model_groups:measure_gains",
        about=lambda wildcards: CONSTRAINTS_GROUPS[wildcards.measured]["about"],
        per_category=CONSTRAINTS["per_category"],
        variants=lambda wildcards: CONSTRAINTS_GROUPS[wildcards.measured]["variants"],
        seed=CONSTRAINTS["seed"],
    script:
        "../workflow/scripts/call.py"


rule constraints_spectra:
    """Measure the norms of the value and output maps of every layer and head."""
    input:
        models=lambda wildcards: CONSTRAINTS_GROUPS[wildcards.measured]["models"],
        code=library(
            *(
                f"probing/{name}.py"
                for name in [
                    "adapters",
                    "as_published",
                    "model_groups",
                    "pretrained",
                    "value_output",
                    "weights",
                ]
            ),
            "models/attention.py",
            "models/gated.py",
        ),
    output:
        table="<results>/constraints/{measured}/spectra.parquet",
        record="<results>/constraints/{measured}/spectra.provenance.json",
    log:
        "logs/constraints_spectra/{measured}.log",
    benchmark:
        "<results>/benchmarks/constraints_spectra/{measured}.tsv"
    conda:
        "../envs/training.yaml"
    resources:
        mem_mb=lambda wildcards: CONSTRAINTS_GROUPS[wildcards.measured]["memory_mb"],
        runtime=240,
        gpu=CONSTRAINTS["gpus"],
    params:
        call="tgn.probing.model_groups:measure_spectra",
        about=lambda wildcards: CONSTRAINTS_GROUPS[wildcards.measured]["about"],
    script:
        "../workflow/scripts/call.py"


rule constraints_sheaf:
    """Measure the trace of the sheaf Laplacian, locality and gap, and find the turning layers."""
    input:
        models=lambda wildcards: CONSTRAINTS_GROUPS[wildcards.measured]["models"],
        prompts=CONSTRAINTS["prompts"],
        code=library(
            *(
                f"probing/{name}.py"
                for name in [
                    "adapters",
                    "as_published",
                    "model_groups",
                    "pretrained",
                    "prompts",
                    "sheaf",
                    "turning",
                    "value_output",
                    "weights",
                ]
            ),
            "models/attention.py",
        ),
    output:
        table="<results>/constraints/{measured}/sheaf.parquet",
        turning="<results>/constraints/{measured}/turning.parquet",
        record="<results>/constraints/{measured}/sheaf.provenance.json",
    log:
        "logs/constraints_sheaf/{measured}.log",
    benchmark:
        "<results>/benchmarks/constraints_sheaf/{measured}.tsv"
    conda:
        "../envs/training.yaml"
    resources:
        mem_mb=lambda wildcards: CONSTRAINTS_GROUPS[wildcards.measured]["memory_mb"],
        runtime=240,
        gpu=CONSTRAINTS["gpus"],
    params:
        call="tgn.probing.model_groups:measure_sheaf",
        about=lambda wildcards: CONSTRAINTS_GROUPS[wildcards.measured]["about"],
        per_category=CONSTRAINTS["per_category"],
    script:
        "../workflow/scripts/call.py"


rule constraints_unavailable:
    """Record the models that were published and cannot be had."""
    output:
        architecture="<results>/constraints/unavailable.json",
        record="<results>/constraints/unavailable.provenance.json",
    log:
        "logs/constraints_unavailable.log",
    benchmark:
        "<results>/benchmarks/constraints_unavailable.tsv"
    conda:
        "../envs/training.yaml"
    resources:
        mem_mb=1000,
    params:
        call="tgn.probing.model_groups:record_unavailable",
        models={
            name: said
            for name, said in CONSTRAINTS["unavailable"].items()
            if name not in CONSTRAINTS["models"]
        },
    script:
        "../workflow/scripts/call.py"


rule constraints_statistics:
    """One row a model, and the statistics that decide the claims about constraints."""
    input:
        **CONSTRAINTS_TABLES,
        code=CONSTRAINTS_CODE
        + library("probing/rank_statistics.py", "thermodynamics/scaling_laws.py"),
    output:
        models_table="<results>/constraints/models.parquet",
        statistics="<results>/constraints/statistics.json",
        undecided="<results>/constraints/undecided.json",
        record="<results>/constraints/statistics.provenance.json",
    log:
        "logs/constraints_statistics.log",
    benchmark:
        "<results>/benchmarks/constraints_statistics.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=1500,
    params:
        call="tgn.constraints.summary:summarise",
        evidence={
            **{
                name: evidence(MODELS[name]["source"])
                for name in CONSTRAINTS["models"]
            },
            **dict.fromkeys(CONSTRAINTS_RUNS, evidence(TEXT_SOURCE)),
        },
        across="all models of the constraints figure",
        controlled="controlled",
        twins=CONSTRAINTS["twins"],
        resamples=CONSTRAINTS["resamples"],
        seed=CONSTRAINTS["seed"],
    script:
        "../workflow/scripts/call.py"


rule constraints:
    """Draw the figures 1 to 3 and A1 to A5 of the paper together, published values beside ours."""
    input:
        **CONSTRAINTS_TABLES,
        models_table="<results>/constraints/models.parquet",
        statistics="<results>/constraints/statistics.json",
        undecided="<results>/constraints/undecided.json",
        published="config/constraints_published.csv",
        code=CONSTRAINTS_CODE
        + library(
            *(
                f"plots/{name}.py"
                for name in [
                    "constraints",
                    "constraint_beside",
                    "constraint_paper",
                    "constraint_parts",
                    "look",
                    "style",
                ]
            )
        ),
    output:
        pdf=report(
            "<results>/constraints.pdf",
            category="Thermodynamic constraints",
            labels={"figure": "constraints", "scale": config["scale"]},
            caption="../docs/captions/constraints.rst",
        ),
        png="<results>/constraints.png",
        table="<results>/constraints/constraints.csv",
    log:
        "logs/constraints.log",
    benchmark:
        "<results>/benchmarks/constraints.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=1500,
    params:
        call="tgn.plots.constraints:draw",
        figure="constraints",
        labels={name: model["label"] for name, model in MODELS.items()},
        shown=CONSTRAINTS["models"],
        twins=CONSTRAINTS["twins"],
        scale=config["scale"],
    script:
        "../workflow/scripts/call.py"


use rule constraints as constraints_figure with:
    output:
        pdf=report(
            "<results>/constraints/fig_{figure}.pdf",
            category="Thermodynamic constraints",
            labels={"figure": "fig_{figure}", "scale": config["scale"]},
            caption="../docs/captions/constraints_part.rst",
        ),
        png="<results>/constraints/fig_{figure}.png",
        table="<results>/constraints/fig_{figure}.csv",
    log:
        "logs/constraints_figure/{figure}.log",
    benchmark:
        "<results>/benchmarks/constraints_figure/{figure}.tsv"
    params:
        figure=lambda wildcards: wildcards.figure,


use rule constraints as constraints_notebook with:
    output:
        pdf=report(
            "<results>/constraints/{notebook}.pdf",
            category="Thermodynamic constraints",
            labels={"figure": "{notebook}", "scale": config["scale"]},
            caption="../docs/captions/constraints_part.rst",
        ),
        png="<results>/constraints/{notebook}.png",
        table="<results>/constraints/{notebook}.csv",
    log:
        "logs/constraints_notebook/{notebook}.log",
    benchmark:
        "<results>/benchmarks/constraints_notebook/{notebook}.tsv"
    params:
        figure=lambda wildcards: wildcards.notebook,


for NOTEBOOK in CONSTRAINTS_NOTEBOOKS:

    rule:
        name:
            NOTEBOOK
        input:
            f"<results>/constraints/{NOTEBOOK}.pdf",


rule constraints_pages:
    """Every page of the constraints: each figure and each notebook by itself."""
    input:
        expand("<results>/constraints/fig_{figure}.pdf", figure=CONSTRAINTS_FIGURES),
        expand("<results>/constraints/{notebook}.pdf", notebook=CONSTRAINTS_NOTEBOOKS),
