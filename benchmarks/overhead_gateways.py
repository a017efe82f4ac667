"""The latency that a gateway adds: this server and others before the same fake backend, in turn."""

from __future__ import annotations

import asyncio
import http.client
import json
import statistics
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.contenders import run_all
from benchmarks.gateway_contenders import (
    DIRECT,
    LITELLM,
    OURS,
    fake_backend,
    find_gateways,
    our_gateway,
)
from benchmarks.gateway_load import ask_chats, body_of
from benchmarks.servers.fake_openai import PIECE
from benchmarks.statistics import Verdict, bootstrap, judge_at_least, percentile, show_ratio

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from benchmarks.contenders import Running
    from benchmarks.gateway_load import ChatTimes
    from benchmarks.statistics import Ratio

BAR_LITELLM = 5.0
RATIO_HEAD = ("added latency, ratio", "95% interval", f"at least {BAR_LITELLM:g}")
_SHARES = {"p50": 0.5, "p99": 0.99}
_KINDS = {"whole": False, "ttft": True}
_NUM_WARM_UP = 48
_TIMEOUT_S = 60.0
# Differences of times that are given in milliseconds by timers: less cannot be told from nothing.
_LEAST_ADDED_S = 0.00005


@dataclass(slots=True)
class GatewayRuns:
    """All runs at one number of clients, in order of their rounds.

    Attributes:
        runs: by contender, and whether answers were streamed.
    """

    runs: defaultdict[tuple[str, bool], list[ChatTimes]] = field(
        default_factory=lambda: defaultdict(list)
    )

    @property
    def num_rounds(self) -> int:
        """Rounds that were run."""
        return len(self.runs[DIRECT, False])

    @property
    def faults(self) -> list[str]:
        """Why runs must not be compared."""
        return [
            f"{name}: {run.faults[0]} ({len(run.faults)} of these)"
            for (name, _), runs in self.runs.items()
            for run in runs
            if run.faults
        ]

    def added_s(
        self, name: str, kind: str, share: float, rounds: Sequence[int] | None = None
    ) -> float:
        """Return how much later than asked directly this share of the answers was there.

        Args:
            name: the gateway.
            kind: ``whole`` for answers in one piece, ``ttft`` for the first piece of a stream.
            share: such as 0.5 for the median.
            rounds: which; None for all.
        """
        numbers = range(self.num_rounds) if rounds is None else rounds
        through, direct = (
            percentile(
                [time_s for number in numbers for time_s in _times_of(runs[number], kind)], share
            )
            for runs in (self.runs[name, _KINDS[kind]], self.runs[DIRECT, _KINDS[kind]])
        )
        return max(through - direct, _LEAST_ADDED_S)

    def ratio(self, over: str, under: str, kind: str, share: float) -> Ratio:
        """Return how many times the latency that ``under`` adds ``over`` adds."""

        def figure(rounds: Sequence[int]) -> float:
            return self.added_s(over, kind, share, rounds) / self.added_s(
                under, kind, share, rounds
            )

        return bootstrap(self.num_rounds, figure)

    def cpu_ms(self, name: str, kind: str) -> float:
        """Return the processor time of a request in the median round."""
        runs = self.runs[name, _KINDS[kind]]
        return statistics.median(run.cpu_s * 1000 / max(1, len(run.totals_s)) for run in runs)

    def busy_cores(self, name: str) -> float:
        """Return the most cores that it kept busy in a run."""
        return max(
            run.cpu_s / run.wall_s for kind in _KINDS.values() for run in self.runs[name, kind]
        )


def measure_gateways(
    options: argparse.Namespace,
) -> tuple[dict[int, GatewayRuns], dict[str, str]]:
    """Start all that are installed and let them take turns.

    Returns:
        The runs by number of clients, and a note on each contender.
    """
    with run_all([fake_backend(options.interval_ms)]) as (direct,):
        url = direct.target.url
        with run_all([our_gateway(url), *find_gateways(url, options.only)]) as gateways:
            everybody = [direct, *gateways]
            for one in everybody:
                _check_whole(one, options.tokens)
                for is_stream in _KINDS.values():
                    _run(one, max(options.clients), _NUM_WARM_UP, options.tokens, is_stream)
            by_clients = {
                num_clients: _measure_rounds(everybody, num_clients, options)
                for num_clients in options.clients
            }
            return by_clients, {one.contender.name: one.contender.note for one in everybody}


def note_gateways(
    figures: dict[str, object], by_clients: Mapping[int, GatewayRuns]
) -> dict[str, Verdict]:
    """Put what was measured into the results; return the verdicts on the bars."""
    verdicts: dict[str, Verdict] = {}
    for num_clients, measured in by_clients.items():
        for name in _names_in(measured):
            for kind in _KINDS:
                head = f"{name}_{num_clients}_{kind}"
                for label, share in _SHARES.items():
                    added_s = measured.added_s(name, kind, share)
                    figures[f"{head}_added_{label}_ms"] = round(added_s * 1000, 3)
                figures[f"{head}_cpu_ms"] = round(measured.cpu_ms(name, kind), 3)
            figures[f"{name}_{num_clients}_busy_cores"] = round(measured.busy_cores(name), 2)
        for name in _names_in(measured):
            if name != OURS:
                verdicts |= _note_ratios(figures, measured, name, num_clients)
    return verdicts


def rows_of(
    figures: Mapping[str, object], by_clients: Mapping[int, GatewayRuns]
) -> list[Sequence[object]]:
    """Return a row for each gateway and number of clients, as head_of names them."""
    rows: list[Sequence[object]] = []
    for num_clients, measured in by_clients.items():
        for name in _names_in(measured):
            head = f"{name}_{num_clients}"
            added = [f"{head}_{kind}_added_{label}_ms" for kind in _KINDS for label in _SHARES]
            cpu = [f"{head}_{kind}_cpu_ms" for kind in _KINDS]
            keys = [*added, *cpu, f"{head}_busy_cores"]
            rows.append((name, num_clients, *(f"{figures[key]:g}" for key in keys)))
    return rows


def head_of() -> list[str]:
    """Return the names of the columns."""
    added = [f"{kind} added {label} ms" for kind in _KINDS for label in _SHARES]
    return ["gateway", "clients", *added, "whole cpu ms", "ttft cpu ms", "most busy cores"]


def ratio_rows_of(
    figures: Mapping[str, object], verdicts: Mapping[str, Verdict]
) -> list[Sequence[object]]:
    """Return a row for each ratio, as RATIO_HEAD names them."""
    return [
        (key, show_ratio(value), verdicts[key].value if key in verdicts else "")
        for key, value in figures.items()
        if isinstance(value, list) and "_over_" in key
    ]


def _note_ratios(
    figures: dict[str, object], measured: GatewayRuns, name: str, num_clients: int
) -> dict[str, Verdict]:
    verdicts = {}
    for kind in _KINDS:
        for label, share in _SHARES.items():
            end = f"{num_clients}_{kind}_{label}"
            if name == LITELLM:
                ratio = measured.ratio(LITELLM, OURS, kind, share)
                verdicts[f"litellm_over_ours_{end}"] = judge_at_least(ratio, BAR_LITELLM)
                figures[f"litellm_over_ours_{end}"] = ratio.rounded
            else:
                ratio = measured.ratio(OURS, name, kind, share)
                figures[f"ours_over_{name}_{end}"] = ratio.rounded
    return verdicts


def _names_in(measured: GatewayRuns) -> list[str]:
    return list(dict.fromkeys(name for name, _ in measured.runs if name != DIRECT))


def _times_of(run: ChatTimes, kind: str) -> list[float]:
    return run.ttfts_s if _KINDS[kind] else run.totals_s


def _measure_rounds(
    everybody: Sequence[Running], num_clients: int, options: argparse.Namespace
) -> GatewayRuns:
    measured = GatewayRuns()
    num_requests = max(options.requests, num_clients * options.requests_per_client)
    for number in range(options.rounds):
        order = list(everybody) if number % 2 == 0 else list(reversed(everybody))
        for is_stream in _KINDS.values():
            for one in order:
                run = _run(one, num_clients, num_requests, options.tokens, is_stream)
                measured.runs[one.contender.name, is_stream].append(run)
        _tell(number, num_clients, measured)
    return measured


def _run(
    one: Running,
    num_clients: int,
    num_requests: int,
    num_tokens: int,
    is_stream: bool,  # noqa: FBT001 - one of four sizes of a run
) -> ChatTimes:
    before_s = one.process.cpu_s
    times = asyncio.run(
        ask_chats(
            one.target,
            num_clients=num_clients,
            num_requests=num_requests,
            num_tokens=num_tokens,
            is_stream=is_stream,
        )
    )
    times.cpu_s = one.process.cpu_s - before_s
    if len(times.faults) == num_requests:
        message = f"{one.contender.name} fails: {times.faults[0]}"
        raise RuntimeError(message)
    return times


def _check_whole(one: Running, num_tokens: int) -> None:
    """See that an answer in one piece comes through with its text and usage."""
    connection = http.client.HTTPConnection(one.target.host, one.target.port, timeout=_TIMEOUT_S)
    body = body_of(one.target.model, num_tokens=num_tokens, is_stream=False)
    path, headers = "/v1/chat/completions", {"Content-Type": "application/json"}
    connection.request("POST", path, json.dumps(body), headers)
    answer = connection.getresponse().read()
    connection.close()
    try:
        content = json.loads(answer)
        text = content["choices"][0]["message"]["content"]
        num_told = content["usage"]["completion_tokens"]
    except (KeyError, ValueError):
        text, num_told = "", 0
    if (text, num_told) != (PIECE * num_tokens, num_tokens):
        message = f"{one.contender.name} answers otherwise: {answer[:500]!r}"
        raise RuntimeError(message)


def _tell(number: int, num_clients: int, measured: GatewayRuns) -> None:
    for name in _names_in(measured):
        added = [
            f"{kind} {label} {measured.added_s(name, kind, share, [number]) * 1000:.2f} ms"
            for kind in _KINDS
            for label, share in _SHARES.items()
        ]
        print(
            f"round {number + 1}: {num_clients} clients, {name} adds {', '.join(added)}",
            file=sys.stderr,
            flush=True,
        )
