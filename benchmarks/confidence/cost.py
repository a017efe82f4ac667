"""What telling confidence costs: processor time a token of chat_generate, with it over without.

usage: python -m benchmarks.confidence.cost [--rounds N]

Two servers for each engine live side by side, one with workflows.confidence.enabled and one
without. Each round both answer the same requests, eight at once, in turn.
"""

from __future__ import annotations

import argparse
import sys
from http import HTTPStatus
from typing import TYPE_CHECKING

from benchmarks.confidence.asking import ask_all, built_in_source
from benchmarks.contenders import our_server, run_all
from benchmarks.results_file import report
from benchmarks.server_calls import call
from benchmarks.statistics import Verdict, paired_ratio

if TYPE_CHECKING:
    from benchmarks.contenders import Contender, Running

_ENGINES = ("openvino", "pytorch")
_NUM_REQUESTS = 16
_NUM_TOKENS = 96
_TIMEOUT_S = 300.0
# More would not be worth a figure that nobody asked for.
_MAX_RATIO = 1.03


def main() -> int:
    """Measure, print, write; return 0 when the bar is met."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    num_rounds = parser.parse_args().rounds
    figures: dict[str, object] = {"num_rounds": num_rounds, "bar_ratio": _MAX_RATIO}
    verdicts = {}
    for engine in _ENGINES:
        with run_all([_serve(engine, is_told=True), _serve(engine, is_told=False)]) as servers:
            for server in servers:
                _cpu_ms_of_a_token(server)
            rounds = [[_cpu_ms_of_a_token(one) for one in servers] for _ in range(num_rounds)]
        told, untold = zip(*rounds, strict=True)
        ratio = paired_ratio(told, untold)
        figures[f"{engine}_ratio"] = ratio.rounded
        verdicts[engine] = Verdict.MET if ratio.median <= _MAX_RATIO else Verdict.MISSED
        print(f"{engine}: {ratio}", flush=True)
    return report("confidence_cost", figures, [], verdicts)


def _serve(engine: str, *, is_told: bool) -> Contender:
    return our_server(
        f"{engine}_{'told' if is_told else 'untold'}",
        model="smollm2-135m",
        model_settings={"source": built_in_source()},
        optimization={"engine_preference": [engine]},
        precision="as by default",
        note=f"confidence {is_told}",
        workflows={"confidence": {"enabled": is_told}},
    )


def _cpu_ms_of_a_token(server: Running) -> float:
    before_s = server.process.cpu_s
    num_tokens = sum(
        ask_all(lambda number: _answer(server.process.port, number), range(_NUM_REQUESTS))
    )
    return 1000 * (server.process.cpu_s - before_s) / num_tokens


def _answer(port: int, number: int) -> int:
    """Ask for a long answer; return how many tokens it has."""
    body = {
        "query": f"Tell me a long story about {number} horses, with all details.",
        "workflow_type": "chat_generate",
        "preferences": {"max_tokens": _NUM_TOKENS, "temperature": 0},
    }
    reply = call(port, "POST", "/api/query", body=body, timeout_s=_TIMEOUT_S)
    if reply.status != HTTPStatus.OK:
        message = f"the question was answered with {reply.status}"
        raise RuntimeError(message)
    tokens: int = reply.json["metadata"]["usage"]["completion_tokens"]
    return tokens


if __name__ == "__main__":
    sys.exit(main())
