"""Planted truths, falsehoods and undecidable tables: each statistic says which it was given."""

import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from tgn.constraints.associations import Undecidable
from tgn.constraints.controlled import groups, within_slope
from tgn.constraints.pairs import log_spread_ratio
from tgn.constraints.summary import ask, summarise
from tgn.constraints.tables import COMPLEXITY, answered, by_block, turning_layer
from tgn.statistics import Statistic, read_statistics

TEN = np.log(10.0)
PROMPTS = [f"{category}-{i:02}" for category in COMPLEXITY for i in range(1, 6)]
CATEGORIES = [category for category in COMPLEXITY for _ in range(5)]


def model(name: str, lab: str = "lab", family: str = "family", **more) -> dict:
    sizes = {"layers": 12, "heads": 8, "kv_heads": 8, "head_dim": 32, "width": 256}
    record = {"model": name, "lab": lab, "family": family} | sizes
    record |= {"mlp_width": 1024, "parameters": 10_000_000, "norm_position": "pre"}
    record |= {"parallel": False, "status": "ok", "reason": None, "nan_layers": [], "missing": {}}
    record |= more
    record["rho"] = more.get("rho", record["heads"] / record["head_dim"])
    return {"rho_kv": record["rho"], "rho_published": record["rho"]} | record


def blocks(record: dict, log_gain: float, rng: np.random.Generator, noise: float) -> pd.DataFrame:
    """Gains of every block; the last one has the planted mean over prompts."""
    layers = np.arange(1, record["layers"] + 1)
    means = np.where(layers == layers[-1], log_gain, 0.02)
    values = np.exp(means + noise * rng.normal(size=(len(PROMPTS), len(layers))))
    return pd.DataFrame(
        {
            "prompt": np.repeat(PROMPTS, len(layers)),
            "category": np.repeat(CATEGORIES, len(layers)),
            "layer": np.tile(layers, len(PROMPTS)),
            "value": values.ravel(),
        }
    )


def rows(record: dict, long: pd.DataFrame, quantity: str) -> pd.DataFrame:
    return long.assign(model=record["model"], quantity=quantity)


def whole(record: dict, values: np.ndarray, quantity: str) -> pd.DataFrame:
    named = {"prompt": PROMPTS, "category": CATEGORIES, "layer": -1, "value": values}
    return rows(record, pd.DataFrame(named), quantity)


EMPTY = {
    "spectra": pd.DataFrame(columns=["model", "layer", "head", "quantity", "value"]),
    "sheaf": pd.DataFrame(columns=["model", "prompt", "layer", "quantity", "value"]),
    "turning": pd.DataFrame(columns=["model", "prompt", "definition", "layer", "status", "reason"]),
}


class Planted:
    """Answers to planted tables, asked for one by one: by question and model."""

    def __init__(self, records: list[dict], gains: pd.DataFrame, twins=(), **tables):
        self.models, asked = ask(
            records,
            gains,
            **(EMPTY | tables),
            evidence={},
            across="all",
            controlled="controlled",
            twins=twins,
            resamples=150,
            seed=1,
        )
        self.questions = {group.model: group.questions for group in asked}

    def _answer(self, name: str, model: str) -> tuple[list[Statistic], list[dict[str, str]]]:
        return answered({name: self.questions[model][name]}, model=model, evidence="real")

    def __getitem__(self, key: tuple[str, str]) -> Statistic:
        (statistic,), _ = self._answer(*key)
        return statistic

    def why_not(self, name: str, model: str = "all") -> str:
        _, (reason,) = self._answer(name, model)
        return reason["reason"]


def planted(
    records: list[dict],
    log_gain: Callable[[dict], float],
    *,
    noise: float = 0.02,
    extra: list[pd.DataFrame] | None = None,
    **more,
) -> Planted:
    """Models with the planted gains of their last blocks."""
    rng = np.random.default_rng(0)
    gains = [*(extra or [])]
    for record in records:
        own = rows(record, blocks(record, log_gain(record), rng, noise), "gain_median")
        product = own.groupby("prompt")["value"].prod().loc[PROMPTS].to_numpy()
        gains += [own, whole(record, product, "amplification")]
    return Planted(records, pd.concat(gains, ignore_index=True), **more)


def side(statistic: Statistic, bound: float = 0.0) -> str:
    if statistic.ci_low > bound:
        return "above"
    return "below" if statistic.ci_high < bound else "open"


LABS = ["eleutherai", "meta", "openai", "google"]


def zoo(**more) -> list[dict]:
    """Four labs of three families each, two models a family; depth and density independent."""
    rng = np.random.default_rng(7)
    made = []
    for lab in LABS:
        for family in range(3):
            for size in range(2):
                layers, heads = int(rng.integers(3, 20)), int(rng.integers(2, 33))
                made.append(
                    model(
                        f"{lab}-{family}-{size}",
                        lab,
                        f"f{family}",
                        layers=layers,
                        heads=heads,
                        head_dim=64,
                        width=64 * heads,
                        parameters=int(1e7 * 10 ** rng.uniform(0, 2)),
                        **more,
                    )
                )
    return made


# --- one model -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("log_gain", "sign"), [(0.2, "expand"), (-0.2, "dampen"), (0.0, "undetermined")]
)
def test_the_sign_of_the_last_block(log_gain, sign):
    found = planted([model("m")], lambda _: log_gain)
    final = found["log_gain_final", "m"]
    assert sign in final.note
    assert final.value == pytest.approx(log_gain, abs=0.02)
    assert found["share_of_prompts_with_one_sign", "m"].value == pytest.approx(
        0.5 if sign == "undetermined" else 1.0, abs=0.25
    )


@pytest.mark.parametrize(("log_gain", "expected"), [(0.5, "above"), (0.1, "below")])
def test_the_bound_of_a_block(log_gain, expected):
    found = planted([model("m")], lambda _: log_gain)
    assert side(found["log_gain_over_bound", "m"]) == expected  # of 10^(1/12), whose ln is 0.19
    share = found["share_of_blocks_over_bound", "m"].value
    assert share == pytest.approx(1 / 12 if expected == "above" else 0.0)


def test_a_category_of_the_other_sign_is_found():
    record = model("m")
    found = planted([record], lambda _: 0.2)
    assert side(found["log_gain_of_worst_category", "m"]) == "above"
    table = blocks(record, 0.2, np.random.default_rng(0), 0.02)
    novel = table["prompt"].str.startswith("novel") & (table["layer"] == 12)
    table.loc[novel, "value"] = np.exp(-0.3)
    contrary = Planted([record], rows(record, table, "gain_median"))
    worst = contrary["log_gain_of_worst_category", "m"]
    assert side(worst) == "below"


@pytest.mark.parametrize(("log_gain", "expected"), [(0.6, "above"), (0.2, "open"), (-0.2, "below")])
def test_neutral_statements_are_held_against_the_others(log_gain, expected):
    record = model("m")
    neutral = blocks(record, log_gain, np.random.default_rng(1), 0.05).head(6 * 12)
    neutral = neutral.assign(category="neutral", prompt="neutral " + neutral["prompt"])
    extra = [rows(record, neutral, "gain_median")]
    found = planted([record], lambda _: 0.2, noise=0.05, extra=extra)
    assert side(found["log_gain_neutral_minus_others", "m"]) == expected
    assert found["log_gain_final", "m"].value == pytest.approx(0.2, abs=0.05)  # without them
    few = [rows(record, neutral.head(4 * 12), "gain_median")]
    found = planted([record], lambda _: 0.2, extra=few)
    assert "4 prompts" in found.why_not("log_gain_neutral_minus_others", "m")


def test_prompts_of_one_token_have_the_gain_of_the_first():
    record = model("m")
    table = blocks(record, 0.4, np.random.default_rng(1), 0.02)
    extra = [
        rows(record, table.assign(category=category, value=table["value"] * times), "gain_first")
        for category, times in (("first_token", 1.0), ("shuffled_tokens", 3.0))
    ]
    found = planted([record], lambda _: 0.1, extra=extra)
    alone = found["log_gain_final_first_token", "m"]
    assert alone.value == pytest.approx(0.4, abs=0.02)
    assert alone.ci_low < alone.value < alone.ci_high
    assert "gain_median was not measured" in found.why_not("log_gain_final_shuffled_tokens", "m")


@pytest.mark.parametrize("times", [300.0, 1.0])
def test_late_values_of_one_lab(times):
    rng, parts = np.random.default_rng(4), []
    for record in zoo():
        layers = np.arange(1, record["layers"] + 1)
        late = (layers > 2 / 3 * len(layers)) & (record["lab"] == "eleutherai")
        norms = np.where(late, times, 1.0) * np.exp(0.1 * rng.normal())
        named = {"model": record["model"], "prompt": "p", "layer": layers, "value": norms}
        parts.append(pd.DataFrame(named).assign(quantity="trace_proxy"))
    found = planted(zoo(), lambda _: 0.1, sheaf=pd.concat(parts))
    late = found["log_late_proxy_eleutherai_minus_others", "all"]
    assert late.value == pytest.approx(np.log(times), abs=0.2)


@pytest.mark.parametrize("planted_slope", [0.3, 0.0])
def test_gain_along_entropy_is_not_along_length(planted_slope):
    """Entropy goes with length; only what goes with entropy at equal length counts."""
    record, rng = model("m"), np.random.default_rng(5)
    length = rng.integers(5, 25, size=25).astype(float)
    entropy = 0.1 * length + rng.normal(size=25)
    table = blocks(record, 0.0, rng, 0.02)
    last = table["layer"] == 12
    effect = planted_slope * entropy + 0.05 * length
    table.loc[last, "value"] *= np.exp(
        pd.Series(effect, index=PROMPTS).loc[table.loc[last, "prompt"]].to_numpy()
    )
    gains = pd.concat(
        [
            rows(record, table, "gain_median"),
            whole(record, length, "tokens"),
            whole(record, entropy, "entropy"),
        ]
    )
    found = Planted([record], gains)
    expected = "above" if planted_slope else "open"
    assert side(found["gain_with_entropy", "m"]) == expected
    assert found["entropy_novel_minus_cliche", "m"].n == 10


def test_what_is_not_applicable_failed_or_not_finite_is_said():
    post = model("post", norm_position="post", status="not_applicable", reason="post-norm")
    failed = model("failed", status="failed", reason="does not load")
    broken = model("broken")
    bad = rows(broken, blocks(broken, 0.1, np.random.default_rng(0), 0.02), "gain_mean")
    bad.loc[bad["layer"] == 3, "value"] = np.nan
    found = planted([post, broken], lambda _: 0.1, extra=[bad])
    assert "post-norm" in found.why_not("log_gain_final", "post")
    assert set(found.models["sign"]) == {"expand", "not applicable"}
    assert side(found["log_gain_final", "broken"]) == "above"
    assert found.why_not("log_gain_final_mean", "broken") == "gain_mean is not finite in blocks [3]"
    found = planted([failed, broken], lambda _: 0.1)
    assert "does not load" in found.why_not("log_gain_final", "failed")


def test_a_model_of_one_block():
    found = planted([model("m", layers=1)], lambda _: 0.1)
    assert found["log_gain_final", "m"].value == pytest.approx(0.1, abs=0.02)
    assert "not measured" in found.why_not("log_gain_published_a_minus_b", "m")


@pytest.mark.parametrize("sign", [1.0, -1.0, 0.0])
def test_spectra_over_the_layers_of_a_model(sign):
    record, rng = model("m", layers=24), np.random.default_rng(3)
    table = blocks(record, 0.0, rng, 0.3)
    log_gain = np.log(table.pivot(index="prompt", columns="layer", values="value")).median()
    ratio = np.exp(sign * 5 * log_gain + 0.05 * rng.normal(size=24))
    norms = {"spectral_v": ratio, "spectral_o": np.ones(24), "spectral_ov": ratio}
    spectra = pd.concat(
        pd.DataFrame(
            {"model": "m", "layer": range(1, 25), "head": head, "quantity": name, "value": value}
        )
        for name, value in norms.items()
        for head in (-1, 0, 1)
    )
    found = Planted([record], rows(record, table, "gain_median"), spectra=spectra)
    expected = {1.0: "above", -1.0: "below", 0.0: "open"}[sign]
    for name in ("spectral_ratio_over_layers", "spectral_product_over_layers_at_depth"):
        assert side(found[name, "m"]) == expected


def test_the_printed_trace_and_the_contraction():
    record, rng = model("m"), np.random.default_rng(0)
    long = blocks(record, 0.0, rng, 0.01).assign(model="m")
    sheaf = pd.concat(
        long.assign(quantity=name, value=long["value"] * size)
        for name, size in {"trace": 100.0, "trace_zero": 1e-9, "contraction": 0.3}.items()
    )
    turning = pd.DataFrame(
        {"model": "m", "prompt": [*PROMPTS, "mean"], "definition": "steepest_trace",
         "layer": [4.0, 5.0, 6.0, 5.0, 5.0] * 5 + [5.0], "status": "ok", "reason": ""}
    )  # fmt: skip
    found = planted([record], lambda _: 0.1, sheaf=sheaf, turning=turning)
    assert found["printed_trace_over_trace", "m"].ci_high < 0.1
    for name in ("contraction_highest", "contraction_before_turning", "contraction_after_turning"):
        assert side(found[name, "m"], bound=1.0) == "below"
    assert found["turning_share", "m"].value == pytest.approx(5 / 12)
    refused = turning.assign(status="failed", reason="not finite in layers 7", layer=np.nan)
    found = planted([record], lambda _: 0.1, sheaf=sheaf, turning=refused)
    assert "not finite in layers 7" in found.why_not("contraction_after_turning", "m")


def test_reading_refuses_what_is_not_there():
    record = model("m")
    table = rows(record, blocks(record, 0.1, np.random.default_rng(0), 0.0), "gain_median")
    assert by_block(table, "gain_median").shape == (25, 12)
    with pytest.raises(Undecidable, match="gain_mean was not measured"):
        by_block(table, "gain_mean")
    with pytest.raises(Undecidable, match="not measured"):
        turning_layer(EMPTY["turning"])


# --- the depth law -------------------------------------------------------------------------------


def test_depth_law_planted_true():
    found = planted(zoo(), lambda m: TEN / m["layers"], noise=0.005)
    constant = found["log_depth_constant", "all"]
    assert constant.ci_low < TEN < constant.ci_high
    assert constant.ci_high - constant.ci_low < 0.2
    for name in ("gain_with_layers", "gain_with_layers_rank", "gain_with_layers_given_rho"):
        assert side(found[name, "all"]) == "below"
    assert side(found["gain_with_inverse_layers_given_rho", "all"]) == "above"
    assert side(found["gain_with_law", "all"]) == "above"
    assert side(found["depth_minus_width_prediction", "all"]) == "above"
    assert side(found["gain_per_inverse_layers", "all"]) == "above"
    assert side(found["depth_minus_density_prediction", "all"]) == "above"
    assert side(found["gain_with_rho_given_layers", "all"]) == "open"


def test_density_law_planted_instead():
    found = planted(zoo(), lambda m: 0.1 - 0.5 * m["rho"], noise=0.005)
    assert side(found["depth_minus_density_prediction", "all"]) == "below"
    assert side(found["gain_with_rho_given_layers_rank", "all"]) == "below"
    assert side(found["gain_with_layers_given_rho", "all"]) == "open"
    critical = found["critical_density", "all"]  # where 0.1 - 0.5 rho is 0
    assert critical.value == pytest.approx(0.2, abs=0.04)
    assert found["density_area_under_curve", "all"].value > 0.95


def test_no_law_planted():
    draw = np.random.default_rng(2)
    found = planted(zoo(), lambda m: 0.2 * draw.normal())
    for name in ("gain_with_layers", "gain_with_rho", "depth_minus_density_prediction"):
        assert side(found[name, "all"]) == "open"
    assert side(found["sign_by_lab_over_chance", "all"]) != "above"


@pytest.mark.parametrize(("log_gain", "expected"), [(0.05, "below"), (4.0, "above")])
def test_the_worst_model_decides_what_holds_of_all(log_gain, expected):
    worst = zoo()[3]["model"]
    found = planted(zoo(), lambda m: log_gain if m["model"] == worst else 0.01)
    product = found["worst_log_amplification", "all"]
    assert side(product, bound=TEN) == expected
    for blocks_of in ("worst", "worst_inner", "worst_final"):
        assert side(found[f"{blocks_of}_log_gain_over_bound", "all"]) == expected
    if expected == "above":
        assert worst in product.note


# --- heritage ------------------------------------------------------------------------------------


def of_lab(m: dict) -> float:
    return -0.2 if m["lab"] == "eleutherai" else 0.2


def test_heritage_planted_true():
    found = planted(zoo(), of_lab)
    assert side(found["sign_by_lab_over_chance", "all"]) == "above"
    assert side(found["log_gain_lab_eleutherai", "all"]) == "below"
    assert side(found["log_gain_lab_meta", "all"]) == "above"
    assert side(found["log_gain_eleutherai_minus_others", "all"]) == "below"
    assert side(found["heritage_minus_geometry", "all"]) == "above"
    assert found["heritage_p_permuted", "all"].value < 0.05
    assert found["heritage_p_families", "all"].value < 0.05
    assert found["share_dampening_eleutherai", "all"].value == 1.0
    assert found["share_dampening_others", "all"].value == 0.0


def test_heritage_planted_false():
    found = planted(zoo(), lambda m: 1.5 / m["layers"] - 0.15, noise=0.005)
    assert side(found["heritage_minus_geometry", "all"]) == "below"
    assert side(found["geometry_minus_scale", "all"]) == "above"
    assert found["heritage_p_permuted", "all"].value > 0.05


def test_a_lab_that_cannot_be_left_out_is_named():
    records = [m for m in zoo() if m["lab"] == "eleutherai" or m["family"] == "f0"]
    records += [m for m in zoo() if m["lab"] == "meta" and m["family"] != "f0"]
    both = planted(records, of_lab)["heritage_p_leave_one_lab_out", "all"]
    assert "two families" not in both.note
    alone = planted([m for m in records if m["lab"] in ("eleutherai", "meta")], of_lab)
    assert "none has two families left" in alone.why_not("heritage_p_leave_one_lab_out")
    rest = [m for m in records if m["lab"] != "meta" or m["family"] == "f0"]
    one = planted(rest, of_lab)["heritage_p_leave_one_lab_out", "all"]
    assert one.note.endswith("no other has two families without eleutherai")


@pytest.mark.parametrize("most", ["heritage", "geometry", "scale"])
def test_one_mixed_model_holds_heritage_geometry_and_scale(most):
    effects = {
        "heritage": lambda m: 0.2 * (-1) ** (ord(m["lab"][0]) + int(m["lab"][-1])),
        "geometry": lambda m: 1.5 / m["layers"],
        "scale": lambda m: 0.1 * np.log(m["parameters"] / 1e8),
    }
    records = [m | {"lab": f"{m['lab']}-{m['family'][1]}"} for m in zoo()]  # twelve labs
    found = planted(records, effects[most], noise=0.005)
    shares = {name: found[f"mixed_share_{name}", "all"].value for name in effects}
    assert max(shares, key=shares.get) == most
    assert 0.7 < shares[most] <= sum(shares.values()) < 1
    few = planted(zoo(), effects["geometry"])
    assert "4 labs, of which 4 have several models" in few.why_not(f"mixed_share_{most}")


def test_models_of_a_family_are_not_independent():
    """Ten dampers of one family prove nothing about their lab."""
    records = [model(f"pythia-{i}", "eleutherai", "gpt_neox") for i in range(10)]
    records += [model(f"{lab}-{i}", lab, "f") for lab in LABS[1:] for i in range(3)]
    found = planted(records, of_lab)
    assert found["heritage_p_models", "all"].value < 0.001
    assert found["heritage_p_families", "all"].value > 0.05
    for name in ("log_gain_lab_eleutherai", "heritage_p_permuted", "heritage_minus_geometry",
                 "sign_by_lab_over_chance"):  # fmt: skip
        assert found.why_not(name)


def test_one_model_decides_nothing_over_models():
    found = planted([model("m", "huggingface")], lambda _: 0.1)
    # what a law says of all models is tested on the worst there is; every other number is refused
    decided = {name for name in found.questions["all"] if found._answer(name, "all")[0]}
    assert decided == {
        "worst_log_amplification",
        "worst_log_gain_over_bound",
        "worst_inner_log_gain_over_bound",
        "worst_final_log_gain_over_bound",
        "share_dampening_others",
    }
    assert "fewer than two models have" in found.why_not("gain_with_layers", "all")
    assert "takes 6" in found.why_not("log_depth_constant", "all")
    assert "no model of eleutherai" in found.why_not("log_gain_lab_eleutherai", "all")


@pytest.mark.parametrize(
    "records",
    [
        [model("failed", status="failed", reason="does not load")],
        [model("a"), model("b", norm_position="post")],
        [model(f"ours-{i}", "ours", "controlled") for i in range(1)],
        [model(f"ours-{i}", "ours", "controlled", layers=i + 1) for i in range(3)],
        [model(f"pythia-{i}", "eleutherai", "gpt_neox") for i in range(3)],
    ],
    ids=["failed", "post-norm", "one run", "three runs", "one family"],
)
def test_every_question_to_few_models_is_answered_or_says_why_not(records):
    asked = planted(records, lambda _: 0.1, extra=[whole(model("other"), np.ones(25), "loss")])
    for name, questions in asked.questions.items():
        found, undecided = answered(questions, model=name, evidence="real")
        assert len(found) + len(undecided) == len(questions)
        assert all(np.isfinite(statistic.value) for statistic in found)
        assert all(row["reason"] for row in undecided)


# --- spectra, traces, twins, categories ----------------------------------------------------------


@pytest.mark.parametrize("sign", [1.0, -1.0, 0.0])
def test_spectral_ratio_over_models(sign):
    rng = np.random.default_rng(8)
    records = zoo()
    gain = {m["model"]: 0.3 * rng.normal() for m in records}
    spectra = pd.concat(
        pd.DataFrame({"model": m["model"], "layer": [1, 2], "head": -1, "quantity": name,
                      "value": np.exp(sign * 3 * gain[m["model"]]) if name == "spectral_v" else 1.0
                      + 0.1 * rng.uniform()})
        for m in records for name in ("spectral_v", "spectral_o")
    )  # fmt: skip
    found = planted(records, lambda m: gain[m["model"]], spectra=spectra)
    expected = {1.0: "above", -1.0: "below", 0.0: "open"}[sign]
    assert side(found["gain_with_spectral_ratio_of_means", "all"]) == expected
    assert side(found["gain_with_spectral_mean_of_ratios", "all"]) == expected
    contrary = {1.0: "below", -1.0: "above", 0.0: "open"}[sign]
    assert side(found["log_ratio_dampening_minus_expanding", "all"]) == contrary


def test_ratios_of_both_norms_of_full_matrices_and_of_heads():
    sizes = {
        ("spectral", -1): 2.0,
        ("spectral", 0): 3.0,
        ("frobenius", -1): 5.0,
        ("frobenius", 0): 7.0,
    }
    spectra = pd.DataFrame(
        {"model": "m", "layer": layer, "head": head, "quantity": f"{norm}_{part}",
         "value": size * layer if part == "v" else layer**2}
        for (norm, head), size in sizes.items() for part in "vo" for layer in (1, 2)
    )  # fmt: skip
    (row,) = planted([model("m")], lambda _: 0.1, spectra=spectra).models.to_dict("records")
    for (norm, head), size in sizes.items():
        name = f"log_{norm}{'' if head < 0 else '_heads'}"
        assert row[f"{name}_ratio_of_means"] == pytest.approx(np.log(size * 3 / 5))
        assert row[f"{name}_mean_of_ratios"] == pytest.approx(np.log(size * 3 / 4))


def test_twins_in_the_chat_template_are_held_against_plain_bases():
    base, tuned = model("base"), model("tuned")
    chat = blocks(tuned, 0.5, np.random.default_rng(1), 0.02).assign(category="chat")
    gain = {"base": 0.2, "tuned": 0.1}
    found = planted([base, tuned], lambda m: gain[m["model"]], twins=[("base", "tuned")],
                    extra=[rows(tuned, chat, "gain_median")])  # fmt: skip
    assert found["twin_change_tuned", "all"].value == pytest.approx(-0.1, abs=0.02)
    assert found["twin_change_tuned_chat", "all"].value == pytest.approx(0.3, abs=0.02)
    assert found["twin_largest_change_chat", "all"].value == pytest.approx(0.3, abs=0.02)
    assert side(found["twin_sign_kept_chat", "all"]) == "above"
    plain = planted([base, tuned], lambda m: 0.1, twins=[("base", "tuned")])
    assert "tuned in its chat template was not measured" in plain.why_not("twin_change_tuned_chat")


@pytest.mark.parametrize(
    ("tuned_gain", "expected"), [(-0.1, "above"), (0.1, "below"), (0.0, "open")]
)
def test_twins_of_a_damper(tuned_gain, expected):
    base, tuned = model("base", "eleutherai"), model("tuned", "eleutherai")
    gain = {"base": -0.2, "tuned": tuned_gain}
    twins = [("base", "tuned"), ("absent", "absent-chat")]
    found = planted([base, tuned], lambda m: gain[m["model"]], twins=twins, noise=0.05)
    assert side(found["twin_sign_kept_by_dampers", "all"]) == expected
    change = found["twin_change_tuned", "all"]
    assert change.value == pytest.approx(tuned_gain + 0.2, abs=0.05)
    assert "absent" in found.why_not("twin_change_absent_chat", "all")


def test_twins_without_a_damper_do_not_say_that_one_stays():
    found = planted([model("base"), model("tuned")], lambda _: 0.2, twins=[("base", "tuned")])
    assert side(found["twin_sign_kept", "all"]) == "above"
    assert found.why_not("twin_sign_kept_by_dampers", "all") == "no pair whose base clearly dampens"


def test_category_against_model():
    apart = planted(zoo(), lambda m: 0.05 * m["heads"] - 0.5, noise=0.01)
    assert side(apart["log_category_over_model", "all"]) == "below"
    alike = planted(zoo(), lambda m: 0.1, noise=0.3)
    assert side(alike["log_category_over_model", "all"]) != "below"


@pytest.mark.parametrize("category", [0.0, 0.3])
def test_the_choice_of_prompts_is_no_difference_of_categories(category):
    """It would spread categories by 0.22 and models, which differ by 0.1, by 0.14."""
    rng = np.random.default_rng(3)
    codes, found = np.repeat(np.arange(5), 5), []
    for _ in range(60):
        effects = rng.normal(0, category, (24, 5))[:, codes] + rng.normal(0, 0.1, (24, 1))
        found.append(log_spread_ratio(effects + rng.normal(0, 0.5, (24, 25)), codes))
    if category:
        between = 0.1**2 + 0.3**2 / 5
        assert np.median(found) == pytest.approx(np.log(0.3 / np.sqrt(between)), abs=0.1)
    else:
        assert np.median(found) < 0


def test_the_sweep_over_sizes():
    records = [
        model(f"pythia-{i}", "eleutherai", "gpt_neox", parameters=int(1e7 * 4**i)) for i in range(6)
    ]
    rng = np.random.default_rng(0)
    extra = [
        rows(m, blocks(m, 0.35 * np.log(m["parameters"]) - 5, rng, 0.05), "published_mlp")
        for m in records
    ]
    found = planted(records, lambda _: 0.1, extra=extra)
    exponent = found["sweep_mlp_exponent", "all"]
    assert exponent.ci_low < 0.35 < exponent.ci_high
    assert exponent.ci_high - exponent.ci_low < 0.1
    found = planted(records[:3], lambda _: 0.1, extra=extra)
    assert "takes four" in found.why_not("sweep_mlp_exponent", "all")


# --- turning layers ------------------------------------------------------------------------------


def turning_at(records: list[dict], layer: Callable[[dict], float]) -> pd.DataFrame:
    return pd.DataFrame(
        {"model": m["model"], "prompt": "mean", "definition": "steepest_trace",
         "layer": layer(m), "status": "ok", "reason": ""} for m in records
    )  # fmt: skip


def test_the_turning_formula_planted_true_and_false():
    def formula(m: dict) -> float:
        return m["layers"] * (0.11 + 0.012 * m["layers"] + 4.9 / m["heads"]) + 1

    records = zoo()
    true = planted(records, lambda _: 0.1, turning=turning_at(records, formula))
    assert true["turning_error_printed", "all"].value == pytest.approx(0.0, abs=1e-9)
    assert side(true["turning_error_left_out_minus_constant", "all"]) == "below"
    half = turning_at(records, lambda m: m["layers"] / 2 + 1)
    false = planted(records, lambda _: 0.1, turning=half)
    assert side(false["turning_error_printed", "all"], bound=0.1) == "above"
    assert side(false["turning_error_printed_minus_constant", "all"]) != "below"
    none = planted(records, lambda _: 0.1)
    assert "0 models have a turning layer" in none.why_not("turning_error_printed")


# --- the controlled family -----------------------------------------------------------------------


def family() -> list[dict]:
    """Depth at equal width, width at equal depth, heads at equal width; three seeds each."""
    designs = {(layers, 64, 4) for layers in (2, 4, 6, 8, 12)}
    designs |= {(4, width, 4) for width in (32, 64, 128)}
    designs |= {(4, 64, heads) for heads in (1, 2, 4, 8, 16)}
    return [
        model(
            f"ours-{layers}-{width}-{heads}-s{seed}",
            "ours",
            "controlled",
            layers=layers,
            width=width,
            heads=heads,
            head_dim=width // heads,
        )
        for layers, width, heads in sorted(designs)
        for seed in range(3)
    ]


def test_controlled_depth_law():
    found = planted(family(), lambda m: TEN / m["layers"], noise=0.01)
    assert set(found.questions) == {"all", "controlled"}  # runs make no statistics of their own
    names = ("gain_per_inverse_layers", "log_depth_constant", "gain_per_log_density",
             "depth_minus_density_prediction", "gain_seed_spread")  # fmt: skip
    ours = {f"controlled_{name}": found[f"controlled_{name}", "controlled"] for name in names}
    assert side(ours["controlled_gain_per_inverse_layers"]) == "above"
    assert ours["controlled_gain_per_inverse_layers"].value == pytest.approx(TEN, rel=0.02)
    constant = ours["controlled_log_depth_constant"]
    assert constant.value == pytest.approx(TEN, rel=0.02)
    assert abs(ours["controlled_gain_per_log_density"].value) < 0.01
    assert side(ours["controlled_depth_minus_density_prediction"]) == "above"
    assert ours["controlled_gain_seed_spread"].value < 0.02


def test_controlled_crowding_and_nothing():
    ours = planted(family(), lambda m: -0.1 * m["rho"], noise=0.01)
    assert side(ours["controlled_gain_per_log_density", "controlled"]) == "below"
    assert side(ours["controlled_depth_minus_density_prediction", "controlled"]) == "below"
    draw = np.random.default_rng(0)
    none = planted(family(), lambda _: 0.1 * draw.normal())
    assert side(none["controlled_gain_per_log_density", "controlled"]) == "open"
    assert side(none["controlled_gain_per_inverse_layers", "controlled"]) == "open"


def test_a_family_in_which_nothing_varies():
    runs = [m for m in family() if m["layers"] == 4 and m["width"] == 64 and m["heads"] == 4]
    found = planted(runs, lambda _: 0.1)
    assert "takes no 3 values" in found.why_not("controlled_gain_per_inverse_layers", "controlled")


def test_groups_agree_in_all_but_one_measure():
    runs = groups(pd.DataFrame(family()), "rho")
    assert (runs.groupby("group")[["layers", "width"]].nunique() == 1).all().all()
    assert set(runs["heads"]) == {1, 2, 4, 8, 16}


def test_a_mean_for_each_group_leaves_the_slope_within():
    x = np.r_[0.0, 1.0, 2.0, 10.0, 11.0, 12.0]
    y = np.r_[0.0, 1.0, 2.0, -10.0, -9.0, -8.0]
    assert within_slope(x, y, list("aaabbb")) == pytest.approx((1.0, 1.0, 1.0))
    with pytest.raises(Undecidable, match="degrees of freedom"):
        within_slope(x[:3], y[:3], list("aaa"))


# --- files ---------------------------------------------------------------------------------------


def test_summarise_writes_what_it_found_and_why_not_the_rest(tmp_path):
    pinned = {"revision": "abc", "dtype": "float32", "prompt_sha256": "def"}
    records = [*family()[:6], model("m", "huggingface", **pinned)]
    rng = np.random.default_rng(0)
    gains = pd.concat(rows(m, blocks(m, 0.1, rng, 0.02), "gain_median") for m in records)
    paths = {"gains": gains.astype({"layer": int}), **EMPTY}
    for name, table in paths.items():
        table.to_parquet(tmp_path / f"{name}.parquet")
    for m in records:
        (tmp_path / f"{m['model']}.json").write_text(json.dumps(m))

    returned = []

    def run(folder: str) -> list[bytes]:
        made = [tmp_path / folder / name for name in ("models.parquet", "s.json", "undecided.json")]
        said = summarise(
            **{name: [str(tmp_path / f"{name}.parquet")] for name in paths},
            architecture=[str(tmp_path / f"{m['model']}.json") for m in records],
            models_table=made[0],
            statistics=made[1],
            undecided=made[2],
            evidence={"m": "simulated"},
            across="all models",
            controlled="controlled",
            twins=[["m", "m-chat"]],
            resamples=50,
            seed=3,
        )
        returned.append(said)
        return [path.read_bytes() for path in made]

    assert run("once")[1:] == run("twice")[1:]
    found = read_statistics(tmp_path / "once" / "s.json")
    assert returned[0]["models"].keys() == {m["model"] for m in records}
    assert returned[0]["models"]["m"] == pinned
    kinds = {s.model: s.evidence for s in found}
    assert kinds == {"m": "simulated", "all models": "simulated", "controlled": "real"}
    table = pd.read_parquet(tmp_path / "once" / "models.parquet")
    assert list(table["model"]) == [m["model"] for m in records]
    assert set(table["sign"]) == {"expand"}
    reasons = json.loads((tmp_path / "once" / "undecided.json").read_text())
    decided = {(s.id, s.model) for s in found}
    assert reasons
    assert not decided & {(r["id"], r["model"]) for r in reasons}
    assert all(r["reason"] for r in reasons)


def test_one_model_more_changes_no_other_models_numbers():
    one = planted([model("m")], lambda _: 0.1)
    two = planted([model("m"), model("n")], lambda _: 0.1)
    assert one["log_gain_final", "m"] == two["log_gain_final", "m"]
    with pytest.raises(ValueError, match="no model"):
        Planted([], rows(model("m"), blocks(model("m"), 0.1, np.random.default_rng(0), 0), "loss"))
    with pytest.raises(ValueError, match="more than once: m"):
        planted([model("m"), model("m")], lambda _: 0.1)
