"""What is read of files: kinds, encodings, and why not."""

from __future__ import annotations

import pytest

from mm_orch.core.errors import DocumentLimitError, InvalidValueError
from mm_orch.documents import reading
from mm_orch.documents.reading import decode, find_media_type, read_text


@pytest.mark.parametrize(
    ("name", "content", "media_type"),
    [
        ("a.txt", b"a", "text/plain"),
        ("a.b.TXT", b"a", "text/plain"),
        ("a.md", b"# a", "text/markdown"),
        ("a.Markdown", b"# a", "text/markdown"),
        ("a.pdf", b"%PDF-1.7", "application/pdf"),
        ("a", b"\n\n%PDF-1.7", "application/pdf"),
        ("a.txt", b"%PDF-1.7", "application/pdf"),
        ("a.txt", b" " * 2000 + b"%PDF-1.7", "text/plain"),
    ],
)
def test_the_end_of_the_name_says_what_a_file_is(
    name: str, content: bytes, media_type: str
) -> None:
    assert find_media_type(name, content) == media_type


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.docx", r"'a\.docx' is of no kind that is read; allowed endings: \.txt, .*\.pdf\."),
        ("a", "is of no kind that is read"),
        (".md", "is of no kind that is read"),
        ("a.pdf", "is no PDF: it lacks %PDF-"),
    ],
)
def test_other_files_are_refused_by_name(name: str, words: str) -> None:
    with pytest.raises(InvalidValueError, match=words):
        find_media_type(name, b"content")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("Zürich 水".encode(), "Zürich 水"),
        ("Zürich 水".encode("utf-8-sig"), "Zürich 水"),
        ("Zürich 水".encode("utf-16"), "Zürich 水"),
        (b"\xfe\xff" + "Zürich 水".encode("utf-16-be"), "Zürich 水"),
        ("Zürich 水".encode("utf-32"), "Zürich 水"),
        (b"a\r\nb\rc\n\td\x0ce", "a\nb\nc\n\td\x0ce"),
    ],
)
def test_text_is_read_in_unicodes_encodings(content: bytes, text: str) -> None:
    assert decode(content) == text
    assert read_text(content, "text/plain").text == text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("Zürich".encode("latin-1"), "is no text in UTF-8: byte 1 is 0xfc.*Save it in UTF-8"),
        (b"\xff\xfea", "is no text in UTF-16: byte"),
        ("ab".encode("utf-16-le"), r"it holds U\+0000 at character 1"),
        (b"\x7fELF", r"it holds U\+007F at character 0"),
        ("\ud800".encode("utf-8", "surrogatepass"), "is no text in UTF-8"),
        (b"", "has no text"),
        (b" \r\n\t", "has no text"),
    ],
)
def test_what_is_no_text_is_refused_with_the_place(content: bytes, words: str) -> None:
    with pytest.raises(InvalidValueError, match=words):
        decode(content)


def test_a_text_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_TEXT_CHARS", 3)

    with pytest.raises(DocumentLimitError, match="has 4 characters; at most 3 are read"):
        decode(b"abcd")
