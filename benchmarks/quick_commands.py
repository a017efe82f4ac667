"""Processor time of the calls that a person repeats: --help and --check-config.

usage: python -m benchmarks.quick_commands [--runs N]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.results_file import write_results

_ROOT = Path(__file__).parents[1]
_BAR_S = 0.5


def main() -> int:
    """Measure, print, write; return 0 when the bar is met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    num_runs = parser.parse_args().runs
    figures: dict[str, object] = {"num_runs": num_runs, "bar_s": _BAR_S}
    slowest_s = 0.0
    for call in ("--help", "--check-config"):
        times_s = [processor_s(["-m", "mm_orch.main", call]) for _ in range(num_runs)]
        figures[f"{call[2:].replace('-', '_')}_median_s"] = round(statistics.median(times_s), 3)
        figures[f"{call[2:].replace('-', '_')}_max_s"] = round(max(times_s), 3)
        slowest_s = max(slowest_s, *times_s)
        print(f"{call}: median {statistics.median(times_s):.3f} s, most {max(times_s):.3f} s")
    path = write_results("quick_commands", figures)
    print(f"written: {path.relative_to(_ROOT)}")
    return 0 if slowest_s < _BAR_S else 1


def processor_s(arguments: list[str]) -> float:
    """Run Python with these arguments and return its user and system seconds."""
    before = os.times()
    subprocess.run([sys.executable, *arguments], cwd=_ROOT, stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    return (after.children_user - before.children_user) + (
        after.children_system - before.children_system
    )


if __name__ == "__main__":
    sys.exit(main())
