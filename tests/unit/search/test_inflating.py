"""Bodies up to a limit, packed or not, in pieces of any size."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.search.inflating import BrokenBodyError, TooLargeError, read_bounded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Pieces:
    """A body in pieces; counts those that were taken."""

    def __init__(self, body: bytes, size: int) -> None:
        self.num_taken = 0
        self._body = body
        self._size = size

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for begin in range(0, len(self._body), self._size):
            self.num_taken += 1
            yield self._body[begin : begin + self._size]


@given(
    body=st.binary(max_size=2000),
    size=st.integers(1, 500),
    encoding=st.sampled_from(["gzip", "identity"]),
)
async def test_a_body_within_the_limit_comes_whole(body: bytes, size: int, encoding: str) -> None:
    sent = gzip.compress(body) if encoding == "gzip" else body

    read = await read_bounded(Pieces(sent, size).__aiter__(), encoding, max(len(sent), len(body)))

    assert read == body


@given(body=st.binary(min_size=1, max_size=2000), size=st.integers(1, 500), missing=st.integers(1))
async def test_a_body_over_the_limit_is_refused(body: bytes, size: int, missing: int) -> None:
    limit = max(0, len(body) - missing)
    with pytest.raises(TooLargeError):
        await read_bounded(Pieces(body, size).__aiter__(), "identity", limit)
    with pytest.raises(TooLargeError):
        await read_bounded(Pieces(gzip.compress(body), size).__aiter__(), "gzip", limit)


async def test_a_body_that_becomes_a_thousand_times_as_large_is_not_unpacked() -> None:
    bomb = Pieces(gzip.compress(bytes(100 * 2**20)), 4096)

    with pytest.raises(TooLargeError):
        await read_bounded(bomb.__aiter__(), "gzip", 2**20)

    # A piece holds four times the limit.
    assert bomb.num_taken == 1


async def test_an_empty_body_may_say_that_it_is_packed() -> None:
    assert await read_bounded(Pieces(b"", 1).__aiter__(), "gzip", 10) == b""


@pytest.mark.parametrize("body", [b"no gzip at all", gzip.compress(b"text" * 100)[:-12]])
async def test_a_body_that_is_not_packed_as_it_says_is_refused(body: bytes) -> None:
    with pytest.raises(BrokenBodyError):
        await read_bounded(Pieces(body, 7).__aiter__(), "gzip", 10_000)
