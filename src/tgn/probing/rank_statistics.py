"""From ranks measured in each arm to curves with bands and to the statistics behind figure 8.

Passages are the independent units: every interval is a bootstrap over passages, and arms are
compared passage by passage. Where an arm drew several random networks or mixers, the draws are the
units, each with the mean over its passages, so that the interval covers both; it is Student's, as
draws are too few to be resampled. A layer that is
chosen because it is extreme is chosen on one half of the passages and read on the other, so that
the choice does not make the effect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tgn.files import write_table
from tgn.probing.definitions import PRIMARY
from tgn.statistics import (
    Band,
    Evidence,
    Interval,
    Statistic,
    bootstrap_band,
    ends,
    student_band,
    write_statistics,
)

Curves = Mapping[str, NDArray]  # arm -> (passages, layers)
Chooser = Callable[[NDArray], int]

QUANTITIES = (
    "effective_rank",
    "effective_rank_sigma2",
    "participation_ratio",
    "stable_rank",
    "distance",
    "token_share",
    "channel_share",
)


def summarise(
    *,
    tables: Sequence[str],
    spectra: Sequence[str],
    curves: str | Path,
    spectra_table: str | Path,
    statistics: str | Path,
    evidence: Mapping[str, Evidence],
    length: int,
    resamples: int,
    seed: int,
) -> None:
    """Write the curves, the spectra and the statistics of figure 8.

    Parameters
    ----------
    tables, spectra
        Files ``{model}/{arm}.parquet`` and ``{model}/{arm}.spectra.parquet`` of
        :func:`tgn.probing.rank_dynamics.measure_arm`.
    curves
        Written: mean and 95 % band of every quantity by model, arm, length, definition and layer.
    spectra_table
        Written: the spectra, one table.
    statistics
        Written: one record a statistic and model, at the given passage length.
    evidence
        ``real`` or ``simulated``, for each model.
    """
    measured = pd.concat([_labelled(path) for path in tables], ignore_index=True)
    write_table(curves, band_table(measured, resamples=resamples, seed=seed))
    write_table(spectra_table, pd.concat([_labelled(path) for path in spectra], ignore_index=True))
    records = []
    for model, rows in measured[measured["length"] == length].groupby("model", sort=False):
        draws = np.random.default_rng([seed, 3])
        records += model_statistics(
            rows, model=str(model), evidence=evidence[str(model)], resamples=resamples, rng=draws
        )
    write_statistics(statistics, records)


def _labelled(path: str) -> pd.DataFrame:
    """A table with its model and arm, which its path names."""
    place = Path(path)
    return pd.read_parquet(place).assign(model=place.parent.name, arm=place.name.split(".")[0])


def band_table(measured: pd.DataFrame, *, resamples: int, seed: int) -> pd.DataFrame:
    """Mean and 95 % band over passages or draws, see `mean_band`; of distances geometric.

    Returns
    -------
    pandas.DataFrame
        Columns model, arm, length, definition, layer, quantity, value, ci_low, ci_high, n.
    """
    keys = ["model", "arm", "length", "definition"]
    parts = []
    for labels, rows in measured.groupby(keys, sort=False):
        draws = drawn(rows)
        for quantity in QUANTITIES:
            values = by_layer(rows, quantity)
            if np.isnan(values).all():
                continue  # not measured under this definition
            logarithmic = quantity == "distance" and (values > 0).all()
            band = mean_band(
                np.log(values) if logarithmic else values,
                draws,
                rng=np.random.default_rng([seed, 4]),
                resamples=resamples,
            )
            value, low, high = (np.exp(part) if logarithmic else part for part in band)
            n = count_units(draws)
            part = pd.DataFrame({"value": value, "ci_low": low, "ci_high": high, "n": n})
            part["layer"] = np.arange(len(part))
            parts.append(part.assign(quantity=quantity, **dict(zip(keys, labels, strict=True))))
    return pd.concat(parts, ignore_index=True)


def by_layer(rows: pd.DataFrame, quantity: str) -> NDArray:
    """One quantity of one arm and definition as an array of shape (passages, layers)."""
    return rows.pivot(index="passage", columns="layer", values=quantity).to_numpy()


def drawn(rows: pd.DataFrame) -> NDArray:
    """Which draw of weights or mixer each passage of an arm met, shape (passages,)."""
    return rows.groupby("passage")["draw"].first().to_numpy()


def are_several(draws: NDArray) -> bool:
    """Whether an arm drew more than once, so that its draws are the units and not its passages."""
    return len(np.unique(draws)) > 1


def count_units(draws: NDArray) -> int:
    """Draws where there are several, else passages."""
    return len(np.unique(draws)) if are_several(draws) else len(draws)


def by_draw(values: NDArray, draws: NDArray) -> NDArray:
    """Independent units: the values as they are, or their means over each of several draws.

    >>> by_draw(np.array([1.0, 2.0, 3.0, 6.0]), np.array([0, 1, 0, 1]))
    array([2., 4.])
    """
    if not are_several(draws):
        return values
    return np.stack([values[draws == draw].mean(axis=0) for draw in np.unique(draws)])


def mean_band(values: NDArray, draws: NDArray, *, rng: np.random.Generator, resamples: int) -> Band:
    """Mean over the units of values (passages, ...), with 95 % ends.

    They are Student's over draws, where there are several, and else a bootstrap over passages.
    """
    units = by_draw(values, draws)
    if are_several(draws):
        return student_band(units)
    return bootstrap_band(units, rng=rng, resamples=resamples)


def cross_fitted(
    curves: NDArray, choose: Chooser, read: Callable[[NDArray, int], NDArray]
) -> NDArray:
    """Choose a layer on one half of the passages and read the other half there, both ways.

    The mean is free of the bias that choosing brings. Where no layer stands out the two halves
    may agree on one by chance, and a bootstrap of the values then covers 90 % instead of 95 %.

    Parameters
    ----------
    curves
        Shape (passages, layers).
    choose
        Mean curve of a half, (layers,), to a layer.
    read
        Curves of the other half and the layer, to one number a passage.

    Returns
    -------
    array, shape (passages,)

    Examples
    --------
    >>> curves = np.array([[3.0, 1.0, 2.0], [3.0, 1.5, 2.0]])
    >>> cross_fitted(curves, lambda mean: int(mean.argmin()), lambda c, layer: c[:, layer])
    array([1. , 1.5])
    """
    half = np.arange(len(curves)) % 2 == 0
    values = np.empty(len(curves))
    for chosen_on, read_on in ((half, ~half), (~half, half)):
        values[read_on] = read(curves[read_on], choose(curves[chosen_on].mean(axis=0)))
    return values


def lowest(mean: NDArray) -> int:
    """Layer of the lowest rank after at least one block."""
    return 1 + int(mean[1:].argmin())


def lowest_in_first_half(mean: NDArray) -> int:
    """Layer of the lowest rank among the first half of the blocks."""
    half = len(mean) // 2  # of the blocks, rounded up: the first entry is the input
    return 1 + int(mean[1 : 1 + half].argmin())


class Contrast(NamedTuple):
    """A number from each passage, whose mean is a statistic."""

    values: NDArray  # (passages,)
    method: str
    controls: tuple[str, ...] = ()
    drawn: str = "intact"  # the arm whose draws are the units
    unit: str = "nats"
    note: str = ""


def model_statistics(
    rows: pd.DataFrame,
    *,
    model: str,
    evidence: Evidence,
    resamples: int,
    rng: np.random.Generator,
) -> list[Statistic]:
    """The statistics of figure 8 for one model, from its arms' tables at one length.

    Ranks enter as logarithms: a ratio of ranks then is a difference, and passages with more
    directions do not weigh more. Distances enter as decimal logarithms.
    """
    arms = {str(arm): part for arm, part in rows.groupby("arm")}
    records = []
    for name, contrast in _contrasts(arms).items():
        draws = drawn(arms[contrast.drawn])
        band = mean_band(contrast.values, draws, rng=rng, resamples=resamples)
        over = (
            f"Student's 95 % interval over draws, which share {len(draws)} passages"
            if are_several(draws)
            else "95 % bootstrap interval over passages"
        )
        records.append(
            Statistic(
                id=f"fig8.{name}",
                **ends(Interval(*map(float, band))),
                n=count_units(draws),
                unit=contrast.unit,
                method=f"{contrast.method}; mean and {over}",
                model=model,
                evidence=evidence,
                controls=contrast.controls,
                note=contrast.note,
            )
        )
    return records


def _contrasts(arms: Mapping[str, pd.DataFrame]) -> dict[str, Contrast]:
    """Every statistic of figure 8, before averaging."""
    return {
        **_attention_and_mlp(_log_rank(arms, PRIMARY), _log_rank(arms, "without_outliers")),
        **_falls_and_recoveries(arms),
        **_without_attention(_log_rank(arms, PRIMARY), _log_rank(arms, "without_outliers")),
        **_distances(arms),
        **_shallow_dip(arms),
    }


def _log_rank(arms: Mapping[str, pd.DataFrame], definition: str) -> Curves:
    return {
        arm: np.log(by_layer(part[part["definition"] == definition], "effective_rank"))
        for arm, part in arms.items()
    }


def _attention_and_mlp(rank: Curves, clean: Curves) -> dict[str, Contrast]:
    """What the rank after the last block loses with each part, with and without outliers."""
    removed = {"no_attention": "attention deleted", "no_mlp": "MLPs deleted"}
    made = {}
    for arm, words in removed.items():
        for suffix, left_out, curves in (
            ("", "", rank),
            ("_without_outliers", ", the heaviest channels left out", clean),
        ):
            made[f"final_log_rank_intact_minus_{arm}{suffix}"] = Contrast(
                curves["intact"][:, -1] - curves[arm][:, -1],
                f"log effective rank after the last block, intact minus {words}{left_out}",
                (arm,),
            )
    made["final_log_rank_intact_minus_random_mixer"] = Contrast(
        rank["intact"][:, -1] - rank["random_mixer"][:, -1],
        "log effective rank after the last block, intact minus attention replaced by a fixed "
        "random causal average",
        ("random_mixer",),
        drawn="random_mixer",
    )
    return made


def _falls_and_recoveries(arms: Mapping[str, pd.DataFrame]) -> dict[str, Contrast]:
    """Fall to the lowest layer and recovery from it, as we define rank and as was published."""
    cases = {
        "": (PRIMARY, "intact", ""),
        "_random_init": (PRIMARY, "random_weights", ", in the same architecture untrained"),
        "_published_definition": ("published", "intact", ", uncentred with the first position"),
        "_uncentred_without_first": (
            "uncentred",
            "intact",
            ", uncentred without the first position",
        ),
    }
    made = {}
    for suffix, (definition, arm, words) in cases.items():
        curves = _log_rank(arms, definition)[arm]
        made[f"fall_log_rank{suffix}"] = Contrast(
            cross_fitted(curves, lowest, lambda part, layer: part[:, layer] - part[:, 0]),
            f"log effective rank at its lowest layer minus at the input, cross-fitted{words}",
            drawn=arm,
            note=_story(arms[arm], definition),
        )
        made[f"recovery_log_rank{suffix}"] = Contrast(
            cross_fitted(curves, lowest, lambda part, layer: part[:, -1] - part[:, layer]),
            f"log effective rank after the last block minus at its lowest, cross-fitted{words}",
            drawn=arm,
        )
    return made


def _story(rows: pd.DataFrame, definition: str) -> str:
    """Mean ranks at the input, at their lowest and at the end, in words."""
    mean = by_layer(rows[rows["definition"] == definition], "effective_rank").mean(axis=0)
    at = lowest(mean)
    return (
        f"mean rank {mean[0]:.3g} at the input, {mean[at]:.3g} at its lowest (after block {at}), "
        f"{mean[-1]:.3g} after the last block"
    )


def _without_attention(rank: Curves, clean: Curves) -> dict[str, Contrast]:
    """Rank after the last block against the rank at the input, with attention or MLPs deleted."""

    def through(curves: NDArray) -> NDArray:
        return curves[:, -1] - curves[:, 0]

    def lowest_value(curves: NDArray) -> NDArray:
        return cross_fitted(curves, lowest, lambda part, layer: part[:, layer])

    what = "log effective rank after the last block minus at the input"
    return {
        "no_attention_final_log_rank_ratio": Contrast(
            through(rank["no_attention"]), f"{what}, attention deleted"
        ),
        "no_attention_final_log_rank_ratio_without_outliers": Contrast(
            through(clean["no_attention"]),
            f"{what}, attention deleted, the heaviest channels left out",
        ),
        "no_attention_final_log_rank_ratio_random_init": Contrast(
            through(rank["no_attention_random_weights"]),
            f"{what}, attention deleted, in the same architecture untrained",
            drawn="no_attention_random_weights",
        ),
        "no_mlp_final_log_rank_ratio": Contrast(through(rank["no_mlp"]), f"{what}, MLPs deleted"),
        "no_mlp_final_log_rank_ratio_without_outliers": Contrast(
            through(clean["no_mlp"]), f"{what}, MLPs deleted, the heaviest channels left out"
        ),
        "no_attention_lowest_minus_intact_lowest": Contrast(
            lowest_value(rank["no_attention"]) - lowest_value(rank["intact"]),
            "lowest log effective rank over depth, attention deleted minus intact, cross-fitted",
            ("intact",),
        ),
    }


def _distances(arms: Mapping[str, pd.DataFrame]) -> dict[str, Contrast]:
    """How far tokens stay from being identical, without skip connections and with them."""
    # A stream that has collapsed to rounding error has no meaningful distance below that error.
    floor = np.finfo(np.float32).eps
    far = {
        arm: np.log10(
            np.maximum(by_layer(part[part["definition"] == "uncentred"], "distance"), floor)
        )
        for arm, part in arms.items()
    }
    attention = far["attention_only"][:, -1]
    what = "log10 distance to the nearest row-constant matrix after the last block"
    bound = (
        f"attention alone ends at {10 ** attention.mean():.1e} of the norm; fp32 rounding sets a "
        f"floor of a few {floor:.1e} there, "
    )
    return {
        "final_log_distance_attention_only_minus_mlp_only": Contrast(
            attention - far["mlp_only"][:, -1],
            f"{what}, without skip connections: attention only minus MLP only",
            ("mlp_only",),
            unit="decades",
            note=f"{bound}so that near it the number is an upper bound",
        ),
        "skip_restores_log_distance": Contrast(
            far["no_mlp"][:, -1] - attention,
            f"{what}, without MLPs: with skip connections minus without",
            ("attention_only",),
            unit="decades",
            note=f"{bound}so that near it the number is a lower bound",
        ),
    }


def _shallow_dip(arms: Mapping[str, pd.DataFrame]) -> dict[str, Contrast]:
    """The dip in the first half of the blocks, and what is left of it without outliers."""
    published = _log_rank(arms, "published")["intact"]
    clean = _log_rank(arms, "without_outliers")["intact"]
    dip = cross_fitted(published, lowest_in_first_half, lambda part, at: part[:, 0] - part[:, at])
    # The same layer, so that only the definition differs.
    cleaned = cross_fitted(
        np.stack([published, clean], axis=-1),
        lambda mean: lowest_in_first_half(mean[:, 0]),
        lambda part, layer: part[:, 0, 1] - part[:, layer, 1],
    )
    return {
        "dip_log_depth_published_definition": Contrast(
            dip,
            "log effective rank at the input minus at its lowest in the first half of the blocks, "
            "uncentred with the first position",
        ),
        "dip_log_depth_without_outliers": Contrast(
            cleaned,
            "the dip at the same layer, centred, without the first position and the heaviest "
            "channels",
        ),
        # A contrast and not a ratio, which has no sane interval where there is hardly a dip.
        "dip_log_depth_without_outliers_minus_half": Contrast(
            cleaned - dip / 2,
            "the dip without outliers minus half of the dip as published: above 0 if outliers "
            "explain less than half of it",
        ),
    }
