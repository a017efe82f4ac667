"""Prints how the running server is, or, without one, what this machine could run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from mm_orch.cli import exit_codes, terminal
from mm_orch.cli.remote import find_server
from mm_orch.cli.tuner_words import TUNER_OFF, list_values, name_target, tell_notes
from mm_orch.cli.words import name_duration, name_size
from mm_orch.orchestration.reports import HealthStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mm_orch.config import Config, LoadedConfig
    from mm_orch.core.observations import FiringAlert
    from mm_orch.core.scaling_report import ScalingReport
    from mm_orch.core.tuning_report import TunerReport
    from mm_orch.optimization.engines.contract import Availability
    from mm_orch.orchestration.reports import ModelReport, ReplicaReport, StatusReport

ALERTS_OFF = "off (monitoring.enabled or monitoring.anomaly.enabled is false)"
"""What is said of alerts where nothing watches for trouble."""

_CODE_BY_STATUS = {
    HealthStatus.HEALTHY: exit_codes.DONE,
    HealthStatus.DEGRADED: exit_codes.DEGRADED,
    HealthStatus.UNHEALTHY: exit_codes.CANNOT_SERVE,
}


def print_status(loaded: LoadedConfig, *, as_json: bool) -> int:
    """Print the status; return 0 for healthy, 1 for degraded, 2 when nothing can serve.

    Raises:
        AuthenticationError, NoServerError: a server of ours is there and gives no status.
    """
    config = loaded.config
    server = find_server(config)
    if server is not None:
        report = server.status()
        if as_json:
            terminal.say_json({"server": server.place, **msgspec.to_builtins(report)})
        else:
            _print_lines(_report_lines(server.place, report))
        return _CODE_BY_STATUS[report.health.status]
    from mm_orch.optimization.registry import probe_engines

    machine = Machine(config, probe_engines(config.python_by_engine))
    if as_json:
        terminal.say_json({"server": None, **machine.as_json()})
    else:
        _print_lines(_machine_lines(config, machine))
    return machine.exit_code


class Machine:
    """What could run here: each model with the engine that would be taken for it."""

    def __init__(self, config: Config, engines: Sequence[Availability]) -> None:
        from mm_orch.optimization.registry import probe_engine

        self.engines = engines
        available = {engine.engine for engine in engines if engine.is_available}
        pythons = config.python_by_engine
        self.engine_by_model = {
            name: next(
                (
                    engine
                    for engine in config.engines_for(name)
                    # Engines for tests are probed only where the configuration names them.
                    if (engine in available and model.task == "generate")
                    or probe_engine(engine, model.task, python=pythons.get(engine, "")).is_available
                ),
                None,
            )
            for name, model in config.models.items()
        }

    @property
    def exit_code(self) -> int:
        """Healthy when every model has an engine, degraded when only some have."""
        able = [engine is not None for engine in self.engine_by_model.values()]
        if all(able):
            return exit_codes.DONE
        return exit_codes.DEGRADED if any(able) else exit_codes.CANNOT_SERVE

    def as_json(self) -> dict[str, object]:
        """Return the same as plain values."""
        return {
            "engines": msgspec.to_builtins(tuple(self.engines)),
            "models": [
                {"name": name, "engine": engine} for name, engine in self.engine_by_model.items()
            ],
        }


def engine_lines(engines: Iterable[Availability]) -> Iterator[str]:
    """Yield a line an engine: whether it can run, else why not and what would help."""
    for engine in engines:
        if engine.is_available:
            yield f"  {engine.engine:<10} can run{f' ({engine.reason})' if engine.reason else ''}"
        else:
            remedy = f"; {engine.remedy}" if engine.remedy else ""
            yield f"  {engine.engine:<10} cannot run: {engine.reason}{remedy}"


def _machine_lines(config: Config, machine: Machine) -> Iterator[str]:
    server = config.monitoring.server
    yield f"No server answers on {server.host}:{server.port}. This machine could run:"
    yield "Engines"
    yield from engine_lines(machine.engines)
    yield "Models"
    for name, engine in machine.engine_by_model.items():
        default = " (default)" if name == config.default_model_name else ""
        yield f"  {name}{default}: {f'with {engine}' if engine else 'no engine can run it here'}"
    yield "Start the server with: muai --server"


def _report_lines(place: str, report: StatusReport) -> Iterator[str]:
    health = report.health
    yield f"The server at {place} is {health.status.value} (version {health.version})."
    for reason in health.degradation_reasons:
        yield f"  {reason}"
    yield f"Up for {name_duration(health.uptime_seconds)}; {name_readiness(report)}"
    rate = report.requests_per_second
    yield (
        f"Requests: {report.num_running} running, {report.num_waiting} waiting"
        f" (at most {health.queue_capacity})"
        + (f", lately {rate:.2f} ended per second" if rate is not None else "")
    )
    yield from _alert_lines(report.alerts)
    yield from _tuner_lines(report.tuner, datetime.now(UTC))
    yield "Engines"
    yield from engine_lines(report.engines)
    yield "Models"
    for model in report.models:
        yield _model_line(model, is_default=model.name == report.default_model)
        yield from (f"    {line}" for line in model.detail.splitlines()[1:])
        yield from (f"    {line}" for line in list_exceptions(model))


def _alert_lines(alerts: tuple[FiringAlert, ...] | None) -> Iterator[str]:
    if alerts is None:
        yield f"Alerts: {ALERTS_OFF}"
        return
    yield "Alerts" if alerts else "No alert fires"
    for alert in alerts:
        yield f"  {alert.severity} {alert.alert_type} since {alert.since}: {alert.message}"


def _tuner_lines(tuner: TunerReport | None, at: datetime) -> Iterator[str]:
    if tuner is None:
        yield f"Tuner: {TUNER_OFF}"
        return
    yield f"Tuner: on, {name_target(tuner)}"
    yield f"  in force: {', '.join(list_values(tuner))}"
    yield from (f"  {note}" for note in tell_notes(tuner, at))


def name_readiness(report: StatusReport) -> str:
    """Return whether requests are taken, in a few words."""
    if report.is_draining:
        return "draining, takes no new requests"
    if report.is_ready:
        return "ready for requests"
    reason = f": {report.not_ready_because}" if report.not_ready_because else ""
    return f"not ready for requests{reason}"


def _model_line(model: ModelReport, *, is_default: bool) -> str:
    facts = [
        model.engine and f"with {model.engine}",
        model.dtype,
        model.device and f"on {model.device}",
        model.context_length and f"context {model.context_length}",
        model.dimensions and f"{model.dimensions} dimensions",
        (model.num_running or model.num_waiting)
        and f"{model.num_running} running, {model.num_waiting} waiting",
        model.max_batch_size and f"at most {model.max_batch_size} in a batch",
        model.kv_use_ratio is not None and f"{model.kv_use_ratio:.0%} of KV memory in use",
        model.cache_hit_ratio is not None
        and f"{model.cache_hit_ratio:.0%} of prompt tokens reused",
        _describe_excess(model),
        model.memory_bytes and f"{name_size(model.memory_bytes)} of memory",
        model.num_restarts and f"{model.num_restarts} restart{'s' * (model.num_restarts > 1)}",
        model.is_draining and "draining, takes no new requests",
        model.short_detail,
    ]
    listed = ", ".join(str(fact) for fact in facts if fact)
    default = " (default)" if is_default else ""
    return f"  {model.name}{default}: {model.phase.value}{f', {listed}' if listed else ''}"


def list_exceptions(model: ModelReport) -> Iterator[str]:
    """Yield what is not told of every model: fallbacks, failed engines, servers, replicas."""
    if model.wanted_engine:
        yield f"in place of {model.wanted_engine}: {model.fallback_reason}"
    for engine, state in model.circuits.items():
        if state != "closed":
            yield f"{engine} failed; its circuit is {state}"
    for endpoint in model.endpoints:
        if endpoint.state != "ready":
            why = f": {endpoint.detail}" if endpoint.detail else ""
            yield f"server {endpoint.address} is {endpoint.state}{why}"
    if (stand_in := model.stand_in) is not None:
        facts = [
            stand_in.engine and f"with {stand_in.engine}",
            stand_in.dtype,
            stand_in.memory_bytes and f"{name_size(stand_in.memory_bytes)} of memory",
            stand_in.detail.partition("\n")[0],
        ]
        listed = ", ".join(str(fact) for fact in facts if fact)
        does = f"requests that {model.engine} cannot do"
        yield f"stand-in for {does}: {stand_in.phase.value}{f', {listed}' if listed else ''}"
    yield from _list_places(model)


def _list_places(model: ModelReport) -> Iterator[str]:
    if len(model.replicas) > 1:
        yield from map(_describe_replica, model.replicas)
    else:
        yield from (_name_gpus(one) for one in model.replicas if one.gpus)
    if (scaling := model.scaling) is not None:
        yield _describe_scaling(scaling)
    if model.lesser_place:
        yield model.lesser_place
    if model.replicas_detail:
        yield (
            f"{len(model.replicas)} of {model.num_wanted_replicas} replicas:"
            f" {model.replicas_detail}"
        )


def _describe_replica(replica: ReplicaReport) -> str:
    hit_ratio = replica.cache_hit_ratio
    facts = [
        "draining" if replica.is_draining else "",
        replica.engine and f"with {replica.engine}",
        replica.cores and f"cores {', '.join(map(str, replica.cores))}",
        replica.gpus and _name_gpus(replica),
        f"{replica.num_queued_tokens} tokens queued",
        None if hit_ratio is None else f"cache hits {hit_ratio:.0%}",
        replica.detail.partition("\n")[0],
    ]
    listed = ", ".join(str(fact) for fact in facts if fact)
    return f"replica {replica.number}: {replica.phase.value}, {listed}"


def _describe_scaling(scaling: ScalingReport) -> str:
    follows = f"{scaling.least} to {scaling.most} replicas follow the load"
    if scaling.count is None:
        return f"{follows}; nothing was decided yet"
    return (
        f"{follows}: {scaling.count} ({scaling.direction}) since {scaling.at}, {scaling.rationale}"
    )


def _name_gpus(replica: ReplicaReport) -> str:
    return f"GPU{'s' * (len(replica.gpus) > 1)} {', '.join(map(str, replica.gpus))}"


def _describe_excess(model: ModelReport) -> str:
    target, actual = model.kv_target_bytes or 0, model.kv_actual_bytes or 0
    if actual <= target:
        return ""
    return f"KV memory bounded to {target >> 20} MiB, {actual >> 20} MiB still taken"


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        terminal.say(line)
