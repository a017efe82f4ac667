"""Chunks of any text: nothing is lost, none is too large, each says where it stands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.documents.chunking import MIN_CHUNK_SIZE, Measure, cut_into_chunks
from mm_orch.documents.text import FileText, MediaType

TYPES: tuple[MediaType, ...] = ("text/plain", "text/markdown", "application/pdf")
LINES = st.one_of(
    st.text(alphabet="ab .!?\u3002\t", max_size=60),
    st.text(alphabet="\u6c34\u9e21\u3002 a", max_size=60),
    st.lists(st.sampled_from(["heron", "wren", "e.g.", "1846", "x" * 40]), max_size=30).map(
        " ".join
    ),
    st.builds("{} {}".format, st.sampled_from(["#", "##", "###", "-", "1.", "|"]), st.text("ab ")),
    st.sampled_from(["", "", "```", "---", "===", "| a | b |", "| --- | --- |", "x" * 300]),
    st.text(max_size=20),
)
TEXTS = st.lists(LINES, max_size=25).map("\n".join)


def count_words(text: str) -> int:
    """Every word has a token for each four characters, and every text two around it."""
    return 2 + sum(-(-len(word) // 4) for word in text.split())


def count_bytes(text: str) -> int:
    return -(-len(text.encode("utf-8", "replace")) // 3)


MEASURES = st.builds(
    Measure,
    count=st.sampled_from([count_words, count_bytes]),
    size=st.integers(MIN_CHUNK_SIZE, 80),
    overlap=st.integers(0, 8),
)


@given(TEXTS, st.sampled_from(TYPES), MEASURES)
def test_chunks_cover_the_text_in_order_and_within_their_size(
    text: str, media_type: MediaType, measure: Measure
) -> None:
    chunks = list(cut_into_chunks(FileText(text, media_type), measure))

    end = start = 0
    for chunk in chunks:
        where = chunk.metadata
        assert text[where.start : where.end] == chunk.text
        assert chunk.text.strip()
        assert chunk.text == chunk.text.rstrip()
        assert measure.count(chunk.content) <= measure.size
        # Each begins and ends after the one before, and nothing but white space is between.
        assert where.start >= start
        assert where.end > end
        assert not text[end : where.start].strip()
        repeated = text[where.start : end]
        assert not repeated or measure.count(repeated) <= measure.overlap
        start, end = where.start, where.end
    assert not text[end:].strip()


@given(TEXTS, MEASURES)
def test_a_text_is_always_cut_in_the_same_way(text: str, measure: Measure) -> None:
    file = FileText(text, "text/markdown")

    assert list(cut_into_chunks(file, measure)) == list(cut_into_chunks(file, measure))


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "text", ["x" * 10**5, "\u6c34" * 10**5, "a " * 50_000, "a.\n" * 30_000, "a\n\n" * 30_000]
)
def test_a_long_text_of_one_kind_is_cut_in_time(text: str) -> None:
    # What this counts of a word without blanks is one token, as some tokenisers do.
    measure = Measure(lambda part: 2 + len(part.split()), size=64, overlap=8)

    chunks = list(cut_into_chunks(FileText(text, "text/plain"), measure))

    assert len(chunks) > 50
    assert max(len(chunk.text) for chunk in chunks) <= 64 * 16
