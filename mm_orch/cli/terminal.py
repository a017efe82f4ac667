"""What reads from and writes to the terminal, pipes included."""

from __future__ import annotations

import io
import os
import stat
import sys

PROGRAM = "muai"


def prepare_streams() -> None:
    """Let no character that a terminal cannot show, or a pipe cannot mean, end the program."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def say(text: str) -> None:
    """Print a line of the result on standard output, at once."""
    print(text, flush=True)


def say_json(values: object) -> None:
    """Print plain values as one indented JSON document."""
    import msgspec

    say(msgspec.json.format(msgspec.json.encode(values), indent=2).decode())


def say_piece(text: str) -> None:
    """Print a part of a line on standard output, at once."""
    print(text, end="", flush=True)


def complain(text: str) -> None:
    """Print what went wrong on standard error."""
    print(f"{PROGRAM}: {text}", file=sys.stderr, flush=True)


def remark(text: str) -> None:
    """Print something about the run, not its result, on standard error."""
    print(text, file=sys.stderr, flush=True)


def is_input_piped() -> bool:
    """Whether standard input is a pipe or a file, so that it may hold the query."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, ValueError):
        # None, closed, or replaced by something that is no file.
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


def read_input() -> str:
    """Read standard input to its end."""
    return "" if sys.stdin is None else sys.stdin.read()


def is_interactive() -> bool:
    """Whether a person types the input."""
    return sys.stdin is not None and sys.stdin.isatty()


def is_shown() -> bool:
    """Whether the output goes to a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()


def drop_output() -> None:
    """Send the rest of standard output nowhere: its reader has gone, or it cannot be written."""
    # What is still buffered would fail again when the interpreter flushes it on leaving.
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, sys.stdout.fileno())
    os.close(sink)
