"""Has an answer that is not sure say so, where the operator wants that."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mm_orch.workflows.generating import GeneratedText
    from mm_orch.workflows.graph_state import StepContext

_ENGLISH = "\n\n(I am not sure of this.)"
_CHINESE = "\n\n\uff08\u6211\u4e0d\u786e\u5b9a\u3002\uff09"
_CHINESE_SIGN = re.compile("[\u4e00-\u9fff]")


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
