"""The pieces of a lesson that a model writes, and how long each may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.workflows.lesson_pieces import Field, Piece
from mm_orch.workflows.lesson_schema import MAX_OBJECTIVES, MAX_SECTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mm_orch.workflows.lesson_schema import Language


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """The three kinds of pieces."""

    plan: Piece
    section: Piece
    exercise: Piece

    @property
    def all(self) -> tuple[Piece, ...]:
        """Each of them."""
        return (self.plan, self.section, self.exercise)


_ENGLISH = Shapes(
    plan=Piece(
        language="en",
        fields=(
            Field(name="title", least=4, most=70),
            Field(name="objectives", least=10, most=100, count=MAX_OBJECTIVES),
            Field(name="headings", least=4, most=60, count=MAX_SECTIONS),
        ),
    ),
    section=Piece(language="en", fields=(Field(name="text", least=60, most=500),)),
    exercise=Piece(
        language="en",
        fields=(
            Field(name="question", least=12, most=160, is_question=True),
            Field(name="answer", least=1, most=160),
        ),
    ),
)
# A character says as much as two or three letters do.
_CHINESE = Shapes(
    plan=Piece(
        language="zh",
        fields=(
            Field(name="title", least=2, most=24),
            Field(name="objectives", least=6, most=40, count=MAX_OBJECTIVES),
            Field(name="headings", least=2, most=20, count=MAX_SECTIONS),
        ),
    ),
    section=Piece(language="zh", fields=(Field(name="text", least=30, most=240),)),
    exercise=Piece(
        language="zh",
        fields=(
            Field(name="question", least=6, most=80, is_question=True),
            Field(name="answer", least=1, most=80),
        ),
    ),
)
SHAPES: Mapping[Language, Shapes] = {"en": _ENGLISH, "zh": _CHINESE}
