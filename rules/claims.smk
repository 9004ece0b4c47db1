"""The ledger: every statistics.json + config/claims.yaml -> <results>/claims.{json,md,html}"""


rule claims:
    """Give every published claim a verdict."""
    input:
        statistics=STATISTICS,
        ledger="config/claims.yaml",
        schema="config/claims.schema.json",
        code=library("claims.py", "statistics.py", "config.py"),
    output:
        verdicts="<results>/claims.json",
        table="<results>/claims.md",
        page=report(
            "<results>/claims.html",
            category="Verdicts",
            labels={"figure": "claims", "scale": config["scale"]},
            caption="../docs/captions/claims.rst",
        ),
    log:
        "logs/claims.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=500,
    params:
        call="tgn.claims:adjudicate",
        scale=config["scale"],
        models=config["rank_dynamics"]["models"] + GLASS_MODELS + [LANGUAGE_LABEL],
    script:
        "../workflow/scripts/call.py"
