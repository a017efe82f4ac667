"""The peers, where their environments have been made (benchmarks/peers): how each is started."""

from __future__ import annotations

import os
import subprocess
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from benchmarks.contenders import Contender

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mm_orch.models.stored import StoredModel

VLLM, LLAMA_BF16, LLAMA_Q4, OPENVINO = "vllm", "llama_cpp_bf16", "llama_cpp_q4_0", "openvino"
NAMES = (VLLM, LLAMA_BF16, LLAMA_Q4, OPENVINO)
VLLM_CACHE_GIB = 2
VLLM_CONTEXT_TOKENS = 4096
_LLAMA_SLOTS = 32
# The context is divided among the slots.
_LLAMA_CONTEXT = 65536


def peers_directory() -> Path:
    """Return where the scripts of benchmarks/peers put the environments."""
    given = os.environ.get("MUAI_PEERS")
    return Path(given) if given else platformdirs.user_cache_path("muai") / "peers"


def find_peers(model: StoredModel, wanted: Sequence[str]) -> list[Contender]:
    """Return the wanted peers that are installed; says which are not."""
    makers = {VLLM: _vllm, LLAMA_BF16: _llama_bf16, LLAMA_Q4: _llama_q4, OPENVINO: _openvino}
    return make_installed({name: partial(makers[name], model) for name in wanted})


def make_installed(makers: Mapping[str, Callable[[], Contender | None]]) -> list[Contender]:
    """Return what the makers make; says whose environment there is not."""
    found = []
    for name, make in makers.items():
        contender = make()
        if contender is None:
            print(f"{name} is not installed below {peers_directory()}: not compared")
        else:
            found.append(contender)
    return found


def vllm_server(
    python: Path, model: StoredModel, *, name: str, options: Sequence[str], note: str
) -> Contender:
    """Return vLLM's own server, in bf16.

    Args:
        python: an interpreter that has vLLM.
        model: what it runs.
        name: in the results.
        options: more of its command line.
        note: what a reader of the figures should know.
    """

    def command(port: int, folder: Path) -> Sequence[str]:  # noqa: ARG001 - needs no files
        return [
            *(str(python), "-m", "vllm.entrypoints.openai.api_server"),
            *("--model", model.directory, "--served-model-name", model.name),
            *("--dtype", "bfloat16", "--max-model-len", str(VLLM_CONTEXT_TOKENS)),
            *("--host", "127.0.0.1", "--port", str(port)),
            *("--enable-prompt-tokens-details", "--disable-uvicorn-access-log", *options),
        ]

    cores = sorted(os.sched_getaffinity(0))
    return Contender(
        name=name,
        precision="bf16",
        command=command,
        model=model.name,
        environment={
            # By default it computes on one core.
            "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cores)),
            "VLLM_CPU_KVCACHE_SPACE": str(VLLM_CACHE_GIB),
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
        },
        note=note,
    )


def _vllm(model: StoredModel) -> Contender | None:
    python = peers_directory() / "vllm/bin/python"
    if not python.exists():
        return None
    note = "every core bound, prefix cache on"
    return vllm_server(python, model, name=VLLM, options=(), note=note)


def _llama_bf16(model: StoredModel) -> Contender | None:
    return _llama(model, LLAMA_BF16, "BF16", "bf16")


def _llama_q4(model: StoredModel) -> Contender | None:
    return _llama(model, LLAMA_Q4, "Q4_0", "q4_0")


def _llama(model: StoredModel, name: str, kind: str, precision: str) -> Contender | None:
    programs = sorted((peers_directory() / "llama-cpp").glob("lib/*/site-packages/*/bin"))
    if not programs or not model.gguf_file:
        return None
    program = programs[0] / "llama-server"
    weights = peers_directory() / "llama-cpp" / f"{model.name}.{kind}.gguf"
    if not weights.exists():
        source = Path(model.directory) / model.gguf_file
        _quantise(programs[0] / "llama-quantize", source, weights, kind)

    def command(port: int, folder: Path) -> Sequence[str]:  # noqa: ARG001 - needs no files
        return [
            *(str(program), "--model", str(weights), "--alias", model.name),
            *("--parallel", str(_LLAMA_SLOTS), "--ctx-size", str(_LLAMA_CONTEXT)),
            *("--threads", str(len(os.sched_getaffinity(0)))),
            *("--host", "127.0.0.1", "--port", str(port)),
        ]

    return Contender(
        name=name,
        precision=precision,
        command=command,
        model=model.name,
        environment={"LD_LIBRARY_PATH": str(programs[0])},
        note=f"{_LLAMA_SLOTS} slots, prompt cache on",
    )


def _quantise(program: Path, source: Path, target: Path, kind: str) -> None:
    # The model's own file is 4-bit; the same numbers are written in another format.
    partial = target.with_suffix(".partial")
    subprocess.run(
        [str(program), "--allow-requantize", str(source), str(partial), kind],
        check=True,
        capture_output=True,
        env={**os.environ, "LD_LIBRARY_PATH": str(program.parent)},
    )
    partial.rename(target)


def _openvino(model: StoredModel) -> Contender | None:
    python = peers_directory() / "openvino/bin/python"
    if not python.exists() or not model.gguf_file:
        return None
    weights = str(Path(model.directory) / model.gguf_file)

    def command(port: int, folder: Path) -> Sequence[str]:  # noqa: ARG001 - needs no files
        return [str(python), "-m", "benchmarks.servers.openvino_genai_server", weights, str(port)]

    return Contender(
        name=OPENVINO,
        precision=Path(weights).suffixes[-2][1:].lower(),
        command=command,
        model=model.name,
        note="in process behind a minimal HTTP front, prefix cache on",
    )
