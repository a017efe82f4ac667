"""How many prompt tokens a step may take in, so that running streams keep their pace."""

from __future__ import annotations

import numpy as np

# While one prompt is taken in beside many streams, a step may take so much longer than decoding
# alone; the largest gap that a stream sees is somewhat above that.
_SPARE_RATIO = 0.5
# Fewer would be spent on the fixed cost of the step.
_MIN_PROMPT_TOKENS = 12
# Each step leaves so much of what earlier ones said: some thirty steps are remembered.
_MEMORY = 0.97
# How far the estimate is drawn back to the one before, in units of what was seen: what a run of
# equal steps cannot tell apart stays as it was.
_INERTIA = 0.01
# No engine is faster; a clock that stands still says nothing.
_SHORTEST_S = 1e-6
# A step as such, 16 decoding sequences, 256 prompt tokens, and these attending to 1,024 keys each:
# sizes of like cost. In seconds, of a small model on a small machine; some steps later it does not
# matter.
_SCALES = np.array([1.0, 16.0, 256.0, 256.0 * 1024.0])
_FIRST_GUESS_S = np.array([0.01, 0.01, 0.1, 0.05])


def share_step(
    decode_s: float,
    per_token_s: float,
    *,
    num_prompts: int,
    num_decoding: int,
    max_prompt_tokens: int,
) -> int:
    """Return the most prompt tokens for a step beside running streams.

    Args:
        decode_s: what the step takes without any.
        per_token_s: what each adds, in seconds.
        num_prompts: sequences that have or could get a place and have no token yet.
        num_decoding: sequences that go on generating, at least one.
        max_prompt_tokens: the bound in any case.
    """
    # Who waits for a first token counts as well as who waits for the next. Squared, because a
    # burst that trickles in leaves the batch small, which costs everybody.
    pressure = (1 + num_prompts / num_decoding) ** 2
    spare_s = decode_s * _SPARE_RATIO * pressure
    if spare_s >= per_token_s * max_prompt_tokens:
        return max_prompt_tokens
    return min(max(_MIN_PROMPT_TOKENS, int(spare_s / per_token_s)), max_prompt_tokens)


class StepPace:
    """Learns what steps cost from their own durations.

    A step is taken to last ``fixed + decoding * per_stream + tokens * per_token + pairs *
    per_pair``, pairs being those of a prompt's token and a key that it attends to: least squares
    of the relative error over the last steps, older ones counting less and less.
    """

    def __init__(self, max_prompt_tokens: int, *, is_adaptive: bool) -> None:
        self.max_prompt_tokens = max_prompt_tokens
        self._is_adaptive = is_adaptive
        self._costs_s = _FIRST_GUESS_S
        self._products = np.zeros((len(_SCALES), len(_SCALES)))
        self._targets = np.zeros(len(_SCALES))

    def find_budget(self, *, num_prompts: int, num_decoding: int, num_keys: int) -> int:
        """Return the most prompt tokens for the next step.

        Args:
            num_prompts: sequences that have or could get a place and have no token yet.
            num_decoding: sequences that go on generating.
            num_keys: that the first of the prompts' next tokens will attend to.
        """
        if not (self._is_adaptive and num_decoding):
            return self.max_prompt_tokens
        per_token_s = self._costs_s[2] / _SCALES[2] + num_keys * self._costs_s[3] / _SCALES[3]
        return share_step(
            self._predict(num_decoding),
            float(per_token_s),
            num_prompts=num_prompts,
            num_decoding=num_decoding,
            max_prompt_tokens=self.max_prompt_tokens,
        )

    def observe(
        self, *, num_prompt_tokens: int, num_pairs: int, num_decoding: int, duration_s: float
    ) -> None:
        """Learn from one step that succeeded."""
        if not self._is_adaptive or duration_s < _SHORTEST_S:
            return
        # Divided by the duration, so that a tenth too much counts alike in short and long steps.
        counts = np.array([1.0, num_decoding, num_prompt_tokens, num_pairs])
        sizes = counts / _SCALES / duration_s
        self._products = self._products * _MEMORY + np.outer(sizes, sizes)
        self._targets = self._targets * _MEMORY + sizes
        pull = np.diag(self._products.diagonal() * _INERTIA + 1e-9)
        costs_s = np.linalg.solve(self._products + pull, self._targets + pull @ self._costs_s)
        # Nothing is free, whatever the noise says.
        self._costs_s = np.maximum(costs_s, 1e-9)

    def _predict(self, num_decoding: int) -> float:
        return float(self._costs_s[0] + self._costs_s[1] * num_decoding / _SCALES[1])
