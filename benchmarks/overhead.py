"""What the whole path costs: over vLLM's own server, and as a gateway beside other gateways.

usage: python -m benchmarks.overhead [--parts engine gateways] [--pairs N] [--streams N ...]
           [--rounds N] [--clients N ...] [--only NAME ...]

engine: this server with vLLM as its engine against vLLM's own OpenAI server, the same vLLM with the
same settings behind both: processor time of a request, time to the first token, time between
tokens, each at most 1.05 times theirs.
gateways: this server, vllm-router, smg and LiteLLM's proxy before the same fake backend: how much
later than from the backend itself an answer comes, and the first piece of a stream. LiteLLM adds at
least 5 times as much, in the median and in the 99th percentile.
A bar is met when the whole 95% interval is on its good side, missed when it is on the other, else
not shown; the benchmark ends with 0 when all are met.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import overhead_engine, overhead_gateways
from benchmarks.gateway_contenders import NAMES
from benchmarks.overhead_engine import find_vllm, measure_engine, note_engine
from benchmarks.overhead_gateways import measure_gateways, note_gateways
from benchmarks.peer_contenders import peers_directory
from benchmarks.results_file import report, write_table

if TYPE_CHECKING:
    from benchmarks.statistics import Verdict

ENGINE, GATEWAYS = "engine", "gateways"


def main() -> int:
    """Measure, print, write; return 0 when every bar is met."""
    options = _parse()
    figures: dict[str, object] = {}
    faults: list[str] = []
    verdicts: dict[str, Verdict] = {}
    if ENGINE in options.parts:
        verdicts |= _run_engine(options, figures, faults)
    if GATEWAYS in options.parts:
        verdicts |= _run_gateways(options, figures, faults)
    return report("overhead", figures, faults, verdicts)


def _run_engine(
    options: argparse.Namespace, figures: dict[str, object], faults: list[str]
) -> dict[str, Verdict]:
    python = find_vllm(options.vllm_python)
    if python is None:
        print(f"vLLM is neither in .venv-vllm nor below {peers_directory()}: not compared")
        return {}
    measured = measure_engine(python, options)
    faults += [fault for one in measured.by_streams.values() for fault in one.faults]
    figures["num_pairs"] = options.pairs
    figures["engine_settings"] = measured.notes
    verdicts = note_engine(figures, measured)
    rows = overhead_engine.rows_of(measured)
    print(write_table("overhead", overhead_engine.HEAD, rows))
    return verdicts


def _run_gateways(
    options: argparse.Namespace, figures: dict[str, object], faults: list[str]
) -> dict[str, Verdict]:
    measured, notes = measure_gateways(options)
    faults += [fault for one in measured.values() for fault in one.faults]
    figures["num_rounds"] = options.rounds
    figures["gateway_settings"] = notes
    verdicts = note_gateways(figures, measured)
    rows = overhead_gateways.rows_of(figures, measured)
    print(write_table("overhead_gateways", overhead_gateways.head_of(), rows))
    ratios = overhead_gateways.ratio_rows_of(figures, verdicts)
    print(write_table("overhead_gateway_ratios", overhead_gateways.RATIO_HEAD, ratios))
    return verdicts


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = (ENGINE, GATEWAYS)
    parser.add_argument("--parts", nargs="+", default=parts, choices=parts)
    engine = parser.add_argument_group(ENGINE)
    engine.add_argument("--pairs", type=int, default=9)
    engine.add_argument("--streams", type=int, nargs="+", default=[1, 8, 32])
    engine.add_argument("--vllm-python", type=Path, help="an interpreter that has vLLM")
    gateways = parser.add_argument_group(GATEWAYS)
    gateways.add_argument("--rounds", type=int, default=7)
    gateways.add_argument("--clients", type=int, nargs="+", default=[1, 16])
    gateways.add_argument("--requests", type=int, default=50, help="of a run, at least")
    gateways.add_argument("--requests-per-client", type=int, default=20)
    gateways.add_argument("--tokens", type=int, default=8, help="of an answer")
    gateways.add_argument("--interval-ms", type=float, default=20.0, help="between two of them")
    gateways.add_argument("--only", nargs="*", default=NAMES, choices=NAMES)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
