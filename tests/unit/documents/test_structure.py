"""What belongs together in a text, and under which headings it stands."""

from __future__ import annotations

import pytest

from mm_orch.documents.structure import Kind, find_units
from mm_orch.documents.text import FileText, MediaType


def parts_of(text: str, media_type: MediaType = "text/markdown") -> list[tuple[str, str, str]]:
    """Return text, path and kind of each unit."""
    return [
        (text[one.start : one.end].strip("\n"), " > ".join(one.path), one.kind.name.lower())
        for one in find_units(FileText(text, media_type))
    ]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("one\ntwo\n\nthree", [("one\ntwo", "", "body"), ("three", "", "body")]),
        (
            "# Birds\n\nintro\n## Herons ##\ngrey\n### Nests\nhigh\n## Wrens\nsmall",
            [
                ("# Birds", "", "heading"),
                ("intro", "Birds", "body"),
                ("## Herons ##", "Birds", "heading"),
                ("grey", "Birds > Herons", "body"),
                ("### Nests", "Birds > Herons", "heading"),
                ("high", "Birds > Herons > Nests", "body"),
                ("## Wrens", "Birds", "heading"),
                ("small", "Birds > Wrens", "body"),
            ],
        ),
        ("# C#\na", [("# C#", "", "heading"), ("a", "C#", "body")]),
        ("#\na", [("#", "", "heading"), ("a", "", "body")]),
        ("#tag\n####### seven", [("#tag\n####### seven", "", "body")]),
        (
            "Title\n=====\na\nPart\n-----\nb",
            # Of several lines only the last could be meant, so none is.
            [
                ("Title\n=====", "", "heading"),
                ("a\nPart\n-----\nb", "Title", "body"),
            ],
        ),
        (
            "Title\n=====\n\nPart\n-----\nb",
            [
                ("Title\n=====", "", "heading"),
                ("Part\n-----", "Title", "heading"),
                ("b", "Title > Part", "body"),
            ],
        ),
        ("a\n\n---\nb", [("a", "", "body"), ("---\nb", "", "body")]),
        (
            "- one\n  more\n- two\n1. three\n* four",
            [
                ("- one\n  more", "", "body"),
                ("- two", "", "body"),
                ("1. three", "", "body"),
                ("* four", "", "body"),
            ],
        ),
        (
            "text\n| a | b |\n| --- | --- |\n| 1 | 2 |\n| 3 | 4 |\nafter",
            [
                ("text", "", "body"),
                ("| a | b |", "", "table_head"),
                ("| --- | --- |", "| a | b |", "table_head"),
                ("| 1 | 2 |", "| a | b |", "body"),
                ("| 3 | 4 |", "| a | b |", "body"),
                ("after", "", "body"),
            ],
        ),
        (
            "# A\n| x |\n## B\n| y |",
            [
                ("# A", "", "heading"),
                ("| x |", "A", "table_head"),
                ("## B", "A", "heading"),
                ("| y |", "A > B", "table_head"),
            ],
        ),
        (
            "```py\n# no heading\n\n| no row |\n```\n# Yes",
            [("```py\n# no heading\n\n| no row |\n```", "", "body"), ("# Yes", "", "heading")],
        ),
        ("~~~\n```\n# in\n~~~\nout", [("~~~\n```\n# in\n~~~", "", "body"), ("out", "", "body")]),
        ("```\nnever ends\n\n# in", [("```\nnever ends\n\n# in", "", "body")]),
        ("# " + "x" * 201, [("# " + "x" * 201, "", "body")]),
        ("\n \n", []),
    ],
)
def test_markdown_is_cut_where_its_parts_begin(
    text: str, parts: list[tuple[str, str, str]]
) -> None:
    assert parts_of(text) == parts


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            "\nA Title\n\n# no heading\ntwo\n\nthree",
            [
                ("A Title", "", "heading"),
                ("# no heading\ntwo", "A Title", "body"),
                ("three", "A Title", "body"),
            ],
        ),
        (
            "No title\nfor it goes on\n\nx",
            [("No title\nfor it goes on", "", "body"), ("x", "", "body")],
        ),
        ("x" * 201 + "\n\nx", [("x" * 201, "", "body"), ("x", "", "body")]),
        ("alone", [("alone", "", "body")]),
    ],
)
def test_plain_text_is_cut_at_empty_lines_below_its_title(
    text: str, parts: list[tuple[str, str, str]]
) -> None:
    assert parts_of(text, "text/plain") == parts


def test_the_first_line_of_a_page_is_no_title() -> None:
    assert parts_of("Page header\n\ntext", "application/pdf")[0] == ("Page header", "", "body")
    assert Kind.HEADING not in {
        one.kind for one in find_units(FileText("# a\n\nb", "application/pdf"))
    }


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text",
    ["# " + " " * 10**6 + "x", "#" * 10**6, "| " * 10**6, "-" * 10**6 + "x", " " * 10**6 + "- x"],
)
def test_no_line_takes_more_than_its_length(text: str) -> None:
    assert len(list(find_units(FileText(text, "text/markdown")))) == 1
