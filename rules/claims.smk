"""The ledger: every statistics.json + config/claims.yaml -> <results>/claims.json and claims.md"""


rule claims:
    """Give every published claim a verdict."""
    input:
        statistics=STATISTICS,
        ledger="config/claims.yaml",
        schema="config/claims.schema.json",
        code=library("claims.py", "statistics.py", "config.py"),
    output:
        verdicts="<results>/claims.json",
        table=report(
            "<results>/claims.md",
            category="Verdicts",
            labels={"figure": "claims", "scale": config["scale"]},
            caption="../docs/captions/claims.rst",
        ),
    log:
        "logs/claims.log",
    conda:
        "../envs/analysis.yaml"
    params:
        call="tgn.claims:adjudicate",
        scale=config["scale"],
        models=config["rank_dynamics"]["models"] + GLASS_MODELS,
    script:
        "../workflow/scripts/call.py"
