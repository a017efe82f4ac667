"""A real server whose configuration changes: by its file, by SIGHUP, by an admin's call."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.processes import ServerProcess

pytestmark = pytest.mark.model

MODEL = "smollm2-135m"
CAPACITY = "monitoring.server.queue_capacity"
MAX_BATCH = "optimization.batcher.max_batch_size"
MEMORY = "optimization.cache.max_memory_mb"
_POLL_S = 0.05
_PATIENCE_S = 60


def write(path: Path, **changes: object) -> None:
    """Write the file in place, as some editors do."""
    path.write_text(json.dumps(configuration(**changes)))


def configuration(
    capacity: object = 50, batch: object = 8, device: str = "cpu"
) -> dict[str, object]:
    return {
        "monitoring": {"server": {"queue_capacity": capacity}},
        "optimization": {"batcher": {"max_batch_size": batch}, "cache": {"max_memory_mb": 4}},
        "models": {MODEL: {"engines": ["echo"]}},
        "system": {"device": device},
    }


def wait_for(is_so: Callable[[], bool], server: ServerProcess) -> None:
    end_s = time.monotonic() + _PATIENCE_S
    while not is_so():
        assert time.monotonic() < end_s, server.log
        time.sleep(_POLL_S)


def in_force(server: ServerProcess) -> dict[str, Any]:
    options = server.request("GET", "/admin/config").json["options"]
    return {option["path"]: option["value"] for option in options}


def wait_for_values(server: ServerProcess, **values: object) -> None:
    wanted = {{"capacity": CAPACITY, "batch": MAX_BATCH}[name]: one for name, one in values.items()}
    wait_for(lambda: wanted.items() <= in_force(server).items(), server)


def wait_for_log(server: ServerProcess, text: str, count: int = 1) -> None:
    wait_for(lambda: server.log.count(text) >= count, server)


def test_file_signal_and_call_change_a_running_server(
    launch: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    server = launch(config=configuration())
    file = tmp_path / "server-0" / "muai.yaml"
    pid = server.request("GET", "/api/status").json["models"][0]["worker_pid"]

    # An editor that writes in place.
    write(file, capacity=60, batch=5)
    wait_for_values(server, capacity=60, batch=5)
    assert server.request("GET", "/health").json["queue_capacity"] == 60

    # A call, and the file that holds again on SIGHUP.
    reply = server.request("PATCH", "/admin/config", {MAX_BATCH: 3, MEMORY: 2})
    assert reply.status == 200
    told = [(one["path"], one["old"], one["new"]) for one in reply.json["changes"]]
    assert told == [(MAX_BATCH, 5, 3), (MEMORY, 4, 2)]
    model = server.request("GET", "/api/status").json["models"][0]
    assert (model["max_batch_size"], model["kv_target_bytes"]) == (3, 2 << 20)
    server.process.send_signal(signal.SIGHUP)
    wait_for_values(server, batch=5)
    model = server.request("GET", "/api/status").json["models"][0]
    assert model["in_force"]["batcher"]["max_batch_size"] == 5
    assert model["kv_actual_bytes"] == model["kv_target_bytes"] == 4 << 20

    # One option that is not live, and nothing changes.
    write(file, capacity=80, device="auto")
    wait_for_log(server, "because system.device cannot be changed while the server runs")
    assert in_force(server)[CAPACITY] == 60

    history = server.request("GET", "/admin/config").json["history"]
    told = [(one["path"], one["old"], one["new"], one["source"]) for one in history]
    assert told == [
        (MEMORY, 2, 4, "signal"),
        (MAX_BATCH, 3, 5, "signal"),
        (MEMORY, 4, 2, "admin"),
        (MAX_BATCH, 5, 3, "admin"),
        (CAPACITY, 50, 60, "file"),
        (MAX_BATCH, 8, 5, "file"),
    ]
    assert f"configuration changed: {MAX_BATCH} from 5 to 3 by admin" in server.log
    page = server.request("GET", "/metrics").body.decode()
    assert f'config_changes_total{{key="{MAX_BATCH}",source="file"}} 1.0' in page
    model = server.request("GET", "/api/status").json["models"][0]
    assert (model["worker_pid"], model["num_restarts"]) == (pid, 0)


def test_links_are_followed_and_variables_go_first(
    launch: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    # As Kubernetes lays out a ConfigMap: the file is a link into a folder that is a link too.
    for number, values in enumerate([{}, {"capacity": 60, "batch": 5}]):
        (tmp_path / f"..{number}").mkdir()
        write(tmp_path / f"..{number}" / "muai.yaml", **values)
    (tmp_path / "..data").symlink_to("..0")
    (tmp_path / "muai.yaml").symlink_to("..data/muai.yaml")
    server = launch(
        arguments=["--config", str(tmp_path / "muai.yaml")],
        environment={"MUAI_OPT_BATCHER_MAX_SIZE": "6"},
    )
    wait_for_values(server, capacity=50, batch=6)

    (tmp_path / "..next").symlink_to("..1")
    (tmp_path / "..next").rename(tmp_path / "..data")

    wait_for_values(server, capacity=60, batch=6)
    wait_for_log(server, f"{MAX_BATCH} = 5 is not applied, because MUAI_OPT_BATCHER_MAX_SIZE")

    # What is wrong with a call is told as a whole, and a time to drain counts when that begins.
    server.request("PATCH", "/admin/config", {"monitoring.server.graceful_shutdown_timeout": 0})
    reply = server.request(
        "PATCH", "/admin/config", {MAX_BATCH: "many", CAPACITY: 0, "system.device": "cpu", "x.y": 1}
    )

    assert reply.status == 400
    error = reply.json["error"]
    assert error["code"] == "config_change_refused"
    assert error["param"] in {MAX_BATCH, CAPACITY, "system.device", "x.y"}
    for name in (MAX_BATCH, CAPACITY, "system.device", "x.y"):
        assert f"  {name} = " in error["message"]
    assert MEMORY in error["message"]
    assert in_force(server)[CAPACITY] == 60
    assert server.stop() == 0
    assert "running answers have 0 s to finish" in server.log
