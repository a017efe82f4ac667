"""What the rules make of queries in both languages, and of words that mislead."""

from __future__ import annotations

from typing import get_args

import pytest

from mm_orch.routing.loading import load_workflow_router
from mm_orch.routing.names import count_names
from mm_orch.routing.query import MATERIAL_MARK, prepare_query
from mm_orch.routing.route import RouteContext
from mm_orch.routing.rules import all_signals, gather_evidence
from mm_orch.routing.tables import Language, load_signals
from mm_orch.routing.workflow_router import WorkflowRouter

RULES = WorkflowRouter(None, load_workflow_router().rules)
NOTHING = RouteContext()
DOCUMENTS = RouteContext(has_documents=True)


@pytest.mark.parametrize(
    ("query", "context", "workflow"),
    [
        ("What is machine learning?", NOTHING, "chat_generate"),
        ("Explain photosynthesis.", NOTHING, "chat_generate"),
        ("Explain photosynthesis with exercises and answers.", NOTHING, "lesson_pack"),
        ("Quiz me on European capitals.", NOTHING, "lesson_pack"),
        ("How long should a lesson be?", NOTHING, "chat_generate"),
        ("teach me how to say thanks in Thai", NOTHING, "chat_generate"),
        ("Make a quiz from my uploaded notes.", DOCUMENTS, "lesson_pack"),
        ("What does my contract say about overtime?", NOTHING, "rag_qa"),
        ("What does the contract say about overtime?", DOCUMENTS, "rag_qa"),
        ("How do I merge two PDFs?", DOCUMENTS, "chat_generate"),
        ("Search my notes for the recipe.", DOCUMENTS, "rag_qa"),
        ("Forget the files for a moment: what is in the news today?", DOCUMENTS, "search_qa"),
        ("What's the weather in Oslo tomorrow?", NOTHING, "search_qa"),
        ("With links please: why is the sky blue?", NOTHING, "search_qa"),
        ("How does binary search work?", NOTHING, "chat_generate"),
        ("Is Lake Como deeper than Lake Garda?", NOTHING, "self_ask_search_qa"),
        (
            "What is the population of the city where Mozart was born?",
            NOTHING,
            "self_ask_search_qa",
        ),
        ("What is the difference between TCP and UDP?", NOTHING, "chat_generate"),
        ("什么是机器学习", NOTHING, "chat_generate"),
        ("给我出十道分数练习题,带答案", NOTHING, "lesson_pack"),
        ("我上传的合同什么时候到期", NOTHING, "rag_qa"),
        ("合同里违约金怎么算", DOCUMENTS, "rag_qa"),
        ("北京明天天气怎么样", NOTHING, "search_qa"),
        ("姚明和易建联谁高,高多少", NOTHING, "self_ask_search_qa"),
        ("HTTP和HTTPS有什么区别", NOTHING, "chat_generate"),
    ],
)
def test_rules_route_plain_cases_and_traps(
    query: str, context: RouteContext, workflow: str
) -> None:
    assert RULES.choose(query, context).workflow == workflow


def test_documents_change_what_a_definite_word_means() -> None:
    query = "When does the lease end?"

    assert RULES.choose(query, DOCUMENTS).workflow == "rag_qa"
    assert RULES.choose(query, NOTHING).workflow != "rag_qa"


@pytest.mark.parametrize("language", get_args(Language))
def test_every_signal_is_known_by_a_key_of_its_own(language: Language) -> None:
    keys = [signal.key for signal in load_signals(language)]

    assert len(keys) > 40
    assert len(set(keys)) == len(keys)


def test_no_signal_is_found_in_an_empty_text() -> None:
    assert [signal.key for signal in all_signals() if signal.pattern.search("")] == []


@pytest.mark.parametrize("query", ["unteachable", "prequizzed", "resyllabused"])
def test_words_are_found_whole_alone(query: str) -> None:
    found = gather_evidence(prepare_query(query), NOTHING).found

    assert [signal.key for signal in found if signal.workflow == "lesson_pack"] == []


def test_pasted_text_is_not_what_is_asked() -> None:
    pasted = 'Shorten this: "Please look up the weather of tomorrow and the news of this week."'

    assert prepare_query(pasted).text == f"shorten this:{MATERIAL_MARK.rstrip()}"
    assert prepare_query("fix it\ndef f():\n  return 1").text == f"fix it{MATERIAL_MARK.rstrip()}"


@pytest.mark.parametrize(
    ("text", "num_names"),
    [
        ("What is machine learning?", 0),
        ("Please explain. Then stop.", 0),
        ("Who won in Oslo?", 1),
        ("the weather in rome and oslo", 2),
        ("I think I should learn German on Monday", 0),
        ("北京和上海", 2),
        ("《活着》的作者", 1),
        ("今天吃什么", 0),
    ],
)
def test_names_are_counted(text: str, num_names: int) -> None:
    assert count_names(text) == num_names
