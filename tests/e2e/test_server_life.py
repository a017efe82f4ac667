"""How a server starts, refuses, drains, survives kills and leaves nothing behind."""

from __future__ import annotations

import concurrent.futures
import json
import signal
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.available import require_engine
from tests.processes import ServerProcess, run_cli

if TYPE_CHECKING:
    from collections.abc import Callable

    Launch = Callable[..., ServerProcess]

pytestmark = pytest.mark.model

# Echo answers at once and for as long as asked, so these tests do not depend on speed.
ECHO = {"models": {"smollm2-135m": {"engines": ["echo"]}}}
ENDLESS = {
    "messages": [{"role": "user", "content": "Tell me a long story."}],
    "max_tokens": 7000,
    "ignore_eos": True,
    "stream": True,
}
SHORT = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}


def list_shared_memory() -> set[Path]:
    folder = Path("/dev") / "shm"
    return set(folder.iterdir()) if folder.exists() else set()


def health(server: ServerProcess) -> Any:
    return server.request("GET", "/health").json


def test_the_real_model_answers_and_every_path_says_who_answered(
    server: ServerProcess, default_engine: str
) -> None:
    reply = server.request("POST", "/v1/chat/completions", SHORT, {"X-Request-ID": "mine-1"})

    assert reply.status == 200
    assert reply.headers["x-request-id"] == "mine-1"
    assert reply.headers["x-muai-engine"] == default_engine
    assert reply.headers["x-muai-model"] == "smollm2-135m"
    assert reply.json["choices"][0]["message"]["content"].strip()


def test_sigterm_lets_running_streams_finish_then_exits_with_0(launch: Launch) -> None:
    server = launch()
    with server.open_stream({**ENDLESS, "max_tokens": 100}) as stream:
        events = iter(stream)
        next(events)

        server.process.send_signal(signal.SIGTERM)
        server.wait_until("/ready", 503)

        assert server.request("GET", "/health").status == 200
        refused = server.request("POST", "/v1/chat/completions", SHORT)
        assert refused.status == 503
        assert refused.json["error"]["code"] == "draining"
        assert int(refused.headers["retry-after"]) >= 1
        rest = list(events)
    assert rest[-1] == "[DONE]"
    finish = [json.loads(event)["choices"][0]["finish_reason"] for event in rest[:-1]]
    assert finish[-1] == "length"
    assert server.wait() == 0


def test_a_drain_that_takes_too_long_ends_streams_with_an_error(launch: Launch) -> None:
    server = launch(config={"monitoring": {"server": {"graceful_shutdown_timeout": 0}}})
    with server.open_stream({**ENDLESS, "max_tokens": 4000}) as stream:
        events = iter(stream)
        next(events)

        server.process.send_signal(signal.SIGTERM)
        rest = list(events)

    assert json.loads(rest[-1])["error"]["code"] == "draining"
    assert server.wait() == 0


def test_a_second_signal_ends_the_server_at_once(launch: Launch) -> None:
    server = launch()
    with server.open_stream({**ENDLESS, "max_tokens": 4000}) as stream:
        next(iter(stream))
        workers = server.workers()

        server.process.send_signal(signal.SIGTERM)
        server.wait_until("/ready", 503)
        code = server.stop(signal.SIGTERM)

    assert code == 128 + signal.SIGTERM
    gone, alive = psutil.wait_procs(workers, timeout=5)
    assert not alive, gone


def test_a_killed_server_leaves_no_process_and_no_port(launch: Launch) -> None:
    server = launch()
    with server.open_stream({**ENDLESS, "max_tokens": 4000}) as stream:
        next(iter(stream))
        workers = server.workers()
        shared_memory = list_shared_memory()
        port = int(server.url.rpartition(":")[2])

        server.stop(signal.SIGKILL)

    assert workers
    _, alive = psutil.wait_procs(workers, timeout=5)
    assert not alive
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
    assert list_shared_memory() <= shared_memory
    again = launch(config=ECHO, arguments=["--port", str(port)])
    assert again.request("POST", "/v1/chat/completions", SHORT).status == 200


def test_a_killed_worker_fails_its_requests_and_is_restarted(launch: Launch) -> None:
    # What is tested is the same with each engine; this one starts soonest.
    require_engine("onnx")
    # Nowhere else to go on, and no second try.
    server = launch(
        config={
            "models": {"smollm2-135m": {"engines": ["onnx"]}},
            "orchestration": {"max_failovers": 0},
        }
    )
    with server.open_stream({**ENDLESS, "max_tokens": 4000}) as stream:
        events = iter(stream)
        next(events)
        [worker] = server.workers()

        worker.kill()
        rest = list(events)

    error = json.loads(rest[-1])["error"]
    assert error["code"] == "engine_crashed"
    assert "SIGKILL" in error["message"]
    seen = health(server)
    assert seen["status"] == "degraded"
    assert "smollm2-135m" in seen["degradation_reasons"][0]
    # A new request waits for the restart.
    assert server.request("POST", "/v1/chat/completions", SHORT).status == 200
    assert health(server)["status"] == "healthy"
    [status] = server.request("GET", "/api/status").json["models"]
    assert status["num_restarts"] == 1


def test_over_the_queue_requests_are_refused_at_once_with_retry_after(launch: Launch) -> None:
    server = launch(
        config={
            "optimization": {"batcher": {"max_batch_size": 1}},
            "monitoring": {"server": {"queue_capacity": 2}},
        }
    )
    with server.open_stream({**ENDLESS, "max_tokens": 4000}) as running:
        next(iter(running))
        with server.open_stream(ENDLESS), server.open_stream(ENDLESS):
            while health(server)["queue_size"] < 2:
                pass

            refused = server.request("POST", "/v1/chat/completions", SHORT)

            assert refused.status == 503
            assert refused.json["error"]["code"] == "queue_full"
            assert 1 <= int(refused.headers["retry-after"]) <= 120
            assert server.request("GET", "/ready").status == 503
    # Clients that leave free their places.
    server.wait_until("/ready", 200)
    assert server.request("POST", "/v1/chat/completions", SHORT).status == 200


# Its small form runs in one process, with less patience: tests/integration/test_http_clients.py.
@pytest.mark.long
def test_a_reader_that_stalls_is_dropped_and_its_generation_ends(launch: Launch) -> None:
    server = launch(config=ECHO)
    stalled = socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])))
    stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    body = json.dumps({**ENDLESS, "n": 4, "messages": [{"role": "user", "content": "ab " * 500}]})
    stalled.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body) + body.encode()
    )
    stalled.recv(1)

    # Its places come back although nobody reads and nobody closes.
    reports = iter(lambda: server.request("GET", "/api/status").json, None)
    assert any(report["num_running"] == 0 for report in reports)
    assert server.request("POST", "/v1/chat/completions", SHORT).status == 200
    stalled.close()


def test_a_taken_port_is_refused_with_the_way_out(server: ServerProcess, tmp_path: Path) -> None:
    port = server.url.rpartition(":")[2]

    result = run_cli("--server", "--port", port, directory=tmp_path)

    assert result.returncode == 1
    assert port in result.stderr
    assert "another port" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_taken_metrics_port_degrades_and_does_not_stop(
    server: ServerProcess, launch: Launch
) -> None:
    port = server.metrics_url.partition("//")[2].partition("/")[0].rpartition(":")[2]

    other = launch(config=ECHO, environment={"MUAI_MON_PROMETHEUS_PORT": port})

    report = other.request("GET", "/health")
    assert report.status == 200
    assert report.json["status"] == "degraded"
    assert port in report.json["degradation_reasons"][0]
    assert b"inference_requests_total" in other.request("GET", "/metrics").body


def test_many_requests_at_the_same_time_are_all_answered(server: ServerProcess) -> None:
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        replies = list(
            pool.map(lambda _: server.request("POST", "/v1/chat/completions", SHORT), range(12))
        )

    assert [reply.status for reply in replies] == [200] * 12


def test_a_stop_lets_a_workflow_finish_and_its_turn_is_stored(
    launch: Launch, fresh_data: dict[str, str]
) -> None:
    stored = Path(fresh_data["MUAI_DATA_DIR"]) / "sessions.sqlite3"
    server = launch(environment=fresh_data)
    # Nobody has used any session yet.
    assert not stored.exists()
    begun = server.request(
        "POST", "/api/chat", {"message": "Hi", "preferences": {"max_tokens": 4}}
    ).json
    question = {
        "query": "Count to a thousand.",
        "session_id": begun["session_id"],
        "stream": True,
        "preferences": {"max_tokens": 40},
    }

    with server.open_stream(question, "/api/query") as stream:
        events = (json.loads(data) for data in stream)
        assert "text" in next(event for event in events if "text" in event)
        server.process.send_signal(signal.SIGTERM)
        *_, result = events
    assert server.wait() == 0

    assert (result["status"], result["metadata"]["turn_count"]) == ("success", 2)
    with closing(sqlite3.connect(stored)) as connection:
        [num_turns] = connection.execute(
            "SELECT num_turns FROM sessions WHERE session_id = ?", (begun["session_id"],)
        ).fetchone()
    assert num_turns == 2
