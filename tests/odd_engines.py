"""Engines that misbehave when a prompt tells them to: a plug-in for tests of what then follows.

They are the echo engine under other names. The fault is in the prompt's first token, so that one
request alone causes it; ``once`` files let it happen a single time over all workers.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import msgspec

from mm_orch.batching.batcher import BatcherSpec, DynamicBatcher
from mm_orch.core.errors import EngineOutOfMemoryError, EngineStartError
from mm_orch.core.generation import TokenChunk
from mm_orch.kv_cache.cache import KVCache
from mm_orch.optimization.engines.contract import Availability, StreamReport
from mm_orch.optimization.engines.echo import EchoBackend
from mm_orch.optimization.engines.echo_embedding import EchoEmbedder
from mm_orch.workers import messages

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence as Batch

    import numpy as np
    from numpy.typing import NDArray

    from mm_orch.optimization.engines.contract import (
        EngineFacts,
        EngineSpec,
        ScheduledSequence,
        Sequence,
    )

DIE, HANG, RUN_OUT, BREAK, TALK_GARBAGE, INVENT = range(101, 107)
"""First tokens of prompts: die, hang, run out of memory, raise, send no message, give tokens that
there are not."""

FAULTS = {
    "die": DIE,
    "hang": HANG,
    "run out of memory": RUN_OUT,
    "break": BREAK,
    "talk garbage": TALK_GARBAGE,
    "invent tokens": INVENT,
}
_ORDERS = "ODD_ENGINES_ORDERS"
"""Names a file that holds one of FAULTS: the next step takes the file away and does it."""
_DELAY = "ODD_ENGINES_DELAY"
"""Names a file that holds how many seconds a step takes, while it is there."""
_DELAY_POLL_S = 0.01

ENGINES = {
    "odd": "OddBackend",
    "spare": "SpareBackend",
    "loud": "LoudBackend",
    "refusing": "RefusingBackend",
    "hesitant": "HesitantBackend",
    "absent": "AbsentBackend",
    "forgetful": "ForgetfulBackend",
    "slow": "SlowBackend",
    "full": "FullBackend",
    "streaming": "StreamingEcho",
}
CARD_ENGINES = {
    "card": "CardBackend",
    "second_card": "SecondCardBackend",
    "hosted_card": "HostedCardBackend",
}
"""Those of tests.card_engines."""
EMBEDDERS = {
    "odd": "OddEmbedder",
    "spare": "SpareEmbedder",
    "refusing": "RefusingEmbedder",
    "slow": "SlowEmbedder",
}
_SWITCH = "ODD_ENGINES_REFUSE"


class Switch:
    """What the engines are told from outside.

    Attributes:
        environment: variables with which servers and workers find the engines and this.
    """

    def __init__(self, directory: Path) -> None:
        self._refuse = directory / "refuse"
        self._orders = directory / "orders"
        self._delay = directory / "delay"
        self.environment = {
            "PYTHONPATH": str(directory),
            _SWITCH: str(self._refuse),
            _ORDERS: str(self._orders),
            _DELAY: str(self._delay),
        }

    def turn_on(self) -> None:
        """Let ``refusing`` refuse to start, and ``hesitant`` take for ever to."""
        self._refuse.touch()

    def turn_off(self) -> None:
        self._refuse.unlink()

    @property
    def is_hesitating(self) -> bool:
        """Whether ``hesitant`` has begun to start and found the switch."""
        return self._refuse.with_suffix(".hesitates").exists()

    def order(self, fault: str) -> None:
        """Let ``odd`` do this in its next step that continues something, once."""
        _write_whole(self._orders, fault)

    def slow_down(self, step_s: float) -> None:
        """Let each step of ``odd`` take so long, the one that runs already too."""
        _write_whole(self._delay, str(step_s))

    def speed_up(self) -> None:
        """Let its steps take no longer than they need."""
        self._delay.unlink()

    def reset(self) -> None:
        """Take back whatever they were told."""
        for told in (self._refuse, self._orders, self._delay):
            told.unlink(missing_ok=True)

    @property
    def is_done(self) -> bool:
        """Whether what was ordered has been done."""
        return not self._orders.exists()


def _write_whole(path: Path, text: str) -> None:
    # In one move, so that no worker reads half of it.
    part = path.with_suffix(".part")
    part.write_text(text)
    part.rename(path)


def _refuse() -> None:
    if Path(os.environ[_SWITCH]).exists():
        raise EngineStartError("It does not want to.", remedy="Remove the switch.")


class OddBackend(EchoBackend):
    """Does what the first token of a prompt says."""

    name: ClassVar[str] = "odd"

    def step(self, batch: Batch[ScheduledSequence]) -> list[TokenChunk]:
        _linger()
        fault = _find_fault(batch)
        _commit(fault)
        chunks = super().step(batch)
        if fault == INVENT:
            chunks = [
                TokenChunk(sequence_id=chunk.sequence_id, token_ids=(10**6,)) for chunk in chunks
            ]
        return chunks


def _linger() -> None:
    begin_s = time.monotonic()
    while time.monotonic() - begin_s < _read_delay_s():
        time.sleep(_DELAY_POLL_S)


def _read_delay_s() -> float:
    try:
        return float(Path(os.environ[_DELAY]).read_text())
    except FileNotFoundError:
        return 0.0


def _find_fault(batch: Batch[ScheduledSequence]) -> int | None:
    # Once something has come of it, so that there is something to continue.
    begun = [one.sequence for one in batch if one.sequence.num_output_tokens >= 1]
    for sequence in begun:
        if sequence.token_ids[0] in FAULTS.values():
            return sequence.token_ids[0]
    return _take_order() if begun else None


def _take_order() -> int | None:
    orders = Path(os.environ[_ORDERS])
    if not orders.exists():
        return None
    fault = FAULTS[orders.read_text()]
    orders.unlink()
    return fault


def _commit(fault: int | None) -> None:
    match fault:
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
        _refuse()
        return super().start(spec)


class HesitantBackend(EchoBackend):
    """Does not come to the end of its start while its switch is there."""

    name: ClassVar[str] = "hesitant"

    def start(self, spec: EngineSpec) -> EngineFacts:
        while Path(os.environ[_SWITCH]).exists():
            Path(os.environ[_SWITCH]).with_suffix(".hesitates").touch()
            time.sleep(0.01)
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


class SlowBackend(EchoBackend):
    """Takes its time for every step."""

    name: ClassVar[str] = "slow"

    def step(self, batch: Batch[ScheduledSequence]) -> list[TokenChunk]:
        time.sleep(0.05)
        return super().step(batch)


class FullBackend(EchoBackend):
    """Has no memory for more keys and values than it started with."""

    name: ClassVar[str] = "full"

    def resize_kv(self, num_blocks: int, *, num_kept: int) -> None:
        raise EngineOutOfMemoryError(f"no memory for {num_blocks} blocks, {num_kept} of them kept")


class StreamingEcho:
    """Echo with a batcher of its own, as large engines have one."""

    name: ClassVar[str] = "streaming"

    def __init__(self) -> None:
        self._backend = EchoBackend()
        self._batcher: DynamicBatcher | None = None

    @classmethod
    def probe(cls) -> Availability:
        return Availability(engine=cls.name, is_available=True)

    def start(self, spec: EngineSpec) -> EngineFacts:
        facts = self._backend.start(spec)
        limits = BatcherSpec(
            max_batch_size=spec.max_batch_size, max_batch_tokens=spec.max_batch_tokens
        )
        cache = KVCache(facts.num_kv_blocks, facts.kv_block_tokens)
        self._batcher = DynamicBatcher(self._backend, cache, limits, time.monotonic)
        return msgspec.structs.replace(facts, engine=self.name)

    @property
    def has_work(self) -> bool:
        return self._own.has_work

    @property
    def wake_fd(self) -> int | None:
        return None

    def submit(self, sequence: Sequence) -> None:
        self._own.add(sequence)

    def abort(self, sequence_ids: Iterable[str]) -> None:
        self._own.abort(sequence_ids)

    def advance(self) -> StreamReport:
        _linger()
        report = self._own.step()
        return StreamReport(
            chunks=report.chunks,
            started=report.started,
            failed=report.failed,
            batch_size=report.batch_size,
            duration_s=report.duration_s,
            num_running=self._own.num_running,
            num_waiting=self._own.num_waiting,
        )

    def stop(self) -> None:
        self._backend.stop()

    @property
    def _own(self) -> DynamicBatcher:
        assert self._batcher is not None, "it was not started"
        return self._batcher


class OddEmbedder(EchoEmbedder):
    """Does what it is ordered."""

    name: ClassVar[str] = "odd"

    def embed(self, batch: Batch[Batch[int]]) -> NDArray[np.float32]:
        _commit(_take_order())
        return super().embed(batch)


class SpareEmbedder(EchoEmbedder):
    """An engine to fall back to."""

    name: ClassVar[str] = "spare"


class RefusingEmbedder(EchoEmbedder):
    """Cannot start while its switch is there."""

    name: ClassVar[str] = "refusing"

    def start(self, spec: EngineSpec) -> EngineFacts:
        _refuse()
        return super().start(spec)


class SlowEmbedder(EchoEmbedder):
    """Takes its time."""

    name: ClassVar[str] = "slow"

    def embed(self, batch: Batch[Batch[int]]) -> NDArray[np.float32]:
        time.sleep(0.2)
        return super().embed(batch)


def install(directory: Path) -> Switch:
    """Write a distribution with these engines."""
    metadata = directory / "odd_engines-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-engines\nVersion: 1\n")
    lines = [f"{name} = tests.odd_engines:{target}" for name, target in ENGINES.items()]
    embedding = [f"{name} = tests.odd_engines:{target}" for name, target in EMBEDDERS.items()]
    lines += [f"{name} = tests.card_engines:{target}" for name, target in CARD_ENGINES.items()]
    groups = ["[mm_orch.engines]", *lines, "[mm_orch.embedding_engines]", *embedding, ""]
    (metadata / "entry_points.txt").write_text("\n".join(groups))
    return Switch(directory)
