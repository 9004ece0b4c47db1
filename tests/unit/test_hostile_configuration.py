"""Whatever stands in the configuration, the workflow is planned or refuses it and names the key."""

import copy
import datetime
import math
import os
import sys
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from snakemake import api, workflow
from snakemake.exceptions import WorkflowError
from snakemake.settings import types

from tgn import config, files, sources

ROOT = Path(__file__).parents[2]
MUTATIONS = 2000
STRANGE = [
    *(None, True, False, "", " ", "nan", "3e-4", "ü", "\u202e", "a\nb", "../..", "{x}", "*", "/"),
    *(0, 1, 2, 7, -1, 1.0, 2.5, -0.5, 1e-300, 1e308, math.nan, math.inf, -math.inf),
    *(2**63, 10**30, 10**400, [], {}, [None], [[]], [1, 1, 1], {"": 1}, {1: 2}, {"a": {"b": None}}),
    *(b"bytes", datetime.date(2001, 1, 1), {1, 2}),
]


@pytest.fixture(scope="module")
def plan():
    """Read the Snakefile with a merged configuration, as a dry-run does before it asks for files.

    Files are parsed once: the parser is Snakemake's, and only what it made of them is run again.
    """
    patch, before = pytest.MonkeyPatch(), dict(os.environ)
    patch.chdir(ROOT)
    parsed, parse = {}, workflow.parse

    def parsed_once(file, made, linemap, rulecount=0):
        name = file.get_path_or_uri(secret_free=True)
        if name not in parsed:
            lines = {}
            code, count = parse(file, made, linemap=lines, rulecount=rulecount)
            parsed[name] = compile(code, name, "exec"), count, lines
        code, count, lines = parsed[name]
        linemap.update(lines)
        return code, count

    patch.setattr(workflow, "parse", parsed_once)
    patch.setattr(workflow, "compile", lambda code, *_: code, raising=False)
    patch.setattr(workflow.Workflow, "configfile", lambda *_: None)
    # nobody changes what these return
    patch.setattr(config, "read_yaml", cache(files.read_yaml))
    patch.setattr(sources, "load_registry", cache(sources.load_registry))
    patch.setattr(sys, "executable", sys.executable)  # the rules put it in quotes

    with api.SnakemakeApi(api.OutputSettings()) as running:

        def read_snakefile(merged):
            made = workflow.Workflow(
                config_settings=types.ConfigSettings(config=merged),
                resource_settings=types.ResourceSettings(),
                workflow_settings=types.WorkflowSettings(),
                storage_settings=types.StorageSettings(),
                deployment_settings=types.DeploymentSettings(),
                output_settings=api.OutputSettings(),
                group_settings=types.GroupSettings(),
                logger_manager=running.logger_manager,
            )
            made.include(ROOT / "Snakefile")
            return made

        yield read_snakefile
    patch.undo()
    os.environ.clear()
    os.environ.update(before)


def places(part, path=()):
    """Paths of everything in a configuration."""
    if path:
        yield path
    if isinstance(part, dict | list):
        for key, below in part.items() if isinstance(part, dict) else enumerate(part):
            yield from places(below, (*path, key))


SCALES = {scale: config.load(scale, ROOT) for scale in config.SCALES}
PLACES = {scale: list(places(merged)) for scale, merged in SCALES.items()}
HOW = ["delete", "add", "wrap", "unwrap", "drop", *["nudge"] * 3]
HOW += ["other", "like", "strange", "drawn"]


def at(merged, path):
    for key in path:
        merged = merged[key]
    return merged


@st.composite
def mutated(draw):
    """A configuration with one to three changes, and the paths of these."""
    scale = draw(st.sampled_from(config.SCALES))
    merged, changed = copy.deepcopy(SCALES[scale]), []
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        path = draw(st.sampled_from(PLACES[scale]))
        try:
            parent, value = at(merged, path[:-1]), at(merged, path)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took it away
        key, how = path[-1], draw(st.sampled_from(HOW))
        if not isinstance(parent, dict | list):
            continue
        if how == "delete":
            del parent[key]
        elif how == "add" and isinstance(parent, dict):
            key = draw(st.one_of(st.text(max_size=5), st.sampled_from([1, None, "x", key * 2])))
            parent[key] = value
        elif how == "wrap":
            parent[key] = [value]
        elif how == "unwrap" and isinstance(value, dict | list) and value:
            parent[key] = next(iter(value.values() if isinstance(value, dict) else value))
        elif how == "drop" and isinstance(value, dict | list) and value:
            del value[
                draw(st.sampled_from(list(value) if isinstance(value, dict) else range(len(value))))
            ]
        elif how == "nudge" and isinstance(value, bool):
            parent[key] = not value
        elif how == "nudge" and isinstance(value, int | float):
            by = draw(st.sampled_from([-1, 1, 2, 1000, 10**9]))
            parent[key] = value + by if isinstance(value, int) else value * (1 + by / 7)
        elif how in ("other", "like"):  # what stands elsewhere, under a key of this name or any
            alike = [p for p in PLACES[scale] if how == "other" or p[-1] == key]
            parent[key] = copy.deepcopy(at(SCALES[scale], draw(st.sampled_from(alike or [path]))))
        elif how == "drawn":
            drawn = st.one_of(st.text(), st.integers(), st.floats(), st.lists(st.integers()))
            parent[key] = draw(drawn)
        else:
            parent[key] = copy.deepcopy(draw(st.sampled_from(STRANGE)))
        changed.append((*path[:-1], key))
    return merged, changed


def test_every_scale_is_planned(plan):
    for merged in SCALES.values():
        assert len(list(plan(copy.deepcopy(merged)).rules)) > 80


@pytest.mark.parametrize(
    "path",
    [
        ("constraints",),
        ("recall", "model", "width"),
        ("recall", "model", "mlp_width"),
        ("recall_tasks", "tasks", "associative", "training", "batch"),
        ("recall_tasks", "training", "optimizer"),
        ("fmri", "datasets", "recordings", "subjects"),
    ],
    ids=".".join,
)
def test_a_key_that_plans_need_is_missed_by_name(plan, path):
    merged = copy.deepcopy(SCALES["laptop"])
    del at(merged, path[:-1])[path[-1]]
    with pytest.raises(WorkflowError, match=path[-1]):
        plan(merged)


def test_an_arm_without_a_mixer_has_no_gates(plan):
    merged = copy.deepcopy(SCALES["laptop"])
    merged["recall_tasks"]["arms"]["tgn_gru"]["model"] = {}
    plan(merged)


def test_a_mutated_configuration_is_planned_or_refused_with_the_key(plan, record_property):
    tried = {"planned": 0, "refused": 0}

    @seed(11)
    @settings(
        max_examples=MUTATIONS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(mutated())
    def try_one(drawn):
        merged, changed = drawn
        try:
            plan(merged)
        except WorkflowError as error:
            tried["refused"] += 1
            keys = {repr(key).strip("'") for path in changed for key in path}
            if not any(key in str(error) for key in keys):
                pytest.fail(f"{changed} refused without its key: {error}")
        else:
            tried["planned"] += 1

    try_one()
    record_property("tried", f"{sum(tried.values())} mutations: {tried}")
    assert sum(tried.values()) >= MUTATIONS
    assert min(tried.values()) > MUTATIONS / 20  # neither side is empty
