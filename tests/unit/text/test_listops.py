"""Expressions are well formed and rightly valued, and as deep as was drawn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tgn.text import listops
from tgn.text.as_published import published_listops
from tgn.text.listops import CLOSE, MAX, MIN, PAD, QUERY, SUM, ListOps, evaluate
from tgn.text.recall import IGNORED

VALUES = {MAX: max, MIN: min, SUM: lambda values: sum(values) % 10}

trees = st.recursive(
    st.integers(0, 9),
    lambda inner: st.tuples(st.sampled_from([MAX, MIN, SUM]), st.lists(inner, min_size=1)),
    max_leaves=30,
)


def value(tree):
    """By recursion over the tree, which knows nothing of tokens."""
    return tree if isinstance(tree, int) else VALUES[tree[0]]([value(part) for part in tree[1]])


def depth(tree):
    return 0 if isinstance(tree, int) else 1 + max(depth(part) for part in tree[1])


def written(tree):
    if isinstance(tree, int):
        return [tree]
    return [tree[0], *(token for part in tree[1] for token in written(part)), CLOSE]


def parsed(tokens):
    """The tree that begins with the first token, which is taken away with it."""
    token = tokens.pop(0)
    if token < 10:
        return token
    parts = []
    while tokens[0] != CLOSE:
        parts.append(parsed(tokens))
    tokens.pop(0)
    return token, parts


def rows(trees):
    """A batch of expressions of several lengths."""
    found = [[*written(tree), QUERY] for tree in trees]
    longest = max(map(len, found))
    return np.array([row + [PAD] * (longest - len(row)) for row in found])


@given(st.lists(trees, min_size=1, max_size=8))
def test_values_and_depths_are_those_of_plain_recursion(batch):
    inputs = rows(batch)
    assert evaluate(inputs).tolist() == [value(tree) for tree in batch]
    assert listops.depths(inputs).tolist() == [depth(tree) for tree in batch]
    assert listops.lengths(inputs).tolist() == [len(written(tree)) for tree in batch]


@pytest.mark.parametrize(
    "tokens",
    [
        [MAX, 1, 2, QUERY],
        [1, 2, QUERY],
        [MAX, CLOSE, QUERY],
        [MAX, 1, CLOSE, CLOSE],
        [CLOSE, MAX, 1, CLOSE],
        [CLOSE, MAX, 1, QUERY],
        [MAX, 1, CLOSE, 2],
        [QUERY, 1, PAD, PAD],
        [MAX, 1, PAD, CLOSE],
        [PAD, PAD],
        [-100, PAD],
    ],
)
def test_what_is_no_expression_is_refused(tokens):
    good = [5] + [PAD] * (len(tokens) - 1)
    with pytest.raises(ValueError, match="row 1 is no well-formed expression"):
        evaluate(np.array([good, tokens]))


@st.composite
def tasks(draw):
    deepest = draw(st.integers(1, 5))
    nested = draw(st.sampled_from([0.0, 0.1, 0.2]))
    room = int(2 * ListOps(10_000, 1, deepest, nested).mean_length(deepest)) + 2
    return ListOps(
        input_seq_len=room + draw(st.integers(0, 40)),
        min_depth=draw(st.integers(1, deepest)),
        max_depth=deepest,
        nested=nested,
        part=draw(st.sampled_from([None, *listops.PARTS])),
    )


@settings(deadline=None)
@given(tasks(), st.integers(0, 2**32))
def test_every_example_is_an_expression_with_its_value_asked_at_the_end(task, seed):
    inputs, labels = task.draw(np.random.default_rng(seed), 12)
    assert inputs.shape == labels.shape == (12, task.input_seq_len)
    assert inputs.dtype == labels.dtype == np.int64
    for sequence, answers in zip(inputs.tolist(), labels.tolist(), strict=True):
        end = sequence.index(QUERY)
        assert set(sequence[end + 1 :]) <= {PAD}
        rest = sequence[:end]
        tree = parsed(rest)
        assert rest == []
        assert task.min_depth <= depth(tree) <= task.max_depth
        assert all(2 <= len(parts) <= 4 for parts in arguments(tree))
        assert answers.pop(end) == value(tree)
        assert set(answers) == {IGNORED}
    if task.part:
        assert (listops.parts(inputs) == list(listops.PARTS).index(task.part)).all()


def arguments(tree):
    if isinstance(tree, int):
        return []
    return [tree[1], *(found for part in tree[1] for found in arguments(part))]


@pytest.mark.parametrize("room", [45, 200])  # in the tighter one many deep ones do not fit at first
@pytest.mark.parametrize("part", [None, "test"])
def test_depths_are_uniform_however_tight_the_room(room, part):
    task = ListOps(room, 1, 4, 0.15, part)
    inputs, _ = task.draw(np.random.default_rng(3), 8000)
    counts = np.bincount(listops.depths(inputs))
    assert counts[0] == 0
    assert len(counts) == 5
    assert stats.chisquare(counts[1:]).pvalue > 1e-4


def test_mean_lengths_are_those_of_grown_expressions():
    task = ListOps(2048, 1, 6, 0.25)
    for deep in range(1, 7):
        limits = np.full(4000, deep)
        _, owner = listops.grow(np.random.default_rng(deep), limits, nested=0.25)
        lengths = np.bincount(owner)
        assert abs(lengths.mean() - task.mean_length(deep)) < 4 * lengths.std() / np.sqrt(4000)


def test_operators_arguments_and_digits_are_uniform():
    task = ListOps(30, 1, 1)
    inputs, _ = task.draw(np.random.default_rng(4), 12_000)
    assert stats.chisquare(np.bincount(inputs[:, 0])[MAX:]).pvalue > 1e-4
    assert stats.chisquare(np.bincount(listops.lengths(inputs))[4:]).pvalue > 1e-4
    digits = inputs[inputs < 10]
    assert stats.chisquare(np.bincount(digits)).pvalue > 1e-4


def test_the_argument_that_carries_on_is_anywhere():
    task = ListOps(60, 2, 2, nested=0.0)
    inputs, _ = task.draw(np.random.default_rng(5), 12_000)
    four = inputs[[len(parsed(row.tolist())[1]) == 4 for row in inputs]]
    place = (four[:, 1:] >= 10).argmax(axis=1)
    assert stats.chisquare(np.bincount(place)).pvalue > 1e-4
    assert len(np.bincount(place)) == 4


def test_parts_share_no_expression_even_where_there_are_few():
    rng = np.random.default_rng(6)
    drawn = [
        {row.tobytes() for row in ListOps(20, 1, 1, part=part).draw(rng, 20_000)[0]}
        for part in listops.PARTS
    ]
    assert len(set.union(*drawn)) == sum(map(len, drawn))
    every, _ = ListOps(20, 1, 1).draw(rng, 20_000)
    every = np.unique(every, axis=0)
    counts = np.bincount(listops.parts(every))
    assert stats.chisquare(counts, len(every) * np.array([0.8, 0.1, 0.1])).pvalue > 1e-4


def test_the_part_of_an_expression_does_not_depend_on_the_room():
    inputs, _ = ListOps(60, 1, 3).draw(np.random.default_rng(7), 500)
    wider = np.pad(inputs, ((0, 0), (0, 9)), constant_values=PAD)
    assert (listops.parts(inputs) == listops.parts(wider)).all()
    assert len(set(listops.parts(inputs))) == 3


def test_every_token_has_its_role():
    inputs = rows([(MAX, [4, (SUM, [7, 8])]), 3])
    named = [[listops.ROLES[role] for role in row] for row in listops.roles(inputs)]
    expected = "operator digit operator digit digit bracket bracket query"
    assert named[0] == expected.split()
    assert named[1] == ["digit", "query"] + 6 * ["padding"]


def test_a_seed_gives_the_same_examples_and_another_one_others():
    task = ListOps()
    first, again, other = (task.draw(np.random.default_rng(seed), 50)[0] for seed in (1, 1, 2))
    assert (first == again).all()
    assert not (first == other).all()


def test_baselines_say_what_they_are_told():
    known = rows([(MAX, [9, 1]), (MAX, [9, 2]), (MIN, [0, 9]), (MAX, [3, 4])])
    answers = evaluate(known)
    asked = rows([7, (MIN, [5, 6]), (MAX, [(MIN, [2, 8]), 1]), (SUM, [8, (SUM, [9, 5])])])
    assert listops.majority(answers, asked).tolist() == [9, 9, 9, 9]
    assert listops.bare_digit(answers, asked).tolist() == [7, 9, 9, 9]
    assert listops.first_operator(known, answers, asked[1:3]).tolist() == [0, 9]
    assert listops.flat(asked[1:]).tolist() == [5, 8, 2]


def test_the_published_generator_is_supercritical_and_rejection_leaves_bare_digits():
    """Depths against the recursion of their distribution; what is kept is mostly one token."""
    shapes = published_listops(np.random.default_rng(9), 2000)
    at_most = [0.3]
    while len(at_most) < 10:
        branch = np.mean([at_most[-1] ** k for k in (2, 3, 4)])
        at_most.append(0.3 + 0.7 * branch)
    expected = 2000 * np.diff([0, *at_most, 1])
    observed = np.bincount(shapes.depths, minlength=11)
    # the rare depths in between are taken together
    pooled = [np.concatenate([x[:3], [x[3:10].sum()], x[10:]]) for x in (observed, expected)]
    assert stats.chisquare(*pooled).pvalue > 1e-4
    assert (shapes.lengths[shapes.depths == 0] == 1).all()
    assert set(shapes.lengths[shapes.depths == 1]) == {5, 6, 7}
    assert shapes.accepted.mean() < 0.5
    assert (shapes.depths[shapes.accepted] == 0).mean() > 0.7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_depth": 0}, "min_depth 0 and max_depth 4 must ascend from 1"),
        ({"min_depth": 5}, "min_depth 5 and max_depth 4"),
        ({"nested": 0.34}, "nested 0.34: an operator would have 1.02 operators"),
        ({"nested": -0.1}, "nested -0.1"),
        ({"input_seq_len": 30}, "input_seq_len 30 is too short: max_depth 4 .* need 45"),
        ({"part": "dev"}, "part 'dev' must be one of train, validation, test"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ListOps(**options)


def test_the_tightest_fit_is_allowed():
    inputs, _ = ListOps(45).draw(np.random.default_rng(0), 200)
    assert listops.lengths(inputs).max() <= 44
