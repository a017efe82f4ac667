"""How many prompt tokens a step may take in, so that running streams keep their pace."""

from __future__ import annotations

# A step with prompt work may take so many times a step without; the largest gap that a running
# stream sees is about that.
_MAX_SLOWDOWN = 1.7
_SMOOTHING = 0.3
# Fewer would be spent on the fixed cost of the step.
_MIN_PROMPT_TOKENS = 12
# Until prompt work beside running streams has been timed once.
_FIRST_PROMPT_TOKENS = 16


class StepPace:
    """Learns what decoding and prompt tokens cost from the steps' own durations.

    A step is taken to last ``decode + tokens * per_token``; both are moving averages.
    """

    def __init__(self, max_prompt_tokens: int, *, is_adaptive: bool) -> None:
        self._max_prompt_tokens = max_prompt_tokens
        self._is_adaptive = is_adaptive
        self._decode_s: float | None = None
        self._per_token_s: float | None = None

    def find_budget(self, *, has_decoding: bool) -> int:
        """Return the most prompt tokens for the next step."""
        if not (self._is_adaptive and has_decoding):
            return self._max_prompt_tokens
        if self._decode_s is None or self._per_token_s is None:
            return min(_FIRST_PROMPT_TOKENS, self._max_prompt_tokens)
        spare_s = self._decode_s * (_MAX_SLOWDOWN - 1)
        if spare_s >= self._per_token_s * self._max_prompt_tokens:
            return self._max_prompt_tokens
        budget = max(_MIN_PROMPT_TOKENS, int(spare_s / self._per_token_s))
        return min(budget, self._max_prompt_tokens)

    def observe(self, *, num_prompt_tokens: int, num_decoding: int, duration_s: float) -> None:
        """Learn from one step that succeeded."""
        if num_decoding and not num_prompt_tokens:
            self._decode_s = _smooth(self._decode_s, duration_s)
        elif num_decoding and self._decode_s is not None:
            # At least a little: a step that was faster than decoding alone says nothing.
            extra_s = max(duration_s - self._decode_s, duration_s / 100)
            self._per_token_s = _smooth(self._per_token_s, extra_s / num_prompt_tokens)


def _smooth(old: float | None, new: float) -> float:
    return new if old is None else old + _SMOOTHING * (new - old)
