"""TinyShakespeare: its text -> <results>/shakespeare/{run}/ -> <results>/shakespeare/runs.md

No figure, and no part of `all`: `snakemake shakespeare` trains the models that the README of the
Newton Gravity Transformer begins with, by the rules that train all language models.
"""

SHAKESPEARE = config["shakespeare"]
SHAKESPEARE_RUNS = language_plan.shakespeare_runs(SHAKESPEARE)


use rule tokens as shakespeare_tokens with:
    input:
        unpack(lambda wildcards: text_inputs(wildcards, "shakespeare")),
        code=library("text/tokens.py", "text/splits.py", "text/corpora.py"),
    output:
        train="<results>/shakespeare/tokens/train.npy",
        validation="<results>/shakespeare/tokens/validation.npy",
        test="<results>/shakespeare/tokens/test.npy",
        tokenizer="<results>/shakespeare/tokens/tokenizer.json",
        documents="<results>/shakespeare/tokens/documents.parquet",
        counts="<results>/shakespeare/tokens/counts.json",
        record="<results>/shakespeare/tokens/provenance.json",
    log:
        "logs/shakespeare_tokens.log",
    benchmark:
        "<results>/benchmarks/shakespeare_tokens.tsv"
    params:
        call="tgn.text.tokens:prepare",
        vocabulary=SHAKESPEARE["text"]["vocabulary"],
        files=SHAKESPEARE["text"]["files"],


use rule language_model as shakespeare_model with:
    input:
        tokens="<results>/shakespeare/tokens/counts.json",
        code=lambda wildcards: training_code(SHAKESPEARE_RUNS[wildcards.run])
        + library("training/evaluation.py"),
    output:
        checkpoint="<results>/shakespeare/{run}/model.safetensors",
        best="<results>/shakespeare/{run}/best/model.safetensors",
        metrics="<results>/shakespeare/{run}/metrics.parquet",
        trajectory="<results>/shakespeare/{run}/trajectory.parquet",
        evaluated="<results>/shakespeare/{run}/evaluation.json",
        timings="<results>/shakespeare/{run}/timings.parquet",
        record="<results>/shakespeare/{run}/provenance.json",
    log:
        "logs/shakespeare/{run}.log",
    benchmark:
        "<results>/benchmarks/shakespeare/{run}.tsv"
    wildcard_constraints:
        run="|".join(SHAKESPEARE_RUNS),
    resources:
        mem_mb=2000,
        runtime=480,
        gpu=SHAKESPEARE["gpus"],
    params:
        call="tgn.training.run:train",
        arm=lambda wildcards: SHAKESPEARE_RUNS[wildcards.run]["arm"],
        model=lambda wildcards: SHAKESPEARE_RUNS[wildcards.run]["model"],
        match=lambda wildcards: SHAKESPEARE_RUNS[wildcards.run]["match"],
        training=lambda wildcards: SHAKESPEARE_RUNS[wildcards.run]["training"],
        penalty=lambda wildcards: SHAKESPEARE_RUNS[wildcards.run]["penalty"],
        seed=lambda wildcards: SHAKESPEARE_RUNS[wildcards.run]["seed"],
        rate=lambda wildcards: SHAKESPEARE_RUNS[wildcards.run]["rate"],
        rates_of=None,
        gpus=lambda wildcards, resources: max(1, resources.gpu),
        library=lambda wildcards: training_code(SHAKESPEARE_RUNS[wildcards.run]),
        state=lambda wildcards: f"{RESULTS[config['scale']]}/states/shakespeare/{wildcards.run}",
        tensorboard=lambda wildcards: f"{RESULTS[config['scale']]}/tensorboard/shakespeare/{wildcards.run}",


rule shakespeare:
    """List the models trained on TinyShakespeare side by side."""
    input:
        evaluated=expand(
            "<results>/shakespeare/{run}/evaluation.json", run=SHAKESPEARE_RUNS
        ),
        code=library("training/listing.py"),
    output:
        table="<results>/shakespeare/runs.csv",
        page="<results>/shakespeare/runs.md",
        record="<results>/shakespeare/runs.provenance.json",
    log:
        "logs/shakespeare.log",
    benchmark:
        "<results>/benchmarks/shakespeare.tsv"
    conda:
        "../envs/training.yaml"
    resources:
        mem_mb=1000,
    params:
        call="tgn.training.listing:write",
    script:
        "../workflow/scripts/call.py"
