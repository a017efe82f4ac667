"""Whether what the system says of itself is what is so."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from mm_orch.consciousness.self_description import describe_self
from mm_orch.consciousness.self_model import make_self_model
from mm_orch.workers.phase import ModelPhase
from tests.unit.consciousness.scene import STATUS, WORKFLOWS

if TYPE_CHECKING:
    from mm_orch.consciousness.self_question import Language, Topic

GATE = "it is of stage 1"
FACTS = make_self_model(
    STATUS,
    WORKFLOWS,
    features={"sessions": True, "monitoring": False},
    find_gate=lambda name: GATE if name == "rag_qa" else "",
)
LANGUAGES: tuple[Language, ...] = ("en", "zh")
TOPICS: tuple[Topic, ...] = ("abilities", "models", "engines", "workflows", "health", "load")


def test_the_self_model_has_every_model_and_how_it_is() -> None:
    assert [(one.name, one.state, one.engine, one.detail) for one in FACTS.models] == [
        ("small", "loaded", "echo", ""),
        ("large", "failing", None, "no memory"),
        ("spare", "loadable", None, ""),
    ]
    assert (FACTS.health, FACTS.is_ready, FACTS.default_model) == ("degraded", True, "small")
    assert (FACTS.num_running, FACTS.num_waiting, FACTS.queue_capacity) == (2, 1, 100)


@pytest.mark.parametrize("phase", ModelPhase)
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_phase_of_a_model_has_a_word(phase: ModelPhase, language: Language) -> None:
    status = replace(STATUS, models=(replace(STATUS.models[0], phase=phase),))
    facts = make_self_model(status, (), features={}, find_gate=lambda _: "")

    assert "small" in describe_self(facts, "models", language)


def test_a_workflow_is_available_gated_or_broken() -> None:
    assert {one.name: (one.state, one.detail) for one in FACTS.workflows} == {
        "chat_generate": ("available", ""),
        "my_plugin": ("broken", "It cannot be imported."),
        "rag_qa": ("gated", GATE),
    }


@pytest.mark.parametrize("language", LANGUAGES)
def test_everything_that_can_be_used_is_named_and_nothing_else(language: Language) -> None:
    told = describe_self(FACTS, "abilities", language)

    named = set(re.findall("^- ([a-z_]+)", told, re.MULTILINE))
    assert named == {"chat_generate", "my_plugin", "rag_qa", "small", "large", "spare"}
    for fact in ("1.2.3", "Chats.", GATE, "It cannot be imported.", "no memory", "sessions"):
        assert fact in told
    # Log lines of workers are not for everybody.
    assert "worker's log" not in told


@pytest.mark.parametrize(
    ("topic", "lines"),
    [
        (
            "models",
            [
                "Models:",
                "- small: loaded, on echo, the default",
                "- large: failing, no memory",
                "- spare: not loaded; the next request for it loads it",
            ],
        ),
        ("engines", ["Engines:", "- echo: available", "- vllm: vllm is not installed"]),
        (
            "workflows",
            [
                "Workflows:",
                "- chat_generate: Chats.",
                "- my_plugin: broken, It cannot be imported.",
                f"- rag_qa: not allowed yet, {GATE}",
            ],
        ),
        (
            "health",
            [
                "Health: degraded (model large is failed: no memory)",
                "2 requests are being answered and 1 wait; there is room for 100 to wait.",
            ],
        ),
        ("load", ["2 requests are being answered and 1 wait; there is room for 100 to wait."]),
    ],
)
def test_a_question_about_one_thing_is_answered_with_that(topic: Topic, lines: list[str]) -> None:
    assert describe_self(FACTS, topic, "en").split("\n") == lines


@pytest.mark.parametrize("topic", TOPICS)
def test_both_languages_tell_the_same_names_and_numbers(topic: Topic) -> None:
    english, chinese = (describe_self(FACTS, topic, language) for language in LANGUAGES)

    for pattern in ("^- ([a-z_]+)", r"\d+"):
        found = sorted(re.findall(pattern, english, re.MULTILINE))
        assert found == sorted(re.findall(pattern, chinese, re.MULTILINE))


def test_a_server_that_would_not_serve_says_so() -> None:
    status = replace(STATUS, is_ready=False, not_ready_because="draining")
    facts = make_self_model(status, (), features={}, find_gate=lambda _: "")

    assert "would not be served: draining." in describe_self(facts, "health", "en")
    assert describe_self(facts, "workflows", "en") == "Workflows: none"
