"""Figure 14: recordings -> signals of regions -> ranks; connectomes -> models -> the same; fig14.pdf

Recordings are a virtual cohort, ds003171 through fMRIPrep, or a user's derivatives; tgn.fmri.plan
says which. Whose signals a path holds follows from its atlas, see `fmri.datasets`.
"""

FMRI = config["fmri"]
FMRIPREP = FMRI["fmriprep"]
RECORDINGS, COHORT = FMRI["datasets"]["recordings"], FMRI["datasets"]["cohort"]
FMRI_DATA = fmri_plan.shown(FMRI, config["fmri_derivatives"])
SHOWN = FMRI["datasets"][FMRI_DATA]
FMRI_PEOPLE = fmri_plan.people(FMRI)
FMRI_STATES = list(FMRI["states"])
# Which ranks decide, and what they are ranks of.
FMRI_CHOICE = {
    "arm": FMRI["arms"][0],
    "atlas": SHOWN["atlases"][0],
    "definition": FMRI["ranks"]["definition"],
    "window": 0,
    "data": "virtual cohort" if FMRI_DATA == "cohort" else SHOWN["source"],
    "evidence": "simulated" if FMRI_DATA == "cohort" else evidence(SHOWN["source"]),
}
BOLD_RUNS = [
    f"sub-{{subject}}_task-{RECORDINGS['task']}{s}_run-01" for s in FMRI_STATES
]
# What fMRIPrep calls its outputs
BOLD_SPACE = f"space-{RECORDINGS['space']}_res-{FMRIPREP['resolution']}"
MODEL_MODULES = [
    "connectivity",
    "connectomes",
    "dynamics",
    "filters",
    "hopf",
    "mean_field",
    "whole_brain",
]
FIGURES.append("<results>/fig14.pdf")
STATISTICS.append("<results>/fig14/statistics.json")
MODEL_CODE = library(
    *(f"fmri/{name}.py" for name in MODEL_MODULES),
    *(f"kernels/{name}.py" for name in ["lanes", "normals", "vectors", "whole_brain"]),
)
RANK_CODE = library(
    "rank.py",
    *(f"fmri/{name}.py" for name in ["connectivity", "filters", "ranks", "surrogates"]),
    "kernels/spectra.py",
)


wildcard_constraints:
    subject="[A-Za-z0-9]+",
    person="[A-Za-z0-9_]+",
    atlas="[a-z0-9-]+",
    dataset="[a-z]+",


localrules:
    fmriprep_image,


# --- people and their models


# The chains that end in lead_lag and in fmri_reference are the longest, so their rules go first.
rule connectome:
    """Read one person's tractography and resting BOLD."""
    input:
        source=f"resources/{FMRI['connectomes']['source']}/receipt.json",
        atlas=f"resources/{FMRI['connectomes']['atlas']}/receipt.json",
        code=library("fmri/connectomes.py"),
    output:
        output="<results>/fmri/connectomes/{person}.npz",
        record="<results>/fmri/connectomes/{person}.provenance.json",
    log:
        "logs/connectome/{person}.log",
    benchmark:
        "<results>/benchmarks/connectome/{person}.tsv"
    priority: 1
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=500,
    params:
        call="tgn.fmri.connectomes:prepare_person",
        person=lambda wildcards: wildcards.person,
    script:
        "../workflow/scripts/call.py"


rule brain_model:
    """Fit the coupling of both whole-brain models to one person's resting BOLD."""
    input:
        connectome="<results>/fmri/connectomes/{person}.npz",
        code=MODEL_CODE,
    output:
        output="<results>/fmri/models/{person}.json",
        record="<results>/fmri/models/{person}.provenance.json",
    log:
        "logs/brain_model/{person}.log",
    benchmark:
        "<results>/benchmarks/brain_model/{person}.tsv"
    priority: 1
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=800,
    params:
        call="tgn.fmri.whole_brain:fit_person",
        models=FMRI["models"],
        states=FMRI["states"],
        band=FMRI["cleaning"]["band_hz"],
        seed=FMRI["seed"],
    script:
        "../workflow/scripts/call.py"


rule in_silico:
    """Simulate one person under a psychedelic's gain, under more noise, and under neither."""
    input:
        connectome="<results>/fmri/connectomes/{person}.npz",
        fitted="<results>/fmri/models/{person}.json",
        code=MODEL_CODE + RANK_CODE,
    output:
        output="<results>/fmri/in_silico/{person}.parquet",
        record="<results>/fmri/in_silico/{person}.provenance.json",
    log:
        "logs/in_silico/{person}.log",
    benchmark:
        "<results>/benchmarks/in_silico/{person}.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=800,
    params:
        call="tgn.fmri.whole_brain:in_silico",
        arms=FMRI["in_silico"]["arms"],
        volumes=FMRI["in_silico"]["volumes"],
        tr=COHORT["tr"],
        seeds=FMRI["in_silico"]["seeds"],
        settle=FMRI["in_silico"]["settle"],
        band=FMRI["cleaning"]["band_hz"],
        windows=FMRI["in_silico"]["windows"],
        step=FMRI["ranks"]["step"],
        draws=FMRI["ranks"]["draws"],
        seed=FMRI["seed"],
    script:
        "../workflow/scripts/call.py"


rule ramps:
    """Sedate one person's model slowly, and let it be as long, with the same noise."""
    input:
        connectome="<results>/fmri/connectomes/{person}.npz",
        fitted="<results>/fmri/models/{person}.json",
        code=MODEL_CODE,
    output:
        output="<results>/fmri/ramps/{person}.npz",
        record="<results>/fmri/ramps/{person}.provenance.json",
    log:
        "logs/ramps/{person}.log",
    benchmark:
        "<results>/benchmarks/ramps/{person}.tsv"
    priority: 2
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=800,
    params:
        call="tgn.fmri.whole_brain:ramps",
        changes=FMRI["ramps"]["changes"],
        volumes=FMRI["ramps"]["volumes"],
        tr=COHORT["tr"],
        seeds=FMRI["ramps"]["seeds"],
        settle=FMRI["ramps"]["settle"],
        seed=FMRI["seed"],
    script:
        "../workflow/scripts/call.py"


rule lead_lag:
    """Correlate windowed ranks with synchrony at every lag, with surrogates."""
    input:
        runs=expand("<results>/fmri/ramps/{person}.npz", person=FMRI["people"]),
        code=RANK_CODE + library("fmri/lead_lag.py", "fmri/synchrony.py"),
    output:
        lead_lag="<results>/fig14/lead_lag.parquet",
        synchrony="<results>/fig14/synchrony.parquet",
        record="<results>/fig14/lead_lag.provenance.json",
    log:
        "logs/lead_lag.log",
    benchmark:
        "<results>/benchmarks/lead_lag.tsv"
    priority: 2
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=1000,
    params:
        call="tgn.fmri.lead_lag:lead_lag_tables",
        window=FMRI["ramps"]["window"],
        step=FMRI["ramps"]["step"],
        band=FMRI["ramps"]["band_hz"],
        max_lag_s=FMRI["ramps"]["max_lag_s"],
        draws=FMRI["ramps"]["draws"],
        seed=FMRI["seed"],
    script:
        "../workflow/scripts/call.py"


# --- images


rule virtual_subject:
    """Simulate one person in every state, and record it as fMRIPrep derivatives."""
    input:
        unpack(brain_of),
        atlas=f"resources/{FMRI['datasets']['cohort']['atlases'][0]}/receipt.json",
        code=MODEL_CODE + library("fmri/atlas.py", "fmri/cohort.py"),
    output:
        files="<results>/fmri/cohort/sub-{subject}_files.json",
        clean="<results>/fmri/cohort/clean/sub-{subject}.npz",
        record="<results>/fmri/cohort/sub-{subject}.provenance.json",
    log:
        "logs/virtual_subject/{subject}.log",
    benchmark:
        "<results>/benchmarks/virtual_subject/{subject}.tsv"
    priority: 1
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=FMRI["memory_mb"],
    params:
        call="tgn.fmri.cohort:make_subject",
        subject=lambda wildcards: wildcards.subject,
        model=FMRI["model"],
        states=FMRI["states"],
        recording={
            **FMRI["recording"],
            "tr": COHORT["tr"],
            "volumes": COHORT["volumes"],
        },
        seed=FMRI["seed"],
    script:
        "../workflow/scripts/call.py"


rule fmriprep_image:
    """Fetch the container of fMRIPrep as one file."""
    output:
        image=pulled_image(),
    log:
        "logs/fmriprep_image.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=2000,
    params:
        call="tgn.fmri.fmriprep:pull",
        container=FMRIPREP["container"],
    script:
        "../workflow/scripts/call.py"


rule fmriprep:
    """Preprocess the four runs of one person; a run that was killed goes on where it was."""
    input:
        source=f"resources/{RECORDINGS['source']}/receipt.json",
        image=fmriprep_image(),
    output:
        images=expand(
            "<results>/fmri/fmriprep/sub-{{subject}}/func/{run}_{space}_desc-preproc_bold.nii.gz",
            run=BOLD_RUNS,
            space=BOLD_SPACE,
        ),
        masks=expand(
            "<results>/fmri/fmriprep/sub-{{subject}}/func/{run}_{space}_desc-brain_mask.nii.gz",
            run=BOLD_RUNS,
            space=BOLD_SPACE,
        ),
        confounds=expand(
            "<results>/fmri/fmriprep/sub-{{subject}}/func/{run}_desc-confounds_timeseries.tsv",
            run=BOLD_RUNS,
        ),
        record="<results>/fmri/fmriprep/sub-{subject}.provenance.json",
    log:
        "logs/fmriprep/{subject}.log",
    benchmark:
        "<results>/benchmarks/fmriprep/{subject}.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: FMRIPREP["cpus"]
    resources:
        mem_mb=FMRIPREP["memory_mb"],
        runtime=60 * FMRIPREP["hours"],
        cpus_per_task=FMRIPREP["cpus"],
    params:
        call="tgn.fmri.fmriprep:preprocess",
        licence=FMRIPREP["licence"],
        subject=lambda wildcards: wildcards.subject,
        task=RECORDINGS["task"],
        states=FMRI_STATES,
        space=RECORDINGS["space"],
        resolution=FMRIPREP["resolution"],
        surfaces=FMRIPREP["surfaces"],
        memory_mb=int(0.9 * FMRIPREP["memory_mb"]),
        work=lambda wildcards: fmriprep_work(wildcards.subject),
        derivatives=lambda wildcards, output: str(Path(output.images[0]).parents[2]),
        seed=FMRI["seed"],
    script:
        "../workflow/scripts/call.py"


# --- signals and ranks


rule parcel_signals:
    """Clean the signals of regions of one person, as the arms `default` and `gsr` say."""
    input:
        after=images_of,
        atlas="resources/{atlas}/receipt.json",
        code=library("fmri/atlas.py", "fmri/bids.py", "fmri/derivatives.py"),
    output:
        "<results>/fmri/signals/default/{atlas}/sub-{subject}.npz",
        "<results>/fmri/signals/gsr/{atlas}/sub-{subject}.npz",
        report="<results>/fmri/signals/{atlas}/sub-{subject}.json",
        record="<results>/fmri/signals/{atlas}/sub-{subject}.provenance.json",
    log:
        "logs/parcel_signals/{atlas}/{subject}.log",
    benchmark:
        "<results>/benchmarks/parcel_signals/{atlas}/{subject}.tsv"
    wildcard_constraints:
        atlas=atlases_of("recordings", "fixture"),
    priority: 1
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=FMRI["memory_mb"],
        runtime=120,
    params:
        call="tgn.fmri.derivatives:extract_subject",
        root=lambda wildcards: fmri_root(wildcards.atlas),
        subject=lambda wildcards: wildcards.subject,
        signals=lambda wildcards, output: by_arm(output),
        task=lambda wildcards: fmri_dataset(wildcards.atlas)["task"],
        states=FMRI_STATES,
        space=lambda wildcards: fmri_dataset(wildcards.atlas)["space"],
        tr=lambda wildcards: fmri_dataset(wildcards.atlas)["tr"],
        volumes=lambda wildcards: fmri_dataset(wildcards.atlas)["volumes"],
        cleaning=FMRI["cleaning"],
        checks=FMRI["checks"],
    script:
        "../workflow/scripts/call.py"


# The simulated signals before they became images pass the same filter and scrubbing.
use rule parcel_signals as cohort_signals with:
    input:
        after="<results>/fmri/cohort/sub-{subject}_files.json",
        clean="<results>/fmri/cohort/clean/sub-{subject}.npz",
        atlas="resources/{atlas}/receipt.json",
        code=library("fmri/atlas.py", "fmri/bids.py", "fmri/derivatives.py"),
    output:
        "<results>/fmri/signals/default/{atlas}/sub-{subject}.npz",
        "<results>/fmri/signals/gsr/{atlas}/sub-{subject}.npz",
        "<results>/fmri/signals/truth/{atlas}/sub-{subject}.npz",
        report="<results>/fmri/signals/{atlas}/sub-{subject}.json",
        record="<results>/fmri/signals/{atlas}/sub-{subject}.provenance.json",
    wildcard_constraints:
        atlas=atlases_of("cohort"),


rule published_signals:
    """Lay the atlas over images as they are, the published way; of ds003171, over raw ones."""
    input:
        after=untouched_images_of,
        atlas="resources/{atlas}/receipt.json",
        code=library("fmri/as_published.py", "fmri/bids.py", "fmri/derivatives.py"),
    output:
        signals="<results>/fmri/signals/as_published/{atlas}/sub-{subject}.npz",
        report="<results>/fmri/signals/{atlas}/sub-{subject}_as_published.json",
        record="<results>/fmri/signals/{atlas}/sub-{subject}_as_published.provenance.json",
    log:
        "logs/published_signals/{atlas}/{subject}.log",
    benchmark:
        "<results>/benchmarks/published_signals/{atlas}/{subject}.tsv"
    priority: 1
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=FMRI["memory_mb"],
        runtime=60,
    params:
        call="tgn.fmri.as_published:extract_subject",
        root=lambda wildcards: untouched(wildcards.atlas)[0],
        subject=lambda wildcards: wildcards.subject,
        task=lambda wildcards: fmri_dataset(wildcards.atlas)["task"],
        states=FMRI_STATES,
        tr=lambda wildcards: fmri_dataset(wildcards.atlas)["tr"],
        space=lambda wildcards: untouched(wildcards.atlas)[1],
    script:
        "../workflow/scripts/call.py"


rule fmri_ranks:
    """Measure the ranks of every subject, state, arm and atlas, with surrogates."""
    input:
        signals=signals_of,
        code=RANK_CODE,
    output:
        table="<results>/fig14/{dataset}/ranks.parquet",
        report="<results>/fig14/{dataset}/ranks.json",
        record="<results>/fig14/{dataset}/ranks.provenance.json",
    log:
        "logs/fmri_ranks/{dataset}.log",
    benchmark:
        "<results>/benchmarks/fmri_ranks/{dataset}.tsv"
    priority: 1
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=1000,
        runtime=240,
    params:
        call="tgn.fmri.ranks:rank_table",
        windows=FMRI["ranks"]["windows"],
        step=FMRI["ranks"]["step"],
        draws=FMRI["ranks"]["draws"],
        seed=FMRI["seed"],
    script:
        "../workflow/scripts/call.py"


rule fmri_reference:
    """Measure the ranks of real people awake at rest: the people of the connectomes."""
    input:
        connectomes=expand(
            "<results>/fmri/connectomes/{person}.npz", person=FMRI["people"]
        ),
        like=f"<results>/fig14/{FMRI_DATA}/ranks.json",
        code=RANK_CODE,
    output:
        table="<results>/fig14/reference.parquet",
        record="<results>/fig14/reference.provenance.json",
    log:
        "logs/fmri_reference.log",
    benchmark:
        "<results>/benchmarks/fmri_reference.tsv"
    priority: 1
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=800,
    params:
        call="tgn.fmri.ranks:reference_table",
        tr=SHOWN["tr"],
        volumes=SHOWN["volumes"],
        band=FMRI["cleaning"]["band_hz"],
        windows=FMRI["ranks"]["windows"],
        step=FMRI["ranks"]["step"],
        draws=FMRI["ranks"]["draws"],
        seed=FMRI["seed"],
    script:
        "../workflow/scripts/call.py"


rule fmri_bias:
    """Measure how motion, length and number of regions move the estimate, where truth is known."""
    input:
        signals=expand(
            "<results>/fmri/signals/default/{atlas}/sub-{subject}.npz",
            atlas=COHORT["atlases"][:1],
            subject=FMRI_PEOPLE,
        ),
        clean=expand(
            "<results>/fmri/signals/truth/{atlas}/sub-{subject}.npz",
            atlas=COHORT["atlases"][:1],
            subject=FMRI_PEOPLE,
        ),
        code=RANK_CODE,
    output:
        table="<results>/fig14/bias.parquet",
        record="<results>/fig14/bias.provenance.json",
    log:
        "logs/fmri_bias.log",
    benchmark:
        "<results>/benchmarks/fmri_bias.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=800,
    params:
        **FMRI["bias"],
        call="tgn.fmri.ranks:bias_table",
        seed=FMRI["seed"],
    script:
        "../workflow/scripts/call.py"


rule fmri_distance:
    """Relate the change of connectivity to the distance between regions, subject by subject."""
    input:
        signals=expand(
            "<results>/fmri/signals/default/{atlas}/sub-{subject}.npz",
            atlas=SHOWN["atlases"][:1],
            subject=fmri_plan.subjects(FMRI, FMRI_DATA),
        ),
        atlas=f"resources/{SHOWN['atlases'][0]}/receipt.json",
        code=library("fmri/atlas.py", "fmri/connectivity.py", "fmri/distance.py"),
    output:
        table="<results>/fig14/distance.parquet",
        record="<results>/fig14/distance.provenance.json",
    log:
        "logs/fmri_distance.log",
    benchmark:
        "<results>/benchmarks/fmri_distance.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=1000,
    params:
        **FMRI["distance"],
        call="tgn.fmri.distance:measure_distance",
        seed=FMRI["seed"],
    script:
        "../workflow/scripts/call.py"


# --- the figure


rule fig14_statistics:
    """Tables of figure 14's panels, and the statistics that decide its claims."""
    input:
        unpack(judged_ranks),
        ranks=f"<results>/fig14/{FMRI_DATA}/ranks.parquet",
        reference="<results>/fig14/reference.parquet",
        in_silico=expand(
            "<results>/fmri/in_silico/{person}.parquet", person=FMRI["people"]
        ),
        lead_lag="<results>/fig14/lead_lag.parquet",
        synchrony="<results>/fig14/synchrony.parquet",
        distance="<results>/fig14/distance.parquet",
        code=library(
            "statistics.py",
            *(
                f"fmri/{name}.py"
                for name in [
                    "method_summary",
                    "model_summary",
                    "records",
                    "states",
                    "summary",
                ]
            ),
        ),
    output:
        states="<results>/fig14/states.parquet",
        contrasts="<results>/fig14/contrasts.parquet",
        expansion="<results>/fig14/expansion.parquet",
        lags="<results>/fig14/lags.parquet",
        courses="<results>/fig14/courses.parquet",
        distances="<results>/fig14/distances.parquet",
        biases="<results>/fig14/biases.parquet",
        statistics="<results>/fig14/statistics.json",
        record="<results>/fig14/statistics.provenance.json",
    log:
        "logs/fig14_statistics.log",
    benchmark:
        "<results>/benchmarks/fig14_statistics.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=1000,
    params:
        **FMRI_CHOICE,
        call="tgn.fmri.summary:summarise",
        in_silico_window=FMRI["in_silico"]["window"],
        depth=FMRI["depth"],
        resamples=FMRI["resamples"],
        seed=FMRI["seed"],
    script:
        "../workflow/scripts/call.py"


rule fig14:
    """Draw figure 14."""
    input:
        states="<results>/fig14/states.parquet",
        contrasts="<results>/fig14/contrasts.parquet",
        expansion="<results>/fig14/expansion.parquet",
        lags="<results>/fig14/lags.parquet",
        courses="<results>/fig14/courses.parquet",
        distances="<results>/fig14/distances.parquet",
        biases="<results>/fig14/biases.parquet",
        statistics="<results>/fig14/statistics.json",
        code=library("plots/fig14.py", "plots/look.py", "plots/style.py"),
    output:
        pdf=report(
            "<results>/fig14.pdf",
            category="Thermodynamic Gated Networks",
            labels={"figure": "14", "scale": config["scale"]},
            caption="../docs/captions/fig14.rst",
        ),
        png="<results>/fig14.png",
    log:
        "logs/fig14.log",
    benchmark:
        "<results>/benchmarks/fig14.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=800,
    params:
        **FMRI_CHOICE,
        call="tgn.plots.fig14:draw",
        scale=config["scale"],
        command=REAL_RECORDINGS,
    script:
        "../workflow/scripts/call.py"
