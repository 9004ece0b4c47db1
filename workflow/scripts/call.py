"""Run the library function a rule names: its inputs, outputs and params are the arguments."""

from tgn.jobs import run

parts = (snakemake.input, snakemake.output, snakemake.params)
given = {name: value for part in parts for name, value in part.items()}
run(
    snakemake.params.call,
    {name: given[name] for name in given if name not in {"call", "code", "record"}},
    inputs=list(snakemake.input),
    record=snakemake.output.get("record"),
    log=str(snakemake.log),
    threads=snakemake.threads,
    gpus=snakemake.resources.get("gpu", 0),
)
