"""Which reasons the console finds for a slow request; its module runs in node."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

import mm_orch.api
from tests.available import needs_program

FOLDER = Path(mm_orch.api.__file__).parent / "console"
NODE = shutil.which("node")
SCRIPT = """
import { explain, summarize } from "./explain.js";
let text = "";
for await (const piece of process.stdin) text += piece;
const cases = JSON.parse(text);
const found = cases.map(([request, limit]) => [explain(request, limit), summarize(request, limit)]);
console.log(JSON.stringify(found));
"""
WAITS_SCRIPT = """
import { lanesOf, waitsOf } from "./timeline.js";
let text = "";
for await (const piece of process.stdin) text += piece;
const found = JSON.parse(text).map((request) => {
  const phases = lanesOf(request)[0].phases.filter((phase) => phase.kind === "queue");
  return [waitsOf(request).queued, phases.reduce((sum, { start, end }) => sum + end - start, 0)];
});
console.log(JSON.stringify(found));
"""

pytestmark = needs_program("node")

ATTEMPT = {
    "engine": "openvino",
    "submitted_s": 0.0,
    "started_s": 0.01,
    "first_token_s": 0.1,
    "ended_s": 1.0,
    "num_tokens": 10,
    "num_cached_tokens": 0,
    "max_batch_size": 1,
    "error": "",
}
REQUEST = {
    "engine": "openvino",
    "operation": "chat",
    "num_prompt_tokens": 40,
    "num_cached_tokens": 0,
    "num_generated_tokens": 10,
    "ttft_s": 0.1,
    "finish_reasons": ["stop"],
    "queue_wait_s": 0.01,
    "total_s": 1.0,
    "num_waiting_before": 0,
    "num_running_before": 0,
    "routed_s": 0.0,
    "gate_wait_s": 0.0,
    "attempts": [ATTEMPT],
}


def request(*attempts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**REQUEST, "attempts": [{**ATTEMPT, **attempt} for attempt in attempts], **fields}


QUEUED = request(
    {"submitted_s": 0.01, "started_s": 3.21, "first_token_s": 3.3, "ended_s": 4.1},
    queue_wait_s=3.21,
    total_s=4.1,
    routed_s=0.01,
    num_running_before=8,
    num_waiting_before=12,
)
HELD_BACK = request(
    {"submitted_s": 3.2, "started_s": 3.21, "first_token_s": 3.3, "ended_s": 4.1},
    queue_wait_s=3.21,
    total_s=4.1,
    routed_s=0.01,
    gate_wait_s=3.19,
    num_running_before=8,
    num_waiting_before=12,
)
LONG_PROMPT = request(
    {"started_s": 0.1, "first_token_s": 2.2, "ended_s": 2.6},
    num_prompt_tokens=1500,
    queue_wait_s=0.1,
    total_s=2.6,
)
LOST = {"ended_s": 1.2, "num_tokens": 31, "error": "killed"}
RESUMED = {
    "engine": "pytorch",
    "submitted_s": 1.3,
    "started_s": 2.0,
    "first_token_s": 3.0,
    "ended_s": 3.5,
}
FAILED_OVER = request(LOST, RESUMED, total_s=3.5)
CROWDED = request(
    {"first_token_s": 0.5, "ended_s": 10.0, "num_tokens": 41, "max_batch_size": 32}, total_s=10.0
)
LONG_ANSWER = request({"ended_s": 12.1, "num_tokens": 901}, total_s=12.1)
NEVER_RAN = request(total_s=30.0, queue_wait_s=None, routed_s=None, num_running_before=8)
LOADED = request(
    {"submitted_s": 20.0, "started_s": 20.1, "first_token_s": 20.2, "ended_s": 21.0},
    queue_wait_s=20.1,
    total_s=21.0,
    routed_s=0.1,
)
SLOW_PREFILL = request({"started_s": 0.0, "first_token_s": 0.9, "max_batch_size": 8}, total_s=1.0)
STOPPED_IN_PREFILL = request(
    {"started_s": 0.1, "first_token_s": None, "ended_s": 2.1, "num_tokens": 0}, total_s=2.1
)
EMBEDDED = request(
    {"started_s": 0.0, "first_token_s": None}, operation="embeddings", finish_reasons=[]
)
SLOWLY_READ = request({"ended_s": 0.4}, total_s=4.0)
ELSEWHERE = request(queue_wait_s=0.7, ttft_s=0.8, num_running_before=4)
PREPARED = request({"submitted_s": 0.25, "started_s": 0.26}, queue_wait_s=0.26, routed_s=0.25)
LOST_FOR_GOOD = request({**LOST, "ended_s": 1.0}, total_s=1.0, finish_reasons=[])
MANY_AT_ONCE = {**QUEUED, "attempts": [{**QUEUED["attempts"][0], **LOST, "ended_s": 3.6}, RESUMED]}

TABLE: list[tuple[dict[str, Any], int | None, list[tuple[str, str]]]] = [
    (
        QUEUED,
        8,
        [
            (
                "wait",
                "Waited 3.2 s of 4.1 s: 8 requests ran and 12 waited before it"
                " (the batch holds 8).",
            )
        ],
    ),
    (
        QUEUED,
        None,
        [("wait", "Waited 3.2 s of 4.1 s: 8 requests ran and 12 waited before it.")],
    ),
    (
        HELD_BACK,
        None,
        [("wait", "Waited 3.2 s of 4.1 s: 8 requests ran and 12 waited before it.")],
    ),
    (
        {**QUEUED, "num_running_before": 0, "num_waiting_before": 12},
        8,
        [
            (
                "wait",
                "Waited 3.2 s of 4.1 s: 12 requests had come before it and none ran yet"
                " (the batch holds 8).",
            )
        ],
    ),
    (
        {**QUEUED, "num_running_before": 0, "num_waiting_before": 1},
        None,
        [("wait", "Waited 3.2 s of 4.1 s: 1 request had come before it and none ran yet.")],
    ),
    (
        {**QUEUED, "num_running_before": 0, "num_waiting_before": 0},
        8,
        [("wait", "Waited 3.2 s of 4.1 s, though no other request of the model was before it.")],
    ),
    (
        LONG_PROMPT,
        8,
        [
            (
                "prefill",
                "Long prompt: 1,500 tokens took 2.1 s to prefill, 0 came from the cache.",
            )
        ],
    ),
    (
        FAILED_OVER,
        None,
        [("failover", "Engine openvino was lost after 31 tokens; pytorch went on 1.8 s later.")],
    ),
    (
        CROWDED,
        32,
        [
            (
                "batch",
                "Full batch: its steps were shared with up to 32 sequences, 238 ms a token.",
            )
        ],
    ),
    (
        CROWDED,
        64,
        [
            (
                "batch",
                "Shared batch: its steps were shared with up to 32 sequences, 238 ms a token.",
            )
        ],
    ),
    (CROWDED, 100, [("decode", "Slow answer: 41 tokens took 9.5 s to generate, 238 ms each.")]),
    (
        LONG_ANSWER,
        8,
        [("decode", "Long answer: 901 tokens took 12.0 s to generate, 13 ms each.")],
    ),
    (
        NEVER_RAN,
        8,
        [
            (
                "wait",
                "Waited 30.0 s and never ran: 8 requests ran and 0 waited before it"
                " (the batch holds 8).",
            )
        ],
    ),
    (
        LOADED,
        8,
        [
            (
                "start",
                "Waited 19.9 s of 21.0 s for the model's worker to be there:"
                " it was being loaded or started again.",
            )
        ],
    ),
    (
        SLOW_PREFILL,
        8,
        [
            (
                "prefill",
                "Slow prefill: 40 tokens took 900 ms in steps shared with up to 8 sequences,"
                " 0 came from the cache.",
            )
        ],
    ),
    (
        STOPPED_IN_PREFILL,
        8,
        [
            (
                "prefill",
                "The first token had not come after 2.0 s of prefill: 40 tokens,"
                " 0 came from the cache.",
            )
        ],
    ),
    (
        SLOWLY_READ,
        8,
        [
            (
                "deliver",
                "Its last token was there after 400 ms;"
                " its client took 3.6 s more to get the answer.",
            )
        ],
    ),
    (EMBEDDED, 8, [("prefill", "Computing the vectors of 40 tokens took 1.0 s.")]),
    (
        ELSEWHERE,
        None,
        [("wait", "Waited 700 ms of 1.0 s: 4 requests ran and 0 waited before it.")],
    ),
]


def find(*cases: tuple[dict[str, Any], int | None]) -> list[tuple[list[dict[str, Any]], str]]:
    """Explain these in node."""
    found: list[tuple[list[dict[str, Any]], str]] = run(SCRIPT, cases)
    return found


def run(script: str, given: Any) -> Any:
    """Return what the script, that may import the console's modules, makes of what it is given."""
    assert NODE is not None
    with tempfile.TemporaryDirectory() as folder:
        for name in ("explain.js", "timeline.js", "words.js"):
            shutil.copy(FOLDER / name, folder)
        # Browsers are told by the page that these are modules, node by this.
        (Path(folder) / "package.json").write_text('{"type": "module"}')
        result = subprocess.run(
            [NODE, "--input-type=module", "--eval", script],
            cwd=folder,
            input=json.dumps(given),
            capture_output=True,
            text=True,
            check=False,
        )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_each_reason_has_its_sentence() -> None:
    found = find(*((one, limit) for one, limit, _ in TABLE))

    for (_, _, expected), (reasons, summary) in zip(TABLE, found, strict=True):
        assert [(one["kind"], one["sentence"]) for one in reasons] == expected
        assert summary == expected[0][1]


def test_all_reasons_are_told_and_the_largest_comes_first() -> None:
    [(reasons, _)] = find((MANY_AT_ONCE, 8))

    assert {"wait", "failover"} <= {one["kind"] for one in reasons}
    seconds = [one["seconds"] for one in reasons]
    assert seconds == sorted(seconds, reverse=True)


def test_a_failover_comes_before_a_long_answer_unless_it_took_next_to_nothing() -> None:
    answered = {**RESUMED, "ended_s": 15.0, "num_tokens": 100}
    quickly = {**answered, "submitted_s": 1.2, "started_s": 1.25, "first_token_s": 1.3}

    [(slow, summary), (quick, _)] = find(
        (request(LOST, answered, total_s=15.0), 8), (request(LOST, quickly, total_s=15.0), 8)
    )

    assert [one["kind"] for one in slow] == ["failover", "decode"]
    assert summary == "Engine openvino was lost after 31 tokens; pytorch went on 1.8 s later."
    assert [one["kind"] for one in quick] == ["decode", "failover"]


def test_a_loss_is_told_however_little_time_it_took() -> None:
    [(reasons, _)] = find((LOST_FOR_GOOD, None))

    told = [one["sentence"] for one in reasons if one["kind"] == "failover"]
    assert told == ["Engine openvino was lost after 31 tokens, and no other went on."]


def test_where_nothing_stands_out_it_says_so() -> None:
    even = request(
        {"started_s": 0.1, "first_token_s": 0.3, "ended_s": 0.75}, queue_wait_s=0.1, total_s=1.0
    )

    [(reasons, summary), (nothing, _)] = find((even, 8), ({**even, "total_s": 0}, 8))

    assert (reasons, nothing) == ([], [])
    assert summary == "Nothing stands out: all of it took 1.0 s."


def test_several_choices_share_the_steps() -> None:
    choices = request(
        {"ended_s": 4.1, "num_tokens": 200}, total_s=4.1, finish_reasons=["stop", "stop"]
    )

    [(reasons, _)] = find((choices, None))

    sentence = "Long answer: 200 tokens took 4.0 s to generate, 40 ms each."
    assert [one["sentence"] for one in reasons] == [sentence]


def test_the_queue_is_the_bars_without_preparation_and_the_workers_start() -> None:
    waited = [QUEUED, HELD_BACK, LOADED, NEVER_RAN, ELSEWHERE, PREPARED]

    queued, drawn = zip(*run(WAITS_SCRIPT, waited), strict=True)

    assert queued == pytest.approx([3.2, 3.2, 0.1, 30.0, 0.7, 0.01])
    assert drawn == pytest.approx(queued)
