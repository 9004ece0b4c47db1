"""From ranks measured in each arm to curves with bands and to the statistics behind figure 8.

Passages are the independent units: every interval is a bootstrap over passages, and arms are
compared passage by passage. A layer that is chosen because it is extreme is chosen on one half
of the passages and read on the other, so that the choice does not make the effect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tgn.files import replacing
from tgn.probing.definitions import PRIMARY
from tgn.statistics import (
    Evidence,
    Statistic,
    bootstrap_band,
    bootstrap_interval,
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
    with replacing(curves) as temporary:
        band_table(measured, resamples=resamples, seed=seed).to_parquet(temporary)
    with replacing(spectra_table) as temporary:
        pd.concat([_labelled(path) for path in spectra], ignore_index=True).to_parquet(temporary)
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
    """Mean and 95 % bootstrap band over passages; of distances, which span decades, geometric.

    Returns
    -------
    pandas.DataFrame
        Columns model, arm, length, definition, layer, quantity, value, ci_low, ci_high, n.
    """
    keys = ["model", "arm", "length", "definition"]
    parts = []
    for labels, rows in measured.groupby(keys, sort=False):
        for quantity in QUANTITIES:
            units = by_layer(rows, quantity)
            if np.isnan(units).all():
                continue  # not measured under this definition
            logarithmic = quantity == "distance" and (units > 0).all()
            band = bootstrap_band(
                np.log(units) if logarithmic else units,
                rng=np.random.default_rng([seed, 4]),
                resamples=resamples,
            )
            value, low, high = (np.exp(part) if logarithmic else part for part in band)
            part = pd.DataFrame({"value": value, "ci_low": low, "ci_high": high, "n": len(units)})
            part["layer"] = np.arange(len(part))
            parts.append(part.assign(quantity=quantity, **dict(zip(keys, labels, strict=True))))
    return pd.concat(parts, ignore_index=True)


def by_layer(rows: pd.DataFrame, quantity: str) -> NDArray:
    """One quantity of one arm and definition as an array of shape (passages, layers)."""
    return rows.pivot(index="passage", columns="layer", values=quantity).to_numpy()


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

    def curves(definition: str, quantity: str = "effective_rank") -> Curves:
        chosen = rows[rows["definition"] == definition]
        return {str(arm): by_layer(part, quantity) for arm, part in chosen.groupby("arm")}

    rank = {arm: np.log(values) for arm, values in curves(PRIMARY).items()}
    # A stream that has collapsed to rounding error has no meaningful distance below that error.
    floor = np.finfo(np.float32).eps
    far = {
        arm: np.log10(np.maximum(values, floor))
        for arm, values in curves("uncentred", "distance").items()
    }
    intact, without = rank["intact"], rank["no_attention"]
    untrained = rank["random_weights"]

    def fall(log_rank: NDArray) -> NDArray:
        return cross_fitted(log_rank, lowest, lambda part, layer: part[:, layer] - part[:, 0])

    def recovery(log_rank: NDArray) -> NDArray:
        return cross_fitted(log_rank, lowest, lambda part, layer: part[:, -1] - part[:, layer])

    def lowest_value(log_rank: NDArray) -> NDArray:
        return cross_fitted(log_rank, lowest, lambda part, layer: part[:, layer])

    published = np.log(curves("published")["intact"])
    clean = {arm: np.log(values) for arm, values in curves("without_outliers").items()}
    dip = cross_fitted(published, lowest_in_first_half, lambda part, at: part[:, 0] - part[:, at])
    # The same layer, so that only the definition differs.
    both = np.stack([published, clean["intact"]], axis=-1)
    cleaned_dip = cross_fitted(
        both,
        lambda mean: lowest_in_first_half(mean[:, 0]),
        lambda part, layer: part[:, 0, 1] - part[:, layer, 1],
    )

    means: dict[str, tuple[NDArray, str, str, list[str]]] = {
        "final_log_rank_intact_minus_no_attention": (
            intact[:, -1] - without[:, -1],
            "nats",
            "log effective rank after the last block, intact minus attention deleted",
            ["no_attention"],
        ),
        "final_log_rank_intact_minus_random_mixer": (
            intact[:, -1] - rank["random_mixer"][:, -1],
            "nats",
            "the same, intact minus attention replaced by a fixed random causal average",
            ["random_mixer"],
        ),
        "final_log_distance_attention_only_minus_none": (
            far["attention_only"][:, -1] - far["mlp_only"][:, -1],
            "decades",
            "log10 distance to the nearest row-constant matrix after the last block, without skip "
            "connections: attention only minus MLP only",
            ["mlp_only"],
        ),
        "skip_restores_log_distance": (
            far["no_mlp"][:, -1] - far["attention_only"][:, -1],
            "decades",
            "log10 distance to the nearest row-constant matrix after the last block, without MLPs: "
            "with skip connections minus without",
            ["attention_only"],
        ),
        "fall_log_rank": (
            fall(intact),
            "nats",
            "log effective rank at its lowest layer minus at the input, layer cross-fitted",
            [],
        ),
        "recovery_log_rank": (
            recovery(intact),
            "nats",
            "log effective rank after the last block minus at its lowest layer, cross-fitted",
            [],
        ),
        "fall_log_rank_random_init": (
            fall(untrained),
            "nats",
            "the fall, in the same architecture untrained",
            [],
        ),
        "recovery_log_rank_random_init": (
            recovery(untrained),
            "nats",
            "the recovery, in the same architecture untrained",
            [],
        ),
        "no_attention_final_log_rank_ratio": (
            without[:, -1] - without[:, 0],
            "nats",
            "log effective rank after the last block minus at the input, attention deleted",
            ["intact"],
        ),
        "no_attention_final_log_rank_ratio_without_outliers": (
            clean["no_attention"][:, -1] - clean["no_attention"][:, 0],
            "nats",
            "the same, the heaviest channels left out",
            ["without_outliers"],
        ),
        "no_attention_final_log_rank_ratio_random_init": (
            rank["no_attention_random_weights"][:, -1] - rank["no_attention_random_weights"][:, 0],
            "nats",
            "the same, in the same architecture untrained",
            ["random_weights"],
        ),
        "no_attention_lowest_minus_intact_lowest": (
            lowest_value(without) - lowest_value(intact),
            "nats",
            "lowest log effective rank over depth, attention deleted minus intact, cross-fitted",
            ["intact"],
        ),
        "dip_log_depth_published_definition": (
            dip,
            "nats",
            "log effective rank at the input minus at its lowest in the first half of the blocks, "
            "uncentred with the first position",
            [],
        ),
        "dip_log_depth_without_outliers": (
            cleaned_dip,
            "nats",
            "the dip at the same layer, centred, without the first position and the heaviest "
            "channels",
            ["without_outliers"],
        ),
        # A contrast and not a ratio, which has no sane interval where there is hardly a dip.
        "dip_log_depth_without_outliers_minus_half": (
            cleaned_dip - dip / 2,
            "nats",
            "the dip without outliers minus half of the dip as published: above 0 if outliers "
            "explain less than half of it",
            ["without_outliers"],
        ),
    }
    records = []
    for name, (values, unit, method, controls) in means.items():
        interval = bootstrap_interval(values, rng=rng, resamples=resamples)
        records.append(
            Statistic(
                id=f"fig8.{name}",
                value=interval.value,
                ci_low=interval.low,
                ci_high=interval.high,
                n=len(values),
                unit=unit,
                method=f"{method}; mean and 95 % bootstrap interval over passages",
                model=model,
                evidence=evidence,
                controls=controls,
            )
        )
    return records
