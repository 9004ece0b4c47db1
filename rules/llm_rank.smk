"""Figure 8: model + corpus -> <results>/fig8/{model}/{arm}.parquet -> statistics.json -> fig8.pdf"""

RANK = config["rank_dynamics"]
FIGURES.append("<results>/fig8.pdf")
STATISTICS.append("<results>/fig8/statistics.json")


wildcard_constraints:
    arm="[a-z_]+",


rule rank_dynamics:
    """Measure the rank of the residual stream at every layer, with one part removed or replaced."""
    input:
        model=lambda wildcards: model_receipt(wildcards.model),
        corpus=f"<results>/corpora/{RANK['corpus']}.parquet",
        code=library(
            "rank.py",
            "probing/rank_dynamics.py",
            "probing/surgery.py",
            "probing/adapters.py",
            "probing/definitions.py",
            "probing/pretrained.py",
            "text/corpora.py",
        ),
    output:
        table="<results>/fig8/{model}/{arm}.parquet",
        spectra="<results>/fig8/{model}/{arm}.spectra.parquet",
        record="<results>/fig8/{model}/{arm}.provenance.json",
    log:
        "logs/rank_dynamics/{model}/{arm}.log",
    benchmark:
        "<results>/benchmarks/rank_dynamics/{model}/{arm}.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=RANK["memory_mb"],
        runtime=120,
        gpu=RANK["gpus"],
    params:
        call="tgn.probing.rank_dynamics:measure_arm",
        arm=lambda wildcards: RANK["arms"][wildcards.arm],
        lengths=RANK["lengths"],
        passages=RANK["passages"],
        batch=RANK["batch"],
        outlier_channels=RANK["outlier_channels"],
        seed=RANK["seed"],
    script:
        "../workflow/scripts/call.py"


rule fig8_statistics:
    """Curves with bootstrap bands, and the statistics that decide figure 8's claims."""
    input:
        tables=expand(
            "<results>/fig8/{model}/{arm}.parquet",
            model=RANK["models"],
            arm=RANK["arms"],
        ),
        spectra=expand(
            "<results>/fig8/{model}/{arm}.spectra.parquet",
            model=RANK["models"],
            arm=["intact", "random_weights"],
        ),
        code=library(
            "statistics.py", "probing/definitions.py", "probing/rank_statistics.py"
        ),
    output:
        curves="<results>/fig8/curves.parquet",
        spectra_table="<results>/fig8/spectra.parquet",
        statistics="<results>/fig8/statistics.json",
        record="<results>/fig8/statistics.provenance.json",
    log:
        "logs/fig8_statistics.log",
    benchmark:
        "<results>/benchmarks/fig8_statistics.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=1000,
    params:
        call="tgn.probing.rank_statistics:summarise",
        evidence={
            name: evidence(MODELS[name]["source"], RANK["corpus"])
            for name in RANK["models"]
        },
        length=RANK["lengths"][0],
        resamples=RANK["resamples"],
        seed=RANK["seed"],
    script:
        "../workflow/scripts/call.py"


rule fig8:
    """Draw figure 8."""
    input:
        curves="<results>/fig8/curves.parquet",
        spectra="<results>/fig8/spectra.parquet",
        statistics="<results>/fig8/statistics.json",
        code=library("plots/fig8.py", "plots/look.py", "plots/style.py"),
    output:
        pdf=report(
            "<results>/fig8.pdf",
            category="Thermodynamic Gated Networks",
            labels={"figure": "8", "scale": config["scale"]},
            caption="../docs/captions/fig8.rst",
        ),
        png="<results>/fig8.png",
    log:
        "logs/fig8.log",
    benchmark:
        "<results>/benchmarks/fig8.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=1000,
    params:
        call="tgn.plots.fig8:draw",
        labels={name: MODELS[name]["label"] for name in RANK["models"]},
        length=RANK["lengths"][0],
        scale=config["scale"],
    script:
        "../workflow/scripts/call.py"
