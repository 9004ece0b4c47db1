"""Figure 22, associative recall: <results>/recall/{run}/ -> statistics.json -> fig22.pdf

A run is one training: an arm with a seed, or with a learning rate to choose from. No data are read:
examples are drawn as they are needed. tgn.training.recall_plan names the runs; the figure's other
half is made by convergence.smk.
"""

RECALL = config["recall"]
RECALL_RUNS = recall_plan.runs(RECALL)
RECALL_SWEEP = recall_plan.sweep(RECALL)
RECALL_LABEL = f"recall of pairs, vocabulary {RECALL['task']['vocab_size']}"
RECALL_CODE = TRAINING_CODE + library("text/recall.py", "training/synthetic.py")
FIGURES.append("<results>/fig22.pdf")
STATISTICS.append("<results>/fig22/statistics.json")
UNDECIDED.append("<results>/fig22/undecided.json")


rule recall:
    """Train a model on multi-query associative recall and test it; a killed run goes on."""
    input:
        unpack(rates_of_recall),
        code=RECALL_CODE,
    output:
        checkpoint="<results>/recall/{run}/model.safetensors",
        metrics="<results>/recall/{run}/metrics.parquet",
        accuracy="<results>/recall/{run}/accuracy.parquet",
        occupancy="<results>/recall/{run}/occupancy.parquet",
        timings="<results>/recall/{run}/timings.parquet",
        record="<results>/recall/{run}/provenance.json",
    log:
        "logs/recall/{run}.log",
    benchmark:
        "<results>/benchmarks/recall/{run}.tsv"
    conda:
        "../envs/training.yaml"
    resources:
        mem_mb=1500,
        runtime=480,
        gpu=RECALL["gpus"],
    params:
        call="tgn.training.synthetic:train",
        arm=lambda wildcards: recall_settings(wildcards.run)["arm"],
        model=lambda wildcards: recall_settings(wildcards.run)["model"],
        train_tasks=lambda wildcards: recall_settings(wildcards.run)["train_tasks"],
        test_tasks=lambda wildcards: recall_settings(wildcards.run)["test_tasks"],
        training=lambda wildcards: recall_settings(wildcards.run)["training"],
        penalty=lambda wildcards: recall_settings(wildcards.run)["penalty"],
        seed=lambda wildcards: recall_settings(wildcards.run)["seed"],
        rate=lambda wildcards: recall_settings(wildcards.run)["rate"],
        library=RECALL_CODE,
        state=lambda wildcards: f"{RESULTS[config['scale']]}/states/recall-{wildcards.run}",
        tensorboard=lambda wildcards: f"{RESULTS[config['scale']]}/tensorboard/recall-{wildcards.run}",
    script:
        "../workflow/scripts/call.py"


rule recall_rates:
    """Choose each arm's learning rate by its validation accuracy in a sweep."""
    input:
        metrics=expand("<results>/recall/{run}/metrics.parquet", run=RECALL_SWEEP),
    output:
        table="<results>/recall/rates.csv",
    log:
        "logs/recall_rates.log",
    benchmark:
        "<results>/benchmarks/recall_rates.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=500,
    params:
        call="tgn.training.synthetic:choose_rates",
        runs=RECALL_SWEEP,
    script:
        "../workflow/scripts/call.py"


rule fig22_statistics:
    """Tables of recall, and all statistics that decide figure 22's claims."""
    input:
        accuracies=expand("<results>/recall/{run}/accuracy.parquet", run=RECALL_RUNS),
        occupancies=expand("<results>/recall/{run}/occupancy.parquet", run=RECALL_RUNS),
        metrics=expand("<results>/recall/{run}/metrics.parquet", run=RECALL_RUNS),
        convergence="<results>/fig22/convergence.json",
        code=library(
            "claims.py",
            "statistics.py",
            "training/comparison.py",
            "training/recall_statistics.py",
        ),
    output:
        recall="<results>/fig22/recall.parquet",
        widths="<results>/fig22/recall_widths.parquet",
        occupancy="<results>/fig22/occupancy.parquet",
        recall_training="<results>/fig22/recall_training.parquet",
        statistics="<results>/fig22/statistics.json",
        undecided="<results>/fig22/undecided.json",
        record="<results>/fig22/statistics.provenance.json",
    log:
        "logs/fig22_statistics.log",
    benchmark:
        "<results>/benchmarks/fig22_statistics.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=1000,
    params:
        call="tgn.training.recall_statistics:summarise",
        runs=RECALL_RUNS,
        width=RECALL["model"]["width"],
        length=RECALL["length"],
        pairs=RECALL["pairs"],
        early=RECALL["early"],
        fair=RECALL["fair"],
        model=RECALL_LABEL,
        evidence="real",
        resamples=RECALL["resamples"],
        seed=RECALL["seed"],
    script:
        "../workflow/scripts/call.py"


rule fig22:
    """Draw figure 22."""
    input:
        convergence="<results>/fig22/convergence.parquet",
        recall="<results>/fig22/recall.parquet",
        occupancy="<results>/fig22/occupancy.parquet",
        recall_training="<results>/fig22/recall_training.parquet",
        statistics="<results>/fig22/statistics.json",
        timings="<results>/fig22/timings.json",
        code=library("plots/fig22.py", "plots/look.py", "plots/style.py"),
    output:
        pdf=report(
            "<results>/fig22.pdf",
            category="Thermodynamic Gated Networks",
            labels={"figure": "22", "scale": config["scale"]},
            caption="../docs/captions/fig22.rst",
        ),
        png="<results>/fig22.png",
    log:
        "logs/fig22.log",
    benchmark:
        "<results>/benchmarks/fig22.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=500,
    params:
        call="tgn.plots.fig22:draw",
        scale=config["scale"],
    script:
        "../workflow/scripts/call.py"
