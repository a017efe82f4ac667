"""Several keys against one real server: rates, bounds, and what each is told to have used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.processes import Reply, ServerProcess

pytestmark = pytest.mark.model

MODEL = "smollm2-135m"
KEYS = [
    {"name": "root", "key": "sk-root", "admin": True},
    {"name": "bounded", "key": "sk-bounded", "rate_limit_per_minute": 2, "priority_max": 1},
]


def complete(server: ServerProcess, key: str, **fields: object) -> Reply:
    body = {"prompt": "one two three", "max_tokens": 4, "ignore_eos": True, **fields}
    return server.request("POST", "/v1/completions", body, {"X-API-Key": key})


def test_each_key_is_bounded_and_counted_by_its_name(launch: Callable[..., ServerProcess]) -> None:
    server = launch(
        config={
            "models": {MODEL: {"engines": ["echo"]}},
            "api": {"enable_auth": True, "api_keys": KEYS},
        }
    )

    answers = [complete(server, "sk-bounded", priority=priority) for priority in (1, 2, 0)]
    others = [complete(server, "sk-root", priority=10) for _ in range(3)]

    assert [one.status for one in answers] == [200, 400, 429]
    assert "may ask for up to 1" in answers[1].json["error"]["message"]
    assert answers[2].headers["x-ratelimit-remaining-requests"] == "0"
    # Two a minute, so half a minute until the next.
    assert 25 <= int(answers[2].headers["retry-after"]) <= 30
    assert [one.status for one in others] == [200] * 3
    reply = server.request("GET", "/admin/usage", headers={"X-API-Key": "sk-root"})
    used = {one["name"]: one for one in reply.json["callers"]}
    # What its body was refused for came before the server's own counting began.
    assert used["bounded"]["num_refused"] == 1
    assert used["bounded"]["num_requests"] == 2
    assert used["bounded"]["num_generated_tokens"] == 4
    assert used["root"]["num_generated_tokens"] == 12
    assert used["root"]["num_prompt_tokens"] == 3 * used["bounded"]["num_prompt_tokens"] > 0
    assert b"sk-" not in reply.body
    metrics = server.request("GET", "/metrics").body.decode()
    assert 'requests_refused_total{model="unknown",reason="rate_limit_exceeded"} 1.0' in metrics
    assert "bounded" not in metrics
