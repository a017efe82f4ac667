"""Reads the fields of a form with a file: multipart/form-data (RFC 7578), of a body in memory.

Starlette leaves forms to a library that is no dependency of it, and spools files to the disk. Here
a body is bounded and whole before it is read; what is left is to cut it at its boundary.
"""

from __future__ import annotations

from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser

from mm_orch.core.errors import InvalidValueError

# More than any path here has fields.
_MAX_PARTS = 16
_MAX_BOUNDARY_CHARS = 70
_END_OF_LINE = b"\r\n"


@dataclass(frozen=True, slots=True)
class Part:
    """One field.

    Attributes:
        name: of the field.
        filename: of the file that it holds; None where it holds none.
    """

    name: str
    filename: str | None
    content: bytes

    @property
    def text(self) -> str:
        """The field's words; raises InvalidValueError where they are not in UTF-8."""
        try:
            return self.content.decode()
        except UnicodeDecodeError as error:
            raise InvalidValueError(f"{self.name} is not in UTF-8.", param=self.name) from error


def read_form(body: bytes, content_type: str) -> dict[str, Part]:
    """Return the fields of a form by their names.

    Raises:
        InvalidValueError: it is no form, or has a field twice.
    """
    delimiter = _END_OF_LINE + b"--" + _find_boundary(content_type)
    # What stands before the first delimiter is for readers that know no forms.
    _, *parts = (_END_OF_LINE + body).split(delimiter, _MAX_PARTS + 1)
    fields: dict[str, Part] = {}
    for part in parts:
        if part.startswith(b"--"):
            return fields
        if len(fields) == _MAX_PARTS:
            raise _no_form(f"it has more than {_MAX_PARTS} fields")
        field = _read_part(part)
        if field.name in fields:
            raise InvalidValueError(f"{field.name} is given twice.", param=field.name)
        fields[field.name] = field
    raise _no_form("it has no end")


def _find_boundary(content_type: str) -> bytes:
    head = Message()
    head["Content-Type"] = content_type
    boundary = head.get_boundary("")
    if not 0 < len(boundary) <= _MAX_BOUNDARY_CHARS or not boundary.isascii():
        raise _no_form(f"Content-Type names no boundary of 1 to {_MAX_BOUNDARY_CHARS} characters")
    return boundary.encode()


def _read_part(part: bytes) -> Part:
    padding, _, rest = part.partition(_END_OF_LINE)
    # A part without headers begins with the empty line.
    head, separator, content = (_END_OF_LINE + rest).partition(_END_OF_LINE * 2)
    if padding.strip(b" \t") or not separator:
        raise _no_form("a field has no headers")
    try:
        # Browsers write names of files in the page's own encoding: UTF-8.
        headers = HeaderParser().parsestr(head.strip().decode())
    except UnicodeDecodeError as error:
        raise _no_form("the headers of a field are not in UTF-8") from error
    name = headers.get_param("name", header="content-disposition")
    if headers.get_content_disposition() != "form-data" or not isinstance(name, str) or not name:
        raise _no_form("a field has no name")
    return Part(name, headers.get_filename(), content)


def _no_form(problem: str) -> InvalidValueError:
    return InvalidValueError(f"The body is no multipart/form-data: {problem}.")
