"""The choice of a workflow: its order, its costs, its fall-backs, and that it is always whole."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.routing.learned import LEARNED_PATH, load_learned
from mm_orch.routing.loading import load_workflow_router
from mm_orch.routing.route import WORKFLOWS, Route, RouteContext, Workflow
from mm_orch.routing.rules import RULES_PATH, load_rule_weights
from mm_orch.routing.workflow_router import WorkflowRouter

if TYPE_CHECKING:
    from pathlib import Path

NOTHING = RouteContext()
DOCUMENTS = RouteContext(has_documents=True)
ROUTER = load_workflow_router()
BY_RULES = WorkflowRouter(None, ROUTER.rules)


def is_whole(route: Route, available: set[Workflow]) -> bool:
    scores = [one.score for one in route.alternatives]
    return (
        {one.workflow for one in route.alternatives} == available
        and route.workflow == route.alternatives[0].workflow
        and route.confidence == scores[0]
        and scores[1:] == sorted(scores[1:], reverse=True)
        and math.isclose(sum(scores), 1.0)
        and all(0 <= score <= 1 for score in scores)
        and bool(route.reason)
    )


@given(
    query=st.text(),
    has_documents=st.booleans(),
    has_session=st.booleans(),
    available=st.sets(st.sampled_from(WORKFLOWS), min_size=1),
)
def test_any_text_is_routed_to_something_available(
    query: str, *, has_documents: bool, has_session: bool, available: set[Workflow]
) -> None:
    context = RouteContext(has_documents=has_documents, has_session=has_session)
    for router in (ROUTER, BY_RULES, WorkflowRouter(None, None)):
        assert is_whole(router.choose(query, context, available=available), available)


@pytest.mark.parametrize(
    "query", ["what " * 2000, '"' * 10_000, "a: " * 3000, "的" * 10_000, "\ud800", "\x00\n\n"]
)
def test_long_and_odd_texts_are_routed(query: str) -> None:
    assert is_whole(ROUTER.choose(query, DOCUMENTS), set(WORKFLOWS))


@pytest.mark.parametrize("router", [ROUTER, BY_RULES], ids=["learned", "rules"])
def test_what_is_machine_learning_is_a_plain_question(router: WorkflowRouter) -> None:
    route = router.choose("What is machine learning?", NOTHING)

    assert route.workflow == "chat_generate"


def test_a_route_says_who_decided_and_what_was_seen() -> None:
    query = "Look it up on the web and give me links, please."

    assert ROUTER.choose(query, NOTHING).by == "learned"
    by_rules = BY_RULES.choose(query, NOTHING)
    assert (by_rules.by, by_rules.workflow) == ("rules", "search_qa")
    assert "asks for the web or for sources" in by_rules.reason


def test_without_any_sign_the_rules_leave_it_to_the_default() -> None:
    route = BY_RULES.choose("zxqv", NOTHING)

    assert (route.by, route.workflow) == ("default", "chat_generate")
    assert route.confidence == 1 / len(WORKFLOWS)


def test_an_unsure_model_asks_the_rules() -> None:
    learned = load_learned()
    never_sure = type(learned)(
        type(learned.header)(**{**_fields(learned.header), "min_confidence": 1.0}),
        bucket_weights=np.zeros_like(learned._bucket_weights),
        bucket_scales=learned._bucket_scales,
        words=("",),
        word_weights=np.zeros_like(learned._word_weights[:1]),
        word_scales=learned._word_scales,
        signal_weights=np.zeros_like(learned._signal_weights),
    )
    router = WorkflowRouter(never_sure, ROUTER.rules)

    assert router.choose("Quiz me on European capitals.", NOTHING).by == "rules"
    assert router.choose("zxqv", NOTHING).by == "default"


def test_the_likeliest_that_is_there_is_chosen() -> None:
    available: set[Workflow] = {"chat_generate", "search_qa"}
    route = ROUTER.choose(
        "Which of the last two prime ministers of Norway, by today's polls, is more popular?",
        NOTHING,
        available=available,
    )

    assert is_whole(route, available)
    assert (route.by, route.workflow) == ("learned", "search_qa")


def test_of_equally_likely_workflows_the_cheapest_is_chosen() -> None:
    route = WorkflowRouter(None, None).choose(
        "x", NOTHING, available={"self_ask_search_qa", "search_qa"}
    )

    assert route.workflow == "search_qa"


def test_with_nothing_to_choose_from_it_says_so() -> None:
    with pytest.raises(ValueError, match="No workflow is available"):
        ROUTER.choose("x", NOTHING, available=())


def _fields(struct: object) -> dict[str, object]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}  # type: ignore[attr-defined]


def _damaged(path: Path, kind: str) -> Path:
    content = LEARNED_PATH.read_bytes()
    if kind == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "flipped":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :])
    elif kind == "pickled":
        np.savez(path, header=np.array([{"a": 1}], dtype=object))
    else:
        with np.load(LEARNED_PATH) as arrays:
            parts = dict(arrays)
        header = json.loads(parts["header"].tobytes())
        if kind == "other shape":
            parts["bucket_weights"] = parts["bucket_weights"][:10]
        elif kind == "a word less":
            parts["words"] = parts["words"][parts["words"].tobytes().index(b"\n", 1) :]
        elif kind == "no words":
            parts["words"] = np.array([0xFF], dtype=np.uint8)
        elif kind == "not a number":
            parts["bucket_scales"][0] = np.nan
        else:
            header[kind] = "other" if isinstance(header[kind], str) else -1
        parts["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
        np.savez(path, **parts)
    return path


@pytest.mark.parametrize(
    "kind",
    [
        "cut",
        "empty",
        "flipped",
        "pickled",
        "other shape",
        "a word less",
        "no words",
        "not a number",
        "format",
        "features_version",
        "num_buckets",
        "tables_digest",
        "temperature",
    ],
)
def test_damaged_or_foreign_weights_fall_back_to_rules(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    router = load_workflow_router(_damaged(tmp_path / "weights.npz", kind))

    assert router.learned is None
    assert "routed by rules alone" in caplog.text
    assert router.choose("Quiz me on European capitals.", NOTHING).by == "rules"


def test_without_any_weights_the_default_answers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    router = load_workflow_router(tmp_path / "none.npz", tmp_path / "none.json")

    assert router.choose("Quiz me.", NOTHING).by == "default"
    assert "without rules" in caplog.text


@pytest.mark.parametrize("field", ["tables_digest", "weights"])
def test_weights_of_other_rules_are_refused(field: str, tmp_path: Path) -> None:
    content = json.loads(RULES_PATH.read_bytes())
    content[field] = "other" if field == "tables_digest" else {}
    path = tmp_path / "rules.json"
    path.write_text(json.dumps(content))

    with pytest.raises(ValueError, match=r"rules\.json"):
        load_rule_weights(path)


@pytest.mark.parametrize(
    "content",
    [b"", b'{"tables_digest": "x', b"[]", b'{"weights": 5}', b'{"tables_digest": "\xff"}'],
)
def test_damaged_rules_are_named_and_done_without(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "rules.json"
    path.write_bytes(content)

    router = load_workflow_router(rules_path=path)

    assert router.rules is None
    assert "Queries are routed without rules: rules.json is damaged: " in caplog.text
    assert is_whole(router.choose("Quiz me on European capitals.", NOTHING), set(WORKFLOWS))
