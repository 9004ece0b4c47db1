"""The audit reports what pip-audit found, and is skipped with a reason where that has no answer."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "envs/audit.py"
CLEAN = '{"dependencies": [{"name": "a", "version": "1", "vulns": []}], "fixes": []}'
UNKNOWN = '{"dependencies": [{"name": "a", "skip_reason": "not found on PyPI"}]}'
KNOWN = '[{"id": "PYSEC-1", "fix_versions": ["2"], "aliases": [], "description": ""}]'


@pytest.fixture
def audit(tmp_path, monkeypatch):
    """Run the audit of a lock with a pip-audit that does what is given; None: it is not there."""
    (tmp_path / "a.lock").write_text("a==1\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)

    def run(does, *options):
        tool = tmp_path / "tool"
        if does is not None:
            (tool / "pip_audit").mkdir(parents=True)
            (tool / "pip_audit/__main__.py").write_text(does)
        command = [sys.executable, str(SCRIPT), "--lock", str(tmp_path / "a.lock")]
        done = subprocess.run(
            [*command, "--tool", str(tool), *options], capture_output=True, text=True
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr

    return run


def test_nothing_known(audit):
    assert audit(f"print('{CLEAN}')") == (
        0,
        "audit: 1 of 1 packages of a.lock known, none vulnerable\n",
    )


def test_known_vulnerabilities_fail(audit):
    found = CLEAN.replace("[]}]", f"{KNOWN}}}]")
    status, said = audit(f"print('{found}'); raise SystemExit(1)")
    assert status == 1
    assert "a 1: PYSEC-1, mended in 2" in said
    assert "1 packages of a.lock have known vulnerabilities" in said


@pytest.mark.parametrize(
    ("does", "why"),
    [
        ("raise SystemExit('ERROR: Connection error')", "ERROR: Connection error"),
        (f"print('{UNKNOWN}')", "not found on PyPI"),
        ("import time; time.sleep(60)", "pip_audit took more than 2 s"),
        (None, "pip-audit"),
    ],
    ids=["no database", "a mirror without it", "no end", "no index"],
)
def test_without_an_answer_it_is_skipped_with_the_reason(audit, does, why):
    status, said = audit(does, *(["--seconds", "2"] if does and "sleep" in does else []))
    assert status == 0
    assert said.startswith("audit: skipped")
    assert why in said
