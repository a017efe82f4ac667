from __future__ import annotations

import json
import socket
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest

from mm_orch.cli.status import list_exceptions, print_status
from mm_orch.config import load_config
from mm_orch.core.errors import AuthenticationError
from mm_orch.core.scaling_report import ScalingReport
from mm_orch.core.tuning_report import TunerReport
from mm_orch.orchestration.reports import (
    HealthStatus,
    ModelReport,
    ReplicaReport,
    StandInReport,
)
from mm_orch.workers.phase import ModelPhase
from tests.unit.cli.scripted_server import HIGH_LATENCY, TUNER, model_report, status_report

if TYPE_CHECKING:
    from mm_orch.config import LoadedConfig
    from tests.unit.cli.scripted_server import Script


def loaded_for(port: int, **overrides: object) -> LoadedConfig:
    values = {"monitoring.server.port": port} | {
        key.replace("__", "."): value for key, value in overrides.items()
    }
    return load_config(path=None, environ={}, overrides=values)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.parametrize(
    ("status", "code"),
    [(HealthStatus.HEALTHY, 0), (HealthStatus.DEGRADED, 1), (HealthStatus.UNHEALTHY, 2)],
)
def test_the_exit_code_is_the_servers_health(
    status: HealthStatus, code: int, peer: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    peer.report = status_report(status=status, reasons=("model x is restarting: killed",))

    assert print_status(loaded_for(peer.port), as_json=False) == code
    assert status.value in capsys.readouterr().out


def test_a_servers_status_is_told_in_lines(
    peer: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    peer.report = status_report(
        model_report(), model_report("big", "hf:a/b", None), reasons=("r1",)
    )

    print_status(loaded_for(peer.port), as_json=False)

    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"The server at {peer.url} is healthy (version 0.1.0).",
        "  r1",
        "Up for 12 s; ready for requests",
        "Requests: 3 running, 4 waiting (at most 100), lately 1.25 ended per second",
        "No alert fires",
        "Tuner: off (optimization.tuner.enabled is false)",
        "Engines",
        "  pytorch    can run",
        "  vllm       cannot run: not installed; pip install vllm",
        "Models",
        "  smollm2-135m (default): ready, with pytorch, bf16, on cpu, context 8192, 2 restarts",
        "  big: unloaded, bf16, on cpu, context 8192, 2 restarts",
    ]


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("", "Up for 12 s; not ready for requests"),
        ("the queue is full", "Up for 12 s; not ready for requests: the queue is full"),
    ],
)
def test_a_server_that_is_not_ready_says_why(
    reason: str, said: str, peer: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    peer.report = msgspec.structs.replace(status_report(), is_ready=False, not_ready_because=reason)

    print_status(loaded_for(peer.port), as_json=False)

    assert said in capsys.readouterr().out.splitlines()


def test_a_busy_model_has_its_load_cache_and_memory_and_an_alert_its_reason(
    peer: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    model = msgspec.structs.replace(
        model_report(),
        num_running=3,
        num_waiting=4,
        max_batch_size=32,
        kv_use_ratio=0.125,
        cache_hit_ratio=0.5,
        memory_bytes=1_200_000_000,
        is_draining=True,
        detail="killed by SIGKILL\nlast line of its log",
    )
    report = status_report(model, is_draining=True)
    peer.report = msgspec.structs.replace(report, alerts=(HIGH_LATENCY,))

    print_status(loaded_for(peer.port), as_json=False)

    lines = capsys.readouterr().out.splitlines()
    assert "Up for 12 s; draining, takes no new requests" in lines
    assert lines[lines.index("Alerts") + 1] == (
        "  warning high_latency since 2026-01-02T03:04:05+00:00: smollm2-135m takes 3.1 s"
    )
    assert lines[-2:] == [
        "  smollm2-135m (default): ready, with pytorch, bf16, on cpu, context 8192,"
        " 3 running, 4 waiting, at most 32 in a batch, 12% of KV memory in use,"
        " 50% of prompt tokens reused, 1.2 GB of memory, 2 restarts,"
        " draining, takes no new requests, killed by SIGKILL",
        "    last line of its log",
    ]


def test_a_tuner_is_told_with_what_it_tries_has_decided_and_leaves_alone(
    peer: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    at = (datetime.now(UTC) - timedelta(hours=2, seconds=30)).isoformat(timespec="seconds")
    decision = msgspec.structs.replace(TUNER.decisions[0], at=at)
    tuner = msgspec.structs.replace(TUNER, decisions=(decision,))
    peer.report = msgspec.structs.replace(status_report(), tuner=tuner)

    print_status(loaded_for(peer.port), as_json=False)

    lines = capsys.readouterr().out.splitlines()
    begin = lines.index("Tuner: on, p95 at most 4000 ms")
    assert lines[begin + 1 : begin + 6] == [
        "  in force: max_batch_size 16 (on trial, before 8), batch_timeout_ms 50,"
        " max_memory_mb 4096",
        "  last decision 2 h ago: try: the batch is full while requests wait:"
        " max_batch_size 8 -> 16",
        "  left alone, as the configuration says: batch_timeout_ms",
        "  left alone, as the engine cannot change it: max_memory_mb",
        "Engines",
    ]


def test_a_tuner_is_in_the_json_as_well(peer: Script, capsys: pytest.CaptureFixture[str]) -> None:
    peer.report = msgspec.structs.replace(status_report(), tuner=TUNER)

    print_status(loaded_for(peer.port), as_json=True)

    told = json.loads(capsys.readouterr().out)["tuner"]
    assert msgspec.convert(told, TunerReport) == TUNER


def test_where_nobody_watches_it_does_not_say_that_no_alert_fires(
    peer: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    peer.report = msgspec.structs.replace(status_report(), alerts=None)

    print_status(loaded_for(peer.port), as_json=False)

    lines = capsys.readouterr().out.splitlines()
    assert "Alerts: off (monitoring.enabled or monitoring.anomaly.enabled is false)" in lines
    assert "No alert fires" not in lines


@pytest.mark.parametrize(
    ("actual_mb", "says"), [(4, ""), (9, ", KV memory bounded to 4 MiB, 9 MiB still taken")]
)
def test_what_is_in_force_and_what_is_still_taken_is_told(
    actual_mb: int, says: str, peer: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    peer.report = status_report(
        msgspec.structs.replace(
            model_report(),
            num_restarts=0,
            max_batch_size=7,
            kv_target_bytes=4 << 20,
            kv_actual_bytes=actual_mb << 20,
        )
    )

    print_status(loaded_for(peer.port), as_json=False)

    line = capsys.readouterr().out.splitlines()[-1]
    assert line.endswith(f"context 8192, at most 7 in a batch{says}")


def test_what_is_out_of_the_ordinary_has_lines_below_its_model(
    peer: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    model = msgspec.structs.replace(
        model_report(engine="openvino"),
        wanted_engine="vllm",
        fallback_reason="its worker ended, by SIGKILL",
        circuits={"vllm": "open", "openvino": "closed", "pytorch": "closed"},
        stand_in=StandInReport(phase=ModelPhase.READY, engine="pytorch", dtype="bf16"),
    )
    peer.report = status_report(model)

    print_status(loaded_for(peer.port), as_json=False)

    assert capsys.readouterr().out.splitlines()[-3:] == [
        "    in place of vllm: its worker ended, by SIGKILL",
        "    vllm failed; its circuit is open",
        "    stand-in for requests that openvino cannot do: ready, with pytorch, bf16",
    ]


@pytest.mark.parametrize(
    ("scaling", "says"),
    [
        (
            ScalingReport(least=1, most=4),
            "1 to 4 replicas follow the load; nothing was decided yet",
        ),
        (
            ScalingReport(
                least=1,
                most=4,
                direction="up",
                count=2,
                rationale="8.0 requests wait 4.0 s each",
                at="2026-01-02T12:00:00+00:00",
            ),
            "1 to 4 replicas follow the load: 2 (up) since 2026-01-02T12:00:00+00:00, 8.0 requests"
            " wait 4.0 s each",
        ),
    ],
)
def test_replicas_that_follow_the_load_are_told_with_the_last_decision(
    scaling: ScalingReport, says: str, peer: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    peer.report = status_report(msgspec.structs.replace(model_report(), scaling=scaling))
    print_status(loaded_for(peer.port), as_json=False)
    assert says in capsys.readouterr().out


def test_the_place_of_a_model_on_gpus_is_told() -> None:
    def told(*gpus: tuple[int, ...], lesser: str = "") -> list[str]:
        replicas = tuple(
            ReplicaReport(number=number, phase=ModelPhase.READY, gpus=of_one)
            for number, of_one in enumerate(gpus)
        )
        model = ModelReport(
            name="m",
            aliases=(),
            source="s",
            phase=ModelPhase.READY,
            replicas=replicas,
            lesser_place=lesser,
        )
        return list(list_exceptions(model))

    assert told(()) == []
    assert told((0, 3)) == ["GPUs 0, 3"]
    assert told((1,), lesser="runs with vllm on 1 GPU") == ["GPU 1", "runs with vllm on 1 GPU"]
    assert told((1,), (2,)) == [
        "replica 0: ready, GPU 1, 0 tokens queued",
        "replica 1: ready, GPU 2, 0 tokens queued",
    ]


def test_a_servers_status_as_json_is_its_report(
    peer: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    print_status(loaded_for(peer.port), as_json=True)

    values = json.loads(capsys.readouterr().out)
    assert values["server"] == peer.url
    assert values["health"]["status"] == "healthy"
    assert values["models"][0]["phase"] == "ready"
    assert values["num_running"] == 3


def test_a_server_that_wants_a_key_is_no_missing_server(peer: Script) -> None:
    peer.key = "k1"

    with pytest.raises(AuthenticationError, match="refuses the key"):
        print_status(loaded_for(peer.port), as_json=False)


def test_without_a_server_each_engine_has_its_reason(
    capsys: pytest.CaptureFixture[str], default_engine: str
) -> None:
    port = free_port()
    loaded = loaded_for(port)

    code = print_status(loaded, as_json=False)

    out = capsys.readouterr().out
    assert code == 0
    assert out.startswith(f"No server answers on 127.0.0.1:{port}. This machine could run:")
    assert "  pytorch    can run" in out
    assert "  vllm       cannot run: " in out
    assert f"  smollm2-135m (default): with {default_engine}" in out


def test_without_a_server_json_says_null(
    capsys: pytest.CaptureFixture[str], default_engine: str
) -> None:
    code = print_status(loaded_for(free_port()), as_json=True)

    values = json.loads(capsys.readouterr().out)
    assert code == 0
    assert values["server"] is None
    assert {engine["engine"] for engine in values["engines"]} >= {"pytorch", "vllm"}
    assert values["models"] == [{"name": "smollm2-135m", "engine": default_engine}]


def test_a_machine_without_an_engine_cannot_serve(capsys: pytest.CaptureFixture[str]) -> None:
    loaded = loaded_for(free_port(), **{"models.smollm2-135m.engines": ["vllm"]})

    assert print_status(loaded, as_json=False) == 2
    assert "no engine can run it here" in capsys.readouterr().out


def test_a_machine_that_runs_some_models_is_degraded() -> None:
    loaded = loaded_for(
        free_port(),
        **{"models.other.source": "hf:a/b", "models.other.engines": ["vllm"]},
    )

    assert print_status(loaded, as_json=False) == 1


def test_the_engine_for_tests_counts_where_it_is_configured() -> None:
    loaded = loaded_for(free_port(), **{"models.smollm2-135m.engines": ["echo"]})

    assert print_status(loaded, as_json=False) == 0
