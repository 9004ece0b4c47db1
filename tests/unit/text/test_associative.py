"""One pair in noise: the definition, its distribution, and what can be had without remembering."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tgn.text.associative import ROLES, SingleRecall, distances, most_frequent, roles
from tgn.text.recall import IGNORED, accuracy


@st.composite
def tasks(draw):
    length = draw(st.integers(3, 60))
    near = draw(st.integers(2, length - 1))
    return SingleRecall(
        input_seq_len=length,
        vocab_size=draw(st.integers(2, 40)),
        min_distance=near,
        max_distance=draw(st.one_of(st.none(), st.integers(near, length - 1))),
    )


def transcribed(task, row):
    """One example, written down step by step from the definition."""
    numbers = iter(row)
    key = int(next(numbers) * task.vocab_size)
    span = task.max_distance - task.min_distance + 1
    distance = task.min_distance + int(next(numbers) * span)
    others = [token for token in range(task.vocab_size) if token != key]
    inputs = [others[int(number * len(others))] for number in numbers]
    inputs.append(key)
    place = len(inputs) - distance
    inputs.insert(place, key)
    labels = [IGNORED] * (len(inputs) - 1) + [inputs[place + 1]]
    return inputs, labels


@given(tasks(), st.integers(0, 2**32))
def test_examples_are_those_of_the_plain_definition(task, seed):
    uniforms = np.random.default_rng(seed).random((5, task.input_seq_len))
    inputs, labels = task.from_uniforms(uniforms)
    for row, example in enumerate(zip(inputs.tolist(), labels.tolist(), strict=True)):
        assert example == transcribed(task, uniforms[row])


@given(tasks(), st.sampled_from([0.0, np.nextafter(1.0, 0.0)]))
def test_the_ends_of_the_unit_interval_are_safe(task, end):
    inputs, _ = task.from_uniforms(np.full((1, task.input_seq_len), end))
    assert 0 <= inputs.min() <= inputs.max() < task.vocab_size
    assert distances(inputs)[0] in (task.min_distance, task.max_distance)


@given(tasks(), st.integers(0, 2**32))
def test_every_invariant_holds(task, seed):
    inputs, labels = task.draw(np.random.default_rng(seed), 20)
    assert inputs.shape == labels.shape == (20, task.input_seq_len)
    assert inputs.dtype == labels.dtype == np.int64
    assert inputs.min() >= 0
    assert inputs.max() < task.vocab_size
    assert (labels[:, :-1] == IGNORED).all()
    for sequence, distance in zip(inputs, distances(inputs), strict=True):
        first, second = np.flatnonzero(sequence == sequence[-1])  # the key is there twice
        assert second == task.input_seq_len - 1
        assert second - first == distance
        assert task.min_distance <= distance <= task.max_distance


def test_looking_up_the_key_is_always_right():
    inputs, labels = SingleRecall(50, 12).draw(np.random.default_rng(0), 500)
    for sequence, answers in zip(inputs.tolist(), labels, strict=True):
        assert answers[-1] == sequence[sequence.index(sequence[-1]) + 1]


def test_keys_values_noise_and_distances_are_uniform():
    task = SingleRecall(20, 6, min_distance=3, max_distance=17)
    inputs, labels = task.draw(np.random.default_rng(1), 40_000)
    # Every ordered pair of key and value: 6 * 5 of them, all alike.
    _, pairs = np.unique(inputs[:, -1] * 6 + labels[:, -1], return_counts=True)
    assert len(pairs) == 30
    assert stats.chisquare(pairs).pvalue > 1e-4
    assert stats.chisquare(np.bincount(distances(inputs))[3:]).pvalue > 1e-4
    assert len(np.bincount(distances(inputs))) == 18
    # Noise of one key: the other five tokens alike. The last before the query is never the key.
    noise = inputs[inputs[:, -1] == 0, -2]
    assert stats.chisquare(np.bincount(noise, minlength=6)[1:]).pvalue > 1e-4


def test_the_first_examples_do_not_depend_on_how_many_are_drawn():
    task = SingleRecall()
    few, many = (task.draw(np.random.default_rng(5), count) for count in (10, 700))
    for one, other in zip(few, many, strict=True):
        assert (one == other[:10]).all()


def test_splits_share_no_sequence():
    task = SingleRecall(30, 30)
    drawn = [task.draw(np.random.default_rng([7, split]), 2000)[0] for split in range(3)]
    assert len({row.tobytes() for part in drawn for row in part}) == 6000


def test_guesses_score_their_chance_and_counting_little_more():
    task, rng = SingleRecall(200, 30), np.random.default_rng(8)
    inputs, labels = task.draw(rng, 20_000)
    guess = rng.integers(0, 29, 20_000)
    guess += guess >= inputs[:, -1]
    error = math.sqrt(task.chance * (1 - task.chance) / 20_000)
    assert task.chance == 1 / 29
    guesses = np.broadcast_to(guess[:, None], labels.shape)
    assert abs(accuracy(guesses, labels).mean() - task.chance) < 4 * error
    counted = np.broadcast_to(most_frequent(inputs)[:, None], labels.shape)
    assert task.chance + 4 * error < accuracy(counted, labels).mean() < 0.15


def test_every_token_has_its_role():
    named = [ROLES[role] for role in roles(np.array([[4, 1, 7, 2, 6, 7]]))[0]]
    assert named == ["noise", "noise", "key", "value", "noise", "query"]
    assert ROLES[roles(np.array([[5, 3, 5]]))[0, 1]] == "value"


def test_the_most_frequent_token_leaves_out_the_key():
    assert most_frequent(np.array([[2, 0, 1, 1, 2], [0, 0, 3, 0, 1]])).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_seq_len": 2}, "input_seq_len 2 must be at least 3"),
        ({"vocab_size": 1}, "vocab_size 1 must be at least 2"),
        ({"min_distance": 1}, "min_distance 1 and max_distance 199 must ascend within 2 .. 199"),
        ({"max_distance": 200}, "max_distance 200 must"),
        ({"min_distance": 9, "max_distance": 8}, "min_distance 9 and max_distance 8 must"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SingleRecall(**options)
