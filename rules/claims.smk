"""The ledger: every statistics.json + config/{claims,sentences}.yaml -> <results>/claims.{json,md,html}"""


# the front page of the report
report: "../docs/captions/report.rst"


rule claims:
    """Give every published claim a verdict."""
    input:
        statistics=STATISTICS,
        undecided=UNDECIDED,
        ledger="config/claims.yaml",
        sentences="config/sentences.yaml",
        code=["config/claims.schema.json", "config/sentences.schema.json"]
        + library(
            "claims.py",
            "verdicts.py",
            "coverage.py",
            "pages.py",
            "statistics.py",
            "config.py",
        ),
    output:
        verdicts="<results>/claims.json",
        table="<results>/claims.md",
        page=report(
            "<results>/claims.html",
            category="Claims and verdicts",
            labels={"table": "claims", "scale": config["scale"]},
            caption="../docs/captions/claims.rst",
        ),
        # for the report: what its front page and the captions of the figures include
        counts="<results>/verdicts.html",
        figures=verdict_files(STATISTICS)
        + expand(
            "<results>/manuscript/figure{number}/verdicts.html", number=range(1, 6)
        ),
    log:
        "logs/claims.log",
    benchmark:
        "<results>/benchmarks/claims.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=500,
    params:
        call="tgn.verdicts:adjudicate",
        scale=config["scale"],
        models=config["rank_dynamics"]["models"] + GLASS_MODELS + [LANGUAGE_LABEL],
    script:
        "../workflow/scripts/call.py"
