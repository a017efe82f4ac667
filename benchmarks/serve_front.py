"""What Ray Serve's own proxy costs: one application bare on uvicorn and as a Serve deployment.

usage: python -m benchmarks.serve_front [--pairs N] [--clients N ...] [--requests N] [--tokens N]

Both are up at once and asked in turn for streams that cost next to nothing to make, so that all
that differs is the way through Serve: from its proxy to a replica and back, by calls between
processes. Pieces that are there at once go back together; pieces that come apart, as tokens do,
take a call each. It is why workers on Ray send their tokens straight to the server here
(docs/cluster.md); there is no bar. benchmarks/peers/install-ray-serve makes the environment that
it needs.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import secrets
import statistics
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.contenders import Contender, run_all
from benchmarks.gateway_load import ask_chats
from benchmarks.peer_contenders import peers_directory
from benchmarks.results_file import report, write_table
from benchmarks.servers.asgi_answers import APART, APART_MS, AT_ONCE, READY_PATH
from benchmarks.servers.asgi_host import BARE, SERVE
from benchmarks.statistics import bootstrap, paired_ratio, show_ratio

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from benchmarks.contenders import Running
    from benchmarks.gateway_load import ChatTimes
    from benchmarks.statistics import Ratio

NAME = "serve_front"
_LABELS = {AT_ONCE: "at once", APART: f"{APART_MS} ms apart"}
_HEAD = (
    *("pieces come", "clients", "TTFT p50 ms, bare", "Serve", "added ms"),
    *("requests/s, bare", "Serve", "bare over Serve"),
    *("cpu ms a request, bare", "Serve", "Serve over bare"),
)
_MS = 1e3
# Runs whose pieces come apart take long enough with fewer requests.
_APART_SHARE = 4
_NUM_WARM_UP = 48
_SETTLE_S = 1.0
_IDLE_S = 10.0
# The system tells processor times in steps of this: less cannot be told from nothing.
_LEAST_CPU_S = 0.01


@dataclass(slots=True)
class Load:
    """All pairs with one kind of streams and one number of clients.

    Attributes:
        kind: AT_ONCE or APART.
        idle_shares: what each contender takes of a core while nobody asks it.
        runs: by contender, in order of their rounds.
    """

    kind: str
    num_clients: int
    idle_shares: Mapping[str, float]
    runs: dict[str, list[ChatTimes]] = field(default_factory=dict)

    @property
    def head(self) -> str:
        """How its figures' names begin."""
        return f"{self.kind}_{self.num_clients}"

    def ttft_ms(self, name: str) -> list[float]:
        """Return the median time to the first piece, run by run."""
        return [statistics.median(run.ttfts_s) * _MS for run in self.runs[name]]

    def rate_per_s(self, name: str) -> list[float]:
        """Return answered requests a second, run by run."""
        return [len(run.totals_s) / run.wall_s for run in self.runs[name]]

    def cpu_ms(self, name: str) -> list[float]:
        """Return what a request adds to the processor time of all processes, run by run."""
        return [
            max(run.cpu_s - self.idle_shares[name] * run.wall_s, _LEAST_CPU_S)
            * (_MS / len(run.totals_s))
            for run in self.runs[name]
        ]

    @property
    def added_ttft_ms(self) -> Ratio:
        """How much later the first piece comes through Serve, in the median pair."""
        pairs = zip(self.ttft_ms(BARE), self.ttft_ms(SERVE), strict=True)
        added = [serve - bare for bare, serve in pairs]
        return bootstrap(len(added), lambda rounds: statistics.median(added[one] for one in rounds))

    def figures(self) -> dict[str, object]:
        """Return the medians of both, and how they compare pair by pair."""
        figures: dict[str, object] = {}
        for name in (BARE, SERVE):
            head = f"{self.head}_{name}"
            figures[f"{head}_ttft_p50_ms"] = round(statistics.median(self.ttft_ms(name)), 2)
            figures[f"{head}_requests_per_s"] = round(statistics.median(self.rate_per_s(name)), 1)
            figures[f"{head}_cpu_ms"] = round(statistics.median(self.cpu_ms(name)), 2)
        rate_ratio = paired_ratio(self.rate_per_s(BARE), self.rate_per_s(SERVE))
        return figures | {
            f"{self.head}_added_ttft_ms": self.added_ttft_ms.rounded,
            f"{self.head}_bare_over_serve_rate": rate_ratio.rounded,
            f"{self.head}_serve_over_bare_cpu": paired_ratio(
                self.cpu_ms(SERVE), self.cpu_ms(BARE)
            ).rounded,
        }

    def row(self) -> Sequence[object]:
        """Return the figures as _HEAD names them."""
        figures = self.figures()
        shown = (
            *("bare_ttft_p50_ms", "serve_ttft_p50_ms", "added_ttft_ms"),
            *("bare_requests_per_s", "serve_requests_per_s", "bare_over_serve_rate"),
            *("bare_cpu_ms", "serve_cpu_ms", "serve_over_bare_cpu"),
        )
        values = [figures[f"{self.head}_{name}"] for name in shown]
        cells = [show_ratio(value) if isinstance(value, list) else value for value in values]
        return (_LABELS[self.kind], self.num_clients, *cells)


def main() -> int:
    """Measure, print, write; return 0 when every answer was whole."""
    options = _parse()
    python = peers_directory() / "ray-serve" / "bin" / "python"
    if not python.exists():
        print(f"There is no {python}: run benchmarks/peers/install-ray-serve.", file=sys.stderr)
        return 2
    begin_s = time.monotonic()
    with run_all([_contender(name, python) for name in (BARE, SERVE)]) as running:
        for one in running:
            _ask(one, AT_ONCE, max(options.clients), _NUM_WARM_UP, options.tokens)
        idle_shares = _idle_shares(running)
        loads = [
            Load(kind, clients, idle_shares) for kind in _LABELS for clients in options.clients
        ]
        for load in loads:
            _measure(running, load, options)
    figures: dict[str, object] = {
        "minutes": round((time.monotonic() - begin_s) / 60, 1),
        "num_pairs": options.pairs,
        "num_requests_of_a_run": {AT_ONCE: options.requests, APART: _num_requests(APART, options)},
        "num_pieces_of_an_answer": options.tokens,
        "ms_between_pieces_apart": APART_MS,
        **{f"{name}_idle_share_of_a_core": round(idle_shares[name], 3) for name in idle_shares},
    }
    for load in loads:
        figures |= load.figures()
    print(write_table(NAME, _HEAD, [load.row() for load in loads]))
    faults = [
        f for load in loads for runs in load.runs.values() for run in runs for f in run.faults
    ]
    report(NAME, figures, faults, {})
    return 1 if faults else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=11)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8])
    parser.add_argument(
        "--requests", type=int, default=400, help=f"of a run; 1/{_APART_SHARE} of it of apart ones"
    )
    parser.add_argument("--tokens", type=int, default=32, help="pieces of an answer")
    return parser.parse_args()


def _contender(name: str, python: Path) -> Contender:
    def command(port: int, folder: Path) -> Sequence[str]:
        directory = [str(folder)] if name == SERVE else []
        return [str(python), "-m", "benchmarks.servers.asgi_host", name, str(port), *directory]

    return Contender(
        name=name,
        precision="",
        command=command,
        model=AT_ONCE,
        ready_path=READY_PATH,
        environment={
            "RAY_USAGE_STATS_ENABLED": "0",
            # By default what Ray runs stays behind others, the load generator here.
            "RAY_worker_niceness": "0",
            # Else Ray leaves one in the user's home.
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
        },
    )


def _idle_shares(running: Sequence[Running]) -> dict[str, float]:
    time.sleep(_SETTLE_S)
    before_s = {one.contender.name: one.process.cpu_s for one in running}
    time.sleep(_IDLE_S)
    return {
        one.contender.name: (one.process.cpu_s - before_s[one.contender.name]) / _IDLE_S
        for one in running
    }


def _measure(running: Sequence[Running], load: Load, options: argparse.Namespace) -> None:
    num_requests = _num_requests(load.kind, options)
    for number in range(options.pairs):
        for one in running if number % 2 == 0 else reversed(running):
            time.sleep(_SETTLE_S)
            run = _ask(one, load.kind, load.num_clients, num_requests, options.tokens)
            load.runs.setdefault(one.contender.name, []).append(run)
        print(
            f"pair {number + 1}, {_LABELS[load.kind]}, {load.num_clients} clients: Serve adds"
            f" {load.ttft_ms(SERVE)[-1] - load.ttft_ms(BARE)[-1]:.2f} ms;"
            f" requests/s {load.rate_per_s(BARE)[-1]:.0f} and {load.rate_per_s(SERVE)[-1]:.0f}",
            file=sys.stderr,
            flush=True,
        )


def _num_requests(kind: str, options: argparse.Namespace) -> int:
    num: int = options.requests
    return max(1, num // _APART_SHARE) if kind == APART else num


def _ask(
    one: Running, kind: str, num_clients: int, num_requests: int, num_tokens: int
) -> ChatTimes:
    before_s = one.process.cpu_s
    times = asyncio.run(
        ask_chats(
            dataclasses.replace(one.target, model=kind),
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


if __name__ == "__main__":
    sys.exit(main())
