"""Which sequences the next step advances, and by how many tokens: a pure decision.

running   a a a b c c c c     in order of rank: each gets its token or its next chunk of prompt;
          | | | | | | | |     where blocks are short, the last in rank is preempted for the first
waiting   d e                 join in order of rank while slots, budget and blocks allow, and while
                              nobody is just computing what they would compute first

Where a prompt of higher priority is due, those below it may sit the step out; and where it is kept
out for want of a slot or of blocks, the last in rank gives way to it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from mm_orch.core.priority import rank_s
from mm_orch.optimization.engines.contract import ScheduledSequence

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from mm_orch.kv_cache.cache import PrefixMatch
    from mm_orch.optimization.engines.contract import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLimits:
    """Bounds of one step.

    Attributes:
        max_batch_size: most sequences that run; 1 is one at a time.
        max_prompt_tokens: most prompt tokens computed; longer prompts take several steps.
        min_priority: those below sit the step out, and keep their slots; None for nobody.
    """

    max_batch_size: int
    max_prompt_tokens: int
    min_priority: int | None = None


class Memory(Protocol):
    """What the scheduler asks of the KV cache; nothing of it changes anything."""

    block_tokens: int

    @property
    def num_available(self) -> int:
        """Blocks that could be had now; below 0 while so many must be given back first."""

    def count_blocks(self, num_tokens: int) -> int:
        """Blocks that so many tokens take."""

    def count_freed(self, sequence_id: str) -> int:
        """Blocks that would become available if this sequence were closed."""

    def find(self, token_ids: list[int]) -> PrefixMatch:
        """What of these tokens need not be computed."""

    def name_next_block(self, sequence_id: str, token_ids: list[int]) -> Hashable:
        """What stands for the block that this sequence is filling; None for none."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the next step does: sequences to advance, and those that give up their memory first.

    Attributes:
        kept_out: the first in rank that a slot or blocks were missing for.
    """

    batch: list[ScheduledSequence]
    preempted: list[Sequence]
    kept_out: Sequence | None = None

    @property
    def has_prompt(self) -> bool:
        """Whether any of its tokens are a prompt's."""
        return any(not one.sequence.is_decoding for one in self.batch)


def rank_of(sequence: Sequence) -> tuple[float, int]:
    """Sort key: higher priority and longer waiting first, then order of arrival."""
    return (rank_s(sequence.priority, sequence.since_s), sequence.arrival)


def find_min_priority(running: Iterable[Sequence], first: Sequence | None) -> int | None:
    """Say below which priority others should sit a step out, for a prompt that is due.

    Args:
        running: sequences with open tables.
        first: the first in rank of those that wait.
    """
    holders = list(running)
    due = [one.priority for one in holders if not one.is_decoding]
    highest = max(due if first is None else [*due, first.priority], default=None)
    if highest is None or all(one.priority >= highest for one in holders):
        return None
    return highest


def find_displaced(running: Iterable[Sequence], kept_out: Sequence | None) -> Sequence | None:
    """Return who gives way to a sequence that was kept out: the last in rank, or nobody.

    It takes a lower priority to lose what one has; rank that comes of waiting takes nothing away.
    """
    last = max(running, key=rank_of, default=None)
    if kept_out is None or last is None or last.priority >= kept_out.priority:
        return None
    return last if rank_of(last) > rank_of(kept_out) else None


def schedule(
    running: Iterable[Sequence], waiting: Iterable[Sequence], limits: StepLimits, memory: Memory
) -> Plan:
    """Choose the next step.

    A decoding sequence costs one token and no prompt budget, so streams keep their pace while
    prompts are taken in. Prompts share ``max_prompt_tokens`` in order of rank. The first in rank
    always advances: the memory holds at least one sequence of full length.

    Args:
        running: sequences with open tables, in any order.
        waiting: the others, in order of rank.
        limits: bounds of the step.
        memory: the KV cache.
    """
    planner = _Planner(limits, memory)
    planner.advance_running(sorted(running, key=rank_of))
    if not planner.preempted:
        planner.admit(waiting)
    return Plan(planner.batch, planner.preempted, planner.kept_out)


@dataclass(slots=True)
class _Planner:
    limits: StepLimits
    memory: Memory
    batch: list[ScheduledSequence] = field(default_factory=list)
    preempted: list[Sequence] = field(default_factory=list)
    kept_out: Sequence | None = None
    num_available: int = field(init=False)
    budget: int = field(init=False)
    # Blocks that admitted prompts will still need: newcomers must leave them alone.
    num_promised: int = 0
    num_running: int = 0
    # First blocks that this step computes: who needs the same finds it done after the step.
    computing: set[Hashable] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.num_available = self.memory.num_available
        self.budget = self.limits.max_prompt_tokens

    def advance_running(self, running: list[Sequence]) -> None:
        queue = deque(running)
        while queue:
            sequence = queue.popleft()
            num_new_tokens = self._wanted(sequence)
            if num_new_tokens and not self._room(sequence, num_new_tokens):
                num_new_tokens = self._make_room(sequence, num_new_tokens, queue)
                if not num_new_tokens:
                    # Last in rank itself, and it was preempted.
                    continue
            self.num_running += 1
            if num_new_tokens:
                self._take(sequence, num_new_tokens)
            self.num_promised += max(0, self._num_missing(sequence, len(sequence.token_ids) + 1))
        # What the batch takes now is not needed again later.
        self.num_promised = max(0, self.num_promised - self._num_taken())

    def admit(self, waiting: Iterable[Sequence]) -> None:
        for sequence in waiting:
            if not self.budget or self._sits_out(sequence):
                return
            if self.num_running >= self.limits.max_batch_size:
                self.kept_out = sequence
                return
            match = self.memory.find(sequence.token_ids)
            # The last token is computed by each for itself, and with it its block.
            is_reusable = match.num_tokens + self.memory.block_tokens < len(sequence.token_ids)
            if is_reusable and match.next_block in self.computing:
                # Later ones wait with it, or they would overtake.
                return
            num_shared = match.num_tokens // self.memory.block_tokens
            num_available = self.num_available - match.num_unheld_blocks
            num_needed = self.memory.count_blocks(len(sequence.token_ids) + 1) - num_shared
            num_new_tokens = min(len(sequence.token_ids) - match.num_tokens, self.budget)
            if self.num_running:
                if num_needed > num_available - self.num_promised:
                    # Later ones may be shorter, but overtaking would starve this one.
                    self.kept_out = sequence
                    return
            else:
                num_new_tokens = min(num_new_tokens, num_available * self.memory.block_tokens)
            num_taken = self.memory.count_blocks(match.num_tokens + num_new_tokens) - num_shared
            self.num_available = num_available - num_taken
            self.num_promised += max(0, num_needed - num_taken)
            self.budget -= num_new_tokens
            self.num_running += 1
            self.batch.append(ScheduledSequence(sequence, num_new_tokens))
            self._note(match.next_block)

    def _note(self, next_block: Hashable) -> None:
        if next_block is not None:
            self.computing.add(next_block)

    def _sits_out(self, sequence: Sequence) -> bool:
        least = self.limits.min_priority
        return least is not None and sequence.priority < least

    def _wanted(self, sequence: Sequence) -> int:
        if self._sits_out(sequence):
            return 0
        return 1 if sequence.is_decoding else min(sequence.num_uncomputed_tokens, self.budget)

    def _num_missing(self, sequence: Sequence, num_tokens: int) -> int:
        return self.memory.count_blocks(num_tokens) - len(sequence.block_ids)

    def _room(self, sequence: Sequence, num_new_tokens: int) -> int:
        """Return how many of these tokens there is memory for."""
        num_blocks = len(sequence.block_ids) + max(0, self.num_available)
        num_free_tokens = num_blocks * self.memory.block_tokens - sequence.num_computed_tokens
        return min(num_new_tokens, num_free_tokens)

    def _make_room(self, sequence: Sequence, num_new_tokens: int, queue: deque[Sequence]) -> int:
        while not self._room(sequence, num_new_tokens):
            victim = queue.pop() if queue else sequence
            self.preempted.append(victim)
            self.num_available += self.memory.count_freed(victim.sequence_id)
            if victim is sequence:
                return 0
        return num_new_tokens

    def _take(self, sequence: Sequence, num_new_tokens: int) -> None:
        num_new_tokens = self._room(sequence, num_new_tokens)
        num_missing = self._num_missing(sequence, sequence.num_computed_tokens + num_new_tokens)
        self.num_available -= max(0, num_missing)
        if not sequence.is_decoding:
            self.budget -= num_new_tokens
            name = self.memory.name_next_block(sequence.sequence_id, sequence.token_ids)
            self._note(name)
        self.batch.append(ScheduledSequence(sequence, num_new_tokens))

    def _num_taken(self) -> int:
        return sum(
            max(0, self._num_missing(s.sequence, s.sequence.num_computed_tokens + s.num_new_tokens))
            for s in self.batch
        )
