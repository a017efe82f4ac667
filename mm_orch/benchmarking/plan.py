"""How much ``--benchmark`` measures, and of what."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from mm_orch.benchmarking.objective import DEFAULT_OBJECTIVE, Objective
from mm_orch.benchmarking.workloads import NUM_TURNS, WorkloadKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mm_orch.benchmarking.client import Target
    from mm_orch.benchmarking.vocabulary import CountTokens

# Fewer arrivals say nothing about a rate, more only take longer.
_NUM_ARRIVALS = (8, 400)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured.

    Attributes:
        levels: numbers of clients, each a run of short chats.
        requests_per_client: of such a run; a single client sends at least four.
        num_output_tokens: of each answer, but where lengths are measured or mixed.
        prompt_lengths: in tokens, each asked for with every output length by a single client.
        output_lengths: in tokens.
        requests_per_length: for each pair of the two.
        arrival_shares: rates of Poisson arrivals, as shares of the most requests a second that
            any level was answered with.
        arrivals_s: how long arrivals go on at each rate.
        num_conversations: all at once.
        num_turns: of each conversation.
        others: further workloads, each at one load.
        seed: of every prompt and every arrival.
        objective: what a request must keep to count for goodput.
    """

    levels: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    requests_per_client: int = 2
    num_output_tokens: int = 64
    prompt_lengths: tuple[int, ...] = (64, 256, 1024)
    output_lengths: tuple[int, ...] = (16, 64, 256)
    requests_per_length: int = 3
    arrival_shares: tuple[float, ...] = (0.5, 0.8, 0.95, 1.2)
    arrivals_s: float = 20.0
    num_conversations: int = 4
    num_turns: int = NUM_TURNS
    others: tuple[WorkloadKind, ...] = (WorkloadKind.MIXED_LENGTHS, WorkloadKind.SHARED_PREFIX)
    seed: int = 0
    objective: Objective = DEFAULT_OBJECTIVE

    @property
    def settings(self) -> dict[str, str]:
        """All of it for people, by what it is."""
        fewest, most = _NUM_ARRIVALS
        return {
            "objective of goodput": self.objective.words,
            "clients at once": _listed(self.levels),
            "requests of a client": str(self.requests_per_client),
            "output tokens": str(self.num_output_tokens),
            "prompt lengths (tokens)": _listed(self.prompt_lengths),
            "output lengths (tokens)": _listed(self.output_lengths),
            "requests of each length": str(self.requests_per_length),
            "arrivals, of the most requests/s": _listed(self.arrival_shares),
            "arrivals go on for": f"{self.arrivals_s:g} s, {fewest} to {most} requests",
            "conversations at once": f"{self.num_conversations} of {self.num_turns} turns",
            "seed": str(self.seed),
            "sampling": "greedy (temperature 0)",
        }

    def num_arrivals(self, rate_per_s: float) -> int:
        """Return how many requests arrive at a rate."""
        fewest, most = _NUM_ARRIVALS
        return min(max(round(rate_per_s * self.arrivals_s), fewest), most)


QUICK_PLAN = Plan(
    levels=(1, 4, 8),
    requests_per_client=1,
    num_output_tokens=32,
    prompt_lengths=(64, 512),
    output_lengths=(8, 32),
    requests_per_length=1,
    arrival_shares=(0.5, 0.9),
    arrivals_s=3.0,
    num_conversations=2,
    num_turns=4,
    others=(),
)


class Progress(Protocol):
    """Is told how far a measurement is."""

    def start(self, label: str, total: int | None) -> None:
        """Begin a stage of so many requests."""

    def advance(self, amount: int) -> None:
        """So many more have ended."""

    def finish(self) -> None:
        """The stage is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is measured.

    Attributes:
        engine: its name, or empty.
        precision: of its weights and where it computes, or empty.
        find_peak_memory: asked after the last run; None where nobody can know.
        ready_s: from its start until it took requests; None where it ran already.
        ready_memory_bytes: largest memory until then.
        versions: of what answers, by name.
        settings: of the server, where they are known.
        notes: for the report.
    """

    target: Target
    count_tokens: CountTokens
    engine: str
    find_peak_memory: Callable[[], int | None]
    precision: str = ""
    ready_s: float | None = None
    ready_memory_bytes: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def _listed(values: tuple[int, ...] | tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
