"""What the tables say of several models prompt by prompt: the worst of all, twins, named pairs.

The same prompts are read by every model, so that models are compared on each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tgn.constraints.associations import (
    Undecidable,
    correlation,
    correlation_interval,
    jackknife_interval,
)
from tgn.constraints.classes import sign_of
from tgn.constraints.tables import (
    FINAL,
    Chance,
    Found,
    Questions,
    by_block,
    by_prompt,
    final_log_gain,
    logs,
    main_prompts,
    slug,
)
from tgn.probing.rank_statistics import cross_fitted
from tgn.statistics import Interval

Array = NDArray[np.float64]

LOG_TEN = float(np.log(10.0))
OVER_PROMPTS = "95 % bootstrap interval over prompts"
WORST = (
    f"chosen on one half of the prompts and read on the other, mean over prompts, {OVER_PROMPTS}"
)
HIERARCHY = ("pythia-6.9b", "mistral-7b", "llama-3.1-8b", "gemma-7b")
SMALL_TRACE = ("opt-125m", "gpt2")  # the anomaly, and what it is held against
SWEEP = ("eleutherai", "gpt_neox")  # lab and family of the published sweep over sizes


def questions(
    models: pd.DataFrame,
    gains: pd.DataFrame,
    sheaf: pd.DataFrame,
    twins: Sequence[tuple[str, str]],
    *,
    chance: Chance,
) -> Questions:
    """The questions over models, prompt by prompt.

    Parameters
    ----------
    models
        :func:`tgn.constraints.tables.model_table`, without the controlled family.
    twins
        Names of a base model and of the model tuned from it.
    """
    rows = main_prompts(gains)
    usable = set(models.loc[np.isfinite(models["log_gain"]), "model"])
    by_model = {str(name): own for name, own in rows.groupby("model") if name in usable}
    chats = dict(iter(gains[gains["category"] == "chat"].groupby("model")))
    return {
        **worst_questions(by_model, chance),
        **_twins(by_model, by_model, twins, chance),
        **_categories(by_model, chance),
        **_hierarchy(by_model, chance),
        **_small_trace(sheaf, chance),
        **_sweep(models, by_model),
        **_twins(by_model, chats, twins, chance, "_chat"),
    }


# --- a law that holds of all models fails on the worst -------------------------------------------


def worst_questions(
    by_model: dict[str, pd.DataFrame], chance: Chance, prefix: str = ""
) -> Questions:
    """The largest product of gains, and the largest gain over 10^(1/L), of all models."""

    def read(curves: dict[str, Array], what: str) -> Found:
        if not curves:
            raise Undecidable("no model has gains that can be multiplied")
        lengths = {len(values) for values in curves.values()}
        if len(lengths) != 1:
            raise Undecidable("models read different prompts")
        table = np.column_stack(list(curves.values()))
        worst = cross_fitted(table, lambda mean: int(mean.argmax()), lambda c, at: c[:, at])
        name = list(curves)[int(table.mean(axis=0).argmax())]
        return Found(
            chance.over_prompts(worst), len(worst), f"{what}; {WORST}", "nats", f"of all: {name}"
        )

    def known(measure: Callable[[pd.DataFrame], Array]) -> dict[str, Array]:
        found = {}
        for name, own in by_model.items():
            try:
                found[name] = measure(own)
            except Undecidable:
                continue
        return found

    def excess(own: pd.DataFrame) -> Array:
        table = by_block(own, FINAL)
        return np.log(table.to_numpy()) - LOG_TEN / table.shape[1]

    def bound(first: int) -> Found:
        blocks = known(excess)
        single = {
            f"{name}, block {at + 1}": curve[:, at]
            for name, curve in blocks.items()
            for at in range(first, curve.shape[1])
        }
        where = ", the first block left out" if first else ""
        return read(
            single, f"ln gain minus ln(10)/L, of the model and block where it is largest{where}"
        )

    def final() -> Found:
        last = {name: curve[:, -1] for name, curve in known(excess).items()}
        return read(last, "ln gain of the last block minus ln(10)/L, of the model with the largest")

    def product(quantity: str, which: str) -> Found:
        curves = known(lambda own: logs(by_prompt(own, quantity)).to_numpy())
        return read(curves, f"ln of the product of {which} gains, of the model with the largest")

    return {
        f"{prefix}worst_log_gain_over_bound": partial(bound, 0),
        f"{prefix}worst_inner_log_gain_over_bound": partial(bound, 1),
        f"{prefix}worst_final_log_gain_over_bound": final,
        f"{prefix}worst_log_amplification": partial(product, "amplification", "all blocks'"),
        f"{prefix}worst_log_amplification_after_first": partial(
            product, "amplification_after_first", "all but the first block's"
        ),
    }


# --- twins ---------------------------------------------------------------------------------------


def _twins(
    by_model: dict[str, pd.DataFrame],
    tuned_by_model: dict[str, pd.DataFrame],
    twins: Sequence[tuple[str, str]],
    chance: Chance,
    suffix: str = "",
) -> Questions:
    """Tuned models against their bases, both on plain prompts or the tuned ones in a chat."""
    template = " in its chat template" if suffix else ""
    pairs = {f"{base} to {tuned}": (base, tuned) for base, tuned in twins}

    def paired(base: str, tuned: str) -> tuple[Array, Array]:
        lacking = [base] * (base not in by_model)
        lacking += [f"{tuned}{template}"] * (tuned not in tuned_by_model)
        if lacking:
            raise Undecidable(f"{', '.join(lacking)} was not measured")
        gains = final_log_gain(by_model[base]), final_log_gain(tuned_by_model[tuned])
        both = pd.concat(gains, axis=1, join="inner").to_numpy()
        return both[:, 0], both[:, 1]

    def change(base: str, tuned: str) -> Found:
        before, after = paired(base, tuned)
        return Found(
            chance.over_prompts(after - before),
            len(before),
            f"ln gain of the last block, {tuned}{template} minus {base}, paired; {OVER_PROMPTS}",
            "nats",
            controls=(base,),
        )

    def together(base: str, tuned: str) -> Found:
        before, after = paired(base, tuned)
        return Found(
            chance.over_prompts((before, after), correlation),
            len(before),
            f"correlation over prompts of the last block's ln gain, {base} and {tuned}{template}; "
            f"{OVER_PROMPTS}",
        )

    def signs(dampers: bool) -> dict[str, Array]:
        """ln gain of the tuned models, positive on their base's side; bases with a sign."""
        kept = {}
        for name, (base, tuned) in pairs.items():
            try:
                before, after = paired(base, tuned)
                sign = sign_of(chance.over_prompts(before, np.median))
            except Undecidable:
                continue
            if sign == "dampen" or (sign == "expand" and not dampers):
                kept[name] = after if sign == "expand" else -after
        if not kept:
            raise Undecidable(
                "no pair whose base clearly dampens" if dampers else "no pair whose base has a sign"
            )
        return kept

    def kept(dampers: bool) -> Found:
        curves = signs(dampers)
        length = min(len(values) for values in curves.values())
        table = np.column_stack([values[:length] for values in curves.values()])
        worst = cross_fitted(table, lambda mean: int(mean.argmin()), lambda c, at: c[:, at])
        only = " that dampens" if dampers else ""
        return Found(
            chance.over_prompts(worst),
            len(worst),
            f"ln gain of the tuned model{template}, positive on the side of its base{only}, of the "
            f"pair where it is least; {WORST}",
            "nats",
            f"{len(curves)} pairs: {', '.join(curves)}",
        )

    def largest() -> Found:
        table = {}
        for name, pair in pairs.items():
            try:
                before, after = paired(*pair)
            except Undecidable:
                continue
            table[name] = after - before
        if not table:
            raise Undecidable("no pair was measured")
        length = min(len(values) for values in table.values())
        gaps = np.column_stack([values[:length] for values in table.values()])
        turned = gaps * np.sign(gaps.mean(axis=0))
        worst = cross_fitted(turned, lambda mean: int(mean.argmax()), lambda c, at: c[:, at])
        return Found(
            chance.over_prompts(worst),
            len(worst),
            f"size of the change of ln gain from base to tuned model{template}, of the pair where "
            f"it is largest; {WORST}",
            "nats",
            f"{len(table)} pairs",
        )

    made: dict[str, Callable[[], Found]] = {
        f"twin_sign_kept{suffix}": partial(kept, False),
        f"twin_sign_kept_by_dampers{suffix}": partial(kept, True),
        f"twin_largest_change{suffix}": largest,
    }
    for base, tuned in pairs.values():
        made[f"twin_change_{slug(tuned)}{suffix}"] = partial(change, base, tuned)
        made[f"twin_correlation_{slug(tuned)}{suffix}"] = partial(together, base, tuned)
    return made


# --- category against model ----------------------------------------------------------------------


def _categories(by_model: dict[str, pd.DataFrame], chance: Chance) -> Questions:
    def ratio() -> Found:
        """Crossed random effects: prompts lie within categories, and every model reads them all."""
        parts = []
        for name, own in by_model.items():
            try:
                values = final_log_gain(own)
            except Undecidable:
                continue
            labels = own.drop_duplicates("prompt").set_index("prompt")["category"]
            parts.append(pd.DataFrame({"y": values, "category": labels, "model": name}))
        if len(parts) < 3:
            raise Undecidable(
                f"{len(parts)} models: their spread cannot be held against categories'"
            )
        wide = pd.concat(parts).pivot_table(
            index="model", columns=["category", "prompt"], values="y"
        )
        codes = wide.columns.codes[0]
        counts = np.bincount(codes)
        if wide.isna().any().any() or len(counts) < 3 or counts.min() < 2:
            raise Undecidable(
                "every model must read the same prompts, two or more of each of three categories"
            )
        gains = wide.to_numpy()
        return Found(
            jackknife_interval(len(gains), lambda kept: log_spread_ratio(gains[kept], codes)),
            len(gains),
            "ln of the standard deviation of ln gain between categories of prompts within a model "
            "over that between models, both without what is due to the choice of prompts; "
            "jackknife over models, Student's 95 % interval",
            "nats",
        )

    return {"log_category_over_model": ratio}


def log_spread_ratio(gains: Array, categories: NDArray[np.intp]) -> float:
    """ln of the spread between categories within a model over that between models.

    Means of few prompts differ even where categories do not, and so do those of models as far as
    these disagree on prompts; that much is taken off the variances. What is left is no less than
    the error of a variance that is nothing but such noise.

    Parameters
    ----------
    gains : array, shape (models, prompts)
    categories : array, shape (prompts,)
        From 0.
    """
    means, noise = _cells(gains, categories)
    models, kinds = means.shape
    of_category = _beyond(means.var(axis=1, ddof=1).mean(), noise.mean(), models * (kinds - 1))
    # What a prompt adds to all models alike does not set them apart.
    _, own = _cells(gains - gains.mean(axis=0), categories)
    between = means.mean(axis=1).var(ddof=1)
    of_model = _beyond(between, own.mean() / kinds * models / (models - 1), models - 1)
    return float(np.log(of_category / of_model)) / 2


def _cells(gains: Array, categories: NDArray[np.intp]) -> tuple[Array, Array]:
    """Mean over the prompts of each category, and the variance of that mean, (models, kinds)."""
    parts = [gains[:, categories == kind] for kind in np.unique(categories)]
    means = np.column_stack([part.mean(axis=1) for part in parts])
    noise = np.column_stack([part.var(axis=1, ddof=1) / part.shape[1] for part in parts])
    return means, noise


def _beyond(variance: float, noise: float, freedom: int) -> float:
    return max(variance - noise, noise * np.sqrt(2 / freedom), 1e-24)


# --- named comparisons ---------------------------------------------------------------------------


def _hierarchy(by_model: dict[str, pd.DataFrame], chance: Chance) -> Questions:
    def step(low: str, high: str) -> Found:
        for name in (low, high):
            if name not in by_model:
                raise Undecidable(f"{name} was not measured")
        gap = (final_log_gain(by_model[high]) - final_log_gain(by_model[low])).dropna()
        return Found(
            chance.over_prompts(gap.to_numpy()),
            len(gap),
            f"ln gain of the last block, {high} minus {low}, paired; mean over prompts, "
            f"{OVER_PROMPTS}",
            "nats",
        )

    return {
        f"hierarchy_{slug(high)}_minus_{slug(low)}": partial(step, low, high)
        for low, high in pairwise(HIERARCHY)
    }


def _small_trace(sheaf: pd.DataFrame, chance: Chance) -> Questions:
    def gap(quantity: str, what: str) -> Found:
        curves = []
        for name in SMALL_TRACE:
            own = sheaf[sheaf["model"] == name]
            if own.empty:
                raise Undecidable(f"{name} was not measured")
            curves.append(logs(by_block(own, quantity).mean(axis=1)))
        values = (curves[0] - curves[1]).dropna().to_numpy()
        return Found(
            chance.over_prompts(values),
            len(values),
            f"ln of the {what}, mean over blocks, {SMALL_TRACE[0]} minus {SMALL_TRACE[1]}; mean "
            f"over prompts, {OVER_PROMPTS}",
            "nats",
        )

    return {
        "small_trace": partial(gap, "trace", "trace of the sheaf Laplacian"),
        "small_trace_normalised": partial(gap, "trace_normalised", "same over |W_V|_F^2"),
    }


def _sweep(models: pd.DataFrame, by_model: dict[str, pd.DataFrame]) -> Questions:
    """Within one family of many sizes, models are the units."""
    own = models[(models["lab"] == SWEEP[0]) & (models["family"] == SWEEP[1])]
    own = own[np.isfinite(own["log_gain"])]

    def exponent(quantity: str, what: str) -> Found:
        from tgn.thermodynamics.scaling_laws import fit_power_law  # slow to import

        sizes, values = [], []
        for _, row in own.iterrows():
            table = by_block(by_model[row["model"]], quantity)
            sizes.append(float(row["parameters"]))
            values.append(float(logs(table[table.columns.max()]).mean()))
        if len(set(sizes)) < 4:
            raise Undecidable(f"{len(set(sizes))} sizes of the family, and an exponent takes four")
        law = fit_power_law(sizes, np.exp(values))
        return Found(
            Interval(law.b, law.low, law.high),
            law.n,
            f"exponent of {what} over parameters, one family; Student's 95 % interval over models",
            note=f"r^2 = {law.r_squared:.3f}; least AICc: {law.best}",
        )

    def along(column: str, what: str) -> Found:
        r = correlation(own[column].to_numpy(float), own["log_gain"].to_numpy(float))
        return Found(
            correlation_interval(r, len(own)),
            len(own),
            f"correlation of {what} and the last block's ln gain, one family; Fisher's 95 % "
            "interval, models as units",
        )

    return {
        "sweep_mlp_exponent": partial(
            exponent, "published_mlp", "the last MLP's output over input"
        ),
        "sweep_block_exponent": partial(exponent, FINAL, "the last block's gain"),
        "sweep_gain_with_rho": partial(along, "rho", "head density"),
        "sweep_gain_with_layers": partial(along, "layers", "L"),
    }
