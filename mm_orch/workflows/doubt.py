"""What an answer says of itself that is not sure: that it is not, or that nobody knows.

Answers of models are sure by their tokens' probabilities, those from pages by how much of them the
pages bear out; each has a bound of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mm_orch.workflows.generating import GeneratedText
    from mm_orch.workflows.graph_state import StepContext

_ENGLISH = "\n\n(I am not sure of this.)"
_CHINESE = "\n\n\uff08\u6211\u4e0d\u786e\u5b9a\u3002\uff09"
_CHINESE_SIGN = re.compile("[\u4e00-\u9fff]")
# Before what was found, or what is said instead; and behind what was told as it was written.
_UNKNOWN = ("I don't know. ", "\u6211\u4e0d\u77e5\u9053\u3002")
_FOUND = ("What was found: ", "\u627e\u5230\u7684\u662f\uff1a")
_UNKNOWN_BEHIND = (
    "I don't know whether that answers it: it is what was found.",
    "\u6211\u4e0d\u77e5\u9053\u8fd9\u662f\u5426\u56de\u7b54\u4e86\u95ee\u9898\uff1a"
    "\u8fd9\u662f\u627e\u5230\u7684\u5185\u5bb9\u3002",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DoubtSettings:
    """The slice of the configuration that answers from pages need; None for never.

    Attributes:
        ask_again_below: a part with an answer that is less sure is asked once more.
        unknown_below: an answer that is less sure says that it does not know.
    """

    ask_again_below: float | None = None
    unknown_below: float | None = None

    def is_unknown(self, confidence: float) -> bool:
        """Whether an answer that is so sure, 0 to 1, says that it does not know."""
        return self.unknown_below is not None and confidence < self.unknown_below

    def is_doubtful(self, confidence: float) -> bool:
        """Whether a part with such an answer is asked once more."""
        return self.ask_again_below is not None and confidence < self.ask_again_below

    def explain_unknown(self, confidence: float) -> str:
        """Say why an answer says that it does not know; empty where it does not."""
        if not self.is_unknown(confidence):
            return ""
        return (
            f"The answer is {confidence:.2f} sure, below {self.unknown_below:.2f}: it says that it"
            " does not know."
        )


async def admit_doubt(context: StepContext, answer: GeneratedText) -> GeneratedText:
    """Return an answer that has been said; one that is not sure goes on to say so.

    Args:
        context: of the step that says the answer.
        answer: all that it said.
    """
    if answer.confidence is None or not answer.confidence.is_unsure:
        return answer
    doubt = _CHINESE if _CHINESE_SIGN.search(answer.text) else _ENGLISH
    await context.say(doubt)
    return replace(answer, text=answer.text + doubt)


def say_unknown(question: str, *, found: str = "", instead: str = "") -> str:
    """Return that nobody knows, and what was found, or what is said instead of an answer."""
    place = _language_of(question)
    return _UNKNOWN[place] + (f"{_FOUND[place]}{found}" if found else instead)


def say_unknown_behind(question: str) -> str:
    """Return the same to stand behind what was found, where that has been said already."""
    return _UNKNOWN_BEHIND[_language_of(question)]


def _language_of(question: str) -> int:
    return int(_CHINESE_SIGN.search(question) is not None)
