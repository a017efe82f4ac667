"""What to look for in a query: patterns that say something for or against a workflow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re

    from mm_orch.routing.route import Workflow

MANY_NAMES = 99


@dataclass(frozen=True, slots=True, eq=False)
class Signal:
    """One thing to look for.

    Attributes:
        key: what weights know it by.
        workflow: what it bears on; whether for or against, and how much, its weight says.
        reason: what was seen, in words that complete "the query ...".
        pattern: searched in the folded query.
        needs_documents: it counts only where the user has uploaded documents.
        min_names: it counts only where the query holds so many names.
        max_names: it counts only where the query holds no more names.
    """

    key: str
    workflow: Workflow
    reason: str
    pattern: re.Pattern[str]
    needs_documents: bool
    min_names: int
    max_names: int
