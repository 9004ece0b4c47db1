"""What the tables say of one model: its gains, their bounds, and what of the input they follow.

Prompts are the units. A block or category that is chosen for being extreme is chosen on one half of
the prompts and read on the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from tgn.constraints import layers as by_layer
from tgn.constraints.associations import Undecidable, partial_correlation
from tgn.constraints.classes import sign_of
from tgn.constraints.tables import (
    COMPLEXITY,
    FINAL,
    LEAST_PROMPTS,
    ONE_TOKEN,
    Chance,
    Found,
    Questions,
    applicable,
    by_block,
    by_prompt,
    final_log_gain,
    logs,
    main_prompts,
    share,
    slug,
)
from tgn.probing.prompts import NEUTRAL
from tgn.probing.rank_statistics import cross_fitted
from tgn.statistics import Interval

LOG_TEN = float(np.log(10.0))
OVER_PROMPTS = "95 % bootstrap interval over prompts"

# name of the statistic, quantity, words
LEVELS = {
    "log_gain_final": (FINAL, "gain of the last block, median over tokens after the first"),
    "log_gain_final_mean": (
        "gain_mean",
        "gain of the last block, mean over tokens after the first",
    ),
    "log_gain_final_first": ("gain_first", "gain of the last block at the first token"),
    "log_gain_final_last": ("gain_last", "gain of the last block at the last token"),
}
PUBLISHED = {
    "log_gain_published_a": ("published_a", "gain of the last block but one at the last token"),
    "log_gain_published_b": ("published_b", "gain of the last block at the last token, as stored"),
    "log_gain_published_c": ("published_c", "gain of the last block, all tokens in one norm"),
    "log_gain_published_with_norm": (
        "published_with_norm",
        "size of the final norm's output over the input of the last block, at the last token",
    ),
    "log_gain_published_mlp": ("published_mlp", "size of the last MLP's output over its input"),
    "log_gain_published_attention": (
        "published_attention",
        "size of the last attention's output over its input",
    ),
    "log_amplification": ("amplification", "product of all blocks' gains"),
    "log_amplification_after_first": (
        "amplification_after_first",
        "product of the gains of all blocks but the first",
    ),
    "log_amplification_with_embedding": (
        "amplification_with_embedding",
        "product of all blocks' gains and of the embedding step",
    ),
}


def questions(
    record: Mapping[str, Any],
    gains: pd.DataFrame,
    spectra: pd.DataFrame,
    sheaf: pd.DataFrame,
    turning: pd.DataFrame,
    *,
    chance: Chance,
) -> Questions:
    """The questions to one model.

    Parameters
    ----------
    record
        Of ``architecture``.
    gains, spectra, sheaf, turning
        The rows of that model. ``gains`` may hold controls, which have categories of their own.
    """
    rows = main_prompts(gains)
    made: dict[str, Callable[[], Found]] = {}
    made |= _levels(gains, rows, chance)
    made |= _bounds(rows, chance)
    made |= _inputs(rows, chance)
    made |= by_layer.questions(record, rows, spectra, sheaf, turning, chance=chance)
    if applicable(record):
        return made
    reason = record.get("reason") or f"norm position: {record.get('norm_position')}"
    return {
        name: partial(_refuse, f"gains are not applicable or failed: {reason}") for name in made
    }


def _refuse(reason: str) -> Found:
    raise Undecidable(reason)


# --- levels and bounds ---------------------------------------------------------------------------


def _levels(gains: pd.DataFrame, rows: pd.DataFrame, chance: Chance) -> Questions:
    def level(values: pd.Series, what: str) -> Found:
        found = chance.over_prompts(values.to_numpy(), np.median)
        return Found(
            found,
            len(values),
            f"ln {what}; median over prompts, {OVER_PROMPTS}",
            "nats",
            note=f"sign by the interval: {sign_of(found)}",
        )

    def against_last(quantity: str, what: str) -> Found:
        gap = logs(by_prompt(rows, quantity)) - logs(by_prompt(rows, "published_b"))
        return Found(
            chance.over_prompts(gap.to_numpy()),
            len(gap),
            f"ln gain of {what} minus ln gain of the last block, both at the last token; mean over "
            f"prompts, {OVER_PROMPTS}",
            "nats",
            controls=("the last block",),
        )

    def of_blocks(rows: pd.DataFrame, quantity: str, what: str) -> Found:
        return level(final_log_gain(rows, quantity), what)

    def published(quantity: str, what: str) -> Found:
        return level(logs(by_prompt(rows, quantity)), what)

    def neutral() -> Found:
        own = gains[gains["category"] == NEUTRAL]
        return Found(
            _gap(final_log_gain(own), final_log_gain(rows), chance),
            own["prompt"].nunique(),
            "ln gain of the last block on neutral statements minus that on the five categories, "
            f"which are as long; {OVER_PROMPTS}",
            "nats",
            controls=("the five categories",),
        )

    made: dict[str, Callable[[], Found]] = {}
    for name, (quantity, what) in LEVELS.items():
        made[name] = partial(of_blocks, rows, quantity, what)
    for name, (quantity, what) in PUBLISHED.items():
        made[name] = partial(published, quantity, what)
    for category in sorted(gains["category"].unique()):
        own = gains[gains["category"] == category]
        last = "log_gain_final_first" if category == ONE_TOKEN else "log_gain_final"
        quantity, what = LEVELS[last]
        made[f"log_gain_final_{slug(category)}"] = partial(
            of_blocks, own, quantity, f"{what}, prompts of category {category}"
        )
    made["log_gain_neutral_minus_others"] = neutral
    made["log_gain_published_a_minus_b"] = partial(
        against_last, "published_a", "the last block but one"
    )
    made["log_gain_with_norm_minus_b"] = partial(
        against_last, "published_with_norm", "the last block with the final norm"
    )
    return made


def _bounds(rows: pd.DataFrame, chance: Chance) -> Questions:
    def excess() -> pd.DataFrame:
        table = by_block(rows, FINAL)
        if (table <= 0).any().any():
            raise Undecidable("a gain is not positive")
        return np.log(table) - LOG_TEN / len(table.columns)

    def highest() -> Found:
        curves = excess().to_numpy()
        values = cross_fitted(curves, lambda mean: int(mean.argmax()), lambda c, at: c[:, at])
        return Found(
            chance.over_prompts(values),
            len(values),
            "ln gain of the block with the largest gain minus ln(10)/L; block chosen on one half "
            f"of the prompts and read on the other, mean over prompts, {OVER_PROMPTS}",
            "nats",
        )

    def above() -> Found:
        shares = (excess() > 0).mean(axis=1).to_numpy()
        return Found(
            chance.over_prompts(shares),
            len(shares),
            f"share of blocks whose gain exceeds 10^(1/L); mean over prompts, {OVER_PROMPTS}",
        )

    return {"log_gain_over_bound": highest, "share_of_blocks_over_bound": above}


def _gap(one: ArrayLike, other: ArrayLike, chance: Chance) -> Interval:
    """Mean over some prompts minus that over others, all resampled together.

    Raises
    ------
    Undecidable
        If there are fewer than five of either.
    """
    first, second = np.asarray(one, float), np.asarray(other, float)
    if (least := min(len(first), len(second))) < LEAST_PROMPTS:
        raise Undecidable(f"{least} prompts, and an interval takes {LEAST_PROMPTS}")
    of_first = np.r_[np.ones(len(first), bool), np.zeros(len(second), bool)]

    def gap(values: NDArray, chosen: NDArray) -> float:
        both = chosen.any() and not chosen.all()
        return float(values[chosen].mean() - values[~chosen].mean()) if both else 0.0

    return chance.over_prompts((np.r_[first, second], of_first), gap)


# --- inputs --------------------------------------------------------------------------------------


def _inputs(rows: pd.DataFrame, chance: Chance) -> Questions:
    """Whether prompts decide the sign, and what of them goes with the gain."""

    def gain() -> pd.Series:
        return final_log_gain(rows)

    def categories() -> pd.Series:
        return rows.drop_duplicates("prompt").set_index("prompt")["category"].sort_index()

    def along(x: Callable[[], pd.Series], y: Callable[[], pd.Series], what: str) -> Found:
        tokens = by_prompt(rows, "tokens")
        table = pd.concat([x(), y(), tokens], axis=1, join="inner").to_numpy(float)
        found = chance.over_prompts(
            tuple(table.T), lambda a, b, n: partial_correlation(a, b, n, rank=True)
        )
        return Found(
            found,
            len(table),
            f"rank correlation over prompts of {what}, number of tokens held; {OVER_PROMPTS}",
        )

    def one_sign() -> Found:
        values = gain().to_numpy()
        sign = np.sign(np.median(values))
        return share(
            (np.sign(values) == sign).astype(float),
            "share of prompts on which the last block's gain lies on the same side of 1 as its "
            "median over prompts",
            "prompts",
        )

    def worst_category() -> Found:
        values, labels = gain(), categories()
        sign = np.sign(values.median())
        columns = [
            values[labels[labels == c].index].to_numpy() for c in COMPLEXITY if (labels == c).any()
        ]
        least = min((len(column) for column in columns), default=0)
        if len(columns) < 2:
            raise Undecidable(f"{len(columns)} categories of prompts")
        if least < LEAST_PROMPTS:
            raise Undecidable(f"{least} prompts a category, and an interval takes {LEAST_PROMPTS}")
        curves = sign * np.column_stack([column[:least] for column in columns])
        worst = cross_fitted(curves, lambda mean: int(mean.argmin()), lambda c, at: c[:, at])
        return Found(
            chance.over_prompts(worst),
            least,
            "ln gain of the last block in the category nearest to the other sign, positive where "
            "it has the sign of all prompts; category chosen on one half of its prompts and read "
            f"on the other, mean, {OVER_PROMPTS}",
            "nats",
        )

    def contrast(first: str, second: str) -> Found:
        values, labels = by_prompt(rows, "entropy"), categories()
        one, other = (values[labels[labels == c].index].to_numpy() for c in (first, second))
        return Found(
            _gap(one, other, chance),
            len(one) + len(other),
            f"entropy of the next token after {first} prompts minus after {second} ones; "
            f"{OVER_PROMPTS}",
            "nats",
        )

    def distance() -> pd.Series:
        return gain().abs()

    made: dict[str, Callable[[], Found]] = {
        "share_of_prompts_with_one_sign": one_sign,
        "log_gain_of_worst_category": worst_category,
        "entropy_novel_minus_cliche": partial(contrast, "novel", "cliche"),
    }
    pairs = {
        "gain_with_entropy": (
            gain,
            "entropy",
            "the last block's gain and the entropy of the next token",
        ),
        "gain_with_loss": (gain, "loss", "the last block's gain and the loss per token"),
        "distance_with_entropy": (
            distance,
            "entropy",
            "the distance of ln gain from 0 and the entropy of the next token",
        ),
        "distance_with_loss": (
            distance,
            "loss",
            "the distance of ln gain from 0 and the loss per token",
        ),
    }
    for name, (x, quantity, what) in pairs.items():
        made[name] = partial(along, x, partial(by_prompt, rows, quantity), what)
    made["gain_with_complexity"] = partial(
        along,
        gain,
        lambda: categories().map(COMPLEXITY).astype(float),
        "the last block's gain and the complexity given to its category",
    )
    return made
