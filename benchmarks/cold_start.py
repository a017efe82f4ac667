"""Time from the shell to the first word: our command line against a bare transformers script.

usage: python -m benchmarks.cold_start [--pairs N]

Both load the same safetensors; runs alternate, so that the machine's moods hit both.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.results_file import write_results
from benchmarks.statistics import paired_ratio
from mm_orch.config import load_config
from mm_orch.models.store import ModelStore

_QUESTION = "What is machine learning?"
_ROOT = Path(__file__).parents[1]
_BAR = 1.5


def main() -> int:
    """Measure, print, write; return 0 when the bar is met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=9)
    num_pairs = parser.parse_args().pairs
    config = load_config(path=None, environ=os.environ, overrides={}).config
    model = config.models[config.default_model_name]
    stored = ModelStore(config.system.data_directory).ensure(
        config.default_model_name, model.source
    )
    ours_command = ["-m", "mm_orch.main", "--max-tokens", "16", _QUESTION]
    bare_command = [str(_ROOT / "benchmarks/bare_transformers.py"), stored.directory, _QUESTION]
    ours: list[float] = []
    bare: list[float] = []
    for number in range(num_pairs):
        ours.append(first_output_s(ours_command))
        bare.append(first_output_s(bare_command))
        print(f"pair {number + 1}: ours {ours[-1]:.2f} s, bare {bare[-1]:.2f} s", flush=True)
    ratio = paired_ratio(ours, bare)
    print(f"median: ours {statistics.median(ours):.2f} s, bare {statistics.median(bare):.2f} s")
    print(f"ratio ours / bare: {ratio}; bar: below {_BAR}")
    path = write_results(
        "cold_start",
        {
            "ours_median_s": round(statistics.median(ours), 3),
            "bare_median_s": round(statistics.median(bare), 3),
            "ratio_median": round(ratio.median, 3),
            "ratio_low": round(ratio.low, 3),
            "ratio_high": round(ratio.high, 3),
            "num_pairs": num_pairs,
            "bar": _BAR,
        },
    )
    print(f"written: {path.relative_to(_ROOT)}")
    return 0 if ratio.high < _BAR else 1


def first_output_s(arguments: list[str]) -> float:
    """Start Python with these arguments and return the seconds to the first visible output."""
    begin = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=_ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    if process.stdout is None:
        message = "the process has no standard output"
        raise RuntimeError(message)
    with process.stdout as output:
        # What is there at once: reading on would wait for so many bytes, or the end.
        while not (piece := os.read(output.fileno(), 1024)).strip():
            if not piece:
                message = f"{arguments} ended with {process.wait()} and without output"
                raise RuntimeError(message)
        elapsed = time.monotonic() - begin
        output.read()
    process.wait()
    return elapsed


if __name__ == "__main__":
    sys.exit(main())
