"""Reading and checking configuration: one merged mapping, checked once, before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tgn.files import read_yaml

SCALES = ("laptop", "paper", "smoke")
LARGEST = 1e12  # of any number; what is beyond is a slip, and would overflow somewhere


def scale_overlay(config: Mapping[str, Any], folder: str = "config/scales") -> str:
    """Path of the overlay of the active scale.

    Raises
    ------
    ValueError
        If the scale is unknown.
    """
    scale = config.get("scale", config.get("default_scale"))
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
    config = read_mapping(root / "config.yaml")
    config["scale"] = scale or config.get("default_scale")
    overlay = read_mapping(root / scale_overlay(config))
    schema = read_yaml(root / "config/schema.yaml")
    merged: dict[str, Any] = completed(_merged(config, overlay), schema)
    check(merged, schema)
    return without_null_arms(merged)


def read_mapping(path: str | Path) -> dict[str, Any]:
    """The mapping that a file of configuration holds; none, if it is empty.

    Raises
    ------
    ValueError
        If it holds anything else, or as :func:`tgn.files.read_yaml`.
    """
    content = read_yaml(path)
    if not isinstance(content, dict | None):
        raise ValueError(f"{path} holds no mapping of keys to values, but {content!r:.100}")
    return content or {}


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


def without_null_arms(config: Mapping[str, Any]) -> dict[str, Any]:
    """A copy without the arms that a scale sets to null: those it leaves out.

    >>> without_null_arms({"recall": {"arms": {"tgn": {}, "gru": None}}})
    {'recall': {'arms': {'tgn': {}}}}
    """
    result: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            below = without_null_arms(value)
            value = {k: v for k, v in below.items() if v is not None} if key == "arms" else below
        result[key] = value
    return result


def check(config: Any, schema: Mapping[str, Any]) -> None:
    """Compare a configuration with its schema.

    Types are taken more strictly than JSON's: whole numbers have no decimal point, numbers are
    finite and at most ``LARGEST``, and text, keys included, has no line breaks or other signs that
    cannot be printed.

    Raises
    ------
    ValueError
        Naming, for every fault, the key's path, what was given and what is allowed.
    """
    from jsonschema import Draft202012Validator, validators  # slow to import, and seldom needed

    def number(_: Any, value: Any) -> bool:
        given = isinstance(value, int | float) and not isinstance(value, bool)
        return given and abs(value) <= LARGEST

    types = Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "number": number,
            "integer": lambda _, value: number(_, value) and isinstance(value, int),
            "string": lambda _, value: _is_text(value),
        }
    )
    strict = validators.extend(Draft202012Validator, type_checker=types)
    lines = list(_strange_keys(config))
    if not lines:
        faults = sorted(strict(schema).iter_errors(config), key=lambda e: list(map(str, e.path)))
        lines = [_explain(fault) for fault in faults]
    if lines:
        raise ValueError("\n  ".join(["the configuration is wrong:", *lines]))


def _strange_keys(part: Any, path: str = "") -> Iterator[str]:
    """Keys that are no text, such as 1 or null without quotes."""
    if isinstance(part, Mapping):
        where = path or "(top level)"
        yield from (
            f"{where}: key {key!r} is not text in one line" for key in part if not _is_text(key)
        )
    if isinstance(part, Mapping | list):
        for key, below in part.items() if isinstance(part, Mapping) else enumerate(part):
            yield from _strange_keys(below, f"{path}.{key}" if path else f"{key}")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable()


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
        return (
            f"{path}: {_short(given)} given, {article} {allowed} is needed{_hint(given, allowed)}"
        )
    if fault.validator == "enum":
        return f"{path}: {_short(given)} given; allowed are {', '.join(map(str, rule))}"
    return f"{path}: {fault.message:.300} ({fault.validator}: {rule})"


def _short(given: Any) -> str:
    return f"{given!r}" if len(f"{given!r}") < 200 else f"{given!r:.200}..."


def _hint(given: Any, allowed: str) -> str:
    """What is easily mistaken in YAML 1.1, where a number without a decimal point before its
    exponent is text."""
    numeric = "number" in allowed or "integer" in allowed
    if isinstance(given, int | float) and numeric:
        return f" (finite, at most {LARGEST:g} and, where it is whole, without a decimal point)"
    if isinstance(given, str) and "string" in allowed:
        return " (of signs that can be printed, in one line)"
    if not (isinstance(given, str) and numeric):
        return ""
    try:
        float(given)
    except ValueError:
        return ""
    return (
        " (this is text: write it without quotes, an exponent as in 3.0e-4; nested values given "
        "to --config arrive as text, so put them into a file for --configfile)"
    )
