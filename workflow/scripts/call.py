"""Run the library function a rule names: its inputs, outputs and params are the arguments."""

from tgn.jobs import run

arguments = {
    name: value
    for items in (snakemake.input, snakemake.output, snakemake.params)
    for name, value in items.items()
    if name not in {"call", "code", "record"}
}
run(
    snakemake.params.call,
    arguments,
    inputs=list(snakemake.input),
    record=snakemake.output.get("record"),
    log=str(snakemake.log),
    threads=snakemake.threads,
    gpus=snakemake.config["require_gpus"] and snakemake.resources.get("gpu", 0),
)
