"""Takes the errors of sequences and texts across the process line, and where they were raised."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING

from mm_orch.core.errors import (
    EngineCrashedError,
    EngineError,
    EngineFailedError,
    EngineOutOfMemoryError,
    InvalidValueError,
    RequestError,
    UnsupportedError,
)
from mm_orch.workers.messages import SequenceFailure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.core.errors import MuAIError

logger = logging.getLogger(__name__)

MAX_STACK_BYTES = 8192
"""Most of a stack that crosses the line: its end, where the line that failed is."""

_ERRORS_BY_CODE: dict[str, type[MuAIError]] = {
    error.code: error
    for error in (
        EngineFailedError,
        EngineOutOfMemoryError,
        EngineCrashedError,
        InvalidValueError,
        UnsupportedError,
    )
}


def as_failures(failed: Sequence[tuple[str, MuAIError]]) -> tuple[SequenceFailure, ...]:
    """Return one failure an id, and log each error once, with its stack and its causes'."""
    ids_by_error: dict[MuAIError, list[str]] = {}
    for sequence_id, error in failed:
        ids_by_error.setdefault(error, []).append(sequence_id)
    failures: list[SequenceFailure] = []
    for error, sequence_ids in ids_by_error.items():
        stack = _log(error, sequence_ids)
        failures += [
            SequenceFailure(
                sequence_id=sequence_id,
                code=error.code,
                message=_as_bytes(error.message).decode(),
                stack=stack,
            )
            for sequence_id in sequence_ids
        ]
    return tuple(failures)


def as_error(failure: SequenceFailure) -> MuAIError:
    """Return the error again; the worker's stack is a note, which loggers and traces print."""
    error = _ERRORS_BY_CODE.get(failure.code, EngineError)(failure.message)
    if failure.stack:
        error.add_note(f"In the worker:\n{failure.stack}")
    return error


def _log(error: MuAIError, sequence_ids: list[str]) -> str:
    """Log the error; return its stack, of which a caller's own error has none."""
    ids = ", ".join(sequence_ids)
    if isinstance(error, RequestError):
        logger.info("%s refused: %s", ids, error.message)
        return ""
    logger.error("%s failed", ids, exc_info=error)
    stack = _as_bytes("".join(traceback.format_exception(error)))
    return stack[-MAX_STACK_BYTES:].decode(errors="ignore")


def _as_bytes(text: str) -> bytes:
    # Names of files may hold halves of characters, and one would end the worker.
    return text.encode(errors="backslashreplace")
