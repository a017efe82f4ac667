"""Small PDFs, made as a test wants them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

if TYPE_CHECKING:
    from collections.abc import Sequence

_FONT = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"}


def make_pdf(pages: Sequence[str], *, password: str | None = None) -> bytes:
    """Return a PDF with these pages; a line of text is a line on the page, none is an empty one."""
    return write_pdf([_show(page) for page in pages], password=password)


def write_pdf(contents: Sequence[bytes], *, password: str | None = None) -> bytes:
    """Return a PDF whose pages have these streams of operators."""
    writer = PdfWriter()
    for content in contents:
        page = writer.add_blank_page(width=595, height=842)
        font = DictionaryObject({NameObject(k): NameObject(v) for k, v in _FONT.items()})
        fonts = DictionaryObject({NameObject("/F1"): font})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        stream = DecodedStreamObject()
        stream.set_data(content)
        page[NameObject("/Contents")] = writer._add_object(stream.flate_encode())
    if password is not None:
        writer.encrypt(password, algorithm="RC4-128")
    written = io.BytesIO()
    writer.write(written)
    return written.getvalue()


def _show(page: str) -> bytes:
    shown = "".join(f"({_escape(line)}) Tj 0 -16 Td " for line in page.split("\n") if page)
    return f"BT /F1 12 Tf 72 770 Td {shown} ET".encode("latin-1")


def _escape(line: str) -> str:
    return line.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
