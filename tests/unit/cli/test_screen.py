"""A terminal that is drawn over: Ctrl-C ends it, whenever it comes."""

from __future__ import annotations

import signal

import pytest

from mm_orch.cli.screen import Screen

_LONG_S = 60


class _Interrupted:
    """Ctrl-C comes while it is finalised; what is raised there is lost."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def test_an_interrupt_ends_what_runs() -> None:
    with Screen(is_coloured=False), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_was_lost_ends_the_next_wait() -> None:
    with Screen(is_coloured=False) as screen:
        _Interrupted()

        with pytest.raises(KeyboardInterrupt):
            screen.wait(_LONG_S)


def test_afterwards_an_interrupt_is_what_it_was() -> None:
    before = signal.getsignal(signal.SIGINT)

    with Screen(is_coloured=False):
        assert signal.getsignal(signal.SIGINT) is not before

    assert signal.getsignal(signal.SIGINT) is before
