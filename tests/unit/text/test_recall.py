"""Recall sequences obey their definition, example by example and on average."""

import hashlib
import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tgn.text.recall import IGNORED, Recall, accuracy


@st.composite
def tasks(draw):
    pairs, passes = draw(st.integers(1, 12)), draw(st.integers(1, 3))
    length = 2 * pairs * (passes + 1) + 2 * draw(st.integers(0, 30))
    return Recall(
        input_seq_len=length,
        num_kv_pairs=pairs,
        vocab_size=length + draw(st.integers(1, 200)),
        num_passes=passes,
        power_a=draw(st.sampled_from([0.01, 0.5, 1.0, 2.0])),
        random_non_queries=draw(st.booleans()),
    )


def transcribed(task, row):
    """One example, written down step by step from the definition."""
    numbers = iter(row)
    pairs, context, half = task.num_kv_pairs, task.context, task.vocab_size // 2

    def distinct(choices):
        return [choices.pop(int(next(numbers) * len(choices))) for _ in range(pairs)]

    keys = distinct(list(range(1, half)))
    values = distinct(list(range(half, task.vocab_size)))
    times = {}
    for slot in range((task.input_seq_len - context) // 2):
        weight = (slot + 1) ** (task.power_a - 1)
        times[slot] = -np.log(1 - next(numbers)) / weight
    pairs_in_turn = [token for pair in zip(keys, values, strict=True) for token in pair]
    inputs = pairs_in_turn * task.num_passes
    while len(inputs) < task.input_seq_len:
        inputs.append(int(next(numbers) * task.vocab_size) if task.random_non_queries else 0)
    labels = [IGNORED] * task.input_seq_len
    for key, value in zip(keys, values, strict=True):
        slot = min(times, key=times.get)
        del times[slot]
        inputs[context + 2 * slot] = key
        labels[context + 2 * slot] = value
    return inputs, labels


@given(tasks(), st.integers(0, 2**32))
def test_examples_are_those_of_the_plain_definition(task, seed):
    uniforms = np.random.default_rng(seed).random((5, task.uniforms))
    inputs, labels = task.from_uniforms(uniforms)
    for row, example in enumerate(zip(inputs.tolist(), labels.tolist(), strict=True)):
        assert example == transcribed(task, uniforms[row])


@given(tasks(), st.sampled_from([0.0, np.nextafter(1.0, 0.0)]))
def test_the_ends_of_the_unit_interval_are_safe(task, end):
    inputs, labels = task.from_uniforms(np.full((1, task.uniforms), end))
    values = inputs[0, 1 : 2 * task.num_kv_pairs : 2]
    assert sorted(labels[labels != IGNORED]) == sorted(values)
    assert inputs.max() < task.vocab_size


@given(tasks(), st.integers(0, 2**32))
def test_every_invariant_holds(task, seed):
    inputs, labels = task.draw(np.random.default_rng(seed), 6)
    length, pairs, context = task.input_seq_len, task.num_kv_pairs, task.context
    half = task.vocab_size // 2
    assert inputs.shape == labels.shape == (6, length)
    assert inputs.dtype == labels.dtype == np.int64
    assert inputs.min() >= 0
    assert inputs.max() < task.vocab_size
    assert (labels[:, :context] == IGNORED).all()
    assert (labels[:, 1::2] == IGNORED).all()
    once = inputs[:, : 2 * pairs]
    assert (np.tile(once, task.num_passes) == inputs[:, :context]).all()
    for sequence, answers, pair in zip(inputs, labels, once.reshape(6, pairs, 2), strict=True):
        keys, values = pair.T
        assert len(set(keys)) == len(set(values)) == pairs
        assert keys.min() >= 1
        assert keys.max() < half <= values.min()
        asked = answers != IGNORED
        assert sorted(sequence[asked]) == sorted(keys)
        told = dict(pair.tolist())
        assert [told[key] for key in sequence[asked]] == answers[asked].tolist()
        if not task.random_non_queries:
            assert (sequence[context:][~asked[context:]] == 0).all()


def first_slots(task, count, seed=0):
    """The slot of the first key in each of many examples, from 0."""
    inputs, labels = task.draw(np.random.default_rng(seed), count)
    first_value = inputs[:, 1]
    return ((labels == first_value[:, None]).argmax(axis=1) - task.context) // 2


@pytest.mark.parametrize("shape", [(64, 4), (128, 8), (256, 16)])
@pytest.mark.parametrize("power", [0.01, 1.0])
def test_first_slots_follow_the_power_law(shape, power):
    """The first key takes slot i with probability proportional to i ** (a - 1)."""
    length, pairs = shape
    task = Recall(length, pairs, power_a=power)
    slots = (length - 2 * pairs) // 2
    p = np.arange(1, slots + 1) ** (power - 1.0)
    observed = np.bincount(first_slots(task, 20_000), minlength=slots)
    assert stats.chisquare(observed, 20_000 * p / p.sum()).pvalue > 1e-4


def test_all_slots_together_follow_successive_draws():
    """Every ordered choice of 3 out of 4 slots, against draws one after the other."""
    task = Recall(14, 3, vocab_size=64, power_a=0.3)
    weights = np.arange(1, 5) ** -0.7
    inputs, labels = task.draw(np.random.default_rng(1), 40_000)
    found = [(labels == inputs[:, [2 * pair + 1]]).argmax(axis=1) for pair in range(3)]
    chosen = [(place - task.context) // 2 for place in found]
    code = chosen[0] * 16 + chosen[1] * 4 + chosen[2]
    observed, expected = [], []
    for order in permutations(range(4), 3):
        left, probability = weights.sum(), 1.0
        for slot in order:
            probability *= weights[slot] / left
            left -= weights[slot]
        observed.append((code == order[0] * 16 + order[1] * 4 + order[2]).sum())
        expected.append(40_000 * probability)
    assert sum(observed) == 40_000
    assert stats.chisquare(observed, expected).pvalue > 1e-4


def test_keys_values_and_random_tokens_are_uniform():
    task = Recall(12, 2, vocab_size=16)
    inputs, labels = task.draw(np.random.default_rng(2), 40_000)
    # Ordered pairs of keys out of 1..7: all 42 alike; so with the 56 pairs of values.
    for first, second, kinds in ((0, 2, 42), (1, 3, 56)):
        codes = inputs[:, first] * 16 + inputs[:, second]
        _, observed = np.unique(codes, return_counts=True)
        assert len(observed) == kinds
        assert stats.chisquare(observed).pvalue > 1e-4
    free = inputs[:, task.context :][labels[:, task.context :] == IGNORED]
    assert stats.chisquare(np.bincount(free, minlength=16)).pvalue > 1e-4


def test_a_seed_gives_the_same_examples_everywhere():
    inputs, labels = Recall(64, 4).draw(np.random.default_rng(123), 1000)
    content = inputs.astype("<i8").tobytes() + labels.astype("<i8").tobytes()
    expected = "79196aa54808c8464480bc568882ee10b519661d536f1389318b417677d54600"
    assert hashlib.sha256(content).hexdigest() == expected


def test_the_first_examples_do_not_depend_on_how_many_are_drawn():
    task = Recall(1024, 64)  # several blocks
    few, many = (task.draw(np.random.default_rng(5), count) for count in (10, 700))
    for one, other in zip(few, many, strict=True):
        assert (one == other[:10]).all()
    assert (task.draw(np.random.default_rng(6), 10)[0] != few[0]).any()


def test_looking_up_the_context_is_always_right():
    task = Recall(128, 8, num_passes=2)
    inputs, labels = task.draw(np.random.default_rng(7), 50)
    keys, values = inputs[:, 0:16:2], inputs[:, 1:16:2]
    match = inputs[:, :, None] == keys[:, None, :]
    looked_up = np.take_along_axis(values, match.argmax(axis=2), axis=1)
    assert (accuracy(looked_up, labels) == 1).all()


def test_guesses_score_their_chance():
    """Without memory of the pairs, 1 / D from the context's values and 2 / V from all values."""
    task, rng = Recall(64, 4, vocab_size=100), np.random.default_rng(8)
    inputs, labels = task.draw(rng, 20_000)
    guesses = {
        1 / 4: inputs[:, 1 + 2 * rng.integers(0, 4, 20_000)[0]][:, None],
        2 / 100: rng.integers(50, 100, inputs.shape),
    }
    for chance, guess in guesses.items():
        answered = accuracy(np.broadcast_to(guess, labels.shape), labels)
        assert abs(answered.mean() - chance) < 4 * math.sqrt(chance * (1 - chance) / 80_000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_seq_len": 63}, "input_seq_len 63 must be even"),
        ({"input_seq_len": 30}, "input_seq_len 30 is too short: 8 pairs in 1 passes.* need 32"),
        ({"input_seq_len": 64, "num_passes": 4}, "need 80"),
        ({"input_seq_len": 64, "vocab_size": 64}, "vocab_size 64 must exceed input_seq_len 64"),
        ({"input_seq_len": 64, "num_kv_pairs": 0}, "num_kv_pairs 0 and num_passes 1 must be"),
        ({"input_seq_len": 64, "power_a": 0.0}, "power_a 0.0 must be positive"),
        ({"input_seq_len": 64, "power_a": math.nan}, "power_a nan must be positive"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Recall(**options)


def test_the_tightest_fit_is_allowed():
    task = Recall(32, 8, vocab_size=33)
    _, labels = task.draw(np.random.default_rng(0), 4)
    assert (labels[:, 16::2] != IGNORED).all()
