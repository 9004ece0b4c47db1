"""Figure 22, convergence: <results>/language_model/{run}/ -> <results>/fig22/convergence.json"""

CONVERGENCE = config["convergence"]
CONVERGENCE_RUNS = language_plan.convergence_runs(LANGUAGE, CONVERGENCE)
STATISTICS.append("<results>/fig22/timings.json")


rule convergence:
    """Validation curves of every arm, and the statistics that decide who converges as whom."""
    input:
        trajectories=expand(
            "<results>/language_model/{run}/trajectory.parquet", run=CONVERGENCE_RUNS
        ),
        blocks=expand(
            "<results>/language_model/{run}/blocks.parquet", run=CONVERGENCE_RUNS
        ),
        seconds=expand(
            "<results>/language_model/{run}/timings.parquet", run=CONVERGENCE_RUNS
        ),
        tokens="<results>/language_model/tokens/counts.json",
        code=library(
            "statistics.py",
            "training/comparison.py",
            "training/convergence.py",
            "training/evaluation.py",
            "training/gate_statistics.py",
        ),
    output:
        curves="<results>/fig22/convergence.parquet",
        statistics="<results>/fig22/convergence.json",
        timings="<results>/fig22/timings.json",
        record="<results>/fig22/convergence.provenance.json",
    log:
        "logs/convergence.log",
    benchmark:
        "<results>/benchmarks/convergence.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=1000,
    params:
        call="tgn.training.convergence:summarise",
        runs=CONVERGENCE_RUNS,
        gpus=LANGUAGE["gpus"],
        model=LANGUAGE_LABEL,
        evidence=evidence(TEXT_SOURCE),
        resamples=CONVERGENCE["resamples"],
        seed=CONVERGENCE["seed"],
    script:
        "../workflow/scripts/call.py"
