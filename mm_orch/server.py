"""Runs the HTTP server: binds, serves, and on a signal lets running answers finish."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import uvicorn

from mm_orch.api.application import Insight, create_application, create_metrics_application
from mm_orch.api.settings import ApiKey, ApiSettings
from mm_orch.app import make_tuner, open_runtime
from mm_orch.core.errors import ServerStartError
from mm_orch.core.heap import settle
from mm_orch.live.following import FileFollower

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mm_orch.app import Runtime
    from mm_orch.config import LoadedConfig
    from mm_orch.models.progress import Progress
    from mm_orch.optimization.engines.contract import Availability
    from mm_orch.tuning.loop import Tuner

logger = logging.getLogger(__name__)

_BACKLOG = 2048
# The kernel drops a connection whose peer has taken nothing for so long: a reader that stalls
# costs one socket buffer for a minute, not for ever.
_UNREAD_TIMEOUT_MS = 60_000
# After the drain only error chunks are left to be written.
_CLOSING_S = 3
_INTERRUPTED_EXIT_CODE = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where the server can be reached, and what it has; told once, before models are loaded."""

    url: str
    metrics_url: str | None
    engines: tuple[Availability, ...]
    default_model: str


def run_server(
    loaded: LoadedConfig,
    *,
    reload: Callable[[], LoadedConfig],
    on_listening: Callable[[Listening], None] | None = None,
    progress: Progress | None = None,
) -> int:
    """Serve until a signal; return the exit code.

    SIGHUP, and a changed configuration file, have the configuration read again. SIGTERM and SIGINT
    drain: running answers have ``server.graceful_shutdown_timeout`` seconds to finish. A second
    signal ends the process at once.

    Args:
        loaded: the configuration.
        reload: reads file, environment and command line again.
        on_listening: told where the server can be reached.
        progress: told about downloads.

    Raises:
        ServerStartError: the address cannot be bound.
    """
    server = loaded.config.monitoring.server
    listener = _bind(server.host, server.port, option="--port, or monitoring.server.port")
    with contextlib.closing(listener), asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(loaded, reload, listener, on_listening, progress))


async def _serve(
    loaded: LoadedConfig,
    reload: Callable[[], LoadedConfig],
    listener: socket.socket,
    on_listening: Callable[[Listening], None] | None,
    progress: Progress | None,
) -> int:
    config = loaded.config
    async with (
        open_runtime(config, progress=progress, is_server=True, origins=loaded.origins) as runtime,
        asyncio.TaskGroup() as tasks,
    ):
        stop = _watch_signals()
        following = _follow_file(FileFollower(runtime.live, loaded, reload), tasks)
        tuner = make_tuner(runtime)
        lasting = [*following, *_start_tuning(tuner, runtime, tasks)]
        server = _Server(_make_application(runtime, tuner))
        settle()
        serving = tasks.create_task(server.serve([listener]), name="serve")
        metrics = _start_metrics(runtime, tasks)
        if on_listening is not None:
            on_listening(
                Listening(
                    url=_url(listener),
                    metrics_url=metrics.url if metrics else None,
                    engines=runtime.status.status().engines,
                    default_model=config.default_model_name,
                )
            )
        for model in runtime.preloaded_models:
            runtime.manager.preload(model)
        number = await stop
        await _drain(runtime, runtime.live.config.monitoring.server.graceful_shutdown_timeout)
        for task in lasting:
            task.cancel()
        for running in (server, metrics.server if metrics else None):
            if running is not None:
                running.should_exit = True
        await serving
    return _INTERRUPTED_EXIT_CODE if number == signal.SIGINT else 0


async def _drain(runtime: Runtime, timeout_s: float) -> None:
    orchestrator = runtime.orchestrator
    orchestrator.begin_drain(is_final=True)
    logger.info("draining: running answers have %g s to finish", timeout_s)
    try:
        async with asyncio.timeout(timeout_s):
            await orchestrator.wait_until_idle()
    except TimeoutError:
        logger.warning("the drain took longer than %g s: ending what still runs", timeout_s)
        orchestrator.break_off_all()


def _follow_file(
    follower: FileFollower, tasks: asyncio.TaskGroup
) -> tuple[asyncio.Task[None], asyncio.Task[None]]:
    """Watch the file, and read it again on SIGHUP, until the tasks are cancelled."""
    hung_up = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hung_up.set)

    async def reload_on_signal() -> None:
        while True:
            await hung_up.wait()
            hung_up.clear()
            await follower.reload("signal")

    return (
        tasks.create_task(follower.watch(), name="watch the configuration file"),
        tasks.create_task(reload_on_signal(), name="reload on SIGHUP"),
    )


def _watch_signals() -> asyncio.Future[int]:
    """Return a future of the first signal; the second ends the process at once."""
    loop = asyncio.get_running_loop()
    first: asyncio.Future[int] = loop.create_future()

    def take(number: int) -> None:
        if first.done():
            # Workers notice that their server is gone and leave by themselves.
            os._exit(128 + number)
        first.set_result(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, take, number)
    return first


class _Server(uvicorn.Server):
    """A uvicorn server without signal handlers of its own and without access log."""

    def __init__(self, application: Any) -> None:
        super().__init__(
            uvicorn.Config(
                application,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=_CLOSING_S,
                lifespan="off",
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the process's own watch."""
        yield


@dataclass(frozen=True, slots=True)
class _MetricsServer:
    server: _Server
    url: str


def _start_metrics(runtime: Runtime, tasks: asyncio.TaskGroup) -> _MetricsServer | None:
    prometheus = runtime.config.monitoring.prometheus
    render = runtime.monitor.render_metrics if runtime.monitor else None
    if render is None:
        return None
    try:
        listener = _bind(prometheus.host, prometheus.port, option="monitoring.prometheus.port")
    except ServerStartError as error:
        reason = f"metrics are on the main port only: {error}"
        logger.warning(reason)
        runtime.status.add_degradation(reason)
        return None
    server = _Server(create_metrics_application(render, prometheus.path))
    tasks.create_task(_serve_and_close(server, listener), name="serve metrics")
    return _MetricsServer(server, _url(listener) + prometheus.path)


async def _serve_and_close(server: _Server, listener: socket.socket) -> None:
    with contextlib.closing(listener):
        await server.serve([listener])


def _start_tuning(
    tuner: Tuner | None, runtime: Runtime, tasks: asyncio.TaskGroup
) -> tuple[asyncio.Task[None], ...]:
    if tuner is None:
        return ()
    runtime.status.tell_of(tuner)
    return (tasks.create_task(tuner.run(), name="tune"),)


def _make_application(runtime: Runtime, tuner: Tuner | None) -> Any:
    api, server = runtime.config.api, runtime.config.monitoring.server
    settings = ApiSettings(
        enable_auth=api.enable_auth,
        api_keys=tuple(
            ApiKey(
                name=key.name,
                key=key.key.get_secret_value(),
                is_admin=key.admin,
                rate_limit_per_minute=key.rate_limit_per_minute,
                priority_max=key.priority_max,
                has_own_name=key.has_own_name,
            )
            for key in api.api_keys
        ),
        cors_origins=tuple(api.cors_origins),
        max_request_bytes=api.max_request_bytes,
        rate_limit_per_minute=api.rate_limit_per_minute,
        buckets=runtime.shared.buckets if runtime.shared else None,
        find_max_prompts=lambda: runtime.live.config.monitoring.server.queue_capacity,
        health_path=server.health_check_path,
        ready_path=server.readiness_check_path,
    )
    return create_application(
        generator=runtime.generator,
        workflows=runtime.workflows,
        library=runtime.library,
        embedder=runtime.embedder,
        loader=runtime.orchestrator,
        reports=runtime.status,
        router=runtime.router,
        settings=settings,
        insight=Insight(
            report_usage=runtime.usage.report,
            live=runtime.live,
            observations=runtime.monitor,
            tuner=tuner,
            mind=runtime.mind,
        ),
        observer=runtime.observer,
        render_metrics=runtime.monitor.render_metrics if runtime.monitor else None,
        start_trace=runtime.monitor.start_trace if runtime.monitor else None,
    )


def _bind(host: str, port: int, *, option: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # Accepted connections inherit it.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD_TIMEOUT_MS)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ServerStartError(
            f"Cannot listen on {host}:{port}: {error.strerror}.",
            remedy=f"Choose another port ({option}), or end the program that uses this one.",
        ) from error
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
