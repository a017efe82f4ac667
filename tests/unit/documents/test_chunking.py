"""How texts are cut: parts stay whole, headings go along, what is repeated makes sense."""

from __future__ import annotations

from pathlib import Path

import pytest

from mm_orch.documents.chunking import Measure, cut_into_chunks
from mm_orch.documents.text import FileText, MediaType

CORPUS = Path(__file__).parents[3] / "benchmarks/rag/documents"


def count_words(text: str) -> int:
    return len(text.split())


def cut(
    text: str, size: int, overlap: int = 0, media_type: MediaType = "text/markdown"
) -> list[tuple[str, str]]:
    """Return heading and text of each chunk."""
    measure = Measure(count_words, size, overlap)
    chunks = cut_into_chunks(FileText(text, media_type), measure)
    return [(chunk.heading, chunk.text) for chunk in chunks]


def test_parts_are_put_together_while_they_fit_and_stay_whole() -> None:
    text = "a b c\n\nd e f\n\ng h i\n\nj"

    assert cut(text, 7) == [("", "a b c\n\nd e f"), ("", "g h i\n\nj")]


def test_a_heading_begins_a_chunk_and_stands_over_those_that_follow() -> None:
    text = "# Birds\n\none two\n\n## Herons\n\nthree four five six\n\nseven eight nine ten\n"

    assert cut(text, 8) == [
        ("", "# Birds\n\none two"),
        ("Birds", "## Herons\n\nthree four five six"),
        ("Birds > Herons", "seven eight nine ten"),
    ]


def test_a_heading_without_text_stays_with_the_next_one() -> None:
    assert cut("# A\n## B\ntext\n# C", 9) == [("", "# A\n## B\ntext"), ("", "# C")]


def test_rows_of_a_long_table_stand_under_its_head() -> None:
    rows = [f"| {number} | x |" for number in range(6)]
    text = "\n".join(["# T", "", "| n | m |", "| - | - |", *rows])

    chunks = cut(text, 24)

    assert chunks[0] == ("", "\n".join(["# T", "", "| n | m |", "| - | - |", *rows[:2]]))
    assert chunks[1] == ("T > | n | m |", "\n".join(rows[2:5]))
    assert chunks[2] == ("T > | n | m |", rows[5])


def test_the_head_of_a_table_is_left_to_its_rows() -> None:
    text = "one two three four five six\n\n| n | m |\n| - | - |\n| 1 | 2 |"

    assert cut(text, 17) == [
        ("", "one two three four five six"),
        ("", "| n | m |\n| - | - |\n| 1 | 2 |"),
    ]


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ("a b c d\ne f g h\ni j", ["a b c d", "e f g h\ni j"]),
        ("a b. c d. e f g. h", ["a b. c d.", "e f g. h"]),
        ("a b c d e f g h i j", ["a b c d e f", "g h i j"]),
    ],
)
def test_what_is_too_large_is_cut_where_it_does_least_harm(text: str, texts: list[str]) -> None:
    assert [one for _, one in cut(text, 6)] == texts


def test_the_last_sentences_are_repeated_and_where_they_are_too_long_the_last_words() -> None:
    sentences = "a b c d. e f. g h i j. k l m n o p q"

    assert [text for _, text in cut(sentences, 8, 3)] == [
        "a b c d. e f.",
        "e f. g h i j.",
        "h i j. k l m n o",
        "m n o p q",
    ]


def test_nothing_is_repeated_over_a_heading() -> None:
    assert cut("a b c\n# H\nd e", 8, 4) == [("", "a b c"), ("", "# H\nd e")]


def test_headings_leave_room_for_the_text() -> None:
    text = "# one two three\n## four five six\n### seven eight\na b\n\nc d"

    # All of them, then the outermost and the innermost, then the innermost.
    headings = {size: cut(text + " e f g h" * 10, size)[-1][0] for size in (24, 18, 10, 5)}
    assert headings == {
        24: "one two three > four five six > seven eight",
        18: "one two three > seven eight",
        10: "seven eight",
        5: "seven eight",
    }


def test_a_chunk_says_on_which_page_it_begins() -> None:
    pages = ["a b c", "d e f", "g h i"]
    text = "\n\n".join(pages)
    file = FileText(text, "application/pdf", (0, 5, 10))

    chunks = list(cut_into_chunks(file, Measure(count_words, 6)))

    assert [(one.text, one.metadata.page) for one in chunks] == [
        ("a b c\n\nd e f", 1),
        ("g h i", 3),
    ]
    assert FileText("a", "text/plain").page_at(0) is None


def test_every_line_of_the_corpus_that_fits_is_in_one_chunk() -> None:
    for path in sorted(CORPUS.iterdir()):
        text = path.read_text()
        media_type: MediaType = "text/markdown" if path.suffix == ".md" else "text/plain"
        chunks = list(cut_into_chunks(FileText(text, media_type), Measure(count_words, 100, 16)))
        for line in filter(str.strip, text.split("\n")):
            # With the longest heading.
            if count_words(line) <= 50:
                assert any(line.strip() in chunk.text for chunk in chunks), (path.name, line)
