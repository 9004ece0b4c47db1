"""One page, two languages: what stands in the one stands in the other, and nothing leaks."""

from html.parser import HTMLParser

import pytest

from tgn.pages import Bullets, Heading, Lines, Table, fragment, html, markdown

BLOCKS = [
    "A paragraph with `code_of_it`, **bold** and *soft* words, 1 < 2.",
    Heading("Under it"),
    Bullets(["one", "**two**"]),
    Lines(["first", "second"]),
    Table(["a", "b"], [[["1 | 2", "x < y"], ["3"]], [["4"], []]], [70, 30]),
    Table(["c"], [[["folded in"]]], fold="the label"),
]


class Reader(HTMLParser):
    """Text of a page, and whether its tags nest."""

    def __init__(self, page):
        super().__init__()
        self.open, self.text = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag not in {"br", "wbr", "col", "meta"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_markdown():
    page = markdown("Title", BLOCKS)
    assert page.startswith("# Title\n\nA paragraph with `code_of_it`")
    assert "\n## Under it\n" in page
    assert "\n- one\n- **two**\n" in page
    assert "first<br>second" in page
    assert "| a | b |\n| --- | --- |\n| 1 \\| 2<br>x &lt; y | 3 |\n| 4 |  |" in page
    assert "the label\n\n| c |" in page


def test_html_nests_and_says_the_same():
    reader = Reader(html("Title", BLOCKS))
    assert reader.open == []
    text = "".join(reader.text)
    for words in ("code_of_it", "1 < 2", "1 | 2", "x < y", "folded in", "the label", "Under it"):
        assert words in text
    assert "**" not in text
    assert "`" not in text


def test_html_asks_for_nothing_from_elsewhere():
    page = html("Title", BLOCKS)
    assert "<script" not in page
    assert "http" not in page


def test_the_columns_of_a_wide_table_have_their_widths():
    assert fragment([BLOCKS[4]]).count("<col ") == 2
    assert "<col " not in fragment([BLOCKS[5]])


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "a & b", "2 * 3 * 4"])
def test_text_stays_text(text):
    reader = Reader(fragment([text]))
    assert "".join(reader.text).strip() == text
