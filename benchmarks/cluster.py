"""What workers on a Ray cluster cost: the same questions to them and to a worker beside the server.

usage: python -m benchmarks.cluster [--engines model echo] [--pairs N] [--streams N ...]
           [--seconds S] [--tokens N]

Both servers are up at once and asked in turn, one with its worker beside it, the other with its
worker on the second of two real Ray nodes of this machine. Added median time to the first token at
one stream: at most 5 ms. Processor time of an output token, of all processes: at most 1.1 times,
both with and without what Ray's own daemons took meanwhile. A bar is met when the whole 95%
interval is on its good side; the benchmark ends with 0 when all are met. The echo engine, which
computes nothing, tells what the way alone costs. It needs an interpreter that has Ray:
.venv-cluster/bin/python -m benchmarks.cluster.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks import cluster_runs
from benchmarks.cluster_runs import ECHO, MODEL, measure, note
from benchmarks.contenders import counter_of, find_model
from benchmarks.results_file import report, write_table

NAME = "cluster"


def main() -> int:
    """Measure, print, write; return 0 when every bar is met."""
    options = _parse()
    model = find_model()
    measured = measure(model, counter_of(model), options)
    figures: dict[str, object] = {"tokens_of_an_answer": options.tokens}
    verdicts = note(figures, measured)
    print(write_table(NAME, cluster_runs.HEAD, cluster_runs.rows_of(measured)))
    faults = [fault for one in measured for fault in one.faults]
    return report(NAME, figures, faults, verdicts)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    engines = (MODEL, ECHO)
    parser.add_argument("--engines", nargs="+", default=engines, choices=engines)
    parser.add_argument("--pairs", type=int, default=11)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--seconds", type=float, default=8.0, help="that a run takes, about")
    parser.add_argument("--echo-seconds", type=float, default=2.0)
    parser.add_argument("--tokens", type=int, default=32, help="of an answer")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
