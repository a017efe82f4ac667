"""Asks a server questions with known answers, several at once, and reads the answers."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from benchmarks.confidence.answers import is_right
from benchmarks.contenders import our_server
from benchmarks.server_calls import call
from mm_orch.config import load_config

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.confidence.questions import Question
    from benchmarks.contenders import Contender

A = TypeVar("A")
T = TypeVar("T")

BUILT_IN = "smollm2-135m"
MAX_TOKENS = 24
_NUM_AT_ONCE = 16
_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Told:
    """One answer of a model.

    Attributes:
        text: what it said.
        logprobs: natural logarithm of the probability of each of its tokens.
        num_tokens: that were generated.
    """

    text: str
    logprobs: tuple[float, ...]
    num_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """An answer, judged.

    Attributes:
        is_right: the answer is.
        confidence: that is told with it; 0 where none is.
        raw_confidence: the same without calibration.
        num_tokens: generated for it, by all models together.
        remarks: of a workflow's steps, by their names.
        is_partial: something failed on the way.
    """

    is_right: bool
    confidence: float
    num_tokens: int
    raw_confidence: float = 0.0
    remarks: Mapping[str, str] = field(default_factory=dict)
    is_partial: bool = False


def word(question: Question) -> str:
    """Return the question as a model is asked it."""
    return f"{question.question}\nGive only the answer."


def built_in_source() -> str:
    """Return where the built-in model is from."""
    config = load_config(path=None, environ={}, overrides={}).config
    return config.models[config.default_model_name].source


def serve(
    name: str,
    cascade: Mapping[str, object],
    other_models: Mapping[str, Mapping[str, object]] | None = None,
) -> Contender:
    """Return a server of the built-in model on whatever engine it prefers here."""
    return our_server(
        name,
        model=BUILT_IN,
        model_settings={"source": built_in_source()},
        optimization={},
        precision="as by default",
        note=f"cascade: {dict(cascade)}",
        other_models=other_models,
        workflows={"cascade": dict(cascade)},
    )


def ask_all(work: Callable[[A], T], things: Sequence[A]) -> list[T]:
    """Return what the work makes of each thing, several of them at once, in their order."""
    with ThreadPoolExecutor(_NUM_AT_ONCE) as pool:
        return list(pool.map(work, things))


def ask_model(
    port: int,
    question: Question,
    *,
    model: str = BUILT_IN,
    temperature: float = 0.0,
    seed: int = 0,
) -> Told:
    """Return a model's answer with its log probabilities.

    Raises:
        RuntimeError: the server refused.
    """
    body = {
        "model": model,
        "messages": [{"role": "user", "content": word(question)}],
        "max_tokens": MAX_TOKENS,
        "temperature": temperature,
        "seed": seed,
        "logprobs": True,
    }
    answer = _post(port, "/v1/chat/completions", body)
    choice = answer["choices"][0]
    told = (choice["logprobs"] or {}).get("content") or ()
    return Told(
        text=choice["message"]["content"] or "",
        logprobs=tuple(float(one["logprob"]) for one in told),
        num_tokens=answer["usage"]["completion_tokens"],
    )


def ask_workflow(port: int, question: Question, workflow: str, *, seed: int) -> Result:
    """Return what a workflow answers, judged.

    Raises:
        RuntimeError: the server refused.
    """
    preferences = {"max_tokens": MAX_TOKENS, "temperature": 0, "seed": seed}
    body = {"query": word(question), "workflow_type": workflow, "preferences": preferences}
    answer = _post(port, "/api/query", body)
    metadata = answer["metadata"]
    return Result(
        is_right=is_right(question, answer["result"]),
        confidence=metadata["confidence"] or 0.0,
        num_tokens=metadata["usage"]["completion_tokens"],
        remarks={one["step"]: one["message"] for one in metadata["remarks"]},
        is_partial=answer["status"] != "success",
    )


def _post(port: int, path: str, body: object) -> Any:
    reply = call(
        port,
        "POST",
        path,
        body=body,
        headers={"Content-Type": "application/json"},
        timeout_s=_TIMEOUT_S,
    )
    if reply.status != HTTPStatus.OK:
        message = f"{path} was answered with {reply.status}: {json.dumps(reply.json)[:300]}"
        raise RuntimeError(message)
    return reply.json
