"""Makes text of one sequence's tokens: whole characters, stop strings, log probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.core.generation import FinishReason, TextDelta, TextLogprob
from mm_orch.models.stop import StopMatcher
from mm_orch.models.text import IncrementalDecoder
from mm_orch.orchestration.reading import PLAIN, AnswerReader

if TYPE_CHECKING:
    from mm_orch.core.generation import TokenChunk, TokenLogprob
    from mm_orch.core.tools import ToolCallDelta
    from mm_orch.models.text import TextCodec
    from mm_orch.orchestration.reading import Reading


@dataclass(frozen=True, slots=True)
class _HeldLogprob:
    """A log probability and the characters [begin, end) that its token stands for."""

    begin: int
    end: int
    logprob: TextLogprob


class ChoiceAssembler:
    """Turns the token chunks of one choice into text deltas.

    Text is held back while it may be the start of a stop string, or of a mark around thoughts or
    calls; and a token's log probability until its text is out, so that both tell of the same
    characters. Stop strings end the answer's text; thoughts and calls are not searched for them.
    """

    def __init__(
        self, index: int, codec: TextCodec, stop: tuple[str, ...], reading: Reading = PLAIN
    ) -> None:
        self._index = index
        self._codec = codec
        self._decoder = IncrementalDecoder(codec, reading.marks)
        self._reader = AnswerReader(reading)
        self._matcher = StopMatcher(stop)
        self._num_decoded_chars = 0
        self._num_sent_chars = 0
        self._num_unsent_tokens = 0
        self._num_told_thought_tokens = 0
        self._held: list[_HeldLogprob] = []

    def push(self, chunk: TokenChunk) -> TextDelta | None:
        """Take a chunk; None when it brings nothing that can be shown yet."""
        thought, text, calls = self._read(chunk)
        text, is_stopped = self._match(text)
        reason = FinishReason.STOP if is_stopped else chunk.finish_reason
        if reason is not None and not is_stopped:
            text += self._matcher.flush()
            self._num_sent_chars = self._num_decoded_chars
        if chunk.finish_reason is FinishReason.STOP and not is_stopped and self._reader.num_calls:
            reason = FinishReason.TOOL_CALLS
        self._num_unsent_tokens += len(chunk.token_ids)
        logprobs = self._release(is_end=reason is not None, is_stopped=is_stopped)
        if not (text or thought or calls or logprobs) and reason is None:
            return None
        num_tokens, self._num_unsent_tokens = self._num_unsent_tokens, 0
        num_thought_tokens = self._reader.num_thought_tokens - self._num_told_thought_tokens
        self._num_told_thought_tokens = self._reader.num_thought_tokens
        return TextDelta(
            index=self._index,
            text=text,
            num_tokens=num_tokens,
            reasoning=thought,
            num_reasoning_tokens=num_thought_tokens,
            tool_calls=tuple(calls),
            logprobs=logprobs if chunk.logprobs is not None or logprobs else None,
            finish_reason=reason,
        )

    def _read(self, chunk: TokenChunk) -> tuple[str, str, list[ToolCallDelta]]:
        """Decode token by token, so that each is known for a thought or not."""
        parts = []
        for place, token_id in enumerate(chunk.token_ids):
            piece = self._decoder.push((token_id,))
            begin = self._num_decoded_chars
            self._num_decoded_chars += len(piece)
            if chunk.logprobs is not None:
                logprob = self._as_text(chunk.logprobs[place])
                self._held.append(_HeldLogprob(begin, self._num_decoded_chars, logprob))
            parts.append(self._reader.push(piece, 1))
        if chunk.finish_reason is not None:
            last = self._decoder.flush()
            self._num_decoded_chars += len(last)
            parts += [self._reader.push(last), self._reader.flush()]
        return (
            "".join(part.thought for part in parts),
            "".join(part.text for part in parts),
            [call for part in parts for call in part.calls],
        )

    def _match(self, text: str) -> tuple[str, bool]:
        """Look for a stop string; note up to which character all is told or dropped."""
        num_pending = self._matcher.num_held + len(text)
        shown, is_stopped = self._matcher.push(text)
        num_held = num_pending - len(shown) if is_stopped else self._matcher.num_held
        self._num_sent_chars = self._num_decoded_chars - self._reader.num_held - num_held
        return shown, is_stopped

    def _release(self, *, is_end: bool, is_stopped: bool) -> tuple[TextLogprob, ...]:
        if is_stopped:
            released = [held for held in self._held if held.begin < self._num_sent_chars]
            self._held = []
        elif is_end:
            released, self._held = self._held, []
        else:
            released = [held for held in self._held if held.end <= self._num_sent_chars]
            self._held = self._held[len(released) :]
        return tuple(held.logprob for held in released)

    def _as_text(self, logprob: TokenLogprob) -> TextLogprob:
        return TextLogprob(
            token=self._codec.token_text(logprob.token_id),
            token_bytes=self._codec.token_bytes(logprob.token_id),
            logprob=logprob.logprob,
            top=tuple(
                (self._codec.token_text(token_id), self._codec.token_bytes(token_id), value)
                for token_id, value in logprob.top
            ),
        )
