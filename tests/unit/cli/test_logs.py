from __future__ import annotations

import json
import logging
import warnings
from dataclasses import replace
from logging.handlers import RotatingFileHandler
from typing import TYPE_CHECKING, Any

import pytest

from mm_orch.cli.logs import configure_logging
from mm_orch.core.events import RequestStatus
from mm_orch.core.trace import CURRENT, TraceContext
from mm_orch.core.workflow_events import WorkflowFinished
from mm_orch.monitoring.request_log import RequestLogObserver
from tests.unit.monitoring.scripted_events import finished, story

if TYPE_CHECKING:
    from pathlib import Path


def json_lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_json_line_has_the_fields_of_its_call(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "muai.log"
    configure_logging("INFO", path, "json", to_stderr=False)

    logging.getLogger("mm_orch.some").warning("hello %s", "you", extra={"queue_size": 3})

    [line] = json_lines(path)
    assert line.pop("timestamp")
    assert line == {
        "event": "hello you",
        "level": "warning",
        "logger": "mm_orch.some",
        "queue_size": 3,
    }


def test_a_full_file_rolls_over_and_the_five_before_it_are_kept(tmp_path: Path) -> None:
    path, max_file_bytes = tmp_path / "muai.log", 1000
    configure_logging("INFO", path, "json", to_stderr=False, max_file_bytes=max_file_bytes)
    num_lines = 100

    for k in range(num_lines):
        logging.getLogger("mm_orch.some").info("line", extra={"number": k})

    older = [tmp_path / f"muai.log.{age}" for age in (5, 4, 3, 2, 1)]
    assert {*tmp_path.iterdir()} == {path, *older}
    assert max(file.stat().st_size for file in tmp_path.iterdir()) <= max_file_bytes
    numbers = [line["number"] for file in (*older, path) for line in json_lines(file)]
    # The oldest lines are gone; of the others none is lost, doubled or cut.
    assert numbers == list(range(num_lines - len(numbers), num_lines))
    assert len(numbers) < num_lines


def test_a_file_may_have_10_mib(tmp_path: Path) -> None:
    configure_logging("INFO", tmp_path / "muai.log", "json", to_stderr=False)

    [file] = [h for h in logging.getLogger().handlers if isinstance(h, RotatingFileHandler)]
    assert (file.maxBytes, file.backupCount) == (10 * 2**20, 5)


def test_less_severe_lines_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "muai.log"
    configure_logging("WARNING", path, "json", to_stderr=False)

    logging.getLogger("mm_orch.some").info("quiet")

    assert path.read_text() == ""


def test_a_second_call_replaces_the_first(tmp_path: Path) -> None:
    first, second = tmp_path / "1.log", tmp_path / "2.log"
    configure_logging("INFO", first, "json", to_stderr=False)
    configure_logging("INFO", second, "json", to_stderr=False)

    logging.getLogger("x").warning("once")

    assert first.read_text() == ""
    assert len(json_lines(second)) == 1


def test_a_file_that_cannot_be_written_costs_one_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")

    configure_logging("INFO", tmp_path / "file" / "muai.log", "text", to_stderr=True)
    logging.getLogger("x").warning("still here")

    stderr = capsys.readouterr().err
    assert "warning: the log file" in stderr
    assert str(tmp_path / "file" / "muai.log") in stderr
    assert "still here" in stderr


def test_a_disk_that_fills_up_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    from pathlib import Path

    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    configure_logging("INFO", full, "text", to_stderr=False)

    for _ in range(3):
        logging.getLogger("x").warning("lost")

    assert capsys.readouterr().err.count("cannot be written: No space left on device") == 1


def test_a_traceback_shows_no_local_variables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "muai.log"
    configure_logging("INFO", path, "text", to_stderr=True)

    def fail(prompt: str) -> None:
        raise ValueError(len(prompt))

    try:
        fail("a secret " + "prompt")
    except ValueError:
        logging.getLogger("x").exception("it failed")

    for text in (path.read_text(), capsys.readouterr().err):
        assert "Traceback (most recent call last)" in text
        assert "ValueError: 15" in text
        assert "secret prompt" not in text


def test_a_value_cannot_pretend_to_be_a_line(tmp_path: Path) -> None:
    path = tmp_path / "muai.log"
    configure_logging("INFO", path, "text", to_stderr=False)

    logging.getLogger("x").warning(
        "odd\n2026-01-01 [error] \x1b[2J\rforged",
        extra={"request_id": "a\n2026-01-01 [error]\x1b[2J"},
    )

    lines = path.read_text().splitlines()
    assert [line.startswith("    ") for line in lines] == [False, True]
    assert "\x1b" not in path.read_text()


def test_uvicorn_speaks_through_the_same_log(tmp_path: Path) -> None:
    path = tmp_path / "muai.log"
    uvicorn = logging.getLogger("uvicorn")
    uvicorn.addHandler(logging.NullHandler())
    uvicorn.propagate = False

    configure_logging("INFO", path, "json", to_stderr=False)
    logging.getLogger("uvicorn.error").error("from uvicorn")

    assert [line["event"] for line in json_lines(path)] == ["from uvicorn"]


def test_libraries_that_tell_of_every_connection_are_quiet(tmp_path: Path) -> None:
    path = tmp_path / "muai.log"
    configure_logging("DEBUG", path, "json", to_stderr=False)

    logging.getLogger("httpx").info("HTTP Request: GET ...")
    logging.getLogger("mm_orch.x").debug("ours")

    assert [line["event"] for line in json_lines(path)] == ["ours"]


def test_a_warning_of_python_is_a_log_line(tmp_path: Path) -> None:
    path = tmp_path / "muai.log"
    with warnings.catch_warnings():
        configure_logging("INFO", path, "json", to_stderr=False)
        warnings.simplefilter("always")
        warnings.warn("old ways", stacklevel=1)
        logging.captureWarnings(capture=False)

    [line] = json_lines(path)
    assert "old ways" in str(line["event"])


def test_a_request_is_one_line_with_its_facts(tmp_path: Path) -> None:
    path = tmp_path / "muai.log"
    configure_logging("INFO", path, "json", to_stderr=False)
    observer = RequestLogObserver()

    for event in story():
        observer.observe(event)

    success, failure = json_lines(path)
    assert success.pop("timestamp")
    assert success == {
        "event": "request finished",
        "level": "info",
        "logger": "mm_orch.monitoring.request_log",
        "request_id": "r1",
        "model": "small",
        "engine": "pytorch",
        "status": "success",
        "prompt_tokens": 7,
        "generated_tokens": 20,
        "cached_tokens": 3,
        "queue_wait_s": 0.02,
        "ttft_s": 0.3,
        "total_s": 1.5,
        "finish_reasons": "stop",
        "error_type": None,
    }
    assert (failure["level"], failure["error_type"]) == ("warning", "EngineFailedError")


@pytest.mark.parametrize(
    ("fields", "level"),
    [
        ({"status": "success", "is_partial": False}, "info"),
        ({"status": "success", "is_partial": True}, "warning"),
        ({"status": "error", "is_partial": False, "error_type": "EngineFailedError"}, "warning"),
        ({"status": "rejected", "is_partial": False, "error_type": "QueueFullError"}, "info"),
    ],
)
def test_a_run_of_a_workflow_is_one_line_which_warns_of_what_is_missing(
    tmp_path: Path, fields: dict[str, Any], level: str
) -> None:
    path = tmp_path / "muai.log"
    configure_logging("INFO", path, "json", to_stderr=False)

    RequestLogObserver().observe(
        WorkflowFinished(
            request_id="r", workflow="chat_generate", total_s=1.5, caller="alice", **fields
        )
    )

    [line] = json_lines(path)
    assert line.pop("timestamp")
    assert line == {
        "event": "workflow finished",
        "level": level,
        "logger": "mm_orch.monitoring.request_log",
        "request_id": "r",
        "workflow": "chat_generate",
        "caller": "alice",
        "prompt_tokens": 0,
        "generated_tokens": 0,
        "cached_tokens": 0,
        "ttft_s": None,
        "total_s": 1.5,
        "error_type": None,
        **fields,
    }


def test_a_refusal_is_nothing_to_warn_of(tmp_path: Path) -> None:
    path = tmp_path / "muai.log"
    configure_logging("INFO", path, "json", to_stderr=False)

    RequestLogObserver().observe(finished(RequestStatus.REJECTED, error_type="QueueFullError"))

    [line] = json_lines(path)
    assert (line["level"], line["status"]) == ("info", "rejected")


def test_every_line_of_a_traced_request_names_its_trace(tmp_path: Path) -> None:
    path = tmp_path / "muai.log"
    configure_logging("INFO", path, "json", to_stderr=False)
    told = RequestLogObserver()

    token = CURRENT.set(TraceContext(0xABC, 0xDEF, is_sampled=False))
    logging.getLogger("x").warning("within")
    told.observe(replace(finished(), trace=TraceContext(0x123, 0x456, is_sampled=True)))
    CURRENT.reset(token)
    logging.getLogger("x").warning("outside")

    within, request, outside = json_lines(path)
    assert (within["trace_id"], within["span_id"]) == (f"{0xABC:032x}", f"{0xDEF:016x}")
    assert (request["trace_id"], request["span_id"]) == (f"{0x123:032x}", f"{0x456:016x}")
    assert not {"trace_id", "span_id"} & set(outside)
