"""Runs a plan against a server, stage by stage, and makes the report of it.

The order matters: how fast requests may arrive is known only when clients that wait for their
answers have shown what the server sustains.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import msgspec

from mm_orch.benchmarking.client import remedy_of
from mm_orch.benchmarking.load import failures_of, run_closed, run_open
from mm_orch.benchmarking.machine import describe_machine
from mm_orch.benchmarking.report import LengthSummary, Report
from mm_orch.benchmarking.summary import summarise, summarise_turns
from mm_orch.benchmarking.workloads import WorkloadKind, make_length_workload, make_workload
from mm_orch.core.errors import NoServerError
from mm_orch.core.version import __version__

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from mm_orch.benchmarking.load import OnDone
    from mm_orch.benchmarking.plan import Plan, Progress, Subject
    from mm_orch.benchmarking.records import RequestRecord, RunRecord
    from mm_orch.benchmarking.summary import RunSummary
    from mm_orch.benchmarking.workloads import Workload

Key = TypeVar("Key", int, float)

_MAX_SHOWN_FAULTS = 10
_MIN_SESSIONS = 4
_MIXED_CLIENTS = 8
_MAX_LATE_S = 0.05
# What a server says to a field that it does not know.
_NOT_KNOWN = ("HTTP 400:", "HTTP 422:")


@dataclass(frozen=True, slots=True)
class _Done:
    workload: Workload
    run: RunRecord
    summary: RunSummary

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

    @property
    def faults(self) -> list[str]:
        """What failed; a server that turns arrivals away as too many does what it should."""
        if self.run.offered_per_s is None:
            return failures_of([self.run])
        rest = tuple(record for record in self.run.requests if not record.is_turned_away)
        return failures_of([msgspec.structs.replace(self.run, requests=rest)])


def measure(subject: Subject, plan: Plan, progress: Progress) -> Report:
    """Run the plan; a request that fails is a fault of the report.

    Raises:
        NoServerError: not even the first request is answered.
    """
    subject, first = _warm_up(subject, plan, progress)
    stages = _Stages(subject, plan, progress)
    levels = {num_clients: stages.run_level(num_clients) for num_clients in plan.levels}
    lengths = {
        (prompt, output): stages.run_lengths(prompt, output)
        for prompt in plan.prompt_lengths
        for output in plan.output_lengths
    }
    most_per_s = max(done.summary.requests_per_s for done in levels.values())
    # Of a server that answered nothing there is no share.
    shares = plan.arrival_shares if most_per_s else ()
    arrivals = {share: stages.run_arrivals(share, share * most_per_s) for share in shares}
    conversations = stages.run_other(WorkloadKind.CONVERSATIONS, plan.num_conversations)
    others = [stages.run_other(kind, _MIXED_CLIENTS) for kind in plan.others]
    every = [
        *levels.values(),
        *lengths.values(),
        *arrivals.values(),
        conversations,
        *others,
    ]
    return Report(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        version=__version__,
        model=subject.target.model,
        url=subject.target.url,
        engine=subject.engine,
        precision=subject.precision,
        machine=describe_machine(),
        versions=dict(subject.versions),
        settings=plan.settings,
        server_settings=dict(subject.settings),
        objective=plan.objective,
        ready_s=subject.ready_s,
        first_answer_s=first.total_s,
        ready_memory_bytes=subject.ready_memory_bytes,
        peak_memory_bytes=subject.find_peak_memory(),
        levels=_summaries(levels),
        lengths=tuple(
            LengthSummary(prompt_tokens=prompt, output_tokens=output, run=done.summary)
            for (prompt, output), done in lengths.items()
        ),
        arrivals=_summaries(arrivals),
        turns=summarise_turns(conversations.run),
        workloads=tuple(done.summary for done in (conversations, *others)),
        notes=(*subject.notes, *_notes(subject, every)),
        faults=tuple(_shortened([fault for done in every for fault in done.faults])),
    )


def _warm_up(subject: Subject, plan: Plan, progress: Progress) -> tuple[Subject, RequestRecord]:
    """Ask once, because what a first request sets up is no part of any other figure.

    Returns the subject as it is to be asked, and the first answer.
    """
    first = _Stages(subject, plan, progress).ask_first()
    if first.error is not None and first.error.startswith(_NOT_KNOWN):
        # Not every server knows ignore_eos, and some refuse what they do not know.
        subject = replace(subject, target=replace(subject.target, takes_ignore_eos=False))
        first = _Stages(subject, plan, progress).ask_first()
    if first.error is not None:
        raise NoServerError(
            f"{subject.target.url} does not answer a first request to {subject.target.model}:"
            f" {first.error}.",
            remedy=remedy_of(first.error),
        )
    return subject, first


class _Stages:
    """Each method is one run against the subject."""

    def __init__(self, subject: Subject, plan: Plan, progress: Progress) -> None:
        self._subject = subject
        self._plan = plan
        self._progress = progress

    def ask_first(self) -> RequestRecord:
        """Send one short chat whose prompt nobody else sends."""
        chats = self._make(WorkloadKind.SHORT_CHAT, 1, seed=-self._plan.seed - 1)
        return self._run_closed(chats, 1, "warming up").run.requests[0]

    def run_level(self, num_clients: int) -> _Done:
        """Send short chats with so many clients."""
        plan = self._plan
        # Each level has prompts of its own, or a cache would know them.
        chats = self._make(
            WorkloadKind.SHORT_CHAT,
            max(num_clients * plan.requests_per_client, _MIN_SESSIONS),
            seed=plan.seed + num_clients,
        )
        words = f"{num_clients} client{'s' if num_clients != 1 else ''}"
        return self._run_closed(chats, num_clients, words)

    def run_lengths(self, num_prompt_tokens: int, num_output_tokens: int) -> _Done:
        """Send chats of one length, one after another."""
        chats = make_length_workload(
            num_prompt_tokens,
            num_output_tokens,
            self._plan.requests_per_length,
            seed=self._plan.seed,
            count_tokens=self._subject.count_tokens,
        )
        label = f"prompt {num_prompt_tokens}, output {num_output_tokens}"
        return self._run_closed(chats, 1, label)

    def run_arrivals(self, share: float, rate_per_s: float) -> _Done:
        """Let short chats arrive at a rate, whether or not earlier ones are answered."""
        seed = self._plan.seed + round(share * 1000)
        num_arrivals = self._plan.num_arrivals(rate_per_s)
        chats = self._make(WorkloadKind.SHORT_CHAT, num_arrivals, seed=seed + 1_000_000)

        def start(on_done: OnDone) -> Awaitable[RunRecord]:
            return run_open(
                self._subject.target, chats, rate_per_s=rate_per_s, seed=seed, on_done=on_done
            )

        return self._run(chats, f"arrivals, {rate_per_s:.3g} requests/s", start)

    def run_other(self, kind: WorkloadKind, num_clients: int) -> _Done:
        """Run a workload of another kind; conversations are one for each client."""
        is_talk = kind is WorkloadKind.CONVERSATIONS
        num_sessions = num_clients if is_talk else 2 * num_clients
        workload = self._make(kind, num_sessions, seed=self._plan.seed)
        return self._run_closed(workload, num_clients, kind.value.replace("_", " "))

    def _make(self, kind: WorkloadKind, num_sessions: int, *, seed: int) -> Workload:
        return make_workload(
            kind,
            num_sessions,
            seed=seed,
            count_tokens=self._subject.count_tokens,
            num_output_tokens=self._plan.num_output_tokens,
            num_turns=self._plan.num_turns,
        )

    def _run_closed(self, workload: Workload, num_clients: int, label: str) -> _Done:
        def start(on_done: OnDone) -> Awaitable[RunRecord]:
            return run_closed(self._subject.target, workload, num_clients, on_done=on_done)

        return self._run(workload, label, start)

    def _run(
        self, workload: Workload, label: str, start: Callable[[OnDone], Awaitable[RunRecord]]
    ) -> _Done:
        async def run_through() -> RunRecord:
            return await start(lambda _: self._progress.advance(1))

        self._progress.start(label, workload.num_requests)
        try:
            run = asyncio.run(run_through())
        finally:
            self._progress.finish()
        return _Done(workload, run, summarise(run, self._plan.objective))


def _summaries(done_by_key: Mapping[Key, _Done]) -> dict[Key, RunSummary]:
    return {key: done.summary for key, done in done_by_key.items()}


def _notes(subject: Subject, every: Sequence[_Done]) -> list[str]:
    notes = []
    if not subject.target.takes_ignore_eos:
        notes.append("The server refuses ignore_eos, so answers end where the model ends them.")
    num_short = sum(done.num_short for done in every)
    if num_short:
        notes.append(
            f"{num_short} answers were shorter than asked for: the server does not honour"
            " ignore_eos, or does not state its tokens. Its figures are not comparable with"
            " another server's."
        )
    late_s = max(done.summary.late.p99_s for done in every)
    if late_s > _MAX_LATE_S:
        notes.append(
            f"The load generator sent requests up to {late_s * 1000:.0f} ms late (p99): this"
            " machine was busy. Latency counts from when they were due all the same."
        )
    return notes


def _shortened(faults: Sequence[str]) -> list[str]:
    num_more = len(faults) - _MAX_SHOWN_FAULTS
    return [*faults[:_MAX_SHOWN_FAULTS], *([f"and {num_more} more"] if num_more > 0 else [])]
