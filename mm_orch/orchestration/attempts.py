"""What each worker has done of one request, kept while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.core.events import Attempt

if TYPE_CHECKING:
    from mm_orch.core.clock import Clock


class OpenAttempt:
    """What the worker that has the request now has done; written at every token."""

    __slots__ = (
        "engine",
        "first_token_s",
        "last_token_s",
        "max_batch_size",
        "num_cached_tokens",
        "num_tokens",
        "started_s",
        "submitted_s",
    )

    def __init__(self, engine: str, submitted_s: float) -> None:
        self.engine = engine
        self.submitted_s = submitted_s
        self.started_s: float | None = None
        self.first_token_s: float | None = None
        self.last_token_s: float | None = None
        self.num_tokens = 0
        self.num_cached_tokens = 0
        self.max_batch_size = 0

    def start(self, waited_s: float, num_cached_tokens: int) -> None:
        """Note the first step of a sequence; the first sequence's counts."""
        if self.started_s is None:
            self.started_s = self.submitted_s + waited_s
            self.num_cached_tokens = num_cached_tokens

    def take_tokens(self, num_tokens: int, batch_size: int, now_s: float) -> None:
        """Note tokens that have arrived from a step which so many sequences shared."""
        if self.first_token_s is None:
            self.first_token_s = now_s
        self.last_token_s = now_s
        self.num_tokens += num_tokens
        self.max_batch_size = max(self.max_batch_size, batch_size)

    def close(self, ended_s: float, error: str = "") -> Attempt:
        """Return what became of it."""
        return Attempt(
            engine=self.engine,
            submitted_s=self.submitted_s,
            started_s=self.started_s,
            first_token_s=self.first_token_s,
            ended_s=ended_s,
            num_tokens=self.num_tokens,
            num_cached_tokens=self.num_cached_tokens,
            max_batch_size=self.max_batch_size,
            error=error,
        )


class Attempts:
    """The workers that a request was given to, in order; times are the clock's readings."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ended: list[Attempt] = []
        self.open: OpenAttempt | None = None

    @property
    def first_submitted_s(self) -> float:
        """When the first worker was given it, once one was."""
        first = self._ended[0] if self._ended else self.open
        return first.submitted_s if first is not None else self._clock()

    def begin(self, engine: str) -> None:
        """Note that a worker of this engine is given the request."""
        self.lose("")
        self.open = OpenAttempt(engine, self._clock())

    def lose(self, reason: str) -> None:
        """Note that the worker was lost, or failed the request, for this reason."""
        if self.open is not None:
            self._ended.append(self.open.close(self._clock(), reason))
            self.open = None

    def close(self) -> tuple[Attempt, ...]:
        """Return all of them; the last one has ended with its last token."""
        if self.open is not None:
            last_s = self.open.last_token_s
            self._ended.append(self.open.close(self._clock() if last_s is None else last_s))
            self.open = None
        return tuple(self._ended)
