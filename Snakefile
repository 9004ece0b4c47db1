"""Every figure of Thermodynamic Gated Networks and its siblings, from data to PDF."""

from snakemake.utils import min_version

min_version("9.27")


include: "rules/common.smk"
include: "rules/checks.smk"


configfile: readable(*workflow.config_settings.configfiles, "config.yaml")
configfile: overlay(config)


config = checked(config)


pathvars:
    results=RESULTS[config["scale"]],


limit_resources()


include: "rules/plan.smk"
include: "rules/data.smk"
include: "rules/mechanism.smk"
include: "rules/llm_rank.smk"
include: "rules/spin_glass.smk"
include: "rules/language_model.smk"
include: "rules/convergence.smk"
include: "rules/gravity.smk"
include: "rules/shakespeare.smk"
include: "rules/recall.smk"
include: "rules/recall_tasks.smk"
include: "rules/fmri.smk"
include: "rules/scaling.smk"
include: "rules/bridge.smk"
include: "rules/constraints.smk"
include: "rules/claims.smk"
include: "rules/manuscript.smk"


rule all:
    """Every figure that exists, and the verdicts on every claim."""
    default_target: True
    input:
        figures=FIGURES,
        claims="<results>/claims.json",


onstart:
    planned = {job.rule for job in workflow.dag.needrun_jobs()}
    require_fmriprep({rule.name for rule in planned})
    require_gpus(planned)


announce()
