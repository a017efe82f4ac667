"""A real Alertmanager, started for tests and asked through its API."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from tests.daemons import Daemon, find_free_address, poll, run_daemon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

PROGRAM = "prometheus-alertmanager"


class Alertmanager(Daemon):
    """A running one."""

    def alerts(self) -> list[dict[str, Any]]:
        """What fires there now; what has ended is not listed."""
        found: list[dict[str, Any]] = self.get("/api/v2/alerts")
        return sorted(found, key=lambda alert: sorted(alert["labels"].items()))

    def labels(self) -> list[dict[str, str]]:
        return [alert["labels"] for alert in self.alerts()]

    def wait_until(self, is_so: Callable[[list[dict[str, str]]], bool]) -> list[dict[str, str]]:
        """Ask again until the labels of what fires are as wanted; return them."""
        return poll(self.labels, is_so, "what fires")


@contextlib.contextmanager
def run_alertmanager(
    directory: Path, *, webhook_url: str, address: str = ""
) -> Iterator[Alertmanager]:
    """Start one that notifies the webhook of each alert at once, and of its end."""
    address = address or find_free_address()
    config = directory / "alertmanager.yml"
    # JSON is YAML.
    config.write_text(json.dumps(_settings(webhook_url)))
    arguments = [
        f"--config.file={config}",
        f"--storage.path={directory / 'alertmanager'}",
        # Without peers, it would still open a port on every address for them.
        "--cluster.listen-address=",
    ]
    with run_daemon(PROGRAM, *arguments, address=address, directory=directory) as process:
        yield Alertmanager(address, process)


def _settings(webhook_url: str) -> Mapping[str, object]:
    return {
        "route": {
            "receiver": "hook",
            "group_by": ["alertname", "model", "engine"],
            "group_wait": "100ms",
            "group_interval": "500ms",
            "repeat_interval": "1h",
        },
        "receivers": [
            {
                "name": "hook",
                "webhook_configs": [{"url": webhook_url, "send_resolved": True}],
            }
        ],
    }
