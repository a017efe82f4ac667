"""What a running workflow tells on its way, and what has come of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mm_orch.core.errors import MuAIError


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStarted:
    """A step has what it reads and begins; ``begin_s`` is a reading of the runner's clock."""

    step: str
    begin_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEnded:
    """A step has done its work, in so many seconds and attempts.

    Attributes:
        lacking: what it had to do without.
        remark: what it says of what it did; empty for nothing.
    """

    step: str
    duration_s: float
    num_attempts: int
    lacking: tuple[MuAIError, ...] = ()
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFailed:
    """An attempt of a step has failed.

    Attributes:
        duration_s: since the step began.
        num_attempts: so far, this one among them.
        will_retry: it is tried again.
        is_optional: the workflow goes on without it.
        error: what it failed of.
    """

    step: str
    duration_s: float
    num_attempts: int
    will_retry: bool
    is_optional: bool
    error: MuAIError


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSkipped:
    """A step does not run, because what it reads was not written."""

    step: str
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AnswerPiece:
    """The final answer goes on with this text."""

    text: str


@dataclass(frozen=True, slots=True)
class ThoughtPiece:
    """Before it answers, the model thinks this; no part of the answer."""

    text: str


Progress = StepStarted | StepEnded | StepFailed | StepSkipped | ThoughtPiece | AnswerPiece

Tell = Callable[[Progress], Awaitable[None]]
"""Takes what happens, in order; may wait for a slow reader, and never raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedStep:
    """An optional step that the result is without, or a part that a step has done without."""

    step: str
    error: MuAIError


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """What a step says of what it has decided or done, for people."""

    step: str
    text: str
