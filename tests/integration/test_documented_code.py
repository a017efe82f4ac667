"""The programs on the pages do what the pages say."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from mm_orch.core.generation import SamplingParams
from mm_orch.optimization.engines.contract import (
    EngineSpec,
    ScheduledSequence,
    Sequence,
    StepBackend,
)
from mm_orch.search.settings import SearchSettings
from tests.available import require_program
from tests.code_blocks import read_blocks
from tests.processes import clean_environment
from tests.unit.api.face import Face, turns_asked
from tests.unit.workflows.scene import make_registry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.code_blocks import Block
    from tests.processes import ServerProcess

RUN = [block for block in read_blocks() if block.runs is not None]
PROMPT = [11, 12, 13, 14, 15]


def names_of(name: str) -> dict[str, Any]:
    """Run the block with this mark and return what it defines."""
    [block] = [one for one in RUN if one.runs == name]
    names: dict[str, Any] = {"__name__": "documented"}
    exec(compile(block.text, str(block), "exec"), names)  # noqa: S102 - these are our own pages
    return names


def test_every_mark_is_obeyed() -> None:
    marked = [one.runs for one in RUN if one.runs]

    assert sorted(marked) == ["engine", "provider", "router", "workflow"]
    assert {one.language for one in RUN if not one.runs} == {"console", "python"}


def test_the_engine_repeats_the_last_token_of_a_prompt_that_came_in_parts() -> None:
    backend = names_of("engine")["LastWordBackend"]()
    assert isinstance(backend, StepBackend)
    spec = EngineSpec(
        model="tiny",
        directory="",
        context_length=64,
        eos_token_ids=(0,),
        dtype="auto",
        device="cpu",
        num_threads=1,
        cache_directory="",
        max_kv_bytes=2**12,
    )
    facts = backend.start(spec)
    sequence = Sequence(
        sequence_id="one",
        token_ids=list(PROMPT),
        num_prompt_tokens=len(PROMPT),
        params=SamplingParams(max_tokens=2),
        block_ids=[facts.num_kv_blocks - 1],
    )

    said: list[int] = []
    for num_new_tokens in (3, 2, 1):
        chunks = backend.step([ScheduledSequence(sequence, num_new_tokens)])
        sequence.num_computed_tokens += num_new_tokens
        new = [token for chunk in chunks for token in chunk.token_ids]
        sequence.token_ids += new
        said += new

    assert said == [15, 15]
    backend.stop()
    backend.stop()


async def test_the_workflow_shows_the_model_its_own_draft() -> None:
    face = Face(registry=make_registry(names_of("workflow")["TWICE"]))

    answer = await face.post("/api/query", query="Why is the sky blue?", workflow_type="twice")

    assert answer.json()["status"] == "success"
    assert [turns[-1] for turns in turns_asked(face)] == [
        ("user", "Why is the sky blue?"),
        ("user", "Say this shorter and more plainly: Hello world"),
    ]


async def test_the_search_provider_finds_the_page_that_has_the_words() -> None:
    provider = names_of("provider")["HandbookProvider"](SearchSettings())

    found = await provider.search("how many holiday weeks", limit=3)

    assert [hit.url for hit in found.hits] == ["https://handbook.example/holidays"]
    assert (await provider.search("penguins", limit=3)).hits == ()


def test_the_router_sends_the_handbook_to_the_documents() -> None:
    assert names_of("router")["chosen"] == "rag_qa"


@pytest.mark.model
@pytest.mark.parametrize("block", [one for one in RUN if not one.runs], ids=str)
def test_what_pages_have_one_type_at_a_running_server_works(
    block: Block, server: ServerProcess, tmp_path: Path
) -> None:
    text = block.script.replace("http://127.0.0.1:8000", server.url)
    text = text.replace("http://127.0.0.1:9090/metrics", server.metrics_url)
    if block.language == "python":
        command = [sys.executable, "-"]
    else:
        require_program("curl")
        command = ["bash", "-e"]
        text = re.sub(r"\bcurl\b", "curl -sS --fail-with-body", text)

    ran = subprocess.run(
        command,
        input=text,
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.strip()
