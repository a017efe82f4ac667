from __future__ import annotations

import pytest

from mm_orch.core.errors import EngineFailedError
from mm_orch.core.generation import FinishReason, SequenceStarted, TokenChunk
from mm_orch.workers.stream import TokenStream


def chunk(sequence_id: str, token_id: int) -> TokenChunk:
    return TokenChunk(sequence_id=sequence_id, token_ids=(token_id,))


async def test_what_had_come_of_a_closed_sequence_is_not_shown() -> None:
    aborted: list[tuple[str, ...]] = []
    stream = TokenStream(["a", "b"], aborted.append)
    started = SequenceStarted(sequence_id="a", waited_s=0.0)
    for update in (started, chunk("a", 1), chunk("a", 2), chunk("b", 3)):
        stream.put(update)

    assert await stream.next() == started
    assert await stream.next() == chunk("a", 1)
    stream.close("a")

    assert await stream.next() == chunk("b", 3)
    assert aborted == [("a",)]
    assert not stream.is_done


async def test_a_failure_comes_after_what_was_put_before_it() -> None:
    stream = TokenStream(["a"], lambda _: None)
    stream.put(chunk("a", 1))
    stream.fail(EngineFailedError("broken"))

    assert await stream.next() == chunk("a", 1)
    with pytest.raises(EngineFailedError, match="broken"):
        await stream.next()
    assert stream.is_done


async def test_the_end_of_the_computing_is_told_before_anything_is_read() -> None:
    told: list[str] = []
    stream = TokenStream(["a", "b"], lambda _: None)
    stream.on_computed = lambda: told.append("computed")
    last = {"token_ids": (1,), "finish_reason": FinishReason.LENGTH}

    stream.put(TokenChunk(sequence_id="a", **last))
    stream.put(chunk("b", 3))
    assert told == []
    stream.put(TokenChunk(sequence_id="b", **last))

    assert told == ["computed"]
    assert not stream.is_done


async def test_a_sequence_that_was_closed_is_not_waited_for_and_a_failure_is_no_end() -> None:
    told: list[str] = []
    stream = TokenStream(["a", "b"], lambda _: None)
    stream.on_computed = lambda: told.append("computed")
    stream.close("a")
    stream.fail(EngineFailedError("broken"))
    with pytest.raises(EngineFailedError):
        await stream.next()
    assert told == []

    other = TokenStream(["a", "b"], lambda _: None)
    other.on_computed = lambda: told.append("computed")
    other.close("a")
    other.put(TokenChunk(sequence_id="b", token_ids=(), finish_reason=FinishReason.STOP))

    assert told == ["computed"]
