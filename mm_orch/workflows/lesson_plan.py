"""The plan of a lesson while it is made: what can be used of each attempt, then plain words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mm_orch.workflows.lesson_checks import find_fault_of_line
from mm_orch.workflows.lesson_schema import MAX_OBJECTIVES, MAX_SECTIONS
from mm_orch.workflows.lesson_words import WORDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mm_orch.workflows.lesson_pieces import Fields
    from mm_orch.workflows.lesson_wishes import LessonWishes


@dataclass(frozen=True, slots=True, kw_only=True)
class LessonPlan:
    """What is to be explained.

    Attributes:
        headings: of the sections, in order; all different.
    """

    title: str
    objectives: tuple[str, ...]
    headings: tuple[str, ...]


@dataclass(slots=True)
class PlanDraft:
    """Collects a plan from several attempts, none of which need be whole.

    Args:
        wishes: what the lesson is to be.
        query: as the learner wrote it; a copy of it is no plan.
    """

    wishes: LessonWishes
    query: str
    _title: str = ""
    _objectives: list[str] = field(default_factory=list)
    _headings: list[str] = field(default_factory=list)

    def take(self, fields: Fields) -> bool:
        """Keep what can be used of an attempt; return whether nothing is missing any more."""
        for title in fields["title"]:
            if not self._title and self._is_usable(title, ()):
                self._title = title
        self._add(self._headings, fields["headings"], MAX_SECTIONS)
        self._add(self._objectives, fields["objectives"], MAX_OBJECTIVES)
        counts = (len(self._headings), len(self._objectives))
        return bool(self._title) and counts == (MAX_SECTIONS, MAX_OBJECTIVES)

    def finish(self) -> LessonPlan:
        """Return the plan, with plain words for what is missing."""
        words, subject = WORDS[self.wishes.language], self.wishes.subject
        self._fill(self._headings, words.headings, MAX_SECTIONS)
        self._fill(self._objectives, words.objectives, MAX_OBJECTIVES)
        return LessonPlan(
            title=self._title or words.title.format(subject=subject),
            objectives=tuple(self._objectives),
            headings=tuple(self._headings),
        )

    def _add(self, kept: list[str], offered: Iterable[str], most: int) -> None:
        for line in offered:
            if len(kept) < most and self._is_usable(line, kept):
                kept.append(line)

    def _fill(self, kept: list[str], plain: Iterable[str], most: int) -> None:
        ours = (one.format(subject=self.wishes.subject) for one in plain)
        kept += [one for one in ours if one not in kept][: most - len(kept)]

    def _is_usable(self, line: str, others: Iterable[str]) -> bool:
        language = self.wishes.language
        return not find_fault_of_line(line, language, others=(*others, self.query))
