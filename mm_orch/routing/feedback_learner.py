"""Owns what routing has learned from feedback: learns anew when there is more, and keeps it.

feedback --> wait for more --> fit, in a thread --> taken or refused --> file --> next choices
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from mm_orch.core.background import start_loop
from mm_orch.core.mind_events import FeedbackTaken
from mm_orch.core.whole_files import write_whole
from mm_orch.routing.feedback_fit import MAX_BIAS, MIN_FEEDBACK, gather_opinions, learn
from mm_orch.routing.route import WORKFLOWS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping
    from pathlib import Path

    from mm_orch.core.events import Event
    from mm_orch.routing.development import Development
    from mm_orch.storage.outcomes import Outcome

logger = logging.getLogger(__name__)

_FORMAT = 1
# One click teaches little, and many may follow.
_GATHER_S = 10.0


class LearnedBiases(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept on disk.

    Attributes:
        format: of the file.
        development_digest: of the development queries that it was checked against; it counts with
            these alone.
        num_feedback: opinions that it was learned from.
        num_development: development queries.
        num_right_before: of these, routed right without it.
        num_right: and with it.
        bias_by_workflow: added to the logarithm of the belief in each.
    """

    format: int = _FORMAT
    development_digest: str
    num_feedback: int
    num_development: int
    num_right_before: int
    num_right: int
    bias_by_workflow: dict[str, float]


class FeedbackLearner:
    """Implements core.events.Observer.

    With too few opinions to learn from, what was learned before stays in force; with enough of
    them, it is replaced by what they teach, or dropped where that is refused.

    Args:
        find_outcomes: gives what is remembered now.
        development: what must not get worse.
        path: of the file.
        now: seconds since 1970.
        half_life_s: an opinion this old weighs half.
        gather_s: seconds from an opinion until it is learned from.
    """

    def __init__(
        self,
        find_outcomes: Callable[[], Iterable[Outcome]],
        development: Development,
        path: Path,
        *,
        now: Callable[[], float],
        half_life_s: float,
        gather_s: float = _GATHER_S,
    ) -> None:
        self._find_outcomes = find_outcomes
        self._development = development
        self._path = path
        self._now = now
        self._half_life_s = half_life_s
        self._gather_s = gather_s
        self._has_more = asyncio.Event()
        self._in_force: LearnedBiases | None = None

    @property
    def bias_by_workflow(self) -> Mapping[str, float]:
        """What is in force; empty where nothing is."""
        return {} if self._in_force is None else self._in_force.bias_by_workflow

    def observe(self, event: Event) -> None:
        """Hear that there is more to learn from."""
        if isinstance(event, FeedbackTaken):
            self._has_more.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Go by what is kept, and learn while the context lasts."""
        self._in_force = await asyncio.to_thread(self._load)
        task = start_loop(self._work(), "learn from feedback")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def learn(self) -> None:
        """Learn from all that is remembered now."""
        opinions = gather_opinions(
            self._find_outcomes(), now_s=self._now(), half_life_s=self._half_life_s
        )
        if len(opinions) < MIN_FEEDBACK:
            return
        learned = await asyncio.to_thread(learn, opinions, self._development)
        values = [round(float(one), 3) for one in learned.biases]
        logger.info(
            "routing has learned from %d opinions: %s %s", len(opinions), learned.reason, values
        )
        self._in_force = None
        if any(values):
            self._in_force = LearnedBiases(
                development_digest=self._development.digest,
                num_feedback=len(opinions),
                num_development=len(self._development.labels),
                num_right_before=learned.num_right_before,
                num_right=learned.num_right,
                bias_by_workflow=dict(zip(WORKFLOWS, values, strict=True)),
            )
        await asyncio.to_thread(self._keep, self._in_force)

    async def _work(self) -> None:
        while True:
            await self._has_more.wait()
            await asyncio.sleep(self._gather_s)
            self._has_more.clear()
            await self.learn()

    def _load(self) -> LearnedBiases | None:
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=LearnedBiases)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            logger.warning("what routing had learned is not used: %s: %s", self._path, error)
            return None
        biases = kept.bias_by_workflow
        # NaN is within no bounds.
        is_sound = biases.keys() <= set(WORKFLOWS) and all(
            -MAX_BIAS <= one <= MAX_BIAS for one in biases.values()
        )
        is_current = (kept.format, kept.development_digest) == (_FORMAT, self._development.digest)
        if not (is_sound and is_current):
            logger.warning("what routing had learned is of another version: %s", self._path)
            return None
        return kept

    def _keep(self, biases: LearnedBiases | None) -> None:
        """Write the file as a whole or not at all; without biases there is none."""
        try:
            if biases is None:
                self._path.unlink(missing_ok=True)
                return
            content = msgspec.json.format(msgspec.json.encode(biases), indent=1)
            write_whole(self._path, content + b"\n")
        except OSError as error:
            logger.warning("what routing has learned is not kept: %s", error)
