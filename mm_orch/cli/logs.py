"""Where log lines go and how they look; the one place that configures logging."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from logging.handlers import RotatingFileHandler
from typing import TYPE_CHECKING, Literal

from mm_orch.core.trace import CURRENT

if TYPE_CHECKING:
    from pathlib import Path

    from structlog.stdlib import ProcessorFormatter
    from structlog.typing import EventDict, Processor

MAX_FILE_BYTES = 10 * 2**20
_NUM_OLD_FILES = 5
# These bring handlers of their own or tell of every connection.
_UVICORN = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi")
_CHATTY = ("asyncio", "filelock", "httpcore", "httpx", "huggingface_hub", "urllib3")

# A terminal obeys these; a tab and the end of a line are harmless.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def configure_logging(
    level: str,
    log_file: Path | None,
    log_format: Literal["text", "json"],
    *,
    to_stderr: bool,
    max_file_bytes: int = MAX_FILE_BYTES,
) -> None:
    """Send every logger's lines to the places asked for; a second call replaces the first.

    A file that cannot be written costs a warning on standard error and nothing else.

    Args:
        level: least severe level, in capitals.
        log_file: rotated, with five older files beside it; its folder is made.
        log_format: lines for people, or one JSON object a line.
        to_stderr: write to standard error as well.
        max_file_bytes: size that makes the log file roll over.
    """
    from structlog.stdlib import ProcessorFormatter

    root = logging.getLogger()
    for old in root.handlers[:]:
        # Others, such as those of a test runner or an embedding program, stay.
        if isinstance(old.formatter, ProcessorFormatter):
            root.removeHandler(old)
            # On a full disk even closing fails; the lines were given up for lost already.
            with contextlib.suppress(OSError):
                old.close()
    formatter = _formatter(log_format)
    problem: OSError | None = None
    if to_stderr:
        _add(root, logging.StreamHandler(sys.stderr), formatter)
    if log_file is not None:
        try:
            _add(root, _open_log_file(log_file, max_file_bytes), formatter)
        except OSError as error:
            problem = error
    root.setLevel(level)
    logging.captureWarnings(capture=True)
    for name in _UVICORN:
        inner = logging.getLogger(name)
        inner.handlers.clear()
        inner.propagate = True
        # What it says of start and end, the server says itself, and for both of its ports at once.
        inner.setLevel(max(root.level, logging.WARNING))
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))
    if problem is not None:
        _warn_of_file(log_file, problem)


class _LogFile(RotatingFileHandler):
    """A rotating file; when it can no longer be written, that is said once."""

    _has_failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._has_failed:
            self._has_failed = True
            _warn_of_file(self.baseFilename, error)


def _open_log_file(path: Path, max_bytes: int) -> logging.Handler:
    path.parent.mkdir(parents=True, exist_ok=True)
    return _LogFile(path, maxBytes=max_bytes, backupCount=_NUM_OLD_FILES, encoding="utf-8")


def _warn_of_file(path: Path | str | None, error: OSError) -> None:
    # Not through logging: no other destination may be configured.
    reason = error.strerror or str(error)
    sys.stderr.write(f"warning: the log file {path} cannot be written: {reason}.\n")


def _add(root: logging.Logger, handler: logging.Handler, formatter: ProcessorFormatter) -> None:
    handler.setFormatter(formatter)
    root.addHandler(handler)


def _formatter(log_format: Literal["text", "json"]) -> ProcessorFormatter:
    import structlog

    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        # Gives the values that a call passes in ``extra`` their own fields.
        structlog.stdlib.ExtraAdder(),
        _drop_leftovers,
        _add_trace,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Processor]
    if log_format == "json":
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        # structlog's own choice shows local variables, and prompts and keys are among them.
        plain = structlog.dev.plain_traceback
        console = structlog.dev.ConsoleRenderer(
            colors=False, pad_event_to=0, exception_formatter=plain
        )
        last = [_keep_to_the_line, console]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )


def _drop_leftovers(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Leave out what formatters of other handlers have put on the record."""
    for name in ("message", "asctime"):
        event.pop(name, None)
    return event


def _add_trace(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Say to which trace a line belongs, unless its call has said it."""
    trace = CURRENT.get()
    if trace is not None and "trace_id" not in event:
        event.update(trace_id=trace.trace_hex, span_id=trace.span_hex)
    return event


def _keep_to_the_line(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Let nothing in a field or a message look like a line of its own."""
    for key, value in event.items():
        if key == "event":
            text = _CONTROL.sub(lambda match: repr(match[0])[1:-1], str(value))
            event[key] = text.replace("\n", "\n    ")
        elif isinstance(value, str) and not value.isprintable():
            event[key] = repr(value)[1:-1]
    return event
