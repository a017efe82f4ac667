"""What a test run must have is not passed over in silence."""

from __future__ import annotations

import pytest

from tests.available import needs_program, require_program

ABSENT = "a-program-that-nobody-has"


def test_a_program_that_is_not_there_is_a_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUAI_REQUIRED_PROGRAMS", "another")

    with pytest.raises(pytest.skip.Exception, match=f"{ABSENT} is not installed"):
        require_program(ABSENT)
    assert needs_program(ABSENT).args == (True,)


def test_a_program_that_has_to_be_there_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUAI_REQUIRED_PROGRAMS", f"another,{ABSENT}")

    with pytest.raises(pytest.fail.Exception, match="MUAI_REQUIRED_PROGRAMS names it"):
        require_program(ABSENT)
    assert needs_program(ABSENT).args == (False,)


def test_a_program_that_is_there_is_neither() -> None:
    require_program("bash")

    assert needs_program("bash").args == (False,)
