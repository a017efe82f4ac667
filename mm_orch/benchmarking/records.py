"""What is noted of one request and of one run of a workload."""

from __future__ import annotations

from itertools import pairwise

import msgspec


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
        text: the answer.
        error: why there is no whole answer; None where there is one.
    """

    session: int
    turn: int
    begin_s: float
    pieces_s: tuple[float, ...]
    end_s: float
    num_prompt_tokens: int = 0
    num_output_tokens: int = 0
    num_cached_tokens: int = 0
    text: str = ""
    error: str | None = None

    @property
    def ttft_s(self) -> float | None:
        """Time to the first text; None where none came."""
        return self.pieces_s[0] - self.begin_s if self.pieces_s else None

    @property
    def total_s(self) -> float:
        """Time to the end of the answer."""
        return self.end_s - self.begin_s

    @property
    def gaps_s(self) -> tuple[float, ...]:
        """Times between one piece and the next."""
        return tuple(after - before for before, after in pairwise(self.pieces_s))


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a workload.

    Attributes:
        workload: its name.
        load: in words, such as ``32 clients`` or ``0.25 requests/s``.
        wall_s: from the first request to the last answer's end.
        generator_cpu_s: processor time that the load generator itself took.
    """

    workload: str
    load: str
    requests: tuple[RequestRecord, ...]
    wall_s: float
    generator_cpu_s: float
