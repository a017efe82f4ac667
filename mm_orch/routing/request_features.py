"""What a request says of how hard it is to answer: by its words and wishes, without any model.

The signs and their weights are set by hand: they say what a small model is known to be bad at, and
are no measurement.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.core.generation import ChatPrompt, TextPrompt, TokensPrompt

if TYPE_CHECKING:
    from mm_orch.core.generation import GenerationRequest, Prompt

# Of a long text its beginning and its end say what is asked; the middle is material.
_MAX_HEAD_CHARS = 1500
_MAX_TAIL_CHARS = 500
_CODE = re.compile(
    r"```|\b(?:python|javascript|typescript|rust|golang|c\+\+|java|sql|regex|bash|html|css)\b"
    r"|\b(?:function|algorithm|unit tests?|refactor|debug|stack trace|compil\w+)\b"
    r"|代码|函数|算法|编程|正则|脚本",
    re.IGNORECASE,
)
_MATHS = re.compile(
    r"\b(?:prove|proof|theorem|integral|derivative|equation|matrix|probability|calculate|solve)\b"
    r"|\d\s*[-+*/^=]\s*\d|[∑∫√≤≥]|证明|方程|积分|导数|概率|计算",
    re.IGNORECASE,
)
_REASONING = re.compile(
    r"\b(?:step by step|why|compare|contrast|trade-?offs?|analy[sz]e|evaluate|critique|argue"
    r"|implications?|reason(?:ing)?|plan|design|strategy|pros and cons|deduce|infer)\b"
    r"|为什么|比较|分析|推理|权衡|优缺点|规划|设计|评估",
    re.IGNORECASE,
)
_LONG = re.compile(
    r"\b(?:essay|article|report|chapter|in detail|detailed|comprehensive|thorough|\d{3,} words)\b"
    r"|详细|文章|论文|报告|\d{3,}字",
    re.IGNORECASE,
)
_CONSTRAINT = re.compile(
    r"\b(?:must|should|exactly|at least|at most|no more than|without|only|never|always|format)\b"
    r"|^\s*(?:[-*•]|\d+[.)])\s|必须|至少|最多|不超过|只能|不要|格式",
    re.IGNORECASE | re.MULTILINE,
)
_NOT_LATIN = re.compile(r"[^\W\d_a-zA-Z\u00c0-\u024f]")
_MAX_CONSTRAINTS = 4
_LONG_ANSWER_TOKENS = 1024
_LONG_PROMPT_CHARS = 4000
_BYTES_A_TOKEN = 3
# What an answer takes where nothing bounds it: told by the length of a usual one.
_USUAL_ANSWER_TOKENS = 256
_MANY = 2
# A letter of mathematics or a name makes no other language.
_FOREIGN_SHARE = 0.2

EASIEST = 0.1
"""The difficulty of a request that asks for nothing special."""
_DIFFICULTY_BY_SIGN = {
    "code": 0.35,
    "maths": 0.3,
    "reasoning": 0.25,
    "a long answer": 0.15,
    "tools": 0.2,
    "an answer of a given shape": 0.15,
    "a language other than English": 0.1,
    "reading a long text": 0.15,
}
_DIFFICULTY_OF_A_CONSTRAINT = 0.08


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFeatures:
    """A request as choosing a model sees it.

    Attributes:
        num_prompt_tokens: about; a token is taken for three bytes.
        num_answer_tokens: asked for, or what a usual answer takes.
        num_choices: answers to the same prompt.
        is_chat: it is a conversation, which needs a chat template.
        is_tokens: its prompt is token ids, which only one tokeniser knows.
        signs: what makes it hard, in words that complete "It asks for ...".
        num_constraints: conditions that its answer has to keep, 4 at most.
    """

    num_prompt_tokens: int
    num_answer_tokens: int
    num_choices: int
    is_chat: bool
    is_tokens: bool
    signs: tuple[str, ...]
    num_constraints: int

    @property
    def difficulty(self) -> float:
        """From EASIEST to 1."""
        total = EASIEST + sum(_DIFFICULTY_BY_SIGN[sign] for sign in self.signs)
        return min(1.0, total + _DIFFICULTY_OF_A_CONSTRAINT * self.num_constraints)

    @property
    def num_tokens(self) -> int:
        """Of prompt and answers together."""
        return self.num_prompt_tokens + self.num_answer_tokens * self.num_choices

    @property
    def told(self) -> tuple[str, ...]:
        """What makes it hard, for people."""
        if self.num_constraints < _MANY:
            return self.signs
        return (*self.signs, "several conditions")


def read_features(request: GenerationRequest) -> RequestFeatures:
    """Return what a request says of itself; looks at 2000 characters of its last message."""
    prompt, options = request.prompt, request.options
    num_tokens, asked = _measure(prompt)
    text = asked if len(asked) <= _MAX_HEAD_CHARS + _MAX_TAIL_CHARS else _cut(asked)
    has_sign = {
        "code": _CODE.search(text),
        "maths": _MATHS.search(text),
        "reasoning": _REASONING.search(text),
        "a long answer": _LONG.search(text) or (options.max_tokens or 0) >= _LONG_ANSWER_TOKENS,
        "tools": isinstance(prompt, ChatPrompt) and prompt.tool_use is not None,
        "an answer of a given shape": options.guide is not None,
        "a language other than English": _is_foreign(text),
        "reading a long text": num_tokens * _BYTES_A_TOKEN >= _LONG_PROMPT_CHARS,
    }
    constraints = {match.group().strip().lower() for match in _CONSTRAINT.finditer(text)}
    return RequestFeatures(
        num_prompt_tokens=num_tokens,
        num_answer_tokens=options.max_tokens or _USUAL_ANSWER_TOKENS,
        num_choices=options.num_choices,
        is_chat=isinstance(prompt, ChatPrompt),
        is_tokens=isinstance(prompt, TokensPrompt),
        signs=tuple(sign for sign, is_there in has_sign.items() if is_there),
        num_constraints=min(_MAX_CONSTRAINTS, len(constraints)),
    )


def _measure(prompt: Prompt) -> tuple[int, str]:
    """Return about how many tokens a prompt has, and the text that asks."""
    match prompt:
        case TokensPrompt(token_ids):
            return len(token_ids), ""
        case TextPrompt(text):
            return _count_tokens(text), text
        case ChatPrompt(messages):
            asked = next((one for one in reversed(messages) if one.role == "user"), messages[-1])
            return sum(_count_tokens(one.content) for one in messages), asked.content


def _count_tokens(text: str) -> int:
    # Encoding megabytes to count them would take longer than the choice may.
    num_bytes = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
    return -(-num_bytes // _BYTES_A_TOKEN)


def _is_foreign(text: str) -> bool:
    return len(_NOT_LATIN.findall(text)) > _FOREIGN_SHARE * len(text)


def _cut(text: str) -> str:
    return f"{text[:_MAX_HEAD_CHARS]}\n{text[-_MAX_TAIL_CHARS:]}"
