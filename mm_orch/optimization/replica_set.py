"""Owns the replicas of one model: gives requests to them, lets them join, drain and leave.

Each replica is a supervisor with a worker of its own, so each fails, restarts and falls back by
itself. The first is there from the beginning; the others follow, one at a time, once it serves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mm_orch.core.placement_events import ReplicaLeft, RequestPlaced
from mm_orch.optimization.news import News
from mm_orch.optimization.replicas.balancer import Balancer
from mm_orch.optimization.replicas.held_prefixes import name_blocks
from mm_orch.optimization.replicas.layout import Drain, Member, Share, Start, next_move
from mm_orch.workers.phase import ModelPhase
from mm_orch.workers.queued_tokens import expect_tokens

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from mm_orch.core.events import Observer
    from mm_orch.core.generation import GenerationOptions
    from mm_orch.optimization.supervisor import ModelSupervisor
    from mm_orch.workers.worker import Worker

logger = logging.getLogger(__name__)

_SETTLED = {ModelPhase.READY, ModelPhase.FAILED}
# What an engine keeps that does not say how much.
_UNKNOWN_KV_TOKENS = 65_536
# When to look again whether there is room for a replica that lacks it.
_ROOM_RETRY_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a request asks of the choice of its replica.

    Attributes:
        names: the blocks of its prompt, of ``name_blocks``.
        num_tokens: of each sequence that it brings: of the prompt, and as many as its answer is
            expected to have.
        num_sequences: that it brings.
        conversation: its explicit name; empty for none.
        lost: the worker that had it and lost it: another is taken while there is one, and of those
            one with the same engine.
    """

    names: Sequence[int] = ()
    num_tokens: int = 0
    num_sequences: int = 1
    conversation: str = ""
    lost: Worker | None = None


def wish_of(token_ids: Sequence[int], options: GenerationOptions, conversation: str) -> Wish:
    """Return the wish of a request that generates.

    Args:
        token_ids: of its prompt.
        options: that it has.
        conversation: its explicit name; empty for none.
    """
    return Wish(
        names=name_blocks(token_ids),
        num_tokens=len(token_ids) + expect_tokens(options.max_tokens),
        num_sequences=options.num_choices,
        conversation=conversation,
    )


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a request goes: the worker, and how much of the prompt that is likely to hold."""

    worker: Worker
    num_held_tokens: int = 0


@dataclass(slots=True, kw_only=True)
class Replica:
    """One of a model's replicas.

    Attributes:
        is_draining: it gets requests only while no other can take any.
        is_leaving: it was drained, has ended what it had, and is being stopped.
        offered: the worker that requests were offered last, of whose memory the balancer knows, and
            before it those that had something to do when it came.
    """

    number: int
    share: Share
    supervisor: ModelSupervisor = field(init=False)
    task: asyncio.Task[None] | None = None
    is_draining: bool = False
    is_leaving: bool = False
    offered: list[Worker] = field(default_factory=list)

    @property
    def worker(self) -> Worker | None:
        """The worker that takes requests, where there is one now."""
        return None if self.is_leaving else self.supervisor.find_worker()

    @property
    def known_worker(self) -> Worker | None:
        """The one of whose memory the balancer knows."""
        return self.offered[-1] if self.offered else None

    @property
    def busy_workers(self) -> list[Worker]:
        """Those that have something to do, one that another has taken over from too."""
        return [worker for worker in self.offered if worker.queued.num_open]

    async def wait_until_idle(self) -> None:
        """Wait until none of its workers has anything to do."""
        while busy := self.busy_workers:
            await asyncio.gather(*(worker.wait_until_idle() for worker in busy))


class ReplicaSet:
    """The replicas of one model.

    Args:
        model: its configured name.
        make_supervisor: makes that of a replica, told of the set's news.
        find_obstacle: says why there is no memory for one more now; empty where there is.
        observer: told where requests go.
        balancing: by what a request's replica is chosen; see ``replicas.policies``.
        first_number: of the first replica.
        news: told of every change of one of them.

    Attributes:
        obstacle: why there are fewer replicas than are wanted; empty where there are not.
    """

    def __init__(
        self,
        model: str,
        make_supervisor: Callable[[Replica, News], ModelSupervisor],
        *,
        find_obstacle: Callable[[], Awaitable[str]],
        observer: Observer,
        balancing: str = "prefix",
        first_number: int = 0,
        news: News | None = None,
    ) -> None:
        self.model = model
        self.obstacle = ""
        self._make_supervisor = make_supervisor
        self._find_obstacle = find_obstacle
        self._observer = observer
        self._news = news or News()
        self._balancer = Balancer(balancing)
        self._wanted = [Share()]
        self._replicas = [self._make(first_number, Share())]
        self._tasks = asyncio.TaskGroup()

    @property
    def replicas(self) -> list[Replica]:
        """All of them, those that are drained included."""
        return list(self._replicas)

    @property
    def supervisor(self) -> ModelSupervisor:
        """That of the first replica that serves, else of the first: what is told of the model."""
        serving = (one for one in self._replicas if one.supervisor.phase is ModelPhase.READY)
        return next(serving, self._replicas[0]).supervisor

    @property
    def num_wanted(self) -> int:
        """How many replicas there should be."""
        return len(self._wanted)

    @property
    def workers(self) -> list[Worker]:
        """Those that live and belong to a replica, whether they get new requests or not."""
        workers = [one.supervisor.worker for one in self._replicas]
        return [worker for worker in workers if worker is not None and not worker.is_dead]

    @property
    def serving(self) -> dict[int, Worker]:
        """Those that take requests now, by replica; of drained ones only where no other does."""
        for is_draining in (False, True):
            serving = {
                one.number: worker
                for one in self._replicas
                if one.is_draining is is_draining and (worker := one.worker) is not None
            }
            if serving:
                return serving
        return {}

    @property
    def num_ending(self) -> int:
        """Sequences and texts that workers still have to end which take no more requests."""
        serving = list(self.serving.values())
        busy = (worker for one in self._replicas for worker in one.busy_workers)
        return sum(worker.queued.num_open for worker in busy if worker not in serving)

    @property
    def is_settled(self) -> bool:
        """Whether nothing of it is being loaded now."""
        return all(one.supervisor.phase in _SETTLED for one in self._replicas)

    def find(self, number: int) -> Replica | None:
        """Return the replica with this number, where it is still there."""
        return next((one for one in self._replicas if one.number == number), None)

    def count_held_tokens(self, replica: Replica) -> int:
        """Tokens of prompts that a replica is believed to hold."""
        known = replica.known_worker is not None
        return self._balancer.count_held_tokens(replica.number) if known else 0

    def want(self, shares: Sequence[Share]) -> None:
        """Have a replica on each of these from now on; before the first is started: from the start.

        Args:
            shares: one at least.
        """
        self._wanted = list(shares)
        if self._replicas[0].task is None:
            self._replicas[0].share = self._wanted[0]
        self._news.tell()

    async def run(self) -> None:
        """Run the replicas until cancelled; then stop their workers."""
        try:
            async with self._tasks:
                self._begin(self._replicas[0])
                await self._keep_wanted()
        finally:
            for replica in self._replicas:
                self._observer.observe(ReplicaLeft(model=self.model, replica=replica.number))

    async def place(self, wish: Wish) -> Placed:
        """Choose a replica for a request that is given to it at once; wait while none serves.

        Raises:
            ModelUnavailableError: no engine could be started for any.
        """
        while True:
            if serving := self.serving:
                return self._choose(_without_lost(serving, wish.lost), wish)
            # INVARIANT: there is one that stays: of the last, ``next_move`` drains none.
            staying = [one.supervisor for one in self._replicas if not one.is_draining]
            if all(one.phase is ModelPhase.FAILED for one in staying):
                staying[0].check_hope()
            await self._news.wait()

    def release_conversation(self, conversation: str) -> None:
        """Free what only a conversation needs that has ended."""
        self._balancer.forget_conversation(conversation)
        for worker in self.workers:
            worker.release_conversation(conversation)

    def _choose(self, serving: Mapping[int, Worker], wish: Wish) -> Placed:
        for number, worker in serving.items():
            self._bring_up_to_date(number, worker)
        chosen = self._balancer.choose(
            wish.names,
            num_tokens=wish.num_tokens,
            num_sequences=wish.num_sequences,
            conversation=wish.conversation,
            queued_tokens={number: one.queued.total for number, one in serving.items()},
        )
        worker = serving[chosen.replica]
        self._observer.observe(
            RequestPlaced(
                model=self.model,
                replica=chosen.replica,
                rule=chosen.rule.value,
                num_queued_tokens=worker.queued.total,
            )
        )
        return Placed(worker, chosen.num_held_tokens)

    def _bring_up_to_date(self, number: int, worker: Worker) -> None:
        replica, max_tokens = self.find(number), _find_kv_tokens(worker)
        if replica is not None and replica.known_worker is not worker:
            # Another process, which holds nothing yet.
            replica.offered = [*replica.busy_workers, worker]
            self._balancer.join(number, max_tokens=max_tokens)
        self._balancer.bound(number, max_tokens)

    async def _keep_wanted(self) -> None:
        """Bring the replicas to what is wanted, one at a time, and again whenever that changes."""
        while True:
            told, timeout_s = self._news.next, None
            if any(one.supervisor.phase is ModelPhase.READY for one in self._replicas):
                timeout_s = await self._move()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await told.wait()

    async def _move(self) -> float | None:
        """Make the next move; return after how long to look again though there is no news."""
        staying = [one for one in self._replicas if not one.is_draining]
        # Not one that restarts: its back-off may last, and its share and memory are its own.
        loading = [one.number for one in staying if one.supervisor.phase is ModelPhase.LOADING]
        if loading:
            self._give_up(loading, len(staying) - len(self._wanted))
            return None
        move = next_move(self._tell_members(), self._wanted, has_room=True)
        self.obstacle = await self._find_obstacle() if isinstance(move, Start) else ""
        # That took a moment, in which a worker may have ended.
        move = next_move(self._tell_members(), self._wanted, has_room=not self.obstacle)
        match move:
            case Start(share):
                self._join(share)
            case Drain(number):
                self._drain(number)
            case None:
                pass
        return _ROOM_RETRY_S if self.obstacle else None

    def _give_up(self, loading: Sequence[int], num_surplus: int) -> None:
        """Drain a replica that loads though fewer are wanted by now: its node may take minutes."""
        move = next_move(self._tell_members(), self._wanted, has_room=False)
        if num_surplus > 0 and isinstance(move, Drain) and move.number in loading:
            self._drain(move.number)

    def _tell_members(self) -> list[Member]:
        return [
            Member(number=one.number, share=one.share, is_serving=one.worker is not None)
            for one in self._replicas
            if not one.is_draining
        ]

    def _join(self, share: Share) -> None:
        taken = {one.number for one in self._replicas}
        number = next(one for one in range(len(taken) + 1) if one not in taken)
        replica = self._make(number, share)
        self._replicas.append(replica)
        logger.info("%s: replica %d joins", self.model, number)
        self._begin(replica)

    def _drain(self, number: int) -> None:
        replica = self.find(number)
        if replica is None:
            return
        replica.is_draining = True
        logger.info("%s: replica %d is drained", self.model, number)
        self._tasks.create_task(self._leave(replica), name=f"drain replica {number}")

    async def _leave(self, replica: Replica) -> None:
        """Let a replica end what it has, then stop it and forget it."""
        await replica.wait_until_idle()
        while replica.number in self.serving:
            # No other serves any more: what comes is given to it.
            await self._news.wait()
            await replica.wait_until_idle()
        replica.is_leaving = True
        if replica.task is not None:
            replica.task.cancel()
            await asyncio.gather(replica.task, return_exceptions=True)
        self._replicas.remove(replica)
        self._balancer.leave(replica.number)
        logger.info("%s: replica %d has left", self.model, replica.number)
        self._observer.observe(ReplicaLeft(model=self.model, replica=replica.number))
        self._news.tell()

    def _make(self, number: int, share: Share) -> Replica:
        replica = Replica(number=number, share=share)
        replica.supervisor = self._make_supervisor(replica, self._news)
        return replica

    def _begin(self, replica: Replica) -> None:
        replica.task = self._tasks.create_task(
            replica.supervisor.run(), name=f"supervise replica {replica.number}"
        )
        self._news.tell()


def _without_lost(serving: Mapping[int, Worker], lost: Worker | None) -> Mapping[int, Worker]:
    """Leave those that may take over from a worker that failed a request, if there are any."""
    if lost is None:
        return serving
    others = {number: one for number, one in serving.items() if one is not lost}
    alike = {number: one for number, one in others.items() if one.engine == lost.engine}
    return alike or others or serving


def _find_kv_tokens(worker: Worker) -> int:
    """Return for how many tokens a worker keeps keys and values."""
    facts, cache = worker.facts, worker.cache
    if not worker.orders.in_force.cache.is_reusing or facts.dimensions:
        return 0
    num_blocks = cache.num_target_blocks if cache is not None else facts.num_kv_blocks
    return num_blocks * facts.kv_block_tokens or _UNKNOWN_KV_TOKENS
