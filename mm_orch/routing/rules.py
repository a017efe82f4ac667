"""Rules: weighed signals, the workflow with the greatest sum, and the words to say why."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mm_orch.routing.route import WORKFLOWS, Workflow
from mm_orch.routing.tables import digest_tables, load_signals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mm_orch.routing.query import Query
    from mm_orch.routing.route import RouteContext
    from mm_orch.routing.signals import Signal

# What is said in so many words comes before other signs: the form of the answer before its source,
# the user's documents before the web, the web before what a model knows.
_OVERRULED: dict[str, tuple[Workflow, ...]] = {
    "lesson_pack: asks for teaching material": ("rag_qa",),
    "lesson_pack: wants to be taught or tested": ("rag_qa",),
    "rag_qa: speaks of the user's own files": (
        "self_ask_search_qa",
        "search_qa",
        "chat_generate",
    ),
    "search_qa: asks for the web or for sources": ("chat_generate",),
    "search_qa: wants links or sources": ("chat_generate",),
}
# Who puts the files aside has to name them first.
_FILES_ASIDE = "rag_qa: puts the files aside"
# A twentieth of the odds is left.
_OVERRULED_SCORE = -3.0
# The fifth thing of a kind adds nothing.
_MAX_FOUND = 4
_NUMBER = re.compile(r"\d+|[一二三四五六七八九十百千万]+(?!下|般|些|样|起|直|定|点|句)")
_COMMA = re.compile(r"[,;、:]")
RULES_PATH = Path(__file__).with_name("rule_weights.json")


WorkflowWeights = tuple[float, float, float, float, float]


class RuleWeights(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What each signal is worth, as a fit to the labelled queries found it.

    Attributes:
        tables_digest: of the tables of signals that were weighed.
        weights: by a signal's key, for each workflow in the order of WORKFLOWS, times the root of
            what it found.
        biases: by the name of a circumstance, likewise.
    """

    tables_digest: str
    weights: dict[str, WorkflowWeights]
    biases: dict[str, WorkflowWeights]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen of a query.

    Attributes:
        found: how many different things each signal of its language found in it, at most 4.
        circumstances: names of what is so beside all signals.
    """

    found: Mapping[Signal, int]
    circumstances: tuple[str, ...]

    @property
    def values(self) -> dict[str, float]:
        """What each signal and circumstance counts for, by its key; the rest count for nothing."""
        values = {signal.key: math.sqrt(number) for signal, number in self.found.items()}
        return {**values, **dict.fromkeys(self.circumstances, 1.0)}


@dataclass(frozen=True, slots=True)
class RuleVote:
    """What the rules say.

    Attributes:
        shares: of each workflow in the order of WORKFLOWS; they sum to 1.
        reasons_by_workflow: what speaks for each, the weightiest first.
    """

    shares: tuple[float, ...]
    reasons_by_workflow: Mapping[Workflow, tuple[str, ...]]


def gather_evidence(query: Query, context: RouteContext) -> Evidence:
    """Return what rules and learned weights go by."""
    found = {}
    for signal in load_signals("zh" if query.is_chinese else "en"):
        if signal.needs_documents and not context.has_documents:
            continue
        if signal.min_names <= query.num_names <= signal.max_names:
            texts = {match.group() for match in signal.pattern.finditer(query.text)}
            if texts:
                found[signal] = min(_MAX_FOUND, len(texts))
    return Evidence(found, tuple(_find_circumstances(query, context)))


def all_signals() -> tuple[Signal, ...]:
    """Return the signals of both languages."""
    return (*load_signals("en"), *load_signals("zh"))


def _find_circumstances(query: Query, context: RouteContext) -> list[str]:
    num_words = len(query.text) // 2 if query.is_chinese else query.text.count(" ") + 1
    language = "Chinese" if query.is_chinese else "English"
    names = ["always", language, f"about {2 ** num_words.bit_length()} words"]
    names.append(f"{min(2, query.num_names)} names")
    names.append(f"{min(3, len(_NUMBER.findall(query.text)))} numbers")
    names.append(f"{min(3, len(_COMMA.findall(query.text)))} commas")
    if query.text.endswith("?"):
        names.append("ends with a question mark")
    if context.has_session:
        names.append("session")
    if context.has_documents:
        names.append(f"documents, {language}")
        names.append(f"documents, {min(2, query.num_names)} names")
    return names


def weigh(evidence: Evidence, weights: RuleWeights) -> RuleVote:
    """Return what the evidence says by the rules."""
    total_by_workflow = dict.fromkeys(WORKFLOWS, 0.0)
    for name in evidence.circumstances:
        # A text of a length that no labelled query had is not weighed.
        for workflow, bias in zip(WORKFLOWS, weights.biases.get(name, ()), strict=False):
            total_by_workflow[workflow] += bias
    parts_by_workflow: dict[Workflow, list[tuple[float, str]]] = {one: [] for one in WORKFLOWS}
    for signal, number in evidence.found.items():
        for workflow, weight in zip(WORKFLOWS, weights.weights[signal.key], strict=True):
            part = weight * math.sqrt(number)
            total_by_workflow[workflow] += part
            if part > 0:
                parts_by_workflow[workflow].append((part, signal.reason))
    for workflow in _find_overruled(evidence):
        total_by_workflow[workflow] += _OVERRULED_SCORE
    reasons_by_workflow = {
        workflow: tuple(reason for _, reason in sorted(parts, key=lambda pair: -pair[0]))
        for workflow, parts in parts_by_workflow.items()
    }
    return RuleVote(to_shares(list(total_by_workflow.values())), reasons_by_workflow)


def _find_overruled(evidence: Evidence) -> set[Workflow]:
    names = {f"{signal.workflow}: {signal.reason}" for signal in evidence.found}
    overruled = {
        workflow
        for name, workflows in _OVERRULED.items()
        for workflow in workflows
        if name in names and not (_FILES_ASIDE in names and name.startswith("rag_qa"))
    }
    return overruled | {"rag_qa"} if _FILES_ASIDE in names else overruled


def to_shares(scores: Sequence[float]) -> tuple[float, ...]:
    """Return the softmax of finite scores."""
    highest = max(scores)
    powers = [math.exp(score - highest) for score in scores]
    total = sum(powers)
    return tuple(power / total for power in powers)


def load_rule_weights(path: Path = RULES_PATH) -> RuleWeights:
    """Return the weights of a file.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds no weights, those of other tables, or not one for each signal.
    """
    try:
        weights = msgspec.json.decode(path.read_bytes(), type=RuleWeights)
    except (UnicodeDecodeError, msgspec.DecodeError) as error:
        raise ValueError(f"{path.name} is damaged: {error}") from error
    if weights.tables_digest != digest_tables():
        raise ValueError(f"{path.name} was fitted to other tables of signals; fit it again.")
    missing = {signal.key for signal in all_signals()} - weights.weights.keys()
    if missing:
        raise ValueError(f"{path.name} has no weight for {min(missing)!r}.")
    return weights
