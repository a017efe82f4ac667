"""An hour of everything at once: does memory grow, does anything stay open, do counts agree?

usage: python -m benchmarks.soak [--minutes N]

Users stream, chat, complete, embed, leave in the middle, set deadlines that pass, ask too much, ask
for models that are not there and send what cannot be read, all drawn from a seed. Meanwhile the
worker of one model is killed or unloaded, options are changed by the admin's API, in the file and
with SIGHUP, and metrics are read every 5 s. Two models are left alone, so that their workers live
all the time.

Memory and descriptors of the server and its workers are read every few seconds. The first fifth is
the warm-up; after it, and at the end, users pause until the server is idle, and descriptors are
compared. Each request has a number: the server's log must tell of its end exactly once, and its
metrics of as many.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

from benchmarks.contenders import find_embedding_model, find_model, run_all
from benchmarks.monitored_servers import scraping
from benchmarks.processes import ProcessWatch
from benchmarks.results_file import report
from benchmarks.rounds import wait_until_idle
from benchmarks.server_calls import models_of, workers_of
from benchmarks.soak_book import Book
from benchmarks.soak_mix import EMBED, ROUGH, STEADY
from benchmarks.soak_operator import Operator
from benchmarks.soak_server import SoakServer
from benchmarks.soak_summary import Stillness, count_lives, note_descriptors, note_memory
from benchmarks.soak_users import Users
from mm_orch.benchmarking.server_process import free_port

if TYPE_CHECKING:
    from benchmarks.contenders import Running
    from benchmarks.statistics import Verdict

_WARM_UP_SHARE = 0.2
_SAMPLE_INTERVAL_S = 5.0
_TELL_INTERVAL_S = 30.0
_IDLE_TIMEOUT_S = 120.0
_NUM_LOOKS = 5
_LOOK_INTERVAL_S = 1.0
_MINUTE_S = 60.0
_MIB = 1 << 20


def main() -> int:
    """Measure, print, write; return 0 when every bar is met."""
    options = _read_options()
    server = SoakServer(find_model(), find_embedding_model(), free_port())
    figures: dict[str, object] = {
        "minutes": options.minutes,
        "num_users": options.users,
        "seed": options.seed,
    }
    with run_all([server.contender()]) as (one,):
        verdicts, faults = _Soak(one, server, options).run(figures)
    return report("soak", figures, faults, verdicts)


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--users", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


@dataclass(slots=True)
class _Soak:
    """One soak, from the first request to what the server has counted in the end."""

    one: Running
    server: SoakServer
    options: argparse.Namespace
    book: Book = field(default_factory=Book)
    watch: ProcessWatch = field(init=False)
    operator: Operator = field(init=False)

    def __post_init__(self) -> None:
        process = self.one.process
        self.watch = ProcessWatch(process.pid, lambda: workers_of(process.port))
        self.operator = Operator(
            port=process.port,
            pid=process.pid,
            config=self.server.config,
            model=ROUGH,
            seed=self.options.seed,
        )

    def run(self, figures: dict[str, object]) -> tuple[dict[str, Verdict], list[str]]:
        """Do all of it; return the verdicts and why they must not be used."""
        duration_s = self.options.minutes * _MINUTE_S
        users = Users(
            self.one.target,
            self.book,
            num_users=self.options.users,
            seed=self.options.seed,
        )
        own_before = psutil.Process().memory_info().rss
        with scraping(self.server.metrics_port) as scrapes:
            asyncio.run(self._work(users, duration_s * _WARM_UP_SHARE))
            before = self._rest()
            begin_s = time.monotonic()
            asyncio.run(self._work(users, duration_s * (1 - _WARM_UP_SHARE)))
            after = self._rest()
        counts = self.server.read_counts(self.one.process.port, self.book.see)
        lives = self.watch.lives
        figures |= {
            "num_started": self.book.num_started,
            "num_ended_by_clients": self.book.num_ended,
            "num_exchanges_by_server": counts.num_exchanges,
            "num_ended_by_metrics": counts.num_ended,
            "num_ended_by_log": counts.num_log_lines,
            "num_in_flight_at_end": counts.num_in_flight,
            "outcomes": dict(sorted(self.book.outcomes.items())),
            "operations": dict(sorted(self.operator.num_done.items())),
            "num_scrapes": scrapes.num_scrapes,
            "own_growth_mib": round((psutil.Process().memory_info().rss - own_before) / _MIB, 1),
        }
        verdicts = {
            **self.book.compare(counts),
            **note_memory(figures, lives, begin_s),
            **note_descriptors(figures, before, after),
        }
        replaced = [
            f"the worker of {name} was replaced"
            for name in (STEADY, EMBED)
            if count_lives(lives, name) != 1
        ]
        return verdicts, self.book.faults() + self.operator.faults + scrapes.faults + replaced

    async def _work(self, users: Users, duration_s: float) -> None:
        async with asyncio.TaskGroup() as tasks:
            watching = [
                tasks.create_task(self.watch.watch(_SAMPLE_INTERVAL_S)),
                tasks.create_task(self._tell()),
            ]
            working = [
                tasks.create_task(users.work(duration_s)),
                tasks.create_task(self.operator.work(duration_s)),
            ]
            await asyncio.wait(working)
            for task in watching:
                task.cancel()

    async def _tell(self) -> None:
        begin_s = time.monotonic()
        while True:
            await asyncio.sleep(_TELL_INTERVAL_S)
            memory = ", ".join(
                f"{life.name} {life.points[-1][1]:.0f} MiB, {life.num_fds} descriptors"
                for life in self.watch.living()
            )
            print(
                f"{time.monotonic() - begin_s:.0f} s: {self.book.num_ended} of"
                f" {self.book.num_started} requests ended, {sum(self.operator.num_done.values())}"
                f" operations; {memory}",
                file=sys.stderr,
                flush=True,
            )

    def _rest(self) -> Stillness:
        """Wait until nothing is under way, with every model loaded, and look at what is open."""
        try:
            self.operator.load()
        except (OSError, RuntimeError) as error:
            # What else was seen in an hour is not thrown away for it.
            self.operator.faults.append(f"load: {error!r}")
        end_s = time.monotonic() + _IDLE_TIMEOUT_S
        while _num_open(self.one.process.port):
            if time.monotonic() > end_s:
                # Its counts will say how many.
                break
            time.sleep(_LOOK_INTERVAL_S)
        wait_until_idle([self.one])
        looks = []
        for _ in range(_NUM_LOOKS):
            time.sleep(_LOOK_INTERVAL_S)
            looks.append([*self.watch.look().values()])
        return Stillness.of(looks)


def _num_open(port: int) -> int:
    """Return how many requests wait or run; 1 where the server does not say."""
    try:
        models = models_of(port)
    except OSError:
        return 1
    return sum(one["num_running"] + one["num_waiting"] for one in models)


if __name__ == "__main__":
    sys.exit(main())
