"""What is said at every start, and help for a target that belongs to another scale."""

import os

from tgn.preflight import sources_in_use

RESULT_SUFFIXES = {".pdf", ".png", ".json", ".md", ".html", ".parquet"}


def about_recordings():
    """What figure 14 stands on, and how to have it stand on something else."""
    shown = fmri_plan.shown(config["fmri"], config["fmri_derivatives"])
    if config["fmri_derivatives"]:
        return [f"Figure 14: your derivatives in {config['fmri_derivatives']}"]
    if shown == "recordings":
        lacking = fmri_plan.lacking(config["fmri"])
        return [
            "Figure 14: downloaded recordings through fMRIPrep, which needs hours a person; to "
            "read derivatives",
            f"  made elsewhere: {OWN_DERIVATIVES}",
            *(f"  It lacks {what}" for what in lacking),
        ]
    return [
        "Figure 14: simulated recordings.",
        f"  Real ones, through fMRIPrep: {REAL_RECORDINGS}",
        f"  Your own fMRIPrep folder:    {OWN_DERIVATIVES}",
    ]


def refuse_targets_of_other_scales():
    """Nothing makes a path under another scale's folder now; say which path or scale is meant."""
    scale, own = config["scale"], RESULTS[config["scale"]]
    # Snakemake tells its targets to no one while it reads this, so the command line is asked.
    for word in sys.argv[1:]:
        if Path(word).suffix not in RESULT_SUFFIXES:
            continue
        target = os.path.relpath(
            word
        )  # ./results/fig8.pdf and its absolute path as well
        homes = [
            name for name, root in RESULTS.items() if target.startswith(f"{root}/")
        ]
        if not homes:
            continue
        home = max(homes, key=lambda name: len(RESULTS[name]))
        if home != scale:
            here = own + target.removeprefix(RESULTS[home])
            raise WorkflowError(
                f"{target} belongs to the {home} scale, and the {scale} scale is active: ask for "
                f"{here} (or {Path(target).stem}), or add --config scale={home}"
            )


def announce():
    """Say on stderr what the run stands on, once, dry-runs included."""
    if not workflow.is_main_process:
        return
    refuse_targets_of_other_scales()
    lines = [
        f"Scale: {config['scale']} (results in {RESULTS[config['scale']]}/)",
        "Data of all figures:",
    ]
    lines += [
        f"  {sources.describe(name, SOURCES[name])}"
        for name in sources_in_use(config, MODELS)
    ]
    lines += about_recordings()
    if lack := lack_of_gpus(gpus_asked(workflow.rules)):
        lines.append(
            f"TOO FEW GPUS: {lack}. A run of theirs stops before its first job."
        )
    if config["scale"] != "paper":
        lines += [
            "The paper's own models and data, on a machine with six GPUs: "
            "snakemake all --config scale=paper --resources gpu=6",
            "                  on a cluster: snakemake --profile profiles/slurm all",
        ]
    print("\n".join(lines), file=sys.stderr)
