"""Which questions are about the system itself."""

# ruff: noqa: RUF001 - Chinese has signs of its own

from __future__ import annotations

import pytest

from mm_orch.consciousness.self_question import find_topic, language_of

ABOUT_ITSELF = {
    "abilities": [
        "What can you do?",
        "what can you do for me",
        "Hi there, what can you do?",
        "What are you able to do?",
        "What are your capabilities?",
        "Could you please tell me what you can do?",
        "How can you help me?",
        "What can I ask you?",
        "Who are you?",
        "你能做什么？",
        "你会什么",
        "請問你能幫我做什麼？",
        "你有哪些功能？",
        "你是谁？",
        "介绍一下你自己",
    ],
    "models": [
        "Which models do you have?",
        "What models are available right now?",
        "List your models.",
        "What model are you using?",
        "你有哪些模型？",
        "你用的是什么模型？",
        "现在有哪些模型可用",
    ],
    "engines": ["Which engines do you support?", "哪些引擎可用？"],
    "workflows": ["What workflows are there?", "有哪些工作流可用"],
    "health": [
        "Are you healthy?",
        "are you ok",
        "What's your status?",
        "What\u2019s your status?",
        "How is your health?",
        "Is the server up?",
        "你健康吗？",
        "系统状态如何",
    ],
    "load": [
        "Are you busy right now?",
        "How busy is the server?",
        "How many requests are waiting?",
        "现在有多少请求在排队？",
        "你忙吗",
    ],
}
ABOUT_OTHER_THINGS = [
    "What can you do about rust on a car?",
    "What can I do?",
    "What can Python do?",
    "Which models of cars are available?",
    "What is a model?",
    "Which models do you have in mind for a novel?",
    "How are you?",
    "Are you healthy enough to run a marathon?",
    "What is the status of the Golden Gate Bridge?",
    "Tell me what you can do with eggs and flour.",
    "What do you do when it rains?",
    "Who are you voting for?",
    "你好吗？",
    "什么模型可以预测天气？",
    "你有什么建议？",
    "你是什么意思？",
    "鸟能做什么？",
    "",
    "?",
    "What can you do? " * 20,
]


@pytest.mark.parametrize(
    ("topic", "question"),
    [(topic, question) for topic, questions in ABOUT_ITSELF.items() for question in questions],
)
def test_a_question_about_the_system_is_known_by_its_topic(topic: str, question: str) -> None:
    assert find_topic(question) == topic


@pytest.mark.parametrize("question", ABOUT_OTHER_THINGS)
def test_a_question_about_anything_else_is_left_to_others(question: str) -> None:
    assert find_topic(question) is None


@pytest.mark.parametrize(
    ("question", "language"), [("Hi?", "en"), ("你好", "zh"), ("AI 是?", "zh")]
)
def test_the_answer_is_in_the_language_of_the_question(question: str, language: str) -> None:
    assert language_of(question) == language
