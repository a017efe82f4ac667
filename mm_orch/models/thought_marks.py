"""Which marks a model writes around the thoughts that come before its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.core.guide import ThoughtMarks

if TYPE_CHECKING:
    from mm_orch.models.text import TextCodec

KNOWN_MARKS = (
    # DeepSeek-R1, QwQ, Qwen3, GLM-4.5, SmolLM3 and most others.
    ThoughtMarks(begin="<think>", end="</think>"),
    # Magistral.
    ThoughtMarks(begin="[THINK]", end="[/THINK]"),
    # Seed-OSS.
    ThoughtMarks(begin="<seed:think>", end="</seed:think>"),
    # Command A Reasoning.
    ThoughtMarks(begin="<|START_THINKING|>", end="<|END_THINKING|>"),
    # Kimi-VL-Thinking.
    ThoughtMarks(begin="◁think▷", end="◁/think▷"),
)


def find_thought_marks(template_source: str, codec: TextCodec) -> ThoughtMarks | None:
    """Return the marks that the template writes or the tokeniser has tokens for, or None."""
    for marks in KNOWN_MARKS:
        both = (marks.begin, marks.end)
        if all(mark in template_source for mark in both):
            return marks
        if all(codec.find_token(mark) is not None for mark in both):
            return marks
    return None
