"""The documentation's workflow in YAML: on the echo engine, and in a real server with its model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mm_orch.app import open_runtime
from mm_orch.config import load_config
from mm_orch.core.generation import GenerationOptions, Message
from mm_orch.workflows.call import WorkflowCall
from mm_orch.workflows.contract import ANSWER
from tests.processes import run_cli

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.processes import ServerProcess

pytestmark = pytest.mark.model

GUIDE = Path(__file__).parents[2] / "docs/workflows.md"
QUESTION = "Should I drink tea?"
BROKEN = "name: broken\nsummary: Is none.\nanswer: a\nsteps:\n  a: {promt: hi}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    [example] = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    folder = tmp_path / "own workflows"
    folder.mkdir()
    (folder / "both_sides.yaml").write_text(example)
    return folder


@pytest.mark.usefixtures("builtin_model")
async def test_the_example_answers_on_the_echo_engine(folder: Path) -> None:
    overrides = {"workflows.folder": str(folder)}
    config = load_config(path=None, environ={}, overrides=overrides).config
    call = WorkflowCall(
        request_id="r",
        messages=(Message(role="user", content=QUESTION),),
        options=GenerationOptions(temperature=0),
        timeout_s=60,
    )

    async with open_runtime(config, engine="echo") as runtime:
        listed = [one.name for one in await runtime.workflows.list_all()]
        async with runtime.workflows.open("both_sides", call) as run:
            outcome = await run.complete()

    assert "both_sides" in listed
    assert not outcome.is_partial
    # It says back what it is shown: the instructions first, cut by the step's own bound.
    assert outcome.values[ANSWER].text.lstrip().startswith("system\nYou weigh reasons")
    assert len(run.models.generations) == 3


def test_the_example_answers_in_a_server_and_a_faulty_file_beside_it_is_told(
    folder: Path, own_data: dict[str, str], launch: Callable[..., ServerProcess]
) -> None:
    (folder / "broken.yaml").write_text(BROKEN)
    server = launch(config={"workflows": {"folder": str(folder)}}, environment=own_data)

    reply = server.request("POST", "/api/query", {"query": QUESTION, "workflow_type": "both_sides"})
    refused = server.request("POST", "/api/query", {"query": QUESTION, "workflow_type": "broken"})
    listed = server.request("GET", "/api/workflows").json["workflows"]
    models = server.request("GET", "/v1/models").json["data"]

    assert reply.status == 200, reply.body
    assert reply.json["status"] == "success"
    assert reply.json["result"].strip()
    assert refused.status == 500
    assert refused.json["error"]["code"] == "workflow_invalid"
    fault = "steps.a.promt = 'hi' "
    assert fault in refused.json["error"]["message"]
    assert fault in server.log
    names = {one["name"]: one for one in listed}
    assert "broken" not in names
    assert [one["name"] for one in names["both_sides"]["steps"]][:3] == ["pros", "cons", "verdict"]
    assert "workflow/both_sides" in {one["id"] for one in models}


def test_the_command_line_checks_them(folder: Path, own_data: dict[str, str]) -> None:
    config = folder.parent / "muai.yaml"
    config.write_text(f"workflows: {{folder: '{folder}'}}\n")
    check = ("--config", str(config), "--check-config")

    right = run_cli(*check, directory=folder, environment=own_data)
    (folder / "broken.yaml").write_text(BROKEN)
    wrong = run_cli(*check, directory=folder, environment=own_data)

    assert (right.returncode, right.stdout) == (0, "The configuration is valid.\n")
    assert wrong.returncode != 0
    assert "steps.a.promt = 'hi'" in wrong.stderr
    assert "steps.a.prompt = '(missing)'" in wrong.stderr
