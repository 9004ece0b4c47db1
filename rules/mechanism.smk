"""Figure 1, the mechanism: free energy, random attention, landscapes -> <results>/fig1/ -> fig1.pdf

Panels a, b and d need no data. Panels c and e measure pretrained models against the temperature of
their attention.
"""

MECHANISM = config["mechanism"]
TEMPERATURE = config["temperature"]
TEMPERATURE_PARTS = [
    f"{model}/{name}.{part}"
    for model in TEMPERATURE["models"]
    for name, arm in TEMPERATURE["arms"].items()
    for part in range(arm["parts"])
]
FIGURES.append("<results>/fig1.pdf")
STATISTICS.append("<results>/fig1/statistics.json")


wildcard_constraints:
    part=r"\d+",


rule free_energy:
    """Check what the free-energy argument proves on random problems."""
    input:
        code=library("rank.py", "mechanism/free_energy.py"),
    output:
        landscape="<results>/fig1/landscape.parquet",
        checks="<results>/fig1/free_energy.parquet",
        record="<results>/fig1/free_energy.provenance.json",
    log:
        "logs/free_energy.log",
    benchmark:
        "<results>/benchmarks/free_energy.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=300,
    params:
        **MECHANISM["free_energy"],
        call="tgn.mechanism.free_energy:measure",
        seed=MECHANISM["seed"],
    script:
        "../workflow/scripts/call.py"


rule random_attention:
    """Rank of random attention matrices against inverse temperature."""
    input:
        code=library("rank.py", "mechanism/random_attention.py"),
    output:
        table="<results>/fig1/random_attention.parquet",
        record="<results>/fig1/random_attention.provenance.json",
    log:
        "logs/random_attention.log",
    benchmark:
        "<results>/benchmarks/random_attention.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=400,
    params:
        **MECHANISM["random_attention"],
        call="tgn.mechanism.random_attention:measure",
        seed=MECHANISM["seed"],
    script:
        "../workflow/scripts/call.py"


rule landscapes:
    """Spectral gaps of walks on rugged landscapes, with and without jumps by attention."""
    input:
        code=library("mechanism/landscapes.py"),
    output:
        table="<results>/fig1/landscapes.parquet",
        record="<results>/fig1/landscapes.provenance.json",
    log:
        "logs/landscapes.log",
    benchmark:
        "<results>/benchmarks/landscapes.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=MECHANISM["memory_mb"],
    params:
        **MECHANISM["landscapes"],
        call="tgn.mechanism.landscapes:measure",
        seed=MECHANISM["seed"],
    script:
        "../workflow/scripts/call.py"


rule attention_temperature:
    """Measure a pretrained model on the same passages at many temperatures of its attention."""
    input:
        model=lambda wildcards: model_receipt(wildcards.model),
        corpus=f"<results>/corpora/{TEMPERATURE['corpus']}.parquet",
        code=library(
            "rank.py",
            "probing/temperature.py",
            "probing/information.py",
            "probing/intrinsic_dimension.py",
            "probing/rank_dynamics.py",
            "probing/surgery.py",
            "probing/adapters.py",
            "probing/definitions.py",
            "probing/pretrained.py",
            "text/corpora.py",
        ),
    output:
        table="<results>/fig1/temperature/{model}/{arm}.{part}.parquet",
        correlation="<results>/fig1/temperature/{model}/{arm}.{part}.correlation.parquet",
        dimension="<results>/fig1/temperature/{model}/{arm}.{part}.dimension.parquet",
        maps="<results>/fig1/temperature/{model}/{arm}.{part}.maps.parquet",
        record="<results>/fig1/temperature/{model}/{arm}.{part}.provenance.json",
    log:
        "logs/attention_temperature/{model}/{arm}.{part}.log",
    benchmark:
        "<results>/benchmarks/attention_temperature/{model}/{arm}.{part}.tsv"
    priority: 1
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=TEMPERATURE["memory_mb"],
        runtime=120,
        gpu=TEMPERATURE["gpus"],
    params:
        call="tgn.probing.temperature:measure_arm",
        arm=lambda wildcards: TEMPERATURE["arms"][wildcards.arm],
        part=lambda wildcards: int(wildcards.part),
        decades=TEMPERATURE["decades"],
        temperatures=TEMPERATURE["temperatures"],
        length=TEMPERATURE["length"],
        passages=TEMPERATURE["passages"],
        batch=TEMPERATURE["batch"],
        nudged=TEMPERATURE["nudged"],
        layers=TEMPERATURE["layers"],
        outlier_channels=TEMPERATURE["outlier_channels"],
        neighbours=TEMPERATURE["neighbours"],
        mapped=TEMPERATURE["mapped"],
        seed=TEMPERATURE["seed"],
    script:
        "../workflow/scripts/call.py"


rule temperature_statistics:
    """Curves, correlations and dimensions with bands, and the statistics of panels c and e."""
    input:
        **{
            name: expand(
                "<results>/fig1/temperature/{job}{suffix}.parquet",
                job=TEMPERATURE_PARTS,
                suffix=suffix,
            )
            for name, suffix in (
                ("tables", ""),
                ("correlations", ".correlation"),
                ("dimensions", ".dimension"),
                ("maps", ".maps"),
            )
        },
        code=library(
            "statistics.py",
            "probing/rank_statistics.py",
            "probing/temperature_statistics.py",
        ),
    output:
        curves="<results>/fig1/temperature.parquet",
        correlation="<results>/fig1/correlation.parquet",
        dimension="<results>/fig1/dimension.parquet",
        attention="<results>/fig1/maps.parquet",
        fits="<results>/fig1/fits.parquet",
        statistics="<results>/fig1/temperature.json",
        record="<results>/fig1/temperature.provenance.json",
    log:
        "logs/temperature_statistics.log",
    benchmark:
        "<results>/benchmarks/temperature_statistics.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=1000,
    params:
        call="tgn.probing.temperature_statistics:summarise",
        evidence={
            name: evidence(MODELS[name]["source"], TEMPERATURE["corpus"])
            for name in TEMPERATURE["models"]
        },
        resamples=TEMPERATURE["resamples"],
        seed=TEMPERATURE["seed"],
    script:
        "../workflow/scripts/call.py"


rule fig1_statistics:
    """Tables of panels b and d, and all statistics that decide figure 1's claims."""
    input:
        checks="<results>/fig1/free_energy.parquet",
        attention="<results>/fig1/random_attention.parquet",
        gaps="<results>/fig1/landscapes.parquet",
        temperature="<results>/fig1/temperature.json",
        code=library(
            "statistics.py",
            "mechanism/summary.py",
            "mechanism/random_attention.py",
        ),
    output:
        curves="<results>/fig1/rank_curves.parquet",
        maxima="<results>/fig1/rank_maxima.parquet",
        relaxation="<results>/fig1/relaxation.parquet",
        statistics="<results>/fig1/statistics.json",
        record="<results>/fig1/statistics.provenance.json",
    log:
        "logs/fig1_statistics.log",
    benchmark:
        "<results>/benchmarks/fig1_statistics.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=500,
    params:
        call="tgn.mechanism.summary:summarise",
        resamples=MECHANISM["resamples"],
        seed=MECHANISM["seed"],
    script:
        "../workflow/scripts/call.py"


rule fig1:
    """Draw figure 1."""
    input:
        landscape="<results>/fig1/landscape.parquet",
        checks="<results>/fig1/free_energy.parquet",
        curves="<results>/fig1/rank_curves.parquet",
        maxima="<results>/fig1/rank_maxima.parquet",
        relaxation="<results>/fig1/relaxation.parquet",
        temperature="<results>/fig1/temperature.parquet",
        fits="<results>/fig1/fits.parquet",
        correlation="<results>/fig1/correlation.parquet",
        dimension="<results>/fig1/dimension.parquet",
        maps="<results>/fig1/maps.parquet",
        statistics="<results>/fig1/statistics.json",
        code=library("plots/fig1.py", "plots/look.py", "plots/style.py"),
    output:
        pdf=report(
            "<results>/fig1.pdf",
            category="Thermodynamic Gated Networks",
            labels={"figure": "1", "scale": config["scale"]},
            caption="../docs/captions/fig1.rst",
        ),
        png="<results>/fig1.png",
    log:
        "logs/fig1.log",
    benchmark:
        "<results>/benchmarks/fig1.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=1000,
    params:
        call="tgn.plots.fig1:draw",
        labels={name: MODELS[name]["label"] for name in config["temperature"]["models"]},
        scale=config["scale"],
    script:
        "../workflow/scripts/call.py"
