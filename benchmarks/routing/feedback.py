"""What learning from feedback changes about the share of right choices, on the development queries.

usage: python -m benchmarks.routing.feedback [--draws N]

There is no feedback of real callers to measure with. So it is drawn: of half of the queries of
train.jsonl as many are asked as opinions are wanted, in the proportions of a traffic; the router
chooses by what it believes without having seen them, and an answer of the right workflow is liked
with 0.8, of a wrong one with 0.3. What was learned of that is measured on the other half, weighed
by the same traffic. The check against all development queries has seen that half, but can only
refuse.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.results_file import report, write_table
from benchmarks.statistics import show_ratio
from mm_orch.routing.development import load_development
from mm_orch.routing.feedback_fit import Opinions, learn
from mm_orch.routing.route import WORKFLOWS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mm_orch.routing.development import Development

_NUMS_OPINIONS = (40, 200)
_LIKED_RIGHT, _LIKED_WRONG = 0.8, 0.3
_FREQUENT, _ASKED = 0.7, 0.5
_TRAFFICS = ("all alike", *WORKFLOWS)


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=100)
    num_draws = parser.parse_args().draws
    development = load_development()
    rows = [
        [traffic, number, *_measure(development, traffic, number, num_draws)]
        for traffic in _TRAFFICS
        for number in _NUMS_OPINIONS
    ]
    head = [
        "frequent",
        "opinions",
        "taken",
        "right before",
        "right after",
        "after less before (5% to 95% of draws)",
    ]
    print(write_table("routing_feedback", head, rows))
    figures: dict[str, object] = {
        "num_draws": num_draws,
        "num_development": len(development.labels),
        "rows": [dict(zip(head, row, strict=True)) for row in rows],
    }
    report("routing_feedback", figures, [], {})
    return 0


def _measure(
    development: Development, traffic: str, num_opinions: int, num_draws: int
) -> list[object]:
    """Return how often something is taken, the shares of right choices, and their difference."""
    num_taken, before, after = 0, [], []
    for seed in range(num_draws):
        dice = np.random.default_rng(seed)
        is_asked = dice.random(len(development.labels)) < _ASKED
        weights = _weigh(development.labels, traffic)
        opinions = _draw(development, weights * is_asked, num_opinions, dice)
        biases = learn(opinions, development).biases
        before.append(_share_right(development, weights * ~is_asked, np.zeros(len(WORKFLOWS))))
        after.append(_share_right(development, weights * ~is_asked, biases))
        num_taken += bool(biases.any())
    changes = np.subtract(after, before)
    low, high = np.quantile(changes, [0.05, 0.95])
    return [
        round(num_taken / num_draws, 2),
        round(float(np.mean(before)), 3),
        round(float(np.mean(after)), 3),
        show_ratio([round(float(one), 4) for one in (changes.mean(), low, high)]),
    ]


def _weigh(labels: NDArray[np.int64], traffic: str) -> NDArray[np.float64]:
    """Return how often each query is asked in a traffic, relative to the others."""
    rare = (1 - _FREQUENT) / (len(WORKFLOWS) - 1)
    shares = np.array(
        [
            1.0 if traffic not in WORKFLOWS else _FREQUENT if one == traffic else rare
            for one in WORKFLOWS
        ]
    )
    weights: NDArray[np.float64] = (shares / np.bincount(labels, minlength=len(WORKFLOWS)))[labels]
    return weights


def _draw(
    development: Development,
    weights: NDArray[np.float64],
    number: int,
    dice: np.random.Generator,
) -> Opinions:
    places = dice.choice(len(weights), size=number, p=weights / weights.sum())
    beliefs = development.beliefs[places].astype(np.float64).round(2)
    chosen = beliefs.argmax(axis=1)
    rates = np.where(chosen == development.labels[places], _LIKED_RIGHT, _LIKED_WRONG)
    return Opinions(
        beliefs=beliefs,
        chosen=chosen,
        is_liked=dice.random(number) < rates,
        weights=np.ones(number),
    )


def _share_right(
    development: Development, weights: NDArray[np.float64], biases: NDArray[np.float64]
) -> float:
    return float(weights @ development.find_right(biases) / weights.sum())


if __name__ == "__main__":
    sys.exit(main())
