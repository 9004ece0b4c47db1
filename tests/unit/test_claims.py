"""Every decision on planted true, false and undecidable cases; the ledger's rules; its files."""

import inspect
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tgn import config
from tgn.claims import (
    DECISIONS,
    NOT_TESTABLE,
    SCALES,
    SYSTEMS,
    Claim,
    equivalence,
    evaluate,
    interval_excludes,
    model_comparison,
    ordering,
    presence,
    read_claims,
    trend,
)
from tgn.statistics import Statistic

ROOT = Path(__file__).parents[2]
LEDGER = ROOT / "config" / "claims.yaml"
SCHEMA = ROOT / "config" / "claims.schema.json"

YES, NO, OPEN = "reproduced", "not reproduced", "inconclusive"


def stat(low, value, high, id="fig0.effect", model="toy", evidence="real", **more) -> Statistic:
    return Statistic(id, value, low, high, 50, "nats", "mean", model, evidence, **more)


def bare(value, id="fig0.effect") -> Statistic:
    return stat(None, value, None, id)


# --- the six decisions, one statistic ----------------------------------------------------------


@pytest.mark.parametrize(
    ("ends", "parameters", "verdict"),
    [
        ((0.1, 0.2, 0.3), {"side": "above"}, YES),
        ((-0.3, -0.2, -0.1), {"side": "above"}, NO),
        ((-0.1, 0.1, 0.3), {"side": "above"}, OPEN),
        ((0.0, 0.1, 0.3), {"side": "above"}, OPEN),  # touching is not beyond
        ((-0.3, -0.1, 0.0), {"side": "above"}, NO),  # at most zero is not above zero
        ((-0.3, -0.2, -0.1), {"side": "below"}, YES),
        ((0.1, 0.2, 0.3), {"side": "below"}, NO),
        ((-0.1, 0.1, 0.3), {"side": "below"}, OPEN),
        ((-0.9, -0.8, -0.7), {"side": "below", "bound": -0.693}, YES),
        ((-0.6, -0.5, -0.4), {"side": "below", "bound": -0.693}, NO),
        ((-0.9, -0.7, -0.5), {"side": "below", "bound": -0.693}, OPEN),
        ((0.1, 0.2, 0.3), {"side": "either"}, YES),
        ((-0.3, -0.2, -0.1), {"side": "either"}, YES),
        ((-0.1, 0.0, 0.1), {"side": "either"}, OPEN),
        ((-0.1, 0.1, 0.3), {"side": "either"}, OPEN),
        ((-0.1, 0.0, 0.1), {"side": "either", "smallest_effect": 0.2}, NO),
        ((-0.1, 0.0, 0.3), {"side": "either", "smallest_effect": 0.2}, OPEN),
        # no effect of the claimed size, though it differs from zero
        ((0.01, 0.02, 0.03), {"side": "above", "smallest_effect": 0.1}, NO),
        ((0.01, 0.02, 0.03), {"side": "either", "smallest_effect": 0.1}, NO),
        ((-0.03, -0.02, -0.01), {"side": "below", "smallest_effect": 0.1}, NO),
        ((-0.2, -0.1, 0.05), {"side": "below", "smallest_effect": 0.1}, OPEN),
    ],
)
def test_interval_excludes(ends, parameters, verdict):
    assert interval_excludes([stat(*ends)], **parameters).verdict == verdict


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [
        ((24.8, 24.9, 25.0), YES),
        ((24.4, 24.9, 25.4), YES),  # the margin itself still counts
        ((26.0, 27.0, 28.0), NO),
        ((22.0, 23.0, 24.0), NO),
        ((24.0, 24.9, 26.0), OPEN),
        ((25.3, 25.4, 25.5), OPEN),
    ],
)
def test_equivalence(ends, verdict):
    assert equivalence([stat(*ends)], target=24.9, margin=0.5).verdict == verdict


@pytest.mark.parametrize(
    ("values", "verdict"),
    [((1, 2, 3), YES), ((1, 3, 2), NO), ((3, 2, 1), NO), ((1, 2, 2.05), OPEN), ((1, 1, 0), NO)],
)
def test_ordering_of_independent_numbers(values, verdict):
    row = [stat(v - 0.1, v, v + 0.1, id=f"fig0.s{i}") for i, v in enumerate(values)]
    assert ordering(row, direction="increasing").verdict == verdict
    assert ordering(row[::-1], direction="decreasing").verdict == verdict


def test_an_order_does_not_need_intervals_that_keep_apart():
    """Intervals may overlap a little while their difference is clear of zero."""
    row = [stat(0, 1, 2, id="fig0.a"), stat(1.8, 2.8, 3.8, id="fig0.b")]
    assert ordering(row, direction="increasing").verdict == YES


@pytest.mark.parametrize(
    ("gaps", "verdict"),
    [
        ([(0.1, 0.2, 0.3), (0.2, 0.3, 0.4)], YES),
        ([(0.1, 0.2, 0.3), (-0.4, -0.3, -0.2)], NO),
        ([(0.1, 0.2, 0.3), (-0.1, 0.1, 0.3)], OPEN),
    ],
)
def test_ordering_of_paired_differences(gaps, verdict):
    row = [stat(*gap, id=f"fig0.gap{i}") for i, gap in enumerate(gaps)]
    assert ordering(row, direction="increasing", paired=True).verdict == verdict


@pytest.mark.parametrize(
    ("ends", "parameters", "verdict"),
    [
        ((0.1, 0.2, 0.3), {"direction": "rising"}, YES),
        ((-0.3, -0.2, -0.1), {"direction": "rising"}, NO),
        ((-0.1, 0.1, 0.3), {"direction": "rising"}, OPEN),
        ((0.01, 0.02, 0.03), {"direction": "rising", "negligible": 0.05}, NO),
        ((-0.3, -0.2, -0.1), {"direction": "falling"}, YES),
        ((0.1, 0.2, 0.3), {"direction": "falling"}, NO),
        ((-0.3, -0.1, 0.1), {"direction": "falling"}, OPEN),
        ((-0.01, 0.0, 0.01), {"direction": "flat", "negligible": 0.05}, YES),
        ((0.1, 0.2, 0.3), {"direction": "flat", "negligible": 0.05}, NO),
        ((-0.1, 0.0, 0.1), {"direction": "flat", "negligible": 0.05}, OPEN),
    ],
)
def test_trend(ends, parameters, verdict):
    assert trend([stat(*ends)], **parameters).verdict == verdict


@pytest.mark.parametrize(
    ("statistic", "parameters", "verdict"),
    [
        (bare(10.0), {}, YES),  # exp(10 / 2) = 148 to 1
        (bare(-10.0), {}, NO),
        (bare(5.0), {}, OPEN),  # exp(5 / 2) = 12 to 1
        (bare(5.0), {"least_ratio": 10}, YES),
        (bare(5.0), {"measure": "log_evidence_ratio"}, YES),  # exp(5) = 148 to 1
        (bare(2.0), {"measure": "log_evidence_ratio"}, OPEN),
        (stat(8.0, 10.0, 12.0), {}, YES),
        (stat(-12.0, -10.0, -8.0), {}, NO),
        (stat(2.0, 10.0, 18.0), {}, OPEN),
        (bare(-10.0), {"claimed": "negative"}, YES),
        (bare(10.0), {"claimed": "negative"}, NO),
        (stat(-18.0, -10.0, -2.0), {"claimed": "negative"}, OPEN),
    ],
)
def test_model_comparison(statistic, parameters, verdict):
    assert model_comparison([statistic], **parameters).verdict == verdict


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [
        ((0.85, 0.9, 0.95), YES),
        ((0.8, 0.9, 0.95), YES),  # at least
        ((0.5, 0.6, 0.7), NO),
        ((0.7, 0.85, 0.9), OPEN),
        ((0.7, 0.75, 0.8), OPEN),
    ],
)
def test_presence(ends, verdict):
    assert presence([stat(*ends)], least_share=0.8).verdict == verdict


PLAIN = {
    "interval_excludes": {"side": "above"},
    "equivalence": {"target": 0.0, "margin": 1.0},
    "ordering": {"direction": "increasing", "paired": True},
    "trend": {"direction": "rising"},
    "presence": {"least_share": 0.5},
}


@pytest.mark.parametrize(("name", "parameters"), PLAIN.items())
def test_without_an_interval_nothing_is_decided(name, parameters):
    decision = DECISIONS[name]([bare(0.9)], **parameters)
    assert decision.verdict == OPEN
    assert "no interval" in decision.reason


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda s: interval_excludes([], side="above"), "at least one"),
        (lambda s: interval_excludes([s], side="beside"), "side"),
        (lambda s: interval_excludes([s], side=["above", "below"]), "2 values for 1"),
        (lambda s: interval_excludes([s], side="above", smallest_effect=-1), "negative"),
        (lambda s: equivalence([s], target=0, margin=0), "margin"),
        (lambda s: ordering([s], direction="increasing"), "at least two"),
        (lambda s: ordering([s, s], direction="up"), "direction"),
        (lambda s: ordering([], direction="increasing", paired=True), "at least one"),
        (lambda s: trend([s], direction="up"), "direction"),
        (lambda s: trend([s], direction="flat"), "margin"),
        (lambda s: trend([s], {s.id: [s]}, direction="flat", negligible=1), "control"),
        (lambda s: model_comparison([s], measure="bic"), "measure"),
        (lambda s: model_comparison([s], least_ratio=1), "above 1"),
        (lambda s: model_comparison([s], claimed="both"), "claimed"),
        (lambda s: presence([s], least_share=2), "between 0 and 1"),
        (lambda s: presence([stat(1, 2, 3)], least_share=0.5), "between 0 and 1"),
    ],
)
def test_wrong_parameters_are_refused(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call(stat(0.1, 0.2, 0.3))


# --- several statistics, and the sentence --------------------------------------------------------


@pytest.mark.parametrize(
    ("kinds", "verdict", "cited"),
    [
        ("yy", YES, "ab"),
        ("yo", OPEN, "b"),
        ("yn", NO, "b"),
        ("on", NO, "b"),
        ("nn", NO, "ab"),
    ],
)
def test_all_must_agree_and_one_refutes(kinds, verdict, cited):
    ends = {"y": (0.1, 0.2, 0.3), "n": (-0.3, -0.2, -0.1), "o": (-0.1, 0.1, 0.3)}
    row = [stat(*ends[kind], id=f"fig0.{name}") for kind, name in zip(kinds, "ab", strict=True)]
    decision = interval_excludes(row, side="above")
    assert decision.verdict == verdict
    assert re.findall(r"fig0\.([ab])", decision.reason) == list(cited)


def test_each_statistic_may_have_its_own_bound_and_side():
    row = [stat(-0.9, -0.8, -0.7, id="fig0.fall"), stat(0.1, 0.2, 0.3, id="fig0.rise")]
    sides = ["below", "above"]
    assert interval_excludes(row, side=sides, bound=[-0.693, 0]).verdict == YES
    assert interval_excludes(row, side=sides, bound=[-1, 0]).verdict == NO


def test_the_reason_gives_number_interval_and_control():
    contrast = stat(-0.41, -0.3, -0.2, controls=["attention deleted"])
    decision = interval_excludes([contrast], side="above")
    assert decision.reason == (
        "fig0.effect is -0.3 nats [-0.41, -0.2] (n = 50, against attention deleted), "
        "which is not above 0"
    )
    assert decision.control == "attention deleted"


# --- controls ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("control", "verdict"),
    [
        ((-0.1, 0.0, 0.1), YES),  # shows nothing
        ((0.2, 0.3, 0.4), YES),  # shows it, clearly more weakly
        ((0.9, 1.0, 1.1), NO),  # shows it just as strongly
        ((1.9, 2.0, 2.1), NO),  # shows it more strongly
        ((-3.0, 2.0, 7.0), OPEN),  # could be anything
        ((0.7, 0.95, 1.2), OPEN),  # a little weaker, but not clearly
        ((-1.1, -1.0, -0.9), YES),  # shows the opposite
    ],
)
def test_a_control_must_not_show_the_effect_as_strongly(control, verdict):
    effect, other = stat(0.9, 1.0, 1.1), stat(*control, id="fig0.control")
    decision = interval_excludes([effect], {effect.id: [other]}, side="above")
    assert decision.verdict == verdict
    assert decision.control == "fig0.control"
    assert "fig0.control is" in decision.reason
    low, value, high = control
    mirror = stat(-high, -value, -low, id="fig0.control")
    downwards = stat(-1.1, -1.0, -0.9)
    falls = interval_excludes([downwards], {effect.id: [mirror]}, side="below")
    assert falls.verdict == verdict


def test_on_either_side_a_control_counts_by_its_distance_from_the_bound():
    effect = stat(1.4, 1.5, 1.6)
    opposite = stat(-1.1, -1.0, -0.9, id="fig0.control")  # 2 away from 1; the effect is 0.5 away
    assert (
        interval_excludes([effect], {effect.id: [opposite]}, side="either", bound=1).verdict == NO
    )


def test_a_control_cannot_rescue_what_is_not_there():
    nothing, strong = stat(-0.3, -0.2, -0.1), stat(-5, -4, -3, id="fig0.control")
    decision = interval_excludes([nothing], {nothing.id: [strong]}, side="above")
    assert decision.verdict == NO
    assert decision.control is None


def test_the_worst_of_several_controls_decides():
    effect = stat(0.9, 1.0, 1.1)
    kinds = {"none": (-0.1, 0.0, 0.1), "vague": (-3, 0.9, 5), "same": (0.9, 1.0, 1.1)}
    controls = {name: stat(*ends, id=f"fig0.{name}") for name, ends in kinds.items()}

    def against(*names):
        return interval_excludes([effect], {effect.id: [controls[n] for n in names]}, side="above")

    assert against("none").verdict == YES
    assert against("none", "vague").verdict == OPEN
    assert against("vague", "same", "none").verdict == NO
    assert against("vague", "same", "none").control == "fig0.same"


def test_a_control_without_an_interval_settles_nothing():
    effect = stat(0.9, 1.0, 1.1)
    decision = interval_excludes([effect], {effect.id: [bare(0.0, "fig0.control")]}, side="above")
    assert decision.verdict == OPEN


@pytest.mark.parametrize(
    ("decide", "effect", "weak", "same"),
    [
        (lambda e, c: trend(e, c, direction="falling"), (-3, -2, -1), (0, 1, 2), (-3, -2, -1)),
        (lambda e, c: presence(e, c, least_share=0.5), (0.8, 0.9, 1), (0, 0.1, 0.2), (0.8, 0.9, 1)),
        (lambda e, c: model_comparison(e, c), (9, 10, 11), (-9, -8, -7), (9, 10, 11)),
        (
            lambda e, c: model_comparison(e, c, claimed="negative"),
            (-11, -10, -9),
            (7, 8, 9),
            (-11, -10, -9),
        ),
    ],
)
def test_other_decisions_hold_controls_the_same_way(decide, effect, weak, same):
    main = stat(*effect)
    for ends, verdict in ((weak, YES), (same, NO)):
        control = {main.id: [stat(*ends, id="fig0.control")]}
        assert decide([main], control).verdict == verdict


# --- the ledger --------------------------------------------------------------------------------


def claim(**more) -> Claim:
    fields = {
        "id": "tgn.toy",
        "system": "tgn",
        "source": "nowhere, figure 0",
        "sentence": "The effect is there.",
        "published": "1 nat",
        "about": "models",
        "decision": "interval_excludes",
        "parameters": {"side": "above"},
        "statistics": ["fig0.effect"],
        "least_scale": "laptop",
    }
    return Claim(**fields | more)


def judged(
    the_claim: Claim, *statistics: Statistic, scale="laptop", models=(), undecided=None
) -> dict:
    (record,) = evaluate([the_claim], statistics, scale, models, undecided)
    return record


def test_a_record_carries_claim_numbers_and_verdict():
    effect, control = stat(0.9, 1.0, 1.1), stat(-0.1, 0.0, 0.1, id="fig0.control")
    record = judged(claim(controls={effect.id: [control.id]}), effect, control)
    assert record["verdict"] == YES
    assert record["control"] == "fig0.control"
    assert record["reason"].endswith(".")
    for key in ("id", "system", "source", "sentence", "published", "decision", "scale"):
        assert record[key]
    (ours,) = record["ours"]
    for key in ("id", "value", "ci_low", "ci_high", "n", "unit", "model", "evidence"):
        assert ours[key] == getattr(effect, key)
    assert [(row["id"], row["control_of"]) for row in record["controls"]] == [
        ("fig0.control", "fig0.effect")
    ]
    json.dumps(record, allow_nan=False)


@pytest.mark.parametrize("least", SCALES)
@pytest.mark.parametrize("scale", SCALES)
def test_below_its_least_scale_a_claim_is_not_testable_but_reported(scale, least):
    record = judged(claim(least_scale=least), stat(0.9, 1.0, 1.1), scale=scale)
    small = SCALES.index(scale) < SCALES.index(least)
    assert record["verdict"] == (NOT_TESTABLE if small else YES)
    assert record["ours"][0]["value"] == 1.0
    if small:
        assert least in record["reason"]
        assert record["control"] is None


@pytest.mark.parametrize("simulated", ["fig0.effect", "fig0.control"])
def test_simulated_data_earn_no_verdict_about_brains(simulated):
    row = [stat(0.9, 1.0, 1.1), stat(-0.1, 0.0, 0.1, id="fig0.control")]
    row = [replace(s, evidence="simulated") if s.id == simulated else s for s in row]
    controls = {"fig0.effect": ["fig0.control"]}
    record = judged(claim(about="brains", controls=controls), *row, scale="paper")
    assert record["verdict"] == NOT_TESTABLE
    assert simulated in record["reason"]
    assert judged(claim(about="physics", controls=controls), *row)["verdict"] == YES


def test_real_data_do_earn_a_verdict_about_brains():
    assert judged(claim(about="brains"), stat(0.9, 1.0, 1.1))["verdict"] == YES


def test_a_missing_statistic_is_an_error_that_names_claim_and_id():
    with pytest.raises(
        ValueError, match=r"tgn\.toy needs statistic fig0\.control, which is missing"
    ):
        judged(claim(controls={"fig0.effect": ["fig0.control"]}), stat(0.9, 1.0, 1.1))


def test_below_its_least_scale_a_claim_does_without_a_missing_statistic():
    the_claim = claim(controls={"fig0.effect": ["fig0.control"]}, least_scale="paper")
    record = judged(the_claim, stat(0.9, 1.0, 1.1), scale="laptop")
    assert record["verdict"] == NOT_TESTABLE
    assert [row["id"] for row in record["ours"]] == ["fig0.effect"]
    assert record["controls"] == []


def test_a_wrong_parameter_is_an_error_that_names_the_claim():
    with pytest.raises(ValueError, match=r"claim tgn\.toy: .*side"):
        judged(claim(parameters={"side": "beside"}), stat(0.9, 1.0, 1.1))


BIG, SMALL = (
    stat(0.9, 1.0, 1.1, model="big"),
    stat(-1.1, -1.0, -0.9, model="small"),
)


def test_the_first_named_model_decides_and_the_others_stand_beside_it():
    record = judged(claim(models=["absent", "small", "big"]), BIG, SMALL)
    assert record["verdict"] == NO
    assert record["ours"][0]["model"] == "small"
    assert [(o["model"], o["verdict"]) for o in record["other_models"]] == [("big", YES)]


def test_the_run_names_models_for_claims_that_name_none():
    assert judged(claim(), BIG, SMALL, models=["small", "big"])["verdict"] == NO
    assert judged(claim(models=["big"]), BIG, SMALL, models=["small"])["verdict"] == YES
    with pytest.raises(ValueError, match=r"fig0\.effect on big, small"):
        judged(claim(), BIG, SMALL)


def test_another_model_never_stands_in_for_the_named_one():
    with pytest.raises(ValueError, match="decided on one of"):
        judged(claim(models=["absent"]), SMALL)
    small_scale = judged(claim(models=["absent"], least_scale="paper"), SMALL)
    assert small_scale["verdict"] == NOT_TESTABLE
    assert small_scale["ours"][0]["model"] == "small"


def test_statistics_of_one_claim_may_come_from_different_single_models():
    other = stat(0.9, 1.0, 1.1, id="fig0.other", model="data set")
    both = claim(statistics=["fig0.effect", "fig0.other"])
    assert judged(both, BIG, other, models=["unrelated"])["verdict"] == YES


def test_a_statistic_that_could_not_be_had_leaves_its_claim_untestable_and_says_why():
    one = claim(statistics=["fig0.effect", "fig0.absent"], beside=["fig0.aside"])
    why = {"fig0.absent": "the model is gated", "fig0.aside": "and so is this", "fig0.effect": "?"}
    found = judged(one, BIG, undecided=why)
    assert found["verdict"] == NOT_TESTABLE
    assert found["reason"] == "There is no fig0.absent: the model is gated."
    assert [row["id"] for row in found["ours"]] == ["fig0.effect"]
    aside = claim(beside=["fig0.aside"])  # what stands beside decides nothing
    assert judged(aside, BIG, undecided=why)["verdict"] == YES
    with pytest.raises(ValueError, match=r"fig0\.absent, which is missing"):
        judged(one, BIG, undecided={"fig0.aside": "gated"})


@pytest.mark.parametrize("scale", SCALES)
def test_a_claim_that_nobody_measures_says_why_at_every_scale(scale):
    record = judged(
        claim(statistics=["fig0.absent"], beside=["fig0.effect"], unmeasured="No run does."),
        BIG,
        scale=scale,
    )
    assert (record["verdict"], record["reason"]) == (NOT_TESTABLE, "No run does.")
    assert record["ours"] == []
    assert [row["id"] for row in record["beside"]] == ["fig0.effect"]


def test_no_claim_of_the_laptop_names_an_arm_that_it_leaves_out():
    """Its statistics are not there, and the ledger would refuse them at the end of a run."""
    raw = yaml.safe_load((ROOT / "config.yaml").read_text())
    figures = {"language_model": r"fig2[12]", "gravity": "gravity", "recall": r"fig22\.recall"}
    left_out = [
        re.compile(rf"{figure}[._](.*_)?{arm}(_|$)")
        for section, figure in figures.items()
        for arm, settings in raw[section]["arms"].items()
        if settings is None
    ]
    assert len(left_out) > 5
    shown = {id for claim in read_claims(LEDGER) if claim.least_scale == "laptop"
             for id in claim.shown}  # fmt: skip
    assert [id for id in sorted(shown) if any(arm.match(id) for arm in left_out)] == []


def test_two_records_of_one_number_are_refused():
    with pytest.raises(ValueError, match="two statistics"):
        judged(claim(), BIG, replace(BIG, value=1.05))
    with pytest.raises(ValueError, match="scale"):
        judged(claim(), BIG, scale="huge")


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ({"decision": "vote"}, "there are .*interval_excludes.*presence"),
        ({"parameters": {"side": "above", "p": 0.05}}, "'p'"),
        ({"parameters": {}}, "'side'"),
        ({"least_scale": "huge"}, "scale"),
        ({"system": "astrology"}, "there are .*tgn"),
        ({"statistics": []}, "no statistic"),
        ({"controls": {"fig0.stranger": ["fig0.control"]}}, "stranger"),
        (
            {
                "decision": "equivalence",
                "parameters": {"target": 0, "margin": 1},
                "controls": {"fig0.effect": ["fig0.control"]},
            },
            "controls",
        ),
    ],
)
def test_a_faulty_claim_is_refused_by_name(fault, complaint):
    with pytest.raises(ValueError, match=complaint) as caught:
        claim(**fault)
    assert "claim tgn.toy: " in str(caught.value)


# --- files -------------------------------------------------------------------------------------


def ledger(tmp_path: Path, *rows: dict) -> Path:
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(list(rows)))
    return path


ROW = next(row for row in yaml.safe_load(LEDGER.read_text()) if "controls" in row)


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ({"verdict": "reproduced"}, "unknown key verdict"),
        ({"decision": "vote"}, "interval_excludes, equivalence, ordering"),
        ({"system": "astrology"}, "thermodynamic-scaling"),
        ({"about": "souls"}, "brains"),
        ({"least_scale": "huge"}, "laptop"),
        ({"parameters": {"side": "above", "p": 1}}, "unknown key p; allowed are bound"),
        ({"parameters": {"side": "beside"}}, "side"),
        ({"parameters": {}}, "missing key side"),
        ({"statistics": []}, "statistics"),
        ({"statistics": ["fig 8"]}, "statistics"),
        ({"controls": ["fig8.skip_restores_log_distance"]}, "controls"),
        ({"published": {"value": "many", "unit": ""}}, "published"),
        ({"decision": "equivalence", "parameters": {"target": 0, "margin": 1}}, "controls"),
        ({"id": "No spaces"}, "id"),
        ({"manuscript": [6]}, "manuscript"),
        ({"manuscript": []}, "manuscript"),
    ],
)
def test_the_schema_refuses_and_says_what_is_allowed(tmp_path, fault, complaint):
    assert read_claims(ledger(tmp_path, ROW), SCHEMA)
    path = ledger(tmp_path, ROW | fault)
    with pytest.raises(ValueError, match=complaint) as caught:
        read_claims(path, SCHEMA)
    assert str(path) in str(caught.value)


def test_missing_keys_and_twins_are_refused(tmp_path):
    for key in ("sentence", "published", "about", "least_scale"):
        row = {k: v for k, v in ROW.items() if k != key}
        with pytest.raises(ValueError, match=key):
            read_claims(ledger(tmp_path, row), SCHEMA)
    with pytest.raises(ValueError, match="more than once"):
        read_claims(ledger(tmp_path, ROW, ROW), SCHEMA)


def test_schema_and_code_know_the_same_names():
    rules = json.loads(SCHEMA.read_text())["items"]
    names = rules["properties"]
    assert set(names) == set(inspect.signature(Claim).parameters)
    assert names["decision"]["enum"] == list(DECISIONS)
    assert names["system"]["enum"] == list(SYSTEMS)
    assert names["least_scale"]["enum"] == list(SCALES)
    assert set(SCALES) == set(config.SCALES)
    for branch in rules["allOf"]:
        decision = DECISIONS[branch["if"]["properties"]["decision"]["const"]]
        takes = inspect.signature(decision).parameters
        part = branch["then"]["properties"]
        allowed = part["parameters"]["properties"]
        assert set(allowed) == {n for n, p in takes.items() if p.kind is p.KEYWORD_ONLY}
        required = {
            n for n, p in takes.items() if p.kind is p.KEYWORD_ONLY and p.default is p.empty
        }
        assert set(part["parameters"].get("required", [])) == required
        assert ("controls" in takes) == ("controls" not in part)
    assert len(rules["allOf"]) == len(DECISIONS)


# --- figure 8's claims ---------------------------------------------------------------------------


def around(value: float, id: str, model="gpt2") -> Statistic:
    return stat(value - 0.05, value, value + 0.05, id=id, model=model)


FIG8_AS_CLAIMED = {
    "final_log_rank_intact_minus_no_attention": 0.5,
    "final_log_rank_intact_minus_random_mixer": 0.6,
    "final_log_rank_intact_minus_no_attention_without_outliers": 0.9,
    "final_log_rank_intact_minus_no_mlp": 0.3,
    "final_log_rank_intact_minus_no_mlp_without_outliers": 0.3,
    "final_log_distance_attention_only_minus_mlp_only": 2.0,
    "skip_restores_log_distance": 0.1,
    "fall_log_rank": -0.8,
    "recovery_log_rank": 1.0,
    "fall_log_rank_random_init": 0.0,
    "recovery_log_rank_random_init": 0.0,
    "fall_log_rank_published_definition": -0.8,
    "recovery_log_rank_published_definition": 1.0,
    "fall_log_rank_uncentred_without_first": -0.8,
    "recovery_log_rank_uncentred_without_first": 1.0,
    "no_mlp_final_log_rank_ratio": 0.0,
    "no_mlp_final_log_rank_ratio_without_outliers": 0.0,
    "no_attention_final_log_rank_ratio": -1.0,
    "no_attention_final_log_rank_ratio_without_outliers": -0.9,
    "no_attention_final_log_rank_ratio_random_init": -0.8,
    "no_attention_lowest_minus_intact_lowest": -0.5,
    "dip_log_depth_published_definition": 0.8,
    "dip_log_depth_without_outliers": 0.7,
    "dip_log_depth_without_outliers_minus_half": 0.3,
}


def fig8(scale="paper", model="gpt2", **changes: float) -> dict[str, str]:
    numbers = FIG8_AS_CLAIMED | changes
    row = [around(value, f"fig8.{name}", model) for name, value in numbers.items()]
    mine = [c for c in read_claims(LEDGER) if all(id.startswith("fig8.") for id in c.needed)]
    return {r["id"].removeprefix("tgn."): r["verdict"] for r in evaluate(mine, row, scale)}


def test_the_ledger_reads_and_needs_only_statistics_figure_8_makes():
    assert set(fig8().values()) == {YES}


@pytest.mark.parametrize(
    ("changes", "claim_id", "verdict"),
    [
        (
            # pure attention is what collapses the tokens
            {"final_log_distance_attention_only_minus_mlp_only": -3.0},
            "attention_is_anti_dissipative",
            NO,
        ),
        (
            # skip connections do more than attention
            {"skip_restores_log_distance": 4.0},
            "attention_is_anti_dissipative",
            NO,
        ),
        (
            {"final_log_rank_intact_minus_random_mixer": 0.02},
            "attention_prevents_rank_collapse",
            OPEN,
        ),
        (
            {"final_log_rank_intact_minus_no_attention": -1.0},
            "attention_prevents_rank_collapse",
            NO,
        ),
        (
            # the loss without attention is that of the heaviest channels
            {"final_log_rank_intact_minus_no_attention_without_outliers": -0.1},
            "attention_prevents_rank_collapse",
            NO,
        ),
        (
            # the MLPs do as much
            {"final_log_rank_intact_minus_no_mlp": 1.5},
            "attention_prevents_rank_collapse",
            NO,
        ),
        ({"fall_log_rank": -0.4}, "rank_collapses_and_is_restored", NO),
        ({"fall_log_rank_random_init": -0.9}, "rank_collapses_and_is_restored", NO),
        ({"recovery_log_rank": -0.4}, "rank_collapses_and_is_restored", NO),
        ({"fall_log_rank": -0.7}, "rank_collapses_and_is_restored", OPEN),
        ({"no_attention_final_log_rank_ratio": -0.25}, "no_attention_collapses", NO),
        ({"no_attention_lowest_minus_intact_lowest": 0.5}, "no_attention_collapses", NO),
        (
            # an architecture that keeps its rank untrained shows that deleting is what hurts
            {"no_attention_final_log_rank_ratio_random_init": -0.1},
            "no_attention_collapses_untrained",
            NO,
        ),
        ({"no_mlp_final_log_rank_ratio": -1.5}, "no_attention_collapses", NO),
        (
            {"dip_log_depth_without_outliers_minus_half": -0.3},
            "shallow_dip_is_compression",
            NO,
        ),
        (
            {"dip_log_depth_without_outliers_minus_half": 0.01},
            "shallow_dip_is_compression",
            OPEN,
        ),
    ],
)
def test_each_of_figure_8s_claims_can_fail(changes, claim_id, verdict):
    found = fig8(**changes)
    assert found.pop(claim_id) == verdict
    assert set(found.values()) == {YES}


def test_figure_8_at_other_scales():
    laptop = fig8(scale="laptop", model="smollm2-135m")
    assert laptop.pop("shallow_dip_is_compression") == NOT_TESTABLE  # it is about GPT-2
    assert set(laptop.values()) == {YES}
    assert set(fig8(scale="smoke", model="fixture-gpt2").values()) == {NOT_TESTABLE}


# --- figure 5's claims ---------------------------------------------------------------------------


FIG5_AS_CLAIMED = {
    "tgn_residual_slope": (0.0, 1e-4),
    "tgn_tts_aic_exponential_minus_power": (30.0, 5.0),
    "tempering_tts_aic_exponential_minus_power": (-20.0, 5.0),
    "tgn_minus_tempering": (-0.1, 0.01),
    "tgn_minus_tempering_equal_updates": (-0.1, 0.01),
    "tgn_minus_langevin": (-0.5, 0.01),
    "tgn_minus_langevin_equal_updates": (-0.5, 0.01),
    "tgn_minus_tgn_gate_shut": (-0.05, 0.01),
    "tgn_minus_tgn_gate_shut_equal_updates": (-0.05, 0.01),
    "attention_published_minus_random_configurations_equal_updates": (-0.2, 0.01),
}


def fig5(scale="laptop", **changes: tuple[float, float]) -> dict[str, str]:
    numbers = FIG5_AS_CLAIMED | changes
    row = [
        stat(value - half, value, value + half, id=f"fig5.{name}", model="gaussian couplings")
        for name, (value, half) in numbers.items()
    ]
    mine = [c for c in read_claims(LEDGER) if all(id.startswith("fig5.") for id in c.needed)]
    return {r["id"].removeprefix("tgn."): r["verdict"] for r in evaluate(mine, row, scale)}


def test_figure_5_as_claimed_is_reproduced_and_not_at_smoke_scale():
    assert set(fig5().values()) == {YES}
    assert set(fig5(scale="smoke").values()) == {NOT_TESTABLE}


@pytest.mark.parametrize(
    ("changes", "claim_ids", "verdict"),
    [
        ({"tgn_residual_slope": (0.004, 1e-4)}, "constant_energy_gap", NO),
        ({"tgn_residual_slope": (5e-4, 1e-4)}, "constant_energy_gap", OPEN),
        ({"tgn_tts_aic_exponential_minus_power": (-30.0, 5.0)}, "no_glassy_freezing", NO),
        ({"tgn_tts_aic_exponential_minus_power": (3.0, 5.0)}, "no_glassy_freezing", OPEN),
        (
            # tempering does as well: nothing that TGN alone escapes
            {"tempering_tts_aic_exponential_minus_power": (60.0, 5.0)},
            "no_glassy_freezing, tempering_freezes",
            NO,
        ),
        ({"tgn_minus_tempering": (0.02, 0.01)}, "better_than_tempering", NO),
        ({"tgn_minus_tempering_equal_updates": (-0.005, 0.01)}, "better_than_tempering", OPEN),
        ({"tgn_minus_langevin_equal_updates": (0.2, 0.01)}, "better_than_langevin", NO),
        ({"tgn_minus_tgn_gate_shut": (0.01, 0.005)}, "attention_tunnels", NO),
        (
            # no more than random guessing, to within 0.05
            {"attention_published_minus_random_configurations_equal_updates": (0.0, 0.02)},
            "published_attention_optimises",
            NO,
        ),
    ],
)
def test_each_of_figure_5s_claims_can_fail(changes, claim_ids, verdict):
    found = fig5(**changes)
    assert {found.pop(id) for id in claim_ids.split(", ")} == {verdict}
    assert set(found.values()) == {YES}


# --- every claim of the ledger -------------------------------------------------------------------


def planted(claim: Claim, contrary: str | None = None) -> list[Statistic]:
    """Numbers as the claim has them, and controls at nothing; one of them, if named, contrary."""
    count = len(claim.statistics)
    parameters = {
        name: value if isinstance(value, list) else [value] * count
        for name, value in claim.parameters.items()
    }
    numbers = {}
    for i, id in enumerate(claim.statistics):
        given = {name: values[i] for name, values in parameters.items()}
        sign = -1 if (id == contrary) else 1
        if claim.decision == "interval_excludes":
            direction = -1 if given["side"] == "below" else 1
            reach = 1 + 2 * given.get("smallest_effect", 0)
            away = 0 if (given["side"], sign) == ("either", -1) else sign * direction * reach
            numbers[id] = given.get("bound", 0) + away
        elif claim.decision == "equivalence":
            numbers[id] = given["target"] + (1 if sign > 0 else 1e4) * 0.1 * given["margin"]
        elif claim.decision == "trend":
            falling, flat = given["direction"] == "falling", given["direction"] == "flat"
            numbers[id] = (0 if sign > 0 else 1e3) if flat else sign * (-1e3 if falling else 1e3)
        elif claim.decision == "model_comparison":
            numbers[id] = sign * (-1e3 if given.get("claimed") == "negative" else 1e3)
        elif claim.decision == "presence":
            numbers[id] = (1 + given["least_share"]) / 2 if sign > 0 else given["least_share"] / 2
        else:  # ordering: a step, or a place in the order, which the contrary one leaves
            up = 1 if given["direction"] == "increasing" else -1
            place = i + 1 if sign > 0 else (-1e3 if i or given.get("paired") else 1e3)
            numbers[id] = up * place
    found = [stat(v - 1e-4, v, v + 1e-4, id=id, model="m") for id, v in numbers.items()]
    rest = [id for id in claim.shown if id not in numbers]
    bound = parameters.get("bound", [0])[0]
    return found + [stat(bound - 1e-4, bound, bound + 1e-4, id=id, model="m") for id in rest]


LEDGERS_CLAIMS = [replace(claim, models=(), unmeasured="") for claim in read_claims(LEDGER)]


@pytest.mark.parametrize("claim", LEDGERS_CLAIMS, ids=lambda claim: claim.id)
def test_every_claim_can_be_reproduced_and_each_of_its_statistics_can_refute_it(claim):
    def verdict(statistics):
        return evaluate([claim], statistics, claim.least_scale)[0]["verdict"]

    assert verdict(planted(claim)) == YES
    for id in claim.statistics:
        assert verdict(planted(claim, contrary=id)) == NO
