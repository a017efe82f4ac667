"""Requests made up from /openapi.json, right ones and wrong ones: it says what the server does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.processes import ServerProcess

    Launch = Callable[..., ServerProcess]

pytestmark = pytest.mark.model

HOOKS = Path(__file__).with_name("schemathesis_hooks.py")
NUM_EXAMPLES, NUM_EXAMPLES_LONG = 12, 60
CONFIG = f"""
hooks = "{HOOKS.as_posix()}"
seed = 20
color = false
request-timeout = 60

[generation]
max-examples = {{num_examples}}
database = "none"

[phases.stateful]
enabled = false

[checks]
# 503 and 504 are answers: the queue may be full, a made-up timeout_s may be over.
not_a_server_error.expected-statuses = ["2xx", "4xx", "503", "504"]
# What only the model can say is no part of the schema: token ids over the vocabulary, min_tokens
# over max_tokens, prompts over the context.
positive_data_acceptance.enabled = false
"""


@pytest.mark.timeout(660)
def test_the_description_is_true_for_whatever_is_sent(
    launch: Launch, own_data: dict[str, str], tmp_path: Path
) -> None:
    # What is described is the same with every engine; this one takes no time.
    server = launch(
        config={"models": {"smollm2-135m": {"engines": ["echo"]}}}, environment=own_data
    )

    run_schemathesis(server, tmp_path)

    assert server.request("GET", "/health").json["status"] == "healthy"


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_description_is_true_for_five_times_as_much(
    launch: Launch, own_data: dict[str, str], tmp_path: Path
) -> None:
    run_schemathesis(launch(environment=own_data), tmp_path, num_examples=NUM_EXAMPLES_LONG)


def run_schemathesis(
    server: ServerProcess, directory: Path, *arguments: str, num_examples: int = NUM_EXAMPLES
) -> None:
    """Send requests made up from a server's own description; whatever it does not tell of fails."""
    (directory / "schemathesis.toml").write_text(CONFIG.format(num_examples=num_examples))
    result = subprocess.run(
        [
            str(Path(sys.executable).with_name("st")),
            "--config-file=schemathesis.toml",
            "run",
            f"{server.url}/openapi.json",
            # Who drains a server gets nothing but 503 from it afterwards.
            "--exclude-path-regex=/drain$",
            *arguments,
        ],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=3000,
        check=False,
    )

    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-2000:]
