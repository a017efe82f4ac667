"""A real Alertmanager, started for tests and asked through its API."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.available import require_program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

PROGRAM = "prometheus-alertmanager"
_TIMEOUT_S = 60
# How often it is asked again; it decides nothing but how soon a test goes on.
_POLL_S = 0.1


class Alertmanager:
    """A running one."""

    def __init__(self, address: str, process: subprocess.Popen[bytes]) -> None:
        self.address = address
        self.url = f"http://{address}"
        self.process = process

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=10) as response:  # noqa: S310 - ours
            body = response.read()
        return json.loads(body) if path.startswith("/api") else body

    def alerts(self) -> list[dict[str, Any]]:
        """What fires there now; what has ended is not listed."""
        found: list[dict[str, Any]] = self.get("/api/v2/alerts")
        return sorted(found, key=lambda alert: sorted(alert["labels"].items()))

    def labels(self) -> list[dict[str, str]]:
        return [alert["labels"] for alert in self.alerts()]

    def wait_until(self, is_so: Callable[[list[dict[str, str]]], bool]) -> list[dict[str, str]]:
        """Ask again until the labels of what fires are as wanted; return them."""
        end_s = time.monotonic() + _TIMEOUT_S
        while not is_so(labels := self.labels()):
            if time.monotonic() > end_s:
                raise AssertionError(f"Alertmanager has {labels}")
            time.sleep(_POLL_S)
        return labels


@contextmanager
def run_alertmanager(
    directory: Path, *, webhook_url: str, address: str = ""
) -> Iterator[Alertmanager]:
    """Start one that notifies the webhook of each alert at once, and of its end."""
    require_program(PROGRAM)
    address = address or _free_address()
    config = directory / "alertmanager.yml"
    # JSON is YAML.
    config.write_text(json.dumps(_settings(webhook_url)))
    with (directory / "alertmanager.log").open("w") as log:
        process = subprocess.Popen(
            [
                PROGRAM,
                f"--config.file={config}",
                f"--storage.path={directory / 'alertmanager'}",
                f"--web.listen-address={address}",
                # Without peers, it would still open a port on every address for them.
                "--cluster.listen-address=",
                "--log.level=warn",
            ],
            stdout=log,
            stderr=log,
        )
        manager = Alertmanager(address, process)
        try:
            _wait_until_up(manager)
            yield manager
        finally:
            manager.stop()


def _free_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


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


def _wait_until_up(manager: Alertmanager) -> None:
    end_s = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            manager.get("/-/ready")
        except (urllib.error.URLError, ConnectionError):
            assert manager.process.poll() is None, "Alertmanager has ended"
            assert time.monotonic() < end_s, "Alertmanager does not answer"
            time.sleep(_POLL_S)
        else:
            return
