"""Whether a command of the documentation is one that there is: programs, options, files, paths."""

from __future__ import annotations

import importlib.util
import json
import re
import tomllib
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mm_orch.cli.arguments import parse_arguments
from tests.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

_MAIN_MODULES = {"mm_orch", "mm_orch.main"}
_SERVER_PORT = 8000
_METRICS_PORT = 9090
# Of curl: those that are followed by a value.
_VALUED = {"-X", "-d", "-H", "-F", "-o", "--max-time"}
# Others' programs that pages may name; what they are given is not ours to check.
_FOREIGN = frozenset(
    (
        *("cat", "cd", "cp", "df", "dmesg", "docker", "free", "grep", "helm", "kill", "kubectl"),
        *(
            "apt-get",
            "echo",
            "export",
            "install",
            "ls",
            "mkdir",
            "nvidia-smi",
            "openssl",
            "otelcol-contrib",
            "prometheus",
            "promtool",
            "ray",
            "ss",
            "systemctl",
            "tail",
            "useradd",
        ),
    )
)


def find_fault(words: Sequence[str], paths: Mapping[str, Collection[str]]) -> str:
    """Return what is wrong with a command, or nothing.

    Args:
        words: the program and its arguments.
        paths: the methods of each path of the server, as /openapi.json has them.
    """
    program, arguments = words[0], list(words[1:])
    name = program.rpartition("/")[2]
    if name == "muai":
        return _check_ours(arguments)
    if name in {"python", "python3"}:
        return _check_python(arguments)
    if name == "curl":
        return _check_curl(arguments, paths)
    if program.startswith(("scripts/", "examples/")):
        return "" if (ROOT / program).is_file() else f"there is no {program}"
    if name in _CHECKS:
        return _CHECKS[name](arguments)
    return "" if name in _FOREIGN else f"{program} is no program that pages know"


def _check_ours(arguments: list[str]) -> str:
    try:
        parse_arguments(arguments)
    except SystemExit as error:
        # 0 is what --help and --version end with.
        return f"muai {' '.join(arguments)} is wrong usage" if error.code else ""
    return ""


def _check_python(arguments: list[str]) -> str:
    if arguments[:1] != ["-m"]:
        return "" if (ROOT / arguments[0]).is_file() else f"there is no {arguments[0]}"
    module, rest = arguments[1], arguments[2:]
    if module in _MAIN_MODULES:
        return _check_ours(rest)
    return "" if importlib.util.find_spec(module) else f"there is no module {module}"


def _check_make(arguments: list[str]) -> str:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    asked = [word for word in arguments if "=" not in word]
    return "".join(f"make has no {word}. " for word in asked if word not in targets)


def _check_pip(arguments: list[str]) -> str:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    faults = ""
    for before, word in zip(["", *arguments], arguments, strict=False):
        if before == "-r" and not (ROOT / word).is_file():
            faults += f"there is no {word}. "
        if match := re.fullmatch(r"\.\[(.*)\]", word):
            faults += "".join(f"no extra {x}. " for x in match[1].split(",") if x not in known)
    return faults


def _check_curl(arguments: list[str], paths: Mapping[str, Collection[str]]) -> str:
    urls: list[str] = []
    values: dict[str, str] = {}
    words = iter(arguments)
    for word in words:
        if word in _VALUED:
            values[word] = next(words)
        elif not word.startswith("-"):
            urls.append(word)
    method = values.get("-X", "POST" if values.keys() & {"-d", "-F"} else "GET")
    if "-d" in values:
        try:
            json.loads(values["-d"])
        except ValueError as error:
            return f"{values['-d']} is no JSON: {error}"
    return "".join(_check_url(url, method, paths) for url in urls) or ("" if urls else "no URL")


def _check_url(url: str, method: str, paths: Mapping[str, Collection[str]]) -> str:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.port == _METRICS_PORT:
        return "" if parts.path == "/metrics" else f"{url}: metrics are at /metrics"
    if parts.port != _SERVER_PORT:
        return ""
    for path, methods in paths.items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), parts.path):
            allowed = {one.upper() for one in methods}
            return "" if method in allowed else f"{url} does not take {method}"
    return "" if parts.path in {"/console", "/openapi.json"} else f"{url} is no path of the server"


_CHECKS: dict[str, Callable[[list[str]], str]] = {"make": _check_make, "pip": _check_pip}
