"""Write the conda environments from requirements.lock, or check that they follow it.

    python envs/generate.py            # write envs/*.yaml
    python envs/generate.py --check    # fail if a file differs from what would be written

conda is for clusters; `pip install -r requirements.lock` is enough everywhere else.
"""

import re
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
PYTHON = "3.11"
# Which of the project's dependencies each environment holds; None: all of them.
# `training` holds the kernels for GPUs as well, pinned in pyproject.toml.
ENVIRONMENTS = {
    "data": {"huggingface_hub", "jsonschema", "pyyaml", "requests", "tqdm"},
    "analysis": None,
    "training": None,
}
EXTRAS = {"training": "gpu"}


def canonical(requirement):
    """Name of a requirement, spelt the one way the packaging rules give."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement).group()
    return re.sub(r"[-_.]+", "-", name).lower()


def render(wanted, extra=None):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = {canonical(line): line for line in (ROOT / "requirements.lock").read_text().split()}
    names = [canonical(line) for line in project["dependencies"]]
    chosen = names if wanted is None else sorted(map(canonical, wanted))
    lines = ["# Made by envs/generate.py from requirements.lock: do not edit.", "channels:"]
    lines += ["  - conda-forge", "dependencies:", f"  - python={PYTHON}", "  - pip", "  - pip:"]
    lines += [f"      - {lock[name]}" for name in chosen]
    if extra:
        lines += [f"      - {pin}" for pin in project["optional-dependencies"][extra]]
    return "\n".join(lines) + "\n"


def main():
    stale = []
    for name, wanted in ENVIRONMENTS.items():
        path, text = HERE / f"{name}.yaml", render(wanted, EXTRAS.get(name))
        if "--check" not in sys.argv:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(path.name)
    if stale:
        sys.exit(f"envs: {', '.join(stale)} do not follow requirements.lock: run `make envs`")


if __name__ == "__main__":
    main()
