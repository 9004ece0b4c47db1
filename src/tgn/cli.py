"""The ``tgn`` command."""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections.abc import Sequence
from importlib.metadata import version
from itertools import count
from pathlib import Path

from tgn import sources

REGISTRY = Path("config/sources.yaml")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; an error ends as one line on standard error and exit status 1."""
    options = _parser().parse_args(arguments)
    try:
        status = options.run(options)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # who read has enough, as in `tgn plan | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return 0
    except (OSError, ValueError, sources.FetchError) as error:
        print(f"tgn: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tgn",
        description="Data and models of the project, and a check of its installation.",
        epilog="Figures and verdicts are made by `make`, or by Snakemake: `snakemake fig8`.",
    )
    parser.add_argument("--version", action="version", version=f"tgn {version('tgn')}")
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
        if run is doctor:
            command.add_argument("--scale", help="laptop, paper or smoke; default: the project's")
            command.add_argument(
                "--profile",
                type=Path,
                metavar="FOLDER",
                help="such as profiles/slurm; default: jobs run on this machine",
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
    about = "Talk to a trained model: it continues each prompt. /quit or /exit ends."
    talking = commands.add_parser("chat", help=about, description=about)
    talking.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="folder of a model, or a .pt file of the published Newton Gravity Transformer",
    )
    talking.add_argument("--tokens", type=int, default=400, help="at most; default: 400")
    talking.add_argument("--temperature", type=float, default=0.9, help="default: 0.9")
    talking.add_argument(
        "--top-k", type=int, default=40, metavar="K", help="draw from the K likeliest; default: 40"
    )
    talking.add_argument("--seed", type=int, help="default: another one every time")
    talking.add_argument(
        "--folder", type=Path, help="where downloads are kept; default: resources/ of the project"
    )
    talking.set_defaults(run=chat)
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
    about = "List trained models side by side: size, losses, steps, seed."
    listing = commands.add_parser("runs", help=about, description=about)
    listing.add_argument("folders", nargs="+", metavar="FOLDER", help="of a model, or of many")
    listing.add_argument(
        "--format", choices=("table", "csv", "markdown"), default="table", help="default: table"
    )
    listing.set_defaults(run=runs)
    about = "List what each rule cost: jobs, seconds, CPU seconds, peak memory."
    timing = commands.add_parser("times", help=about, description=about)
    timing.add_argument("results", nargs="?", default="results", help="default: results")
    timing.set_defaults(run=times)
    about = (
        "List what every job on GPUs of `snakemake all` needs: operations, memory, disk, hours of "
        "an A100-80GB."
    )
    planning = commands.add_parser("plan", help=about, description=about)
    planning.add_argument("--scale", default="paper", help="default: paper")
    planning.add_argument(
        "--utilisation", type=float, default=0.35, help="share of the GPU's peak; default: 0.35"
    )
    planning.add_argument(
        "--vocabulary",
        type=int,
        help="tokens, where the text's own tokenizer decides; default: those of GPT-2",
    )
    planning.set_defaults(run=plan)


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
    """Say what a scale needs of this machine and what is there; fail if a part lacks."""
    from tgn import config, preflight
    from tgn.files import read_yaml

    found = list(preflight.machine())
    root = _resources().parent
    if (root / "config.yaml").is_file() or options.scale or options.profile:
        profile = read_yaml(options.profile / "config.yaml") if options.profile else None
        usual = (profile or {}).get("configfile")  # which may name another scale than the project's
        chosen = options.scale or (read_yaml(root / usual)["default_scale"] if usual else None)
        settings = config.load(chosen, root)
        print(f"{'scale':>14}  {settings['scale']}")
        found += preflight.scale(settings, root, options.folder or _resources(), profile)
    for finding in found:
        print(f"{'LACKS' if finding.lacks else '':5} {finding.part:>14}  {finding.said}")
    return 1 if any(finding.lacks for finding in found) else 0


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


def chat(options: argparse.Namespace) -> int:
    """Continue prompts from standard input until it ends, or asks to."""
    from tgn.generation import open_model, reply

    model, tokenizer, kind = open_model(options.checkpoint, options.folder or _resources())
    print(f"{kind}. /quit or /exit ends.", flush=True)
    seed = random.randrange(2**31) if options.seed is None else options.seed
    for number in count():
        try:
            prompt = input("prompt> ")
        except EOFError:
            break
        if prompt.strip() in ("/quit", "/exit"):
            break
        print(prompt, end="", flush=True)
        said = reply(
            model,
            tokenizer,
            prompt,
            tokens=options.tokens,
            temperature=options.temperature,
            top_k=options.top_k,
            seed=seed + number,
        )
        for piece in said:
            print(piece, end="", flush=True)
        print()
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


def runs(options: argparse.Namespace) -> int:
    """Print a table of trained models."""
    from tgn.training.listing import list_runs, render

    print(render(list_runs(options.folders), options.format), end="")
    return 0


def times(options: argparse.Namespace) -> int:
    """Print the costs of a results folder."""
    from tgn.times import costs, table

    print(table(costs(options.results)))
    return 0


def plan(options: argparse.Namespace) -> int:
    """Print the allocation that a scale's jobs on GPUs ask for."""
    from tgn import config
    from tgn.files import read_yaml
    from tgn.training import allocation

    if not 0 < options.utilisation <= 1:
        raise ValueError(f"--utilisation: {options.utilisation} given; it is in (0, 1]")
    settings = config.load(options.scale, _registry().parents[1])
    models = read_yaml(_registry().with_name("models.yaml"))
    found = allocation.allocations(settings, options.vocabulary or allocation.GPT2_TOKENS)
    found += allocation.probes(settings, models, found)
    found += allocation.clocks(settings, options.vocabulary or allocation.GPT2_TOKENS)
    if not found:
        raise ValueError(f"no job of the {options.scale} scale asks for GPUs")
    print(allocation.table(found, options.utilisation))
    return 0


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
