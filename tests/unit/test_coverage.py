"""Sentences of the works: every one tested or explained, every number in its place."""

import json
import re
from pathlib import Path

import pytest
import yaml

from tgn.claims import SYSTEMS, read_claims
from tgn.coverage import REASONS, Sentence, Work, check_cited, read_works, reasons

CONFIG = Path(__file__).parents[2] / "config"
SENTENCES, SCHEMA = CONFIG / "sentences.yaml", CONFIG / "sentences.schema.json"
WORKS = read_works(SENTENCES)
CLAIMS = read_claims(CONFIG / "claims.yaml")

TESTED = {"section": "one", "says": "It rises by 9 %.", "claims": ["tgn.toy"], "numbers": ["9 %"]}
UNTESTED = {"section": "two", "says": "It is good.", "reason": "undefined", "why": "good is not"}
WORK = {
    "title": "toy",
    "system": "tgn",
    "numbers": ["9 %"],
    "sentences": [TESTED, UNTESTED],
}


def written(folder: Path, *works: dict) -> Path:
    path = folder / "sentences.yaml"
    path.write_text(yaml.safe_dump(list(works)))
    return path


# --- what stands in config/ ----------------------------------------------------------------------


def test_every_claim_that_a_sentence_names_is_in_the_ledger():
    check_cited(WORKS, [claim.id for claim in CLAIMS])


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system_has_its_works(system):
    assert any(work.system == system for work in WORKS)


@pytest.mark.parametrize(
    ("source", "least"),
    [
        ("TGN paper|guide", 40),
        ("thermodynamic-scaling README", 5),
        ("NGT README", 15),
        ("Paper 3 README", 15),
    ],
)
def test_every_claim_that_a_work_read_so_makes_is_named_by_a_sentence(source, least):
    cited = set().union(*(work.cited for work in WORKS))
    made = [claim.id for claim in CLAIMS if re.search(source, claim.source)]
    assert len(made) > least
    assert [id for id in made if id not in cited] == []


def test_a_claim_is_named_by_works_of_its_own_system():
    for work in WORKS:
        assert {c.system for c in CLAIMS if c.id in work.cited} <= {work.system}


def test_works_that_are_here_have_sentences_and_the_others_say_what_is_to_come():
    for work in WORKS:
        assert bool(work.sentences) != bool(work.to_come)


# --- the rules -----------------------------------------------------------------------------------


def test_a_work_is_counted(tmp_path):
    (work,) = read_works(written(tmp_path, WORK), SCHEMA)
    assert work.tested == [Sentence(**TESTED)]
    assert work.cited == {"tgn.toy"}
    assert reasons(work) == {"undefined": 1}


def test_numbers_are_all_in_sentences_and_no_others_are():
    with pytest.raises(ValueError, match="no sentence gives 10 %"):
        Work("toy", "tgn", [Sentence(**TESTED)], ["9 %", "10 %"])
    with pytest.raises(ValueError, match="does not list 9 %"):
        Work("toy", "tgn", [Sentence(**TESTED)], [])


def test_an_unknown_claim_is_named_with_its_place(tmp_path):
    (work,) = read_works(written(tmp_path, WORK), SCHEMA)
    check_cited([work], ["tgn.toy"])
    with pytest.raises(ValueError, match=r"toy, one: tgn\.toy"):
        check_cited([work], ["tgn.other"])


@pytest.mark.parametrize(
    "sentence",
    [
        {"section": "one", "says": "Neither tested nor explained."},
        TESTED | {"reason": "undefined", "why": "both"},
        {"section": "two", "says": "No reason.", "reason": "undefined"},
        UNTESTED | {"reason": "boring"},
        UNTESTED | {"left": "nothing is tested, so nothing is left"},
        TESTED | {"verdict": "reproduced"},
        TESTED | {"claims": []},
    ],
)
def test_a_sentence_is_tested_or_explained(tmp_path, sentence):
    work = WORK | {"sentences": [TESTED, sentence]}
    with pytest.raises(ValueError, match=r"sentences\.yaml"):
        read_works(written(tmp_path, work), SCHEMA)


def test_a_work_without_sentences_says_why(tmp_path):
    bare = {"title": "toy", "system": "ngt"}
    assert read_works(written(tmp_path, bare | {"to_come": "later"}), SCHEMA)[0].sentences == []
    with pytest.raises(ValueError, match="toy"):
        read_works(written(tmp_path, bare), SCHEMA)


def test_schema_and_code_know_the_same_reasons_and_systems():
    schema = json.loads(SCHEMA.read_text())
    assert schema["$defs"]["sentence"]["properties"]["reason"]["enum"] == list(REASONS)
    assert schema["items"]["properties"]["system"]["enum"] == list(SYSTEMS)
