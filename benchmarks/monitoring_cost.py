"""What monitoring costs, and that a collector of traces that is gone or silent costs no more.

usage: python -m benchmarks.monitoring_cost [--parts on_off collectors] [--pairs N]
           [--streams N ...] [--seconds S] [--rounds N] [--requests N]

on_off: this server with everything of monitoring on (metrics read every 5 s, every request traced
to a live collector, anomalies watched) against the same with everything off, in alternating pairs:
processor time of a request at most 1.02 times, throughput not shown to differ. The same with the
echo engine, which computes nothing, tells the microseconds alone.
collectors: tracing to a collector that is alive, gone or silent against no tracing: latency not
shown to be above, memory bounded by the queue, and how long the server takes to stop.
The benchmark ends with 0 when all bars are met.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from benchmarks import monitoring_collectors, monitoring_on_off
from benchmarks.contenders import counter_of, find_model
from benchmarks.monitored_servers import ECHO
from benchmarks.monitoring_collectors import measure_collectors, note_collectors
from benchmarks.monitoring_on_off import MODEL, measure_on_off, note_on_off
from benchmarks.results_file import report, write_table

if TYPE_CHECKING:
    from benchmarks.statistics import Verdict

NAME = "monitoring_cost"
ON_OFF, COLLECTORS = "on_off", "collectors"


def main() -> int:
    """Measure, print, write; return 0 when every bar is met."""
    options = _parse()
    model = find_model()
    count = counter_of(model)
    figures: dict[str, object] = {}
    faults: list[str] = []
    verdicts: dict[str, Verdict] = {}
    if ON_OFF in options.parts:
        on_off = measure_on_off(model, count, options)
        verdicts |= note_on_off(figures, on_off)
        faults += [fault for one in on_off.values() for fault in one.faults]
        rows = monitoring_on_off.rows_of(on_off)
        print(write_table(NAME, monitoring_on_off.HEAD, rows))
    if COLLECTORS in options.parts:
        collected = measure_collectors(model, count, options)
        verdicts |= note_collectors(figures, collected)
        faults += collected.faults
        rows = monitoring_collectors.rows_of(collected.latency)
        print(write_table(f"{NAME}_collectors", monitoring_collectors.HEAD, rows))
        rows = monitoring_collectors.memory_rows_of(collected.memory)
        print(write_table(f"{NAME}_memory", monitoring_collectors.MEMORY_HEAD, rows))
    return report(NAME, figures, faults, verdicts)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = (ON_OFF, COLLECTORS)
    parser.add_argument("--parts", nargs="+", default=parts, choices=parts)
    on_off = parser.add_argument_group(ON_OFF)
    engines = (MODEL, ECHO)
    on_off.add_argument("--engines", nargs="+", default=engines, choices=engines)
    on_off.add_argument("--pairs", type=int, default=11)
    on_off.add_argument("--streams", type=int, nargs="+", default=[8, 32])
    on_off.add_argument("--seconds", type=float, default=8.0, help="that a run takes, about")
    on_off.add_argument("--echo-pairs", type=int, default=5)
    on_off.add_argument("--echo-seconds", type=float, default=2.0)
    collectors = parser.add_argument_group(COLLECTORS)
    collectors.add_argument("--rounds", type=int, default=7)
    collectors.add_argument("--collector-engine", choices=(MODEL, ECHO), default=MODEL)
    collectors.add_argument("--collector-streams", type=int, default=8)
    collectors.add_argument("--collector-seconds", type=float, default=4.0)
    collectors.add_argument("--first-requests", type=int, default=2000)
    collectors.add_argument("--requests", type=int, default=20000, help="first ones among them")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
