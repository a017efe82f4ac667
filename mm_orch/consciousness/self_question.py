"""Whether a question is about the system itself, and about what of it."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

Topic = Literal["abilities", "models", "engines", "workflows", "health", "load"]
Language = Literal["en", "zh"]

# Longer texts say more than such a question does.
_MAX_CHARS = 120
_HAN = re.compile(r"[\u3400-\u9fff]")
_NO_WORD = re.compile(r"[^\w']+|_")
# Of the words of the patterns alone.
_SIMPLIFIED = str.maketrans(
    "麼麽嗎們會幫務統狀態運請現載裡個種紹謝誰備負處還問線錄",
    "么么吗们会帮务统状态运请现载里个种绍谢谁备负处还问线录",
)

_POLITE_BEFORE = (
    r"(?:(?:hi|hello|hey|ok|okay|so|please|and)(?: there)? )*"
    r"(?:(?:(?:can|could|would|will) you )?(?:please )?(?:tell|show) me |i want to know )?"
)
_POLITE_AFTER = r"(?: (?:please|now|right now|at the moment|today|currently|exactly|here|for me))*"
_YOU = r"(?:you|this system|the system|this server|the server|muai)"
_YOUR = r"(?:your|the system's|this system's|the server's|muai's)"
_THERE = (
    r"(?: do you (?:have|use|run|support|offer|know)| are (?:there|available|loaded|installed"
    r"|configured|running|ready)| can (?:you|i) (?:use|run)| are you (?:using|running))"
)


def _kinds_of(noun: str) -> str:
    return (
        rf"(?:which|what) {noun}s?{_THERE}|what are {_YOUR} {noun}s|"
        rf"list (?:all |of )?(?:{_YOUR} |the |available )*{noun}s"
        rf"|are (?:any|all|the|your) {noun}s (?:loaded|available|ready|running)"
    )


_ENGLISH: dict[Topic, str] = {
    "abilities": (
        rf"what (?:can|could) {_YOU} (?:do|help (?:me )?with)"
        rf"|what (?:are|is) {_YOU} (?:able to do|capable of|good for)"
        rf"|what (?:all )?{_YOU} can do|what can i (?:ask you|do with {_YOU}|use {_YOU} for)"
        rf"|(?:what are|list|describe) {_YOUR} (?:capabilities|abilities|features|skills|functions)"
        r"|how can you help(?: me)?|what do you do|(?:who|what) are you|describe yourself"
        r"|introduce yourself"
    ),
    "models": _kinds_of("model") + r"|(?:which|what) model is (?:loaded|running|the default)"
    rf"|how many models{_THERE}",
    "engines": _kinds_of("engine"),
    "workflows": _kinds_of("workflow"),
    "health": (
        rf"(?:are you|is {_YOU}) (?:healthy|ok|okay|all right|alright|up|online"
        r"|alive|ready|working(?: properly| well)?|running(?: properly| well)?)"
        rf"|how healthy (?:are|is) {_YOU}|(?:what is|what's|how is) {_YOUR} (?:health|status|state)"
    ),
    "load": (
        rf"(?:are you|is {_YOU}) (?:very |too )?busy|how busy (?:are|is) {_YOU}"
        rf"|(?:what is|what's) {_YOUR} (?:current )?load|how long is the queue"
        r"|how many requests are (?:running|waiting|queued|being answered)"
    ),
}

_ZH_BEFORE = r"(?:你好|您好|请|请问|告诉我|请告诉我|那么?)*"
_ZH_AFTER = r"(?:呢|呀|啊|吧|了|谢谢)*"
_ZH_YOU = r"(?:你们?|您|系统|这个系统|服务器?|MuAI|muai)"
_ZH_NOW = r"(?:现在|目前|当前|都|还|一共|总共)*"
_ZH_WHICH = r"(?:哪些|什么|哪个|哪几个|哪几种|多少个?|几个)"


def _zh_kinds_of(noun: str) -> str:
    verb = r"(?:能|可以)?(?:是|有|用|使用|支持|运行|加载了?|在用)?(?:的是|着)?"
    return (
        rf"(?:{_ZH_YOU}{_ZH_NOW}{verb}|{_ZH_NOW}有){_ZH_WHICH}(?:可用的)?{noun}(?:可用|可以用)?"
        rf"|{_ZH_NOW}{_ZH_WHICH}{noun}{_ZH_NOW}(?:可用|能用|可以用|已加载|在运行|就绪)"
        rf"|列出(?:你的|所有|可用的?|全部)*{noun}"
    )


_CHINESE: dict[Topic, str] = {
    "abilities": (
        rf"{_ZH_YOU}{_ZH_NOW}(?:能|会|可以|能够)(?:帮我|帮助我|为我)?(?:做|干|做到|完成)?"
        r"(?:什么|些什么|哪些事情?|哪些|啥)(?:事情?)?"
        rf"|{_ZH_YOU}{_ZH_NOW}有(?:什么|哪些|啥)(?:功能|能力|本领|用处)"
        rf"|{_ZH_YOU}的(?:功能|能力)(?:是什么|有哪些|有什么)|{_ZH_YOU}有什么用"
        rf"|{_ZH_YOU}是(?:谁|什么)|(?:自我)?介绍一?下(?:你|您)自己|自我介绍一?下?"
    ),
    "models": _zh_kinds_of("(?:语言|大)?模型"),
    "engines": _zh_kinds_of("(?:推理)?引擎"),
    "workflows": _zh_kinds_of("工作流程?"),
    "health": (
        rf"{_ZH_YOU}{_ZH_NOW}(?:健康|运行正常|正常|在线|就绪|准备好)了?吗"
        rf"|{_ZH_YOU}的?(?:状态|健康状况|运行状况|健康状态)(?:怎么样|如何|好吗|正常吗|是什么)?"
    ),
    "load": (
        rf"{_ZH_YOU}{_ZH_NOW}(?:很)?忙(?:不忙|吗)|{_ZH_YOU}的?负载(?:怎么样|如何|高吗|是多少)"
        rf"|{_ZH_NOW}有(?:多少|几)个?请求{_ZH_NOW}在?(?:排队|等待|运行|处理)"
    ),
}


def _compile(
    pattern_by_topic: dict[Topic, str], before: str, after: str
) -> tuple[tuple[Topic, re.Pattern[str]], ...]:
    return tuple(
        (topic, re.compile(f"{before}(?:{pattern}){after}"))
        for topic, pattern in pattern_by_topic.items()
    )


_FORMS_OF_ENGLISH = _compile(_ENGLISH, _POLITE_BEFORE, _POLITE_AFTER)
_FORMS_OF_CHINESE = _compile(_CHINESE, _ZH_BEFORE, _ZH_AFTER)


def find_topic(question: str) -> Topic | None:
    """Return what of the system itself a question is about; None where it is about anything else.

    Only questions that say nothing beside are recognised: "what can you do about rust?" is none.
    """
    if len(question) > _MAX_CHARS:
        return None
    folded = unicodedata.normalize("NFKC", question).lower().replace("\u2019", "'")
    words = _NO_WORD.sub(" ", folded).strip()
    if language_of(question) == "zh":
        words = words.replace(" ", "").translate(_SIMPLIFIED)
        forms = _FORMS_OF_CHINESE
    else:
        forms = _FORMS_OF_ENGLISH
    return next((topic for topic, form in forms if form.fullmatch(words)), None)


def language_of(question: str) -> Language:
    """Return the language to answer in."""
    return "zh" if _HAN.search(question) else "en"
