"""The gateways that are compared: one worker each, quiet, without keys, before the same URL."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.contenders import Contender, our_server
from benchmarks.peer_contenders import make_installed, peers_directory
from benchmarks.servers.fake_openai import MODEL
from mm_orch.benchmarking.server_process import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

DIRECT, OURS, VLLM_ROUTER, SMG, LITELLM = "direct", "ours", "vllm_router", "smg", "litellm"
NAMES = (VLLM_ROUTER, SMG, LITELLM)
_NO_WEIGHTS = ""


def fake_backend(interval_ms: float) -> Contender:
    """Return the server behind all of them; asked directly, it is what latency is added to."""

    def command(port: int, folder: Path) -> Sequence[str]:  # noqa: ARG001 - needs no files
        module = "benchmarks.servers.fake_openai"
        return [sys.executable, "-m", module, str(port), str(interval_ms)]

    return _weightless(DIRECT, command, f"fake backend, a token each {interval_ms:g} ms")


def our_gateway(url: str) -> Contender:
    """Return this product's server with the backend as its only model."""
    return our_server(
        OURS,
        model=MODEL,
        model_settings={"source": f"openai:{url}#{MODEL}"},
        optimization={},
        precision=_NO_WEIGHTS,
        note="log level WARNING, metrics on",
        monitoring={"prometheus": {"port": 0}},
    )


def find_gateways(url: str, wanted: Sequence[str]) -> list[Contender]:
    """Return the wanted gateways that are installed; says which are not."""
    makers = {VLLM_ROUTER: _vllm_router, SMG: _smg, LITELLM: _litellm}
    return make_installed({name: partial(makers[name], url) for name in wanted})


def _vllm_router(url: str) -> Contender | None:
    return _rust_router(VLLM_ROUTER, url, program="vllm-router/bin/vllm-router", level="warning")


def _smg(url: str) -> Contender | None:
    return _rust_router(SMG, url, program="smg/bin/smg", level="warn", subcommand=("launch",))


def _rust_router(
    name: str, url: str, *, program: str, level: str, subcommand: Sequence[str] = ()
) -> Contender | None:
    path = peers_directory() / program
    if not path.exists():
        return None

    def command(port: int, folder: Path) -> Sequence[str]:  # noqa: ARG001 - needs no files
        return [
            *(str(path), *subcommand, "--host", "127.0.0.1", "--port", str(port)),
            *("--worker-urls", url, "--policy", "round_robin", "--log-level", level),
            *("--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port())),
        ]

    return _weightless(name, command, f"round robin, log level {level}, metrics on")


def _litellm(url: str) -> Contender | None:
    program = peers_directory() / "litellm/bin/litellm"
    if not program.exists():
        return None
    backend = {"model": f"openai/{MODEL}", "api_base": f"{url}/v1", "api_key": "none"}
    settings = {"model_list": [{"model_name": MODEL, "litellm_params": backend}]}

    def command(port: int, folder: Path) -> Sequence[str]:
        path = folder / "litellm.yaml"
        path.write_text(json.dumps(settings))
        return [
            *(str(program), "--host", "127.0.0.1", "--port", str(port)),
            *("--config", str(path), "--num_workers", "1"),
        ]

    contender = _weightless(
        LITELLM, command, "one worker, no database, no key, log level ERROR, metrics off"
    )
    return replace(
        contender,
        ready_path="/health/readiness",
        environment={
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_LOG": "ERROR",
            # Nothing is looked up on the network.
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            # The others ask for no key either.
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        },
    )


def _weightless(name: str, command: Callable[[int, Path], Sequence[str]], note: str) -> Contender:
    return Contender(name=name, precision=_NO_WEIGHTS, command=command, model=MODEL, note=note)
