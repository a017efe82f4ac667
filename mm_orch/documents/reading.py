"""Makes text of a file: plain text, Markdown, PDF."""

from __future__ import annotations

import codecs
import re
from pathlib import PurePath
from typing import TYPE_CHECKING

from mm_orch.core.errors import DocumentLimitError, InvalidValueError
from mm_orch.documents.text import MAX_TEXT_CHARS, FileText

if TYPE_CHECKING:
    from mm_orch.documents.text import MediaType

_TYPES: dict[str, MediaType] = {
    ".txt": "text/plain",
    ".text": "text/plain",
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".pdf": "application/pdf",
}
_PDF_MARK = b"%PDF-"
# PDF readers take a file whose mark stands within so much.
_PDF_MARK_WITHIN = 1024
_MARKS = (
    # Before UTF-16's, which it begins with.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
NO_TEXT = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f\ud800-\udfff]")
"""Control characters, which binary files are full of, and halves of surrogate pairs."""


def find_media_type(name: str, content: bytes) -> MediaType:
    """Return what a file is, by the end of its name; a PDF also by its first bytes.

    Raises:
        InvalidValueError: it is none of those that are read.
    """
    if _PDF_MARK in content[:_PDF_MARK_WITHIN]:
        return "application/pdf"
    ending = PurePath(name).suffix.lower()
    media_type = _TYPES.get(ending)
    if media_type is None:
        allowed = ", ".join(_TYPES)
        raise InvalidValueError(
            f"The file {name!r} is of no kind that is read; allowed endings: {allowed}.",
            param="file",
        )
    if media_type == "application/pdf":
        raise InvalidValueError(f"The file {name!r} is no PDF: it lacks %PDF-.", param="file")
    return media_type


def decode(content: bytes) -> str:
    """Return the text of bytes in UTF-8, or in what their byte order mark says.

    Raises:
        InvalidValueError: they are neither; says what to do.
    """
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise InvalidValueError(
            f"The file is no text in {encoding.removesuffix('-sig').upper()}: byte {error.start} is"
            f" {content[error.start]:#04x}.",
            param="file",
            remedy="Save it in UTF-8, or in UTF-16 with a byte order mark.",
        ) from error
    return normalize(text)


def normalize(text: str) -> str:
    """Return a text with line feeds alone at the ends of its lines.

    Raises:
        InvalidValueError: it holds what no text does, or nothing at all.
        DocumentLimitError: it is too long.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if len(text) > MAX_TEXT_CHARS:
        raise DocumentLimitError(
            f"The text has {len(text)} characters; at most {MAX_TEXT_CHARS} are read.",
            param="file",
            remedy="Cut the file into several.",
        )
    if found := NO_TEXT.search(text):
        raise InvalidValueError(
            f"The file is no text: it holds U+{ord(found[0]):04X} at character {found.start()}.",
            param="file",
            remedy="Save it in UTF-8, or in UTF-16 with a byte order mark.",
        )
    if not text.strip():
        raise InvalidValueError("The file has no text.", param="file")
    return text


def read_text(content: bytes, media_type: MediaType) -> FileText:
    """Return the text of a file that is none of PDF's; raises as :func:`decode`."""
    return FileText(decode(content), media_type)
