"""Servers in front of others, as real processes: their configuration, and what they say of it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.processes import ServerProcess

ECHO = {"models": {"smollm2-135m": {"engines": ["echo"]}}}
PATIENCE_S = 60


def front(*endpoints: str, **discovery: object) -> dict[str, object]:
    """Return the configuration of a server in front of these."""
    models = {
        "theirs": {"source": "openai:#smollm2-135m", "endpoints": list(endpoints)},
        **ECHO["models"],
    }
    return {
        "models": models,
        "discovery": {"interval_s": 0.2, **discovery},
        "monitoring": {"server": {"preload_models": ["theirs"]}},
    }


def endpoints_of(server: ServerProcess) -> dict[str, dict[str, Any]]:
    report = server.request("GET", "/health").json
    return {one["address"]: one for one in report["endpoints"].get("theirs", [])}


def wait_for(server: ServerProcess, states: dict[str, str]) -> None:
    """Wait until the servers elsewhere are these, each in this state."""
    pause = threading.Event()
    for _ in range(PATIENCE_S * 20):
        if {url: one["state"] for url, one in endpoints_of(server).items()} == states:
            return
        # Asks again, and decides nothing.
        pause.wait(0.05)
    raise AssertionError(f"{endpoints_of(server)} is not {states}\n{server.log}")


def series(server: ServerProcess, name: str) -> float:
    page = server.request("GET", "/metrics").body.decode()
    lines = [line for line in page.splitlines() if line.startswith(name)]
    return sum(float(line.rpartition(" ")[2]) for line in lines)
