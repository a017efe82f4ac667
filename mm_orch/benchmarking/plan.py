"""What ``--benchmark`` runs, in which order, and what it makes of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from mm_orch.benchmarking.load import failures_of, run_closed
from mm_orch.benchmarking.report import Report, describe_machine
from mm_orch.benchmarking.summary import summarise
from mm_orch.benchmarking.workloads import WorkloadKind, make_workload
from mm_orch.core.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mm_orch.benchmarking.client import Target
    from mm_orch.benchmarking.records import RunRecord
    from mm_orch.benchmarking.vocabulary import CountTokens
    from mm_orch.benchmarking.workloads import Workload

_MAX_SHOWN_FAULTS = 10
_MIN_SESSIONS = 4
_NUM_CONVERSATIONS = 4
_MIXED_CLIENTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured.

    Attributes:
        levels: numbers of clients, each a run of short chats.
        requests_per_client: of such a run; a single client sends at least four.
        num_output_tokens: of each answer.
        others: further workloads, each at one load.
        seed: of every prompt.
    """

    levels: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    requests_per_client: int = 2
    num_output_tokens: int = 64
    others: tuple[WorkloadKind, ...] = (
        WorkloadKind.LONG_PROMPT,
        WorkloadKind.MIXED_LENGTHS,
        WorkloadKind.SHARED_PREFIX,
        WorkloadKind.CONVERSATIONS,
    )
    seed: int = 0


QUICK_PLAN = Plan(levels=(1, 4, 8), requests_per_client=1, num_output_tokens=32, others=())


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
        find_peak_memory: asked after the last run.
        notes: for the report.
    """

    target: Target
    count_tokens: CountTokens
    engine: str
    find_peak_memory: Callable[[], int | None]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Done:
    workload: Workload
    run: RunRecord

    @property
    def num_short(self) -> int:
        """Answers of fewer tokens than were asked for."""
        sessions = self.workload.sessions
        return sum(
            record.error is None
            and record.num_output_tokens
            < sessions[record.session].turns[record.turn].num_output_tokens
            for record in self.run.requests
        )


def measure(subject: Subject, plan: Plan, progress: Progress) -> Report:
    """Run the plan; a request that fails is a fault of the report."""
    # What a first request sets up is no part of any figure.
    _run(subject, _warm_up(plan, subject.count_tokens), 1, progress, "warming up")
    runs = {
        num_clients: _run(
            subject,
            _short_chats(plan, num_clients, subject.count_tokens),
            num_clients,
            progress,
            f"{num_clients} client{'s' if num_clients != 1 else ''}",
        )
        for num_clients in plan.levels
    }
    others = [_run_other(subject, plan, kind, progress) for kind in plan.others]
    faults = failures_of([done.run for done in (*runs.values(), *others)])
    return Report(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        version=__version__,
        model=subject.target.model,
        url=subject.target.url,
        engine=subject.engine,
        machine=describe_machine(),
        peak_memory_bytes=subject.find_peak_memory(),
        levels={num_clients: summarise(done.run) for num_clients, done in runs.items()},
        workloads=tuple(summarise(done.run) for done in others),
        notes=(*subject.notes, *_note_short_answers([*runs.values(), *others])),
        faults=tuple(_shortened(faults)),
    )


def _run_other(subject: Subject, plan: Plan, kind: WorkloadKind, progress: Progress) -> _Done:
    is_long = kind is WorkloadKind.LONG_PROMPT
    num_sessions = {
        WorkloadKind.LONG_PROMPT: _MIN_SESSIONS,
        WorkloadKind.CONVERSATIONS: _NUM_CONVERSATIONS,
    }.get(kind, 2 * _MIXED_CLIENTS)
    workload = make_workload(
        kind,
        num_sessions,
        seed=plan.seed,
        count_tokens=subject.count_tokens,
        num_output_tokens=plan.num_output_tokens,
    )
    label = kind.value.replace("_", " ")
    return _run(subject, workload, 1 if is_long else _MIXED_CLIENTS, progress, label)


def _run(
    subject: Subject, workload: Workload, num_clients: int, progress: Progress, label: str
) -> _Done:
    progress.start(label, workload.num_requests)
    try:
        run = asyncio.run(
            run_closed(subject.target, workload, num_clients, on_done=lambda _: progress.advance(1))
        )
    finally:
        progress.finish()
    return _Done(workload, run)


def _note_short_answers(runs: Sequence[_Done]) -> list[str]:
    num_short = sum(done.num_short for done in runs)
    if not num_short:
        return []
    return [
        f"{num_short} answers were shorter than asked for: the server does not honour ignore_eos,"
        " or does not state its tokens. Its figures are not comparable with another server's."
    ]


def _warm_up(plan: Plan, count_tokens: CountTokens) -> Workload:
    return make_workload(
        WorkloadKind.SHORT_CHAT,
        1,
        seed=-plan.seed - 1,
        count_tokens=count_tokens,
        num_output_tokens=plan.num_output_tokens,
    )


def _short_chats(plan: Plan, num_clients: int, count_tokens: CountTokens) -> Workload:
    return make_workload(
        WorkloadKind.SHORT_CHAT,
        max(num_clients * plan.requests_per_client, _MIN_SESSIONS),
        # Each level has prompts of its own, or a cache would know them.
        seed=plan.seed + num_clients,
        count_tokens=count_tokens,
        num_output_tokens=plan.num_output_tokens,
    )


def _shortened(faults: Sequence[str]) -> list[str]:
    num_more = len(faults) - _MAX_SHOWN_FAULTS
    return [*faults[:_MAX_SHOWN_FAULTS], *([f"and {num_more} more"] if num_more > 0 else [])]
