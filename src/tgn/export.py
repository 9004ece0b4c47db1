"""A trained model as a folder to hand on: weights, config, tokenizer, provenance, model card."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from tgn import provenance
from tgn.files import write_json
from tgn.models import io

PROVENANCE, CARD = "provenance.json", "README.md"


def export(checkpoint: str | Path, folder: str | Path) -> Path:
    """Copy a checkpoint into a new folder, with where it comes from and a model card.

    The folder is made whole or not at all, and is read like the checkpoint itself, by
    :func:`tgn.models.io.load`. Its ``provenance.json`` holds the record of the training run, if one
    lies beside the weights as ``provenance.json``, and a record of the export.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ValueError
        If the checkpoint is not a model of ours, or something is in the folder's place.
    """
    checkpoint, folder = Path(checkpoint), Path(folder)
    model = io.load(checkpoint)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is there already: name a new folder")
    files = [
        checkpoint / name
        for name in (io.WEIGHTS, io.CONFIG, io.TOKENIZER)
        if (checkpoint / name).is_file()
    ]
    trained = _read(checkpoint / PROVENANCE)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder.parent) as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        for file in files:
            shutil.copyfile(file, made / file.name)
        record = provenance.record(config={"checkpoint": checkpoint}, inputs=files)
        write_json(made / PROVENANCE, {"training": trained, "export": record})
        parameters = sum(parameter.numel() for parameter in model.parameters())
        card = model_card(folder.name, io.describe(checkpoint), parameters, trained)
        (made / CARD).write_text(card, encoding="utf-8")
        made.replace(folder)
    return folder


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def model_card(
    name: str, content: dict[str, Any], parameters: int, trained: dict[str, Any] | None
) -> str:
    """The text of the README.

    Parameters
    ----------
    content
        As :func:`tgn.models.io.describe`.
    parameters
        How many the model has.
    trained
        The record of the training run, as :func:`tgn.provenance.record`; None if there is none.
    """
    rows = {**content["model"], **content.get("metadata", {})}
    table = "\n".join(f"| {key} | `{json.dumps(value)}` |" for key, value in rows.items())
    return f"""---
license: mit
pipeline_tag: text-generation
tags: [tgn]
---

# {name}

A decoder-only language model of {parameters:,} parameters, trained to compare architectures under
equal conditions. It is small, knows nothing reliably, and has no safeguards: not for any other use.

## How to use it

```sh
tgn generate --checkpoint {name} --prompt "The history of"
```

```python
from tgn.models import io

model = io.load("{name}")  # called with token ids (batch, time), returns logits and gates
```

## What it is

| | |
|---|---|
{table}

## Where it comes from

{_origin(trained)}
The full record is in `{PROVENANCE}`.
"""


def _origin(trained: dict[str, Any] | None) -> str:
    if trained is None:
        return "No record of the training run lay beside the weights.\n"
    revision = trained["revision"]
    state = ", changed since" if revision["dirty"] else ""
    inputs = "\n".join(f"- `{path}`, sha256 `{sha}`" for path, sha in trained["inputs"].items())
    return f"""Code revision: {revision["commit"]}{state}. Made from:

{inputs}
"""
