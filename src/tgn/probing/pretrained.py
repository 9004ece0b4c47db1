"""Loading pretrained language models from local folders, and making such folders.

Everything reads one form: a `transformers` folder with safetensors weights. Other storage is
converted to it once. Nothing is looked up on a hub here, and no code from a download is run.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    PreTrainedModel,
)
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from tgn import sources
from tgn.files import scratch


def load_model(
    folder: str | Path, *, attention: str | None = None, dtype: torch.dtype = torch.float32
) -> PreTrainedModel:
    """Causal language model in evaluation mode, in fp32 unless said otherwise.

    Weights that are there only as a torch file are read as tensors alone, with no code in them.

    Parameters
    ----------
    attention
        The library's implementation of attention, ``eager`` to see its weights: a few families
        (Falcon) cannot be set to it later. The library's choice when None.

    Raises
    ------
    FileNotFoundError
        If the folder has no ``config.json``.
    """
    _require_folder(folder)
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, local_files_only=True, attn_implementation=attention
    )
    return model.eval()


def load_body(folder: str | Path) -> PreTrainedModel:
    """A model of any family without its head, else as :func:`load_model`."""
    _require_folder(folder)
    return AutoModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerBase:
    """Tokenizer of a model folder; see :func:`load_model`."""
    _require_folder(folder)
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def random_model(folder: str | Path, *, seed: int) -> PreTrainedModel:
    """The folder's architecture with the library's random initialisation, fp32, evaluation mode."""
    _require_folder(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def encoder(tokenizer: PreTrainedTokenizerBase) -> Callable[[str], list[int]]:
    """Text to token ids, with no special tokens added and no warning about length."""

    def encode(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    return encode


def convert_gguf(*, source: str | Path, receipt: str | Path) -> None:
    """Turn a downloaded GGUF file into a model folder: fp32 safetensors, config and tokenizer.

    Quantised weights are dequantised, so the folder holds what a quantised run computes with and
    not the weights as they were trained.

    Parameters
    ----------
    source
        Receipt of the download.
    receipt
        Written last, beside the converted files.

    Raises
    ------
    ValueError
        If the download does not hold exactly one GGUF file.
    """
    found = [path for path in sources.read_receipt(source).values() if path.suffix == ".gguf"]
    if len(found) != 1:
        raise ValueError(f"{source} lists {len(found)} GGUF files; one is needed")
    (gguf,) = found
    folder = Path(receipt).parent
    folder.mkdir(parents=True, exist_ok=True)
    with scratch(folder.with_name(f".{folder.name}")) as made:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
        )
        model.save_pretrained(made)
        tokenizer.save_pretrained(made)
        for file in made.iterdir():
            file.replace(folder / file.name)
    download = json.loads(Path(source).read_text(encoding="utf-8"))
    inherited = {key: download[key] for key in ("name", "evidence", "licence", "origin")}
    sources.write_receipt(receipt, **inherited, kind="converted")


def _require_folder(folder: str | Path) -> None:
    if not (Path(folder) / "config.json").is_file():
        raise FileNotFoundError(f"{folder} is not a model folder: it has no config.json")
