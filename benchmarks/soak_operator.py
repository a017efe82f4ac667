"""What is done to the server of a soak while users ask it: kills, unloading, other options."""

from __future__ import annotations

import asyncio
import enum
import json
import os
import random
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from benchmarks.server_calls import call, change_options, workers_of

if TYPE_CHECKING:
    from pathlib import Path

_INTERVAL_S = (8.0, 20.0)
_LOAD_TIMEOUT_S = 300.0
_OK = 200
_OPTIONS: dict[str, tuple[int, ...]] = {
    "optimization.batcher.max_batch_size": (2, 4, 8),
    "optimization.batcher.max_batch_tokens": (256, 512, 1024),
    "monitoring.server.queue_capacity": (50, 100, 200),
}


class Operation(enum.Enum):
    """What an operator does."""

    KILL = "kill"
    UNLOAD = "unload"
    PATCH = "patch"
    FILE = "file"
    SIGNAL = "signal"


class Operator:
    """Does everything in turn, in an order that is drawn anew each time round.

    Args:
        port: of the server.
        pid: of the server.
        config: its file, of JSON.
        model: the one whose worker is killed and unloaded.
        seed: of order, times and values.
    """

    def __init__(self, *, port: int, pid: int, config: Path, model: str, seed: int) -> None:
        self.num_done: Counter[str] = Counter()
        self.faults: list[str] = []
        self._port = port
        self._pid = pid
        self._config = config
        self._model = model
        self._dice = random.Random(seed)  # noqa: S311 - reproducible on purpose
        self._deck: list[Operation] = []

    async def work(self, duration_s: float) -> None:
        """Do one thing after another, with pauses, for this time."""
        end_s = time.monotonic() + duration_s
        while True:
            pause_s = self._dice.uniform(*_INTERVAL_S)
            left_s = end_s - time.monotonic()
            await asyncio.sleep(max(0.0, min(pause_s, left_s)))
            if pause_s >= left_s:
                return
            operation = self._draw()
            try:
                await asyncio.to_thread(self._do, operation)
            except (OSError, RuntimeError) as error:
                self.faults.append(f"{operation.value}: {error!r}")
            else:
                self.num_done[operation.value] += 1

    def load(self) -> None:
        """Have the model loaded that is killed and unloaded.

        Raises:
            RuntimeError: the server says no.
        """
        self._post("load")

    def _draw(self) -> Operation:
        if not self._deck:
            self._deck = [*Operation]
            self._dice.shuffle(self._deck)
        return self._deck.pop()

    def _do(self, operation: Operation) -> None:
        match operation:
            case Operation.KILL:
                self._kill()
            case Operation.UNLOAD:
                self._post("unload?force=true")
                self.load()
            case Operation.PATCH:
                change_options(self._port, self._draw_values())
            case Operation.FILE:
                self._write(self._draw_values())
            case Operation.SIGNAL:
                self._write(self._draw_values())
                os.kill(self._pid, signal.SIGHUP)

    def _kill(self) -> None:
        # One that is just being replaced would not be met.
        self.load()
        for pid, model in workers_of(self._port).items():
            if model == self._model:
                os.kill(pid, signal.SIGKILL)

    def _post(self, what: str) -> None:
        path = f"/api/models/{self._model}/{what}"
        reply = call(self._port, "POST", path, timeout_s=_LOAD_TIMEOUT_S)
        if reply.status != _OK:
            message = f"{path} was answered with {reply.status}: {reply.body[:200]!r}"
            raise RuntimeError(message)

    def _draw_values(self) -> dict[str, int]:
        return {key: self._dice.choice(values) for key, values in _OPTIONS.items()}

    def _write(self, values: dict[str, int]) -> None:
        """Put another file in the place of the server's, as editors do."""
        config: dict[str, Any] = json.loads(self._config.read_text())
        for key, value in values.items():
            *folders, name = key.split(".")
            section = config
            for folder in folders:
                section = section.setdefault(folder, {})
            section[name] = value
        other = self._config.with_suffix(".new")
        other.write_text(json.dumps(config))
        other.replace(self._config)
