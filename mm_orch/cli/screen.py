"""A whole terminal that is drawn over and over, and left as it was found."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from typing import TYPE_CHECKING

from mm_orch.cli import terminal
from mm_orch.cli.styled import Piece, Tone, to_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType, TracebackType
    from typing import Self

    from mm_orch.cli.styled import Line

# Control sequences of xterm, which every terminal of today takes.
_ENTER = "\x1b[?1049h\x1b[?25l"  # the alternate screen, without cursor
_LEAVE = "\x1b[?25h\x1b[?1049l"
_HOME = "\x1b[H"
_CLEAR_REST_OF_LINE = "\x1b[K"
_CLEAR_BELOW = "\x1b[J"
_FALLBACK_SIZE = os.terminal_size((80, 24))
_SIGNAL_BYTES = 64


class Screen:
    """The alternate screen of standard output, for as long as the context lasts.

    Whatever ends it gives the terminal back: an exception, Ctrl-C, SIGTERM; while Ctrl-Z stops the
    program too. To be used in the main thread.
    """

    def __init__(self, *, is_coloured: bool) -> None:
        self._is_coloured = is_coloured
        self._old_handlers: dict[signal.Signals, signal._HANDLER] = {}
        self._old_wakeup_fd = -1
        self._is_interrupted = False

    def __enter__(self) -> Self:
        # A signal writes its number there, so that waiting ends at once.
        self._woken, self._waker = socket.socketpair()
        for end in (self._woken, self._waker):
            end.settimeout(0)
        self._old_wakeup_fd = signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number, handler in (
            (signal.SIGINT, self._interrupt),
            (signal.SIGWINCH, _do_nothing),
            (signal.SIGTERM, _end),
            (signal.SIGTSTP, _do_nothing),
        ):
            self._old_handlers[number] = signal.signal(number, handler)
        terminal.say_piece(_ENTER)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        terminal.say_piece(_LEAVE)
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_wakeup_fd)
        self._woken.close()
        self._waker.close()

    @property
    def size(self) -> os.terminal_size:
        """Columns and lines, as they are now."""
        size = os.get_terminal_size(sys.stdout.fileno())
        # Some terminals do not know their own.
        return size if size.columns and size.lines else _FALLBACK_SIZE

    def draw(self, lines: Sequence[Line]) -> None:
        """Show these lines in place of the last ones; what has no room is counted."""
        size = self.size
        if len(lines) > size.lines:
            kept = lines[: size.lines - 1]
            text = f"{len(lines) - len(kept)} more lines: make the window taller"
            lines = [*kept, (Piece(text, Tone.FAINT),)]
        texts = (to_text(line, size.columns, is_coloured=self._is_coloured) for line in lines)
        # Over the old ones and in one piece: clearing first would flicker. A line's rest is cleared
        # before it is written, as a full line leaves the cursor on its last character.
        drawn = "\r\n".join(f"{_CLEAR_REST_OF_LINE}{text}" for text in texts)
        below = f"\r\n{_CLEAR_BELOW}" if len(lines) < size.lines else ""
        terminal.say_piece(f"{_HOME}{drawn}{below}")

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until a signal comes; return whether one came, so as to draw again.

        Raises:
            KeyboardInterrupt: of a Ctrl-C, also of an earlier one that was lost.
        """
        if self._is_interrupted:
            raise KeyboardInterrupt
        ready, _, _ = select.select([self._woken], [], [], max(seconds, 0))
        if not ready:
            return False
        if signal.SIGTSTP in self._woken.recv(_SIGNAL_BYTES):
            self._stop()
        return True

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        # Raised while an object is finalised, it is lost: the interpreter has nobody to tell.
        self._is_interrupted = True
        raise KeyboardInterrupt

    def _stop(self) -> None:
        terminal.say_piece(_LEAVE)
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        # Returns when the program is continued.
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, handler)
        terminal.say_piece(_ENTER)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    """Be there: without a handler, nothing is told of the signal."""


def _end(number: int, _frame: FrameType | None) -> None:
    # As a shell names the end by a signal.
    raise SystemExit(128 + number)
