"""Puts the errors of sequences and texts into words that cross the process line."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mm_orch.workers.messages import SequenceFailure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.core.errors import MuAIError

logger = logging.getLogger(__name__)


def as_failures(failed: Sequence[tuple[str, MuAIError]]) -> tuple[SequenceFailure, ...]:
    """Return one failure an id, and log each error with its causes."""
    for sequence_id, error in failed:
        logger.error("%s failed", sequence_id, exc_info=error)
    return tuple(
        SequenceFailure(sequence_id=sequence_id, code=error.code, message=error.message)
        for sequence_id, error in failed
    )
