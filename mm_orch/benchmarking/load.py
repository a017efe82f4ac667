"""Runs a workload against a server: closed loop (so many clients) or open loop (Poisson)."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from mm_orch.benchmarking.client import Client
from mm_orch.benchmarking.records import RequestRecord, RunRecord
from mm_orch.benchmarking.workloads import body_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from mm_orch.benchmarking.client import Target
    from mm_orch.benchmarking.stream_reader import StreamReader
    from mm_orch.benchmarking.workloads import Session, Workload

    OnDone = Callable[[RequestRecord], None]

DEFAULT_TIMEOUT_S = 1800.0
"""A server that takes one request after another keeps the last of 32 waiting for minutes."""


async def run_closed(
    target: Target,
    workload: Workload,
    num_clients: int,
    *,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    on_done: OnDone | None = None,
) -> RunRecord:
    """Let so many clients work the sessions off, each beginning the next when one has ended.

    Args:
        target: the server.
        workload: what is asked.
        num_clients: requests that are open at any time, while there are sessions left.
        timeout_s: longest silence in an answer.
        on_done: told of each request that ended.
    """
    waiting = deque(enumerate(workload.sessions))

    async def work(run: _Run) -> None:
        while waiting:
            number, session = waiting.popleft()
            await run.hold(number, session)

    async def work_all(run: _Run) -> None:
        async with asyncio.TaskGroup() as clients:
            for _ in range(min(num_clients, len(workload.sessions))):
                clients.create_task(work(run))

    words = f"{num_clients} client{'s' if num_clients != 1 else ''}"
    return await _measure(target, workload, words, work_all, timeout_s, on_done)


async def run_interleaved(
    target: Target,
    workload: Workload,
    num_clients: int,
    *,
    seed: int,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> RunRecord:
    """Let so many clients take the turns of all sessions, those of one never following each other.

    First come all first turns, then all second ones and so on, each time in another order: between
    two turns of a session about as many others are asked as there are sessions, as where users read
    before they answer. :func:`run_closed` has no such pauses.

    Args:
        target: the server.
        workload: what is asked.
        num_clients: requests that are open at any time; fewer at the end, when sessions run out.
        seed: of the orders.
        timeout_s: longest silence in an answer.
    """
    dice = random.Random(seed)  # noqa: S311 - reproducible on purpose
    most_turns = max(len(session.turns) for session in workload.sessions)
    waiting = [
        (number, turn)
        for turn in range(most_turns)
        for number in dice.sample(range(len(workload.sessions)), len(workload.sessions))
        if turn < len(workload.sessions[number].turns)
    ]
    answers: list[list[str]] = [[] for _ in workload.sessions]

    async def work(run: _Run) -> None:
        # A session whose last turn is not answered has none to be asked.
        while found := next((one for one in waiting if one[1] == len(answers[one[0]])), None):
            waiting.remove(found)
            number, turn = found
            record = await run.ask(number, turn, answers[number])
            if record.error is None:
                answers[number].append(record.text)

    async def work_all(run: _Run) -> None:
        async with asyncio.TaskGroup() as clients:
            for _ in range(num_clients):
                clients.create_task(work(run))

    words = f"{num_clients} clients, sessions in turns"
    return await _measure(target, workload, words, work_all, timeout_s, None)


async def run_open(
    target: Target,
    workload: Workload,
    *,
    rate_per_s: float,
    seed: int,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    on_done: OnDone | None = None,
) -> RunRecord:
    """Begin sessions at random times, whether or not earlier ones have ended.

    Args:
        target: the server.
        workload: what is asked.
        rate_per_s: sessions a second; times between them are exponential (a Poisson process).
        seed: of the times, so that two servers meet the same.
        timeout_s: longest silence in an answer.
        on_done: told of each request that ended.
    """
    times_s = arrival_times(len(workload.sessions), rate_per_s=rate_per_s, seed=seed)
    words = f"{rate_per_s:.3g} requests/s"
    return await run_at(
        target, workload, times_s, words=words, timeout_s=timeout_s, on_done=on_done
    )


async def run_at(
    target: Target,
    workload: Workload,
    times_s: Sequence[float],
    *,
    words: str,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    end_s: float | None = None,
    on_done: OnDone | None = None,
) -> RunRecord:
    """Begin each session when it is due, whether or not earlier ones have ended.

    Args:
        target: the server.
        workload: what is asked.
        times_s: when each session is due, since the run began; rising.
        words: the load, for people.
        timeout_s: longest silence in an answer.
        end_s: when what is not answered yet is broken off, without a record; None waits for all.
        on_done: told of each request that ended.
    """

    async def arrive(run: _Run) -> None:
        try:
            async with asyncio.timeout(end_s), asyncio.TaskGroup() as clients:
                for number, (session, due_s) in enumerate(
                    zip(workload.sessions, times_s, strict=True)
                ):
                    await asyncio.sleep(due_s - run.now_s())
                    # Counted from when it was due: a late generator must not flatter the server.
                    clients.create_task(run.hold(number, session, due_s=due_s))
        except TimeoutError:
            # Nobody waits for the answers that have not come by then.
            return

    run = await _measure(target, workload, words, arrive, timeout_s, on_done)
    return msgspec.structs.replace(run, offered_per_s=len(times_s) / times_s[-1])


def arrival_times(num_sessions: int, *, rate_per_s: float, seed: int) -> list[float]:
    """Return when each session begins, in seconds; the first is not at 0."""
    dice = random.Random(seed)  # noqa: S311 - reproducible on purpose
    times_s: list[float] = []
    now_s = 0.0
    for _ in range(num_sessions):
        now_s += dice.expovariate(rate_per_s)
        times_s.append(now_s)
    return times_s


async def _measure(
    target: Target,
    workload: Workload,
    words: str,
    generate: Callable[[_Run], Awaitable[None]],
    timeout_s: float,
    on_done: OnDone | None,
) -> RunRecord:
    client = Client(target, timeout_s=timeout_s)
    cpu_s = time.process_time()
    run = _Run(client, target, workload, on_done)
    try:
        await generate(run)
    finally:
        client.close()
    records = sorted(run.records, key=lambda record: (record.session, record.turn))
    return RunRecord(
        workload=workload.name,
        load=words,
        requests=tuple(records),
        wall_s=max((record.end_s for record in records), default=0.0),
        generator_cpu_s=time.process_time() - cpu_s,
    )


class _Run:
    """One run: its clock, its client and what has ended."""

    def __init__(
        self, client: Client, target: Target, workload: Workload, on_done: OnDone | None
    ) -> None:
        self.records: list[RequestRecord] = []
        self._client = client
        self._target = target
        self._workload = workload
        self._on_done = on_done
        self._zero_s = time.perf_counter()

    def now_s(self) -> float:
        """Seconds since the run began."""
        return time.perf_counter() - self._zero_s

    async def hold(self, number: int, session: Session, *, due_s: float | None = None) -> None:
        """Send a session's turns, each when the one before is answered.

        A turn that fails ends the session: what follows would not be the same work.
        """
        answers: list[str] = []
        for turn in range(len(session.turns)):
            record = await self.ask(number, turn, answers, due_s=None if turn else due_s)
            answers.append(record.text)
            if record.error is not None:
                return

    async def ask(
        self, number: int, turn: int, answers: Sequence[str], *, due_s: float | None = None
    ) -> RequestRecord:
        """Send one turn of a session, after these answers to the turns before; note what came."""
        sent_s = self.now_s()
        begin_s = sent_s if due_s is None else due_s
        body = body_of(
            self._workload,
            self._workload.sessions[number],
            turn,
            answers=answers,
            model=self._target.model,
            has_ignore_eos=self._target.takes_ignore_eos,
        )
        reader = await self._client.post(self._workload.path, body)
        return self._note(reader, number, turn, begin_s, late_s=sent_s - begin_s)

    def _note(
        self, reader: StreamReader, session: int, turn: int, begin_s: float, *, late_s: float
    ) -> RequestRecord:
        record = RequestRecord(
            session=session,
            turn=turn,
            begin_s=begin_s,
            pieces_s=tuple(piece_s - self._zero_s for piece_s in reader.pieces_s),
            end_s=self.now_s(),
            num_prompt_tokens=reader.num_prompt_tokens,
            num_output_tokens=reader.num_output_tokens,
            num_cached_tokens=reader.num_cached_tokens,
            is_cache_told=reader.is_cache_told,
            text=reader.text,
            late_s=late_s,
            error=reader.error,
            is_turned_away=reader.is_turned_away,
        )
        self.records.append(record)
        if self._on_done is not None:
            self._on_done(record)
        return record


def failures_of(runs: Sequence[RunRecord]) -> list[str]:
    """Return the errors in these runs, each with the request it hit."""
    return [
        f"{run.workload} at {run.load}, session {record.session} turn {record.turn}: {record.error}"
        for run in runs
        for record in run.requests
        if record.error is not None
    ]
