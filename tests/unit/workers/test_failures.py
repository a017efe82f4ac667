"""What of an error in a worker reaches the server, and what the worker's log has of it."""

from __future__ import annotations

import logging
import traceback

import pytest

from mm_orch.core.errors import (
    EngineError,
    EngineFailedError,
    EngineOutOfMemoryError,
    InvalidValueError,
    MuAIError,
)
from mm_orch.workers import messages
from mm_orch.workers.failures import MAX_STACK_BYTES, as_error, as_failures

# A command of one call, run in this process before, may have silenced the workers.
LOGGER = "mm_orch.workers.failures"


def break_down(message: str) -> None:
    raise RuntimeError(message)


def raised(error: MuAIError, reason: str = "in a kernel") -> MuAIError:
    try:
        break_down(reason)
    except RuntimeError as cause:
        error.__cause__ = cause
    return error


def cross_the_line(error: MuAIError) -> MuAIError:
    step = messages.StepDone(
        chunks=(),
        started=(),
        failures=as_failures([("a", error)]),
        phase="decode",
        batch_size=1,
        duration_s=0.0,
        num_running=0,
        num_waiting=0,
    )
    told = messages.decode_from_worker(messages.encode(step))
    assert isinstance(told, messages.StepDone)
    return as_error(told.failures[0])


def test_an_error_crosses_the_line_with_the_stack_of_its_cause() -> None:
    error = cross_the_line(raised(EngineOutOfMemoryError("No memory.")))

    assert isinstance(error, EngineOutOfMemoryError)
    assert "in break_down" in "".join(traceback.format_exception(error))
    # What callers are told.
    assert (error.message, error.remedy, str(error)) == ("No memory.", None, "No memory.")


def test_a_code_that_no_engine_gives_is_an_engines_error_all_the_same() -> None:
    failure = messages.SequenceFailure(sequence_id="a", code="new", message="It failed.")

    assert type(as_error(failure)) is EngineError


@pytest.mark.parametrize("letter", ["x", "\N{EURO SIGN}"])
def test_the_end_of_a_long_stack_is_kept(letter: str) -> None:
    error = raised(EngineFailedError("The end."), letter * 2 * MAX_STACK_BYTES)

    [failure] = as_failures([("a", error)])

    num_bytes = len(failure.stack.encode())
    assert MAX_STACK_BYTES - 4 < num_bytes <= MAX_STACK_BYTES
    assert failure.stack.endswith("EngineFailedError: The end.\n")


def test_halves_of_characters_end_no_worker() -> None:
    error = cross_the_line(raised(EngineFailedError("No file \udcff."), "\udcfe"))

    assert error.message == r"No file \udcff."
    assert r"\udcfe" in "".join(traceback.format_exception(error))


def test_an_error_that_loses_several_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    error = raised(EngineFailedError("It failed."))

    failures = as_failures([("a", error), ("b", error)])

    assert [failure.sequence_id for failure in failures] == ["a", "b"]
    [record] = caplog.records
    assert record.getMessage() == "a, b failed"
    assert caplog.text.count("in break_down") == 1


def test_a_callers_error_has_no_stack(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)

    error = cross_the_line(raised(InvalidValueError("guide has a fault.")))

    assert isinstance(error, InvalidValueError)
    assert "break_down" not in "".join(traceback.format_exception(error))
    [record] = caplog.records
    assert (record.levelno, record.exc_info) == (logging.INFO, None)
