"""Gravity: <results>/language_model/gravity-{arm}-{seed}/ -> <results>/gravity/ -> gravity.pdf

The runs are trained as the rule language_model says.
"""

GRAVITY = config["gravity"]
GRAVITY_RUNS = language_plan.gravity_runs(LANGUAGE, GRAVITY)
GRAVITY_TEXT = GRAVITY["text"] or LANGUAGE["text"]
GRAVITY_SOURCE = GRAVITY_TEXT["corpus"] or GRAVITY_TEXT["source"]
GRAVITY_TOKENS = tokens_of(next(iter(GRAVITY_RUNS.values())))
GRAVITY_TIMED = {
    arm: GRAVITY_RUNS[f"gravity-{arm}-0"] for arm in language_plan.GRAVITY_TIMED
}
FIGURES += [
    "<results>/gravity.pdf",
    "<results>/gravity/coords.html",
    "<results>/gravity/summary.md",
]
STATISTICS += ["<results>/gravity/statistics.json", "<results>/gravity/timings.json"]


use rule language_model as gravity_model with:
    output:
        checkpoint="<results>/language_model/{run}/model.safetensors",
        best="<results>/language_model/{run}/best/model.safetensors",
        metrics="<results>/language_model/{run}/metrics.parquet",
        trajectory="<results>/language_model/{run}/trajectory.parquet",
        evaluated="<results>/language_model/{run}/evaluation.json",
        blocks="<results>/language_model/{run}/blocks.parquet",
        documents="<results>/language_model/{run}/documents.parquet",
        timings="<results>/language_model/{run}/timings.parquet",
        record="<results>/language_model/{run}/provenance.json",
    wildcard_constraints:
        run="gravity-[a-z0-9_.-]+",
    resources:
        mem_mb=GRAVITY["training_memory_mb"],
        runtime=1440,
        gpu=GRAVITY["gpus"],


if GRAVITY["text"]:

    use rule tokens as gravity_tokens with:
        input:
            unpack(lambda wildcards: text_inputs(wildcards, "gravity")),
            code=library("text/tokens.py", "text/splits.py", "text/corpora.py"),
        output:
            train="<results>/gravity/tokens/train.npy",
            validation="<results>/gravity/tokens/validation.npy",
            test="<results>/gravity/tokens/test.npy",
            tokenizer="<results>/gravity/tokens/tokenizer.json",
            documents="<results>/gravity/tokens/documents.parquet",
            counts="<results>/gravity/tokens/counts.json",
            record="<results>/gravity/tokens/provenance.json",
        log:
            "logs/gravity_tokens.log",
        benchmark:
            "<results>/benchmarks/gravity_tokens.tsv"
        params:
            call="tgn.text.tokens:prepare",
            vocabulary=GRAVITY["text"]["vocabulary"],
            files=GRAVITY["text"]["files"],


rule gravity_probes:
    """Read off what trained gravity models have learned, and whom a token draws."""
    input:
        weights=[
            f"<results>/language_model/{name}/model.safetensors"
            for name, run in GRAVITY_RUNS.items()
            if run["arm"] in GRAVITY["probed"]
        ],
        tokens=GRAVITY_TOKENS,
        code=library(
            "models/as_published.py",
            "models/attraction.py",
            "models/gravity.py",
            "probing/gravity.py",
        ),
    output:
        numbers="<results>/gravity/numbers.parquet",
        masses="<results>/gravity/masses.parquet",
        attention="<results>/gravity/attention.parquet",
        curves="<results>/gravity/distances.parquet",
        dealt="<results>/gravity/dealt.parquet",
        related="<results>/gravity/related.parquet",
        record="<results>/gravity/probes.provenance.json",
    log:
        "logs/gravity_probes.log",
    benchmark:
        "<results>/benchmarks/gravity_probes.tsv"
    conda:
        "../envs/training.yaml"
    resources:
        mem_mb=GRAVITY["memory_mb"],
        runtime=240,
    params:
        call="tgn.probing.gravity:measure",
        windows=GRAVITY["windows"],
        queries=GRAVITY["queries"],
        semantic_windows=GRAVITY["semantic_windows"],
        validation_windows=LANGUAGE["training"]["validation_windows"],
        shuffles=GRAVITY["shuffles"],
        seed=GRAVITY["seed"],
    script:
        "../workflow/scripts/call.py"


rule gravity_times:
    """Time a training step of a Transformer and of both forms of gravity against the context."""
    input:
        tokens=GRAVITY_TOKENS,
        code=TRAINING_CODE + GRAVITY_CODE + library("training/step_times.py"),
    output:
        table="<results>/gravity/times.parquet",
        record="<results>/gravity/times.provenance.json",
    log:
        "logs/gravity_times.log",
    benchmark:
        "<results>/benchmarks/gravity_times.tsv"
    conda:
        "../envs/training.yaml"
    resources:
        mem_mb=GRAVITY["memory_mb"],
        runtime=120,
        gpu=min(1, GRAVITY["gpus"]),
    params:
        call="tgn.training.step_times:measure",
        models=GRAVITY_TIMED,
        contexts=GRAVITY["time_contexts"],
        step_tokens=GRAVITY["time_tokens"],
        repeats=GRAVITY["repeats"],
        seed=GRAVITY["seed"],
    script:
        "../workflow/scripts/call.py"


rule gravity_statistics:
    """Curves with intervals, and the statistics that decide the claims about gravity."""
    input:
        trajectories=expand(
            "<results>/language_model/{run}/trajectory.parquet", run=GRAVITY_RUNS
        ),
        blocks=expand("<results>/language_model/{run}/blocks.parquet", run=GRAVITY_RUNS),
        tokens=GRAVITY_TOKENS,
        numbers="<results>/gravity/numbers.parquet",
        masses="<results>/gravity/masses.parquet",
        attention="<results>/gravity/attention.parquet",
        distances="<results>/gravity/distances.parquet",
        dealt="<results>/gravity/dealt.parquet",
        related="<results>/gravity/related.parquet",
        times="<results>/gravity/times.parquet",
        code=library(
            "statistics.py",
            "training/comparison.py",
            "training/convergence.py",
            "training/gravity_statistics.py",
        ),
    output:
        curves="<results>/gravity/curves.parquet",
        pulls="<results>/gravity/pulls.parquet",
        speeds="<results>/gravity/speeds.parquet",
        statistics="<results>/gravity/statistics.json",
        timings="<results>/gravity/timings.json",
        record="<results>/gravity/statistics.provenance.json",
    log:
        "logs/gravity_statistics.log",
    benchmark:
        "<results>/benchmarks/gravity_statistics.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=1000,
    params:
        call="tgn.training.gravity_statistics:summarise",
        runs=GRAVITY_RUNS,
        model=f"language models trained on {GRAVITY_SOURCE}",
        evidence=evidence(GRAVITY_SOURCE),
        resamples=GRAVITY["resamples"],
        seed=GRAVITY["seed"],
    script:
        "../workflow/scripts/call.py"


rule gravity:
    """Draw the figure of gravity."""
    input:
        curves="<results>/gravity/curves.parquet",
        numbers="<results>/gravity/numbers.parquet",
        masses="<results>/gravity/masses.parquet",
        pulls="<results>/gravity/pulls.parquet",
        speeds="<results>/gravity/speeds.parquet",
        statistics="<results>/gravity/statistics.json",
        timings="<results>/gravity/timings.json",
        code=library("plots/gravity.py", "plots/look.py", "plots/style.py"),
    output:
        pdf=report(
            "<results>/gravity.pdf",
            category="Newton Gravity Transformer",
            labels={"figure": "gravity", "scale": config["scale"]},
            caption="../docs/captions/gravity.rst",
        ),
        png="<results>/gravity.png",
    log:
        "logs/gravity.log",
    benchmark:
        "<results>/benchmarks/gravity.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=500,
    params:
        call="tgn.plots.gravity:draw",
        arms={name: run["arm"] for name, run in GRAVITY_RUNS.items()},
        clock="GPU" if GRAVITY["gpus"] else "CPU",
        scale=config["scale"],
    script:
        "../workflow/scripts/call.py"


rule gravity_coordinates:
    """Show where the tokens of a text stand, to be turned about in a browser."""
    input:
        weights="<results>/language_model/gravity-gravity-0/model.safetensors",
        tokens=GRAVITY_TOKENS,
        code=library("probing/coordinates.py", "plots/coordinates.py"),
    output:
        page=report(
            "<results>/gravity/coords.html",
            category="Newton Gravity Transformer",
            labels={"figure": "coordinates", "scale": config["scale"]},
        ),
        record="<results>/gravity/coords.provenance.json",
    log:
        "logs/gravity_coordinates.log",
    benchmark:
        "<results>/benchmarks/gravity_coordinates.tsv"
    conda:
        "../envs/training.yaml"
    resources:
        mem_mb=1500,
    params:
        call="tgn.plots.coordinates:draw",
        scale=config["scale"],
    script:
        "../workflow/scripts/call.py"


rule gravity_summary:
    """Set every run beside the published table."""
    input:
        evaluated=expand(
            "<results>/language_model/{run}/evaluation.json", run=GRAVITY_RUNS
        ),
        published="config/gravity_published.csv",
        code=library("training/gravity_summary.py", "models/sizes.py", "pages.py"),
    output:
        page="<results>/gravity/summary.md",
    log:
        "logs/gravity_summary.log",
    benchmark:
        "<results>/benchmarks/gravity_summary.tsv"
    conda:
        "../envs/training.yaml"
    resources:
        mem_mb=1000,
    params:
        call="tgn.training.gravity_summary:write",
        scale=config["scale"],
        text=GRAVITY_SOURCE,
    script:
        "../workflow/scripts/call.py"


use rule gravity_summary as gravity_screening with:
    input:
        evaluated=expand(
            "<results>/language_model/{run}/evaluation.json",
            run=language_plan.gravity_screening(LANGUAGE, GRAVITY),
        ),
        published="config/gravity_published.csv",
        code=library("training/gravity_summary.py", "models/sizes.py", "pages.py"),
    output:
        page="<results>/gravity/screening.md",
    log:
        "logs/gravity_screening.log",
    benchmark:
        "<results>/benchmarks/gravity_screening.tsv"
