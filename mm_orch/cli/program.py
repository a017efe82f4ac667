"""Runs one command: chooses it, and turns what goes wrong into a line and an exit code."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mm_orch.cli import exit_codes, terminal
from mm_orch.cli.actions import Action
from mm_orch.cli.arguments import parse_arguments, short_help

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from mm_orch.cli.arguments import Arguments
    from mm_orch.config import LoadedConfig


def run(argv: Sequence[str] | None) -> int:
    """Run one command; return its exit code.

    What nobody foresaw passes through, to be reported in one line by the interpreter's hook,
    which this call sets; the interpreter then ends with 1.
    """
    terminal.prepare_streams()
    try:
        arguments = parse_arguments(argv)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else exit_codes.USAGE
    if not arguments.verbose:
        sys.excepthook = _report_bug
    try:
        return _guarded(arguments)
    except BrokenPipeError:
        # The reader has what it wanted.
        terminal.drop_output()
        return exit_codes.DONE
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED


def _guarded(arguments: Arguments) -> int:
    from mm_orch.core.errors import ModelNotFoundError, MuAIError, WorkflowNotFoundError

    try:
        return _perform(arguments)
    except MuAIError as error:
        terminal.complain(str(error))
        is_misspelt = isinstance(error, ModelNotFoundError | WorkflowNotFoundError)
        return exit_codes.USAGE if is_misspelt else exit_codes.FAILED


def _perform(arguments: Arguments) -> int:
    from mm_orch.cli import configuration

    if arguments.action is Action.CHECK_CONFIG:
        return configuration.check_config(arguments)
    loaded = configuration.load(arguments)
    action = arguments.action or _find_action(loaded)
    if action is None:
        terminal.remark(short_help())
        return exit_codes.USAGE
    if action is Action.PRINT_CONFIG:
        return configuration.print_config(loaded)
    configuration.start_logging(arguments, loaded, is_server=action is Action.SERVER)
    return _perform_with(loaded, arguments, action)


def _find_action(loaded: LoadedConfig) -> Action | None:
    """Return what a call without words means."""
    if terminal.is_input_piped():
        return Action.QUERY
    return Action.SERVER if loaded.config.monitoring.server.enabled else None


def _perform_with(loaded: LoadedConfig, arguments: Arguments, action: Action) -> int:
    from mm_orch.cli import configuration

    match action:
        case Action.QUERY:
            from mm_orch.cli.one_shot import answer_query

            return answer_query(loaded, arguments)
        case Action.CHAT:
            from mm_orch.cli.chat import hold_conversation

            return hold_conversation(loaded, arguments)
        case Action.SERVER:
            from mm_orch.cli.serve import serve

            return serve(loaded, lambda: configuration.load(arguments, path=loaded.path))
        case Action.STATUS:
            return _tell_status(loaded, arguments)
        case Action.MODEL_INFO | Action.PULL | Action.REMOVE | Action.UPLOAD:
            return _perform_on_files(loaded, arguments, action)
        case Action.BENCHMARK | Action.PLAN | Action.TEST_ALERT:
            return _try_out(loaded, arguments, action)
        case Action.CHECK_CONFIG | Action.PRINT_CONFIG:
            raise AssertionError(action)  # handled before anything was started


def _tell_status(loaded: LoadedConfig, arguments: Arguments) -> int:
    if arguments.watch:
        from mm_orch.cli.watch import watch_status

        watch_status(loaded, interval_s=arguments.interval_s, as_json=arguments.json)
    from mm_orch.cli.status import print_status

    return print_status(loaded, as_json=arguments.json)


def _perform_on_files(loaded: LoadedConfig, arguments: Arguments, action: Action) -> int:
    if action is Action.UPLOAD:
        from mm_orch.cli.upload import upload_files

        return upload_files(loaded, arguments)
    from mm_orch.cli import models

    if action is Action.MODEL_INFO:
        return models.print_models(loaded, arguments.subject, as_json=arguments.json)
    name = arguments.subject or ""
    return models.pull(loaded, name) if action is Action.PULL else models.remove(loaded, name)


def _try_out(loaded: LoadedConfig, arguments: Arguments, action: Action) -> int:
    if action is Action.BENCHMARK:
        from mm_orch.cli.benchmark import run_benchmark

        return run_benchmark(loaded, arguments)
    if action is Action.PLAN:
        from mm_orch.cli.plan import print_plan

        return print_plan(loaded, arguments)
    from mm_orch.cli.alert import send_test_alert

    return send_test_alert(loaded)


def _report_bug(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if not issubclass(kind, Exception):
        sys.__excepthook__(kind, error, traceback)
        return
    reason = " ".join(str(error).split())
    terminal.complain(f"{kind.__name__}: {reason} (run with --verbose for the traceback)")
    if isinstance(error, OSError):
        terminal.drop_output()
