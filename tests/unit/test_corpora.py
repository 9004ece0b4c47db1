"""Texts are read whole, cleaned of markup, and cut into passages that are independent."""

import bz2

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tgn import sources
from tgn.text.corpora import clean_markup, cut_passages, prepare, read_wikipedia_dump, read_wikitext

PAGE = (
    "<page><title>{title}</title><ns>{ns}</ns>{extra}"
    "<revision><text>{text}</text></revision></page>"
)


def dump(path, *pages):
    body = "".join(PAGE.format(**{"ns": 0, "extra": "", **page}) for page in pages)
    xml = f'<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/">{body}</mediawiki>'
    path.write_bytes(bz2.compress(xml.encode()))
    return path


def wikitext(path, *lines):
    pd.DataFrame({"text": lines}).to_parquet(path)
    return path


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("a [[b|c]] d", "a c d"),
        ("x<ref name='n'>Smith [[2007]]</ref>y", "xy"),
        ("'''bold''' and ''slanted''", "bold and slanted"),
        ("[[File:a.png|thumb|a [[linked]] caption]]text", "text"),
        ("[[Category:Physics]][[de:Physik]]text", "text"),
        ("{{infobox|a=1}}text", "text"),
        ("{|\n| cell\n|}\ntext", "text"),
        ("<math>x^2</math> is", "is"),
        ("one\n\n\n\ntwo  three", "one\n\ntwo three"),
        ("''An unclosed quote <ref>gone</ref>", "An unclosed quote"),
    ],
)
def test_markup_is_cleaned(markup, text):
    assert clean_markup(markup) == text


def test_a_dump_keeps_articles_and_drops_redirects_and_other_namespaces(tmp_path):
    path = dump(
        tmp_path / "dump.bz2",
        {"title": "A", "text": "first"},
        {"title": "B", "text": "#REDIRECT [[A]]", "extra": '<redirect title="A"/>'},
        {"title": "Wikipedia:C", "text": "about", "ns": 4},
        {"title": "D", "text": "second"},
    )
    corpus = read_wikipedia_dump(path)
    assert corpus.to_dict("list") == {"title": ["A", "D"], "text": ["first", "second"]}


def test_a_dump_without_articles_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no article"):
        read_wikipedia_dump(dump(tmp_path / "dump.bz2"))


def empty(whole):
    return b""


def cut_short(whole):
    return whole[:-20]


def latin(whole):
    return bz2.compress(bz2.decompress(whole).replace(b"text", "Größe".encode("latin-1")))


@pytest.mark.parametrize("damage", [empty, cut_short, latin])
def test_a_damaged_dump_is_named(tmp_path, damage):
    path = dump(tmp_path / "dump.bz2", {"title": "A", "text": "first"})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"dump.bz2 is not a whole MediaWiki dump"):
        read_wikipedia_dump(path)


def test_wikitext_is_split_at_article_headings_only(tmp_path):
    path = wikitext(
        tmp_path / "a.parquet",
        "", " = One = \n", "", " = = Section = = \n", " Text . \n", " = 2 = \n",
        "", " = Two = \n", "", " More . \n",
    )  # fmt: skip
    corpus = read_wikitext([path])
    assert corpus["title"].tolist() == ["One", "Two"]
    assert corpus["text"].tolist() == ["= = Section = =\nText .\n= 2 =", "More ."]
    assert read_wikitext([path], documents=1)["title"].tolist() == ["One"]


def test_wikitext_without_headings_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no article heading"):
        read_wikitext([wikitext(tmp_path / "a.parquet", "just text")])


def characters(text):
    return [ord(letter) for letter in text]


@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=12),
    length=st.integers(1, 20),
    seed=st.integers(0, 2**16),
)
def test_passages_are_whole_pieces_of_distinct_documents(sizes, length, seed):
    texts = ["".join(chr(65 + (i + j) % 60) for j in range(size)) for i, size in enumerate(sizes)]
    count = sum(size >= length for size in sizes)
    if count == 0:
        return
    tokens, documents = cut_passages(
        texts, characters, length=length, count=count, rng=np.random.default_rng(seed)
    )
    assert tokens.shape == (count, length)
    assert len(set(documents)) == count
    for passage, document in zip(tokens, documents, strict=True):
        pieces = characters(texts[document])
        starts = range(0, len(pieces) - length + 1, length)
        assert any(pieces[start : start + length] == passage.tolist() for start in starts)


def test_passages_follow_the_seed():
    texts = [f"document {number} " * 9 for number in range(20)]

    def draw(seed):
        rng = np.random.default_rng(seed)
        return cut_passages(texts, characters, length=16, count=5, rng=rng)[0]

    assert (draw(1) == draw(1)).all()
    assert (draw(1) != draw(2)).any()


def test_too_few_long_documents_are_counted():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="only 1 of 2 documents have 4 tokens, 2 passages"):
        cut_passages(["long enough", "no"], characters, length=4, count=2, rng=rng)


def test_a_corpus_is_prepared_from_a_receipt(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    dump(folder / "dump.bz2", {"title": "A", "text": "first"}, {"title": "B", "text": "second"})
    receipt, table = folder / "receipt.json", tmp_path / "corpus.parquet"
    sources.write_receipt(receipt, name="dump", kind="fixture", evidence="simulated")
    prepare(source=receipt, table=table, reader="wikipedia", files="*.bz2", documents=1)
    assert pd.read_parquet(table)["title"].tolist() == ["A"]
    with pytest.raises(ValueError, match=r"no file .* matches '\*\.xml'"):
        prepare(source=receipt, table=table, reader="wikipedia", files="*.xml", documents=None)
