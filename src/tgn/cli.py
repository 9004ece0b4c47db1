"""The ``tgn`` command."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tgn import sources


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; an error ends as one line on standard error and exit status 1."""
    parser = argparse.ArgumentParser(prog="tgn", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("sources", help="list the registered data and models")
    listing.set_defaults(run=list_sources)
    fetching = commands.add_parser("fetch", help="download registered sources")
    fetching.add_argument("names", nargs="+", metavar="NAME")
    fetching.set_defaults(run=fetch)
    checking = commands.add_parser("doctor", help="check this installation")
    checking.set_defaults(run=doctor)
    for command in (listing, fetching):
        command.add_argument("--registry", default="config/sources.yaml", type=Path)
    for command in (fetching, checking):
        command.add_argument("--folder", default="resources", type=Path)
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except (OSError, ValueError, sources.FetchError) as error:
        print(f"tgn: {error}", file=sys.stderr)
        return 1


def list_sources(options: argparse.Namespace) -> int:
    """One line a source: real or simulated, size, where from."""
    for name, entry in sources.load_registry(options.registry).items():
        print(sources.describe(name, entry))
    return 0


def fetch(options: argparse.Namespace) -> int:
    """Download sources into ``FOLDER/NAME``; what is there and intact is kept."""
    registry = sources.load_registry(options.registry)
    for name in options.names:
        if name not in registry:
            raise ValueError(f"no source {name!r}; {options.registry} has {', '.join(registry)}")
        print(sources.fetch(name, registry[name], options.folder / name))
    return 0


def doctor(options: argparse.Namespace) -> int:
    """Report versions, the device that would be used and free disk space; 1 if a part lacks."""
    missing = []
    for package in ("tgn", "torch", "transformers", "snakemake"):
        try:
            print(f"{package:>14}  {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
            print(f"{package:>14}  missing: pip install -r requirements.lock")
    if "torch" not in missing:
        import torch

        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU only"
        print(f"{'device':>14}  {device}")
    home = next(
        path for path in (options.folder, *options.folder.resolve().parents) if path.exists()
    )
    print(f"{'free disk':>14}  {shutil.disk_usage(home).free / 1e9:.0f} GB at {home}")
    return 1 if missing else 0
