"""How often rules and the learned router choose right, and how long a choice takes.

usage: python -m benchmarks.routing.measure

Reads held_out.jsonl, which nobody who writes or tunes a router may look at, so it prints figures
alone and no query. Cross-validated figures of the development part are those of `train`: they come
from fits without the queries they are taken on; the words of the tables of signals were chosen with
that part in sight, so they flatter.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from typing import TYPE_CHECKING

from benchmarks.results_file import report, write_table
from benchmarks.routing.labelled import load_part
from benchmarks.routing.scoring import (
    confusion,
    per_class,
    rate_by_language,
    rate_right,
)
from benchmarks.routing.train import TRAINING_RESULTS_PATH, context_of
from benchmarks.statistics import Verdict, percentile
from benchmarks.unique_lines import normalised
from mm_orch.routing.loading import load_workflow_router
from mm_orch.routing.route import WORKFLOWS
from mm_orch.routing.workflow_router import WorkflowRouter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.routing.labelled import LabelledQuery
    from benchmarks.routing.scoring import Choice

_MIN_RULES_ACCURACY = 0.85
_MIN_LEARNED_ACCURACY = 0.93
_MAX_MEDIAN_MS = 5.0
_NUM_TIMED_ROUNDS = 5


def main() -> int:
    """Measure, print, write; return 1 when a bar is missed."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    router = load_workflow_router()
    by_rules = WorkflowRouter(None, router.rules)
    all_held_out = load_part("held_out")
    held_out = leave_out_learned(all_held_out, [*load_part("train"), *load_part("more_train")])
    faults = [] if router.learned and router.rules else ["weights could not be loaded"]
    choices = {"rules": _choose(by_rules, held_out), "learned": _choose(router, held_out)}
    durations_ms = _time(router, held_out)
    figures: dict[str, object] = {
        "num_queries": len(held_out),
        "num_left_out": len(all_held_out) - len(held_out),
        "bar_rules_accuracy": _MIN_RULES_ACCURACY,
        "bar_learned_accuracy": _MIN_LEARNED_ACCURACY,
        "bar_median_ms": _MAX_MEDIAN_MS,
        **{f"{name}_accuracy_rate": rate_right(made).rounded for name, made in choices.items()},
        **{f"{name}_by_language": rate_by_language(made) for name, made in choices.items()},
        **{f"{name}_by_class": per_class(made) for name, made in choices.items()},
        **{f"{name}_confusion": confusion(made) for name, made in choices.items()},
        **_cross_validated(),
        "median_ms": round(statistics.median(durations_ms), 3),
        "p95_ms": round(percentile(durations_ms, 0.95), 3),
    }
    _write_tables(choices)
    return report("routing", figures, faults, _judge(choices, statistics.median(durations_ms)))


def leave_out_learned(
    queries: Sequence[LabelledQuery], learned: Sequence[LabelledQuery]
) -> list[LabelledQuery]:
    """Return those that nothing was learned from.

    Who wrote more queries to learn from could not see the held-out ones, so some may be equal.
    """
    texts = {normalised(one.query) for one in learned}
    return [one for one in queries if normalised(one.query) not in texts]


def _choose(router: WorkflowRouter, queries: Sequence[LabelledQuery]) -> list[Choice]:
    return [
        (one.language, one.label, router.choose(one.query, context_of(one)).workflow)
        for one in queries
    ]


def _time(router: WorkflowRouter, queries: Sequence[LabelledQuery]) -> list[float]:
    durations_ms = []
    for _ in range(_NUM_TIMED_ROUNDS):
        for one in queries:
            context = context_of(one)
            begin_s = time.perf_counter()
            router.choose(one.query, context)
            durations_ms.append((time.perf_counter() - begin_s) * 1000)
    return durations_ms


def _cross_validated() -> dict[str, object]:
    """Return the shares that fits without them got right, as `train` left them."""
    figures = json.loads(TRAINING_RESULTS_PATH.read_bytes())
    return {key: value for key, value in figures.items() if key.startswith("train_")}


def _judge(choices: dict[str, list[Choice]], median_ms: float) -> dict[str, Verdict]:
    """A share's bar is for the share itself; its interval stands beside it."""
    met = {
        "rules_accuracy": rate_right(choices["rules"]).share >= _MIN_RULES_ACCURACY,
        "learned_accuracy": rate_right(choices["learned"]).share >= _MIN_LEARNED_ACCURACY,
        "median_ms": median_ms < _MAX_MEDIAN_MS,
    }
    return {bar: Verdict.MET if is_met else Verdict.MISSED for bar, is_met in met.items()}


def _write_tables(choices: dict[str, list[Choice]]) -> None:
    rows = [[name, *row.values()] for name, made in choices.items() for row in per_class(made)]
    head = ["router", "class", "queries", "precision", "recall", "recall, 95%", "F1"]
    print(write_table("routing_classes", head, rows))
    rows = [
        [name, label, *numbers.values()]
        for name, made in choices.items()
        for label, numbers in confusion(made).items()
    ]
    print(write_table("routing_confusion", ["router", "label", *WORKFLOWS], rows))


if __name__ == "__main__":
    sys.exit(main())
