"""Which of the models answers a request for ``auto``: a decision without I/O.

A model fits where it has the task's form, room for the request, and can answer now. Of those that
fit the operator's goals decide (``consciousness.goals``), over what each is expected to give:

    quality   1 up to its capability, and falling beyond it with the request's difficulty;
              times the trust that past outcomes left it
    latency   loading, the queue before it, and the answer at its measured speed
    cost      tokens times parameters

Capability is relative to the models at hand: the smallest can do what asks for nothing special, the
largest everything that is asked of any.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.consciousness.goals import Candidate, rank, score
from mm_orch.core.routing import ModelChoice, RankedModel, RuledOut
from mm_orch.routing.outcomes import trust

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mm_orch.consciousness.goals import Goals
    from mm_orch.core.mind_report import OutcomeStatistics
    from mm_orch.core.routing import ModelChosenBy
    from mm_orch.routing.request_features import RequestFeatures

SMALLEST_CAPABILITY = 0.35
# Models within this factor in size are about as able as each other.
_SIZE_RATIO_OF_ALL = 4.0
# So much quality is lost for each tenth that a request is too hard by: 0.15.
_QUALITY_SLOPE = 1.5
_LEAST_QUALITY = 0.05
# Before it was measured: as if one core read 10 GB of 4-byte weights a second.
_PARAMETERS_A_SECOND = 2.5e9
_MIN_TOKENS_PER_S, _MAX_TOKENS_PER_S = 1.0, 100.0
# A tokeniser may make a few more tokens than a third of the bytes.
_ROOM_TOKENS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What is known of a model that generates, now.

    Attributes:
        num_parameters: None where that is not known; it counts as the largest then.
        context_length: most tokens of prompt and answer; None where that is not known.
        takes_chats: it has a chat template, as far as is known.
        obstacle: why it cannot answer now, in words; empty where it can.
        load_s: seconds until it can answer; 0 when it is loaded.
        tokens_per_s: of one answer, as measured lately; None before.
        num_waiting: requests that go before.
        max_batch_size: answers at once.
        failure_ratio: of its last requests, 0 to 1.
    """

    name: str
    num_parameters: float | None = None
    context_length: int | None = None
    takes_chats: bool = True
    obstacle: str = ""
    load_s: float = 0.0
    tokens_per_s: float | None = None
    num_waiting: int = 0
    max_batch_size: int = 1
    failure_ratio: float = 0.0


def choose_model(
    features: RequestFeatures,
    models: Sequence[ModelFacts],
    *,
    default: str,
    goals: Goals,
    past_by_model: Mapping[str, OutcomeStatistics] | None = None,
) -> ModelChoice:
    """Return the model for a request.

    Args:
        features: of the request.
        models: all that generate, in the order in which they are configured.
        default: answers where none fits: it is the one to say what is wrong.
        goals: what the operator wants.
        past_by_model: how they did; None or nothing of one changes nothing.
    """
    reason_by_name = {one.name: _find_obstacle(one, features, default) for one in models}
    fitting = [one for one in models if not reason_by_name[one.name]]
    ruled_out = tuple(
        RuledOut(name=name, reason=reason) for name, reason in reason_by_name.items() if reason
    )
    if not fitting:
        reason = "No model fits the request as it is now; the default one says why."
        return ModelChoice(model=default, by="default", reason=reason, ruled_out=ruled_out)
    past = past_by_model or {}
    capability_by_name = find_capabilities(models)
    static, weighed = (
        rank(
            [_expect(one, features, capability_by_name[one.name], known) for one in fitting], goals
        )
        for known in ({}, past)
    )
    best = weighed[0]
    by: ModelChosenBy = "scores" if best.name == static[0].name else "outcomes"
    if len(fitting) == 1:
        by = "only"
    return ModelChoice(
        model=best.name,
        by=by,
        reason=_explain(by, features, best.name, weighed, capability_by_name),
        alternatives=tuple(_describe(one, goals) for one in weighed),
        ruled_out=ruled_out,
    )


def find_capabilities(models: Sequence[ModelFacts]) -> dict[str, float]:
    """Return how hard a request may be for each model, 0 to 1, by their sizes."""
    known = [one.num_parameters for one in models if one.num_parameters]
    least, most = (min(known), max(known)) if known else (1.0, 1.0)
    spread = math.log(max(most / least, _SIZE_RATIO_OF_ALL))
    return {
        one.name: SMALLEST_CAPABILITY
        + (1.0 - SMALLEST_CAPABILITY) * math.log((one.num_parameters or most) / least) / spread
        for one in models
    }


def _find_obstacle(model: ModelFacts, features: RequestFeatures, default: str) -> str:
    """Return why a model does not fit a request; empty where it does."""
    if features.is_tokens and model.name != default:
        return "the prompt is token ids, which are the default model's"
    if features.is_chat and not model.takes_chats:
        return "it has no chat template"
    needed = features.num_prompt_tokens + features.num_answer_tokens + _ROOM_TOKENS
    if model.context_length is not None and needed > model.context_length:
        return f"about {needed} tokens do not fit into its context of {model.context_length}"
    return model.obstacle


def _expect(
    model: ModelFacts,
    features: RequestFeatures,
    capability: float,
    past_by_model: Mapping[str, OutcomeStatistics],
) -> Candidate:
    lack = max(0.0, features.difficulty - capability)
    quality = max(_LEAST_QUALITY, 1.0 - _QUALITY_SLOPE * lack)
    quality *= (1.0 - model.failure_ratio) * trust(past_by_model.get(model.name))
    tokens_per_s = model.tokens_per_s or _guess_tokens_per_s(model)
    answer_s = features.num_answer_tokens / tokens_per_s
    num_before = model.num_waiting / max(1, model.max_batch_size)
    billions = (model.num_parameters or 1e9) / 1e9
    return Candidate(
        name=model.name,
        expected_quality=quality,
        expected_latency_s=model.load_s + answer_s * (1.0 + num_before),
        expected_cost=features.num_tokens * billions,
    )


def _guess_tokens_per_s(model: ModelFacts) -> float:
    guess = _PARAMETERS_A_SECOND / (model.num_parameters or 1e9)
    return min(_MAX_TOKENS_PER_S, max(_MIN_TOKENS_PER_S, guess))


def _describe(candidate: Candidate, goals: Goals) -> RankedModel:
    return RankedModel(
        model=candidate.name,
        score=score(candidate, goals),
        expected_quality=candidate.expected_quality,
        expected_latency_s=candidate.expected_latency_s,
        expected_cost=candidate.expected_cost,
    )


def _explain(
    by: ModelChosenBy,
    features: RequestFeatures,
    chosen: str,
    ranked: Sequence[Candidate],
    capability_by_name: Mapping[str, float],
) -> str:
    if by == "only":
        return f"{chosen} is the only model that can answer it now."
    asks = f"It asks for {_join(features.told)}" if features.told else "It asks for nothing special"
    if by == "outcomes":
        return f"{asks}; past answers speak for {chosen}."
    least = min((one.name for one in ranked), key=lambda name: capability_by_name[name])
    is_able = capability_by_name[chosen] >= features.difficulty
    if chosen == least:
        return (
            f"{asks}, for which {chosen} is able enough."
            if is_able
            else (
                f"{asks}; of what the others would gain, {chosen} is quicker and cheaper by more."
            )
        )
    if capability_by_name[least] >= features.difficulty:
        return f"{asks}; {chosen} is expected to answer sooner or better than {least}."
    return f"{asks}, which needs more than {least}."


def _join(words: Sequence[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
