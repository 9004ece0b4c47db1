"""Reading and checking configuration: one merged mapping, checked once, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

SCALES = ("laptop", "paper", "smoke")


def read_yaml(path: str | Path) -> Any:
    """Content of a YAML file, built from plain types only."""
    return yaml.safe_load(Path(path).read_text(encoding="utf-8"))


def scale_overlay(config: Mapping[str, Any], folder: str = "config/scales") -> str:
    """Path of the overlay of the active scale.

    Raises
    ------
    ValueError
        If the scale is unknown.
    """
    scale = config.get("scale", config["default_scale"])
    if scale not in SCALES:
        raise ValueError(f"scale: {scale!r} given; allowed are {', '.join(SCALES)}")
    return f"{folder}/{scale}.yaml"


def load(scale: str | None = None, folder: str | Path = ".") -> dict[str, Any]:
    """The complete configuration of a project's folder at a scale, checked.

    Raises
    ------
    FileNotFoundError
        If the folder has no configuration.
    ValueError
        If the scale is unknown or a value is not allowed.
    """
    root = Path(folder)
    config = read_yaml(root / "config.yaml")
    config["scale"] = scale or config["default_scale"]
    overlay = read_yaml(root / scale_overlay(config)) or {}
    schema = read_yaml(root / "config/schema.yaml")
    merged: dict[str, Any] = completed(_merged(config, overlay), schema)
    check(merged, schema)
    return merged


def _merged(config: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """As Snakemake merges configuration files: mappings key by key, all else replaced."""
    result = dict(config)
    for key, value in overlay.items():
        before = result.get(key)
        both = isinstance(value, Mapping) and isinstance(before, Mapping)
        result[key] = _merged(before, value) if both else value  # type: ignore[arg-type]
    return result


def completed(config: Any, schema: Mapping[str, Any]) -> Any:
    """A copy of the configuration with the schema's defaults filled in.

    >>> completed({}, {"properties": {"seed": {"default": 1}}})
    {'seed': 1}
    """
    if not isinstance(config, Mapping):
        return config
    known = schema.get("properties", {})
    rest = schema.get("additionalProperties")
    rest = rest if isinstance(rest, Mapping) else {}
    missing = {
        key: part["default"]
        for key, part in known.items()
        if "default" in part and key not in config
    }
    given = {key: completed(value, known.get(key, rest)) for key, value in config.items()}
    return {**given, **missing}


def check(config: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """Compare a configuration with its schema.

    Raises
    ------
    ValueError
        Naming, for every fault, the key's path, what was given and what is allowed.
    """
    from jsonschema import Draft202012Validator  # slow to import, and many importers never check

    faults = sorted(Draft202012Validator(schema).iter_errors(config), key=lambda e: list(e.path))
    if faults:
        lines = "\n".join(f"  {_explain(fault)}" for fault in faults)
        raise ValueError(f"the configuration is wrong:\n{lines}")


def _explain(fault: Any) -> str:
    path = ".".join(str(part) for part in fault.absolute_path) or "(top level)"
    given, rule = fault.instance, fault.validator_value
    if fault.validator == "additionalProperties":
        known = sorted(fault.schema.get("properties", {}))
        unknown = sorted(set(given) - set(known))
        return f"{path}: unknown key {', '.join(unknown)}; allowed are {', '.join(known)}"
    if fault.validator == "required":
        missing = [key for key in rule if key not in given]
        return f"{path}: missing key {', '.join(missing)}"
    if fault.validator == "type":
        allowed = " or ".join([rule] if isinstance(rule, str) else rule)
        article = "an" if allowed[0] in "aeiou" else "a"
        return f"{path}: {given!r} given, {article} {allowed} is needed{_hint(given, allowed)}"
    if fault.validator == "enum":
        return f"{path}: {given!r} given; allowed are {', '.join(map(str, rule))}"
    return f"{path}: {fault.message} ({fault.validator}: {rule})"


def _hint(given: Any, allowed: str) -> str:
    """YAML 1.1 reads a number without a decimal point before its exponent as text."""
    if not (isinstance(given, str) and ("number" in allowed or "integer" in allowed)):
        return ""
    try:
        float(given)
    except ValueError:
        return ""
    return (
        " (this is text: write it without quotes, an exponent as in 3.0e-4; nested values given "
        "to --config arrive as text, so put them into a file for --configfile)"
    )
