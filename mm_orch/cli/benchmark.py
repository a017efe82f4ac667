"""Measures a server: one of its own that it starts and stops, or one that runs already."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_orch.benchmarking.client import Target, read_json
from mm_orch.benchmarking.plan import QUICK_PLAN, Plan, Subject, measure
from mm_orch.benchmarking.report import ReportFormat, write_report
from mm_orch.benchmarking.server_process import HOST, ServerProcess, free_port
from mm_orch.cli import configuration, exit_codes, terminal
from mm_orch.cli.progress import make_progress
from mm_orch.core.errors import ModelNotFoundError, MuAIError, NoServerError
from mm_orch.models.store import ModelStore
from mm_orch.models.text import TextCodec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mm_orch.benchmarking.report import Report
    from mm_orch.benchmarking.vocabulary import CountTokens
    from mm_orch.cli.arguments import Arguments
    from mm_orch.config import Config, LoadedConfig

_DEFAULT_OUTPUT = Path("benchmark-results")
_START_TIMEOUT_S = 600.0
_PACKAGE_ROOT = str(Path(__file__).parents[2])
_START_CODE = (
    f"import sys; sys.path.insert(0, {_PACKAGE_ROOT!r}); "
    "from mm_orch.main import main; sys.exit(main())"
)


def run_benchmark(loaded: LoadedConfig, arguments: Arguments) -> int:
    """Measure, write the report, say where it is; return the exit code.

    Raises:
        MuAIError: there is nothing to measure, or it cannot be started.
    """
    directory = arguments.benchmark_output or _DEFAULT_OUTPUT
    wanted = ReportFormat(arguments.benchmark_format or ReportFormat.JSON.value)
    plan = QUICK_PLAN if arguments.quick else Plan()
    # Ended by a signal, this process must not leave its server behind.
    signal.signal(signal.SIGTERM, _leave)
    try:
        # Before minutes of work, not after.
        directory.mkdir(parents=True, exist_ok=True)
        with _open_subject(loaded, arguments) as subject:
            report = measure(subject, plan, make_progress())
        figures, page = write_report(report, directory, wanted)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        terminal.complain(f"{directory} cannot hold the report: {error.strerror}.")
        return exit_codes.FAILED
    for line in _told(report):
        terminal.say(line)
    terminal.say(f"Report: {figures}")
    terminal.say(f"Page with plots: {page}")
    if report.faults:
        terminal.complain(f"some requests failed, such as {report.faults[0]}")
        return exit_codes.FAILED
    return exit_codes.DONE


@contextmanager
def _open_subject(loaded: LoadedConfig, arguments: Arguments) -> Iterator[Subject]:
    if arguments.url is not None:
        yield _running_subject(loaded.config, arguments.url, arguments.model)
        return
    name = _own_model(loaded.config, arguments.model)
    count_tokens = _counter(loaded.config, name)
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        terminal.remark("starting the server ...")
        with ServerProcess(
            _command(loaded, port),
            port=port,
            ready_path=loaded.config.monitoring.server.readiness_check_path,
            log=Path(folder) / "server.log",
            environment=configuration.environment_with(
                {
                    "MUAI_MON_PROMETHEUS_ENABLED": "false",
                    "MUAI_MON_SERVER_PRELOAD_MODELS": name,
                    # Nobody waits for what still runs when the benchmark is broken off.
                    "MUAI_MON_SERVER_GRACEFUL_SHUTDOWN_TIMEOUT": "1",
                }
            ),
        ) as server:
            server.wait_until_ready(_START_TIMEOUT_S)
            target = Target.parse(server.url, model=name, key=_key(loaded.config))
            yield Subject(
                target=target,
                count_tokens=count_tokens,
                engine=_find_engine(target),
                find_peak_memory=lambda: server.peak_memory_bytes,
            )


def _running_subject(config: Config, url: str, wanted: str | None) -> Subject:
    target = Target.parse(url, model=wanted or "", key=_key(config))
    served = _served_models(target)
    model = wanted or next(iter(served), "")
    if not model or (served and model not in served):
        known = ", ".join(served) or "none"
        raise ModelNotFoundError(f"{model or 'a model'} is not served at {url}; it has: {known}.")
    target = Target.parse(url, model=model, key=_key(config))
    name = config.model_name_by_spelling.get(model)
    notes: tuple[str, ...] = ("The server ran already: its memory is not known.",)
    if name is None:
        name = config.default_model_name
        notes += (f"Prompt lengths were made with the tokeniser of {name}, not of {model}.",)
    return Subject(
        target=target,
        count_tokens=_counter(config, name),
        engine=_find_engine(target),
        find_peak_memory=lambda: None,
        notes=notes,
    )


def _command(loaded: LoadedConfig, port: int) -> list[str]:
    config = ["--config", str(loaded.path)] if loaded.path is not None else []
    start = [sys.executable, "-P", "-c", _START_CODE, "--server", "--host", HOST]
    return [*start, "--port", str(port), "--log-level", "WARNING", *config]


def _own_model(config: Config, wanted: str | None) -> str:
    if wanted is None:
        return config.default_model_name
    name = config.model_name_by_spelling.get(wanted)
    if name is None:
        known = ", ".join(sorted(config.model_name_by_spelling))
        raise ModelNotFoundError(f"No model is named {wanted!r}. Known: {known}.")
    return name


def _counter(config: Config, name: str) -> CountTokens:
    model = config.models[name]
    store = ModelStore(config.system.data_directory, progress=make_progress())
    stored = store.ensure(name, model.source, with_code=model.trust_remote_code)
    codec = TextCodec.from_directory(Path(stored.directory))
    return lambda text: len(codec.encode_text(text))


def _served_models(target: Target) -> list[str]:
    """Return the names that the server lists.

    Raises:
        NoServerError: nothing answers there.
    """
    listing: Any = asyncio.run(read_json(target, "/v1/models"))
    try:
        return [str(entry["id"]) for entry in listing["data"]]
    except (KeyError, TypeError) as error:
        raise NoServerError(f"{target.url} is no OpenAI-compatible server.") from error


def _find_engine(target: Target) -> str:
    """Return the engine that runs the model, where the server is one of ours."""
    try:
        status: Any = asyncio.run(read_json(target, "/api/status"))
        engines = {model["name"]: model["engine"] for model in status["models"]}
    except (MuAIError, KeyError, TypeError):
        return ""
    return engines.get(target.model) or ""


def _key(config: Config) -> str | None:
    keys = config.api.api_keys
    return keys[0].key.get_secret_value() if keys else None


def _told(report: Report) -> Iterator[str]:
    for summary in report.summaries:
        yield (
            f"{summary.workload.replace('_', ' ')}, {summary.load}:"
            f" {summary.output_tokens_per_s:.1f} tokens/s,"
            f" first text after {summary.ttft.p50_s:.3f} s,"
            f" gap {summary.gap.p50_s * 1000:.1f} ms,"
            f" end to end {summary.total.p50_s:.2f} s (medians)"
        )


def _leave(number: int, frame: object) -> None:  # noqa: ARG001 - signal's own order
    sys.exit(128 + number)
