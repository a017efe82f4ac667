"""The settings in environment variables, and the names of those variables."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from mm_orch.config.keys import ANY_MODEL, SERVER, SERVER_SPELLING, keys_by_path
from mm_orch.config.layer import Layer, nearest
from mm_orch.config.setting import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mm_orch.config.keys import Path

PREFIX_BY_SECTION = {"optimization": "MUAI_OPT_", "monitoring": "MUAI_MON_"}
API_KEY = "MUAI_API_KEY"
API_KEYS = "MUAI_API_KEYS"
_API_KEYS_PATH = ("api", "api_keys")

SHORT_NAMES: Mapping[str, str] = {
    "MUAI_OPT_VLLM_TENSOR_PARALLEL": "optimization.vllm.tensor_parallel_size",
    "MUAI_OPT_VLLM_GPU_MEMORY": "optimization.vllm.gpu_memory_utilization",
    "MUAI_OPT_BATCHER_MAX_SIZE": "optimization.batcher.max_batch_size",
    "MUAI_OPT_BATCHER_TIMEOUT": "optimization.batcher.batch_timeout_ms",
    "MUAI_OPT_CACHE_MAX_MEMORY": "optimization.cache.max_memory_mb",
    "MUAI_OPT_SERVER_SHUTDOWN_TIMEOUT": "monitoring.server.graceful_shutdown_timeout",
    "MUAI_MON_COLLECTION_INTERVAL": "monitoring.collection_interval_seconds",
    "MUAI_MON_ANOMALY_LATENCY_THRESHOLD": "monitoring.anomaly.latency_threshold_ms",
    "MUAI_MON_ANOMALY_ERROR_RATE": "monitoring.anomaly.error_rate_threshold",
    "MUAI_MON_ANOMALY_MEMORY_THRESHOLD": "monitoring.anomaly.memory_threshold_percent",
    "MUAI_ENABLE_AUTH": "api.enable_auth",
    "MUAI_API_HOST": "monitoring.server.host",
    "MUAI_API_PORT": "monitoring.server.port",
    "MUAI_LOG_LEVEL": "system.log_level",
    "MUAI_DEVICE": "system.device",
    "MUAI_DATA_DIR": "system.data_dir",
    "MUAI_STORAGE_URL": "storage.url",
}
"""Names beside those that the rule makes; the server's other names follow the rule twice."""


@functools.cache
def path_by_variable() -> Mapping[str, Path]:
    """Return every variable that sets one key, but those for API keys."""
    by_name: dict[str, Path] = {}
    for path in keys_by_path():
        if ANY_MODEL in path:
            continue
        for spelling in _spellings(path):
            prefix = PREFIX_BY_SECTION.get(spelling[0])
            if prefix:
                by_name[prefix + "_".join(spelling[1:]).upper()] = path
    return {**by_name, **{name: tuple(key.split(".")) for name, key in SHORT_NAMES.items()}}


def read_environment(environ: Mapping[str, str]) -> tuple[Layer, tuple[str, ...]]:
    """Return the settings in the variables, and warnings about variables that nothing reads."""
    layer = Layer()
    for name, path in path_by_variable().items():
        if name in environ:
            layer.add(path, environ[name], origin=name)
    _read_api_keys(layer, environ)
    return layer, _unknown_variables(environ)


def _spellings(path: Path) -> list[Path]:
    if path[: len(SERVER)] == SERVER:
        return [path, (*SERVER_SPELLING, *path[len(SERVER) :])]
    return [path]


def _read_api_keys(layer: Layer, environ: Mapping[str, str]) -> None:
    single = environ.get(API_KEY, "").strip()
    several = [key for part in environ.get(API_KEYS, "").split(",") if (key := part.strip())]
    keys = list(dict.fromkeys([single, *several] if single else several))
    # An empty variable is how container files pass on one that is not set.
    if keys:
        origin = " and ".join(name for name in (API_KEY, API_KEYS) if environ.get(name))
        layer.add(_API_KEYS_PATH, keys, origin=origin)


def _unknown_variables(environ: Mapping[str, str]) -> tuple[str, ...]:
    known = path_by_variable()
    prefixes = tuple(PREFIX_BY_SECTION.values())
    warnings = []
    for name in sorted(environ):
        if name.startswith(prefixes) and name not in known:
            found = nearest(name, known)
            hint = f" Did you mean {found}?" if found else ""
            warnings.append(f"The variable {printable(name)} is not one that is read.{hint}")
    return tuple(warnings)
