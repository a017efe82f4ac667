"""Ways to run a worker on Ray: an actor, an actor in a placement group, a Serve deployment.

usage: python -m benchmarks.cluster_placement [--pairs N] [--requests N]

How long each takes from being asked for until it answers its first call, in alternating order; and
how long an HTTP request takes through Serve's proxy against the same application on uvicorn alone,
in alternating batches. Nothing is loaded in any of them. It has no bar: it is to say which way is
the cheapest. It needs an interpreter that has Ray; without ray[serve] that part is left out.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.results_file import write_results, write_table
from benchmarks.server_calls import call
from benchmarks.statistics import bootstrap, paired_ratio, show_ratio
from mm_orch.benchmarking.server_process import ServerProcess, free_port
from tests.processes import ROOT
from tests.ray_nodes import run_nodes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

NAME = "cluster_placement"
ACTOR, GROUP, SERVE, UVICORN = "actor", "actor in a placement group", "Serve", "uvicorn"
_MS = 1e3
_NUM_CPUS = 2
# Requests of a batch, between which the order turns.
_NUM_IN_ROW = 20
_READY_TIMEOUT_S = 60.0
_HEAD = ("what", "median ms", "over the first: ms", "ratio")


class Answering:
    """As little as an actor can do."""

    def answer(self) -> int:
        """Return this process's number."""
        return os.getpid()


class Application:
    """Answers every request alike (ASGI)."""

    async def __call__(self, scope: Mapping[str, Any], _receive: object, send: Any) -> None:
        """Answer one."""
        if scope["type"] != "http":
            return
        headers = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})


# An instance: of a function Serve thinks that it makes an application.
application = Application()


def main() -> int:
    """Measure, print, write."""
    options = _parse()
    with run_nodes({"PYTHONPATH": str(ROOT)}) as nodes:
        nodes.add(_NUM_CPUS)
        os.environ.update(nodes.environment)
        import ray

        ray.init(address=nodes.address, log_to_driver=False, logging_level=logging.ERROR)
        starts: dict[str, Callable[[Any], float]] = {ACTOR: _start_actor, GROUP: _start_in_group}
        has_serve = _has_serve()
        if has_serve:
            starts[SERVE] = _start_deployment
        times_s = _take_turns(options.pairs, {k: (lambda f=f: f(ray)) for k, f in starts.items()})
        measured = {"until the first answer": times_s}
        if has_serve:
            measured["a request over HTTP"] = _compare_requests(options.requests)
        ray.shutdown()
    figures: dict[str, object] = {"num_pairs": options.pairs, "num_requests": options.requests}
    rows = [row for what, times in measured.items() for row in _rows(figures, what, times)]
    print(write_table(NAME, _HEAD, rows))
    print(f"written: {write_results(NAME, figures).name}")
    return 0


def _has_serve() -> bool:
    try:
        from ray import serve  # noqa: F401 - it is there without what it needs
    except ImportError:
        return False
    return True


def _rows(
    figures: dict[str, object], what: str, times_s: Mapping[str, Sequence[float]]
) -> Iterator[Sequence[object]]:
    first, *_ = times_s
    for name, values in times_s.items():
        added = [(b - a) * _MS for a, b in zip(times_s[first], values, strict=True)]
        more = bootstrap(
            len(added), lambda rounds, of=added: statistics.median(of[n] for n in rounds)
        )
        median_ms, ratio = statistics.median(values) * _MS, paired_ratio(values, times_s[first])
        figures[f"{what}, {name}"] = {
            "median_ms": round(median_ms, 3),
            "added_ms": more.rounded,
            "ratio": ratio.rounded,
        }
        compared = () if name == first else (show_ratio(more.rounded), show_ratio(ratio.rounded))
        yield (f"{what}, {name}", f"{median_ms:.2f}", *(compared or ("", "")))


def _take_turns(num_rounds: int, ways: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    times_s: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for number in range(num_rounds):
        for name in list(ways) if number % 2 == 0 else reversed(list(ways)):
            times_s[name].append(ways[name]())
    return times_s


def _start_actor(ray: Any) -> float:
    begin_s = time.perf_counter()
    actor = ray.remote(Answering).options(num_cpus=1, scheduling_strategy="SPREAD").remote()
    ray.get(actor.answer.remote())
    took_s = time.perf_counter() - begin_s
    ray.kill(actor)
    return took_s


def _start_in_group(ray: Any) -> float:
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    begin_s = time.perf_counter()
    group = placement_group([{"CPU": 1}], strategy="SPREAD")
    strategy = PlacementGroupSchedulingStrategy(placement_group=group)
    actor = ray.remote(Answering).options(num_cpus=1, scheduling_strategy=strategy).remote()
    ray.get(actor.answer.remote())
    took_s = time.perf_counter() - begin_s
    ray.kill(actor)
    remove_placement_group(group)
    return took_s


def _start_deployment(_ray: Any) -> float:
    from ray import serve

    serve.start(proxy_location="Disabled")
    begin_s = time.perf_counter()
    deployment = serve.deployment(Answering).options(ray_actor_options={"num_cpus": 1})
    handle = serve.run(deployment.bind(), name="started", route_prefix=None)
    handle.answer.remote().result()
    took_s = time.perf_counter() - begin_s
    serve.delete("started")
    return took_s


def _compare_requests(num_requests: int) -> dict[str, list[float]]:
    from ray import serve

    serve.shutdown()
    with _uvicorn() as port, _behind_serve() as serve_port:
        return _take_turns(
            num_requests // _NUM_IN_ROW,
            {UVICORN: lambda: _ask(port), SERVE: lambda: _ask(serve_port)},
        )


def _ask(port: int) -> float:
    """Return the median time of a few requests, one after another."""
    times_s = []
    for _ in range(_NUM_IN_ROW):
        begin_s = time.perf_counter()
        call(port, "GET", "/")
        times_s.append(time.perf_counter() - begin_s)
    return statistics.median(times_s)


@contextmanager
def _behind_serve() -> Iterator[int]:
    from ray import serve

    port = free_port()
    # The nodes are on one machine, where one proxy alone can have the port.
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})

    @serve.deployment
    @serve.ingress(application)
    class Behind:
        """The application, behind Serve's proxy."""

    serve.run(Behind.bind())
    yield port
    serve.shutdown()


@contextmanager
def _uvicorn() -> Iterator[int]:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", f"{__spec__.name}:application", "--log-level=error"]
    with tempfile.TemporaryDirectory() as folder:
        process = ServerProcess(
            [*command, f"--port={port}"],
            port=port,
            ready_path="/",
            log=Path(folder) / "log.txt",
            directory=ROOT,
        )
        with process:
            process.wait_until_ready(_READY_TIMEOUT_S)
            yield port


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--requests", type=int, default=600, help="of each way, over HTTP")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
