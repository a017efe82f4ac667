"""Learns from feedback how much likelier each workflow is than the router believes.

One number for each workflow is added to the logarithm of the belief in it. They are those that
explain best what was liked and disliked, where an answer of the right workflow is liked as often as
answers are on the whole, and one of a wrong workflow less often: so a workflow loses where its
answers are liked less than others', and only as far as the router was not sure of it. A quadratic
penalty keeps few opinions from moving much.

What was fitted is taken where it surely explains feedback that it was not fitted to, and where it
is not shown that the router chooses right less often on the development queries with it. Of what is
shown to do that a half is tried, and a quarter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mm_orch.routing.route import WORKFLOWS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from mm_orch.routing.development import Development
    from mm_orch.storage.outcomes import Outcome

MIN_FEEDBACK = 20
"""Fewer opinions than these teach nothing."""
MAX_BIAS = 1.0
"""No belief's odds are changed by more than a factor of e, or of its reciprocal."""
# Set by hand: an answer of a wrong workflow is liked so often as one of the right one.
_WRONG_LIKED_RATIO = 0.25
_LEAST_LIKED, _MOST_LIKED = 0.1, 0.95
_PENALTY = 2.0
_LEAST_WEIGHT = 0.01
_NUM_STEPS = 200
_LEAST_STEP = 1e-6
_NUM_FOLDS = 4
# The normal distribution's 95th percentile.
_SURE = 1.645
_SCALES = (1.0, 0.5, 0.25)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinions:
    """Runs whose workflow was chosen, and which were liked or disliked; the oldest first.

    Attributes:
        beliefs: runs x workflows; 0 where a workflow could not be chosen.
        chosen: places in WORKFLOWS.
        is_liked: whether it was.
        weights: the size of each opinion, less by its age.
    """

    beliefs: NDArray[np.float64]
    chosen: NDArray[np.int64]
    is_liked: NDArray[np.bool_]
    weights: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.chosen)

    def take(self, is_taken: NDArray[np.bool_]) -> Opinions:
        """Return some of them."""
        return Opinions(
            beliefs=self.beliefs[is_taken],
            chosen=self.chosen[is_taken],
            is_liked=self.is_liked[is_taken],
            weights=self.weights[is_taken],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What has come of learning.

    Attributes:
        biases: by place in WORKFLOWS; all 0 where nothing is taken.
        num_right_before: development queries that are routed right without them.
        num_right: and with them.
        reason: why they are taken, or not, as a sentence.
    """

    biases: NDArray[np.float64]
    num_right_before: int
    num_right: int
    reason: str


def gather_opinions(outcomes: Iterable[Outcome], *, now_s: float, half_life_s: float) -> Opinions:
    """Return what can be learned from.

    Args:
        outcomes: in any order.
        now_s: seconds since 1970.
        half_life_s: an opinion this old weighs half; one that hardly weighs anything is left out.
    """

    def weigh(one: Outcome) -> float:
        age_s = max(0.0, now_s - one.at_s)
        return abs(one.feedback or 0.0) * math.pow(0.5, age_s / half_life_s)

    told = sorted(
        (one for one in outcomes if _is_telling(one) and weigh(one) >= _LEAST_WEIGHT),
        key=lambda one: one.at_s,
    )
    beliefs = [[one.belief_by_workflow.get(name, 0.0) for name in WORKFLOWS] for one in told]
    names: list[str] = list(WORKFLOWS)
    return Opinions(
        beliefs=np.array(beliefs).reshape(-1, len(WORKFLOWS)),
        chosen=np.array([names.index(one.workflow) for one in told], dtype=np.int64),
        is_liked=np.array([(one.feedback or 0.0) > 0.0 for one in told], dtype=bool),
        weights=np.array([weigh(one) for one in told]),
    )


def learn(opinions: Opinions, development: Development) -> Learned:
    """Return what opinions teach; at least MIN_FEEDBACK of them."""
    nothing = np.zeros(len(WORKFLOWS))
    num_before = int(development.find_right(nothing).sum())

    def refuse(reason: str) -> Learned:
        return Learned(
            biases=nothing, num_right_before=num_before, num_right=num_before, reason=reason
        )

    if not _generalises(opinions):
        return refuse("It does not surely explain feedback that it was not learned from.")
    whole = fit_biases(opinions)
    for scale in _SCALES:
        biases = np.round(scale * whole, 3)
        if not development.is_worse(biases):
            return Learned(
                biases=biases,
                num_right_before=num_before,
                num_right=int(development.find_right(biases).sum()),
                reason=f"{scale:g} of it is not shown to harm the development queries.",
            )
    return refuse("It would surely route fewer of the development queries right.")


def fit_biases(opinions: Opinions) -> NDArray[np.float64]:
    """Return the biases of least loss, by place in WORKFLOWS; deterministic.

    By gradient descent from 0, its steps halved until the loss falls.
    """
    biases, step = np.zeros(len(WORKFLOWS)), 1.0
    loss, gradient = _weigh(opinions, biases)
    for _ in range(_NUM_STEPS):
        ahead = np.clip(biases - step * gradient, -MAX_BIAS, MAX_BIAS)
        new_loss, new_gradient = _weigh(opinions, ahead)
        if new_loss < loss:
            biases, loss, gradient, step = ahead, new_loss, new_gradient, 1.5 * step
        elif step > _LEAST_STEP:
            step /= 2
        else:
            break
    return biases


def _is_telling(outcome: Outcome) -> bool:
    # A share of 0.00 is one that the router was all but sure against.
    beliefs = outcome.belief_by_workflow
    is_choice = len(beliefs) > 1 and beliefs.get(outcome.workflow, 0.0) > 0.0
    return outcome.workflow in WORKFLOWS and is_choice and bool(outcome.feedback)


def _generalises(opinions: Opinions) -> bool:
    """Say whether biases surely explain opinions that they were not fitted to better than none do.

    By the gain of each opinion: their mean is above 0 by more than chance would have it (5%).
    """
    folds = np.arange(len(opinions)) % _NUM_FOLDS
    gains = np.zeros(len(opinions))
    for fold in range(_NUM_FOLDS):
        fitted = fit_biases(opinions.take(folds != fold))
        outside = opinions.take(folds == fold)
        without, _ = _explain(outside, np.zeros(len(WORKFLOWS)))
        gains[folds == fold] = without - _explain(outside, fitted)[0]
    return bool(gains.mean() > _SURE * gains.std() / np.sqrt(len(gains)))


def _weigh(opinions: Opinions, biases: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Return the loss of biases, the penalty included, and its gradient."""
    losses, gradient = _explain(opinions, biases)
    penalty = 0.5 * _PENALTY * float(biases @ biases)
    return float(losses.sum()) + penalty, gradient + _PENALTY * biases


def _explain(
    opinions: Opinions, biases: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how badly biases explain each opinion (minus the log-likelihood), and the gradient.

    The gradient is of the sum, by place in WORKFLOWS.
    """
    liked = opinions.weights[opinions.is_liked].sum()
    right = float(np.clip(liked / opinions.weights.sum(), _LEAST_LIKED, _MOST_LIKED))
    wrong = _WRONG_LIKED_RATIO * right
    raised = opinions.beliefs * np.exp(biases)
    shares = raised / raised.sum(axis=1, keepdims=True)
    rows = np.arange(len(opinions))
    own = shares[rows, opinions.chosen]
    likely = wrong + (right - wrong) * own
    chance = np.where(opinions.is_liked, likely, 1.0 - likely)
    slope = np.where(opinions.is_liked, 1.0, -1.0) * (right - wrong) / chance
    turned = -own[:, None] * shares
    turned[rows, opinions.chosen] += own
    gradient: NDArray[np.float64] = -(opinions.weights * slope) @ turned
    return -opinions.weights * np.log(chance), gradient
