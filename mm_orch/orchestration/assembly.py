"""Makes text of one sequence's tokens: whole characters, stop strings, log probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.core.generation import FinishReason, TextDelta, TextLogprob
from mm_orch.models.stop import StopMatcher
from mm_orch.models.text import IncrementalDecoder

if TYPE_CHECKING:
    from mm_orch.core.generation import TokenChunk, TokenLogprob
    from mm_orch.models.text import TextCodec


@dataclass(frozen=True, slots=True)
class _HeldLogprob:
    """A log probability and the characters [begin, end) that its token stands for."""

    begin: int
    end: int
    logprob: TextLogprob


class ChoiceAssembler:
    """Turns the token chunks of one choice into text deltas.

    Text is held back while it may be the start of a stop string, and a token's log probability
    until its text is out, so that both tell of the same characters.
    """

    def __init__(self, index: int, codec: TextCodec, stop: tuple[str, ...]) -> None:
        self._index = index
        self._codec = codec
        self._decoder = IncrementalDecoder(codec)
        self._matcher = StopMatcher(stop)
        self._num_decoded_chars = 0
        self._num_sent_chars = 0
        self._num_unsent_tokens = 0
        self._held: list[_HeldLogprob] = []

    def push(self, chunk: TokenChunk) -> TextDelta | None:
        """Take a chunk; None when it brings nothing that can be shown yet."""
        text = self._decode(chunk)
        if chunk.finish_reason is not None:
            text += self._decoder.flush()
        text, is_stopped = self._matcher.push(text)
        reason = FinishReason.STOP if is_stopped else chunk.finish_reason
        if reason is not None and not is_stopped:
            text += self._matcher.flush()
        self._num_sent_chars += len(text)
        self._num_unsent_tokens += len(chunk.token_ids)
        logprobs = self._release(is_end=reason is not None, is_stopped=is_stopped)
        if not text and not logprobs and reason is None:
            return None
        num_tokens, self._num_unsent_tokens = self._num_unsent_tokens, 0
        return TextDelta(
            index=self._index,
            text=text,
            num_tokens=num_tokens,
            logprobs=logprobs if chunk.logprobs is not None or logprobs else None,
            finish_reason=reason,
        )

    def _decode(self, chunk: TokenChunk) -> str:
        if chunk.logprobs is None:
            return self._decoder.push(chunk.token_ids)
        text = ""
        for token_id, logprob in zip(chunk.token_ids, chunk.logprobs, strict=True):
            piece = self._decoder.push((token_id,))
            begin = self._num_decoded_chars
            self._num_decoded_chars += len(piece)
            self._held.append(_HeldLogprob(begin, self._num_decoded_chars, self._as_text(logprob)))
            text += piece
        return text

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
