"""Look up known vulnerabilities of what requirements.lock installs.

    python envs/audit.py               # fails if there are any

pip-audit is kept apart in .audit/, so that what audits is not among what is audited. Where it
cannot be installed or cannot reach its database, this says why and succeeds.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(command, seconds, **environment):
    """Standard output of a command, and its last word against it."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            capture_output=True,
            text=True,
            timeout=seconds,
            env={**os.environ, **environment},
        )
    except subprocess.TimeoutExpired:
        return "", f"{command[0]} took more than {seconds:g} s"
    return done.stdout, (done.stderr.strip().splitlines() or [f"{command[0]} said nothing"])[-1]


def audit(lock, tool, seconds):
    """Packages by pip-audit's account, or None and why it has none to give."""
    if not (tool / "pip_audit").is_dir():
        quick = ["--quiet", "--retries", "0", "--timeout", "5", "--disable-pip-version-check"]
        _, why = run(["pip", "install", *quick, "--target", str(tool), "pip-audit"], seconds)
        if not (tool / "pip_audit").is_dir():
            return None, why
    options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
    command = ["pip_audit", "--requirement", str(lock), *options, "--timeout", "5"]
    found, why = run(command, seconds, PYTHONPATH=str(tool))
    try:
        packages = json.loads(found)["dependencies"]
    except (ValueError, KeyError):
        return None, why
    if packages and not any("vulns" in package for package in packages):
        return None, packages[0].get("skip_reason", why)  # a mirror without the database
    return packages, ""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lock", type=Path, default=ROOT / "requirements.lock")
    parser.add_argument("--tool", type=Path, default=ROOT / ".audit")
    parser.add_argument("--seconds", type=float, default=60, help="at most, for each of two steps")
    given = parser.parse_args()
    packages, why = audit(given.lock, given.tool, given.seconds)
    if packages is None:
        print(f"audit: skipped, since pip-audit cannot be had or has no answer: {why}")
        return
    vulnerable = [package for package in packages if package.get("vulns")]
    for package in vulnerable:
        for known in package["vulns"]:
            mended = ", ".join(known["fix_versions"]) or "no version"
            print(f"{package['name']} {package['version']}: {known['id']}, mended in {mended}")
    if vulnerable:
        sys.exit(
            f"audit: {len(vulnerable)} packages of {given.lock.name} have known vulnerabilities"
        )
    asked = sum("vulns" in package for package in packages)
    print(f"audit: {asked} of {len(packages)} packages of {given.lock.name} known, none vulnerable")


if __name__ == "__main__":
    main()
