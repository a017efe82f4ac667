"""What /openapi.json tells of a server on which everything is switched on that it depends on."""

from __future__ import annotations

from typing import Any

from mm_orch.app import open_runtime
from mm_orch.config import load_config
from tests.unit.api.face import Face


async def read_description() -> dict[str, Any]:
    """Return the description; no model is loaded."""
    loaded = load_config(path=None, environ={}, overrides={})
    async with open_runtime(loaded.config, origins=loaded.origins) as runtime:
        answer = await Face(live=runtime.live).call("GET", "/openapi.json")
    description: dict[str, Any] = answer.json()
    return description
