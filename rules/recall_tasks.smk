"""The guide's other recall tasks: <results>/recall_tasks/{run}/ -> statistics -> recall_tasks.pdf

A run is one training: a task and an arm with a seed, or with a learning rate to choose from. No
data are read: examples are drawn as they are needed. tgn.training.recall_tasks_plan names the runs.
"""

RECALL_TASKS = config["recall_tasks"]
RECALL_TASK_RUNS = recall_tasks_plan.runs(RECALL_TASKS)
RECALL_TASK_SWEEP = recall_tasks_plan.sweep(RECALL_TASKS)
RECALL_TASK_CODE = TRAINING_CODE + library(
    "text/associative.py", "text/listops.py", "text/recall.py", "training/synthetic.py"
)
FIGURES.append("<results>/recall_tasks.pdf")
STATISTICS.append("<results>/recall_tasks/statistics.json")


rule recall_task:
    """Train a model on a small recall task and test it; a killed run goes on."""
    input:
        unpack(rates_of_recall_task),
        code=RECALL_TASK_CODE,
    output:
        checkpoint="<results>/recall_tasks/{run}/model.safetensors",
        metrics="<results>/recall_tasks/{run}/metrics.parquet",
        accuracy="<results>/recall_tasks/{run}/accuracy.parquet",
        occupancy="<results>/recall_tasks/{run}/occupancy.parquet",
        timings="<results>/recall_tasks/{run}/timings.parquet",
        record="<results>/recall_tasks/{run}/provenance.json",
    log:
        "logs/recall_tasks/{run}.log",
    benchmark:
        "<results>/benchmarks/recall_tasks/{run}.tsv"
    conda:
        "../envs/training.yaml"
    resources:
        mem_mb=1500,
        runtime=480,
        gpu=RECALL_TASKS["gpus"],
    params:
        call="tgn.training.synthetic:train",
        arm=lambda wildcards: recall_task_settings(wildcards.run)["arm"],
        model=lambda wildcards: recall_task_settings(wildcards.run)["model"],
        match=lambda wildcards: recall_task_settings(wildcards.run)["match"],
        train_tasks=lambda wildcards: recall_task_settings(wildcards.run)["train_tasks"],
        validation_tasks=lambda wildcards: recall_task_settings(wildcards.run)[
            "validation_tasks"
        ],
        test_tasks=lambda wildcards: recall_task_settings(wildcards.run)["test_tasks"],
        training=lambda wildcards: recall_task_settings(wildcards.run)["training"],
        penalty=lambda wildcards: recall_task_settings(wildcards.run)["penalty"],
        seed=lambda wildcards: recall_task_settings(wildcards.run)["seed"],
        rate=lambda wildcards: recall_task_settings(wildcards.run)["rate"],
        library=RECALL_TASK_CODE,
        state=lambda wildcards: f"{RESULTS[config['scale']]}/states/recall-task-{wildcards.run}",
        tensorboard=lambda wildcards: f"{RESULTS[config['scale']]}/tensorboard/recall-task-{wildcards.run}",
    script:
        "../workflow/scripts/call.py"


rule recall_task_rates:
    """Choose each arm's learning rate on a task by its validation accuracy in a sweep."""
    input:
        metrics=lambda wildcards: expand(
            "<results>/recall_tasks/{run}/metrics.parquet",
            run=recall_tasks_plan.by_task(RECALL_TASK_SWEEP, wildcards.task),
        ),
    output:
        table="<results>/recall_tasks/{task}_rates.csv",
    log:
        "logs/recall_task_rates/{task}.log",
    benchmark:
        "<results>/benchmarks/recall_task_rates/{task}.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=500,
    params:
        call="tgn.training.synthetic:choose_rates",
        runs=lambda wildcards: recall_tasks_plan.by_task(
            RECALL_TASK_SWEEP, wildcards.task
        ),
    script:
        "../workflow/scripts/call.py"


rule recall_task_gates:
    """Measure the gates of trained models by layer and role of the token."""
    input:
        weights=expand(
            "<results>/recall_tasks/{run}/model.safetensors",
            run=recall_tasks_plan.gated(RECALL_TASK_RUNS),
        ),
        code=library(
            "text/associative.py", "text/listops.py", "training/recall_tasks.py"
        ),
    output:
        table="<results>/recall_tasks/gates.parquet",
        record="<results>/recall_tasks/gates.provenance.json",
    log:
        "logs/recall_task_gates.log",
    benchmark:
        "<results>/benchmarks/recall_task_gates.tsv"
    conda:
        "../envs/training.yaml"
    resources:
        mem_mb=1500,
    params:
        call="tgn.training.recall_tasks:measure_gates",
        runs=recall_tasks_plan.gated(RECALL_TASK_RUNS),
        examples=RECALL_TASKS["gate_examples"],
    script:
        "../workflow/scripts/call.py"


rule recall_task_statistics:
    """Tables of the small recall tasks, and the statistics that decide their claims."""
    input:
        accuracies=expand(
            "<results>/recall_tasks/{run}/accuracy.parquet", run=RECALL_TASK_RUNS
        ),
        gates="<results>/recall_tasks/gates.parquet",
        code=library(
            "statistics.py",
            "text/as_published.py",
            "text/listops.py",
            "training/comparison.py",
            "training/recall_statistics.py",
            "training/recall_tasks.py",
        ),
    output:
        accuracy="<results>/recall_tasks/accuracy.parquet",
        occupancy="<results>/recall_tasks/occupancy.parquet",
        shapes="<results>/recall_tasks/shapes.parquet",
        statistics="<results>/recall_tasks/statistics.json",
        record="<results>/recall_tasks/statistics.provenance.json",
    log:
        "logs/recall_task_statistics.log",
    benchmark:
        "<results>/benchmarks/recall_task_statistics.tsv"
    conda:
        "../envs/training.yaml"
    resources:
        mem_mb=1500,
    params:
        call="tgn.training.recall_tasks:summarise",
        runs=RECALL_TASK_RUNS,
        published=RECALL_TASKS["published"],
        evidence="real",
        seed=RECALL_TASKS["seed"],
    script:
        "../workflow/scripts/call.py"


rule recall_tasks:
    """Draw the figure of the small recall tasks."""
    input:
        accuracy="<results>/recall_tasks/accuracy.parquet",
        occupancy="<results>/recall_tasks/occupancy.parquet",
        shapes="<results>/recall_tasks/shapes.parquet",
        statistics="<results>/recall_tasks/statistics.json",
        code=library("plots/recall_tasks.py", "plots/look.py", "plots/style.py"),
    output:
        pdf=report(
            "<results>/recall_tasks.pdf",
            category="Thermodynamic Gated Networks",
            labels={"figure": "18, 22b", "scale": config["scale"]},
            caption="../docs/captions/recall_tasks.rst",
        ),
        png="<results>/recall_tasks.png",
    log:
        "logs/recall_tasks.log",
    benchmark:
        "<results>/benchmarks/recall_tasks.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=500,
    params:
        call="tgn.plots.recall_tasks:draw",
        scale=config["scale"],
    script:
        "../workflow/scripts/call.py"
