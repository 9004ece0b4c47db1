"""The paper's own figures: tables of the figures + claims.json -> <results>/manuscript/figure{1..5}.pdf

They come after the claims, whose verdicts stand on them.
"""

TEMPERATURE_MODEL = config["temperature"]["models"][0]
FIGURES += [f"<results>/manuscript/figure{number}.pdf" for number in range(1, 6)]


rule manuscript_figure1:
    """Compose figure 1: mechanism and temperature."""
    input:
        landscape="<results>/fig1/landscape.parquet",
        curves="<results>/fig1/rank_curves.parquet",
        temperature="<results>/fig1/temperature.parquet",
        fits="<results>/fig1/fits.parquet",
        statistics="<results>/fig1/statistics.json",
        claims="<results>/claims.json",
        code=library(
            "plots/manuscript.py", "plots/fig1.py", "plots/look.py", "plots/style.py"
        ),
    output:
        pdf=report(
            "<results>/manuscript/figure1.pdf",
            category="Manuscript",
            labels={"figure": "1", "scale": config["scale"]},
            caption="../docs/captions/manuscript_figure1.rst",
        ),
        png="<results>/manuscript/figure1.png",
    log:
        "logs/manuscript/figure1.log",
    benchmark:
        "<results>/benchmarks/manuscript/figure1.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=500,
    params:
        call="tgn.plots.manuscript:mechanism",
        model=TEMPERATURE_MODEL,
        label=MODELS[TEMPERATURE_MODEL]["label"],
        scale=config["scale"],
    script:
        "../workflow/scripts/call.py"


rule manuscript_figure2:
    """Compose figure 2: spin glass."""
    input:
        curves="<results>/fig5/curves.parquet",
        claims="<results>/claims.json",
        code=library(
            "plots/manuscript.py", "plots/fig5.py", "plots/look.py", "plots/style.py"
        ),
    output:
        pdf=report(
            "<results>/manuscript/figure2.pdf",
            category="Manuscript",
            labels={"figure": "2", "scale": config["scale"]},
            caption="../docs/captions/manuscript_figure2.rst",
        ),
        png="<results>/manuscript/figure2.png",
    log:
        "logs/manuscript/figure2.log",
    benchmark:
        "<results>/benchmarks/manuscript/figure2.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=500,
    params:
        call="tgn.plots.manuscript:spin_glass",
        scale=config["scale"],
    script:
        "../workflow/scripts/call.py"


rule manuscript_figure3:
    """Compose figure 3: gate, perplexity and early training of language models."""
    input:
        curves="<results>/fig21/curves.parquet",
        gates="<results>/fig21/statistics.json",
        convergence="<results>/fig22/convergence.parquet",
        losses="<results>/fig22/statistics.json",
        claims="<results>/claims.json",
        code=library(
            "plots/manuscript.py",
            "plots/fig21.py",
            "plots/fig22.py",
            "plots/look.py",
            "plots/style.py",
        ),
    output:
        pdf=report(
            "<results>/manuscript/figure3.pdf",
            category="Manuscript",
            labels={"figure": "3", "scale": config["scale"]},
            caption="../docs/captions/manuscript_figure3.rst",
        ),
        png="<results>/manuscript/figure3.png",
    log:
        "logs/manuscript/figure3.log",
    benchmark:
        "<results>/benchmarks/manuscript/figure3.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=500,
    params:
        call="tgn.plots.manuscript:language",
        scale=config["scale"],
    script:
        "../workflow/scripts/call.py"


rule manuscript_figure4:
    """Compose figure 4: associative recall."""
    input:
        recall="<results>/fig22/recall.parquet",
        claims="<results>/claims.json",
        code=library(
            "plots/manuscript.py", "plots/fig22.py", "plots/look.py", "plots/style.py"
        ),
    output:
        pdf=report(
            "<results>/manuscript/figure4.pdf",
            category="Manuscript",
            labels={"figure": "4", "scale": config["scale"]},
            caption="../docs/captions/manuscript_figure4.rst",
        ),
        png="<results>/manuscript/figure4.png",
    log:
        "logs/manuscript/figure4.log",
    benchmark:
        "<results>/benchmarks/manuscript/figure4.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=500,
    params:
        call="tgn.plots.manuscript:recall",
        scale=config["scale"],
    script:
        "../workflow/scripts/call.py"


rule manuscript_figure5:
    """Compose figure 5: states of sedation, psychedelics in silico, lead and lag; the bridge."""
    input:
        states="<results>/fig14/states.parquet",
        expansion="<results>/fig14/expansion.parquet",
        lags="<results>/fig14/lags.parquet",
        courses="<results>/fig14/courses.parquet",
        statistics="<results>/fig14/statistics.json",
        doses="<results>/bridge/curves.parquet",
        matched="<results>/bridge/matched.parquet",
        similarity="<results>/bridge/statistics.json",
        claims="<results>/claims.json",
        code=library(
            "plots/manuscript.py",
            "plots/bridge.py",
            "plots/fig14.py",
            "plots/look.py",
            "plots/style.py",
        ),
    output:
        pdf=report(
            "<results>/manuscript/figure5.pdf",
            category="Manuscript",
            labels={"figure": "5", "scale": config["scale"]},
            caption="../docs/captions/manuscript_figure5.rst",
        ),
        png="<results>/manuscript/figure5.png",
    log:
        "logs/manuscript/figure5.log",
    benchmark:
        "<results>/benchmarks/manuscript/figure5.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=500,
    params:
        call="tgn.plots.manuscript:consciousness",
        arms=BRIDGE["arms"],
        data=FMRI_CHOICE["data"],
        evidence=FMRI_CHOICE["evidence"],
        scale=config["scale"],
    script:
        "../workflow/scripts/call.py"
