"""JSON lines below a head that names their format: how everything stored leaves and comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

from mm_orch.core.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T", bound=msgspec.Struct)


class LineFormat(NamedTuple):
    """What the lines hold.

    Attributes:
        name: which the head states.
        version: of the format, which the head states.
        noun: what a line is, for people.
    """

    name: str
    version: int
    noun: str

    def make_head(self) -> bytes:
        """Return the first line of an export."""
        return as_line(_Head(format=self.name, version=self.version))

    def read(
        self, lines: Iterable[bytes], kind: type[T], *, max_line_bytes: int
    ) -> Iterator[tuple[int, T]]:
        """Yield the number and the content of each line after the head; empty ones are passed over.

        Raises:
            InvalidValueError: the head is another format's, a line is too long or is none of this
                kind; says which.
        """
        has_head = False
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            if len(line) > max_line_bytes:
                raise InvalidValueError(
                    f"Line {number} has {len(line)} bytes; at most {max_line_bytes} are taken."
                )
            if has_head:
                yield number, _decode(line, kind, f"Line {number} is no {self.noun}")
            else:
                self._check_head(line, number)
                has_head = True
        if not has_head:
            raise InvalidValueError(
                "The import is empty; it must begin with the line of its format."
            )

    def _check_head(self, line: bytes, number: int) -> None:
        head = _decode(line, _Head, f"Line {number} is no head of {self.name}")
        if (head.format, head.version) != (self.name, self.version):
            raise InvalidValueError(
                f"The import is {head.format} version {head.version}; this program takes"
                f" {self.name} version {self.version}."
            )


class _Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: str
    version: int


def as_line(content: msgspec.Struct) -> bytes:
    """Return the line that holds this."""
    return msgspec.json.encode(content) + b"\n"


def _decode(line: bytes, kind: type[T], problem: str) -> T:
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidValueError(f"{problem}: {error}.") from error
    except RecursionError as error:
        raise InvalidValueError(f"{problem}: it is nested too deeply.") from error
