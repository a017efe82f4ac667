"""Answers whose shapes stand in core, as JSON."""

from __future__ import annotations

import msgspec
from starlette.responses import Response


def as_json(answer: msgspec.Struct) -> Response:
    """Return the answer, encoded in one go and not by way of dictionaries: some are large."""
    return Response(msgspec.json.encode(answer), media_type="application/json")
