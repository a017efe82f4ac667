"""What a call may ask for, and which options mean something to it."""

from __future__ import annotations

import enum
import shlex
from typing import TYPE_CHECKING

from mm_orch.cli.plan_options import PLAN_OPTIONS

if TYPE_CHECKING:
    import argparse


class Action(enum.Enum):
    """What a call asks for; the value is how the user spells it."""

    QUERY = "a query"
    CHAT = "--mode chat"
    SERVER = "--server"
    STATUS = "--status"
    CHECK_CONFIG = "--check-config"
    PRINT_CONFIG = "--print-config"
    MODEL_INFO = "--model-info"
    PULL = "--pull"
    REMOVE = "--remove"
    UPLOAD = "--upload"
    BENCHMARK = "--benchmark"
    PLAN = "--plan"
    TEST_ALERT = "--test-alert"


# Options that mean something to some actions only; elsewhere they are refused, not ignored.
_ACTIONS_BY_OPTION: dict[str, tuple[Action, ...]] = {
    "--model": (Action.QUERY, Action.CHAT, Action.BENCHMARK, Action.PLAN),
    "--engine": (Action.QUERY, Action.CHAT),
    "--workflow": (Action.QUERY, Action.CHAT),
    "--max-tokens": (Action.QUERY, Action.CHAT),
    "--temperature": (Action.QUERY, Action.CHAT),
    "--json": (Action.QUERY, Action.STATUS, Action.MODEL_INFO, Action.UPLOAD, Action.PLAN),
    "--watch": (Action.STATUS,),
    "--interval": (Action.STATUS,),
    "--cluster": (Action.SERVER,),
    "--benchmark-output": (Action.BENCHMARK,),
    "--benchmark-format": (Action.BENCHMARK,),
    "--quick": (Action.BENCHMARK,),
    "--url": (Action.BENCHMARK, Action.PLAN),
    "--objective": (Action.BENCHMARK, Action.PLAN),
    **dict.fromkeys(PLAN_OPTIONS, (Action.PLAN,)),
}
# How a server is told what they say elsewhere.
_SERVER_REMEDY_BY_OPTION = {
    "--model": "each request to a server names its model, and those that name none get the first"
    " of monitoring.server.preload_models (environment MUAI_MON_SERVER_PRELOAD_MODELS)",
    "--engine": "for a server set optimization.engine_preference (environment"
    " MUAI_OPT_ENGINE_PREFERENCE={value}), for one of its models models.NAME.engines",
    "--workflow": "each request to a server names its workflow: workflow_type of POST /api/query,"
    " or workflow/NAME as the model",
    "--max-tokens": "each request to a server says max_tokens itself",
    "--temperature": "each request to a server says temperature itself",
    "--json": "for a server's log in JSON set system.log_format to json",
    "--url": "a server of your own listens where --host and --port say",
}


def find_misuse(values: argparse.Namespace, action: Action | None) -> str | None:
    """Return what is said of an option that means nothing to the action; None where all do.

    With --server it also says what does there what the option does elsewhere.
    """
    if values.interval is not None and action is Action.STATUS and not values.watch:
        return "--interval goes with --status --watch"
    for option, actions in _ACTIONS_BY_OPTION.items():
        value = getattr(values, option[2:].replace("-", "_"))
        is_given = value is not None and value is not False
        # Without an action, the query may still come through a pipe.
        if is_given and (action or Action.QUERY) not in actions:
            places = " or ".join(place.value for place in actions)
            remedy = _SERVER_REMEDY_BY_OPTION.get(option) if action is Action.SERVER else None
            hint = f"; {remedy.format(value=shlex.quote(str(value)))}" if remedy else ""
            return f"{option} goes with {places}{hint}"
    return None
