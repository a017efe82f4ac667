"""Follows the server's status until it is interrupted, whether the server is there or not."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from mm_orch.cli import configuration, terminal
from mm_orch.cli.live_view import Missing, Present, lay_out
from mm_orch.cli.remote import locate_server
from mm_orch.cli.screen import Screen
from mm_orch.cli.styled import to_text
from mm_orch.core.errors import NoServerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from mm_orch.cli.live_view import Look
    from mm_orch.cli.remote import RunningServer
    from mm_orch.config import LoadedConfig

# For a file or a pipe, which have none of their own.
_WIDTH = 120


def watch_status(loaded: LoadedConfig, *, interval_s: float, as_json: bool) -> NoReturn:
    """Show the status every so many seconds: in place in a terminal, else one after the other.

    Raises:
        KeyboardInterrupt: the only way to end it.
        AuthenticationError: the server refuses the key.
        NoServerError: its address is not known.
    """
    server = locate_server(loaded.config)
    if server is None:
        raise NoServerError(
            "A server on port 0 takes a free port, which cannot be known here.",
            remedy="Give the port that it printed with --port.",
        )
    observer = Observer(server)
    if as_json:
        _follow(observer, _print_json, _sleep, interval_s)
    if not (terminal.is_shown() and configuration.is_cursor_movable()):
        _follow(observer, _print_block, _sleep, interval_s)
    with Screen(is_coloured=configuration.is_colour_wanted()) as screen:
        _follow(
            observer,
            lambda look: screen.draw(lay_out(look, screen.size.columns)),
            screen.wait,
            interval_s,
        )


class Observer:
    """Looks at one server, and remembers since when it is missing."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._missing_since: datetime | None = None
        self._after: float | None = None

    def look(self) -> Look:
        """Ask the server for all that is shown; some milliseconds, or seconds where it hangs.

        Raises:
            AuthenticationError: it refuses the key.
        """
        at = datetime.now().astimezone()
        problem = ""
        try:
            # Asked each time: who listens there now is not shown the key before it is known.
            if self._server.is_ours():
                return self._read(at)
        except NoServerError as error:
            problem = str(error)
        self._missing_since = self._missing_since or at
        self._after = None
        return Missing(place=self._server.place, at=at, since=self._missing_since, problem=problem)

    def _read(self, at: datetime) -> Present:
        status = self._server.status()
        figures = self._server.figures(self._after)
        if figures is not None and figures.history.points:
            # The charts' half hour is not shown: from now on, the last point is enough.
            last = figures.history.points[-1]
            self._after = last.at - figures.history.interval_seconds / 2
            history = msgspec.structs.replace(figures.history, points=(last,))
            figures = msgspec.structs.replace(figures, history=history)
        self._missing_since = None
        return Present(place=self._server.place, at=at, status=status, figures=figures)


def _follow(
    observer: Observer,
    show: Callable[[Look], None],
    pause: Callable[[float], bool],
    interval_s: float,
) -> NoReturn:
    """Look and show at once and then every so many seconds.

    Args:
        observer: looks.
        show: takes a look; some of them again, when what they are shown on has changed.
        pause: waits for at most so many seconds; True when the last look is to be shown again.
        interval_s: between the beginnings of looks.
    """
    while True:
        end_s = time.monotonic() + interval_s
        look = observer.look()
        show(look)
        while pause(end_s - time.monotonic()):
            show(look)


def _sleep(seconds: float) -> bool:
    time.sleep(max(seconds, 0))
    return False


def _print_block(look: Look) -> None:
    terminal.say(f"{look.at:%Y-%m-%d %H:%M:%S%z}")
    for line in lay_out(look, _WIDTH):
        terminal.say(to_text(line))
    terminal.say("")


def _print_json(look: Look) -> None:
    values: dict[str, object] = {"at": look.at.isoformat(timespec="seconds")}
    match look:
        case Present():
            values |= {"server": look.place, **msgspec.to_builtins(look.status)}
            values["metrics"] = msgspec.to_builtins(look.figures)
        case Missing():
            values |= {"server": None, "waiting_for": look.place}
            values |= {"since": look.since.isoformat(timespec="seconds"), "problem": look.problem}
    terminal.say(msgspec.json.encode(values).decode())
