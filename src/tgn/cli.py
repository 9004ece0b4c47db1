"""The ``tgn`` command."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tgn import sources

REGISTRY = Path("config/sources.yaml")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; an error ends as one line on standard error and exit status 1."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except (OSError, ValueError, sources.FetchError) as error:
        print(f"tgn: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tgn",
        description="Data and models of the project, and a check of its installation.",
        epilog="Figures and verdicts are made by `make`, or by Snakemake: `snakemake fig8`.",
    )
    parser.add_argument("--version", action="version", version=f"tgn {_version('tgn')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for run in (list_sources, fetch, doctor):
        about = (run.__doc__ or "").splitlines()[0]
        name = "sources" if run is list_sources else run.__name__
        command = commands.add_parser(name, help=about, description=about)
        command.set_defaults(run=run)
        if run is fetch:
            command.add_argument("names", nargs="+", metavar="NAME", help="as `tgn sources` lists")
            command.add_argument(
                "--only",
                action="append",
                metavar="PATTERN",
                help='files whose path matches, such as "sub-02CB/*"; may be given several times',
            )
        if run is not doctor:
            command.add_argument(
                "--registry",
                type=Path,
                help=f"default: {REGISTRY} of this folder or of the nearest one above",
            )
        if run is not list_sources:
            command.add_argument(
                "--folder",
                type=Path,
                help="where downloads are kept; default: resources/ of the project",
            )
    _add_model_commands(commands)
    _add_results_commands(commands)
    return parser


def _add_model_commands(commands: argparse._SubParsersAction) -> None:
    about = "Sample text from a trained model."
    sampling = commands.add_parser("generate", help=about, description=about)
    sampling.add_argument("--checkpoint", required=True, metavar="FOLDER", help="of the model")
    sampling.add_argument("--prompt", default="", help="text to continue; default: none")
    sampling.add_argument("--tokens", type=int, default=200, help="at most; default: 200")
    sampling.add_argument("--temperature", type=float, default=1.0, help="0: the likeliest token")
    sampling.add_argument("--top-k", type=int, metavar="K", help="draw from the K likeliest only")
    sampling.add_argument("--seed", type=int, default=0)
    sampling.set_defaults(run=generate)
    about = "Copy a trained model into a new folder, with its provenance and a model card."
    exporting = commands.add_parser("export", help=about, description=about)
    exporting.add_argument("checkpoint", metavar="CHECKPOINT", help="folder of the model")
    exporting.add_argument("folder", metavar="FOLDER", help="to be made")
    exporting.set_defaults(run=export)


def _add_results_commands(commands: argparse._SubParsersAction) -> None:
    about = "Compare the verdicts of two results folders, claim by claim, as Markdown."
    comparing = commands.add_parser("compare", help=about, description=about)
    comparing.add_argument("before", metavar="RESULTS", help="such as results of an older revision")
    comparing.add_argument("after", metavar="RESULTS", help="such as results, or results/paper")
    comparing.set_defaults(run=compare)
    about = "List what each rule cost: jobs, seconds, CPU seconds, peak memory."
    timing = commands.add_parser("times", help=about, description=about)
    timing.add_argument("results", nargs="?", default="results", help="default: results")
    timing.set_defaults(run=times)


def list_sources(options: argparse.Namespace) -> int:
    """List the registered data and models: real or simulated, size, where from."""
    for name, entry in sources.load_registry(options.registry or _registry()).items():
        print(sources.describe(name, entry))
    return 0


def fetch(options: argparse.Namespace) -> int:
    """Download registered sources into FOLDER/NAME; what is there and intact is kept."""
    path = options.registry or _registry()
    registry = sources.load_registry(path)
    for name in options.names:
        if name not in registry:
            raise ValueError(f"no source {name!r}; {path} has {', '.join(registry)}")
        folder = (options.folder or _resources()) / name
        print(sources.fetch(name, registry[name], folder, only=options.only))
    return 0


def doctor(options: argparse.Namespace) -> int:
    """Report versions, the device that would be used and free disk space; fail if a part lacks."""
    missing = []
    for package in ("tgn", "torch", "transformers", "snakemake"):
        found = _version(package)
        if found is None:
            missing.append(package)
        print(f"{package:>14}  {found or 'missing: pip install -r requirements.lock'}")
    if "torch" not in missing:
        import torch

        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU only"
        print(f"{'device':>14}  {device}")
    runtime = shutil.which("apptainer") or shutil.which("singularity")
    print(
        f"{'containers':>14}  {runtime or 'no apptainer, which only fMRIPrep needs: docs/fmri.md'}"
    )
    folder = options.folder or _resources()
    home = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    print(f"{'free disk':>14}  {shutil.disk_usage(home).free / 1e9:.0f} GB at {home}")
    return 1 if missing else 0


def generate(options: argparse.Namespace) -> int:
    """Print a prompt and what the model makes of it."""
    from tgn.generation import continue_text  # torch is slow to import

    text = continue_text(
        options.checkpoint,
        options.prompt,
        tokens=options.tokens,
        temperature=options.temperature,
        top_k=options.top_k,
        seed=options.seed,
    )
    print(text)
    return 0


def export(options: argparse.Namespace) -> int:
    """Export a checkpoint and print where it went."""
    from tgn.export import export

    print(export(options.checkpoint, options.folder))
    return 0


def compare(options: argparse.Namespace) -> int:
    """Print the comparison of two results folders."""
    from tgn.compare import page  # as below: other commands need not wait for the imports

    print(page(options.before, options.after), end="")
    return 0


def times(options: argparse.Namespace) -> int:
    """Print the costs of a results folder."""
    from tgn.times import costs, table

    print(table(costs(options.results)))
    return 0


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _registry() -> Path:
    """The registry of the checkout that holds the working directory.

    Raises
    ------
    FileNotFoundError
        If no folder from here upwards has one.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / REGISTRY).is_file():
            return Path(os.path.relpath(folder / REGISTRY))
    raise FileNotFoundError(
        f"no {REGISTRY} in {here} or above it: go into the project's folder, or name the file "
        "with --registry"
    )


def _resources() -> Path:
    """Where the project keeps its downloads; here, if this is no checkout."""
    try:
        return _registry().parents[1] / "resources"
    except FileNotFoundError:
        return Path("resources")


if __name__ == "__main__":
    raise SystemExit(main())
