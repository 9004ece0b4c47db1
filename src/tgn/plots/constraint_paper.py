"""Panels of Paper 3's own figures, 1 to 3 and A1 to A5; each returns the numbers it has drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from tgn.constraints.tables import COMPLEXITY, FINAL, slug
from tgn.plots.constraint_parts import (
    GAIN,
    OURS,
    OWN,
    PUBLISHED,
    PUBLISHED_A,
    PUBLISHED_B,
    Array,
    Rows,
    Seen,
    by_category,
    curves,
    depths,
    ends_of,
    key,
    log_axes,
    measured,
    name_of,
    number,
    of,
    others,
    over_size,
    points,
    printed,
    profile,
    published_gains,
    published_last_gains,
    range_of,
    said,
    stretched,
    turning_shares,
)
from tgn.plots.style import BLACK, BLUE, GREEN, GREY, RED, SKY, Look, curve
from tgn.probing.prompts import NEUTRAL
from tgn.probing.turning import PRINTED

LAW = Look("$10^{1/L}$", BLACK)
CONTROLS = {  # categories of prompts that are controls
    NEUTRAL: "neutral",
    "with_start": "start token",
    "without_start": "no start token",
    "chat": "chat template",
    "shuffled_tokens": "shuffled tokens",
    "random_tokens": "random tokens",
    "first_token": "one token",
}
LABS = {
    "eleutherai": "EleutherAI",
    "meta": "Meta",
    "openai": "OpenAI",
    "bigscience": "BigScience",
    "mistralai": "Mistral AI",
    "google": "Google",
    "tii": "TII",
    "stabilityai": "Stability AI",
    "swiss-ai": "Swiss AI",
    "huggingface": "Hugging Face",
}


def kleiber(axes: Axes, seen: Seen) -> Rows:
    """Figure 1: gains over depth, beside the law 10^(1/L), of last blocks and of every block."""
    old, own, runs = published_gains(seen), measured(seen), measured(seen, controlled=True)
    drawn = [
        points(axes, rows["layers"], rows, look, quantity=quantity)
        for rows, look, quantity in (
            (old, PUBLISHED_A, "gain_published_a"),
            (runs, OWN, "gain_final"),
            (own, OURS, "gain_final"),
        )
    ]
    depth = np.geomspace(*range_of([*old["layers"], *own["layers"], *runs["layers"]]), 100)
    axes.plot(depth, 10 ** (1 / depth), color=LAW.color, label=f"{LAW.label}, the law")
    for id, look in (("log_depth_constant", OURS), ("controlled_log_depth_constant", OWN)):
        if found := number(seen, id):
            curve(
                axes, depth, *np.exp(ends_of(found)[:, None] / depth), color=look.color,
                linestyle="--", linewidth=1, label=f"$c^{{1/L}}$, c = {np.exp(found.value):.2f}",
            )  # fmt: skip
    top = axes.get_ylim()[1]
    for rows, look in ((runs, OWN), (own, OURS)):
        each = [np.median(curves(seen.gains, model, FINAL), axis=0) for model in rows["model"]]
        place = np.repeat(rows["layers"].to_numpy(float), [len(values) for values in each])
        gain = np.concatenate([*each, []])
        for chosen, marker in ((gain <= top, "_"), (gain > top, "^")):
            axes.plot(
                place[chosen], np.minimum(gain[chosen], top), color=look.color, marker=marker,
                markersize=4, linestyle="none", alpha=0.6, zorder=1,
            )  # fmt: skip
    axes.plot([], [], color=BLACK, marker="_", linestyle="none", label="every block")
    axes.axhline(1, color=BLACK, linewidth=0.8)
    axes.set(title="Kleiber's law: gain over depth", xlabel="blocks $L$", ylabel=GAIN)
    log_axes(axes, "xy")
    sweep = old[old["table"] == "sweep"]
    of_depth, of_density = (
        sweep["value"].corr(sweep[name].astype(float)) for name in ("layers", "rho")
    )
    r, p = (printed(seen, "printed", f"kleiber_{name}", "pythia") for name in "rp")
    key(
        axes,
        f"published r = {r:.2f}, p = {p:.3f}; of these points {of_depth:.2f} with L, "
        f"{of_density:.2f} with head density",
        said(seen, "gain_with_layers", "ours, r with L"),
        said(seen, "controlled_gain_per_inverse_layers", "controlled, ln gain per 1/L"),
    )
    return drawn


def heritage(axes: Axes, seen: Seen) -> Rows:
    """Figure 2: gains by the lab that trained the model."""
    old, last, own = published_gains(seen), published_last_gains(seen), measured(seen)
    labs = [lab for lab in LABS if lab in {*old["lab"], *last["lab"], *own["lab"]}]
    labs += sorted({*own["lab"]} - set(labs))
    place = {lab: -i for i, lab in enumerate(labs)}
    drawn = []
    for rows, look, centre, marker, quantity in (
        (old, PUBLISHED_A, 0.25, "o", "gain_published_a"),
        (last, PUBLISHED_B, 0.05, "s", "gain_published_b"),
        (own, OURS, -0.2, "o", "gain_final"),
    ):
        rank = rows.groupby("lab")["value"].rank(pct=True, method="first")
        y = rows["lab"].map(place).astype(float) + centre + 0.25 * (rank - 0.5)
        drawn.append(points(axes, y, rows, look, quantity=quantity, along="y", marker=marker))
    means = {lab: found for lab in labs if (found := number(seen, f"log_gain_lab_{slug(lab)}"))}
    for lab, found in means.items():
        value, low, high = np.exp(ends_of(found))
        axes.errorbar(
            value, place[lab] - 0.4, xerr=[[value - low], [high - value]], color=BLACK, marker="D",
            markersize=4, capsize=3, linestyle="none",
            label="mean of the lab, ours" if lab == next(iter(means)) else None,
        )  # fmt: skip
    share = of(seen, "hunt", "share_dampening").set_index("model")["value"]
    names = [
        LABS.get(lab, lab) + (f"\npublished {share[lab]:.0%} dampen" if lab in share else "")
        for lab in labs
    ]
    axes.axvline(1, color=BLACK, linewidth=0.8)
    axes.set_yticks(list(place.values()), names)
    axes.set(title="training heritage", xlabel=GAIN, ylim=(-len(labs) + 0.4, 0.6))
    log_axes(axes, "x")
    key(
        axes,
        said(seen, "log_gain_eleutherai_minus_others", "EleutherAI minus others, ln gain"),
        said(seen, "heritage_p_families", "exact p, families as units"),
    )
    return drawn


def spectral(axes: Axes, seen: Seen) -> Rows:
    """Figure 3: the last block's gain over the ratio of norms of value and output matrices."""
    old = of(seen, "spectra", "spectral_ratio")
    gain = published_gains(seen).set_index("model").reindex(old["model"]).reset_index()
    known = old.assign(**{end: gain[end] for end in ("value", "low", "high")})
    drawn = [points(axes, old["value"], known, PUBLISHED_A, quantity="gain_published_a")]
    lacking = old[known["value"].isna()]
    axes.plot(
        lacking["value"], np.full(len(lacking), 0.02), marker="|", markersize=9, color=GREY,
        linestyle="none", transform=axes.get_xaxis_transform(),
        label="published, no gain" if len(lacking) else None,
    )  # fmt: skip
    for rows, look in ((measured(seen, controlled=True), OWN), (measured(seen), OURS)):
        ratio = np.exp(rows["log_spectral_ratio_of_means"])
        drawn.append(points(axes, ratio, rows, look, quantity="gain_final"))
    axes.axhline(1, color=BLACK, linewidth=0.8)
    axes.set(
        title="spectral signature", ylabel=GAIN,
        xlabel=r"mean $|W_V|_2$ over mean $|W_O|_2$ of the layers",
    )  # fmt: skip
    log_axes(axes, "xy")
    key(
        axes,
        said(seen, "gain_with_spectral_ratio_of_means", "rank correlation with gain"),
        said(seen, "controlled_gain_with_spectral_ratio", "controlled"),
    )
    return drawn


def layer_dynamics(axes: Axes, seen: Seen) -> Rows:
    """Figure A1: gains block by block."""
    others(axes, seen, seen.gains, FINAL)
    drawn = []
    for quantity, look in (
        (FINAL, Look(name_of(seen, seen.shown), BLUE)),
        ("gain_first", Look("its first token", SKY, "--")),
        ("published_c", Look("its whole sequence (G-c)", RED, ":")),
    ):
        drawn += profile(axes, seen.gains, seen.shown, quantity, look)
    old = published_gains(seen)
    place = (old["layers"] - 1) / old["layers"]
    drawn.append(points(axes, place, old, PUBLISHED_A, quantity="gain_published_a"))
    if blocks := curves(seen.gains, seen.shown, FINAL).shape[1]:
        axes.axhline(
            10 ** (1 / blocks), color=BLACK, linestyle=":", linewidth=1,
            label=f"{LAW.label} of its depth",
        )  # fmt: skip
    axes.axhline(1, color=BLACK, linewidth=0.8)
    axes.set(
        title="layer dynamics", xlabel="block over number of blocks",
        ylabel=r"gain of a block, $|x_l| / |x_{l-1}|$ (stretched about 1)",
    )  # fmt: skip
    stretched(axes)
    key(
        axes,
        said(seen, "share_of_blocks_over_bound", "share of its blocks over 10^(1/L)", seen.shown),
    )
    return drawn


def turning_layer(axes: Axes, seen: Seen) -> Rows:
    """Figure A2: the turning layer that the printed formula predicts over the one there is."""
    found = of(seen, "turning", "turning")
    layers, heads = (
        found["model"].map(of(seen, "turning", name).set_index("model")["value"])
        for name in ("layers", "heads")
    )
    old = found.assign(value=(found["value"] + 1) / layers).dropna(subset=["value"])
    share = formula(layers[old.index], heads[old.index])
    drawn = [points(axes, share, old, PUBLISHED, quantity="turning_share", along="y")]
    for controlled, look in ((True, OWN), (False, OURS)):
        rows = turning_shares(seen, controlled)
        share = formula(rows["layers"], rows["heads"])
        drawn.append(points(axes, share, rows, look, quantity="turning_share", along="y"))
    right = np.linspace(0.1, 1, 50)
    axes.plot(right, right, color=BLACK, linewidth=0.8, label="right")
    for constant, line in ((0.5, ":"), (0.7, "--")):
        axes.axhline(
            constant, color=GREEN, linestyle=line, linewidth=1, label=f"constant {constant:g}"
        )
    top = max(1.15, axes.get_ylim()[1])
    axes.axhspan(1, top, color=RED, alpha=0.08, linewidth=0, label="beyond the last block")
    axes.set(
        title=r"turning layer $L^*$", xlim=(0, 1.05), ylim=(0.3, top),
        xlabel=r"$L^* / L$, steepest trace", ylabel=r"printed formula (v3) over $L$",
    )  # fmt: skip
    log_axes(axes, "y")
    key(
        axes,
        said(seen, "turning_error_printed", "error over observed"),
        said(seen, "controlled_turning_error_printed", "controlled"),
        said(seen, "controlled_turning_error_half", "controlled, of L/2"),
    )
    return drawn


def pythia_scaling(axes: Axes, seen: Seen) -> Rows:
    """Figure A3: gains over size of one published family, and of the controlled family."""
    published = ("sweep", "gain_published_a")
    drawn = over_size(axes, seen, published, PUBLISHED_A, lambda rows: rows, "gain_final")
    axes.axhline(1, color=BLACK, linewidth=0.8)
    axes.set(title="size: Pythia, and the controlled family", ylabel=GAIN)
    log_axes(axes, "xy")
    key(
        axes,
        said(seen, "sweep_block_exponent", "exponent of Pythia, ours"),
        said(seen, "controlled_gain_per_log_layers", "controlled, ln gain per ln L"),
        said(seen, "controlled_gain_per_log_width", "controlled, ln gain per ln width"),
    )
    return drawn


def input_robustness(axes: Axes, seen: Seen) -> Rows:
    """Figure A4: gains by category of prompts and, of one model, of prompts that are controls."""
    drawn = []
    models = seen.published.loc[seen.published["table"] == "categories", "model"].unique()
    for model, marker in zip(models, "osD^vP<>", strict=False):
        rows = pd.concat([of(seen, "categories", f"gain_{name}", model) for name in COMPLEXITY])
        look = Look(f"published, {name_of(seen, model)}", GREY)
        drawn.append(
            points(axes, range(len(rows)), rows, look, marker=marker, quantity="gain_published_b")
        )
    label: str | None = "other models"
    for model in measured(seen)["model"]:
        if model != seen.shown:
            rows = by_category(seen, model, FINAL, list(COMPLEXITY))
            axes.plot(range(len(rows)), rows["value"], color=BLUE, linewidth=0.6, alpha=0.5,
                      label=label)  # fmt: skip
            label = None
    there = set(seen.gains.loc[seen.gains["model"] == seen.shown, "category"])
    names = [*COMPLEXITY, *(name for name in CONTROLS if name in there)]
    for quantity, text, filled in (
        (FINAL, name_of(seen, seen.shown), True),
        ("published_b", "its last token (G-b)", False),
    ):
        rows = by_category(seen, seen.shown, quantity, names)
        drawn.append(
            points(axes, range(len(rows)), rows, Look(text, BLUE), filled=filled, quantity=quantity)
        )
    axes.axvline(len(COMPLEXITY) - 0.5, color=GREY, linewidth=0.8, linestyle=":")
    axes.axhline(1, color=BLACK, linewidth=0.8)
    shown: list[Any] = [CONTROLS.get(name, name) for name in names]
    axes.set_xticks(range(len(names)), shown, rotation=35, ha="right")
    axes.set(title="input robustness, and controls", ylabel=GAIN)
    log_axes(axes, "y")
    key(
        axes,
        said(seen, "share_of_prompts_with_one_sign", "prompts on one side of 1", seen.shown),
        said(seen, "log_category_over_model", "ln spread, categories over models"),
    )
    return drawn


def sheaf_trace(axes: Axes, seen: Seen) -> Rows:
    """Figure A5: trace of the sheaf Laplacian by layer, and the printed formula, which is zero."""
    others(axes, seen, seen.sheaf, "trace")
    drawn = []
    for quantity, look in (
        ("trace", Look(name_of(seen, seen.shown), BLUE)),
        ("trace_normalised", Look(r"its trace over $|W_V|_F^2$", GREEN)),
        ("trace_proxy", Look(r"its proxy, $|W_V|_2^2$", SKY, "--")),
    ):
        drawn += profile(axes, seen.sheaf, seen.shown, quantity, look)
    zero = np.abs(curves(seen.sheaf, seen.shown, "trace_zero"))
    if zero.size:
        mean = zero.mean(axis=0)
        axes.plot(
            depths(mean), np.where(mean > 0, mean, np.nan), color=RED, linestyle=":",
            label="its trace as printed, size",
        )  # fmt: skip
    old = of(seen, "spectra", "trace")
    drawn.append(points(axes, np.full(len(old), 1.06), old, PUBLISHED, quantity="trace"))
    axes.set(
        title="sheaf trace", xlabel="layer over number of layers", ylabel="trace", yscale="log"
    )
    key(
        axes,
        said(seen, "gain_with_trace_normalised", "normalised, rank correlation with gain"),
    )
    return drawn


def formula(layers: pd.Series, heads: pd.Series) -> Array:
    """The printed formula's share of depth (v3), with layers counted from 1."""
    depth, width = (np.asarray(values, float) for values in (layers, heads))
    return (PRINTED["v3"](depth, width, np.ones_like(depth)) + 1) / depth
