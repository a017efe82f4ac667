"""Real trouble for a real server: an engine that gets slow or fails, a queue that starves, memory
that fills; each can be made bad, made worse, and ended.
"""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest

from mm_orch.core.memory import read_memory
from tests.daemons import poll
from tests.odd_engines import BREAK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from typing import Self

    from tests.odd_engines import Switch
    from tests.processes import ServerProcess

ENGINE = "odd"
LATENCY_MS = 700.0
ERROR_RATE = 0.2
THROUGHPUT_RPS = 1.0

NUM_TOKENS = 4
# Words of the model; what they mean is no matter.
GOOD = [504, 338, 253, 216]
BAD = [BREAK, *GOOD]
# Between two requests of a client, else it would ask as fast as the machine lets it.
_PACE_S = 0.03
NUM_USUAL = 20

# Over what is used when the server starts: more than it takes, and than others may meanwhile.
_MIN_ROOM_BYTES = 1 << 30
_ROOM_RATIO = 0.1
_MILD_RATIO, _GRAVE_RATIO = 1.025, 1.14
_MAX_FILL_BYTES = 6 << 30


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something bad that a test is in charge of, and what the alert of it is about."""

    begin: Callable[[], None]
    worsen: Callable[[], None]
    end: Callable[[], None]
    model: str = ""
    engine: str = ""


class Load:
    """Clients that ask one model, each one request after another, for the length of a ``with``.

    Attributes:
        prompts: asked in turn; may be exchanged at any time.
    """

    def __init__(self, server: ServerProcess, model: str, *, num_clients: int = 1) -> None:
        self.prompts: Sequence[list[int]] = (GOOD,)
        self.num_by_status: Counter[int] = Counter()
        self._server = server
        self._model = model
        self._may_end = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(num_clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._may_end.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, num_good: int) -> None:
        """Wait until so many requests have been answered well."""
        poll(lambda: self.num_by_status[HTTPStatus.OK], lambda num: num >= num_good, "good answers")

    def _ask(self) -> None:
        for number in itertools.count():
            prompts = self.prompts
            body = {
                "model": self._model,
                "prompt": prompts[number % len(prompts)],
                "max_tokens": NUM_TOKENS,
                "ignore_eos": True,
                "temperature": 0,
            }
            self.num_by_status[self._server.request("POST", "/v1/completions", body).status] += 1
            if self._may_end.wait(_PACE_S):
                return


@contextmanager
def slow_engine(server: ServerProcess, switch: Switch) -> Iterator[Trouble]:
    """Every step takes its time; requests do not wait for each other."""
    with Load(server, "slow") as load, _ending(switch):
        load.wait_for(NUM_USUAL)
        yield Trouble(
            begin=lambda: switch.slow_down(1.4 * LATENCY_MS / 1000 / NUM_TOKENS),
            worsen=lambda: switch.slow_down(3.2 * LATENCY_MS / 1000 / NUM_TOKENS),
            end=switch.speed_up,
            model="slow",
            engine=ENGINE,
        )


@contextmanager
def failing_engine(server: ServerProcess, switch: Switch) -> Iterator[Trouble]:
    """Some steps fail, and their requests with them; never three in a row, or it were replaced."""
    del switch
    with Load(server, "failing") as load:

        def ask(*prompts: list[int]) -> None:
            load.prompts = prompts

        load.wait_for(NUM_USUAL)
        yield Trouble(
            begin=lambda: ask(GOOD, GOOD, BAD),
            worsen=lambda: ask(GOOD, BAD, BAD),
            end=lambda: ask(GOOD),
            model="failing",
            engine=ENGINE,
        )
    assert set(load.num_by_status) == {HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE}


@contextmanager
def starving_queue(server: ServerProcess, switch: Switch) -> Iterator[Trouble]:
    """There is room for one request: when its steps take long, the others wait; then all stand."""
    with Load(server, "starving", num_clients=3) as load, _ending(switch):
        load.wait_for(NUM_USUAL)
        yield Trouble(
            begin=lambda: switch.slow_down(1.4 / THROUGHPUT_RPS / NUM_TOKENS),
            worsen=lambda: switch.slow_down(60),
            end=switch.speed_up,
            model="starving",
        )


@contextmanager
def _ending(switch: Switch) -> Iterator[None]:
    """End what a test that failed has left, or its clients would wait on."""
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            switch.speed_up()


def memory_limit_percent() -> float:
    """Return a limit that is a little over what is used now."""
    memory = read_memory()
    room_bytes = max(_MIN_ROOM_BYTES, _ROOM_RATIO * memory.total_bytes)
    return 100 * (memory.used_bytes + room_bytes) / memory.total_bytes


def filled_memory(limit_percent: float) -> AbstractContextManager[Trouble]:
    """Another process takes so much memory that little over the limit is used."""
    memory = read_memory()
    limit_bytes = limit_percent / 100 * memory.total_bytes
    missing_bytes = _GRAVE_RATIO * limit_bytes - memory.used_bytes
    free_bytes = memory.total_bytes - memory.used_bytes
    if missing_bytes > min(_MAX_FILL_BYTES, free_bytes / 2):
        pytest.skip(f"would fill {missing_bytes / 2**30:.1f} of {free_bytes / 2**30:.1f} free GiB")
    return _filling(limit_bytes)


# Takes and gives back until so much is used as the last line says, whatever others do meanwhile.
_FILL = """
import mmap, select, sys
from mm_orch.core.memory import read_memory
BLOCK_BYTES = 16 << 20
wanted_bytes, kept = 0, []
while True:
    missing_bytes = wanted_bytes - read_memory().used_bytes
    for _ in range(missing_bytes // BLOCK_BYTES):
        kept.append(mmap.mmap(-1, BLOCK_BYTES))
        # It is no memory before something is written.
        kept[-1].write(b"x" * BLOCK_BYTES)
    for _ in range(min(len(kept), -missing_bytes // BLOCK_BYTES)):
        kept.pop().close()
    if select.select([sys.stdin], [], [], 0.1)[0]:
        wanted_bytes = int(sys.stdin.readline())
"""


@contextmanager
def _filling(limit_bytes: float) -> Iterator[Trouble]:
    with subprocess.Popen(
        [sys.executable, "-c", _FILL], stdin=subprocess.PIPE, text=True
    ) as filler:

        def fill(ratio: float) -> None:
            print(int(ratio * limit_bytes), file=filler.stdin, flush=True)

        try:
            yield Trouble(
                begin=lambda: fill(_MILD_RATIO), worsen=lambda: fill(_GRAVE_RATIO), end=filler.kill
            )
        finally:
            filler.kill()
