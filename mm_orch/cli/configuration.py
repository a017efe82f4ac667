"""The configuration as the command line uses it: loads, checks and prints it, starts the log."""

from __future__ import annotations

import logging
import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from mm_orch.cli import exit_codes, terminal
from mm_orch.cli.actions import Action
from mm_orch.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mm_orch.cli.arguments import Arguments
    from mm_orch.config import Config, LoadedConfig
    from mm_orch.core.faults import Fault

# In this order: a key of our own servers, and the one that OpenAI's clients read.
_KEY_VARIABLES = ("MUAI_API_KEY", "OPENAI_API_KEY")
# Outside the server, what a worker dies of reaches the caller as an error, which is one line.
_TOLD_BY_THE_ERROR = "mm_orch.workers"

logger = logging.getLogger(__name__)


def load(arguments: Arguments, *, path: Path | None = None) -> LoadedConfig:
    """Load file, environment and command line.

    Args:
        arguments: the command line.
        path: the file that was found before; None for the one that the command line names.

    Raises:
        ConfigError: with every fault.
    """
    from mm_orch.config import load_config

    overrides: dict[str, object] = {
        "monitoring.server.host": arguments.host,
        "monitoring.server.port": arguments.port,
        "monitoring.server.enabled": True if arguments.action is Action.SERVER else None,
        "cluster.address": arguments.cluster,
        "system.log_level": arguments.log_level,
    }
    given = {key: value for key, value in overrides.items() if value is not None}
    return load_config(path=path or arguments.config, environ=os.environ, overrides=given)


def environment_with(variables: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with more variables, for a child."""
    return {**os.environ, **variables}


def is_colour_wanted() -> bool:
    """Whether the user leaves programs their colours (https://no-color.org)."""
    return not os.environ.get("NO_COLOR")


def is_cursor_movable() -> bool:
    """Whether the terminal, where there is one, can do more than print lines."""
    return os.environ.get("TERM") != "dumb"


def find_key_in_environment() -> str | None:
    """Return the key for a server that is none of the configuration's, or None."""
    keys = (os.environ.get(name, "").strip() for name in _KEY_VARIABLES)
    return next((key for key in keys if key), None)


def check_config(arguments: Arguments) -> int:
    """Say whether the configuration is valid, and what is worth a warning.

    Raises:
        ConfigError: with every fault, those of workflows in YAML among them.
    """
    loaded = load(arguments)
    faults = _find_workflow_faults(loaded.config)
    if faults:
        raise ConfigError(faults)
    terminal.say("The configuration is valid.")
    for warning in loaded.warnings:
        terminal.say(f"warning: {warning}")
    return exit_codes.DONE


def _find_workflow_faults(config: Config) -> list[Fault]:
    """Return what is wrong with workflows in YAML; a server starts without those."""
    if not config.workflow_folder.exists():
        # Whoever has none does not wait for what reads them to be imported.
        return []
    from mm_orch.models.guide_check import GuideChecker
    from mm_orch.workflows.yaml_folder import read_folder

    with closing(GuideChecker()) as checker:
        files = read_folder(
            config.workflow_folder, models=config.generator_names, find_reason=checker.find_reason
        )
    return [fault for file in files for fault in file.faults]


def print_config(loaded: LoadedConfig) -> int:
    """Print the effective configuration, each value with its origin."""
    from mm_orch.config import render_effective

    terminal.say_piece(render_effective(loaded))
    return exit_codes.DONE


def start_logging(arguments: Arguments, loaded: LoadedConfig, *, is_server: bool) -> None:
    """Send logs to standard error, and to the log file where the call is a server.

    Outside the server only warnings are shown unless the call asks for more: a person reads the
    answer beside them. The configuration's own warnings belong to the server's start; a query
    shows them with --verbose.
    """
    from mm_orch.cli.logs import configure_logging

    system = loaded.config.system
    level = system.log_level if is_server or arguments.log_level else "WARNING"
    if arguments.verbose and not arguments.log_level:
        level = "DEBUG"
    log_file = Path(system.log_file) if is_server and system.log_file else None
    configure_logging(level, log_file, system.log_format, to_stderr=True)
    if not (is_server or arguments.verbose or arguments.log_level):
        logging.getLogger(_TOLD_BY_THE_ERROR).setLevel(logging.CRITICAL)
    for warning in loaded.warnings:
        logger.log(logging.WARNING if is_server else logging.INFO, "%s", warning)
