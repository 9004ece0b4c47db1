"""Rules and the functions they call fit together, also where no test runs them."""

import importlib
import inspect
import json

import pytest
from running import copy_checkout, snakemake

NOT_PASSED = {"call", "code", "record"}  # see workflow/scripts/call.py
DUMP = """
import json

def described(rule):
    items = [rule.input, rule.output, rule.params]
    named = {name: value for part in items for name, value in part.items()}
    inputs = [len(v) if isinstance(v, list) else 1 for _, v in rule.input.items()]
    return {
        "call": rule.params.call,
        "given": list(named),
        "unpacks": sum(inputs) < len(rule.input),  # names that only the wildcards decide
        "resources": list(rule.resources),
    }

with open("rules.json", "w") as handle:
    rules = [rule for rule in workflow.rules if "call" in rule.params.keys()]
    json.dump({rule.name: described(rule) for rule in rules}, handle)
"""


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    """What every rule names and calls, as Snakemake reads it."""
    folder = copy_checkout(tmp_path_factory.mktemp("rules"))
    with open(folder / "Snakefile", "a") as handle:
        handle.write("\nexec(open('dump.py').read())\n")
    (folder / "dump.py").write_text(DUMP)
    run = snakemake(folder, "--list")
    assert run.returncode == 0, run.stderr
    return json.loads((folder / "rules.json").read_text())


def test_every_function_takes_what_its_rule_gives(rules):
    assert {"fig8", "fig14", "fmriprep"} <= rules.keys()
    faults = []
    for name, rule in rules.items():
        module, _, function = rule["call"].partition(":")
        signature = inspect.signature(getattr(importlib.import_module(module), function))
        known = signature.parameters
        given = set(rule["given"]) - NOT_PASSED
        if not any(p.kind == p.VAR_KEYWORD for p in known.values()):
            faults += [f"{name}: {rule['call']} takes no {word}" for word in given - known.keys()]
        if not rule["unpacks"]:
            needed = {
                key for key, p in known.items() if p.default is p.empty and p.kind != p.VAR_KEYWORD
            }
            faults += [f"{name}: {rule['call']} wants {word}" for word in needed - given]
    assert faults == []


def test_every_rule_that_computes_states_its_memory(rules):
    """One without counts as nothing beside the others."""
    assert [name for name, rule in rules.items() if "mem_mb" not in rule["resources"]] == []
