"""The long tables of the constraints: how they are read, and how a number or its lack is recorded.

``gains``: model, prompt, category, layer, quantity, value. A layer from 1 to L is a block, 0 the
embedding step, -1 the whole network. ``architecture``: one record a model. ``spectra``: model,
layer (-1: the unembedding), head (-1 is the full matrix), quantity, value. ``sheaf``: model,
prompt, layer, quantity, value. ``turning``: model, prompt, definition, layer, status, reason.

Gains enter as logarithms: 0 is neither, a product is a sum, halving weighs as much as doubling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tgn.constraints.associations import Undecidable
from tgn.constraints.classes import sign_of
from tgn.statistics import Evidence, Interval, Statistic, bootstrap_interval, ends, share_interval

Array = NDArray[np.float64]

# The published sets' five, by the complexity that was given to each by hand. Every other category
# of prompts is a control, and enters no statistic but its own.
COMPLEXITY = {"factual": 1, "cliche": 2, "nonsense": 3, "novel": 4, "syntactic": 5}
ONE_TOKEN = "first_token"  # the control whose prompts have no token after the first
FINAL = "gain_median"  # median over tokens after the first
LEAST_PROMPTS = 5
MEANS_FIRST = "ratio_of_means"
# Of |W_V| over |W_O|: norm, of full matrices or of heads, and what is averaged over layers.
RATIOS = tuple(product(("spectral", "frobenius"), ("", "_heads"), (MEANS_FIRST, "mean_of_ratios")))
SINGLE = ("ok", "plateau")  # a turning layer that is one place


class Found(NamedTuple):
    """A number with what its record says of it."""

    number: Interval | float
    n: int
    method: str
    unit: str = ""
    note: str = ""
    controls: tuple[str, ...] = ()


Questions = Mapping[str, Callable[[], Found]]


class Chance(NamedTuple):
    """Where intervals come from."""

    rng: np.random.Generator
    resamples: int

    def over_prompts(
        self,
        values: NDArray | tuple[NDArray, ...],
        statistic: Callable[..., Any] = np.mean,
    ) -> Interval:
        """Percentile bootstrap interval; axis 0 of every array runs over prompts.

        Raises
        ------
        Undecidable
            If there are fewer than five.
        """
        count = len(values[0]) if isinstance(values, tuple) else len(values)
        if count < LEAST_PROMPTS:
            raise Undecidable(f"{count} prompts, and an interval takes {LEAST_PROMPTS}")
        return bootstrap_interval(values, statistic, rng=self.rng, resamples=self.resamples)


def answered(
    questions: Questions, *, model: str, evidence: Evidence
) -> tuple[list[Statistic], list[dict[str, str]]]:
    """Records of the questions that could be decided, and the reasons of those that could not.

    Returns
    -------
    statistics : list
        Ids are ``constraints.`` and the question's name.
    undecided : list of dicts
        Keys id, model, reason.
    """
    statistics, undecided = [], []
    for name, ask in questions.items():
        id = f"constraints.{name}"
        try:
            found = ask()
        except Undecidable as why:
            undecided.append({"id": id, "model": model, "reason": str(why)})
            continue
        note, number = found.note, found.number
        if isinstance(number, Interval):
            number = _in_order(number)
            if not number.low <= number.value <= number.high:
                note += "; " * bool(note) + "few units decide the value: resamples miss it"
        statistics.append(
            Statistic(
                id=id,
                **ends(number),
                n=found.n,
                unit=found.unit,
                method=found.method,
                model=model,
                evidence=evidence,
                controls=found.controls,
                note=note,
            )
        )
    return statistics, undecided


def share(hits: NDArray, method: str, over: str) -> Found:
    """A share with Wilson's interval, which does not shrink to nothing where all are alike."""
    if len(hits) < LEAST_PROMPTS:
        raise Undecidable(f"{len(hits)} {over}, and an interval takes {LEAST_PROMPTS}")
    return Found(
        share_interval(hits),
        len(hits),
        f"{method}; Wilson's 95 % interval over {over}",
    )


def _in_order(number: Interval) -> Interval:
    """Ends that rounding crossed, as where every unit is alike, put right."""
    value, low, high = number
    close = 1e-9 * max(abs(value), abs(low), abs(high), 1e-300)
    if abs(high - low) <= close and abs(value - low) <= close:
        return Interval(value, value, value)
    return number


# --- reading -------------------------------------------------------------------------------------


def parts_of(table: pd.DataFrame) -> Callable[[str], pd.DataFrame]:
    """The rows of each model, by its name; none for a model that the table has not."""
    parts = {str(name): part for name, part in table.groupby("model", sort=False)}
    return lambda name: parts.get(name, table.iloc[:0])


def main_prompts(gains: pd.DataFrame) -> pd.DataFrame:
    """The rows of the five categories, without controls."""
    return gains[gains["category"].isin(COMPLEXITY)]


def by_block(rows: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """One quantity of one model, a row a prompt and a column a block (from 1).

    Raises
    ------
    Undecidable
        If it was not measured, or is not finite somewhere: the layers are named.
    """
    chosen = rows[(rows["quantity"] == quantity) & (rows["layer"] >= 1)]
    if chosen.empty:
        raise Undecidable(f"{quantity} was not measured by block")
    table = chosen.pivot(index="prompt", columns="layer", values="value").sort_index()
    broken = [int(layer) for layer in table.columns[~np.isfinite(table).all()]]
    if broken:
        raise Undecidable(f"{quantity} is not finite in blocks {broken}")
    return table


def by_prompt(rows: pd.DataFrame, quantity: str) -> pd.Series:
    """One quantity of one model by prompt: of the whole network, or else of its last block.

    Raises
    ------
    Undecidable
        If it was not measured or is not finite for some prompt.
    """
    chosen = rows[rows["quantity"] == quantity]
    if chosen.empty:
        raise Undecidable(f"{quantity} was not measured")
    layer = -1 if (chosen["layer"] == -1).any() else chosen["layer"].max()
    values = chosen[chosen["layer"] == layer].set_index("prompt")["value"].sort_index()
    if not np.isfinite(values).all():
        raise Undecidable(
            f"{quantity} is not finite for {int((~np.isfinite(values)).sum())} prompts"
        )
    return values


def logs(values: pd.Series) -> pd.Series:
    """Natural logarithms.

    Raises
    ------
    Undecidable
        If a value is not positive.
    """
    if (values <= 0).any():
        raise Undecidable("a gain is not positive")
    return np.log(values)


def final_log_gain(rows: pd.DataFrame, quantity: str = FINAL) -> pd.Series:
    """ln of the last block's gain, by prompt."""
    table = by_block(rows, quantity)
    return logs(table[table.columns.max()])


def layer_norms(spectra: pd.DataFrame, quantity: str, *, heads: bool = False) -> pd.Series:
    """A norm by layer: of the full matrix, or the mean over heads.

    Raises
    ------
    Undecidable
        If it was not measured.
    """
    chosen = spectra[spectra["quantity"] == quantity]
    norms = chosen[(chosen["head"] >= 0) == heads].groupby("layer")["value"].mean()
    if norms.empty or not np.isfinite(norms).all() or (norms <= 0).any():
        raise Undecidable(f"{quantity} was not measured, or is not finite and positive")
    return norms.sort_index()


def slug(name: object) -> str:
    """A name as part of a statistic's id.

    >>> slug("Llama-3.1-8B")
    'llama_3_1_8b'
    """
    return "".join(c if c.isalnum() else "_" for c in str(name).lower()).strip("_")


# --- one row a model -----------------------------------------------------------------------------


def model_table(
    architecture: Sequence[Mapping[str, Any]],
    gains: pd.DataFrame,
    spectra: pd.DataFrame,
    sheaf: pd.DataFrame,
    turning: pd.DataFrame,
    *,
    chance: Chance,
) -> pd.DataFrame:
    """One row for every model, measured or not: what regressions over models are made from.

    Returns
    -------
    pandas.DataFrame
        The fields of the records, lists and mappings left out; ``kin``, lab and family, since only
        models of one lab and family share a recipe; log_gain, log_gain_low, log_gain_high and
        sign of the last block (median over prompts, bootstrap over prompts); log_amplification,
        log_loss, distance (size of ln of the last block's gain per prompt, mean), entropy;
        log_spectral_ratio_of_means and the others of :data:`RATIOS`, log_spectral_ov,
        log_unembedding; head_cosine (mean over blocks and prompts); log_trace and
        log_trace_normalised (mean over blocks and prompts, then ln); log_late_proxy, the same of
        |W_V|^2 in the last third of the blocks; turning (layer of the steepest trace). NaN where a
        quantity is lacking; ``sign`` is ``not applicable`` where norms after the blocks fix their
        output, and ``not measured`` where there are no gains.
    """
    tables = {"gains": main_prompts(gains), "spectra": spectra, "sheaf": sheaf, "turning": turning}
    parts = {key: parts_of(table) for key, table in tables.items()}
    rows = []
    for record in architecture:
        own = {key: of(record["model"]) for key, of in parts.items()}
        rows.append(
            {key: value for key, value in record.items() if not isinstance(value, list | dict)}
            | {"kin": f"{record['lab']}/{record['family']}"}
            | _measures(own, chance)
            | _sign(record, own["gains"], chance)
        )
    return pd.DataFrame(rows)


def applicable(record: Mapping[str, Any]) -> bool:
    """Whether a block's gain means anything: not where a norm after the block fixes its output."""
    return record.get("status", "ok") == "ok" and record.get("norm_position") != "post"


def _sign(record: Mapping[str, Any], gains: pd.DataFrame, chance: Chance) -> dict[str, Any]:
    empty = {"log_gain": np.nan, "log_gain_low": np.nan, "log_gain_high": np.nan}
    if record.get("norm_position") == "post" or record.get("status") == "not_applicable":
        return empty | {"sign": "not applicable"}
    try:
        found = chance.over_prompts(final_log_gain(gains).to_numpy(), np.median)
    except Undecidable:
        return empty | {"sign": "not measured"}
    value, low, high = found
    return {"log_gain": value, "log_gain_low": low, "log_gain_high": high, "sign": sign_of(found)}


def _measures(own: Mapping[str, pd.DataFrame], chance: Chance) -> dict[str, float]:
    gains, spectra, sheaf = own["gains"], own["spectra"], own["sheaf"]

    def log_ratio(norm: str, heads: bool, means_first: bool) -> float:
        v, o = (layer_norms(spectra, f"{norm}_{part}", heads=heads) for part in "vo")
        return float(np.log(v.mean() / o.mean() if means_first else (v / o).mean()))

    def trace(quantity: str, after: float = 0.0) -> float:
        blocks = sheaf[(sheaf["quantity"] == quantity) & (sheaf["layer"] >= 1)]
        values = blocks.loc[blocks["layer"] > after * blocks["layer"].max(), "value"]
        if values.empty or not np.isfinite(values).all() or values.mean() <= 0:
            raise Undecidable(f"{quantity} was not measured")
        return float(np.log(values.mean()))

    measures: dict[str, Callable[[], float]] = {
        "log_amplification": lambda: float(logs(by_prompt(gains, "amplification")).median()),
        "log_loss": lambda: float(logs(by_prompt(gains, "loss")).mean()),
        "entropy": lambda: float(by_prompt(gains, "entropy").mean()),
        "distance": lambda: float(final_log_gain(gains).abs().mean()),
        **{
            f"log_{norm}{part}_{kind}": partial(log_ratio, norm, bool(part), kind == MEANS_FIRST)
            for norm, part, kind in RATIOS
        },
        "log_spectral_ov": lambda: float(
            np.log(layer_norms(spectra, "spectral_ov", heads=True).mean())
        ),
        "log_unembedding": lambda: float(
            np.log(layer_norms(spectra, "spectral_unembedding").mean())
        ),
        "head_cosine": lambda: float(by_block(gains, "head_cosine").to_numpy().mean()),
        "log_trace": lambda: trace("trace"),
        "log_late_proxy": lambda: trace("trace_proxy", after=2 / 3),
        "log_trace_normalised": lambda: trace("trace_normalised"),
        "turning": lambda: turning_layer(own["turning"]),
    }
    found = {}
    for name, measure in measures.items():
        try:
            found[name] = measure()
        except Undecidable:
            found[name] = np.nan
    return found


def turning_layer(turning: pd.DataFrame, definition: str = "steepest_trace") -> float:
    """L* of one model: of its mean curve if that has one, else the median over prompts.

    Neighbours that are equal count by the first; layers apart that are equal do not count.

    Raises
    ------
    Undecidable
        If it was refused or not measured, with the reason given.
    """
    own = turning[turning["definition"] == definition]
    good = own[own["status"].isin(SINGLE)]
    mean = good[good["prompt"].astype(str) == "mean"]
    if len(good) == 0:
        said = ", ".join(sorted(set(own["reason"].dropna().astype(str)))) if len(own) else ""
        raise Undecidable(f"no turning layer by {definition}: {said or 'not measured'}")
    return float((mean if len(mean) else good)["layer"].median())
