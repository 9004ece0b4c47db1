"""Write the conda environments from requirements.lock, or check that they follow it.

    python envs/generate.py            # write envs/*.yaml and training.post-deploy.sh
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
ENVIRONMENTS = {
    "data": {"huggingface_hub", "jsonschema", "pyyaml", "requests", "tqdm"},
    "analysis": None,
    "training": None,
}
# Built against the torch of the environment, so after it is made: Snakemake runs this script then.
KERNELS = """\
# Made by envs/generate.py from pyproject.toml: do not edit.
set -e
if command -v nvcc > /dev/null; then
  pip install setuptools wheel packaging ninja
  pip install --no-build-isolation {pins}
else
  echo "No CUDA compiler: without {pins}; see docs/cluster.md" >&2
fi
"""


def canonical(requirement):
    """Name of a requirement, spelt the one way the packaging rules give."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement).group()
    return re.sub(r"[-_.]+", "-", name).lower()


def render(project, wanted):
    """The environment with these of a project's dependencies."""
    lock = {canonical(line): line for line in (ROOT / "requirements.lock").read_text().split()}
    names = [canonical(line) for line in project["dependencies"]]
    chosen = names if wanted is None else sorted(map(canonical, wanted))
    lines = ["# Made by envs/generate.py from requirements.lock: do not edit.", "channels:"]
    lines += ["  - conda-forge", "dependencies:", f"  - python={PYTHON}", "  - pip", "  - pip:"]
    lines += [f"      - {lock[name]}" for name in chosen]
    return "\n".join(lines) + "\n"


def main():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    files = {f"{name}.yaml": render(project, wanted) for name, wanted in ENVIRONMENTS.items()}
    pins = " ".join(project["optional-dependencies"]["gpu"])
    files["training.post-deploy.sh"] = KERNELS.format(pins=pins)
    stale = []
    for name, text in files.items():
        path = HERE / name
        if "--check" not in sys.argv:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(path.name)
    if stale:
        sys.exit(f"envs: {', '.join(stale)} do not follow requirements.lock: run `make envs`")


if __name__ == "__main__":
    main()
