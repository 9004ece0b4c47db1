"""Figure 21: text -> tokens -> <results>/language_model/{run}/ -> statistics.json -> fig21.pdf

A run is one training: an arm with a seed, with another penalty, with a ramp of the penalty, or with
a learning rate to choose from. tgn.training.plan names them. Those of figure 22's convergence, of
gravity and of constraints are trained here too, and those that two figures need once.
"""

LANGUAGE = config["language_model"]
RUNS = language_plan.runs(LANGUAGE)
SWEEPS = {
    "language_model": language_plan.sweep(LANGUAGE),
    "convergence": language_plan.convergence_sweep(LANGUAGE, config["convergence"]),
    "gravity": language_plan.gravity_sweep(LANGUAGE, config["gravity"]),
}
GATED = [f"{LANGUAGE['swept']}-0", "tgn_published-0"]
TEXT_SOURCE = LANGUAGE["text"]["corpus"] or LANGUAGE["text"]["source"]
LANGUAGE_LABEL = f"language models trained on {TEXT_SOURCE}"
FIGURES.append("<results>/fig21.pdf")
STATISTICS += ["<results>/fig21/statistics.json", "<results>/fig21/timings.json"]
TRAINING_CODE = library(
    *(
        f"models/{name}.py"
        for name in [
            "as_published",
            "attention",
            "config",
            "decoder",
            "gated",
            "head",
            "mamba",
            "recurrent",
            "scans",
            "sizes",
        ]
    ),
    *(f"kernels/{name}.py" for name in ["lanes", "scan", "selective_scan"]),
    *(f"training/{name}.py" for name in ["batches", "loop", "optimizers", "run"]),
)
GRAVITY_CODE = library(
    "models/attraction.py", "models/gravity.py", "kernels/gravity.py"
)


wildcard_constraints:
    run="[a-z0-9_.-]+",


rule tokens:
    """Split a text by document, train or take a tokenizer, and encode the splits."""
    input:
        unpack(text_inputs),
        code=library("text/tokens.py", "text/splits.py", "text/corpora.py"),
    output:
        train="<results>/language_model/tokens/train.npy",
        validation="<results>/language_model/tokens/validation.npy",
        test="<results>/language_model/tokens/test.npy",
        tokenizer="<results>/language_model/tokens/tokenizer.json",
        documents="<results>/language_model/tokens/documents.parquet",
        counts="<results>/language_model/tokens/counts.json",
        record="<results>/language_model/tokens/provenance.json",
    log:
        "logs/tokens.log",
    benchmark:
        "<results>/benchmarks/tokens.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        call="tgn.text.tokens:prepare",
        vocabulary=LANGUAGE["text"]["vocabulary"],
        files=LANGUAGE["text"]["files"],
    script:
        "../workflow/scripts/call.py"


rule language_model:
    """Train a language model and evaluate it on whole splits; a killed run goes on."""
    input:
        unpack(start_of_run),
        code=lambda wildcards: training_code(run_settings(wildcards.run))
        + library("training/evaluation.py"),
    output:
        checkpoint="<results>/language_model/{run}/model.safetensors",
        metrics="<results>/language_model/{run}/metrics.parquet",
        trajectory="<results>/language_model/{run}/trajectory.parquet",
        evaluated="<results>/language_model/{run}/evaluation.json",
        blocks="<results>/language_model/{run}/blocks.parquet",
        documents="<results>/language_model/{run}/documents.parquet",
        timings="<results>/language_model/{run}/timings.parquet",
        record="<results>/language_model/{run}/provenance.json",
    log:
        "logs/language_model/{run}.log",
    benchmark:
        "<results>/benchmarks/language_model/{run}.tsv"
    wildcard_constraints:
        run="(?!gravity-|constraints-)[a-z0-9_.-]+",
    conda:
        "../envs/training.yaml"
    resources:
        mem_mb=2000,
        runtime=1440,
        gpu=LANGUAGE["gpus"],
    params:
        call="tgn.training.run:train",
        arm=lambda wildcards: run_settings(wildcards.run)["arm"],
        model=lambda wildcards: run_settings(wildcards.run)["model"],
        match=lambda wildcards: run_settings(wildcards.run)["match"],
        training=lambda wildcards: run_settings(wildcards.run)["training"],
        penalty=lambda wildcards: run_settings(wildcards.run)["penalty"],
        seed=lambda wildcards: run_settings(wildcards.run)["seed"],
        rate=lambda wildcards: run_settings(wildcards.run)["rate"],
        rates_of=lambda wildcards: run_settings(wildcards.run).get("rates_of"),
        gpus=lambda wildcards, resources: max(1, resources.gpu),
        library=lambda wildcards: training_code(run_settings(wildcards.run)),
        state=lambda wildcards: f"{RESULTS[config['scale']]}/states/{wildcards.run}",
        tensorboard=lambda wildcards: f"{RESULTS[config['scale']]}/tensorboard/{wildcards.run}",
    script:
        "../workflow/scripts/call.py"


rule language_model_rates:
    """Choose each arm's learning rate by its validation loss in a sweep of shorter runs."""
    input:
        evaluated=lambda wildcards: expand(
            "<results>/language_model/{run}/evaluation.json",
            run=SWEEPS[wildcards.sweep],
        ),
    output:
        table="<results>/{sweep}/rates.csv",
    log:
        "logs/language_model_rates/{sweep}.log",
    benchmark:
        "<results>/benchmarks/language_model_rates/{sweep}.tsv"
    wildcard_constraints:
        sweep="|".join(SWEEPS),
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=500,
    params:
        call="tgn.training.run:choose_rates",
        runs=lambda wildcards: SWEEPS[wildcards.sweep],
    script:
        "../workflow/scripts/call.py"


rule hard_gates:
    """Evaluate a gated model with its gates made hard, at several shares of open tokens."""
    input:
        weights="<results>/language_model/{run}/model.safetensors",
        tokens="<results>/language_model/tokens/counts.json",
        code=library(
            "models/hard_attention.py",
            "training/evaluation.py",
            "training/gate_dynamics.py",
        ),
    output:
        table="<results>/fig21/{run}/hard_gates.parquet",
        record="<results>/fig21/{run}/hard_gates.provenance.json",
    log:
        "logs/hard_gates/{run}.log",
    benchmark:
        "<results>/benchmarks/hard_gates/{run}.tsv"
    conda:
        "../envs/training.yaml"
    resources:
        mem_mb=2000,
        runtime=480,
    params:
        call="tgn.training.gate_dynamics:measure_hard_gates",
        occupancies=LANGUAGE["occupancies"],
        windows=LANGUAGE["hard_windows"],
        seed=LANGUAGE["seed"],
    script:
        "../workflow/scripts/call.py"


rule attention_times:
    """Time attention with all tokens asking, and with a share of them."""
    input:
        weights=f"<results>/language_model/{GATED[0]}/model.safetensors",
        code=library(
            "models/attention.py",
            "models/hard_attention.py",
            "training/gate_dynamics.py",
        ),
    output:
        table="<results>/fig21/times.parquet",
        record="<results>/fig21/times.provenance.json",
    log:
        "logs/attention_times.log",
    benchmark:
        "<results>/benchmarks/attention_times.tsv"
    conda:
        "../envs/training.yaml"
    resources:
        mem_mb=2000,
        runtime=60,
        gpu=min(1, LANGUAGE["gpus"]),
    params:
        call="tgn.training.gate_dynamics:measure_attention_times",
        contexts=LANGUAGE["time_contexts"],
        occupancies=LANGUAGE["occupancies"],
        repeats=LANGUAGE["repeats"],
        seed=LANGUAGE["seed"],
    script:
        "../workflow/scripts/call.py"


rule fig21_statistics:
    """Curves with intervals, and the statistics that decide figure 21's claims."""
    input:
        trajectories=expand(
            "<results>/language_model/{run}/trajectory.parquet", run=RUNS
        ),
        blocks=expand("<results>/language_model/{run}/blocks.parquet", run=RUNS),
        hard=expand("<results>/fig21/{run}/hard_gates.parquet", run=GATED),
        times="<results>/fig21/times.parquet",
        tokens="<results>/language_model/tokens/counts.json",
        code=library(
            "statistics.py", "training/comparison.py", "training/gate_statistics.py"
        ),
    output:
        curves="<results>/fig21/curves.parquet",
        penalties="<results>/fig21/penalties.parquet",
        ramps="<results>/fig21/ramps.parquet",
        gates="<results>/fig21/gates.parquet",
        timing="<results>/fig21/timing.parquet",
        statistics="<results>/fig21/statistics.json",
        timings="<results>/fig21/timings.json",
        record="<results>/fig21/statistics.provenance.json",
    log:
        "logs/fig21_statistics.log",
    benchmark:
        "<results>/benchmarks/fig21_statistics.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=1000,
    params:
        call="tgn.training.gate_statistics:summarise",
        runs=RUNS,
        swept=LANGUAGE["swept"],
        context=LANGUAGE["model"]["context"],
        model=LANGUAGE_LABEL,
        evidence=evidence(TEXT_SOURCE),
        resamples=LANGUAGE["resamples"],
        seed=LANGUAGE["seed"],
    script:
        "../workflow/scripts/call.py"


rule fig21:
    """Draw figure 21."""
    input:
        curves="<results>/fig21/curves.parquet",
        penalties="<results>/fig21/penalties.parquet",
        ramps="<results>/fig21/ramps.parquet",
        gates="<results>/fig21/gates.parquet",
        timing="<results>/fig21/timing.parquet",
        statistics="<results>/fig21/statistics.json",
        code=library("plots/fig21.py", "plots/look.py", "plots/style.py"),
    output:
        pdf=report(
            "<results>/fig21.pdf",
            category="Thermodynamic Gated Networks",
            labels={"figure": "21", "scale": config["scale"]},
            caption="../docs/captions/fig21.rst",
        ),
        png="<results>/fig21.png",
    log:
        "logs/fig21.log",
    benchmark:
        "<results>/benchmarks/fig21.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=500,
    params:
        call="tgn.plots.fig21:draw",
        swept=LANGUAGE["swept"],
        scale=config["scale"],
    script:
        "../workflow/scripts/call.py"
