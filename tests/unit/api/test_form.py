"""Forms with a file, as clients write them, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.api.form import read_form
from mm_orch.core.errors import InvalidValueError

TYPE = "multipart/form-data; boundary=b"


def part(name: str, content: bytes, *, filename: str | None = None) -> bytes:
    file = "" if filename is None else f'; filename="{filename}"'
    head = f'Content-Disposition: form-data; name="{name}"{file}'
    return b"--b\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n"


def test_fields_and_files_are_read_as_they_were_sent() -> None:
    body = (
        b"preamble\r\n"
        + part("metadata", '{"a":"é"}'.encode())
        + part("file", b"\r\n--x\r\n\x00\xff\r\n", filename="Zürich 水.md")
        + b"--b--\r\nepilogue"
    )

    form = read_form(body, TYPE)

    assert form["metadata"].text == '{"a":"é"}'
    assert form["metadata"].filename is None
    assert form["file"].filename == "Zürich 水.md"
    assert form["file"].content == b"\r\n--x\r\n\x00\xff\r\n"


def test_a_boundary_may_be_quoted_and_names_may_be_spelled_in_rfc_5987() -> None:
    body = (
        b"--a b\r\nContent-Type: text/plain\r\n"
        b"content-disposition: form-data; name=file; filename*=UTF-8''Z%C3%BCrich.txt\r\n\r\n"
        b"x\r\n--a b--"
    )

    form = read_form(body, 'multipart/form-data; boundary="a b"')

    assert form["file"].filename == "Zürich.txt"


@pytest.mark.parametrize(
    ("body", "content_type", "words"),
    [
        (b"", TYPE, "it has no end"),
        (part("a", b"x"), TYPE, "it has no end"),
        (b"--b--", "multipart/form-data", "names no boundary of 1 to 70"),
        (b"--b--", f"multipart/form-data; boundary={'b' * 71}", "names no boundary"),
        (b"--b--", "multipart/form-data; boundary=é", "names no boundary"),
        (b"--b\r\nno headers\r\n--b--", TYPE, "a field has no headers"),
        (b"--b\r\n\r\nx\r\n--b--", TYPE, "a field has no name"),
        (b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--", TYPE, "has no name"),
        (b'--b\r\nContent-Disposition: inline; name="a"\r\n\r\nx\r\n--b--', TYPE, "has no name"),
        (b"--b\r\nX: \xff\r\n\r\nx\r\n--b--", TYPE, "not in UTF-8"),
        (part("a", b"x") + part("a", b"y") + b"--b--", TYPE, "a is given twice"),
        (
            b"".join(part(f"f{number}", b"x") for number in range(17)) + b"--b--",
            TYPE,
            "more than 16 fields",
        ),
    ],
)
def test_what_is_no_form_is_refused_with_the_reason(
    body: bytes, content_type: str, words: str
) -> None:
    with pytest.raises(InvalidValueError, match=words):
        read_form(body, content_type)


def test_as_many_fields_as_are_allowed_are_read() -> None:
    body = b"".join(part(f"f{number}", b"x") for number in range(16)) + b"--b--"

    assert len(read_form(body, TYPE)) == 16


@given(st.binary(max_size=300), st.binary(max_size=30))
def test_any_bytes_come_back_as_they_are(content: bytes, other: bytes) -> None:
    boundary = "boundary-that-no-content-has"
    body = part("file", content, filename="a.txt") + part("other", other) + b"--b--\r\n"
    body = body.replace(b"--b", b"--" + boundary.encode()) if b"--b" not in content + other else b""
    if not body:
        return

    form = read_form(body, f"multipart/form-data; boundary={boundary}")

    assert (form["file"].content, form["other"].content) == (content, other)


@given(st.binary(max_size=200), st.text(max_size=80))
def test_whatever_comes_is_a_form_or_is_refused(body: bytes, content_type: str) -> None:
    for kind in (TYPE, content_type):
        try:
            read_form(b"--b" + body, kind)
        except InvalidValueError as error:
            assert error.message  # noqa: PT017 - both outcomes are right
