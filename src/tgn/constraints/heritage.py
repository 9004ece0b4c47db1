"""Heritage: whether the lab decides what a model's last block does, beside geometry and scale.

Labs are held against families, since models of one lab and family are no independent witnesses: a
lab with one family cannot be told from that family.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from tgn.constraints.associations import (
    PENALTY,
    MixedFit,
    Undecidable,
    clustered_interval,
    family_means,
    indicator,
    mixed_model,
    predictive_shares,
)
from tgn.constraints.classes import agreement_interval, permuted_labels_p
from tgn.constraints.tables import Chance, Found, Questions, slug
from tgn.statistics import share_interval

Array = NDArray[np.float64]

STUDENT = "mixed model, random intercept a family; Student's 95 % interval"
GEOMETRY = ("inverse_layers", "rho", "log_width")
SCALE = ("log_parameters",)


def questions(table: pd.DataFrame, *, chance: Chance) -> Questions:
    """The questions of heritage.

    Parameters
    ----------
    table
        As in :mod:`tgn.constraints.across`: models with a gain, and inverse_layers,
        log_width and log_parameters beside.
    """
    return {
        **_heritage(table, chance),
        **_partition(table, chance),
        **_joint(table),
        **_architecture(table),
    }


def effect(table: pd.DataFrame, fit: MixedFit, name: str, what: str) -> Found:
    """One effect of a mixed model."""
    note = f"{len(table)} models, {fit.freedom} degrees of freedom"
    return Found(
        fit.effects[name],
        table["kin"].nunique(),
        f"{what}; {STUDENT}",
        "nats",
        f"{note}; {fit.note}" if fit.note else note,
    )


def mixed(table: pd.DataFrame, design: Mapping[str, Any], name: str, what: str) -> Found:
    """One effect on the last block's ln gain, by a mixed model of the design's columns."""
    return effect(table, mixed_model(table["log_gain"], design, table["kin"]), name, what)


# --- heritage ------------------------------------------------------------------------------------


def _heritage(table: pd.DataFrame, chance: Chance) -> Questions:
    eleuther = (table["lab"] == "eleutherai").to_numpy()

    @cache
    def all_means() -> MixedFit:
        labs = sorted(table["lab"].unique())
        design = dict(zip(labs, indicator(table["lab"]).T, strict=True))
        return mixed_model(table["log_gain"], design, table["kin"])

    def lab_mean(lab: str) -> Found:
        if lab not in set(table["lab"]):
            raise Undecidable(f"no model of {lab} was measured")
        return effect(table, all_means(), lab, f"mean of the last block's ln gain, {lab}")

    def difference(column: str, what: str) -> Found:
        own = table.dropna(subset=[column])
        theirs = (own["lab"] == "eleutherai").to_numpy(float)
        if len(set(theirs)) < 2:
            raise Undecidable("models of EleutherAI and of others are both needed")
        design = {"intercept": np.ones(len(own)), "eleutherai": theirs}
        fit = mixed_model(own[column], design, own["kin"])
        return effect(own, fit, "eleutherai", f"mean of {what}, EleutherAI minus all other labs")

    def agreement() -> Found:
        means, names = family_means(table["log_gain"], table["kin"])
        labs = [name.split("/")[0] for name in names]
        found = agreement_interval(np.sign(means), labs, rng=chance.rng, permutations=999)
        return Found(
            found,
            len(names),
            "share of pairs of families of one lab whose mean ln gain has one sign, minus that of "
            "pairs of two labs; 95 % interval by permuting labs over families",
            controls=("pairs of two labs",),
        )

    def dampening(of_eleuther: bool) -> Found:
        own = table[(eleuther == of_eleuther) & table["sign"].isin(["dampen", "expand"])]
        if own.empty:
            raise Undecidable("no model there has a sign that its interval decides")
        hits, names = family_means(own["sign"] == "dampen", own["kin"])
        return Found(
            share_interval(hits),
            len(names),
            "share of models whose last block dampens, of those with a sign, families weighted "
            "alike; Wilson's 95 % interval over families",
            note=f"{int((own['sign'] == 'dampen').sum())} of {len(own)} models",
        )

    def fisher(unit: str) -> Found:
        own = table[table["sign"].isin(["dampen", "expand"])]
        damps, theirs = (own["sign"] == "dampen").to_numpy(float), own["lab"] == "eleutherai"
        if unit == "families":
            damps, names = family_means(damps, own["kin"])
            theirs = pd.Series([name.startswith("eleutherai/") for name in names])
        if theirs.nunique() < 2:
            raise Undecidable("models of EleutherAI and of others are both needed")
        p = fisher_p(damps > 0.5, theirs.to_numpy())
        return Found(p, len(damps), f"Fisher's exact p, EleutherAI against others, {unit} as units")

    def permuted(without: str = "") -> float:
        own = table[table["lab"] != without]
        means, names = family_means(own["log_gain"], own["kin"])
        labs = [name.split("/")[0] for name in names]
        return permuted_labels_p(means, labs, rng=chance.rng)

    def all_labs() -> Found:
        return Found(
            permuted(),
            table["kin"].nunique(),
            "p of the variance of family means between labs, labels of labs permuted over families",
        )

    def without_one() -> Found:
        found, skipped = {}, []
        for lab in sorted(table["lab"].unique()):
            try:
                found[lab] = permuted(lab)
            except Undecidable:
                skipped.append(lab)
        if not found:
            raise Undecidable("without any one lab, none has two families left")
        worst = max(found, key=lambda lab: found[lab])
        return Found(
            found[worst],
            table["kin"].nunique(),
            "largest p of the variance of family means between labs when one lab is left out, "
            "labels permuted over families",
            note=f"without {worst}"
            + (f"; no other has two families without {', '.join(skipped)}" if skipped else ""),
        )

    made: dict[str, Callable[[], Found]] = {
        "sign_by_lab_over_chance": agreement,
        "log_gain_eleutherai_minus_others": partial(
            difference, "log_gain", "the last block's ln gain"
        ),
        "log_late_proxy_eleutherai_minus_others": partial(
            difference, "log_late_proxy", "ln |W_V|^2 in the last third of the blocks"
        ),
        "share_dampening_eleutherai": partial(dampening, True),
        "share_dampening_others": partial(dampening, False),
        "heritage_p_models": partial(fisher, "models"),
        "heritage_p_families": partial(fisher, "families"),
        "heritage_p_permuted": all_labs,
        "heritage_p_leave_one_lab_out": without_one,
    }
    for lab in sorted({*table["lab"], "eleutherai", "meta", "openai"}):
        made[f"log_gain_lab_{slug(lab)}"] = partial(lab_mean, lab)
    return made


def fisher_p(dampens: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> float:
    """Fisher's exact two-sided p that dampening and belonging to a group go together.

    >>> dampens = np.array([True, True, False, False])
    >>> fisher_p(dampens, dampens).__round__(4)
    0.3333
    """
    cells = [[int((dampens & g).sum()), int((~dampens & g).sum())] for g in (theirs, ~theirs)]
    return float(stats.fisher_exact(cells).pvalue)


def _partition(table: pd.DataFrame, chance: Chance) -> Questions:
    """Heritage, geometry and scale, by what each takes off the error of a family left out."""

    def shares() -> tuple[dict[str, Array], Array]:
        if not (table.groupby("lab")["kin"].nunique() > 1).any():
            raise Undecidable("no lab has two families: heritage predicts no family left out")
        blocks = {
            "geometry": (table[list(GEOMETRY)].to_numpy(float), 0.0),
            "heritage": (indicator(table["lab"]), PENALTY),
            "scale": (table[list(SCALE)].to_numpy(float), 0.0),
        }
        return predictive_shares(table["log_gain"], blocks, table["kin"])

    def found(one: str, other: str | None) -> Found:
        reductions, baseline = shares()
        gain = reductions[one] - (reductions[other] if other else 0.0)
        interval = clustered_interval(
            (gain, baseline),
            [str(i) for i in range(len(gain))],
            lambda g, b: float(g.mean() / max(b.mean(), 1e-12)),
            rng=chance.rng,
            resamples=chance.resamples,
        )
        less = f" minus the same by {other}" if other else ""
        return Found(
            interval,
            len(gain),
            f"share of the squared error of families left out that {one} takes off{less}, mean "
            "over the orders in which heritage (lab), geometry (1/L, head density, ln width) and "
            "scale (ln parameters) enter; 95 % bootstrap interval over families",
            note=f"{len(table)} models",
        )

    return {
        "share_heritage": partial(found, "heritage", None),
        "share_geometry": partial(found, "geometry", None),
        "share_scale": partial(found, "scale", None),
        "heritage_minus_geometry": partial(found, "heritage", "geometry"),
        "geometry_minus_scale": partial(found, "geometry", "scale"),
    }


def _joint(table: pd.DataFrame) -> Questions:
    """The same three in one mixed model, by the variance that each explains."""

    @cache
    def variances() -> tuple[dict[str, float], MixedFit]:
        design = {"intercept": np.ones(len(table))} | {
            name: table[name].to_numpy(float) for name in (*GEOMETRY, *SCALE)
        }
        labs = table["lab"].value_counts()
        if len(labs) <= len(design) or labs.max() < 2:
            raise Undecidable(
                f"{len(labs)} labs, of which {(labs > 1).sum()} have several models: a random lab "
                f"beside {len(design)} coefficients takes {len(design) + 1}, and one with several"
            )
        fit = mixed_model(table["log_gain"], design, table["lab"])

        def explained(names: tuple[str, ...]) -> float:
            return float(np.var(sum(fit.effects[name].value * design[name] for name in names)))

        parts = {"geometry": explained(GEOMETRY), "scale": explained(SCALE)}
        return parts | {"heritage": fit.between, "rest": fit.within}, fit

    def share(of: str) -> Found:
        parts, fit = variances()
        return Found(
            parts[of] / sum(parts.values()),
            len(table),
            f"share of the variance of the last block's ln gain by {of} in one mixed model: random "
            "intercept a lab (heritage), 1/L, head density and ln width (geometry), ln parameters "
            "(scale), and the rest",
            note="; ".join(filter(None, [f"{table['lab'].nunique()} labs", fit.note])),
        )

    return {f"mixed_share_{of}": partial(share, of) for of in ("heritage", "geometry", "scale")}


def _architecture(table: pd.DataFrame) -> Questions:
    """What the author rejected: parallel blocks as a cause of dampening, depth held."""

    def parallel() -> Found:
        own = table.dropna(subset=["parallel"])
        flag = own["parallel"].astype(bool).to_numpy(float)
        if len(set(flag)) < 2:
            raise Undecidable("models with parallel and with sequential blocks are both needed")
        design = {
            "intercept": np.ones(len(own)),
            "inverse_layers": own["inverse_layers"],
            "parallel": flag,
        }
        return mixed(
            own,
            design,
            "parallel",
            "last block's ln gain, parallel minus sequential blocks, 1/L held",
        )

    return {"log_gain_parallel_minus_sequential": parallel}
