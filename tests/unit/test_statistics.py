"""Intervals that cover what they should, and records that refuse what they must."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from statsmodels.api import OLS

from tgn.statistics import (
    Interval,
    Statistic,
    aicc,
    bootstrap_band,
    bootstrap_interval,
    difference,
    read_statistics,
    share_interval,
    student_band,
    student_interval,
    write_statistics,
)

SCHEMA = Path(__file__).parents[2] / "config" / "statistics.schema.json"

GOOD = Statistic(
    id="fig14.rank_awake_minus_deep",
    value=1.0,
    ci_low=0.5,
    ci_high=1.5,
    n=12,
    unit="nats",
    method="mean over subjects, 95 % percentile bootstrap",
    model="ds003171",
    evidence="real",
    controls=["shuffled states"],
)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_students_interval_of_few_units():
    with pytest.raises(ValueError, match="at least two draws"):
        student_interval(np.array([1.0]))
    found = student_interval(np.array([1.0, 3.0]))
    assert found.value == 2
    assert found.high - 2 == pytest.approx(12.706, abs=0.01)  # t of one degree of freedom, error 1
    curves = np.random.default_rng(0).normal(size=(4, 3))
    band = student_band(curves)
    for at in range(3):
        alone = student_interval(curves[:, at])
        assert alone == pytest.approx((band.value[at], band.low[at], band.high[at]))


def test_a_share_of_none_or_all_has_an_interval():
    none, every = share_interval(np.zeros(40, dtype=bool)), share_interval(np.ones(40))
    assert (none.value, none.low, every.value, every.high) == (0, 0, 1, 1)
    assert none.high == pytest.approx(1 - every.low) == pytest.approx(0.0876, abs=1e-4)


# --- intervals -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["percentile", "basic", "BCa"])
def test_a_95_percent_interval_covers_the_true_mean_95_times_in_100(method):
    rng = generator(1)
    draws = rng.exponential(2.0, size=(300, 80))
    hits = 0
    for sample in draws:
        found = bootstrap_interval(sample, rng=rng, resamples=300, method=method)
        hits += found.low <= 2.0 <= found.high
    assert 0.90 <= hits / 300 <= 0.99


def test_an_80_percent_interval_is_narrower_and_covers_less():
    rng = generator(2)
    hits = 0
    for sample in rng.normal(size=(300, 50)):
        wide = bootstrap_interval(sample, rng=generator(3), resamples=200)
        narrow = bootstrap_interval(sample, rng=generator(3), resamples=200, level=0.8)
        assert narrow.high - narrow.low < wide.high - wide.low
        hits += narrow.low <= 0 <= narrow.high
    assert 0.72 <= hits / 300 <= 0.88


def test_the_same_generator_gives_the_same_interval_and_another_gives_another():
    values = generator(4).normal(size=30)
    first, again, other = (bootstrap_interval(values, rng=generator(s)) for s in (5, 5, 6))
    assert first == again
    assert first != other
    assert first.value == np.mean(values)


def test_as_many_resamples_are_drawn_as_asked():
    sizes = []

    def mean(values):
        sizes.append(len(values))
        return values.mean()

    bootstrap_interval(generator(1).normal(size=7), mean, rng=generator(), resamples=50)
    assert 50 <= len(sizes) <= 52  # and once or twice for the sample itself
    assert set(sizes) == {7}


def test_paired_arrays_are_resampled_together():
    x = generator(7).normal(size=40)
    slope = bootstrap_interval((x, 3 * x), lambda a, b: np.polyfit(a, b, 1)[0], rng=generator(8))
    assert slope == pytest.approx((3, 3, 3))  # would scatter if the pairs were broken
    gap = bootstrap_interval((x, x + 1), lambda a, b: np.mean(b - a), rng=generator(8))
    assert gap == pytest.approx((1, 1, 1))


def test_units_are_rows_even_when_a_unit_holds_many_numbers():
    """100 copies of a unit are no more evidence than one."""
    values = generator(9).normal(size=(20, 1))
    single = bootstrap_interval(values, rng=generator(10))
    copied = bootstrap_interval(np.repeat(values, 100, axis=1), rng=generator(10))
    assert copied == pytest.approx(single)


def test_a_band_is_the_interval_of_every_point():
    curves = generator(11).normal(size=(25, 4)) + np.arange(4)
    band = bootstrap_band(curves, rng=generator(12))
    for layer in range(4):
        point = bootstrap_interval(curves[:, layer], rng=generator(12))
        assert (band.value[layer], band.low[layer], band.high[layer]) == pytest.approx(point)


@pytest.mark.parametrize(
    ("values", "statistic", "method", "complaint"),
    [
        ([1.0], np.mean, "percentile", "at least two units"),
        (3.0, np.mean, "percentile", "at least two units"),
        (([1.0, 2.0], [1.0]), np.dot, "percentile", "one length"),
        ([1.0, math.nan], np.mean, "percentile", "not finite"),
        ([0.0, 1.0, 2.0], lambda x: 0.0 if len(set(x)) > 2 else math.inf, "basic", "not finite"),
        ([[1.0, 2.0], [3.0, 4.0]], lambda x: x.mean(axis=0), "percentile", "single number"),
        ([1.0, 2.0], np.mean, "magic", "method"),
    ],
)
def test_what_has_no_interval_is_refused(values, statistic, method, complaint):
    with pytest.raises(ValueError, match=complaint):
        bootstrap_interval(values, statistic, rng=generator(), method=method)


@pytest.mark.filterwarnings("ignore")
def test_a_degenerate_bca_is_refused_and_not_returned_as_nan():
    with pytest.raises(ValueError, match="undefined"):
        bootstrap_interval([1.0, 1.0, 1.0], rng=generator(), method="BCa")


def test_the_difference_of_two_independent_means_has_the_standard_error_of_both():
    first, second = Interval(3, 3 - 0.3, 3 + 0.3), Interval(1, 1 - 0.4, 1 + 0.4)
    assert difference(first, second) == pytest.approx((2, 1.5, 2.5))


def test_a_difference_takes_the_ends_that_face_each_other():
    found = difference(Interval(5, 4, 9), Interval(1, -6, 1.5))
    assert found == pytest.approx((4, 4 - math.hypot(1, 0.5), 4 + math.hypot(4, 7)))


# --- records ---------------------------------------------------------------------------------

FAULTS: list[dict] = [
    {"id": "Fig 14"},
    {"id": "fig14"},
    {"id": 14},
    {"value": None},
    {"value": "1"},
    {"value": True},
    {"ci_low": None},
    {"ci_high": None},
    {"n": 0},
    {"n": 1.5},
    {"n": True},
    {"unit": None},
    {"method": ""},
    {"model": ""},
    {"evidence": "imagined"},
    {"controls": "shuffled states"},
    {"controls": [1]},
]
NO_JSON = [{"value": math.nan}, {"value": math.inf}]
ORDER = [{"ci_low": 2.0, "ci_high": 0.0}, {"ci_low": 1.1}, {"ci_high": 0.9}]  # beyond a schema


@pytest.mark.parametrize("fault", FAULTS + NO_JSON + ORDER, ids=str)
def test_a_faulty_record_is_refused_by_name(fault):
    with pytest.raises(ValueError, match=r"statistic .*: "):
        replace(GOOD, **fault)


def as_json(tmp_path: Path, *records: Statistic) -> list:
    write_statistics(tmp_path / "statistics.json", records)
    return json.loads((tmp_path / "statistics.json").read_text())


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_the_schema_refuses_what_the_record_refuses(tmp_path, fault):
    (row,) = as_json(tmp_path, GOOD)
    schema = Draft202012Validator(json.loads(SCHEMA.read_text()))
    assert schema.is_valid([row])
    assert not schema.is_valid([row | fault])


def test_the_schema_is_sound_and_knows_every_field(tmp_path):
    rules = json.loads(SCHEMA.read_text())
    Draft202012Validator.check_schema(rules)
    without_interval = replace(GOOD, id="fig14.count", ci_low=None, ci_high=None)
    rows = as_json(tmp_path, GOOD, without_interval)
    assert Draft202012Validator(rules).is_valid(rows)
    assert set(rows[0]) == set(rules["items"]["properties"])
    assert not Draft202012Validator(rules).is_valid([rows[0] | {"p": 0.04}])


def test_an_interval_that_misses_its_value_needs_a_reason():
    biased = replace(GOOD, ci_low=1.1, note="percentile interval of a minimum, biased upwards")
    assert biased.interval == (1.0, 1.1, 1.5)


def test_numbers_of_numpy_become_plain(tmp_path):
    record = replace(GOOD, value=np.float32(1), ci_low=np.float64(0.5), n=np.int64(12))
    assert record == GOOD
    assert type(record.value) is float
    assert type(record.n) is int


# --- files -----------------------------------------------------------------------------------


def test_what_is_written_is_read_and_the_order_given_does_not_matter(tmp_path):
    records = [replace(GOOD, id=f"fig14.{id}", model=m) for id in ("b", "a") for m in ("y", "x")]
    write_statistics(tmp_path / "one.json", records)
    write_statistics(tmp_path / "two.json", reversed(records))
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    found = read_statistics(tmp_path / "one.json")
    assert set(found) == set(records)
    assert [(r.id, r.model) for r in found] == sorted((r.id, r.model) for r in records)


def test_one_id_may_serve_two_models_but_not_one_model_twice(tmp_path):
    write_statistics(tmp_path / "a.json", [GOOD, replace(GOOD, model="second site")])
    with pytest.raises(ValueError, match=r"more than once: fig14\.rank_awake_minus_deep on ds"):
        write_statistics(tmp_path / "b.json", [GOOD, replace(GOOD, value=1.2)])
    assert not (tmp_path / "b.json").exists()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda rows: {"statistics": rows}, "not a list"),
        (lambda rows: [*rows, 1], "not a list"),
        (lambda rows: rows * 2, "more than once"),
        (lambda rows: [rows[0] | {"p": 0.04}], "'p'"),
        (lambda rows: [{k: v for k, v in rows[0].items() if k != "unit"}], "'unit'"),
        (lambda rows: [rows[0] | {"value": math.nan}], "not a finite number"),
    ],
)
def test_a_faulty_file_is_refused_with_its_name(tmp_path, change, complaint):
    path = tmp_path / "statistics.json"
    path.write_text(json.dumps(change(as_json(tmp_path, GOOD))))
    with pytest.raises(ValueError, match=complaint) as caught:
        read_statistics(path)
    assert str(path) in str(caught.value)


def test_importing_is_light():
    code = "import tgn.statistics, sys; print([m for m in ('torch', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_akaikes_criterion_differs_from_the_likelihoods_by_a_constant():
    """-2 ln L + 2 k + 2 k (k + 1) / (n - k - 1), the variance being a parameter."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((12, 3))
    y = x[:, 0] + rng.standard_normal(12)
    gaps = []
    for parameters in (1, 2, 3):
        fit = OLS(y, x[:, :parameters]).fit()
        k = parameters + 1
        expected = -2 * fit.llf + 2 * k + 2 * k * (k + 1) / (12 - k - 1)
        gaps.append(expected - aicc(fit.ssr, 12, parameters))
    assert gaps == pytest.approx([12 * (1 + np.log(2 * np.pi))] * 3)
    assert aicc(1.0, 4, 2) == math.inf
