"""Compiles the C++ kernels once for this machine and loads them."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

logger = logging.getLogger(__name__)

_SOURCES = tuple(
    Path(__file__).with_name(name)
    for name in ("kernels.cpp", "linear.cpp", "quantized.cpp", "prompts.cpp")
)
_HEADERS = tuple(Path(__file__).with_name(name) for name in ("numbers.h", "tiles.h"))
_COMPILERS = ("c++", "g++", "clang++")
_FLAGS = (
    "-O3",
    "-march=native",
    "-std=c++17",
    "-fPIC",
    "-fopenmp",
    # What lets loops over floats be vectorised; NaN and infinity keep their meaning.
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fassociative-math",
    "-fno-signed-zeros",
    "-freciprocal-math",
)
# Compilers for other processors do not know it.
_X86_FLAGS = ("-mprefer-vector-width=512",)
_X86_MACHINES = {"x86_64", "AMD64"}
_TIMEOUT_S = 120


def load_library(directory: Path) -> ctypes.CDLL | None:
    """Return the kernels, compiling them into ``directory`` unless they are there.

    Returns None, with the reason in the log, where they cannot be had: without a compiler for
    instance. Nothing but speed depends on them. Call it after torch is loaded: the kernels then
    find torch's OpenMP library in place and share its threads.
    """
    compiler = next(filter(None, map(shutil.which, _COMPILERS)), None)
    if compiler is None:
        logger.info("no C++ compiler found: the slower operations of torch are used instead")
        return None
    try:
        path = directory / f"kernels-{_fingerprint(compiler)}.so"
        if not path.exists():
            _compile(compiler, path)
        return ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError) as error:
        stderr = getattr(error, "stderr", None) or b""
        detail = stderr.decode(errors="replace").strip()
        logger.warning("the C++ kernels cannot be used, torch's are: %s %s", error, detail)
        return None


def _fingerprint(compiler: str) -> str:
    """Name source, compiler and processor: what is compiled for one is wrong for another."""
    parts = [
        *(path.read_bytes() for path in (*_SOURCES, *_HEADERS)),
        " ".join(_find_flags()).encode(),
        platform.machine().encode(),
    ]
    parts.append(_run_compiler([compiler, "--version"]))
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        parts += [line.encode() for line in lines if line.startswith(("flags", "Features"))][:1]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _find_flags() -> tuple[str, ...]:
    return (*_FLAGS, *_X86_FLAGS) if platform.machine() in _X86_MACHINES else _FLAGS


def _compile(compiler: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".draft-") as folder:
        objects = [Path(folder, source.name).with_suffix(".o") for source in _SOURCES]
        commands = [
            [compiler, *_find_flags(), "-c", str(source), "-o", str(target)]
            for source, target in zip(_SOURCES, objects, strict=True)
        ]
        # One compiler for each core: somebody waits for the first answer.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(_run_compiler, commands))
        draft = Path(folder, "kernels.so")
        _run_compiler([compiler, *_find_flags(), "-shared", *map(str, objects), "-o", str(draft)])
        # Whoever looks for the file finds all of it or none.
        draft.replace(path)


def _run_compiler(command: list[str]) -> bytes:
    # The command is our own, on our own source files.
    finished = subprocess.run(command, capture_output=True, check=True, timeout=_TIMEOUT_S)  # noqa: S603
    return finished.stdout
