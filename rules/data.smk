"""Data: registered source -> resources/{source}/receipt.json -> <results>/corpora/{corpus}.parquet

A receipt lists the files beside it with their sizes and checksums, and is written last.
"""


wildcard_constraints:
    source="[a-z0-9.-]+",
    model="[a-z0-9.-]+",
    corpus="[a-z0-9.-]+",


localrules:
    fetch,


rule fetch:
    """Download one source of config/sources.yaml, or complete a download that was cut short."""
    output:
        receipt="resources/{source}/receipt.json",
    log:
        "logs/fetch/{source}.log",
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=300,
    params:
        call="tgn.sources:fetch_source",
        name=lambda wildcards: wildcards.source,
        entry=lambda wildcards: SOURCES[wildcards.source],
        only=lambda wildcards: part_of(wildcards.source),
    script:
        "../workflow/scripts/call.py"


rule fixture:
    """Make a tiny model or text for the smoke scale: random weights, words without meaning."""
    output:
        receipt="resources/fixture-{kind}/receipt.json",
    log:
        "logs/fixture/{kind}.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=1000,
    params:
        call="tgn.fixtures:make",
        kind=lambda wildcards: wildcards.kind,
        seed=0,
    script:
        "../workflow/scripts/call.py"


ruleorder: fixture > convert > fetch


rule convert:
    """Turn a GGUF file into a model folder with fp32 weights."""
    input:
        source=lambda wildcards: f"resources/{MODELS[wildcards.model]['source']}/receipt.json",
        code=library("probing/pretrained.py"),
    output:
        receipt="resources/converted-{model}/receipt.json",
    log:
        "logs/convert/{model}.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        call="tgn.probing.pretrained:convert_gguf",
    script:
        "../workflow/scripts/call.py"


rule corpus:
    """Read a downloaded text into a table of documents."""
    input:
        source="resources/{corpus}/receipt.json",
        code=library("text/corpora.py"),
    output:
        table="<results>/corpora/{corpus}.parquet",
        record="<results>/corpora/{corpus}.provenance.json",
    log:
        "logs/corpus/{corpus}.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        call="tgn.text.corpora:prepare",
        reader=lambda wildcards: config["corpora"][wildcards.corpus]["reader"],
        files=lambda wildcards: config["corpora"][wildcards.corpus]["files"],
        documents=lambda wildcards: config["corpora"][wildcards.corpus]["documents"],
    script:
        "../workflow/scripts/call.py"
