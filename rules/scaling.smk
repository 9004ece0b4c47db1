"""Scaling: weights -> <results>/scaling/{group}/ -> statistics.json -> scaling.pdf

A group is a pretrained model, or `own`: the project's own trained models, which are small and share
a job. Levels and spectra are two jobs, so that two cores are busy.
"""

SCALING = config["scaling"]
SCALING_RUNS = {name: run for name, run in SCALING["runs"].items() if run}
SCALING_GROUPS = [*SCALING["models"], "own"]
SCALING_WEIGHTS = {name: [model_receipt(name)] for name in SCALING["models"]} | {
    "own": [f"<results>/{run}/model.safetensors" for run in SCALING_RUNS.values()]
}
SCALING_LABELS = {name: [name] for name in SCALING["models"]} | {
    "own": list(SCALING_RUNS)
}
FIGURES.append("<results>/scaling.pdf")
STATISTICS.append("<results>/scaling/statistics.json")
WEIGHTS_CODE = library(
    "rank.py",
    "statistics.py",
    "models/io.py",
    "probing/adapters.py",
    "probing/pretrained.py",
    "probing/weights.py",
    "probing/weight_thermodynamics.py",
    *(
        f"thermodynamics/{name}.py"
        for name in ["critical", "levels", "nulls", "renormalisation", "spectra"]
    ),
    "kernels/boltzmann.py",
)


wildcard_constraints:
    group="|".join(map(re.escape, SCALING_GROUPS)),


rule weight_levels:
    """Take the entries of every matrix as levels: specific heat, its peak, entropies, and nulls."""
    input:
        models=lambda wildcards: SCALING_WEIGHTS[wildcards.group],
        code=WEIGHTS_CODE,
    output:
        matrices="<results>/scaling/{group}/matrices.parquet",
        peaks="<results>/scaling/{group}/peaks.parquet",
        curves="<results>/scaling/{group}/curves.parquet",
        nulls="<results>/scaling/{group}/nulls.parquet",
        record="<results>/scaling/{group}/levels.provenance.json",
    log:
        "logs/weight_levels/{group}.log",
    benchmark:
        "<results>/benchmarks/weight_levels/{group}.tsv"
    conda:
        "../envs/training.yaml"
    resources:
        mem_mb=SCALING["memory_mb"],
        runtime=120,
    params:
        call="tgn.probing.weight_thermodynamics:measure_levels",
        labels=lambda wildcards: SCALING_LABELS[wildcards.group],
        temperatures=SCALING["temperatures"],
        per_octave=SCALING["per_octave"],
        draws=SCALING["draws"],
        seed=SCALING["seed"],
    script:
        "../workflow/scripts/call.py"


rule weight_spectra:
    """Measure the spectrum of every matrix and, in some layers, its tail and block averages."""
    input:
        models=lambda wildcards: SCALING_WEIGHTS[wildcards.group],
        code=WEIGHTS_CODE,
    output:
        spectra_table="<results>/scaling/{group}/spectra.parquet",
        densities="<results>/scaling/{group}/densities.parquet",
        flows="<results>/scaling/{group}/flows.parquet",
        record="<results>/scaling/{group}/spectra.provenance.json",
    log:
        "logs/weight_spectra/{group}.log",
    benchmark:
        "<results>/benchmarks/weight_spectra/{group}.tsv"
    conda:
        "../envs/training.yaml"
    resources:
        mem_mb=SCALING["memory_mb"],
        runtime=240,
    params:
        call="tgn.probing.weight_thermodynamics:measure_spectra",
        labels=lambda wildcards: SCALING_LABELS[wildcards.group],
        # of the small ones the first layer alone, which no statistic asks for
        layers=lambda wildcards: 1 if wildcards.group == "own" else SCALING["layers"],
        steps=SCALING["steps"],
        permutations=SCALING["permutations"],
        seed=SCALING["seed"],
    script:
        "../workflow/scripts/call.py"


rule scaling_statistics:
    """Curves and one point a model, and the statistics that decide the claims about scaling."""
    input:
        **{
            table: expand(
                f"<results>/scaling/{{group}}/{table}.parquet", group=SCALING_GROUPS
            )
            for table in ["matrices", "peaks", "curves", "nulls", "spectra", "flows"]
        },
        code=library(
            "statistics.py",
            "probing/weight_statistics.py",
            "thermodynamics/scaling_laws.py",
        ),
    output:
        bands="<results>/scaling/bands.parquet",
        models_table="<results>/scaling/models.parquet",
        statistics="<results>/scaling/statistics.json",
        record="<results>/scaling/statistics.provenance.json",
    log:
        "logs/scaling_statistics.log",
    benchmark:
        "<results>/benchmarks/scaling_statistics.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=1000,
    params:
        call="tgn.probing.weight_statistics:summarise",
        evidence={name: evidence(MODELS[name]["source"]) for name in SCALING["models"]},
        across="all models of the scaling figure",
        resamples=SCALING["resamples"],
        seed=SCALING["seed"],
    script:
        "../workflow/scripts/call.py"


rule scaling:
    """Draw the figure of thermodynamic scaling."""
    input:
        bands="<results>/scaling/bands.parquet",
        models_table="<results>/scaling/models.parquet",
        statistics="<results>/scaling/statistics.json",
        matrices=expand(
            "<results>/scaling/{group}/matrices.parquet", group=SCALING_GROUPS
        ),
        curves=f"<results>/scaling/{SCALING['models'][0]}/curves.parquet",
        densities=f"<results>/scaling/{SCALING['models'][0]}/densities.parquet",
        flows=f"<results>/scaling/{SCALING['models'][0]}/flows.parquet",
        code=library("plots/scaling.py", "plots/look.py", "plots/style.py"),
    output:
        pdf=report(
            "<results>/scaling.pdf",
            category="Thermodynamic scaling",
            labels={"figure": "scaling", "scale": config["scale"]},
            caption="../docs/captions/scaling.rst",
        ),
        png="<results>/scaling.png",
    log:
        "logs/scaling.log",
    benchmark:
        "<results>/benchmarks/scaling.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=800,
    params:
        call="tgn.plots.scaling:draw",
        shown=SCALING["models"][0],
        labels={name: MODELS[name]["label"] for name in SCALING["models"]},
        scale=config["scale"],
    script:
        "../workflow/scripts/call.py"
