"""Two results side by side: what changed is told from what moved and what did not."""

import json

import pytest

from tgn.compare import ABSENT, compare, page, read_verdicts


def number(value, low=None, high=None, id="fig0.effect"):
    return {"id": id, "value": value, "ci_low": low, "ci_high": high, "unit": "nats"}


def record(verdict, *numbers, id="tgn.toy"):
    return {"id": id, "verdict": verdict, "ours": list(numbers)}


def moved(before, after):
    (row,) = compare([record("reproduced", before)], [record("reproduced", after)])
    assert not row.changed
    return row.numbers[0].moved


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((1.0, 0.9, 1.1), (1.0, 0.9, 1.1), False),
        ((1.0, 0.9, 1.1), (1.1, 1.0, 1.2), False),  # 0.1 apart, to within 0.14
        ((1.0, 0.9, 1.1), (1.2, 1.1, 1.3), True),
        ((1.2, 1.1, 1.3), (1.0, 0.9, 1.1), True),
        ((1.0,), (1.0,), False),
        ((1.0,), (2.0,), None),  # no interval tells
        ((1.0, 0.9, 1.1), (2.0,), None),
    ],
)
def test_a_number_moves_beyond_its_intervals_or_does_not(before, after, expected):
    assert moved(number(*before), number(*after)) is expected


def test_claims_and_numbers_of_one_side_only():
    rows = compare(
        [record("reproduced", number(1), id="tgn.old")],
        [record("inconclusive", number(1), number(2, id="fig0.more"))],
    )
    assert [(row.id, row.before, row.after) for row in rows] == [
        ("tgn.toy", ABSENT, "inconclusive"),
        ("tgn.old", "reproduced", ABSENT),
    ]
    assert all(row.changed and not row.moved for row in rows)


def written(folder, *records):
    folder.mkdir()
    (folder / "claims.json").write_text(json.dumps(records))
    return folder


def test_the_page_shows_changes_first_and_counts_the_rest(tmp_path):
    still, other = record("reproduced", number(1, 0, 2)), number(1, 0.9, 1.1)
    before = written(
        tmp_path / "a",
        still,
        record("reproduced", other, id="tgn.changed"),
        record("reproduced", other, id="tgn.moved"),
    )
    far = number(9, 8.9, 9.1)
    after = written(
        tmp_path / "b",
        still,
        record("not reproduced", far, id="tgn.changed"),
        record("reproduced", far, id="tgn.moved"),
    )
    text = page(before, after)
    assert "3 claims: 1 with another verdict, 1 with the same one" in text
    assert "1 unchanged" in text
    assert text.index("tgn.changed") < text.index("tgn.moved")
    assert "tgn.toy" not in text
    assert "1 nats [0.9, 1.1] → 9 nats [8.9, 9.1] (moved)" in text
    same = page(before, before)
    assert "0 with another verdict, 0 with the same one" in same
    assert "##" not in same


def test_a_folder_without_verdicts_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        read_verdicts(tmp_path)
