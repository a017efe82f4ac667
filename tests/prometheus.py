"""A real Prometheus, started and ended for tests, and what it answers."""

from __future__ import annotations

import contextlib
import json
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.daemons import Daemon, find_free_address, poll, run_daemon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

JOB = "muai"
"""The job name that the rules and dashboards look for."""


@dataclass(frozen=True, slots=True)
class Found:
    """One series of an answer: its labels, and its values from old to new."""

    labels: Mapping[str, str]
    values: tuple[float, ...]


class Prometheus(Daemon):
    """A running one."""

    def query(self, expression: str) -> list[Found]:
        """Return an instant query's series, one value each."""
        result = self.get("/api/v1/query", query=expression)["data"]["result"]
        return [Found(one["metric"], (float(one["value"][1]),)) for one in result]

    def values(self, expression: str) -> list[float]:
        """Return the values of an instant query alone."""
        return [one.values[0] for one in self.query(expression)]

    def query_range(self, expression: str, *, past_s: float, step_s: float = 1.0) -> list[Found]:
        """Return an expression's series over the last seconds."""
        now_s = time.time()
        window = {"start": now_s - past_s, "end": now_s, "step": step_s}
        result = self.get("/api/v1/query_range", query=expression, **window)["data"]["result"]
        return [
            Found(one["metric"], tuple(float(value) for _, value in one["values"]))
            for one in result
        ]

    def exemplars(self, expression: str, *, past_s: float) -> list[dict[str, str]]:
        """Return the labels of the exemplars that an expression's series had lately."""
        now_s = time.time()
        window = {"start": now_s - past_s, "end": now_s}
        series = self.get("/api/v1/query_exemplars", query=expression, **window)["data"]
        return [exemplar["labels"] for one in series for exemplar in one["exemplars"]]

    def firing_alerts(self) -> set[str]:
        """Return the names of the rules' alerts that fire now."""
        alerts = self.get("/api/v1/alerts")["data"]["alerts"]
        return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}

    def wait_for(self, expression: str, value: float) -> None:
        """Ask again until a scrape has brought one series with this value."""
        self.wait_until(expression, lambda found: found == [value])

    def wait_until(self, expression: str, is_right: Callable[[list[float]], bool]) -> None:
        """Ask again until the values of an expression are right."""
        poll(lambda: self.values(expression), is_right, expression)


def has_data(series: Sequence[Found]) -> bool:
    """Whether there is a number in an answer; what is divided by nothing is none."""
    return any(math.isfinite(value) for one in series for value in one.values)


@contextlib.contextmanager
def run_prometheus(
    directory: Path,
    target: str,
    *,
    rule_files: Sequence[Path] = (),
    alertmanagers: Sequence[str] = (),
    scrape_interval: str = "500ms",
) -> Iterator[Prometheus]:
    """Start Prometheus, wait until it is ready, and end it.

    Args:
        directory: its configuration, data and log lie there.
        target: what it scrapes, as host:port, under /metrics.
        rule_files: evaluated as often as it scrapes.
        alertmanagers: where its alerts go, as host:port.
        scrape_interval: as Prometheus writes it.
    """
    config = directory / "prometheus.yml"
    # JSON is YAML.
    config.write_text(json.dumps(_settings(target, rule_files, alertmanagers, scrape_interval)))
    address = find_free_address()
    arguments = [
        f"--config.file={config}",
        f"--storage.tsdb.path={directory / 'tsdb'}",
        "--enable-feature=exemplar-storage",
    ]
    with run_daemon("prometheus", *arguments, address=address, directory=directory) as process:
        yield Prometheus(address, process)


def _settings(
    target: str, rule_files: Sequence[Path], alertmanagers: Sequence[str], interval: str
) -> dict[str, object]:
    return {
        "global": {
            "scrape_interval": interval,
            "scrape_timeout": interval,
            "evaluation_interval": interval,
        },
        "rule_files": [str(path) for path in rule_files],
        "alerting": {
            "alertmanagers": [{"static_configs": [{"targets": list(alertmanagers)}]}],
        },
        "scrape_configs": [{"job_name": JOB, "static_configs": [{"targets": [target]}]}],
    }
