"""Runs the server, and says where it listens and what it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch import __version__
from mm_orch.cli import terminal
from mm_orch.cli.progress import LineProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mm_orch.config import LoadedConfig
    from mm_orch.server import Listening


def serve(loaded: LoadedConfig, reload: Callable[[], LoadedConfig]) -> int:
    """Serve until a signal; return the exit code.

    Args:
        loaded: the configuration.
        reload: reads file, environment and command line again.

    Raises:
        ServerStartError: the address cannot be bound.
    """
    from mm_orch.server import run_server

    return run_server(loaded, reload=reload, on_listening=_announce, progress=LineProgress())


def _announce(listening: Listening) -> None:
    # The start of the server may be all that its parent wanted to read.
    try:
        for line in announcement(listening):
            terminal.say(line)
    except BrokenPipeError:
        terminal.drop_output()


def announcement(listening: Listening) -> Iterator[str]:
    """Yield the lines that tell of a server's start."""
    yield f"MuAI {__version__} listens on {listening.url}"
    if listening.metrics_url is not None:
        yield f"Metrics: {listening.metrics_url}"
    available = [engine.engine for engine in listening.engines if engine.is_available]
    yield f"Engines: {', '.join(available) or 'none can run here'}"
    for engine in listening.engines:
        if not engine.is_available:
            remedy = f"; {engine.remedy}" if engine.remedy else ""
            yield f"  without {engine.engine}: {engine.reason}{remedy}"
    yield (
        f"Ready for requests; those for {listening.default_model} wait until it is loaded."
        " Ctrl-C stops the server."
    )
