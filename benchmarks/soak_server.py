"""The server of a soak: three models, all its counts and its log."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.contenders import our_server
from benchmarks.server_calls import call
from benchmarks.soak_book import ServerCounts
from benchmarks.soak_mix import EMBED, ROUGH, STEADY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from benchmarks.contenders import Contender
    from mm_orch.models.stored import StoredModel

_CONTEXT_LENGTH = 1024
_CACHE_MB = 48
_MAX_BATCH_SIZE = 8
_LOG = "muai.log"
_FINISHED = '"request finished"'
_ENDED = "inference_requests"
_EXCHANGES = "http_requests"
_IN_FLIGHT = ("requests_running", "requests_waiting")
_V1 = "/v1/"


@dataclasses.dataclass(slots=True)
class SoakServer:
    """What to start, and where its files are once it is started.

    Args:
        model: answers as STEADY and as ROUGH, in a worker each.
        embedding_model: answers as EMBED.
        metrics_port: where its metrics are, too.
    """

    model: StoredModel
    embedding_model: StoredModel
    metrics_port: int
    _folder: Path | None = None

    @property
    def folder(self) -> Path:
        """Where its configuration and its log are."""
        if self._folder is None:
            message = "the server was not started yet"
            raise RuntimeError(message)
        return self._folder

    @property
    def config(self) -> Path:
        """Its configuration, of JSON."""
        return self.folder / "muai.yaml"

    def contender(self) -> Contender:
        """Return how it is started."""
        generating = {
            "source": f"path:{self.model.directory}",
            "dtype": "bf16",
            "context_length": _CONTEXT_LENGTH,
        }
        embedding = {"source": f"path:{self.embedding_model.directory}", "task": "embed"}
        made = our_server(
            "ours",
            model=STEADY,
            model_settings=generating,
            other_models={ROUGH: generating, EMBED: embedding},
            optimization={
                "engine_preference": ["pytorch"],
                "batcher": {"max_batch_size": _MAX_BATCH_SIZE},
                # Full before it is measured, so that it does not look like a leak.
                "cache": {"max_memory_mb": _CACHE_MB},
            },
            precision="bf16",
            note="pytorch",
            monitoring={"prometheus": {"enabled": True, "port": self.metrics_port}},
            has_log_file=True,
        )
        return dataclasses.replace(made, command=self._noting(made.command))

    def read_counts(self, port: int, see: Callable[[str], None]) -> ServerCounts:
        """Return what it has counted; tell of each request id in its log."""
        num_lines = 0
        for request_id in self._finished():
            num_lines += 1
            see(request_id)
        page = call(port, "GET", "/metrics").body.decode()
        return counts_of(page, num_log_lines=num_lines)

    def _noting(
        self, command: Callable[[int, Path], Sequence[str]]
    ) -> Callable[[int, Path], Sequence[str]]:
        def note(port: int, folder: Path) -> Sequence[str]:
            self._folder = folder
            return command(port, folder)

        return note

    def _finished(self) -> Iterator[str]:
        """Yield the id of each request whose end is in the log or in one that it took over from."""
        for path in self.folder.glob(f"{_LOG}*"):
            with path.open() as lines:
                for line in lines:
                    if _FINISHED in line:
                        yield str(json.loads(line)["request_id"])


def counts_of(page: str, *, num_log_lines: int) -> ServerCounts:
    """Read a page of metrics.

    Args:
        page: as Prometheus reads it.
        num_log_lines: requests that ended, by the log.
    """
    num_exchanges = num_ended = num_in_flight = 0.0
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            route = sample.labels.get("route", "")
            if family.name == _EXCHANGES and route.startswith(_V1):
                num_exchanges += sample.value
            elif family.name == _ENDED:
                num_ended += sample.value
            elif family.name in _IN_FLIGHT:
                num_in_flight += sample.value
    return ServerCounts(
        num_exchanges=int(num_exchanges),
        num_ended=int(num_ended),
        num_in_flight=int(num_in_flight),
        num_log_lines=num_log_lines,
    )
