"""Reads server-sent events (WHATWG HTML, 9.2) off a byte stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def read_events(lines: Iterable[bytes]) -> Iterator[str]:
    """Yield the data of each event; comments and other fields are passed over.

    Args:
        lines: with their ends, as a response yields them. An event that the stream's end cuts off
            is dropped, as the standard wants.
    """
    data: list[str] = []
    for raw in lines:
        line = raw.decode("utf-8").rstrip("\r\n")
        if line:
            field, _, value = line.partition(":")
            if field == "data":
                data.append(value.removeprefix(" "))
        elif data:
            yield "\n".join(data)
            data = []
