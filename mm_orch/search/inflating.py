"""Reads a body up to a limit, whatever it becomes when it is unpacked."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# zlib's word for gzip with its head.
_GZIP = zlib.MAX_WBITS | 16
ENCODINGS = ("gzip", "identity")


class TooLargeError(Exception):
    """The body is over the limit, packed or unpacked."""


class BrokenBodyError(Exception):
    """The body is not packed as it says."""


async def read_bounded(pieces: AsyncIterator[bytes], encoding: str, max_bytes: int) -> bytes:
    """Return a whole body, unpacked; no more than the limit is ever unpacked.

    Args:
        pieces: of the body as they are sent.
        encoding: one of :data:`ENCODINGS`.
        max_bytes: of the body, packed and unpacked.

    Raises:
        TooLargeError: it is longer.
        BrokenBodyError: it cannot be unpacked.
    """
    inflate = zlib.decompressobj(_GZIP) if encoding == "gzip" else None
    body = bytearray()
    num_read = 0
    async for piece in pieces:
        num_read += len(piece)
        try:
            # A byte more than there is room for, where it becomes too much.
            body += (
                piece if inflate is None else inflate.decompress(piece, max_bytes - len(body) + 1)
            )
        except zlib.error:
            raise BrokenBodyError from None
        if max(num_read, len(body)) > max_bytes:
            raise TooLargeError
    if inflate is not None and num_read and not inflate.eof:
        raise BrokenBodyError
    return bytes(body)
