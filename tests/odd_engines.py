"""Engines that misbehave when a prompt tells them to: a plug-in for tests of what then follows.

They are the echo engine under other names. The fault is in the prompt's first token, so that one
request alone causes it; ``once`` files let it happen a single time over all workers.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import msgspec

from mm_orch.core.errors import EngineOutOfMemoryError, EngineStartError
from mm_orch.core.generation import TokenChunk
from mm_orch.optimization.engines.contract import Availability
from mm_orch.optimization.engines.echo import EchoBackend
from mm_orch.workers import messages

if TYPE_CHECKING:
    from collections.abc import Sequence as Batch

    from mm_orch.optimization.engines.contract import EngineFacts, EngineSpec, ScheduledSequence

DIE, HANG, RUN_OUT, BREAK, TALK_GARBAGE, INVENT = range(101, 107)
"""First tokens: die, hang, run out of memory, raise, send no message, give tokens there are not."""

ENGINES = {
    "odd": "OddBackend",
    "spare": "SpareBackend",
    "loud": "LoudBackend",
    "refusing": "RefusingBackend",
    "absent": "AbsentBackend",
    "forgetful": "ForgetfulBackend",
}
_SWITCH = "ODD_ENGINES_REFUSE"


class Switch:
    """A file: while it is there, ``refusing`` cannot start."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def turn_on(self) -> None:
        self._path.touch()

    def turn_off(self) -> None:
        self._path.unlink()


class OddBackend(EchoBackend):
    """Does what the first token of a prompt says."""

    name: ClassVar[str] = "odd"

    def step(self, batch: Batch[ScheduledSequence]) -> list[TokenChunk]:
        fault = next(
            (
                first
                for scheduled in batch
                if DIE <= (first := scheduled.sequence.token_ids[0]) <= INVENT
                # Once something has come of it, so that there is something to continue.
                and scheduled.sequence.num_output_tokens >= 1
            ),
            None,
        )
        match fault:
            case None:
                return super().step(batch)
            case 101:
                os.kill(os.getpid(), signal.SIGKILL)
            case 102:
                signal.pause()
            case 103:
                raise EngineOutOfMemoryError("There is no memory left.")
            case 104:
                raise RuntimeError("This step is broken.")
            case 105:
                messages.encode = lambda _: b"no message"
        chunks = super().step(batch)
        if fault == INVENT:
            chunks = [
                TokenChunk(sequence_id=chunk.sequence_id, token_ids=(10**6,)) for chunk in chunks
            ]
        return chunks


class SpareBackend(EchoBackend):
    """Plain echo under another name: an engine to fall back to."""

    name: ClassVar[str] = "spare"


class LoudBackend(EchoBackend):
    """Writes a line longer than any buffer."""

    name: ClassVar[str] = "loud"

    def step(self, batch: Batch[ScheduledSequence]) -> list[TokenChunk]:
        sys.stderr.write("x" * 300_000)
        sys.stderr.flush()
        return super().step(batch)


class RefusingBackend(EchoBackend):
    """Cannot start while its switch is there."""

    name: ClassVar[str] = "refusing"

    def start(self, spec: EngineSpec) -> EngineFacts:
        if Path(os.environ[_SWITCH]).exists():
            raise EngineStartError("It does not want to.", remedy="Remove the switch.")
        return super().start(spec)


class AbsentBackend(EchoBackend):
    """Cannot run here."""

    name: ClassVar[str] = "absent"

    @classmethod
    def probe(cls) -> Availability:
        return Availability(
            engine=cls.name, is_available=False, reason="not installed", remedy="install it"
        )


class ForgetfulBackend(EchoBackend):
    """Says that it cannot take over what another engine has begun, nor bias logits."""

    name: ClassVar[str] = "forgetful"

    def start(self, spec: EngineSpec) -> EngineFacts:
        facts = super().start(spec)
        return msgspec.structs.replace(facts, resumes_exactly=False, unsupported=("logit_bias",))


def install(directory: Path) -> tuple[dict[str, str], Switch]:
    """Write a distribution with these engines; return the environment in which it is found."""
    metadata = directory / "odd_engines-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-engines\nVersion: 1\n")
    lines = [f"{name} = tests.odd_engines:{target}" for name, target in ENGINES.items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[mm_orch.engines]", *lines, ""]))
    switch = directory / "refuse"
    return {"PYTHONPATH": str(directory), _SWITCH: str(switch)}, Switch(switch)
