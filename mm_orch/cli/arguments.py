"""The command line's grammar: which words there are and which go together."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from mm_orch import __version__
from mm_orch.cli.actions import Action, find_misuse
from mm_orch.cli.plan_options import PlanOptions, add_plan_options
from mm_orch.cli.terminal import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mm_orch.benchmarking.objective import Objective

Number = TypeVar("Number", int, float)

STANDARD_INPUT = "-"

_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_MAX_PORT = 65535
_MAX_TEMPERATURE = 2.0
_WATCH_INTERVAL_S = 2.0
_MIN_INTERVAL_S = 0.1
_MAX_INTERVAL_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """One call, checked.

    Attributes:
        action: None when nothing but settings was given.
        interval_s: seconds between two looks of --watch.
        query: the words to answer; None where standard input holds them.
        subject: the model's name or source of --model-info, --pull and --remove.
        objective: what goodput counts, or a plan has to keep; None is the benchmark's own.
        plan: what --plan alone is told.
        uploads: the files of --upload.
    """

    action: Action | None
    query: str | None
    subject: str | None
    model: str | None
    engine: str | None
    workflow: str | None
    max_tokens: int | None
    temperature: float | None
    json: bool
    watch: bool
    interval_s: float
    config: Path | None
    host: str | None
    port: int | None
    cluster: str | None
    log_level: str | None
    verbose: bool
    benchmark_output: Path | None
    benchmark_format: str | None
    quick: bool
    url: str | None
    objective: Objective | None
    plan: PlanOptions
    uploads: tuple[Path, ...] = ()


def parse_arguments(argv: Sequence[str] | None) -> Arguments:
    """Read the command line.

    Raises:
        SystemExit: with 0 after --help and --version, with 2 after an error, which was printed.
    """
    parser = _make_parser()
    values, unknown = parser.parse_known_args(argv)
    if unknown:
        name = unknown[0].partition("=")[0]
        known = [option for action in parser._actions for option in action.option_strings]  # noqa: SLF001 - argparse tells them nowhere else
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}? All stand in" if near else "see"
        parser.error(f"{name} is no option; {hint} {PROGRAM} --help")
    if len(values.query) > 1:
        quoted = " ".join(values.query)
        parser.error(f'the query is one argument: put it in quotes, "{quoted}"')
    query: str | None = values.query[0] if values.query else None
    action = _choose_action(parser, values, query)
    misuse = find_misuse(values, action)
    if misuse is not None:
        parser.error(misuse)
    return Arguments(
        action=action,
        query=None if query == STANDARD_INPUT else query,
        subject=values.model_info or values.pull or values.remove or None,
        model=values.model,
        engine=values.engine,
        workflow=values.workflow,
        max_tokens=values.max_tokens,
        temperature=values.temperature,
        json=values.json,
        watch=values.watch,
        interval_s=_WATCH_INTERVAL_S if values.interval is None else values.interval,
        config=values.config,
        host=values.host,
        port=values.port,
        cluster=values.cluster,
        log_level=values.log_level,
        verbose=values.verbose,
        benchmark_output=values.benchmark_output,
        benchmark_format=values.benchmark_format,
        quick=values.quick,
        url=values.url,
        objective=values.objective,
        plan=PlanOptions(values.traffic, values.hardware, values.model_shape),
        uploads=tuple(values.upload or ()),
    )


def short_help() -> str:
    """Return the usage in a few lines, for a call without arguments."""
    return (
        f'usage: {PROGRAM} "QUERY"         answer a query (- reads it from standard input)\n'
        f"       {PROGRAM} --mode chat     hold a conversation\n"
        f"       {PROGRAM} --server        run the OpenAI-compatible server\n"
        f"       {PROGRAM} --status        what runs, or what could run here\n"
        f"       {PROGRAM} --help          everything else"
    )


def _choose_action(
    parser: argparse.ArgumentParser, values: argparse.Namespace, query: str | None
) -> Action | None:
    asked = [
        action
        for action, is_asked in (
            (Action.QUERY, query is not None),
            (Action.CHAT, values.mode == "chat"),
            (Action.SERVER, values.server),
            (Action.STATUS, values.status),
            (Action.CHECK_CONFIG, values.check_config),
            (Action.PRINT_CONFIG, values.print_config),
            (Action.MODEL_INFO, values.model_info is not None),
            (Action.PULL, values.pull is not None),
            (Action.REMOVE, values.remove is not None),
            (Action.UPLOAD, values.upload is not None),
            (Action.BENCHMARK, values.benchmark),
            (Action.PLAN, values.plan),
            (Action.TEST_ALERT, values.test_alert),
        )
        if is_asked
    ]
    if len(asked) > 1:
        parser.error(f"{asked[0].value} and {asked[1].value} do not go together: ask for one")
    return asked[0] if asked else None


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        usage=f'{PROGRAM} [OPTIONS] ["QUERY"]    (all options: {PROGRAM} --help)',
        description="Answer with many models, each through the best engine at hand.",
        epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted."
        " --status: 0 healthy, 1 degraded, 2 nothing can serve.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "query",
        nargs="*",
        metavar="QUERY",
        help="what to answer; - or a pipe reads it from standard input",
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    _add_actions(parser.add_argument_group("what to do instead"))
    _add_call_options(parser.add_argument_group("for a query or a conversation"))
    _add_benchmark_options(parser.add_argument_group("for a benchmark"))
    add_plan_options(parser.add_argument_group("for a plan"))
    _add_settings(parser.add_argument_group("settings, over file and environment"))
    return parser


def _add_actions(group: Any) -> None:
    group.add_argument("--mode", choices=["chat"], help="chat: hold a conversation")
    group.add_argument("--server", "--serve", action="store_true", help="run the server")
    group.add_argument(
        "--status", action="store_true", help="what a running server says, else what could run here"
    )
    group.add_argument(
        "--watch", action="store_true", help="with --status: keep showing it, until Ctrl-C"
    )
    group.add_argument(
        "--interval",
        metavar="SECONDS",
        type=_interval,
        help="with --watch: between two looks, 0.1 to 3600; 2 by default",
    )
    group.add_argument(
        "--model-info", nargs="?", const="", metavar="NAME", help="the models known, or one of them"
    )
    group.add_argument(
        "--pull",
        metavar="NAME",
        type=_text,
        help="fetch a configured model, or a source like hf:ORG/NAME",
    )
    group.add_argument("--remove", metavar="NAME", type=_text, help="delete a model's files")
    group.add_argument(
        "--upload",
        metavar="FILE",
        nargs="+",
        type=Path,
        help="store documents (.txt, .md, .pdf) for workflows that search them",
    )
    group.add_argument(
        "--check-config", action="store_true", help="say everything wrong with the configuration"
    )
    group.add_argument(
        "--print-config",
        action="store_true",
        help="print the effective configuration, each value with its origin",
    )
    group.add_argument(
        "--benchmark", action="store_true", help="measure latency, memory and throughput"
    )
    group.add_argument("--plan", action="store_true", help="how many replicas a load needs")
    group.add_argument(
        "--test-alert", action="store_true", help="send a test alert to where alerts go"
    )


def _add_call_options(group: Any) -> None:
    group.add_argument(
        "--model",
        metavar="NAME",
        type=_text,
        help="model or alias, or auto to have one chosen; also with --benchmark, --plan",
    )
    group.add_argument("--engine", metavar="NAME", type=_text, help="engine to run it with")
    group.add_argument(
        "--workflow",
        metavar="NAME",
        type=_text,
        help="workflow that answers, in place of a model; auto has one chosen",
    )
    group.add_argument(
        "--max-tokens", metavar="N", type=_max_tokens, help="longest answer in tokens, 1 or more"
    )
    group.add_argument(
        "--temperature", metavar="X", type=_temperature, help="0 (always the likeliest) to 2"
    )
    group.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object, with --watch one a line; also with --status, --model-info,"
        " --upload and --plan",
    )


def _add_benchmark_options(group: Any) -> None:
    group.add_argument("--benchmark-output", metavar="DIR", type=Path, help="where the report goes")
    group.add_argument(
        "--benchmark-format", choices=["json", "csv"], help="of the figures; json by default"
    )
    group.add_argument("--quick", action="store_true", help="fewer requests, for a first look")
    group.add_argument("--url", type=_url, help="measure the server there; also with --plan")
    group.add_argument(
        "--objective",
        metavar="BOUNDS",
        type=_objective,
        help="what goodput counts, in ms; ttft=500,itl=100 by default, e2e=MS too",
    )


def _add_settings(group: Any) -> None:
    group.add_argument("--config", metavar="PATH", type=Path, help="configuration file")
    group.add_argument("--host", type=_text, help="the server's address")
    group.add_argument("--port", metavar="N", type=_port, help="the server's port, 0 to 65535")
    group.add_argument(
        "--cluster", metavar="ADDRESS", type=_text, help="of the server's Ray cluster, or auto"
    )
    group.add_argument(
        "--log-level",
        metavar="LEVEL",
        type=str.upper,
        choices=_LOG_LEVELS,
        help=", ".join(_LOG_LEVELS),
    )
    group.add_argument("--verbose", action="store_true", help="log everything; show tracebacks")


def _text(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; give a name")
    return text


def _max_tokens(text: str) -> int:
    return _number(text, int, 1, math.inf, "a whole number, 1 or more")


def _interval(text: str) -> float:
    allowed = "a number of seconds from 0.1 to 3600"
    return _number(text, float, _MIN_INTERVAL_S, _MAX_INTERVAL_S, allowed)


def _port(text: str) -> int:
    return _number(text, int, 0, _MAX_PORT, "a whole number from 0 to 65535")


def _temperature(text: str) -> float:
    return _number(text, float, 0.0, _MAX_TEMPERATURE, "a number from 0 to 2")


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        is_web = parts.scheme in {"http", "https"}
        is_address = is_web and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or an IPv6 address that is none
        is_address = False
    if not is_address:
        allowed = "a server's address like http://127.0.0.1:8000"
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; give {allowed}")
    return text


def _objective(text: str) -> Objective:
    # Not at the top: --help must not wait for what only a benchmark needs.
    from mm_orch.benchmarking.objective import Objective
    from mm_orch.core.errors import InvalidValueError

    try:
        return Objective.parse(text)
    except InvalidValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _number(
    text: str, kind: Callable[[str], Number], low: float, high: float, allowed: str
) -> Number:
    value: Number | None
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not low <= value <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; give {allowed}")
    return value
