"""What Ray Serve's own proxy costs: one application bare on uvicorn and as a Serve deployment.

usage: python -m benchmarks.serve_front [--pairs N] [--clients N ...] [--requests N] [--tokens N]

Both are up at once and asked in turn for streams of which every piece is there at once, so all that
differs is the way through Serve: its proxy, and a call between processes for each piece. It is why
workers on Ray send their tokens straight to the server here (docs/cluster.md); there is no bar.
benchmarks/peers/install-ray-serve makes the environment that it needs.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.contenders import Contender, run_all
from benchmarks.gateway_load import ask_chats
from benchmarks.peer_contenders import peers_directory
from benchmarks.results_file import report, write_table
from benchmarks.rounds import wait_until_idle
from benchmarks.servers.asgi_answers import BARE, MODEL, READY_PATH, SERVE
from benchmarks.statistics import bootstrap, paired_ratio, show_ratio

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.contenders import Running
    from benchmarks.gateway_load import ChatTimes
    from benchmarks.statistics import Ratio

NAME = "serve_front"
_HEAD = (
    *("clients", "TTFT p50 ms, bare", "Serve", "added ms"),
    *("requests/s, bare", "Serve", "bare over Serve"),
    *("cpu ms a request, bare", "Serve", "Serve over bare"),
)
_MS = 1e3
_WARM_UP_REQUESTS = 48


@dataclass(slots=True)
class Pairs:
    """All runs at one number of clients, by contender, in order of their rounds."""

    runs: dict[str, list[ChatTimes]] = field(default_factory=dict)

    def ttft_ms(self, name: str) -> list[float]:
        """Return the median time to the first piece, run by run."""
        return [statistics.median(run.ttfts_s) * _MS for run in self.runs[name]]

    def rate_per_s(self, name: str) -> list[float]:
        """Return answered requests a second, run by run."""
        return [len(run.totals_s) / run.wall_s for run in self.runs[name]]

    def cpu_ms(self, name: str) -> list[float]:
        """Return the processor time of a request, of all of a contender's processes, run by run."""
        return [run.cpu_s * _MS / len(run.totals_s) for run in self.runs[name]]

    @property
    def added_ttft_ms(self) -> Ratio:
        """How much later the first piece comes through Serve, in the median pair."""
        pairs = zip(self.ttft_ms(BARE), self.ttft_ms(SERVE), strict=True)
        added = [serve - bare for bare, serve in pairs]
        return bootstrap(len(added), lambda rounds: statistics.median(added[one] for one in rounds))

    @property
    def rate_ratio(self) -> Ratio:
        """How many times the requests a second of Serve are answered without it."""
        return paired_ratio(self.rate_per_s(BARE), self.rate_per_s(SERVE))

    @property
    def cpu_ratio(self) -> Ratio:
        """How many times the processor time of a bare request one through Serve takes."""
        return paired_ratio(self.cpu_ms(SERVE), self.cpu_ms(BARE))


def main() -> int:
    """Measure, print, write; return 0 when every answer was whole."""
    options = _parse()
    python = peers_directory() / "ray-serve" / "bin" / "python"
    if not python.exists():
        print(f"There is no {python}: run benchmarks/peers/install-ray-serve.", file=sys.stderr)
        return 2
    with run_all([_contender(name, python) for name in (BARE, SERVE)]) as running:
        for one in running:
            _ask(one, max(options.clients), _WARM_UP_REQUESTS, options.tokens)
        by_clients = {
            num_clients: _measure(running, num_clients, options) for num_clients in options.clients
        }
    figures: dict[str, object] = {"num_pairs": options.pairs, "pieces_of_an_answer": options.tokens}
    faults: list[str] = []
    for num_clients, pairs in by_clients.items():
        figures |= _figures_of(num_clients, pairs)
        faults += [fault for runs in pairs.runs.values() for run in runs for fault in run.faults]
    print(write_table(NAME, _HEAD, [_row_of(*one) for one in by_clients.items()]))
    return report(NAME, figures, faults, {})


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=11)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--requests", type=int, default=200, help="of a run")
    parser.add_argument("--tokens", type=int, default=32, help="pieces of an answer")
    return parser.parse_args()


def _contender(name: str, python: Path) -> Contender:
    def command(port: int, folder: Path) -> Sequence[str]:  # noqa: ARG001 - needs no files
        return [str(python), "-m", "benchmarks.servers.asgi_answers", name, str(port)]

    return Contender(
        name=name,
        precision="",
        command=command,
        model=MODEL,
        ready_path=READY_PATH,
        environment={"RAY_USAGE_STATS_ENABLED": "0"},
    )


def _measure(running: Sequence[Running], num_clients: int, options: argparse.Namespace) -> Pairs:
    pairs = Pairs()
    for number in range(options.pairs):
        for one in running if number % 2 == 0 else reversed(running):
            wait_until_idle(running)
            run = _ask(one, num_clients, options.requests, options.tokens)
            pairs.runs.setdefault(one.contender.name, []).append(run)
        print(
            f"pair {number + 1}, {num_clients} clients: Serve adds"
            f" {pairs.ttft_ms(SERVE)[-1] - pairs.ttft_ms(BARE)[-1]:.2f} ms;"
            f" requests/s {pairs.rate_per_s(BARE)[-1]:.0f} and {pairs.rate_per_s(SERVE)[-1]:.0f}",
            file=sys.stderr,
            flush=True,
        )
    return pairs


def _ask(one: Running, num_clients: int, num_requests: int, num_tokens: int) -> ChatTimes:
    before_s = one.process.cpu_s
    times = asyncio.run(
        ask_chats(
            one.target,
            num_clients=num_clients,
            num_requests=num_requests,
            num_tokens=num_tokens,
            is_stream=True,
        )
    )
    times.cpu_s = one.process.cpu_s - before_s
    if not times.ttfts_s:
        message = f"{one.contender.name} fails: {times.faults[0]}"
        raise RuntimeError(message)
    return times


def _figures_of(num_clients: int, pairs: Pairs) -> dict[str, object]:
    figures: dict[str, object] = {}
    for name in (BARE, SERVE):
        head = f"{name}_{num_clients}"
        figures[f"{head}_ttft_p50_ms"] = round(statistics.median(pairs.ttft_ms(name)), 2)
        figures[f"{head}_requests_per_s"] = round(statistics.median(pairs.rate_per_s(name)), 1)
        figures[f"{head}_cpu_ms"] = round(statistics.median(pairs.cpu_ms(name)), 2)
    return figures | {
        f"added_{num_clients}_ttft_ms": pairs.added_ttft_ms.rounded,
        f"bare_over_serve_{num_clients}_requests_per_s": pairs.rate_ratio.rounded,
        f"serve_over_bare_{num_clients}_cpu": pairs.cpu_ratio.rounded,
    }


def _row_of(num_clients: int, pairs: Pairs) -> Sequence[object]:
    figures = _figures_of(num_clients, pairs)

    def both(figure: str) -> tuple[object, object]:
        return figures[f"{BARE}_{num_clients}_{figure}"], figures[f"{SERVE}_{num_clients}_{figure}"]

    return (
        *(num_clients, *both("ttft_p50_ms"), show_ratio(pairs.added_ttft_ms.rounded)),
        *(*both("requests_per_s"), show_ratio(pairs.rate_ratio.rounded)),
        *(*both("cpu_ms"), show_ratio(pairs.cpu_ratio.rounded)),
    )


if __name__ == "__main__":
    sys.exit(main())
