"""Figure 5: arm -> <results>/fig5/{arm}.parquet -> statistics.json -> fig5.pdf"""

GLASS = config["spin_glass"]
FIGURES.append("<results>/fig5.pdf")
STATISTICS.append("<results>/fig5/statistics.json")
GLASS_MODULES = [
    "arms",
    "as_published",
    "chains",
    "controls",
    "experiment",
    "gated",
    "langevin",
    "lattice",
    "tables",
    "tempering",
]
GLASS_KERNELS = [
    "batched",
    "gated",
    "ising",
    "langevin",
    "multispin",
    "quench",
    "vectors",
]
GLASS_MODELS = [f"{disorder} couplings" for disorder in GLASS["disorders"]]
GLASS_REFERENCES = expand(
    "<results>/fig5/{arm}.parquet", arm=["reference", "reference_again"]
)


rule spin_glass:
    """Run one arm on every size and kind of coupling, within its CPU budget in updates."""
    input:
        costs="config/spin_glass_costs.yaml",
        code=library(
            *(f"spin_glass/{name}.py" for name in GLASS_MODULES),
            *(f"kernels/{name}.py" for name in GLASS_KERNELS),
        ),
    output:
        trace="<results>/fig5/{arm}.parquet",
        gates="<results>/fig5/{arm}.gates.parquet",
        record="<results>/fig5/{arm}.provenance.json",
    log:
        "logs/spin_glass/{arm}.log",
    benchmark:
        "<results>/benchmarks/spin_glass/{arm}.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: lambda wildcards: glass_threads(wildcards.arm)
    resources:
        mem_mb=lambda wildcards: glass_memory(GLASS, wildcards.arm),
        runtime=lambda wildcards: glass_minutes(GLASS, wildcards.arm),
        cpus_per_task=lambda wildcards: glass_threads(wildcards.arm),
    params:
        call="tgn.spin_glass.tables:measure",
        arm=lambda wildcards: wildcards.arm,
        disorders=GLASS["disorders"],
        sides=GLASS["sides"],
        seconds=lambda wildcards: glass_budget(GLASS, wildcards.arm)[0],
        rungs=lambda wildcards: glass_budget(GLASS, wildcards.arm)[1],
        checkpoints=GLASS["checkpoints"],
        samples=lambda wildcards: glass_samples(GLASS, wildcards.arm),
        seed=GLASS["seed"],
    script:
        "../workflow/scripts/call.py"


rule spin_glass_reference:
    """Energies of the long runs as a table; config/ keeps the one of the laptop's samples."""
    input:
        traces=GLASS_REFERENCES,
        code=library("spin_glass/tables.py"),
    output:
        table="<results>/fig5/reference.csv",
    log:
        "logs/spin_glass_reference.log",
    benchmark:
        "<results>/benchmarks/spin_glass_reference.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=500,
    params:
        call="tgn.spin_glass.tables:keep_reference",
        seed=GLASS["seed"],
    script:
        "../workflow/scripts/call.py"


rule fig5_statistics:
    """Residual energies, times to solution, and the statistics that decide figure 5's claims."""
    input:
        traces=expand("<results>/fig5/{arm}.parquet", arm=GLASS["arms"]),
        opening=expand("<results>/fig5/{arm}.gates.parquet", arm=GLASS["arms"]),
        reference=GLASS["reference"] or GLASS_REFERENCES,
        code=library("statistics.py", "spin_glass/tables.py", "spin_glass/analysis.py"),
    output:
        curves="<results>/fig5/curves.parquet",
        times="<results>/fig5/times.parquet",
        fits="<results>/fig5/fits.parquet",
        gates="<results>/fig5/gates.parquet",
        statistics="<results>/fig5/statistics.json",
        record="<results>/fig5/statistics.provenance.json",
    log:
        "logs/fig5_statistics.log",
    benchmark:
        "<results>/benchmarks/fig5_statistics.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=1000,
    params:
        call="tgn.spin_glass.tables:summarise",
        samples=GLASS["samples"],
        resamples=GLASS["resamples"],
        seed=GLASS["seed"],
    script:
        "../workflow/scripts/call.py"


rule fig5:
    """Draw figure 5."""
    input:
        curves="<results>/fig5/curves.parquet",
        times="<results>/fig5/times.parquet",
        fits="<results>/fig5/fits.parquet",
        gates="<results>/fig5/gates.parquet",
        code=library("plots/fig5.py", "plots/look.py", "plots/style.py"),
    output:
        pdf=report(
            "<results>/fig5.pdf",
            category="Thermodynamic Gated Networks",
            labels={"figure": "5", "scale": config["scale"]},
            caption="../docs/captions/fig5.rst",
        ),
        png="<results>/fig5.png",
    log:
        "logs/fig5.log",
    benchmark:
        "<results>/benchmarks/fig5.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=500,
    params:
        call="tgn.plots.fig5:draw",
        scale=config["scale"],
    script:
        "../workflow/scripts/call.py"
