from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mm_orch.cli.progress import BarProgress, LineProgress, make_progress

if TYPE_CHECKING:
    import pytest


def test_a_log_gets_a_line_for_each_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    progress = LineProgress()
    progress.start("downloading x", 1000)
    for _ in range(100):
        progress.advance(10)
    progress.finish()

    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "downloading x ..."
    assert lines[1:] == [f"downloading x: {percent}%" for percent in range(10, 101, 10)]


def test_large_steps_leave_out_tenths(capsys: pytest.CaptureFixture[str]) -> None:
    progress = LineProgress()
    progress.start("a", 3)
    for _ in range(3):
        progress.advance(1)

    assert capsys.readouterr().err.splitlines() == ["a ...", "a: 30%", "a: 60%", "a: 100%"]


def test_an_unknown_size_is_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    progress = LineProgress()
    progress.start("a", None)
    progress.advance(10**9)
    progress.finish()

    assert capsys.readouterr().err == "a ...\n"


def test_more_than_promised_is_still_a_hundred(capsys: pytest.CaptureFixture[str]) -> None:
    progress = LineProgress()
    progress.start("a", 10)
    progress.advance(25)
    progress.advance(25)

    assert capsys.readouterr().err.splitlines() == ["a ...", "a: 100%"]


def test_a_bar_writes_to_standard_error_and_goes_away(capsys: pytest.CaptureFixture[str]) -> None:
    progress = BarProgress()
    for total in (10, None):
        progress.start("fetching", total)
        progress.advance(10)
        progress.finish()

    captured = capsys.readouterr()
    assert "fetching" in captured.err
    assert captured.out == ""


def test_without_a_terminal_there_is_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    assert capsys.readouterr().err == ""
    assert not sys.stderr.isatty()
    assert isinstance(make_progress(), LineProgress)
