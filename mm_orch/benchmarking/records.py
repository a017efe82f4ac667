"""What is noted of one request and of one run of a workload."""

from __future__ import annotations

from itertools import pairwise

import msgspec

_MIN_TOKENS = 2


class RequestRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One request, as its client saw it.

    Attributes:
        session: its number in the workload.
        turn: of the session, from 0.
        begin_s: when it was sent, since the run began; in an open loop, when it was due.
        pieces_s: when each piece of text arrived, since the run began.
        end_s: when the answer was complete, since the run began.
        num_prompt_tokens: as the server counts them, and so the next two.
        num_output_tokens: generated.
        num_cached_tokens: of the prompt, taken from the cache.
        is_cache_told: the server states how many were.
        text: the answer.
        late_s: how much later than due it was sent; 0 in a closed loop.
        error: why there is no whole answer; None where there is one.
        is_turned_away: the server refused it because it has too much to do (429 or 503).
    """

    session: int
    turn: int
    begin_s: float
    pieces_s: tuple[float, ...]
    end_s: float
    num_prompt_tokens: int = 0
    num_output_tokens: int = 0
    num_cached_tokens: int = 0
    is_cache_told: bool = False
    text: str = ""
    late_s: float = 0.0
    error: str | None = None
    is_turned_away: bool = False

    @property
    def ttft_s(self) -> float | None:
        """Time to the first text; None where none came."""
        return self.pieces_s[0] - self.begin_s if self.pieces_s else None

    @property
    def total_s(self) -> float:
        """Time to the end of the answer."""
        return self.end_s - self.begin_s

    @property
    def time_per_token_s(self) -> float | None:
        """(end - first text) / (tokens - 1); None where there are not two tokens.

        Of a server that does not state its tokens, pieces of text count in their place.
        """
        num_tokens = self.num_output_tokens or len(self.pieces_s)
        if not self.pieces_s or num_tokens < _MIN_TOKENS:
            return None
        return (self.end_s - self.pieces_s[0]) / (num_tokens - 1)

    @property
    def gaps_s(self) -> tuple[float, ...]:
        """Times between one piece and the next."""
        return tuple(after - before for before, after in pairwise(self.pieces_s))


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a workload.

    Attributes:
        workload: its name.
        load: in words, such as ``32 clients`` or ``0.25 requests/s``.
        wall_s: from the run's begin to the last answer's end.
        generator_cpu_s: processor time that the load generator itself took.
        offered_per_s: sessions that were due, a second; None in a closed loop.
    """

    workload: str
    load: str
    requests: tuple[RequestRecord, ...]
    wall_s: float
    generator_cpu_s: float
    offered_per_s: float | None = None
