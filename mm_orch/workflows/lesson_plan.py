"""The plan of a lesson while it is made: what can be used of each attempt, then plain words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mm_orch.workflows.lesson_checks import find_fault_of_line
from mm_orch.workflows.lesson_schema import MAX_OBJECTIVES, MAX_SECTIONS
from mm_orch.workflows.lesson_shapes import SHAPES
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
        query: as the learner wrote it; a copy of it is no plan, nor is one of the example.
    """

    wishes: LessonWishes
    query: str
    _title: str = ""
    _objectives: list[str] = field(default_factory=list)
    _headings: list[str] = field(default_factory=list)

    def take(self, fields: Fields) -> bool:
        """Keep what can be used of an attempt; return whether nothing is missing any more."""
        example = WORDS[self.wishes.language].example
        titles = [self._title] if self._title else []
        self._add(titles, "title", fields, 1, example.title)
        self._title = "".join(titles)
        self._add(self._headings, "headings", fields, MAX_SECTIONS, *example.headings)
        self._add(self._objectives, "objectives", fields, MAX_OBJECTIVES, *example.objectives)
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

    def _add(self, kept: list[str], name: str, fields: Fields, most: int, *shown: str) -> None:
        language = self.wishes.language
        for line in fields[name]:
            others = (*kept, *shown, self.query)
            is_whole = not SHAPES[language].plan.reaches_bound(name, line)
            if (
                len(kept) < most
                and is_whole
                and not find_fault_of_line(line, language, others=others)
            ):
                kept.append(line)

    def _fill(self, kept: list[str], plain: Iterable[str], most: int) -> None:
        ours = (one.format(subject=self.wishes.subject) for one in plain)
        kept += [one for one in ours if one not in kept][: most - len(kept)]
