"""A sequence that OpenVINO GenAI has, and what is read of it after a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.core.generation import FinishReason, SequenceStarted, TokenChunk, TokenLogprob

if TYPE_CHECKING:
    import openvino_genai

    from mm_orch.optimization.engines.contract import Sequence


@dataclass(slots=True)
class RunningSequence:
    """Between its submission and its last token.

    Attributes:
        submitted_s: when, on the monotonic clock.
        num_cached_tokens: tokens of its prompt that are surely taken from the cache.
    """

    sequence: Sequence
    handle: openvino_genai.GenerationHandle
    submitted_s: float
    num_cached_tokens: int
    has_started: bool = False

    def start(self, step_begin_s: float) -> SequenceStarted:
        """Say that its first token is there.

        GenAI does not tell in which step it began with a prompt that took several: what is called
        waiting here has those before the last in it.
        """
        self.has_started = True
        return SequenceStarted(
            sequence_id=self.sequence.sequence_id,
            waited_s=max(0.0, step_begin_s - self.submitted_s),
            num_cached_tokens=self.num_cached_tokens,
        )

    def read(self) -> TokenChunk | None:
        """Return the tokens that it got, or None."""
        token_ids: list[int] = []
        logprobs: list[float] = []
        reason: FinishReason | None = None
        has_news = False
        while self.handle.can_read():
            for output in self.handle.read().values():
                has_news = True
                token_ids.extend(output.generated_ids)
                logprobs.extend(output.generated_log_probs)
                reason = _REASONS.get(output.finish_reason.name)
        if not has_news:
            return None
        params = self.sequence.params
        if reason is FinishReason.STOP and token_ids[-1] in params.stop_token_ids:
            token_ids.pop()
        told = None
        if params.num_logprobs is not None:
            # There is one too many where a stop token was taken off.
            pairs = zip(token_ids, logprobs, strict=False)
            told = tuple(TokenLogprob(token_id, logprob) for token_id, logprob in pairs)
        return TokenChunk(
            sequence_id=self.sequence.sequence_id,
            token_ids=tuple(token_ids),
            logprobs=told,
            finish_reason=reason,
        )


_REASONS = {"STOP": FinishReason.STOP, "LENGTH": FinishReason.LENGTH}
